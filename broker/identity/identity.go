// Package identity keeps accounts and the identities that sign in to them, and the rules that map one to the other.
//
// broker/signin calls it with what a provider said; broker/oauth reads accounts. [Decide], a pure function, is the rule; the rest
// carries its outcome out so that it holds on many nodes at once. It may not know of clients, sessions or flows.
//
// An identity's document is its claim: its id is a digest of connector, issuer and subject, so it belongs to one account. It is
// inserted before the account that it names, and whoever finds that account missing makes it: two first sign-ins at
// once make one account, and a crash in between heals at the next.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/connectors"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrNotFound says that there is no such account, or that nobody has the identity.
	ErrNotFound = errors.New("no such account")
	// ErrDisabled says that the account is disabled.
	ErrDisabled = errors.New("the account is disabled")
	// ErrTaken says that the identity belongs to another account by now.
	ErrTaken = errors.New("the identity belongs to another account")
	// ErrStatic says that the account is in the configuration, where alone it can be changed.
	ErrStatic = errors.New("the account is in the configuration file; change it there")
	// ErrInvalidProfile says that a profile names no identity that could be kept.
	ErrInvalidProfile = errors.New("the profile is out of bounds")
)

// Account is one person here. Its id is what apps see as sub.
type Account struct {
	ID        string `json:"-"`
	Person    `bson:",inline"`
	Disabled  bool      `json:"disabled,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// Source is the id of the identity that the person's data come from; "" for a local account, whose data an operator gave.
	Source string `json:"source"`
	// RemovedAt is when the account was removed. Its document stays, with nobody's data in it, so that its id is never used again, not even by a sign-in
	// that raced with the removal.
	RemovedAt time.Time `json:"removed_at,omitzero"`
	// Static says that the account is in the configuration, where alone it can be changed.
	Static bool `json:"-"`
}

// Person is what is known of somebody.
type Person struct {
	Email string `json:"email,omitempty"`
	// EmailVerified says that a provider that is an authority for the address verified it.
	EmailVerified bool   `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"`
	GivenName     string `json:"given_name,omitempty"`
	FamilyName    string `json:"family_name,omitempty"`
	Username      string `json:"username,omitempty"`
	Picture       string `json:"picture,omitempty"`
	Locale        string `json:"locale,omitempty"`
	// What few providers say, in the words of OpenID Connect Core section 5.1.
	MiddleName string `json:"middle_name,omitempty"`
	Nickname   string `json:"nickname,omitempty"`
	Profile    string `json:"profile,omitempty"` // a page about the person
	Website    string `json:"website,omitempty"`
	Gender     string `json:"gender,omitempty"`
	Birthdate  string `json:"birthdate,omitempty"` // YYYY-MM-DD, 0000-MM-DD or YYYY
	Zoneinfo   string `json:"zoneinfo,omitempty"`  // such as Europe/Paris
}

// Identity is one upstream login, which belongs to exactly one account.
type Identity struct {
	Connector string           `json:"connector"`
	Issuer    string           `json:"issuer"`
	Subject   string           `json:"subject"`
	AccountID string           `json:"account_id"`
	Person    `bson:",inline"` // as the provider described them at the last sign-in that changed something
	LinkedAt  time.Time        `json:"linked_at"`
}

// holders are the accounts that hold an email verified.
type holders struct {
	Accounts []string `json:"accounts"`
}

const (
	// maxSubject and maxIssuer bound what an identity is known by; OpenID Connect Core section 2 bounds sub to 255.
	maxSubject = 255
	maxIssuer  = 1024
	// maxText bounds names and the like, which end in pages, tokens and documents; maxURL a picture.
	maxText = 256
	maxURL  = 2048
	// maxHolders bounds the accounts that can hold one email: somebody who goes on separately for ever gets accounts all the same, which
	// are not asked about.
	maxHolders = 16
)

// Resolution is what became of an upstream identity.
type Resolution struct {
	Outcome Outcome
	Account *Account // SignIn, Create, Link
	// Candidates are the accounts that the person may prove (AskToLink).
	Candidates []Candidate
}

// Candidate is an account that holds the email, and the connectors that it signs in with.
type Candidate struct {
	AccountID  string
	Connectors []string
}

// Options are what Accounts need. All are required.
type Options struct {
	Linking Linking
	Now     func() time.Time
	NewID   func() string
	Audit   *audit.Recorder
}

// Accounts keeps accounts and identities. Its methods may be called concurrently, on any number of nodes.
type Accounts struct {
	accounts   store.Collection[Account]
	identities store.Collection[Identity]
	emails     store.Collection[holders]
	static     map[string]*Account
	o          Options
}

// New keeps accounts in b.
func New(b store.Backend, o Options) *Accounts {
	return &Accounts{
		accounts:   store.NewCollection[Account](b, "accounts"),
		identities: store.NewCollection[Identity](b, "identities"),
		emails:     store.NewCollection[holders](b, "emails"),
		o:          o,
	}
}

// identityID is the id of an identity's document. Each part is preceded by its length, so that no two identities share one.
func identityID(connector, issuer, subject string) string {
	h := sha256.New()
	for _, part := range []string{connector, issuer, subject} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func emailID(normal string) string {
	sum := sha256.Sum256([]byte(normal))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checked is the identity in a profile, with its texts cut to what can be kept.
func checked(connector string, p *connectors.Profile) (*Identity, error) {
	switch {
	case connector == "" || p.Issuer == "" || p.Subject == "":
		return nil, fmt.Errorf("%w: connector, issuer and subject are required", ErrInvalidProfile)
	case len(p.Subject) > maxSubject || len(p.Issuer) > maxIssuer:
		return nil, fmt.Errorf("%w: a subject of %d bytes, an issuer of %d", ErrInvalidProfile, len(p.Subject), len(p.Issuer))
	}
	person := Person{
		Name: text(p.Name, maxText), GivenName: text(p.GivenName, maxText), FamilyName: text(p.FamilyName, maxText),
		Username: text(p.Username, maxText), Locale: text(p.Locale, maxText), Picture: picture(p.Picture),
		MiddleName: text(p.MiddleName, maxText), Nickname: text(p.Nickname, maxText), Profile: picture(p.Page), Website: picture(p.Website),
		Gender: text(p.Gender, maxText), Birthdate: text(p.Birthdate, maxText), Zoneinfo: text(p.Zoneinfo, maxText),
	}
	if normalEmail(p.Email) != "" {
		person.Email, person.EmailVerified = strings.TrimSpace(p.Email), p.EmailVerified
	}
	return &Identity{Connector: connector, Issuer: p.Issuer, Subject: p.Subject, Person: person}, nil
}

// text drops control characters and cuts to a whole character within limit bytes.
func text(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.TrimSpace(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

func picture(s string) string {
	if len(s) > maxURL || !strings.HasPrefix(s, "https://") || text(s, maxURL) != s {
		return ""
	}
	return s
}

// Resolve decides what becomes of an upstream identity and carries it out, except where the person has to be asked.
// ErrDisabled if its account is disabled, ErrInvalidProfile if it names no identity. A known identity that has not
// changed costs two reads and no write.
func (a *Accounts) Resolve(ctx context.Context, connector string, p *connectors.Profile) (*Resolution, error) {
	id, err := checked(connector, p)
	if err != nil {
		return nil, err
	}
	known, err := a.known(ctx, id)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return a.signInOr(ctx, known, id, func() (*Resolution, error) { return a.Resolve(ctx, connector, p) })
	}
	candidates, err := a.candidates(ctx, id)
	if err != nil {
		return nil, err
	}
	c := Case{Policy: a.o.Linking, EmailVerified: id.EmailVerified}
	for _, candidate := range candidates {
		c.Holders = append(c.Holders, candidate.AccountID)
	}
	outcome := Decide(c)
	if outcome == AskToLink || outcome == Link {
		// The account that holds the email may be this very identity's, made by a racing request since it was looked for. An
		// email is held after its identity is stored, so looking again is sure to find it.
		if known, err = a.known(ctx, id); err != nil {
			return nil, err
		}
		if known != nil {
			return a.signInOr(ctx, known, id, func() (*Resolution, error) { return a.Resolve(ctx, connector, p) })
		}
	}
	switch outcome {
	case AskToLink:
		return &Resolution{Outcome: outcome, Candidates: candidates}, nil
	case Link:
		account, err := a.LinkTo(ctx, c.Holders[0], connector, p)
		if errors.Is(err, ErrTaken) { // another request was faster
			return a.Resolve(ctx, connector, p)
		}
		if err != nil {
			return nil, err
		}
		return &Resolution{Outcome: outcome, Account: account}, nil
	default:
		return a.create(ctx, id)
	}
}

// CreateSeparate makes an account of its own for an identity whose person was asked about linking and chose not to. If the
// identity has an account by now, that is the one.
func (a *Accounts) CreateSeparate(ctx context.Context, connector string, p *connectors.Profile) (*Resolution, error) {
	id, err := checked(connector, p)
	if err != nil {
		return nil, err
	}
	return a.create(ctx, id)
}

// LinkTo links an identity to an account that the person has proven. ErrTaken if the identity belongs to another account by
// now; ErrDisabled and ErrNotFound as for the account.
func (a *Accounts) LinkTo(ctx context.Context, accountID, connector string, p *connectors.Profile) (*Account, error) {
	id, err := checked(connector, p)
	if err != nil {
		return nil, err
	}
	account, err := a.Get(ctx, accountID)
	if err != nil {
		return nil, err
	}
	if account.Disabled {
		return nil, ErrDisabled
	}
	stored, claimed, err := a.claim(ctx, id, accountID)
	if err != nil {
		return nil, err
	}
	if stored.Value.AccountID != accountID {
		return nil, ErrTaken
	}
	if err := a.hold(ctx, id, accountID); err != nil {
		return nil, err
	}
	if claimed {
		a.o.Audit.Record(ctx, audit.Event{Kind: audit.IdentityLinked, AccountID: accountID, Connector: connector})
	}
	return account, nil
}

// AccountOf is the account that an identity signs in to. ErrNotFound if nobody has it, ErrDisabled if the account is disabled.
func (a *Accounts) AccountOf(ctx context.Context, connector string, p *connectors.Profile) (string, error) {
	id, err := checked(connector, p)
	if err != nil {
		return "", err
	}
	known, err := a.known(ctx, id)
	if err != nil {
		return "", err
	}
	if known == nil {
		return "", ErrNotFound
	}
	resolution, err := a.signInOr(ctx, known, id, func() (*Resolution, error) { return nil, ErrNotFound })
	if err != nil {
		return "", err
	}
	return resolution.Account.ID, nil
}

// Find is the account that an identity signs in to, left as it is: for those who know of the person and not of the profile. ErrNotFound if
// nobody has it. A disabled account is found too.
func (a *Accounts) Find(ctx context.Context, connector, issuer, subject string) (*Account, error) {
	known, err := a.known(ctx, &Identity{Connector: connector, Issuer: issuer, Subject: subject})
	if err != nil {
		return nil, err
	}
	if known == nil {
		return nil, ErrNotFound
	}
	return a.Get(ctx, known.Value.AccountID)
}

// Get reads an account. ErrNotFound if there is none, or none any more. It may be shared: it must not be changed.
func (a *Accounts) Get(ctx context.Context, id string) (*Account, error) {
	if account := a.static[id]; account != nil {
		return account, nil
	}
	doc, err := a.accounts.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if !doc.Value.RemovedAt.IsZero() {
		return nil, ErrNotFound
	}
	doc.Value.ID = doc.ID
	return &doc.Value, nil
}

// Identities lists the identities of an account.
func (a *Accounts) Identities(ctx context.Context, accountID string) ([]*store.Doc[Identity], error) {
	var all []*store.Doc[Identity]
	for after := ""; ; {
		page, err := a.identities.List(ctx, store.Query{Owner: accountID, After: after})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < store.MaxPage {
			return all, nil
		}
		after = page[len(page)-1].ID
	}
}

func (a *Accounts) known(ctx context.Context, id *Identity) (*store.Doc[Identity], error) {
	doc, err := a.identities.Get(ctx, identityID(id.Connector, id.Issuer, id.Subject))
	if errors.Is(err, store.ErrNotFound) || err == nil && doc.Value.AccountID == "" {
		return nil, nil
	}
	return doc, err
}

// signInOr is signIn, or otherwise for an identity whose account has been removed: it is let go of, since whoever it belongs to is new here.
func (a *Accounts) signInOr(ctx context.Context, known *store.Doc[Identity], fresh *Identity, otherwise func() (*Resolution, error)) (*Resolution, error) {
	resolution, err := a.signIn(ctx, known, fresh)
	if !errors.Is(err, ErrNotFound) {
		return resolution, err
	}
	if err := a.free(ctx, known); err != nil {
		return nil, err
	}
	return otherwise()
}

// signIn signs in to the account of a known identity, and writes back what the provider says differently now.
func (a *Accounts) signIn(ctx context.Context, known *store.Doc[Identity], fresh *Identity) (*Resolution, error) {
	account, err := a.ensureAccount(ctx, known)
	if err != nil {
		return nil, err
	}
	if Decide(Case{Policy: a.o.Linking, Known: account.ID, KnownDisabled: account.Disabled}) == Refuse {
		return nil, ErrDisabled
	}
	if known.Value.Person == fresh.Person {
		return &Resolution{Outcome: SignIn, Account: account}, nil
	}
	if account, err = a.update(ctx, known, fresh, account); err != nil {
		return nil, err
	}
	return &Resolution{Outcome: SignIn, Account: account}, nil
}

// update writes back a changed profile. The address that the identity had is let go of if it was this identity that held it.
func (a *Accounts) update(ctx context.Context, known *store.Doc[Identity], fresh *Identity, account *Account) (*Account, error) {
	old := known.Value.Person
	known.Value.Person = fresh.Person
	if err := a.identities.Replace(ctx, known); err != nil && !errors.Is(err, store.ErrConflict) {
		return nil, err
	}
	if account.Source == known.ID {
		doc, err := a.accounts.Change(ctx, account.ID, func(doc *store.Doc[Account]) error {
			if !doc.Value.RemovedAt.IsZero() {
				return ErrNotFound // and what it was is not to be known again
			}
			doc.Value.Person = fresh.Person
			doc.Value.UpdatedAt = a.o.Now()
			return nil
		})
		if err != nil {
			return nil, err
		}
		account = &doc.Value
		account.ID = doc.ID
	}
	if old.EmailVerified && (!fresh.EmailVerified || normalEmail(old.Email) != normalEmail(fresh.Email)) {
		if err := a.release(ctx, old.Email, account.ID); err != nil {
			return nil, err
		}
	}
	return account, a.hold(ctx, fresh, account.ID)
}

// create makes an account for a new identity. Where another request made one for it meanwhile, that is the one.
func (a *Accounts) create(ctx context.Context, id *Identity) (*Resolution, error) {
	stored, claimed, err := a.claim(ctx, id, a.o.NewID())
	if err != nil {
		return nil, err
	}
	if !claimed {
		return a.signInOr(ctx, stored, id, func() (*Resolution, error) { return a.create(ctx, id) })
	}
	account, err := a.ensureAccount(ctx, stored)
	if err != nil {
		return nil, err
	}
	if err := a.hold(ctx, id, account.ID); err != nil {
		return nil, err
	}
	a.o.Audit.Record(ctx, audit.Event{Kind: audit.AccountCreated, AccountID: account.ID, Connector: id.Connector})
	return &Resolution{Outcome: Create, Account: account}, nil
}

// claim gives the identity to the account, or returns the claim of one that was faster.
func (a *Accounts) claim(ctx context.Context, id *Identity, accountID string) (stored *store.Doc[Identity], claimed bool, err error) {
	key := identityID(id.Connector, id.Issuer, id.Subject)
	doc := &store.Doc[Identity]{Meta: store.Meta{ID: key, Owner: accountID}, Value: *id}
	doc.Value.AccountID, doc.Value.LinkedAt = accountID, a.o.Now()
	for range maxClaims {
		if doc.Rev == 0 {
			err = a.identities.Insert(ctx, doc)
		} else {
			err = a.identities.Replace(ctx, doc) // nobody's any more
		}
		if err == nil {
			return doc, true, nil
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) {
			return nil, false, err
		}
		stored, err = a.identities.Get(ctx, key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			doc.Rev = 0
		case err != nil:
			return nil, false, err
		case stored.Value.AccountID != "":
			return stored, false, nil
		default:
			doc.Rev = stored.Rev
		}
	}
	return nil, false, err
}

// maxClaims bounds claim against others that change what it has read, again and again.
const maxClaims = 16

// freedMemory is how long a claim is kept that is nobody's any more. It is not deleted: another claim would begin at the same revision, and a request that read
// the one before would take it for its own. No request lives for so long.
const freedMemory = time.Hour

// free gives up an identity's claim, and forgets whose it was. No error if it was changed since doc was read.
func (a *Accounts) free(ctx context.Context, doc *store.Doc[Identity]) error {
	doc.Value, doc.Owner, doc.Expires = Identity{}, "", a.o.Now().Add(freedMemory)
	if err := a.identities.Replace(ctx, doc); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// ensureAccount reads the account of a stored identity, and makes it if a crash, or a race that is still on, has left it missing. ErrNotFound if it
// was removed.
func (a *Accounts) ensureAccount(ctx context.Context, id *store.Doc[Identity]) (*Account, error) {
	account, err := a.Get(ctx, id.Value.AccountID)
	if !errors.Is(err, ErrNotFound) {
		return account, err
	}
	doc := &store.Doc[Account]{
		Meta: store.Meta{ID: id.Value.AccountID},
		Value: Account{
			Person: id.Value.Person, Source: id.ID, CreatedAt: id.Value.LinkedAt, UpdatedAt: id.Value.LinkedAt,
		},
	}
	err = a.accounts.Insert(ctx, doc)
	if errors.Is(err, store.ErrExists) {
		return a.Get(ctx, doc.ID)
	}
	if err != nil {
		return nil, err
	}
	// The claim on the email may be what the crash prevented as well; a second one changes nothing.
	if err := a.hold(ctx, &id.Value, doc.ID); err != nil {
		return nil, err
	}
	doc.Value.ID = doc.ID
	return &doc.Value, nil
}

// candidates are the live accounts that hold the identity's verified email. An unverified one is not even looked up.
func (a *Accounts) candidates(ctx context.Context, id *Identity) ([]Candidate, error) {
	if !id.EmailVerified || a.o.Linking == LinkNever {
		return nil, nil
	}
	doc, err := a.emails.Get(ctx, emailID(normalEmail(id.Email)))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Candidate
	for _, accountID := range doc.Value.Accounts {
		account, err := a.Get(ctx, accountID)
		if errors.Is(err, ErrNotFound) || err == nil && account.Disabled {
			continue
		}
		if err != nil {
			return nil, err
		}
		identities, err := a.Identities(ctx, accountID)
		if err != nil {
			return nil, err
		}
		candidate := Candidate{AccountID: accountID}
		for _, identity := range identities {
			if !slices.Contains(candidate.Connectors, identity.Value.Connector) {
				candidate.Connectors = append(candidate.Connectors, identity.Value.Connector)
			}
		}
		if len(candidate.Connectors) > 0 {
			out = append(out, candidate)
		}
	}
	return out, nil
}

// errEnough says that a document is as it should be.
var errEnough = errors.New("nothing to change")

// hold notes that the account holds the identity's email verified.
func (a *Accounts) hold(ctx context.Context, id *Identity, accountID string) error {
	if !id.EmailVerified {
		return nil
	}
	key := emailID(normalEmail(id.Email))
	var err error
	for range maxClaims {
		err = a.emails.Insert(ctx, &store.Doc[holders]{Meta: store.Meta{ID: key}, Value: holders{Accounts: []string{accountID}}})
		if !errors.Is(err, store.ErrExists) {
			return err
		}
		_, err = a.emails.Change(ctx, key, func(doc *store.Doc[holders]) error {
			if slices.Contains(doc.Value.Accounts, accountID) || len(doc.Value.Accounts) >= maxHolders {
				return errEnough
			}
			doc.Value.Accounts, doc.Expires = append(doc.Value.Accounts, accountID), time.Time{}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) { // it was nobody's, and has expired since
			return err
		}
	}
	return err
}

// release takes an email from the account, unless another of its identities still holds it.
func (a *Accounts) release(ctx context.Context, email, accountID string) error {
	normal := normalEmail(email)
	identities, err := a.Identities(ctx, accountID)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		if identity.Value.EmailVerified && normalEmail(identity.Value.Email) == normal {
			return nil
		}
	}
	return a.letGo(ctx, email, accountID)
}

// letGo takes an email from the account. One that nobody holds is forgotten.
func (a *Accounts) letGo(ctx context.Context, email, accountID string) error {
	_, err := a.emails.Change(ctx, emailID(normalEmail(email)), func(doc *store.Doc[holders]) error {
		i := slices.Index(doc.Value.Accounts, accountID)
		if i < 0 {
			return errEnough
		}
		doc.Value.Accounts = slices.Delete(doc.Value.Accounts, i, i+1)
		if len(doc.Value.Accounts) == 0 {
			doc.Expires = a.o.Now().Add(freedMemory)
		}
		return nil
	})
	if errors.Is(err, errEnough) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
