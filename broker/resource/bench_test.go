package resource_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/portico-id/portico/broker/resource"
)

// bench measures h with one request per token, over and over. What is measured is the handler alone, without a connection.
func bench(b *testing.B, h http.Handler, tokens []string) {
	requests := make([]*http.Request, len(tokens))
	for n, raw := range tokens {
		requests[n] = httptest.NewRequest(http.MethodGet, "/notes", nil)
		requests[n].Header.Set("Authorization", "Bearer "+raw)
	}
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		h.ServeHTTP(w, requests[n%len(requests)])
		n++
		if w.status != 0 && w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// more than a cache has room for.
const many = 16 << 10

// What the middleware costs a request, beside a handler without it.
func BenchmarkProtect(b *testing.B) {
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	i := newAuthority(b)
	key := i.publish("ES256", "k")
	jwts := make([]string, many)
	for n := range jwts {
		jwts[n] = key.sign("at+jwt", i.claims("jti", strconv.Itoa(n)))
	}
	opaque := i.issueOpaque()
	b.Run("bare handler", func(b *testing.B) { bench(b, bare, jwts[:1]) })
	b.Run("JWT/cached", func(b *testing.B) { bench(b, i.api(nil).Protect(bare, "notes:read"), jwts[:1]) })
	b.Run("JWT/verified", func(b *testing.B) { bench(b, i.api(nil).Protect(bare, "notes:read"), jwts) })
	b.Run("opaque/cached", func(b *testing.B) { bench(b, i.api(nil).Protect(bare, "notes:read"), []string{opaque}) })
	b.Run("opaque/introspected", func(b *testing.B) {
		bench(b, i.api(func(o *resource.Options) { o.CacheFor = -1 }).Protect(bare, "notes:read"), []string{opaque})
	})
}
