package connectors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/github"
)

const (
	githubBase = "https://github.com"
	githubAPI  = "https://api.github.com"
	// githubAPIVersion pins the shape of the REST API's answers.
	githubAPIVersion = "2022-11-28"
	// emailsPerPage is GitHub's largest page.
	emailsPerPage = 100
	// maxEmailPages bounds how long a list of addresses is read to its primary one. GitHub
	// puts it first in practice, and no person has a thousand.
	maxEmailPages = 10
)

// githubConnector signs people in with github.com or a GitHub Enterprise host: OAuth 2.0
// and the REST API. GitHub issues no ID tokens to OAuth apps.
type githubConnector struct {
	base
	baseURL    string // the issuer of its identities
	issuer     string // what the iss of a callback says
	authorize  string
	token      *url.URL
	api        *url.URL
	trustEmail bool
	wanted     []string // scopes
}

func newGitHub(b base) (Connector, error) {
	s := b.settings
	problems := s.only("base_url", "api_url", "trust_email")
	at, err := endpoint("base_url", s.BaseURL, githubBase)
	problems = append(problems, err)
	otherwise := githubAPI
	if at != githubBase {
		otherwise = at + "/api/v3" // Enterprise Server
	}
	api, err := endpoint("api_url", s.APIURL, otherwise)
	problems = append(problems, err)
	if at == githubBase && api != githubAPI && err == nil {
		// Tokens of github.com would go to, and identities of github.com come from, another host.
		problems = append(problems, errors.New("api_url: needs a base_url other than "+githubBase))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if b.info.DisplayName == "" {
		b.info.DisplayName = "GitHub"
	}
	c := &githubConnector{
		base:      b,
		baseURL:   at,
		issuer:    at + "/login/oauth",
		authorize: at + "/login/oauth/authorize",
		// github.com mails a link before it calls an address verified. Enterprise Server has no
		// such step: its administrators and directories write what they like.
		trustEmail: at == githubBase || s.TrustEmail,
		wanted:     b.scopes("read:user", "user:email"),
	}
	if c.token, err = url.Parse(at + "/login/oauth/access_token"); err != nil {
		return nil, err
	}
	if c.api, err = url.Parse(api); err != nil {
		return nil, err
	}
	return c, nil
}

// provider is goth's side of one trip, made anew for each (see facebookConnector). It is
// told no scopes: with user:email among them goth reads the addresses itself, but only
// where the profile shows no public one, which it trusts instead.
func (c *githubConnector) provider(trip Trip) *github.Provider {
	return github.NewCustomisedURL(c.settings.ClientID, c.settings.ClientSecret, trip.RedirectURI,
		c.authorize, c.token.String(), c.api.JoinPath("user").String(), c.api.JoinPath("user", "emails").String())
}

// AuthorizeURL implements [Connector]. It does no IO.
func (c *githubConnector) AuthorizeURL(_ context.Context, trip Trip) (string, error) {
	if e := c.checkTrip(trip, false, true); e != nil {
		return "", e
	}
	session, err := c.provider(trip).BeginAuth(trip.State)
	if err != nil {
		return "", asError(err, c.info.Name, Misconfigured)
	}
	query, err := queryOf(session)
	if err != nil {
		return "", asError(err, c.info.Name, Misconfigured)
	}
	query.Set("scope", strings.Join(c.wanted, " ")) // never omitted: GitHub would reuse what was granted before
	query.Set("code_challenge", challenge(trip.Verifier))
	query.Set("code_challenge_method", "S256")
	if login := hint(trip.LoginHint); login != "" {
		query.Set("login", login)
	}
	if trip.Prompt == "login" || trip.Prompt == "select_account" {
		query.Set("prompt", "select_account") // GitHub has no prompt=login
	}
	return c.authorize + "?" + query.Encode(), nil
}

// Exchange implements [Connector].
func (c *githubConnector) Exchange(ctx context.Context, trip Trip, callback url.Values) (*Profile, error) {
	if e := c.checkTrip(trip, false, true); e != nil {
		return nil, e
	}
	// GitHub has sent iss since April 2026, and not always: checked where it is, not required.
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
			return tokenRequest(req, c.token, c.settings.ClientID, c.settings.ClientSecret, trip.Verifier)
		},
		judge: func(a answer) *Error { return judgeToken(a, code, trip.Verifier, c.settings.ClientSecret) },
	}).client()
	session := &github.Session{}
	accessToken, err := session.Authorize(p, url.Values{"code": {code}})
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}

	api := &caller{
		ctx: ctx, base: c.transport, connector: c.info.Name,
		prepare: func(req *http.Request) error {
			req.Header.Set("Accept", "application/vnd.github+json")
			req.Header.Set("X-GitHub-Api-Version", githubAPIVersion)
			req.Header.Set("Authorization", "Bearer "+accessToken)
			return nil
		},
		judge: func(a answer) *Error { return judgeGitHub(a, accessToken) },
	}
	p.HTTPClient = api.client()
	user, err := p.FetchUser(session)
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}
	// goth's UserID comes from an integer; its RawData hold a float64, which rounds ids above 2^53.
	if id, err := strconv.ParseInt(user.UserID, 10, 64); err != nil || id <= 0 {
		return nil, c.fail(Malformed, "the profile has no user id")
	}
	// goth could read the addresses only instead of a public one, from the first page, and
	// failing without a verified one; so this step is ours.
	email, verified, err := c.primaryEmail(api)
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}
	profile := &Profile{
		Issuer:        c.baseURL,
		Subject:       user.UserID,
		Email:         email,
		EmailVerified: verified && c.trustEmail,
		Name:          user.Name,
		Username:      user.NickName,
		Picture:       user.AvatarURL,
	}
	if err := profile.tidy(); err != nil {
		return nil, c.fail(Malformed, "%w", err)
	}
	return profile, nil
}

// githubEmail is one entry of /user/emails.
type githubEmail struct {
	Email    string `json:"email"`
	Primary  bool   `json:"primary"`
	Verified bool   `json:"verified"`
}

// primaryEmail reads the list of addresses, page by page, to the primary one. The address
// on the profile is a public ornament and is not looked at.
func (c *githubConnector) primaryEmail(api *caller) (string, bool, error) {
	next := c.api.JoinPath("user", "emails")
	next.RawQuery = "per_page=" + strconv.Itoa(emailsPerPage)
	for range maxEmailPages {
		a, err := api.get(next.String())
		if err != nil {
			return "", false, err
		}
		var list []githubEmail
		if err := json.Unmarshal(a.body, &list); err != nil {
			return "", false, c.fail(Malformed, "the list of addresses is not one")
		}
		if e, ok := pickEmail(list); ok {
			return e.Email, e.Verified, nil
		}
		if next, err = nextPage(next, a.header.Values("Link")); err != nil {
			return "", false, c.fail(Malformed, "the next page of addresses: %w", err)
		}
		if next == nil {
			return "", false, nil
		}
	}
	return "", false, nil
}

// pickEmail is the primary address of a list. A noreply address is none: mail to it goes nowhere.
func pickEmail(list []githubEmail) (githubEmail, bool) {
	for _, e := range list {
		_, domain, _ := strings.Cut(strings.ToLower(e.Email), "@")
		if e.Primary && !strings.HasPrefix(domain, "users.noreply.") {
			return e, true
		}
	}
	return githubEmail{}, false
}

// nextPage is the rel="next" of Link headers (RFC 8288 section 3), or nil. It has to be the
// same list on the same host: the token goes there too.
func nextPage(current *url.URL, links []string) (*url.URL, error) {
	for _, link := range strings.Split(strings.Join(links, ","), ",") {
		target, parameters, _ := strings.Cut(link, ";")
		target = strings.TrimSpace(target)
		if !strings.HasPrefix(target, "<") || !strings.HasSuffix(target, ">") {
			continue
		}
		if !hasRelNext(parameters) {
			continue
		}
		next, err := current.Parse(target[1 : len(target)-1])
		if err != nil {
			return nil, errors.New("is not a URL")
		}
		if next.Scheme != current.Scheme || next.Host != current.Host || next.Path != current.Path || next.User != nil {
			return nil, fmt.Errorf("is elsewhere, at %s", trimmed(place(next), maxDescription))
		}
		return next, nil
	}
	return nil, nil
}

func hasRelNext(parameters string) bool {
	for _, p := range strings.Split(parameters, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(key, "rel") && strings.Trim(value, `"`) == "next" {
			return true
		}
	}
	return false
}

// judgeGitHub judges an answer of the REST API.
func judgeGitHub(a answer, secrets ...string) *Error {
	if a.status == http.StatusOK {
		return nil
	}
	var body struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.body, &body) // for the log alone: an answer without a message is judged by its status
	e := &Error{Kind: kindOfStatus(a.status), UpstreamCode: strconv.Itoa(a.status), Err: describe("GitHub reported an error", body.Message, secrets...)}
	limited := a.header.Get("X-RateLimit-Remaining") == "0" || a.header.Get("Retry-After") != "" ||
		strings.Contains(strings.ToLower(body.Message), "rate limit")
	switch {
	case a.status == http.StatusForbidden && limited:
		e.Kind = RateLimited
	case a.status == http.StatusUnauthorized:
		e.Kind = Expired // a token of a moment ago, revoked meanwhile
	case a.status == http.StatusForbidden, a.status == http.StatusNotFound:
		e.Kind = Misconfigured // the scope user:email, or a GitHub App's permission, is missing
	}
	return e
}

// queryOf is the query of the URL that goth made for a login.
func queryOf(session goth.Session) (url.Values, error) {
	raw, err := session.GetAuthURL()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("goth made no URL")
	}
	return u.Query(), nil
}
