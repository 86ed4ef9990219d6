package broker_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/throttle"
	"github.com/portico-id/portico/config"
)

// The clients of these tests: an app on TVs, a confidential one of the operator's own, and one that may do nothing but this.
var (
	TV  = Client{ID: "tv"}
	Box = Client{ID: "box", Secret: "box-secret-0123456789-0123456789-0123456789"}
)

const deviceGrant = registry.GrantDeviceCode

// withDevices registers them.
func withDevices(cfg *config.Config) {
	cfg.Clients = append(cfg.Clients,
		config.Client{
			ClientID: TV.ID, Public: true, Name: "Acme TV", Website: "https://tv.example.com",
			Scopes: []string{"openid", "profile", "email", "offline_access"}, GrantTypes: []string{deviceGrant, "refresh_token"},
		},
		config.Client{
			ClientID: Box.ID, ClientSecret: config.NewSecret(Box.Secret), Name: "Own Box", FirstParty: true,
			Scopes: []string{"openid", "profile", "offline_access"}, GrantTypes: []string{deviceGrant},
		})
}

// waitingDevice is a device that shows a code.
type waitingDevice struct {
	t      *testing.T
	e      *Env
	client Client
	*Response
}

// startDevice asks for a code.
func startDevice(t *testing.T, e *Env, c Client, edits ...string) *waitingDevice {
	t.Helper()
	form := url.Values{"scope": {"openid offline_access"}}
	for i := 0; i+1 < len(edits); i += 2 {
		form.Set(edits[i], edits[i+1])
	}
	d := &waitingDevice{t: t, e: e, client: c, Response: e.Post(t, "/device_authorization", c, form)}
	if d.Status != http.StatusOK {
		t.Fatalf("no codes: %d %v", d.Status, d.Body)
	}
	return d
}

// poll asks for the tokens, as the device does.
func (d *waitingDevice) poll() *Response { return d.pollAs(d.client) }

func (d *waitingDevice) pollAs(c Client) *Response {
	d.t.Helper()
	return d.e.Post(d.t, "/token", c, url.Values{"grant_type": {deviceGrant}, "device_code": {d.String("device_code")}})
}

// want polls and checks the error.
func (d *waitingDevice) want(code string) {
	d.t.Helper()
	if r := d.poll(); r.Status != http.StatusBadRequest || r.String("error") != code || r.String("error_description") == "" {
		d.t.Errorf("the poll gets %d %v, want %s", r.Status, r.Body, code)
	}
}

// confirm goes to the page that asks for the person's word: code, provider, persona.
func (d *waitingDevice) confirm(b *Browser) *Page {
	d.t.Helper()
	page := b.Get(d.String("verification_uri"))
	page.Forms[0].Fields.Set("user_code", d.String("user_code"))
	return toConfirm(d.t, b, page.Submit(0, "Continue"))
}

// toConfirm signs in, always by the first button, until a page offers to say no.
func toConfirm(t *testing.T, b *Browser, page *Page) *Page {
	t.Helper()
	for range 12 {
		switch location := page.Location(); {
		case location != nil:
			page = b.Get(location.String())
		case page.Status >= http.StatusBadRequest || len(page.Forms) == 0:
			t.Fatalf("the way to the confirmation ended at %s (%d):\n%s", page.URL, page.Status, page.Body)
		case slices.ContainsFunc(page.Forms[0].Buttons, func(b Button) bool { return b.Name == "decision" }):
			return page
		default:
			page = page.Submit(0, "")
		}
	}
	t.Fatalf("the way to the confirmation did not end; it is at %s", page.URL)
	return nil
}

// answer presses a button of the confirmation, and goes on to the page that says what came of it.
func answer(b *Browser, page *Page, decision string) *Page {
	for page = page.Submit(0, decision); page.Location() != nil; {
		page = b.Get(page.Location().String())
	}
	return page
}

// approve connects the device, in a new browser.
func (d *waitingDevice) approve() {
	d.t.Helper()
	b := NewBrowser(d.t)
	if done := answer(b, d.confirm(b), "allow"); done.Status != http.StatusOK || !strings.Contains(done.Body, "You are connected") {
		d.t.Fatalf("allowing ended at %s (%d):\n%s", done.URL, done.Status, done.Body)
	}
}

func TestAPersonConnectsADevice(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV, "scope", "openid profile email offline_access", "nonce", "n-1")
		code := d.String("user_code")
		if len(code) != 9 || code[4] != '-' || strings.Trim(code, "BCDFGHJKLMNPQRSTVWXZ-") != "" {
			t.Errorf("the user code is %q", code)
		}
		if d.String("verification_uri") != e.Issuer+"/device" || d.String("verification_uri_complete") != e.Issuer+"/device?user_code="+code {
			t.Errorf("the URIs are %q and %q", d.String("verification_uri"), d.String("verification_uri_complete"))
		}
		if d.Body["expires_in"] != 600.0 || d.Body["interval"] != 5.0 || d.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("the response is %v %v", d.Header, d.Body)
		}
		d.want("authorization_pending")

		b := NewBrowser(t)
		page := d.confirm(b)
		for _, part := range []string{"Acme TV", "tv.example.com", code, "127.0.0.1", "Go-http-client", "less than a minute ago", "See your name and picture", "See your email address"} {
			if !strings.Contains(page.Body, part) {
				t.Errorf("the confirmation does not say %q:\n%s", part, page.Body)
			}
		}
		e.Clock.Advance(5 * time.Second)
		d.want("authorization_pending") // nothing is given before the person's word
		done := answer(b, page, "allow")
		if !strings.Contains(done.Body, "You are connected") || !strings.Contains(done.Body, "Acme TV") {
			t.Errorf("the last page is\n%s", done.Body)
		}
		if again := b.Get(done.URL.String()); again.Body != done.Body {
			t.Error("a reload of the last page shows something else")
		}

		tokens := d.poll()
		if tokens.Status != http.StatusOK || tokens.String("refresh_token") == "" || tokens.String("scope") != "openid profile email offline_access" {
			t.Fatalf("the device gets %d %v", tokens.Status, tokens.Body)
		}
		if info := e.Userinfo(t, tokens.String("access_token")); info.String("sub") == "" || info.String("email") == "" {
			t.Errorf("userinfo says %v", info.Body)
		}
		claims := Claims(t, tokens.String("id_token"))
		if claims["nonce"] != "n-1" || claims["aud"] != TV.ID || claims["sid"] != nil {
			t.Errorf("the ID token says %v", claims)
		}
		if r := e.Refresh(t, TV, tokens.String("refresh_token")); r.Status != http.StatusOK {
			t.Errorf("refresh: %d %v", r.Status, r.Body)
		}
		if !strings.Contains(e.Logs.String(), `"kind":"device.approved"`) {
			t.Error("no event says that a device was approved")
		}
		for _, secret := range []string{d.String("device_code"), code, strings.ReplaceAll(code, "-", ""), tokens.String("access_token")} {
			if strings.Contains(e.Logs.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	}, withDevices)
}

func TestWithoutOfflineAccessADeviceGetsNoRefreshToken(t *testing.T) {
	e := Start(t, withDevices)
	for _, d := range []*waitingDevice{
		startDevice(t, e, TV, "scope", "openid"),
		startDevice(t, e, Box), // asks for offline_access, and is not registered for refresh_token
	} {
		d.approve()
		if r := d.poll(); r.Status != http.StatusOK || r.String("refresh_token") != "" {
			t.Errorf("%s gets %d %v", d.client.ID, r.Status, r.Body)
		}
	}
}

// A device that shows a key gets tokens for that key alone (RFC 9449 section 5), as with any other grant.
func TestADevicesTokensAreBoundToTheKeyThatItPollsWith(t *testing.T) {
	e := Start(t, withDevices, func(cfg *config.Config) {
		cfg.Clients[len(cfg.Clients)-1].DPoPBoundAccessTokens = true
	})
	poll := func(d *waitingDevice, key *Key) *Response {
		header := http.Header{}
		if key != nil {
			header = key.TokenHeader(e)
		}
		return e.PostWith(t, "/token", d.client, url.Values{"grant_type": {deviceGrant}, "device_code": {d.String("device_code")}}, header)
	}
	key, other := e.NewKey(t), e.NewKey(t)
	d := startDevice(t, e, TV)
	d.approve()
	tokens := poll(d, key)
	if tokens.Status != http.StatusOK || tokens.String("token_type") != "DPoP" {
		t.Fatalf("a poll with a proof gets %d %v", tokens.Status, tokens.Body)
	}
	if r := e.Userinfo(t, tokens.String("access_token")); r.Status != http.StatusUnauthorized {
		t.Errorf("the token works without the key: %d", r.Status)
	}
	if r := e.UserinfoWith(t, key.UserinfoHeader(e, tokens.String("access_token"))); r.Status != http.StatusOK {
		t.Errorf("the token does not work with the key: %d %v", r.Status, r.Body)
	}
	if r := refreshWith(t, e, TV, tokens.String("refresh_token"), other.TokenHeader(e)); r.String("error") != "invalid_grant" {
		t.Errorf("the refresh token works with another key: %d %v", r.Status, r.Body)
	}
	if r := refreshWith(t, e, TV, tokens.String("refresh_token"), key.TokenHeader(e)); r.Status != http.StatusOK {
		t.Errorf("the refresh token does not work with its key: %d %v", r.Status, r.Body)
	}
	// A client of bound tokens that forgets its proof has not spent its code.
	d = startDevice(t, e, Box)
	d.approve()
	if r := poll(d, nil); r.String("error") != "invalid_dpop_proof" {
		t.Errorf("without a proof: %d %v", r.Status, r.Body)
	}
	if r := poll(d, key); r.Status != http.StatusOK || r.String("token_type") != "DPoP" {
		t.Errorf("with one: %d %v", r.Status, r.Body)
	}
}

// A device may ask for a fresh sign-in, for a way to sign in, for single claims (OpenID Connect Core sections 3.1.2.1, 5.5). It may not ask
// that nobody is asked.
func TestADeviceMayAskHowAPersonSignsIn(t *testing.T) {
	e := Start(t, withDevices)
	b := NewBrowser(t)
	e.SignIn(t, b, Web, "idp_hint", "google")
	e.Clock.Advance(time.Hour)
	d := startDevice(t, e, TV, "max_age", "60", "prompt", "none", "scope", "openid", "claims", `{"id_token":{"email":null}}`)
	page := b.Get(d.String("verification_uri_complete")).Submit(0, "")
	if page.Location() != nil || len(page.Forms) == 0 || page.Forms[0].Buttons[0].Name != "connector" {
		t.Fatalf("an old session answers max_age=60: %d\n%s", page.Status, page.Body)
	}
	page = toConfirm(t, b, page)
	if !strings.Contains(page.Body, "See your email address") {
		t.Errorf("the confirmation does not say what the claims are:\n%s", page.Body)
	}
	answer(b, page, "allow")
	if claims := Claims(t, d.poll().String("id_token")); claims["email"] == nil || claims["name"] != nil {
		t.Errorf("the ID token says %v", claims)
	}
	d = startDevice(t, e, TV, "claims", `{"id_token":{"acr":{"essential":true,"values":["urn:portico:acr:mfa"]}}}`)
	page = b.Get(d.String("verification_uri_complete")).Submit(0, "")
	for range 6 {
		if location := page.Location(); location != nil {
			page = b.Get(location.String())
		} else if !strings.Contains(page.Body, "Nothing was connected") {
			page = page.Submit(0, "")
		}
	}
	if !strings.Contains(page.Body, "a stronger way to sign in") {
		t.Errorf("an acr that nobody can meet ends at %d\n%s", page.Status, page.Body)
	}
	d.want("authorization_pending")
	if r := e.Post(t, "/device_authorization", TV, url.Values{"scope": {"openid"}, "max_age": {"soon"}}); r.String("error") != "invalid_request" {
		t.Errorf("max_age=soon: %d %v", r.Status, r.Body)
	}
}

// What a device asks for is judged when it asks, said to the person in the api's words, and what its tokens are for (RFC 8707, RFC 9396).
func TestADevicesTokensAreForTheAPIThatWasNamed(t *testing.T) {
	e := Start(t, withDevices, withAPIs)
	d := startDevice(t, e, TV, "scope", "openid notes:read", "resource", notesAPI)
	b := NewBrowser(t)
	page := d.confirm(b)
	if !strings.Contains(page.Body, "Read your &lt;notes&gt;") {
		t.Errorf("the confirmation does not say it in the api's words:\n%s", page.Body)
	}
	answer(b, page, "allow")
	access := d.poll().String("access_token")
	if in := introspect(t, e, notesHost, access); in["active"] != true || in["scope"] != "notes:read" || in.audience() != notesAPI {
		t.Errorf("introspection says %v", in)
	}
	// A payment is a person's to confirm, with all that it says, though no scope comes with it.
	d = &waitingDevice{t: t, e: e, client: TV, Response: e.Post(t, "/device_authorization", TV, url.Values{"authorization_details": {allowedPay}})}
	if d.Status != http.StatusOK {
		t.Fatalf("authorization_details: %d %v", d.Status, d.Body)
	}
	page = d.confirm(b) // signed in already
	for _, part := range []string{"Make a payment from your account", "12.00 EUR"} {
		if !strings.Contains(page.Body, part) {
			t.Errorf("the confirmation does not say %q:\n%s", part, page.Body)
		}
	}
	answer(b, page, "allow")
	if r := d.poll(); r.Status != http.StatusOK || r.Body["authorization_details"] == nil {
		t.Errorf("the device gets %d %v", r.Status, r.Body)
	}
	for name, form := range map[string]url.Values{
		"invalid_target":                {"scope": {"openid"}, "resource": {"https://api.example.com/nothing"}},
		"invalid_scope":                 {"scope": {"mail:read"}, "resource": {notesAPI}},
		"invalid_authorization_details": {"authorization_details": {`[{"type":"payment"}]`}},
	} {
		if r := e.Post(t, "/device_authorization", TV, form); r.Status != http.StatusBadRequest || r.String("error") != name {
			t.Errorf("%v: %d %v, want %s", form, r.Status, r.Body, name)
		}
	}
}

// Behind a load balancer each poll meets another node. One interval, one answer, one redemption hold across them.
func TestADevicePollsOverTwoNodes(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		elsewhere := *d
		elsewhere.e = e.Node(t)
		d.want("authorization_pending")
		elsewhere.want("slow_down")
		e.Clock.Advance(10 * time.Second)
		elsewhere.want("authorization_pending")
		d.approve()
		var got, n atomic.Int64
		storetest.Race(50, func() {
			from := d
			if n.Add(1)%2 == 0 {
				from = &elsewhere
			}
			if r := from.poll(); r.Status == http.StatusOK {
				got.Add(1)
			} else if r.String("error") != "invalid_grant" {
				t.Errorf("unexpected answer: %d %v", r.Status, r.Body)
			}
		})
		if got.Load() != 1 {
			t.Errorf("%d polls got tokens, want 1", got.Load())
		}
	}, withDevices)
}

// What the device may do is no part of the browser's session in which it was allowed.
func TestSigningOutOfTheBrowserLeavesTheDeviceConnected(t *testing.T) {
	e := Start(t, withDevices)
	d := startDevice(t, e, TV, "scope", "openid")
	b := NewBrowser(t)
	answer(b, d.confirm(b), "allow")
	access := d.poll().String("access_token")
	if out := b.Get(e.Issuer+"/logout").Submit(0, ""); out.Status != http.StatusOK {
		t.Fatalf("signing out: %d", out.Status)
	}
	if r := e.Userinfo(t, access); r.Status != http.StatusOK {
		t.Errorf("userinfo answers the device %d", r.Status)
	}
}

func TestADeviceIsToldThatThePersonSaidNo(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		b := NewBrowser(t)
		if done := answer(b, d.confirm(b), "deny"); !strings.Contains(done.Body, "You did not allow") {
			t.Errorf("the last page is\n%s", done.Body)
		}
		d.want("access_denied")
		d.want("access_denied")
		if !strings.Contains(e.Logs.String(), `"kind":"device.denied"`) {
			t.Error("no event says that a device was denied")
		}
	}, withDevices)
}

// Somebody who saw a device code polls a hundred times at once after the person said yes. Exactly one poll gets tokens, and the others take
// them away: whoever was too late may have been the device.
func TestOfAHundredPollsOneGetsTokensAndTheOthersRevokeThem(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		d.approve()
		var mu sync.Mutex
		var won []*Response
		var refused atomic.Int64
		storetest.Race(100, func() {
			switch r := d.poll(); {
			case r.Status == http.StatusOK:
				mu.Lock()
				won = append(won, r)
				mu.Unlock()
			case r.Status == http.StatusBadRequest && r.String("error") == "invalid_grant":
				refused.Add(1)
			default:
				t.Errorf("unexpected answer: %d %v", r.Status, r.Body)
			}
		})
		if len(won) != 1 || refused.Load() != 99 {
			t.Fatalf("%d polls got tokens and %d were refused, want 1 and 99", len(won), refused.Load())
		}
		if e.Userinfo(t, won[0].String("access_token")).Status != http.StatusUnauthorized {
			t.Error("the access token works after its device code was replayed")
		}
		if r := e.Refresh(t, TV, won[0].String("refresh_token")); r.String("error") != "invalid_grant" {
			t.Errorf("the refresh token works after its device code was replayed: %d %v", r.Status, r.Body)
		}
	}, withDevices)
}

// A replay after the device has its tokens: refused, and the tokens end, as with codes (RFC 6749 section 4.1.2).
func TestAReplayedDeviceCodeRevokesTheGrant(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		d.approve()
		tokens := d.poll()
		if e.Userinfo(t, tokens.String("access_token")).Status != http.StatusOK {
			t.Fatal("the first poll's token does not work")
		}
		if r := d.pollAs(Box); r.String("error") != "invalid_grant" {
			t.Errorf("another client's replay: %d %v", r.Status, r.Body)
		}
		if e.Userinfo(t, tokens.String("access_token")).Status != http.StatusOK {
			t.Error("another client can end the device's tokens")
		}
		d.want("invalid_grant")
		if e.Userinfo(t, tokens.String("access_token")).Status != http.StatusUnauthorized {
			t.Error("the token works after a replay")
		}
	}, withDevices)
}

func TestADeviceThatPollsTooOftenIsSlowedDown(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		after := func(wait time.Duration, want string) {
			t.Helper()
			e.Clock.Advance(wait)
			d.want(want)
		}
		after(0, "authorization_pending")
		after(5*time.Second, "authorization_pending")
		after(2*time.Second, "slow_down")              // 10 s from now on
		after(6*time.Second, "slow_down")              // 15 s
		after(7*time.Second, "authorization_pending")  // 15 s after the last that counted
		after(14*time.Second, "slow_down")             // 20 s
		after(20*time.Second, "authorization_pending") // a device that keeps to it is never slowed down again
		after(20*time.Second, "authorization_pending")
		// Once there is an answer, nobody has to wait for it.
		d.approve()
		if r := d.poll(); r.Status != http.StatusOK {
			t.Errorf("the answer: %d %v", r.Status, r.Body)
		}
	}, withDevices)
}

// Another client polls with a device code that it saw. It learns nothing, gets nothing, and spoils nothing.
func TestADeviceCodeIsOfNoUseToAnotherClient(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		for range 5 {
			if r := d.pollAs(Box); r.String("error") != "invalid_grant" {
				t.Errorf("before the answer: %d %v", r.Status, r.Body)
			}
		}
		d.want("authorization_pending") // not slow_down: the stranger's polls do not count as the device's
		d.approve()
		if r := d.pollAs(Box); r.String("error") != "invalid_grant" {
			t.Errorf("after the answer: %d %v", r.Status, r.Body)
		}
		if r := d.pollAs(Client{ID: Box.ID, Secret: "wrong"}); r.Status != http.StatusUnauthorized {
			t.Errorf("with a wrong secret: %d %v", r.Status, r.Body)
		}
		if r := d.pollAs(Web); r.String("error") != "unauthorized_client" {
			t.Errorf("a client without the grant type: %d %v", r.Status, r.Body)
		}
		if r := d.poll(); r.Status != http.StatusOK {
			t.Errorf("the device itself: %d %v", r.Status, r.Body)
		}
	}, withDevices)
}

func TestStrangeDeviceCodesAreRefused(t *testing.T) {
	e := Start(t, withDevices)
	d := startDevice(t, e, TV)
	d.approve()
	good := d.String("device_code")
	code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
	for name, c := range map[string]struct{ code, want string }{
		"none":                  {"", "invalid_request"},
		"the user code":         {d.String("user_code"), "invalid_grant"},
		"cut short":             {good[:len(good)-1], "invalid_grant"},
		"a byte more":           {good + "A", "invalid_grant"},
		"in upper case":         {strings.ToUpper(good), "invalid_grant"},
		"an authorization code": {code, "invalid_grant"},
		"a code's version":      {"pac1" + good[4:], "invalid_grant"},
		"a letter changed":      {strings.Replace(good, good[20:21], "x", 1), "invalid_grant"},
	} {
		r := e.Post(t, "/token", TV, url.Values{"grant_type": {deviceGrant}, "device_code": {c.code}})
		if r.String("error") != c.want {
			t.Errorf("%s: %d %v, want %s", name, r.Status, r.Body, c.want)
		}
	}
	r := e.Post(t, "/token", Web, url.Values{"grant_type": {"authorization_code"}, "code": {good}, "redirect_uri": {Web.RedirectURI}, "code_verifier": {Verifier}})
	if r.String("error") != "invalid_grant" {
		t.Errorf("a device code redeemed as a code: %d %v", r.Status, r.Body)
	}
	if r := d.poll(); r.Status != http.StatusOK {
		t.Errorf("after all these the device gets %d %v", r.Status, r.Body)
	}
}

func TestDeviceAuthorizationRequestsAreJudgedLikeOthers(t *testing.T) {
	e := Start(t, withDevices)
	for name, c := range map[string]struct {
		client Client
		form   url.Values
		status int
		want   string
	}{
		"no scope":                      {TV, url.Values{}, 400, "invalid_scope"},
		"a scope that does not exist":   {TV, url.Values{"scope": {"openid admin"}}, 400, "invalid_scope"},
		"a scope of others":             {Box, url.Values{"scope": {"email"}}, 400, "invalid_scope"},
		"a scope twice":                 {TV, url.Values{"scope": {"openid", "openid"}}, 400, "invalid_request"},
		"a client without the grant":    {Web, url.Values{"scope": {"openid"}}, 400, "unauthorized_client"},
		"no client":                     {Client{}, url.Values{"scope": {"openid"}}, 401, "invalid_client"},
		"an unknown client":             {Client{ID: "nobody"}, url.Values{"scope": {"openid"}}, 401, "invalid_client"},
		"a confidential client, silent": {Client{ID: Box.ID}, url.Values{"scope": {"openid"}}, 401, "invalid_client"},
		"a wrong secret":                {Client{ID: Box.ID, Secret: "wrong"}, url.Values{"scope": {"openid"}}, 401, "invalid_client"},
	} {
		if r := e.Post(t, "/device_authorization", c.client, c.form); r.Status != c.status || r.String("error") != c.want {
			t.Errorf("%s: %d %v, want %d %s", name, r.Status, r.Body, c.status, c.want)
		}
	}
}

// A link with the code in it (verification_uri_complete) is what a phisher sends (RFC 8628 section 5.4). It fills the code in. It
// begins nothing, and for a person who is signed in and has agreed to the app before, the confirmation still stands in between.
func TestALinkWithTheCodeSkipsNothing(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		for _, c := range []Client{TV, Box} { // Box is the operator's own, whose people are not asked for consent elsewhere
			b := NewBrowser(t)
			before := startDevice(t, e, c)
			answer(b, before.confirm(b), "allow")
			before.poll()

			d := startDevice(t, e, c)
			page := b.Get(d.String("verification_uri_complete"))
			if page.Status != http.StatusOK || page.Forms[0].Fields.Get("user_code") != d.String("user_code") || strings.Contains(page.Body, "allow") {
				t.Fatalf("the link shows %d:\n%s", page.Status, page.Body)
			}
			d.want("authorization_pending")
			confirmation := toConfirm(t, b, page.Submit(0, "Continue"))
			if !strings.Contains(confirmation.Body, d.String("user_code")) || !strings.Contains(confirmation.Body, "Nobody from us will ever send you a code") {
				t.Errorf("the confirmation is\n%s", confirmation.Body)
			}
			e.Clock.Advance(5 * time.Second)
			d.want("authorization_pending")
		}
	}, withDevices)
}

// Whatever else is in the link stays out of the page.
func TestALinkWithAStrangeCodeFillsNothingIn(t *testing.T) {
	e := Start(t, withDevices)
	for _, code := range []string{"call 555 0100", `"><b>x`, "VXZB-MJH", strings.Repeat("W", 500)} {
		page := NewBrowser(t).Get(e.Issuer + "/device?" + url.Values{"user_code": {code}}.Encode())
		if page.Status != http.StatusOK || page.Forms[0].Fields.Get("user_code") != "" || strings.Contains(page.Body, code) {
			t.Errorf("%q shows %d:\n%s", code, page.Status, page.Body)
		}
	}
}

// Saying yes to a device is no consent to what the same app may do elsewhere, for whoever was tricked once.
func TestAnAnswerToADeviceIsNotRemembered(t *testing.T) {
	e := Start(t, withDevices, func(cfg *config.Config) {
		cfg.Clients[0].GrantTypes = append(cfg.Clients[0].GrantTypes, deviceGrant)
	})
	b := NewBrowser(t)
	d := startDevice(t, e, Web)
	answer(b, d.confirm(b), "allow")
	if got := e.Code(t, b, Web, "prompt", "none").Get("error"); got != "consent_required" {
		t.Errorf("prompt=none answers %q, want consent_required", got)
	}
}

// The person's browser began the flow; another one has its address, as from a shared link.
func TestAnotherBrowserCannotAnswer(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		b := NewBrowser(t)
		page := d.confirm(b)
		other := NewBrowser(t)
		if p := other.Get(page.URL.String()); p.Status != http.StatusForbidden {
			t.Errorf("another browser sees the confirmation: %d", p.Status)
		}
		if p := other.Post(e.Issuer+page.Forms[0].Action, url.Values{"decision": {"allow"}}); p.Status != http.StatusForbidden {
			t.Errorf("another browser answers: %d\n%s", p.Status, p.Body)
		}
		d.want("authorization_pending")
		if done := answer(b, page, "allow"); done.Status != http.StatusOK {
			t.Errorf("the browser itself: %d", done.Status)
		}
	}, withDevices)
}

// Another website posts the forms in the person's name (CSRF), with their cookies.
func TestAnotherSiteCannotEnterOrAnswer(t *testing.T) {
	e := Start(t, withDevices)
	d := startDevice(t, e, TV)
	b := NewBrowser(t)
	page := d.confirm(b)
	for path, form := range map[string]url.Values{
		"/device":                     {"user_code": {d.String("user_code")}},
		page.Forms[0].Action:          {"decision": {"allow"}},
		page.Forms[1].Action:          {},
		page.Forms[0].Action + "?x=1": {"decision": {"deny"}},
	} {
		for name, headers := range map[string][2]string{
			"by fetch metadata": {"Sec-Fetch-Site", "cross-site"}, "a sibling": {"Sec-Fetch-Site", "same-site"}, "by origin": {"Origin", "https://evil.example.com"},
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Issuer+path, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set(headers[0], headers[1])
			response, err := b.Client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: %d, want 403", path, name, response.StatusCode)
			}
		}
	}
	d.want("authorization_pending")
	// Nor does a link answer.
	if p := b.Get(e.Issuer + page.Forms[0].Action + "?decision=allow"); p.Status != http.StatusMethodNotAllowed && p.Status != http.StatusNotFound {
		t.Errorf("a GET of the answer: %d", p.Status)
	}
	e.Clock.Advance(5 * time.Second)
	d.want("authorization_pending")
	for decision := range map[string]bool{"": true, "yes": true, "ALLOW": true} {
		b.Post(e.Issuer+page.Forms[0].Action, url.Values{"decision": {decision}})
	}
	e.Clock.Advance(5 * time.Second)
	d.want("authorization_pending")
}

// Two people have the same code before them: one answer counts. The one who was slower is told, and has changed nothing.
func TestACodeIsAnsweredOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		one, two := NewBrowser(t), NewBrowser(t)
		first, second := d.confirm(one), d.confirm(two)
		answer(one, first, "deny")
		if late := answer(two, second, "allow"); late.Status != http.StatusGone {
			t.Errorf("a second answer shows %d:\n%s", late.Status, late.Body)
		}
		if late := two.Get(second.URL.String()); late.Status != http.StatusGone {
			t.Errorf("a page for an answered code shows %d", late.Status)
		}
		d.want("access_denied")
		// The browser that answered changes its mind with the page it still has.
		if again := answer(one, first, "allow"); !strings.Contains(again.Body, "You did not allow") {
			t.Errorf("the browser that said no, pressing yes afterwards, sees %d:\n%s", again.Status, again.Body)
		}
		d.want("access_denied")
		// The code itself is over.
		page := NewBrowser(t).Get(e.Issuer + "/device")
		page.Forms[0].Fields.Set("user_code", d.String("user_code"))
		if p := page.Submit(0, ""); p.Status != http.StatusBadRequest || !strings.Contains(p.Body, "No device waits with this code") {
			t.Errorf("an answered code leads to %d", p.Status)
		}
	}, withDevices)
}

// The button pressed twenty times at once, and a no among them from another tab: one answer, and every page tells the same.
func TestAnAnswerPressedTwiceIsOneAnswer(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		b := NewBrowser(t)
		page := d.confirm(b)
		storetest.Race(20, func() {
			if done := answer(b, page, "allow"); done.Status != http.StatusOK || !strings.Contains(done.Body, "You are connected") {
				t.Errorf("one of the answers shows %d:\n%s", done.Status, done.Body)
			}
		})
		if n := strings.Count(e.Logs.String(), `"kind":"device.approved"`); n != 1 {
			t.Errorf("%d events say that a device was approved", n)
		}
		if r := d.poll(); r.Status != http.StatusOK {
			t.Errorf("the device gets %d %v", r.Status, r.Body)
		}
	}, withDevices)
}

func TestACodeOfADeviceExpires(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		entered, left := startDevice(t, e, TV), startDevice(t, e, TV)
		b := NewBrowser(t)
		page := entered.confirm(b)
		e.Clock.Advance(10 * time.Minute)
		for _, d := range []*waitingDevice{entered, left} {
			d.want("expired_token")
		}
		if late := answer(b, page, "allow"); late.Status != http.StatusGone {
			t.Errorf("allowing after the end shows %d:\n%s", late.Status, late.Body)
		}
		entered.want("expired_token")
		form := NewBrowser(t).Get(e.Issuer + "/device")
		form.Forms[0].Fields.Set("user_code", left.String("user_code"))
		if p := form.Submit(0, ""); p.Status != http.StatusBadRequest {
			t.Errorf("an expired code leads to %d", p.Status)
		}
	}, withDevices)
}

// A person goes back before saying anything, or the provider fails: nothing is answered, and the code can be used again.
func TestGivingUpBeforeTheConfirmationLeavesTheCode(t *testing.T) {
	e := Start(t, withDevices)
	d := startDevice(t, e, TV)
	b := NewBrowser(t)
	page := b.Get(d.String("verification_uri_complete")).Submit(0, "")
	if len(page.Forms) != 2 || page.Forms[1].Buttons[0].Text != "Cancel" {
		t.Fatalf("the chooser is\n%s", page.Body)
	}
	if done := b.Get(page.Submit(1, "").Location().String()); !strings.Contains(done.Body, "Nothing was connected") || !strings.Contains(done.Body, `href="/device"`) {
		t.Errorf("cancelling shows %d:\n%s", done.Status, done.Body)
	}
	d.want("authorization_pending")
	d.approve()
	if r := d.poll(); r.Status != http.StatusOK {
		t.Errorf("the device gets %d %v", r.Status, r.Body)
	}
}

// An account that is disabled after its yes, and before the poll.
func TestADisabledAccountConnectsNothing(t *testing.T) {
	e := Start(t, withDevices)
	first, second := startDevice(t, e, TV), startDevice(t, e, TV)
	first.approve()
	second.approve() // the same person, by pressing the same buttons
	subject := e.Subject(t, first.poll().String("access_token"))
	if err := e.Broker.Accounts.Disable(t.Context(), subject, true); err != nil {
		t.Fatal(err)
	}
	second.want("invalid_grant")
}

// guess enters a code that nobody was given.
func guess(e *Env, b *Browser, code string) *Page {
	return b.Post(e.Issuer+"/device", url.Values{"user_code": {code}})
}

// Somebody guesses codes from one address, with a new browser for each guess (RFC 8628 section 5.1). After ten slips, each further one
// has to wait twice as long; and a right code is not looked at meanwhile.
func TestGuessingCodesGetsSlowerAndSlower(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		d := startDevice(t, e, TV)
		for i := range 11 {
			if p := guess(e, NewBrowser(t), "BBBB-BBBB"); p.Status != http.StatusBadRequest {
				t.Fatalf("guess %d gets %d", i+1, p.Status)
			}
		}
		wait := 10 * time.Second
		for range 4 {
			for _, code := range []string{"BBBB-BBBB", d.String("user_code")} {
				p := guess(e, NewBrowser(t), code)
				if p.Status != http.StatusTooManyRequests || p.Header.Get("Retry-After") == "" || !strings.Contains(p.Body, "press Continue in") {
					t.Fatalf("a guess that has to wait gets %d %v\n%s", p.Status, p.Header, p.Body)
				}
			}
			e.Clock.Advance(wait)
			if p := guess(e, NewBrowser(t), "BBBB-BBBB"); p.Status != http.StatusBadRequest {
				t.Fatalf("after %s a guess gets %d", wait, p.Status)
			}
			wait *= 2
		}
		e.Clock.Advance(wait)
		d.approve() // whoever waits is let in
	}, withDevices)
}

// All guesses at once, so that none is refused for those before it.
func TestGuessingAllAtOnceIsNoWayAround(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		var looked, refused atomic.Int64
		storetest.Race(60, func() {
			switch p := guess(e, NewBrowser(t), "BBBB-BBBB"); p.Status {
			case http.StatusBadRequest:
				looked.Add(1)
			case http.StatusTooManyRequests:
				refused.Add(1)
			default:
				t.Errorf("a guess gets %d", p.Status)
			}
		})
		if looked.Load() != 11 || refused.Load() != 49 {
			t.Errorf("%d guesses were looked up and %d refused, want 11 and 49", looked.Load(), refused.Load())
		}
	}, withDevices)
}

// Guessers with many addresses have used up the guesses of all. Nobody who is not signed in has a code looked up; those who are still connect
// their devices, and are counted by their account.
func TestGuessersWithManyAddressesDoNotKeepEverybodyOut(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		used := store.NewCollection[throttle.Tries](e.Backend, "tries")
		for _, at := range []time.Time{e.Clock.Now(), e.Clock.Now().Add(time.Hour)} { // the next one too, for a test that runs on the hour
			total := sha256.Sum256([]byte("device.total\x00" + at.UTC().Truncate(time.Hour).Format(time.RFC3339)))
			if err := used.Insert(t.Context(), &store.Doc[throttle.Tries]{
				Meta:  store.Meta{ID: base64.RawURLEncoding.EncodeToString(total[:])},
				Value: throttle.Tries{Count: 20_000, Last: e.Clock.Now()},
			}); err != nil {
				t.Fatal(err)
			}
		}
		d := startDevice(t, e, TV)
		if p := guess(e, NewBrowser(t), d.String("user_code")); p.Status != http.StatusTooManyRequests {
			t.Errorf("a stranger's code is looked up: %d", p.Status)
		}
		b := NewBrowser(t)
		e.SignIn(t, b, Web, "idp_hint", "google")
		answer(b, d.confirm(b), "allow")
		if r := d.poll(); r.Status != http.StatusOK {
			t.Errorf("the device of somebody signed in gets %d %v", r.Status, r.Body)
		}
		for range 20 {
			guess(e, b, "BBBB-BBBB")
		}
		if p := guess(e, b, "BBBB-BBBB"); p.Status != http.StatusTooManyRequests {
			t.Errorf("somebody signed in may guess on: %d", p.Status)
		}
	}, withDevices)
}

// Somebody in the office guesses. The others at the same address who are signed in connect their devices all the same.
func TestAGuesserDoesNotKeepOutWhoIsSignedInAtTheSameAddress(t *testing.T) {
	e := Start(t, withDevices)
	b := NewBrowser(t)
	e.SignIn(t, b, Web, "idp_hint", "google")
	for range 12 {
		guess(e, NewBrowser(t), "BBBB-BBBB")
	}
	d := startDevice(t, e, TV)
	if p := guess(e, NewBrowser(t), d.String("user_code")); p.Status != http.StatusTooManyRequests {
		t.Errorf("a stranger at the address gets %d", p.Status)
	}
	answer(b, d.confirm(b), "allow")
	if r := d.poll(); r.Status != http.StatusOK {
		t.Errorf("the device of somebody signed in gets %d %v", r.Status, r.Body)
	}
}

// A family behind one address connects what it has: right codes cost nothing, nor do codes that cannot be any.
func TestRightCodesAndSlipsOfThePenAreNotGuesses(t *testing.T) {
	e := Start(t, withDevices)
	b := NewBrowser(t)
	for range 15 {
		d := startDevice(t, e, TV)
		answer(b, d.confirm(b), "allow")
		if p := guess(e, b, "OOPS-1234"); p.Status != http.StatusBadRequest {
			t.Fatalf("a code that cannot be one gets %d", p.Status)
		}
	}
}

// An operator who does not want the grant has no endpoint and no page of it.
func TestWithoutTheGrantTypeThereAreNoDevices(t *testing.T) {
	e := Start(t, func(cfg *config.Config) {
		cfg.GrantTypes = slices.DeleteFunc(cfg.GrantTypes, func(g string) bool { return g == deviceGrant })
	}, withDevices)
	document := func(e *Env) map[string]any {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/.well-known/openid-configuration", nil)
		if err != nil {
			t.Fatal(err)
		}
		return Do(t, request).Body
	}
	if at, there := document(e)["device_authorization_endpoint"]; there {
		t.Errorf("metadata has an endpoint at %v", at)
	}
	if r := e.Post(t, "/device_authorization", TV, url.Values{"scope": {"openid"}}); r.Status != http.StatusNotFound {
		t.Errorf("the endpoint answers %d", r.Status)
	}
	if p := NewBrowser(t).Get(e.Issuer + "/device"); p.Status != http.StatusNotFound {
		t.Errorf("the page answers %d", p.Status)
	}
	if r := e.Post(t, "/token", TV, url.Values{"grant_type": {deviceGrant}, "device_code": {"x"}}); r.String("error") != "unsupported_grant_type" {
		t.Errorf("the token endpoint answers %v", r.Body)
	}
	on := Start(t, withDevices)
	if at := document(on)["device_authorization_endpoint"]; at != on.Issuer+"/device_authorization" {
		t.Errorf("metadata has the endpoint at %v", at)
	}
}
