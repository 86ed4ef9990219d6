package sandbox

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
)

// signIn goes through a sign-in and returns each step's answer; a step that failed ends it.
func (w *world) walk(p Provider) (callback url.Values, token, profile reply) {
	w.t.Helper()
	callback, _ = w.authorize(p).callback()
	if callback.Get("code") == "" {
		return callback, token, profile
	}
	token = w.redeem(p, callback.Get("code"))
	if token.status != http.StatusOK || !json.Valid([]byte(token.body)) || token.text("access_token") == "" {
		return callback, token, profile
	}
	return callback, token, w.profile(p, token.text("access_token"))
}

// Each fault, at each provider that has it: it happens, as the real provider would have it, and it happens once.
func TestEveryFaultAtEveryProvider(t *testing.T) {
	type judge func(t *testing.T, w *world, callback url.Values, token, profile reply)
	oauthError := func(code string) judge {
		return func(t *testing.T, _ *world, _ url.Values, token, _ reply) {
			if token.text("error") != code {
				t.Errorf("token endpoint: %d %s", token.status, token.body)
			}
		}
	}
	graph := func(code, subcode int) judge {
		return func(_ *testing.T, _ *world, _ url.Values, token, _ reply) {
			token.wantGraphErr(code, subcode, "OAuthException", "")
		}
	}
	status := func(want int) judge {
		return func(t *testing.T, _ *world, _ url.Values, token, _ reply) {
			if token.status != want {
				t.Errorf("token endpoint: %d %s", token.status, token.body)
			}
		}
	}
	broken := func(t *testing.T, _ *world, _ url.Values, token, _ reply) {
		if token.status != http.StatusOK || json.Valid([]byte(token.body)) {
			t.Errorf("token endpoint: %d %s", token.status, token.body)
		}
	}
	late := func(t *testing.T, w *world, _ url.Values, token, _ reply) {
		if d := cmp.Diff([]time.Duration{DefaultDelay}, w.slept); d != "" || token.status != http.StatusOK {
			t.Errorf("%s; token endpoint: %d", d, token.status)
		}
	}
	denied := func(want url.Values) judge {
		want.Set("error", "access_denied")
		want.Set("state", "S")
		want.Set("connector", "x")
		return func(t *testing.T, _ *world, callback url.Values, _, _ reply) {
			if d := cmp.Diff(want, callback); d != "" {
				t.Error(d)
			}
		}
	}
	otherIssuer := func(t *testing.T, _ *world, callback url.Values, _, _ reply) {
		if callback.Get("iss") != wrongIssuer {
			t.Errorf("callback: %v", callback)
		}
	}
	claim := func(key string, good func(any) bool) judge {
		return func(t *testing.T, _ *world, _ url.Values, token, _ reply) {
			if v := claims(t, token.text("id_token"))[key]; good(v) {
				t.Errorf("%s is %v", key, v)
			}
		}
	}
	noEmail := func(t *testing.T, w *world, _ url.Values, token, profile reply) {
		if strings.Contains(profile.body, "ann.lee") || profile.status != http.StatusOK {
			t.Errorf("profile: %d %s", profile.status, profile.body)
		}
		if id := token.text("id_token"); id != "" && claims(t, id)["email"] != nil {
			t.Error("the ID token has an address")
		}
	}
	tests := map[Provider]map[string]judge{
		Google: {
			faultDeny: denied(url.Values{}), faultExpiredCode: oauthError("invalid_grant"), faultUsedCode: oauthError("invalid_grant"),
			faultSlow: late, faultServerError: status(502), faultMalformed: broken, faultRateLimit: status(429),
			faultWrongISS:      otherIssuer,
			faultWrongTokenISS: claim("iss", func(v any) bool { return v != wrongIssuer }),
			faultWrongNonce:    claim("nonce", func(v any) bool { return v == "N" || v == nil }),
			faultNoEmail:       noEmail,
			faultRotatedKeys: func(t *testing.T, w *world, _ url.Values, token, _ reply) {
				ctx := oidc.ClientContext(t.Context(), w.client)
				keys := oidc.NewRemoteKeySet(ctx, w.GoogleURL()+"/oauth2/v3/certs")
				if _, err := keys.VerifySignature(ctx, token.text("id_token")); err != nil {
					t.Errorf("the new key is not in the set: %v", err)
				}
				old, err := newSigningKey(testKey())
				if err != nil {
					t.Fatal(err)
				}
				if w.get(w.GoogleURL()+"/oauth2/v3/certs").body == string(old.jwks) || strings.HasPrefix(token.text("id_token"), old.header) {
					t.Error("the old key is still in use")
				}
			},
		},
		GitHub: {
			faultDeny: denied(url.Values{
				"error_description": {"The user has denied your application access."},
				"error_uri":         {githubAuthDocs + "#access-denied"},
			}),
			faultExpiredCode: oauthError("bad_verification_code"), faultUsedCode: oauthError("bad_verification_code"),
			faultSlow: late, faultServerError: status(502), faultMalformed: broken, faultWrongISS: otherIssuer,
			faultUnverifiedEmail: oauthError("unverified_user_email"),
			faultRateLimit: func(t *testing.T, _ *world, _ url.Values, _, profile reply) {
				if profile.status != http.StatusForbidden || profile.header.Get("X-RateLimit-Remaining") != "0" || !strings.Contains(profile.text("message"), "rate limit exceeded") {
					t.Errorf("%d %s %v", profile.status, profile.body, profile.header)
				}
			},
			faultNoEmail: func(t *testing.T, w *world, c url.Values, token, profile reply) {
				noEmail(t, w, c, token, profile)
				if r := w.emails(token.text("access_token"), ""); r.body != "[]" {
					t.Errorf("emails: %s", r.body)
				}
			},
		},
		Facebook: {
			faultDeny:        denied(url.Values{"error_code": {"200"}, "error_description": {"Permissions error"}, "error_reason": {"user_denied"}}),
			faultExpiredCode: graph(100, 36007), faultUsedCode: graph(100, 36009), faultSlow: late, faultServerError: status(500),
			faultMalformed: broken, faultNoEmail: noEmail,
			faultRateLimit: func(t *testing.T, w *world, c url.Values, token, profile reply) {
				graph(4, 0)(t, w, c, token, profile)
				if !strings.Contains(token.header.Get("X-App-Usage"), `"call_count":100`) {
					t.Errorf("%v", token.header)
				}
			},
		},
	}
	for _, p := range Providers() {
		for _, name := range FaultNames(p) {
			t.Run(string(p)+" "+name, func(t *testing.T) {
				judge := tests[p][name]
				if judge == nil {
					t.Fatal("has no test")
				}
				w := newWorld(t)
				if r := w.arm(`{"provider":"` + string(p) + `","fault":"` + name + `"}`); r.status != http.StatusOK {
					t.Fatalf("arming: %d %s", r.status, r.body)
				}
				for _, other := range Providers() {
					if other == p {
						continue
					}
					if _, _, profile := w.walk(other); profile.status != http.StatusOK || len(w.Armed()) != 1 {
						t.Errorf("it touched %s", other)
					}
				}
				callback, token, profile := w.walk(p)
				judge(t, w, callback, token, profile)
				if armed := w.Armed(); len(armed) != 0 {
					t.Errorf("still armed: %v", armed)
				}
				if _, _, profile := w.walk(p); profile.status != http.StatusOK || len(w.slept) > 1 {
					t.Errorf("it happened again: %d %s", profile.status, profile.body)
				}
			})
		}
	}
}

func TestDenialKeepsFacebooksFragment(t *testing.T) {
	w := newWorld(t)
	if err := w.Arm(Facebook, Fault{Name: faultDeny}); err != nil {
		t.Fatal(err)
	}
	if _, fragment := w.authorize(Facebook).callback(); fragment != "_=_" {
		t.Errorf("fragment %q", fragment)
	}
}

func TestFaultsHappenSoManyTimes(t *testing.T) {
	w := newWorld(t)
	denials := func() (n int) {
		for range 5 {
			if values, _ := w.authorize(GitHub).callback(); values.Get("error") != "" {
				n++
			}
		}
		return n
	}
	for times, want := range map[int]int{0: 1, 1: 1, 3: 3, UntilDisarmed: 5} {
		if err := w.Arm(GitHub, Fault{Name: faultDeny, Times: times}); err != nil {
			t.Fatal(err)
		}
		if got := denials(); got != want {
			t.Errorf("times %d: %d denials, want %d", times, got, want)
		}
		w.Disarm(GitHub, faultDeny)
	}
	if got := denials(); got != 0 {
		t.Errorf("disarmed: %d denials", got)
	}
	// Arming again replaces: two faults of one name do not add up.
	for range 2 {
		if err := w.Arm(GitHub, Fault{Name: faultDeny, Times: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if got := denials(); got != 2 {
		t.Errorf("armed twice: %d denials", got)
	}
}

// A fault can be narrowed to a kind of call; metadata and keys fail only if named, for clients cache them.
func TestFaultsAtAKindOfCall(t *testing.T) {
	w := newWorld(t)
	google, github, facebook := w.token(Google), w.token(GitHub), w.token(Facebook)
	call := map[Provider]map[string]func() reply{
		Google: {
			atToken: func() reply { return w.redeem(Google, "x") }, atProfile: func() reply { return w.profile(Google, google) },
			atDiscovery: func() reply { return w.get(w.GoogleURL() + "/.well-known/openid-configuration") },
			atKeys:      func() reply { return w.get(w.GoogleURL() + "/oauth2/v3/certs") },
		},
		GitHub: {
			atToken: func() reply { return w.redeem(GitHub, "x") }, atProfile: func() reply { return w.profile(GitHub, github) },
			atEmails: func() reply { return w.emails(github, "") },
		},
		Facebook: {atToken: func() reply { return w.redeem(Facebook, "x") }, atProfile: func() reply { return w.profile(Facebook, facebook) }},
	}
	for _, p := range Providers() {
		kinds, signIn := calls(p)
		if len(kinds) != len(call[p]) {
			t.Errorf("%s: kinds of calls without a test: %v", p, kinds)
		}
		for _, at := range append([]string{""}, kinds...) {
			if err := w.Arm(p, Fault{Name: faultServerError, Times: UntilDisarmed, At: at}); err != nil {
				t.Fatal(err)
			}
			for _, kind := range kinds {
				want := at == kind || at == "" && slices.Contains(kinds[:signIn], kind)
				if r := call[p][kind](); (r.status >= 500) != want {
					t.Errorf("%s at %q: %s answered %d", p, at, kind, r.status)
				}
			}
			w.Disarm(p, "")
		}
	}
	for p, want := range map[Provider]int{GitHub: 429, Google: 429, Facebook: 400} {
		if err := w.Arm(p, Fault{Name: faultRateLimit, At: atToken}); err != nil {
			t.Fatal(err)
		}
		if r := call[p][atToken](); r.status != want {
			t.Errorf("%s: rate limit at the token endpoint: %d", p, r.status)
		}
	}
	if err := w.Arm(Google, Fault{Name: faultRateLimit, At: atProfile}); err != nil {
		t.Fatal(err)
	}
	if r := call[Google][atProfile](); r.status != 429 || !strings.Contains(r.body, "RESOURCE_EXHAUSTED") {
		t.Errorf("Google's API: %d %s", r.status, r.body)
	}
}

// A caller that gives up ends the wait: a slow fault holds no goroutine after it.
func TestSlowEndsWithTheRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	w := newWorld(t, func(o *Options) {
		o.Sleep = func(ctx context.Context, d time.Duration) error {
			close(began)
			err := sleep(ctx, d)
			ended <- err
			return err
		}
	})
	if err := w.Arm(Google, Fault{Name: faultSlow, Delay: maxDelay}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.GoogleURL()+"/token", strings.NewReader(googleRedeem.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	go func() {
		<-began
		cancel()
	}()
	if res, err := w.client.Do(r); err == nil {
		res.Body.Close()
		t.Error("an answer to who gave up")
	}
	if err := <-ended; err == nil {
		t.Error("the wait was sat out")
	}
}

func TestSlowWaitsAsLongAsToldAndFaultsCombine(t *testing.T) {
	w := newWorld(t)
	w.arm(`{"provider":"github","fault":"slow","delay":"1500ms","at":"token"}`)
	w.arm(`{"provider":"github","fault":"server_error"}`)
	if r := w.redeem(GitHub, w.code(GitHub)); r.status != 502 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if d := cmp.Diff([]time.Duration{1500 * time.Millisecond}, w.slept); d != "" {
		t.Error(d)
	}
}

// What is misspelt arms nothing, and the answer lists what there is.
func TestUnknownFaultsAreRefused(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]string{
		`{"provider":"apple","fault":"deny"}`:                  "google, github, facebook",
		`{"fault":"deny"}`:                                     "google, github, facebook",
		`{"provider":"github","fault":"explode"}`:              quoted(FaultNames(GitHub)),
		`{"provider":"github"}`:                                quoted(FaultNames(GitHub)),
		`{"provider":"facebook","fault":"wrong_iss"}`:          quoted(FaultNames(Facebook)),
		`{"provider":"github","fault":"slow","at":"keys"}`:     "token, profile, emails",
		`{"provider":"github","fault":"deny","at":"token"}`:    "cannot be narrowed",
		`{"provider":"github","fault":"deny","delay":"1s"}`:    "only slow",
		`{"provider":"github","fault":"slow","delay":"1h"}`:    "at most 1m0s",
		`{"provider":"github","fault":"slow","delay":"-1s"}`:   "at most 1m0s",
		`{"provider":"github","fault":"slow","delay":"soon"}`:  "1500ms",
		`{"provider":"github","fault":"deny","times":-2}`:      "times",
		`{"provider":"github","fault":"deny","times":1000001}`: "times",
		`{"provider":"github","fault":"deny","tims":1}`:        "tims",
		`{"provider":`:                       "must be like",
		`provider=github&fault=deny&times=x`: "times",
		`provider=%zz`:                       "form",
		`{"provider":"github","fault":"deny","times":"1"}`:                "must be like",
		`{"provider":"google","fault":"unverified_user_email","times":1}`: quoted(FaultNames(Google)),
	} {
		r := w.arm(body)
		if r.status != http.StatusBadRequest || !strings.Contains(r.text("error"), want) {
			t.Errorf("%s: %d %s, want %s", body, r.status, r.body, want)
		}
	}
	for _, query := range []string{"?provider=apple", "?fault=explode", "?provider=facebook&fault=wrong_iss"} {
		if r := w.do(http.MethodDelete, w.base+"/sandbox/faults"+query, nil); r.status != http.StatusBadRequest {
			t.Errorf("DELETE %s: %d", query, r.status)
		}
	}
	if armed := w.Armed(); len(armed) != 0 {
		t.Errorf("armed: %v", armed)
	}
}

func TestFaultsThroughHTTP(t *testing.T) {
	w := newWorld(t)
	type list struct {
		Armed  []armedView
		Faults []faultView
	}
	read := func(r reply) (l list) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.body), &l); err != nil || r.status != http.StatusOK {
			t.Fatalf("%d %s: %v", r.status, r.body, err)
		}
		return l
	}
	w.arm(`{"provider":"github","fault":"deny","times":2}`)
	w.arm(`{"provider":"github","fault":"slow","times":-1,"delay":"2s","at":"emails"}`)
	got := read(w.arm(`{"provider":"google","fault":"wrong_nonce"}`))
	want := []armedView{
		{Provider: GitHub, Fault: faultDeny, Times: 2},
		{Provider: GitHub, Fault: faultSlow, Times: -1, Delay: "2s", At: atEmails},
		{Provider: Google, Fault: faultWrongNonce, Times: 1},
	}
	if d := cmp.Diff(want, got.Armed); d != "" {
		t.Error(d)
	}
	if got := read(w.get(w.base + "/sandbox/faults")); len(got.Faults) != len(faultRules()) || len(got.Armed) != 3 {
		t.Errorf("GET: %+v", got)
	}
	remove := func(query string, left int) {
		t.Helper()
		if got := read(w.do(http.MethodDelete, w.base+"/sandbox/faults"+query, nil)); len(got.Armed) != left || got.Armed == nil {
			t.Errorf("DELETE %s: %+v", query, got.Armed)
		}
	}
	remove("?provider=github&fault=slow", 2)
	remove("?fault=wrong_nonce", 1)
	remove("?provider=facebook", 1)
	remove("", 0)
}

// A page of the web, opened by the developer, must not arm or disarm what runs on their machine.
func TestFaultsCannotBeArmedAcrossOrigins(t *testing.T) {
	w := newWorld(t)
	const evil = "Origin: https://evil.example"
	for _, r := range []reply{
		w.do(http.MethodPost, w.base+"/sandbox/faults", strings.NewReader(`{"provider":"github","fault":"deny"}`), "Content-Type: text/plain", evil),
		w.post(w.base+"/sandbox/faults", url.Values{"provider": {"github"}, "fault": {"deny"}}, "Sec-Fetch-Site: cross-site", evil),
		w.post(w.base+"/sandbox/disarm", nil, evil),
		w.do(http.MethodDelete, w.base+"/sandbox/faults", nil, evil),
	} {
		if r.status != http.StatusForbidden {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if len(w.Armed()) != 0 {
		t.Error("armed")
	}
}

func TestTheControlPage(t *testing.T) {
	w := newWorld(t)
	form := url.Values{"provider": {"google"}, "fault": {"slow"}, "times": {"-1"}, "at": {""}, "delay": {"2s"}}
	r := w.post(w.base+"/sandbox/faults", form, "Origin: "+w.base)
	if r.status != http.StatusSeeOther || r.header.Get("Location") != "/sandbox/" {
		t.Fatalf("arming: %d %s", r.status, r.body)
	}
	page := w.get(w.base + "/sandbox/")
	for _, want := range []string{"until disarmed", "<td>2s</td>", "ann.lee@gmail.com", "@mallory", "&lt;b&gt;", "unverified_user_email"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(page.body, "<script") || strings.Contains(page.body, "<b>&amp;</b>") {
		t.Error("a script, or otto's markup, on the page")
	}
	r = w.post(w.base+"/sandbox/disarm", url.Values{"provider": {"google"}, "fault": {"slow"}}, "Origin: "+w.base)
	if r.status != http.StatusSeeOther || len(w.Armed()) != 0 {
		t.Errorf("disarming: %d %v", r.status, w.Armed())
	}
	if r := w.get(w.base + "/"); r.header.Get("Location") != "/sandbox/" {
		t.Errorf("the root: %d %v", r.status, r.header)
	}
	if r := w.get(w.base + "/sandbox/style.css"); r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/css") {
		t.Errorf("style: %d", r.status)
	}
}
