package guess

import "time"

// counter is what is remembered of one pair, address or username. The zero value has no failures.
type counter struct {
	// Until is when all failures are forgotten: each adds schedule.forget to it.
	Until time.Time `json:"until,omitzero"`
	// Next is when the next attempt may be made.
	Next time.Time `json:"next,omitzero"`
	// Waits says that Next is the wait of a stranger to a username under attack, which the next attempt uses up (pairs).
	Waits bool `json:"waits,omitempty"`
	// Known is when the right password came last (pairs).
	Known time.Time `json:"known,omitzero"`
}

// schedule says how delays grow with failures.
type schedule struct {
	free   int           // attempts before the first delay
	first  time.Duration // the first delay; each further failure doubles it
	most   time.Duration // and no delay is longer
	forget time.Duration // one failure is forgotten after so long
	keep   int           // no more failures are remembered, so that the end of an attack is the end of it
}

// MaxStrangerWait is the longest that a new address waits for its first attempt at a username, whatever others do. Long enough that a thousand addresses
// make some guess a second, not hundreds; short enough to be waited for.
const MaxStrangerWait = 15 * time.Minute

// The schedules. Ten attempts are a person who tries all passwords they ever had, with a typo in some; a known person gets twice that, since they are likely to be
// the right one. An address may be an office: 50 failures at once and one a minute are its people's typos. Thirty failures of strangers on one
// username are three people of that kind, and no person.
var (
	ofStranger = schedule{free: 10, first: 5 * time.Second, most: time.Hour, forget: time.Hour, keep: 24}
	ofKnown    = schedule{free: 20, first: 5 * time.Second, most: time.Hour, forget: time.Hour, keep: 34}
	ofAddress  = schedule{free: 50, first: 2 * time.Second, most: 15 * time.Minute, forget: time.Minute, keep: 64}
	ofUsername = schedule{free: 30, first: 5 * time.Second, most: MaxStrangerWait, forget: 10 * time.Minute, keep: 60}
)

// rememberKnown is how long an address stays known after the last good login from it: a quarter, as browsers' sessions do at most.
const rememberKnown = 90 * 24 * time.Hour

// keepTurn is how long a stranger who has waited may take to come back: a day, for a person who was told to come back in a quarter of an hour.
const keepTurn = 24 * time.Hour

// failures are those that are not forgotten yet.
func (s schedule) failures(c *counter, now time.Time) int {
	left := c.Until.Sub(now)
	if left <= 0 {
		return 0
	}
	return int((left + s.forget - 1) / s.forget)
}

// delay is the wait after so many failures.
func (s schedule) delay(failures int) time.Duration {
	if failures < s.free {
		return 0
	}
	d := s.first
	for range failures - s.free {
		if d *= 2; d >= s.most {
			return s.most
		}
	}
	return d
}

// count adds a failure, and the wait that follows from it.
func (s schedule) count(c *counter, now time.Time) {
	if c.Until.Before(now) {
		c.Until = now
	}
	c.Until = c.Until.Add(s.forget)
	if most := now.Add(time.Duration(s.keep) * s.forget); c.Until.After(most) {
		c.Until = most
	}
	// No delay is no time at all, rather than now: on a node whose clock is behind, or in a request that began a moment before, now is yet to come.
	c.Next = time.Time{}
	if d := s.delay(s.failures(c, now)); d > 0 {
		c.Next = now.Add(d)
	}
}

// forgive takes a failure back that was none. The wait stays: it may be the next attempt's, not this one's.
func (s schedule) forgive(c *counter) {
	if !c.Until.IsZero() {
		c.Until = c.Until.Add(-s.forget)
	}
}

// wait is how long the next attempt has to wait.
func (c *counter) wait(now time.Time) time.Duration { return max(0, c.Next.Sub(now)) }

func (c *counter) known(now time.Time) bool {
	return !c.Known.IsZero() && now.Before(c.Known.Add(rememberKnown))
}

// gone is when nothing of the counter matters any more.
func (c *counter) gone() time.Time {
	end := c.Until
	if c.Next.After(end) {
		end = c.Next
	}
	if c.Waits {
		end = c.Next.Add(keepTurn)
	}
	if !c.Known.IsZero() {
		if known := c.Known.Add(rememberKnown); known.After(end) {
			end = known
		}
	}
	return end
}

// pairSchedule is the one that a pair is under.
func pairSchedule(c *counter, now time.Time) schedule {
	if c.known(now) {
		return ofKnown
	}
	return ofStranger
}

// admitStranger counts a stranger's attempt at a username. If too many strangers have failed, and this one has not waited yet, the attempt is not counted, and
// the answer is how long to wait.
func admitStranger(username *counter, waited bool, now time.Time) time.Duration {
	if wait := ofUsername.delay(ofUsername.failures(username, now)); wait > 0 && !waited {
		return wait
	}
	ofUsername.count(username, now)
	username.Next = time.Time{} // each address has a wait of its own
	return 0
}
