package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxForwardedHops bounds how many hops are looked at, from the right: more proxies of one's own in a row than anybody
// has, fewer than a stranger can send.
const maxForwardedHops = 16

// peerAddr is the address in an http.Request's RemoteAddr; not valid if it has none.
func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plain(ap.Addr())
}

// plain is addr without a zone, IPv4 as IPv4, so that it compares with configured prefixes.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func trusted(proxies []netip.Prefix, addr netip.Addr) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// hop is what one proxy says of the request that it took: who sent it, and over which scheme ("" if it does not say).
type hop struct {
	addr   netip.Addr // not valid if it is no address
	scheme string
}

// forwarded is the client's address and scheme, by the headers of a request whose peer is a trusted proxy: the
// right-most hop that is no trusted proxy itself, since all to the left of it is hearsay. Scheme is
// "" if no header tells.
//
// A proxy commonly maintains X-Forwarded-For or Forwarded and passes the other through as the client sent it. So if both are
// there and disagree, one of them may be a stranger's, nothing says which, and neither is believed.
func forwarded(h http.Header, peer netip.Addr, proxies []netip.Prefix) (netip.Addr, string) {
	xff, std := h["X-Forwarded-For"], h["Forwarded"]
	proto := h["X-Forwarded-Proto"]
	if len(std) == 0 {
		client, at := client(xForwardedHops(xff), peer, proxies)
		return client, protoAt(proto, at)
	}
	hops := forwardedHops(std)
	addr, at := client(hops, peer, proxies)
	var scheme string
	if at < len(hops) {
		scheme = hops[at].scheme
	}
	if len(xff) > 0 {
		if other, _ := client(xForwardedHops(xff), peer, proxies); other != addr {
			return peer, ""
		}
	}
	if len(proto) > 0 {
		if other := protoAt(proto, at); scheme != "" && other != scheme {
			return addr, ""
		} else {
			scheme = other
		}
	}
	return addr, scheme
}

// client walks hops, which are from right to left, up to the first that is no trusted proxy, and says where it is. A hop that is
// no address ends the walk at the one that reported it.
func client(hops []hop, peer netip.Addr, proxies []netip.Prefix) (netip.Addr, int) {
	addr, at := peer, 0
	for i, h := range hops {
		if !h.addr.IsValid() {
			break
		}
		addr, at = h.addr, i
		if !trusted(proxies, addr) {
			break
		}
	}
	return addr, at
}

// xForwardedHops are the hops of X-Forwarded-For from right to left.
func xForwardedHops(lines []string) []hop {
	var hops []hop
	for item := range fromRight(lines) {
		hops = append(hops, hop{addr: hopAddr(item)})
		if len(hops) == maxForwardedHops {
			break
		}
	}
	return hops
}

// protoAt is the scheme in X-Forwarded-Proto that belongs to the hop at (from the right). Most proxies set one value
// for all hops.
func protoAt(lines []string, at int) string {
	scheme, i := "", 0
	for item := range fromRight(lines) {
		if i > at || i == maxForwardedHops {
			break
		}
		scheme = validScheme(item)
		i++
	}
	return scheme
}

func validScheme(s string) string {
	switch {
	case strings.EqualFold(s, "https"):
		return "https"
	case strings.EqualFold(s, "http"):
		return "http"
	}
	return ""
}

// fromRight yields the trimmed items of comma-separated lists, the last first.
func fromRight(lines []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := len(lines) - 1; i >= 0; i-- {
			rest, more := lines[i], true
			for more {
				item := rest
				if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
					item, rest = rest[comma+1:], rest[:comma]
				} else {
					more = false
				}
				if !yield(strings.TrimSpace(item)) {
					return
				}
			}
		}
	}
}

// hopAddr is the address of a hop: an IP, with or without a port, IPv6 with or without brackets (RFC 7239 section 6).
// Not valid for anything else, such as "unknown" or an obfuscated name.
func hopAddr(s string) netip.Addr {
	if addr, err := netip.ParseAddr(s); err == nil {
		return plain(addr)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if addr, err := netip.ParseAddr(inner); err == nil {
				return plain(addr)
			}
			return netip.Addr{}
		}
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plain(ap.Addr())
	}
	return netip.Addr{}
}

// forwardedHops are the hops of Forwarded (RFC 7239 section 4) from right to left.
func forwardedHops(lines []string) []hop {
	var hops []hop
	for i := len(lines) - 1; i >= 0 && len(hops) < maxForwardedHops; i-- {
		elements := splitQuoted(lines[i], ',')
		for j := len(elements) - 1; j >= 0 && len(hops) < maxForwardedHops; j-- {
			var h hop
			for _, pair := range splitQuoted(elements[j], ';') {
				name, value, _ := strings.Cut(pair, "=")
				value = unquote(strings.TrimSpace(value))
				switch name = strings.TrimSpace(name); {
				case strings.EqualFold(name, "for"):
					h.addr = hopAddr(value)
				case strings.EqualFold(name, "proto"):
					h.scheme = validScheme(value)
				}
			}
			hops = append(hops, h)
		}
	}
	return hops
}

// splitQuoted splits s at sep outside of quoted strings (RFC 9110 section 5.6.4).
func splitQuoted(s string, sep byte) []string {
	var parts []string
	begin, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == sep && !quoted:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}

// unquote is the content of a quoted string, or s itself. Escapes stay: no address has one.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
