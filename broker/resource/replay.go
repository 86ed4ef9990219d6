package resource

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/portico-id/portico/broker/resource/dpop"
)

const (
	// memorySpan is longer than any proof has to be remembered.
	memorySpan = dpop.MaxAge + 4*dpop.Leeway
	// memorySize bounds each of the two generations: some 12 MiB of memory, and 1,450 bound requests a second for as long as they like.
	memorySize = 1 << 18
)

// errMemoryFull refuses a proof that could not be remembered. To forget another instead would let that be replayed, and whoever can send proofs could
// choose when; a request that is told to come back loses nothing.
var errMemoryFull = errors.New("more DPoP proofs than can be remembered came within minutes; share a memory (Options.Replay)")

// memory remembers what was used in two generations, of which the older one is forgotten as a whole: what was used in the one before this is still known
// for memorySpan. There is no work for each that expires.
type memory struct {
	now  func() time.Time
	size int

	mu       sync.Mutex
	began    time.Time
	current  map[fingerprint]struct{}
	previous map[fingerprint]struct{}
}

// fingerprint is half of a digest: two that were alike would only refuse an honest proof, and do not happen.
type fingerprint [16]byte

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, size: memorySize, current: map[fingerprint]struct{}{}}
}

// claim is Options.Replay.
func (m *memory) claim(_ context.Context, key string, expires time.Time) error {
	digest := sha256.Sum256([]byte(key))
	print := fingerprint(digest[:16])
	now := m.now()
	if expires.Sub(now) > memorySpan {
		return errors.New("the proof would have to be remembered for longer than this memory does")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch age := now.Sub(m.began); {
	case age >= 2*memorySpan:
		m.began, m.previous, m.current = now, nil, map[fingerprint]struct{}{}
	case age >= memorySpan:
		m.began, m.previous, m.current = now, m.current, map[fingerprint]struct{}{}
	}
	_, used := m.current[print]
	_, usedBefore := m.previous[print]
	switch {
	case used || usedBefore:
		return ErrReplayed
	case len(m.current) >= m.size:
		return errMemoryFull
	}
	m.current[print] = struct{}{}
	return nil
}
