package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

type apiCommand struct {
	Add    apiAdd    `cmd:"" help:"Register an API: its scopes, and what a token needs at its endpoints."`
	List   apiList   `cmd:"" help:"List the registered APIs."`
	Show   apiShow   `cmd:"" help:"Show one API."`
	Import apiImport `cmd:"" help:"Register what an OpenAPI document says of an API, or bring one up to date with it."`
	Update apiUpdate `cmd:"" help:"Change an API."`
	Remove apiRemove `cmd:"" help:"Remove an API."`
}

// apiSettings are the flags that add and update share. Lists replace what was there; a single empty item empties them.
type apiSettings struct {
	Document           string         `help:"An API as JSON, as show --json prints it, for what has no flag here. It replaces everything; flags come after it." placeholder:"FILE" type:"existingfile"`
	Name               *string        `help:"Its name, which people read on the consent page. A new one without is called by its identifier." placeholder:"NAME"`
	URL                *string        `help:"Where it is reached; endpoints are below it." name:"url" placeholder:"URL"`
	Scope              []string       `help:"A permission, and what people read before they say yes to it. Repeat it for more." placeholder:"'notes:read=Read your notes'" sep:"none"`
	Endpoint           []string       `help:"A method and path, and the scopes that a token needs there, with | between sets that are each enough; or public, or denied; also acr= and max_age=, for a step-up (RFC 9470). Repeat it for more." placeholder:"'GET /notes/{id} notes:read'" sep:"none"`
	TokenFormat        *string        `help:"How its tokens are written: jwt or opaque. Otherwise as the app's." placeholder:"FORMAT"`
	SigningAlg         *string        `help:"What signs its JWTs: ES256 (default), RS256 or EdDSA." placeholder:"ALG"`
	AccessLifetime     *time.Duration `help:"The longest that its tokens live; 0: as long as the app's." name:"access-token-lifetime" placeholder:"TIME"`
	AccessTokenInQuery *bool          `help:"It takes tokens in the query parameter access_token too (RFC 6750 section 2.3)." name:"access-token-in-query" negatable:""`
	SelfRegistered     *bool          `help:"Apps that registered themselves may ask people for its scopes." negatable:""`
}

func (s *apiSettings) apply(a *registry.API) error {
	if s.Document != "" {
		document, err := readAPI(s.Document)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Document, err)
		}
		document.Identifier = cmp.Or(document.Identifier, a.Identifier)
		*a = *document
	}
	set(&a.Name, s.Name)
	set(&a.URL, s.URL)
	set(&a.AccessTokenFormat, s.TokenFormat)
	set(&a.AccessTokenAlg, s.SigningAlg)
	set(&a.AccessTokenInQuery, s.AccessTokenInQuery)
	set(&a.SelfRegistered, s.SelfRegistered)
	return errors.Join(
		setSeconds(&a.AccessTokenTTL, s.AccessLifetime),
		replaceList(&a.Scopes, s.Scope, parseScope),
		replaceList(&a.Endpoints, s.Endpoint, registry.ParseEndpoint),
	)
}

// replaceList is setList for what is parsed.
func replaceList[T any](field *[]T, texts []string, parse func(string) (T, error)) error {
	if len(texts) == 0 {
		return nil
	}
	*field = nil
	if len(texts) == 1 && texts[0] == "" {
		return nil
	}
	for _, text := range texts {
		item, err := parse(text)
		if err != nil {
			return err
		}
		*field = append(*field, item)
	}
	return nil
}

// parseScope reads a scope with its sentence.
func parseScope(text string) (registry.Scope, error) {
	name, sentence, found := strings.Cut(text, "=")
	if !found || name == "" {
		return registry.Scope{}, fmt.Errorf("%q is not a scope and what people read before they say yes to it, such as: 'notes:read=Read your notes'", text)
	}
	return registry.Scope{Name: name, Sentence: sentence}, nil
}

// maxAPIDocument bounds the file of --document: an API as long as one may be, with room for white space.
const maxAPIDocument = 1 << 20

// readAPI reads an API as printAPI writes it.
func readAPI(file string) (*registry.API, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxAPIDocument+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxAPIDocument {
		return nil, fmt.Errorf("it is longer than %d bytes", maxAPIDocument)
	}
	var v apiView
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields() // a misspelt one would be a rule that is not there
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the API")
	}
	return &v.API, nil
}

type apiAdd struct {
	storeFlags
	Identifier string `help:"The audience of its tokens, and what apps name as resource: an absolute URI. It never changes. Required, here or in --document." placeholder:"URI"`
	apiSettings
}

// Validate says what no API can be without.
func (c apiAdd) Validate() error {
	if c.Document == "" && c.Identifier == "" {
		return errors.New("missing flags: --identifier=URI, or --document=FILE")
	}
	return nil
}

// Run registers an API.
func (c apiAdd) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		var fresh registry.API
		if err := c.apply(&fresh); err != nil {
			return err
		}
		fresh.Identifier = cmp.Or(c.Identifier, fresh.Identifier)
		if c.Name == nil {
			fresh.Name = cmp.Or(fresh.Name, fresh.Identifier)
		}
		a, err := d.APIs.Add(ctx, fresh)
		if err != nil {
			return fmt.Errorf("%s: %w", fresh.Identifier, err)
		}
		return c.printAPI(p, a)
	})
}

type apiList struct {
	storeFlags
}

// Run lists all APIs, those of the configuration first.
func (c apiList) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		all := d.APIs.List()
		if c.JSON {
			views := make([]apiView, 0, len(all))
			for _, a := range all {
				views = append(views, viewAPI(a))
			}
			return printJSON(p.stdout, views)
		}
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "IDENTIFIER\tNAME\tURL\tENDPOINTS\tSCOPES")
		for _, a := range all {
			names := make([]string, 0, len(a.Scopes))
			for _, scope := range a.Scopes {
				names = append(names, scope.Name)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", a.Identifier, a.Name, a.URL, len(a.Endpoints), strings.Join(names, " "))
		}
		return w.Flush()
	})
}

type apiShow struct {
	storeFlags
	Identifier string `arg:"" help:"The API's identifier."`
}

// Run shows one API.
func (c apiShow) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		a := d.APIs.Get(c.Identifier)
		if a == nil {
			return noAPI(d.APIs, c.Identifier, registry.ErrAPINotFound)
		}
		return c.printAPI(p, a)
	})
}

// noAPI is an error about an API, with the identifier that may have been meant if there is none of this.
func noAPI(apis *registry.APIs, identifier string, err error) error {
	hint := ""
	if errors.Is(err, registry.ErrAPINotFound) {
		hint = config.DidYouMean(identifier, identifiers(apis))
	}
	return fmt.Errorf("%s: %w%s", identifier, err, hint)
}

func identifiers(apis *registry.APIs) []string {
	var all []string
	for _, a := range apis.List() {
		all = append(all, a.Identifier)
	}
	return all
}

type apiUpdate struct {
	storeFlags
	Identifier string `arg:"" help:"The API's identifier."`
	apiSettings
	AddScope       []string `help:"One scope more, or another sentence for one that is there." placeholder:"'notes:read=Read your notes'" sep:"none"`
	RemoveScope    []string `help:"One scope less. No endpoint may need it." placeholder:"NAME" sep:"none"`
	AddEndpoint    []string `help:"One endpoint more, or other needs of one that is there." placeholder:"'GET /notes/{id} notes:read'" sep:"none"`
	RemoveEndpoint []string `help:"One endpoint less." placeholder:"'GET /notes/{id}'" sep:"none"`
}

// Run changes an API: what is not named stays as it is.
func (c apiUpdate) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		a, err := d.APIs.Update(ctx, c.Identifier, func(a *registry.API) error {
			return errors.Join(
				c.apply(a),
				removeItems(&a.Endpoints, c.RemoveEndpoint, "endpoint", endpointName),
				addItems(&a.Endpoints, c.AddEndpoint, registry.ParseEndpoint, endpointName),
				removeItems(&a.Scopes, c.RemoveScope, "scope", scopeName),
				addItems(&a.Scopes, c.AddScope, parseScope, scopeName),
			)
		})
		if err != nil {
			return noAPI(d.APIs, c.Identifier, err)
		}
		return c.printAPI(p, a)
	})
}

func scopeName(s registry.Scope) string { return s.Name }

func endpointName(e registry.Endpoint) string { return e.Method + " " + e.Path }

// addItems adds to a list, or replaces what has the same name there.
func addItems[T any](field *[]T, texts []string, parse func(string) (T, error), name func(T) string) error {
	for _, text := range texts {
		item, err := parse(text)
		if err != nil {
			return err
		}
		same := func(o T) bool { return name(o) == name(item) }
		if i := slices.IndexFunc(*field, same); i >= 0 {
			(*field)[i] = item
		} else {
			*field = append(*field, item)
		}
	}
	return nil
}

// removeItems takes out of a list what has the names.
func removeItems[T any](field *[]T, names []string, what string, name func(T) string) error {
	for _, gone := range names {
		gone = strings.Join(strings.Fields(gone), " ")
		i := slices.IndexFunc(*field, func(o T) bool { return name(o) == gone })
		if i < 0 {
			known := make([]string, 0, len(*field))
			for _, o := range *field {
				known = append(known, name(o))
			}
			return fmt.Errorf("it has no %s %q%s", what, gone, config.DidYouMean(gone, known))
		}
		*field = slices.Delete(*field, i, i+1)
	}
	return nil
}

type apiRemove struct {
	storeFlags
	Identifier string `arg:"" help:"The API's identifier."`
}

// Run removes an API.
func (c apiRemove) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		if err := d.APIs.Remove(ctx, c.Identifier); err != nil {
			return noAPI(d.APIs, c.Identifier, err)
		}
		if c.JSON {
			return printJSON(p.stdout, map[string]string{"removed": c.Identifier})
		}
		_, err := fmt.Fprintf(p.stdout, "removed %s\nClients keep its scopes in their registration, and get no tokens with them unless another API defines them. Tokens that are out end with their lifetime.\n", c.Identifier)
		return err
	})
}

// apiView is an API as the commands print it, and as --document reads it.
type apiView struct {
	registry.API
	Static bool `json:"static"`
}

func viewAPI(a *registry.API) apiView { return apiView{API: *a, Static: a.Static} }

func (f storeFlags) printAPI(p process, a *registry.API) error {
	if f.JSON {
		return printJSON(p.stdout, viewAPI(a))
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, value)
				name = ""
			}
		}
	}
	line("identifier", a.Identifier)
	line("name", a.Name)
	line("URL", a.URL)
	line("tokens", tokensOf(a))
	var scopes, details, endpoints []string
	for _, scope := range a.Scopes {
		scopes = append(scopes, scope.Name+"\t"+scope.Sentence)
	}
	for _, t := range a.DetailsTypes {
		details = append(details, t.Type+"\t"+t.Sentence)
	}
	for _, e := range a.Endpoints {
		needs, _ := strings.CutPrefix(e.String(), endpointName(e))
		if needs = strings.TrimSpace(needs); needs == "" {
			needs = "any token of the API's"
		}
		endpoints = append(endpoints, endpointName(e)+"\t"+needs)
	}
	line("scopes", scopes...)
	line("authorization_details", details...)
	line("endpoints", endpoints...)
	if a.SelfRegistered {
		line("self-registered", "apps that registered themselves may ask for its scopes")
	}
	if a.Static {
		line("kept", "in the configuration")
	}
	return w.Flush()
}

// tokensOf says how an API's tokens are written and sent.
func tokensOf(a *registry.API) string {
	var words []string
	for _, word := range []string{a.AccessTokenFormat, a.AccessTokenAlg} {
		if word != "" {
			words = append(words, word)
		}
	}
	if a.AccessTokenTTL > 0 {
		words = append(words, "at most "+(time.Duration(a.AccessTokenTTL)*time.Second).String())
	}
	if a.AccessTokenInQuery {
		words = append(words, "in the query too")
	}
	return strings.Join(words, ", ")
}
