package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/brokertest"
)

// porticoReading runs a command in this process, with something on its standard input.
func porticoReading(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(context.WithoutCancel(t.Context()), args, process{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs})
	return status, out.String(), errs.String()
}

// serveInBackground runs a broker with the configuration until the test ends.
func serveInBackground(t *testing.T, path, address string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var stdout, stderr output
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"serve", "--config", path}, process{stdout: &stdout, stderr: &stderr})
	}()
	t.Cleanup(func() {
		stop()
		if s := <-status; s != 0 {
			t.Errorf("serve ended with %d:\n%s", s, stderr.String())
		}
	})
	for deadline := time.Now().Add(startTimeout); ; {
		response, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v\n%s", err, stderr.String())
		}
		<-time.After(20 * time.Millisecond) // polling another goroutine's server: there is nothing to wait on
	}
}

const accountsConfig = `
connectors: [{name: github, type: github, client_id: a, client_secret: b}]
grant_types: [authorization_code, refresh_token, password]
clients:
  - {client_id: trusted, client_secret: trusted-secret-0123456789-0123456789-012345, name: Trusted, grant_types: [password, refresh_token], scopes: [openid, email, offline_access]}
accounts:
  - {username: fixed, password: "the fixed password", id: fixed-1}
`

type printedAccount struct {
	ID            string `json:"id"`
	Username      string `json:"username"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	Disabled      bool   `json:"disabled"`
	Static        bool   `json:"static"`
	Logins        []struct {
		Username string `json:"username"`
	} `json:"logins"`
	Identities []struct {
		Connector string `json:"connector"`
	} `json:"identities"`
	Grants []struct {
		ClientID string `json:"client_id"`
	} `json:"grants"`
}

// A local account is made while the broker runs, signs in, gets another password, is disabled, enabled and removed: each takes effect at once.
func TestALocalAccountIsMadeUsedChangedDisabledAndRemoved(t *testing.T) {
	dir := t.TempDir()
	port, err := freePort("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	path := filepath.Join(dir, "portico.yaml")
	text := "issuer: http://" + address + "\nlisten: " + address + "\nstore: {path: " + filepath.Join(dir, "p.db") + "}\n" + accountsConfig
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &brokertest.Env{Issuer: "http://" + address}
	trusted := brokertest.Client{ID: "trusted", Secret: "trusted-secret-0123456789-0123456789-012345"}
	login := func(username, password string) *brokertest.Response {
		t.Helper()
		return e.Post(t, "/token", trusted, url.Values{
			"grant_type": {"password"}, "username": {username}, "password": {password}, "scope": {"openid email offline_access"},
		})
	}
	config := "--config=" + path

	// Without a broker that runs.
	var added printedAccount
	status, stdout, stderr := porticoReading(t, "bob's own password\n", "account", "add", config, "--json", "--username", "Bob", "--name", "Bob Example", "--email", "bob@example.com", "--email-verified")
	if status != 0 {
		t.Fatal(stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &added); err != nil || added.ID == "" || added.Username != "bob" || !added.EmailVerified {
		t.Fatalf("%v in %s", err, stdout)
	}
	if strings.Contains(stdout, "password") || strings.Contains(stdout, "argon2") {
		t.Errorf("the password or its hash is printed: %s", stdout)
	}

	serveInBackground(t, path, address)
	tokens := login("bob", "bob's own password")
	if tokens.Status != 200 || e.Subject(t, tokens.String("access_token")) != added.ID {
		t.Fatalf("%d %v", tokens.Status, tokens.Body)
	}

	// And beside it.
	var shown printedAccount
	mustJSON(t, &shown, "account", "show", config, "--json", "bob")
	if shown.ID != added.ID || len(shown.Logins) != 1 || len(shown.Grants) != 1 || shown.Grants[0].ClientID != "trusted" || shown.Email != "bob@example.com" {
		t.Errorf("show gave %+v", shown)
	}
	if status, stdout, _ := portico(t, "account", "show", config, added.ID); status != 0 || !strings.Contains(stdout, "bob@example.com (verified)") {
		t.Errorf("show by the id: %s", stdout)
	}
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("another password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := portico(t, "account", "set-password", config, "--password-file", file, "bob"); status != 0 {
		t.Fatal(stderr)
	}
	if r := e.Refresh(t, trusted, tokens.String("refresh_token")); r.String("error") != "invalid_grant" {
		t.Errorf("a token of the password before: %d %v", r.Status, r.Body)
	}
	if r := login("bob", "bob's own password"); r.String("error") != "invalid_grant" {
		t.Errorf("the password before: %d %v", r.Status, r.Body)
	}
	tokens = login("bob", "another password")
	if tokens.Status != 200 {
		t.Fatalf("the new password: %d %v", tokens.Status, tokens.Body)
	}

	if status, _, stderr := portico(t, "account", "disable", config, "bob"); status != 0 {
		t.Fatal(stderr)
	}
	if e.Active(t, trusted, tokens.String("access_token")) || login("bob", "another password").String("error") != "invalid_grant" {
		t.Error("a disabled account is of use")
	}
	var all []printedAccount
	mustJSON(t, &all, "account", "list", config, "--json")
	if len(all) != 2 || all[0].ID != "fixed-1" || !all[0].Static || all[1].ID != added.ID || !all[1].Disabled {
		t.Errorf("list gave %+v", all)
	}
	if status, _, stderr := portico(t, "account", "enable", config, added.ID); status != 0 {
		t.Fatal(stderr)
	}
	if e.Active(t, trusted, tokens.String("access_token")) || login("bob", "another password").Status != 200 {
		t.Error("enabled, the account should sign in, and its old tokens stay dead")
	}

	for range 2 { // the second finds the removal done, and nothing to do
		if status, _, stderr := portico(t, "account", "remove", config, added.ID); status != 0 {
			t.Fatal(stderr)
		}
	}
	if r := login("bob", "another password"); r.String("error") != "invalid_grant" {
		t.Errorf("a removed account signs in: %d %v", r.Status, r.Body)
	}
	if status, _, stderr := portico(t, "account", "show", config, "bob"); status != 1 || !strings.Contains(stderr, "no such account") {
		t.Errorf("a removed account is shown: %s", stderr)
	}
	if status, _, stderr := porticoReading(t, "bob's own password", "account", "add", config, "--username", "bob"); status != 0 {
		t.Errorf("the username is not free: %s", stderr)
	}
}

// Somebody who came with a provider is disabled and removed by the same commands, in another process than the broker's.
func TestAnAccountOfAProvidersPersonIsShownDisabledAndRemoved(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	config := "--config=" + filepath.Join(dir, devConfigFile)
	app := d.web()
	e := d.env()
	tokens := e.SignIn(t, brokertest.NewBrowser(t), app, "idp_hint", "google")
	id := e.Subject(t, tokens.String("access_token"))

	var shown printedAccount
	mustJSON(t, &shown, "account", "show", config, "--json", id)
	if len(shown.Identities) != 1 || shown.Identities[0].Connector != "google" || len(shown.Grants) != 1 || len(shown.Logins) != 0 {
		t.Errorf("show gave %+v", shown)
	}
	if status, _, stderr := portico(t, "account", "disable", config, id); status != 0 {
		t.Fatal(stderr)
	}
	if r := e.Refresh(t, app, tokens.String("refresh_token")); r.String("error") != "invalid_grant" {
		t.Errorf("refresh of a disabled account: %d %v", r.Status, r.Body)
	}
	if status, _, stderr := portico(t, "account", "remove", config, id); status != 0 {
		t.Fatal(stderr)
	}
	again := e.SignIn(t, brokertest.NewBrowser(t), app, "idp_hint", "google")
	if e.Subject(t, again.String("access_token")) == id {
		t.Error("the account came back")
	}
}

func TestAccountsThatAreRefusedSayWhy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "portico.yaml")
	if err := os.WriteFile(path, []byte("issuer: http://127.0.0.1:8080\nstore: {path: "+filepath.Join(dir, "p.db")+"}\n"+accountsConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	config := "--config=" + path
	if status, _, stderr := porticoReading(t, "a good password", "account", "add", config, "--username", "bob"); status != 0 {
		t.Fatal(stderr)
	}
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"a good password", []string{"add", "--username", "BOB"}, "taken"},
		{"a good password", []string{"add", "--username", "fixed"}, "taken"},
		{"short", []string{"add", "--username", "cid"}, "at least 8"},
		{"", []string{"add", "--username", "cid"}, "empty"},
		{strings.Repeat("x", 1025), []string{"add", "--username", "cid"}, "more than 1024"},
		{"a good password", []string{"add", "--username", "cid", "--password-file", filepath.Join(dir, "nothing")}, "no such file"},
		{"a good password", []string{"add", "--username", "c i d"}, "username"},
		{"a good password", []string{"add", "--username", "cid", "--email", "nobody"}, "email"},
		{"a good password", []string{"add", "--username", "cid", "--email-verified"}, "email_verified"},
		{"a good password", []string{"set-password", "nobody"}, "no such account"},
		{"a good password", []string{"set-password", "--username", "robert", "bob"}, "another username"},
		{"a good password", []string{"set-password", "fixed"}, "configuration"},
		{"", []string{"disable", "fixed"}, "configuration"},
		{"", []string{"remove", "fixed-1"}, "configuration"},
		{"", []string{"remove", "nobody"}, "no such account"},
		{"", []string{"enable", "nobody"}, "no such account"},
	} {
		status, _, stderr := porticoReading(t, c.stdin, append([]string{"account", c.args[0], config}, c.args[1:]...)...)
		if status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, %q; want words about %q", c.args, status, stderr, c.want)
		}
	}
	// A password on the command line would be everybody's on the machine.
	if status, _, _ := portico(t, "account", "add", config, "--username", "cid", "--password", "a good password"); status != 2 {
		t.Errorf("a password as an argument: status %d", status)
	}
	var all []printedAccount
	mustJSON(t, &all, "account", "list", config, "--json")
	if len(all) != 2 {
		t.Errorf("a refused command left an account behind: %+v", all)
	}
}
