package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"sync"
)

// keyBits is the size of Google's signing keys.
const keyBits = 2048

// keyring is Google's signing key. The first is made when it is needed: 2048 bits take a good part of a second on a small
// machine, and who signs in with GitHub alone should not wait for them.
type keyring struct {
	mu      sync.Mutex
	current *signingKey
}

// signingKey is a key and what is derived from it once.
type signingKey struct {
	private *rsa.PrivateKey
	header  string // of a JWS, encoded
	jwks    []byte
}

func newKeyring(private *rsa.PrivateKey) (*keyring, error) {
	if private == nil {
		return &keyring{}, nil
	}
	if private.N == nil || private.N.BitLen() < keyBits {
		return nil, errors.New("the key must have 2048 bits or more")
	}
	key, err := newSigningKey(private)
	return &keyring{current: key}, err
}

func newSigningKey(private *rsa.PrivateKey) (*signingKey, error) {
	sum := sha256.Sum256(private.N.Bytes())
	kid := hex.EncodeToString(sum[:20]) // Google's have forty hexadecimal digits
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{"RS256", kid, "JWT"})
	if err != nil {
		return nil, err
	}
	// RFC 7517 section 5, RFC 7518 section 6.3.1.
	jwks, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid,
		"n": base64.RawURLEncoding.EncodeToString(private.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(private.E)).Bytes()),
	}}})
	if err != nil {
		return nil, err
	}
	return &signingKey{private: private, header: base64.RawURLEncoding.EncodeToString(header), jwks: jwks}, nil
}

func generateKey() (*signingKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	return newSigningKey(private)
}

// key is the current key.
func (k *keyring) key() (*signingKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		key, err := generateKey()
		if err != nil {
			return nil, err
		}
		k.current = key
	}
	return k.current, nil
}

// rotate puts a new key in the place of the current one, of which no trace is left.
func (k *keyring) rotate() error {
	key, err := generateKey()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = key
	return nil
}

// sign is the compact serialization of a JWS (RFC 7515 section 3.1) of the payload.
func (k *signingKey) sign(payload []byte) (string, error) {
	input := k.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
