package token

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Format is how an access token is written.
type Format string

// The formats of access tokens.
const (
	// FormatOpaque is a string that the broker alone can read: an API asks by introspection.
	FormatOpaque Format = "opaque"
	// FormatJWT is a signed JWT after RFC 9068, which an API can verify by itself.
	FormatJWT Format = "jwt"
)

const (
	// DefaultAccessAlgorithm signs access tokens that name no other: the smallest and
	// cheapest signature that every JOSE library knows.
	DefaultAccessAlgorithm = ES256
	// MaxAccessTokenBytes bounds an access token of either format: it travels in one
	// header line.
	MaxAccessTokenBytes = MaxJWTBytes
	// opaqueSizeHint is room for nonce, content and tag of a usual opaque token.
	opaqueSizeHint = 512
)

// Access is what an access token says.
type Access struct {
	// ID is the token's own name (`jti`); a new one from NewID for each token.
	ID string
	// GrantID names the grant the token came of, so that introspection sees it revoked.
	// Empty for a token that no grant stands behind, such as one of client credentials.
	GrantID string
	// ClientID is the client the token was issued to.
	ClientID string
	// Subject is the account's id, or the client's where no account is involved (RFC 9068
	// section 2.2).
	Subject string
	// Scopes granted, in the order they are written.
	Scopes []string
	// Audience are the identifiers of the APIs that may accept the token; at least one.
	Audience []string
	// IssuedAt and ExpiresAt bound the token's life; kept to the second.
	IssuedAt, ExpiresAt time.Time
	// AuthTime is when the person last signed in; zero if nobody did. Kept to the second.
	AuthTime time.Time
	// ACR is how the person signed in (OpenID Connect Core section 2); may be empty.
	ACR string
	// KeyThumbprint binds the token to a DPoP key (`cnf.jkt`, RFC 9449 section 6.1); empty
	// for a bearer token.
	KeyThumbprint string
	// CertThumbprint binds the token to a client certificate (`cnf.x5t#S256`, RFC 8705 section 3.1); empty
	// for one that is not.
	CertThumbprint string
	// Actor is who acts for the subject, as the JSON of an `act` claim (RFC 8693 section 4.1); empty if nobody
	// does.
	Actor string
	// Details are what the token authorizes beyond scopes, as the JSON array of an
	// `authorization_details` claim (RFC 9396 section 9.1); empty for none.
	Details string
	// Algorithm signs a token of FormatJWT; empty means DefaultAccessAlgorithm. Verify sets
	// it. Opaque tokens have none.
	Algorithm string
}

func (a *Access) check() error {
	switch {
	case a.ID == "", a.ClientID == "", a.Subject == "":
		return errors.New("access token: id, client and subject are required")
	case len(a.Audience) == 0:
		return errors.New("access token: an audience is required")
	case a.IssuedAt.Unix() <= 0 || a.ExpiresAt.Unix() <= a.IssuedAt.Unix():
		return errors.New("access token: must expire after it is issued")
	}
	for _, raw := range [...]string{a.Actor, a.Details} {
		if raw != "" && !json.Valid([]byte(raw)) {
			return errors.New("access token: act and authorization_details are JSON")
		}
	}
	for _, scope := range a.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\r\n") {
			return fmt.Errorf("access token: scope %q is not one word", scope)
		}
	}
	return nil
}

// AccessTokens issues and verifies access tokens. Safe for concurrent use.
type AccessTokens struct {
	ring   *Keyring
	keys   *Keys
	issuer string
	now    func() time.Time
}

// NewAccessTokens makes the issuer of access tokens: issuer is the broker's issuer URL, now
// tells the time (nil means time.Now).
func NewAccessTokens(ring *Keyring, keys *Keys, issuer string, now func() time.Time) *AccessTokens {
	if now == nil {
		now = time.Now
	}
	return &AccessTokens{ring: ring, keys: keys, issuer: issuer, now: now}
}

// Issue writes an access token. Nothing is stored. The error says what is missing in a, or
// that it is too long, or that no key can sign.
func (t *AccessTokens) Issue(format Format, a *Access) (string, error) {
	if err := a.check(); err != nil {
		return "", err
	}
	switch format {
	case FormatOpaque:
		raw := t.ring.sealAccess(func(dst []byte) []byte { return appendOpaque(dst, t.issuer, a) })
		if len(raw) > MaxAccessTokenBytes {
			return "", fmt.Errorf("access token of %d bytes exceeds %d", len(raw), MaxAccessTokenBytes)
		}
		return raw, nil
	case FormatJWT:
		alg := a.Algorithm
		if alg == "" {
			alg = DefaultAccessAlgorithm
		}
		raw, key, err := t.keys.sign(alg, TypeAccessToken, t.claims(a))
		if err != nil {
			return "", fmt.Errorf("access token: %w", err)
		}
		t.keys.remember(raw, TypeAccessToken, key)
		return raw, nil
	}
	return "", fmt.Errorf("access token: unknown format %q", format)
}

// Verify reads an access token of either format that this broker issued, and says which it
// is. ErrExpired if its time has passed, ErrInvalid for every other string. Whether its grant
// still stands, and whether the audience is the asker, is the caller's question.
func (t *AccessTokens) Verify(raw string) (*Access, Format, error) {
	if len(raw) > MaxAccessTokenBytes {
		return nil, "", ErrInvalid
	}
	var a *Access
	var format Format
	if strings.HasPrefix(raw, accessVersion+".") {
		plain, ok := t.ring.openAccess(raw)
		if !ok {
			return nil, "", ErrInvalid
		}
		if a, ok = parseOpaque(plain, t.issuer); !ok {
			return nil, "", ErrInvalid
		}
		format = FormatOpaque
	} else {
		var c accessClaims
		alg, err := t.keys.verify(raw, TypeAccessToken, &c)
		if err != nil || c.Issuer != t.issuer {
			return nil, "", ErrInvalid
		}
		a = c.access()
		a.Algorithm = alg
		format = FormatJWT
	}
	if a.check() != nil {
		return nil, "", ErrInvalid
	}
	if !t.now().Before(a.ExpiresAt) {
		return nil, "", ErrExpired
	}
	return a, format, nil
}

// accessClaims are those of RFC 9068 section 2.2, and grant_id, which is the broker's own.
type accessClaims struct {
	Issuer    string        `json:"iss"`
	Subject   string        `json:"sub"`
	Audience  audience      `json:"aud"`
	ClientID  string        `json:"client_id"`
	ID        string        `json:"jti"`
	IssuedAt  int64         `json:"iat"`
	ExpiresAt int64         `json:"exp"`
	Scope     string        `json:"scope,omitempty"`
	AuthTime  int64         `json:"auth_time,omitempty"`
	ACR       string        `json:"acr,omitempty"`
	GrantID   string        `json:"grant_id,omitempty"`
	Confirm   *Confirmation `json:"cnf,omitempty"`

	Actor   json.RawMessage `json:"act,omitempty"`
	Details json.RawMessage `json:"authorization_details,omitempty"`
}

// Confirmation is the claim cnf of RFC 7800, in tokens and introspection: what whoever presents the token has to prove.
type Confirmation struct {
	KeyThumbprint  string `json:"jkt,omitempty"`      // RFC 9449 section 6.1
	CertThumbprint string `json:"x5t#S256,omitempty"` // RFC 8705 section 3.1
}

// Confirmation is the token's, nil for a bearer token.
func (a *Access) Confirmation() *Confirmation {
	if a.KeyThumbprint == "" && a.CertThumbprint == "" {
		return nil
	}
	return &Confirmation{KeyThumbprint: a.KeyThumbprint, CertThumbprint: a.CertThumbprint}
}

func (t *AccessTokens) claims(a *Access) *accessClaims {
	c := &accessClaims{
		Issuer:    t.issuer,
		Subject:   a.Subject,
		Audience:  a.Audience,
		ClientID:  a.ClientID,
		ID:        a.ID,
		IssuedAt:  a.IssuedAt.Unix(),
		ExpiresAt: a.ExpiresAt.Unix(),
		Scope:     strings.Join(a.Scopes, " "),
		AuthTime:  unixOrZero(a.AuthTime),
		ACR:       a.ACR,
		GrantID:   a.GrantID,
		Confirm:   a.Confirmation(),
	}
	if a.Actor != "" {
		c.Actor = json.RawMessage(a.Actor)
	}
	if a.Details != "" {
		c.Details = json.RawMessage(a.Details)
	}
	return c
}

func (c *accessClaims) access() *Access {
	a := &Access{
		ID:        c.ID,
		GrantID:   c.GrantID,
		ClientID:  c.ClientID,
		Subject:   c.Subject,
		Audience:  c.Audience,
		IssuedAt:  time.Unix(c.IssuedAt, 0).UTC(),
		ExpiresAt: time.Unix(c.ExpiresAt, 0).UTC(),
		AuthTime:  timeOrZero(c.AuthTime),
		ACR:       c.ACR,
		Actor:     string(c.Actor),
		Details:   string(c.Details),
	}
	if c.Scope != "" {
		a.Scopes = strings.Split(c.Scope, " ")
	}
	if c.Confirm != nil {
		a.KeyThumbprint, a.CertThumbprint = c.Confirm.KeyThumbprint, c.Confirm.CertThumbprint
	}
	return a
}

// audience is written as a string where it is one, which the simplest verifiers
// expect, and read in both forms (RFC 7519 section 4.1.3).
type audience []string

// MarshalJSON writes one audience as a string, others as an array.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON reads a string or an array of strings.
func (a *audience) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func timeOrZero(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// appendOpaque writes the content of an opaque token: each string as its length and bytes,
// each list as its length and strings, each time as seconds since 1970, all numbers as
// unsigned varints. The issuer is in it so that two brokers that share a keyring by mistake
// do not take each other's tokens.
func appendOpaque(dst []byte, issuer string, a *Access) []byte {
	dst = appendString(dst, issuer)
	for _, s := range a.opaqueTexts() {
		dst = appendString(dst, *s)
	}
	for _, list := range [...][]string{a.Scopes, a.Audience} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = appendString(dst, s)
		}
	}
	for _, t := range [...]time.Time{a.IssuedAt, a.ExpiresAt, a.AuthTime} {
		dst = binary.AppendUvarint(dst, uint64(max(0, unixOrZero(t))))
	}
	return dst
}

// opaqueTexts are the texts of an opaque token in their order, which is part of the format.
func (a *Access) opaqueTexts() [9]*string {
	return [...]*string{&a.ID, &a.GrantID, &a.ClientID, &a.Subject, &a.ACR, &a.KeyThumbprint, &a.CertThumbprint, &a.Actor, &a.Details}
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// parseOpaque reads what appendOpaque wrote, all of it.
func parseOpaque(plain []byte, issuer string) (*Access, bool) {
	// One string, of which all others are parts: one allocation instead of a dozen.
	r := &opaqueReader{rest: string(plain), ok: true}
	sameIssuer := r.text() == issuer
	a := &Access{}
	for _, s := range a.opaqueTexts() {
		*s = r.text()
	}
	a.Scopes, a.Audience = r.list(), r.list()
	a.IssuedAt, a.ExpiresAt, a.AuthTime = r.time(), r.time(), r.time()
	return a, r.ok && r.rest == "" && sameIssuer
}

// opaqueReader takes values off a string; after the first that does not fit, ok is false
// and all are zero.
type opaqueReader struct {
	rest string
	ok   bool
}

// number reads an unsigned varint.
func (r *opaqueReader) number() uint64 {
	n, shift := uint64(0), 0
	for i := range len(r.rest) {
		b := r.rest[i]
		if shift > 56 {
			break
		}
		n |= uint64(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.rest, r.ok = "", false
	return 0
}

func (r *opaqueReader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.rest, r.ok = "", false
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *opaqueReader) list() []string {
	n := r.number()
	// Each string takes a byte at least, so this bounds what is allocated.
	if n > uint64(len(r.rest)) {
		r.rest, r.ok = "", false
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func (r *opaqueReader) time() time.Time {
	return timeOrZero(int64(r.number()))
}
