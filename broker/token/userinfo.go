package token

import (
	"errors"
	"fmt"
	"maps"
)

// IssueUserinfo signs what userinfo answers a client, with the key of alg (OpenID Connect Core section 5.3.2): the claims, from the
// broker as iss, for the client as aud; others of these names in claims do not count. It says no exp, which an ID token must have, so that
// neither the client nor the broker takes it for one. The error says that claims name nobody or are too long, or that no key can sign.
func (s *IDTokens) IssueUserinfo(alg, clientID string, claims map[string]any) (string, error) {
	if subject, _ := claims["sub"].(string); subject == "" || clientID == "" {
		return "", errors.New("userinfo: a subject and an audience are required")
	}
	all := maps.Clone(claims)
	all["iss"], all["aud"] = s.issuer, clientID
	delete(all, "exp")
	raw, err := s.keys.Sign(alg, TypeIDToken, all)
	if err != nil {
		return "", fmt.Errorf("userinfo: %w", err)
	}
	return raw, nil
}
