package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// What is nested for a client's key, the client can open and verify with a library of its own, and nobody can without the key.
func TestANestedTokenIsForItsReaderAlone(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := sign(t, fastKeys(t, nil), ES256)
	for _, enc := range []string{"", "A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"} {
		for _, c := range []struct {
			alg string
			key crypto.Signer
		}{
			{"RSA-OAEP", rsaKey},
			{"RSA-OAEP-256", rsaKey},
			{"ECDH-ES", p256},
			{"ECDH-ES+A128KW", p256},
			{"ECDH-ES+A256KW", p521},
		} {
			raw, err := Encrypt(signed, c.alg, enc, jose.JSONWebKey{Key: c.key.Public(), KeyID: "enc-1"})
			if err != nil {
				t.Fatalf("%s %s: %v", c.alg, enc, err)
			}
			if strings.Contains(raw, strings.Split(signed, ".")[1]) {
				t.Errorf("%s %s: the claims can be read", c.alg, enc)
			}
			want := enc
			if want == "" {
				want = "A128CBC-HS256"
			}
			box, err := jose.ParseEncryptedCompact(raw, []jose.KeyAlgorithm{jose.KeyAlgorithm(c.alg)}, []jose.ContentEncryption{jose.ContentEncryption(want)})
			if err != nil {
				t.Fatalf("%s %s: %v", c.alg, enc, err)
			}
			if box.Header.KeyID != "enc-1" || box.Header.ExtraHeaders[jose.HeaderContentType] != "JWT" {
				t.Errorf("%s %s: header %+v", c.alg, enc, box.Header)
			}
			plain, err := box.Decrypt(c.key)
			if err != nil || string(plain) != signed {
				t.Errorf("%s %s: %q, %v", c.alg, enc, plain, err)
			}
		}
	}
}

func TestNothingIsEncryptedWithAKeyThatDoesNotFit(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: p256.Public()}
	for _, c := range [][2]string{{"RSA-OAEP-256", "A256GCM"}, {"dir", "A256GCM"}, {"none", "A256GCM"}, {"ECDH-ES", "none"}, {"", ""}} {
		if raw, err := Encrypt("a.b.c", c[0], c[1], key); err == nil {
			t.Errorf("%v: %q", c, raw)
		}
	}
	if raw, err := Encrypt("a.b.c", "ECDH-ES", "", jose.JSONWebKey{}); err == nil {
		t.Errorf("without a key: %q", raw)
	}
}
