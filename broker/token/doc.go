// Package token mints and verifies everything the broker issues: authorization
// codes, refresh tokens, access tokens (opaque and signed), ID tokens, client
// secrets' hashes, sealed values and random ids; and it keeps the signing keys.
//
// There are two roots of trust. The [Keyring] is configured: symmetric secrets, of
// which the first makes and all check. [Keys] are generated: private signing keys,
// sealed under the keyring, shared by all nodes through the store, rotated by time.
//
// Codes, refresh tokens and opaque access tokens are derived rather than stored, so a
// forged one is refused without IO, and each has exactly one spelling. Everything here
// says whether a string is one the broker made; whether the grant or flow it names still
// stands is the caller's question.
//
// It is called by broker/oauth, broker/signin and the commands. It imports broker/store
// alone, knows nothing of clients, accounts or HTTP, and never logs a token or a key.
package token

import (
	"errors"
	"fmt"
)

// The reasons for which a string is refused. Compare with errors.Is. They say no more on
// purpose: which check failed is of use to a forger alone.
var (
	// ErrInvalid says that the broker did not make this string, or not for this use, or made
	// it under a secret or key that has since been removed.
	ErrInvalid = errors.New("invalid token")
	// ErrEncrypted says that the string is an encrypted token, such as an ID token that was made for a client's key (see Encrypt): no
	// other key opens it, the broker's included. It wraps ErrInvalid.
	ErrEncrypted = fmt.Errorf("%w: it is encrypted for somebody else's key", ErrInvalid)
	// ErrExpired says that the broker made this token and that its time has passed. A
	// token that is expired and in any way invalid is ErrInvalid.
	ErrExpired = errors.New("token has expired")
)
