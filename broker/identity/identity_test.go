package identity_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/connectors"
)

var ids atomic.Int64

func accounts(b store.Backend, policy identity.Linking) *identity.Accounts {
	now := func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
	return identity.New(b, identity.Options{
		Linking: policy, Now: now,
		NewID: func() string { return fmt.Sprintf("account-%d", ids.Add(1)) },
		Audit: audit.New(b, audit.Options{Now: now, Log: slog.New(slog.DiscardHandler)}),
	})
}

func each(t *testing.T, f func(t *testing.T, b store.Backend)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { f(t, open(t, time.Now)) })
	}
}

func profile(subject, email string, verified bool) *connectors.Profile {
	return &connectors.Profile{Issuer: "https://idp.example", Subject: subject, Email: email, EmailVerified: verified, Name: "Ann"}
}

func resolve(t *testing.T, a *identity.Accounts, connector string, p *connectors.Profile) *identity.Resolution {
	t.Helper()
	r, err := a.Resolve(t.Context(), connector, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTwoFirstSignInsAtTheSameTimeMakeOneAccount(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		a := accounts(b, identity.LinkAsk)
		var mu sync.Mutex
		seen := map[string]int{}
		storetest.Race(32, func() {
			r, err := a.Resolve(t.Context(), "google", profile("1", "ann@example.com", true))
			if err != nil || r.Account == nil {
				t.Errorf("got %+v, %v", r, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[r.Account.ID]++
		})
		if len(seen) != 1 {
			t.Errorf("32 first sign-ins of one identity made %d accounts: %v", len(seen), seen)
		}
	})
}

// failing refuses inserts into one collection, as a process that is killed between two writes does.
type failing struct {
	store.Backend
	collection string
}

var errKilled = errors.New("killed here")

func (f failing) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	if collection == f.collection {
		return errKilled
	}
	return f.Backend.Insert(ctx, collection, meta, value)
}

func TestACrashBetweenIdentityAndAccountHealsAtTheNextSignIn(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		p := profile("1", "ann@example.com", true)
		if _, err := accounts(failing{b, "accounts"}, identity.LinkAsk).Resolve(t.Context(), "google", p); !errors.Is(err, errKilled) {
			t.Fatalf("got %v", err)
		}
		a := accounts(b, identity.LinkAsk)
		r := resolve(t, a, "google", p)
		if r.Account == nil || r.Account.Email != "ann@example.com" {
			t.Fatalf("got %+v", r)
		}
		// The email is held too, so that another identity with it asks.
		if other := resolve(t, a, "github", profile("2", "ann@example.com", true)); other.Outcome != identity.AskToLink {
			t.Errorf("another identity with the email: %s", other.Outcome)
		}
	})
}

func TestAnIdentityIsKnownByConnectorIssuerAndSubjectAlone(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		a := accounts(b, identity.LinkNever)
		first := resolve(t, a, "google", profile("1", "ann@example.com", true)).Account.ID
		if again := resolve(t, a, "google", profile("1", "changed@example.com", true)); again.Account.ID != first || again.Outcome != identity.SignIn {
			t.Errorf("with another email it is %+v", again)
		}
		for name, r := range map[string]*identity.Resolution{
			"another subject":         resolve(t, a, "google", profile("2", "ann@example.com", true)),
			"another connector":       resolve(t, a, "google2", profile("1", "ann@example.com", true)),
			"parts that run together": resolve(t, a, "googleh", &connectors.Profile{Issuer: "ttps://idp.example", Subject: "1"}),
		} {
			if r.Account.ID == first {
				t.Errorf("%s is the same account", name)
			}
		}
	})
}

func TestLinkingIsByProofAndOneAccountWins(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		a := accounts(b, identity.LinkAsk)
		one := resolve(t, a, "google", profile("1", "ann@example.com", true)).Account.ID
		two := resolve(t, a, "google", profile("2", "bob@example.com", true)).Account.ID
		asked := resolve(t, a, "github", profile("9", "ann@example.com", true))
		if asked.Outcome != identity.AskToLink || len(asked.Candidates) != 1 || asked.Candidates[0].AccountID != one || asked.Candidates[0].Connectors[0] != "google" {
			t.Fatalf("got %+v", asked)
		}
		if _, err := a.AccountOf(t.Context(), "github", profile("9", "", false)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("asking made an account: %v", err)
		}
		var linked, taken atomic.Int64
		targets := []string{one, two}
		var next atomic.Int64
		storetest.Race(16, func() {
			_, err := a.LinkTo(t.Context(), targets[next.Add(1)%2], "github", profile("9", "ann@example.com", true))
			switch {
			case err == nil:
				linked.Add(1)
			case errors.Is(err, identity.ErrTaken):
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
		if linked.Load() != 8 || taken.Load() != 8 {
			t.Errorf("%d links succeeded and %d found it taken, want 8 of each: the winner's are idempotent", linked.Load(), taken.Load())
		}
	})
}

func TestADisabledAccountIsRefusedAndIsNoCandidate(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		a := accounts(b, identity.LinkAsk)
		id := resolve(t, a, "google", profile("1", "ann@example.com", true)).Account.ID
		if err := a.Disable(t.Context(), id, true); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Resolve(t.Context(), "google", profile("1", "ann@example.com", true)); !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("sign-in: %v", err)
		}
		if r := resolve(t, a, "github", profile("2", "ann@example.com", true)); r.Outcome != identity.Create {
			t.Errorf("another identity with the email: %s", r.Outcome)
		}
		if _, err := a.LinkTo(t.Context(), id, "github", profile("3", "", false)); !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("link: %v", err)
		}
	})
}

func TestAnAddressThatChangedIsLetGo(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		a := accounts(b, identity.LinkAsk)
		id := resolve(t, a, "google", profile("1", "old@example.com", true)).Account.ID
		moved := resolve(t, a, "google", profile("1", "new@example.com", true))
		if moved.Account.ID != id || moved.Account.Email != "new@example.com" {
			t.Fatalf("got %+v", moved.Account)
		}
		if r := resolve(t, a, "github", profile("2", "old@example.com", true)); r.Outcome != identity.Create {
			t.Errorf("the old address: %s", r.Outcome)
		}
		if r := resolve(t, a, "github", profile("3", "new@example.com", true)); r.Outcome != identity.AskToLink {
			t.Errorf("the new address: %s", r.Outcome)
		}
	})
}

// counting counts what a sign-in costs at the store.
type counting struct {
	store.Backend
	reads, writes atomic.Int64
}

func (c *counting) Get(ctx context.Context, collection, id string, value any) (store.Meta, error) {
	c.reads.Add(1)
	return c.Backend.Get(ctx, collection, id, value)
}

func (c *counting) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	c.writes.Add(1)
	return c.Backend.Insert(ctx, collection, meta, value)
}

func (c *counting) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	c.writes.Add(1)
	return c.Backend.Replace(ctx, collection, meta, value)
}

func TestAKnownSignInCostsTwoReadsAndNoWrite(t *testing.T) {
	c := &counting{Backend: storetest.SQLite(t, time.Now)}
	a := accounts(c, identity.LinkAsk)
	p := profile("1", "ann@example.com", true)
	resolve(t, a, "google", p)
	c.reads.Store(0)
	c.writes.Store(0)
	resolve(t, a, "google", p)
	if c.reads.Load() != 2 || c.writes.Load() != 0 {
		t.Errorf("%d reads and %d writes, want 2 and 0", c.reads.Load(), c.writes.Load())
	}
}

func TestHostileProfilesAreBounded(t *testing.T) {
	a := accounts(storetest.SQLite(t, time.Now), identity.LinkAsk)
	for name, p := range map[string]*connectors.Profile{
		"no subject":        {Issuer: "https://idp.example"},
		"no issuer":         {Subject: "1"},
		"a long subject":    {Issuer: "https://idp.example", Subject: strings.Repeat("s", 300)},
		"an endless issuer": {Issuer: strings.Repeat("i", 5000), Subject: "1"},
	} {
		if _, err := a.Resolve(t.Context(), "x", p); !errors.Is(err, identity.ErrInvalidProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := resolve(t, a, "x", &connectors.Profile{
		Issuer: "https://idp.example", Subject: "1", Email: "not an address", EmailVerified: true,
		Name: strings.Repeat("ñ", 5000), GivenName: "a\x00b\r\nc\u0085", Username: "\xff\xfe", Picture: "javascript:alert(1)",
	})
	got := r.Account
	if len(got.Name) > 256 || got.GivenName != "abc" || got.Username != "" || got.Picture != "" || got.Email != "" || got.EmailVerified {
		t.Errorf("kept %+v", got.Person)
	}
}
