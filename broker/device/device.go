// Package device keeps device authorizations (RFC 8628): one document from a device's request for a code to the poll that fetches
// its tokens.
//
// broker/oauth starts them and is asked about them by the devices that poll; broker/signin finds them by the code that a person
// types, and answers them. What becomes of a poll is decided by [Authorization.Poll], a pure function. The package may
// not know how a person signs in, nor mint anything.
//
// A document's id is the digest of its user code, so that no two live ones share a code. The authorization's own id is
// random: the grant that comes of it has it. Both together are the handle, which a device code and a flow carry: a handle of
// a code that has expired never names the authorization that gets the same code after it.
package device

import (
	"context"
	"errors"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/store"
)

const (
	// slowDownBy is how much longer a device has to wait between polls after each that came too early (RFC 8628 section 3.5).
	slowDownBy = 5 * time.Second
	// maxInterval bounds how long that gets. The device lengthens its own interval too, so ours may only be shorter; and it bounds
	// what a device that does not listen can make the store write.
	maxInterval = time.Minute
	// leeway is how much too early a poll may come: requests do not all take equally long to arrive.
	leeway = 500 * time.Millisecond
	// lateness is how long after its answer an authorization can still be fetched, if that is past its own end: the
	// person who answered in the last moment was told that it is done, and the device asks once an interval.
	lateness = maxInterval
	// maxCodes bounds the search for a free user code. With a million of them in use, one in 25,600 tries meets a used one.
	maxCodes = 8
	// maxUserAgent bounds what is kept of a User-Agent header: what fits on two lines of a page.
	maxUserAgent = 120
)

// Answer is what the person said.
type Answer string

// The answers. None: nobody has answered yet.
const (
	None     Answer = ""
	Approved Answer = "approved"
	Denied   Answer = "denied"
)

// Origin is where a device's request came from, for the person to compare with what is in front of them.
type Origin struct {
	Address   string `json:"address,omitempty"` // IP address; "" if not known
	UserAgent string `json:"user_agent,omitempty"`
}

// Authorization is one request of a device.
type Authorization struct {
	ID        string       `json:"id"` // random; the id of the grant that may come of it
	Request   flow.Request `json:"request"`
	Origin    Origin       `json:"origin"`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt time.Time    `json:"expires_at"`

	// Interval is the least number of seconds between two polls.
	Interval int64 `json:"interval"`
	// PolledAt is when the device last asked and was not too early.
	PolledAt time.Time `json:"polled_at,omitzero"`

	Answer     Answer    `json:"answer,omitempty"`
	AnsweredAt time.Time `json:"answered_at,omitzero"`
	// AnsweredBy is the flow in which the person answered.
	AnsweredBy string       `json:"answered_by,omitempty"`
	SignIn     *flow.SignIn `json:"sign_in,omitempty"` // who approved
}

// Doc is a stored authorization.
type Doc = store.Doc[Authorization]

// Handle names the authorization of doc for good.
func Handle(doc *Doc) string { return doc.ID + doc.Value.ID }

// ID is the id of the authorization with this handle, and of the grant that may come of it.
func ID(handle string) string {
	_, id, _ := parseHandle(handle)
	return id
}

// Verdict is what a device that polls is told (RFC 8628 section 3.5).
type Verdict int

// The verdicts of Poll.
const (
	Pending  Verdict = iota // nobody has answered yet
	SlowDown                // the same, and the device asks too often
	Refused                 // the person said no
	Fetch                   // the person said yes: the device may have its tokens
	Expired                 // it is over
)

// Poll decides what a device that asks now is told, and notes what the next poll is judged by. changed says whether that has to be
// written.
//
// Of a device that keeps its interval every poll is written: without it no other node could tell that the next one is too early. That is
// one write an interval, whatever the device does, since a poll that is too early only lengthens the interval, eleven times
// at the most. A poll that meets an answer writes nothing here.
func (a *Authorization) Poll(now time.Time) (verdict Verdict, changed bool) {
	switch {
	case a.over(now):
		return Expired, false
	case a.Answer == Denied:
		return Refused, false
	case a.Answer == Approved:
		return Fetch, false
	case !a.PolledAt.IsZero() && now.Before(a.PolledAt.Add(a.interval()-leeway)):
		longer := min(a.interval()+slowDownBy, max(maxInterval, a.interval()))
		changed = longer != a.interval()
		a.Interval = int64(longer / time.Second)
		return SlowDown, changed
	}
	a.PolledAt = now
	return Pending, true
}

func (a *Authorization) interval() time.Duration { return time.Duration(a.Interval) * time.Second }

// over says whether nothing more comes of the authorization.
func (a *Authorization) over(now time.Time) bool {
	if a.Answer != None && now.Before(a.AnsweredAt.Add(lateness)) {
		return false
	}
	return !now.Before(a.ExpiresAt)
}

// Errors of this package.
var (
	// ErrExpired says that there is no such authorization any more.
	ErrExpired = errors.New("the device authorization has expired")
	// ErrOtherClient says that the device code was issued to another client.
	ErrOtherClient = errors.New("the device code was issued to another client")
	// ErrAnswered says that somebody answered before.
	ErrAnswered = errors.New("the device authorization was answered before")
)

// Options are what Authorizations are made with. All of it is required.
type Options struct {
	Lifetime    time.Duration // of a code
	Interval    time.Duration // between polls, in whole seconds
	Now         func() time.Time
	NewID       func() string // the random half of a handle
	NewUserCode func() string // NewUserCode but in tests
}

// Authorizations keeps device authorizations. Its methods may be called concurrently, on any number of nodes.
type Authorizations struct {
	docs store.Collection[Authorization]
	o    Options
}

// New keeps authorizations in b.
func New(b store.Backend, o Options) *Authorizations {
	return &Authorizations{docs: store.NewCollection[Authorization](b, "devices"), o: o}
}

// Start stores a new authorization under a user code that no other live one has.
func (s *Authorizations) Start(ctx context.Context, req flow.Request, origin Origin) (doc *Doc, userCode string, err error) {
	now := s.o.Now()
	if len(origin.UserAgent) > maxUserAgent {
		origin.UserAgent = origin.UserAgent[:maxUserAgent]
	}
	for range maxCodes {
		userCode = s.o.NewUserCode()
		doc = &Doc{
			Meta: store.Meta{ID: docID(userCode), Expires: now.Add(s.o.Lifetime)},
			Value: Authorization{
				ID: s.o.NewID(), Request: req, Origin: origin,
				CreatedAt: now, ExpiresAt: now.Add(s.o.Lifetime),
				Interval: int64(s.o.Interval / time.Second),
			},
		}
		if err = s.docs.Insert(ctx, doc); !errors.Is(err, store.ErrExists) {
			break
		}
	}
	if err != nil {
		return nil, "", err
	}
	return doc, userCode, nil
}

// Lifetime is how long a code lives.
func (s *Authorizations) Lifetime() time.Duration { return s.o.Lifetime }

// Interval is the least time between two polls, until a device is told to slow down.
func (s *Authorizations) Interval() time.Duration { return s.o.Interval }

// Find is the authorization that waits under a user code. ErrExpired if there is none, ErrAnswered if somebody answered.
func (s *Authorizations) Find(ctx context.Context, userCode string) (*Doc, error) {
	return s.waiting(s.docs.Get(ctx, docID(userCode)))
}

// Get is the authorization with this handle, waiting for an answer. ErrExpired and ErrAnswered as for Find.
func (s *Authorizations) Get(ctx context.Context, handle string) (*Doc, error) {
	return s.waiting(s.get(ctx, handle))
}

func (s *Authorizations) waiting(doc *Doc, err error) (*Doc, error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrExpired
	case err != nil:
		return nil, err
	case doc.Value.over(s.o.Now()):
		return nil, ErrExpired
	case doc.Value.Answer != None:
		return nil, ErrAnswered
	}
	return doc, nil
}

func (s *Authorizations) get(ctx context.Context, handle string) (*Doc, error) {
	key, id, ok := parseHandle(handle)
	if !ok {
		return nil, store.ErrNotFound
	}
	doc, err := s.docs.Get(ctx, key)
	if err == nil && doc.Value.ID != id {
		return nil, store.ErrNotFound
	}
	return doc, err
}

func parseHandle(handle string) (docID, id string, ok bool) {
	if len(handle) <= digestChars {
		return "", "", false
	}
	return handle[:digestChars], handle[digestChars:], true
}

// Poll judges a poll of the client, and writes what the next one is judged by. ErrExpired if the authorization is gone, and
// ErrOtherClient if it is not this client's: then nothing was written.
func (s *Authorizations) Poll(ctx context.Context, handle, clientID string) (*Doc, Verdict, error) {
	var doc *Doc
	var verdict Verdict
	err := s.change(ctx, handle, func(d *Doc) error {
		if d.Value.Request.ClientID != clientID {
			return ErrOtherClient
		}
		doc = d
		var changed bool
		if verdict, changed = d.Value.Poll(s.o.Now()); !changed {
			return errUnchanged
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, 0, err
	}
	return doc, verdict, nil
}

// Answer records what the person said in a flow; signIn is who said yes. Only one answer is taken: ErrAnswered for every other but the
// same one of the same flow, which a button pressed twice sends; first says that it was not that. ErrExpired if it is too late.
func (s *Authorizations) Answer(ctx context.Context, handle, flowID string, answer Answer, signIn *flow.SignIn) (first bool, err error) {
	err = s.change(ctx, handle, func(d *Doc) error {
		a, now := &d.Value, s.o.Now()
		switch {
		case a.Answer == answer && a.AnsweredBy == flowID:
			return errUnchanged
		case a.Answer != None:
			return ErrAnswered
		case a.over(now):
			return ErrExpired
		}
		a.Answer, a.AnsweredAt, a.AnsweredBy, a.SignIn = answer, now, flowID, signIn
		if late := now.Add(lateness); late.After(d.Expires) {
			d.Expires = late
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return err == nil, err
}

var errUnchanged = errors.New("nothing to change")

// change edits the document of a handle. ErrExpired if it is gone.
func (s *Authorizations) change(ctx context.Context, handle string, edit func(*Doc) error) error {
	key, id, ok := parseHandle(handle)
	if !ok {
		return ErrExpired
	}
	_, err := s.docs.Change(ctx, key, func(d *Doc) error {
		if d.Value.ID != id {
			return ErrExpired
		}
		return edit(d)
	})
	if errors.Is(err, store.ErrNotFound) {
		return ErrExpired
	}
	return err
}
