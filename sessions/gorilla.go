package sessions

import (
	"errors"
	"fmt"
	"net/http"

	gorilla "github.com/gorilla/sessions"

	"github.com/portico-id/portico/broker/store"
)

// ValuesKey is the type of Key, so that no other key equals it.
type ValuesKey string

// Key is the one key of a gorilla session's Values that this store keeps; the value under it is a *Session.
const Key ValuesKey = "session"

var _ gorilla.Store = (*Store)(nil)

var (
	errName    = errors.New("the store keeps one session per browser, under its own cookie name")
	errContent = errors.New("the store keeps a *Session under Key and nothing else")
)

// Name is the name of the session cookie, which is the name to call Get and New with.
func (s *Store) Name() string { return s.sessionCookie }

// Content is what a gorilla session of this store holds, or nil.
func Content(session *gorilla.Session) *Session {
	content, _ := session.Values[Key].(*Session)
	return content
}

// Get is New, once per request: further calls with the same request return the same session. As gorilla's
// registry demands, it is not for concurrent use with one request.
func (s *Store) Get(r *http.Request, name string) (*gorilla.Session, error) {
	return gorilla.GetRegistry(r).Get(s, name)
}

// New is the request's session, with its content under Key, or a new one (IsNew, no content). It never returns a nil
// session. An error says that name is not Name() or that the store did not answer; a forged
// or ended cookie is no error, as strangers must not be able to cause error pages.
func (s *Store) New(r *http.Request, name string) (*gorilla.Session, error) {
	session := gorilla.NewSession(s, name)
	session.IsNew = true
	session.Options = &gorilla.Options{
		Path:     "/",
		MaxAge:   int(s.lifetime.Seconds()),
		Secure:   s.secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if name != s.sessionCookie {
		return session, fmt.Errorf("session %q: %w", name, errName)
	}
	current, err := s.Current(r)
	if err != nil || current == nil {
		return session, err
	}
	session.ID = current.ID
	session.IsNew = false
	session.Values[Key] = current
	return session, nil
}

// Save writes session down.
//
// A new session with content is started, as by Start; so is one whose content has another account or
// authentication time than what is stored, because that is a sign-in, and gets a new id. A session
// whose content was removed, or whose Options.MaxAge is negative, is ended. A new session
// without content is nothing to save. Any other is updated in place: Connector, ACR and AMR; the
// cookie stays. ErrEnded if it has ended meanwhile: saving never brings a session back. Of Options nothing
// but the sign of MaxAge counts: the cookie follows the store's policy.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	if session.Name() != s.sessionCookie {
		return fmt.Errorf("save session %q: %w", session.Name(), errName)
	}
	content := Content(session)
	if kept := len(session.Values); kept > 1 || kept == 1 && content == nil {
		return fmt.Errorf("save session: %w", errContent)
	}
	ctx := r.Context()
	switch {
	case session.Options != nil && session.Options.MaxAge < 0, content == nil && !session.IsNew:
		if err := s.delete(ctx, session.ID); err != nil {
			return fmt.Errorf("save session: %w", err)
		}
		if err := s.End(ctx, w, r); err != nil {
			return err
		}
		session.ID, session.IsNew = "", true
		return nil
	case content == nil:
		return nil
	case session.IsNew:
		return s.startGorilla(w, r, session, *content)
	}

	doc, err := s.sessions.Change(ctx, session.ID, func(doc *store.Doc[Session]) error {
		stored := &doc.Value
		if !s.clock().Before(s.expires(stored)) {
			return ErrEnded
		}
		if stored.AccountID != content.AccountID {
			content.SID = "" // another person's session is another session
			return errSignIn
		}
		if !stored.AuthTime.Equal(milli(content.AuthTime)) {
			return errSignIn
		}
		stored.Connector, stored.ACR, stored.AMR = content.Connector, content.ACR, content.AMR
		return nil
	})
	switch {
	case errors.Is(err, errSignIn):
		return s.startGorilla(w, r, session, *content)
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("save session: %w", ErrEnded)
	case err != nil:
		return fmt.Errorf("save session: %w", err)
	}
	saved := doc.Value
	saved.ID, saved.SID = doc.ID, content.SID
	session.Values[Key] = &saved
	return nil
}

// errSignIn leaves an update in place: what is to be saved is another sign-in.
var errSignIn = errors.New("another sign-in")

// startGorilla is Start for a gorilla session.
func (s *Store) startGorilla(w http.ResponseWriter, r *http.Request, session *gorilla.Session, content Session) error {
	old := session.ID
	started, err := s.start(r.Context(), w, r, content)
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	if err := s.delete(r.Context(), old); err != nil {
		return fmt.Errorf("save session: end the one before: %w", err)
	}
	session.ID, session.IsNew = started.ID, false
	session.Values[Key] = started
	return nil
}
