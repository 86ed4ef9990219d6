package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// callTimeout bounds one question to the broker, address, answer and all: a request waits for it.
	callTimeout = 3 * time.Second
	// dialTimeout is within it, so that a dead address does not eat all of it.
	dialTimeout = 2 * time.Second
	// maxConns bounds the connections to the broker; more questions queue, within their timeout.
	maxConns = 64
	// maxAnswerBytes bounds an answer: the longest is the metadata of a broker with thousands of scopes.
	maxAnswerBytes = 256 << 10
)

// upstream is the broker, as an API reaches it. Its addresses are read from its metadata when the first is needed, and again after something went
// wrong there.
type upstream struct {
	issuer  string
	http    *http.Client
	known   atomic.Pointer[addresses]
	flights flights[*addresses]
}

// addresses are what is used of RFC 8414 section 2.
type addresses struct {
	Issuer        string `json:"issuer"`
	JWKS          string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
}

func newUpstream(issuer string, client *http.Client) *upstream {
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			ForceAttemptHTTP2:   true,
			MaxConnsPerHost:     maxConns,
			MaxIdleConnsPerHost: maxConns,
			IdleConnTimeout:     time.Minute,
		}}
	}
	own := *client
	// A redirect would take the secret elsewhere; the broker has none.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &upstream{issuer: issuer, http: &own}
}

// addresses are where the broker's endpoints are.
func (u *upstream) addresses(ctx context.Context) (*addresses, error) {
	if known := u.known.Load(); known != nil {
		return known, nil
	}
	under, _ := u.flights.join(ctx, digest{}, u.discover)
	return under.wait(ctx)
}

// forget has the addresses read again before they are used the next time.
func (u *upstream) forget() { u.known.Store(nil) }

// discover reads the metadata: RFC 8414's, or else OpenID Connect Discovery's.
func (u *upstream) discover(ctx context.Context) (*addresses, error) {
	at, err := url.Parse(u.issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	path := strings.TrimSuffix(at.EscapedPath(), "/")
	root := at.Scheme + "://" + at.Host
	body, _, err := u.get(ctx, root+"/.well-known/oauth-authorization-server"+path)
	var status statusError
	if errors.As(err, &status) {
		body, _, err = u.get(ctx, root+path+"/.well-known/openid-configuration")
	}
	if err != nil {
		return nil, err
	}
	var found addresses
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, fmt.Errorf("%w: the metadata is not JSON: %w", ErrUnavailable, err)
	}
	if found.Issuer != u.issuer { // RFC 8414 section 3.3
		return nil, fmt.Errorf("%w: the metadata is that of %.200q, not of %q", ErrUnavailable, found.Issuer, u.issuer)
	}
	for name, address := range map[string]string{"jwks_uri": found.JWKS, "introspection_endpoint": found.Introspection} {
		if address != "" && !secure(address) {
			return nil, fmt.Errorf("%w: the metadata's %s %.200q is not one of https", ErrUnavailable, name, address)
		}
	}
	u.known.Store(&found)
	return &found, nil
}

// statusError says that the broker answered with another status than 200.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("the broker answered %d", int(s)) }

// get reads an address of the broker's. Errors wrap ErrUnavailable.
func (u *upstream) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return u.do(r)
}

func (u *upstream) do(r *http.Request) ([]byte, http.Header, error) {
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "portico-resource")
	res, err := u.http.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	switch {
	case res.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, r.URL.Path, statusError(res.StatusCode))
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case len(body) > maxAnswerBytes:
		return nil, nil, fmt.Errorf("%w: %s: the answer is longer than %d bytes", ErrUnavailable, r.URL.Path, maxAnswerBytes)
	}
	return body, res.Header, nil
}
