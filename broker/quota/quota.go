// Package quota bounds how often something may be done by whoever does it: so many times in a window, over all nodes together.
//
// broker/oauth asks it where a request that nobody answers for makes the broker keep or fetch something. It is one small document for each key, and
// the package may not know what the key stands for.
package quota

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// ErrExceeded says that it was done too often. Compare with errors.Is; errors.As finds the *Exceeded that says when to come back.
var ErrExceeded = errors.New("too often")

// Exceeded is ErrExceeded with the time after which it may be done again.
type Exceeded struct{ RetryAfter time.Duration }

func (e *Exceeded) Error() string { return fmt.Sprintf("too often: wait %s", e.RetryAfter) }

// Is makes errors.Is(err, ErrExceeded) hold.
func (e *Exceeded) Is(target error) bool { return target == ErrExceeded }

// level says until when what was done is worked off, at the allowed rate. That one time is all there is to know of the past (the
// generic cell rate algorithm, ITU-T I.371).
type level struct {
	Until time.Time `json:"until"`
}

// Quota counts. Its methods may be called concurrently, on any number of nodes.
type Quota struct {
	docs store.Collection[level]
	now  func() time.Time
}

// New counts in b.
func New(b store.Backend, now func() time.Time) *Quota {
	return &Quota{docs: store.NewCollection[level](b, "quotas"), now: now}
}

// maxAttempts bounds how often a count is tried against others of the same key at the same time. Who loses as often as this is
// one of a crowd that the quota is there to slow down.
const maxAttempts = 16

// Take counts one use of a key for a purpose. An *Exceeded, and nothing counted, if it was used more than most times within the window: at
// once, or in whatever rhythm; uses are given back one by one, every window/most.
func (q *Quota) Take(ctx context.Context, purpose, key string, most int, window time.Duration) error {
	each := window / time.Duration(most)
	id := documentID(purpose, key)
	for range maxAttempts {
		now := q.now()
		doc, err := q.docs.Get(ctx, id)
		fresh := errors.Is(err, store.ErrNotFound)
		if fresh {
			doc, err = &store.Doc[level]{Meta: store.Meta{ID: id}}, nil
		}
		if err != nil {
			return err
		}
		until := doc.Value.Until
		if until.Before(now) {
			until = now
		}
		until = until.Add(each)
		if excess := until.Sub(now) - window; excess > 0 {
			return &Exceeded{RetryAfter: excess}
		}
		doc.Value.Until, doc.Expires = until, until
		if fresh {
			err = q.docs.Insert(ctx, doc)
		} else {
			err = q.docs.Replace(ctx, doc)
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return &Exceeded{RetryAfter: each}
}

func documentID(purpose, key string) string {
	sum := sha256.Sum256([]byte(purpose + "\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ipv6Network is how much of an IPv6 address stands for one person: a home or a host is given at least this network, and could
// otherwise come from a new address every time.
const ipv6Network = 64

// AddressKey is the key of an address: the address itself, or of IPv6 its network. An address that is not known has a key too, so that all
// of those count together.
func AddressKey(addr netip.Addr) string {
	addr = addr.Unmap()
	if addr.Is6() {
		if network, err := addr.Prefix(ipv6Network); err == nil {
			return network.String()
		}
	}
	return addr.String()
}
