package quota_test

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/quota"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

func each(t *testing.T, f func(t *testing.T, b store.Backend, now *atomic.Int64)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			var now atomic.Int64
			now.Store(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
			f(t, open(t, clock(&now)), &now)
		})
	}
}

func clock(now *atomic.Int64) func() time.Time {
	return func() time.Time { return time.UnixMilli(now.Load()).UTC() }
}

// A burst is allowed up to the bound, and then what time gives back: an attacker who waits for the turn of the hour gains nothing.
func TestUsesAreBoundedAndGivenBackOneByOne(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend, now *atomic.Int64) {
		q := quota.New(b, clock(now))
		take := func(key string) error { return q.Take(t.Context(), "test", key, 4, time.Hour) }
		for i := range 4 {
			if err := take("a"); err != nil {
				t.Fatalf("use %d: %v", i, err)
			}
		}
		var exceeded *quota.Exceeded
		if err := take("a"); !errors.Is(err, quota.ErrExceeded) || !errors.As(err, &exceeded) || exceeded.RetryAfter != 15*time.Minute {
			t.Fatalf("a fifth use: %v", err)
		}
		if err := take("b"); err != nil {
			t.Errorf("another key: %v", err)
		}
		now.Add((15 * time.Minute).Milliseconds())
		if err := take("a"); err != nil {
			t.Errorf("after a quarter of the hour: %v", err)
		}
		if err := take("a"); !errors.Is(err, quota.ErrExceeded) {
			t.Errorf("twice after a quarter of the hour: %v", err)
		}
		now.Add((2 * time.Hour).Milliseconds())
		for i := range 4 {
			if err := take("a"); err != nil {
				t.Fatalf("after a rest, use %d: %v", i, err)
			}
		}
	})
}

// Many requests at the same moment, to different nodes, are no way around the bound.
func TestRacingUsesNeverExceedTheBound(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend, now *atomic.Int64) {
		nodes := []*quota.Quota{quota.New(b, clock(now)), quota.New(b, clock(now))}
		var taken, turn atomic.Int64
		storetest.Race(32, func() {
			switch err := nodes[turn.Add(1)%2].Take(t.Context(), "test", "a", 5, time.Hour); {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, quota.ErrExceeded):
				t.Error(err)
			}
		})
		if taken.Load() < 1 || taken.Load() > 5 {
			t.Errorf("%d uses passed, want at most 5", taken.Load())
		}
	})
}

// Who has an IPv6 network has more addresses than anybody could count.
func TestAddressKey(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1":      "2001:db8:1:2::/64",
	} {
		if got := quota.AddressKey(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if quota.AddressKey(netip.Addr{}) == "" {
		t.Error("an unknown address has no key")
	}
}
