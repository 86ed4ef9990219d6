package broker_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// push pushes an authorization request (RFC 9126 section 2), its parameters changed by edits as AuthorizeURL's are.
func push(t testing.TB, e *Env, c Client, edits ...string) *Response {
	t.Helper()
	return e.Post(t, "/par", c, edited(AuthorizeParams(c), edits...))
}

func edited(params url.Values, edits ...string) url.Values {
	for i := 0; i+1 < len(edits); i += 2 {
		if edits[i+1] == "" {
			params.Del(edits[i])
		} else {
			params.Set(edits[i], edits[i+1])
		}
	}
	return params
}

// pushed pushes and returns the address for the browser.
func pushed(t testing.TB, e *Env, c Client, edits ...string) string {
	t.Helper()
	r := push(t, e, c, edits...)
	if r.Status != http.StatusCreated {
		t.Fatalf("pushing: %d %v", r.Status, r.Body)
	}
	return pushedURL(e, c, r.String("request_uri"))
}

func pushedURL(e *Env, c Client, requestURI string) string {
	return e.Issuer + "/authorize?" + url.Values{"client_id": {c.ID}, "request_uri": {requestURI}}.Encode()
}

// arrived is what the app is told at the end of a walk.
func arrived(t testing.TB, b *Browser, address string, c Client) url.Values {
	t.Helper()
	location, page := b.Walk(address, c.RedirectURI)
	if location == nil {
		t.Fatalf("the sign-in ended at %s (%d):\n%s", page.URL, page.Status, page.Body)
	}
	return location.Query()
}

// toConsent goes on from a page, always by the first button, until the consent page.
func toConsent(t testing.TB, b *Browser, page *Page) *Page {
	t.Helper()
	for range 20 {
		switch location := page.Location(); {
		case location != nil:
			page = b.Get(location.String())
		case len(page.Forms) > 0 && strings.HasSuffix(page.Forms[0].Action, "/consent"):
			return page
		default:
			page = page.Submit(0, "")
		}
	}
	t.Fatalf("no consent page; the walk is at %s", page.URL)
	return nil
}

func TestAPushedRequestSignsIn(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		r := push(t, e, Web, "idp_hint", "google")
		if r.Status != http.StatusCreated || r.Body["expires_in"] != 90.0 || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("got %d %v %v", r.Status, r.Body, r.Header)
		}
		requestURI := r.String("request_uri")
		if !strings.HasPrefix(requestURI, "urn:ietf:params:oauth:request_uri:") {
			t.Errorf("the request_uri is %q", requestURI)
		}
		// What stands beside the reference does not count (RFC 9126 section 4): it is what somebody on the way could change.
		address := pushedURL(e, Web, requestURI) + "&state=other&scope=openid+email&redirect_uri=" + url.QueryEscape("https://evil.example.com/")
		answer := arrived(t, NewBrowser(t), address, Web)
		if answer.Get("state") != "st-1" || answer.Get("iss") != e.Issuer {
			t.Errorf("the app is told %v", answer)
		}
		tokens := e.Redeem(t, Web, answer.Get("code"))
		if tokens.Status != http.StatusOK || tokens.String("scope") != "openid offline_access" {
			t.Errorf("the code gives %d %v", tokens.Status, tokens.Body)
		}
	})
	t.Run("of a public client, which says its name alone", func(t *testing.T) {
		e := Start(t)
		if answer := arrived(t, NewBrowser(t), pushed(t, e, Native, "idp_hint", "google"), Native); answer.Get("code") == "" {
			t.Errorf("the app is told %v", answer)
		}
	})
}

// A pushed request is judged when it is pushed, as the authorization endpoint would judge it, and the client hears of its mistakes
// (RFC 9126 section 2.3).
func TestAPushedRequestIsJudgedAtOnce(t *testing.T) {
	e := Start(t)
	for _, c := range []struct {
		name   string
		client Client
		edits  []string
		status int
		want   string
	}{
		{"a wrong secret", Client{ID: Web.ID, Secret: "wrong", RedirectURI: Web.RedirectURI}, nil, 401, "invalid_client"},
		{"a confidential client without its secret", Client{ID: Web.ID, RedirectURI: Web.RedirectURI}, nil, 401, "invalid_client"},
		{"another client's name in the form", Web, []string{"client_id", Other.ID}, 400, "invalid_request"},
		{"a redirect URI that is not registered", Web, []string{"redirect_uri", "https://evil.example.com/"}, 400, "invalid_request"},
		{"no redirect URI", Web, []string{"redirect_uri", ""}, 400, "invalid_request"},
		{"a reference within", Web, []string{"request_uri", "urn:ietf:params:oauth:request_uri:x"}, 400, "invalid_request"},
		{"the implicit flow", Web, []string{"response_type", "token"}, 400, "unsupported_response_type"},
		{"an unknown scope", Web, []string{"scope", "openid admin"}, 400, "invalid_scope"},
		{"no PKCE", Web, []string{"code_challenge", "", "code_challenge_method", ""}, 400, "invalid_request"},
		{"plain PKCE", Web, []string{"code_challenge_method", "plain"}, 400, "invalid_request"},
		{"a request object that nobody signed", Web, []string{"request", "eyJhbGciOiJub25lIn0.e30."}, 400, "invalid_request_object"},
		{"claims that are none", Web, []string{"claims", "[]"}, 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := push(t, e, c.client, c.edits...)
			if r.Status != c.status || r.String("error") != c.want || r.String("error_description") == "" {
				t.Errorf("got %d %v, want %d %s", r.Status, r.Body, c.status, c.want)
			}
		})
	}
	t.Run("one that is too long", func(t *testing.T) {
		form := AuthorizeParams(Web)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			form.Set(name, strings.Repeat("x", 8<<10))
		}
		if r := e.Post(t, "/par", Web, form); r.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d %v", r.Status, r.Body)
		}
	})
	t.Run("by GET", func(t *testing.T) {
		if page := NewBrowser(t).Get(e.Issuer + "/par?" + AuthorizeParams(Web).Encode()); page.Status != http.StatusMethodNotAllowed {
			t.Errorf("got %d", page.Status)
		}
	})
}

// What authenticated the client is for this one request: whoever reads the store finds nothing to be the client with.
func TestAPushedRequestIsKeptWithoutCredentials(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		form := AuthorizeParams(Web)
		form.Set("client_secret", Web.Secret)
		if r := e.Post(t, "/par", Client{}, form); r.Status != http.StatusCreated {
			t.Fatalf("got %d %v", r.Status, r.Body)
		}
		kept := 0
		err := e.Backend.List(t.Context(), "pushed_requests", store.Query{}, func(_ store.Meta, decode func(any) error) error {
			kept++
			var p flow.Pushed
			if err := decode(&p); err != nil {
				return err
			}
			if strings.Contains(p.Params, url.QueryEscape(Web.Secret)) || strings.Contains(p.Params, "client_secret") || !strings.Contains(p.Params, "state=st-1") {
				t.Errorf("kept: %s", p.Params)
			}
			return nil
		})
		if err != nil || kept != 1 {
			t.Errorf("%d documents, %v", kept, err)
		}
	})
}

// Somebody guesses references, or takes another client's: neither is one (RFC 9126 section 7.1).
func TestAReferenceThatWasNotGivenToTheClientIsRefused(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		given := push(t, e, Web, "idp_hint", "google").String("request_uri")
		dot := strings.LastIndex(given, ".")
		for name, address := range map[string]string{
			"another client's":   pushedURL(e, Other, given),
			"a guess":            pushedURL(e, Web, "urn:ietf:params:oauth:request_uri:aaaaaaaaaaaaaaaaaaaaaaaaaa"),
			"without its MAC":    pushedURL(e, Web, given[:strings.Index(given, ".")]),
			"with another MAC":   pushedURL(e, Web, given[:dot+1]+strings.Repeat("A", len(given)-dot-1)),
			"empty":              pushedURL(e, Web, "urn:ietf:params:oauth:request_uri:"),
			"sent twice":         pushedURL(e, Web, given) + "&request_uri=x",
			"beside a request":   pushedURL(e, Web, given) + "&request=eyJ",
			"without a client":   e.Issuer + "/authorize?request_uri=" + url.QueryEscape(given),
			"of nobody's client": pushedURL(e, Client{ID: "nobody"}, given),
		} {
			if page := NewBrowser(t).Get(address); page.Status != http.StatusBadRequest || page.Location() != nil {
				t.Errorf("%s: got %d to %v, want a page with 400", name, page.Status, page.Location())
			}
		}
		if answer := arrived(t, NewBrowser(t), pushedURL(e, Web, given), Web); answer.Get("code") == "" {
			t.Errorf("after all these tries the rightful browser is told %v", answer)
		}
	})
}

// A reference serves one sign-in. Whoever brings it again, the same browser or another, is told so (RFC 9126 section 7.3).
func TestAPushedRequestIsUsedOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		address := pushed(t, e, Web, "idp_hint", "google")
		b := NewBrowser(t)
		code := arrived(t, b, address, Web).Get("code")
		// The answer may have been lost on the way: until the code is redeemed, its own browser is given it again.
		if again := arrived(t, b, address, Web).Get("code"); again != code {
			t.Errorf("the browser that signed in gets %q instead of its code", again)
		}
		thief := NewBrowser(t)
		if answer := arrived(t, thief, address, Web); answer.Get("error") != "invalid_request_uri" || answer.Get("state") != "st-1" {
			t.Errorf("another browser is told %v", answer)
		}
		if r := e.Redeem(t, Web, code); r.Status != http.StatusOK {
			t.Fatalf("the code gives %d %v", r.Status, r.Body)
		}
		for name, browser := range map[string]*Browser{"the same browser": b, "another": thief} {
			if answer := arrived(t, browser, address, Web); answer.Get("error") != "invalid_request_uri" {
				t.Errorf("%s is told %v after the sign-in is complete", name, answer)
			}
		}
	})
}

// What counts as use is the answer, not the look. A link preview, a scanner or the browser inside an app opens the address first, and the
// person signs in all the same (FAPI 2.0 Security Profile section 5.3.2.2); they reload, and find the page they left.
func TestOpeningAPushedRequestDoesNotUseIt(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		address := pushed(t, e, Web)
		NewBrowser(t).Get(address) // the preview
		b := NewBrowser(t)
		first := b.Get(address)
		if len(first.Forms) == 0 || first.Status != http.StatusOK {
			t.Fatalf("got %d\n%s", first.Status, first.Body)
		}
		reloaded := b.Get(address)
		if location := reloaded.Location(); location == nil || location.Path != strings.TrimSuffix(first.Forms[0].Action, "/choose") {
			t.Errorf("after a reload the browser is sent to %v, not to the flow of %s", location, first.Forms[0].Action)
		}
		// The person is at the consent page when they come back, later than the request could be begun anew.
		toConsent(t, b, first)
		e.Clock.Advance(2 * time.Minute)
		if answer := arrived(t, b, address, Web); answer.Get("code") == "" {
			t.Errorf("the person who came back is told %v", answer)
		}
		// For anybody else it is too late.
		if answer := arrived(t, NewBrowser(t), address, Web); answer.Get("error") != "invalid_request_uri" {
			t.Errorf("another browser is told %v", answer)
		}
	})
}

func TestAPushedRequestExpires(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		address := pushed(t, e, Web)
		e.Clock.Advance(90 * time.Second)
		if answer := arrived(t, NewBrowser(t), address, Web); answer.Get("error") != "invalid_request_uri" || answer.Get("state") != "st-1" {
			t.Errorf("the app is told %v", answer)
		}
		e.Clock.Advance(time.Hour)
		if page := NewBrowser(t).Get(address); page.Status != http.StatusBadRequest || page.Location() != nil {
			t.Errorf("an hour later: %d to %v", page.Status, page.Location())
		}
	})
}

// Sixteen browsers that are all signed in bring one reference at once, half of them to another broker over the same store than it was
// pushed to. One of them gets a code.
func TestOfRacingBrowsersOneGetsTheCodeOfAPushedRequest(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		var waiting []*Browser
		for range 16 {
			b := NewBrowser(t)
			e.Code(t, b, First, "idp_hint", "google")
			waiting = append(waiting, b)
		}
		node := e.Node(t)
		elsewhere := httptest.NewServer(node.Broker.Handler)
		t.Cleanup(elsewhere.Close)
		address := pushed(t, node, First)
		var mu sync.Mutex
		codes, told := map[string]bool{}, map[string]int{}
		storetest.Race(len(waiting), func() {
			mu.Lock()
			b := waiting[0]
			waiting = waiting[1:]
			at := address
			if len(waiting)%2 == 0 {
				at = strings.Replace(address, e.Issuer, elsewhere.URL, 1)
			}
			mu.Unlock()
			answer := arrived(t, b, at, First)
			mu.Lock()
			defer mu.Unlock()
			if code := answer.Get("code"); code != "" {
				codes[code] = true
			}
			told[answer.Get("error")]++
		})
		if len(codes) != 1 || told[""] != 1 || told["invalid_request_uri"] != 15 {
			t.Errorf("%d codes; errors %v; want one code and 15 times invalid_request_uri", len(codes), told)
		}
	})
}

// One person presses the button of the consent page twice: that is one use, and they get their code.
func TestTheSameFlowMayEndTwice(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		page := toConsent(t, b, b.Get(pushed(t, e, Web, "idp_hint", "google")))
		var mu sync.Mutex
		codes := map[string]int{}
		storetest.Race(8, func() {
			location, end := page.Submit(0, "allow").Walk(Web.RedirectURI)
			mu.Lock()
			defer mu.Unlock()
			if location == nil {
				t.Errorf("ended at %s (%d)", end.URL, end.Status)
				return
			}
			codes[location.Query().Get("code")]++
		})
		if len(codes) != 1 || codes[""] != 0 {
			t.Errorf("the presses gave %v, want one code", codes)
		}
	})
}

// Once a client, or the broker, takes pushed requests alone, no other counts, whatever it looks like (RFC 9126 sections 5, 6).
func TestRequestsMustBePushedWhereThatIsDemanded(t *testing.T) {
	for name, edit := range map[string]func(*config.Config){
		"by the client": func(cfg *config.Config) { cfg.Clients[0].RequirePushedAuthorizationRequests = true },
		"by the broker": func(cfg *config.Config) { cfg.RequirePushedAuthorizationRequests = true },
	} {
		t.Run(name, func(t *testing.T) {
			e := Start(t, edit)
			if answer := e.Code(t, NewBrowser(t), Web); answer.Get("error") != "invalid_request" || !strings.Contains(answer.Get("error_description"), "pushed") {
				t.Errorf("a request in the address gets %v", answer)
			}
			if answer := arrived(t, NewBrowser(t), pushed(t, e, Web, "idp_hint", "google"), Web); answer.Get("code") == "" {
				t.Errorf("a pushed one gets %v", answer)
			}
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/.well-known/oauth-authorization-server", nil)
			metadata := Do(t, request)
			if metadata.String("pushed_authorization_request_endpoint") != e.Issuer+"/par" || metadata.Body["require_pushed_authorization_requests"] != (name == "by the broker") {
				t.Errorf("metadata says %v", metadata.Body)
			}
		})
	}
}

// A client that is disabled, or loses its redirect URI, while its request waits is judged as it then is (RFC 9126 section 4).
func TestAPushedRequestIsJudgedAgainWhenItIsUsed(t *testing.T) {
	e := Start(t)
	added, secret, err := e.Broker.Clients.Add(t.Context(), registry.Client{
		Name: "Moving App", RedirectURIs: []string{Web.RedirectURI}, Scopes: []string{"openid", "offline_access"},
	})
	if err != nil {
		t.Fatal(err)
	}
	address := pushed(t, e, Client{ID: added.ID, Secret: secret, RedirectURI: Web.RedirectURI})
	for _, edit := range []func(*registry.Client){
		func(c *registry.Client) { c.RedirectURIs = []string{"https://app.example.com/moved"} },
		func(c *registry.Client) { c.RedirectURIs, c.Disabled = []string{Web.RedirectURI}, true },
	} {
		if _, err := e.Broker.Clients.Update(t.Context(), added.ID, func(c *registry.Client) error { edit(c); return nil }); err != nil {
			t.Fatal(err)
		}
		if page := NewBrowser(t).Get(address); page.Status != http.StatusBadRequest || page.Location() != nil {
			t.Errorf("got %d to %v", page.Status, page.Location())
		}
	}
}
