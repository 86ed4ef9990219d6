package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

// x/oauth2 sends no Accept header, so it gets the form-encoded answer.
func TestGitHubWithTheLibraryOfApps(t *testing.T) {
	w := newWorld(t)
	app := oauth2.Config{
		ClientID: "gh-client", ClientSecret: "gh-secret", RedirectURL: callback, Scopes: []string{"read:user", "user:email"},
		Endpoint: oauth2.Endpoint{AuthURL: w.GitHubURL() + "/login/oauth/authorize", TokenURL: w.GitHubURL() + "/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams},
	}
	v := oauth2.GenerateVerifier()
	values, _ := w.get(app.AuthCodeURL("S", oauth2.S256ChallengeOption(v))).callback()
	token, err := app.Exchange(t.Context(), values.Get("code"), oauth2.VerifierOption(v))
	if err != nil {
		t.Fatal(err)
	}
	if token.AccessToken == "" || token.Extra("scope") != "read:user,user:email" || token.TokenType != "bearer" {
		t.Errorf("%+v", token)
	}
}

func TestGitHubCallback(t *testing.T) {
	w := newWorld(t)
	values, fragment := w.authorize(GitHub).callback()
	if !regexp.MustCompile(`^[0-9A-Za-z]{20}$`).MatchString(values.Get("code")) || fragment != "" {
		t.Errorf("code %q, fragment %q", values.Get("code"), fragment)
	}
	values.Del("code")
	if d := cmp.Diff(url.Values{"connector": {"x"}, "state": {"S"}, "iss": {w.GitHubURL() + "/login/oauth"}}, values); d != "" {
		t.Error(d)
	}
}

func TestGitHubRefusesRequests(t *testing.T) {
	w := newWorld(t)
	if r := w.authorize(GitHub, "client_id=nobody"); r.status != http.StatusNotFound || r.header.Get("Location") != "" {
		t.Errorf("unknown client: %d %q", r.status, r.header.Get("Location"))
	}
	// GitHub reports to the registered callback, not to the address of the request.
	r := w.authorize(GitHub, "redirect_uri=https://evil.example/")
	values, _ := r.callback()
	if values.Get("error") != "redirect_uri_mismatch" || values.Get("state") != "S" || values.Get("error_uri") == "" || values.Get("error_description") == "" {
		t.Errorf("other redirect URI: %v", values)
	}
	for _, change := range []string{"code_challenge_method=plain", "code_challenge_method=", "code_challenge="} {
		values, _ := w.authorize(GitHub, change).callback()
		if values.Get("error") != "invalid_request" || values.Get("code") != "" {
			t.Errorf("%s: %v", change, values)
		}
	}
	r = w.authorize(GitHub, "redirect_uri=")
	if values, _ := r.callback(); values.Get("code") == "" || !strings.HasPrefix(r.header.Get("Location"), callback) {
		t.Errorf("without redirect_uri: %v", r.header)
	}
}

func TestGitHubToken(t *testing.T) {
	w := newWorld(t)
	r := w.redeem(GitHub, w.code(GitHub))
	if !regexp.MustCompile(`^\{"access_token":"gho_\w{36}","scope":"read:user,user:email","token_type":"bearer"\}$`).MatchString(r.body) || r.status != 200 {
		t.Errorf("JSON: %d %s", r.status, r.body)
	}
	r = w.post(w.GitHubURL()+"/login/oauth/access_token", q(githubRedeem, "code="+w.code(GitHub, "scope=user:email")))
	if !regexp.MustCompile(`^access_token=gho_\w{36}&scope=user%3Aemail&token_type=bearer$`).MatchString(r.body) || !strings.HasPrefix(r.header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		t.Errorf("form: %s %s", r.header.Get("Content-Type"), r.body)
	}
	r = w.post(w.GitHubURL()+"/login/oauth/access_token", url.Values{"code": {w.code(GitHub)}, "code_verifier": {verifier}}, asJSON, "Authorization: Basic Z2gtY2xpZW50OmdoLXNlY3JldA==")
	if r.text("access_token") == "" {
		t.Errorf("HTTP Basic, and no redirect_uri: %s", r.body)
	}
	if r := w.get(w.GitHubURL() + "/login/oauth/access_token"); r.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", r.status)
	}
}

// GitHub's failures have status 200: a client that looks at the status alone takes them for tokens.
func TestGitHubTokenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		want    string
	}{
		"unknown client":     {[]string{"client_id=nobody"}, "incorrect_client_credentials"},
		"wrong secret":       {[]string{"client_secret=x"}, "incorrect_client_credentials"},
		"no code":            {[]string{"code="}, "bad_verification_code"},
		"unknown code":       {[]string{"code=x"}, "bad_verification_code"},
		"another's code":     {[]string{"client_id=gh-other", "client_secret=gh-other-secret"}, "bad_verification_code"},
		"other redirect URI": {[]string{"redirect_uri=https://broker.example/second"}, "redirect_uri_mismatch"},
		"no verifier":        {[]string{"code_verifier="}, "bad_verification_code"},
		"wrong verifier":     {[]string{"code_verifier=x"}, "bad_verification_code"},
		"bad refresh token":  {[]string{"grant_type=refresh_token", "refresh_token=ghr_x"}, "bad_refresh_token"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			code := w.code(GitHub)
			r := w.redeem(GitHub, code, c.changes...)
			if r.status != http.StatusOK || r.text("error") != c.want || r.text("error_description") == "" || r.text("error_uri") == "" {
				t.Errorf("%d %s", r.status, r.body)
			}
			form := w.post(w.GitHubURL()+"/login/oauth/access_token", q(githubRedeem, append([]string{"code=" + code}, c.changes...)...))
			if v, err := url.ParseQuery(form.body); err != nil || v.Get("error") != c.want {
				t.Errorf("form: %s", form.body)
			}
			if r := w.redeem(GitHub, code); r.text("access_token") == "" {
				t.Errorf("the code is gone: %s", r.body)
			}
		})
	}
}

func TestGitHubCodeIsUsedOnceAndExpires(t *testing.T) {
	w := newWorld(t)
	code := w.code(GitHub)
	w.redeem(GitHub, code)
	if r := w.redeem(GitHub, code); r.text("error") != "bad_verification_code" {
		t.Errorf("used: %s", r.body)
	}
	code = w.code(GitHub)
	w.pass(codeLife)
	if r := w.redeem(GitHub, code); r.text("error") != "bad_verification_code" {
		t.Errorf("expired: %s", r.body)
	}
}

func TestGitHubScopes(t *testing.T) {
	w := newWorld(t)
	scope := func(wanted string) string {
		return w.redeem(GitHub, w.code(GitHub, "login=bob", "scope="+wanted)).text("scope")
	}
	for _, c := range [][2]string{
		{"", ""}, // nothing was granted before
		{"user:email", "user:email"},
		{"user:email,read:user", "user:email,read:user"},
		{"user:email nonsense read:user", "user:email,read:user"}, // unknown ones go without a word
		{"user user:email", "user"},                               // and those that another includes
		{"", "user:email,read:user,user"},                         // an omitted scope reuses what was granted
	} {
		if got := scope(c[0]); got != c[1] {
			t.Errorf("asked for %q: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestGitHubExpiringTokens(t *testing.T) {
	w := newWorld(t)
	if r := w.redeem(GitHub, w.code(GitHub, "scope=user:email offline_access")); r.text("refresh_token") == "" || r.text("scope") != "user:email" {
		t.Errorf("offline_access: %s", r.body)
	}
	other := []string{"client_id=gh-other", "client_secret=gh-other-secret"}
	r := w.redeem(GitHub, w.code(GitHub, "client_id=gh-other"), other...)
	m := r.object()
	if m["expires_in"] != json.Number("28800") || m["refresh_token_expires_in"] != json.Number("15897600") || !strings.HasPrefix(r.text("refresh_token"), "ghr_") {
		t.Fatalf("%s", r.body)
	}
	renew := func(token string) reply {
		return w.redeem(GitHub, "", append(other, "code=", "redirect_uri=", "grant_type=refresh_token", "refresh_token="+token)...)
	}
	second := renew(r.text("refresh_token"))
	if second.text("access_token") == "" || second.text("refresh_token") == r.text("refresh_token") {
		t.Fatalf("refresh: %s", second.body)
	}
	// A refresh kills the old pair.
	if again := renew(r.text("refresh_token")); again.text("error") != "bad_refresh_token" {
		t.Errorf("the old refresh token: %s", again.body)
	}
	if got := w.profile(GitHub, r.text("access_token")); got.status != http.StatusUnauthorized {
		t.Errorf("the old access token: %d", got.status)
	}
	w.pass(8 * time.Hour)
	if got := w.profile(GitHub, second.text("access_token")); got.status != http.StatusUnauthorized {
		t.Errorf("after eight hours: %d", got.status)
	}
	w.pass(githubRefreshLife)
	if got := renew(second.text("refresh_token")); got.text("error") != "bad_refresh_token" {
		t.Errorf("after half a year: %s", got.body)
	}
}

func TestGitHubUser(t *testing.T) {
	w := newWorld(t)
	r := w.profile(GitHub, w.token(GitHub, "login=mallory"))
	m := r.object()
	if m["id"] != json.Number("66600013") || m["login"] != "mallory" || m["email"] != "ann.lee@gmail.com" {
		t.Errorf("%s", r.body)
	}
	// GitHub writes null for what it does not have.
	for _, key := range []string{"name", "bio", "company", "location"} {
		if v, there := m[key]; !there || v != nil {
			t.Errorf("%s is %v", key, v)
		}
	}
	for _, key := range []string{"node_id", "avatar_url", "html_url", "blog", "type", "created_at"} {
		if _, there := m[key].(string); !there {
			t.Errorf("no %s", key)
		}
	}
	cleo := w.profile(GitHub, w.token(GitHub, "login=cleo")).object()
	if v, there := cleo["email"]; !there || v != nil {
		t.Errorf("cleo's private address is shown: %v", v)
	}
	// Who reads an id into a float64 gets another person's.
	if otto := w.profile(GitHub, w.token(GitHub, "login=otto")); !strings.Contains(otto.body, `"id":9007199254740993`) {
		t.Errorf("otto: %s", otto.body)
	}
	for name, want := range map[string]string{
		"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999", "X-RateLimit-Used": "1", "X-RateLimit-Resource": "core",
		"X-RateLimit-Reset": fmt.Sprint(w.now().Add(time.Hour).Unix()), "X-OAuth-Scopes": "read:user, user:email",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestGitHubAPIWantsAToken(t *testing.T) {
	w := newWorld(t)
	token := w.token(GitHub)
	for name, c := range map[string]struct {
		r       reply
		status  int
		message string
	}{
		"none":           {w.get(w.GitHubAPIURL() + "/user"), 401, "Requires authentication"},
		"unknown":        {w.profile(GitHub, "gho_x"), 401, "Bad credentials"},
		"in the query":   {w.get(w.GitHubAPIURL() + "/user?access_token=" + token), 401, "Requires authentication"},
		"unknown path":   {w.get(w.GitHubAPIURL() + "/nothing"), 404, "Not Found"},
		"unknown method": {w.post(w.GitHubAPIURL()+"/user", nil), 404, "Not Found"},
	} {
		if c.r.status != c.status || c.r.text("message") != c.message || c.r.text("status") != fmt.Sprint(c.status) || c.r.text("documentation_url") == "" {
			t.Errorf("%s: %d %s", name, c.r.status, c.r.body)
		}
	}
	if r := w.get(w.GitHubAPIURL()+"/user", "Authorization: Bearer "+token, "User-Agent: "); r.status != http.StatusForbidden || !strings.Contains(r.body, "User-Agent") {
		t.Errorf("no User-Agent: %d %s", r.status, r.body)
	}
	if r := w.get(w.GitHubAPIURL()+"/user", "Authorization: token "+token); r.status != http.StatusOK {
		t.Errorf("the scheme token: %d", r.status)
	}
}

func TestGitHubEmails(t *testing.T) {
	w := newWorld(t)
	r := w.emails(w.token(GitHub), "")
	want := `[{"email":"ann.lee@gmail.com","primary":true,"verified":true,"visibility":"public"},` +
		`{"email":"583231+annlee@users.noreply.github.com","primary":false,"verified":true,"visibility":null}]`
	if r.body != want || r.header.Get("Link") != "" {
		t.Errorf("%s %q", r.body, r.header.Get("Link"))
	}
	for _, scope := range []string{"user", "user:email"} {
		if r := w.emails(w.token(GitHub, "scope="+scope), ""); r.status != http.StatusOK {
			t.Errorf("scope %s: %d", scope, r.status)
		}
	}
	if r := w.emails(w.token(GitHub, "scope=read:user"), ""); r.status != http.StatusNotFound || r.text("message") != "Not Found" {
		t.Errorf("scope read:user: %d %s", r.status, r.body)
	}
}

func TestGitHubEmailsComePageByPage(t *testing.T) {
	w := newWorld(t)
	token := w.token(GitHub, "login=otto")
	at := w.GitHubAPIURL() + "/user/emails"
	for _, c := range []struct {
		query string
		count int
		link  string
	}{
		{"", 30, `<AT?page=2>; rel="next", <AT?page=4>; rel="last"`},
		{"?page=4", 30, `<AT?page=3>; rel="prev", <AT?page=1>; rel="first"`},
		{"?per_page=100", 100, `<AT?per_page=100&page=2>; rel="next", <AT?per_page=100&page=2>; rel="last"`},
		{"?per_page=100&page=2", 20, `<AT?per_page=100&page=1>; rel="prev", <AT?per_page=100&page=1>; rel="first"`},
		{"?per_page=50&page=2", 50, `<AT?per_page=50&page=1>; rel="prev", <AT?per_page=50&page=3>; rel="next", <AT?per_page=50&page=3>; rel="last", <AT?per_page=50&page=1>; rel="first"`},
		{"?per_page=1000", 100, `<AT?per_page=100&page=2>; rel="next", <AT?per_page=100&page=2>; rel="last"`},
		{"?per_page=x&page=-1", 30, `<AT?per_page=30&page=2>; rel="next", <AT?per_page=30&page=4>; rel="last"`},
		{"?page=99", 0, `<AT?page=4>; rel="prev", <AT?page=1>; rel="first"`},
		{"?page=9223372036854775807", 0, `<AT?page=4>; rel="prev", <AT?page=1>; rel="first"`},
	} {
		r := w.emails(token, c.query)
		var list []GitHubEmail
		if err := json.Unmarshal([]byte(r.body), &list); err != nil || len(list) != c.count {
			t.Errorf("%s: %d addresses, want %d (%v)", c.query, len(list), c.count, err)
		}
		if want := strings.ReplaceAll(c.link, "AT", at); r.header.Get("Link") != want {
			t.Errorf("%s: Link %s, want %s", c.query, r.header.Get("Link"), want)
		}
	}
}

func TestGitHubAppsManageTheirTokens(t *testing.T) {
	w := newWorld(t)
	at := w.GitHubAPIURL() + "/applications/gh-client/"
	const basic = "Authorization: Basic Z2gtY2xpZW50OmdoLXNlY3JldA=="
	call := func(method, path, token string, fields ...string) reply {
		t.Helper()
		return w.do(method, at+path, strings.NewReader(`{"access_token":"`+token+`"}`), fields...)
	}
	token := w.token(GitHub)
	r := call("POST", "token", token, basic)
	if m := r.object(); r.status != 200 || m["token"] != token || m["user"].(map[string]any)["login"] != "annlee" || m["expires_at"] != nil {
		t.Fatalf("check: %d %s", r.status, r.body)
	}
	for name, c := range map[string]struct {
		r    reply
		want int
	}{
		"no secret":      {call("POST", "token", token), 404},
		"wrong secret":   {call("POST", "token", token, "Authorization: Basic Z2gtY2xpZW50Ong="), 404},
		"unknown token":  {call("POST", "token", "gho_x", basic), 404},
		"no token":       {call("POST", "token", "", basic), 422},
		"another's":      {call("POST", "token", w.token2(), basic), 404},
		"unknown client": {w.do("POST", w.GitHubAPIURL()+"/applications/x/token", strings.NewReader(`{}`), basic), 404},
	} {
		if c.r.status != c.want {
			t.Errorf("%s: %d, want %d", name, c.r.status, c.want)
		}
	}
	fresh := call("PATCH", "token", token, basic).text("token")
	if fresh == token || w.profile(GitHub, token).status != 401 || w.profile(GitHub, fresh).status != 200 {
		t.Error("reset did not replace the token")
	}
	if r := call("DELETE", "token", fresh, basic); r.status != 204 || r.body != "" || w.profile(GitHub, fresh).status != 401 {
		t.Errorf("delete: %d %s", r.status, r.body)
	}
	one, two := w.token(GitHub), w.token(GitHub)
	if r := call("DELETE", "grant", one, basic); r.status != 204 || w.profile(GitHub, two).status != 401 {
		t.Errorf("delete grant: %d", r.status)
	}
	if got := w.redeem(GitHub, w.code(GitHub, "scope=")).text("scope"); got != "" {
		t.Errorf("a new grant remembers the old one's scopes: %s", got)
	}
}

// token2 is a token of GitHub's other client.
func (w *world) token2() string {
	w.t.Helper()
	r := w.redeem(GitHub, w.code(GitHub, "client_id=gh-other"), "client_id=gh-other", "client_secret=gh-other-secret")
	return r.text("access_token")
}
