package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// portico runs a command in this process.
func portico(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(context.WithoutCancel(t.Context()), args, process{stdout: &out, stderr: &errs})
	return status, out.String(), errs.String()
}

// mustJSON runs a command that has to succeed, and reads what it prints.
func mustJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	status, stdout, stderr := portico(t, args...)
	if status != 0 {
		t.Fatalf("portico %s: %s", strings.Join(args, " "), stderr)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		t.Fatalf("portico %s printed %q: %v", strings.Join(args, " "), stdout, err)
	}
}

type printedClient struct {
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	Name         string   `json:"name"`
	RedirectURIs []string `json:"redirect_uris"`
	Secrets      []struct {
		Hint string `json:"hint"`
		Hash string `json:"hash"`
	} `json:"secrets"`
}

// An app is registered while the broker runs, and used at once: the commands work on the same store.
func TestAnAppIsRegisteredUsedChangedAndRemoved(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	config := "--config=" + filepath.Join(dir, devConfigFile)

	var added printedClient
	mustJSON(t, &added, "client", "add", config, "--json", "--name", "My app", "--website", "https://app.example.com", "--redirect-uri", "https://app.example.com/callback")
	if added.ClientID == "" || added.ClientSecret == "" {
		t.Fatalf("id or secret is missing: %+v", added)
	}
	app := brokertest.Client{ID: added.ClientID, Secret: added.ClientSecret, RedirectURI: "https://app.example.com/callback"}
	tokens := d.env().SignIn(t, brokertest.NewBrowser(t), app, "idp_hint", "google")

	var shown printedClient
	mustJSON(t, &shown, "client", "show", config, "--json", added.ClientID)
	if shown.ClientSecret != "" || len(shown.Secrets) != 1 || shown.Secrets[0].Hash != "" || !strings.HasSuffix(added.ClientSecret, shown.Secrets[0].Hint) {
		t.Errorf("a secret is shown once, and its hash never: %+v", shown)
	}

	// Rotation: both secrets are live, and a refresh works with either.
	var rotated printedClient
	mustJSON(t, &rotated, "client", "rotate-secret", config, "--json", added.ClientID)
	if rotated.ClientSecret == "" || rotated.ClientSecret == added.ClientSecret || len(rotated.Secrets) != 2 {
		t.Fatalf("rotation gave %+v", rotated)
	}
	refresh := tokens.String("refresh_token")
	for _, secret := range []string{added.ClientSecret, rotated.ClientSecret} {
		app.Secret = secret
		r := d.env().Refresh(t, app, refresh)
		if r.Status != 200 {
			t.Fatalf("with one of two live secrets: %d %v", r.Status, r.Body)
		}
		refresh = r.String("refresh_token")
	}
	// Without overlap the one before ends now.
	mustJSON(t, &rotated, "client", "rotate-secret", config, "--json", "--overlap", "0s", added.ClientID)
	if r := d.env().Refresh(t, app, refresh); r.String("error") != "invalid_client" {
		t.Errorf("a secret that was rotated out: %d %v", r.Status, r.Body)
	}
	app.Secret = rotated.ClientSecret

	var updated printedClient
	mustJSON(t, &updated, "client", "update", config, "--json", "--name", "Renamed", "--redirect-uri", "https://app.example.com/new", added.ClientID)
	if updated.Name != "Renamed" || len(updated.RedirectURIs) != 1 || updated.RedirectURIs[0] != "https://app.example.com/new" {
		t.Errorf("update gave %+v", updated)
	}
	if page := brokertest.NewBrowser(t).Get(d.env().AuthorizeURL(app)); page.Status != 400 {
		t.Errorf("a redirect URI that was taken out is still good: %d", page.Status)
	}

	var all []printedClient
	mustJSON(t, &all, "client", "list", config, "--json")
	if _, raw, _ := portico(t, "client", "list", config, "--json"); strings.Contains(raw, "null") || strings.Contains(raw, "0001-01-01") {
		t.Errorf("a list without items is null, or a time that nobody knows is there: %s", raw)
	}
	if len(all) != 6 { // and the five of the configuration
		t.Errorf("%d clients are listed, want 6", len(all))
	}
	if status, _, stderr := portico(t, "client", "remove", config, devWebClient); status == 0 || !strings.Contains(stderr, "configuration") {
		t.Errorf("a client of the configuration was removed: %q", stderr)
	}
	if status, _, stderr := portico(t, "client", "remove", config, added.ClientID); status != 0 {
		t.Errorf("remove: %s", stderr)
	}
	if r := d.env().Refresh(t, app, refresh); r.String("error") != "invalid_client" {
		t.Errorf("a removed client refreshes: %d %v", r.Status, r.Body)
	}
}

func TestRegistrationsThatAreRefusedSayWhy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "portico.yaml")
	if err := os.WriteFile(path, []byte("issuer: https://id.example.com\nstore: {path: "+filepath.Join(dir, "p.db")+"}\nconnectors: [{name: github, type: github, client_id: a, client_secret: b}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--redirect-uri", "http://app.example.com/cb"}, "redirect_uris"},
		{[]string{"--redirect-uri", "https://app.example.com/#x"}, "fragment"},
		{[]string{"--redirect-uri", "https://*.example.com/cb"}, "wildcard"},
		{[]string{"--redirect-uri", "myapp:/cb"}, "reverse"},
		{[]string{"--redirect-uri", "javascript:alert(1)"}, "dangerous"},
		{nil, "redirect_uris"},
		{[]string{"--redirect-uri", "https://a.example/cb", "--grant", "implicit"}, "grant_types"},
		{[]string{"--redirect-uri", "https://a.example/cb", "--id-token-alg", "HS256"}, "id_token_signed_response_alg"},
	} {
		status, _, stderr := portico(t, append([]string{"client", "add", "--config", path, "--name", "x"}, c.args...)...)
		if status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, %q; want words about %q", c.args, status, stderr, c.want)
		}
	}
}

func TestConfigCheckNamesTheLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portico.yaml")
	if err := os.WriteFile(path, []byte("issuer: https://id.example.com\nlistne: 127.0.0.1:8080\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := portico(t, "config", "check", "--config", path)
	if status != 1 || !strings.Contains(stderr, "portico.yaml:2") || !strings.Contains(stderr, "listen") {
		t.Errorf("status %d, %q; want line 2 and a hint at listen", status, stderr)
	}
	if status, stdout, stderr := portico(t, "config", "check", "--config", filepath.Join("..", "..", "portico.example.yaml")); status != 0 {
		t.Errorf("the example: %s%s", stdout, stderr)
	}
}

func TestHelpAndMistakesOnTheCommandLine(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"dev", "--help"}, {"client", "add", "--help"}, {"version"}} {
		if status, stdout, stderr := portico(t, args...); status != 0 || stdout == "" {
			t.Errorf("%v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
	for _, args := range [][]string{{}, {"serv"}, {"dev", "--port", "1"}, {"client", "add"}} {
		if status, _, stderr := portico(t, args...); status != 2 || stderr == "" {
			t.Errorf("%v: status %d, %q", args, status, stderr)
		}
	}
	if status, _, stderr := portico(t, "dev", "--auto", "nobody"); status != 1 || !strings.Contains(stderr, "ann") {
		t.Errorf("an unknown persona: %d %q", status, stderr)
	}
	if status, _, stderr := portico(t, "dev", "--addr", "0.0.0.0:8080"); status != 1 || !strings.Contains(stderr, "loopback") {
		t.Errorf("a sandbox for everybody: %d %q", status, stderr)
	}
}

// Everything that a registration over HTTP can say can be said here, in the same document; what it leaves out stays.
func TestAnAppIsDescribedByAMetadataDocument(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := "--config=" + write("portico.yaml", "issuer: https://id.example.com\nstore: {path: "+filepath.Join(dir, "p.db")+"}\nconnectors: [{name: github, type: github, client_id: a, client_secret: b}]\n")
	keys := write("jwks.json", `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
	metadata := write("client.json", `{"client_name":"Bank","redirect_uris":["https://bank.example/cb"],"token_endpoint_auth_method":"private_key_jwt",
		"jwks_uri":"https://bank.example/jwks","dpop_bound_access_tokens":true,"unknown":1}`)

	type printed struct {
		printedClient
		AuthMethod string   `json:"token_endpoint_auth_method"`
		JWKS       string   `json:"jwks"`
		JWKSURI    string   `json:"jwks_uri"`
		DPoP       bool     `json:"dpop_bound_access_tokens"`
		Profile    string   `json:"profile"`
		Scopes     []string `json:"scopes"`
	}
	var c printed
	mustJSON(t, &c, "client", "add", config, "--json", "--metadata", metadata)
	if c.Name != "Bank" || c.ClientSecret != "" || c.AuthMethod != "private_key_jwt" || c.JWKSURI != "https://bank.example/jwks" || !c.DPoP || len(c.Scopes) != 4 {
		t.Errorf("added %+v", c)
	}
	// Flags come after the document.
	c = printed{}
	mustJSON(t, &c, "client", "update", config, "--json", "--metadata", write("next.json", `{"redirect_uris":["https://bank.example/new"],"jwks_uri":"https://bank.example/jwks"}`), "--jwks-file", keys, "--scope", "openid", firstClient(t, config))
	if c.Name != "Bank" || c.RedirectURIs[0] != "https://bank.example/new" || c.JWKS == "" || c.JWKSURI != "" || c.DPoP || len(c.Scopes) != 1 {
		t.Errorf("changed to %+v", c)
	}
	for name, args := range map[string][]string{
		"redirect_uris":  {"add", "--metadata", write("a.json", `{"client_name":"x"}`)},
		"JSON":           {"add", "--metadata", write("b.json", `redirect_uris: []`)},
		"response_types": {"add", "--metadata", write("c.json", `{"client_name":"x","redirect_uris":["https://x.example/"],"response_types":["token"]}`)},
		"confidential":   {"update", "--metadata", write("d.json", `{"token_endpoint_auth_method":"none","redirect_uris":["https://x.example/"]}`), firstClient(t, config)},
	} {
		status, _, stderr := portico(t, append([]string{"client", args[0], config}, args[1:]...)...)
		if status != 1 || !strings.Contains(stderr, name) {
			t.Errorf("%v: %d %q, want words about %s", args, status, stderr, name)
		}
	}
}

// firstClient is the id of the one client that there is.
func firstClient(t *testing.T, config string) string {
	t.Helper()
	var all []printedClient
	mustJSON(t, &all, "client", "list", config, "--json")
	if len(all) != 1 {
		t.Fatalf("%d clients are there", len(all))
	}
	return all[0].ClientID
}

// An app that registered itself is seen as such; once somebody has looked at it, it is the operator's, and its own token opens nothing.
func TestAnAppThatRegisteredItselfIsVerified(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "portico.yaml")
	if err := os.WriteFile(path, []byte("issuer: https://id.example.com\nstore: {path: "+filepath.Join(dir, "p.db")+"}\nconnectors: [{name: github, type: github, client_id: a, client_secret: b}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := broker.Open(t.Context(), cfg, broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	registered, err := data.Clients.Register(t.Context(), registry.Client{
		Name: "Tool", RedirectURIs: []string{"https://tool.example/cb"}, Scopes: []string{"openid"}, RegisteredBy: registry.ByItself,
	}, time.Hour)
	if err := errors.Join(err, data.Close()); err != nil {
		t.Fatal(err)
	}
	config := "--config=" + path
	status, stdout, stderr := portico(t, "client", "show", config, registered.ID)
	if status != 0 || !strings.Contains(stdout, "self-registered") || strings.Contains(stdout, registered.RegistrationToken) {
		t.Errorf("%s%s", stdout, stderr)
	}
	if status, stdout, _ := portico(t, "client", "show", config, "--json", registered.ID); status != 0 || strings.Contains(stdout, registered.RegistrationToken) {
		t.Errorf("the token's hash is printed: %s", stdout)
	}
	if status, _, stderr := portico(t, "client", "update", config, "--first-party", registered.ID); status != 1 || !strings.Contains(stderr, "first_party") {
		t.Errorf("a stranger's app is made one's own unseen: %d %q", status, stderr)
	}
	if status, _, stderr := portico(t, "client", "update", config, "--verified", registered.ID); status != 0 {
		t.Fatal(stderr)
	}
	if status, stdout, _ := portico(t, "client", "show", config, registered.ID); status != 0 || strings.Contains(stdout, "self-registered") {
		t.Errorf("after it was verified: %s", stdout)
	}
}

// Scopes are taken as they are written everywhere else in OAuth, too: with spaces between them.
func TestScopesStandWithCommasOrSpacesBetweenThem(t *testing.T) {
	for _, c := range []struct{ given, want []string }{
		{nil, nil},
		{[]string{""}, []string{""}}, // none, said on purpose
		{[]string{"openid", "notes:read"}, []string{"openid", "notes:read"}},
		{[]string{"openid  notes:read ", "profile"}, []string{"openid", "notes:read", "profile"}},
	} {
		if got := splitScopes(c.given); !slices.Equal(got, c.want) {
			t.Errorf("%q is read as %q, want %q", c.given, got, c.want)
		}
	}
}
