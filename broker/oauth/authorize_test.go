package oauth

import (
	"context"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

// One factor twice is one factor; what proves no factor adds none (RFC 8176 section 2).
func TestTheClassOfASignInFollowsItsMethods(t *testing.T) {
	for _, c := range []struct {
		amr  string
		want string
	}{
		{"", ACRFederated},
		{"pwd", ACRFederated},
		{"otp", ACRFederated},
		{"hwk", ACRFederated},
		{"fpt", ACRFederated},
		{"mfa", ACRMFA},
		{"pwd mfa", ACRMFA},
		{"pwd otp", ACRMFA},
		{"otp pwd", ACRMFA},
		{"pwd sms", ACRMFA},
		{"pop pwd", ACRMFA},
		{"hwk pin", ACRMFA},
		{"swk face", ACRMFA},
		{"sc fpt", ACRMFA},
		{"pwd pin kba", ACRFederated},
		{"hwk swk otp", ACRFederated},
		{"face fpt", ACRFederated},
		{"pwd user", ACRFederated},
		{"pwd geo rba wia mca", ACRFederated},
		{"pwd mca otp", ACRMFA},
		{"PWD OTP", ACRFederated},
		{"invented pwd", ACRFederated},
	} {
		if got := ACR(strings.Fields(c.amr)); got != c.want {
			t.Errorf("%q: got %s, want %s", c.amr, got, c.want)
		}
	}
}

func TestTheClassThatIsAsserted(t *testing.T) {
	for _, c := range []struct {
		name   string
		has    string
		wanted []string
		acr    string
		met    bool
	}{
		{"nothing asked", ACRMFA, nil, ACRMFA, true},
		{"what is had", ACRFederated, []string{ACRFederated}, ACRFederated, true},
		{"more than is had", ACRFederated, []string{ACRMFA}, ACRFederated, false},
		{"less than is had: said as it was asked", ACRMFA, []string{ACRFederated}, ACRFederated, true},
		{"the first that is met", ACRFederated, []string{ACRMFA, ACRFederated}, ACRFederated, true},
		{"the best first", ACRMFA, []string{ACRMFA, ACRFederated}, ACRMFA, true},
		{"what nobody has", ACRMFA, []string{"x"}, ACRMFA, false},
		{"a session from before classes", "", []string{ACRFederated}, "", false},
	} {
		if acr, met := AssertACR(c.has, c.wanted); acr != c.acr || met != c.met {
			t.Errorf("%s: got %s %v", c.name, acr, met)
		}
	}
}

func TestBoundsOfTheClaimsParameter(t *testing.T) {
	many := make(map[string]any)
	for i := range maxClaims + 1 {
		many[strings.Repeat("x", i+1)] = nil
	}
	tooMany, _ := json.Marshal(map[string]any{"userinfo": many})
	for name, raw := range map[string]string{
		"a list": `[]`, "a text": `"x"`, "null": `null`, "nothing but space": ` `, "cut short": `{"userinfo":`, "more than one object": `{}{}`,
		"a member of another type": `{"userinfo":[]}`, "a claim of another type": `{"userinfo":{"email":true}}`,
		"essential of another type": `{"userinfo":{"email":{"essential":"yes"}}}`, "values that are no list": `{"userinfo":{"email":{"values":"x"}}}`,
		"value and values": `{"userinfo":{"email":{"value":"x","values":["y"]}}}`, "too long": `{"userinfo":{"` + strings.Repeat("x", maxClaimsParam) + `":null}}`,
		"too many claims": string(tooMany), "too many values": `{"id_token":{"acr":{"values":[` + strings.Repeat(`"x",`, maxClaimValues) + `"x"]}}}`,
	} {
		if _, refusal := parseClaims(raw); refusal == nil || refusal.Code != codeInvalidRequest {
			t.Errorf("%s: got %v", name, refusal)
		}
	}
	for name, raw := range map[string]string{
		"empty": `{}`, "unknown members": `{"other":{"x":1},"userinfo":null}`, "unknown words about a claim": `{"userinfo":{"email":{"purpose":"x"}}}`,
	} {
		if _, refusal := parseClaims(raw); refusal != nil {
			t.Errorf("%s: refused: %v", name, refusal)
		}
	}
}

// A claim whose value is not the one that was asked for is not sent (OpenID Connect Core section 5.5.1).
func TestAClaimIsSentIfItsValueIsWanted(t *testing.T) {
	ann := &identity.Account{Person: identity.Person{Email: "ann@example.com", EmailVerified: true, Name: "Ann"}}
	for request, want := range map[string][]string{
		``: nil, `{"userinfo":{"name":null,"email":{"essential":true}}}`: {"email", "name"},
		`{"userinfo":{"email":{"value":"ann@example.com"}}}`: {"email"}, `{"userinfo":{"email":{"value":"bob@example.com"}}}`: nil,
		`{"userinfo":{"email_verified":{"value":true}}}`: {"email_verified"}, `{"userinfo":{"email_verified":{"value":"true"}}}`: nil,
		`{"userinfo":{"email":{"values":["x","ann@example.com"]}}}`: {"email"}, `{"userinfo":{"picture":null,"sub":null,"iss":null}}`: nil,
		`{"id_token":{"email":null}}`: nil, `nonsense`: nil,
	} {
		out := map[string]any{}
		addRequested(out, ann, request, inUserinfo)
		var got []string
		for name := range out {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", request, got, want)
		}
	}
}

// Every claim that a scope gives can be asked for alone, under the same sentence, and is in the metadata.
func TestEveryClaimCanBeAskedForAlone(t *testing.T) {
	ann := &identity.Account{}
	for person, i := reflect.ValueOf(&ann.Person).Elem(), 0; i < person.NumField(); i++ {
		if field := person.Field(i); field.Kind() == reflect.String {
			field.SetString("x")
		}
	}
	for _, scope := range []string{ScopeProfile, ScopeEmail} {
		for name := range claims(ann, []string{scope}) {
			if claimScopes[name] != scope {
				t.Errorf("%s is of the scope %s, but as a single claim of %q", name, scope, claimScopes[name])
			}
			if !slices.Contains(supportedClaims, name) {
				t.Errorf("%s is not in claims_supported", name)
			}
		}
	}
	all := claims(ann, []string{ScopeProfile, ScopeEmail})
	for name := range claimScopes {
		if _, has := all[name]; !has {
			t.Errorf("%s can be asked for, and never had", name)
		}
	}
}

// judging is a server that can judge requests, and a client to judge them for.
func judging(t testing.TB) (*Server, *registry.Client) {
	t.Helper()
	ring, err := token.NewKeyring([]byte("an-entirely-random-test-keyring-secret-9f8e7d6c5b4a"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.OpenKeys(context.Background(), storetest.SQLite(t, time.Now), ring, token.KeysOptions{Algorithms: []string{token.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	client := testClient()
	client.RedirectURIs = []string{"https://app.example.com/callback"}
	return &Server{
		issuer: issuer, policy: *testPolicy(t), connectors: []string{"google"}, now: time.Now, idTokens: token.NewIDTokens(keys, issuer),
	}, client
}

// Whatever a stranger sends to the authorization endpoint, judging it ends, is bounded, and lets nothing through that the client may not have.
func FuzzAuthorizationRequest(f *testing.F) {
	s, client := judging(f)
	const pkce = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	for _, seed := range []string{
		"", "response_type=code&scope=openid" + pkce,
		"response_type=code&scope=openid+profile+offline_access&state=s&nonce=n&prompt=login+consent&max_age=3600&idp_hint=google&login_hint=a@b.c" + pkce,
		"response_type=code&scope=notes:read&resource=" + url.QueryEscape(notes) + "&resource=" + url.QueryEscape(mail) + pkce,
		"response_type=code&scope=openid&authorization_details=" + url.QueryEscape(payment) + pkce,
		"response_type=code&scope=openid&acr_values=urn:portico:acr:mfa+x&claims=" + url.QueryEscape(`{"id_token":{"acr":{"essential":true,"values":["urn:portico:acr:mfa"]},"sub":{"value":"a"}},"userinfo":{"name":null}}`) + pkce,
		"response_type=code&scope=openid&dpop_jkt=0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" + pkce,
		"response_type=token&response_mode=fragment", "response_type=code&state=1&state=2", "request=a.b.c&request_uri=urn:ietf:params:oauth:request_uri:x",
		"id_token_hint=e30.e30.e30&prompt=none+login", "scope=%00%ff&state=%0d%0a", "max_age=99999999999999999999", "registration={}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		req, refusal := s.judge(t.Context(), &asked{client: client, params: query}, client.RedirectURIs[0])
		if len(req.State) > maxOpaque || len(req.Nonce) > maxOpaque || len(req.LoginHint) > maxHint {
			t.Error("an unbounded value got through")
		}
		if refusal != nil {
			if refusal.Code == "" || refusal.Description == "" || refusal.Status < 400 {
				t.Errorf("a refusal that says nothing: %+v", refusal)
			}
			return
		}
		if query.Get("response_type") != "code" || len(req.CodeChallenge) != challengeLength {
			t.Errorf("let through without code flow or PKCE: %s", raw)
		}
		for _, scope := range req.Asked() {
			if !slices.Contains(client.Scopes, scope) {
				t.Errorf("let through the scope %q, which is not the client's", scope)
			}
		}
		for _, class := range req.ACRValues {
			if !slices.Contains(acrSupported, class) {
				t.Errorf("let through the acr value %q", class)
			}
		}
		if req.Prompts("none") && len(req.Prompt) > 1 {
			t.Error("let through prompt=none with another")
		}
		if _, err := json.Marshal(req); err != nil {
			t.Error(err)
		}
	})
}

// Whatever a client signs, judging it ends, and what is let through is this client's request to this server, within its time.
func FuzzRequestObject(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"iss":"app","client_id":"app","aud":"https://login.example.com"}`,
		`{"iss":"app","client_id":"app","aud":["x","https://login.example.com"],"exp":1800000060,"nbf":1800000000,"iat":1799999999.5,"jti":"j","scope":"openid","max_age":60,"claims":{"userinfo":{"email":null}},"resource":["https://a","https://b"],"authorization_details":[{"type":"payment"}]}`,
		`{"iss":"app","client_id":"app","aud":"https://login.example.com","request":"x"}`, `{"iss":"app","client_id":"app","aud":"https://login.example.com","request_uri":"https://x"}`,
		`{"iss":"app","client_id":"app","aud":"https://login.example.com","exp":1e400}`, `{"iss":"app","client_id":"other","sub":"app","aud":{}}`,
		`{"iss":"app","client_id":"app","aud":"https://login.example.com"}{"scope":"x"}`, `{"resource":[1,[2]],"iss":"app","client_id":"app","aud":"https://login.example.com"}`,
		`{"iss":"app","ISS":"other","client_id":"app","aud":"https://login.example.com","state":null,"x":true,"y":{"z":[1.50]}}`,
	} {
		for _, typ := range []string{"", "JWT", "oauth-authz-req+jwt", "application/oauth-authz-req+jwt", "dpop+jwt"} {
			f.Add(seed, typ, "")
			f.Add(seed, typ, registry.ProfileFAPI2)
		}
	}
	f.Fuzz(func(t *testing.T, payload, typ, profile string) {
		client := &registry.Client{ID: "app", Profile: profile}
		a, refusal := judgeObject([]byte(payload), typ, issuer, client, now)
		if refusal != nil {
			if refusal.Code != codeInvalidRequestObject || refusal.Description == "" {
				t.Errorf("refused with %+v", refusal)
			}
			return
		}
		if !a.signed || a.client != client || a.params.Get("client_id") != client.ID {
			t.Errorf("let through an object of %q", a.params.Get("client_id"))
		}
		for _, name := range []string{"request", "request_uri", "iss", "aud", "exp", "sub", "jti"} {
			if a.params.Has(name) {
				t.Errorf("let through %s as a parameter", name)
			}
		}
		if a.once != nil && (a.once.Until.IsZero() || a.once.Until.After(now.Add(maxRemembered))) {
			t.Errorf("a jti would be remembered until %s", a.once.Until)
		}
	})
}

// Whatever stands in the claims parameter, what is kept of it is readable, bounded, and within the client's scopes.
func FuzzClaimsParameter(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"userinfo":{"email":{"essential":true},"name":null},"id_token":{"auth_time":{"essential":true},"acr":{"values":["urn:portico:acr:mfa"]}}}`,
		`{"id_token":{"sub":{"value":"248289761001"}}}`, `{"userinfo":{"email":{"value":1e99}}}`, `{"userinfo":{"email":{"values":[null,{},[]]}}}`, `{"USERINFO":{"name":null}}`, `{"userinfo":{"":null}}`,
	} {
		f.Add(seed)
	}
	account := &identity.Account{Person: identity.Person{Email: "ann@example.com", Name: "Ann"}}
	f.Fuzz(func(t *testing.T, raw string) {
		client := testClient() // has profile, not email
		req, refusal := judgedClaims(raw, client)
		if refusal != nil {
			return
		}
		out := map[string]any{}
		addRequested(out, account, req.Claims, inUserinfo)
		addRequested(out, account, req.Claims, inIDToken)
		if _, has := out["email"]; has {
			t.Error("delivers a claim of a scope that the client does not have")
		}
		for name := range out {
			if !slices.Contains(req.ClaimScopes, claimScopes[name]) {
				t.Errorf("delivers %s, which the consent page does not say", name)
			}
		}
	})
}

func judgedClaims(raw string, client *registry.Client) (req flow.Request, refusal *Error) {
	refusal = judgeClaims(params{"claims": {raw}}, client, &req)
	return req, refusal
}
