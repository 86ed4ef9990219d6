package token

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// What is serialized by hand must be what a library that knows nothing of it reads.
func TestSignedTokensVerifyWithThePublishedKeys(t *testing.T) {
	k := openKeys(t, newMemory(), newRing(t), KeysOptions{})
	body, _ := k.JWKS()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{RS256, ES256, EdDSA} {
		for range 20 { // ECDSA's numbers may be short, and must be padded
			raw, err := k.Sign(alg, TypeAccessToken, map[string]string{"sub": "ann"})
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			header := parsed.Signatures[0].Protected
			found := set.Key(header.KeyID)
			if len(found) != 1 || found[0].Algorithm != alg || header.ExtraHeaders[jose.HeaderType] != TypeAccessToken {
				t.Fatalf("header %+v, keys %v", header, found)
			}
			payload, err := parsed.Verify(found[0])
			if err != nil || string(payload) != `{"sub":"ann"}` {
				t.Errorf("%s: %s, %v", alg, payload, err)
			}
		}
	}
}

func TestNoOtherStringPassesForASignedToken(t *testing.T) {
	k := fastKeys(t, nil)
	for _, alg := range []string{ES256, EdDSA} {
		raw, err := k.Sign(alg, TypeAccessToken, map[string]string{"sub": "a"})
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]string
		if err := k.Verify(raw, TypeAccessToken, &claims); err != nil {
			t.Fatal(err)
		}
		forgeries(raw, func(forged string) {
			if err := k.Verify(forged, TypeAccessToken, &claims); err != ErrInvalid {
				t.Errorf("%s: %q: %v", alg, forged, err)
			}
		})
	}
}

// RFC 8725 section 3.1: the algorithm is the key's, whatever the header says.
func TestAlgorithmConfusion(t *testing.T) {
	k := openKeys(t, newMemory(), newRing(t), KeysOptions{})
	set := k.set.Load()
	payload := segment(`{"sub":"mallory"}`)
	rsaKey, ecKey := set.signers[RS256], set.signers[ES256]
	der, err := x509.MarshalPKIXPublicKey(rsaKey.public)
	if err != nil {
		t.Fatal(err)
	}
	spki := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwks, _ := k.JWKS()

	mallory, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: mallory.Public(), KeyID: rsaKey.kid, Algorithm: RS256})
	if err != nil {
		t.Fatal(err)
	}
	own := func(header string) string {
		text := segment(header) + "." + payload
		digest := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(nil, mallory, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + segment(string(signature))
	}
	mac := func(header string, key []byte) string {
		text := segment(header) + "." + payload
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return text + "." + segment(string(h.Sum(nil)))
	}
	unsigned := func(alg, kid string) string {
		return segment(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, alg, kid)) + "." + payload + "."
	}
	hs := fmt.Sprintf(`{"alg":"HS256","kid":%q,"typ":"JWT"}`, rsaKey.kid)
	good := sign(t, k, RS256)
	goodSignature := good[strings.LastIndexByte(good, '.'):]

	for name, raw := range map[string]string{
		"none":                       unsigned("none", rsaKey.kid),
		"None":                       unsigned("None", rsaKey.kid),
		"no algorithm":               unsigned("", rsaKey.kid),
		"none, without a key":        unsigned("none", ""),
		"no signature":               unsigned(RS256, rsaKey.kid),
		"HMAC with the public PEM":   mac(hs, spki),
		"HMAC with the public DER":   mac(hs, der),
		"HMAC with the JWKS":         mac(hs, jwks),
		"HMAC with nothing":          mac(hs, nil),
		"another's key, our kid":     own(fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT"}`, rsaKey.kid)),
		"another's key in jwk":       own(fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT","jwk":%s}`, rsaKey.kid, jwk)),
		"another's key, no kid":      own(`{"alg":"RS256","typ":"JWT"}`),
		"our key under PS256":        own(fmt.Sprintf(`{"alg":"PS256","kid":%q,"typ":"JWT"}`, rsaKey.kid)),
		"RS256 with the EC key's id": own(fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT"}`, ecKey.kid)),
		"ES256 with the RSA key's":   own(fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"JWT"}`, rsaKey.kid)),
		"another payload":            strings.Join([]string{good[:strings.IndexByte(good, '.')], payload}, ".") + goodSignature,
		"an EC signature of zeros":   unsigned(ES256, ecKey.kid) + segment(string(make([]byte, 64))),
		"JSON serialization":         fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, payload, segment(hs), goodSignature[1:]),
	} {
		var claims map[string]any
		if err := k.Verify(raw, TypeIDToken, &claims); err != ErrInvalid || claims != nil {
			t.Errorf("%s: %v, %v", name, claims, err)
		}
	}
}

// RFC 8725 section 3.11: what was signed for one use must not serve another, remembered or not.
func TestTypeConfusion(t *testing.T) {
	k := fastKeys(t, nil)
	raw := sign(t, k, ES256)
	var claims map[string]string
	if err := k.Verify(raw, TypeIDToken, &claims); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{TypeAccessToken, "", "jwt", "application/JWT"} {
		if err := k.Verify(raw, typ, &claims); err != ErrInvalid {
			t.Errorf("as %q: %v", typ, err)
		}
	}
}

func TestSignedTokenHasABound(t *testing.T) {
	k := fastKeys(t, nil)
	if _, err := k.Sign(ES256, TypeIDToken, strings.Repeat("x", MaxJWTBytes)); err == nil {
		t.Error("a token that Verify would refuse was signed")
	}
	var claims map[string]string
	if err := k.Verify(strings.Repeat("a", MaxJWTBytes+1), TypeIDToken, &claims); err != ErrInvalid {
		t.Error(err)
	}
	if _, err := k.Sign(ES256, TypeIDToken, func() {}); err == nil {
		t.Error("claims that are not JSON were signed")
	}
}

func TestVerifyRefusesClaimsOfAnotherShape(t *testing.T) {
	k := fastKeys(t, nil)
	raw, err := k.Sign(ES256, TypeIDToken, map[string]int{"sub": 1})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]string
	if err := k.Verify(raw, TypeIDToken, &claims); err != ErrInvalid {
		t.Error(err)
	}
}
