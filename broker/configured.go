package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/portico-id/portico/broker/clientdoc"
	"github.com/portico-id/portico/broker/fetch"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/broker/quota"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/signin"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/connectors/sandbox"
)

// staticClients are the configuration's clients as the registry takes them.
func staticClients(cfg *config.Config) []registry.StaticClient {
	var clients []registry.StaticClient
	for i := range cfg.Clients {
		clients = append(clients, cfg.Clients[i].Registered())
	}
	return clients
}

// openAPIs are the configuration's apis as the registry takes them.
func openAPIs(cfg *config.Config) (*registry.APIs, error) {
	apis := make([]registry.API, len(cfg.APIs))
	for i := range cfg.APIs {
		apis[i] = cfg.APIs[i].Registered()
	}
	reserved := registry.Reserved{Issuer: cfg.Issuer, Scopes: slices.Collect(maps.Keys(oauth.Scopes()))}
	return registry.NewAPIs(reserved, apis...)
}

// trustedIssuers are the configuration's.
func trustedIssuers(cfg *config.Config) []oauth.TrustedIssuer {
	var issuers []oauth.TrustedIssuer
	for _, t := range cfg.TrustedIssuers {
		issuers = append(issuers, oauth.TrustedIssuer{
			Issuer: t.Issuer, Keys: keyset.Source{JWKS: t.JWKS.Reveal(), URI: t.JWKSURI},
			Audiences: t.Audiences, Clients: t.Clients, Scopes: t.Scopes, Connector: t.Connector,
		})
	}
	return issuers
}

// Check says what a broker made of the configuration would refuse, beyond what the configuration's own checks see. It
// opens nothing and reaches nobody.
func Check(cfg *config.Config) error {
	var problems []error
	for _, c := range cfg.Connectors {
		if err := connectorSettings(cfg, c).Validate(); err != nil {
			problems = append(problems, err)
		}
	}
	for _, t := range trustedIssuers(cfg) {
		if t.Keys.JWKS == "" {
			continue
		}
		if err := keyset.Check(t.Keys.JWKS); err != nil {
			problems = append(problems, fmt.Errorf("trusted issuer %q: jwks: %w", t.Issuer, err))
		}
	}
	_, err := openAPIs(cfg)
	return errors.Join(append(problems, err, registry.CheckStatic(staticClients(cfg)...), checkAccounts(cfg, staticAccounts(cfg)))...)
}

// policy is what clients may have that register themselves, or that nobody registers: of what is on, what the configuration allows them, and
// what apis do.
func policy(cfg *config.Config, apis *registry.APIs) registry.Policy {
	p := registry.Policy{
		Issuer: cfg.Issuer, Scopes: cfg.Registration.Scopes, DetailsTypes: cfg.Registration.AuthorizationDetailsTypes,
		APIScopes: apis.SelfRegisteredScopes, PKCEOptional: cfg.Registration.PKCE == "optional",
	}
	for _, grant := range cfg.Registration.GrantTypes {
		if slices.Contains(cfg.GrantTypes, grant) {
			p.GrantTypes = append(p.GrantTypes, grant)
		}
	}
	return p
}

// registration is how clients may register themselves. The initial access tokens are hashed here, once.
func registration(cfg *config.Config, ring *token.Keyring, apis *registry.APIs) oauth.Registration {
	r := oauth.Registration{
		On:                cfg.Registration.Mode != config.ModeOff,
		Open:              cfg.Registration.Mode == config.ModeOpen,
		MaxPerHour:        cfg.Registration.MaxPerHour,
		UnusedLifetime:    cfg.Registration.UnusedLifetime.Std(),
		Policy:            policy(cfg, apis),
		Statements:        map[string]keyset.Source{},
		StatementRequired: cfg.Registration.SoftwareStatement.Required,
	}
	for _, initial := range cfg.Registration.InitialAccessTokens {
		r.InitialTokens = append(r.InitialTokens, ring.HashSecret(initial.Secret.Reveal()))
	}
	for _, issuer := range cfg.Registration.SoftwareStatement.Issuers {
		r.Statements[issuer.Issuer] = keyset.Source{JWKS: issuer.JWKS.Reveal(), URI: issuer.JWKSURI}
	}
	return r
}

// clientDocuments knows the clients whose id is the address of their metadata.
func clientDocuments(cfg *config.Config, apis *registry.APIs, outgoing *fetch.Client, o Options) *clientdoc.Documents {
	var hosts []string // nil: all
	if cfg.ClientIDMetadata.Mode == config.ModeAllowlist {
		hosts = cfg.ClientIDMetadata.Hosts
	}
	return clientdoc.New(clientdoc.Options{
		Fetch: outgoing, Policy: policy(cfg, apis), Hosts: hosts, AllowHTTP: cfg.Fetch.AllowPrivate, Now: o.Now,
		Asker: func(ctx context.Context) string { return quota.AddressKey(web.ClientIP(ctx)) },
	})
}

// The broker's registration at the simulated providers, which guards nothing.
const (
	sandboxClientID     = "portico-sandbox"
	sandboxClientSecret = "portico-sandbox-secret"
)

// connectorSettings are a connector's settings, with the simulated provider's addresses where it uses the sandbox.
func connectorSettings(cfg *config.Config, c config.Connector) connectors.Settings {
	s := connectors.Settings{
		Name: c.Name, Type: c.Type, DisplayName: c.DisplayName,
		ClientID: c.ClientID, ClientSecret: c.ClientSecret.Reveal(), Scopes: c.Scopes,
		Timeout: cmp.Or(c.Timeout, cfg.Upstream.Timeout).Std(),
		Issuer:  c.Issuer, TrustEmail: c.TrustEmail, UserInfo: c.UserInfo, MFAACRValues: c.MFAACRValues, AuthStyle: c.AuthStyle, HostedDomains: c.HostedDomains,
		BaseURL: c.BaseURL, APIURL: c.APIURL,
		DialogURL: c.DialogURL, GraphURL: c.GraphURL, GraphVersion: c.GraphVersion,
		InsecureSignsEveryoneIn: c.InsecureSignsEveryoneIn, Profile: fixedProfile(c.Profile),
	}
	if !cfg.UsesSandbox(c) {
		return s
	}
	s.ClientID, s.ClientSecret = sandboxClientID, sandboxClientSecret
	switch c.Type {
	case config.ConnectorGoogle:
		s.Issuer = cfg.Sandbox.URL + "/google"
	case config.ConnectorGitHub:
		s.BaseURL, s.APIURL, s.TrustEmail = cfg.Sandbox.URL+"/github", cfg.Sandbox.URL+"/github/api", true
	case config.ConnectorFacebook:
		s.DialogURL, s.GraphURL = cfg.Sandbox.URL+"/facebook", cfg.Sandbox.URL+"/facebook/graph"
	}
	return s
}

// fixedProfile is whom a fixed connector signs in.
func fixedProfile(f config.FixedIdentity) connectors.Profile {
	return connectors.Profile{
		Subject: f.Subject, Email: f.Email, EmailVerified: f.EmailVerified, AMR: f.AMR,
		Name: f.Name, GivenName: f.GivenName, FamilyName: f.FamilyName, Username: f.PreferredUsername, Picture: f.Picture, Locale: f.Locale,
		MiddleName: f.MiddleName, Nickname: f.Nickname, Page: f.Person.Profile, Website: f.Website,
		Gender: f.Gender, Birthdate: f.Birthdate, Zoneinfo: f.Zoneinfo,
	}
}

// staticAccounts are the configuration's local accounts, one for each username that somebody may sign in with. A username that is none has been
// refused by checkAccounts.
func staticAccounts(cfg *config.Config) []local.Static {
	var accounts []local.Static
	for _, a := range cfg.Accounts {
		username := normalUsername(a.Username)
		account := identity.Account{
			ID: cmp.Or(a.ID, local.StaticID(username)),
			Person: identity.Person{
				Email: a.Email, EmailVerified: a.EmailVerified, Name: a.Name, GivenName: a.GivenName, FamilyName: a.FamilyName,
				Username: username, Picture: a.Picture, Locale: a.Locale,
				MiddleName: a.MiddleName, Nickname: a.Nickname, Profile: a.Profile, Website: a.Website,
				Gender: a.Gender, Birthdate: a.Birthdate, Zoneinfo: a.Zoneinfo,
			},
		}
		for _, name := range append([]string{a.Username}, a.Aliases...) {
			accounts = append(accounts, local.Static{
				Username: name, Password: a.Password.Reveal(), Hash: a.PasswordHash.Reveal(), Account: account,
			})
		}
	}
	return accounts
}

func normalUsername(raw string) string {
	if username, err := local.Normal(raw); err == nil {
		return username
	}
	return raw
}

// checkAccounts says what is wrong with the configuration's local accounts, naming each.
func checkAccounts(cfg *config.Config, accounts []local.Static) error {
	var problems []error
	seen := map[string]bool{}
	for _, a := range accounts {
		err := errors.Join(local.CheckStatic(a, cfg.Passwords.MinLength), identity.CheckPerson(a.Account.Person))
		if seen[normalUsername(a.Username)] {
			err = errors.Join(err, errors.New("username: it is there twice"))
		}
		seen[normalUsername(a.Username)] = true
		if err != nil {
			problems = append(problems, fmt.Errorf("account %q: %w", a.Username, err))
		}
	}
	return errors.Join(problems...)
}

// NewSandbox makes the simulated providers that the configuration's connectors use, with the broker registered at each.
func NewSandbox(cfg *config.Config, o Options) (*sandbox.Sandbox, error) {
	o.complete()
	redirects := map[sandbox.Provider][]string{}
	for _, c := range cfg.Connectors {
		if cfg.UsesSandbox(c) {
			provider := sandbox.Provider(c.Type)
			redirects[provider] = append(redirects[provider], cfg.Issuer+signin.CallbackPath(c.Name))
		}
	}
	var clients []sandbox.Client
	for provider, uris := range redirects {
		clients = append(clients, sandbox.Client{Provider: provider, ID: sandboxClientID, Secret: sandboxClientSecret, RedirectURIs: uris})
	}
	return sandbox.New(sandbox.Options{
		BaseURL: cfg.Sandbox.URL, Clients: clients, Auto: cfg.Sandbox.Auto, Now: o.Now, Logger: o.Log,
	})
}
