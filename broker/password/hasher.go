package password

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Lane is who waits for whom: each has cores of its own to hash on, so that strangers who guess keep none of those waiting who are known.
type Lane int

// The lanes.
const (
	Known    Lane = iota // somebody who has signed in from there before
	Stranger             // anybody else
)

// queuePerSlot bounds how many wait for each hash that may be computed at once: with some 30 ms for each, the last of them waits for half a
// second. Whoever comes later is told to try again rather than held.
const queuePerSlot = 16

// Hasher computes and checks hashes, a bounded number at once: each takes a core and 19 MiB for some 30 milliseconds. Its methods may be called
// concurrently.
type Hasher struct {
	lanes     [2]limit
	minLength int
}

// Options are what an operator may set. The zero value is useful.
type Options struct {
	// MinLength is the least number of characters of a new password, if it is more than the package's.
	MinLength int
	// Concurrent is how many hashes are computed at once for those who are known; 0 is as many as there are cores. Strangers have half as many more.
	Concurrent int
}

// limit admits as many as slots has room for, and lets a bounded number wait.
type limit struct {
	slots   chan struct{}
	waiting atomic.Int64
}

// NewHasher makes a Hasher.
func NewHasher(o Options) *Hasher {
	known := o.Concurrent
	if known <= 0 {
		known = runtime.GOMAXPROCS(0)
	}
	h := &Hasher{minLength: o.MinLength}
	h.lanes[Known].slots = make(chan struct{}, known)
	h.lanes[Stranger].slots = make(chan struct{}, max(1, known/2))
	return h
}

// enter waits for a slot. ErrBusy if too many wait already; the context's error if it ends first.
func (l *limit) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > int64(queuePerSlot*cap(l.slots)) {
		return ErrBusy
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limit) leave() { <-l.slots }

// Hash makes the hash of a new password. ErrInvalid as [CheckNew] says, ErrBusy, or the context's error.
func (h *Hasher) Hash(ctx context.Context, raw string) (string, error) {
	if err := CheckNew(raw, h.minLength); err != nil {
		return "", err
	}
	return h.Rehash(ctx, raw)
}

// Rehash is Hash for a password that has just been found right, whatever the rules for new ones.
func (h *Hasher) Rehash(ctx context.Context, raw string) (string, error) {
	prepared, err := Prepare(raw)
	if err != nil {
		return "", err
	}
	l := &h.lanes[Known]
	if err := l.enter(ctx); err != nil {
		return "", err
	}
	defer l.leave()
	return compute(prepared).String(), nil
}

// Verify says whether a password is the one that hash was made of, and whether the hash should be made anew because parameters have changed
// since. ErrInvalid for what cannot be a password, ErrMalformed for what is no hash, ErrBusy, or the context's error.
func (h *Hasher) Verify(ctx context.Context, lane Lane, hash, raw string) (ok, stale bool, err error) {
	stored, err := parse(hash)
	if err != nil {
		return false, false, err
	}
	prepared, err := Prepare(raw)
	if err != nil {
		return false, false, err
	}
	l := &h.lanes[lane]
	if err := l.enter(ctx); err != nil {
		return false, false, err
	}
	defer l.leave()
	return stored.matches(prepared), stored.stale(), nil
}
