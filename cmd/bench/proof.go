package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/token"
)

// proofKey makes DPoP proofs (RFC 9449 section 4.2), in this process: what they cost here is not the broker's.
type proofKey struct{ signer jose.Signer }

func newProofKey() (*proofKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	return &proofKey{signer}, err
}

func (k *proofKey) prove(method, uri string) (string, error) {
	claims, err := json.Marshal(map[string]any{"jti": token.NewID(), "htm": method, "htu": uri, "iat": time.Now().Unix()})
	if err != nil {
		return "", err
	}
	signed, err := k.signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
