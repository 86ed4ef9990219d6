// Package accounts is what an operator does to accounts as a whole: make a local one, set its password, disable it, remove it. Each reaches over several
// collections; their order here is what makes a crash between two of them harmless.
//
// The commands call it, beside a running broker or without one. It decides nothing about who may sign in: broker/identity and broker/local do.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/local"
)

// ErrHasUsername says that the account has a username already, and it is another.
var ErrHasUsername = errors.New("the account has another username")

// AMRPassword is the authentication method of a password (RFC 8176 section 2).
const AMRPassword = "pwd"

// Sessions ends the browser sessions of an account. sessions.Store is one.
type Sessions interface {
	EndAll(ctx context.Context, accountID string) error
}

// Apps hear that an account has ended. logout.Outbox tells them.
type Apps interface {
	AccountEnded(ctx context.Context, accountID string) error
}

// Manager manages accounts. All fields are required. Its methods may be called concurrently, on any number of nodes.
type Manager struct {
	Accounts    *identity.Accounts
	Credentials *local.Credentials
	Sessions    Sessions
	Grants      *grant.Grants
	Consents    *grant.Consents
	Apps        Apps
	Audit       *audit.Recorder
}

// Add makes a local account. Errors as those of identity.Create and local.Set.
//
// The account comes before its username: a crash in between leaves an account that nobody can sign in to, which is listed and can be removed or
// given a password; the other way round it would leave a username that is taken by nobody.
func (m *Manager) Add(ctx context.Context, username, password string, p identity.Person) (*identity.Account, error) {
	normal, err := local.Normal(username)
	if err != nil {
		return nil, err
	}
	// Looked at first, so that a name that is taken makes no account; Set decides.
	if owner, err := m.Credentials.Owner(ctx, normal); err == nil {
		if _, err := m.Accounts.Get(ctx, owner); err == nil {
			return nil, local.ErrTaken
		}
	}
	p.Username = normal
	account, err := m.Accounts.Create(ctx, p)
	if err != nil {
		return nil, err
	}
	if _, err := m.Credentials.Set(ctx, normal, account.ID, password); err != nil {
		// Another request was faster, or the password will not do: nobody has seen the account.
		return nil, errors.Join(err, m.Accounts.Retire(ctx, account.ID), m.Accounts.Erase(ctx, account.ID))
	}
	m.Audit.Record(ctx, audit.Event{Kind: audit.AccountCreated, AccountID: account.ID, Reason: "by an operator"})
	return account, nil
}

// SetPassword gives an account another password. username is "" for the one that it has; an account that signs in elsewhere gets one with it. What came of the
// password before is revoked: refresh tokens, and access tokens as far as APIs ask.
func (m *Manager) SetPassword(ctx context.Context, accountID, username, password string) error {
	if err := m.changeable(ctx, accountID); err != nil {
		return err
	}
	has, err := m.Credentials.Of(ctx, accountID)
	if err != nil {
		return err
	}
	if username == "" {
		if len(has) == 0 {
			return fmt.Errorf("%w: give the account one", local.ErrUsername)
		}
		username = has[0].Username
	}
	normal, err := local.Normal(username)
	if err != nil {
		return err
	}
	if len(has) > 0 && !slices.ContainsFunc(has, func(c *local.Credential) bool { return c.Username == normal }) {
		return fmt.Errorf("%w: %s", ErrHasUsername, has[0].Username)
	}
	if _, err := m.Credentials.Set(ctx, normal, accountID, password); err != nil {
		return err
	}
	if _, err := m.Grants.RevokeOf(ctx, accountID, grant.ReasonPasswordChanged, byPassword); err != nil {
		return err
	}
	m.Audit.Record(ctx, audit.Event{Kind: audit.PasswordSet, AccountID: accountID})
	return nil
}

func byPassword(g *grant.Grant) bool { return slices.Contains(g.AMR, AMRPassword) }

func every(*grant.Grant) bool { return true }

// changeable says whether the account is one that can be changed here.
func (m *Manager) changeable(ctx context.Context, accountID string) error {
	account, err := m.Accounts.Get(ctx, accountID)
	if err == nil && account.Static {
		return identity.ErrStatic
	}
	return err
}

// Disable keeps an account from signing in, ends its sessions, revokes its grants, and has apps told of it. It works at once, on all nodes; only a JWT that an API verifies by
// itself works until it ends. identity.ErrNotFound, ErrStatic.
func (m *Manager) Disable(ctx context.Context, accountID string) error {
	// First, so that none of what is ended next comes back.
	if err := m.Accounts.Disable(ctx, accountID, true); err != nil {
		return err
	}
	if err := m.end(ctx, accountID, grant.ReasonAccountDisabled); err != nil {
		return err
	}
	m.Audit.Record(ctx, audit.Event{Kind: audit.AccountDisabled, AccountID: accountID})
	return nil
}

// end ends what an account has with apps and browsers. Apps first: whom to tell follows from the grants.
func (m *Manager) end(ctx context.Context, accountID, reason string) error {
	if err := m.Apps.AccountEnded(ctx, accountID); err != nil {
		return err
	}
	if err := m.Sessions.EndAll(ctx, accountID); err != nil {
		return err
	}
	_, err := m.Grants.RevokeOf(ctx, accountID, reason, every)
	return err
}

// Enable lets a disabled account sign in again. What was ended stays so. identity.ErrNotFound, ErrStatic.
func (m *Manager) Enable(ctx context.Context, accountID string) error {
	if err := m.Accounts.Disable(ctx, accountID, false); err != nil {
		return err
	}
	m.Audit.Record(ctx, audit.Event{Kind: audit.AccountEnabled, AccountID: accountID})
	return nil
}

// Remove removes an account: sessions, grants, consents, identities, emails, username, and who it was. Its id is never used again. Whoever
// signs in with one of its identities later is new. identity.ErrNotFound, ErrStatic.
//
// The account is gone for everybody from the first write on. A removal that was cut short is finished by another with the account's id.
func (m *Manager) Remove(ctx context.Context, accountID string) error {
	if err := m.Accounts.Retire(ctx, accountID); err != nil {
		return err
	}
	if err := m.end(ctx, accountID, grant.ReasonAccountRemoved); err != nil {
		return err
	}
	if err := m.Consents.Forget(ctx, accountID); err != nil {
		return err
	}
	// The username last but one: it is what an operator may know the account by.
	if err := m.Credentials.Release(ctx, accountID); err != nil {
		return err
	}
	if err := m.Accounts.Erase(ctx, accountID); err != nil {
		return err
	}
	m.Audit.Record(ctx, audit.Event{Kind: audit.AccountRemoved, AccountID: accountID})
	return nil
}

// Find is the id of the account that an operator means by an account id or a username. identity.ErrNotFound if it is neither. One whose removal was cut
// short is found by its username, as long as that is there.
func (m *Manager) Find(ctx context.Context, name string) (string, error) {
	switch _, err := m.Accounts.Get(ctx, name); {
	case err == nil:
		return name, nil
	case !errors.Is(err, identity.ErrNotFound):
		return "", err
	}
	id, err := m.Credentials.Owner(ctx, name)
	if errors.Is(err, local.ErrNotFound) {
		return "", identity.ErrNotFound
	}
	return id, err
}
