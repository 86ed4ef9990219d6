package broker_test

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// fapi is an app that is held to the FAPI 2.0 Security Profile: private_key_jwt and DPoP.
type fapi struct {
	*Env
	t       testing.TB
	client  Client
	private clientKey
	proofs  *Key
}

func startFAPI(t *testing.T, edits ...func(*config.Client)) *fapi {
	t.Helper()
	return startFAPIBeside(t, nil, edits...)
}

// startFAPIBeside starts one in a broker with these apis.
func startFAPIBeside(t *testing.T, apis []config.API, edits ...func(*config.Client)) *fapi {
	t.Helper()
	key := newClientKey(t, "k1")
	e := Start(t, func(cfg *config.Config) {
		c := cfg.Clients[0]
		c.ClientID, c.ClientSecret, c.Profile = "bank-app", config.Secret{}, "fapi2"
		c.TokenEndpointAuthMethod, c.JWKS = "private_key_jwt", config.NewSecret(key.jwks(t))
		c.IDTokenSignedResponseAlg = "ES256"
		for _, edit := range edits {
			edit(&c)
		}
		cfg.Clients = append(cfg.Clients, c)
		cfg.Tokens.CodeLifetime = config.Duration(10 * time.Minute)
		cfg.APIs = apis
	})
	return &fapi{Env: e, t: t, client: Client{ID: "bank-app", RedirectURI: Web.RedirectURI}, private: key, proofs: e.NewKey(t)}
}

// call asks an endpoint as the app: with an assertion, and with a proof if proven is true.
func (f *fapi) call(path string, form url.Values, proven bool) *Response {
	f.t.Helper()
	header := http.Header{}
	if proven {
		header.Set("DPoP", f.proofs.Proof(http.MethodPost, f.Issuer+path))
	}
	assertion := f.private.sign(f.t, "", claimsOf(f.Env, f.client.ID))
	return f.PostWith(f.t, path, Client{}, withAssertion(assertion, form), header)
}

// code pushes a request, signs in, and returns what the app is told.
func (f *fapi) code(edits ...string) url.Values {
	f.t.Helper()
	r := f.call("/par", edited(AuthorizeParams(f.client), append(edits, "idp_hint", "google")...), false)
	if r.Status != http.StatusCreated {
		f.t.Fatalf("pushing: %d %v", r.Status, r.Body)
	}
	return arrived(f.t, NewBrowser(f.t), pushedURL(f.Env, f.client, r.String("request_uri")), f.client)
}

// The whole profile, as an app goes through it (FAPI 2.0 Security Profile section 5.3.2).
func TestAFAPI2Client(t *testing.T) {
	f := startFAPI(t)
	answer := f.code()
	if answer.Get("iss") != f.Issuer || answer.Get("code") == "" {
		t.Fatalf("the app is told %v", answer)
	}
	form := RedeemForm(f.client, answer.Get("code"))
	if r := f.call("/token", form, false); r.String("error") != "invalid_request" {
		t.Errorf("without a proof the code gives %d %v: bearer tokens are not for this client (5.3.2.1 number 4)", r.Status, r.Body)
	}
	tokens := f.call("/token", form, true)
	if tokens.Status != http.StatusOK || tokens.String("token_type") != "DPoP" || tokens.String("id_token") == "" {
		t.Fatalf("the code gives %d %v", tokens.Status, tokens.Body)
	}
	// 5.3.2.1 number 9: the refresh token stays, however often and late it is used.
	for range 3 {
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}}
		if r := f.call("/token", refresh, false); r.Status != http.StatusBadRequest {
			t.Errorf("a refresh without a proof gives %d %v", r.Status, r.Body)
		}
		r := f.call("/token", refresh, true)
		if r.Status != http.StatusOK || r.String("refresh_token") != tokens.String("refresh_token") || r.String("token_type") != "DPoP" {
			t.Fatalf("a refresh gives %d %v, want the same refresh token", r.Status, r.Body)
		}
		if !f.active(r.String("refresh_token")) || !f.active(r.String("access_token")) {
			t.Error("introspection calls a good token inactive")
		}
		f.Clock.Advance(time.Hour)
	}
	if r := f.call("/token", form, true); r.String("error") != "invalid_grant" {
		t.Errorf("the code, again, gives %d %v", r.Status, r.Body)
	}
}

func (f *fapi) active(token string) bool {
	f.t.Helper()
	active, _ := f.call("/introspect", url.Values{"token": {token}}, false).Body["active"].(bool)
	return active
}

// The profile's other half: mutual TLS instead of assertions and proofs.
func TestAFAPI2ClientWithACertificate(t *testing.T) {
	mine, another := selfSigned(t), selfSigned(t)
	e := Start(t, certificateClients(config.MTLSTLS, nil, mine), func(cfg *config.Config) {
		for i := range cfg.Clients {
			if c := &cfg.Clients[i]; c.ClientID == "self" {
				c.Profile, c.IDTokenSignedResponseAlg, c.CertificateBoundAccessTokens = "fapi2", "ES256", true
			}
		}
		// Without an authority, tls_client_auth is not switched on.
		cfg.Clients = slices.DeleteFunc(cfg.Clients, func(c config.Client) bool { return c.ClientID == "pki" })
	})
	call := overTLS(t, e)
	client := Client{ID: "self", RedirectURI: Web.RedirectURI}
	post := func(pair *tls.Certificate, path string, form url.Values) *Response {
		form.Set("client_id", client.ID)
		return call(t, pair, http.MethodPost, path, form)
	}
	request := edited(AuthorizeParams(client), "idp_hint", "google")
	if r := post(&another, "/par", request); r.Status != http.StatusUnauthorized {
		t.Errorf("pushing with another certificate: %d %v", r.Status, r.Body)
	}
	r := post(&mine, "/par", request)
	if r.Status != http.StatusCreated {
		t.Fatalf("pushing: %d %v", r.Status, r.Body)
	}
	answer := arrived(t, NewBrowser(t), pushedURL(e, client, r.String("request_uri")), client)
	tokens := post(&mine, "/token", RedeemForm(client, answer.Get("code")))
	if tokens.Status != http.StatusOK || tokens.String("token_type") != "Bearer" {
		t.Fatalf("the code gives %d %v", tokens.Status, tokens.Body)
	}
	inspected := post(&mine, "/introspect", url.Values{"token": {tokens.String("access_token")}})
	if confirm, _ := inspected.Body["cnf"].(map[string]any); confirm["x5t#S256"] != thumbprint(mine) {
		t.Errorf("the token is bound to %v, want the certificate", inspected.Body["cnf"])
	}
	refreshed := post(&mine, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}})
	if refreshed.String("refresh_token") != tokens.String("refresh_token") {
		t.Errorf("the refresh gives %d %v, want the same refresh token", refreshed.Status, refreshed.Body)
	}
}

// A refresh token that stays still ends when it is idle: its use is what counts, though it does not change.
func TestARefreshTokenThatStaysExpiresWhenItIsIdle(t *testing.T) {
	f := startFAPI(t, func(c *config.Client) { c.RefreshIdleLifetime = config.Duration(time.Hour) })
	tokens := f.call("/token", RedeemForm(f.client, f.code().Get("code")), true)
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}}
	for range 3 {
		f.Clock.Advance(50 * time.Minute)
		if r := f.call("/token", refresh, true); r.Status != http.StatusOK {
			t.Fatalf("used within the hour, the refresh token gives %d %v", r.Status, r.Body)
		}
	}
	f.Clock.Advance(time.Hour)
	if r := f.call("/token", refresh, true); r.String("error") != "invalid_grant" {
		t.Errorf("unused for an hour, the refresh token gives %d %v", r.Status, r.Body)
	}
}

// What the profile forbids, each with what it is there to prevent.
func TestWhatAFAPI2ClientMayNotDo(t *testing.T) {
	f := startFAPI(t)
	t.Run("a request in the address (5.3.2.2 number 3)", func(t *testing.T) {
		if answer := f.Code(t, NewBrowser(t), f.client); answer.Get("error") != "invalid_request" {
			t.Errorf("got %v", answer)
		}
	})
	t.Run("a signed request in the address", func(t *testing.T) {
		raw := f.private.sign(t, "oauth-authz-req+jwt", object(f.Env, f.client, nil))
		if answer := arrived(t, NewBrowser(t), objectURL(f.Env, f.client, raw), f.client); answer.Get("error") != "invalid_request" {
			t.Errorf("got %v", answer)
		}
	})
	t.Run("pushing without authentication (5.3.2.2 number 4)", func(t *testing.T) {
		if r := f.Post(t, "/par", f.client, AuthorizeParams(f.client)); r.Status != http.StatusUnauthorized {
			t.Errorf("got %d %v", r.Status, r.Body)
		}
	})
	t.Run("a request without redirect URI (5.3.2.2 number 6)", func(t *testing.T) {
		if r := f.call("/par", edited(AuthorizeParams(f.client), "redirect_uri", ""), false); r.Status != http.StatusBadRequest {
			t.Errorf("got %d %v", r.Status, r.Body)
		}
	})
	t.Run("a code of more than a minute (5.3.2.1 number 11)", func(t *testing.T) {
		code := f.code().Get("code")
		f.Clock.Advance(61 * time.Second)
		if r := f.call("/token", RedeemForm(f.client, code), true); r.String("error") != "invalid_grant" {
			t.Errorf("got %d %v", r.Status, r.Body)
		}
	})
	t.Run("a token signed with RS256, for an API that wants it so (5.4.1)", func(t *testing.T) {
		const old, current = "https://old.example.com", "https://current.example.com"
		f := startFAPIBeside(t, []config.API{
			{Identifier: old, Name: "Old", AccessTokenFormat: "jwt", AccessTokenSigningAlg: "RS256", Scopes: []config.Scope{{Name: "old", Sentence: "Old"}}},
			{Identifier: current, Name: "Current", AccessTokenFormat: "jwt", Scopes: []config.Scope{{Name: "current", Sentence: "Current"}}},
		}, func(c *config.Client) {
			c.Scopes, c.GrantTypes = append(c.Scopes, "old", "current"), append(c.GrantTypes, "client_credentials")
		})
		ask := func(resource string) *Response {
			return f.call("/token", url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}, true)
		}
		if r := ask(old); r.String("error") != "invalid_target" {
			t.Errorf("got %d %v", r.Status, r.Body)
		}
		if r := ask(current); r.Status != http.StatusOK {
			t.Errorf("signed with ES256: %d %v", r.Status, r.Body)
		}
	})
	t.Run("a code that a proof bound to another key", func(t *testing.T) {
		form := edited(AuthorizeParams(f.client), "idp_hint", "google")
		r := f.call("/par", form, true)
		code := arrived(t, NewBrowser(t), pushedURL(f.Env, f.client, r.String("request_uri")), f.client).Get("code")
		thief := *f
		thief.proofs = f.NewKey(t)
		if r := thief.call("/token", RedeemForm(f.client, code), true); r.Status != http.StatusBadRequest {
			t.Errorf("another key redeems the code: %d %v", r.Status, r.Body)
		}
		if r := f.call("/token", RedeemForm(f.client, code), true); r.Status != http.StatusOK {
			t.Errorf("its own key does not: %d %v", r.Status, r.Body)
		}
		// Both said, they have to agree (RFC 9449 section 10.1).
		if r := f.call("/par", edited(form, "dpop_jkt", thief.proofs.JKT), true); r.String("error") != "invalid_dpop_proof" {
			t.Errorf("dpop_jkt of another key than the proof's: %d %v", r.Status, r.Body)
		}
	})
	objects := func(edits map[string]any) *Response {
		raw := f.private.sign(t, "oauth-authz-req+jwt", object(f.Env, f.client, edits))
		return f.call("/par", url.Values{"request": {raw}}, false)
	}
	for name, edits := range map[string]map[string]any{
		"a request object without exp":            {"exp": nil},
		"a request object for two hours":          {"exp": f.Clock.Now().Add(2 * time.Hour).Unix()},
		"a request object from two hours ago":     {"nbf": f.Clock.Now().Add(-2 * time.Hour).Unix()},
		"a request object from a minute too soon": {"nbf": f.Clock.Now().Add(2 * time.Minute).Unix()},
	} {
		t.Run(name, func(t *testing.T) {
			if r := objects(edits); r.String("error") != "invalid_request_object" {
				t.Errorf("got %d %v", r.Status, r.Body)
			}
		})
	}
	if r := objects(nil); r.Status != http.StatusCreated {
		t.Errorf("a good request object gets %d %v", r.Status, r.Body)
	}
}

// checkClient says what is wrong with a configuration with one more client.
func checkClient(e *Env, c config.Client) error {
	cfg := *e.Config
	cfg.Clients = append(cfg.Clients[:len(cfg.Clients):len(cfg.Clients)], c)
	return broker.Check(&cfg)
}

// A registration that the profile does not allow is refused with the rule that it breaks, before anybody relies on it.
func TestAFAPI2RegistrationNamesTheRuleThatItBreaks(t *testing.T) {
	e := Start(t)
	key := newClientKey(t, "k1")
	good := config.Client{
		ClientID: "x", Name: "X", Profile: "fapi2", TokenEndpointAuthMethod: "private_key_jwt", JWKS: config.NewSecret(key.jwks(t)),
		IDTokenSignedResponseAlg: "ES256", RedirectURIs: []string{"https://x.example.com/cb", "http://127.0.0.1/cb"}, Scopes: []string{"openid"},
	}
	for want, edit := range map[string]func(*config.Client){
		"":                 func(*config.Client) {},
		"5.3.2.1 number 3": func(c *config.Client) { c.Public, c.TokenEndpointAuthMethod, c.JWKS = true, "", config.Secret{} },
		"5.3.2.1 number 6": func(c *config.Client) {
			c.TokenEndpointAuthMethod, c.ClientSecret = "client_secret_basic", config.NewSecret(Web.Secret)
		},
		"5.3.2.1 number 2": func(c *config.Client) { c.GrantTypes = []string{"authorization_code", "password"} },
		"5.3.2.2 number 5": func(c *config.Client) { c.PKCE = "optional" },
		"5.3.2.2 number 8": func(c *config.Client) { c.RedirectURIs = []string{"com.example.x:/cb"} },
		"5.4.1":            func(c *config.Client) { c.IDTokenSignedResponseAlg = "RS256" },
	} {
		c := good
		edit(&c)
		if err := checkClient(e, c); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), "section "+want+")") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for name, edit := range map[string]func(*config.Client){
		"token_endpoint_auth_signing_alg": func(c *config.Client) { c.TokenEndpointAuthSigningAlg = "RS256" },
		"request_object_signing_alg":      func(c *config.Client) { c.RequestObjectSigningAlg = "RS256" },
	} {
		c := good
		edit(&c)
		if err := checkClient(e, c); err == nil || !strings.Contains(err.Error(), name+": must be PS256") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
