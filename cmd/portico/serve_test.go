package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/config"
)

// output is what a command prints while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// writeCertificate makes a self-signed certificate for 127.0.0.1.
func writeCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// awaitReady waits until the broker at an address is ready, and returns the header of its answer.
func awaitReady(t *testing.T, client *http.Client, address string, ended <-chan int, stderr *output) http.Header {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		response, err := client.Get("https://" + address + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return response.Header
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v\n%s", err, stderr.String())
		}
		select {
		case s := <-ended:
			t.Fatalf("it ended with %d:\n%s", s, stderr.String())
		case <-time.After(20 * time.Millisecond): // polling another goroutine's server: there is nothing to wait on
		}
	}
}

// An app authenticates with its certificate at the listener that asks for one. The listener that people use asks nobody, or their browsers
// would ask them.
func TestServeAsksForCertificatesAtAListenerOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	roots := writeCertificate(t, file("tls.pem"), file("tls.key"))
	writeCertificate(t, file("app.pem"), file("app.key"))
	app, err := tls.LoadX509KeyPair(file("app.pem"), file("app.key"))
	if err != nil {
		t.Fatal(err)
	}
	var addresses [2]string
	for i := range addresses {
		port, err := freePort("127.0.0.1", 0)
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	}
	people, apps := addresses[0], addresses[1]
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: app.Leaf.PublicKey, Certificates: []*x509.Certificate{app.Leaf}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"app.jwks": string(set),
		"portico.yaml": "issuer: https://" + people + "\nlisten: " + people + "\ntls: {cert_file: " + file("tls.pem") + ", key_file: " + file("tls.key") + "}\n" +
			"mtls: {mode: tls, listen: " + apps + ", url: https://" + apps + "}\n" +
			"store: {path: " + file("p.db") + "}\nconnectors: [{name: github, type: github, client_id: a, client_secret: b}]\n" +
			"clients: [{client_id: app, name: App, redirect_uris: ['https://app.example.com/cb'], token_endpoint_auth_method: self_signed_tls_client_auth, jwks_file: " + file("app.jwks") + "}]\n",
	} {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stdout, stderr output
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"serve", "--config", file("portico.yaml")}, process{stdout: &stdout, stderr: &stderr})
	}()
	for _, c := range []struct {
		address string
		shown   []tls.Certificate
		want    int
	}{
		{apps, []tls.Certificate{app}, http.StatusOK},
		{apps, nil, http.StatusUnauthorized},
		{people, []tls.Certificate{app}, http.StatusUnauthorized},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: c.shown}}}
		awaitReady(t, client, c.address, status, &stderr)
		response, err := client.PostForm("https://"+c.address+"/introspect", url.Values{"client_id": {"app"}, "token": {"none"}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("at %s with %d certificates: %d, want %d\n%s", c.address, len(c.shown), response.StatusCode, c.want, stderr.String())
		}
		client.CloseIdleConnections()
	}
	stop()
	if s := <-status; s != 0 {
		t.Errorf("it ends with %d:\n%s", s, stderr.String())
	}
}

func TestServeAnswersOverTLSAndEndsWhenTold(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := writeCertificate(t, cert, key)
	port, err := freePort("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	path := filepath.Join(dir, "portico.yaml")
	// The secret comes from a file that the environment names, as an orchestrator's would.
	secret := filepath.Join(dir, "secret")
	for file, content := range map[string]string{
		secret: "github-secret\n",
		path: "issuer: https://" + address + "\nlisten: " + address + "\ntls: {cert_file: " + cert + ", key_file: " + key + "}\n" +
			"store: {path: " + filepath.Join(dir, "p.db") + "}\nconnectors: [{name: github, type: github, client_id: a}]\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stdout, stderr output
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"serve", "--config", path}, process{
			stdout: &stdout, stderr: &stderr, environ: []string{"PORTICO_CONNECTORS_GITHUB_CLIENT_SECRET_FILE=" + secret},
		})
	}()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if ready := awaitReady(t, client, address, status, &stderr); ready.Get("Strict-Transport-Security") == "" {
		t.Error("no Strict-Transport-Security over https")
	}
	response, err := client.Get("https://" + address + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	stop()
	if s := <-status; s != 0 {
		t.Errorf("it ends with %d:\n%s", s, stderr.String())
	}
	if !strings.Contains(stderr.String(), `"request_id"`) || strings.Contains(stderr.String(), "github-secret") {
		t.Errorf("the log has no request id, or has the secret:\n%s", stderr.String())
	}
}

// docker-compose.yml works as it stands, with the sandbox, and with real credentials from the environment. There is no container engine in the
// tests, so what is checked is the configuration in it.
func TestTheComposeFilesConfigurationIsGood(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Environment map[string]string `yaml:"environment"`
		} `yaml:"services"`
		Configs map[string]struct {
			Content string `yaml:"content"`
		} `yaml:"configs"`
	}
	if err := yaml.Unmarshal(raw, &compose); err != nil {
		t.Fatal(err)
	}
	for _, credential := range []string{"", "real"} {
		var environ []string
		for name := range compose.Services["portico"].Environment {
			environ = append(environ, name+"="+credential)
		}
		if len(environ) != 6 {
			t.Fatalf("the broker is given %d variables, want an id and a secret for each of three providers", len(environ))
		}
		cfg, err := config.Parse([]byte(compose.Configs["portico"].Content), "docker-compose.yml", environ)
		if err == nil {
			err = broker.Check(cfg)
		}
		if err != nil {
			t.Fatalf("with credentials %q: %v", credential, err)
		}
		for _, c := range cfg.Connectors {
			if cfg.UsesSandbox(c) != (credential == "") {
				t.Errorf("with credentials %q, %s uses the sandbox: %v", credential, c.Name, cfg.UsesSandbox(c))
			}
		}
		app := compose.Services["sampleapp"].Environment
		if cfg.Clients[0].ClientID != app["SAMPLEAPP_CLIENT_ID"] || cfg.Clients[0].ClientSecret.Reveal() != app["SAMPLEAPP_CLIENT_SECRET"] {
			t.Error("the sample app is given other credentials than those registered for it")
		}
	}
}
