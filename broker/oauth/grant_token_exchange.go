package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
)

// Token exchange (RFC 8693): a token of this broker for an access token that says less, or that is for the next api on the way.
//
// What comes of it never says more than what went in, but for what the operator allowed the client by name; never outlives it; and
// ends with it, since it hangs on the same grant, and its id begins with the id of the token it came of.

// The types of token that are taken (RFC 8693 section 3). A refresh token is its client's alone. What is given is an access token.
const (
	tokenTypeAccess = "urn:ietf:params:oauth:token-type:access_token"
	tokenTypeID     = "urn:ietf:params:oauth:token-type:id_token"
)

const (
	// maxExchanges bounds how often a token can be exchanged on: services that call one another in a circle stop here, and a token
	// still fits into a header.
	maxExchanges = 4
	// exchangeSeparator parts the ids in the id of an exchanged token; ids that token.NewID makes never hold it.
	exchangeSeparator = "."
)

// tokenExchange answers an exchange. What is wrong with the tokens, or not allowed, is invalid_request (section 2.2.2).
func (s *Server) tokenExchange(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	if t.client.Public() {
		return nil, refuse(codeUnauthorizedClient, "token exchange is for clients that authenticate")
	}
	if refusal := judgeExchangeTypes(t.params); refusal != nil {
		return nil, refusal
	}
	// An audience is another name for a resource here: apis have one identifier.
	wish := t.wish
	for _, audience := range t.params["audience"] {
		if audience != "" && !slices.Contains(wish.resources, audience) {
			wish.resources = append(slices.Clone(wish.resources), audience)
		}
	}
	if len(wish.resources) > maxResources {
		return nil, refuse(codeInvalidTarget, "more than %d resources and audiences", maxResources)
	}
	present := s.presented
	if t.params.get("subject_token_type") == tokenTypeID {
		present = s.presentedID
	}
	subject, account, err := present(ctx, "subject_token", t.params.get("subject_token"))
	if err != nil {
		return nil, err
	}
	var actor *token.Access
	if raw := t.params.get("actor_token"); raw != "" {
		if actor, _, err = s.presented(ctx, "actor_token", raw); err != nil {
			return nil, err
		}
	}
	if refusal := s.judgeExchange(t.client, subject, actor, t.binding); refusal != nil {
		return nil, refusal
	}
	if err := s.issuedToALiveClient(ctx, t.client, subject); err != nil {
		return nil, err
	}
	target, refusal := s.policy.exchange(t.client, subject, wish)
	if refusal != nil {
		return nil, refusal
	}
	target.lifetime = min(target.lifetime, subject.ExpiresAt.Sub(s.now()).Truncate(time.Second))
	if target.lifetime <= 0 {
		return nil, badExchange("subject_token is about to expire")
	}
	act, err := actClaim(subject, actor)
	if err != nil {
		return nil, internal(err)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "a token is exchanged",
		slog.String("client_id", t.client.ID), slog.String("subject_client_id", subject.ClientID), slog.String("sub", subject.Subject),
		slog.Any("audience", target.audience), slog.String("act", act), slog.String("jti", subject.ID))
	return &issuance{account: account, target: target, origin: subject, actor: act}, nil
}

func badExchange(format string, args ...any) *Error {
	return refuse(codeInvalidRequest, format, args...)
}

// judgeExchangeTypes checks which parameters are there (RFC 8693 section 2.1).
func judgeExchangeTypes(p params) *Error {
	switch kind := p.get("requested_token_type"); {
	case kind != "" && kind != tokenTypeAccess:
		return badExchange("requested_token_type '%s' is not issued; leave it out, or ask for %s", echo(kind), tokenTypeAccess)
	case p.get("subject_token") == "":
		return badExchange("subject_token is missing")
	case p.get("subject_token_type") != tokenTypeAccess && p.get("subject_token_type") != tokenTypeID:
		return badExchange("subject_token_type must be %s or %s", tokenTypeAccess, tokenTypeID)
	case p.get("actor_token") == "" && p.get("actor_token_type") != "":
		return badExchange("actor_token_type is there without actor_token")
	case p.get("actor_token") != "" && p.get("actor_token_type") != tokenTypeAccess:
		return badExchange("actor_token_type must be %s", tokenTypeAccess)
	}
	return nil
}

// presented reads a token of this broker's that still stands, and the account that it speaks for, nil if it is a client's own.
func (s *Server) presented(ctx context.Context, name, raw string) (*token.Access, *identity.Account, error) {
	access, _, err := s.access.Verify(raw)
	if err != nil {
		return nil, nil, badExchange("%s is expired, or no access token of this server's", name).because(err)
	}
	var account *identity.Account
	if access.GrantID != "" {
		account, _, err = s.bearerAccount(ctx, access)
	} else {
		err = s.tokenStands(ctx, access)
	}
	if errors.Is(err, errTokenOver) {
		return nil, nil, badExchange("%s is revoked", name)
	}
	return access, account, err
}

// presentedID reads an ID token as the access token that it would be: one that allows nothing, anywhere. So it says who the person is, and the
// client has what the operator lets it gain.
func (s *Server) presentedID(ctx context.Context, name, raw string) (*token.Access, *identity.Account, error) {
	id, err := s.idTokens.VerifyIDTokenHint(raw)
	switch {
	case err != nil:
		return nil, nil, badExchange("%s is no ID token of this server's; one that is encrypted has to be decrypted first", name).because(err)
	case !s.now().Before(id.ExpiresAt):
		return nil, nil, badExchange("%s is expired", name)
	case len(id.Audience) != 1 || id.GrantID == "":
		return nil, nil, badExchange("%s names no single client, or no grant", name)
	}
	access := &token.Access{
		ID: token.NewID(), GrantID: id.GrantID, ClientID: id.Audience[0], Subject: id.Subject,
		ExpiresAt: id.ExpiresAt, AuthTime: id.AuthTime, ACR: id.ACR,
	}
	account, _, err := s.bearerAccount(ctx, access)
	if errors.Is(err, errTokenOver) {
		return nil, nil, badExchange("%s is of a sign-in that is revoked", name)
	}
	return access, account, err
}

// judgeExchange decides whether the client may exchange subject, for itself or with actor. It does no IO.
func (s *Server) judgeExchange(client *registry.Client, subject, actor *token.Access, binding senderKey) *Error {
	own := subject.ClientID == client.ID
	rules := client.Exchange()
	switch {
	case strings.Count(subject.ID, exchangeSeparator) >= maxExchanges:
		return badExchange("subject_token was exchanged %d times already", maxExchanges)
	case !own && !slices.Contains(rules.SubjectClients, subject.ClientID):
		return badExchange("this client may not exchange tokens that were issued to the client '%s'", subject.ClientID)
	case !own && len(subject.Audience) > 0 && !slices.ContainsFunc(subject.Audience, func(identifier string) bool {
		return identifier == s.issuer || slices.Contains(client.ResourceServerOf, identifier)
	}):
		// Whoever holds a token that was for somebody else has no business with it.
		return badExchange("subject_token is neither for the broker nor for an api that this client is the resource server of")
	case !own && actor == nil && !rules.Allows(registry.ExchangeImpersonation):
		return badExchange("this client may not impersonate: send an actor_token")
	case !own && actor != nil && !rules.Allows(registry.ExchangeDelegation):
		return badExchange("this client may not act for others: leave actor_token out")
	}
	if refusal := judgeHolder("subject_token", subject, own, binding); refusal != nil || actor == nil {
		return refusal
	}
	switch {
	case actor.ClientID != client.ID && !slices.Contains(rules.ActorClients, actor.ClientID):
		return badExchange("this client may not present tokens as actor_token that were issued to the client '%s'", actor.ClientID)
	case actor.Actor != "":
		return badExchange("actor_token itself says that somebody acts for another; who acts must be plain")
	}
	return judgeHolder("actor_token", actor, actor.ClientID == client.ID, binding)
}

// judgeHolder demands of a request with a bound token the proof that the token demands, if it is the sender's own, and some binding in
// any case: an exchange does not turn a token that only its holder can use into one that anybody can.
func judgeHolder(name string, access *token.Access, own bool, binding senderKey) *Error {
	bound := access.Confirmation() != nil
	switch {
	case bound && binding == senderKey{}:
		return badExchange("%s is bound to a key; the request must be too: send a DPoP proof, or connect with a certificate", name)
	case bound && own && (access.KeyThumbprint != "" && access.KeyThumbprint != binding.jkt || access.CertThumbprint != "" && access.CertThumbprint != binding.certThumbprint):
		return badExchange("%s is bound to another key than that of the request", name)
	}
	return nil
}

// issuedToALiveClient refuses tokens of a client that was disabled or removed.
func (s *Server) issuedToALiveClient(ctx context.Context, client *registry.Client, subject *token.Access) error {
	if subject.ClientID == client.ID {
		return nil
	}
	issuedTo, err := s.clients.Get(ctx, subject.ClientID)
	switch {
	case errors.Is(err, registry.ErrNotFound), err == nil && issuedTo.Disabled:
		return badExchange("the client that subject_token was issued to is not registered any more")
	case err != nil:
		return internal(err)
	}
	return nil
}

// exchangeAudience is what a token is for whose request names no resource: the same as subject, unless it asks for scopes to gain, which then say
// which apis it is for, as in any other request.
func (p *policy) exchangeAudience(subject *token.Access, gain, scopes []string) []string {
	var audience []string
	for _, scope := range scopes {
		if slices.Contains(subject.Scopes, scope) || !slices.Contains(gain, scope) {
			continue
		}
		for _, api := range p.apis.WithScope(scope) {
			if !slices.Contains(audience, api.Identifier) {
				audience = append(audience, api.Identifier)
			}
		}
	}
	if len(audience) == 0 {
		return subject.Audience
	}
	return audience
}

// exchange decides on a token that comes of subject. For an api that subject is for, that is no more than subject allows there; for
// any other, what the operator lets the client gain, by name.
func (p *policy) exchange(client *registry.Client, subject *token.Access, w wish) (*target, *Error) {
	t := &target{audience: w.resources, format: p.formatOf(client), lifetime: p.lifetimeOf(client)}
	gain := client.Exchange().Scopes
	if len(t.audience) == 0 {
		t.audience = p.exchangeAudience(subject, gain, w.scopes)
	}
	if len(t.audience) == 0 {
		return nil, refuse(codeInvalidTarget, "an ID token is for no api; say with resource which one the new token is for")
	}
	var refusal *Error
	if t.audience, refusal = p.reached(client, t.audience, len(w.resources) > 0); refusal != nil {
		return nil, refusal
	}
	available, refusal := p.exchangeable(client, subject, gain, t.audience)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := p.writtenFor(client, t); refusal != nil {
		return nil, refusal
	}
	for _, scope := range w.scopes {
		if !slices.Contains(available, scope) {
			return nil, refuse(codeInvalidScope, "the scope '%s' cannot be had by exchanging this token", echo(scope))
		}
	}
	t.scopes = available
	if len(w.scopes) > 0 {
		t.scopes = w.scopes
	}
	had, err := grantedDetails(subject.Details)
	if err != nil {
		return nil, internal(err)
	}
	asked, refusal := narrowedDetails(had, w.details)
	if refusal != nil {
		return nil, refusal
	}
	for _, d := range asked {
		// Only where subject and target are the same api: what was agreed to there is nothing elsewhere.
		here, elsewhere := false, false
		for _, api := range p.apis.WithDetails(d.kind) {
			if slices.Contains(t.audience, api.Identifier) {
				shared := slices.Contains(subject.Audience, api.Identifier)
				here, elsewhere = here || shared, elsewhere || !shared
			}
		}
		if here && !elsewhere && slices.Contains(client.DetailsTypes, d.kind) {
			t.details = append(t.details, d)
		}
	}
	return t, nil
}

// exchangeable are the scopes of a token for an audience: those that the client can have at each api of it that they mean something to. Two apis may have
// one of the same name.
func (p *policy) exchangeable(client *registry.Client, subject *token.Access, gain, audience []string) ([]string, *Error) {
	var all []string
	denied := map[string]bool{}
	for _, identifier := range audience {
		here := p.exchangeableAt(client, subject, gain, identifier)
		if len(here) == 0 && !slices.Contains(subject.Audience, identifier) {
			return nil, refuse(codeInvalidTarget, "this client cannot exchange the token for one for '%s'", echo(identifier))
		}
		for _, scope := range here {
			if !slices.Contains(all, scope) {
				all = append(all, scope)
			}
		}
		for _, scope := range slices.Concat(subject.Scopes, gain) {
			if !slices.Contains(here, scope) && p.isFor([]string{identifier}, p.own(scope), p.apis.WithScope(scope)) {
				denied[scope] = true
			}
		}
	}
	return slices.DeleteFunc(all, func(scope string) bool { return denied[scope] }), nil
}

// exchangeableAt are the scopes that the client can have of subject at an audience, all of which it is registered for: where subject is for it, what
// subject allows there and no more; elsewhere what the client may gain.
func (p *policy) exchangeableAt(client *registry.Client, subject *token.Access, gain []string, identifier string) []string {
	var scopes []string
	at := []string{identifier}
	if slices.Contains(subject.Audience, identifier) {
		for _, scope := range subject.Scopes {
			// offline_access says that there is a refresh token, which an exchange never gives.
			if scope != ScopeOfflineAccess && p.isFor(at, p.own(scope), p.apis.WithScope(scope)) {
				scopes = append(scopes, scope)
			}
		}
	} else {
		for _, scope := range gain {
			if p.isFor(at, false, p.apis.WithScope(scope)) {
				scopes = append(scopes, scope)
			}
		}
	}
	return slices.DeleteFunc(scopes, func(scope string) bool { return !slices.Contains(client.Scopes, scope) })
}

// actor is an act claim: who acts, and for whom they acted before (RFC 8693 section 4.1).
type actor struct {
	Subject string          `json:"sub"`
	Before  json.RawMessage `json:"act,omitempty"`
}

// actClaim says who acts with the new token. Without an actor, those who acted before stay on record.
func actClaim(subject, acting *token.Access) (string, error) {
	if acting == nil {
		return subject.Actor, nil
	}
	claim, err := json.Marshal(actor{Subject: acting.Subject, Before: json.RawMessage(subject.Actor)})
	return string(claim), err
}

// exchanged says whether an exchange made the token of that id.
func exchanged(id string) bool { return strings.Contains(id, exchangeSeparator) }

// lineage are the ids of the tokens that a token came of, the first one first, and its own last: its own alone for a token that no exchange
// made.
func lineage(id string) []string {
	var ids []string
	for i := range len(id) {
		if strings.HasPrefix(id[i:], exchangeSeparator) {
			ids = append(ids, id[:i])
		}
	}
	return append(ids, id)
}
