package signin

import (
	"errors"
	"net/http"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/templates"
)

func (s *Service) showChooser(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, notice string) {
	page := templates.ChooserPage{
		App:          app(client, doc.Value.Request.RedirectURI),
		ChooseAction: action(doc.ID, "choose"),
		CancelAction: action(doc.ID, "cancel"),
		OnDevice:     doc.Value.Device != nil,
		Connectors:   buttons(s.allowed(client)),
		LoginHint:    doc.Value.Request.LoginHint,
		Notice:       notice,
	}
	if s.mayContinue(&doc.Value) {
		session, err := s.liveSession(w, r)
		if err != nil {
			s.showError(w, r, nil, *ourFault(err))
			return
		}
		if session != nil && s.sessionServes(session, &doc.Value.Request, client) {
			page.SignedInAs = s.nameOf(r, session.AccountID)
		}
	}
	s.page(w, r, doc, http.StatusOK, func(b *pageWriter) error { return s.o.Pages.Chooser(b, page) })
}

// mayContinue says whether the chooser offers to go on as the person who is signed in: only where the app asked to
// select an account, never where it asked for a new login.
func (s *Service) mayContinue(f *flow.Flow) bool {
	return f.Request.Prompts("select_account") && !f.Request.Prompts("login")
}

// choose takes the person to the provider they chose, or on with the session they have.
func (s *Service) choose(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	f := &doc.Value
	if f.Step != flow.Choose && f.Step != flow.Upstream {
		s.toPage(w, r, doc.ID)
		return
	}
	if r.PostFormValue("continue") == "session" && s.mayContinue(f) {
		session, err := s.liveSession(w, r)
		if err != nil {
			s.showError(w, r, nil, *ourFault(err))
			return
		}
		if session != nil && s.sessionServes(session, &f.Request, client) {
			s.finishSignIn(w, r, doc, client, *signInOf(session))
			return
		}
	}
	name := r.PostFormValue("connector")
	if _, exists := s.byName[name]; !exists || !client.AllowsConnector(name) {
		s.showChooser(w, r, doc, client, "That way to sign in is not available. Choose one of these.")
		return
	}
	s.beginTrip(w, r, doc, client, name, false)
}

// beginTrip sends the browser to a provider. prove is for a person who has an account already and is to show it.
func (s *Service) beginTrip(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, name string, prove bool) {
	f := &doc.Value
	// For more than any sign-in meets, the provider has to be given the occasion (RFC 9470 section 5).
	reauthenticate := prove || f.Request.Prompts("login") || f.Request.MaxAge != nil || s.wantsMore(&f.Request)
	trip := &flow.Trip{
		ID:             token.NewID(),
		Connector:      name,
		Nonce:          token.NewID(),
		Verifier:       token.NewVerifier(),
		Reauthenticate: reauthenticate,
		Prove:          prove,
		StartedAt:      s.o.Now(),
	}
	location, err := s.byName[name].AuthorizeURL(r.Context(), s.upstreamTrip(doc.ID, trip, &f.Request))
	if err != nil {
		s.upstreamFailed(w, r, doc, client, err)
		return
	}
	f.BeginTrip(trip)
	f.Failure = nil
	if err := s.o.Flows.Save(r.Context(), doc); err != nil {
		if errors.Is(err, store.ErrConflict) {
			s.toPage(w, r, doc.ID)
			return
		}
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, location, http.StatusSeeOther)
}

// upstreamTrip is a trip as the connector needs it.
func (s *Service) upstreamTrip(flowID string, t *flow.Trip, req *flow.Request) connectors.Trip {
	prompt := ""
	switch {
	case t.Reauthenticate:
		prompt = "login"
	case req.Prompts("select_account"):
		prompt = "select_account"
	}
	return connectors.Trip{
		RedirectURI: s.o.Issuer + CallbackPath(t.Connector),
		State:       flow.State(flowID, t),
		Nonce:       t.Nonce,
		Verifier:    t.Verifier,
		LoginHint:   req.LoginHint,
		Prompt:      prompt,
		UILocales:   req.UILocales,
		MultiFactor: s.wantsMore(req),
	}
}

// wantsMore says whether the app asks for more than a sign-in at a provider that says nothing of how it was done.
func (s *Service) wantsMore(req *flow.Request) bool {
	_, anyMeets := s.o.AssertACR(s.o.ACR(nil), req.ACRValues)
	return !anyMeets
}

// cancel goes back to the app without signing in.
func (s *Service) cancel(w http.ResponseWriter, r *http.Request, doc *flow.Doc, _ *registry.Client) {
	if !doc.Value.Over() {
		doc.Value.Fail("access_denied", "the person chose not to sign in")
	}
	s.advance(w, r, doc)
}
