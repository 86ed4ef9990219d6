package broker_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// The apis of these tests, and the clients that know them.
const (
	notesAPI = "https://api.example.com/notes"
	mailAPI  = "https://api.example.com/mail"
	bankAPI  = "urn:example:bank"
)

var (
	service    = Client{ID: "service", Secret: "service-secret-0123456789-0123456789-012345"}
	notesHost  = Client{ID: "notes-server", Secret: "notes-server-secret-0123456789-0123456789"}
	allowedPay = `[{"type":"payment","amount":"12.00 EUR","actions":["start","cancel"]}]`
)

// withAPIs registers apis, the clients' scopes for them, a service and a resource server.
func withAPIs(c *config.Config) {
	c.APIs = []config.API{
		{Identifier: notesAPI, Name: "Notes", AccessTokenLifetime: config.Duration(5 * 60e9), Scopes: []config.Scope{
			{Name: "notes:read", Sentence: "Read your <notes>"}, {Name: "notes:write", Sentence: "Write your notes"},
		}},
		{Identifier: mailAPI, Name: "Mail", AccessTokenFormat: "jwt", Scopes: []config.Scope{{Name: "mail:read", Sentence: "Read your mail"}}},
		{Identifier: bankAPI, Name: "Bank", AccessTokenFormat: "jwt", AccessTokenSigningAlg: "EdDSA", AuthorizationDetailsTypes: []config.DetailsType{{
			Type: "payment", Sentence: "Make a payment from your account",
			Fields: []config.DetailsField{{Name: "amount", Required: true}, {Name: "creditor"}, {Name: "actions", Values: []string{"start", "cancel"}}},
		}}},
	}
	for i := range c.Clients {
		if c.Clients[i].ClientID != Other.ID {
			c.Clients[i].Scopes = append(c.Clients[i].Scopes, "notes:read", "notes:write", "mail:read")
			c.Clients[i].AuthorizationDetailsTypes = []string{"payment"}
		}
	}
	c.Clients = append(c.Clients,
		config.Client{
			ClientID: service.ID, ClientSecret: config.NewSecret(service.Secret), Name: "Service",
			Scopes: []string{"openid", "notes:read", "mail:read"}, GrantTypes: []string{"client_credentials"},
		},
		config.Client{
			ClientID: notesHost.ID, ClientSecret: config.NewSecret(notesHost.Secret), Name: "Notes, the server",
			ResourceServerOf: []string{notesAPI},
		},
	)
}

func (e introspected) audience() string { return texts(e["aud"]) }

// introspected is what introspection says.
type introspected map[string]any

func introspect(t *testing.T, e *Env, c Client, token string) introspected {
	t.Helper()
	r := e.Post(t, "/introspect", c, url.Values{"token": {token}})
	if r.Status != http.StatusOK {
		t.Fatalf("introspection: %d %v", r.Status, r.Body)
	}
	return r.Body
}

// texts is a string or a list of strings as one string.
func texts(value any) string {
	list, isList := value.([]any)
	if !isList {
		s, _ := value.(string)
		return s
	}
	var all []string
	for _, item := range list {
		s, _ := item.(string)
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func expectError(t *testing.T, r *Response, code string) {
	t.Helper()
	if r.String("error") != code || r.Status < 400 {
		t.Errorf("got %d %v, want %s", r.Status, r.Body, code)
	}
}

// A token says which api it is for, with that api's scopes, in its format, for its lifetime (RFC 8707, RFC 9068).
func TestATokenIsForTheAPIThatWasNamed(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		scopes := "openid offline_access notes:read notes:write mail:read"
		authorize := e.AuthorizeURL(First, "idp_hint", "google", "scope", scopes) + "&resource=" + url.QueryEscape(notesAPI) + "&resource=" + url.QueryEscape(mailAPI)
		code := func() string {
			location, page := NewBrowser(t).Walk(authorize, First.RedirectURI)
			if location == nil {
				t.Fatalf("ended at %s:\n%s", page.URL, page.Body)
			}
			return location.Query().Get("code")
		}
		// First takes JWTs for all that says nothing; notes says nothing, so that both apis take JWTs.
		both := e.Redeem(t, First, code())
		if claims := Claims(t, both.String("access_token")); texts(claims["aud"]) != notesAPI+" "+mailAPI || claims["scope"] != "notes:read notes:write mail:read" {
			t.Errorf("without a resource: %v", claims)
		}
		one := e.Redeem(t, First, code(), "resource", mailAPI)
		claims := Claims(t, one.String("access_token"))
		if texts(claims["aud"]) != mailAPI || claims["scope"] != "mail:read" || one.String("scope") != "mail:read" {
			t.Errorf("for mail: %v, %v", claims, one.Body)
		}
		for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "auth_time", "acr"} { // RFC 9068 section 2.2
			if claims[name] == nil {
				t.Errorf("the claim %s is missing", name)
			}
		}
		if one.String("id_token") == "" {
			t.Error("openid was granted, and there is no ID token")
		}
		refresh := func(form url.Values) *Response {
			form.Set("grant_type", "refresh_token")
			form.Set("refresh_token", one.String("refresh_token"))
			r := e.Post(t, "/token", First, form)
			if next := r.String("refresh_token"); next != "" {
				one.Body["refresh_token"] = next
			}
			return r
		}
		notes := refresh(url.Values{"resource": {notesAPI}, "scope": {"notes:read"}})
		if notes.String("scope") != "notes:read" || notes.Body["expires_in"] != 300.0 || e.Userinfo(t, notes.String("access_token")).Status != http.StatusUnauthorized {
			t.Errorf("for notes: %v", notes.Body)
		}
		broker := refresh(url.Values{"resource": {e.Issuer}})
		if r := e.Userinfo(t, broker.String("access_token")); r.Status != http.StatusOK {
			t.Errorf("a token for the issuer at userinfo: %d %v", r.Status, r.Body)
		}
		// What was refused cost nothing, and what was not granted cannot be had.
		expectError(t, refresh(url.Values{"resource": {bankAPI}}), "invalid_target")
		expectError(t, refresh(url.Values{"resource": {"https://evil.example.com"}}), "invalid_target")
		expectError(t, refresh(url.Values{"resource": {"/notes"}}), "invalid_target")
		expectError(t, refresh(url.Values{"scope": {"email"}}), "invalid_scope")
		if r := refresh(url.Values{"resource": {mailAPI}}); r.Status != http.StatusOK {
			t.Errorf("after refusals: %d %v", r.Status, r.Body)
		}
	}, withAPIs)
}

// An app that knows nothing of resources gets a token for the api that its scopes are of, which works at userinfo too.
func TestScopesSayWhichAPIATokenIsFor(t *testing.T) {
	e := Start(t, withAPIs)
	tokens := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid notes:read")
	said := introspect(t, e, Web, tokens.String("access_token"))
	if said.audience() != e.Issuer+" "+notesAPI || said["scope"] != "openid notes:read" || tokens.Body["expires_in"] != 300.0 {
		t.Errorf("got %v, %v", said, tokens.Body)
	}
	e.Subject(t, tokens.String("access_token"))
	// One api's token must not become another's by a scope that nobody thought about.
	for scope, want := range map[string]string{
		"openid notes:read mail:read": "resource", "openid nothing:here": "nothing:here", "openid bank": "bank",
	} {
		answer := e.Code(t, NewBrowser(t), Web, "idp_hint", "google", "scope", scope)
		if answer.Get("error") != "invalid_scope" || !strings.Contains(answer.Get("error_description"), want) {
			t.Errorf("%s: %v", scope, answer)
		}
	}
}

// toOurPage goes on until the broker shows a page, or sends the browser back to the app.
func toOurPage(e *Env, b *Browser, c Client, target string) *Page {
	page := b.Get(target)
	for {
		switch location := page.Location(); {
		case location != nil && strings.HasPrefix(location.String(), c.RedirectURI):
			return page
		case location != nil:
			page = b.Get(location.String())
		case !strings.HasPrefix(page.URL.String(), e.Issuer) && len(page.Forms) > 0:
			page = page.Submit(0, "") // at the provider
		default:
			return page
		}
	}
}

// The consent page says each scope in its api's own words, and a yes to it is none to another api's scope.
func TestConsentSaysAnAPIsScopesInItsOwnWords(t *testing.T) {
	e := Start(t, withAPIs)
	b := NewBrowser(t)
	ask := func(scope string) *Page {
		return toOurPage(e, b, Web, e.AuthorizeURL(Web, "idp_hint", "google", "scope", scope))
	}
	page := ask("openid notes:read")
	if !strings.Contains(page.Body, "Read your &lt;notes&gt;") || !strings.Contains(page.Body, "(Notes)") {
		t.Fatalf("the page says\n%s", page.Body)
	}
	page.Submit(0, "allow")
	if location := ask("openid notes:read").Location(); location == nil || location.Query().Get("code") == "" {
		t.Error("a yes is not remembered")
	}
	page = ask("openid mail:read")
	if !strings.Contains(page.Body, "Read your mail") || strings.Contains(page.Body, "notes") {
		t.Errorf("the page says\n%s", page.Body)
	}
}

// Two apis may define a type of the same name, and a request may name both: the person says yes to both, and so reads of both.
func TestDetailsForTwoAPIsAreAskedAboutForBoth(t *testing.T) {
	const other = "https://api.example.com/otherbank"
	e := Start(t, withAPIs, func(c *config.Config) {
		twin := c.APIs[2]
		twin.Identifier, twin.Name = other, "Other Bank"
		c.APIs = append(c.APIs, twin)
	})
	page := toOurPage(e, NewBrowser(t), Web, e.AuthorizeURL(Web, "idp_hint", "google", "scope", "openid", "authorization_details", allowedPay)+
		"&"+url.Values{"resource": {bankAPI, other}}.Encode())
	if !strings.Contains(page.Body, "(Bank, Other Bank)") {
		t.Errorf("the page names one api alone:\n%s", page.Body)
	}
}

// authorization_details are shown in plain words, asked about every time, and are in everything that comes of them (RFC 9396).
func TestAuthorizationDetailsFromTheRequestToTheToken(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		details := `[{"type":"payment","amount":"12.00 EUR","creditor":{"name":"<script>Bob","iban":"DE02"},"actions":["start","cancel"]}]`
		target := e.AuthorizeURL(Web, "idp_hint", "google", "scope", "openid offline_access", "authorization_details", details)
		for range 2 {
			page := toOurPage(e, b, Web, target)
			for _, want := range []string{"Make a payment from your account", "(Bank)", "12.00 EUR", "start, cancel", "iban: DE02", "name: &lt;script&gt;Bob"} {
				if !strings.Contains(page.Body, want) {
					t.Fatalf("the page lacks %q:\n%s", want, page.Body)
				}
			}
			if strings.Contains(page.Body, "<script>Bob") {
				t.Fatal("the app's words are markup")
			}
			location := page.Submit(0, "allow").Location()
			if location.Query().Get("code") == "" {
				t.Fatalf("got %v", location)
			}
			target = e.AuthorizeURL(Web, "scope", "openid offline_access", "authorization_details", details) // once more, signed in
			tokens := e.Redeem(t, Web, location.Query().Get("code"))
			if tokens.Status != http.StatusOK {
				t.Fatalf("%d %v", tokens.Status, tokens.Body)
			}
			claims := Claims(t, tokens.String("access_token"))
			if parsed, err := jose.ParseSignedCompact(tokens.String("access_token"), []jose.SignatureAlgorithm{jose.EdDSA}); err != nil {
				t.Errorf("the api's signature: %v", err)
			} else if typ := parsed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; typ != "at+jwt" { // RFC 9068 section 2.1
				t.Errorf("typ is %v", typ)
			}
			said := introspect(t, e, Web, tokens.String("access_token"))
			for name, where := range map[string]map[string]any{"response": tokens.Body, "token": claims, "introspection": said} {
				raw, _ := json.Marshal(where["authorization_details"])
				if !strings.Contains(string(raw), "DE02") {
					t.Errorf("the %s says %s", name, raw)
				}
			}
			narrow := func(details string) *Response {
				return e.Post(t, "/token", Web, url.Values{
					"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}, "resource": {bankAPI}, "authorization_details": {details},
				})
			}
			expectError(t, narrow(strings.Replace(details, "12.00", "13.00", 1)), "invalid_authorization_details")
			less := narrow(strings.Replace(details, `"start","cancel"`, `"start"`, 1))
			if raw, _ := json.Marshal(Claims(t, less.String("access_token"))["authorization_details"]); strings.Contains(string(raw), "cancel") || !strings.Contains(string(raw), "start") {
				t.Errorf("narrowed to %s", raw)
			}
		}
	}, withAPIs)
}

// Details that nobody declared, that are too large or too deep, or that the client may not ask for.
func TestAuthorizationDetailsAreRefused(t *testing.T) {
	e := Start(t, withAPIs)
	for name, details := range map[string]string{
		"no JSON":             "[{",
		"an unknown type":     `[{"type":"weather"}]`,
		"an unknown field":    `[{"type":"payment","amount":"1","to":"me"}]`,
		"a missing field":     `[{"type":"payment"}]`,
		"a value not allowed": `[{"type":"payment","amount":"1","actions":["all"]}]`,
		"too deep":            `[{"type":"payment","amount":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}]`,
		"too large":           `[{"type":"payment","amount":"` + strings.Repeat("9", 5000) + `"}]`,
		"too many":            "[" + strings.Repeat(`{"type":"payment","amount":"1"},`, 16) + `{"type":"payment","amount":"2"}]`,
		"a name twice":        `[{"type":"payment","amount":"1","amount":"1000"}]`,
	} {
		if answer := e.Code(t, NewBrowser(t), Web, "authorization_details", details); answer.Get("error") != "invalid_authorization_details" || answer.Get("state") != "st-1" {
			t.Errorf("%s: %v", name, answer)
		}
		expectError(t, e.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "authorization_details": {details}}), "invalid_authorization_details")
	}
	if answer := e.Code(t, NewBrowser(t), Other, "scope", "openid", "authorization_details", allowedPay); answer.Get("error") != "invalid_authorization_details" {
		t.Errorf("a client that is not registered for the type: %v", answer)
	}
}

// The largest details that are taken fit into a token: otherwise the code would be spent before anybody knew.
func TestTheLargestAuthorizationDetailsFitIntoAToken(t *testing.T) {
	e := Start(t, withAPIs)
	details := `[{"type":"payment","amount":"` + strings.Repeat("9", 4000) + `"}]`
	tokens := e.SignIn(t, NewBrowser(t), First, "idp_hint", "google", "scope", "openid offline_access", "authorization_details", details)
	if raw := tokens.String("access_token"); len(raw) < 4000 || !e.Active(t, First, raw) {
		t.Errorf("a token of %d bytes", len(raw))
	}
}

// Client credentials (RFC 6749 section 4.4): a token for apis alone, about nobody, without a refresh token.
func TestAClientGetsATokenOfItsOwn(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		ask := func(c Client, form url.Values) *Response {
			form.Set("grant_type", "client_credentials")
			return e.Post(t, "/token", c, form)
		}
		opaque := ask(service, url.Values{"resource": {notesAPI}})
		if opaque.Status != http.StatusOK || opaque.String("scope") != "notes:read" || opaque.Body["refresh_token"] != nil || opaque.Body["id_token"] != nil {
			t.Fatalf("%d %v", opaque.Status, opaque.Body)
		}
		said := introspect(t, e, service, opaque.String("access_token"))
		if said["active"] != true || said["sub"] != service.ID || said["client_id"] != service.ID || said.audience() != notesAPI {
			t.Errorf("introspection says %v", said)
		}
		signed := ask(service, url.Values{"scope": {"mail:read"}})
		if claims := Claims(t, signed.String("access_token")); claims["sub"] != service.ID || texts(claims["aud"]) != mailAPI || claims["auth_time"] != nil || claims["grant_id"] != nil {
			t.Errorf("the token says %v", claims)
		}
		// Nothing about a person can be had, or opened with it.
		for _, scope := range []string{"openid", "profile", "email", "offline_access", "openid notes:read"} {
			expectError(t, ask(service, url.Values{"scope": {scope}}), "invalid_scope")
		}
		expectError(t, ask(service, url.Values{"scope": {"notes:write"}}), "invalid_scope")
		expectError(t, ask(service, url.Values{"scope": {"notes:read"}, "resource": {e.Issuer}}), "invalid_target")
		expectError(t, ask(service, url.Values{}), "invalid_scope") // of which api?
		expectError(t, ask(Web, url.Values{"scope": {"notes:read"}}), "unauthorized_client")
		expectError(t, ask(Native, url.Values{"scope": {"notes:read"}}), "unauthorized_client")
		for _, raw := range []string{opaque.String("access_token"), signed.String("access_token")} {
			if r := e.Userinfo(t, raw); r.Status != http.StatusUnauthorized || !strings.Contains(r.Header.Get("WWW-Authenticate"), "resource=") {
				t.Errorf("userinfo answers %d %v", r.Status, r.Header)
			}
			// Each ends by itself.
			if r := e.Post(t, "/revoke", service, url.Values{"token": {raw}}); r.Status != http.StatusOK || e.Active(t, service, raw) {
				t.Errorf("after revocation (%d) the token is active", r.Status)
			}
		}
		if again := ask(service, url.Values{"scope": {"mail:read"}}); !e.Active(t, service, again.String("access_token")) {
			t.Error("another token of the client's ended with it")
		}
	}, withAPIs)
}

// The server behind an api introspects its tokens, sees of them what is its own, and of others nothing.
func TestAResourceServerIntrospectsItsTokensAlone(t *testing.T) {
	e := Start(t, withAPIs)
	b := NewBrowser(t)
	mine := e.SignIn(t, b, Web, "idp_hint", "google", "scope", "openid profile notes:read").String("access_token")
	said := introspect(t, e, notesHost, mine)
	if said["active"] != true || said["scope"] != "notes:read" || said.audience() != notesAPI || said["client_id"] != Web.ID {
		t.Errorf("of its own token it is told %v", said)
	}
	for name, scope := range map[string]string{"another api's": "openid mail:read", "the broker's": "openid profile"} {
		if raw := e.SignIn(t, b, Web, "scope", scope).String("access_token"); len(introspect(t, e, notesHost, raw)) != 1 || e.Active(t, notesHost, raw) {
			t.Errorf("it may introspect a token that is %s", name)
		}
	}
	if e.Active(t, Other, mine) {
		t.Error("a client that answers for no api may introspect")
	}
	tokens := e.SignIn(t, b, Web, "scope", "offline_access notes:read")
	if e.Active(t, notesHost, tokens.String("refresh_token")) {
		t.Error("a resource server may look at refresh tokens")
	}
	e.Post(t, "/revoke", Web, url.Values{"token": {mine}})
	if e.Active(t, notesHost, mine) {
		t.Error("a revoked token is active")
	}
	for _, grant := range []string{"client_credentials", "authorization_code"} {
		expectError(t, e.Post(t, "/token", notesHost, url.Values{"grant_type": {grant}}), "unauthorized_client")
	}
}

func TestMetadataListWhatAPIsDefine(t *testing.T) {
	e := Start(t, withAPIs)
	document := Do(t, request(t, "GET", e.Issuer+"/.well-known/oauth-authorization-server", "", "")).Body
	for _, scope := range []string{"openid", "notes:read", "notes:write", "mail:read"} {
		if !slices.Contains(strings.Fields(texts(document["scopes_supported"])), scope) {
			t.Errorf("%s is not among %v", scope, document["scopes_supported"])
		}
	}
	if texts(document["authorization_details_types_supported"]) != "payment" {
		t.Errorf("the types are %v", document["authorization_details_types_supported"])
	}
	if !strings.Contains(texts(document["grant_types_supported"]), "client_credentials") {
		t.Errorf("the grants are %v", document["grant_types_supported"])
	}
	if document := Do(t, request(t, "GET", Start(t).Issuer+"/.well-known/oauth-authorization-server", "", "")).Body; document["authorization_details_types_supported"] != nil {
		t.Error("types without an api")
	}
}

// A person says yes to a scope for the api that has it. Another api of the same sign-in that comes to have one of that name later was not agreed to, however
// often the app refreshes.
func TestAScopeThatAnAPIGetsLaterWasNotAgreedTo(t *testing.T) {
	const files = "https://api.example.com/files"
	Each(t, func(t *testing.T, e *Env) {
		scope := func(name string) registry.Scope { return registry.Scope{Name: name, Sentence: "Do " + name} }
		if _, err := e.Broker.APIs.Add(t.Context(), registry.API{Identifier: files, Name: "Files", Scopes: []registry.Scope{scope("files:read")}}); err != nil {
			t.Fatal(err)
		}
		signIn := func() *Response {
			target := e.AuthorizeURL(Web, "idp_hint", "google", "scope", "openid offline_access notes:read files:read") + "&" + url.Values{"resource": {notesAPI, files}}.Encode()
			location, page := NewBrowser(t).Walk(target, Web.RedirectURI)
			if location == nil || location.Query().Get("code") == "" {
				t.Fatalf("%v %s", location, page.Body)
			}
			return e.Redeem(t, Web, location.Query().Get("code"))
		}
		refresh := func(tokens *Response, resource string) string {
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}, "resource": {resource}}
			return e.Post(t, "/token", Web, form).String("scope")
		}
		before := signIn()
		if _, err := e.Broker.APIs.Update(t.Context(), files, func(a *registry.API) error { a.Scopes = append(a.Scopes, scope("notes:read")); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := refresh(before, files); got != "files:read" {
			t.Errorf("a token for the api that got the scope later has %q", got)
		}
		if got := refresh(before, notesAPI); got != "notes:read" {
			t.Errorf("a token for the api that had it has %q", got)
		}
		if got := refresh(signIn(), files); got != "notes:read files:read" {
			t.Errorf("agreed to by now: %q", got)
		}
	}, withAPIs, func(c *config.Config) {
		c.Clients[0].Scopes = append(c.Clients[0].Scopes, "files:read")
	})
}
