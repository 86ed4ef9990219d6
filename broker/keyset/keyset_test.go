package keyset

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/fetch"
	"github.com/portico-id/portico/broker/store/storetest"
)

// The keys of the tests, made once: RSA keys are slow to make.
var keys = sync.OnceValue(func() (k struct {
	rsa, weak *rsa.PrivateKey
	ec, other *ecdsa.PrivateKey
	ed        ed25519.PrivateKey
},
) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.weak, _ = rsa.GenerateKey(rand.Reader, 1024)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.other, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

// jwks is the text of a set.
func jwks(t testing.TB, list ...jose.JSONWebKey) string {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: list})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func public(private crypto.Signer, kid, use, alg string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: private.Public(), KeyID: kid, Use: use, Algorithm: alg}
}

// signed is {"a":1}, signed.
func signed(t testing.TB, alg string, private any, kid string, headers ...string) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		options.WithHeader(jose.HeaderKey(headers[i]), headers[i+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: private}, options)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// site is the server at a jwks_uri.
type site struct {
	mu     sync.Mutex
	body   string
	err    error
	asked  atomic.Int64
	before func() // called in each request
}

func (s *site) Get(context.Context, string, string, int64) (*fetch.Response, error) {
	s.asked.Add(1)
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return &fetch.Response{Body: []byte(s.body)}, nil
}

func (s *site) serve(body string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.err = body, err
}

// clock is one that the test moves.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.Add(int64(d)) }

var source = Source{URI: "https://app.example.com/jwks.json"}

// Which key checks a signature: never a guess, never a key that its owner meant for something else, never an algorithm that the key's
// type does not have.
func TestTheKeyIsTheOneThatFits(t *testing.T) {
	k := keys()
	all := Algorithms()
	rs, es, ed := public(k.rsa, "r", "sig", ""), public(k.ec, "e", "", ""), public(k.ed, "d", "", "")
	for _, c := range []struct {
		name string
		set  string
		raw  string
		algs []string
		want error
	}{
		{"RS256 by kid", jwks(t, rs, es, ed), signed(t, "RS256", k.rsa, "r"), all, nil},
		{"PS256 by kid", jwks(t, rs, es, ed), signed(t, "PS256", k.rsa, "r"), all, nil},
		{"ES256 by kid", jwks(t, rs, es, ed), signed(t, "ES256", k.ec, "e"), all, nil},
		{"EdDSA by kid", jwks(t, rs, es, ed), signed(t, "EdDSA", k.ed, "d"), all, nil},
		{"no kid, one key fits the algorithm", jwks(t, rs, es, ed), signed(t, "ES256", k.ec, ""), all, nil},
		{"no kid, two keys fit: which one signed is not to be guessed", jwks(t, es, public(k.other, "o", "", "")), signed(t, "ES256", k.ec, ""), all, ErrNoKey},
		{"two keys of one kid and type", jwks(t, es, public(k.other, "e", "", "")), signed(t, "ES256", k.ec, "e"), all, ErrNoKey},
		{"two keys of one kid, of different types (RFC 7517 section 4.5)", jwks(t, es, public(k.rsa, "e", "", "")), signed(t, "ES256", k.ec, "e"), all, nil},
		{"the kid of another key", jwks(t, es, public(k.other, "o", "", "")), signed(t, "ES256", k.ec, "o"), all, ErrInvalid},
		{"an unknown kid", jwks(t, es), signed(t, "ES256", k.ec, "x"), all, ErrNoKey},
		{"somebody else's key", jwks(t, es), signed(t, "ES256", k.other, "e"), all, ErrInvalid},
		{"a key for encryption", jwks(t, public(k.ec, "e", "enc", "")), signed(t, "ES256", k.ec, "e"), all, ErrNoKey},
		{"a key for another algorithm", jwks(t, public(k.rsa, "r", "", "PS256")), signed(t, "RS256", k.rsa, "r"), all, ErrNoKey},
		{"key_ops without verify", strings.Replace(jwks(t, es), `"kty"`, `"key_ops":["deriveKey"],"kty"`, 1), signed(t, "ES256", k.ec, "e"), all, ErrNoKey},
		{"key_ops with verify", strings.Replace(jwks(t, es), `"kty"`, `"key_ops":["verify"],"kty"`, 1), signed(t, "ES256", k.ec, "e"), all, nil},
		{"RSA of 1024 bits", jwks(t, public(k.weak, "r", "", "")), signed(t, "RS256", k.weak, "r"), all, ErrNoKey},
		{"an algorithm that the caller does not list", jwks(t, rs), signed(t, "RS256", k.rsa, "r"), StrongAlgorithms(), ErrInvalid},
		{"RS384, which the caller lists and nobody uses here", jwks(t, rs), signed(t, "RS384", k.rsa, "r"), []string{"RS384"}, ErrInvalid},
		{"HS256 with the public key's text as secret (RFC 8725 section 2.1)", jwks(t, rs), signed(t, "HS256", []byte(jwks(t, rs)), "r"), append(all, "HS256"), ErrInvalid},
		{"none (RFC 8725 section 2.1)", jwks(t, es), "eyJhbGciOiJub25lIiwia2lkIjoiZSJ9.eyJhIjoxfQ.", append(all, "none"), ErrInvalid},
		{"none with a signature", jwks(t, es), "eyJhbGciOiJub25lIiwia2lkIjoiZSJ9.eyJhIjoxfQ.AAAA", append(all, "none"), ErrInvalid},
		{"no JWS", jwks(t, es), "a.b", all, ErrInvalid},
		{"empty", jwks(t, es), "", all, ErrInvalid},
		{"too long", jwks(t, es), strings.Repeat("a", maxSignedBytes+1), all, ErrInvalid},
		{"another payload", jwks(t, es), replacePayload(signed(t, "ES256", k.ec, "e")), all, ErrInvalid},
		{"no keys registered", "", signed(t, "ES256", k.ec, "e"), all, ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload, header, err := New(&site{}, time.Now).Verify(t.Context(), Source{JWKS: c.set}, c.raw, c.algs)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (string(payload) != `{"a":1}` || header.Type != "JWT" || header.Algorithm == "") {
				t.Errorf("got %s with %+v", payload, header)
			}
		})
	}
}

func replacePayload(raw string) string {
	parts := strings.Split(raw, ".")
	parts[1] = "eyJhIjoyfQ"
	return strings.Join(parts, ".")
}

// A key in the header is the attacker's own (RFC 8725 section 3.10, CVE-2018-0114): only registered ones count.
func TestAKeyInTheHeaderIsNotLookedAt(t *testing.T) {
	k := keys()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.other}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(&site{}, time.Now).Verify(t.Context(), Source{JWKS: jwks(t, public(k.ec, "e", "", ""))}, raw, Algorithms()); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want %v", err, ErrInvalid)
	}
}

// crit names extensions that have to be understood (RFC 7515 section 4.1.11), and b64 would change what is signed (RFC 7797).
func TestCriticalHeadersAreRefused(t *testing.T) {
	k := keys()
	options := (&jose.SignerOptions{}).WithCritical("b64").WithHeader("b64", true).WithHeader("kid", "e")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.ec}, options)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(&site{}, time.Now).Verify(t.Context(), Source{JWKS: jwks(t, public(k.ec, "e", "", ""))}, raw, Algorithms()); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want %v", err, ErrInvalid)
	}
}

// What may be registered: public keys alone. A private key in a set has been seen by everybody who saw the set.
func TestASetWithASecretInItIsRefused(t *testing.T) {
	k := keys()
	good := jwks(t, public(k.ec, "e", "", ""))
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"a public key":                            {good, true},
		"a private EC key":                        {jwks(t, jose.JSONWebKey{Key: k.ec}), false},
		"a private RSA key":                       {jwks(t, jose.JSONWebKey{Key: k.rsa}), false},
		"a private Ed25519 key":                   {jwks(t, jose.JSONWebKey{Key: k.ed}), false},
		"a symmetric key":                         {jwks(t, jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}), false},
		"a private key beside a public one":       {jwks(t, public(k.rsa, "r", "", ""), jose.JSONWebKey{Key: k.ec}), false},
		"D in upper case, as Go would read it":    {strings.Replace(good, `"kty"`, `"D":"AQ","kty"`, 1), false},
		"a weak key alone":                        {jwks(t, public(k.weak, "r", "", "")), false},
		"a key of an unknown type beside a known": {strings.Replace(good, `[`, `[{"kty":"new","x":"AQ"},`, 1), true},
		"a point that is not on the curve":        {`{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}`, false},
		"no keys":                                 {`{"keys":[]}`, false},
		"no set":                                  {`{}`, false},
		"a single key":                            {`{"kty":"EC"}`, false},
		"keys that are no objects":                {`{"keys":[1]}`, false},
		"no JSON":                                 {`<html>`, false},
		"too many keys":                           {`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`, false},
		"too long":                                {`{"keys":[]` + strings.Repeat(" ", MaxSetBytes) + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Check(c.text); (err == nil) != c.ok {
				t.Errorf("got %v, want ok: %v", err, c.ok)
			}
		})
	}
}

func TestTheEncryptionKeyIsOneForEncryption(t *testing.T) {
	k := keys()
	for _, c := range []struct {
		name, alg, set, kid string
	}{
		{"a key for encryption before one that does not say", "RSA-OAEP-256", jwks(t, public(k.rsa, "a", "", ""), public(k.rsa, "b", "enc", "")), "b"},
		{"a key that does not say", "RSA-OAEP", jwks(t, public(k.rsa, "a", "", "")), "a"},
		{"EC", "ECDH-ES+A128KW", jwks(t, public(k.rsa, "a", "enc", ""), public(k.ec, "b", "enc", "")), "b"},
		{"a key for signatures", "RSA-OAEP-256", jwks(t, public(k.rsa, "a", "sig", "")), ""},
		{"a key for another algorithm", "RSA-OAEP-256", jwks(t, public(k.rsa, "a", "enc", "RSA-OAEP")), ""},
		{"RSA1_5, whose padding is an oracle", "RSA1_5", jwks(t, public(k.rsa, "a", "enc", "")), ""},
		{"a symmetric algorithm", "dir", jwks(t, public(k.rsa, "a", "enc", "")), ""},
		{"Ed25519, which cannot", "ECDH-ES", jwks(t, public(k.ed, "a", "enc", "")), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := New(&site{}, time.Now).EncryptionKey(t.Context(), Source{JWKS: c.set}, c.alg)
			if key.KeyID != c.kid || (c.kid == "") != errors.Is(err, ErrNoKey) {
				t.Errorf("got %q, %v, want %q", key.KeyID, err, c.kid)
			}
		})
	}
}

// certificate is self-signed.
func certificate(t testing.TB, private crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "app"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestACertificateIsOneOfTheSet(t *testing.T) {
	k := keys()
	mine, again := certificate(t, k.ec), certificate(t, k.ec)
	withCertificate := public(k.ec, "e", "", "")
	withCertificate.Certificates = []*x509.Certificate{mine}
	for _, c := range []struct {
		name string
		set  string
		show *x509.Certificate
		want error
	}{
		{"x5c", jwks(t, withCertificate), mine, nil},
		{"another certificate of the key whose x5c is registered", jwks(t, withCertificate), again, ErrNoKey},
		{"the key alone", jwks(t, public(k.ec, "e", "", "")), again, nil},
		{"the key, for encryption", jwks(t, public(k.ec, "e", "enc", "")), again, ErrNoKey},
		{"another key", jwks(t, public(k.other, "e", "", "")), mine, ErrNoKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := New(&site{}, time.Now).HasCertificate(t.Context(), Source{JWKS: c.set}, c.show); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A jwks_uri is not asked again while what it said is current; a client that changes its keys is understood at its first use of the new
// one; and nobody can make the broker hammer an address with invented key ids.
func TestAnAddressIsAskedSeldom(t *testing.T) {
	k, c := keys(), &clock{}
	s := &site{}
	s.serve(jwks(t, public(k.ec, "old", "", "")), nil)
	all := New(s, c.now)
	verify := func(kid string, private *ecdsa.PrivateKey) error {
		_, _, err := all.Verify(t.Context(), source, signed(t, "ES256", private, kid), Algorithms())
		return err
	}
	expect := func(what string, err, want error, asked int64) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%s: got %v, want %v", what, err, want)
		}
		if s.asked.Load() != asked {
			t.Fatalf("%s: the address was asked %d times by now, want %d", what, s.asked.Load(), asked)
		}
	}
	expect("the first", verify("old", k.ec), nil, 1)
	expect("the second", verify("old", k.ec), nil, 1)

	for range 100 {
		expect("an invented kid right after a fetch", verify("invented", k.ec), ErrNoKey, 1)
	}
	c.advance(fetchEvery)
	for range 100 {
		expect("an invented kid", verify("invented", k.ec), ErrNoKey, 2)
	}
	expect("a good one between", verify("old", k.ec), nil, 2)

	s.serve(jwks(t, public(k.other, "new", "", "")), nil)
	c.advance(fetchEvery)
	expect("a new key at its first use", verify("new", k.other), nil, 3)
	expect("the old one, which is withdrawn", verify("old", k.ec), ErrNoKey, 3)

	c.advance(fetch.DefaultFresh - time.Second)
	expect("before the time is over", verify("new", k.other), nil, 3)
	c.advance(time.Second)
	expect("when the time is over", verify("new", k.other), nil, 4)
}

// The server at the address is down, or serves a maintenance page: what it said before serves for an hour more, and no longer.
func TestAnOutageIsBridgedForAWhile(t *testing.T) {
	k, c := keys(), &clock{}
	s := &site{}
	all := New(s, c.now)
	raw := signed(t, "ES256", k.ec, "e")
	verify := func() error {
		_, _, err := all.Verify(t.Context(), source, raw, Algorithms())
		return err
	}
	s.serve("", errors.New("connection refused"))
	if err := verify(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("down from the start: got %v", err)
	}
	for range 10 {
		if err := verify(); !errors.Is(err, ErrUnavailable) || s.asked.Load() != 1 {
			t.Fatalf("got %v, and it was asked %d times", err, s.asked.Load())
		}
	}
	s.serve(jwks(t, public(k.ec, "e", "", "")), nil)
	c.advance(fetchEvery)
	if err := verify(); err != nil {
		t.Fatalf("it is up again: %v", err)
	}
	s.serve("<html>Back soon", nil)
	for range 3 {
		c.advance(maxStale / 3)
		if err := verify(); err != nil {
			t.Fatalf("during an outage: %v", err)
		}
	}
	c.advance(fetch.DefaultFresh)
	if err := verify(); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("after a long outage: got %v, want %v", err, ErrUnavailable)
	}
}

// A hundred requests for one address at once ask it once, and a request that is given up does not fail the others.
func TestManyThatWantASetFetchItOnce(t *testing.T) {
	k, c := keys(), &clock{}
	arrived, gate := make(chan struct{}), make(chan struct{})
	s := &site{before: func() { close(arrived); <-gate }}
	s.serve(jwks(t, public(k.ec, "e", "", "")), nil)
	all := New(s, c.now)
	raw := signed(t, "ES256", k.ec, "e")

	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := all.Verify(impatient, source, raw, Algorithms())
		left <- err
	}()
	<-arrived
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left: %v", err)
	}
	var open sync.Once
	var waiting atomic.Int64
	storetest.Race(100, func() {
		if waiting.Add(1) == 100 {
			open.Do(func() { close(gate) })
		}
		if _, _, err := all.Verify(t.Context(), source, raw, Algorithms()); err != nil {
			t.Error(err)
		}
	})
	if s.asked.Load() != 1 {
		t.Errorf("the address was asked %d times, want once", s.asked.Load())
	}
}

// Whoever registers clients without end must not fill the memory.
func TestTheNumberOfSetsIsBounded(t *testing.T) {
	k, c := keys(), &clock{}
	s := &site{}
	s.serve(jwks(t, public(k.ec, "e", "", "")), nil)
	all := New(s, c.now)
	for i := range 2 * maxEntries {
		_, _, _ = all.Verify(t.Context(), Source{URI: source.URI + "?" + big.NewInt(int64(i)).String()}, signed(t, "ES256", k.ec, "e"), Algorithms())
		if err := all.HasCertificate(t.Context(), source, certificate(t, k.ec)); err != nil {
			t.Fatal(err)
		}
	}
	if len(all.entries) > maxEntries || all.recent.Len() != len(all.entries) {
		t.Errorf("%d sets are kept", len(all.entries))
	}
	if got := s.asked.Load(); got != 2*maxEntries+1 {
		t.Errorf("%d requests: the set in constant use was thrown out", got)
	}
}

// A panic while a stranger's set is read must not end the process: no server's recover is around that goroutine.
func TestAPanicWhileReadingIsAnError(t *testing.T) {
	s := &site{before: func() { panic("a defect") }}
	if _, err := New(s, time.Now).EncryptionKey(t.Context(), source, "RSA-OAEP"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrUnavailable)
	}
}

// Through the client that the broker uses: a set of keys over HTTP, and one that is longer than allowed.
func TestASetIsReadThroughTheGuardedClient(t *testing.T) {
	k := keys()
	body := jwks(t, public(k.ec, "e", "", ""))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		if r.URL.Path == "/long" {
			body = `{"keys":[]` + strings.Repeat(" ", MaxSetBytes) + `}`
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	all := New(fetch.New(fetch.Options{AllowPrivate: true}), time.Now)
	raw := signed(t, "ES256", k.ec, "e")
	if _, _, err := all.Verify(t.Context(), Source{URI: server.URL}, raw, Algorithms()); err != nil {
		t.Error(err)
	}
	if _, _, err := all.Verify(t.Context(), Source{URI: server.URL + "/long"}, raw, Algorithms()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, fetch.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, fetch.ErrTooLarge)
	}
	if _, _, err := New(fetch.New(fetch.Options{}), time.Now).Verify(t.Context(), Source{URI: server.URL}, raw, Algorithms()); !errors.Is(err, fetch.ErrAddress) {
		t.Errorf("a private address: got %v, want %v", err, fetch.ErrAddress)
	}
}

// FuzzSet makes no RSA keys: that takes longer than all else where code is instrumented.
func FuzzSet(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	mine := public(private, "e", "sig", "ES256")
	mine.Certificates = []*x509.Certificate{certificate(f, private)}
	modulus := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xf1}, 256))
	f.Add([]byte(jwks(f, mine)), signed(f, "ES256", private, "e"))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"r","e":"AQAB","n":"`+modulus+`"}]}`), "eyJhbGciOiJQUzI1NiIsImtpZCI6InIifQ.e30."+modulus)
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","key_ops":["verify"],"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), "eyJhbGciOiJFZERTQSJ9.e30.AA")
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"},{"kty":"oct","k":"AQ"}]}`), "eyJhbGciOiJub25lIn0..")
	f.Add([]byte(`{"keys":null}`), "")
	show := certificate(f, private)
	f.Fuzz(func(t *testing.T, text []byte, raw string) {
		s, err := parseSet(text)
		if err != nil {
			return
		}
		for _, key := range s.keys {
			if !key.IsPublic() || !usable(key.Key) {
				t.Errorf("a key that may not be there: %T", key.Key)
			}
		}
		_ = s.hasCertificate(show)
		_, _ = s.encrypter("RSA-OAEP-256")
		payload, header, err := New(&site{}, time.Now).Verify(t.Context(), Source{JWKS: string(text)}, raw, Algorithms())
		if err == nil && (payload == nil || header.Algorithm == "none") {
			t.Errorf("%q is taken for signed", raw)
		}
	})
}

// What holds for signatures by keys holds for those by a secret: no extension is understood (RFC 7515 section 4.1.11), and one that changes what
// is signed (b64, RFC 7797) least of all.
func TestASecretsSignatureIsReadByTheSameRules(t *testing.T) {
	secret := []byte("a-secret-0123456789-0123456789-0123456789")
	encode := base64.RawURLEncoding.EncodeToString
	signed := func(header string, key []byte) string {
		message := encode([]byte(header)) + "." + encode([]byte(`{"iss":"a"}`))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		return message + "." + encode(mac.Sum(nil))
	}
	secrets := [][]byte{[]byte("the-one-before-0123456789-0123456789-01234"), secret}
	payload, header, err := VerifySecret(signed(`{"alg":"HS256","typ":"JWT"}`, secret), secrets)
	if err != nil || string(payload) != `{"iss":"a"}` || header.Type != "JWT" {
		t.Errorf("%s %+v %v", payload, header, err)
	}
	for name, raw := range map[string]string{
		"crit":           signed(`{"alg":"HS256","crit":["b64"],"b64":true}`, secret),
		"another secret": signed(`{"alg":"HS256"}`, []byte("another-0123456789-0123456789-0123456789")),
		"another HMAC":   signed(`{"alg":"HS512"}`, secret),
		"no algorithm":   signed(`{"alg":"none"}`, secret),
		"too long":       strings.Repeat("a", maxSignedBytes+1),
		"nothing":        "",
	} {
		if _, _, err := VerifySecret(raw, secrets); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
