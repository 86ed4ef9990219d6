package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/examples/sampleapi"
)

// The sample API of `portico dev`, as the apps in its line of JSON meet it.

const both = sampleapi.ScopeRead + " " + sampleapi.ScopeWrite

var nativeApp = brokertest.Client{ID: devNativeClient, RedirectURI: "http://127.0.0.1:51234/callback"}

// notes asks the sample API, to write if there is a text.
func (d *dev) notes(t *testing.T, text string, header http.Header) *brokertest.Response {
	t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if text != "" {
		method, body = http.MethodPost, strings.NewReader(url.Values{"text": {text}}.Encode())
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request, err := http.NewRequestWithContext(t.Context(), method, d.APIs[0].URL+"/notes", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	return brokertest.Do(t, request)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// expectNotes reads and writes with a token, and demands the answers.
func (d *dev) expectNotes(t *testing.T, who, token string, read, write int) {
	t.Helper()
	for text, want := range map[string]int{"": read, "hello": write} {
		r := d.notes(t, text, bearer(token))
		if r.Status != want {
			t.Errorf("%s, text %q: %d %v %q, want %d", who, text, r.Status, r.Body, r.Header.Values("WWW-Authenticate"), want)
		}
		if challenge := strings.Join(r.Header.Values("WWW-Authenticate"), ", "); r.Status == http.StatusForbidden && !strings.Contains(challenge, `error="insufficient_scope"`) {
			t.Errorf("%s, text %q: the challenge is %s", who, text, challenge)
		}
	}
}

func TestDevServesAnAPIThatTheLineNames(t *testing.T) {
	d := startDev(t, "--addr", "127.0.0.1:0", "--auto", "ann")
	if len(d.APIs) != 1 || d.APIs[0].Identifier != d.APIs[0].URL || !slices.Equal(d.APIs[0].Scopes, []string{"notes:read", "notes:write"}) {
		t.Fatalf("the line names the apis %+v", d.APIs)
	}
	if d.ForwardAuth != d.Issuer+"/forward-auth" {
		t.Errorf("the line has proxies ask %s", d.ForwardAuth)
	}
	api, e := d.APIs[0].Identifier, d.env()

	t.Run("native, with a code", func(t *testing.T) {
		tokens := e.SignIn(t, brokertest.NewBrowser(t), nativeApp, "idp_hint", "google", "scope", "openid offline_access "+both, "resource", api)
		d.expectNotes(t, "native", tokens.String("access_token"), http.StatusOK, http.StatusCreated)
		if got := brokertest.Claims(t, tokens.String("access_token"))["aud"]; got != api {
			t.Errorf("the token is for %v, want %s", got, api)
		}
		// The resource that was granted is that of the tokens that come of it.
		again := e.Post(t, "/token", nativeApp, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}, "scope": {"notes:read"}, "resource": {api}})
		d.expectNotes(t, "native, refreshed for less", again.String("access_token"), http.StatusOK, http.StatusForbidden)
	})
	t.Run("native, on a device", func(t *testing.T) {
		device := e.Post(t, "/device_authorization", nativeApp, url.Values{"scope": {"notes:write"}, "resource": {api}})
		browser := brokertest.NewBrowser(t)
		page := browser.Get(device.String("verification_uri_complete"))
		for said := false; ; {
			said = said || strings.Contains(page.Body, "Write notes for you")
			if location := page.Location(); location != nil {
				page = browser.Get(location.String())
				continue
			}
			if len(page.Forms) == 0 {
				if !said {
					t.Error("no page said what the device may do, in the api's words")
				}
				break
			}
			page = page.Submit(0, "")
		}
		tokens := e.Post(t, "/token", nativeApp, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.String("device_code")},
		})
		d.expectNotes(t, "the device", tokens.String("access_token"), http.StatusForbidden, http.StatusCreated)
	})
	t.Run("service", func(t *testing.T) {
		for scope, want := range map[string][2]int{
			"":            {http.StatusOK, http.StatusCreated},
			"notes:read":  {http.StatusOK, http.StatusForbidden},
			"notes:write": {http.StatusForbidden, http.StatusCreated},
		} {
			form := url.Values{"grant_type": {"client_credentials"}, "resource": {api}}
			if scope != "" {
				form.Set("scope", scope)
			}
			d.expectNotes(t, "service, scope "+scope, d.grant(t, "service", form).String("access_token"), want[0], want[1])
		}
	})
	t.Run("web and trusted", func(t *testing.T) {
		web := e.SignIn(t, brokertest.NewBrowser(t), d.web(), "idp_hint", "google", "scope", "openid notes:read", "resource", api)
		d.expectNotes(t, "web", web.String("access_token"), http.StatusOK, http.StatusForbidden)
		trusted := d.grant(t, "trusted", url.Values{
			"grant_type": {"password"}, "username": {d.Personas[0].Name}, "password": {d.Personas[0].Password}, "scope": {both}, "resource": {api},
		})
		d.expectNotes(t, "trusted", trusted.String("access_token"), http.StatusOK, http.StatusCreated)
	})
	t.Run("not for this api", func(t *testing.T) {
		elsewhere := e.SignIn(t, brokertest.NewBrowser(t), nativeApp, "idp_hint", "google", "scope", "openid")
		d.expectNotes(t, "a token for userinfo", elsewhere.String("access_token"), http.StatusUnauthorized, http.StatusUnauthorized)
		tokens := e.SignIn(t, brokertest.NewBrowser(t), nativeApp, "idp_hint", "google", "scope", "openid "+both, "resource", api)
		d.expectNotes(t, "an ID token", tokens.String("id_token"), http.StatusUnauthorized, http.StatusUnauthorized)
		if r := d.grantRefused(t, "service", url.Values{"grant_type": {"client_credentials"}, "resource": {api + "/other"}}); r != "invalid_target" {
			t.Errorf("a token for an api that is not there: %s", r)
		}
	})
	t.Run("bound to a key", func(t *testing.T) {
		key := e.NewKey(t)
		r := e.PostWith(t, "/token", d.client("service"), url.Values{"grant_type": {"client_credentials"}, "resource": {api}}, key.TokenHeader(e))
		token := r.String("access_token")
		if r.String("token_type") != "DPoP" {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
		address := d.APIs[0].URL + "/notes"
		if got := d.notes(t, "", key.ResourceHeader(http.MethodGet, address, token)); got.Status != http.StatusOK {
			t.Errorf("reading with its proof: %d %v", got.Status, got.Body)
		}
		if got := d.notes(t, "hello", key.ResourceHeader(http.MethodPost, address, token)); got.Status != http.StatusCreated {
			t.Errorf("writing with its proof: %d %v", got.Status, got.Body)
		}
		d.expectNotes(t, "without a proof", token, http.StatusUnauthorized, http.StatusUnauthorized)
		if got := d.notes(t, "", e.NewKey(t).ResourceHeader(http.MethodGet, address, token)); got.Status != http.StatusUnauthorized {
			t.Errorf("with another's proof: %d %v", got.Status, got.Body)
		}
		if got := d.notes(t, "", key.ResourceHeader(http.MethodPost, address, token)); got.Status != http.StatusUnauthorized {
			t.Errorf("with the proof of another request: %d %v", got.Status, got.Body)
		}
	})
	// Its tokens are JWTs, and still: what was revoked is refused at once.
	t.Run("revoked", func(t *testing.T) {
		tokens := e.SignIn(t, brokertest.NewBrowser(t), nativeApp, "idp_hint", "google", "scope", "openid offline_access "+both, "resource", api)
		d.expectNotes(t, "before", tokens.String("access_token"), http.StatusOK, http.StatusCreated)
		e.Post(t, "/revoke", nativeApp, url.Values{"token": {tokens.String("refresh_token")}})
		d.expectNotes(t, "after", tokens.String("access_token"), http.StatusUnauthorized, http.StatusUnauthorized)
	})
}

// What the middleware decides at the API, the endpoint of the line decides for a reverse proxy, whatever address that stands at.
func TestDevAnswersReverseProxies(t *testing.T) {
	d := startDev(t, "--addr", "127.0.0.1:0")
	reads := d.grant(t, "service", url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}}).String("access_token")
	ask := func(method, uri, token string) *brokertest.Response {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.ForwardAuth, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		for name, value := range map[string]string{"Method": method, "Proto": "http", "Host": "127.0.0.1:9000", "Uri": uri} {
			request.Header.Set("X-Forwarded-"+name, value)
		}
		return brokertest.Do(t, request)
	}
	for name, c := range map[string]struct {
		method, uri, token string
		status             int
	}{
		"reading":               {http.MethodGet, "/notes", reads, http.StatusOK},
		"reading without token": {http.MethodGet, "/notes", "", http.StatusUnauthorized},
		"writing":               {http.MethodPost, "/notes", reads, http.StatusForbidden},
		"no endpoint":           {http.MethodDelete, "/notes", reads, http.StatusForbidden},
	} {
		r := ask(c.method, c.uri, c.token)
		if r.Status != c.status {
			t.Errorf("%s: %d %v, want %d", name, r.Status, r.Body, c.status)
		}
		if r.Status == http.StatusOK && r.Header.Get("X-Auth-Client-Id") != devServiceClient {
			t.Errorf("%s: the headers are %v", name, r.Header)
		}
	}
}

// The page on which a person says yes has each scope in the api's own sentence, whoever asks: the app of the line, one that registered itself,
// and one whose client id is the address of its metadata.
func TestDevAsksForNotesInTheAPIsWords(t *testing.T) {
	var document []byte
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document) // the only error is a broker that hung up
	}))
	t.Cleanup(site.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", authority) // what the process takes for the system's authorities
	d := startDev(t, "--addr", "127.0.0.1:0", "--auto", "ann")
	api, redirect := d.APIs[0].Identifier, "http://127.0.0.1:51234/callback"

	metadata := map[string]any{
		"client_name": "Stranger", "redirect_uris": []string{redirect}, "application_type": "native", "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "scope": "openid " + both,
	}
	body, err := json.Marshal(metadata)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Issuer+"/register", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	registered := brokertest.Do(t, request)
	if registered.Status != http.StatusCreated {
		t.Fatalf("registration: %d %v", registered.Status, registered.Body)
	}
	address := site.URL + "/client.json"
	metadata["client_id"] = address
	if document, err = json.Marshal(metadata); err != nil {
		t.Fatal(err)
	}

	for name, app := range map[string]brokertest.Client{
		"native": nativeApp, "registered": {ID: registered.String("client_id"), RedirectURI: redirect}, "by its address": {ID: address, RedirectURI: redirect},
	} {
		for scope, says := range map[string][2]bool{"notes:read": {true, false}, "notes:write": {false, true}, both: {true, true}} {
			browser := brokertest.NewBrowser(t)
			page := browser.Get(d.env().AuthorizeURL(app, "idp_hint", "google", "scope", "openid "+scope, "resource", api, "prompt", "consent"))
			for page.Location() != nil {
				page = browser.Get(page.Location().String())
			}
			for i, sentence := range []string{"Read your notes", "Write notes for you"} {
				if strings.Contains(page.Body, sentence) != says[i] {
					t.Errorf("%s, %s: the page says %q: %v, want %v\n%s", name, scope, sentence, !says[i], says[i], page.Body)
				}
			}
			answer, _ := page.Submit(0, "allow").Walk(redirect)
			if answer == nil {
				t.Fatalf("%s: no code", name)
			}
			tokens := d.env().Redeem(t, app, answer.Query().Get("code"))
			if got := d.notes(t, "", bearer(tokens.String("access_token"))); (got.Status == http.StatusOK) != says[0] {
				t.Errorf("%s, %s: reading answers %d %v", name, scope, got.Status, got.Body)
			}
		}
	}
}

// grantRefused asks for tokens, and is the error.
func (d *dev) grantRefused(t *testing.T, client string, form url.Values) string {
	t.Helper()
	return d.env().Post(t, "/token", d.client(client), form).String("error")
}

// What is printed for people to paste works as it stands.
func TestDevPrintsCommandsThatWork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "dev", "--addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // a test that failed early has closed the pipe
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	var text strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(text.String(), "Ctrl-C"); {
		n, err := stdout.Read(buffer)
		if err != nil {
			t.Fatalf("%v after\n%s", err, &text)
		}
		text.Write(buffer[:n])
	}
	commands := regexp.MustCompile(`(?m)^  (TOKEN=.*|curl .*)$`).FindAllString(text.String(), -1)
	if len(commands) != 2 {
		t.Fatalf("want two commands for the sample API in\n%s", &text)
	}
	// As the guides have it register one: an API with the same scopes.
	said := regexp.MustCompile(`(?s)Broker +(\S+).*--config (\S+)`).FindStringSubmatch(text.String())
	if said == nil {
		t.Fatalf("want a broker and a configuration in\n%s", &text)
	}
	if status, _, stderr := portico(t, "api", "add", "--config", said[2], "--identifier", "urn:mine", "--scope", sampleapi.ScopeRead+"=Read", "--scope", sampleapi.ScopeWrite+"=Write"); status != 0 {
		t.Fatal(stderr)
	}
	r, err := http.Get(said[1] + "/resource-metadata?api=urn:mine") // now the broker knows of it
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r, err)
	}
	r.Body.Close()
	out, err := exec.CommandContext(ctx, "sh", "-c", strings.Join(commands, "\n")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"text":"hello"`) {
		t.Errorf("%v: %s\nof\n%s", err, out, strings.Join(commands, "\n"))
	}
}

// A data folder of an older release has no address for the sample API: it gets one, and everything else stays where it was.
func TestDevKeepsTheIssuerOfAnOlderDataFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := devCommand{Addr: "127.0.0.1:0"}.state(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := *first
	old.SampleAPI, old.API = "", ""
	if err := old.write(filepath.Join(dir, devStateFile)); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:0", first.Addr} {
		second, err := devCommand{Addr: addr}.state(dir)
		if err != nil {
			t.Fatal(err)
		}
		if second.SampleAPI == "" || second.API == "" {
			t.Errorf("with %s: the sample API has no address or secret: %+v", addr, second)
		}
		if slices.Contains([]string{second.Addr, second.SampleApp, second.Sandbox, second.MTLS}, second.SampleAPI) {
			t.Errorf("with %s: the sample API's address is another's: %+v", addr, second)
		}
		second.SampleAPI, second.API = "", ""
		if *second != old {
			t.Errorf("with %s: %+v became %+v", addr, old, *second)
		}
	}
}
