package token

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
)

// What the first release made of secretA.
const (
	goldenCode    = "pac1.FxbdpGQn.aaaabbbbccccddddeeeeffff22.-IgWzPVrwwA9FrTQsb9IxNaYEm5pcl07"
	goldenRefresh = "prt1.FxbdpGQn.aaaabbbbccccddddeeeeffff22.42.azYYUliyGl-C5yvl6nf8Rx7tlINjTcT5"
	goldenDigest  = "d1.FxbdpGQn.bjdx4lOeFaum1T4_LY-OkzLbBk4ccWPCTcgIx8o_JPw"
	goldenSecret  = "h1.FxbdpGQn.Sa9rbuLY56n0KrdxVb3ZikVjqI9ByZ_DLmLQ2BbBq10"
	goldenSealed  = "s1.FxbdpGQn.mzmsb73qtwws5IEDeAdFMzw1lKlkva7ySQA_9oDdafz73LoryXdkzlhFcLAU"
)

func TestSecretsThatAreNoSecretsAreRefused(t *testing.T) {
	many := make([][]byte, MaxKeyringSecrets+1)
	for i := range many {
		many[i] = append([]byte{byte('A' + i)}, secretA...)
	}
	for name, secrets := range map[string][][]byte{
		"none":              nil,
		"empty":             {nil},
		"31 bytes":          {secretA[:MinSecretBytes-1]},
		"too long":          {bytes.Repeat(secretA, 200)},
		"zeros":             {make([]byte, 64)},
		"placeholder":       {[]byte(strings.Repeat("changeme", 4)[:7] + strings.Repeat("c", 40))},
		"twice the same":    {secretA, secretA},
		"more than allowed": many,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewKeyring(secrets...)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, secret := range secrets {
				if len(secret) > 0 && strings.Contains(err.Error(), string(secret)) {
					t.Errorf("the error tells the secret: %v", err)
				}
			}
		})
	}
	if _, err := NewKeyring(many[:MaxKeyringSecrets]...); err != nil {
		t.Errorf("the greatest ring allowed: %v", err)
	}
}

func TestKeyIDsRevealNothingAndTellSecretsApart(t *testing.T) {
	ids := newRing(t, secretA, secretB).KeyIDs()
	if len(ids) != 2 || ids[0] == ids[1] || len(ids[0]) != keyIDChars || len(ids[1]) != keyIDChars {
		t.Errorf("key ids %q", ids)
	}
	if again := newRing(t, secretB, secretA).KeyIDs(); again[0] != ids[1] || again[1] != ids[0] {
		t.Errorf("a key id depends on the place in the ring: %q, %q", ids, again)
	}
}

// The formats are what is in browsers and on clients' disks: changing one, or the labels that
// keys are derived with, signs everybody out.
func TestFormatsStayAsReleased(t *testing.T) {
	ring := newRing(t)
	for name, c := range map[string]struct{ got, want string }{
		"code":    {ring.Code("aaaabbbbccccddddeeeeffff22"), goldenCode},
		"refresh": {ring.RefreshToken("aaaabbbbccccddddeeeeffff22", 42), goldenRefresh},
		"digest":  {ring.Digest("browser", "value"), goldenDigest},
		"secret":  {ring.HashSecret("value"), goldenSecret},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, was %q", name, c.got, c.want)
		}
	}
	if plain, err := ring.Open("purpose", goldenSealed, []byte("where")); err != nil || string(plain) != "plain" {
		t.Errorf("sealed value of a release: %q, %v", plain, err)
	}
}

func TestCodeComesBackAsTheFlowItWasMadeFor(t *testing.T) {
	ring := newRing(t)
	id := NewID()
	code := ring.Code(id)
	if got, err := ring.ParseCode(code); err != nil || got != id {
		t.Errorf("got %q, %v; want %q", got, err, id)
	}
	if code != ring.Code(id) {
		t.Error("two codes for one flow")
	}
	if strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
		t.Errorf("%q needs escaping in a URL", code)
	}
}

func TestRefreshTokenComesBackAsGrantAndGeneration(t *testing.T) {
	ring := newRing(t)
	for _, generation := range []int64{0, 1, 9, 10, 1 << 40, math.MaxInt64} {
		id := NewID()
		raw := ring.RefreshToken(id, generation)
		grant, got, err := ring.ParseRefreshToken(raw)
		if err != nil || grant != id || got != generation {
			t.Errorf("generation %d: got %q %d, %v", generation, grant, got, err)
		}
		// A repeated refresh is answered with the same successor: the token is derived, not stored.
		if raw != ring.RefreshToken(id, generation) {
			t.Error("not deterministic")
		}
		if len(raw) > maxMACedBytes {
			t.Errorf("%d bytes, more than are parsed", len(raw))
		}
	}
}

// Each byte is authenticated, and there is one spelling: a token that is recorded as used
// must not be usable under another one.
func TestNoOtherStringPassesForCodeRefreshTokenOrDeviceCode(t *testing.T) {
	ring := newRing(t)
	id := NewID()
	forgeries(ring.Code(id), func(forged string) {
		if got, err := ring.ParseCode(forged); err != ErrInvalid || got != "" {
			t.Errorf("ParseCode(%q) = %q, %v", forged, got, err)
		}
	})
	forgeries(ring.RefreshToken(id, 17), func(forged string) {
		if got, n, err := ring.ParseRefreshToken(forged); err != ErrInvalid || got != "" || n != 0 {
			t.Errorf("ParseRefreshToken(%q) = %q, %d, %v", forged, got, n, err)
		}
	})
	forgeries(ring.DeviceCode(id), func(forged string) {
		if got, err := ring.ParseDeviceCode(forged); err != ErrInvalid || got != "" {
			t.Errorf("ParseDeviceCode(%q) = %q, %v", forged, got, err)
		}
	})
	for _, s := range []string{"", ".", "...", "....", strings.Repeat(".", 80), strings.Repeat("a", 1<<20)} {
		if _, err := ring.ParseCode(s); err != ErrInvalid {
			t.Errorf("ParseCode: %v", err)
		}
		if _, err := ring.ParseDeviceCode(s); err != ErrInvalid {
			t.Errorf("ParseDeviceCode: %v", err)
		}
		if _, _, err := ring.ParseRefreshToken(s); err != ErrInvalid {
			t.Errorf("ParseRefreshToken: %v", err)
		}
	}
}

// A right MAC is not enough: what the broker would never write is refused, so that a defect
// elsewhere cannot make two tokens out of one id.
func TestStrangeIDsAndNumbersAreRefusedEvenWithARightMAC(t *testing.T) {
	ring := newRing(t)
	for _, id := range []string{"", "a.b", "a b", "ä", "a/b", "a\n", strings.Repeat("a", maxIDBytes+1)} {
		if _, err := ring.ParseCode(ring.Code(id)); err != ErrInvalid {
			t.Errorf("code of %q: %v", id, err)
		}
		if _, _, err := ring.ParseRefreshToken(ring.RefreshToken(id, 1)); err != ErrInvalid {
			t.Errorf("refresh token of %q: %v", id, err)
		}
		if _, err := ring.ParseDeviceCode(ring.DeviceCode(id)); err != ErrInvalid {
			t.Errorf("device code of %q: %v", id, err)
		}
	}
	if _, _, err := ring.ParseRefreshToken(ring.RefreshToken("abc", -1)); err != ErrInvalid {
		t.Errorf("negative generation: %v", err)
	}
	for _, s := range []string{"", "00", "01", "+1", "-0", "1_0", "0x1", " 1", "1 ", "9223372036854775808", "99999999999999999999"} {
		if n, ok := parseGeneration(s); ok {
			t.Errorf("%q is %d", s, n)
		}
	}
}

// A string made for one use means nothing for another, though all come of one secret.
func TestPurposesAreKeptApart(t *testing.T) {
	ring := newRing(t)
	id := NewID()
	code, refresh := ring.Code(id), ring.RefreshToken(id, 1)
	// The same text with the other's version must fail for the key, not for the name alone.
	if _, err := ring.ParseCode(codeVersion + strings.TrimPrefix(refresh, refreshVersion)); err != ErrInvalid {
		t.Error("a refresh token passes for a code")
	}
	if _, _, err := ring.ParseRefreshToken(refreshVersion + strings.TrimPrefix(code, codeVersion)); err != ErrInvalid {
		t.Error("a code passes for a refresh token")
	}
	if _, err := ring.ParseCode(codeVersion + strings.TrimPrefix(ring.DeviceCode(id), deviceVersion)); err != ErrInvalid {
		t.Error("a device code passes for a code")
	}
	if _, err := ring.ParseDeviceCode(deviceVersion + strings.TrimPrefix(code, codeVersion)); err != ErrInvalid {
		t.Error("a code passes for a device code")
	}
	if ring.DigestMatches("", secretVersionAsDigest(ring.HashSecret("v")), "v") {
		t.Error("a secret's hash passes for a digest")
	}
	if ring.DigestMatches("b", ring.Digest("a", "v"), "v") {
		t.Error("a digest matches for another purpose")
	}
	// Where one ends and the other begins is part of what is hashed.
	if ring.DigestMatches("ab", ring.Digest("a", "bc"), "c") {
		t.Error("purpose and value run together")
	}
	sealed := ring.Seal("a", []byte("v"), []byte("bc"))
	if _, err := ring.Open("ab", sealed, []byte("c")); err != ErrInvalid {
		t.Error("purpose and associated data run together")
	}
	access := ring.sealAccess(func(dst []byte) []byte { return append(dst, 'v') })
	if _, err := ring.Open("", sealVersion+strings.TrimPrefix(access, accessVersion), nil); err != ErrInvalid {
		t.Error("an access token passes for a sealed value")
	}
}

func secretVersionAsDigest(hash string) string {
	return digestVersion + strings.TrimPrefix(hash, secretVersion)
}

func TestRotatedRing(t *testing.T) {
	before := newRing(t, secretA)
	both := newRing(t, secretB, secretA)
	after := newRing(t, secretB)
	id := NewID()
	checks := map[string]func(made, checks *Keyring) bool{
		"code": func(made, checks *Keyring) bool {
			got, err := checks.ParseCode(made.Code(id))
			return err == nil && got == id
		},
		"refresh": func(made, checks *Keyring) bool {
			got, n, err := checks.ParseRefreshToken(made.RefreshToken(id, 5))
			return err == nil && got == id && n == 5
		},
		"device": func(made, checks *Keyring) bool {
			got, err := checks.ParseDeviceCode(made.DeviceCode(id))
			return err == nil && got == id
		},
		"digest": func(made, checks *Keyring) bool {
			return checks.DigestMatches("p", made.Digest("p", "v"), "v")
		},
		"secret": func(made, checks *Keyring) bool {
			return checks.SecretMatches(made.HashSecret("v"), "v")
		},
		"sealed": func(made, checks *Keyring) bool {
			got, err := checks.Open("p", made.Seal("p", []byte("v"), nil), nil)
			return err == nil && string(got) == "v"
		},
	}
	for name, works := range checks {
		t.Run(name, func(t *testing.T) {
			if !works(before, both) {
				t.Error("made under an older secret of the ring: refused")
			}
			if !works(both, after) {
				t.Error("not made under the first secret")
			}
			if works(before, after) {
				t.Error("made under a secret that was removed: accepted")
			}
		})
	}
	if !both.Stale(before.Seal("p", nil, nil)) || both.Stale(both.Seal("p", nil, nil)) || !both.Stale(before.Digest("p", "v")) || !both.Stale("") {
		t.Error("Stale does not tell the first secret from the others")
	}
}

func TestDigestsAndHashesMatchTheirValueAlone(t *testing.T) {
	ring := newRing(t)
	digest, hash := ring.Digest("browser", "123456"), ring.HashSecret("s3cret")
	if !ring.DigestMatches("browser", digest, "123456") || !ring.SecretMatches(hash, "s3cret") {
		t.Error("the right value does not match")
	}
	for _, value := range []string{"", "123457", "12345", "1234567", "s3cret "} {
		if ring.DigestMatches("browser", digest, value) || ring.SecretMatches(hash, value) {
			t.Errorf("%q matches", value)
		}
	}
	for _, empty := range []string{"", ".", "..", digestVersion + "." + ring.KeyIDs()[0] + "."} {
		if ring.DigestMatches("browser", empty, "") || ring.SecretMatches(empty, "") {
			t.Errorf("digest %q matches", empty)
		}
	}
	forgeries(digest, func(forged string) {
		if ring.DigestMatches("browser", forged, "123456") {
			t.Errorf("forged digest %q matches", forged)
		}
	})
	forgeries(hash, func(forged string) {
		if ring.SecretMatches(forged, "s3cret") {
			t.Errorf("forged hash %q matches", forged)
		}
	})
	long := strings.Repeat("x", 1<<16)
	if !ring.DigestMatches("browser", ring.Digest("browser", long), long) {
		t.Error("a long value does not match")
	}
}

func TestSealedValueOpensInItsPlaceAlone(t *testing.T) {
	ring := newRing(t)
	for _, plain := range []string{"", "x", strings.Repeat("long ", 4000)} {
		sealed := ring.Seal("upstream", []byte(plain), []byte("doc-1"))
		got, err := ring.Open("upstream", sealed, []byte("doc-1"))
		if err != nil || string(got) != plain {
			t.Fatalf("got %q, %v", got, err)
		}
		if len(plain) > 8 && strings.Contains(sealed, plain) {
			t.Error("not encrypted")
		}
		if sealed == ring.Seal("upstream", []byte(plain), []byte("doc-1")) {
			t.Error("two seals of one value are alike: who reads the store sees what is equal")
		}
		for _, c := range [][2]string{{"other", "doc-1"}, {"upstream", "doc-2"}, {"upstream", ""}} {
			if _, err := ring.Open(c[0], sealed, []byte(c[1])); !errors.Is(err, ErrInvalid) {
				t.Errorf("opens as %q of %q: %v", c[0], c[1], err)
			}
		}
	}
	forgeries(ring.Seal("p", []byte("value"), nil), func(forged string) {
		if got, err := ring.Open("p", forged, nil); err != ErrInvalid {
			t.Errorf("Open(%q) = %q, %v", forged, got, err)
		}
	})
	if _, err := ring.Open("p", ring.Seal("p", make([]byte, maxSealedBytes), nil), nil); err != ErrInvalid {
		t.Errorf("a value beyond the bound: %v", err)
	}
}

func TestCookieKeysArePairsOf32BytesInTheRingsOrder(t *testing.T) {
	keys := newRing(t, secretA, secretB).CookieKeys()
	if len(keys) != 4 {
		t.Fatalf("%d keys for two secrets", len(keys))
	}
	seen := map[string]bool{}
	for _, key := range keys {
		if len(key) != 32 || seen[string(key)] {
			t.Errorf("key of %d bytes, repeated: %v", len(key), seen[string(key)])
		}
		seen[string(key)] = true
	}
	if b := newRing(t, secretB).CookieKeys(); !bytes.Equal(b[0], keys[2]) || !bytes.Equal(b[1], keys[3]) {
		t.Error("a secret's keys depend on its place in the ring")
	}
}

// The pooled MAC states must not mix two callers' input.
func TestKeyringUnderConcurrentUse(t *testing.T) {
	ring := newRing(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range int64(300) {
				id := NewID()
				if got, n, err := ring.ParseRefreshToken(ring.RefreshToken(id, i)); err != nil || got != id || n != i {
					t.Errorf("got %q %d, %v", got, n, err)
				}
				if got, err := ring.ParseCode(ring.Code(id)); err != nil || got != id {
					t.Errorf("got %q, %v", got, err)
				}
				if !ring.DigestMatches("p", ring.Digest("p", id), id) || !ring.SecretMatches(ring.HashSecret(id), id) {
					t.Error("does not match")
				}
			}
		})
	}
	wg.Wait()
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		id := NewID()
		if !validID(id) || len(id) < 26 || strings.ToLower(id) != id || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	if s := NewSecret("portico_"); len(s) != 8+43 || !strings.HasPrefix(s, "portico_") || s == NewSecret("portico_") {
		t.Errorf("secret of %d characters", len(s))
	}
	// RFC 7636 section 4.1: 43 to 128 unreserved characters.
	if v := NewVerifier(); len(v) != 43 || !validID(v) || v == NewVerifier() {
		t.Errorf("verifier %q", v)
	}
}
