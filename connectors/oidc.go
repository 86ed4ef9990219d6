package connectors

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// clockLeeway is how far a provider's clock may be from ours when the times in an ID token
// are judged (OpenID Connect Core section 3.1.3.7 leaves the size to us; RFC 7519 section
// 4.1.4: no more than a few minutes).
const clockLeeway = time.Minute

// amrMFA says that a sign-in took more than one factor (RFC 8176 section 2).
const amrMFA = "mfa"

// openID is a connector for an OpenID provider: the generic one, and Google's by other
// values in its fields. It is not changed once made.
type openID struct {
	base
	issuer string
	// legacyIssuer is another spelling of the issuer that ID tokens may have; "" for none.
	legacyIssuer string
	wanted       []string // scopes
	algs         []string // what ID tokens may be signed with, before metadata narrow it
	// hints are the provider's parameters for what a trip asks.
	hints func(Trip) url.Values
	// decide sets what the provider is an authority for, and refuses whom the operator does not let in.
	decide func(claims, *Profile) *Error

	metadata discovery
}

// newOIDC makes the connector for any OpenID provider that publishes metadata.
func newOIDC(b base) (Connector, error) {
	s := b.settings
	problems := s.only("issuer", "trust_email", "userinfo", "auth_style", "mfa_acr_values")
	if !slices.Contains([]string{"", "basic", "post", "none"}, s.AuthStyle) {
		problems = append(problems, errors.New("auth_style: must be basic, post or none"))
	}
	mfaACRValues := strings.Join(s.MFAACRValues, " ") // as a parameter (OpenID Connect Core section 3.1.2.1)
	if hint(mfaACRValues) == "" && len(s.MFAACRValues) > 0 || len(strings.Fields(mfaACRValues)) != len(s.MFAACRValues) {
		problems = append(problems, fmt.Errorf("mfa_acr_values: must be acr values without spaces, of %d bytes together", maxHint))
	}
	// The issuer is kept as it is written: it is compared byte by byte, a slash at its end included.
	if _, err := endpoint("issuer", s.Issuer, ""); err != nil {
		problems = append(problems, err)
	}
	if b.info.DisplayName == "" {
		b.info.DisplayName = b.info.Name
	}
	return newOpenID(&openID{
		base:   b,
		issuer: s.Issuer,
		algs:   signingAlgs,
		hints: func(t Trip) url.Values {
			// OpenID Connect Core section 3.1.2.1; an empty value is not sent.
			v := url.Values{"login_hint": {t.LoginHint}, "prompt": {t.Prompt}, "ui_locales": {t.UILocales}}
			if t.MultiFactor {
				v.Set("acr_values", mfaACRValues)
			}
			return v
		},
		decide: func(c claims, p *Profile) *Error {
			p.EmailVerified = s.TrustEmail && bool(c.EmailVerified)
			if slices.Contains(s.MFAACRValues, string(c.ACR)) && !slices.Contains(p.AMR, amrMFA) {
				p.AMR = append([]string{amrMFA}, p.AMR...) // in front, since tidy bounds their number
			}
			return nil
		},
	}, problems)
}

func newOpenID(c *openID, problems []error) (Connector, error) {
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	c.wanted = c.scopes(oidc.ScopeOpenID, oidc.ScopeEmail, oidc.ScopeProfile)
	if !slices.Contains(c.wanted, oidc.ScopeOpenID) {
		c.wanted = append([]string{oidc.ScopeOpenID}, c.wanted...)
	}
	c.metadata.now, c.metadata.fetch = c.now, c.discover
	return c, nil
}

// AuthorizeURL implements [Connector].
func (c *openID) AuthorizeURL(ctx context.Context, trip Trip) (string, error) {
	if e := c.checkTrip(trip, true, true); e != nil {
		return "", e
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	m, err := c.metadata.get(ctx)
	if err != nil {
		return "", asError(err, c.info.Name, Unavailable)
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(trip.Nonce), oauth2.S256ChallengeOption(trip.Verifier)}
	for key, values := range c.hints(trip) {
		if value := hint(values[0]); value != "" {
			options = append(options, oauth2.SetAuthURLParam(key, value))
		}
	}
	return c.oauth(m, trip).AuthCodeURL(trip.State, options...), nil
}

// Exchange implements [Connector].
func (c *openID) Exchange(ctx context.Context, trip Trip, callback url.Values) (*Profile, error) {
	if e := c.checkTrip(trip, true, true); e != nil {
		return nil, e
	}
	code, e := judgeCallback(callback, c.issuer)
	if e != nil {
		return nil, c.named(e)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	m, err := c.metadata.get(ctx)
	if err != nil {
		return nil, asError(err, c.info.Name, Unavailable)
	}
	if m.issuerParam && !callback.Has("iss") {
		// RFC 9207 section 2.4. An error response without iss was reported as the error that it
		// is: nothing is sent anywhere for it, and who pressed "cancel" is not told of an attack.
		return nil, c.fail(Untrusted, "the callback has no iss, and the provider says that it always sends it")
	}
	token, e := c.redeem(ctx, m, trip, code)
	if e != nil {
		return nil, e
	}
	claims, e := c.verify(ctx, m, trip, token)
	if e != nil {
		return nil, e
	}
	if c.settings.UserInfo && m.userInfoURL != "" && (claims.Email == "" || claims.Name == "") {
		if e := c.addUserInfo(ctx, m, token.AccessToken, claims); e != nil {
			return nil, e
		}
	}
	return c.profile(claims)
}

// oauth is the x/oauth2 side of a trip. The style is always explicit: left unset, x/oauth2
// finds it out by sending the code twice.
func (c *openID) oauth(m *metadata, trip Trip) *oauth2.Config {
	style := oauth2.AuthStyleInHeader
	if c.settings.AuthStyle == "post" || c.settings.AuthStyle == "none" || c.settings.AuthStyle == "" && m.post && !m.basic {
		style = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID:     c.settings.ClientID,
		ClientSecret: c.settings.ClientSecret,
		Endpoint:     oauth2.Endpoint{AuthURL: m.authURL, TokenURL: m.tokenURL, AuthStyle: style},
		RedirectURL:  trip.RedirectURI,
		Scopes:       c.wanted,
	}
}

// redeem sends the code, once.
func (c *openID) redeem(ctx context.Context, m *metadata, trip Trip, code string) (*oauth2.Token, *Error) {
	step := &caller{
		ctx: ctx, base: c.transport, connector: c.info.Name, once: true,
		prepare: func(req *http.Request) error {
			req.Header.Set("Accept", "application/json")
			return nil
		},
		judge: func(a answer) *Error {
			return judgeToken(a, code, trip.Verifier, c.settings.ClientSecret)
		},
	}
	token, err := c.oauth(m, trip).Exchange(oidc.ClientContext(ctx, step.client()), code, oauth2.VerifierOption(trip.Verifier))
	if err != nil {
		return nil, asError(err, c.info.Name, Malformed)
	}
	return token, nil
}

// verify checks the ID token (OpenID Connect Core section 3.1.3.7). go-oidc checks
// signature, algorithm, audience and expiry; what it leaves to its caller is here.
func (c *openID) verify(ctx context.Context, m *metadata, trip Trip, token *oauth2.Token) (*claims, *Error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, c.fail(Malformed, "the token answer has no id_token")
	}
	now := c.now()
	keys := &watchedKeys{KeySet: m.keys}
	verifier := oidc.NewVerifier(c.issuer, keys, &oidc.Config{
		ClientID:             c.settings.ClientID,
		SupportedSigningAlgs: m.algs,
		SkipIssuerCheck:      true, // below: go-oidc lets Google's legacy form pass for every type
		Now:                  func() time.Time { return now.Add(-clockLeeway) },
	})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		if keys.unread != nil {
			return nil, asError(keys.unread, c.info.Name, Malformed)
		}
		return nil, c.fail(Untrusted, "the ID token: %w", err)
	}
	if id.Issuer != c.issuer && (c.legacyIssuer == "" || id.Issuer != c.legacyIssuer) {
		return nil, c.fail(Untrusted, "the ID token is of issuer %q, not of %q", trimmed(id.Issuer, maxDescription), c.issuer)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(trip.Nonce)) != 1 {
		// A token of another trip: replayed, or its code injected into this one.
		return nil, c.fail(Untrusted, "the ID token's nonce is not this trip's")
	}
	var cl claims
	if err := id.Claims(&cl); err != nil {
		return nil, c.fail(Malformed, "the ID token's claims are not of the expected shape")
	}
	if cl.AuthorizedParty == "" && len(id.Audience) > 1 || cl.AuthorizedParty != "" && string(cl.AuthorizedParty) != c.settings.ClientID {
		// Items 4 and 5: a token made for another client that only lists ours as an audience.
		return nil, c.fail(Untrusted, "the ID token was issued to another party (azp)")
	}
	if id.IssuedAt.Unix() <= 0 {
		return nil, c.fail(Malformed, "the ID token has no iat")
	}
	if id.IssuedAt.After(now.Add(clockLeeway)) {
		return nil, c.fail(Untrusted, "the ID token is from the future: check the clocks")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, c.fail(Untrusted, "the ID token's at_hash: %w", err)
		}
	}
	return &cl, nil
}

// watchedKeys remembers that the keys could not be read, which go-oidc flattens into the
// same text as a wrong signature. One is made per verification.
type watchedKeys struct {
	oidc.KeySet
	unread error
}

// VerifySignature implements [oidc.KeySet].
func (k *watchedKeys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, jwt)
	var e *Error
	if errors.As(err, &e) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		k.unread = err
	}
	return payload, err
}

// addUserInfo adds the userinfo endpoint's claims to those the ID token lacks (OpenID
// Connect Core section 5.3).
func (c *openID) addUserInfo(ctx context.Context, m *metadata, accessToken string, cl *claims) *Error {
	step := &caller{
		ctx: ctx, base: c.transport, connector: c.info.Name,
		prepare: func(req *http.Request) error {
			req.Header.Set("Accept", "application/json")
			req.Header.Set("Authorization", "Bearer "+accessToken)
			return nil
		},
		judge: func(a answer) *Error {
			if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
				// A token of a moment ago: revoked meanwhile, or without the scope.
				return &Error{Kind: Expired, Err: errors.New("the access token was not accepted")}
			}
			return judgeDocument(a)
		},
	}
	a, err := step.get(m.userInfoURL)
	if err != nil {
		return asError(err, c.info.Name, Malformed)
	}
	var more claims
	if err := json.Unmarshal(a.body, &more); err != nil {
		return c.fail(Malformed, "userinfo is not a JSON object of the expected shape")
	}
	if more.Subject == "" || more.Subject != cl.Subject {
		// Section 5.3.2: token substitution. Nothing of the answer may be used.
		return c.fail(Untrusted, "userinfo is about another sub than the ID token")
	}
	cl.merge(more)
	return nil
}

func (c *openID) profile(cl *claims) (*Profile, error) {
	p := &Profile{
		Issuer:     c.issuer, // the one spelling, whatever the token had
		Subject:    string(cl.Subject),
		Email:      string(cl.Email),
		Name:       string(cl.Name),
		GivenName:  string(cl.GivenName),
		FamilyName: string(cl.FamilyName),
		Username:   string(cl.Username),
		Picture:    string(cl.Picture),
		Locale:     string(cl.Locale),
		AuthTime:   time.Time(cl.AuthTime),
		AMR:        cl.AMR,
	}
	if e := c.decide(*cl, p); e != nil {
		return nil, c.named(e)
	}
	if err := p.tidy(); err != nil {
		return nil, c.fail(Malformed, "%w", err)
	}
	return p, nil
}

// claims are those of an ID token or of userinfo (OpenID Connect Core section 5.1). Optional
// ones of another type than they should have count as absent: a login does not fail
// because a provider writes a null or a number where a name should be.
type claims struct {
	Subject         text     `json:"sub"`
	AuthorizedParty azp      `json:"azp"`
	Email           text     `json:"email"`
	EmailVerified   flag     `json:"email_verified"`
	Name            text     `json:"name"`
	GivenName       text     `json:"given_name"`
	FamilyName      text     `json:"family_name"`
	Username        text     `json:"preferred_username"`
	Picture         text     `json:"picture"`
	Locale          text     `json:"locale"`
	HostedDomain    text     `json:"hd"`
	AuthTime        instant  `json:"auth_time"`
	AMR             wordList `json:"amr"`
	ACR             text     `json:"acr"`
}

// UnmarshalJSON reads claims by their exact names (RFC 7519 section 4). encoding/json goes by no case: it would take SUB, or a name with a letter
// that folds to one of ours, for sub, and somebody who may name a claim of their own at a provider for anybody else.
func (c *claims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) // which none of ours has
	})
	exact, err := json.Marshal(all)
	if err != nil {
		return err
	}
	type plain claims
	return json.Unmarshal(exact, (*plain)(c))
}

// merge takes what is missing from another source. An address and whether it is verified
// come from one source together.
func (c *claims) merge(more claims) {
	if c.Email == "" {
		c.Email, c.EmailVerified = more.Email, more.EmailVerified
	}
	for _, f := range []struct{ to, from *text }{
		{&c.Name, &more.Name},
		{&c.GivenName, &more.GivenName},
		{&c.FamilyName, &more.FamilyName},
		{&c.Username, &more.Username},
		{&c.Picture, &more.Picture},
		{&c.Locale, &more.Locale},
	} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
}

// text is a string claim; anything else is "".
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = ""
	}
	*t = text(s)
	return nil
}

// azp is the authorized party. It is a check, so unlike text it fails on another type
// rather than counting as absent.
type azp string

// UnmarshalJSON implements json.Unmarshaler.
func (a *azp) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("azp: %w", err)
	}
	*a = azp(s)
	return nil
}

// flag is a boolean claim, which some providers (AWS Cognito, Apple) write as a string; anything else is false.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(b []byte) error {
	*f = flag(strings.EqualFold(strings.Trim(string(b), `"`), "true"))
	return nil
}

// instant is a NumericDate (RFC 7519 section 2); anything else, and anything outside of
// what a clock could say, is the zero time.
type instant time.Time

// UnmarshalJSON implements json.Unmarshaler.
func (i *instant) UnmarshalJSON(b []byte) error {
	var n float64
	*i = instant{}
	if json.Unmarshal(b, &n) == nil && n > 0 && n < 1<<40 {
		*i = instant(time.Unix(int64(n), 0).UTC())
	}
	return nil
}

// wordList is a list of strings, or one string; anything else is empty.
type wordList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *wordList) UnmarshalJSON(b []byte) error {
	var many []string
	var one string
	switch {
	case json.Unmarshal(b, &many) == nil:
	case json.Unmarshal(b, &one) == nil && one != "":
		many = []string{one}
	default:
		many = nil
	}
	*l = nil
	for _, word := range many {
		if word = plainText(word); word != "" {
			*l = append(*l, word)
		}
	}
	return nil
}
