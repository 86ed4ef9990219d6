package web

import (
	"net/http"
	"slices"
	"strings"
)

const (
	// corsMaxAge is for how long, in seconds, a browser may remember a preflight answer: two hours, the most that
	// Chromium honours.
	corsMaxAge = "7200"
	// corsAllowHeaders are what apps send beyond the simple headers: clients of the Model Context Protocol say its version when
	// they look for metadata. They are listed because '*' does not cover Authorization (Fetch standard, section 4.9).
	corsAllowHeaders = "Authorization, Content-Type, DPoP, MCP-Protocol-Version"
	// corsExposeHeaders are what apps need to read: why a token was refused (RFC 6750 section 3), the next proof's
	// nonce (RFC 9449 section 8), when to come back, and the reference of an error.
	corsExposeHeaders = "WWW-Authenticate, DPoP-Nonce, Retry-After, X-Request-Id"
)

var (
	valueAnyOrigin     = []string{"*"}
	valueExposeHeaders = []string{corsExposeHeaders}
)

// CORS opens handler to browser apps of any origin (Fetch standard, section 3.2), for the given methods: it answers
// preflights itself, refuses other methods with 405, and passes on the rest. GET includes HEAD.
//
// It is for endpoints that look at no cookie, where any origin is as good as a command line: token, userinfo,
// revocation, metadata, keys. Credentials are never allowed, so a browser sends and stores no cookies there.
func CORS(handler http.Handler, methods ...string) http.Handler {
	allowed := slices.Clone(methods)
	if slices.Contains(allowed, http.MethodGet) && !slices.Contains(allowed, http.MethodHead) {
		allowed = append(allowed, http.MethodHead)
	}
	list := []string{strings.Join(append(slices.Clone(allowed), http.MethodOptions), ", ")}
	allowHeaders, maxAge := []string{corsAllowHeaders}, []string{corsMaxAge}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Access-Control-Allow-Origin"] = valueAnyOrigin
		switch {
		case r.Method == http.MethodOptions:
			h["Access-Control-Allow-Methods"] = list
			h["Access-Control-Allow-Headers"] = allowHeaders
			h["Access-Control-Max-Age"] = maxAge
			h["Allow"] = list
			w.WriteHeader(http.StatusNoContent)
		case slices.Contains(allowed, r.Method):
			h["Access-Control-Expose-Headers"] = valueExposeHeaders
			handler.ServeHTTP(w, r)
		default:
			h["Allow"] = list // RFC 9110 section 15.5.6
			refuse(w, r, http.StatusMethodNotAllowed, "invalid_request", "This method is not for this address", RequestID(r.Context()))
		}
	})
}
