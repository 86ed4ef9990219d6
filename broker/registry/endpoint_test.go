package registry_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/registry"
)

// endpoints is an api with the scope read, and endpoints as text.
func endpoints(t testing.TB, list ...string) *registry.API {
	t.Helper()
	a := api("https://a.example", "read", "write", "public", "acr=x")
	for _, text := range list {
		e, err := registry.ParseEndpoint(text)
		if err != nil {
			t.Fatal(err)
		}
		a.Endpoints = append(a.Endpoints, e)
	}
	return &a
}

// What is the more specific decides, whatever the order in which endpoints were registered: a rule for one path is not to be
// undermined by one for many.
func TestTheMostSpecificEndpointCounts(t *testing.T) {
	list := []string{
		"GET /", "GET /notes", "GET /notes/", "* /notes", "POST /notes",
		"GET /notes/{id}", "HEAD /notes/{id}", "GET /notes/new", "DELETE /notes/{id}",
		"GET /notes/{id}.json", "GET /notes/{id}.min.json", "GET /notes/v{id}", "GET /notes/{id}/{part}", "GET /notes/{id}/tags", "GET /notes/all/{rest...}",
		"GET /notes/all/{rest}", "PATCH /notes/{rest...}",
		"GET /{owner}:{tag}", "GET /{owner}:latest", "GET /{a}-{b}-{c}",
		"* /admin/{rest...}", "GET /a%20b/%7Bx%7D", "GET /é",
	}
	for request, want := range map[string]string{
		"GET /":                   "GET /",
		"GET /notes":              "GET /notes",
		"HEAD /notes":             "GET /notes",
		"PUT /notes":              "* /notes",
		"get /notes":              "* /notes",
		"POST /notes":             "POST /notes",
		"GET /notes/":             "GET /notes/",
		"POST /notes/":            "",
		"GET /notes/1":            "GET /notes/{id}",
		"HEAD /notes/1":           "HEAD /notes/{id}",
		"HEAD /notes/new":         "GET /notes/new",
		"DELETE /notes/new":       "DELETE /notes/{id}",
		"PATCH /notes/new":        "PATCH /notes/{rest...}",
		"PATCH /notes/":           "PATCH /notes/{rest...}",
		"PATCH /notes/a/b/c/":     "PATCH /notes/{rest...}",
		"GET /notes/1.json":       "GET /notes/{id}.json",
		"GET /notes/1.min.json":   "GET /notes/{id}.min.json",
		"GET /notes/.min.json":    "GET /notes/{id}.json",
		"GET /notes/.json":        "GET /notes/{id}",
		"GET /notes/v1":           "GET /notes/v{id}",
		"GET /notes/v1.json":      "GET /notes/{id}.json",
		"GET /notes/v":            "GET /notes/{id}",
		"GET /notes/1/2":          "GET /notes/{id}/{part}",
		"GET /notes/1/tags":       "GET /notes/{id}/tags",
		"GET /notes/1/tags/":      "",
		"GET /notes/1/":           "",
		"GET /notes/all/1":        "GET /notes/all/{rest}",
		"GET /notes/all/1/2":      "GET /notes/all/{rest...}",
		"GET /notes/all/tags":     "GET /notes/all/{rest}",
		"GET /notes/all/":         "GET /notes/all/{rest...}",
		"GET /notes/all":          "GET /notes/{id}",
		"GET /me:dev":             "GET /{owner}:{tag}",
		"GET /me:latest":          "GET /{owner}:latest",
		"GET /me:":                "",
		"GET /:latest":            "",
		"GET /a:b:c":              "GET /{owner}:{tag}",
		"GET /1-2-3":              "GET /{a}-{b}-{c}",
		"GET /-----":              "GET /{a}-{b}-{c}",
		"GET /1-2":                "",
		"GET /--1":                "",
		"BREW /admin/x":           "* /admin/{rest...}",
		"GET /a b/{x}":            "GET /a%20b/%7Bx%7D",
		"GET /a%20b/%7Bx%7D":      "",
		"GET /é":                  "GET /é",
		"GET /Notes":              "",
		"GET notes":               "",
		"GET *":                   "",
		"GET ":                    "",
		"GET //":                  "",
		"GET /admin//x":           "",
		"GET /admin/../notes":     "",
		"GET /admin/./notes":      "",
		"GET /admin/..":           "",
		"GET /admin/..;a=b/notes": "",
		"GET /admin/.;/notes":     "",
		"GET /admin/a\\..\\b":     "",
		"GET /admin/a\x00b":       "",
		"GET /admin/...":          "* /admin/{rest...}",
		"GET /admin/.well-known":  "* /admin/{rest...}",
	} {
		method, path, _ := strings.Cut(request, " ")
		for range 3 {
			rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			a := endpoints(t, list...)
			if err := a.Validate(); err != nil {
				t.Fatal(err)
			}
			got := ""
			if e := a.Endpoint(method, path); e != nil {
				got = e.String()
			}
			if got != want {
				t.Errorf("%q is %q, want %q", request, got, want)
			}
		}
	}
}

// Of two endpoints that a request could be either's, nobody could say which counts: whoever registers them reads both.
func TestEndpointsThatCannotBeToldApart(t *testing.T) {
	for _, pair := range [][2]string{
		{"GET /a", "GET /a"},
		{"GET /{a}", "GET /{b}"},
		{"GET /a/{x...}", "GET /a/{y...}"},
		{"* /{a}", "* /{b}"},
		{"GET /{a}.json", "GET /{b}.json"},
		{"GET /a%20b", "GET /%61%20b"},
		{"GET /x{a}", "GET /{a}x"},
		{"GET /x{a}", "* /{a}x"},
		{"GET /x{a}", "HEAD /{a}x"},
		{"GET /x{a}/foo", "GET /{a}x/{b}"},
		{"GET /x{a}/foo/bar", "GET /{a}x/{b...}"},
		{"GET /x{a}/foo", "GET /{a}x/f{b}"},
	} {
		err := endpoints(t, pair[0], pair[1]).Validate()
		if err == nil || !strings.Contains(err.Error(), pair[1]+" and "+pair[0]+" cannot be told apart") {
			t.Errorf("%q: %v", pair, err)
		}
	}
	for _, pair := range [][2]string{
		{"GET /a", "HEAD /a"},
		{"GET /a", "* /a"},
		{"GET /x{a}", "POST /{a}x"},
		{"GET /{a}.json", "GET /{a}.yaml"},
		{"GET /{a}.json", "GET /{a}.min.json"},
		{"GET /x{a}/foo", "GET /{a}x/bar"},
		{"GET /x{a}/foo", "GET /{a}x/g{b}"},
		{"GET /x{a}", "GET /{a}x/{b}"},
		{"GET /x{a}/", "GET /{a}x/{b}"},
		{"GET /a/b/{x}", "GET /a/{x...}"},
	} {
		if err := endpoints(t, pair[0], pair[1]).Validate(); err != nil {
			t.Errorf("%q: %v", pair, err)
		}
	}
}

// Whoever registers an endpoint reads what is wrong with it.
func TestEndpointsThatCannotBeRegistered(t *testing.T) {
	for text, want := range map[string]string{
		"G(T / read":                        "endpoints[0].method",
		"GET notes":                         "does not begin with a slash",
		"GET //":                            "empty segment",
		"GET /a//b":                         "empty segment",
		"GET /a/../b":                       "dot segment",
		"GET /./b":                          "dot segment",
		"GET /a/..;x/b":                     "dot segment",
		"GET /%2e%2E/b":                     "dot segment",
		"GET /a%2Fb":                        "encoded slash",
		"GET /a%00b":                        "control character",
		`GET /a\b`:                          "backslash",
		"GET /a%zz":                         "no percent-encoding",
		"GET /a?x=1":                        "query",
		"GET /a#x":                          "fragment",
		"GET /{}":                           "no name",
		"GET /{...}":                        "no name",
		"GET /{$}":                          "no name",
		"GET /{+path}":                      "no name",
		"GET /{id":                          "{ without }",
		"GET /id}":                          "} without {",
		"GET /{a}{b}":                       "two names side by side",
		"GET /{a...}/b":                     "not at its end",
		"GET /x{a...}":                      "leave the dots out",
		"GET /{a...}x":                      "leave the dots out",
		"GET /" + strings.Repeat("a", 1024): "longer than 1024 bytes",
		"GET /a raed":                       `GET /a needs "raed", which is not a scope of this api`,
		"GET /a read read":                  `"read" is there twice`,
		"GET /a read | wirte":               `alternatives[0]: GET /a needs "wirte"`,
		"GET /a read public":                "needs no token, and yet it names scopes",
		"GET /a public acr=urn:x":           "needs no token, and yet it says how",
		"GET /a public max_age=5":           "needs no token, and yet it says how",
		"GET /a read denied":                "nobody may use it, and yet it says who may",
		"GET /a denied max_age=5":           "nobody may use it, and yet it says who may",
		"GET /a public denied":              "nobody may use it, and yet it says who may",
		"GET /a max_age=-1":                 "-1 seconds",
		"GET /a max_age=999999999999":       "999999999999 seconds",
		`GET /a acr=a"b`:                    "visible ASCII",
		"GET /a acr=":                       "visible ASCII",
		"GET /a acr=a acr=a":                "there twice",
		"GET /a read" + strings.Repeat(" | write", 33): "33 are more than 32",
	} {
		err := endpoints(t, text).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	bad := api("https://a.example", "read")
	bad.Endpoints = []registry.Endpoint{
		{Method: "get", Path: "/a"},
		{Method: "GET", Path: "/b c"},
		{Method: "GET", Path: "/d", Alternatives: [][]string{{"read"}}},
		{Method: "GET", Path: "/e", Scopes: []string{"read"}, Alternatives: [][]string{{}}},
	}
	err := bad.Validate()
	for _, want := range []string{"endpoints[0].method", "endpoints[1].path", "endpoints[2].alternatives", "endpoints[3].alternatives"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("GET /%d read", i)
	}
	if err := endpoints(t, many[:1000]...).Validate(); err != nil {
		t.Error(err)
	}
	if err := endpoints(t, many...).Validate(); err == nil || !strings.Contains(err.Error(), "1001 endpoints are more than 1000") {
		t.Error(err)
	}
	for i := range many {
		many[i] = fmt.Sprintf("GET /%d/%s read", i, strings.Repeat("long", 50))
	}
	if err := endpoints(t, many[:1000]...).Validate(); err == nil || !strings.Contains(err.Error(), "bytes as JSON") {
		t.Error(err)
	}
}

// Where an api is reached is written in one way, so that two apis at one address are seen.
func TestAddressesOfAPIs(t *testing.T) {
	for url, want := range map[string]string{
		"https://api.example.com":          "",
		"https://api.example.com/v1/notes": "",
		"http://10.0.0.1:8080":             "",
		"http://[::1]:8080/x":              "",
		"ftp://api.example.com":            "not http",
		"//api.example.com":                "no scheme",
		"https:///notes":                   "not http",
		"https://a:b@api.example.com":      "user information",
		"https://api.example.com/?a=b":     "query",
		"https://api.example.com/#a":       "fragment",
		"https://api.example.com/":         "slash",
		"https://api.example.com/v1/":      "slash",
		"https://API.example.com":          "write https://api.example.com",
		"https://api.example.com:443/v1":   "write https://api.example.com/v1",
		"https://api.example.com:/v1":      "write https://api.example.com/v1",
		"https://api.example.com//v1":      "empty segments",
		"https://api.example.com/a/../b":   "dot segments",
		"https://api.example.com/a%2fb":    "encoded",
		"https://api.example.com/{tenant}": "it holds one of",
		"https://api.example.com/a b":      "a space",
	} {
		a := api("https://a.example", "read")
		a.URL = url
		err := a.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
}

// What a command prints can be given to the next one.
func TestEndpointsAsText(t *testing.T) {
	for text, want := range map[string]registry.Endpoint{
		"GET /notes": {Method: "GET", Path: "/notes"},
		"get   /notes/{id}  notes:read\tother | alternative": {
			Method: "GET", Path: "/notes/{id}", Scopes: []string{"notes:read", "other"}, Alternatives: [][]string{{"alternative"}},
		},
		"GET /items(id={id})":    {Method: "GET", Path: "/items(id={id})"},
		"GET /a=b/:/c:d *b read": {Method: "GET", Path: "/a=b/:/c:d", Scopes: []string{"*b", "read"}},
		"GET /health public":     {Method: "GET", Path: "/health", Public: true},
		"GET /export denied":     {Method: "GET", Path: "/export", Denied: true},
		"POST /pay pay acr=urn:x acr=urn:y max_age=300": {
			Method: "POST", Path: "/pay", Scopes: []string{"pay"}, ACRValues: []string{"urn:x", "urn:y"}, MaxAge: 300,
		},
		"* /x scope=public scope=denied scope=acr=x scope=| | scope=scope=a b": {
			Method: "*", Path: "/x", Scopes: []string{"public", "denied", "acr=x", "|"}, Alternatives: [][]string{{"scope=a", "b"}},
		},
	} {
		got, err := registry.ParseEndpoint(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, diff)
		}
		again, err := registry.ParseEndpoint(got.String())
		if diff := cmp.Diff(got, again); diff != "" || err != nil {
			t.Errorf("%q: %v %s", got, err, diff)
		}
	}
	for _, text := range []string{
		"", "GET", "GET /a |", "GET /a read |", "GET /a | read", "GET /a read | | write", "GET /a max_age=1h", "GET /a max_age=", "GET /a scope=",
		// Other programs' ways of writing it, which would be paths that no request has.
		"GET /a=read", "GET /a/b=notes:read", "GET /a: read", "GET /a/:id read", "GET /a/* read", "GET /** read",
	} {
		if e, err := registry.ParseEndpoint(text); err == nil {
			t.Errorf("%q is read as %+v", text, e)
		}
	}
}

// Whatever the pattern and the path: nothing panics; each path made of a pattern that is good matches an endpoint of it; and the text of
// what was read is read as the same.
func FuzzEndpoint(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET /notes/{id}.json read", "GET /notes/{id}", "/notes/1"},
		{"GET /{a}-{b}-{c}", "* /{x...}", "/-----"},
		{"GET /a%20b/{x...}", "GET /x{a}/y", "/a/../b"},
		{"GET /{owner}:{tag}", "GET /x{a}:y", "//;"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, one, other, path string) {
		a := api("https://a.example", "read", "write")
		for _, text := range []string{one, other} {
			e, err := registry.ParseEndpoint(text)
			if err != nil {
				continue
			}
			if again, err := registry.ParseEndpoint(e.String()); err != nil || !cmp.Equal(e, again) {
				t.Fatalf("%q is read as %+v, and that as %+v: %v", text, e, again, err)
			}
			a.Endpoints = append(a.Endpoints, e)
		}
		if e := a.Endpoint("GET", path); e != nil && (strings.Contains(path, "//") || strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./")) {
			t.Fatalf("%q matches %q", path, e)
		}
		if a.Validate() != nil {
			return
		}
		reversed := a
		reversed.Endpoints = []registry.Endpoint{}
		for i := range a.Endpoints {
			reversed.Endpoints = append(reversed.Endpoints, a.Endpoints[len(a.Endpoints)-1-i])
		}
		for i := range a.Endpoints {
			method := a.Endpoints[i].Method
			for _, value := range []string{"x", "1.json", "a:b", "ab-ab", ".."} {
				concrete := concretePath(t, a.Endpoints[i].Path, value)
				got, same := a.Endpoint(method, concrete), reversed.Endpoint(method, concrete)
				if got == nil && !strings.Contains(concrete+"/", "/../") && !strings.Contains(concrete, "/..;") {
					t.Fatalf("%q does not match %q", concrete, a.Endpoints[i])
				}
				if !cmp.Equal(got, same) {
					t.Fatalf("%q matches %v or %v, by their order", concrete, got, same)
				}
			}
		}
	})
}

// concretePath is a path that a pattern is good for, decoded, with value in each pair of braces.
func concretePath(t *testing.T, pattern, value string) string {
	var path strings.Builder
	for rest := pattern; ; {
		before, after, more := strings.Cut(rest, "{")
		text, err := url.PathUnescape(before)
		if err != nil {
			t.Fatal(err)
		}
		path.WriteString(text)
		if !more {
			return path.String()
		}
		path.WriteString(value)
		_, rest, _ = strings.Cut(after, "}")
	}
}

// BenchmarkEndpoint is what a request costs beside its token: a path of an api with a thousand endpoints.
func BenchmarkEndpoint(b *testing.B) {
	list := make([]string, 1000)
	for i := range list {
		list[i] = fmt.Sprintf("GET /repositories/{owner}/{name}/things%d/{part} read", i)
	}
	apis, err := registry.NewAPIs(reserved, *endpoints(b, list...))
	if err != nil {
		b.Fatal(err)
	}
	a := apis.List()[0]
	b.ReportAllocs()
	for b.Loop() {
		if a.Endpoint("GET", "/repositories/o/n/things999/1") == nil {
			b.Fatal("no match")
		}
	}
}
