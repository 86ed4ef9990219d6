package connectors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Values long and odd enough that a leak of one into an error or a URL is found by a search.
const (
	testClient   = "client-0001"
	testSecret   = "the-client-secret-5f1d0c"
	testCode     = "code-9b2a41c7e0d3f8"
	testToken    = "gho_access-token-77aa12"
	testState    = "state-4410f2"
	testNonce    = "nonce-81cc9e"
	testVerifier = "verifier-0123456789-0123456789-0123456789-0123456789"
	testRedirect = "https://broker.example/callback/up"
)

func testTrip() Trip {
	return Trip{RedirectURI: testRedirect, State: testState, Nonce: testNonce, Verifier: testVerifier}
}

// seen is one request as a provider received it.
type seen struct {
	method, path string
	query, form  url.Values
	header       http.Header
}

// upstream is a provider: routes by path, and a record of what came.
type upstream struct {
	*httptest.Server
	mu     sync.Mutex
	routes map[string]http.HandlerFunc
	log    []seen
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{routes: map[string]http.HandlerFunc{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		u.mu.Lock()
		u.log = append(u.log, seen{r.Method, r.URL.Path, r.URL.Query(), form, r.Header.Clone()})
		h := u.routes[r.URL.Path]
		u.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		r.Form = form
		h(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) route(path string, h http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.routes[path] = h
}

// requests are those of a path, so far.
func (u *upstream) requests(path string) (found []seen) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.log {
		if s.path == path {
			found = append(found, s)
		}
	}
	return found
}

// says answers with a status and JSON.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// stalls answers only when the request or the test ends.
func stalls(t *testing.T) http.HandlerFunc {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
	}
}

func mustNew(t *testing.T, s Settings) Connector {
	t.Helper()
	return mustNewWith(t, s, Options{})
}

func mustNewWith(t *testing.T, s Settings, o Options) Connector {
	t.Helper()
	if s.Name == "" {
		s.Name = "up"
	}
	if s.ClientID == "" {
		s.ClientID, s.ClientSecret = testClient, testSecret
	}
	if o.Transport == nil {
		transport := NewTransport()
		t.Cleanup(transport.CloseIdleConnections)
		o.Transport = transport
	}
	c, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantKind checks an error's kind, that it names the connector, and that it leaks nothing.
func wantKind(t *testing.T, err error, want Kind) *Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %v", err)
	}
	if e.Kind != want {
		t.Errorf("kind %s, want %s: %v", e.Kind, want, err)
	}
	if e.Connector != "up" {
		t.Errorf("connector %q, want up: %v", e.Connector, err)
	}
	for _, secret := range []string{testSecret, testCode, testToken, testVerifier, testNonce} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error leaks %q: %v", secret, err)
		}
	}
	return e
}

func callbackWith(more ...string) url.Values {
	v := url.Values{"code": {testCode}, "state": {testState}}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

var (
	testRSA  = sync.OnceValue(func() *rsa.PrivateKey { return newRSA() })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return newRSA() })
	testEC   = sync.OnceValue(func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
)

func newRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// issuer is an OpenID provider that a test can bend. Its fields are changed before use, or under mu.
type issuer struct {
	*upstream
	url      string
	metadata map[string]any
	// claims is the ID token; sign makes it, by default RS256 with key 1.
	claims   map[string]any
	sign     func(claims map[string]any) string
	keys     []jose.JSONWebKey
	userinfo map[string]any
}

func newIssuer(t *testing.T, path string) *issuer {
	t.Helper()
	i := &issuer{upstream: newUpstream(t)}
	i.url = i.Server.URL + path
	i.metadata = map[string]any{
		"issuer":                                i.url,
		"authorization_endpoint":                i.url + "/auth",
		"token_endpoint":                        i.url + "/token",
		"userinfo_endpoint":                     i.url + "/userinfo",
		"jwks_uri":                              i.url + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}
	now := time.Now()
	i.claims = map[string]any{
		"iss": i.url, "aud": testClient, "sub": "1102", "nonce": testNonce,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"email": "ann@example.com", "email_verified": true, "name": "Ann Lee",
	}
	i.sign = func(c map[string]any) string { return signed(t, jose.RS256, testRSA(), "1", c) }
	i.keys = []jose.JSONWebKey{{Key: testRSA().Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}
	i.route(path+"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		json.NewEncoder(w).Encode(i.metadata)
	})
	i.route(path+"/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	})
	i.route(path+"/token", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": testToken, "token_type": "Bearer", "expires_in": 3599, "id_token": i.sign(i.claims)})
	})
	i.route(path+"/userinfo", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		json.NewEncoder(w).Encode(i.userinfo)
	})
	return i
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
