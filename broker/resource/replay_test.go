package resource

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A proof is good once for as long as it stands, across the change of generations, and the memory is bounded: a flood is refused, and forgets nothing.
func TestTheMemoryOfProofsIsBoundedAndForgetsNothingTooEarly(t *testing.T) {
	at := now
	m := newMemory(func() time.Time { return at })
	m.size = 10
	claim := func(key string) error { return m.claim(t.Context(), key, at.Add(memorySpan)) }
	at = at.Add(memorySpan - time.Second)
	if err := claim("a"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // up to the last moment that it stands
		if err := claim("a"); !errors.Is(err, ErrReplayed) {
			t.Fatalf("again: %v", err)
		}
		at = at.Add(memorySpan/3 - time.Second)
	}
	at = at.Add(10 * memorySpan)
	for i := range 10 {
		if err := claim("flood" + strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := claim("one more"); !errors.Is(err, errMemoryFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	if err := claim("flood0"); !errors.Is(err, ErrReplayed) {
		t.Errorf("the flood pushed one out: %v", err)
	}
	at = at.Add(memorySpan)
	if err := claim("one more"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := m.claim(t.Context(), "b", at.Add(memorySpan+time.Second)); err == nil {
		t.Error("a proof is taken that will be forgotten while it stands")
	}
}

// Of many that use one proof at once, one gets through.
func TestOneOfManyConcurrentUsesWins(t *testing.T) {
	m := newMemory(time.Now)
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if m.claim(t.Context(), "a", time.Now().Add(time.Minute)) == nil {
				wins.Add(1)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d won", wins.Load())
	}
}
