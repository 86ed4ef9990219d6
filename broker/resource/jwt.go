package resource

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// types are the `typ` of access tokens (RFC 9068 section 4). An ID token, which the same keys sign, has another.
var types = []string{"at+jwt", "application/at+jwt"}

// header is what of a JWT's JOSE header decides whether it is looked at. Key and algorithm are go-jose's to read.
type header struct {
	Type     string          `json:"typ"`
	Critical json.RawMessage `json:"crit"`
}

// parseHeader reads the header of a token that is an access token by its shape: three parts in base64url, the first of which says so. False for
// everything else. Nothing of it is verified.
func parseHeader(raw string) (header, bool) {
	var h header
	head, rest, ok := strings.Cut(raw, ".")
	if !ok || strings.Count(rest, ".") != 1 {
		return h, false
	}
	decoded, ok := decode(head)
	return h, ok && json.Unmarshal(decoded, &h) == nil && slices.Contains(types, h.Type)
}

// strict refuses spare bits that are not zero, so that a token has one spelling. It skips line breaks, which decode refuses.
var strict = base64.RawURLEncoding.Strict()

func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	raw, err := strict.DecodeString(s)
	return raw, err == nil
}

// verifyJWT reads a JWT access token (RFC 9068 section 4) whose header is h: its signature, who issued it, that it says what it must, and that it is not
// of the future. Audience and expiry are judged with each request.
func (k *keys) verifyJWT(ctx context.Context, raw string, h header, issuer string) (*Token, error) {
	if len(h.Critical) > 0 { // RFC 7515 section 4.1.11: what must be understood, and is not, must be refused
		return nil, fmt.Errorf("%w: the header has crit", ErrInvalidToken)
	}
	for part := range strings.SplitSeq(raw, ".") {
		if _, ok := decode(part); !ok { // go-jose takes spare bits and line breaks
			return nil, fmt.Errorf("%w: it is not base64url", ErrInvalidToken)
		}
	}
	signed, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	// What another issuer signed is no reason to ask this one for its keys.
	t, err := parseClaims(signed.UnsafePayloadWithoutVerification(), k.now())
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	case t.Issuer != issuer:
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, notIssuer(t.Issuer, issuer))
	}
	protected := signed.Signatures[0].Protected
	key, err := k.key(ctx, protected.Algorithm, protected.KeyID)
	if err != nil {
		return nil, err
	}
	if _, err := signed.Verify(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return t, nil
}

// claims are what an access token says: those of RFC 9068 section 2.2, and of an introspection answer (RFC 7662 section 2.2), which has the same names.
type claims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  audience     `json:"aud"`
	ClientID  string       `json:"client_id"`
	ID        string       `json:"jti"`
	IssuedAt  numericDate  `json:"iat"`
	ExpiresAt numericDate  `json:"exp"`
	NotBefore *numericDate `json:"nbf"`
	Scope     string       `json:"scope"`
	AuthTime  numericDate  `json:"auth_time"`
	ACR       string       `json:"acr"`

	Confirm json.RawMessage `json:"cnf"`
	Actor   json.RawMessage `json:"act"`
	Details json.RawMessage `json:"authorization_details"`
}

// parseClaims reads the claims of a JWT. RFC 9068 section 2.2 says which must be there.
func parseClaims(payload []byte, now time.Time) (*Token, error) {
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("its claims: %w", err)
	}
	latest := now.Add(Leeway)
	switch {
	case c.Issuer == "", len(c.Audience) == 0, c.ID == "", c.IssuedAt == 0, c.ExpiresAt == 0:
		return nil, errors.New("one of iss, aud, jti, iat and exp is missing (RFC 9068 section 2.2)")
	case c.IssuedAt.time().After(latest), c.NotBefore != nil && c.NotBefore.time().After(latest):
		return nil, fmt.Errorf("it is of the future: issued at %s, and here it is %s", logTime(c.IssuedAt.time()), logTime(now))
	}
	return c.token()
}

func (c *claims) token() (*Token, error) {
	if c.Subject == "" || c.ClientID == "" {
		return nil, errors.New("it does not say whose it is")
	}
	t := &Token{
		Subject: c.Subject, ClientID: c.ClientID, Issuer: c.Issuer, ID: c.ID, Audience: c.Audience, Scopes: strings.Fields(c.Scope),
		IssuedAt: c.IssuedAt.time(), ExpiresAt: c.ExpiresAt.time(), AuthTime: c.AuthTime.time(), ACR: c.ACR,
		Actor: present(c.Actor), Details: present(c.Details),
	}
	if confirm := present(c.Confirm); confirm != nil {
		var methods struct {
			KeyThumbprint  string `json:"jkt"`
			CertThumbprint string `json:"x5t#S256"`
		}
		if err := json.Unmarshal(confirm, &methods); err != nil {
			return nil, fmt.Errorf("its cnf: %w", err)
		}
		t.KeyThumbprint, t.CertThumbprint = methods.KeyThumbprint, methods.CertThumbprint
		if t.KeyThumbprint == "" && t.CertThumbprint == "" {
			// Whoever issued it meant it to be bound; to take it as a bearer token would undo that (RFC 7800 section 3.1).
			return nil, errors.New("its cnf has no method that is known here")
		}
	}
	return t, nil
}

// present is a member's value; nil for null.
func present(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// numericDate is seconds since 1970, perhaps with a fraction, which is dropped (RFC 7519 section 2). 0 means that there is none.
type numericDate int64

// UnmarshalJSON reads a number that is a time.
func (d *numericDate) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return err
	}
	const last = 253402300799 // of the year 9999, beyond which times do not print
	if seconds < 0 || seconds > last {
		return errors.New("a time out of range")
	}
	*d = numericDate(seconds)
	return nil
}

func (d numericDate) time() time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Unix(int64(d), 0).UTC()
}

// audience is a string or a list of strings (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON reads either form.
func (a *audience) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*a = make(audience, 1)
		return json.Unmarshal(data, &(*a)[0])
	}
	return json.Unmarshal(data, (*[]string)(a))
}
