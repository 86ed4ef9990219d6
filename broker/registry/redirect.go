package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a redirect URI.
const (
	// maxURI is what fits, with a response added, into the URLs that browsers and servers take.
	maxURI = 1024
	// maxURIs bounds a client's list: a few environments, each with a few addresses.
	maxURIs = 32
)

// RequestAddress is where a request_uri points: without the fragment, which may be the hash of what is there (OpenID Connect Core
// section 6.2) and is never sent.
func RequestAddress(uri string) string {
	address, _, _ := strings.Cut(uri, "#")
	return address
}

// forbiddenSchemes are private-use by their form, or read as such, and run or leak what they carry in a browser.
var forbiddenSchemes = []string{"javascript", "data", "vbscript", "file", "blob", "about", "view-source", "ws", "wss", "ftp", "mailto"}

// checkRedirectURI says whether a client may register a redirect URI: https; http on loopback (RFC 8252 section 7.3); or a
// private-use scheme that is a domain in reverse, so that its owner is known (section 7.1).
func checkRedirectURI(raw string) error {
	u, err := checkURI(raw)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme == "https":
		return checkWeb(u)
	case u.Scheme == "http":
		if !loopback(u.Hostname()) {
			return errors.New("http is for loopback addresses alone (http://127.0.0.1, http://[::1], http://localhost); use https")
		}
		return checkWeb(u)
	case slices.Contains(forbiddenSchemes, u.Scheme):
		return fmt.Errorf("the scheme %q is dangerous", u.Scheme)
	case !strings.Contains(u.Scheme, "."):
		return fmt.Errorf("the private-use scheme %q must be a domain of yours in reverse, such as com.example.app (RFC 8252 section 7.1)", u.Scheme)
	case u.Host != "":
		return errors.New("a private-use scheme is followed by one slash, as in com.example.app:/callback (RFC 8252 section 7.1)")
	}
	return nil
}

// checkURI checks what holds for every URI that a client registers.
func checkURI(raw string) (*url.URL, error) {
	switch {
	case raw == "":
		return nil, errors.New("it is empty")
	case len(raw) > maxURI:
		return nil, fmt.Errorf("it is longer than %d bytes", maxURI)
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, errors.New("it holds a space, a control character or a letter beyond ASCII; encode them")
	case strings.ContainsAny(raw, `\*"<>^|{}`+"`"):
		return nil, errors.New(`it holds one of \ * " < > ^ | { }; there are no wildcards: register each URI`)
	case strings.Contains(raw, "#"):
		return nil, errors.New("it has a fragment (RFC 6749 section 3.1.2)")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URI")
	case u.Scheme == "":
		return nil, errors.New("it is not absolute: it has no scheme")
	case !strings.HasPrefix(raw, u.Scheme+":"):
		return nil, errors.New("write the scheme in lower case")
	case u.User != nil:
		return nil, errors.New("it has user information before the host")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("it has dot segments in its path")
		}
	}
	return u, nil
}

func checkWeb(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return errors.New("it has no host")
	case u.Host != strings.ToLower(u.Host):
		return errors.New("write the host in lower case")
	case strings.HasSuffix(u.Host, ":"):
		return errors.New("the port is empty")
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || isLoopbackLiteral(host)
}

// isLoopbackLiteral names the two addresses whose port is free. localhost is not among them: what it resolves to is up to the
// machine (RFC 8252 section 8.3).
func isLoopbackLiteral(host string) bool { return host == "127.0.0.1" || host == "::1" }

// RedirectURIMatches says whether a requested redirect URI is one of those registered: the same string, byte by byte (RFC 9700
// section 4.1.3), except that the port of a loopback address is free (RFC 8252 section 7.3).
func RedirectURIMatches(registered []string, requested string) bool {
	if slices.Contains(registered, requested) {
		return true
	}
	before, after, ok := cutLoopbackPort(requested)
	if !ok {
		return false
	}
	for _, candidate := range registered {
		if b, a, ok := cutLoopbackPort(candidate); ok && b == before && a == after {
			return true
		}
	}
	return false
}

// cutLoopbackPort takes the port out of http://127.0.0.1:PORT/… or http://[::1]:PORT/…, comparing strings rather than parsing,
// so that there is nothing for two parsers to disagree about.
func cutLoopbackPort(uri string) (before, after string, ok bool) {
	for _, prefix := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, found := strings.CutPrefix(uri, prefix)
		if !found {
			continue
		}
		if port, isPort := strings.CutPrefix(rest, ":"); isPort {
			end := strings.IndexFunc(port, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(port)
			}
			if !validPort(port[:end]) {
				return "", "", false
			}
			rest = port[end:]
		}
		// What follows the authority begins with a path or a query, or there is nothing more: never with '@' or letters, which would make
		// another host of it.
		if rest == "" || rest[0] == '/' || rest[0] == '?' {
			return prefix, rest, true
		}
	}
	return "", "", false
}

func validPort(port string) bool {
	if port == "" || len(port) > 5 || port[0] == '0' {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n <= 65535
}
