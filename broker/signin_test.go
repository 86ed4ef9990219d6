package broker_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors/sandbox"
)

var providers = []string{"google", "github", "facebook"}

func TestAPersonSignsInWithEachProvider(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		for _, provider := range providers {
			t.Run(provider, func(t *testing.T) {
				b := NewBrowser(t)
				answer := e.Code(t, b, Web, "idp_hint", provider, "scope", "openid profile email offline_access")
				if answer.Get("state") != "st-1" || answer.Get("iss") != e.Issuer {
					t.Errorf("state or iss is wrong in %v", answer)
				}
				tokens := e.Redeem(t, Web, answer.Get("code"))
				if tokens.Status != http.StatusOK {
					t.Fatalf("redeem: %d %v", tokens.Status, tokens.Body)
				}
				if tokens.String("token_type") != "Bearer" || tokens.String("scope") != "openid profile email offline_access" || tokens.String("refresh_token") == "" {
					t.Errorf("the token response is incomplete: %v", tokens.Body)
				}
				if tokens.Header.Get("Cache-Control") != "no-store" {
					t.Error("the token response may be cached")
				}
				info := e.Userinfo(t, tokens.String("access_token"))
				if info.String("name") == "" || info.String("sub") == "" {
					t.Errorf("userinfo is %v", info.Body)
				}
				// Facebook proves no address, whatever it says.
				if verified := info.Body["email_verified"]; verified != (provider != "facebook") {
					t.Errorf("email_verified is %v", verified)
				}
				// Who signed in stays the same person the next time.
				again := e.SignIn(t, NewBrowser(t), Web, "idp_hint", provider)
				if e.Subject(t, again.String("access_token")) != info.String("sub") {
					t.Error("the second sign-in is another account")
				}
			})
		}
	})
}

// The chooser, as a person without scripts meets it: the first button of its first form is the first connector.
func TestTheChooserOffersWhatTheClientMayUse(t *testing.T) {
	e := Start(t)
	for _, c := range []struct {
		client Client
		want   []string
	}{{Web, []string{"google", "github", "facebook"}}, {Other, []string{"google", "github"}}} {
		page := NewBrowser(t).Get(e.AuthorizeURL(c.client))
		if page.Status != http.StatusOK || len(page.Forms) == 0 {
			t.Fatalf("%d with %d forms", page.Status, len(page.Forms))
		}
		var got []string
		for _, button := range page.Forms[0].Buttons {
			got = append(got, button.Value)
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s is offered %v, want %v", c.client.ID, got, c.want)
		}
		policy := page.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("the page's policy is %q", policy)
		}
	}
	// A connector that the client may not use cannot be reached by pressing a button that is not there either.
	b := NewBrowser(t)
	page := b.Get(e.AuthorizeURL(Other))
	forged := b.Post(e.Issuer+page.Forms[0].Action, url.Values{"connector": {"facebook"}})
	if location := forged.Location(); location != nil {
		t.Errorf("a forged choice leads to %s", location)
	}
}

// Signed in at the broker once, the person is not asked again; prompt and max_age ask for more, prompt=none for less
// (OpenID Connect Core section 3.1.2.1).
func TestPromptAndMaxAge(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		fresh := NewBrowser(t)
		if got := e.Code(t, fresh, Web, "prompt", "none").Get("error"); got != "login_required" {
			t.Errorf("prompt=none with nobody signed in: %q", got)
		}
		b := NewBrowser(t)
		first := e.SignIn(t, b, Web, "idp_hint", "google")
		subject := e.Subject(t, first.String("access_token"))
		silent := func(edits ...string) bool { // straight to the app, without a page
			t.Helper()
			location := b.Get(e.AuthorizeURL(Web, edits...)).Location()
			return location != nil && strings.HasPrefix(location.String(), Web.RedirectURI) && location.Query().Get("code") != ""
		}
		if !silent() {
			t.Error("a signed-in person with consent is asked again")
		}
		if !silent("prompt", "none") {
			t.Error("prompt=none fails though everything is there")
		}
		if !silent("max_age", "3600") {
			t.Error("a session of seconds does not satisfy max_age=3600")
		}
		for _, edits := range [][]string{{"prompt", "login"}, {"prompt", "select_account"}, {"prompt", "consent"}, {"idp_hint", "github"}} {
			if silent(edits...) {
				t.Errorf("%v was answered from the session", edits)
			}
		}
		if got := e.Code(t, b, Web, "prompt", "none", "scope", "openid email").Get("error"); got != "consent_required" {
			t.Errorf("prompt=none with a new scope: %q, want consent_required", got)
		}
		if got := e.Code(t, b, Web, "prompt", "none login").Get("error"); got != "invalid_request" {
			t.Errorf("prompt=none login: %q", got)
		}
		e.Clock.Advance(2 * time.Minute)
		if silent("max_age", "60") {
			t.Error("a session of two minutes satisfies max_age=60")
		}
		if got := e.Code(t, b, Web, "prompt", "none", "max_age", "60").Get("error"); got != "login_required" {
			t.Errorf("prompt=none with an old session: %q", got)
		}
		// prompt=login signs in anew, as the same person.
		again := e.SignIn(t, b, Web, "idp_hint", "google", "prompt", "login")
		if e.Subject(t, again.String("access_token")) != subject {
			t.Error("prompt=login made another account")
		}
		if before, after := authTime(t, e, first), authTime(t, e, again); after <= before {
			t.Errorf("auth_time went from %v to %v over prompt=login", before, after)
		}
		// id_token_hint names somebody: another one will not do.
		hint := again.String("id_token")
		if !silent("id_token_hint", hint, "prompt", "none") {
			t.Error("id_token_hint of the person who is signed in is not answered")
		}
		other := NewBrowser(t)
		e.SignIn(t, other, Web, "idp_hint", "google", "login_hint", "bob")
		if got := e.Code(t, other, Web, "id_token_hint", hint, "prompt", "none").Get("error"); got != "login_required" {
			t.Errorf("id_token_hint of somebody else: %q", got)
		}
	})
}

func authTime(t *testing.T, e *Env, tokens *Response) float64 {
	t.Helper()
	at, _ := e.Post(t, "/introspect", Web, url.Values{"token": {tokens.String("access_token")}}).Body["auth_time"].(float64)
	return at
}

func TestConsentIsAskedOncePerScopeAndRemembered(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		consentPages := func(client Client, edits ...string) int {
			t.Helper()
			n := 0
			page := b.Get(e.AuthorizeURL(client, append(edits, "login_hint", "ann")...))
			for range 20 {
				if location := page.Location(); location != nil {
					if strings.HasPrefix(location.String(), client.RedirectURI) {
						return n
					}
					page = b.Get(location.String())
					continue
				}
				if len(page.Forms[0].Buttons) > 0 && page.Forms[0].Buttons[0].Value == "allow" {
					n++
				}
				page = page.Submit(0, "")
			}
			t.Fatal("no end")
			return 0
		}
		if n := consentPages(Web, "idp_hint", "google"); n != 1 {
			t.Errorf("the first time %d consent pages, want 1", n)
		}
		if n := consentPages(Web); n != 0 {
			t.Errorf("the second time %d consent pages, want 0", n)
		}
		if n := consentPages(Web, "scope", "openid email"); n != 1 {
			t.Errorf("with a new scope %d consent pages, want 1", n)
		}
		if n := consentPages(First); n != 0 {
			t.Errorf("a first-party client shows %d consent pages, want 0", n)
		}
		if n := consentPages(First, "prompt", "consent"); n != 1 {
			t.Errorf("a first-party client with prompt=consent shows %d, want 1", n)
		}
		page := b.Get(e.AuthorizeURL(Other))
		page = b.Get(page.Location().String())
		denied := page.Submit(0, "deny").Location()
		if denied == nil || denied.Query().Get("error") != "access_denied" {
			t.Errorf("a no leads to %v", denied)
		}
		if n := consentPages(Other); n != 1 {
			t.Errorf("after a no %d consent pages, want 1: a no is not a yes", n)
		}
	})
}

func TestResponseModes(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	e.SignIn(t, b, First, "idp_hint", "google")
	t.Run("query", func(t *testing.T) {
		location := b.Get(e.AuthorizeURL(First, "response_mode", "query")).Location()
		if location.Query().Get("code") == "" || location.Fragment != "" {
			t.Errorf("got %s", location)
		}
	})
	t.Run("fragment", func(t *testing.T) {
		location := b.Get(e.AuthorizeURL(First, "response_mode", "fragment")).Location()
		answer, _ := url.ParseQuery(location.Fragment)
		if answer.Get("code") == "" || location.RawQuery != "" {
			t.Errorf("got %s", location)
		}
	})
	t.Run("form_post", func(t *testing.T) {
		page := b.Get(e.AuthorizeURL(First, "response_mode", "form_post"))
		if page.Status != http.StatusOK || len(page.Forms) != 1 || page.Forms[0].Action != First.RedirectURI {
			t.Fatalf("got %d with %+v", page.Status, page.Forms)
		}
		if page.Forms[0].Fields.Get("code") == "" || page.Forms[0].Fields.Get("iss") != e.Issuer {
			t.Errorf("the form has %v", page.Forms[0].Fields)
		}
		policy := page.Header.Get("Content-Security-Policy")
		if !regexp.MustCompile(`script-src 'sha256-[A-Za-z0-9+/=]+'`).MatchString(policy) || strings.Contains(policy, "unsafe") {
			t.Errorf("the page's policy is %q", policy)
		}
	})
	t.Run("another", func(t *testing.T) {
		if got := b.Get(e.AuthorizeURL(First, "response_mode", "web_message")).Location().Query().Get("error"); got != "invalid_request" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a redirect URI with a query of its own keeps it", func(t *testing.T) {
		location, _ := b.Walk(e.AuthorizeURL(Web, "redirect_uri", "https://app.example.com/other?keep=1"), "https://app.example.com/other")
		if location.Query().Get("keep") != "1" || location.Query().Get("code") == "" {
			t.Errorf("got %s", location)
		}
	})
}

// Requests that are the app's mistakes are told to the app, with the code that the RFC names and words that help.
func TestErrorsOfAuthorizationRequestsGoToTheApp(t *testing.T) {
	e := Start(t)
	for _, c := range []struct {
		name   string
		edits  []string
		want   string
		saying string
	}{
		{"no response type", []string{"response_type", ""}, "invalid_request", "response_type"},
		{"the implicit flow", []string{"response_type", "token"}, "unsupported_response_type", "code"},
		{"the hybrid flow", []string{"response_type", "code id_token"}, "unsupported_response_type", "code"},
		{"no scope", []string{"scope", ""}, "invalid_scope", "scope"},
		{"a scope that does not exist", []string{"scope", "openid admin"}, "invalid_scope", "admin"},
		{"no PKCE", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request", "PKCE"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, "invalid_request", "S256"},
		{"PKCE without its method, which means plain", []string{"code_challenge_method", ""}, "invalid_request", "S256"},
		{"a challenge that is none", []string{"code_challenge", "short"}, "invalid_request", "43"},
		{"a negative max_age", []string{"max_age", "-1"}, "invalid_request", "max_age"},
		{"a max_age of words", []string{"max_age", "soon"}, "invalid_request", "max_age"},
		{"a request object", []string{"request", "eyJ"}, "invalid_request_object", "JWS"},
		{"a request URI", []string{"request_uri", "https://x.example"}, "invalid_request_uri", "registered"},
		{"a registration", []string{"registration", "{}"}, "registration_not_supported", "register"},
		{"an unknown connector", []string{"idp_hint", "myspace"}, "invalid_request", "google, github, facebook"},
		{"a forged id_token_hint", []string{"id_token_hint", "x.y.z"}, "invalid_request", "id_token_hint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := NewBrowser(t).Get(e.AuthorizeURL(Web, c.edits...))
			location := page.Location()
			if location == nil || !strings.HasPrefix(location.String(), Web.RedirectURI) {
				t.Fatalf("the app is told nothing: %d\n%s", page.Status, page.Body)
			}
			query := location.Query()
			if query.Get("error") != c.want || !strings.Contains(query.Get("error_description"), c.saying) {
				t.Errorf("got %s: %s; want %s with words about %s", query.Get("error"), query.Get("error_description"), c.want, c.saying)
			}
			if query.Get("state") != "st-1" || query.Get("iss") != e.Issuer {
				t.Errorf("state or iss is missing: %v", query)
			}
		})
	}
	t.Run("a client that may not use the connector", func(t *testing.T) {
		if got := NewBrowser(t).Get(e.AuthorizeURL(Other, "idp_hint", "facebook")).Location().Query().Get("error"); got != "invalid_request" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a scope that exists but is not the client's", func(t *testing.T) {
		if got := NewBrowser(t).Get(e.AuthorizeURL(Other, "scope", "openid email")).Location().Query().Get("error"); got != "invalid_scope" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a POSTed request is the same as a GET", func(t *testing.T) {
		b := NewBrowser(t)
		page := b.Post(e.Issuer+"/authorize", AuthorizeParams(Web))
		page = b.Get(page.Location().String())
		if page.Status != http.StatusOK || len(page.Forms) == 0 {
			t.Errorf("got %d", page.Status)
		}
	})
}

// What each fault of a provider comes to: a page that says what happened, with the way back to the app and the error the app is told.
func TestUpstreamFailuresEndAtAPageAndAtTheApp(t *testing.T) {
	e := Start(t)
	for _, c := range []struct {
		fault    string
		only     string // a provider, if the fault is not everyone's
		status   int
		app      string
		headline string
	}{
		{"deny", "", 403, "access_denied", "You did not sign in"},
		{"expired_code", "", 400, "server_error", "expired"},
		{"used_code", "", 400, "server_error", "expired"},
		{"server_error", "", 502, "temporarily_unavailable", "not answering"},
		{"malformed", "", 502, "server_error", "made no sense"},
		{"rate_limit", "", 503, "temporarily_unavailable", "Too many"},
		{"wrong_iss", "google", 502, "server_error", "could not be trusted"},
		{"wrong_iss", "github", 502, "server_error", "could not be trusted"},
		{"wrong_id_token_iss", "google", 502, "server_error", "could not be trusted"},
		{"wrong_nonce", "google", 502, "server_error", "could not be trusted"},
	} {
		for _, provider := range providers {
			if c.only != "" && c.only != provider {
				continue
			}
			t.Run(c.fault+" at "+provider, func(t *testing.T) {
				b := NewBrowser(t)
				// Discovery and keys are read once, and are not what the fault is about.
				e.SignIn(t, b, First, "idp_hint", provider)
				b = NewBrowser(t)
				arm(t, e, provider, c.fault)
				defer e.Sandbox.Disarm(sandbox.Provider(provider), "")
				_, page := b.Walk(e.AuthorizeURL(Web, "idp_hint", provider), Web.RedirectURI)
				if page.Status != c.status || !strings.Contains(page.Body, c.headline) {
					t.Fatalf("the page is %d, want %d with %q:\n%s", page.Status, c.status, c.headline, page.Body)
				}
				reference := page.Header.Get("X-Request-Id")
				if reference == "" || !strings.Contains(page.Body, reference) {
					t.Errorf("the page does not say its reference %q", reference)
				}
				if cause := logLine(e, `"a person was shown an error"`, reference); !strings.Contains(cause, `"cause":"connector `+provider) {
					t.Errorf("the reference does not find the line that says why: %q", cause)
				}
				// The way on: try again, and the sign-in succeeds now that the fault has passed.
				if len(page.Forms) < 2 {
					t.Fatalf("the page has %d forms, want a way back and another try", len(page.Forms))
				}
				if location, last := page.Submit(1, "").Walk(Web.RedirectURI); location == nil || location.Query().Get("code") == "" {
					t.Errorf("trying again ends at %s (%d)", last.URL, last.Status)
				}
				// The way back: the app is told.
				b = NewBrowser(t)
				arm(t, e, provider, c.fault)
				_, page = b.Walk(e.AuthorizeURL(Web, "idp_hint", provider), Web.RedirectURI)
				expectAtApp(t, page, c.app)
			})
		}
	}
	t.Run("keys that the provider rotated are fetched", func(t *testing.T) {
		e.SignIn(t, NewBrowser(t), First, "idp_hint", "google")
		arm(t, e, "google", "rotated_keys")
		e.SignIn(t, NewBrowser(t), First, "idp_hint", "google")
	})
}

// A provider that hangs must not hang the person. The limit is short here, but long enough for a busy machine's honest answers.
func TestAProviderThatIsTooSlowEndsAtAPage(t *testing.T) {
	for _, provider := range providers {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			e := Start(t, func(c *config.Config) { c.Upstream.Timeout = config.Duration(3 * time.Second) })
			arm(t, e, provider, "slow")
			_, page := NewBrowser(t).Walk(e.AuthorizeURL(Web, "idp_hint", provider), Web.RedirectURI)
			if page.Status != http.StatusGatewayTimeout || !strings.Contains(page.Body, "too long") {
				t.Fatalf("the page is %d:\n%s", page.Status, page.Body)
			}
			expectAtApp(t, page, "temporarily_unavailable")
		})
	}
}

// Linking: the page appears where a verified email is held verified, and nothing is linked without a sign-in that proves it.
func TestLinkingAsksForProof(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		ann := e.Subject(t, e.SignIn(t, NewBrowser(t), First, "idp_hint", "google", "login_hint", "ann").String("access_token"))
		toLinkPage := func(b *Browser) *Page {
			t.Helper()
			callback, _ := b.Walk(e.AuthorizeURL(First, "idp_hint", "github", "login_hint", "ann"), e.Issuer+"/callback/")
			return b.Get(b.Get(callback.String()).Location().String())
		}
		t.Run("the page names the email and the way in which the account signs in", func(t *testing.T) {
			b := NewBrowser(t)
			page := toLinkPage(b)
			if page.Status != http.StatusOK || !strings.Contains(page.Body, "ann.lee@gmail.com") {
				t.Fatalf("no link page: %d\n%s", page.Status, page.Body)
			}
			if len(page.Forms) < 2 || len(page.Forms[0].Buttons) != 1 || page.Forms[0].Buttons[0].Value != "google" {
				t.Fatalf("the page offers %+v", page.Forms)
			}
		})
		t.Run("proving another account links nothing", func(t *testing.T) {
			b := NewBrowser(t)
			page := toLinkPage(b)
			// At Google the person signs in as bob, who is not the one with that email.
			google := page.Submit(0, "google").Location()
			query := google.Query()
			query.Set("login_hint", "bob")
			google.RawQuery = query.Encode()
			callback, _ := b.Walk(google.String(), e.Issuer+"/callback/")
			page = b.Get(callback.String())
			if page.Location() != nil {
				page = b.Get(page.Location().String())
			}
			if len(page.Forms) < 2 || !strings.Contains(page.Body, "another account") {
				t.Fatalf("got %d:\n%s", page.Status, page.Body)
			}
		})
		t.Run("proving the account links, and from then on both lead to it", func(t *testing.T) {
			b := NewBrowser(t)
			location, last := toLinkPage(b).Walk(First.RedirectURI)
			if location == nil {
				t.Fatalf("ended at %s (%d)\n%s", last.URL, last.Status, last.Body)
			}
			got := e.Subject(t, e.Redeem(t, First, location.Query().Get("code")).String("access_token"))
			if got != ann {
				t.Errorf("after the proof the account is %s, want %s", got, ann)
			}
			tokens := e.SignIn(t, NewBrowser(t), First, "idp_hint", "github", "login_hint", "ann")
			if e.Subject(t, tokens.String("access_token")) != ann {
				t.Error("GitHub does not lead to the account that it was linked to")
			}
		})
	})
}

func TestContinuingSeparatelyMakesAnAccountOfItsOwn(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		ann := e.Subject(t, e.SignIn(t, NewBrowser(t), First, "idp_hint", "google", "login_hint", "ann").String("access_token"))
		b := NewBrowser(t)
		callback, _ := b.Walk(e.AuthorizeURL(First, "idp_hint", "github", "login_hint", "ann"), e.Issuer+"/callback/")
		page := b.Get(b.Get(callback.String()).Location().String())
		location, _ := page.Submit(1, "").Walk(First.RedirectURI)
		own := e.Subject(t, e.Redeem(t, First, location.Query().Get("code")).String("access_token"))
		if own == ann {
			t.Fatal("going on separately led to the existing account")
		}
		tokens := e.SignIn(t, NewBrowser(t), First, "idp_hint", "github", "login_hint", "ann")
		if e.Subject(t, tokens.String("access_token")) != own {
			t.Error("the next sign-in does not lead to the account that was made")
		}
	})
}

func TestLinkingPolicies(t *testing.T) {
	for policy, same := range map[config.Linking]bool{"verified": true, "never": false} {
		t.Run(string(policy), func(t *testing.T) {
			e := Start(t, func(c *config.Config) { c.Linking = policy })
			ann := e.Subject(t, e.SignIn(t, NewBrowser(t), First, "idp_hint", "google", "login_hint", "ann").String("access_token"))
			github := e.Subject(t, e.SignIn(t, NewBrowser(t), First, "idp_hint", "github", "login_hint", "ann").String("access_token"))
			if (ann == github) != same {
				t.Errorf("same account %v, want %v", ann == github, same)
			}
		})
	}
}

// A reload, the back button and a second tab repeat pages, never decisions.
func TestReloadsAndTheBackButtonAreHarmless(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	chooser := b.Get(e.AuthorizeURL(Web))
	upstream := chooser.Submit(0, "google").Location()
	// Back to the chooser, and another way: the first trip's state is worthless now.
	other := chooser.Submit(0, "github").Location()
	stale, _ := b.Walk(upstream.String(), e.Issuer+"/callback/")
	if page := b.Get(stale.String()); page.Status != http.StatusBadRequest {
		t.Errorf("the replaced trip's callback gets %d, want 400", page.Status)
	}
	callback, _ := b.Walk(other.String(), e.Issuer+"/callback/")
	consent := b.Get(callback.String()).Location()
	for range 3 { // reloads of the consent page
		if page := b.Get(consent.String()); page.Status != http.StatusOK {
			t.Fatalf("a reload gets %d", page.Status)
		}
	}
	page := b.Get(consent.String())
	first := page.Submit(0, "allow").Location()
	// A double click, or a POST sent again, leads back to the flow, and from there to the app.
	again := b.Get(page.Submit(0, "allow").Location().String()).Location()
	if again == nil || again.Query().Get("code") != first.Query().Get("code") {
		t.Errorf("the second press leads to %v, want the same code", again)
	}
	tokens := e.Redeem(t, Web, first.Query().Get("code"))
	if tokens.Status != http.StatusOK {
		t.Fatalf("redeem: %d %v", tokens.Status, tokens.Body)
	}
	// Once the code is redeemed, the back button must not hand it out again: a replay would revoke the tokens.
	if late := b.Get(page.Submit(0, "allow").Location().String()); late.Location() != nil || late.Status != http.StatusGone {
		t.Errorf("after redemption the page leads to %v (%d), want a page", late.Location(), late.Status)
	}
	if !e.Active(t, Web, tokens.String("access_token")) {
		t.Error("going back cost the person their tokens")
	}
}

func TestSigningOut(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		tokens := e.SignIn(t, b, Web, "idp_hint", "google")
		signedIn := func() bool {
			return e.Code(t, b, Web, "prompt", "none").Get("code") != ""
		}
		logout := e.Issuer + "/logout?" + url.Values{
			"id_token_hint": {tokens.String("id_token")}, "post_logout_redirect_uri": {"https://app.example.com/bye"}, "state": {"s2"},
		}.Encode()
		if page := b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {tokens.String("id_token")}, "post_logout_redirect_uri": {"https://evil.example.com/"}}.Encode()); page.Location() != nil {
			t.Errorf("an address that is not registered gets %v", page.Location())
		}
		// Without a token that shows whose session is meant, the person is asked: any website could send them here.
		page := b.Get(e.Issuer + "/logout")
		if page.Status != http.StatusOK || len(page.Forms) == 0 || !signedIn() {
			t.Fatalf("without a hint: %d, signed in %v", page.Status, signedIn())
		}
		if location := b.Get(logout).Location(); location == nil || location.String() != "https://app.example.com/bye?state=s2" {
			t.Errorf("with the hint the browser is sent to %v", location)
		}
		if signedIn() {
			t.Error("the person is still signed in")
		}
		b2 := NewBrowser(t)
		e.SignIn(t, b2, Web, "idp_hint", "google")
		out := b2.Get(e.Issuer+"/logout").Submit(0, "")
		if out.Status != http.StatusOK || e.Code(t, b2, Web, "prompt", "none").Get("error") != "login_required" {
			t.Errorf("after confirming: %d, and still signed in", out.Status)
		}
	})
}
