package resource

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/resource/dpop"
)

// Options are what an API is made of. Issuer and Identifier are required.
type Options struct {
	// Issuer is the broker, as it stands in tokens: https, or http on a loopback address.
	Issuer string
	// Identifier is the API's, as it is registered with the broker: the audience of its tokens, compared byte by byte.
	Identifier string
	// URL is where clients reach the API: scheme, host and an optional path. DPoP proofs are for an address below it, and its metadata is on its
	// host. "": Identifier, if that is http or https. Without any, tokens that are bound to a key are refused, and there is no metadata.
	//
	// A request's path may begin with URL's, or lack it where something in front has taken it off. The Host header decides nothing.
	URL string
	// Aliases are other origins at which clients reach the API, under the same paths, such as one that asks for certificates. DPoP proofs may be for
	// these too.
	Aliases []string
	// MetadataURL is where the metadata of RFC 9728 is, if not at MetadataPath of URL's host.
	MetadataURL string

	// ClientID and ClientSecret are what the API introspects with (RFC 7662): a client of the broker's that is registered as this API's server. "": JWTs
	// alone are taken.
	ClientID, ClientSecret string
	// CheckRevoked has the broker asked about JWTs too, so that a revoked one is refused before it expires. It needs ClientID. While the broker does not
	// answer, a good signature is enough.
	CheckRevoked bool
	// CacheFor is how long the broker's answer about a token counts, and so how long a revoked one may still be taken. 0: DefaultCacheFor. Negative:
	// it is asked for each request.
	CacheFor time.Duration

	// AllowQuery takes the token in the query parameter access_token too (RFC 6750 section 2.3): addresses end in logs and histories, so only where a
	// client can do nothing else.
	AllowQuery bool
	// NoForm leaves forms alone (RFC 6750 section 2.2): for what is asked about requests without seeing their bodies.
	NoForm bool
	// Scopes are those that the metadata names.
	Scopes []string

	// Certificate is the client certificate of a request, nil if it has none; for an API behind something that ends TLS, and that takes the header it
	// uses off requests of others. nil: that of the connection.
	Certificate func(*http.Request) *x509.Certificate
	// Replay remembers that a DPoP proof was used, under key, until expires; ErrReplayed if it was before. nil: a bounded memory of this process. An
	// API on several nodes wants one that they share (RFC 9449 section 11.1).
	Replay func(ctx context.Context, key string, expires time.Time) error
	// Nonces judges the nonces in DPoP proofs (RFC 9449 section 9), and RequireNonce refuses proofs without one. nil: none are looked at.
	Nonces       *dpop.Nonces
	RequireNonce bool

	// Verifier says what a token says; nil: the keys that Issuer publishes, and its introspection.
	Verifier Verifier
	// HTTPClient reaches the broker; nil: one with bounds. Redirects are not followed, whoever's it is.
	HTTPClient *http.Client
	// Log is told of what was refused, and why; nil: slog.Default.
	Log *slog.Logger
	// Now tells the time; nil: time.Now. Timeouts are the network's.
	Now func() time.Time
}

// API protects the handlers of one API. Its methods may be called concurrently.
type API struct {
	options     Options
	verifier    Verifier
	origins     []string // scheme and host, of URL first; none if there is none
	path        string   // of URL, without a slash at the end
	metadataURL string
	log         *slog.Logger
	now         func() time.Time
	replay      func(ctx context.Context, key string, expires time.Time) error
}

// New makes an API. It does no IO: keys are fetched when the first token comes, so that API and broker may start in any order. The error
// says which option is wrong.
func New(o Options) (*API, error) {
	a := &API{options: o, verifier: o.Verifier, log: o.Log, now: o.Now, replay: o.Replay}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.replay == nil {
		a.replay = newMemory(a.now).claim
	}
	if err := checkIssuer(o.Issuer); err != nil {
		return nil, err
	}
	if u, err := url.Parse(o.Identifier); err != nil || !u.IsAbs() || u.Fragment != "" || challenge.Text(o.Identifier) != o.Identifier {
		return nil, fmt.Errorf("resource: Identifier %q is not an absolute URI without fragment (RFC 8707 section 2)", o.Identifier)
	}
	if err := a.locate(); err != nil {
		return nil, err
	}
	if (o.ClientID == "") != (o.ClientSecret == "") && o.Verifier == nil {
		return nil, errors.New("resource: ClientID and ClientSecret are there together or not at all")
	}
	if o.CheckRevoked && o.ClientID == "" && o.Verifier == nil {
		return nil, errors.New("resource: CheckRevoked needs ClientID and ClientSecret: the broker tells its clients alone")
	}
	if a.verifier == nil {
		a.verifier = newBrokerVerifier(&o, a.now, a.log)
	}
	return a, nil
}

// checkIssuer judges the issuer: the client secret and the keys travel to and from there.
func checkIssuer(issuer string) error {
	switch u, err := url.Parse(issuer); {
	case err != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("resource: Issuer %q is not the URL of a broker", issuer)
	case !secure(issuer):
		return fmt.Errorf("resource: Issuer %q must begin with https://; http:// is for loopback addresses alone", issuer)
	}
	return nil
}

// secure says whether secrets may be sent to an address: https, or http on loopback.
func secure(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := strings.EqualFold(u.Hostname(), "localhost") || err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// locate finds out where the API and its metadata are.
func (a *API) locate() error {
	o := a.options
	a.metadataURL = o.MetadataURL
	base := o.URL
	if base == "" {
		if !strings.HasPrefix(o.Identifier, "https://") && !strings.HasPrefix(o.Identifier, "http://") {
			return nil
		}
		base = o.Identifier
	}
	normal, ok := dpop.Normalize(base)
	if !ok || challenge.Text(base) != base {
		return fmt.Errorf("resource: URL %q is not one of http or https, without user information", base)
	}
	u, err := url.Parse(normal)
	if err != nil {
		return fmt.Errorf("resource: URL: %w", err)
	}
	a.origins, a.path = []string{u.Scheme + "://" + u.Host}, strings.TrimSuffix(u.EscapedPath(), "/")
	if a.metadataURL == "" {
		a.metadataURL = a.origins[0] + a.MetadataPath()
	}
	for _, alias := range o.Aliases {
		normal, ok := dpop.Normalize(alias)
		origin := strings.TrimSuffix(normal, "/")
		if !ok || strings.Count(origin, "/") != len("//") {
			return fmt.Errorf("resource: the alias %q is not the origin of an address of http or https", alias)
		}
		a.origins = append(a.origins, origin)
	}
	return nil
}

// Protect lets a request through to h if its token says all of scopes, and refuses any other. The handler finds the token with FromContext.
//
// Whatever logs requests belongs inside, or the tokens of AllowQuery are in its log. Whatever answers preflights (CORS) belongs outside: they carry
// no token.
func (a *API) Protect(h http.Handler, scopes ...string) http.Handler {
	return a.ProtectNeed(Need{Scopes: scopes}, h)
}

// ProtectNeed is Protect for handlers that need more than scopes.
func (a *API) ProtectNeed(need Need, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.check(r, need)
		if err != nil {
			a.Refuse(w, r, err)
			return
		}
		if p.nonce != "" {
			w.Header().Set(dpop.NonceHeader, p.nonce)
		}
		if p.inQuery {
			w = unkept(w)
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, p.token)))
	})
}

// Check is the whole decision for a request, as the client sent it: its token, or an error for Refuse. What Protect does, for those who
// cannot use it. An access token in the query is taken out of r.URL and r.RequestURI; a form in the body stays readable. A DPoP proof is spent
// by it, so that a request is checked once.
//
// A caller that lets a request with a token in its query through owes the answer the headers of RFC 6750 section 2.3: Cache-Control: private,
// no-store.
func (a *API) Check(r *http.Request, need Need) (*Token, error) {
	p, err := a.check(r, need)
	if err != nil {
		return nil, err
	}
	return p.token, nil
}

// passed is what is known of a request that may pass.
type passed struct {
	token   *Token
	client  string // of a token that is the broker's, whether or not it will do
	inQuery bool
	nonce   string // to hand out
}

// check decides in the order that is the same at every door: how many tokens, whether it stands, whether the sender holds what it is bound to, whether
// it says enough. A proof is spent last: what is refused costs nothing.
func (a *API) check(r *http.Request, need Need) (*passed, error) {
	s, refusal := extract(r, &a.options)
	p := &passed{inQuery: s.inQuery}
	if refusal == nil {
		refusal = a.decide(r, s, need, p)
	}
	if refusal != nil {
		said := *refusal // a Verifier may have given the same one to others
		said.scheme, said.need, said.nonce, said.client = s.scheme, need, p.nonce, p.client
		return nil, &said
	}
	return p, nil
}

// errNoToken is a Verifier that breaks its word.
var errNoToken = errors.New("the Verifier returned neither a token nor an error")

// decide does what check says. It fills p in as far as it gets: what is refused may have a nonce to be handed out.
func (a *API) decide(r *http.Request, s sent, need Need, p *passed) *Error {
	if s.raw == "" {
		return &Error{Status: http.StatusUnauthorized, Description: "send an access token as Authorization: Bearer, or DPoP"}
	}
	if !spelled(s.raw) {
		return invalidToken(descriptionInvalid)
	}
	t, err := a.verifier.Verify(r.Context(), s.raw)
	switch {
	case err != nil:
		return asError(err)
	case t == nil:
		return asError(errNoToken)
	}
	p.client = t.ClientID
	now := a.now()
	if refusal := t.stands(a.options.Issuer, a.options.Identifier, now); refusal != nil {
		return refusal
	}
	proof, refusal := a.bound(r, s, t, p)
	if refusal != nil {
		return refusal
	}
	if refusal := judge(t, need, now); refusal != nil {
		return refusal
	}
	if proof != nil {
		if refusal := a.spend(r.Context(), proof); refusal != nil {
			return refusal
		}
	}
	p.token = t
	return nil
}

// maxLogged bounds what of a request's path is logged: a stranger chose it.
const maxLogged = 200

func (a *API) logRefusal(r *http.Request, e *Error) {
	ctx := r.Context()
	level := slog.LevelInfo
	switch {
	case e.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	case e.Code == "":
		level = slog.LevelDebug // a client that asks what to do
	}
	if ctx.Err() != nil {
		level = slog.LevelDebug // it has gone, and that is why
	}
	if !a.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("api", a.options.Identifier), slog.String("method", brief(r.Method)), slog.String("path", brief(r.URL.EscapedPath())), // never the query: tokens are there
		slog.String("error", e.Code), slog.String("description", challenge.Text(e.Description)),
	}
	if e.Cause != nil {
		attrs = append(attrs, slog.Any("cause", e.Cause))
	}
	if e.client != "" {
		attrs = append(attrs, slog.String("client_id", e.client))
	}
	a.log.LogAttrs(ctx, level, "refused", attrs...)
}

func brief(s string) string {
	if len(s) > maxLogged {
		return s[:maxLogged] + "..."
	}
	return s
}
