// Package fetch is the one way out to addresses that others choose: a client's jwks_uri, request_uri, sector_identifier_uri, logout
// URIs, a client ID metadata document. Whoever chooses an address must not reach through the broker what only the broker can reach
// (server-side request forgery, RFC 9700 section 4.19).
//
// So it speaks https alone, to public addresses alone, judged after the name was resolved and at the moment of the connection, so that
// a name cannot change its mind in between; follows redirects within one host alone; and bounds time and size. It keeps no
// cookies, uses no proxy (that would connect where it likes), and shows the other side nothing of ours.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// totalTimeout bounds one fetch, redirects and body included: a person may be waiting for it.
	totalTimeout = 5 * time.Second
	// dialTimeout and headerTimeout are within it, so that a dead address does not eat all of it.
	dialTimeout   = 3 * time.Second
	headerTimeout = 4 * time.Second
	// maxURL bounds an address, as everywhere that one is registered.
	maxURL = 2048
	// maxRedirects within one host: enough for a slash or a new path.
	maxRedirects = 3
	// maxHeader bounds the header of an answer.
	maxHeader = 32 << 10
	// maxPerHost keeps one slow host from taking every file descriptor; more calls queue, within their timeout.
	maxPerHost = 8
	// maxPostAnswer is how much of the answer to a POST is read before the connection is used again.
	maxPostAnswer = 4 << 10
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrAddress says that the address is not one that may be fetched: not https, with user information, or not public.
	ErrAddress = errors.New("the address may not be fetched")
	// ErrStatus says that the other side answered with a status other than 200.
	ErrStatus = errors.New("the other side did not answer 200")
	// ErrTooLarge says that the answer is larger than the caller allows.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrRedirect says that the other side redirects to another host, or too often.
	ErrRedirect = errors.New("the answer is a redirect that is not followed")
)

// Options are what a Client is made of. The zero value is the strict one.
type Options struct {
	// AllowPrivate permits http, and private, loopback and link-local addresses: for development, and where the apps are in
	// the broker's own network.
	AllowPrivate bool
	// RootCAs verify the other side's certificate; nil: the system's.
	RootCAs *x509.CertPool
}

// StatusError is ErrStatus with the status.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return fmt.Sprintf("%v but %d", ErrStatus, e.Status) }

// Is makes errors.Is(err, ErrStatus) hold.
func (e *StatusError) Is(target error) bool { return target == ErrStatus }

// Client fetches. Its methods may be called concurrently.
type Client struct {
	http         *http.Client
	direct       *http.Client // follows no redirect at all
	allowPrivate bool
}

// Response is an answer with status 200, read whole.
type Response struct {
	Body []byte
	// ContentType is the media type in lower case without parameters; "" if there is none that can be read.
	ContentType string
	// MaxAge is how long the answer may be kept (Cache-Control max-age less Age); 0 if it says no-store, no-cache or nothing.
	MaxAge time.Duration
	// Cacheable says whether the answer said anything about that.
	Cacheable bool
}

// Bounds of FreshFor. What was withdrawn is seen after maxFresh at the latest, and nobody is asked more often than each MinFresh without need. DefaultFresh
// is for a server that does not say.
const (
	MinFresh     = time.Minute
	DefaultFresh = 5 * time.Minute
	maxFresh     = time.Hour
)

// FreshFor is how long the answer is to be taken for current, by what its server says of it, within bounds.
func (r *Response) FreshFor() time.Duration {
	if !r.Cacheable {
		return DefaultFresh
	}
	return min(max(r.MaxAge, MinFresh), maxFresh)
}

// New makes a Client. It does no IO.
func New(o Options) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !o.AllowPrivate {
		dialer.Control = publicOnly
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        maxPerHost,
		MaxIdleConnsPerHost:    1,
		MaxIdleConns:           maxPerHost,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeader,
	}
	return &Client{
		allowPrivate: o.AllowPrivate,
		http:         &http.Client{Timeout: totalTimeout, Transport: transport, CheckRedirect: sameHost},
		direct:       &http.Client{Timeout: totalTimeout, Transport: transport, CheckRedirect: nowhere},
	}
}

// CheckURL says whether an address may be fetched as far as its spelling tells, without resolving it. ErrAddress if not. A fragment is
// refused too: it is never sent.
func (c *Client) CheckURL(raw string) error {
	_, err := c.parse(raw)
	return err
}

func (c *Client) parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxURL, err != nil:
		return nil, fmt.Errorf("%w: it is no URL, or longer than %d bytes", ErrAddress, maxURL)
	case u.Scheme != "https" && !(c.allowPrivate && u.Scheme == "http"):
		return nil, fmt.Errorf("%w: it is not https", ErrAddress)
	case u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, fmt.Errorf("%w: it has no host, or has user information or a fragment", ErrAddress)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !c.allowPrivate && !public(ip) {
		return nil, fmt.Errorf("%w: it is not a public address", ErrAddress)
	}
	return u, nil
}

// Get fetches an address whose answer is of the media types in accept and no longer than maxBytes. ErrAddress, ErrRedirect, ErrStatus,
// ErrTooLarge, and whatever the network says.
func (c *Client) Get(ctx context.Context, address, accept string, maxBytes int64) (*Response, error) {
	return c.get(ctx, c.http, address, accept, maxBytes)
}

// GetDirect is Get for what has to be at the address itself: every redirect is ErrRedirect.
func (c *Client) GetDirect(ctx context.Context, address, accept string, maxBytes int64) (*Response, error) {
	return c.get(ctx, c.direct, address, accept, maxBytes)
}

func (c *Client) get(ctx context.Context, by *http.Client, address, accept string, maxBytes int64) (*Response, error) {
	res, err := c.do(ctx, by, http.MethodGet, address, http.Header{"Accept": {accept}}, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: %w", hostOf(address), &StatusError{Status: res.StatusCode})
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", hostOf(address), err)
	}
	if int64(len(body)) > maxBytes {
		return nil, fmt.Errorf("fetch %s: %w: more than %d bytes", hostOf(address), ErrTooLarge, maxBytes)
	}
	answer := &Response{Body: body}
	answer.ContentType, _, _ = mime.ParseMediaType(res.Header.Get("Content-Type"))
	answer.MaxAge, answer.Cacheable = maxAge(res.Header)
	return answer, nil
}

// PostForm sends a form and says with which status it was answered. ErrAddress, ErrRedirect, and whatever the network says.
func (c *Client) PostForm(ctx context.Context, address string, form url.Values) (status int, err error) {
	res, err := c.do(ctx, c.http, http.MethodPost, address, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxPostAnswer) // so that the connection can be used again; the answer is the status
	return res.StatusCode, nil
}

func (c *Client) do(ctx context.Context, by *http.Client, method, address string, header http.Header, body io.Reader) (*http.Response, error) {
	u, err := c.parse(address)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	req.Header = header
	req.Header.Set("User-Agent", "portico")
	res, err := by.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the address may hold what is not for a log
		}
		return nil, fmt.Errorf("fetch %s: %w", u.Host, err)
	}
	return res, nil
}

// sameHost follows redirects within one host, and refuses the others. A POST is not repeated at all: what it told one address is not
// for the next.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || first.Method != http.MethodGet || req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host || req.URL.User != nil {
		return ErrRedirect
	}
	return nil
}

// nowhere follows no redirect.
func nowhere(*http.Request, []*http.Request) error { return ErrRedirect }

// publicOnly refuses a connection by the address that the name resolved to.
func publicOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if !public(at.Addr()) {
		return fmt.Errorf("%w: the name resolves to an address that is not public", ErrAddress)
	}
	return nil
}

// notPublic are the special-purpose ranges (RFC 6890 and the IANA registries) that netip has no word for.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),        // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"), // NAT64: an IPv4 address in disguise
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), // Teredo among them
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4: the same disguise
	netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// public says whether an address is one that anybody on the internet could reach.
func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// maxAge reads how long an answer may be kept (RFC 9111 sections 4.2.1, 5.2.2).
func maxAge(h http.Header) (time.Duration, bool) {
	age, known := time.Duration(0), false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				age, known = time.Duration(n)*time.Second, true
			}
		}
	}
	if n, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil && n > 0 {
		age = max(0, age-time.Duration(n)*time.Second)
	}
	return age, known
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return "?"
}
