package connectors

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// DefaultTimeout bounds all upstream calls of one AuthorizeURL or Exchange together: a
	// person waits no longer for a page than this.
	DefaultTimeout = 10 * time.Second
	// MaxTimeout is the longest timeout that Settings accept: a browser gives up soon after.
	MaxTimeout = time.Minute

	// maxBody bounds one answer, after decompression. The largest real one, a page of a
	// hundred email addresses, is some 20 KiB.
	maxBody = 1 << 20
	// maxHeader bounds the header of one answer; Facebook's are about 3 KiB.
	maxHeader = 64 << 10
	// maxConnsPerHost keeps a slow provider from eating every file descriptor; more calls
	// queue, within their timeout.
	maxConnsPerHost = 64
	// maxIdleConnsPerHost is how many connections stay open for the next login, so that it
	// pays for no TLS handshake. The standard library's default of 2 closes the rest.
	maxIdleConnsPerHost = 16
	// idleConnTimeout is shorter than what the large providers' load balancers allow
	// (GitHub and Google about four minutes), so that we close first.
	idleConnTimeout = 90 * time.Second
	// dialTimeout and tlsTimeout leave room for a second address or attempt within DefaultTimeout.
	dialTimeout = 4 * time.Second
	tlsTimeout  = 4 * time.Second

	// userAgent names the caller; GitHub's API refuses requests without one.
	userAgent = "portico"
)

var (
	errRedirect = errors.New("the provider answered with a redirect, which is refused")
	errTooLarge = fmt.Errorf("the provider's answer is larger than %d bytes", maxBody)
	errRepeated = errors.New("refused to send an authorization code twice")
)

// NewTransport is the connection pool for upstream calls: keep-alives, bounded
// connections, TLS 1.2 or later, and the proxy of the environment. One is enough for all
// connectors of a process. It is safe for concurrent use; CloseIdleConnections ends it.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true, // a TLSClientConfig of our own turns it off otherwise
		MaxIdleConns:           8 * maxIdleConnsPerHost,
		MaxIdleConnsPerHost:    maxIdleConnsPerHost,
		MaxConnsPerHost:        maxConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// answer is what a provider said to one call, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// caller is the one way out of this package: an [http.RoundTripper] for one step of one
// trip, which libraries are handed as theirs. It calls under our context (goth has none),
// reads the answer under a cap, refuses redirects, and lets the step judge the answer
// before a library does. Its errors are *Error.
type caller struct {
	ctx       context.Context
	base      http.RoundTripper
	connector string
	// prepare changes the clone of a request before it is sent; nil changes nothing.
	prepare func(*http.Request) error
	// judge turns an answer that is a failure into an *Error; it sees every answer.
	judge func(answer) *Error
	// once lets a single request through: an authorization code is sent once. goth leaves
	// x/oauth2's AuthStyle unset, so after any failure it sends the code again in another
	// way; that gets the first failure again.
	once  bool
	sent  bool
	first error
}

// client is an http.Client for a library. With once set it belongs to one goroutine.
func (c *caller) client() *http.Client {
	return &http.Client{
		Transport: c,
		// RoundTrip refuses redirects already; this says so to whoever wraps the client.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

// RoundTrip implements [http.RoundTripper].
func (c *caller) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if !c.once {
		return c.call(req)
	}
	if c.sent {
		return nil, cmp.Or[error](c.first, c.fail(Malformed, errRepeated))
	}
	c.sent = true
	res, err := c.call(req)
	c.first = err
	return res, err
}

func (c *caller) call(req *http.Request) (*http.Response, error) {
	out := req.Clone(c.ctx)
	out.Header.Set("User-Agent", userAgent)
	if c.prepare != nil {
		if err := c.prepare(out); err != nil {
			return nil, c.fail(Malformed, err)
		}
	}
	a, res, err := c.send(out)
	if err != nil {
		return nil, c.fail(kindOfTransport(err), fmt.Errorf("calling %s: %w", place(out.URL), withoutURL(err)))
	}
	if e := c.judge(a); e != nil {
		e.Connector = c.connector
		e.Err = fmt.Errorf("%s answered %d: %w", place(out.URL), a.status, e.Err)
		return nil, e
	}
	res.Body = io.NopCloser(bytes.NewReader(a.body))
	res.ContentLength = int64(len(a.body))
	return res, nil
}

// get reads a URL itself, for the steps that no library takes.
func (c *caller) get(u string) (answer, error) {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, u, nil)
	if err != nil {
		return answer{}, c.fail(Malformed, errors.New("not a URL"))
	}
	res, err := c.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(res.Body) // in memory already
	return answer{status: res.StatusCode, header: res.Header, body: body}, err
}

func (c *caller) send(req *http.Request) (answer, *http.Response, error) {
	res, err := c.base.RoundTrip(req)
	if err != nil {
		return answer{}, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		// Following one would carry a code, a secret or a token to wherever it points.
		return answer{}, nil, errRedirect
	}
	if res.ContentLength > maxBody {
		return answer{}, nil, errTooLarge
	}
	// The transport has decompressed the body, so the cap holds for what reaches memory.
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return answer{}, nil, err
	}
	if len(body) > maxBody {
		return answer{}, nil, errTooLarge
	}
	return answer{status: res.StatusCode, header: res.Header, body: body}, res, nil
}

func (c *caller) fail(kind Kind, err error) *Error {
	return &Error{Kind: kind, Connector: c.connector, Err: err}
}

// place is a URL without what may be secret in it: Facebook's carry the access token in the query.
func place(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// withoutURL drops the URL that net/http puts into its errors.
func withoutURL(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}

// kindOfTransport classifies an error of a call that got no usable answer.
func kindOfTransport(err error) Kind {
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &certificate):
		return Untrusted
	case errors.Is(err, errRedirect), errors.Is(err, errTooLarge):
		return Malformed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Timeout
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Unavailable
}

// kindOfStatus classifies an HTTP status that says failure and nothing more.
func kindOfStatus(status int) Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return Timeout
	case status >= 500:
		return Unavailable
	}
	return Malformed
}

// asError makes any error of a library into an *Error for the caller. What our caller
// said comes through as it is, without the URL that net/http wrapped around it.
func asError(err error, connector string, otherwise Kind) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	kind := otherwise
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		kind = Timeout
	}
	return &Error{Kind: kind, Connector: connector, Err: withoutURL(err)}
}
