package oauth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/web"
)

// Mutual TLS (RFC 8705): a client authenticates with the certificate of its connection, or has its tokens bound to it. Whoever ended the
// connection has checked that the client holds the key; what the certificate is worth is decided here.

// MTLS says what certificates of clients are good for. The zero value switches them off.
type MTLS struct {
	On bool
	// Authorities issue the certificates of tls_client_auth; nil: nobody does, and that method is off.
	Authorities *x509.CertPool
	// URL is the base of the endpoints that ask for a certificate, where that is not the issuer's (RFC 8705 section 5); or "".
	URL string
}

var (
	errNoCertificate  = errors.New("the request came without a client certificate")
	errNotItsName     = errors.New("the certificate does not name the client")
	errOutOfDate      = errors.New("the certificate is not valid at this time")
	errNotForChecking = errors.New("the certificate cannot be read")
)

// certificate is the client certificate of a request. errNoCertificate if it has none, or none is looked at.
func (s *Server) certificate(r *http.Request) (leaf *x509.Certificate, intermediates []*x509.Certificate, err error) {
	if !s.mtls.On {
		return nil, nil, errNoCertificate
	}
	leaf, intermediates, err = web.ClientCertificate(r)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", errNotForChecking, err)
	case leaf == nil:
		return nil, nil, errNoCertificate
	}
	return leaf, intermediates, nil
}

// byTLS checks tls_client_auth (RFC 8705 section 2.1): an authority that the operator trusts issued the certificate, for use by clients if it says
// for what, and it names the client.
func (s *Server) byTLS(r *http.Request, client *registry.Client, _ credentials) error {
	leaf, intermediates, err := s.certificate(r)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, certificate := range intermediates {
		between.AddCert(certificate)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         s.mtls.Authorities,
		Intermediates: between,
		CurrentTime:   s.now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return fmt.Errorf("verify the certificate: %w", err)
	}
	if !client.MatchesCertificate(leaf) {
		return fmt.Errorf("%w: its subject is %.200s", errNotItsName, leaf.Subject)
	}
	return nil
}

// bySelfSignedTLS checks self_signed_tls_client_auth (RFC 8705 section 2.2): the certificate, or its key, is one that the client registered. Nobody
// else vouches for it, so there is no chain to look at.
func (s *Server) bySelfSignedTLS(r *http.Request, client *registry.Client, _ credentials) error {
	leaf, _, err := s.certificate(r)
	if err != nil {
		return err
	}
	if now := s.now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: from %s to %s", errOutOfDate, leaf.NotBefore, leaf.NotAfter)
	}
	return s.keySets.HasCertificate(r.Context(), client.Keys(), leaf)
}

// certThumbprint is x5t#S256 of the request's client certificate (RFC 8705 section 3.1), or "" if it has none.
func (s *Server) certThumbprint(r *http.Request) string {
	leaf := s.leafCertificate(r)
	if leaf == nil {
		return ""
	}
	sum := sha256.Sum256(leaf.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// alias is where an endpoint is that asks for a certificate (RFC 8705 section 5), by its path.
func (s *Server) alias(path string) string { return s.mtls.URL + path }

// aliases are where clients find the endpoints of m that they call themselves, if with a certificate that is another place; nil if not.
func (s *Server) aliases(m *metadata) map[string]string {
	if !s.mtls.On || s.mtls.URL == "" {
		return nil
	}
	all := map[string]string{}
	for name, endpoint := range map[string]string{
		"token_endpoint":                        m.TokenEndpoint,
		"revocation_endpoint":                   m.RevocationEndpoint,
		"introspection_endpoint":                m.IntrospectionEndpoint,
		"userinfo_endpoint":                     m.UserinfoEndpoint,
		"device_authorization_endpoint":         m.DeviceAuthorization,
		"pushed_authorization_request_endpoint": m.PushEndpoint,
	} {
		if path, ours := strings.CutPrefix(endpoint, s.issuer); ours {
			all[name] = s.alias(path)
		}
	}
	return all
}
