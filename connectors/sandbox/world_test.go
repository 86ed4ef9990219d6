package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	callback = "https://broker.example/callback?connector=x"
	verifier = "a-verifier-of-forty-three-characters-0123456"
	// challenge is the S256 one of verifier, computed with another tool.
	challenge = "LSfGx-vGuxibVzLnGd6UH91seZXpJFuk4lLx0rHl4R8"
)

// testKey is one key for all tests: making one takes longer than most of them.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		panic(err)
	}
	return key
})

// world is a sandbox that is served over HTTP, and an app's server that calls it.
type world struct {
	*Sandbox
	t      testing.TB
	client *http.Client

	mu    sync.Mutex
	clock time.Time
	slept []time.Duration
}

func testClients() []Client {
	return []Client{
		{Provider: Google, ID: "g-client", Secret: "g-secret", RedirectURIs: []string{callback, "https://broker.example/second"}},
		{Provider: Google, ID: "g-other", Secret: "g-other-secret", RedirectURIs: []string{callback}, Testing: true},
		{Provider: GitHub, ID: "gh-client", Secret: "gh-secret", RedirectURIs: []string{callback, "https://broker.example/second"}},
		{Provider: GitHub, ID: "gh-other", Secret: "gh-other-secret", RedirectURIs: []string{callback}, ExpiringTokens: true},
		{Provider: Facebook, ID: "312", Secret: "fb-secret", RedirectURIs: []string{callback, "https://broker.example/second"}},
		{Provider: Facebook, ID: "313", Secret: "fb-other-secret", RedirectURIs: []string{callback}, RequireAppSecretProof: true},
	}
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)}
	server := httptest.NewUnstartedServer(nil)
	o := Options{
		BaseURL: "http://" + server.Listener.Addr().String(),
		Clients: testClients(), Auto: "ann", Key: testKey(),
		Now: w.now,
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.slept = append(w.slept, d)
			return ctx.Err()
		},
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Sandbox = s
	server.Config.Handler = s
	server.Start()
	t.Cleanup(server.Close)
	w.client = server.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w
}

func withoutAuto(o *Options) { o.Auto = "" }

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// reply is an answer, read whole.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

func (r reply) object() map[string]any {
	r.t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		r.t.Fatalf("%d %q is no JSON object: %v", r.status, r.body, err)
	}
	return m
}

// text is a string member of the answer's object.
func (r reply) text(key string) string {
	r.t.Helper()
	s, _ := r.object()[key].(string)
	return s
}

// callback is the query of the redirect, and its fragment.
func (r reply) callback() (url.Values, string) {
	r.t.Helper()
	u, err := url.Parse(r.header.Get("Location"))
	if err != nil || u.Host != "broker.example" {
		r.t.Fatalf("%d Location %q, body %q", r.status, r.header.Get("Location"), r.body)
	}
	return u.Query(), u.Fragment
}

// do calls a URL with header fields "Name: value".
func (w *world) do(method, target string, body io.Reader, fields ...string) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("User-Agent", "test")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	res, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{w.t, res.StatusCode, res.Header, string(content)}
}

func (w *world) get(target string, fields ...string) reply {
	w.t.Helper()
	return w.do(http.MethodGet, target, nil, fields...)
}

func (w *world) post(target string, form url.Values, fields ...string) reply {
	w.t.Helper()
	return w.do(http.MethodPost, target, strings.NewReader(form.Encode()), append([]string{"Content-Type: application/x-www-form-urlencoded"}, fields...)...)
}

// q makes values of "key=value" strings that change a base; "key=" removes it.
func q(base url.Values, changes ...string) url.Values {
	v := url.Values{}
	for k, values := range base {
		v[k] = values
	}
	for _, c := range changes {
		k, value, _ := strings.Cut(c, "=")
		v.Del(k)
		if value != "" {
			v.Set(k, value)
		}
	}
	return v
}

var (
	googleRequest = url.Values{
		"client_id": {"g-client"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid email profile"},
		"state": {"S"}, "nonce": {"N"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	googleRedeem = url.Values{
		"client_id": {"g-client"}, "client_secret": {"g-secret"}, "redirect_uri": {callback}, "grant_type": {"authorization_code"}, "code_verifier": {verifier},
	}
	githubRequest = url.Values{
		"client_id": {"gh-client"}, "redirect_uri": {callback}, "scope": {"read:user user:email"}, "state": {"S"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	githubRedeem    = url.Values{"client_id": {"gh-client"}, "client_secret": {"gh-secret"}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	facebookRequest = url.Values{"client_id": {"312"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"email,public_profile"}, "state": {"S"}}
	facebookRedeem  = url.Values{"client_id": {"312"}, "client_secret": {"fb-secret"}, "redirect_uri": {callback}}
)

const asJSON = "Accept: application/json"

func (w *world) authorize(p Provider, changes ...string) reply {
	w.t.Helper()
	switch p {
	case Google:
		return w.get(w.GoogleURL() + "/o/oauth2/v2/auth?" + q(googleRequest, changes...).Encode())
	case GitHub:
		return w.get(w.GitHubURL() + "/login/oauth/authorize?" + q(githubRequest, changes...).Encode())
	default:
		return w.get(w.FacebookURL() + "/v26.0/dialog/oauth?" + q(facebookRequest, changes...).Encode())
	}
}

// code is the code of a sign-in.
func (w *world) code(p Provider, changes ...string) string {
	w.t.Helper()
	values, _ := w.authorize(p, changes...).callback()
	if values.Get("code") == "" {
		w.t.Fatalf("no code in %v", values)
	}
	return values.Get("code")
}

// redeem calls the token endpoint.
func (w *world) redeem(p Provider, code string, changes ...string) reply {
	w.t.Helper()
	changes = append([]string{"code=" + code}, changes...)
	switch p {
	case Google:
		return w.post(w.GoogleURL()+"/token", q(googleRedeem, changes...))
	case GitHub:
		return w.post(w.GitHubURL()+"/login/oauth/access_token", q(githubRedeem, changes...), asJSON)
	default:
		return w.get(w.FacebookGraphURL() + "/v26.0/oauth/access_token?" + q(facebookRedeem, changes...).Encode())
	}
}

// token is the access token of a whole sign-in.
func (w *world) token(p Provider, changes ...string) string {
	w.t.Helper()
	r := w.redeem(p, w.code(p, changes...))
	if r.text("access_token") == "" {
		w.t.Fatalf("no token: %d %s", r.status, r.body)
	}
	return r.text("access_token")
}

// profile calls the endpoint that says who signed in.
func (w *world) profile(p Provider, token string) reply {
	w.t.Helper()
	switch p {
	case Google:
		return w.get(w.GoogleURL()+"/v1/userinfo", "Authorization: Bearer "+token)
	case GitHub:
		return w.get(w.GitHubAPIURL()+"/user", "Authorization: Bearer "+token)
	default:
		return w.get(w.FacebookGraphURL() + "/v26.0/me?fields=id,name,first_name,last_name,email,picture&access_token=" + token)
	}
}

func (w *world) emails(token, query string) reply {
	w.t.Helper()
	return w.get(w.GitHubAPIURL()+"/user/emails"+query, "Authorization: token "+token)
}

// arm arms a fault through HTTP.
func (w *world) arm(body string) reply {
	w.t.Helper()
	return w.do(http.MethodPost, w.base+"/sandbox/faults", strings.NewReader(body), "Content-Type: application/json")
}
