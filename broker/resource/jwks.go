package resource

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// KeysTrustedFor is how long keys count that were read once, while the broker does not answer. It outlasts a night's outage; much longer would let
	// whoever can keep the broker from being reached keep a withdrawn key alive.
	KeysTrustedFor = 12 * time.Hour

	// defaultFresh is how long keys are taken for current if the broker does not say, minFresh and maxFresh bound what it says. The broker publishes keys a
	// day before they sign.
	defaultFresh = 5 * time.Minute
	minFresh     = time.Minute
	maxFresh     = time.Hour
	// retryEvery is the least time between two attempts while the broker does not answer.
	retryEvery = time.Second
	// A kid that is not known has the keys read again: anybody can invent one, so this happens unknownBurst times in a row, and then once each unknownEvery.
	unknownBurst = 4
	unknownEvery = 2 * time.Second

	// maxKeys bounds the keys of a set: a current and a next one of each algorithm is a tenth of it.
	maxKeys = 64
	// minRSABits is RFC 7518 section 3.3's.
	minRSABits = 2048
)

// keys are those that the broker signs with. No lock is held while they are read, and of many that want them, one reads them.
type keys struct {
	from    *upstream
	now     func() time.Time
	log     *slog.Logger
	set     atomic.Pointer[keySet] // nil: never read
	flights flights[struct{}]

	mu      sync.Mutex
	asked   time.Time // when an attempt last began
	failure error     // what came of the last one; nil: it was read
	credit  int       // attempts left for unknown kids, as of creditAt
	since   time.Time
}

// keySet does not change.
type keySet struct {
	keys []jose.JSONWebKey
	read time.Time
	// refresh is when it is read again in the background, stale when requests wait for that.
	refresh, stale time.Time
}

func newKeys(from *upstream, now func() time.Time, log *slog.Logger) *keys {
	return &keys{from: from, now: now, log: log, credit: unknownBurst}
}

// key is the one to check a signature with, made with alg by the key called kid. ErrInvalidToken if the broker has none, ErrUnavailable if that cannot
// be known.
func (k *keys) key(ctx context.Context, alg, kid string) (any, error) {
	seen, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	// If it is not there, the broker may have a new one. Several times, because what is under way may have begun before that was published.
	for range unknownBurst {
		if key := seen.find(alg, kid); key != nil {
			return key, nil
		}
		set, begun, err := k.renew(ctx, seen)
		if err != nil {
			return nil, err
		}
		if begun || set == seen {
			if key := set.find(alg, kid); key != nil {
				return key, nil
			}
			break
		}
		seen = set
	}
	return nil, fmt.Errorf("%w: the broker has no key for alg %s and kid %.64q", ErrInvalidToken, alg, kid)
}

// renew are keys that were read later than seen, where an unknown kid wants them: those that are there by now, those that somebody else is reading, or, if
// there is credit left, those that it reads itself; begun says so. If there is none left, seen is seconds old and stays. ErrUnavailable if the broker did
// not answer.
func (k *keys) renew(ctx context.Context, seen *keySet) (set *keySet, begun bool, err error) {
	k.mu.Lock()
	if set := k.set.Load(); set != seen {
		k.mu.Unlock()
		return set, false, nil
	}
	under := k.flights.underWay(digest{})
	if under == nil {
		if !k.spendCredit() {
			defer k.mu.Unlock()
			return seen, false, k.failure
		}
		under, begun = k.join(ctx)
	}
	k.mu.Unlock()
	if _, err := under.wait(ctx); err != nil {
		return nil, false, err
	}
	return k.set.Load(), begun, nil
}

// current are keys that count, read anew if it is time.
func (k *keys) current(ctx context.Context) (*keySet, error) {
	now := k.now()
	set := k.set.Load()
	if set != nil && now.Before(set.refresh) {
		return set, nil
	}
	k.mu.Lock()
	failure := k.failure
	may := failure == nil || now.Sub(k.asked) >= retryEvery || now.Before(k.asked)
	k.mu.Unlock()
	counts := set != nil && now.Before(set.read.Add(KeysTrustedFor))
	if may {
		under, _ := k.join(ctx)
		// Nobody waits while there are keys that count: not before they are stale, and not while the broker is known to be away.
		if counts && (now.Before(set.stale) || failure != nil) {
			return set, nil
		}
		if _, err := under.wait(ctx); err != nil {
			failure = err
		}
		set = k.set.Load()
		counts = set != nil && k.now().Before(set.read.Add(KeysTrustedFor))
	}
	if !counts {
		if failure == nil {
			failure = fmt.Errorf("%w: there are no keys yet", ErrUnavailable)
		}
		return nil, failure
	}
	return set, nil
}

// spendCredit says whether the keys may be read for one more unknown kid. The caller holds mu.
func (k *keys) spendCredit() bool {
	now := k.now()
	if earned := int(now.Sub(k.since) / unknownEvery); earned > 0 || now.Before(k.since) {
		k.credit, k.since = min(unknownBurst, k.credit+max(earned, 0)), now
	}
	if k.credit == 0 {
		return false
	}
	k.credit--
	return true
}

// join reads the keys, unless that is under way.
func (k *keys) join(ctx context.Context) (*flight[struct{}], bool) {
	return k.flights.join(ctx, digest{}, func(ctx context.Context) (struct{}, error) {
		k.mu.Lock()
		k.asked = k.now()
		k.mu.Unlock()
		set, err := k.fetch(ctx)
		if err != nil {
			k.from.forget()
		} else {
			k.set.Store(set)
		}
		k.mu.Lock()
		before := k.failure
		k.failure = err
		k.mu.Unlock()
		switch { // once each time that it changes
		case err != nil && before == nil:
			k.log.Warn("the broker's keys cannot be read; those that were read last count for a while", slog.Any("cause", err))
		case err == nil && before != nil:
			k.log.Info("the broker's keys can be read again")
		}
		return struct{}{}, err
	})
}

func (k *keys) fetch(ctx context.Context) (*keySet, error) {
	at, err := k.from.addresses(ctx)
	if err != nil {
		return nil, err
	}
	if at.JWKS == "" {
		return nil, fmt.Errorf("%w: the metadata has no jwks_uri", ErrUnavailable)
	}
	body, header, err := k.from.get(ctx, at.JWKS)
	if err != nil {
		return nil, err
	}
	list, err := parseKeys(body)
	if err != nil {
		return nil, fmt.Errorf("%w: the keys: %w", ErrUnavailable, err)
	}
	now, fresh := k.now(), freshFor(header)
	return &keySet{keys: list, read: now, refresh: now.Add(fresh / 2), stale: now.Add(fresh)}, nil
}

// parseKeys reads a JWK Set (RFC 7517 section 5). Keys that are not understood are left out, as it says there; so are private and symmetric ones, which
// are nobody's to publish.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, err
	}
	if len(document.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d", maxKeys)
	}
	var list []jose.JSONWebKey
	for _, raw := range document.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && (key.Use == "" || key.Use == "sig") && algorithmsOf(key.Key) != nil {
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("none of them checks signatures")
	}
	return list, nil
}

// algorithms are those that an access token may be signed with. This list alone keeps `none` and the HMAC family out (RFC 8725 section 3.1).
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA, jose.PS256}

// algorithmsOf are those of a key's type (RFC 7518 section 3.1, RFC 8037 section 3.1); none for one that is of no use here.
func algorithmsOf(key any) []jose.SignatureAlgorithm {
	switch public := key.(type) {
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			return []jose.SignatureAlgorithm{jose.ES256}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	case *rsa.PublicKey:
		if public.N.BitLen() >= minRSABits {
			return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	}
	return nil
}

// find is the one key of that kid whose type alg is for; without a kid, the only one that fits. The key decides what its algorithm is, so that a header
// cannot have it used in another way. nil if there is none, or more.
func (s *keySet) find(alg, kid string) any {
	var found any
	n := 0
	for i := range s.keys {
		key := &s.keys[i]
		if (kid == "" || key.KeyID == kid) && (key.Algorithm == "" || key.Algorithm == alg) && slices.Contains(algorithmsOf(key.Key), jose.SignatureAlgorithm(alg)) {
			found = key.Key
			n++
		}
	}
	if n != 1 {
		return nil
	}
	return found
}

// freshFor is how long an answer is current, by its Cache-Control.
func freshFor(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(directive)), "max-age="); ok {
			if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
				return min(max(time.Duration(seconds)*time.Second, minFresh), maxFresh)
			}
		}
	}
	return defaultFresh
}
