// Package replay makes things good for one use: client assertions, DPoP proofs, request objects, and whatever else names
// itself (a jti) and must not be taken twice.
//
// A use is the insert of a document whose id is a digest of what is used, so of any number of uses, on any number of nodes,
// one succeeds. broker/oauth claims after every other check has passed: what is refused for another reason is not spent.
// The package may not know what it is that is claimed.
package replay

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// ErrReplayed says that the value was used before. Compare with errors.Is.
var ErrReplayed = errors.New("it was used before")

// margin is for how much longer a use is remembered than its value is good for: the clock of another node, or of the store, which collects
// what has expired, may be ahead of the one that the value is judged by. The leeways for others' clocks are no wider.
const margin = 30 * time.Second

// claim is empty: its id says everything.
type claim struct{}

// Guard remembers what was used. Its methods may be called concurrently, on any number of nodes.
type Guard struct {
	docs store.Collection[claim]
}

// New keeps claims in b.
func New(b store.Backend) *Guard {
	return &Guard{docs: store.NewCollection[claim](b, "claims")}
}

// Claim uses value for a purpose, which keeps values of one kind from those of another. ErrReplayed if it was used before.
// It is remembered until expires, by whichever node's clock; from then on the caller must refuse the value by its own time, or it could be
// used again. Parts that make up a value together are given one by one, so that no two lists of parts are one value.
func (g *Guard) Claim(ctx context.Context, expires time.Time, purpose string, value ...string) error {
	doc := &store.Doc[claim]{Meta: store.Meta{ID: claimID(purpose, value), Expires: expires.Add(margin)}}
	err := g.docs.Insert(ctx, doc)
	if errors.Is(err, store.ErrExists) {
		return ErrReplayed
	}
	return err
}

// Used says whether value was used for a purpose, and uses nothing.
func (g *Guard) Used(ctx context.Context, purpose string, value ...string) (bool, error) {
	_, err := g.docs.Get(ctx, claimID(purpose, value))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func claimID(purpose string, value []string) string {
	h := sha256.New()
	for _, part := range append([]string{purpose}, value...) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
