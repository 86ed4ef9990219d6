package oauth

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/registry"
)

// guarded are guards of apis, each with the endpoints given.
func guarded(t *testing.T, apis ...registry.API) *guards {
	t.Helper()
	for i := range apis {
		apis[i].Name = "An API"
		apis[i].Scopes = []registry.Scope{{Name: "read", Sentence: "Read"}}
	}
	all, err := registry.NewAPIs(registry.Reserved{Issuer: issuer}, apis...)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{issuer: issuer, policy: policy{issuer: issuer, apis: all}, log: slog.New(slog.DiscardHandler), now: time.Now}
	return s.guards()
}

func endpoint(text string) registry.Endpoint {
	method, path, _ := strings.Cut(text, " ")
	return registry.Endpoint{Method: method, Path: path, Scopes: []string{"read"}}
}

func endpoints(texts ...string) []registry.Endpoint {
	var all []registry.Endpoint
	for _, text := range texts {
		all = append(all, endpoint(text))
	}
	return all
}

// Which api and which endpoint a request is for; what is not registered is denied.
func TestForwardAuthFindsTheEndpoint(t *testing.T) {
	all := guarded(t,
		registry.API{Identifier: "urn:root", URL: "https://api.example", Endpoints: endpoints("GET /notes", "GET /v1x/notes", "GET /{all...}")},
		registry.API{Identifier: "urn:v1", URL: "https://api.example/v1", Endpoints: endpoints("GET /notes", "POST /notes", "GET /notes/{id}", "DELETE /notes/admin", "GET /")},
		registry.API{Identifier: "urn:v1/deep", URL: "https://api.example/v1/deep", Endpoints: endpoints("GET /notes")},
		registry.API{Identifier: "urn:port", URL: "http://api.example:8080", Endpoints: endpoints("GET /notes")},
		registry.API{Identifier: "urn:plain", URL: "http://plain.example", Endpoints: endpoints("GET /plain")},
		registry.API{Identifier: "urn:both/s", URL: "https://both.example", Endpoints: endpoints("GET /notes")},
		registry.API{Identifier: "urn:both", URL: "http://both.example", Endpoints: endpoints("GET /notes")},
		registry.API{Identifier: "urn:six", URL: "https://[2001:db8::1]", Endpoints: endpoints("GET /notes")},
		registry.API{Identifier: "urn:nowhere", Endpoints: endpoints("GET /notes", "GET /only/here", "GET /files/{name}", "PUT /files/admin")},
	)
	for name, c := range map[string]struct {
		named, method, scheme, host, target string
		anyHost                             bool
		want                                string // api and path pattern; "" if it is denied
	}{
		"by url":                                 {"", "GET", "https", "api.example", "/notes", false, "urn:root /notes"},
		"by url, the scheme untold":              {"", "GET", "", "api.example", "/notes", false, "urn:root /notes"},
		"by url, TLS ended before":               {"", "GET", "http", "api.example", "/notes", false, "urn:root /notes"},
		"by url with the default port":           {"", "GET", "https", "api.example:443", "/notes", false, "urn:root /notes"},
		"another scheme's default port":          {"", "GET", "https", "api.example:80", "/notes", false, ""},
		"by url with a port":                     {"", "GET", "http", "api.example:8080", "/notes", false, "urn:port /notes"},
		"a port that is not the api's":           {"", "GET", "https", "api.example:8443", "/notes", false, ""},
		"by url, an address":                     {"", "GET", "https", "[2001:db8::1]", "/notes", false, "urn:six /notes"},
		"by url, an address and a port":          {"", "GET", "https", "[2001:db8::1]:443", "/notes", false, "urn:six /notes"},
		"plain http on its port":                 {"", "GET", "http", "plain.example:80", "/plain", false, "urn:plain /plain"},
		"the longest path":                       {"", "GET", "https", "api.example", "/v1/notes/7", false, "urn:v1 /notes/{id}"},
		"the longest path of three":              {"", "GET", "https", "api.example", "/v1/deep/notes", false, "urn:v1/deep /notes"},
		"the longest path alone":                 {"", "GET", "https", "api.example", "/v1/deep/other", false, ""},
		"a path that goes on where the url ends": {"", "GET", "https", "api.example", "/v1x/notes", false, "urn:root /v1x/notes"},
		"the url itself, without a slash":        {"", "GET", "https", "api.example", "/v1", false, ""},
		"the url itself":                         {"", "GET", "https", "api.example", "/v1/", false, "urn:v1 /"},
		"another method":                         {"", "PUT", "https", "api.example", "/v1/notes", false, ""},
		"a method in lower case":                 {"", "get", "https", "api.example", "/v1/notes", false, ""},
		"HEAD for GET":                           {"", "HEAD", "https", "api.example", "/v1/notes", false, "urn:v1 /notes"},
		"another host":                           {"", "GET", "https", "other.example", "/notes", false, ""},
		"no host":                                {"", "GET", "https", "", "/notes", false, ""},
		"two schemes of a host, http":            {"", "GET", "http", "both.example", "/notes", false, "urn:both /notes"},
		"two schemes of a host, https":           {"", "GET", "https", "both.example", "/notes", false, "urn:both/s /notes"},
		"two schemes of a host, untold":          {"", "GET", "", "both.example", "/notes", false, ""},

		"by name":                            {"urn:nowhere", "GET", "https", "whatever.example", "/notes", false, "urn:nowhere /notes"},
		"by name, the host untold":           {"urn:v1", "GET", "", "", "/v1/notes", false, "urn:v1 /notes"},
		"by name, although the url has more": {"urn:root", "GET", "https", "api.example", "/v1/notes", false, "urn:root /{all...}"},
		"by name, outside its url":           {"urn:v1", "GET", "https", "api.example", "/notes", false, ""},
		"by name, an endpoint of another":    {"urn:nowhere", "GET", "https", "plain.example", "/plain", false, ""},
		"by a name that is none":             {"urn:none", "GET", "https", "api.example", "/notes", false, ""},
		"by a name that is none, any host":   {"urn:none", "GET", "https", "api.example", "/only/here", true, ""},

		"any host, one api":           {"", "PUT", "http", "localhost:8081", "/files/admin", true, "urn:nowhere /files/admin"},
		"any host, the token's api":   {"", "GET", "http", "localhost:8081", "/notes", true, "urn:nowhere /notes"},
		"any host, none the token's":  {"", "GET", "http", "localhost:8081", "/", true, "urn:root /{all...}"},
		"any host, below the url":     {"", "DELETE", "http", "localhost:8081", "/v1/notes/admin", true, "urn:v1 /notes/admin"},
		"any host, without the url's": {"", "DELETE", "http", "localhost:8081", "/notes/admin", true, "urn:v1 /notes/admin"},
		"any host, and it is known":   {"", "GET", "https", "plain.example", "/plain", true, "urn:plain /plain"},
		"any host, and it has others": {"", "GET", "https", "plain.example", "/only/here", true, ""},

		// What an API behind sees that takes parameters off: both readings have to be one endpoint.
		"parameters, one endpoint":           {"", "GET", "https", "api.example", "/v1/notes/7;v=1", false, "urn:v1 /notes/{id}"},
		"parameters that hide an endpoint":   {"urn:nowhere", "PUT", "", "", "/files/admin;x", false, ""},
		"parameters behind a longer literal": {"urn:nowhere", "GET", "", "", "/files/admin;x", false, "urn:nowhere /files/{name}"},
		"parameters that hide the url":       {"", "GET", "https", "api.example", "/v1;x/notes", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := readOriginal(c.method, c.scheme, c.host, c.target)
			if err != nil {
				t.Fatal(err)
			}
			var audience func() []string
			if c.anyHost {
				audience = func() []string { return []string{"urn:nowhere"} }
			}
			g, e, err := all.find(c.named, o, audience)
			got := ""
			if err == nil {
				got = g.api.Identifier + " " + e.Path
			}
			if got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// The address of the endpoint is the proxy's to write, its query too; what a client could have put there names no api.
func TestForwardAuthNamesTheAPI(t *testing.T) {
	for _, c := range []struct{ query, original, want, problem string }{
		{"", "", "", ""},
		{"", "api=urn:a", "", ""},
		{"api=urn%3Aa", "x=1", "urn:a", ""},
		{"api=urn:a", "api=urn:b", "urn:a", ""},
		{"x=1", "x=1", "", ""}, // Caddy, with an address without query
		{"api=urn:a", "api=urn:a", "", "let the proxy write"},
		{"x=1&api=urn:a", "x=1&api=%75rn:a", "", "let the proxy write"},
		{"api=urn:a&access_token=t", "api=urn:a&access_token=t", "", "let the proxy write"},
		{"api=urn:a&api=urn:b", "", "", "more than one"}, // a proxy that appends
		{"api=urn:a&api=urn:a", "", "", "more than one"},
		{"api=", "", "", "or none"},
		{"api", "", "", "or none"},
		{"api=urn:a;b", "", "", "cannot be read"},
		{"api=%zz", "", "", "cannot be read"},
	} {
		named, err := namedAPI(c.query, c.original)
		if named != c.want || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q, %q: %q, %v", c.query, c.original, named, err)
		}
	}
}

// Whatever JSON holds, it fits a header, and says the same.
func TestASCIIJSON(t *testing.T) {
	for raw, want := range map[string]string{
		"":                         "",
		`{"sub":"a"}`:              `{"sub":"a"}`,
		"[ {\"a\" :\n\t1} ]":       `[{"a":1}]`,
		`["é\n\r","x 𝄞"]`:          `["\u00e9\n\r","x \ud834\udd1e"]`,
		"[\"\u007f\u0085\u2028\"]": `["\u007f\u0085\u2028"]`,
		"{":                        "",
	} {
		got := asciiJSON(json.RawMessage(raw))
		if got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
		if want == "" {
			continue
		}
		var a, b any
		if json.Unmarshal([]byte(raw), &a) != nil || json.Unmarshal([]byte(got), &b) != nil {
			t.Errorf("%q became %q", raw, got)
		} else if x, y := mustJSON(a), mustJSON(b); x != y {
			t.Errorf("%s became %s", x, y)
		}
	}
}

func mustJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// An operator whose proxy asks in a wrong way reads in the log which api it was, and what to change.
func TestForwardAuthSaysWhatIsWrong(t *testing.T) {
	shut := endpoint("GET /shut")
	shut.Scopes, shut.Denied = nil, true
	all := guarded(t, registry.API{Identifier: "urn:v1", URL: "https://api.example/v1", Endpoints: append(endpoints("GET /notes"), shut)})
	for target, want := range map[string]string{
		"/notes":    "the endpoints of the api 'urn:v1' are below https://api.example/v1, and /notes is not; let the proxy ask before it changes the path",
		"/v1/other": "the api 'urn:v1' has no endpoint for GET /v1/other",
		"/v1/shut":  "the api 'urn:v1' lets nobody through to GET /v1/shut",
	} {
		o, err := readOriginal("GET", "https", "api.example", target)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := all.find("urn:v1", o, nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", target, err, want)
		}
	}
}
