package signin

import (
	"errors"
	"net/http"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/sessions"
)

// callback is where providers send the browser back to.
//
// The state is spent before the provider's code is: of two callbacks with one state, one goes on.
func (s *Service) callback(w http.ResponseWriter, r *http.Request) {
	connector, exists := s.byName[r.PathValue("connector")]
	if !exists {
		http.NotFound(w, r)
		return
	}
	name := connector.Info().Name
	query := r.URL.Query()
	flowID, tripID, ok := flow.ParseState(query.Get("state"))
	if !ok || len(query["state"]) != 1 {
		s.showError(w, r, nil, noStatePage)
		return
	}
	doc, client, page := s.open(r, flowID)
	if page != nil {
		s.showError(w, r, nil, *page)
		return
	}
	trip, err := doc.Value.EndTrip(tripID, name)
	if err == nil {
		err = s.o.Flows.Save(r.Context(), doc)
	}
	switch {
	case errors.Is(err, flow.ErrTripOver), errors.Is(err, store.ErrConflict):
		page := usedStatePage
		page.Cause = err
		s.showError(w, r, doc, page)
		return
	case err != nil:
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	profile, err := connector.Exchange(r.Context(), s.upstreamTrip(doc.ID, trip, &doc.Value.Request), query)
	if err == nil {
		err = checkFresh(trip, profile, name)
	}
	if err != nil {
		s.upstreamFailed(w, r, doc, client, err)
		return
	}
	if trip.Prove {
		s.proved(w, r, doc, client, name, profile)
		return
	}
	s.arrive(w, r, doc, client, name, profile)
}

// freshLeeway is how much earlier than the trip a provider may say that the person proved themselves, for
// clocks that differ.
const freshLeeway = time.Minute

// checkFresh holds a provider to it that was asked to make the person prove themselves again and says when that
// was: an old session there does not satisfy prompt=login or max_age here (OpenID Connect Core section 3.1.2.1).
func checkFresh(trip *flow.Trip, p *connectors.Profile, connector string) error {
	if trip.Reauthenticate && !p.AuthTime.IsZero() && p.AuthTime.Before(trip.StartedAt.Add(-freshLeeway)) {
		return &connectors.Error{
			Kind: connectors.Untrusted, Connector: connector,
			Err: errors.New("the provider was asked for a new sign-in and answered with an old one"),
		}
	}
	return nil
}

// arrive makes an account of an upstream profile.
func (s *Service) arrive(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, connector string, p *connectors.Profile) {
	resolution, err := s.o.Accounts.Resolve(r.Context(), connector, p)
	if err != nil {
		s.identityRefused(w, r, doc, client, connector, err)
		return
	}
	if resolution.Outcome == identity.AskToLink {
		s.askToLink(w, r, doc, connector, p, resolution.Candidates)
		return
	}
	s.startSession(w, r, doc, client, resolution.Account.ID, connector, s.authTime(p), p.AMR)
}

// authTime is when the person proved themselves: when the provider says, or now.
func (s *Service) authTime(p *connectors.Profile) time.Time {
	now := s.o.Now()
	if !p.AuthTime.IsZero() && p.AuthTime.Before(now) {
		return p.AuthTime
	}
	return now
}

// startSession signs the browser in and finishes the flow's sign-in.
func (s *Service) startSession(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, accountID, connector string, authTime time.Time, amr []string) {
	acr := s.o.ACR(amr)
	signIn := flow.SignIn{AccountID: accountID, Connector: connector, AuthTime: authTime, ACR: acr, AMR: amr}
	session := sessions.Session{AccountID: accountID, Connector: connector, AuthTime: authTime, ACR: acr, AMR: amr}
	err := s.succeed(r, &session)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	sid, err := s.o.Sessions.Start(r.Context(), w, r, session)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	signIn.SessionID = sid
	s.finishSignIn(w, r, doc, client, signIn)
}

// succeed looks at the session that a new one takes the place of. One of the same account goes on under its sid, so that the apps that
// signed in with it are told when the person signs out. One of another account ends, and its apps are told now. A browser
// without a session costs nothing here.
func (s *Service) succeed(r *http.Request, next *sessions.Session) error {
	before, err := s.o.Sessions.Current(r)
	switch {
	case err != nil || before == nil:
		return err
	case before.AccountID == next.AccountID:
		next.SID = before.SID
		return nil
	}
	_, err = s.o.Logout.SessionEnded(r.Context(), before.AccountID, before.SID)
	return err
}

// identityRefused ends a sign-in that the provider granted and the broker does not.
func (s *Service) identityRefused(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, connector string, err error) {
	if !errors.Is(err, identity.ErrDisabled) && !errors.Is(err, identity.ErrInvalidProfile) {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	s.record(r, audit.Event{Kind: audit.SigninRefused, Connector: connector, ClientID: client.ID, Reason: err.Error()})
	kind := connectors.Malformed
	if errors.Is(err, identity.ErrDisabled) {
		kind = connectors.NotAllowed
	}
	s.upstreamFailed(w, r, doc, client, &connectors.Error{Kind: kind, Connector: connector, Err: err})
}
