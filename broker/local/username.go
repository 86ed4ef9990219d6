package local

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/text/secure/precis"
)

// MaxUsername bounds a username in bytes, as it is kept and as it is sent: an email address fits.
const MaxUsername = 254

// ErrUsername says that a username cannot be one; the message says why.
var ErrUsername = errors.New("not usable as a username")

// Normal is the form in which usernames are kept and compared: PRECIS UsernameCaseMapped (RFC 8265 section 3.3). Letters are in lower case, full-width ones
// in their usual width, accents composed (NFC); spaces, control characters, symbols beyond ASCII and compatibility forms are refused. What merely
// looks alike (a Cyrillic а for a Latin a) is another username. Email addresses are usernames like any other. ErrUsername otherwise.
func Normal(raw string) (string, error) {
	if raw == "" || len(raw) > MaxUsername {
		return "", fmt.Errorf("%w: it has %d bytes, 1 to %d are needed", ErrUsername, len(raw), MaxUsername)
	}
	normal, err := precis.UsernameCaseMapped.String(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w (RFC 8265)", ErrUsername, err)
	}
	// RFC 8264 section 7: the rules need not give the same when applied again. A username that changes when it is typed as it is shown could not be found.
	if again, err := precis.UsernameCaseMapped.String(normal); err != nil || again != normal || len(normal) > MaxUsername {
		return "", fmt.Errorf("%w: it has no stable form", ErrUsername)
	}
	return normal, nil
}

// claimID is the id of a username's document.
func claimID(normal string) string {
	sum := sha256.Sum256([]byte("username:" + normal))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// StaticID is the id of an account of the configuration that is given none: it follows from its username, so that it stays the same.
func StaticID(normal string) string {
	sum := sha256.Sum256([]byte("static account:" + normal))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
