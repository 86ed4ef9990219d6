package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/portico-id/portico/broker/web"
)

// sink is a response writer that keeps nothing, with a new header map for every response as in net/http.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

// BenchmarkChain is the price of the chain: compare chain with bare, which is the handler alone. Every variant but
// quiet writes its access log line, as JSON, to nowhere.
func BenchmarkChain(b *testing.B) {
	body := []byte(`{"ok":true}`)
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil))
	quiet := slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where httptest.NewRequest comes from

	for _, v := range []struct {
		name    string
		handler http.Handler
	}{
		{"bare", bare},
		{"chain", web.Chain(bare, web.Options{Logger: logger})},
		{"quiet", web.Chain(bare, web.Options{Logger: quiet})},
		{"proxied", web.Chain(bare, web.Options{Logger: logger, TrustedProxies: proxies})},
		{"cors", web.Chain(web.CORS(bare, http.MethodGet), web.Options{Logger: logger})},
	} {
		b.Run(v.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/token?x=y", nil)
			r.Header.Set("X-Forwarded-For", "203.0.113.9, 192.0.2.7")
			r.Header.Set("X-Forwarded-Proto", "https")
			b.ReportAllocs()
			for b.Loop() {
				v.handler.ServeHTTP(&sink{make(http.Header)}, r)
			}
		})
	}
}
