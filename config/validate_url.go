package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// loopbackHost says whether a host is this machine by its form, without asking DNS: a loopback address, or localhost.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// loopbackAddress is loopbackHost for a host:port.
func loopbackAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopbackHost(host)
}

// plainLoopback says whether a URL is http on loopback.
func plainLoopback(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "http" && loopbackHost(u.Hostname())
}

// issuerProblem judges the issuer. OpenID Connect Discovery section 3 and RFC 8414 section 2 want https and neither query nor
// fragment. A path is allowed there and not here: the broker's cookies and well-known documents are at the root of
// their host, and a neighbour at another path of it could reach them.
func issuerProblem(raw string) string {
	if raw == "" {
		return "is missing; the broker's public URL, such as https://login.example.com"
	}
	if message := originProblem(raw, "the broker"); message != "" {
		return message
	}
	if u, err := url.Parse(raw); err == nil && u.Scheme == "http" && !loopbackHost(u.Hostname()) {
		return quote(raw) + " must begin with https://; http:// is for 127.0.0.1, [::1] and localhost alone"
	}
	return ""
}

// originProblem judges a URL that has to be scheme and host alone, in the one form that compares equal everywhere.
func originProblem(raw, whose string) string {
	u, message := parseURL(raw)
	if message != "" {
		return message
	}
	switch canonical := canonicalOrigin(u); {
	case u.User != nil:
		return "has a user name or password"
	case strings.Contains(raw, "?"):
		return quote(raw) + " has a query; write " + canonical
	case strings.Contains(raw, "#"):
		return quote(raw) + " has a fragment; write " + canonical
	case u.Path == "/":
		return quote(raw) + " ends in a slash; write " + canonical
	case u.Path != "":
		return quote(raw) + " has a path; " + whose + " needs a host of its own, such as " + canonical
	case raw != canonical:
		return quote(raw) + " is not in its simplest form; write " + canonical
	}
	return ""
}

// canonicalOrigin is scheme and host in lower case without the port that is the scheme's own.
func canonicalOrigin(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80") {
		host += ":" + port
	}
	return u.Scheme + "://" + host
}

// parseURL parses an http or https URL with a host.
func parseURL(raw string) (*url.URL, string) {
	if len(raw) > maxURL {
		return nil, fmt.Sprintf("has %d characters, at most %d are allowed", len(raw), maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(raw, " \\") {
		return nil, quote(raw) + " is not a URL"
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, quote(raw) + " does not begin with https://"
	}
	if u.Hostname() == "" || strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }) {
		return nil, quote(raw) + " has no host in ASCII letters; an international name is written xn--…"
	}
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || port != "" && !validPort(port) {
		return nil, quote(raw) + " has no valid port"
	}
	return u, ""
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// webURL judges a URL that browsers open.
func webURL(raw string) string {
	u, message := parseURL(raw)
	switch {
	case message != "":
		return message
	case u.User != nil:
		return "has a user name or password"
	}
	return ""
}

// imageURL judges a URL that pages load, which is https on every page that people trust.
func imageURL(raw string) string {
	message := webURL(raw)
	if message == "" && !strings.HasPrefix(strings.ToLower(raw), "https:") {
		return quote(raw) + " must begin with https://"
	}
	return message
}

// secureURL judges a URL to which secrets are sent: https, or http on loopback.
func secureURL(raw string) string {
	u, message := parseURL(raw)
	switch {
	case message != "":
		return message
	case u.User != nil:
		return "has a user name or password"
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		return quote(raw) + " must begin with https://; http:// is for loopback addresses alone"
	case strings.ContainsAny(raw, "?#"):
		return quote(raw) + " has a query or a fragment"
	}
	return ""
}
