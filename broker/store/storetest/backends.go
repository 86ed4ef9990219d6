package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/mongo"
	"github.com/portico-id/portico/broker/store/sqlite"
)

// MongoDBVariable names the environment variable with the URI of a server that tests may create databases in. Without it the tests
// leave MongoDB out; `make test` finds or starts one.
const MongoDBVariable = "PORTICO_TEST_MONGODB_URI"

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

// MongoDB opens a database of the test's own at the server that MongoDBVariable names; it is dropped at the end.
func MongoDB(t testing.TB, now func() time.Time) store.Backend {
	t.Helper()
	options := mongo.Options{URI: os.Getenv(MongoDBVariable), Database: "portico_test_" + strings.ToLower(rand.Text()), Now: now}
	db, err := mongo.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		// Over a connection of its own: the test may have closed the store.
		DropMongoDB(t, options.Database)
	})
	return db
}

// DropMongoDB drops a database at the server that MongoDBVariable names, for tests whose broker processes opened it themselves.
func DropMongoDB(t testing.TB, database string) {
	t.Helper()
	db, err := mongo.Open(context.Background(), mongo.Options{URI: os.Getenv(MongoDBVariable), Database: database, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Drop(context.Background()), db.Close()); err != nil {
		t.Error(err)
	}
}

// Backends are the stores there are to test on: SQLite always, MongoDB where MongoDBVariable is set.
func Backends(*testing.T) map[string]func(*testing.T, func() time.Time) store.Backend {
	backends := map[string]func(*testing.T, func() time.Time) store.Backend{
		"sqlite": func(t *testing.T, now func() time.Time) store.Backend { return SQLite(t, now) },
	}
	if os.Getenv(MongoDBVariable) != "" {
		backends["mongodb"] = func(t *testing.T, now func() time.Time) store.Backend { return MongoDB(t, now) }
	}
	return backends
}

// Race calls f from n goroutines at once, and returns when all calls have.
func Race(n int, f func()) {
	var ready, done sync.WaitGroup
	gate := make(chan struct{})
	ready.Add(n)
	for range n {
		done.Go(func() {
			ready.Done()
			<-gate
			f()
		})
	}
	ready.Wait()
	close(gate)
	done.Wait()
}
