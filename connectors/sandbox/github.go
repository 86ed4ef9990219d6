package sandbox

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	githubTokenLife   = 8 * time.Hour
	githubRefreshLife = 184 * 24 * time.Hour // the 15897600 seconds of its answers

	githubPerPage    = 30  // addresses on a page unless asked
	githubMaxPerPage = 100 // and at most

	githubDocs      = "https://docs.github.com/rest"
	githubTokenDocs = "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/"
	githubAuthDocs  = "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-authorization-request-errors/"

	// githubLimit is what the rate limit's headers say. It is not counted: a benchmark would run into it.
	githubLimit = 5000
)

// github simulates github.com and api.github.com.
type github struct {
	*Sandbox
	ledger
	issuer string
}

func newGitHub(s *Sandbox) *github {
	return &github{Sandbox: s, ledger: newLedger(), issuer: s.GitHubURL() + "/login/oauth"}
}

func (g *github) routes(mux *http.ServeMux) {
	fail := failures{serverError: g.serverError, rateLimit: g.rateLimit}
	mux.HandleFunc("GET /github/login/oauth/authorize", g.authorize)
	mux.HandleFunc("POST /github/login/oauth/authorize", g.authorize)
	mux.HandleFunc("POST /github/login/oauth/access_token", g.faulty(GitHub, atToken, fail, g.token))
	mux.HandleFunc("GET /github/api/user", g.faulty(GitHub, atProfile, fail, g.user))
	mux.HandleFunc("GET /github/api/user/emails", g.faulty(GitHub, atEmails, fail, g.emails))
	mux.HandleFunc("POST /github/api/applications/{client_id}/token", g.application(g.checkToken))
	mux.HandleFunc("PATCH /github/api/applications/{client_id}/token", g.application(g.resetToken))
	mux.HandleFunc("DELETE /github/api/applications/{client_id}/token", g.application(g.deleteToken))
	mux.HandleFunc("DELETE /github/api/applications/{client_id}/grant", g.application(g.deleteGrant))
	mux.HandleFunc("/github/api/", func(w http.ResponseWriter, _ *http.Request) {
		githubMessage(w, http.StatusNotFound, "Not Found", "")
	})
}

func (g *github) serverError(w http.ResponseWriter, at string) {
	if at == atToken {
		write(w, http.StatusBadGateway, htmlType, []byte("<!DOCTYPE html><html><title>Unicorn! &middot; GitHub</title><p>We had issues producing the response to your request.</html>"))
		return
	}
	githubMessage(w, http.StatusBadGateway, "Server Error", "")
}

func (g *github) rateLimit(w http.ResponseWriter, at string) {
	if at == atToken {
		w.Header().Set("Retry-After", "60")
		write(w, http.StatusTooManyRequests, htmlType, []byte("<!DOCTYPE html><html><title>Rate limit &middot; GitHub</title><p>Whoa there! You have exceeded a secondary rate limit. Please wait a few minutes before you try again.</html>"))
		return
	}
	g.apiHeaders(w, true)
	githubMessage(w, http.StatusForbidden, "API rate limit exceeded for user ID 583231.", "/overview/rate-limits-for-the-rest-api")
}

// authorize is the authorization endpoint.
func (g *github) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	client := g.client(GitHub, q.Get("client_id"))
	if client == nil || len(client.RedirectURIs) == 0 {
		g.blocked(w, GitHub, http.StatusNotFound, "not_found", "This is not the web page you are looking for: no app has this client_id.")
		return
	}
	to := q.Get("redirect_uri")
	if to == "" {
		to = client.RedirectURIs[0]
	}
	refuse := func(to, code, description, anchor string) {
		redirect(w, r, pairs{
			{"error", code},
			{"error_description", description},
			{"error_uri", githubAuthDocs + anchor},
			{"state", q.Get("state")},
		}.onto(to))
	}
	if !slices.Contains(client.RedirectURIs, to) {
		// The registered callback is told, not the one that was asked for.
		refuse(client.RedirectURIs[0], "redirect_uri_mismatch", "The redirect_uri is not associated with this application.", "#redirect-uri-mismatch")
		return
	}
	if q.Has("code_challenge_method") && q.Get("code_challenge_method") != "S256" || q.Has("code_challenge") != q.Has("code_challenge_method") {
		// That S256 is the only method is documented; this answer to another is not.
		refuse(to, "invalid_request", "PKCE needs a code_challenge and the code_challenge_method S256.", "")
		return
	}
	scopes, expiring := githubScopes(q.Get("scope"))
	g.signIn(w, r, question{
		provider: GitHub, client: client, hint: q.Get("login"), scopes: scopes,
		allow: func(p *Persona) {
			redirect(w, r, g.allowed(r, client, p, scopes, expiring, to, q).onto(to))
		},
		deny: func() {
			refuse(to, "access_denied", "The user has denied your application access.", "#access-denied")
		},
	})
}

// githubScopes are the scopes of a request, as they are granted: unknown ones are dropped without a word, and those
// that another one includes. offline_access asks for tokens that expire.
func githubScopes(raw string) (scopes []string, expiring bool) {
	wanted := strings.Fields(strings.ReplaceAll(raw, ",", " "))
	user := slices.Contains(wanted, "user")
	for _, s := range wanted {
		switch s {
		case "offline_access":
			expiring = true
			continue
		case "read:user", "user:email", "user:follow":
			if user {
				continue
			}
		case "user", "read:org", "repo", "public_repo", "gist", "notifications":
		default:
			continue
		}
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes, expiring
}

// readsEmails says whether the scopes open /user/emails.
func readsEmails(scopes []string) bool {
	return slices.Contains(scopes, "user") || slices.Contains(scopes, "user:email")
}

func (g *github) allowed(r *http.Request, client *Client, p *Persona, scopes []string, expiring bool, to string, q url.Values) pairs {
	now := g.now()
	grant, _ := g.grantOf(client.ID, p, now)
	grant.allow(scopes)
	if q.Get("scope") == "" {
		scopes = grant.granted() // an omitted scope reuses what was granted before
	}
	key := opaque("", 20)
	c := &code{
		grant: grant, scopes: scopes, redirectURI: to, challenge: q.Get("code_challenge"), method: "S256",
		expiring: expiring || client.ExpiringTokens,
	}
	_, c.noEmail = g.take(r, GitHub, faultNoEmail, "")
	g.issue(key, c, now)
	iss := g.issuer
	if _, ok := g.take(r, GitHub, faultWrongISS, ""); ok {
		iss = wrongIssuer
	}
	return pairs{{"code", key}, {"iss", iss}, {"state", q.Get("state")}}
}

// githubAnswer answers a token request: form-encoded, or JSON for who asks. Failures have status 200 as well.
func githubAnswer(w http.ResponseWriter, r *http.Request, p pairs) {
	uncached(w)
	if !strings.Contains(r.Header.Get("Accept"), "application/json") {
		form := url.Values{}
		for _, kv := range p {
			form.Set(kv[0], kv[1]) // an empty scope is written, as scope=
		}
		write(w, http.StatusOK, formType, []byte(form.Encode()))
		return
	}
	object := make(map[string]any, len(p))
	for _, kv := range p {
		object[kv[0]] = kv[1]
		if strings.HasSuffix(kv[0], "expires_in") {
			object[kv[0]] = json.Number(kv[1])
		}
	}
	writeJSON(w, http.StatusOK, object)
}

func githubTokenError(w http.ResponseWriter, r *http.Request, code, description string) {
	githubAnswer(w, r, pairs{
		{"error", code},
		{"error_description", description},
		{"error_uri", githubTokenDocs + "#" + strings.ReplaceAll(code, "_", "-")},
	})
}

// token is the token endpoint.
func (g *github) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what could not be read is missing
	id, secret := clientAuth(r)
	client := g.client(GitHub, id)
	if client == nil || !same(secret, client.Secret) {
		githubTokenError(w, r, "incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
		return
	}
	now := g.now()
	if r.Form.Get("grant_type") == "refresh_token" {
		g.renew(w, r, client, now)
		return
	}
	bad := func() {
		githubTokenError(w, r, "bad_verification_code", "The code passed is incorrect or expired.")
	}
	c, state := g.find(r.Form.Get("code"), client.ID, now)
	if state == codeUnknown {
		bad()
		return
	}
	_, expired := g.take(r, GitHub, faultExpiredCode, "")
	_, used := g.take(r, GitHub, faultUsedCode, "")
	if expired || used {
		c.used.Store(true)
		state = codeUsed
	}
	if state != codeGood {
		bad()
		return
	}
	if uri := r.Form.Get("redirect_uri"); uri != "" && uri != c.redirectURI {
		githubTokenError(w, r, "redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL for this application.")
		return
	}
	if c.challenge != "" && !c.proves(r.Form.Get("code_verifier")) {
		bad() // not documented
		return
	}
	if _, ok := g.take(r, GitHub, faultUnverifiedEmail, ""); ok {
		githubTokenError(w, r, "unverified_user_email", "The user must have a verified primary email.")
		return
	}
	if !c.used.CompareAndSwap(false, true) {
		bad()
		return
	}
	g.hand(w, r, token{grant: c.grant, scopes: c.scopes, noEmail: c.noEmail}, c.expiring, now)
}

// hand mints tokens and answers with them.
func (g *github) hand(w http.ResponseWriter, r *http.Request, t token, expiring bool, now time.Time) {
	t.issued = now
	access := opaque("gho_", 36)
	p := pairs{{"access_token", access}, {"scope", strings.Join(t.scopes, ",")}, {"token_type", "bearer"}}
	if expiring {
		renewal := opaque("ghr_", 76)
		p = append(p, [][2]string{
			{"expires_in", seconds(githubTokenLife)},
			{"refresh_token", renewal},
			{"refresh_token_expires_in", seconds(githubRefreshLife)},
		}...)
		again := t
		again.expires, again.partner = now.Add(githubRefreshLife), access
		g.mintRefresh(renewal, &again, now)
		t.expires, t.partner = now.Add(githubTokenLife), renewal
	}
	g.mint(access, &t, now)
	githubAnswer(w, r, p)
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// renew redeems a refresh token; the old pair dies.
func (g *github) renew(w http.ResponseWriter, r *http.Request, client *Client, now time.Time) {
	key := r.Form.Get("refresh_token")
	old, ok := g.refresh.get(key, now)
	// remove comes last: a token that is refused is not used up.
	if !ok || old.grant.clientID != client.ID || !old.alive(now) || !g.refresh.remove(key) {
		githubTokenError(w, r, "bad_refresh_token", "The refresh token passed is incorrect or expired.")
		return
	}
	g.tokens.remove(old.partner)
	g.hand(w, r, token{grant: old.grant, scopes: old.scopes, noEmail: old.noEmail}, true, now)
}

// githubMessage is an error of the REST API.
func githubMessage(w http.ResponseWriter, status int, message, page string) {
	writeJSON(w, status, struct {
		Message string `json:"message"`
		Docs    string `json:"documentation_url"`
		Status  string `json:"status"`
	}{message, githubDocs + page, strconv.Itoa(status)})
}

// apiHeaders are the headers of every answer of the REST API.
func (g *github) apiHeaders(w http.ResponseWriter, exceeded bool) {
	h := w.Header()
	used := 1
	if exceeded {
		used = githubLimit
	}
	h.Set("X-RateLimit-Limit", strconv.Itoa(githubLimit))
	h.Set("X-RateLimit-Used", strconv.Itoa(used))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(githubLimit-used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(g.now().Add(time.Hour).Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
}

// caller is the token of a call of the REST API, or nil if the call has been answered.
func (g *github) caller(w http.ResponseWriter, r *http.Request) *token {
	if r.UserAgent() == "" {
		write(w, http.StatusForbidden, htmlType, []byte("Request forbidden by administrative rules. Please make sure your request has a User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). Check https://developer.github.com for other possible causes.\n"))
		return nil
	}
	g.apiHeaders(w, false)
	if r.Header.Get("Authorization") == "" { // a token in the query is not looked at
		githubMessage(w, http.StatusUnauthorized, "Requires authentication", "")
		return nil
	}
	t := g.live(bearer(r, "bearer", "token"), g.now())
	if t == nil {
		githubMessage(w, http.StatusUnauthorized, "Bad credentials", "")
		return nil
	}
	w.Header().Set("X-OAuth-Scopes", strings.Join(t.scopes, ", "))
	return t
}

// githubUser is the profile, as far as it is simulated. Pointers are null where GitHub has nothing.
type githubUser struct {
	Login           string  `json:"login"`
	ID              int64   `json:"id"`
	NodeID          string  `json:"node_id"`
	AvatarURL       string  `json:"avatar_url"`
	GravatarID      string  `json:"gravatar_id"`
	URL             string  `json:"url"`
	HTMLURL         string  `json:"html_url"`
	Type            string  `json:"type"`
	UserViewType    string  `json:"user_view_type"`
	SiteAdmin       bool    `json:"site_admin"`
	Name            *string `json:"name"`
	Company         *string `json:"company"`
	Blog            string  `json:"blog"`
	Location        *string `json:"location"`
	Email           *string `json:"email"`
	Hireable        *bool   `json:"hireable"`
	Bio             *string `json:"bio"`
	TwitterUsername *string `json:"twitter_username"`
	PublicRepos     int     `json:"public_repos"`
	PublicGists     int     `json:"public_gists"`
	Followers       int     `json:"followers"`
	Following       int     `json:"following"`
	CreatedAt       string  `json:"created_at"`
	UpdatedAt       string  `json:"updated_at"`
}

// user serves GET /user.
func (g *github) user(w http.ResponseWriter, r *http.Request) {
	t := g.caller(w, r)
	if t == nil {
		return
	}
	w.Header().Set("X-Accepted-OAuth-Scopes", "")
	u := g.profile(t.grant.persona.GitHub)
	if t.noEmail {
		u.Email = nil
	}
	writeJSON(w, http.StatusOK, u)
}

func (g *github) profile(a *GitHubAccount) githubUser {
	id := strconv.FormatInt(a.ID, 10)
	u := githubUser{
		Login: a.Login, ID: a.ID, NodeID: "U_" + id,
		AvatarURL: "https://pictures.invalid/u/" + id + "?v=4",
		URL:       g.GitHubAPIURL() + "/users/" + a.Login, HTMLURL: g.GitHubURL() + "/" + a.Login,
		Type: "User", UserViewType: "public",
		CreatedAt: "2019-04-02T09:21:44Z", UpdatedAt: "2026-06-30T17:05:12Z",
	}
	if a.Name != "" {
		u.Name = &a.Name
	}
	if a.Email != "" {
		u.Email = &a.Email
	}
	return u
}

// emails serves GET /user/emails, page by page.
func (g *github) emails(w http.ResponseWriter, r *http.Request) {
	t := g.caller(w, r)
	if t == nil {
		return
	}
	w.Header().Set("X-Accepted-OAuth-Scopes", "user, user:email")
	if !readsEmails(t.scopes) {
		githubMessage(w, http.StatusNotFound, "Not Found", "/users/emails#list-email-addresses-for-the-authenticated-user")
		return
	}
	all := t.grant.persona.GitHub.Emails
	if t.noEmail {
		all = nil
	}
	q := r.URL.Query()
	size := min(positive(q.Get("per_page"), githubPerPage), githubMaxPerPage)
	page := positive(q.Get("page"), 1)
	last := max((len(all)+size-1)/size, 1)
	if link := g.links(page, last, size, q.Has("per_page")); link != "" {
		w.Header().Set("Link", link)
	}
	list := []GitHubEmail{} // an empty page is a list
	if page <= last {
		list = append(list, all[(page-1)*size:min(page*size, len(all))]...)
	}
	writeJSON(w, http.StatusOK, list)
}

// positive is the number that a parameter says, or the default.
func positive(s string, otherwise int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return otherwise
	}
	return n
}

// links is the Link header (RFC 8288 section 3) of a page, "" where one page is all.
func (g *github) links(page, last, size int, sized bool) string {
	if last <= 1 {
		return ""
	}
	var links []string
	add := func(n int, rel string) {
		query := "?page=" + strconv.Itoa(n)
		if sized {
			query = "?per_page=" + strconv.Itoa(size) + "&page=" + strconv.Itoa(n)
		}
		links = append(links, "<"+g.GitHubAPIURL()+"/user/emails"+query+`>; rel="`+rel+`"`)
	}
	if page > 1 {
		add(min(page-1, last), "prev")
	}
	if page < last {
		add(page+1, "next")
		add(last, "last")
	}
	if page > 1 {
		add(1, "first")
	}
	return strings.Join(links, ", ")
}

// application opens the calls by which an app manages its tokens: with its id and secret, about a token of its own.
func (g *github) application(next func(w http.ResponseWriter, r *http.Request, client *Client, key string, t *token)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.apiHeaders(w, false)
		id, secret, _ := r.BasicAuth()
		client := g.client(GitHub, r.PathValue("client_id"))
		if client == nil || id != client.ID || !same(secret, client.Secret) {
			githubMessage(w, http.StatusNotFound, "Not Found", "/apps/oauth-applications")
			return
		}
		var body struct {
			AccessToken string `json:"access_token"`
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil || body.AccessToken == "" {
			githubMessage(w, http.StatusUnprocessableEntity, "Validation Failed", "/apps/oauth-applications")
			return
		}
		t := g.live(body.AccessToken, g.now())
		if t == nil || t.grant.clientID != client.ID {
			githubMessage(w, http.StatusNotFound, "Not Found", "/apps/oauth-applications")
			return
		}
		next(w, r, client, body.AccessToken, t)
	}
}

func (g *github) checkToken(w http.ResponseWriter, _ *http.Request, client *Client, key string, t *token) {
	g.describe(w, client, key, t)
}

// resetToken replaces a token by another one.
func (g *github) resetToken(w http.ResponseWriter, _ *http.Request, client *Client, key string, t *token) {
	if !g.tokens.remove(key) {
		githubMessage(w, http.StatusNotFound, "Not Found", "/apps/oauth-applications")
		return
	}
	now := g.now()
	fresh := *t
	fresh.issued = now
	key = opaque("gho_", 36)
	g.mint(key, &fresh, now)
	g.describe(w, client, key, &fresh)
}

func (g *github) deleteToken(w http.ResponseWriter, _ *http.Request, _ *Client, key string, t *token) {
	g.tokens.remove(key)
	if t.partner != "" {
		g.refresh.remove(t.partner)
	}
	w.WriteHeader(http.StatusNoContent)
}

// deleteGrant ends the person's whole yes to the app, all of its tokens included.
func (g *github) deleteGrant(w http.ResponseWriter, _ *http.Request, _ *Client, _ string, t *token) {
	t.grant.revoked.Store(true)
	w.WriteHeader(http.StatusNoContent)
}

// describe answers with an authorization object.
func (g *github) describe(w http.ResponseWriter, client *Client, key string, t *token) {
	at := t.issued.UTC().Format(time.RFC3339)
	var expires *string
	if !t.expires.IsZero() {
		expires = new(t.expires.UTC().Format(time.RFC3339))
	}
	scopes := t.scopes
	if scopes == nil {
		scopes = []string{}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": 1, "url": g.GitHubAPIURL() + "/authorizations/1",
		"app":   map[string]string{"client_id": client.ID, "name": client.ID, "url": g.base},
		"token": key, "token_last_eight": key[len(key)-8:],
		"scopes": scopes, "note": nil, "note_url": nil, "fingerprint": nil,
		"created_at": at, "updated_at": at, "expires_at": expires,
		"user": g.profile(t.grant.persona.GitHub),
	})
}
