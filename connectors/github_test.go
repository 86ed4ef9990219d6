package connectors

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/markbates/goth"
)

const (
	githubUser   = `{"id":583231,"login":"ann","name":"Ann Lee","email":"public@evil.example","avatar_url":"https://avatars.example/u/583231","bio":null}`
	githubEmails = `[{"email":"old@example.com","primary":false,"verified":true},{"email":"ann@example.com","primary":true,"verified":true,"visibility":"private"}]`
)

// newGitHubUpstream answers as GitHub does, form-encoded unless JSON is asked for.
func newGitHubUpstream(t *testing.T) *upstream {
	t.Helper()
	u := newUpstream(t)
	u.route("/login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "application/json" {
			says(200, `{"access_token":"`+testToken+`","scope":"read:user,user:email","token_type":"bearer"}`)(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		io.WriteString(w, "access_token="+testToken+"&scope=user%3Aemail&token_type=bearer")
	})
	u.route("/api/user", says(200, githubUser))
	u.route("/api/user/emails", says(200, githubEmails))
	return u
}

func githubSettings(u *upstream) Settings {
	return Settings{Type: "github", BaseURL: u.URL, APIURL: u.URL + "/api", TrustEmail: true}
}

func TestGitHubLoginSendsPKCEAndReadsTheVerifiedPrimaryAddress(t *testing.T) {
	u := newGitHubUpstream(t)
	c := mustNew(t, githubSettings(u))
	trip := testTrip()
	trip.LoginHint, trip.Prompt = "ann", "login"
	raw, err := c.AuthorizeURL(t.Context(), trip)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(testVerifier))
	want := url.Values{
		"response_type": {"code"}, "client_id": {testClient}, "redirect_uri": {testRedirect}, "state": {testState},
		"scope": {"read:user user:email"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "login": {"ann"}, "prompt": {"select_account"},
	}
	parsed, _ := url.Parse(raw)
	if diff := cmp.Diff(want, parsed.Query()); diff != "" || !strings.HasPrefix(raw, u.URL+"/login/oauth/authorize?") {
		t.Errorf("%s (-want +got):\n%s", raw, diff)
	}

	p, err := c.Exchange(t.Context(), trip, callbackWith("iss", u.URL+"/login/oauth"))
	if err != nil {
		t.Fatal(err)
	}
	wantProfile := &Profile{
		Issuer: u.URL, Subject: "583231", Email: "ann@example.com", EmailVerified: true,
		Name: "Ann Lee", Username: "ann", Picture: "https://avatars.example/u/583231",
	}
	if diff := cmp.Diff(wantProfile, p); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}

	token := u.requests("/login/oauth/access_token")
	if len(token) != 1 {
		t.Fatalf("%d token requests", len(token))
	}
	wantForm := url.Values{
		"grant_type": {"authorization_code"}, "code": {testCode}, "redirect_uri": {testRedirect},
		"client_id": {testClient}, "client_secret": {testSecret}, "code_verifier": {testVerifier},
	}
	if diff := cmp.Diff(wantForm, token[0].form); diff != "" {
		t.Errorf("token request (-want +got):\n%s", diff)
	}
	if got := token[0].header.Get("Accept"); got != "application/json" {
		t.Errorf("Accept %q: GitHub answers form-encoded", got)
	}
	if token[0].header.Get("Authorization") != "" {
		t.Error("the secret was sent twice")
	}
	for _, r := range append(u.requests("/api/user"), u.requests("/api/user/emails")...) {
		if r.header.Get("Authorization") != "Bearer "+testToken || r.header.Get("X-GitHub-Api-Version") == "" || r.header.Get("User-Agent") != userAgent {
			t.Errorf("%s: %v", r.path, r.header)
		}
	}
	// goth reads the addresses itself when told of the scope: it is not.
	if n := len(u.requests("/api/user/emails")); n != 1 {
		t.Errorf("addresses read %d times", n)
	}
}

// goth takes /user's email, which is any address that the person chose to show.
func TestGitHubNeverTakesThePublicAddress(t *testing.T) {
	tests := []struct {
		name, emails, want string
		verified           bool
	}{
		{"primary and verified", githubEmails, "ann@example.com", true},
		{"primary, not verified", `[{"email":"ann@example.com","primary":true,"verified":false}]`, "ann@example.com", false},
		{"verified, not primary", `[{"email":"ann@example.com","primary":false,"verified":true}]`, "", false},
		{"a noreply address cannot be mailed", `[{"email":"583231+ann@users.noreply.github.com","primary":true,"verified":true}]`, "", false},
		{"none", `[]`, "", false},
		{"not an address", `[{"email":"ann","primary":true,"verified":true}]`, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newGitHubUpstream(t)
			u.route("/api/user/emails", says(200, tt.emails))
			p, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
			if err != nil {
				t.Fatal(err)
			}
			if p.Email != tt.want || p.EmailVerified != tt.verified {
				t.Errorf("%q verified %v", p.Email, p.EmailVerified)
			}
		})
	}
}

func TestGitHubEnterpriseAddressesAreNotVerifiedUnlessTheOperatorSaysSo(t *testing.T) {
	u := newGitHubUpstream(t)
	s := githubSettings(u)
	s.TrustEmail = false
	p, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	if p.Email != "ann@example.com" || p.EmailVerified {
		t.Errorf("%q verified %v", p.Email, p.EmailVerified)
	}
	if !mustNew(t, Settings{Type: "github"}).(*githubConnector).trustEmail {
		t.Error("github.com verifies addresses")
	}
}

// RawData's float64 would make one account of two neighbours above 2^53.
func TestGitHubIDsAreNeverRounded(t *testing.T) {
	for _, id := range []string{"9007199254740993", "9223372036854775807"} {
		u := newGitHubUpstream(t)
		u.route("/api/user", says(200, `{"id":`+id+`,"login":"ann"}`))
		p, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
		if err != nil {
			t.Fatal(err)
		}
		if p.Subject != id {
			t.Errorf("subject %s, want %s", p.Subject, id)
		}
	}
	for _, user := range []string{`{}`, `{"id":0}`, `{"id":-1}`, `{"id":1e400}`, `{"id":1.5}`, `{"id":"583231"}`, `{"id":null}`, `{"id":9223372036854775808}`, `null`, `[]`, `{"id":`} {
		u := newGitHubUpstream(t)
		u.route("/api/user", says(200, user))
		_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
		wantKind(t, err, Malformed)
	}
}

func TestGitHubReadsTheAddressesPageByPage(t *testing.T) {
	u := newGitHubUpstream(t)
	u.route("/api/user/emails", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "3" {
			says(200, githubEmails)(w, r)
			return
		}
		next := map[string]string{"": "2", "2": "3"}[r.URL.Query().Get("page")]
		w.Header().Set("Link", fmt.Sprintf(`<%s/api/user/emails?per_page=100&page=1>; rel="first", <%s/api/user/emails?per_page=100&page=%s>; rel="next"`, u.URL, u.URL, next))
		says(200, `[{"email":"old@example.com","primary":false,"verified":true}]`)(w, r)
	})
	p, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	if p.Email != "ann@example.com" || len(u.requests("/api/user/emails")) != 3 {
		t.Errorf("%q after %d pages", p.Email, len(u.requests("/api/user/emails")))
	}
}

func TestGitHubStopsReadingPagesAtABound(t *testing.T) {
	u := newGitHubUpstream(t)
	u.route("/api/user/emails", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `</api/user/emails?page=2>; rel="next"`)
		says(200, `[]`)(w, r)
	})
	p, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	if p.Email != "" || len(u.requests("/api/user/emails")) != maxEmailPages {
		t.Errorf("%q after %d pages", p.Email, len(u.requests("/api/user/emails")))
	}
}

// The token goes to wherever the next page is said to be.
func TestGitHubTakesNoPageFromElsewhere(t *testing.T) {
	evil := newUpstream(t)
	u := newGitHubUpstream(t)
	u.route("/api/user/emails", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "<"+evil.URL+`/api/user/emails?page=2>; rel="next"`)
		says(200, `[]`)(w, r)
	})
	_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Malformed)
	if len(evil.log) != 0 {
		t.Error("the token went to another host")
	}
}

func TestGitHubReadsFailuresThatComeWithStatus200(t *testing.T) {
	tests := []struct {
		code string
		want Kind
	}{
		{"bad_verification_code", Expired},
		{"incorrect_client_credentials", Misconfigured},
		{"redirect_uri_mismatch", Misconfigured},
		{"unverified_user_email", Denied},
		{"something_new", Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			u := newGitHubUpstream(t)
			u.route("/login/oauth/access_token", says(200, `{"error":"`+tt.code+`","error_description":"The code passed is incorrect or expired.","error_uri":"https://docs.github.com/"}`))
			_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
			if e := wantKind(t, err, tt.want); e.UpstreamCode != tt.code {
				t.Errorf("code %q", e.UpstreamCode)
			}
			// x/oauth2, with goth's unset style, would send the code again in the body.
			if n := len(u.requests("/login/oauth/access_token")); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

// An Enterprise host or a proxy may ignore Accept.
func TestGitHubReadsAFormEncodedAnswer(t *testing.T) {
	form := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			io.WriteString(w, body)
		}
	}
	u := newGitHubUpstream(t)
	u.route("/login/oauth/access_token", form("access_token="+testToken+"&scope=user%3Aemail&token_type=bearer"))
	if _, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith()); err != nil {
		t.Fatal(err)
	}
	u.route("/login/oauth/access_token", form("error=bad_verification_code&error_description=The+code+passed"))
	_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Expired)
}

func TestGitHubClassifiesTheAPIsFailures(t *testing.T) {
	limited := func(status int, header, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(header, value)
			says(status, `{"message":"API rate limit exceeded for user ID 583231."}`)(w, r)
		}
	}
	tests := []struct {
		name, path string
		handler    http.HandlerFunc
		want       Kind
	}{
		{"limit, 403", "/api/user", limited(403, "X-RateLimit-Remaining", "0"), RateLimited},
		{"limit, 429", "/api/user/emails", limited(429, "Retry-After", "60"), RateLimited},
		{"secondary limit", "/api/user", says(403, `{"message":"You have exceeded a secondary rate limit"}`), RateLimited},
		{"bad credentials", "/api/user", says(401, `{"message":"Bad credentials","status":"401"}`), Expired},
		{"no scope user:email", "/api/user/emails", says(404, `{"message":"Not Found"}`), Misconfigured},
		{"a GitHub App without the permission", "/api/user/emails", says(403, `{"message":"Resource not accessible by integration"}`), Misconfigured},
		{"down", "/api/user", says(502, `<html>`), Unavailable},
		{"an object where a list should be", "/api/user/emails", says(200, `{}`), Malformed},
		{"the token quoted back", "/api/user", says(401, `{"message":"no such token `+testToken+`"}`), Expired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newGitHubUpstream(t)
			u.route(tt.path, tt.handler)
			_, err := mustNew(t, githubSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
			wantKind(t, err, tt.want)
		})
	}
}

func TestGitHubChecksTheCallbacksIssuerWhereThereIsOne(t *testing.T) {
	u := newGitHubUpstream(t)
	c := mustNew(t, githubSettings(u))
	for _, iss := range []string{"https://github.com/login/oauth", "https://accounts.google.com", u.URL, ""} {
		_, err := c.Exchange(t.Context(), testTrip(), callbackWith("iss", iss))
		wantKind(t, err, Untrusted)
	}
	if len(u.log) != 0 {
		t.Error("a code that is another provider's was sent")
	}
	real := mustNew(t, Settings{Type: "github"}).(*githubConnector)
	if real.issuer != "https://github.com/login/oauth" || real.baseURL != "https://github.com" {
		t.Errorf("%q %q", real.issuer, real.baseURL)
	}
}

func TestGitHubCallbackErrors(t *testing.T) {
	u := newGitHubUpstream(t)
	c := mustNew(t, githubSettings(u))
	for code, want := range map[string]Kind{"access_denied": Denied, "redirect_uri_mismatch": Misconfigured, "application_suspended": Misconfigured} {
		_, err := c.Exchange(t.Context(), testTrip(), url.Values{"error": {code}, "state": {testState}, "error_description": {"The user has denied your application access."}})
		if e := wantKind(t, err, want); e.UpstreamCode != code {
			t.Errorf("%q", e.UpstreamCode)
		}
	}
	if len(u.log) != 0 {
		t.Error("something was asked upstream")
	}
}

// goth has no context: its calls would outlive the browser that waits for them.
func TestGothsCallsEndWithTheCallersContext(t *testing.T) {
	for _, path := range []string{"/login/oauth/access_token", "/api/user", "/api/user/emails"} {
		u := newGitHubUpstream(t)
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		u.route(path, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done() // the provider sees the connection go
			close(ended)
		})
		_, err := mustNew(t, githubSettings(u)).Exchange(ctx, testTrip(), callbackWith())
		wantKind(t, err, Timeout)
		<-ended
	}
}

// goth without a client uses http.DefaultClient, which waits for ever.
func TestGothsCallsEndWithTheConnectorsTimeout(t *testing.T) {
	u := newGitHubUpstream(t)
	u.route("/api/user", stalls(t))
	s := githubSettings(u)
	s.Timeout = 100 * time.Millisecond
	_, err := mustNew(t, s).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Timeout)
}

// Two connectors in one process, one of them Enterprise, share nothing: goth's registry is one for
// the process, and its GitHub URLs are variables that a second host would overwrite.
func TestTwoGitHubHostsDoNotMeet(t *testing.T) {
	one, two := newGitHubUpstream(t), newGitHubUpstream(t)
	two.route("/api/user", says(200, `{"id":7,"login":"bob"}`))
	a, b := githubSettings(one), githubSettings(two)
	a.Name, b.Name = "one", "two"
	ca, cb := mustNew(t, a), mustNew(t, b)
	var wg sync.WaitGroup
	for _, tt := range []struct {
		c    Connector
		want string
	}{{ca, one.URL + " 583231"}, {cb, two.URL + " 7"}} {
		for range 8 {
			wg.Go(func() {
				p, err := tt.c.Exchange(t.Context(), testTrip(), callbackWith())
				if err != nil {
					t.Error(err)
				} else if got := p.Issuer + " " + p.Subject; got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
	wg.Wait()
	if n := len(goth.GetProviders()); n != 0 {
		t.Errorf("%d providers in goth's registry", n)
	}
}

func TestConcurrentGitHubLoginsKeepTheirVerifiers(t *testing.T) {
	u := newGitHubUpstream(t)
	u.route("/login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		who := strings.TrimPrefix(r.Form.Get("code"), "code-")
		if r.Form.Get("code_verifier") != testVerifier+who || r.Form.Get("redirect_uri") != testRedirect+who {
			says(200, `{"error":"bad_verification_code"}`)(w, r)
			return
		}
		says(200, `{"access_token":"`+who+`","token_type":"bearer"}`)(w, r)
	})
	u.route("/api/user", func(w http.ResponseWriter, r *http.Request) {
		says(200, `{"id":`+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+`}`)(w, r)
	})
	c := mustNew(t, githubSettings(u))
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			who := fmt.Sprint(n + 1)
			p, err := c.Exchange(t.Context(), Trip{RedirectURI: testRedirect + who, State: who, Verifier: testVerifier + who}, url.Values{"code": {"code-" + who}})
			if err != nil {
				t.Error(err)
			} else if p.Subject != who {
				t.Errorf("%s became %s", who, p.Subject)
			}
		})
	}
	wg.Wait()
}
