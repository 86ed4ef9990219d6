package resource_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/config"
)

// The broker is away, or changes its keys, while APIs serve.

const (
	signedAPI = "https://signed.example" // its tokens are JWTs
	sealedAPI = "https://sealed.example" // its tokens are opaque
)

var (
	outageCaller = Client{ID: "caller", Secret: "caller-secret-0123456789-0123456789-01234567"}
	outageServer = Client{ID: "servers", Secret: "servers-secret-0123456789-0123456789-0123456"}
)

// tokenLifetime is the longest that an access token may live, so that what fails here does not fail because one ended.
const tokenLifetime = 24 * time.Hour

func withOutageAPIs(c *config.Config) {
	scopes := []config.Scope{{Name: "read", Sentence: "Read it"}}
	c.APIs = []config.API{
		{Identifier: signedAPI, Name: "Signed", AccessTokenFormat: "jwt", AccessTokenLifetime: config.Duration(tokenLifetime), Scopes: scopes},
		{Identifier: sealedAPI, Name: "Sealed", AccessTokenFormat: "opaque", AccessTokenLifetime: config.Duration(tokenLifetime), Scopes: scopes},
	}
	c.Tokens.AccessTokenLifetime = config.Duration(tokenLifetime)
	c.Clients = append(
		c.Clients,
		config.Client{
			ClientID: outageCaller.ID, ClientSecret: config.NewSecret(outageCaller.Secret), Name: "Caller", Scopes: []string{"read"},
			GrantTypes: []string{"client_credentials"},
		},
		config.Client{
			ClientID: outageServer.ID, ClientSecret: config.NewSecret(outageServer.Secret), Name: "Servers", ResourceServerOf: []string{signedAPI, sealedAPI},
		},
	)
}

// protected is an API behind the middleware, and how often it asked the broker for keys.
type protected struct {
	handler http.Handler
	fetches atomic.Int64
}

func (p *protected) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/jwks.json" {
		p.fetches.Add(1)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func protect(t *testing.T, e *Env, identifier string, edit func(*resource.Options)) *protected {
	t.Helper()
	p := &protected{}
	o := resource.Options{
		Issuer: e.Issuer, Identifier: identifier, ClientID: outageServer.ID, ClientSecret: outageServer.Secret,
		HTTPClient: &http.Client{Transport: p}, Now: e.Clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	edit(&o)
	api, err := resource.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.handler = api.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), "read")
	return p
}

// call is one request with a token.
func (p *protected) call(t *testing.T, raw string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	request.Header.Set("Authorization", "Bearer "+raw)
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, request)
	return w
}

func (p *protected) expect(t *testing.T, when, raw string, status int) {
	t.Helper()
	w := p.call(t, raw)
	if w.Code != status {
		t.Errorf("%s: %d %s, want %d", when, w.Code, w.Body, status)
	}
	if after, err := strconv.Atoi(w.Header().Get("Retry-After")); w.Code == http.StatusServiceUnavailable && (err != nil || after < 1) {
		t.Errorf("%s: it does not say when to come again: %v", when, w.Header())
	}
}

// await is expect where it takes a moment that nobody waits for: whether the broker is back is asked beside the requests, not before them.
func (p *protected) await(t *testing.T, when, raw string, status int) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for p.call(t, raw).Code != status && deadline.Err() == nil {
		runtime.Gosched()
	}
	p.expect(t, when, raw, status)
}

func outageToken(t *testing.T, e *Env, api string) string {
	t.Helper()
	r := e.Post(t, "/token", outageCaller, url.Values{"grant_type": {"client_credentials"}, "resource": {api}})
	if r.Status != http.StatusOK {
		t.Fatalf("a token for %s: %d %v", api, r.Status, r.Body)
	}
	return r.String("access_token")
}

func revoke(t *testing.T, e *Env, raw string) {
	t.Helper()
	if r := e.Post(t, "/revoke", outageCaller, url.Values{"token": {raw}}); r.Status != http.StatusOK {
		t.Fatalf("revocation: %d %v", r.Status, r.Body)
	}
}

// Without its broker an API goes on with what it can check by itself. What it cannot, it refuses: an API that let tokens in because nobody says
// that they were revoked would be open to whoever can keep the broker from answering.
func TestTheBrokerIsDownForAMinute(t *testing.T) {
	const cacheFor = 10 * time.Second
	Each(t, func(t *testing.T, e *Env) {
		signed := protect(t, e, signedAPI, func(o *resource.Options) { o.ClientID, o.ClientSecret = "", "" })
		checked := protect(t, e, signedAPI, func(o *resource.Options) { o.CheckRevoked, o.CacheFor = true, -1 })
		sealed := protect(t, e, sealedAPI, func(o *resource.Options) { o.CacheFor = cacheFor })
		uncached := protect(t, e, sealedAPI, func(o *resource.Options) { o.CacheFor = -1 })
		late := protect(t, e, signedAPI, func(o *resource.Options) { o.ClientID, o.ClientSecret = "", "" }) // has never seen the keys
		jwt, opaque := outageToken(t, e, signedAPI), outageToken(t, e, sealedAPI)
		unknown := outageToken(t, e, sealedAPI) // no API has seen it yet
		gone := outageToken(t, e, signedAPI)    // was revoked, and refused for it, before the outage
		revoke(t, e, gone)
		signed.expect(t, "signed, before", jwt, http.StatusNoContent)
		checked.expect(t, "checked, before", jwt, http.StatusNoContent)
		checked.expect(t, "checked, one that was revoked, before", gone, http.StatusUnauthorized)
		sealed.expect(t, "sealed, before", opaque, http.StatusNoContent)
		uncached.expect(t, "uncached, before", opaque, http.StatusNoContent)

		e.Down()
		checked.expect(t, "checked, the first request without the broker, with what was revoked", gone, http.StatusUnauthorized)
		for down := time.Duration(0); down < time.Minute; down += 5 * time.Second {
			when := "down for " + down.String()
			signed.expect(t, "signed, "+when, jwt, http.StatusNoContent)
			checked.expect(t, "checked, "+when, jwt, http.StatusNoContent)
			checked.expect(t, "checked, one that was revoked, "+when, gone, http.StatusUnauthorized)
			cached := http.StatusServiceUnavailable
			if down < cacheFor {
				cached = http.StatusNoContent
			}
			sealed.expect(t, "sealed, "+when, opaque, cached)
			sealed.expect(t, "sealed, a token not seen before, "+when, unknown, http.StatusServiceUnavailable)
			uncached.expect(t, "uncached, "+when, opaque, http.StatusServiceUnavailable)
			late.expect(t, "started late, "+when, jwt, http.StatusServiceUnavailable)
			// What is wrong by itself needs no broker to be refused.
			signed.expect(t, "signed, a forged one, "+when, jwt[:len(jwt)-8]+"AAAAAAAA", http.StatusUnauthorized)
			e.Clock.Advance(5 * time.Second)
		}

		// The first request after it finds everything as it was: nobody has to restart an API.
		e.Up(t)
		sealed.expect(t, "sealed, up again", opaque, http.StatusNoContent)
		sealed.expect(t, "sealed, a token not seen before, up again", unknown, http.StatusNoContent)
		uncached.expect(t, "uncached, up again", opaque, http.StatusNoContent)
		late.expect(t, "started late, up again", jwt, http.StatusNoContent)
		signed.expect(t, "signed, up again", jwt, http.StatusNoContent)
		checked.expect(t, "checked, up again", jwt, http.StatusNoContent)

		// And so it is heard again what was revoked.
		revoke(t, e, jwt)
		revoke(t, e, opaque)
		checked.await(t, "checked, revoked", jwt, http.StatusUnauthorized)
		checked.expect(t, "checked, revoked, from then on", jwt, http.StatusUnauthorized)
		uncached.expect(t, "uncached, revoked", opaque, http.StatusUnauthorized)
		e.Clock.Advance(cacheFor)
		sealed.expect(t, "sealed, revoked", opaque, http.StatusUnauthorized)
	}, withOutageAPIs)
}

// An API that has not seen the key of a token cannot check it while the broker is down. It may be good: the client is told to come again, rather than
// that its token is bad, which would have it throw that away.
func TestATokenOfAKeyNotSeenYetWaitsForTheBroker(t *testing.T) {
	e := Start(t, withOutageAPIs)
	api := protect(t, e, signedAPI, func(*resource.Options) {})
	api.expect(t, "before", outageToken(t, e, signedAPI), http.StatusNoContent)
	rotate(t, e)
	e.Clock.Advance(token.DefaultPublishAhead)
	refreshKeys(t, e)
	fresh := outageToken(t, e, signedAPI)
	e.Down()
	api.expect(t, "signed by a key that was published after the API looked, broker down", fresh, http.StatusServiceUnavailable)
	e.Up(t)
	e.Clock.Advance(time.Second) // while it is away the keys are asked for once a second
	api.expect(t, "broker up again", fresh, http.StatusNoContent)
}

// rotate is `portico keys rotate`: another process over the same store makes the key.
func rotate(t *testing.T, e *Env) token.KeyInfo {
	t.Helper()
	key, err := e.Node(t).Broker.Keys().Rotate(t.Context(), token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// refreshKeys is what a broker does every minute.
func refreshKeys(t *testing.T, e *Env) {
	t.Helper()
	if err := e.Broker.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Keys are replaced five times while requests come with tokens that were issued this moment, and with those of hours before: none fails, and
// the API does not ask for the keys at every request.
func TestNoRequestFailsWhileKeysRotate(t *testing.T) {
	const (
		workers   = 4
		rotations = 5
		step      = 3 * time.Hour // that the clock is moved on by, after each of which every worker is served at least once
		steps     = int(token.DefaultPublishAhead / step)
	)
	e := Start(t, withOutageAPIs)
	api := protect(t, e, signedAPI, func(o *resource.Options) { o.ClientID, o.ClientSecret = "", "" })

	var kids sync.Map
	var turns [workers]atomic.Int64
	var served atomic.Int64
	moved := make(chan struct{}, 1) // some turn ended
	stop, broken := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var work sync.WaitGroup
	for i := range workers {
		work.Go(func() {
			defer once.Do(func() { close(broken) })
			old, since := "", e.Clock.Now()
			for {
				select {
				case <-stop:
					return
				default:
				}
				now := e.Clock.Now()
				fresh := outageToken(t, e, signedAPI)
				kids.Store(keyID(t, fresh), true)
				// The clock may be moved on twice before it is used.
				if old == "" || now.Sub(since) > tokenLifetime-3*step {
					old, since = fresh, now
				}
				for _, raw := range []string{fresh, old} {
					if w := api.call(t, raw); w.Code != http.StatusNoContent {
						t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
						return
					}
					served.Add(1)
				}
				turns[i].Add(1)
				select {
				case moved <- struct{}{}:
				default: // there is news already
				}
			}
		})
	}
	// everybody waits until each worker has begun and ended a turn.
	everybody := func() {
		t.Helper()
		var before [workers]int64
		for i := range turns {
			before[i] = turns[i].Load()
		}
		for i := range turns {
			for turns[i].Load() < before[i]+2 {
				select {
				case <-moved:
				case <-broken:
					t.Fatal("a request failed")
				}
			}
		}
	}
	everybody()
	for range rotations {
		made := rotate(t, e)
		for range steps {
			refreshKeys(t, e)
			everybody()
			e.Clock.Advance(step)
		}
		refreshKeys(t, e) // from here on it signs
		everybody()
		if _, signed := kids.Load(made.KeyID); !signed {
			t.Errorf("nothing was signed by the new key %s", made.KeyID)
		}
	}
	close(stop)
	work.Wait()
	if fetches, most := api.fetches.Load(), int64(rotations*(steps+2)); fetches > most {
		t.Errorf("the keys were fetched %d times for %d requests, want at most %d", fetches, served.Load(), most)
	}
}

func keyID(t *testing.T, jwt string) string {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(jwt, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Signatures[0].Header.KeyID
}
