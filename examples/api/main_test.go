package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// It is said that twenty lines protect an API, the routes among them.
func TestTwentyLinesProtectAnAPI(t *testing.T) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, declared := range file.Decls {
		if f, ok := declared.(*ast.FuncDecl); ok && f.Name.Name == "main" {
			if lines := files.Position(f.Body.Rbrace).Line - files.Position(f.Body.Lbrace).Line - 1; lines > 20 {
				t.Errorf("main has %d lines", lines)
			}
			return
		}
	}
	t.Error("there is no main")
}

// The guide shows what the program is.
func TestTheGuideShowsTheExample(t *testing.T) {
	guide, err := os.ReadFile("../../docs/protect-an-api.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(guide), "```go\n")
	code, _, found := strings.Cut(code, "```")
	if !found || !strings.Contains(code, "resource.New") {
		t.Fatal("the guide has no program")
	}
	if shown := "\t" + strings.ReplaceAll(strings.TrimSpace(code), "\n", "\n\t"); !strings.Contains(string(program), shown) {
		t.Errorf("main.go has nothing like\n%s", shown)
	}
}

var (
	service = Client{ID: "service", Secret: "service-secret-0123456789-0123456789-012345"}
	host    = Client{ID: "host", Secret: "host-secret-0123456789-0123456789-01234567"}
)

// The program as the guide has it, beside a broker: a client that was refused finds its way by the challenge, and people see their own notes.
func TestTheExample(t *testing.T) {
	program := filepath.Join(t.TempDir(), "api")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, format := range []string{"jwt", "opaque"} {
		t.Run(format, func(t *testing.T) {
			listen := freeAddress(t)
			identifier := "http://" + listen + "/notes"
			e := Start(t, func(c *config.Config) {
				c.APIs = []config.API{{Identifier: identifier, Name: "Notes", AccessTokenFormat: format, Scopes: []config.Scope{
					{Name: "notes:read", Sentence: "Read your notes"}, {Name: "notes:write", Sentence: "Write your notes"},
				}}}
				c.Clients[0].Scopes = append(c.Clients[0].Scopes, "notes:read", "notes:write")
				c.Clients = append(c.Clients,
					config.Client{
						ClientID: service.ID, ClientSecret: config.NewSecret(service.Secret), Name: "Service",
						Scopes: []string{"notes:read"}, GrantTypes: []string{"client_credentials"},
					},
					config.Client{ClientID: host.ID, ClientSecret: config.NewSecret(host.Secret), Name: "Host", ResourceServerOf: []string{identifier}})
			})
			run := exec.CommandContext(t.Context(), program)
			run.Env = []string{"ISSUER=" + e.Issuer, "IDENTIFIER=" + identifier, "LISTEN=" + listen, "CLIENT_ID=" + host.ID, "CLIENT_SECRET=" + host.Secret}
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = run.Process.Kill()
				_ = run.Wait()
			}()
			waitFor(t, listen)

			do := func(method, token string, form url.Values) *Response {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, identifier, strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				if method == http.MethodPost {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				return &Response{Status: res.StatusCode, Header: res.Header, Body: map[string]any{"text": strings.TrimSpace(string(body))}}
			}
			refused := do("GET", "", nil)
			_, where, _ := strings.Cut(refused.Header.Get("WWW-Authenticate"), `resource_metadata="`)
			where, _, _ = strings.Cut(where, `"`)
			if refused.Status != http.StatusUnauthorized || where == "" {
				t.Fatalf("without a token: %d %v", refused.Status, refused.Header)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, where, nil)
			if err != nil {
				t.Fatal(err)
			}
			if m := Do(t, r); m.String("resource") != identifier || m.Body["authorization_servers"].([]any)[0] != e.Issuer {
				t.Errorf("the metadata at %s: %v", where, m.Body)
			}

			alice := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access notes:read notes:write").String("access_token")
			if got := do("POST", alice, url.Values{"text": {"Eggs"}}); got.Status != http.StatusCreated {
				t.Errorf("writing: %d %v", got.Status, got.Body)
			}
			if got := do("GET", alice, nil); got.Status != http.StatusOK || !strings.Contains(got.String("text"), `"text":"Eggs"`) {
				t.Errorf("reading: %d %v", got.Status, got.Body)
			}
			other := e.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "resource": {identifier}}).String("access_token")
			if got := do("GET", other, nil); got.Status != http.StatusOK || got.String("text") != "[]" {
				t.Errorf("somebody else reads %d %v", got.Status, got.Body)
			}
			if got := do("POST", other, url.Values{"text": {"Eggs"}}); got.Status != http.StatusForbidden || !strings.Contains(got.Header.Get("WWW-Authenticate"), `scope="notes:write"`) {
				t.Errorf("with too little scope: %d %v", got.Status, got.Header)
			}
		})
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor waits until somebody listens there.
func waitFor(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return
		}
	}
	t.Fatalf("nothing listens on %s", address)
}
