package oauth

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/resource/dpop"
	"github.com/portico-id/portico/broker/token"
)

// typeJWT is the media type of a signed answer (OpenID Connect Core section 5.3.2).
const typeJWT = "application/jwt"

// userinfo answers with the claims that an access token's scopes allow (OpenID Connect Core section 5.3).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	sent, refusal := presentedToken(r)
	if refusal != nil {
		s.challenge(w, r, sent, refusal)
		return
	}
	if sent.raw == "" {
		// RFC 6750 section 3.1: a request without credentials is told nothing but how to come back.
		w.Header().Add("WWW-Authenticate", challenge.New(bearer, "realm", realm, "scope", ScopeOpenID))
		w.Header().Add("WWW-Authenticate", dpopChallenge(nil))
		writeJSON(w, http.StatusUnauthorized, errorBody{Error: codeInvalidToken, Description: "send an access token as Authorization: Bearer, or DPoP"})
		return
	}
	access, _, err := s.access.Verify(sent.raw)
	if err != nil {
		s.challenge(w, r, sent, unauthorized("the access token is expired or not one of this server's").because(err))
		return
	}
	proof, refusal := s.bound(w, r, sent, access)
	if refusal != nil {
		s.challenge(w, r, sent, refusal)
		return
	}
	if !slices.Contains(access.Audience, s.issuer) {
		s.challenge(w, r, sent, unauthorized("the access token is for other apis; ask for one with resource="+s.issuer))
		return
	}
	if !slices.Contains(access.Scopes, ScopeOpenID) {
		e := refuse(codeInsufficientScope, "userinfo needs the scope openid")
		e.Status = http.StatusForbidden
		s.challenge(w, r, sent, e)
		return
	}
	account, g, err := s.bearerAccount(r.Context(), access)
	if err != nil {
		if e := asError(err); e.Code == codeInvalidToken {
			s.challenge(w, r, sent, unauthorized(e.Description))
			return
		}
		s.writeError(w, r, err)
		return
	}
	if proof != nil {
		if refusal := s.spend(r.Context(), proof); refusal != nil {
			s.challenge(w, r, sent, refusal)
			return
		}
	}
	answer := claims(account, access.Scopes)
	if !exchanged(access.ID) { // otherwise its scopes are all that it says, and perhaps to another client
		addRequested(answer, account, g.Claims, inUserinfo)
	}
	answer["sub"] = access.Subject
	// What was exchanged is perhaps another client's, which has not asked for a signature.
	if g.UserinfoAlg == "" || access.ClientID != g.ClientID {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	signed, err := s.idTokens.IssueUserinfo(g.UserinfoAlg, g.ClientID, answer)
	if err != nil {
		s.writeError(w, r, internal(err))
		return
	}
	writeUnkept(w, http.StatusOK, typeJWT)
	_, _ = io.WriteString(w, signed) // the only error is a client that hung up
}

// bound checks that the sender holds what the access token is bound to, and that the token came in the way that its binding demands
// (RFC 8705 section 3, RFC 9449 section 7). The proof, which is not spent yet, is nil for a token without one.
func (s *Server) bound(w http.ResponseWriter, r *http.Request, sent presented, access *token.Access) (*dpop.Proof, *Error) {
	if refusal := s.checkCertificate(r, access.CertThumbprint); refusal != nil {
		return nil, refusal
	}
	switch {
	case sent.scheme != dpop.Scheme && access.KeyThumbprint == "":
		return nil, nil
	case sent.scheme != dpop.Scheme:
		// Section 7.2: whoever stole it could otherwise use it as a bearer token.
		return nil, unauthorized("the access token is bound to a key; send it as Authorization: DPoP, with a proof in the header DPoP")
	case access.KeyThumbprint == "":
		return nil, unauthorized("the access token is not bound to a key; send it as Authorization: Bearer")
	}
	proof, refusal := s.proof(w, r, PathUserinfo, sent.raw, nil)
	switch {
	case refusal != nil:
		return nil, refusal
	case proof == nil:
		return nil, unauthorized("the access token is bound to a key; send a proof in the header DPoP")
	case proof.JKT != access.KeyThumbprint:
		return nil, unauthorized("the access token is bound to another key than the proof's")
	}
	return proof, nil
}

func unauthorized(description string) *Error {
	return &Error{Code: codeInvalidToken, Description: description, Status: http.StatusUnauthorized}
}

const (
	// bearer is the authentication scheme of access tokens that are bound to nothing (RFC 6750 section 2.1).
	bearer = "Bearer"
	// realm is what the broker's own challenges protect.
	realm = "portico"
)

// presented is an access token as it came; raw is "" if none did.
type presented struct {
	raw    string
	scheme string // bearer or dpop.Scheme
}

// presentedToken finds the access token: in the Authorization header (RFC 6750 section 2.1, RFC 9449 section 7.1) or, with POST, in the form
// (RFC 6750 section 2.2). One in the URL is never looked at.
func presentedToken(r *http.Request) (presented, *Error) {
	sent := presented{scheme: bearer}
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, value, _ := strings.Cut(header, " ")
		for _, known := range []string{bearer, dpop.Scheme} {
			if strings.EqualFold(scheme, known) {
				sent = presented{raw: strings.TrimSpace(value), scheme: known}
			}
		}
	}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		p, refusal := formParams(r)
		if refusal != nil {
			return sent, refusal
		}
		if raw := p.get("access_token"); raw != "" {
			if sent.raw != "" {
				return sent, refuse(codeInvalidRequest, "the access token is there twice; send it once")
			}
			sent = presented{raw: raw, scheme: bearer}
		}
	}
	return sent, nil
}

// challenge refuses an access token as RFC 6750 section 3 and RFC 9449 section 7.1 word it: the scheme that was used says what was wrong,
// the other one that it is there too.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, sent presented, e *Error) {
	if e.Status >= http.StatusInternalServerError {
		s.writeError(w, r, e)
		return
	}
	if e.Code == codeInvalidDPoPProof || e.Code == codeUseDPoPNonce {
		e.Status = http.StatusUnauthorized // RFC 9449 sections 7.1 and 9; at other endpoints it is 400
	}
	s.logRefusal(r.Context(), e)
	h := w.Header()
	if sent.scheme == dpop.Scheme {
		h.Add("WWW-Authenticate", dpopChallenge(e))
		h.Add("WWW-Authenticate", challenge.New(bearer, "realm", realm))
	} else {
		scope := ""
		if e.Code == codeInsufficientScope {
			scope = ScopeOpenID
		}
		h.Add("WWW-Authenticate", challenge.New(bearer, "realm", realm, "error", e.Code, "error_description", e.Description, "scope", scope))
		h.Add("WWW-Authenticate", dpopChallenge(nil))
	}
	writeJSON(w, e.Status, errorBody{Error: e.Code, Description: describable(e.Description)})
}
