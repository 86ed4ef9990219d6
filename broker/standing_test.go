package broker_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
)

// An operator disables an app because its tokens are in the wrong hands: they must end with it, not an hour later, at userinfo as for
// the resource server that introspects them, and on the nodes where nobody gave the command.
func TestAccessTokensEndWithTheirApp(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		ctx := t.Context()
		c, secret, err := e.Broker.Clients.Add(ctx, registry.Client{
			Name: "App", RedirectURIs: []string{"https://gone.example.com/cb"}, Scopes: []string{"openid", "notes:read"}, FirstParty: true,
			GrantTypes: []string{registry.GrantAuthorizationCode, registry.GrantClientCredentials},
		})
		if err != nil {
			t.Fatal(err)
		}
		app := Client{ID: c.ID, Secret: secret, RedirectURI: c.RedirectURIs[0]}
		persons := e.SignIn(t, NewBrowser(t), app, "idp_hint", "google", "scope", "openid").String("access_token")
		own := e.Post(t, "/token", app, url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}}).String("access_token")
		other := e.Node(t)
		works := func(t *testing.T, e *Env, want bool) {
			t.Helper()
			if got := e.Userinfo(t, persons).Status == http.StatusOK; got != want {
				t.Errorf("userinfo: %v, want %v", got, want)
			}
			if got := e.Active(t, notesHost, own); got != want {
				t.Errorf("introspection of a token without a person: %v, want %v", got, want)
			}
		}
		works(t, e, true)
		works(t, other, true)

		disable := func(disabled bool) {
			t.Helper()
			if _, err := e.Broker.Clients.Update(ctx, app.ID, func(c *registry.Client) error { c.Disabled = disabled; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		disable(true)
		works(t, e, false)
		e.Clock.Advance(3 * time.Second)
		works(t, other, false)
		disable(false)
		works(t, e, true)
		e.Clock.Advance(3 * time.Second)
		works(t, other, true)

		if err := e.Broker.Clients.Remove(ctx, app.ID); err != nil {
			t.Fatal(err)
		}
		works(t, e, false)
		e.Clock.Advance(3 * time.Second)
		works(t, other, false)
	}, withAPIs)
}
