package broker_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	pair := a.issue(x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate for a fresh key, self-signed by an authority that has no certificate yet.
func (a *authority) issue(template x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	parent, signer := &template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// file is the authority's certificate as PEM in a file.
func (a *authority) file() string {
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// app is the name of the app in the tests' certificates.
var app = pkix.Name{CommonName: "app", Organization: []string{"Example, Inc."}}

// selfSigned is a certificate that nobody vouches for.
func selfSigned(t testing.TB) tls.Certificate {
	return (&authority{t: t}).issue(x509.Certificate{Subject: app})
}

func thumbprint(pair tls.Certificate) string {
	sum := sha256.Sum256(pair.Leaf.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// certificateClients switches mutual TLS on, and adds clients: pki (tls_client_auth by subject), self (self_signed_tls_client_auth with mine),
// bound (a secret, and certificate-bound tokens) and native-bound (public, the same).
func certificateClients(mode string, ca *authority, mine tls.Certificate) func(*config.Config) {
	return func(c *config.Config) {
		c.MTLS = config.MTLS{Mode: mode}
		if ca != nil {
			c.MTLS.CAFile = ca.file()
		}
		if mode == config.MTLSProxy {
			c.MTLS.Header = "Client-Cert"
			c.TrustedProxies = []string{"127.0.0.1"}
		}
		add := func(id string, from int, edit func(*config.Client)) {
			client := c.Clients[from]
			client.ClientID = id
			edit(&client)
			c.Clients = append(c.Clients, client)
		}
		add("pki", 0, func(client *config.Client) {
			client.ClientSecret, client.TokenEndpointAuthMethod = config.Secret{}, "tls_client_auth"
			client.TLSClientAuthSubjectDN = `CN=app, O=Example\, Inc.`
			client.CertificateBoundAccessTokens = true
		})
		add("self", 0, func(client *config.Client) {
			client.ClientSecret, client.TokenEndpointAuthMethod = config.Secret{}, "self_signed_tls_client_auth"
			set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: mine.PrivateKey.(crypto.Signer).Public(), Certificates: []*x509.Certificate{mine.Leaf}}}})
			client.JWKS = config.NewSecret(string(set))
		})
		add("bound", 0, func(client *config.Client) {
			client.CertificateBoundAccessTokens, client.AccessTokenFormat = true, "jwt"
		})
		add("native-bound", 3, func(client *config.Client) { client.CertificateBoundAccessTokens = true })
	}
}

// over is how a client reaches the broker with a certificate; nil: without one.
type over func(t *testing.T, pair *tls.Certificate, method, path string, form url.Values, header ...string) *Response

func send(t *testing.T, c *http.Client, method, target string, form url.Values, header ...string) *Response {
	t.Helper()
	r := request(t, method, target, form.Encode(), "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := &Response{Status: response.StatusCode, Header: response.Header}
	_ = json.NewDecoder(response.Body).Decode(&answer.Body)
	return answer
}

// overTLS serves the broker over TLS that asks for certificates.
func overTLS(t *testing.T, e *Env) over {
	server := httptest.NewUnstartedServer(e.Broker.Handler)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return func(t *testing.T, pair *tls.Certificate, method, path string, form url.Values, header ...string) *Response {
		t.Helper()
		transport := server.Client().Transport.(*http.Transport).Clone()
		defer transport.CloseIdleConnections()
		if pair != nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{*pair}
		}
		return send(t, &http.Client{Transport: transport}, method, server.URL+path, form, header...)
	}
}

// overProxy is what nginx does: it ends TLS, and passes the certificate on.
func overProxy(_ *testing.T, e *Env) over {
	return func(t *testing.T, pair *tls.Certificate, method, path string, form url.Values, header ...string) *Response {
		t.Helper()
		value := ""
		if pair != nil {
			value = url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
		}
		return send(t, http.DefaultClient, method, e.Issuer+path, form, append(header, "Client-Cert", value)...)
	}
}

// modes are the two ways in which a certificate gets here.
var modes = map[string]func(*testing.T, *Env) over{config.MTLSTLS: overTLS, config.MTLSProxy: overProxy}

// Whose certificate is taken (RFC 8705 section 2), both ways.
func TestClientsAuthenticateWithACertificate(t *testing.T) {
	for mode, connect := range modes {
		t.Run(mode, func(t *testing.T) {
			ca, elsewhere, mine := newAuthority(t), newAuthority(t), selfSigned(t)
			e := Start(t, certificateClients(mode, ca, mine))
			call := connect(t, e)
			good := ca.issue(x509.Certificate{Subject: app})
			withUsage := func(usage x509.ExtKeyUsage) tls.Certificate {
				return ca.issue(x509.Certificate{Subject: app, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
			}
			another := selfSigned(t)
			for _, c := range []struct {
				name   string
				client string
				pair   *tls.Certificate
				want   string // the error; "" for none
			}{
				{"its authority's certificate", "pki", &good, ""},
				{"one for use by clients", "pki", ptr(withUsage(x509.ExtKeyUsageClientAuth)), ""},
				{"one for use by servers: a website's certificate is no client's", "pki", ptr(withUsage(x509.ExtKeyUsageServerAuth)), "invalid_client"},
				{"no certificate", "pki", nil, "invalid_client"},
				{"another authority's, with the same name", "pki", ptr(elsewhere.issue(x509.Certificate{Subject: app})), "invalid_client"},
				{"a self-signed one with the same name", "pki", &another, "invalid_client"},
				{"one of the authority's for somebody else", "pki", ptr(ca.issue(x509.Certificate{Subject: pkix.Name{CommonName: "other"}})), "invalid_client"},
				{"one with a part more in its name", "pki", ptr(ca.issue(x509.Certificate{Subject: pkix.Name{CommonName: "app", Organization: app.Organization, Country: []string{"DE"}}})), "invalid_client"},
				{"an expired one", "pki", ptr(ca.issue(x509.Certificate{Subject: app, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})), "invalid_client"},
				{"one that is not valid yet", "pki", ptr(ca.issue(x509.Certificate{Subject: app, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)})), "invalid_client"},
				{"its own", "self", &mine, ""},
				{"another one of the same name", "self", &another, "invalid_client"},
				{"none", "self", nil, "invalid_client"},
				{"another client's", "self", &good, "invalid_client"},
			} {
				t.Run(c.name, func(t *testing.T) {
					r := call(t, c.pair, http.MethodPost, "/introspect", url.Values{"token": {"no-token"}, "client_id": {c.client}})
					if r.String("error") != c.want || (c.want == "") != (r.Status == http.StatusOK) {
						t.Errorf("got %d %v, want %q", r.Status, r.Body, c.want)
					}
				})
			}

			// A secret in the request makes it another method, which these clients are not registered for.
			r := call(t, &good, http.MethodPost, "/introspect", url.Values{"token": {"x"}, "client_id": {"pki"}, "client_secret": {Web.Secret}})
			if r.String("error") != "invalid_client" {
				t.Errorf("a certificate and a secret: %d %v", r.Status, r.Body)
			}
			// Time passes: certificates end.
			e.Clock.Advance(25 * time.Hour)
			for client, pair := range map[string]*tls.Certificate{"pki": &good, "self": &mine} {
				r := call(t, pair, http.MethodPost, "/introspect", url.Values{"token": {"no-token"}, "client_id": {client}})
				if r.String("error") != "invalid_client" {
					t.Errorf("%s with a certificate that has expired: %d %v", client, r.Status, r.Body)
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// A certificate is public. Whoever reaches the broker around its proxy could be any client by sending its certificate in the header.
func TestACertificateHeaderFromAnybodyButTheProxyIsIgnored(t *testing.T) {
	ca, mine := newAuthority(t), selfSigned(t)
	clients := certificateClients(config.MTLSProxy, ca, mine)
	good := ca.issue(x509.Certificate{Subject: app})
	for name, c := range map[string]struct {
		edit func(*config.Config)
		ok   bool
	}{
		"the proxy":      {func(*config.Config) {}, true},
		"another peer":   {func(c *config.Config) { c.TrustedProxies = []string{"10.0.0.0/8"} }, false},
		"another header": {func(c *config.Config) { c.MTLS.Header = "X-Certificate" }, false},
		"mode tls":       {func(c *config.Config) { c.MTLS.Mode, c.MTLS.Header = config.MTLSTLS, "" }, false},
		"mode off":       {func(c *config.Config) { c.MTLS = config.MTLS{Mode: config.MTLSOff} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := Start(t, clients, c.edit)
			call := overProxy(t, e)
			for client, pair := range map[string]*tls.Certificate{"pki": &good, "self": &mine} {
				r := call(t, pair, http.MethodPost, "/introspect", url.Values{"token": {"x"}, "client_id": {client}},
					"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1")
				if (r.Status == http.StatusOK) != c.ok || !c.ok && r.String("error") != "invalid_client" {
					t.Errorf("%s: got %d %v, want ok: %t", client, r.Status, r.Body, c.ok)
				}
			}
		})
	}
}

// A stolen token that is bound to a certificate is worth nothing without its key (RFC 8705 section 3).
func TestTokensAreBoundToTheCertificate(t *testing.T) {
	for mode, connect := range modes {
		t.Run(mode, func(t *testing.T) {
			ca, thief := newAuthority(t), selfSigned(t)
			e := Start(t, certificateClients(mode, ca, selfSigned(t)))
			call := connect(t, e)
			mine := ca.issue(x509.Certificate{Subject: app})
			for _, client := range []Client{
				{ID: "pki", RedirectURI: Web.RedirectURI}, {ID: "bound", Secret: Web.Secret, RedirectURI: Web.RedirectURI}, {ID: "native-bound", RedirectURI: Native.RedirectURI},
			} {
				t.Run(client.ID, func(t *testing.T) {
					form := func(v url.Values) url.Values {
						v.Set("client_id", client.ID)
						if client.Secret != "" {
							v.Set("client_secret", client.Secret)
						}
						return v
					}
					code := form(url.Values{
						"grant_type": {"authorization_code"}, "code": {e.Code(t, NewBrowser(t), client, "idp_hint", "google").Get("code")},
						"redirect_uri": {client.RedirectURI}, "code_verifier": {Verifier},
					})
					if r := call(t, nil, http.MethodPost, "/token", code); r.Status == http.StatusOK {
						t.Fatal("a token without a certificate, which could be bound to nothing")
					}
					tokens := call(t, &mine, http.MethodPost, "/token", code)
					if tokens.Status != http.StatusOK || tokens.String("token_type") != "Bearer" {
						t.Fatalf("got %d %v", tokens.Status, tokens.Body)
					}
					access := tokens.String("access_token")
					if client.ID == "bound" { // JWTs
						var claims struct {
							Confirm map[string]string `json:"cnf"`
						}
						payload, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
						if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Confirm["x5t#S256"] != thumbprint(mine) {
							t.Errorf("cnf is %v in %s", claims.Confirm, payload)
						}
					}
					for name, c := range map[string]struct {
						pair *tls.Certificate
						want int
					}{"the client": {&mine, 200}, "nobody's certificate": {nil, 401}, "a thief's certificate": {&thief, 401}} {
						r := call(t, c.pair, http.MethodGet, "/userinfo", nil, "Authorization", "Bearer "+access)
						if r.Status != c.want || c.want == 401 && !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
							t.Errorf("userinfo with %s: %d %v", name, r.Status, r.Body)
						}
					}
					if client.ID != "native-bound" {
						r := call(t, &mine, http.MethodPost, "/introspect", form(url.Values{"token": {access}}))
						if confirm, _ := r.Body["cnf"].(map[string]any); r.Body["active"] != true || confirm["x5t#S256"] != thumbprint(mine) {
							t.Errorf("introspection: %d %v", r.Status, r.Body)
						}
					}
					// Of a public client the refresh token is bound too (section 4): nothing else keeps a thief from using it.
					refresh := form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.String("refresh_token")}})
					if client.ID == "native-bound" {
						if r := call(t, &thief, http.MethodPost, "/token", refresh); r.String("error") != "invalid_grant" {
							t.Errorf("a stolen refresh token with a thief's certificate: %d %v", r.Status, r.Body)
						}
					}
					if r := call(t, nil, http.MethodPost, "/token", refresh); r.Status == http.StatusOK {
						t.Error("a refresh without a certificate")
					}
					again := call(t, &mine, http.MethodPost, "/token", refresh)
					if again.Status != http.StatusOK {
						t.Fatalf("the client's own refresh: %d %v", again.Status, again.Body)
					}
					if r := call(t, nil, http.MethodGet, "/userinfo", nil, "Authorization", "Bearer "+again.String("access_token")); r.Status != 401 {
						t.Errorf("the refreshed token is not bound: %d", r.Status)
					}
				})
			}
		})
	}
}

// Certificates come with connections for many reasons. A client that did not ask for bound tokens gets none, or they would stop working
// when its certificate is renewed.
func TestTokensAreNotBoundUnlessTheClientSaysSo(t *testing.T) {
	mine := selfSigned(t)
	e := Start(t, certificateClients(config.MTLSProxy, nil, mine))
	call := overProxy(t, e)
	code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
	tokens := call(t, &mine, http.MethodPost, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {Web.RedirectURI}, "code_verifier": {Verifier},
		"client_id": {Web.ID}, "client_secret": {Web.Secret},
	})
	if r := call(t, nil, http.MethodGet, "/userinfo", nil, "Authorization", "Bearer "+tokens.String("access_token")); r.Status != http.StatusOK {
		t.Errorf("got %d %v", r.Status, r.Body)
	}
}

// The metadata list what is on, and nothing else (RFC 8414 section 2, RFC 8705 sections 3.3 and 5).
func TestTheMetadataFollowMutualTLS(t *testing.T) {
	ca, mine := newAuthority(t), selfSigned(t)
	always := []string{"client_secret_basic", "client_secret_jwt", "client_secret_post", "none", "private_key_jwt"}
	for name, c := range map[string]struct {
		edit    func(*config.Config)
		methods []string
		alias   string
	}{
		"off":                  {func(*config.Config) {}, nil, ""},
		"without an authority": {certificateClients(config.MTLSTLS, nil, mine), []string{"self_signed_tls_client_auth"}, ""},
		"with one":             {certificateClients(config.MTLSTLS, ca, mine), []string{"self_signed_tls_client_auth", "tls_client_auth"}, ""},
		"at another host": {func(c *config.Config) {
			certificateClients(config.MTLSTLS, ca, mine)(c)
			c.MTLS.URL = "https://mtls.example.com"
		}, []string{"self_signed_tls_client_auth", "tls_client_auth"}, "https://mtls.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			e := Start(t, c.edit)
			for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
				m := Do(t, request(t, http.MethodGet, e.Issuer+path, "", "")).Body
				for key, want := range map[string][]string{
					"token_endpoint_auth_methods_supported":         slices.Concat(always, c.methods),
					"revocation_endpoint_auth_methods_supported":    slices.Concat(always, c.methods),
					"introspection_endpoint_auth_methods_supported": slices.DeleteFunc(slices.Concat(always, c.methods), func(m string) bool { return m == "none" }),
				} {
					if got := metadataList(m[key]); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
						t.Errorf("%s: %v, want %v", key, got, want)
					}
				}
				for _, key := range []string{"token", "revocation", "introspection"} {
					if got := metadataList(m[key+"_endpoint_auth_signing_alg_values_supported"]); !slices.Equal(got, []string{"ES256", "EdDSA", "HS256", "PS256", "RS256"}) {
						t.Errorf("%s: %v", key, got)
					}
				}
				if bound, _ := m["tls_client_certificate_bound_access_tokens"].(bool); bound != (name != "off") {
					t.Errorf("tls_client_certificate_bound_access_tokens: %t", bound)
				}
				aliases, _ := m["mtls_endpoint_aliases"].(map[string]any)
				for _, name := range []string{"token", "revocation", "introspection", "userinfo", "device_authorization", "pushed_authorization_request"} {
					if _, there := aliases[name+"_endpoint"]; there != (c.alias != "") {
						t.Errorf("mtls_endpoint_aliases has %s_endpoint: %t", name, there)
					}
				}
				for key, value := range aliases {
					if here, _ := m[key].(string); value != c.alias+strings.TrimPrefix(here, e.Issuer) {
						t.Errorf("the alias of %s is %v", key, value)
					}
				}
			}
		})
	}
}

// metadataList are the strings of a list in JSON, sorted.
func metadataList(list any) []string {
	var all []string
	values, _ := list.([]any)
	for _, v := range values {
		s, _ := v.(string)
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}
