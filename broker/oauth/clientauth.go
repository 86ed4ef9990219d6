package oauth

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/portico-id/portico/broker/registry"
)

// Client authentication (RFC 6749 section 2.3). Every endpoint that a client calls itself starts here.

// credentials are what a request says about who sends it.
type credentials struct {
	id, secret string
	method     string // registry.AuthBasic, AuthPost or AuthNone
}

// errBadClient is the one answer to every failed authentication: which part was wrong is for the log.
func badClient(cause string) *Error {
	return &Error{
		Code:        codeInvalidClient,
		Description: "client authentication failed: unknown client, wrong secret, or a method that this client is not registered for",
		Status:      http.StatusUnauthorized,
		Cause:       errors.New(cause),
	}
}

// readCredentials finds the one way in which the request authenticates. RFC 6749 section 2.3: more than one is refused.
func readCredentials(r *http.Request, p params) (credentials, *Error) {
	id, secret := p.get("client_id"), p.get("client_secret")
	header := r.Header.Get("Authorization")
	if header == "" {
		if id == "" {
			return credentials{}, badClient("no credentials in the request")
		}
		if secret == "" {
			return credentials{id: id, method: registry.AuthNone}, nil
		}
		return credentials{id: id, secret: secret, method: registry.AuthPost}, nil
	}
	if secret != "" {
		return credentials{}, refuse(codeInvalidRequest, "the client authenticates twice: use the Authorization header or client_secret, not both")
	}
	basicID, basicSecret, ok := basicAuth(header)
	if !ok {
		return credentials{}, badClient("the Authorization header is not HTTP Basic with form-encoded id and secret")
	}
	if id != "" && id != basicID {
		return credentials{}, refuse(codeInvalidRequest, "client_id and the Authorization header name different clients")
	}
	return credentials{id: basicID, secret: basicSecret, method: registry.AuthBasic}, nil
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

// authenticate identifies the client that sends the request. A public client is who it says it is, as far
// as a token or code of its own bears it out.
func (s *Server) authenticate(r *http.Request, p params) (*registry.Client, *Error) {
	c, refusal := readCredentials(r, p)
	if refusal != nil {
		return nil, refusal
	}
	client, err := s.clients.Get(r.Context(), c.id)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, badClient("no such client")
	case err != nil:
		return nil, internal(err)
	case client.Disabled:
		return nil, badClient("the client is disabled")
	case !client.AllowsAuth(c.method):
		return nil, badClient("the client is not registered for " + c.method)
	case c.method != registry.AuthNone && !client.CheckSecret(s.ring, c.secret, s.now()):
		return nil, badClient("wrong secret")
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
