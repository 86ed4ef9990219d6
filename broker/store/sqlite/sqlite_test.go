package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/sqlite"
)

type note struct {
	Text string `json:"text"`
}

func open(t testing.TB, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
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

func TestWhatWasWrittenIsThereAfterReopening(t *testing.T) {
	// A path that means something in a URI must not.
	path := filepath.Join(t.TempDir(), "a b?c=d%20#e.db")
	db := open(t, path)
	if err := store.NewCollection[note](db, "notes").Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}, Value: note{"kept"}}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := store.NewCollection[note](open(t, path), "notes").Get(t.Context(), "x")
	if err != nil || got.Value.Text != "kept" {
		t.Errorf("got %+v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; others may read it", info.Mode(), err)
	}
}

// The commands work on the store of a running broker.
func TestTwoHandlesOnOneFileSeeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	handles := []store.Collection[note]{
		store.NewCollection[note](open(t, path), "notes"), store.NewCollection[note](open(t, path), "notes"),
	}
	const each = 50
	var done sync.WaitGroup
	for h, docs := range handles {
		done.Go(func() {
			for i := range each {
				if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: fmt.Sprintf("%d-%d", h, i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	for h, docs := range handles {
		page, err := docs.List(t.Context(), store.Query{})
		if err != nil || len(page) != 2*each {
			t.Errorf("handle %d sees %d documents, %v; want %d", h, len(page), err, 2*each)
		}
	}
}

// Writes that share a transaction each get their own answer: one that is refused takes no other along.
func TestARefusedWriteHarmsNoneThatIsCommittedWithIt(t *testing.T) {
	docs := store.NewCollection[note](open(t, filepath.Join(t.TempDir(), "p.db")), "notes")
	var done sync.WaitGroup
	const n = 200
	errs := make([]error, n)
	for i := range n {
		done.Go(func() {
			errs[i] = docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: fmt.Sprint(i / 2)}}) // each id twice
		})
	}
	done.Wait()
	for i := 0; i < n; i += 2 {
		if (errs[i] == nil) == (errs[i+1] == nil) {
			t.Errorf("of two inserts of %d: %v and %v", i/2, errs[i], errs[i+1])
		}
	}
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path}); !errors.Is(err, store.ErrNewerSchema) {
		t.Errorf("got %v, want ErrNewerSchema", err)
	}
}

// A store as version 1 of the schema made it, written out: later releases must open it.
func TestTheOldestSchemaOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec(`
		CREATE TABLE documents (collection TEXT NOT NULL, id TEXT NOT NULL, rev INTEGER NOT NULL, expires_at INTEGER, owner TEXT NOT NULL, body TEXT NOT NULL,
			PRIMARY KEY (collection, id)) WITHOUT ROWID;
		CREATE INDEX documents_by_owner ON documents (collection, owner, id) WHERE owner <> '';
		CREATE INDEX documents_by_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL;
		INSERT INTO documents VALUES ('notes', 'x', 3, NULL, 'o', '{"text":"old"}');
		PRAGMA user_version = 1;`)
	if err := errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := store.NewCollection[note](open(t, path), "notes").Get(t.Context(), "x")
	if err != nil || got.Value.Text != "old" || got.Rev != 3 || got.Owner != "o" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// childVariable makes the test binary a writer, to be killed.
const childVariable = "PORTICO_TEST_SQLITE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		writeUntilKilled(path)
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled inserts documents from several writers and prints each id once its insert was acknowledged.
func writeUntilKilled(path string) {
	db, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	docs := store.NewCollection[note](db, "notes")
	var mu sync.Mutex
	var done sync.WaitGroup
	for w := range 8 {
		done.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				if err := docs.Insert(context.Background(), &store.Doc[note]{Meta: store.Meta{ID: id}, Value: note{strings.Repeat("x", 300)}}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		})
	}
	done.Wait()
}

func TestAfterKill9EveryAcknowledgedWriteIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+path)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) == 500 {
			if err := child.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // killed
	if len(acknowledged) < 500 {
		t.Fatalf("only %d writes were acknowledged", len(acknowledged))
	}
	docs := store.NewCollection[note](open(t, path), "notes")
	// The last line may have been cut off by the kill.
	for _, id := range acknowledged[:len(acknowledged)-1] {
		if _, err := docs.Get(t.Context(), id); err != nil {
			t.Fatalf("%s was acknowledged and is gone: %v", id, err)
		}
	}
}

func BenchmarkInsert(b *testing.B) {
	docs := store.NewCollection[note](open(b, filepath.Join(b.TempDir(), "p.db")), "notes")
	value := note{strings.Repeat("x", 600)}
	var n sync.Mutex
	next := 0
	b.SetParallelism(4) // eight writers on two cores
	before := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			next++
			id := fmt.Sprint(next)
			n.Unlock()
			if err := docs.Insert(b.Context(), &store.Doc[note]{Meta: store.Meta{ID: id}, Value: value}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func BenchmarkGet(b *testing.B) {
	docs := store.NewCollection[note](open(b, filepath.Join(b.TempDir(), "p.db")), "notes")
	if err := docs.Insert(b.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}, Value: note{strings.Repeat("x", 600)}}); err != nil {
		b.Fatal(err)
	}
	before := cpu(b)
	for b.Loop() {
		if _, err := docs.Get(b.Context(), "x"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
