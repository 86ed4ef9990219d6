package broker_test

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/config"
)

// The doors that a request with an access token can come through: the middleware in the API, which verifies a JWT by itself or asks the broker
// about an opaque one, and the reverse proxy, which asks the forward-auth endpoint. Whoever protects an API by one and then by another must not find
// that something else is let in, or that clients are told something else.

// doorAPIs are an api for each token format. They are alike in all else.
func doorAPIs() []registry.API {
	var all []registry.API
	for _, format := range []string{"jwt", "opaque"} {
		all = append(all, registry.API{
			Identifier: "https://" + format + ".example.com/v1", Name: "Notes", URL: "https://" + format + ".example.com/v1",
			AccessTokenFormat: format,
			Scopes: []registry.Scope{
				{Name: "doors:read", Sentence: "Read your notes"}, {Name: "doors:write", Sentence: "Write your notes"}, {Name: "doors:admin", Sentence: "Do anything"},
			},
			Endpoints: []registry.Endpoint{
				{Method: "GET", Path: "/notes", Scopes: []string{"doors:read"}},
				{Method: "POST", Path: "/notes", Scopes: []string{"doors:read", "doors:write"}, Alternatives: [][]string{{"doors:admin"}}},
				{Method: "GET", Path: "/notes/{id}"},
				{Method: "DELETE", Path: "/notes/{id}", Scopes: []string{"doors:write"}, MaxAge: 60, ACRValues: []string{"urn:example:two"}},
				{Method: "PUT", Path: "/notes/{id}", Scopes: []string{"doors:write"}, MaxAge: 60},
			},
		})
	}
	return all
}

func withDoors(c *config.Config) {
	c.GrantTypes = append(c.GrantTypes, registry.GrantClientCredentials)
	c.Clients[0].Scopes = append(c.Clients[0].Scopes, "doors:read", "doors:write", "doors:admin")
	c.Clients = append(c.Clients,
		config.Client{
			ClientID: service.ID, ClientSecret: config.NewSecret(service.Secret), Name: "Service",
			Scopes: []string{"doors:read", "doors:write", "doors:admin"}, GrantTypes: []string{registry.GrantClientCredentials},
		},
	)
	for _, api := range doorAPIs() {
		host := hostOf(api)
		c.Clients = append(c.Clients, config.Client{
			ClientID: host.ID, ClientSecret: config.NewSecret(host.Secret), Name: "Notes, the server", ResourceServerOf: []string{api.Identifier},
		})
	}
}

// hostOf is the client that an api introspects as.
func hostOf(api registry.API) Client {
	return Client{ID: api.AccessTokenFormat + "-server", Secret: api.AccessTokenFormat + "-server-secret-0123456789-0123456789"}
}

// called is a request to an API, as its client makes it.
type called struct {
	method, path string
	header       http.Header
}

// answered is what the client gets: the status, the challenges, and the code in the body. Subject and Scope are what the handler behind the door
// learns.
type answered struct {
	Status         int
	Challenges     string
	Error          string
	Subject, Scope string
}

// throughMiddleware is the API itself, behind broker/resource.
func throughMiddleware(t *testing.T, e *Env, api registry.API, edit ...func(*resource.Options)) func(called) answered {
	t.Helper()
	o := resource.Options{
		Issuer: e.Issuer, Identifier: api.Identifier, URL: api.URL, ClientID: hostOf(api).ID, ClientSecret: hostOf(api).Secret,
		// A revoked JWT is refused at once only by who asks; TestAJWTThatIsVerifiedOfflineStandsUntilItExpires is about who does not.
		CheckRevoked: true, CacheFor: -1,
		MetadataURL: metadataOf(e, api), Log: slog.New(slog.DiscardHandler), Now: e.Clock.Now,
	}
	for _, f := range edit {
		f(&o)
	}
	protected, err := resource.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, endpoint := range api.Endpoints {
		need := resource.Need{
			Scopes: endpoint.Scopes, Alternatives: endpoint.Alternatives, ACRValues: endpoint.ACRValues, MaxAge: time.Duration(endpoint.MaxAge) * time.Second,
		}
		mux.Handle(endpoint.Method+" /v1"+endpoint.Path, protected.ProtectNeed(need, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := resource.FromContext(r.Context())
			w.Header().Set("X-Auth-Subject", token.Subject)
			w.Header().Set("X-Auth-Scope", strings.Join(token.Scopes, " "))
		})))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return func(c called) answered {
		return atDoor(t, c.method, server.URL+"/v1"+c.path, c.header)
	}
}

// throughForwardAuth is a reverse proxy that asks the broker.
func throughForwardAuth(t *testing.T, e *Env, api registry.API) func(called) answered {
	t.Helper()
	return func(c called) answered {
		header := maps.Clone(c.header)
		header.Set("X-Forwarded-Method", c.method)
		header.Set("X-Forwarded-Proto", "https")
		header.Set("X-Forwarded-Host", strings.TrimSuffix(strings.TrimPrefix(api.URL, "https://"), "/v1"))
		header.Set("X-Forwarded-Uri", "/v1"+c.path)
		return atDoor(t, http.MethodGet, e.Issuer+"/forward-auth", header)
	}
}

// metadataOf is where the broker says what an api behind a proxy is (RFC 9728).
func metadataOf(e *Env, api registry.API) string {
	return e.Issuer + "/resource-metadata?" + url.Values{"api": {api.Identifier}}.Encode()
}

func atDoor(t *testing.T, method, target string, header http.Header) answered {
	t.Helper()
	request := request(t, method, target, "", "")
	maps.Copy(request.Header, header)
	r := Do(t, request)
	return answered{
		// The two challenges are in one line, or in one each (RFC 9110 section 11.6.1): forward-auth has one, for proxies that pass on no more.
		Status: r.Status, Challenges: strings.Join(r.Header.Values("WWW-Authenticate"), ", "), Error: r.String("error"),
		Subject: r.Header.Get("X-Auth-Subject"), Scope: r.Header.Get("X-Auth-Scope"),
	}
}

// bearerHeader and dpopHeader carry a token; proof may be "".
func bearerHeader(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

func dpopHeader(token, proof string) http.Header {
	h := http.Header{"Authorization": {"DPoP " + token}}
	if proof != "" {
		h.Set("DPoP", proof)
	}
	return h
}

func TestEveryDoorGivesTheSameAnswer(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		for _, api := range doorAPIs() {
			if _, err := e.Broker.APIs.Add(t.Context(), api); err != nil {
				t.Fatal(err)
			}
		}
		for i, api := range doorAPIs() {
			t.Run(api.AccessTokenFormat, func(t *testing.T) { sameAtEveryDoor(t, e, api, doorAPIs()[1-i]) })
		}
	}, withDoors)
}

func sameAtEveryDoor(t *testing.T, e *Env, api, other registry.API) {
	own := func(api registry.API, scope string, header http.Header) string {
		t.Helper()
		r := e.PostWith(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "scope": {scope}, "resource": {api.Identifier}}, header)
		if r.Status != http.StatusOK {
			t.Fatalf("no token: %d %v", r.Status, r.Body)
		}
		return r.String("access_token")
	}
	persons := func() *Response {
		t.Helper()
		return e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google", "scope", "doors:read doors:write offline_access", "resource", api.Identifier)
	}
	key, another := e.NewKey(t), e.NewKey(t)
	proof := func(k *Key, token, method, path string, edits ...any) string {
		return k.Proof(method, api.URL+path, append([]any{"ath", TokenHash(token)}, edits...)...)
	}

	expired, old := own(api, "doors:read doors:write", nil), persons()
	e.Clock.Advance(2 * time.Hour)
	oldSignIn := e.Refresh(t, Web, old.String("refresh_token")).String("access_token")
	recent := persons()
	revoked := own(api, "doors:read doors:write", nil)
	if r := e.Post(t, "/revoke", service, url.Values{"token": {revoked}}); r.Status != http.StatusOK {
		t.Fatalf("revoking: %d %v", r.Status, r.Body)
	}
	over := persons()
	if r := e.Post(t, "/revoke", Web, url.Values{"token": {over.String("refresh_token")}}); r.Status != http.StatusOK {
		t.Fatalf("revoking: %d %v", r.Status, r.Body)
	}
	reader, writer, admin := own(api, "doors:read", nil), own(api, "doors:read doors:write", nil), own(api, "doors:admin", nil)
	elsewhere := own(other, "doors:read doors:write", nil)
	bound := own(api, "doors:read doors:write", key.TokenHeader(e))

	metadata := `resource_metadata="` + metadataOf(e, api) + `"`
	realm := `realm="` + api.Identifier + `"`
	const algs = `algs="ES256 EdDSA PS256 RS256"`
	challenge := func(scheme string, parts ...string) string {
		return scheme + " " + strings.Join(append(parts, metadata), ", ")
	}
	challenges := func(first, second string) string { return first + ", " + second }
	// refused is the answer to a token that was sent as Bearer, asDPoP to one that was sent as DPoP, stepUp to one whose sign-in will not do.
	refused := func(status int, code, description string, scope ...string) answered {
		said := append([]string{realm, `error="` + code + `"`, `error_description="` + description + `"`}, scope...)
		return answered{Status: status, Error: code, Challenges: challenges(challenge("Bearer", said...), challenge("DPoP", append([]string{realm, algs}, scope...)...))}
	}
	asDPoP := func(status int, code, description string, scope ...string) answered {
		said := append([]string{realm, algs, `error="` + code + `"`, `error_description="` + description + `"`}, scope...)
		return answered{Status: status, Error: code, Challenges: challenges(challenge("DPoP", said...), challenge("Bearer", append([]string{realm}, scope...)...))}
	}
	stepUp := func(description string, needs ...string) answered {
		const code = "insufficient_user_authentication"
		said := append([]string{realm, `error="` + code + `"`, `error_description="` + description + `"`}, needs...)
		return answered{Status: http.StatusUnauthorized, Error: code, Challenges: challenges(challenge("Bearer", said...), challenge("DPoP", realm, algs, `scope="doors:write"`))}
	}
	missing := func(scope ...string) answered {
		return answered{
			Status: http.StatusUnauthorized, Error: "invalid_token",
			Challenges: challenges(challenge("Bearer", append([]string{realm}, scope...)...), challenge("DPoP", append([]string{realm, algs}, scope...)...)),
		}
	}
	may := func(token, scope string) answered {
		return answered{Status: http.StatusOK, Subject: introspect(t, e, hostOf(api), token)["sub"].(string), Scope: scope}
	}
	const (
		asBound  = "the access token is bound to a key; send it as Authorization: DPoP, with a proof in the header DPoP"
		badProof = "the DPoP proof is not valid: "
		dead     = "the access token is expired, revoked or not one of this server's"
		needsR   = `scope="doors:read"`
		needsRW  = `scope="doors:read doors:write"`
		needsW   = `scope="doors:write"`
	)

	doors := map[string]func(called) answered{"middleware": throughMiddleware(t, e, api), "forward-auth": throughForwardAuth(t, e, api)}
	for name, c := range map[string]struct {
		method, path string
		// header makes the request for one door: proofs are good for one use.
		header func(method, path string) http.Header
		want   answered
	}{
		"no token, GET":    {"GET", "/notes", plain(nil), missing(needsR)},
		"no token, POST":   {"POST", "/notes", plain(nil), missing(needsRW)},
		"no token, any":    {"GET", "/notes/1", plain(nil), missing()},
		"another scheme":   {"GET", "/notes", plain(http.Header{"Authorization": {"Basic YTpi"}}), missing(needsR)},
		"nonsense":         {"GET", "/notes", plain(bearerHeader("nonsense")), refused(401, "invalid_token", dead, needsR)},
		"a forged one":     {"GET", "/notes", plain(bearerHeader(forged(reader))), refused(401, "invalid_token", dead, needsR)},
		"expired":          {"GET", "/notes", plain(bearerHeader(expired)), refused(401, "invalid_token", dead, needsR)},
		"expired, POST":    {"POST", "/notes", plain(bearerHeader(expired)), refused(401, "invalid_token", dead, needsRW)},
		"revoked":          {"GET", "/notes", plain(bearerHeader(revoked)), refused(401, "invalid_token", dead, needsR)},
		"of a dead grant":  {"GET", "/notes/1", plain(bearerHeader(over.String("access_token"))), refused(401, "invalid_token", dead)},
		"too little scope": {"POST", "/notes", plain(bearerHeader(reader)), refused(403, "insufficient_scope", "this needs the scope doors:read doors:write, or doors:admin", needsRW)},
		"right, GET":       {"GET", "/notes", plain(bearerHeader(reader)), may(reader, "doors:read")},
		"right, HEAD":      {"HEAD", "/notes", plain(bearerHeader(reader)), may(reader, "doors:read")},
		"right, POST":      {"POST", "/notes", plain(bearerHeader(writer)), may(writer, "doors:read doors:write")},
		"an alternative":   {"POST", "/notes", plain(bearerHeader(admin)), may(admin, "doors:admin")},
		"any scope at all": {"GET", "/notes/1", plain(bearerHeader(admin)), may(admin, "doors:admin")},
		"a person's":       {"GET", "/notes", plain(bearerHeader(recent.String("access_token"))), may(recent.String("access_token"), "doors:read doors:write")},
		"two tokens":       {"GET", "/notes", plain(http.Header{"Authorization": {"Bearer " + reader, "Bearer " + reader}}), refused(400, "invalid_request", "there is more than one Authorization header; send one", needsR)},

		"a recent sign-in": {"PUT", "/notes/1", plain(bearerHeader(recent.String("access_token"))), may(recent.String("access_token"), "doors:read doors:write")},
		"an old sign-in": {
			"PUT", "/notes/1", plain(bearerHeader(oldSignIn)),
			stepUp("this needs a more recent sign-in", `max_age="60"`),
		},
		"nobody's sign-in": {
			"PUT", "/notes/1", plain(bearerHeader(writer)),
			stepUp("this needs a more recent sign-in", `max_age="60"`),
		},
		"another way of signing in": {
			"DELETE", "/notes/1", plain(bearerHeader(recent.String("access_token"))),
			stepUp("this needs another way of signing in: an acr of urn:example:two", `acr_values="urn:example:two"`, `max_age="60"`),
		},
		"too little scope comes first": {"DELETE", "/notes/1", plain(bearerHeader(reader)), refused(403, "insufficient_scope", "this needs the scope doors:write", needsW)},

		"bound, with its proof": {"POST", "/notes", func(method, path string) http.Header {
			return dpopHeader(bound, proof(key, bound, method, path))
		}, may(bound, "doors:read doors:write")},
		"bound, without a proof": {"GET", "/notes", plain(dpopHeader(bound, "")), asDPoP(401, "invalid_token", "the access token is bound to a key; send a proof in the header DPoP", needsR)},
		"bound, sent as Bearer":  {"GET", "/notes", plain(bearerHeader(bound)), refused(401, "invalid_token", asBound, needsR)},
		"bound, sent as Bearer with its proof": {"GET", "/notes", func(method, path string) http.Header {
			h := bearerHeader(bound)
			h.Set("DPoP", proof(key, bound, method, path))
			return h
		}, refused(401, "invalid_token", asBound, needsR)},
		"bound, another key's proof": {"GET", "/notes", func(method, path string) http.Header {
			return dpopHeader(bound, proof(another, bound, method, path))
		}, asDPoP(401, "invalid_token", "the access token is bound to another key than the proof's", needsR)},
		"bound, a proof for another method": {"GET", "/notes", func(_, path string) http.Header {
			return dpopHeader(bound, proof(key, bound, "POST", path))
		}, asDPoP(401, "invalid_dpop_proof", badProof+"its htm is not the method of this request, GET", needsR)},
		"bound, a proof for another path": {"GET", "/notes", func(method, _ string) http.Header {
			return dpopHeader(bound, proof(key, bound, method, "/notes/1"))
		}, asDPoP(401, "invalid_dpop_proof", badProof+"its htu is not the URL of this endpoint, "+api.URL+"/notes", needsR)},
		"bound, a proof for another token": {"GET", "/notes", func(method, path string) http.Header {
			return dpopHeader(bound, proof(key, reader, method, path))
		}, asDPoP(401, "invalid_dpop_proof", badProof+"its ath is not the hash of the access token", needsR)},
		"bound, too little scope": {"DELETE", "/notes/1", func(method, path string) http.Header {
			held := own(api, "doors:read", key.TokenHeader(e))
			return dpopHeader(held, proof(key, held, method, path))
		}, asDPoP(403, "insufficient_scope", "this needs the scope doors:write", needsW)},
		"not bound, sent as DPoP": {"GET", "/notes", func(method, path string) http.Header {
			return dpopHeader(reader, proof(key, reader, method, path))
		}, asDPoP(401, "invalid_token", "the access token is not bound to a key; send it as Authorization: Bearer", needsR)},
	} {
		t.Run(name, func(t *testing.T) {
			for door, call := range doors {
				got := call(called{c.method, c.path, c.header(c.method, c.path)})
				want := c.want
				if want.Status == http.StatusBadRequest && door == "forward-auth" {
					want.Status = http.StatusUnauthorized // nginx takes any other status for a failure of the broker
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", door, diff)
				}
			}
		})
	}

	// A token for another api is as inactive as a forged one to an API that asks the broker (RFC 7662 section 2.2), so that
	// the description alone may differ.
	t.Run("another audience", func(t *testing.T) {
		for door, call := range doors {
			got := call(called{"GET", "/notes", bearerHeader(elsewhere)})
			said := "the access token is for other apis; ask for one with resource=" + api.Identifier
			if door == "middleware" {
				said = dead
			}
			if diff := cmp.Diff(refused(401, "invalid_token", said, needsR), got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", door, diff)
			}
		}
	})

	t.Run("a proof that was used", func(t *testing.T) {
		for door, call := range doors {
			used := dpopHeader(bound, proof(key, bound, "GET", "/notes"))
			if got := call(called{"GET", "/notes", used}); got.Status != http.StatusOK {
				t.Fatalf("%s: %+v", door, got)
			}
			want := asDPoP(401, "invalid_dpop_proof", "the DPoP proof was used before; make a new one for each request", needsR)
			if diff := cmp.Diff(want, call(called{"GET", "/notes", used})); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", door, diff)
			}
		}
	})

	// An API that has no middleware asks the broker itself (RFC 7662), and has to draw the same conclusion.
	t.Run("introspection", func(t *testing.T) {
		for name, c := range map[string]struct {
			token string
			want  introspected
		}{
			"nonsense": {"nonsense", introspected{"active": false}},
			"forged":   {forged(reader), introspected{"active": false}},
			"expired":  {expired, introspected{"active": false}},
			"revoked":  {revoked, introspected{"active": false}},
			"dead":     {over.String("access_token"), introspected{"active": false}},
			"another":  {elsewhere, introspected{"active": false}},
			"right":    {writer, introspected{"active": true, "scope": "doors:read doors:write", "aud": []any{api.Identifier}, "token_type": "Bearer"}},
			"bound":    {bound, introspected{"active": true, "scope": "doors:read doors:write", "aud": []any{api.Identifier}, "token_type": "DPoP", "cnf": map[string]any{"jkt": key.JKT}}},
		} {
			got := introspect(t, e, hostOf(api), c.token)
			for field := range got {
				if _, asked := c.want[field]; !asked && c.want["active"] == true {
					delete(got, field)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		}
	})
}

func plain(h http.Header) func(string, string) http.Header {
	return func(string, string) http.Header {
		if h == nil {
			return http.Header{}
		}
		return h.Clone()
	}
}

// forged is a token with its last letters changed.
func forged(token string) string { return token[:len(token)-6] + "AAAAAA" }

// What an API pays for asking nobody: it takes a revoked JWT until it expires, and no longer.
func TestAJWTThatIsVerifiedOfflineStandsUntilItExpires(t *testing.T) {
	e := Start(t, withDoors)
	api := doorAPIs()[0]
	api.AccessTokenTTL = 60
	if _, err := e.Broker.APIs.Add(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	offline := throughMiddleware(t, e, api, func(o *resource.Options) { o.ClientID, o.ClientSecret, o.CheckRevoked = "", "", false })
	held := e.Post(t, "/token", service, url.Values{"grant_type": {"client_credentials"}, "scope": {"doors:read"}}).String("access_token")
	e.Post(t, "/revoke", service, url.Values{"token": {held}})
	for _, c := range []struct {
		after  time.Duration
		status int
	}{{0, http.StatusOK}, {time.Minute - time.Second, http.StatusOK}, {resource.Leeway + time.Second, http.StatusUnauthorized}} {
		e.Clock.Advance(c.after)
		if got := offline(called{"GET", "/notes", bearerHeader(held)}); got.Status != c.status {
			t.Errorf("%s later: %+v, want %d", c.after, got, c.status)
		}
	}
}
