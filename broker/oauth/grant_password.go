package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/portico-id/portico/broker/accounts"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
)

// ACRPassword is the acr claim of everyone whose password an app brought: the person was not at the broker, and what the app showed them it does
// not know.
const ACRPassword = "urn:portico:acr:password"

// Passwords says whose a username and a password are. local.Credentials does.
type Passwords interface {
	// Authenticate is who it is that asks from addr (not valid: unknown). local.ErrWrong, *guess.Delayed, password.ErrBusy.
	Authenticate(ctx context.Context, username, password string, addr netip.Addr) (*local.Login, error)
	// Holds says whether the password has not been changed since.
	Holds(ctx context.Context, login *local.Login) (bool, error)
}

// password gives tokens for the password of a local account (RFC 6749 section 4.3). RFC 9700 section 2.4 says that it must not be used, so it is off unless the
// configuration and the client's registration both name it, and the registry refuses it for public clients.
//
// What the person did not see, they did not agree to: scopes are those that the client is registered for, and the person is not asked.
func (s *Server) password(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	username, secret := t.params.get("username"), t.params.get("password")
	if username == "" || secret == "" {
		return nil, refuse(codeInvalidRequest, "username and password are needed")
	}
	entitled, target, refusal := s.policy.direct(t.client, t.wish, true)
	if refusal != nil {
		return nil, refusal
	}
	login, err := s.passwords.Authenticate(ctx, username, secret, web.ClientIP(ctx))
	if err != nil {
		return nil, passwordRefusal(err)
	}
	account := login.Account
	fresh := grant.Grant{
		ClientID:  t.client.ID,
		AccountID: account.ID,
		Scopes:    entitled.scopes,
		Resources: entitled.resources,
		Details:   entitled.details.String(),
		AuthTime:  s.now(),
		ACR:       ACRPassword,
		AMR:       []string{accounts.AMRPassword},

		UserinfoAlg: t.client.UserinfoAlg,
	}
	bindRefresh(&fresh, t)
	withRefresh := slices.Contains(entitled.scopes, ScopeOfflineAccess) && t.client.Allows(registry.GrantRefreshToken)
	g, err := s.grants.Redeem(ctx, token.NewID(), fresh, withRefresh, s.accessLifetime(t.client), s.refreshLimits(t.client))
	if err != nil {
		return nil, internal(err)
	}
	// Whoever changed the password meanwhile may have ended what came of the one before just before this grant was there to be found.
	held, err := s.passwords.Holds(ctx, login)
	if err == nil && !held {
		err = local.ErrWrong
	}
	if err != nil {
		if _, revokeErr := s.grants.Revoke(ctx, g.ID, grant.ReasonPasswordChanged); revokeErr != nil {
			return nil, internal(errors.Join(err, revokeErr))
		}
		return nil, passwordRefusal(err)
	}
	return &issuance{grant: g, account: account, target: target, scopes: target.asked}, nil
}

// busyWait is when to try again what was refused because too many passwords were being checked: they are done by then.
const busyWait = time.Second

// passwordRefusal says no in one way for everything that would tell an account from none (RFC 6749 section 5.2), and when to try again.
func passwordRefusal(err error) *Error {
	var early *guess.Delayed
	switch {
	case errors.Is(err, local.ErrWrong):
		return refuse(codeInvalidGrant, "the username or the password is wrong, or the account may not sign in").because(err)
	case errors.As(err, &early):
		return tryAgain(http.StatusTooManyRequests, early.Wait, "too many attempts").because(err)
	case errors.Is(err, password.ErrBusy):
		return tryAgain(http.StatusServiceUnavailable, busyWait, "too many passwords are being checked").because(err)
	}
	return internal(err)
}
