package resource_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/resource"
)

const (
	issuer   = "https://login.example.com"
	notesAPI = "https://api.example.com/notes"
)

var now = time.Unix(1_790_000_000, 0)

// known is a Verifier that knows some tokens.
type known map[string]*resource.Token

func (k known) Verify(_ context.Context, raw string) (*resource.Token, error) {
	switch t, ok := k[raw]; {
	case raw == "down":
		return nil, fmt.Errorf("%w: connection refused", resource.ErrUnavailable)
	case raw == "fault":
		return nil, errors.New("a fault")
	case ok:
		return t, nil
	}
	return nil, fmt.Errorf("%w: unknown\r\nSet-Cookie: x", resource.ErrInvalidToken)
}

func plainToken(edit func(*resource.Token)) *resource.Token {
	t := &resource.Token{
		Subject: "alice", ClientID: "shop", Issuer: issuer, ID: "1", Audience: []string{notesAPI}, Scopes: []string{"notes:read"},
		IssuedAt: now, ExpiresAt: now.Add(time.Hour), AuthTime: now.Add(-time.Hour), ACR: "federated",
	}
	if edit != nil {
		edit(t)
	}
	return t
}

// tokens are those of these tests.
var tokens = known{
	"read":      plainToken(nil),
	"write":     plainToken(func(t *resource.Token) { t.Scopes = []string{"notes:read", "notes:write"} }),
	"expired":   plainToken(func(t *resource.Token) { t.ExpiresAt = now.Add(-time.Minute) }),
	"elsewhere": plainToken(func(t *resource.Token) { t.Audience = []string{"https://api.example.com/mail"} }),
	"foreign":   plainToken(func(t *resource.Token) { t.Issuer = "https://evil.example.com" }),
	"cert":      plainToken(func(t *resource.Token) { t.CertThumbprint = "x" }),
	"key":       plainToken(func(t *resource.Token) { t.KeyThumbprint = "x" }),
	"nothing":   nil,
}

func newAPI(t testing.TB, edit func(*resource.Options)) *resource.API {
	t.Helper()
	o := resource.Options{
		Issuer: issuer, Identifier: notesAPI, Verifier: tokens, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Scopes: []string{"notes:read", "notes:write"},
	}
	if edit != nil {
		edit(&o)
	}
	a, err := resource.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer is what a client gets.
type answer struct {
	status     int
	header     http.Header
	body       string
	challenges []string
}

func (a answer) String() string { return fmt.Sprintf("%d %q %s", a.status, a.challenges, a.body) }

// call sends a request over real HTTP to h.
func call(t testing.TB, h http.Handler, method, target string, header http.Header, body string) answer {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(content), res.Header.Values("WWW-Authenticate")}
}

func authorization(scheme, token string) http.Header {
	return http.Header{"Authorization": {scheme + " " + token}}
}

// hello says who is asking.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "hello "+resource.FromContext(r.Context()).Subject)
})

const (
	realm = `realm="https://api.example.com/notes"`
	where = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/notes"`
	algs  = `algs="ES256 EdDSA PS256 RS256"`
)

// RFC 6750 section 3, RFC 9449 section 7.1, RFC 9470 section 3, RFC 9728 section 5.1: what is refused is told why, in both schemes' words and in the body.
func TestRefusalsAreWordedAsTheRFCsSay(t *testing.T) {
	api := newAPI(t, nil)
	read := resource.Need{Scopes: []string{"notes:read"}}
	other := "DPoP " + strings.Join([]string{realm, algs, `scope="notes:read"`, where}, ", ")
	const invalid = "the access token is expired, revoked or not one of this server's"
	refused := func(code, description, scope string) string {
		return "Bearer " + strings.Join([]string{realm, `error="` + code + `"`, `error_description="` + description + `"`, `scope="` + scope + `"`, where}, ", ")
	}
	for name, c := range map[string]struct {
		need       resource.Need
		header     http.Header
		status     int
		code       string
		challenges []string
	}{
		"without a token": {read, nil, 401, "invalid_token", []string{"Bearer " + realm + `, scope="notes:read", ` + where, other}},
		"an unknown token": {
			read, authorization("Bearer", "unknown"), 401, "invalid_token", []string{refused("invalid_token", invalid, "notes:read"), other},
		},
		"what cannot be a token": {
			read, authorization("Bearer", `"a, Bearer b`), 401, "invalid_token", []string{refused("invalid_token", invalid, "notes:read"), other},
		},
		"an expired one": {
			read, authorization("Bearer", "expired"), 401, "invalid_token", []string{refused("invalid_token", invalid, "notes:read"), other},
		},
		"one for another api": {read, authorization("Bearer", "elsewhere"), 401, "invalid_token", []string{
			refused("invalid_token", "the access token is for other apis; ask for one with resource="+notesAPI, "notes:read"), other,
		}},
		"another issuer's": {
			read, authorization("Bearer", "foreign"), 401, "invalid_token",
			[]string{refused("invalid_token", "the access token is another issuer's", "notes:read"), other},
		},
		"two": {
			read,
			http.Header{"Authorization": {"Bearer read", "Bearer write"}},
			400, "invalid_request",
			[]string{refused("invalid_request", "there is more than one Authorization header; send one", "notes:read"), other},
		},
		"too little scope": {
			resource.Need{Scopes: []string{"notes:read", "notes:write"}, Alternatives: [][]string{{"notes:all"}}},
			authorization("Bearer", "read"), 403, "insufficient_scope",
			[]string{
				refused("insufficient_scope", "this needs the scope notes:read notes:write, or notes:all", "notes:read notes:write"),
				strings.Replace(other, "notes:read", "notes:read notes:write", 1),
			},
		},
		"a sign-in of too low a class": {
			resource.Need{ACRValues: []string{"mfa", "hw"}, MaxAge: 5 * time.Minute},
			authorization("Bearer", "read"), 401, "insufficient_user_authentication",
			[]string{
				"Bearer " + realm + `, error="insufficient_user_authentication", error_description="this needs another way of signing in: an acr of mfa or hw", acr_values="mfa hw", max_age="300", ` + where,
				"DPoP " + realm + ", " + algs + ", " + where,
			},
		},
		"a sign-in of too long ago": {
			resource.Need{MaxAge: 5 * time.Minute},
			authorization("Bearer", "read"), 401, "insufficient_user_authentication",
			[]string{
				"Bearer " + realm + `, error="insufficient_user_authentication", error_description="this needs a more recent sign-in", max_age="300", ` + where,
				"DPoP " + realm + ", " + algs + ", " + where,
			},
		},
		"bound to a key, as bearer": {read, authorization("Bearer", "key"), 401, "invalid_token", []string{
			refused("invalid_token", "the access token is bound to a key; send it as Authorization: DPoP, with a proof in the header DPoP", "notes:read"), other,
		}},
		"bound to nothing, as DPoP": {read, authorization("DPoP", "read"), 401, "invalid_token", []string{
			"DPoP " + realm + ", " + algs + `, error="invalid_token", error_description="the access token is not bound to a key; send it as Authorization: Bearer", scope="notes:read", ` + where,
			"Bearer " + realm + `, scope="notes:read", ` + where,
		}},
		"bound to a certificate": {read, authorization("Bearer", "cert"), 401, "invalid_token", []string{
			refused("invalid_token", "the access token is bound to a client certificate; connect with the one that it was issued to (RFC 8705)", "notes:read"), other,
		}},
		"nobody knows now":       {read, authorization("Bearer", "down"), 503, "temporarily_unavailable", nil},
		"a fault":                {read, authorization("Bearer", "fault"), 500, "server_error", nil},
		"a verifier that lapses": {read, authorization("Bearer", "nothing"), 500, "server_error", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := call(t, api.ProtectNeed(c.need, hello), "GET", "/notes", c.header, "")
			var body struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatalf("%s: %v", got, err)
			}
			if got.status != c.status || body.Error != c.code || body.Description == "" {
				t.Errorf("got %s", got)
			}
			if diff := cmp.Diff(c.challenges, got.challenges); diff != "" {
				t.Errorf("challenges (-want +got):\n%s", diff)
			}
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", got.header)
			}
			if (got.header.Get("Retry-After") == "1") != (c.status == 503) {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
			if strings.Contains(got.body, "refused") || strings.Contains(got.body, "Set-Cookie") {
				t.Errorf("the client sees the cause: %s", got.body)
			}
		})
	}
}

// What the token allows gets through, and the handler knows whose it is.
func TestWhatIsAllowedGetsThrough(t *testing.T) {
	api := newAPI(t, nil)
	h := api.Protect(hello, "notes:read")
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	echo := api.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.FormValue("title")+" by "+resource.FromContext(r.Context()).Subject)
	}), "notes:write")
	if got := call(t, h, "GET", "/", authorization("Bearer", "read"), ""); got.status != 200 || got.body != "hello alice" {
		t.Errorf("by header: %s", got)
	}
	if got := call(t, echo, "POST", "/", form, "title=Eggs&access_token=write"); got.status != 200 || got.body != "Eggs by alice" {
		t.Errorf("by form: %s", got)
	}
	if got := call(t, echo, "POST", "/", form, "title=Eggs&access_token=read"); got.status != 403 {
		t.Errorf("by form, with too little scope: %s", got)
	}
	blind := newAPI(t, func(o *resource.Options) { o.NoForm, o.AllowQuery = true, true })
	if got := call(t, blind.Protect(hello), "POST", "/", form, "title=Eggs&access_token=write"); got.status != 401 {
		t.Errorf("by form, where forms are left alone: %s", got)
	}
	if got := call(t, blind.Metadata(), "GET", "/", nil, ""); !strings.Contains(got.body, `"bearer_methods_supported":["header","query"]`) {
		t.Errorf("its metadata: %s", got)
	}
	if resource.FromContext(t.Context()) != nil {
		t.Error("a context of nobody's has a token")
	}
}

// RFC 6750 section 2.3: where the API says so, the token may be in the address. What comes of it is nobody's to keep, whatever the handler says, and
// neither the handler nor a log inside sees it.
func TestATokenInTheQuery(t *testing.T) {
	var seen string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.RequestURI + " " + r.URL.String() + " " + r.FormValue("access_token")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "hello")
	})
	allowing := newAPI(t, func(o *resource.Options) { o.AllowQuery = true }).Protect(handler, "notes:read")
	got := call(t, allowing, "GET", "/a?access_token=read&b=1", nil, "")
	if got.status != 200 || seen != "/a?b=1 /a?b=1 " {
		t.Errorf("got %s, the handler sees %q", got, seen)
	}
	if c := got.header.Values("Cache-Control"); len(c) != 1 || c[0] != "private, no-store" {
		t.Errorf("Cache-Control is %q", c)
	}
	silent := newAPI(t, func(o *resource.Options) { o.AllowQuery = true }).Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if got := call(t, silent, "GET", "/?access_token=read", nil, ""); got.header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("of a handler that says nothing: %v", got.header)
	}
	if got := call(t, allowing, "GET", "/", authorization("Bearer", "read"), ""); got.header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("the handler's own header is changed: %v", got.header)
	}
	// Browsers open web sockets without headers of the app's: who takes the connection over still can.
	taking := newAPI(t, func(o *resource.Options) { o.AllowQuery = true }).Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntaken over")
	}))
	if got := call(t, taking, "GET", "/?access_token=read", nil, ""); got.body != "taken over" {
		t.Errorf("taken over: %s", got)
	}
	seen = ""
	got = call(t, newAPI(t, nil).Protect(handler), "GET", "/a?access_token=read", nil, "")
	if got.status != 401 || seen != "" || strings.Contains(strings.Join(got.challenges, ""), "error=") {
		t.Errorf("where it is not allowed: %s", got)
	}
}

// RFC 9728 sections 2, 3.1: where a client that was refused looks, it finds which broker to go to.
func TestMetadata(t *testing.T) {
	for _, c := range []struct{ identifier, url, path, challenge string }{
		{notesAPI, "", "/.well-known/oauth-protected-resource/notes", "https://api.example.com/.well-known/oauth-protected-resource/notes"},
		{"https://api.example.com", "", "/.well-known/oauth-protected-resource", "https://api.example.com/.well-known/oauth-protected-resource"},
		{"https://api.example.com/", "", "/.well-known/oauth-protected-resource", "https://api.example.com/.well-known/oauth-protected-resource"},
		{notesAPI, "http://127.0.0.1:9000/v1", "/.well-known/oauth-protected-resource/notes", "http://127.0.0.1:9000/.well-known/oauth-protected-resource/notes"},
		{"urn:example:notes", "https://n.example.com/v1/", "/.well-known/oauth-protected-resource/v1", "https://n.example.com/.well-known/oauth-protected-resource/v1"},
		{"urn:example:notes", "", "/.well-known/oauth-protected-resource", ""},
	} {
		api := newAPI(t, func(o *resource.Options) { o.Identifier, o.URL = c.identifier, c.url })
		if api.MetadataPath() != c.path {
			t.Errorf("%s at %s: the path is %s", c.identifier, c.url, api.MetadataPath())
		}
		mux := http.NewServeMux()
		mux.Handle("GET "+api.MetadataPath(), api.Metadata())
		got := call(t, mux, "GET", c.path, nil, "")
		want := map[string]any{
			"resource": c.identifier, "authorization_servers": []any{issuer}, "scopes_supported": []any{"notes:read", "notes:write"},
			"bearer_methods_supported": []any{"header", "body"}, "dpop_signing_alg_values_supported": []any{"ES256", "EdDSA", "PS256", "RS256"},
		}
		if c.challenge == "" { // there is no URL that a proof could be for
			delete(want, "dpop_signing_alg_values_supported")
		}
		var body map[string]any
		if err := json.Unmarshal([]byte(got.body), &body); err != nil || cmp.Diff(want, body) != "" {
			t.Errorf("%s: %v\n%s", c.identifier, err, cmp.Diff(want, body))
		}
		if got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Error("apps in the browser cannot read it")
		}
		refused := call(t, api.Protect(hello), "GET", "/", nil, "")
		for _, challenge := range refused.challenges {
			if strings.Contains(challenge, "resource_metadata=") != (c.challenge != "") || c.challenge != "" && !strings.Contains(challenge, `resource_metadata="`+c.challenge+`"`) {
				t.Errorf("%s: the challenge is %s", c.identifier, challenge)
			}
		}
	}
}

// hasty is a Verifier that says itself when to come back.
type hasty struct{}

func (hasty) Verify(context.Context, string) (*resource.Token, error) {
	return nil, &resource.Error{Status: http.StatusServiceUnavailable, Code: resource.CodeUnavailable, RetryAfter: 1500 * time.Millisecond}
}

// Retry-After is in whole seconds (RFC 9110 section 10.2.3): whoever comes back then is not too early.
func TestWhenToComeBackIsRoundedUp(t *testing.T) {
	api := newAPI(t, func(o *resource.Options) { o.Verifier = hasty{} })
	if got := call(t, api.Protect(hello), "GET", "/notes", authorization("Bearer", "read"), ""); got.status != 503 || got.header.Get("Retry-After") != "2" {
		t.Errorf("%s, Retry-After %q", got, got.header.Get("Retry-After"))
	}
}

// What cannot work is refused at the start, by its name.
func TestOptionsThatCannotWork(t *testing.T) {
	for name, edit := range map[string]func(*resource.Options){
		"Issuer":                 func(o *resource.Options) { o.Issuer = "" },
		"https":                  func(o *resource.Options) { o.Issuer = "http://login.example.com" },
		"a broker":               func(o *resource.Options) { o.Issuer = "https://login.example.com?x=1" },
		"Identifier":             func(o *resource.Options) { o.Identifier = "notes" },
		"fragment":               func(o *resource.Options) { o.Identifier = "https://a/#b" },
		"absolute":               func(o *resource.Options) { o.Identifier = "urn:a\"b" },
		"URL \"ftp:":             func(o *resource.Options) { o.URL = "ftp://x" },
		"the alias \"http:":      func(o *resource.Options) { o.Aliases = []string{"https://x", "http:"} },
		"the alias \"https://x/": func(o *resource.Options) { o.Aliases = []string{"https://x/v1"} },
		"information":            func(o *resource.Options) { o.URL = "https://user:pw@x" },
		"together or not at all": func(o *resource.Options) { o.ClientID, o.Verifier = "notes-server", nil },
		"or not at all":          func(o *resource.Options) { o.ClientSecret, o.Verifier = "secret", nil },
	} {
		o := resource.Options{Issuer: issuer, Identifier: notesAPI, Verifier: tokens}
		edit(&o)
		if _, err := resource.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An API that uses the package takes along none of the broker.
func TestItImportsNothingOfTheBroker(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/portico-id/portico/"
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module+"broker/resource/dpop") {
		t.Fatalf("the list has no %s", "broker/resource/dpop")
	}
	for _, dep := range deps {
		first, _, _ := strings.Cut(dep, "/")
		ours := dep == module+"broker/resource" || strings.HasPrefix(dep, module+"broker/resource/")
		if strings.Contains(first, ".") && !ours && !strings.HasPrefix(dep, "github.com/go-jose/go-jose/v4") {
			t.Errorf("it imports %s", dep)
		}
	}
}
