package flow

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Some authorization requests may be answered with one code only: those that were pushed (RFC 9126 section 7.3) and request
// objects that name themselves with a jti (RFC 7519 section 4.1.7).
//
// What counts as use is the answer, not the look: the request is used when a flow of it ends with a code. Until then any
// browser may open it, each in a flow of its own, whose id derives from the request and the browser: a person who reloads
// or comes back finds their flow as they left it, and a link preview or a scanner that opened the address first takes
// nothing from them. Of flows that end at once, one has the code.

// Pushed is an authorization request that a client left here before the browser comes (RFC 9126).
type Pushed struct {
	ClientID string `json:"client_id"`
	// Params are the request's parameters, form-encoded, without what authenticated the client.
	Params string `json:"params"`
	// Signed says that they came in a request object that the client signed.
	Signed bool `json:"signed,omitempty"`
	// Until is when the request can no longer be begun. The document lives as long as a flow of it can, so that a person
	// who comes back finds theirs, and the app of one who comes late is told.
	Until time.Time `json:"until"`
}

// PushedDoc is a stored pushed request.
type PushedDoc = store.Doc[Pushed]

// use is a request that was answered. Its id is the request's name.
type use struct {
	Flow string `json:"flow"`
}

// ErrUsed says that another flow of the same request has ended with a code.
var ErrUsed = errors.New("the authorization request was used before")

// Push keeps a request until the browser comes with its id, which is random.
func (s *Flows) Push(ctx context.Context, p Pushed) (id string, err error) {
	doc := &PushedDoc{Meta: store.Meta{ID: s.newID(), Expires: p.Until.Add(s.lifetime)}, Value: p}
	return doc.ID, s.pushed.Insert(ctx, doc)
}

// Pushed reads a pushed request. store.ErrNotFound if there is none.
func (s *Flows) Pushed(ctx context.Context, id string) (*PushedDoc, error) {
	return s.pushed.Get(ctx, id)
}

// UsedBy is the flow that has used up the request of this name, or "" if none has.
func (s *Flows) UsedBy(ctx context.Context, name string) (flowID string, err error) {
	doc, err := s.uses.Get(ctx, onceID(name))
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return doc.Value.Flow, nil
}

// Use uses the request up for a flow that is about to have its code. The same flow may use it again, since a person may
// press a button twice; of different flows one insert wins, and the others get ErrUsed.
func (s *Flows) Use(ctx context.Context, flowID string, once *Once) error {
	last := s.now() // a flow that ends now
	if once.Until.After(last) {
		last = once.Until // one that is yet to begin
	}
	doc := &store.Doc[use]{
		Meta:  store.Meta{ID: onceID(once.Name), Expires: last.Add(s.lifetime)},
		Value: use{Flow: flowID},
	}
	err := s.uses.Insert(ctx, doc)
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	winner, err := s.UsedBy(ctx, once.Name)
	if err != nil {
		return err
	}
	if winner != flowID {
		return fmt.Errorf("%w, by flow %s", ErrUsed, winner)
	}
	return nil
}

// onceID is a request's name as a document's id. A digest, because a client chooses its jti.
func onceID(name string) string { return digest("use", name) }

// onceFlowID is the id of a browser's one flow of a request.
func onceFlowID(name, browser string) string { return digest("flow", name, browser) }

// digest names parts by a hash, each preceded by its length so that no two lists share one.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
