package throttle

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

var limit = Limit{Free: 3, First: 10 * time.Second, Max: time.Minute, Memory: time.Hour}

func TestTheDelayDoublesBeyondTheFreeTriesUpToItsBound(t *testing.T) {
	last := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		count int
		since time.Duration
		want  time.Duration
	}{
		{0, 0, 0},
		{3, 0, 0},
		{4, 0, 10 * time.Second},
		{4, 4 * time.Second, 6 * time.Second},
		{4, 10 * time.Second, 0},
		{5, 0, 20 * time.Second},
		{6, 0, 40 * time.Second},
		{7, 0, time.Minute},
		{1 << 40, 0, time.Minute}, // neither an overflow nor a long loop
		{4, -time.Second, 11 * time.Second},
	} {
		if got := limit.Wait(Tries{Count: c.count, Last: last}, last.Add(c.since)); got != c.want {
			t.Errorf("%d tries, %s ago: wait %s, want %s", c.count, c.since, got, c.want)
		}
	}
}

// A guesser sends all guesses at once, so that none is refused for those before it: no more pass than are free, over however many
// nodes the guesses are spread.
func TestOfAHundredTriesAtOnceOnlyTheFreeOnesPass(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend, now func() time.Time, _ func(time.Duration)) {
		nodes := []*Throttle{New(b, now), New(b, now)}
		var passed, n atomic.Int64
		storetest.Race(100, func() {
			wait, err := nodes[n.Add(1)%2].Try(t.Context(), "test", "192.0.2.1", limit)
			if err != nil {
				t.Error(err)
			}
			if err == nil && wait == 0 {
				passed.Add(1)
			}
		})
		// The one beyond the free ones has its delay after it.
		if passed.Load() != int64(limit.Free)+1 {
			t.Errorf("%d tries passed, want %d", passed.Load(), limit.Free+1)
		}
	})
}

func TestTriesAreForgivenAndForgottenAndKeptApart(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend, now func() time.Time, advance func(time.Duration)) {
		s := New(b, now)
		try := func(purpose, value string) time.Duration {
			t.Helper()
			wait, err := s.Try(t.Context(), purpose, value, limit)
			if err != nil {
				t.Fatal(err)
			}
			return wait
		}
		for range 20 { // what is forgiven costs nothing
			if wait := try("test", "kind"); wait != 0 {
				t.Fatalf("a forgiven try waits %s", wait)
			}
			if err := s.Forgive(t.Context(), "test", "kind"); err != nil {
				t.Fatal(err)
			}
		}
		for range limit.Free + 1 {
			try("test", "a")
		}
		if wait := try("test", "a"); wait == 0 {
			t.Error("a fifth try does not wait")
		}
		if wait, err := s.Wait(t.Context(), "test", "a", limit); err != nil || wait == 0 {
			t.Errorf("Wait says %s, %v", wait, err)
		}
		if try("test", "b") != 0 || try("other", "a") != 0 {
			t.Error("another value, or another purpose, waits for the first")
		}
		// Waiting is enough: what was refused did not count.
		advance(limit.First)
		if wait := try("test", "a"); wait != 0 {
			t.Errorf("after its delay the next try waits %s", wait)
		}
		advance(limit.Memory)
		if wait, err := s.Wait(t.Context(), "test", "a", limit); err != nil || wait != 0 {
			t.Errorf("tries are not forgotten: %s, %v", wait, err)
		}
		if err := s.Forgive(t.Context(), "test", "a"); err != nil {
			t.Errorf("forgiving what is forgotten: %v", err)
		}
	})
}

// Whoever has one IPv6 address has 2^64 of them.
func TestAddressesOfOneSubscriberCountAsOne(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:db8:1:2::1": "2001:db8:1:2::/64", "2001:db8:1:2:ffff:ffff:ffff:ffff": "2001:db8:1:2::/64",
	} {
		if got := Address(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

func each(t *testing.T, f func(t *testing.T, b store.Backend, now func() time.Time, advance func(time.Duration))) {
	t.Helper()
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			var offset atomic.Int64
			now := func() time.Time {
				return time.Now().Add(time.Duration(offset.Load())).UTC().Truncate(time.Millisecond)
			}
			f(t, open(t, now), now, func(d time.Duration) { offset.Add(int64(d)) })
		})
	}
}
