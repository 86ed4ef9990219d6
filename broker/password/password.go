// Package password turns people's passwords into hashes that are slow to guess from, and checks them.
//
// broker/local calls it. It knows what a password may be ([Prepare]), how a hash is written ([Check], the PHC string format, with its parameters
// inside, so that they can be raised later), and how many may be computed at once ([Hasher]). It knows of no account.
package password

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// MinLength is the least number of characters that any new password has, as Unicode code points (NIST SP 800-63B section 5.1.1.2, which also says
	// that nothing else is to be asked of its composition).
	MinLength = 8
	// MaxBytes bounds a password: longer than any passphrase that a person types, short enough that to normalise and hash it costs nothing beside the
	// argon2 itself.
	MaxBytes = 1024
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrInvalid says that a password cannot be one; the message says why.
	ErrInvalid = errors.New("not usable as a password")
	// ErrMalformed says that a hash is not one that this package checks.
	ErrMalformed = errors.New("not an argon2id hash in the PHC string format")
	// ErrBusy says that too many passwords are being checked. Nothing was computed: try again in a moment.
	ErrBusy = errors.New("too many passwords are being checked")
)

// Prepare is a password as it is hashed: normalised (NFKC, as NIST SP 800-63B section 5.1.1.2 recommends), so that the same keys pressed on
// another keyboard or system are the same password. ErrInvalid if it is longer than MaxBytes or not UTF-8; what was
// stored under other rules must stay usable, so a short one is for [CheckNew] to refuse.
func Prepare(raw string) ([]byte, error) {
	switch {
	case len(raw) > MaxBytes:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrInvalid, MaxBytes)
	case !utf8.ValidString(raw):
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrInvalid)
	}
	return norm.NFKC.Bytes([]byte(raw)), nil
}

// CheckNew says whether a password may be set: Prepare accepts it, and it has least characters, or MinLength if that is more.
func CheckNew(raw string, least int) error {
	prepared, err := Prepare(raw)
	if err != nil {
		return err
	}
	least = max(least, MinLength)
	if n := utf8.RuneCount(prepared); n < least {
		return fmt.Errorf("%w: it has %d characters, at least %d are needed", ErrInvalid, n, least)
	}
	return nil
}
