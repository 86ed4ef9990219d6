package registry

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/portico-id/portico/broker/store"
)

// API is a resource server registered with the broker: what tokens for it may say, and how they are written. Durations are
// in seconds; 0 means the client's, or the configuration's.
type API struct {
	// Identifier is the audience of its tokens, and what a client names as resource: an absolute URI without fragment (RFC 8707
	// section 2), compared byte by byte.
	Identifier string `json:"identifier"`
	Name       string `json:"name"`
	// Scopes are the permissions that it defines, in the order in which people read them. Several apis may define the same one.
	Scopes []Scope `json:"scopes,omitempty"`
	// DetailsTypes are the types of authorization_details that it defines (RFC 9396 section 2).
	DetailsTypes []DetailsType `json:"authorization_details_types,omitempty"`

	// AccessTokenFormat is opaque or jwt; "" is the client's, or the configuration's.
	AccessTokenFormat string `json:"access_token_format,omitempty"`
	// AccessTokenAlg signs its tokens, where they are JWTs: ES256 (also ""), RS256, EdDSA.
	AccessTokenAlg string `json:"access_token_signing_alg,omitempty"`
	// AccessTokenTTL bounds its tokens' lifetime; a client's own, if that is shorter, stands.
	AccessTokenTTL int64 `json:"access_token_lifetime,omitempty"`
	// AccessTokenInQuery says that it takes access tokens in the query parameter access_token too (RFC 6750 section 2.3).
	AccessTokenInQuery bool `json:"access_token_in_query,omitempty"`

	// SelfRegistered says that clients which nobody here has registered (see Registrar) may ask people for its scopes, without being registered
	// for them.
	SelfRegistered bool `json:"self_registered,omitempty"`

	// URL is where it is reached: scheme (http or https), host and an optional path, without a slash at the end. "" where the broker need not know.
	URL string `json:"url,omitempty"`
	// Endpoints are what it answers below URL, and what a token needs there. What is not among them is nobody's.
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// Static says that it stands in the configuration, and is changed there.
	Static bool `json:"-"`

	routes *node // of Endpoints, once it is in APIs
}

// Endpoint is a method and a path pattern of an api, and what a token needs there.
type Endpoint struct {
	// Method is an HTTP method in upper case; GET covers HEAD. "*" is every method.
	Method string `json:"method"`
	// Path begins with a slash. {name} stands for a segment, or for a part of one; {name...} at the end for all that follows.
	Path string `json:"path"`
	// Scopes are all needed. Without any, every token of the api's will do.
	Scopes []string `json:"scopes,omitempty"`
	// Alternatives are other sets of scopes, each of which is enough too.
	Alternatives [][]string `json:"alternatives,omitempty"`
	// ACRValues are those that the sign-in must have one of, MaxAge the seconds since it that are allowed (RFC 9470 section 3); 0: any.
	ACRValues []string `json:"acr_values,omitempty"`
	MaxAge    int64    `json:"max_age,omitempty"`
	// Public says that no token is needed, Denied that none will do: for what a less specific endpoint would let through.
	Public bool `json:"public,omitempty"`
	Denied bool `json:"denied,omitempty"`
}

// Scope is a permission with the sentence that a person reads before saying yes to it.
type Scope struct {
	Name     string `json:"name"`
	Sentence string `json:"sentence"`
}

// DetailsType is one type of authorization_details.
type DetailsType struct {
	Type     string `json:"type"`
	Sentence string `json:"sentence"` // what a person says yes to; the fields stand below it
	// Fields that an object of the type may have besides "type". Empty: those that RFC 9396 section 2.2 names.
	Fields []DetailsField `json:"fields,omitempty"`
}

// DetailsField is a field of authorization_details.
type DetailsField struct {
	Name     string `json:"name"`
	Required bool   `json:"required,omitempty"`
	// Values are what the field, or each item of its list, may be. Empty: anything within the bounds of authorization_details.
	Values []string `json:"values,omitempty"`
}

// CommonDetailsFields are the fields that RFC 9396 section 2.2 defines for every type. All but identifier are lists of strings.
var CommonDetailsFields = []string{"locations", "actions", "datatypes", "identifier", "privileges"}

// Bounds of an api.
const (
	// MaxSentence bounds what a person reads before pressing a button, in bytes.
	MaxSentence = 200
	maxFields   = 32 // of a type of authorization_details, and values of a field
	// maxScopes bounds the scopes of an api. Public descriptions of large ones define more than a hundred.
	maxScopes = 256
	// maxAPIBytes bounds an api as JSON: it has to fit into one document, which is longer as BSON by a half at most where endpoints are as
	// people write them.
	maxAPIBytes = store.MaxDocumentBytes * 5 / 8
)

// detailsPattern is the alphabet of the types and fields of authorization_details: types are often URIs (RFC 9396 section 2.1).
var detailsPattern = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,128}$`)

// Is says whether two are the same api, be it at different times.
func (a *API) Is(o *API) bool { return a.Identifier == o.Identifier }

// HasScope says whether the api defines a scope.
func (a *API) HasScope(name string) bool {
	return slices.ContainsFunc(a.Scopes, func(s Scope) bool { return s.Name == name })
}

// Details is the api's type of authorization_details of that name, or nil.
func (a *API) Details(name string) *DetailsType {
	for i := range a.DetailsTypes {
		if a.DetailsTypes[i].Type == name {
			return &a.DetailsTypes[i]
		}
	}
	return nil
}

// Field is the type's field of that name, or nil if an object of the type may not have it.
func (t *DetailsType) Field(name string) *DetailsField {
	if len(t.Fields) == 0 {
		if slices.Contains(CommonDetailsFields, name) {
			return &DetailsField{Name: name}
		}
		return nil
	}
	for i := range t.Fields {
		if t.Fields[i].Name == name {
			return &t.Fields[i]
		}
	}
	return nil
}

// Validate says what is wrong with an api: every field that is, by its name and with what is allowed, each as a FieldError.
func (a *API) Validate() error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fieldError(field, format, args...))
	}
	if err := CheckIdentifier(a.Identifier); err != nil {
		bad("identifier", "%q: %w", a.Identifier, err)
	}
	if !readable(a.Name, MaxName) {
		bad("name", "1 to %d printable bytes are needed: people read it when they consent", MaxName)
	}
	if len(a.Scopes) == 0 && len(a.DetailsTypes) == 0 {
		bad("scopes", "at least one scope or type of authorization_details is needed: otherwise nothing could be asked for")
	}
	if len(a.Scopes) > maxScopes {
		bad("scopes", "%d are more than %d", len(a.Scopes), maxScopes)
	}
	if len(a.DetailsTypes) > maxItems {
		bad("authorization_details_types", "%d are more than %d", len(a.DetailsTypes), maxItems)
	}
	for i, scope := range a.Scopes {
		path := at("scopes", i)
		switch {
		case !IsScope(scope.Name):
			bad(path+".name", `%q is not a scope: 1 to 256 visible ASCII characters without " and \ (RFC 6749 section 3.3)`, scope.Name)
		case slices.ContainsFunc(a.Scopes[:i], func(s Scope) bool { return s.Name == scope.Name }):
			bad(path+".name", "%q is there twice", scope.Name)
		}
		if !readable(scope.Sentence, MaxSentence) {
			bad(path+".sentence", needsSentence, MaxSentence)
		}
	}
	for i := range a.DetailsTypes {
		t, path := &a.DetailsTypes[i], at("authorization_details_types", i)
		if slices.ContainsFunc(a.DetailsTypes[:i], func(o DetailsType) bool { return o.Type == t.Type }) {
			bad(path+".type", "%q is there twice", t.Type)
		}
		t.check(func(field, format string, args ...any) { bad(path+"."+field, format, args...) })
	}
	if a.AccessTokenFormat != "" && !slices.Contains(tokenFormats, a.AccessTokenFormat) {
		bad("access_token_format", "%q is none of %s", a.AccessTokenFormat, strings.Join(tokenFormats, ", "))
	}
	if a.AccessTokenAlg != "" && !slices.Contains(signingAlgs, a.AccessTokenAlg) {
		bad("access_token_signing_alg", "%q is none of %s", a.AccessTokenAlg, strings.Join(signingAlgs, ", "))
	}
	if a.AccessTokenAlg != "" && a.AccessTokenFormat == "opaque" {
		bad("access_token_signing_alg", "opaque tokens are not signed")
	}
	if a.AccessTokenTTL < 0 || time.Duration(a.AccessTokenTTL) > maxAccessLifetime/time.Second {
		bad("access_token_lifetime", "%d seconds are not between 0 and %d", a.AccessTokenTTL, int64(maxAccessLifetime/time.Second))
	}
	if a.URL != "" {
		if err := CheckURL(a.URL); err != nil {
			bad("url", "%q: %w", a.URL, err)
		}
	}
	for _, problem := range a.EndpointProblems() {
		bad(at("endpoints", problem.Index)+"."+problem.Field, "%w", problem.Err)
	}
	if len(problems) == 0 {
		if encoded, err := json.Marshal(a); err != nil {
			problems = append(problems, err)
		} else if len(encoded) > maxAPIBytes {
			bad("endpoints", "with all scopes and sentences, the api is %d bytes as JSON, more than %d", len(encoded), maxAPIBytes)
		}
	}
	return errors.Join(problems...)
}

// needsSentence is wrong with what a person could not read.
const needsSentence = "1 to %d printable bytes are needed: people read it before they say yes"

// check judges a type of authorization_details.
func (t *DetailsType) check(bad badFunc) {
	if !detailsPattern.MatchString(t.Type) {
		bad("type", `%q is not 1 to 128 visible ASCII characters without " and \`, t.Type)
	}
	if !readable(t.Sentence, MaxSentence) {
		bad("sentence", needsSentence, MaxSentence)
	}
	if len(t.Fields) > maxFields {
		bad("fields", "%d are more than %d", len(t.Fields), maxFields)
	}
	for i, field := range t.Fields {
		path := at("fields", i)
		switch {
		case !detailsPattern.MatchString(field.Name) || field.Name == "type":
			bad(path+".name", `%q is not the name of a field: 1 to 128 visible ASCII characters without " and \, and not type`, field.Name)
		case slices.ContainsFunc(t.Fields[:i], func(f DetailsField) bool { return f.Name == field.Name }):
			bad(path+".name", "%q is there twice", field.Name)
		}
		if len(field.Values) > maxFields {
			bad(path+".values", "%d are more than %d", len(field.Values), maxFields)
		}
		for j, value := range field.Values {
			if !readable(value, MaxSentence) {
				bad(at(path+".values", j), "1 to %d printable bytes are needed", MaxSentence)
			}
		}
	}
}

// readable says whether a person can read a text of up to limit bytes.
func readable(text string, limit int) bool {
	return strings.TrimSpace(text) != "" && len(text) <= limit && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// CheckIdentifier says whether a string may name an api: an absolute URI without fragment (RFC 8707 section 2), and without
// a query, which the section advises against.
func CheckIdentifier(identifier string) error {
	_, err := checkURI(identifier)
	switch {
	case strings.Contains(identifier, "#"):
		return errors.New("it has a fragment; an api is named by a URI without one (RFC 8707 section 2)")
	case err != nil:
		return err
	case strings.Contains(identifier, "?"):
		return errors.New("it has a query; an api is named by a URI without one (RFC 8707 section 2)")
	}
	return nil
}
