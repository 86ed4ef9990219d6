package audit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

func TestAnEventIsKeptLoggedAndForgottenInTime(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	var log strings.Builder
	r := audit.New(storetest.SQLite(t, clock), audit.Options{Now: clock, Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.Record(t.Context(), audit.Event{Kind: audit.GrantRevoked, AccountID: "a", ClientID: "c", GrantID: "g", Reason: strings.Repeat("r", 5000)})
	events, err := r.Of(t.Context(), "a", "")
	if err != nil || len(events) != 1 || events[0].Value.Kind != audit.GrantRevoked || !events[0].Value.At.Equal(now) || len(events[0].Value.Reason) > 500 {
		t.Fatalf("kept %+v, %v", events, err)
	}
	if !strings.Contains(log.String(), "grant.revoked") {
		t.Errorf("logged %q", log.String())
	}
	now = now.Add(91 * 24 * time.Hour)
	if events, _ := r.Of(t.Context(), "a", ""); len(events) != 0 {
		t.Error("after 91 days it is still there")
	}
}

// broken is a store that is out.
type broken struct{ store.Backend }

func (broken) Insert(context.Context, string, store.Meta, any) error { return errors.New("out") }

// What happened has happened: a store that is out does not undo it, and the log has it.
func TestAnEventThatCannotBeKeptIsLogged(t *testing.T) {
	var log strings.Builder
	r := audit.New(broken{}, audit.Options{Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.Record(t.Context(), audit.Event{Kind: audit.ClientAdded, ClientID: "c"})
	if !strings.Contains(log.String(), "client.added") || !strings.Contains(log.String(), "cannot be stored") {
		t.Errorf("logged %q", log.String())
	}
}
