package signin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/sessions"
	"github.com/portico-id/portico/templates"
)

// logoutRequest is what an app says when it sends a person here to sign out (OpenID Connect RP-Initiated Logout section 2).
type logoutRequest struct {
	client    *registry.Client // nil if the request names none
	returnURI string           // registered, or ""
	state     string
	sessionID string // the session that id_token_hint was issued in
}

// logout signs the person out. Without an ID token that shows that the app means this very session, the person is
// asked first: any website could send them here.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.showError(w, r, nil, ErrorPage{Status: http.StatusBadRequest, Title: "This sign-out link does not work", Message: "The request cannot be read.", ToDo: "Go back to the app.", Cause: err})
		return
	}
	req, page := s.readLogout(r)
	if page != nil {
		s.showError(w, r, nil, *page)
		return
	}
	session, err := s.o.Sessions.Current(r)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	confirmed := r.Method == http.MethodPost && r.PostForm.Get("confirm") == "yes" && s.Check(r) == nil
	meant := req.sessionID != "" && session != nil && req.sessionID == session.ID
	if session != nil && !confirmed && !meant {
		s.askToSignOut(w, r, req, session)
		return
	}
	if session != nil {
		if err := s.endSession(w, r, session); err != nil {
			s.showError(w, r, nil, *ourFault(err))
			return
		}
	}
	s.signedOut(w, r, req)
}

func (s *Service) endSession(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
	if err := s.o.Sessions.End(r.Context(), w, r); err != nil {
		return err
	}
	return s.o.Grants.EndSession(r.Context(), session.AccountID, session.ID)
}

// readLogout judges the request. An expired ID token is as good a hint as a fresh one (section 2).
func (s *Service) readLogout(r *http.Request) (logoutRequest, *ErrorPage) {
	var req logoutRequest
	bad := func(message string, cause error) (logoutRequest, *ErrorPage) {
		return req, &ErrorPage{
			Status: http.StatusBadRequest, Title: "This sign-out link does not work", Message: message,
			ToDo: "Go back to the app. You may still be signed in here.", Cause: cause,
		}
	}
	clientID := r.Form.Get("client_id")
	if raw := r.Form.Get("id_token_hint"); raw != "" {
		hint, err := s.o.IDTokens.VerifyIDTokenHint(raw)
		if err != nil {
			return bad("The app showed an ID token that was not issued here.", err)
		}
		if clientID != "" && !slices.Contains(hint.Audience, clientID) {
			return bad("The app showed an ID token that was issued to another app.", nil)
		}
		clientID, req.sessionID = hint.Audience[0], hint.SID
	}
	if clientID != "" {
		client, err := s.o.Clients.Get(r.Context(), clientID)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return req, ourFault(err)
		}
		if err == nil {
			req.client = client
		}
	}
	if uri := r.Form.Get("post_logout_redirect_uri"); uri != "" {
		// Section 3: only to a URI that the client registered, compared exactly.
		if req.client == nil || !slices.Contains(req.client.PostLogoutRedirectURIs, uri) {
			return bad("The app asked to return to an address that is not registered for it.", nil)
		}
		req.returnURI, req.state = uri, r.Form.Get("state")
	}
	return req, nil
}

func (s *Service) askToSignOut(w http.ResponseWriter, r *http.Request, req logoutRequest, session *sessions.Session) {
	page := templates.SignOutPage{
		Action:  "/logout",
		Account: templates.AccountView{Name: s.nameOf(r, session.AccountID)},
		Hidden:  []templates.Field{{Name: "confirm", Value: "yes"}},
	}
	if req.client != nil {
		page.App = app(req.client)
	}
	for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
		if value := r.Form.Get(name); value != "" {
			page.Hidden = append(page.Hidden, templates.Field{Name: name, Value: value})
		}
	}
	s.send(w, r, http.StatusOK, req.returnURI, func(b *pageWriter) error { return s.o.Pages.SignOut(b, page) })
}

// signedOut goes back to the app, or says that it is done.
func (s *Service) signedOut(w http.ResponseWriter, r *http.Request, req logoutRequest) {
	if req.returnURI != "" {
		location := req.returnURI
		if req.state != "" {
			separator := "?"
			if strings.Contains(location, "?") {
				separator = "&"
			}
			location += separator + url.Values{"state": {req.state}}.Encode()
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, location, http.StatusSeeOther)
		return
	}
	page := templates.SignedOutPage{}
	if req.client != nil {
		page.App, page.ReturnURL = app(req.client), req.client.Website
	}
	s.send(w, r, http.StatusOK, "", func(b *pageWriter) error { return s.o.Pages.SignedOut(b, page) })
}
