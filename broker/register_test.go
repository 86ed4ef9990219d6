package broker_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// Dynamic client registration and its management, as an app sees them. Whoever registers is a stranger: what they
// could gain by it is what these tests are about.

// openRegistration lets whoever comes register.
func openRegistration(c *config.Config) { c.Registration.Mode = config.ModeOpen }

// document is a registration document.
type document map[string]any

// with is the document with members changed; nil takes one out.
func (d document) with(pairs ...any) document {
	changed := maps.Clone(d)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(changed, pairs[i].(string))
		} else {
			changed[pairs[i].(string)] = pairs[i+1]
		}
	}
	return changed
}

var webApp = document{
	"client_name":   "Notes",
	"redirect_uris": []string{"https://notes.example/callback"},
	"grant_types":   []string{"authorization_code", "refresh_token"},
}

// call sends a JSON document with a token.
func call(t testing.TB, method, address, token string, body any) *Response {
	t.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, reader)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return Do(t, request)
}

// registered is a client that has registered itself.
type registered struct {
	Client
	URI, Token string
}

func register(t testing.TB, e *Env, d document) registered {
	t.Helper()
	r := call(t, http.MethodPost, e.Issuer+"/register", "", d)
	if r.Status != http.StatusCreated {
		t.Fatalf("registration: %d %v", r.Status, r.Body)
	}
	uris, _ := r.Body["redirect_uris"].([]any)
	client := registered{Client: Client{ID: r.String("client_id"), Secret: r.String("client_secret")}, URI: r.String("registration_client_uri"), Token: r.String("registration_access_token")}
	if len(uris) > 0 {
		client.RedirectURI, _ = uris[0].(string)
	}
	return client
}

// An app that nobody has registered registers itself, signs somebody in, changes its registration and ends it.
func TestAnAppRegistersItselfIsUsedChangedAndRemoved(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("contacts", []string{"dev@notes.example"}, "unknown_to_us", 7, "client_name#de", "Notizen"))
		if r.Status != http.StatusCreated || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %v", r.Status, r.Header, r.Body)
		}
		// RFC 7591 section 3.2.1: everything that was registered, defaults too.
		for name, want := range map[string]any{
			"client_name": "Notes", "token_endpoint_auth_method": "client_secret_basic", "application_type": "web", "client_secret_expires_at": 0.0,
			"scope": "openid profile email offline_access", "id_token_signed_response_alg": "RS256", "unknown_to_us": nil, "client_name#de": nil,
		} {
			if r.Body[name] != want {
				t.Errorf("%s is %v, want %v", name, r.Body[name], want)
			}
		}
		app := registered{Client: Client{ID: r.String("client_id"), Secret: r.String("client_secret"), RedirectURI: "https://notes.example/callback"}, URI: r.String("registration_client_uri"), Token: r.String("registration_access_token")}

		location, page := NewBrowser(t).Walk(e.AuthorizeURL(app.Client), app.RedirectURI)
		if location == nil {
			t.Fatalf("ended at %s: %s", page.URL, page.Body)
		}
		tokens := e.Redeem(t, app.Client, location.Query().Get("code"))
		if tokens.Status != http.StatusOK || tokens.String("refresh_token") == "" {
			t.Fatalf("redeeming: %d %v", tokens.Status, tokens.Body)
		}

		// Only hashes are kept: what was shown once is in no later answer, and nowhere in the store.
		read := call(t, http.MethodGet, app.URI, app.Token, nil)
		if read.Status != http.StatusOK || read.Body["client_secret"] != nil || read.String("client_id") != app.ID || read.String("registration_access_token") != app.Token {
			t.Errorf("reading: %d %v", read.Status, read.Body)
		}
		kept, err := e.Broker.Clients.Get(t.Context(), app.ID)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := json.Marshal(kept)
		if bytes.Contains(raw, []byte(app.Token)) || bytes.Contains(raw, []byte(app.Secret)) || strings.Contains(e.Logs.String(), app.Token) || strings.Contains(e.Logs.String(), app.Secret) {
			t.Error("a token or a secret is kept or logged as it is")
		}

		// A change replaces everything (RFC 7592 section 2.2): contacts, which are not in it, are gone.
		moved := call(t, http.MethodPut, app.URI, app.Token, webApp.with("client_id", app.ID, "client_secret", app.Secret, "redirect_uris", []string{"https://notes.example/new"}))
		if moved.Status != http.StatusOK || moved.Body["contacts"] != nil || moved.String("scope") != "openid profile email offline_access" {
			t.Fatalf("changing: %d %v", moved.Status, moved.Body)
		}
		if page := NewBrowser(t).Get(e.AuthorizeURL(app.Client)); page.Status != http.StatusBadRequest {
			t.Errorf("the redirect URI of before is still good: %d", page.Status)
		}

		if r := call(t, http.MethodDelete, app.URI, app.Token, nil); r.Status != http.StatusNoContent {
			t.Fatalf("deleting: %d %v", r.Status, r.Body)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			if r := call(t, method, app.URI, app.Token, nil); r.Status != http.StatusUnauthorized || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%s after the end: %d %v", method, r.Status, r.Body)
			}
		}
		if r := e.Refresh(t, app.Client, tokens.String("refresh_token")); r.String("error") != "invalid_client" {
			t.Errorf("a refresh after the end: %d %v", r.Status, r.Body)
		}
	}, openRegistration)
}

// The name of an app that registered itself is its own word: a person has to learn where their answer really goes.
func TestTheConsentPageSaysThatNobodyCheckedTheApp(t *testing.T) {
	e := Start(t, openRegistration)
	app := register(t, e, webApp.with("client_name", "Your Bank", "client_uri", "https://bank.example/", "logo_uri", "https://bank.example/logo.png",
		"policy_uri", "https://notes.example/privacy", "tos_uri", "https://bank.example/terms"))
	page := consentPage(t, NewBrowser(t), e, app.Client)
	for want, there := range map[string]bool{
		"has checked this app": true, "goes to <bdi>notes.example</bdi>": true, "https://notes.example/privacy": true,
		"bank.example": false, // neither its website, logo nor terms: the host is another's
	} {
		if strings.Contains(page.Body, want) != there {
			t.Errorf("the page says %q: %v, want %v\n%s", want, !there, there, page.Body)
		}
	}
	if page := consentPage(t, NewBrowser(t), e, Web); strings.Contains(page.Body, "has checked this app") {
		t.Errorf("an operator's own registration is doubted:\n%s", page.Body)
	}
	native := register(t, e, document{"client_name": "Tool", "redirect_uris": []string{"http://127.0.0.1/cb"}, "token_endpoint_auth_method": "none"})
	if page := consentPage(t, NewBrowser(t), e, native.Client); !strings.Contains(page.Body, "a program on this device") || strings.Contains(page.Body, "we remember it") {
		t.Errorf("a local app is not said to be one, whose yes is not remembered:\n%s", page.Body)
	}
}

// Any program on the person's machine can say that it is the app (RFC 8252 section 8.6): the yes that one got is not another's, so that each is
// asked for, even where the app has an address on the web besides. An operator who has looked at the app vouches for it.
func TestAYesToAnUncheckedAppOnThePersonsMachineIsNotRemembered(t *testing.T) {
	e := Start(t, openRegistration)
	ctx := t.Context()
	app := register(t, e, document{
		"client_name": "Tool", "redirect_uris": []string{"http://127.0.0.1/cb", "https://tool.example/cb"}, "token_endpoint_auth_method": "none",
	}).Client
	local, web := app, app
	local.RedirectURI, web.RedirectURI = "http://127.0.0.1:4711/cb", "https://tool.example/cb"
	b := NewBrowser(t)
	e.Code(t, b, local)
	if answer := e.Code(t, b, local, "prompt", "none"); answer.Get("error") != "consent_required" {
		t.Errorf("the second program: %v", answer)
	}
	if page := b.Get(e.AuthorizeURL(web, "prompt", "none")); page.Location() != nil {
		t.Errorf("a yes to a program here is one to an address on the web: %v", page.Location())
	}
	e.Code(t, b, web)
	if answer := e.Code(t, b, web, "prompt", "none"); answer.Get("code") == "" {
		t.Errorf("an address on the web: %v", answer)
	}
	if _, err := e.Broker.Clients.Update(ctx, app.ID, func(c *registry.Client) error { c.Verify(); return nil }); err != nil {
		t.Fatal(err)
	}
	e.Code(t, b, local) // what was agreed to before was an unchecked app
	if answer := e.Code(t, b, local, "prompt", "none"); answer.Get("code") == "" {
		t.Errorf("an app that an operator vouches for: %v", answer)
	}
}

// A program with a secret or a key of its own is no other's to be: a code that another one got in its name cannot be redeemed (RFC 8252 section 8.4). The
// yes that it was given is remembered as everybody's is.
func TestAYesToAnUncheckedAppThatAuthenticatesIsRemembered(t *testing.T) {
	e := Start(t, openRegistration)
	app := register(t, e, webApp.with("redirect_uris", []string{"http://127.0.0.1/cb"})).Client
	b := NewBrowser(t)
	if page := consentPage(t, b, e, app); strings.Contains(page.Body, "We ask each time") {
		t.Errorf("the page says that it asks each time:\n%s", page.Body)
	}
	e.Code(t, b, app)
	if answer := e.Code(t, b, app, "prompt", "none"); answer.Get("code") == "" {
		t.Errorf("the second time: %v", answer)
	}
	if answer := e.Code(t, b, app, "prompt", "none", "scope", "openid profile email"); answer.Get("error") != "consent_required" {
		t.Errorf("a scope more: %v", answer)
	}
}

// consentPage signs in as far as the question.
func consentPage(t *testing.T, b *Browser, e *Env, c Client, edits ...string) *Page {
	t.Helper()
	page := b.Get(e.AuthorizeURL(c, edits...))
	for range 20 {
		switch {
		case len(page.Forms) > 0 && strings.HasSuffix(page.Forms[0].Action, "/consent"):
			return page
		case page.Location() != nil:
			page = b.Get(page.Location().String())
		case len(page.Forms) > 0 && page.Status == http.StatusOK:
			page = page.Submit(0, "")
		default:
			t.Fatalf("no consent page, but %s (%d):\n%s", page.URL, page.Status, page.Body)
		}
	}
	t.Fatalf("no consent page, but %s", page.URL)
	return nil
}

// What a stranger may not have is refused with the field that says so; a redirect URI has an error of its own (RFC 7591 section 3.2.2).
func TestWhatAStrangerCannotRegisterNamesItsField(t *testing.T) {
	const metadata, redirect = "invalid_client_metadata", "invalid_redirect_uri"
	key := `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
	private := strings.Replace(key, `"kty"`, `"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","kty"`, 1)
	e := Start(t, openRegistration, func(c *config.Config) { c.Registration.MaxPerHour = 1000 })
	for name, try := range map[string]struct {
		document document
		code     string
		says     string
	}{
		"no redirect URI":                  {webApp.with("redirect_uris", nil), redirect, "redirect_uris"},
		"plain http":                       {webApp.with("redirect_uris", []string{"http://notes.example/cb"}), redirect, "redirect_uris"},
		"a wildcard":                       {webApp.with("redirect_uris", []string{"https://*.notes.example/cb"}), redirect, "redirect_uris"},
		"a fragment":                       {webApp.with("redirect_uris", []string{"https://notes.example/cb#x"}), redirect, "redirect_uris"},
		"another host before the @":        {webApp.with("redirect_uris", []string{"https://notes.example@evil.example/cb"}), redirect, "redirect_uris"},
		"a script":                         {webApp.with("redirect_uris", []string{"javascript:alert(1)"}), redirect, "redirect_uris"},
		"a scheme that is nobody's":        {webApp.with("redirect_uris", []string{"notes:/cb"}, "token_endpoint_auth_method", "none"), redirect, "redirect_uris"},
		"a web app on loopback":            {webApp.with("redirect_uris", []string{"http://127.0.0.1/cb"}, "application_type", "web"), redirect, "redirect_uris"},
		"many redirect URIs":               {webApp.with("redirect_uris", manyURIs(100)), redirect, "redirect_uris"},
		"a redirect URI that is no text":   {webApp.with("redirect_uris", []any{7}), redirect, "redirect_uris"},
		"a name that is no text":           {webApp.with("client_name", []string{"a"}), metadata, "client_name"},
		"a name that hides":                {webApp.with("client_name", "a\u202eb"), metadata, "client_name"},
		"a kind of app that is none":       {webApp.with("application_type", "toaster"), metadata, "application_type"},
		"the implicit grant":               {webApp.with("grant_types", []string{"implicit"}), metadata, "grant_types"},
		"people's passwords":               {webApp.with("grant_types", []string{"authorization_code", "password"}), metadata, "grant_types"},
		"somebody else's tokens":           {webApp.with("grant_types", []string{"authorization_code", registry.GrantTokenExchange}), metadata, "grant_types"},
		"tokens in URLs":                   {webApp.with("response_types", []string{"code", "token"}), metadata, "response_types"},
		"a code without its grant":         {webApp.with("grant_types", []string{"refresh_token"}, "response_types", []string{"code"}), metadata, "response_types"},
		"a kind of permission beyond":      {webApp.with("authorization_details_types", []string{"payment"}), metadata, "authorization_details_types"},
		"a scope beyond":                   {webApp.with("scope", "openid admin"), metadata, "scope"},
		"a method that does not exist":     {webApp.with("token_endpoint_auth_method", "trust_me"), metadata, "token_endpoint_auth_method"},
		"keys that are not there":          {webApp.with("token_endpoint_auth_method", "private_key_jwt"), metadata, "jwks"},
		"keys twice":                       {webApp.with("jwks", json.RawMessage(key), "jwks_uri", "https://notes.example/jwks"), metadata, "jwks_uri"},
		"a private key":                    {webApp.with("jwks", json.RawMessage(private)), metadata, "jwks"},
		"keys at a private address":        {webApp.with("jwks_uri", "https://10.0.0.1/jwks"), metadata, "jwks_uri"},
		"keys on this machine":             {webApp.with("jwks_uri", "http://127.0.0.1/jwks"), metadata, "jwks_uri"},
		"sign-outs told to the cloud":      {webApp.with("backchannel_logout_uri", "https://169.254.169.254/latest"), metadata, "backchannel_logout_uri"},
		"a logo of a script":               {webApp.with("logo_uri", "javascript:alert(1)"), metadata, "logo_uri"},
		"a policy that is data":            {webApp.with("policy_uri", "data:text/html,x"), metadata, "policy_uri"},
		"no signature":                     {webApp.with("id_token_signed_response_alg", "none"), metadata, "id_token_signed_response_alg"},
		"an encrypted userinfo":            {webApp.with("userinfo_encrypted_response_alg", "RSA-OAEP"), metadata, "userinfo_encrypted_response_alg"},
		"subjects of another kind":         {webApp.with("subject_type", "secret"), metadata, "subject_type"},
		"a sector at a private address":    {webApp.with("sector_identifier_uri", "https://192.168.0.1/s.json"), metadata, "sector_identifier_uri"},
		"a statement that nobody believes": {webApp.with("software_statement", "eyJhbGciOiJub25lIn0.e30."), "invalid_software_statement", "software statement"},
	} {
		r := call(t, http.MethodPost, e.Issuer+"/register", "", try.document)
		if r.Status != http.StatusBadRequest || r.String("error") != try.code || !strings.Contains(r.String("error_description"), try.says) {
			t.Errorf("%s: %d %v, want %s that says %s", name, r.Status, r.Body, try.code, try.says)
		}
	}
	if all, _, err := e.Broker.Clients.List(t.Context(), ""); err != nil || len(all) != 4 {
		t.Errorf("%d clients are there, %v; want those of the configuration alone", len(all), err)
	}
}

func manyURIs(n int) []string {
	uris := make([]string, n)
	for i := range uris {
		uris[i] = "https://notes.example/" + strings.Repeat("a", i+1)
	}
	return uris
}

// A document that two readers could read differently, or that costs more to read than to send, is none.
func TestADocumentThatIsNoCleanJSONIsRefused(t *testing.T) {
	e := Start(t, openRegistration)
	for name, body := range map[string]string{
		"no JSON":           `redirect_uris=https://notes.example/cb`,
		"a list":            `[]`,
		"null":              `null`,
		"twice":             `{"redirect_uris":["https://notes.example/cb"],"redirect_uris":["https://evil.example/cb"]}`,
		"in other case":     `{"Redirect_URIs":["https://notes.example/cb"]}`,
		"more after it":     `{"redirect_uris":["https://notes.example/cb"]}{}`,
		"deep":              `{"jwks":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
		"wide":              `{"jwks":{` + strings.TrimSuffix(strings.Repeat(`"a":1,`, 5000), ",") + `}}`,
		"beyond a megabyte": `{"client_name":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		r := call(t, http.MethodPost, e.Issuer+"/register", "", body)
		if r.Status < 400 || r.Status >= 500 || r.String("error") == "" {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
		}
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Issuer+"/register", strings.NewReader(`{"redirect_uris":["https://notes.example/cb"]}`))
	request.Header.Set("Content-Type", "text/plain") // what a form of another site can send without asking
	if r := Do(t, request); r.Status != http.StatusBadRequest {
		t.Errorf("as text: %d %v", r.Status, r.Body)
	}
}

const initialToken = "an-initial-access-token-0123456789-0123456789"

// Where a token is needed, who has none gets nothing: neither without, nor with a client's or a registration's own.
func TestRegistrationByInitialAccessToken(t *testing.T) {
	e := Start(t, func(c *config.Config) {
		c.Registration.Mode = config.ModeToken
		c.Registration.InitialAccessTokens = []config.InitialAccessToken{{Secret: config.NewSecret(strings.Repeat("other", 8))}, {Secret: config.NewSecret(initialToken)}}
	})
	r := call(t, http.MethodPost, e.Issuer+"/register", initialToken, webApp)
	if r.Status != http.StatusCreated {
		t.Fatalf("with the token: %d %v", r.Status, r.Body)
	}
	for name, token := range map[string]string{"none": "", "a wrong one": initialToken + "x", "a registration's": r.String("registration_access_token"), "a secret": Web.Secret} {
		r := call(t, http.MethodPost, e.Issuer+"/register", token, webApp)
		if r.Status != http.StatusUnauthorized || r.String("error") != "invalid_token" || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
		}
	}
	// In the URL or the form it would end in logs.
	if r := call(t, http.MethodPost, e.Issuer+"/register?access_token="+initialToken, "", webApp); r.Status != http.StatusUnauthorized {
		t.Errorf("in the URL: %d", r.Status)
	}
	if strings.Contains(e.Logs.String(), initialToken) {
		t.Error("the token is in the log")
	}
}

// It is off unless it is switched on, and discovery says which.
func TestRegistrationIsOffUnlessSwitchedOn(t *testing.T) {
	discovery := func(e *Env) *Response {
		return call(t, http.MethodGet, e.Issuer+"/.well-known/openid-configuration", "", nil)
	}
	e := Start(t)
	if r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp); r.Status != http.StatusNotFound {
		t.Errorf("off: %d %v", r.Status, r.Body)
	}
	if d := discovery(e); d.Body["registration_endpoint"] != nil || d.Body["client_id_metadata_document_supported"] != nil {
		t.Errorf("off: %v", d.Body)
	}
	e = Start(t, openRegistration, func(c *config.Config) { c.ClientIDMetadata.Mode = config.ModeOpen })
	if d := discovery(e); d.String("registration_endpoint") != e.Issuer+"/register" || d.Body["client_id_metadata_document_supported"] != true {
		t.Errorf("on: %v", d.Body)
	}
}

// node is another broker over the same store.
func node(t *testing.T, e *Env) string {
	t.Helper()
	b, err := broker.New(t.Context(), e.Config, broker.Options{Now: e.Clock.Now, Backend: e.Backend})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.Handler)
	t.Cleanup(func() {
		server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

// Whoever would fill the store with registrations comes from many nodes at once, and says that they are somebody else each time.
func TestMassRegistrationIsThrottledAcrossNodes(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		nodes := []string{e.Issuer, node(t, e)}
		var made, refused, turn atomic.Int64
		storetest.Race(16, func() {
			n := turn.Add(1)
			raw, _ := json.Marshal(webApp)
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, nodes[n%2]+"/register", bytes.NewReader(raw))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("X-Forwarded-For", "192.0.2."+string(rune('0'+n%10)))
			switch r := Do(t, request); r.Status {
			case http.StatusCreated:
				made.Add(1)
			case http.StatusTooManyRequests:
				refused.Add(1)
				if r.Header.Get("Retry-After") == "" {
					t.Error("it does not say when to come back")
				}
			default:
				t.Errorf("%d %v", r.Status, r.Body)
			}
		})
		if made.Load() < 1 || made.Load() > 3 || made.Load()+refused.Load() != 16 {
			t.Errorf("%d were made and %d refused, want at most 3", made.Load(), refused.Load())
		}
		e.Clock.Advance(time.Hour)
		register(t, e, webApp)
	}, openRegistration, func(c *config.Config) { c.Registration.MaxPerHour = 3 })
}

// A registration access token opens one registration. That of another, a secret, or a token for one that is no more are told apart by nobody.
func TestARegistrationIsManagedByItsOwnTokenAlone(t *testing.T) {
	e := Start(t, openRegistration)
	mine, other := register(t, e, webApp), register(t, e, webApp)
	gone := register(t, e, webApp)
	call(t, http.MethodDelete, gone.URI, gone.Token, nil)
	var answers []string
	for _, try := range []struct{ uri, token string }{
		{mine.URI, other.Token},
		{mine.URI, mine.Secret},
		{mine.URI, ""},
		{gone.URI, gone.Token},
		{e.Issuer + "/register/nobody", mine.Token},
		{e.Issuer + "/register/web", Web.Secret},
		{e.Issuer + "/register/" + url.PathEscape("https://notes.example/client.json"), mine.Token},
		{e.Issuer + "/register/..%2Fx", mine.Token},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			r := call(t, method, try.uri, try.token, webApp.with("client_id", mine.ID))
			if r.Status != http.StatusUnauthorized {
				t.Errorf("%s %s: %d %v", method, try.uri, r.Status, r.Body)
			}
			answers = append(answers, r.String("error_description"))
		}
	}
	if slices.Sort(answers); answers[0] != answers[len(answers)-1] {
		t.Errorf("the answers differ: %q and %q", answers[0], answers[len(answers)-1])
	}
	if r := call(t, http.MethodGet, mine.URI, mine.Token, nil); r.Status != http.StatusOK {
		t.Errorf("the owner: %d %v", r.Status, r.Body)
	}

	// An operator who disables an app does not have it change itself meanwhile.
	if _, err := e.Broker.Clients.Update(t.Context(), mine.ID, func(c *registry.Client) error { c.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if r := call(t, http.MethodPut, mine.URI, mine.Token, webApp.with("client_id", mine.ID)); r.Status != http.StatusUnauthorized {
		t.Errorf("a disabled app changes itself: %d %v", r.Status, r.Body)
	}
}

// A change may not choose a secret, take another client's id, become what nobody handed out anything for, or get more than a
// registration gets (RFC 7592 section 2.2).
func TestAChangeIsNoWayToMoreThanARegistrationGives(t *testing.T) {
	e := Start(t, openRegistration)
	app := register(t, e, webApp)
	own := webApp.with("client_id", app.ID)
	for name, try := range map[string]struct {
		document document
		says     string
	}{
		"no client_id":            {webApp, "client_id"},
		"another's client_id":     {webApp.with("client_id", "web"), "client_id"},
		"a secret of one's own":   {own.with("client_secret", strings.Repeat("s", 40)), "client_secret"},
		"an empty secret":         {own.with("client_secret", ""), "client_secret"},
		"the token":               {own.with("registration_access_token", app.Token), "registration_access_token"},
		"the address":             {own.with("registration_client_uri", app.URI), "registration_client_uri"},
		"when it was registered":  {own.with("client_id_issued_at", 1), "client_id_issued_at"},
		"when the secret expires": {own.with("client_secret_expires_at", 0), "client_secret_expires_at"},
		"no secret any more":      {own.with("token_endpoint_auth_method", "none"), "token_endpoint_auth_method"},
		"a grant beyond":          {own.with("grant_types", []string{"password"}), "grant_types"},
		"permissions beyond":      {own.with("authorization_details_types", []string{"payment"}), "authorization_details_types"},
		"a scope beyond":          {own.with("scope", "admin"), "scope"},
		"a bad redirect URI":      {own.with("redirect_uris", []string{"http://notes.example/"}), "redirect_uris"},
	} {
		if r := call(t, http.MethodPut, app.URI, app.Token, try.document); r.Status != http.StatusBadRequest || !strings.Contains(r.String("error_description"), try.says) {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
		}
	}
	read := call(t, http.MethodGet, app.URI, app.Token, nil)
	if uris := read.Body["redirect_uris"].([]any); len(uris) != 1 || uris[0] != app.RedirectURI {
		t.Errorf("after all that: %v", read.Body)
	}

	// What an operator has set stays, and what they have given may be kept.
	if _, err := e.Broker.Clients.Update(t.Context(), app.ID, func(c *registry.Client) error {
		c.Connectors, c.Scopes = []string{"google"}, append(c.Scopes, "notes:read")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := call(t, http.MethodPut, app.URI, app.Token, own.with("scope", "openid notes:read")); r.Status != http.StatusOK {
		t.Errorf("with the scope that it was given: %d %v", r.Status, r.Body)
	}
	if c, err := e.Broker.Clients.Get(t.Context(), app.ID); err != nil || !slices.Equal(c.Connectors, []string{"google"}) {
		t.Errorf("the connectors are %v, %v", c.Connectors, err)
	}
}

// What strangers leave behind is collected; what somebody uses is kept.
func TestARegistrationThatNobodyUsesIsForgotten(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		used, unused := register(t, e, webApp), register(t, e, webApp)
		e.SignIn(t, NewBrowser(t), used.Client)
		e.Clock.Advance(31 * 24 * time.Hour)
		if r := call(t, http.MethodGet, unused.URI, unused.Token, nil); r.Status != http.StatusUnauthorized {
			t.Errorf("the one that nobody used: %d %v", r.Status, r.Body)
		}
		if r := call(t, http.MethodGet, used.URI, used.Token, nil); r.Status != http.StatusOK {
			t.Errorf("the one that was used: %d %v", r.Status, r.Body)
		}
		e.SignIn(t, NewBrowser(t), used.Client)
	}, openRegistration)
}

// PKCE is required of whoever registers, unless the operator says otherwise; and of a public client even then, which has nothing else.
func TestPKCEOfThoseWhoRegister(t *testing.T) {
	public := webApp.with("token_endpoint_auth_method", "none")
	for name, try := range map[string]struct {
		setting  string
		document document
		want     bool
	}{
		"required":            {"required", webApp, false},
		"optional":            {"optional", webApp, true},
		"optional, no secret": {"optional", public, false},
	} {
		e := Start(t, openRegistration, func(c *config.Config) { c.Registration.PKCE = try.setting })
		app := register(t, e, try.document)
		location, _ := NewBrowser(t).Walk(e.AuthorizeURL(app.Client, "code_challenge", "", "code_challenge_method", ""), app.RedirectURI)
		if got := location != nil && location.Query().Get("code") != ""; got != try.want {
			t.Errorf("%s: a code without PKCE: %v, want %v (%v)", name, got, try.want, location)
		}
	}
}

// The apps that people have: by RFC 7591 alone, as native programs, with each way to authenticate that needs nothing more.
func TestEachKindOfAppCanRegister(t *testing.T) {
	key := json.RawMessage(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
	e := Start(t, openRegistration, func(c *config.Config) { c.Registration.MaxPerHour = 1000 })
	for name, try := range map[string]struct {
		document document
		want     map[string]any
	}{
		"nothing but a redirect URI": {document{"redirect_uris": []string{"https://notes.example/cb"}}, map[string]any{"client_name": "notes.example", "application_type": "web"}},
		"a program on a machine": {
			document{"client_name": "Tool", "redirect_uris": []string{"http://localhost:3334/oauth/callback"}, "token_endpoint_auth_method": "none", "response_types": []string{"code"}},
			map[string]any{"application_type": "native", "client_secret": nil, "client_secret_expires_at": nil},
		},
		"an app on a phone":   {document{"application_type": "native", "redirect_uris": []string{"com.example.app:/cb", "https://app.example/claimed"}, "token_endpoint_auth_method": "none"}, nil},
		"in the form":         {webApp.with("token_endpoint_auth_method", "client_secret_post"), nil},
		"a secret that signs": {webApp.with("token_endpoint_auth_method", "client_secret_jwt"), nil},
		"keys":                {webApp.with("token_endpoint_auth_method", "private_key_jwt", "jwks", key), map[string]any{"client_secret": nil}},
		"keys elsewhere":      {webApp.with("token_endpoint_auth_method", "private_key_jwt", "jwks_uri", "https://notes.example/jwks"), nil},
		"null is not there":   {document{"client_name": nil, "redirect_uris": []string{"https://notes.example/cb"}, "jwks": json.RawMessage("null"), "default_max_age": json.RawMessage("null")}, map[string]any{"client_name": "notes.example"}},
		"all kinds of words":  {webApp.with("default_max_age", 3600, "require_auth_time", true, "default_acr_values", []string{"a"}, "initiate_login_uri", "https://notes.example/login", "software_id", "4NRB1-0XZABZI9E6-5SM3R", "software_version", "2.1", "post_logout_redirect_uris", []string{"https://notes.example/bye"}, "dpop_bound_access_tokens", true), map[string]any{"software_version": "2.1", "default_max_age": 3600.0, "dpop_bound_access_tokens": true}},
	} {
		r := call(t, http.MethodPost, e.Issuer+"/register", "", try.document)
		if r.Status != http.StatusCreated {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
			continue
		}
		for field, want := range try.want {
			if r.Body[field] != want {
				t.Errorf("%s: %s is %v, want %v", name, field, r.Body[field], want)
			}
		}
		// What comes back can be sent back: a client reads, changes one thing and writes all of it (RFC 7592 section 2.2).
		back := document{}
		for field, value := range r.Body {
			if !slices.Contains([]string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"}, field) {
				back[field] = value
			}
		}
		if again := call(t, http.MethodPut, r.String("registration_client_uri"), r.String("registration_access_token"), back); again.Status != http.StatusOK {
			t.Errorf("%s, sent back: %d %v", name, again.Status, again.Body)
		}
	}
}

// What a client may ask for in detail is often more than any scope allows, such as a payment. A stranger must not have it by
// registering for it, in either way; an operator may name a type that they can have.
func TestAStrangerAsksInDetailForNothingButWhatTheOperatorNamed(t *testing.T) {
	site := newAppSite(t)
	grants := func(c *config.Config) {
		c.Registration.GrantTypes = append(c.Registration.GrantTypes, registry.GrantClientCredentials)
	}
	d := webApp.with("authorization_details_types", []string{"payment"}, "grant_types", []string{"authorization_code", "client_credentials"})

	e := Start(t, withAPIs, openRegistration, grants, site.trusted(t))
	if r := call(t, http.MethodPost, e.Issuer+"/register", "", d); r.Status != http.StatusBadRequest || r.String("error") != "invalid_client_metadata" {
		t.Errorf("a stranger registers for payments: %d %v", r.Status, r.Body)
	}
	app := site.app("/client.json", "authorization_details_types", []string{"payment"})
	page := NewBrowser(t).Get(e.AuthorizeURL(app, "authorization_details", allowedPay))
	if location := onward(t, page); location == nil || location.Query().Get("error") != "invalid_authorization_details" {
		t.Errorf("a client that nobody registered asks for a payment: %d %v", page.Status, location)
	}
	page = NewBrowser(t).Get(e.AuthorizeURL(app, "resource", bankAPI))
	if location := onward(t, page); location == nil || location.Query().Get("error") != "invalid_target" {
		t.Errorf("and for a token that the bank takes: %d %v", page.Status, location)
	}

	e = Start(t, withAPIs, openRegistration, grants, site.trusted(t), func(c *config.Config) {
		c.Registration.AuthorizationDetailsTypes = []string{"payment"}
	})
	named := register(t, e, d)
	r := e.Post(t, "/token", named.Client, url.Values{"grant_type": {registry.GrantClientCredentials}, "authorization_details": {allowedPay}})
	if r.Status != http.StatusOK || r.Body["authorization_details"] == nil {
		t.Errorf("a type that the operator named: %d %v", r.Status, r.Body)
	}
}

// An api that is there for apps that nobody has registered says so itself, and they may ask people for all its scopes: programs register with
// the first scope that they need, and come back for the next. It is no way to other apis, or past the person.
func TestAnAPIIsOpenToAppsThatNobodyRegistered(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := webApp.with("scope", "notes:read", "grant_types", []string{"authorization_code", "refresh_token", "client_credentials"})
		r := call(t, http.MethodPost, e.Issuer+"/register", "", d)
		if want := "openid profile email offline_access notes:read notes:write"; r.Status != http.StatusCreated || r.String("scope") != want {
			t.Fatalf("it registers for what it may have, %q: %d %v", want, r.Status, r.Body)
		}
		app := registered{Client: Client{ID: r.String("client_id"), Secret: r.String("client_secret"), RedirectURI: "https://notes.example/callback"}}
		again := call(t, http.MethodPut, r.String("registration_client_uri"), r.String("registration_access_token"), d.with("client_id", app.ID, "scope", r.String("scope")))
		if again.Status != http.StatusOK || again.String("scope") != r.String("scope") {
			t.Errorf("its own metadata, sent back: %d %v", again.Status, again.Body)
		}
		if kept, err := e.Broker.Clients.Get(t.Context(), app.ID); err != nil || slices.Contains(kept.Scopes, "notes:read") {
			t.Errorf("it has for good what the api may take back: %v, %v", kept.Scopes, err)
		}

		b := NewBrowser(t)
		page := consentPage(t, b, e, app.Client, "scope", "notes:write", "resource", notesAPI)
		if !strings.Contains(page.Body, "Write your notes") || !strings.Contains(page.Body, "has checked this app") {
			t.Errorf("the person is not told:\n%s", page.Body)
		}
		tokens := e.SignIn(t, b, app.Client, "scope", "notes:read notes:write", "resource", notesAPI)
		if tokens.String("scope") != "notes:read notes:write" {
			t.Errorf("tokens: %v", tokens.Body)
		}
		if said := introspect(t, e, notesHost, tokens.String("access_token")); said["scope"] != "notes:read notes:write" || said.audience() != notesAPI {
			t.Errorf("the api is told %v", said)
		}

		for edits, code := range map[[4]string]string{
			{"scope", "mail:read", "resource", mailAPI}: "invalid_target",
			{"scope", "mail:read", "resource", ""}:      "invalid_scope",
		} {
			page := b.Get(e.AuthorizeURL(app.Client, edits[:]...))
			if to := onward(t, page); to == nil || to.Query().Get("error") != code {
				t.Errorf("%v: %v\n%s", edits, to, page.Body)
			}
		}
		if r := e.Post(t, "/token", app.Client, url.Values{"grant_type": {registry.GrantClientCredentials}, "scope": {"notes:read"}, "resource": {notesAPI}}); r.Status == http.StatusOK {
			t.Errorf("without a person: %v", r.Body)
		}
		if r := call(t, http.MethodPost, e.Issuer+"/register", "", d.with("scope", "notes:read mail:read")); r.String("error") != "invalid_client_metadata" {
			t.Errorf("it registers for another api: %d %v", r.Status, r.Body)
		}
	}, withAPIs, openRegistration, func(c *config.Config) {
		c.APIs[0].SelfRegistered = true
		c.Registration.GrantTypes = append(c.Registration.GrantTypes, registry.GrantClientCredentials)
	})
}

// An api that another node or a command has registered a moment ago is open at once: clients come with the first answer of a server that was just set up.
func TestAnAPIThatIsJustRegisteredIsOpenToAppsThatNobodyRegistered(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		other := e.Node(t)
		_, err := other.Broker.APIs.Add(t.Context(), registry.API{
			Identifier: "http://127.0.0.1:9000/mcp", Name: "Notes", SelfRegistered: true, Scopes: []registry.Scope{{Name: "jot:read", Sentence: "Read what you jotted down"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("scope", "jot:read"))
		if r.Status != http.StatusCreated || !strings.HasSuffix(r.String("scope"), " jot:read") {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
		app := Client{ID: r.String("client_id"), Secret: r.String("client_secret"), RedirectURI: "https://notes.example/callback"}
		if tokens := e.SignIn(t, NewBrowser(t), app, "scope", "jot:read", "resource", "http://127.0.0.1:9000/mcp"); tokens.String("scope") != "jot:read" {
			t.Errorf("%v", tokens.Body)
		}
	}, openRegistration)
}

// Whoever registers an app names where its request objects are, and links that anybody opens have them read: the broker is nobody's means to
// flood somebody else. An app that the operator registered is not counted.
func TestRequestObjectsOfStrangersAreReadWithinBounds(t *testing.T) {
	var reads atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reads.Add(1) }))
	t.Cleanup(target.Close)
	object := target.URL + "/object.jwt"
	e := Start(t, func(c *config.Config) {
		c.Registration.Mode, c.Fetch.AllowPrivate = "open", true
		c.Clients[0].RequestURIs = []string{object}
	})
	stranger := register(t, e, webApp.with("request_uris", []string{object}))
	open := func(c Client) string {
		page := NewBrowser(t).Get(e.AuthorizeURL(c, "request_uri", object))
		to := page.Location()
		if to == nil {
			to = onward(t, page)
		}
		return to.Query().Get("error")
	}
	const most = 60
	for range most + 20 {
		open(stranger.Client)
	}
	if n := reads.Load(); n < most || n > most+5 { // one is given back each second
		t.Errorf("%d reads of %d requests, want about %d", n, most+20, most)
	}
	if got := open(stranger.Client); got != "temporarily_unavailable" {
		t.Errorf("the app is told %q", got)
	}
	before := reads.Load()
	if open(Web); reads.Load() != before+1 {
		t.Error("the operator's own app is held up by strangers")
	}
	e.Clock.Advance(time.Minute)
	if open(stranger.Client); reads.Load() != before+2 {
		t.Error("after a minute the object is not read")
	}
}
