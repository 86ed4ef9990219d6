package guess

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func each(t *testing.T, f func(t *testing.T, th *Throttle, c *clock, b store.Backend)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			b := open(t, c.Now)
			f(t, New(b, c.Now), c, b)
		})
	}
}

// bot is the i-th of an attacker's addresses.
func bot(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }

var home = netip.MustParseAddr("192.0.2.7")

// fail makes an attempt with a wrong password: 0 if it was let through, else the wait.
func fail(t *testing.T, th *Throttle, username string, addr netip.Addr) time.Duration {
	t.Helper()
	_, err := th.Begin(t.Context(), username, addr)
	var early *Delayed
	switch {
	case err == nil:
		return 0
	case errors.As(err, &early):
		if early.Wait <= 0 {
			t.Errorf("told to wait for %s", early.Wait)
		}
		return early.Wait
	}
	t.Fatal(err)
	return 0
}

// succeed makes an attempt with the right password.
func succeed(t *testing.T, th *Throttle, username string, addr netip.Addr) time.Duration {
	t.Helper()
	a, err := th.Begin(t.Context(), username, addr)
	var early *Delayed
	if errors.As(err, &early) {
		return early.Wait
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Succeeded(t.Context()); err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestDelaysGrowAndHaveAnEnd(t *testing.T) {
	for _, c := range []struct {
		s        schedule
		failures int
		want     time.Duration
	}{
		{ofStranger, 9, 0},
		{ofStranger, 10, 5 * time.Second},
		{ofStranger, 11, 10 * time.Second},
		{ofStranger, 15, 160 * time.Second},
		{ofStranger, 19, 2560 * time.Second},
		{ofStranger, 20, time.Hour},
		{ofStranger, 1 << 30, time.Hour},
		{ofKnown, 19, 0},
		{ofKnown, 20, 5 * time.Second},
		{ofUsername, 29, 0},
		{ofUsername, 60, MaxStrangerWait},
		{ofAddress, 49, 0},
		{ofAddress, 64, 15 * time.Minute},
	} {
		if got := c.s.delay(c.failures); got != c.want {
			t.Errorf("after %d failures: %s, want %s", c.failures, got, c.want)
		}
	}
	// Every schedule remembers enough failures to reach its longest delay, and no more than it has a use for.
	for name, s := range map[string]schedule{"stranger": ofStranger, "known": ofKnown, "address": ofAddress, "username": ofUsername} {
		if s.delay(s.keep) != s.most {
			t.Errorf("%s: %d failures are remembered, and only %s comes of it", name, s.keep, s.delay(s.keep))
		}
		now := newClock().Now()
		var c counter
		for range 10 * s.keep {
			s.count(&c, now)
		}
		if got := s.failures(&c, now); got != s.keep {
			t.Errorf("%s: %d failures are kept, want %d", name, got, s.keep)
		}
		if got := s.failures(&c, now.Add(time.Duration(s.keep)*s.forget)); got != 0 {
			t.Errorf("%s: %d failures are never forgotten", name, got)
		}
	}
}

func TestAnAddressThatKeepsFailingWaitsLongerAndLonger(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		guesses, begun := 0, c.Now()
		for c.Now().Sub(begun) < 24*time.Hour {
			if wait := fail(t, th, "victim", home); wait > 0 {
				if again := fail(t, th, "victim", home); again != wait {
					t.Fatalf("to ask again prolongs the wait from %s to %s", wait, again)
				}
				c.advance(wait)
				continue
			}
			guesses++
		}
		// What the package promises, and the guide says.
		if guesses < 40 || guesses > 48 {
			t.Errorf("%d guesses in the first day, want about 45", guesses)
		}
		second := 0
		for c.Now().Sub(begun) < 48*time.Hour {
			if wait := fail(t, th, "victim", home); wait > 0 {
				c.advance(wait)
				continue
			}
			second++
		}
		if second < 23 || second > 25 {
			t.Errorf("%d guesses in the second day, want 24", second)
		}
	})
}

// The attack that throttling by account invites: fail on purpose, from as many places as it takes, until the owner cannot sign in.
func TestNobodyIsLockedOutByAnAttackFromManyAddresses(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		if wait := succeed(t, th, "victim", home); wait > 0 {
			t.Fatalf("the first login waits for %s", wait)
		}
		for i := range 200 {
			fail(t, th, "victim", bot(i))
		}
		if wait := succeed(t, th, "victim", home); wait > 0 {
			t.Errorf("the owner, from where they always are, waits for %s", wait)
		}
		// From a new place, with the attack going on all the time.
		travelling := netip.MustParseAddr("198.51.100.1")
		wait := succeed(t, th, "victim", travelling)
		if wait <= 0 || wait > MaxStrangerWait {
			t.Fatalf("a new place waits for %s, want some time up to %s", wait, MaxStrangerWait)
		}
		begun := c.Now()
		for c.Now().Sub(begun) < wait {
			c.advance(wait / 10)
			for i := range 20 {
				fail(t, th, "victim", bot(i))
			}
		}
		for i := range 50 {
			fail(t, th, "victim", bot(1000+i))
		}
		if again := succeed(t, th, "victim", travelling); again > 0 {
			t.Errorf("having waited for %s, a new place waits again, for %s", wait, again)
		}
		if again := succeed(t, th, "victim", travelling); again > 0 {
			t.Errorf("known by now, it waits for %s", again)
		}
	})
}

// A turn that was waited for lasts: an earlier draft forgot it the moment the wait was over, and the wait began anew for ever.
func TestWhoHasWaitedMayComeBackLater(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		for i := range 100 {
			fail(t, th, "victim", bot(i))
		}
		wait := fail(t, th, "victim", home)
		if wait == 0 {
			t.Fatal("no wait during an attack")
		}
		c.advance(wait + 3*time.Hour)
		for i := range 100 {
			fail(t, th, "victim", bot(1000+i))
		}
		if again := succeed(t, th, "victim", home); again > 0 {
			t.Errorf("it waits again, for %s", again)
		}
	})
}

// Each address has its own turn, once: many addresses guess no faster than each of them may.
func TestManyAddressesTogetherHaveToWaitEach(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		const bots = 60
		guess := func() (guesses int) {
			for i := range bots {
				if fail(t, th, "victim", bot(i)) == 0 {
					guesses++
				}
			}
			return guesses
		}
		if first := guess(); first != ofUsername.free {
			t.Errorf("%d guesses at once, want %d", first, ofUsername.free)
		}
		if again := guess(); again != 0 {
			t.Errorf("%d more at the same time", again)
		}
		c.advance(MaxStrangerWait)
		if later := guess(); later > bots {
			t.Errorf("%d guesses after the wait, want one for each address", later)
		}
		if again := guess(); again != 0 {
			t.Errorf("%d more without waiting again", again)
		}
	})
}

// One password tried on many accounts is a guess too.
func TestOneAddressCannotTryManyAccounts(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		if wait := succeed(t, th, "colleague", home); wait > 0 {
			t.Fatal(wait)
		}
		guesses := 0
		for i := range 3 * ofAddress.free {
			if fail(t, th, fmt.Sprint("user", i), home) == 0 {
				guesses++
			}
		}
		if guesses != ofAddress.free {
			t.Errorf("%d accounts were tried at once, want %d", guesses, ofAddress.free)
		}
		// Who has signed in from this address before is not made to wait for it.
		if wait := succeed(t, th, "colleague", home); wait > 0 {
			t.Errorf("a colleague waits for %s", wait)
		}
		if fail(t, th, "somebody", bot(1)) > 0 {
			t.Error("another address has to wait")
		}
		c.advance(time.Duration(ofAddress.keep) * ofAddress.forget)
		if wait := fail(t, th, "new", home); wait > 0 {
			t.Errorf("long after the attack somebody new waits for %s", wait)
		}
	})
}

// An IPv6 subscriber has 2^64 addresses or more: they are one.
func TestAnIPv6NetworkIsOneAddress(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, _ *clock, _ store.Backend) {
		guesses := 0
		for i := range 3 * ofStranger.free {
			if fail(t, th, "victim", netip.MustParseAddr(fmt.Sprintf("2001:db8:1:1:%x::1", i+1))) == 0 {
				guesses++
			}
		}
		if guesses != ofStranger.free {
			t.Errorf("%d guesses from one /64, want %d", guesses, ofStranger.free)
		}
		if fail(t, th, "victim", netip.MustParseAddr("2001:db8:1:2::1")) > 0 {
			t.Error("the next /64 has to wait")
		}
		// An IPv4 address is one, however it is written.
		for range ofStranger.free {
			fail(t, th, "another", home)
		}
		if fail(t, th, "another", netip.MustParseAddr("::ffff:192.0.2.7")) == 0 {
			t.Error("an IPv4 address in IPv6 is another place")
		}
	})
}

// Guesses that race see no wait that is not there yet: each is counted before any is looked at, by compare-and-swap.
func TestRacingGuessesDoNotExceedTheBudget(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, _ *clock, _ store.Backend) {
		var guesses atomic.Int64
		storetest.Race(48, func() {
			_, err := th.Begin(t.Context(), "victim", home)
			var early *Delayed
			switch {
			case err == nil:
				guesses.Add(1)
			case !errors.As(err, &early):
				t.Error(err)
			}
		})
		if n := int(guesses.Load()); n > ofStranger.free || n == 0 {
			t.Errorf("%d racing guesses from one address, want 1 to %d", n, ofStranger.free)
		}

		guesses.Store(0)
		var i atomic.Int64
		storetest.Race(64, func() {
			_, err := th.Begin(t.Context(), "another victim", bot(int(i.Add(1))))
			var early *Delayed
			switch {
			case err == nil:
				guesses.Add(1)
			case !errors.As(err, &early):
				t.Error(err)
			}
		})
		if n := int(guesses.Load()); n > ofUsername.free || n == 0 {
			t.Errorf("%d racing guesses from as many addresses, want 1 to %d", n, ofUsername.free)
		}
	})
}

// A turn that was waited for is one attempt, not one for each request that races for it.
func TestATurnIsUsedOnce(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		for i := range 100 {
			fail(t, th, "victim", bot(i))
		}
		c.advance(fail(t, th, "victim", home))
		var guesses atomic.Int64
		storetest.Race(16, func() {
			if _, err := th.Begin(t.Context(), "victim", home); err == nil {
				guesses.Add(1)
			}
		})
		if n := guesses.Load(); n != 1 {
			t.Errorf("a turn was good for %d guesses", n)
		}
	})
}

// People who sign in and out all day have no failures, however often and from wherever they do.
func TestGoodLoginsCostNothing(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, _ *clock, _ store.Backend) {
		for i := range 3 * ofUsername.free {
			if wait := succeed(t, th, "traveller", bot(i)); wait > 0 {
				t.Fatalf("login %d of a traveller waits for %s", i+1, wait)
			}
		}
		for i := range 3 * ofAddress.free {
			if wait := succeed(t, th, fmt.Sprint("user", i), home); wait > 0 {
				t.Fatalf("login %d from an office waits for %s", i+1, wait)
			}
		}
		// A typo now and then.
		for i := range 5 * ofKnown.free {
			fail(t, th, "traveller", bot(0))
			if wait := succeed(t, th, "traveller", bot(0)); wait > 0 {
				t.Fatalf("after typo %d: %s", i+1, wait)
			}
		}
	})
}

// Two nodes' clocks differ, and a request reads its clock before another one writes: an attempt without a delay after it must delay none.
func TestAClockThatIsBehindDelaysNobody(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		fail(t, th, "somebody", home)
		c.advance(-5 * time.Second)
		if wait := fail(t, th, "somebody", home); wait > 0 {
			t.Errorf("an attempt waits for %s because of one that had no delay", wait)
		}
		c.advance(5 * time.Second)
		succeed(t, th, "somebody", home)
		c.advance(-5 * time.Second)
		if wait := succeed(t, th, "somebody", home); wait > 0 {
			t.Errorf("a good login waits for %s because of another", wait)
		}
	})
}

// A known address has a larger budget, not an endless one: its computer can be stolen.
func TestAKnownAddressIsThrottledToo(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, _ *clock, _ store.Backend) {
		succeed(t, th, "victim", home)
		guesses := 0
		for range 3 * ofKnown.free {
			if fail(t, th, "victim", home) == 0 {
				guesses++
			}
		}
		if guesses != ofKnown.free {
			t.Errorf("%d guesses, want %d", guesses, ofKnown.free)
		}
	})
}

// An attempt whose password could not be looked at costs nothing: an overloaded broker must not throttle those it turned away.
func TestACancelledAttemptCostsNothing(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, _ store.Backend) {
		try := func(username string) {
			t.Helper()
			a, err := th.Begin(t.Context(), username, home)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * ofAddress.free {
			try("somebody")
		}
		// A turn that was waited for is given back too.
		for i := range 100 {
			fail(t, th, "victim", bot(i))
		}
		c.advance(fail(t, th, "victim", home))
		try("victim")
		if wait := succeed(t, th, "victim", home); wait > 0 {
			t.Errorf("the turn is gone: %s", wait)
		}
	})
}

// Counters are strangers' work: they go by themselves.
func TestCountersExpire(t *testing.T) {
	each(t, func(t *testing.T, th *Throttle, c *clock, b store.Backend) {
		for i := range 40 {
			fail(t, th, "victim", bot(i))
		}
		succeed(t, th, "owner", home)
		c.advance(48 * time.Hour)
		left, err := store.NewCollection[counter](b, "attempts").List(t.Context(), store.Query{})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 1 || left[0].Value.Known.IsZero() {
			t.Errorf("%d counters are left, want the known address alone", len(left))
		}
		c.advance(rememberKnown)
		if left, err = store.NewCollection[counter](b, "attempts").List(t.Context(), store.Query{}); err != nil || len(left) != 0 {
			t.Errorf("%d counters are left for ever, %v", len(left), err)
		}
	})
}
