package oauth

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/challenge"
)

// The bounds of time, to the second; what else is judged is shown through HTTP in broker/clientauth_test.go.
func TestHowFarAnAssertionsTimesMayBeOff(t *testing.T) {
	const issuer = "https://login.example.com"
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		claim string
		off   time.Duration
		ok    bool
	}{
		{"exp", time.Second, true},
		{"exp", 0, false},
		{"exp", -time.Second, false},
		{"exp", maxAssertionLife, true},
		{"exp", maxAssertionLife + time.Second, false},
		{"nbf", -time.Hour, true},
		{"nbf", assertionLeeway, true},
		{"nbf", assertionLeeway + time.Second, false},
		{"iat", assertionLeeway, true},
		{"iat", assertionLeeway + time.Second, false},
	} {
		text := fmt.Sprintf(`{"aud":%q,"jti":"1","exp":%d,%q:%d}`, issuer, now.Unix()+60, c.claim, now.Add(c.off).Unix())
		claims, err := parseAssertion([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := claims.judge(now, []string{issuer}, true); (err == nil) != c.ok {
			t.Errorf("%s %s off: got %v, want ok: %t", c.claim, c.off, err, c.ok)
		}
	}
}

func TestOneKindOfJWTDoesNotPassForAnother(t *testing.T) {
	for typ, want := range map[string]bool{
		"": true, "JWT": true, "jwt": true, "application/jwt": true, "client-authentication+jwt": true, "Client-Authentication+JWT": true,
		"at+jwt": false, "dpop+jwt": false, "logout+jwt": false, "oauth-authz-req+jwt": false, "authorization-grant+jwt": false, "application/": true,
	} {
		if got := typeAllowed(typ, typeClientAssertion); got != want {
			t.Errorf("%q: got %t, want %t", typ, got, want)
		}
	}
}

// Whatever a stranger sends as an assertion: nothing panics, nothing without a name is somebody, and nothing that is out of bounds is good.
func FuzzAssertion(f *testing.F) {
	const issuer = "https://login.example.com"
	now := time.Unix(1_800_000_000, 0)
	encode := base64.RawURLEncoding.EncodeToString
	for _, payload := range []string{
		`{"iss":"a","sub":"a","aud":"https://login.example.com","jti":"1","exp":1800000060,"iat":1800000000}`,
		`{"iss":"a","sub":"a","aud":["https://login.example.com"],"jti":"1","exp":1.80000006e9}`,
		`{"aud":null,"exp":1e400}`, `{"aud":[1]}`, `[]`, `null`, ``,
	} {
		f.Add(encode([]byte(`{"alg":"ES256","kid":"1"}`))+"."+encode([]byte(payload))+"."+encode(make([]byte, 64)), []byte(payload))
		f.Add(encode([]byte(`{"alg":"HS256","crit":["b64"],"b64":false}`))+"."+payload+"."+encode(make([]byte, 32)), []byte(payload))
	}
	f.Fuzz(func(t *testing.T, raw string, payload []byte) {
		c, refusal := readAssertion("", assertionTypeJWT, raw)
		if refusal == nil && (c.id == "" || c.method != registry.AuthPrivateKeyJWT && c.method != registry.AuthSecretJWT) {
			t.Errorf("%q is from %+v", raw, c)
		}
		if refusal != nil && strings.ContainsAny(challenge.Text(refusal.Description), "\"\\\r\n") {
			t.Errorf("%q is answered %q", raw, refusal.Description)
		}
		claims, err := parseAssertion(payload)
		if err != nil || claims.judge(now, []string{issuer}, false) != nil {
			return
		}
		end := claims.Expires.Time()
		if claims.ID == "" || !end.After(now) || end.After(now.Add(maxAssertionLife)) || len(claims.Audience.values) == 0 {
			t.Errorf("%q is good", payload)
		}
	})
}
