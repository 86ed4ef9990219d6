package signin

import (
	"errors"
	"net/http"
	"slices"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/templates"
)

// A new identity brought a verified email that an account here holds verified too. The person proves that account by
// signing in with an identity it already has, or goes on with an account of its own. The email alone links nothing.

func (s *Service) askToLink(w http.ResponseWriter, r *http.Request, doc *flow.Doc, connector string, p *connectors.Profile, candidates []identity.Candidate) {
	pending := &flow.Pending{
		Connector: connector,
		Profile:   waiting(p),
		AuthTime:  s.authTime(p),
		AMR:       p.AMR,
	}
	for _, c := range candidates {
		pending.Accounts = append(pending.Accounts, c.AccountID)
		for _, name := range c.Connectors {
			if !slices.Contains(pending.ProveWith, name) {
				pending.ProveWith = append(pending.ProveWith, name)
			}
		}
	}
	doc.Value.Pending = pending
	doc.Value.Step = flow.Link
	s.advance(w, r, doc)
}

func (s *Service) showLink(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, notice string) {
	pending := doc.Value.Pending
	s.page(w, r, doc, http.StatusOK, func(b *pageWriter) error {
		return s.o.Pages.Link(b, templates.LinkPage{
			App:            app(client, doc.Value.Request.RedirectURI),
			Email:          pending.Profile.Email,
			NewConnector:   s.displayName(pending.Connector),
			ProveAction:    action(doc.ID, "link"),
			Connectors:     buttons(s.proving(pending, client)),
			SeparateAction: action(doc.ID, "separate"),
			Notice:         notice,
		})
	})
}

// proving are the connectors with which the person can prove the account.
func (s *Service) proving(p *flow.Pending, client *registry.Client) []connectors.Connector {
	return slices.DeleteFunc(s.allowed(client), func(c connectors.Connector) bool {
		return !slices.Contains(p.ProveWith, c.Info().Name)
	})
}

// proveToLink takes the person to a provider that the existing account signs in with.
func (s *Service) proveToLink(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	f := &doc.Value
	if f.Pending == nil || f.Over() {
		s.toPage(w, r, doc.ID)
		return
	}
	name := r.PostFormValue("connector")
	if !slices.ContainsFunc(s.proving(f.Pending, client), func(c connectors.Connector) bool { return c.Info().Name == name }) {
		s.showLink(w, r, doc, client, "Choose one of the ways in which the account signs in.")
		return
	}
	s.beginTrip(w, r, doc, client, name, true)
}

// proved links the waiting identity, if the person came back as an account that they were asked to prove.
func (s *Service) proved(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, connector string, p *connectors.Profile) {
	pending := doc.Value.Pending
	if pending == nil {
		s.toPage(w, r, doc.ID)
		return
	}
	accountID, err := s.o.Accounts.AccountOf(r.Context(), connector, p)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		s.identityRefused(w, r, doc, client, connector, err)
		return
	}
	if !slices.Contains(pending.Accounts, accountID) {
		s.showLink(w, r, doc, client, "That sign-in belongs to another account. Sign in with the account that has this email, or continue separately.")
		return
	}
	account, err := s.o.Accounts.LinkTo(r.Context(), accountID, pending.Connector, arrived(pending))
	if err != nil {
		s.identityRefused(w, r, doc, client, pending.Connector, err)
		return
	}
	s.startSession(w, r, doc, client, account.ID, connector, s.authTime(p), p.AMR)
}

// separate makes an account of its own for the waiting identity.
func (s *Service) separate(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	pending := doc.Value.Pending
	if pending == nil || doc.Value.Over() {
		s.toPage(w, r, doc.ID)
		return
	}
	resolution, err := s.o.Accounts.CreateSeparate(r.Context(), pending.Connector, arrived(pending))
	if err != nil {
		s.identityRefused(w, r, doc, client, pending.Connector, err)
		return
	}
	s.startSession(w, r, doc, client, resolution.Account.ID, pending.Connector, pending.AuthTime, pending.AMR)
}

// waiting is a profile as the flow keeps it while the person decides.
func waiting(p *connectors.Profile) flow.Profile {
	return flow.Profile{
		Issuer: p.Issuer, Subject: p.Subject,
		Email: p.Email, EmailVerified: p.EmailVerified,
		Name: p.Name, GivenName: p.GivenName, FamilyName: p.FamilyName,
		Username: p.Username, Picture: p.Picture, Locale: p.Locale, HostedDomain: p.HostedDomain,
	}
}

// arrived is the profile that a flow kept.
func arrived(p *flow.Pending) *connectors.Profile {
	w := p.Profile
	return &connectors.Profile{
		Issuer: w.Issuer, Subject: w.Subject,
		Email: w.Email, EmailVerified: w.EmailVerified,
		Name: w.Name, GivenName: w.GivenName, FamilyName: w.FamilyName,
		Username: w.Username, Picture: w.Picture, Locale: w.Locale, HostedDomain: w.HostedDomain,
		AuthTime: p.AuthTime, AMR: p.AMR,
	}
}
