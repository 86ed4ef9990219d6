package logout

import (
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

// Delivery is one logout token on its way to one client.
type Delivery struct {
	ClientID  string `json:"client_id"`
	AccountID string `json:"account_id"`
	// SID is the session that ended; empty: all of the account's.
	SID string `json:"sid,omitempty"`
	// Host is where the client's URI led when the session ended. Deliveries to one host share its turns.
	Host      string    `json:"host"`
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
	fresh   chan handle
}

// handle is what the courier has to know of a delivery to queue it.
type handle struct{ id, host string }

// NewOutbox keeps deliveries in b. It does no IO.
func NewOutbox(b store.Backend, clients *registry.Clients, grants *grant.Grants, now func() time.Time) *Outbox {
	return &Outbox{
		docs: store.NewCollection[Delivery](b, collection), clients: clients, grants: grants, now: now,
		fresh: make(chan handle, maxFresh),
	}
}

// SessionEnded does what the end of a browser session means to apps: it writes a delivery for each client that signed the person in
// with it and wants to hear of its end, and revokes the grants that hung on it. It returns all clients that signed in
// with it, in the order of their ids, for whoever can reach them through the browser.
//
// Called again or at the same time it writes no delivery twice. Call it before the session is deleted: what fails half way can then
// be done again.
func (o *Outbox) SessionEnded(ctx context.Context, accountID, sid string) ([]*registry.Client, error) {
	grants, err := o.grants.OfSession(ctx, accountID, sid)
	if err != nil {
		return nil, fmt.Errorf("end session: %w", err)
	}
	clients, err := o.signedIn(ctx, grants)
	if err != nil {
		return nil, fmt.Errorf("end session: %w", err)
	}
	for _, client := range clients {
		// The id is the session's and the client's, so that a sign-out pressed twice tells nobody twice.
		if err := o.add(ctx, sessionEventID(sid, client.ID), client, accountID, sid); err != nil {
			return nil, fmt.Errorf("end session: %w", err)
		}
	}
	if err := o.grants.EndSession(ctx, grants); err != nil {
		return nil, fmt.Errorf("end session: %w", err)
	}
	return clients, nil
}

// AccountEnded writes deliveries to every client that may know the account as signed in: it was disabled or removed. A client that
// asked for session ids (backchannel_logout_session_required) is told each session of the account's that it knows, the
// others that all have ended. It revokes nothing and ends no session of the broker's: that is the caller's to do, afterwards.
func (o *Outbox) AccountEnded(ctx context.Context, accountID string) error {
	sessions, clients := map[string]map[string]bool{}, map[string]*registry.Client{}
	for after := ""; ; {
		page, err := o.grants.ByAccount(ctx, accountID, after)
		if err != nil {
			return fmt.Errorf("end account: %w", err)
		}
		found, err := o.signedIn(ctx, page)
		if err != nil {
			return fmt.Errorf("end account: %w", err)
		}
		for _, client := range found {
			clients[client.ID] = client
		}
		for _, doc := range page {
			if g := &doc.Value; o.now().Before(g.KeepUntil) { // else the session is over
				if sessions[g.ClientID] == nil {
					sessions[g.ClientID] = map[string]bool{}
				}
				sessions[g.ClientID][g.SessionID] = true
			}
		}
		if len(page) < store.MaxPage {
			break
		}
		after = page[len(page)-1].ID
	}
	for id, client := range clients {
		sids := []string{""}
		if client.BackchannelLogoutSession {
			sids = slices.Sorted(maps.Keys(sessions[id]))
		}
		for _, sid := range sids {
			event := token.NewID() // an account may be disabled again: that is news again
			if sid != "" {
				event = sessionEventID(sid, id)
			}
			if err := o.add(ctx, event, client, accountID, sid); err != nil {
				return fmt.Errorf("end account: %w", err)
			}
		}
	}
	return nil
}

// signedIn are the clients of grants that signed the person in, each once, in the order of their ids. Those that are not registered any
// more are left out.
func (o *Outbox) signedIn(ctx context.Context, grants []*grant.Doc) ([]*registry.Client, error) {
	ids := map[string]bool{}
	for _, doc := range grants {
		if slices.Contains(doc.Value.Scopes, scopeOpenID) {
			ids[doc.Value.ClientID] = true
		}
	}
	var clients []*registry.Client
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		client, err := o.clients.Get(ctx, id)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// add writes one delivery, unless it is there, and wakes the courier. A client without a URI is none.
func (o *Outbox) add(ctx context.Context, id string, client *registry.Client, accountID, sid string) error {
	if client.BackchannelLogoutURI == "" {
		return nil
	}
	now := o.now()
	u, err := url.Parse(client.BackchannelLogoutURI)
	if err != nil {
		return fmt.Errorf("client %s: %w", client.ID, err) // the registry checked it
	}
	doc := &Doc{
		Meta:  store.Meta{ID: id, Expires: now.Add(memory)},
		Value: Delivery{ClientID: client.ID, AccountID: accountID, SID: sid, Host: u.Host, CreatedAt: now, Due: now},
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

// sessionEventID names the end of a session towards a client. Neither a sid nor a client's id holds a line break.
func sessionEventID(sid, clientID string) string {
	sum := sha256.Sum256([]byte(sid + "\n" + clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
