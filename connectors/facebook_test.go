package connectors

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newFacebookUpstream(t *testing.T) *upstream {
	t.Helper()
	u := newUpstream(t)
	u.route("/graph/v26.0/oauth/access_token", says(200, `{"access_token":"`+testToken+`","token_type":"bearer","expires_in":5183944}`))
	u.route("/graph/v26.0/me", says(200, `{"id":"3304354912912197","name":"Ann Lee","first_name":"Ann","last_name":"Lee","email":"ann@example.com","picture":{"data":{"height":50,"is_silhouette":false,"url":"https://pictures.example/ann","width":50}}}`))
	return u
}

func facebookSettings(u *upstream) Settings {
	return Settings{Type: "facebook", DialogURL: u.URL, GraphURL: u.URL + "/graph"}
}

func facebookFailure(status, code, subcode int, kind, message string) http.HandlerFunc {
	return says(status, fmt.Sprintf(`{"error":{"message":%q,"type":%q,"code":%d,"error_subcode":%d,"fbtrace_id":"AbC1"}}`, message, kind, code, subcode))
}

func TestFacebookLogin(t *testing.T) {
	u := newFacebookUpstream(t)
	c := mustNew(t, facebookSettings(u))
	trip := testTrip()
	trip.Prompt, trip.LoginHint = "login", "ann"
	raw, err := c.AuthorizeURL(t.Context(), trip)
	if err != nil {
		t.Fatal(err)
	}
	// No code_challenge: see facebookConnector.
	want := url.Values{
		"response_type": {"code"}, "client_id": {testClient}, "redirect_uri": {testRedirect}, "state": {testState},
		"scope": {"email public_profile"}, "auth_type": {"reauthenticate"},
	}
	parsed, _ := url.Parse(raw)
	if diff := cmp.Diff(want, parsed.Query()); diff != "" || !strings.HasPrefix(raw, u.URL+"/v26.0/dialog/oauth?") {
		t.Errorf("%s (-want +got):\n%s", raw, diff)
	}

	p, err := c.Exchange(t.Context(), trip, callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	// Never verified: Facebook has no flag for it.
	wantProfile := &Profile{
		Issuer: u.URL, Subject: "3304354912912197", Email: "ann@example.com", EmailVerified: false,
		Name: "Ann Lee", GivenName: "Ann", FamilyName: "Lee", Picture: "https://pictures.example/ann",
	}
	if diff := cmp.Diff(wantProfile, p); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}

	token := u.requests("/graph/v26.0/oauth/access_token")
	wantForm := url.Values{
		"grant_type": {"authorization_code"}, "code": {testCode}, "redirect_uri": {testRedirect}, "client_id": {testClient}, "client_secret": {testSecret},
	}
	if len(token) != 1 || token[0].method != http.MethodPost {
		t.Fatalf("token requests: %v", token)
	}
	if diff := cmp.Diff(wantForm, token[0].form); diff != "" || len(token[0].query) != 0 {
		t.Errorf("token request (-want +got):\n%s", diff)
	}
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(testToken))
	me := u.requests("/graph/v26.0/me")
	if len(me) != 1 {
		t.Fatalf("%d profile requests", len(me))
	}
	wantQuery := url.Values{
		"fields": {"id,name,first_name,last_name,email,picture"}, "access_token": {testToken}, "appsecret_proof": {hex.EncodeToString(mac.Sum(nil))},
	}
	if diff := cmp.Diff(wantQuery, me[0].query); diff != "" {
		t.Errorf("profile request (-want +got):\n%s", diff)
	}
}

func TestFacebookVersionIsASetting(t *testing.T) {
	u := newFacebookUpstream(t)
	s := facebookSettings(u)
	s.GraphVersion = "v27.0"
	c := mustNew(t, s)
	u.route("/graph/v27.0/oauth/access_token", says(200, `{"access_token":"a","token_type":"bearer"}`))
	u.route("/graph/v27.0/me", says(200, `{"id":"1","name":"Ann"}`))
	p, err := c.Exchange(t.Context(), testTrip(), callbackWith())
	if err != nil {
		t.Fatal(err)
	}
	if p.Subject != "1" || p.Email != "" || p.EmailVerified { // email is absent where there is no valid one
		t.Errorf("%+v", p)
	}
	real := mustNew(t, Settings{Type: "facebook"}).(*facebookConnector)
	if real.dialog != "https://www.facebook.com/v26.0/dialog/oauth" || real.me.String() != "https://graph.facebook.com/v26.0/me" || real.issuer != "https://www.facebook.com" {
		t.Errorf("%q %q %q", real.dialog, real.me, real.issuer)
	}
}

// x/oauth2 finds no code in Facebook's nested error object.
func TestFacebookReadsTheNestedError(t *testing.T) {
	const token, me = "/graph/v26.0/oauth/access_token", "/graph/v26.0/me"
	tests := []struct {
		name, path string
		handler    http.HandlerFunc
		want       Kind
		code       string
	}{
		{"used code", token, facebookFailure(400, 100, 36009, "OAuthException", "This authorization code has been used."), Expired, "100/36009"},
		{"expired code", token, facebookFailure(400, 100, 36007, "OAuthException", "This authorization code has expired."), Expired, "100/36007"},
		{"never a code", token, facebookFailure(400, 100, 0, "OAuthException", "Invalid verification code format."), Expired, "100"},
		{"redirect URI", token, facebookFailure(400, 100, 36008, "OAuthException", "Error validating verification code."), Misconfigured, "100/36008"},
		{"wrong secret", token, facebookFailure(400, 1, 0, "OAuthException", "Error validating client secret."), Misconfigured, "1"},
		{"wrong app", token, facebookFailure(400, 101, 0, "OAuthException", "Error validating application."), Misconfigured, "101"},
		{"limit", token, facebookFailure(400, 4, 0, "OAuthException", "Application request limit reached"), RateLimited, "4"},
		{"limit with status 200", me, facebookFailure(200, 4, 0, "OAuthException", "Application request limit reached"), RateLimited, "4"},
		{"unknown at the API", me, facebookFailure(500, 1, 0, "OAuthException", "An unknown error occurred"), Unavailable, "1"},
		{"service down", me, facebookFailure(500, 2, 0, "OAuthException", "Service temporarily unavailable"), Unavailable, "2"},
		{"app removed", me, facebookFailure(400, 190, 458, "OAuthException", "The user has not authorized application"), Denied, "190/458"},
		{"logged out", me, facebookFailure(400, 190, 467, "OAuthException", "The session is invalid"), Expired, "190/467"},
		{"password changed", me, facebookFailure(400, 190, 460, "OAuthException", "The session has been invalidated"), Expired, "190/460"},
		{"the token quoted back", me, facebookFailure(400, 190, 0, "OAuthException", "Malformed access token "+testToken), Expired, "190"},
		{"appsecret_proof", me, facebookFailure(400, 100, 0, "GraphMethodException", "Invalid appsecret_proof provided in the API argument"), Misconfigured, "100"},
		{"permission", me, facebookFailure(403, 200, 0, "OAuthException", "Permissions error"), Misconfigured, "200"},
		{"another shape", me, says(500, `{"error":{"code":"x"}}`), Unavailable, ""},
		{"an OAuth error", token, says(400, `{"error":"invalid_grant"}`), Expired, "invalid_grant"},
		{"not JSON", token, says(200, `<html>`), Malformed, ""},
		{"down", me, says(503, ``), Unavailable, ""},
		{"no id", me, says(200, `{"name":"Ann"}`), Malformed, ""},
		{"id that is a number", me, says(200, `{"id":3304354912912197}`), Malformed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newFacebookUpstream(t)
			u.route(tt.path, tt.handler)
			_, err := mustNew(t, facebookSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
			if e := wantKind(t, err, tt.want); e.UpstreamCode != tt.code {
				t.Errorf("code %q, want %q", e.UpstreamCode, tt.code)
			}
			if n := len(u.requests(token)); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

// goth puts the access token into the URL, and net/http puts the URL into its errors.
func TestFacebookTokenIsNotInTheErrorOfAFailedCall(t *testing.T) {
	u := newFacebookUpstream(t)
	u.route("/graph/v26.0/me", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	_, err := mustNew(t, facebookSettings(u)).Exchange(t.Context(), testTrip(), callbackWith())
	wantKind(t, err, Unavailable)
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(testToken))
	if strings.Contains(err.Error(), hex.EncodeToString(mac.Sum(nil))) || strings.Contains(err.Error(), "access_token=") {
		t.Errorf("the URL is in %v", err)
	}
}

func TestFacebookCallbackErrors(t *testing.T) {
	tests := []struct {
		name     string
		callback url.Values
		want     Kind
		code     string
	}{
		{"cancelled", url.Values{"error": {"access_denied"}, "error_code": {"200"}, "error_description": {"Permissions error"}, "error_reason": {"user_denied"}}, Denied, "access_denied"},
		{"set up wrong", url.Values{"error_code": {"1349048"}, "error_message": {"Can't load URL"}}, Misconfigured, "1349048"},
		{"nothing", url.Values{"state": {testState}}, Malformed, ""},
	}
	for _, tt := range tests {
		u := newFacebookUpstream(t)
		_, err := mustNew(t, facebookSettings(u)).Exchange(t.Context(), testTrip(), tt.callback)
		if e := wantKind(t, err, tt.want); e.UpstreamCode != tt.code {
			t.Errorf("%s: code %q", tt.name, e.UpstreamCode)
		}
		if len(u.log) != 0 {
			t.Errorf("%s: something was asked upstream", tt.name)
		}
	}
}
