package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/web"
)

// Client authentication (RFC 6749 section 2.3). Every endpoint that a client calls itself starts here: what the request
// shows is read, the client it names is found, the method is the one that the client is registered for, and the method's own function
// says whether what was shown is good. The methods are in one table, from which the metadata are made too.

// credentials are what a request shows of who sends it, unchecked.
type credentials struct {
	id     string
	method string // as registry.AuthBasic …; "" if there is an id alone: the registration says whether that is none, or a certificate
	secret string // AuthBasic, AuthPost

	assertion string // AuthSecretJWT, AuthPrivateKeyJWT
}

// authMethod checks credentials of one method for the client that they name. An *Error is the answer; any other error is a cause for
// the log, and the answer is that of badClient.
type authMethod func(r *http.Request, client *registry.Client, c credentials) error

// authMethods are those that are on, by their names in registrations.
func (s *Server) authMethods() map[string]authMethod {
	methods := map[string]authMethod{
		registry.AuthBasic:         s.bySecret,
		registry.AuthPost:          s.bySecret,
		registry.AuthSecretJWT:     s.bySecretJWT,
		registry.AuthPrivateKeyJWT: s.byPrivateKeyJWT,
		// A public client is who it says it is, as far as a token or code of its own bears it out.
		registry.AuthNone: func(*http.Request, *registry.Client, credentials) error { return nil },
	}
	if s.mtls.On {
		methods[registry.AuthSelfSignedTLS] = s.bySelfSignedTLS
	}
	if s.mtls.On && s.mtls.Authorities != nil {
		methods[registry.AuthTLS] = s.byTLS
	}
	return methods
}

// authMethodNames are the methods that are on, for the metadata; those but "none" for endpoints that a public client may not call.
func (s *Server) authMethodNames(public bool) []string {
	var names []string
	for name := range s.authenticators {
		if public || name != registry.AuthNone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// badClient is the one answer to every failed authentication: which part was wrong is for the log.
func badClient(cause string) *Error { return badClientBecause(errors.New(cause)) }

func badClientBecause(cause error) *Error {
	return invalidClient("client authentication failed: unknown client, wrong secret, key or certificate, or a method that this client is not registered for").because(cause)
}

// invalidClient refuses a client in other words: for what it can only know if it is who it says it is, or what says nothing of any client.
func invalidClient(format string, args ...any) *Error {
	e := refuse(codeInvalidClient, format, args...)
	e.Status = http.StatusUnauthorized
	return e
}

// readCredentials finds the one way in which the request authenticates. RFC 6749 section 2.3: more than one is refused.
// A certificate does not count: connections have one for whatever they are used for, and tokens are bound to it with any method
// (RFC 8705 section 3).
func readCredentials(r *http.Request, p params) (credentials, *Error) {
	header, id, secret, assertion := r.Header.Get("Authorization"), p.get("client_id"), p.get("client_secret"), p.get("client_assertion")
	shown := 0
	for _, s := range []string{header, secret, assertion} {
		if s != "" {
			shown++
		}
	}
	switch {
	case shown > 1:
		return credentials{}, refuse(codeInvalidRequest, "the client authenticates twice: use one of the Authorization header, client_secret and client_assertion (RFC 6749 section 2.3)")
	case assertion == "" && p.get("client_assertion_type") != "":
		return credentials{}, refuse(codeInvalidRequest, "client_assertion_type is there without client_assertion")
	case assertion != "":
		return readAssertion(id, p.get("client_assertion_type"), assertion)
	case header != "":
		basicID, basicSecret, ok := basicAuth(header)
		if !ok {
			return credentials{}, badClient("the Authorization header is not HTTP Basic with form-encoded id and secret")
		}
		if id != "" && id != basicID {
			return credentials{}, refuse(codeInvalidRequest, "client_id and the Authorization header name different clients")
		}
		return credentials{id: basicID, secret: basicSecret, method: registry.AuthBasic}, nil
	case id == "":
		return credentials{}, badClient("no credentials in the request")
	case secret != "":
		return credentials{id: id, secret: secret, method: registry.AuthPost}, nil
	}
	return credentials{id: id}, nil
}

// basicAuth reads HTTP Basic as RFC 6749 section 2.3.1 wants it: both halves form-encoded before they are joined.
func basicAuth(header string) (id, secret string, ok bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	rawID, rawSecret, found := strings.Cut(string(decoded), ":")
	if !found {
		return "", "", false
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		return "", "", false
	}
	if secret, err = url.QueryUnescape(rawSecret); err != nil {
		return "", "", false
	}
	return id, secret, id != ""
}

// authenticate identifies the client that sends the request.
func (s *Server) authenticate(r *http.Request, p params) (*registry.Client, *Error) {
	c, refusal := readCredentials(r, p)
	if refusal != nil {
		return nil, refusal
	}
	client, refusal := s.knownClient(r.Context(), c.id)
	if refusal != nil {
		return nil, refusal
	}
	if c.method == "" {
		c.method = registry.AuthNone
		if client.AuthMethod == registry.AuthTLS || client.AuthMethod == registry.AuthSelfSignedTLS {
			c.method = client.AuthMethod
		}
	}
	check, on := s.authenticators[c.method]
	switch {
	case !client.AllowsAuth(c.method):
		return nil, badClient("the client is not registered for " + c.method)
	case !on:
		return nil, badClient(c.method + " is not switched on: it needs mtls in the configuration, and tls_client_auth mtls.ca_file")
	}
	if err := check(r, client, c); err != nil {
		var refusal *Error
		if errors.As(err, &refusal) {
			return nil, refusal
		}
		return nil, badClientBecause(err)
	}
	return client, nil
}

// knownClient reads the client that a request names.
func (s *Server) knownClient(ctx context.Context, id string) (*registry.Client, *Error) {
	client, err := s.clients.Get(ctx, id)
	if err == nil {
		web.NoteClient(ctx, client.ID) // not an id that nobody has: it may be a secret in the wrong place
	}
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, badClientBecause(err)
	case errors.Is(err, registry.ErrUnavailable):
		return nil, &Error{Code: codeUnavailable, Description: "the metadata at the address that is the client_id cannot be read at the moment", Status: http.StatusServiceUnavailable, Cause: err}
	case err != nil:
		return nil, internal(err)
	case client.Disabled:
		return nil, badClient("the client is disabled")
	}
	return client, nil
}

// authenticateConfidential is authenticate for endpoints that a public client may not call.
func (s *Server) authenticateConfidential(r *http.Request, p params) (*registry.Client, *Error) {
	client, refusal := s.authenticate(r, p)
	if refusal == nil && client.Public() {
		return nil, badClient("a public client cannot authenticate")
	}
	return client, refusal
}

var errWrongSecret = errors.New("wrong secret")

// bySecret checks a secret that was sent as it is: client_secret_basic and client_secret_post (RFC 6749 section 2.3.1).
func (s *Server) bySecret(_ *http.Request, client *registry.Client, c credentials) error {
	if !client.CheckSecret(s.ring, c.secret, s.now()) {
		return errWrongSecret
	}
	return nil
}
