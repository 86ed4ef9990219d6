package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/registry"
)

// Default is the configuration of an empty file. It lacks an issuer and a connector, and so is not valid yet.
func Default() *Config {
	c := base()
	c.complete()
	return c
}

// base are the defaults that hold whatever else is configured.
func base() *Config {
	return &Config{
		Listen:  "127.0.0.1:8080",
		MTLS:    MTLS{Mode: MTLSOff},
		Store:   Store{Type: StoreSQLite},
		Linking: LinkAsk,
		// All but the password grant, which RFC 9700 section 2.4 says must not be used: it is for what cannot be changed otherwise.
		GrantTypes: slices.DeleteFunc(registry.GrantTypes(), func(g string) bool { return g == registry.GrantPassword }),
		Passwords:  Passwords{MinLength: 8}, // NIST SP 800-63B section 5.1.1.2
		Tokens: Tokens{
			// An API that verifies a JWT by itself does not hear of a revocation until the token ends, so this is how
			// long a stolen or revoked one works. A refresh costs less than a millisecond: there is no need for longer.
			AccessTokenLifetime: Duration(15 * time.Minute),
			AccessTokenFormat:   "opaque",
			// It says who signed in, to the app, once; it opens nothing. An hour forgives a slow clock and a paused app.
			IDTokenLifetime: Duration(time.Hour),
			CodeLifetime:    Duration(time.Minute),
			// Two tabs that race, or a lost response and the retry, are done by then (RFC 9700 section 4.14.2).
			RefreshGrace: Duration(30 * time.Second),
			// A proof is for one request within a minute, and spent by it. A nonce keeps an app's own code from making proofs for later,
			// and costs every app an extra round trip now and then.
			DPoPNonce: "off",
		},
		UnprovenPerMinute: 60, // more than people sign in from one office
		Registration: Registration{
			Mode: ModeOff,
			// A developer who tries, or an office whose people install an app, registers less often than this.
			MaxPerHour: 20,
			Scopes:     []string{"openid", "profile", "email", "offline_access"},
			GrantTypes: []string{"authorization_code", "refresh_token"},
			PKCE:       "required",
			// Who registers means to sign somebody in soon. What is left behind is collected.
			UnusedLifetime: Duration(30 * day),
		},
		ClientIDMetadata: ClientIDMetadata{Mode: ModeOff},

		Sessions:     Sessions{Lifetime: Duration(30 * day), IdleLifetime: Duration(14 * day)},
		FlowLifetime: Duration(30 * time.Minute),
		// Time to fetch a phone and sign in, and no more: a phisher has as long to talk somebody into typing it (RFC 8628 section 5.4).
		Device:   Device{Lifetime: Duration(10 * time.Minute), Interval: Duration(5 * time.Second)},
		Signing:  Signing{RotateEvery: Duration(90 * day)},
		Upstream: Upstream{Timeout: Duration(10 * time.Second)},
		Log:      Log{Level: "info", Format: "json"},
		HTTP:     HTTP{ShutdownGrace: Duration(10 * time.Second)},
		Brand:    Brand{Name: "Portico"},
	}
}

// complete fills in the defaults that depend on what was configured.
func (c *Config) complete() {
	switch c.Store.Type {
	case StoreSQLite:
		if c.Store.Path == "" {
			c.Store.Path = "./portico.db"
		}
		if c.Store.Synchronous == "" {
			c.Store.Synchronous = "full"
		}
		if len(c.Keyring) == 0 && c.KeyringFile == "" {
			c.KeyringFile = filepath.Join(filepath.Dir(c.Store.Path), "portico.key")
		}
	case StoreMongoDB:
		if c.Store.Database == "" {
			c.Store.Database = "portico"
		}
	}
	if c.MTLS.Mode == MTLSProxy && c.MTLS.Header == "" {
		c.MTLS.Header = "Client-Cert" // RFC 9440 section 2
	}
	if c.Sandbox.URL == "" && loopbackAddress(c.Sandbox.Listen) && !strings.HasSuffix(c.Sandbox.Listen, ":0") {
		c.Sandbox.URL = "http://" + c.Sandbox.Listen
	}
	for i := range c.Connectors {
		// Both ways to ask for the sandbox look the same from here on, so that no reader can tell them apart wrongly.
		if connector := &c.Connectors[i]; c.UsesSandbox(*connector) {
			connector.Sandbox = true
			connector.ClientID, connector.ClientSecret, connector.ClientSecretFile = "", Secret{}, ""
		}
	}
	for i := range c.Clients {
		c.Clients[i].complete()
	}
}

// complete fills in what a registration may leave out. offline_access is not among the scopes: that an app acts while the
// person is away is said, not assumed.
func (c *Client) complete() {
	app := len(c.GrantTypes) > 0 || len(c.ResourceServerOf) == 0 // a resource server that names no grant type is no app
	if len(c.Scopes) == 0 && app {
		c.Scopes = []string{"openid", "profile", "email"}
	}
	if len(c.GrantTypes) == 0 && app {
		c.GrantTypes = []string{"authorization_code", "refresh_token"}
	}
	if c.PKCE == "" {
		c.PKCE = "required"
	}
	if c.IDTokenSignedResponseAlg == "" {
		c.IDTokenSignedResponseAlg = "RS256"
	}
}
