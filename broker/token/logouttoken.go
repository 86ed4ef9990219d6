package token

import (
	"errors"
	"fmt"
	"time"
)

// LogoutToken is what tells a client that a session has ended (OpenID Connect Back-Channel Logout section 2.4). It has no nonce,
// so that nobody can pass it off as an ID token.
type LogoutToken struct {
	// ID is the jti: the same for every token about one event that goes to one client, by which a client that sees it
	// twice can tell.
	ID string
	// Subject is the account's id as this client sees it; Audience is the client's id.
	Subject, Audience string
	// SID is the session that ended; empty: all of the account's.
	SID string
	// IssuedAt and ExpiresAt are kept to the second.
	IssuedAt, ExpiresAt time.Time
}

// eventLogout is the one member of events, with nothing to say about it.
const eventLogout = "http://schemas.openid.net/event/backchannel-logout"

// logoutClaims are the JSON form of a LogoutToken. aud is a string, as there is one and clients often look for that.
type logoutClaims struct {
	Issuer    string              `json:"iss"`
	Subject   string              `json:"sub"`
	Audience  string              `json:"aud"`
	IssuedAt  int64               `json:"iat"`
	ExpiresAt int64               `json:"exp"`
	ID        string              `json:"jti"`
	SID       string              `json:"sid,omitempty"`
	Events    map[string]struct{} `json:"events"`
}

// IssueLogout signs a logout token with the key of alg, which is the client's for ID tokens (section 2.4). The error says what is
// missing in t, or that no key can sign.
func (s *IDTokens) IssueLogout(alg string, t *LogoutToken) (string, error) {
	if t.ID == "" || t.Subject == "" || t.Audience == "" || t.IssuedAt.Unix() <= 0 || t.ExpiresAt.Unix() <= t.IssuedAt.Unix() {
		return "", errors.New("logout token: id, subject, audience, and times in order are required")
	}
	raw, err := s.keys.Sign(alg, TypeLogoutToken, &logoutClaims{
		Issuer: s.issuer, Subject: t.Subject, Audience: t.Audience, IssuedAt: t.IssuedAt.Unix(), ExpiresAt: t.ExpiresAt.Unix(),
		ID: t.ID, SID: t.SID, Events: map[string]struct{}{eventLogout: {}},
	})
	if err != nil {
		return "", fmt.Errorf("logout token: %w", err)
	}
	return raw, nil
}
