package sessions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/sessions"
)

const (
	lifetime = 24 * time.Hour
	idle     = 2 * time.Hour
)

func key(b byte, n int) []byte { return slices.Repeat([]byte{b}, n) }

var (
	keysA = [][]byte{key('a', 32), key('A', 32)}
	keysB = [][]byte{key('b', 32), key('B', 32)}
)

func newStore(t *testing.T, clock *clock, backend store.Backend, change func(*sessions.Options)) *sessions.Store {
	t.Helper()
	o := sessions.Options{CookieKeys: keysA, Secure: true, Lifetime: lifetime, IdleLifetime: idle, Now: clock.Now}
	if change != nil {
		change(&o)
	}
	s, err := sessions.New(backend, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// site is a server with the store behind it: /start?account=… signs in, /who says who is signed in, /end signs out,
// /browser says which browser it is.
type site struct {
	*httptest.Server
	store *sessions.Store
}

func newSite(t *testing.T, clock *clock, s *sessions.Store) *site {
	t.Helper()
	mux := http.NewServeMux()
	fail := func(w http.ResponseWriter, err error) { http.Error(w, err.Error(), http.StatusInternalServerError) }
	mux.HandleFunc("/start", func(w http.ResponseWriter, r *http.Request) {
		id, err := s.Start(r.Context(), w, r, sessions.Session{
			AccountID: r.FormValue("account"), Connector: "google", AuthTime: clock.Now(), ACR: "acr", AMR: []string{"fed"},
		})
		if err != nil {
			fail(w, err)
			return
		}
		_, _ = io.WriteString(w, id)
	})
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Current(r)
		if err != nil {
			fail(w, err)
			return
		}
		if session == nil {
			_, _ = io.WriteString(w, "nobody")
			return
		}
		_, _ = io.WriteString(w, session.AccountID)
	})
	mux.HandleFunc("/session", func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Current(r)
		if err != nil {
			fail(w, err)
			return
		}
		_ = json.NewEncoder(w).Encode(session)
	})
	mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) {
		if err := s.End(r.Context(), w, r); err != nil {
			fail(w, err)
		}
	})
	mux.HandleFunc("/browser", func(w http.ResponseWriter, r *http.Request) {
		first := s.EnsureBrowser(w, r)
		_, _ = fmt.Fprintf(w, "%s %s %s", s.Browser(r), first, s.EnsureBrowser(w, r))
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return &site{server, s}
}

// browser is a client with a cookie jar of its own.
func (s *site) browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *s.Client()
	c.Jar = jar
	return &c
}

func (s *site) get(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	_, body := s.fetch(t, c, path)
	return body
}

func (s *site) fetch(t *testing.T, c *http.Client, path string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", path, res.Status, body)
	}
	return res, string(body)
}

func (s *site) cookie(t *testing.T, c *http.Client, name string) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.Jar.Cookies(u) {
		if k.Name == name {
			return k.Value
		}
	}
	return ""
}

// who asks /who with exactly this Cookie header.
func (s *site) who(t *testing.T, cookies ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/who", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Cookie"] = cookies
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

const secureName = sessions.HostPrefix + sessions.SessionCookie

func TestASessionHoldsWhatWasSignedIn(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		if got := site.get(t, ann, "/who"); got != "nobody" {
			t.Fatalf("before signing in: %q", got)
		}
		began := clock.Now().UTC().Truncate(time.Millisecond)
		site.get(t, ann, "/start?account=ann")

		var got sessions.Session
		if err := json.Unmarshal([]byte(site.get(t, ann, "/session")), &got); err != nil {
			t.Fatal(err)
		}
		if got.SID == "" {
			t.Error("the session has no sid that apps could know it by")
		}
		want := sessions.Session{
			SID: got.SID, AccountID: "ann", Connector: "google", AuthTime: began, ACR: "acr", AMR: []string{"fed"},
			CreatedAt: began, LastSeen: began,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("session (-want +got):\n%s", diff)
		}
		if got := site.get(t, site.browser(t), "/who"); got != "nobody" {
			t.Errorf("another browser: %q", got)
		}
	})
}

// Session fixation: an attacker who knows, or has planted, the session of a browser must not share what its user
// signs in to.
func TestSigningInGivesANewIDAndEndsTheOldSession(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		browser := site.browser(t)
		first := site.get(t, browser, "/start?account=mallory")
		planted := site.cookie(t, browser, secureName)

		second := site.get(t, browser, "/start?account=ann")
		if first == second {
			t.Error("the second sign-in kept the id of the first")
		}
		if got := site.cookie(t, browser, secureName); got == planted {
			t.Error("the second sign-in kept the cookie of the first")
		}
		if got := site.who(t, secureName+"="+planted); got != "nobody" {
			t.Errorf("the planted cookie is %q", got)
		}
		if got := site.get(t, browser, "/who"); got != "ann" {
			t.Errorf("the browser is %q", got)
		}
	})
}

// A stolen copy of a cookie must be worthless once its user has signed out.
func TestTheCookieOfAnEndedSessionIsWorthless(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		site.get(t, ann, "/start?account=ann")
		stolen := site.cookie(t, ann, secureName)
		if got := site.who(t, secureName+"="+stolen); got != "ann" {
			t.Fatalf("the cookie is %q while the session lives", got)
		}
		site.get(t, ann, "/end")
		if got := site.cookie(t, ann, secureName); got != "" {
			t.Error("the browser kept its cookie")
		}
		if got := site.who(t, secureName+"="+stolen); got != "nobody" {
			t.Errorf("replayed: %q", got)
		}
		site.get(t, ann, "/end") // ending nothing is no error
	})
}

// Whoever cannot forge the MAC gets no answer, and costs no read of the store either.
func TestForgedCookiesAreNobodyAndCostNoRead(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		id := site.get(t, ann, "/start?account=ann")
		good := site.cookie(t, ann, secureName)
		site.get(t, ann, "/browser")
		otherKeys := newSite(t, clock, newStore(t, clock, backend, func(o *sessions.Options) { o.CookieKeys = keysB }))
		stranger := otherKeys.browser(t)
		otherKeys.get(t, stranger, "/start?account=ann")

		flipped := []byte(good)
		flipped[len(flipped)/2] ^= 1
		forged := map[string]string{
			"empty":              secureName + "=",
			"the bare id":        secureName + "=" + id,
			"truncated":          secureName + "=" + good[:len(good)-8],
			"extended":           secureName + "=" + good + "AAAA",
			"a changed bit":      secureName + "=" + string(flipped),
			"other keys":         secureName + "=" + otherKeys.cookie(t, stranger, secureName),
			"another cookie":     secureName + "=" + site.cookie(t, ann, sessions.HostPrefix+sessions.BrowserCookie),
			"too long":           secureName + "=" + strings.Repeat("A", 4096),
			"without the prefix": sessions.SessionCookie + "=" + good,
			"quoted garbage":     secureName + `="` + good,
		}
		backend.gets.Store(0)
		for name, cookie := range forged {
			if got := site.who(t, cookie); got != "nobody" {
				t.Errorf("%s: %q", name, got)
			}
		}
		if n := backend.gets.Load(); n != 0 {
			t.Errorf("forged cookies cost %d reads", n)
		}
	})
}

// Cookie tossing: a sibling domain, or a plain-http attacker, plants a second cookie of the same name. Which one comes first
// is the attacker's choice, so neither counts, even if one of them is malformed.
func TestTwoCookiesOfOneNameAreNone(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann, mallory := site.browser(t), site.browser(t)
		site.get(t, ann, "/start?account=ann")
		site.get(t, mallory, "/start?account=mallory")
		a := secureName + "=" + site.cookie(t, ann, secureName)
		m := secureName + "=" + site.cookie(t, mallory, secureName)
		for _, cookies := range [][]string{
			{a + "; " + m}, {m + "; " + a}, {a, m}, {a + "; " + a}, {secureName + "=\"; " + a}, {a + ";" + secureName},
		} {
			if got := site.who(t, cookies...); got != "nobody" {
				t.Errorf("%q: %q", cookies, got)
			}
		}
		if got := site.who(t, "other=1; "+a+"; another=2"); got != "ann" {
			t.Errorf("beside other cookies: %q", got)
		}
	})
}

func TestASessionEndsByAbsoluteLifetimeHoweverMuchItIsUsed(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		site.get(t, ann, "/start?account=ann")
		cookie := secureName + "=" + site.cookie(t, ann, secureName)
		for range 47 {
			clock.Advance(30 * time.Minute)
			if got := site.who(t, cookie); got != "ann" {
				t.Fatalf("in use, before the end: %q", got)
			}
		}
		clock.Advance(30 * time.Minute)
		if got := site.who(t, cookie); got != "nobody" {
			t.Errorf("at the end: %q", got)
		}
	})
}

func TestASessionEndsByIdling(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		site.get(t, ann, "/start?account=ann")
		cookie := secureName + "=" + site.cookie(t, ann, secureName)
		clock.Advance(idle - time.Millisecond)
		if got := site.who(t, cookie); got != "ann" {
			t.Fatalf("just before: %q", got)
		}
		clock.Advance(idle)
		if got := site.who(t, cookie); got != "nobody" {
			t.Errorf("after: %q", got)
		}
	})
}

// The expiry must not hang on the backend's own collection of garbage: a store that still answers with a document whose
// time has passed, such as a MongoDB between two sweeps, lets nobody in.
func TestExpiryIsDecidedHereAndNotByTheBackend(t *testing.T) {
	clock := newClock()
	frozen := clock.Now()
	site := newSite(t, clock, newStore(t, clock, storetest.SQLite(t, func() time.Time { return frozen }), nil))
	ann := site.browser(t)
	site.get(t, ann, "/start?account=ann")
	clock.Advance(idle)
	if got := site.who(t, secureName+"="+site.cookie(t, ann, secureName)); got != "nobody" {
		t.Errorf("after the end: %q", got)
	}
}

func TestLookingAtASessionIsOneReadAndRarelyAWrite(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		ann := site.browser(t)
		site.get(t, ann, "/start?account=ann")
		backend.gets.Store(0)
		backend.writes.Store(0)
		for range 60 { // an hour, a request a minute
			clock.Advance(time.Minute)
			site.get(t, ann, "/who")
		}
		if n := backend.gets.Load(); n != 60 {
			t.Errorf("%d reads for 60 requests", n)
		}
		if n := backend.writes.Load(); n != 12 {
			t.Errorf("%d writes in an hour of use, want one in five minutes", n)
		}
		backend.gets.Store(0)
		site.get(t, site.browser(t), "/who")
		if n := backend.gets.Load(); n != 0 {
			t.Errorf("a browser without a cookie cost %d reads", n)
		}
	})
}

// A lifetime shorter than the interval of writes must not end sessions that are in use.
func TestAShortIdleLifetimeKeepsSessionsInUse(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, func(o *sessions.Options) { o.IdleLifetime = time.Minute }))
		ann := site.browser(t)
		site.get(t, ann, "/start?account=ann")
		for range 20 {
			clock.Advance(50 * time.Second)
			if got := site.get(t, ann, "/who"); got != "ann" {
				t.Fatalf("in use: %q", got)
			}
		}
	})
}

func TestCookieKeysRotate(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		with := func(keys ...[]byte) *site {
			return newSite(t, clock, newStore(t, clock, backend, func(o *sessions.Options) { o.CookieKeys = keys }))
		}
		before, during, after := with(keysA...), with(slices.Concat(keysB, keysA)...), with(keysB...)

		ann, bob := before.browser(t), during.browser(t)
		before.get(t, ann, "/start?account=ann")
		underA := secureName + "=" + before.cookie(t, ann, secureName)
		if got := during.who(t, underA); got != "ann" {
			t.Errorf("the old key, still listed: %q", got)
		}
		if got := after.who(t, underA); got != "nobody" {
			t.Errorf("the old key, retired: %q", got)
		}
		during.get(t, bob, "/start?account=bob")
		if got := after.who(t, secureName+"="+during.cookie(t, bob, secureName)); got != "bob" {
			t.Errorf("the first key writes: %q", got)
		}
	})
}

func TestCookiePolicy(t *testing.T) {
	for _, tc := range []struct {
		name          string
		secure        bool
		wantSession   string
		wantBrowser   string
		wantAttribute []string
	}{
		{"https issuer", true, "__Host-portico_session", "__Host-portico_browser", []string{"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}},
		{"plain-http loopback issuer", false, "portico_session", "portico_browser", []string{"Path=/", "HttpOnly", "SameSite=Lax"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := newClock()
			site := newSite(t, clock, newStore(t, clock, storetest.SQLite(t, clock.Now), func(o *sessions.Options) { o.Secure = tc.secure }))
			// Attributes besides name=value, Max-Age and Expires must be exactly these: a Domain, for one, would hand the cookie to siblings.
			check := func(path, wantName, wantMaxAge string) {
				t.Helper()
				res, _ := site.fetch(t, site.browser(t), path)
				lines := res.Header["Set-Cookie"]
				if len(lines) != 1 {
					t.Fatalf("%s sets %d cookies", path, len(lines))
				}
				parts := strings.Split(lines[0], "; ")
				if name, _, _ := strings.Cut(parts[0], "="); name != wantName {
					t.Errorf("%s: name %q, want %q", path, name, wantName)
				}
				maxAge := ""
				var attributes []string
				for _, p := range parts[1:] {
					if v, ok := strings.CutPrefix(p, "Max-Age="); ok {
						maxAge = v
					} else {
						attributes = append(attributes, p)
					}
				}
				slices.Sort(attributes)
				want := slices.Sorted(slices.Values(tc.wantAttribute))
				if !slices.Equal(attributes, want) {
					t.Errorf("%s: attributes %q, want %q", path, attributes, want)
				}
				if maxAge != wantMaxAge {
					t.Errorf("%s: Max-Age %q, want %q", path, maxAge, wantMaxAge)
				}
			}
			check("/start?account=ann", tc.wantSession, "86400")
			check("/end", tc.wantSession, "0")
			check("/browser", tc.wantBrowser, "")
		})
	}
}

func TestEndAllSignsOneAccountOutEverywhere(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		s := newStore(t, clock, backend, nil)
		site := newSite(t, clock, s)
		bob := site.browser(t)
		site.get(t, bob, "/start?account=bob")
		var anns []*http.Client
		for range 3 {
			b := site.browser(t)
			site.get(t, b, "/start?account=ann")
			anns = append(anns, b)
		}
		if err := s.EndAll(t.Context(), ""); err == nil {
			t.Error("EndAll without an account, which would be everybody's, was accepted")
		}
		if err := s.EndAll(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		for _, b := range anns {
			if got := site.get(t, b, "/who"); got != "nobody" {
				t.Errorf("ann: %q", got)
			}
		}
		if got := site.get(t, bob, "/who"); got != "bob" {
			t.Errorf("bob: %q", got)
		}
	})
}

// More sessions than fit one page of a listing must all go.
func TestEndAllReachesBeyondOnePage(t *testing.T) {
	clock := newClock()
	backend := storetest.SQLite(t, clock.Now)
	s := newStore(t, clock, backend, nil)
	var cookies []*http.Cookie
	for range store.MaxPage + 1 {
		w := httptest.NewRecorder()
		if _, err := s.Start(t.Context(), w, httptest.NewRequest(http.MethodGet, "/", nil), sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); err != nil {
			t.Fatal(err)
		}
		cookies = append(cookies, w.Result().Cookies()...)
	}
	if err := s.EndAll(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(c)
		if session, err := s.Current(r); err != nil || session != nil {
			t.Fatalf("a session survived: %v, %v", session, err)
		}
	}
}

// Tabs that sign in at once must each come out of it with a session of their own id and no error.
func TestConcurrentStarts(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		site := newSite(t, clock, newStore(t, clock, backend, nil))
		browser := site.browser(t)
		site.get(t, browser, "/start?account=ann")
		old := secureName + "=" + site.cookie(t, browser, secureName)

		const tabs = 16
		ids := make([]string, tabs)
		var wg sync.WaitGroup
		for i := range tabs {
			wg.Go(func() {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site.URL+"/start?account=ann", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Cookie", old)
				res, err := site.Client().Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = res.Body.Close() }()
				body, _ := io.ReadAll(res.Body)
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", res.Status, body)
				}
				ids[i] = string(body)
			})
		}
		wg.Wait()
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); n != tabs {
			t.Errorf("%d ids for %d sign-ins", n, tabs)
		}
		if got := site.who(t, old); got != "nobody" {
			t.Errorf("the session before: %q", got)
		}
	})
}

// The binding of flows to browsers, against login CSRF: a value of its own per browser, the same within it.
func TestABrowserIsRecognisedAndMalformedValuesAreReplaced(t *testing.T) {
	clock := newClock()
	site := newSite(t, clock, newStore(t, clock, storetest.SQLite(t, clock.Now), nil))
	const name = sessions.HostPrefix + sessions.BrowserCookie
	ann, bob := site.browser(t), site.browser(t)

	first := strings.Split(site.get(t, ann, "/browser"), " ")
	if first[0] != "" || len(first[1]) < 22 || first[1] != first[2] {
		t.Fatalf("new browser: %q, want no value before and one after, however often it is asked for", first)
	}
	again := strings.Split(site.get(t, ann, "/browser"), " ")
	if again[0] != first[1] || again[1] != first[1] {
		t.Errorf("the same browser: %q, was %q", again, first)
	}
	if other := strings.Split(site.get(t, bob, "/browser"), " "); other[1] == first[1] {
		t.Error("two browsers share a value")
	}

	v := first[1]
	for _, bad := range []string{
		name + "=", name + "=short", name + "=" + strings.ToLower(v), name + "=" + v + "A", name + "=" + v[1:] + "1",
		name + "=" + v + "; " + name + "=" + v, sessions.BrowserCookie + "=" + v,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", bad)
		w := httptest.NewRecorder()
		if got := site.store.Browser(r); got != "" {
			t.Errorf("%q: %q", bad, got)
		}
		if got := site.store.EnsureBrowser(w, r); got == v || len(w.Result().Cookies()) != 1 {
			t.Errorf("%q was not replaced", bad)
		}
	}
}

// Two cookies of one name on one response would leave it to the browser which one counts.
func TestOneResponseSetsACookieOnce(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	w.Header().Add("Set-Cookie", "other=1")
	s.EnsureBrowser(w, r)
	for range 2 {
		if err := s.End(t.Context(), w, r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(t.Context(), w, r, sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, c := range w.Result().Cookies() {
		names = append(names, c.Name)
	}
	if want := []string{"other", sessions.HostPrefix + sessions.BrowserCookie, secureName}; !slices.Equal(names, want) {
		t.Errorf("cookies %q, want %q", names, want)
	}
}

// A store that does not answer must not pass for "nobody is signed in", nor hand out a cookie for nothing.
func TestAStoreThatDoesNotAnswerIsAnError(t *testing.T) {
	clock := newClock()
	backend := &counted{Backend: storetest.SQLite(t, clock.Now)}
	s := newStore(t, clock, backend, nil)
	w := httptest.NewRecorder()
	if _, err := s.Start(t.Context(), w, httptest.NewRequest(http.MethodGet, "/", nil), sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(w.Result().Cookies()[0])

	down := errors.New("down")
	backend.fail.Store(&down)
	if session, err := s.Current(r); !errors.Is(err, down) || session != nil {
		t.Errorf("Current: %v, %v", session, err)
	}
	w = httptest.NewRecorder()
	if _, err := s.Start(t.Context(), w, r, sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); !errors.Is(err, down) || len(w.Result().Cookies()) != 0 {
		t.Errorf("Start: %v, cookies %v", err, w.Result().Cookies())
	}
	w = httptest.NewRecorder()
	if err := s.End(t.Context(), w, r); !errors.Is(err, down) || len(w.Result().Cookies()) != 1 {
		t.Errorf("End: %v, cookies %v; want the error, and the cookie gone all the same", err, w.Result().Cookies())
	}
}

func TestASignInNeedsAnAccountAndATime(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	for name, session := range map[string]sessions.Session{
		"no account": {AuthTime: clock.Now()},
		"no time":    {AccountID: "ann"},
	} {
		w := httptest.NewRecorder()
		if _, err := s.Start(t.Context(), w, httptest.NewRequest(http.MethodGet, "/", nil), session); err == nil || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := sessions.Options{CookieKeys: keysA, Lifetime: time.Hour}
	for name, change := range map[string]func(*sessions.Options){
		"no keys":          func(o *sessions.Options) { o.CookieKeys = nil },
		"half a pair":      func(o *sessions.Options) { o.CookieKeys = [][]byte{key('a', 32)} },
		"a short hash key": func(o *sessions.Options) { o.CookieKeys = [][]byte{key('a', 31), key('A', 32)} },
		"an odd block key": func(o *sessions.Options) { o.CookieKeys = [][]byte{key('a', 32), key('A', 31)} },
		"no block key":     func(o *sessions.Options) { o.CookieKeys = [][]byte{key('a', 32), nil} },
		"no lifetime":      func(o *sessions.Options) { o.Lifetime = 0 },
		"negative idle":    func(o *sessions.Options) { o.IdleLifetime = -1 },
	} {
		o := good
		change(&o)
		if _, err := sessions.New(storetest.SQLite(t, time.Now), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := sessions.New(storetest.SQLite(t, time.Now), good); err != nil {
		t.Error(err)
	}
}
