package broker_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// RFC 9700 section 4.11.2: whoever may register an app can have it registered with the address of a phishing page. The broker's own address must not
// become the link that takes people there.

var buttonLink = regexp.MustCompile(`<a class="button secondary" href="([^"]*)"`)

// onward is where the link of a page leads, or nil.
func onward(t *testing.T, page *Page) *url.URL {
	t.Helper()
	found := buttonLink.FindStringSubmatch(page.Body)
	if found == nil {
		return nil
	}
	u, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// An error is told to an app that nobody has checked by the person alone, who sees where that leads: it would otherwise need nothing but a link with
// a mistake in it to be taken there from the broker (attack 1), whatever button one presses (attack 2), or a request without a page (attack 3).
func TestAnErrorTakesNobodyByItselfToAnAppThatNobodyChecked(t *testing.T) {
	e := Start(t, openRegistration)
	app := register(t, e, webApp)
	consent := func(b *Browser) *Page {
		location, page := b.Walk(e.AuthorizeURL(app.Client, "idp_hint", "google", "prompt", "consent"), e.Issuer+"/signin/")
		if location == nil {
			t.Fatalf("no consent page: %d %s", page.Status, page.Body)
		}
		return b.Get(location.String())
	}
	for name, test := range map[string]struct {
		open func(b *Browser) *Page
		want string
	}{
		"a scope that does not exist":   {func(b *Browser) *Page { return b.Get(e.AuthorizeURL(app.Client, "scope", "nonsense")) }, "invalid_scope"},
		"nobody signed in, prompt=none": {func(b *Browser) *Page { return b.Get(e.AuthorizeURL(app.Client, "prompt", "none")) }, "login_required"},
		"the person does not allow it":  {func(b *Browser) *Page { return consent(b).Submit(0, "deny") }, "access_denied"},
		"the person does not sign in":   {func(b *Browser) *Page { return b.Get(e.AuthorizeURL(app.Client)).Submit(1, "") }, "access_denied"},
	} {
		t.Run(name, func(t *testing.T) {
			page := test.open(NewBrowser(t))
			if page.Status != http.StatusOK || page.Location() != nil {
				t.Fatalf("%d to %v, want a page", page.Status, page.Location())
			}
			if !strings.Contains(page.Body, "notes.example") || !strings.Contains(page.Body, "Nobody at") {
				t.Errorf("the page does not say where it leads, and to whom:\n%s", page.Body)
			}
			link := onward(t, page)
			if link == nil || !strings.HasPrefix(link.String(), app.RedirectURI+"?") {
				t.Fatalf("the way back is %v", link)
			}
			if q := link.Query(); q.Get("error") != test.want || q.Get("state") != "st-1" || q.Get("iss") != e.Issuer {
				t.Errorf("the app would be told %v, want %s", q, test.want)
			}
			if page.Header.Get("Cache-Control") != "no-store" || page.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("the page's headers are %v", page.Header)
			}
		})
	}
	t.Run("what the request says is not said in the broker's name", func(t *testing.T) {
		page := NewBrowser(t).Get(e.AuthorizeURL(app.Client, "response_type", "Your account is locked, call 555-0100"))
		if text := buttonLink.ReplaceAllString(page.Body, ""); strings.Contains(text, "555-0100") {
			t.Errorf("the page has the stranger's text:\n%s", page.Body)
		}
	})
	t.Run("a form is posted by the person", func(t *testing.T) {
		page := NewBrowser(t).Get(e.AuthorizeURL(app.Client, "scope", "nonsense", "response_mode", "form_post"))
		// The mode counts once it is judged, which is before the scope is.
		if len(page.Forms) != 1 || page.Forms[0].Action != app.RedirectURI || page.Forms[0].Fields.Get("error") != "invalid_scope" {
			t.Fatalf("%d %+v\n%s", page.Status, page.Forms, page.Body)
		}
		if strings.Contains(page.Body, "<script") {
			t.Error("a script posts it")
		}
	})
	t.Run("in a frame of the app's own page", func(t *testing.T) {
		// Nobody sees our address there, and no page of ours can be: silent sign-in goes on as OpenID Connect has it.
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.AuthorizeURL(app.Client, "prompt", "none"), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Sec-Fetch-Dest", "iframe")
		response, err := NewBrowser(t).Client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if to := response.Header.Get("Location"); !strings.HasPrefix(to, app.RedirectURI+"?") {
			t.Errorf("%d to %q", response.StatusCode, to)
		}
	})
	t.Run("a code goes by itself: the person has just said yes", func(t *testing.T) {
		if got := e.Code(t, NewBrowser(t), app.Client, "idp_hint", "google"); got.Get("code") == "" {
			t.Errorf("the app is told %v", got)
		}
	})
	t.Run("an app on the person's own machine", func(t *testing.T) {
		local := register(t, e, webApp.with("redirect_uris", []string{"http://127.0.0.1/cb"}, "token_endpoint_auth_method", "none"))
		to := NewBrowser(t).Get(e.AuthorizeURL(local.Client, "scope", "nonsense")).Location()
		if to == nil || !strings.HasPrefix(to.String(), "http://127.0.0.1/cb?error=") {
			t.Errorf("a program that waits is told %v", to)
		}
	})
	t.Run("an app that an operator has checked since", func(t *testing.T) {
		verify(t, e, app.ID)
		to := NewBrowser(t).Get(e.AuthorizeURL(app.Client, "scope", "nonsense")).Location()
		if to == nil || to.Query().Get("error") != "invalid_scope" {
			t.Errorf("it is told %v", to)
		}
	})
}

// Where the operator says so, the protocol's own way is everybody's: test suites, and programs in place of a browser, wait for an error at the redirect URI.
func TestRedirectURIsOfUncheckedAppsCanBeTrusted(t *testing.T) {
	e := Start(t, openRegistration, func(c *config.Config) { c.Registration.TrustRedirectURIs = true })
	const bye = "https://notes.example/bye"
	app := register(t, e, webApp.with("post_logout_redirect_uris", []string{bye}))
	for want, page := range map[string]*Page{
		"login_required": NewBrowser(t).Get(e.AuthorizeURL(app.Client, "prompt", "none")),
		"invalid_scope":  NewBrowser(t).Get(e.AuthorizeURL(app.Client, "scope", "nonsense")),
		"access_denied":  NewBrowser(t).Get(e.AuthorizeURL(app.Client)).Submit(1, ""),
	} {
		if to := page.Location(); to == nil || !strings.HasPrefix(to.String(), app.RedirectURI+"?") || to.Query().Get("error") != want {
			t.Errorf("%s: %d to %v", want, page.Status, to)
		}
	}
	if page := NewBrowser(t).Get(e.Issuer + "/logout?client_id=" + app.ID + "&post_logout_redirect_uri=" + url.QueryEscape(bye)); page.Location() == nil || page.Location().String() != bye {
		t.Errorf("after the sign-out: %d to %v", page.Status, page.Location())
	}
	if to := NewBrowser(t).Get(e.AuthorizeURL(app.Client, "redirect_uri", "https://evil.example/cb")).Location(); to != nil {
		t.Errorf("an address that was not registered: %v", to)
	}
}

// verify is what an operator does who has looked at an app.
func verify(t *testing.T, e *Env, id string) {
	t.Helper()
	if _, err := e.Broker.Clients.Update(t.Context(), id, func(c *registry.Client) error { c.Verify(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// Signing out leads to an app as well (OpenID Connect RP-Initiated Logout section 3: without an ID token, only where the server is sure of the target
// by other means). An ID token of another session is none: the stranger has one of their own.
func TestSigningOutTakesNobodyByItselfToAnAppThatNobodyChecked(t *testing.T) {
	e := Start(t, openRegistration)
	const bye = "https://phish.example/bye"
	app := register(t, e, webApp.with("post_logout_redirect_uris", []string{bye}))
	strangers := e.SignIn(t, NewBrowser(t), app.Client, "idp_hint", "google").String("id_token")
	out := func(b *Browser, params ...string) *Page {
		query := url.Values{"post_logout_redirect_uri": {bye}, "state": {"s"}}
		for i := 0; i < len(params); i += 2 {
			query.Set(params[i], params[i+1])
		}
		return b.Get(e.Issuer + "/logout?" + query.Encode())
	}
	signedIn := func() (*Browser, string) {
		b := NewBrowser(t)
		return b, e.SignIn(t, b, app.Client, "idp_hint", "google").String("id_token")
	}
	for name, leave := range map[string]func() *Page{
		"nobody is signed in":                                func() *Page { return out(NewBrowser(t), "client_id", app.ID) },
		"nobody is signed in, a stranger's ID token":         func() *Page { return out(NewBrowser(t), "id_token_hint", strangers) },
		"somebody is, and says yes":                          func() *Page { b, _ := signedIn(); return out(b, "client_id", app.ID).Submit(0, "") },
		"somebody is, and says yes to a stranger's ID token": func() *Page { b, _ := signedIn(); return out(b, "id_token_hint", strangers).Submit(0, "") },
	} {
		t.Run(name, func(t *testing.T) {
			page := leave()
			if page.Status != http.StatusOK || page.Location() != nil || page.Header.Get("Refresh") != "" {
				t.Fatalf("%d to %v, refresh %q; want a page", page.Status, page.Location(), page.Header.Get("Refresh"))
			}
			if to := onward(t, page); to == nil || to.String() != bye+"?state=s" || !strings.Contains(page.Body, "phish.example</bdi>") || !strings.Contains(page.Body, "Nobody at") {
				t.Errorf("the way on is %v, and the page says\n%s", to, page.Body)
			}
		})
	}
	b, hint := signedIn()
	if to := out(b, "id_token_hint", hint).Location(); to == nil || to.String() != bye+"?state=s" {
		t.Errorf("an app that the person is signed in to by this session: to %v", to)
	}
	verify(t, e, app.ID)
	if to := out(NewBrowser(t), "client_id", app.ID).Location(); to == nil || to.String() != bye+"?state=s" {
		t.Errorf("an app that an operator has checked: to %v", to)
	}
}

// A redirect URI is no proof that its host is the app's: whoever registers an app can name any, beside their own. What people are shown as the app's,
// and what they say yes to, is of the host that this very answer goes to.
func TestAHostThatAnUncheckedAppOnlyNamesIsNeitherShownNorAgreedTo(t *testing.T) {
	e := Start(t, openRegistration, func(c *config.Config) {
		c.Registration.GrantTypes = append(c.Registration.GrantTypes, deviceGrant)
	})
	const bank, evil = "https://bank.example/callback", "https://evil.example/callback"
	app := register(t, e, webApp.with("client_name", "Your Bank", "redirect_uris", []string{bank, evil}, "logo_uri", "https://bank.example/logo.png",
		"policy_uri", "https://bank.example/privacy", "grant_types", []string{"authorization_code", deviceGrant})).Client
	b := NewBrowser(t)
	for name, page := range map[string]*Page{
		"the chooser":      NewBrowser(t).Get(e.AuthorizeURL(app, "redirect_uri", evil)),
		"the consent page": consentPage(t, NewBrowser(t), e, app, "redirect_uri", evil),
		"a device's page":  toConfirm(t, b, b.Post(e.Issuer+"/device", url.Values{"user_code": {startDevice(t, e, app, "scope", "openid").String("user_code")}})),
	} {
		if strings.Contains(page.Body, "bank.example") {
			t.Errorf("%s lends the app the bank's host:\n%s", name, page.Body)
		}
	}
	if page := consentPage(t, NewBrowser(t), e, app, "redirect_uri", bank); !strings.Contains(page.Body, "https://bank.example/logo.png") {
		t.Errorf("where the answer goes to the bank, the logo that is there is not shown:\n%s", page.Body)
	}

	b = NewBrowser(t)
	silently := func(uri string) string {
		page := b.Get(e.AuthorizeURL(app, "redirect_uri", uri, "prompt", "none"))
		if to := page.Location(); to != nil {
			return to.Query().Get("code")
		}
		return ""
	}
	if location, page := b.Walk(e.AuthorizeURL(app, "redirect_uri", bank), bank); location == nil {
		t.Fatalf("%d %s", page.Status, page.Body)
	}
	if silently(bank) == "" {
		t.Error("the yes is not remembered where it was given")
	}
	if silently(evil) != "" {
		t.Error("a yes to what goes to the bank sends a code elsewhere, without a page")
	}
}

// Whoever makes a link writes its parameters, and a sentence of theirs must not stand on a page of the broker's, which people believe.
func TestALinkPutsNoSentenceOnOurPages(t *testing.T) {
	e := Start(t, func(c *config.Config) { c.ClientIDMetadata.Mode = config.ModeOpen })
	const lure = "Your account is locked. Call 555-0100."
	for name, edits := range map[string][]string{
		"the client's id":              {"client_id", lure},
		"the client's id, an address":  {"client_id", "https://" + lure},
		"the redirect URI":             {"redirect_uri", "https://x.example/" + lure},
		"the redirect URI, with a tab": {"redirect_uri", "https://x.example/\t" + strings.ReplaceAll(lure, " ", "\t")},
	} {
		page := NewBrowser(t).Get(e.AuthorizeURL(Web, edits...))
		if page.Status < http.StatusBadRequest || strings.Contains(page.Body, "account") || strings.Contains(page.Body, "555") {
			t.Errorf("%s: %d %s", name, page.Status, page.Body)
		}
	}
	page := NewBrowser(t).Get(e.AuthorizeURL(Web, "client_id", "nobody"))
	if !strings.Contains(page.Body, "nobody") {
		t.Errorf("a developer is not told which app is not there: %s", page.Body)
	}
}
