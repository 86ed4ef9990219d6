package registry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of an api's endpoints.
const (
	// MaxEndpoints bounds the endpoints of an api: the largest public descriptions have about as many operations, and few documents
	// within the store's bounds could hold more.
	MaxEndpoints = 1000
	// maxPath bounds a pattern, in bytes: a path that is longer is no path that somebody wrote.
	maxPath = 1024
	// maxAlternatives bounds the sets of scopes of an endpoint: a challenge names one of them, and who asks should be able to know which.
	// Public descriptions have operations with 25.
	maxAlternatives = 32
)

var (
	// methodPattern is a method in upper case (RFC 9110 section 9.1), or every method.
	methodPattern = regexp.MustCompile(`^([A-Z][A-Z0-9_-]{0,31}|\*)$`)
	// acrPattern is a value that acr_values can hold, separated by spaces, and a challenge in quotes (RFC 9470 section 3).
	acrPattern = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,255}$`)
)

// The words of an endpoint as text, besides scopes.
const (
	wordPublic = "public"
	wordDenied = "denied"
	wordOr     = "|"
	wordScope  = "scope="
	wordACR    = "acr="
	wordMaxAge = "max_age="
)

// ParseEndpoint reads an endpoint as people write it: the method, the path, and the scopes that are needed, with | between sets that are each
// enough:
//
//	GET /notes/{id} notes:read
//	GET /notes notes:read | notes:admin audit
//	POST /payments pay acr=urn:example:mfa max_age=300
//	GET /health public
//	GET /notes/export denied
//
// acr= may be there several times. A scope that reads like one of these words is written scope=NAME. What the endpoint may say is judged by
// API.Validate.
func ParseEndpoint(text string) (Endpoint, error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return Endpoint{}, fmt.Errorf("%q is not a method and a path, such as: GET /notes notes:read", text)
	}
	e := Endpoint{Method: strings.ToUpper(words[0]), Path: words[1]}
	if hint := meantOtherwise(words); hint != "" {
		return Endpoint{}, fmt.Errorf("%q: %s", text, hint)
	}
	sets := [][]string{nil}
	for _, word := range words[2:] {
		last := &sets[len(sets)-1]
		switch {
		case word == wordPublic:
			e.Public = true
		case word == wordDenied:
			e.Denied = true
		case word == wordOr:
			sets = append(sets, nil)
		case strings.HasPrefix(word, wordACR):
			e.ACRValues = append(e.ACRValues, word[len(wordACR):])
		case strings.HasPrefix(word, wordMaxAge):
			seconds, err := strconv.ParseInt(word[len(wordMaxAge):], 10, 64)
			if err != nil {
				return Endpoint{}, fmt.Errorf("%q: %q is not a number of seconds", text, word)
			}
			e.MaxAge = seconds
		case word == wordScope:
			return Endpoint{}, fmt.Errorf("%q: %s is followed by a scope", text, wordScope)
		default:
			*last = append(*last, strings.TrimPrefix(word, wordScope))
		}
	}
	e.Scopes = sets[0]
	if len(sets) > 1 {
		if slices.ContainsFunc(sets, func(set []string) bool { return len(set) == 0 }) {
			return Endpoint{}, fmt.Errorf("%q: beside | there are scopes to choose between", text)
		}
		e.Alternatives = sets[1:]
	}
	return e, nil
}

// meantOtherwise says what is wrong with an endpoint that is written as other programs want it, and would be read as a path that no request has.
func meantOtherwise(words []string) string {
	path := words[1]
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "*" || segment == "**" || len(segment) > 1 && segment[0] == ':' {
			return fmt.Sprintf("write {name} for a segment, or {name...} for all that follows, not %q", segment)
		}
	}
	if strings.HasSuffix(path, ":") || len(words) == 2 && strings.Contains(path, "=") && !strings.ContainsAny(path, "?{()") {
		return "a space comes before the scopes, as in: GET /notes notes:read"
	}
	return ""
}

// String is the endpoint as ParseEndpoint reads it.
func (e Endpoint) String() string {
	words := []string{e.Method, e.Path}
	scopes := func(set []string) {
		for _, scope := range set {
			if scope == wordPublic || scope == wordDenied || scope == wordOr || strings.HasPrefix(scope, wordScope) || strings.HasPrefix(scope, wordACR) || strings.HasPrefix(scope, wordMaxAge) {
				scope = wordScope + scope
			}
			words = append(words, scope)
		}
	}
	scopes(e.Scopes)
	for _, set := range e.Alternatives {
		words = append(words, wordOr)
		scopes(set)
	}
	for _, value := range e.ACRValues {
		words = append(words, wordACR+value)
	}
	if e.MaxAge != 0 {
		words = append(words, wordMaxAge+strconv.FormatInt(e.MaxAge, 10))
	}
	if e.Public {
		words = append(words, wordPublic)
	}
	if e.Denied {
		words = append(words, wordDenied)
	}
	return strings.Join(words, " ")
}

// EndpointProblem is what is wrong with one endpoint of an api.
type EndpointProblem struct {
	Index int    // in the api's list
	Field string // such as path
	Err   error
}

// EndpointProblems says what is wrong with the api's endpoints, in their order.
func (a *API) EndpointProblems() []EndpointProblem {
	if len(a.Endpoints) > MaxEndpoints {
		return []EndpointProblem{{Index: MaxEndpoints, Field: "path", Err: fmt.Errorf("%d endpoints are more than %d", len(a.Endpoints), MaxEndpoints)}}
	}
	var problems []EndpointProblem
	patterns := make([][]segment, len(a.Endpoints))
	for i := range a.Endpoints {
		e := &a.Endpoints[i]
		bad := func(field, format string, args ...any) {
			problems = append(problems, EndpointProblem{Index: i, Field: field, Err: fmt.Errorf(format, args...)})
		}
		var err error
		if patterns[i], err = parsePattern(e.Path); err != nil {
			bad("path", "%q: %w", e.Path, err)
			continue
		}
		e.check(a, bad)
		for j := range i {
			if o := &a.Endpoints[j]; patterns[j] != nil && clash(e, o, patterns[i], patterns[j]) {
				bad("path", "%s %s and %s %s cannot be told apart: a request could be either's, and neither is the more specific", e.Method, e.Path, o.Method, o.Path)
			}
		}
	}
	return problems
}

// check judges all of an endpoint but its path.
func (e *Endpoint) check(a *API, bad badFunc) {
	if !methodPattern.MatchString(e.Method) {
		bad("method", "%q is not an HTTP method in upper case, or *", e.Method)
	}
	if len(e.Alternatives) > maxAlternatives {
		bad("alternatives", "%d are more than %d", len(e.Alternatives), maxAlternatives)
		return
	}
	e.checkScopes(a, "scopes", e.Scopes, bad)
	for i, set := range e.Alternatives {
		if len(set) == 0 || len(e.Scopes) == 0 {
			bad("alternatives", "beside no scope at all, which every token has, there is no alternative")
			break
		}
		e.checkScopes(a, at("alternatives", i), set, bad)
	}
	if len(e.ACRValues) > maxItems {
		bad("acr_values", "%d are more than %d", len(e.ACRValues), maxItems)
	}
	for i, value := range e.ACRValues {
		if !acrPattern.MatchString(value) {
			bad("acr_values", `%q is not 1 to 255 visible ASCII characters without " and \`, value)
		} else if slices.Contains(e.ACRValues[:i], value) {
			bad("acr_values", "%q is there twice", value)
		}
	}
	if e.MaxAge < 0 || e.MaxAge > int64(maxLifetime/time.Second) {
		bad("max_age", "%d seconds are not between 0 and %d", e.MaxAge, int64(maxLifetime/time.Second))
	}
	asks, signIn := len(e.Scopes) > 0, len(e.ACRValues) > 0 || e.MaxAge != 0
	switch {
	case e.Denied && (e.Public || asks || signIn):
		bad("denied", "nobody may use it, and yet it says who may")
	case e.Public && asks:
		bad("public", "it needs no token, and yet it names scopes")
	case e.Public && signIn:
		bad("public", "it needs no token, and yet it says how a person must have signed in")
	}
}

// checkScopes judges one set of scopes of an endpoint.
func (e *Endpoint) checkScopes(a *API, field string, set []string, bad badFunc) {
	if len(set) > maxItems {
		bad(field, "%d are more than %d", len(set), maxItems)
		return
	}
	for i, scope := range set {
		if !a.HasScope(scope) {
			bad(field, "%s %s needs %q, which is not a scope of this api", e.Method, e.Path, scope)
		} else if slices.Contains(set[:i], scope) {
			bad(field, "%q is there twice", scope)
		}
	}
}

// CheckURL says whether an address may be where an api is reached: http or https, a host, and a path or none, in the one form in which
// two that are the same are equal.
func CheckURL(raw string) error {
	u, err := checkURI(raw)
	if err != nil {
		return err
	}
	origin := Origin(raw)
	switch {
	case origin == "":
		return errors.New("it is not http:// or https:// and a host")
	case strings.ContainsAny(raw, "?%"):
		return errors.New("it has a query, or encoded characters")
	case strings.HasSuffix(raw, "/"):
		return errors.New("it ends in a slash; endpoints' paths begin with one")
	case raw != origin+u.Path:
		return fmt.Errorf("it is not in its simplest form: write %s", origin+u.Path)
	case u.Path != "" && !plainPath(u.Path):
		return errors.New("it has empty segments or dot segments in its path")
	}
	return nil
}
