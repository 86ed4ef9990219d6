package flow_test

import (
	"errors"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/flow"
)

// The state of a trip opens the callback once, for the connector it was made for, while that trip is the current one.
func TestATripEndsOnceAndOnlyAsItself(t *testing.T) {
	trip := func() *flow.Trip { return &flow.Trip{ID: "t1", Connector: "github", Nonce: "n", Verifier: "v"} }
	for _, c := range []struct {
		name      string
		prepare   func(*flow.Flow)
		id        string
		connector string
		want      error
	}{
		{"its own state and connector", func(*flow.Flow) {}, "t1", "github", nil},
		{"another state", func(*flow.Flow) {}, "t2", "github", flow.ErrTripOver},
		{"the beginning of the state", func(*flow.Flow) {}, "t", "github", flow.ErrTripOver},
		{"no state", func(*flow.Flow) {}, "", "github", flow.ErrTripOver},
		// The mix-up attack (RFC 9700 section 4.4): one provider's answer delivered at another's callback.
		{"another connector's callback", func(*flow.Flow) {}, "t1", "google", flow.ErrTripOver},
		{"a state that was used", func(f *flow.Flow) { _, _ = f.EndTrip("t1", "github") }, "t1", "github", flow.ErrTripOver},
		{"a state that a new trip replaced", func(f *flow.Flow) { f.BeginTrip(&flow.Trip{ID: "t9", Connector: "github"}) }, "t1", "github", flow.ErrTripOver},
		{"a flow that is done", func(f *flow.Flow) { f.SignedIn(flow.SignIn{AccountID: "a"}, false, time.Now()) }, "t1", "github", flow.ErrTripOver},
		{"a flow that failed", func(f *flow.Flow) { f.Fail("access_denied", "") }, "t1", "github", flow.ErrTripOver},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flow.Flow{Step: flow.Choose}
			f.BeginTrip(trip())
			c.prepare(f)
			got, err := f.EndTrip(c.id, c.connector)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (got.Verifier != "v" || f.Trip != nil) {
				t.Error("the trip must come out whole, and be gone from the flow")
			}
		})
	}
}

func TestParseStateTakesApartWhatStatePutTogether(t *testing.T) {
	id, trip, ok := flow.ParseState(flow.State("flow1", &flow.Trip{ID: "trip1"}))
	if !ok || id != "flow1" || trip != "trip1" {
		t.Errorf("got %q, %q, %v", id, trip, ok)
	}
	for _, bad := range []string{"", ".", "a.", ".b", "nothing", string(make([]byte, 500))} {
		if _, _, ok := flow.ParseState(bad); ok {
			t.Errorf("%.20q was taken for a state", bad)
		}
	}
}

func TestAProofGoesBackToTheLinkPageAndASignInToTheChooser(t *testing.T) {
	for prove, want := range map[bool]flow.Step{true: flow.Link, false: flow.Choose} {
		f := &flow.Flow{}
		f.BeginTrip(&flow.Trip{ID: "t", Connector: "c", Prove: prove})
		if _, err := f.EndTrip("t", "c"); err != nil {
			t.Fatal(err)
		}
		if f.Step != want {
			t.Errorf("after a trip with prove=%v the step is %s, want %s", prove, f.Step, want)
		}
	}
}
