package broker_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// Real reverse proxies in front of an API that knows nothing of tokens, with the configuration files that the guide shows.

// proxied is the api of those files.
var proxied = registry.API{
	Identifier: "https://api.example.com/notes", Name: "Notes", URL: "https://api.example.com", AccessTokenInQuery: true,
	Scopes:       []registry.Scope{{Name: "note:read", Sentence: "Read notes"}, {Name: "note:write", Sentence: "Write notes"}, {Name: "note:admin", Sentence: "Manage notes"}},
	DetailsTypes: []registry.DetailsType{{Type: "drawer", Sentence: "Open a drawer", Fields: []registry.DetailsField{{Name: "label"}}}},
	Endpoints: []registry.Endpoint{
		{Method: "GET", Path: "/notes", Scopes: []string{"note:read"}},
		{Method: "POST", Path: "/notes", Scopes: []string{"note:write"}},
		{Method: "GET", Path: "/notes/{id}", Scopes: []string{"note:read"}},
		{Method: "GET", Path: "/notes/secret", Scopes: []string{"note:admin"}},
		{Method: "GET", Path: "/live", Scopes: []string{"note:read"}},
		{Method: "GET", Path: "/health", Public: true},
		{Method: "GET", Path: "/health/{path...}", Public: true},
	},
}

// caller has all scopes, and a token as it likes.
var caller = Client{ID: "caller", Secret: "caller-secret-0123456789-0123456789-0123456"}

// proxy is a program that the tests run, with the file of examples/proxies that configures it.
type proxy struct {
	variable string // of the environment: where the program is
	file     string
	listens  string // how the file says where it listens
	// command runs it. config is the edited file, dir a folder for whatever else it needs.
	command func(program, config, dir, listen string) *exec.Cmd
	// edit makes of the file what a test can run.
	edit func(text, dir, listen string) string
	// down is what its clients are told while the broker does not answer.
	down int
}

var allProxies = map[string]proxy{
	"nginx": {
		variable: "PORTICO_TEST_NGINX", file: "nginx.conf", listens: "listen 8091;", down: http.StatusServiceUnavailable,
		command: func(program, config, dir, _ string) *exec.Cmd {
			return exec.Command(program, "-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log"), "-g", "daemon off; pid "+dir+"/pid;")
		},
		edit: func(text, dir, listen string) string {
			text = strings.ReplaceAll(text, "listen 8091;", "listen "+listen+";")
			text = strings.ReplaceAll(text, "/var/log/nginx/api.log", dir+"/access.log")
			folders := ""
			for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				folders += name + "_temp_path " + dir + "/" + name + "; "
			}
			return strings.Replace(text, "http {", "http { "+folders, 1)
		},
	},
	"Caddy": {
		variable: "PORTICO_TEST_CADDY", file: "Caddyfile", listens: "http://:8092", down: http.StatusBadGateway,
		command: func(program, config, dir, _ string) *exec.Cmd {
			c := exec.Command(program, "run", "--config", config, "--adapter", "caddyfile")
			c.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			return c
		},
		edit: func(text, _, listen string) string {
			return "{\n\tadmin off\n}\n" + strings.ReplaceAll(text, "http://:8092", "http://"+listen+", http://api.example.com:"+portOf(listen))
		},
	},
	"Envoy": {
		variable: "PORTICO_TEST_ENVOY", file: "envoy.yaml", listens: "{address: 0.0.0.0, port_value: 8093}", down: http.StatusServiceUnavailable,
		command: func(program, config, _, _ string) *exec.Cmd {
			return exec.Command(program, "-c", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
		},
		edit: func(text, _, listen string) string {
			return strings.ReplaceAll(text, "{address: 0.0.0.0, port_value: 8093}", "{address: 127.0.0.1, port_value: "+portOf(listen)+"}")
		},
	},
	"Traefik": {
		variable: "PORTICO_TEST_TRAEFIK", file: "traefik.yaml", listens: "http:", down: http.StatusInternalServerError,
		command: func(program, config, dir, listen string) *exec.Cmd {
			static := filepath.Join(dir, "static.yaml")
			text := fmt.Sprintf("entryPoints: {web: {address: %q, http: {aliasHeadersStrategy: delete}}}\nproviders: {file: {filename: %q}}\n", listen, config)
			if err := os.WriteFile(static, []byte(text), 0o600); err != nil {
				panic(err)
			}
			return exec.Command(program, "--configfile="+static)
		},
		edit: func(text, _, _ string) string { return text },
	},
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// theAPI is the API behind: it answers with what it got.
type theAPI struct {
	*httptest.Server
	mu  sync.Mutex
	got []passedOn
}

// passedOn is a request that got through.
type passedOn struct {
	Method, Target, Body string
	Header               http.Header
}

func newAPI(t *testing.T) *theAPI {
	t.Helper()
	a := &theAPI{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.got = append(a.got, passedOn{r.Method, r.RequestURI, string(body), r.Header})
		a.mu.Unlock()
		if r.URL.Path == "/health/broken" {
			http.Error(w, "the API's own", http.StatusInternalServerError)
			return
		}
		if upgrade := r.Header.Get("Upgrade"); upgrade != "" {
			connection, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer connection.Close()
			_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+upgrade+"\r\nConnection: Upgrade\r\n\r\n")
			line, _ := both.ReadString('\n')
			_, _ = io.WriteString(connection, "echo "+line)
			return
		}
		_, _ = io.WriteString(w, "the API")
	}))
	t.Cleanup(a.Close)
	return a
}

// taken are the requests that got through since the last call.
func (a *theAPI) taken() []passedOn {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = nil
	return got
}

// front is a proxy that runs.
type front struct {
	address string
	dir     string
	broker  *httptest.Server // the broker as the proxy reaches it
}

// run starts a proxy with its example file, before the broker and the API.
func (p proxy) run(t *testing.T, e *Env, api *theAPI) *front {
	t.Helper()
	program := os.Getenv(p.variable)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are somebody else
		t.Fatal(err)
	}
	broker := httptest.NewServer(e.Broker.Handler)
	t.Cleanup(broker.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := listener.Addr().String()
	_ = listener.Close()

	raw, err := os.ReadFile(filepath.Join("..", "examples", "proxies", p.file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, part := range []string{p.listens, "8080", "9000"} {
		if !strings.Contains(text, part) {
			t.Fatalf("%s says nothing of %q", p.file, part)
		}
	}
	text = p.edit(text, dir, listen)
	for from, to := range map[string]string{"8080": broker.Listener.Addr().String(), "9000": api.Listener.Addr().String()} {
		text = strings.ReplaceAll(text, "127.0.0.1:"+from, to)
		text = strings.ReplaceAll(text, "{address: 127.0.0.1, port_value: "+from+"}", "{address: 127.0.0.1, port_value: "+portOf(to)+"}")
	}
	file := filepath.Join(dir, p.file)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := p.command(program, file, dir, listen)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt) // each of them ends its children then
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", program, &said)
			if log, err := os.ReadFile(filepath.Join(dir, "error.log")); err == nil {
				t.Logf("%s", log)
			}
		}
	})
	for range 300 {
		if connection, err := net.Dial("tcp", listen); err == nil {
			_ = connection.Close()
			return &front{address: listen, dir: dir, broker: broker}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", program, err, &said)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen at %s", program, listen)
	return nil
}

// send sends a request to the api's host through the proxy. target is written as it stands.
func (f *front) send(t *testing.T, method, target string, header http.Header, body string) *Response {
	t.Helper()
	connection, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n", method, target)
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for name, values := range header {
		for _, value := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	_, _ = io.WriteString(connection, b.String()+"\r\n"+body)
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	raw, _ := io.ReadAll(response.Body)
	r := &Response{Status: response.StatusCode, Header: response.Header}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(raw, &r.Body); err != nil {
			t.Fatalf("%s %s: %v in %s", method, target, err, raw)
		}
	}
	return r
}

// eachProxy runs f with each proxy that there is.
func eachProxy(t *testing.T, f func(t *testing.T, name string, e *Env, front *front, api *theAPI), edits ...func(*config.Config)) {
	for name, p := range allProxies {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(p.variable) == "" {
				t.Skip(p.variable + " is not set: the path of the program")
			}
			e := Start(t, append(edits, func(c *config.Config) {
				for i := range c.Clients {
					c.Clients[i].Scopes = append(c.Clients[i].Scopes, "note:read")
				}
				c.Clients = append(c.Clients, config.Client{
					ClientID: caller.ID, ClientSecret: config.NewSecret(caller.Secret), Name: "Caller",
					Scopes: []string{"note:read", "note:write", "note:admin"}, AuthorizationDetailsTypes: []string{"drawer"}, GrantTypes: []string{"client_credentials"},
				})
			})...)
			if _, err := e.Broker.APIs.Add(t.Context(), proxied); err != nil {
				t.Fatal(err)
			}
			api := newAPI(t)
			f(t, name, e, p.run(t, e, api), api)
		})
	}
}

// invented are the headers in which a client says who it would like to be.
func invented(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range identityHeaders {
		h["X-Auth-"+name] = []string{"evil"}
		h["x_auth_"+strings.ReplaceAll(strings.ToLower(name), "-", "_")] = []string{"evil"}
		h["X-Auth_"+name] = []string{"evil"} // half and half
	}
	return h
}

// In front of an API, a proxy lets through what may pass, says who it is, and tells everybody else why not.
func TestProxies(t *testing.T) {
	eachProxy(t, func(t *testing.T, name string, e *Env, f *front, api *theAPI) {
		reader, writer := ownToken(t, e, caller, "note:read"), ownToken(t, e, caller, "note:write")
		persons := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid note:read", "resource", proxied.Identifier)

		yes := f.send(t, "GET", "/notes/7?x=%2F&y", bearer(reader), "")
		got := api.taken()
		if yes.Status != http.StatusOK || len(got) != 1 || got[0].Method != "GET" || got[0].Target != "/notes/7?x=%2F&y" {
			t.Fatalf("%d %v: %+v", yes.Status, yes.Header, got)
		}
		h := got[0].Header
		for header, want := range map[string]string{
			"X-Auth-Subject": "caller", "X-Auth-Client-Id": "caller", "X-Auth-Scope": "note:read", "X-Auth-Api": proxied.Identifier,
			"X-Auth-Acr": "", "X-Auth-Actor": "", "X-Auth-Details": "", "X-Auth-Time": "", "Authorization": "", "Dpop": "",
		} {
			if h.Get(header) != want {
				t.Errorf("%s is %q at the API, want %q", header, h.Get(header), want)
			}
		}
		if h.Get("X-Auth-Expires") == "" {
			t.Errorf("the API got %v", h)
		}
		f.send(t, "GET", "/notes", bearer(persons.String("access_token")), "")
		if got := api.taken(); len(got) != 1 || got[0].Header.Get("X-Auth-Client-Id") != "web" || got[0].Header.Get("X-Auth-Acr") != "urn:portico:acr:federated" || got[0].Header.Get("X-Auth-Time") == "" {
			t.Errorf("for a person: %+v", got)
		}
		// All of what a token says gets there, also where it is long.
		var labels []string
		for i := range 15 {
			labels = append(labels, fmt.Sprintf(`{"type":"drawer","label":"%d %s"}`, i, strings.Repeat("é", 100)))
		}
		long := e.Post(t, "/token", caller, url.Values{
			"grant_type": {"client_credentials"}, "scope": {"note:read"}, "resource": {proxied.Identifier}, "authorization_details": {"[" + strings.Join(labels, ",") + "]"},
		})
		if r := f.send(t, "GET", "/notes", bearer(long.String("access_token")), ""); r.Status != http.StatusOK {
			t.Errorf("a long token: %d %v %v", r.Status, r.Body, long.Body)
		}
		if got := api.taken(); len(got) != 1 || strings.Count(got[0].Header.Get("X-Auth-Details"), `\u00e9`) != 1500 {
			t.Errorf("a long token: %+v", got)
		}
		// The API gets the body that the client sent.
		if r := f.send(t, "POST", "/notes", bearer(writer), "text=a note"); r.Status != http.StatusOK {
			t.Errorf("POST: %d %v", r.Status, r.Body)
		}
		if got := api.taken(); len(got) != 1 || got[0].Method != "POST" || got[0].Body != "text=a note" {
			t.Errorf("POST: %+v", got)
		}
		f.send(t, "GET", "/health", bearer("nonsense"), "")
		if got := api.taken(); len(got) != 1 || got[0].Header.Get("X-Auth-Subject") != "" {
			t.Errorf("public: %+v", got)
		}

		// What the API itself says stays.
		if r := f.send(t, "GET", "/health/broken", nil, ""); r.Status != http.StatusInternalServerError {
			t.Errorf("the API's own answer became %d %v", r.Status, r.Body)
		}
		api.taken()

		// Who says to be somebody is not; at a public endpoint neither. In whatever way it is written, or not at all.
		for target, token := range map[string]string{"/notes": reader, "/health": ""} {
			f.send(t, "GET", target, invented(bearer(token)), "")
			for _, r := range api.taken() {
				for header, values := range r.Header {
					if slices.Contains(values, "evil") {
						t.Errorf("%s: the API got %s: %q", target, header, values)
					}
				}
			}
		}

		for what, c := range map[string]struct {
			method, target, token string
			status                int
			code                  string
			challenge             []string
		}{
			"no token":         {"GET", "/notes", "", 401, "invalid_token", []string{"Bearer realm=", "DPoP ", "resource_metadata="}},
			"a bad token":      {"GET", "/notes", "nonsense", 401, "invalid_token", []string{`error="invalid_token"`}},
			"too little scope": {"POST", "/notes", reader, 403, "insufficient_scope", []string{`error="insufficient_scope"`, `scope="note:write"`}},
			"no endpoint":      {"DELETE", "/notes", writer, 403, "access_denied", nil},
		} {
			header := http.Header{}
			if c.token != "" {
				header = bearer(c.token)
			}
			r := f.send(t, c.method, c.target, header, "")
			if r.Status != c.status || r.String("error") != c.code || r.String("error_description") == "" || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %v %v", what, r.Status, r.Header, r.Body)
			}
			if n := len(r.Header.Values("WWW-Authenticate")); n > 1 {
				t.Errorf("%s: the challenge is there %d times", what, n)
			}
			for _, part := range c.challenge {
				if !strings.Contains(r.Header.Get("WWW-Authenticate"), part) {
					t.Errorf("%s: the challenge %q has no %s", what, r.Header.Get("WWW-Authenticate"), part)
				}
			}
			if got := api.taken(); len(got) > 0 {
				t.Errorf("%s: the API got %+v", what, got)
			}
		}

		// A proof is for the address that clients know.
		key := e.NewKey(t)
		bound := signInBound(t, e, Web, key, "scope", "openid note:read", "resource", proxied.Identifier).String("access_token")
		proof := key.Proof("GET", "https://api.example.com/notes", "ath", Challenge(bound))
		for _, want := range []int{200, 401} { // and works once
			r := f.send(t, "GET", "/notes", http.Header{"Authorization": {"DPoP " + bound}, "DPoP": {proof}}, "")
			if r.Status != want {
				t.Errorf("a proof: %d %v, want %d", r.Status, r.Header, want)
			}
		}
		api.taken()

		// Where to get a token.
		metadata := f.send(t, "GET", "/.well-known/oauth-protected-resource/notes", nil, "")
		if metadata.Status != http.StatusOK || metadata.String("resource") != proxied.Identifier {
			t.Errorf("metadata: %d %v", metadata.Status, metadata.Body)
		}

		// RFC 6750 section 2.3.
		r := f.send(t, "GET", "/notes?access_token="+reader, nil, "")
		if r.Status != http.StatusOK || name == "nginx" && r.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("a token in the query: %d %v", r.Status, r.Header)
		}
		api.taken()
		for _, log := range []string{"access.log", "error.log"} {
			raw, _ := os.ReadFile(filepath.Join(f.dir, log))
			if bytes.Contains(raw, []byte(reader)) || strings.Contains(e.Logs.String(), reader) {
				t.Errorf("%s shows a token", log)
			}
		}
	})
}

// What clients send to be asked about as something else: the API never serves what the token is not good for.
func TestProxiesCannotBeTalkedRound(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, e *Env, f *front, api *theAPI) {
		reader := bearer(ownToken(t, e, caller, "note:read"))
		secret := func(target string) bool {
			raw, _, _ := strings.Cut(target, "?")
			decoded, err := url.PathUnescape(raw)
			if err != nil {
				return true // whatever it means there
			}
			var segments []string // as a server that takes parameters off sees them
			for segment := range strings.SplitSeq(strings.ReplaceAll(decoded, `\`, "/"), "/") {
				segment, _, _ = strings.Cut(segment, ";")
				segments = append(segments, segment)
			}
			return path.Clean(strings.Join(segments, "/")) == "/notes/secret"
		}
		for _, target := range []string{
			"/notes/secret", "/notes/%73ecret", "/notes/./secret", "/notes/x/../secret", "/notes//secret", "//notes/secret", "/notes/x/%2e%2e/secret", "/notes%2fsecret", "/notes%2Fsecret",
			"/notes%5csecret", `/notes\secret`, "/notes/secret;x", "/notes/secret%3bx", "/notes/x/..;/secret", "/notes/;/secret", "/health/../notes/secret", "/health/..;/notes/secret",
			"/health/%2e%2e/notes/secret", "/health/..%2fnotes/secret", "/health/..%5cnotes/secret", "/notes/secret?x=1#", "/notes/secret#", "/health#/../notes/secret", "/notes/secret%00",
			"http://api.example.com/notes/secret", "http://api.example.com/health/../notes/secret",
		} {
			r := f.send(t, "GET", target, reader, "")
			for _, got := range api.taken() {
				if secret(got.Target) {
					t.Errorf("%s: the API served %s (%d)", target, got.Target, r.Status)
				}
			}
		}
		for what, c := range map[string]struct {
			method, target string
			header         http.Header
		}{
			"a method of its own":      {"POST", "/notes", http.Header{"X-Original-Method": {"GET"}, "X-Forwarded-Method": {"GET"}, "X-HTTP-Method-Override": {"GET"}}},
			"a request of its own":     {"POST", "/notes", http.Header{"X-Original-Method": {"GET"}, "X-Original-URL": {"https://api.example.com/notes"}, "X-Original-URI": {"/notes"}}},
			"one of Traefik's":         {"GET", "/notes/secret", http.Header{"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/notes"}, "X-Forwarded-Host": {"api.example.com"}}},
			"an api of its own":        {"GET", "/notes/secret?api=urn:other", nil},
			"the api, once more":       {"GET", "/notes/secret?api=" + url.QueryEscape(proxied.Identifier), nil},
			"another host":             {"GET", "/notes/secret", http.Header{"X-Forwarded-Host": {"other.example.com"}}},
			"the address of the proxy": {"GET", "/.portico/forward-auth", nil},
			"a hop of its own":         {"POST", "/notes", http.Header{"Connection": {"close, X-Original-Method, X-Forwarded-Method, X-Forwarded-Uri, Authorization"}}},
		} {
			header := reader.Clone()
			for name, values := range c.header {
				header[name] = values
			}
			r := f.send(t, c.method, c.target, header, "")
			if got := api.taken(); len(got) > 0 || r.Status < 400 {
				t.Errorf("%s: %d, and the API served %+v", what, r.Status, got)
			}
		}
		// What a framework may take for another request does not get there, with underscores neither.
		overriding := reader.Clone()
		for _, name := range []string{
			"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Rewrite-URL", "X-Original-URL", "X-HTTP-Method_Override", "X_Rewrite_URL", "X-Original_URL",
		} {
			overriding[name] = []string{"evil"}
		}
		f.send(t, "GET", "/notes", overriding, "")
		for _, got := range api.taken() {
			for header, values := range got.Header {
				if slices.Contains(values, "evil") {
					t.Errorf("the API got %s", header)
				}
			}
		}
	})
}

// Proxies take off what Connection names (RFC 9110 section 7.6.1). Whoever could have them take off what the broker said would have an API that sees no
// actor and no details of a token that has them.
func TestProxiesKeepWhatTheBrokerSaidOnEveryHop(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, e *Env, f *front, api *theAPI) {
		// Those that are not empty, which nginx does not send.
		names := []string{"X-Auth-Subject", "X-Auth-Client-Id", "X-Auth-Scope", "X-Auth-Api", "X-Auth-Expires"}
		for what, h := range map[string]http.Header{
			"a request":   {"Connection": {strings.Join(names, ", ")}},
			"a WebSocket": {"Connection": {"Upgrade, " + strings.Join(names, ", ")}, "Upgrade": {"websocket"}},
		} {
			h.Set("Authorization", "Bearer "+ownToken(t, e, caller, "note:read"))
			f.send(t, "GET", "/live", h, "")
			got := api.taken()
			if len(got) != 1 {
				t.Errorf("%s: the API got %+v", what, got)
				continue
			}
			for _, name := range names {
				if len(got[0].Header.Values(name)) != 1 {
					t.Errorf("%s: the API got %s %q", what, name, got[0].Header.Values(name))
				}
			}
		}
	})
}

// An API that speaks HTTP/2 without TLS (RFC 7540 section 3.2) would answer an Upgrade to it with a connection on which the proxy asks nobody
// about anything. WebSockets alone are passed on.
func TestProxiesPassNoOtherProtocolOn(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, e *Env, f *front, api *theAPI) {
		token := ownToken(t, e, caller, "note:read")
		for _, upgrades := range [][]string{{"h2c"}, {"H2C"}, {"websocket", "h2c"}, {"h2c", "websocket"}, {"websocket, h2c"}, {"websocket-h2c"}, {"TLS/1.0"}} {
			h := http.Header{"Authorization": {"Bearer " + token}, "Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": upgrades, "HTTP2-Settings": {"AAMAAABkAARAAAAAAAIAAAAA"}}
			f.send(t, "GET", "/live", h, "")
			for _, got := range api.taken() {
				if passed := got.Header.Values("Upgrade"); len(passed) > 1 || len(passed) == 1 && passed[0] != "websocket" {
					t.Errorf("%q: the API was asked for %q", upgrades, passed)
				}
			}
		}
	})
}

// While the broker is down nobody gets in.
func TestProxiesFailClosed(t *testing.T) {
	eachProxy(t, func(t *testing.T, name string, e *Env, f *front, api *theAPI) {
		token := bearer(ownToken(t, e, caller, "note:read"))
		f.broker.Close()
		for _, target := range []string{"/notes", "/health"} {
			r := f.send(t, "GET", target, token, "")
			if got := api.taken(); len(got) > 0 || r.Status != allProxies[name].down {
				t.Errorf("%s: %d %v, and the API got %+v", target, r.Status, r.Header, got)
			}
		}
	})
}

// Nonces of the broker's get to clients, or no proof would ever do (RFC 9449 section 9).
func TestProxiesHandOutNonces(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, e *Env, f *front, _ *theAPI) {
		key := e.NewKey(t)
		grant := url.Values{"grant_type": {"client_credentials"}, "scope": {"note:read"}}
		first := e.PostWith(t, "/token", caller, grant, key.TokenHeader(e))
		token := e.PostWith(t, "/token", caller, grant, http.Header{
			"DPoP": {key.Proof("POST", e.Issuer+"/token", "nonce", first.Header.Get("DPoP-Nonce"))},
		}).String("access_token")
		get := func(edits ...any) *Response {
			t.Helper()
			proof := key.Proof("GET", "https://api.example.com/notes", append(edits, "ath", Challenge(token))...)
			return f.send(t, "GET", "/notes", http.Header{"Authorization": {"DPoP " + token}, "DPoP": {proof}}, "")
		}
		without := get()
		nonce := without.Header.Get("DPoP-Nonce")
		if without.Status != http.StatusUnauthorized || nonce == "" || !strings.Contains(without.Header.Get("WWW-Authenticate"), `error="use_dpop_nonce"`) {
			t.Errorf("without a nonce: %d %v", without.Status, without.Header)
		}
		if r := get("nonce", nonce); r.Status != http.StatusOK {
			t.Errorf("with the nonce: %d %v", r.Status, r.Header)
		}
	}, requireNonce)
}

// A WebSocket is asked about once, at its handshake.
func TestProxiesPassWebSocketsOn(t *testing.T) {
	eachProxy(t, func(t *testing.T, _ string, e *Env, f *front, api *theAPI) {
		token := ownToken(t, e, caller, "note:read")
		for _, good := range []bool{true, false} {
			connection, err := net.Dial("tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
			sent := token
			if !good {
				sent = "nonsense"
			}
			_, _ = fmt.Fprintf(connection, "GET /live HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer %s\r\n\r\n", sent)
			reader := bufio.NewReader(connection)
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if good != (response.StatusCode == http.StatusSwitchingProtocols) {
				t.Fatalf("%v: %d", good, response.StatusCode)
			}
			if !good {
				continue
			}
			_, _ = io.WriteString(connection, "hello\n")
			if line, _ := reader.ReadString('\n'); line != "echo hello\n" {
				t.Errorf("%q came back", line)
			}
		}
		if got := api.taken(); len(got) != 1 || got[0].Header.Get("X-Auth-Subject") != "caller" {
			t.Errorf("%+v", got)
		}
	})
}

// Whoever copies from the guide gets what these tests run.
func TestTheGuideShowsTheExamplesOfProxies(t *testing.T) {
	guide, err := os.ReadFile("../docs/reverse-proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	// lines without their indentation, which the guide takes off.
	lines := func(text string) string {
		var all []string
		for line := range strings.Lines(text) {
			all = append(all, strings.TrimSpace(line))
		}
		return strings.Join(all, "\n")
	}
	for name, p := range allProxies {
		_, section, found := strings.Cut(string(guide), "\n### "+name+"\n")
		_, block, hasBlock := strings.Cut(section, "\n```")
		_, block, _ = strings.Cut(block, "\n") // the language
		block, _, ended := strings.Cut(block, "\n```")
		if !found || !hasBlock || !ended {
			t.Errorf("the guide shows nothing of %s", p.file)
			continue
		}
		example, err := os.ReadFile(filepath.Join("..", "examples", "proxies", p.file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(lines(string(example)), lines(block)) {
			t.Errorf("what the guide shows is not in %s:\n%s", p.file, block)
		}
	}
}
