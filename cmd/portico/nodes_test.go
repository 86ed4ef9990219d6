package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

// Two broker processes over one MongoDB, as behind a load balancer that knows nothing of sessions: what is good for one use is good for one
// use on both together.

// nodes are two broker processes: one issuer, two addresses.
type nodes struct {
	t      *testing.T
	issuer string
	urls   []string
	key    *ecdsa.PrivateKey
	turn   atomic.Int64
}

const (
	nodesClient   = "machine" // private_key_jwt, with every grant
	nodesRedirect = "http://127.0.0.1:9/callback"
	racers        = 24
)

func startNodes(t *testing.T, backchannel string) *nodes {
	t.Helper()
	uri := os.Getenv("PORTICO_TEST_MONGODB_URI")
	if uri == "" {
		t.Skip("PORTICO_TEST_MONGODB_URI is not set: there is no MongoDB to put two nodes on")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	n := &nodes{t: t}
	if n.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: n.key.Public(), KeyID: "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	database, secret := "portico_test_"+token.NewID()[:12], token.NewSecret("")
	t.Cleanup(func() { storetest.DropMongoDB(t, database) }) // after the nodes have ended
	for range 2 {
		port, err := freePort("127.0.0.1", 0)
		if err != nil {
			t.Fatal(err)
		}
		n.urls = append(n.urls, fmt.Sprintf("http://127.0.0.1:%d", port))
	}
	n.issuer = n.urls[0]
	for i, address := range n.urls {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("node%d.yaml", i))
		config := `
issuer: ` + n.issuer + `
listen: ` + strings.TrimPrefix(address, "http://") + `
store: {type: mongodb, uri: "` + uri + `", database: ` + database + `}
keyring: [{secret: "` + secret + `"}]
log: {level: warn, format: text}
fetch: {allow_private: true}
connectors:
  - {name: robot, type: fixed, insecure_signs_everyone_in: true, profile: {subject: robot-1, name: Robot}}
apis:
  - {identifier: "https://api.example.com/", name: API, access_token_format: jwt, scopes: [{name: "notes:read", sentence: Read notes}]}
trusted_issuers:
  - {issuer: "https://ci.example.com", jwks: '` + string(keys) + `', clients: [` + nodesClient + `], scopes: ["notes:read"], subject: account}
accounts:
  - {id: ann-1, username: ann, password: "a password that nobody uses"}
clients:
  - client_id: ` + nodesClient + `
    name: Machine
    first_party: true
    token_endpoint_auth_method: private_key_jwt
    jwks: '` + string(keys) + `'
    redirect_uris: [` + nodesRedirect + `]
    backchannel_logout_uri: ` + backchannel + `
    backchannel_logout_session_required: true
    scopes: [openid, offline_access, "notes:read"]
    grant_types: [authorization_code, refresh_token, client_credentials, "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"]
`
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(path, file, address)
	}
	return n
}

// start runs one node until the test ends.
func (n *nodes) start(program, config, address string) {
	n.t.Helper()
	startServe(n.t, exec.Command(program, "serve", "--config", config), http.DefaultClient, address)
}

// startServe runs a broker until the test ends, and waits until it is ready at its address. The channel is closed when the process is gone.
func startServe(t *testing.T, cmd *exec.Cmd, client *http.Client, address string) (exited chan struct{}) {
	t.Helper()
	var stderr output
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited = make(chan struct{})
	go func() {
		_ = cmd.Wait() // a test kills it
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(startTimeout):
			_ = cmd.Process.Kill()
			t.Error("a broker does not end when told")
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s", address, stderr.String())
		}
	})
	deadline := time.Now().Add(startTimeout)
	for {
		response, err := client.Get(address + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return exited
			}
		}
		select {
		case <-exited:
			t.Fatalf("a broker ended:\n%s", stderr.String())
		case <-time.After(20 * time.Millisecond): // polling another process: there is nothing to wait on
		}
		if time.Now().After(deadline) {
			t.Fatalf("a broker is not ready: %v\n%s", err, stderr.String())
		}
	}
}

// next is the nodes' addresses in turn.
func (n *nodes) next() string { return n.urls[n.turn.Add(1)%2] }

// sign makes a JWT of the key that the client, the trusted issuer and the proofs share.
func (n *nodes) sign(typ string, embed bool, claims map[string]any) string {
	n.t.Helper()
	now := time.Now()
	all := map[string]any{"jti": token.NewID(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	options := &jose.SignerOptions{EmbedJWK: embed}
	if !embed {
		options.WithHeader("kid", "1")
	}
	return brokertest.SignJWT(n.t, jose.ES256, n.key, options.WithType(jose.ContentType(typ)), all)
}

func (n *nodes) assertion() string {
	return n.sign("JWT", false, map[string]any{"iss": nodesClient, "sub": nodesClient, "aud": n.issuer})
}

// reply is a JSON answer.
type reply struct {
	status int
	body   map[string]any
}

func (r reply) text(name string) string {
	s, _ := r.body[name].(string)
	return s
}

// post sends a form with a client assertion, a fresh one unless the form has one, and perhaps a proof. Safe in goroutines.
func (n *nodes) post(base, path string, form url.Values, proof string) reply {
	if !form.Has("client_assertion") {
		fresh := url.Values{"client_assertion": {n.assertion()}}
		for name, values := range form {
			fresh[name] = values
		}
		form = fresh
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	request, err := http.NewRequest(http.MethodPost, base+path, strings.NewReader(form.Encode()))
	if err != nil {
		n.t.Error(err)
		return reply{}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if proof != "" {
		request.Header.Set("DPoP", proof)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Error(err)
		return reply{}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Error(err)
	}
	answer := reply{status: response.StatusCode}
	if len(bytes.TrimSpace(raw)) > 0 {
		_ = json.Unmarshal(raw, &answer.body) // what is no JSON has no error code either
	}
	return answer
}

// race lets all racers do the same at both nodes, and demands one success; the others must be refused with code.
func (n *nodes) race(code string, do func(base string) reply) reply {
	n.t.Helper()
	var mu sync.Mutex
	var won []reply
	refused := map[string]int{}
	storetest.Race(racers, func() {
		r := do(n.next())
		mu.Lock()
		defer mu.Unlock()
		if r.status < http.StatusBadRequest {
			won = append(won, r)
			return
		}
		refused[r.text("error")]++
	})
	if len(won) != 1 || refused[code] != racers-1 {
		n.t.Fatalf("%d of %d succeeded, want 1; the others: %v, want %s", len(won), racers, refused, code)
	}
	return won[0]
}

// walk follows redirects in a browser from target, and says where at the app it ends, or "" and where it ended instead.
func (n *nodes) walk(jar http.CookieJar, target string) (answer url.Values, status int) {
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 12 {
		response, err := client.Get(target)
		if err != nil {
			n.t.Error(err)
			return nil, 0
		}
		response.Body.Close()
		location, err := response.Location()
		if err != nil {
			return nil, response.StatusCode
		}
		if target = location.String(); strings.HasPrefix(target, nodesRedirect) {
			return location.Query(), response.StatusCode
		}
	}
	return nil, http.StatusLoopDetected
}

func (n *nodes) browser() http.CookieJar {
	jar, err := cookiejar.New(nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return jar
}

func (n *nodes) authorizeForm() url.Values {
	return url.Values{
		"response_type": {"code"}, "client_id": {nodesClient}, "redirect_uri": {nodesRedirect}, "scope": {"openid offline_access"},
		"code_challenge": {brokertest.Challenge(brokertest.Verifier)}, "code_challenge_method": {"S256"},
	}
}

// signIn is a code.
func (n *nodes) signIn(jar http.CookieJar) string {
	n.t.Helper()
	answer, status := n.walk(jar, n.next()+"/authorize?"+n.authorizeForm().Encode())
	if answer.Get("code") == "" {
		n.t.Fatalf("no code: %d %v", status, answer)
	}
	return answer.Get("code")
}

func codeForm(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {nodesRedirect}, "code_verifier": {brokertest.Verifier},
	}
}

func TestWhatIsGoodForOneUseIsSoOnTwoNodes(t *testing.T) {
	n := startNodes(t, "http://127.0.0.1:9/logout")
	machine := url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}}
	with := func(form url.Values, name, value string) url.Values {
		copied := url.Values{name: {value}}
		for name, values := range form {
			copied[name] = values
		}
		return copied
	}

	t.Run("a client assertion", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		assertion := n.assertion()
		n.race("invalid_client", func(base string) reply {
			return n.post(base, "/token", with(machine, "client_assertion", assertion), "")
		})
	})
	t.Run("a proof", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		proof := n.sign("dpop+jwt", true, map[string]any{"htm": "POST", "htu": n.issuer + "/token"})
		n.race("invalid_dpop_proof", func(base string) reply { return n.post(base, "/token", machine, proof) })
	})
	t.Run("a trusted issuer's assertion", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		assertion := n.sign("JWT", false, map[string]any{"iss": "https://ci.example.com", "sub": "ann-1", "aud": n.issuer})
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "scope": {"notes:read"}, "assertion": {assertion}}
		n.race("invalid_grant", func(base string) reply { return n.post(base, "/token", form, "") })
	})
	t.Run("a code", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		form := codeForm(n.signIn(n.browser()))
		n.race("invalid_grant", func(base string) reply { return n.post(base, "/token", form, "") })
	})
	t.Run("a device code", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		started := n.post(n.next(), "/device_authorization", url.Values{"scope": {"openid"}}, "")
		browser := brokertest.NewBrowser(t)
		page := browser.Get(started.text("verification_uri"))
		page.Forms[0].Fields.Set("user_code", started.text("user_code"))
		for page = page.Submit(0, "Continue"); page.Location() != nil || len(page.Forms) > 0; {
			if location := page.Location(); location != nil {
				page = browser.Get(location.String())
				continue
			}
			page = page.Submit(0, "allow")
		}
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {started.text("device_code")}}
		n.race("invalid_grant", func(base string) reply { return n.post(base, "/token", form, "") })
	})
	t.Run("a pushed request", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		pushed := n.post(n.next(), "/par", n.authorizeForm(), "")
		if pushed.status != http.StatusCreated {
			t.Fatalf("par: %d %v", pushed.status, pushed.body)
		}
		query := url.Values{"client_id": {nodesClient}, "request_uri": {pushed.text("request_uri")}}.Encode()
		var codes, refused atomic.Int64
		storetest.Race(racers, func() {
			jar, _ := cookiejar.New(nil) // never fails
			if answer, _ := n.walk(jar, n.next()+"/authorize?"+query); answer.Get("code") != "" {
				codes.Add(1)
			} else {
				refused.Add(1)
			}
		})
		if codes.Load() != 1 || refused.Load() != racers-1 {
			t.Errorf("%d browsers signed in with one pushed request, want 1", codes.Load())
		}
	})
	t.Run("a refresh token's successor is the same on both", func(t *testing.T) {
		n := &nodes{t: t, issuer: n.issuer, urls: n.urls, key: n.key}
		first := n.post(n.next(), "/token", codeForm(n.signIn(n.browser())), "")
		var successors sync.Map
		storetest.Race(racers, func() {
			r := n.post(n.next(), "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.text("refresh_token")}}, "")
			if r.status != http.StatusOK {
				t.Errorf("%d %v", r.status, r.body)
			}
			successors.Store(r.text("refresh_token"), true)
		})
		count := 0
		successors.Range(func(any, any) bool { count++; return true })
		if count != 1 {
			t.Errorf("there are %d successors, want 1", count)
		}
	})
}

// Of two nodes one delivers a logout token, however often the person presses, and wherever.
func TestALogoutTokenIsDeliveredByOneOfTwoNodes(t *testing.T) {
	type delivery struct{ sid, jti string }
	deliveries := make(chan delivery, 4*racers)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		parsed, err := jose.ParseSignedCompact(r.PostFormValue("logout_token"), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Error(err)
			return
		}
		var claims struct {
			SID string `json:"sid"`
			JTI string `json:"jti"`
		}
		if err := json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), &claims); err != nil {
			t.Error(err)
		}
		deliveries <- delivery{claims.SID, claims.JTI}
	}))
	t.Cleanup(app.Close)
	n := startNodes(t, app.URL)

	// A session that is ended by many requests at once, and then another, whose delivery comes after all of the first's.
	counts := map[string]int{}
	for range 2 {
		jar := n.browser()
		tokens := n.post(n.next(), "/token", codeForm(n.signIn(jar)), "")
		query := url.Values{"id_token_hint": {tokens.text("id_token")}}.Encode()
		storetest.Race(racers, func() {
			client := &http.Client{Jar: jar}
			response, err := client.Get(n.next() + "/logout?" + query)
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
		})
		select {
		case d := <-deliveries:
			counts[d.sid]++
		case <-time.After(startTimeout):
			t.Fatal("no logout token was delivered")
		}
	}
	for len(deliveries) > 0 {
		counts[(<-deliveries).sid]++
	}
	if len(counts) != 2 {
		t.Errorf("logout tokens for %d sessions, want 2: %v", len(counts), counts)
	}
	for sid, count := range counts {
		if count != 1 {
			t.Errorf("session %s: %d deliveries, want 1", sid, count)
		}
	}
}
