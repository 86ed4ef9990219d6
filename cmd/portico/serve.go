package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/config"
)

type serveCommand struct {
	configFlag
}

// Run serves until the process is told to stop, and then lets the requests under way end.
func (c serveCommand) Run(ctx context.Context, p process) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	log := newLog(cfg, p)
	return serve(ctx, cfg, log, serving{started: func(addrs []net.Addr) {
		log.Info("ready", slog.String("issuer", cfg.Issuer), slog.String("listen", addrs[0].String()))
	}})
}

// serving is what is served besides the broker, and who wants to know when it is.
type serving struct {
	endpoints []web.Endpoint
	started   func(addrs []net.Addr) // the broker's address first
}

// serve runs the broker, and the simulated providers if the configuration has them, until ctx ends.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, s serving) error {
	b, err := broker.New(ctx, cfg, broker.Options{Log: log})
	if err != nil {
		return err
	}
	endpoint := web.Endpoint{Handler: b.Handler, Addr: cfg.Listen, CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile}
	endpoint.RequestClientCertificate = cfg.MTLS.Mode == config.MTLSTLS && cfg.MTLS.Listen == ""
	endpoints := []web.Endpoint{endpoint}
	if cfg.MTLS.Listen != "" {
		endpoint.Addr, endpoint.RequestClientCertificate = cfg.MTLS.Listen, true
		if cfg.MTLS.CertFile != "" {
			endpoint.CertFile, endpoint.KeyFile = cfg.MTLS.CertFile, cfg.MTLS.KeyFile
		}
		endpoints = append(endpoints, endpoint)
	}
	if cfg.Sandbox.Listen != "" {
		providers, err := broker.NewSandbox(cfg, broker.Options{Log: log})
		if err != nil {
			return fmt.Errorf("sandbox: %w", joinClose(err, b))
		}
		log.Warn("the providers are simulated: anybody can sign in as anybody")
		endpoints = append(endpoints, web.Endpoint{Handler: http.Handler(providers), Addr: cfg.Sandbox.Listen})
	}
	endpoints = append(endpoints, s.endpoints...)

	background, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { b.Run(background) })
	err = web.Serve(ctx, web.ServerOptions{
		Endpoints: endpoints,
		Checks:    b.Checks,
		Drain:     cfg.HTTP.ShutdownDrain.Std(),
		Grace:     cfg.HTTP.ShutdownGrace.Std(),
		Logger:    log,
		Started:   s.started,
	})
	stop()
	done.Wait()
	return joinClose(err, b)
}

// joinClose closes the broker, and keeps the error that came before.
func joinClose(err error, b *broker.Broker) error {
	return errors.Join(err, b.Close())
}
