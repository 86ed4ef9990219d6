package broker_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coreos "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/audit"
	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// receiver is an app's server that takes logout tokens.
type receiver struct {
	*httptest.Server
	status atomic.Int64  // what it answers
	hang   chan struct{} // if not nil, it answers when this is closed
	got    chan string   // a word for each call

	mu  sync.Mutex
	raw []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{got: make(chan string, 100)}
	r.status.Store(http.StatusOK)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || q.ParseForm() != nil || len(q.PostForm) != 1 {
			t.Errorf("the app is called with %s %s and %v", q.Method, q.Header.Get("Content-Type"), q.PostForm)
		}
		r.mu.Lock()
		r.raw = append(r.raw, q.PostForm.Get("logout_token"))
		r.mu.Unlock()
		r.got <- q.URL.Path
		if r.hang != nil {
			<-r.hang
		}
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(r.Close)
	return r
}

// tokens are those it was sent so far.
func (r *receiver) tokens() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.raw)
}

// hears makes a client of the configuration's one that hears of logouts at the receiver.
func hears(clientID string, r *receiver) func(*config.Config) {
	return func(c *config.Config) {
		c.Fetch.AllowPrivate = true
		for i := range c.Clients {
			if c.Clients[i].ClientID == clientID {
				c.Clients[i].BackchannelLogoutURI = r.URL + "/" + clientID
				c.Clients[i].BackchannelLogoutSessionRequired = true
			}
		}
	}
}

// signOut signs the browser out as an app does that shows its ID token.
func signOut(e *Env, b *Browser, tokens *Response) *Page {
	return b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {tokens.String("id_token")}}.Encode())
}

// deliver does what Run does, once.
func deliver(t *testing.T, nodes ...*broker.Broker) {
	t.Helper()
	for _, node := range nodes {
		if err := node.Courier.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// anotherNode is another broker over the same store: a second node, or the first after a restart.
func anotherNode(t *testing.T, e *Env) *broker.Broker { return e.Node(t).Broker }

// OpenID Connect Back-Channel Logout sections 2.4, 2.5, 2.6: what the token says, to whom, and under which key.
func TestEachAppOfASessionIsSentALogoutTokenOfItsOwn(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		b := NewBrowser(t)
		web := e.SignIn(t, b, Web, "idp_hint", "google")
		other := e.SignIn(t, b, Other)
		e.SignIn(t, b, First) // registered no address
		e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google")

		signOut(e, b, web)
		deliver(t, e.Broker)
		got := map[string]map[string]any{}
		keys := coreos.NewRemoteKeySet(t.Context(), e.Issuer+"/jwks.json")
		for _, raw := range app.tokens() {
			payload, err := keys.VerifySignature(t.Context(), raw)
			if err != nil {
				t.Fatalf("the signature: %v", err)
			}
			parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
			if err != nil {
				t.Fatal(err)
			}
			var claims map[string]any
			if err := json.Unmarshal(payload, &claims); err != nil {
				t.Fatal(err)
			}
			aud, _ := claims["aud"].(string)
			header := parsed.Signatures[0].Protected
			claims["typ"], claims["alg"] = header.ExtraHeaders["typ"], header.Algorithm
			got[aud] = claims
		}
		if len(app.tokens()) != 2 || len(got) != 2 {
			t.Fatalf("%d tokens were sent, to %d apps; want one each to web and other", len(app.tokens()), len(got))
		}
		for clientID, want := range map[string]struct {
			tokens *Response
			alg    string
		}{"web": {web, "RS256"}, "other": {other, "ES256"}} {
			claims, id := got[clientID], Claims(t, want.tokens.String("id_token"))
			iat, _ := claims["iat"].(float64)
			exp, _ := claims["exp"].(float64)
			jti, _ := claims["jti"].(string)
			if now := float64(e.Clock.Now().Unix()); iat > now || iat < now-5 || exp != iat+120 || len(jti) < 22 {
				t.Errorf("%s: iat %v, exp %v, jti %q at %v", clientID, iat, exp, jti, now)
			}
			delete(claims, "iat")
			delete(claims, "exp")
			delete(claims, "jti")
			expected := map[string]any{
				"iss": e.Issuer, "aud": clientID, "sub": id["sub"], "sid": id["sid"], "typ": "logout+jwt", "alg": want.alg,
				"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			}
			if diff := cmp.Diff(expected, claims); diff != "" {
				t.Errorf("%s (-want +got):\n%s", clientID, diff)
			}
		}
		// Section 4.1: no logout token passes for an ID token.
		if page := b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": app.tokens()[:1]}.Encode()); page.Status != http.StatusBadRequest {
			t.Errorf("a logout token as id_token_hint: %d", page.Status)
		}
		for range 3 {
			deliver(t, e.Broker)
			e.Clock.Advance(10 * time.Minute)
		}
		if n := len(app.tokens()); n != 2 {
			t.Errorf("what was delivered is sent again: %d calls", n)
		}
	}, hears("web", app), hears("other", app))
}

// Section 2.6: an app that agreed on encrypted ID tokens is to reject a logout token that is not, and one whose subjects are pairwise knows
// nobody by another name.
func TestALogoutTokenIsForItsAppAlone(t *testing.T) {
	app := newReceiver(t)
	key, jwks := encKey(t, "RSA-OAEP-256")
	e := Start(t, hears("web", app), func(c *config.Config) {
		web := &c.Clients[0]
		web.JWKS, web.IDTokenEncryptedResponseAlg, web.IDTokenEncryptedResponseEnc = config.NewSecret(jwks), "RSA-OAEP-256", "A256GCM"
		web.SubjectType = "pairwise"
	})
	b := NewBrowser(t)
	id := Claims(t, opened(t, e.SignIn(t, b, Web, "idp_hint", "google").String("id_token"), "RSA-OAEP-256", "A256GCM", key))
	account := Claims(t, e.SignIn(t, b, Other).String("id_token"))["sub"]
	b.Get(e.Issuer+"/logout").Submit(0, "")
	deliver(t, e.Broker)
	if len(app.tokens()) != 1 {
		t.Fatalf("%d calls", len(app.tokens()))
	}
	claims := Claims(t, opened(t, app.tokens()[0], "RSA-OAEP-256", "A256GCM", key))
	if claims["sub"] != id["sub"] || claims["sid"] != id["sid"] || claims["sub"] == account {
		t.Errorf("the logout token says %v, the ID token %v", claims, id)
	}
}

// Nobody waits for the next look, and nobody waits for the app.
func TestTheFirstAttemptFollowsTheSignOutAndHoldsUpNobody(t *testing.T) {
	hanging, app := newReceiver(t), newReceiver(t)
	hanging.hang = make(chan struct{})
	e := Start(t, hears("web", hanging), hears("other", app))
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { e.Broker.Run(ctx) })
	defer done.Wait()
	defer stop()
	defer close(hanging.hang)
	for range 5 { // more than may be under way at one host
		b := NewBrowser(t)
		web := e.SignIn(t, b, Web, "idp_hint", "google")
		e.SignIn(t, b, Other)
		if page := signOut(e, b, web); page.Status != http.StatusOK {
			t.Fatalf("the sign-out: %d", page.Status)
		}
		select {
		case <-app.got:
		case <-time.After(20 * time.Second):
			t.Fatal("an app that answers is not told while another hangs")
		}
	}
	if n := len(hanging.tokens()); n == 0 || n > 2 {
		t.Errorf("%d calls are under way at the app that hangs; want 1 or 2", n)
	}
}

// An app that is down is told when it is back, and once. Its tokens are fresh, and their jti is the same, by which it can tell.
func TestAnAppThatIsDownIsToldWhenItIsBack(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		app.status.Store(http.StatusServiceUnavailable)
		b := NewBrowser(t)
		signOut(e, b, e.SignIn(t, b, Web, "idp_hint", "google"))
		deliver(t, e.Broker)
		deliver(t, e.Broker) // too early for another attempt
		if n := len(app.tokens()); n != 1 {
			t.Fatalf("%d attempts at once, want 1", n)
		}
		waits := []time.Duration{}
		for range 12 {
			before, waited := len(app.tokens()), time.Duration(0)
			for len(app.tokens()) == before {
				e.Clock.Advance(5 * time.Second)
				waited += 5 * time.Second
				deliver(t, e.Broker)
			}
			waits = append(waits, waited)
		}
		for i, wait := range waits {
			if most := min(10*time.Second<<i, time.Hour) + 5*time.Second; wait > most || wait < (most-5*time.Second)/2 {
				t.Errorf("wait %d was %s, want %s to %s", i+1, wait, (most-5*time.Second)/2, most)
			}
		}
		// It is still down when the broker is restarted, and comes back while the broker is away.
		again := anotherNode(t, e)
		app.status.Store(http.StatusNoContent)
		e.Clock.Advance(time.Hour)
		before := len(app.tokens())
		deliver(t, again)
		e.Clock.Advance(2 * time.Hour)
		deliver(t, again, e.Broker)
		tokens := app.tokens()
		if len(tokens) != before+1 {
			t.Fatalf("after it was back it was told %d times, want once", len(tokens)-before)
		}
		first, last := Claims(t, tokens[0]), Claims(t, tokens[len(tokens)-1])
		if first["jti"] != last["jti"] || first["sid"] != last["sid"] {
			t.Errorf("the repetition is no repetition: %v, then %v", first, last)
		}
		if exp, _ := last["exp"].(float64); exp < float64(e.Clock.Now().Add(-3*time.Hour).Unix()) || first["exp"] == last["exp"] {
			t.Errorf("the repetition is stale: it expired at %v", exp)
		}
	}, hears("web", app))
}

func TestAnAppThatStaysDownIsGivenUp(t *testing.T) {
	refuse := newReceiver(t)
	for name, test := range map[string]struct {
		status int
		wait   time.Duration
		reason string
		calls  int
	}{
		// Section 2.8: the token itself is no good, so that another would be none either.
		"it refuses the token": {http.StatusBadRequest, 0, "refused", 1},
		"it never answers":     {http.StatusInternalServerError, 25 * time.Hour, "given up", 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := Start(t, hears("web", refuse))
			refuse.raw = nil
			refuse.status.Store(int64(test.status))
			b := NewBrowser(t)
			tokens := e.SignIn(t, b, Web, "idp_hint", "google")
			signOut(e, b, tokens)
			deliver(t, e.Broker)
			e.Clock.Advance(test.wait)
			deliver(t, e.Broker)
			e.Clock.Advance(48 * time.Hour)
			deliver(t, e.Broker)
			if n := len(refuse.tokens()); n != test.calls {
				t.Errorf("%d calls, want %d", n, test.calls)
			}
			sub, _ := Claims(t, tokens.String("id_token"))["sub"].(string)
			events, err := e.Broker.Audit.Of(t.Context(), sub, "")
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, doc := range events {
				if doc.Value.Kind == audit.LogoutUndelivered && doc.Value.ClientID == "web" && strings.Contains(doc.Value.Reason, test.reason) {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d events say that the app was not told, want 1", found)
			}
		})
	}
}

// Of many nodes that see a delivery, one sends it; a node that died over it is replaced when its lease has passed.
func TestOfTwoNodesOneSendsALogoutToken(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		nodes := []*broker.Broker{e.Broker, anotherNode(t, e), anotherNode(t, e)}
		for range 4 {
			b := NewBrowser(t)
			signOut(e, b, e.SignIn(t, b, Web, "idp_hint", "google"))
		}
		var next atomic.Int64
		storetest.Race(len(nodes)*2, func() {
			deliver(t, nodes[int(next.Add(1))%len(nodes)])
		})
		seen := map[any]int{}
		for _, raw := range app.tokens() {
			seen[Claims(t, raw)["jti"]]++
		}
		if len(seen) != 4 || len(app.tokens()) != 4 {
			t.Errorf("4 sign-outs gave %d calls with %d ids", len(app.tokens()), len(seen))
		}
	}, hears("web", app))
}

func TestADeliveryOfANodeThatDiedIsTakenOver(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw, app.hang = nil, make(chan struct{})
		b := NewBrowser(t)
		signOut(e, b, e.SignIn(t, b, Web, "idp_hint", "google"))
		var first sync.WaitGroup
		first.Go(func() { deliver(t, e.Broker) })
		for len(app.tokens()) == 0 { // the first node is in the middle of it, and is not heard of again
			<-app.got
		}
		second := anotherNode(t, e)
		deliver(t, second)
		if n := len(app.tokens()); n != 1 {
			t.Errorf("while one node sends, %d calls", n)
		}
		e.Clock.Advance(time.Minute)
		close(app.hang)
		deliver(t, second)
		first.Wait()
		if tokens := app.tokens(); len(tokens) > 2 || Claims(t, tokens[0])["jti"] != Claims(t, tokens[len(tokens)-1])["jti"] {
			t.Errorf("%d calls, want 1, or 2 with one jti", len(tokens))
		}
	}, hears("web", app))
}

// Two tabs, a double click: the sign-out is one event.
func TestASignOutPressedTwiceTellsAnAppOnce(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		for range 3 {
			app.mu.Lock()
			app.raw = nil
			app.mu.Unlock()
			b := NewBrowser(t)
			tokens := e.SignIn(t, b, Web, "idp_hint", "google")
			issuer, _ := url.Parse(e.Issuer)
			cookies := b.Client.Jar.Cookies(issuer)
			storetest.Race(6, func() {
				request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/logout?id_token_hint="+tokens.String("id_token"), nil)
				for _, c := range cookies {
					request.AddCookie(c)
				}
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("one of the presses: %d", response.StatusCode)
				}
				deliver(t, e.Broker) // as early as it could be
			})
			deliver(t, e.Broker)
			// One that saw the session before the first had ended it, and was slow.
			claims := Claims(t, tokens.String("id_token"))
			if _, err := e.Broker.Logout.SessionEnded(t.Context(), fmt.Sprint(claims["sub"]), fmt.Sprint(claims["sid"])); err != nil {
				t.Fatal(err)
			}
			deliver(t, e.Broker)
			if n := len(app.tokens()); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		}
	}, hears("web", app))
}

// Whoever registers a logout URI must not reach through the broker what only the broker can reach.
func TestLogoutTokensGoToPublicAddressesAlone(t *testing.T) {
	app := newReceiver(t)
	e := Start(t, hears("web", app), func(c *config.Config) { c.Fetch.AllowPrivate = false })
	b := NewBrowser(t)
	signOut(e, b, e.SignIn(t, b, Web, "idp_hint", "google"))
	deliver(t, e.Broker)
	if n := len(app.tokens()); n != 0 {
		t.Errorf("%d calls to a private address", n)
	}
	if logLine(e, "was not told of a sign-out", `"client_id":"web"`) == "" {
		t.Error("the log does not say that the app was not told")
	}
}

// Signing in again in the same browser makes a new session, for the browser's sake, and must not lose the apps of the one before.
func TestAppsOfTheSessionBeforeAreToldToo(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		b := NewBrowser(t)
		web := e.SignIn(t, b, Web, "idp_hint", "google")
		other := e.SignIn(t, b, Other, "prompt", "login", "idp_hint", "google")
		sid := Claims(t, web.String("id_token"))["sid"]
		if again := Claims(t, other.String("id_token"))["sid"]; again != sid {
			t.Errorf("signing in again changed the sid from %v to %v", sid, again)
		}
		deliver(t, e.Broker)
		if n := len(app.tokens()); n != 0 {
			t.Errorf("signing in again told %d apps of a sign-out", n)
		}
		// Somebody else signs in at this browser: whoever was signed in before is not any more.
		online := e.SignIn(t, b, Web, "scope", "openid", "prompt", "login", "idp_hint", "google")
		location, page := b.Get(e.AuthorizeURL(Web, "prompt", "login", "idp_hint", "google")).Location(), (*Page)(nil)
		page = b.Get(location.String())
		if location, page = page.Submit(0, "bob").Walk(Web.RedirectURI); location == nil {
			t.Fatalf("bob's sign-in ended at %s:\n%s", page.URL, page.Body)
		}
		bob := e.Redeem(t, Web, location.Query().Get("code"))
		if now := Claims(t, bob.String("id_token"))["sid"]; now == sid {
			t.Error("another person's session has the sid of the one before")
		}
		deliver(t, e.Broker)
		told := map[any]any{}
		for _, raw := range app.tokens() {
			told[Claims(t, raw)["aud"]] = Claims(t, raw)["sid"]
		}
		if told["web"] != sid || told["other"] != sid {
			t.Errorf("told of the end of ann's session: %v, want web and other of %v", told, sid)
		}
		if e.Active(t, Web, online.String("access_token")) {
			t.Error("a token that hung on ann's session is alive")
		}
	}, hears("web", app), hears("other", app))
}

// A code that was on its way when the person signed out still becomes a sign-in at the app, in another tab, say. The app is told of its end
// as of any other, and what hangs on the session ends.
func TestASignInThatWasUnderWayIsEndedToo(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		b := NewBrowser(t)
		web := e.SignIn(t, b, Web, "idp_hint", "google")
		again, other := e.Code(t, b, Web, "scope", "openid"), e.Code(t, b, Other)
		signOut(e, b, web)
		deliver(t, e.Broker)
		if n := len(app.tokens()); n != 1 {
			t.Fatalf("%d calls at the sign-out, want 1", n)
		}
		late := e.Redeem(t, Web, again.Get("code"))
		if late.Status != http.StatusOK {
			t.Fatalf("a code that was out is refused: %d %v", late.Status, late.Body)
		}
		e.Redeem(t, Other, other.Get("code"))
		e.Clock.Advance(2 * time.Minute)
		node := anotherNode(t, e) // whichever looks
		deliver(t, node)          // writes the deliveries
		deliver(t, node, e.Broker)
		deliver(t, node, e.Broker)
		told := map[any]int{}
		for _, raw := range app.tokens() {
			told[Claims(t, raw)["aud"]]++
		}
		if told["web"] != 2 || told["other"] != 1 || len(app.tokens()) != 3 {
			t.Errorf("told: %v, want web of each sign-in and other once", told)
		}
		if e.Active(t, Web, late.String("access_token")) {
			t.Error("a token that hung on the session is alive after it")
		}
	}, hears("web", app), hears("other", app))
}

// Section 2.7: refresh tokens that were not consented to outlive the session die with it; the others stay.
func TestOfflineAccessOutlivesTheSession(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		offline := e.SignIn(t, b, Web, "idp_hint", "google")
		online := e.SignIn(t, b, Other, "scope", "openid")
		signOut(e, b, offline)
		if e.Active(t, Other, online.String("access_token")) {
			t.Error("an access token without offline_access outlived the session")
		}
		if again := e.Refresh(t, Web, offline.String("refresh_token")); again.Status != http.StatusOK {
			t.Errorf("a refresh token with offline_access died with the session: %d %v", again.Status, again.Body)
		}
	})
}

// An account that is disabled or removed is signed out of every app, whichever browsers it was signed in with.
func TestAppsAreToldOfTheEndOfAnAccount(t *testing.T) {
	app := newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		var sids []any
		var sub string
		for range 2 {
			b := NewBrowser(t)
			claims := Claims(t, e.SignIn(t, b, Web, "idp_hint", "google").String("id_token"))
			sids = append(sids, claims["sid"])
			sub, _ = claims["sub"].(string)
			e.SignIn(t, b, Other, "scope", "openid")
		}
		// A command does it, in a process that sends nothing itself.
		data, err := broker.Open(t.Context(), e.Config, broker.Options{Now: e.Clock.Now, Backend: e.Backend})
		if err != nil {
			t.Fatal(err)
		}
		if err := data.Logout.AccountEnded(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		deliver(t, e.Broker)
		var web []any
		all := 0
		for _, raw := range app.tokens() {
			claims := Claims(t, raw)
			if claims["sub"] != sub {
				t.Errorf("the token is about %v", claims["sub"])
			}
			if claims["aud"] == "web" {
				web = append(web, claims["sid"])
			} else if _, named := claims["sid"]; !named {
				all++
			}
		}
		// web asked for sids; other is told that all sessions are over, once.
		if len(app.tokens()) != 3 || all != 1 || !slices.Contains(web, sids[0]) || !slices.Contains(web, sids[1]) {
			t.Errorf("%d tokens; web was told of %v, want %v; other of all %d times", len(app.tokens()), web, sids, all)
		}
		// Enabled, and disabled again: news again for whoever asked for no sid, whose people may have come back.
		if err := data.Logout.AccountEnded(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		deliver(t, e.Broker)
		if tokens := app.tokens(); len(tokens) != 4 || Claims(t, tokens[3])["aud"] != "other" {
			t.Errorf("%d tokens after the second time, want 4", len(tokens))
		}
	}, hears("web", app), hears("other", app), func(c *config.Config) { c.Clients[1].BackchannelLogoutSessionRequired = false })
}

// OpenID Connect RP-Initiated Logout sections 2 to 4: who is signed out, who is asked, and who is sent where. What fails is shown and
// redirects nowhere.
func TestLogoutRequests(t *testing.T) {
	const registered = "https://app.example.com/bye"
	e := Start(t)
	signedIn := func(b *Browser) bool { return e.Code(t, b, Web, "prompt", "none").Get("code") != "" }
	elsewhere := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google").String("id_token")
	for name, test := range map[string]struct {
		params   url.Values // "HINT" stands for the ID token
		status   int
		location string
		stays    bool // the session lives on
	}{
		"hint, address, state":        {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {registered}, "state": {"a b&c"}}, 303, registered + "?state=a+b%26c", false},
		"no state":                    {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {registered}}, 303, registered, false},
		"empty values count as none":  {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {registered}, "state": {""}, "client_id": {""}}, 303, registered, false},
		"hint alone":                  {url.Values{"id_token_hint": {"HINT"}}, 200, "", false},
		"hint and state alone":        {url.Values{"id_token_hint": {"HINT"}, "state": {"x"}}, 200, "", false},
		"hint and its client":         {url.Values{"id_token_hint": {"HINT"}, "client_id": {"web"}, "logout_hint": {"ann@example.com"}, "ui_locales": {"de"}}, 200, "", false},
		"nothing":                     {url.Values{}, 200, "", true},
		"state alone":                 {url.Values{"state": {"x"}}, 200, "", true},
		"client alone":                {url.Values{"client_id": {"web"}}, 200, "", true},
		"client and address, no hint": {url.Values{"client_id": {"web"}, "post_logout_redirect_uri": {registered}}, 200, "", true},
		"address, no hint":            {url.Values{"post_logout_redirect_uri": {registered}}, 400, "", true},
		"hint of another browser":     {url.Values{"id_token_hint": {elsewhere}, "post_logout_redirect_uri": {registered}}, 200, "", true},
		"hint of another client":      {url.Values{"id_token_hint": {"HINT"}, "client_id": {"other"}}, 400, "", true},
		"hint that was changed":       {url.Values{"id_token_hint": {"HINTx"}, "post_logout_redirect_uri": {registered}}, 400, "", true},
		"hint that is none":           {url.Values{"id_token_hint": {"a.b.c"}}, 400, "", true},
		"unsigned hint":               {url.Values{"id_token_hint": {"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJ4In0."}}, 400, "", true},
		"address not registered":      {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {"https://app.example.com/callback"}}, 400, "", true},
		"query added to the address":  {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {registered + "?x=1"}}, 400, "", true},
		"address of another client":   {url.Values{"id_token_hint": {"HINT"}, "post_logout_redirect_uri": {"https://other.example.com/callback"}}, 400, "", true},
		"a parameter twice":           {url.Values{"id_token_hint": {"HINT", "HINT"}}, 400, "", true},
		"unknown client":              {url.Values{"client_id": {"nobody"}, "post_logout_redirect_uri": {registered}}, 400, "", true},
	} {
		for _, method := range []string{http.MethodGet, "POST from our page", "POST from the app's page"} {
			t.Run(name+", "+method, func(t *testing.T) {
				b := NewBrowser(t)
				hint := e.SignIn(t, b, Web, "idp_hint", "google").String("id_token")
				e.Clock.Advance(2 * time.Hour) // the ID token is past its exp, and as good a hint as before
				params := url.Values{}
				for key, values := range test.params {
					for _, value := range values {
						params.Add(key, strings.Replace(value, "HINT", hint, 1))
					}
				}
				var page *Page
				switch method {
				case http.MethodGet:
					page = b.Get(e.Issuer + "/logout?" + params.Encode())
				case "POST from our page":
					page = b.Post(e.Issuer+"/logout", params)
				default:
					page = postFromElsewhere(t, b, e.Issuer+"/logout", params)
				}
				location := ""
				if page.Location() != nil {
					location = page.Location().String()
				}
				if page.Status != test.status || location != test.location {
					t.Errorf("%d to %q, want %d to %q", page.Status, location, test.status, test.location)
				}
				if signedIn(b) != test.stays {
					t.Errorf("signed in %v, want %v", !test.stays, test.stays)
				}
				if test.status == http.StatusOK && test.stays { // the person is asked, and says yes
					page = page.Submit(0, "")
					if want := test.params.Get("post_logout_redirect_uri"); want != "" && (page.Location() == nil || page.Location().String() != want) || signedIn(b) {
						t.Errorf("after the yes: %d to %v, signed in %v", page.Status, page.Location(), signedIn(b))
					}
				}
			})
		}
	}
}

// postFromElsewhere posts a form as a page of another site does: browsers leave SameSite=Lax cookies out of that, and put
// them into the GET that the answer redirects to.
func postFromElsewhere(t *testing.T, b *Browser, target string, form url.Values) *Page {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "https://app.example.com")
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if location := response.Header.Get("Location"); location != "" {
		return b.Get(location)
	}
	return &Page{Status: response.StatusCode, Header: response.Header}
}

// A cross-site POST with a hint too long for a URL is put to the person: our page's form is posted with cookies.
func TestALongLogoutRequestFromElsewhereIsPutToThePerson(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	hint := e.SignIn(t, b, Web, "idp_hint", "google").String("id_token")
	form := url.Values{"id_token_hint": {hint}, "state": {strings.Repeat("s", 7000)}, "post_logout_redirect_uri": {"https://app.example.com/bye"}}
	page := postFromElsewhere(t, b, e.Issuer+"/logout", form)
	if page.Status != http.StatusOK {
		t.Fatalf("%d, want a page that asks", page.Status)
	}
	form.Set("confirm", "yes")
	done := b.Post(e.Issuer+"/logout", form)
	if done.Status != http.StatusSeeOther || e.Code(t, b, Web, "prompt", "none").Get("error") != "login_required" {
		t.Errorf("after the yes: %d, and still signed in", done.Status)
	}
}

// The page's yes is taken from our own page alone: elsewhere it is anybody's.
func TestAnotherSiteCannotSayYesToASignOut(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	e.SignIn(t, b, Web, "idp_hint", "google")
	page := postFromElsewhere(t, b, e.Issuer+"/logout", url.Values{"confirm": {"yes"}})
	if page.Status != http.StatusOK || len(page.Forms) == 0 || e.Code(t, b, Web, "prompt", "none").Get("code") == "" {
		t.Errorf("a forged yes: %d with %d forms", page.Status, len(page.Forms))
	}
	if page := b.Get(e.Issuer + "/logout?confirm=yes"); len(page.Forms) == 0 || e.Code(t, b, Web, "prompt", "none").Get("code") == "" {
		t.Error("a link said yes")
	}
}

// OpenID Connect Front-Channel Logout section 2: the browser calls each app, with iss and sid where the app wants them, and then goes on.
func TestTheSignedOutPageCallsTheAppsThatWantIt(t *testing.T) {
	e := Start(t, func(c *config.Config) {
		c.Clients[0].FrontchannelLogoutURI = "https://app.example.com/out?tenant=1"
		c.Clients[0].FrontchannelLogoutSessionRequired = true
		c.Clients[1].FrontchannelLogoutURI = "https://other.example.com/out"
		c.Clients[2].FrontchannelLogoutURI = "https://first.example.com/out" // not signed in to
	})
	b := NewBrowser(t)
	hint := e.SignIn(t, b, Web, "idp_hint", "google").String("id_token")
	e.SignIn(t, b, Other)
	sid := Claims(t, hint)["sid"]
	page := b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.com/bye"}, "state": {"s&1"}}.Encode())
	if page.Status != http.StatusOK {
		t.Fatalf("%d %v", page.Status, page.Location())
	}
	wantWeb := fmt.Sprintf("https://app.example.com/out?tenant=1&%s", url.Values{"iss": {e.Issuer}, "sid": {fmt.Sprint(sid)}}.Encode())
	if got := iframes(page.Body); !slices.Equal(got, []string{"https://other.example.com/out", wantWeb}) {
		t.Errorf("the page calls %q", got)
	}
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.HasSuffix(policy, "; frame-src https://other.example.com https://app.example.com") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "script-src") {
		t.Errorf("the policy is %q", policy)
	}
	if got := page.Header.Get("Refresh"); got != "1; url=https://app.example.com/bye?state=s%261" {
		t.Errorf("Refresh: %q", got)
	}
	if !strings.Contains(page.Body, `href="https://app.example.com/bye?state=s%261"`) {
		t.Error("there is no link to go on by")
	}
	// Signed out already: there is nobody to call and nothing to wait for, and no other page shows frames.
	page = b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.com/bye"}}.Encode())
	if page.Status != http.StatusSeeOther || strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-src") {
		t.Errorf("the second time: %d %v", page.Status, page.Header)
	}
}

// iframes are the addresses of a page's frames.
func iframes(body string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`<iframe src="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		found = append(found, html.UnescapeString(m[1]))
	}
	return found
}

// OpenID Connect Session Management section 3: session_state is what anybody with the cookie, and nobody else, can make again.
func TestSessionStateIsMadeOfClientOriginBrowserStateAndSalt(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		b := NewBrowser(t)
		issuer, _ := url.Parse(e.Issuer)
		browserState := func() string {
			for _, c := range b.Client.Jar.Cookies(issuer) {
				if c.Name == "portico_state" {
					return c.Value
				}
			}
			return ""
		}
		states := func(answer url.Values, c Client, origin string) bool {
			hash, salt, _ := strings.Cut(answer.Get("session_state"), ".")
			sum := sha256.Sum256([]byte(c.ID + " " + origin + " " + browserState() + " " + salt))
			return hex.EncodeToString(sum[:]) == hash && len(salt) >= 22
		}
		first := e.Code(t, b, Web, "idp_hint", "google")
		if !states(first, Web, "https://app.example.com") {
			t.Errorf("session_state %q does not follow from the cookie %q", first.Get("session_state"), browserState())
		}
		sid := fmt.Sprint(Claims(t, e.Redeem(t, Web, first.Get("code")).String("id_token"))["sid"])
		if browserState() == "" || strings.Contains(browserState(), sid) {
			t.Errorf("the cookie %q is empty or holds the session's name", browserState())
		}
		again := e.Code(t, b, Web)
		if !states(again, Web, "https://app.example.com") || again.Get("session_state") == first.Get("session_state") {
			t.Error("two answers of one session are alike, or one does not follow from the cookie")
		}
		native := Native
		native.RedirectURI = "http://127.0.0.1:7777/callback"
		if !states(e.Code(t, b, Other), Other, "https://other.example.com") || !states(e.Code(t, b, native), native, "http://127.0.0.1:7777") {
			t.Error("another client's does not follow from the cookie")
		}
		if answer := e.Code(t, b, Web, "scope", "profile"); answer.Has("session_state") {
			t.Error("a request that is not for OpenID Connect has session_state")
		}
		before := browserState()
		e.Code(t, b, Web, "prompt", "login", "idp_hint", "google")
		if browserState() != before {
			t.Error("the same person who signs in again is a change to the frames")
		}
		signOut(e, b, e.SignIn(t, b, Web))
		if browserState() != "" {
			t.Error("the cookie outlives the session")
		}
		e.Code(t, b, Web, "idp_hint", "google")
		if browserState() == before || browserState() == "" {
			t.Error("another session has the cookie of the one before, or none")
		}
		// A session that ended without the browser: the frames learn of it at its next visit.
		e.Clock.Advance(400 * 24 * time.Hour)
		e.Code(t, b, Web, "prompt", "none")
		if browserState() != "" {
			t.Error("the cookie of a dead session is still there after a visit")
		}
	}, func(c *config.Config) { c.SessionManagement = true; c.Clients[0].Connectors = []string{"google"} })
}

// The frame is the one page that others may frame, so it must be able to do nothing but answer.
func TestTheCheckSessionFrameAloneMayBeFramed(t *testing.T) {
	e := Start(t, func(c *config.Config) { c.SessionManagement = true })
	page := NewBrowser(t).Get(e.Issuer + "/check-session")
	policy := page.Header.Get("Content-Security-Policy")
	if page.Status != http.StatusOK || page.Header.Get("X-Frame-Options") != "" || !strings.Contains(policy, "frame-ancestors *") ||
		!strings.HasPrefix(policy, "default-src 'none'; script-src 'sha256-") || len(page.Forms) != 0 || page.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d with policy %q", page.Status, policy)
	}
	for _, path := range []string{"/", "/logout", "/authorize", "/nothing"} {
		page := NewBrowser(t).Get(e.Issuer + path)
		if policy := page.Header.Get("Content-Security-Policy"); page.Header.Get("X-Frame-Options") != "DENY" || strings.Contains(policy, "frame-ancestors *") {
			t.Errorf("%s may be framed: %v", path, page.Header)
		}
	}
}

// Off, there is none of it: no cookie, no session_state, no frame, no word in the metadata.
func TestSessionManagementIsOffUnlessConfigured(t *testing.T) {
	e := Start(t)
	b := NewBrowser(t)
	answer := e.Code(t, b, Web, "idp_hint", "google")
	issuer, _ := url.Parse(e.Issuer)
	if answer.Has("session_state") {
		t.Error("there is session_state")
	}
	for _, c := range b.Client.Jar.Cookies(issuer) {
		if strings.Contains(c.Name, "state") {
			t.Errorf("there is the cookie %s", c.Name)
		}
	}
	if page := b.Get(e.Issuer + "/check-session"); page.Status != http.StatusNotFound {
		t.Errorf("the frame: %d", page.Status)
	}
}

func TestTheMetadataSaysWhatLogoutThereIs(t *testing.T) {
	for _, on := range []bool{false, true} {
		e := Start(t, func(c *config.Config) { c.SessionManagement = on })
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Issuer+"/.well-known/openid-configuration", nil)
		metadata := Do(t, request).Body
		for _, name := range []string{"frontchannel_logout_supported", "frontchannel_logout_session_supported", "backchannel_logout_supported", "backchannel_logout_session_supported"} {
			if metadata[name] != true {
				t.Errorf("%s is %v", name, metadata[name])
			}
		}
		if metadata["end_session_endpoint"] != e.Issuer+"/logout" {
			t.Errorf("end_session_endpoint is %v", metadata["end_session_endpoint"])
		}
		want := any(nil)
		if on {
			want = e.Issuer + "/check-session"
		}
		if metadata["check_session_iframe"] != want {
			t.Errorf("session management %v: check_session_iframe is %v", on, metadata["check_session_iframe"])
		}
	}
}

// Whoever runs an app that is known by the address of its metadata decides whether that answers. It must not be in their hand whether a person can sign
// out, or an operator end an account; and once it answers again the app is told as any other.
func TestAnAppWhoseMetadataCannotBeReadKeepsNobodySignedIn(t *testing.T) {
	site, app := newAppSite(t), newReceiver(t)
	Each(t, func(t *testing.T, e *Env) {
		app.raw = nil
		stranger := site.app("/client.json", "backchannel_logout_uri", app.URL+"/stranger")
		document := site.answers["/client.json"]
		leave := func(b *Browser, params string) {
			t.Helper()
			page := b.Get(e.Issuer + "/logout" + params)
			if len(page.Forms) > 0 && page.Status == http.StatusOK {
				page = page.Submit(0, "")
			}
			if page.Status != http.StatusOK || !strings.Contains(page.Body, "You are signed out") {
				t.Errorf("signing out%s: %d %s", params, page.Status, page.Body)
			}
			if got := e.Code(t, b, Web, "prompt", "none").Get("error"); got != "login_required" {
				t.Errorf("after signing out%s: %q", params, got)
			}
		}
		one, two := NewBrowser(t), NewBrowser(t)
		e.SignIn(t, one, stranger, "idp_hint", "google")
		tokens := e.SignIn(t, two, stranger, "idp_hint", "google")
		site.answer("/client.json", http.StatusServiceUnavailable)
		e.Clock.Advance(3 * time.Hour) // beyond what a document serves for while its server does not answer

		leave(one, "")
		leave(two, "?"+url.Values{"id_token_hint": {tokens.String("id_token")}, "post_logout_redirect_uri": {"https://app.example/bye"}}.Encode())

		three := NewBrowser(t)
		account := e.Subject(t, e.SignIn(t, three, Web, "idp_hint", "google").String("access_token"))
		if err := e.Broker.Managed.Disable(t.Context(), account); err != nil {
			t.Errorf("disabling the account: %v", err)
		}
		if got := e.Code(t, three, Web, "prompt", "none").Get("error"); got != "login_required" {
			t.Errorf("the account's session goes on: %q", got)
		}

		deliver(t, e.Broker)
		if told := app.tokens(); len(told) != 0 {
			t.Errorf("the app is told although nobody knows where: %v", told)
		}
		site.answer("/client.json", document)
		e.Clock.Advance(time.Minute)
		deliver(t, e.Broker)
		if told := app.tokens(); len(told) < 2 {
			t.Errorf("the app is told of %d sign-outs once its metadata can be read, want 2 and the account's end", len(told))
		}
	}, site.trusted(t))
}
