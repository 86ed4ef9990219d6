package resource_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/resource"
)

// authority is an issuer whose keys, answers and faults are the test's to choose. What the broker itself says, broker_test.go shows.
type authority struct {
	t   testing.TB
	url string

	mu       sync.Mutex
	now      time.Time
	keys     []jose.JSONWebKey         // published
	opaque   map[string]map[string]any // what introspection says of a token; none: inactive
	metadata map[string]any
	maxAge   int

	down  atomic.Bool                   // connections break
	hangs atomic.Pointer[chan struct{}] // requests wait for it
	// How often it was asked.
	discovered, fetched, introspected atomic.Int32
}

const (
	hostID     = "notes-server"
	hostSecret = "secret: with + and %"
)

func newAuthority(t testing.TB) *authority {
	t.Helper()
	i := &authority{t: t, now: now, opaque: map[string]map[string]any{}, maxAge: 300}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	i.metadata = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "introspection_endpoint": i.url + "/introspect"}
	return i
}

func (i *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if hang := i.hangs.Load(); hang != nil {
		<-*hang
	}
	if i.down.Load() {
		panic(http.ErrAbortHandler) // the connection is cut
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var body any
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		i.discovered.Add(1)
		body = i.metadata
	case "/jwks.json":
		i.fetched.Add(1)
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", i.maxAge))
		body = jose.JSONWebKeySet{Keys: i.keys}
	case "/introspect":
		i.introspected.Add(1)
		if id, secret, ok := r.BasicAuth(); !ok || id != "notes-server" || secret != "secret%3A+with+%2B+and+%25" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body = map[string]any{"active": false}
		if said := i.opaque[r.PostFormValue("token")]; said != nil && r.Method == http.MethodPost {
			body = said
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

// with changes what it is made of, while it serves.
func (i *authority) with(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *authority) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

func (i *authority) advance(d time.Duration) { i.with(func() { i.now = i.now.Add(d) }) }

// hang has it not answer until the function is called.
func (i *authority) hang() (release func()) {
	wait := make(chan struct{})
	i.hangs.Store(&wait)
	return sync.OnceFunc(func() {
		i.hangs.Store(nil)
		close(wait)
	})
}

// signingKey is one of the authority's keys.
type signingKey struct {
	t       testing.TB
	alg     jose.SignatureAlgorithm
	kid     string
	private crypto.Signer
}

func newKey(t testing.TB, alg jose.SignatureAlgorithm, kid string) *signingKey {
	t.Helper()
	k := &signingKey{t: t, alg: alg, kid: kid}
	var err error
	switch alg {
	case jose.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// publish makes a key and publishes it.
func (i *authority) publish(alg jose.SignatureAlgorithm, kid string) *signingKey {
	i.t.Helper()
	k := newKey(i.t, alg, kid)
	i.with(func() { i.keys = append(i.keys, k.public()) })
	return k
}

func (k *signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Algorithm: string(k.alg), Use: "sig"}
}

// sign signs claims, with a header that says what the test wants.
func (k *signingKey) sign(typ string, claims any) string {
	k.t.Helper()
	return signWith(k.t, k.alg, k.private, map[jose.HeaderKey]any{"typ": typ, "kid": k.kid}, claims)
}

func signWith(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	return brokertest.SignJWT(t, alg, key, &jose.SignerOptions{ExtraHeaders: header}, claims)
}

// claims are those of a good access token, changed by edits ("name", value pairs; nil removes).
func (i *authority) claims(edits ...any) map[string]any {
	at := i.clock().Unix()
	c := map[string]any{
		"iss": i.url, "sub": "alice", "aud": notesAPI, "client_id": "shop", "jti": rand.Text(), "iat": at, "exp": at + 3600,
		"scope": "notes:read", "auth_time": at - 60, "acr": "federated",
	}
	for n := 0; n+1 < len(edits); n += 2 {
		if name := edits[n].(string); edits[n+1] == nil {
			delete(c, name)
		} else {
			c[name] = edits[n+1]
		}
	}
	return c
}

// issueOpaque makes an opaque token that introspection knows.
func (i *authority) issueOpaque(edits ...any) string {
	raw := "pat1." + rand.Text()
	said := i.claims(edits...)
	said["active"], said["token_type"] = true, "Bearer"
	i.with(func() { i.opaque[raw] = said })
	return raw
}

// revoke has introspection forget a token.
func (i *authority) revoke(raw string) { i.with(func() { delete(i.opaque, raw) }) }

// know has introspection know a JWT.
func (i *authority) know(raw string) {
	said := i.claims()
	said["active"] = true
	i.with(func() { i.opaque[raw] = said })
}

// api is an API of the authority's, which introspects.
func (i *authority) api(edit func(*resource.Options)) *resource.API {
	i.t.Helper()
	return newAPI(i.t, func(o *resource.Options) {
		o.Issuer, o.Verifier, o.Now = i.url, nil, i.clock
		o.ClientID, o.ClientSecret = hostID, hostSecret
		if edit != nil {
			edit(o)
		}
	})
}

// status is what a request with a token is answered, through the whole middleware.
func status(api *resource.API, raw string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/notes", nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	api.Protect(hello, "notes:read").ServeHTTP(w, r)
	return w.Code
}

func expect(t testing.TB, api *resource.API, raw string, want int, when string) {
	t.Helper()
	if got := status(api, raw); got != want {
		t.Errorf("%s: got %d, want %d", when, got, want)
	}
}

// logs keeps what was logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(io.Writer(l), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func randomText() string { return rand.Text() }

func merged(a, b map[jose.HeaderKey]any) map[jose.HeaderKey]any {
	a = maps.Clone(a)
	for name, value := range b {
		if value == nil {
			delete(a, name)
		} else {
			a[name] = value
		}
	}
	return a
}
