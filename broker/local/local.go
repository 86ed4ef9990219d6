// Package local keeps what local accounts sign in with: a username and the hash of a password.
//
// broker/oauth asks it who somebody with a username and a password is ([Credentials.Authenticate]); broker/accounts sets and removes what it keeps. It may not
// know of clients or tokens. How passwords are hashed is broker/password's, who has to wait is broker/guess's, and what an account is, broker/identity's.
//
// A username belongs to one account because its document is its claim: its id is a digest of the normalised username, so taking it is an
// insert.
package local

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/portico-id/portico/broker/guess"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/store"
)

// Errors of this package, beside those of password and guess. Compare with errors.Is.
var (
	// ErrWrong says that username and password are not those of an account that may sign in. Which of the three it was is not said, and cannot be told
	// from how long it took.
	ErrWrong = errors.New("wrong username or password, or a disabled account")
	// ErrTaken says that the username belongs to another account.
	ErrTaken = errors.New("the username is taken")
	// ErrNotFound says that nobody has the username.
	ErrNotFound = errors.New("no such username")
	// ErrStatic says that the username is in the configuration, where alone it can be changed.
	ErrStatic = errors.New("the account is in the configuration file; change it there")
)

// Credential is a username and its password's hash.
type Credential struct {
	Username  string    `json:"username"` // as Normal has it
	AccountID string    `json:"account_id"`
	Hash      string    `json:"hash"` // argon2id, PHC string format
	CreatedAt time.Time `json:"created_at"`
	ChangedAt time.Time `json:"changed_at"` // the password
}

// Static is a local account of the configuration's.
type Static struct {
	Username string
	// Password or Hash: one of them.
	Password string
	Hash     string
	Account  identity.Account
}

// Hasher hashes and checks passwords. password.Hasher is one.
type Hasher interface {
	Hash(ctx context.Context, raw string) (string, error)
	Rehash(ctx context.Context, raw string) (string, error)
	Verify(ctx context.Context, lane password.Lane, hash, raw string) (ok, stale bool, err error)
}

// Accounts reads accounts. identity.Accounts is one.
type Accounts interface {
	Get(ctx context.Context, id string) (*identity.Account, error)
}

// Options are what Credentials need. All are required.
type Options struct {
	Accounts Accounts
	Hasher   Hasher
	Throttle *guess.Throttle
	Now      func() time.Time
}

// Credentials keeps usernames and passwords. Its methods may be called concurrently, on any number of nodes; SetStatic before all others.
type Credentials struct {
	docs   store.Collection[Credential]
	static map[string]*secret // by normalised username
	decoy  string             // what the password of a username that nobody has is checked against
	o      Options
}

// secret is what a static account's password is checked against.
type secret struct {
	accountID string
	hash      string             // "" where the password itself is in the configuration
	digest    *[sha256.Size]byte // of the prepared password, if so
}

// New keeps credentials in b.
func New(b store.Backend, o Options) *Credentials {
	return &Credentials{docs: store.NewCollection[Credential](b, "usernames"), decoy: password.Decoy(), o: o}
}

// SetStatic sets the accounts of the configuration, which [CheckStatic] has found good. They stand before stored ones of the same username.
//
// A password that stands in the configuration is compared as it is, by its digest: a slow hash of it would protect nothing, and would
// make every start slow. The slow hash is computed all the same at each login, against a decoy, so that it takes as long as any other.
func (c *Credentials) SetStatic(list []Static) error {
	c.static = make(map[string]*secret, len(list))
	for _, entry := range list {
		normal, err := Normal(entry.Username)
		if err != nil {
			return err
		}
		s := &secret{accountID: entry.Account.ID, hash: entry.Hash}
		if entry.Hash == "" {
			prepared, err := password.Prepare(entry.Password)
			if err != nil {
				return err
			}
			digest := sha256.Sum256(prepared)
			s.hash, s.digest = c.decoy, &digest
		}
		c.static[normal] = s
	}
	return nil
}

// CheckStatic says what is wrong with an account of the configuration; minLength is the least of a password.
func CheckStatic(s Static, minLength int) error {
	var problems []error
	if _, err := Normal(s.Username); err != nil {
		problems = append(problems, fmt.Errorf("username: %w", err))
	}
	switch {
	case s.Hash != "" && s.Password != "":
		problems = append(problems, errors.New("password_hash: there is a password too; one of them is enough"))
	case s.Hash != "":
		if err := password.Check(s.Hash); err != nil {
			problems = append(problems, fmt.Errorf("password_hash: %w", err))
		}
	default:
		if err := password.CheckNew(s.Password, minLength); err != nil {
			problems = append(problems, fmt.Errorf("password: %w", err))
		}
	}
	return errors.Join(problems...)
}

// Login is somebody who had the right password.
type Login struct {
	Account *identity.Account

	credential string    // the id of the stored credential; "" for an account of the configuration
	changedAt  time.Time // of the password that was right
}

// Authenticate is who has this username and password, and asks from addr (not valid: unknown). ErrWrong, [*guess.Delayed] if
// it comes too early, or password.ErrBusy.
//
// A username that nobody has, a wrong password and a disabled account take the same steps: the same reads and writes, and one hash with the same parameters. (Only
// an account whose hash was made with other parameters, before they were raised or by other software, takes another time until its next good login.)
func (c *Credentials) Authenticate(ctx context.Context, username, raw string, addr netip.Addr) (*Login, error) {
	normal, err := Normal(username)
	if err != nil {
		// Nobody can have it, but whoever asks is counted and kept as busy as anybody.
		normal = "\x00" + username[:min(len(username), MaxUsername)]
	}
	if _, err := password.Prepare(raw); err != nil {
		return nil, ErrWrong // nobody has it, whatever the username: there is nothing to guess
	}
	attempt, err := c.o.Throttle.Begin(ctx, normal, addr)
	if err != nil {
		return nil, err
	}
	found, err := c.find(ctx, normal)
	if err != nil {
		return nil, errors.Join(err, attempt.Cancel(context.WithoutCancel(ctx)))
	}
	lane := password.Stranger
	if attempt.Known {
		lane = password.Known
	}
	right, stale, err := found.check(ctx, c.o.Hasher, lane, raw)
	if err != nil {
		// Nothing was computed. Who hung up meanwhile is forgiven too.
		return nil, errors.Join(err, attempt.Cancel(context.WithoutCancel(ctx)))
	}
	if !right || found.account == nil || found.account.Disabled {
		return nil, ErrWrong
	}
	if err := attempt.Succeeded(ctx); err != nil {
		return nil, err
	}
	if stale && found.doc != nil {
		c.rehash(ctx, found.doc, raw)
	}
	login := &Login{Account: found.account}
	if found.doc != nil {
		login.credential, login.changedAt = found.doc.ID, found.doc.Value.ChangedAt
	}
	return login, nil
}

// Holds says whether the password is still the one that was right. Whoever writes down what came of a login asks afterwards, and takes it back if not: a password
// is changed first, and what came of the one before is ended then, so that between the two nothing slips through.
func (c *Credentials) Holds(ctx context.Context, l *Login) (bool, error) {
	if l.credential == "" {
		return true, nil
	}
	doc, err := c.docs.Get(ctx, l.credential)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return doc.Value.AccountID == l.Account.ID && doc.Value.ChangedAt.Equal(l.changedAt), nil
}

// candidate is what is known of a username.
type candidate struct {
	account *identity.Account // nil if there is none
	doc     *store.Doc[Credential]
	secret
}

// find reads a username and its account. For a username that nobody has it reads as much.
func (c *Credentials) find(ctx context.Context, normal string) (*candidate, error) {
	id := claimID(normal)
	found := &candidate{secret: secret{accountID: id, hash: c.decoy}} // no account has a claim's id
	doc, err := c.docs.Get(ctx, id)
	switch {
	case err == nil && doc.Value.AccountID != "":
		found.doc, found.accountID, found.hash = doc, doc.Value.AccountID, doc.Value.Hash
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	static := c.static[normal]
	if static != nil {
		found.doc, found.accountID = nil, id // it is read below whether there is one or not, as for others
	}
	account, err := c.o.Accounts.Get(ctx, found.accountID)
	if static != nil {
		found.secret = *static
		account, err = c.o.Accounts.Get(ctx, static.accountID)
	}
	if errors.Is(err, identity.ErrNotFound) {
		return found, nil
	}
	found.account = account
	return found, err
}

// check computes one hash, whatever there is to compare.
func (f *candidate) check(ctx context.Context, h Hasher, lane password.Lane, raw string) (right, stale bool, err error) {
	right, stale, err = h.Verify(ctx, lane, f.hash, raw)
	if err != nil || f.digest == nil {
		return right, stale, err
	}
	prepared, err := password.Prepare(raw)
	if err != nil {
		return false, false, err
	}
	digest := sha256.Sum256(prepared)
	return subtle.ConstantTimeCompare(digest[:], f.digest[:]) == 1, false, nil
}

// rehash keeps a good password under today's parameters. It is tried again at the next login if it fails: the login does not depend on it, and a
// password that was changed meanwhile is not changed back.
func (c *Credentials) rehash(ctx context.Context, doc *store.Doc[Credential], raw string) {
	hash, err := c.o.Hasher.Rehash(ctx, raw)
	if err != nil {
		return
	}
	doc.Value.Hash = hash
	_ = c.docs.Replace(ctx, doc)
}

// Set gives an account a username and a password, or the username that it has another password. ErrTaken if another account has the username; ErrStatic if
// the configuration has; ErrUsername and password.ErrInvalid.
//
// A username whose account is gone, because a removal was cut short, is free, as one is that was given up.
func (c *Credentials) Set(ctx context.Context, username, accountID, raw string) (*Credential, error) {
	normal, err := c.free(username)
	if err != nil {
		return nil, err
	}
	hash, err := c.o.Hasher.Hash(ctx, raw)
	if err != nil {
		return nil, err
	}
	now := c.o.Now()
	fresh := &store.Doc[Credential]{
		Meta:  store.Meta{ID: claimID(normal), Owner: accountID},
		Value: Credential{Username: normal, AccountID: accountID, Hash: hash, CreatedAt: now, ChangedAt: now},
	}
	for {
		err := c.docs.Insert(ctx, fresh)
		if err == nil {
			return &fresh.Value, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, err
		}
		there, err := c.docs.Get(ctx, fresh.ID)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was given up this moment
		}
		if err != nil {
			return nil, err
		}
		if owner := there.Value.AccountID; owner == accountID {
			fresh.Value.CreatedAt = there.Value.CreatedAt
		} else if owner == "" {
			fresh.Value.CreatedAt = now
		} else if _, err := c.o.Accounts.Get(ctx, there.Value.AccountID); err == nil {
			return nil, ErrTaken
		} else if !errors.Is(err, identity.ErrNotFound) {
			return nil, err
		}
		fresh.Rev = there.Rev
		err = c.docs.Replace(ctx, fresh)
		if err == nil {
			return &fresh.Value, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
}

// free is the normalised username, if it may be given to a stored account as far as the configuration is concerned.
func (c *Credentials) free(username string) (string, error) {
	normal, err := Normal(username)
	if err != nil {
		return "", err
	}
	if c.static[normal] != nil {
		return "", ErrStatic
	}
	return normal, nil
}

// Owner is the account that has a username. ErrNotFound if nobody has, or if it is none.
func (c *Credentials) Owner(ctx context.Context, username string) (accountID string, err error) {
	normal, err := Normal(username)
	if err != nil {
		return "", ErrNotFound
	}
	if s := c.static[normal]; s != nil {
		return s.accountID, nil
	}
	doc, err := c.docs.Get(ctx, claimID(normal))
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && doc.Value.AccountID == "":
		return "", ErrNotFound
	case err != nil:
		return "", err
	}
	return doc.Value.AccountID, nil
}

// Of is an account's stored credentials: none for an account that signs in elsewhere, one for a local account.
func (c *Credentials) Of(ctx context.Context, accountID string) ([]*Credential, error) {
	docs, err := c.docs.List(ctx, store.Query{Owner: accountID})
	if err != nil {
		return nil, err
	}
	var all []*Credential
	for _, doc := range docs {
		all = append(all, &doc.Value)
	}
	return all, nil
}

// freedMemory is how long a username is kept that is nobody's any more. It is not deleted: another claim would begin at the same revision, and whoever read
// the one before would take it for theirs. No command takes so long.
const freedMemory = time.Hour

// Release gives up all usernames of an account.
func (c *Credentials) Release(ctx context.Context, accountID string) error {
	for {
		docs, err := c.docs.List(ctx, store.Query{Owner: accountID})
		if err != nil || len(docs) == 0 {
			return err
		}
		for _, doc := range docs {
			doc.Value, doc.Owner, doc.Expires = Credential{}, "", c.o.Now().Add(freedMemory)
			if err := c.docs.Replace(ctx, doc); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
}
