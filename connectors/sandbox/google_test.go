package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

const googleScopesGranted = "openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/userinfo.profile"

// claims reads an ID token without judging it.
func claims(t *testing.T, idToken string) map[string]any {
	t.Helper()
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no ID token", idToken)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// The libraries that apps use find their way with nothing but the issuer, and accept what they get.
func TestGoogleWithTheLibrariesOfApps(t *testing.T) {
	w := newWorld(t)
	ctx := oidc.ClientContext(t.Context(), w.client)
	provider, err := oidc.NewProvider(ctx, w.GoogleURL())
	if err != nil {
		t.Fatal(err)
	}
	for style, name := range map[oauth2.AuthStyle]string{oauth2.AuthStyleInParams: "post", oauth2.AuthStyleInHeader: "basic"} {
		t.Run(name, func(t *testing.T) {
			endpoint := provider.Endpoint()
			endpoint.AuthStyle = style
			app := oauth2.Config{ClientID: "g-client", ClientSecret: "g-secret", RedirectURL: callback, Endpoint: endpoint, Scopes: []string{"openid", "email", "profile"}}
			v := oauth2.GenerateVerifier()
			values, _ := w.get(app.AuthCodeURL("S", oidc.Nonce("N"), oauth2.S256ChallengeOption(v))).callback()
			token, err := app.Exchange(ctx, values.Get("code"), oauth2.VerifierOption(v))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := token.Extra("id_token").(string)
			id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: "g-client", Now: w.now}).Verify(ctx, raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := id.VerifyAccessToken(token.AccessToken); err != nil {
				t.Error(err)
			}
			if id.Nonce != "N" || id.Subject != w.Personas()[0].Google.Sub {
				t.Errorf("nonce %q, subject %q", id.Nonce, id.Subject)
			}
			info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
			if err != nil {
				t.Fatal(err)
			}
			if info.Subject != id.Subject || info.Email != "ann.lee@gmail.com" || !info.EmailVerified {
				t.Errorf("userinfo %+v", info)
			}
		})
	}
}

func TestGoogleCallback(t *testing.T) {
	w := newWorld(t)
	r := w.authorize(Google, "login_hint=bob")
	values, fragment := r.callback()
	if !strings.HasPrefix(values.Get("code"), "4/0A") || fragment != "" {
		t.Errorf("code %q, fragment %q", values.Get("code"), fragment)
	}
	values.Del("code")
	want := url.Values{
		"connector": {"x"}, // the redirect URI's own query stays
		"state":     {"S"}, "iss": {w.GoogleURL()}, "scope": {googleScopesGranted}, "authuser": {"0"}, "hd": {"example.com"}, "prompt": {"consent"},
	}
	if d := cmp.Diff(want, values); d != "" {
		t.Error(d)
	}
	values, _ = w.authorize(Google, "login_hint=bob").callback()
	if got := values.Get("prompt"); got != "none" {
		t.Errorf("the second time prompt is %q", got)
	}
}

func TestGoogleResponseModes(t *testing.T) {
	w := newWorld(t)
	u, err := url.Parse(w.authorize(Google, "response_mode=fragment").header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := url.ParseQuery(u.Fragment); v.Get("code") == "" || v.Get("state") != "S" || u.Query().Has("code") {
		t.Errorf("fragment mode: %s", u)
	}
	r := w.authorize(Google, "response_mode=form_post")
	if r.status != http.StatusOK || !strings.Contains(r.body, `action="`+callback+`"`) || !strings.Contains(r.body, `name="code" value="4/0A`) {
		t.Errorf("form_post: %d %s", r.status, r.body)
	}
}

// Google shows a page for what is wrong with a request, so that nobody's browser is sent to a wrong address.
func TestGoogleRefusesWithAPageAndNoRedirect(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		change string
		status int
		code   string
	}{
		"no client":             {"client_id=", 400, "invalid_request"},
		"unknown client":        {"client_id=nobody", 401, "invalid_client"},
		"another's client":      {"client_id=gh-client", 401, "invalid_client"},
		"no redirect URI":       {"redirect_uri=", 400, "redirect_uri_mismatch"},
		"longer redirect URI":   {"redirect_uri=" + callback + "&x=y", 400, "redirect_uri_mismatch"},
		"redirect URI, case":    {"redirect_uri=" + strings.ToUpper(callback), 400, "redirect_uri_mismatch"},
		"no response type":      {"response_type=", 400, "invalid_request"},
		"implicit grant":        {"response_type=token", 400, "unsupported_response_type"},
		"unknown response mode": {"response_mode=x", 400, "invalid_request"},
		"no scope":              {"scope=", 400, "invalid_request"},
		"unknown scope":         {"scope=openid nonsense", 400, "invalid_scope"},
		"unknown access type":   {"access_type=x", 400, "invalid_request"},
		"unknown PKCE method":   {"code_challenge_method=S512", 400, "invalid_request"},
		"method, no challenge":  {"code_challenge=", 400, "invalid_request"},
		"prompt=login":          {"prompt=login", 400, "invalid_request"},
		"prompt none and more":  {"prompt=none consent", 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.authorize(Google, c.change)
			if r.status != c.status || r.header.Get("Location") != "" || !strings.Contains(r.body, c.code) || !strings.Contains(r.body, "Simulated Google – sandbox") {
				t.Errorf("%d %q %s", r.status, r.header.Get("Location"), r.body)
			}
			if got := r.header.Get("Content-Type"); !strings.HasPrefix(got, "text/html") {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

func TestGooglePromptNone(t *testing.T) {
	w := newWorld(t, withoutAuto)
	values, _ := w.authorize(Google, "prompt=none").callback()
	if values.Get("error") != "login_required" || values.Get("state") != "S" {
		t.Errorf("nobody is signed in: %v", values)
	}
	w = newWorld(t)
	values, _ = w.authorize(Google, "prompt=none").callback()
	if values.Get("error") != "consent_required" {
		t.Errorf("nothing was allowed: %v", values)
	}
	w.code(Google)
	w.code(Google, "prompt=none")
}

func TestGoogleToken(t *testing.T) {
	w := newWorld(t)
	r := w.redeem(Google, w.code(Google, "login_hint=bob"))
	got := r.object()
	id := claims(t, r.text("id_token"))
	for _, key := range []string{"access_token", "id_token"} {
		delete(got, key)
	}
	if d := cmp.Diff(map[string]any{"expires_in": json.Number("3599"), "scope": googleScopesGranted, "token_type": "Bearer"}, got); d != "" {
		t.Error(d)
	}
	if r.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be cached")
	}
	if _, ok := id["at_hash"].(string); !ok {
		t.Error("no at_hash")
	}
	delete(id, "at_hash")
	bob := w.people.byName["bob"].Google
	now := float64(w.now().Unix())
	want := map[string]any{
		"iss": w.GoogleURL(), "azp": "g-client", "aud": "g-client", "sub": bob.Sub, "hd": "example.com", "email": bob.Email, "email_verified": true,
		"nonce": "N", "name": bob.Name, "given_name": "Bob", "family_name": "Stone", "picture": bob.Picture, "iat": now, "exp": now + 3600,
	}
	if d := cmp.Diff(want, id); d != "" {
		t.Error(d)
	}
}

func TestGoogleSaysWhatTheScopesAllow(t *testing.T) {
	w := newWorld(t)
	id := claims(t, w.redeem(Google, w.code(Google, "scope=openid")).text("id_token"))
	if id["email"] != nil || id["email_verified"] != nil || id["name"] != nil {
		t.Errorf("openid alone: %v", id)
	}
	r := w.redeem(Google, w.code(Google, "scope=email"))
	if r.object()["id_token"] != nil || r.text("scope") != googleEmailScope {
		t.Errorf("email alone: %s", r.body)
	}
	if got := w.profile(Google, r.text("access_token")).object(); got["email"] == nil || got["name"] != nil {
		t.Errorf("email alone: %v", got)
	}
	r = w.redeem(Google, w.code(Google, "scope=openid", "include_granted_scopes=true"))
	if got := r.text("scope"); !strings.Contains(got, googleEmailScope) {
		t.Errorf("include_granted_scopes: %s", got)
	}
	if uma := claims(t, w.redeem(Google, w.code(Google, "login_hint=uma")).text("id_token")); uma["email_verified"] != false {
		t.Errorf("uma's email_verified is %v, want false and not absent", uma["email_verified"])
	}
}

func TestGoogleTokenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		changes     []string
		status      int
		code, about string
	}{
		"no client":          {[]string{"client_id="}, 400, "invalid_request", "client ID"},
		"unknown client":     {[]string{"client_id=nobody"}, 401, "invalid_client", "The OAuth client was not found."},
		"wrong secret":       {[]string{"client_secret=x"}, 401, "invalid_client", "secret"},
		"no secret":          {[]string{"client_secret="}, 401, "invalid_client", "secret"},
		"no grant type":      {[]string{"grant_type="}, 400, "invalid_request", "grant_type"},
		"unknown grant type": {[]string{"grant_type=password"}, 400, "unsupported_grant_type", "password"},
		"no code":            {[]string{"code="}, 400, "invalid_request", "code"},
		"unknown code":       {[]string{"code=4/0Ax"}, 400, "invalid_grant", "Malformed auth code."},
		"another's code":     {[]string{"client_id=g-other", "client_secret=g-other-secret"}, 400, "invalid_grant", "Malformed auth code."},
		"other redirect URI": {[]string{"redirect_uri=https://broker.example/second"}, 400, "redirect_uri_mismatch", "Bad Request"},
		"no redirect URI":    {[]string{"redirect_uri="}, 400, "redirect_uri_mismatch", "Bad Request"},
		"no verifier":        {[]string{"code_verifier="}, 400, "invalid_grant", "Missing code verifier."},
		"wrong verifier":     {[]string{"code_verifier=" + verifier + "x"}, 400, "invalid_grant", "Invalid code verifier."},
		"challenge for it":   {[]string{"code_verifier=" + challenge}, 400, "invalid_grant", "Invalid code verifier."},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			code := w.code(Google)
			r := w.redeem(Google, code, c.changes...)
			if r.status != c.status || r.text("error") != c.code || !strings.Contains(r.text("error_description"), c.about) {
				t.Errorf("%d %s", r.status, r.body)
			}
			// A redemption that failed its checks did not use up the code.
			if r := w.redeem(Google, code); r.status != http.StatusOK {
				t.Errorf("the code is gone: %s", r.body)
			}
		})
	}
}

func TestGoogleCodeIsUsedOnceAndExpires(t *testing.T) {
	w := newWorld(t)
	code := w.code(Google)
	w.redeem(Google, code)
	if r := w.redeem(Google, code); r.status != 400 || r.text("error") != "invalid_grant" || r.text("error_description") != "Bad Request" {
		t.Errorf("used: %d %s", r.status, r.body)
	}
	code = w.code(Google)
	w.pass(codeLife - time.Second)
	if r := w.redeem(Google, code); r.status != http.StatusOK {
		t.Errorf("just in time: %s", r.body)
	}
	code = w.code(Google)
	w.pass(codeLife)
	if r := w.redeem(Google, code); r.status != 400 || r.text("error") != "invalid_grant" {
		t.Errorf("expired: %d %s", r.status, r.body)
	}
}

func TestGooglePKCEPlainAndWithout(t *testing.T) {
	w := newWorld(t)
	code := w.code(Google, "code_challenge="+verifier, "code_challenge_method=plain")
	if r := w.redeem(Google, code); r.status != http.StatusOK {
		t.Errorf("plain: %s", r.body)
	}
	none := []string{"code_challenge=", "code_challenge_method="}
	if r := w.redeem(Google, w.code(Google, none...), "code_verifier="); r.status != http.StatusOK {
		t.Errorf("without: %s", r.body)
	}
	// A verifier where the challenge got lost on the way is an error, not ignored: a PKCE downgrade shows.
	if r := w.redeem(Google, w.code(Google, none...)); r.text("error_description") != "code_verifier or verifier is not needed." {
		t.Errorf("verifier without challenge: %s", r.body)
	}
}

func TestGoogleRefreshTokens(t *testing.T) {
	w := newWorld(t)
	refresh := func(changes ...string) string {
		return w.redeem(Google, w.code(Google, changes...)).text("refresh_token")
	}
	if refresh() != "" {
		t.Error("a refresh token without offline access")
	}
	if refresh("access_type=offline") != "" {
		t.Error("a refresh token although no consent was shown")
	}
	first := refresh("access_type=offline", "prompt=consent")
	if !strings.HasPrefix(first, "1//0g") {
		t.Fatalf("prompt=consent: %q", first)
	}
	if refresh("access_type=offline", "login_hint=bob") == "" {
		t.Error("none the first time")
	}
	form := q(googleRedeem, "grant_type=refresh_token", "refresh_token="+first)
	r := w.post(w.GoogleURL()+"/token", form)
	if r.status != http.StatusOK || r.object()["refresh_token"] != nil || r.text("scope") != googleScopesGranted {
		t.Errorf("refresh: %d %s", r.status, r.body)
	}
	if id := claims(t, r.text("id_token")); id["nonce"] != nil {
		t.Error("the ID token of a refresh has a nonce")
	}
	if r := w.post(w.GoogleURL()+"/token", form); r.status != http.StatusOK {
		t.Error("a refresh token is not rotated, so it works again")
	}
	stolen := q(form, "client_id=g-other", "client_secret=g-other-secret")
	for name, f := range map[string]url.Values{"another client's": stolen, "unknown": q(form, "refresh_token=1//0gx")} {
		if r := w.post(w.GoogleURL()+"/token", f); r.status != 400 || r.text("error") != "invalid_grant" || r.text("error_description") != "Token has been expired or revoked." {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	w.pass(googleRefreshLife)
	if r := w.post(w.GoogleURL()+"/token", form); r.text("error") != "invalid_grant" {
		t.Errorf("after six months: %s", r.body)
	}
}

func TestGoogleRefreshTokensOfAnAppInTesting(t *testing.T) {
	w := newWorld(t)
	other := []string{"client_id=g-other", "client_secret=g-other-secret"}
	r := w.redeem(Google, w.code(Google, "client_id=g-other", "access_type=offline"), other...)
	if got := r.object()["refresh_token_expires_in"]; got != json.Number("604799") {
		t.Errorf("refresh_token_expires_in is %v", got)
	}
	w.pass(7 * 24 * time.Hour)
	form := q(googleRedeem, append(other, "grant_type=refresh_token", "refresh_token="+r.text("refresh_token"))...)
	if r := w.post(w.GoogleURL()+"/token", form); r.text("error") != "invalid_grant" {
		t.Errorf("after seven days: %s", r.body)
	}
}

func TestGoogleRevocationEndsTheWholeGrant(t *testing.T) {
	for _, kind := range []string{"access_token", "refresh_token"} {
		w := newWorld(t)
		r := w.redeem(Google, w.code(Google, "access_type=offline"))
		another := w.token(Google)
		revoked := w.post(w.GoogleURL()+"/revoke", url.Values{"token": {r.text(kind)}})
		if revoked.status != http.StatusOK || revoked.body != "{}" {
			t.Errorf("%s: %d %s", kind, revoked.status, revoked.body)
		}
		again := w.post(w.GoogleURL()+"/revoke", url.Values{"token": {r.text(kind)}})
		if again.status != 400 || again.text("error") != "invalid_token" || again.text("error_description") != "Token expired or revoked" {
			t.Errorf("%s again: %d %s", kind, again.status, again.body)
		}
		for _, token := range []string{r.text("access_token"), another} {
			if got := w.profile(Google, token); got.status != http.StatusUnauthorized {
				t.Errorf("%s: a token lives on: %d", kind, got.status)
			}
		}
		if values, _ := w.authorize(Google).callback(); values.Get("prompt") != "consent" {
			t.Error("consent is remembered")
		}
	}
}

func TestGoogleUserinfo(t *testing.T) {
	w := newWorld(t)
	token := w.token(Google, "login_hint=bob")
	bob := w.people.byName["bob"].Google
	want := map[string]any{"sub": bob.Sub, "hd": "example.com", "email": bob.Email, "email_verified": true, "name": bob.Name, "given_name": "Bob", "family_name": "Stone", "picture": bob.Picture}
	for name, r := range map[string]reply{
		"header": w.profile(Google, token),
		"query":  w.get(w.GoogleURL() + "/v1/userinfo?access_token=" + token),
		"form":   w.post(w.GoogleURL()+"/v1/userinfo", url.Values{"access_token": {token}}),
	} {
		if d := cmp.Diff(want, r.object()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	bad := func(r reply) {
		t.Helper()
		if r.status != 401 || r.body != `{"error":"invalid_request","error_description":"Invalid Credentials"}` || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	bad(w.profile(Google, "ya29.nonsense"))
	bad(w.get(w.GoogleURL() + "/v1/userinfo"))
	w.pass(googleTokenLife)
	bad(w.profile(Google, token))
	if r := w.do(http.MethodPut, w.GoogleURL()+"/v1/userinfo", nil); r.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", r.status)
	}
}

func TestGoogleMetadataAndKeys(t *testing.T) {
	w := newWorld(t)
	r := w.get(w.GoogleURL() + "/.well-known/openid-configuration")
	m := r.object()
	if m["issuer"] != w.GoogleURL() || m["authorization_response_iss_parameter_supported"] != true || !strings.Contains(r.header.Get("Cache-Control"), "max-age=") {
		t.Errorf("%s %v", r.body, r.header)
	}
	if d := cmp.Diff([]any{"RS256"}, m["id_token_signing_alg_values_supported"]); d != "" {
		t.Error(d)
	}
	r = w.get(w.GoogleURL() + "/oauth2/v3/certs")
	if !strings.Contains(r.header.Get("Cache-Control"), "max-age=") || strings.Contains(r.body, `"d"`) {
		t.Errorf("keys: %v %s", r.header, r.body)
	}
}

// The key is the one that was given, so that a restart does not surprise who cached the key set; without one, a key is made.
func TestGoogleKeyIsKeptOverARestart(t *testing.T) {
	keys := func(o func(*Options)) string {
		w := newWorld(t, o)
		return w.get(w.GoogleURL() + "/oauth2/v3/certs").body
	}
	given := keys(func(*Options) {})
	if keys(func(*Options) {}) != given {
		t.Error("another key after a restart")
	}
	if made := keys(func(o *Options) { o.Key = nil }); made == given || !strings.Contains(made, `"kid"`) {
		t.Errorf("made %s", made)
	}
}
