package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/store"
)

const (
	// rsaBits is the size RFC 7518 section 3.3 asks for at least, and what every client
	// takes; larger ones cost several times as much a signature.
	rsaBits = 2048
	// kidBytes of the key's thumbprint (RFC 7638) name it: 96 bits, so that no two keys ever share
	// a name, not even those of a store that was emptied and filled anew, and every token stays short.
	kidBytes = 12
	// sealPurpose binds a sealed private key to this use; its document's id is the
	// associated data.
	sealPurpose = "signing-key"
)

// signingKeyPair is one key, ready for use.
type signingKeyPair struct {
	alg     string
	kid     string
	private crypto.Signer
	public  crypto.PublicKey
	jwk     jose.JSONWebKey
}

// storedKey is a key with its document.
type storedKey struct {
	doc      *store.Doc[keyDocument]
	key      *signingKeyPair
	sequence int
}

func supported(alg string) bool {
	return alg == RS256 || alg == ES256 || alg == EdDSA
}

// documentID is the claim to a place: `ES256-000001`.
func documentID(alg string, sequence int) string {
	return fmt.Sprintf("%s-%06d", alg, sequence)
}

func parseDocumentID(id string) (alg string, sequence int, err error) {
	alg, digits, _ := strings.Cut(id, "-")
	sequence, err = strconv.Atoi(digits)
	if err != nil || sequence < 1 || documentID(alg, sequence) != id {
		return "", 0, fmt.Errorf("signing keys: %q is not a key's name", id)
	}
	return alg, sequence, nil
}

func generateKey(alg string) (crypto.Signer, error) {
	switch alg {
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("unknown algorithm %q", alg)
}

// newKeyDocument generates a key and seals it for the store.
func newKeyDocument(ring *Keyring, alg string, sequence int, now, signsFrom time.Time) (*store.Doc[keyDocument], error) {
	private, err := generateKey(alg)
	if err != nil {
		return nil, fmt.Errorf("signing keys: generate %s: %w", alg, err)
	}
	pair, err := newKeyPair(alg, private)
	if err != nil {
		return nil, err
	}
	id := documentID(alg, sequence)
	sealed, err := sealKey(ring, id, private)
	if err != nil {
		return nil, err
	}
	return &store.Doc[keyDocument]{
		Meta: store.Meta{ID: id},
		Value: keyDocument{
			Algorithm: alg,
			KeyID:     pair.kid,
			Sealed:    sealed,
			Created:   now.UTC(),
			SignsFrom: signsFrom.UTC(),
		},
	}, nil
}

// sealKey seals a private key, as PKCS #8, for the document with this id.
func sealKey(ring *Keyring, id string, private crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("signing keys: encode %s: %w", id, err)
	}
	return ring.Seal(sealPurpose, der, []byte(id)), nil
}

// openKey opens a document's private key and checks that it is the one the document names.
func openKey(ring *Keyring, doc *store.Doc[keyDocument]) (*signingKeyPair, error) {
	der, err := ring.Open(sealPurpose, doc.Value.Sealed, []byte(doc.ID))
	if err != nil {
		return nil, fmt.Errorf("signing keys: %s cannot be opened: the keyring lacks the secret it was sealed under (add it back as a last one): %w", doc.ID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("signing keys: decode %s: %w", doc.ID, err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signing keys: %s holds a %T", doc.ID, parsed)
	}
	pair, err := newKeyPair(doc.Value.Algorithm, private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doc.ID, err)
	}
	alg, _, err := parseDocumentID(doc.ID)
	if err != nil {
		return nil, err
	}
	if pair.kid != doc.Value.KeyID || alg != pair.alg {
		return nil, fmt.Errorf("signing keys: %s holds the key of another document", doc.ID)
	}
	return pair, nil
}

// newKeyPair prepares a private key for signing with alg. It refuses a key that is not of
// that algorithm's type.
func newKeyPair(alg string, private crypto.Signer) (*signingKeyPair, error) {
	fits := false
	switch key := private.(type) {
	case *rsa.PrivateKey:
		fits = alg == RS256 && key.N.BitLen() >= rsaBits
	case *ecdsa.PrivateKey:
		fits = alg == ES256 && key.Curve == elliptic.P256()
	case ed25519.PrivateKey:
		fits = alg == EdDSA
	}
	if !fits {
		return nil, fmt.Errorf("signing keys: a %T is no key for %s", private, alg)
	}
	jwk := jose.JSONWebKey{Key: private.Public(), Algorithm: alg, Use: "sig"}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing keys: thumbprint: %w", err)
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint[:kidBytes])
	return &signingKeyPair{alg: alg, kid: jwk.KeyID, private: private, public: private.Public(), jwk: jwk}, nil
}

// keySet is what signing, verifying and publishing read. It never changes once it is made.
type keySet struct {
	stored   []*storedKey
	signers  map[string]*signingKeyPair
	byKID    map[string]*signingKeyPair
	complete bool
	jwks     []byte
	etag     string
}

// newKeySet takes keys in order of algorithm and sequence. It is complete if every
// algorithm has a key that signs.
func newKeySet(stored []*storedKey, algorithms []string, now time.Time) *keySet {
	set := &keySet{
		stored:  stored,
		signers: make(map[string]*signingKeyPair, len(algorithms)),
		byKID:   make(map[string]*signingKeyPair, len(stored)),
	}
	published := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(stored))}
	for _, s := range stored {
		set.byKID[s.key.kid] = s.key
		published.Keys = append(published.Keys, s.key.jwk)
	}
	for _, alg := range algorithms {
		keys := timelineOf(stored, alg)
		if i := signingKey(keys, now); i >= 0 {
			at := slices.IndexFunc(stored, func(s *storedKey) bool {
				return s.key.alg == alg && s.sequence == keys[i].sequence
			})
			set.signers[alg] = stored[at].key
		}
	}
	set.complete = len(set.signers) == len(algorithms)
	// Public keys of three known types always encode; an error could only be a defect.
	set.jwks, _ = json.Marshal(published)
	sum := sha256.Sum256(set.jwks)
	set.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:kidBytes]) + `"`
	return set
}
