package oauth

import (
	"errors"
	"net/http"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/token"
)

// revoke ends a token (RFC 7009). A refresh token takes its grant and all its access tokens with it; an access token goes alone.
// A token that is no good already is a success, as section 2.2 wants it.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	if err := s.answerRevoke(r); err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) answerRevoke(r *http.Request) error {
	p, refusal := formParams(r)
	if refusal != nil {
		return refusal
	}
	client, refusal := s.authenticate(r, p)
	if refusal != nil {
		return refusal
	}
	raw := p.get("token")
	if raw == "" {
		return refuse(codeInvalidRequest, "token is missing")
	}
	ctx := r.Context()
	if access, _, err := s.access.Verify(raw); err == nil {
		if access.ClientID != client.ID {
			return notYours()
		}
		if access.GrantID == "" || exchanged(access.ID) {
			err := s.replay.Claim(ctx, access.ExpiresAt, revokedTokens, access.ID)
			if errors.Is(err, replay.ErrReplayed) {
				return nil // revoked before
			}
			return orInternal(err)
		}
		return orInternal(s.grants.RevokeToken(ctx, access.GrantID, access.ID, access.ExpiresAt))
	} else if errors.Is(err, token.ErrExpired) {
		return nil
	}
	grantID, _, err := s.ring.ParseRefreshToken(raw)
	if err != nil {
		return nil
	}
	g, err := s.grants.Get(ctx, grantID)
	if errors.Is(err, grant.ErrDead) {
		return nil
	}
	if err != nil {
		return internal(err)
	}
	if g.Value.ClientID != client.ID {
		return notYours()
	}
	ended, err := s.grants.Revoke(ctx, grantID, grant.ReasonClientRevoked)
	if ended {
		s.auditRevoked(ctx, grantID, client.ID, g.Value.AccountID, grant.ReasonClientRevoked)
	}
	return orInternal(err)
}

// notYours refuses a token of another client (RFC 7009 section 2.1), which is left as it is.
func notYours() *Error {
	return refuse(codeUnauthorizedClient, "the token was issued to another client")
}

func orInternal(err error) error {
	if err == nil {
		return nil
	}
	return internal(err)
}
