package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"slices"
)

// The signature algorithms of proofs (RFC 7518 section 3.1, RFC 8037 section 3.1). Symmetric ones and `none` have no place
// here (RFC 9449 section 4.3 point 5).
const (
	ES256 = "ES256"
	EdDSA = "EdDSA"
	PS256 = "PS256"
	RS256 = "RS256"
)

var algorithms = []string{ES256, EdDSA, PS256, RS256}

// Algorithms are the signature algorithms of proofs, for metadata and challenges.
func Algorithms() []string { return slices.Clone(algorithms) }

const (
	// minRSABits is the least RFC 7518 section 3.3 allows; maxRSABits keeps one check of a stranger's key below a
	// millisecond.
	minRSABits = 2048
	maxRSABits = 4096
	// maxExponentBytes bounds an RSA key's public exponent, which is 65537 in practice, to what fits an int everywhere.
	maxExponentBytes = 3
	// coordinateBytes is the length of a number of P-256 (RFC 7518 section 6.2.1.2).
	coordinateBytes = 32
)

// jwk is a public key as it stands in a proof's header (RFC 7517 section 4).
type jwk struct {
	Type      string   `json:"kty"`
	Curve     string   `json:"crv"`
	X         string   `json:"x"`
	Y         string   `json:"y"`
	Modulus   string   `json:"n"`
	Exponent  string   `json:"e"`
	Algorithm string   `json:"alg"`
	Use       string   `json:"use"`
	Ops       []string `json:"key_ops"`

	// The members of private and symmetric keys (RFC 7518 section 6, RFC 8037 section 2).
	D      present `json:"d"`
	P      present `json:"p"`
	Q      present `json:"q"`
	DP     present `json:"dp"`
	DQ     present `json:"dq"`
	QI     present `json:"qi"`
	Others present `json:"oth"`
	K      present `json:"k"`
}

// publicKey is a key that is ready to verify with one algorithm.
type publicKey struct {
	verify     func(message string, signature []byte) bool
	thumbprint string
}

// publicKey reads the key for alg. A key in any but its one encoding is refused, so that it has one thumbprint.
func (k *jwk) publicKey(alg string) (*publicKey, error) {
	switch {
	case bool(k.D || k.P || k.Q || k.DP || k.DQ || k.QI || k.Others || k.K):
		// Section 4.3 point 7. The key is compromised: whoever sees the proof has it.
		return nil, invalid("its jwk holds a private key; make a new key and send the public part alone")
	case k.Algorithm != "" && k.Algorithm != alg:
		return nil, invalid("the alg of its jwk is not the alg of its header")
	case k.Use != "" && k.Use != "sig", k.Ops != nil && !slices.Contains(k.Ops, "verify"):
		return nil, invalid("its jwk is not for signatures")
	}
	switch alg {
	case ES256:
		return k.ecdsa()
	case EdDSA:
		return k.ed25519()
	default:
		return k.rsa(alg)
	}
}

func (k *jwk) ecdsa() (*publicKey, error) {
	x, okX := decode(k.X)
	y, okY := decode(k.Y)
	if k.Type != "EC" || k.Curve != "P-256" || !okX || !okY || len(x) != coordinateBytes || len(y) != coordinateBytes {
		return nil, invalid("ES256 needs a jwk of kty EC and crv P-256")
	}
	point := make([]byte, 0, 1+2*coordinateBytes)
	point = append(append(append(point, 4), x...), y...) // SEC 1 section 2.3.4, uncompressed
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, invalid("the point of its jwk is not on the curve")
	}
	return &publicKey{
		verify: func(message string, signature []byte) bool {
			if len(signature) != 2*coordinateBytes {
				return false
			}
			digest := sha256.Sum256([]byte(message))
			r := new(big.Int).SetBytes(signature[:coordinateBytes])
			s := new(big.Int).SetBytes(signature[coordinateBytes:])
			return ecdsa.Verify(key, digest[:], r, s)
		},
		thumbprint: thumbprint(`{"crv":"P-256","kty":"EC","x":"`, k.X, `","y":"`, k.Y, `"}`),
	}, nil
}

func (k *jwk) ed25519() (*publicKey, error) {
	x, ok := decode(k.X)
	if k.Type != "OKP" || k.Curve != "Ed25519" || !ok || len(x) != ed25519.PublicKeySize {
		return nil, invalid("EdDSA needs a jwk of kty OKP and crv Ed25519")
	}
	return &publicKey{
		verify: func(message string, signature []byte) bool {
			return len(signature) == ed25519.SignatureSize && ed25519.Verify(x, []byte(message), signature)
		},
		thumbprint: thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"`, k.X, `"}`),
	}, nil
}

func (k *jwk) rsa(alg string) (*publicKey, error) {
	n, okN := decode(k.Modulus)
	e, okE := decode(k.Exponent)
	// RFC 7518 section 6.3.1.1: a number has no more bytes than it needs.
	if k.Type != "RSA" || !okN || !okE || len(n) == 0 || n[0] == 0 || len(e) == 0 || e[0] == 0 || len(e) > maxExponentBytes {
		return nil, invalid("%s needs a jwk of kty RSA", alg)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, invalid("its RSA key must have %d to %d bits", minRSABits, maxRSABits)
	}
	return &publicKey{
		verify: func(message string, signature []byte) bool {
			digest := sha256.Sum256([]byte(message))
			if alg == PS256 {
				// RFC 7518 section 3.5: the salt is as long as the hash.
				return rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
			}
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
		},
		thumbprint: thumbprint(`{"e":"`, k.Exponent, `","kty":"RSA","n":"`, k.Modulus, `"}`),
	}, nil
}

// thumbprint hashes the required members of a key, in order and without spaces (RFC 7638 section 3). What decode took needs no
// escaping.
func thumbprint(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// ValidThumbprint reports whether s has the form of a key's thumbprint: what dpop_jkt must be (section 10).
func ValidThumbprint(s string) bool {
	raw, ok := decode(s)
	return ok && len(raw) == sha256.Size
}
