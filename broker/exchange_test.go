package broker_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

const (
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeAccess = "urn:ietf:params:oauth:token-type:access_token"
	tokenTypeID     = "urn:ietf:params:oauth:token-type:id_token"
)

// gateway is the server behind the notes api, and calls the mail api for the people who call it. backend takes the gateway's tokens on.
var (
	gateway = Client{ID: "gateway", Secret: "gateway-secret-0123456789-0123456789-012345"}
	backend = Client{ID: "backend", Secret: "backend-secret-0123456789-0123456789-012345"}
)

func withGateway(c *config.Config) {
	withAPIs(c)
	c.Clients = append(c.Clients,
		config.Client{
			ClientID: gateway.ID, ClientSecret: config.NewSecret(gateway.Secret), Name: "Gateway",
			Scopes: []string{"notes:read", "mail:read"}, GrantTypes: []string{"client_credentials", grantExchange},
			ResourceServerOf: []string{notesAPI},
			TokenExchange:    config.TokenExchange{SubjectClients: []string{"web"}, Modes: []string{"impersonation", "delegation"}, Scopes: []string{"mail:read"}},
		},
		config.Client{
			ClientID: backend.ID, ClientSecret: config.NewSecret(backend.Secret), Name: "Backend",
			Scopes: []string{"mail:read"}, GrantTypes: []string{"client_credentials", grantExchange},
			ResourceServerOf: []string{mailAPI},
			TokenExchange:    config.TokenExchange{SubjectClients: []string{"gateway"}},
		},
	)
}

// exchange asks to exchange a token. edits are "name", "value" pairs.
func exchange(t *testing.T, e *Env, c Client, subject string, edits ...string) *Response {
	t.Helper()
	form := url.Values{"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {tokenTypeAccess}}
	for i := 0; i+1 < len(edits); i += 2 {
		form.Add(edits[i], edits[i+1])
	}
	return e.Post(t, "/token", c, form)
}

func ownToken(t *testing.T, e *Env, c Client, scope string) string {
	t.Helper()
	r := e.Post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
	if r.Status != http.StatusOK {
		t.Fatalf("client credentials: %d %v", r.Status, r.Body)
	}
	return r.String("access_token")
}

// A gateway calls the next api for the person who called it: as them, or saying who it is (RFC 8693 sections 1.1, 4.1).
func TestATokenIsExchangedForTheNextAPI(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		subject := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access notes:read notes:write").String("access_token")
		person := e.Subject(t, subject)
		// The api by its name, or by its scope.
		for target, value := range map[string]string{"resource": mailAPI, "audience": mailAPI, "scope": "mail:read"} {
			r := exchange(t, e, gateway, subject, target, value)
			claims := Claims(t, r.String("access_token"))
			if r.String("issued_token_type") != tokenTypeAccess || r.String("token_type") != "Bearer" || r.String("scope") != "mail:read" || r.Body["refresh_token"] != nil || r.Body["id_token"] != nil {
				t.Errorf("%s: %v", target, r.Body)
			}
			if claims["sub"] != person || claims["client_id"] != gateway.ID || texts(claims["aud"]) != mailAPI || claims["act"] != nil {
				t.Errorf("impersonation says %v", claims)
			}
		}
		first := exchange(t, e, gateway, subject, "resource", mailAPI, "actor_token", ownToken(t, e, gateway, "mail:read"), "actor_token_type", tokenTypeAccess).String("access_token")
		if act, _ := Claims(t, first)["act"].(map[string]any); act["sub"] != gateway.ID || len(act) != 1 {
			t.Fatalf("delegation says %v", act)
		}
		second := exchange(t, e, backend, first, "actor_token", ownToken(t, e, backend, "mail:read"), "actor_token_type", tokenTypeAccess)
		said := introspect(t, e, backend, second.String("access_token"))
		act, _ := said["act"].(map[string]any)
		before, _ := act["act"].(map[string]any)
		if said["sub"] != person || act["sub"] != backend.ID || before["sub"] != gateway.ID {
			t.Errorf("the chain is %v", said)
		}
	}, withGateway)
}

// A service's own token goes on the same way, and ends the same way, without a grant.
func TestAServicesOwnTokenIsExchangedOn(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		subject := ownToken(t, e, service, "notes:read")
		actors := []string{"resource", mailAPI, "actor_token_type", tokenTypeAccess, "actor_token"}
		r := exchange(t, e, gateway, subject, append(actors, ownToken(t, e, backend, "mail:read"))...)
		said := introspect(t, e, gateway, r.String("access_token"))
		if act, _ := said["act"].(map[string]any); said["sub"] != service.ID || said["client_id"] != gateway.ID || act["sub"] != backend.ID || said["scope"] != "mail:read" {
			t.Errorf("%v: %v", r.Body, said)
		}
		second := exchange(t, e, backend, r.String("access_token"), append(actors, ownToken(t, e, backend, "mail:read"))...)
		if !e.Active(t, backend, second.String("access_token")) {
			t.Fatalf("exchanged on: %v", second.Body)
		}
		e.Post(t, "/revoke", service, url.Values{"token": {subject}})
		if e.Active(t, gateway, r.String("access_token")) || e.Active(t, backend, second.String("access_token")) {
			t.Error("what came of it is active, though it is revoked")
		}
		expectError(t, exchange(t, e, gateway, subject, "resource", mailAPI), "invalid_request")
	}, withGateway, func(c *config.Config) {
		for i := range c.Clients {
			if c.Clients[i].ClientID == gateway.ID {
				c.Clients[i].TokenExchange.SubjectClients = []string{service.ID}
				c.Clients[i].TokenExchange.ActorClients = []string{backend.ID}
			}
		}
	})
}

// An app may make its own token say less, and never more.
func TestAnAppNarrowsItsOwnToken(t *testing.T) {
	e := Start(t, withGateway, func(c *config.Config) {
		c.Clients[0].GrantTypes = append(c.Clients[0].GrantTypes, grantExchange)
		// What it may gain elsewhere is no more here, where the person said what it may.
		c.Clients[0].TokenExchange.Scopes = []string{"notes:write"}
	})
	b := NewBrowser(t)
	subject := e.SignIn(t, b, Web, "idp_hint", "google", "scope", "openid profile offline_access notes:read").String("access_token")
	r := exchange(t, e, Web, subject, "scope", "notes:read", "resource", notesAPI)
	if said := introspect(t, e, Web, r.String("access_token")); said.audience() != notesAPI || said["scope"] != "notes:read" {
		t.Errorf("narrowed to %v", said)
	}
	if r := exchange(t, e, Web, subject); r.String("scope") != "openid profile notes:read" || r.Body["refresh_token"] != nil || r.Body["id_token"] != nil {
		t.Errorf("the same again: %v", r.Body)
	}
	// Claims that were asked for one by one are the first token's, not those of one that was to say less.
	asked := e.SignIn(t, b, Web, "scope", "openid notes:read", "claims", `{"userinfo":{"email":null}}`).String("access_token")
	if first, less := e.Userinfo(t, asked), e.Userinfo(t, exchange(t, e, Web, asked, "scope", "openid").String("access_token")); first.Body["email"] == nil || less.Status != http.StatusOK || less.Body["email"] != nil {
		t.Errorf("userinfo says %v, and with a token exchanged for less %v", first.Body, less.Body)
	}
	// web is registered for all of these; the person agreed to none.
	for scope, target := range map[string]string{"notes:write": notesAPI, "email": e.Issuer, "mail:read": notesAPI, "offline_access": e.Issuer} {
		expectError(t, exchange(t, e, Web, subject, "scope", scope, "resource", target), "invalid_scope")
	}
	expectError(t, exchange(t, e, Web, subject, "resource", mailAPI), "invalid_target")
	expectError(t, exchange(t, e, Web, r.String("access_token"), "resource", e.Issuer), "invalid_target")
	expectError(t, exchange(t, e, Web, r.String("access_token"), "scope", "openid"), "invalid_scope")
	pay := e.SignIn(t, b, Web, "scope", "openid", "authorization_details", allowedPay).String("access_token")
	if r := exchange(t, e, Web, pay, "resource", bankAPI, "authorization_details", strings.Replace(allowedPay, `,"cancel"`, "", 1)); r.Status != http.StatusOK {
		t.Errorf("details narrowed: %d %v", r.Status, r.Body)
	}
	expectError(t, exchange(t, e, Web, pay, "resource", bankAPI, "authorization_details", strings.Replace(allowedPay, "12.00", "13.00", 1)), "invalid_authorization_details")
}

// An ID token says who the person is, and allows nothing: what it is exchanged for is what the operator said, and ends with the sign-in.
func TestAnIDTokenIsExchangedForWhatTheOperatorSaid(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		tokens := e.SignIn(t, b, Web, "idp_hint", "google", "scope", "openid profile offline_access notes:read")
		id := tokens.String("id_token")
		ask := func(c Client, id string, edits ...string) *Response {
			form := url.Values{"grant_type": {grantExchange}, "subject_token": {id}, "subject_token_type": {tokenTypeID}}
			for i := 0; i+1 < len(edits); i += 2 {
				form.Add(edits[i], edits[i+1])
			}
			return e.Post(t, "/token", c, form)
		}
		r := ask(gateway, id, "resource", mailAPI)
		claims := Claims(t, r.String("access_token"))
		if claims["sub"] != Claims(t, id)["sub"] || claims["scope"] != "mail:read" || r.String("issued_token_type") != tokenTypeAccess || r.Body["id_token"] != nil {
			t.Errorf("%v: %v", r.Body, claims)
		}
		expectError(t, ask(gateway, id), "invalid_target")
		expectError(t, ask(gateway, id, "resource", notesAPI), "invalid_target")
		expectError(t, ask(gateway, id, "resource", e.Issuer, "scope", "openid"), "invalid_target")
		expectError(t, ask(gateway, id, "resource", mailAPI, "scope", "notes:read"), "invalid_scope")
		expectError(t, ask(gateway, e.SignIn(t, b, First, "scope", "openid").String("id_token"), "resource", mailAPI), "invalid_request")
		expectError(t, ask(gateway, tokens.String("access_token"), "resource", mailAPI), "invalid_request")
		expectError(t, ask(gateway, unsigned(id), "resource", mailAPI), "invalid_request")
		expectError(t, ask(backend, id, "resource", mailAPI), "invalid_request")
		e.Post(t, "/revoke", Web, url.Values{"token": {tokens.String("refresh_token")}})
		if e.Active(t, gateway, r.String("access_token")) {
			t.Error("the sign-in is revoked, and what came of its ID token is active")
		}
		expectError(t, ask(gateway, id, "resource", mailAPI), "invalid_request")
		late := e.SignIn(t, b, Web, "scope", "openid").String("id_token")
		e.Clock.Advance(e.Config.Tokens.IDTokenLifetime.Std())
		expectError(t, ask(gateway, late, "resource", mailAPI), "invalid_request")
	}, withGateway)
}

// What must not be exchanged: tokens of other apps, tokens that were for somebody else, for apis that the operator did not name, with
// borrowed actors.
func TestExchangesThatAreRefused(t *testing.T) {
	e := Start(t, withGateway, func(c *config.Config) {
		for i := range c.Clients {
			if c.Clients[i].ClientID == Other.ID {
				c.Clients[i].Scopes = append(c.Clients[i].Scopes, "notes:read")
			}
		}
	})
	b := NewBrowser(t)
	tokens := e.SignIn(t, b, Web, "idp_hint", "google", "scope", "openid offline_access notes:read")
	subject := tokens.String("access_token")
	mailToken := e.SignIn(t, b, First, "scope", "mail:read").String("access_token")
	webMail := e.SignIn(t, b, Web, "scope", "mail:read").String("access_token")
	others := e.SignIn(t, b, Other, "idp_hint", "google", "scope", "openid notes:read").String("access_token")
	gatewayToken := ownToken(t, e, gateway, "mail:read")
	actor := []string{"resource", mailAPI, "actor_token_type", tokenTypeAccess, "actor_token"}
	acting := exchange(t, e, gateway, subject, append(actor, gatewayToken)...).String("access_token")
	for name, c := range map[string]struct {
		client Client
		token  string
		edits  []string
		want   string
	}{
		"a token of an app that is not allowed":     {gateway, others, []string{"resource", mailAPI}, "invalid_request"},
		"of another":                                {gateway, mailToken, []string{"resource", mailAPI}, "invalid_request"},
		"a token that was for another api":          {gateway, webMail, []string{"resource", mailAPI}, "invalid_request"},
		"a service's own, that is not allowed":      {gateway, ownToken(t, e, service, "notes:read"), []string{"resource", mailAPI}, "invalid_request"},
		"a refresh token":                           {gateway, tokens.String("refresh_token"), []string{"resource", mailAPI}, "invalid_request"},
		"an ID token":                               {gateway, tokens.String("id_token"), []string{"resource", mailAPI}, "invalid_request"},
		"nothing":                                   {gateway, "", nil, "invalid_request"},
		"a forged token":                            {gateway, subject[:len(subject)-2] + "AA", []string{"resource", mailAPI}, "invalid_request"},
		"a scope that was not granted":              {gateway, subject, []string{"resource", notesAPI, "scope", "notes:write"}, "invalid_scope"},
		"a scope of another api":                    {gateway, subject, []string{"resource", notesAPI, "scope", "mail:read"}, "invalid_scope"},
		"what is about the person":                  {gateway, subject, []string{"resource", e.Issuer, "scope", "openid"}, "invalid_scope"},
		"an api that nobody named":                  {gateway, subject, []string{"resource", bankAPI}, "invalid_target"},
		"an unknown api":                            {gateway, subject, []string{"audience", "mail"}, "invalid_target"},
		"apis that take different tokens":           {gateway, subject, []string{"resource", notesAPI, "resource", mailAPI}, "invalid_target"},
		"the actor's type missing":                  {gateway, subject, []string{"resource", mailAPI, "actor_token", gatewayToken}, "invalid_request"},
		"an actor's type without an actor":          {gateway, subject, []string{"resource", mailAPI, "actor_token_type", tokenTypeAccess}, "invalid_request"},
		"an actor's token of another client":        {gateway, subject, append(actor, ownToken(t, e, service, "mail:read")), "invalid_request"},
		"the person's own token as actor":           {gateway, subject, append(actor, subject), "invalid_request"},
		"an actor who acts for another":             {gateway, subject, append(actor, acting), "invalid_request"},
		"a made-up actor":                           {gateway, subject, append(actor, `{"sub":"admin"}`), "invalid_request"},
		"impersonation where delegation is allowed": {backend, acting, nil, "invalid_request"},
		"another type of subject":                   {gateway, subject, []string{"subject_token_type", "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"},
		"another type of result":                    {gateway, subject, []string{"resource", mailAPI, "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"},
		"a client that may not exchange":            {service, subject, []string{"resource", mailAPI}, "unauthorized_client"},
		"a public client":                           {Native, subject, nil, "unauthorized_client"},
	} {
		r := exchange(t, e, c.client, c.token, c.edits...)
		if r.String("error") != c.want || r.Status != http.StatusBadRequest {
			t.Errorf("%s: got %d %v, want %s", name, r.Status, r.Body, c.want)
		}
	}
	if logs := e.Logs.String(); strings.Contains(logs, subject) || strings.Contains(logs, gatewayToken) || !strings.Contains(logs, "a token is exchanged") {
		t.Error("a token is in the log, or an exchange is not")
	}
}

// What comes of a token ends with it: with its time, its grant, its own revocation, and its account.
func TestAnExchangedTokenEndsWithItsOrigin(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		signIn := func() (*Response, string, string) {
			tokens := e.SignIn(t, b, Web, "idp_hint", "google", "scope", "openid offline_access notes:read")
			first := exchange(t, e, gateway, tokens.String("access_token"), "resource", mailAPI)
			second := exchange(t, e, backend, first.String("access_token"), "actor_token", ownToken(t, e, backend, "mail:read"), "actor_token_type", tokenTypeAccess)
			if second.Status != http.StatusOK {
				t.Fatalf("%v, %v", first.Body, second.Body)
			}
			return tokens, first.String("access_token"), second.String("access_token")
		}
		dead := func(what string, first, second string) {
			t.Helper()
			if e.Active(t, gateway, first) || e.Active(t, backend, second) {
				t.Errorf("%s: what came of it is active", what)
			}
			expectError(t, exchange(t, e, backend, first), "invalid_request")
		}
		tokens, first, second := signIn()
		if !e.Active(t, gateway, first) || !e.Active(t, backend, second) {
			t.Fatal("they are not active to begin with")
		}
		e.Post(t, "/revoke", Web, url.Values{"token": {tokens.String("refresh_token")}})
		dead("the grant is revoked", first, second)
		expectError(t, exchange(t, e, gateway, tokens.String("access_token"), "resource", mailAPI), "invalid_request")

		tokens, first, second = signIn()
		e.Post(t, "/revoke", Web, url.Values{"token": {tokens.String("access_token")}})
		dead("the token is revoked by itself", first, second)

		// The exchanging client ends its own, whatever comes of it, and nothing above.
		tokens, first, second = signIn()
		if r := e.Post(t, "/revoke", gateway, url.Values{"token": {tokens.String("access_token")}}); r.Status != http.StatusBadRequest {
			t.Errorf("the gateway revokes its caller's token: %d", r.Status)
		}
		e.Post(t, "/revoke", gateway, url.Values{"token": {first}})
		dead("the exchanged token is revoked", first, second)
		if !e.Active(t, Web, tokens.String("access_token")) {
			t.Error("its origin ended with it")
		}

		tokens, first, second = signIn()
		e.Clock.Advance(4 * time.Minute)
		late := exchange(t, e, gateway, tokens.String("access_token"), "resource", mailAPI)
		if left, _ := late.Body["expires_in"].(float64); left > 61 || left < 1 {
			t.Errorf("a token that has a minute left gives one for %v seconds", late.Body["expires_in"])
		}
		e.Clock.Advance(time.Minute + time.Second)
		dead("its time is over", first, second)
		if e.Active(t, gateway, late.String("access_token")) {
			t.Error("the late one outlives its origin")
		}
	}, withGateway)
}

// A client that exchanges cannot end other people's sign-ins by revoking much of what it made (a grant keeps a bounded list).
func TestRevokingManyExchangedTokensLeavesTheGrantAlone(t *testing.T) {
	e := Start(t, withGateway)
	tokens := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access notes:read")
	storetest.Race(80, func() {
		made := exchange(t, e, gateway, tokens.String("access_token"), "resource", mailAPI).String("access_token")
		if r := e.Post(t, "/revoke", gateway, url.Values{"token": {made}}); r.Status != http.StatusOK || e.Active(t, gateway, made) {
			t.Errorf("revocation: %d", r.Status)
		}
	})
	if !e.Active(t, Web, tokens.String("access_token")) || e.Refresh(t, Web, tokens.String("refresh_token")).Status != http.StatusOK {
		t.Error("the grant ended")
	}
}

// Services that call one another in a circle stop.
func TestExchangesOfExchangesAreBounded(t *testing.T) {
	e := Start(t, withGateway, func(c *config.Config) {
		c.Clients[0].GrantTypes = append(c.Clients[0].GrantTypes, grantExchange)
	})
	token := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "notes:read").String("access_token")
	for range 4 {
		r := exchange(t, e, Web, token)
		if r.Status != http.StatusOK {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
		token = r.String("access_token")
	}
	expectError(t, exchange(t, e, Web, token), "invalid_request")
}

// A token that only its holder can use does not become one that anybody can: the exchange needs a key too, and the app's own the same.
func TestABoundTokenIsExchangedForABoundTokenAlone(t *testing.T) {
	e := Start(t, withGateway, func(c *config.Config) {
		c.Clients[0].GrantTypes = append(c.Clients[0].GrantTypes, grantExchange)
	})
	key, another := e.NewKey(t), e.NewKey(t)
	subject := signInBound(t, e, Web, key, "scope", "openid notes:read").String("access_token")
	form := func(edits ...string) url.Values {
		v := url.Values{"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {tokenTypeAccess}}
		for i := 0; i+1 < len(edits); i += 2 {
			v.Set(edits[i], edits[i+1])
		}
		return v
	}
	expectError(t, exchange(t, e, Web, subject), "invalid_request")
	expectError(t, exchange(t, e, gateway, subject, "resource", mailAPI), "invalid_request")
	expectError(t, e.PostWith(t, "/token", Web, form(), another.TokenHeader(e)), "invalid_request")
	if r := e.PostWith(t, "/token", Web, form(), key.TokenHeader(e)); r.Status != http.StatusOK || r.String("token_type") != "DPoP" {
		t.Errorf("the app with its key: %d %v", r.Status, r.Body)
	}
	// The gateway cannot have the app's key; what it gets is bound to its own.
	r := e.PostWith(t, "/token", gateway, form("resource", mailAPI), another.TokenHeader(e))
	if cnf, _ := Claims(t, r.String("access_token"))["cnf"].(map[string]any); r.String("token_type") != "DPoP" || cnf["jkt"] != another.JKT {
		t.Errorf("the gateway with a key of its own: %d %v", r.Status, r.Body)
	}
	actor := ownToken(t, e, gateway, "mail:read")
	if r := e.PostWith(t, "/token", gateway, form("resource", mailAPI, "actor_token", actor, "actor_token_type", tokenTypeAccess), another.TokenHeader(e)); r.Status != http.StatusOK {
		t.Errorf("with an actor: %d %v", r.Status, r.Body)
	}
	bound := e.PostWith(t, "/token", gateway, url.Values{"grant_type": {"client_credentials"}, "scope": {"mail:read"}}, key.TokenHeader(e)).String("access_token")
	expectError(t, e.PostWith(t, "/token", gateway, form("resource", mailAPI, "actor_token", bound, "actor_token_type", tokenTypeAccess), another.TokenHeader(e)), "invalid_request")
}

// An app that was disabled or removed has no tokens that others could go on with.
func TestTokensOfAnAppThatIsGoneAreNotExchanged(t *testing.T) {
	e := Start(t, withGateway)
	app, secret, err := e.Broker.Clients.Add(t.Context(), registry.Client{
		Name: "App", RedirectURIs: []string{"https://gone.example.com/cb"}, Scopes: []string{"openid", "notes:read"}, FirstParty: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	service, serviceSecret, err := e.Broker.Clients.Add(t.Context(), registry.Client{
		Name: "Service", Scopes: []string{"notes:read"}, GrantTypes: []string{grantExchange},
		TokenExchange: &registry.TokenExchange{SubjectClients: []string{app.ID}, Modes: []string{registry.ExchangeImpersonation}},
	})
	if err != nil {
		t.Fatal(err)
	}
	as := Client{ID: service.ID, Secret: serviceSecret}
	subject := e.SignIn(t, NewBrowser(t), Client{ID: app.ID, Secret: secret, RedirectURI: app.RedirectURIs[0]}, "idp_hint", "google", "scope", "openid notes:read").String("access_token")
	if r := exchange(t, e, as, subject, "resource", notesAPI); r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	if _, err := e.Broker.Clients.Update(t.Context(), app.ID, func(c *registry.Client) error { c.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	expectError(t, exchange(t, e, as, subject, "resource", notesAPI), "invalid_request")
	if err := e.Broker.Clients.Remove(t.Context(), app.ID); err != nil {
		t.Fatal(err)
	}
	expectError(t, exchange(t, e, as, subject, "resource", notesAPI), "invalid_request")
}

// Two apis may have a scope of the same name. What the subject allows at one of them is nothing at the other, in a token for both neither; and who has
// nothing of an api gets no token for it, which would open those of its endpoints that want no scope.
func TestAnExchangeGainsNothingByNamingTwoAPIs(t *testing.T) {
	hollow := Client{ID: "hollow", Secret: "hollow-secret-0123456789-0123456789-0123456"}
	e := Start(t, withGateway, func(c *config.Config) {
		mail := &c.APIs[1]
		mail.AccessTokenFormat, mail.Scopes = "", append(mail.Scopes, config.Scope{Name: "notes:read", Sentence: "Read the notes in your mail"})
		c.Clients = append(c.Clients, config.Client{
			ClientID: hollow.ID, ClientSecret: config.NewSecret(hollow.Secret), Name: "Hollow",
			Scopes: []string{"mail:read"}, GrantTypes: []string{grantExchange}, ResourceServerOf: []string{notesAPI},
			TokenExchange: config.TokenExchange{SubjectClients: []string{"web"}, Modes: []string{"impersonation"}},
		})
	})
	subject := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid notes:read", "resource", notesAPI).String("access_token")
	both := exchange(t, e, gateway, subject, "resource", notesAPI, "resource", mailAPI)
	if both.Status != http.StatusOK || both.String("scope") != "mail:read" {
		t.Errorf("a token for both: %d %v", both.Status, both.Body)
	}
	if r := exchange(t, e, gateway, subject, "resource", notesAPI, "resource", mailAPI, "scope", "notes:read"); r.String("error") != "invalid_scope" {
		t.Errorf("what one of both does not allow, by name: %d %v", r.Status, r.Body)
	}
	if r := exchange(t, e, gateway, subject, "resource", notesAPI, "scope", "notes:read"); r.Status != http.StatusOK {
		t.Errorf("where the subject allows it: %d %v", r.Status, r.Body)
	}
	if r := exchange(t, e, hollow, subject, "resource", notesAPI); r.String("error") != "invalid_target" {
		t.Errorf("a token without scopes, for an api that the client has nothing of: %d %v", r.Status, r.Body)
	}
}
