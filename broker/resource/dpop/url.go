package dpop

import (
	"net/url"
	"strings"
)

// sameURL compares a proof's htu with the normalized URL of the endpoint, without query and fragment (section 4.3 point 9).
func sameURL(htu, want string) bool {
	if htu == want {
		return true
	}
	normal, ok := Normalize(htu)
	return ok && normal == want
}

// Normalize writes an http or https URL in one form, without query and fragment: scheme and host in lower case, no
// default port, no dot segments, no needless percent-encoding (RFC 3986 sections 6.2.2 and 6.2.3, as RFC 9449 section 4.3
// advises). False for everything that is no such URL, and for one with user information.
func Normalize(raw string) (string, bool) {
	if len(raw) > maxURL {
		return "", false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	host := strings.ToLower(u.Host) // the scheme is already
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", false
	}
	host = strings.TrimSuffix(host, ":") // an empty port is the default one
	path := normalizeEscapes(u.EscapedPath())
	if path == "" {
		path = "/"
	}
	clean, err := url.Parse(u.Scheme + "://" + host + path)
	if err != nil {
		return "", false
	}
	return clean.ResolveReference(clean).String(), true // which takes dot segments out
}

// normalizeEscapes decodes what needs no percent-encoding, and writes the rest in upper case. The path is one that net/url
// took, so that two hexadecimal digits follow each '%'.
func normalizeEscapes(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		if c := unhex(path[i+1])<<4 | unhex(path[i+2]); unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return c - 'A' + 10
	}
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
