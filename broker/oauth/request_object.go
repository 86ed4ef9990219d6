package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
)

// Request objects (RFC 9101, OpenID Connect Core section 6): the client signs its authorization request, so that nobody on the way can
// change it. They come by value (request), by reference (request_uri), or pushed.
//
// Once there is an object, its parameters alone count (RFC 9101 section 6.3): OpenID Connect Core section 6.1 would fill
// the gaps with what stands beside it, which whoever passes the link on can choose.

const (
	// requestObjectType is the typ of a request object (RFC 9101 section 10.8).
	requestObjectType = "oauth-authz-req+jwt"
	// requestObjectTypes are the media types of one by reference, as the Accept header: its own, that of any JWT, and that which
	// older libraries send.
	requestObjectTypes = "application/oauth-authz-req+jwt, application/jwt, application/jose"
	// maxRequestObject bounds one by reference; one by value is a parameter, and bounded as such.
	maxRequestObject = 16 << 10
	// maxRemembered bounds how long a jti is remembered: an object that names itself to be used once is for one sign-in.
	maxRemembered = 24 * time.Hour
)

func badObject(format string, args ...any) *Error {
	return refuse(codeInvalidRequestObject, format, args...)
}

// resolveObject reads a request object by value.
func (s *Server) resolveObject(ctx context.Context, client *registry.Client, query url.Values, raw string) (*asked, *Error) {
	refused := &asked{client: client, params: query} // what stands beside the object says how to tell the app, if it is registered
	payload, header, err := s.keySets.Verify(ctx, keyset.Source{JWKS: client.JWKS, URI: client.JWKSURI}, raw, objectAlgs(client))
	switch {
	case errors.Is(err, keyset.ErrUnavailable):
		return refused, badObject("the request object's signature cannot be checked: the client's keys cannot be read").because(err)
	case err != nil:
		return refused, badObject("the request object is not a JWS that a key of this client signed, with one of %s", strings.Join(objectAlgs(client), ", ")).because(err)
	}
	object, refusal := judgeObject(payload, header.Type, s.issuer, client, s.now())
	if refusal != nil {
		return refused, refusal
	}
	return object, nil
}

// resolveReference fetches a request object, from an address that the client registered and from no other: anybody can make a link, and the
// broker is not to fetch what they like.
func (s *Server) resolveReference(ctx context.Context, client *registry.Client, query url.Values) (*asked, *Error) {
	refused := &asked{client: client, params: query}
	address := registry.RequestAddress(query.Get("request_uri"))
	registered := slices.ContainsFunc(client.RequestURIs, func(uri string) bool { return registry.RequestAddress(uri) == address })
	if !registered {
		return refused, refuse(codeInvalidRequestURI, "the request_uri is not one of the request_uris registered for this client")
	}
	if !client.Verified() {
		// Whoever registers an app, or writes a document about one, names where the broker is to call, and anybody can then have it call by opening a
		// link (RFC 9101 section 10.4.1).
		if refusal := s.countAddress(ctx, countReferences, "requests by reference", s.unprovenPerMinute, strangeWindow); refusal != nil {
			return refused, refusal
		}
	}
	answer, err := s.fetch.Get(ctx, address, requestObjectTypes, maxRequestObject)
	if err != nil {
		return refused, refuse(codeInvalidRequestURI, "the request object cannot be read from the request_uri").because(err)
	}
	if !slices.Contains(strings.Split(requestObjectTypes, ", "), answer.ContentType) {
		return refused, refuse(codeInvalidRequestURI, "the request_uri serves '%s', not application/oauth-authz-req+jwt", echo(answer.ContentType))
	}
	return s.resolveObject(ctx, client, query, string(bytes.TrimSpace(answer.Body)))
}

// objectAlgs are what the client may sign its request objects with. Never none: an object without a signature protects nothing.
func objectAlgs(client *registry.Client) []string {
	switch {
	case client.RequestSigningAlg != "":
		return []string{client.RequestSigningAlg}
	case profileOf(client).algs != nil:
		return profileOf(client).algs
	}
	return keyset.Algorithms()
}

// objectClaims is what a request object says: its own claims (RFC 9101 section 4, RFC 7519 section 4.1) and its parameters. It is read as a map
// because names in it are exact: encoding/json would take ISS for iss.
type objectClaims map[string]any

// readObject decodes exactly one JSON object, its numbers as they are written.
func readObject(payload []byte) (objectClaims, error) {
	var c objectClaims
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) || c == nil {
		return nil, errors.New("not exactly one JSON object")
	}
	return c, nil
}

// text is a claim that is a text; "" if it is missing or something else.
func (c objectClaims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// holds says whether a claim that may be one text or a list of them (RFC 7519 section 4.1.3) holds value.
func (c objectClaims) holds(name, value string) bool {
	if list, ok := c[name].([]any); ok {
		return slices.Contains(list, any(value))
	}
	return c.text(name) == value
}

// time is a claim that is a NumericDate (RFC 7519 section 2); zero if it is missing.
func (c objectClaims) time(name string) (time.Time, error) {
	value, has := c[name]
	if !has {
		return time.Time{}, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, fmt.Errorf("%s is no number", name)
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 1 || seconds > maxNumericDate {
		return time.Time{}, fmt.Errorf("%s is out of bounds", name)
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// maxNumericDate is the last second of the year 9999: what is later has no form in which others could read it.
const maxNumericDate = 253402300799

// judgeObject decides on what a signed request object says, and takes its parameters out. It does no IO.
func judgeObject(payload []byte, typ, issuer string, client *registry.Client, now time.Time) (*asked, *Error) {
	// RFC 9101 section 10.8: no other kind of JWT of this client's passes for a request object. Objects from before the RFC have no typ, or JWT.
	if !typeAllowed(typ, requestObjectType) {
		return nil, badObject("the request object's typ is '%s', not %s", echo(typ), requestObjectType)
	}
	c, err := readObject(payload)
	if err != nil {
		return nil, badObject("the request object is not a JSON object (RFC 9101 section 4)").because(err)
	}
	held, id := profileOf(client), c.text("jti")
	expires, errExp := c.time("exp")
	notBefore, errNbf := c.time("nbf")
	issuedAt, errIat := c.time("iat")
	switch {
	case errors.Join(errExp, errNbf, errIat) != nil:
		return nil, badObject("exp, nbf or iat of the request object is no time in seconds").because(errors.Join(errExp, errNbf, errIat))
	case c.text("iss") != client.ID:
		return nil, badObject("iss of the request object is not the client_id")
	case c.text("client_id") != client.ID:
		return nil, badObject("client_id in the request object is not the client_id beside it (RFC 9101 section 6.3)")
	case !c.holds("aud", issuer):
		return nil, badObject("aud of the request object does not hold this server's issuer, %s", issuer)
	case c.text("sub") == client.ID:
		// RFC 9101 section 10.8: it would pass for an assertion of the client's elsewhere, and one for it here.
		return nil, badObject("sub of the request object is the client_id, which makes it an assertion")
	case !expires.IsZero() && !now.Before(expires):
		return nil, badObject("the request object has expired")
	case notBefore.After(now.Add(assertionLeeway)), issuedAt.After(now.Add(assertionLeeway)):
		return nil, badObject("the request object is from the future: check the clocks")
	case held.objectLifetime > 0 && (expires.IsZero() || expires.After(now.Add(held.objectLifetime))):
		return nil, badObject("the request object must have an exp of at most %s from now", held.objectLifetime)
	case held.objectLifetime > 0 && !notBefore.IsZero() && notBefore.Before(now.Add(-held.objectLifetime)):
		return nil, badObject("nbf of the request object is more than %s ago", held.objectLifetime)
	case id != "" && (expires.IsZero() || expires.After(now.Add(maxRemembered))):
		return nil, badObject("a request object with a jti is used once, and must have an exp of at most %s from now", maxRemembered)
	case c["jti"] != nil && id == "":
		return nil, badObject("jti of the request object is no text, or an empty one")
	case len(id) > maxOpaque:
		return nil, badObject("jti of the request object is longer than %d bytes", maxOpaque)
	}
	params, refusal := c.params()
	if refusal != nil {
		return nil, refusal
	}
	a := &asked{client: client, params: params, signed: true}
	if id != "" {
		a.once = &flow.Once{Name: "object " + client.ID + " " + id, Until: expires, Refusal: codeInvalidRequestObject}
	}
	return a, nil
}

// params are the claims that are the request's parameters (RFC 9101 section 4): texts as they are, numbers as they are written,
// everything else as JSON. A resource may be a list of texts (RFC 8707 section 2).
func (c objectClaims) params() (url.Values, *Error) {
	params := make(url.Values, len(c))
	for name, value := range c {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti":
			continue
		case "request", "request_uri":
			return nil, badObject("%s cannot stand in a request object (RFC 9101 section 4)", name)
		case "resource":
			if list, ok := value.([]any); ok {
				for _, entry := range list {
					text, ok := entry.(string)
					if !ok {
						return nil, badObject("resource in the request object is not a list of texts (RFC 8707 section 2)")
					}
					params.Add(name, text)
				}
				continue
			}
		}
		switch value := value.(type) {
		case nil:
		case string:
			params.Set(name, value)
		case json.Number:
			params.Set(name, value.String())
		default:
			text, err := json.Marshal(value)
			if err != nil {
				return nil, internal(err)
			}
			params.Set(name, string(text))
		}
	}
	return params, nil
}
