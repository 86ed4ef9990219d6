package broker_test

import (
	"crypto"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/connectors"
)

const (
	jwtBearerGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	partner        = "https://partner.example.com" // knows people as the connector google does
	batch          = "https://batch.example.com"   // knows them by the ids of their accounts
)

// trustedIssuers trusts partner and batch for the client web, and lets other use the grant type without being trusted with either.
func trustedIssuers(t testing.TB) func(*config.Config) {
	k := clientKeys()
	return func(c *config.Config) {
		for i := range 2 {
			c.Clients[i].GrantTypes = append(c.Clients[i].GrantTypes, jwtBearerGrant)
		}
		c.TrustedIssuers = []config.TrustedIssuer{
			{
				Issuer: partner, JWKS: config.NewSecret(jwks(t, map[string]crypto.Signer{"p": k.ec})), Audiences: []string{"urn:portico"},
				Clients: []string{"web", "native"}, Scopes: []string{"openid", "email"}, Subject: config.SubjectIdentity, Connector: "google",
			},
			{
				Issuer: batch, JWKS: config.NewSecret(jwks(t, map[string]crypto.Signer{"b": k.other})),
				Clients: []string{"web"}, Scopes: []string{"openid", "profile"}, Subject: config.SubjectAccount,
			},
		}
	}
}

// personOf makes the account of somebody whom partner knows.
func personOf(t *testing.T, e *Env, subject string) *identity.Account {
	t.Helper()
	r, err := e.Broker.Accounts.Resolve(t.Context(), "google", &connectors.Profile{
		Issuer: partner, Subject: subject, Email: subject + "@partner.example.com", EmailVerified: true, Name: "Pat Partner",
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Account
}

// vouch is a good assertion of partner's, changed by edits.
func vouch(t testing.TB, e *Env, edits map[string]any) string {
	t.Helper()
	claims := claimsOf(e, partner, map[string]any{"sub": "pat"})
	for name, value := range edits {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return sign(t, "ES256", clientKeys().ec, map[string]string{"kid": "p"}, claims)
}

func bear(t testing.TB, e *Env, c Client, raw string, edits ...string) *Response {
	t.Helper()
	form := url.Values{"grant_type": {jwtBearerGrant}, "assertion": {raw}}
	for i := 0; i+1 < len(edits); i += 2 {
		form.Set(edits[i], edits[i+1])
	}
	return e.Post(t, "/token", c, form)
}

// An assertion gives an access token that speaks for the person: for userinfo, seen by introspection, ended by revocation and with the account. No
// refresh token (RFC 7521 section 4.1), and no ID token, since nobody signed in.
func TestATrustedIssuersAssertionGivesAToken(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		account := personOf(t, e, "pat")
		tokens := bear(t, e, Web, vouch(t, e, nil))
		if tokens.Status != http.StatusOK || tokens.String("scope") != "openid email" {
			t.Fatalf("got %d %v", tokens.Status, tokens.Body)
		}
		for _, absent := range []string{"refresh_token", "id_token"} {
			if _, there := tokens.Body[absent]; there {
				t.Errorf("there is a %s", absent)
			}
		}
		access := tokens.String("access_token")
		info := e.Userinfo(t, access)
		if info.String("sub") != account.ID || info.String("email") != "pat@partner.example.com" || info.String("name") != "" {
			t.Errorf("userinfo: %d %v", info.Status, info.Body)
		}
		if !e.Active(t, Web, access) {
			t.Error("introspection calls it inactive")
		}
		if r := e.Post(t, "/revoke", Web, url.Values{"token": {access}}); r.Status != http.StatusOK || e.Active(t, Web, access) {
			t.Errorf("it is active after revocation (%d)", r.Status)
		}

		direct := sign(t, "ES256", clientKeys().other, map[string]string{"kid": "b"}, claimsOf(e, batch, map[string]any{"sub": account.ID}))
		tokens = bear(t, e, Web, direct)
		if tokens.Status != http.StatusOK || e.Subject(t, tokens.String("access_token")) != account.ID {
			t.Fatalf("by the account's id: %d %v", tokens.Status, tokens.Body)
		}
		if err := e.Broker.Accounts.Disable(t.Context(), account.ID, true); err != nil {
			t.Fatal(err)
		}
		if e.Active(t, Web, tokens.String("access_token")) {
			t.Error("it is active although the account is disabled")
		}
		if r := bear(t, e, Web, vouch(t, e, nil)); r.String("error") != "invalid_grant" {
			t.Errorf("a disabled account: %d %v", r.Status, r.Body)
		}
		// What the provider said of the person is not touched by somebody who knows no more than a sub.
		if found, err := e.Broker.Accounts.Get(t.Context(), account.ID); err != nil || found.Name != "Pat Partner" {
			t.Errorf("the account is %+v, %v", found, err)
		}
	}, trustedIssuers(t))
}

// Claims are known by their exact names (RFC 7519 section 4): an issuer that lets its people name claims of their own, and keeps "sub" from them, has
// not kept from them what a reader without regard to case takes for it.
func TestAClaimOfAlmostTheSameNameIsAnother(t *testing.T) {
	e := Start(t, trustedIssuers(t))
	pat := personOf(t, e, "pat")
	personOf(t, e, "victim")
	for _, name := range []string{"\u017fub", "SUB", "Sub"} {
		tokens := bear(t, e, Web, vouch(t, e, map[string]any{name: "victim"}))
		if tokens.Status != http.StatusOK || e.Subject(t, tokens.String("access_token")) != pat.ID {
			t.Errorf("%q: %d %v", name, tokens.Status, tokens.Body)
		}
	}
	if r := bear(t, e, Web, vouch(t, e, map[string]any{"sub": nil, "SUB": "victim"})); r.String("error") != "invalid_grant" {
		t.Errorf("without a sub: %d %v", r.Status, r.Body)
	}
}

// Whoever can have an assertion accepted is anybody he likes. Everything about it has to be right.
func TestAssertionsThatGiveNothing(t *testing.T) {
	e := Start(t, trustedIssuers(t))
	account := personOf(t, e, "pat")
	k := clientKeys()
	at := func(d time.Duration) int64 { return e.Clock.Now().Add(d).Unix() }
	p, b := map[string]string{"kid": "p"}, map[string]string{"kid": "b"}
	with := func(edits map[string]any) map[string]any {
		return claimsOf(e, partner, map[string]any{"sub": "pat"}, edits)
	}
	const grant, client = "invalid_grant", "unauthorized_client"
	for _, c := range []struct {
		name   string
		client Client
		raw    string
		edits  []string
		want   string
	}{
		{"a good one", Web, vouch(t, e, nil), nil, ""},
		{"for a name that the issuer has for us", Web, vouch(t, e, map[string]any{"aud": "urn:portico"}), nil, ""},
		{"for the token endpoint", Web, vouch(t, e, map[string]any{"aud": e.Issuer + "/token"}), nil, ""},
		{"with the type of RFC 7523bis", Web, sign(t, "ES256", k.ec, map[string]string{"kid": "p", "typ": "authorization-grant+jwt"}, with(nil)), nil, ""},
		{"fewer scopes", Web, vouch(t, e, nil), []string{"scope", "openid"}, ""},

		{"an issuer that nobody trusts", Web, vouch(t, e, map[string]any{"iss": "https://evil.example.com"}), nil, grant},
		{"no issuer", Web, vouch(t, e, map[string]any{"iss": nil}), nil, grant},
		{"the issuer's name with a slash", Web, vouch(t, e, map[string]any{"iss": partner + "/"}), nil, grant},
		{"another trusted issuer's key", Web, sign(t, "ES256", k.other, b, with(nil)), nil, grant},
		{"another trusted issuer's key under its kid", Web, sign(t, "ES256", k.other, p, with(nil)), nil, grant},
		{"one issuer in the other's name", Web, sign(t, "ES256", k.ec, p, claimsOf(e, batch, map[string]any{"sub": account.ID})), nil, grant},
		{"HS256 with the key set as the secret", Web, sign(t, "HS256", []byte(e.Config.TrustedIssuers[0].JWKS.Reveal()), p, with(nil)), nil, grant},
		{"alg none", Web, "eyJhbGciOiJub25lIn0." + strings.Split(vouch(t, e, nil), ".")[1] + ".", nil, grant},
		{"no JWT", Web, "hello", nil, grant},
		{"nothing", Web, "", nil, "invalid_request"},

		{"for another server", Web, vouch(t, e, map[string]any{"aud": "https://other.example.com"}), nil, grant},
		{"for another server too", Web, vouch(t, e, map[string]any{"aud": []string{e.Issuer, "https://other.example.com"}}), nil, grant},
		{"for nobody", Web, vouch(t, e, map[string]any{"aud": nil}), nil, grant},
		{"expired", Web, vouch(t, e, map[string]any{"exp": at(-time.Second)}), nil, grant},
		{"for ever", Web, vouch(t, e, map[string]any{"exp": nil}), nil, grant},
		{"for a year", Web, vouch(t, e, map[string]any{"exp": at(365 * 24 * time.Hour)}), nil, grant},
		{"not yet", Web, vouch(t, e, map[string]any{"nbf": at(time.Minute)}), nil, grant},
		{"without an id", Web, vouch(t, e, map[string]any{"jti": nil}), nil, grant},
		{"an access token", Web, sign(t, "ES256", k.ec, map[string]string{"kid": "p", "typ": "at+jwt"}, with(nil)), nil, grant},
		{"a logout token", Web, sign(t, "ES256", k.ec, map[string]string{"kid": "p", "typ": "logout+jwt"}, with(nil)), nil, grant},
		{"a client assertion", Web, sign(t, "ES256", k.ec, map[string]string{"kid": "p", "typ": "client-authentication+jwt"}, with(nil)), nil, grant},

		{"somebody who never signed in", Web, vouch(t, e, map[string]any{"sub": "nobody"}), nil, grant},
		{"nobody", Web, vouch(t, e, map[string]any{"sub": nil}), nil, grant},
		{"an account's id where an identity's is wanted", Web, vouch(t, e, map[string]any{"sub": account.ID}), nil, grant},
		{"an identity's where an account's is wanted", Web, sign(t, "ES256", k.other, b, claimsOf(e, batch, map[string]any{"sub": "pat"})), nil, grant},
		{"an id that is none", Web, sign(t, "ES256", k.other, b, claimsOf(e, batch, map[string]any{"sub": "../" + strings.Repeat("ä", 200)})), nil, grant},

		{"a scope that the issuer is not trusted with", Web, vouch(t, e, nil), []string{"scope", "openid profile"}, "invalid_scope"},
		{"a refresh token", Web, vouch(t, e, nil), []string{"scope", "openid offline_access"}, "invalid_scope"},
		{"details that a person has to agree to", Web, vouch(t, e, nil), []string{"authorization_details", `[{"type":"payment"}]`}, "invalid_authorization_details"},
		{"a client that is not trusted with the issuer", Other, vouch(t, e, nil), nil, client},
		{"a public client: it cannot be registered for it", Native, vouch(t, e, nil), nil, client},
		{"a client that is not registered for it", First, vouch(t, e, nil), nil, client},
		{"a client with a wrong secret", Client{ID: Web.ID, Secret: "wrong"}, vouch(t, e, nil), nil, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bear(t, e, c.client, c.raw, c.edits...)
			if r.String("error") != c.want || (c.want == "") != (r.Status == http.StatusOK) {
				t.Errorf("got %d %v, want %q", r.Status, r.Body, c.want)
			}
			if c.raw != "" && c.raw != "hello" && strings.Contains(e.Logs.String(), c.raw) {
				t.Error("the assertion is in the log")
			}
		})
	}
}

// An assertion gives one token, however often it is sent, to however many brokers on one store; one that was refused is not spent.
func TestAnAssertionIsRedeemedOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		raw := vouch(t, e, nil)
		if r := bear(t, e, Web, raw); r.String("error") != "invalid_grant" {
			t.Fatalf("before the person is known: %d %v", r.Status, r.Body)
		}
		personOf(t, e, "pat")
		if r := bear(t, e, Web, raw, "scope", "profile"); r.String("error") != "invalid_scope" {
			t.Fatalf("too much: %d %v", r.Status, r.Body)
		}
		nodes, turn := []*Env{e, e.Node(t)}, atomic.Int64{}
		var good, refused atomic.Int64
		storetest.Race(50, func() {
			switch r := bear(t, nodes[turn.Add(1)%2], Web, raw); {
			case r.Status == http.StatusOK:
				good.Add(1)
			case r.String("error") == "invalid_grant":
				refused.Add(1)
			default:
				t.Errorf("unexpected answer: %d %v", r.Status, r.Body)
			}
		})
		if good.Load() != 1 || refused.Load() != 49 {
			t.Errorf("%d redeemed it and %d were refused, want 1 and 49", good.Load(), refused.Load())
		}
		if r := bear(t, e, Web, raw); r.String("error") != "invalid_grant" {
			t.Errorf("afterwards: %d %v", r.Status, r.Body)
		}
		// Ids are each issuer's own.
		jti := rand.Text()
		if r := bear(t, e, Web, vouch(t, e, map[string]any{"jti": jti})); r.Status != http.StatusOK {
			t.Errorf("a fresh one: %d %v", r.Status, r.Body)
		}
		account := personOf(t, e, "pat")
		other := sign(t, "ES256", clientKeys().other, map[string]string{"kid": "b"}, claimsOf(e, batch, map[string]any{"sub": account.ID, "jti": jti}))
		if r := bear(t, e, Web, other); r.Status != http.StatusOK {
			t.Errorf("another issuer with the same jti: %d %v", r.Status, r.Body)
		}
	}, trustedIssuers(t))
}

// Without a trusted issuer the grant type does not exist, and the metadata do not say that it did.
func TestTheJWTBearerGrantIsOnWithATrustedIssuerAlone(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*config.Config)
		on   bool
	}{
		"none": {func(c *config.Config) { trustedIssuers(t)(c); c.TrustedIssuers = nil }, false},
		"two":  {trustedIssuers(t), true},
		"two, and the grant type switched off": {func(c *config.Config) {
			trustedIssuers(t)(c)
			c.GrantTypes = []string{"authorization_code", "refresh_token"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := Start(t, c.edit)
			personOf(t, e, "pat")
			m := Do(t, request(t, http.MethodGet, e.Issuer+"/.well-known/openid-configuration", "", ""))
			if got := strings.Contains(strings.Join(metadataList(m.Body["grant_types_supported"]), " "), jwtBearerGrant); got != c.on {
				t.Errorf("the metadata list it: %t", got)
			}
			r := bear(t, e, Web, vouch(t, e, nil))
			if (r.Status == http.StatusOK) != c.on || !c.on && r.String("error") != "unsupported_grant_type" {
				t.Errorf("got %d %v", r.Status, r.Body)
			}
		})
	}
}
