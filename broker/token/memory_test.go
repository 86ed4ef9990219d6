package token

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// memory is a store.Backend for the signing keys' tests: one map, no expiry. What real
// backends do is proved by their own suite.
type memory struct {
	mu   sync.Mutex
	docs map[string]memoryDoc
	// fail, if set, is what every call answers.
	fail error
}

type memoryDoc struct {
	meta  store.Meta
	value []byte
}

func newMemory() *memory { return &memory{docs: map[string]memoryDoc{}} }

func (m *memory) Insert(_ context.Context, collection string, meta store.Meta, value any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.docs[collection+"/"+meta.ID]; ok && m.fail == nil {
		return store.ErrExists
	}
	meta.Rev = 1
	return m.put(collection, meta, value)
}

func (m *memory) put(collection string, meta store.Meta, value any) error {
	if m.fail != nil {
		return m.fail
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	m.docs[collection+"/"+meta.ID] = memoryDoc{meta, encoded}
	return nil
}

func (m *memory) Get(_ context.Context, collection, id string, value any) (store.Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.docs[collection+"/"+id]
	if !ok {
		return store.Meta{}, store.ErrNotFound
	}
	return doc.meta, json.Unmarshal(doc.value, value)
}

func (m *memory) Replace(_ context.Context, collection string, meta store.Meta, value any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.docs[collection+"/"+meta.ID].meta.Rev != meta.Rev {
		return store.ErrConflict
	}
	meta.Rev++
	return m.put(collection, meta, value)
}

func (m *memory) Delete(_ context.Context, collection, id string, _ int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.docs[collection+"/"+id]; !ok {
		return store.ErrNotFound
	}
	delete(m.docs, collection+"/"+id)
	return m.fail
}

func (m *memory) List(_ context.Context, collection string, q store.Query, each func(store.Meta, func(any) error) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m.docs)) {
		doc := m.docs[key]
		if key != collection+"/"+doc.meta.ID || doc.meta.ID <= q.After {
			continue
		}
		if err := each(doc.meta, func(v any) error { return json.Unmarshal(doc.value, v) }); err != nil {
			return err
		}
	}
	return m.fail
}

func (m *memory) Ping(context.Context) error { return m.fail }
func (m *memory) Close() error               { return nil }

func (m *memory) contents() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all bytes.Buffer
	for _, doc := range m.docs {
		all.Write(doc.value)
	}
	return all.String()
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var (
	secretA = []byte("0123456789abcdefghijklmnopqrstuvwxyz-A")
	secretB = []byte("0123456789abcdefghijklmnopqrstuvwxyz-B")
)

func newRing(t testing.TB, secrets ...[]byte) *Keyring {
	t.Helper()
	if len(secrets) == 0 {
		secrets = [][]byte{secretA}
	}
	ring, err := NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// fastKeys opens keys without RSA, which takes a second to make under the race detector.
func fastKeys(t testing.TB, now func() time.Time) *Keys {
	t.Helper()
	return openKeys(t, newMemory(), newRing(t), KeysOptions{Algorithms: []string{ES256, EdDSA}, Now: now})
}

func openKeys(t testing.TB, backend store.Backend, ring *Keyring, opts KeysOptions) *Keys {
	t.Helper()
	keys, err := OpenKeys(t.Context(), backend, ring, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return keys
}

// forgeries yields every string that differs from s in one byte, in one of a few telling
// ways, and every proper prefix, and s with something added.
func forgeries(s string, yield func(forged string)) {
	for i := range len(s) {
		yield(s[:i])
		yield(s[:i] + s[i+1:])
		for _, c := range []byte{s[i] ^ 1, s[i] ^ 2, s[i] ^ 0x20, s[i] ^ 0x80, '.', '-', '_', 'A', 'B', '0', '=', '\n', 0} {
			if c != s[i] {
				yield(s[:i] + string([]byte{c}) + s[i+1:])
			}
		}
		yield(s[:i] + "\n" + s[i:])
		yield(s[:i] + s[i:i+1] + s[i:])
	}
	for _, tail := range []string{"=", "==", ".", "A", "\n", "\r\n", " ", "\x00", "." + s} {
		yield(s + tail)
	}
	yield(" " + s)
	yield(s + s)
}
