package device

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"unicode"
)

// alphabet is the base-20 set of RFC 8628 section 6.1: capitals that are typed without switching a keyboard, no vowels, so that no
// words come of it, and none that looks like a digit or another letter.
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"

// userCodeLength letters give 20^8, 25,600,000,000 codes, 34.5 bits. What a guesser can do with that is bounded by three
// things (section 5.1): a code lives for minutes; an address makes about fifteen guesses an hour (broker/signin); and all
// guessers together ten thousand. With a thousand codes waiting at any time that is one hit in 2,500 hours of an attack by
// hundreds of addresses at once. A hit finds a device that waits, on which the guesser can sign in as himself: it gives nothing of
// anybody else's. Longer codes would be typed wrong on a phone more often than they would help.
const userCodeLength = 8

// maxTyped bounds what a person typed before it is looked at: a code with a space around each letter is below it.
const maxTyped = 64

// NewUserCode makes a random user code as ParseUserCode returns it. Safe for concurrent use.
func NewUserCode() string {
	// A byte above the largest multiple of 20 is thrown away, or the first letters would come up more often.
	const fair = 256 - 256%len(alphabet)
	code := make([]byte, 0, userCodeLength)
	var raw [2 * userCodeLength]byte
	for {
		rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
		for _, b := range raw {
			if int(b) >= fair {
				continue
			}
			if code = append(code, alphabet[int(b)%len(alphabet)]); len(code) == userCodeLength {
				return string(code)
			}
		}
	}
}

// ParseUserCode reads a code as a person types or pastes it: lower case, spaces, dashes, other punctuation and what cannot be seen
// are forgiven (RFC 8628 section 6.1). False if it cannot be a code, so that nobody has to look.
func ParseUserCode(typed string) (code string, ok bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	b := make([]byte, 0, userCodeLength)
	for _, r := range typed {
		if unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.Is(unicode.Cf, r) {
			continue
		}
		if 'a' <= r && r <= 'z' {
			r += 'A' - 'a'
		}
		if r > unicode.MaxASCII || strings.IndexByte(alphabet, byte(r)) < 0 || len(b) == userCodeLength {
			return "", false
		}
		b = append(b, byte(r))
	}
	return string(b), len(b) == userCodeLength
}

// FormatUserCode is a code as people read it: XXXX-XXXX.
func FormatUserCode(code string) string {
	if len(code) != userCodeLength {
		return code
	}
	return code[:userCodeLength/2] + "-" + code[userCodeLength/2:]
}

// digestChars is the length of a document's id: 192 bits of digest in base64url, without spare bits.
const digestChars = 32

// docID is the id of a user code's document: who inserts it has the code. It is a digest for its form; it hides nothing from whoever
// reads the store, who could try all codes.
func docID(code string) string {
	sum := sha256.Sum256([]byte(code))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:digestChars]
}
