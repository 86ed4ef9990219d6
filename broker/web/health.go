package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Paths of the health checks. The access log keeps quiet about them while they pass.
const (
	// PathHealthz answers whether the process is alive: if not, restart it.
	PathHealthz = "/healthz"
	// PathReadyz answers whether it can do its work: if not, send requests elsewhere.
	PathReadyz = "/readyz"
)

const (
	// readyTimeout is how long the store may take to answer before it counts as gone: far more than it ever
	// needs, less than orchestrators wait for a probe to be set up sensibly.
	readyTimeout = 2 * time.Second
	// readyCache is for how long an answer stands, so that probes, however many, cannot load the store.
	readyCache = time.Second
)

// Pinger is what readiness depends on: the store.
type Pinger interface {
	// Ping returns nil if the store can answer at all. It must heed ctx.
	Ping(ctx context.Context) error
}

// Checks answers health checks. Its methods may be called concurrently.
type Checks struct {
	pinger   Pinger
	logger   *slog.Logger
	now      func() time.Time
	stopping atomic.Bool

	mu      sync.Mutex // held while the store is asked, so that it is asked once
	checked time.Time
	err     error
}

// Health makes the health checks of a store. Changes of readiness are logged; a nil logger discards them, and
// a nil now means time.Now.
func Health(pinger Pinger, logger *slog.Logger, now func() time.Time) *Checks {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	return &Checks{pinger: pinger, logger: logger, now: now}
}

// Routes adds both checks to mux.
func (c *Checks) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+PathHealthz, c.Alive)
	mux.HandleFunc("GET "+PathReadyz, c.Ready)
}

// Stop makes Ready answer no from now on. Serve calls it as soon as shutdown begins.
func (c *Checks) Stop() { c.stopping.Store(true) }

// Alive answers 200 for as long as the process can answer at all, without asking the store: a store that is away is no
// reason to restart this process.
func (c *Checks) Alive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, "ok\n")
}

// Ready answers 200 if the store answered within the last second or does so within two, and 503 with the reason, in words
// that tell strangers nothing, if not or while shutting down.
func (c *Checks) Ready(w http.ResponseWriter, r *http.Request) {
	switch {
	case c.stopping.Load():
		answer(w, http.StatusServiceUnavailable, "shutting down\n")
	case c.ping(r.Context()) != nil:
		answer(w, http.StatusServiceUnavailable, "the store does not answer\n")
	default:
		answer(w, http.StatusOK, "ok\n")
	}
}

// ping asks the store, or repeats its last answer if that is fresh.
func (c *Checks) ping(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.checked.IsZero() && c.now().Sub(c.checked) < readyCache {
		return c.err
	}
	// The answer is for other probes too, so one that hangs up must not spoil it.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), readyTimeout, errSlowStore)
	defer cancel()
	err := c.pinger.Ping(ctx)
	if err != nil && context.Cause(ctx) == errSlowStore {
		err = errors.Join(errSlowStore, err)
	}
	switch {
	case err != nil && (c.err == nil || c.checked.IsZero()):
		c.logger.LogAttrs(ctx, slog.LevelError, "not ready: the store does not answer", slog.Any("error", err))
	case err == nil && c.err != nil:
		c.logger.LogAttrs(ctx, slog.LevelInfo, "ready again: the store answers")
	}
	c.err, c.checked = err, c.now()
	return err
}

var errSlowStore = errors.New("no answer in time")

func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h["Cache-Control"] = valueNoStore
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // fails only if the probe hung up
}
