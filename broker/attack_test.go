package broker_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// Somebody who saw a code redeems it a hundred times at once. Exactly one redemption succeeds, and the others take its tokens
// with them (RFC 6749 section 4.1.2).
func TestOfAHundredRedemptionsOfACodeOneSucceedsAndTheGrantIsRevoked(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
		var mu sync.Mutex
		var won []*Response
		var refused atomic.Int64
		storetest.Race(100, func() {
			r := e.Redeem(t, Web, code)
			switch {
			case r.Status == http.StatusOK:
				mu.Lock()
				won = append(won, r)
				mu.Unlock()
			case r.Status == http.StatusBadRequest && r.String("error") == "invalid_grant":
				refused.Add(1)
			default:
				t.Errorf("unexpected answer: %d %v", r.Status, r.Body)
			}
		})
		if len(won) != 1 || refused.Load() != 99 {
			t.Fatalf("%d redemptions succeeded and %d were refused, want 1 and 99", len(won), refused.Load())
		}
		if e.Active(t, Web, won[0].String("access_token")) {
			t.Error("the access token is active after its code was replayed")
		}
		if r := e.Refresh(t, Web, won[0].String("refresh_token")); r.String("error") != "invalid_grant" {
			t.Errorf("the refresh token works after its code was replayed: %d %v", r.Status, r.Body)
		}
		if r := e.Userinfo(t, won[0].String("access_token")); r.Status != http.StatusUnauthorized {
			t.Errorf("userinfo answers %d after the code was replayed", r.Status)
		}
	})
}

// A redemption that fails its checks must not burn the code, or whoever saw it could keep people from signing in.
func TestARefusedRedemptionDoesNotSpendTheCode(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
		for _, c := range []struct {
			name   string
			client Client
			edits  []string
			status int
			want   string
		}{
			{"another client's credentials", Other, nil, 400, "invalid_grant"},
			{"a public client with the confidential client's code", Native, []string{"redirect_uri", Web.RedirectURI}, 400, "invalid_grant"},
			{"the confidential client without its secret", Client{ID: Web.ID, RedirectURI: Web.RedirectURI}, nil, 401, "invalid_client"},
			{"a wrong secret", Client{ID: Web.ID, Secret: "wrong", RedirectURI: Web.RedirectURI}, nil, 401, "invalid_client"},
			{"an unknown client", Client{ID: "nobody", Secret: "x", RedirectURI: Web.RedirectURI}, nil, 401, "invalid_client"},
			{"a wrong verifier (RFC 7636)", Web, []string{"code_verifier", strings.Repeat("a", 43)}, 400, "invalid_grant"},
			{"no verifier: PKCE left out at the token endpoint", Web, []string{"code_verifier", ""}, 400, "invalid_request"},
			{"the challenge as verifier", Web, []string{"code_verifier", Challenge(Verifier)}, 400, "invalid_grant"},
			{"a verifier that is too short", Web, []string{"code_verifier", Verifier[:42]}, 400, "invalid_grant"},
			{"another redirect URI of the same client", Web, []string{"redirect_uri", "https://app.example.com/other?keep=1"}, 400, "invalid_grant"},
			{"a longer redirect URI", Web, []string{"redirect_uri", Web.RedirectURI + "/"}, 400, "invalid_grant"},
			{"no redirect URI", Web, []string{"redirect_uri", ""}, 400, "invalid_request"},
			{"the code cut short", Web, []string{"code", code[:len(code)-1]}, 400, "invalid_grant"},
			{"the code with a byte more", Web, []string{"code", code + "A"}, 400, "invalid_grant"},
			{"the code in upper case", Web, []string{"code", strings.ToUpper(code)}, 400, "invalid_grant"},
			{"no code", Web, []string{"code", ""}, 400, "invalid_request"},
			{"another grant type", Web, []string{"grant_type", "password"}, 400, "unsupported_grant_type"},
			{"the implicit grant's name", Web, []string{"grant_type", "implicit"}, 400, "unsupported_grant_type"},
			{"no grant type", Web, []string{"grant_type", ""}, 400, "invalid_request"},
		} {
			t.Run(c.name, func(t *testing.T) {
				client := c.client
				client.RedirectURI = Web.RedirectURI
				r := e.Redeem(t, client, code, c.edits...)
				if r.Status != c.status || r.String("error") != c.want {
					t.Errorf("got %d %v, want %d %s", r.Status, r.Body, c.status, c.want)
				}
				if r.String("error_description") == "" {
					t.Error("no error_description: a developer has nothing to act on")
				}
			})
		}
		if r := e.Redeem(t, Web, code); r.Status != http.StatusOK {
			t.Errorf("after all these failures the rightful redemption gets %d %v", r.Status, r.Body)
		}
	})
}

// RFC 9700 section 4.8.2: an attacker strips code_challenge from the authorization request of a client that may go without
// PKCE; the honest client then sends a verifier that belongs to nothing.
func TestAVerifierWithoutAChallengeIsRefused(t *testing.T) {
	e := Start(t)
	code := e.Code(t, NewBrowser(t), First, "idp_hint", "google", "code_challenge", "", "code_challenge_method", "").Get("code")
	if r := e.Redeem(t, First, code); r.String("error") != "invalid_grant" {
		t.Errorf("got %d %v, want invalid_grant", r.Status, r.Body)
	}
	if r := e.Redeem(t, First, code, "code_verifier", ""); r.Status != http.StatusOK {
		t.Errorf("a client exempted from PKCE by name cannot redeem without a verifier: %d %v", r.Status, r.Body)
	}
}

func TestACodeExpires(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
		e.Clock.Advance(61 * time.Second)
		if r := e.Redeem(t, Web, code); r.String("error") != "invalid_grant" {
			t.Errorf("a code of 61 seconds gives %d %v, want invalid_grant", r.Status, r.Body)
		}
	})
}

// Authorization requests that would send a code, or anything else, to a place that is not the client's. The person sees a page, and the
// browser is sent nowhere (RFC 9700 section 4.1).
func TestRedirectURITricksEndAtAPage(t *testing.T) {
	e := Start(t)
	for name, uri := range map[string]string{
		"another host":                 "https://evil.example.com/callback",
		"none":                         "",
		"a path below":                 Web.RedirectURI + "/x",
		"a slash more":                 Web.RedirectURI + "/",
		"a query more":                 Web.RedirectURI + "?x=1",
		"a fragment more":              Web.RedirectURI + "#x",
		"another case in the host":     "https://APP.example.com/callback",
		"another case in the path":     "https://app.example.com/Callback",
		"http instead of https":        "http://app.example.com/callback",
		"a port":                       "https://app.example.com:8443/callback",
		"the default port spelled out": "https://app.example.com:443/callback",
		"userinfo":                     "https://app.example.com@evil.example.com/callback",
		"userinfo before the host":     "https://x@app.example.com/callback",
		"the host as a subdomain":      "https://app.example.com.evil.example.com/callback",
		"dot segments":                 "https://app.example.com/x/../callback",
		"an encoded slash":             "https://app.example.com%2Fcallback",
		"an encoded letter":            "https://app.example.com/%63allback",
		"a backslash":                  `https://app.example.com\callback`,
		"a tab":                        "https://app.example.com/call\tback",
		"a newline":                    "https://app.example.com/callback\r\nLocation: https://evil.example.com",
		"javascript":                   "javascript:alert(1)",
		"data":                         "data:text/html,x",
		"no scheme":                    "//app.example.com/callback",
		"a loopback that is not ours":  "http://127.0.0.1:9999/callback",
	} {
		t.Run(name, func(t *testing.T) {
			page := NewBrowser(t).Get(e.AuthorizeURL(Web, "redirect_uri", uri))
			if page.Location() != nil {
				t.Fatalf("the browser is sent to %s", page.Location())
			}
			if page.Status != http.StatusBadRequest || len(page.Forms) != 0 {
				t.Errorf("got %d with %d forms, want a page with 400", page.Status, len(page.Forms))
			}
		})
	}
	t.Run("a parameter sent twice", func(t *testing.T) {
		page := NewBrowser(t).Get(e.AuthorizeURL(Web) + "&redirect_uri=" + url.QueryEscape("https://evil.example.com/"))
		if page.Location() != nil || page.Status != http.StatusBadRequest {
			t.Errorf("got %d to %v", page.Status, page.Location())
		}
	})
	t.Run("another client's redirect URI", func(t *testing.T) {
		if page := NewBrowser(t).Get(e.AuthorizeURL(Web, "redirect_uri", Other.RedirectURI)); page.Location() != nil {
			t.Errorf("the browser is sent to %s", page.Location())
		}
	})
}

// RFC 8252 section 7.3: a native app listens on whatever port it gets; nothing else may differ.
func TestLoopbackPortsAreFreeAndNothingElse(t *testing.T) {
	e := Start(t)
	for uri, allowed := range map[string]bool{
		"http://127.0.0.1:49152/callback":              true,
		"http://127.0.0.1/callback":                    true,
		"http://127.0.0.1:49152/other":                 false,
		"https://127.0.0.1:49152/callback":             false,
		"http://127.0.0.2:49152/callback":              false,
		"http://localhost:49152/callback":              false,
		"http://127.0.0.1.evil.example/callback":       false,
		"http://127.0.0.1:49152@evil.example/callback": false,
		"com.example.native:/callback":                 true,
		"com.example.native:/other":                    false,
	} {
		page := NewBrowser(t).Get(e.AuthorizeURL(Native, "redirect_uri", uri))
		if got := page.Status < 400; got != allowed {
			t.Errorf("%s: allowed %v, want %v", uri, got, allowed)
		}
	}
}

// The callback answers to the browser that began the flow alone: otherwise an attacker finishes their own sign-in in the
// victim's browser (login CSRF), or the victim's in theirs.
func TestAStateFromAnotherBrowserIsRefused(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		attacker, victim := NewBrowser(t), NewBrowser(t)
		callback, _ := attacker.Walk(e.AuthorizeURL(Web, "idp_hint", "google"), e.Issuer+"/callback/")
		victim.Get(e.AuthorizeURL(Web)) // the victim has a browser cookie of its own
		for name, browser := range map[string]*Browser{"with a cookie of its own": victim, "without cookies": NewBrowser(t)} {
			page := browser.Get(callback.String())
			if page.Status != http.StatusForbidden || page.Location() != nil {
				t.Errorf("%s: got %d to %v, want 403", name, page.Status, page.Location())
			}
		}
		if page := attacker.Get(callback.String()); page.Status != http.StatusSeeOther {
			t.Errorf("the rightful browser gets %d after others have tried", page.Status)
		}
		// The flow's pages too.
		if page := victim.Get(e.Issuer + "/signin/" + strings.Split(callback.Query().Get("state"), ".")[0]); page.Status != http.StatusForbidden {
			t.Errorf("another browser may look at the flow's page: %d", page.Status)
		}
	})
}

// One provider's answer delivered at another provider's callback (mix-up, RFC 9700 section 4.4), and answers that say they are from somebody else
// (RFC 9207).
func TestMixUpBetweenConnectorsIsRefused(t *testing.T) {
	e := Start(t)
	t.Run("a state at another connector's callback", func(t *testing.T) {
		b := NewBrowser(t)
		callback, _ := b.Walk(e.AuthorizeURL(Web, "idp_hint", "github"), e.Issuer+"/callback/github")
		callback.Path = "/callback/google"
		if page := b.Get(callback.String()); page.Status != http.StatusBadRequest {
			t.Errorf("got %d, want 400", page.Status)
		}
	})
	for _, connector := range []string{"google", "github"} {
		t.Run("a wrong iss from "+connector, func(t *testing.T) {
			b := NewBrowser(t)
			callback, _ := b.Walk(e.AuthorizeURL(Web, "idp_hint", connector), e.Issuer+"/callback/")
			query := callback.Query()
			query.Set("iss", "https://evil.example.com")
			callback.RawQuery = query.Encode()
			page := b.Get(callback.String())
			if page.Status != http.StatusBadGateway {
				t.Errorf("got %d, want 502", page.Status)
			}
			expectAtApp(t, page, "server_error")
		})
	}
	t.Run("no iss where the provider says that it always sends one", func(t *testing.T) {
		b := NewBrowser(t)
		callback, _ := b.Walk(e.AuthorizeURL(Web, "idp_hint", "google"), e.Issuer+"/callback/")
		query := callback.Query()
		query.Del("iss")
		callback.RawQuery = query.Encode()
		if page := b.Get(callback.String()); page.Status != http.StatusBadGateway {
			t.Errorf("got %d, want 502", page.Status)
		}
	})
}

// A callback serves once: of racing copies one goes on, and a later copy finds a page.
func TestACallbackIsUsedOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		callback, _ := b.Walk(e.AuthorizeURL(Web, "idp_hint", "google"), e.Issuer+"/callback/")
		var through, refused atomic.Int64
		storetest.Race(16, func() {
			switch page := b.Get(callback.String()); page.Status {
			case http.StatusSeeOther:
				through.Add(1)
			case http.StatusBadRequest:
				refused.Add(1)
			default:
				t.Errorf("unexpected status %d", page.Status)
			}
		})
		if through.Load() != 1 || refused.Load() != 15 {
			t.Errorf("%d callbacks went through and %d were refused, want 1 and 15", through.Load(), refused.Load())
		}
	})
}

// A stolen refresh token: whoever is second to use it ends the whole family (RFC 9700 section 4.14.2). Inside the grace
// window the second use of the previous one yields the same successor, so that a lost response costs nobody their sign-in.
func TestRefreshTokensRotateAndReuseRevokesTheGrant(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		first := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("refresh_token")
		second := e.Refresh(t, Web, first).String("refresh_token")
		if second == "" || second == first {
			t.Fatalf("the refresh token did not rotate: %q", second)
		}
		again := e.Refresh(t, Web, first)
		if again.String("refresh_token") != second {
			t.Fatalf("the previous token inside the grace window yields %v, want the same successor", again.Body)
		}
		third := e.Refresh(t, Web, second)
		if third.Status != http.StatusOK {
			t.Fatalf("the current token: %d %v", third.Status, third.Body)
		}
		if r := e.Refresh(t, Web, first); r.String("error") != "invalid_grant" {
			t.Errorf("a token two generations old gets %d %v", r.Status, r.Body)
		}
		if r := e.Refresh(t, Web, third.String("refresh_token")); r.String("error") != "invalid_grant" {
			t.Errorf("after reuse the newest token still works: %d %v", r.Status, r.Body)
		}
		if e.Active(t, Web, third.String("access_token")) {
			t.Error("after reuse the access token is still active")
		}
	})
}

func TestThePreviousRefreshTokenIsReuseOnceTheGraceWindowHasClosed(t *testing.T) {
	e := Start(t)
	first := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("refresh_token")
	second := e.Refresh(t, Web, first).String("refresh_token")
	e.Clock.Advance(e.Config.Tokens.RefreshGrace.Std())
	if r := e.Refresh(t, Web, first); r.String("error") != "invalid_grant" {
		t.Errorf("got %d %v, want invalid_grant", r.Status, r.Body)
	}
	if r := e.Refresh(t, Web, second); r.String("error") != "invalid_grant" {
		t.Errorf("the grant is alive after reuse: %d %v", r.Status, r.Body)
	}
}

func TestRacingRefreshesAllGetTheSameToken(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		first := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("refresh_token")
		var mu sync.Mutex
		got := map[string]int{}
		storetest.Race(24, func() {
			r := e.Refresh(t, Web, first)
			mu.Lock()
			defer mu.Unlock()
			got[r.String("refresh_token")]++
		})
		if len(got) != 1 || got[""] != 0 {
			t.Errorf("racing refreshes got %d different tokens (%d none)", len(got), got[""])
		}
	})
}

// A refresh token belongs to its client. A thief with other credentials gets nothing, and cannot make trouble either.
func TestAnotherClientsRefreshTokenIsRefusedAndUnharmed(t *testing.T) {
	e := Start(t)
	tokens := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google")
	refresh := tokens.String("refresh_token")
	if r := e.Refresh(t, Other, refresh); r.String("error") != "invalid_grant" {
		t.Errorf("another client refreshes: %d %v", r.Status, r.Body)
	}
	if r := e.Post(t, "/revoke", Other, url.Values{"token": {refresh}}); r.Status != http.StatusBadRequest {
		t.Errorf("another client revokes: %d %v", r.Status, r.Body)
	}
	for _, token := range []string{refresh, tokens.String("access_token")} {
		if e.Active(t, Other, token) {
			t.Error("another client may introspect a token that is not for it")
		}
	}
	if r := e.Refresh(t, Web, refresh); r.Status != http.StatusOK {
		t.Errorf("the rightful client cannot refresh any more: %d %v", r.Status, r.Body)
	}
}

// Every byte of a token counts, and no kind passes for another.
func TestForgedTruncatedAndSwappedTokensAreRefused(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	for _, client := range []Client{Web, First} { // opaque and JWT access tokens
		tokens := e.SignIn(t, b, client, "idp_hint", "google")
		access, refresh, id := tokens.String("access_token"), tokens.String("refresh_token"), tokens.String("id_token")
		bad := map[string]string{
			"access cut short": access[:len(access)-1], "access longer": access + "A", "access twice": access + access,
			"an ID token": id, "a refresh token": refresh, "nothing much": "x", "dots": "..", "unsigned": unsigned(access),
		}
		for i := 0; i < len(access); i += max(1, len(access)/40) {
			bad["access with another byte at "+string(rune('a'+i%26))+access[i:min(i+3, len(access))]] = access[:i] + flip(access[i]) + access[i+1:]
		}
		for name, token := range bad {
			if r := e.Userinfo(t, token); r.Status != http.StatusUnauthorized {
				t.Errorf("%s, %s: userinfo answers %d", client.ID, name, r.Status)
			}
			if token != refresh && e.Active(t, client, token) {
				t.Errorf("%s, %s: introspection calls it active", client.ID, name)
			}
		}
		for i := range len(refresh) {
			forged := refresh[:i] + flip(refresh[i]) + refresh[i+1:]
			if r := e.Refresh(t, client, forged); r.String("error") != "invalid_grant" {
				t.Fatalf("a refresh token with byte %d changed gets %d %v", i, r.Status, r.Body)
			}
		}
		if r := e.Refresh(t, client, access); r.String("error") != "invalid_grant" {
			t.Errorf("an access token refreshes: %d %v", r.Status, r.Body)
		}
	}
}

func flip(b byte) string {
	if b == 'A' {
		return "B"
	}
	return "A"
}

// unsigned is a JWT with alg none, if the token is one.
func unsigned(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "none"
	}
	return "eyJhbGciOiJub25lIn0." + parts[1] + "."
}

// Linking is by proof, never by an email that somebody typed in. mallory's GitHub email is unverified and equals ann's; Facebook never verifies.
func TestAnUnverifiedEmailNeitherLinksNorAsksNorRevealsAnything(t *testing.T) {
	for _, policy := range []config.Linking{"ask", "verified", "never"} {
		t.Run(string(policy), func(t *testing.T) {
			e := Start(t, func(c *config.Config) { c.Linking = policy })
			ann := e.Subject(t, e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "login_hint", "ann").String("access_token"))
			for _, attempt := range [][2]string{{"github", "mallory"}, {"facebook", "ann"}} {
				b := NewBrowser(t)
				callback, _ := b.Walk(e.AuthorizeURL(First, "idp_hint", attempt[0], "login_hint", attempt[1]), e.Issuer+"/callback/")
				page := b.Get(callback.String())
				if location := page.Location(); location == nil || !strings.HasPrefix(location.String(), First.RedirectURI) {
					t.Fatalf("%s at %s was asked something: %d %v", attempt[1], attempt[0], page.Status, location)
				}
				code := page.Location().Query().Get("code")
				if subject := e.Subject(t, e.Redeem(t, First, code).String("access_token")); subject == ann {
					t.Errorf("%s at %s became ann", attempt[1], attempt[0])
				}
			}
		})
	}
}

// Nothing that strangers send may crash the broker, hang it, or be echoed into its log unread.
func TestOversizedAndMalformedInputIsRefusedEverywhere(t *testing.T) {
	e := Start(t)
	long := strings.Repeat("A", 200<<10)
	paths := []string{
		"/authorize", "/token", "/introspect", "/revoke", "/userinfo", "/logout", "/callback/google", "/signin/x", "/signin/x/choose",
		"/signin/x/consent", "/signin/x/link", "/.well-known/openid-configuration", "/jwks.json", "/healthz", "/static/x", "/nowhere",
	}
	for _, path := range paths {
		for name, r := range map[string]func() *http.Request{
			"a long query": func() *http.Request { return request(t, "GET", e.Issuer+path+"?client_id="+long, "", "") },
			"a bad escape": func() *http.Request { return request(t, "GET", e.Issuer+path+"?client_id=%zz&x=%", "", "") },
			"semicolons":   func() *http.Request { return request(t, "GET", e.Issuer+path+"?a;b;c", "", "") },
			"null bytes":   func() *http.Request { return request(t, "GET", e.Issuer+path+"?client_id=%00%ff%fe&state=%00", "", "") },
			"a long body": func() *http.Request {
				return request(t, "POST", e.Issuer+path, "token="+long, "application/x-www-form-urlencoded")
			},
			"a body of nothing": func() *http.Request { return request(t, "POST", e.Issuer+path, "", "") },
			"a body of JSON":    func() *http.Request { return request(t, "POST", e.Issuer+path, `{"token":"x"}`, "application/json") },
			"a bad form": func() *http.Request {
				return request(t, "POST", e.Issuer+path, "%zz=%", "application/x-www-form-urlencoded")
			},
			"a bad multipart": func() *http.Request {
				return request(t, "POST", e.Issuer+path, "--x", "multipart/form-data; boundary=")
			},
			"another method": func() *http.Request { return request(t, "PATCH", e.Issuer+path, "x", "text/plain") },
			"a broken cookie": func() *http.Request {
				r := request(t, "GET", e.Issuer+path, "", "")
				r.Header.Set("Cookie", `portico_session="; portico_session=`+long[:3000]+`; portico_browser=%00; =;;;`)
				return r
			},
			"a broken Authorization": func() *http.Request {
				r := request(t, "POST", e.Issuer+path, "token=x", "application/x-www-form-urlencoded")
				r.Header.Set("Authorization", "Basic "+long[:4000])
				return r
			},
		} {
			response := Do(t, r())
			if response.Status >= 500 {
				t.Errorf("%s with %s answers %d", path, name, response.Status)
			}
			if response.Status == http.StatusSeeOther && !strings.HasPrefix(response.Header.Get("Location"), e.Issuer) {
				t.Errorf("%s with %s redirects to %s", path, name, response.Header.Get("Location"))
			}
		}
	}
}

// Secrets must not be in the log, whatever happens (and the log must not be empty, or this would prove nothing).
func TestNoSecretIsEverLogged(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	answer := e.Code(t, b, Web, "idp_hint", "google")
	tokens := e.Redeem(t, Web, answer.Get("code"))
	refreshed := e.Refresh(t, Web, tokens.String("refresh_token"))
	e.Redeem(t, Web, answer.Get("code")) // a replay
	arm(t, e, "github", "expired_code")
	b.Walk(e.AuthorizeURL(Web, "idp_hint", "github", "prompt", "login"), Web.RedirectURI)
	logs := e.Logs.String()
	if len(logs) < 1000 {
		t.Fatalf("the log has only %d bytes", len(logs))
	}
	secrets := []string{
		answer.Get("code"), Web.Secret, Verifier, tokens.String("access_token"), tokens.String("refresh_token"),
		tokens.String("id_token"), refreshed.String("access_token"),
	}
	issuer, _ := url.Parse(e.Issuer)
	for _, cookie := range b.Client.Jar.Cookies(issuer) {
		secrets = append(secrets, cookie.Value)
	}
	for i, secret := range secrets {
		if len(secret) < 8 || strings.Contains(logs, secret) {
			t.Errorf("secret %d is in the log, or too short to look for (%d bytes)", i, len(secret))
		}
	}
}
