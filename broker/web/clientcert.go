package web

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxCertificateBytes bounds a certificate as a header carries it: one with an RSA key of 4096 bits, a dozen names and escapes takes half.
const maxCertificateBytes = 12 << 10

// errTwoCertificates: a proxy that adds its header to what a stranger sent instead of replacing it.
var errTwoCertificates = errors.New("the header is there more than once")

// ClientCertificate is the certificate that whoever sent r has proven to hold the key of, or nil if there is none. It has been verified in no other way: who issued it, for
// what and until when is the caller's question.
//
// It is that of the TLS connection; or, in a Chain with Options.CertificateHeader, what the header of a trusted proxy says, and
// nobody else's header. The error says why a header of a trusted proxy is no certificate. It is read each time it is called.
func ClientCertificate(r *http.Request) (leaf *x509.Certificate, intermediates []*x509.Certificate, err error) {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok && len(x.certificate) > 0 {
		if len(x.certificate) > 1 {
			return nil, nil, errTwoCertificates
		}
		leaf, err = parseCertificateHeader(x.certificate[0])
		return leaf, nil, err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil, nil
	}
	return r.TLS.PeerCertificates[0], r.TLS.PeerCertificates[1:], nil
}

// takeCertificate takes the header with the certificate off a request, so that nothing else reads it, and is its value if the peer is
// a trusted proxy. The peer itself counts, not who it says it speaks for: only what ended the TLS connection
// can know the certificate.
func takeCertificate(h http.Header, name string, byProxy bool) []string {
	value := h[name]
	if value == nil {
		return nil
	}
	delete(h, name)
	if !byProxy || len(value) == 1 && value[0] == "" {
		return nil // nginx sends an empty one, or none, for a connection without a certificate
	}
	return value
}

// parseCertificateHeader reads a certificate as proxies write it: a byte sequence between colons (RFC 9440 section 2.2), or PEM with
// percent escapes, which is nginx's $ssl_client_escaped_cert.
func parseCertificateHeader(value string) (*x509.Certificate, error) {
	if len(value) > maxCertificateBytes {
		return nil, fmt.Errorf("the certificate is longer than %d bytes", maxCertificateBytes)
	}
	value = strings.Trim(value, " ")
	if inner, ok := strings.CutPrefix(value, ":"); ok {
		inner, ok = strings.CutSuffix(inner, ":")
		if !ok {
			return nil, errors.New("the certificate has no colon at its end (RFC 9440 section 2.2)")
		}
		der, err := base64.StdEncoding.DecodeString(inner)
		if err != nil {
			return nil, fmt.Errorf("the certificate is not base64 between colons: %w", err)
		}
		return x509.ParseCertificate(der)
	}
	// Not QueryUnescape: base64 has plus signs, which nginx leaves as they are.
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, fmt.Errorf("the certificate is not PEM with percent escapes: %w", err)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("the certificate is neither base64 between colons nor one PEM block with percent escapes")
	}
	return x509.ParseCertificate(block.Bytes)
}
