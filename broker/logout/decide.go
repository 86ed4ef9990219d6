package logout

import (
	"net/http"
	"time"
)

const (
	// tokenLifetime is the most that section 2.4 recommends: time enough for a slow clock, too little to keep.
	tokenLifetime = 2 * time.Minute
	// lease is for how long a delivery that is being sent belongs to its sender: well beyond what fetch lets a POST take, so
	// that a second sender means that the first has died.
	lease = 30 * time.Second
	// firstRetry is the wait after the first failed attempt, which doubles with each further one up to maxRetry: a
	// client that restarts is told within a minute, one that is down for the night is not hammered.
	firstRetry = 10 * time.Second
	maxRetry   = time.Hour
	// giveUpAfter ends the attempts: a client that did not answer for a day has people signed in that it would have
	// had to ask about again by itself. An audit event says so.
	giveUpAfter = 24 * time.Hour
	// memory is how long an unsettled delivery is kept: beyond giveUpAfter, so that giving up is something that is done and
	// recorded, and no document just vanishes, even where no courier runs for a while.
	memory = 7 * 24 * time.Hour
	// lookMargin is added to a code's lifetime, after which nothing comes of a session any more that was not there: for a redemption
	// that was slow, and nodes whose clocks differ.
	lookMargin = 30 * time.Second
	// settledMemory is how long a settled delivery is kept: past the second look, which comes within the longest lifetime of codes (10
	// minutes) and the margin, so that it does not write the same one again; and longer than a sign-out that was pressed
	// at the same time can take.
	settledMemory = 15 * time.Minute
)

// verdict is what becomes of a delivery after an attempt.
type verdict int

const (
	delivered verdict = iota // the client took it
	refused                  // the client said that the token is no good: another would be none either
	again                    // it may work later
)

// judge decides by the answer (section 2.8): 200, or 204 as frameworks send it for an empty body; 400 for a token that the
// client does not take. Anything else, no answer included, may be an outage, which is what sending again is for.
func judge(status int, err error) verdict {
	switch {
	case err != nil:
		return again
	case status == http.StatusOK, status == http.StatusNoContent:
		return delivered
	case status == http.StatusBadRequest:
		return refused
	}
	return again
}

// backoff is the wait before the next attempt after so many. fraction, in [0, 1), is where between half of the wait and all of it this
// one lies, so that what failed together does not come back together.
func backoff(attempts int, fraction float64) time.Duration {
	wait := firstRetry
	for i := 1; i < attempts && wait < maxRetry; i++ {
		wait *= 2
	}
	wait = min(wait, maxRetry)
	return wait/2 + time.Duration(fraction*float64(wait/2))
}
