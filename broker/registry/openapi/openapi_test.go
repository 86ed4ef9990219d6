package openapi_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/registry/openapi"
)

var reserved = []string{"openid", "profile", "email", "offline_access"}

// head is what stands before the paths of the documents here.
const head = `
openapi: 3.1.0
info: {title: Notes, version: "1"}
servers: [{url: "https://api.example.com/v1"}]
components:
  securitySchemes:
    broker: {type: oauth2, flows: {authorizationCode: {scopes: {read: Read your notes, write: Write your notes, admin: Do everything}}}}
    login: {type: openIdConnect, openIdConnectUrl: https://login.example.com/.well-known/openid-configuration}
    token: {type: http, scheme: Bearer}
    key: {type: apiKey, in: header, name: X-Key}
    basic: {type: http, scheme: basic}
    cert: {type: mutualTLS}
`

func read(t *testing.T, text string, o openapi.Options) *openapi.Document {
	t.Helper()
	o.Reserved = reserved
	d, err := openapi.Read([]byte(text), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

// lines are the endpoints as text, in the document's order.
func lines(d *openapi.Document) string {
	var all []string
	for _, e := range d.Endpoints {
		all = append(all, e.String())
	}
	return strings.Join(all, "\n")
}

// noted says whether a note that holds text is about an operation; "" is the document.
func noted(d *openapi.Document, operation, text string) bool {
	return slices.ContainsFunc(d.Notes, func(n openapi.Note) bool {
		return strings.Contains(n.Text, text) && (operation == "" && len(n.Operations) == 0 || slices.Contains(n.Operations, operation))
	})
}

// What a document's security requirements mean, one by one (OpenAPI 3.1 section 4.8.30): alternatives are or, schemes of one are and. What the
// broker cannot check is never taken for granted: an alternative goes, and with the last one the operation.
func TestSecurityRequirements(t *testing.T) {
	for name, c := range map[string]struct {
		security string // of GET /a; "-" is none
		def      string // of the document; "" is none
		options  openapi.Options
		want     string // "" is denied
		note     string
	}{
		"a scope":                              {security: "[{broker: [read]}]", want: "GET /a read"},
		"two of one scheme are both asked for": {security: "[{broker: [read, write]}]", want: "GET /a read write"},
		"alternatives":                         {security: "[{broker: [read]}, {broker: [write, admin]}]", want: "GET /a read | write admin"},
		"schemes of one are united":            {security: "[{broker: [read], login: [write, read]}]", want: "GET /a read write"},
		"the same alternative twice":           {security: "[{broker: [read, write]}, {login: [write, read]}]", want: "GET /a read write"},
		"no scope is any token":                {security: "[{broker: []}]", want: "GET /a"},
		"any token beside a scope":             {security: "[{broker: [read]}, {login: []}]", want: "GET /a"},
		"the document's":                       {security: "-", def: "[{broker: [read]}]", want: "GET /a read"},
		"its own, and not the document's":      {security: "[{broker: [write]}]", def: "[{broker: [read]}]", want: "GET /a write"},
		"an empty list is public":              {security: "[]", def: "[{broker: [read]}]", want: "GET /a public"},
		"the document's empty list":            {security: "-", def: "[]", want: "GET /a public"},
		"an empty object is optional":          {security: "[{broker: [read]}, {}]", want: "GET /a public", note: "a token is optional"},
		"nothing is no empty object":           {security: "[~]", note: "there is nothing where a requirement should be"},
		"nothing beside a scope":               {security: "[{broker: [read]}, ~]", want: "GET /a read", note: "one way to call it is left out: there is nothing"},
		"nothing for the whole document":       {security: "-", def: "[null]", note: "there is nothing"},
		"nothing said":                         {security: "-", note: "nothing is said of its security"},
		"nothing said, and said what it means": {security: "-", options: openapi.Options{PublicUnlessSaid: true}, want: "GET /a public"},
		"nothing said is not an empty list":    {security: "[{key: []}]", options: openapi.Options{PublicUnlessSaid: true}, note: "not the broker's"},

		"another scheme alone":        {security: "[{key: []}]", note: `needs "key" (apiKey), which is not the broker's`},
		"another scheme beside":       {security: "[{broker: [read], key: []}]", note: `needs "key" (apiKey)`},
		"a certificate beside":        {security: "[{broker: [read], cert: []}]", note: `needs "cert" (mutualTLS)`},
		"another scheme as a way out": {security: "[{key: []}, {broker: [read]}]", want: "GET /a read", note: `one way to call it is left out: it needs "key" (apiKey)`},
		"a password":                  {security: "[{basic: []}]", note: `"basic" (http basic)`},
		"the same reason twice":       {security: "[{key: []}, {key: []}, {cert: []}]", note: `it needs "key" (apiKey), which is not the broker's; or it needs "cert" (mutualTLS)`},
		"a scheme that is not there":  {security: "[{broken: [read]}]", note: `"broken", which the document does not define`},
		"what is no scope":            {security: `[{broker: ["read write"]}]`, note: `"read write", which is no scope`},

		"bearer is not the broker's beside OAuth": {security: "[{token: []}]", note: "(http bearer), which is not the broker's"},
		"bearer, named":               {security: "[{token: []}]", options: openapi.Options{Schemes: []string{"token"}}, want: "GET /a"},
		"OAuth, when bearer is named": {security: "[{broker: [read]}]", options: openapi.Options{Schemes: []string{"token"}}, note: "(oauth2), which is not the broker's"},
		"both named":                  {security: "[{broker: [read]}, {token: []}]", options: openapi.Options{Schemes: []string{"token", "broker"}}, want: "GET /a"},
		"roles are no scopes":         {security: "[{token: [boss]}]", options: openapi.Options{Schemes: []string{"token"}}, note: "lists roles"},
		"roles that are scopes":       {security: "[{token: [boss]}]", options: openapi.Options{Schemes: []string{"token"}, BearerScopes: true}, want: "GET /a boss"},

		"the broker's own scope":      {security: "[{login: [openid, read]}]", note: "needs the scope openid, which is the broker's own"},
		"a scope that does not count": {security: "[{login: [openid, read]}]", options: openapi.Options{Unchecked: []string{"openid"}}, want: "GET /a read"},
		"nothing but such":            {security: "[{login: [openid]}]", options: openapi.Options{Unchecked: []string{"openid"}}, want: "GET /a"},
	} {
		t.Run(name, func(t *testing.T) {
			text := head + "paths:\n  /a:\n    get:\n      responses: {}\n"
			if c.security != "-" {
				text += "      security: " + c.security + "\n"
			}
			if c.def != "" {
				text += "security: " + c.def + "\n"
			}
			d := read(t, text, c.options)
			if got, want := lines(d), cmp.Or(c.want, "GET /a denied"); got != want {
				t.Errorf("registered is %q, want %q; notes: %v", got, want, d.Notes)
			}
			if c.note != "" && !noted(d, "GET /a", c.note) {
				t.Errorf("no note says %q: %v", c.note, d.Notes)
			}
			if c.want == "" && !noted(d, "GET /a", "denied: ") {
				t.Errorf("nothing says why it is denied: %v", d.Notes)
			}
		})
	}
}

// In a document that knows nothing of OAuth, access tokens are what its bearer scheme takes.
func TestADocumentWithBearerTokensAlone(t *testing.T) {
	d := read(t, `{"openapi":"3.0.3","components":{"securitySchemes":{"jwt":{"type":"http","scheme":"bearer"},"pop":{"type":"http","scheme":"DPoP"}}},
	"security":[{"jwt":[]},{"pop":[]}],"paths":{"/a":{"get":{}}}}`, openapi.Options{})
	if lines(d) != "GET /a" || len(d.Scopes) != 0 || len(d.Notes) != 0 {
		t.Errorf("%q %v %v", lines(d), d.Scopes, d.Notes)
	}
}

// People read the sentences before they say yes: all flows are looked through for one, and what cannot be shown on a line is taken out.
func TestScopesAndTheirSentences(t *testing.T) {
	long := strings.Repeat("ä", 150)
	d := read(t, `
openapi: 3.0.0
info: {title: "Notes\nand \u202Emore"}
components:
  securitySchemes:
    broker:
      type: oauth2
      flows:
        implicit: {scopes: {read: "", write: "  Write\n\n  your notes\u0007 "}}
        authorizationCode: {scopes: {read: Read your notes, write: Another text, long: "`+long+`", openid: Sign in, "a b": Two}}
        x-more: {scopes: {extension: Nothing of OpenAPI}}
    foreign: {type: apiKey}
    copy: {$ref: "#/components/securitySchemes/broker"}
paths:
  /a: {get: {security: [{broker: [read]}, {copy: [undescribed]}]}}
`, openapi.Options{})
	var got []string
	for _, s := range d.Scopes {
		got = append(got, s.Name+": "+s.Sentence)
		if len(s.Sentence) > registry.MaxSentence {
			t.Errorf("%q has %d bytes", s.Sentence, len(s.Sentence))
		}
	}
	want := []string{"read: Read your notes", "write: Write your notes", "long: " + strings.Repeat("ä", 98) + "…", "undescribed: undescribed"}
	if !slices.Equal(got, want) {
		t.Errorf("scopes are %q, want %q", got, want)
	}
	if lines(d) != "GET /a read | undescribed" || d.Title != "Notes and more" {
		t.Errorf("%q, %q", lines(d), d.Title)
	}
	for _, note := range []string{"without a description, so that people read the scope's name: undescribed", "openid is the broker's own", `"a b" is no scope`} {
		if !noted(d, "", note) {
			t.Errorf("no note says %q: %v", note, d.Notes)
		}
	}
}

// Where the api is: below its URL are the endpoints' paths.
func TestServers(t *testing.T) {
	for name, c := range map[string]struct{ servers, url, identifier, endpoints, note string }{
		"none":                 {"", "", "", "GET /a read", ""},
		"one":                  {`servers: [{url: "https://api.example.com"}]`, "https://api.example.com", "https://api.example.com", "GET /a read", ""},
		"with a path":          {`servers: [{url: "https://api.example.com/v1/"}]`, "https://api.example.com/v1", "https://api.example.com/v1", "GET /a read", ""},
		"relative":             {`servers: [{url: /v1}]`, "", "", "GET /a read", `"/v1", which is no web address`},
		"relative, then one":   {`servers: [{url: /v1}, {url: "https://api.example.com/v1"}]`, "", "https://api.example.com/v1", "GET /a read", "of 2 servers"},
		"http, then https":     {`servers: [{url: "http://api.example.com"}, {url: "https://api.example.com"}]`, "http://api.example.com", "https://api.example.com", "GET /a read", "of 2 servers"},
		"variables":            {`servers: [{url: "https://{tenant}.example.com/{base}", variables: {tenant: {default: demo}, base: {default: v2, enum: [v2, v3]}}}]`, "https://demo.example.com/v2", "https://demo.example.com/v2", "GET /a read", ""},
		"variables undefined":  {`servers: [{url: "https://{tenant}.example.com"}]`, "", "", "GET /a read", "no web address"},
		"with a query":         {`servers: [{url: "https://api.example.com/?v=1"}]`, "", "", "GET /a read", "no web address"},
		"with a password":      {`servers: [{url: "https://a:b@api.example.com"}]`, "", "", "GET /a read", "no web address"},
		"another for a path":   {"servers: [{url: \"https://api.example.com\"}]\nitem: [{url: \"https://upload.example.com\"}]", "https://api.example.com", "https://api.example.com", "", ""},
		"one further down":     {"servers: [{url: \"https://api.example.com/v1\"}]\nitem: [{url: \"https://api.example.com/v1/up/\"}]", "https://api.example.com/v1", "https://api.example.com/v1", "GET /up/a read", ""},
		"not one further down": {"servers: [{url: \"https://api.example.com/v1\"}]\nitem: [{url: \"https://api.example.com/v11\"}]", "https://api.example.com/v1", "https://api.example.com/v1", "", ""},
		"the same":             {"servers: [{url: \"https://api.example.com/v1\"}]\nitem: [{url: \"https://other.example.com\"}, {url: \"https://api.example.com/v1\"}]", "https://api.example.com/v1", "https://api.example.com/v1", "GET /a read", ""},
	} {
		t.Run(name, func(t *testing.T) {
			servers, item, _ := strings.Cut(c.servers, "\nitem: ")
			if item != "" {
				item = ", servers: " + item
			}
			for _, level := range []string{"{get: {security: [{broker: [read]}]}" + item + "}", "{get: {security: [{broker: [read]}]" + item + "}}"} {
				d := read(t, "openapi: 3.0.0\n"+servers+"\ncomponents: {securitySchemes: {broker: {type: oauth2, flows: {}}}}\npaths: {/a: "+level+"}\n", openapi.Options{})
				if d.URL != c.url || d.Identifier != c.identifier || lines(d) != c.endpoints {
					t.Errorf("%s: URL %q, identifier %q, endpoints %q", level, d.URL, d.Identifier, lines(d))
				}
				if c.note != "" && !noted(d, "", c.note) {
					t.Errorf("no note says %q: %v", c.note, d.Notes)
				}
			}
		})
	}
}

// Swagger 2.0 says the same in other places.
func TestSwagger2(t *testing.T) {
	const text = `
swagger: "2.0"
info: {title: Notes}
host: api.example.com
basePath: /v1/
schemes: [http, https]
securityDefinitions:
  broker: {type: oauth2, flow: implicit, scopes: {read: Read your notes, x-internal: no scope}}
  basic: {type: basic}
security: [{broker: [read]}]
paths:
  /a: {get: {}, post: {security: []}, put: {security: [{basic: []}]}}
`
	d := read(t, text, openapi.Options{})
	if d.URL != "https://api.example.com/v1" || d.Identifier != d.URL || lines(d) != "GET /a read\nPOST /a public\nPUT /a denied" || len(d.Scopes) != 1 {
		t.Errorf("%+v", d)
	}
	if !noted(d, "PUT /a", `"basic" (basic)`) {
		t.Errorf("%v", d.Notes)
	}
	if d := read(t, strings.Replace(text, "[http, https]", "[http]", 1), openapi.Options{}); d.URL != "http://api.example.com/v1" || d.Identifier != "" {
		t.Errorf("with http alone: %q, %q", d.URL, d.Identifier)
	}
	if d := read(t, strings.Replace(text, "host: api.example.com\n", "", 1), openapi.Options{}); d.URL != "" {
		t.Errorf("without a host: %q", d.URL)
	}
}

// A path template is the endpoint's pattern, or nothing: one that would be read as something else is not registered.
func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/notes/{note-id}":              "/notes/{note-id}",
		"/notes/{id}.json":              "/notes/{id}.json",
		"/v1/{name}:cancel":             "/v1/{name}:cancel",
		"/compare/{base}...{head}":      "/compare/{base}...{head}",
		"/":                             "/",
		"/notes/":                       "/notes/",
		"/files/{+path}":                "/files/{path...}",
		"/files/{path*}":                "/files/{path...}",
		"/files/{+path*}":               "/files/{path...}",
		"/{proxy+}":                     "/{proxy...}",
		"/files/{id}#shared":            "/files/{id}",
		"/jobs?action=list":             "/jobs",
		"/search{?q,limit}":             "/search",
		"/a%20b":                        "/a%20b",
		"/v1/{+name}:cancel":            "",
		"/v1/{+name}/x":                 "",
		"/files/{path...}":              "",
		"/a/{b":                         "",
		"/a//b":                         "",
		"/a/../b":                       "",
		"/a b":                          "",
		"/a%2fb":                        "",
		"/{a}{b}":                       "",
		"notes":                         "",
		"/" + strings.Repeat("x", 2000): "",
		"/\u202ea":                      "",
	} {
		d := read(t, head+fmt.Sprintf("paths:\n  ? %q\n  : {get: {security: [{broker: [read]}]}}\n", path), openapi.Options{})
		if want != "" {
			want = "GET " + want + " read"
		} else if len(d.Notes) != 1 || !strings.HasPrefix(d.Notes[0].Text, "not registered, and so denied: ") {
			t.Errorf("%q: notes are %v", path, d.Notes)
		}
		if got := lines(d); got != want {
			t.Errorf("%q is registered as %q, want %q", path, got, want)
		}
	}
}

// Two operations that no request tells apart are one endpoint, which is denied if they differ: which of them counts would be a guess.
func TestOperationsThatNoRequestTellsApart(t *testing.T) {
	d := read(t, head+`
paths:
  /same/{id}: {get: {security: [{broker: [read]}, {broker: [write]}]}}
  /same/{name}: {get: {security: [{broker: [write]}, {broker: [read]}]}, put: {security: [{broker: [write]}]}}
  /same/{id}#more: {get: {security: [{broker: [read]}, {broker: [write]}]}}
  /other/{id}: {get: {security: [{broker: [read]}]}}
  /other/{name}: {get: {security: [{broker: [write]}]}, put: {security: [{broker: [write]}]}}
  /files/{path}: {get: {security: [{broker: [read]}]}}
  /files/{+path}: {get: {security: [{broker: [write]}]}}
  /x{a}/y: {get: {security: [{broker: [read]}]}}
  /{a}x/y: {get: {security: [{broker: [write]}]}}
  /third/{id}: {get: {security: [{key: []}]}}
  /third/{name}: {get: {security: [{broker: []}]}}
`, openapi.Options{})
	if want := "GET /same/{id} read | write\nPUT /same/{name} write\nGET /other/{id} denied\nPUT /other/{name} write\nGET /files/{path} read\nGET /files/{path...} write\n" +
		"GET /x{a}/y denied\nGET /third/{id} denied"; lines(d) != want {
		t.Errorf("registered is\n%s\nwant\n%s\nnotes: %v", lines(d), want, d.Notes)
	}
	for operation, note := range map[string]string{
		"GET /other/{id}": "denied: no request tells it apart", "GET /other/{name}": "denied: no request tells it apart", "GET /third/{name}": "denied: no request tells it apart",
		"GET /{a}x/y": "not registered, and so denied: path: ", "GET /x{a}/y": "denied: it could take the requests of GET /{a}x/y",
	} {
		if !noted(d, operation, note) {
			t.Errorf("%s: no note says %q: %v", operation, note, d.Notes)
		}
	}
}

// What the broker cannot check is denied by name. Were it left out, the next best endpoint would take its requests, and everybody who may read a user
// could do what takes an administrator's key.
func TestWhatCannotBeCheckedIsDenied(t *testing.T) {
	var many strings.Builder // more alternatives than an endpoint has
	for i := range 33 {
		fmt.Fprintf(&many, "{broker: [s%d]}, ", i)
	}
	d := read(t, head+`
paths:
  /users/{id}: {get: {security: [{broker: [read]}]}, put: {security: [{broker: [write]}]}}
  /users/admin: {get: {security: [{key: []}]}}
  /{+rest}: {get: {security: []}, put: {security: []}}
  /notes/{id}: {get: {security: [{broker: [read]}]}}
  /notes/hidden: {$ref: "hidden.yaml"}
  /jobs: {post: {security: [{broker: [write]}]}}
  /jobs?action=delete: {post: {security: [{key: []}]}}
  /wide: {get: {security: [`+many.String()+`{broker: [read]}]}}
`, openapi.Options{})
	if want := "GET /users/{id} read\nPUT /users/{id} write\nGET /users/admin denied\nGET /{rest...} public\nPUT /{rest...} public\nGET /notes/{id} read\n* /notes/hidden denied\nPOST /jobs denied\nGET /wide denied"; lines(d) != want {
		t.Errorf("registered is\n%s\nwant\n%s\nnotes: %v", lines(d), want, d.Notes)
	}
	api := registry.API{Endpoints: d.Endpoints}
	for _, request := range []string{"GET /users/admin", "HEAD /users/admin", "GET /notes/hidden", "HEAD /notes/hidden", "DELETE /notes/hidden"} {
		method, path, _ := strings.Cut(request, " ")
		if e := api.Endpoint(method, path); e == nil || !e.Denied {
			t.Errorf("%s is taken by %s", request, e)
		}
	}
	if !noted(d, "GET /users/admin", `denied: it needs "key"`) || !noted(d, "* /notes/hidden", `"hidden.yaml" leads out of the document`) {
		t.Errorf("%v", d.Notes)
	}
}

// What is not even a pattern cannot be denied by name. Whatever might take its requests is denied instead, however unlikely that is: a name may stand for
// several segments, as {+name} does, and texts may be written in other ways.
func TestWhatMightTakeTheRequestsOfALostOperationIsDenied(t *testing.T) {
	for _, c := range []struct{ lost, endpoints, denied string }{
		{"post /v1/{+name}:cancel", "post /v1/{name} post /v1/{parent}/{id} post /v1/list get /v1/{name} post /v2/{name} post /{version}/{name}", "POST /v1/{name} POST /v1/{parent}/{id} POST /v1/list POST /{version}/{name}"},
		{"get /files/{path...}", "get /files/{id} get /files get /files/a/b", "GET /files/{id} GET /files/a/b"},
		{"get /a/{b", "get /{+rest} get /a/{x} get /a get /b/{x}", "GET /{rest...} GET /a/{x}"},
		{"get /a%2fb/c", "get /{x}/c get /a/c get /b", "GET /{x}/c GET /a/c"},
		{"get /a b", "get /a%20b get /b get /{x} get /{x}/b", "GET /a%20b GET /{x}"},
		{"head /{+a}/x", "get /b/x post /b/x", "GET /b/x"},
		{"get /a{x}c/{...", "get /abc/d get /{y}c/d get /ab/d get /bc/d get /a{y}d/d", "GET /abc/d GET /{y}c/d"},
		{"get a", "get /a get /{+rest}", ""}, // no request's path is without a slash
	} {
		t.Run(c.lost, func(t *testing.T) {
			var b strings.Builder
			for words := range slices.Chunk(strings.Fields(c.endpoints), 2) {
				fmt.Fprintf(&b, "  %q: {%s: {security: [{broker: [read]}]}}\n", words[1]+"#"+words[0], words[0])
			}
			method, path, _ := strings.Cut(c.lost, " ")
			d := read(t, head+fmt.Sprintf("paths:\n%s  ? %q\n  : {%s: {security: [{broker: [read]}]}}\n", b.String(), path, method), openapi.Options{})
			var denied []string
			for _, e := range d.Endpoints {
				if e.Denied {
					denied = append(denied, e.Method+" "+e.Path)
				}
			}
			if got := strings.Join(denied, " "); got != c.denied {
				t.Errorf("denied are %s\nwant %s", got, c.denied)
			}
			if !noted(d, strings.ToUpper(method)+" "+path, "not registered, and so denied: ") {
				t.Errorf("nothing says that it is not registered: %v", d.Notes)
			}
		})
	}
}

// $ref is followed within the document, to an end. Nothing else is fetched or opened: a document of strangers would choose the file or
// the address.
func TestReferences(t *testing.T) {
	text := strings.Replace(head, "components:", "components:\n  pathItems: {\"one/two three\": {get: {security: [{broker: [read]}]}}}", 1)
	d := read(t, text+`
paths:
  /a: {$ref: "#/components/pathItems/one~1two%20three"}
  /b: {$ref: "#/paths/~1a"}
  /own: {$ref: "#/paths/~1a", get: {security: [{broker: [write]}]}, post: {security: [{broker: [write]}]}}
  /circle: {$ref: "#/paths/~1circle2"}
  /circle2: {$ref: "#/paths/~1circle"}
  /nowhere: {$ref: "#/components/pathItems/none"}
  /text: {$ref: "#/info/title"}
  /root: {$ref: "#"}
  /file: {$ref: "/etc/passwd"}
  /web: {$ref: "http://169.254.169.254/latest#/paths/~1a"}
`, openapi.Options{})
	if want := "GET /a read\nGET /b read\nGET /own denied\nPOST /own write"; !strings.HasPrefix(lines(d), want+"\n* /circle denied\n") {
		t.Errorf("registered is\n%s\nwant\n%s\nnotes: %v", lines(d), want, d.Notes)
	}
	for operation, note := range map[string]string{
		"GET /own": "there twice", "* /circle": "in a circle", "* /circle2": "in a circle", "* /nowhere": "leads nowhere", "* /text": "leads to a single value",
		"* /root": "leads out of the document", "* /file": "leads out of the document", "* /web": "leads out of the document",
	} {
		if !noted(d, operation, note) {
			t.Errorf("%s: no note says %q: %v", operation, note, d.Notes)
		}
	}
}

// Aliases and merge keys are what YAML authors save lines with. A requirement that came in by one counts like any other.
func TestAliasesAndMergeKeys(t *testing.T) {
	d := read(t, head+`
x-common: &secured {security: [{broker: [admin]}]}
x-more: &more {security: [{broker: [read]}]}
security: [{broker: [read]}]
paths:
  /a: {get: {<<: *secured}}
  /b: &b {get: {security: &need [{broker: [write]}]}}
  /c: *b
  /d: {get: {security: *need}}
  /e: {get: {security: [{broker: [write]}], <<: *secured}}
  /f: {get: {<<: [*secured, *more]}}
`, openapi.Options{})
	if want := "GET /a admin\nGET /b write\nGET /c write\nGET /d write\nGET /e write\nGET /f admin"; lines(d) != want {
		t.Errorf("registered is\n%s\nwant\n%s", lines(d), want)
	}
}

// 3.2 has more methods; webhooks and callbacks are requests that the api makes, and no endpoints of it.
func TestMethods(t *testing.T) {
	text := strings.Replace(head, "3.1.0", "3.2.0", 1) + `
security: [{broker: [read]}]
webhooks: {new: {post: {}}}
paths:
  x-note: a text
  /a:
    summary: All of them
    parameters: []
    get: {callbacks: {done: {"{$request.body#/url}": {post: {}}}}}
    put: {}
    post: {}
    delete: {}
    options: {}
    head: {}
    patch: {}
    trace: {}
    query: {}
    link: {}
    additionalOperations: {COPY: {}, copy: {}, "*": {security: []}}
`
	d := read(t, text, openapi.Options{})
	if want := "GET PUT POST DELETE OPTIONS HEAD PATCH TRACE QUERY COPY * /a denied"; strings.ReplaceAll(strings.ReplaceAll(lines(d), " /a read", ""), "\n", " ") != want || d.Operations != 12 {
		t.Errorf("%d operations: %s", d.Operations, lines(d))
	}
	if !noted(d, "copy /a", "method") || !noted(d, "* /a", "* is no method") {
		t.Errorf("%v", d.Notes)
	}
	// Whoever reads GET as no method at all would let somebody else's rule take its requests.
	d = read(t, head+"paths: {\"/a/{b}\": {get: {security: []}}, /a/b: {GET: {security: [{broker: [read]}]}}}", openapi.Options{})
	if lines(d) != "GET /a/{b} public\nGET /a/b denied" || !noted(d, "GET /a/b", "small letters") {
		t.Errorf("a method in capital letters: %q %v", lines(d), d.Notes)
	}
	d = read(t, head+"paths: {/a: {security: [{broker: [read]}], get: {}, put: {security: [{broker: [write]}]}}}", openapi.Options{PublicUnlessSaid: true})
	if lines(d) != "GET /a denied\nPUT /a write" || !noted(d, "GET /a", "where OpenAPI has none") {
		t.Errorf("security beside the methods: %q %v", lines(d), d.Notes)
	}
}

// What cannot be read for certain is an error, and says where.
func TestDocumentsThatCannotBeRead(t *testing.T) {
	const paths = "paths: {/a: {get: {security: [{broker: [read]}]}}}\n"
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	var bomb strings.Builder
	bomb.WriteString("openapi: 3.0.0\nx0: &x0 {get: {security: [{}]}}\n")
	for i := 1; i <= 8; i++ {
		fmt.Fprintf(&bomb, "x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d,", i-1), 10), ","))
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                         {"", "empty"},
		"a comment":                       {"# nothing", "empty"},
		"a list":                          {"- a", "names and values are expected where there is a list"},
		"a text":                          {"hello", "a single value"},
		"no version":                      {"info: {}", "what version"},
		"version 1":                       {"swagger: '1.2'", "what version"},
		"version 4":                       {"openapi: 4.0.0", `"4.0.0" is none of`},
		"no YAML":                         {"a: [", "yaml"},
		"no JSON":                         {"{\n\"a\": 1,\n}", "json: line 3"},
		"JSON that ends early":            {`{"openapi":"3.0.0"`, "unexpected EOF"},
		"JSON with more":                  {`{} {}`, "more follows"},
		"two documents":                   {"openapi: 3.0.0\n---\nopenapi: 3.0.0\n", "second document begins in line 2"},
		"no paths":                        {"openapi: 3.1.0\ninfo: {}\n", "no operations"},
		"no operations":                   {"openapi: 3.1.0\npaths: {/a: {}}\n", "no operations"},
		"paths twice":                     {head + paths + paths, `"paths" is there twice`},
		"security twice":                  {head + "paths: {/a: {get: {security: [], security: [{broker: [read]}]}}}", `"security" is there twice`},
		"security twice in JSON":          {`{"openapi":"3.0.0","paths":{"/a":{"get":{"security":[],"security":[]}}}}`, `"security" is there twice`},
		"security that is no list":        {head + "paths: {/a: {get: {security: {broker: [read]}}}}", "a list is expected where there is an object"},
		"security that is nothing":        {head + "paths: {/a: {get: {security: }}}", "a list is expected"},
		"a document's that is nothing":    {head + paths + "security:\n", ""},
		"a requirement that is no object": {head + "paths: {/a: {get: {security: [broker]}}}", "names and values are expected"},
		"scopes that are no list":         {head + "paths: {/a: {get: {security: [{broker: read}]}}}", "a list is expected"},
		"a scope that is no text":         {head + "paths: {/a: {get: {security: [{broker: [[read]]}]}}}", "a text is expected"},
		"a name that is none":             {head + "paths: {/a: {get: {? [a] : b}}}", "a name is expected"},
		"a circle of merge keys":          {head + "paths: {/a: {get: &a {<<: *a}}}", "in a circle"},
		"a deep one":                      {`{"openapi":"3.0.0","x":` + deep + `,"paths":{}}`, "nested more than"},
		"a large one":                     {strings.Repeat(" ", 16<<20) + "x", "larger than"},
		"aliases without end":             {bomb.String() + "paths: {/a: {get: {security: *x8}}}\n", "names and values are expected"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := openapi.Read([]byte(c.text), openapi.Options{})
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if d != nil || !errors.Is(err, openapi.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	for want, schemes := range map[string][]string{`no security scheme "no"`: {"no"}, `"key" (apiKey) takes no access tokens`: {"key"}} {
		if _, err := openapi.Read([]byte(head+paths), openapi.Options{Schemes: schemes}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Aliases of lists in lists of aliases multiply: reading ends long before that does.
func TestADocumentThatMultiplies(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "x: &need {broker: [read]}\ny: &security [" + strings.TrimSuffix(strings.Repeat("*need,", 1000), ",") + "]\nz: &item\n")
	for _, method := range []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"} {
		b.WriteString("  " + method + ": {security: *security}\n")
	}
	b.WriteString("paths:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "  /p%d: *item\n", i)
	}
	if _, err := openapi.Read([]byte(b.String()), openapi.Options{}); err == nil || !strings.Contains(err.Error(), "counting each alias") {
		t.Error(err)
	}
	b.Reset()
	b.WriteString(head + "security: []\npaths:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  /p%d: {get: {}}\n", i)
	}
	if _, err := openapi.Read([]byte(b.String()), openapi.Options{}); err == nil || !strings.Contains(err.Error(), "more than 4096 operations") {
		t.Error(err)
	}
	// Each operation that is lost is compared with each endpoint, segment by segment.
	b.Reset()
	b.WriteString(head + "security: [{broker: [read]}]\npaths:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  /%sk%d: {get: {}}\n", strings.Repeat("{a}/", 100), i)
	}
	for i := range 3000 {
		fmt.Fprintf(&b, "  /%sl%d/{x...}: {get: {}}\n", strings.Repeat("{a}/", 100), i)
	}
	if _, err := openapi.Read([]byte(b.String()), openapi.Options{}); err == nil || !strings.Contains(err.Error(), "to compare them with the rest") {
		t.Error(err)
	}
}
