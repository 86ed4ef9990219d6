package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// facebookTokenLife is that of a long-lived token, about sixty days; a login on the web gets one.
	facebookTokenLife = 5183944 * time.Second
	// facebookDataLife is how long an app may read a person's data after they were last active.
	facebookDataLife = 90 * 24 * time.Hour

	// pictureSize is the width and height of a picture in its default type.
	pictureSize = 50
)

// facebook simulates www.facebook.com's login dialog and graph.facebook.com.
type facebook struct {
	*Sandbox
	ledger
}

func newFacebook(s *Sandbox) *facebook { return &facebook{Sandbox: s, ledger: newLedger()} }

func (f *facebook) routes(mux *http.ServeMux) {
	fail := failures{serverError: f.serverError, rateLimit: f.rateLimit}
	mux.HandleFunc("GET /facebook/{version}/dialog/oauth", f.dialog)
	mux.HandleFunc("POST /facebook/{version}/dialog/oauth", f.dialog)
	token := f.graph(f.faulty(Facebook, atToken, fail, f.token))
	me := f.graph(f.faulty(Facebook, atProfile, fail, f.me))
	for _, version := range []string{"", "/{version}"} { // the Graph API answers without a version too
		mux.HandleFunc("GET /facebook/graph"+version+"/oauth/access_token", token)
		mux.HandleFunc("POST /facebook/graph"+version+"/oauth/access_token", token)
		mux.HandleFunc("GET /facebook/graph"+version+"/me", me)
		mux.HandleFunc("GET /facebook/graph"+version+"/debug_token", f.graph(f.debugToken))
		mux.HandleFunc("GET /facebook/graph"+version+"/me/permissions", f.graph(f.permissions))
		mux.HandleFunc("DELETE /facebook/graph"+version+"/me/permissions", f.graph(f.deletePermissions))
	}
}

var versionForm = regexp.MustCompile(`^v[1-9][0-9]?\.[0-9]{1,2}$`)

// graph checks the version in a Graph API path and sets the headers that every answer has.
func (f *facebook) graph(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		version := r.PathValue("version")
		h := w.Header()
		h.Set("X-Fb-Trace-Id", opaque("", 11))
		h.Set("X-App-Usage", `{"call_count":1,"total_time":1,"total_cputime":1}`)
		h.Set("Cache-Control", "private, no-cache, no-store, must-revalidate")
		if version != "" {
			if !versionForm.MatchString(version) {
				graphFail(w, graphError{Message: "Unknown path components: /" + version, Type: "OAuthException", Code: 2500})
				return
			}
			h.Set("Facebook-Api-Version", version)
		}
		next(w, r)
	}
}

// graphError is the object that the Graph API nests under error, where OAuth (RFC 6749 section 5.2) has a string.
type graphError struct {
	Message   string `json:"message"`
	Type      string `json:"type"`
	Code      int    `json:"code"`
	Subcode   int    `json:"error_subcode,omitempty"`
	Transient bool   `json:"is_transient,omitempty"`
	Trace     string `json:"fbtrace_id"`
}

func graphFail(w http.ResponseWriter, e graphError) {
	graphFailWith(w, http.StatusBadRequest, e)
}

func graphFailWith(w http.ResponseWriter, status int, e graphError) {
	e.Trace = w.Header().Get("X-Fb-Trace-Id")
	if e.Type == "OAuthException" {
		word := "invalid_request"
		switch {
		case e.Code == 190:
			word = "invalid_token"
		case e.Subcode >= 36007 && e.Subcode <= 36009:
			word = "invalid_code"
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("OAuth \"Facebook Platform\" %q %q", word, e.Message))
	}
	writeJSON(w, status, map[string]graphError{"error": e})
}

func (f *facebook) serverError(w http.ResponseWriter, _ string) {
	graphFailWith(w, http.StatusInternalServerError, graphError{Message: "An unexpected error has occurred. Please retry your request later.", Type: "OAuthException", Code: 2, Transient: true})
}

func (f *facebook) rateLimit(w http.ResponseWriter, _ string) {
	w.Header().Set("X-App-Usage", `{"call_count":100,"total_time":25,"total_cputime":25}`)
	graphFail(w, graphError{Message: "(#4) Application request limit reached", Type: "OAuthException", Code: 4, Transient: true})
}

// facebookScopes are the permissions that the dialog knows; email and public_profile need no review by Facebook.
func facebookScopes() []string {
	return []string{
		"public_profile", "email", "openid", "user_age_range", "user_birthday", "user_friends", "user_gender", "user_hometown",
		"user_likes", "user_link", "user_location", "user_photos", "user_posts", "user_videos",
	}
}

// dialog is the authorization endpoint. What is wrong with a request is a page, never a redirect.
func (f *facebook) dialog(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	blocked := func(code, detail string) { f.blocked(w, Facebook, http.StatusBadRequest, code, detail) }
	if !versionForm.MatchString(r.PathValue("version")) {
		f.blocked(w, Facebook, http.StatusNotFound, "unknown_version", "The version in the URL must look like v26.0.")
		return
	}
	client := f.client(Facebook, q.Get("client_id"))
	if client == nil {
		blocked("invalid_app_id", "Invalid App ID: The provided app ID does not look like a valid app ID.")
		return
	}
	to := q.Get("redirect_uri")
	if !slices.Contains(client.RedirectURIs, to) {
		blocked("url_blocked", "URL blocked: This redirect failed because the redirect URI is not whitelisted in the app's Client OAuth Settings.")
		return
	}
	if t := q.Get("response_type"); t != "" && t != "code" {
		blocked("unsupported_response_type", "The sandbox has response_type=code alone.")
		return
	}
	scopes := []string{"public_profile"} // always granted
	for _, s := range strings.FieldsFunc(q.Get("scope"), func(c rune) bool { return c == ',' || c == ' ' }) {
		if !slices.Contains(facebookScopes(), s) {
			blocked("invalid_scopes", "Invalid Scopes: "+s+". This message is only shown to developers.")
			return
		}
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	// Success and failure end in this fragment, which a browser carries over further redirects.
	back := func(p pairs) { redirect(w, r, p.onto(to)+"#_=_") }
	f.signIn(w, r, question{
		provider: Facebook, client: client, hint: q.Get("login_hint"), scopes: scopes,
		allow: func(p *Persona) { back(f.allowed(r, client, p, scopes, q)) },
		deny: func() {
			back(pairs{
				{"error", "access_denied"},
				{"error_code", "200"},
				{"error_description", "Permissions error"},
				{"error_reason", "user_denied"},
				{"state", q.Get("state")},
			})
		},
	})
}

func (f *facebook) allowed(r *http.Request, client *Client, p *Persona, scopes []string, q url.Values) pairs {
	now := f.now()
	grant, _ := f.grantOf(client.ID, p, now)
	grant.allow(scopes)
	key := opaque("AQ", 290) // as long as Facebook's
	// A code_challenge is dropped without a word: see redeem.
	c := &code{grant: grant, scopes: scopes, redirectURI: q.Get("redirect_uri")}
	_, c.noEmail = f.take(r, Facebook, faultNoEmail, "")
	f.issue(key, c, now)
	answer := pairs{{"code", key}}
	if q.Get("return_scopes") == "true" {
		answer = append(answer, [2]string{"granted_scopes", strings.Join(scopes, ",")})
	}
	return append(answer, [2]string{"state", q.Get("state")})
}

// token is the token endpoint; it takes parameters from the query and from a form alike.
func (f *facebook) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what could not be read is missing
	fail := func(code int, message string) {
		graphFail(w, graphError{Message: message, Type: "OAuthException", Code: code})
	}
	id := r.Form.Get("client_id") // HTTP Basic is not looked at
	if id == "" {
		fail(101, "Missing client_id parameter.")
		return
	}
	client := f.client(Facebook, id)
	if client == nil {
		fail(101, "Error validating application. Cannot get application info due to a system error.")
		return
	}
	if !same(r.Form.Get("client_secret"), client.Secret) {
		fail(1, "Error validating client secret.")
		return
	}
	switch r.Form.Get("grant_type") {
	case "client_credentials":
		writeJSON(w, http.StatusOK, map[string]string{"access_token": appToken(client), "token_type": "bearer"})
	case "fb_exchange_token":
		f.exchange(w, r, client)
	default: // authorization_code, which may be omitted
		f.redeem(w, r, client)
	}
}

func (f *facebook) redeem(w http.ResponseWriter, r *http.Request, client *Client) {
	now := f.now()
	fail := func(code, subcode int, message string) {
		graphFail(w, graphError{Message: message, Type: "OAuthException", Code: code, Subcode: subcode})
	}
	switch {
	case r.Form.Get("redirect_uri") == "":
		fail(191, 0, "Missing redirect_uri parameter.")
		return
	case r.Form.Get("code") == "":
		fail(1, 0, "Missing authorization code")
		return
	case r.Form.Has("code_verifier"):
		// The dialog drops the challenge, so every verifier is one too many (seen on v22.0 and v26.0:
		// github.com/NangoHQ/nango/pull/7156, github.com/better-auth/better-auth/issues/186).
		fail(1, 0, "code_verifier param is provided without a code_challenge in authorization request.")
		return
	}
	c, state := f.find(r.Form.Get("code"), client.ID, now)
	if state == codeUnknown {
		fail(100, 0, "Invalid verification code format.")
		return
	}
	if _, ok := f.take(r, Facebook, faultExpiredCode, ""); ok {
		c.used.Store(true)
		state = codeExpired
	}
	if _, ok := f.take(r, Facebook, faultUsedCode, ""); ok {
		c.used.Store(true)
		state = codeUsed
	}
	switch {
	case state == codeExpired:
		fail(100, 36007, "This authorization code has expired.")
		return
	case state == codeUsed:
		fail(100, 36009, "This authorization code has been used.")
		return
	case r.Form.Get("redirect_uri") != c.redirectURI:
		fail(100, 36008, "Error validating verification code. Please make sure your redirect_uri is identical to the one you used in the OAuth dialog request")
		return
	case !c.used.CompareAndSwap(false, true):
		fail(100, 36009, "This authorization code has been used.")
		return
	}
	f.hand(w, token{grant: c.grant, scopes: c.scopes, noEmail: c.noEmail}, now)
}

// exchange trades a token that is alive for a long-lived one.
func (f *facebook) exchange(w http.ResponseWriter, r *http.Request, client *Client) {
	now := f.now()
	key := r.Form.Get("fb_exchange_token")
	if e := f.judge(key, now); e != nil {
		graphFail(w, *e)
		return
	}
	t := f.live(key, now)
	if t == nil || t.grant.clientID != client.ID {
		graphFail(w, graphError{Message: "Error validating application. Invalid application ID.", Type: "OAuthException", Code: 190})
		return
	}
	f.hand(w, token{grant: t.grant, scopes: t.scopes, noEmail: t.noEmail}, now)
}

func (f *facebook) hand(w http.ResponseWriter, t token, now time.Time) {
	t.issued, t.expires = now, now.Add(facebookTokenLife)
	key := opaque("EAAG", 190)
	f.mint(key, &t, now)
	writeJSON(w, http.StatusOK, struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
	}{key, "bearer", int64(facebookTokenLife / time.Second)})
}

// appToken is an app's own access token: derived, so that nothing is kept for it.
func appToken(c *Client) string {
	mac := hmac.New(sha256.New, []byte(c.Secret))
	mac.Write([]byte("app token"))
	return c.ID + "|" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:27]
}

// graphTime is how the Graph API writes a time into a sentence.
const graphTime = "Monday, 02-Jan-06 15:04:05 MST"

// judge is the error of a person's access token, or nil if it is good.
func (f *facebook) judge(key string, now time.Time) *graphError {
	e := &graphError{Type: "OAuthException", Code: 190}
	t, ok := f.tokens.get(key, now)
	switch {
	case key == "":
		e.Code, e.Message = 2500, "An active access token must be used to query information about the current user."
	case !ok:
		e.Message = "Invalid OAuth access token - Cannot parse access token"
	case t.grant.revoked.Load():
		e.Subcode, e.Message = 458, "Error validating access token: The user has not authorized application "+t.grant.clientID+"."
	case !t.alive(now):
		e.Subcode = 463
		e.Message = "Error validating access token: Session has expired on " + t.expires.UTC().Format(graphTime) + ". The current time is " + now.UTC().Format(graphTime) + "."
	default:
		return nil
	}
	return e
}

// accessToken is the token that a Graph call came with.
func accessToken(r *http.Request) string {
	if key := r.FormValue("access_token"); key != "" {
		return key
	}
	return bearer(r, "bearer", "oauth")
}

// caller is the token of a person's Graph call, or nil if the call has been answered.
func (f *facebook) caller(w http.ResponseWriter, r *http.Request) *token {
	key, now := accessToken(r), f.now()
	if e := f.judge(key, now); e != nil {
		graphFail(w, *e)
		return nil
	}
	t := f.live(key, now)
	if t == nil { // revoked a moment ago
		graphFail(w, graphError{Message: "Invalid OAuth access token.", Type: "OAuthException", Code: 190})
		return nil
	}
	if client := f.client(Facebook, t.grant.clientID); !f.proven(w, r, client, key) {
		return nil
	}
	return t
}

// proven checks appsecret_proof: when it is given, and when the app wants it always.
func (f *facebook) proven(w http.ResponseWriter, r *http.Request, client *Client, key string) bool {
	proof := r.FormValue("appsecret_proof")
	if proof == "" {
		if client.RequireAppSecretProof {
			graphFail(w, graphError{Message: "API calls from the server require an appsecret_proof argument", Type: "GraphMethodException", Code: 100})
			return false
		}
		return true
	}
	mac := hmac.New(sha256.New, []byte(client.Secret))
	mac.Write([]byte(key))
	if !same(proof, hex.EncodeToString(mac.Sum(nil))) {
		graphFail(w, graphError{Message: "Invalid appsecret_proof provided in the API argument", Type: "GraphMethodException", Code: 100})
		return false
	}
	return true
}

// withheld are fields that exist and that no persona shows: they need a review by Facebook.
func withheld() []string {
	return []string{"about", "age_range", "birthday", "friends", "gender", "hometown", "likes", "link", "locale", "location", "middle_name", "photos", "posts", "short_name", "name_format", "timezone", "verified", "videos"}
}

// me serves the profile: the fields that were asked for, else name and id.
func (f *facebook) me(w http.ResponseWriter, r *http.Request) {
	t := f.caller(w, r)
	if t == nil {
		return
	}
	a := t.grant.persona.Facebook
	has := map[string]any{
		"id": a.ID, "name": a.Name, "first_name": a.FirstName, "last_name": a.LastName,
		"picture": map[string]any{"data": map[string]any{"height": pictureSize, "is_silhouette": false, "url": a.Picture, "width": pictureSize}},
	}
	allowed := slices.Contains(t.scopes, "email") && slices.Contains(t.grant.granted(), "email")
	if a.Email != "" && allowed && !t.noEmail {
		has["email"] = a.Email // otherwise absent, not null
	}
	answer := map[string]any{"id": a.ID}
	fields := splitFields(r.FormValue("fields"))
	if len(fields) == 0 {
		fields = []string{"name", "id"}
	}
	for _, field := range fields {
		if v, ok := has[field]; ok {
			answer[field] = v
		} else if field != "email" && !slices.Contains(withheld(), field) {
			graphFail(w, graphError{Message: "(#100) Tried accessing nonexisting field (" + field + ")", Type: "OAuthException", Code: 100})
			return
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// splitFields are the names in a fields parameter, without what is asked of them: id,picture.type(large){url}.
func splitFields(raw string) (names []string) {
	depth, start := 0, 0
	add := func(part string) {
		if end := strings.IndexAny(part, ".({"); end >= 0 {
			part = part[:end]
		}
		if part = strings.TrimSpace(part); part != "" {
			names = append(names, part)
		}
	}
	for i, c := range raw {
		switch c {
		case '(', '{':
			depth++
		case ')', '}':
			depth--
		case ',':
			if depth == 0 {
				add(raw[start:i])
				start = i + 1
			}
		}
	}
	add(raw[start:])
	return names
}

// debugToken says what a token is good for, to its own app.
func (f *facebook) debugToken(w http.ResponseWriter, r *http.Request) {
	now, key := f.now(), accessToken(r)
	client := f.appOf(key, now)
	if client == nil {
		graphFail(w, graphError{Message: "Invalid OAuth access token - Cannot parse access token", Type: "OAuthException", Code: 190})
		return
	}
	if !f.proven(w, r, client, key) {
		return
	}
	input := r.FormValue("input_token")
	if input == "" {
		graphFail(w, graphError{Message: "(#100) The parameter input_token is required", Type: "OAuthException", Code: 100})
		return
	}
	t, ok := f.tokens.get(input, now)
	if ok && t.grant.clientID != client.ID {
		graphFail(w, graphError{Message: "(#100) The App_id in the input_token did not match the Viewing App", Type: "OAuthException", Code: 100})
		return
	}
	data := map[string]any{"is_valid": false, "scopes": []string{}}
	if ok {
		maps.Copy(data, map[string]any{
			"app_id": client.ID, "type": "USER", "application": client.ID, "user_id": t.grant.persona.Facebook.ID,
			"expires_at": t.expires.Unix(), "data_access_expires_at": t.issued.Add(facebookDataLife).Unix(), "issued_at": t.issued.Unix(),
			"scopes": t.scopes,
		})
	}
	if e := f.judge(input, now); e != nil {
		inner := map[string]any{"code": e.Code, "message": e.Message}
		if e.Subcode != 0 {
			inner["subcode"] = e.Subcode
		}
		data["error"] = inner
	} else {
		data["is_valid"] = true
	}
	writeJSON(w, http.StatusOK, map[string]any{"data": data})
}

// appOf is the app that speaks with an app token, written as id|secret or handed out, or with a token of a person.
func (f *facebook) appOf(key string, now time.Time) *Client {
	if id, secret, ok := strings.Cut(key, "|"); ok {
		client := f.client(Facebook, id)
		if client == nil || !same(secret, client.Secret) && !same(key, appToken(client)) {
			return nil
		}
		return client
	}
	if t := f.live(key, now); t != nil {
		return f.client(Facebook, t.grant.clientID)
	}
	return nil
}

func (f *facebook) permissions(w http.ResponseWriter, r *http.Request) {
	t := f.caller(w, r)
	if t == nil {
		return
	}
	list := []map[string]string{}
	for _, s := range t.grant.granted() {
		list = append(list, map[string]string{"permission": s, "status": "granted"})
	}
	writeJSON(w, http.StatusOK, map[string]any{"data": list})
}

// deletePermissions removes the app from the person's account: every token of theirs for it ends.
func (f *facebook) deletePermissions(w http.ResponseWriter, r *http.Request) {
	t := f.caller(w, r)
	if t == nil {
		return
	}
	t.grant.revoked.Store(true)
	writeJSON(w, http.StatusOK, map[string]bool{"success": true})
}
