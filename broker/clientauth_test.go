package broker_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker"
	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// clientKeys are the keys of the tests' apps, made once.
var clientKeys = sync.OnceValue(func() (k struct {
	ec, other *ecdsa.PrivateKey
	rsa       *rsa.PrivateKey
},
) {
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.other, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	return k
})

// jwks is the text of the key sets of the tests' apps: public parts, each with its kid.
func jwks(t testing.TB, keys map[string]crypto.Signer) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for kid, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sign makes a JWT.
func sign(t testing.TB, alg string, key any, header map[string]string, claims map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	return SignJWT(t, jose.SignatureAlgorithm(alg), key, options, claims)
}

// claimsOf are those of a good client assertion, changed by edits (a nil value removes).
func claimsOf(e *Env, client string, edits ...map[string]any) map[string]any {
	now := e.Clock.Now()
	claims := map[string]any{
		"iss": client, "sub": client, "aud": e.Issuer, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	for _, edit := range edits {
		for name, value := range edit {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
	}
	return claims
}

// withAssertion is a form with a client assertion in it.
func withAssertion(raw string, form url.Values) url.Values {
	form = maps.Clone(form)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", raw)
	return form
}

// anyToken is a request to introspection, which tells whether a client authenticated and needs nothing else.
var anyToken = url.Values{"token": {"no-token"}}

const jwtSecret = "jwt-secret-0123456789-0123456789-0123456789"

// keyClients adds clients that authenticate with assertions: keys (ES256 or RSA), fapi (held to FAPI 2.0), hmac (client_secret_jwt), and one
// whose keys are at an address.
func keyClients(t testing.TB, uri string) func(*config.Config) {
	k := clientKeys()
	mine := jwks(t, map[string]crypto.Signer{"ec": k.ec, "rsa": k.rsa})
	add := func(c *config.Config, id string, edit func(*config.Client)) {
		client := c.Clients[0]
		client.ClientID, client.ClientSecret = id, config.Secret{}
		client.TokenEndpointAuthMethod = "private_key_jwt"
		client.JWKS = config.NewSecret(mine)
		edit(&client)
		c.Clients = append(c.Clients, client)
	}
	return func(c *config.Config) {
		add(c, "keys", func(*config.Client) {})
		add(c, "stranger", func(client *config.Client) {
			client.JWKS = config.NewSecret(jwks(t, map[string]crypto.Signer{"ec": k.other}))
		})
		add(c, "picky", func(client *config.Client) { client.TokenEndpointAuthSigningAlg = "PS256" })
		add(c, "hmac", func(client *config.Client) {
			client.JWKS, client.TokenEndpointAuthMethod = config.Secret{}, "client_secret_jwt"
			client.ClientSecret = config.NewSecret(jwtSecret)
		})
		if uri != "" {
			add(c, "remote", func(client *config.Client) { client.JWKS, client.JWKSURI = config.Secret{}, uri })
			c.Fetch.AllowPrivate = true
		}
	}
}

// Whoever is refused is told little; the operator finds in the log which client it was, and why. What names no client is not repeated there: it may be a
// secret that stands in the wrong place.
func TestTheLogNamesTheClientThatIsRefused(t *testing.T) {
	e := Start(t)
	grant := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"none"}}
	expectError(t, e.Post(t, "/token", Client{ID: Web.ID, Secret: "not-it"}, grant), "invalid_client")
	expectError(t, e.Post(t, "/token", Client{ID: Web.Secret, Secret: Web.ID}, grant), "invalid_client")
	expectError(t, e.Post(t, "/token", Web, grant), "invalid_grant")
	NewBrowser(t).Get(e.AuthorizeURL(Web, "scope", "nonsense"))
	var refused []map[string]any
	for line := range strings.Lines(e.Logs.String()) {
		var said map[string]any
		if json.Unmarshal([]byte(line), &said) == nil && said["msg"] == "refused" {
			refused = append(refused, said)
		}
	}
	if len(refused) != 4 {
		t.Fatalf("%d refusals: %v", len(refused), refused)
	}
	for i, want := range []any{Web.ID, nil, Web.ID, Web.ID} {
		if refused[i]["client_id"] != want {
			t.Errorf("the client is %v in %v", refused[i]["client_id"], refused[i])
		}
	}
	if refused[0]["cause"] != "wrong secret" || !strings.Contains(e.Logs.String(), `"client_ip":"127.0.0.1","client_id":"`+Web.ID+`"`) {
		t.Errorf("the log says\n%s", e.Logs.String())
	}
	for _, secret := range []string{Web.Secret, "not-it"} {
		if strings.Contains(e.Logs.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// Every way in which an assertion can be wrong, each of which has let somebody be a client that he is not, in some server (RFC 7523 section 3,
// RFC 8725).
func TestClientAssertions(t *testing.T) {
	e := Start(t, keyClients(t, ""))
	k := clientKeys()
	ec := map[string]string{"kid": "ec"}
	good := func(client string, edits map[string]any) string {
		return sign(t, "ES256", k.ec, ec, claimsOf(e, client, edits))
	}
	at := func(d time.Duration) int64 { return e.Clock.Now().Add(d).Unix() }
	publicPEM := func() []byte {
		der, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}()
	none := strings.Join([]string{"eyJhbGciOiJub25lIiwia2lkIjoiZWMifQ", strings.Split(good("keys", nil), ".")[1], ""}, ".")
	const invalid = "invalid_client"
	for _, c := range []struct {
		name string
		raw  string
		want string // the error; "" for none
	}{
		{"ES256", good("keys", nil), ""},
		{"PS256", sign(t, "PS256", k.rsa, map[string]string{"kid": "rsa"}, claimsOf(e, "keys", nil)), ""},
		{"RS256", sign(t, "RS256", k.rsa, map[string]string{"kid": "rsa"}, claimsOf(e, "keys", nil)), ""},
		{"the one algorithm that is registered", sign(t, "PS256", k.rsa, map[string]string{"kid": "rsa"}, claimsOf(e, "picky", nil)), ""},
		{"another one", good("picky", nil), invalid},
		{"the type of RFC 7523bis", sign(t, "ES256", k.ec, map[string]string{"kid": "ec", "typ": "client-authentication+jwt"}, claimsOf(e, "keys", nil)), ""},
		{"an access token's type", sign(t, "ES256", k.ec, map[string]string{"kid": "ec", "typ": "at+jwt"}, claimsOf(e, "keys", nil)), invalid},
		{"a DPoP proof's type", sign(t, "ES256", k.ec, map[string]string{"kid": "ec", "typ": "dpop+jwt"}, claimsOf(e, "keys", nil)), invalid},

		{"another client's key", sign(t, "ES256", k.other, ec, claimsOf(e, "keys", nil)), invalid},
		{"another client's name", good("stranger", nil), invalid},
		{"a client that does not exist", good("nobody", nil), invalid},
		{"a client with a secret", good("web", nil), invalid},
		{"a public client", good("native", nil), invalid},
		{"an unknown kid", sign(t, "ES256", k.ec, map[string]string{"kid": "x"}, claimsOf(e, "keys", nil)), invalid},
		{"alg none", none, invalid},
		{"HS256 with the public key as the secret", sign(t, "HS256", publicPEM, map[string]string{"kid": "rsa"}, claimsOf(e, "keys", nil)), invalid},
		{"HS256 with the key set as the secret", sign(t, "HS256", []byte(e.Config.Clients[4].JWKS.Reveal()), nil, claimsOf(e, "keys", nil)), invalid},
		{"changed after it was signed", strings.Replace(good("keys", nil), ".", ".A", 1), invalid},
		{"no JWT", "hello.world", invalid},

		{"the token endpoint as aud", good("keys", map[string]any{"aud": e.Issuer + "/token"}), ""},
		{"the called endpoint as aud", good("keys", map[string]any{"aud": e.Issuer + "/introspect"}), ""},
		{"a list of our names", good("keys", map[string]any{"aud": []string{e.Issuer, e.Issuer + "/token"}}), ""},
		{"another server", good("keys", map[string]any{"aud": "https://other.example.com"}), invalid},
		{"another server too: it could use the assertion here (RFC 7523bis)", good("keys", map[string]any{"aud": []string{e.Issuer, "https://other.example.com"}}), invalid},
		{"another endpoint", good("keys", map[string]any{"aud": e.Issuer + "/revoke"}), invalid},
		{"the issuer with a slash", good("keys", map[string]any{"aud": e.Issuer + "/"}), invalid},
		{"no aud", good("keys", map[string]any{"aud": nil}), invalid},
		{"an empty list", good("keys", map[string]any{"aud": []string{}}), invalid},
		{"a number as aud", good("keys", map[string]any{"aud": 1}), invalid},

		{"expired", good("keys", map[string]any{"exp": at(-time.Second)}), invalid},
		{"no exp", good("keys", map[string]any{"exp": nil}), invalid},
		{"exp far ahead", good("keys", map[string]any{"exp": at(2 * time.Hour)}), invalid},
		{"exp as text", good("keys", map[string]any{"exp": "tomorrow"}), invalid},
		{"nbf to come", good("keys", map[string]any{"nbf": at(time.Minute)}), invalid},
		{"nbf of a clock that is a little ahead", good("keys", map[string]any{"nbf": at(10 * time.Second)}), ""},
		{"iat to come", good("keys", map[string]any{"iat": at(61 * time.Second)}), invalid},
		{"iat of a clock that is a little ahead", good("keys", map[string]any{"iat": at(10 * time.Second)}), ""},
		{"no iat", good("keys", map[string]any{"iat": nil}), ""},

		{"no jti", good("keys", map[string]any{"jti": nil}), invalid},
		{"a jti without end", good("keys", map[string]any{"jti": strings.Repeat("a", 300)}), invalid},
		{"iss is another", good("keys", map[string]any{"iss": "stranger"}), invalid},
		{"sub is another", good("keys", map[string]any{"sub": "stranger"}), invalid},
		{"no iss", good("keys", map[string]any{"iss": nil}), invalid},
		{"neither iss nor sub", good("keys", map[string]any{"iss": nil, "sub": nil}), invalid},

		{"client_secret_jwt", sign(t, "HS256", []byte(jwtSecret), nil, claimsOf(e, "hmac", nil)), ""},
		{"client_secret_jwt with another secret", sign(t, "HS256", []byte(Web.Secret), nil, claimsOf(e, "hmac", nil)), invalid},
		{"client_secret_jwt of a client with secret_basic", sign(t, "HS256", []byte(Web.Secret), nil, claimsOf(e, "web", nil)), invalid},
		{"private_key_jwt of a client with client_secret_jwt", good("hmac", nil), invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := e.Post(t, "/introspect", Client{}, withAssertion(c.raw, anyToken))
			if r.String("error") != c.want || (c.want == "") != (r.Status == http.StatusOK) {
				t.Errorf("got %d %v, want %q", r.Status, r.Body, c.want)
			}
			if c.want == invalid && (r.Status != http.StatusUnauthorized || r.String("error_description") == "") {
				t.Errorf("got %d %v, want 401 and a description", r.Status, r.Body)
			}
			if strings.Contains(e.Logs.String(), c.raw) {
				t.Error("the assertion is in the log")
			}
		})
	}
}

// RFC 6749 section 2.3: a request that authenticates in two ways could be two clients, seen by two readers.
func TestAClientAuthenticatesInOneWay(t *testing.T) {
	e := Start(t, keyClients(t, ""))
	k := clientKeys()
	raw := func() string { return sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", nil)) }
	for name, c := range map[string]struct {
		client Client
		form   url.Values
		want   string
	}{
		"an assertion and Basic":                  {Web, withAssertion(raw(), anyToken), "invalid_request"},
		"an assertion and client_secret":          {Client{}, withAssertion(raw(), url.Values{"token": {"x"}, "client_secret": {Web.Secret}}), "invalid_request"},
		"an assertion and another client_id":      {Client{ID: "web"}, withAssertion(raw(), anyToken), "invalid_request"},
		"an assertion and its client_id":          {Client{ID: "keys"}, withAssertion(raw(), anyToken), ""},
		"an assertion without its type":           {Client{}, url.Values{"token": {"x"}, "client_assertion": {raw()}}, "invalid_client"},
		"an assertion of another type":            {Client{}, url.Values{"token": {"x"}, "client_assertion": {raw()}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}}, "invalid_client"},
		"a type without an assertion":             {Client{ID: "keys"}, url.Values{"token": {"x"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}, "invalid_request"},
		"the id of a client with keys, alone":     {Client{ID: "keys"}, url.Values{"token": {"x"}}, "invalid_client"},
		"client_secret_jwt's secret, sent plain":  {Client{ID: "hmac", Secret: jwtSecret}, url.Values{"token": {"x"}}, "invalid_client"},
		"client_secret_jwt's secret, in the form": {Client{}, url.Values{"token": {"x"}, "client_id": {"hmac"}, "client_secret": {jwtSecret}}, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := e.Post(t, "/introspect", c.client, c.form); r.String("error") != c.want {
				t.Errorf("got %d %v, want %q", r.Status, r.Body, c.want)
			}
		})
	}
}

// An assertion that somebody saw, in a log or on the way, must be worth nothing once it was used; and one that was refused is not used.
func TestAClientAssertionIsGoodForOneRequest(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		k := clientKeys()
		for name, raw := range map[string]string{
			"private_key_jwt":   sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", nil)),
			"client_secret_jwt": sign(t, "HS256", []byte(jwtSecret), nil, claimsOf(e, "hmac", nil)),
		} {
			if r := e.Post(t, "/introspect", Client{}, withAssertion(raw, anyToken)); r.Status != http.StatusOK {
				t.Fatalf("%s: %d %v", name, r.Status, r.Body)
			}
			for _, path := range []string{"/introspect", "/token", "/revoke"} {
				if r := e.Post(t, path, Client{}, withAssertion(raw, anyToken)); r.String("error") != "invalid_client" {
					t.Errorf("%s again at %s: %d %v", name, path, r.Status, r.Body)
				}
			}
		}

		// The same id, from another client and in an assertion that is not the client's, takes nothing from it.
		claims := claimsOf(e, "keys", nil)
		forged := sign(t, "ES256", k.other, map[string]string{"kid": "ec"}, claims)
		if r := e.Post(t, "/introspect", Client{}, withAssertion(forged, anyToken)); r.String("error") != "invalid_client" {
			t.Fatalf("a forged assertion: %d %v", r.Status, r.Body)
		}
		strangers := sign(t, "ES256", k.other, map[string]string{"kid": "ec"}, claimsOf(e, "stranger", map[string]any{"jti": claims["jti"]}))
		if r := e.Post(t, "/introspect", Client{}, withAssertion(strangers, anyToken)); r.Status != http.StatusOK {
			t.Fatalf("another client with the same jti: %d %v", r.Status, r.Body)
		}
		mine := sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claims)
		if r := e.Post(t, "/introspect", Client{}, withAssertion(mine, anyToken)); r.Status != http.StatusOK {
			t.Errorf("the client itself, after somebody else used its jti: %d %v", r.Status, r.Body)
		}
	}, keyClients(t, ""))
}

// A hundred copies of one assertion at once, at two brokers on one store: one authenticates.
func TestOfRacingClientAssertionsOneAuthenticates(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		nodes, turn := []*Env{e, e.Node(t)}, atomic.Int64{}
		raw := sign(t, "ES256", clientKeys().ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", nil))
		var good, refused atomic.Int64
		storetest.Race(100, func() {
			node := nodes[turn.Add(1)%2]
			switch r := node.Post(t, "/introspect", Client{}, withAssertion(raw, url.Values{"token": {"no-token"}})); {
			case r.Status == http.StatusOK:
				good.Add(1)
			case r.String("error") == "invalid_client":
				refused.Add(1)
			default:
				t.Errorf("unexpected answer: %d %v", r.Status, r.Body)
			}
		})
		if good.Load() != 1 || refused.Load() != 99 {
			t.Errorf("%d authenticated and %d were refused, want 1 and 99", good.Load(), refused.Load())
		}
	}, keyClients(t, ""))
}

// A whole sign-in of an app that has keys instead of a secret: code, refresh, introspection, revocation.
func TestAnAppWithKeysSignsPeopleIn(t *testing.T) {
	e := Start(t, keyClients(t, ""))
	client := Client{ID: "keys", RedirectURI: Web.RedirectURI}
	post := func(path string, form url.Values) *Response {
		raw := sign(t, "ES256", clientKeys().ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", nil))
		return e.Post(t, path, Client{}, withAssertion(raw, form))
	}
	tokens := post("/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {e.Code(t, NewBrowser(t), client, "idp_hint", "google").Get("code")},
		"redirect_uri": {client.RedirectURI}, "code_verifier": {Verifier},
	})
	if tokens.Status != http.StatusOK {
		t.Fatalf("the code: %d %v", tokens.Status, tokens.Body)
	}
	tokens = post("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}})
	if tokens.Status != http.StatusOK {
		t.Fatalf("the refresh: %d %v", tokens.Status, tokens.Body)
	}
	active := url.Values{"token": {tokens.String("access_token")}}
	if r := post("/introspect", active); r.Body["active"] != true {
		t.Errorf("introspection: %d %v", r.Status, r.Body)
	}
	if r := post("/revoke", active); r.Status != http.StatusOK {
		t.Errorf("revocation: %d %v", r.Status, r.Body)
	}
	if r := post("/introspect", active); r.Body["active"] != false {
		t.Errorf("introspection after revocation: %d %v", r.Status, r.Body)
	}
}

// An app that serves its keys itself changes them without a word to the broker; when its server is down the error says so.
func TestKeysAtAnAddress(t *testing.T) {
	k := clientKeys()
	var mu sync.Mutex
	body, status := jwks(t, map[string]crypto.Signer{"old": k.ec}), http.StatusInternalServerError
	serve := func(b string, s int) {
		mu.Lock()
		defer mu.Unlock()
		body, status = b, s
	}
	var asked atomic.Int64
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(site.Close)
	e := Start(t, keyClients(t, site.URL+"/jwks.json"))
	try := func(kid string, key *ecdsa.PrivateKey) *Response {
		raw := sign(t, "ES256", key, map[string]string{"kid": kid}, claimsOf(e, "remote", nil))
		return e.Post(t, "/introspect", Client{}, withAssertion(raw, anyToken))
	}
	if r := try("old", k.ec); r.String("error") != "invalid_client" || !strings.Contains(r.String("error_description"), "jwks_uri") {
		t.Errorf("the app's server is down: %d %v", r.Status, r.Body)
	}
	serve(jwks(t, map[string]crypto.Signer{"old": k.ec}), http.StatusOK)
	e.Clock.Advance(time.Minute)
	if r := try("old", k.ec); r.Status != http.StatusOK {
		t.Errorf("it is up again: %d %v", r.Status, r.Body)
	}
	serve(jwks(t, map[string]crypto.Signer{"new": k.other}), http.StatusOK)
	e.Clock.Advance(time.Minute)
	if r := try("new", k.other); r.Status != http.StatusOK {
		t.Errorf("a new key: %d %v", r.Status, r.Body)
	}
	if r := try("old", k.ec); r.String("error") != "invalid_client" {
		t.Errorf("the key that was withdrawn: %d %v", r.Status, r.Body)
	}
	if asked.Load() != 3 {
		t.Errorf("the address was asked %d times, want 3", asked.Load())
	}
}

// The registered part of a client's keys never has a private one in it: whoever reads the configuration, or the log of what was
// registered, could be the client.
func TestAPrivateKeyInTheConfigurationIsRefused(t *testing.T) {
	private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: clientKeys().ec, KeyID: "ec"}}})
	if err != nil {
		t.Fatal(err)
	}
	e := Start(t)
	c := *e.Config
	c.Clients = append([]config.Client(nil), c.Clients...)
	keyClients(t, "")(&c)
	c.Clients[len(c.Clients)-2].JWKS = config.NewSecret(string(private))
	if err := broker.Check(&c); err == nil || !strings.Contains(err.Error(), "private") || strings.Contains(err.Error(), string(private)) {
		t.Errorf("got %v", err)
	}
}

// fapi2 takes the issuer alone as audience, and as a string (FAPI 2.0 Security Profile section 5.3.2.1), and no RS256 (section 5.4.1).
func TestFAPI2ClientAssertions(t *testing.T) {
	e := Start(t, keyClients(t, ""), func(c *config.Config) {
		for i := range c.Clients {
			if c.Clients[i].ClientID == "keys" {
				c.Clients[i].Profile, c.Clients[i].IDTokenSignedResponseAlg = "fapi2", "ES256"
			}
		}
	})
	k := clientKeys()
	for name, c := range map[string]struct {
		raw string
		ok  bool
	}{
		"the issuer":             {sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", nil)), true},
		"PS256":                  {sign(t, "PS256", k.rsa, map[string]string{"kid": "rsa"}, claimsOf(e, "keys", nil)), true},
		"RS256":                  {sign(t, "RS256", k.rsa, map[string]string{"kid": "rsa"}, claimsOf(e, "keys", nil)), false},
		"the issuer in a list":   {sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", map[string]any{"aud": []string{e.Issuer}})), false},
		"the token endpoint":     {sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", map[string]any{"aud": e.Issuer + "/token"})), false},
		"the endpoint it is for": {sign(t, "ES256", k.ec, map[string]string{"kid": "ec"}, claimsOf(e, "keys", map[string]any{"aud": e.Issuer + "/introspect"})), false},
	} {
		t.Run(name, func(t *testing.T) {
			if r := e.Post(t, "/introspect", Client{}, withAssertion(c.raw, anyToken)); (r.Status == http.StatusOK) != c.ok {
				t.Errorf("got %d %v, want ok: %t", r.Status, r.Body, c.ok)
			}
		})
	}
}

// A client that was registered with the command has its secret sealed beside the hash, both halves of a rotation included; no document has it as it is.
func TestARegisteredClientSignsWithItsSecret(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		client, secret, err := e.Broker.Clients.Add(t.Context(), registry.Client{
			Name: "HMAC", AuthMethod: registry.AuthSecretJWT, RedirectURIs: []string{Web.RedirectURI}, Scopes: []string{"openid"},
		})
		if err != nil {
			t.Fatal(err)
		}
		signs := func(secret string) bool {
			raw := sign(t, "HS256", []byte(secret), nil, claimsOf(e, client.ID))
			return e.Post(t, "/introspect", Client{}, withAssertion(raw, anyToken)).Status == http.StatusOK
		}
		if !signs(secret) {
			t.Error("its secret is refused")
		}
		_, fresh, err := e.Broker.Clients.RotateSecret(t.Context(), client.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if !signs(fresh) || !signs(secret) {
			t.Error("a rotation with an overlap lets one of both secrets not work")
		}
		e.Clock.Advance(time.Hour)
		if !signs(fresh) || signs(secret) {
			t.Error("after the overlap the old secret works, or the new one does not")
		}
		kept, err := e.Broker.Clients.Get(t.Context(), client.ID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(kept)
		if err != nil || strings.Contains(string(text), fresh) || strings.Contains(string(text), secret) {
			t.Errorf("the document holds a secret, or %v", err)
		}

		// With another method the hash is enough: nothing is kept that a thief of keyring and store could sign with. To come back takes a new secret.
		method := func(method string) *registry.Client {
			c, err := e.Broker.Clients.Update(t.Context(), client.ID, func(c *registry.Client) error {
				c.AuthMethod = method
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		for _, s := range method(registry.AuthBasic).Secrets {
			if s.Sealed != "" {
				t.Error("the secret is still sealed there")
			}
		}
		method(registry.AuthSecretJWT)
		if signs(fresh) || logLine(e, "rotate it") == "" {
			t.Error("a secret of which there is a hash alone signs, or the log does not say what to do")
		}
		if _, again, err := e.Broker.Clients.RotateSecret(t.Context(), client.ID, 0); err != nil || !signs(again) {
			t.Errorf("after another rotation its secret is refused, or %v", err)
		}
	})
}
