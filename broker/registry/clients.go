package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/store"
)

// Errors of Clients. Compare with errors.Is.
var (
	// ErrNotFound says that no client has this id.
	ErrNotFound = errors.New("no such client")
	// ErrStatic says that the client is in the configuration, where alone it can be changed.
	ErrStatic = errors.New("the client is in the configuration file; change it there")
	// ErrPublic says that the client has no secret to rotate: it is public, or authenticates in another way.
	ErrPublic = errors.New("the client has no secret")
	// ErrUnavailable says that a client that is known by the address of its metadata cannot be read at the moment.
	ErrUnavailable = errors.New("the client's metadata cannot be read")
	// ErrInvalid says that a client cannot be registered so; the errors within name each field.
	ErrInvalid = errors.New("the client cannot be registered so")
)

const (
	// secretPrefix lets secret scanners recognise a client secret.
	secretPrefix = "pcs_"
	// registrationPrefix does the same for a registration access token.
	registrationPrefix = "prg_"
	// maxSecrets bounds the live secrets: the current one, and the one that is being replaced.
	maxSecrets = 2
	// hintLength is how much of a secret is shown to tell two apart: too little to help a guess.
	hintLength = 4
	// minStaticSecret bounds secrets that an operator gives: with a fast keyed hash, they must be past guessing.
	minStaticSecret = 32
)

// Options are what Clients need. All are required.
type Options struct {
	Hasher    Hasher
	Now       func() time.Time
	NewID     func() string
	NewSecret func(prefix string) string
	Audit     *audit.Recorder
}

// Clients keeps clients. Its methods may be called concurrently, Static and Resolve before all others.
type Clients struct {
	docs    store.Collection[Client]
	static  map[string]*Client
	resolve func(ctx context.Context, id string) (*Client, error)
	o       Options

	standings standings
}

// New keeps clients in b.
func New(b store.Backend, o Options) *Clients {
	return &Clients{docs: store.NewCollection[Client](b, "clients"), o: o}
}

// Resolve sets what reads a client whose id is the address of its metadata: its errors are ErrNotFound and ErrUnavailable. Without it there are
// no such clients.
func (s *Clients) Resolve(with func(ctx context.Context, id string) (*Client, error)) {
	s.resolve = with
}

// StaticClient is a client of the configuration's, with its secret as it stands there.
type StaticClient struct {
	Client
	Secret string // "" for a public client
}

// Static sets the clients of the configuration. They stand before stored ones of the same id. The error names each client and field
// that is wrong.
func (s *Clients) Static(list ...StaticClient) error {
	if err := CheckStatic(list...); err != nil {
		return err
	}
	s.static = make(map[string]*Client, len(list))
	for _, entry := range list {
		c := entry.Client
		c.Static = true
		c.fillIn()
		if c.UsesSecret() {
			c.Secrets = []Secret{s.keep(&c, entry.Secret)}
		}
		s.static[c.ID] = &c
	}
	return nil
}

// CheckStatic says what is wrong with clients of the configuration, naming each and its fields.
func CheckStatic(list ...StaticClient) error {
	var problems []error
	seen := map[string]bool{}
	for _, entry := range list {
		c := entry.Client
		c.fillIn()
		wrong := []error{c.Validate()}
		switch {
		case CheckID(c.ID) != nil:
			wrong = append(wrong, fieldError("client_id", "%w", CheckID(c.ID)))
		case seen[c.ID]:
			wrong = append(wrong, errors.New("client_id: it is there twice"))
		}
		switch {
		case !c.UsesSecret() && entry.Secret != "":
			wrong = append(wrong, errors.New("client_secret: a public client, or one that authenticates in another way, has none"))
		case c.UsesSecret() && len(entry.Secret) < minStaticSecret:
			wrong = append(wrong, fmt.Errorf("client_secret: at least %d random characters are needed", minStaticSecret))
		}
		seen[c.ID] = true
		if err := errors.Join(wrong...); err != nil {
			problems = append(problems, fmt.Errorf("client %q: %w", c.ID, err))
		}
	}
	return errors.Join(problems...)
}

// CheckID says whether an operator may give a client this id.
func CheckID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%q is not 1 to 100 letters, digits and . _ ~ -, with a letter or digit first", id)
	}
	return nil
}

// keep is a secret as it is kept for the client: hashed, and sealed too where it is the key of assertions.
func (s *Clients) keep(c *Client, secret string) Secret {
	kept := Secret{Hash: s.o.Hasher.HashSecret(secret), Hint: hint(secret)}
	if c.AuthMethod == AuthSecretJWT {
		kept.Sealed = s.o.Hasher.Seal(sealPurpose, []byte(secret), []byte(c.ID))
	}
	return kept
}

// sealPurpose keeps sealed client secrets from other sealed things; what is sealed is bound to its client's id.
const sealPurpose = "client-secret"

// SecretKeys are the client's live secrets themselves, for the assertions of client_secret_jwt; none for any other client.
func (c *Client) SecretKeys(h Hasher, now time.Time) [][]byte {
	var keys [][]byte
	for _, s := range c.Secrets {
		if s.Sealed == "" || !s.Expires.IsZero() && !now.Before(s.Expires) {
			continue
		}
		if key, err := h.Open(sealPurpose, s.Sealed, []byte(c.ID)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func hint(secret string) string { return secret[max(0, len(secret)-hintLength):] }

// Get reads a client. ErrNotFound if there is none; ErrUnavailable for one whose metadata are elsewhere and cannot be read. The client may be
// shared: it must not be changed.
func (s *Clients) Get(ctx context.Context, id string) (*Client, error) {
	if c := s.static[id]; c != nil {
		return c, nil
	}
	if s.resolve != nil && IsURL(id) {
		return s.resolve(ctx, id)
	}
	if !idPattern.MatchString(id) {
		return nil, ErrNotFound
	}
	doc, err := s.docs.Get(ctx, documentID(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return read(doc), nil
}

// read is the client in a document.
func read(doc *store.Doc[Client]) *Client {
	doc.Value.ID, doc.Value.Expires = strings.ReplaceAll(doc.ID, ":", "~"), doc.Expires
	return &doc.Value
}

// documentID is a client id as a document's id, which has no '~'.
func documentID(id string) string { return strings.ReplaceAll(id, "~", ":") }

// Add registers a client, and returns its secret, which is never to be seen again; "" for a client without. c.ID, Secrets and times are
// set here. ErrInvalid, with the fields that are wrong.
func (s *Clients) Add(ctx context.Context, c Client) (*Client, string, error) {
	now := s.o.Now()
	c.ID, c.CreatedAt, c.UpdatedAt, c.Secrets = s.o.NewID(), now, now, nil
	c.fillIn()
	if err := c.Validate(); err != nil {
		return nil, "", fmt.Errorf("%w:\n%w", ErrInvalid, err)
	}
	secret := ""
	if c.UsesSecret() {
		secret = s.o.NewSecret(secretPrefix)
		kept := s.keep(&c, secret)
		kept.CreatedAt = now
		c.Secrets = []Secret{kept}
	}
	doc := &store.Doc[Client]{Meta: store.Meta{ID: documentID(c.ID), Expires: c.Expires}, Value: c}
	if err := s.docs.Insert(ctx, doc); err != nil {
		return nil, "", err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.ClientAdded, ClientID: c.ID, Reason: string(c.RegisteredBy)})
	return &c, secret, nil
}

// List is a page of clients by id, those of the configuration first on the first page. after is the last id of the page before.
func (s *Clients) List(ctx context.Context, after string) (page []*Client, next string, err error) {
	if after == "" {
		for _, id := range slices.Sorted(maps.Keys(s.static)) {
			page = append(page, s.static[id])
		}
	}
	docs, err := s.docs.List(ctx, store.Query{After: documentID(after)})
	if err != nil {
		return nil, "", err
	}
	for _, doc := range docs {
		page = append(page, read(doc))
	}
	if len(docs) == store.MaxPage {
		next = page[len(page)-1].ID
	}
	return page, next, nil
}

// Update changes a client. edit may be called several times. ErrNotFound, ErrStatic, and ErrInvalid with the fields that are wrong. A
// secret that is not used any more ends; one that is needed now is RotateSecret's to make.
func (s *Clients) Update(ctx context.Context, id string, edit func(c *Client) error) (*Client, error) {
	c, err := s.change(ctx, id, func(c *Client) error {
		wasPublic := c.IsPublic
		if err := edit(c); err != nil {
			return err
		}
		if c.IsPublic != wasPublic {
			return fmt.Errorf("%w: %w", ErrInvalid, fieldError("token_endpoint_auth_method", "a public client does not become confidential, nor the other way round: register another"))
		}
		if err := c.Validate(); err != nil {
			return fmt.Errorf("%w:\n%w", ErrInvalid, err)
		}
		if !c.UsesSecret() {
			c.Secrets = nil
		}
		if c.AuthMethod != AuthSecretJWT {
			for i := range c.Secrets {
				c.Secrets[i].Sealed = "" // the hash is enough from now on
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.ClientChanged, ClientID: id})
	return c, nil
}

// RotateSecret gives a confidential client a new secret. The one before stays good for overlap, so that the app can be changed over without an
// outage; any older one ends now.
func (s *Clients) RotateSecret(ctx context.Context, id string, overlap time.Duration) (*Client, string, error) {
	if overlap < 0 || overlap > maxLifetime {
		return nil, "", fmt.Errorf("%w: an overlap of %s", ErrInvalid, overlap)
	}
	secret := s.o.NewSecret(secretPrefix)
	c, err := s.change(ctx, id, func(c *Client) error {
		if !c.UsesSecret() {
			return ErrPublic
		}
		fresh := s.keep(c, secret)
		now := s.o.Now()
		fresh.CreatedAt = now
		kept := []Secret{fresh}
		// The newest first: only the one before this stays, and no longer than it would have.
		for _, old := range c.Secrets {
			if len(kept) < maxSecrets && overlap > 0 && (old.Expires.IsZero() || now.Before(old.Expires)) {
				if end := now.Add(overlap); old.Expires.IsZero() || end.Before(old.Expires) {
					old.Expires = end
				}
				kept = append(kept, old)
			}
		}
		c.Secrets = kept
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.SecretRotated, ClientID: id})
	return c, secret, nil
}

func (s *Clients) change(ctx context.Context, id string, edit func(c *Client) error) (*Client, error) {
	if s.static[id] != nil {
		return nil, ErrStatic
	}
	if !idPattern.MatchString(id) {
		return nil, ErrNotFound
	}
	doc, err := s.docs.Change(ctx, documentID(id), func(doc *store.Doc[Client]) error {
		if err := edit(read(doc)); err != nil {
			return err
		}
		doc.Value.UpdatedAt = s.o.Now()
		if doc.Value.Verified() {
			doc.Expires = time.Time{} // an operator's own is never forgotten
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	s.standings.forget(id)
	return read(doc), nil
}

// Remove takes a client out. Nobody can authenticate as it any more, so nothing is refreshed or introspected for it, and the broker takes its
// access tokens for revoked, other nodes within two seconds. An API that checks JWTs by itself takes them until they end.
func (s *Clients) Remove(ctx context.Context, id string) error {
	if s.static[id] != nil {
		return ErrStatic
	}
	if !idPattern.MatchString(id) {
		return ErrNotFound
	}
	err := s.docs.Delete(ctx, documentID(id), 0)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	s.standings.forget(id)
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.ClientRemoved, ClientID: id})
	return nil
}
