package sessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/portico-id/portico/broker/store"
)

const (
	// collection holds the session documents; a document's owner is its account.
	collection = "sessions"
	// touchEvery is how often a session's use is written down, so that looking at a session is a read
	// and nothing else nearly always.
	touchEvery = 5 * time.Minute
	// touchFraction keeps touchEvery to a tenth of a short idle lifetime, so that a session
	// in steady use never ends as idle.
	touchFraction = 10
)

// Session is one browser signed in at the broker.
type Session struct {
	// ID names the session's document. It opens nothing, as the cookie that does is under the broker's keys.
	// Set by the store.
	ID string `json:"-"`
	// SID names the session to apps: the sid of ID tokens and logout tokens (OpenID Connect Front-Channel Logout section 3).
	// Where one account signs in again in the same browser, whoever calls Start passes on the sid of the session before, so
	// that an app that knows that one is told when the person signs out. Where it is empty it is ID.
	SID string `json:"sid,omitempty"`
	// AccountID is the account that is signed in; never empty.
	AccountID string `json:"account_id"`
	// Connector names the provider that the person signed in with.
	Connector string `json:"connector"`
	// AuthTime is when the person proved who they are, the auth_time of ID tokens, to the millisecond.
	AuthTime time.Time `json:"auth_time"`
	// ACR is the authentication context class (OpenID Connect Core section 2), or empty.
	ACR string `json:"acr,omitempty"`
	// AMR are the authentication methods (RFC 8176), or none.
	AMR []string `json:"amr,omitempty"`
	// CreatedAt is when the session began, from which Options.Lifetime counts. Set by the store.
	CreatedAt time.Time `json:"created_at"`
	// LastSeen is about when the session was last used, a few minutes early at most, from which
	// Options.IdleLifetime counts. Set by the store.
	LastSeen time.Time `json:"last_seen"`
}

// Options is what a Store is made of.
type Options struct {
	// CookieKeys are pairs of keys, a hash key (at least 32 bytes, HMAC-SHA-256) and a block key (16, 24 or
	// 32 bytes, AES). The first pair writes cookies, all read them, so keys can be rotated.
	CookieKeys [][]byte
	// Secure says that the issuer is https. False is for a plain-http issuer on loopback alone: cookies then go
	// without Secure and HostPrefix.
	Secure bool
	// Lifetime ends a session this long after it began, however much it is used. Required.
	Lifetime time.Duration
	// IdleLifetime ends a session this long after it was last used, up to a tenth (at most a few
	// minutes) earlier. 0 means that sessions do not end by idling.
	IdleLifetime time.Duration
	// BrowserState, if not nil, switches on the browser-state cookie (OpenID Connect Session Management section 3.2) and makes
	// its value of a session's SID: unguessable, of characters that a cookie may hold, and no way back to the SID.
	BrowserState func(sid string) string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store keeps sessions and their cookies. It implements the Store interface of
// gorilla/sessions. Its methods may be called concurrently.
type Store struct {
	sessions      store.Collection[Session]
	codecs        []securecookie.Codec
	secure        bool
	sessionCookie string
	browserCookie string
	stateCookie   string
	browserState  func(sid string) string // nil: no browser-state cookie
	lifetime      time.Duration
	idle          time.Duration
	now           func() time.Time
}

// ErrEnded says that a session ended since it was read, so that it cannot be saved.
var ErrEnded = errors.New("the session has ended")

// New makes a Store over backend. It does no IO. It refuses keys of the wrong number or length and lifetimes that
// make no sense.
func New(backend store.Backend, o Options) (*Store, error) {
	all, err := codecs(o.CookieKeys)
	if err != nil {
		return nil, err
	}
	if o.Lifetime <= 0 {
		return nil, errors.New("the session lifetime must be positive")
	}
	if o.IdleLifetime < 0 {
		return nil, errors.New("the session idle lifetime must not be negative")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		sessions:      store.NewCollection[Session](backend, collection),
		codecs:        all,
		secure:        o.Secure,
		sessionCookie: cookieName(SessionCookie, o.Secure),
		browserCookie: cookieName(BrowserCookie, o.Secure),
		stateCookie:   cookieName(StateCookie, o.Secure),
		browserState:  o.BrowserState,
		lifetime:      o.Lifetime,
		idle:          o.IdleLifetime,
		now:           o.Now,
	}, nil
}

// Current is the session of the request's browser; nil without an error when there is none: no cookie, a forged
// one, a session that has ended. A request without a valid cookie costs no read, any other
// one read by id, and once in a few minutes of use a write. An error says that the store did not answer.
func (s *Store) Current(r *http.Request) (*Session, error) {
	id := s.decodeID(r)
	if id == "" {
		return nil, nil
	}
	ctx := r.Context()
	doc, err := s.sessions.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("current session: %w", err)
	}
	now := s.clock()
	if !now.Before(s.expires(&doc.Value)) {
		return nil, nil
	}
	if now.Sub(doc.Value.LastSeen) >= s.touchInterval() {
		doc.Value.LastSeen = now
		doc.Expires = s.expires(&doc.Value)
		// A conflict means that another request wrote the same, or ended the session after this one had
		// begun. Either way this request goes on, and nothing ended comes to life again.
		if err := s.sessions.Replace(ctx, doc); err != nil && !errors.Is(err, store.ErrConflict) {
			return nil, fmt.Errorf("current session: %w", err)
		}
	}
	session := doc.Value
	session.ID = id
	if session.SID == "" {
		session.SID = id
	}
	return &session, nil
}

// Start signs the browser in: it ends the browser's session, if it has one, begins session under a new id, sets the
// cookies, and returns the session's SID. The id is never one that the browser brought along, so
// that nobody can prepare a session for somebody else to sign in to (session fixation).
// Session.AccountID and AuthTime are required; ID, CreatedAt and LastSeen are set here, and SID where it is empty. It must
// be called before the response is written.
func (s *Store) Start(ctx context.Context, w http.ResponseWriter, r *http.Request, session Session) (sid string, err error) {
	started, err := s.start(ctx, w, r, session)
	if err != nil {
		return "", fmt.Errorf("start session: %w", err)
	}
	return started.SID, nil
}

func (s *Store) start(ctx context.Context, w http.ResponseWriter, r *http.Request, session Session) (*Session, error) {
	if session.AccountID == "" {
		return nil, errors.New("no account")
	}
	if session.AuthTime.IsZero() {
		return nil, errors.New("no authentication time")
	}
	id := newRandom()
	cookie, err := s.encodeID(id)
	if err != nil {
		return nil, err
	}
	if err := s.delete(ctx, s.decodeID(r)); err != nil {
		return nil, fmt.Errorf("end the one before: %w", err)
	}
	session.ID = ""
	session.AuthTime = milli(session.AuthTime)
	session.CreatedAt = s.clock()
	session.LastSeen = session.CreatedAt
	doc := &store.Doc[Session]{
		Meta:  store.Meta{ID: id, Owner: session.AccountID, Expires: s.expires(&session)},
		Value: session,
	}
	if err := s.sessions.Insert(ctx, doc); err != nil {
		return nil, err
	}
	session.ID = id
	if session.SID == "" {
		session.SID = id
	}
	s.setCookie(w, s.sessionCookie, cookie, s.lifetime)
	s.ShowState(w, r, session.SID)
	return &session, nil
}

// End signs the browser out: it deletes the session's document and the cookies. Ending no session is no error. On an error
// the cookies are deleted all the same. It must be called before the response is written.
func (s *Store) End(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	s.setCookie(w, s.sessionCookie, "", -1)
	s.ShowState(w, r, "")
	if err := s.delete(ctx, s.decodeID(r)); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndAll signs the account out everywhere: all sessions that were there when it was called are gone when it
// returns without an error. Their cookies are worthless from then on.
func (s *Store) EndAll(ctx context.Context, accountID string) error {
	if accountID == "" {
		// The store would list the sessions of everybody.
		return errors.New("end all sessions: no account")
	}
	query := store.Query{Owner: accountID}
	for {
		page, err := s.sessions.List(ctx, query)
		if err != nil {
			return fmt.Errorf("end all sessions: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, doc := range page {
			if err := s.delete(ctx, doc.ID); err != nil {
				return fmt.Errorf("end all sessions: %w", err)
			}
		}
		query.After = page[len(page)-1].ID
	}
}

// delete removes the document with this id; none is no error, and an empty id is none.
func (s *Store) delete(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	if err := s.sessions.Delete(ctx, id, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// expires is when session ends if it is not used again.
func (s *Store) expires(session *Session) time.Time {
	end := session.CreatedAt.Add(s.lifetime)
	if s.idle > 0 {
		if idle := session.LastSeen.Add(s.idle); idle.Before(end) {
			end = idle
		}
	}
	return end
}

// touchInterval is how old LastSeen becomes before it is written anew.
func (s *Store) touchInterval() time.Duration {
	if s.idle > 0 {
		return min(touchEvery, s.idle/touchFraction)
	}
	return touchEvery
}

// clock is the time as the store keeps it.
func (s *Store) clock() time.Time { return milli(s.now()) }

func milli(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
