// Package audit records what happened to accounts, grants, clients and apis, for whoever has to find out later: as a document each,
// and as a line in the log.
//
// Everything that changes who may do what calls it. An event names ids and reasons, never a secret, a token or an address. Recording
// never fails the thing recorded.
package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	AccountCreated Kind = "account.created"
	IdentityLinked Kind = "identity.linked"

	AccountDisabled Kind = "account.disabled"
	AccountEnabled  Kind = "account.enabled"
	AccountRemoved  Kind = "account.removed"
	PasswordSet     Kind = "account.password_set"

	SigninRefused  Kind = "signin.refused"
	GrantRevoked   Kind = "grant.revoked"
	DeviceApproved Kind = "device.approved"
	DeviceDenied   Kind = "device.denied"
	ClientAdded    Kind = "client.added"
	ClientChanged  Kind = "client.changed"
	ClientRemoved  Kind = "client.removed"
	SecretRotated  Kind = "client.secret_rotated"
	APIAdded       Kind = "api.added"
	APIChanged     Kind = "api.changed"
	APIRemoved     Kind = "api.removed"
	// LogoutUndelivered: a client did not take the news that a session ended, and may still know the person as signed in.
	LogoutUndelivered Kind = "logout.undelivered"
)

// Event is one thing that happened. Fields that do not apply are empty.
type Event struct {
	Kind      Kind      `json:"kind"`
	AccountID string    `json:"account_id,omitempty"`
	ClientID  string    `json:"client_id,omitempty"`
	API       string    `json:"api,omitempty"` // its identifier
	Connector string    `json:"connector,omitempty"`
	GrantID   string    `json:"grant_id,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	RequestID string    `json:"request_id,omitempty"` // finds the lines in the log
	At        time.Time `json:"at"`
}

const (
	// retention is how long events are kept: a quarter, within which most incidents come to light.
	retention = 90 * 24 * time.Hour
	// maxReason bounds the reason, which may quote what a provider said.
	maxReason = 500
)

// Options are what a Recorder needs of the process.
type Options struct {
	Now func() time.Time
	Log *slog.Logger
	// RequestID is the id of the request that a context belongs to, or "". Nil: events carry none.
	RequestID func(ctx context.Context) string
}

// Recorder records events. It may be used concurrently.
type Recorder struct {
	docs store.Collection[Event]
	o    Options
}

// New records events in b.
func New(b store.Backend, o Options) *Recorder {
	return &Recorder{docs: store.NewCollection[Event](b, "events"), o: o}
}

// Record records an event; e.At and e.RequestID are set here. An event that cannot be stored is in the log all the same.
func (r *Recorder) Record(ctx context.Context, e Event) {
	e.At = r.o.Now()
	if r.o.RequestID != nil {
		e.RequestID = r.o.RequestID(ctx)
	}
	if len(e.Reason) > maxReason {
		e.Reason = strings.ToValidUTF8(e.Reason[:maxReason], "")
	}
	r.o.Log.LogAttrs(ctx, slog.LevelInfo, "event",
		slog.String("kind", string(e.Kind)), slog.String("account_id", e.AccountID), slog.String("client_id", e.ClientID), slog.String("api", e.API),
		slog.String("connector", e.Connector), slog.String("grant_id", e.GrantID), slog.String("reason", e.Reason))
	owner := cmp.Or(e.AccountID, e.ClientID, e.API)
	doc := &store.Doc[Event]{
		Meta:  store.Meta{ID: strings.ToLower(rand.Text()), Owner: ownerKey(owner), Expires: e.At.Add(retention)},
		Value: e,
	}
	// What happened has happened, even if whoever asked for it has gone away since.
	if err := r.docs.Insert(context.WithoutCancel(ctx), doc); err != nil {
		r.o.Log.ErrorContext(ctx, "an event cannot be stored", slog.String("kind", string(e.Kind)), slog.Any("cause", err))
	}
}

// Of lists the events of an account, or of a client where no account was involved, or of an api, in no particular order.
func (r *Recorder) Of(ctx context.Context, owner, after string) ([]*store.Doc[Event], error) {
	return r.docs.List(ctx, store.Query{Owner: ownerKey(owner), After: after})
}

// ownerKey is an owner as the store takes it: the id of a client may be a URL. "" is nobody in particular.
func ownerKey(owner string) string {
	if owner == "" {
		return ""
	}
	return store.Key(owner)
}
