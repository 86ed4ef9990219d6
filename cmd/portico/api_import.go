package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/registry/openapi"
)

type apiImport struct {
	storeFlags
	File             string   `arg:"" help:"The OpenAPI document, JSON or YAML. - reads standard input."`
	Identifier       string   `help:"The API's identifier (by default the document's first server that is https). A new one is added, one that is there gets the document's scopes, endpoints and URL." placeholder:"URI"`
	Name             *string  `help:"Its name (by default the document's title, for a new one)." placeholder:"NAME"`
	URL              *string  `help:"Where it is reached (by default the document's first server)." name:"url" placeholder:"URL"`
	Scheme           []string `help:"The security scheme that stands for the broker. Repeat it for more (by default all of type oauth2 and openIdConnect; without any, http bearer)." placeholder:"NAME" sep:"none"`
	BearerScopes     bool     `help:"What requirements list beside an http bearer scheme are scopes."`
	PublicUnlessSaid bool     `help:"Operations are public of which the document says nothing about security. Otherwise they are denied."`
	UncheckedScope   []string `help:"A scope of the document that is neither registered nor asked for, such as openid. Repeat it for more." placeholder:"NAME" sep:"none"`
	Scope            []string `help:"One scope more, or another sentence for one of the document's. Repeat it for more." placeholder:"'notes:read=Read your notes'" sep:"none"`
	Endpoint         []string `help:"One endpoint more, or in the place of the document's, be it one that is denied. Repeat it for more." placeholder:"'OPTIONS /{path...} public'" sep:"none"`
	KeepSentences    bool     `help:"Scopes that are registered already keep what people read."`
	DryRun           bool     `help:"Say what would be registered; register nothing."`
}

// Run registers what an OpenAPI document says of an API, and prints what that changed and what of the document was left out.
func (c apiImport) Run(ctx context.Context, p process) error {
	raw, err := c.read(p)
	if err != nil {
		return err
	}
	document, err := openapi.Read(raw, openapi.Options{
		Schemes: c.Scheme, BearerScopes: c.BearerScopes, PublicUnlessSaid: c.PublicUnlessSaid, Unchecked: c.UncheckedScope,
		Reserved: slices.Collect(maps.Keys(oauth.Scopes())),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.name(), err)
	}
	var endpoints []registry.Endpoint
	if err := errors.Join(
		addItems(&document.Scopes, c.Scope, parseScope, scopeName),
		addItems(&endpoints, c.Endpoint, registry.ParseEndpoint, endpointName),
	); err != nil {
		return err
	}
	document.Add(endpoints...)
	identifier := cmp.Or(c.Identifier, document.Identifier)
	if identifier == "" {
		return fmt.Errorf("%s: none of its servers is https, so that nothing names the API: say --identifier=URI", c.name())
	}
	return c.with(ctx, p, func(d *broker.Data) error {
		if len(document.Scopes) == 0 && d.APIs.Get(identifier) == nil {
			return fmt.Errorf("%s: it names no scopes, and an API needs one: say --scope, or --bearer-scopes if they stand beside a scheme of type http bearer", c.name())
		}
		report, err := c.register(ctx, d.APIs, identifier, document)
		if err != nil {
			return fmt.Errorf("%s: %w", identifier, err)
		}
		if report.API.URL == "" {
			report.Notes = append(report.Notes, openapi.Note{Text: "nothing says where the API is reached, so that forward-auth does not know it by its host: say --url=URL"})
		}
		if c.JSON {
			return printJSON(p.stdout, report)
		}
		return report.print(p.stdout, document.Operations)
	})
}

// name is the document's, for messages.
func (c apiImport) name() string {
	if c.File == "-" {
		return "standard input"
	}
	return c.File
}

// read reads the document.
func (c apiImport) read(p process) ([]byte, error) {
	from := p.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	if from == nil {
		return nil, errors.New("there is no standard input to read from")
	}
	return io.ReadAll(io.LimitReader(from, openapi.MaxBytes+1)) // more is refused when it is read
}

// importReport is what an import did, as it is printed.
type importReport struct {
	Result  string           `json:"result"` // added, updated or unchanged
	DryRun  bool             `json:"dry_run,omitempty"`
	API     apiView          `json:"api"`
	Changes []openapi.Change `json:"changes"`
	Notes   []openapi.Note   `json:"notes"`
}

// errUnchanged keeps an API from being written that is what it was.
var errUnchanged = errors.New("unchanged")

// register adds or updates the API, or says what that would do.
func (c apiImport) register(ctx context.Context, apis *registry.APIs, identifier string, document *openapi.Document) (*importReport, error) {
	report := &importReport{Result: "updated", DryRun: c.DryRun, Notes: append([]openapi.Note{}, document.Notes...)}
	// into makes a what the document says. Nothing is behind before for a new one.
	into := func(a, before *registry.API) {
		document.Apply(a, c.KeepSentences)
		set(&a.Name, c.Name)
		set(&a.URL, c.URL)
		report.Changes = append([]openapi.Change{}, openapi.Changes(before, a)...)
	}
	var a *registry.API
	var err error
	switch known := apis.Get(identifier); {
	case known == nil:
		report.Result = "added"
		a = &registry.API{Identifier: identifier, Name: document.Title}
		if into(a, nil); !c.DryRun {
			a, err = apis.Add(ctx, *a)
		}
	case c.DryRun: // of one in the configuration as well: it can be copied from here to there
		would := *known
		a = &would
		into(a, known)
	default:
		a, err = apis.Update(ctx, identifier, func(a *registry.API) error {
			before := *a
			if into(a, &before); len(report.Changes) == 0 {
				return errUnchanged
			}
			return nil
		})
		if errors.Is(err, errUnchanged) {
			a, err = known, nil
		}
	}
	if err == nil && c.DryRun {
		err = apis.Check(a)
	}
	if err != nil {
		return nil, err
	}
	if len(report.Changes) == 0 {
		report.Result = "unchanged"
	}
	report.API = viewAPI(a)
	return report, nil
}

// shownOperations is how many operations of a note are printed for people. JSON has them all.
const shownOperations = 5

// print writes the report for people.
func (r *importReport) print(out io.Writer, operations int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, change := range r.Changes {
		switch {
		case change.Before == "":
			fmt.Fprintf(w, "+\t%s\t%s\n", change.Part, change.After)
		case change.After == "":
			fmt.Fprintf(w, "-\t%s\t%s\n", change.Part, change.Before)
		default:
			fmt.Fprintf(w, "~\t%s\t%s  →  %s\n", change.Part, change.Before, change.After)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range r.Notes {
		of := ""
		if n := len(note.Operations); n > 0 {
			of = strings.Join(note.Operations[:min(n, shownOperations)], ", ")
			if n > shownOperations {
				of += fmt.Sprintf(" and %d more", n-shownOperations)
			}
			of += ": "
		}
		fmt.Fprintf(out, "note: %s%s\n", of, note.Text)
	}
	result := r.Result
	if r.DryRun {
		result = "dry run: " + result
	}
	_, err := fmt.Fprintf(out, "%s %s: %s, %s; the document has %s\n", result, r.API.Identifier,
		count(len(r.API.Scopes), "scope"), count(len(r.API.Endpoints), "endpoint"), count(operations, "operation"))
	return err
}

// count is a number of things, in words that agree with it.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
