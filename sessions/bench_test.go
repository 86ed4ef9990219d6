package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/sessions"
)

// BenchmarkCurrent is the price of knowing who is signed in, on a store in memory: the cookie's MAC and decryption
// and the document's decoding. Forged is what a stranger can make the broker spend.
func BenchmarkCurrent(b *testing.B) {
	clock := newClock()
	s, err := sessions.New(storetest.SQLite(b, clock.Now), sessions.Options{CookieKeys: keysA, Secure: true, Lifetime: lifetime, IdleLifetime: idle, Now: clock.Now})
	if err != nil {
		b.Fatal(err)
	}
	w := httptest.NewRecorder()
	if _, err := s.Start(b.Context(), w, httptest.NewRequest(http.MethodGet, "/", nil), sessions.Session{AccountID: "ann", AuthTime: clock.Now()}); err != nil {
		b.Fatal(err)
	}
	value := w.Result().Cookies()[0].Value
	for name, cookie := range map[string]string{"signed in": value, "forged": value[:len(value)-4] + "AAAA"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: secureName, Value: cookie})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if session, err := s.Current(r); err != nil || (session != nil) != (name == "signed in") {
					b.Fatal(session, err)
				}
			}
		})
	}
}
