package broker_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	. "github.com/portico-id/portico/broker/brokertest"
	guesses "github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// trusted may use the password grant.
var trusted = Client{ID: "trusted", Secret: "trusted-secret-0123456789-0123456789-012345", RedirectURI: "https://trusted.example.com/callback"}

const staticPassword = "ann's own password"

// withPasswords turns the password grant on, for a client that brings the addresses of its people along, and for an account in the configuration.
func withPasswords(c *config.Config) {
	c.GrantTypes = append(c.GrantTypes, "password")
	c.TrustedProxies = []string{"127.0.0.1"}
	c.Clients = append(c.Clients, config.Client{
		ClientID: trusted.ID, ClientSecret: config.NewSecret(trusted.Secret), Name: "Trusted", RedirectURIs: []string{trusted.RedirectURI},
		Scopes: []string{"openid", "profile", "email", "offline_access"}, GrantTypes: []string{"password", "refresh_token", "authorization_code"}, PKCE: "required",
		IDTokenSignedResponseAlg: "ES256",
	})
	c.Accounts = append(c.Accounts, config.Account{
		Username: "ann", Password: config.NewSecret(staticPassword),
		Person: config.Person{Email: "ann@example.com", EmailVerified: true, Name: "Ann Example", Birthdate: "1990-12-31"},
	})
}

const home = "192.0.2.7"

// login uses the password grant as somebody at an address.
func login(t *testing.T, e *Env, from, username, password string, edits ...string) *Response {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}, "scope": {"openid profile email offline_access"}}
	for i := 0; i+1 < len(edits); i += 2 {
		form.Set(edits[i], edits[i+1])
	}
	r := request(t, http.MethodPost, e.Issuer+"/token", form.Encode(), "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", from)
	r.SetBasicAuth(trusted.ID, trusted.Secret)
	return Do(t, r)
}

// addBob makes an account in the store.
func addBob(t *testing.T, e *Env) *identity.Account {
	t.Helper()
	account, err := e.Broker.Managed.Add(t.Context(), "bob", bobsPassword, identity.Person{Name: "Bob Example", Email: "bob@example.com", EmailVerified: true})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

const bobsPassword = "bob's own password"

func TestAPasswordGivesTokens(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		bob := addBob(t, e)
		for username, c := range map[string]struct{ password, name string }{
			"ann": {staticPassword, "Ann Example"}, "bob": {bobsPassword, "Bob Example"}, "BOB": {bobsPassword, "Bob Example"},
		} {
			r := login(t, e, home, username, c.password)
			if r.Status != 200 || r.String("token_type") != "Bearer" || r.String("refresh_token") == "" || r.String("id_token") == "" {
				t.Fatalf("%s: %d %v", username, r.Status, r.Body)
			}
			who := e.Userinfo(t, r.String("access_token"))
			if who.String("name") != c.name || who.Body["email_verified"] != true || who.String("preferred_username") != strings.ToLower(username) {
				t.Errorf("%s: userinfo says %v", username, who.Body)
			}
			if username != "ann" && who.String("sub") != bob.ID {
				t.Errorf("%s is %s, want %s", username, who.String("sub"), bob.ID)
			}
			said := Claims(t, r.String("id_token"))
			if amr := fmt.Sprint(said["amr"]); said["acr"] != "urn:portico:acr:password" || amr != "[pwd]" || said["auth_time"] == nil {
				t.Errorf("%s: the ID token says %v", username, said)
			}
			refreshed := e.Refresh(t, trusted, r.String("refresh_token"))
			if refreshed.Status != 200 || !e.Active(t, trusted, refreshed.String("access_token")) {
				t.Errorf("%s: refresh: %d %v", username, refreshed.Status, refreshed.Body)
			}
		}
		// Its id is the same at every start, so that apps know the account again.
		first := login(t, e, home, "ann", staticPassword)
		if sub := e.Subject(t, first.String("access_token")); len(sub) != 22 {
			t.Errorf("the account of the configuration is %q", sub)
		}
		if r := login(t, e, home, "bob", bobsPassword, "scope", "openid"); r.String("refresh_token") != "" {
			t.Error("a refresh token without offline_access")
		}
		login(t, e, home, "bob", "a guess that is wrong")
		for _, secret := range []string{staticPassword, bobsPassword, "a guess that is wrong"} {
			if strings.Contains(e.Logs.String(), secret) {
				t.Errorf("the log has the password %q", secret)
			}
		}
		if r := login(t, e, home, "bob", bobsPassword, "scope", "openid shop:buy"); r.String("error") != "invalid_scope" {
			t.Errorf("a scope that does not exist: %d %v", r.Status, r.Body)
		}
	}, withPasswords)
}

// RFC 9700 section 2.4 says that the grant must not be used: nobody gets it who was not given it by name, twice.
func TestThePasswordGrantIsOffUnlessItIsNamedTwice(t *testing.T) {
	e := Start(t, func(c *config.Config) {
		withPasswords(c)
		c.GrantTypes = c.GrantTypes[:len(c.GrantTypes)-1]
	})
	if r := login(t, e, home, "ann", staticPassword); r.String("error") != "unsupported_grant_type" {
		t.Errorf("off in the configuration: %d %v", r.Status, r.Body)
	}
	if list := fmt.Sprint(Do(t, request(t, "GET", e.Issuer+"/.well-known/openid-configuration", "", "")).Body["grant_types_supported"]); strings.Contains(list, "password") {
		t.Errorf("off, and in the metadata: %s", list)
	}
	e = Start(t, withPasswords)
	if list := fmt.Sprint(Do(t, request(t, "GET", e.Issuer+"/.well-known/openid-configuration", "", "")).Body["grant_types_supported"]); !strings.Contains(list, "password") {
		t.Errorf("on, and not in the metadata: %s", list)
	}
	r := e.Post(t, "/token", Web, url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {staticPassword}, "scope": {"openid"}})
	if r.String("error") != "unauthorized_client" {
		t.Errorf("a client that is not registered for it: %d %v", r.Status, r.Body)
	}
	r = e.Post(t, "/token", Native, url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {staticPassword}, "scope": {"openid"}})
	if r.String("error") != "unauthorized_client" {
		t.Errorf("a public client: %d %v", r.Status, r.Body)
	}
	wrong := trusted
	wrong.Secret = "somebody-else's-0123456789-0123456789-0123456"
	r = e.Post(t, "/token", wrong, url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {staticPassword}, "scope": {"openid"}})
	if r.String("error") != "invalid_client" {
		t.Errorf("without the client's secret: %d %v", r.Status, r.Body)
	}
}

// Whoever asks must not learn which usernames exist, nor which accounts are disabled, from any answer.
func TestNoAnswerTellsAnAccountFromNone(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		addBob(t, e)
		off, err := e.Broker.Managed.Add(t.Context(), "off", bobsPassword, identity.Person{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Broker.Managed.Disable(t.Context(), off.ID); err != nil {
			t.Fatal(err)
		}
		gone, err := e.Broker.Managed.Add(t.Context(), "gone", bobsPassword, identity.Person{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Broker.Managed.Remove(t.Context(), gone.ID); err != nil {
			t.Fatal(err)
		}
		attempts := map[string][2]string{
			"wrong password":                {"bob", "not bob's password"},
			"wrong password, configuration": {"ann", "not ann's password"},
			"nobody":                        {"nobody", bobsPassword},
			"disabled":                      {"off", bobsPassword},
			"removed":                       {"gone", bobsPassword},
			"not a username":                {"not a username", bobsPassword},
			"looks like bob":                {"b\u043eb", bobsPassword}, // a Cyrillic о
			"a password too long":           {"bob", strings.Repeat("x", 2000)},
			"a password too short":          {"bob", "x"},
			"a password that is not UTF-8":  {"bob", "12345678\xff"},
		}
		answers := map[string]bool{}
		address := 0
		for name, a := range attempts {
			for range 12 { // up to the first delays, which are the same too
				address++
				from := fmt.Sprintf("198.51.100.%d", address%200)
				r := login(t, e, from, a[0], a[1])
				if r.Status != 400 || r.String("error") != "invalid_grant" {
					t.Fatalf("%s: %d %v", name, r.Status, r.Body)
				}
				answers[r.String("error_description")] = true
			}
		}
		if len(answers) != 1 {
			t.Errorf("the answers differ: %v", answers)
		}
		if _, err := e.Broker.Managed.Add(t.Context(), "cid", bobsPassword, identity.Person{}); err != nil {
			t.Fatal(err)
		}
		for name, username := range map[string]string{"somebody": "cid", "nobody": "no-cid", "not a username": "no cid"} {
			for range 9 {
				login(t, e, "203.0.113."+strconv.Itoa(len(name)), username, "wrong password")
			}
			r := login(t, e, "203.0.113."+strconv.Itoa(len(name)), username, "wrong password")
			if r.Status != 400 {
				t.Errorf("%s, the tenth attempt: %d", name, r.Status)
			}
			r = login(t, e, "203.0.113."+strconv.Itoa(len(name)), username, "wrong password")
			if r.Status != 429 || r.String("error") != "temporarily_unavailable" || r.Header.Get("Retry-After") != "5" {
				t.Errorf("%s, the eleventh: %d %v, Retry-After %q", name, r.Status, r.Body, r.Header.Get("Retry-After"))
			}
		}
	}, withPasswords)
}

// The attack that every throttle by account invites: fail on purpose, from everywhere, to keep the owner out.
func TestAnAttackDoesNotLockTheOwnerOut(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		addBob(t, e)
		if r := login(t, e, home, "bob", bobsPassword); r.Status != 200 {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
		refused := 0
		for i := range 60 {
			if r := login(t, e, fmt.Sprintf("10.0.0.%d", i), "bob", "a guess"); r.Status == 429 {
				refused++
			}
		}
		if refused != 30 {
			t.Errorf("%d of 60 guesses were put off, want 30", refused)
		}
		if r := login(t, e, home, "bob", bobsPassword); r.Status != 200 {
			t.Errorf("the owner, from where they were before: %d %v", r.Status, r.Body)
		}
		r := login(t, e, "198.51.100.1", "bob", bobsPassword)
		wait, err := strconv.Atoi(r.Header.Get("Retry-After"))
		if r.Status != 429 || err != nil || time.Duration(wait)*time.Second > guesses.MaxStrangerWait {
			t.Fatalf("the owner, from a new place: %d, wait for %q", r.Status, r.Header.Get("Retry-After"))
		}
		e.Clock.Advance(time.Duration(wait) * time.Second)
		for i := range 40 { // it goes on
			login(t, e, fmt.Sprintf("10.0.1.%d", i), "bob", "a guess")
		}
		if r := login(t, e, "198.51.100.1", "bob", bobsPassword); r.Status != 200 {
			t.Errorf("the owner, having waited for %ds: %d %v", wait, r.Status, r.Body)
		}
	}, withPasswords)
}

// Guesses sent at once all come before the first has failed. Each is counted before it is looked at.
func TestRacingGuessesAreCountedBeforeTheyAreLookedAt(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		addBob(t, e)
		var looked, put, other atomic.Int64
		storetest.Race(40, func() {
			switch r := login(t, e, home, "bob", "a guess"); r.Status {
			case 400:
				looked.Add(1)
			case 429:
				put.Add(1)
			case 503: // not looked at either, and not counted
			default:
				other.Add(1)
			}
		})
		if looked.Load() > 10 || looked.Load() == 0 || put.Load() == 0 || other.Load() > 0 {
			t.Errorf("%d guesses were looked at, %d put off, %d answered otherwise", looked.Load(), put.Load(), other.Load())
		}
	}, withPasswords)
}

// A flood of guesses at people who may not even exist must not stop the broker, nor those who are known to it: strangers are told to try again.
func TestAFloodOfStrangersKeepsNobodyWaitingWhoIsKnown(t *testing.T) {
	e := Start(t, withPasswords, func(c *config.Config) { c.Passwords.Concurrent = 1 })
	if r := login(t, e, home, "ann", staticPassword); r.Status != 200 {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	var turn, looked, busy atomic.Int64
	storetest.Race(120, func() {
		i := turn.Add(1)
		if i%30 == 0 {
			if r := login(t, e, home, "ann", staticPassword); r.Status != 200 {
				t.Errorf("somebody known: %d %v", r.Status, r.Body)
			}
			return
		}
		switch r := login(t, e, fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("user%d", i), "a guess"); {
		case r.Status == 400:
			looked.Add(1)
		case r.Status == 503 && r.String("error") == "temporarily_unavailable" && r.Header.Get("Retry-After") == "1":
			busy.Add(1)
		default:
			t.Errorf("a stranger: %d %v", r.Status, r.Body)
		}
	})
	if busy.Load() == 0 || looked.Load() == 0 {
		t.Errorf("%d strangers were looked at, %d told to try again", looked.Load(), busy.Load())
	}
}

// A stranger must not be able to make the broker compute: a password of any length costs one hash or none.
func TestAHugePasswordIsRefusedUnread(t *testing.T) {
	e := Start(t, withPasswords)
	if r := login(t, e, home, "ann", strings.Repeat("x", 8<<10)); r.Status != 400 || r.String("error") != "invalid_grant" {
		t.Errorf("8 KiB: %d %v", r.Status, r.Body)
	}
	if r := login(t, e, home, "ann", strings.Repeat("x", 8<<10+1)); r.Status != 400 || r.String("error") != "invalid_request" {
		t.Errorf("longer than a parameter may be: %d %v", r.Status, r.Body)
	}
	for name, edit := range map[string][]string{"no username": {"username", ""}, "no password": {"password", ""}} {
		if r := login(t, e, home, "ann", staticPassword, edit...); r.String("error") != "invalid_request" {
			t.Errorf("%s: %d %v", name, r.Status, r.Body)
		}
	}
}

// Disabling is for emergencies: what an account has ends with it, and does not come back when it is enabled.
func TestADisabledAccountEndsAtOnceAndARemovedOneForGood(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		bob := addBob(t, e)
		b := NewBrowser(t)
		web := e.SignIn(t, b, Web, "idp_hint", "google")
		ann := e.Subject(t, web.String("access_token"))
		tokens := login(t, e, home, "bob", bobsPassword)

		for _, c := range []struct {
			id     string
			client Client
			tokens *Response
		}{{bob.ID, trusted, tokens}, {ann, Web, web}} {
			if err := e.Broker.Managed.Disable(t.Context(), c.id); err != nil {
				t.Fatal(err)
			}
			if e.Active(t, c.client, c.tokens.String("access_token")) {
				t.Error("an access token of a disabled account works")
			}
			if err := e.Broker.Managed.Enable(t.Context(), c.id); err != nil {
				t.Fatal(err)
			}
			if e.Active(t, c.client, c.tokens.String("access_token")) {
				t.Error("an access token came back to life")
			}
			if r := e.Refresh(t, c.client, c.tokens.String("refresh_token")); r.String("error") != "invalid_grant" {
				t.Errorf("a refresh token came back to life: %d %v", r.Status, r.Body)
			}
		}
		if answer := b.Get(e.AuthorizeURL(Web, "prompt", "none")).Location(); answer == nil || answer.Query().Get("error") != "login_required" {
			t.Errorf("the session lives: %v", answer)
		}
		if r := login(t, e, home, "bob", bobsPassword); r.Status != 200 {
			t.Fatalf("enabled again: %d %v", r.Status, r.Body)
		}

		// Another password ends what came of the one before, and nothing else.
		tokens = login(t, e, home, "bob", bobsPassword)
		if err := e.Broker.Managed.SetPassword(t.Context(), bob.ID, "", "another password"); err != nil {
			t.Fatal(err)
		}
		if e.Active(t, trusted, tokens.String("access_token")) || login(t, e, home, "bob", bobsPassword).Status == 200 {
			t.Error("the password before is good for something")
		}
		tokens = login(t, e, home, "bob", "another password")

		// Removed: the same person is somebody new.
		web = e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google")
		if sub := e.Subject(t, web.String("access_token")); sub != ann {
			t.Fatalf("signed in as %s, want %s", sub, ann)
		}
		for _, id := range []string{ann, bob.ID} {
			if err := e.Broker.Managed.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if e.Active(t, Web, web.String("access_token")) || e.Active(t, trusted, tokens.String("access_token")) {
			t.Error("a token of a removed account works")
		}
		page := NewBrowser(t)
		again := e.SignIn(t, page, Web, "idp_hint", "google")
		if sub := e.Subject(t, again.String("access_token")); sub == ann {
			t.Error("a removed account came back")
		}
		if r := login(t, e, home, "bob", "another password"); r.String("error") != "invalid_grant" {
			t.Errorf("a removed account signs in: %d %v", r.Status, r.Body)
		}
		if _, err := e.Broker.Managed.Add(t.Context(), "bob", bobsPassword, identity.Person{}); err != nil {
			t.Errorf("the username is not free: %v", err)
		}
	}, withPasswords)
}

// A connector that asks nobody makes conformance runs possible: no page, and every request for a new login is answered with one.
func TestAConnectorThatAsksNobody(t *testing.T) {
	e := Start(t, func(c *config.Config) {
		c.Connectors = []config.Connector{{
			Name: "robot", Type: "fixed", InsecureSignsEveryoneIn: true,
			Profile: config.FixedIdentity{
				Subject: "robot-1", PreferredUsername: "robot", AMR: []string{"pwd", "otp"},
				Person: config.Person{
					Email: "robot@example.com", EmailVerified: true, Name: "Robot Example", GivenName: "Robot", FamilyName: "Example", MiddleName: "R.",
					Nickname: "Robbie", Profile: "https://robots.example.com/1", Picture: "https://robots.example.com/1.png", Website: "https://robots.example.com",
					Gender: "other", Birthdate: "2000-01-01", Zoneinfo: "Europe/Paris", Locale: "en",
				},
			},
		}}
		c.Clients[1].Connectors = nil
	})
	if !strings.Contains(e.Logs.String(), "INSECURE") {
		t.Error("there is no warning in the log")
	}
	b := NewBrowser(t)
	// The code comes without a page: the browser is only redirected.
	answer := e.Code(t, b, First, "scope", "openid profile email")
	tokens := e.Redeem(t, First, answer.Get("code"))
	who := e.Userinfo(t, tokens.String("access_token"))
	for name, want := range map[string]any{
		"email": "robot@example.com", "email_verified": true, "name": "Robot Example", "given_name": "Robot", "family_name": "Example", "middle_name": "R.",
		"nickname": "Robbie", "preferred_username": "robot", "profile": "https://robots.example.com/1", "picture": "https://robots.example.com/1.png",
		"website": "https://robots.example.com", "gender": "other", "birthdate": "2000-01-01", "zoneinfo": "Europe/Paris", "locale": "en",
	} {
		if who.Body[name] != want {
			t.Errorf("%s is %v, want %v", name, who.Body[name], want)
		}
	}
	first := Claims(t, tokens.String("id_token"))
	if fmt.Sprint(first["amr"]) != "[pwd otp]" {
		t.Errorf("amr is %v", first["amr"])
	}
	// A new login is a new one, without a page, and the same person.
	e.Clock.Advance(time.Minute)
	tokens = e.Redeem(t, First, e.Code(t, b, First, "prompt", "login").Get("code"))
	second := Claims(t, tokens.String("id_token"))
	if second["auth_time"].(float64) < first["auth_time"].(float64)+60 || second["sub"] != first["sub"] {
		t.Errorf("prompt=login: %v after %v", second, first)
	}
	e.Clock.Advance(time.Minute)
	tokens = e.Redeem(t, First, e.Code(t, b, First, "max_age", "30").Get("code"))
	if third := Claims(t, tokens.String("id_token")); third["auth_time"].(float64) < second["auth_time"].(float64)+60 {
		t.Errorf("max_age: %v after %v", third, second)
	}
	// A callback that nobody was sent to does nothing.
	if page := NewBrowser(t).Get(e.Issuer + "/callback/robot?code=fixed&state=forged.forged"); page.Status == 200 || page.Location() != nil {
		t.Errorf("a forged callback: %d %v", page.Status, page.Location())
	}
}

// `portico config check` and the start say what is wrong with each account, before anybody finds out by not getting in.
func TestAccountsOfTheConfigurationAreCheckedAtTheStart(t *testing.T) {
	e := Start(t, withPasswords)
	for want, edit := range map[string]func(*config.Account){
		"username":       func(a *config.Account) { a.Username = "not a username" },
		"it is there tw": func(a *config.Account) { a.Username = "ANN" },
		"at least 8":     func(a *config.Account) { a.Password = config.NewSecret("short") },
		"argon2id":       func(a *config.Account) { a.Password, a.PasswordHash = config.Secret{}, config.NewSecret("$2b$12$abc") },
		"email is not":   func(a *config.Account) { a.Email = "nobody" },
		"email_verified": func(a *config.Account) { a.EmailVerified = true },
		"picture":        func(a *config.Account) { a.Picture = "javascript:alert(1)" },
		"given_name":     func(a *config.Account) { a.GivenName = strings.Repeat("x", 1000) },
	} {
		cfg := *e.Config
		account := config.Account{Username: "bob", Password: config.NewSecret(bobsPassword)}
		edit(&account)
		cfg.Accounts = append([]config.Account{cfg.Accounts[0]}, account)
		if err := broker.Check(&cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("check: %v; want words about %q", err, want)
		}
		if b, err := broker.New(t.Context(), &cfg, broker.Options{Backend: e.Backend}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start: %v; want words about %q", err, want)
			if b != nil {
				b.Close()
			}
		}
	}
	// Whoever has the same username in another spelling in the store does not get in by it.
	if _, err := e.Broker.Managed.Add(t.Context(), "Ann", bobsPassword, identity.Person{}); err == nil {
		t.Error("the username of the configuration was given away")
	}
}

// An app whose people share its server's address, and one person on several devices: none is put off by the others.
func TestGoodLoginsAtTheSameTimeDoNotDelayEachOther(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		addBob(t, e)
		var wrong atomic.Int64
		for range 3 {
			storetest.Race(8, func() {
				if r := login(t, e, home, "bob", bobsPassword); r.Status != 200 {
					wrong.Add(1)
					t.Log(r.Status, r.Body)
				}
			})
		}
		if wrong.Load() > 0 {
			t.Errorf("%d of 24 good logins were refused", wrong.Load())
		}
	}, withPasswords)
}

// A password is changed because somebody else has it: whoever signs in with it at that very moment must not keep what they got.
func TestALoginThatRacesWithAChangeOfThePasswordIsWorthNothing(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		bob := addBob(t, e)
		login(t, e, home, "bob", bobsPassword) // known from here on, so that nothing is put off
		old := bobsPassword
		for i := range 3 {
			fresh := fmt.Sprintf("password number %d", i)
			tokens := make(chan string, 4)
			var turn atomic.Int64
			storetest.Race(5, func() {
				if turn.Add(1) == 3 {
					if err := e.Broker.Managed.SetPassword(t.Context(), bob.ID, "", fresh); err != nil {
						t.Error(err)
					}
					return
				}
				if r := login(t, e, home, "bob", old); r.Status == 200 {
					tokens <- r.String("access_token")
				}
			})
			close(tokens)
			for token := range tokens {
				if e.Active(t, trusted, token) {
					t.Fatal("a token of the password before works")
				}
			}
			if r := login(t, e, home, "bob", fresh); r.Status != 200 {
				t.Fatalf("the new password: %d %v", r.Status, r.Body)
			}
			old = fresh
		}
	}, withPasswords)
}
