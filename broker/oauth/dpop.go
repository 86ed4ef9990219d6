package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/resource/dpop"
)

// DPoP (RFC 9449) as it comes in: at the token endpoint and the pushed authorization request endpoint, where a proof says what
// is to be bound, and at userinfo, where it says that the sender holds what the token is bound to.

// proofs is the purpose under which proofs are claimed.
const proofs = "dpop-proof"

// proof reads the DPoP proof of a request to the endpoint at path and judges it; nil if there is none. accessToken is the one it
// comes with, "" where there is none. algs are the algorithms allowed; nil means all.
//
// The proof is not spent: see spend. What the client is to send next time (RFC 9449 section 8.2) is set in w's headers, with the refusal as
// without.
func (s *Server) proof(w http.ResponseWriter, r *http.Request, path, accessToken string, algs []string) (*dpop.Proof, *Error) {
	raw, err := dpop.FromHeader(r.Header)
	if err != nil {
		return nil, badProof(err)
	}
	if raw == "" {
		return nil, nil
	}
	now := s.now()
	p, err := dpop.Check(raw, dpop.Request{Method: r.Method, URLs: s.proofURLs(path), AccessToken: accessToken, Algorithms: algs}, now)
	if err != nil {
		return nil, badProof(err)
	}
	// A nonce that was sent is checked even where none is demanded (section 4.3 point 10).
	valid, fresh := !s.dpopNonce, true
	if p.Nonce != "" {
		valid, fresh = s.nonces.Check(p.Nonce, now)
	}
	if !valid || !fresh {
		w.Header().Set(dpop.NonceHeader, s.nonces.Current(now))
	}
	if !valid {
		return nil, refuse(codeUseDPoPNonce, "put the nonce of the header DPoP-Nonce into the proof and try again")
	}
	return p, nil
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

// proofKey is the key that a client proves to hold at one of the endpoints it calls itself, and spends the proof; "" without a proof.
func (s *Server) proofKey(w http.ResponseWriter, r *http.Request, path string, client *registry.Client) (jkt string, refusal *Error) {
	p, refusal := s.proof(w, r, path, "", profileOf(client).algs)
	if p == nil || refusal != nil {
		return "", refusal
	}
	if refusal := s.spend(r.Context(), p); refusal != nil {
		return "", refusal
	}
	return p.JKT, nil
}

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

// dpopChallenge is the challenge that asks for a bound access token and a proof (RFC 9449 section 7.1). e is what was wrong with those
// sent; nil if none were.
func dpopChallenge(e *Error) string {
	if e == nil {
		e = &Error{}
	}
	return challenge.New(dpop.Scheme, "algs", strings.Join(dpop.Algorithms(), " "), "error", e.Code, "error_description", e.Description)
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
