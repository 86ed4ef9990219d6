package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/token"
)

// TrustedIssuer is somebody whose word for a person the broker takes (RFC 7523 section 2.1): a JWT that it signed gives tokens for that
// person's account, without anybody signing in. Whoever has its keys can be any of its people, so the operator says for which clients and
// which scopes.
type TrustedIssuer struct {
	Issuer    string        // iss
	Keys      keyset.Source // its own
	Audiences []string      // names that it has for the broker, besides the broker's own
	Clients   []string      // ids of those who may present its assertions
	Scopes    []string      // the most that they get
	// Connector is the one through which its people sign in: sub is what that knows them by. "" means that sub is an account's id.
	Connector string
}

const (
	// typeAuthorizationGrant is the typ that RFC 7523bis section 4 gives these assertions; most have none yet.
	typeAuthorizationGrant = "authorization-grant+jwt"
	// purposeAuthorizationGrant keeps their ids apart from others that are used once.
	purposeAuthorizationGrant = "authorization-grant"
)

// jwtBearer redeems an assertion of a trusted issuer (RFC 7523 section 3.1). There is no refresh token: as long as the issuer vouches for the
// person, there can be another assertion (RFC 7521 section 4.1). And no ID token: nobody signed in.
func (s *Server) jwtBearer(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	if t.client.Public() {
		return nil, refuse(codeUnauthorizedClient, "the grant type %s is for clients that authenticate", registry.GrantJWTBearer)
	}
	raw := t.params.get("assertion")
	if raw == "" {
		return nil, refuse(codeInvalidRequest, "assertion is missing")
	}
	trusted, err := s.issuerOf(t.client, raw)
	if err != nil {
		return nil, err
	}
	w, refusal := trusted.narrow(t.client, t.wish)
	if refusal != nil {
		return nil, refusal
	}
	entitled, target, refusal := s.policy.direct(t.client, w, true)
	if refusal != nil {
		return nil, refusal
	}
	claims, err := s.verifyGrant(t, trusted, raw)
	if err != nil {
		return nil, err
	}
	account, err := s.accountOf(ctx, trusted, claims.Subject)
	if err != nil {
		return nil, err
	}
	// Spent last: what is refused for any other reason can be presented again.
	err = s.replay.Claim(ctx, claims.Expires.Time(), purposeAuthorizationGrant, trusted.Issuer, claims.ID)
	switch {
	case errors.Is(err, replay.ErrReplayed):
		return nil, badGrant("it was used before: each is good for one request, and needs a jti of its own").because(err)
	case err != nil:
		return nil, internal(fmt.Errorf("claim an assertion: %w", err))
	}
	g, err := s.grants.Redeem(ctx, token.NewID(), grant.Grant{
		ClientID: t.client.ID, AccountID: account.ID, Connector: trusted.Connector,
		Scopes: entitled.scopes, Resources: entitled.resources, UserinfoAlg: t.client.UserinfoAlg,
	}, false, target.lifetime, grant.Limits{})
	if err != nil {
		return nil, internal(err)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "a trusted issuer vouches for a person",
		slog.String("issuer", trusted.Issuer), slog.String("client_id", t.client.ID), slog.String("account_id", account.ID))
	return &issuance{grant: g, account: account, target: target}, nil
}

func badGrant(format string, args ...any) *Error {
	return refuse(codeInvalidGrant, "assertion: "+format, args...)
}

// issuerOf is whom an assertion is said to be from, if the client may present assertions of that issuer. Nothing of it is believed yet.
func (s *Server) issuerOf(client *registry.Client, raw string) (*TrustedIssuer, error) {
	var algs []jose.SignatureAlgorithm
	for _, alg := range clientAlgorithms(client, "") {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	parsed, err := jose.ParseSignedCompact(raw, algs)
	if err != nil {
		return nil, badGrant("it is not a JWT signed with one of %v", algs).because(err)
	}
	claims, err := parseAssertion(parsed.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, badGrant("%s", err)
	}
	trusted := s.trusted[claims.Issuer]
	switch {
	case trusted == nil:
		return nil, badGrant("the issuer '%s' is not trusted here", echo(claims.Issuer))
	case !slices.Contains(trusted.Clients, client.ID):
		return nil, refuse(codeUnauthorizedClient, "this client may not present assertions of '%s'", echo(claims.Issuer))
	case trusted.Connector != "" && !client.AllowsConnector(trusted.Connector):
		return nil, refuse(codeUnauthorizedClient, "nobody may sign in to this client with the connector of '%s'", echo(claims.Issuer))
	}
	return trusted, nil
}

// narrow is a wish within what the issuer's assertions may give. Without a scope it is all that the client and the issuer have in common.
func (i *TrustedIssuer) narrow(client *registry.Client, w wish) (wish, *Error) {
	if len(w.details) > 0 {
		return w, badDetails("authorization_details are agreed to by a person; this grant type cannot have them")
	}
	for _, scope := range w.scopes {
		if !slices.Contains(i.Scopes, scope) {
			return w, refuse(codeInvalidScope, "the scope '%s' cannot be had with assertions of this issuer", echo(scope))
		}
	}
	if len(w.scopes) == 0 {
		w.scopes = slices.DeleteFunc(slices.Clone(i.Scopes), func(scope string) bool { return !slices.Contains(client.Scopes, scope) })
	}
	if len(w.scopes) == 0 {
		return w, refuse(codeInvalidScope, "this client is registered for none of the scopes that assertions of this issuer give")
	}
	return w, nil
}

// verifyGrant checks an assertion's signature and claims.
func (s *Server) verifyGrant(t *tokenRequest, trusted *TrustedIssuer, raw string) (*assertion, error) {
	payload, header, err := s.keySets.Verify(t.http.Context(), trusted.Keys, raw, clientAlgorithms(t.client, ""))
	switch {
	case errors.Is(err, keyset.ErrUnavailable):
		return nil, internal(fmt.Errorf("the keys of the trusted issuer %s: %w", trusted.Issuer, err))
	case err != nil:
		return nil, badGrant("it is not signed with a key of the issuer").because(err)
	}
	claims, err := parseAssertion(payload)
	if err != nil {
		return nil, badGrant("%s", err)
	}
	if !typeAllowed(header.Type, typeAuthorizationGrant) {
		return nil, badGrant("typ is '%s'; it is to be left out, or %s", echo(header.Type), typeAuthorizationGrant)
	}
	if err := claims.judge(s.now(), slices.Concat(s.assertionAudiences(t.http, false), trusted.Audiences), false); err != nil {
		return nil, badGrant("%s", err)
	}
	if claims.Subject == "" {
		return nil, badGrant("sub is missing")
	}
	return claims, nil
}

// accountOf is the account that an assertion's sub stands for. Nobody gets an account this way: the person has signed in before.
func (s *Server) accountOf(ctx context.Context, trusted *TrustedIssuer, subject string) (*identity.Account, error) {
	var account *identity.Account
	var err error
	if trusted.Connector != "" {
		account, err = s.accounts.Find(ctx, trusted.Connector, trusted.Issuer, subject)
	} else {
		account, err = s.accounts.Get(ctx, subject)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, store.ErrInvalid): // no id at all
		return nil, badGrant("nobody here is known by its sub")
	case err != nil:
		return nil, internal(err)
	case account.Disabled:
		return nil, badGrant("the account is disabled")
	}
	return account, nil
}
