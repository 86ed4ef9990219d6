package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/oauth"
)

const publicDescriptions = "../../broker/registry/openapi/testdata/"

type printedImport struct {
	Result  string     `json:"result"`
	DryRun  bool       `json:"dry_run"`
	API     printedAPI `json:"api"`
	Changes []struct {
		Part   string `json:"part"`
		Before string `json:"before"`
		After  string `json:"after"`
	} `json:"changes"`
	Notes []struct {
		Text       string   `json:"text"`
		Operations []string `json:"operations"`
	} `json:"notes"`
}

// A public description of 79 operations is imported while the broker runs: what it says is registered, an app gets a token for one of its scopes
// at once, and the proxy's question is answered by its endpoints.
func TestAPublicDescriptionIsImportedAndUsed(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	config := "--config=" + filepath.Join(dir, devConfigFile)
	const gmail, send = "https://gmail.googleapis.com", "https://www.googleapis.com/auth/gmail.send"

	var dry, added, again printedImport
	mustJSON(t, &dry, "api", "import", config, "--json", "--dry-run", publicDescriptions+"gmail.json")
	if status, _, _ := portico(t, "api", "show", config, gmail); status == 0 || !dry.DryRun || dry.Result != "added" || len(dry.API.Endpoints) != 79 {
		t.Errorf("a dry run registered it, or did not say what it would: %+v", dry)
	}
	mustJSON(t, &added, "api", "import", config, "--json", publicDescriptions+"gmail.json")
	if diff := cmp.Diff(dry.API, added.API); diff != "" || added.Result != "added" || len(added.Changes) != 1+1+14+79 {
		t.Errorf("%d changes, %s\n%s", len(added.Changes), added.Result, diff)
	}
	var shown printedAPI
	mustJSON(t, &shown, "api", "show", config, "--json", gmail)
	if diff := cmp.Diff(added.API, shown); diff != "" || shown.Name != "Gmail API" || shown.URL != gmail || len(shown.Scopes) != 14 {
		t.Errorf("%+v\n%s", shown, diff)
	}
	for _, want := range []string{
		send + "=Send email on your behalf",
		"DELETE /gmail/v1/users/{userId}/messages/{id} https://mail.google.com/",
		"GET /gmail/v1/users/{userId}/settings/sendAs/{sendAsEmail} https://mail.google.com/",
	} {
		if !strings.Contains(shown.lines()+"\n", want+"\n") {
			t.Errorf("no line %q", want)
		}
	}

	var app printedClient
	mustJSON(t, &app, "client", "add", config, "--json", "--name", "Robot", "--grant", "client_credentials", "--scope", send)
	client := brokertest.Client{ID: app.ClientID, Secret: app.ClientSecret}
	r := d.env().Post(t, "/token", client, url.Values{"grant_type": {"client_credentials"}, "scope": {send}, "resource": {gmail}})
	if r.Status != http.StatusOK || r.String("scope") != send {
		t.Fatalf("a token for an imported scope: %d %v", r.Status, r.Body)
	}
	// The proxy's question: the operation that is asked for needs this scope, or another, or is none of the api's.
	ask := func(method, uri, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.env().Issuer+oauth.PathForwardAuth, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Method": method, "Proto": "https", "Host": "gmail.googleapis.com", "Uri": uri} {
			request.Header.Set("X-Forwarded-"+name, value)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode, response.Header.Get("X-Auth-Scope") + strings.Join(response.Header.Values("WWW-Authenticate"), ", ")
	}
	for _, c := range []struct {
		method, uri, token string
		status             int
		says               string
	}{
		{"POST", "/gmail/v1/users/me/messages/send", r.String("access_token"), http.StatusOK, send},
		{"POST", "/gmail/v1/users/me/messages/send", "", http.StatusUnauthorized, "Bearer"},
		{"GET", "/gmail/v1/users/me/messages/1", r.String("access_token"), http.StatusForbidden, `error="insufficient_scope"`},
		{"GET", "/gmail/v1/nothing", r.String("access_token"), http.StatusForbidden, ""},
	} {
		if status, says := ask(c.method, c.uri, c.token); status != c.status || !strings.Contains(says, c.says) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.uri, status, says, c.status, c.says)
		}
	}

	mustJSON(t, &again, "api", "import", config, "--json", publicDescriptions+"gmail.json")
	if again.Result != "unchanged" || len(again.Changes) != 0 {
		t.Errorf("importing it again: %s, %v", again.Result, again.Changes)
	}
}

// What a document says and what an operator has added are both kept over its versions; whoever imports reads what changed, what was left out,
// and of what is wrong what to do about it.
func TestADocumentIsImportedAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	config := "--config=" + filepath.Join(dir, devConfigFile)
	const document = `
openapi: 3.1.0
info: {title: Todo}
servers: [{url: https://todo.example.com/v1}]
security: [{login: [todo:read]}]
paths:
  /todo: {get: {}, post: {security: [{login: [todo:write]}, {key: []}]}}
  /todo/all: {get: {security: [{key: []}]}}
  /todo/{id}: {get: {}}
  /me: {get: {security: [{login: [openid]}]}}
  /status: {get: {security: [{}]}}
components:
  securitySchemes:
    login: {type: oauth2, flows: {authorizationCode: {scopes: {todo:read: Read it, todo:write: Write it, openid: Sign in}}}}
    key: {type: apiKey}
`
	const todo = "https://todo.example.com/v1"
	importText := func(text string, args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := run(context.WithoutCancel(t.Context()), append([]string{"api", "import", config}, args...), process{stdin: strings.NewReader(text), stdout: &out, stderr: &errs})
		return status, out.String(), errs.String()
	}
	imported := func(text string, args ...string) (r printedImport) {
		t.Helper()
		status, out, errs := importText(text, append(args, "--json", "-")...)
		if status != 0 {
			t.Fatal(errs)
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}

	status, out, errs := importText(document, "-")
	if status != 0 {
		t.Fatal(errs)
	}
	for _, want := range []string{
		"+  name      Todo\n", "+  url       https://todo.example.com/v1\n", "+  scope     todo:read: Read it\n", "+  endpoint  POST /todo todo:write\n", "+  endpoint  GET /status public\n", "+  endpoint  GET /todo/all denied\n",
		`note: POST /todo: one way to call it is left out: it needs "key" (apiKey), which is not the broker's` + "\n",
		`note: GET /todo/all: denied: it needs "key" (apiKey)`, "note: GET /me: denied: it needs the scope openid", "added https://todo.example.com/v1: 2 scopes, 6 endpoints; the document has 6 operations\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}

	mustJSON(t, &printedAPI{}, "api", "update", config, "--json", todo, "--token-format", "jwt", "--access-token-lifetime", "5m",
		"--add-scope", "todo:read=Read your list", "--add-endpoint", "POST /todo todo:write acr=urn:example:mfa max_age=300")
	r := imported(document, "--keep-sentences", "--unchecked-scope", "openid", "--name", "Lists", "--url", "https://todo.example.com/v2")
	if r.Result != "updated" || r.API.Name != "Lists" || r.API.URL != "https://todo.example.com/v2" || r.API.Format != "jwt" || r.API.TTL != 300 || len(r.Changes) != 3 || r.Changes[2].Before != "GET /me denied" || r.Changes[2].After != "GET /me" {
		t.Errorf("%+v", r)
	}
	r = imported(document, "--unchecked-scope", "openid", "--url", "https://todo.example.com/v2")
	if r.Result != "updated" || len(r.Changes) != 1 || r.Changes[0].After != "todo:read: Read it" || r.API.Name != "Lists" {
		t.Errorf("without --keep-sentences: %+v", r)
	}
	if _, shown, _ := portico(t, "api", "show", config, todo); !strings.Contains(shown, "acr=urn:example:mfa max_age=300") {
		t.Errorf("what an operator added is gone:\n%s", shown)
	}
	r = imported(document, "--unchecked-scope", "openid", "--url", "https://todo.example.com/v2", "--dry-run", "--scope", "todo:write=Change your list", "--endpoint", "get /todo/{id} todo:write")
	if r.Result != "updated" || len(r.Changes) != 2 || r.Changes[0].After != "todo:write: Change your list" || r.Changes[1].After != "GET /todo/{id} todo:write" {
		t.Errorf("beside the document's: %+v", r)
	}
	r = imported(strings.Replace(document, "/todo/{id}: {get: {}}", "/todo/{id}: {get: {security: []}, delete: {}}", 1), "--url", "https://todo.example.com/v2", "--unchecked-scope", "openid", "--dry-run")
	if r.Result != "updated" || !r.DryRun || len(r.Changes) != 2 || r.Changes[0].After != "GET /todo/{id} public" || r.Changes[1].After != "DELETE /todo/{id} todo:read" {
		t.Errorf("%+v", r)
	}

	// A document of bearer tokens alone has no scopes: without any nothing can be asked for, and those that are registered stay.
	const bearer = `{"openapi": "3.0.0", "info": {"title": "Files"}, "paths": {"/files": {"get": {}, "put": {"security": [{"jwt": ["boss"]}]}}},
	"security": [{"jwt": []}], "components": {"securitySchemes": {"jwt": {"type": "http", "scheme": "bearer"}}}}`
	for want, args := range map[string][]string{
		"say --identifier=URI":            {"-"},
		"say --scope, or --bearer-scopes": {"-", "--identifier", "https://files.example.com"},
		"no security scheme \"x\"":        {"-", "--identifier", "https://files.example.com", "--scheme", "x"},
		"no such file":                    {filepath.Join(dir, "none.yaml")},
		"nobody could say whose":          {"-", "--identifier", "https://files.example.com", "--bearer-scopes", "--url", "https://todo.example.com/v2", "--dry-run"},
		"is not a scope":                  {"-", "--scope", "x", "--endpoint", "GET"},
		"is not a method":                 {"-", "--scope", "x", "--endpoint", "GET"},
		"is that of the api":              {"-", "--identifier", "https://files.example.com", "--bearer-scopes", "--url", "https://todo.example.com/v2"},
		"in the configuration":            {"-", "--identifier", d.APIs[0].Identifier},
	} {
		if status, _, errs := importText(bearer, args...); status != 1 || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %s, want %q", args, status, errs, want)
		}
	}
	mustJSON(t, &printedAPI{}, "api", "add", config, "--json", "--identifier", "https://files.example.com", "--name", "Files", "--scope", "files=Use your files")
	r = imported(bearer, "--identifier", "https://files.example.com")
	if r.API.lines() != "files=Use your files\nGET /files\nPUT /files denied" || !strings.Contains(r.Notes[len(r.Notes)-1].Text, "--url") {
		t.Errorf("%+v", r)
	}
	r = imported(bearer, "--identifier", "https://files.example.com", "--bearer-scopes", "--url", "https://files.example.com")
	if r.API.lines() != "boss=boss\nGET /files\nPUT /files boss" {
		t.Errorf("%+v", r)
	}
}

// Whoever keeps APIs in the configuration pastes there what a dry run prints: the keys are the same.
func TestADryRunCanBePastedIntoTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	startDev(t, "--addr", "127.0.0.1:0", "--data", dir)
	file := filepath.Join(dir, devConfigFile)
	var dry struct{ API map[string]any }
	mustJSON(t, &dry, "api", "import", "--config", file, "--json", "--dry-run", publicDescriptions+"square.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var configuration map[string]any
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		t.Fatal(err)
	}
	apis, _ := configuration["apis"].([]any)
	square := map[string]any{}
	for _, key := range []string{"identifier", "name", "url", "scopes", "endpoints"} {
		square[key] = dry.API[key]
	}
	configuration["apis"] = append(apis, square)
	pasted, err := json.Marshal(configuration)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pasted, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := portico(t, "config", "check", "--config", file); status != 0 {
		t.Error(errs)
	}
	// There it is changed from now on. A dry run still compares.
	var again printedImport
	mustJSON(t, &again, "api", "import", "--config", file, "--json", "--dry-run", publicDescriptions+"square.yaml")
	if again.Result != "unchanged" || len(again.API.Endpoints) != 200 {
		t.Errorf("%s, %v", again.Result, again.Changes)
	}
	if status, _, errs := portico(t, "api", "import", "--config", file, publicDescriptions+"square.yaml"); status != 1 || !strings.Contains(errs, "in the configuration file; change it there") {
		t.Errorf("%d %s", status, errs)
	}
}
