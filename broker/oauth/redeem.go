package oauth

import (
	"errors"
	"slices"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/registry"
)

// redeem makes the grant of a request that a person agreed to, signed in as by: the end of every code, whichever way it took.
//
// All that is about the code itself has been checked before. The insert of the grant under id spends it, since only one insert of an id
// succeeds, and comes last: a redemption that fails does not burn the code. Every later one revokes the grant (RFC 6749
// section 4.1.2).
func (s *Server) redeem(t *tokenRequest, id string, req *flow.Request, by *flow.SignIn) (*issuance, error) {
	ctx := t.http.Context()
	// A token request of these grants has no scope parameter: what was agreed to is what there is.
	entitled, refusal := s.granted(ctx, req.Scopes, req.Resources, req.Details)
	if refusal != nil {
		return nil, refusal
	}
	target, refusal := s.policy.target(t.client, entitled, wish{resources: t.wish.resources, details: t.wish.details})
	if refusal != nil {
		return nil, refusal
	}
	account, err := s.liveAccount(ctx, by.AccountID)
	if err != nil {
		return nil, err
	}
	withRefresh := slices.Contains(req.Scopes, ScopeOfflineAccess) && t.client.Allows(registry.GrantRefreshToken)
	fresh := grant.Grant{
		ClientID:  req.ClientID,
		AccountID: by.AccountID,
		Scopes:    req.Scopes,
		Resources: req.Resources,
		AgreedAt:  s.policy.agreedAt(&entitled),
		Details:   req.Details,
		Claims:    req.Claims,
		SessionID: by.SessionID,
		Connector: by.Connector,
		AuthTime:  by.AuthTime,
		ACR:       by.ACR,
		AMR:       by.AMR,

		UserinfoAlg: t.client.UserinfoAlg,
	}
	if by.SessionID != "" && t.client.HearsOfLogout() {
		fresh.KeepUntil = s.now().Add(s.lifetimes.Session) // the session is older than its code
	}
	bindRefresh(&fresh, t)
	g, err := s.grants.Redeem(ctx, id, fresh, withRefresh, s.accessLifetime(t.client), s.refreshLimits(t.client))
	if errors.Is(err, grant.ErrRedeemed) {
		s.auditRevoked(ctx, id, req.ClientID, by.AccountID, grant.ReasonCodeReplayed)
		return nil, badCode("the code was redeemed before; the tokens it gave have been revoked")
	}
	if err != nil {
		return nil, internal(err)
	}
	return &issuance{grant: g, account: account, target: target, scopes: target.asked, nonce: req.Nonce}, nil
}
