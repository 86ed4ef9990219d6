package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// readHeaderTimeout bounds how long a client may take over the request's header, which is one or two packets:
	// against clients that hold connections open by trickling (slowloris).
	readHeaderTimeout = 10 * time.Second
	// readTimeout bounds header and body together: DefaultMaxBody in this time is 2 kB/s, a very bad phone line.
	readTimeout = 30 * time.Second
	// writeTimeout bounds the whole of a request's handling: longer than an upstream sign-in's calls to the
	// provider one after another take at their own limits.
	writeTimeout = 60 * time.Second
	// idleTimeout is how long a connection may wait for its next request: longer than the minute after which
	// common load balancers drop their side, so that it is they who close.
	idleTimeout = 120 * time.Second
	// maxHeaderBytes bounds the header: MaxURLBytes, cookies, a proof and a token, with room. net/http's default is
	// a megabyte, per connection, for strangers.
	maxHeaderBytes = 32 << 10
	// DefaultGrace is how long requests under way may take to end after shutdown began: less than the half
	// minute after which common orchestrators kill the process.
	DefaultGrace = 20 * time.Second
)

// Endpoint is one address to serve at.
type Endpoint struct {
	// Handler answers. Required.
	Handler http.Handler
	// Addr is host:port to listen at, if Listener is nil.
	Addr string
	// Listener is where to accept connections. Serve closes it.
	Listener net.Listener
	// CertFile and KeyFile, both or neither, are PEM files for TLS 1.2 or later and HTTP/2. They are read again within
	// seconds of a change; if the new pair is broken the old one stays, and the log says so.
	CertFile, KeyFile string
	// RequestClientCertificate asks each TLS client for a certificate, which it may decline (RFC 8705 section 2). ClientCertificate
	// is what came of it. Browsers may ask people which one to send, so it is for an address that only apps call.
	RequestClientCertificate bool
}

// ServerOptions says what to serve and how to stop.
type ServerOptions struct {
	// Endpoints are served together; the end of one is the end of all. At least one.
	Endpoints []Endpoint
	// Checks, if not nil, are told to say no as soon as shutdown begins.
	Checks *Checks
	// Drain is how long to go on accepting requests after that, for load balancers to notice; 0 is not at all.
	Drain time.Duration
	// Grace is how long requests under way may then take to end; 0 means DefaultGrace.
	Grace time.Duration
	// Logger takes what net/http has to say; nil discards it.
	Logger *slog.Logger
	// Started, if not nil, is called once all endpoints accept connections, with their addresses.
	Started func(addrs []net.Addr)
	// Now is the clock for certificate reloads; nil means time.Now.
	Now func() time.Time
}

// Serve serves until ctx is done or an endpoint fails, then shuts down: readiness goes first, then, after Drain, the
// listeners close and idle connections with them, then requests under way get Grace to end. It returns
// nil if all of them did, an error that wraps context.DeadlineExceeded if some had to be cut off, and otherwise what
// failed. Nothing is served any more when it returns.
func Serve(ctx context.Context, o ServerOptions) error {
	if len(o.Endpoints) == 0 {
		return errors.New("serve: no endpoints")
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}

	// All addresses are taken before any is served: a broker that is half up is worse than none.
	var listeners []net.Listener
	var addrs []net.Addr
	closeAll := func() {
		for _, e := range o.Endpoints {
			if e.Listener != nil {
				listeners = append(listeners, e.Listener)
			}
		}
		for _, l := range listeners {
			_ = l.Close() // nothing was ever accepted from it; some twice, which is harmless
		}
	}
	var servers []*http.Server
	for _, e := range o.Endpoints {
		server, err := newServer(e, o)
		if err != nil {
			closeAll()
			return fmt.Errorf("serve: %w", err)
		}
		listener := e.Listener
		if listener == nil {
			if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", e.Addr); err != nil {
				closeAll()
				return fmt.Errorf("serve: %w", err)
			}
		}
		servers, listeners, addrs = append(servers, server), append(listeners, listener), append(addrs, listener.Addr())
	}

	failed := make(chan error, len(servers))
	var running sync.WaitGroup
	for i, server := range servers {
		running.Go(func() { failed <- run(server, listeners[i]) })
	}
	if o.Started != nil {
		o.Started(addrs)
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	if o.Checks != nil {
		o.Checks.Stop()
	}
	if err == nil && o.Drain > 0 {
		select {
		case <-time.After(o.Drain):
		case err = <-failed:
			err = fmt.Errorf("serve: %w", err)
		}
	}
	err = errors.Join(err, shutdown(context.WithoutCancel(ctx), servers, o.Grace))
	running.Wait()
	return err
}

// tls12Suites are those that RFC 9325 section 4.2 recommends for TLS 1.2, and FAPI 2.0 section 5.2.2 permits alone. TLS 1.3 has its own.
var tls12Suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// newServer is an http.Server for e with this package's limits.
func newServer(e Endpoint, o ServerOptions) (*http.Server, error) {
	server := &http.Server{
		Handler:           e.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	if e.CertFile == "" && e.KeyFile == "" {
		return server, nil
	}
	pair, err := loadCertificate(e.CertFile, e.KeyFile, o.Logger, o.Now)
	if err != nil {
		return nil, err
	}
	server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: tls12Suites, GetCertificate: pair.get}
	if e.RequestClientCertificate {
		// Whom to believe is decided at each request, by what the client is registered with: some certificates are self-signed.
		server.TLSConfig.ClientAuth = tls.RequestClientCert
	}
	return server, nil
}

// run serves until the server is closed, which it must not be by itself: any end but by shutdown is an error.
func run(server *http.Server, l net.Listener) error {
	if server.TLSConfig != nil {
		return server.ServeTLS(l, "", "")
	}
	return server.Serve(l)
}

// shutdown ends all servers at once, within grace.
func shutdown(ctx context.Context, servers []*http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ended := make(chan error, len(servers))
	for _, server := range servers {
		go func() {
			err := server.Shutdown(ctx)
			if err != nil {
				err = fmt.Errorf("requests were cut off at the end of the grace: %w", errors.Join(err, server.Close()))
			}
			ended <- err
		}()
	}
	var errs []error
	for range servers {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}
