package broker_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// signedUserinfo asks userinfo, and returns the claims of the JWT that it answers with, checked as the client's library would.
func signedUserinfo(t *testing.T, e *Env, alg, access string) (raw string, claims map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+access)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/jwt" || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v: %s", response.StatusCode, response.Header, body)
	}
	parsed, err := jose.ParseSignedCompact(string(body), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		t.Fatalf("not signed with %s: %v", alg, err)
	}
	var keys jose.JSONWebKeySet
	published, err := http.Get(e.Issuer + "/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer published.Body.Close()
	if err := json.NewDecoder(published.Body).Decode(&keys); err != nil {
		t.Fatal(err)
	}
	key := keys.Key(parsed.Signatures[0].Protected.KeyID)
	if len(key) != 1 {
		t.Fatalf("no key %q is published", parsed.Signatures[0].Protected.KeyID)
	}
	payload, err := parsed.Verify(key[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return string(body), claims
}

// OpenID Connect Core section 5.3.2: a client that registered an algorithm gets userinfo as a JWT from the broker, for that client.
func TestUserinfoIsSignedForClientsThatAskForThat(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			e := Start(t, func(c *config.Config) { c.Clients[0].UserinfoSignedResponseAlg = alg })
			b := NewBrowser(t)
			tokens := e.SignIn(t, b, Web, "idp_hint", "google", "claims", `{"userinfo":{"iss":{"value":"x"},"aud":null}}`)
			raw, claims := signedUserinfo(t, e, alg, tokens.String("access_token"))
			id := Claims(t, tokens.String("id_token"))
			if claims["iss"] != e.Issuer || claims["aud"] != Web.ID || claims["sub"] != id["sub"] || claims["email"] != id["email"] {
				t.Errorf("claims %v; the ID token: %v", claims, id)
			}
			for _, name := range []string{"nonce", "exp", "auth_time", "sid"} {
				if claims[name] != nil {
					t.Errorf("it has %s, which is an ID token's", name)
				}
			}
			again := e.Refresh(t, Web, tokens.String("refresh_token"))
			if _, claims := signedUserinfo(t, e, alg, again.String("access_token")); claims["sub"] != id["sub"] {
				t.Errorf("after a refresh: %v", claims)
			}

			// It is no ID token, though the same key signs it: whoever passes it off as one is refused.
			answer := b.Get(e.AuthorizeURL(Web, "prompt", "none", "id_token_hint", raw)).Location()
			if answer.Query().Get("error") != "invalid_request" {
				t.Errorf("as an id_token_hint: %v", answer)
			}
			if page := b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {raw}}.Encode()); page.Status != http.StatusBadRequest {
				t.Errorf("at sign-out: %d", page.Status)
			}
			// A refusal is JSON, as ever.
			if r := e.Userinfo(t, tokens.String("access_token")+"x"); r.Status != http.StatusUnauthorized || r.String("error") != "invalid_token" {
				t.Errorf("with a token that is none: %d %v", r.Status, r.Body)
			}
		})
	}
}

// Who registered nothing gets plain JSON, also with what was exchanged for the token of a client that did: the signed answer names that client
// as its audience.
func TestUserinfoIsPlainForEverybodyElse(t *testing.T) {
	taker := Client{ID: "taker", Secret: "taker-secret-0123456789-0123456789-0123456"}
	e := Start(t, func(c *config.Config) {
		c.Clients[0].UserinfoSignedResponseAlg = "ES256"
		c.Clients = append(c.Clients, config.Client{
			ClientID: taker.ID, ClientSecret: config.NewSecret(taker.Secret), Name: "Taker",
			Scopes: []string{"openid"}, GrantTypes: []string{grantExchange},
			TokenExchange: config.TokenExchange{SubjectClients: []string{Web.ID}, Modes: []string{"impersonation"}},
		})
	})
	b := NewBrowser(t)
	other := e.SignIn(t, b, Other, "idp_hint", "google")
	exchanged := exchange(t, e, taker, e.SignIn(t, b, Web).String("access_token"), "scope", "openid")
	for name, tokens := range map[string]*Response{"another client": other, "an exchanged token": exchanged} {
		if r := e.Userinfo(t, tokens.String("access_token")); r.Status != http.StatusOK || r.String("sub") == "" || r.Body["iss"] != nil {
			t.Errorf("%s: %d %v; the tokens: %v", name, r.Status, r.Body, tokens.Body)
		}
	}
	metadata := Do(t, mustGet(t, e.Issuer+"/.well-known/openid-configuration"))
	algs, _ := metadata.Body["userinfo_signing_alg_values_supported"].([]any)
	if len(algs) != 3 || !slices.Contains(algs, any("RS256")) {
		t.Errorf("the metadata say %v", algs)
	}
}

func mustGet(t *testing.T, target string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// A client that registers itself is told what holds, and held to the algorithms that there are.
func TestClientsRegisterForSignedUserinfo(t *testing.T) {
	e := Start(t, func(c *config.Config) { c.Registration.Mode = "open" })
	register := func(alg string) *Response {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Issuer+"/register",
			strings.NewReader(`{"redirect_uris":["https://signed.example.com/cb"],"userinfo_signed_response_alg":"`+alg+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		return Do(t, request)
	}
	r := register("RS256")
	if r.Status != http.StatusCreated || r.String("userinfo_signed_response_alg") != "RS256" {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	client := Client{ID: r.String("client_id"), Secret: r.String("client_secret"), RedirectURI: "https://signed.example.com/cb"}
	tokens := e.SignIn(t, NewBrowser(t), client, "idp_hint", "google")
	if _, claims := signedUserinfo(t, e, "RS256", tokens.String("access_token")); claims["aud"] != client.ID {
		t.Errorf("claims %v", claims)
	}
	for _, alg := range []string{"none", "HS256", "PS256"} {
		if r := register(alg); r.Status != http.StatusBadRequest || r.String("error") != "invalid_client_metadata" {
			t.Errorf("%s: %d %v", alg, r.Status, r.Body)
		}
	}
}

// Userinfo is a protected resource like any API: a token comes once and in one way (RFC 6750 section 2), never in the address, and the challenge leads to
// what says where tokens are to be had (RFC 9728 section 5.1).
func TestUserinfoTakesOneTokenInOneWay(t *testing.T) {
	e := Start(t)
	access := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("access_token")
	const form = "application/x-www-form-urlencoded"
	ask := func(method, query, body string, authorization ...string) *Response {
		t.Helper()
		r := request(t, method, e.Issuer+"/userinfo"+query, body, form)
		if len(authorization) > 0 {
			r.Header["Authorization"] = authorization
		}
		return Do(t, r)
	}
	inForm := url.Values{"access_token": {access}}.Encode()
	for name, c := range map[string]struct {
		got    *Response
		status int
		code   string // in the challenge
	}{
		"the header":            {ask("GET", "", "", "Bearer "+access), 200, ""},
		"the form":              {ask("POST", "", inForm), 200, ""},
		"the header, with POST": {ask("POST", "", "", "Bearer "+access), 200, ""},
		"header and form":       {ask("POST", "", inForm, "Bearer "+access), 400, "invalid_request"},
		"the form twice":        {ask("POST", "", inForm+"&"+inForm), 400, "invalid_request"},
		"two headers":           {ask("GET", "", "", "Bearer "+access, "Bearer "+access), 400, "invalid_request"},
		"the address":           {ask("GET", "?"+inForm, ""), 401, ""},
		"address and header":    {ask("GET", "?"+inForm, "", "Bearer "+access), 400, "invalid_request"},
		"the form, with GET":    {ask("GET", "", inForm), 401, ""},
		"what is no token":      {ask("GET", "", "", "Bearer a b"), 401, "invalid_token"},
	} {
		challenge := c.got.Header.Get("WWW-Authenticate")
		if c.got.Status != c.status || c.code != "" && !strings.Contains(challenge, `error="`+c.code+`"`) || c.code == "" && strings.Contains(challenge, "error=") {
			t.Errorf("%s: %d %s %v", name, c.got.Status, challenge, c.got.Body)
		}
	}

	_, link, _ := strings.Cut(ask("GET", "", "").Header.Get("WWW-Authenticate"), `resource_metadata="`)
	link, _, _ = strings.Cut(link, `"`)
	for _, address := range []string{link, e.URL() + "/.well-known/oauth-protected-resource"} {
		m := Do(t, request(t, "GET", address, "", "")).Body
		if servers, _ := m["authorization_servers"].([]any); m["resource"] != e.Issuer || len(servers) != 1 || servers[0] != e.Issuer {
			t.Errorf("%s: %v", address, m)
		}
		if scopes, _ := m["scopes_supported"].([]any); !slices.Contains(scopes, any("openid")) || !slices.Contains(scopes, any("profile")) {
			t.Errorf("%s: scopes %v", address, scopes)
		}
	}
}
