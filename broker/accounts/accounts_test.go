package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/accounts"
	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/sessions"
)

var ids atomic.Int64

// toldApps notes whose end apps were told of.
type toldApps []string

func (a *toldApps) AccountEnded(_ context.Context, accountID string) error {
	*a = append(*a, accountID)
	return nil
}

func manager(t *testing.T, b store.Backend) *accounts.Manager {
	t.Helper()
	now := func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
	recorder := audit.New(b, audit.Options{Now: now, Log: slog.New(slog.DiscardHandler)})
	people := identity.New(b, identity.Options{
		Linking: identity.LinkAsk, Now: now, Audit: recorder,
		NewID: func() string { return fmt.Sprintf("account-%d", ids.Add(1)) },
	})
	browsers, err := sessions.New(b, sessions.Options{CookieKeys: [][]byte{[]byte(strings.Repeat("h", 32)), []byte(strings.Repeat("b", 32))}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &accounts.Manager{
		Accounts: people,
		Credentials: local.New(b, local.Options{
			Accounts: people, Hasher: password.NewHasher(password.Options{}), Throttle: guess.New(b, now), Now: now,
		}),
		Sessions: browsers, Grants: grant.New(b, now), Consents: grant.NewConsents(b, now), Apps: &toldApps{}, Audit: recorder,
	}
}

func each(t *testing.T, f func(t *testing.T, b store.Backend)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { f(t, open(t, time.Now)) })
	}
}

var profile = connectors.Profile{Issuer: "https://idp.example", Subject: "1", Email: "ann@example.com", EmailVerified: true, Name: "Ann"}

// furnished is an account that has everything that an account can have.
func furnished(t *testing.T, m *accounts.Manager) string {
	t.Helper()
	r, err := m.Accounts.Resolve(t.Context(), "google", &profile)
	if err != nil {
		t.Fatal(err)
	}
	id := r.Account.ID
	if err := m.SetPassword(t.Context(), id, "ann", "a good password"); err != nil {
		t.Fatal(err)
	}
	if err := m.Consents.Remember(t.Context(), id, "web", []string{"openid"}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := m.Grants.Redeem(t.Context(), fmt.Sprintf("grant-%s-%d", id, i), grant.Grant{ClientID: "web", AccountID: id}, true, time.Hour, grant.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// leftOf is what is stored for an account but for what may stay: its events, its revoked grants, and its id.
func leftOf(t *testing.T, b store.Backend, id string) (left []string) {
	t.Helper()
	for _, collection := range []string{"usernames", "identities", "consents", "sessions", "grants"} {
		docs, err := store.NewCollection[map[string]any](b, collection).List(t.Context(), store.Query{Owner: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			if collection != "grants" || doc.Value["revoked_at"] == nil {
				left = append(left, collection+" "+doc.ID)
			}
		}
	}
	emails, err := store.NewCollection[map[string]any](b, "emails").List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range emails {
		if strings.Contains(fmt.Sprint(doc.Value), id) {
			left = append(left, "emails "+doc.ID)
		}
	}
	// What is kept for a while of a claim that was given up says whose it was to nobody.
	for _, collection := range []string{"usernames", "identities"} {
		docs, err := store.NewCollection[map[string]any](b, collection).List(t.Context(), store.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			if text := fmt.Sprint(doc.Value); doc.Expires.IsZero() || strings.Contains(text, "ann") || strings.Contains(text, "idp.example") || strings.Contains(text, "argon2id") {
				left = append(left, fmt.Sprintf("%s %+v", collection, doc))
			}
		}
	}
	account, err := store.NewCollection[identity.Account](b, "accounts").Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if account.Value.Person != (identity.Person{}) || account.Value.RemovedAt.IsZero() {
		left = append(left, fmt.Sprintf("accounts %+v", account.Value))
	}
	return left
}

// dying fails from the nth write on, as a process that is killed there does.
type dying struct {
	store.Backend
	left int
}

var errKilled = errors.New("killed here")

func (d *dying) write(f func() error) error {
	if d.left == 0 {
		return errKilled
	}
	d.left--
	return f()
}

func (d *dying) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	return d.write(func() error { return d.Backend.Insert(ctx, collection, meta, value) })
}

func (d *dying) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	return d.write(func() error { return d.Backend.Replace(ctx, collection, meta, value) })
}

func (d *dying) Delete(ctx context.Context, collection, id string, rev int64) error {
	return d.write(func() error { return d.Backend.Delete(ctx, collection, id, rev) })
}

// A removal that is killed between any two of its writes leaves nobody who can sign in, and is finished by the next.
func TestARemovalThatIsCutShortAnywhereIsFinishedByTheNext(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		whole := manager(t, b)
		for writes := 1; ; writes++ {
			id := furnished(t, whole)
			err := manager(t, &dying{Backend: b, left: writes}).Remove(t.Context(), id)
			if err != nil && !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			if _, getErr := whole.Accounts.Get(t.Context(), id); !errors.Is(getErr, identity.ErrNotFound) {
				t.Fatalf("after %d writes the account is still there: %v", writes, getErr)
			}
			if err := whole.Remove(t.Context(), id); err != nil {
				t.Fatalf("after %d writes: %v", writes, err)
			}
			if left := leftOf(t, b, id); len(left) > 0 {
				t.Fatalf("after %d writes and another removal there is left: %v", writes, left)
			}
			if err == nil {
				if writes < 8 {
					t.Errorf("a removal took %d writes; the test has not cut it anywhere", writes)
				}
				return
			}
		}
	})
}

// What a removal that was cut short left behind stands in nobody's way: not in that of the person, and not in that of their username.
func TestWhatARemovalLeftBehindClaimsNothing(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		m := manager(t, b)
		id := furnished(t, m)
		if err := m.Accounts.Retire(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		r, err := m.Accounts.Resolve(t.Context(), "google", &profile)
		if err != nil || r.Outcome != identity.Create || r.Account.ID == id {
			t.Errorf("the person comes back: %+v, %v", r, err)
		}
		if _, err := m.Add(t.Context(), "ann", "a good password", identity.Person{}); err != nil {
			t.Errorf("the username is taken by nobody: %v", err)
		}
	})
}

// A sign-in that races with the removal must not bring the account back under its id.
func TestASignInThatRacesWithARemovalDoesNotBringTheAccountBack(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		m := manager(t, b)
		for range 8 {
			id := furnished(t, m)
			var turn atomic.Int64
			storetest.Race(8, func() {
				if turn.Add(1) == 4 {
					if err := m.Remove(t.Context(), id); err != nil {
						t.Error(err)
					}
					return
				}
				changed := profile // so that there is something to write back
				changed.Name = fmt.Sprintf("Ann %d", turn.Load())
				if _, err := m.Accounts.Resolve(t.Context(), "google", &changed); err != nil {
					t.Error(err)
				}
			})
			if _, err := m.Accounts.Get(t.Context(), id); !errors.Is(err, identity.ErrNotFound) {
				t.Fatalf("the account is back: %v", err)
			}
			account, err := store.NewCollection[identity.Account](b, "accounts").Get(t.Context(), id)
			if err != nil || account.Value.Person != (identity.Person{}) {
				t.Fatalf("who it was is known again: %+v, %v", account, err)
			}
			r, err := m.Accounts.Resolve(t.Context(), "google", &profile)
			if err != nil || r.Account == nil || r.Account.ID == id {
				t.Fatalf("the person is %+v, %v", r, err)
			}
			// However many requests found the old claim, they made one new account.
			page, _, err := m.Accounts.List(t.Context(), "")
			if err != nil || len(page) != 1 {
				t.Fatalf("%d accounts are there for one person, %v", len(page), err)
			}
			if err := m.Remove(t.Context(), r.Account.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Of two operators who give one username away at the same time, one succeeds.
func TestAUsernameIsGivenOnce(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		m := manager(t, b)
		var added, taken atomic.Int64
		storetest.Race(8, func() {
			_, err := m.Add(t.Context(), "ann", "a good password", identity.Person{})
			switch {
			case err == nil:
				added.Add(1)
			case errors.Is(err, local.ErrTaken):
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
		if added.Load() != 1 || taken.Load() != 7 {
			t.Errorf("%d got it, %d were told that it is taken", added.Load(), taken.Load())
		}
		page, _, err := m.Accounts.List(t.Context(), "")
		if err != nil || len(page) != 1 {
			t.Errorf("%d accounts are there, %v; want the winner's alone", len(page), err)
		}
	})
}

func TestDisablingEndsEverythingAndTellsApps(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		m := manager(t, b)
		told := &toldApps{}
		m.Apps = told
		id, other := furnished(t, m), ""
		r, err := m.Accounts.Resolve(t.Context(), "google", &connectors.Profile{Issuer: "https://idp.example", Subject: "2"})
		if err != nil {
			t.Fatal(err)
		}
		other = r.Account.ID
		if _, err := m.Grants.Redeem(t.Context(), "grant-other", grant.Grant{ClientID: "web", AccountID: other}, true, time.Hour, grant.Limits{}); err != nil {
			t.Fatal(err)
		}
		if err := m.Disable(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		grants, err := m.Grants.ByAccount(t.Context(), id, "")
		if err != nil || len(grants) != 3 {
			t.Fatalf("%d grants, %v", len(grants), err)
		}
		for _, g := range grants {
			if g.Value.Live() || g.Value.RevokedReason != grant.ReasonAccountDisabled {
				t.Errorf("a grant lives: %+v", g.Value)
			}
		}
		if g, err := m.Grants.Get(t.Context(), "grant-other"); err != nil || !g.Value.Live() {
			t.Errorf("somebody else's grant: %+v, %v", g, err)
		}
		if fmt.Sprint(*told) != "["+id+"]" {
			t.Errorf("apps were told of %v", *told)
		}
	})
}
