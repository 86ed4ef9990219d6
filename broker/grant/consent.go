package grant

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Consent is an account's remembered yes to a client's scopes.
type Consent struct {
	AccountID string    `json:"account_id"`
	ClientID  string    `json:"client_id"`
	Scopes    []string  `json:"scopes"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Consents keeps consents. Its methods may be called concurrently.
type Consents struct {
	docs store.Collection[Consent]
	now  func() time.Time
}

// NewConsents keeps consents in b.
func NewConsents(b store.Backend, now func() time.Time) *Consents {
	return &Consents{docs: store.NewCollection[Consent](b, "consents"), now: now}
}

// consentID is a digest because client ids may be given by an operator, in any length and alphabet.
func consentID(accountID, clientID string) string {
	sum := sha256.Sum256([]byte(accountID + "\x00" + clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Missing are the scopes among those asked for that the account has not said yes to yet.
func (s *Consents) Missing(ctx context.Context, accountID, clientID string, scopes []string) ([]string, error) {
	doc, err := s.docs.Get(ctx, consentID(accountID, clientID))
	if errors.Is(err, store.ErrNotFound) {
		return scopes, nil
	}
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, scope := range scopes {
		if !slices.Contains(doc.Value.Scopes, scope) {
			missing = append(missing, scope)
		}
	}
	return missing, nil
}

// Remember adds scopes to what the account has said yes to.
func (s *Consents) Remember(ctx context.Context, accountID, clientID string, scopes []string) error {
	id := consentID(accountID, clientID)
	fresh := &store.Doc[Consent]{
		Meta:  store.Meta{ID: id, Owner: accountID},
		Value: Consent{AccountID: accountID, ClientID: clientID, Scopes: scopes, UpdatedAt: s.now()},
	}
	err := s.docs.Insert(ctx, fresh)
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	_, err = s.docs.Change(ctx, id, func(doc *store.Doc[Consent]) error {
		for _, scope := range scopes {
			if !slices.Contains(doc.Value.Scopes, scope) {
				doc.Value.Scopes = append(doc.Value.Scopes, scope)
			}
		}
		doc.Value.UpdatedAt = s.now()
		return nil
	})
	return err
}

// Forget takes back everything that an account has said yes to.
func (s *Consents) Forget(ctx context.Context, accountID string) error {
	for {
		page, err := s.docs.List(ctx, store.Query{Owner: accountID})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, doc := range page {
			if err := s.docs.Delete(ctx, doc.ID, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
}
