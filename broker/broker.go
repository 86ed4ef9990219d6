// Package broker builds the whole broker from its configuration: it opens the store and the keys, wires the parts
// together, and is the one place that knows all of them. It decides nothing itself.
//
// The commands call it: [New] for a broker that serves, [Open] for one that only manages what is stored.
package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/portico-id/portico/broker/device"
	"github.com/portico-id/portico/broker/fetch"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/logout"
	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/broker/pairwise"
	"github.com/portico-id/portico/broker/quota"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/signin"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/throttle"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/templates"
)

// Options are what a broker takes from its process. The zero value is useful.
type Options struct {
	Log *slog.Logger     // nil: silence
	Now func() time.Time // nil: time.Now
	// Backend, if not nil, is used instead of the configured store; Close leaves it open.
	Backend store.Backend

	completed bool
	accessLog *slog.Logger     // Log, without the request id that its lines have already
	clock     func() time.Time // Now, as fine as it comes: for durations
}

func (o *Options) complete() {
	if o.completed {
		return
	}
	o.completed = true
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.accessLog = o.Log
	o.Log = slog.New(web.LogRequestID(o.Log.Handler()))
	clock := o.Now
	if clock == nil {
		clock = time.Now
	}
	o.clock = clock
	// Documents keep times to the millisecond, in UTC; what is compared with them is no finer.
	o.Now = func() time.Time { return clock().UTC().Truncate(time.Millisecond) }
}

// Broker is a broker that can serve. Its handler may be called concurrently.
type Broker struct {
	*Data
	// Handler serves everything: pages, endpoints, health.
	Handler http.Handler
	// Checks are the health checks, to be told when shutdown begins.
	Checks *web.Checks
	// Courier tells apps of sign-outs. Run keeps it going.
	Courier *logout.Courier

	keys *token.Keys
}

// keysLifeBeyondTokens is added to the longest life of a signed token to say how long a retired signing key still verifies.
const keysLifeBeyondTokens = 24 * time.Hour

// New builds a broker. It opens the store and the keys, and reaches no provider: one that is down keeps nothing
// from starting. ctx bounds the opening alone.
func New(ctx context.Context, cfg *config.Config, o Options) (*Broker, error) {
	o.complete()
	data, err := Open(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	b := &Broker{Data: data}
	if err := b.build(ctx, cfg, o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Broker) build(ctx context.Context, cfg *config.Config, o Options) error {
	var err error
	b.keys, err = token.OpenKeys(ctx, b.Backend, b.Ring, token.KeysOptions{
		RotateEvery: cfg.Signing.RotateEvery.Std(),
		KeepAfter:   max(token.DefaultKeepAfter, cfg.Tokens.AccessTokenLifetime.Std()+keysLifeBeyondTokens, cfg.Tokens.IDTokenLifetime.Std()+keysLifeBeyondTokens),
		Now:         o.Now,
		Logger:      o.Log,
	})
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	upstream, names, err := openConnectors(cfg, o)
	if err != nil {
		return err
	}
	warnOfFixed(upstream, o.Log)
	warnOfUnknownAPIs(cfg, b.APIs, o.Log)
	pages, err := templates.New(templates.Options{Brand: templates.Brand{
		Name: cfg.Brand.Name, LogoURL: cfg.Brand.LogoURL, SupportURL: cfg.Brand.SupportURL,
	}})
	if err != nil {
		return err
	}

	flows := flow.New(b.Backend, token.NewID, o.Now, cfg.FlowLifetime.Std())
	var devices *device.Authorizations
	if slices.Contains(cfg.GrantTypes, registry.GrantDeviceCode) {
		devices = device.New(b.Backend, device.Options{
			Lifetime: cfg.Device.Lifetime.Std(), Interval: cfg.Device.Interval.Std(),
			Now: o.Now, NewID: token.NewID, NewUserCode: device.NewUserCode,
		})
	}
	scopes := oauth.Scopes()

	subjects, err := pairwise.Open(ctx, b.Backend, b.Ring, o.Log)
	if err != nil {
		return err
	}
	outgoing, err := openFetch(cfg)
	if err != nil {
		return err
	}
	certificates, err := openMTLS(cfg)
	if err != nil {
		return err
	}

	if cfg.ClientIDMetadata.Mode != config.ModeOff {
		b.Clients.Resolve(clientDocuments(cfg, b.APIs, outgoing, o).Client)
	}

	idTokens := token.NewIDTokens(b.keys, cfg.Issuer)
	var sessionManagement *oauth.SessionManagement
	if cfg.SessionManagement {
		sessionManagement = &oauth.SessionManagement{BrowserState: browserState(cfg, b.Ring), Cookie: b.sessions.StateCookie()}
	}

	// The two halves call each other: oauth begins flows and ends them, signin moves them along.
	var people *signin.Service
	apps := oauth.New(oauth.Options{
		Issuer:            cfg.Issuer,
		Connectors:        names,
		GrantTypes:        cfg.GrantTypes,
		Scopes:            scopes,
		APIs:              b.APIs,
		SigningAlgs:       b.keys.Algorithms(),
		AccessTokenFormat: token.Format(cfg.Tokens.AccessTokenFormat),
		Lifetimes: oauth.Lifetimes{
			Code:        cfg.Tokens.CodeLifetime.Std(),
			AccessToken: cfg.Tokens.AccessTokenLifetime.Std(),
			IDToken:     cfg.Tokens.IDTokenLifetime.Std(),
			Refresh: grant.Limits{
				Grace:    cfg.Tokens.RefreshGrace.Std(),
				Idle:     cfg.Tokens.RefreshIdleLifetime.Std(),
				Absolute: cfg.Tokens.RefreshLifetime.Std(),
			},
			Session: cfg.Sessions.Lifetime.Std(),
		},
		RequirePAR:        cfg.RequirePushedAuthorizationRequests,
		UnprovenPerMinute: cfg.UnprovenPerMinute,
		TrustRedirectURIs: cfg.Registration.TrustRedirectURIs,
		DPoPNonce:         cfg.Tokens.DPoPNonce == "required",

		ForwardAnyHost: cfg.ForwardAuth.AnyHost,

		Subjects: subjects,
		Clients:  b.Clients, Accounts: b.Accounts, Flows: flows, Devices: devices, Grants: b.Grants,
		MTLS:   certificates,
		Replay: replay.New(b.Backend), Fetch: outgoing,
		TrustedIssuers: trustedIssuers(cfg),
		Ring:           b.Ring, Keys: b.keys, Audit: b.Audit, Log: o.Log, Now: o.Now,
		Passwords: b.Credentials, Sessions: sessionManagement,

		Registration:    registration(cfg, b.Ring, b.APIs),
		ClientDocuments: cfg.ClientIDMetadata.Mode != config.ModeOff,
		Quota:           quota.New(b.Backend, o.Now),

		Browser: func(w http.ResponseWriter, r *http.Request) string { return people.Browser(w, r) },
		Proceed: func(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
			people.Proceed(w, r, doc, client)
		},
		Resume: func(w http.ResponseWriter, r *http.Request, flowID string) { people.Resume(w, r, flowID) },
		ShowError: func(w http.ResponseWriter, r *http.Request, p oauth.ErrorPage) {
			people.ShowError(w, r, signin.ErrorPage{Status: p.Status, Title: p.Title, Message: p.Message, ToDo: p.ToDo, Cause: p.Cause})
		},
		FormPost: func(w http.ResponseWriter, r *http.Request, redirectURI string, answer url.Values) {
			people.FormPost(w, r, redirectURI, answer)
		},
		AskToLeave: func(w http.ResponseWriter, r *http.Request, l oauth.Leaving) {
			people.AskToLeave(w, r, l.Client, l.Code, l.Location, l.Form)
		},
	})
	b.Courier = logout.NewCourier(b.Logout, logout.CourierOptions{
		Sender: outgoing, Signer: idTokens, Audit: b.Audit, Log: o.Log,
		Subjects: subjects, Encrypt: apps.EncryptToken,
	})
	people = signin.New(signin.Options{
		Subjects: subjects,
		Issuer:   cfg.Issuer, Connectors: upstream, Scopes: scopes, APIs: b.APIs, ACR: oauth.ACR, AssertACR: oauth.AssertACR,
		Clients: b.Clients, Accounts: b.Accounts, Flows: flows, Devices: devices, Grants: b.Grants,
		Consents: b.consents, Sessions: b.sessions, Throttle: throttle.New(b.Backend, o.Now), Logout: b.Logout,
		Ring: b.Ring, IDTokens: idTokens, Pages: pages,
		Audit: b.Audit, Log: o.Log, Now: o.Now,
		Responder: apps, TrustRedirectURIs: cfg.Registration.TrustRedirectURIs,
	})

	mux := http.NewServeMux()
	if err := apps.Routes(mux); err != nil {
		return err
	}
	people.Routes(mux)
	mux.Handle("GET /static/", pages.Static())
	mux.HandleFunc("GET /{$}", people.Home)
	b.Checks = web.Health(b.Backend, o.Log, o.Now)
	b.Checks.Routes(mux)
	b.Handler = web.Chain(web.KeepOpener(apps.ForwardAuth(mux)), web.Options{
		Logger:         o.accessLog,
		TrustedProxies: cfg.TrustedProxyPrefixes(),
		// Empty unless a proxy is to pass certificates on.
		CertificateHeader: cfg.MTLS.Header,
		Now:               o.clock,
	})
	return nil
}

// Run does what has to be done beside answering requests, until ctx ends: signing keys are rotated, and those that another node
// made are read, as are the apis that were registered elsewhere; apps are told of sign-outs.
func (b *Broker) Run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { b.keys.Run(ctx) })
	work.Go(func() { b.APIs.Run(ctx) })
	work.Go(func() { b.Courier.Run(ctx) })
	work.Wait()
}

// keysWait bounds how long Close waits for a key that is being made.
const keysWait = 10 * time.Second

// Close ends the broker after what is under way in the store is done. The handler must not be called any more.
func (b *Broker) Close() error {
	if b.keys != nil {
		ctx, cancel := context.WithTimeout(context.Background(), keysWait)
		defer cancel()
		if err := b.keys.Wait(ctx); err != nil {
			b.log.Warn("a signing key was still being made at the end", slog.Any("cause", err))
		}
	}
	return b.Data.Close()
}

// Keys are the signing keys.
func (b *Broker) Keys() *token.Keys { return b.keys }

// openFetch makes the guarded client for addresses that others choose.
func openFetch(cfg *config.Config) (*fetch.Client, error) {
	o := fetch.Options{AllowPrivate: cfg.Fetch.AllowPrivate}
	if cfg.Fetch.CAFile != "" {
		pem, err := os.ReadFile(cfg.Fetch.CAFile)
		if err != nil {
			return nil, fmt.Errorf("fetch.ca_file: %w", err)
		}
		if o.RootCAs, err = x509.SystemCertPool(); err != nil {
			o.RootCAs = x509.NewCertPool() // a machine without any
		}
		if !o.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("fetch.ca_file: %s holds no certificate", cfg.Fetch.CAFile)
		}
	}
	return fetch.New(o), nil
}

// openMTLS reads what certificates of clients are checked against.
func openMTLS(cfg *config.Config) (oauth.MTLS, error) {
	m := oauth.MTLS{On: cfg.MTLS.Mode != config.MTLSOff, URL: cfg.MTLS.URL}
	if cfg.MTLS.CAFile == "" {
		return m, nil
	}
	pem, err := os.ReadFile(cfg.MTLS.CAFile)
	if err != nil {
		return m, fmt.Errorf("mtls.ca_file: %w", err)
	}
	// Of its own, not beside the system's: any of those could otherwise name itself a client.
	m.Authorities = x509.NewCertPool()
	if !m.Authorities.AppendCertsFromPEM(pem) {
		return m, fmt.Errorf("mtls.ca_file: %s holds no certificate", cfg.MTLS.CAFile)
	}
	return m, nil
}

// warnOfFixed says at every start, what must never be in production.
func warnOfFixed(all []connectors.Connector, log *slog.Logger) {
	for _, c := range all {
		if info := c.Info(); info.Type == config.ConnectorFixed {
			log.Warn("INSECURE: this connector signs everybody in as one person, without a password and without a question; it is for test runs alone",
				slog.String("connector", info.Name))
		}
	}
}

// warnOfUnknownAPIs says which clients of the configuration answer for apis that nobody has registered, or may ask for scopes that none defines. That is
// no error: an api may be registered later, and until then there are no tokens of it.
func warnOfUnknownAPIs(cfg *config.Config, apis *registry.APIs, log *slog.Logger) {
	own := oauth.Scopes()
	for i := range cfg.Clients {
		for _, identifier := range cfg.Clients[i].ResourceServerOf {
			if apis.Get(identifier) == nil {
				log.Warn("a client of the configuration is the resource server of an api that is not registered",
					slog.String("client_id", cfg.Clients[i].ClientID), slog.String("api", identifier))
			}
		}
		for _, scope := range cfg.Clients[i].Scopes {
			if _, ours := own[scope]; !ours && len(apis.WithScope(scope)) == 0 {
				log.Warn("a client of the configuration has a scope that no api defines", slog.String("client_id", cfg.Clients[i].ClientID), slog.String("scope", scope))
			}
		}
	}
}

// openConnectors makes the configured connectors, in their order.
func openConnectors(cfg *config.Config, o Options) ([]connectors.Connector, []string, error) {
	transport := connectors.NewTransport()
	var all []connectors.Connector
	var names []string
	for _, c := range cfg.Connectors {
		connector, err := connectors.New(connectorSettings(cfg, c), connectors.Options{Transport: transport, Now: o.Now})
		if err != nil {
			return nil, nil, err
		}
		all = append(all, connector)
		names = append(names, connector.Info().Name)
	}
	return all, slices.Clip(names), nil
}
