package oauth

import (
	"maps"
	"net/http"
	"slices"

	"github.com/portico-id/portico/broker/registry"
)

// The token endpoint (RFC 6749 section 3.2). What every grant has in common happens here and in issue.go, around the
// grant's own function, so that no grant can forget it: the client is authenticated, may use the grant, shows the key that its
// tokens are to be bound to, says what they are to be for, and what the grant yields is issued in one place.

// tokenRequest is an authenticated request to the token endpoint.
type tokenRequest struct {
	http    *http.Request
	params  params
	client  *registry.Client
	wish    wish
	binding senderKey
}

// senderKey is what the sender of a request proved to hold: what its tokens are bound to, and what bound tokens are asked for. Empty for
// one that proved nothing.
type senderKey struct {
	jkt            string // thumbprint of the key of a DPoP proof (RFC 9449 section 6.1)
	certThumbprint string // of the client's certificate (RFC 8705 section 3.1)
}

// grantType redeems one kind of grant. It decides what may be issued; it issues nothing itself.
type grantType func(*tokenRequest) (*issuance, error)

// grantTypes are those that are on.
func (s *Server) grantTypes(on []string) map[string]grantType {
	all := map[string]grantType{
		registry.GrantAuthorizationCode: s.authorizationCode,
		registry.GrantRefreshToken:      s.refreshToken,
		registry.GrantClientCredentials: s.clientCredentials,
		registry.GrantDeviceCode:        s.deviceCode,
		registry.GrantPassword:          s.password,
		registry.GrantTokenExchange:     s.tokenExchange,
	}
	if len(s.trusted) > 0 {
		all[registry.GrantJWTBearer] = s.jwtBearer
	}
	maps.DeleteFunc(all, func(name string, _ grantType) bool { return !slices.Contains(on, name) })
	return all
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	response, err := s.answerToken(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, response)
}

func (s *Server) answerToken(w http.ResponseWriter, r *http.Request) (*tokenResponse, error) {
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
	wish, refusal := s.wished(r.Context(), p)
	if refusal != nil {
		return nil, refusal
	}
	idTokenKey, refusal := s.idTokenKey(r.Context(), client)
	if refusal != nil {
		return nil, refusal
	}
	binding, refusal := s.senderKey(w, r, client)
	if refusal != nil {
		return nil, refusal
	}
	issuance, err := redeem(&tokenRequest{http: r, params: p, client: client, wish: wish, binding: binding})
	if err != nil {
		return nil, err
	}
	issuance.binding, issuance.idTokenKey = binding, idTokenKey
	s.keepClient(r.Context(), client)
	return s.issue(client, issuance)
}

// senderKey finds what the request proves to hold, and refuses one that proves less than its client has to.
func (s *Server) senderKey(w http.ResponseWriter, r *http.Request, client *registry.Client) (senderKey, *Error) {
	var key senderKey
	if client.CertificateBound {
		if key.certThumbprint = s.certThumbprint(r); key.certThumbprint == "" {
			return key, refuse(codeInvalidRequest, "this client's tokens are bound to its certificate: connect with it (RFC 8705)")
		}
	}
	jkt, refusal := s.proofKey(w, r, PathToken, client) // last, since it spends the proof
	switch {
	case refusal != nil:
		return key, refusal
	case client.DPoPBound && jkt == "":
		return key, refuse(codeInvalidDPoPProof, "this client's tokens are bound to a key: send a proof in the header DPoP (RFC 9449)")
	case profileOf(client).bound && jkt == "" && key.certThumbprint == "":
		return key, refuse(codeInvalidRequest, "tokens of a client of profile %s are bound: send a proof in the header DPoP (RFC 9449), or connect with the client's certificate (RFC 8705)", client.Profile)
	}
	key.jkt = jkt
	return key, nil
}
