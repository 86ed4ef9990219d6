package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/resource/dpop"
)

// DPoP (RFC 9449) as it comes in at the endpoints that clients call themselves: the token endpoint and the pushed authorization request endpoint, where a
// proof says what is to be bound. Where it says that the sender holds what a token is bound to, broker/resource judges it.

// proofs is the purpose under which proofs are claimed.
const proofs = "dpop-proof"

// proofKey is the key that a client proves to hold at the endpoint at path, and spends the proof; "" without a proof. What the client is to send next time
// (RFC 9449 section 8.2) is set in w's headers, with the refusal as without.
func (s *Server) proofKey(w http.ResponseWriter, r *http.Request, path string, client *registry.Client) (jkt string, refusal *Error) {
	raw, err := dpop.FromHeader(r.Header)
	if err != nil {
		return "", badProof(err)
	}
	if raw == "" {
		return "", nil
	}
	now := s.now()
	p, err := dpop.Check(raw, dpop.Request{Method: r.Method, URLs: s.proofURLs(path), Algorithms: profileOf(client).algs}, now)
	if err != nil {
		return "", badProof(err)
	}
	ok, next := s.nonces.Judge(p.Nonce, s.dpopNonce, now)
	if next != "" {
		w.Header().Set(dpop.NonceHeader, next)
	}
	if !ok {
		return "", refuse(codeUseDPoPNonce, "put the nonce of the header DPoP-Nonce into the proof and try again")
	}
	if refusal := s.spend(r.Context(), p); refusal != nil {
		return "", refusal
	}
	return p.JKT, nil
}

// spend makes the proof one that nobody can use again, on any node. It comes after every other check, so that a request that is refused
// for another reason costs nothing.
func (s *Server) spend(ctx context.Context, p *dpop.Proof) *Error {
	switch err := s.replay.Claim(ctx, p.Expires, proofs, p.JKT, p.ID, p.URL); {
	case errors.Is(err, replay.ErrReplayed):
		return badProof(errors.New("the DPoP proof was used before; make a new one for each request"))
	case err != nil:
		return internal(err)
	}
	return nil
}

func badProof(err error) *Error { return refuse(codeInvalidDPoPProof, "%s", err.Error()) }

// judgeDPoP reads the key that the code is to be bound to (RFC 9449 section 10).
func judgeDPoP(p params, _ *registry.Client, req *flow.Request) *Error {
	jkt := p.get("dpop_jkt")
	switch {
	case jkt == "":
		return nil
	case !dpop.ValidThumbprint(jkt):
		return refuse(codeInvalidRequest, "dpop_jkt is not the thumbprint of a key: SHA-256 in base64url, 43 characters (RFC 7638)")
	}
	req.DPoPJKT = jkt
	return nil
}

// proofURLs are the endpoint's at path, as a proof's htu is compared with them.
func (s *Server) proofURLs(path string) []string {
	urls := make([]string, len(s.proofBases))
	for i, base := range s.proofBases {
		urls[i] = base + path
	}
	return urls
}

// proofBases are where the endpoints are, in the form that a proof's htu is compared in. The configuration takes neither with a path, and
// none that is not a web address.
func proofBases(issuer, alias string) []string {
	var bases []string
	for _, base := range []string{issuer, alias} {
		if normal, ok := dpop.Normalize(base); ok {
			bases = append(bases, strings.TrimSuffix(normal, "/"))
		}
	}
	return bases
}
