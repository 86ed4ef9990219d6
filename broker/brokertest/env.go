// Package brokertest runs a whole broker for tests: real HTTP, a real store, the simulated providers, and a browser
// that presses buttons. Only the clock is the test's own.
package brokertest

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors/sandbox"
)

// Clock is a clock that tests move. It may be used concurrently.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
}

// Now is the time on the test's clock: the real time, moved on by all Advance calls, so that what other parties
// check against their own clocks holds as well.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// Client is a registered client as its developer knows it.
type Client struct {
	ID, Secret  string // a public client has no secret
	RedirectURI string
}

// The clients of every Env.
var (
	Web    = Client{ID: "web", Secret: "web-secret-0123456789-0123456789-0123456789", RedirectURI: "https://app.example.com/callback"}
	Other  = Client{ID: "other", Secret: "other-secret-0123456789-0123456789-01234567", RedirectURI: "https://other.example.com/callback"}
	First  = Client{ID: "first", Secret: "first-secret-0123456789-0123456789-01234567", RedirectURI: "https://first.example.com/callback"}
	Native = Client{ID: "native", RedirectURI: "http://127.0.0.1/callback"}
)

// Env is a running broker.
type Env struct {
	t       testing.TB
	Issuer  string
	nodeURL string // where this broker listens, of one that Node started; "" is the issuer
	server  *httptest.Server
	Broker  *broker.Broker
	Sandbox *sandbox.Sandbox
	Backend store.Backend
	Clock   *Clock
	Logs    *Logs
	Config  *config.Config
}

// Logs keeps what the broker logged.
type Logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Each runs f against a fresh broker on each store there is.
func Each(t *testing.T, f func(t *testing.T, e *Env), edit ...func(*config.Config)) {
	t.Helper()
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			clock := &Clock{}
			f(t, startOn(t, clock, open(t, clock.Now), edit...))
		})
	}
}

// Start runs a broker on the embedded store.
func Start(t testing.TB, edit ...func(*config.Config)) *Env {
	t.Helper()
	clock := &Clock{}
	return startOn(t, clock, storetest.SQLite(t, clock.Now), edit...)
}

// Listening is a server whose handler is set once its address is known.
func Listening(t testing.TB) (server *httptest.Server, handle func(http.Handler)) {
	t.Helper()
	var handler http.Handler
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	return server, func(h http.Handler) { handler = h }
}

func startOn(t testing.TB, clock *Clock, backend store.Backend, edit ...func(*config.Config)) *Env {
	t.Helper()
	e := &Env{t: t, Clock: clock, Backend: backend, Logs: &Logs{}}
	brokerServer, serveBroker := Listening(t)
	sandboxServer, serveSandbox := Listening(t)
	e.Issuer, e.server = brokerServer.URL, brokerServer

	cfg, err := config.Parse([]byte(yaml(e.Issuer, sandboxServer.URL)), "test.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		f(cfg)
	}
	e.Config = cfg
	e.Sandbox, err = broker.NewSandbox(cfg, broker.Options{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	serveSandbox(e.Sandbox)
	log := slog.New(slog.NewJSONHandler(e.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e.serve(log, serveBroker)
	return e
}

// serve builds the broker of e and serves it.
func (e *Env) serve(log *slog.Logger, listen func(http.Handler)) {
	e.t.Helper()
	var err error
	e.Broker, err = broker.New(e.t.Context(), e.Config, broker.Options{Log: log, Now: e.Clock.Now, Backend: e.Backend})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := e.Broker.Close(); err != nil {
			e.t.Error(err)
		}
	})
	listen(e.Broker.Handler)
}

// Node starts another broker over the same store and configuration, as behind a load balancer: it has the same issuer, and its
// endpoints are asked at its own URL.
func (e *Env) Node(t testing.TB) *Env {
	t.Helper()
	server, listen := Listening(t)
	node := *e
	node.t, node.nodeURL, node.server = t, server.URL, server
	node.serve(slog.New(slog.NewJSONHandler(e.Logs, &slog.HandlerOptions{Level: slog.LevelDebug})), listen)
	return &node
}

// Down closes the broker's listener and every connection to it, as when its process has ended. Up listens at the same address again.
func (e *Env) Down() {
	e.server.CloseClientConnections()
	e.server.Close()
}

// Up ends what Down began.
func (e *Env) Up(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(e.server.Config.Handler)
	_ = server.Listener.Close() // it listens at an address of its own choice
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	e.server = server
}

func yaml(issuer, sandboxURL string) string {
	return `
issuer: ` + issuer + `
listen: 127.0.0.1:0
store: {type: sqlite, path: unused.db}
keyring: [{secret: "an-entirely-random-test-keyring-secret-9f8e7d6c5b4a"}]
sandbox: {listen: "127.0.0.1:0", url: "` + sandboxURL + `"}
connectors:
  - {name: google, type: google}
  - {name: github, type: github}
  - {name: facebook, type: facebook}
clients:
  - client_id: web
    client_secret: ` + Web.Secret + `
    name: Web App
    website: https://app.example.com
    redirect_uris: [` + Web.RedirectURI + `, "https://app.example.com/other?keep=1"]
    post_logout_redirect_uris: [https://app.example.com/bye]
    scopes: [openid, profile, email, offline_access]
    grant_types: [authorization_code, refresh_token]
  - client_id: other
    client_secret: ` + Other.Secret + `
    name: Other App
    website: https://other.example.com
    redirect_uris: [` + Other.RedirectURI + `]
    scopes: [openid, offline_access]
    grant_types: [authorization_code, refresh_token]
    connectors: [google, github]
    id_token_signed_response_alg: ES256
  - client_id: first
    client_secret: ` + First.Secret + `
    name: First Party
    website: https://first.example.com
    redirect_uris: [` + First.RedirectURI + `]
    scopes: [openid, profile, email, offline_access]
    grant_types: [authorization_code, refresh_token]
    first_party: true
    pkce: optional
    access_token_format: jwt
  - client_id: native
    name: Native App
    redirect_uris: [` + Native.RedirectURI + `, "com.example.native:/callback"]
    scopes: [openid, profile, email, offline_access]
    grant_types: [authorization_code, refresh_token]
    public: true
`
}

// Verifier is the PKCE verifier of every request that the tests make, and Challenge its challenge.
const Verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// Challenge is the S256 challenge of a verifier (RFC 7636 section 4.2).
func Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// AuthorizeParams are the parameters of an ordinary authorization request.
func AuthorizeParams(c Client) url.Values {
	return url.Values{
		"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {c.RedirectURI},
		"scope": {"openid offline_access"}, "state": {"st-1"}, "nonce": {"no-1"},
		"code_challenge": {Challenge(Verifier)}, "code_challenge_method": {"S256"},
	}
}

// AuthorizeURL is an authorization request, its parameters changed by edits ("name", "value" pairs; an empty value removes).
func (e *Env) AuthorizeURL(c Client, edits ...string) string {
	params := AuthorizeParams(c)
	for i := 0; i+1 < len(edits); i += 2 {
		if edits[i+1] == "" {
			params.Del(edits[i])
		} else {
			params.Set(edits[i], edits[i+1])
		}
	}
	return e.Issuer + "/authorize?" + params.Encode()
}

// Code signs in with the browser, always pressing the first button, and returns what the app is sent.
func (e *Env) Code(t testing.TB, b *Browser, c Client, edits ...string) url.Values {
	t.Helper()
	location, page := b.Walk(e.AuthorizeURL(c, edits...), c.RedirectURI)
	if location == nil {
		t.Fatalf("the sign-in ended at %s (%d):\n%s", page.URL, page.Status, page.Body)
	}
	return location.Query()
}

// Response is a JSON response.
type Response struct {
	Status int
	Header http.Header
	Body   map[string]any
}

// String is a string in the body, or "".
func (r *Response) String(name string) string {
	s, _ := r.Body[name].(string)
	return s
}

// URL is where this broker listens: the issuer, but for one that Node started.
func (e *Env) URL() string { return cmp.Or(e.nodeURL, e.Issuer) }

// Post sends a form to an endpoint, as the client: by HTTP Basic, or with its id alone if it is public.
func (e *Env) Post(t testing.TB, path string, c Client, form url.Values) *Response {
	t.Helper()
	return e.PostWith(t, path, c, form, nil)
}

// PostWith is Post with further headers.
func (e *Env) PostWith(t testing.TB, path string, c Client, form url.Values, header http.Header) *Response {
	t.Helper()
	if c.Secret == "" && c.ID != "" {
		form.Set("client_id", c.ID)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.URL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.Secret != "" {
		request.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	return Do(t, request)
}

// Do sends a request and reads its JSON response, if it is one.
func Do(t testing.TB, request *http.Request) *Response {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := &Response{Status: response.StatusCode, Header: response.Header}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(raw, &r.Body); err != nil {
			t.Fatalf("%s: %v in %s", request.URL, err, raw)
		}
	}
	return r
}

// Claims are what a JWT says, unverified.
func Claims(t testing.TB, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", jwt)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// Redeem exchanges a code.
func (e *Env) Redeem(t testing.TB, c Client, code string, edits ...string) *Response {
	t.Helper()
	return e.Post(t, "/token", c, RedeemForm(c, code, edits...))
}

// RedeemForm is the request that exchanges a code.
func RedeemForm(c Client, code string, edits ...string) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {c.RedirectURI}, "code_verifier": {Verifier},
	}
	for i := 0; i+1 < len(edits); i += 2 {
		if edits[i+1] == "" {
			form.Del(edits[i])
		} else {
			form.Set(edits[i], edits[i+1])
		}
	}
	return form
}

// SignIn signs in with a fresh code and returns the tokens.
func (e *Env) SignIn(t testing.TB, b *Browser, c Client, edits ...string) *Response {
	t.Helper()
	answer := e.Code(t, b, c, edits...)
	if answer.Get("code") == "" {
		t.Fatalf("no code: %v", answer)
	}
	tokens := e.Redeem(t, c, answer.Get("code"))
	if tokens.Status != http.StatusOK {
		t.Fatalf("redeeming the code: %d %v", tokens.Status, tokens.Body)
	}
	return tokens
}

// Refresh uses a refresh token.
func (e *Env) Refresh(t testing.TB, c Client, token string) *Response {
	t.Helper()
	return e.Post(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// Active says whether introspection calls a token active.
func (e *Env) Active(t testing.TB, c Client, token string) bool {
	t.Helper()
	r := e.Post(t, "/introspect", c, url.Values{"token": {token}})
	if r.Status != http.StatusOK {
		t.Fatalf("introspection: %d %v", r.Status, r.Body)
	}
	active, _ := r.Body["active"].(bool)
	return active
}

// Userinfo asks userinfo with an access token.
func (e *Env) Userinfo(t testing.TB, token string) *Response {
	t.Helper()
	return e.UserinfoWith(t, http.Header{"Authorization": {"Bearer " + token}})
}

// UserinfoWith asks userinfo with the headers given.
func (e *Env) UserinfoWith(t testing.TB, header http.Header) *Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL()+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	return Do(t, request)
}

// Subject is the account that an access token speaks for.
func (e *Env) Subject(t testing.TB, token string) string {
	t.Helper()
	r := e.Userinfo(t, token)
	if r.Status != http.StatusOK {
		t.Fatalf("userinfo: %d %v", r.Status, r.Body)
	}
	return r.String("sub")
}
