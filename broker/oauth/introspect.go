package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
)

// introspection is RFC 7662 section 2.2. An inactive token is described by active alone, so that nobody
// learns why.
type introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	ID        string   `json:"jti,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`

	Confirm *token.Confirmation `json:"cnf,omitempty"`                   // RFC 8705 section 3.2, RFC 9449 section 6.2
	Actor   json.RawMessage     `json:"act,omitempty"`                   // RFC 8693 section 4.1
	Details json.RawMessage     `json:"authorization_details,omitempty"` // RFC 9396 section 9.2
}

// introspect tells a confidential client about a token of its own, and about one for an api that it answers for. Any other client's token is as
// inactive as a forged one (RFC 7662 section 2.1: "token scanning").
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	p, refusal := formParams(r)
	if refusal != nil {
		s.writeError(w, r, refusal)
		return
	}
	client, refusal := s.authenticateConfidential(r, p)
	if refusal != nil {
		s.writeError(w, r, refusal)
		return
	}
	raw := p.get("token")
	if raw == "" {
		s.writeError(w, r, refuse(codeInvalidRequest, "token is missing"))
		return
	}
	answer, err := s.inspect(r.Context(), client, raw)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// forResourceServer is what a token says to the resource server of an api: what it allows at apis that the client answers for, and nothing
// of others (RFC 7662 section 2.2). nil if it is for none of these.
func (s *Server) forResourceServer(client *registry.Client, access *token.Access) *token.Access {
	audience := slices.DeleteFunc(slices.Clone(access.Audience), func(identifier string) bool {
		return !slices.Contains(client.ResourceServerOf, identifier)
	})
	if len(audience) == 0 {
		return nil
	}
	said := *access
	said.Audience = audience
	said.Scopes, said.Details = s.policy.forAudience(audience, access.Scopes, access.Details)
	return &said
}

// inspect tries the token as either kind; token_type_hint is not needed, since the kinds look different.
func (s *Server) inspect(ctx context.Context, client *registry.Client, raw string) (introspection, error) {
	if access, _, err := s.access.Verify(raw); err == nil {
		if access.ClientID != client.ID {
			if err := s.policy.apis.CatchUp(ctx, access.Scopes, access.Audience, nil); err != nil {
				return introspection{}, internal(err)
			}
			if access = s.forResourceServer(client, access); access == nil {
				return introspection{}, nil
			}
		}
		if err := s.tokenStands(ctx, access); err != nil {
			return inactive(err)
		}
		return introspection{
			Active:    true,
			Scope:     strings.Join(access.Scopes, " "),
			ClientID:  access.ClientID,
			Subject:   access.Subject,
			TokenType: tokenType(access.KeyThumbprint),
			ExpiresAt: access.ExpiresAt.Unix(),
			IssuedAt:  access.IssuedAt.Unix(),
			Issuer:    s.issuer,
			Audience:  access.Audience,
			ID:        access.ID,
			AuthTime:  unixOrZero(access.AuthTime),
			ACR:       access.ACR,
			Confirm:   access.Confirmation(),
			Actor:     json.RawMessage(access.Actor),
			Details:   json.RawMessage(access.Details),
		}, nil
	}
	grantID, generation, err := s.ring.ParseRefreshToken(raw)
	if err != nil {
		return introspection{}, nil
	}
	g, err := s.grants.Get(ctx, grantID)
	if err != nil {
		return inactive(err)
	}
	if g.Value.ClientID != client.ID {
		return introspection{}, nil
	}
	switch grant.Judge(&g.Value, generation, s.now(), s.refreshLimits(client)) {
	case grant.Rotate, grant.Repeat, grant.Stay:
	default:
		return introspection{}, nil
	}
	if _, err := s.liveAccount(ctx, g.Value.AccountID); err != nil {
		return inactive(err)
	}
	answer := introspection{
		Active:   true,
		Scope:    strings.Join(g.Value.Scopes, " "),
		ClientID: g.Value.ClientID,
		Subject:  s.subject(client, g.Value.AccountID),
		IssuedAt: g.Value.RotatedAt.Unix(),
		Issuer:   s.issuer,
		AuthTime: unixOrZero(g.Value.AuthTime),
		ACR:      g.Value.ACR,
	}
	if !g.Expires.IsZero() {
		answer.ExpiresAt = g.Expires.Unix()
	}
	return answer, nil
}

// inactive tells a token that is no good from a server that cannot say.
func inactive(err error) (introspection, error) {
	if e := asError(err); e.Status >= http.StatusInternalServerError && !errors.Is(err, grant.ErrDead) {
		return introspection{}, err
	}
	return introspection{}, nil
}

// errTokenOver says that a well-formed access token does not stand any more.
var errTokenOver = refuse(codeInvalidToken, "the access token is revoked")

// revokedTokens is the purpose under which the ids of revoked tokens are claimed that no grant keeps: those without one, and those that
// were exchanged, whose client is not the grant's and must not be able to fill its list.
const revokedTokens = "revoked-access-token"

// tokenStands checks what an access token cannot know of itself: that its client, its grant, it itself and its account are still good.
func (s *Server) tokenStands(ctx context.Context, access *token.Access) error {
	if access.GrantID != "" {
		_, _, err := s.bearerAccount(ctx, access)
		return err
	}
	if err := s.clientStands(ctx, access.ClientID); err != nil {
		return err
	}
	return s.notRevoked(ctx, lineage(access.ID))
}

// clientStands is errTokenOver if the client was removed or disabled.
func (s *Server) clientStands(ctx context.Context, id string) error {
	switch stands, err := s.clients.Standing(ctx, id); {
	case err != nil:
		return internal(err)
	case !stands:
		return errTokenOver
	}
	return nil
}

// notRevoked is nil if none of the tokens was revoked by its id.
func (s *Server) notRevoked(ctx context.Context, ids []string) error {
	for _, id := range ids {
		revoked, err := s.replay.Used(ctx, revokedTokens, id)
		switch {
		case err != nil:
			return internal(err)
		case revoked:
			return errTokenOver
		}
	}
	return nil
}

// bearerAccount is the account that a standing access token speaks for, and the grant that it hangs on. errTokenOver if it does not stand, or speaks for none.
func (s *Server) bearerAccount(ctx context.Context, access *token.Access) (*identity.Account, *grant.Grant, error) {
	if access.GrantID == "" {
		return nil, nil, errTokenOver
	}
	if err := s.clientStands(ctx, access.ClientID); err != nil {
		return nil, nil, err
	}
	g, err := s.grants.Get(ctx, access.GrantID)
	if errors.Is(err, grant.ErrDead) {
		return nil, nil, errTokenOver
	}
	if err != nil {
		return nil, nil, internal(err)
	}
	if !g.Value.TokenLive(access.ID) {
		return nil, nil, errTokenOver
	}
	// The first of its line is in the grant's own list.
	if err := s.notRevoked(ctx, lineage(access.ID)[1:]); err != nil {
		return nil, nil, err
	}
	account, err := s.accounts.Get(ctx, g.Value.AccountID)
	if errors.Is(err, identity.ErrNotFound) || err == nil && account.Disabled {
		return nil, nil, errTokenOver
	}
	if err != nil {
		return nil, nil, internal(err)
	}
	return account, &g.Value, nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
