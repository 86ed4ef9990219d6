package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/brokertest"
)

type printedAPI struct {
	Identifier string `json:"identifier"`
	Name       string `json:"name"`
	URL        string `json:"url"`
	Scopes     []struct {
		Name     string `json:"name"`
		Sentence string `json:"sentence"`
	} `json:"scopes"`
	Endpoints []struct {
		Method string   `json:"method"`
		Path   string   `json:"path"`
		Scopes []string `json:"scopes"`
		Public bool     `json:"public"`
		Denied bool     `json:"denied"`
	} `json:"endpoints"`
	Format  string `json:"access_token_format"`
	Alg     string `json:"access_token_signing_alg"`
	TTL     int64  `json:"access_token_lifetime"`
	InQuery bool   `json:"access_token_in_query"`
	Static  *bool  `json:"static"`
}

// lines are an API's endpoints and scopes as text.
func (a printedAPI) lines() string {
	var lines []string
	for _, s := range a.Scopes {
		lines = append(lines, s.Name+"="+s.Sentence)
	}
	for _, e := range a.Endpoints {
		needs := strings.Join(e.Scopes, " ")
		if e.Denied {
			needs = "denied"
		}
		lines = append(lines, strings.TrimSpace(e.Method+" "+e.Path+" "+needs))
	}
	return strings.Join(lines, "\n")
}

// An API is registered while the broker runs, and apps ask for its scopes at once; what it is can be shown, changed and taken away.
func TestAnAPIIsRegisteredUsedChangedAndRemoved(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	config := "--config=" + filepath.Join(dir, devConfigFile)
	const todo = "https://api.example.com/todo"

	var before []printedAPI
	mustJSON(t, &before, "api", "list", config, "--json")

	var added printedAPI
	mustJSON(t, &added, "api", "add", config, "--json", "--identifier", todo, "--name", "Todo", "--url", "https://api.example.com/v1",
		"--scope", "todo:read=Read, and read on", "--scope", "todo:write=Write = more", "--endpoint", "GET /todo/{id} todo:read | todo:write", "--endpoint", "get /health public", "--endpoint", "get /todo/all denied",
		"--token-format", "jwt", "--signing-alg", "EdDSA", "--access-token-lifetime", "5m", "--access-token-in-query")
	if added.Identifier != todo || added.Name != "Todo" || added.URL != "https://api.example.com/v1" || added.Format != "jwt" || added.Alg != "EdDSA" || added.TTL != 300 || !added.InQuery ||
		added.Static == nil || *added.Static || added.lines() != "todo:read=Read, and read on\ntodo:write=Write = more\nGET /todo/{id} todo:read\nGET /health\nGET /todo/all denied" || !added.Endpoints[1].Public {
		t.Errorf("registered: %+v", added)
	}
	var shown printedAPI
	mustJSON(t, &shown, "api", "show", config, "--json", todo)
	if diff := cmp.Diff(added, shown); diff != "" {
		t.Error(diff)
	}
	var list []printedAPI
	mustJSON(t, &list, "api", "list", config, "--json")
	if len(list) != len(before)+1 || list[len(before)].Identifier != todo {
		t.Errorf("listed: %+v", list)
	}

	// An app, and the API's own server.
	var app, server printedClient
	mustJSON(t, &app, "client", "add", config, "--json", "--name", "Robot", "--grant", "client_credentials", "--scope", "todo:read")
	mustJSON(t, &server, "client", "add", config, "--json", "--name", "Todo server", "--resource-server-of", todo)
	robot, host := brokertest.Client{ID: app.ClientID, Secret: app.ClientSecret}, brokertest.Client{ID: server.ClientID, Secret: server.ClientSecret}
	token := d.env().Post(t, "/token", robot, url.Values{"grant_type": {"client_credentials"}, "scope": {"todo:read"}})
	if token.Status != http.StatusOK || brokertest.Claims(t, token.String("access_token"))["aud"] != todo || token.Body["expires_in"] != 300.0 {
		t.Fatalf("a token: %d %v", token.Status, token.Body)
	}
	if !d.env().Active(t, host, token.String("access_token")) {
		t.Error("the API's server is told that the token is none")
	}

	// Lists that are named are replaced; single items come and go.
	var changed printedAPI
	mustJSON(t, &changed, "api", "update", config, "--json", todo, "--name", "To do", "--token-format", "opaque", "--signing-alg", "", "--no-access-token-in-query", "--access-token-lifetime", "0s",
		"--add-scope", "todo:read=Read it", "--add-scope", "todo:delete=Delete it", "--remove-scope", "todo:write",
		"--add-endpoint", "GET /todo/{id} todo:read", "--add-endpoint", "DELETE /todo/{id} todo:delete", "--remove-endpoint", "GET  /health", "--remove-endpoint", "GET /todo/all")
	if changed.Name != "To do" || changed.Format != "opaque" || changed.InQuery || changed.TTL != 0 || changed.URL != added.URL ||
		changed.lines() != "todo:read=Read it\ntodo:delete=Delete it\nGET /todo/{id} todo:read\nDELETE /todo/{id} todo:delete" {
		t.Errorf("changed: %+v", changed)
	}
	changed = printedAPI{}
	mustJSON(t, &changed, "api", "update", config, "--json", todo, "--scope", "todo:all=All of it", "--endpoint", "")
	if changed.lines() != "todo:all=All of it" {
		t.Errorf("replaced: %+v", changed)
	}
	mustJSON(t, &changed, "api", "update", config, "--json", todo, "--scope", "todo:read=Read", "--endpoint", "GET /todo todo:read max_age=60", "--url", "")

	status, stdout, _ := portico(t, "api", "show", config, todo)
	for _, want := range []string{"To do", "todo:read", "Read", "GET /todo", "todo:read max_age=60", "opaque"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%q is not in:\n%s", want, stdout)
		}
	}
	if status, stdout, _ := portico(t, "api", "list", config); status != 0 || !strings.Contains(stdout, "IDENTIFIER") || !strings.Contains(stdout, todo) {
		t.Errorf("list: %s", stdout)
	}

	// What is shown can be registered again.
	_, document, _ := portico(t, "api", "show", config, "--json", todo)
	file := filepath.Join(dir, "todo.json")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	var copied printedAPI
	mustJSON(t, &copied, "api", "add", config, "--json", "--document", file, "--identifier", "urn:copy")
	if copied.Identifier != "urn:copy" || copied.lines() != "todo:read=Read\nGET /todo todo:read" {
		t.Errorf("copied: %+v", copied)
	}

	status, stdout, stderr := portico(t, "api", "remove", config, todo)
	if status != 0 || !strings.Contains(stdout, "Clients keep its scopes in their registration") {
		t.Errorf("removed: %s%s", stdout, stderr)
	}
	var removed map[string]string
	mustJSON(t, &removed, "api", "remove", config, "--json", "urn:copy")
	if removed["removed"] != "urn:copy" {
		t.Errorf("removed: %v", removed)
	}
	// Robot keeps a scope that is nobody's now, and can be changed all the same.
	if status, stdout, stderr := portico(t, "client", "update", config, app.ClientID, "--name", "Old robot"); status != 0 || !strings.Contains(stdout, "todo:read") {
		t.Errorf("an app of an API that is gone: %s%s", stdout, stderr)
	}
}

// Whoever mistypes reads what, and what may have been meant.
// Whoever knows an API by its identifier alone need not think of a name first.
func TestAnAPIWithoutANameIsCalledByItsIdentifier(t *testing.T) {
	dir := t.TempDir()
	startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	const todo = "https://api.example.com/todo"
	add := []string{"api", "add", "--config=" + filepath.Join(dir, devConfigFile), "--json", "--identifier", todo, "--scope", "todo:read=Read"}
	if status, _, stderr := portico(t, append(add, "--name", "")...); status == 0 || !strings.Contains(stderr, "name: 1 to") {
		t.Errorf("an empty name: %d %s", status, stderr)
	}
	var added printedAPI
	mustJSON(t, &added, add...)
	if added.Name != todo {
		t.Errorf("it is called %q", added.Name)
	}
}

func TestWhatCannotBeRegisteredOfAnAPIIsSaid(t *testing.T) {
	dir := t.TempDir()
	startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	config := "--config=" + filepath.Join(dir, devConfigFile)
	const todo = "https://api.example.com/todo"
	add := []string{"api", "add", config, "--identifier", todo, "--name", "Todo", "--scope", "todo:read=Read"}
	var added printedAPI
	mustJSON(t, &added, append(add, "--json")...)
	unknown := filepath.Join(dir, "unknown.json")
	if err := os.WriteFile(unknown, []byte(`{"identifier":"urn:x","name":"X","scopes":[{"name":"x","sentence":"X"}],"endpoint":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"registered already":                                  add,
		"missing flags: --identifier=URI":                     {"api", "add", config, "--name", "Todo"},
		`needs "todo:raed", which is not`:                     {"api", "update", config, todo, "--add-endpoint", "GET /x todo:raed"},
		"is not a scope and what people read":                 {"api", "update", config, todo, "--add-scope", "todo:write"},
		"is not a method and a path":                          {"api", "update", config, todo, "--endpoint", "/todo"},
		"cannot be told apart":                                {"api", "update", config, todo, "--endpoint", "GET /{a}", "--endpoint", "GET /{b}"},
		`it has no scope "todo:reed"; did you mean todo:read`: {"api", "update", config, todo, "--remove-scope", "todo:reed"},
		"at least one scope":                                  {"api", "update", config, todo, "--scope", ""},
		"ends in a slash":                                     {"api", "update", config, todo, "--url", "https://api.example.com/"},
		"in whole seconds":                                    {"api", "update", config, todo, "--access-token-lifetime", "500ms"},
		"1.5s is not":                                         {"client", "add", config, "--name", "App", "--grant", "client_credentials", "--scope", "todo:read", "--access-token-lifetime", "1500ms"},
		"no such api; did you mean " + todo:                   {"api", "show", config, "https://api.example.com/tod"},
		"https://api.example.com/tood: no such api":           {"api", "update", config, "https://api.example.com/tood", "--name", "X"},
		"urn:none: no such api":                               {"api", "remove", config, "urn:none"},
		`unknown field "endpoint"`:                            {"api", "add", config, "--document", unknown},
		`"todo:raed" is neither the broker's own nor an api's; did you mean todo:read`: {"client", "add", config, "--name", "App", "--redirect-uri", "https://a.example/cb", "--scope", "openid,todo:raed"},
		"no api is registered as \"https://api.example.com/tod\"; did you mean":        {"client", "add", config, "--name", "Server", "--resource-server-of", "https://api.example.com/tod"},
	} {
		if status, stdout, stderr := portico(t, args...); status == 0 || !strings.Contains(stderr, want) {
			t.Errorf("portico %s: %d %s%s, want %q", strings.Join(args, " "), status, stdout, stderr, want)
		}
	}
}
