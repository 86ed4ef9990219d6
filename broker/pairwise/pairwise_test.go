package pairwise

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

var (
	first  = []byte("an-entirely-random-test-keyring-secret-9f8e7d6c5b4a")
	second = []byte("another-entirely-random-test-secret-1a2b3c4d5e6f7a8b")
)

func open(t *testing.T, b store.Backend, secrets ...[]byte) (*Subjects, error) {
	t.Helper()
	ring, err := token.NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return Open(t.Context(), b, ring, slog.New(slog.DiscardHandler))
}

func mustOpen(t *testing.T, b store.Backend, secrets ...[]byte) *Subjects {
	t.Helper()
	s, err := open(t, b, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func onEach(t *testing.T, f func(t *testing.T, b store.Backend)) {
	for name, backend := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { f(t, backend(t, time.Now)) })
	}
}

// OpenID Connect Core section 8.1: the same person is another for another sector, and neither tells who it is.
func TestASubjectIsOfOneSectorAndOneAccount(t *testing.T) {
	s := mustOpen(t, storetest.SQLite(t, time.Now), first)
	seen := map[string]string{}
	for _, pair := range [][2]string{{"a.example", "ann"}, {"a.example", "bob"}, {"b.example", "ann"}, {"a.example:", "ann"}, {"a.example", ":ann"}, {"", "a.example:ann"}} {
		sub := s.Of(pair[0], pair[1])
		if other := seen[sub]; other != "" || len(sub) != 43 || strings.Contains(sub, pair[1]) {
			t.Errorf("%v is %q, as is %q", pair, sub, other)
		}
		seen[sub] = pair[0] + " " + pair[1]
		if s.Of(pair[0], pair[1]) != sub {
			t.Errorf("%v changed", pair)
		}
	}
}

// Apps know people by what comes of the salt: it must outlive restarts and each rotation of the keyring, and the old secret must
// not be needed any more once the broker has been started with the new one first.
func TestASubjectOutlivesTheKeyringsRotation(t *testing.T) {
	onEach(t, func(t *testing.T, b store.Backend) {
		want := mustOpen(t, b, first).Of("a.example", "ann")
		for name, secrets := range map[string][][]byte{"restart": {first}, "new secret last": {first, second}} {
			if got := mustOpen(t, b, secrets...).Of("a.example", "ann"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if _, err := open(t, b, second); err == nil {
			t.Fatal("a salt that cannot be opened was replaced: all people would be strangers")
		}
		if got := mustOpen(t, b, second, first).Of("a.example", "ann"); got != want {
			t.Errorf("new secret first: %q, want %q", got, want)
		}
		if got := mustOpen(t, b, second).Of("a.example", "ann"); got != want {
			t.Errorf("old secret gone: %q, want %q", got, want)
		}
	})
}

// Two brokers have two salts, or two operators could compare their people.
func TestEachStoreHasItsOwnSalt(t *testing.T) {
	one, other := mustOpen(t, storetest.SQLite(t, time.Now), first), mustOpen(t, storetest.SQLite(t, time.Now), first)
	if one.Of("a.example", "ann") == other.Of("a.example", "ann") {
		t.Error("two stores name a person alike")
	}
}

// Nodes that start together on an empty store must agree, or a person would be somebody else at each.
func TestNodesThatStartTogetherAgree(t *testing.T) {
	onEach(t, func(t *testing.T, b store.Backend) {
		ring, err := token.NewKeyring(first)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		names := map[string]int{}
		storetest.Race(16, func() {
			s, err := Open(context.Background(), b, ring, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			names[s.Of("a.example", "ann")]++
		})
		if len(names) != 1 {
			t.Errorf("%d names for one person", len(names))
		}
	})
}
