package device

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

func TestWhatADeviceThatPollsIsTold(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, c := range []struct {
		name     string
		a        Authorization
		now      time.Duration
		want     Verdict
		changed  bool
		interval int64
	}{
		{"the first poll, at once", Authorization{}, 0, Pending, true, 5},
		{"a poll after the interval", Authorization{PolledAt: at(0)}, 5 * time.Second, Pending, true, 5},
		{"a poll that the network made early", Authorization{PolledAt: at(0)}, 4500 * time.Millisecond, Pending, true, 5},
		{"a poll too early", Authorization{PolledAt: at(0)}, 4 * time.Second, SlowDown, true, 10},
		{"a poll from a node whose clock is behind", Authorization{PolledAt: at(2 * time.Second)}, 0, SlowDown, true, 10},
		{"the old interval after a slow_down", Authorization{PolledAt: at(0), Interval: 10}, 5 * time.Second, SlowDown, true, 15},
		{"the longest interval grows no more", Authorization{PolledAt: at(0), Interval: 60}, 5 * time.Second, SlowDown, false, 60},
		{"a configured interval beyond it stays", Authorization{PolledAt: at(0), Interval: 90}, 5 * time.Second, SlowDown, false, 90},
		{"approved", Authorization{Answer: Approved, AnsweredAt: at(0)}, time.Second, Fetch, false, 5},
		{"approved: nobody is told to slow down any more", Authorization{Answer: Approved, AnsweredAt: at(0), PolledAt: at(0)}, time.Second, Fetch, false, 5},
		{"denied", Authorization{Answer: Denied, AnsweredAt: at(0)}, time.Second, Refused, false, 5},
		{"expired to the millisecond", Authorization{}, 10 * time.Minute, Expired, false, 5},
		{"a millisecond before", Authorization{}, 10*time.Minute - time.Millisecond, Pending, true, 5},
		{"approved in the last moment", Authorization{Answer: Approved, AnsweredAt: at(10*time.Minute - time.Second)}, 10*time.Minute + 58*time.Second, Fetch, false, 5},
		{"and no later", Authorization{Answer: Approved, AnsweredAt: at(10*time.Minute - time.Second)}, 10*time.Minute + 59*time.Second, Expired, false, 5},
		{"approved long ago", Authorization{Answer: Approved, AnsweredAt: at(time.Minute)}, 10 * time.Minute, Expired, false, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := c.a
			a.ExpiresAt = at(10 * time.Minute)
			if a.Interval == 0 {
				a.Interval = 5
			}
			verdict, changed := a.Poll(at(c.now))
			if verdict != c.want || changed != c.changed || a.Interval != c.interval {
				t.Errorf("verdict %d, changed %v, interval %d; want %d, %v, %d", verdict, changed, a.Interval, c.want, c.changed, c.interval)
			}
		})
	}
}

// What a device that does not listen can make the store write is bounded, however often it polls.
func TestAHundredPollsAtOnceAreOnePollAndAFewSlowDowns(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		doc, _, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		var pending, slow atomic.Int64
		storetest.Race(100, func() {
			switch _, verdict, err := w.s.Poll(t.Context(), Handle(doc), "tv"); {
			case err != nil:
				t.Error(err)
			case verdict == Pending:
				pending.Add(1)
			case verdict == SlowDown:
				slow.Add(1)
			}
		})
		if pending.Load() != 1 || slow.Load() != 99 {
			t.Errorf("%d polls were in time and %d too early, want 1 and 99", pending.Load(), slow.Load())
		}
		after, err := w.s.Get(t.Context(), Handle(doc))
		if err != nil {
			t.Fatal(err)
		}
		if after.Value.Interval != 60 || after.Rev != 1+1+11 {
			t.Errorf("the interval is %d s, and the document was written %d times", after.Value.Interval, after.Rev)
		}
	})
}

// Two people, or two nodes, answer at once: one answer holds, and the same button pressed twice is no second answer.
func TestACodeIsAnsweredOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		doc, code, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		var answered, refused, n atomic.Int64
		storetest.Race(100, func() {
			i := n.Add(1)
			answer, by := Approved, "flow-"+string(rune('a'+i%26))+string(rune('a'+i/26))
			if i%2 == 0 {
				answer = Denied
			}
			switch _, err := w.s.Answer(t.Context(), Handle(doc), by, answer, &flow.SignIn{AccountID: by}); {
			case err == nil:
				answered.Add(1)
			case errors.Is(err, ErrAnswered):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		if answered.Load() != 1 || refused.Load() != 99 {
			t.Fatalf("%d answers were taken and %d refused, want 1 and 99", answered.Load(), refused.Load())
		}
		if _, err := w.s.Find(t.Context(), code); !errors.Is(err, ErrAnswered) {
			t.Errorf("the code of an answered authorization is found: %v", err)
		}
		polled, _, err := w.s.Poll(t.Context(), Handle(doc), "tv")
		if err != nil {
			t.Fatal(err)
		}
		a := polled.Value
		if _, err := w.s.Answer(t.Context(), Handle(doc), a.AnsweredBy, a.Answer, nil); err != nil {
			t.Errorf("the same answer of the same flow: %v", err)
		}
		other := Denied
		if a.Answer == Denied {
			other = Approved
		}
		if _, err := w.s.Answer(t.Context(), Handle(doc), a.AnsweredBy, other, nil); !errors.Is(err, ErrAnswered) {
			t.Errorf("the flow that answered changes its mind: %v", err)
		}
	})
}

// Two devices must never show the same code, or a person would connect the other one.
func TestACodeInUseIsNotGivenTwice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		codes := []string{"BBBBBBBB", "BBBBBBBB", "CCCCCCCC"}
		w.code = func() string { c := codes[0]; codes = codes[1:]; return c }
		first, one, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		second, two, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		if one != "BBBBBBBB" || two != "CCCCCCCC" || first.ID == second.ID {
			t.Errorf("the codes are %s and %s", one, two)
		}
		w.code = func() string { return "BBBBBBBB" }
		if _, _, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{}); !errors.Is(err, store.ErrExists) {
			t.Errorf("with no code left: %v", err)
		}
	})
}

// A code comes up again after it has expired. The device code of its first life must not fetch what a person then allows another
// device, nor a flow of the first answer for the second.
func TestACodeThatComesUpAgainIsAnotherAuthorization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.code = func() string { return "BBBBBBBB" }
		first, _, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(10 * time.Minute)
		if _, err := w.s.Find(t.Context(), "BBBBBBBB"); !errors.Is(err, ErrExpired) {
			t.Fatalf("an expired code is found: %v", err)
		}
		second, _, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.s.Answer(t.Context(), Handle(first), "flow-1", Approved, nil); !errors.Is(err, ErrExpired) {
			t.Errorf("the first authorization's flow answers the second: %v", err)
		}
		if _, err := w.s.Answer(t.Context(), Handle(second), "flow-2", Approved, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.s.Poll(t.Context(), Handle(first), "tv"); !errors.Is(err, ErrExpired) {
			t.Errorf("the first device polls the second's authorization: %v", err)
		}
		if _, verdict, err := w.s.Poll(t.Context(), Handle(second), "tv"); err != nil || verdict != Fetch {
			t.Errorf("the second device: %d, %v", verdict, err)
		}
	})
}

// The person was told that it is done; the device, which asks once an interval, must still find it.
func TestAnAnswerInTheLastMomentReachesTheDevice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		doc, _, err := w.s.Start(t.Context(), flow.Request{ClientID: "tv"}, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(10*time.Minute - 2*time.Second)
		if _, err := w.s.Answer(t.Context(), Handle(doc), "flow-1", Approved, &flow.SignIn{AccountID: "a"}); err != nil {
			t.Fatal(err)
		}
		w.advance(30 * time.Second)
		if got, verdict, err := w.s.Poll(t.Context(), Handle(doc), "tv"); err != nil || verdict != Fetch || got.Value.SignIn.AccountID != "a" {
			t.Errorf("half a minute later: %d, %v", verdict, err)
		}
		w.advance(time.Minute)
		if _, _, err := w.s.Poll(t.Context(), Handle(doc), "tv"); !errors.Is(err, ErrExpired) {
			t.Errorf("a minute after that: %v", err)
		}
	})
}

func FuzzHandle(f *testing.F) {
	f.Add("")
	f.Add("0123456789abcdef0123456789abcdef")
	f.Add("0123456789abcdef0123456789abcdefx")
	f.Fuzz(func(t *testing.T, handle string) {
		key, id, ok := parseHandle(handle)
		if ok && (key+id != handle || len(key) != digestChars || id == "") {
			t.Errorf("%q is %q and %q", handle, key, id)
		}
	})
}

// world is a store of authorizations on a clock that the test moves.
type world struct {
	s       *Authorizations
	code    func() string
	advance func(time.Duration)
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			var offset atomic.Int64
			begun := time.Now().UTC().Truncate(time.Millisecond)
			now := func() time.Time { return begun.Add(time.Duration(offset.Load())) }
			w := &world{code: NewUserCode, advance: func(d time.Duration) { offset.Add(int64(d)) }}
			w.s = New(open(t, now), Options{
				Lifetime: 10 * time.Minute, Interval: 5 * time.Second, Now: now,
				NewID: token.NewID, NewUserCode: func() string { return w.code() },
			})
			f(t, w)
		})
	}
}
