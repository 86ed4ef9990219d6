package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/portico-id/portico/broker/web"
)

// The request that a reverse proxy asks about, as it tells of it. What is read here decides who may do what, and whoever sends the request
// has a say in most of it: a path can be written so that the proxy, the broker and the API each read another one, and a header
// that the proxy does not set is the sender's. So there is one reading, and what could be read in two ways is refused.

// The headers that tell of a request: those of Traefik and Caddy, and those that are the custom with nginx.
const (
	headerForwardedMethod = "X-Forwarded-Method"
	headerForwardedProto  = "X-Forwarded-Proto"
	headerForwardedHost   = "X-Forwarded-Host"
	headerForwardedURI    = "X-Forwarded-Uri"
	headerOriginalMethod  = "X-Original-Method"
	headerOriginalURI     = "X-Original-Uri"
	headerOriginalURL     = "X-Original-Url"
)

const (
	// maxMethodBytes bounds a method: the longest that is registered (UPDATEREDIRECTREF) has half of it.
	maxMethodBytes = 32
	// maxHostBytes bounds a host with its port: a name has at most 253 bytes (RFC 1035 section 2.3.4).
	maxHostBytes = 253 + len(":65535")
)

// original is a request as its sender put it to a proxy.
type original struct {
	method string
	scheme string // http or https; "" if the proxy does not tell
	host   string // in lower case, with the port if it was sent; "" if the proxy does not tell
	url    *url.URL
	// bare is the path without the parameters of its segments (RFC 3986 section 3.3), as APIs see it that take them off; mostly the path itself.
	bare string
	// prefixed says that it came behind a prefix, so that the whole query is its own.
	prefixed bool
}

// originalRequest is the request that a proxy asks about with r, a request to the forward-auth endpoint. The error says what is missing, ambiguous or
// contradictory; it repeats nothing that was sent.
func originalRequest(r *http.Request) (*original, error) {
	// Envoy puts its prefix before path and query, and leaves the rest as it was. It sets no headers about it, so all that are there are the sender's.
	if target, ok := strings.CutPrefix(r.RequestURI, PathForwardAuth+"/"); ok {
		o, err := readOriginal(r.Method, "", r.Host, "/"+target)
		if o != nil {
			o.prefixed = true
		}
		return o, err
	}
	if path, _, _ := strings.Cut(r.RequestURI, "?"); path != PathForwardAuth {
		return nil, errors.New("the address of this endpoint is written in an unusual way")
	}
	forwarded, err := byForwardedHeaders(r.Header)
	if err != nil {
		return nil, err
	}
	custom, err := byOriginalHeaders(r.Header)
	if err != nil {
		return nil, err
	}
	switch {
	case forwarded == nil && custom == nil:
		return nil, errors.New("no header tells of the original request; send X-Original-Method and X-Original-URL, or X-Forwarded-Method and X-Forwarded-Uri")
	case custom == nil:
		return forwarded, nil
	case forwarded == nil:
		// Not used, since nothing says whose it is; but it may not say otherwise.
		host, err := only(r.Header, headerForwardedHost)
		if err != nil {
			return nil, err
		}
		if host != "" && custom.host != "" && strings.ToLower(host) != custom.host {
			return nil, contradiction("host")
		}
		return custom, nil
	}
	return agreed(forwarded, custom)
}

// agreed is what both families of headers say. One of them is perhaps the sender's: where they disagree, nothing says which one, and what
// only one says, nobody vouches for.
func agreed(a, b *original) (*original, error) {
	switch {
	case a.method != b.method:
		return nil, contradiction("method")
	case a.url.Path != b.url.Path || a.url.RawQuery != b.url.RawQuery:
		return nil, contradiction("path or query")
	case a.host != b.host && a.host != "" && b.host != "":
		return nil, contradiction("host")
	case a.scheme != b.scheme && a.scheme != "" && b.scheme != "":
		return nil, contradiction("scheme")
	}
	both := *a
	if b.host == "" {
		both.host = ""
	}
	if b.scheme == "" {
		both.scheme = ""
	}
	return &both, nil
}

func contradiction(what string) error {
	return fmt.Errorf("the headers that begin with X-Original- and X-Forwarded- disagree about the %s; let the proxy take off those that it does not set", what)
}

// byForwardedHeaders reads the family of Traefik and Caddy; nil if it is not there. Host and scheme alone are no sign of it: all kinds of
// proxies set them.
func byForwardedHeaders(h http.Header) (*original, error) {
	values, err := onlyEach(h, headerForwardedMethod, headerForwardedURI, headerForwardedProto, headerForwardedHost)
	if err != nil {
		return nil, err
	}
	method, target := values[0], values[1]
	switch {
	case method == "" && target == "":
		return nil, nil
	case method == "" || target == "":
		return nil, errors.New("X-Forwarded-Method and X-Forwarded-Uri belong together: send both, or neither")
	}
	return readOriginal(method, values[2], values[3], target)
}

// byOriginalHeaders reads the family that is the custom with nginx; nil if it is not there. X-Original-URI is path and query, X-Original-URL has
// scheme and host as well.
func byOriginalHeaders(h http.Header) (*original, error) {
	values, err := onlyEach(h, headerOriginalMethod, headerOriginalURI, headerOriginalURL)
	if err != nil {
		return nil, err
	}
	method, target, absolute := values[0], values[1], values[2]
	if method == "" && target == "" && absolute == "" {
		return nil, nil
	}
	// The method is the one that is forgotten: without it, whoever may read could write.
	if method == "" || target == "" && absolute == "" {
		return nil, errors.New("X-Original-Method is needed, and X-Original-URL or X-Original-URI")
	}
	var scheme, host string
	if absolute != "" {
		var rest string
		var ok bool
		if scheme, rest, ok = strings.Cut(absolute, "://"); !ok || scheme == "" {
			return nil, errors.New("X-Original-URL is no absolute URL")
		}
		end := strings.IndexAny(rest, "/?#")
		if end <= 0 || rest[end] != '/' {
			return nil, errors.New("X-Original-URL has no host, or no path")
		}
		host = rest[:end]
		if target != "" && target != rest[end:] {
			return nil, errors.New("X-Original-URL and X-Original-URI disagree")
		}
		target = rest[end:]
	}
	return readOriginal(method, scheme, host, target)
}

// only is the value of a header that may be there once; "" if it is not.
func only(h http.Header, name string) (string, error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", fmt.Errorf("the header %s is there more than once", name)
	}
}

func onlyEach(h http.Header, names ...string) ([]string, error) {
	values := make([]string, len(names))
	for i, name := range names {
		var err error
		if values[i], err = only(h, name); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// readOriginal reads the parts of a request. target is path and query as they stood in the request line.
func readOriginal(method, scheme, host, target string) (*original, error) {
	o := original{method: method, host: strings.ToLower(host)}
	if !validMethod(method) {
		return nil, errors.New("the method of the original request is none")
	}
	// A proxy that passes a WebSocket on may call it by its own scheme (RFC 6455 section 3).
	switch strings.ToLower(scheme) {
	case "":
	case "http", "ws":
		o.scheme = "http"
	case "https", "wss":
		o.scheme = "https"
	default:
		return nil, errors.New("the scheme of the original request is neither http nor https")
	}
	if len(host) > maxHostBytes || strings.ContainsFunc(host, func(r rune) bool { return !hostRune(r) }) {
		return nil, errors.New("the host of the original request is none")
	}
	if len(target) > web.MaxURLBytes {
		return nil, fmt.Errorf("path and query of the original request are longer than %d bytes", web.MaxURLBytes)
	}
	raw, query, _ := strings.Cut(target, "?")
	path, bare, err := decodedPath(raw)
	if err != nil {
		return nil, fmt.Errorf("the path of the original request %w", err)
	}
	o.bare = bare
	o.url = &url.URL{Path: path, RawPath: raw, RawQuery: query}
	return &o, nil
}

// validMethod is RFC 9110 section 9.1: a token, case and all.
func validMethod(s string) bool {
	if s == "" || len(s) > maxMethodBytes {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

// hostRune is what names, addresses and ports are written with.
func hostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._:[]", r)
}

// decodedPath decodes a path that everybody reads in the same way, and is also the path without the parameters of its segments. Everything else is refused, and the error ends a
// sentence that begins with the path: what is taken for a separator by some and not by others, what means another path once it is tidied up, and
// what stands for no text at all.
func decodedPath(raw string) (path, bare string, err error) {
	if raw == "" || raw[0] != '/' {
		return "", "", errors.New("does not begin with a slash")
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c > '~' || c == '\\' || c == '#' {
			return "", "", errors.New(`has a space, '\', '#', or something that is not ASCII, without percent-encoding`)
		}
	}
	path, err = url.PathUnescape(raw)
	switch {
	case err != nil:
		return "", "", errors.New("has a '%' that two hexadecimal digits do not follow")
	case !utf8.ValidString(path): // overlong forms of a slash among them
		return "", "", errors.New("is not UTF-8")
	case strings.Count(path, "/") != strings.Count(raw, "/"):
		return "", "", errors.New("has an encoded slash")
	case strings.ContainsFunc(path, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return "", "", errors.New("has an encoded control character or backslash")
	}
	// Of a segment with parameters some see what is before them, "..;x" is ".." there.
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		name, _, _ := strings.Cut(segment, ";")
		switch {
		case name == "." || name == "..":
			return "", "", errors.New("has a dot segment")
		case name == "" && i < len(segments)-1:
			return "", "", errors.New("has an empty segment")
		}
		segments[i] = name
	}
	if !strings.Contains(path, ";") {
		return path, path, nil
	}
	return path, "/" + strings.Join(segments, "/"), nil
}
