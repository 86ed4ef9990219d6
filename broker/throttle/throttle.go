// Package throttle slows down whoever tries often: guessers of codes and passwords.
//
// Whoever checks something that could be guessed asks it before the check, under one key for each thing that a guesser has few
// of, such as an address. It counts tries in documents, so that they hold across nodes and restarts, and answers
// with a delay that doubles. It never locks anything for good, and may not know what is tried.
package throttle

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Limit says how many tries are free, and how the delay after them grows.
type Limit struct {
	// Free tries have no delay after them.
	Free int
	// First is the delay after the first try beyond Free. It doubles with each further one, up to Max.
	First, Max time.Duration
	// Memory is how long after the last try all of them are forgotten. It is longer than Max, or a delay would end with it.
	Memory time.Duration
}

// Tries are what is remembered of one key.
type Tries struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
}

// Wait is how long the next try has to wait; 0 if it may be made now.
func (l Limit) Wait(t Tries, now time.Time) time.Duration {
	if t.Count <= l.Free {
		return 0
	}
	delay := l.First
	for range t.Count - l.Free - 1 {
		if delay *= 2; delay >= l.Max {
			break
		}
	}
	return max(0, t.Last.Add(min(delay, l.Max)).Sub(now))
}

// Throttle counts tries. Its methods may be called concurrently, on any number of nodes.
type Throttle struct {
	docs store.Collection[Tries]
	now  func() time.Time
}

// New counts in b.
func New(b store.Backend, now func() time.Time) *Throttle {
	return &Throttle{docs: store.NewCollection[Tries](b, "tries"), now: now}
}

// id is a digest because values may be of any length and alphabet. It hides nothing: there are few addresses.
func id(purpose, value string) string {
	sum := sha256.Sum256([]byte(purpose + "\x00" + value))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Address is the value to count an address under: an IPv6 address by its /64, the least that a single subscriber has.
func Address(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// maxRounds bounds Try against a document that expires between its insert and its change, again and again.
const maxRounds = 4

// Try counts a try of value, or says how long to wait: then nothing was counted, and the try must not be made. Purpose, a
// constant of the caller, keeps one thing's tries from another's. It counts before the check is made, because
// a hundred guesses at once would otherwise all be the first. Give back with Forgive what turned out not to be a guess.
func (t *Throttle) Try(ctx context.Context, purpose, value string, l Limit) (wait time.Duration, err error) {
	key := id(purpose, value)
	for range maxRounds {
		now := t.now()
		err = t.docs.Insert(ctx, &store.Doc[Tries]{
			Meta:  store.Meta{ID: key, Expires: now.Add(l.Memory)},
			Value: Tries{Count: 1, Last: now},
		})
		if !errors.Is(err, store.ErrExists) {
			return 0, err
		}
		_, err = t.docs.Change(ctx, key, func(doc *store.Doc[Tries]) error {
			now := t.now()
			if wait = l.Wait(doc.Value, now); wait > 0 {
				return errUnchanged
			}
			doc.Value = Tries{Count: doc.Value.Count + 1, Last: now}
			doc.Expires = now.Add(l.Memory)
			return nil
		})
		if errors.Is(err, errUnchanged) {
			return wait, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
	}
	return 0, err
}

var errUnchanged = errors.New("nothing to change")

// Forgive takes back one try that Try counted: the value was right, or nothing was guessed.
func (t *Throttle) Forgive(ctx context.Context, purpose, value string) error {
	_, err := t.docs.Change(ctx, id(purpose, value), func(doc *store.Doc[Tries]) error {
		if doc.Value.Count == 0 {
			return errUnchanged
		}
		doc.Value.Count--
		return nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Wait is how long the next try of value has to wait. It counts nothing.
func (t *Throttle) Wait(ctx context.Context, purpose, value string, l Limit) (time.Duration, error) {
	doc, err := t.docs.Get(ctx, id(purpose, value))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return l.Wait(doc.Value, t.now()), nil
}
