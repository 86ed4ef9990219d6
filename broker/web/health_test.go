package web_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portico-id/portico/broker/web"
)

type pinger func(ctx context.Context) error

func (p pinger) Ping(ctx context.Context) error { return p(ctx) }

func probe(checks *web.Checks, path string) (int, string) {
	mux := http.NewServeMux()
	checks.Routes(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadinessFollowsTheStoreAndHealthDoesNot(t *testing.T) {
	var l logs
	now := time.Unix(1e9, 0)
	var storeErr error
	checks := web.Health(pinger(func(context.Context) error { return storeErr }), l.logger(), func() time.Time { return now })
	step := func(err error, want int, wantText string) {
		t.Helper()
		now = now.Add(time.Minute)
		storeErr = err
		if code, text := probe(checks, web.PathReadyz); code != want || !strings.Contains(text, wantText) || strings.Contains(text, "SECRET") {
			t.Errorf("readyz: %d %q", code, text)
		}
		if code, _ := probe(checks, web.PathHealthz); code != http.StatusOK {
			t.Errorf("healthz: %d", code)
		}
	}
	down := errors.New("dial mongodb://SECRET@db: refused")
	step(nil, 200, "ok")
	step(down, 503, "store")
	step(down, 503, "store")
	step(nil, 200, "ok")
	if n := len(l.lines(t)); n != 2 {
		t.Errorf("%d lines for two changes:\n%s", n, &l)
	}
	checks.Stop()
	step(nil, 503, "shutting down")
}

// Anybody can send probes: they must not become load on the store.
func TestProbesCannotLoadTheStore(t *testing.T) {
	var pings atomic.Int64
	now := time.Unix(1e9, 0)
	checks := web.Health(pinger(func(context.Context) error { pings.Add(1); return nil }), nil, func() time.Time { return now })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { probe(checks, web.PathReadyz) })
	}
	wg.Wait()
	if n := pings.Load(); n != 1 {
		t.Errorf("%d pings for 50 probes at once", n)
	}
	now = now.Add(time.Second)
	probe(checks, web.PathReadyz)
	if n := pings.Load(); n != 2 {
		t.Errorf("%d pings a second later", n)
	}
}

func TestAStoreThatHangsIsNotReadyAfterTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks := web.Health(pinger(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), nil, nil)
		began := time.Now()
		if code, _ := probe(checks, web.PathReadyz); code != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", code)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A probe that hangs up early must not make the service unready for the others.
func TestAProbeThatHangsUpDoesNotSpoilTheAnswer(t *testing.T) {
	checks := web.Health(pinger(func(ctx context.Context) error { return ctx.Err() }), nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	checks.Ready(w, httptest.NewRequestWithContext(ctx, http.MethodGet, web.PathReadyz, nil))
	if w.Code != http.StatusOK {
		t.Errorf("readyz: %d", w.Code)
	}
}
