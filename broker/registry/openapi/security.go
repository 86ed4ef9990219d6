package openapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/registry"
)

// scheme is a security scheme of the document.
type scheme struct {
	kind   schemeKind
	what   string // its type, to people
	chosen bool   // it stands for the broker
}

type schemeKind int

const (
	schemeOther  schemeKind = iota // apiKey, mutualTLS, http basic, …: nothing of the broker's
	schemeOAuth                    // oauth2, openIdConnect: what a requirement lists are scopes
	schemeBearer                   // http with an access token: what a requirement lists are roles, if anything
)

// tokenSchemes are the authentication schemes of HTTP that take access tokens (RFC 6750, RFC 9449 section 7.1). They are compared without
// regard to case (RFC 9110 section 11.1).
var tokenSchemes = []string{"bearer", "dpop"}

// readSchemes reads the security schemes, and the scopes of those that stand for the broker.
func (r *reader) readSchemes(top *object) {
	declared := r.object(r.object(top.get("components")).get("securitySchemes"))
	if r.swagger {
		declared = r.object(top.get("securityDefinitions"))
	}
	objects := map[string]*object{}
	for _, name := range declared.names {
		chain, problem := r.chain(declared.get(name))
		o := chain[len(chain)-1] // of a reference, what stands beside $ref is not read (OpenAPI 3.1 section 4.8.23)
		s := scheme{what: cmp.Or(r.text(o.get("type")), "no type")}
		switch s.what {
		case "oauth2", "openIdConnect":
			s.kind = schemeOAuth
		case "http":
			how := strings.ToLower(r.text(o.get("scheme")))
			if s.what += " " + how; slices.Contains(tokenSchemes, how) {
				s.kind = schemeBearer
			}
		}
		if problem != "" {
			s.kind, s.what = schemeOther, problem
		}
		r.schemes[name], objects[name] = s, o
	}
	r.choose(declared.names)
	for _, name := range declared.names {
		if s := r.schemes[name]; s.chosen && s.kind == schemeOAuth {
			r.flows(objects[name])
		}
	}
}

// choose says which schemes stand for the broker.
func (r *reader) choose(names []string) {
	for _, name := range r.Schemes {
		switch s, there := r.schemes[name]; {
		case !there:
			r.fail(nil, "there is no security scheme %s; there are: %s", quote(name), printable(strings.Join(names, ", ")))
		case s.kind == schemeOther:
			r.fail(nil, "the security scheme %s (%s) takes no access tokens", quote(name), printable(s.what))
		default:
			s.chosen = true
			r.schemes[name] = s
		}
	}
	for _, kind := range []schemeKind{schemeOAuth, schemeBearer} {
		if len(r.Schemes) > 0 {
			return
		}
		found := false
		for name, s := range r.schemes {
			if s.kind == kind {
				s.chosen, found = true, true
				r.schemes[name] = s
			}
		}
		if found {
			return // beside OAuth, a bearer token is somebody else's, or one that needs no scopes
		}
	}
}

// flows reads the scopes that an OAuth 2.0 scheme describes, all its flows together.
func (r *reader) flows(o *object) {
	holders := []*object{o} // 2.0 has one flow to a scheme
	if !r.swagger {
		flows := r.object(o.get("flows"))
		holders = nil
		for _, name := range flows.names {
			if !strings.HasPrefix(name, "x-") {
				holders = append(holders, r.object(flows.get(name)))
			}
		}
	}
	for _, holder := range holders {
		scopes := r.object(holder.get("scopes"))
		for _, name := range scopes.names {
			switch {
			case strings.HasPrefix(name, "x-") && r.swagger || slices.Contains(r.Unchecked, name):
			case slices.Contains(r.Reserved, name):
				r.note("", "the scope %s is the broker's own, and no api's: it is not registered", name)
			case !registry.IsScope(name):
				r.note("", "%s is no scope (RFC 6749 section 3.3): it is not registered", quote(name))
			default:
				r.scope(name, r.text(scopes.get(name)))
			}
		}
	}
}

// requirements reads a list of security requirements: the sets of scopes of which any is enough, or that no token is needed. problem
// says why it is nothing that the broker can check.
func (r *reader) requirements(o *operation, n *yaml.Node) (sets [][]string, isPublic bool, problem string) {
	alternatives := r.list(n)
	if len(alternatives) == 0 {
		return nil, true, ""
	}
	var refused []string
	for _, alternative := range alternatives {
		requirement := r.object(alternative)
		if len(requirement.names) == 0 && !isNull(alternative) {
			isPublic = true
			continue
		}
		set, problem := r.set(requirement)
		if isNull(alternative) { // a dash with nothing behind it, which somebody has yet to write
			problem = "there is nothing where a requirement should be; {} would say that no token is needed"
		}
		if problem != "" {
			if len(refused) < maxReasons && !slices.Contains(refused, problem) {
				refused = append(refused, problem)
			}
			continue
		}
		if !hasSet(sets, set) {
			sets = append(sets, set)
		}
	}
	switch {
	case r.err != nil:
		return nil, false, r.err.Error()
	case isPublic:
		r.note(o.String(), "a token is optional, so that none is asked for")
		return nil, true, ""
	case len(sets) == 0:
		return nil, false, strings.Join(refused, "; or ")
	}
	for _, problem := range refused {
		r.note(o.String(), "one way to call it is left out: %s", problem)
	}
	for _, set := range sets {
		for _, scope := range set {
			r.scope(scope, "")
		}
	}
	if slices.ContainsFunc(sets, func(set []string) bool { return len(set) == 0 }) {
		return [][]string{nil}, false, "" // any token will do, and so nothing else is asked for
	}
	return sets, false, ""
}

// set is what a requirement asks for: the scopes of all its schemes. Those that are nothing of the broker's make it one that the
// broker cannot check.
func (r *reader) set(requirement *object) (set []string, problem string) {
	for _, name := range requirement.names {
		s, there := r.schemes[name]
		switch {
		case !there:
			return nil, fmt.Sprintf("it needs the security scheme %s, which the document does not define", quote(name))
		case !s.chosen:
			return nil, fmt.Sprintf("it needs %s (%s), which is not the broker's", quote(name), printable(s.what))
		}
		listed := r.list(requirement.get(name))
		if s.kind == schemeBearer && len(listed) > 0 && !r.BearerScopes {
			return nil, fmt.Sprintf("it lists roles beside %s (%s), which no token of the broker's has", quote(name), printable(s.what))
		}
		for _, item := range listed {
			scope := r.text(item)
			switch {
			case slices.Contains(set, scope) || slices.Contains(r.Unchecked, scope):
			case slices.Contains(r.Reserved, scope):
				return nil, fmt.Sprintf("it needs the scope %s, which is the broker's own, and no api's", scope)
			case !registry.IsScope(scope):
				return nil, fmt.Sprintf("it needs %s, which is no scope (RFC 6749 section 3.3)", quote(scope))
			default:
				set = append(set, scope)
			}
		}
	}
	return set, ""
}

// hasSet says whether a set of scopes is there, in whatever order.
func hasSet(sets [][]string, set []string) bool {
	return slices.ContainsFunc(sets, func(other []string) bool {
		return len(other) == len(set) && !slices.ContainsFunc(set, func(scope string) bool { return !slices.Contains(other, scope) })
	})
}
