package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// IDToken is what an ID token says (OpenID Connect Core section 2).
type IDToken struct {
	// Issuer is the broker's issuer URL; Issue sets it.
	Issuer string
	// Subject is the account's id as this client sees it.
	Subject string
	// Audience is the client's id, and whoever else may read the token.
	Audience []string
	// AZP is the client the token was issued to, where Audience holds another as well; may
	// be empty.
	AZP string
	// Nonce is the authorization request's, unchanged; empty if it had none.
	Nonce string
	// SID names the browser session (OpenID Connect Front-Channel Logout section 3); may be empty.
	SID string
	// GrantID names the grant the token came of, so that what it is exchanged for ends with that; may be empty.
	GrantID string
	// ACR and AMR are how the person signed in; may be empty.
	ACR string
	AMR []string
	// AtHash binds the token to the access token issued with it; LeftHash makes it. May be
	// empty.
	AtHash string
	// IssuedAt and ExpiresAt bound the token's life; AuthTime is when the person last signed
	// in, zero to leave it out. Kept to the second.
	IssuedAt, ExpiresAt, AuthTime time.Time
	// Extra are further claims, such as those of the profile and email scopes. One that
	// has the name of a claim above is left out: nothing in a profile can change who the token is about.
	// VerifyIDTokenHint does not fill it.
	Extra map[string]any
}

// idClaims are the JSON form of an IDToken without Extra.
type idClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	AZP       string   `json:"azp,omitempty"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	Nonce     string   `json:"nonce,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	AtHash    string   `json:"at_hash,omitempty"`
	SID       string   `json:"sid,omitempty"`
	GrantID   string   `json:"grant_id,omitempty"`
}

// reservedClaims are about the token rather than the person (OpenID Connect Core section 2,
// RFC 7519 section 4.1) and so not to be set through Extra.
var reservedClaims = []string{
	"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "auth_time", "nonce", "acr", "amr",
	"at_hash", "c_hash", "s_hash", "sid", "cnf", "events", "client_id", "scope", "grant_id",
}

// reservedClaim compares as encoding/json does when it decodes, without regard to case: a
// claim `Sub` would pass for `sub` with any reader written in Go.
func reservedClaim(name string) bool {
	return slices.ContainsFunc(reservedClaims, func(reserved string) bool { return strings.EqualFold(reserved, name) })
}

// MarshalJSON writes the claims, Extra among them.
func (t *IDToken) MarshalJSON() ([]byte, error) {
	own, err := json.Marshal(&idClaims{
		Issuer: t.Issuer, Subject: t.Subject, Audience: t.Audience, AZP: t.AZP,
		ExpiresAt: t.ExpiresAt.Unix(), IssuedAt: t.IssuedAt.Unix(), AuthTime: unixOrZero(t.AuthTime),
		Nonce: t.Nonce, ACR: t.ACR, AMR: t.AMR, AtHash: t.AtHash, SID: t.SID, GrantID: t.GrantID,
	})
	if err != nil {
		return nil, err
	}
	extra := make(map[string]any, len(t.Extra))
	for name, value := range t.Extra {
		if !reservedClaim(name) {
			extra[name] = value
		}
	}
	if len(extra) == 0 {
		return own, nil
	}
	more, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	// Two objects become one: `{…` and `,…}`.
	return bytes.Join([][]byte{own[:len(own)-1], more[1:]}, []byte{','}), nil
}

// IDTokens issues ID tokens and reads them back as logout hints. Safe for concurrent use.
type IDTokens struct {
	keys   *Keys
	issuer string
}

// NewIDTokens makes the issuer of ID tokens: issuer is the broker's issuer URL.
func NewIDTokens(keys *Keys, issuer string) *IDTokens {
	return &IDTokens{keys: keys, issuer: issuer}
}

// Issue signs an ID token with the key of alg (RS256 unless the client registered another).
// It sets t.Issuer in what it writes, not in t. The error says what is missing in t, or that it
// is too long, or that no key can sign.
func (s *IDTokens) Issue(alg string, t *IDToken) (string, error) {
	claims := *t
	claims.Issuer = s.issuer
	if !claims.valid() {
		return "", fmt.Errorf("id token: subject, audience, and times in order are required")
	}
	raw, err := s.keys.Sign(alg, TypeIDToken, &claims)
	if err != nil {
		return "", fmt.Errorf("id token: %w", err)
	}
	return raw, nil
}

func (t *IDToken) valid() bool {
	return t.Subject != "" && len(t.Audience) > 0 && t.IssuedAt.Unix() > 0 && t.ExpiresAt.Unix() > t.IssuedAt.Unix()
}

// VerifyIDTokenHint reads an ID token that this broker issued, to whomever, expired or not: what a
// client hands back as id_token_hint (OpenID Connect Core section 3.1.2.1, RP-Initiated Logout
// section 2). ErrInvalid for every other string; ErrEncrypted for one that was encrypted for its client, which has to decrypt it and hand back
// what was inside (Core section 3.1.2.1). It proves that the token was issued once, not that anyone
// is signed in now; that the audience is the asking client is the caller's to check.
func (s *IDTokens) VerifyIDTokenHint(raw string) (*IDToken, error) {
	if encrypted(raw) {
		return nil, ErrEncrypted
	}
	var c idClaims
	if err := s.keys.Verify(raw, TypeIDToken, &c); err != nil {
		return nil, ErrInvalid
	}
	t := &IDToken{
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, AZP: c.AZP, Nonce: c.Nonce, SID: c.SID, GrantID: c.GrantID,
		ACR: c.ACR, AMR: c.AMR, AtHash: c.AtHash,
		IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(c.ExpiresAt, 0).UTC(), AuthTime: timeOrZero(c.AuthTime),
	}
	if t.Issuer != s.issuer || !t.valid() {
		return nil, ErrInvalid
	}
	return t, nil
}

// LeftHash is the hash that binds an access token (at_hash) or code (c_hash) to an ID token
// signed with alg (OpenID Connect Core section 3.1.3.6): the left half of the
// algorithm's own hash, in base64url. For EdDSA that is SHA-512, which Ed25519 is built on.
func LeftHash(alg, value string) (string, error) {
	switch alg {
	case RS256, ES256:
		sum := sha256.Sum256([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]), nil
	case EdDSA:
		sum := sha512.Sum512([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]), nil
	}
	return "", fmt.Errorf("%w: %q", ErrNoKey, alg)
}
