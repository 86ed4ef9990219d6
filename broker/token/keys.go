package token

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// The signature algorithms that keys can be of (RFC 7518 section 3.1, RFC 8037).
const (
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

const (
	// DefaultRotateEvery is how long a key signs: what a configuration that says nothing
	// gets.
	DefaultRotateEvery = 90 * 24 * time.Hour
	// DefaultPublishAhead is how long a new key is published before it signs: longer than
	// any sensible cache of a JWKS lives.
	DefaultPublishAhead = 24 * time.Hour
	// DefaultKeepAfter is how long a retired key stays published and verifies: longer than
	// access tokens live, and long enough for an ID token to serve as a logout hint.
	DefaultKeepAfter = 30 * 24 * time.Hour
	// RefreshInterval is how often Run looks at the store. A key is published at least
	// twice as long before it signs, so that every node knows it by then.
	RefreshInterval = time.Minute

	// keyCreationTimeout bounds the generation and storing of the slow keys that OpenKeys leaves
	// to the background; RSA takes 0.1 to 2 seconds.
	keyCreationTimeout = 30 * time.Second
	// maxRounds bounds how often one Refresh reads the store anew because it or another node
	// made a key.
	maxRounds = 8
)

// KeysOptions say which keys there are and how long they live.
type KeysOptions struct {
	// Algorithms that the broker can sign with: RS256, ES256, EdDSA; empty means all
	// three. Keys of an algorithm no longer listed still verify, and are published, until
	// they are deleted from the store.
	Algorithms []string
	// RotateEvery is how long a key signs before its successor does; 0 means until Rotate
	// is called. It must exceed PublishAhead. DefaultRotateEvery is a good value.
	RotateEvery time.Duration
	// PublishAhead is how long a new key is in the JWKS before it signs, so that caches
	// and other nodes know it; at least twice RefreshInterval. 0 means DefaultPublishAhead.
	// The very first key of an algorithm signs at once.
	PublishAhead time.Duration
	// KeepAfter is how long a key stays in the JWKS, and verifies, after its successor
	// began to sign; no shorter than the longest life of a signed token. 0 means
	// DefaultKeepAfter.
	KeepAfter time.Duration
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// Logger hears of keys made, removed and not readable, never of their content; nil
	// means silence.
	Logger *slog.Logger
}

func (o *KeysOptions) complete() error {
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{RS256, ES256, EdDSA}
	}
	o.Algorithms = slices.Compact(slices.Sorted(slices.Values(o.Algorithms)))
	for _, alg := range o.Algorithms {
		if !supported(alg) {
			return fmt.Errorf("signing keys: algorithm %q is not one of RS256, ES256, EdDSA", alg)
		}
	}
	o.PublishAhead = cmp.Or(o.PublishAhead, DefaultPublishAhead)
	o.KeepAfter = cmp.Or(o.KeepAfter, DefaultKeepAfter)
	if o.PublishAhead < 2*RefreshInterval {
		return fmt.Errorf("signing keys: published %s ahead, want at least %s", o.PublishAhead, 2*RefreshInterval)
	}
	if o.RotateEvery < 0 || o.RotateEvery > 0 && o.RotateEvery <= o.PublishAhead {
		return fmt.Errorf("signing keys: rotated every %s, want more than the %s they are published ahead", o.RotateEvery, o.PublishAhead)
	}
	if o.KeepAfter < 0 {
		return fmt.Errorf("signing keys: kept %s after, want a positive time", o.KeepAfter)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Keys are the broker's signing keys: private keys sealed under the keyring in the store's
// collection signing_keys, the same for all nodes, replaced by time. Signing, verifying and the
// JWKS read one immutable set behind an atomic pointer and do no IO. Safe for concurrent use.
type Keys struct {
	docs     store.Collection[keyDocument]
	ring     *Keyring
	opts     KeysOptions
	set      atomic.Pointer[keySet]
	verified verifiedCache

	// changing lets one Refresh or Rotate of this node run at a time.
	changing sync.Mutex
	// created is closed when the background work of OpenKeys is over; createdErr is what
	// came of it, and is read only after that.
	created    chan struct{}
	createdErr error
}

// keyDocument is a signing key in the store, under the id `ALG-NNNNNN`. The number is the
// key's place among those of its algorithm; to insert it is to claim that place, so nodes that start or
// rotate at the same moment agree on one key.
type keyDocument struct {
	Algorithm string    `json:"algorithm"`
	KeyID     string    `json:"kid"`
	Sealed    string    `json:"sealed"`
	Created   time.Time `json:"created"`
	SignsFrom time.Time `json:"signs_from"`
}

// OpenKeys reads the signing keys from the store, makes those that are missing or due, and
// returns without waiting for the slow ones (RSA): the first use that needs one waits. Use
// Wait before the backend is closed. Many nodes may open an empty store at once; they end
// up with the same keys.
//
// It is an error if a key in the store cannot be opened with the keyring: the secret it was
// sealed under has been removed.
func OpenKeys(ctx context.Context, backend store.Backend, ring *Keyring, opts KeysOptions) (*Keys, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	k := &Keys{
		docs:    store.NewCollection[keyDocument](backend, "signing_keys"),
		ring:    ring,
		opts:    opts,
		created: make(chan struct{}),
	}
	k.set.Store(newKeySet(nil, opts.Algorithms, opts.Now()))
	k.changing.Lock()
	left, err := k.refresh(ctx, func(alg string) bool { return alg != RS256 })
	k.changing.Unlock()
	if err != nil {
		return nil, err
	}
	if !left {
		close(k.created)
		return k, nil
	}
	go func() {
		defer close(k.created)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyCreationTimeout)
		defer cancel()
		if err := k.Refresh(ctx); err != nil {
			k.createdErr = err
			k.opts.Logger.Error("signing keys could not be made", "error", err)
		}
	}()
	return k, nil
}

// Wait returns when the keys that OpenKeys left to the background are made, with the error
// that kept them from it if there was one, or when ctx ends.
func (k *Keys) Wait(ctx context.Context) error {
	select {
	case <-k.created:
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.set.Load().complete { // at once, or by a Refresh since
		return nil
	}
	return k.createdErr
}

// current returns the keys, complete if that is only a matter of time.
func (k *Keys) current() *keySet {
	if set := k.set.Load(); set.complete {
		return set
	}
	<-k.created
	return k.set.Load()
}

// Run refreshes the keys every RefreshInterval until ctx ends. Errors are logged, and the
// keys known before stay in use.
func (k *Keys) Run(ctx context.Context) {
	ticker := time.NewTicker(RefreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := k.Refresh(ctx); err != nil && ctx.Err() == nil {
				k.opts.Logger.Error("signing keys could not be refreshed", "error", err)
			}
		}
	}
}

// Refresh reads the store again, makes what is missing or due, removes what has been retired
// long enough, seals anew what an older secret of the ring sealed, and swaps the set in
// use. On an error the set before stays in use.
func (k *Keys) Refresh(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	_, err := k.refresh(ctx, supported)
	return err
}

// refresh is Refresh, making keys of those algorithms alone that may be made now. left
// says that some are due but were not made.
func (k *Keys) refresh(ctx context.Context, mayMake func(alg string) bool) (left bool, err error) {
	for range maxRounds {
		stored, err := k.load(ctx)
		if err != nil {
			return false, err
		}
		now := k.opts.Now()
		made := false
		left = false
		for _, alg := range k.opts.Algorithms {
			sequence, signsFrom, due := nextKey(timelineOf(stored, alg), now, k.opts)
			switch {
			case !due:
			case !mayMake(alg):
				left = true
			default:
				if err := k.make(ctx, alg, sequence, signsFrom); err != nil {
					return false, err
				}
				made = true
			}
		}
		if made {
			continue // what was made, here or by a faster node, is read back
		}
		stored = k.prune(ctx, stored, now)
		k.reseal(ctx, stored)
		k.set.Store(newKeySet(stored, k.opts.Algorithms, now))
		return left, nil
	}
	return false, errors.New("signing keys: the store does not show keys after they were made")
}

// load reads all keys, in order of algorithm and sequence. A key that is in use already is
// not opened again.
func (k *Keys) load(ctx context.Context) ([]*storedKey, error) {
	known := make(map[string]*storedKey)
	for _, s := range k.set.Load().stored {
		known[s.doc.ID] = s
	}
	var all []*storedKey
	query := store.Query{}
	for {
		page, err := k.docs.List(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("signing keys: %w", err)
		}
		for _, doc := range page {
			stored := &storedKey{doc: doc}
			if before := known[doc.ID]; before != nil && before.key.kid == doc.Value.KeyID {
				stored.key = before.key
			} else if stored.key, err = openKey(k.ring, doc); err != nil {
				return nil, err
			}
			if _, stored.sequence, err = parseDocumentID(doc.ID); err != nil {
				return nil, err
			}
			all = append(all, stored)
		}
		if len(page) < store.MaxPage {
			return all, nil
		}
		query.After = page[len(page)-1].ID
	}
}

// make generates a key and claims the place for it. That another node was faster is success
// too.
func (k *Keys) make(ctx context.Context, alg string, sequence int, signsFrom time.Time) error {
	doc, err := newKeyDocument(k.ring, alg, sequence, k.opts.Now(), signsFrom)
	if err != nil {
		return err
	}
	err = k.docs.Insert(ctx, doc)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	k.opts.Logger.Info("signing key made", "id", doc.ID, "kid", doc.Value.KeyID, "signs_from", signsFrom)
	return nil
}

// prune deletes the keys whose time is over and returns the others. A deletion that fails is
// left to the next refresh; the key is out of use at once.
func (k *Keys) prune(ctx context.Context, stored []*storedKey, now time.Time) []*storedKey {
	kept := stored[:0:0]
	for i, s := range stored {
		retired, ok := retiredAt(stored, i)
		if !ok || now.Before(retired.Add(k.opts.KeepAfter)) {
			kept = append(kept, s)
			continue
		}
		if err := k.docs.Delete(ctx, s.doc.ID, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
			k.opts.Logger.Warn("signing key could not be removed", "id", s.doc.ID, "error", err)
			continue
		}
		k.opts.Logger.Info("signing key removed", "id", s.doc.ID, "kid", s.doc.Value.KeyID)
	}
	return kept
}

// reseal seals anew, under the first secret of the ring, the keys that another one sealed.
// What fails or was done by another node meanwhile is left to the next refresh.
func (k *Keys) reseal(ctx context.Context, stored []*storedKey) {
	for _, s := range stored {
		if !k.ring.Stale(s.doc.Value.Sealed) {
			continue
		}
		sealed, err := sealKey(k.ring, s.doc.ID, s.key.private)
		if err != nil {
			k.opts.Logger.Warn("signing key could not be sealed", "id", s.doc.ID, "error", err)
			continue
		}
		s.doc.Value.Sealed = sealed
		if err := k.docs.Replace(ctx, s.doc); err != nil {
			k.opts.Logger.Warn("signing key could not be sealed anew", "id", s.doc.ID, "error", err)
			continue
		}
		k.opts.Logger.Info("signing key sealed under the first secret of the keyring", "id", s.doc.ID)
	}
}

// Rotate makes the next key of an algorithm now. It is published at once and signs after
// PublishAhead. If a key is waiting to sign already, nothing is made and that one is
// returned, so repeating a rotation, or asking for it on two nodes, is harmless.
func (k *Keys) Rotate(ctx context.Context, alg string) (KeyInfo, error) {
	if !slices.Contains(k.opts.Algorithms, alg) {
		return KeyInfo{}, fmt.Errorf("signing keys: %w: %q", ErrNoKey, alg)
	}
	if err := k.Wait(ctx); err != nil {
		return KeyInfo{}, err
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	for range maxRounds {
		stored, err := k.load(ctx)
		if err != nil {
			return KeyInfo{}, err
		}
		now := k.opts.Now()
		newest := timeline{}
		if keys := timelineOf(stored, alg); len(keys) > 0 {
			newest = keys[len(keys)-1]
		}
		if newest.sequence > 0 && newest.signsFrom.After(now) {
			if _, err := k.refresh(ctx, supported); err != nil {
				return KeyInfo{}, err
			}
			return k.info(newest.sequence, alg)
		}
		if err := k.make(ctx, alg, newest.sequence+1, now.Add(k.opts.PublishAhead)); err != nil {
			return KeyInfo{}, err
		}
	}
	return KeyInfo{}, errors.New("signing keys: the store does not show keys after they were made")
}

func (k *Keys) info(sequence int, alg string) (KeyInfo, error) {
	id := documentID(alg, sequence)
	for _, info := range keyInfos(k.set.Load().stored, k.opts.Now(), k.opts.KeepAfter) {
		if info.ID == id {
			return info, nil
		}
	}
	return KeyInfo{}, fmt.Errorf("signing keys: %s was removed meanwhile", id)
}

// KeyState is where a key is in its life.
type KeyState string

// The states of a key, in the order it passes through them.
const (
	// KeyPending keys are published and do not sign yet.
	KeyPending KeyState = "pending"
	// KeySigning is the one key of its algorithm that signs.
	KeySigning KeyState = "signing"
	// KeyRetired keys are published and verify what they signed.
	KeyRetired KeyState = "retired"
)

// KeyInfo describes a signing key to the operator. It holds nothing secret.
type KeyInfo struct {
	// ID is the name in the store, KeyID the `kid` in the JWKS and in signed tokens.
	ID, KeyID string
	// Algorithm is RS256, ES256 or EdDSA.
	Algorithm string
	// State is where in its life the key is now.
	State KeyState
	// Created is when it was made; SignsFrom when it begins or began to sign.
	Created, SignsFrom time.Time
	// RetiredAt is when its successor signs, RemovedAt when it leaves the JWKS; both are
	// zero while there is no successor.
	RetiredAt, RemovedAt time.Time
}

// List refreshes the keys and describes them, in order of algorithm and age.
func (k *Keys) List(ctx context.Context) ([]KeyInfo, error) {
	if err := k.Wait(ctx); err != nil {
		return nil, err
	}
	if err := k.Refresh(ctx); err != nil {
		return nil, err
	}
	return keyInfos(k.set.Load().stored, k.opts.Now(), k.opts.KeepAfter), nil
}

// Algorithms returns the algorithms that Sign can use, sorted, for the discovery document.
func (k *Keys) Algorithms() []string {
	return slices.Clone(k.opts.Algorithms)
}

// JWKS returns the published keys as a JSON Web Key Set (RFC 7517 section 5) and a strong
// entity tag, quoted, that changes when the set does. Both are rendered in advance; the
// caller must not change the bytes.
func (k *Keys) JWKS() (body []byte, etag string) {
	set := k.current()
	return set.jwks, set.etag
}
