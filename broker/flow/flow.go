// Package flow keeps attempts to authorize a client: one document from the app's
// first request to the redemption of its code.
//
// broker/oauth begins a flow and answers the app when it ends; broker/signin moves it
// along. A flow says what was asked, which browser asked it, which step comes next, and
// how it ended. It may not know how a step is done.
//
// A step reads the flow, does one thing, and writes it back by compare-and-swap; what comes
// next is always read from the stored step. So a reload, the back button or a second tab can
// repeat a page, but never a decision.
package flow

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Step is what has to happen next.
type Step string

// The steps of a flow. Choose and Link and Consent wait for a person, Upstream for the
// provider; Done and Failed are ends.
const (
	Choose   Step = "choose"   // choose a provider
	Upstream Step = "upstream" // at the provider
	Link     Step = "link"     // an account with this email exists: prove it, or continue separately
	Consent  Step = "consent"  // say yes to the client's scopes
	Done     Step = "done"     // the app may have its code
	Failed   Step = "failed"   // the app may have its error
)

// Request is what the app asked for, judged and complete.
type Request struct {
	ClientID      string   `json:"client_id"`
	RedirectURI   string   `json:"redirect_uri"`
	ResponseMode  string   `json:"response_mode"` // query, fragment, form_post
	Scopes        []string `json:"scopes"`
	State         string   `json:"state,omitempty"`
	Nonce         string   `json:"nonce,omitempty"`
	CodeChallenge string   `json:"code_challenge,omitempty"` // S256, RFC 7636 section 4.2
	Prompt        []string `json:"prompt,omitempty"`
	MaxAge        *int64   `json:"max_age,omitempty"` // seconds
	LoginHint     string   `json:"login_hint,omitempty"`
	UILocales     string   `json:"ui_locales,omitempty"`
	IDPHint       string   `json:"idp_hint,omitempty"`
	// Resources are the audiences that tokens are to be for (RFC 8707 section 2.1).
	Resources []string `json:"resources,omitempty"`
	// Details is what the app asks for beyond scopes, as the JSON of authorization_details (RFC 9396 section 2).
	Details string `json:"authorization_details,omitempty"`
	// Claims are those asked for one by one, as the JSON of a claims parameter (OpenID Connect Core section 5.5).
	Claims string `json:"claims,omitempty"`
	// ACRValues are the ways to sign in that the app would like, the best first (OpenID Connect Core section 3.1.2.1).
	ACRValues []string `json:"acr_values,omitempty"`
	// DPoPJKT is the key that the code is bound to (RFC 9449 section 10).
	DPoPJKT string `json:"dpop_jkt,omitempty"`
	// Subject is the sub that id_token_hint named, as the app sees people; another one is not what it wants.
	Subject string `json:"subject,omitempty"`
	// ClaimScopes are the scopes that would let the client know as much as Claims.
	ClaimScopes []string `json:"claim_scopes,omitempty"`
	// ACREssential says that the app will have none but ACRValues.
	ACREssential bool `json:"acr_essential,omitempty"`
	// CodeSeconds, if not 0, is how long the code may live, where that is less than usual.
	CodeSeconds int64 `json:"code_seconds,omitempty"`
	// Once is set for a request that may be answered with one code only.
	Once *Once `json:"once,omitempty"`
}

// Once names a request that may be answered with one code only.
type Once struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"` // the last flow of the request has begun by then
	// Refusal is the error code that the app is told where a second code would be due.
	Refusal string `json:"refusal"`
}

// Trip is one journey to a provider. Its secrets stay here: only the state, and what
// derives from nonce and verifier, ever leaves.
type Trip struct {
	ID        string `json:"id"` // the random half of the state parameter
	Connector string `json:"connector"`
	Nonce     string `json:"nonce"`
	Verifier  string `json:"verifier"` // PKCE towards the provider
	// Reauthenticate says that the provider was asked to make the person prove themselves again.
	Reauthenticate bool `json:"reauthenticate,omitempty"`
	// Prove says that the person is proving an account they already have, to link Pending to it.
	Prove     bool      `json:"prove,omitempty"`
	StartedAt time.Time `json:"started_at"`
}

// SignIn is who signed in, and how.
type SignIn struct {
	AccountID string    `json:"account_id"`
	SessionID string    `json:"session_id"`
	Connector string    `json:"connector"`
	AuthTime  time.Time `json:"auth_time"`
	ACR       string    `json:"acr,omitempty"`
	AMR       []string  `json:"amr,omitempty"`
}

// Pending is an identity that nobody has yet, whose verified email some account holds.
type Pending struct {
	Connector string    `json:"connector"`
	Profile   Profile   `json:"profile"`
	Accounts  []string  `json:"accounts"`   // any of these may be proven
	ProveWith []string  `json:"prove_with"` // connectors that those accounts can sign in with
	AuthTime  time.Time `json:"auth_time"`
	AMR       []string  `json:"amr,omitempty"`
}

// Profile is an upstream profile as it waits in a flow.
type Profile struct {
	Issuer        string `json:"issuer"`
	Subject       string `json:"subject"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"`
	GivenName     string `json:"given_name,omitempty"`
	FamilyName    string `json:"family_name,omitempty"`
	Username      string `json:"username,omitempty"`
	Picture       string `json:"picture,omitempty"`
	Locale        string `json:"locale,omitempty"`
	HostedDomain  string `json:"hosted_domain,omitempty"`
}

// Failure is the error that the app is told (RFC 6749 section 4.1.2.1).
type Failure struct {
	Code        string `json:"code"`
	Description string `json:"description"`
}

// Device is the device authorization that a flow is to answer (RFC 8628).
type Device struct {
	Handle   string `json:"handle"`    // of the authorization
	UserCode string `json:"user_code"` // as the person gave it
	// Denied says that the person said no, as against a flow that ended before anybody said anything.
	Denied bool `json:"denied,omitempty"`
}

// Flow is one attempt to authorize a client.
type Flow struct {
	Request Request `json:"request"`
	// Device, if set, is where the answer goes: the request then has no redirect URI, and the flow's end no code.
	Device    *Device   `json:"device,omitempty"`
	Browser   string    `json:"browser"` // keyed digest of the browser cookie
	Step      Step      `json:"step"`
	CreatedAt time.Time `json:"created_at"`

	Trip    *Trip    `json:"trip,omitempty"`
	Pending *Pending `json:"pending,omitempty"`
	SignIn  *SignIn  `json:"sign_in,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// CodeIssuedAt is when the flow became Done, from which the code's lifetime counts.
	CodeIssuedAt time.Time `json:"code_issued_at,omitzero"`

	// granted says that this very request ended the flow with a code. It is never stored.
	granted bool
}

// Doc is a stored flow. Its id is the id of the grant that may come of it.
type Doc = store.Doc[Flow]

// ErrTripOver says that the state names a trip that has ended or was replaced by another.
var ErrTripOver = errors.New("the trip's state was used already or replaced by another trip")

// stateSeparator parts flow id and trip id in the state parameter; ids never hold it.
const stateSeparator = "."

// State is the state parameter that travels with the flow's current trip.
func State(flowID string, t *Trip) string { return flowID + stateSeparator + t.ID }

// ParseState is the flow id in a state parameter, or false if it is no state of ours.
func ParseState(state string) (flowID, tripID string, ok bool) {
	if len(state) > store.MaxIDBytes {
		return "", "", false
	}
	flowID, tripID, ok = strings.Cut(state, stateSeparator)
	return flowID, tripID, ok && flowID != "" && tripID != ""
}

// BeginTrip sends the flow upstream. An earlier trip's state is worthless from then on.
func (f *Flow) BeginTrip(t *Trip) {
	f.Trip = t
	f.Step = Upstream
}

// EndTrip takes the trip out of the flow, so that its state, nonce and verifier serve
// once, if it is the trip that tripID and connector name. ErrTripOver otherwise. The connector is part of
// the check because state alone would let one provider's answer arrive as another's
// (the mix-up attack, RFC 9700 section 4.4).
func (f *Flow) EndTrip(tripID, connector string) (*Trip, error) {
	t := f.Trip
	if f.Step != Upstream || t == nil || t.Connector != connector ||
		subtle.ConstantTimeCompare([]byte(t.ID), []byte(tripID)) != 1 {
		return nil, ErrTripOver
	}
	f.Trip = nil
	f.Step = Choose
	if t.Prove {
		f.Step = Link
	}
	return t, nil
}

// SignedIn records who signed in. The next step is consent, or the end.
func (f *Flow) SignedIn(s SignIn, needsConsent bool, now time.Time) {
	f.SignIn = &s
	f.Pending, f.Trip, f.Failure = nil, nil, nil
	if needsConsent {
		f.Step = Consent
		return
	}
	f.Grant(now)
}

// Grant ends the flow with a code.
func (f *Flow) Grant(now time.Time) {
	f.Step = Done
	f.CodeIssuedAt = now
	f.granted = true
}

// JustGranted says whether the flow ended with a code in this very request, so that nobody can have redeemed it yet.
func (f *Flow) JustGranted() bool { return f.granted }

// Fail ends the flow with an error for the app.
func (f *Flow) Fail(code, description string) {
	f.Step = Failed
	f.granted = false
	f.Trip, f.Pending = nil, nil
	f.Failure = &Failure{Code: code, Description: description}
}

// Over says whether the flow has ended.
func (f *Flow) Over() bool { return f.Step == Done || f.Step == Failed }

// Prompts says whether the app's prompt parameter holds value (OpenID Connect Core section 3.1.2.1).
func (r *Request) Prompts(value string) bool {
	for _, p := range r.Prompt {
		if p == value {
			return true
		}
	}
	return false
}

// Asked are the scopes that a person has to agree to: those of the scope parameter, and those that stand for single claims.
func (r *Request) Asked() []string {
	asked := r.Scopes
	for _, scope := range r.ClaimScopes {
		if !slices.Contains(asked, scope) {
			asked = append(asked[:len(asked):len(asked)], scope)
		}
	}
	return asked
}

// Flows keeps flows. Its methods may be called concurrently.
type Flows struct {
	docs     store.Collection[Flow]
	pushed   store.Collection[Pushed]
	uses     store.Collection[use]
	newID    func() string
	now      func() time.Time
	lifetime time.Duration
}

// New keeps flows in b. A flow that has not ended after lifetime is forgotten.
func New(b store.Backend, newID func() string, now func() time.Time, lifetime time.Duration) *Flows {
	return &Flows{
		docs:   store.NewCollection[Flow](b, "flows"),
		pushed: store.NewCollection[Pushed](b, "pushed_requests"),
		uses:   store.NewCollection[use](b, "request_uses"),
		newID:  newID, now: now, lifetime: lifetime,
	}
}

// Draft is a new flow that is not stored yet. Its id is set, so that its first trip can
// be planned before its one insert. A request that may be used once has one flow for each browser.
func (s *Flows) Draft(req Request, browser string) *Doc {
	now := s.now()
	id := ""
	if req.Once != nil {
		id = onceFlowID(req.Once.Name, browser)
	} else {
		id = s.newID()
	}
	return &Doc{
		Meta:  store.Meta{ID: id, Expires: now.Add(s.lifetime)},
		Value: Flow{Request: req, Browser: browser, Step: Choose, CreatedAt: now},
	}
}

// codeMemory is how long an ended flow is kept after its code was issued. Replays of the code are
// answered by the grant it became; the flow itself only has to outlive the longest code lifetime that
// may be configured (RFC 6749 section 4.1.2 recommends 10 minutes at most).
const codeMemory = 15 * time.Minute

// Save writes the flow: the first time an insert, later a compare-and-swap. store.ErrConflict if
// another request moved it meanwhile: read it again and continue from where it stands.
//
// A flow that would end with the second code of a request that may be used once fails instead, and is saved so.
func (s *Flows) Save(ctx context.Context, doc *Doc) error {
	f := &doc.Value
	if f.granted && f.Request.Once != nil {
		err := s.Use(ctx, doc.ID, f.Request.Once)
		if errors.Is(err, ErrUsed) {
			f.Fail(f.Request.Once.Refusal, "the authorization request was used before; send a new one")
		} else if err != nil {
			return err
		}
	}
	if f.Step == Done {
		doc.Expires = f.CodeIssuedAt.Add(codeMemory)
	}
	if doc.Rev > 0 {
		return s.docs.Replace(ctx, doc)
	}
	err := s.docs.Insert(ctx, doc)
	if errors.Is(err, store.ErrExists) { // this browser's flow of a request that it opened before
		return fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
	return err
}

// Get reads a flow by its id. store.ErrNotFound if there is none or it has expired.
func (s *Flows) Get(ctx context.Context, id string) (*Doc, error) { return s.docs.Get(ctx, id) }
