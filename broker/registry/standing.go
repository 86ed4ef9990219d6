package registry

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// standingFor is how long an answer of Standing may be old: as long as it can take until a client that another node, or a command, has
	// disabled or removed loses its access tokens here.
	standingFor = 2 * time.Second
	// maxStandings bounds the answers that are kept; there are hardly more clients whose tokens are shown within standingFor. Beyond it
	// all are forgotten, and read again.
	maxStandings = 10_000
)

// standings are the last answers of Standing.
type standings struct {
	mu    sync.RWMutex
	known map[string]standing
}

type standing struct {
	stands bool
	until  time.Time
}

func (s *standings) get(id string, now time.Time) (stands, known bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	last, known := s.known[id]
	return last.stands, known && now.Before(last.until)
}

func (s *standings) put(id string, stands bool, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxStandings {
		s.known = map[string]standing{}
	}
	s.known[id] = standing{stands: stands, until: until}
}

func (s *standings) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
}

// Standing says whether a client to which something was issued is still registered, and not disabled. It is for hot paths: the answer may be
// two seconds old, and costs no read for a client of the configuration. A client whose id is the address of its metadata stands, whether
// the address answers or not, while there are such clients at all.
func (s *Clients) Standing(ctx context.Context, id string) (bool, error) {
	if c := s.static[id]; c != nil {
		return !c.Disabled, nil
	}
	if IsURL(id) {
		return s.resolve != nil, nil
	}
	now := s.o.Now()
	if stands, known := s.standings.get(id, now); known {
		return stands, nil
	}
	c, err := s.Get(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	stands := err == nil && !c.Disabled
	s.standings.put(id, stands, now.Add(standingFor))
	return stands, nil
}
