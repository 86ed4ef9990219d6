package resource_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/broker/resource/dpop"
	"github.com/portico-id/portico/config"
)

const mailAPI = "https://api.example.com/mail"

// What the broker knows in these tests: an API that takes JWTs, one that takes opaque tokens, a service that calls both, and the servers behind them.
var (
	service = Client{ID: "service", Secret: "service-secret-0123456789-0123456789-012345"}
	host    = Client{ID: "host", Secret: "host-secret-0123456789-0123456789-01234567"}
)

func withAPIs(c *config.Config) {
	c.APIs = []config.API{
		{Identifier: notesAPI, Name: "Notes", AccessTokenFormat: "jwt", Scopes: []config.Scope{
			{Name: "notes:read", Sentence: "Read your notes"}, {Name: "notes:write", Sentence: "Write your notes"},
		}},
		{Identifier: mailAPI, Name: "Mail", AccessTokenFormat: "opaque", Scopes: []config.Scope{{Name: "mail:read", Sentence: "Read your mail"}}},
	}
	for i := range c.Clients {
		c.Clients[i].Scopes = append(c.Clients[i].Scopes, "notes:read", "mail:read")
	}
	c.Clients = append(c.Clients,
		config.Client{
			ClientID: service.ID, ClientSecret: config.NewSecret(service.Secret), Name: "Service", Scopes: []string{"notes:read", "mail:read"},
			GrantTypes: []string{"client_credentials"},
		},
		config.Client{ClientID: host.ID, ClientSecret: config.NewSecret(host.Secret), Name: "Host", ResourceServerOf: []string{notesAPI, mailAPI}},
	)
}

// of is the API of e that is called identifier.
func of(t testing.TB, e *Env, identifier string, edit func(*resource.Options)) *resource.API {
	t.Helper()
	return newAPI(t, func(o *resource.Options) {
		o.Issuer, o.Identifier, o.Verifier, o.Now = e.Issuer, identifier, nil, e.Clock.Now
		o.ClientID, o.ClientSecret = host.ID, host.Secret
		if edit != nil {
			edit(o)
		}
	})
}

// serviceToken is a token of the service's for an API.
func serviceToken(t testing.TB, e *Env, identifier string, header http.Header) string {
	t.Helper()
	r := e.PostWith(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "resource": {identifier}}, header)
	if r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	return r.String("access_token")
}

// The broker's own tokens, of both formats, of a person and of a service; and what becomes of them when they are revoked or over.
func TestTheBrokersTokens(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		var got *resource.Token
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = resource.FromContext(r.Context()) })
		for identifier, scope := range map[string]string{notesAPI: "notes:read", mailAPI: "mail:read"} {
			strict := of(t, e, identifier, func(o *resource.Options) { o.CheckRevoked, o.CacheFor = true, -1 }).Protect(handler, scope)
			tokens := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access "+scope)
			raw := tokens.String("access_token")
			if answer := call(t, strict, "GET", "/", authorization("Bearer", raw), ""); answer.status != 200 {
				t.Fatalf("%s: %s", identifier, answer)
			}
			if got.Subject == "" || got.Subject == Web.ID || got.ClientID != Web.ID || got.Issuer != e.Issuer || !got.HasScope(scope) || got.ACR == "" ||
				got.ID == "" || e.Clock.Now().Sub(got.AuthTime) > time.Minute || got.ExpiresAt.Before(e.Clock.Now()) {
				t.Errorf("%s: read as %+v", identifier, got)
			}
			if answer := call(t, of(t, e, "urn:example:bank", nil).Protect(handler), "GET", "/", authorization("Bearer", raw), ""); answer.status != 401 {
				t.Errorf("%s at another api: %s", identifier, answer)
			}
			for _, wrong := range []string{tokens.String("id_token"), tokens.String("refresh_token")} {
				if answer := call(t, strict, "GET", "/", authorization("Bearer", wrong), ""); answer.status != 401 {
					t.Errorf("%s: with what is no access token: %s", identifier, answer)
				}
			}
			if r := e.Post(t, "/revoke", Web, url.Values{"token": {tokens.String("refresh_token")}}); r.Status != http.StatusOK {
				t.Fatalf("revoke: %d %v", r.Status, r.Body)
			}
			if answer := call(t, strict, "GET", "/", authorization("Bearer", raw), ""); answer.status != 401 {
				t.Errorf("%s, revoked: %s", identifier, answer)
			}

			raw = serviceToken(t, e, identifier, nil)
			if answer := call(t, strict, "GET", "/", authorization("Bearer", raw), ""); answer.status != 200 || got.Subject != service.ID {
				t.Errorf("%s, a service: %s, %+v", identifier, answer, got)
			}
			e.Clock.Advance(24 * time.Hour)
			if answer := call(t, strict, "GET", "/", authorization("Bearer", raw), ""); answer.status != 401 {
				t.Errorf("%s, a day later: %s", identifier, answer)
			}
		}
	}, withAPIs)
}

// RFC 9449 section 7: a token that is bound to a key works with a proof of that key for this request, once, and with nothing else.
func TestATokenThatIsBoundToAKey(t *testing.T) {
	e := Start(t, withAPIs)
	for _, identifier := range []string{notesAPI, mailAPI} {
		api := of(t, e, identifier, func(o *resource.Options) {
			o.URL, o.Aliases = "https://api.example.com:443/v1", []string{"https://MTLS.example.com:443"}
		})
		h := api.Protect(hello)
		key, other := e.NewKey(t), e.NewKey(t)
		raw := serviceToken(t, e, identifier, key.TokenHeader(e))
		plain := serviceToken(t, e, identifier, nil)
		const at = "https://api.example.com/v1/notes"
		proof := func(edits ...any) string {
			return key.Proof("GET", at, append([]any{"ath", TokenHash(raw)}, edits...)...)
		}
		with := func(scheme, token string, proofs ...string) http.Header {
			header := authorization(scheme, token)
			if len(proofs) > 0 {
				header["Dpop"] = proofs
			}
			return header
		}
		if got := call(t, h, "GET", "/v1/notes", with("DPoP", raw, proof("htu", "https://mtls.example.com/v1/notes")), ""); got.status != 200 {
			t.Errorf("%s, for an alias: %s", identifier, got)
		}
		used := proof()
		if got := call(t, h, "GET", "/v1/notes?x=1", with("DPoP", raw, used), ""); got.status != 200 {
			t.Fatalf("%s: %s", identifier, got)
		}
		for name, c := range map[string]struct {
			header http.Header
			code   string
		}{
			"a used proof":                       {with("DPoP", raw, used), "invalid_dpop_proof"},
			"stolen, as Bearer":                  {with("Bearer", raw), "invalid_token"},
			"stolen, as Bearer, with its proof":  {with("Bearer", raw, proof()), "invalid_token"},
			"no proof":                           {with("DPoP", raw), "invalid_token"},
			"two proofs":                         {with("DPoP", raw, proof(), proof()), "invalid_dpop_proof"},
			"another key's proof":                {with("DPoP", raw, other.Proof("GET", at, "ath", TokenHash(raw))), "invalid_token"},
			"for another method":                 {with("DPoP", raw, proof("htm", "POST")), "invalid_dpop_proof"},
			"for another path":                   {with("DPoP", raw, proof("htu", "https://api.example.com/v1/mail")), "invalid_dpop_proof"},
			"for the address that Host names":    {with("DPoP", raw, proof("htu", "http://127.0.0.1/v1/notes")), "invalid_dpop_proof"},
			"for another path of an alias":       {with("DPoP", raw, proof("htu", "https://mtls.example.com/notes")), "invalid_dpop_proof"},
			"for the path without its beginning": {with("DPoP", raw, proof("htu", "https://api.example.com/notes")), "invalid_dpop_proof"},
			"for another token":                  {with("DPoP", raw, proof("ath", TokenHash(plain))), "invalid_dpop_proof"},
			"for no token":                       {with("DPoP", raw, proof("ath", nil)), "invalid_dpop_proof"},
			"of minutes ago":                     {with("DPoP", raw, proof("iat", e.Clock.Now().Add(-3*time.Minute).Unix())), "invalid_dpop_proof"},
			"what is no proof":                   {with("DPoP", raw, raw), "invalid_dpop_proof"},
			"a token without a key":              {with("DPoP", plain, key.Proof("GET", at, "ath", TokenHash(plain))), "invalid_token"},
		} {
			got := call(t, h, "GET", "/v1/notes", c.header, "")
			said := strings.Join(got.challenges, "\n")
			if got.status != 401 || !strings.Contains(said, `error="`+c.code+`"`) || !strings.Contains(got.body, c.code) {
				t.Errorf("%s, %s: %s", identifier, name, got)
			}
			if scheme, _, _ := strings.Cut(got.challenges[0], " "); !strings.EqualFold(scheme, strings.Fields(c.header.Get("Authorization"))[0]) {
				t.Errorf("%s: the error is in the challenge of %s", name, scheme)
			}
		}
		// The jti tells apart the proofs of one key for one address, and no others (RFC 9449 section 11.1): an app may number those of each. What begins
		// like the API's address is not below it.
		for i, path := range []string{"/v1/a", "/v1/b", "/v1notes"} {
			at := "https://api.example.com" + []string{"/v1/a", "/v1/b", "/v1/v1notes"}[i]
			if got := call(t, h, "GET", path, with("DPoP", raw, proof("htu", at, "jti", "the-same")), ""); got.status != 200 {
				t.Errorf("%s, %s: %s", identifier, path, got)
			}
		}
		// A refused request spends no proof, and something in front may have taken the path's beginning off.
		kept := proof()
		if got := call(t, api.Protect(hello, "notes:admin"), "GET", "/v1/notes", with("DPoP", raw, kept), ""); got.status != 403 {
			t.Errorf("too little scope: %s", got)
		}
		if got := call(t, h, "GET", "/notes", with("DPoP", raw, kept), ""); got.status != 200 {
			t.Errorf("afterwards, behind something that takes /v1 off: %s", got)
		}
		// An API that is nowhere takes none.
		if got := call(t, of(t, e, "urn:example:bank", nil).Protect(hello), "GET", "/", with("DPoP", raw, proof()), ""); got.status != 401 || len(got.challenges) != 1 {
			t.Errorf("without a URL: %s", got)
		}
	}
}

// digester stands in for a key that an API's nodes share.
type digester string

func (d digester) Digest(purpose, value string) string {
	sum := sha256.Sum256([]byte(string(d) + purpose + value))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (d digester) DigestMatches(purpose, digest, value string) bool {
	return d.Digest(purpose, value) == digest
}

// RFC 9449 section 9: an API that demands nonces hands them out, with a refusal as with an answer; and one whose memory is shared, or out of order.
func TestNoncesAndASharedMemory(t *testing.T) {
	e := Start(t, withAPIs)
	nonces := dpop.NewNonces(digester("secret"))
	var claimed []string
	var fault error
	api := of(t, e, notesAPI, func(o *resource.Options) {
		o.Nonces, o.RequireNonce = nonces, true
		o.Replay = func(_ context.Context, key string, expires time.Time) error {
			if left := expires.Sub(e.Clock.Now()); left < dpop.MaxAge || left > 5*time.Minute {
				t.Errorf("to be remembered for %v", left)
			}
			claimed = append(claimed, key)
			return fault
		}
	})
	key := e.NewKey(t)
	raw := serviceToken(t, e, notesAPI, key.TokenHeader(e))
	do := func(edits ...any) answer {
		proof := key.Proof("GET", notesAPI, append([]any{"ath", TokenHash(raw)}, edits...)...)
		return call(t, api.Protect(hello), "GET", "/notes", http.Header{"Authorization": {"DPoP " + raw}, "Dpop": {proof}}, "")
	}
	got := do()
	nonce := got.header.Get("DPoP-Nonce")
	if got.status != 401 || nonce == "" || !strings.Contains(got.challenges[0], `error="use_dpop_nonce"`) || len(claimed) != 0 {
		t.Fatalf("without a nonce: %s, %v", got, got.header)
	}
	if got := do("nonce", "invented"); got.status != 401 || got.header.Get("DPoP-Nonce") == "" {
		t.Errorf("with an invented one: %s", got)
	}
	if got := do("nonce", nonce); got.status != 200 || got.header.Get("DPoP-Nonce") != "" || len(claimed) != 1 {
		t.Errorf("with it: %s, %v", got, claimed)
	}
	e.Clock.Advance(dpop.NonceWindow)
	if got := do("nonce", nonce); got.status != 200 || got.header.Get("DPoP-Nonce") == "" {
		t.Errorf("with one that is about to end: %s, %v", got, got.header)
	}
	fault = resource.ErrReplayed
	if got := do("nonce", nonce); got.status != 401 || !strings.Contains(got.challenges[0], "invalid_dpop_proof") {
		t.Errorf("replayed elsewhere: %s", got)
	}
	fault = errors.New("the memory is away")
	if got := do("nonce", nonce); got.status != 503 || strings.Contains(got.body, "away") {
		t.Errorf("with a memory that is away: %s", got)
	}
	if len(claimed) != 4 || claimed[0] == claimed[1] || strings.Contains(strings.Join(claimed, ""), " ") {
		t.Errorf("claimed %q", claimed)
	}
}

// RFC 8705 section 3: a token that is bound to a certificate works over a connection with it, and over no other.
func TestATokenThatIsBoundToACertificate(t *testing.T) {
	i := newAuthority(t)
	key := i.publish("ES256", "k")
	mine, another := certificate(t), certificate(t)
	sum := sha256.Sum256(mine.Certificate[0])
	raw := key.sign("at+jwt", i.claims("cnf", map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}))
	server := httptest.NewUnstartedServer(i.api(nil).Protect(hello))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	connect := func(pair *tls.Certificate) int {
		transport := server.Client().Transport.(*http.Transport).Clone()
		defer transport.CloseIdleConnections()
		if pair != nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{*pair}
		}
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = authorization("Bearer", raw)
		res, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode
	}
	if got := connect(&mine); got != 200 {
		t.Errorf("with its certificate: %d", got)
	}
	if got := connect(&another); got != 401 {
		t.Errorf("with another: %d", got)
	}
	if got := connect(nil); got != 401 {
		t.Errorf("with none: %d", got)
	}
	// Behind something that ends TLS, where the API says who had which.
	leaf, err := x509.ParseCertificate(mine.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	behind := i.api(func(o *resource.Options) { o.Certificate = func(*http.Request) *x509.Certificate { return leaf } })
	if got := call(t, behind.Protect(hello), "GET", "/", authorization("Bearer", raw), ""); got.status != 200 {
		t.Errorf("behind something that ends TLS: %s", got)
	}
}

// certificate is a self-signed one.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key := newKey(t, "ES256", "").private
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// The clients' texts come back in challenges and bodies, and end neither a header nor a value.
func TestNothingThatAClientSendsEndsAHeader(t *testing.T) {
	evil := "x\"\r\nSet-Cookie: a=b\x00é"
	api := newAPI(t, func(o *resource.Options) {
		o.Verifier = known{"t": plainToken(func(t *resource.Token) { t.Scopes = nil })}
	})
	need := resource.Need{Scopes: []string{evil}, ACRValues: []string{evil}}
	for _, header := range []http.Header{authorization("Bearer", "t"), {}, {"Authorization": {"Bearer a\tb"}}} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		maps.Copy(r.Header, header)
		api.ProtectNeed(need, hello).ServeHTTP(w, r)
		for _, challenge := range w.Header().Values("WWW-Authenticate") {
			if strings.ContainsFunc(challenge, func(c rune) bool { return c < 0x20 || c > 0x7e }) || strings.Count(challenge, `"`)%2 != 0 {
				t.Errorf("the challenge is %q", challenge)
			}
		}
	}
}
