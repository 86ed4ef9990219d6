package resource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A request that knows old keys and finds newer ones there reads none, and spends nothing of what is for invented kids: so that those who come while
// the broker changes keys, however many, are not taken for inventors.
func TestKeysThatWereReadMeanwhileAreNotReadAgain(t *testing.T) {
	k := newKeys(nil, func() time.Time { return now }, slog.New(slog.DiscardHandler)) // it panics if it reads
	k.since = now
	old, newer := &keySet{}, &keySet{}
	k.set.Store(newer)
	for range 2 * unknownBurst {
		if set, begun, err := k.renew(t.Context(), old); set != newer || begun || err != nil {
			t.Fatalf("%v, %v, %v", set, begun, err)
		}
	}
	if k.credit != unknownBurst {
		t.Errorf("%d of %d are left", k.credit, unknownBurst)
	}
}

// Whatever comes as a JWT: nothing panics, and what stands says what was signed, to the letter.
func FuzzJWT(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private},
		&jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "k"}})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := signer.Sign([]byte(`{"iss":"https://i","sub":"s","aud":"a","client_id":"c","jti":"j","iat":1790000000,"exp":1790003600,"scope":"a b","cnf":{"jkt":"x"}}`))
	if err != nil {
		f.Fatal(err)
	}
	good, err := signed.CompactSerialize()
	if err != nil {
		f.Fatal(err)
	}
	clock := func() time.Time { return now }
	k := newKeys(nil, clock, slog.New(slog.DiscardHandler))
	k.credit, k.since = 0, now
	k.set.Store(&keySet{keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k"}}, read: now, refresh: now.Add(time.Hour), stale: now.Add(time.Hour)})
	head, rest, _ := strings.Cut(good, ".")
	body, mac, _ := strings.Cut(rest, ".")
	for _, raw := range []string{good, good + "=", head + "." + body + ".", head + ".e30." + mac, "e30.e30.e30", "..", "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + body + "."} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		h, ok := parseHeader(raw)
		if !ok {
			return
		}
		token, err := k.verifyJWT(t.Context(), raw, h, "https://i")
		if (token == nil) == (err == nil) {
			t.Fatalf("%v, %v", token, err)
		}
		if err == nil && !strings.HasPrefix(raw, head+"."+body+".") {
			t.Fatalf("%q stands", raw)
		}
	})
}

// Whatever a token or the broker says: nothing panics, and a token that comes of it leaves nothing open.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{
		`{"iss":"i","sub":"s","aud":["a","b"],"client_id":"c","jti":"j","iat":1790000000.5,"exp":1e10,"scope":" a  b ","cnf":{"jkt":"x"},"act":null}`,
		`{"iss":"i","sub":"s","aud":"a","client_id":"c","jti":"j","iat":1,"exp":-1}`, `{"aud":{}}`, `{"cnf":[]}`, `null`, `[]`, `{"keys":[{"kty":"oct","k":"AA"}]}`,
	} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		if token, err := parseClaims([]byte(payload), now); err == nil {
			if token.Issuer == "" || token.Subject == "" || token.ClientID == "" || token.ID == "" || len(token.Audience) == 0 || token.ExpiresAt.IsZero() || token.IssuedAt.IsZero() {
				t.Fatalf("%s is read as %+v", payload, token)
			}
			if strings.Contains(payload, `"cnf":{`) && token.KeyThumbprint == "" && token.CertThumbprint == "" && strings.Count(payload, "cnf") == 1 {
				t.Fatalf("%s is bound to nothing", payload)
			}
		}
		if keys, err := parseKeys([]byte(payload)); err == nil {
			for _, key := range keys {
				if !key.IsPublic() {
					t.Fatalf("%s gives a key that is not public", payload)
				}
			}
		}
	})
}
