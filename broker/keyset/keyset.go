// Package keyset knows the public keys of others: of clients, which sign assertions, request objects and
// certificates with them and are sent encrypted ID tokens, and of the issuers that the configuration trusts.
//
// Keys are registered as text or as an address, jwks_uri (RFC 7591 section 2), which is read through the guarded client
// and kept for a while. oauth and registry call it. It decides which key checks a signature and whether the algorithm is one that may be used,
// and nothing of what the signed text says: issuer, audience, times and replay are the caller's.
package keyset

import (
	"container/list"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/fetch"
)

// Errors of a Keys. Compare with errors.Is.
var (
	// ErrInvalid says that a signed text is not one, is signed with an algorithm that may not be used here, or that its signature is wrong.
	ErrInvalid = errors.New("the signature is not valid")
	// ErrNoKey says that the set has no key for this: none of that kid, or none that fits the algorithm.
	ErrNoKey = errors.New("no key of the set fits")
	// ErrUnavailable says that the set could not be read, or that what is there is no set of public keys.
	ErrUnavailable = errors.New("the key set cannot be read")
)

const (
	// maxEntries bounds the sets that are kept: with MaxSetBytes each, 16 MiB at the very most, and for more clients than sign in at one
	// time on a node.
	maxEntries = 512
	// MaxSetBytes bounds a set as text, registered or fetched: some twenty RSA keys of 4096 bits with their certificates.
	MaxSetBytes = 32 << 10
	// maxStale is how long a set serves beyond its time while its server does not answer. It outlasts a restart and a bad
	// deployment; much longer would let whoever can keep the server down keep a withdrawn key alive.
	maxStale = time.Hour
	// fetchEvery is the least time between two requests to one address, whatever comes: tokens with an invented kid would otherwise
	// make the broker hammer it. It is how long a client that changes its keys may have to wait.
	fetchEvery = 10 * time.Second
	// fetchTimeout bounds one fetch, which runs apart from the request that wanted it; the guarded client's own limit is below.
	fetchTimeout = 10 * time.Second
)

// Source is where keys are: JWKS, the text of a JWK Set (RFC 7517 section 5), or URI, the address of one. JWKS comes first. The zero value has
// no keys.
type Source struct {
	JWKS string
	URI  string
}

// Fetcher reads an address that somebody else chose. fetch.Client is one.
type Fetcher interface {
	Get(ctx context.Context, url, accept string, maxBytes int64) (*fetch.Response, error)
}

// Keys keeps sets of keys. Its methods may be called concurrently; no lock is held while an address is read, and of many
// that want the same one, one reads it.
type Keys struct {
	fetch Fetcher
	now   func() time.Time

	mu      sync.Mutex
	entries map[Source]*list.Element // of *entry
	recent  *list.List               // the last used in front
}

// entry is what is known of a source. Keys.mu guards it.
type entry struct {
	source     Source
	set        *set      // nil: never read
	read       time.Time // when set was
	freshUntil time.Time
	asked      time.Time     // when the address was last asked, whatever came of it
	err        error         // what came of it
	asking     chan struct{} // not nil while it is asked; closed when the answer is here
}

// New keeps keys that f fetches. It does no IO.
func New(f Fetcher, now func() time.Time) *Keys {
	return &Keys{fetch: f, now: now, entries: map[Source]*list.Element{}, recent: list.New()}
}

// Verify checks that raw is a JWS in compact serialization (RFC 7515 section 7.1), signed by a key of source with one of algs, and returns what was
// signed and the header. The header's kid chooses the key; it may be missing only where a single key fits (OpenID Connect Core section 10.1).
// Of algs, only those in Algorithms count. Errors wrap ErrInvalid, ErrNoKey, ErrUnavailable.
func (k *Keys) Verify(ctx context.Context, source Source, raw string, algs []string) ([]byte, Header, error) {
	parsed, header, err := parseSigned(raw, algs)
	if err != nil {
		return nil, Header{}, err
	}
	key, err := find(ctx, k, source, func(s *set) (crypto.PublicKey, bool) { return s.verifier(header.Algorithm, header.KeyID) })
	if err != nil {
		return nil, Header{}, fmt.Errorf("%w (alg %s, kid %.64q)", err, header.Algorithm, header.KeyID)
	}
	payload, err := parsed.Verify(key)
	if err != nil {
		return nil, Header{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return payload, header, nil
}

// EncryptionKey is the key of source to encrypt to with alg, a key management algorithm of RFC 7518 section 4.1. Its kid is to stand in the
// header. Errors wrap ErrNoKey, ErrUnavailable.
func (k *Keys) EncryptionKey(ctx context.Context, source Source, alg string) (jose.JSONWebKey, error) {
	key, err := find(ctx, k, source, func(s *set) (jose.JSONWebKey, bool) { return s.encrypter(alg) })
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("%w (alg %s)", err, alg)
	}
	return key, nil
}

// HasCertificate says whether source has this certificate, in x5c, or else its key (RFC 8705 section 2.2.2). nil if so; otherwise errors wrap
// ErrNoKey, ErrUnavailable.
func (k *Keys) HasCertificate(ctx context.Context, source Source, certificate *x509.Certificate) error {
	_, err := find(ctx, k, source, func(s *set) (struct{}, bool) { return struct{}{}, s.hasCertificate(certificate) })
	return err
}

// find is what choose takes of source's set. If a fetched set does not have it, the set is fetched again: its owner may have
// changed keys.
func find[T any](ctx context.Context, k *Keys, source Source, choose func(*set) (T, bool)) (T, error) {
	var none T
	s, read, err := k.get(ctx, source, time.Time{})
	if err != nil {
		return none, err
	}
	if found, ok := choose(s); ok {
		return found, nil
	}
	if source.JWKS != "" {
		return none, ErrNoKey
	}
	if s, _, err = k.get(ctx, source, read); err != nil {
		return none, err
	}
	if found, ok := choose(s); ok {
		return found, nil
	}
	return none, ErrNoKey
}

// get is the set of source and when it was read: after the time given, if the address may be asked again by now.
func (k *Keys) get(ctx context.Context, source Source, after time.Time) (*set, time.Time, error) {
	switch {
	case source.JWKS != "":
		return k.inline(source.JWKS)
	case source.URI == "":
		return nil, time.Time{}, fmt.Errorf("%w: none is registered", ErrUnavailable)
	}
	k.mu.Lock()
	e := k.entry(Source{URI: source.URI})
	now := k.now()
	want := now.Before(e.freshUntil) && e.read.After(after)
	if !want && e.asking == nil && (e.asked.IsZero() || now.Sub(e.asked) >= fetchEvery) {
		e.asking = make(chan struct{})
		e.asked = now
		// Apart from this request: others wait for the answer too, and this one may be given up.
		go k.ask(context.WithoutCancel(ctx), e)
	}
	asking := e.asking
	k.mu.Unlock()

	if !want && asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, time.Time{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if e.set == nil || !k.now().Before(e.freshUntil.Add(maxStale)) {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrUnavailable, e.err)
	}
	return e.set, e.read, nil
}

// errOld stands for the answer until there is one.
var errOld = errors.New("it is too old, and its server was asked a moment ago")

// ask fetches e's set.
func (k *Keys) ask(ctx context.Context, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	s, current, err := k.read(ctx, e.source.URI)
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.err = err; err == nil {
		now := k.now()
		e.set, e.read, e.freshUntil, e.err = s, now, now.Add(current), errOld
	}
	close(e.asking)
	e.asking = nil
}

// read reads a set from its address, and says how long it is current.
func (k *Keys) read(ctx context.Context, uri string) (s *set, current time.Duration, err error) {
	// What is parsed is a stranger's, and no server is around this goroutine that would stop a panic at the request.
	defer func() {
		if panicked := recover(); panicked != nil {
			s, err = nil, fmt.Errorf("reading it panicked: %v", panicked)
		}
	}()
	response, err := k.fetch.Get(ctx, uri, "application/jwk-set+json, application/json", MaxSetBytes)
	if err != nil {
		return nil, 0, err
	}
	s, err = parseSet(response.Body)
	return s, response.FreshFor(), err
}

// inline is the set of a registered text, which is parsed once.
func (k *Keys) inline(text string) (*set, time.Time, error) {
	k.mu.Lock()
	e := k.entry(Source{JWKS: text})
	s, err := e.set, e.err
	k.mu.Unlock()
	if s == nil && err == nil {
		// Twice, if two come at once: that is harmless.
		s, err = parseSet([]byte(text))
		k.mu.Lock()
		e.set, e.err = s, err
		k.mu.Unlock()
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return s, time.Time{}, nil
}

// entry is that of a source, new if there is none. The caller holds mu.
func (k *Keys) entry(source Source) *entry {
	if element, ok := k.entries[source]; ok {
		k.recent.MoveToFront(element)
		return element.Value.(*entry)
	}
	if k.recent.Len() >= maxEntries {
		oldest := k.recent.Back()
		k.recent.Remove(oldest)
		delete(k.entries, oldest.Value.(*entry).source)
	}
	e := &entry{source: source}
	if source.URI != "" {
		e.err = errOld
	}
	k.entries[source] = k.recent.PushFront(e)
	return e
}
