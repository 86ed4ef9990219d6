package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Bounds on what strangers send. The body and URL as a whole are bounded before the broker is asked.
const (
	// maxParam bounds one parameter: the longest honest ones are id_token_hint and client assertions,
	// which are JWTs of a few kilobytes.
	maxParam = 8 << 10
	// maxOpaque bounds state and nonce, which come back in URLs and ID tokens as they were sent.
	maxOpaque = 2 << 10
	// maxScopes and maxScopeLength bound the scope parameter: more than a consent page could show is no request
	// that a person can answer.
	maxScopes      = 64
	maxScopeLength = 256
)

// params are a request's parameters after the rules that hold for all of them.
type params url.Values

// repeatable are the parameters that may be sent more than once (RFC 8707 section 2, RFC 8693 section 2.1).
var repeatable = []string{"resource", "audience"}

// parseParams applies RFC 6749 sections 3.1 and 3.2: a parameter without a value counts as omitted, and none
// may be sent more than once, since two readers could otherwise see two requests.
func parseParams(v url.Values) (params, *Error) {
	for name, values := range v {
		if len(values) > 1 && !slices.Contains(repeatable, name) {
			return nil, refuse(codeInvalidRequest, "the parameter '%s' is there more than once; send it once", echo(name))
		}
		for _, value := range values {
			if len(value) > maxParam {
				return nil, refuse(codeInvalidRequest, "the parameter '%s' is longer than %d bytes", echo(name), maxParam)
			}
		}
	}
	return params(v), nil
}

func (p params) get(name string) string { return url.Values(p).Get(name) }

// formParams reads the form that a client POSTs. The query is not part of it: parameters of the token endpoint
// in a URL would end in logs (RFC 6749 section 3.2).
func formParams(r *http.Request) (params, *Error) {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(contentType), "application/x-www-form-urlencoded") {
		return nil, refuse(codeInvalidRequest, "send the parameters as application/x-www-form-urlencoded, not as '%s'", echo(contentType))
	}
	if err := r.ParseForm(); err != nil {
		return nil, bodyError(err)
	}
	return parseParams(r.PostForm)
}

func bodyError(err error) *Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		e := refuse(codeInvalidRequest, "the request body is longer than %d bytes", tooLarge.Limit)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	return refuse(codeInvalidRequest, "the parameters cannot be read; encode them as application/x-www-form-urlencoded").because(err)
}

// parseScope splits a scope parameter (RFC 6749 section 3.3) and drops repetitions.
func parseScope(raw string) ([]string, *Error) {
	var scopes []string
	seen := map[string]bool{}
	for scope := range strings.SplitSeq(raw, " ") {
		if scope == "" || seen[scope] {
			continue
		}
		if len(scope) > maxScopeLength || !validScope(scope) {
			return nil, refuse(codeInvalidScope, "'%s' is not a scope: scopes are printable ASCII without spaces, quotes and backslashes, up to %d characters", echo(scope), maxScopeLength)
		}
		if len(scopes) == maxScopes {
			return nil, refuse(codeInvalidScope, "more than %d scopes", maxScopes)
		}
		seen[scope] = true
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

// validScope checks the scope-token syntax of RFC 6749 section 3.3.
func validScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
