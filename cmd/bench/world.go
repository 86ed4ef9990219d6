package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/connectors/sandbox"
)

// world is everything that runs: a broker for each algorithm, the floor, the API, and the simulated providers in this process.
type world struct {
	sandbox *httptest.Server
	brokers map[string]*server
	floor   *server
	api     *server
	restart time.Duration
	idle    float64
}

// server is a process that is measured.
type server struct {
	url   string
	cmd   *exec.Cmd
	start time.Duration
}

const (
	clientID    = "bench"
	redirectURI = "http://127.0.0.1:1/callback"
	readyWithin = 30 * time.Second

	apiIdentifier    = "https://api.example.com/"       // takes JWTs
	opaqueIdentifier = "https://opaque.api.example.com" // and this one opaque tokens
	apiScope         = "notes:read"
	opaqueScope      = "archive:read" // another: a request for a scope of two apis has to say which one is meant
	username         = "ann"
	userPassword     = "a password that the bench alone knows"
)

var clientSecret = token.NewSecret("")

func newWorld(o options, dir, program string) (*world, error) {
	w := &world{brokers: map[string]*server{}}
	var handler http.Handler
	w.sandbox = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	redirects := map[sandbox.Provider][]string{}
	for _, alg := range []string{"ES256", "RS256"} {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		issuer := "http://" + address
		for _, provider := range sandbox.Providers() {
			redirects[provider] = append(redirects[provider], issuer+"/callback/"+string(provider))
		}
		config := filepath.Join(dir, alg+".yaml")
		if err := os.WriteFile(config, []byte(w.configuration(o, dir, alg, address)), 0o600); err != nil {
			return nil, err
		}
		if w.brokers[alg], err = startServer(issuer+"/readyz", program, "serve", "--config", config); err != nil {
			return nil, err
		}
		w.brokers[alg].url = issuer
		if alg == "ES256" { // once more, on what the first start has left
			first := w.brokers[alg].start
			w.brokers[alg].stop()
			if w.brokers[alg], err = startServer(issuer+"/readyz", program, "serve", "--config", config); err != nil {
				return nil, err
			}
			w.restart, w.brokers[alg].start, w.brokers[alg].url = w.brokers[alg].start, first, issuer
			w.idle = w.brokers[alg].memory()
		}
	}
	var clients []sandbox.Client
	for provider, uris := range redirects {
		clients = append(clients, sandbox.Client{Provider: provider, ID: "broker", Secret: "broker-secret", RedirectURIs: uris})
	}
	simulated, err := sandbox.New(sandbox.Options{BaseURL: w.sandbox.URL, Clients: clients, Auto: "ann"})
	if err != nil {
		return nil, err
	}
	handler = simulated
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if w.floor, err = startServer("", self, "--floor"); err != nil {
		return w, err
	}
	w.api, err = startServer("", self, "--api", w.brokers["ES256"].url, "--secret", clientSecret)
	return w, err
}

func (w *world) configuration(o options, dir, alg, address string) string {
	store := "{type: sqlite, path: " + filepath.Join(dir, alg+".db") + "}"
	if o.MongoDB != "" {
		store = "{type: mongodb, uri: '" + o.MongoDB + "', database: portico_bench_" + alg + "}"
	}
	s := w.sandbox.URL
	return `issuer: http://` + address + `
listen: ` + address + `
store: ` + store + `
keyring: [{secret: "` + token.NewSecret("") + `"}]
linking: never
log: {level: warn}
connectors:
  - {name: google, type: google, client_id: broker, client_secret: broker-secret, issuer: "` + s + `/google"}
  - {name: github, type: github, client_id: broker, client_secret: broker-secret, base_url: "` + s + `/github", api_url: "` + s + `/github/api"}
grant_types: [authorization_code, refresh_token, client_credentials, password, "urn:ietf:params:oauth:grant-type:token-exchange"]
accounts: [{username: ` + username + `, password: "` + userPassword + `"}]
apis:
  - identifier: ` + apiIdentifier + `
    name: API
    access_token_format: jwt
    scopes: [{name: "` + apiScope + `", sentence: Read}]
    endpoints: [{method: GET, path: "/notes/{id}", scopes: ["` + apiScope + `"]}]
  - identifier: ` + opaqueIdentifier + `
    name: Opaque API
    access_token_format: opaque
    scopes: [{name: "` + opaqueScope + `", sentence: Read}]
    endpoints: [{method: GET, path: "/notes/{id}", scopes: ["` + opaqueScope + `"]}]
clients:
  - client_id: ` + clientID + `
    client_secret: ` + clientSecret + `
    name: Bench
    redirect_uris: [` + redirectURI + `]
    scopes: [openid, profile, email, offline_access, "` + apiScope + `", "` + opaqueScope + `"]
    grant_types: [authorization_code, refresh_token, client_credentials, password, "urn:ietf:params:oauth:grant-type:token-exchange"]
    token_exchange: {modes: [impersonation]}
    resource_server_of: ["` + opaqueIdentifier + `"]
    first_party: true
    id_token_signed_response_alg: ` + alg + `
`
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startServer starts a process and waits until it answers at readyURL, or, where there is none, prints its address.
func startServer(readyURL, program string, args ...string) (*server, error) {
	s := &server{cmd: exec.Command(program, args...)}
	s.cmd.Stderr = os.Stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if readyURL == "" {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		s.url = strings.TrimSpace(line)
		return s, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	for {
		response, err := http.Get(readyURL)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				s.start = time.Since(began)
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("%s is not ready: %w", program, errors.Join(ctx.Err(), err))
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait() // its status does not matter any more
}

// userHz is the unit of times in /proc/PID/stat, fixed for all programs on Linux.
const userHz = 100

// cpu is the processor time that the process has used so far.
func (s *server) cpu() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(raw))
}

// parseStat reads user and system time, the 14th and 15th fields of /proc/PID/stat. The second field, the program's name, may hold
// anything, and ends at the last parenthesis.
func parseStat(stat string) (time.Duration, error) {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is not what it was")
	}
	var total time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * time.Second / userHz
	}
	return total, nil
}

// memory is the resident memory of the process in MiB.
func (s *server) memory() float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	return 0
}

func (w *world) close() {
	for _, s := range w.brokers {
		s.stop()
	}
	for _, s := range []*server{w.floor, w.api} {
		if s != nil {
			s.stop()
		}
	}
	w.sandbox.Close()
}
