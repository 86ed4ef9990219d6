package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
)

// Assertions: JWTs that somebody else signed to say who a client is, or for whom it asks (RFC 7523 section 3). What all of them have in
// common is judged here, as a pure function, once the signature has been checked.

const (
	// maxAssertionLife bounds how far ahead an assertion may expire: as long it is remembered, and could be used first by whoever
	// stole it. Libraries give them a minute; Google and Okta, an hour at most.
	maxAssertionLife = time.Hour
	// assertionLeeway forgives clocks that are ahead of ours. FAPI 2.0 section 5.3.2.1 wants 10 seconds forgiven, and 60 not. What
	// has expired is not forgiven: its maker chose the time.
	assertionLeeway = 30 * time.Second
	// maxJTI bounds an assertion's id: the longest in use are UUIDs and digests.
	maxJTI = 256
)

// assertion are the claims of RFC 7523 section 3.
type assertion struct {
	Issuer    string            // iss
	Subject   string            // sub
	Audience  assertionAudience // aud
	Expires   *jwt.NumericDate  // exp
	NotBefore *jwt.NumericDate  // nbf
	IssuedAt  *jwt.NumericDate  // iat
	ID        string            // jti
}

// assertionAudience is a string or a list of them (RFC 7519 section 4.1.3), and which of both it was.
type assertionAudience struct {
	values []string
	list   bool
}

// UnmarshalJSON reads a string or an array of strings.
func (a *assertionAudience) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte{'['}) {
		a.list = true
		return json.Unmarshal(data, &a.values)
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	a.values = []string{one}
	return nil
}

// errNoClaims says that what was signed is no claims set.
var errNoClaims = errors.New("it holds no JSON object with the claims of RFC 7523 section 3")

// parseAssertion reads the claims by their exact names: encoding/json would take SUB for sub, which an issuer may let its people have for their own.
func parseAssertion(payload []byte) (*assertion, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(payload, &all); err != nil {
		return nil, errNoClaims
	}
	a := &assertion{}
	for name, claim := range map[string]any{
		"iss": &a.Issuer, "sub": &a.Subject, "aud": &a.Audience, "exp": &a.Expires, "nbf": &a.NotBefore, "iat": &a.IssuedAt, "jti": &a.ID,
	} {
		if raw, there := all[name]; there && json.Unmarshal(raw, claim) != nil {
			return nil, errNoClaims
		}
	}
	return a, nil
}

// judge says what is wrong with an assertion at a time, in words for whoever made it. accepted are the names that this server goes by. An assertion
// for others too is refused: any of them could present it here (RFC 7523bis section 2). asText takes aud as a string alone, which FAPI 2.0
// section 5.3.2.1 demands.
func (a *assertion) judge(now time.Time, accepted []string, asText bool) error {
	foreign := slices.IndexFunc(a.Audience.values, func(aud string) bool { return !slices.Contains(accepted, aud) })
	switch {
	case len(a.Audience.values) == 0:
		return fmt.Errorf("aud is missing; it is %s", accepted[0])
	case foreign >= 0:
		return fmt.Errorf("aud holds '%s'; it is to be %s alone", echo(a.Audience.values[foreign]), accepted[0])
	case asText && a.Audience.list:
		return errors.New("aud is a list; it is to be a string")
	case a.Expires == nil:
		return errors.New("exp is missing")
	case !now.Before(a.Expires.Time()):
		return errors.New("it has expired (exp)")
	case a.Expires.Time().After(now.Add(maxAssertionLife)):
		return fmt.Errorf("exp is more than %s ahead", maxAssertionLife)
	case a.NotBefore != nil && a.NotBefore.Time().After(now.Add(assertionLeeway)):
		return errors.New("it is not valid yet (nbf)")
	case a.IssuedAt != nil && a.IssuedAt.Time().After(now.Add(assertionLeeway)):
		return errors.New("it was issued in the future (iat)")
	case a.ID == "" || len(a.ID) > maxJTI:
		return fmt.Errorf("jti is missing or longer than %d bytes; each assertion needs one of its own", maxJTI)
	}
	return nil
}

// typeAllowed says whether a typ header is none, JWT, or that of this kind of JWT: so that no other kind passes for it (RFC 8725 section
// 3.11). Media types compare without case, and may have "application/" before them (RFC 7515 section 4.1.9).
func typeAllowed(typ, kind string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "" || typ == "jwt" || typ == kind
}
