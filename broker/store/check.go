package store

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// ErrTooLarge says that a document is longer than MaxDocumentBytes when encoded.
var ErrTooLarge = fmt.Errorf("document is larger than %d bytes", MaxDocumentBytes)

// ErrInvalid says that an id, owner or page size is out of its bounds.
var ErrInvalid = errors.New("out of bounds")

// CheckMeta says whether a document may be stored under this metadata: both backends ask here, so that neither
// takes what the other refuses.
func CheckMeta(m Meta) error {
	if err := checkID("id", m.ID); err != nil {
		return err
	}
	if m.Owner == "" {
		return nil
	}
	return checkID("owner", m.Owner)
}

func checkID(what, id string) error {
	if len(id) == 0 || len(id) > MaxIDBytes {
		return fmt.Errorf("%s of %d bytes, want 1 to %d: %w", what, len(id), MaxIDBytes, ErrInvalid)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return fmt.Errorf("%s has the byte %#x, want letters, digits, '-', '_', '.', ':': %w", what, c, ErrInvalid)
		}
	}
	return nil
}

// Key is s as it may stand as an id or owner: itself, or where it is too long or of other letters, such as a URL, a digest of it.
func Key(s string) string {
	if checkID("key", s) == nil {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// PageSize is the page's size with the default in place, or an error if it is out of its bounds.
func (q Query) PageSize() (int, error) {
	switch {
	case q.Limit == 0:
		return MaxPage, nil
	case q.Limit < 0 || q.Limit > MaxPage:
		return 0, fmt.Errorf("page of %d documents, want 1 to %d: %w", q.Limit, MaxPage, ErrInvalid)
	}
	return q.Limit, nil
}
