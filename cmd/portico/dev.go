package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors/sandbox"
	"github.com/portico-id/portico/examples/sampleapi"
	"github.com/portico-id/portico/examples/sampleapp"
)

// devCommand is the broker to try out and to develop against. It writes a configuration like any other into its data
// folder, and serves it; what it adds is the sample app, the sample API and a line that says where everything is.
type devCommand struct {
	Addr    string `help:"Where the broker listens; the sample app, the simulated providers and the sample API take the next ports." default:"127.0.0.1:8080"`
	Data    string `help:"Keep everything in this folder, so that it is the same after a restart. Default: a fresh temporary folder." type:"path" placeholder:"DIR"`
	MongoDB string `help:"Store in this MongoDB instead of a file." name:"mongodb" placeholder:"URI"`
	Auto    string `help:"The simulated providers sign in by themselves, as this persona." placeholder:"PERSONA"`
	JSON    bool   `help:"Once ready, print one line of JSON on standard output that says where everything is." name:"json"`
	Verbose bool   `short:"v" help:"Log every request."`
}

// devState is what has to stay the same over restarts with the same data folder.
type devState struct {
	Addr        string `json:"addr"`
	SampleApp   string `json:"sample_app"` // addresses
	Sandbox     string `json:"sandbox"`
	MTLS        string `json:"mtls"`
	SampleAPI   string `json:"sample_api"`
	WebSecret   string `json:"web_secret"`
	Service     string `json:"service_secret"`
	Trusted     string `json:"trusted_secret"`
	API         string `json:"api_secret"`
	Password    string `json:"password"` // of the first persona's local account
	Database    string `json:"database"` // of --mongodb
	KeyringFile string `json:"-"`
}

const (
	devWebClient     = "sample-web"
	devNativeClient  = "sample-native"
	devServiceClient = "sample-service"
	devTrustedClient = "sample-trusted"
	devAPIClient     = "sample-api"
	devAccount       = "sample-account"
	devTrustedIssuer = "https://issuer.example"
	devStateFile     = "dev.json"
	devConfigFile    = "portico.yaml"
	nativeRedirect   = "http://127.0.0.1/callback"
)

var (
	devConnectors = []string{"google", "facebook", "github"}
	devScopes     = []string{sampleapi.ScopeRead, sampleapi.ScopeWrite}
)

// Run serves the broker, the simulated providers and the sample app until the process is told to stop.
func (c devCommand) Run(ctx context.Context, p process) error {
	dir := c.Data
	if dir == "" {
		fresh, err := os.MkdirTemp("", "portico-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(fresh)
		dir = fresh
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := c.checkPersona(); err != nil {
		return err
	}
	state, err := c.state(dir)
	if err != nil {
		return err
	}
	certificate, err := openDevCertificate(dir)
	if err != nil {
		return err
	}
	configPath := filepath.Join(dir, devConfigFile)
	if err := os.WriteFile(configPath, c.configuration(dir, certificate, state), 0o600); err != nil {
		return err
	}
	// The environment is left out: what is in it is meant for another broker.
	cfg, err := config.Load(configPath, nil)
	if err != nil {
		return err
	}
	app, err := sampleapp.New(sampleapp.Config{
		Issuer: cfg.Issuer, ClientID: devWebClient, ClientSecret: state.WebSecret, URL: "http://" + state.SampleApp, Connectors: devConnectors, API: state.apiURL(),
	})
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))
	api, err := sampleapi.New(sampleapi.Config{
		Issuer: cfg.Issuer, URL: state.apiURL(), ClientID: devAPIClient, ClientSecret: state.API, Log: log,
	})
	if err != nil {
		return err
	}
	err = serve(ctx, cfg, log, serving{
		endpoints: []web.Endpoint{{Handler: app, Addr: state.SampleApp}, {Handler: api, Addr: state.SampleAPI}},
		started: func([]net.Addr) {
			if err := c.announce(p, cfg, state, configPath); err != nil {
				log.Error("cannot say where everything is", slog.Any("cause", err))
			}
		},
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; --addr 127.0.0.1:0 takes any free port", err)
	}
	return err
}

func (c devCommand) checkPersona() error {
	if c.Auto == "" {
		return nil
	}
	var names []string
	for _, persona := range sandbox.DefaultPersonas() {
		if persona.Name == c.Auto {
			return nil
		}
		names = append(names, persona.Name)
	}
	return fmt.Errorf("--auto: no persona is called %q; there are: %v", c.Auto, names)
}

// state reads the data folder's state, or chooses addresses and secrets and keeps them there.
func (c devCommand) state(dir string) (*devState, error) {
	path := filepath.Join(dir, devStateFile)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		var s devState
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := s.chooseAddresses(c.Addr); err != nil {
			return nil, err
		}
		s.chooseSecrets()
		return &s, s.write(path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	s := &devState{Database: "portico_dev_" + token.NewID()[:10]}
	s.chooseSecrets()
	if err := s.chooseAddresses(c.Addr); err != nil {
		return nil, err
	}
	return s, s.write(path)
}

// apiURL is where the sample API is, and its identifier: clients that read its metadata insist that both are one (RFC 9728 section 3.3).
func (s *devState) apiURL() string { return "http://" + s.SampleAPI }

// chooseSecrets makes the secrets that are not there: all of them the first time, and later what an older release did not have.
func (s *devState) chooseSecrets() {
	for _, secret := range []*string{&s.WebSecret, &s.Service, &s.Trusted, &s.API} {
		*secret = cmp.Or(*secret, token.NewSecret("pcs_"))
	}
	s.Password = cmp.Or(s.Password, token.NewSecret("")[:16])
}

func (s *devState) write(path string) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o600)
}

func netAddr(addr string) (*net.TCPAddr, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--addr: %w", err)
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("--addr: %s is not a loopback address: anybody who reaches the simulated providers can sign in as anybody", addr)
	}
	return a, nil
}

// chooseAddresses takes the broker's address as it was asked for, and for the others the next ports, or any where those are taken. Port 0
// is any free one. What was chosen before stays, unless the broker moves: another address is another issuer.
func (s *devState) chooseAddresses(addr string) error {
	a, err := netAddr(addr)
	if err != nil {
		return err
	}
	others := []*string{&s.SampleApp, &s.Sandbox, &s.MTLS, &s.SampleAPI}
	if s.Addr == "" || a.Port != 0 && a.String() != s.Addr {
		if a.Port == 0 {
			if a.Port, err = freePort(a.IP.String(), 0); err != nil {
				return err
			}
		}
		s.Addr = net.JoinHostPort(a.IP.String(), strconv.Itoa(a.Port))
		for _, other := range others {
			*other = ""
		}
	} else if a, err = netAddr(s.Addr); err != nil {
		return err
	}
	taken := []string{s.Addr}
	for _, other := range others {
		taken = append(taken, *other)
	}
	for i, other := range others {
		if *other != "" {
			continue
		}
		port, err := freePort(a.IP.String(), a.Port+1+i)
		*other = net.JoinHostPort(a.IP.String(), strconv.Itoa(port))
		if err != nil || slices.Contains(taken, *other) {
			if port, err = freePort(a.IP.String(), 0); err != nil {
				return err
			}
			*other = net.JoinHostPort(a.IP.String(), strconv.Itoa(port))
		}
		taken = append(taken, *other)
	}
	return nil
}

// freePort is the port asked for if it is free (0: any).
func freePort(host string, port int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// configuration is the file that the broker is run with: the same that one would write by hand.
func (c devCommand) configuration(dir string, certificate *devCertificate, s *devState) []byte {
	type m = map[string]any
	store := m{"type": "sqlite", "path": filepath.Join(dir, "portico.db")}
	if c.MongoDB != "" {
		store = m{"type": "mongodb", "uri": c.MongoDB, "database": s.Database}
	}
	scopes := []string{"openid", "profile", "email", "offline_access"}
	notes := devScopes
	withNotes := slices.Concat(scopes, notes)
	grants := []string{registry.GrantAuthorizationCode, registry.GrantRefreshToken}
	withDevice := append(slices.Clone(grants), registry.GrantDeviceCode)
	persona := sandbox.DefaultPersonas()[0]
	var upstream []m
	for _, name := range devConnectors {
		upstream = append(upstream, m{"name": name, "type": name})
	}
	sandboxSettings := m{"listen": s.Sandbox, "url": "http://" + s.Sandbox}
	if c.Auto != "" {
		sandboxSettings["auto"] = c.Auto
	}
	doc := m{
		"issuer":       "http://" + s.Addr,
		"listen":       s.Addr,
		"store":        store,
		"keyring_file": filepath.Join(dir, "portico.key"),
		"sandbox":      sandboxSettings,
		"connectors":   upstream,
		// All that there is, to be tried, with apps that run on this machine.
		"grant_types": []string{
			registry.GrantAuthorizationCode, registry.GrantRefreshToken, registry.GrantClientCredentials, registry.GrantPassword,
			registry.GrantDeviceCode, registry.GrantTokenExchange, registry.GrantJWTBearer,
		},
		"session_management": true,
		"fetch":              m{"allow_private": true},
		"registration": m{
			"mode": "open", "max_per_hour": "1000", "scopes": withNotes,
			// Whoever registers here is whoever tries it: what their app does with an error is theirs to see, with a program for a browser too.
			"trust_redirect_uris": true,
			"grant_types":         append(slices.Clone(withDevice), registry.GrantClientCredentials),
		},
		"client_id_metadata": m{"mode": "open"},
		// A proxy that somebody tries stands at an address of its own.
		"forward_auth":        m{"any_host": true},
		"unproven_per_minute": "10000", // suites run against it, from one address
		"mtls": m{
			"mode": "tls", "listen": s.MTLS, "url": "https://" + s.MTLS, "ca_file": certificate.file,
			"cert_file": certificate.file, "key_file": certificate.keyFile,
		},
		"apis": []m{{
			"identifier": s.apiURL(), "url": s.apiURL(), "name": "Sample notes", "access_token_format": "jwt",
			// It is there for whatever app somebody tries.
			"self_registered": true,
			"scopes": []m{
				{"name": sampleapi.ScopeRead, "sentence": "Read your notes"},
				{"name": sampleapi.ScopeWrite, "sentence": "Write notes for you"},
			},
			"endpoints": []m{
				{"method": http.MethodGet, "path": "/notes", "scopes": []string{sampleapi.ScopeRead}},
				{"method": http.MethodPost, "path": "/notes", "scopes": []string{sampleapi.ScopeWrite}},
			},
		}},
		// Its email is not verified: nothing is linked to it.
		"accounts": []m{
			{
				"id": devAccount, "username": persona.Name, "aliases": []string{persona.Email()}, "password": s.Password,
				"email": persona.Email(), "name": "Ann Lee",
			},
		},
		"trusted_issuers": []m{{
			"issuer": devTrustedIssuer, "jwks": certificate.jwks, "clients": []string{devTrustedClient}, "scopes": append([]string{"openid", "profile", "email"}, notes...), "subject": config.SubjectAccount,
		}},
		"clients": []m{
			{
				"client_id": devWebClient, "client_secret": s.WebSecret, "name": "Sample app", "website": "http://" + s.SampleApp,
				"redirect_uris":             []string{sampleapp.RedirectURI("http://" + s.SampleApp)},
				"post_logout_redirect_uris": []string{"http://" + s.SampleApp + "/"},
				"scopes":                    withNotes, "grant_types": grants,
			},
			{
				"client_id": devNativeClient, "public": true, "name": "Sample native app",
				"redirect_uris": []string{nativeRedirect}, "scopes": withNotes, "grant_types": withDevice,
			},
			{
				"client_id": devServiceClient, "client_secret": s.Service, "name": "Sample service",
				"scopes": notes, "grant_types": []string{registry.GrantClientCredentials},
			},
			{
				"client_id": devAPIClient, "client_secret": s.API, "name": "Sample notes, the server",
				"resource_server_of": []string{s.apiURL()},
			},
			{
				"client_id": devTrustedClient, "client_secret": s.Trusted, "name": "Sample trusted app",
				"scopes":      withNotes,
				"grant_types": []string{registry.GrantPassword, registry.GrantRefreshToken, registry.GrantTokenExchange, registry.GrantJWTBearer},
				// It stands behind the notes too, and so may exchange the tokens that it is sent there.
				"resource_server_of": []string{s.apiURL()},
				"token_exchange": m{
					"subject_clients": []string{devWebClient, devNativeClient, devServiceClient, devTrustedClient},
					"actor_clients":   []string{devServiceClient},
					"modes":           []string{"impersonation", "delegation"}, "scopes": notes,
				},
			},
		},
	}
	raw, err := yaml.Marshal(doc)
	if err != nil {
		panic(err) // maps, lists and strings always marshal
	}
	return append([]byte("# Written by `portico dev` at every start; changes are lost. Use it with other commands:\n#   portico client add --config THIS-FILE …\n"), raw...)
}

// devClient and ready are the line of JSON that scripts read.
type devClient struct {
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret,omitempty"`
	RedirectURIs []string `json:"redirect_uris,omitempty"`
}

type devPersona struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Password string `json:"password,omitempty"` // of a local account; name or email is its username
}

type devAPI struct {
	Identifier string   `json:"identifier"`
	URL        string   `json:"url"`
	Scopes     []string `json:"scopes"`
}

type ready struct {
	Issuer     string               `json:"issuer"`
	SampleApp  string               `json:"sample_app"`
	Clients    map[string]devClient `json:"clients"`
	Connectors []string             `json:"connectors"`
	Sandbox    map[string]string    `json:"sandbox"`
	Personas   []devPersona         `json:"personas"`
	// MTLS is where the endpoints ask for certificates, and the files with the authority that issued theirs and issues the apps', and its key.
	MTLS map[string]string `json:"mtls"`
	// TrustedIssuer is whose assertions the trusted app may present (RFC 7523), the file with its key, and the account that it can speak for.
	TrustedIssuer map[string]string `json:"trusted_issuer"`
	APIs          []devAPI          `json:"apis"`
	// ForwardAuth is what a reverse proxy asks who may pass to the APIs.
	ForwardAuth string `json:"forward_auth"`
}

func (c devCommand) announce(p process, cfg *config.Config, s *devState, configPath string) error {
	appURL := "http://" + s.SampleApp
	if c.JSON {
		line := ready{
			Issuer:    cfg.Issuer,
			SampleApp: appURL,
			Clients: map[string]devClient{
				"web":     {ClientID: devWebClient, ClientSecret: s.WebSecret, RedirectURIs: []string{sampleapp.RedirectURI(appURL)}},
				"native":  {ClientID: devNativeClient, RedirectURIs: []string{nativeRedirect}},
				"service": {ClientID: devServiceClient, ClientSecret: s.Service},
				"trusted": {ClientID: devTrustedClient, ClientSecret: s.Trusted},
			},
			Connectors: devConnectors,
			Sandbox:    map[string]string{},
			MTLS:       map[string]string{"url": cfg.MTLS.URL, "ca_file": cfg.MTLS.CAFile, "ca_key_file": cfg.MTLS.KeyFile},
			TrustedIssuer: map[string]string{
				"issuer": devTrustedIssuer, "alg": "ES256", "key_file": cfg.MTLS.KeyFile, "subject": devAccount,
			},
			APIs:        []devAPI{{Identifier: s.apiURL(), URL: s.apiURL(), Scopes: devScopes}},
			ForwardAuth: cfg.Issuer + oauth.PathForwardAuth,
		}
		for _, name := range devConnectors {
			line.Sandbox[name] = cfg.Sandbox.URL + "/" + name
		}
		for _, persona := range sandbox.DefaultPersonas() {
			line.Personas = append(line.Personas, devPersona{Name: persona.Name, Email: persona.Email()})
		}
		line.Personas[0].Password = s.Password
		return json.NewEncoder(p.stdout).Encode(line)
	}
	_, err := fmt.Fprintf(p.stdout, `
Portico is ready. Everything is on this machine; nothing needs the network.

  Sample app    %s          ← click here and sign in
  Broker        %s
  Providers     %s/sandbox/   simulated: sign in as anybody, arm faults
  Sample API    %s          keeps notes for whoever brings a token:

  TOKEN=$(curl -s %s/token -u %s:%s -d grant_type=client_credentials -d resource=%s | cut -d '"' -f 4)
  curl -s %s/notes -H "Authorization: Bearer $TOKEN" -d text=hello

Your own app: its issuer is the broker's address. Register it with
  %s client add --config %s --name "My app" --redirect-uri http://127.0.0.1:3000/callback

Press Ctrl-C to stop.
`, appURL, cfg.Issuer, cfg.Sandbox.URL, s.apiURL(),
		cfg.Issuer, devServiceClient, s.Service, s.apiURL(), s.apiURL(),
		typed(os.Args[0]), configPath)
	return err
}

// typed is how whoever started this program types it: as they did, or by go run, which starts it by an absolute path.
func typed(arg0 string) string {
	if filepath.IsAbs(arg0) {
		return "go run ./cmd/portico"
	}
	return arg0
}
