package oauth

import (
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
)

// The scope and resource policy: what a client may ask for (RFC 6749 section 3.3, RFC 8707, RFC 9396), and what one access
// token of it is then for. It is the same for the authorization endpoint and for every grant, does no IO, and is decided in two
// steps:
//
//	wish ──entitle──▶ entitlement ──target──▶ target
//
// An entitlement is what a client may get tokens for: judged once, agreed to by the person, kept in the grant. A target is one
// token of it. A grant that is answered at once (client credentials) takes both steps with one wish.
//
// Audiences: where the request names resources, the token is for these and nothing else. Where it names none, its scopes
// say which api it is for; scopes of several apis are ambiguous then and refused (RFC 9068 section 3). The broker's own
// endpoints (userinfo) are an audience too, the issuer: it is added where no resource was named and a scope of the broker's
// own was asked for, so that an app that knows nothing of resources can do what it asked for.

// policy is what there is to ask for.
type policy struct {
	issuer string
	scopes map[string]string // the broker's own
	apis   *registry.APIs
	// Where neither api nor client says otherwise.
	format   token.Format
	lifetime time.Duration
}

// maxResources bounds the resources of one request: each becomes an audience of a token that travels in a header.
const maxResources = 16

// wish is what a request asks for, read but not judged.
type wish struct {
	scopes    []string
	resources []string
	details   details
}

// readWish reads scope, resource and authorization_details. Repetitions are dropped.
func readWish(p params) (w wish, refusal *Error) {
	if w.scopes, refusal = parseScope(p.get("scope")); refusal != nil {
		return w, refusal
	}
	if w.resources, refusal = parseResources(p["resource"]); refusal != nil {
		return w, refusal
	}
	w.details, refusal = parseDetails(p.get("authorization_details"))
	return w, refusal
}

// parseResources reads the resource parameter (RFC 8707 section 2): absolute URIs without fragment.
func parseResources(values []string) ([]string, *Error) {
	var resources []string
	for _, value := range values {
		if value == "" || slices.Contains(resources, value) {
			continue
		}
		if err := registry.CheckIdentifier(value); err != nil {
			return nil, refuse(codeInvalidTarget, "resource '%s' names no api: %v", echo(value), err)
		}
		if len(resources) == maxResources {
			return nil, refuse(codeInvalidTarget, "more than %d resources", maxResources)
		}
		resources = append(resources, value)
	}
	return resources, nil
}

// entitlement is what a client may get tokens for.
type entitlement struct {
	scopes []string
	// resources are the audiences of a token whose request names none, and all there can be, but for the issuer, which is always one where
	// a person is. Empty: the issuer alone.
	resources []string
	details   details
	// agreedAt is grant.Grant's; empty where nothing is granted yet.
	agreedAt []string
	// person says that an account stands behind it.
	person bool
}

// entitlementOf is what a flow or a grant keeps of it. Every account's grant entitles to the issuer.
func entitlementOf(scopes, resources []string, stored string) (entitlement, error) {
	details, err := grantedDetails(stored)
	return entitlement{scopes: scopes, resources: resources, details: details, person: true}, err
}

// entitle judges a wish of the client's. person says whether an account is to stand behind the tokens.
func (p *policy) entitle(client *registry.Client, w wish, person bool) (entitlement, *Error) {
	e := entitlement{scopes: w.scopes, details: w.details, person: person}
	named, refusal := p.named(client, w.resources, person)
	if refusal != nil {
		return e, refusal
	}
	if len(e.scopes) == 0 && len(e.details) == 0 {
		if e.scopes = p.defaults(client, named, person); len(e.scopes) == 0 {
			return e, refuse(codeInvalidScope, "scope is missing; ask for at least one%s", p.suggestion(client, person))
		}
	}
	implied, refusal := p.judgeScopes(client, e.scopes, w.resources, named, person)
	if refusal != nil {
		return e, refusal
	}
	if len(w.resources) > 0 {
		e.resources = w.resources
	} else {
		if slices.ContainsFunc(e.scopes, p.own) {
			e.resources = append(e.resources, p.issuer)
		}
		e.resources = append(e.resources, implied...)
	}
	if e.resources, refusal = p.judgeDetails(client, e.details, e.resources); refusal != nil {
		return e, refusal
	}
	if len(e.resources) == 1 && e.resources[0] == p.issuer {
		e.resources = nil
	}
	// Without the grant type there would be no refresh token to give, and nothing to consent to (OpenID Connect Core section 11).
	if !client.Allows(registry.GrantRefreshToken) {
		e.scopes = slices.DeleteFunc(slices.Clone(e.scopes), func(scope string) bool { return scope == ScopeOfflineAccess })
	}
	return e, nil
}

// own says whether a scope is the broker's own.
func (p *policy) own(scope string) bool {
	_, own := p.scopes[scope]
	return own
}

// named are the apis that a request names. The issuer is always one of them, where a person could be asked about.
func (p *policy) named(client *registry.Client, resources []string, person bool) ([]*registry.API, *Error) {
	var apis []*registry.API
	for _, resource := range resources {
		if resource == p.issuer && person {
			continue
		}
		api := p.apis.Get(resource)
		switch {
		case resource == p.issuer:
			return nil, refuse(codeInvalidTarget, "resource '%s' is the broker itself, which has nothing for a token without a person; name an api", echo(resource))
		case api == nil:
			return nil, refuse(codeInvalidTarget, "no api is registered here as '%s'; identifiers are compared character by character", echo(resource))
		case !reaches(client, api):
			return nil, refuse(codeInvalidTarget, "this client is not registered for any scope of the api '%s'", echo(resource))
		}
		apis = append(apis, api)
	}
	return apis, nil
}

// reaches says whether the client may ask for anything that the api defines.
func reaches(client *registry.Client, api *registry.API) bool {
	return opens(api, client) || slices.ContainsFunc(client.Scopes, api.HasScope) ||
		slices.ContainsFunc(client.DetailsTypes, func(name string) bool { return api.Details(name) != nil })
}

// opens says whether a client may ask people for the api's scopes though it is not registered for them.
func opens(api *registry.API, client *registry.Client) bool {
	return api.SelfRegistered && !client.Verified()
}

// permits says whether a token for an audience may have a scope for the client: it is registered for it, or every api of the audience that
// defines the scope is open to it.
func (p *policy) permits(client *registry.Client, scope string, audience []string) bool {
	if slices.Contains(client.Scopes, scope) {
		return true
	}
	open := false
	for _, api := range p.apis.WithScope(scope) {
		if !slices.Contains(audience, api.Identifier) {
			continue
		}
		if !opens(api, client) {
			return false
		}
		open = true
	}
	return open
}

// defaults are the scopes of a request that names none (RFC 6749 section 3.3): for a client of its own accord, those of apis
// that it is registered for; a person is asked for nothing that nobody asked for.
func (p *policy) defaults(client *registry.Client, named []*registry.API, person bool) []string {
	if person {
		return nil
	}
	var scopes []string
	for _, scope := range client.Scopes {
		defined := func(api *registry.API) bool { return api.HasScope(scope) }
		if len(named) > 0 && slices.ContainsFunc(named, defined) || len(named) == 0 && len(p.apis.WithScope(scope)) > 0 {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

func (p *policy) suggestion(client *registry.Client, person bool) string {
	switch {
	case person:
		return ", such as 'openid'"
	case !slices.ContainsFunc(client.Scopes, func(scope string) bool { return len(p.apis.WithScope(scope)) > 0 }):
		return "; this client is not registered for a scope of any api"
	}
	return ""
}

// judgeScopes judges each scope, and says which apis they imply where no resource is named.
func (p *policy) judgeScopes(client *registry.Client, scopes, resources []string, named []*registry.API, person bool) (implied []string, refusal *Error) {
	for _, scope := range scopes {
		apis := p.apis.WithScope(scope)
		if !p.own(scope) && len(apis) == 0 {
			return nil, refuse(codeInvalidScope, "the scope '%s' does not exist here", echo(scope))
		}
		registered := slices.Contains(client.Scopes, scope)
		if !registered {
			apis = slices.DeleteFunc(slices.Clone(apis), func(api *registry.API) bool { return !opens(api, client) })
		}
		switch {
		case !registered && len(apis) == 0:
			return nil, refuse(codeInvalidScope, "this client is not registered for the scope '%s'", echo(scope))
		case p.own(scope) && !person:
			return nil, refuse(codeInvalidScope, "the scope '%s' is about a person, and nobody has signed in; ask for scopes of apis", echo(scope))
		case p.own(scope):
			continue
		case len(resources) > 0:
			if !slices.ContainsFunc(named, func(api *registry.API) bool { return slices.ContainsFunc(apis, api.Is) }) {
				return nil, refuse(codeInvalidScope, "the scope '%s' is of none of the resources named; add resource=%s", echo(scope), echo(apis[0].Identifier))
			}
			continue
		}
		for _, api := range apis {
			if !slices.Contains(implied, api.Identifier) {
				implied = append(implied, api.Identifier)
			}
		}
	}
	if len(implied) > 1 {
		return nil, refuse(codeInvalidScope, "the scopes are of several apis; say with resource which a token is for: %s", echo(strings.Join(implied, ", ")))
	}
	return implied, nil
}

// judgeDetails judges each object of authorization_details, and adds the apis that they are for to resources. A named resource
// does not keep them out (RFC 9396 section 3.2).
func (p *policy) judgeDetails(client *registry.Client, all details, resources []string) ([]string, *Error) {
	for i := range all {
		d := &all[i]
		apis := p.apis.WithDetails(d.kind)
		switch {
		case len(apis) == 0:
			return nil, badDetails("the type '%s' of authorization_details does not exist here", echo(d.kind))
		case !slices.Contains(client.DetailsTypes, d.kind):
			return nil, badDetails("this client is not registered for the type '%s' of authorization_details", echo(d.kind))
		}
		among := slices.DeleteFunc(slices.Clone(apis), func(api *registry.API) bool { return !slices.Contains(resources, api.Identifier) })
		if len(among) == 0 && len(apis) > 1 {
			return nil, refuse(codeInvalidTarget, "the type '%s' of authorization_details is of several apis; say with resource which it is for, such as %s", echo(d.kind), echo(apis[0].Identifier))
		}
		if len(among) == 0 {
			resources = append(slices.Clone(resources), apis[0].Identifier)
			among = apis
		}
		// Where several apis define the type, the object has to be good for each that may see it.
		for _, api := range among {
			if refusal := d.fits(api.Details(d.kind)); refusal != nil {
				return nil, refusal
			}
		}
	}
	return resources, nil
}

// target is what one access token is for, and how it is written.
type target struct {
	audience []string
	scopes   []string
	details  details
	// asked are the scopes that the request asked for within the entitlement, whatever the token is for: they decide on an ID token.
	asked    []string
	format   token.Format
	alg      string // of a JWT; "" is the default
	lifetime time.Duration
}

// target decides on one token of what the client is entitled to. The wish narrows; what it leaves out is all there is. What the
// client or an api has lost since is not given any more.
func (p *policy) target(client *registry.Client, e entitlement, w wish) (*target, *Error) {
	scopes, refusal := narrowedScopes(e.scopes, w.scopes)
	if refusal != nil {
		return nil, refusal
	}
	granted, refusal := narrowedDetails(e.details, w.details)
	if refusal != nil {
		return nil, refusal
	}
	audience := e.resources
	if len(w.resources) > 0 {
		audience = w.resources
		for _, resource := range audience {
			if !slices.Contains(e.resources, resource) && !(e.person && resource == p.issuer) {
				return nil, refuse(codeInvalidTarget, "the resource '%s' was not granted; there are: %s", echo(resource), echo(strings.Join(e.resources, ", ")))
			}
		}
	} else {
		audience = p.inferred(audience, w.scopes, granted)
	}
	if audience, refusal = p.reached(client, audience, len(w.resources) > 0); refusal != nil {
		return nil, refusal
	}
	t := &target{audience: audience, format: p.formatOf(client), lifetime: p.lifetimeOf(client)}
	if refusal := p.writtenFor(client, t); refusal != nil {
		return nil, refusal
	}
	for _, scope := range scopes {
		if !p.permits(client, scope, t.audience) || !agreedTo(e.agreedAt, scope, p.apis.WithScope(scope), t.audience) {
			continue
		}
		t.asked = append(t.asked, scope)
		if p.isFor(t.audience, p.own(scope), p.apis.WithScope(scope)) {
			t.scopes = append(t.scopes, scope)
		}
	}
	for _, d := range granted {
		apis := p.apis.WithDetails(d.kind)
		if slices.Contains(client.DetailsTypes, d.kind) && p.isFor(t.audience, false, apis) && agreedTo(e.agreedAt, " "+d.kind, apis, t.audience) {
			t.details = append(t.details, d)
		}
	}
	return t, nil
}

// agreedAt says at which of several apis each scope and each type of details means something now, as grant.Grant keeps it; nil for one.
func (p *policy) agreedAt(e *entitlement) []string {
	var at []string
	apis := 0
	for _, identifier := range e.resources {
		api := p.apis.Get(identifier)
		if api == nil {
			continue
		}
		apis++
		for _, scope := range e.scopes {
			if api.HasScope(scope) {
				at = append(at, scope+" "+identifier)
			}
		}
		for _, kind := range e.details.types() {
			if api.Details(kind) != nil {
				at = append(at, " "+kind+" "+identifier)
			}
		}
	}
	if apis < 2 {
		return nil
	}
	return at
}

// agreedTo says whether a scope, or a type of details with a space before it, was agreed to at every api of an audience that defines it now.
func agreedTo(at []string, name string, defining []*registry.API, audience []string) bool {
	return len(at) == 0 || !slices.ContainsFunc(defining, func(api *registry.API) bool {
		return slices.Contains(audience, api.Identifier) && !slices.Contains(at, name+" "+api.Identifier)
	})
}

// reached is an audience without the apis that the client has nothing of any more: some of their endpoints want a token and no scope. What was asked for by
// name is refused, and so is what leaves nothing.
func (p *policy) reached(client *registry.Client, audience []string, named bool) ([]string, *Error) {
	lost := func(identifier string) bool {
		api := p.apis.Get(identifier)
		return api != nil && !reaches(client, api) // of one that is there no more, writtenFor says so
	}
	i := slices.IndexFunc(audience, lost)
	if i < 0 {
		return audience, nil
	}
	left := slices.DeleteFunc(slices.Clone(audience), lost)
	if named || len(left) == 0 {
		return nil, refuse(codeInvalidTarget, "this client is not registered for any scope of the api '%s' any more", echo(audience[i]))
	}
	return left, nil
}

// inferred is the audience of a token whose request names none: what is left of the entitlement's after the scopes were narrowed
// (RFC 9068 section 3).
func (p *policy) inferred(resources, asked []string, granted details) []string {
	if len(resources) == 0 {
		return []string{p.issuer}
	}
	if len(asked) == 0 {
		return resources
	}
	var left []string
	for _, resource := range resources {
		only := []string{resource}
		if slices.ContainsFunc(asked, func(scope string) bool { return p.isFor(only, p.own(scope), p.apis.WithScope(scope)) }) ||
			slices.ContainsFunc(granted, func(d detail) bool { return p.isFor(only, false, p.apis.WithDetails(d.kind)) }) {
			left = append(left, resource)
		}
	}
	if len(left) == 0 {
		return resources
	}
	return left
}

// forAudience is what of a token's scopes and stored authorization_details means anything to an audience.
func (p *policy) forAudience(audience, scopes []string, stored string) ([]string, string) {
	scopes = slices.DeleteFunc(slices.Clone(scopes), func(scope string) bool {
		return !p.isFor(audience, p.own(scope), p.apis.WithScope(scope))
	})
	all, err := grantedDetails(stored)
	if err != nil {
		return scopes, "" // a token of another version of this broker: nothing is better than too much
	}
	return scopes, slices.DeleteFunc(all, func(d detail) bool { return !p.isFor(audience, false, p.apis.WithDetails(d.kind)) }).String()
}

// isFor says whether what the broker itself (own) or the apis define means anything to an audience.
func (p *policy) isFor(audience []string, own bool, apis []*registry.API) bool {
	if own {
		return slices.Contains(audience, p.issuer)
	}
	return slices.ContainsFunc(apis, func(api *registry.API) bool { return slices.Contains(audience, api.Identifier) })
}

// writtenFor sets how a client's token for its audience is written. Apis that want it written differently cannot share one.
func (p *policy) writtenFor(client *registry.Client, t *target) *Error {
	var first *registry.API
	permitted := profileOf(client).algs
	clients := t.format
	for _, identifier := range t.audience {
		if identifier == p.issuer {
			continue // userinfo reads both
		}
		api := p.apis.Get(identifier)
		if api == nil {
			return refuse(codeInvalidTarget, "the api '%s' is not registered here any more", echo(identifier))
		}
		format := clients
		if api.AccessTokenFormat != "" {
			format = token.Format(api.AccessTokenFormat)
		}
		if first != nil && (format != t.format || api.AccessTokenAlg != t.alg) {
			return refuse(codeInvalidTarget, "the apis '%s' and '%s' take different kinds of tokens; ask for one token each, with one resource", echo(first.Identifier), echo(identifier))
		}
		if format == token.FormatJWT && api.AccessTokenAlg != "" && permitted != nil && !slices.Contains(permitted, api.AccessTokenAlg) {
			return refuse(codeInvalidTarget, "tokens for the api '%s' are signed with %s, which profile %s does not permit", echo(identifier), api.AccessTokenAlg, client.Profile)
		}
		first, t.format, t.alg = api, format, api.AccessTokenAlg
		if ttl := time.Duration(api.AccessTokenTTL) * time.Second; ttl > 0 {
			t.lifetime = min(t.lifetime, ttl)
		}
	}
	return nil
}

func (p *policy) lifetimeOf(client *registry.Client) time.Duration {
	if client.AccessTokenTTL > 0 {
		return time.Duration(client.AccessTokenTTL) * time.Second
	}
	return p.lifetime
}

func (p *policy) formatOf(client *registry.Client) token.Format {
	if client.AccessTokenFormat != "" {
		return token.Format(client.AccessTokenFormat)
	}
	return p.format
}

// narrowedScopes are the scopes of granted that were asked for; all if none were.
func narrowedScopes(granted, asked []string) ([]string, *Error) {
	if len(asked) == 0 {
		return granted, nil
	}
	for _, scope := range asked {
		if !slices.Contains(granted, scope) {
			return nil, refuse(codeInvalidScope, "the scope '%s' was not granted; a token request can only narrow", echo(scope))
		}
	}
	return asked, nil
}

// narrowedDetails are the objects that were asked for, if each is within one of granted (RFC 9396 section 6); all if none were.
func narrowedDetails(granted, asked details) (details, *Error) {
	if len(asked) == 0 {
		return granted, nil
	}
	for i := range asked {
		if !slices.ContainsFunc(granted, func(g detail) bool { return asked[i].narrows(&g) }) {
			return nil, badDetails("authorization_details of type '%s' go beyond what was granted; a token request can only narrow", echo(asked[i].kind))
		}
	}
	return asked, nil
}

// direct takes both steps for a grant that is answered at once: there is no earlier request that its tokens could go beyond.
//
// Where nothing is asked for about a person, it is what the client is registered to know of people (RFC 6749 section 3.3): nobody is
// there who would have to agree. Not offline_access: that an app acts while the person is away is said, not assumed.
func (p *policy) direct(client *registry.Client, w wish, person bool) (entitlement, *target, *Error) {
	if person && len(w.scopes) == 0 && len(w.resources) == 0 && len(w.details) == 0 {
		for _, scope := range client.Scopes {
			if p.own(scope) && scope != ScopeOfflineAccess {
				w.scopes = append(w.scopes, scope)
			}
		}
	}
	if !client.Verified() {
		// What an api opens to strangers, people say yes to. Nobody is asked here: what the client is registered for is all there is.
		registered := *client
		registered.RegisteredBy = registry.ByOperator
		client = &registered
	}
	e, refusal := p.entitle(client, w, person)
	if refusal != nil {
		return e, nil, refusal
	}
	t, refusal := p.target(client, e, wish{})
	return e, t, refusal
}
