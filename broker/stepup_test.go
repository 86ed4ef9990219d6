package broker_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/config"
)

// bank is an OpenID provider that says how its people sign in (amr), and signs them in without a page.
type bank struct {
	*httptest.Server
	mu    sync.Mutex
	amr   []string
	acr   string
	asked url.Values // the parameters of the last authorization request
	nonce string
}

// with sets how people sign in there from now on.
func (b *bank) with(amr ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.amr = amr
}

// as sets the class that sign-ins there are of.
func (b *bank) as(acr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acr = acr
}

func (b *bank) lastAsked() url.Values {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func newBank(t *testing.T) *bank {
	t.Helper()
	key := newClientKey(t, "bank")
	b := &bank{}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": b.URL, "authorization_endpoint": b.URL + "/authorize", "token_endpoint": b.URL + "/token", "jwks_uri": b.URL + "/jwks",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(key.jwks(t)))
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		b.mu.Lock()
		b.asked, b.nonce = q, q.Get("nonce")
		b.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c"}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		now := time.Now().Unix()
		answer(w, map[string]any{
			"access_token": "at", "token_type": "Bearer", "id_token": key.sign(t, "JWT", map[string]any{
				"iss": b.URL, "aud": "portico", "sub": "customer-1", "exp": now + 300, "iat": now, "auth_time": now, "nonce": b.nonce, "amr": b.amr, "acr": b.acr,
				"email": "customer@bank.example", "name": "Cora Customer",
			}),
		})
	})
	b.Server = httptest.NewServer(mux)
	t.Cleanup(b.Close)
	return b
}

// startWithBank runs a broker whose first client's people sign in at the bank.
func startWithBank(t *testing.T, edits ...func(*config.Config)) (*Env, *bank) {
	t.Helper()
	b := newBank(t)
	e := Start(t, append([]func(*config.Config){func(cfg *config.Config) {
		cfg.Connectors = append(cfg.Connectors, config.Connector{
			Name: "bank", Type: "oidc", Issuer: b.URL, ClientID: "portico", ClientSecret: config.NewSecret("bank-secret"),
		})
	}}, edits...)...)
	return e, b
}

// An API wants more than the person's session can show (RFC 9470): they sign in again at their provider, and the new tokens say how,
// in all three places where an API or an app reads it.
func TestStepUp(t *testing.T) {
	e, bank := startWithBank(t)
	b := NewBrowser(t)
	bank.with("pwd")
	tokens := e.SignIn(t, b, First, "idp_hint", "bank")
	if got := Claims(t, tokens.String("id_token"))["acr"]; got != oauth.ACRFederated {
		t.Errorf("with a password alone, acr is %v", got)
	}
	silent := func(edits ...string) bool {
		location := b.Get(e.AuthorizeURL(First, append(edits, "idp_hint", "bank")...)).Location()
		return strings.HasPrefix(location.String(), First.RedirectURI)
	}
	if !silent() || !silent("acr_values", oauth.ACRFederated) || !silent("acr_values", "urn:example:unheard-of") {
		t.Error("a session that suffices, or that nothing here could better, is not taken")
	}
	if silent("acr_values", oauth.ACRMFA) {
		t.Error("a session of one factor serves where two are asked for")
	}
	bank.with("pwd", "otp")
	stronger := e.SignIn(t, b, First, "idp_hint", "bank", "acr_values", oauth.ACRMFA)
	if got := bank.lastAsked().Get("prompt"); got != "login" {
		t.Errorf("the provider was asked with prompt=%q, which does not give it the occasion to ask for more", got)
	}
	inspected := e.Post(t, "/introspect", First, url.Values{"token": {stronger.String("access_token")}})
	for where, claims := range map[string]map[string]any{
		"ID token": Claims(t, stronger.String("id_token")), "access token (RFC 9068)": Claims(t, stronger.String("access_token")), "introspection (RFC 9470)": inspected.Body,
	} {
		if claims["acr"] != oauth.ACRMFA || claims["auth_time"] == nil {
			t.Errorf("%s: acr is %v, auth_time %v", where, claims["acr"], claims["auth_time"])
		}
	}
	if !silent("acr_values", oauth.ACRMFA) {
		t.Error("the stronger session is not taken")
	}
	// A refreshed token says what the sign-in was, however long ago.
	refreshed := e.Refresh(t, First, stronger.String("refresh_token"))
	if got := Claims(t, refreshed.String("access_token"))["acr"]; got != oauth.ACRMFA {
		t.Errorf("refreshed, acr is %v", got)
	}
	// Asked for less, it says what was asked for: the app compares.
	if got := Claims(t, e.SignIn(t, b, First, "acr_values", oauth.ACRFederated).String("id_token"))["acr"]; got != oauth.ACRFederated {
		t.Errorf("asked for the federated class, acr is %v", got)
	}
}

// A provider that has an acr of its own for more than one factor is asked for it, where an app wants that, and believed.
func TestAProvidersOwnClassIsAskedForAndBelieved(t *testing.T) {
	e, bank := startWithBank(t, func(cfg *config.Config) {
		cfg.Connectors[len(cfg.Connectors)-1].MFAACRValues = []string{"gold", "platinum"}
	})
	b := NewBrowser(t)
	bank.as("silver")
	if got := Claims(t, e.SignIn(t, b, First, "idp_hint", "bank").String("id_token"))["acr"]; got != oauth.ACRFederated {
		t.Errorf("with another of its classes, acr is %v", got)
	}
	if bank.lastAsked().Has("acr_values") {
		t.Error("the provider was asked for more than the app wants")
	}
	bank.as("gold")
	if got := Claims(t, e.SignIn(t, b, First, "idp_hint", "bank", "acr_values", oauth.ACRMFA).String("id_token"))["acr"]; got != oauth.ACRMFA {
		t.Errorf("with one of the classes that count, acr is %v", got)
	}
	if got := bank.lastAsked().Get("acr_values"); got != "gold platinum" {
		t.Errorf("the provider was asked for %q", got)
	}
}

// Where the provider cannot give what is asked for, a wish goes on with what there is, and a demand fails with its own error (OpenID Connect
// Core section 5.5.1.1).
func TestUnmetAuthenticationRequirements(t *testing.T) {
	e, bank := startWithBank(t)
	bank.with("pwd")
	essential := func(values ...string) string {
		raw, _ := json.Marshal(map[string]any{"id_token": map[string]any{"acr": map[string]any{"essential": true, "values": values}}})
		return string(raw)
	}
	b := NewBrowser(t)
	if got := Claims(t, e.SignIn(t, b, First, "idp_hint", "bank", "acr_values", oauth.ACRMFA).String("id_token"))["acr"]; got != oauth.ACRFederated {
		t.Errorf("a wish that cannot be met gives acr %v", got)
	}
	if answer := e.Code(t, b, First, "prompt", "none", "acr_values", oauth.ACRMFA); answer.Get("code") == "" {
		t.Errorf("a wish with prompt=none gives %v", answer)
	}
	if answer := e.Code(t, b, First, "idp_hint", "bank", "claims", essential(oauth.ACRMFA)); answer.Get("error") != "unmet_authentication_requirements" || answer.Get("state") != "st-1" {
		t.Errorf("a demand that cannot be met gives %v", answer)
	}
	if answer := e.Code(t, b, First, "prompt", "none", "claims", essential(oauth.ACRMFA)); answer.Get("error") != "login_required" {
		t.Errorf("a demand with prompt=none gives %v: signing in might meet it", answer)
	}
	if answer := e.Code(t, b, First, "claims", essential("urn:example:unheard-of")); answer.Get("error") != "unmet_authentication_requirements" {
		t.Errorf("a demand for what is not had here gives %v", answer)
	}
	if answer := e.Code(t, b, First, "claims", essential("urn:example:unheard-of", oauth.ACRFederated)); answer.Get("code") == "" {
		t.Errorf("a demand with one value that is met gives %v", answer)
	}
	bank.with("mfa")
	if got := Claims(t, e.SignIn(t, b, First, "idp_hint", "bank", "claims", essential(oauth.ACRMFA)).String("id_token"))["acr"]; got != oauth.ACRMFA {
		t.Errorf("a demand that is met gives acr %v", got)
	}
}

// What is registered holds where the request says nothing (OpenID Connect Dynamic Registration section 2).
func TestAClientsDefaultsHoldWhereARequestSaysNothing(t *testing.T) {
	e, bank := startWithBank(t, func(cfg *config.Config) {
		for i := range cfg.Clients {
			if cfg.Clients[i].ClientID == First.ID {
				cfg.Clients[i].DefaultACRValues = []string{oauth.ACRMFA}
			}
			if cfg.Clients[i].ClientID == Web.ID {
				cfg.Clients[i].DefaultMaxAge = config.Duration(60e9)
			}
		}
	})
	bank.with("hwk", "pin")
	b := NewBrowser(t)
	if got := Claims(t, e.SignIn(t, b, First, "idp_hint", "bank").String("id_token"))["acr"]; got != oauth.ACRMFA {
		t.Errorf("acr is %v", got)
	}
	if bank.lastAsked().Get("prompt") != "login" {
		t.Error("the client's default acr values were not passed on")
	}
	e.SignIn(t, b, Web, "idp_hint", "bank")
	if e.Code(t, b, Web, "prompt", "none").Get("code") == "" {
		t.Error("a session of seconds is too old for a default_max_age of a minute")
	}
	e.Clock.Advance(61e9)
	if got := e.Code(t, b, Web, "prompt", "none").Get("error"); got != "login_required" {
		t.Errorf("a session of 61 seconds under a default_max_age of 60: %q", got)
	}
	if e.Code(t, b, Web, "prompt", "none", "max_age", "3600").Get("code") == "" {
		t.Error("the request's max_age does not stand before the default")
	}
}

// Single claims (OpenID Connect Core section 5.5): each where it was asked for, after the person agreed to the sentence that it amounts
// to, and for as long as the grant lives.
func TestTheClaimsParameter(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		asked := `{"userinfo": {"email": {"essential": true}, "nickname": null}, "id_token": {"name": null, "auth_time": {"essential": true}, "given_name": {"value": "Nobody"}}, "other": {"x": 1}}`
		page := toConsent(t, b, b.Get(e.AuthorizeURL(Web, "idp_hint", "google", "login_hint", "ann", "scope", "openid offline_access", "claims", asked)))
		for _, sentence := range []string{oauth.Scopes()["email"], oauth.Scopes()["profile"]} {
			if !strings.Contains(page.Body, sentence) {
				t.Errorf("the consent page does not say %q", sentence)
			}
		}
		location, _ := page.Submit(0, "allow").Walk(Web.RedirectURI)
		tokens := e.Redeem(t, Web, location.Query().Get("code"))
		if tokens.String("scope") != "openid offline_access" {
			t.Errorf("the scope became %q", tokens.String("scope"))
		}
		check := func(when string, tokens *Response) {
			t.Helper()
			id := Claims(t, tokens.String("id_token"))
			if id["name"] != "Ann Lee" || id["auth_time"] == nil {
				t.Errorf("%s: the ID token has %v", when, id)
			}
			for _, name := range []string{"email", "given_name", "nickname", "picture"} {
				if _, has := id[name]; has {
					t.Errorf("%s: the ID token has %s, which was not asked for there, or with another value", when, name)
				}
			}
			info := e.Userinfo(t, tokens.String("access_token"))
			if info.String("email") != "ann.lee@gmail.com" || info.Body["name"] != nil {
				t.Errorf("%s: userinfo has %v", when, info.Body)
			}
		}
		check("at first", tokens)
		check("refreshed", e.Refresh(t, Web, tokens.String("refresh_token")))
		// What was agreed to once is not asked again; what was not, is.
		if answer := e.Code(t, b, Web, "prompt", "none", "claims", `{"userinfo":{"email":null}}`); answer.Get("code") == "" {
			t.Errorf("asked again: %v", answer)
		}
		fresh := NewBrowser(t)
		e.SignIn(t, fresh, Web, "idp_hint", "google", "login_hint", "bob", "scope", "openid")
		if answer := e.Code(t, fresh, Web, "prompt", "none", "scope", "openid", "claims", `{"userinfo":{"email":null}}`); answer.Get("error") != "consent_required" {
			t.Errorf("a claim that nobody agreed to: %v", answer)
		}
	})
}

// A client that the operator gave no scope email gets no address by another name.
func TestClaimsDoNotReachBeyondTheClientsScopes(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	asked := `{"userinfo": {"email": {"essential": true}}, "id_token": {"email": null, "name": null}}`
	page := toConsent(t, b, b.Get(e.AuthorizeURL(Other, "idp_hint", "google", "scope", "openid", "claims", asked)))
	if strings.Contains(page.Body, oauth.Scopes()["email"]) {
		t.Error("the person is asked for what is not to be had")
	}
	location, _ := page.Submit(0, "allow").Walk(Other.RedirectURI)
	tokens := e.Redeem(t, Other, location.Query().Get("code"))
	id, info := Claims(t, tokens.String("id_token")), e.Userinfo(t, tokens.String("access_token")).Body
	if id["email"] != nil || id["name"] != nil || info["email"] != nil {
		t.Errorf("the client learns %v and %v", id, info)
	}
}

// sub with a value asks for one person (section 5.5.1): another one will not do.
func TestASubjectThatIsAskedForByName(t *testing.T) {
	e := Start(t)
	ann, bob := NewBrowser(t), NewBrowser(t)
	tokens := e.SignIn(t, ann, Web, "idp_hint", "google", "login_hint", "ann")
	e.SignIn(t, bob, Web, "idp_hint", "google", "login_hint", "bob")
	sub := e.Subject(t, tokens.String("access_token"))
	for _, member := range []string{"id_token", "userinfo"} {
		claims := `{"` + member + `":{"sub":{"value":"` + sub + `"}}}`
		if answer := e.Code(t, ann, Web, "prompt", "none", "claims", claims); answer.Get("code") == "" {
			t.Errorf("%s: the right person gets %v", member, answer)
		}
		if answer := e.Code(t, bob, Web, "prompt", "none", "claims", claims); answer.Get("error") != "login_required" {
			t.Errorf("%s: another person, silently, gets %v", member, answer)
		}
		if answer := e.Code(t, bob, Web, "idp_hint", "google", "login_hint", "bob", "prompt", "login", "claims", claims); answer.Get("error") != "login_required" {
			t.Errorf("%s: another person, signing in, gets %v", member, answer)
		}
	}
	if answer := e.Code(t, ann, Web, "claims", `{"id_token":{"sub":{"value":"a"}}}`, "id_token_hint", tokens.String("id_token")); answer.Get("error") != "login_required" {
		t.Errorf("two people at once: %v", answer)
	}
}

func TestMetadataSaysWhatAuthorizationRequestsMayHold(t *testing.T) {
	e := Start(t)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/.well-known/openid-configuration", nil)
	body := Do(t, request).Body
	for name, want := range map[string]any{
		"claims_parameter_supported": true, "request_parameter_supported": true, "request_uri_parameter_supported": true,
		"require_request_uri_registration": true, "require_pushed_authorization_requests": false,
	} {
		if body[name] != want {
			t.Errorf("%s is %v", name, body[name])
		}
	}
	if acrs, _ := body["acr_values_supported"].([]any); !slices.Contains(acrs, any(oauth.ACRMFA)) || !slices.Contains(acrs, any(oauth.ACRFederated)) {
		t.Errorf("acr_values_supported is %v", body["acr_values_supported"])
	}
	algs, _ := body["request_object_signing_alg_values_supported"].([]any)
	if len(algs) == 0 || slices.Contains(algs, any("none")) || slices.Contains(algs, any(string(jose.HS256))) {
		t.Errorf("request_object_signing_alg_values_supported is %v", algs)
	}
}
