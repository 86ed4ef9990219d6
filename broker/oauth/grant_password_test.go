package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/password"
)

// What went wrong decides whether the client is to ask the person again, to wait, or to report a fault; never whose account it was.
func TestWhatAClientIsToldOfARefusedPassword(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   string
		status int
		retry  time.Duration
	}{
		{local.ErrWrong, "invalid_grant", http.StatusBadRequest, 0},
		{fmt.Errorf("wrapped: %w", local.ErrWrong), "invalid_grant", http.StatusBadRequest, 0},
		{&guess.Delayed{Wait: 90 * time.Second, Of: "username"}, "temporarily_unavailable", http.StatusTooManyRequests, 90 * time.Second},
		{errors.Join(password.ErrBusy, nil), "temporarily_unavailable", http.StatusServiceUnavailable, busyWait},
		{errors.New("the store is down"), "server_error", http.StatusInternalServerError, 0},
	} {
		e := passwordRefusal(c.err)
		if e.Code != c.code || e.Status != c.status || e.RetryAfter != c.retry || !errors.Is(e, c.err) {
			t.Errorf("%v: %d %s, again in %s, cause %v", c.err, e.Status, e.Code, e.RetryAfter, e.Cause)
		}
	}
	for wait, want := range map[time.Duration]int64{time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, time.Hour: 3600} {
		if got := retrySeconds(wait); got != want {
			t.Errorf("%s is %d seconds, want %d: who comes back then must not be too early", wait, got, want)
		}
	}
}
