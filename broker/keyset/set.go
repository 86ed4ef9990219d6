package keyset

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeys bounds the keys of a set: a current one and a next one, for each algorithm, is a tenth of it.
	maxKeys = 64
	// minRSABits is RFC 7518 section 3.3's and FAPI 2.0's; maxRSABits bounds what a stranger's key costs to check with.
	minRSABits = 2048
	maxRSABits = 8192
	// maxSignedBytes bounds a signed text: an assertion or a request object takes a few kilobytes.
	maxSignedBytes = 32 << 10
)

// Algorithms returns those that anything is ever checked with here: RS256 for what is old, the others as FAPI 2.0 section
// 5.4.1 lists them. No HMAC: a public key would be its secret (RFC 8725 section 2.1).
func Algorithms() []string { return []string{"PS256", "ES256", "EdDSA", "RS256"} }

// StrongAlgorithms returns the ones that the FAPI 2.0 Security Profile permits (section 5.4.1).
func StrongAlgorithms() []string { return []string{"PS256", "ES256", "EdDSA"} }

// Header is what the protected header of a signed text says.
type Header struct {
	Algorithm string // alg
	KeyID     string // kid; "" if there is none
	Type      string // typ; "" if there is none
}

// parseSigned reads a JWS, unverified.
func parseSigned(raw string, algs []string) (*jose.JSONWebSignature, Header, error) {
	var allowed []jose.SignatureAlgorithm
	for _, alg := range algs {
		if slices.Contains(Algorithms(), alg) {
			allowed = append(allowed, jose.SignatureAlgorithm(alg))
		}
	}
	return parse(raw, allowed)
}

// parse reads a JWS of one of the algorithms, unverified, by the rules that hold for all of them.
func parse(raw string, allowed []jose.SignatureAlgorithm) (*jose.JSONWebSignature, Header, error) {
	if len(raw) > maxSignedBytes {
		return nil, Header{}, fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, maxSignedBytes)
	}
	parsed, err := jose.ParseSignedCompact(raw, allowed)
	if err != nil {
		return nil, Header{}, fmt.Errorf("%w: want a JWS signed with one of %v: %w", ErrInvalid, allowed, err)
	}
	protected := parsed.Signatures[0].Protected
	// No extension is understood here (RFC 7515 section 4.1.11); go-jose would take b64, which changes what is signed.
	if _, ok := protected.ExtraHeaders["crit"]; ok {
		return nil, Header{}, fmt.Errorf("%w: the header has crit", ErrInvalid)
	}
	typ, _ := protected.ExtraHeaders[jose.HeaderType].(string)
	return parsed, Header{Algorithm: protected.Algorithm, KeyID: protected.KeyID, Type: typ}, nil
}

// VerifySecret reads a JWS that is signed with one of the secrets (HS256, RFC 7518 section 3.2), by the same rules as [Keys.Verify] reads others. ErrInvalid if
// none of them signed it. It does no IO.
func VerifySecret(raw string, secrets [][]byte) (payload []byte, header Header, err error) {
	parsed, header, err := parse(raw, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, Header{}, err
	}
	for _, secret := range secrets {
		if payload, err := parsed.Verify(secret); err == nil {
			return payload, header, nil
		}
	}
	return nil, Header{}, fmt.Errorf("%w: none of the secrets signed it", ErrInvalid)
}

// set is a JWK Set's keys that are of a use here. It does not change.
type set struct{ keys []key }

type key struct {
	jose.JSONWebKey
	operations []string // key_ops
}

// Check says what is wrong with a JWK Set as text, for whoever registers one: that it is none, that it holds a private or symmetric
// key, or that none of its keys is of a use.
func Check(jwks string) error {
	s, err := parseSet([]byte(jwks))
	if err != nil {
		return err
	}
	if len(s.keys) == 0 {
		return fmt.Errorf("it has no key of a use here: RSA of %d to %d bits, EC on P-256, P-384 or P-521, or Ed25519", minRSABits, maxRSABits)
	}
	return nil
}

// parseSet reads a JWK Set (RFC 7517 section 5). Keys that are not understood are left out, as it says there, and so are weak ones. One
// private or symmetric key refuses the whole: it is known to others by now, and so none of what its owner says can be relied on.
func parseSet(text []byte) (*set, error) {
	if len(text) > MaxSetBytes {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxSetBytes)
	}
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("it is not a JWK Set: %w", err)
	}
	if document.Keys == nil {
		return nil, errors.New("it is not a JWK Set: it has no keys")
	}
	if len(document.Keys) > maxKeys {
		return nil, fmt.Errorf("it has more than %d keys", maxKeys)
	}
	s := &set{}
	for i, raw := range document.Keys {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, fmt.Errorf("it is not a JWK Set: keys[%d] is not an object", i)
		}
		for name := range members {
			// Go's JSON matches names in any case, so these are refused in any.
			if slices.Contains(secretMembers, strings.ToLower(name)) {
				return nil, fmt.Errorf("keys[%d] is private or symmetric (it has %q); only public keys may be here, and this one must be replaced", i, name)
			}
		}
		k := key{}
		if err := json.Unmarshal(raw, &k.JSONWebKey); err != nil {
			continue
		}
		var extra struct {
			Operations []string `json:"key_ops"`
		}
		if err := json.Unmarshal(raw, &extra); err != nil || !usable(k.Key) {
			continue
		}
		k.operations = extra.Operations
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// secretMembers are the members of private and symmetric keys (RFC 7518 sections 6.2.2, 6.3.2, 6.4; RFC 8037 section 2; RFC 9964).
var secretMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// usable says whether a key is strong enough and of a type that is used here.
func usable(public any) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		bits := public.N.BitLen()
		return bits >= minRSABits && bits <= maxRSABits
	case *ecdsa.PublicKey:
		return true // go-jose has checked that the point is on one of the three curves.
	case ed25519.PublicKey:
		return len(public) == ed25519.PublicKeySize
	}
	return false
}

// permits says whether the key's owner meant it for this: use, key_ops and alg, where given (RFC 7517 sections 4.2 to 4.4).
func (k *key) permits(use, alg string, operations ...string) bool {
	return (k.Use == "" || k.Use == use) && (k.Algorithm == "" || k.Algorithm == alg || alg == "") &&
		(k.operations == nil || slices.ContainsFunc(operations, func(o string) bool { return slices.Contains(k.operations, o) }))
}

// verifier is the one key that checks signatures made with alg and kid.
func (s *set) verifier(alg, kid string) (crypto.PublicKey, bool) {
	var found crypto.PublicKey
	n := 0
	for i := range s.keys {
		k := &s.keys[i]
		if (kid == "" || k.KeyID == kid) && signs(k.Key, alg) && k.permits("sig", alg, "verify") {
			found = k.Key
			n++
		}
	}
	// Several would mean to try one after the other, and so not to know whose signature it is.
	return found, n == 1
}

// signs says whether alg is an algorithm of the key's type (RFC 7518 section 3.1, RFC 8037 section 3.1): the key decides, so that a
// header cannot have it used in another way.
func signs(public any, alg string) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return alg == "PS256" || alg == "RS256"
	case *ecdsa.PublicKey:
		return alg == "ES256" && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// encrypter is the first key to encrypt to with alg; one that says it is for encryption comes before one that says nothing.
func (s *set) encrypter(alg string) (jose.JSONWebKey, bool) {
	var found *key
	for i := range s.keys {
		k := &s.keys[i]
		if !encrypts(k.Key, alg) || !k.permits("enc", alg, "wrapKey", "encrypt", "deriveKey", "deriveBits") {
			continue
		}
		if found == nil || found.Use == "" && k.Use != "" {
			found = k
		}
	}
	if found == nil {
		return jose.JSONWebKey{}, false
	}
	return found.JSONWebKey, true
}

// encrypts says whether alg is a key management algorithm of the key's type (RFC 7518 section 4.1). RSA1_5 is none: its padding
// is an oracle (RFC 8725 section 3.2).
func encrypts(public any, alg string) bool {
	switch public.(type) {
	case *rsa.PublicKey:
		return alg == string(jose.RSA_OAEP) || alg == string(jose.RSA_OAEP_256)
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, string(jose.ECDH_ES))
	}
	return false
}

// hasCertificate says whether a key of the set stands for a certificate: by x5c if it has one, and otherwise by being its key.
func (s *set) hasCertificate(certificate *x509.Certificate) bool {
	return slices.ContainsFunc(s.keys, func(k key) bool {
		if !k.permits("sig", "", "verify", "sign") {
			return false
		}
		if len(k.Certificates) > 0 {
			return bytes.Equal(k.Certificates[0].Raw, certificate.Raw)
		}
		public, ok := certificate.PublicKey.(interface{ Equal(x crypto.PublicKey) bool })
		return ok && public.Equal(k.Key)
	})
}
