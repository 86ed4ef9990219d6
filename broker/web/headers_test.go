package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/web"
)

func TestEveryResponseCarriesSecurityHeaders(t *testing.T) {
	want := map[string]string{
		"X-Content-Type-Options":     "nosniff",
		"Referrer-Policy":            "no-referrer",
		"X-Frame-Options":            "DENY",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Permissions-Policy":         "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	}
	check := func(server *httptest.Server, wantHSTS string, header ...string) {
		t.Helper()
		res, _ := request(t, server, http.MethodGet, "/", "", header...)
		for name, value := range want {
			if got := res.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
		if got := res.Header.Get("Strict-Transport-Security"); got != wantHSTS {
			t.Errorf("Strict-Transport-Security: %q, want %q", got, wantHSTS)
		}
	}
	const year = "max-age=31536000"
	check(serve(t, web.Chain(echo, web.Options{})), "")
	check(serve(t, web.Chain(echo, web.Options{TrustedProxies: loopback})), year, "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https")
	overTLS := httptest.NewTLSServer(web.Chain(echo, web.Options{}))
	t.Cleanup(overTLS.Close)
	check(overTLS, year)
}

// The values are shared between responses, so a handler that adds to one must not change it for everybody.
func TestAHandlerCannotChangeAnotherResponsesHeaders(t *testing.T) {
	server := serve(t, web.Chain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/add" {
			w.Header().Add("X-Frame-Options", "changed")
			w.Header().Set("Referrer-Policy", "changed")
		}
	}), web.Options{}))
	request(t, server, http.MethodGet, "/add", "")
	res, _ := request(t, server, http.MethodGet, "/", "")
	if got := res.Header.Values("X-Frame-Options"); len(got) != 1 || got[0] != "DENY" || res.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the next response: %v", res.Header)
	}
}

// A sign-in in a popup reports to the window that opened it, which the opener policy would cut off on the way.
func TestKeepOpenerTakesTheOpenerPolicyOff(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/authorize", web.KeepOpener(echo))
	mux.Handle("/", echo)
	server := serve(t, web.Chain(mux, web.Options{}))
	res, _ := request(t, server, http.MethodGet, "/authorize", "")
	if got, there := res.Header["Cross-Origin-Opener-Policy"]; there {
		t.Errorf("policy %q", got)
	}
	res, _ = request(t, server, http.MethodGet, "/console", "")
	if res.Header.Get("Cross-Origin-Opener-Policy") == "" {
		t.Error("elsewhere the policy is gone too")
	}
}

func TestPageHeaders(t *testing.T) {
	const base = "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
	for _, tc := range []struct {
		name    string
		sources []string
		want    string
	}{
		{"no forms that lead away", nil, base},
		{"a provider and an app", []string{"https://accounts.google.com", "com.example.app:"}, base + " https://accounts.google.com com.example.app:"},
		// A redirect URI is a client's text: it must not be able to add a directive or a keyword.
		{"injected directives", []string{"https://a.example; script-src *", "https://b.example,default-src", "'unsafe-inline'", "a b", "a\nb", "", "https://ö.example", "https://c.example"}, base + " https://c.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{"Cache-Control": {"public"}}
			web.PageHeaders(h, tc.sources...)
			if got := h.Get("Content-Security-Policy"); got != tc.want {
				t.Errorf("policy\n%s\nwant\n%s", got, tc.want)
			}
			if got := h.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
				t.Errorf("Cache-Control %q", got)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	server := serve(t, web.Chain(web.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	}), http.MethodGet, http.MethodPost), web.Options{}))

	t.Run("preflight", func(t *testing.T) {
		res, body := request(t, server, http.MethodOptions, "/token", "", "Origin", "https://app.example",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,dpop")
		if res.StatusCode != http.StatusNoContent || body != "" {
			t.Errorf("%s %q", res.Status, body)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Methods":     "GET, POST, HEAD, OPTIONS",
			"Access-Control-Allow-Headers":     "Authorization, Content-Type, DPoP, MCP-Protocol-Version",
			"Access-Control-Max-Age":           "7200",
			"Access-Control-Allow-Credentials": "",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
	t.Run("request", func(t *testing.T) {
		for _, origin := range []string{"https://app.example", "null", ""} {
			res, _ := request(t, server, http.MethodPost, "/token", "", "Origin", origin)
			if res.StatusCode != http.StatusUnauthorized || res.Header.Get("Access-Control-Allow-Origin") != "*" ||
				res.Header.Get("Access-Control-Allow-Credentials") != "" ||
				!strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
				t.Errorf("origin %q: %s %v", origin, res.Status, res.Header)
			}
		}
	})
	t.Run("GET includes HEAD", func(t *testing.T) {
		if res, _ := request(t, server, http.MethodHead, "/token", ""); res.StatusCode != http.StatusUnauthorized {
			t.Error(res.Status)
		}
	})
	t.Run("another method", func(t *testing.T) {
		res, _ := request(t, server, http.MethodDelete, "/token", "")
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, POST, HEAD, OPTIONS" {
			t.Errorf("%s %v", res.Status, res.Header)
		}
	})
}

// A panic behind CORS must be readable for the app, or it sees a network failure without a reference.
func TestAPanicBehindCORSCanBeReadByTheApp(t *testing.T) {
	server := serve(t, web.Chain(web.CORS(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }), http.MethodPost), web.Options{}))
	res, _ := request(t, server, http.MethodPost, "/token", "")
	if res.StatusCode != http.StatusInternalServerError || res.Header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
		t.Errorf("%s %v", res.Status, res.Header)
	}
}
