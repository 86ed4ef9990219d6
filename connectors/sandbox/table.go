package sandbox

import (
	"sync"
	"time"
)

// table remembers things by a random key, for a while, and no more than max of them: the oldest make room. Codes and
// tokens of a provider have one each, so that its order of insertion is nearly that of expiry.
type table[V any] struct {
	max int

	mu      sync.Mutex
	entries map[string]entry[V]
	order   []string // keys as they came, deleted ones included
}

type entry[V any] struct {
	value  V
	forget time.Time
}

func newTable[V any](limit int) *table[V] {
	return &table[V]{max: limit, entries: map[string]entry[V]{}}
}

// put remembers a value until forget. The key is new: all keys are random.
func (t *table[V]) put(key string, value V, now, forget time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.insert(key, value, now, forget)
}

func (t *table[V]) insert(key string, value V, now, forget time.Time) {
	for len(t.order) > 0 {
		oldest, kept := t.entries[t.order[0]]
		if kept && len(t.order) < t.max && now.Before(oldest.forget) {
			break
		}
		delete(t.entries, t.order[0])
		t.order = t.order[1:]
	}
	t.entries[key] = entry[V]{value, forget}
	t.order = append(t.order, key)
}

// get is the value of a key, unless it is forgotten.
func (t *table[V]) get(key string, now time.Time) (value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	if !ok || !now.Before(e.forget) {
		return value, false
	}
	return e.value, true
}

// getOrPut is the value of a key, which is made if there is none that satisfies good.
func (t *table[V]) getOrPut(key string, now, forget time.Time, good func(V) bool, fresh func() V) V {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	if ok && now.Before(e.forget) && good(e.value) {
		return e.value
	}
	v := fresh()
	if ok {
		t.entries[key] = entry[V]{v, forget} // it keeps its place
		return v
	}
	t.insert(key, v, now, forget)
	return v
}

// remove forgets a key, and says whether it was there: of any number of callers one is told so.
func (t *table[V]) remove(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.entries[key]
	delete(t.entries, key)
	return ok
}

// size is how many values are remembered.
func (t *table[V]) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}
