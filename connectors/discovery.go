package connectors

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// metadataLifetime is how long an issuer's metadata are used before they are read again.
	// They change when a provider moves an endpoint, with both places working for days.
	metadataLifetime = 12 * time.Hour
	// failureMemory is how long a failed fetch is the answer for everyone: long enough that a
	// provider that is down is not asked once per waiting browser, short enough that a
	// person who tries again is served.
	failureMemory = 2 * time.Second
)

// signingAlgs are the algorithms an ID token may be signed with: asymmetric ones alone. A
// provider's metadata can narrow the list, never widen it to none or HS256 (whose key
// would be whatever an attacker knows of ours).
var signingAlgs = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// metadata is what a provider says about itself (OpenID Connect Discovery section 3). It is not changed once made.
type metadata struct {
	authURL, tokenURL, userInfoURL, jwksURL string

	algs        []string // what its ID tokens may be signed with
	basic, post bool     // how its token endpoint takes a client's secret
	issuerParam bool     // RFC 9207: every authorization response carries iss
	keys        oidc.KeySet
}

// discovery reads an issuer's metadata when they are first needed and keeps them. Any
// number of concurrent first uses make one fetch, which no caller's cancellation ends. It
// is safe for concurrent use.
type discovery struct {
	fetch func(context.Context) (*metadata, error)
	now   func() time.Time

	mu      sync.Mutex
	flight  chan struct{} // closed when the fetch under way ends; nil if there is none
	current *metadata
	err     error
	expires time.Time // of current, or of err while there is no current
}

// get returns the metadata. Metadata that are past their lifetime are still returned while
// they are read again in the background.
func (d *discovery) get(ctx context.Context) (*metadata, error) {
	for {
		d.mu.Lock()
		fresh := d.now().Before(d.expires)
		current, err := d.current, d.err
		if !fresh && d.flight == nil {
			d.flight = make(chan struct{})
			go d.refresh(context.WithoutCancel(ctx), d.flight)
		}
		flight := d.flight
		d.mu.Unlock()

		if current != nil {
			return current, nil
		}
		if fresh {
			return nil, err
		}
		select {
		case <-flight:
			// The loop ends here: the fetch left metadata, or an error that is fresh for a while.
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *discovery) refresh(ctx context.Context, flight chan struct{}) {
	m, err := d.fetch(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flight = nil
	close(flight)
	if err != nil {
		d.err = err
		d.expires = d.now().Add(failureMemory)
		return
	}
	if d.current != nil && d.current.jwksURL == m.jwksURL {
		m.keys = d.current.keys // the keys it has already are good still
	}
	d.current, d.err = m, nil
	d.expires = d.now().Add(metadataLifetime)
}

// discover fetches and judges an issuer's metadata.
func (c *openID) discover(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	client := (&caller{ctx: ctx, base: c.transport, connector: c.info.Name, judge: judgeDocument}).client()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), c.issuer)
	if err != nil {
		var mismatch *oidc.IssuerMismatchError
		if errors.As(err, &mismatch) {
			// OpenID Connect Discovery section 4.3. One more or less slash is enough.
			return nil, c.fail(Untrusted, "the metadata are of issuer %q, not of %q", trimmed(mismatch.Discovered, maxDescription), c.issuer)
		}
		return nil, asError(err, c.info.Name, Malformed)
	}
	var claims struct {
		JWKSURL     string   `json:"jwks_uri"`
		Algs        []string `json:"id_token_signing_alg_values_supported"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
		IssuerParam bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&claims); err != nil {
		return nil, c.fail(Malformed, "the metadata are not of the expected shape")
	}
	m := &metadata{
		authURL:     provider.Endpoint().AuthURL,
		tokenURL:    provider.Endpoint().TokenURL,
		userInfoURL: provider.UserInfoEndpoint(),
		jwksURL:     claims.JWKSURL,
		issuerParam: claims.IssuerParam,
		// client_secret_basic is the default where nothing is said (Discovery section 3).
		basic: len(claims.AuthMethods) == 0 || slices.Contains(claims.AuthMethods, "client_secret_basic"),
		post:  slices.Contains(claims.AuthMethods, "client_secret_post"),
	}
	for _, alg := range c.algs {
		if len(claims.Algs) == 0 || slices.Contains(claims.Algs, alg) {
			m.algs = append(m.algs, alg)
		}
	}
	if len(m.algs) == 0 {
		return nil, c.fail(Malformed, "the provider signs ID tokens with none of %v", c.algs)
	}
	for _, e := range []struct {
		name, url string
		optional  bool
	}{
		{"authorization_endpoint", m.authURL, false},
		{"token_endpoint", m.tokenURL, false},
		{"jwks_uri", m.jwksURL, false},
		{"userinfo_endpoint", m.userInfoURL, true},
	} {
		if e.optional && e.url == "" {
			continue
		}
		if err := c.judgeEndpoint(e.url); err != nil {
			return nil, c.fail(Malformed, "%s: %w", e.name, err)
		}
	}
	// Not this caller's context, whose values would be kept for as long as the keys.
	m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), c.keyClient()), m.jwksURL)
	return m, nil
}

// judgeEndpoint refuses an endpoint that a secret must not be sent to. A public provider
// that names a loopback address would have us call services of this machine.
func (c *openID) judgeEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || s == "" {
		return errors.New("is missing or not a URL")
	}
	if u.Fragment != "" {
		return errors.New("has a fragment")
	}
	if err := secure(u); err != nil {
		return err
	}
	if issuer, err := url.Parse(c.issuer); err != nil || loopback(u.Hostname()) && !loopback(issuer.Hostname()) {
		return fmt.Errorf("is on loopback, the issuer is not")
	}
	return nil
}

// keyClient fetches signing keys. Many trips share one fetch, so it is bounded by the
// connector's timeout and no trip's context.
func (c *openID) keyClient() *http.Client {
	return &http.Client{Transport: keyTransport{c}, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
}

type keyTransport struct{ c *openID }

// RoundTrip implements [http.RoundTripper].
func (t keyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.c.timeout)
	defer cancel() // the answer is read whole before the call returns
	return (&caller{ctx: ctx, base: t.c.transport, connector: t.c.info.Name, judge: judgeDocument}).RoundTrip(req)
}

// judgeDocument judges the answer to a plain read: it has to be 200.
func judgeDocument(a answer) *Error {
	if a.status != http.StatusOK {
		return &Error{Kind: kindOfStatus(a.status), Err: errors.New("not the document that was asked for")}
	}
	return nil
}
