package connectors

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func oidcSettings(i *issuer) Settings { return Settings{Type: "oidc", Issuer: i.url} }

func TestOIDCLoginSendsPKCEAndNonceAndReadsTheProfile(t *testing.T) {
	i := newIssuer(t, "/op")
	i.claims["auth_time"] = 1785000000
	i.claims["amr"] = []string{"pwd", "otp"}
	i.claims["picture"] = "https://pictures.example/ann"
	i.claims["preferred_username"] = "ann"
	c := mustNew(t, oidcSettings(i))
	trip := testTrip()
	trip.LoginHint, trip.Prompt, trip.UILocales = "ann@example.com", "login", "de fr"

	raw, err := c.AuthorizeURL(t.Context(), trip)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(testVerifier))
	want := url.Values{
		"response_type": {"code"}, "client_id": {testClient}, "redirect_uri": {testRedirect}, "scope": {"openid email profile"},
		"state": {testState}, "nonce": {testNonce}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
		"login_hint":     {"ann@example.com"}, "prompt": {"login"}, "ui_locales": {"de fr"},
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Errorf("authorize parameters (-want +got):\n%s", diff)
	}
	if got := u.Scheme + "://" + u.Host + u.Path; got != i.url+"/auth" {
		t.Errorf("sent to %s", got)
	}

	p, err := c.Exchange(t.Context(), trip, callbackWith("iss", i.url))
	if err != nil {
		t.Fatal(err)
	}
	wantProfile := &Profile{
		Issuer: i.url, Subject: "1102", Email: "ann@example.com", Name: "Ann Lee", Username: "ann",
		Picture: "https://pictures.example/ann", AuthTime: time.Unix(1785000000, 0).UTC(), AMR: []string{"pwd", "otp"},
	}
	if diff := cmp.Diff(wantProfile, p); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
	tokens := i.requests("/op/token")
	if len(tokens) != 1 {
		t.Fatalf("%d token requests", len(tokens))
	}
	if got := tokens[0].form.Get("code_verifier"); got != testVerifier {
		t.Errorf("code_verifier %q", got)
	}
	if got := tokens[0].header.Get("Accept"); got != "application/json" {
		t.Errorf("Accept %q", got)
	}
	if id, secret, ok := (&http.Request{Header: tokens[0].header}).BasicAuth(); !ok || id != testClient || secret != testSecret {
		t.Error("the metadata name no method, so the client authenticates with Basic")
	}
}

// Every ID token here is signed and would be accepted by a client that checks less.
func TestOIDCRefusesAnIDTokenThatIsNotThisTrips(t *testing.T) {
	rsaPublic, err := x509.MarshalPKIXPublicKey(testRSA().Public())
	if err != nil {
		t.Fatal(err)
	}
	none := func(c map[string]any) string {
		payload, _ := json.Marshal(c)
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	tests := []struct {
		name string
		bend func(*issuer)
		want Kind
	}{
		{"wrong issuer", func(i *issuer) { i.claims["iss"] = "https://evil.example" }, Untrusted},
		{"issuer without its scheme, which is Google's habit alone", func(i *issuer) { i.claims["iss"] = strings.TrimPrefix(i.url, "http://") }, Untrusted},
		{"wrong nonce: a token of another trip", func(i *issuer) { i.claims["nonce"] = "nonce-other" }, Untrusted},
		{"no nonce", func(i *issuer) { delete(i.claims, "nonce") }, Untrusted},
		{"another audience", func(i *issuer) { i.claims["aud"] = "client-2" }, Untrusted},
		{"azp of another client", func(i *issuer) { i.claims["azp"] = "client-2" }, Untrusted},
		{"azp that is no string", func(i *issuer) { i.claims["azp"] = []string{testClient} }, Malformed},
		{"two audiences and no azp", func(i *issuer) { i.claims["aud"] = []string{"client-2", testClient} }, Untrusted},
		{"expired", func(i *issuer) { i.claims["exp"] = time.Now().Add(-2 * clockLeeway).Unix() }, Untrusted},
		{"no expiry", func(i *issuer) { delete(i.claims, "exp") }, Untrusted},
		{"from the future", func(i *issuer) { i.claims["iat"] = time.Now().Add(2 * clockLeeway).Unix() }, Untrusted},
		{"no iat", func(i *issuer) { delete(i.claims, "iat") }, Malformed},
		{"at_hash of another access token", func(i *issuer) { i.claims["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }, Untrusted},
		{"no sub", func(i *issuer) { delete(i.claims, "sub") }, Malformed},
		{"sub longer than 255", func(i *issuer) { i.claims["sub"] = strings.Repeat("1", 256) }, Malformed},
		{"alg none", func(i *issuer) { i.sign = none }, Untrusted},
		{"HS256 with the public key as its secret", func(i *issuer) {
			i.sign = func(c map[string]any) string { return signed(t, jose.HS256, rsaPublic, "1", c) }
		}, Untrusted},
		{"HS256 with the client's secret", func(i *issuer) {
			i.sign = func(c map[string]any) string {
				return signed(t, jose.HS256, []byte(strings.Repeat(testSecret, 2)), "1", c)
			}
		}, Untrusted},
		{"HS256 advertised by the provider itself", func(i *issuer) {
			i.metadata["id_token_signing_alg_values_supported"] = []string{"none", "HS256"}
		}, Malformed},
		{"an algorithm that the provider does not advertise", func(i *issuer) {
			i.keys = append(i.keys, jose.JSONWebKey{Key: testEC().Public(), KeyID: "ec"})
			i.sign = func(c map[string]any) string { return signed(t, jose.ES256, testEC(), "ec", c) }
		}, Untrusted},
		{"a key that is not the provider's", func(i *issuer) {
			i.sign = func(c map[string]any) string { return signed(t, jose.RS256, otherRSA(), "1", c) }
		}, Untrusted},
		{"not a JWT", func(i *issuer) { i.sign = func(map[string]any) string { return "e30" } }, Untrusted},
		{"no ID token", func(i *issuer) { i.sign = func(map[string]any) string { return "" } }, Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, "")
			tt.bend(i)
			_, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith())
			wantKind(t, err, tt.want)
		})
	}
}

func TestOIDCAcceptsClocksThatDifferALittle(t *testing.T) {
	i := newIssuer(t, "")
	i.claims["exp"] = time.Now().Add(-clockLeeway / 2).Unix()
	i.claims["iat"] = time.Now().Add(clockLeeway / 2).Unix()
	if _, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
		t.Fatal(err)
	}
}

func TestOIDCAcceptsSeveralAudiencesWithOurAZPAndAMatchingATHash(t *testing.T) {
	i := newIssuer(t, "")
	sum := sha256.Sum256([]byte(testToken))
	i.claims["aud"], i.claims["azp"] = []string{"client-2", testClient}, testClient
	i.claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	if _, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
		t.Fatal(err)
	}
}

// The mix-up attack (RFC 9207, RFC 9700 section 4.4): the code of one provider is brought to the
// callback of another, which would then send it to the attacker's token endpoint.
func TestOIDCChecksTheCallbacksIssuer(t *testing.T) {
	tests := []struct {
		name       string
		advertised bool
		callback   func(*issuer) url.Values
		want       Kind // "" for success
	}{
		{"present and right", false, func(i *issuer) url.Values { return callbackWith("iss", i.url) }, ""},
		{"present and another", false, func(*issuer) url.Values { return callbackWith("iss", "https://evil.example") }, Untrusted},
		{"present with a slash more", false, func(i *issuer) url.Values { return callbackWith("iss", i.url+"/") }, Untrusted},
		{"present and empty", false, func(*issuer) url.Values { return callbackWith("iss", "") }, Untrusted},
		{"absent, not advertised", false, func(*issuer) url.Values { return callbackWith() }, ""},
		{"absent, advertised", true, func(*issuer) url.Values { return callbackWith() }, Untrusted},
		{"given twice", true, func(i *issuer) url.Values {
			v := callbackWith("iss", i.url)
			v.Add("iss", "https://evil.example")
			return v
		}, Malformed},
		{"another on an error", true, func(*issuer) url.Values {
			return url.Values{"error": {"access_denied"}, "iss": {"https://evil.example"}}
		}, Untrusted},
		{"absent on an error: the person who cancelled is told so", true, func(*issuer) url.Values {
			return url.Values{"error": {"access_denied"}}
		}, Denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, "")
			i.metadata["authorization_response_iss_parameter_supported"] = tt.advertised
			_, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), tt.callback(i))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, err, tt.want)
			if n := len(i.requests("/token")); n != 0 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestOIDCRefusesATripWithoutItsProtections(t *testing.T) {
	i := newIssuer(t, "")
	delete(i.claims, "nonce") // equal to an empty one
	c := mustNew(t, oidcSettings(i))
	for _, strip := range []func(*Trip){
		func(t *Trip) { t.Nonce = "" },
		func(t *Trip) { t.Verifier = "" },
		func(t *Trip) { t.State = "" },
		func(t *Trip) { t.RedirectURI = "" },
	} {
		trip := testTrip()
		strip(&trip)
		_, err := c.AuthorizeURL(t.Context(), trip)
		wantKind(t, err, Malformed)
		_, err = c.Exchange(t.Context(), trip, callbackWith())
		wantKind(t, err, Malformed)
	}
}

func TestOIDCFollowsTheProvidersKeyRotation(t *testing.T) {
	i := newIssuer(t, "")
	c := mustNew(t, oidcSettings(i))
	for range 2 {
		if _, err := c.Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(i.requests("/keys")); n != 1 {
		t.Errorf("keys read %d times before the rotation", n)
	}
	i.mu.Lock()
	i.keys = []jose.JSONWebKey{{Key: otherRSA().Public(), KeyID: "2", Algorithm: "RS256"}}
	i.sign = func(c map[string]any) string { return signed(t, jose.RS256, otherRSA(), "2", c) }
	i.mu.Unlock()
	// go-oidc shares a read of the keys until its goroutine has put it away, which a busy machine may delay past its end: a sign-in at that
	// very moment still sees the keys from before, and the next one the new.
	var err error
	for range 50 {
		if _, err = c.Exchange(t.Context(), testTrip(), callbackWith()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("after the rotation: %v", err)
	}
	if n := len(i.requests("/keys")); n != 2 {
		t.Errorf("keys read %d times", n)
	}
}

// Keys that cannot be read are no attack: the person is to try again, not to be warned.
func TestOIDCTellsUnreadableKeysFromAWrongSignature(t *testing.T) {
	i := newIssuer(t, "")
	i.route("/keys", says(503, `{}`))
	_, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Unavailable)

	i = newIssuer(t, "")
	i.route("/keys", stalls(t))
	s := oidcSettings(i)
	s.Timeout = 100 * time.Millisecond
	_, err = mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Timeout)
}

func TestOIDCConcurrentFirstUsesMakeOneDiscoveryFetch(t *testing.T) {
	i := newIssuer(t, "")
	c := mustNew(t, oidcSettings(i))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(i.requests("/.well-known/openid-configuration")); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestOIDCStartsWithoutItsProviderAndRetriesAFailureSoon(t *testing.T) {
	i := newIssuer(t, "")
	i.mu.Lock()
	good := i.routes["/.well-known/openid-configuration"]
	i.mu.Unlock()
	i.route("/.well-known/openid-configuration", says(503, "{}"))
	var mu sync.Mutex
	now := time.Now()
	c := mustNewWith(t, oidcSettings(i), Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	for range 3 {
		_, err := c.AuthorizeURL(t.Context(), testTrip())
		wantKind(t, err, Unavailable)
	}
	if n := len(i.requests("/.well-known/openid-configuration")); n != 1 {
		t.Errorf("a provider that is down was asked %d times within a moment", n)
	}
	i.route("/.well-known/openid-configuration", good)
	mu.Lock()
	now = now.Add(failureMemory)
	mu.Unlock()
	if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
		t.Fatalf("after %s: %v", failureMemory, err)
	}
}

func TestOIDCServesOldMetadataWhileTheyCannotBeReadAgain(t *testing.T) {
	i := newIssuer(t, "")
	var mu sync.Mutex
	now := time.Now()
	c := mustNewWith(t, oidcSettings(i), Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
		t.Fatal(err)
	}
	i.route("/.well-known/openid-configuration", says(503, "{}"))
	mu.Lock()
	now = now.Add(metadataLifetime)
	mu.Unlock()
	for range 3 {
		if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
			t.Fatal(err)
		}
	}
}

// One browser that goes away does not end the fetch that others wait for.
func TestOIDCDiscoverySurvivesTheCancellationOfItsFirstCaller(t *testing.T) {
	i := newIssuer(t, "")
	i.mu.Lock()
	good := i.routes["/.well-known/openid-configuration"]
	i.mu.Unlock()
	arrived, release := make(chan struct{}), make(chan struct{})
	i.route("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		good(w, r)
	})
	c := mustNew(t, oidcSettings(i))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.AuthorizeURL(ctx, testTrip())
		first <- err
	}()
	<-arrived
	cancel()
	wantKind(t, <-first, Timeout)
	close(release)
	if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
		t.Fatal(err)
	}
	if n := len(i.requests("/.well-known/openid-configuration")); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestOIDCRefusesMetadataThatLeadElsewhere(t *testing.T) {
	tests := []struct {
		name string
		key  string
		with any
		want Kind
	}{
		{"of another issuer", "issuer", "https://evil.example", Untrusted},
		{"token endpoint over plain http", "token_endpoint", "http://provider.example/token", Malformed},
		{"no token endpoint", "token_endpoint", "", Malformed},
		{"authorization endpoint that is a script", "authorization_endpoint", "javascript:alert(1)", Malformed},
		{"no keys", "jwks_uri", nil, Malformed},
		{"of another shape", "token_endpoint_auth_methods_supported", "basic", Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, "")
			i.metadata[tt.key] = tt.with
			_, err := mustNew(t, oidcSettings(i)).AuthorizeURL(t.Context(), testTrip())
			wantKind(t, err, tt.want)
		})
	}
}

// A public provider must not have us send codes and secrets to services of this machine.
func TestOIDCEndpointsOfAPublicIssuerAreNotOnLoopback(t *testing.T) {
	c := &openID{issuer: "https://provider.example"}
	for _, u := range []string{"http://127.0.0.1:6379/", "https://localhost/token", "https://[::1]/token"} {
		if c.judgeEndpoint(u) == nil {
			t.Errorf("%s was accepted", u)
		}
	}
	if err := c.judgeEndpoint("https://token.provider.example/token"); err != nil {
		t.Error(err)
	}
}

// Claims are known by their exact names (RFC 7519 section 4). encoding/json takes SUB for sub, and the last of both, so that whoever may name a claim
// of their own at a provider could be anybody there.
func TestOIDCReadsClaimsByTheirExactNames(t *testing.T) {
	for _, name := range []string{"\u017fub", "SUB", "emai\u017f", "Email", "eMail", "email_Verified", "EMAIL_VERIFIED"} {
		i := newIssuer(t, "")
		i.claims["email_verified"] = false
		i.claims[name] = "victim@example.com"
		if strings.EqualFold(name, "email_verified") {
			i.claims[name] = true
		}
		s := oidcSettings(i)
		s.TrustEmail = true
		p, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		if err != nil {
			t.Fatal(err)
		}
		if p.Subject != "1102" || p.Email != "ann@example.com" || p.EmailVerified {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestOIDCTrustsAnAddressOnlyWhereTheOperatorDoes(t *testing.T) {
	tests := []struct {
		name  string
		trust bool
		claim any
		want  bool
	}{
		{"verified, not trusted", false, true, false},
		{"verified, trusted", true, true, true},
		{"verified as a string", true, "true", true},
		{"not verified as a string", true, "false", false},
		{"not verified", true, false, false},
		{"nothing said", true, nil, false},
		{"a number", true, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, "")
			i.claims["email_verified"] = tt.claim
			s := oidcSettings(i)
			s.TrustEmail = tt.trust
			p, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
			if err != nil {
				t.Fatal(err)
			}
			if p.EmailVerified != tt.want || p.Email != "ann@example.com" {
				t.Errorf("verified %v %q, want %v", p.EmailVerified, p.Email, tt.want)
			}
		})
	}
}

func TestOIDCUserInfoFillsWhatTheIDTokenLacks(t *testing.T) {
	thin := func(t *testing.T) *issuer {
		i := newIssuer(t, "")
		delete(i.claims, "email")
		delete(i.claims, "email_verified")
		i.userinfo = map[string]any{"sub": "1102", "email": "ann@work.example", "email_verified": "true", "name": "Other Name"}
		return i
	}
	t.Run("off", func(t *testing.T) {
		i := thin(t)
		p, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith())
		if err != nil {
			t.Fatal(err)
		}
		if p.Email != "" || len(i.requests("/userinfo")) != 0 {
			t.Errorf("email %q, %d requests", p.Email, len(i.requests("/userinfo")))
		}
	})
	t.Run("on", func(t *testing.T) {
		i := thin(t)
		s := oidcSettings(i)
		s.UserInfo, s.TrustEmail = true, true
		p, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		if err != nil {
			t.Fatal(err)
		}
		if p.Email != "ann@work.example" || !p.EmailVerified || p.Name != "Ann Lee" {
			t.Errorf("%+v", p)
		}
		if got := i.requests("/userinfo")[0].header.Get("Authorization"); got != "Bearer "+testToken {
			t.Errorf("Authorization %q", got)
		}
	})
	// Token substitution (OpenID Connect Core section 5.3.2).
	t.Run("of another person", func(t *testing.T) {
		for _, sub := range []any{"1103", "", nil} {
			i := thin(t)
			i.userinfo["sub"] = sub
			s := oidcSettings(i)
			s.UserInfo = true
			_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
			wantKind(t, err, Untrusted)
		}
	})
	// An address from one source is not verified by the word of another.
	t.Run("does not verify the ID token's address", func(t *testing.T) {
		i := newIssuer(t, "")
		delete(i.claims, "name")
		delete(i.claims, "email_verified")
		i.userinfo = map[string]any{"sub": "1102", "email": "ann@work.example", "email_verified": true, "name": "Ann"}
		s := oidcSettings(i)
		s.UserInfo, s.TrustEmail = true, true
		p, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		if err != nil {
			t.Fatal(err)
		}
		if p.Email != "ann@example.com" || p.EmailVerified || p.Name != "Ann" {
			t.Errorf("%+v", p)
		}
	})
	t.Run("fails", func(t *testing.T) {
		for status, want := range map[int]Kind{401: Expired, 503: Unavailable, 429: RateLimited, 302: Malformed} {
			i := thin(t)
			i.route("/userinfo", says(status, `{}`))
			s := oidcSettings(i)
			s.UserInfo = true
			_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
			wantKind(t, err, want)
		}
		i := thin(t)
		i.route("/userinfo", says(200, `[]`))
		s := oidcSettings(i)
		s.UserInfo = true
		_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		wantKind(t, err, Malformed)
	})
}

func TestOIDCClassifiesTheTokenEndpointsFailures(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   Kind
		code   string
	}{
		{"used code", 400, `{"error":"invalid_grant","error_description":"Bad Request"}`, Expired, "invalid_grant"},
		{"wrong secret", 401, `{"error":"invalid_client"}`, Misconfigured, "invalid_client"},
		{"wrong secret, said by status alone", 401, ``, Misconfigured, ""},
		{"wrong redirect URI", 400, `{"error":"redirect_uri_mismatch"}`, Misconfigured, "redirect_uri_mismatch"},
		{"an echo of our secrets", 400, `{"error":"invalid_grant","error_description":"Malformed auth code ` + testCode + ` of ` + testSecret + `"}`, Expired, "invalid_grant"},
		{"down", 503, `<html>`, Unavailable, ""},
		{"gateway timeout", 504, ``, Timeout, ""},
		{"too many requests", 429, ``, RateLimited, ""},
		{"not JSON", 200, `<html>`, Malformed, ""},
		{"truncated JSON", 200, `{"access_token":"a`, Malformed, ""},
		{"no access token", 200, `{"id_token":"x"}`, Malformed, ""},
		{"another token type", 200, `{"access_token":"a","token_type":"mac"}`, Malformed, ""},
		{"an error that is no string", 400, `{"error":{"code":1}}`, Malformed, ""},
		{"unknown error", 400, `{"error":"weird\u0000\"thing"}`, Malformed, "weirdthing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, "")
			i.route("/token", says(tt.status, tt.body))
			_, err := mustNew(t, oidcSettings(i)).Exchange(t.Context(), testTrip(), callbackWith())
			if e := wantKind(t, err, tt.want); e.UpstreamCode != tt.code {
				t.Errorf("code %q, want %q", e.UpstreamCode, tt.code)
			}
			// x/oauth2 with an unset style would send the code a second time, in the body.
			if n := len(i.requests("/token")); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestOIDCAuthenticatesAsTheProviderSaysOrTheOperator(t *testing.T) {
	tests := []struct {
		style   string
		methods []string
		basic   bool
		secret  string // in the body
	}{
		{"", nil, true, ""},
		{"", []string{"client_secret_post"}, false, testSecret},
		{"", []string{"client_secret_post", "client_secret_basic"}, true, ""},
		{"post", []string{"client_secret_basic"}, false, testSecret},
		{"basic", []string{"client_secret_post"}, true, ""},
		{"none", nil, false, ""},
	}
	for _, tt := range tests {
		i := newIssuer(t, "")
		i.metadata["token_endpoint_auth_methods_supported"] = tt.methods
		s := oidcSettings(i)
		s.AuthStyle, s.ClientID, s.ClientSecret = tt.style, testClient, testSecret
		if tt.style == "none" {
			s.ClientSecret = ""
		}
		if _, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
			t.Fatal(err)
		}
		r := i.requests("/token")[0]
		if got := r.header.Get("Authorization") != ""; got != tt.basic {
			t.Errorf("%q %v: Basic %v", tt.style, tt.methods, got)
		}
		if got := r.form.Get("client_secret"); got != tt.secret {
			t.Errorf("%q %v: client_secret in the body %q", tt.style, tt.methods, got)
		}
	}
}

func TestConcurrentLoginsDoNotMix(t *testing.T) {
	i := newIssuer(t, "")
	i.route("/token", func(w http.ResponseWriter, r *http.Request) {
		// The code says whose login it is; the verifier has to be of the same one.
		who := strings.TrimPrefix(r.Form.Get("code"), "code-")
		if !strings.HasSuffix(r.Form.Get("code_verifier"), who) {
			says(400, `{"error":"invalid_grant"}`)(w, r)
			return
		}
		now := time.Now()
		raw := signed(t, jose.RS256, testRSA(), "1", map[string]any{
			"iss": i.url, "aud": testClient, "sub": who, "nonce": "nonce-" + who, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		})
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"access_token": "token-" + who, "id_token": raw})
	})
	c := mustNew(t, oidcSettings(i))
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			who := string(rune('a' + n))
			trip := testTrip()
			trip.Nonce, trip.Verifier = "nonce-"+who, testVerifier+who
			p, err := c.Exchange(t.Context(), trip, url.Values{"code": {"code-" + who}})
			if err != nil {
				t.Error(err)
			} else if p.Subject != who {
				t.Errorf("%s became %s", who, p.Subject)
			}
		})
	}
	wg.Wait()
}

func TestGoogleAcceptsItsLegacyIssuerAndReportsTheCanonicalOne(t *testing.T) {
	i := newIssuer(t, "/google")
	i.claims["iss"] = strings.TrimPrefix(i.url, "http://")
	c := mustNew(t, Settings{Type: "google", Issuer: i.url})
	p, err := c.Exchange(t.Context(), testTrip(), callbackWith("iss", i.url))
	if err != nil {
		t.Fatal(err)
	}
	if p.Issuer != i.url {
		t.Errorf("issuer %q, want %q: one person would be two", p.Issuer, i.url)
	}
	real := mustNew(t, Settings{Type: "google"}).(*openID)
	if real.issuer != "https://accounts.google.com" || real.legacyIssuer != "accounts.google.com" {
		t.Errorf("%q %q", real.issuer, real.legacyIssuer)
	}
}

func TestGooglePinsRS256(t *testing.T) {
	i := newIssuer(t, "/google")
	i.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "ES256"}
	i.keys = append(i.keys, jose.JSONWebKey{Key: testEC().Public(), KeyID: "ec"})
	i.sign = func(c map[string]any) string { return signed(t, jose.ES256, testEC(), "ec", c) }
	_, err := mustNew(t, Settings{Type: "google", Issuer: i.url}).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Untrusted)
}

func TestGoogleDecidesByItsAuthority(t *testing.T) {
	tests := []struct {
		name     string
		email    text
		verified flag
		hd       text
		domains  []string
		want     bool
		kind     Kind
	}{
		{"gmail.com", "ann@gmail.com", true, "", nil, true, ""},
		{"gmail.com in capitals", "Ann@GMAIL.com", true, "", nil, true, ""},
		{"gmail.com, not verified", "ann@gmail.com", false, "", nil, false, ""},
		{"ends like gmail.com", "ann@evilgmail.com", true, "", nil, false, ""},
		{"any address with a Google account: not Google's to vouch for", "ann@example.com", true, "", nil, false, ""},
		{"Workspace", "ann@example.com", true, "example.com", nil, true, ""},
		{"Workspace, not verified", "ann@example.com", false, "example.com", nil, false, ""},
		{"of an allowed domain", "ann@example.com", true, "Example.com", []string{"other.org", "example.com"}, true, ""},
		{"of another domain", "ann@example.com", true, "example.com", []string{"other.org"}, false, NotAllowed},
		{"an address of the domain without being of its Workspace", "ann@other.org", true, "", []string{"other.org"}, false, NotAllowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &Profile{Email: string(tt.email)}
			e := decideGoogle(claims{Email: tt.email, EmailVerified: tt.verified, HostedDomain: tt.hd}, p, tt.domains)
			if tt.kind != "" {
				if e == nil || e.Kind != tt.kind {
					t.Errorf("%v, want %s", e, tt.kind)
				}
				return
			}
			if e != nil || p.EmailVerified != tt.want {
				t.Errorf("verified %v (%v), want %v", p.EmailVerified, e, tt.want)
			}
		})
	}
}

// The hd parameter is a hint that the browser can change: only the claim counts.
func TestGoogleHostedDomainIsCheckedInTheToken(t *testing.T) {
	i := newIssuer(t, "/google")
	c := mustNew(t, Settings{Type: "google", Issuer: i.url, HostedDomains: []string{"Example.com"}})
	raw, err := c.AuthorizeURL(t.Context(), testTrip())
	if err != nil {
		t.Fatal(err)
	}
	if u, _ := url.Parse(raw); u.Query().Get("hd") != "example.com" {
		t.Errorf("no hd in %s", raw)
	}
	_, err = c.Exchange(t.Context(), testTrip(), callbackWith("hd", "example.com"))
	wantKind(t, err, NotAllowed)
	i.claims["hd"] = "example.com"
	p, err := c.Exchange(t.Context(), testTrip(), callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	if p.HostedDomain != "example.com" || !p.EmailVerified {
		t.Errorf("%+v", p)
	}
}

func TestGoogleHintsAreGooglesOwn(t *testing.T) {
	tests := []struct {
		trip    Trip
		domains []string
		want    url.Values
	}{
		{Trip{Prompt: "login", LoginHint: "ann"}, nil, url.Values{"login_hint": {"ann"}, "prompt": {"select_account"}}},
		{Trip{Prompt: "select_account", UILocales: "de"}, []string{"a.example", "b.example"}, url.Values{"login_hint": {""}, "prompt": {"select_account"}, "hd": {"*"}}},
		{Trip{}, nil, url.Values{"login_hint": {""}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, googleHints(tt.trip, tt.domains)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestErrorsKeepTheContextsCause(t *testing.T) {
	i := newIssuer(t, "")
	i.route("/token", stalls(t))
	c := mustNew(t, oidcSettings(i))
	if _, err := c.AuthorizeURL(t.Context(), testTrip()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Exchange(ctx, testTrip(), callbackWith())
	wantKind(t, err, Timeout)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is no DeadlineExceeded", err)
	}
}
