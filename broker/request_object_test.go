package broker_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// A key of a client's, as its developer has it.
type clientKey struct {
	kid     string
	private crypto.Signer
}

func newClientKey(t testing.TB, kid string) clientKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return clientKey{kid, private}
}

// jwks is its public half as a client registers it.
func (k clientKey) jwks(t testing.TB) string {
	return jwks(t, map[string]crypto.Signer{k.kid: k.private})
}

func (k clientKey) sign(t testing.TB, typ string, claims map[string]any) string {
	header := map[string]string{"kid": k.kid}
	if typ != "" {
		header["typ"] = typ
	}
	return sign(t, "ES256", k.private, header, claims)
}

// object are the claims of an ordinary request object, changed by edits; a nil value removes.
func object(e *Env, c Client, edits map[string]any) map[string]any {
	claims := map[string]any{
		"iss": c.ID, "aud": e.Issuer, "exp": e.Clock.Now().Add(5 * time.Minute).Unix(), "iat": e.Clock.Now().Unix(),
	}
	for name, values := range AuthorizeParams(c) {
		claims[name] = values[0]
	}
	maps.Copy(claims, edits)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// objectURL is an authorization request that is nothing but an object.
func objectURL(e *Env, c Client, raw string, more ...string) string {
	return e.Issuer + "/authorize?" + edited(url.Values{"client_id": {c.ID}, "request": {raw}}, more...).Encode()
}

// withKeys registers keys for clients.
func withKeys(t testing.TB, keys map[string]clientKey, edits ...func(*config.Client)) func(*config.Config) {
	return func(cfg *config.Config) {
		for i := range cfg.Clients {
			if key, has := keys[cfg.Clients[i].ClientID]; has {
				cfg.Clients[i].JWKS = config.NewSecret(key.jwks(t))
				for _, edit := range edits {
					edit(&cfg.Clients[i])
				}
			}
		}
	}
}

func TestASignedRequestSignsIn(t *testing.T) {
	key := newClientKey(t, "k1")
	Each(t, func(t *testing.T, e *Env) {
		raw := key.sign(t, "oauth-authz-req+jwt", object(e, Web, map[string]any{"idp_hint": "google", "state": "inside", "max_age": 3600}))
		// Nothing beside the object counts (RFC 9101 section 6.3): whoever passes the link on could have added it.
		answer := arrived(t, NewBrowser(t), objectURL(e, Web, raw, "state", "outside", "scope", "openid email", "redirect_uri", "https://evil.example.com/"), Web)
		if answer.Get("state") != "inside" || answer.Get("code") == "" {
			t.Fatalf("the app is told %v", answer)
		}
		if tokens := e.Redeem(t, Web, answer.Get("code")); tokens.Status != http.StatusOK || tokens.String("scope") != "openid offline_access" {
			t.Errorf("the code gives %d %v", tokens.Status, tokens.Body)
		}
		// Pushed, it is the same (RFC 9126 section 3).
		r := e.Post(t, "/par", Web, url.Values{"request": {raw}, "scope": {"openid email"}})
		if r.Status != http.StatusCreated {
			t.Fatalf("pushing: %d %v", r.Status, r.Body)
		}
		if answer := arrived(t, NewBrowser(t), pushedURL(e, Web, r.String("request_uri")), Web); answer.Get("state") != "inside" || answer.Get("code") == "" {
			t.Errorf("pushed: the app is told %v", answer)
		}
	}, withKeys(t, map[string]clientKey{"web": key}))
}

// Every way in which a request object can be none of the client's for this server. Each is refused by value and pushed alike.
func TestRequestObjectsThatAreRefused(t *testing.T) {
	key, others := newClientKey(t, "k1"), newClientKey(t, "k1")
	e := Start(t, withKeys(t, map[string]clientKey{"web": key, "other": others}))
	now := e.Clock.Now()
	signed := func(edits map[string]any) string {
		return key.sign(t, "oauth-authz-req+jwt", object(e, Web, edits))
	}
	b64 := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(object(e, Web, nil))
	honest := signed(nil)
	for name, raw := range map[string]string{
		"unsigned (alg none)":                        b64([]byte(`{"alg":"none"}`)) + "." + b64(payload) + ".",
		"its signature taken off":                    honest[:strings.LastIndex(honest, ".")+1],
		"a payload under another's signature":        strings.Split(honest, ".")[0] + "." + b64([]byte(`{"client_id":"web"}`)) + "." + strings.Split(honest, ".")[2],
		"signed with the public key as HMAC secret":  sign(t, "HS256", []byte(key.jwks(t)), nil, object(e, Web, nil)),
		"signed by another client":                   others.sign(t, "oauth-authz-req+jwt", object(e, Web, nil)),
		"another client's own":                       others.sign(t, "oauth-authz-req+jwt", object(e, Other, nil)),
		"issued by another client":                   signed(map[string]any{"iss": Other.ID}),
		"without issuer":                             signed(map[string]any{"iss": nil}),
		"for another client (swapped client_id)":     signed(map[string]any{"client_id": Other.ID}),
		"without client_id":                          signed(map[string]any{"client_id": nil}),
		"for another server":                         signed(map[string]any{"aud": "https://other.example.com"}),
		"without audience":                           signed(map[string]any{"aud": nil}),
		"expired":                                    signed(map[string]any{"exp": now.Add(-time.Second).Unix()}),
		"from the future (nbf)":                      signed(map[string]any{"nbf": now.Add(61 * time.Second).Unix()}),
		"from the future (iat)":                      signed(map[string]any{"iat": now.Add(61 * time.Second).Unix()}),
		"with an exp of words":                       signed(map[string]any{"exp": "soon"}),
		"with a negative exp":                        signed(map[string]any{"exp": -1}),
		"an assertion of the client's (sub)":         signed(map[string]any{"sub": Web.ID}),
		"a nested request":                           signed(map[string]any{"request": honest}),
		"a nested request_uri":                       signed(map[string]any{"request_uri": "https://app.example.com/r"}),
		"a nested pushed reference":                  signed(map[string]any{"request_uri": "urn:ietf:params:oauth:request_uri:x"}),
		"a jti that would be remembered for ever":    signed(map[string]any{"jti": "j", "exp": nil}),
		"a jti that would be remembered for a month": signed(map[string]any{"jti": "j", "exp": now.Add(30 * 24 * time.Hour).Unix()}),
		"another kind of JWT: an assertion":          key.sign(t, "client-authentication+jwt", object(e, Web, nil)),
		"another kind of JWT: a DPoP proof":          key.sign(t, "dpop+jwt", object(e, Web, nil)),
		"another kind of JWT: an access token":       key.sign(t, "at+jwt", object(e, Web, nil)),
		"of a key that is not registered":            clientKey{"k2", newClientKey(t, "k2").private}.sign(t, "", object(e, Web, nil)),
		"nonsense":                                   "nonsense",
		"encrypted":                                  "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
	} {
		t.Run(name, func(t *testing.T) {
			page := NewBrowser(t).Get(objectURL(e, Web, raw))
			if page.Status != http.StatusBadRequest || page.Location() != nil {
				t.Errorf("got %d to %v, want a page: nothing that can be trusted says where the app is", page.Status, page.Location())
			}
			// Beside an object that cannot be used, a registered redirect URI says whom to tell.
			location := NewBrowser(t).Get(objectURL(e, Web, raw, "redirect_uri", Web.RedirectURI, "state", "s")).Location()
			if location == nil || location.Query().Get("error") != "invalid_request_object" || location.Query().Get("state") != "s" {
				t.Errorf("the app is told %v", location)
			}
			if r := e.Post(t, "/par", Web, url.Values{"request": {raw}}); r.Status != 400 || r.String("error") != "invalid_request_object" {
				t.Errorf("pushed: %d %v", r.Status, r.Body)
			}
		})
	}
	for name, raw := range map[string]string{
		"no typ, as before RFC 9101":   key.sign(t, "", object(e, Web, nil)),
		"typ JWT":                      key.sign(t, "JWT", object(e, Web, nil)),
		"several audiences":            signed(map[string]any{"aud": []string{"https://other.example.com", e.Issuer}}),
		"a clock that is a bit ahead":  signed(map[string]any{"iat": now.Add(8 * time.Second).Unix(), "nbf": now.Add(8 * time.Second).Unix()}),
		"no times at all":              signed(map[string]any{"iat": nil, "exp": nil}),
		"a sub that is no client's id": signed(map[string]any{"sub": "somebody"}),
	} {
		t.Run("taken: "+name, func(t *testing.T) {
			if page := NewBrowser(t).Get(objectURL(e, Web, raw)); page.Status != http.StatusOK {
				t.Errorf("got %d\n%s", page.Status, page.Body)
			}
		})
	}
}

// An object's parameters are judged as any others are: a signature makes a redirect URI nobody registered no better.
func TestASignedRequestIsJudgedLikeAnyOther(t *testing.T) {
	key := newClientKey(t, "k1")
	e := Start(t, withKeys(t, map[string]clientKey{"web": key}))
	if page := NewBrowser(t).Get(objectURL(e, Web, key.sign(t, "", object(e, Web, map[string]any{"redirect_uri": "https://evil.example.com/"})))); page.Status != http.StatusBadRequest || page.Location() != nil {
		t.Errorf("got %d to %v", page.Status, page.Location())
	}
	for name, c := range map[string]struct {
		edits map[string]any
		want  string
	}{
		"no response type, though it stands outside": {map[string]any{"response_type": nil}, "invalid_request"},
		"no PKCE, though it stands outside":          {map[string]any{"code_challenge": nil}, "invalid_request"},
		"a scope in a list":                          {map[string]any{"scope": []string{"openid"}}, "invalid_scope"},
		"claims that are a list":                     {map[string]any{"claims": []string{"email"}}, "invalid_request"},
		"a max_age below zero":                       {map[string]any{"max_age": -1}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			outside := AuthorizeParams(Web)
			outside.Set("request", key.sign(t, "", object(e, Web, c.edits)))
			location := NewBrowser(t).Get(e.Issuer + "/authorize?" + outside.Encode()).Location()
			if location == nil || location.Query().Get("error") != c.want {
				t.Errorf("the app is told %v, want %s", location, c.want)
			}
		})
	}
}

// An object that names itself is for one sign-in (RFC 7519 section 4.1.7): whoever sees the address cannot use it again.
func TestARequestObjectWithAJTIIsUsedOnce(t *testing.T) {
	key := newClientKey(t, "k1")
	Each(t, func(t *testing.T, e *Env) {
		raw := key.sign(t, "oauth-authz-req+jwt", object(e, First, map[string]any{"jti": "one", "idp_hint": "google"}))
		address := objectURL(e, First, raw)
		b := NewBrowser(t)
		code := arrived(t, b, address, First).Get("code")
		if code == "" {
			t.Fatal("no code")
		}
		if again := arrived(t, b, address, First).Get("code"); again != code {
			t.Errorf("the browser whose answer was lost gets %q instead of its code", again)
		}
		if answer := arrived(t, NewBrowser(t), address, First); answer.Get("error") != "invalid_request_object" {
			t.Errorf("another browser is told %v", answer)
		}
		if r := e.Post(t, "/par", First, url.Values{"request": {raw}}); r.String("error") != "invalid_request_object" {
			t.Errorf("pushed after it was used: %d %v", r.Status, r.Body)
		}

		// Pushed at once sixteen times, it is pushed once.
		raced := key.sign(t, "oauth-authz-req+jwt", object(e, First, map[string]any{"jti": "two"}))
		var taken, refused atomic.Int64
		storetest.Race(16, func() {
			switch r := e.Post(t, "/par", First, url.Values{"request": {raced}}); {
			case r.Status == http.StatusCreated:
				taken.Add(1)
			case r.String("error") == "invalid_request_object":
				refused.Add(1)
			default:
				t.Errorf("got %d %v", r.Status, r.Body)
			}
		})
		if taken.Load() != 1 || refused.Load() != 15 {
			t.Errorf("%d were taken and %d refused, want 1 and 15", taken.Load(), refused.Load())
		}
	}, withKeys(t, map[string]clientKey{"first": key}))
}

func TestRequestsMustBeSignedWhereThatIsDemanded(t *testing.T) {
	key := newClientKey(t, "k1")
	e := Start(t, withKeys(t, map[string]clientKey{"web": key}, func(c *config.Client) {
		c.RequireSignedRequestObject, c.RequestObjectSigningAlg = true, "ES256"
	}))
	if answer := e.Code(t, NewBrowser(t), Web); answer.Get("error") != "invalid_request" || !strings.Contains(answer.Get("error_description"), "signed") {
		t.Errorf("an unsigned request gets %v", answer)
	}
	if r := push(t, e, Web); r.String("error") != "invalid_request" {
		t.Errorf("an unsigned pushed request gets %d %v", r.Status, r.Body)
	}
	raw := key.sign(t, "", object(e, Web, map[string]any{"idp_hint": "google"}))
	if answer := arrived(t, NewBrowser(t), objectURL(e, Web, raw), Web); answer.Get("code") == "" {
		t.Errorf("a signed one gets %v", answer)
	}
	r := e.Post(t, "/par", Web, url.Values{"request": {raw}})
	if answer := arrived(t, NewBrowser(t), pushedURL(e, Web, r.String("request_uri")), Web); answer.Get("code") == "" {
		t.Errorf("a signed pushed one gets %v", answer)
	}
}

// A request object by reference is fetched from where the client registered it and from nowhere else: a link that anybody can
// make is not to send the broker into its own network (RFC 9101 section 10.4).
func TestARequestByReference(t *testing.T) {
	key := newClientKey(t, "k1")
	var served atomic.Pointer[string]
	var asked atomic.Int64
	contentType := "application/oauth-authz-req+jwt"
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/request.jwt" {
			http.Redirect(w, r, "/request.jwt", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(*served.Load()))
	}))
	t.Cleanup(site.Close)
	registered := site.URL + "/request.jwt"
	edit := withKeys(t, map[string]clientKey{"web": key}, func(c *config.Client) { c.RequestURIs = []string{registered + "#its-hash"} })
	at := func(e *Env, reference string) string {
		return e.Issuer + "/authorize?" + url.Values{"client_id": {Web.ID}, "request_uri": {reference}, "redirect_uri": {Web.RedirectURI}}.Encode()
	}

	e := Start(t, edit, func(cfg *config.Config) { cfg.Fetch.AllowPrivate = true })
	serve := func(text string) { served.Store(&text) }
	serve(key.sign(t, "oauth-authz-req+jwt", object(e, Web, map[string]any{"idp_hint": "google", "state": "by-reference"})) + "\n")
	for name, reference := range map[string]string{"as registered": registered, "with the hash as registered": registered + "#its-hash", "with the hash of what is there now": registered + "#another-hash"} {
		if answer := arrived(t, NewBrowser(t), at(e, reference), Web); answer.Get("code") == "" || answer.Get("state") != "by-reference" {
			t.Errorf("%s: the app is told %v", name, answer)
		}
	}
	before := asked.Load()
	for _, reference := range []string{
		site.URL + "/other", registered + "?x=1", registered + "/", site.URL, "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd",
		strings.Replace(registered, "http://", "http://app@", 1), e.Issuer + "/authorize",
	} {
		if answer := arrived(t, NewBrowser(t), at(e, reference), Web); answer.Get("error") != "invalid_request_uri" {
			t.Errorf("%s: the app is told %v", reference, answer)
		}
	}
	if asked.Load() != before {
		t.Error("an address that is not registered was fetched")
	}
	for name, text := range map[string]string{"too long": strings.Repeat("x", 64<<10), "no JWT": "hello", "nothing": ""} {
		serve(text)
		if got := arrived(t, NewBrowser(t), at(e, registered), Web).Get("error"); got != "invalid_request_uri" && got != "invalid_request_object" {
			t.Errorf("%s: the app is told %q", name, got)
		}
	}
	contentType = "text/html"
	if got := arrived(t, NewBrowser(t), at(e, registered), Web).Get("error"); got != "invalid_request_uri" {
		t.Errorf("a page instead of an object: the app is told %q", got)
	}

	// Without the setting for development, a registered address inside the broker's own network is not fetched either.
	strict := Start(t, edit)
	before = asked.Load()
	if got := arrived(t, NewBrowser(t), at(strict, registered), Web).Get("error"); got != "invalid_request_uri" {
		t.Errorf("an address of the broker's own network: the app is told %q", got)
	}
	if asked.Load() != before {
		t.Error("an address of the broker's own network was fetched")
	}
}
