package sessions

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// randomChars is the length of rand.Text: 26 characters of base32, 130 bits.
const randomChars = 26

// newRandom makes a session id or browser value that nobody can guess (RFC 6819 section 5.1.4.2.2 asks for 128
// bits), in characters that are safe in cookies and store ids.
func newRandom() string { return rand.Text() }

// validRandom reports whether newRandom could have made v.
func validRandom(v string) bool {
	if len(v) != randomChars {
		return false
	}
	for i := range len(v) {
		if c := v[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// Browser is the value of the request's browser cookie, or "" if it has none, several or a malformed one. It is a
// secret between this browser and the broker: store a keyed digest of it and compare in
// constant time. It does no IO. Safe for concurrent use.
func (s *Store) Browser(r *http.Request) string {
	if v := soleCookie(r, s.browserCookie); validRandom(v) {
		return v
	}
	return ""
}

// EnsureBrowser is Browser, and gives a browser that has no valid value a new one, which it returns. Called
// again for the same response it returns the same value. It must be called before the
// response is written. Safe for concurrent use by different requests.
func (s *Store) EnsureBrowser(w http.ResponseWriter, r *http.Request) string {
	if v := s.Browser(r); v != "" {
		return v
	}
	for _, line := range w.Header()["Set-Cookie"] {
		rest, ok := strings.CutPrefix(line, s.browserCookie+"=")
		if v, _, _ := strings.Cut(rest, ";"); ok && validRandom(v) {
			return v
		}
	}
	v := newRandom()
	// Until the browser closes: no flow lives longer, and nobody is to be recognised by it.
	s.setCookie(w, s.browserCookie, v, 0)
	return v
}
