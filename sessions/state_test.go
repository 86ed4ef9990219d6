package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/sessions"
)

func shown(sid string) string { return "state-of-" + strings.ToLower(sid) }

func withState(o *sessions.Options) { o.BrowserState = shown }

func setCookies(w *httptest.ResponseRecorder) map[string]*http.Cookie {
	set := map[string]*http.Cookie{}
	for _, c := range w.Result().Cookies() {
		set[c.Name] = c
	}
	return set
}

// The state cookie must be seen by a script in a frame of another site, and is the only one that is.
func TestTheStateCookieAloneIsForScriptsAndFrames(t *testing.T) {
	clock := newClock()
	backend := storetest.SQLite(t, clock.Now)
	for _, secure := range []bool{true, false} {
		s := newStore(t, clock, backend, func(o *sessions.Options) { withState(o); o.Secure = secure })
		w := httptest.NewRecorder()
		sid, err := s.Start(t.Context(), w, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		s.EnsureBrowser(w, visit())
		cookies := setCookies(w)
		c := cookies[s.StateCookie()]
		if c == nil || c.Value != shown(sid) || c.HttpOnly || c.Secure != secure || c.Path != "/" || c.Domain != "" || c.MaxAge <= 0 {
			t.Fatalf("secure %v: the state cookie is %v", secure, c)
		}
		if secure && (c.SameSite != http.SameSiteNoneMode || !strings.HasPrefix(c.Name, "__Host-")) || !secure && c.SameSite != http.SameSiteLaxMode {
			t.Errorf("secure %v: the state cookie is %v", secure, c)
		}
		for name, other := range cookies {
			if name != c.Name && (!other.HttpOnly || other.SameSite != http.SameSiteLaxMode) {
				t.Errorf("the cookie %s is %v", name, other)
			}
		}
	}
}

func TestTheStateCookieFollowsTheSession(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), withState)
	in := httptest.NewRecorder()
	sid, err := s.Start(t.Context(), in, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	quiet := httptest.NewRecorder()
	s.ShowState(quiet, visit(in), sid)
	if len(quiet.Header()) != 0 {
		t.Errorf("a cookie that is right is set again: %v", quiet.Header())
	}
	for name, r := range map[string]*http.Request{"lost": visit(), "another": visit(in)} {
		if name == "another" {
			r.Header.Set("Cookie", s.StateCookie()+"=planted")
		}
		w := httptest.NewRecorder()
		s.ShowState(w, r, sid)
		if c := setCookies(w)[s.StateCookie()]; c == nil || c.Value != shown(sid) {
			t.Errorf("a cookie that is %s becomes %v", name, c)
		}
	}
	out := httptest.NewRecorder()
	if err := s.End(t.Context(), out, visit(in)); err != nil {
		t.Fatal(err)
	}
	if c := setCookies(out)[s.StateCookie()]; c == nil || c.MaxAge >= 0 {
		t.Errorf("after the session the cookie is %v", c)
	}
	nobody := httptest.NewRecorder()
	s.ShowState(nobody, visit(), "")
	if len(nobody.Header()) != 0 {
		t.Errorf("a browser that has no cookie is told to delete it: %v", nobody.Header())
	}
}

func TestWithoutSessionManagementThereIsNoStateCookie(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	w := httptest.NewRecorder()
	sid, err := s.Start(t.Context(), w, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	s.ShowState(w, visit(), sid)
	if n := len(w.Result().Cookies()); n != 1 || s.StateCookie() != "" {
		t.Errorf("%d cookies, and the name %q", n, s.StateCookie())
	}
}

// A sid outlives the session it began with where its owner signs in again; another's session never has it.
func TestTheSIDIsPassedOnByWhoeverStartsTheSession(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		s := newStore(t, clock, backend, nil)
		first := httptest.NewRecorder()
		sid, err := s.Start(t.Context(), first, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Minute)
		second := httptest.NewRecorder()
		again, err := s.Start(t.Context(), second, visit(first), sessions.Session{AccountID: "ann", AuthTime: clock.Now(), SID: sid})
		if err != nil {
			t.Fatal(err)
		}
		session, err := s.Current(visit(second))
		if err != nil || session == nil {
			t.Fatal(session, err)
		}
		if again != sid || session.SID != sid || session.ID == sid {
			t.Errorf("the session %s has the sid %s, want %s", session.ID, session.SID, sid)
		}
		if old, err := s.Current(visit(first)); err != nil || old != nil {
			t.Errorf("the session before is alive: %v %v", old, err)
		}
	})
}

// Through gorilla's API nobody passes a sid on: content of another account under the old session is another session.
func TestGorillaSavingAnotherAccountGivesANewSID(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	w := httptest.NewRecorder()
	sid, err := s.Start(t.Context(), w, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r := visit(w)
	session := get(t, s, r)
	sessions.Content(session).AccountID = "bob"
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if now := sessions.Content(session).SID; now == sid || now == "" {
		t.Errorf("bob's session has the sid %q, ann's was %q", now, sid)
	}
}

// FuzzStateCookie: whatever a stranger sends as a Cookie header, the cookie ends up right, and what was sent is in no response.
func FuzzStateCookie(f *testing.F) {
	clock := newClock()
	s, err := sessions.New(storetest.SQLite(f, clock.Now), sessions.Options{CookieKeys: keysA, Secure: true, Lifetime: lifetime, BrowserState: shown, Now: clock.Now})
	if err != nil {
		f.Fatal(err)
	}
	name := s.StateCookie()
	for _, seed := range []string{"", "=", name, name + "=", name + "=state-of-s", name + "=state-of-s; " + name + "=x", name + "=\"state-of-s\"", "a=b;" + name + "=x\r\n", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{header}
		w := httptest.NewRecorder()
		s.ShowState(w, r, "S")
		lines := w.Header()["Set-Cookie"]
		if len(lines) > 1 || len(lines) == 1 && !strings.HasPrefix(lines[0], name+"="+shown("S")+"; ") {
			t.Errorf("%q: %q", header, lines)
		}
		if len(lines) == 0 && !strings.Contains(header, shown("S")) {
			t.Errorf("%q: the cookie is missing and not set", header)
		}
		s.ShowState(w, r, "")
		if lines := w.Header()["Set-Cookie"]; len(lines) > 1 {
			t.Errorf("%q: %q", header, lines)
		}
	})
}
