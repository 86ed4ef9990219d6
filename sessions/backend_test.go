package sessions_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// eachBackend runs test once per backend. Each gets the clock that documents expire by.
func eachBackend(t *testing.T, test func(t *testing.T, clock *clock, backend *counted)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T, func() time.Time) store.Backend{
		"memory": func(_ *testing.T, now func() time.Time) store.Backend { return newMemory(now) },
	} {
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

// memory is a backend in memory: the contract of store.Backend in its plainest form.
type memory struct {
	now func() time.Time
	mu  sync.Mutex
	doc map[string]entry
}

type entry struct {
	meta  store.Meta
	value []byte
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, doc: make(map[string]entry)}
}

func (m *memory) live(key string) (entry, bool) {
	e, ok := m.doc[key]
	return e, ok && (e.meta.Expires.IsZero() || m.now().Before(e.meta.Expires))
}

func (m *memory) Insert(_ context.Context, collection string, meta store.Meta, value any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := collection + "/" + meta.ID
	if _, ok := m.live(key); ok {
		return store.ErrExists
	}
	raw, err := json.Marshal(value)
	meta.Rev = 1
	m.doc[key] = entry{meta, raw}
	return err
}

func (m *memory) Get(_ context.Context, collection, id string, value any) (store.Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.live(collection + "/" + id)
	if !ok {
		return store.Meta{}, store.ErrNotFound
	}
	return e.meta, json.Unmarshal(e.value, value)
}

func (m *memory) Replace(_ context.Context, collection string, meta store.Meta, value any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := collection + "/" + meta.ID
	e, ok := m.live(key)
	if !ok || e.meta.Rev != meta.Rev {
		return store.ErrConflict
	}
	raw, err := json.Marshal(value)
	meta.Rev++
	m.doc[key] = entry{meta, raw}
	return err
}

func (m *memory) Delete(_ context.Context, collection, id string, rev int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := collection + "/" + id
	e, ok := m.live(key)
	switch {
	case !ok:
		return store.ErrNotFound
	case rev != 0 && rev != e.meta.Rev:
		return store.ErrConflict
	}
	delete(m.doc, key)
	return nil
}

func (m *memory) List(_ context.Context, collection string, q store.Query, each func(store.Meta, func(any) error) error) error {
	m.mu.Lock()
	var page []entry
	for key := range m.doc {
		if e, ok := m.live(key); ok && key == collection+"/"+e.meta.ID && (q.Owner == "" || q.Owner == e.meta.Owner) && e.meta.ID > q.After {
			page = append(page, e)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(page, func(a, b entry) int {
		if a.meta.ID < b.meta.ID {
			return -1
		}
		return 1
	})
	limit := q.Limit
	if limit == 0 {
		limit = store.MaxPage
	}
	for _, e := range page[:min(limit, len(page))] {
		if err := each(e.meta, func(v any) error { return json.Unmarshal(e.value, v) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Ping(context.Context) error { return nil }
func (m *memory) Close() error               { return nil }
