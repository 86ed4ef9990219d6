package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/oauth"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

type clientCommand struct {
	Add          clientAdd          `cmd:"" help:"Register an app. Its secret is printed once."`
	List         clientList         `cmd:"" help:"List the registered apps."`
	Show         clientShow         `cmd:"" help:"Show one app."`
	Update       clientUpdate       `cmd:"" help:"Change an app."`
	RotateSecret clientRotateSecret `cmd:"" help:"Give an app a new secret; the one before stays good for a while."`
	Remove       clientRemove       `cmd:"" help:"Remove an app."`
}

// storeFlags are what every command needs that works on the store.
type storeFlags struct {
	configFlag
	JSON bool `help:"Print JSON." name:"json"`
}

// with opens the store for one command.
func (f storeFlags) with(ctx context.Context, p process, do func(d *broker.Data) error) error {
	cfg, err := f.load(p)
	if err != nil {
		return err
	}
	// Events are in the store; a terminal wants the warnings alone.
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	data, err := broker.Open(ctx, cfg, broker.Options{Log: log})
	if err != nil {
		return err
	}
	return errors.Join(do(data), data.Close())
}

// clientSettings are the flags that add and update share. Lists replace what was there.
type clientSettings struct {
	Metadata          string         `help:"A JSON document of client metadata (RFC 7591), for everything that has no flag here. It replaces all metadata; flags come after it." placeholder:"FILE" type:"existingfile"`
	Website           *string        `help:"The app's website, shown to people." placeholder:"URL"`
	LogoURI           *string        `help:"The app's logo, https." placeholder:"URL"`
	RedirectURI       []string       `help:"Where the app takes its code: https, http on loopback, or a private-use scheme. Repeat it for more." placeholder:"URI" sep:"none"`
	PostLogoutURI     []string       `help:"Where the app takes people after sign-out." name:"post-logout-redirect-uri" placeholder:"URI" sep:"none"`
	Scope             []string       `help:"The scopes that the app may ask for (openid,profile,email,offline_access by default), with commas or spaces between them." placeholder:"SCOPE"`
	ResourceServerOf  []string       `help:"The APIs that the app is the server of: it may introspect their tokens. Repeat it for more." placeholder:"IDENTIFIER" sep:"none"`
	Grant             []string       `help:"The grant types that the app may use (authorization_code,refresh_token by default)." placeholder:"GRANT"`
	Connector         []string       `help:"The connectors that its people may sign in with (all by default)." placeholder:"NAME"`
	FirstParty        *bool          `help:"Your own app: people are not asked for consent." negatable:""`
	PKCEOptional      *bool          `help:"Exempt an app that cannot do PKCE." name:"pkce-optional" negatable:""`
	AuthMethod        *string        `help:"client_secret_basic or client_secret_post (either by default), client_secret_jwt, private_key_jwt, tls_client_auth or self_signed_tls_client_auth." placeholder:"METHOD"`
	JWKSFile          string         `help:"The app's public keys, a JWK Set." name:"jwks-file" placeholder:"FILE" type:"existingfile"`
	JWKSURI           *string        `help:"The address of the app's public keys." name:"jwks-uri" placeholder:"URL"`
	DPoPBound         *bool          `help:"Its tokens must be bound to a key by DPoP." name:"dpop-bound" negatable:""`
	RequirePAR        *bool          `help:"It must push its authorization requests." name:"require-par" negatable:""`
	Profile           *string        `help:"fapi2 holds the app to the FAPI 2.0 Security Profile." placeholder:"PROFILE"`
	SubjectType       *string        `help:"public (default), or pairwise: people have another sub for each sector." placeholder:"TYPE"`
	SectorURI         *string        `help:"Names the sector of pairwise subjects." name:"sector-identifier-uri" placeholder:"URL"`
	BackchannelURI    *string        `help:"Where the broker tells the app of sign-outs." name:"backchannel-logout-uri" placeholder:"URL"`
	FrontchannelURI   *string        `help:"What the browser loads at a sign-out." name:"frontchannel-logout-uri" placeholder:"URL"`
	IDTokenAlg        *string        `help:"RS256 (default), ES256 or EdDSA." name:"id-token-alg" placeholder:"ALG"`
	AccessTokenFormat *string        `help:"opaque or jwt." placeholder:"FORMAT"`
	AccessLifetime    *time.Duration `help:"How long access tokens live." name:"access-token-lifetime" placeholder:"TIME"`
	RefreshIdle       *time.Duration `help:"How long a refresh token lives unused; 0: as configured." name:"refresh-idle-lifetime" placeholder:"TIME"`
	RefreshLifetime   *time.Duration `help:"How long refreshing goes on at all; 0: as configured." placeholder:"TIME"`
}

func (s *clientSettings) apply(c *registry.Client) error {
	if s.Metadata != "" {
		if err := setMetadata(c, s.Metadata); err != nil {
			return err
		}
	}
	if s.JWKSFile != "" {
		keys, err := os.ReadFile(s.JWKSFile)
		if err != nil {
			return err
		}
		c.JWKS, c.JWKSURI = string(keys), ""
	}
	if s.JWKSURI != nil {
		c.JWKS, c.JWKSURI = "", *s.JWKSURI
	}
	set(&c.DPoPBound, s.DPoPBound)
	set(&c.RequirePAR, s.RequirePAR)
	set(&c.Profile, s.Profile)
	set(&c.SubjectType, s.SubjectType)
	set(&c.SectorIdentifierURI, s.SectorURI)
	set(&c.BackchannelLogoutURI, s.BackchannelURI)
	set(&c.FrontchannelLogoutURI, s.FrontchannelURI)
	set(&c.Website, s.Website)
	set(&c.LogoURI, s.LogoURI)
	set(&c.FirstParty, s.FirstParty)
	set(&c.PKCEOptional, s.PKCEOptional)
	set(&c.AuthMethod, s.AuthMethod)
	set(&c.IDTokenAlg, s.IDTokenAlg)
	set(&c.AccessTokenFormat, s.AccessTokenFormat)
	setList(&c.RedirectURIs, s.RedirectURI)
	setList(&c.PostLogoutRedirectURIs, s.PostLogoutURI)
	setList(&c.Scopes, splitScopes(s.Scope))
	setList(&c.ResourceServerOf, s.ResourceServerOf)
	setList(&c.GrantTypes, s.Grant)
	setList(&c.Connectors, s.Connector)
	return errors.Join(
		setSeconds(&c.AccessTokenTTL, s.AccessLifetime),
		setSeconds(&c.RefreshIdleTTL, s.RefreshIdle),
		setSeconds(&c.RefreshTTL, s.RefreshLifetime),
	)
}

// setMetadata makes the client what a document says. What the document leaves out and a client cannot be without stays.
func setMetadata(c *registry.Client, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	document, err := registry.ParseDocument(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	m, err := document.Metadata()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	m.ClientName = cmp.Or(m.ClientName, c.Name)
	m.Scope = cmp.Or(m.Scope, strings.Join(c.Scopes, " "))
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = c.GrantTypes
	}
	if m.AuthMethod == "" {
		if m.AuthMethod = c.AuthMethod; c.IsPublic {
			m.AuthMethod = registry.AuthNone
		}
	}
	return m.Set(c)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// setList replaces a list. A single empty item empties it.
func setList(field *[]string, values []string) {
	if len(values) == 1 && values[0] == "" {
		*field = nil
	} else if len(values) > 0 {
		*field = values
	}
}

// splitScopes takes scopes as they are written in requests too, with spaces between them (RFC 6749 section 3.3): no name has one. An empty item stays.
func splitScopes(values []string) []string {
	var scopes []string
	for _, value := range values {
		if value == "" {
			scopes = append(scopes, value)
		}
		scopes = append(scopes, strings.Fields(value)...)
	}
	return scopes
}

// setSeconds refuses what is not whole seconds: half of one would be none, which stands for the longest.
func setSeconds(field *int64, value *time.Duration) error {
	if value == nil {
		return nil
	}
	if *value%time.Second != 0 {
		return fmt.Errorf("a lifetime is in whole seconds, and %s is not", *value)
	}
	*field = int64(*value / time.Second)
	return nil
}

// checkNames refuses what a client is newly registered for and nobody defines: neither the broker itself nor an api. What it was registered for before stays, be it
// that its api is gone.
func checkNames(apis *registry.APIs, before, after *registry.Client) error {
	var problems []error
	check := func(what string, had, has, known []string) {
		for _, name := range has {
			if !slices.Contains(had, name) && !slices.Contains(known, name) {
				problems = append(problems, fmt.Errorf("%s %q is neither the broker's own nor an api's%s", what, name, config.DidYouMean(name, known)))
			}
		}
	}
	check("the scope", before.Scopes, after.Scopes, append(slices.Sorted(maps.Keys(oauth.Scopes())), apis.Scopes()...))
	check("the type of authorization_details", before.DetailsTypes, after.DetailsTypes, apis.DetailsTypes())
	known := identifiers(apis)
	for _, identifier := range after.ResourceServerOf {
		if !slices.Contains(before.ResourceServerOf, identifier) && !slices.Contains(known, identifier) {
			problems = append(problems, fmt.Errorf("no api is registered as %q%s", identifier, config.DidYouMean(identifier, known)))
		}
	}
	return errors.Join(problems...)
}

// defaultScopes are what an app may ask for unless it is registered otherwise.
var defaultScopes = []string{"openid", "profile", "email", "offline_access"}

type clientAdd struct {
	storeFlags
	Name   string `help:"The app's name, shown to people when they sign in. Required, here or in --metadata."`
	Public bool   `help:"The app cannot keep a secret: a native app, or one that runs in the browser."`
	clientSettings
}

// Validate says what no app can be without.
func (c clientAdd) Validate() error {
	if c.Name == "" && c.Metadata == "" {
		return errors.New("missing flags: --name=STRING or --metadata=FILE")
	}
	return nil
}

// Run registers an app and prints its id and, this one time, its secret.
func (c clientAdd) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		fresh := registry.Client{Name: c.Name, IsPublic: c.Public, Scopes: defaultScopes}
		if len(c.ResourceServerOf) > 0 && len(c.Grant) == 0 && len(c.Scope) == 0 {
			fresh.Scopes = nil // a server, and no app that gets tokens
		}
		err := c.apply(&fresh)
		if err == nil {
			err = checkNames(d.APIs, &registry.Client{}, &fresh)
		}
		if err != nil {
			return err
		}
		client, secret, err := d.Clients.Add(ctx, fresh)
		if err != nil {
			return err
		}
		return c.printClient(p, client, secret)
	})
}

type clientList struct {
	storeFlags
}

// Run lists all apps, those of the configuration first.
func (c clientList) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		var all []*registry.Client
		for after, more := "", true; more; {
			page, next, err := d.Clients.List(ctx, after)
			if err != nil {
				return err
			}
			all = append(all, page...)
			after, more = next, next != ""
		}
		if c.JSON {
			views := make([]clientView, 0, len(all))
			for _, client := range all {
				views = append(views, view(client, ""))
			}
			return printJSON(p.stdout, views)
		}
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CLIENT ID\tNAME\tTYPE\tREDIRECT URIS")
		for _, client := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", client.ID, client.Name, kind(client), strings.Join(client.RedirectURIs, " "))
		}
		return w.Flush()
	})
}

type clientShow struct {
	storeFlags
	ID string `arg:"" help:"The client id."`
}

// Run shows one app.
func (c clientShow) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		client, err := d.Clients.Get(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		return c.printClient(p, client, "")
	})
}

type clientUpdate struct {
	storeFlags
	ID       string  `arg:"" help:"The client id."`
	Name     *string `help:"The app's name."`
	Disabled *bool   `help:"Disable the app, or enable it again." negatable:""`
	Verified bool    `help:"You have looked at an app that registered itself: pages no longer say otherwise, and it no longer manages its registration."`
	clientSettings
}

// Run changes an app: what is not named stays as it is.
func (c clientUpdate) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		client, err := d.Clients.Update(ctx, c.ID, func(client *registry.Client) error {
			before := *client
			err := c.apply(client)
			if err == nil {
				err = checkNames(d.APIs, &before, client)
			}
			if err != nil {
				return err
			}
			set(&client.Name, c.Name)
			set(&client.Disabled, c.Disabled)
			if c.Verified {
				client.Verify()
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		return c.printClient(p, client, "")
	})
}

type clientRotateSecret struct {
	storeFlags
	ID      string        `arg:"" help:"The client id."`
	Overlap time.Duration `help:"How long the secret before stays good." default:"24h"`
}

// Run gives an app a new secret and prints it this one time.
func (c clientRotateSecret) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		client, secret, err := d.Clients.RotateSecret(ctx, c.ID, c.Overlap)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		return c.printClient(p, client, secret)
	})
}

type clientRemove struct {
	storeFlags
	ID string `arg:"" help:"The client id."`
}

// Run removes an app.
func (c clientRemove) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		if err := d.Clients.Remove(ctx, c.ID); err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		if c.JSON {
			return printJSON(p.stdout, map[string]string{"removed": c.ID})
		}
		_, err := fmt.Fprintln(p.stdout, "removed", c.ID)
		return err
	})
}

// clientView is a client as the commands print it: everything but its secrets' hashes.
type clientView struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"` // just made, never to be seen again
	registry.Client
	Secrets []secretView `json:"secrets,omitempty"`
	// RegistrationToken is a hash as well, and stands here to keep that of Client out.
	RegistrationToken string `json:"registration_token,omitempty"`
	Static            bool   `json:"static,omitempty"`
}

type secretView struct {
	Hint      string    `json:"hint"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

func view(c *registry.Client, secret string) clientView {
	v := clientView{ClientID: c.ID, ClientSecret: secret, Client: *c, Static: c.Static}
	for _, list := range []*[]string{&v.RedirectURIs, &v.Scopes, &v.GrantTypes} {
		if *list == nil {
			*list = []string{} // scripts go through them
		}
	}
	for _, s := range c.Secrets {
		v.Secrets = append(v.Secrets, secretView{Hint: s.Hint, CreatedAt: s.CreatedAt, Expires: s.Expires})
	}
	return v
}

func (f storeFlags) printClient(p process, c *registry.Client, secret string) error {
	if f.JSON {
		return printJSON(p.stdout, view(c, secret))
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" && text != "[]" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	line("client id", c.ID)
	if secret != "" {
		line("client secret", secret+"   (shown once: keep it now)")
	}
	line("name", c.Name)
	line("website", c.Website)
	line("type", kind(c))
	if c.AuthMethod != "" {
		line("authentication", c.AuthMethod)
	}
	line("keys", c.JWKSURI)
	line("profile", c.Profile)
	line("redirect URIs", strings.Join(c.RedirectURIs, " "))
	line("after sign-out", strings.Join(c.PostLogoutRedirectURIs, " "))
	line("scopes", strings.Join(c.Scopes, " "))
	line("grant types", strings.Join(c.GrantTypes, " "))
	line("resource server of", strings.Join(c.ResourceServerOf, " "))
	line("connectors", strings.Join(c.Connectors, " "))
	for _, s := range c.Secrets {
		until := "no end"
		if !s.Expires.IsZero() {
			until = "until " + s.Expires.Format(time.RFC3339)
		}
		line("secret …"+s.Hint, until)
	}
	return w.Flush()
}

func kind(c *registry.Client) string {
	words := []string{"confidential"}
	if c.Public() {
		words[0] = "public"
	}
	if c.FirstParty {
		words = append(words, "first-party")
	}
	if !c.Verified() {
		words = append(words, "self-registered")
	}
	if c.Disabled {
		words = append(words, "disabled")
	}
	if c.Static {
		words = append(words, "in the configuration")
	}
	return strings.Join(words, ", ")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
