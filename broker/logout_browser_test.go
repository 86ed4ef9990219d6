package broker_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// site is an app with pages of its own.
type site struct {
	*httptest.Server
	client Client

	mu       sync.Mutex
	requests []*http.Request
}

// newSite serves an app: /start signs in, /callback ends there, /bye is where people go after they signed out, /out is called by
// frames, and everything else is what pages say.
func newSite(t *testing.T, client Client, start func(http.Handler) *httptest.Server, pages map[string]http.HandlerFunc) *site {
	t.Helper()
	s := &site{client: client}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if page := pages[r.URL.Path]; page != nil {
			page(w, r)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "app", Value: "1", Path: "/", Secure: r.TLS != nil, SameSite: map[bool]http.SameSite{true: http.SameSiteNoneMode, false: http.SameSiteLaxMode}[r.TLS != nil]})
		fmt.Fprintf(w, "<h1>%s at the app</h1>", html.EscapeString(strings.TrimPrefix(r.URL.Path, "/")))
	}))
	t.Cleanup(s.Close)
	s.client.RedirectURI = s.URL + "/callback"
	return s
}

// last is the last request for a path.
func (s *site) last(path string) *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.requests) - 1; i >= 0; i-- {
		if s.requests[i].URL.Path == path {
			return s.requests[i]
		}
	}
	return nil
}

// goTo navigates without waiting for the page to load.
func goTo(target string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[int](fmt.Sprintf("location.href = %q; 1", target))(ctx, t)
		return err
	})
}

// Front-channel logout is a thing of browsers: that frames of a page with our policy load, run and see their cookies, that the page waits for them and then goes
// on, and that it can be left where one hangs.
func TestFrontChannelLogoutInARealBrowser(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	hanging := false
	out := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hanging {
			<-hang
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, `<script>document.cookie = "app=; Max-Age=0; Path=/"; fetch("/ran"); top.location = "/escaped"</script>`)
	})
	web := newSite(t, Web, httptest.NewServer, map[string]http.HandlerFunc{"/out": out})
	other := newSite(t, Other, httptest.NewServer, map[string]http.HandlerFunc{"/out": out})
	e := Start(t, func(c *config.Config) {
		for i, s := range []*site{web, other} {
			c.Clients[i].RedirectURIs = []string{s.client.RedirectURI}
			c.Clients[i].PostLogoutRedirectURIs = []string{s.URL + "/bye"}
			c.Clients[i].FrontchannelLogoutURI = s.URL + "/out"
			c.Clients[i].FrontchannelLogoutSessionRequired = true
		}
	})
	v := visit{t, chromium(t)}
	signIn := func() string {
		t.Helper()
		v.do("sign in to web", chromedp.Navigate(e.AuthorizeURL(web.client, "idp_hint", "google", "prompt", "login consent")), atSandbox, press, consent, press, says("callback at the app"))
		tokens := e.Redeem(t, web.client, web.last("/callback").URL.Query().Get("code"))
		v.do("sign in to other", chromedp.Navigate(e.AuthorizeURL(other.client, "prompt", "consent")), consent, press, says("callback at the app"))
		e.Redeem(t, other.client, other.last("/callback").URL.Query().Get("code"))
		return e.Issuer + "/logout?" + url.Values{"id_token_hint": {tokens.String("id_token")}, "post_logout_redirect_uri": {web.URL + "/bye"}, "state": {"s1"}}.Encode()
	}

	v.do("sign out", chromedp.Navigate(signIn()), says("bye at the app"))
	for _, s := range []*site{web, other} {
		r := s.last("/out")
		if r == nil {
			t.Fatalf("%s was not called", s.client.ID)
		}
		query := r.URL.Query()
		if _, err := r.Cookie("app"); err != nil || query.Get("iss") != e.Issuer || query.Get("sid") == "" || r.Header.Get("Sec-Fetch-Dest") != "iframe" || r.Header.Get("Referer") != "" {
			t.Errorf("%s was called with %s, %v", s.client.ID, r.URL, r.Header)
		}
		if s.last("/ran") == nil {
			t.Errorf("the script in %s's frame did not run", s.client.ID)
		}
		if s.last("/escaped") != nil {
			t.Errorf("%s's frame took the person elsewhere", s.client.ID)
		}
	}
	if bye := web.last("/bye"); bye.URL.Query().Get("state") != "s1" || len(bye.URL.Query()) != 1 {
		t.Errorf("the person came back to %s", bye.URL)
	}

	// An app that hangs keeps the page from going on by itself; the person sees what to do.
	hanging = true
	target := signIn()
	v.do("sign out with an app that hangs", goTo(target), says("You are signed out"))
	v.shoot("signed-out-frames")
	v.do("go on", chromedp.Click(`a.button`), says("bye at the app"))
}

// startOverTLS puts https in front of a broker, whose issuer that is, on another host than the apps'.
func startOverTLS(t *testing.T, edit ...func(*config.Config)) *Env {
	t.Helper()
	var e *Env
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.Broker.Handler.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	e = Start(t, append(edit, func(c *config.Config) { c.Issuer = front.URL })...)
	e.Issuer = front.URL
	return e
}

// checkPage is an app's page that asks the broker's frame, and shows what it says.
func checkPage(issuer func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		frame := issuer() + "/check-session"
		fmt.Fprintf(w, `<h1>asking</h1><iframe src="%s" hidden></iframe><script>
			addEventListener("message", (event) => {
				if (event.origin === %q) document.querySelector("h1").innerText = "the frame says " + event.data;
			});
			document.querySelector("iframe").onload = (event) => event.target.contentWindow.postMessage(new URLSearchParams(location.search).get("message"), %q);
		</script>`, frame, issuer(), issuer())
	}
}

// cookieControls is a browser profile that keeps cookies from frames of other sites, or does not.
func cookieControls(t *testing.T, blocked bool) string {
	t.Helper()
	folder := t.TempDir()
	mode := map[bool]int{false: 0, true: 1}[blocked]
	if err := os.Mkdir(filepath.Join(folder, "Default"), 0o700); err != nil {
		t.Fatal(err)
	}
	preferences := fmt.Sprintf(`{"profile": {"cookie_controls_mode": %d}}`, mode)
	if err := os.WriteFile(filepath.Join(folder, "Default", "Preferences"), []byte(preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// Whether a frame of another site sees the cookie, may run its script under its policy, and may be framed at all, is the browser's to say.
// The broker is at https://127.0.0.1 and the app at https://localhost: two sites.
func TestTheCheckSessionFrameInARealBrowser(t *testing.T) {
	for name, test := range map[string]struct {
		blocked bool // the browser keeps cookies from frames of other sites
		answers [4]string
	}{
		"a browser that shows cookies to frames": {false, [4]string{"unchanged", "unchanged", "changed", "changed"}},
		// "changed" would have the app ask for a new sign-in again and again.
		"a browser that does not": {true, [4]string{"error", "error", "error", "error"}},
	} {
		t.Run(name, func(t *testing.T) {
			var e *Env
			app := newSite(t, Web, func(h http.Handler) *httptest.Server {
				server := httptest.NewTLSServer(h)
				server.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
				return server
			}, map[string]http.HandlerFunc{"/check": checkPage(func() string { return e.Issuer })})
			e = startOverTLS(t, func(c *config.Config) {
				c.SessionManagement = true
				c.Clients[0].RedirectURIs = []string{app.client.RedirectURI}
			})
			v := visit{t, chromium(t, chromedp.Flag("ignore-certificate-errors", true), chromedp.UserDataDir(cookieControls(t, test.blocked)))}
			check := func(what, message, want string) {
				t.Helper()
				v.do(what, chromedp.Navigate(app.URL+"/check?"+url.Values{"message": {message}}.Encode()), says("the frame says "))
				if got := strings.TrimPrefix(v.read("h1"), "the frame says "); got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
			}
			signIn := func(edits ...string) url.Values {
				t.Helper()
				v.do("sign in", chromedp.Navigate(e.AuthorizeURL(app.client, edits...)), says("callback at the app"))
				return app.last("/callback").URL.Query()
			}
			v.do("sign in", chromedp.Navigate(e.AuthorizeURL(app.client, "idp_hint", "google")), atSandbox, press, consent, press, says("callback at the app"))
			first := app.last("/callback").URL.Query().Get("session_state")
			second := signIn("prompt", "none").Get("session_state")
			check("signed in", "web "+first, test.answers[0])
			check("asked again", "web "+second, test.answers[1])
			check("another client's", "other "+first, test.answers[2])
			for _, malformed := range []string{"", "web", "web  " + first, "web " + first + "x", first, "web " + first + " x", "web .", "web unchanged"} {
				check("malformed", malformed, "error")
			}
			v.do("sign out", chromedp.Navigate(e.Issuer+"/logout"), chromedp.WaitVisible(`form button`), press, says("igned out"))
			check("signed out", "web "+first, test.answers[3])
			v.do("sign in again", chromedp.Navigate(e.AuthorizeURL(app.client, "idp_hint", "google")), atSandbox, press, says("callback at the app"))
			check("another session", "web "+first, test.answers[3])
			check("another session's own", "web "+app.last("/callback").URL.Query().Get("session_state"), test.answers[0])
		})
	}
}
