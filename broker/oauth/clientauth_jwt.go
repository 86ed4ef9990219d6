package oauth

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
)

// client_secret_jwt and private_key_jwt (OpenID Connect Core section 9, RFC 7523 sections 2.2 and 3): the client shows that it has a secret
// or a key by signing an assertion, which is good for this server, for a short while, and once.

const (
	// assertionTypeJWT is the one client_assertion_type that there is (RFC 7523 section 2.2).
	assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// typeClientAssertion is the typ that RFC 7523bis section 4 gives them; many have none yet.
	typeClientAssertion = "client-authentication+jwt"
	// purposeClientAssertion keeps ids of client assertions apart from others that are used once.
	purposeClientAssertion = "client-assertion"
)

// algHS256 signs assertions of client_secret_jwt: the one HMAC that every library has, and as strong as the secret.
const algHS256 = "HS256"

// readAssertion finds out whom an assertion is said to be from, and by its algorithm which method it belongs to. Nothing of it is
// believed yet.
func readAssertion(clientID, kind, raw string) (credentials, *Error) {
	if kind != assertionTypeJWT {
		return credentials{}, invalidClient("client_assertion_type '%s' is not supported; send %s", echo(kind), assertionTypeJWT)
	}
	algs := []jose.SignatureAlgorithm{algHS256}
	for _, alg := range keyset.Algorithms() {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	parsed, err := jose.ParseSignedCompact(raw, algs)
	if err != nil {
		return credentials{}, invalidClient("client_assertion is not a JWT signed with one of %v", algs).because(err)
	}
	claims, err := parseAssertion(parsed.UnsafePayloadWithoutVerification())
	switch {
	case err != nil:
		return credentials{}, badAssertion(err)
	case claims.Subject == "" || claims.Issuer != claims.Subject:
		return credentials{}, invalidClient("client_assertion: iss and sub are both to be the client_id (RFC 7523 section 3)")
	case clientID != "" && clientID != claims.Subject:
		return credentials{}, refuse(codeInvalidRequest, "client_id and client_assertion name different clients")
	}
	c := credentials{id: claims.Subject, assertion: raw, method: registry.AuthPrivateKeyJWT}
	if parsed.Signatures[0].Protected.Algorithm == algHS256 {
		c.method = registry.AuthSecretJWT
	}
	return c, nil
}

// errNoSecretKey: the hash of a secret cannot check a signature.
var errNoSecretKey = errors.New("the client's secret was made while it had another method; rotate it")

// bySecretJWT checks an assertion that is signed with one of the client's live secrets.
func (s *Server) bySecretJWT(r *http.Request, client *registry.Client, c credentials) error {
	keys := client.SecretKeys(s.ring, s.now())
	if len(keys) == 0 {
		return errNoSecretKey
	}
	payload, header, err := keyset.VerifySecret(c.assertion, keys)
	if err != nil {
		return err
	}
	return s.useAssertion(r, client, payload, header.Type)
}

// byPrivateKeyJWT checks an assertion that is signed with one of the client's keys.
func (s *Server) byPrivateKeyJWT(r *http.Request, client *registry.Client, c credentials) error {
	payload, header, err := s.keySets.Verify(r.Context(), client.Keys(), c.assertion, clientAlgorithms(client, client.AuthSigningAlg))
	if errors.Is(err, keyset.ErrUnavailable) {
		// No secret: who has the client's keys knows that they cannot be read, and so does who runs its server.
		return invalidClient("the client's keys cannot be read; look at its jwks or jwks_uri").because(err)
	}
	if err != nil {
		return err
	}
	return s.useAssertion(r, client, payload, header.Type)
}

// clientAlgorithms are those that a client may sign something with: the one registered for that, or all that its profile permits.
func clientAlgorithms(client *registry.Client, registered string) []string {
	permitted := keyset.Algorithms()
	if client.Profile == registry.ProfileFAPI2 {
		permitted = keyset.StrongAlgorithms()
	}
	if registered == "" {
		return permitted
	}
	for _, alg := range permitted {
		if alg == registered {
			return []string{alg}
		}
	}
	return nil
}

// useAssertion judges an assertion that the client has signed, and spends it. Only its signer gets this far, so what is wrong is told.
func (s *Server) useAssertion(r *http.Request, client *registry.Client, payload []byte, typ string) error {
	claims, err := parseAssertion(payload)
	if err != nil {
		return badAssertion(err)
	}
	if !typeAllowed(typ, typeClientAssertion) {
		return invalidClient("client_assertion: typ is '%s'; leave it out, or send %s", echo(typ), typeClientAssertion)
	}
	strict := client.Profile == registry.ProfileFAPI2
	if err := claims.judge(s.now(), s.assertionAudiences(r, strict), strict); err != nil {
		return badAssertion(err)
	}
	// The signature has been checked: nobody else can use up the client's ids.
	err = s.replay.Claim(r.Context(), claims.Expires.Time(), purposeClientAssertion, client.ID, claims.ID)
	switch {
	case errors.Is(err, replay.ErrReplayed):
		return invalidClient("client_assertion was used before: each is good for one request, and needs a jti of its own").because(err)
	case err != nil:
		return internal(fmt.Errorf("claim a client assertion: %w", err))
	}
	return nil
}

// assertionAudiences are the names that an assertion may call this server by: the issuer, as RFC 7523bis section 4 and FAPI 2.0 have it; for others
// also the token endpoint (RFC 7523 section 3) and the endpoint that is called (RFC 9126 section 2).
func (s *Server) assertionAudiences(r *http.Request, strict bool) []string {
	if strict {
		return []string{s.issuer}
	}
	names := []string{s.issuer, s.issuer + PathToken, s.issuer + r.URL.Path}
	if s.mtls.URL != "" {
		names = append(names, s.alias(PathToken), s.alias(r.URL.Path))
	}
	return names
}

func badAssertion(err error) *Error { return invalidClient("client_assertion: %s", err) }
