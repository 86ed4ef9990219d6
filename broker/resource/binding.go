package resource

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/portico-id/portico/broker/resource/dpop"
)

// bound checks that the sender holds what the token is bound to, and that the token came in the way that its binding demands (RFC 8705 section 3,
// RFC 9449 section 7). The proof, which is not spent yet, is nil for a token without one.
func (a *API) bound(r *http.Request, s sent, t *Token, p *passed) (*dpop.Proof, *Error) {
	if t.CertThumbprint != "" && certThumbprint(a.certificate(r)) != t.CertThumbprint {
		return nil, invalidToken("the access token is bound to a client certificate; connect with the one that it was issued to (RFC 8705)")
	}
	switch {
	case t.KeyThumbprint != "" && len(a.origins) == 0:
		return nil, invalidToken("the access token is bound to a key, and this api takes none that are")
	case s.scheme != dpop.Scheme && t.KeyThumbprint == "":
		return nil, nil
	case s.scheme != dpop.Scheme:
		// RFC 9449 section 7.2: whoever stole it could otherwise use it as a bearer token.
		return nil, invalidToken("the access token is bound to a key; send it as Authorization: DPoP, with a proof in the header DPoP")
	case t.KeyThumbprint == "":
		return nil, invalidToken("the access token is not bound to a key; send it as Authorization: Bearer")
	}
	proof, refusal := a.proof(r, s.raw, p)
	switch {
	case refusal != nil:
		return nil, refusal
	case proof == nil:
		return nil, invalidToken("the access token is bound to a key; send a proof in the header DPoP")
	case proof.JKT != t.KeyThumbprint:
		return nil, invalidToken("the access token is bound to another key than the proof's")
	}
	return proof, nil
}

// proof reads the DPoP proof of a request and judges it; nil if there is none. It is not spent.
func (a *API) proof(r *http.Request, accessToken string, p *passed) (*dpop.Proof, *Error) {
	raw, err := dpop.FromHeader(r.Header)
	if err != nil {
		return nil, badProof(err.Error())
	}
	if raw == "" {
		return nil, nil
	}
	now := a.now()
	proof, err := dpop.Check(raw, dpop.Request{Method: r.Method, URLs: a.proofURLs(r), AccessToken: accessToken}, now)
	if err != nil {
		return nil, badProof(err.Error())
	}
	if a.options.Nonces == nil {
		return proof, nil
	}
	ok, next := a.options.Nonces.Judge(proof.Nonce, a.options.RequireNonce, now)
	p.nonce = next
	if !ok {
		return nil, &Error{Status: http.StatusUnauthorized, Code: CodeUseDPoPNonce, Description: "put the nonce of the header DPoP-Nonce into the proof and try again"}
	}
	return proof, nil
}

// proofURLs are the addresses that a proof of this request may be for: those below URL and its aliases, whatever Host says. None for a request that has
// no path.
func (a *API) proofURLs(r *http.Request) []string {
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	if path != a.path && !strings.HasPrefix(path, a.path+"/") {
		path = a.path + path // something in front has taken it off
	}
	var urls []string
	for _, origin := range a.origins {
		if normal, ok := dpop.Normalize(origin + path); ok {
			urls = append(urls, normal)
		}
	}
	return urls
}

// spend makes the proof one that nobody can use again. It comes after every other check, so that a request that is refused for another reason costs
// nothing.
func (a *API) spend(ctx context.Context, proof *dpop.Proof) *Error {
	digest := sha256.Sum256([]byte(proof.JKT + " " + proof.URL + " " + proof.ID)) // neither of the first two has a space
	// A little longer than it stands here: the clock of another node, or of what remembers, may differ.
	err := a.replay(ctx, base64.RawURLEncoding.EncodeToString(digest[:]), proof.Expires.Add(dpop.Leeway))
	switch {
	case errors.Is(err, ErrReplayed):
		return badProof("the DPoP proof was used before; make a new one for each request")
	case err != nil:
		return unavailable(err)
	}
	return nil
}

func (a *API) certificate(r *http.Request) *x509.Certificate {
	if a.options.Certificate != nil {
		return a.options.Certificate(r)
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// certThumbprint is x5t#S256 of a certificate (RFC 8705 section 3.1); "" without one.
func certThumbprint(certificate *x509.Certificate) string {
	if certificate == nil {
		return ""
	}
	sum := sha256.Sum256(certificate.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
