package registry_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

// world is a registry with a clock.
type world struct {
	*registry.Clients
	ring *token.Keyring
	now  time.Time
}

func newWorld(t *testing.T, open func(*testing.T, func() time.Time) store.Backend) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return w.now }
	ring, err := token.NewKeyring([]byte("a test keyring secret of more than 32 bytes"))
	if err != nil {
		t.Fatal(err)
	}
	w.ring = ring
	b := open(t, clock)
	w.Clients = registry.New(b, registry.Options{
		Hasher: ring, Now: clock, NewID: token.NewID, NewSecret: token.NewSecret,
		Audit: audit.New(b, audit.Options{Now: clock, Log: slog.New(slog.DiscardHandler)}),
	})
	return w
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { f(t, newWorld(t, open)) })
	}
}

func good() registry.Client {
	return registry.Client{Name: "App", RedirectURIs: []string{"https://app.example.com/cb"}, Scopes: []string{"openid"}}
}

func TestASecretIsKeptHashedAndChecked(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, secret, err := w.Add(t.Context(), good())
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Get(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Secrets) != 1 || strings.Contains(got.Secrets[0].Hash, secret) || !got.CheckSecret(w.ring, secret, w.now) {
			t.Errorf("kept %+v", got.Secrets)
		}
		for _, wrong := range []string{"", secret + "x", secret[1:], got.Secrets[0].Hash} {
			if got.CheckSecret(w.ring, wrong, w.now) {
				t.Errorf("%q passes for the secret", wrong)
			}
		}
	})
}

func TestRotationKeepsTwoSecretsForAWhile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, first, err := w.Add(t.Context(), good())
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string, want map[string]bool) {
			t.Helper()
			got, err := w.Get(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			for secret, live := range want {
				if got.CheckSecret(w.ring, secret, w.now) != live {
					t.Errorf("%s: a secret is live %v, want %v", when, !live, live)
				}
			}
		}
		_, second, err := w.RotateSecret(t.Context(), c.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		check("after the rotation", map[string]bool{first: true, second: true})
		_, third, err := w.RotateSecret(t.Context(), c.ID, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		check("after another", map[string]bool{first: false, second: true, third: true})
		w.now = w.now.Add(24 * time.Hour)
		check("when the overlap has ended", map[string]bool{second: false, third: true})
	})
}

func TestAPublicClientHasNoSecretAndNeverGetsOne(t *testing.T) {
	w := newWorld(t, storetest.Backends(t)["sqlite"])
	public := good()
	public.IsPublic = true
	c, secret, err := w.Add(t.Context(), public)
	if err != nil || secret != "" || len(c.Secrets) != 0 {
		t.Fatalf("%q, %+v, %v", secret, c, err)
	}
	if _, _, err := w.RotateSecret(t.Context(), c.ID, 0); !errors.Is(err, registry.ErrPublic) {
		t.Errorf("rotation: %v", err)
	}
	_, err = w.Update(t.Context(), c.ID, func(c *registry.Client) error { c.IsPublic = false; return nil })
	if kept, _ := w.Get(t.Context(), c.ID); !errors.Is(err, registry.ErrInvalid) || !kept.IsPublic {
		t.Errorf("a public client became confidential: %v", err)
	}
	if c.AllowsAuth(registry.AuthBasic) || !c.AllowsAuth(registry.AuthNone) {
		t.Error("a public client authenticates by none, and by nothing else")
	}
}

func TestWhatCannotBeRegisteredNamesItsField(t *testing.T) {
	for field, edit := range map[string]func(*registry.Client){
		"name":                         func(c *registry.Client) { c.Name = "\x1b[31m" },
		"website":                      func(c *registry.Client) { c.Website = "javascript:alert(1)" },
		"logo_uri":                     func(c *registry.Client) { c.LogoURI = "http://app.example.com/logo.png" },
		"redirect_uris":                func(c *registry.Client) { c.RedirectURIs = nil },
		"post_logout_redirect_uris":    func(c *registry.Client) { c.PostLogoutRedirectURIs = []string{"http://app.example.com/"} },
		"scopes":                       func(c *registry.Client) { c.Scopes = []string{"two words"} },
		"grant_types":                  func(c *registry.Client) { c.GrantTypes = []string{"implicit"} },
		"token_endpoint_auth_method":   func(c *registry.Client) { c.AuthMethod = "tls" },
		"id_token_signed_response_alg": func(c *registry.Client) { c.IDTokenAlg = "none" },
		"access_token_format":          func(c *registry.Client) { c.AccessTokenFormat = "paper" },
		"access_token_lifetime":        func(c *registry.Client) { c.AccessTokenTTL = 1 << 40 },
		"refresh_lifetime":             func(c *registry.Client) { c.RefreshTTL = -1 },
	} {
		c := good()
		c.GrantTypes = []string{registry.GrantAuthorizationCode}
		if err := c.Validate(); err != nil {
			t.Fatalf("the good one: %v", err)
		}
		edit(&c)
		if err := c.Validate(); !slices.ContainsFunc(registry.FieldErrors(err), func(e *registry.FieldError) bool { return strings.HasPrefix(e.Field, field) }) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestClientsOfTheConfigurationStandFirstAndCannotBeChanged(t *testing.T) {
	w := newWorld(t, storetest.Backends(t)["sqlite"])
	static := registry.StaticClient{Client: good(), Secret: strings.Repeat("s", 32)}
	static.ID = "from-file"
	if err := w.Static(static); err != nil {
		t.Fatal(err)
	}
	stored, _, err := w.Add(t.Context(), good())
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Get(t.Context(), "from-file")
	if err != nil || !got.Static || !got.CheckSecret(w.ring, static.Secret, w.now) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := w.Update(t.Context(), "from-file", func(*registry.Client) error { return nil }); !errors.Is(err, registry.ErrStatic) {
		t.Errorf("update: %v", err)
	}
	if err := w.Remove(t.Context(), "from-file"); !errors.Is(err, registry.ErrStatic) {
		t.Errorf("remove: %v", err)
	}
	page, next, err := w.List(t.Context(), "")
	if err != nil || next != "" || len(page) != 2 || page[0].ID != "from-file" || page[1].ID != stored.ID {
		t.Errorf("listed %v, %q, %v", page, next, err)
	}
	for name, bad := range map[string]func(*registry.StaticClient){
		"a short secret":                 func(c *registry.StaticClient) { c.Secret = "short" },
		"a public client with a secret":  func(c *registry.StaticClient) { c.IsPublic = true },
		"an id with a space":             func(c *registry.StaticClient) { c.ID = "a b" },
		"a redirect URI that is no good": func(c *registry.StaticClient) { c.RedirectURIs = []string{"x"} },
	} {
		c := static
		bad(&c)
		if err := w.Static(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := w.Static(static, static); err == nil {
		t.Error("one id twice is taken")
	}
}

func TestUnknownClients(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, id := range []string{"", "nobody", "a b", "../x", strings.Repeat("a", 5000), "$ne", "\x00"} {
			if _, err := w.Get(t.Context(), id); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("get %.20q: %v", id, err)
			}
			if err := w.Remove(t.Context(), id); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("remove %.20q: %v", id, err)
			}
		}
	})
}
