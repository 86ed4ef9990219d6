package resource_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/resource"
)

// RFC 9068 section 4: each algorithm that the broker may sign with, both spellings of typ, both of aud.
func TestJWTsAreVerifiedWithThePublishedKeys(t *testing.T) {
	i := newAuthority(t)
	api := i.api(nil)
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA, jose.PS256} {
		key := i.publish(alg, "k-"+string(alg))
		i.advance(10 * time.Second)
		expect(t, api, key.sign("at+jwt", i.claims()), 200, string(alg))
		expect(t, api, key.sign("application/at+jwt", i.claims("aud", []string{"x", notesAPI})), 200, string(alg)+" in the other spelling")
	}
	if n := i.discovered.Load(); n != 1 {
		t.Errorf("the metadata was read %d times", n)
	}
}

// What a token says is what the handler gets.
func TestTheHandlerLearnsWhatAJWTSays(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	var got *resource.Token
	h := i.api(nil).Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = resource.FromContext(r.Context()) }))
	raw := key.sign("at+jwt", i.claims("jti", "j", "scope", "a b", "act", map[string]any{"sub": "s"}, "authorization_details", []any{map[string]any{"type": "pay"}}))
	if answer := call(t, h, "GET", "/", authorization("Bearer", raw), ""); answer.status != 200 {
		t.Fatal(answer)
	}
	said, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Subject":"alice","ClientID":"shop","Issuer":"` + i.url + `","ID":"j","Audience":["` + notesAPI + `"],"Scopes":["a","b"],` +
		`"IssuedAt":"2026-09-21T14:13:20Z","ExpiresAt":"2026-09-21T15:13:20Z","AuthTime":"2026-09-21T14:12:20Z","ACR":"federated",` +
		`"KeyThumbprint":"","CertThumbprint":"","Actor":{"sub":"s"},"Details":[{"type":"pay"}]}`
	if string(said) != want {
		t.Errorf("got  %s\nwant %s", said, want)
	}
}

// The attacks that are known on JWTs (RFC 8725), and tokens that leave something open.
func TestForgedAndStrangeJWTsAreRefused(t *testing.T) {
	i := newAuthority(t)
	key, rsaKey := i.publish(jose.ES256, "k"), i.publish(jose.RS256, "r")
	stranger := newKey(t, jose.ES256, "k")
	api := i.api(nil)
	good := key.sign("at+jwt", i.claims())
	expect(t, api, good, 200, "the good one")
	parts := strings.Split(good, ".")
	segment := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	der, err := x509.MarshalPKIXPublicKey(rsaKey.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk, err := json.Marshal(rsaKey.public())
	if err != nil {
		t.Fatal(err)
	}
	head := map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "k"}
	headed := func(edits map[jose.HeaderKey]any) string {
		return signWith(t, jose.ES256, key.private, merged(head, edits), i.claims())
	}
	said := func(edits ...any) string { return key.sign("at+jwt", i.claims(edits...)) }
	at := i.clock().Unix()
	for name, raw := range map[string]string{
		"alg none":                                segment(`{"alg":"none","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + ".",
		"alg none, with the signature":            segment(`{"alg":"none","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + "." + parts[2],
		"alg nOnE":                                segment(`{"alg":"nOnE","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + ".",
		"HS256 with the public key as PEM":        signWith(t, jose.HS256, publicPEM, map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "r"}, i.claims()),
		"HS256 with the public key as JWK":        signWith(t, jose.HS256, jwk, map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "r"}, i.claims()),
		"another's key under its kid":             stranger.sign("at+jwt", i.claims()),
		"another's key in the header":             signWith(t, jose.ES256, stranger.private, merged(head, map[jose.HeaderKey]any{"jwk": stranger.public()}), i.claims()),
		"a kid that is not published":             headed(map[jose.HeaderKey]any{"kid": "../../etc/passwd"}),
		"an alg that the key is not for":          signWith(t, jose.PS256, rsaKey.private, map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "r"}, i.claims()),
		"ES384":                                   segment(`{"alg":"ES384","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + "." + parts[2],
		"an ID token":                             headed(map[jose.HeaderKey]any{"typ": "JWT"}),
		"a logout token":                          headed(map[jose.HeaderKey]any{"typ": "logout+jwt"}),
		"without typ":                             headed(map[jose.HeaderKey]any{"typ": nil}),
		"with crit":                               segment(`{"alg":"ES256","typ":"at+jwt","kid":"k","crit":["exp"],"exp":1}`) + "." + parts[1] + "." + parts[2],
		"with crit that is signed":                headed(map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}),
		"with b64":                                segment(`{"alg":"ES256","typ":"at+jwt","kid":"k","crit":["b64"],"b64":false}`) + "." + parts[1] + "." + parts[2],
		"changed claims":                          parts[0] + "." + segment(`{"iss":"`+i.url+`","sub":"root","aud":"`+notesAPI+`","client_id":"c","jti":"j","iat":1,"exp":9999999999}`) + "." + parts[2],
		"without its signature":                   parts[0] + "." + parts[1] + ".",
		"a signature of zeros":                    parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"four parts":                              good + "." + parts[2],
		"two parts":                               parts[0] + "." + parts[1],
		"another spelling of the signature":       good + "=",
		"another issuer":                          said("iss", "https://evil.example.com"),
		"the issuer with a slash":                 said("iss", i.url+"/"),
		"another audience":                        said("aud", "https://api.example.com/mail"),
		"other audiences":                         said("aud", []string{"a", notesAPI + "/"}),
		"no audience":                             said("aud", nil),
		"an audience that is an object":           said("aud", map[string]any{notesAPI: true}),
		"expired":                                 said("exp", at-60),
		"without exp":                             said("exp", nil),
		"exp as text":                             said("exp", strconv.FormatInt(at+3600, 10)),
		"exp of the far future":                   said("exp", 1e300),
		"of the future":                           said("iat", at+3600),
		"not yet":                                 said("nbf", at+3600),
		"without iat":                             said("iat", nil),
		"without sub":                             said("sub", nil),
		"without client_id":                       said("client_id", nil),
		"without jti":                             said("jti", nil),
		"bound in a way that nobody knows":        said("cnf", map[string]any{"kid": "x"}),
		"bound to text":                           said("cnf", "x"),
		"claims that are a list":                  key.sign("at+jwt", []any{1}),
		"a JWT of a shape that is none":           segment(`{"typ":"at+jwt"`) + ".e30.e30",
		"longer than any":                         said("x", strings.Repeat("x", 9000)),
		"an opaque one that introspection denies": "pat1.x",
		"a refresh token, which is not asked for": "prt1.x",
	} {
		expect(t, api, raw, 401, name)
	}
	if n := i.introspected.Load(); n != 1 {
		t.Errorf("introspection was asked %d times, want once, for the opaque one", n)
	}
}

// A key that others could know, or that is too weak, checks nothing, whatever its kid.
func TestPublishedKeysThatAreOfNoUse(t *testing.T) {
	i := newAuthority(t)
	secret := []byte("0123456789abcdef0123456789abcdef")
	private := newKey(t, jose.ES256, "private")
	i.with(func() {
		i.keys = append(i.keys, jose.JSONWebKey{Key: secret, KeyID: "secret"}, jose.JSONWebKey{Key: private.private, KeyID: "private"})
	})
	encrypting := newKey(t, jose.ES256, "enc")
	i.with(func() {
		i.keys = append(i.keys, jose.JSONWebKey{Key: encrypting.private.Public(), KeyID: "enc", Use: "enc"})
	})
	api := i.api(nil)
	expect(t, api, newKey(t, jose.ES256, "x").sign("at+jwt", i.claims()), 503, "with no key of a use there is no telling")
	i.publish(jose.ES256, "k")
	i.advance(time.Second)
	expect(t, api, signWith(t, jose.HS256, secret, map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "secret"}, i.claims()), 401, "a symmetric key")
	expect(t, api, private.sign("at+jwt", i.claims()), 401, "a published private key")
	expect(t, api, encrypting.sign("at+jwt", i.claims()), 401, "a key for encryption")
	// Without a kid, only where there is no choice.
	only := newKey(t, jose.EdDSA, "")
	i.with(func() { i.keys = append(i.keys, only.public()) })
	i.advance(10 * time.Second)
	expect(t, api, only.sign("at+jwt", i.claims()), 200, "without a kid, the only one of its type")
	i.with(func() { i.keys = append([]jose.JSONWebKey{newKey(t, jose.EdDSA, "second").public()}, i.keys...) })
	i.advance(10 * time.Minute)
	only2 := only.sign("at+jwt", i.claims())
	expect(t, api, only2, 401, "without a kid, one of two")
}

// Expiry is judged each time, not when the signature was remembered.
func TestAVerifiedJWTExpires(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	api := i.api(nil)
	raw := key.sign("at+jwt", i.claims("exp", i.clock().Unix()+20))
	expect(t, api, raw, 200, "at first")
	i.advance(20*time.Second + resource.Leeway - time.Second)
	expect(t, api, raw, 200, "within the leeway")
	i.advance(time.Second)
	expect(t, api, raw, 401, "afterwards")
}

// Whoever invents kids does not make the API hammer the broker.
func TestInventedKidsDoNotHammerTheBroker(t *testing.T) {
	i := newAuthority(t)
	i.publish(jose.ES256, "k")
	api := i.api(nil)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for m := range 50 {
				expect(t, api, newKeyNamed(t, n*50+m).sign("at+jwt", i.claims()), 401, "an invented kid")
			}
		})
	}
	wg.Wait()
	if n := i.fetched.Load(); n > 5 {
		t.Errorf("400 invented kids had the keys read %d times", n)
	}
	before := i.fetched.Load()
	for range 10 {
		i.advance(time.Second)
		expect(t, api, newKeyNamed(t, 1).sign("at+jwt", i.claims()), 401, "an invented kid")
	}
	if n := i.fetched.Load() - before; n > 5 {
		t.Errorf("ten seconds of them had the keys read %d times", n)
	}
	// And the broker's own new key is still found.
	i.advance(2 * time.Second)
	expect(t, api, i.publish(jose.ES256, "new").sign("at+jwt", i.claims()), 200, "a new key during a flood")
}

// What others sign for other brokers asks nothing of this one.
func TestTokensOfOtherIssuersCostNoRequest(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	api := i.api(nil)
	expect(t, api, key.sign("at+jwt", i.claims("iss", "https://evil.example.com")), 401, "another issuer's")
	if i.fetched.Load() != 0 {
		t.Error("the keys were read")
	}
}

var spareKeys sync.Map

// newKeyNamed is some key under an invented kid.
func newKeyNamed(t testing.TB, n int) *signingKey {
	k, _ := spareKeys.LoadOrStore("one", newKey(t, jose.ES256, ""))
	named := *k.(*signingKey)
	named.t, named.kid = t, "invented-"+strconv.Itoa(n)
	return &named
}

// The broker signs with a new key, under load: no request fails, and the keys are read once for all that wait.
func TestANewKeyFailsNoRequest(t *testing.T) {
	i := newAuthority(t)
	i.publish(jose.ES256, "k0")
	api := i.api(nil)
	for n := range 5 {
		key := i.publish(jose.ES256, "k"+strconv.Itoa(n+1))
		tokens := make([]string, 40)
		for m := range tokens {
			tokens[m] = key.sign("at+jwt", i.claims())
		}
		before := i.fetched.Load()
		var failed atomic.Int32
		var wg sync.WaitGroup
		for _, raw := range tokens {
			wg.Go(func() {
				if status(api, raw) != 200 {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 0 {
			t.Errorf("round %d: %d of 40 failed", n, failed.Load())
		}
		if read := i.fetched.Load() - before; read > 2 {
			t.Errorf("round %d: the keys were read %d times", n, read)
		}
		i.advance(3 * time.Second)
	}
}

// The broker is away: JWTs are answered for hours, without waiting for it, and no longer. When it is back, so is everything.
func TestJWTsOutliveTheBroker(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	var log logs
	api := i.api(func(o *resource.Options) { o.Log = log.logger() })
	fresh := func() string { return key.sign("at+jwt", i.claims()) }
	i.down.Store(true)
	expect(t, api, fresh(), 503, "before the keys were ever read")
	i.down.Store(false)
	expect(t, api, fresh(), 503, "at once after a failure")
	i.advance(time.Second)
	expect(t, api, fresh(), 200, "when the broker is there")
	read := i.clock()
	i.down.Store(true)
	for i.clock().Before(read.Add(resource.KeysTrustedFor - 20*time.Minute)) {
		i.advance(10 * time.Minute)
		expect(t, api, fresh(), 200, "while the broker is away")
	}
	// It takes connections and says nothing: nobody waits.
	i.down.Store(false)
	release := i.hang()
	defer release()
	began := time.Now()
	for range 100 {
		expect(t, api, fresh(), 200, "while the broker hangs")
	}
	if took := time.Since(began); took > 2*time.Second { // of the three that a question may take
		t.Errorf("100 requests waited for %v", took)
	}
	i.down.Store(true)
	release()
	i.advance(30 * time.Minute)
	expect(t, api, fresh(), 503, "after the bound")
	i.down.Store(false)
	i.advance(time.Second)
	expect(t, api, fresh(), 200, "when the broker is back")
	if n := strings.Count(log.String(), "the broker's keys cannot be read"); n != 2 {
		t.Errorf("the log says %d times that the keys cannot be read", n)
	}
}

// Keys are read again in the background before they are stale, so that no request waits; once they are, a request waits, so that a withdrawn key
// ends.
func TestKeysAreReadAgainBeforeTheyAreStale(t *testing.T) {
	i := newAuthority(t)
	key := i.publish(jose.ES256, "k")
	api := i.api(nil)
	expect(t, api, key.sign("at+jwt", i.claims()), 200, "at first")
	i.advance(3 * time.Minute) // of five
	release := i.hang()
	raw := key.sign("at+jwt", i.claims())
	began := time.Now()
	expect(t, api, raw, 200, "while they are read in the background")
	if took := time.Since(began); took > 2*time.Second { // of the three that a question may take
		t.Errorf("a request waited for %v", took)
	}
	release()
	// A key that nobody knows has the keys read once more, after what is under way: then nothing is any more.
	expect(t, api, newKey(t, jose.ES256, "unknown").sign("at+jwt", i.claims()), 401, "with a key that nobody knows")
	if n := i.fetched.Load(); n != 3 {
		t.Errorf("the keys were read %d times: at first, in the background, and for a key that nobody knows", n)
	}
	i.with(func() { i.keys = nil })
	other := i.publish(jose.ES256, "other")
	i.advance(10 * time.Minute) // an API that nobody called
	expect(t, api, raw, 401, "with a key that was withdrawn meanwhile")
	expect(t, api, other.sign("at+jwt", i.claims()), 200, "with the new one")
}

// RFC 8414 section 3.3: metadata of somebody else, or that leads where secrets must not go, is none.
func TestMetadataThatIsNotTheIssuers(t *testing.T) {
	for name, edit := range map[string]func(m map[string]any){
		"of another issuer":           func(m map[string]any) { m["issuer"] = "https://evil.example.com" },
		"without issuer":              func(m map[string]any) { delete(m, "issuer") },
		"with keys over http":         func(m map[string]any) { m["jwks_uri"] = "http://keys.example.com/jwks" },
		"without keys":                func(m map[string]any) { delete(m, "jwks_uri") },
		"with introspection by http":  func(m map[string]any) { m["introspection_endpoint"] = "http://evil.example.com/i" },
		"with keys that are nowhere":  func(m map[string]any) { m["jwks_uri"] = m["issuer"].(string) + "/nowhere" },
		"with keys in a file":         func(m map[string]any) { m["jwks_uri"] = "file:///etc/passwd" },
		"longer than may be read":     func(m map[string]any) { m["x"] = strings.Repeat("x", 300<<10) },
		"with an issuer of more text": func(m map[string]any) { m["issuer"] = m["issuer"].(string) + "/" },
	} {
		i := newAuthority(t)
		key := i.publish(jose.ES256, "k")
		i.with(func() { edit(i.metadata) })
		api := i.api(nil)
		expect(t, api, key.sign("at+jwt", i.claims()), 503, name)
		// What was wrong once is read again.
		i.with(func() {
			i.metadata = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "introspection_endpoint": i.url + "/introspect"}
		})
		i.advance(time.Second)
		expect(t, api, key.sign("at+jwt", i.claims()), 200, name+", mended")
	}
}
