package storetest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/sqlite"
)

// SQLite opens an embedded store in a folder of the test's.
func SQLite(t testing.TB, now func() time.Time) store.Backend {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "test.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Backends are the stores there are to test on.
func Backends(*testing.T) map[string]func(*testing.T, func() time.Time) store.Backend {
	return map[string]func(*testing.T, func() time.Time) store.Backend{
		"sqlite": func(t *testing.T, now func() time.Time) store.Backend { return SQLite(t, now) },
	}
}
