package token

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// DefaultContentEncryption is what encrypted tokens are encrypted with where a client registers none (OpenID Connect Registration
// section 2).
const DefaultContentEncryption = string(jose.A128CBC_HS256)

// Encrypt nests a signed token in an encrypted one (RFC 7519 section 11.2, OpenID Connect Core section 16.14) for the public key given:
// alg manages the key (RFC 7518 section 4.1), enc encrypts the content (section 5.1; empty means DefaultContentEncryption). The key's
// kid, if it has one, stands in the header, so that its owner finds the private part. Only that owner can read what comes of it; the broker cannot. The
// error says that the key does not fit the algorithm, or that one of the two is unknown.
func Encrypt(signed, alg, enc string, key jose.JSONWebKey) (string, error) {
	if enc == "" {
		enc = DefaultContentEncryption
	}
	// The `cty` says that there is a JWT within (RFC 7519 section 5.2).
	options := (&jose.EncrypterOptions{}).WithContentType(TypeIDToken)
	encrypter, err := jose.NewEncrypter(jose.ContentEncryption(enc), jose.Recipient{
		Algorithm: jose.KeyAlgorithm(alg), Key: key.Key, KeyID: key.KeyID,
	}, options)
	if err != nil {
		return "", fmt.Errorf("encrypt with %s and %s: %w", alg, enc, err)
	}
	box, err := encrypter.Encrypt([]byte(signed))
	if err != nil {
		return "", fmt.Errorf("encrypt with %s and %s: %w", alg, enc, err)
	}
	raw, err := box.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("encrypt with %s and %s: %w", alg, enc, err)
	}
	return raw, nil
}

// encrypted reports whether raw looks like what Encrypt makes: five parts, and a header that says how the content is encrypted (RFC 7516
// sections 3.1 and 4.1.2).
func encrypted(raw string) bool {
	if strings.Count(raw, ".") != 4 {
		return false
	}
	head, _, _ := strings.Cut(raw, ".")
	decoded, ok := decodeStrict(head)
	var header struct {
		Content string `json:"enc"`
	}
	return ok && json.Unmarshal(decoded, &header) == nil && header.Content != ""
}
