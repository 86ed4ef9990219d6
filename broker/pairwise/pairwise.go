// Package pairwise gives each sector its own name for an account, and for a session, (OpenID Connect Core section 8.1), so that apps which
// have nothing to do with each other cannot find out that they have the same person.
//
// broker/oauth asks it for the sub of everything that a client sees, broker/signin to compare one that a client shows. A name is a keyed hash, so that nothing is stored
// for a person; the key is a random salt that one document keeps for ever, because apps know people by what comes of it.
package pairwise

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"

	"github.com/portico-id/portico/broker/store"
)

const (
	// saltBytes is the strength of the hash's key: nobody who has all accounts' ids can try salts.
	saltBytes = 32
	// saltID is the id of the one document, and sealPurpose binds what is in it to this use.
	saltID      = "salt"
	sealPurpose = "pairwise-salt"
	// sessionMark keeps sessions apart from accounts, whose ids have no space.
	sessionMark = "session "
	// maxRounds bounds how often Open reads anew because another node wrote: one does, and then it is there.
	maxRounds = 4
)

// Sealer seals values for documents. token.Keyring is one.
type Sealer interface {
	Seal(purpose string, plaintext, associated []byte) string
	Open(purpose, sealed string, associated []byte) ([]byte, error)
	Stale(value string) bool
}

// saltDocument keeps the salt, sealed under the keyring.
type saltDocument struct {
	Sealed string `json:"sealed"`
}

// Client is whoever sees a name. registry.Client is one.
type Client interface {
	// Pairwise says whether it sees a name of its sector's own rather than the account's id.
	Pairwise() bool
	// Sector is the host that names the sector.
	Sector() string
}

// Subjects names accounts. Safe for concurrent use.
type Subjects struct{ salt []byte }

// Open reads the salt from b, or makes it at the very first start: of nodes that start together one inserts it, and all
// use that one. A salt that an older secret of the keyring sealed is sealed anew, and stays what it is: a name does
// not change when the keyring is rotated. It is an error if the keyring lacks the secret it was sealed under: to make another salt would
// be to make strangers of all people.
func Open(ctx context.Context, b store.Backend, sealer Sealer, log *slog.Logger) (*Subjects, error) {
	docs := store.NewCollection[saltDocument](b, "pairwise")
	for range maxRounds {
		doc, err := docs.Get(ctx, saltID)
		if errors.Is(err, store.ErrNotFound) {
			salt := make([]byte, saltBytes)
			rand.Read(salt) // never fails: crypto/rand ends the process instead
			doc := &store.Doc[saltDocument]{
				Meta:  store.Meta{ID: saltID},
				Value: saltDocument{Sealed: sealer.Seal(sealPurpose, salt, []byte(saltID))},
			}
			err := docs.Insert(ctx, doc)
			if errors.Is(err, store.ErrExists) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("pairwise subjects: %w", err)
			}
			return &Subjects{salt: salt}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("pairwise subjects: %w", err)
		}
		salt, err := sealer.Open(sealPurpose, doc.Value.Sealed, []byte(saltID))
		if err != nil {
			return nil, fmt.Errorf("pairwise subjects: the salt cannot be opened: the keyring lacks the secret it was sealed under (add it back as a last one): %w", err)
		}
		if sealer.Stale(doc.Value.Sealed) {
			doc.Value.Sealed = sealer.Seal(sealPurpose, salt, []byte(saltID))
			// Another node may have done it; and if neither did, the next start will.
			if err := docs.Replace(ctx, doc); err != nil && !errors.Is(err, store.ErrConflict) {
				log.Warn("the salt of pairwise subjects could not be sealed anew", "cause", err)
			}
		}
		return &Subjects{salt: salt}, nil
	}
	return nil, errors.New("pairwise subjects: the store does not show the salt after it was made")
}

// For is the account as the client sees it: its sub.
func (s *Subjects) For(c Client, accountID string) string {
	if !c.Pairwise() {
		return accountID
	}
	return s.Of(c.Sector(), accountID)
}

// Session is a browser's session as the client sees it: its sid (OpenID Connect Front-Channel Logout section 3). All clients of a session
// see the same otherwise, and could tell by it what the sub does not say.
func (s *Subjects) Session(c Client, sid string) string {
	if sid == "" || !c.Pairwise() {
		return sid
	}
	return s.Of(c.Sector(), sessionMark+sid)
}

// Of is the account's name in a sector: 43 characters of base64url, the same for ever, from which neither the account nor its
// name in another sector can be found.
func (s *Subjects) Of(sector, accountID string) string {
	h := hmac.New(sha256.New, s.salt)
	// The length keeps sector and account apart.
	fmt.Fprintf(h, "%d:%s:%s", len(sector), sector, accountID)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
