package broker_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// The apis behind proxies in these tests: memos at a URL, with opaque tokens; vault without one, with JWTs, also in the query.
const (
	memosAPI = "https://api.example.net/memos"
	memosURL = "https://api.example.net/v1"
	vaultAPI = "urn:example:vault"
)

// clerk is a service that may do all at both.
var clerk = Client{ID: "clerk", Secret: "clerk-secret-0123456789-0123456789-01234567"}

// behindProxies gives the clients the scopes of both apis.
func behindProxies(c *config.Config) {
	scopes := []string{"memo:read", "memo:write", "memo:admin", "vault:open"}
	for i := range c.Clients {
		c.Clients[i].Scopes = append(c.Clients[i].Scopes, scopes...)
		c.Clients[i].AuthorizationDetailsTypes = append(c.Clients[i].AuthorizationDetailsTypes, "drawer")
	}
	c.Clients = append(c.Clients, config.Client{
		ClientID: clerk.ID, ClientSecret: config.NewSecret(clerk.Secret), Name: "Clerk", Scopes: scopes,
		AuthorizationDetailsTypes: []string{"drawer"}, GrantTypes: []string{"client_credentials"},
	})
}

// registerAPIs registers both.
func registerAPIs(t *testing.T, e *Env) {
	t.Helper()
	for _, api := range []registry.API{
		{
			Identifier: memosAPI, Name: "Memos", URL: memosURL,
			Scopes: []registry.Scope{{Name: "memo:read", Sentence: "Read memos"}, {Name: "memo:write", Sentence: "Write memos"}, {Name: "memo:admin", Sentence: "Manage memos"}},
			Endpoints: []registry.Endpoint{
				{Method: "GET", Path: "/memos", Scopes: []string{"memo:read"}},
				{Method: "POST", Path: "/memos", Scopes: []string{"memo:write"}, Alternatives: [][]string{{"memo:admin"}}},
				{Method: "GET", Path: "/memos/{id}", Scopes: []string{"memo:read"}},
				{Method: "GET", Path: "/memos/secret", Scopes: []string{"memo:admin"}},
				{Method: "GET", Path: "/memos/export", Denied: true},
				{Method: "GET", Path: "/me"},
				{Method: "GET", Path: "/health", Public: true},
				{Method: "OPTIONS", Path: "/{path...}", Public: true},
				{Method: "POST", Path: "/pay", Scopes: []string{"memo:write"}, ACRValues: []string{"urn:portico:acr:mfa"}},
				{Method: "GET", Path: "/recent", Scopes: []string{"memo:read"}, MaxAge: 300},
			},
		},
		{
			Identifier: vaultAPI, Name: "Vault", AccessTokenFormat: "jwt", AccessTokenInQuery: true,
			Scopes:       []registry.Scope{{Name: "vault:open", Sentence: "Open the vault"}},
			DetailsTypes: []registry.DetailsType{{Type: "drawer", Sentence: "Open a drawer", Fields: []registry.DetailsField{{Name: "label"}}}},
			Endpoints: []registry.Endpoint{
				{Method: "GET", Path: "/vault", Scopes: []string{"vault:open"}},
				{Method: "GET", Path: "/memos", Public: true}, // which a stranger would like to be asked about, instead of the memos
			},
		},
	} {
		if _, err := e.Broker.APIs.Add(t.Context(), api); err != nil {
			t.Fatal(err)
		}
	}
}

// asking is how a kind of proxy asks about a request. query is of the endpoint's address.
type asking func(t *testing.T, e *Env, query, method, target string, header http.Header) *Response

// ask sends the proxy's request; "Name: value" pairs of said are its own headers.
func ask(t *testing.T, e *Env, method, address, host string, header http.Header, said ...string) *Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, e.URL()+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if host != "" {
		r.Host = host
	}
	for i := 0; i+1 < len(said); i += 2 {
		r.Header.Add(said[i], said[i+1])
	}
	return Do(t, r)
}

// proxies are the kinds there are.
var proxies = map[string]asking{
	"nginx": func(t *testing.T, e *Env, query, method, target string, header http.Header) *Response {
		t.Helper()
		return ask(t, e, "GET", "/forward-auth"+query, "", header, "X-Original-Method", method, "X-Original-URL", target)
	},
	"Traefik": func(t *testing.T, e *Env, query, method, target string, header http.Header) *Response {
		t.Helper()
		scheme, rest, _ := strings.Cut(target, "://")
		host, uri, _ := strings.Cut(rest, "/")
		return ask(t, e, "GET", "/forward-auth"+query, "", header,
			"X-Forwarded-Method", method, "X-Forwarded-Proto", scheme, "X-Forwarded-Host", host, "X-Forwarded-Uri", "/"+uri)
	},
	"Envoy": func(t *testing.T, e *Env, _, method, target string, header http.Header) *Response {
		t.Helper()
		_, rest, _ := strings.Cut(target, "://")
		host, uri, _ := strings.Cut(rest, "/")
		return ask(t, e, method, "/forward-auth/"+uri, host, header)
	},
}

var nginx = proxies["nginx"]

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// identity are the headers of a yes.
var identityHeaders = []string{"Subject", "Client-Id", "Scope", "Api", "Acr", "Time", "Expires", "Actor", "Details"}

// expectNo checks a refusal: status, error code ("" for none in the challenge), and that nothing says who somebody is.
func expectNo(t *testing.T, r *Response, status int, code string) {
	t.Helper()
	challenge := r.Header.Get("WWW-Authenticate")
	_, after, _ := strings.Cut(challenge, `error="`)
	got, _, _ := strings.Cut(after, `"`)
	if status == http.StatusForbidden && challenge == "" {
		got = r.String("error")
	}
	if r.Status != status || got != code {
		t.Errorf("%d, %q in %q; want %d, %q (%v)", r.Status, got, challenge, status, code, r.Body)
	}
	if len(r.Header.Values("WWW-Authenticate")) > 1 {
		t.Errorf("nginx would pass on the first of %q", r.Header.Values("WWW-Authenticate"))
	}
	if r.Header.Get("Cache-Control") != "no-store" || r.String("error") == "" || r.String("error_description") == "" {
		t.Errorf("headers %v, body %v", r.Header, r.Body)
	}
	for _, name := range identityHeaders {
		if r.Header.Get("X-Auth-"+name) != "" {
			t.Errorf("a refusal says %s: %q", name, r.Header.Get("X-Auth-"+name))
		}
	}
}

// expectYes checks that all headers are there, and that those named are so. want are "Name", "value" pairs.
func expectYes(t *testing.T, r *Response, want ...string) {
	t.Helper()
	if r.Status != http.StatusOK || r.Header.Get("Cache-Control") == "" {
		t.Errorf("%d %v %v", r.Status, r.Header, r.Body)
		return
	}
	for _, name := range identityHeaders {
		if values, ok := r.Header["X-Auth-"+name]; !ok || len(values) != 1 {
			t.Errorf("X-Auth-%s is %q: what the client made up would stay", name, values)
		}
	}
	for i := 0; i+1 < len(want); i += 2 {
		if got := r.Header.Get("X-Auth-" + want[i]); got != want[i+1] {
			t.Errorf("X-Auth-%s is %q, want %q", want[i], got, want[i+1])
		}
	}
}

// Every kind of proxy, every kind of answer, in the words of RFC 6750 section 3.
func TestForwardAuth(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerAPIs(t, e)
		reader, writer := ownToken(t, e, clerk, "memo:read"), ownToken(t, e, clerk, "memo:write")
		admin, vault := ownToken(t, e, clerk, "memo:admin"), ownToken(t, e, clerk, "vault:open")
		persons := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid memo:read memo:write").String("access_token")
		subject := e.Subject(t, persons)
		revoked := ownToken(t, e, clerk, "memo:read")
		e.Post(t, "/revoke", clerk, url.Values{"token": {revoked}})

		for proxy, asks := range proxies {
			t.Run(proxy, func(t *testing.T) {
				get := func(path string, header http.Header) *Response {
					t.Helper()
					return asks(t, e, "", "GET", memosURL+path, header)
				}
				expectYes(t, get("/memos?x=1", bearer(reader)), "Subject", "clerk", "Client-Id", "clerk", "Scope", "memo:read", "Api", memosAPI, "Time", "", "Acr", "", "Actor", "", "Details", "")
				expectYes(t, get("/memos", bearer(persons)), "Subject", subject, "Client-Id", "web", "Scope", "memo:read memo:write", "Acr", "urn:portico:acr:federated")
				expectYes(t, asks(t, e, "", "POST", memosURL+"/memos", bearer(writer)))
				expectYes(t, asks(t, e, "", "POST", memosURL+"/memos", bearer(admin)))
				expectYes(t, asks(t, e, "", "HEAD", memosURL+"/memos", bearer(reader)))
				expectYes(t, get("/me", bearer(admin)))

				none := get("/memos", nil)
				expectNo(t, none, 401, "")
				if c := none.Header.Get("WWW-Authenticate"); !strings.Contains(c, `Bearer realm="`+memosAPI+`", scope="memo:read"`) || !strings.Contains(c, ", DPoP realm=") {
					t.Errorf("without a token: %q", c)
				}
				expectNo(t, get("/memos", http.Header{"Authorization": {"Basic Y2xlcms6eA=="}}), 401, "")
				expectNo(t, get("/memos", bearer("nonsense")), 401, "invalid_token")
				expectNo(t, get("/memos", bearer(revoked)), 401, "invalid_token")
				expectNo(t, get("/memos", bearer(vault)), 401, "invalid_token")
				little := get("/memos", bearer(writer))
				expectNo(t, little, 403, "insufficient_scope")
				if c := little.Header.Get("WWW-Authenticate"); !strings.Contains(c, `scope="memo:read"`) {
					t.Errorf("too little scope: %q", c)
				}
				expectNo(t, asks(t, e, "", "POST", memosURL+"/memos", bearer(reader)), 403, "insufficient_scope")
				expectNo(t, get("/memos/secret", bearer(reader)), 403, "insufficient_scope")
				expectNo(t, get("/memos", http.Header{"Authorization": {"Bearer " + reader, "Bearer " + reader}}), 401, "invalid_request")

				// What is not registered is nobody's, whoever asks.
				expectNo(t, get("/other", bearer(admin)), 403, "access_denied")
				expectNo(t, get("/memos/", bearer(admin)), 403, "access_denied")
				expectNo(t, asks(t, e, "", "DELETE", memosURL+"/memos", bearer(admin)), 403, "access_denied")
				expectNo(t, asks(t, e, "", "GET", "https://api.example.net/memos", bearer(reader)), 403, "access_denied")
				expectNo(t, asks(t, e, "", "GET", "https://other.example.net/v1/memos", bearer(reader)), 403, "access_denied")

				// Nor is what is denied, although /memos/{id} would let it through.
				expectYes(t, get("/memos/exports", bearer(reader)))
				for _, header := range []http.Header{nil, bearer(reader), bearer(admin)} {
					expectNo(t, get("/memos/export", header), 403, "access_denied")
					expectNo(t, get("/memos/export;x", header), 403, "access_denied")
				}

				// RFC 9470 section 3.
				stepUp := asks(t, e, "", "POST", memosURL+"/pay", bearer(persons))
				expectNo(t, stepUp, 401, "insufficient_user_authentication")
				if c := stepUp.Header.Get("WWW-Authenticate"); !strings.Contains(c, `acr_values="urn:portico:acr:mfa"`) {
					t.Errorf("step-up: %q", c)
				}
				expectYes(t, get("/recent", bearer(persons)))
				expectNo(t, get("/recent", bearer(reader)), 401, "insufficient_user_authentication")

				// Public: whatever token is there is not looked at, as by a handler that no middleware protects.
				for _, header := range []http.Header{nil, bearer("nonsense"), bearer(reader)} {
					expectYes(t, get("/health", header), "Subject", "", "Client-Id", "", "Scope", "", "Api", "", "Expires", "")
				}
				// A preflight has no token. It is the api's to answer, not this endpoint's, which is no page's to call.
				preflight := asks(t, e, "", "OPTIONS", memosURL+"/memos", http.Header{
					"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"POST"}, "Sec-Fetch-Site": {"cross-site"},
				})
				expectYes(t, preflight)
				if preflight.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("the preflight was answered here: %v", preflight.Header)
				}
			})
		}
		e.Clock.Advance(301 * time.Second)
		expectNo(t, nginx(t, e, "", "GET", memosURL+"/recent", bearer(persons)), 401, "insufficient_user_authentication")
		e.Clock.Advance(24 * time.Hour)
		expectNo(t, nginx(t, e, "", "GET", memosURL+"/memos", bearer(persons)), 401, "invalid_token")
	}, behindProxies)
}

// A token for several apis says to each what it allows there. What it says fits into headers, and loses nothing on the way.
func TestForwardAuthSaysNothingOfOtherAPIs(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerAPIs(t, e)
		details := `[{"type":"drawer","label":"Grüße \"42\" 𝄞"}]`
		r := e.Post(t, "/token", clerk, url.Values{
			"grant_type": {"client_credentials"}, "scope": {"vault:open"}, "resource": {vaultAPI}, "authorization_details": {details},
		})
		token := r.String("access_token")
		answer := nginx(t, e, "?api="+vaultAPI, "GET", "https://anything.example/vault", bearer(token))
		expectYes(t, answer, "Api", vaultAPI, "Scope", "vault:open")
		said := answer.Header.Get("X-Auth-Details")
		if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not ASCII: %q", said)
		}
		var got, want any
		if err := json.Unmarshal([]byte(said), &got); err != nil {
			t.Fatalf("%q: %v", said, err)
		}
		_ = json.Unmarshal([]byte(details), &want)
		if a, b := mustJSON(t, got), mustJSON(t, want); a != b {
			t.Errorf("details are %s, want %s", a, b)
		}
		expires, err := strconv.ParseInt(answer.Header.Get("X-Auth-Expires"), 10, 64)
		if left := time.Unix(expires, 0).Sub(e.Clock.Now()); err != nil || left <= 0 || left > time.Hour {
			t.Errorf("it expires at %q", answer.Header.Get("X-Auth-Expires"))
		}

		// One format, so that one token can be for both.
		if _, err := e.Broker.APIs.Update(t.Context(), vaultAPI, func(a *registry.API) error { a.AccessTokenFormat = ""; return nil }); err != nil {
			t.Fatal(err)
		}
		r = e.Post(t, "/token", clerk, url.Values{
			"grant_type": {"client_credentials"}, "scope": {"memo:read vault:open"}, "resource": {vaultAPI, memosAPI}, "authorization_details": {details},
		})
		both := bearer(r.String("access_token"))
		expectYes(t, nginx(t, e, "", "GET", memosURL+"/memos", both), "Api", memosAPI, "Scope", "memo:read", "Details", "")
		expectYes(t, nginx(t, e, "?api="+vaultAPI, "GET", "https://anything.example/vault", both), "Api", vaultAPI, "Scope", "vault:open")
	}, behindProxies)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Who acts for whom is said too (RFC 8693 section 4.1).
func TestForwardAuthSaysWhoActs(t *testing.T) {
	e := Start(t, withGateway, func(c *config.Config) {
		c.APIs = slices.DeleteFunc(c.APIs, func(a config.API) bool { return a.Identifier == mailAPI })
	})
	if _, err := e.Broker.APIs.Add(t.Context(), registry.API{
		Identifier: mailAPI, Name: "Mail", Scopes: []registry.Scope{{Name: "mail:read", Sentence: "Read your mail"}},
		Endpoints: []registry.Endpoint{{Method: "GET", Path: "/inbox", Scopes: []string{"mail:read"}}},
	}); err != nil {
		t.Fatal(err)
	}
	subject := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access notes:read notes:write").String("access_token")
	actor := ownToken(t, e, gateway, "mail:read")
	r := exchange(t, e, gateway, subject, "resource", mailAPI, "scope", "mail:read", "actor_token", actor, "actor_token_type", tokenTypeAccess)
	if r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	answer := nginx(t, e, "?api="+url.QueryEscape(mailAPI), "GET", "https://mail.example/inbox", bearer(r.String("access_token")))
	expectYes(t, answer, "Scope", "mail:read")
	var said struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal([]byte(answer.Header.Get("X-Auth-Actor")), &said); err != nil || said.Subject != gateway.ID {
		t.Errorf("X-Auth-Actor is %q", answer.Header.Get("X-Auth-Actor"))
	}
}

// What was revoked, or belongs to somebody who is gone, is refused from then on, a JWT like an opaque token: nothing is kept between two questions.
func TestForwardAuthSeesRevocationAtOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerAPIs(t, e)
		node := e.Node(t)
		for _, c := range []struct{ query, target, scope string }{
			{"", memosURL + "/memos", "memo:read"},
			{"?api=" + vaultAPI, "https://v.example/vault", "vault:open"},
		} {
			own := ownToken(t, e, clerk, c.scope)
			tokens := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid offline_access "+c.scope, "resource", map[string]string{"memo:read": memosAPI, "vault:open": vaultAPI}[c.scope])
			persons := tokens.String("access_token")
			for _, token := range []string{own, persons} {
				expectYes(t, nginx(t, node, c.query, "GET", c.target, bearer(token)))
			}
			e.Post(t, "/revoke", clerk, url.Values{"token": {own}})
			e.Post(t, "/revoke", Web, url.Values{"token": {tokens.String("refresh_token")}})
			for _, token := range []string{own, persons} {
				expectNo(t, nginx(t, node, c.query, "GET", c.target, bearer(token)), 401, "invalid_token")
			}
		}
	}, behindProxies)
}

// A stolen token that is bound to a key is of no use; a proof is for the api's own address, whatever the proxy is called, and good once on all nodes.
func TestForwardAuthChecksProofs(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerAPIs(t, e)
		node := e.Node(t)
		key, thief := e.NewKey(t), e.NewKey(t)
		token := signInBound(t, e, Web, key, "scope", "openid memo:read memo:write", "resource", memosAPI).String("access_token")
		with := func(scheme string, proofs ...string) http.Header {
			return http.Header{"Authorization": {scheme + " " + token}, "Dpop": proofs}
		}
		ath := Challenge(token)
		target := memosURL + "/memos"
		proof := func(edits ...any) string { return key.Proof("GET", target, append([]any{"ath", ath}, edits...)...) }

		for proxy, asks := range proxies {
			expectYes(t, asks(t, e, "", "GET", target+"?x=1", with("DPoP", proof())))
			for name, header := range map[string]http.Header{
				"as a bearer token":    with("Bearer"),
				"bearer, with a proof": with("Bearer", proof()),
				"without a proof":      with("DPoP"),
				"another key":          with("DPoP", thief.Proof("GET", target, "ath", ath)),
				"two proofs":           with("DPoP", proof(), proof()),
				"another method":       with("DPoP", key.Proof("POST", target, "ath", ath)),
				"the broker's address": with("DPoP", key.Proof("GET", e.Issuer+"/forward-auth", "ath", ath)),
				"another path":         with("DPoP", key.Proof("GET", memosURL+"/me", "ath", ath)),
				"without the url's":    with("DPoP", key.Proof("GET", "https://api.example.net/memos", "ath", ath)),
				"another host":         with("DPoP", key.Proof("GET", "https://evil.example/v1/memos", "ath", ath)),
				"another scheme":       with("DPoP", key.Proof("GET", "http://api.example.net/v1/memos", "ath", ath)),
				"without the hash":     with("DPoP", key.Proof("GET", target)),
				"another token's":      with("DPoP", key.Proof("GET", target, "ath", Challenge("other"))),
				"an old one":           with("DPoP", proof("iat", e.Clock.Now().Add(-time.Hour).Unix())),
				"no proof at all":      with("DPoP", "x"),
			} {
				if r := asks(t, e, "", "GET", target, header); r.Status != http.StatusUnauthorized {
					t.Errorf("%s, %s: %d %v", proxy, name, r.Status, r.Body)
				}
			}
		}
		// The api that is named decides which address that is, not the Host header.
		named := "?api=" + url.QueryEscape(memosAPI)
		expectYes(t, nginx(t, e, named, "GET", "http://internal:8080/v1/memos", with("DPoP", proof())))
		expectNo(t, nginx(t, e, named, "GET", "http://internal:8080/v1/memos", with("DPoP", key.Proof("GET", "http://internal:8080/v1/memos", "ath", ath))), 401, "invalid_dpop_proof")

		once := proof()
		expectNo(t, nginx(t, e, "", "POST", memosURL+"/pay", with("DPoP", once)), 401, "invalid_dpop_proof")
		expectYes(t, nginx(t, e, "", "GET", target, with("DPoP", once)))
		replayed := nginx(t, node, "", "GET", target, with("DPoP", once))
		expectNo(t, replayed, 401, "invalid_dpop_proof")
		if c := replayed.Header.Get("WWW-Authenticate"); !strings.HasPrefix(c, "DPoP ") || !strings.Contains(c, ", Bearer realm=") {
			t.Errorf("the challenge is %q", c)
		}
		// An api without an address takes no token that is bound to a key: there is nothing that a proof could be for.
		vault := signInBound(t, e, Web, key, "scope", "openid vault:open", "resource", vaultAPI).String("access_token")
		expectNo(t, nginx(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault", http.Header{
			"Authorization": {"DPoP " + vault}, "Dpop": {key.Proof("GET", "https://v.example/vault", "ath", Challenge(vault))},
		}), 401, "invalid_token")
	}, behindProxies)
}

// Where the broker demands nonces, its nonces are those of the APIs behind it too (RFC 9449 section 9).
func TestForwardAuthDemandsNonces(t *testing.T) {
	e := Start(t, behindProxies, requireNonce)
	registerAPIs(t, e)
	key := e.NewKey(t)
	code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "openid memo:read", "resource", memosAPI).Get("code")
	first := e.PostWith(t, "/token", Web, RedeemForm(Web, code), key.TokenHeader(e))
	nonce := first.Header.Get("DPoP-Nonce")
	tokens := e.PostWith(t, "/token", Web, RedeemForm(Web, code), http.Header{"DPoP": {key.Proof("POST", e.Issuer+"/token", "nonce", nonce)}})
	token := tokens.String("access_token")
	get := func(edits ...any) *Response {
		t.Helper()
		proof := key.Proof("GET", memosURL+"/memos", append([]any{"ath", Challenge(token)}, edits...)...)
		return nginx(t, e, "", "GET", memosURL+"/memos", http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}})
	}
	without := get()
	expectNo(t, without, 401, "use_dpop_nonce")
	expectYes(t, get("nonce", without.Header.Get("DPoP-Nonce")))
	expectNo(t, get("nonce", "made-up"), 401, "use_dpop_nonce")
	e.Clock.Advance(2 * time.Minute)
	stale := get("nonce", without.Header.Get("DPoP-Nonce"))
	expectYes(t, stale)
	if stale.Header.Get("DPoP-Nonce") == "" {
		t.Error("the next nonce is not handed out before this one ends")
	}
}

// A token that is bound to a certificate is good with the one that a trusted proxy passes on, and with nobody's word for it.
func TestForwardAuthChecksCertificates(t *testing.T) {
	mine, other := selfSigned(t), selfSigned(t)
	e := Start(t, behindProxies, certificateClients(config.MTLSProxy, nil, mine), func(c *config.Config) {
		for i := range c.Clients {
			c.Clients[i].Scopes = append(c.Clients[i].Scopes, "memo:read")
		}
	})
	registerAPIs(t, e)
	connect := overProxy(t, e)
	bound := Client{ID: "bound"}
	for i := range e.Config.Clients {
		if c := &e.Config.Clients[i]; c.ClientID == bound.ID {
			bound.Secret, bound.RedirectURI = c.ClientSecret.Reveal(), c.RedirectURIs[0]
		}
	}
	code := e.Code(t, NewBrowser(t), bound, "idp_hint", "google", "scope", "openid memo:read", "resource", memosAPI).Get("code")
	r := connect(t, &mine, "POST", "/token", RedeemForm(bound, code, "client_id", bound.ID, "client_secret", bound.Secret))
	token := r.String("access_token")
	if r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	get := func(certificate string) *Response {
		t.Helper()
		header := bearer(token)
		if certificate != "" {
			header["Client-Cert"] = []string{certificate}
		}
		return nginx(t, e, "", "GET", memosURL+"/memos", header)
	}
	escaped := func(der []byte) string {
		return url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	expectYes(t, get(escaped(mine.Certificate[0])))
	expectNo(t, get(escaped(other.Certificate[0])), 401, "invalid_token")
	expectNo(t, get(""), 401, "invalid_token")
	expectNo(t, get("nonsense"), 401, "invalid_token")
}

// RFC 6750 section 2.3: only where the api says so. The log shows none, in whichever way a proxy passes it on.
func TestForwardAuthTakesATokenInTheQuery(t *testing.T) {
	e := Start(t, behindProxies)
	registerAPIs(t, e)
	memo, vault := ownToken(t, e, clerk, "memo:read"), ownToken(t, e, clerk, "vault:open")
	for proxy, asks := range proxies {
		expectNo(t, asks(t, e, "", "GET", memosURL+"/memos?access_token="+memo, nil), 401, "")
		expectNo(t, asks(t, e, "", "GET", memosURL+"/memos?access_token="+memo, bearer(memo)), 401, "invalid_request")
		if proxy == "Envoy" {
			continue // which names no api
		}
		for _, query := range []string{"access_token=" + vault, "a=b&access_token=" + vault + "&c", "%61ccess_token=" + vault} {
			r := asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault?"+query, nil)
			expectYes(t, r, "Api", vaultAPI)
			if !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
				t.Errorf("Cache-Control is %q", r.Header.Get("Cache-Control"))
			}
		}
		expectNo(t, asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault?access_token="+vault+"&access_token="+vault, nil), 401, "invalid_request")
		expectNo(t, asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault?access_token="+vault, bearer(vault)), 401, "invalid_request")
		expectNo(t, asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault?access_token=forged", nil), 401, "invalid_token")
		// In the endpoint's own address it is nothing.
		expectNo(t, asks(t, e, "?api="+vaultAPI+"&access_token="+vault, "GET", "https://v.example/vault", nil), 401, "")
		expectNo(t, asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/nowhere?access_token="+vault, nil), 403, "access_denied")
		expectNo(t, asks(t, e, "?api="+vaultAPI, "GET", "https://v.example/../vault?access_token="+vault, nil), 401, "invalid_request")
	}
	for _, token := range []string{memo, vault} {
		if strings.Contains(e.Logs.String(), token) {
			t.Error("the log shows a token")
		}
	}
}

// What clients send to be asked about as something else. The request that is meant needs memo:admin; who asks has memo:read.
func TestForwardAuthAttacks(t *testing.T) {
	e := Start(t, behindProxies)
	registerAPIs(t, e)
	token := bearer(ownToken(t, e, clerk, "memo:read"))
	expectYes(t, nginx(t, e, "", "GET", memosURL+"/memos/7", token))
	expectNo(t, nginx(t, e, "", "GET", memosURL+"/memos/secret", token), 403, "insufficient_scope")

	// The path, by every proxy that passes it on as it came.
	for _, path := range []string{
		"/memos/%73ecret", "/memos/./secret", "/memos/x/../secret", "/memos//secret", "/memos/x/%2e%2e/secret", "/memos%2fsecret", "/memos%2Fsecret", "/memos%5csecret",
		`/memos\secret`, "/memos/secret%00", "/memos/secret%00.txt", "/memos/secret;x", "/memos/secret%3bx", "/memos/x/..;/secret", "/memos/;/secret", "/memos/secret%ff", "/memos/%c0%ae%c0%ae/secret",
		"/memos/secret#", "/health/../memos/secret", "/health/..;/memos/secret", "/health%2f..%2fmemos/secret", "//health/../memos/secret", "/memos/secret%",
	} {
		for proxy, said := range map[string][]string{
			"nginx":   {"X-Original-Method", "GET", "X-Original-URL", memosURL + path},
			"URI":     {"X-Original-Method", "GET", "X-Original-URI", "/v1" + path},
			"Traefik": {"X-Forwarded-Method", "GET", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Uri", "/v1" + path},
		} {
			r := ask(t, e, "GET", "/forward-auth?api="+url.QueryEscape(memosAPI), "", token, said...)
			if r.Status != http.StatusUnauthorized && r.Status != http.StatusForbidden {
				t.Errorf("%s: %s is answered %d", proxy, path, r.Status)
			}
		}
		if raw, err := rawGet(e, "/forward-auth/v1"+path, "api.example.net", token); err == nil && raw != 401 && raw != 403 && raw != 400 {
			t.Errorf("Envoy: %s is answered %d", path, raw)
		}
	}

	for name, c := range map[string]struct {
		address string
		said    []string
		status  int
	}{
		"the method of a proxy that does not say it": {"/forward-auth", []string{"X-Original-URL", memosURL + "/memos/secret", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/v1/memos/secret", "X-Forwarded-Host", "api.example.net"}, 401},
		"another family, another path":               {"/forward-auth", []string{"X-Original-Method", "GET", "X-Original-URL", memosURL + "/memos/secret", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/v1/memos", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Proto", "https"}, 401},
		"another family, another host":               {"/forward-auth", []string{"X-Original-Method", "GET", "X-Original-URL", "https://api.example.net/v1/memos", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/v1/memos", "X-Forwarded-Host", "other.example.net"}, 401},
		"the host, where the proxy does not say it":  {"/forward-auth", []string{"X-Original-Method", "GET", "X-Original-URI", "/v1/memos", "X-Forwarded-Host", "api.example.net"}, 403},
		"a second URI": {"/forward-auth", []string{"X-Forwarded-Method", "GET", "X-Forwarded-Host", "api.example.net", "X-Forwarded-Uri", "/v1/memos/secret", "X-Forwarded-Uri", "/v1/memos"}, 401},
		"the api, behind a proxy that passes queries": {"/forward-auth?api=" + vaultAPI, []string{"X-Forwarded-Method", "GET", "X-Forwarded-Host", "other.example.net", "X-Forwarded-Uri", "/memos?api=" + vaultAPI}, 401},
		"a second api":                  {"/forward-auth?api=" + url.QueryEscape(memosAPI) + "&api=" + vaultAPI, []string{"X-Forwarded-Method", "GET", "X-Forwarded-Host", "other.example.net", "X-Forwarded-Uri", "/memos"}, 401},
		"headers, behind Envoy":         {"/forward-auth/v1/memos/secret", []string{"X-Original-Method", "GET", "X-Original-URL", memosURL + "/health", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/v1/health", "X-Forwarded-Host", "api.example.net"}, 403},
		"the api's query, behind Envoy": {"/forward-auth/memos?api=" + vaultAPI, nil, 403},
	} {
		if r := ask(t, e, "GET", c.address, "api.example.net", token, c.said...); r.Status != c.status {
			t.Errorf("%s: %d %v, want %d", name, r.Status, r.Body, c.status)
		}
	}
	// Nothing of it is a way to the broker's own pages, nor are redirects that tidy a path up.
	for _, path := range []string{"/forward-auth/../token", "/forward-auth//", "/forward-auth/a/../../token"} {
		if status, err := rawGet(e, path, "api.example.net", token); err != nil || status != http.StatusUnauthorized {
			t.Errorf("%s: %d, %v", path, status, err)
		}
	}
	if r := ask(t, e, "GET", "/forward-authority", "", token); r.Status != http.StatusNotFound {
		t.Errorf("an address that begins in the same way: %d", r.Status)
	}
}

// rawGet sends a path as it stands, which clients would tidy up.
func rawGet(e *Env, path, host string, header http.Header) (int, error) {
	r, err := http.NewRequest(http.MethodGet, e.URL(), nil)
	if err != nil {
		return 0, err
	}
	r.URL.Opaque, r.Host, r.Header = path, host, header
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}

// What is registered now is what is asked about, on every node: what is new at once, by its name or its address; what is gone two seconds later.
func TestForwardAuthFollowsTheRegistry(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		node := e.Node(t)
		expectNo(t, nginx(t, node, "?api="+vaultAPI, "GET", "https://v.example/vault", nil), 403, "access_denied")
		registerAPIs(t, e)
		e.Clock.Advance(time.Second)
		token := bearer(ownToken(t, e, clerk, "vault:open"))
		expectYes(t, nginx(t, node, "?api="+vaultAPI, "GET", "https://v.example/vault", token))
		if _, err := e.Broker.APIs.Update(t.Context(), vaultAPI, func(a *registry.API) error {
			a.Endpoints = []registry.Endpoint{{Method: "GET", Path: "/drawer"}}
			a.URL = "https://vault.example"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		expectNo(t, nginx(t, e, "?api="+vaultAPI, "GET", "https://v.example/vault", token), 403, "access_denied")
		expectYes(t, nginx(t, e, "", "GET", "https://vault.example/drawer", token))
		e.Clock.Advance(time.Second)
		expectYes(t, nginx(t, node, "", "GET", "https://vault.example/drawer", token))
		if err := e.Broker.APIs.Remove(t.Context(), vaultAPI); err != nil {
			t.Fatal(err)
		}
		expectNo(t, nginx(t, e, "", "GET", "https://vault.example/drawer", token), 403, "access_denied")
		if err := node.Broker.APIs.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectNo(t, nginx(t, node, "?api="+vaultAPI, "GET", "https://v.example/vault", token), 403, "access_denied")
	}, behindProxies)
}

// With the store down nobody gets in, and who asks learns that it is not their fault.
func TestForwardAuthFailsClosed(t *testing.T) {
	e := Start(t, behindProxies)
	registerAPIs(t, e)
	token := bearer(ownToken(t, e, clerk, "memo:read"))
	expectYes(t, nginx(t, e, "", "GET", memosURL+"/memos", token))
	if err := e.Backend.Close(); err != nil {
		t.Fatal(err)
	}
	r := nginx(t, e, "", "GET", memosURL+"/memos", token)
	if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || r.Header.Get("X-Auth-Subject") != "" {
		t.Errorf("%d %v %v", r.Status, r.Header, r.Body)
	}
}

// For development: whatever the host and the beginning of the path, for the api that has an endpoint for it, and that the token is for, if several have;
// a proof is for the address that was asked then.
func TestForwardAuthForAnyHost(t *testing.T) {
	e := Start(t, behindProxies, func(c *config.Config) {
		c.ForwardAuth.AnyHost = true
		c.Clients[len(c.Clients)-1].Scopes = append(c.Clients[len(c.Clients)-1].Scopes, "memo:copy")
	})
	registerAPIs(t, e)
	if _, err := e.Broker.APIs.Update(t.Context(), memosAPI, func(a *registry.API) error { a.URL = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	key := e.NewKey(t)
	token := signInBound(t, e, Web, key, "scope", "openid memo:read", "resource", memosAPI).String("access_token")
	const copyAPI = "https://copy.example.net"
	if _, err := e.Broker.APIs.Add(t.Context(), registry.API{
		Identifier: copyAPI, Name: "Copied memos", URL: copyAPI + "/v3",
		Scopes: []registry.Scope{{Name: "memo:copy", Sentence: "Read copied memos"}},
		Endpoints: []registry.Endpoint{
			{Method: "GET", Path: "/memos", Scopes: []string{"memo:copy"}},
			{Method: "GET", Path: "/health", Public: true},
			{Method: "POST", Path: "/copies", Scopes: []string{"memo:copy"}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	ofCopy, ofMemos, writer := ownToken(t, e, clerk, "memo:copy"), ownToken(t, e, clerk, "memo:read"), ownToken(t, e, clerk, "memo:write")
	for proxy, asks := range proxies {
		expectNo(t, asks(t, e, "", "GET", "http://localhost:8081/nowhere", nil), 403, "access_denied")
		for _, path := range []string{"/copies", "/v3/copies"} { // as it is registered, and as its URL has it
			expectNo(t, asks(t, e, "", "POST", "http://localhost:8081"+path, nil), 401, "")
			expectYes(t, asks(t, e, "", "POST", "http://localhost:8081"+path, bearer(ofCopy)), "Api", copyAPI)
		}
		expectNo(t, asks(t, e, "", "POST", "http://localhost:8081/v2/copies", bearer(ofCopy)), 403, "access_denied")
		// Three apis have it, one of them for everybody: that one is not asked.
		expectNo(t, asks(t, e, "", "GET", "http://localhost:8081/memos", nil), 401, "")
		expectYes(t, asks(t, e, "", "GET", "http://localhost:8081/memos", bearer(ofCopy)), "Api", copyAPI, "Scope", "memo:copy")
		expectYes(t, asks(t, e, "", "GET", "http://localhost:8081/memos", bearer(ofMemos)), "Api", memosAPI, "Scope", "memo:read")
		expectNo(t, asks(t, e, "", "GET", "http://localhost:8081/memos", bearer(writer)), 403, "insufficient_scope")
		expectNo(t, asks(t, e, "", "GET", "http://localhost:8081/memos", bearer("forged")), 401, "invalid_token")
		// Two have it, for everybody: nothing says which.
		expectNo(t, asks(t, e, "", "GET", "http://localhost:8081/health", nil), 403, "access_denied")
		target := "http://localhost:8081/memos/7"
		if proxy == "Envoy" {
			continue // which does not tell the scheme
		}
		header := http.Header{"Authorization": {"DPoP " + token}, "Dpop": {key.Proof("GET", target, "ath", Challenge(token))}}
		expectYes(t, asks(t, e, "", "GET", target, header), "Api", memosAPI)
		header["Dpop"] = []string{key.Proof("GET", "http://other:8081/memos/7", "ath", Challenge(token))}
		expectNo(t, asks(t, e, "", "GET", target, header), 401, "invalid_dpop_proof")
	}
}

// Clients find out what tokens an API takes that does not tell them itself (RFC 9728): where its challenge leads, and where its proxy passes on.
func TestResourceMetadata(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		registerAPIs(t, e)
		challenge := nginx(t, e, "", "GET", memosURL+"/memos", nil).Header.Get("WWW-Authenticate")
		_, after, _ := strings.Cut(challenge, `resource_metadata="`)
		address, _, _ := strings.Cut(after, `"`)
		path, ours := strings.CutPrefix(address, e.Issuer)
		if !ours {
			t.Fatalf("the challenge is %q", challenge)
		}
		for _, r := range []*Response{
			ask(t, e, "GET", path, "", http.Header{"Origin": {"https://app.example.com"}}),
			ask(t, e, "GET", "/.well-known/oauth-protected-resource/memos", "api.example.net", nil),
			ask(t, e, "GET", "/.well-known/oauth-protected-resource/memos", "API.example.net", nil),
		} {
			if r.Status != http.StatusOK || r.String("resource") != memosAPI || r.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %v %v", r.Status, r.Header, r.Body)
			}
			if texts(r.Body["authorization_servers"]) != e.Issuer || texts(r.Body["scopes_supported"]) != "memo:read memo:write memo:admin" || !slices.Contains(strings.Fields(texts(r.Body["bearer_methods_supported"])), "header") {
				t.Errorf("%v", r.Body)
			}
		}
		for address, status := range map[string]int{
			"/resource-metadata":                                           http.StatusBadRequest,
			"/resource-metadata?api=a&api=b":                               http.StatusBadRequest,
			"/resource-metadata?api=urn:none":                              http.StatusNotFound,
			"/.well-known/oauth-protected-resource/other":                  http.StatusNotFound,
			"/.well-known/oauth-protected-resource":                        http.StatusNotFound,
			"/resource-metadata?api=" + vaultAPI:                           http.StatusOK,
			"/resource-metadata?api=" + url.QueryEscape(memosAPI) + "&x=1": http.StatusOK,
		} {
			if r := ask(t, e, "GET", address, "api.example.net", nil); r.Status != status {
				t.Errorf("%s: %d %v", address, r.Status, r.Body)
			}
		}
	}, behindProxies)
}

// A refusal reaches the client as the API's own: it must not bind the API's host to https for a year because the broker's is.
func TestForwardAuthSaysNothingOfHTTPSForTheAPIsHost(t *testing.T) {
	e := Start(t, behindProxies, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	registerAPIs(t, e)
	https := http.Header{"X-Forwarded-Proto": {"https"}}
	r := nginx(t, e, "", "GET", memosURL+"/memos", https)
	if expectNo(t, r, 401, ""); r.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("the answer says %q", r.Header.Get("Strict-Transport-Security"))
	}
	if r := ask(t, e, "GET", "/resource-metadata?api="+url.QueryEscape(memosAPI), "", https); r.Header.Get("Strict-Transport-Security") == "" {
		t.Error("the broker's own answers do not say it either: this shows nothing")
	}
}
