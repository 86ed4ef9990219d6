package oauth

import "context"

// What a request or a grant names is made known before the policy judges it, which does no IO: apis are registered while brokers run, and another node may
// have registered one a moment ago.

// wished is the wish of a request, after which the apis are known that it names, as far as there are such: one that another node registered a moment ago
// is not refused here.
func (s *Server) wished(ctx context.Context, p params) (wish, *Error) {
	w, refusal := readWish(p)
	if refusal != nil {
		return w, refusal
	}
	return w, s.catchUp(ctx, w.scopes, w.resources, w.details)
}

// catchUp makes the apis known that define or are what is named.
func (s *Server) catchUp(ctx context.Context, scopes, resources []string, all details) *Error {
	if err := s.policy.apis.CatchUp(ctx, scopes, resources, all.types()); err != nil {
		return internal(err)
	}
	return nil
}

// granted is what a flow or a grant entitles to, judged by the apis that there are.
func (s *Server) granted(ctx context.Context, scopes, resources []string, stored string) (entitlement, *Error) {
	e, err := entitlementOf(scopes, resources, stored)
	if err != nil {
		return e, internal(err)
	}
	return e, s.catchUp(ctx, e.scopes, e.resources, e.details)
}
