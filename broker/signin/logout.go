package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/sessions"
	"github.com/portico-id/portico/templates"
)

// Signing out (OpenID Connect RP-Initiated Logout, Front-Channel Logout). An app sends the person here; the session ends if the app
// shows by an ID token that it means this very session, or else if the person says so; then every app that signed in with the
// session is told, through the browser those that asked for that, and the person goes back to the app.

const pathLogout = "/logout"

// logoutParams are the parameters of RP-Initiated Logout section 2. logout_hint and ui_locales change nothing: there is one
// session in a browser, and one language.
var logoutParams = []string{"id_token_hint", "logout_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"}

// fieldConfirm is what our own page adds when the person says yes.
const fieldConfirm = "confirm"

const (
	// maxLogoutParam bounds one parameter: the longest honest one is id_token_hint, a JWT.
	maxLogoutParam = 8 << 10
	// maxLogoutQuery bounds a POSTed request to what fits in the URL that it is turned into.
	maxLogoutQuery = web.MaxURLBytes - 1<<10
	// frameSeconds is how long the signed-out page stays once the frames of the other apps have loaded. Browsers count
	// from when the page is complete, frames included (HTML section 4.2.5.3).
	frameSeconds = 1
)

// logoutRequest is what an app says when it sends a person here to sign out.
type logoutRequest struct {
	params    url.Values       // of logoutParams alone
	client    *registry.Client // nil if the request names none
	returnURI string           // registered, or ""
	sessionID string           // the session that id_token_hint was issued in, as the client sees it
	meant     bool             // that is this browser's
}

// vouched says whether the browser may be sent to returnURI without the person's word: an operator has checked the app, the person is signed in to it by
// the session that ends, it is on the person's own machine, or the operator trusts them all. Whoever registers an app could otherwise have a link of ours lead
// people anywhere (RP-Initiated Logout section 3, RFC 9700 section 4.11.2).
func (s *Service) vouched(r *logoutRequest) bool {
	return s.o.TrustRedirectURIs || r.client.Verified() || r.meant || registry.Local(r.returnURI)
}

// logout signs the person out. Without an ID token that shows that the app means this very session, the person is
// asked first: any website could send them here.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) {
	params, confirmed, err := readLogoutForm(r)
	if err != nil {
		s.showError(w, r, nil, *badLogout("The request cannot be read: "+err.Error()+".", err))
		return
	}
	if r.Method == http.MethodPost && s.Check(r) != nil {
		s.logoutFromElsewhere(w, r, params)
		return
	}
	req, page := s.readLogout(r.Context(), params)
	if page != nil {
		s.showError(w, r, nil, *page)
		return
	}
	session, err := s.o.Sessions.Current(r)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	if session == nil {
		s.o.Sessions.ShowState(w, r, "")
		s.signedOut(w, r, req, nil)
		return
	}
	req.meant = s.means(req, session)
	if !confirmed && !req.meant {
		s.askToSignOut(w, r, req, s.nameOf(r, session.AccountID))
		return
	}
	frames, err := s.endSession(w, r, session)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	s.signedOut(w, r, req, frames)
}

// means says whether the app showed that it means this very session.
func (s *Service) means(req logoutRequest, session *sessions.Session) bool {
	sid := session.SID
	if req.client != nil {
		sid = s.o.Subjects.Session(req.client, sid)
	}
	return req.sessionID != "" && req.sessionID == sid
}

// readLogoutForm reads the request's parameters, and whether it is our own page's yes. The error says what is wrong, for the person
// to tell the app's people.
func readLogoutForm(r *http.Request) (params url.Values, confirmed bool, err error) {
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		if err := r.ParseForm(); err != nil {
			return nil, false, errors.New("it is too long or not a form")
		}
		form = r.PostForm
	}
	params, err = parseLogout(form)
	return params, r.Method == http.MethodPost && form.Get(fieldConfirm) == "yes", err
}

// parseLogout takes the parameters out of a form. One without a value counts as omitted, and none may be there twice, since two
// readers could otherwise see two requests (as RFC 6749 section 3.1 has it).
func parseLogout(form url.Values) (url.Values, error) {
	params := url.Values{}
	for _, name := range logoutParams {
		switch values := form[name]; {
		case len(values) > 1:
			return nil, fmt.Errorf("the parameter %s is there more than once", name)
		case len(values) == 0 || values[0] == "":
		case len(values[0]) > maxLogoutParam:
			return nil, fmt.Errorf("the parameter %s is longer than %d bytes", name, maxLogoutParam)
		default:
			params[name] = values
		}
	}
	return params, nil
}

// logoutFromElsewhere turns a request that another site's page POSTed (section 2 demands both methods) into the same request as a GET: a
// browser sends no SameSite=Lax cookies with such a POST, so that the session could not be seen and the person would be told that they
// are signed out. One that is too long for a URL is put to the person, whose answer is posted from our own page.
func (s *Service) logoutFromElsewhere(w http.ResponseWriter, r *http.Request, params url.Values) {
	if query := params.Encode(); len(query) <= maxLogoutQuery {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, s.o.Issuer+pathLogout+"?"+query, http.StatusSeeOther)
		return
	}
	req, page := s.readLogout(r.Context(), params)
	if page != nil {
		s.showError(w, r, nil, *page)
		return
	}
	s.askToSignOut(w, r, req, "")
}

func badLogout(message string, cause error) *ErrorPage {
	return &ErrorPage{
		Status: http.StatusBadRequest, Title: "This sign-out link does not work", Message: message,
		ToDo: "Go back to the app. You may still be signed in here.", Cause: cause,
	}
}

// readLogout judges the request. An expired ID token is as good a hint as a fresh one (section 2). What is wrong is shown to the person
// and goes nowhere else (section 4).
func (s *Service) readLogout(ctx context.Context, params url.Values) (logoutRequest, *ErrorPage) {
	req := logoutRequest{params: params}
	clientID := params.Get("client_id")
	if raw := params.Get("id_token_hint"); raw != "" {
		hint, err := s.o.IDTokens.VerifyIDTokenHint(raw)
		if errors.Is(err, token.ErrEncrypted) {
			return req, badLogout("The app showed an encrypted ID token, which nobody but the app can read.", err)
		}
		if err != nil {
			return req, badLogout("The app showed an ID token that was not issued here.", err)
		}
		if clientID != "" && !slices.Contains(hint.Audience, clientID) {
			return req, badLogout("The app showed an ID token that was issued to another app.", nil)
		}
		if clientID == "" {
			clientID = hint.Audience[0]
		}
		req.sessionID = hint.SID
	}
	if clientID != "" {
		client, err := s.o.Clients.Get(ctx, clientID)
		if errors.Is(err, registry.ErrUnavailable) {
			return req, nil // nobody can say where it may have people go; they are signed out all the same
		}
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return req, ourFault(err)
		}
		if err == nil && !client.Disabled { // nobody is sent to an app that was shut
			req.client = client
		}
	}
	if uri := params.Get("post_logout_redirect_uri"); uri != "" {
		// Section 3: only to a URI that the client registered, compared exactly.
		if req.client == nil || !slices.Contains(req.client.PostLogoutRedirectURIs, uri) {
			return req, badLogout("The app asked to return to an address that is not registered for it.", nil)
		}
		req.returnURI = uri
	}
	return req, nil
}

// endSession ends the browser's session, and returns the addresses that the browser itself is to call for that.
func (s *Service) endSession(w http.ResponseWriter, r *http.Request, session *sessions.Session) ([]string, error) {
	// Whoever presses the button and closes the window is to be signed out, and not half of it.
	ctx := context.WithoutCancel(r.Context())
	clients, err := s.o.Logout.SessionEnded(ctx, session.AccountID, session.SID)
	if err != nil {
		return nil, err
	}
	var frames []string
	for _, client := range clients {
		if client.FrontchannelLogoutURI != "" {
			frames = append(frames, frontchannelURL(client, s.o.Issuer, s.o.Subjects.Session(client, session.SID)))
		}
	}
	return frames, s.o.Sessions.End(ctx, w, r)
}

// frontchannelURL is what a client is called with through the browser (Front-Channel Logout section 2).
func frontchannelURL(client *registry.Client, issuer, sid string) string {
	if !client.FrontchannelLogoutSession {
		return client.FrontchannelLogoutURI
	}
	return withQuery(client.FrontchannelLogoutURI, url.Values{"iss": {issuer}, "sid": {sid}})
}

// withQuery adds parameters to a registered URI, whose own query stays as it is.
func withQuery(uri string, params url.Values) string {
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	return uri + separator + params.Encode()
}

// askToSignOut asks the person; name is who is signed in, or "" where that cannot be seen.
func (s *Service) askToSignOut(w http.ResponseWriter, r *http.Request, req logoutRequest, name string) {
	page := templates.SignOutPage{
		Action:  pathLogout,
		Account: templates.AccountView{Name: name},
		Hidden:  []templates.Field{{Name: fieldConfirm, Value: "yes"}},
	}
	if req.client != nil {
		page.App = app(req.client, req.returnURI)
	}
	for _, name := range logoutParams {
		if value := req.params.Get(name); value != "" {
			page.Hidden = append(page.Hidden, templates.Field{Name: name, Value: value})
		}
	}
	s.send(w, r, http.StatusOK, req.returnURI, func(b *pageWriter) error { return s.o.Pages.SignOut(b, page) })
}

// signedOut goes back to the app, or says that it is done. With frames it says so in either case, and goes back when they have
// loaded: by itself, and at once by a link. To an app that is not vouched for, by a link alone.
func (s *Service) signedOut(w http.ResponseWriter, r *http.Request, req logoutRequest, frames []string) {
	location := req.returnURI
	if state := req.params.Get("state"); location != "" && state != "" {
		location = withQuery(location, url.Values{"state": {state}})
	}
	asked := location != "" && !s.vouched(&req)
	if location != "" && len(frames) == 0 && !asked {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, location, http.StatusSeeOther)
		return
	}
	page := templates.SignedOutPage{Frames: frames, ContinueURL: location}
	if req.client != nil {
		page.App, page.ReturnURL = app(req.client, req.returnURI), req.client.Site(req.returnURI)
	}
	if asked {
		page.GoesTo = webHost(location)
	}
	headers := func(h http.Header) {
		web.AllowFrames(h, frameSources(frames)...)
		if location != "" && !asked {
			h.Set("Refresh", fmt.Sprintf("%d; url=%s", frameSeconds, location))
		}
	}
	s.sendWith(w, r, http.StatusOK, "", headers, func(b *pageWriter) error { return s.o.Pages.SignedOut(b, page) })
}

// frameSources are the origins of the frames, each once. A source list cannot name an IPv6 address; it can name the scheme.
func frameSources(frames []string) []string {
	var sources []string
	for _, frame := range frames {
		source := registry.Origin(frame)
		if strings.Contains(source, "[") {
			source, _, _ = strings.Cut(source, "//")
		}
		if !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	return sources
}
