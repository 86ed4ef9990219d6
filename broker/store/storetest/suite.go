// Package storetest holds what tests need of stores: [Backends], the stores there are to test on, and [Run], the one conformance suite that
// every backend must pass. Other packages' tests take their stores from here, so that they run on all of them.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/store"
)

// Opener opens an empty store whose clock is now. It closes the store when the test ends.
type Opener = func(t *testing.T, now func() time.Time) store.Backend

// clock is a clock that the suite moves.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) Now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) Advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

type note struct {
	Text string `json:"text"`
	N    int64  `json:"n"`
}

// racers is how many writers race: enough that a store which only looks atomic is caught.
const racers = 64

// Run holds a backend to what package store promises.
func Run(t *testing.T, open Opener) {
	t.Run("a document comes back as it was written", func(t *testing.T) { roundTrip(t, open) })
	t.Run("documents of one version are read by the next", func(t *testing.T) { versions(t, open) })
	t.Run("64 racing inserts of one id have one winner", func(t *testing.T) { racingInserts(t, open, false) })
	t.Run("64 racing inserts over an expired document have one winner", func(t *testing.T) { racingInserts(t, open, true) })
	t.Run("64 racing compare-and-swaps have one winner", func(t *testing.T) { racingReplaces(t, open) })
	t.Run("a deletion and replacements race: one outcome", func(t *testing.T) { racingDelete(t, open) })
	t.Run("no change is lost under contention", func(t *testing.T) { contention(t, open) })
	t.Run("a stale revision writes nothing", func(t *testing.T) { staleRevision(t, open) })
	t.Run("expiry is observed at once, to the millisecond", func(t *testing.T) { expiry(t, open) })
	t.Run("pages are in order, and stable under writes", func(t *testing.T) { paging(t, open) })
	t.Run("documents are listed by their owner", func(t *testing.T) { owners(t, open) })
	t.Run("collections are separate", func(t *testing.T) { collections(t, open) })
	t.Run("what is out of bounds is refused", func(t *testing.T) { bounds(t, open) })
	t.Run("a context that has ended writes nothing", func(t *testing.T) { cancelled(t, open) })
	t.Run("a closed store refuses", func(t *testing.T) { closed(t, open) })
}

// Inner is embedded and nested below; exported, since encoders look at exported fields alone.
type Inner struct {
	Word string `json:"word"`
	Deep []int  `json:"deep"`
}

type everything struct {
	Int      int64             `json:"int"`
	Negative int64             `json:"negative"`
	Small    int               `json:"small"`
	Bool     bool              `json:"bool"`
	Text     string            `json:"text"`
	Bytes    []byte            `json:"bytes"`
	Time     time.Time         `json:"time"`
	Zero     time.Time         `json:"zero,omitzero"`
	Strings  []string          `json:"strings"`
	Nil      []string          `json:"nil"`
	Omitted  string            `json:"omitted,omitempty"`
	Pointer  *Inner            `json:"pointer"`
	Map      map[string]string `json:"map"`
	Nested   Inner             `json:"nested"`
	List     []Inner           `json:"list"`
	Skipped  string            `json:"-"`
}

func roundTrip(t *testing.T, open Opener) {
	c := newClock()
	docs := store.NewCollection[everything](open(t, c.Now), "things")
	want := everything{
		Int: 1<<53 + 1, Negative: -(1 << 62), Small: 7, Bool: true,
		Text: "ünïcödé \u2028 \x00 \" \\ 🦦", Bytes: []byte{0, 1, 255}, Time: c.Now().Add(123 * time.Millisecond),
		Strings: []string{"a", ""}, Pointer: &Inner{Word: "w"},
		// Keys that mean something to a database, and values that look like its operators.
		Map:    map[string]string{"a.b": "1", "$oid": "$set", "": "empty", "ключ": "x"},
		Nested: Inner{Deep: []int{1, 2}}, List: []Inner{{Word: "one"}, {Word: "two"}},
	}
	in := &store.Doc[everything]{Meta: store.Meta{ID: "x", Owner: "o", Expires: c.Now().Add(time.Hour + time.Millisecond)}, Value: want}
	in.Value.Skipped = "not kept"
	if err := docs.Insert(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	got, err := docs.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Value); diff != "" {
		t.Errorf("the value changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(store.Meta{ID: "x", Rev: 1, Owner: "o", Expires: in.Expires}, got.Meta); diff != "" {
		t.Errorf("the metadata changed (-want +got):\n%s", diff)
	}
	if got.Value.Time.Location() != time.UTC || got.Expires.Location() != time.UTC {
		t.Error("times are not in UTC")
	}
}

func versions(t *testing.T, open Opener) {
	type v1 struct {
		Kept string `json:"kept"`
		Gone string `json:"gone"`
	}
	type v2 struct {
		Kept  string   `json:"kept"`
		Added []string `json:"added"`
		Flag  bool     `json:"flag"`
	}
	b := open(t, newClock().Now)
	if err := store.NewCollection[v1](b, "things").Insert(t.Context(), &store.Doc[v1]{Meta: store.Meta{ID: "x"}, Value: v1{"kept", "gone"}}); err != nil {
		t.Fatal(err)
	}
	got, err := store.NewCollection[v2](b, "things").Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v2{Kept: "kept"}, got.Value); diff != "" {
		t.Errorf("read by the next version (-want +got):\n%s", diff)
	}
}

// race calls f from n goroutines at once and counts the calls that return nil; every other error must be want.
func race(t *testing.T, n int, want error, f func(i int) error) (won int64) {
	t.Helper()
	var winners, next atomic.Int64
	Race(n, func() {
		switch err := f(int(next.Add(1) - 1)); {
		case err == nil:
			winners.Add(1)
		case !errors.Is(err, want):
			t.Errorf("a loser got %v, want %v", err, want)
		}
	})
	return winners.Load()
}

func racingInserts(t *testing.T, open Opener, expired bool) {
	c := newClock()
	docs := store.NewCollection[note](open(t, c.Now), "notes")
	for round := range 4 {
		id := fmt.Sprintf("id-%d", round)
		if expired {
			if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: id, Expires: c.Now().Add(time.Second)}}); err != nil {
				t.Fatal(err)
			}
			c.Advance(time.Second)
		}
		won := race(t, racers, store.ErrExists, func(i int) error {
			return docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: id}, Value: note{N: int64(i)}})
		})
		if won != 1 {
			t.Errorf("%d inserts won, want 1", won)
		}
		if got, err := docs.Get(t.Context(), id); err != nil || got.Rev != 1 {
			t.Errorf("after the race: %+v, %v", got, err)
		}
	}
}

func racingReplaces(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	first := &store.Doc[note]{Meta: store.Meta{ID: "x"}}
	if err := docs.Insert(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		current, err := docs.Get(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		won := race(t, racers, store.ErrConflict, func(i int) error {
			mine := *current
			mine.Value = note{N: int64(i)}
			return docs.Replace(t.Context(), &mine)
		})
		if won != 1 {
			t.Errorf("%d replacements won, want 1", won)
		}
		if after, err := docs.Get(t.Context(), "x"); err != nil || after.Rev != int64(round)+2 {
			t.Errorf("after round %d: %+v, %v", round, after, err)
		}
	}
}

func racingDelete(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	doc := &store.Doc[note]{Meta: store.Meta{ID: "x"}}
	if err := docs.Insert(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	var deleted, replaced atomic.Int64
	race(t, racers, nil, func(i int) error {
		mine := *doc
		if i%2 == 0 {
			err := docs.Delete(t.Context(), "x", mine.Rev)
			if err == nil {
				deleted.Add(1)
			} else if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
			return nil
		}
		err := docs.Replace(t.Context(), &mine)
		if err == nil {
			replaced.Add(1)
		} else if !errors.Is(err, store.ErrConflict) {
			t.Error(err)
		}
		return nil
	})
	if deleted.Load()+replaced.Load() != 1 {
		t.Errorf("%d deletions and %d replacements of one revision succeeded, want one in all", deleted.Load(), replaced.Load())
	}
}

func contention(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	const writers = 16
	won := race(t, writers, nil, func(int) error {
		_, err := docs.Change(t.Context(), "x", func(doc *store.Doc[note]) error { doc.Value.N++; return nil })
		return err
	})
	got, err := docs.Get(t.Context(), "x")
	if err != nil || won != writers || got.Value.N != writers {
		t.Errorf("%d of %d changes succeeded, and %v, %v is there", won, writers, got, err)
	}
}

func staleRevision(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	doc := &store.Doc[note]{Meta: store.Meta{ID: "x"}}
	if err := docs.Replace(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x", Rev: 1}}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("replacing nothing: %v", err)
	}
	if err := docs.Delete(t.Context(), "x", 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting nothing: %v", err)
	}
	if err := docs.Insert(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	stale := *doc
	if err := docs.Replace(t.Context(), doc); err != nil || doc.Rev != 2 {
		t.Fatalf("replace: %v, revision %d", err, doc.Rev)
	}
	if err := docs.Replace(t.Context(), &stale); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a stale replacement: %v", err)
	}
	if err := docs.Delete(t.Context(), "x", stale.Rev); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a stale deletion: %v", err)
	}
	if err := docs.Delete(t.Context(), "x", 2); err != nil {
		t.Errorf("the current revision: %v", err)
	}
	if _, err := docs.Get(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
}

func expiry(t *testing.T, open Opener) {
	c := newClock()
	docs := store.NewCollection[note](open(t, c.Now), "notes")
	doc := &store.Doc[note]{Meta: store.Meta{ID: "x", Owner: "o", Expires: c.Now().Add(50 * time.Millisecond)}}
	if err := docs.Insert(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	c.Advance(49 * time.Millisecond)
	if _, err := docs.Get(t.Context(), "x"); err != nil {
		t.Errorf("a millisecond before its time: %v", err)
	}
	c.Advance(time.Millisecond)
	if _, err := docs.Get(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get at its time: %v", err)
	}
	for _, q := range []store.Query{{}, {Owner: "o"}} {
		if page, err := docs.List(t.Context(), q); err != nil || len(page) != 0 {
			t.Errorf("list %+v at its time: %d, %v", q, len(page), err)
		}
	}
	if err := docs.Replace(t.Context(), doc); !errors.Is(err, store.ErrConflict) {
		t.Errorf("replace at its time: %v", err)
	}
	if err := docs.Delete(t.Context(), "x", 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("delete at its time: %v", err)
	}
	again := &store.Doc[note]{Meta: store.Meta{ID: "x"}, Value: note{Text: "again"}}
	if err := docs.Insert(t.Context(), again); err != nil {
		t.Errorf("insert in its place: %v", err)
	}
	// A replacement moves the end, both ways.
	again.Expires, again.Owner = c.Now().Add(time.Second), "p"
	if err := docs.Replace(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	again.Expires = time.Time{}
	if err := docs.Replace(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	got, err := docs.Get(t.Context(), "x")
	if err != nil || got.Value.Text != "again" || got.Owner != "p" || !got.Expires.IsZero() {
		t.Errorf("a document that lives for ever now: %+v, %v", got, err)
	}
}

func paging(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	const n = 60
	for i := range n {
		if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: fmt.Sprintf("id-%03d", i*10)}}); err != nil {
			t.Fatal(err)
		}
	}
	// Between any two pages documents appear and vanish; those that were there all along are each seen once, in order.
	var seen []string
	for after, round := "", 0; ; round++ {
		page, err := docs.List(t.Context(), store.Query{After: after, Limit: 7})
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range page {
			seen = append(seen, doc.ID)
		}
		if len(page) < 7 {
			break
		}
		after = page[len(page)-1].ID
		if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: fmt.Sprintf("id-%03d", round*10+5)}}); err != nil {
			t.Fatal(err)
		}
		if round > 0 {
			if err := docs.Delete(t.Context(), fmt.Sprintf("id-%03d", (round-1)*10+5), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.IsSorted(seen) {
		t.Error("the pages are not in order")
	}
	for i := range n {
		id, count := fmt.Sprintf("id-%03d", i*10), 0
		for _, s := range seen {
			if s == id {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s was seen %d times, want once", id, count)
		}
	}
	// Order is bytewise, whatever the database's collation.
	mixed := store.NewCollection[note](open(t, newClock().Now), "mixed")
	want := []string{"-", "1", "A", "B", "_", "a", "b"}
	for _, id := range []string{"b", "B", "a", "A", "_", "-", "1"} {
		if err := mixed.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := mixed.List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, doc := range page {
		got = append(got, doc.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func owners(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	for i, owner := range []string{"a", "b", "a", "", "a"} {
		if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: fmt.Sprint(i), Owner: owner}}); err != nil {
			t.Fatal(err)
		}
	}
	for owner, want := range map[string]int{"a": 3, "b": 1, "c": 0, "": 5} {
		page, err := docs.List(t.Context(), store.Query{Owner: owner})
		if err != nil || len(page) != want {
			t.Errorf("owner %q has %d, %v; want %d", owner, len(page), err, want)
		}
	}
	second, err := docs.List(t.Context(), store.Query{Owner: "a", After: "2", Limit: 1})
	if err != nil || len(second) != 1 || second[0].ID != "4" {
		t.Errorf("the owner's second page: %v, %v", second, err)
	}
}

func collections(t *testing.T, open Opener) {
	b := open(t, newClock().Now)
	one, two := store.NewCollection[note](b, "one"), store.NewCollection[note](b, "two")
	if err := one.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}, Value: note{Text: "one"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Get(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another collection has it: %v", err)
	}
	if err := two.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}}); err != nil {
		t.Errorf("the id is taken in another collection: %v", err)
	}
}

func bounds(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	for _, id := range []string{"", strings.Repeat("a", store.MaxIDBytes+1), "a b", "a/b", "ä", "a\x00", "$where"} {
		if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: id}}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("id %.20q: %v, want ErrInvalid", id, err)
		}
		if _, err := docs.Get(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get %.20q: %v, want ErrNotFound", id, err)
		}
	}
	if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: strings.Repeat("a", store.MaxIDBytes)}}); err != nil {
		t.Errorf("the longest id: %v", err)
	}
	big := &store.Doc[note]{Meta: store.Meta{ID: "big"}, Value: note{Text: strings.Repeat("x", store.MaxDocumentBytes)}}
	if err := docs.Insert(t.Context(), big); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("a document that is too large: %v", err)
	}
	for _, limit := range []int{-1, store.MaxPage + 1} {
		if _, err := docs.List(t.Context(), store.Query{Limit: limit}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a page of %d: %v", limit, err)
		}
	}
}

func cancelled(t *testing.T, open Opener) {
	docs := store.NewCollection[note](open(t, newClock().Now), "notes")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := docs.Insert(ctx, &store.Doc[note]{Meta: store.Meta{ID: "x"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("insert: %v, want context.Canceled", err)
	}
	if _, err := docs.Get(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it was written all the same: %v", err)
	}
	if _, err := docs.Get(ctx, "x"); err == nil {
		t.Error("get with an ended context succeeds")
	}
}

func closed(t *testing.T, open Opener) {
	b := open(t, newClock().Now)
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	docs := store.NewCollection[note](b, "notes")
	if err := docs.Insert(t.Context(), &store.Doc[note]{Meta: store.Meta{ID: "x"}}); err == nil {
		t.Error("insert into a closed store succeeds")
	}
	if _, err := docs.Get(t.Context(), "x"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get from a closed store: %v", err)
	}
}
