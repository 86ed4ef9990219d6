package web_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/web"
)

// start serves o until the returned stop, which reports Serve's answer. addrs are the endpoints'.
func start(t *testing.T, o web.ServerOptions) (addrs []net.Addr, stop context.CancelFunc, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan []net.Addr, 1), make(chan error, 1)
	o.Started = func(a []net.Addr) { started <- a }
	go func() { ended <- web.Serve(ctx, o) }()
	t.Cleanup(cancel)
	select {
	case addrs = <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	return addrs, cancel, ended
}

// Deploying a new version must not break the sign-in that somebody is in the middle of.
func TestShutdownLetsRequestsUnderWayEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	checks := web.Health(pinger(func(context.Context) error { return nil }), nil, nil)
	addrs, stop, done := start(t, web.ServerOptions{
		Checks: checks,
		Endpoints: []web.Endpoint{
			{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-release
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
				_, _ = io.WriteString(w, "whole")
			})},
			{Addr: "127.0.0.1:0", Handler: echo},
		},
	})
	if code, _ := probe(checks, web.PathReadyz); code != http.StatusOK {
		t.Fatalf("before: %d", code)
	}
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + addrs[0].String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-entered
	stop()
	// Both listeners close although a request is under way; polling for it needs no particular time.
	for _, addr := range addrs {
		for {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				break
			}
			_ = c.Close()
		}
	}
	if code, text := probe(checks, web.PathReadyz); code != http.StatusServiceUnavailable || !strings.Contains(text, "shutting down") {
		t.Errorf("readyz during shutdown: %d %q", code, text)
	}
	select {
	case err := <-done:
		t.Fatalf("Serve returned %v with a request under way", err)
	default:
	}
	close(release)
	if got := <-answer; got != "whole" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A handler that never ends must not keep the process from stopping.
func TestTheGraceEnds(t *testing.T) {
	entered := make(chan struct{})
	addrs, stop, done := start(t, web.ServerOptions{Grace: time.Millisecond, Endpoints: []web.Endpoint{
		{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})},
	}})
	go func() {
		if res, err := http.Get("http://" + addrs[0].String()); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-entered
	stop()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve: %v", err)
	}
}

// While it drains, a load balancer sees "not ready" and its last requests are still answered.
func TestDrainingAnswersAndIsNotReady(t *testing.T) {
	checks := web.Health(pinger(func(context.Context) error { return nil }), nil, nil)
	mux := http.NewServeMux()
	checks.Routes(mux)
	mux.Handle("/", echo)
	addrs, stop, done := start(t, web.ServerOptions{Checks: checks, Drain: time.Hour, Endpoints: []web.Endpoint{{Addr: "127.0.0.1:0", Handler: mux}}})
	stop()
	for { // until Serve has noticed
		res, err := http.Get("http://" + addrs[0].String() + web.PathReadyz)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable {
			break
		}
	}
	res, err := http.Get("http://" + addrs[0].String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("while draining: %s", res.Status)
	}
	select {
	case err := <-done:
		t.Errorf("Serve returned %v while draining", err)
	default:
	}
}

func TestServeRefusesWhatCannotWork(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for name, endpoints := range map[string][]web.Endpoint{
		"nothing":         nil,
		"a taken address": {{Listener: free, Handler: echo}, {Addr: taken.Addr().String(), Handler: echo}},
		"no such file":    {{Addr: "127.0.0.1:0", Handler: echo, CertFile: "/nowhere/cert.pem", KeyFile: "/nowhere/key.pem"}},
		"half a pair":     {{Addr: "127.0.0.1:0", Handler: echo, CertFile: "/nowhere/cert.pem"}},
	} {
		if err := web.Serve(t.Context(), web.ServerOptions{Endpoints: endpoints}); err == nil {
			t.Errorf("%s: served", name)
		}
	}
	if c, err := net.Dial("tcp", free.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the address taken first was not given back")
	}
}

// A listener that fails must end the whole, not leave half of it running unnoticed.
func TestTheEndOfOneEndpointIsTheEndOfAll(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, _, done := start(t, web.ServerOptions{Endpoints: []web.Endpoint{{Listener: l, Handler: echo}, {Addr: "127.0.0.1:0", Handler: echo}}})
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("Serve returned nil")
	}
	if c, err := net.Dial("tcp", addrs[1].String()); err == nil {
		_ = c.Close()
		t.Error("the other endpoint goes on")
	}
}

// writePair writes a certificate for 127.0.0.1 with this serial number, and its key, modified at this time.
func writePair(t *testing.T, dir string, serial int64, modified time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "portico"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &x509.Certificate{SerialNumber: big.NewInt(serial)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), modified)
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), modified)
	return certFile, keyFile
}

func write(t *testing.T, name string, content []byte, modified time.Time) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, modified, modified); err != nil {
		t.Fatal(err)
	}
}

// serial is that of the certificate which a new connection is shown.
func serial(t *testing.T, addr net.Addr, config *tls.Config) int64 {
	t.Helper()
	config.InsecureSkipVerify = true // the test looks at the serial, not at the chain
	c, err := tls.Dial("tcp", addr.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// Certificates live for weeks: renewing one must not need a restart, and a renewal that is half written or broken must not take
// the service down.
func TestTLSCertificatesAreReloaded(t *testing.T) {
	dir, l := t.TempDir(), new(logs)
	base := time.Now().Add(-time.Hour).Truncate(time.Second)
	certFile, keyFile := writePair(t, dir, 1, base)
	var seconds atomic.Int64
	addrs, stop, done := start(t, web.ServerOptions{
		Logger:    l.logger(),
		Now:       func() time.Time { return base.Add(time.Duration(seconds.Load()) * time.Second) },
		Endpoints: []web.Endpoint{{Addr: "127.0.0.1:0", Handler: echo, CertFile: certFile, KeyFile: keyFile}},
	})
	expect := func(when string, want int64) {
		t.Helper()
		if got := serial(t, addrs[0], new(tls.Config)); got != want {
			t.Errorf("%s: certificate %d, want %d", when, got, want)
		}
	}
	expect("at first", 1)

	writePair(t, dir, 2, base.Add(time.Minute))
	expect("within the interval, without a look at the files", 1)
	seconds.Add(5)
	expect("renewed", 2)

	write(t, certFile, []byte("half a certi"), base.Add(2*time.Minute))
	for range 3 {
		seconds.Add(5)
		expect("broken", 2)
	}
	if n := strings.Count(l.String(), "the old one stays"); n != 1 {
		t.Errorf("the broken pair was logged %d times:\n%s", n, l)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	seconds.Add(5)
	expect("without its key", 2)

	writePair(t, dir, 3, base.Add(3*time.Minute))
	seconds.Add(5)
	expect("mended", 3)

	// A new certificate whose key is still the old one: a renewal seen between its two writes.
	oldKey, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, dir, 4, base.Add(4*time.Minute))
	newKey, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyFile, oldKey, base.Add(3*time.Minute))
	seconds.Add(5)
	expect("between the two writes", 3)
	write(t, keyFile, newKey, base.Add(4*time.Minute))
	seconds.Add(5)
	expect("after them", 4)

	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestTLSVersionsAndHTTP2(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), 1, time.Now())
	addrs, _, _ := start(t, web.ServerOptions{Endpoints: []web.Endpoint{{Addr: "127.0.0.1:0", Handler: echo, CertFile: certFile, KeyFile: keyFile}}})

	if c, err := tls.Dial("tcp", addrs[0].String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 was accepted (RFC 8996)")
	}
	if got := serial(t, addrs[0], &tls.Config{MaxVersion: tls.VersionTLS12}); got != 1 {
		t.Error("TLS 1.2 was refused")
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("%s, want HTTP/2", res.Proto)
	}
}

// RFC 9325 section 4.2, FAPI 2.0 section 5.2.2: with TLS 1.2 what is recommended alone, though a client offers nothing else. The server's
// key is ECDSA, so that the other refusals are not for the want of a certificate that fits.
func TestTLS12IsSpokenWithRecommendedSuitesAlone(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), 1, time.Now())
	addrs, _, _ := start(t, web.ServerOptions{Endpoints: []web.Endpoint{{Addr: "127.0.0.1:0", Handler: echo, CertFile: certFile, KeyFile: keyFile}}})
	accepted := func(suite uint16) bool {
		c, err := tls.Dial("tcp", addrs[0].String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	}
	for suite, want := range map[uint16]bool{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          false,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          false,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256:       false,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: false,
	} {
		if got := accepted(suite); got != want {
			t.Errorf("%s: accepted is %t, want %t", tls.CipherSuiteName(suite), got, want)
		}
	}
}

// net/http reads a megabyte of headers from anybody unless told otherwise.
func TestHeadersAreBounded(t *testing.T) {
	addrs, _, _ := start(t, web.ServerOptions{Endpoints: []web.Endpoint{{Addr: "127.0.0.1:0", Handler: echo}}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addrs[0].String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(res.Status)
	}
}
