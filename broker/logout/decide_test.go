package logout

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/store"
)

// Section 2.8: 200 is success, and 204 as frameworks make of it; 400 says that the token is no good. Nothing else says that the app
// knows.
func TestWhatAnAnswerMeans(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		err    error
		want   verdict
	}{
		"ok": {200, nil, delivered}, "no content": {204, nil, delivered}, "bad request": {400, nil, refused},
		"accepted for later": {202, nil, again}, "redirect": {302, nil, again}, "not found": {404, nil, again}, "unauthorized": {401, nil, again},
		"too many": {429, nil, again}, "broken": {500, nil, again}, "not implemented": {501, nil, again}, "away": {503, nil, again}, "gateway": {504, nil, again},
		"no answer": {0, errors.New("connection refused"), again}, "an error with a status": {200, errors.New("cut off"), again},
	} {
		if got := judge(test.status, test.err); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestWaitsDoubleUpToABoundAndAreSpread(t *testing.T) {
	for attempts, most := range map[int]time.Duration{
		1: 10 * time.Second, 2: 20 * time.Second, 5: 160 * time.Second, 9: 2560 * time.Second, 10: time.Hour, 100: time.Hour, 1 << 30: time.Hour,
	} {
		if got := backoff(attempts, 0); got != most/2 {
			t.Errorf("%d attempts: at least %s, want %s", attempts, got, most/2)
		}
		if got := backoff(attempts, 0.999999); got > most || got < most*99/100 {
			t.Errorf("%d attempts: at most %s, want nearly %s", attempts, got, most)
		}
	}
	// A failing app is tried often enough within the time there is, and no more often than that.
	attempts, spent := 0, time.Duration(0)
	for spent < giveUpAfter {
		attempts++
		spent += backoff(attempts, 1)
	}
	if attempts < 20 || attempts > 60 {
		t.Errorf("%d attempts in all", attempts)
	}
}

// Two different ends of sessions must never be one event, nor one towards two clients.
func TestEventsAreNamedBySessionAndGrant(t *testing.T) {
	seen := map[string]bool{}
	for _, pair := range [][2]string{{"s", "g"}, {"sg", ""}, {"", "sg"}, {"g", "s"}, {"s", "g2"}, {"s2", "g"}} {
		id := eventID(pair[0], pair[1])
		if seen[id] {
			t.Errorf("%q has the name of another", pair)
		}
		seen[id] = true
	}
}

// The newest grant is what makes the end of a sign-in news. Without openid a client knows of none.
func TestTheNewestGrantOfEachSignInCounts(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	doc := func(id, client, sid string, age time.Duration, scopes ...string) *grant.Doc {
		return &grant.Doc{Meta: store.Meta{ID: id}, Value: grant.Grant{ClientID: client, SessionID: sid, CreatedAt: at.Add(-age), Scopes: scopes}}
	}
	grants := []*grant.Doc{
		doc("1", "b", "s", time.Hour, "openid"), doc("2", "b", "s", 0, "openid"), doc("3", "b", "s", time.Minute, "openid"),
		doc("4", "a", "s2", 0, "openid"), doc("5", "a", "s", 0, "openid"), doc("6", "a", "s", 0, "profile", "openid"), doc("7", "c", "s", 0, "profile"),
	}
	var got []string
	newest := newestSignIns(grants)
	for _, k := range sorted(newest) {
		got = append(got, k.clientID+" "+k.sid+" "+newest[k].ID)
	}
	if want := []string{"a s 6", "a s2 4", "b s 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
