package token

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

const (
	// maxIDBytes bounds an id inside a code or refresh token. NewID makes 26 bytes; the
	// rest is room for ids that a later release makes longer.
	maxIDBytes = 64
	// secretBytes is the entropy of a generated secret: 256 bits, twice what RFC 6749
	// section 10.10 demands, so that a fast keyed hash is enough to store it.
	secretBytes = 32
)

// NewID makes a random id for an account, flow, grant or session: at least 128 bits
// from crypto/rand as lower-case base32 (a-z, 2-7), 26 characters. It is safe in URLs, file
// names, store ids and, as it never begins with '-', command lines; and as it has no
// upper case, a person can read it out. Safe for concurrent use.
func NewID() string {
	return strings.ToLower(rand.Text())
}

// NewSecret makes a client secret or the like: prefix, which lets secret scanners
// recognise it, and 256 random bits as 43 characters of base64url. Safe for concurrent
// use.
func NewSecret(prefix string) string {
	var raw [secretBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// NewVerifier makes a PKCE code verifier: 256 random bits as 43 characters, the length
// that RFC 7636 section 4.1 recommends. Safe for concurrent use.
func NewVerifier() string {
	return NewSecret("")
}

// validID reports whether s may be an id inside a token: 1 to maxIDBytes of the base64url
// alphabet, so that it holds no separator and has one spelling in a URL.
func validID(s string) bool {
	if len(s) == 0 || len(s) > maxIDBytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
