package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/sessions"
)

// FuzzCookie: whatever a stranger sends as a Cookie header, there is no panic, at most one read, and nobody is signed in who
// does not hold a cookie that was issued.
func FuzzCookie(f *testing.F) {
	clock := newClock()
	backend := &counted{Backend: storetest.SQLite(f, clock.Now)}
	s, err := sessions.New(backend, sessions.Options{CookieKeys: keysA, Secure: true, Lifetime: lifetime, Now: clock.Now})
	if err != nil {
		f.Fatal(err)
	}
	w := httptest.NewRecorder()
	id, err := s.Start(f.Context(), w, httptest.NewRequest(http.MethodGet, "/", nil), sessions.Session{AccountID: "ann", AuthTime: clock.Now()})
	if err != nil {
		f.Fatal(err)
	}
	issued := w.Result().Cookies()[0].Value
	browser := s.EnsureBrowser(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))

	// Issued values change with every run, so the corpus has a placeholder for them.
	for _, seed := range []string{
		"", "=", ";", ";;=;", "{name}=", "{name}={value}", "{name}=\"{value}\"", " {name} = {value} ", "{name}={value}; {name}={value}",
		"{name}={value}; {name}=", "a=b; {name}={value};", "{name}={id}", "{name}={browser}", "{browsername}={browser}",
		"{browsername}={browser}; {browsername}=", "{name}=MTc1fGFiY3xkZWY=", "\x00{name}={value}", "{name}={value}\r\n",
	} {
		f.Add(seed)
	}
	placeholders := strings.NewReplacer("{name}", secureName, "{value}", issued, "{id}", id, "{browser}", browser,
		"{browsername}", sessions.HostPrefix+sessions.BrowserCookie)
	f.Fuzz(func(t *testing.T, header string) {
		expanded := placeholders.Replace(header)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{expanded}
		before := backend.gets.Load()
		session, err := s.Current(r)
		if err != nil {
			t.Fatal(err)
		}
		if reads := backend.gets.Load() - before; reads > 1 || reads == 1 && session == nil {
			t.Errorf("%q: %d reads, session %v", header, reads, session)
		}
		if session != nil && !strings.Contains(header, "{value}") {
			t.Errorf("%q signed %q in", header, session.AccountID)
		}
		if v := s.Browser(r); v != "" && len(v) != len(browser) {
			t.Errorf("%q is browser %q", header, v)
		}
	})
}
