package broker_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/connectors/sandbox"
)

func request(t *testing.T, method, target, body, contentType string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// expectAtApp goes back to the app from an error page and checks what the app is told.
func expectAtApp(t *testing.T, page *Page, want string) {
	t.Helper()
	if len(page.Forms) == 0 {
		t.Fatalf("the page (%d) has no way back:\n%s", page.Status, page.Body)
	}
	answer := page.Submit(0, "").Location()
	if answer == nil {
		t.Fatal("the page's first button does not lead back to the app")
	}
	if got := answer.Query().Get("error"); got != want {
		t.Errorf("the app is told %q (%s), want %s", got, answer.Query().Get("error_description"), want)
	}
	if answer.Query().Get("state") != "st-1" || answer.Query().Get("iss") == "" {
		t.Errorf("state or iss is missing in %v", answer.Query())
	}
}

// arm makes the provider go wrong once.
func arm(t *testing.T, e *Env, provider, name string) {
	t.Helper()
	fault := sandbox.Fault{Name: name}
	if name == "slow" {
		fault.Delay = 20 * time.Second // longer than any limit in the tests
	}
	if err := e.Sandbox.Arm(sandbox.Provider(provider), fault); err != nil {
		t.Fatal(err)
	}
}

// logLine is the line of the log that holds all words.
func logLine(e *Env, words ...string) string {
	for line := range strings.Lines(e.Logs.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return line
		}
	}
	return ""
}
