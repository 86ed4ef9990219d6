package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/store"
)

// SetStatic sets the accounts of the configuration, which [CheckPerson] has found good. They stand before stored ones of the same id. It is called before all other
// methods.
func (a *Accounts) SetStatic(list []Account) {
	a.static = make(map[string]*Account, len(list))
	for _, account := range list {
		account.Static = true
		account.CreatedAt = a.o.Now()
		account.UpdatedAt = account.CreatedAt
		a.static[account.ID] = &account
	}
}

// CheckPerson says what is wrong with what an operator says about a person: every field, by its name. ErrInvalidProfile.
//
// What a provider says is cut to what can be kept; what an operator says is refused, since they can mend it.
func CheckPerson(p Person) error {
	var problems []error
	bad := func(field, why string) {
		problems = append(problems, fmt.Errorf("%w: %s %s", ErrInvalidProfile, field, why))
	}
	for field, value := range map[string]string{
		"name": p.Name, "given_name": p.GivenName, "family_name": p.FamilyName, "middle_name": p.MiddleName, "nickname": p.Nickname,
		"preferred_username": p.Username, "locale": p.Locale, "gender": p.Gender, "zoneinfo": p.Zoneinfo, "birthdate": p.Birthdate,
	} {
		if text(value, maxText) != value {
			bad(field, fmt.Sprintf("is longer than %d bytes, or has a control character or space around it", maxText))
		}
	}
	for field, value := range map[string]string{"picture": p.Picture, "profile": p.Profile, "website": p.Website} {
		if value != "" && picture(value) == "" {
			bad(field, "is not an https address")
		}
	}
	if p.Email != "" && (normalEmail(p.Email) == "" || strings.TrimSpace(p.Email) != p.Email) {
		bad("email", "is not an email address")
	}
	if p.EmailVerified && p.Email == "" {
		bad("email_verified", "is said of no email")
	}
	slices.SortFunc(problems, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(problems...)
}

// Create makes a local account: one that no identity signs in to. ErrInvalidProfile as [CheckPerson] says.
//
// Its email is nobody's claim: a login of a provider with the same one is not linked to it, since the sign-in page has no way to prove it.
func (a *Accounts) Create(ctx context.Context, p Person) (*Account, error) {
	if err := CheckPerson(p); err != nil {
		return nil, err
	}
	now := a.o.Now()
	doc := &store.Doc[Account]{Meta: store.Meta{ID: a.o.NewID()}, Value: Account{Person: p, CreatedAt: now, UpdatedAt: now}}
	if err := a.accounts.Insert(ctx, doc); err != nil {
		return nil, err
	}
	doc.Value.ID = doc.ID
	return &doc.Value, nil
}

// List is a page of accounts by id, those of the configuration first on the first page. after is the next of the page before; "" ends the list.
func (a *Accounts) List(ctx context.Context, after string) (page []*Account, next string, err error) {
	if after == "" {
		for _, id := range slices.Sorted(maps.Keys(a.static)) {
			page = append(page, a.static[id])
		}
	}
	docs, err := a.accounts.List(ctx, store.Query{After: after})
	if err != nil {
		return nil, "", err
	}
	for _, doc := range docs {
		if doc.Value.RemovedAt.IsZero() && a.static[doc.ID] == nil {
			doc.Value.ID = doc.ID
			page = append(page, &doc.Value)
		}
	}
	if len(docs) == store.MaxPage {
		next = docs[len(docs)-1].ID
	}
	return page, next, nil
}

// Disable keeps an account from signing in and its tokens from working, or lets it again. ErrNotFound, ErrStatic.
func (a *Accounts) Disable(ctx context.Context, id string, disabled bool) error {
	return a.edit(ctx, id, func(account *Account) error {
		if !account.RemovedAt.IsZero() {
			return ErrNotFound
		}
		account.Disabled = disabled
		return nil
	})
}

// Retire begins to remove an account: from now on there is none for everybody who asks. What belongs to it is still there, for [Accounts.Erase] to end.
// ErrNotFound if there never was one, ErrStatic; no error if it was retired before, so that a removal that was cut short can be done again.
func (a *Accounts) Retire(ctx context.Context, id string) error {
	return a.edit(ctx, id, func(account *Account) error {
		if !account.RemovedAt.IsZero() {
			return errEnough
		}
		account.Disabled, account.RemovedAt = true, a.o.Now()
		return nil
	})
}

// Erase removes the identities of a retired account, lets go of the emails that it held, and forgets who it was.
func (a *Accounts) Erase(ctx context.Context, id string) error {
	identities, err := a.Identities(ctx, id)
	if err != nil {
		return err
	}
	for _, doc := range identities {
		// The email first: the identity is what a removal that was cut short finds it by.
		if doc.Value.EmailVerified {
			if err := a.letGo(ctx, doc.Value.Email, id); err != nil {
				return err
			}
		}
		if err := a.free(ctx, doc); err != nil {
			return err
		}
	}
	return a.edit(ctx, id, func(account *Account) error {
		account.Person, account.Source = Person{}, ""
		return nil
	})
}

func (a *Accounts) edit(ctx context.Context, id string, change func(*Account) error) error {
	if a.static[id] != nil {
		return ErrStatic
	}
	_, err := a.accounts.Change(ctx, id, func(doc *store.Doc[Account]) error {
		if err := change(&doc.Value); err != nil {
			return err
		}
		doc.Value.UpdatedAt = a.o.Now()
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case errors.Is(err, store.ErrNotFound):
		return ErrNotFound
	}
	return err
}
