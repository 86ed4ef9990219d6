package token

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"math"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// MinSecretBytes is the least length of a keyring secret: 256 bits, the strength of
	// every key derived from it.
	MinSecretBytes = 32
	// MaxSecretBytes bounds a keyring secret; a longer one adds no strength and is rather a
	// file given by mistake.
	MaxSecretBytes = 4096
	// MaxKeyringSecrets bounds the ring: the current secret, and a few that are being
	// rotated out. Each costs memory, and a try where no key id tells which one applies.
	MaxKeyringSecrets = 8
	// minDistinctBytes refuses secrets such as "aaaa…" or zeros. It is no measure of entropy,
	// only a net for placeholders: a random secret of 32 hexadecimal digits falls below it
	// less than once in 10^7 times, one of 32 random bytes never.
	minDistinctBytes = 8

	// keyIDBytes of a digest name a secret: 48 bits, 8 characters, enough to tell a
	// handful of secrets apart.
	keyIDBytes = 6
	keyIDChars = 8
	// tokenMACBytes is the length of the MAC of a code or refresh token: 192 bits, above
	// the 160 that RFC 6749 section 10.10 asks for, and 32 characters without spare bits, so that
	// it has one spelling.
	tokenMACBytes = 24
	tokenMACChars = 32
	// maxMACedBytes bounds a code or refresh token before it is looked at: version, key
	// id, id, a generation of 19 digits, MAC and separators are below it.
	maxMACedBytes = 160
	// maxSealedBytes bounds what Open looks at: no larger than a document that could hold it.
	maxSealedBytes = 256 << 10
	// maxPurposeBytes bounds a purpose, so that its length fits one byte.
	maxPurposeBytes = 64
)

// The first part of each thing the keyring makes: what it is and in which version, so that a
// later format can live beside this one, and so that secret scanners recognise a leak.
const (
	codeVersion    = "pac1" // Portico authorization code
	refreshVersion = "prt1" // Portico refresh token
	deviceVersion  = "pdc1" // Portico device code
	accessVersion  = "pat1" // Portico access token, opaque
	digestVersion  = "d1"
	secretVersion  = "h1"
	sealVersion    = "s1"
)

// Keyring derives, from one or more configured secrets, all the symmetric keys of the
// broker: one for each use, so that a string made for one use means nothing for another.
// The first secret makes; all check. To rotate without downtime: add the new secret
// last on every node, then move it first on every node, and remove the old one when what was made
// under it may cease to work.
//
// It keeps no secret, only derived keys. Safe for concurrent use.
type Keyring struct {
	entries []*ringEntry
}

// ringEntry holds what is derived from one secret.
type ringEntry struct {
	id      string
	codes   *macKey
	refresh *macKey
	devices *macKey
	digests *macKey
	secrets *macKey
	seal    cipher.AEAD
	access  cipher.AEAD
	cookies [2][]byte
}

// NewKeyring derives the keys of each secret: 1 to MaxKeyringSecrets of them, each
// MinSecretBytes to MaxSecretBytes long, drawn from a good source of randomness. The
// error names a secret by its place, never by its content.
func NewKeyring(secrets ...[]byte) (*Keyring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("keyring: no secret given")
	}
	if len(secrets) > MaxKeyringSecrets {
		return nil, fmt.Errorf("keyring: %d secrets given, at most %d are allowed", len(secrets), MaxKeyringSecrets)
	}
	k := &Keyring{}
	for i, secret := range secrets {
		if len(secret) < MinSecretBytes || len(secret) > MaxSecretBytes {
			return nil, fmt.Errorf("keyring: secret %d has %d bytes, want %d to %d", i+1, len(secret), MinSecretBytes, MaxSecretBytes)
		}
		if distinctBytes(secret) < minDistinctBytes {
			return nil, fmt.Errorf("keyring: secret %d is not random; make one with: openssl rand -base64 48", i+1)
		}
		e, err := newRingEntry(secret)
		if err != nil {
			return nil, fmt.Errorf("keyring: secret %d: %w", i+1, err)
		}
		if k.entry(e.id) != nil {
			return nil, fmt.Errorf("keyring: secret %d is given twice", i+1)
		}
		k.entries = append(k.entries, e)
	}
	return k, nil
}

func distinctBytes(b []byte) int {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// newRingEntry derives the keys of one secret by HKDF-SHA256 (RFC 5869), with the use as
// the info. The labels are part of the format: changing one invalidates what was made.
func newRingEntry(secret []byte) (*ringEntry, error) {
	var failed error
	subkey := func(use string, length int) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "portico/token/v1/"+use, length)
		failed = errors.Join(failed, err)
		return key
	}
	aead := func(use string) cipher.AEAD {
		a, err := chacha20poly1305.NewX(subkey(use, chacha20poly1305.KeySize))
		failed = errors.Join(failed, err)
		return a
	}
	mac := func(use string) *macKey { return newMACKey(subkey(use, sha256.Size)) }
	e := &ringEntry{
		id:      base64.RawURLEncoding.EncodeToString(subkey("key-id", keyIDBytes)),
		codes:   mac("code"),
		refresh: mac("refresh"),
		devices: mac("device-code"),
		digests: mac("digest"),
		secrets: mac("client-secret"),
		seal:    aead("seal"),
		access:  aead("access"),
		cookies: [2][]byte{subkey("cookie-hash", 32), subkey("cookie-block", 32)},
	}
	return e, failed
}

// entry finds the entry with this key id; nil if the ring has none. Key ids are public, so
// the comparison need not be constant in time.
func (k *Keyring) entry(id string) *ringEntry {
	for _, e := range k.entries {
		if e.id == id {
			return e
		}
	}
	return nil
}

// macKey computes HMAC-SHA256 under one key. It keeps prepared states in a pool, because to
// prepare one costs more than the MAC of a token.
type macKey struct {
	states sync.Pool
}

type macState struct {
	hash    hash.Hash
	sum     [sha256.Size]byte
	scratch []byte
}

func newMACKey(key []byte) *macKey {
	m := &macKey{}
	m.states.New = func() any {
		return &macState{hash: hmac.New(sha256.New, key), scratch: make([]byte, 0, 2*maxMACedBytes)}
	}
	return m
}

func (m *macKey) get() *macState {
	s := m.states.Get().(*macState)
	s.hash.Reset()
	s.scratch = s.scratch[:0]
	return s
}

// put gives the state back, unless a long value has made its buffer one not to keep.
func (m *macKey) put(s *macState) {
	if cap(s.scratch) <= 4*maxMACedBytes {
		m.states.Put(s)
	}
}

// appendMAC appends the first n bytes of the MAC of what was written to s, in base64url, to dst.
func (s *macState) appendMAC(dst []byte, n int) []byte {
	sum := s.hash.Sum(s.sum[:0])
	return base64.RawURLEncoding.AppendEncode(dst, sum[:n])
}

// Code makes the authorization code of a flow: `pac1 . key id . flow id . MAC`, about 73
// characters that need no escaping in a URL. It is a function of the keyring and the
// flow's id, so nothing is stored but that the flow has a code to redeem. flowID is one
// that NewID made; ParseCode refuses the code of any other.
func (k *Keyring) Code(flowID string) string {
	e := k.entries[0]
	s := e.codes.get()
	defer e.codes.put(s)
	s.scratch = appendHead(s.scratch, codeVersion, e.id)
	s.scratch = append(s.scratch, flowID...)
	return s.finish()
}

// ParseCode returns the flow's id of an authorization code that Code made under any secret
// of the ring, and ErrInvalid for every other string. It does no IO. Whether the code is
// fresh, unused and the client's is in the flow.
func (k *Keyring) ParseCode(s string) (flowID string, err error) {
	body, ok := k.checkMAC(s, codeVersion, func(e *ringEntry) *macKey { return e.codes })
	if !ok || !validID(body) {
		return "", ErrInvalid
	}
	return body, nil
}

// RefreshToken makes the refresh token of a grant's generation: `prt1 . key id . grant id .
// generation . MAC`. The same arguments give the same token for as long as the first
// secret stays the same, which is what lets a repeated refresh be answered alike. grantID is one
// that NewID made and generation is not negative; ParseRefreshToken refuses any other.
func (k *Keyring) RefreshToken(grantID string, generation int64) string {
	e := k.entries[0]
	s := e.refresh.get()
	defer e.refresh.put(s)
	s.scratch = appendHead(s.scratch, refreshVersion, e.id)
	s.scratch = append(s.scratch, grantID...)
	s.scratch = append(s.scratch, '.')
	s.scratch = strconv.AppendInt(s.scratch, generation, 10)
	return s.finish()
}

// ParseRefreshToken returns the grant and generation of a refresh token that
// RefreshToken made under any secret of the ring, and ErrInvalid for every other
// string. It does no IO. Whether the grant stands, and whether the generation is its
// current one, is in the grant.
func (k *Keyring) ParseRefreshToken(s string) (grantID string, generation int64, err error) {
	body, ok := k.checkMAC(s, refreshVersion, func(e *ringEntry) *macKey { return e.refresh })
	if !ok {
		return "", 0, ErrInvalid
	}
	grantID, digits, ok := strings.Cut(body, ".")
	if !ok || !validID(grantID) {
		return "", 0, ErrInvalid
	}
	generation, ok = parseGeneration(digits)
	if !ok {
		return "", 0, ErrInvalid
	}
	return grantID, generation, nil
}

// DeviceCode makes the device code of a device authorization: `pdc1 . key id . handle . MAC`. A forged one is refused without a
// read (RFC 8628 section 5.2). The handle is 1 to 64 characters of the base64url alphabet; ParseDeviceCode refuses the
// code of any other.
func (k *Keyring) DeviceCode(handle string) string {
	e := k.entries[0]
	s := e.devices.get()
	defer e.devices.put(s)
	s.scratch = appendHead(s.scratch, deviceVersion, e.id)
	s.scratch = append(s.scratch, handle...)
	return s.finish()
}

// ParseDeviceCode returns the handle of a device code that DeviceCode made under any secret of the ring, and ErrInvalid
// for every other string. It does no IO.
func (k *Keyring) ParseDeviceCode(s string) (handle string, err error) {
	body, ok := k.checkMAC(s, deviceVersion, func(e *ringEntry) *macKey { return e.devices })
	if !ok || !validID(body) {
		return "", ErrInvalid
	}
	return body, nil
}

// parseGeneration reads a decimal number from 0 to 2^63-1 in its one spelling: no sign, no
// leading zero, no underscore.
func parseGeneration(s string) (int64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) {
		digit := int64(s[i]) - '0'
		if digit < 0 || digit > 9 || n > (math.MaxInt64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

func appendHead(dst []byte, version, keyID string) []byte {
	dst = append(dst, version...)
	dst = append(dst, '.')
	dst = append(dst, keyID...)
	return append(dst, '.')
}

// finish authenticates the buffer and returns it with its MAC.
func (s *macState) finish() string {
	s.hash.Write(s.scratch)
	s.scratch = append(s.scratch, '.')
	s.scratch = s.appendMAC(s.scratch, tokenMACBytes)
	return string(s.scratch)
}

// checkMAC takes `version . key id . body . MAC` apart and returns the body if the MAC is
// right. The MAC is compared as text against the one spelling that the broker would have written,
// in constant time, so that no second spelling (padding, spare bits, line breaks that
// decoders skip) is ever accepted.
func (k *Keyring) checkMAC(s, version string, use func(*ringEntry) *macKey) (body string, ok bool) {
	if len(s) > maxMACedBytes {
		return "", false
	}
	head := len(version) + 1 + keyIDChars + 1
	tail := len(s) - tokenMACChars - 1
	if tail <= head || s[:len(version)] != version || s[len(version)] != '.' || s[head-1] != '.' || s[tail] != '.' {
		return "", false
	}
	e := k.entry(s[len(version)+1 : head-1])
	if e == nil {
		return "", false
	}
	m := use(e)
	state := m.get()
	defer m.put(state)
	state.scratch = append(state.scratch, s...)
	state.hash.Write(state.scratch[:tail])
	state.scratch = state.appendMAC(state.scratch, tokenMACBytes)
	if subtle.ConstantTimeCompare(state.scratch[tail+1:len(s)], state.scratch[len(s):]) != 1 {
		return "", false
	}
	return s[head:tail], true
}

// Digest makes a keyed hash of a value for a document's field, such as the binding of a flow to a
// browser: whoever reads the store can neither use nor guess the value, however short it
// is. The purpose (at most 64 bytes, a constant of the caller) keeps digests of one field from
// matching another. The key id is inside, so the digest of a value changes when the ring is
// rotated: match with DigestMatches, and do not use it as a document's id.
func (k *Keyring) Digest(purpose, value string) string {
	e := k.entries[0]
	return keyedHash(e, e.digests, digestVersion, purpose, value)
}

// DigestMatches reports whether digest is Digest's of value for the purpose under any
// secret of the ring. Constant in time but for which secret that is.
func (k *Keyring) DigestMatches(purpose, digest, value string) bool {
	return k.hashMatches(func(e *ringEntry) *macKey { return e.digests }, digestVersion, purpose, digest, value)
}

// HashSecret makes the keyed hash of a client secret to keep in its document. It is fast,
// and therefore only for secrets of high entropy that the broker generated (NewSecret), not for
// people's passwords.
func (k *Keyring) HashSecret(secret string) string {
	e := k.entries[0]
	return keyedHash(e, e.secrets, secretVersion, "", secret)
}

// SecretMatches reports whether hash is HashSecret's of secret under any secret of the
// ring. Constant in time but for which secret that is.
func (k *Keyring) SecretMatches(hash, secret string) bool {
	return k.hashMatches(func(e *ringEntry) *macKey { return e.secrets }, secretVersion, "", hash, secret)
}

// hashMatches makes the hash again under the secret that it names, and compares.
func (k *Keyring) hashMatches(use func(*ringEntry) *macKey, version, purpose, hash, value string) bool {
	e := k.entry(namedKey(hash))
	if e == nil {
		return false
	}
	want := keyedHash(e, use(e), version, purpose, value)
	return subtle.ConstantTimeCompare([]byte(want), []byte(hash)) == 1
}

// keyedHash is `version . key id . HMAC(len(purpose) purpose value)`. The length keeps
// purpose and value apart.
func keyedHash(e *ringEntry, m *macKey, version, purpose, value string) string {
	mustPurpose(purpose)
	s := m.get()
	defer m.put(s)
	s.scratch = append(s.scratch, byte(len(purpose)))
	s.scratch = append(s.scratch, purpose...)
	s.scratch = append(s.scratch, value...)
	s.hash.Write(s.scratch)
	s.scratch = appendHead(s.scratch[:0], version, e.id)
	s.scratch = s.appendMAC(s.scratch, sha256.Size)
	return string(s.scratch)
}

// mustPurpose stops a program whose purpose, a constant in its source, is too long to be told
// from another: that is no input of anyone's.
func mustPurpose(purpose string) {
	if len(purpose) > maxPurposeBytes {
		panic("token: purpose longer than 64 bytes: " + purpose)
	}
}

// Seal encrypts and authenticates plaintext (XChaCha20-Poly1305 with a random nonce)
// for a field of a document or a cookie: `s1 . key id . base64url`. Open needs the same purpose (at most
// 64 bytes, a constant of the caller) and the same associated data, such as the
// document's id, so that a sealed value cannot be moved to another place.
func (k *Keyring) Seal(purpose string, plaintext, associated []byte) string {
	e := k.entries[0]
	raw := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plaintext)+chacha20poly1305.Overhead)
	rand.Read(raw)
	raw = e.seal.Seal(raw, raw, plaintext, sealContext(purpose, associated))
	out := make([]byte, 0, len(sealVersion)+keyIDChars+2+base64.RawURLEncoding.EncodedLen(len(raw)))
	out = appendHead(out, sealVersion, e.id)
	return string(base64.RawURLEncoding.AppendEncode(out, raw))
}

// Open decrypts what Seal made under any secret of the ring for the same purpose and
// associated data. Everything else is ErrInvalid. It looks at no more than 256 KiB.
func (k *Keyring) Open(purpose, sealed string, associated []byte) ([]byte, error) {
	e, raw, ok := k.decodeSealed(sealed, sealVersion, maxSealedBytes)
	if !ok {
		return nil, ErrInvalid
	}
	nonce, box := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	plaintext, err := e.seal.Open(box[:0], nonce, box, sealContext(purpose, associated))
	if err != nil {
		return nil, ErrInvalid
	}
	return plaintext, nil
}

// sealContext is the associated data of a sealed value: the length keeps purpose and the
// caller's data apart.
func sealContext(purpose string, associated []byte) []byte {
	mustPurpose(purpose)
	out := make([]byte, 0, 1+len(purpose)+len(associated))
	out = append(out, byte(len(purpose)))
	out = append(out, purpose...)
	return append(out, associated...)
}

// decodeSealed takes `version . key id . base64url(nonce box)` apart.
func (k *Keyring) decodeSealed(s, version string, limit int) (*ringEntry, []byte, bool) {
	head := len(version) + 1 + keyIDChars + 1
	if len(s) <= head || len(s) > limit || s[:len(version)] != version || s[len(version)] != '.' || s[head-1] != '.' {
		return nil, nil, false
	}
	e := k.entry(s[len(version)+1 : head-1])
	if e == nil {
		return nil, nil, false
	}
	raw, ok := decodeStrict(s[head:])
	if !ok || len(raw) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, nil, false
	}
	return e, raw, true
}

// strictBase64 refuses spare bits that are not zero, but, as documented, skips line breaks.
var strictBase64 = base64.RawURLEncoding.Strict()

// decodeStrict decodes base64url in its one spelling: no padding, no spare bits, no line
// breaks.
func decodeStrict(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	raw, err := strictBase64.DecodeString(s)
	return raw, err == nil
}

// Stale reports whether a value that Seal, Digest or HashSecret made is not under the first
// secret of the ring, so that it should be made anew while the old secret still is there.
func (k *Keyring) Stale(value string) bool {
	return namedKey(value) != k.entries[0].id
}

// namedKey returns the key id in `version . key id . …`, or something that is none.
func namedKey(value string) string {
	_, rest, _ := strings.Cut(value, ".")
	id, _, _ := strings.Cut(rest, ".")
	return id
}

// CookieKeys returns, for each secret in the ring's order, a pair of subkeys of 32 bytes each: an
// HMAC key and an AES-256 key, in the order that securecookie.CodecsFromPairs and
// sessions stores take. They are copies; the caller keeps them secret.
func (k *Keyring) CookieKeys() [][]byte {
	pairs := make([][]byte, 0, 2*len(k.entries))
	for _, e := range k.entries {
		pairs = append(pairs, append([]byte(nil), e.cookies[0]...), append([]byte(nil), e.cookies[1]...))
	}
	return pairs
}

// KeyIDs returns the public names of the ring's secrets, in its order, for the
// operator: each is a digest that reveals nothing of the secret.
func (k *Keyring) KeyIDs() []string {
	ids := make([]string, 0, len(k.entries))
	for _, e := range k.entries {
		ids = append(ids, e.id)
	}
	return ids
}

// sealAccess and openAccess seal the content of an opaque access token. The version and key id are
// authenticated by the key alone: it is used for nothing else.
func (k *Keyring) sealAccess(plain func(dst []byte) []byte) string {
	e := k.entries[0]
	raw := make([]byte, chacha20poly1305.NonceSizeX, opaqueSizeHint)
	rand.Read(raw)
	raw = plain(raw)
	nonce, body := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	raw = e.access.Seal(nonce, nonce, body, nil) // in place, behind the nonce
	out := make([]byte, 0, len(accessVersion)+keyIDChars+2+base64.RawURLEncoding.EncodedLen(len(raw)))
	out = appendHead(out, accessVersion, e.id)
	return string(base64.RawURLEncoding.AppendEncode(out, raw))
}

func (k *Keyring) openAccess(s string) ([]byte, bool) {
	e, raw, ok := k.decodeSealed(s, accessVersion, MaxAccessTokenBytes)
	if !ok {
		return nil, false
	}
	nonce, box := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	plain, err := e.access.Open(box[:0], nonce, box, nil)
	return plain, err == nil
}
