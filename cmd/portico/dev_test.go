package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/brokertest"
)

// These tests run the program as its users do: a process of its own, stopped with signals.

// program builds portico once for all tests of the package.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "portico-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "portico")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &buildError{string(out), err}
	}
	return path, nil
})

type buildError struct {
	output string
	err    error
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + e.output }

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// dev is a running `portico dev`.
type dev struct {
	ready
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exited chan struct{} // closed when the process is gone
	err    error
}

// startTimeout bounds how long the program may take to be ready, and to stop.
const startTimeout = 60 * time.Second

func startDev(t *testing.T, args ...string) *dev {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	d := &dev{stderr: &bytes.Buffer{}, exited: make(chan struct{})}
	d.cmd = exec.Command(path, append([]string{"dev", "--json"}, args...)...)
	d.cmd.Stderr = d.stderr
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		lines <- line
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	select {
	case line := <-lines:
		if err := json.Unmarshal([]byte(line), &d.ready); err != nil {
			t.Fatalf("the line is %q: %v\n%s", line, err, d.stderr)
		}
	case <-ctx.Done():
		t.Fatalf("portico dev is not ready:\n%s", d.stderr)
	}
	return d
}

// stop ends the process as a terminal's Ctrl-C or an orchestrator would.
func (d *dev) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	select {
	case <-d.exited:
	case <-ctx.Done():
		t.Fatal("the process does not stop")
	}
}

func (d *dev) web() brokertest.Client {
	c := d.Clients["web"]
	return brokertest.Client{ID: c.ClientID, Secret: c.ClientSecret, RedirectURI: c.RedirectURIs[0]}
}

func (d *dev) env() *brokertest.Env {
	return &brokertest.Env{Issuer: d.Issuer, Clock: &brokertest.Clock{}}
}

func TestDevSignsInWithEachProviderAndStopsCleanly(t *testing.T) {
	d := startDev(t, "--addr", "127.0.0.1:0")
	for _, provider := range d.Connectors {
		tokens := d.env().SignIn(t, brokertest.NewBrowser(t), d.web(), "idp_hint", provider, "login_hint", d.Personas[0].Name)
		if tokens.String("refresh_token") == "" {
			t.Errorf("%s: no refresh token: %v", provider, tokens.Body)
		}
	}
	native := brokertest.Client{ID: d.Clients["native"].ClientID, RedirectURI: "http://127.0.0.1:51234/callback"}
	if tokens := d.env().SignIn(t, brokertest.NewBrowser(t), native, "idp_hint", "google"); tokens.String("access_token") == "" {
		t.Errorf("the native client gets %v", tokens.Body)
	}
	for name, address := range map[string]string{"sample app": d.SampleApp, "google": d.Sandbox["google"] + "/.well-known/openid-configuration"} {
		response, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s at %s answers %d", name, address, response.StatusCode)
		}
	}
	d.stop(t, syscall.SIGTERM)
	if d.err != nil {
		t.Errorf("after SIGTERM it ends with %v:\n%s", d.err, d.stderr)
	}
}

// With --data everything in the line stays the same, and so does what was signed in.
func TestDevKeepsItsDataOverARestart(t *testing.T) {
	dir := t.TempDir()
	first := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	tokens := first.env().SignIn(t, brokertest.NewBrowser(t), first.web(), "idp_hint", "google")
	before := first.ready
	first.stop(t, os.Interrupt)

	second := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	if diff := cmp.Diff(before, second.ready); diff != "" {
		t.Errorf("the line changed over a restart (-before +after):\n%s", diff)
	}
	if !second.env().Active(t, second.web(), tokens.String("access_token")) {
		t.Error("the access token is not good any more")
	}
	again := second.env().SignIn(t, brokertest.NewBrowser(t), second.web(), "idp_hint", "google")
	if a, b := second.env().Subject(t, tokens.String("access_token")), second.env().Subject(t, again.String("access_token")); a != b {
		t.Errorf("the account changed from %s to %s", a, b)
	}
}

// A power cut in the middle of a load: every token that was answered still works, and no code works twice.
func TestAfterKill9EveryAnsweredTokenWorksAndNoCodeWorksTwice(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	issuer, client := d.Issuer, d.web()
	httpClient := &http.Client{Timeout: 10 * time.Second}

	var mu sync.Mutex
	var codes []string
	latest := map[int]string{} // the last refresh token that each worker was given
	enough := make(chan struct{})
	var once sync.Once
	post := func(form url.Values) (map[string]any, bool) {
		request, err := http.NewRequest(http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			return nil, false
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth(client.ID, client.Secret)
		response, err := httpClient.Do(request)
		if err != nil {
			return nil, false
		}
		defer response.Body.Close()
		var body map[string]any
		if json.NewDecoder(response.Body).Decode(&body) != nil || response.StatusCode != http.StatusOK {
			return nil, false
		}
		return body, true
	}
	const workers = 6
	starts := make([]string, workers)
	for i := range workers {
		answer := d.env().Code(t, brokertest.NewBrowser(t), client, "idp_hint", "google")
		starts[i] = answer.Get("code")
	}
	var done sync.WaitGroup
	for i := range workers {
		done.Go(func() {
			body, ok := post(url.Values{"grant_type": {"authorization_code"}, "code": {starts[i]}, "redirect_uri": {client.RedirectURI}, "code_verifier": {brokertest.Verifier}})
			if !ok {
				return
			}
			mu.Lock()
			codes = append(codes, starts[i])
			mu.Unlock()
			token, _ := body["refresh_token"].(string)
			for n := 0; ; n++ {
				mu.Lock()
				latest[i] = token
				mu.Unlock()
				body, ok := post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
				if !ok {
					return
				}
				token, _ = body["refresh_token"].(string)
				if n == 20 {
					once.Do(func() { close(enough) })
				}
			}
		})
	}
	<-enough
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	done.Wait()

	restarted := startDev(t, "--addr", "127.0.0.1:0", "--data", dir, "--auto", "ann")
	if restarted.Issuer != issuer {
		t.Fatalf("the issuer is %s, was %s", restarted.Issuer, issuer)
	}
	if len(latest) != workers {
		t.Fatalf("only %d of %d workers were answered", len(latest), workers)
	}
	e := restarted.env()
	for i, token := range latest {
		// The token it held is the current one, or, if the kill came between commit and answer, the one before, which
		// the grace window covers.
		if r := e.Refresh(t, client, token); r.Status != http.StatusOK {
			t.Errorf("worker %d: the last token that was answered gets %d %v", i, r.Status, r.Body)
		}
	}
	for _, code := range codes {
		if r := e.Redeem(t, client, code); r.Status == http.StatusOK {
			t.Error("a code was redeemed twice, once before and once after the kill")
		}
	}
}

// What dev prints can be pasted, be it started from the source or installed.
func TestDevPrintsTheCommandThatStartedIt(t *testing.T) {
	for arg0, want := range map[string]string{
		"portico":         "portico",
		"./bin/portico":   "./bin/portico",
		"/cache/portico1": "go run ./cmd/portico",
	} {
		if got := typed(arg0); got != want {
			t.Errorf("started as %s: %s, want %s", arg0, got, want)
		}
	}
}
