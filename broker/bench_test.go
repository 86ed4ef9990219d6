package broker_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
)

// What the hot endpoints cost without the network, for profiles; `make bench` measures them with it.

func BenchmarkIntrospect(b *testing.B) {
	e := Start(b)
	tokens := e.SignIn(b, NewBrowser(b), Other, "idp_hint", "google")
	form := url.Values{"token": {tokens.String("access_token")}}.Encode()
	benchmarkPost(b, e, "/introspect", func() string { return form }, nil)
}

func BenchmarkUserinfo(b *testing.B) {
	e := Start(b)
	held := e.SignIn(b, NewBrowser(b), Other, "idp_hint", "google").String("access_token")
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodGet, e.Issuer+"/userinfo", nil)
		r.Header.Set("Authorization", "Bearer "+held)
		w := httptest.NewRecorder()
		e.Broker.Handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

func BenchmarkRefresh(b *testing.B) {
	e := Start(b)
	held := e.SignIn(b, NewBrowser(b), Other, "idp_hint", "google").String("refresh_token")
	benchmarkPost(b, e, "/token", func() string {
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {held}}.Encode()
	}, func(body string) {
		_, rest, _ := strings.Cut(body, `"refresh_token":"`)
		held, _, _ = strings.Cut(rest, `"`)
	})
}

func benchmarkPost(b *testing.B, e *Env, path string, form func() string, after func(body string)) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, e.Issuer+path, strings.NewReader(form()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(Other.ID, Other.Secret)
		w := httptest.NewRecorder()
		e.Broker.Handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
		if after != nil {
			after(w.Body.String())
		}
	}
}
