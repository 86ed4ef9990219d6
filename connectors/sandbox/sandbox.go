package sandbox

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxBody bounds a request's body. The largest honest one, a token request with Facebook's long code, is about 1 KiB.
	maxBody = 64 << 10
	// maxClients bounds the registered clients: a test makes one per case at most.
	maxClients = 1024
	// maxRedirectURIs bounds one client's redirect URIs; a developer has a handful of ports.
	maxRedirectURIs = 256
)

// Provider names a simulated provider.
type Provider string

// The simulated providers.
const (
	Google   Provider = "google"
	GitHub   Provider = "github"
	Facebook Provider = "facebook"
)

// Providers are the simulated providers, in the order in which pages and documents list them.
func Providers() []Provider { return []Provider{Google, GitHub, Facebook} }

// title is a provider's name as people write it.
func (p Provider) title() string {
	switch p {
	case Google:
		return "Google"
	case GitHub:
		return "GitHub"
	default:
		return "Facebook"
	}
}

// Client is an app registered at one of the providers.
type Client struct {
	Provider Provider
	ID       string // client_id; at Facebook the app id
	Secret   string // client_secret; at Facebook the app secret
	// RedirectURIs are compared byte by byte (RFC 6749 section 3.1.2.3, RFC 9700 section 2.1). The first is where GitHub
	// reports errors of the request.
	RedirectURIs []string

	// Testing is Google's publishing status "Testing": refresh tokens live seven days, and answers say so.
	Testing bool
	// ExpiringTokens is GitHub's setting by that name: access tokens of eight hours, with a refresh token.
	ExpiringTokens bool
	// RequireAppSecretProof is Facebook's "Require App Secret": Graph calls without appsecret_proof are refused.
	RequireAppSecretProof bool
}

// Options are what a sandbox is made with.
type Options struct {
	// BaseURL is where the sandbox is reached, such as http://127.0.0.1:8082: scheme and host, no path.
	BaseURL string
	// Personas are the people who can sign in; nil is [DefaultPersonas].
	Personas []Persona
	// Clients are registered from the start; see [Sandbox.Register].
	Clients []Client
	// Auto names the persona who signs in without a page, wherever they have an account; "" shows the page. A
	// login_hint that names another persona wins.
	Auto string
	// Now is the time; nil is [time.Now].
	Now func() time.Time
	// Sleep waits for the fault slow, and returns early with the context's error; nil waits in real time.
	Sleep func(context.Context, time.Duration) error
	// Logger is told of sign-ins and faults, never of a code, token or secret; nil logs nothing.
	Logger *slog.Logger
	// Key signs Google's ID tokens, so that a restart keeps it: RSA, 2048 bits or more. Nil makes one when first needed.
	Key *rsa.PrivateKey
}

// Sandbox is the simulated providers. It is an [http.Handler]; all methods may be called concurrently.
type Sandbox struct {
	base   string
	now    func() time.Time
	sleep  func(context.Context, time.Duration) error
	logger *slog.Logger
	mux    *http.ServeMux
	pages  func() *pages // parsed when the first is shown: a benchmark shows none

	people people
	faults faultBoard

	mu      sync.RWMutex
	clients map[clientKey]*Client // values are never changed, only replaced

	google   *google
	github   *github
	facebook *facebook
}

type clientKey struct {
	provider Provider
	id       string
}

// New makes a sandbox. Its error names every option that is wrong.
func New(o Options) (*Sandbox, error) {
	s := &Sandbox{
		base:    o.BaseURL,
		now:     o.Now,
		sleep:   o.Sleep,
		logger:  o.Logger,
		pages:   sync.OnceValue(loadPages),
		clients: map[clientKey]*Client{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.sleep == nil {
		s.sleep = sleep
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	personas := o.Personas
	if personas == nil {
		personas = DefaultPersonas()
	}
	problems := []error{checkBaseURL(o.BaseURL)}
	var err error
	if s.people, err = newPeople(slices.Clone(personas), o.Auto); err != nil {
		problems = append(problems, err)
	}
	for _, c := range o.Clients {
		problems = append(problems, s.Register(c))
	}
	keys, err := newKeyring(o.Key)
	if err = errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s.google = newGoogle(s, keys)
	s.github = newGitHub(s)
	s.facebook = newFacebook(s)
	s.mux = http.NewServeMux()
	s.google.routes(s.mux)
	s.github.routes(s.mux)
	s.facebook.routes(s.mux)
	s.controlRoutes(s.mux)
	return s, nil
}

func checkBaseURL(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != base {
		return errors.New("the base URL must be a scheme and a host such as http://127.0.0.1:8082, without a slash at the end")
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	s.mux.ServeHTTP(w, r)
}

// GoogleURL is Google's issuer.
func (s *Sandbox) GoogleURL() string { return s.base + "/google" }

// GitHubURL stands for https://github.com; the issuer that its callbacks name is /login/oauth under it.
func (s *Sandbox) GitHubURL() string { return s.base + "/github" }

// GitHubAPIURL stands for https://api.github.com.
func (s *Sandbox) GitHubAPIURL() string { return s.base + "/github/api" }

// FacebookURL stands for https://www.facebook.com: the part of the dialog's URL before the version.
func (s *Sandbox) FacebookURL() string { return s.base + "/facebook" }

// FacebookGraphURL stands for https://graph.facebook.com: the part of the Graph API's URLs before the version.
func (s *Sandbox) FacebookGraphURL() string { return s.base + "/facebook/graph" }

// Personas are the people who can sign in. The caller may not change what the pointers in them lead to.
func (s *Sandbox) Personas() []Persona { return slices.Clone(s.people.list) }

// Register registers a client, or replaces the one of that provider and id. Its error says what is wrong with it.
func (s *Sandbox) Register(c Client) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("client %q: %w", c.ID, err)
	}
	c.RedirectURIs = slices.Clone(c.RedirectURIs)
	key := clientKey{c.Provider, c.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[key] == nil && len(s.clients) >= maxClients {
		return fmt.Errorf("client %q: there are %d clients already", c.ID, maxClients)
	}
	s.clients[key] = &c
	return nil
}

// AddRedirectURI adds a redirect URI to a registered client. One that it has already is no error.
func (s *Sandbox) AddRedirectURI(p Provider, clientID, redirectURI string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := clientKey{p, clientID}
	old := s.clients[key]
	if old == nil {
		return fmt.Errorf("sandbox: no client %q at %q", clientID, p)
	}
	if slices.Contains(old.RedirectURIs, redirectURI) {
		return nil
	}
	changed := *old
	changed.RedirectURIs = append(slices.Clone(old.RedirectURIs), redirectURI)
	if err := changed.check(); err != nil {
		return fmt.Errorf("sandbox: client %q: %w", clientID, err)
	}
	s.clients[key] = &changed
	return nil
}

func (s *Sandbox) client(p Provider, id string) *Client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clients[clientKey{p, id}]
}

func (c *Client) check() error {
	if !slices.Contains(Providers(), c.Provider) {
		return fmt.Errorf("provider %q is none of google, github, facebook", c.Provider)
	}
	if c.ID == "" || c.Secret == "" {
		return errors.New("needs an id and a secret")
	}
	if len(c.RedirectURIs) > maxRedirectURIs {
		return fmt.Errorf("has more than %d redirect URIs", maxRedirectURIs)
	}
	for _, uri := range c.RedirectURIs {
		// RFC 6749 section 3.1.2: absolute, without a fragment.
		if u, err := url.Parse(uri); err != nil || !u.IsAbs() || u.Host == "" || strings.Contains(uri, "#") {
			return fmt.Errorf("redirect URI %q: must be absolute and have no fragment", uri)
		}
	}
	return nil
}

// sleep waits, or returns the context's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
