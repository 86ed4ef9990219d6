package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/accounts"
	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/local"
	"github.com/portico-id/portico/broker/logout"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/mongo"
	"github.com/portico-id/portico/broker/store/sqlite"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/sessions"
)

// Data is what a broker knows: its store, opened, and the parts that manage what is in it. Commands work on it
// beside a running broker or without one.
type Data struct {
	Backend  store.Backend
	Ring     *token.Keyring
	Clients  *registry.Clients
	APIs     *registry.APIs
	Accounts *identity.Accounts
	Grants   *grant.Grants
	// Logout is where it is written that apps are to be told of a sign-out. A broker that runs tells them.
	Logout *logout.Outbox
	// Credentials are the usernames and passwords of local accounts; Managed is what an operator does to accounts of any kind.
	Credentials *local.Credentials
	Managed     *accounts.Manager
	Audit       *audit.Recorder

	sessions *sessions.Store
	consents *grant.Consents

	now         func() time.Time
	log         *slog.Logger
	closeOnExit bool
}

// Open opens the store and keyring that the configuration names.
func Open(ctx context.Context, cfg *config.Config, o Options) (*Data, error) {
	o.complete()
	ring, err := openKeyring(cfg)
	if err != nil {
		return nil, err
	}
	d := &Data{Backend: o.Backend, Ring: ring, now: o.Now, log: o.Log}
	if d.Backend == nil {
		if d.Backend, err = openStore(ctx, cfg, o); err != nil {
			return nil, err
		}
		d.closeOnExit = true
	}
	d.Audit = audit.New(d.Backend, audit.Options{Now: o.Now, Log: o.Log, RequestID: web.RequestID})
	d.Accounts = identity.New(d.Backend, identity.Options{
		Linking: identity.Linking(cfg.Linking), Now: o.Now, NewID: token.NewID, Audit: d.Audit,
	})
	d.Clients = registry.New(d.Backend, registry.Options{
		Hasher: ring, Now: o.Now, NewID: token.NewID, NewSecret: token.NewSecret, Audit: d.Audit,
	})
	if d.APIs, err = openAPIs(cfg); err == nil {
		err = d.APIs.Keep(ctx, d.Backend, registry.APIsOptions{Now: o.Now, NewID: token.NewID, Audit: d.Audit, Log: o.Log})
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.Grants = grant.New(d.Backend, o.Now)
	d.Logout = logout.NewOutbox(d.Backend, d.Clients, d.Grants, cfg.Tokens.CodeLifetime.Std(), o.Now)
	if err := d.Clients.Static(staticClients(cfg)...); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.openAccounts(cfg); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// browserState is what frames of apps compare to see that the person is still signed in (OpenID Connect Session Management); nil if that is off.
func browserState(cfg *config.Config, ring *token.Keyring) func(sid string) string {
	if !cfg.SessionManagement {
		return nil
	}
	return func(sid string) string { return ring.Digest("browser_state", sid) }
}

// openAccounts makes the parts that keep what belongs to accounts, and puts the configuration's accounts before those of the store.
func (d *Data) openAccounts(cfg *config.Config) error {
	static := staticAccounts(cfg)
	if err := checkAccounts(cfg, static); err != nil {
		return err
	}
	var err error
	d.sessions, err = sessions.New(d.Backend, sessions.Options{
		CookieKeys:   d.Ring.CookieKeys(),
		BrowserState: browserState(cfg, d.Ring),
		Secure:       strings.HasPrefix(cfg.Issuer, "https:"),
		Lifetime:     cfg.Sessions.Lifetime.Std(),
		IdleLifetime: cfg.Sessions.IdleLifetime.Std(),
		Now:          d.now,
	})
	if err != nil {
		return err
	}
	d.consents = grant.NewConsents(d.Backend, d.now)
	d.Credentials = local.New(d.Backend, local.Options{
		Accounts: d.Accounts,
		Hasher:   password.NewHasher(password.Options{MinLength: cfg.Passwords.MinLength, Concurrent: cfg.Passwords.Concurrent}),
		Throttle: guess.New(d.Backend, d.now),
		Now:      d.now,
	})
	if err := d.Credentials.SetStatic(static); err != nil {
		return err
	}
	people := make([]identity.Account, 0, len(static))
	for _, a := range static {
		people = append(people, a.Account)
	}
	d.Accounts.SetStatic(people)
	d.Managed = &accounts.Manager{
		Accounts: d.Accounts, Credentials: d.Credentials, Sessions: d.sessions, Grants: d.Grants, Consents: d.consents, Apps: d.Logout, Audit: d.Audit,
	}
	return nil
}

// Close closes what Open opened.
func (d *Data) Close() error {
	if !d.closeOnExit {
		return nil
	}
	return d.Backend.Close()
}

func openStore(ctx context.Context, cfg *config.Config, o Options) (store.Backend, error) {
	switch cfg.Store.Type {
	case "mongodb":
		db, err := mongo.Open(ctx, mongo.Options{URI: cfg.Store.URI.Reveal(), Database: cfg.Store.Database, Now: o.Now, Logger: o.Log})
		if err != nil {
			return nil, fmt.Errorf("open the MongoDB store: %w", err)
		}
		return db, nil
	default:
		db, err := sqlite.Open(ctx, sqlite.Options{Path: cfg.Store.Path, Synchronous: cfg.Store.Synchronous, Now: o.Now, Logger: o.Log})
		if err != nil {
			return nil, fmt.Errorf("open the store %s: %w", cfg.Store.Path, err)
		}
		return db, nil
	}
}

// keyFileBytes is the entropy of a generated keyring secret.
const keyFileBytes = 32

// openKeyring takes the configured secrets, or the one in the key file beside an embedded store, which is made at the
// first start.
func openKeyring(cfg *config.Config) (*token.Keyring, error) {
	var secrets [][]byte
	for _, entry := range cfg.Keyring {
		secrets = append(secrets, []byte(entry.Secret.Reveal()))
	}
	if len(secrets) == 0 {
		secret, err := keyFile(cfg.KeyringFile)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		secrets = append(secrets, secret)
	}
	ring, err := token.NewKeyring(secrets...)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return ring, nil
}

// keyFile reads the secret in the file, or makes the file with a new one. Two processes that start at once agree: exactly one
// creates the file.
func keyFile(path string) ([]byte, error) {
	raw := make([]byte, keyFileBytes)
	rand.Read(raw) // never fails: crypto/rand ends the process instead
	fresh := base64.RawURLEncoding.EncodeToString(raw)

	// Written whole under another name and then linked into place, so that no reader finds half a secret.
	temporary := path + ".new-" + token.NewID()
	if err := os.WriteFile(temporary, []byte(fresh+"\n"), 0o600); err != nil {
		if content, readErr := os.ReadFile(path); readErr == nil { // a folder that may be read only
			return trimmed(path, content)
		}
		return nil, err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return trimmed(path, content)
}

func trimmed(path string, content []byte) ([]byte, error) {
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return []byte(secret), nil
}
