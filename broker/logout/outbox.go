package logout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/token"
)

// Delivery is one logout token on its way to one client; without a client, a second look at who has signed in with a session.
type Delivery struct {
	ClientID  string `json:"client_id,omitempty"`
	AccountID string `json:"account_id"`
	// SID is the session that ended; empty: all of the account's.
	SID string `json:"sid,omitempty"`
	// Host is where the client's URI led when the session ended. Deliveries to one host share its turns.
	Host      string    `json:"host,omitempty"`
	CreatedAt time.Time `json:"created_at"`

	// Attempts counts the times that it was taken to be sent.
	Attempts int `json:"attempts,omitempty"`
	// Due is when it may be taken next. While it is being sent, that is when others may think that the sender has died.
	Due time.Time `json:"due"`
	// DoneAt is when it was settled: delivered, refused or given up.
	DoneAt time.Time `json:"done_at,omitzero"`
}

// Doc is a stored delivery. Its id is the jti of its tokens.
type Doc = store.Doc[Delivery]

const (
	// collection holds the deliveries.
	collection = "logout_deliveries"
	// scopeOpenID is asked for by every client that has a session to end: the others have no ID token, so they know
	// neither the sub nor the sid.
	scopeOpenID = "openid"
	// maxFresh is how many deliveries can wait for the courier's first attempt. What is beyond it is found by its next look.
	maxFresh = 256
)

// Outbox is where deliveries are written. Its methods may be called concurrently, on any number of nodes.
type Outbox struct {
	docs    store.Collection[Delivery]
	clients *registry.Clients
	grants  *grant.Grants
	now     func() time.Time
	// lookAgain is how long after its end a session is looked at again.
	lookAgain time.Duration
	fresh     chan handle
}

// handle is what the courier has to know of a delivery to queue it.
type handle struct{ id, host string }

// NewOutbox keeps deliveries in b. codeLifetime is for how long a code can become a grant. It does no IO.
func NewOutbox(b store.Backend, clients *registry.Clients, grants *grant.Grants, codeLifetime time.Duration, now func() time.Time) *Outbox {
	return &Outbox{
		docs: store.NewCollection[Delivery](b, collection), clients: clients, grants: grants, now: now,
		lookAgain: codeLifetime + lookMargin, fresh: make(chan handle, maxFresh),
	}
}

// SessionEnded does what the end of a browser session means to apps: it writes a delivery for each client that signed the person in
// with it and wants to hear of its end, and revokes the grants that hung on it. It returns all clients that signed in
// with it, in the order of their ids, for whoever can reach them through the browser. A client whose code was still on
// its way is found when a courier looks again, when no code of the session is good any more.
//
// Called again or at the same time it writes no delivery twice. Call it before the session is deleted: what fails half way can then
// be done again.
func (o *Outbox) SessionEnded(ctx context.Context, accountID, sid string) ([]*registry.Client, error) {
	now := o.now()
	look := &Doc{
		Meta:  store.Meta{ID: eventID(sid, ""), Expires: now.Add(memory)},
		Value: Delivery{AccountID: accountID, SID: sid, CreatedAt: now, Due: now.Add(o.lookAgain)},
	}
	if err := o.docs.Insert(ctx, look); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, fmt.Errorf("end session: %w", err)
	}
	clients, err := o.endSession(ctx, accountID, sid)
	if err != nil {
		return nil, fmt.Errorf("end session: %w", err)
	}
	return clients, nil
}

func (o *Outbox) endSession(ctx context.Context, accountID, sid string) ([]*registry.Client, error) {
	grants, err := o.grants.OfSession(ctx, accountID, sid)
	if err != nil {
		return nil, err
	}
	var clients []*registry.Client
	newest := newestSignIns(grants)
	for _, k := range sorted(newest) {
		client, err := o.clients.Get(ctx, k.clientID)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			continue
		case errors.Is(err, registry.ErrUnavailable):
			err = o.addUnread(ctx, eventID(sid, newest[k].ID), k.clientID, accountID, sid)
		case err == nil:
			clients = append(clients, client)
			err = o.add(ctx, eventID(sid, newest[k].ID), client, accountID, sid)
		}
		if err != nil {
			return nil, err
		}
	}
	return clients, o.grants.EndSession(ctx, grants)
}

// AccountEnded writes deliveries to every client that may know the account as signed in: it was disabled or removed. A client that
// asked for session ids (backchannel_logout_session_required) is told each session of the account's that it knows, the
// others that all have ended. It revokes nothing and ends no session of the broker's: that is the caller's to do, afterwards.
func (o *Outbox) AccountEnded(ctx context.Context, accountID string) error {
	grants, err := o.grants.AllOf(ctx, accountID)
	if err != nil {
		return fmt.Errorf("end account: %w", err)
	}
	told := map[string]bool{} // those that are told of all sessions at once
	newest := newestSignIns(grants)
	for _, k := range sorted(newest) {
		client, err := o.clients.Get(ctx, k.clientID)
		switch {
		case errors.Is(err, registry.ErrNotFound), err == nil && told[client.ID]:
			continue
		case errors.Is(err, registry.ErrUnavailable):
			err = o.addUnread(ctx, eventID(k.sid, newest[k].ID), k.clientID, accountID, k.sid)
		case err != nil:
		case !client.BackchannelLogoutSession:
			told[client.ID] = true
			err = o.add(ctx, token.NewID(), client, accountID, "") // disabled again, it is news again
		case o.now().Before(newest[k].Value.KeepUntil): // else the session is over
			err = o.add(ctx, eventID(k.sid, newest[k].ID), client, accountID, k.sid)
		}
		if err != nil {
			return fmt.Errorf("end account: %w", err)
		}
	}
	return nil
}

// signIn names what a client knows as one sign-in.
type signIn struct{ clientID, sid string }

// newestSignIns is the newest grant of each sign-in. A later grant is news to a client that was told of the sign-in's end, and the
// same one again is not.
func newestSignIns(grants []*grant.Doc) map[signIn]*grant.Doc {
	newest := map[signIn]*grant.Doc{}
	for _, doc := range grants {
		g := &doc.Value
		if !slices.Contains(g.Scopes, scopeOpenID) {
			continue
		}
		k := signIn{g.ClientID, g.SessionID}
		if before := newest[k]; before == nil || g.CreatedAt.After(before.Value.CreatedAt) ||
			g.CreatedAt.Equal(before.Value.CreatedAt) && doc.ID > before.ID {
			newest[k] = doc
		}
	}
	return newest
}

// sorted are the sign-ins in the order of the clients' ids.
func sorted(of map[signIn]*grant.Doc) []signIn {
	return slices.SortedFunc(maps.Keys(of), func(a, b signIn) int {
		return cmp.Or(cmp.Compare(a.clientID, b.clientID), cmp.Compare(a.sid, b.sid))
	})
}

// add writes one delivery, unless it is there, and wakes the courier. A client without a URI is none.
func (o *Outbox) add(ctx context.Context, id string, client *registry.Client, accountID, sid string) error {
	if client.BackchannelLogoutURI == "" {
		return nil
	}
	return o.write(ctx, id, client.ID, client.BackchannelLogoutURI, accountID, sid)
}

// addUnread is add for a client that is known by the address of its metadata, which cannot be read now. Its server has no say in whether a
// session ends: where it is to be told, if at all, is found out when it is.
func (o *Outbox) addUnread(ctx context.Context, id, clientID, accountID, sid string) error {
	return o.write(ctx, id, clientID, clientID, accountID, sid)
}

// write writes a delivery that is for the host of uri to wait for.
func (o *Outbox) write(ctx context.Context, id, clientID, uri, accountID, sid string) error {
	now := o.now()
	u, err := url.Parse(uri)
	if err != nil {
		return fmt.Errorf("client %s: %w", clientID, err) // the registry checked it
	}
	doc := &Doc{
		Meta:  store.Meta{ID: id, Expires: now.Add(memory)},
		Value: Delivery{ClientID: clientID, AccountID: accountID, SID: sid, Host: u.Host, CreatedAt: now, Due: now},
	}
	if err := o.docs.Insert(ctx, doc); err != nil {
		if errors.Is(err, store.ErrExists) {
			return nil
		}
		return err
	}
	select {
	case o.fresh <- handle{id, u.Host}:
	default: // no courier here, or one with much to do: a look finds it
	}
	return nil
}

// eventID names the end of a session, as told to the client of a grant; without one, the second look at the session. So a sign-out
// that is pressed twice, or looked at twice, tells nobody twice. Neither a sid nor a grant's id holds a line break.
func eventID(sid, grantID string) string {
	sum := sha256.Sum256([]byte(sid + "\n" + grantID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
