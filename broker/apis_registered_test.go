package broker_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/registry"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

const todoAPI = "https://api.example.com/todo"

// todo is an api that somebody registers while brokers run.
func todo() registry.API {
	return registry.API{
		Identifier: todoAPI, Name: "Todo", AccessTokenFormat: "jwt",
		Scopes: []registry.Scope{{Name: "todo:read", Sentence: "Read what you have to do"}, {Name: "todo:write", Sentence: "Give you more to do"}},
		DetailsTypes: []registry.DetailsType{{
			Type: "chore", Sentence: "Do a chore for you", Fields: []registry.DetailsField{{Name: "what", Required: true}},
		}},
	}
}

// withTodoClients registers clients for the scopes of an api that is not there yet, and its server.
func withTodoClients(c *config.Config) {
	withAPIs(c)
	for i := range c.Clients {
		switch c.Clients[i].ClientID {
		case notesHost.ID:
			c.Clients[i].ResourceServerOf = append(c.Clients[i].ResourceServerOf, todoAPI)
		case Web.ID:
			c.Clients[i].AuthorizationDetailsTypes = []string{"chore"}
			fallthrough
		case service.ID:
			c.Clients[i].Scopes = append(c.Clients[i].Scopes, "todo:read")
		}
	}
}

// command opens what a command of the command line works on, beside the brokers that run.
func command(t *testing.T, e *Env) *broker.Data {
	t.Helper()
	data, err := broker.Open(t.Context(), e.Config, broker.Options{Now: e.Clock.Now, Backend: e.Backend})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// registerTodo registers the api where neither node sees it, with as much time gone as catching up needs.
func registerTodo(t *testing.T, e *Env) {
	t.Helper()
	if _, err := command(t, e).APIs.Add(t.Context(), todo()); err != nil {
		t.Fatal(err)
	}
	e.Clock.Advance(time.Second)
}

// An api that a command registers is there at every node as soon as a request names its scope, the api itself, or what it defines in detail.
func TestAnAPIRegisteredElsewhereIsThereAtTheFirstRequestThatNamesIt(t *testing.T) {
	for name, edits := range map[string][]string{
		"by scope":    {"scope", "todo:read"},
		"by resource": {"scope", "openid", "resource", todoAPI},
		"by details":  {"scope", "openid", "authorization_details", `[{"type":"chore","what":"dishes"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			Each(t, func(t *testing.T, e *Env) {
				refused, _ := NewBrowser(t).Walk(e.AuthorizeURL(Web, edits...), Web.RedirectURI)
				if refused == nil || refused.Query().Get("error") == "" {
					t.Fatalf("before it is registered: %v", refused)
				}
				registerTodo(t, e)
				tokens := e.SignIn(t, NewBrowser(t), Web, edits...)
				if claims := Claims(t, tokens.String("access_token")); !strings.Contains(texts(claims["aud"]), todoAPI) {
					t.Errorf("the token says %v", claims)
				}
			}, withTodoClients)
		})
	}
}

// Several nodes: a token that one issues for a new api, the next one introspects and refreshes; a sign-in that one begins, the next one asks the
// person about; all that before the next one has read the store by itself. What was removed is gone when it has.
func TestNodesAgreeOnAPIs(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		other := e.Node(t)
		if got := serverMetadata(t, e)["scopes_supported"]; strings.Contains(texts(got), "todo:") {
			t.Fatalf("scopes_supported: %v", got)
		}
		registerTodo(t, e)

		r := other.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "scope": {"todo:read"}})
		if r.Status != http.StatusOK || texts(Claims(t, r.String("access_token"))["aud"]) != todoAPI {
			t.Fatalf("a token: %d %v", r.Status, r.Body)
		}
		if e.Broker.APIs.Get(todoAPI) != nil {
			t.Fatal("the first node has read it by itself: the test shows nothing")
		}
		if said := introspect(t, e, notesHost, r.String("access_token")); said["scope"] != "todo:read" || said.audience() != todoAPI {
			t.Errorf("introspected elsewhere: %v", said)
		}
		if got := serverMetadata(t, e); !strings.Contains(texts(got["scopes_supported"]), "todo:read todo:write") || !strings.Contains(texts(got["authorization_details_types_supported"]), "chore") {
			t.Errorf("metadata: %v, %v", got["scopes_supported"], got["authorization_details_types_supported"])
		}

		// A scope more, which the second node alone has seen: the first still asks the person for it.
		data := command(t, e)
		if _, err := data.APIs.Update(t.Context(), todoAPI, func(a *registry.API) error {
			a.Scopes = append(a.Scopes, registry.Scope{Name: "notes:write", Sentence: "Write <down> what you have to do"})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		e.Clock.Advance(time.Second)
		b := NewBrowser(t)
		e.SignIn(t, b, Web, "scope", "openid offline_access todo:read", "resource", todoAPI)
		if err := other.Broker.APIs.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(other.Broker.Handler)
		defer server.Close()
		atOther := func(target string) string { return server.URL + strings.TrimPrefix(target, e.Issuer) }
		page := b.Get(atOther(e.AuthorizeURL(Web, "idp_hint", "google", "scope", "openid notes:write", "resource", todoAPI)))
		for page.Location() != nil {
			page = b.Get(e.Issuer + page.Location().RequestURI())
		}
		if !strings.Contains(page.Body, "Write &lt;down&gt; what you have to do") {
			t.Errorf("the person is asked:\n%s", page.Body)
		}

		if err := data.APIs.Remove(t.Context(), todoAPI); err != nil {
			t.Fatal(err)
		}
		for _, node := range []*Env{e, other} {
			if err := node.Broker.APIs.Reload(t.Context()); err != nil { // as Run does every two seconds
				t.Fatal(err)
			}
			r := node.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "scope": {"todo:read"}})
			expectError(t, r, "invalid_scope")
			if !strings.Contains(r.String("error_description"), "'todo:read'") {
				t.Errorf("the scope is not named: %v", r.Body)
			}
			expectError(t, node.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "resource": {todoAPI}}), "invalid_target")
		}
		if got := serverMetadata(t, e)["scopes_supported"]; strings.Contains(texts(got), "todo:") {
			t.Errorf("scopes_supported: %v", got)
		}
	}, withTodoClients)
}

// What a grant is for may be known to another node first; and what is removed, no refresh brings back.
func TestAGrantForAnAPIThatComesAndGoes(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerTodo(t, e)
		tokens := e.SignIn(t, NewBrowser(t), Web, "scope", "openid offline_access todo:read")
		other := e.Node(t)
		if err := command(t, e).APIs.Remove(t.Context(), todoAPI); err != nil {
			t.Fatal(err)
		}
		if err := other.Broker.APIs.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectError(t, other.Refresh(t, Web, tokens.String("refresh_token")), "invalid_target")
		registerTodo(t, e)
		again := other.Refresh(t, Web, tokens.String("refresh_token"))
		if again.Status != http.StatusOK || !slices.Contains(strings.Fields(again.String("scope")), "todo:read") {
			t.Errorf("registered again, unknown to the node by then: %d %v", again.Status, again.Body)
		}
	}, withTodoClients)
}

// A broker whose configuration takes what was registered starts all the same, and so does one whose configuration names the resource server
// of an api that nobody has registered yet.
func TestTheConfigurationWinsOverWhatIsRegistered(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		if !strings.Contains(e.Logs.String(), "resource server of an api that is not registered") || !strings.Contains(e.Logs.String(), todoAPI) {
			t.Errorf("the log does not say that nobody has registered %s", todoAPI)
		}
		if s := e.Logs.String(); !strings.Contains(s, `has a scope that no api defines","client_id":"`+Web.ID+`","scope":"todo:read"`) || strings.Contains(s, `"scope":"openid"`) {
			t.Error("the log does not say that nobody has defined its scopes, and theirs alone")
		}
		registerTodo(t, e)
		e.Config.APIs = append(e.Config.APIs, config.API{Identifier: todoAPI, Name: "Ours", Scopes: []config.Scope{{Name: "ours", Sentence: "Ours"}}})
		node := e.Node(t)
		if a := node.Broker.APIs.Get(todoAPI); a == nil || !a.Static || a.HasScope("todo:read") {
			t.Errorf("there is %+v", a)
		}
		if !strings.Contains(e.Logs.String(), "a registered api is left out") {
			t.Error("the log does not say so")
		}
	}, withTodoClients)
}

// An api that is removed while somebody signs in: the page does not leave out what the app asked for, and no token has it.
func TestAnAPIIsRemovedWhileSomebodySignsIn(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerTodo(t, e)
		b := NewBrowser(t)
		page := consentPage(t, b, e, Web, "scope", "openid todo:read")
		if !strings.Contains(page.Body, "Read what you have to do") {
			t.Fatalf("asked:\n%s", page.Body)
		}
		if err := errors.Join(command(t, e).APIs.Remove(t.Context(), todoAPI), e.Broker.APIs.Reload(t.Context())); err != nil {
			t.Fatal(err)
		}
		again := b.Get(page.URL.String())
		if !strings.Contains(again.Body, "todo:read") || !strings.Contains(again.Body, "Something that is no longer there") {
			t.Errorf("asked after it was removed:\n%s", again.Body)
		}
		location, end := again.Walk(Web.RedirectURI)
		if location == nil {
			t.Fatalf("it ended at %s:\n%s", end.URL, end.Body)
		}
		r := e.Post(t, "/token", Web, url.Values{
			"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {Web.RedirectURI}, "code_verifier": {Verifier},
		})
		expectError(t, r, "invalid_target")
	}, withTodoClients)
}
