// Package signin is what a person walks through: choose a provider, go there, come back, become an account, prove an account they
// already have, consent, sign out.
//
// broker wires it. broker/oauth hands it a new flow (Proceed); every page and form here reads the flow, does one
// thing, and writes it back; [Service.dispatch] alone decides by the stored step what comes next, so steps never call
// each other. When a flow is over it is handed to the Responder, which answers the app. The package may not decide what a
// client may have, and makes no tokens.
package signin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/device"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/logout"
	"github.com/portico-id/portico/broker/pairwise"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/throttle"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/sessions"
	"github.com/portico-id/portico/templates"
)

// Responder answers the app when a flow is over. broker/oauth is one.
type Responder interface {
	Respond(w http.ResponseWriter, r *http.Request, doc *flow.Doc)
}

// Options is what a Service is made of. All of it is required but for Devices.
type Options struct {
	Issuer string
	// Connectors in the order in which they are shown.
	Connectors []connectors.Connector
	// Scopes are the broker's own, with the sentence that a person reads for each; APIs have theirs.
	Scopes map[string]string
	APIs   *registry.APIs
	// ACR is the authentication context class of a sign-in that used these methods (RFC 8176), and AssertACR the one to say of
	// a sign-in of class has where any of wanted is asked for, with whether that is met.
	ACR       func(amr []string) string
	AssertACR func(has string, wanted []string) (acr string, met bool)

	Clients  *registry.Clients
	Accounts *identity.Accounts
	Flows    *flow.Flows
	Devices  *device.Authorizations // nil: no devices are connected here
	Throttle *throttle.Throttle
	Grants   *grant.Grants
	Subjects *pairwise.Subjects
	Consents *grant.Consents
	Sessions *sessions.Store
	Logout   *logout.Outbox
	Ring     *token.Keyring
	IDTokens *token.IDTokens
	Pages    *templates.Pages
	Audit    *audit.Recorder
	Log      *slog.Logger
	Now      func() time.Time

	Responder Responder
	// TrustRedirectURIs has the end of a sign-out take the browser to clients that no operator has checked without the person's word.
	TrustRedirectURIs bool
}

// Service walks people through. Its handlers may be called concurrently.
type Service struct {
	o      Options
	byName map[string]connectors.Connector
	http.CrossOriginProtection
}

// New makes a Service. It does no IO.
func New(o Options) *Service {
	s := &Service{o: o, byName: make(map[string]connectors.Connector, len(o.Connectors))}
	for _, c := range o.Connectors {
		s.byName[c.Info().Name] = c
	}
	return s
}

// CallbackPath is the path of a connector's one callback URL. One for each connector, so that an
// answer can never be taken for another provider's (RFC 9700 section 4.4.2.1).
func CallbackPath(connector string) string { return "/callback/" + connector }

const pathSignin = "/signin/"

// action is where a form of the flow's page is posted.
func action(flowID, verb string) string { return pathSignin + flowID + "/" + verb }

// Routes adds the pages and forms to mux.
func (s *Service) Routes(mux *http.ServeMux) {
	// Forms are taken from our own pages only (CSRF); the flow's binding to the browser stands behind it.
	form := func(verb string, h step) {
		mux.Handle("POST "+pathSignin+"{flow}/"+verb, s.sameOrigin(s.withFlow(h)))
	}
	mux.HandleFunc("GET "+pathSignin+"{flow}", s.withFlow(s.dispatch))
	form("choose", s.choose)
	form("cancel", s.cancel)
	form("link", s.proveToLink)
	form("separate", s.separate)
	form("consent", s.consent)
	form("switch", s.switchAccount)
	form("again", s.again)
	form("return", s.returnToApp)
	if s.o.Devices != nil {
		mux.HandleFunc("GET "+pathDevice, s.showDevice)
		mux.Handle("POST "+pathDevice, s.sameOrigin(http.HandlerFunc(s.enterDevice)))
	}
	mux.HandleFunc("GET /callback/{connector}", s.callback)
	mux.HandleFunc("GET /logout", s.logout)
	mux.HandleFunc("POST /logout", s.logout)
}

// step handles one request of a flow whose browser has been checked.
type step func(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client)

// sameOrigin refuses forms that another site's page posted.
func (s *Service) sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Check(r); err != nil {
			s.showError(w, r, nil, ErrorPage{
				Status:  http.StatusForbidden,
				Title:   "That came from somewhere else",
				Message: "Another website tried to press a button here in your name. Nothing was done.",
				ToDo:    "Go back to the app you were signing in to and start again.",
				Cause:   err,
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withFlow finds the flow named in the path and checks that this is the browser that began it.
func (s *Service) withFlow(next step) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		doc, client, page := s.open(r, r.PathValue("flow"))
		if page != nil {
			s.showError(w, r, nil, *page)
			return
		}
		next(w, r, doc, client)
	}
}

// open reads a flow for the browser of this request.
func (s *Service) open(r *http.Request, id string) (*flow.Doc, *registry.Client, *ErrorPage) {
	doc, err := s.o.Flows.Get(r.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, &expiredPage
	}
	if err != nil {
		return nil, nil, ourFault(err)
	}
	if !s.o.Ring.DigestMatches(browserPurpose, doc.Value.Browser, s.o.Sessions.Browser(r)) {
		return nil, nil, &otherBrowserPage
	}
	client, err := s.o.Clients.Get(r.Context(), doc.Value.Request.ClientID)
	if errors.Is(err, registry.ErrNotFound) || err == nil && client.Disabled {
		return nil, nil, &expiredPage
	}
	if err != nil {
		return nil, nil, ourFault(err)
	}
	return doc, client, nil
}

// browserPurpose separates the browser's digest from all others made with the keyring.
const browserPurpose = "browser"

// Browser is the digest that binds a flow to the browser of this request; it sets the cookie if there is none.
func (s *Service) Browser(w http.ResponseWriter, r *http.Request) string {
	return s.o.Ring.Digest(browserPurpose, s.o.Sessions.EnsureBrowser(w, r))
}

// dispatch shows what the flow's step asks for. It writes nothing.
func (s *Service) dispatch(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	switch doc.Value.Step {
	case flow.Choose:
		s.showChooser(w, r, doc, client, "")
	case flow.Upstream: // the person came back from the provider's page with the back button: they may choose again
		if doc.Value.Pending != nil {
			s.showLink(w, r, doc, client, "")
			return
		}
		s.showChooser(w, r, doc, client, "")
	case flow.Link:
		s.showLink(w, r, doc, client, "")
	case flow.Consent:
		s.showConsent(w, r, doc, client)
	case flow.Done, flow.Failed:
		if doc.Value.Device != nil {
			s.showDeviceDone(w, r, doc, client)
			return
		}
		s.o.Responder.Respond(w, r, doc)
	default:
		s.showError(w, r, nil, *ourFault(errors.New("flow in unknown step " + string(doc.Value.Step))))
	}
}

// advance writes the flow and shows what comes next. Where another request was faster, its outcome is
// what is shown.
func (s *Service) advance(w http.ResponseWriter, r *http.Request, doc *flow.Doc) {
	err := s.o.Flows.Save(r.Context(), doc)
	switch {
	case errors.Is(err, store.ErrConflict):
		s.toPage(w, r, doc.ID)
	case err != nil:
		s.showError(w, r, nil, *ourFault(err))
	case doc.Value.Over() && doc.Value.Device == nil:
		s.o.Responder.Respond(w, r, doc)
	default:
		s.toPage(w, r, doc.ID)
	}
}

// toPage sends the browser to the flow's page. The empty fragment keeps a provider's own
// (Facebook's "#_=_") from being carried along.
func (s *Service) toPage(w http.ResponseWriter, r *http.Request, flowID string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, pathSignin+flowID+"#", http.StatusSeeOther)
}

// Proceed moves a new flow along, as far as it goes without the person: to the app if the session
// and remembered consent suffice, to the provider if there is nothing to choose, else to a page.
func (s *Service) Proceed(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	f := &doc.Value
	signIn, err := s.fromSession(w, r, f, client)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	if signIn != nil {
		s.finishSignIn(w, r, doc, client, *signIn)
		return
	}
	if f.Request.Prompts("none") {
		f.Fail("login_required", "nobody is signed in who could answer this request without a page; send it again without prompt=none")
		s.o.Responder.Respond(w, r, doc)
		return
	}
	if name, only := s.onlyChoice(f, client); only {
		s.beginTrip(w, r, doc, client, name, false)
		return
	}
	switch err := s.o.Flows.Save(r.Context(), doc); {
	case errors.Is(err, store.ErrConflict): // this browser has begun it before
		s.toPage(w, r, doc.ID)
	case err != nil:
		s.showError(w, r, nil, *ourFault(err))
	default:
		s.showChooser(w, r, doc, client, "")
	}
}

// Resume shows the flow's page to the browser that began it.
func (s *Service) Resume(w http.ResponseWriter, r *http.Request, flowID string) {
	s.toPage(w, r, flowID)
}

// onlyChoice is the connector to use where there is nothing for the person to choose.
func (s *Service) onlyChoice(f *flow.Flow, client *registry.Client) (string, bool) {
	if f.Request.IDPHint != "" {
		return f.Request.IDPHint, true
	}
	allowed := s.allowed(client)
	if len(allowed) == 1 {
		return allowed[0].Info().Name, true
	}
	return "", false
}

func (s *Service) allowed(client *registry.Client) []connectors.Connector {
	var allowed []connectors.Connector
	for _, c := range s.o.Connectors {
		if client.AllowsConnector(c.Info().Name) {
			allowed = append(allowed, c)
		}
	}
	return allowed
}

// fromSession is the sign-in that the browser's session stands for, or nil if the request wants a new one.
func (s *Service) fromSession(w http.ResponseWriter, r *http.Request, f *flow.Flow, client *registry.Client) (*flow.SignIn, error) {
	if f.Request.Prompts("login") || f.Request.Prompts("select_account") {
		return nil, nil
	}
	session, err := s.liveSession(w, r)
	if err != nil || session == nil || !s.sessionServes(session, &f.Request, client) {
		return nil, err
	}
	return signInOf(session), nil
}

// liveSession is the browser's session, if there is one and its account is still good; the frames of apps in this browser are
// shown the same.
func (s *Service) liveSession(w http.ResponseWriter, r *http.Request) (*sessions.Session, error) {
	session, err := s.goodSession(r)
	if err != nil {
		return nil, err
	}
	sid := ""
	if session != nil {
		sid = session.SID
	}
	s.o.Sessions.ShowState(w, r, sid)
	return session, nil
}

func (s *Service) goodSession(r *http.Request) (*sessions.Session, error) {
	session, err := s.o.Sessions.Current(r)
	if err != nil || session == nil {
		return nil, err
	}
	account, err := s.o.Accounts.Get(r.Context(), session.AccountID)
	if errors.Is(err, identity.ErrNotFound) || err == nil && account.Disabled {
		return nil, nil
	}
	return session, err
}

func signInOf(session *sessions.Session) *flow.SignIn {
	return &flow.SignIn{
		AccountID: session.AccountID,
		SessionID: session.SID,
		Connector: session.Connector,
		AuthTime:  session.AuthTime,
		ACR:       session.ACR,
		AMR:       session.AMR,
	}
}

// sessionServes decides whether a session answers a request (OpenID Connect Core section 3.1.2.1). One of too low an authentication
// context class does where the app would rather have that than a page.
func (s *Service) sessionServes(session *sessions.Session, req *flow.Request, client *registry.Client) bool {
	_, acrMet := s.o.AssertACR(session.ACR, req.ACRValues)
	switch {
	case !acrMet && (req.ACREssential || !req.Prompts("none")):
		return false
	case req.MaxAge != nil && s.o.Now().Sub(session.AuthTime) > time.Duration(*req.MaxAge)*time.Second:
		return false
	case req.IDPHint != "" && req.IDPHint != session.Connector:
		return false // the app wants this provider, whoever is signed in
	case !s.isWanted(req, client, session.AccountID):
		return false
	}
	return client.AllowsConnector(session.Connector)
}

// isWanted says whether the account is the one that the app named, if it named one.
func (s *Service) isWanted(req *flow.Request, client *registry.Client, accountID string) bool {
	return req.Subject == "" || req.Subject == s.o.Subjects.For(client, accountID)
}

// finishSignIn records who signed in, and ends the flow or asks for consent.
func (s *Service) finishSignIn(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, signIn flow.SignIn) {
	f := &doc.Value
	if !s.isWanted(&f.Request, client, signIn.AccountID) {
		f.Fail("login_required", "somebody else signed in than id_token_hint or claims names")
		s.advance(w, r, doc)
		return
	}
	acr, met := s.o.AssertACR(signIn.ACR, f.Request.ACRValues)
	if !met && f.Request.ACREssential {
		// OpenID Connect Core section 5.5.1.1: that is a failed authentication.
		f.Fail("unmet_authentication_requirements", "the person signed in, but not in a way that has one of the acr values asked for")
		s.advance(w, r, doc)
		return
	}
	signIn.ACR = acr
	ask, err := s.needsConsent(r.Context(), f, client, signIn.AccountID)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	if ask && f.Request.Prompts("none") {
		f.Fail("consent_required", "the person has not yet agreed to all of it; send the request again without prompt=none")
		s.o.Responder.Respond(w, r, doc)
		return
	}
	f.SignedIn(signIn, ask, s.o.Now())
	s.advance(w, r, doc)
}

// needsConsent says whether the person must be asked. authorization_details are always asked about, and never remembered: they may be one
// payment, and the next one is another.
func (s *Service) needsConsent(ctx context.Context, f *flow.Flow, client *registry.Client, accountID string) (bool, error) {
	switch {
	case f.Request.Prompts("consent"), f.Device != nil:
		return true, nil
	case client.FirstParty:
		return false, nil
	case f.Request.Details != "":
		return true, nil
	case anybodys(client, f.Request.RedirectURI):
		return true, nil
	}
	_, missing, err := s.missingConsent(ctx, f, client, accountID)
	return len(missing) > 0, err
}

// missingConsent is what the app asks for, and the keys of what of it the person has not said yes to before.
func (s *Service) missingConsent(ctx context.Context, f *flow.Flow, client *registry.Client, accountID string) (asked []askedScope, missing []string, err error) {
	if asked, err = s.askedScopes(ctx, &f.Request, client); err == nil {
		missing, err = s.o.Consents.Missing(ctx, accountID, client.ID, keysOf(asked))
	}
	return asked, missing, err
}

// anybodys says whether any program on the person's machine could say that it is the client, which nobody has checked (RFC 8252 section 8.6). One with a
// secret or a key of its own shows who it is when it redeems its code (section 8.4). Of one that an operator has registered, a yes is remembered: they have
// chosen an app that people keep using.
func anybodys(client *registry.Client, redirectURI string) bool {
	return client.Public() && registry.Local(redirectURI) && !client.Verified()
}

func (s *Service) record(r *http.Request, e audit.Event) {
	s.o.Audit.Record(r.Context(), e)
}
