package web

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

const (
	// DefaultMaxBody bounds a request body in bytes: the longest that the broker is sent, a form with a few
	// signed assertions in it, is well below.
	DefaultMaxBody = 64 << 10
	// MaxURLBytes bounds path and query together, as they stand in the request line. An authorization request with a
	// full set of parameters takes one or two kilobytes, and servers in front commonly stop at
	// eight. A longer one is answered 414 (RFC 9110 section 15.5.15).
	MaxURLBytes = 8 << 10
	// maxLoggedPathBytes bounds what a stranger's path can take in the log.
	maxLoggedPathBytes = 256
)

// headerRequestID carries the request's id to the client, and from a trusted proxy to here.
const headerRequestID = "X-Request-Id"

// Options is what a chain is made of. The zero value works.
type Options struct {
	// Logger takes the access log; nil discards it.
	Logger *slog.Logger
	// TrustedProxies are the addresses whose X-Forwarded-For, X-Forwarded-Proto, Forwarded and X-Request-Id headers
	// are believed. Nobody else's are.
	TrustedProxies []netip.Prefix
	// CertificateHeader is the header in which a trusted proxy passes on the certificate of its client; see ClientCertificate. It is
	// taken off every request, whoever sends it. "" means that no proxy does so.
	CertificateHeader string
	// NewID makes request ids: 1 to 128 letters, digits, '.', '_' or '-'. Nil means 130 random bits in
	// base32.
	NewID func() string
	// MaxBody bounds request bodies in bytes; 0 means DefaultMaxBody. Reading past it fails with
	// *http.MaxBytesError, and closes the connection.
	MaxBody int64
	// Now is the clock that durations are measured with; nil means time.Now.
	Now func() time.Time
}

// Chain wraps handler in all that every request passes through. In order: it settles who is asking (ClientIP) and
// under which id (RequestID, and the X-Request-Id response header), sets SecurityHeaders, refuses URLs
// longer than MaxURLBytes, bounds the body, and calls handler. A panic becomes a 500 that tells the client the
// request's id and nothing else. One line per request goes to the log: at level info, at debug
// for health checks that pass, at error with the stack for a panic. It has the path and never the query,
// which may hold codes and states (RFC 9700 section 4.2.4).
//
// The http.ResponseWriter that handler gets implements Unwrap for http.ResponseController and no other optional
// interface. The handler that Chain returns is safe for concurrent use if the parts of o are.
func Chain(handler http.Handler, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.NewID == nil {
		o.NewID = rand.Text
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.CertificateHeader = http.CanonicalHeaderKey(o.CertificateHeader)
	return &chain{Options: o, next: handler}
}

type chain struct {
	Options
	next http.Handler
}

// ServeHTTP implements http.Handler.
func (c *chain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Context: r.Context(), response: response{ResponseWriter: w}}
	begun := c.Now()
	c.identify(x, r)

	header := w.Header()
	header[headerRequestID] = []string{x.id}
	SecurityHeaders(header, x.https)

	defer func() {
		var panicked any
		if !x.returned {
			panicked = recover()
			c.fail(x, r, panicked)
		}
		c.log(x, r, c.Now().Sub(begun), panicked)
		if !x.returned && (panicked == http.ErrAbortHandler || x.cutShort) {
			// The response has begun: breaking the connection is the only way left to say that it is not whole.
			panic(http.ErrAbortHandler)
		}
	}()

	if len(r.RequestURI) > MaxURLBytes {
		refuse(&x.response, r, http.StatusRequestURITooLong, "invalid_request", "The address is too long", x.id)
		x.returned = true
		return
	}
	r2 := r.WithContext(x)
	if r.Body != nil && r.Body != http.NoBody {
		// The bare writer, because it is what MaxBytesReader closes the connection of.
		r2.Body = http.MaxBytesReader(w, r.Body, c.MaxBody)
	}
	c.next.ServeHTTP(&x.response, r2)
	x.returned = true
}

// identify settles the request's client address, scheme and id.
func (c *chain) identify(x *exchange, r *http.Request) {
	peer := peerAddr(r.RemoteAddr)
	x.ip, x.https = peer, r.TLS != nil
	byProxy := len(c.TrustedProxies) > 0 && trusted(c.TrustedProxies, peer)
	if c.CertificateHeader != "" {
		x.certificate = takeCertificate(r.Header, c.CertificateHeader, byProxy)
	}
	if byProxy {
		var scheme string
		x.ip, scheme = forwarded(r.Header, peer, c.TrustedProxies)
		if scheme != "" {
			x.https = scheme == "https"
		}
		if id := r.Header.Get(headerRequestID); validRequestID(id) {
			x.id = id
			return
		}
	}
	x.id = c.NewID()
}

// maxRequestIDBytes bounds an id from a proxy: the longest in use, trace ids with a span, take about 60.
const maxRequestIDBytes = 128

// validRequestID reports whether id may stand in a header, a log line and a page as it is.
func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// exchange is one request on its way through the chain: the request's context, the response writer and what identify
// settled, in one allocation.
type exchange struct {
	context.Context
	response
	id       string
	ip       netip.Addr
	https    bool
	returned bool // the handler came back without a panic
	client   string
	// certificate is what a trusted proxy says of the client's certificate, unread; see ClientCertificate.
	certificate []string
}

type exchangeKey struct{}

// Value implements context.Context.
func (x *exchange) Value(key any) any {
	if _, ours := key.(exchangeKey); ours {
		return x
	}
	return x.Context.Value(key)
}

// RequestID is the id of the request that ctx belongs to, or "" outside of a Chain. People are shown it as a
// reference, and it finds the lines in the log.
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id
	}
	return ""
}

// NoteClient notes which client the request that ctx belongs to names, for the log. It is known to be registered, and no more than that: the request
// may be about to fail for want of proof. The handler calls it before anything else of the request's may log.
func NoteClient(ctx context.Context, id string) {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		x.client = id
	}
}

// NotedClient is what NoteClient noted, or "".
func NotedClient(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.client
	}
	return ""
}

// ClientIP is the address of whoever sent the request that ctx belongs to, as far as trusted proxies tell: without a zone,
// IPv4 as IPv4. It is not valid (netip.Addr.IsValid) outside of a Chain or on a unix socket.
func ClientIP(ctx context.Context) netip.Addr {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.ip
	}
	return netip.Addr{}
}

// HTTPS reports whether the request that ctx belongs to came over https, as far as trusted proxies tell.
func HTTPS(ctx context.Context) bool {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	return ok && x.https
}

// response notes what becomes of a response.
type response struct {
	http.ResponseWriter
	status   int   // 0 before the header is written
	bytes    int64 // of the body
	cutShort bool  // a panic came after the header was written
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
