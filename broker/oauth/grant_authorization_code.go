package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/store"
)

// authorizationCode redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6).
//
// Everything is checked before the code is spent: a redemption that fails does not burn it, or anybody
// who saw a code could spoil it.
func (s *Server) authorizationCode(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	code := t.params.get("code")
	if code == "" {
		return nil, refuse(codeInvalidRequest, "code is missing")
	}
	flowID, err := s.ring.ParseCode(code)
	if err != nil {
		return nil, badCode("the code is not one of this server's").because(err)
	}
	doc, err := s.flows.Get(ctx, flowID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, badCode("the code has expired")
	}
	if err != nil {
		return nil, internal(err)
	}
	f := &doc.Value
	if refusal := judgeCode(f, t.client.ID, t.params, t.binding); refusal != nil {
		return nil, refusal
	}
	if s.codeExpired(f) {
		return nil, badCode("the code has expired; it lives for %s", s.codeLifetime(f))
	}
	return s.redeem(t, flowID, &f.Request, f.SignIn)
}

// judgeCode checks what a code is bound to: its client, its redirect URI, its PKCE challenge and, if the app said so, its key.
func judgeCode(f *flow.Flow, clientID string, p params, key senderKey) *Error {
	verifier := p.get("code_verifier")
	switch {
	case f.Step != flow.Done || f.SignIn == nil || f.Device != nil:
		return badCode("the code is not one of this server's")
	case f.Request.ClientID != clientID:
		return badCode("the code was issued to another client")
	case p.get("redirect_uri") == "":
		return refuse(codeInvalidRequest, "redirect_uri is missing; send the same one as in the authorization request")
	case p.get("redirect_uri") != f.Request.RedirectURI:
		return badCode("redirect_uri differs from the one in the authorization request")
	case f.Request.CodeChallenge == "" && verifier != "":
		// RFC 9700 section 4.8.2: a verifier without a challenge means that somebody took the challenge
		// out of the authorization request.
		return badCode("code_verifier was sent, but the authorization request had no code_challenge")
	case f.Request.CodeChallenge != "" && verifier == "":
		return refuse(codeInvalidRequest, "code_verifier is missing; the authorization request had a code_challenge")
	case f.Request.CodeChallenge != "" && !verifierMatches(verifier, f.Request.CodeChallenge):
		return badCode("code_verifier does not match the code_challenge of the authorization request")
	case f.Request.DPoPJKT != "" && key.jkt != f.Request.DPoPJKT: // RFC 9449 section 10
		return badCode("the code is bound to another key; send a DPoP proof for the one that the authorization request named")
	}
	return nil
}

func badCode(format string, args ...any) *Error { return refuse(codeInvalidGrant, format, args...) }

// Bounds of a code_verifier (RFC 7636 section 4.1) and the length of a S256 challenge.
const (
	minVerifier     = 43
	maxVerifier     = 128
	challengeLength = 43
)

func validChallenge(challenge string) bool {
	if len(challenge) != challengeLength {
		return false
	}
	_, err := base64.RawURLEncoding.DecodeString(challenge)
	return err == nil
}

func verifierMatches(verifier, challenge string) bool {
	if len(verifier) < minVerifier || len(verifier) > maxVerifier {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
