package token

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
)

const day = 24 * time.Hour

func kids(t *testing.T, k *Keys) []string {
	t.Helper()
	body, _ := k.JWKS()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	return ids
}

func kidOf(t *testing.T, raw string) string {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Signatures[0].Protected.KeyID
}

func sign(t *testing.T, k *Keys, alg string) string {
	t.Helper()
	raw, err := k.Sign(alg, TypeIDToken, map[string]string{"sub": "ann"})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Any number of nodes may meet an empty store at the same moment; a token that one signs, each of
// the others must verify.
func TestNodesThatStartTogetherAgreeOnOneKeyPerAlgorithm(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { nodesAgree(t, open(t, time.Now)) })
	}
}

func nodesAgree(t *testing.T, backend store.Backend) {
	const nodes = 6
	opened := make([]*Keys, nodes)
	var wg sync.WaitGroup
	for i := range opened {
		wg.Go(func() {
			k, err := OpenKeys(t.Context(), backend, newRing(t), KeysOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			opened[i] = k
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := kids(t, opened[0])
	if len(want) != 3 {
		t.Fatalf("%d keys, want one for each of three algorithms", len(want))
	}
	for _, k := range opened {
		if diff := cmp.Diff(want, kids(t, k)); diff != "" {
			t.Error(diff)
		}
		for _, alg := range []string{RS256, ES256, EdDSA} {
			var claims map[string]string
			if err := opened[nodes-1].Verify(sign(t, k, alg), TypeIDToken, &claims); err != nil || claims["sub"] != "ann" {
				t.Errorf("%s: %v, %v", alg, claims, err)
			}
		}
		if err := k.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	docs, err := store.NewCollection[keyDocument](backend, "signing_keys").List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, doc := range docs {
		got = append(got, doc.ID)
	}
	if want := []string{"ES256-000001", "EdDSA-000001", "RS256-000001"}; !slices.Equal(got, want) {
		t.Errorf("stored %v, want %v", got, want)
	}
}

// Start-up does not wait for the RSA key; what needs it does.
func TestFirstUseWaitsForTheKeysThatAreStillBeingMade(t *testing.T) {
	k, err := OpenKeys(t.Context(), newMemory(), newRing(t), KeysOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if k.set.Load().complete {
		t.Error("OpenKeys waited for the RSA key")
	}
	sign(t, k, ES256)
	raw := sign(t, k, RS256)
	if got := kids(t, k); len(got) != 3 || !slices.Contains(got, kidOf(t, raw)) {
		t.Errorf("published %v", got)
	}
}

// A store that fails while the slow key is being made must not leave anyone waiting, and the next
// refresh makes up for it.
func TestKeyThatCouldNotBeStoredIsMadeByTheNextRefresh(t *testing.T) {
	backend := newMemory()
	k, err := OpenKeys(t.Context(), backend, newRing(t), KeysOptions{})
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("the store is down")
	backend.mu.Lock()
	backend.fail = down
	backend.mu.Unlock()
	if err := k.Wait(t.Context()); !errors.Is(err, down) {
		t.Skipf("the key was stored before the store failed: %v", err)
	}
	if _, err := k.Sign(RS256, TypeIDToken, nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("sign without a key: %v", err)
	}
	sign(t, k, ES256)
	if got := kids(t, k); len(got) != 2 {
		t.Errorf("published %v, want the two keys there are", got)
	}
	backend.mu.Lock()
	backend.fail = nil
	backend.mu.Unlock()
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Wait(t.Context()); err != nil {
		t.Errorf("wait: %v", err)
	}
	sign(t, k, RS256)
}

func TestRotationTimeline(t *testing.T) {
	c := newClock()
	backend := newMemory()
	open := func() *Keys {
		return openKeys(t, backend, newRing(t), KeysOptions{
			Algorithms: []string{ES256}, RotateEvery: 90 * day, PublishAhead: day, KeepAfter: 30 * day, Now: c.Now,
		})
	}
	k, other := open(), open()
	refresh := func() {
		t.Helper()
		for _, node := range []*Keys{k, other} {
			if err := node.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(kids(t, k), kids(t, other)); diff != "" {
			t.Errorf("two nodes publish different keys: %s", diff)
		}
	}
	old := sign(t, k, ES256)
	first := kidOf(t, old)
	_, firstTag := k.JWKS()

	c.Advance(89*day - time.Second)
	refresh()
	if got := kids(t, k); len(got) != 1 {
		t.Fatalf("a second before the new key is due: %v", got)
	}
	if _, tag := k.JWKS(); tag != firstTag {
		t.Error("the entity tag changed though the set did not")
	}

	c.Advance(time.Second) // 89 days: a day ahead
	refresh()
	published := kids(t, k)
	if len(published) != 2 || published[0] != first {
		t.Fatalf("a day ahead: %v", published)
	}
	second := published[1]
	if _, tag := k.JWKS(); tag == firstTag {
		t.Error("the entity tag did not change with the set")
	}
	if got := kidOf(t, sign(t, k, ES256)); got != first {
		t.Error("signs with a key that caches do not know yet")
	}

	c.Advance(day) // 90 days: the new key signs
	refresh()
	if got := kidOf(t, sign(t, k, ES256)); got != second {
		t.Errorf("signs with %s, want %s", got, second)
	}

	c.Advance(30*day - time.Second) // the old one still verifies
	refresh()
	var claims map[string]string
	if err := k.Verify(old, TypeIDToken, &claims); err != nil {
		t.Errorf("signed by a retired key: %v", err)
	}

	c.Advance(time.Second) // 120 days: the old one is gone
	refresh()
	if got := kids(t, k); !slices.Equal(got, []string{second}) {
		t.Errorf("published %v, want %s alone", got, second)
	}
	// Although its digest is remembered as verified.
	if err := k.Verify(old, TypeIDToken, &claims); err != ErrInvalid {
		t.Errorf("signed by a removed key: %v", err)
	}
	if len(backend.docs) != 1 {
		t.Errorf("%d documents stored", len(backend.docs))
	}

	// After a year in which no node ran, the new key is still published ahead of its use.
	c.Advance(365 * day)
	refresh()
	if got := kids(t, k); len(got) != 2 || kidOf(t, sign(t, k, ES256)) != second {
		t.Errorf("after a year: %v", got)
	}
	c.Advance(day)
	refresh()
	if got := kids(t, k); kidOf(t, sign(t, k, ES256)) != got[1] {
		t.Errorf("after a year and a day: %v", got)
	}
}

func TestNextKey(t *testing.T) {
	now := newClock().Now()
	opts := KeysOptions{RotateEvery: 90 * day, PublishAhead: day}
	never := KeysOptions{PublishAhead: day}
	for name, c := range map[string]struct {
		keys      []timeline
		opts      KeysOptions
		sequence  int
		signsFrom time.Time
		due       bool
	}{
		"the first signs at once":           {nil, opts, 1, now, true},
		"the first, never rotated":          {nil, never, 1, now, true},
		"never rotated":                     {[]timeline{{1, now.Add(-9999 * day)}}, never, 0, time.Time{}, false},
		"young":                             {[]timeline{{1, now.Add(-88 * day)}}, opts, 0, time.Time{}, false},
		"due":                               {[]timeline{{1, now.Add(-89 * day)}}, opts, 2, now.Add(day), true},
		"late: still published ahead":       {[]timeline{{7, now.Add(-400 * day)}}, opts, 8, now.Add(day), true},
		"the newest counts":                 {[]timeline{{1, now.Add(-400 * day)}, {2, now.Add(-day)}}, opts, 0, time.Time{}, false},
		"one is waiting":                    {[]timeline{{1, now.Add(-89 * day)}, {2, now.Add(day)}}, opts, 0, time.Time{}, false},
		"this node's clock is a day behind": {[]timeline{{1, now.Add(day)}}, opts, 0, time.Time{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			sequence, signsFrom, due := nextKey(c.keys, now, c.opts)
			if sequence != c.sequence || !signsFrom.Equal(c.signsFrom) || due != c.due {
				t.Errorf("got %d, %s, %v", sequence, signsFrom, due)
			}
		})
	}
}

func TestSigningKey(t *testing.T) {
	now := newClock().Now()
	for name, c := range map[string]struct {
		keys []timeline
		want int
	}{
		"none":              {nil, -1},
		"one":               {[]timeline{{1, now}}, 0},
		"pending":           {[]timeline{{1, now.Add(-day)}, {2, now.Add(1)}}, 0},
		"its time is now":   {[]timeline{{1, now.Add(-day)}, {2, now}}, 1},
		"all in the future": {[]timeline{{1, now.Add(1)}, {2, now.Add(2)}}, 0},
	} {
		if got := signingKey(c.keys, now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestRotateByHandIsPublishedAheadAndHarmlessToRepeat(t *testing.T) {
	c := newClock()
	k := fastKeys(t, c.Now)
	before, err := k.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := k.Rotate(t.Context(), ES256)
	if err != nil {
		t.Fatal(err)
	}
	want := KeyInfo{
		ID: "ES256-000002", KeyID: made.KeyID, Algorithm: ES256, State: KeyPending,
		Created: c.Now(), SignsFrom: c.Now().Add(DefaultPublishAhead),
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	if again, err := k.Rotate(t.Context(), ES256); err != nil || again != made {
		t.Errorf("again: %+v, %v", again, err)
	}
	c.Advance(DefaultPublishAhead)
	after, err := k.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := before[0]
	old.State, old.RetiredAt, old.RemovedAt = KeyRetired, made.SignsFrom, made.SignsFrom.Add(DefaultKeepAfter)
	made.State = KeySigning
	if diff := cmp.Diff([]KeyInfo{old, made, before[1]}, after); diff != "" {
		t.Error(diff)
	}
	if _, err := k.Rotate(t.Context(), RS256); !errors.Is(err, ErrNoKey) {
		t.Errorf("an algorithm that is not configured: %v", err)
	}
}

func TestKeysAreSealedAnewUnderTheFirstSecret(t *testing.T) {
	backend := newMemory()
	opts := KeysOptions{Algorithms: []string{ES256, EdDSA}}
	raw := sign(t, openKeys(t, backend, newRing(t, secretA), opts), ES256)
	openKeys(t, backend, newRing(t, secretB, secretA), opts)
	// The old secret can go now.
	k := openKeys(t, backend, newRing(t, secretB), opts)
	var claims map[string]string
	if err := k.Verify(raw, TypeIDToken, &claims); err != nil {
		t.Error(err)
	}
	// A node that has the old secret alone cannot start, says which key, and makes no other.
	_, err := OpenKeys(t.Context(), backend, newRing(t, secretA), opts)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "ES256-000001") {
		t.Errorf("without the secret: %v", err)
	}
	if len(backend.docs) != 2 {
		t.Errorf("%d keys stored", len(backend.docs))
	}
}

// Whoever can write to the store but has no secret must not be able to pass a key of his own, or one
// in another's place.
func TestKeyInAnothersDocumentIsRefused(t *testing.T) {
	backend := newMemory()
	opts := KeysOptions{Algorithms: []string{ES256}}
	openKeys(t, backend, newRing(t), opts)
	doc := backend.docs["signing_keys/ES256-000001"]
	doc.meta.ID = "ES256-000002"
	backend.docs["signing_keys/ES256-000002"] = doc
	if _, err := OpenKeys(t.Context(), backend, newRing(t), opts); !errors.Is(err, ErrInvalid) {
		t.Errorf("a copied document: %v", err)
	}
}

func TestPrivateKeysAreNeitherPublishedNorStoredNorLogged(t *testing.T) {
	backend := newMemory()
	var log strings.Builder
	k := openKeys(t, backend, newRing(t), KeysOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	body, _ := k.JWKS()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	// RFC 7518 sections 6.2.1, 6.3.1 and RFC 8037 section 2: the public members.
	public := []string{"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"}
	for _, key := range set.Keys {
		for member := range key {
			if !slices.Contains(public, member) {
				t.Errorf("member %q of %v", member, key["kid"])
			}
		}
		if key["use"] != "sig" || key["alg"] == "" || key["kid"] == "" {
			t.Errorf("key %v", key)
		}
	}
	if len(set.Keys) != 3 {
		t.Errorf("%d keys published", len(set.Keys))
	}
	for _, s := range k.set.Load().stored {
		private, err := json.Marshal(jose.JSONWebKey{Key: s.key.private})
		if err != nil {
			t.Fatal(err)
		}
		var jwk struct{ D string }
		if err := json.Unmarshal(private, &jwk); err != nil || jwk.D == "" {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"JWKS": string(body), "store": backend.contents(), "log": log.String()} {
			if strings.Contains(text, jwk.D) || strings.Contains(text, s.doc.Value.Sealed) && where != "store" {
				t.Errorf("%s: the private key is in the %s", s.doc.ID, where)
			}
		}
	}
}

func TestOptionsThatWouldBreakVerifiersAreRefused(t *testing.T) {
	for name, opts := range map[string]KeysOptions{
		"unknown algorithm":         {Algorithms: []string{"HS256"}},
		"none":                      {Algorithms: []string{"none"}},
		"published too late":        {PublishAhead: RefreshInterval},
		"rotated before it signs":   {RotateEvery: day, PublishAhead: day},
		"rotated in negative time":  {RotateEvery: -1},
		"kept for a negative time":  {KeepAfter: -1},
		"published in the past":     {PublishAhead: -day},
		"one of several is unknown": {Algorithms: []string{ES256, "ES999"}},
	} {
		if _, err := OpenKeys(t.Context(), newMemory(), newRing(t), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A node must keep working with the keys it knows while the store is away.
func TestRefreshThatFailsKeepsTheKeys(t *testing.T) {
	backend := newMemory()
	k := openKeys(t, backend, newRing(t), KeysOptions{Algorithms: []string{ES256}})
	backend.fail = errors.New("away")
	if err := k.Refresh(t.Context()); !errors.Is(err, backend.fail) {
		t.Errorf("refresh: %v", err)
	}
	var claims map[string]string
	if err := k.Verify(sign(t, k, ES256), TypeIDToken, &claims); err != nil {
		t.Error(err)
	}
}

func TestSigningWhileKeysRotate(t *testing.T) {
	c := newClock()
	k := openKeys(t, newMemory(), newRing(t), KeysOptions{Algorithms: []string{ES256, EdDSA}, RotateEvery: 2 * day, Now: c.Now})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				raw, err := k.Sign(EdDSA, TypeIDToken, map[string]string{"sub": "ann"})
				if err != nil {
					t.Error(err)
					return
				}
				var claims map[string]string
				if err := k.Verify(raw, TypeIDToken, &claims); err != nil {
					t.Error(err)
				}
				k.JWKS()
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			c.Advance(day)
			if err := k.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}
