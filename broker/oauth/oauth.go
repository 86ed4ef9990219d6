// Package oauth is what apps talk to: the authorization endpoint that begins a flow and answers it, the token
// endpoint with a file per grant, userinfo, introspection, revocation and metadata.
//
// broker wires it. It decides by the RFCs what a client may ask for and get. What a person walks through in
// between is broker/signin's: this package hands it a flow to move along (Options.Proceed) and is handed it back
// to end (Server.Respond). It may not render pages, and never imports signin.
//
// The files follow a request: par.go and request_object.go (where its parameters come from), strangers.go (how many are kept), authorize.go (begin and judge), claims.go,
// acr.go, profile.go, catchup.go, policy.go (what may be asked for), respond.go (end), clientauth*.go, token.go,
// grant_*.go, issue.go, introspect.go, revoke.go, userinfo.go, forward_auth.go, resource.go (what these two share), metadata.go. What the client is told of an error is in error.go.
package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/device"
	"github.com/portico-id/portico/broker/fetch"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/pairwise"
	"github.com/portico-id/portico/broker/quota"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/resource/dpop"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
)

// The endpoints' paths below the issuer.
const (
	PathAuthorize  = "/authorize"
	PathToken      = "/token"
	PathUserinfo   = "/userinfo"
	PathIntrospect = "/introspect"
	PathRevoke     = "/revoke"
	PathJWKS       = "/jwks.json"
	PathLogout     = "/logout"
	PathPush       = "/par"
	PathRegister   = "/register"

	// PathCheckSession is the check_session_iframe (OpenID Connect Session Management section 3.3).
	PathCheckSession        = "/check-session"
	PathDeviceAuthorization = "/device_authorization" // RFC 8628 section 3.1
	PathDevice              = "/device"               // where people enter a device's code

	// PathForwardAuth is what reverse proxies ask (nginx: auth_request), itself and with the original path below it.
	PathForwardAuth = "/forward-auth"
	// PathResourceMetadata has the metadata of apis (RFC 9728) that do not serve their own.
	PathResourceMetadata = "/resource-metadata"
	// PathWellKnownResource is where they are on the apis' own hosts (RFC 9728 section 3.1), followed by the path of the identifier.
	PathWellKnownResource = "/.well-known/oauth-protected-resource"

	PathOpenIDConfiguration = "/.well-known/openid-configuration"       // OpenID Connect Discovery section 4
	PathServerMetadata      = "/.well-known/oauth-authorization-server" // RFC 8414 section 3
)

// The scopes that the broker itself defines (OpenID Connect Core sections 3.1.2.1, 5.4, 11).
const (
	ScopeOpenID        = "openid"
	ScopeProfile       = "profile"
	ScopeEmail         = "email"
	ScopeOfflineAccess = "offline_access"
)

// Scopes are the broker's scopes, each with the sentence that a person reads before saying yes to it.
func Scopes() map[string]string {
	return map[string]string{
		ScopeOpenID:        "Know that it is you when you come back",
		ScopeProfile:       "See your name and picture",
		ScopeEmail:         "See your email address",
		ScopeOfflineAccess: "Stay connected while you are away, until you sign out of it",
	}
}

// Lifetimes bound what is issued.
type Lifetimes struct {
	Code        time.Duration // at most 10 minutes (RFC 6749 section 4.1.2)
	AccessToken time.Duration // unless the client has its own
	IDToken     time.Duration
	Refresh     grant.Limits // unless the client has its own
	Session     time.Duration
}

// Options is what a Server is made of. All of it is required but for Devices, without which there is no device grant.
type Options struct {
	Issuer            string
	Connectors        []string // names, in the order of the configuration
	GrantTypes        []string // those that are on
	Scopes            map[string]string
	APIs              *registry.APIs
	SigningAlgs       []string // what ID tokens may be signed with
	AccessTokenFormat token.Format
	Lifetimes         Lifetimes
	DPoPNonce         bool // DPoP proofs must have a nonce of this server's (RFC 9449 section 8)
	MTLS              MTLS
	TrustedIssuers    []TrustedIssuer
	// RequirePAR takes authorization requests that were pushed alone, from every client (RFC 9126 section 5).
	RequirePAR bool
	// UnprovenPerMinute bounds what one address can have kept in the names of clients that show nothing of who they are. See strangers.go.
	UnprovenPerMinute int
	// TrustRedirectURIs has errors take the browser to clients that no operator has checked without the person's word.
	TrustRedirectURIs bool

	Clients  *registry.Clients
	Accounts *identity.Accounts
	Flows    *flow.Flows
	Devices  *device.Authorizations
	Grants   *grant.Grants
	Subjects *pairwise.Subjects
	Replay   *replay.Guard
	Fetch    *fetch.Client
	Ring     *token.Keyring
	Keys     *token.Keys
	Audit    *audit.Recorder
	Log      *slog.Logger
	Now      func() time.Time

	// ForwardAnyHost has the forward-auth endpoint take a request to any host, for the api that has an endpoint for it, and DPoP proofs for
	// the host that was asked; for development.
	ForwardAnyHost bool

	// Passwords are those of local accounts.
	Passwords Passwords
	// Registration is how clients may register themselves; Quota bounds how often.
	Registration Registration
	Quota        *quota.Quota
	// ClientDocuments says that a client's id may be the address of its metadata.
	ClientDocuments bool

	// Sessions switches OpenID Connect Session Management on; nil: off.
	Sessions *SessionManagement

	// Browser is the keyed digest that binds flows to the browser of this request; it may set a cookie.
	Browser func(w http.ResponseWriter, r *http.Request) string
	// Proceed moves a new flow along: it signs the person in, or shows the page to do so.
	Proceed func(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client)
	// Resume shows a flow's page to the browser that began it.
	Resume func(w http.ResponseWriter, r *http.Request, flowID string)
	// ShowError shows a person a page about a request that must not go back to the app.
	ShowError func(w http.ResponseWriter, r *http.Request, page ErrorPage)
	// FormPost sends a response through the browser as a form (OAuth 2.0 Form Post Response Mode).
	FormPost func(w http.ResponseWriter, r *http.Request, redirectURI string, answer url.Values)
	// AskToLeave shows a person where a response would take them, and leaves it to them to go there.
	AskToLeave func(w http.ResponseWriter, r *http.Request, l Leaving)
}

// Leaving is an error response to an app whose redirect URI nobody vouches for.
type Leaving struct {
	Client *registry.Client
	Code   string // of the error
	// Location is the redirect URI with the response in it; or without, where Form is to be posted to it.
	Location string
	Form     url.Values
}

// ErrorPage is what a person is told, and the cause that the log is.
type ErrorPage struct {
	Status  int
	Title   string
	Message string
	ToDo    string
	Cause   error
}

// Server answers apps. Its handlers may be called concurrently.
type Server struct {
	issuer            string
	connectors        []string
	policy            policy
	signingAlgs       []string
	lifetimes         Lifetimes
	redeemers         map[string]grantType
	authenticators    map[string]authMethod
	dpopNonce         bool
	proofBases        []string // see proofURLs
	mtls              MTLS
	trusted           map[string]*TrustedIssuer // by Issuer
	requirePAR        bool
	unprovenPerMinute int
	trustRedirectURIs bool
	forwardAnyHost    bool
	guarding          guarding

	registration    Registration
	clientDocuments bool

	clients  *registry.Clients
	accounts *identity.Accounts
	flows    *flow.Flows
	devices  *device.Authorizations
	grants   *grant.Grants
	subjects *pairwise.Subjects
	replay   *replay.Guard
	fetch    *fetch.Client
	quota    *quota.Quota
	keySets  *keyset.Keys // of clients and trusted issuers
	ring     *token.Keyring
	keys     *token.Keys // our own
	access   *token.AccessTokens
	idTokens *token.IDTokens
	nonces   *dpop.Nonces
	audit    *audit.Recorder
	log      *slog.Logger
	now      func() time.Time

	passwords Passwords
	sessions  *SessionManagement
	browser   func(w http.ResponseWriter, r *http.Request) string
	proceed   func(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client)
	resume    func(w http.ResponseWriter, r *http.Request, flowID string)
	showError func(w http.ResponseWriter, r *http.Request, page ErrorPage)
	formPost  func(w http.ResponseWriter, r *http.Request, redirectURI string, answer url.Values)

	askToLeave func(w http.ResponseWriter, r *http.Request, l Leaving)
}

// New makes a Server. It does no IO.
func New(o Options) *Server {
	s := &Server{
		issuer:            o.Issuer,
		connectors:        o.Connectors,
		policy:            policy{issuer: o.Issuer, scopes: o.Scopes, apis: o.APIs, format: o.AccessTokenFormat, lifetime: o.Lifetimes.AccessToken},
		signingAlgs:       o.SigningAlgs,
		lifetimes:         o.Lifetimes,
		mtls:              o.MTLS,
		trusted:           map[string]*TrustedIssuer{},
		requirePAR:        o.RequirePAR,
		unprovenPerMinute: o.UnprovenPerMinute,
		trustRedirectURIs: o.TrustRedirectURIs,

		forwardAnyHost: o.ForwardAnyHost,

		clients:    o.Clients,
		accounts:   o.Accounts,
		passwords:  o.Passwords,
		flows:      o.Flows,
		devices:    o.Devices,
		grants:     o.Grants,
		subjects:   o.Subjects,
		replay:     o.Replay,
		fetch:      o.Fetch,
		keySets:    keyset.New(o.Fetch, o.Now),
		ring:       o.Ring,
		keys:       o.Keys,
		access:     token.NewAccessTokens(o.Ring, o.Keys, o.Issuer, o.Now),
		idTokens:   token.NewIDTokens(o.Keys, o.Issuer),
		dpopNonce:  o.DPoPNonce,
		proofBases: proofBases(o.Issuer, o.MTLS.URL),
		nonces:     dpop.NewNonces(o.Ring),
		audit:      o.Audit,
		log:        o.Log,
		now:        o.Now,
		sessions:   o.Sessions,
		browser:    o.Browser,
		proceed:    o.Proceed,
		resume:     o.Resume,
		showError:  o.ShowError,
		formPost:   o.FormPost,
		askToLeave: o.AskToLeave,

		registration:    o.Registration,
		clientDocuments: o.ClientDocuments,
		quota:           o.Quota,
	}
	for i := range o.TrustedIssuers {
		s.trusted[o.TrustedIssuers[i].Issuer] = &o.TrustedIssuers[i]
	}
	s.redeemers = s.grantTypes(o.GrantTypes)
	s.authenticators = s.authMethods()
	return s
}

// Routes adds the endpoints to mux.
func (s *Server) Routes(mux *http.ServeMux) error {
	document, err := s.metadataHandler()
	if err != nil {
		return err
	}
	userinfo, err := s.userinfoAPI()
	if err != nil {
		return err
	}
	if s.offers(registry.GrantAuthorizationCode) {
		mux.HandleFunc("GET "+PathAuthorize, s.authorize)
		mux.HandleFunc("POST "+PathAuthorize, s.authorize)
	}
	// Browser apps call these from their own origin (CORS). No cookie is ever looked at here, so any origin may.
	// Introspection is not among them: it is for confidential clients, which are not browsers.
	open := func(path string, h http.HandlerFunc, methods ...string) {
		mux.Handle(path, web.CORS(h, methods...))
	}
	open(PathToken, s.token, http.MethodPost)
	open(PathRevoke, s.revoke, http.MethodPost)
	open(PathUserinfo, s.userinfo(userinfo), http.MethodGet, http.MethodPost)
	open(PathJWKS, s.jwks, http.MethodGet)
	open(PathOpenIDConfiguration, document, http.MethodGet)
	open(PathServerMetadata, document, http.MethodGet)
	open(PathResourceMetadata, s.resourceMetadata(userinfo.Metadata()), http.MethodGet)
	open(PathWellKnownResource, s.wellKnownMetadata(userinfo.Metadata()), http.MethodGet)
	open(PathWellKnownResource+"/{path...}", s.wellKnownMetadata(userinfo.Metadata()), http.MethodGet)
	if s.offers(registry.GrantAuthorizationCode) {
		open(PathPush, s.push, http.MethodPost)
	}
	if s.offers(registry.GrantDeviceCode) {
		open(PathDeviceAuthorization, s.deviceAuthorization, http.MethodPost)
	}
	if s.registration.On {
		open(PathRegister, s.register, http.MethodPost)
		open(PathRegister+"/{client}", s.manage, http.MethodGet, http.MethodPut, http.MethodDelete)
	}
	mux.HandleFunc("POST "+PathIntrospect, s.introspect)
	if s.sessions != nil {
		mux.HandleFunc("GET "+PathCheckSession, checkSessionFrame(s.sessions.Cookie))
	}
	return nil
}

// offers says whether a grant type is on.
func (s *Server) offers(grantType string) bool { return s.redeemers[grantType] != nil }

// auditRevoked records that a grant ended before its time.
func (s *Server) auditRevoked(ctx context.Context, grantID, clientID, accountID, reason string) {
	s.audit.Record(ctx, audit.Event{
		Kind:      audit.GrantRevoked,
		GrantID:   grantID,
		ClientID:  clientID,
		AccountID: accountID,
		Reason:    reason,
	})
}

var errNotOver = errors.New("the flow has not ended")
