package sessions_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	gorilla "github.com/gorilla/sessions"

	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/sessions"
)

// visit makes a request with the cookies that the responses before it set.
func visit(responses ...*httptest.ResponseRecorder) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	set := make(map[string]*http.Cookie)
	for _, w := range responses {
		for _, c := range w.Result().Cookies() {
			set[c.Name] = c
		}
	}
	for _, c := range set {
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	return r
}

func get(t *testing.T, s gorilla.Store, r *http.Request) *gorilla.Session {
	t.Helper()
	session, err := s.Get(r, secureName)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// What gorilla/sessions promises of every store: a new session is new, what is saved comes back, Get registers it for the
// request, a negative MaxAge deletes it, and no error comes with a nil session.
func TestGorillaStoreConformity(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		var s gorilla.Store = newStore(t, clock, backend, nil)

		r := visit()
		session := get(t, s, r)
		if !session.IsNew || len(session.Values) != 0 || session.Store() != s || session.Name() != secureName {
			t.Fatalf("new session: %+v", session)
		}
		if session != get(t, s, r) {
			t.Error("Get did not register the session for the request")
		}
		session.Values[sessions.Key] = &sessions.Session{AccountID: "ann", AuthTime: clock.Now(), Connector: "google"}
		first := httptest.NewRecorder()
		if err := session.Save(r, first); err != nil {
			t.Fatal(err)
		}
		if session.IsNew || session.ID == "" {
			t.Errorf("saved session: %+v", session)
		}

		r = visit(first)
		session = get(t, s, r)
		content := sessions.Content(session)
		if session.IsNew || content == nil || content.AccountID != "ann" || content.ID != session.ID {
			t.Fatalf("read back: %+v, %+v", session, content)
		}
		content.Connector = "github"
		second := httptest.NewRecorder()
		if err := gorilla.Save(r, second); err != nil { // all sessions of the request
			t.Fatal(err)
		}
		session = get(t, s, visit(first, second))
		if got := sessions.Content(session); got == nil || got.Connector != "github" {
			t.Errorf("after an update: %+v", got)
		}

		session.Options.MaxAge = -1
		last := httptest.NewRecorder()
		if err := session.Save(visit(first), last); err != nil {
			t.Fatal(err)
		}
		if c := last.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
			t.Errorf("ending sets %v", c)
		}
		if got := get(t, s, visit(first)); !got.IsNew {
			t.Error("the ended session's cookie still works")
		}
	})
}

func TestGorillaForgedCookieIsANewSession(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	r := visit()
	r.AddCookie(&http.Cookie{Name: secureName, Value: "forged"})
	if session := get(t, s, r); !session.IsNew {
		t.Error("a forged cookie was taken")
	}
}

// Session fixation through gorilla's API: content of another sign-in under the old id.
func TestGorillaSavingAnotherSignInGivesANewID(t *testing.T) {
	for name, change := range map[string]func(*sessions.Session){
		"another account": func(s *sessions.Session) { s.AccountID = "ann" },
		"signed in again": func(s *sessions.Session) { s.AuthTime = s.AuthTime.Add(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
			first := httptest.NewRecorder()
			id, err := s.Start(t.Context(), first, visit(), sessions.Session{AccountID: "mallory", AuthTime: clock.Now()})
			if err != nil {
				t.Fatal(err)
			}
			r := visit(first)
			session := get(t, s, r)
			change(sessions.Content(session))
			if err := session.Save(r, httptest.NewRecorder()); err != nil {
				t.Fatal(err)
			}
			if session.ID == id || sessions.Content(session).ID != session.ID {
				t.Error("the id was kept")
			}
			if got := get(t, s, visit(first)); !got.IsNew {
				t.Error("the session before still works")
			}
		})
	}
}

// A request that began before a sign-out and saves after it must not bring the session back.
func TestGorillaSavingNeverBringsASessionBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, clock *clock, backend *counted) {
		s := newStore(t, clock, backend, nil)
		first := httptest.NewRecorder()
		if _, err := s.Start(t.Context(), first, visit(), sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); err != nil {
			t.Fatal(err)
		}
		r := visit(first)
		session := get(t, s, r)
		if err := s.EndAll(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		if err := session.Save(r, httptest.NewRecorder()); !errors.Is(err, sessions.ErrEnded) {
			t.Errorf("saved: %v", err)
		}
		if got := get(t, s, visit(first)); !got.IsNew {
			t.Error("the session came back")
		}
	})
}

func TestGorillaRefusesWhatItWouldLose(t *testing.T) {
	clock := newClock()
	s := newStore(t, clock, storetest.SQLite(t, clock.Now), nil)
	other, err := s.New(visit(), "other")
	if err == nil || other == nil {
		t.Errorf("another name: %v, %v; want an error and a session that is not nil", other, err)
	}
	if err := other.Save(visit(), httptest.NewRecorder()); err == nil {
		t.Error("another name was saved")
	}
	for name, values := range map[string]map[any]any{
		"another key":       {"theme": "dark"},
		"a flash beside it": {sessions.Key: &sessions.Session{AccountID: "ann", AuthTime: clock.Now()}, "_flash": "hi"},
		"another type":      {sessions.Key: "ann"},
		"a nil session":     {sessions.Key: (*sessions.Session)(nil)},
	} {
		session := get(t, s, visit())
		session.Values = values
		w := httptest.NewRecorder()
		if err := session.Save(visit(), w); err == nil || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: saved", name)
		}
	}
	// Nothing to save is no error, and leaves no trace.
	w := httptest.NewRecorder()
	if err := get(t, s, visit()).Save(visit(), w); err != nil || len(w.Result().Cookies()) != 0 {
		t.Errorf("an empty new session: %v, %v", err, w.Result().Cookies())
	}
}
