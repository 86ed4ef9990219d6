package oauth

import (
	"errors"

	"github.com/portico-id/portico/broker/grant"
)

// refreshToken exchanges a refresh token for fresh tokens (RFC 6749 section 6). Every use rotates it, for
// confidential clients too (RFC 9700 section 4.14.2), unless their profile forbids it.
func (s *Server) refreshToken(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	raw := t.params.get("refresh_token")
	if raw == "" {
		return nil, refuse(codeInvalidRequest, "refresh_token is missing")
	}
	grantID, generation, err := s.ring.ParseRefreshToken(raw)
	if err != nil {
		return nil, refuse(codeInvalidGrant, "the refresh token is not one of this server's").because(err)
	}
	// The wish and the account are judged before anything is rotated, so that a refused request costs nothing.
	g, err := s.grants.Get(ctx, grantID)
	if err != nil {
		return nil, refreshRefusal(err)
	}
	if g.Value.ClientID != t.client.ID {
		return nil, refuse(codeInvalidGrant, "the refresh token was issued to another client")
	}
	if refusal := judgeBinding(&g.Value, t.binding); refusal != nil {
		return nil, refusal
	}
	entitled, refusal := s.granted(ctx, g.Value.Scopes, g.Value.Resources, g.Value.Details)
	if refusal != nil {
		return nil, refusal
	}
	entitled.agreedAt = g.Value.AgreedAt
	target, refusal := s.policy.target(t.client, entitled, t.wish)
	if refusal != nil {
		return nil, refusal
	}
	account, err := s.liveAccount(ctx, g.Value.AccountID)
	if err != nil {
		return nil, err
	}
	bindRefresh(&g.Value, t) // a grant that was not bound until now is from the next token on
	g, err = s.grants.Refresh(ctx, g, generation, s.refreshLimits(t.client))
	if errors.Is(err, grant.ErrReused) {
		s.auditRevoked(ctx, grantID, t.client.ID, account.ID, grant.ReasonRefreshReused)
	}
	if err != nil {
		return nil, refreshRefusal(err)
	}
	return &issuance{grant: g, account: account, target: target, scopes: target.asked}, nil
}

func refreshRefusal(err error) *Error {
	switch {
	case errors.Is(err, grant.ErrReused):
		return refuse(codeInvalidGrant, "the refresh token was used before; all tokens of this sign-in have been revoked").because(err)
	case errors.Is(err, grant.ErrDead):
		return refuse(codeInvalidGrant, "the refresh token is revoked or expired").because(err)
	}
	return internal(err)
}

// bindRefresh binds a public client's refresh tokens to the key that it proved to hold (RFC 9449 section 5, RFC 8705 section 4): whoever
// stole one has no other secret to find. Those of a confidential client are bound to its authentication.
func bindRefresh(g *grant.Grant, t *tokenRequest) {
	if t.client.Public() {
		g.JKT, g.CertThumbprint = t.binding.jkt, t.binding.certThumbprint
	}
}

// judgeBinding refuses a refresh token whose sender does not hold the key that it is bound to.
func judgeBinding(g *grant.Grant, key senderKey) *Error {
	switch {
	case g.JKT != "" && g.JKT != key.jkt:
		return refuse(codeInvalidGrant, "the refresh token is bound to another key; send a proof for the key that it was issued to")
	case g.CertThumbprint != "" && g.CertThumbprint != key.certThumbprint:
		return refuse(codeInvalidGrant, "the refresh token is bound to another certificate; connect with the one that it was issued to")
	}
	return nil
}
