package connectors

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each of these is one call of each provider's first upstream step, made by goth or go-oidc.
func everyToken(t *testing.T, h http.HandlerFunc) map[string]func() (*upstream, error) {
	exchange := func(u *upstream, s Settings, path string) (*upstream, error) {
		u.route(path, h)
		_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		return u, err
	}
	return map[string]func() (*upstream, error){
		"github": func() (*upstream, error) {
			u := newGitHubUpstream(t)
			return exchange(u, githubSettings(u), "/login/oauth/access_token")
		},
		"facebook": func() (*upstream, error) {
			u := newFacebookUpstream(t)
			return exchange(u, facebookSettings(u), "/graph/v26.0/oauth/access_token")
		},
		"oidc": func() (*upstream, error) {
			i := newIssuer(t, "")
			return exchange(i.upstream, oidcSettings(i), "/token")
		},
		"oidc metadata": func() (*upstream, error) {
			i := newIssuer(t, "")
			return exchange(i.upstream, oidcSettings(i), "/.well-known/openid-configuration")
		},
		"oidc keys": func() (*upstream, error) {
			i := newIssuer(t, "")
			return exchange(i.upstream, oidcSettings(i), "/keys")
		},
		"github profile": func() (*upstream, error) {
			u := newGitHubUpstream(t)
			return exchange(u, githubSettings(u), "/api/user")
		},
		"facebook profile": func() (*upstream, error) {
			u := newFacebookUpstream(t)
			return exchange(u, facebookSettings(u), "/graph/v26.0/me")
		},
	}
}

// A redirect would carry the code and the secret (307, 308) or the token to another host.
func TestRedirectsAreRefused(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		evil := newUpstream(t)
		h := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", evil.URL+"/collect")
			w.WriteHeader(status)
		}
		for name, call := range everyToken(t, h) {
			_, err := call()
			if e := wantKind(t, err, Malformed); !errors.Is(e, errRedirect) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(evil.log) != 0 {
			t.Errorf("%d: %d redirects were followed", status, len(evil.log))
		}
	}
}

func TestAnswersAreCapped(t *testing.T) {
	huge := `{"access_token":"` + strings.Repeat("a", maxBody) + `"}`
	for name, call := range everyToken(t, says(200, huge)) {
		_, err := call()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantKind(t, err, Malformed)
	}
}

// A small compressed body that is a large one in memory.
func TestTheCapHoldsAfterDecompression(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(bytes.Repeat([]byte(" "), 20*maxBody))
	z.Close()
	u := newGitHubUpstream(t)
	u.route("/api/user", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	})
	_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Malformed)
	if !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
}

func TestABodyThatBreaksOffIsUnavailable(t *testing.T) {
	u := newGitHubUpstream(t)
	u.route("/api/user", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `{"id":1`)
	})
	_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Unavailable)
}

func TestAProviderThatIsNotThereIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	at := "http://" + l.Addr().String()
	for _, s := range []Settings{{Type: "github", BaseURL: at}, {Type: "facebook", GraphURL: at}, {Type: "oidc", Issuer: at}} {
		_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
		wantKind(t, err, Unavailable)
	}
}

// A certificate that is not the provider's may be an attacker's.
func TestAWrongCertificateIsUntrusted(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = nil
	_, err := mustNew(t, Settings{Type: "github", BaseURL: server.URL}).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Untrusted)
}

func TestTransportRefusesOldTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	server.StartTLS()
	defer server.Close()
	transport := NewTransport()
	defer transport.CloseIdleConnections()
	transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	_, err := mustNewWith(t, Settings{Type: "github", BaseURL: server.URL}, Options{Transport: transport}).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Unavailable)
}

// refuses stands in for what must not be used.
type refuses struct{ t *testing.T }

func (r refuses) RoundTrip(req *http.Request) (*http.Response, error) {
	r.t.Errorf("http.DefaultClient called %s", req.URL.Path)
	return nil, errors.New("refused")
}

// goth and go-oidc fall back to http.DefaultClient, which has no timeout and no limits.
func TestNothingUsesTheDefaultClient(t *testing.T) {
	before := http.DefaultTransport
	http.DefaultTransport = refuses{t}
	defer func() { http.DefaultTransport = before }()
	g, f, i := newGitHubUpstream(t), newFacebookUpstream(t), newIssuer(t, "")
	i.userinfo = map[string]any{"sub": "1102"}
	delete(i.claims, "name")
	o := oidcSettings(i)
	o.UserInfo = true
	for _, s := range []Settings{githubSettings(g), facebookSettings(f), o} {
		if _, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	remotes := map[string]bool{}
	u := newGitHubUpstream(t)
	u.route("/api/user", func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true // one at a time
		says(200, githubUser)(w, r)
	})
	c := mustNew(t, githubSettings(u))
	for range 5 {
		if _, err := c.Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
			t.Fatal(err)
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections for 15 calls in a row", len(remotes))
	}
}

func TestCodeIsSentOnceWhateverTheLibraryTries(t *testing.T) {
	u := newUpstream(t)
	u.route("/token", says(200, `{}`))
	c := &caller{ctx: t.Context(), base: http.DefaultTransport, connector: "up", once: true, judge: func(answer) *Error { return nil }}
	if _, err := c.get(u.URL + "/token"); err != nil {
		t.Fatal(err)
	}
	_, err := c.get(u.URL + "/token")
	wantKind(t, err, Malformed)
	if n := len(u.log); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestKindOfAnErrorThatIsNotOurs(t *testing.T) {
	if k := KindOf(errors.New("x")); k != Unavailable {
		t.Error(k)
	}
	if e := asError(context.Canceled, "up", Malformed); e.Kind != Timeout || e.Connector != "up" {
		t.Error(e)
	}
}
