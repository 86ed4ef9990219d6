package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/dpop"
	"github.com/portico-id/portico/broker/token"
)

// issuance is what a grant type decided may be issued.
type issuance struct {
	// grant is what the tokens hang on; nil where no account stands behind them (client credentials), and where origin names it.
	grant *grant.Doc
	// account is whom they speak for; nil for the client itself.
	account *identity.Account
	// target is what the access token is for, as policy.target decided it.
	target *target
	// scopes are those asked of the grant, whatever the access token is for: with openid there is an ID token, which says what they allow.
	scopes []string
	nonce  string
	// binding is what the access token is bound to. answerToken sets it.
	binding senderKey
	// idTokenKey is what the ID token is encrypted for; nil: it is not. answerToken sets it.
	idTokenKey *jose.JSONWebKey
	// origin is the access token that was exchanged: what comes of it hangs on the same grant, and is an access token alone.
	origin *token.Access
	actor  string // JSON of an act claim (RFC 8693 section 4.1), or ""
}

// tokenResponse is RFC 6749 section 5.1 with OpenID Connect Core section 3.1.3.3.
type tokenResponse struct {
	AccessToken  string          `json:"access_token"`
	TokenType    string          `json:"token_type"`
	ExpiresIn    int64           `json:"expires_in"`
	RefreshToken string          `json:"refresh_token,omitempty"`
	IDToken      string          `json:"id_token,omitempty"`
	Scope        string          `json:"scope,omitempty"`
	Details      json.RawMessage `json:"authorization_details,omitempty"` // RFC 9396 section 7
	IssuedType   string          `json:"issued_token_type,omitempty"`     // RFC 8693 section 2.2.1
}

// issue mints the tokens. It writes nothing: the grant is the only state there is.
func (s *Server) issue(client *registry.Client, i *issuance) (*tokenResponse, error) {
	now := s.now()
	say := &token.Access{
		ID:             token.NewID(),
		ClientID:       client.ID,
		Subject:        client.ID,
		Scopes:         i.target.scopes,
		Audience:       i.target.audience,
		IssuedAt:       now,
		ExpiresAt:      now.Add(i.target.lifetime),
		KeyThumbprint:  i.binding.jkt,
		CertThumbprint: i.binding.certThumbprint,
		Actor:          i.actor,
		Details:        i.target.details.String(),
		Algorithm:      i.target.alg,
	}
	if i.grant != nil {
		say.GrantID, say.AuthTime, say.ACR = i.grant.ID, i.grant.Value.AuthTime, i.grant.Value.ACR
		say.Subject = s.subject(client, i.account.ID)
	}
	if i.origin != nil {
		say.ID = i.origin.ID + exchangeSeparator + say.ID
		say.GrantID, say.AuthTime, say.ACR = i.origin.GrantID, i.origin.AuthTime, i.origin.ACR
		say.Subject = i.origin.Subject
		if i.account != nil {
			say.Subject = s.subject(client, i.account.ID)
		}
	}
	access, err := s.access.Issue(i.target.format, say)
	if err != nil {
		return nil, internal(err)
	}
	response := &tokenResponse{
		AccessToken: access,
		TokenType:   tokenType(i.binding.jkt),
		ExpiresIn:   int64(i.target.lifetime / time.Second),
		Scope:       strings.Join(i.target.scopes, " "),
		Details:     json.RawMessage(say.Details),
	}
	if i.origin != nil {
		response.IssuedType = tokenTypeAccess
	}
	if i.grant == nil {
		return response, nil
	}
	if i.grant.Value.Generation > 0 {
		response.RefreshToken = s.ring.RefreshToken(i.grant.ID, i.grant.Value.Generation)
	}
	if slices.Contains(i.scopes, ScopeOpenID) {
		if response.IDToken, err = s.idToken(client, i, access, now); err != nil {
			return nil, internal(err)
		}
	}
	return response, nil
}

// tokenType is how an access token is to be used (RFC 6749 section 7.1): with a proof for the key jkt that it is bound to (RFC 9449
// section 5), or as it is.
func tokenType(jkt string) string {
	if jkt != "" {
		return dpop.Scheme
	}
	return "Bearer"
}

// subject is an account as the client sees it.
func (s *Server) subject(client *registry.Client, accountID string) string {
	return s.subjects.For(client, accountID)
}

// idToken mints an ID token (OpenID Connect Core section 2). azp is left out: there is one audience, and
// the client is it. A refreshed ID token has no nonce, and the auth_time of the first (section 12.2).
func (s *Server) idToken(client *registry.Client, i *issuance, access string, now time.Time) (string, error) {
	g := &i.grant.Value
	alg := client.SigningAlg()
	atHash, err := token.LeftHash(alg, access)
	if err != nil {
		return "", err
	}
	extra := claims(i.account, i.scopes)
	addRequested(extra, i.account, g.Claims, inIDToken)
	signed, err := s.idTokens.Issue(alg, &token.IDToken{
		Subject:   s.subject(client, g.AccountID),
		Audience:  []string{client.ID},
		IssuedAt:  now,
		ExpiresAt: now.Add(s.lifetimes.IDToken),
		AuthTime:  g.AuthTime,
		Nonce:     i.nonce,
		AtHash:    atHash,
		ACR:       g.ACR,
		AMR:       g.AMR,
		SID:       s.subjects.Session(client, g.SessionID),
		GrantID:   i.grant.ID,
		Extra:     extra,
	})
	if err != nil || i.idTokenKey == nil {
		return signed, err
	}
	return token.Encrypt(signed, client.IDTokenEncAlg, client.IDTokenEncEnc, *i.idTokenKey)
}

// claims are what the scopes let a client know of an account (OpenID Connect Core section 5.4). They are in ID
// tokens as well as in userinfo, because most client libraries look there alone.
func claims(a *identity.Account, scopes []string) map[string]any {
	out := make(map[string]any, 8)
	set := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	if slices.Contains(scopes, ScopeProfile) {
		set("name", a.Name)
		set("given_name", a.GivenName)
		set("family_name", a.FamilyName)
		set("preferred_username", a.Username)
		set("picture", a.Picture)
		set("locale", a.Locale)
		set("middle_name", a.MiddleName)
		set("nickname", a.Nickname)
		set("profile", a.Profile)
		set("website", a.Website)
		set("gender", a.Gender)
		set("birthdate", a.Birthdate)
		set("zoneinfo", a.Zoneinfo)
		out["updated_at"] = a.UpdatedAt.Unix()
	}
	if slices.Contains(scopes, ScopeEmail) && a.Email != "" {
		out["email"] = a.Email
		out["email_verified"] = a.EmailVerified
	}
	return out
}

// liveAccount reads the account that tokens are to speak for.
func (s *Server) liveAccount(ctx context.Context, id string) (*identity.Account, error) {
	account, err := s.accounts.Get(ctx, id)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil, refuse(codeInvalidGrant, "the account does not exist any more")
	case err != nil:
		return nil, internal(err)
	case account.Disabled:
		return nil, refuse(codeInvalidGrant, "the account is disabled")
	}
	return account, nil
}

// accessLifetime is the longest that an access token of the client's lives.
func (s *Server) accessLifetime(client *registry.Client) time.Duration {
	return s.policy.lifetimeOf(client)
}

func (s *Server) refreshLimits(client *registry.Client) grant.Limits {
	l := s.lifetimes.Refresh
	if client.RefreshIdleTTL > 0 {
		l.Idle = time.Duration(client.RefreshIdleTTL) * time.Second
	}
	if client.RefreshTTL > 0 {
		l.Absolute = time.Duration(client.RefreshTTL) * time.Second
	}
	l.Keep = profileOf(client).keepRefresh
	return l
}
