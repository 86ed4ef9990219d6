package brokertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Key is an app's key for DPoP proofs (RFC 9449), ES256.
type Key struct {
	t       testing.TB
	now     func() time.Time
	private *ecdsa.PrivateKey
	JKT     string // its thumbprint (RFC 7638)
}

// NewKey makes a key whose proofs are of the time on the test's clock.
func (e *Env) NewKey(t testing.TB) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return &Key{t: t, now: e.Clock.Now, private: private, JKT: base64.RawURLEncoding.EncodeToString(thumbprint)}
}

// Proof makes a proof for a request. edits ("name", value pairs) change its claims; a nil value removes.
func (k *Key) Proof(method, url string, edits ...any) string {
	k.t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": k.now().Unix()}
	for i := 0; i+1 < len(edits); i += 2 {
		if name := edits[i].(string); edits[i+1] == nil {
			delete(claims, name)
		} else {
			claims[name] = edits[i+1]
		}
	}
	return SignJWT(k.t, jose.ES256, k.private, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"), claims)
}

// Sign signs any payload with the key.
func (k *Key) Sign(options *jose.SignerOptions, payload []byte) string {
	k.t.Helper()
	return SignJWT(k.t, jose.ES256, k.private, options, payload)
}

// TokenHeader is the header of a request to the token endpoint that proves the key.
func (k *Key) TokenHeader(e *Env, edits ...any) http.Header {
	k.t.Helper()
	return http.Header{"Dpop": {k.Proof(http.MethodPost, e.Issuer+"/token", edits...)}}
}

// UserinfoHeader is the header of a request to userinfo with a bound access token and its proof.
func (k *Key) UserinfoHeader(e *Env, token string, edits ...any) http.Header {
	k.t.Helper()
	return k.ResourceHeader(http.MethodGet, e.Issuer+"/userinfo", token, edits...)
}

// ResourceHeader is the header of a request to any API with a bound access token and its proof.
func (k *Key) ResourceHeader(method, url, token string, edits ...any) http.Header {
	k.t.Helper()
	edits = append([]any{"ath", TokenHash(token)}, edits...)
	return http.Header{"Authorization": {"DPoP " + token}, "Dpop": {k.Proof(method, url, edits...)}}
}

// PublicJWK is the key as others see it.
func (k *Key) PublicJWK() jose.JSONWebKey { return jose.JSONWebKey{Key: k.private.Public()} }

// PrivateJWK is what must never leave the app.
func (k *Key) PrivateJWK() jose.JSONWebKey { return jose.JSONWebKey{Key: k.private} }
