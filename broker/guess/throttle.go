package guess

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/throttle"
)

// Delayed says that an attempt comes too early. Nothing was counted.
type Delayed struct {
	// Wait is how long; more than 0.
	Wait time.Duration
	// Of is whose limit it was, for the log: "address", "username" or "username at this address".
	Of string
}

func (d *Delayed) Error() string {
	return fmt.Sprintf("too many attempts (%s): the next is possible in %s", d.Of, d.Wait)
}

// Throttle counts attempts. Its methods may be called concurrently, on any number of nodes.
type Throttle struct {
	counters store.Collection[counter]
	now      func() time.Time
}

// New keeps counters in b. They expire by themselves.
func New(b store.Backend, now func() time.Time) *Throttle {
	return &Throttle{counters: store.NewCollection[counter](b, "attempts"), now: now}
}

// Attempt is one attempt that may be made. One of its two methods is called at most once; none if the password was wrong.
type Attempt struct {
	// Known says that the right password has come from this address before.
	Known bool

	t                       *Throttle
	pair, address, username string
	waited                  bool // it is the attempt of a stranger who had to wait
}

// key is the id of a counter: digests, because usernames and addresses are of any alphabet, and personal.
func key(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return kind + ":" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Begin counts an attempt at a username from an address as a failure, until it is forgiven. [*Delayed] if it comes too early: then nothing may be checked.
// For somebody known it costs one read and one write, for others three of each.
func (t *Throttle) Begin(ctx context.Context, username string, addr netip.Addr) (*Attempt, error) {
	at := throttle.Address(addr.Unmap().WithZone("")) // "invalid IP" where there is none: on a unix socket, whose peers are all one
	a := &Attempt{t: t, pair: key("pair", username, at), address: key("address", at), username: key("username", username)}
	now := t.now()
	pair, err := t.get(ctx, a.pair)
	if err != nil {
		return nil, err
	}
	if wait := pair.Value.wait(now); wait > 0 {
		return nil, delayed(wait, "username at this address")
	}
	// The address pays first, so that it cannot fill the store with pairs.
	if !pair.Value.known(now) {
		if err := t.pay(ctx, a.address); err != nil {
			return nil, err
		}
	}
	for range maxTries {
		now := t.now()
		if wait := pair.Value.wait(now); wait > 0 {
			return nil, delayed(wait, "username at this address")
		}
		a.Known = pair.Value.known(now)
		if !a.Known {
			wait, err := t.admitStranger(ctx, a.username, pair.Value.Waits)
			if err != nil {
				return nil, err
			}
			if wait > 0 {
				pair.Value.Next, pair.Value.Waits = now.Add(wait), true
				// Another attempt of the same pair may have been faster; the wait is as long.
				if _, err := t.put(ctx, pair); err != nil {
					return nil, err
				}
				return nil, delayed(wait, "username")
			}
		}
		a.waited, pair.Value.Waits = pair.Value.Waits, false
		pairSchedule(&pair.Value, now).count(&pair.Value, now)
		won, err := t.put(ctx, pair)
		if err != nil {
			return nil, err
		}
		if won {
			return a, nil
		}
		if !a.Known {
			if err := t.forgive(ctx, a.username, ofUsername); err != nil {
				return nil, err
			}
		}
		if pair, err = t.get(ctx, a.pair); err != nil {
			return nil, err
		}
	}
	return nil, crowded()
}

// Succeeded says that the password was right: the address is known to the username from now on, and has no failures; what the attempt cost others is
// given back.
func (a *Attempt) Succeeded(ctx context.Context) error {
	err := a.t.change(ctx, a.pair, func(c *counter, now time.Time) error {
		*c = counter{Known: now}
		return nil
	})
	return errors.Join(err, a.refund(ctx))
}

// Cancel says that no password was checked: the attempt is as if it had not been made.
func (a *Attempt) Cancel(ctx context.Context) error {
	err := a.t.change(ctx, a.pair, func(c *counter, now time.Time) error {
		pairSchedule(c, now).forgive(c)
		c.Next, c.Waits = time.Time{}, a.waited
		if a.waited {
			c.Next = now // the turn is kept from here on
		}
		return nil
	})
	return errors.Join(err, a.refund(ctx))
}

// refund gives back what a stranger's attempt cost.
func (a *Attempt) refund(ctx context.Context) error {
	if a.Known {
		return nil
	}
	return errors.Join(a.t.forgive(ctx, a.username, ofUsername), a.t.forgive(ctx, a.address, ofAddress))
}

// pay counts an attempt of an address.
func (t *Throttle) pay(ctx context.Context, id string) error {
	return t.change(ctx, id, func(c *counter, now time.Time) error {
		if wait := c.wait(now); wait > 0 {
			return delayed(wait, "address")
		}
		ofAddress.count(c, now)
		return nil
	})
}

func (t *Throttle) admitStranger(ctx context.Context, id string, waited bool) (wait time.Duration, err error) {
	err = t.change(ctx, id, func(c *counter, now time.Time) error {
		if wait = admitStranger(c, waited, now); wait > 0 {
			return errUnchanged
		}
		return nil
	})
	return wait, err
}

// forgive takes a failure back. In a crowd so dense that it cannot, one more is nothing.
func (t *Throttle) forgive(ctx context.Context, id string, s schedule) error {
	err := t.change(ctx, id, func(c *counter, _ time.Time) error {
		if c.Until.IsZero() {
			return errUnchanged // forgotten meanwhile
		}
		s.forgive(c)
		return nil
	})
	var dense *Delayed
	if errors.As(err, &dense) {
		return nil
	}
	return err
}

var errUnchanged = errors.New("nothing to change")

// maxTries bounds how often a write is tried against others: with one winner a round, more than the store's own bound is a flood.
const maxTries = 128

// crowded is the answer to an attempt that lost against too many others on the same counter.
func crowded() *Delayed { return delayed(time.Second, "too many at once") }

func delayed(wait time.Duration, of string) *Delayed { return &Delayed{Wait: wait, Of: of} }

// change edits a counter, which begins at zero where there is none. edit's error ends it, and nothing is written; errUnchanged is no error.
func (t *Throttle) change(ctx context.Context, id string, edit func(c *counter, now time.Time) error) error {
	for range maxTries {
		doc, err := t.get(ctx, id)
		if err != nil {
			return err
		}
		if err := edit(&doc.Value, t.now()); err != nil {
			if errors.Is(err, errUnchanged) {
				return nil
			}
			return err
		}
		won, err := t.put(ctx, doc)
		if err != nil || won {
			return err
		}
	}
	return crowded()
}

// get reads a counter; one of revision 0 is not stored yet.
func (t *Throttle) get(ctx context.Context, id string) (*store.Doc[counter], error) {
	doc, err := t.counters.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return &store.Doc[counter]{Meta: store.Meta{ID: id}}, nil
	}
	return doc, err
}

// put writes a counter that get read, and says whether it was still as it was then. A counter of which nothing matters is stored all the same, for a
// moment: the write is what a racing one loses against.
func (t *Throttle) put(ctx context.Context, doc *store.Doc[counter]) (won bool, err error) {
	doc.Expires = doc.Value.gone()
	if least := t.now().Add(leastMemory); doc.Expires.Before(least) {
		doc.Expires = least
	}
	if doc.Rev == 0 {
		err = t.counters.Insert(ctx, doc)
	} else {
		err = t.counters.Replace(ctx, doc)
	}
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// leastMemory is how long a counter is kept at least: longer than a request that read it takes to write.
const leastMemory = time.Minute
