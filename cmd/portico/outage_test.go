package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/examples/sampleapi"
)

// The broker's process is killed under an API that is in use, and started again. The API is not: it goes on with the tokens that it can check by
// itself, and asks the broker again as soon as there is one. What goes on inside is in broker/resource.
func TestAnAPIOutlivesTheBrokersProcess(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePort("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	issuer := fmt.Sprintf("http://127.0.0.1:%d", port)
	server := brokertest.Client{ID: "notes-server", Secret: "notes-server-secret-0123456789-0123456789"}
	nightly := brokertest.Client{ID: "nightly", Secret: "nightly-secret-0123456789-0123456789-012345"}

	listening, handle := brokertest.Listening(t)
	api, err := sampleapi.New(sampleapi.Config{Issuer: issuer, URL: listening.URL, ClientID: server.ID, ClientSecret: server.Secret, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	handle(api)
	dir := t.TempDir()
	file := filepath.Join(dir, "portico.yaml")
	config := `
issuer: ` + issuer + `
listen: ` + strings.TrimPrefix(issuer, "http://") + `
store: {type: sqlite, path: "` + filepath.Join(dir, "portico.db") + `"}
keyring: [{secret: "an-entirely-random-test-keyring-secret-9f8e7d6c5b4a"}]
log: {level: warn, format: text}
connectors:
  - {name: robot, type: fixed, insecure_signs_everyone_in: true, profile: {subject: robot-1, name: Robot}}
apis:
  - identifier: ` + listening.URL + `
    name: Notes
    access_token_format: jwt
    scopes: [{name: "notes:read", sentence: Read your notes}, {name: "notes:write", sentence: Write notes for you}]
clients:
  - {client_id: ` + server.ID + `, client_secret: ` + server.Secret + `, name: The server, resource_server_of: ["` + listening.URL + `"]}
  - {client_id: ` + nightly.ID + `, client_secret: ` + nightly.Secret + `, name: Nightly, grant_types: [client_credentials], scopes: ["notes:read", "notes:write"]}
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, chan struct{}) {
		cmd := exec.Command(path, "serve", "--config", file)
		return cmd, startServe(t, cmd, http.DefaultClient, issuer)
	}
	d := &dev{ready: ready{Issuer: issuer, APIs: []devAPI{{URL: listening.URL}}}}
	fresh := func() string {
		r := d.env().Post(t, "/token", nightly, url.Values{"grant_type": {"client_credentials"}})
		if r.Status != http.StatusOK {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
		return r.String("access_token")
	}

	broker, exited := start()
	token, revoked := fresh(), fresh()
	d.expectNotes(t, "before", token, http.StatusOK, http.StatusCreated)
	d.env().Post(t, "/revoke", nightly, url.Values{"token": {revoked}})
	d.expectNotes(t, "revoked", revoked, http.StatusUnauthorized, http.StatusUnauthorized)

	if err := broker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
	d.expectNotes(t, "without the broker", token, http.StatusOK, http.StatusCreated)
	d.expectNotes(t, "revoked, without the broker", revoked, http.StatusUnauthorized, http.StatusUnauthorized)

	start()
	d.expectNotes(t, "with the next one", token, http.StatusOK, http.StatusCreated)
	d.expectNotes(t, "with the next one's token", fresh(), http.StatusOK, http.StatusCreated)
	// What was revoked before the kill is so after it, and whatever is revoked now is refused at once. Whether there is a broker again is asked beside
	// the requests, so that it may take some of them to be known.
	deadline := time.Now().Add(startTimeout)
	for d.notes(t, "", bearer(revoked)).Status != http.StatusUnauthorized && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	d.expectNotes(t, "revoked before", revoked, http.StatusUnauthorized, http.StatusUnauthorized)
	d.env().Post(t, "/revoke", nightly, url.Values{"token": {token}})
	d.expectNotes(t, "revoked after", token, http.StatusUnauthorized, http.StatusUnauthorized)
}
