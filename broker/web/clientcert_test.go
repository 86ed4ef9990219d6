package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/web"
)

// clientPair is a self-signed certificate for a client of that name.
func clientPair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// nginxEscaped is $ssl_client_escaped_cert: PEM, in which everything but unreserved characters is escaped.
func nginxEscaped(pair tls.Certificate) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

func structured(pair tls.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(pair.Certificate[0]) + ":"
}

// certified answers whose certificate the request has, and whether the header is still there.
var certified = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	leaf, _, err := web.ClientCertificate(r)
	name := "nobody"
	switch {
	case err != nil:
		name = "error"
	case leaf != nil:
		name = leaf.Subject.CommonName
	}
	_, _ = fmt.Fprintf(w, "%s %d", name, len(r.Header.Values("Client-Cert")))
})

// A certificate in a header is worth what its sender is worth. From anybody but the proxy itself it would let a stranger be any
// client whose certificate is public, as all are.
func TestACertificateInAHeaderCountsFromATrustedProxyAlone(t *testing.T) {
	app := clientPair(t, "app")
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tc := range []struct {
		name    string
		proxies []netip.Prefix
		option  string
		header  []string
		want    string
	}{
		{"RFC 9440", loopback, "Client-Cert", []string{"Client-Cert", structured(app)}, "app 0"},
		{"nginx", loopback, "Client-Cert", []string{"Client-Cert", nginxEscaped(app)}, "app 0"},
		{"the option in lower case", loopback, "client-cert", []string{"Client-Cert", structured(app)}, "app 0"},
		{"none", loopback, "Client-Cert", nil, "nobody 0"},
		{"nginx without a certificate", loopback, "Client-Cert", []string{"Client-Cert", ""}, "nobody 0"},
		{"a stranger's", elsewhere, "Client-Cert", []string{"Client-Cert", structured(app)}, "nobody 0"},
		{"a stranger's, no proxies", nil, "Client-Cert", []string{"Client-Cert", structured(app)}, "nobody 0"},
		{"a stranger who says that a proxy sent him", elsewhere, "Client-Cert", []string{"Client-Cert", structured(app), "X-Forwarded-For", "10.0.0.1"}, "nobody 0"},
		{"another header than the one agreed", loopback, "X-Cert", []string{"Client-Cert", structured(app)}, "nobody 1"},
		{"no header agreed", loopback, "", []string{"Client-Cert", structured(app)}, "nobody 1"},
		{"a stranger's header that the proxy passed on beside its own", loopback, "Client-Cert", []string{"Client-Cert", structured(app), "Client-Cert", structured(app)}, "error 0"},
		{"no base64", loopback, "Client-Cert", []string{"Client-Cert", ":*:"}, "error 0"},
		{"no colon at the end", loopback, "Client-Cert", []string{"Client-Cert", ":AAAA"}, "error 0"},
		{"no certificate", loopback, "Client-Cert", []string{"Client-Cert", ":AAAA:"}, "error 0"},
		{"a broken escape", loopback, "Client-Cert", []string{"Client-Cert", "%"}, "error 0"},
		{"no PEM", loopback, "Client-Cert", []string{"Client-Cert", "hello"}, "error 0"},
		{"two PEM blocks", loopback, "Client-Cert", []string{"Client-Cert", nginxEscaped(app) + nginxEscaped(app)}, "error 0"},
		{"a key", loopback, "Client-Cert", []string{"Client-Cert", strings.ReplaceAll(nginxEscaped(app), "CERTIFICATE", "PUBLIC%20KEY")}, "error 0"},
		{"too long", loopback, "Client-Cert", []string{"Client-Cert", ":" + strings.Repeat("A", 16<<10) + ":"}, "error 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := serve(t, web.Chain(certified, web.Options{TrustedProxies: tc.proxies, CertificateHeader: tc.option}))
			if _, got := request(t, server, http.MethodGet, "/", "", tc.header...); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TLS proves that the client holds the key. A client without a certificate is served as well: most are not asked for one by the broker's rules.
func TestACertificateOfTheConnection(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), 1, time.Now())
	for name, tc := range map[string]struct {
		ask  bool
		show bool
		want string
	}{
		"asked and shown":       {true, true, "app 1"},
		"asked and not shown":   {true, false, "nobody 1"},
		"not asked, and so not": {false, true, "nobody 1"},
	} {
		t.Run(name, func(t *testing.T) {
			addrs, stop, done := start(t, web.ServerOptions{Endpoints: []web.Endpoint{{
				Addr: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile, RequestClientCertificate: tc.ask,
				Handler: web.Chain(certified, web.Options{}),
			}}})
			config := &tls.Config{InsecureSkipVerify: true} // the test's own server
			if tc.show {
				config.Certificates = []tls.Certificate{clientPair(t, "app")}
			}
			transport := &http.Transport{TLSClientConfig: config}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addrs[0].String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Client-Cert", structured(clientPair(t, "forged")))
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if got, err := io.ReadAll(response.Body); err != nil || string(got) != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
			transport.CloseIdleConnections()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzClientCertificate(f *testing.F) {
	app := clientPair(f, "app")
	f.Add(structured(app))
	f.Add(nginxEscaped(app))
	f.Add("")
	f.Add("::")
	f.Add("%2D")
	handler := web.Chain(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		leaf, _, err := web.ClientCertificate(r)
		if r.Header.Get("Client-Cert") == "" && leaf == nil && err == nil {
			return
		}
		if (leaf == nil) == (err == nil) {
			f.Errorf("a certificate %v and an error %v", leaf, err)
		}
	}), web.Options{TrustedProxies: loopback, CertificateHeader: "Client-Cert"})
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header["Client-Cert"] = []string{value}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	})
}
