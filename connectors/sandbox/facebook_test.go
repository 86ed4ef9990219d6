package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// graphErr is the nested error object of an answer.
func (r reply) graphErr() graphError {
	r.t.Helper()
	var body struct {
		Error graphError `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		r.t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	return body.Error
}

func (r reply) wantGraphErr(code, subcode int, kind, about string) {
	r.t.Helper()
	e := r.graphErr()
	if r.status != http.StatusBadRequest || e.Code != code || e.Subcode != subcode || e.Type != kind || !strings.Contains(e.Message, about) || e.Trace == "" {
		r.t.Errorf("%d %s, want 400, %d/%d %s", r.status, r.body, code, subcode, about)
	}
}

func proof(secret, token string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestFacebookCallback(t *testing.T) {
	w := newWorld(t)
	values, fragment := w.authorize(Facebook).callback()
	if !strings.HasPrefix(values.Get("code"), "AQ") || fragment != "_=_" {
		t.Errorf("code %q, fragment %q", values.Get("code"), fragment)
	}
	values.Del("code")
	if d := cmp.Diff(url.Values{"connector": {"x"}, "state": {"S"}}, values); d != "" {
		t.Error(d)
	}
	values, _ = w.authorize(Facebook, "return_scopes=true").callback()
	if values.Get("granted_scopes") != "public_profile,email" {
		t.Errorf("return_scopes: %v", values)
	}
	for _, version := range []string{"v2.10", "v19.0", "v26.0"} {
		if r := w.get(w.FacebookURL() + "/" + version + "/dialog/oauth?" + facebookRequest.Encode()); r.status != http.StatusFound {
			t.Errorf("%s: %d", version, r.status)
		}
	}
}

func TestFacebookRefusesWithAPageAndNoRedirect(t *testing.T) {
	w := newWorld(t)
	for _, c := range [][2]string{
		{"client_id=9", "Invalid App ID"},
		{"client_id=", "Invalid App ID"},
		{"redirect_uri=https://evil.example/", "URL blocked"},
		{"redirect_uri=", "URL blocked"},
		{"response_type=token", "response_type"},
		{"scope=email,nonsense", "Invalid Scopes: nonsense"},
	} {
		r := w.authorize(Facebook, c[0])
		if r.status != http.StatusBadRequest || r.header.Get("Location") != "" || !strings.Contains(r.body, c[1]) {
			t.Errorf("%s: %d %s", c[0], r.status, r.body)
		}
	}
	for _, version := range []string{"26", "vx", "v0.0"} {
		if r := w.get(w.FacebookURL() + "/" + version + "/dialog/oauth?" + facebookRequest.Encode()); r.status != http.StatusNotFound {
			t.Errorf("%s: %d", version, r.status)
		}
	}
}

func TestFacebookToken(t *testing.T) {
	w := newWorld(t)
	for name, r := range map[string]reply{
		"GET":             w.redeem(Facebook, w.code(Facebook)),
		"POST":            w.post(w.FacebookGraphURL()+"/v26.0/oauth/access_token", q(facebookRedeem, "code="+w.code(Facebook))),
		"grant type":      w.redeem(Facebook, w.code(Facebook), "grant_type=authorization_code"),
		"without version": w.post(w.FacebookGraphURL()+"/oauth/access_token", q(facebookRedeem, "code="+w.code(Facebook))),
	} {
		m := r.object()
		token, _ := m["access_token"].(string)
		delete(m, "access_token")
		if d := cmp.Diff(map[string]any{"token_type": "bearer", "expires_in": json.Number("5183944")}, m); d != "" || !strings.HasPrefix(token, "EAAG") {
			t.Errorf("%s: %s", name, r.body)
		}
	}
}

func TestFacebookTokenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		changes       []string
		code, subcode int
		about         string
	}{
		"no app":             {[]string{"client_id="}, 101, 0, "Missing client_id parameter."},
		"unknown app":        {[]string{"client_id=9"}, 101, 0, "Error validating application."},
		"wrong secret":       {[]string{"client_secret=x"}, 1, 0, "Error validating client secret."},
		"no redirect URI":    {[]string{"redirect_uri="}, 191, 0, "redirect_uri"},
		"no code":            {[]string{"code="}, 1, 0, "code"},
		"unknown code":       {[]string{"code=x"}, 100, 0, "Invalid verification code format."},
		"another's code":     {[]string{"client_id=313", "client_secret=fb-other-secret"}, 100, 0, "Invalid verification code format."},
		"other redirect URI": {[]string{"redirect_uri=https://broker.example/second"}, 100, 36008, "redirect_uri"},
		"PKCE verifier":      {[]string{"code_verifier=" + verifier}, 1, 0, "without a code_challenge"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			// A challenge is dropped without a word, as by the real dialog.
			code := w.code(Facebook, "code_challenge="+challenge, "code_challenge_method=S256")
			w.redeem(Facebook, code, c.changes...).wantGraphErr(c.code, c.subcode, "OAuthException", c.about)
			if r := w.redeem(Facebook, code); r.status != http.StatusOK {
				t.Errorf("the code is gone: %s", r.body)
			}
		})
	}
}

func TestFacebookCodeIsUsedOnceAndExpires(t *testing.T) {
	w := newWorld(t)
	code := w.code(Facebook)
	w.redeem(Facebook, code)
	r := w.redeem(Facebook, code)
	r.wantGraphErr(100, 36009, "OAuthException", "This authorization code has been used.")
	if got := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `OAuth "Facebook Platform" "invalid_code"`) {
		t.Errorf("WWW-Authenticate %q", got)
	}
	code = w.code(Facebook)
	w.pass(codeLife)
	w.redeem(Facebook, code).wantGraphErr(100, 36007, "OAuthException", "This authorization code has expired.")
}

func TestFacebookHasItsOwnHTTPBasic(t *testing.T) {
	w := newWorld(t)
	// It reads no Authorization header at its token endpoint, which x/oauth2 finds out by trying.
	r := w.post(w.FacebookGraphURL()+"/v26.0/oauth/access_token", url.Values{"code": {w.code(Facebook)}, "redirect_uri": {callback}}, "Authorization: Basic MzEyOmZiLXNlY3JldA==")
	r.wantGraphErr(101, 0, "OAuthException", "client_id")
}

func TestFacebookMe(t *testing.T) {
	w := newWorld(t)
	token := w.token(Facebook)
	ann := w.people.byName["ann"].Facebook
	shown := map[string]any{"data": map[string]any{"height": json.Number("50"), "is_silhouette": false, "url": ann.Picture, "width": json.Number("50")}}
	me := w.FacebookGraphURL() + "/v26.0/me"
	for fields, want := range map[string]map[string]any{
		"":                                {"id": ann.ID, "name": "Ann Lee"},
		"email":                           {"id": ann.ID, "email": ann.Email},
		"first_name, last_name":           {"id": ann.ID, "first_name": "Ann", "last_name": "Lee"},
		"picture.type(large){url},name":   {"id": ann.ID, "name": "Ann Lee", "picture": shown},
		"picture{url,width}":              {"id": ann.ID, "picture": shown},
		"link,about,id,location,birthday": {"id": ann.ID}, // withheld without a word
	} {
		r := w.get(me + "?" + url.Values{"fields": {fields}, "access_token": {token}}.Encode())
		if d := cmp.Diff(want, r.object()); d != "" {
			t.Errorf("%q: %s", fields, d)
		}
	}
	w.get(me+"?fields=id,nonsense&access_token="+token).wantGraphErr(100, 0, "OAuthException", "(#100) Tried accessing nonexisting field (nonsense)")
	for _, scheme := range []string{"Bearer", "OAuth"} {
		if r := w.get(me, "Authorization: "+scheme+" "+token); r.status != http.StatusOK {
			t.Errorf("%s: %d", scheme, r.status)
		}
	}
	r := w.get(w.FacebookGraphURL() + "/me?access_token=" + token)
	if r.status != http.StatusOK {
		t.Errorf("without version: %d", r.status)
	}
	if !json.Valid([]byte(r.header.Get("X-App-Usage"))) || r.header.Get("X-Fb-Trace-Id") == "" {
		t.Errorf("headers: %v", r.header)
	}
	w.get(w.FacebookGraphURL()+"/v0/me?access_token="+token).wantGraphErr(2500, 0, "OAuthException", "Unknown path components")
}

// An address that is not there is absent, not null; and it takes the permission.
func TestFacebookEmailIsAbsent(t *testing.T) {
	w := newWorld(t)
	for name, changes := range map[string][]string{
		"cleo has none":     {"login_hint=cleo"},
		"no permission":     {"scope=public_profile"},
		"no scope at all":   {"scope="},
		"mallory's is left": {"login_hint=mallory", "scope=public_profile"},
	} {
		r := w.profile(Facebook, w.token(Facebook, changes...))
		if _, there := r.object()["email"]; there {
			t.Errorf("%s: %s", name, r.body)
		}
	}
}

func TestFacebookAppSecretProof(t *testing.T) {
	w := newWorld(t)
	token := w.token(Facebook)
	me := w.FacebookGraphURL() + "/v26.0/me?access_token="
	if r := w.get(me + token + "&appsecret_proof=" + proof("fb-secret", token)); r.status != http.StatusOK {
		t.Errorf("right: %d %s", r.status, r.body)
	}
	for _, p := range []string{"x", proof("x", token), proof("fb-secret", "x"), strings.ToUpper(proof("fb-secret", token))} {
		w.get(me+token+"&appsecret_proof="+p).wantGraphErr(100, 0, "GraphMethodException", "Invalid appsecret_proof provided in the API argument")
	}
	other := []string{"client_id=313", "client_secret=fb-other-secret"}
	strict := w.redeem(Facebook, w.code(Facebook, "client_id=313"), other...).text("access_token")
	w.get(me+strict).wantGraphErr(100, 0, "GraphMethodException", "require an appsecret_proof")
	if r := w.get(me + strict + "&appsecret_proof=" + proof("fb-other-secret", strict)); r.status != http.StatusOK {
		t.Errorf("required and given: %d %s", r.status, r.body)
	}
}

func TestFacebookTokensThatDoNotWork(t *testing.T) {
	w := newWorld(t)
	w.profile(Facebook, "").wantGraphErr(2500, 0, "OAuthException", "An active access token must be used")
	w.profile(Facebook, "x").wantGraphErr(190, 0, "OAuthException", "Invalid OAuth access token")
	token, another := w.token(Facebook), w.token(Facebook)
	r := w.do(http.MethodDelete, w.FacebookGraphURL()+"/v26.0/me/permissions?access_token="+token, nil)
	if r.status != http.StatusOK || r.body != `{"success":true}` {
		t.Errorf("revoke: %d %s", r.status, r.body)
	}
	for _, token := range []string{token, another} {
		w.profile(Facebook, token).wantGraphErr(190, 458, "OAuthException", "has not authorized application 312")
	}
	token = w.token(Facebook)
	w.pass(facebookTokenLife)
	r = w.profile(Facebook, token)
	r.wantGraphErr(190, 463, "OAuthException", "Session has expired on")
	if got := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `OAuth "Facebook Platform" "invalid_token"`) {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

func TestFacebookPermissions(t *testing.T) {
	w := newWorld(t)
	r := w.get(w.FacebookGraphURL() + "/v26.0/me/permissions?access_token=" + w.token(Facebook))
	want := `{"data":[{"permission":"public_profile","status":"granted"},{"permission":"email","status":"granted"}]}`
	if r.body != want {
		t.Errorf("%s", r.body)
	}
}

func TestFacebookLongLivedExchangeAndAppTokens(t *testing.T) {
	w := newWorld(t)
	token := w.token(Facebook)
	form := url.Values{"client_id": {"312"}, "client_secret": {"fb-secret"}, "grant_type": {"fb_exchange_token"}, "fb_exchange_token": {token}}
	at := w.FacebookGraphURL() + "/v26.0/oauth/access_token?"
	long := w.get(at + form.Encode())
	if long.text("access_token") == token || w.profile(Facebook, long.text("access_token")).status != http.StatusOK {
		t.Errorf("exchange: %s", long.body)
	}
	w.get(at+q(form, "fb_exchange_token=x").Encode()).wantGraphErr(190, 0, "OAuthException", "Invalid OAuth access token")
	w.get(at+q(form, "client_id=313", "client_secret=fb-other-secret").Encode()).wantGraphErr(190, 0, "OAuthException", "application")
	app := w.get(at + q(form, "grant_type=client_credentials").Encode())
	if !strings.HasPrefix(app.text("access_token"), "312|") || strings.Contains(app.body, "fb-secret") {
		t.Errorf("app token: %s", app.body)
	}
}

// A client that is handed a token by someone asks debug_token whose it is: the answer to token substitution.
func TestFacebookDebugToken(t *testing.T) {
	w := newWorld(t)
	token := w.token(Facebook, "login_hint=cleo")
	issued := w.now()
	debug := func(input, by string) reply {
		return w.get(w.FacebookGraphURL() + "/v26.0/debug_token?" + url.Values{"input_token": {input}, "access_token": {by}}.Encode())
	}
	handedOut := w.get(w.FacebookGraphURL() + "/v26.0/oauth/access_token?client_id=312&client_secret=fb-secret&grant_type=client_credentials").text("access_token")
	for name, by := range map[string]string{"id|secret": "312|fb-secret", "app token": handedOut, "a person's": token} {
		r := debug(token, by)
		data, _ := r.object()["data"].(map[string]any)
		want := map[string]any{
			"app_id": "312", "type": "USER", "application": "312", "is_valid": true, "scopes": []any{"public_profile", "email"},
			"user_id": w.people.byName["cleo"].Facebook.ID, "issued_at": number(issued), "expires_at": number(issued.Add(facebookTokenLife)),
			"data_access_expires_at": number(issued.Add(facebookDataLife)),
		}
		if d := cmp.Diff(want, data); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	debug(token, "312|x").wantGraphErr(190, 0, "OAuthException", "Invalid OAuth access token")
	debug(token, "").wantGraphErr(190, 0, "OAuthException", "Invalid OAuth access token")
	debug("", "312|fb-secret").wantGraphErr(100, 0, "OAuthException", "input_token")
	// Another app's token is refused, not described.
	debug(token, "313|fb-other-secret").wantGraphErr(100, 0, "GraphMethodException", "appsecret_proof")
	r := w.get(w.FacebookGraphURL() + "/v26.0/debug_token?" + url.Values{
		"input_token": {token}, "access_token": {"313|fb-other-secret"}, "appsecret_proof": {proof("fb-other-secret", "313|fb-other-secret")},
	}.Encode())
	r.wantGraphErr(100, 0, "OAuthException", "did not match the Viewing App")
	invalid := func(input string, subcode any) {
		t.Helper()
		data, _ := debug(input, "312|fb-secret").object()["data"].(map[string]any)
		e, _ := data["error"].(map[string]any)
		if data["is_valid"] != false || e["code"] != json.Number("190") || e["subcode"] != subcode {
			t.Errorf("%v", data)
		}
	}
	invalid("x", nil)
	w.pass(facebookTokenLife)
	invalid(token, json.Number("463"))
	token = w.token(Facebook)
	w.do(http.MethodDelete, w.FacebookGraphURL()+"/v26.0/me/permissions?access_token="+token, nil)
	invalid(token, json.Number("458"))
}

func number(t time.Time) json.Number {
	b, _ := json.Marshal(t.Unix())
	return json.Number(b)
}
