package local_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

// steps counts what an attempt does: that, and not a clock, is what tells whether two attempts take as long.
type steps struct {
	store.Backend
	*password.Hasher
	reads, writes atomic.Int64
	hashes        []string // the parameters of each hash that was computed
}

func (s *steps) Get(ctx context.Context, collection, id string, value any) (store.Meta, error) {
	s.reads.Add(1)
	return s.Backend.Get(ctx, collection, id, value)
}

func (s *steps) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	s.writes.Add(1)
	return s.Backend.Insert(ctx, collection, meta, value)
}

func (s *steps) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	s.writes.Add(1)
	return s.Backend.Replace(ctx, collection, meta, value)
}

func (s *steps) Verify(ctx context.Context, lane password.Lane, hash, raw string) (bool, bool, error) {
	s.hashes = append(s.hashes, fmt.Sprint(lane, strings.Join(strings.Split(hash, "$")[:4], "$")))
	return s.Hasher.Verify(ctx, lane, hash, raw)
}

// people are the accounts of a test, by id.
type people struct {
	backend store.Backend
	byID    map[string]*identity.Account
}

// Get reads as identity.Accounts does.
func (p people) Get(ctx context.Context, id string) (*identity.Account, error) {
	account := p.byID[id]
	if account != nil && account.Static {
		return account, nil
	}
	var ignored map[string]any
	if _, err := p.backend.Get(ctx, "accounts", id, &ignored); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if account == nil {
		return nil, identity.ErrNotFound
	}
	return account, nil
}

var home = netip.MustParseAddr("192.0.2.7")

const right, wrong = "the right password", "a wrong password"

type world struct {
	*local.Credentials
	*steps
	people people
	now    time.Time
}

func newWorld(t *testing.T, b store.Backend) *world {
	t.Helper()
	w := &world{steps: &steps{Backend: b, Hasher: password.NewHasher(password.Options{})}, now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.now }
	w.people = people{backend: w.steps, byID: map[string]*identity.Account{
		"ann-1": {ID: "ann-1"}, "off-1": {ID: "off-1", Disabled: true}, "fixed-1": {ID: "fixed-1", Static: true}, "hashed-1": {ID: "hashed-1", Static: true},
	}}
	w.Credentials = local.New(w.steps, local.Options{Accounts: w.people, Hasher: w.steps, Throttle: guess.New(w.steps, now), Now: now})
	hash, err := w.Hasher.Hash(t.Context(), right)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SetStatic([]local.Static{
		{Username: "fixed", Password: right, Account: *w.people.byID["fixed-1"]},
		{Username: "hashed", Hash: hash, Account: *w.people.byID["hashed-1"]},
	}); err != nil {
		t.Fatal(err)
	}
	for username, id := range map[string]string{"ann": "ann-1", "off": "off-1", "gone": "gone-1"} {
		if _, err := w.Set(t.Context(), username, id, right); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func each(t *testing.T, f func(t *testing.T, b store.Backend)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			f(t, open(t, func() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }))
		})
	}
}

func TestWhoHasTheRightPassword(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		for _, c := range []struct {
			username, password string
			want               string // the account's id; "" for ErrWrong
		}{
			{"ann", right, "ann-1"},
			{"ANN", right, "ann-1"},
			{"\uff41nn", right, "ann-1"}, // full width: how some keyboards type it
			{"\u0430nn", right, ""},      // Cyrillic: how a cheat does
			{"ann ", right, ""},
			{"ann", wrong, ""},
			{"fixed", right, "fixed-1"},
			{"fixed", wrong, ""},
			{"hashed", right, "hashed-1"},
			{"hashed", wrong, ""},
			{"off", right, ""},
			{"gone", right, ""},
			{"nobody", right, ""},
			{"", right, ""},
			{strings.Repeat("a", 10_000), right, ""},
			{"ann\x00", right, ""},
			{"\x00ann", right, ""},
			{"ann", strings.Repeat("x", password.MaxBytes+1), ""},
			{"ann", "not UTF-8 \xff", ""},
		} {
			login, err := w.Authenticate(t.Context(), c.username, c.password, home)
			switch {
			case c.want == "" && !errors.Is(err, local.ErrWrong):
				t.Errorf("%.20q with %.20q: %+v, %v", c.username, c.password, login, err)
			case c.want != "" && (err != nil || login.Account.ID != c.want):
				t.Errorf("%.20q with %.20q: %+v, %v; want %s", c.username, c.password, login, err, c.want)
			}
		}
	})
}

// Enumeration by time: every attempt that fails reads, writes and hashes as much as every other, whatever there is to find.
func TestEveryAttemptThatFailsTakesTheSameSteps(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		var first string
		for i, a := range [][2]string{
			{"ann", wrong},
			{"nobody", right},
			{"off", right},
			{"off", wrong},
			{"gone", right},
			{"fixed", wrong},
			{"hashed", wrong},
			{"not a username", right},
			{"\u0430nn", right},
		} {
			w.reads.Store(0)
			w.writes.Store(0)
			w.hashes = nil
			from := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			if _, err := w.Authenticate(t.Context(), a[0], a[1], from); !errors.Is(err, local.ErrWrong) {
				t.Fatalf("%q: %v", a[0], err)
			}
			did := fmt.Sprintf("%d reads, %d writes, hashes %v", w.reads.Load(), w.writes.Load(), w.hashes)
			// The account in memory is found besides one that is looked for in the store.
			if first == "" {
				first = did
			}
			if did != first {
				t.Errorf("%q does %s; the others do %s", a[0], did, first)
			}
			if len(w.hashes) != 1 {
				t.Errorf("%q computes %d hashes", a[0], len(w.hashes))
			}
		}
	})
}

// A flood of guesses must not cost the broker a hash each.
func TestAnAttemptThatComesTooEarlyIsNotComputed(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		w.hashes = nil
		for range 50 {
			_, err := w.Authenticate(t.Context(), "ann", wrong, home)
			var early *guess.Delayed
			if !errors.Is(err, local.ErrWrong) && !errors.As(err, &early) {
				t.Fatal(err)
			}
		}
		if len(w.hashes) != 10 {
			t.Errorf("%d of 50 guesses were computed, want 10", len(w.hashes))
		}
		if _, err := w.Authenticate(t.Context(), "ann", right, home); err == nil {
			t.Error("the right password was accepted before its time")
		}
	})
}

// busy is a hasher that has no room.
type busy struct{ *steps }

func (busy) Verify(context.Context, password.Lane, string, string) (bool, bool, error) {
	return false, false, password.ErrBusy
}

// Whoever was turned away because the broker was busy has guessed nothing, and is not counted.
func TestWhoWasTurnedAwayIsNotCounted(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		now := func() time.Time { return w.now }
		full := local.New(w.steps, local.Options{Accounts: w.people, Hasher: busy{w.steps}, Throttle: guess.New(w.steps, now), Now: now})
		for range 60 {
			if _, err := full.Authenticate(t.Context(), "ann", right, home); !errors.Is(err, password.ErrBusy) {
				t.Fatal(err)
			}
		}
		if _, err := w.Authenticate(t.Context(), "ann", right, home); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		w.hashes = nil
		if _, err := w.Authenticate(t.Context(), "ann", right, home); err != nil || !strings.HasPrefix(w.hashes[0], fmt.Sprint(password.Known)) {
			t.Errorf("an address that is known waits among strangers: %v, %v", w.hashes, err)
		}
	})
}

// When the parameters are raised, each hash follows at the next good login, and not at a bad one.
func TestAnOldHashIsMadeAnewAtTheNextGoodLogin(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		docs := store.NewCollection[local.Credential](b, "usernames")
		page, err := docs.List(t.Context(), store.Query{Owner: "ann-1"})
		if err != nil || len(page) != 1 {
			t.Fatal(page, err)
		}
		doc := page[0]
		// The vector of argon2's reference implementation: "password", "somesalt", 64 MiB, two passes.
		doc.Value.Hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
		if err := docs.Replace(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
		hash := func() string {
			doc, err := docs.Get(t.Context(), doc.ID)
			if err != nil {
				t.Fatal(err)
			}
			return doc.Value.Hash
		}
		if _, err := w.Authenticate(t.Context(), "ann", wrong, home); !errors.Is(err, local.ErrWrong) || hash() != doc.Value.Hash {
			t.Errorf("a wrong password: %v, the hash is %s", err, hash())
		}
		if _, err := w.Authenticate(t.Context(), "ann", "password", home); err != nil {
			t.Fatal(err)
		}
		if fresh := hash(); !strings.HasPrefix(fresh, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("the hash is %s", fresh)
		}
		if _, err := w.Authenticate(t.Context(), "ann", "password", home); err != nil {
			t.Errorf("with the new hash: %v", err)
		}
	})
}

// A login that was under way while the password was changed is of the one before.
func TestALoginHoldsAsLongAsItsPassword(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		holds := func(username string, between func()) bool {
			t.Helper()
			login, err := w.Authenticate(t.Context(), username, right, home)
			if err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(time.Millisecond)
			between()
			held, err := w.Holds(t.Context(), login)
			if err != nil {
				t.Fatal(err)
			}
			return held
		}
		set := func(username, id string) func() {
			return func() {
				if _, err := w.Set(t.Context(), username, id, right); err != nil {
					t.Fatal(err)
				}
			}
		}
		release := func() {
			if err := w.Release(t.Context(), "ann-1"); err != nil {
				t.Fatal(err)
			}
		}
		if !holds("ann", func() {}) || !holds("fixed", func() {}) {
			t.Error("a login does not hold although nothing was changed")
		}
		if holds("ann", set("ann", "ann-1")) {
			t.Error("it holds although the password was set anew")
		}
		if holds("ann", func() { release(); set("ann", "hashed-1")() }) {
			t.Error("it holds although the username is somebody else's")
		}
		set("ann2", "ann-1")()
		if holds("ann2", release) {
			t.Error("it holds although the username was given up")
		}
	})
}

func TestAUsernameBelongsToOneAccount(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		if _, err := w.Set(t.Context(), "Ann", "off-1", right); !errors.Is(err, local.ErrTaken) {
			t.Errorf("somebody else's: %v", err)
		}
		if _, err := w.Set(t.Context(), "FIXED", "ann-1", right); !errors.Is(err, local.ErrStatic) {
			t.Errorf("the configuration's: %v", err)
		}
		if _, err := w.Set(t.Context(), "gone", "ann-1", right); err != nil {
			t.Errorf("of an account that is gone: %v", err)
		}
		before, err := w.Of(t.Context(), "off-1")
		if err != nil || len(before) != 1 {
			t.Fatal(before, err)
		}
		w.now = w.now.Add(time.Hour)
		after, err := w.Set(t.Context(), "off", "off-1", "another password")
		if err != nil || after.CreatedAt != before[0].CreatedAt || after.ChangedAt == before[0].ChangedAt || after.Hash == before[0].Hash {
			t.Errorf("its own: %+v after %+v, %v", after, before[0], err)
		}
		if owner, err := w.Owner(t.Context(), "OFF"); err != nil || owner != "off-1" {
			t.Errorf("it belongs to %s, %v", owner, err)
		}
		if err := w.Release(t.Context(), "off-1"); err != nil {
			t.Fatal(err)
		}
		if owner, err := w.Owner(t.Context(), "off"); !errors.Is(err, local.ErrNotFound) {
			t.Errorf("given up, it belongs to %s, %v", owner, err)
		}
	})
}

// What is stored gives no password away, to whoever reads it.
func TestAPasswordIsNotStored(t *testing.T) {
	each(t, func(t *testing.T, b store.Backend) {
		w := newWorld(t, b)
		if _, err := w.Authenticate(t.Context(), "ann", right, home); err != nil {
			t.Fatal(err)
		}
		for _, collection := range []string{"usernames", "attempts"} {
			docs, err := store.NewCollection[map[string]any](b, collection).List(t.Context(), store.Query{})
			if err != nil {
				t.Fatal(err)
			}
			for _, doc := range docs {
				if strings.Contains(fmt.Sprint(doc), right) || collection == "attempts" && strings.Contains(fmt.Sprint(doc), "ann") {
					t.Errorf("%s: %v", collection, doc)
				}
			}
		}
	})
}

func TestUsernamesAreComparedInOneForm(t *testing.T) {
	for raw, want := range map[string]string{
		"ann":                    "ann",
		"ANN":                    "ann",
		"\uff21\uff2e\uff2e":     "ann", // full width
		"ann@example.com":        "ann@example.com",
		"Ann.B-c_d+e":            "ann.b-c_d+e",
		"\u00e9milie":            "\u00e9milie",
		"e\u0301milie":           "\u00e9milie", // decomposed
		"\u00c9MILIE":            "\u00e9milie",
		"\u0430nn":               "\u0430nn", // Cyrillic: another name, and not ann
		"stra\u00dfe":            "stra\u00dfe",
		"\u05d0\u05d1\u05d2":     "\u05d0\u05d1\u05d2", // right to left, all of it
		strings.Repeat("a", 254): strings.Repeat("a", 254),
	} {
		if got, err := local.Normal(raw); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", raw, got, err, want)
		}
	}
	for name, raw := range map[string]string{
		"empty": "", "space": "a b", "space around": " ann", "control": "a\x00b", "line break": "ann\n", "too long": strings.Repeat("a", 255),
		"no UTF-8": "a\xffb", "ligature": "o\ufb03ce", "roman numeral": "\u2163", "emoji": "a\U0001f600",
		"zero width": "a\u200bnn", "changes direction": "a\u202enn", "two directions": "a\u05d0",
	} {
		if got, err := local.Normal(raw); !errors.Is(err, local.ErrUsername) {
			t.Errorf("%s: %q is %q, %v", name, raw, got, err)
		}
	}
}

func TestAnAccountOfTheConfigurationIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		account local.Static
		want    string
	}{
		"good":             {local.Static{Username: "ann", Password: "12345678"}, ""},
		"good hash":        {local.Static{Username: "ann", Hash: password.Decoy()}, ""},
		"username":         {local.Static{Username: "a b", Password: "12345678"}, "username"},
		"short":            {local.Static{Username: "ann", Password: "1234567"}, "password"},
		"nothing":          {local.Static{Username: "ann"}, "password"},
		"both":             {local.Static{Username: "ann", Password: "12345678", Hash: password.Decoy()}, "password_hash"},
		"hash of bcrypt":   {local.Static{Username: "ann", Hash: "$2b$12$abc"}, "password_hash"},
		"a plain password": {local.Static{Username: "ann", Hash: "12345678"}, "password_hash"},
	} {
		err := local.CheckStatic(c.account, 8)
		if (c.want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if one, other := local.StaticID("ann"), local.StaticID("bob"); one == other || one != local.StaticID("ann") || !reflect.DeepEqual(one, strings.TrimSpace(one)) {
		t.Errorf("ids %q and %q", one, other)
	}
}

// Whatever a stranger sends: a name that is accepted has one form, and that form is its own.
func FuzzNormal(f *testing.F) {
	for _, s := range []string{"ann", "ANN", "\uff21", "e\u0301", "a\u0130b", "\u1e9e", "\u05d0", "a\u200cb", "\u0130\u0307", "\u03a3\u03c2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		normal, err := local.Normal(raw)
		if err != nil {
			return
		}
		again, err := local.Normal(normal)
		if err != nil || again != normal || len(normal) > local.MaxUsername || strings.ContainsAny(normal, "\x00\n\r \t") {
			t.Errorf("%q is %q, and that is %q, %v", raw, normal, again, err)
		}
	})
}
