package resource

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// digest names a token where it is kept: what is in memory is no token that somebody could use.
type digest [sha256.Size]byte

// flights let one of many that want the same thing fetch it, while the others wait.
type flights[T any] struct {
	mu    sync.Mutex
	under map[digest]*flight[T]
}

// flight is one fetch.
type flight[T any] struct {
	done  chan struct{} // closed when value and err are there
	value T
	err   error
}

// join is the fetch of what is called name, which begins now unless it is under way; begun says which. It runs apart from the request that wanted it:
// others wait for it too, and this one may be given up.
func (f *flights[T]) join(ctx context.Context, name digest, fetch func(context.Context) (T, error)) (under *flight[T], begun bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under := f.under[name]; under != nil {
		return under, false
	}
	under = &flight[T]{done: make(chan struct{})}
	if f.under == nil {
		f.under = map[digest]*flight[T]{}
	}
	f.under[name] = under
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		defer func() {
			// No server is around this goroutine that would stop a panic at the request.
			if panicked := recover(); panicked != nil {
				under.err = fmt.Errorf("%w: panicked: %v", ErrUnavailable, panicked)
			}
			f.mu.Lock()
			delete(f.under, name)
			f.mu.Unlock()
			close(under.done)
		}()
		under.value, under.err = fetch(ctx)
	}()
	return under, true
}

// underWay is the fetch of what is called name; nil if there is none.
func (f *flights[T]) underWay(name digest) *flight[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.under[name]
}

// wait is what came of it. ErrUnavailable if ctx ends before.
func (f *flight[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// cacheSlots is how many tokens a cache knows: those in use at one time at a busy API, at about a kilobyte each.
const cacheSlots = 4096

// cache remembers for a while what was found out about tokens. Each digest has one slot, and the last to come takes it, so that it is bounded and needs
// no lock.
type cache struct {
	slots [cacheSlots]atomic.Pointer[cached]
}

type cached struct {
	name  digest
	token *Token // nil: it does not stand
	until time.Time
}

func (c *cache) slot(name *digest) *atomic.Pointer[cached] {
	return &c.slots[binary.LittleEndian.Uint64(name[:8])%cacheSlots]
}

// find is what is known of a token; nil if nothing is.
func (c *cache) find(name *digest, now time.Time) *cached {
	if known := c.slot(name).Load(); known != nil && known.name == *name && now.Before(known.until) {
		return known
	}
	return nil
}

// refused says whether the last that is known of a token, however long ago, is that it does not stand.
func (c *cache) refused(name *digest) bool {
	known := c.slot(name).Load()
	return known != nil && known.name == *name && known.token == nil
}

// add remembers. What does not stand takes no place from what does: otherwise whoever sends invented tokens would have the good ones asked about again.
func (c *cache) add(entry *cached, now time.Time) {
	slot := c.slot(&entry.name)
	if held := slot.Load(); entry.token == nil && held != nil && held.token != nil && held.name != entry.name && now.Before(held.until) {
		return
	}
	slot.Store(entry)
}
