package broker_test

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// Every way to get a token, through HTTP: each grant, by each kind of client, authenticated in each way, registered for tokens bound in each way,
// and proving each thing. What is allowed gives a token that is bound to just what was proven; what is refused says why.

// ways are the ways to authenticate; the last is a public client's.
var ways = []string{
	registry.AuthBasic, registry.AuthPost, registry.AuthSecretJWT, registry.AuthPrivateKeyJWT, registry.AuthTLS, registry.AuthSelfSignedTLS, registry.AuthNone,
}

// bindings are what a client's tokens must be bound to, and what a request proves to hold.
var bindings = []string{"nothing", "key", "certificate"}

// personGrants and clientGrants are the grant types by what they need to begin with; those for confidential clients alone are the latter.
var (
	personGrants = []string{registry.GrantAuthorizationCode, registry.GrantRefreshToken, registry.GrantDeviceCode}
	clientGrants = []string{registry.GrantClientCredentials, registry.GrantPassword, registry.GrantTokenExchange, registry.GrantJWTBearer}
	allGrants    = slices.Concat(personGrants, clientGrants)
)

const (
	combinationSecret   = "a-combination-secret-0123456789-0123456789"
	combinationUser     = "combi"
	combinationAccount  = "combi-1"
	combinationPassword = "correct horse battery staple"
	trustedIssuer       = "https://ci.example.com"
)

// combinationID is the client that authenticates in one way and has tokens bound to one thing.
func combinationID(way, bound string) string { return way + "-" + bound }

// withCombinations registers a client for each way to authenticate and each binding, with every grant type that it may have.
func withCombinations(t testing.TB, ca *authority, pair tls.Certificate) func(*config.Config) {
	return func(c *config.Config) {
		withAPIs(c)
		certificateClients(config.MTLSProxy, ca, pair)(c)
		c.GrantTypes = allGrants
		c.Accounts = []config.Account{{ID: combinationAccount, Username: combinationUser, Password: config.NewSecret(combinationPassword)}}
		set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
			Key: pair.PrivateKey.(crypto.Signer).Public(), KeyID: "mine", Certificates: []*x509.Certificate{pair.Leaf},
		}}})
		mine := string(set)
		var ids []string
		for _, way := range ways {
			for _, bound := range bindings {
				client := config.Client{
					ClientID: combinationID(way, bound), Name: way, TokenEndpointAuthMethod: way,
					RedirectURIs:      []string{"https://app.example.com/callback"},
					Scopes:            []string{"openid", "offline_access", "notes:read"},
					AccessTokenFormat: "jwt",
					GrantTypes:        allGrants, PKCE: "required", IDTokenSignedResponseAlg: "ES256",
					TokenExchange:                config.TokenExchange{Modes: []string{"impersonation"}},
					DPoPBoundAccessTokens:        bound == "key",
					CertificateBoundAccessTokens: bound == "certificate",
				}
				switch way {
				case registry.AuthBasic, registry.AuthPost, registry.AuthSecretJWT:
					client.ClientSecret = config.NewSecret(combinationSecret)
				case registry.AuthPrivateKeyJWT, registry.AuthSelfSignedTLS:
					client.JWKS = config.NewSecret(mine)
				case registry.AuthTLS:
					client.TLSClientAuthSubjectDN = `CN=app, O=Example\, Inc.`
				case registry.AuthNone:
					client.Public, client.TokenEndpointAuthMethod = true, ""
					client.GrantTypes, client.TokenExchange = personGrants, config.TokenExchange{}
				}
				ids = append(ids, client.ClientID)
				c.Clients = append(c.Clients, client)
			}
		}
		for i := range c.Clients {
			if slices.Contains(ids, c.Clients[i].ClientID) && !c.Clients[i].Public {
				c.Clients[i].TokenExchange.SubjectClients = []string{c.Clients[i].ClientID}
			}
		}
		c.TrustedIssuers = []config.TrustedIssuer{{
			Issuer: trustedIssuer, JWKS: config.NewSecret(jwks(t, map[string]crypto.Signer{"ci": clientKeys().other})),
			Clients: ids, Scopes: []string{"openid", "notes:read"}, Subject: config.SubjectAccount,
		}}
	}
}

// combination is one client under test, and what it needs to ask for tokens.
type combination struct {
	e    *Env
	told *[]string // everything secret that went over the wire
	way  string
	id   string
	key  *Key
	pair tls.Certificate
}

// ask sends a form to an endpoint: authenticated in the client's way, and proving one of bindings.
func (c *combination) ask(t *testing.T, path string, proven string, form url.Values) *Response {
	t.Helper()
	return c.askAs(t, c.way, path, proven, form)
}

func (c *combination) askAs(t *testing.T, way, path, proven string, form url.Values) *Response {
	t.Helper()
	form = maps.Clone(form)
	var header []string
	pair := &c.pair
	if proven != "certificate" && way != registry.AuthTLS && way != registry.AuthSelfSignedTLS {
		pair = nil
	}
	if proven == "key" {
		header = append(header, "DPoP", c.key.Proof(http.MethodPost, c.e.Issuer+path))
	}
	switch way {
	case registry.AuthBasic:
		r, _ := http.NewRequest(http.MethodPost, "/", nil)
		r.SetBasicAuth(c.id, combinationSecret)
		header = append(header, "Authorization", r.Header.Get("Authorization"))
	case registry.AuthPost:
		form.Set("client_id", c.id)
		form.Set("client_secret", combinationSecret)
	case registry.AuthSecretJWT:
		form = withAssertion(sign(t, "HS256", []byte(combinationSecret), nil, claimsOf(c.e, c.id, nil)), form)
	case registry.AuthPrivateKeyJWT:
		form = withAssertion(sign(t, "ES256", c.pair.PrivateKey, map[string]string{"kid": "mine"}, claimsOf(c.e, c.id, nil)), form)
	default:
		form.Set("client_id", c.id)
	}
	r := overProxy(t, c.e)(t, pair, http.MethodPost, path, form, header...)
	for _, name := range []string{"client_secret", "client_assertion", "password", "code", "code_verifier", "refresh_token", "device_code", "subject_token", "assertion"} {
		*c.told = append(*c.told, form.Get(name))
	}
	for _, name := range []string{"access_token", "refresh_token", "id_token", "device_code", "user_code"} {
		*c.told = append(*c.told, r.String(name))
	}
	for i := 1; i < len(header); i += 2 { // proofs, and secrets by HTTP Basic
		*c.told = append(*c.told, strings.TrimPrefix(header[i], "Basic "))
	}
	return r
}

// material is what a grant redeems, fresh and good: form is ready to be sent but for authentication and proof.
func (c *combination) material(t *testing.T, grant, bound string) url.Values {
	t.Helper()
	client := Client{ID: c.id, RedirectURI: "https://app.example.com/callback"}
	browser := NewBrowser(t)
	form := url.Values{"grant_type": {grant}}
	switch grant {
	case registry.GrantAuthorizationCode:
		return RedeemForm(client, c.e.Code(t, browser, client, "scope", "openid offline_access").Get("code"))
	case registry.GrantRefreshToken:
		tokens := c.ask(t, "/token", bound, c.material(t, registry.GrantAuthorizationCode, bound))
		form.Set("refresh_token", tokens.String("refresh_token"))
	case registry.GrantDeviceCode:
		d := c.ask(t, "/device_authorization", "nothing", url.Values{"scope": {"openid offline_access"}})
		if d.Status != http.StatusOK {
			t.Fatalf("device authorization: %d %v", d.Status, d.Body)
		}
		page := browser.Get(d.String("verification_uri"))
		page.Forms[0].Fields.Set("user_code", d.String("user_code"))
		answer(browser, toConfirm(t, browser, page.Submit(0, "Continue")), "allow")
		form.Set("device_code", d.String("device_code"))
	case registry.GrantClientCredentials:
		form.Set("scope", "notes:read")
	case registry.GrantPassword:
		form.Set("username", combinationUser)
		form.Set("password", combinationPassword)
		form.Set("scope", "openid offline_access")
	case registry.GrantTokenExchange:
		code := RedeemForm(client, c.e.Code(t, browser, client, "scope", "openid notes:read").Get("code"))
		tokens := c.ask(t, "/token", bound, code)
		form.Set("subject_token", tokens.String("access_token"))
		form.Set("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
		form.Set("scope", "notes:read")
	case registry.GrantJWTBearer:
		now := c.e.Clock.Now()
		form.Set("assertion", sign(t, "ES256", clientKeys().other, map[string]string{"kid": "ci"}, map[string]any{
			"iss": trustedIssuer, "sub": combinationAccount, "aud": c.e.Issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}))
		form.Set("scope", "notes:read")
	default:
		t.Fatalf("no material for %s", grant)
	}
	return form
}

// outcome is what a combination is to give: the token's type and what it is bound to, or an error.
type outcome struct{ tokenType, bound, err string }

// expected says what a client whose tokens must be bound to one thing gets where it proves another. A certificate binds only tokens of
// clients that are registered for it, for connections have one for whatever reason (RFC 8705 section 3.4); a proof binds any (RFC 9449
// section 5).
func expected(bound, proven string, certificateShown bool) outcome {
	switch {
	case bound == "key" && proven != "key":
		return outcome{err: "invalid_dpop_proof"}
	case bound == "certificate" && !certificateShown:
		return outcome{err: "invalid_request"}
	case bound == "certificate" && proven == "key":
		return outcome{tokenType: "DPoP", bound: "key and certificate"}
	case bound == "certificate":
		return outcome{tokenType: "Bearer", bound: "certificate"}
	case proven == "key":
		return outcome{tokenType: "DPoP", bound: "key"}
	}
	return outcome{tokenType: "Bearer", bound: "nothing"}
}

// got is what a response gives, by its type and what its token says.
func (c *combination) got(t *testing.T, r *Response) outcome {
	t.Helper()
	if r.Status != http.StatusOK {
		return outcome{err: cmp.Or(r.String("error"), fmt.Sprintf("status %d", r.Status))}
	}
	confirm, _ := Claims(t, r.String("access_token"))["cnf"].(map[string]any)
	bound := fmt.Sprintf("something else: %v", confirm)
	switch jkt, x5t := confirm["jkt"], confirm["x5t#S256"]; {
	case len(confirm) == 0:
		bound = "nothing"
	case jkt == c.key.JKT && x5t == thumbprint(c.pair):
		bound = "key and certificate"
	case jkt == c.key.JKT && x5t == nil:
		bound = "key"
	case jkt == nil && x5t == thumbprint(c.pair):
		bound = "certificate"
	}
	return outcome{tokenType: r.String("token_type"), bound: bound}
}

// startCombinations runs a broker with all of them.
func startCombinations(t *testing.T, edit ...func(*config.Config)) (*Env, func(way, bound string) *combination) {
	t.Helper()
	ca := newAuthority(t)
	pair := ca.issue(x509.Certificate{Subject: app})
	e := Start(t, append([]func(*config.Config){withCombinations(t, ca, pair)}, edit...)...)
	key, told := e.NewKey(t), new([]string)
	return e, func(way, bound string) *combination {
		return &combination{e: e, told: told, way: way, id: combinationID(way, bound), key: key, pair: pair}
	}
}

func TestEveryWayToGetAToken(t *testing.T) {
	e, client := startCombinations(t)
	tried := 0
	for _, way := range ways {
		for _, bound := range bindings {
			c := client(way, bound)
			certificateShown := way == registry.AuthTLS || way == registry.AuthSelfSignedTLS
			grants := allGrants
			if way == registry.AuthNone {
				grants = personGrants
			}
			for _, grant := range grants {
				var good url.Values
				// Refusals first: they spend nothing, so that what was refused without a proof is redeemed with it afterwards.
				for _, proven := range slices.SortedFunc(slices.Values(bindings), func(a, b string) int {
					refused := func(proven string) int {
						if expected(bound, proven, certificateShown || proven == "certificate").err != "" {
							return 0
						}
						return 1
					}
					return refused(a) - refused(b)
				}) {
					t.Run(fmt.Sprintf("%s/%s/bound to %s/proving %s", grant, way, bound, proven), func(t *testing.T) {
						tried++
						if good == nil {
							good = c.material(t, grant, bound)
						}
						want := expected(bound, proven, certificateShown || proven == "certificate")
						r := c.ask(t, "/token", proven, good)
						if got := c.got(t, r); got != want {
							t.Fatalf("got %+v, want %+v: %d %v", got, want, r.Status, r.Body)
						}
						if want.err == "" {
							good = nil
							c.checkCompany(t, grant, r)
						}
					})
				}
			}
		}
	}
	if want := (6*len(allGrants) + len(personGrants)) * len(bindings) * len(bindings); tried != want {
		t.Errorf("%d combinations were tried, want %d", tried, want)
	}
	// Whatever was sent, taken or refused, none of it is in the log, which is at its most talkative here.
	logs := e.Logs.String()
	for _, secret := range *client(ways[0], bindings[0]).told {
		if secret != "" && strings.Contains(logs, secret) {
			t.Errorf("the log holds %.24s…", secret)
		}
	}
}

// checkCompany checks what comes with an access token: a refresh token where offline_access was granted, an ID token where a person signed in or gave a
// password, and neither for a client itself, an exchange or an assertion.
func (c *combination) checkCompany(t *testing.T, grant string, r *Response) {
	t.Helper()
	with := slices.Contains(personGrants, grant) || grant == registry.GrantPassword
	if (r.String("refresh_token") != "") != with || (r.String("id_token") != "") != with {
		t.Errorf("refresh token %v, ID token %v, want both %v", r.String("refresh_token") != "", r.String("id_token") != "", with)
	}
	if exchanged := r.String("issued_token_type") != ""; exchanged != (grant == registry.GrantTokenExchange) {
		t.Errorf("issued_token_type: %v", r.Body["issued_token_type"])
	}
	subject, person := Claims(t, r.String("access_token"))["sub"], grant != registry.GrantClientCredentials
	if (subject == c.id) == person {
		t.Errorf("the token is about %v", subject)
	}
}

// A client authenticates in the one way that it is registered for: whoever got hold of a secret cannot use it in a laxer way, and nobody can
// pass for a public client (RFC 9700 section 2.5).
func TestAClientCannotAuthenticateInAnotherWay(t *testing.T) {
	_, client := startCombinations(t)
	// On the wire a certificate is all that tells these apart, and the registration says what it is for.
	wire := func(way string) string {
		if way == registry.AuthSelfSignedTLS {
			return registry.AuthTLS
		}
		return way
	}
	for _, registered := range ways {
		for _, used := range ways {
			if wire(used) == wire(registered) || registered == registry.AuthNone && used == registry.AuthTLS || registered == registry.AuthNone && used == registry.AuthSelfSignedTLS {
				continue
			}
			t.Run(registered+" by "+used, func(t *testing.T) {
				c := client(registered, "nothing")
				for _, path := range []string{"/token", "/introspect", "/revoke", "/par", "/device_authorization"} {
					r := c.askAs(t, used, path, "nothing", url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}, "token": {"x"}})
					if r.Status != http.StatusUnauthorized || r.String("error") != "invalid_client" {
						t.Errorf("%s: %d %v", path, r.Status, r.Body)
					}
				}
			})
		}
	}
}

// A grant type works for clients that are registered for it by name, where it is on at all.
func TestGrantTypesAreForThoseRegisteredAndSwitchedOn(t *testing.T) {
	_, client := startCombinations(t, func(c *config.Config) {
		for i := range c.Clients {
			if c.Clients[i].ClientID == combinationID(registry.AuthPost, "nothing") {
				c.Clients[i].GrantTypes, c.Clients[i].TokenExchange = []string{registry.GrantAuthorizationCode}, config.TokenExchange{}
			}
		}
	})
	few, all := client(registry.AuthPost, "nothing"), client(registry.AuthBasic, "nothing")
	for _, grant := range allGrants {
		if grant == registry.GrantAuthorizationCode {
			continue
		}
		material := all.material(t, grant, "nothing")
		if got := few.got(t, few.ask(t, "/token", "nothing", material)); got.err != "unauthorized_client" {
			t.Errorf("%s by a client that is not registered for it: %+v", grant, got)
		}
		if got := all.got(t, all.ask(t, "/token", "nothing", material)); got.err != "" {
			t.Errorf("%s by one that is: %+v", grant, got)
		}
	}
	for _, grant := range allGrants {
		_, client := startCombinations(t, func(c *config.Config) {
			c.GrantTypes = slices.DeleteFunc(slices.Clone(allGrants), func(g string) bool { return g == grant })
		})
		c := client(registry.AuthBasic, "nothing")
		if got := c.got(t, c.ask(t, "/token", "nothing", url.Values{"grant_type": {grant}})); got.err != "unsupported_grant_type" {
			t.Errorf("%s where it is off: %+v", grant, got)
		}
	}
	if got := all.got(t, all.ask(t, "/token", "nothing", url.Values{"grant_type": {"implicit"}})); got.err != "unsupported_grant_type" {
		t.Errorf("a grant type that does not exist: %+v", got)
	}
}
