package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const endpoint = "https://login.example.com/token"

var now = time.Unix(1_790_000_000, 0)

var want = Request{Method: "POST", URLs: []string{endpoint}}

func segment(v any) string {
	raw, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		raw = string(b)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(raw))
}

func generate(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publicJWK is the key's public part as a library writes it that knows nothing of this package.
func publicJWK(t testing.TB, key crypto.Signer) map[string]any {
	t.Helper()
	raw, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

// proof signs a proof with go-jose; edits change its header and claims before that, nil removes.
func proof(t testing.TB, alg string, key crypto.Signer, headerEdits, claimEdits map[string]any) string {
	t.Helper()
	head := edited(map[string]any{"typ": Type, "alg": alg, "jwk": publicJWK(t, key)}, headerEdits)
	body := edited(map[string]any{"jti": "id-1", "htm": "POST", "htu": endpoint, "iat": now.Unix()}, claimEdits)
	return sign(t, alg, key, segment(head)+"."+segment(body))
}

func edited(m, edits map[string]any) map[string]any {
	m = maps.Clone(m)
	for name, value := range edits {
		if value == nil {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
	return m
}

func sign(t testing.TB, alg string, key crypto.Signer, input string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, k, digest[:])
		err = failed
		signature = make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(k, []byte(input))
	case *rsa.PrivateKey:
		if alg == PS256 {
			signature, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// A proof that a JOSE library makes is accepted, and its thumbprint is the one that library computes (RFC 7638).
func TestProofsOfALibraryStand(t *testing.T) {
	for _, alg := range Algorithms() {
		t.Run(alg, func(t *testing.T) {
			key := generate(t, alg)
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key},
				(&jose.SignerOptions{EmbedJWK: true}).WithType(Type))
			if err != nil {
				t.Fatal(err)
			}
			for range 20 { // ECDSA's numbers may be short, and must be padded
				signed, err := signer.Sign(fmt.Appendf(nil, `{"jti":"a","htm":"POST","htu":%q,"iat":%d,"nonce":"n"}`, endpoint, now.Unix()))
				if err != nil {
					t.Fatal(err)
				}
				raw, err := signed.CompactSerialize()
				if err != nil {
					t.Fatal(err)
				}
				p, err := Check(raw, want, now)
				if err != nil {
					t.Fatal(err)
				}
				thumbprint, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if p.JKT != base64.RawURLEncoding.EncodeToString(thumbprint) || p.ID != "a" || p.Nonce != "n" || p.URL != endpoint {
					t.Errorf("read as %+v", p)
				}
				if !ValidThumbprint(p.JKT) {
					t.Errorf("%q is no thumbprint", p.JKT)
				}
			}
		})
	}
}

// The example of RFC 9449 section 4.2, and its thumbprint from section 6.1.
func TestTheRFCsExample(t *testing.T) {
	const raw = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19." +
		"eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ." +
		"2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	p, err := Check(raw, Request{Method: "POST", URLs: []string{"https://server.example.com/token"}}, time.Unix(1562262616, 0))
	if err != nil {
		t.Fatal(err)
	}
	if p.JKT != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" || p.ID != "-BwC3ESc6acc2lTc" {
		t.Errorf("read as %+v", p)
	}
}

// Section 4.3, point by point: whatever is wrong with a proof, it is refused, and the client is told.
func TestWhatIsWrongWithAProofIsRefused(t *testing.T) {
	key := generate(t, ES256)
	other := generate(t, ES256)
	private, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var privateJWK map[string]any
	if err := json.Unmarshal(private, &privateJWK); err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := generate(t, RS256)
	jwk := publicJWK(t, key)
	with := func(headerEdits, claimEdits map[string]any) string {
		return proof(t, ES256, key, headerEdits, claimEdits)
	}
	head := func(edits map[string]any) string { return with(edits, nil) }
	body := func(edits map[string]any) string { return with(nil, edits) }
	key2 := func(edits map[string]any) string { return head(map[string]any{"jwk": edited(jwk, edits)}) }
	good := with(nil, nil)
	parts := strings.Split(good, ".")
	symmetric := segment(map[string]any{"typ": Type, "alg": "HS256", "jwk": map[string]any{"kty": "oct", "k": "c2VjcmV0"}}) + "." + parts[1]
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte(symmetric))
	paddedN := "AAAA" + publicJWK(t, rsaKey)["n"].(string)

	for name, c := range map[string]struct {
		raw  string
		want string // a word of what the client is told
	}{
		"empty":                           {"", "JWT"},
		"no JWT":                          {"proof", "JWT"},
		"two parts":                       {parts[0] + "." + parts[1], "JWT"},
		"four parts":                      {good + ".x", "JWT"},
		"two proofs in one header":        {good + ", " + good, ""},
		"huge":                            {good + strings.Repeat("A", MaxProofBytes), "longer"},
		"header is not base64url":         {"!" + good, "header"},
		"header is not JSON":              {segment("x") + "." + parts[1] + "." + parts[2], "header"},
		"header is null":                  {segment("null") + "." + parts[1] + "." + parts[2], "typ"},
		"no typ":                          {head(map[string]any{"typ": nil}), "typ"},
		"typ JWT":                         {head(map[string]any{"typ": "JWT"}), "typ"},
		"typ of an access token":          {head(map[string]any{"typ": "at+jwt"}), "typ"},
		"no alg":                          {head(map[string]any{"alg": nil}), "alg"},
		"alg none":                        {segment(map[string]any{"typ": Type, "alg": "none", "jwk": jwk}) + "." + parts[1] + ".", "alg"},
		"alg None":                        {head(map[string]any{"alg": "None"}), "alg"},
		"alg HS256":                       {symmetric + "." + segment(string(mac.Sum(nil))), "alg"},
		"alg ES384":                       {head(map[string]any{"alg": "ES384"}), "alg"},
		"alg of another kind of key":      {head(map[string]any{"alg": RS256}), "RSA"},
		"no jwk":                          {head(map[string]any{"jwk": nil}), "jwk"},
		"kid instead of jwk":              {head(map[string]any{"jwk": nil, "kid": "1"}), "jwk"},
		"jku instead of jwk":              {head(map[string]any{"jwk": nil, "jku": "https://evil.example.com/"}), "jwk"},
		"jwk is a string":                 {head(map[string]any{"jwk": "x"}), "header"},
		"jwk is empty":                    {head(map[string]any{"jwk": map[string]any{}}), "kty EC"},
		"private key":                     {head(map[string]any{"jwk": privateJWK}), "private"},
		"private member is null":          {head(map[string]any{"jwk": json.RawMessage(strings.Replace(string(mustJSON(jwk)), "{", `{"d":null,`, 1))}), "private"},
		"private member is empty":         {key2(map[string]any{"d": ""}), "private"},
		"a symmetric key beside it":       {key2(map[string]any{"k": "c2VjcmV0"}), "private"},
		"jwk for encryption":              {key2(map[string]any{"use": "enc"}), "signatures"},
		"jwk for signing alone":           {key2(map[string]any{"key_ops": []string{"sign"}}), "signatures"},
		"jwk of another alg":              {key2(map[string]any{"alg": "ES512"}), "alg"},
		"kty OKP":                         {key2(map[string]any{"kty": "OKP"}), "kty EC"},
		"crv P-384":                       {head(map[string]any{"jwk": publicJWK(t, p384)}), "P-256"},
		"crv secp256k1":                   {key2(map[string]any{"crv": "secp256k1"}), "P-256"},
		"a point off the curve":           {key2(map[string]any{"x": jwk["y"], "y": jwk["x"]}), "curve"},
		"the point at infinity":           {key2(map[string]any{"x": segment(string(make([]byte, 32))), "y": segment(string(make([]byte, 32)))}), "curve"},
		"a coordinate with a zero before": {key2(map[string]any{"x": segment("\x00" + mustDecode(jwk["x"].(string)))}), "kty EC"},
		"a coordinate with padding":       {key2(map[string]any{"x": jwk["x"].(string) + "="}), "kty EC"},
		"another's key":                   {head(map[string]any{"jwk": publicJWK(t, other)}), "signature"},
		"signature of other claims":       {parts[0] + "." + segment(map[string]any{"jti": "b", "htm": "POST", "htu": endpoint, "iat": now.Unix()}) + "." + parts[2], "signature"},
		"no signature":                    {parts[0] + "." + parts[1] + ".", "signature"},
		"signature of zeros":              {parts[0] + "." + parts[1] + "." + segment(string(make([]byte, 64))), "signature"},
		"signature cut short":             {good[:len(good)-2], "signature"},
		"signature with a line break":     {good + "\n", "signature"},
		"crit":                            {head(map[string]any{"crit": []string{"x"}, "x": 1}), "crit"},
		"crit empty":                      {head(map[string]any{"crit": []string{}}), "crit"},
		"b64":                             {head(map[string]any{"b64": false}), "b64"},
		"RSA of 1024 bits":                {proof(t, RS256, weak, nil, nil), "bits"},
		"RSA number with zeros before":    {proof(t, RS256, rsaKey, map[string]any{"jwk": edited(publicJWK(t, rsaKey), map[string]any{"n": paddedN})}, nil), "RSA"},
		"RSA exponent with a zero before": {proof(t, RS256, rsaKey, map[string]any{"jwk": edited(publicJWK(t, rsaKey), map[string]any{"e": "AAEAAQ"})}, nil), "RSA"},
		"RSA exponent of one":             {proof(t, RS256, rsaKey, map[string]any{"jwk": edited(publicJWK(t, rsaKey), map[string]any{"e": "AQ"})}, nil), "signature"},
		"PS256 header, PKCS #1 signature": {sign(t, RS256, rsaKey, segment(map[string]any{"typ": Type, "alg": PS256, "jwk": publicJWK(t, rsaKey)})+"."+parts[1]), "signature"},
		"claims are not JSON":             {sign(t, ES256, key, parts[0]+"."+segment("x")), "claims"},
		"claims are an array":             {sign(t, ES256, key, parts[0]+"."+segment("[]")), "claims"},
		"claims are null":                 {sign(t, ES256, key, parts[0]+"."+segment("null")), "htu"},
		"no jti":                          {body(map[string]any{"jti": nil}), "jti"},
		"jti is empty":                    {body(map[string]any{"jti": ""}), "jti"},
		"jti is a number":                 {body(map[string]any{"jti": 1}), "claims"},
		"jti too long":                    {body(map[string]any{"jti": strings.Repeat("a", maxID+1)}), "jti"},
		"no htm":                          {body(map[string]any{"htm": nil}), "htm"},
		"another method":                  {body(map[string]any{"htm": "GET"}), "htm"},
		"method in lower case":            {body(map[string]any{"htm": "post"}), "htm"},
		"no htu":                          {body(map[string]any{"htu": nil}), "htu"},
		"another path":                    {body(map[string]any{"htu": "https://login.example.com/userinfo"}), "htu"},
		"a path below":                    {body(map[string]any{"htu": endpoint + "/x"}), "htu"},
		"a slash more":                    {body(map[string]any{"htu": endpoint + "/"}), "htu"},
		"another host":                    {body(map[string]any{"htu": "https://evil.example.com/token"}), "htu"},
		"another port":                    {body(map[string]any{"htu": "https://login.example.com:8443/token"}), "htu"},
		"http":                            {body(map[string]any{"htu": "http://login.example.com/token"}), "htu"},
		"user information":                {body(map[string]any{"htu": "https://login.example.com@evil.example.com/token"}), "htu"},
		"the issuer alone":                {body(map[string]any{"htu": "https://login.example.com"}), "htu"},
		"a path alone":                    {body(map[string]any{"htu": "/token"}), "htu"},
		"another case in the path":        {body(map[string]any{"htu": "https://login.example.com/TOKEN"}), "htu"},
		"no iat":                          {body(map[string]any{"iat": nil}), "iat"},
		"iat is a string":                 {body(map[string]any{"iat": "1790000000"}), "claims"},
		"old":                             {body(map[string]any{"iat": now.Add(-MaxAge - Leeway).Unix()}), "older"},
		"an hour old":                     {body(map[string]any{"iat": now.Add(-time.Hour).Unix()}), "older"},
		"iat 0":                           {body(map[string]any{"iat": 0}), "older"},
		"iat of minus infinity, nearly":   {body(map[string]any{"iat": -1e300}), "older"},
		"from the future":                 {body(map[string]any{"iat": now.Add(Leeway + time.Second).Unix()}), "future"},
		"from an hour in the future":      {body(map[string]any{"iat": now.Add(time.Hour).Unix()}), "future"},
		"from the far future":             {body(map[string]any{"iat": 1e300}), "future"},
		"nbf in the future":               {body(map[string]any{"nbf": now.Add(time.Hour).Unix()}), "nbf"},
		"expired":                         {body(map[string]any{"exp": now.Add(-time.Minute).Unix()}), "expired"},
	} {
		p, err := Check(c.raw, want, now)
		if p != nil || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error about %q", name, p, err, c.want)
		}
	}
	if _, err := Check(good, want, now); err != nil {
		t.Errorf("the proof that all of these are made of: %v", err)
	}
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func mustDecode(s string) string {
	raw, ok := decode(s)
	if !ok {
		panic(s)
	}
	return string(raw)
}

// What must not make a difference: FAPI 2.0's conformance tests send each of these.
func TestWhatAProofMaySay(t *testing.T) {
	key := generate(t, ES256)
	for name, edits := range map[string][2]map[string]any{
		"unknown members":                    {{"kid": "1", "x5c": []string{"AA"}, "foo": "bar"}, {"foo": "bar"}},
		"10 seconds old":                     {nil, {"iat": now.Unix() - 10}},
		"10 seconds ahead":                   {nil, {"iat": now.Unix() + 10}},
		"a fraction of a second":             {nil, {"iat": float64(now.Unix()) + 0.25}},
		"as old as it may be":                {nil, {"iat": now.Add(-MaxAge-Leeway).Unix() + 1}},
		"nbf and exp":                        {nil, {"nbf": now.Unix(), "exp": now.Unix() + 300}},
		"jwk with its alg and use":           {{"jwk": edited(publicJWK(t, key), map[string]any{"alg": "ES256", "use": "sig", "key_ops": []string{"verify"}, "kid": "1"})}, nil},
		"htu with a query":                   {nil, {"htu": endpoint + "?x=1"}},
		"htu with a fragment":                {nil, {"htu": endpoint + "#x"}},
		"htu with both":                      {nil, {"htu": endpoint + "?x=1#x"}},
		"htu with an upper-case host":        {nil, {"htu": "HTTPS://LOGIN.Example.com/token"}},
		"htu with the default port":          {nil, {"htu": "https://login.example.com:443/token"}},
		"htu with an empty port":             {nil, {"htu": "https://login.example.com:/token"}},
		"htu with needless escapes":          {nil, {"htu": "https://login.example.com/%74oken"}},
		"htu with dot segments":              {nil, {"htu": "https://login.example.com/x/../token"}},
		"a long jti":                         {nil, {"jti": strings.Repeat("a", maxID)}},
		"ath where there is no access token": {nil, {"ath": "x"}},
	} {
		if _, err := Check(proof(t, ES256, key, edits[0], edits[1]), want, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Section 4.3 point 12: a proof serves for one access token.
func TestATHBindsToTheToken(t *testing.T) {
	key := generate(t, EdDSA)
	sum := sha256.Sum256([]byte("token-1"))
	with := proof(t, EdDSA, key, nil, map[string]any{"ath": base64.RawURLEncoding.EncodeToString(sum[:])})
	resource := want
	resource.AccessToken = "token-1"
	if _, err := Check(with, resource, now); err != nil {
		t.Error(err)
	}
	if _, err := Check(proof(t, EdDSA, key, nil, nil), resource, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("without ath: %v", err)
	}
	resource.AccessToken = "token-2"
	if _, err := Check(with, resource, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("with another token: %v", err)
	}
}

// An endpoint with an alias for clients with certificates is one endpoint (RFC 8705 section 5).
func TestAProofMayNameTheAlias(t *testing.T) {
	key := generate(t, ES256)
	two := want
	two.URLs = []string{endpoint, "https://mtls.example.com/token"}
	for _, htu := range two.URLs {
		if p, err := Check(proof(t, ES256, key, nil, map[string]any{"htu": htu}), two, now); err != nil || p.URL != htu {
			t.Errorf("%s: %+v, %v", htu, p, err)
		}
	}
	if _, err := Check(proof(t, ES256, key, nil, map[string]any{"htu": "https://mtls.example.com/userinfo"}), two, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("another endpoint there: %v", err)
	}
}

// A client that is held to a profile may be allowed fewer algorithms.
func TestAlgorithmsCanBeNarrowed(t *testing.T) {
	narrow := want
	narrow.Algorithms = []string{ES256, PS256}
	rsaKey := generate(t, RS256)
	if _, err := Check(proof(t, RS256, rsaKey, nil, nil), narrow, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("RS256: %v", err)
	}
	if _, err := Check(proof(t, PS256, rsaKey, nil, nil), narrow, now); err != nil {
		t.Errorf("PS256: %v", err)
	}
}

// A proof is remembered for as long as it would be accepted, not a moment less.
func TestExpiresIsWhenAProofCeasesToStand(t *testing.T) {
	key := generate(t, ES256)
	for _, iat := range []float64{0, 10, -30, 0.5} {
		raw := proof(t, ES256, key, nil, map[string]any{"iat": float64(now.Unix()) + iat})
		p, err := Check(raw, want, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Check(raw, want, p.Expires.Add(-time.Millisecond)); err != nil {
			t.Errorf("iat %+v: just before Expires: %v", iat, err)
		}
		if _, err := Check(raw, want, p.Expires); err == nil {
			t.Errorf("iat %+v: accepted at Expires", iat)
		}
	}
}

func TestOnlyOneHeader(t *testing.T) {
	h := http.Header{}
	if raw, err := FromHeader(h); raw != "" || err != nil {
		t.Errorf("none: %q, %v", raw, err)
	}
	h.Add("dpop", "a")
	if raw, err := FromHeader(h); raw != "a" || err != nil {
		t.Errorf("one: %q, %v", raw, err)
	}
	h.Add("DPOP", "a")
	if _, err := FromHeader(h); !errors.Is(err, ErrTooMany) || !errors.Is(err, ErrInvalid) {
		t.Errorf("two: %v", err)
	}
	if _, err := FromHeader(http.Header{"Dpop": {""}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty one: %v", err)
	}
}

func TestNormalize(t *testing.T) {
	for raw, want := range map[string]string{
		"https://a.example/token":                "https://a.example/token",
		"HTTPS://A.Example:443/token?x#y":        "https://a.example/token",
		"http://127.0.0.1:80/token":              "http://127.0.0.1/token",
		"http://127.0.0.1:8080/token":            "http://127.0.0.1:8080/token",
		"http://[::1]:80/token":                  "http://[::1]/token",
		"https://a.example:80/":                  "https://a.example:80/",
		"https://a.example":                      "https://a.example/",
		"https://a.example/./x/../token":         "https://a.example/token",
		"https://a.example/%7Euser/%2f%2F%c3":    "https://a.example/~user/%2F%2F%C3",
		"https://a.example/x%2E%2E/%2e%2e/y":     "https://a.example/y",
		"https://a.example/a//b":                 "https://a.example/a//b",
		"ftp://a.example/":                       "",
		"javascript:alert(1)":                    "",
		"/token":                                 "",
		"//a.example/token":                      "",
		"https:///token":                         "",
		"https://u@a.example/":                   "",
		"https://a.example/%zz":                  "",
		"https://a.example/\x00":                 "",
		"":                                       "",
		"https://" + strings.Repeat("a", maxURL): "",
	} {
		got, ok := Normalize(raw)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", raw, got, ok, want)
		}
		if again, _ := Normalize(got); ok && again != got {
			t.Errorf("%q is not stable: %q", got, again)
		}
	}
}

func TestValidThumbprint(t *testing.T) {
	good := "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	if !ValidThumbprint(good) {
		t.Error("the RFC's own is refused")
	}
	for _, bad := range []string{"", "x", good[:42], good + "A", good + "=", good[:42] + "J", good[:20] + "\n" + good[21:]} {
		if ValidThumbprint(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// digester is a keyring of one secret.
type digester string

func (d digester) Digest(purpose, value string) string {
	return string(d) + "." + purpose + "." + value
}

func (d digester) DigestMatches(purpose, digest, value string) bool {
	return digest == d.Digest(purpose, value)
}

// A nonce serves for its own window and the next, on every node of the same keyring, and never again.
func TestNoncesLastForTwoWindows(t *testing.T) {
	n, another := NewNonces(digester("k")), NewNonces(digester("other"))
	start := now.Truncate(NonceWindow)
	_, nonce := n.Judge("", true, start)
	for _, c := range []struct {
		at           time.Duration
		valid, fresh bool
	}{
		{-NonceWindow - time.Second, false, false},
		{-time.Second, true, true}, // at a node whose clock is behind
		{0, true, true},
		{NonceWindow - time.Second, true, true},
		{NonceWindow, true, false},
		{2*NonceWindow - time.Second, true, false},
		{2 * NonceWindow, false, false},
		{24 * time.Hour, false, false},
	} {
		for _, isRequired := range []bool{true, false} {
			if valid, next := n.Judge(nonce, isRequired, start.Add(c.at)); valid != c.valid || (next == "") != c.fresh {
				t.Errorf("after %s: valid %v, next %q", c.at, valid, next)
			}
		}
	}
	if _, next := n.Judge(nonce, true, start.Add(NonceWindow)); next == nonce {
		t.Error("the next window has the same nonce")
	}
	if valid, _ := another.Judge(nonce, true, start); valid {
		t.Error("a nonce of another keyring is valid")
	}
	if valid, next := n.Judge("", true, start); valid || next != nonce {
		t.Errorf("no nonce, where one is required: valid %v, next %q", valid, next)
	}
	if valid, next := n.Judge("", false, start); !valid || next != "" {
		t.Errorf("no nonce, where none is required: valid %v, next %q", valid, next)
	}
}

func FuzzCheck(f *testing.F) {
	for _, alg := range Algorithms() {
		f.Add(proof(f, alg, generate(f, alg), nil, nil))
	}
	f.Add("..")
	f.Add(segment(`{"typ":"dpop+jwt","alg":"none","jwk":{}}`) + "." + segment(`{}`) + ".")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := Check(raw, want, now)
		if (p == nil) != (err != nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("%+v, %v", p, err)
		}
		if err != nil {
			return
		}
		if !ValidThumbprint(p.JKT) || p.ID == "" || !p.Expires.After(now) || p.Expires.After(now.Add(MaxAge+2*Leeway)) {
			t.Errorf("%q stands as %+v", raw, p)
		}
		// What stands, a library that knows nothing of this package takes as well.
		parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256})
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if _, err := parsed.Verify(parsed.Signatures[0].Protected.JSONWebKey); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{endpoint, "HTTP://A:80/%41/../%2f?x#y", "https://[::1]:443/.", "https://a/%", "https://a/%2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		once, ok := Normalize(raw)
		if !ok {
			return
		}
		if twice, ok := Normalize(once); len(once) <= maxURL && (!ok || twice != once) {
			t.Errorf("%q became %q and then %q", raw, once, twice)
		}
	})
}

func BenchmarkProof(b *testing.B) {
	for _, alg := range Algorithms() {
		b.Run(alg, func(b *testing.B) {
			raw := proof(b, alg, generate(b, alg), nil, nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Check(raw, want, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
