package connectors

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/markbates/goth/providers/facebook"
)

const (
	facebookDialog = "https://www.facebook.com"
	facebookGraph  = "https://graph.facebook.com"
	// facebookVersion is the Graph API version that this code was written against (July
	// 2026). Facebook keeps a version for about two years.
	facebookVersion = "v26.0"
	// facebookSubjects is the issuer of Facebook's identities.
	facebookSubjects = "https://www.facebook.com"
)

var graphVersionForm = regexp.MustCompile(`^v[1-9][0-9]{0,2}\.[0-9]$`)

// facebookConnector signs people in with Facebook: OAuth 2.0 and the Graph API, for its
// OpenID metadata name no token endpoint.
//
// No PKCE. Facebook documents it for its OpenID variant alone, as "still in testing"
// (developers.facebook.com/docs/facebook-login/guides/advanced/oidc-token), and others
// report (github.com/NangoHQ/nango/pull/7156, August 2026, v22.0 and v26.0) that the
// dialog drops code_challenge silently, after which the token endpoint refuses every code
// that comes with a code_verifier. What protects the code here: the state bound to the
// browser, the redirect URI and the app's secret, both of which the token endpoint checks,
// and that a code works once.
type facebookConnector struct {
	base
	issuer string
	dialog string // with version, without query
	token  *url.URL
	me     *url.URL
	wanted []string // scopes
}

func newFacebook(b base) (Connector, error) {
	s := b.settings
	problems := s.only("dialog_url", "graph_url", "graph_version")
	if s.TrustEmail {
		problems = append(problems, errors.New("trust_email: Facebook does not say whether an address is verified"))
	}
	dialog, err := endpoint("dialog_url", s.DialogURL, facebookDialog)
	problems = append(problems, err)
	graph, err := endpoint("graph_url", s.GraphURL, facebookGraph)
	problems = append(problems, err)
	version := s.GraphVersion
	if version == "" {
		version = facebookVersion
	}
	if !graphVersionForm.MatchString(version) {
		problems = append(problems, errors.New("graph_version: must look like v26.0"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if b.info.DisplayName == "" {
		b.info.DisplayName = "Facebook"
	}
	c := &facebookConnector{base: b, issuer: facebookSubjects, wanted: b.scopes("email", "public_profile")}
	if dialog != facebookDialog {
		c.issuer = dialog // a simulator's people are not Facebook's
	}
	c.dialog = dialog + "/" + version + "/dialog/oauth"
	if c.token, err = url.Parse(graph + "/" + version + "/oauth/access_token"); err != nil {
		return nil, err
	}
	if c.me, err = url.Parse(graph + "/" + version + "/me"); err != nil {
		return nil, err
	}
	return c, nil
}

// provider is goth's side of one trip. It is made anew for each: it carries the trip's HTTP
// client, and goth's registry of providers, which is one for the process, is not used.
func (c *facebookConnector) provider(trip Trip) *facebook.Provider {
	return facebook.New(c.settings.ClientID, c.settings.ClientSecret, trip.RedirectURI).
		SetCustomFields([]string{"id", "name", "first_name", "last_name", "email", "picture"})
}

// AuthorizeURL implements [Connector]. It does no IO.
func (c *facebookConnector) AuthorizeURL(_ context.Context, trip Trip) (string, error) {
	if e := c.checkTrip(trip, false, false); e != nil {
		return "", e
	}
	p := c.provider(trip)
	session, err := p.BeginAuth(trip.State)
	if err != nil {
		return "", asError(err, c.info.Name, Misconfigured)
	}
	query, err := queryOf(session)
	if err != nil {
		return "", asError(err, c.info.Name, Misconfigured)
	}
	query.Set("scope", strings.Join(c.wanted, " "))
	if trip.Prompt == "login" {
		query.Set("auth_type", "reauthenticate")
	}
	// No login_hint, account chooser or locale: the dialog takes none.
	return c.dialog + "?" + query.Encode(), nil
}

// Exchange implements [Connector].
func (c *facebookConnector) Exchange(ctx context.Context, trip Trip, callback url.Values) (*Profile, error) {
	if e := c.checkTrip(trip, false, false); e != nil {
		return nil, e
	}
	code, e := judgeCallback(callback, c.issuer)
	if e != nil {
		return nil, c.named(e)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	p := c.provider(trip)
	p.HTTPClient = (&caller{
		ctx: ctx, base: c.transport, connector: c.info.Name, once: true,
		prepare: func(req *http.Request) error {
			return tokenRequest(req, c.token, c.settings.ClientID, c.settings.ClientSecret, "")
		},
		judge: func(a answer) *Error {
			if e := judgeFacebook(a, facebookToken, code, c.settings.ClientSecret); e != nil {
				return e
			}
			return judgeToken(a, code, c.settings.ClientSecret)
		},
	}).client()
	session := &facebook.Session{}
	accessToken, err := session.Authorize(p, url.Values{"code": {code}})
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}

	p.HTTPClient = (&caller{
		ctx: ctx, base: c.transport, connector: c.info.Name,
		prepare: func(req *http.Request) error {
			// goth's URL is a constant without version; its query has fields, token and appsecret_proof.
			if req.Method != http.MethodGet || req.URL.Host != "graph.facebook.com" || req.URL.Path != "/me" {
				return errors.New("not the request for the profile")
			}
			u := *c.me
			u.RawQuery = req.URL.RawQuery
			req.URL, req.Host = &u, u.Host
			req.Header.Set("Accept", "application/json")
			return nil
		},
		judge: func(a answer) *Error {
			if e := judgeFacebook(a, facebookProfile, accessToken, c.settings.ClientSecret); e != nil {
				return e
			}
			return judgeDocument(a)
		},
	}).client()
	user, err := p.FetchUser(session)
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}
	profile := &Profile{
		Issuer:  c.issuer,
		Subject: user.UserID,
		// Absent where Facebook has none, and never verified: it has no flag that says so.
		Email:      user.Email,
		Name:       user.Name,
		GivenName:  user.FirstName,
		FamilyName: user.LastName,
		Picture:    user.AvatarURL,
	}
	if err := profile.tidy(); err != nil {
		return nil, c.fail(Malformed, "%w", err)
	}
	return profile, nil
}

// facebookStep is which call failed: code 1 means another thing at each.
type facebookStep string

const (
	facebookToken   facebookStep = "token"
	facebookProfile facebookStep = "profile"
)

// facebookError is the error object that Facebook nests, where OAuth (RFC 6749 section 5.2) has a string.
type facebookError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    int    `json:"code"`
	Subcode int    `json:"error_subcode"`
}

// judgeFacebook is the error that an answer carries, or nil if it has none. The status says
// little: most errors are 400, and some come with 200.
func judgeFacebook(a answer, step facebookStep, secrets ...string) *Error {
	var body struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(a.body, &body) != nil || len(body.Error) == 0 || body.Error[0] != '{' {
		return nil
	}
	var fe facebookError
	if json.Unmarshal(body.Error, &fe) != nil {
		return &Error{Kind: kindOfStatus(a.status), Err: errors.New("an error object of an unknown shape")}
	}
	code := strconv.Itoa(fe.Code)
	if fe.Subcode != 0 {
		code += "/" + strconv.Itoa(fe.Subcode)
	}
	return &Error{Kind: kindOfFacebook(fe, step, a.status), UpstreamCode: code, Err: describe("Facebook reported an error", fe.Message, secrets...)}
}

// kindOfFacebook classifies Facebook's error codes.
func kindOfFacebook(fe facebookError, step facebookStep, status int) Kind {
	switch fe.Subcode {
	case 36007, 36009: // the code expired, was used
		return Expired
	case 36008: // the redirect URI is not the dialog's
		return Misconfigured
	case 458: // the person removed the app
		return Denied
	}
	switch fe.Code {
	case 1: // at the token endpoint a wrong secret; elsewhere "unknown", which passes
		if step == facebookToken {
			return Misconfigured
		}
		return Unavailable
	case 2: // the service is down
		return Unavailable
	case 4, 17, 32, 341, 613: // request limits of the app, the user, the page, temporary, custom
		return RateLimited
	case 101, 191, 3, 10: // app id, redirect URI outside the app's domains, capability, permission
		return Misconfigured
	case 190, 102, 463, 467: // the access token ended
		return Expired
	case 100:
		// An invalid parameter: a code that never was one has no subcode, only its sentence.
		if step == facebookToken && strings.Contains(strings.ToLower(fe.Message), "verification code") {
			return Expired
		}
		return Misconfigured // such as appsecret_proof, fields
	}
	if fe.Code >= 200 && fe.Code <= 299 { // permissions
		return Misconfigured
	}
	return kindOfStatus(status)
}
