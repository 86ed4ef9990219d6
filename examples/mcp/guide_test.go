package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
)

// run starts a program, which is ended with the test, and returns what it prints.
func run(t *testing.T, program string, args ...string) *bufio.Reader {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(program), log.String())
		}
	})
	return bufio.NewReader(out)
}

// build builds the programs of a module into dir.
func build(t *testing.T, module, dir string, packages ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"-C", module, "build", "-o", dir + "/"}, packages...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// docs/mcp.md, as it is written: a broker that knows nothing of the server or the client, a command that tells it of the server while it runs,
// and a client that is told the server's address.
func TestTheGuide(t *testing.T) {
	dir := t.TempDir()
	build(t, "../..", dir, "./cmd/portico")
	build(t, ".", dir, ".", "./client")

	var broker struct{ Issuer string }
	line, err := run(t, dir+"/portico", "dev", "--data", dir+"/try", "--addr", "127.0.0.1:0", "--json").ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &broker) != nil {
		t.Fatalf("portico dev: %q, %v", line, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String() + "/mcp"
	l.Close()
	add := exec.CommandContext(t.Context(), dir+"/portico", "api", "add", "--config", dir+"/try/portico.yaml", "--identifier", address, "--name", "Notes",
		"--scope", "notes:read=Read your notes", "--scope", "notes:write=Write notes for you", "--token-format", "jwt", "--self-registered")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("portico api add: %v\n%s", err, out)
	}
	listen := strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/mcp")
	if line, err := run(t, dir+"/mcp", "-issuer", broker.Issuer, "-url", address, "-listen", listen).ReadString('\n'); err != nil {
		t.Fatalf("the server: %q, %v", line, err)
	}

	client := run(t, dir+"/client", "-url", address, "add_note", `{"text": "buy milk"}`)
	browser := NewBrowser(t)
	for _, sentence := range []string{"Read your notes", "Write notes for you"} {
		line, err := client.ReadString('\n')
		open, found := strings.CutPrefix(strings.TrimSpace(line), "Open ")
		if err != nil || !found {
			rest, _ := io.ReadAll(client)
			t.Fatalf("the client says %q, %v\n%s", line, err, rest)
		}
		page, err := (&person{Browser: browser, hint: "ann"}).consent(open)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page.Body, sentence) {
			t.Fatalf("the person does not read %q:\n%s", sentence, page.Body)
		}
		back := page.Submit(0, "allow")
		for back.Location() != nil {
			back = browser.Get(back.Location().String())
		}
		if !strings.Contains(back.Body, "close this page") {
			t.Fatalf("the person ends at %s (%d):\n%s", back.URL, back.Status, back.Body)
		}
	}
	if line, err := client.ReadString('\n'); err != nil || !strings.Contains(line, `{\"count\":1}`) {
		t.Errorf("the client says %q, %v", line, err)
	}
}
