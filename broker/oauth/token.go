package oauth

import (
	"net/http"

	"github.com/portico-id/portico/broker/registry"
)

// The token endpoint (RFC 6749 section 3.2). What every grant has in common happens here and in issue.go, around the
// grant's own function, so that no grant can forget it: the client is authenticated, may use the grant, and
// what the grant yields is issued in one place.

// tokenRequest is an authenticated request to the token endpoint.
type tokenRequest struct {
	http   *http.Request
	params params
	client *registry.Client
}

// grantType redeems one kind of grant. It decides what may be issued; it issues nothing itself.
type grantType func(*tokenRequest) (*issuance, error)

func (s *Server) grantTypes() map[string]grantType {
	return map[string]grantType{
		registry.GrantAuthorizationCode: s.authorizationCode,
		registry.GrantRefreshToken:      s.refreshToken,
	}
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	response, err := s.answerToken(r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, response)
}

func (s *Server) answerToken(r *http.Request) (*tokenResponse, error) {
	p, refusal := formParams(r)
	if refusal != nil {
		return nil, refusal
	}
	client, refusal := s.authenticate(r, p)
	if refusal != nil {
		return nil, refusal
	}
	name := p.get("grant_type")
	if name == "" {
		return nil, refuse(codeInvalidRequest, "grant_type is missing")
	}
	redeem, known := s.redeemers[name]
	if !known {
		return nil, refuse(codeUnsupportedGrant, "the grant type '%s' is not supported", echo(name))
	}
	if !client.Allows(name) {
		return nil, refuse(codeUnauthorizedClient, "this client is not registered for the grant type %s", name)
	}
	issuance, err := redeem(&tokenRequest{http: r, params: p, client: client})
	if err != nil {
		return nil, err
	}
	return s.issue(r.Context(), client, issuance)
}
