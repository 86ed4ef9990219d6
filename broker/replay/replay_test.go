package replay_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/store/storetest"
)

// Somebody who copied a proof or an assertion off the wire sends it at the same moment as its owner, to another node.
func TestOfRacingUsesOneSucceeds(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			backend := open(t, time.Now)
			nodes := []*replay.Guard{replay.New(backend), replay.New(backend)}
			var won, lost, turn atomic.Int64
			storetest.Race(64, func() {
				err := nodes[turn.Add(1)%2].Claim(t.Context(), time.Now().Add(time.Minute), "proof", "key", "jti")
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, replay.ErrReplayed):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
			if won.Load() != 1 || lost.Load() != 63 {
				t.Errorf("%d uses succeeded and %d were refused, want 1 and 63", won.Load(), lost.Load())
			}
		})
	}
}

// Values of two purposes, or parts cut elsewhere, are different things: one client cannot spend another's.
func TestUsesOfDifferentThingsDoNotMeet(t *testing.T) {
	guard := replay.New(storetest.SQLite(t, time.Now))
	until := time.Now().Add(time.Minute)
	for _, use := range [][]string{{"a", "bc", "d"}, {"a", "b", "cd"}, {"ab", "c", "d"}, {"a", "bcd"}} {
		if err := guard.Claim(t.Context(), until, use[0], use[1:]...); err != nil {
			t.Errorf("%q: %v", use, err)
		}
	}
	if used, err := guard.Used(t.Context(), "a", "bc", "d"); err != nil || !used {
		t.Errorf("used %v, %v; want true", used, err)
	}
	if used, err := guard.Used(t.Context(), "a", "x"); err != nil || used {
		t.Errorf("used %v, %v; want false", used, err)
	}
}

// Whoever judges a value by its time may have a clock that is behind that of the store, or of the node that collects what has expired: to them the value is
// still good, and it must not be forgotten that it was used.
func TestAUseIsRememberedBeyondTheClocksThatDiffer(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			var ahead atomic.Int64
			guard := replay.New(open(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
			until := time.Now().Add(10 * time.Second)
			if err := guard.Claim(t.Context(), until, "assertion", "jti"); err != nil {
				t.Fatal(err)
			}
			ahead.Store(int64(30 * time.Second)) // 20 more than it is good for
			if err := guard.Claim(t.Context(), until, "assertion", "jti"); !errors.Is(err, replay.ErrReplayed) {
				t.Errorf("used again: %v", err)
			}
			if used, err := guard.Used(t.Context(), "assertion", "jti"); err != nil || !used {
				t.Errorf("used %v, %v; want true", used, err)
			}
		})
	}
}
