package resource_test

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/resource"
)

// The broker is asked once for many requests with a token, and what it said counts for a while, never beyond the token's end.
func TestAnAnswerOfIntrospectionIsKeptForAWhile(t *testing.T) {
	i := newAuthority(t)
	api := i.api(nil)
	raw := i.issueOpaque()
	var wg sync.WaitGroup
	release := i.hang()
	for range 20 {
		wg.Go(func() { expect(t, api, raw, 200, "of many at once") })
	}
	time.AfterFunc(50*time.Millisecond, release)
	wg.Wait()
	if n := i.introspected.Load(); n != 1 {
		t.Errorf("20 requests at once asked %d times", n)
	}
	i.revoke(raw)
	i.advance(resource.DefaultCacheFor - time.Millisecond)
	expect(t, api, raw, 200, "within the time that it counts")
	i.advance(time.Millisecond)
	expect(t, api, raw, 401, "revoked, when that has passed")
	n := i.introspected.Load()
	expect(t, api, raw, 401, "once more")
	if i.introspected.Load() != n {
		t.Error("that a token does not stand is not remembered")
	}
	i.advance(time.Second)
	expect(t, api, raw, 401, "a second later")
	if i.introspected.Load() != n+1 {
		t.Error("that a token does not stand is remembered for too long")
	}
	short := i.issueOpaque("exp", i.clock().Unix()+2)
	expect(t, api, short, 200, "one that ends soon")
	i.advance(2 * time.Second)
	i.revoke(short) // the broker says that it has ended
	expect(t, api, short, 401, "when it has ended")
}

// Where nothing is to be remembered, the broker is asked each time, and a revoked token is refused at once.
func TestIntrospectionWithoutACache(t *testing.T) {
	i := newAuthority(t)
	api := i.api(func(o *resource.Options) { o.CacheFor = -1 })
	raw := i.issueOpaque()
	expect(t, api, raw, 200, "at first")
	expect(t, api, raw, 200, "again")
	i.revoke(raw)
	expect(t, api, raw, 401, "revoked")
	if n := i.introspected.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// Invented tokens take no place in memory from good ones, or else the broker would be asked about those again and again.
func TestInventedTokensPushNoGoodOneOut(t *testing.T) {
	i := newAuthority(t)
	api := i.api(func(o *resource.Options) { o.CacheFor = time.Hour })
	raw := i.issueOpaque()
	expect(t, api, raw, 200, "at first")
	for range 12_000 {
		status(api, "pat1."+randomText())
	}
	i.revoke(raw)
	expect(t, api, raw, 200, "after a flood")
}

// What introspection says is judged like what a JWT says.
func TestWhatIntrospectionSaysIsJudged(t *testing.T) {
	i := newAuthority(t)
	api := i.api(nil)
	at := i.clock().Unix()
	for name, c := range map[string]struct {
		edits []any
		want  int
	}{
		"right":                     {nil, 200},
		"for another api":           {[]any{"aud", "https://api.example.com/mail"}, 401},
		"without audience":          {[]any{"aud", nil}, 401},
		"of another issuer":         {[]any{"iss", "https://evil.example.com"}, 401},
		"expired":                   {[]any{"exp", at - 60}, 401},
		"without expiry":            {[]any{"exp", nil}, 401},
		"without sub":               {[]any{"sub", nil}, 401},
		"bound, nobody knows how":   {[]any{"cnf", map[string]any{"kid": "x"}}, 401},
		"bound to a key":            {[]any{"cnf", map[string]any{"jkt": "x"}}, 401},
		"bound to a certificate":    {[]any{"cnf", map[string]any{"x5t#S256": "x"}}, 401},
		"too little scope":          {[]any{"scope", "notes:readonly"}, 403},
		"without scope":             {[]any{"scope", nil}, 403},
		"an answer of other shapes": {[]any{"exp", "soon"}, 503},
	} {
		expect(t, api, i.issueOpaque(c.edits...), c.want, name)
	}
	expect(t, i.api(func(o *resource.Options) { o.ClientID, o.ClientSecret = "", "" }), i.issueOpaque(), 401, "an API that does not introspect")
}

// The broker is away: nobody gets in with an opaque token, clients are told to come back, and the first request after it is back is answered.
func TestOpaqueTokensFailClosedAndRecover(t *testing.T) {
	i := newAuthority(t)
	api := i.api(nil)
	raw := i.issueOpaque()
	expect(t, api, raw, 200, "at first")
	i.down.Store(true)
	expect(t, api, raw, 200, "what was just said counts on")
	i.advance(resource.DefaultCacheFor)
	for range 3 {
		got := call(t, api.Protect(hello), "GET", "/", authorization("Bearer", raw), "")
		if got.status != 503 || got.header.Get("Retry-After") != "1" || len(got.challenges) != 0 || !strings.Contains(got.body, "temporarily_unavailable") {
			t.Errorf("while the broker is away: %s", got)
		}
	}
	i.down.Store(false)
	expect(t, api, raw, 200, "as soon as it is back")

	// A client that gives up leaves nothing behind.
	release := i.hang()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+i.issueOpaque())
	w := httptest.NewRecorder()
	api.Protect(hello).ServeHTTP(w, r)
	if w.Code != 503 {
		t.Errorf("given up: %d", w.Code)
	}
	release()
	expect(t, api, i.issueOpaque(), 200, "afterwards")
}

// Whoever sent a token learns little of why it is refused; whoever runs the API finds in the log which request it was, and what is set wrong: a slash at
// the issuer's end, another identifier, a clock.
func TestTheLogSaysWhatIsWrongWithAToken(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "a")
	said := func(edits ...any) string { return key.sign("at+jwt", i.claims(edits...)) }
	for name, c := range map[string]struct {
		raw  string
		edit func(*resource.Options)
		want string
	}{
		"another issuer":     {said(), func(o *resource.Options) { o.Issuer += "/" }, `its issuer is \"` + i.url + `\", not \"` + i.url + `/\"`},
		"another identifier": {said(), func(o *resource.Options) { o.Identifier += "/" }, `its audience is [\"` + notesAPI + `\"]","client_id":"shop"`},
		"ended":              {said("exp", now.Add(-time.Minute).Unix()), nil, "it ended at " + now.Add(-time.Minute).Format(time.RFC3339) + ", and here it is " + now.Format(time.RFC3339)},
		"of the future":      {said("iat", now.Add(time.Minute).Unix()), nil, "issued at " + now.Add(time.Minute).Format(time.RFC3339) + ", and here it is " + now.Format(time.RFC3339)},
	} {
		var log logs
		api := i.api(func(o *resource.Options) {
			o.Log = log.logger()
			if c.edit != nil {
				c.edit(o)
			}
		})
		expect(t, api, c.raw, 401, name)
		for _, want := range []string{c.want, `"method":"GET"`, `"path":"/notes"`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: want %s, the log says\n%s", name, want, log.String())
			}
		}
		if strings.Contains(log.String(), c.raw) {
			t.Errorf("%s: the token is in the log", name)
		}
	}
	var log logs
	api := i.api(func(o *resource.Options) { o.Log, o.AllowQuery = log.logger(), true })
	call(t, api.Protect(hello), "GET", "/notes/"+strings.Repeat("x", 9000)+"?access_token=pat1.stolen", nil, "")
	if s := log.String(); len(s) > 1000 || strings.Contains(s, "pat1.stolen") || !strings.Contains(s, "xxx...") {
		t.Errorf("of a long path with a token the log says\n%.2000s", s)
	}
}

// A broker that does not know the API, or sends it elsewhere, says nothing about tokens: that is the operator's to mend, and the log says what it is. The
// secret goes nowhere else, and no secret and no token is in the log.
func TestAnAPIThatTheBrokerRefuses(t *testing.T) {
	i := newAuthority(t)
	var log logs
	raw := i.issueOpaque()
	wrong := i.api(func(o *resource.Options) { o.ClientSecret, o.Log = "not-the-secret", log.logger() })
	expect(t, wrong, raw, 503, "with a wrong secret")
	if !strings.Contains(log.String(), "401; it does not know this ClientID with this ClientSecret") {
		t.Errorf("the log says\n%s", log.String())
	}
	var got int
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got++ }))
	defer elsewhere.Close()
	redirecting := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer redirecting.Close()
	i.with(func() { i.metadata["introspection_endpoint"] = redirecting.URL })
	redirected := i.api(func(o *resource.Options) { o.Log, o.HTTPClient = log.logger(), &http.Client{} })
	expect(t, redirected, raw, 503, "with a redirect")
	if got != 0 {
		t.Error("the secret went elsewhere")
	}
	for _, secret := range []string{raw, "not-the-secret", hostSecret, "Basic "} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %s:\n%s", secret, log.String())
		}
	}
}

// CheckRevoked: the broker is asked about JWTs too while it answers. While it does not, a good signature is enough, the log says so now and then, and what
// was revoked before does not come back.
func TestRevokedJWTsAreRefusedWhileTheBrokerAnswers(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	var log logs
	api := i.api(func(o *resource.Options) { o.CheckRevoked, o.Log = true, log.logger() })
	good, revoked, forged := key.sign("at+jwt", i.claims()), key.sign("at+jwt", i.claims()), newKey(t, jose.ES256, "k").sign("at+jwt", i.claims())
	i.know(good)
	i.know(forged)
	expect(t, api, good, 200, "at first")
	expect(t, api, revoked, 401, "a revoked one")
	expect(t, api, forged, 401, "a forged one, whatever introspection says")
	expect(t, i.api(nil), revoked, 200, "where revocation does not matter")
	uncached := i.api(func(o *resource.Options) { o.CheckRevoked, o.CacheFor = true, -1 })
	expect(t, uncached, good, 200, "without a cache")
	expect(t, uncached, revoked, 401, "a revoked one, without a cache")
	warning := "the broker does not say whether tokens are revoked"
	if strings.Contains(log.String(), warning) {
		t.Error("the log warns without need")
	}

	i.down.Store(true)
	i.advance(resource.DefaultCacheFor)
	for range 20 {
		expect(t, api, good, 200, "while the broker is away")
		expect(t, api, revoked, 401, "revoked before, while the broker is away")
		expect(t, api, forged, 401, "forged, while the broker is away")
		expect(t, uncached, good, 200, "without a cache, while the broker is away")
		expect(t, uncached, revoked, 401, "revoked before, without a cache, while the broker is away")
	}
	if n := strings.Count(log.String(), warning); n != 1 {
		t.Errorf("the log warns %d times in a moment", n)
	}
	i.down.Store(false)
	release := i.hang()
	began := time.Now()
	for range 20 {
		expect(t, api, good, 200, "while the broker hangs")
	}
	if took := time.Since(began); took > 2*time.Second { // of the three that a question may take
		t.Errorf("requests waited for %v", took)
	}
	release()
	i.revoke(good)
	i.advance(resource.DefaultCacheFor)
	for deadline := time.Now().Add(5 * time.Second); status(api, good) != 401; time.Sleep(time.Millisecond) { // a question that nobody waits for finds out
		if time.Now().After(deadline) {
			t.Fatal("revoked, and still taken after the broker is back")
		}
	}
	if _, err := resource.New(resource.Options{Issuer: i.url, Identifier: notesAPI, CheckRevoked: true}); err == nil || !strings.Contains(err.Error(), "ClientID") {
		t.Errorf("CheckRevoked without a client: %v", err)
	}
}

// Whoever holds a revoked token has two ways to write it: an ECDSA signature is as good with the negative of its second half, and nobody needs the key for
// that. The other one is no less revoked, also while the broker is away; and a flood of invented tokens does not wash away that it is.
func TestARevokedJWTComesBackInNoOtherSpelling(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	revoked := key.sign("at+jwt", i.claims())
	signed, signature := revoked[:strings.LastIndexByte(revoked, '.')+1], revoked[strings.LastIndexByte(revoked, '.')+1:]
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(raw) != 64 {
		t.Fatalf("a signature of %d bytes: %v", len(raw), err)
	}
	new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(raw[32:])).FillBytes(raw[32:])
	other := signed + base64.RawURLEncoding.EncodeToString(raw)
	expect(t, i.api(nil), other, 200, "the other spelling, where revocation does not matter")

	spelled := i.api(func(o *resource.Options) { o.CheckRevoked = true })
	flooded := i.api(func(o *resource.Options) { o.CheckRevoked = true })
	for _, api := range []*resource.API{spelled, flooded} {
		expect(t, api, revoked, 401, "while the broker answers")
	}
	for range 12_000 {
		status(flooded, "pat1."+randomText())
	}
	i.down.Store(true)
	expect(t, flooded, revoked, 401, "while the broker is away, after a flood")
	for range 2 { // it waits for the broker once, and then no more
		expect(t, spelled, other, 401, "while the broker is away, in another spelling")
	}
}

// Behind a proxy, or among containers, an API reaches the broker under another address than people do. The issuer stays what tokens name, and the Host
// header with it; only the connection goes elsewhere, as docs/protect-an-api.md has it.
func TestABrokerThatIsReachedUnderAnotherAddress(t *testing.T) {
	i := newAuthority(t)
	inside := strings.TrimPrefix(i.url, "http://")
	i.with(func() {
		i.url = "http://localhost:1" // where nobody listens
		i.metadata = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "introspection_endpoint": i.url + "/introspect"}
	})
	key := i.publish(jose.ES256, "k")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, inside)
	}
	defer transport.CloseIdleConnections()
	api := i.api(func(o *resource.Options) { o.HTTPClient = &http.Client{Transport: transport, Timeout: 5 * time.Second} })
	expect(t, api, key.sign("at+jwt", i.claims()), http.StatusOK, "a JWT")
	expect(t, api, i.issueOpaque(), http.StatusOK, "an opaque token")
	expect(t, i.api(nil), i.issueOpaque(), http.StatusServiceUnavailable, "without a client of its own")
}
