package fetch

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Whoever may name an address must not make the broker call what only the broker can reach.
func TestOnlyPublicAddressesAreFetched(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700:4700::1111": true,
		"127.0.0.1": false, "127.9.9.9": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"0.0.0.0": false, "100.64.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fc00::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: public %v, want %v", address, got, want)
		}
	}
}

func TestAddressesAreRefusedByTheirSpelling(t *testing.T) {
	strict := New(Options{})
	for _, address := range []string{
		"", "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https:///x", "https://user@example.com/", "https://example.com/#x",
		"https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data", "https://[::ffff:10.0.0.1]/", "https://" + strings.Repeat("a", maxURL),
	} {
		if err := strict.CheckURL(address); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v, want ErrAddress", address, err)
		}
	}
	if err := strict.CheckURL("https://example.com/keys?x=1"); err != nil {
		t.Error(err)
	}
}

func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return server, New(Options{AllowPrivate: true, RootCAs: pool})
}

// A name that looks public and resolves to loopback gets past the spelling; the connection is where it is caught.
func TestANameThatResolvesToLoopbackIsRefusedAtTheConnection(t *testing.T) {
	called := false
	server, _ := serve(t, func(http.ResponseWriter, *http.Request) { called = true })
	u, _ := url.Parse(server.URL)
	_, err := New(Options{}).Get(t.Context(), "https://localhost:"+u.Port()+"/", "*/*", 100)
	if !errors.Is(err, ErrAddress) || called {
		t.Errorf("got %v, called %v; want ErrAddress and no call", err, called)
	}
}

func TestAnswersAreBoundedAndJudged(t *testing.T) {
	server, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			w.Header().Set("Content-Type", "Application/JSON; charset=utf-8")
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Set("Age", "20")
			_, _ = w.Write([]byte(`{}`))
		case "/large":
			_, _ = w.Write(make([]byte, 101))
		case "/elsewhere":
			http.Redirect(w, r, "https://example.com/", http.StatusFound)
		case "/plain":
			http.Redirect(w, r, "http://"+r.Host+"/ok", http.StatusFound)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	for path, want := range map[string]error{
		"/ok": nil, "/moved": nil, "/large": ErrTooLarge, "/elsewhere": ErrRedirect, "/plain": ErrRedirect, "/loop": ErrRedirect, "/none": ErrStatus,
	} {
		res, err := client.Get(t.Context(), server.URL+path, "application/json", 100)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if want == nil && err == nil && (res.ContentType != "application/json" || res.MaxAge != 40*time.Second || !res.Cacheable || string(res.Body) != "{}") {
			t.Errorf("%s: %+v", path, res)
		}
	}
	// What has to be at the address itself is not looked for elsewhere.
	for _, path := range []string{"/moved", "/elsewhere", "/plain", "/loop"} {
		if _, err := client.GetDirect(t.Context(), server.URL+path, "application/json", 100); !errors.Is(err, ErrRedirect) {
			t.Errorf("%s, directly: %v, want %v", path, err, ErrRedirect)
		}
	}
	if _, err := client.GetDirect(t.Context(), server.URL+"/ok", "application/json", 100); err != nil {
		t.Error(err)
	}
	var status *StatusError
	if _, err := client.Get(t.Context(), server.URL+"/none", "application/json", 100); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("the status is not told: %v", err)
	}
	// What was posted to one address is not for another.
	if _, err := client.PostForm(t.Context(), server.URL+"/moved", url.Values{"a": {"b"}}); !errors.Is(err, ErrRedirect) {
		t.Errorf("a redirected POST: %v, want ErrRedirect", err)
	}
	if status, err := client.PostForm(t.Context(), server.URL+"/none", url.Values{"a": {"b"}}); status != http.StatusNotFound || err != nil {
		t.Errorf("a POST: %d %v", status, err)
	}
}

// A server can neither have its answers kept for ever, nor have the broker ask all the time.
func TestHowLongAnAnswerIsCurrentIsBounded(t *testing.T) {
	for said, want := range map[time.Duration]time.Duration{
		0: MinFresh, time.Second: MinFresh, 10 * time.Minute: 10 * time.Minute, 1000 * time.Hour: maxFresh,
	} {
		if got := (&Response{MaxAge: said, Cacheable: true}).FreshFor(); got != want {
			t.Errorf("of %s: got %s, want %s", said, got, want)
		}
	}
	if got := (&Response{}).FreshFor(); got != DefaultFresh {
		t.Errorf("of a server that does not say: got %s, want %s", got, DefaultFresh)
	}
}
