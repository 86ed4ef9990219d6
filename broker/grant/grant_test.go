package grant_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/store/storetest"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestJudgeDecidesByGenerationAndTime(t *testing.T) {
	limits := grant.Limits{Grace: 30 * time.Second, Idle: 24 * time.Hour, Absolute: 30 * 24 * time.Hour}
	live := grant.Grant{CreatedAt: start, Generation: 5, RotatedAt: start}
	revoked := live
	revoked.RevokedAt = start
	without := live
	without.Generation = 0
	for _, c := range []struct {
		name       string
		grant      grant.Grant
		generation int64
		after      time.Duration
		limits     grant.Limits
		want       grant.Verdict
	}{
		{"the current token rotates", live, 5, time.Minute, limits, grant.Rotate},
		{"the previous one, at once, repeats: a lost response or two racing tabs", live, 4, 0, limits, grant.Repeat},
		{"the previous one, inside the grace window, repeats", live, 4, 30*time.Second - time.Millisecond, limits, grant.Repeat},
		{"the previous one, when the window has closed, was stolen or replayed", live, 4, 30 * time.Second, limits, grant.Reused},
		{"the one before the previous is reuse even inside the window", live, 3, 0, limits, grant.Reused},
		{"the very first is reuse", live, 1, 0, limits, grant.Reused},
		{"a generation that was never issued is dead", live, 6, 0, limits, grant.Dead},
		{"generation 0 is no token", live, 0, 0, limits, grant.Dead},
		{"a negative generation is no token", live, -1, 0, limits, grant.Dead},
		{"a revoked grant is dead for its current token", revoked, 5, 0, limits, grant.Dead},
		{"a revoked grant is dead for an old token too", revoked, 1, 0, limits, grant.Dead},
		{"a grant without refresh tokens is dead", without, 1, 0, limits, grant.Dead},
		{"idle just short of the limit rotates", live, 5, 24*time.Hour - time.Millisecond, limits, grant.Rotate},
		{"idle for the limit is dead", live, 5, 24 * time.Hour, limits, grant.Dead},
		{"no idle limit never dies of it", live, 5, 9999 * time.Hour, grant.Limits{}, grant.Rotate},
		{"the absolute limit ends it", live, 5, 30 * 24 * time.Hour, grant.Limits{Absolute: 30 * 24 * time.Hour}, grant.Dead},
		{"where tokens are kept, the current one stays", live, 5, time.Minute, grant.Limits{Keep: true}, grant.Stay},
		{"where tokens are kept, an older one is reuse all the same", live, 3, 0, grant.Limits{Keep: true}, grant.Reused},
		{"where tokens are kept, a revoked grant is dead", revoked, 5, 0, grant.Limits{Keep: true}, grant.Dead},
		{"where tokens are kept, idle for the limit is dead", live, 5, 24 * time.Hour, grant.Limits{Keep: true, Idle: 24 * time.Hour}, grant.Dead},
		{"without a grace window the previous one is reuse at once", live, 4, 0, grant.Limits{}, grant.Reused},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := grant.Judge(&c.grant, c.generation, start.Add(c.after), c.limits); got != c.want {
				t.Errorf("got verdict %d, want %d", got, c.want)
			}
		})
	}
}

// An attacker who saw a code redeems it as fast as they can. One redemption wins, and every other one takes the
// winner's tokens with it (RFC 6749 section 4.1.2).
func TestOfRacingRedemptionsOneWinsAndTheGrantIsRevoked(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			grants := grant.New(open(t, time.Now), func() time.Time { return start.Add(time.Since(start)) })
			const racers = 100
			var won, lost atomic.Int64
			storetest.Race(racers, func() {
				_, err := grants.Redeem(t.Context(), "flow1", grant.Grant{ClientID: "c", AccountID: "a"}, true, time.Hour, grant.Limits{})
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, grant.ErrRedeemed):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
			if won.Load() != 1 || lost.Load() != racers-1 {
				t.Fatalf("%d redemptions succeeded and %d were told of a replay, want 1 and %d", won.Load(), lost.Load(), racers-1)
			}
			doc, err := grants.Get(t.Context(), "flow1")
			if err != nil {
				t.Fatal(err)
			}
			if doc.Value.Live() {
				t.Error("the grant is live after its code was replayed")
			}
		})
	}
}

// Tabs of one browser refresh with the same token at once. All get the same successor; the family does not fork, and nobody
// is logged out.
func TestRacingRefreshesGetTheSameSuccessor(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			grants := grant.New(open(t, time.Now), time.Now)
			limits := grant.Limits{Grace: time.Minute}
			first, err := grants.Redeem(t.Context(), "flow1", grant.Grant{ClientID: "c", AccountID: "a"}, true, time.Hour, limits)
			if err != nil {
				t.Fatal(err)
			}
			storetest.Race(32, func() {
				mine := *first
				doc, err := grants.Refresh(t.Context(), &mine, 1, limits)
				if err != nil {
					t.Error(err)
				} else if doc.Value.Generation != 2 {
					t.Errorf("got generation %d, want 2", doc.Value.Generation)
				}
			})
		})
	}
}

func TestRevokedTokensArePrunedAndBounded(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			grants := grant.New(open(t, time.Now), time.Now)
			ctx := t.Context()
			if _, err := grants.Redeem(ctx, "g", grant.Grant{ClientID: "c", AccountID: "a"}, true, time.Hour, grant.Limits{}); err != nil {
				t.Fatal(err)
			}
			if err := grants.RevokeToken(ctx, "g", "t1", time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			doc, _ := grants.Get(ctx, "g")
			if doc.Value.TokenLive("t1") || !doc.Value.TokenLive("t2") {
				t.Fatal("revoking one access token must end it and no other")
			}
			// A client that revokes without end cannot grow the document without end.
			for i := range 100 {
				if err := grants.RevokeToken(ctx, "g", "x"+string(rune('A'+i)), time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			doc, _ = grants.Get(ctx, "g")
			if doc.Value.Live() || len(doc.Value.RevokedTokens) != 0 {
				t.Errorf("a grant with too many revoked tokens must be revoked as a whole; live %v with %d", doc.Value.Live(), len(doc.Value.RevokedTokens))
			}
		})
	}
}

func TestSigningOutRevokesWhatHungOnTheSession(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			grants := grant.New(open(t, time.Now), time.Now)
			ctx := t.Context()
			for id, g := range map[string]struct {
				session string
				refresh bool
			}{"online": {"s1", false}, "offline": {"s1", true}, "other": {"s2", false}} {
				if _, err := grants.Redeem(ctx, id, grant.Grant{ClientID: "c", AccountID: "a", SessionID: g.session}, g.refresh, time.Hour, grant.Limits{}); err != nil {
					t.Fatal(err)
				}
			}
			docs, err := grants.OfSession(ctx, "a", "s1")
			if err != nil || len(docs) != 2 {
				t.Fatalf("the session has %d grants, %v", len(docs), err)
			}
			if err := grants.EndSession(ctx, docs); err != nil {
				t.Fatal(err)
			}
			for id, want := range map[string]bool{"online": false, "offline": true, "other": true} {
				doc, err := grants.Get(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				if doc.Value.Live() != want {
					t.Errorf("grant %s: live %v, want %v", id, doc.Value.Live(), want)
				}
			}
		})
	}
}

// A session outlives the tokens of a client without refresh tokens by weeks. Were its grant forgotten with them, nobody would know that the
// client is to be told when the session ends.
func TestAGrantIsKeptForAsLongAsItsSessionMayLive(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			now := start
			clock := func() time.Time { return now }
			grants := grant.New(open(t, clock), clock)
			ctx := t.Context()
			limits := grant.Limits{Idle: time.Hour}
			for _, id := range []string{"online", "offline", "revoked", "brief"} {
				g := grant.Grant{ClientID: "c", AccountID: "a", SessionID: "s1"}
				if id != "brief" {
					g.KeepUntil = start.Add(60 * 24 * time.Hour)
				}
				doc, err := grants.Redeem(ctx, id, g, id == "offline", time.Hour, limits)
				if err != nil {
					t.Fatal(err)
				}
				if id == "offline" {
					if _, err := grants.Refresh(ctx, doc, 1, limits); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := grants.Revoke(ctx, "revoked", grant.ReasonClientRevoked); err != nil {
				t.Fatal(err)
			}
			now = start.Add(59 * 24 * time.Hour)
			docs, err := grants.OfSession(ctx, "a", "s1")
			if err != nil || len(docs) != 3 {
				t.Fatalf("after 59 days the session has %d grants, %v; want the 3 that are to be kept", len(docs), err)
			}
			// Kept is not alive: the refresh token that was not used for an hour is dead.
			offline, err := grants.Get(ctx, "offline")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := grants.Refresh(ctx, offline, 2, limits); !errors.Is(err, grant.ErrDead) {
				t.Errorf("an idle refresh token: %v, want ErrDead", err)
			}
			now = start.Add(61 * 24 * time.Hour)
			if docs, err := grants.OfSession(ctx, "a", "s1"); err != nil || len(docs) != 0 {
				t.Errorf("after 61 days the session has %d grants, %v", len(docs), err)
			}
		})
	}
}

func TestConsentIsAskedOnceForEachScope(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			consents := grant.NewConsents(open(t, time.Now), time.Now)
			ctx := t.Context()
			missing := func(scopes ...string) int {
				t.Helper()
				list, err := consents.Missing(ctx, "a", "c", scopes)
				if err != nil {
					t.Fatal(err)
				}
				return len(list)
			}
			if n := missing("openid", "email"); n != 2 {
				t.Errorf("before any yes, %d scopes are missing, want 2", n)
			}
			storetest.Race(8, func() {
				if err := consents.Remember(ctx, "a", "c", []string{"openid", "email"}); err != nil {
					t.Error(err)
				}
			})
			if n := missing("openid", "email"); n != 0 {
				t.Errorf("after the yes, %d scopes are missing, want 0", n)
			}
			if n := missing("openid", "profile"); n != 1 {
				t.Errorf("with a new scope, %d are missing, want 1", n)
			}
		})
	}
}
