package broker_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// encKey is a client's key to have ID tokens encrypted for, and the set to register.
func encKey(t *testing.T, alg string) (private crypto.Signer, jwks string) {
	t.Helper()
	var err error
	if strings.HasPrefix(alg, "RSA") {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "enc-1", Use: "enc"}}})
	if err != nil {
		t.Fatal(err)
	}
	return private, string(raw)
}

// opened is the signed token inside an encrypted one, as the client's library would open it.
func opened(t *testing.T, raw, alg, enc string, key crypto.Signer) string {
	t.Helper()
	box, err := jose.ParseEncryptedCompact(raw, []jose.KeyAlgorithm{jose.KeyAlgorithm(alg)}, []jose.ContentEncryption{jose.ContentEncryption(enc)})
	if err != nil {
		t.Fatalf("the ID token is not encrypted with %s and %s: %v", alg, enc, err)
	}
	signed, err := box.Decrypt(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// OpenID Connect Core section 10.2: the ID token is signed, and then encrypted for the client's key, at the sign-in and at each refresh.
func TestIDTokensAreEncryptedForTheClient(t *testing.T) {
	for _, c := range []struct{ alg, enc, want string }{
		{"RSA-OAEP-256", "A256GCM", "A256GCM"},
		{"ECDH-ES", "", "A128CBC-HS256"}, // the default of OpenID Connect Registration section 2
		{"ECDH-ES+A128KW", "A256CBC-HS512", "A256CBC-HS512"},
	} {
		t.Run(c.alg, func(t *testing.T) {
			key, jwks := encKey(t, c.alg)
			e := Start(t, func(cfg *config.Config) {
				web := &cfg.Clients[0]
				web.JWKS, web.IDTokenEncryptedResponseAlg, web.IDTokenEncryptedResponseEnc = config.NewSecret(jwks), c.alg, c.enc
			})
			b := NewBrowser(t)
			tokens := e.SignIn(t, b, Web, "idp_hint", "google")
			encrypted := tokens.String("id_token")
			signed := opened(t, encrypted, c.alg, c.want, key)
			claims := Claims(t, signed)
			if claims["aud"] != Web.ID || claims["nonce"] != "no-1" || claims["sub"] != e.Subject(t, tokens.String("access_token")) {
				t.Errorf("claims %v", claims)
			}
			again := opened(t, e.Refresh(t, Web, tokens.String("refresh_token")).String("id_token"), c.alg, c.want, key)
			if Claims(t, again)["sub"] != claims["sub"] {
				t.Errorf("after a refresh: %v", Claims(t, again))
			}

			// Section 3.1.2.1: as a hint, the client decrypts it and sends what was inside. The broker cannot read the other.
			if answer := e.Code(t, b, Web, "prompt", "none", "id_token_hint", signed); answer.Get("code") == "" {
				t.Errorf("the signed token as a hint: %v", answer)
			}
			answer := b.Get(e.AuthorizeURL(Web, "prompt", "none", "id_token_hint", encrypted)).Location()
			if answer.Query().Get("error") != "invalid_request" || !strings.Contains(answer.Query().Get("error_description"), "decrypt") {
				t.Errorf("the encrypted one: %v", answer)
			}
			page := b.Get(e.Issuer + "/logout?" + url.Values{"id_token_hint": {encrypted}}.Encode())
			if page.Status != http.StatusBadRequest || !strings.Contains(page.Body, "encrypted") {
				t.Errorf("the encrypted one at sign-out: %d", page.Status)
			}
		})
	}
}

// Keys that cannot be read must not cost the person their sign-in: the code is as good afterwards.
func TestKeysThatCannotBeReadSpendNothing(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key, jwks := encKey(t, "RSA-OAEP-256")
		var up atomic.Bool
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !up.Load() {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, jwks)
		}))
		t.Cleanup(server.Close)
		e.Config.Fetch.AllowPrivate = true
		e.Config.Clients[0].JWKSURI, e.Config.Clients[0].IDTokenEncryptedResponseAlg = server.URL+"/jwks", "RSA-OAEP-256"
		node := e.Node(t)

		code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
		r := node.Redeem(t, Web, code)
		if r.Status != http.StatusServiceUnavailable || r.String("error") != "server_error" || !strings.Contains(r.String("error_description"), "keys") {
			t.Errorf("while the keys cannot be read: %d %v", r.Status, r.Body)
		}
		up.Store(true)
		e.Clock.Advance(20 * time.Second) // the address is not asked again at once
		r = node.Redeem(t, Web, code)
		if r.Status != http.StatusOK {
			t.Fatalf("when they can: %d %v", r.Status, r.Body)
		}
		opened(t, r.String("id_token"), "RSA-OAEP-256", "A128CBC-HS256", key)
	})
}

// A key for signatures is none to encrypt for.
func TestAKeyForAnotherUseIsNotEncryptedFor(t *testing.T) {
	signing := func(t *testing.T) string {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "sig-1", Use: "sig"}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}(t)
	e := Start(t, func(cfg *config.Config) {
		cfg.Clients[0].JWKS, cfg.Clients[0].IDTokenEncryptedResponseAlg = config.NewSecret(signing), "RSA-OAEP"
	})
	code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
	if r := e.Redeem(t, Web, code); r.Status != http.StatusBadRequest || !strings.Contains(r.String("error_description"), "RSA-OAEP") {
		t.Errorf("%d %v", r.Status, r.Body)
	}
}

func TestMetadataNamesTheEncryptionsOfIDTokens(t *testing.T) {
	e := Start(t)
	r := Do(t, request(t, "GET", e.Issuer+"/.well-known/openid-configuration", "", ""))
	algs, encs := r.Body["id_token_encryption_alg_values_supported"].([]any), r.Body["id_token_encryption_enc_values_supported"].([]any)
	if len(algs) != 5 || len(encs) != 4 || encs[0] != "A128CBC-HS256" {
		t.Errorf("alg %v, enc %v", algs, encs)
	}
}
