package flow_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

func newFlows(b store.Backend, now func() time.Time) *flow.Flows {
	var n atomic.Int64
	return flow.New(b, func() string { return fmt.Sprintf("id%d", n.Add(1)) }, now, 30*time.Minute)
}

func once(name string, until time.Time) flow.Request {
	return flow.Request{ClientID: "c", Once: &flow.Once{Name: name, Until: until, Refusal: "invalid_request_uri"}}
}

// Browsers that all opened one request end their flows at once, on several nodes: one flow has the code (RFC 9126 section 7.3).
func TestOfRacingFlowsOfARequestOneEndsWithTheCode(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			backend := open(t, time.Now)
			nodes := []*flow.Flows{newFlows(backend, time.Now), newFlows(backend, time.Now)}
			const racers = 32
			var mu sync.Mutex
			ended := map[flow.Step]int{}
			var n atomic.Int64
			storetest.Race(racers, func() {
				i := n.Add(1)
				flows := nodes[i%2]
				doc := flows.Draft(once("r", time.Now().Add(time.Minute)), fmt.Sprintf("browser %d", i))
				doc.Value.SignedIn(flow.SignIn{AccountID: "a"}, false, time.Now())
				if err := flows.Save(t.Context(), doc); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ended[doc.Value.Step]++
				if doc.Value.JustGranted() != (doc.Value.Step == flow.Done) {
					t.Error("a flow that failed says that it has a code")
				}
			})
			if ended[flow.Done] != 1 || ended[flow.Failed] != racers-1 {
				t.Errorf("got %v, want one with a code and %d refused", ended, racers-1)
			}
		})
	}
}

// One browser has one flow of a request; another has its own; any other request makes a new one each time.
func TestABrowserHasOneFlowOfARequest(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			flows := newFlows(open(t, time.Now), time.Now)
			first := flows.Draft(once("r", time.Now()), "b1")
			again := flows.Draft(once("r", time.Now()), "b1")
			if first.ID != again.ID {
				t.Error("the same browser gets two flows of one request")
			}
			for name, other := range map[string]*flow.Doc{
				"another browser": flows.Draft(once("r", time.Now()), "b2"), "another request": flows.Draft(once("r2", time.Now()), "b1"),
				"the parts joined otherwise": flows.Draft(once("rb", time.Now()), "1"), "no such request": flows.Draft(flow.Request{}, "b1"),
			} {
				if other.ID == first.ID {
					t.Errorf("%s has the same flow", name)
				}
			}
			if err := flows.Save(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			if err := flows.Save(t.Context(), again); !errors.Is(err, store.ErrConflict) {
				t.Errorf("saving it a second time: %v, want a conflict: the flow is there, go on from where it stands", err)
			}
		})
	}
}

// The use outlives every flow that the request can still have, or the request could be used again.
func TestAUseIsRememberedAsLongAsAFlowOfTheRequestCanLive(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	flows := newFlows(storetest.SQLite(t, clock), clock)
	until := now.Add(time.Hour)
	if err := flows.Use(t.Context(), "f1", once("r", until).Once); err != nil {
		t.Fatal(err)
	}
	now = until.Add(30*time.Minute - time.Second)
	if err := flows.Use(t.Context(), "f2", once("r", until).Once); !errors.Is(err, flow.ErrUsed) {
		t.Errorf("another flow, at the last moment: %v", err)
	}
	if err := flows.Use(t.Context(), "f1", once("r", until).Once); err != nil {
		t.Errorf("the same flow again: %v", err)
	}
	if got, err := flows.UsedBy(t.Context(), "r"); got != "f1" || err != nil {
		t.Errorf("used by %q, %v", got, err)
	}
}
