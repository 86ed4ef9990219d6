package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"
)

// The `typ` of what the broker signs. A verifier names the one it expects, so that no kind
// of token passes for another (RFC 8725 section 3.11).
const (
	// TypeAccessToken is RFC 9068 section 2.1's.
	TypeAccessToken = "at+jwt"
	// TypeIDToken is the customary one; OpenID Connect names none.
	TypeIDToken = "JWT"
	// TypeLogoutToken is OpenID Connect Back-Channel Logout section 2.4's.
	TypeLogoutToken = "logout+jwt"
)

const (
	// MaxJWTBytes bounds a signed token, when it is made and before it is looked at: servers
	// commonly refuse header lines beyond 8 KiB, so a longer one could not be used anyway.
	MaxJWTBytes = 8 << 10
	// verifiedSlots is how many tokens' signatures are remembered as good, at about 100
	// bytes each: those in use at one time on a busy node.
	verifiedSlots = 4096
)

// ErrNoKey says that there is no key of the algorithm asked for: it is not configured, or the
// store could not be written when it was to be made.
var ErrNoKey = errors.New("no signing key of this algorithm")

// Sign returns claims, as JSON, signed with the current key of alg, in compact
// serialization (RFC 7515 section 7.1) with the headers alg, kid and typ. typ is a
// constant of the caller, such as TypeAccessToken. ErrNoKey if there is no key of the algorithm;
// another error if claims do not encode or the token would exceed MaxJWTBytes.
func (k *Keys) Sign(alg, typ string, claims any) (string, error) {
	raw, _, err := k.sign(alg, typ, claims)
	return raw, err
}

// sign is Sign, and says which key signed.
func (k *Keys) sign(alg, typ string, claims any) (raw string, key *signingKeyPair, err error) {
	key = k.set.Load().signers[alg]
	if key == nil {
		if key = k.current().signers[alg]; key == nil {
			return "", nil, fmt.Errorf("%w: %q", ErrNoKey, alg)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", nil, fmt.Errorf("encode claims: %w", err)
	}
	raw, err = key.sign(typ, payload)
	return raw, key, err
}

// sign serializes by hand what go-jose would: its signer encodes the header anew for every token, at
// a tenth of the cost of the whole ES256 signature.
func (key *signingKeyPair) sign(typ string, payload []byte) (string, error) {
	var header [128]byte
	head := append(header[:0], `{"alg":"`...)
	head = append(head, key.alg...)
	head = append(head, `","kid":"`...)
	head = append(head, key.kid...)
	head = append(head, `","typ":"`...)
	head = append(head, typ...)
	head = append(head, `"}`...)

	encoding := base64.RawURLEncoding
	size := encoding.EncodedLen(len(head)) + 1 + encoding.EncodedLen(len(payload)) + 1 + encoding.EncodedLen(rsaBits/8)
	out := make([]byte, 0, size)
	out = encoding.AppendEncode(out, head)
	out = append(out, '.')
	out = encoding.AppendEncode(out, payload)
	signature, err := key.signature(out)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", key.kid, err)
	}
	out = append(out, '.')
	out = encoding.AppendEncode(out, signature)
	if len(out) > MaxJWTBytes {
		return "", fmt.Errorf("signed token of %d bytes exceeds %d", len(out), MaxJWTBytes)
	}
	return string(out), nil
}

// signature signs as RFC 7518 sections 3.3 and 3.4 and RFC 8037 section 3.1 say.
func (key *signingKeyPair) signature(message []byte) ([]byte, error) {
	switch private := key.private.(type) {
	case *rsa.PrivateKey:
		digest := sha256.Sum256(message)
		return rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			return nil, err
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out, nil
	case ed25519.PrivateKey:
		return ed25519.Sign(private, message), nil
	}
	return nil, fmt.Errorf("unknown key type %T", key.private)
}

// Verify checks that raw is a token that one of the broker's published keys signed, retired
// ones included, with the typ given, and decodes its claims into into. Everything else is
// ErrInvalid. The key is the one that the kid names, and the algorithm is that key's,
// whatever the header says (RFC 8725 section 3.1). Issuer, audience and times are the
// caller's to check.
//
// A token whose signature was good is remembered by its digest for a while, so that it is not computed
// again each time the same token is presented.
func (k *Keys) Verify(raw, typ string, into any) error {
	_, err := k.verify(raw, typ, into)
	return err
}

// verify is Verify, and says with which algorithm the token is signed.
func (k *Keys) verify(raw, typ string, into any) (alg string, err error) {
	if len(raw) > MaxJWTBytes {
		return "", ErrInvalid
	}
	digest := sha256.Sum256([]byte(raw))
	key := k.verified.find(&digest, typ, k.set.Load())
	if key == nil {
		if key = k.check(raw, typ); key == nil {
			return "", ErrInvalid
		}
		k.verified.add(&digest, typ, key.kid)
	}
	_, rest, _ := strings.Cut(raw, ".")
	encoded, _, _ := strings.Cut(rest, ".")
	payload, ok := decodeStrict(encoded)
	if !ok || json.Unmarshal(payload, into) != nil {
		return "", ErrInvalid
	}
	return key.alg, nil
}

// check verifies spelling, header and signature; nil if any is wrong.
func (k *Keys) check(raw, typ string) *signingKeyPair {
	// go-jose takes spare bits that are not zero, and line breaks, so a token would have several spellings.
	if strings.Count(raw, ".") != 2 {
		return nil
	}
	for part := range strings.SplitSeq(raw, ".") {
		if _, ok := decodeStrict(part); !ok {
			return nil
		}
	}
	// This list alone keeps `none` and the HMAC family out.
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil || len(parsed.Signatures) != 1 {
		return nil
	}
	header := parsed.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != typ {
		return nil
	}
	set := k.set.Load()
	key := set.byKID[header.KeyID]
	if key == nil && !set.complete {
		key = k.current().byKID[header.KeyID]
	}
	if key == nil || key.alg != header.Algorithm {
		return nil
	}
	if _, err := parsed.Verify(key.public); err != nil {
		return nil
	}
	return key
}

// verifiedCache remembers digests of tokens whose signature was good. Each digest has one
// slot, and the last to come takes it, so that it is bounded and needs no lock. What it
// remembers holds only while the key is in the set.
type verifiedCache struct {
	slots [verifiedSlots]atomic.Pointer[verifiedToken]
}

type verifiedToken struct {
	digest [sha256.Size]byte
	typ    string
	kid    string
}

func (c *verifiedCache) slot(digest *[sha256.Size]byte) *atomic.Pointer[verifiedToken] {
	return &c.slots[binary.LittleEndian.Uint64(digest[:8])%verifiedSlots]
}

func (c *verifiedCache) find(digest *[sha256.Size]byte, typ string, set *keySet) *signingKeyPair {
	known := c.slot(digest).Load()
	if known == nil || known.digest != *digest || known.typ != typ {
		return nil
	}
	return set.byKID[known.kid]
}

func (c *verifiedCache) add(digest *[sha256.Size]byte, typ, kid string) {
	c.slot(digest).Store(&verifiedToken{digest: *digest, typ: typ, kid: kid})
}

// remember spares a token that this node signed the check of its signature: what was just
// signed verifies. For tokens that come back here, which ID tokens seldom do.
func (k *Keys) remember(raw, typ string, key *signingKeyPair) {
	digest := sha256.Sum256([]byte(raw))
	k.verified.add(&digest, typ, key.kid)
}
