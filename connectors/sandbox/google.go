package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	googleTokenLife   = 3599 * time.Second
	googleIDTokenLife = time.Hour
	// googleRefreshLife is how long a refresh token lives unused.
	googleRefreshLife = 180 * 24 * time.Hour
	// googleTestingLife is how long it lives while the app's publishing status is Testing.
	googleTestingLife = 7 * 24 * time.Hour

	googleEmailScope   = "https://www.googleapis.com/auth/userinfo.email"
	googleProfileScope = "https://www.googleapis.com/auth/userinfo.profile"

	// wrongIssuer is what the faults wrong_iss and wrong_id_token_iss say.
	wrongIssuer = "https://another-issuer.invalid"
)

// google simulates accounts.google.com and the hosts around it.
type google struct {
	*Sandbox
	ledger
	keys      *keyring
	issuer    string
	discovery []byte
}

func newGoogle(s *Sandbox, keys *keyring) *google {
	g := &google{Sandbox: s, ledger: newLedger(), keys: keys, issuer: s.GoogleURL()}
	// What the live document had, less what is not simulated: other response types, and the device flow.
	g.discovery, _ = json.Marshal(map[string]any{ // strings and lists: it cannot fail
		"issuer":                                         g.issuer,
		"authorization_endpoint":                         g.issuer + "/o/oauth2/v2/auth",
		"token_endpoint":                                 g.issuer + "/token",
		"userinfo_endpoint":                              g.issuer + "/v1/userinfo",
		"revocation_endpoint":                            g.issuer + "/revoke",
		"jwks_uri":                                       g.issuer + "/oauth2/v3/certs",
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query", "fragment", "form_post"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"scopes_supported":                               []string{"openid", "email", "profile"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_post", "client_secret_basic"},
		"claims_supported":                               []string{"aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss", "name", "picture", "sub"},
		"code_challenge_methods_supported":               []string{"plain", "S256"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"authorization_response_iss_parameter_supported": true,
	})
	return g
}

func (g *google) routes(mux *http.ServeMux) {
	fail := failures{serverError: g.serverError, rateLimit: g.rateLimit}
	mux.HandleFunc("GET /google/.well-known/openid-configuration", g.faulty(Google, atDiscovery, fail, g.serveDiscovery))
	mux.HandleFunc("GET /google/oauth2/v3/certs", g.faulty(Google, atKeys, fail, g.serveKeys))
	mux.HandleFunc("GET /google/o/oauth2/v2/auth", g.authorize)
	mux.HandleFunc("POST /google/o/oauth2/v2/auth", g.authorize)
	mux.HandleFunc("POST /google/token", g.faulty(Google, atToken, fail, g.token))
	mux.HandleFunc("/google/v1/userinfo", g.faulty(Google, atProfile, fail, g.userinfo))
	mux.HandleFunc("POST /google/revoke", g.revoke)
}

func (g *google) serverError(w http.ResponseWriter, _ string) {
	write(w, http.StatusBadGateway, htmlType, []byte("<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p><b>502.</b> <ins>That’s an error.</ins><p>The server encountered a temporary error and could not complete your request.<p>Please try again in 30 seconds."))
}

// rateLimit has the body of Google's APIs; whether the token endpoint's is the same was not captured.
func (g *google) rateLimit(w http.ResponseWriter, at string) {
	if at == atToken {
		googleError(w, http.StatusTooManyRequests, "rate_limit_exceeded", "Rate Limit Exceeded")
		return
	}
	writeJSON(w, http.StatusTooManyRequests, map[string]any{"error": map[string]any{
		"code": http.StatusTooManyRequests, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED",
	}})
}

func (g *google) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	write(w, http.StatusOK, jsonType, g.discovery)
}

func (g *google) serveKeys(w http.ResponseWriter, _ *http.Request) {
	key, err := g.keys.key()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=19843, must-revalidate, no-transform")
	write(w, http.StatusOK, jsonType, key.jwks)
}

// authorize is the authorization endpoint. What is wrong with a request is a page, never a redirect.
func (g *google) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	blocked := func(status int, code, detail string) { g.blocked(w, Google, status, code, detail) }
	if q.Get("client_id") == "" {
		blocked(http.StatusBadRequest, "invalid_request", "Missing required parameter: client_id")
		return
	}
	client := g.client(Google, q.Get("client_id"))
	if client == nil {
		blocked(http.StatusUnauthorized, "invalid_client", "The OAuth client was not found.")
		return
	}
	if !slices.Contains(client.RedirectURIs, q.Get("redirect_uri")) {
		blocked(http.StatusBadRequest, "redirect_uri_mismatch", "The redirect URI in the request, "+q.Get("redirect_uri")+", does not match the ones authorized for the OAuth client.")
		return
	}
	if code, detail := judgeGoogle(q); code != "" {
		blocked(http.StatusBadRequest, code, detail)
		return
	}
	scopes, unknown := googleScopes(q.Get("scope"))
	if unknown != "" {
		blocked(http.StatusBadRequest, "invalid_scope", "Some requested scopes were invalid. {invalid=["+unknown+"]}")
		return
	}
	prompt := strings.Fields(q.Get("prompt"))
	back := func(p pairs) { g.answer(w, r, q, p) }
	asked := question{
		provider: Google, client: client, hint: q.Get("login_hint"), domain: q.Get("hd"), scopes: scopes,
		allow: func(p *Persona) { back(g.allowed(r, client, p, scopes, q)) },
		deny:  func() { back(pairs{{"error", "access_denied"}, {"state", q.Get("state")}}) },
	}
	if slices.Contains(prompt, "none") {
		// OpenID Connect Core section 3.1.2.6. No browser is signed in here, but for Auto's.
		p := g.automatic(asked)
		switch {
		case p == nil:
			back(pairs{{"error", "login_required"}, {"state", q.Get("state")}})
			return
		case !g.hasGrant(client.ID, p, g.now()):
			back(pairs{{"error", "consent_required"}, {"state", q.Get("state")}})
			return
		}
	}
	g.signIn(w, r, asked)
}

// judgeGoogle judges the parameters that need no client.
func judgeGoogle(q url.Values) (code, detail string) {
	prompt := strings.Fields(q.Get("prompt"))
	switch {
	case q.Get("response_type") == "":
		return "invalid_request", "Required parameter is missing: response_type"
	case q.Get("response_type") != "code":
		return "unsupported_response_type", "Invalid response type: the sandbox has code alone"
	case !slices.Contains([]string{"", "query", "fragment", "form_post"}, q.Get("response_mode")):
		return "invalid_request", "Invalid response_mode: " + q.Get("response_mode")
	case q.Get("scope") == "":
		return "invalid_request", "Missing required parameter: scope"
	case !slices.Contains([]string{"", "online", "offline"}, q.Get("access_type")):
		return "invalid_request", "Invalid access_type: " + q.Get("access_type")
	case q.Has("code_challenge_method") && !q.Has("code_challenge"):
		return "invalid_request", "code_challenge_method without code_challenge"
	case !slices.Contains([]string{"", "plain", "S256"}, q.Get("code_challenge_method")):
		return "invalid_request", "Invalid parameter value for code_challenge_method"
	case slices.Contains(prompt, "none") && len(prompt) > 1:
		return "invalid_request", "Invalid parameter value for prompt: none with another value"
	}
	for _, p := range prompt {
		if !slices.Contains([]string{"none", "consent", "select_account"}, p) {
			return "invalid_request", "Invalid parameter value for prompt: Invalid prompt: " + p
		}
	}
	return "", ""
}

// googleScopes are the scopes of a request as answers spell them, or the first that is unknown.
func googleScopes(raw string) (scopes []string, unknown string) {
	for _, s := range strings.Fields(raw) {
		switch s {
		case "email":
			s = googleEmailScope
		case "profile":
			s = googleProfileScope
		case "openid", googleEmailScope, googleProfileScope:
		default:
			return nil, s
		}
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes, ""
}

// allowed makes the code, and the parameters of the callback.
func (g *google) allowed(r *http.Request, client *Client, p *Persona, scopes []string, q url.Values) pairs {
	now := g.now()
	grant, before := g.grantOf(client.ID, p, now)
	// Consent is shown the first time, for a scope that is new, and when asked for.
	shown := !before || slices.Contains(strings.Fields(q.Get("prompt")), "consent")
	had := grant.granted()
	for _, s := range scopes {
		shown = shown || !slices.Contains(had, s)
	}
	grant.allow(scopes)
	if q.Get("include_granted_scopes") == "true" {
		scopes = grant.granted()
	}
	key := opaque("4/0A", 70) // with a slash, as Google's: who forgets to encode it finds out
	c := &code{
		grant: grant, scopes: scopes, redirectURI: q.Get("redirect_uri"), nonce: q.Get("nonce"),
		challenge: q.Get("code_challenge"), method: q.Get("code_challenge_method"),
		refreshable: q.Get("access_type") == "offline" && shown,
	}
	_, c.noEmail = g.take(r, Google, faultNoEmail, "")
	g.issue(key, c, now)
	iss := g.issuer
	if _, ok := g.take(r, Google, faultWrongISS, ""); ok {
		iss = wrongIssuer
	}
	prompt := "none"
	if shown {
		prompt = "consent"
	}
	return pairs{
		{"state", q.Get("state")},
		{"iss", iss},
		{"code", key},
		{"scope", strings.Join(scopes, " ")},
		{"authuser", "0"},
		{"hd", p.Google.HD},
		{"prompt", prompt},
	}
}

// answer sends the browser back by the response mode (OAuth 2.0 Multiple Response Types section 2.1; Form Post).
func (g *google) answer(w http.ResponseWriter, r *http.Request, q url.Values, p pairs) {
	to := q.Get("redirect_uri")
	switch q.Get("response_mode") {
	case "fragment":
		redirect(w, r, to+"#"+p.encode())
	case "form_post":
		fields := make(pairs, 0, len(p))
		for _, kv := range p {
			if kv[1] != "" {
				fields = append(fields, kv)
			}
		}
		g.page(w, http.StatusOK, g.pages().formPost, map[string]any{"Title": simulated(Google), "Class": "google", "Action": to, "Fields": fields})
	default:
		redirect(w, r, p.onto(to))
	}
}

// googleToken is a token answer.
type googleToken struct {
	AccessToken      string `json:"access_token"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshToken     string `json:"refresh_token,omitempty"`
	Scope            string `json:"scope"`
	TokenType        string `json:"token_type"`
	IDToken          string `json:"id_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_token_expires_in,omitempty"`
}

func googleError(w http.ResponseWriter, status int, code, description string) {
	uncached(w)
	writeJSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{code, description})
}

// token is the token endpoint.
func (g *google) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		googleError(w, http.StatusBadRequest, "invalid_request", "Bad Request")
		return
	}
	id, secret := clientAuth(r)
	if id == "" {
		googleError(w, http.StatusBadRequest, "invalid_request", "Could not determine client ID from request.")
		return
	}
	client := g.client(Google, id)
	if client == nil {
		googleError(w, http.StatusUnauthorized, "invalid_client", "The OAuth client was not found.")
		return
	}
	if !same(secret, client.Secret) {
		googleError(w, http.StatusUnauthorized, "invalid_client", "The provided client secret is invalid.")
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		g.redeem(w, r, client)
	case "refresh_token":
		g.renew(w, r, client)
	case "":
		googleError(w, http.StatusBadRequest, "invalid_request", "Required parameter is missing: grant_type")
	default:
		googleError(w, http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type: "+r.PostForm.Get("grant_type"))
	}
}

func (g *google) redeem(w http.ResponseWriter, r *http.Request, client *Client) {
	form, now := r.PostForm, g.now()
	invalid := func(description string) { googleError(w, http.StatusBadRequest, "invalid_grant", description) }
	if form.Get("code") == "" {
		googleError(w, http.StatusBadRequest, "invalid_request", "Missing required parameter: code")
		return
	}
	c, state := g.find(form.Get("code"), client.ID, now)
	if state == codeUnknown {
		invalid("Malformed auth code.")
		return
	}
	_, expired := g.take(r, Google, faultExpiredCode, "")
	_, used := g.take(r, Google, faultUsedCode, "")
	if expired || used {
		c.used.Store(true)
		state = codeUsed
	}
	if state != codeGood {
		invalid("Bad Request") // Google says no more of a used or an expired code
		return
	}
	if form.Get("redirect_uri") != c.redirectURI {
		googleError(w, http.StatusBadRequest, "redirect_uri_mismatch", "Bad Request")
		return
	}
	verifier := form.Get("code_verifier")
	switch {
	case c.challenge == "" && verifier != "":
		invalid("code_verifier or verifier is not needed.")
		return
	case c.challenge != "" && verifier == "":
		invalid("Missing code verifier.")
		return
	case c.challenge != "" && !c.proves(verifier):
		invalid("Invalid code verifier.")
		return
	}
	if !c.used.CompareAndSwap(false, true) {
		invalid("Bad Request")
		return
	}
	answer := g.access(&token{grant: c.grant, scopes: c.scopes, noEmail: c.noEmail}, now)
	if c.refreshable {
		life := googleRefreshLife
		if client.Testing {
			life = googleTestingLife
			answer.RefreshExpiresIn = int64(life/time.Second) - 1
		}
		answer.RefreshToken = opaque("1//0g", 96)
		g.mintRefresh(answer.RefreshToken, &token{grant: c.grant, scopes: c.scopes, noEmail: c.noEmail, issued: now, expires: now.Add(life)}, now)
	}
	g.finish(w, r, answer, c.scopes, c.grant, c.noEmail, c.nonce, now)
}

func (g *google) renew(w http.ResponseWriter, r *http.Request, client *Client) {
	now := g.now()
	old, ok := g.refresh.get(r.PostForm.Get("refresh_token"), now)
	if !ok || old.grant.clientID != client.ID || !old.alive(now) {
		googleError(w, http.StatusBadRequest, "invalid_grant", "Token has been expired or revoked.")
		return
	}
	answer := g.access(&token{grant: old.grant, scopes: old.scopes, noEmail: old.noEmail}, now)
	g.finish(w, r, answer, old.scopes, old.grant, old.noEmail, "", now)
}

// access mints an access token and begins the answer.
func (g *google) access(t *token, now time.Time) *googleToken {
	t.issued, t.expires = now, now.Add(googleTokenLife)
	key := opaque("ya29.a0", 200)
	g.mint(key, t, now)
	return &googleToken{AccessToken: key, ExpiresIn: int64(googleTokenLife / time.Second), Scope: strings.Join(t.scopes, " "), TokenType: "Bearer"}
}

// finish adds the ID token and sends the answer.
func (g *google) finish(w http.ResponseWriter, r *http.Request, answer *googleToken, scopes []string, grant *grant, noEmail bool, nonce string, now time.Time) {
	if slices.Contains(scopes, "openid") {
		var err error
		if answer.IDToken, err = g.idToken(r, answer.AccessToken, scopes, grant, noEmail, nonce, now); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	uncached(w)
	writeJSON(w, http.StatusOK, answer)
}

// googleClaims are an ID token's claims, in Google's order; the userinfo endpoint has some of them.
type googleClaims struct {
	Issuer        string `json:"iss,omitempty"`
	AZP           string `json:"azp,omitempty"`
	Audience      string `json:"aud,omitempty"`
	Subject       string `json:"sub"`
	HD            string `json:"hd,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
	AtHash        string `json:"at_hash,omitempty"`
	Nonce         string `json:"nonce,omitempty"`
	Name          string `json:"name,omitempty"`
	Picture       string `json:"picture,omitempty"`
	GivenName     string `json:"given_name,omitempty"`
	FamilyName    string `json:"family_name,omitempty"`
	IssuedAt      int64  `json:"iat,omitempty"`
	Expires       int64  `json:"exp,omitempty"`
}

// person is what the scopes let a client know.
func person(a *GoogleAccount, scopes []string, noEmail bool) googleClaims {
	c := googleClaims{Subject: a.Sub, HD: a.HD}
	if slices.Contains(scopes, googleEmailScope) && !noEmail {
		c.Email, c.EmailVerified = a.Email, &a.EmailVerified
	}
	if slices.Contains(scopes, googleProfileScope) {
		c.Name, c.GivenName, c.FamilyName, c.Picture = a.Name, a.GivenName, a.FamilyName, a.Picture
	}
	return c
}

func (g *google) idToken(r *http.Request, accessToken string, scopes []string, grant *grant, noEmail bool, nonce string, now time.Time) (string, error) {
	if _, ok := g.take(r, Google, faultRotatedKeys, ""); ok {
		if err := g.keys.rotate(); err != nil {
			return "", err
		}
	}
	key, err := g.keys.key()
	if err != nil {
		return "", err
	}
	c := person(grant.persona.Google, scopes, noEmail)
	c.Issuer, c.AZP, c.Audience, c.Nonce = g.issuer, grant.clientID, grant.clientID, nonce
	c.IssuedAt, c.Expires = now.Unix(), now.Add(googleIDTokenLife).Unix()
	sum := sha256.Sum256([]byte(accessToken)) // OpenID Connect Core section 3.1.3.6: the left half
	c.AtHash = base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	if _, ok := g.take(r, Google, faultWrongTokenISS, ""); ok {
		c.Issuer = wrongIssuer
	}
	if _, ok := g.take(r, Google, faultWrongNonce, ""); ok {
		c.Nonce = opaque("", 22)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return key.sign(payload)
}

func (g *google) userinfo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	key := bearer(r, "bearer")
	if key == "" {
		key = r.FormValue("access_token")
	}
	t := g.live(key, g.now())
	if t == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="invalid_token"`)
		googleError(w, http.StatusUnauthorized, "invalid_request", "Invalid Credentials")
		return
	}
	uncached(w)
	writeJSON(w, http.StatusOK, person(t.grant.persona.Google, t.scopes, t.noEmail))
}

// revoke ends the grant of an access or refresh token, and with it all tokens (it takes no client authentication).
func (g *google) revoke(w http.ResponseWriter, r *http.Request) {
	key, now := r.FormValue("token"), g.now()
	t := g.live(key, now)
	if t == nil {
		if old, ok := g.refresh.get(key, now); ok && old.alive(now) {
			t = old
		}
	}
	if t == nil || !t.grant.revoked.CompareAndSwap(false, true) {
		googleError(w, http.StatusBadRequest, "invalid_token", "Token expired or revoked")
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}
