package broker_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
)

// What RFC 9700 demands and nothing else shows; docs/security.md has all of it.

// Section 2.6: a script of another site that could read the authorization endpoint, with the person's cookies, would have their codes. Only what no cookie is
// looked at for answers other origins.
func TestNoScriptOfAnotherSiteReadsTheAuthorizationEndpoint(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	e.SignIn(t, b, First, "idp_hint", "google")
	for _, path := range []string{"/authorize?" + AuthorizeParams(First).Encode(), "/logout", "/device", "/callback/google", "/introspect"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			request, err := http.NewRequestWithContext(t.Context(), method, e.Issuer+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Origin", "https://evil.example")
			request.Header.Set("Access-Control-Request-Method", http.MethodGet)
			response, err := b.Client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			for name := range response.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s answers another origin: %s: %s", method, path, name, response.Header.Get(name))
				}
			}
		}
	}
}

// Section 4.12: after 307 a browser posts what it was given to wherever it is sent, the app or the provider.
func TestWhatAPersonPostsIsNeverPassedOn(t *testing.T) {
	e := Start(t)
	want303 := func(what string, page *Page) *Page {
		t.Helper()
		if page.Status != http.StatusSeeOther {
			t.Errorf("%s is answered %d to %v", what, page.Status, page.Location())
		}
		return page
	}
	b := NewBrowser(t)
	want303("a choice", b.Get(e.AuthorizeURL(Web)).Submit(0, "google"))
	want303("a cancellation", b.Get(e.AuthorizeURL(Web)).Submit(1, ""))
	for _, decision := range []string{"deny", "allow"} {
		location, page := b.Walk(e.AuthorizeURL(Web, "idp_hint", "google", "prompt", "consent"), e.Issuer+"/signin/")
		if location == nil {
			t.Fatalf("no consent page: %d", page.Status)
		}
		want303(decision, b.Get(location.String()).Submit(0, decision))
	}
	want303("an authorization request", b.Post(e.Issuer+"/authorize", AuthorizeParams(Web)))
	want303("a sign-out", b.Post(e.Issuer+"/logout", url.Values{
		"client_id": {Web.ID}, "post_logout_redirect_uri": {"https://app.example.com/bye"}, "confirm": {"yes"},
	}))
}

// Section 4.15: an API tells people from apps by sub. A token of an app's own has its client id there, which nobody can choose to be somebody's.
func TestNoAppHasAPersonsID(t *testing.T) {
	e := Start(t, withAPIs, openRegistration)
	person := e.Subject(t, e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("access_token"))
	r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("client_id", person, "sub", person))
	if r.Status != http.StatusCreated || r.String("client_id") == person || r.String("client_id") == "" {
		t.Errorf("a stranger registers as somebody: %d %v", r.Status, r.Body)
	}
	own := e.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "scope": {"mail:read"}, "resource": {mailAPI}})
	claims := Claims(t, own.String("access_token"))
	if claims["sub"] != service.ID || claims["client_id"] != service.ID || claims["sub"] == person {
		t.Errorf("a token of an app's own says %v", claims)
	}
}
