package signin

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/templates"
)

func (s *Service) showConsent(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	ctx := r.Context()
	f := &doc.Value
	if f.Device != nil {
		s.showDeviceConsent(w, r, doc, client)
		return
	}
	account, err := s.o.Accounts.Get(ctx, f.SignIn.AccountID)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	asked, missing, err := s.missingConsent(ctx, f, client, account.ID)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	details, err := s.askedDetails(ctx, &f.Request)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	page := templates.ConsentPage{
		App:          app(client, f.Request.RedirectURI),
		Action:       action(doc.ID, "consent"),
		SwitchAction: action(doc.ID, "switch"),
		Account:      templates.AccountView{Name: account.Name, Email: account.Email, Picture: account.Picture},
		Details:      details,
		GoesTo:       webHost(f.Request.RedirectURI),
		EachTime:     anybodys(client, f.Request.RedirectURI) && !client.FirstParty,
		PolicyURL:    client.Shown(client.PolicyURI, f.Request.RedirectURI),
		TermsURL:     client.Shown(client.TosURI, f.Request.RedirectURI),
	}
	for _, scope := range asked {
		page.OfflineAccess = page.OfflineAccess || scope.view.Name == "offline_access" && scope.view.API == ""
		scope.view.New = len(missing) < len(asked) && slices.Contains(missing, scope.key)
		page.Scopes = append(page.Scopes, scope.view)
	}
	s.page(w, r, doc, http.StatusOK, func(b *pageWriter) error { return s.o.Pages.Consent(b, page) })
}

// consent takes the person's answer. A yes is remembered; a no is told to the app.
func (s *Service) consent(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	f := &doc.Value
	if f.Step != flow.Consent {
		s.toPage(w, r, doc.ID)
		return
	}
	if f.Device != nil {
		s.answerDevice(w, r, doc)
		return
	}
	switch r.PostFormValue("decision") {
	case "allow":
		asked, err := s.askedScopes(r.Context(), &f.Request, client)
		if err == nil {
			err = s.o.Consents.Remember(r.Context(), f.SignIn.AccountID, client.ID, keysOf(asked))
		}
		if err != nil {
			s.showError(w, r, nil, *ourFault(err))
			return
		}
		f.Grant(s.o.Now())
	case "deny":
		f.Fail("access_denied", "the person said no")
	default:
		s.toPage(w, r, doc.ID)
		return
	}
	s.advance(w, r, doc)
}

// switchAccount goes back to the chooser, for a person who is signed in as somebody they do not want to be here.
func (s *Service) switchAccount(w http.ResponseWriter, r *http.Request, doc *flow.Doc, _ *registry.Client) {
	if doc.Value.Step == flow.Consent {
		doc.Value.SignIn = nil
		doc.Value.Step = flow.Choose
	}
	s.advance(w, r, doc)
}

// webHost is the host that a redirect URI leads to; "" where it stays on the person's device.
func webHost(redirectURI string) string {
	if u, err := url.Parse(redirectURI); err == nil && u.Scheme == "https" {
		return u.Host
	}
	return ""
}
