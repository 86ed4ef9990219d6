package broker_test

import (
	"crypto"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// Client ID metadata documents, sector identifiers and software statements: what a stranger has the broker read somewhere.

// appSite is a web server of somebody else's, over TLS.
type appSite struct {
	*httptest.Server
	asked atomic.Int64

	mu      sync.Mutex
	answers map[string]http.HandlerFunc
}

func newAppSite(t testing.TB) *appSite {
	t.Helper()
	return newAppSiteOn(t, httptest.NewTLSServer)
}

func newAppSiteOn(t testing.TB, listen func(http.Handler) *httptest.Server) *appSite {
	t.Helper()
	s := &appSite{answers: map[string]http.HandlerFunc{}}
	s.Server = listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		answer := s.answers[r.URL.Path]
		s.mu.Unlock()
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// answer sets what is at a path: a handler, a status, or a document, served as JSON.
func (s *appSite) answer(path string, with any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch with := with.(type) {
	case http.HandlerFunc:
		s.answers[path] = with
	case int:
		s.answers[path] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(with) }
	default:
		s.answers[path] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(with)
		}
	}
}

// trusted has the broker believe the site's certificate, and reach this machine.
func (s *appSite) trusted(t testing.TB) func(*config.Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *config.Config) {
		c.Fetch.AllowPrivate, c.Fetch.CAFile = true, path
		c.ClientIDMetadata.Mode = config.ModeOpen
	}
}

// app is a client whose document is at a path of the site.
func (s *appSite) app(path string, edits ...any) Client {
	id := s.URL + path
	d := document{
		"client_id": id, "client_name": "Example app", "redirect_uris": []string{"https://app.example/cb"},
		"grant_types": []string{"authorization_code", "refresh_token", registry.GrantDeviceCode}, "response_types": []string{"code", "id_token"},
		"scope": "openid offline_access mail:read",
	}.with(edits...)
	s.answer(path, d)
	client := Client{ID: id}
	if uris, ok := d["redirect_uris"].([]string); ok && len(uris) > 0 {
		client.RedirectURI = uris[0]
	}
	return client
}

// An app that no server has heard of signs people in with its own address for a client id, and everything behind a sign-in works with it.
func TestAnAddressIsAClientID(t *testing.T) {
	s := newAppSite(t)
	Each(t, func(t *testing.T, e *Env) {
		s.asked.Store(0)
		app := s.app("/client.json", "logo_uri", s.URL+"/logo.png")
		page := consentPage(t, NewBrowser(t), e, app)
		host := strings.TrimPrefix(s.URL, "https://")
		for want, there := range map[string]bool{host: true, "has checked this app": true, "goes to <bdi>app.example</bdi>": true, "logo.png": false} {
			if strings.Contains(page.Body, want) != there {
				t.Errorf("the page says %q: %v, want %v\n%s", want, !there, there, page.Body)
			}
		}
		b := NewBrowser(t)
		tokens := e.SignIn(t, b, app)
		if e.Subject(t, tokens.String("access_token")) == "" {
			t.Error("no subject")
		}
		refreshed := e.Refresh(t, app, tokens.String("refresh_token"))
		if refreshed.Status != http.StatusOK {
			t.Fatalf("refreshing: %d %v", refreshed.Status, refreshed.Body)
		}
		// A consent to an app on the web is remembered as any.
		if answer := e.Code(t, b, app, "prompt", "none"); answer.Get("code") == "" {
			t.Errorf("the consent is not remembered: %v", answer)
		}
		if r := e.Post(t, "/revoke", app, url.Values{"token": {refreshed.String("refresh_token")}}); r.Status != http.StatusOK {
			t.Errorf("revoking: %d %v", r.Status, r.Body)
		}
		if r := e.Refresh(t, app, refreshed.String("refresh_token")); r.String("error") != "invalid_grant" {
			t.Errorf("a revoked refresh token: %d %v", r.Status, r.Body)
		}
		if strings.Contains(e.Logs.String(), "cannot be stored") {
			t.Error("an event with such a client id cannot be stored")
		}
		if s.asked.Load() != 1 {
			t.Errorf("the document was read %d times, want once", s.asked.Load())
		}
	}, s.trusted(t))
}

// Whoever writes an app tries it on their own machine, without a certificate. What the draft forbids (section 3) is for there alone: an address beyond
// the machine, whose document anybody on the way could change, stays refused, and so does any where private addresses are not permitted.
func TestADocumentMayBeWithoutTLSOnThisMachineWhereThatIsPermitted(t *testing.T) {
	s := newAppSiteOn(t, httptest.NewServer)
	app := s.app("/client.json", "redirect_uris", []string{"http://127.0.0.1/cb"})
	permitted := Start(t, func(c *config.Config) { c.Fetch.AllowPrivate, c.ClientIDMetadata.Mode = true, config.ModeOpen })
	tokens := permitted.SignIn(t, NewBrowser(t), app, "idp_hint", "google", "scope", "openid")
	if r := permitted.Userinfo(t, tokens.String("access_token")); r.Status != http.StatusOK {
		t.Errorf("its access token: %d %v", r.Status, r.Body)
	}
	s.asked.Store(0)
	elsewhere := app
	elsewhere.ID = "http://app.example.com/client.json"
	production := Start(t, func(c *config.Config) { c.ClientIDMetadata.Mode = config.ModeOpen })
	for name, page := range map[string]*Page{
		"beyond this machine": NewBrowser(t).Get(permitted.AuthorizeURL(elsewhere)),
		"not permitted":       NewBrowser(t).Get(production.AuthorizeURL(app)),
	} {
		if page.Status != http.StatusBadRequest || !strings.Contains(page.Body, "it is not https") {
			t.Errorf("%s: %d %s", name, page.Status, page.Body)
		}
	}
	if s.asked.Load() != 0 {
		t.Error("the document was read")
	}
}

// A document with keys makes a confidential client, which must use them.
func TestADocumentWithKeysIsAConfidentialClient(t *testing.T) {
	s, key := newAppSite(t), clientKeys().ec
	e := Start(t, s.trusted(t))
	app := s.app("/client.json", "token_endpoint_auth_method", "private_key_jwt", "jwks_uri", s.URL+"/jwks.json")
	s.answer("/jwks.json", json.RawMessage(jwks(t, map[string]crypto.Signer{"k": key})))
	answer := e.Code(t, NewBrowser(t), app)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {answer.Get("code")}, "redirect_uri": {app.RedirectURI}, "code_verifier": {Verifier}}
	if r := e.Post(t, "/token", app, form); r.String("error") != "invalid_client" {
		t.Errorf("without an assertion: %d %v", r.Status, r.Body)
	}
	form.Del("client_id")
	raw := sign(t, "ES256", key, map[string]string{"kid": "k"}, claimsOf(e, app.ID))
	if r := e.Post(t, "/token", Client{}, withAssertion(raw, form)); r.Status != http.StatusOK {
		t.Errorf("with one: %d %v", r.Status, r.Body)
	}
}

// Whoever answers at an address decides what is there; what is not a clean description of the app at this address is none.
func TestADocumentThatIsNoGoodIsNoClient(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t))
	good := document{"client_id": s.URL + "/x.json", "redirect_uris": []string{"https://app.example/cb"}}
	serve := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write([]byte(body))
		}
	}
	text := func(d document) string { raw, _ := json.Marshal(d); return string(raw) }
	elsewhere := newAppSite(t)
	elsewhere.answer("/x.json", good)
	i := 0
	for name, with := range map[string]func(id string) any{
		"another's client_id":       func(string) any { return good.with("client_id", "https://bank.example/client.json") },
		"its client_id but a slash": func(id string) any { return good.with("client_id", id+"/") },
		"no client_id":              func(string) any { return good.with("client_id", nil) },
		"a secret":                  func(id string) any { return good.with("client_id", id, "client_secret", "s") },
		"a secret's expiry":         func(id string) any { return good.with("client_id", id, "client_secret_expires_at", 0) },
		"secret-based": func(id string) any {
			return good.with("client_id", id, "token_endpoint_auth_method", "client_secret_basic")
		},
		"a secret that signs": func(id string) any {
			return good.with("client_id", id, "token_endpoint_auth_method", "client_secret_jwt")
		},
		"a private key": func(id string) any {
			return good.with("client_id", id, "jwks", json.RawMessage(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`))
		},
		"a plain redirect URI": func(id string) any {
			return good.with("client_id", id, "redirect_uris", []string{"http://app.example/cb"})
		},
		"no redirect URI":  func(id string) any { return good.with("client_id", id, "redirect_uris", nil) },
		"no grant of ours": func(id string) any { return good.with("client_id", id, "grant_types", []string{"implicit"}) },
		"another's sector": func(id string) any {
			return good.with("client_id", id, "sector_identifier_uri", "https://bank.example/sector.json")
		},
		"too long":  func(id string) any { return good.with("client_id", id, "client_name", strings.Repeat("a", 6000)) },
		"not found": func(string) any { return http.StatusNotFound },
		"moved to where it is good": func(string) any {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/moved"+r.URL.Path, http.StatusFound)
			})
		},
		"moved to another host": func(string) any {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/x.json", http.StatusFound)
			})
		},
		"a page":  func(id string) any { return serve("text/html", text(good.with("client_id", id))) },
		"no JSON": func(string) any { return serve("application/json", "client_id: x") },
		"deep":    func(string) any { return serve("application/json", strings.Repeat("[", 2000)) },
		"a name twice": func(id string) any {
			return serve("application/json", `{"client_id":"`+id+`","client_id":"`+id+`","redirect_uris":["https://app.example/cb"]}`)
		},
		"created, not found": func(id string) any {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusCreated)
				_, _ = w.Write([]byte(text(good.with("client_id", id))))
			})
		},
	} {
		i++
		path := fmt.Sprintf("/%d.json", i)
		id := s.URL + path
		s.answer(path, with(id))
		s.answer("/moved"+path, good.with("client_id", id))
		app := Client{ID: id, RedirectURI: "https://app.example/cb"}
		page := NewBrowser(t).Get(e.AuthorizeURL(app))
		if page.Status != http.StatusBadRequest || page.Location() != nil {
			t.Errorf("%s: %d to %v\n%s", name, page.Status, page.Location(), page.Body)
		}
	}
	if elsewhere.asked.Load() != 0 {
		t.Error("another host was asked")
	}
	// A document that is for many servers is taken for what is of it here.
	s.answer("/ok.json", serve("application/client+json; charset=utf-8", text(good.with("client_id", s.URL+"/ok.json", "unknown", []int{1}))))
	if page := NewBrowser(t).Get(e.AuthorizeURL(Client{ID: s.URL + "/ok.json", RedirectURI: "https://app.example/cb"})); page.Status != http.StatusOK {
		t.Errorf("a good one: %d\n%s", page.Status, page.Body)
	}
}

// Only an address in its plain form is one, so that nobody's looks like another's, and nothing is asked for any other.
func TestAnAddressThatIsNoClientIDIsNotAsked(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t))
	host := strings.TrimPrefix(s.URL, "https://")
	for _, id := range []string{
		s.URL, s.URL + "/", s.URL + "/a/../b", s.URL + "/./b", s.URL + "/a#b", s.URL + "/a#", s.URL + "/%2e%2e/b", "https://user@" + host + "/a", "https://user:pass@" + host + "/a",
		"http://" + host + "/a", "HTTPS://" + host + "/a", "https:///a", "https:/" + host + "/a", s.URL + "/" + strings.Repeat("a", 600), s.URL + "/a b", s.URL + "/ä", s.URL + `/a\b`,
		"https://" + host + "@evil.example/a",
		strings.Replace(e.Issuer, "http:", "https:", 1) + "/authorize", // the broker itself
	} {
		if page := NewBrowser(t).Get(e.AuthorizeURL(Client{ID: id, RedirectURI: "https://app.example/cb"})); page.Status != http.StatusBadRequest {
			t.Errorf("%q: %d", id, page.Status)
		}
	}
	if s.asked.Load() != 0 {
		t.Errorf("the site was asked %d times", s.asked.Load())
	}
}

// The broker must not be the way into its own network: by address, by name, by redirect, for documents and for all that they name.
func TestStrangersDoNotReachThroughTheBroker(t *testing.T) {
	inside := newAppSite(t)
	inside.answer("/client.json", document{"client_id": inside.URL + "/client.json", "redirect_uris": []string{"https://app.example/cb"}})
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "https://"), ":")
	e := Start(t, openRegistration, inside.trusted(t), func(c *config.Config) {
		c.Fetch.AllowPrivate = false
		c.Registration.MaxPerHour = 1000
	})
	for _, origin := range []string{
		inside.URL, "https://localhost:" + port, "https://[::1]:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://0x7f000001:" + port, "https://2130706433:" + port,
		"https://10.0.0.1", "https://169.254.169.254", "https://[fd00::1]", "https://0.0.0.0:" + port,
	} {
		page := NewBrowser(t).Get(e.AuthorizeURL(Client{ID: origin + "/client.json", RedirectURI: "https://app.example/cb"}))
		if page.Status != http.StatusBadRequest && page.Status != http.StatusBadGateway {
			t.Errorf("%s as client id: %d", origin, page.Status)
		}
		if r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("sector_identifier_uri", origin+"/client.json")); r.Status != http.StatusBadRequest {
			t.Errorf("%s as sector: %d %v", origin, r.Status, r.Body)
		}
	}
	if inside.asked.Load() != 0 {
		t.Errorf("the inside was asked %d times", inside.asked.Load())
	}
}

// With a list of hosts, others are not even asked.
func TestDocumentsOfOtherHostsAreNotRead(t *testing.T) {
	listed, other := newAppSite(t), newAppSite(t)
	e := Start(t, listed.trusted(t), func(c *config.Config) {
		c.ClientIDMetadata = config.ClientIDMetadata{Mode: config.ModeAllowlist, Hosts: []string{strings.TrimPrefix(listed.URL, "https://")}}
	})
	if page := NewBrowser(t).Get(e.AuthorizeURL(listed.app("/client.json"))); page.Status != http.StatusOK {
		t.Errorf("the listed one: %d\n%s", page.Status, page.Body)
	}
	if page := NewBrowser(t).Get(e.AuthorizeURL(other.app("/client.json"))); page.Status != http.StatusBadRequest || other.asked.Load() != 0 {
		t.Errorf("another: %d, asked %d times", page.Status, other.asked.Load())
	}
}

// A change is seen when the document's time is over, and a document that is gone ends the client; a server that does not answer for a
// while ends nothing.
func TestADocumentIsKeptForItsTime(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t))
	app := s.app("/client.json")
	age := func(header string, edits ...any) {
		d := document{"client_id": app.ID, "redirect_uris": []string{app.RedirectURI}, "scope": "openid offline_access", "grant_types": []string{"authorization_code", "refresh_token"}}.with(edits...)
		raw, _ := json.Marshal(d)
		s.answer("/client.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", header)
			_, _ = w.Write(raw)
		}))
	}
	good := func() bool { return NewBrowser(t).Get(e.AuthorizeURL(app)).Status == http.StatusOK }
	expect := func(when string, want bool, asked int64) {
		t.Helper()
		if got := good(); got != want || s.asked.Load() != asked {
			t.Errorf("%s: good %v, asked %d times; want %v, %d", when, got, s.asked.Load(), want, asked)
		}
	}
	age("max-age=600")
	refresh := e.SignIn(t, NewBrowser(t), app).String("refresh_token")
	age("no-store", "redirect_uris", []string{"https://app.example/moved"})
	e.Clock.Advance(5 * time.Minute)
	expect("before its time is over", true, 1)
	e.Clock.Advance(6 * time.Minute)
	expect("after it", false, 2)

	// no-store or not, nobody is asked more than once a minute.
	age("max-age=31536000")
	e.Clock.Advance(20 * time.Second)
	expect("within the least time", false, 2)
	e.Clock.Advance(time.Minute)
	expect("after the least time", true, 3)
	e.Clock.Advance(50 * time.Minute)
	expect("within an hour of the year that was asked for", true, 3)

	s.answer("/client.json", http.StatusBadGateway)
	e.Clock.Advance(15 * time.Minute)
	expect("while the server is down", true, 4)
	r := e.Refresh(t, app, refresh)
	if r.Status != http.StatusOK {
		t.Errorf("a refresh meanwhile: %d %v", r.Status, r.Body)
	}
	e.Clock.Advance(30 * time.Minute)
	expect("for less than an hour", true, 5)
	e.Clock.Advance(45 * time.Minute)
	if r := e.Refresh(t, app, r.String("refresh_token")); r.Status != http.StatusServiceUnavailable || r.String("error") != "temporarily_unavailable" {
		t.Errorf("a refresh when it is down for longer: %d %v", r.Status, r.Body)
	}
	age("max-age=60")
	e.Clock.Advance(time.Minute)
	expect("when it is up again", true, 7)
	s.answer("/client.json", http.StatusGone)
	e.Clock.Advance(2 * time.Minute)
	expect("when the document is gone", false, 8)
	if r := e.Refresh(t, app, refresh); r.String("error") != "invalid_client" {
		t.Errorf("a refresh then: %d %v", r.Status, r.Body)
	}
	if s.asked.Load() != 8 {
		t.Error("a broken address is asked with every request")
	}
	age("max-age=60")
	e.Clock.Advance(time.Minute)
	expect("when there is one again", true, 9)
}

// Each request without a session could have the broker fetch: for one who asks again and again, and for many at once, it does not.
func TestWhatRequestsMakeTheBrokerFetchIsBounded(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t))
	slow := make(chan struct{})
	s.answer("/slow.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-slow
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(document{"client_id": s.URL + "/slow.json", "redirect_uris": []string{"https://app.example/cb"}})
	}))
	time.AfterFunc(50*time.Millisecond, func() { close(slow) })
	storetest.Race(16, func() {
		if page := NewBrowser(t).Get(e.AuthorizeURL(Client{ID: s.URL + "/slow.json", RedirectURI: "https://app.example/cb"})); page.Status != http.StatusOK {
			t.Errorf("one of many at once: %d", page.Status)
		}
	})
	if s.asked.Load() != 1 {
		t.Errorf("for 16 at once the document was read %d times", s.asked.Load())
	}
	refused := 0
	for i := range 60 {
		if page := NewBrowser(t).Get(e.AuthorizeURL(s.app(fmt.Sprintf("/%d.json", i)))); page.Status == http.StatusBadGateway {
			refused++
		} else if page.Status != http.StatusOK {
			t.Fatalf("document %d: %d", i, page.Status)
		}
	}
	if asked := s.asked.Load(); asked > 40 || refused < 20 {
		t.Errorf("60 addresses in a row: %d were asked and %d refused", asked, refused)
	}
	// Those that are known go on.
	if page := NewBrowser(t).Get(e.AuthorizeURL(Client{ID: s.URL + "/slow.json", RedirectURI: "https://app.example/cb"})); page.Status != http.StatusOK {
		t.Errorf("a known one: %d", page.Status)
	}
	e.Clock.Advance(time.Minute)
	if page := NewBrowser(t).Get(e.AuthorizeURL(s.app("/later.json"))); page.Status != http.StatusOK {
		t.Errorf("a minute later: %d", page.Status)
	}
}

// Where an app is on the person's own machine alone, any program can use its client id: the person is told and asked every time.
func TestALocalAppWithAnAddressIsAlwaysAsked(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t))
	app := s.app("/client.json", "redirect_uris", []string{"http://127.0.0.1/cb"})
	b := NewBrowser(t)
	if page := consentPage(t, b, e, app); !strings.Contains(page.Body, "a program on this device") {
		t.Errorf("the page does not warn:\n%s", page.Body)
	}
	e.SignIn(t, b, app)
	if answer := e.Code(t, b, app, "prompt", "none"); answer.Get("error") != "consent_required" {
		t.Errorf("without the person: %v", answer)
	}
	consentPage(t, b, e, app)
}

// Off, an address is no client id, and nothing is asked.
func TestAnAddressIsNoClientIDUnlessSwitchedOn(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, s.trusted(t), func(c *config.Config) { c.ClientIDMetadata.Mode = config.ModeOff })
	if page := NewBrowser(t).Get(e.AuthorizeURL(s.app("/client.json"))); page.Status != http.StatusBadRequest || s.asked.Load() != 0 {
		t.Errorf("%d, asked %d times", page.Status, s.asked.Load())
	}
}

// A sector is its owner's to give (OpenID Connect Registration section 5): an app that could name any would see people there as others do.
func TestASectorIsWhatItsOwnerSays(t *testing.T) {
	s := newAppSite(t)
	e := Start(t, openRegistration, s.trusted(t))
	try := func(with any) *Response {
		s.answer("/sector.json", with)
		return call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("sector_identifier_uri", s.URL+"/sector.json"))
	}
	if r := try([]string{"https://other.example/", "https://notes.example/callback"}); r.Status != http.StatusCreated {
		t.Errorf("listed: %d %v", r.Status, r.Body)
	}
	for name, with := range map[string]any{
		"not listed": []string{"https://other.example/"}, "a prefix": []string{"https://notes.example/"}, "no list": document{"a": 1}, "not there": http.StatusNotFound,
		"elsewhere": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://other.example/", http.StatusFound)
		}),
	} {
		if r := try(with); r.Status != http.StatusBadRequest || !strings.Contains(r.String("error_description"), "sector_identifier_uri") {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
		}
	}
}

// A software statement says what its issuer vouches for, above what the app says; and only a believed issuer's, for here and now.
func TestSoftwareStatements(t *testing.T) {
	const directory = "https://directory.example"
	keys := clientKeys()
	e := Start(t, openRegistration, func(c *config.Config) {
		c.Registration.MaxPerHour = 1000
		c.Registration.SoftwareStatement = config.SoftwareStatement{Required: true, Issuers: []config.StatementIssuer{
			{Issuer: directory, JWKS: config.NewSecret(jwks(t, map[string]crypto.Signer{"d": keys.ec}))},
			{Issuer: "https://other.example", JWKS: config.NewSecret(jwks(t, map[string]crypto.Signer{"d": keys.other}))},
		}}
	})
	statement := func(key crypto.Signer, edits document) string {
		claims := document{"iss": directory, "software_id": "notes", "client_name": "Notes by the directory", "redirect_uris": []string{"https://notes.example/vouched"}}
		for name, value := range edits {
			claims[name] = value
		}
		return sign(t, "ES256", key, map[string]string{"kid": "d"}, claims)
	}
	now := e.Clock.Now()
	good := statement(keys.ec, document{"exp": now.Add(time.Hour).Unix(), "aud": e.Issuer})
	r := call(t, http.MethodPost, e.Issuer+"/register", "", webApp.with("software_statement", good, "software_id", "mine"))
	if r.Status != http.StatusCreated || r.String("client_name") != "Notes by the directory" || r.String("software_id") != "notes" || r.String("software_statement") != good {
		t.Fatalf("a good one: %d %v", r.Status, r.Body)
	}
	if uris, _ := r.Body["redirect_uris"].([]any); len(uris) != 1 || uris[0] != "https://notes.example/vouched" {
		t.Errorf("the redirect URIs are %v", uris)
	}
	for name, try := range map[string]struct{ statement, code string }{
		"none":                       {"", "invalid_software_statement"},
		"no JWT":                     {"not.a.jwt", "invalid_software_statement"},
		"of a stranger":              {statement(keys.ec, document{"iss": "https://evil.example"}), "unapproved_software_statement"},
		"of nobody":                  {statement(keys.ec, document{"iss": ""}), "unapproved_software_statement"},
		"signed by another":          {statement(keys.other, nil), "invalid_software_statement"},
		"expired":                    {statement(keys.ec, document{"exp": now.Add(-time.Second).Unix()}), "invalid_software_statement"},
		"not valid yet":              {statement(keys.ec, document{"nbf": now.Add(time.Hour).Unix()}), "invalid_software_statement"},
		"for another server":         {statement(keys.ec, document{"aud": "https://another.example"}), "invalid_software_statement"},
		"changed":                    {good[:strings.LastIndexByte(good, '.')+1] + strings.Repeat("A", 86), "invalid_software_statement"},
		"that vouches for a bad one": {statement(keys.ec, document{"redirect_uris": []string{"http://notes.example/"}}), "invalid_redirect_uri"},
		"that gives more":            {statement(keys.ec, document{"grant_types": []string{"password"}}), "invalid_client_metadata"},
		"unsigned":                   {"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2RpcmVjdG9yeS5leGFtcGxlIn0.", "invalid_software_statement"},
	} {
		d := webApp.with("software_statement", try.statement)
		if try.statement == "" {
			d = webApp
		}
		if r := call(t, http.MethodPost, e.Issuer+"/register", "", d); r.Status != http.StatusBadRequest || r.String("error") != try.code {
			t.Errorf("%s: %d %v, want %s", name, r.Status, r.Body, try.code)
		}
	}
}
