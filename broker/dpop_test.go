package broker_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/resource/dpop"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/config"
)

// signInBound signs in and redeems the code with a proof of the key.
func signInBound(t *testing.T, e *Env, c Client, key *Key, edits ...string) *Response {
	t.Helper()
	code := e.Code(t, NewBrowser(t), c, append([]string{"idp_hint", "google"}, edits...)...).Get("code")
	r := e.PostWith(t, "/token", c, RedeemForm(c, code), key.TokenHeader(e))
	if r.Status != http.StatusOK {
		t.Fatalf("redeeming with a proof: %d %v", r.Status, r.Body)
	}
	return r
}

func refreshWith(t *testing.T, e *Env, c Client, token string, header http.Header) *Response {
	t.Helper()
	return e.PostWith(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, header)
}

// dpopChallenge is the DPoP challenge of a response, "" if it has none.
func dpopChallenge(r *Response) string {
	for _, challenge := range r.Header.Values("WWW-Authenticate") {
		if strings.HasPrefix(challenge, "DPoP ") {
			return challenge
		}
	}
	return ""
}

// RFC 9449 sections 5 and 6: what is issued with a proof is bound to its key, says so in either format and to whoever introspects it, and works
// at userinfo with a proof.
func TestAProofBindsTheTokens(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		for name, client := range map[string]Client{"opaque": Web, "jwt": First, "public": Native} {
			key := e.NewKey(t)
			tokens := signInBound(t, e, client, key)
			access := tokens.String("access_token")
			if tokens.String("token_type") != "DPoP" {
				t.Errorf("%s: token_type %q", name, tokens.String("token_type"))
			}
			if r := e.UserinfoWith(t, key.UserinfoHeader(e, access)); r.Status != http.StatusOK || r.String("sub") == "" {
				t.Errorf("%s: userinfo: %d %v", name, r.Status, r.Body)
			}
			if name == "jwt" {
				if claims := Claims(t, access); claims["cnf"].(map[string]any)["jkt"] != key.JKT {
					t.Errorf("cnf of the JWT: %v", claims["cnf"])
				}
			}
			if client.Secret != "" {
				r := e.Post(t, "/introspect", client, url.Values{"token": {access}})
				cnf, _ := r.Body["cnf"].(map[string]any)
				if r.String("token_type") != "DPoP" || cnf["jkt"] != key.JKT {
					t.Errorf("%s: introspection: %v", name, r.Body)
				}
			}
		}
	})
}

// badProofs are proofs that must not stand for a request to the URL, whatever else is right. ath is the hash of the access
// token, or "".
func badProofs(t *testing.T, e *Env, key *Key, method, target, ath string) map[string][]string {
	t.Helper()
	proof := func(edits ...any) string {
		if ath != "" {
			edits = append([]any{"ath", ath}, edits...)
		}
		return key.Proof(method, target, edits...)
	}
	claims, err := json.Marshal(map[string]any{"jti": "x", "htm": method, "htu": target, "iat": e.Clock.Now().Unix(), "ath": ath})
	if err != nil {
		t.Fatal(err)
	}
	private, err := json.Marshal(key.PrivateJWK())
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(key.PublicJWK())
	if err != nil {
		t.Fatal(err)
	}
	segment := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	symmetric := segment(`{"typ":"dpop+jwt","alg":"HS256","jwk":`+string(public)+`}`) + "." + segment(string(claims))
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(symmetric))
	good := proof()
	return map[string][]string{
		"for another method":     {proof("htm", "PUT")},
		"for another URL":        {proof("htu", e.Issuer+"/elsewhere")},
		"for another host":       {proof("htu", "https://evil.example.com"+strings.TrimPrefix(target, e.Issuer))},
		"of two minutes ago":     {proof("iat", e.Clock.Now().Add(-2*time.Minute).Unix())},
		"of a minute ahead":      {proof("iat", e.Clock.Now().Add(time.Minute).Unix())},
		"without iat":            {proof("iat", nil)},
		"without jti":            {proof("jti", nil)},
		"with a private key":     {key.Sign((&jose.SignerOptions{}).WithType(dpop.Type).WithHeader("jwk", json.RawMessage(private)), claims)},
		"without a key":          {key.Sign((&jose.SignerOptions{}).WithType(dpop.Type), claims)},
		"with another typ":       {key.Sign((&jose.SignerOptions{EmbedJWK: true}).WithType("JWT"), claims)},
		"with alg none":          {segment(`{"typ":"dpop+jwt","alg":"none","jwk":`+string(public)+`}`) + "." + segment(string(claims)) + "."},
		"with alg HS256":         {symmetric + "." + segment(string(mac.Sum(nil)))},
		"with another signature": {good[:len(good)-86] + proof()[len(proof())-86:]},
		"two":                    {proof(), proof()},
		"the same twice":         {good, good},
		"two in one header":      {proof() + ", " + proof()},
		"huge":                   {proof("x", strings.Repeat("x", dpop.MaxProofBytes))},
		"empty":                  {""},
		"no JWT":                 {"proof"},
		"with a nonce made up":   {proof("nonce", "made-up")},
	}
}

// Whoever stole a bound access token, and perhaps saw a proof or two, can do nothing with it (RFC 9449 sections 4.3 and 7).
func TestAStolenBoundTokenIsOfNoUse(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key, attacker := e.NewKey(t), e.NewKey(t)
		access := signInBound(t, e, Native, key).String("access_token")
		other := signInBound(t, e, Native, key).String("access_token")
		unbound := e.SignIn(t, NewBrowser(t), Native, "idp_hint", "google").String("access_token")
		ath := TokenHash(access)
		target := e.Issuer + "/userinfo"

		with := func(scheme, token string, proofs ...string) http.Header {
			h := http.Header{"Authorization": {scheme + " " + token}}
			if len(proofs) > 0 {
				h["Dpop"] = proofs
			}
			return h
		}
		attacks := map[string]http.Header{
			"as a bearer token":             with("Bearer", access),
			"as a bearer token, with proof": with("Bearer", access, key.Proof("GET", target, "ath", ath)),
			"without a proof":               with("DPoP", access),
			"with the thief's proof":        with("DPoP", access, attacker.Proof("GET", target, "ath", ath)),
			"with a proof without ath":      with("DPoP", access, key.Proof("GET", target)),
			"with another token's proof":    with("DPoP", other, key.Proof("GET", target, "ath", ath)),
			"with a token request's proof":  with("DPoP", access, key.Proof("POST", e.Issuer+"/token")),
			"an unbound token as bound":     with("DPoP", unbound, key.UserinfoHeader(e, unbound).Get("DPoP")),
			"a forged token":                with("DPoP", access+"A", key.UserinfoHeader(e, access+"A").Get("DPoP")),
		}
		for name, proofs := range badProofs(t, e, key, "GET", target, ath) {
			attacks["with a proof "+name] = with("DPoP", access, proofs...)
		}
		for name, header := range attacks {
			r := e.UserinfoWith(t, header)
			if r.Status != http.StatusUnauthorized || r.String("error_description") == "" {
				t.Errorf("%s: %d %v", name, r.Status, r.Body)
			}
			if c := dpopChallenge(r); !strings.Contains(c, `algs="ES256 EdDSA PS256 RS256"`) {
				t.Errorf("%s: the challenges are %q", name, r.Header.Values("WWW-Authenticate"))
			} else if strings.HasPrefix(header.Get("Authorization"), "DPoP") != strings.Contains(c, `error="`+r.String("error")+`"`) {
				t.Errorf("%s: the error %s is not in the challenge of the scheme that was used: %q", name, r.String("error"), r.Header.Values("WWW-Authenticate"))
			}
		}
		// In the form it is a bearer token too (RFC 6750 section 2.2).
		form := request(t, "POST", e.Issuer+"/userinfo", url.Values{"access_token": {access}}.Encode(), "application/x-www-form-urlencoded")
		form.Header.Set("DPoP", key.Proof("POST", target, "ath", ath))
		if r := Do(t, form); r.Status != http.StatusUnauthorized {
			t.Errorf("in the form: %d %v", r.Status, r.Body)
		}
		if r := e.UserinfoWith(t, key.UserinfoHeader(e, access)); r.Status != http.StatusOK {
			t.Errorf("after all these the rightful request gets %d %v", r.Status, r.Body)
		}
		header := key.UserinfoHeader(e, access)
		header.Set("Authorization", "dpop "+access) // schemes have no case (RFC 9110 section 11.1)
		if r := e.UserinfoWith(t, header); r.Status != http.StatusOK {
			t.Errorf("the scheme in lower case: %d %v", r.Status, r.Body)
		}
	})
}

// Without credentials a client learns both ways to come back (RFC 9449 section 7.2).
func TestBothChallengesWhereBothArePossible(t *testing.T) {
	e := Start(t)
	r := e.UserinfoWith(t, http.Header{})
	challenges := r.Header.Values("WWW-Authenticate")
	if r.Status != http.StatusUnauthorized || len(challenges) != 2 || !strings.HasPrefix(challenges[0], "Bearer ") || !strings.HasPrefix(challenges[1], "DPoP ") || !strings.Contains(challenges[1], ", algs=") {
		t.Errorf("%d, challenges %q", r.Status, challenges)
	}
	if strings.Contains(strings.Join(challenges, ""), "error=") {
		t.Errorf("a request without credentials is told of an error: %q", challenges)
	}
}

// A proof that does not stand refuses the whole request, and costs neither the code nor the refresh token.
func TestABadProofAtTheTokenEndpointIsRefusedAndSpendsNothing(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key := e.NewKey(t)
		code := e.Code(t, NewBrowser(t), Native, "idp_hint", "google").Get("code")
		for name, proofs := range badProofs(t, e, key, "POST", e.Issuer+"/token", "") {
			r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), http.Header{"Dpop": proofs})
			want := "invalid_dpop_proof"
			if strings.Contains(name, "nonce") {
				want = "use_dpop_nonce"
			}
			if r.Status != http.StatusBadRequest || r.String("error") != want || r.String("error_description") == "" {
				t.Errorf("a proof %s: %d %v, want %s", name, r.Status, r.Body, want)
			}
		}
		r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), key.TokenHeader(e))
		if r.Status != http.StatusOK {
			t.Errorf("after all these the rightful request gets %d %v", r.Status, r.Body)
		}
	})
}

// RFC 9449 section 11.1: a proof that somebody saw is worth nothing any more, at this node or another, a second later or at the
// same moment.
func TestAProofWorksOnce(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key := e.NewKey(t)
		tokens := signInBound(t, e, Native, key)
		access := tokens.String("access_token")
		node := e.Node(t)

		t.Run("serially", func(t *testing.T) {
			header := key.UserinfoHeader(e, access)
			if r := e.UserinfoWith(t, header); r.Status != http.StatusOK {
				t.Fatalf("first: %d %v", r.Status, r.Body)
			}
			for name, at := range map[string]*Env{"here": e, "at another node": node} {
				if r := at.UserinfoWith(t, header); r.Status != http.StatusUnauthorized || r.String("error") != "invalid_dpop_proof" {
					t.Errorf("again %s: %d %v", name, r.Status, r.Body)
				}
			}
			// It stays so until its time is over, and is too old from then on.
			e.Clock.Advance(dpop.MaxAge + dpop.Leeway - 2*time.Second)
			if r := e.UserinfoWith(t, header); r.String("error") != "invalid_dpop_proof" || !strings.Contains(r.String("error_description"), "used before") {
				t.Errorf("just before it is too old: %d %v", r.Status, r.Body)
			}
			e.Clock.Advance(2 * time.Second)
			if r := e.UserinfoWith(t, header); r.String("error") != "invalid_dpop_proof" || !strings.Contains(r.String("error_description"), "older") {
				t.Errorf("when it is: %d %v", r.Status, r.Body)
			}
		})
		t.Run("racing, at two nodes", func(t *testing.T) {
			header := key.UserinfoHeader(e, access)
			var turn, won, refused atomic.Int64
			storetest.Race(24, func() {
				at := e
				if turn.Add(1)%2 == 0 {
					at = node
				}
				switch r := at.UserinfoWith(t, header.Clone()); {
				case r.Status == http.StatusOK:
					won.Add(1)
				case r.String("error") == "invalid_dpop_proof":
					refused.Add(1)
				default:
					t.Errorf("%d %v", r.Status, r.Body)
				}
			})
			if won.Load() != 1 || refused.Load() != 23 {
				t.Errorf("%d accepted and %d refused, want 1 and 23", won.Load(), refused.Load())
			}
		})
		t.Run("at the token endpoint", func(t *testing.T) {
			// The refresh token may be sent again within its grace, so it is the proof alone that refuses.
			header := key.TokenHeader(e)
			var mu sync.Mutex
			got := map[string]int{}
			storetest.Race(12, func() {
				r := refreshWith(t, e, Native, tokens.String("refresh_token"), header.Clone())
				mu.Lock()
				defer mu.Unlock()
				got[r.String("error")]++
			})
			if got[""] != 1 || got["invalid_dpop_proof"] != 11 {
				t.Errorf("answers by error: %v", got)
			}
		})
		t.Run("another key's proof of the same jti is another proof", func(t *testing.T) {
			// Or whoever guesses a jti could keep its owner out.
			other := e.NewKey(t)
			mine := signInBound(t, e, Native, other).String("access_token")
			for _, holder := range []struct {
				key   *Key
				token string
			}{{key, access}, {other, mine}} {
				if r := e.UserinfoWith(t, holder.key.UserinfoHeader(e, holder.token, "jti", "the-same")); r.Status != http.StatusOK {
					t.Errorf("%d %v", r.Status, r.Body)
				}
			}
		})
	})
}

// RFC 9449 section 10: a code that was asked for with dpop_jkt is redeemed with that key alone, though the thief have everything else.
func TestAStolenCodeIsOfNoUseWithoutItsKey(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key, attacker := e.NewKey(t), e.NewKey(t)
		code := e.Code(t, NewBrowser(t), Native, "idp_hint", "google", "dpop_jkt", key.JKT).Get("code")
		for name, header := range map[string]http.Header{"with the thief's key": attacker.TokenHeader(e), "without a key": nil} {
			if r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), header); r.Status != http.StatusBadRequest || r.String("error") != "invalid_grant" {
				t.Errorf("%s: %d %v", name, r.Status, r.Body)
			}
		}
		if r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), key.TokenHeader(e)); r.Status != http.StatusOK {
			t.Errorf("with the right key: %d %v", r.Status, r.Body)
		}
	})
}

// A proof where a request is pushed says what dpop_jkt says (RFC 9449 section 10.1), and is judged as anywhere else.
func TestAProofWithAPushedRequestBindsTheCode(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key, attacker := e.NewKey(t), e.NewKey(t)
		target := e.Issuer + "/par"
		push := func(proofs []string, edits ...string) *Response {
			form := AuthorizeParams(Native)
			form.Set("idp_hint", "google")
			for i := 0; i+1 < len(edits); i += 2 {
				form.Set(edits[i], edits[i+1])
			}
			return e.PostWith(t, "/par", Native, form, http.Header{"Dpop": proofs})
		}
		refused := badProofs(t, e, key, "POST", target, "")
		refused["of a token request"] = []string{key.Proof("POST", e.Issuer+"/token")}
		for name, proofs := range refused {
			if r := push(proofs); r.Status != http.StatusBadRequest || !strings.Contains(r.String("error"), "dpop") {
				t.Errorf("a proof %s: %d %v", name, r.Status, r.Body)
			}
		}
		if r := push([]string{key.Proof("POST", target)}, "dpop_jkt", attacker.JKT); r.String("error") != "invalid_dpop_proof" {
			t.Errorf("dpop_jkt of another key: %d %v", r.Status, r.Body)
		}
		proof := []string{key.Proof("POST", target)}
		pushed := push(proof, "dpop_jkt", key.JKT)
		if pushed.Status != http.StatusCreated {
			t.Fatalf("the right proof: %d %v", pushed.Status, pushed.Body)
		}
		if r := e.Node(t).PostWith(t, "/par", Native, AuthorizeParams(Native), http.Header{"Dpop": proof}); r.String("error") != "invalid_dpop_proof" {
			t.Errorf("the same proof at another node: %d %v", r.Status, r.Body)
		}
		location, page := NewBrowser(t).Walk(pushedURL(e, Native, pushed.String("request_uri")), Native.RedirectURI)
		if location == nil {
			t.Fatalf("the sign-in ended at %s (%d)", page.URL, page.Status)
		}
		code := location.Query().Get("code")
		for name, header := range map[string]http.Header{"with the thief's key": attacker.TokenHeader(e), "without a key": nil} {
			if r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), header); r.String("error") != "invalid_grant" {
				t.Errorf("%s: %d %v", name, r.Status, r.Body)
			}
		}
		if r := e.PostWith(t, "/token", Native, RedeemForm(Native, code), key.TokenHeader(e)); r.Status != http.StatusOK {
			t.Errorf("with the right key: %d %v", r.Status, r.Body)
		}
	})
}

// FAPI 2.0 section 5.4.1 leaves RS256 out; for everybody else it stays, since old hardware knows no other.
func TestAProofOfAProfiledClientNeedsAStrongAlgorithm(t *testing.T) {
	f := startFAPI(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	header := func(alg jose.SignatureAlgorithm) http.Header {
		claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": f.Issuer + "/token", "iat": f.Clock.Now().Unix()}
		return http.Header{"Dpop": {SignJWT(t, alg, private, (&jose.SignerOptions{EmbedJWK: true}).WithType(dpop.Type), claims)}}
	}
	redeem := func(code string, h http.Header) *Response {
		assertion := f.private.sign(t, "", claimsOf(f.Env, f.client.ID))
		return f.PostWith(t, "/token", Client{}, withAssertion(assertion, RedeemForm(f.client, code)), h)
	}
	code := f.code().Get("code")
	if r := redeem(code, header(jose.RS256)); r.String("error") != "invalid_dpop_proof" || !strings.Contains(r.String("error_description"), "PS256") {
		t.Errorf("RS256: %d %v", r.Status, r.Body)
	}
	if r := redeem(code, header(jose.PS256)); r.Status != http.StatusOK {
		t.Errorf("PS256: %d %v", r.Status, r.Body)
	}
	native := f.Code(t, NewBrowser(t), Native, "idp_hint", "google").Get("code")
	if r := f.PostWith(t, "/token", Native, RedeemForm(Native, native), header(jose.RS256)); r.Status != http.StatusOK {
		t.Errorf("RS256 of a client without a profile: %d %v", r.Status, r.Body)
	}
}

func TestAMalformedKeyThumbprintIsRefusedAtTheApp(t *testing.T) {
	e := Start(t)
	for _, jkt := range []string{"x", strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("A", 42) + "="} {
		answer := NewBrowser(t).Get(e.AuthorizeURL(Web, "dpop_jkt", jkt)).Location()
		if answer == nil || answer.Query().Get("error") != "invalid_request" || !strings.Contains(answer.Query().Get("error_description"), "dpop_jkt") {
			t.Errorf("%q: %v", jkt, answer)
		}
	}
}

// RFC 9449 section 5: a public client's refresh token is bound to its key. A refused one is not rotated.
func TestAStolenRefreshTokenOfAPublicClientIsOfNoUseWithoutItsKey(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key, attacker := e.NewKey(t), e.NewKey(t)
		first := signInBound(t, e, Native, key).String("refresh_token")
		for name, header := range map[string]http.Header{"with the thief's key": attacker.TokenHeader(e), "without a key": nil} {
			if r := refreshWith(t, e, Native, first, header); r.Status != http.StatusBadRequest || r.String("error") != "invalid_grant" {
				t.Errorf("%s: %d %v", name, r.Status, r.Body)
			}
		}
		second := refreshWith(t, e, Native, first, key.TokenHeader(e))
		if second.Status != http.StatusOK || second.String("token_type") != "DPoP" {
			t.Fatalf("with the right key: %d %v", second.Status, second.Body)
		}
		if r := refreshWith(t, e, Native, second.String("refresh_token"), attacker.TokenHeader(e)); r.String("error") != "invalid_grant" {
			t.Errorf("the next one with the thief's key: %d %v", r.Status, r.Body)
		}
		if r := refreshWith(t, e, Native, second.String("refresh_token"), key.TokenHeader(e)); r.Status != http.StatusOK {
			t.Errorf("the next one with the right key: %d %v", r.Status, r.Body)
		}
	})
}

// An app that begins to use DPoP with a refresh token from before is bound from then on.
func TestAnUnboundRefreshTokenIsBoundByTheFirstProof(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key := e.NewKey(t)
		first := e.SignIn(t, NewBrowser(t), Native, "idp_hint", "google").String("refresh_token")
		second := refreshWith(t, e, Native, first, key.TokenHeader(e))
		if second.Status != http.StatusOK || second.String("token_type") != "DPoP" {
			t.Fatalf("the first proof: %d %v", second.Status, second.Body)
		}
		if r := e.Refresh(t, Native, second.String("refresh_token")); r.String("error") != "invalid_grant" {
			t.Errorf("without a proof: %d %v", r.Status, r.Body)
		}
		if r := refreshWith(t, e, Native, second.String("refresh_token"), key.TokenHeader(e)); r.Status != http.StatusOK {
			t.Errorf("with it: %d %v", r.Status, r.Body)
		}
	})
}

// RFC 9449 section 5: a confidential client's refresh token is bound to its authentication, so that it may change its key.
func TestAConfidentialClientMayChangeItsKey(t *testing.T) {
	e := Start(t)
	refresh := signInBound(t, e, Web, e.NewKey(t)).String("refresh_token")
	key := e.NewKey(t)
	r := refreshWith(t, e, Web, refresh, key.TokenHeader(e))
	if r.Status != http.StatusOK || r.String("token_type") != "DPoP" {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	if r := e.UserinfoWith(t, key.UserinfoHeader(e, r.String("access_token"))); r.Status != http.StatusOK {
		t.Errorf("the new key at userinfo: %d %v", r.Status, r.Body)
	}
	if r := e.Refresh(t, Web, r.String("refresh_token")); r.Status != http.StatusOK || r.String("token_type") != "Bearer" {
		t.Errorf("without a proof: %d %v", r.Status, r.Body)
	}
}

// RFC 9449 section 5.2: a client that registered for bound tokens gets no others.
func TestAClientOfBoundTokensAlwaysNeedsAProof(t *testing.T) {
	e := Start(t, func(c *config.Config) { c.Clients[0].DPoPBoundAccessTokens = true })
	key := e.NewKey(t)
	code := e.Code(t, NewBrowser(t), Web, "idp_hint", "google").Get("code")
	if r := e.Redeem(t, Web, code); r.Status != http.StatusBadRequest || r.String("error") != "invalid_dpop_proof" {
		t.Errorf("code: %d %v", r.Status, r.Body)
	}
	tokens := e.PostWith(t, "/token", Web, RedeemForm(Web, code), key.TokenHeader(e))
	if tokens.Status != http.StatusOK {
		t.Fatalf("with a proof: %d %v", tokens.Status, tokens.Body)
	}
	if r := e.Refresh(t, Web, tokens.String("refresh_token")); r.String("error") != "invalid_dpop_proof" {
		t.Errorf("refresh: %d %v", r.Status, r.Body)
	}
}

func requireNonce(c *config.Config) { c.Tokens.DPoPNonce = "required" }

// RFC 9449 sections 8 and 9: a proof without a nonce of this server's is sent back with one, at each endpoint in its way; one from another node
// is as good; and whoever's nonce ends is handed the next in time.
func TestNoncesAreDemandedAndHandedOut(t *testing.T) {
	Each(t, func(t *testing.T, e *Env) {
		key := e.NewKey(t)
		node := e.Node(t)
		code := e.Code(t, NewBrowser(t), Native, "idp_hint", "google").Get("code")
		refused := node.PostWith(t, "/token", Native, RedeemForm(Native, code), key.TokenHeader(e))
		nonce := refused.Header.Get("DPoP-Nonce")
		if refused.Status != http.StatusBadRequest || refused.String("error") != "use_dpop_nonce" || nonce == "" {
			t.Fatalf("without a nonce: %d %v, nonce %q", refused.Status, refused.Body, nonce)
		}
		tokens := e.PostWith(t, "/token", Native, RedeemForm(Native, code), key.TokenHeader(e, "nonce", nonce))
		if tokens.Status != http.StatusOK {
			t.Fatalf("with the other node's nonce: %d %v", tokens.Status, tokens.Body)
		}
		access := tokens.String("access_token")
		r := e.UserinfoWith(t, key.UserinfoHeader(e, access))
		if r.Status != http.StatusUnauthorized || !strings.Contains(dpopChallenge(r), `error="use_dpop_nonce"`) || r.Header.Get("DPoP-Nonce") == "" {
			t.Errorf("userinfo without a nonce: %d %v %v", r.Status, r.Body, r.Header)
		}
		e.Clock.Advance(dpop.NonceWindow)
		r = e.UserinfoWith(t, key.UserinfoHeader(e, access, "nonce", nonce))
		next := r.Header.Get("DPoP-Nonce")
		if r.Status != http.StatusOK || next == "" || next == nonce {
			t.Errorf("a nonce of the window before: %d %v, next %q", r.Status, r.Body, next)
		}
		r = e.UserinfoWith(t, key.UserinfoHeader(e, access, "nonce", next))
		if r.Status != http.StatusOK || r.Header.Get("DPoP-Nonce") != "" {
			t.Errorf("the next one: %d %v, and yet another %q", r.Status, r.Body, r.Header.Get("DPoP-Nonce"))
		}
		e.Clock.Advance(dpop.NonceWindow)
		r = e.UserinfoWith(t, key.UserinfoHeader(e, access, "nonce", nonce))
		if r.Status != http.StatusUnauthorized || !strings.Contains(dpopChallenge(r), `error="use_dpop_nonce"`) {
			t.Errorf("a nonce of two windows before: %d %v", r.Status, r.Body)
		}
		// A bearer token needs none.
		if r := e.SignIn(t, NewBrowser(t), Web, "idp_hint", "google"); r.Header.Get("DPoP-Nonce") != "" {
			t.Error("a client without proofs is handed a nonce")
		}
	}, requireNonce)
}

// Where none is demanded none is handed out, but one that is there is checked: the client means it (RFC 9449 section 4.3 point 10).
func TestANonceIsCheckedWhereNoneIsDemanded(t *testing.T) {
	e := Start(t)
	key := e.NewKey(t)
	tokens := signInBound(t, e, Native, key)
	if tokens.Header.Get("DPoP-Nonce") != "" {
		t.Error("a nonce is handed out")
	}
	r := refreshWith(t, e, Native, tokens.String("refresh_token"), key.TokenHeader(e, "nonce", "made-up"))
	nonce := r.Header.Get("DPoP-Nonce")
	if r.Status != http.StatusBadRequest || r.String("error") != "use_dpop_nonce" || nonce == "" {
		t.Errorf("a nonce made up: %d %v, nonce %q", r.Status, r.Body, nonce)
	}
	if r := refreshWith(t, e, Native, tokens.String("refresh_token"), key.TokenHeader(e, "nonce", nonce)); r.Status != http.StatusOK {
		t.Errorf("the one handed out: %d %v", r.Status, r.Body)
	}
}

// A browser app of another origin sends proofs and reads nonces and challenges (Fetch standard, section 3.2).
func TestBrowserAppsCanUseDPoP(t *testing.T) {
	e := Start(t, requireNonce)
	for _, path := range []string{"/token", "/userinfo"} {
		preflight := request(t, "OPTIONS", e.Issuer+path, "", "")
		preflight.Header.Set("Origin", "https://spa.example.com")
		preflight.Header.Set("Access-Control-Request-Method", "POST")
		preflight.Header.Set("Access-Control-Request-Headers", "dpop")
		if r := Do(t, preflight); !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "DPoP") {
			t.Errorf("%s: preflight allows %q", path, r.Header.Get("Access-Control-Allow-Headers"))
		}
	}
	key := e.NewKey(t)
	r := e.PostWith(t, "/token", Native, url.Values{"grant_type": {"authorization_code"}}, key.TokenHeader(e))
	for _, name := range []string{"DPoP-Nonce", "WWW-Authenticate"} {
		if !strings.Contains(r.Header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s is not exposed: %q", name, r.Header.Get("Access-Control-Expose-Headers"))
		}
	}
}

func TestMetadataNamesTheAlgorithmsOfProofs(t *testing.T) {
	e := Start(t)
	r := Do(t, request(t, "GET", e.Issuer+"/.well-known/openid-configuration", "", ""))
	var algs []string
	for _, alg := range r.Body["dpop_signing_alg_values_supported"].([]any) {
		algs = append(algs, alg.(string))
	}
	if !slices.Equal(algs, dpop.Algorithms()) {
		t.Errorf("%v", algs)
	}
}
