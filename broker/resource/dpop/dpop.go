// Package dpop judges DPoP proofs (RFC 9449): small JWTs that a client signs for one request each, to show that it
// holds the key which its tokens are bound to.
//
// broker/oauth calls it wherever a proof may come in. [Check] is a pure function of the proof, the request and the time. Whether
// the proof was used before is the caller's to find out: the package keeps nothing and does no IO. It imports nothing of the
// broker.
package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// Header is the request header that carries a proof (RFC 9449 section 4.1).
	Header = "DPoP"
	// Scheme is the authentication scheme of bound access tokens, and their token_type (section 7.1).
	Scheme = "DPoP"
	// Type is a proof's `typ` (section 4.2).
	Type = "dpop+jwt"

	// MaxProofBytes bounds a proof before it is looked at: one with the longest key and claims that are allowed has under
	// 4 KiB.
	MaxProofBytes = 4 << 10
	// MaxAge is how long after its making a proof is accepted: a client makes one for each request, so all it has to span is the
	// way here (section 11.1: "on the order of seconds or minutes").
	MaxAge = time.Minute
	// Leeway is how far a client's clock may be off, either way. FAPI 2.0 section 5.3.2.1 demands 10 seconds into the future and
	// forbids more than 60.
	Leeway = 30 * time.Second

	// maxID bounds jti: a UUID has 36 characters, and no random value needs more than this.
	maxID = 256
	// maxURL bounds htu: the broker's own endpoints are far shorter.
	maxURL = 1 << 10
)

// The errors of this package. Compare with errors.Is. What an error of Check says is fit for the client: it repeats nothing of
// the proof.
var (
	// ErrInvalid says that the proof does not stand: `invalid_dpop_proof` (section 5).
	ErrInvalid = errors.New("the DPoP proof is not valid")
	// ErrTooMany says that there is more than one DPoP header.
	ErrTooMany = fmt.Errorf("%w: there is more than one DPoP header", ErrInvalid)
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// Request is what a proof must have been made for.
type Request struct {
	// Method is the HTTP method, in its own case.
	Method string
	// URLs are the endpoint's, without query and fragment, in the form that [Normalize] gives: one, or two where it has an alias
	// for clients with certificates (RFC 8705 section 5). They are what the broker is configured to be, never what a Host header
	// says.
	URLs []string
	// AccessToken is the one that the proof comes with, at a protected resource; "" elsewhere.
	AccessToken string
	// Algorithms are those allowed, of [Algorithms]; empty means all of them.
	Algorithms []string
}

// Proof is what a proof that stands says. Of two requests with the same JKT, ID and URL at most one is honest (section 11.1). The
// key is among them so that nobody can spend another client's jti; the URL, because a jti need be unique for one URL alone.
type Proof struct {
	// JKT is the thumbprint of its key (RFC 7638, SHA-256, base64url): what tokens are bound to.
	JKT string
	// ID is its `jti`.
	ID string
	// URL is its `htu`, normalized.
	URL string
	// Nonce is the server's nonce in it; "" if it has none. See Nonces.
	Nonce string
	// Expires is when Check would not accept it any more, and until which its use must be remembered.
	Expires time.Time
}

// FromHeader is the proof in a request's headers; "" if there is none. ErrTooMany if there is more than one (section 4.3
// point 1): two readers could otherwise check two proofs.
func FromHeader(h http.Header) (string, error) {
	switch values := h[http.CanonicalHeaderKey(Header)]; len(values) {
	case 0:
		return "", nil
	case 1:
		if values[0] == "" {
			return "", invalid("the DPoP header is empty")
		}
		return values[0], nil
	}
	return "", ErrTooMany
}

// header is a proof's JOSE header. The key is in it, and no other way to name one is looked at: kid, jku and x5c decide
// nothing.
type header struct {
	Type      string  `json:"typ"`
	Algorithm string  `json:"alg"`
	Key       *jwk    `json:"jwk"`
	Critical  present `json:"crit"`
	Plain     present `json:"b64"`
}

// claims are a proof's (section 4.2).
type claims struct {
	ID        string   `json:"jti"`
	Method    string   `json:"htm"`
	URL       string   `json:"htu"`
	IssuedAt  *float64 `json:"iat"`
	NotBefore *float64 `json:"nbf"`
	ExpiresAt *float64 `json:"exp"`
	TokenHash string   `json:"ath"`
	Nonce     string   `json:"nonce"`
}

// present notes that a member is there, whatever its value, null included.
type present bool

// UnmarshalJSON sets p.
func (p *present) UnmarshalJSON([]byte) error {
	*p = true
	return nil
}

// Check reads a proof and judges it by section 4.3 (points 2 to 9, 11 and 12; FromHeader is point 1, Nonces point 10). An error
// wraps ErrInvalid. That the proof's key is the one that a token or a code is bound to is the caller's to compare; so are
// nonce and replay.
func Check(raw string, want Request, now time.Time) (*Proof, error) {
	if len(raw) > MaxProofBytes {
		return nil, invalid("it is longer than %d bytes", MaxProofBytes)
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, mac, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(mac, ".") {
		return nil, invalid("it is not a JWT in compact serialization")
	}
	var h header
	if err := decodeJSON(head, &h); err != nil {
		return nil, invalid("its header is not JSON in base64url")
	}
	switch {
	case h.Type != Type:
		return nil, invalid("its typ must be %s", Type)
	case !slices.Contains(algorithms, h.Algorithm) || len(want.Algorithms) > 0 && !slices.Contains(want.Algorithms, h.Algorithm):
		return nil, invalid("its alg must be one of %s", strings.Join(orAll(want.Algorithms), ", "))
	case h.Key == nil:
		return nil, invalid("its header has no jwk")
	case bool(h.Critical) || bool(h.Plain):
		// RFC 7515 section 4.1.11: what must be understood, and is not, must be refused.
		return nil, invalid("its header has extensions that are not supported (crit, b64)")
	}
	key, err := h.Key.publicKey(h.Algorithm)
	if err != nil {
		return nil, err
	}
	signature, ok := decode(mac)
	if !ok || !key.verify(raw[:len(head)+1+len(body)], signature) {
		return nil, invalid("its signature does not verify with its key")
	}
	var c claims
	if err := decodeJSON(body, &c); err != nil {
		return nil, invalid("its claims are not JSON of the right types in base64url")
	}
	at := slices.IndexFunc(want.URLs, func(url string) bool { return sameURL(c.URL, url) })
	if at < 0 {
		return nil, invalid("its htu is not the URL of this endpoint, %s", strings.Join(want.URLs, " or "))
	}
	expires, err := c.judge(want, now)
	if err != nil {
		return nil, err
	}
	return &Proof{JKT: key.thumbprint, ID: c.ID, URL: want.URLs[at], Nonce: c.Nonce, Expires: expires}, nil
}

func orAll(allowed []string) []string {
	if len(allowed) == 0 {
		return algorithms
	}
	return allowed
}

// judge compares the other claims with the request and the time, and says when that will have passed.
func (c *claims) judge(want Request, now time.Time) (expires time.Time, err error) {
	switch {
	case c.ID == "" || len(c.ID) > maxID:
		return expires, invalid("its jti must have 1 to %d bytes", maxID)
	case c.Method != want.Method:
		return expires, invalid("its htm is not the method of this request, %s", want.Method)
	case c.IssuedAt == nil:
		return expires, invalid("it has no iat")
	}
	if want.AccessToken != "" {
		sum := sha256.Sum256([]byte(want.AccessToken))
		if subtle.ConstantTimeCompare([]byte(c.TokenHash), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
			return expires, invalid("its ath is not the hash of the access token")
		}
	}
	// In seconds as floating-point numbers: so large a one as a stranger sends does not fit a time.
	at, leeway := float64(now.UnixMilli())/1000, Leeway.Seconds()
	last := *c.IssuedAt + MaxAge.Seconds() + leeway
	switch {
	case *c.IssuedAt > at+leeway:
		return expires, invalid("its iat is in the future; the time here is %d", now.Unix())
	case at >= last:
		return expires, invalid("its iat is older than %s; the time here is %d", MaxAge, now.Unix())
	case c.NotBefore != nil && *c.NotBefore > at+leeway:
		return expires, invalid("its nbf is in the future; the time here is %d", now.Unix())
	case c.ExpiresAt != nil && at >= *c.ExpiresAt+leeway:
		return expires, invalid("it has expired; the time here is %d", now.Unix())
	}
	return time.UnixMilli(int64(last * 1000)).UTC(), nil
}

// strict refuses spare bits that are not zero, so that a proof has one spelling. It skips line breaks, which decode refuses.
var strict = base64.RawURLEncoding.Strict()

func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	raw, err := strict.DecodeString(s)
	return raw, err == nil
}

var errEncoding = errors.New("not base64url")

func decodeJSON(s string, into any) error {
	raw, ok := decode(s)
	if !ok {
		return errEncoding
	}
	return json.Unmarshal(raw, into)
}
