package sessions

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

// Names of the cookies. Under an https issuer they carry HostPrefix.
const (
	// SessionCookie names the cookie that holds the session.
	SessionCookie = "portico_session"
	// BrowserCookie names the cookie that flows are bound to.
	BrowserCookie = "portico_browser"
	// StateCookie names the cookie that apps' frames compare session_state with (OpenID Connect Session Management section 3.2).
	StateCookie = "portico_state"
	// HostPrefix makes a browser insist on Secure, Path=/ and no Domain (RFC 6265bis section
	// 4.1.3.2), so that neither plain http nor a sibling domain can set the cookie.
	HostPrefix = "__Host-"
)

const (
	// maxCookieBytes bounds a session cookie before anything is computed over it. One takes about
	// 150 bytes; the rest is room for longer ids.
	maxCookieBytes = 512
	// minHashKeyBytes is the least MAC key: as long as the output of SHA-256 (RFC 2104 section 3).
	minHashKeyBytes = 32
)

// codecs makes a securecookie codec of every pair of keys. Their own age limit is off: it reads the
// machine's clock, and the document says how long a session lives.
func codecs(keys [][]byte) ([]securecookie.Codec, error) {
	if len(keys) == 0 || len(keys)%2 != 0 {
		return nil, errors.New("cookie keys come in pairs, a hash key and a block key, at least one pair")
	}
	all := make([]securecookie.Codec, 0, len(keys)/2)
	for i := 0; i < len(keys); i += 2 {
		hash, block := keys[i], keys[i+1]
		if len(hash) < minHashKeyBytes {
			return nil, fmt.Errorf("cookie key pair %d: the hash key needs at least %d bytes", i/2, minHashKeyBytes)
		}
		if n := len(block); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("cookie key pair %d: the block key needs 16, 24 or 32 bytes", i/2)
		}
		all = append(all, securecookie.New(hash, block).
			MaxAge(0).
			MaxLength(maxCookieBytes).
			SetSerializer(securecookie.NopEncoder{}))
	}
	return all, nil
}

// encodeID is the session cookie's value for id, under the first key pair.
func (s *Store) encodeID(id string) (string, error) {
	// []byte(id) must be a fresh copy: the codec encrypts it in place.
	value, err := s.codecs[0].Encode(s.sessionCookie, []byte(id))
	if err != nil {
		return "", fmt.Errorf("encode session cookie: %w", err)
	}
	return value, nil
}

// decodeID is the session id in the request's cookie, or "" if it has none, several, or one that is not ours.
func (s *Store) decodeID(r *http.Request) string {
	value := soleCookie(r, s.sessionCookie)
	if value == "" || len(value) > maxCookieBytes {
		return ""
	}
	var id []byte
	if err := securecookie.DecodeMulti(s.sessionCookie, value, &id, s.codecs...); err != nil {
		return ""
	}
	if !validRandom(string(id)) {
		return ""
	}
	return string(id)
}

// soleCookie is the value of the request's one cookie called name; "" if there is none or more than one.
// It counts the raw pairs, because net/http passes over those whose value it finds malformed, and a planted
// cookie must not be able to hide that way.
func soleCookie(r *http.Request, name string) string {
	found := 0
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			key, _, _ := strings.Cut(pair, "=")
			if strings.TrimSpace(key) == name {
				found++
			}
		}
	}
	if found != 1 {
		return ""
	}
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie adds a cookie under the policy. maxAge < 0 deletes it, 0 keeps it until the browser closes. A cookie of
// this name that was set on the same response before is replaced (RFC 6265 section 4.1.1: one per name).
func (s *Store) setCookie(w http.ResponseWriter, name, value string, maxAge time.Duration) {
	s.addCookie(w, &http.Cookie{Name: name, Value: value, HttpOnly: true, SameSite: http.SameSiteLaxMode}, maxAge)
}

func (s *Store) addCookie(w http.ResponseWriter, c *http.Cookie, maxAge time.Duration) {
	c.Path, c.Secure = "/", s.secure
	switch {
	case maxAge < 0:
		c.MaxAge = -1
	case maxAge > 0:
		// Rounded up: the document decides, and the cookie must not go before it.
		c.MaxAge = int((maxAge + time.Second - 1) / time.Second)
	}
	header := w.Header()
	kept := header["Set-Cookie"][:0:0]
	for _, line := range header["Set-Cookie"] {
		if !strings.HasPrefix(line, c.Name+"=") {
			kept = append(kept, line)
		}
	}
	header["Set-Cookie"] = append(kept, c.String())
}

// cookieName is base as the policy spells it.
func cookieName(base string, secure bool) string {
	if secure {
		return HostPrefix + base
	}
	return base
}
