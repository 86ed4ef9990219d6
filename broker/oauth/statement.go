package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
)

// Software statements (RFC 7591 section 2.3): what somebody whom the operator trusts says of the software that registers.

// statementLeeway forgives an issuer's clock that is ahead of ours.
const statementLeeway = time.Minute

// softwareStatement is what a statement says, if its issuer is believed and has signed it.
func (s *Server) softwareStatement(ctx context.Context, raw string) (registry.Document, error) {
	issuer, err := claimedIssuer(raw)
	if err != nil {
		return nil, badStatement(err)
	}
	source, believed := s.registration.Statements[issuer]
	if !believed {
		return nil, refuse(codeUnapprovedStatement, "the issuer '%s' of the software statement is not one that is believed here", echo(issuer))
	}
	payload, _, err := s.keySets.Verify(ctx, source, raw, keyset.Algorithms())
	switch {
	case errors.Is(err, keyset.ErrUnavailable):
		return nil, &Error{Code: codeUnavailable, Description: "the keys of the software statement's issuer cannot be read at the moment", Status: http.StatusServiceUnavailable, Cause: err}
	case err != nil:
		return nil, badStatement(err)
	}
	if err := judgeStatement(payload, s.issuer, s.now()); err != nil {
		return nil, badStatement(err)
	}
	claims, err := registry.ParseDocument(payload)
	if err != nil {
		return nil, badStatement(err)
	}
	delete(claims, "software_statement") // the statement itself is what is kept
	return claims, nil
}

func badStatement(cause error) *Error {
	return refuse(codeInvalidStatement, "the software statement is not one that its issuer signed, is not valid any more or yet, or is for another server").because(cause)
}

// claimedIssuer is the iss of a signed text before anything of it is believed: it says whose keys are to be asked.
func claimedIssuer(raw string) (string, error) {
	var algs []jose.SignatureAlgorithm
	for _, alg := range keyset.Algorithms() {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	parsed, err := jwt.ParseSigned(raw, algs)
	if err != nil {
		return "", err
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return "", err
	}
	return claims.Issuer, nil
}

// judgeStatement decides on the times and the audience of a statement, where it has them (RFC 7519 section 4.1).
func judgeStatement(payload []byte, issuer string, now time.Time) error {
	var claims jwt.Claims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	switch {
	case claims.Expiry != nil && !now.Before(claims.Expiry.Time()):
		return errors.New("it has expired")
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(statementLeeway)):
		return errors.New("it is not valid yet")
	case len(claims.Audience) > 0 && !claims.Audience.Contains(issuer):
		return errors.New("it is for another server")
	}
	return nil
}
