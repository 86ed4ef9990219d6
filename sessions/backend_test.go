package sessions_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

// eachBackend runs test once per backend. Each gets the clock that documents expire by.
func eachBackend(t *testing.T, test func(t *testing.T, clock *clock, backend *counted)) {
	t.Helper()
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			test(t, c, &counted{Backend: open(t, c.Now)})
		})
	}
}

// clock is time that moves when told to.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.nanos.Store(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }

// counted counts what a backend is asked, and fails on demand.
type counted struct {
	store.Backend
	gets, writes atomic.Int64
	fail         atomic.Pointer[error]
}

func (c *counted) broken() error {
	if err := c.fail.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *counted) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	c.writes.Add(1)
	if err := c.broken(); err != nil {
		return err
	}
	return c.Backend.Insert(ctx, collection, meta, value)
}

func (c *counted) Get(ctx context.Context, collection, id string, value any) (store.Meta, error) {
	c.gets.Add(1)
	if err := c.broken(); err != nil {
		return store.Meta{}, err
	}
	return c.Backend.Get(ctx, collection, id, value)
}

func (c *counted) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	c.writes.Add(1)
	if err := c.broken(); err != nil {
		return err
	}
	return c.Backend.Replace(ctx, collection, meta, value)
}

func (c *counted) Delete(ctx context.Context, collection, id string, rev int64) error {
	c.writes.Add(1)
	if err := c.broken(); err != nil {
		return err
	}
	return c.Backend.Delete(ctx, collection, id, rev)
}
