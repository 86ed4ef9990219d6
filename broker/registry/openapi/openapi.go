// Package openapi reads from an OpenAPI document what a resource server is: its scopes with their sentences, and its endpoints with
// what its security requirements ask for. It is called by `portico api import`, and does no IO: what a document refers to outside of
// itself is neither fetched nor opened.
//
// It reads OpenAPI 3.0, 3.1 and 3.2 and Swagger 2.0, in JSON and YAML (a document that begins with { is JSON). Of a document it looks at
// info.title, the servers, the paths with their operations' security, and the security schemes; what is wrong elsewhere, such as in a
// schema, is not its business. Operations that it cannot read for certain, or that need what the broker cannot check, become endpoints that are
// denied, each with a note that says why. What would be ambiguous altogether, such as a name that is twice in an object, is an error.
//
// It may import nothing of the broker but the registry.
package openapi

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/registry"
)

// ErrInvalid is what is wrong with a document that cannot be read.
var ErrInvalid = errors.New("it cannot be read as an OpenAPI document")

// Options say how a document is to be understood where it leaves that open. The zero value is the strictest reading.
type Options struct {
	// Schemes are the names of the security schemes that stand for the broker. Empty: all of type oauth2 and openIdConnect; in a document
	// without any, those of type http that take access tokens (bearer, dpop).
	Schemes []string
	// BearerScopes says that what a requirement lists beside an http scheme are scopes. OpenAPI 3.0 has nothing there, and 3.1 roles, which
	// no token of the broker's has, so that otherwise such a requirement is one that the broker cannot check.
	BearerScopes bool
	// PublicUnlessSaid says that an operation is public if neither it nor the document says anything of security. Otherwise it is denied: a
	// document may well be silent about what it takes for granted.
	PublicUnlessSaid bool
	// Unchecked are scopes that are neither registered nor asked of a token, such as openid in a document that names it everywhere.
	Unchecked []string
	// Reserved are the scopes that are the broker's own, which no api can define. A requirement of one cannot be met, unless it is Unchecked.
	Reserved []string
}

// Document is what was read.
type Document struct {
	// Title is info.title on one line, within the bounds of an api's name; "" if there is none.
	Title string
	// Identifier is the first server's URL that is https, without a slash at the end; "" if there is none.
	Identifier string
	// URL is the first server's, with its variables' defaults, without a slash at the end; "" if it is relative or no web address.
	URL string
	// Scopes are those of the schemes that stand for the broker, in the document's order; then those that only requirements name.
	Scopes []registry.Scope
	// Endpoints are the operations, in the document's order. Their paths are below URL.
	Endpoints []registry.Endpoint
	// Operations is how many operations there are, those without an endpoint of their own included.
	Operations int
	// Notes say what was denied, left out or decided, and why.
	Notes []Note

	lost []registry.Endpoint // operations whose paths are no patterns, so that they are no endpoints
}

// Note is something that was denied, left out or decided. Its texts hold no characters that do not print, whatever the document holds.
type Note struct {
	Text       string   `json:"text"`
	Operations []string `json:"operations,omitempty"` // that it is about, as METHOD path
}

const (
	// MaxBytes bounds a document. Of those that are public, a handful are larger; none of these has so few operations that it is one api's.
	MaxBytes = 16 << 20
	// maxDepth bounds the nesting of JSON, as the parsers of YAML and encoding/json bound theirs. Of what is read, nothing is deeper than ten.
	maxDepth = 1000
	// maxVisits bounds the values that are looked at, counting those behind an alias or a $ref each time: lists in lists of aliases would
	// multiply without end. The largest public descriptions take a tenth.
	maxVisits = 1 << 20
	// maxOperations bounds the operations; the largest public descriptions of one api have about a thousand.
	maxOperations = 4096
	// maxComparisons bounds the segments of operations that are lost, times the endpoints that they are compared with. A hundred of
	// six segments, with a thousand endpoints, are a twentieth.
	maxComparisons = 1 << 24
	// maxRefs bounds a chain of $ref, and of merge keys, which is how cycles end.
	maxRefs = 16
	// maxReasons bounds the reasons that are given for leaving out one operation or its alternatives.
	maxReasons = 8
	// maxQuoted bounds what a note quotes of a document, in bytes.
	maxQuoted = 200
)

// reader reads one document.
type reader struct {
	Options
	root    *yaml.Node
	swagger bool // version 2.0
	d       Document

	schemes map[string]scheme
	scopes  map[string]int  // places in d.Scopes
	silent  map[string]bool // scopes that have no sentence so far
	byText  map[string]int  // places in d.Notes

	objects map[*yaml.Node]*object
	visits  int
	err     error // the first; once it is there, nothing that is read counts
}

// versionPattern is what openapi may say: the third number never changes a meaning.
var versionPattern = regexp.MustCompile(`^3\.[012](\.[0-9]+)?(-[0-9A-Za-z.]+)?$`)

// methods are the fields of a path item that are operations; query since 3.2. trace is no part of 2.0, and harmless there.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"}

// Read reads a document. ErrInvalid, and what is wrong, if it is none, has no operations, or is not within the bounds.
func Read(data []byte, o Options) (*Document, error) {
	root, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r := &reader{
		Options: o, root: root, scopes: map[string]int{}, silent: map[string]bool{}, byText: map[string]int{},
		schemes: map[string]scheme{}, objects: map[*yaml.Node]*object{},
	}
	r.document()
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, r.err)
	}
	return &r.d, nil
}

func (r *reader) document() {
	top := r.object(r.root)
	switch version := r.text(top.get("openapi")); {
	case r.text(top.get("swagger")) == "2.0":
		r.swagger = true
	case version == "":
		r.fail(r.root, `neither openapi nor swagger: "2.0" says what version it is`)
		return
	case !versionPattern.MatchString(version):
		r.fail(top.get("openapi"), "version %s is none of 3.0, 3.1, 3.2", quote(version))
		return
	}
	r.d.Title = oneLine(r.text(r.object(top.get("info")).get("title")), registry.MaxName)
	base := r.servers(top)
	r.readSchemes(top)
	if r.err != nil {
		return
	}
	for _, o := range r.operations(top, base) {
		r.operation(o, top.get("security"))
	}
	if r.d.Operations == 0 && r.err == nil {
		r.fail(r.root, "it has no operations")
	}
	r.settle()
	r.sentences()
}

// operation is an operation of the document.
type operation struct {
	method, path string
	security     *yaml.Node // its own, or nil
	elsewhere    string     // the server that it has, if that is not the api's
	problem      string     // why it is denied, whatever its security says
}

func (o *operation) String() string { return o.method + " " + printable(o.path) }

// operation makes one an endpoint.
func (r *reader) operation(o operation, byDefault *yaml.Node) {
	if r.d.Operations++; r.d.Operations > maxOperations {
		r.fail(nil, "more than %d operations", maxOperations)
	}
	if o.elsewhere != "" {
		r.note(o.String(), "not registered: it has another server, %s", quote(o.elsewhere))
		return
	}
	path, problem := r.pattern(&o)
	if problem != "" {
		r.lose(registry.Endpoint{Method: o.method, Path: o.path}, problem)
		return
	}
	endpoint := registry.Endpoint{Method: o.method, Path: path}
	if problem := r.need(&endpoint, &o, byDefault); problem != "" {
		r.deny(&endpoint, problem)
	}
	r.d.Endpoints = append(r.d.Endpoints, endpoint)
}

// need reads what an operation needs into its endpoint. The problem is why the broker cannot say who may use it.
func (r *reader) need(e *registry.Endpoint, o *operation, byDefault *yaml.Node) (problem string) {
	security := o.security
	if security == nil {
		security = byDefault
	}
	switch {
	case o.problem != "":
		return o.problem
	case security != nil:
		sets, isPublic, problem := r.requirements(o, security)
		if problem != "" {
			return problem
		}
		if e.Public = isPublic; !isPublic {
			e.Scopes = sets[0]
			e.Alternatives = append(e.Alternatives, sets[1:]...)
		}
	case r.PublicUnlessSaid:
		e.Public = true
	default:
		return "nothing is said of its security, there or for the whole document"
	}
	return ""
}

// deny makes an endpoint one that nobody may use.
func (r *reader) deny(e *registry.Endpoint, problem string) {
	r.note(nameOf(e), "denied: %s", problem)
	*e = registry.Endpoint{Method: e.Method, Path: e.Path, Denied: true}
}

// lose leaves out an operation that not even an endpoint which is denied can stand for: see settle.
func (r *reader) lose(e registry.Endpoint, problem string) {
	r.note(nameOf(&e), "not registered, and so denied: %s", problem)
	r.d.lost = append(r.d.lost, e)
}

// note keeps a note, once for all operations that it is about.
func (r *reader) note(operation, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	i, there := r.byText[text]
	if !there {
		i = len(r.d.Notes)
		r.byText[text] = i
		r.d.Notes = append(r.d.Notes, Note{Text: text})
	}
	if n := &r.d.Notes[i]; operation != "" && !slices.Contains(n.Operations, operation) {
		n.Operations = append(n.Operations, operation)
	}
}

// scope makes a scope one of the api's.
func (r *reader) scope(name, description string) {
	i, there := r.scopes[name]
	if !there {
		i = len(r.d.Scopes)
		r.scopes[name], r.silent[name] = i, true
		r.d.Scopes = append(r.d.Scopes, registry.Scope{Name: name, Sentence: oneLine(name, registry.MaxSentence)})
	}
	if sentence := oneLine(description, registry.MaxSentence); sentence != "" && r.silent[name] {
		r.d.Scopes[i].Sentence, r.silent[name] = sentence, false
	}
}

// sentences says which scopes nobody has described.
func (r *reader) sentences() {
	if names := slices.Sorted(maps.Keys(r.silent)); slices.ContainsFunc(names, func(name string) bool { return r.silent[name] }) {
		names = slices.DeleteFunc(names, func(name string) bool { return !r.silent[name] })
		r.note("", "without a description, so that people read the scope's name: %s", strings.Join(names, " "))
	}
}
