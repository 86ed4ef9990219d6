package broker_test

import (
	"net/http"
	"net/url"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// pairwiseClients makes Web and First one sector, and Other another.
func pairwiseClients(c *config.Config) {
	for i := range c.Clients {
		switch c.Clients[i].ClientID {
		case First.ID:
			c.Clients[i].SubjectType, c.Clients[i].SectorIdentifierURI = "pairwise", "https://app.example.com/sector.json"
		case Web.ID, Other.ID:
			c.Clients[i].SubjectType = "pairwise"
		}
	}
}

// everySub is what a client sees of the person, wherever it looks.
func everySub(t *testing.T, e *Env, c Client, tokens *Response) map[string]string {
	t.Helper()
	access, refresh := tokens.String("access_token"), tokens.String("refresh_token")
	sub := func(jwt string) string { return Claims(t, jwt)["sub"].(string) }
	introspected := func(token string) string {
		return e.Post(t, "/introspect", c, url.Values{"token": {token}}).String("sub")
	}
	subs := map[string]string{
		"userinfo":                      e.Subject(t, access),
		"userinfo at another node":      e.Node(t).Subject(t, access),
		"introspection, of the access":  introspected(access),
		"introspection, of the refresh": introspected(refresh),
		"ID token":                      sub(tokens.String("id_token")),
		"ID token after a refresh":      sub(e.Refresh(t, c, refresh).String("id_token")),
	}
	if c.ID == First.ID {
		subs["JWT access token"] = sub(access)
	}
	return subs
}

// OpenID Connect Core section 8.1: apps of one sector see a person by one sub, whatever they look at, and those of another by another;
// from none of them can they tell who it is.
func TestAPersonIsAnotherForEachSector(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		account := e.Subject(t, e.SignIn(t, NewBrowser(t), Native, "idp_hint", "google").String("access_token"))
		seen := map[string]string{}
		for _, c := range []Client{Web, First, Other} {
			tokens := e.SignIn(t, NewBrowser(t), c, "idp_hint", "google")
			for where, sub := range everySub(t, e, c, tokens) {
				if seen[c.ID] == "" {
					seen[c.ID] = sub
				}
				if sub != seen[c.ID] || sub == account || len(sub) != 43 {
					t.Errorf("%s: the sub of %s is %q; elsewhere it is %q, and the account %q", c.ID, where, sub, seen[c.ID], account)
				}
			}
		}
		if seen[Web.ID] != seen[First.ID] || seen[Web.ID] == seen[Other.ID] {
			t.Errorf("web and first are one sector, other is another: %v", seen)
		}
		bob := e.Subject(t, e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "login_hint", "bob").String("access_token"))
		if bob == seen[Web.ID] {
			t.Error("two people have one sub")
		}
	}, pairwiseClients)
}

// An ID token hint names the person by the sub that the client knows (OpenID Connect Core section 3.1.2.1).
func TestAnIDTokenHintWithAPairwiseSubFindsItsAccount(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		ann, bob := NewBrowser(t), NewBrowser(t)
		hint := e.SignIn(t, ann, Web, "idp_hint", "google").String("id_token")
		other := e.SignIn(t, bob, Web, "idp_hint", "google", "login_hint", "bob").String("id_token")
		if answer := e.Code(t, ann, Web, "prompt", "none", "id_token_hint", hint); answer.Get("code") == "" {
			t.Errorf("the right hint: %v", answer)
		}
		if answer := e.Code(t, ann, Web, "prompt", "none", "id_token_hint", other); answer.Get("error") != "login_required" {
			t.Errorf("another person's hint: %v", answer)
		}
		// Whoever signs in is compared too, not the session alone.
		if answer := e.Code(t, NewBrowser(t), Web, "idp_hint", "google", "id_token_hint", other); answer.Get("error") != "login_required" {
			t.Errorf("somebody else signed in than the hint names: %v", answer)
		}
		// And the sign-out that the hint permits asks nobody.
		page := ann.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.com/bye"}}.Encode())
		if location := page.Location(); page.Status != http.StatusSeeOther || location == nil || location.String() != "https://app.example.com/bye" {
			t.Errorf("sign-out: %d to %v", page.Status, location)
		}
	}, pairwiseClients)
}

// All apps of one session would see one sid, and know each other's people by it for as long as the session lasts.
func TestASessionIsAnotherForEachSector(t *testing.T) {
	e := Start(t, pairwiseClients)
	b := NewBrowser(t)
	sids := map[string]any{}
	for _, c := range []Client{Web, First, Other, Native} {
		sids[c.ID] = Claims(t, e.SignIn(t, b, c, "idp_hint", "google").String("id_token"))["sid"]
	}
	if sids[Web.ID] == nil || sids[Web.ID] != sids[First.ID] || sids[Web.ID] == sids[Other.ID] || sids[Web.ID] == sids[Native.ID] || sids[Other.ID] == sids[Native.ID] {
		t.Errorf("web and first are one sector, the others have one each: %v", sids)
	}
}

// A logout token names person and session as the app knows them (OpenID Connect Back-Channel Logout section 2.4), or it could not find them.
func TestALogoutTokenHasThePairwiseSub(t *testing.T) {
	app := newReceiver(t)
	e := Start(t, pairwiseClients, hears("web", app))
	b := NewBrowser(t)
	tokens := e.SignIn(t, b, Web, "idp_hint", "google")
	signOut(e, b, tokens)
	deliver(t, e.Broker)
	raw := app.tokens()
	if len(raw) != 1 {
		t.Fatalf("%d logout tokens", len(raw))
	}
	got, want := Claims(t, raw[0]), Claims(t, tokens.String("id_token"))
	for _, name := range []string{"sub", "sid"} {
		if got[name] == nil || got[name] != want[name] {
			t.Errorf("the logout token's %s is %v, the ID token's %v", name, got[name], want[name])
		}
	}
}

// An app that nobody has checked says by its redirect URI which sector it is of, and codes go there and nowhere else, so that it gains nothing by naming
// another's. With a device it would have its tokens without that, and see people by the subs of an app that it has nothing to do with.
func TestAStrangerDoesNotEnterASectorByAWayAroundItsRedirectURI(t *testing.T) {
	e := Start(t, openRegistration, func(c *config.Config) {
		c.Registration.GrantTypes = append(c.Registration.GrantTypes, deviceGrant)
	})
	stranger := webApp.with("redirect_uris", []string{Web.RedirectURI}, "subject_type", "pairwise")
	both := stranger.with("grant_types", []string{"authorization_code", deviceGrant})
	if r := call(t, http.MethodPost, e.Issuer+"/register", "", both); r.Status != http.StatusBadRequest || r.String("error") != "invalid_client_metadata" {
		t.Errorf("it registers for both: %d %v", r.Status, r.Body)
	}
	app := register(t, e, stranger)
	if r := call(t, http.MethodPut, app.URI, app.Token, both.with("client_id", app.ID)); r.Status != http.StatusBadRequest {
		t.Errorf("it changes to both: %d %v", r.Status, r.Body)
	}
	register(t, e, both.with("subject_type", "public"))
}
