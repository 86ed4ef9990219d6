// Package sampleapp is a web app that signs people in through Portico, small enough to read from top to bottom. It uses
// what any OpenID Connect app in Go would: golang.org/x/oauth2 and coreos/go-oidc, each as its own documentation
// shows, and nothing of Portico's.
//
// It shows who signed in, what the tokens say, a refresh, what an API (examples/sampleapi) keeps for who signed in, and a sign-out at
// both ends. `portico dev` serves it; examples/sampleapp/cmd/sampleapp runs it alone.
package sampleapp

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

//go:embed page.html style.css
var files embed.FS

// Config is what the app was given when it was registered with the broker.
type Config struct {
	Issuer       string   // the broker
	ClientID     string   //
	ClientSecret string   //
	URL          string   // the app's own address, without a slash at the end
	Connectors   []string // providers to offer a direct button for; may be empty
	API          string   // the address of the notes API, without a slash at the end; "" for an app that calls none
}

// maxVisitors bounds the app's memory: the oldest visitor is forgotten. A real app keeps its sessions elsewhere.
const maxVisitors = 1000

// App is the app. It may serve requests concurrently.
type App struct {
	config Config
	page   *template.Template
	mux    *http.ServeMux

	mu       sync.Mutex
	provider *oidc.Provider // discovered at the first sign-in, so that app and broker may start in any order
	visitors map[string]*visitor
	order    []string
}

// visitor is one browser. Its requests are served one after the other.
type visitor struct {
	sync.Mutex
	visit
}

// visit is what the app knows of a browser.
type visit struct {
	// while signing in
	state, nonce, verifier string
	// once signed in
	token   *oauth2.Token
	idToken string
	notice  string
}

// New makes the app.
func New(config Config) (*App, error) {
	page, err := template.New("page.html").Funcs(template.FuncMap{"title": title}).ParseFS(files, "page.html")
	if err != nil {
		return nil, err
	}
	a := &App{config: config, page: page, mux: http.NewServeMux(), visitors: map[string]*visitor{}}
	a.mux.HandleFunc("GET /{$}", a.home)
	a.mux.HandleFunc("GET /style.css", a.style)
	a.mux.HandleFunc("GET /login", a.login)
	a.mux.HandleFunc("GET /callback", a.callback)
	a.mux.HandleFunc("POST /refresh", a.refresh)
	a.mux.HandleFunc("POST /notes", a.write)
	a.mux.HandleFunc("POST /logout", a.logout)
	return a, nil
}

// title is how a provider writes its name.
func title(connector string) string {
	switch connector {
	case "github":
		return "GitHub"
	case "":
		return ""
	}
	return strings.ToUpper(connector[:1]) + connector[1:]
}

// RedirectURI is what has to be registered with the broker for the app at this address.
func RedirectURI(appURL string) string { return appURL + "/callback" }

func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'")
	http.NewCrossOriginProtection().Handler(a.mux).ServeHTTP(w, r)
}

// oauth is the client's view of the broker: golang.org/x/oauth2 with the endpoints that go-oidc discovered.
func (a *App) oauth(ctx context.Context) (*oauth2.Config, *oidc.Provider, error) {
	a.mu.Lock()
	provider := a.provider
	a.mu.Unlock()
	if provider == nil {
		var err error
		if provider, err = oidc.NewProvider(context.WithoutCancel(ctx), a.config.Issuer); err != nil {
			return nil, nil, err
		}
		a.mu.Lock()
		a.provider = provider
		a.mu.Unlock()
	}
	scopes := []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess}
	if a.config.API != "" {
		scopes = append(scopes, "notes:read", "notes:write") // the API's: the access token is for it too
	}
	return &oauth2.Config{
		ClientID:     a.config.ClientID,
		ClientSecret: a.config.ClientSecret,
		Endpoint:     provider.Endpoint(),
		RedirectURL:  RedirectURI(a.config.URL),
		Scopes:       scopes,
	}, provider, nil
}

// login sends the browser to the broker.
func (a *App) login(w http.ResponseWriter, r *http.Request) {
	config, _, err := a.oauth(r.Context())
	if err != nil {
		a.fail(w, "The broker does not answer: "+err.Error())
		return
	}
	v := a.newVisitor(w)
	v.Lock()
	defer v.Unlock()
	v.state, v.nonce, v.verifier = rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	options := []oauth2.AuthCodeOption{oidc.Nonce(v.nonce), oauth2.S256ChallengeOption(v.verifier)}
	for _, name := range []string{"idp_hint", "prompt", "login_hint"} {
		if value := r.URL.Query().Get(name); value != "" {
			options = append(options, oauth2.SetAuthURLParam(name, value))
		}
	}
	http.Redirect(w, r, config.AuthCodeURL(v.state, options...), http.StatusSeeOther)
}

// callback is where the broker sends the browser back to.
func (a *App) callback(w http.ResponseWriter, r *http.Request) {
	v := a.visitor(r)
	v.Lock()
	defer v.Unlock()
	query := r.URL.Query()
	switch {
	case v.state == "" || query.Get("state") != v.state:
		a.fail(w, "This sign-in was not started here. Start again.")
		return
	case query.Get("iss") != a.config.Issuer: // RFC 9207: the answer is the broker's and nobody else's
		a.fail(w, "This answer is from somebody else.")
		return
	case query.Get("error") != "":
		v.state = ""
		a.fail(w, query.Get("error")+": "+query.Get("error_description"))
		return
	}
	config, provider, err := a.oauth(r.Context())
	if err != nil {
		a.fail(w, err.Error())
		return
	}
	token, err := config.Exchange(r.Context(), query.Get("code"), oauth2.VerifierOption(v.verifier))
	if err != nil {
		a.fail(w, explain(err))
		return
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, err := provider.Verifier(&oidc.Config{ClientID: a.config.ClientID}).Verify(r.Context(), raw)
	if err != nil {
		a.fail(w, err.Error())
		return
	}
	if idToken.Nonce != v.nonce {
		a.fail(w, "The ID token belongs to another sign-in.")
		return
	}
	v.visit = visit{token: token, idToken: raw, notice: "Signed in."}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// refresh asks for fresh tokens with the refresh token, which is replaced in turn.
func (a *App) refresh(w http.ResponseWriter, r *http.Request) {
	v := a.visitor(r)
	v.Lock()
	defer v.Unlock()
	config, _, err := a.oauth(r.Context())
	if err != nil || v.token == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	old := *v.token
	old.Expiry = time.Unix(1, 0) // makes the library refresh now rather than when it must
	token, err := config.TokenSource(r.Context(), &old).Token()
	if err != nil {
		a.fail(w, explain(err))
		return
	}
	v.token, v.notice = token, "Refreshed: a new access token, and a new refresh token in place of the old."
	if raw, ok := token.Extra("id_token").(string); ok {
		v.idToken = raw
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// write has the API keep a note, with the access token of who is signed in.
func (a *App) write(w http.ResponseWriter, r *http.Request) {
	v := a.visitor(r)
	v.Lock()
	defer v.Unlock()
	if v.token == nil || a.config.API == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if err := a.notes(r.Context(), v, http.MethodPost, url.Values{"text": {r.PostFormValue("text")}}, nil); err != nil {
		a.fail(w, err.Error())
		return
	}
	v.notice = "Written."
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// notes calls the API: the access token goes along in the Authorization header (RFC 6750 section 2.1).
func (a *App) notes(ctx context.Context, v *visitor, method string, form url.Values, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, a.config.API+"/notes", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	v.token.SetAuthHeader(request)
	return do(request, answer)
}

// logout revokes the tokens (RFC 7009) and signs out at the broker (OpenID Connect RP-Initiated Logout).
func (a *App) logout(w http.ResponseWriter, r *http.Request) {
	v := a.visitor(r)
	v.Lock()
	defer v.Unlock()
	_, provider, err := a.oauth(r.Context())
	if err != nil || v.token == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	var endpoints struct {
		Revocation string `json:"revocation_endpoint"`
		EndSession string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&endpoints); err != nil {
		a.fail(w, err.Error())
		return
	}
	if err := a.post(r.Context(), endpoints.Revocation, url.Values{"token": {v.token.RefreshToken}}, nil); err != nil {
		a.fail(w, err.Error())
		return
	}
	hint := v.idToken
	v.visit = visit{notice: "Signed out, here and at the broker."}
	http.Redirect(w, r, endpoints.EndSession+"?"+url.Values{
		"id_token_hint":            {hint},
		"post_logout_redirect_uri": {a.config.URL + "/"},
	}.Encode(), http.StatusSeeOther)
}

// view is what the page shows.
type view struct {
	Config        Config
	Error, Notice string
	Name, Email   string
	Picture       string
	IDToken       string // its claims
	Introspection string // what the broker says of the access token
	Userinfo      string
	Notes         []note
	NotesError    string
	Expires       string
	HasRefresh    bool
	SignedIn      bool
}

func (a *App) home(w http.ResponseWriter, r *http.Request) {
	data := view{Config: a.config}
	v := a.visitor(r)
	v.Lock()
	defer v.Unlock()
	data.Notice, v.notice = v.notice, ""
	if v.token != nil {
		if err := a.describe(r.Context(), v, &data); err != nil {
			a.fail(w, err.Error())
			return
		}
	}
	a.render(w, http.StatusOK, data)
}

type note struct{ Text string }

// describe fills in who signed in and what the tokens say.
func (a *App) describe(ctx context.Context, v *visitor, data *view) error {
	_, provider, err := a.oauth(ctx)
	if err != nil {
		return err
	}
	idToken, err := provider.Verifier(&oidc.Config{ClientID: a.config.ClientID, SkipExpiryCheck: true}).Verify(ctx, v.idToken)
	if err != nil {
		return err
	}
	var who struct{ Name, Email, Picture string }
	var claims map[string]any
	if err := errors.Join(idToken.Claims(&who), idToken.Claims(&claims)); err != nil {
		return err
	}
	var endpoints struct {
		Introspection string `json:"introspection_endpoint"`
	}
	if err := provider.Claims(&endpoints); err != nil {
		return err
	}
	var introspection map[string]any
	if err := a.post(ctx, endpoints.Introspection, url.Values{"token": {v.token.AccessToken}}, &introspection); err != nil {
		return err
	}
	userinfo, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(v.token))
	if err == nil {
		var all map[string]any
		if err := userinfo.Claims(&all); err != nil {
			return err
		}
		data.Userinfo = pretty(all)
	} else {
		data.Userinfo = err.Error()
	}
	if a.config.API != "" {
		var answer struct{ Notes []note }
		if err := a.notes(ctx, v, http.MethodGet, nil, &answer); err != nil {
			data.NotesError = err.Error()
		}
		data.Notes = answer.Notes
	}
	data.SignedIn, data.HasRefresh = true, v.token.RefreshToken != ""
	data.Name, data.Email, data.Picture = who.Name, who.Email, who.Picture
	data.IDToken, data.Introspection = pretty(claims), pretty(introspection)
	data.Expires = v.token.Expiry.Format(time.RFC1123)
	return nil
}

// post calls an endpoint of the broker's as this client.
func (a *App) post(ctx context.Context, endpoint string, form url.Values, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(a.config.ClientID), url.QueryEscape(a.config.ClientSecret))
	return do(request, answer)
}

// maxAnswer bounds what is read of an answer; all of somebody's notes are within it.
const maxAnswer = 1 << 20

// do sends a request, and reads the JSON that comes back into answer, unless that is nil.
func do(request *http.Request, answer any) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}

// explain says what the broker said.
func explain(err error) string {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode != "" {
		return refused.ErrorCode + ": " + refused.ErrorDescription
	}
	return err.Error()
}

func pretty(v any) string {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func (a *App) fail(w http.ResponseWriter, message string) {
	a.render(w, http.StatusBadRequest, view{Config: a.config, Error: message})
}

func (a *App) render(w http.ResponseWriter, status int, data view) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = a.page.Execute(w, data) // The only error is a browser that hung up.
}

func (a *App) style(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, files, "style.css")
}

const cookieName = "sampleapp"

// visitor is the browser of this request, or somebody new.
func (a *App) visitor(r *http.Request) *visitor {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cookie, err := r.Cookie(cookieName); err == nil && a.visitors[cookie.Value] != nil {
		return a.visitors[cookie.Value]
	}
	return &visitor{}
}

// newVisitor gives the browser a fresh cookie.
func (a *App) newVisitor(w http.ResponseWriter) *visitor {
	id, v := rand.Text(), &visitor{}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.visitors[id] = v
	a.order = append(a.order, id)
	if len(a.order) > maxVisitors {
		delete(a.visitors, a.order[0])
		a.order = a.order[1:]
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(a.config.URL, "https:"),
	})
	return v
}
