package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
)

// The authorization endpoint (RFC 6749 section 3.1, OpenID Connect Core section 3.1.2).
//
// What comes in is judged in two parts. Whether client and redirect URI are to be trusted is asked first: until that is sure,
// nothing may be sent anywhere, and the person sees a page. Everything after it is an error at the app.

// asked is an authorization request with the parameters that count: its own, those that were pushed (par.go), or those that the
// client signed (request_object.go).
type asked struct {
	client *registry.Client
	params url.Values
	pushed bool       // RFC 9126
	signed bool       // RFC 9101
	once   *flow.Once // it may be answered with one code only
}

// authorize begins a flow.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		s.authorizePosted(w, r)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.showError(w, r, badRequestPage("The address cannot be read: "+challenge.Text(err.Error())))
		return
	}
	client, page := s.askingClient(r, query)
	if page != nil {
		s.showError(w, r, *page)
		return
	}
	a, refusal := s.resolve(r.Context(), client, query)
	redirectURI, page := trustedRedirect(client, a.params)
	switch {
	case refusal != nil && page != nil:
		s.showError(w, r, unreadablePage(refusal))
		return
	case page != nil:
		s.showError(w, r, *page)
		return
	}
	req := flow.Request{ClientID: client.ID, RedirectURI: redirectURI, ResponseMode: modeQuery, State: readableState(a.params)}
	if refusal == nil {
		req, refusal = s.judge(r.Context(), a, redirectURI)
	}
	doc := s.flows.Draft(req, s.browser(w, r))
	if refusal == nil && a.once != nil {
		var resumed bool
		if resumed, refusal = s.resumeOnce(w, r, doc); resumed {
			return
		}
	}
	if refusal != nil {
		s.logRefusal(r.Context(), refusal)
		doc.Value.Fail(refusal.Code, refusal.Description)
		s.Respond(w, r, doc)
		return
	}
	s.proceed(w, r, doc, client)
}

// resolve finds the parameters that count. Where it refuses, the request it returns holds those that say how to tell the app.
func (s *Server) resolve(ctx context.Context, client *registry.Client, query url.Values) (*asked, *Error) {
	object, reference := query.Get("request"), query.Get("request_uri")
	switch {
	case len(query["request"]) > 1 || len(query["request_uri"]) > 1:
		return &asked{client: client, params: query}, refuse(codeInvalidRequest, "request or request_uri is there more than once; send one of them once")
	case object != "" && reference != "":
		return &asked{client: client, params: query}, refuse(codeInvalidRequest, "request and request_uri cannot be sent together (RFC 9101 section 5)")
	case strings.HasPrefix(reference, pushedPrefix):
		return s.resolvePushed(ctx, client, query)
	case reference != "":
		return s.resolveReference(ctx, client, query)
	case object != "":
		return s.resolveObject(ctx, client, query, object)
	}
	return &asked{client: client, params: query}, nil
}

// authorizePosted turns a POSTed authorization request (OpenID Connect Core section 3.1.2.1 demands both methods) into the same
// request as a GET: the browser sends no SameSite=Lax cookies with a POST from another site, so that the
// person's session could not be seen.
func (s *Server) authorizePosted(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		e := bodyError(err)
		page := badRequestPage("The request cannot be read: " + e.Description)
		page.Status = e.Status
		s.showError(w, r, page)
		return
	}
	query := r.PostForm.Encode()
	if len(query) > maxPostedQuery {
		page := badRequestPage(fmt.Sprintf("The request is longer than %d bytes.", maxPostedQuery))
		page.Status = http.StatusRequestEntityTooLarge
		s.showError(w, r, page)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.issuer+PathAuthorize+"?"+query, http.StatusSeeOther)
}

// maxPostedQuery bounds a POSTed authorization request to what fits in the URL that it is turned into.
const maxPostedQuery = web.MaxURLBytes - 1<<10

func badRequestPage(message string) ErrorPage {
	return ErrorPage{
		Status:  http.StatusBadRequest,
		Title:   "This sign-in link does not work",
		Message: message,
		ToDo:    "Go back to the app and start again. If it happens again, tell the people who run the app: the mistake is in how it asks.",
	}
}

// unreadablePage is for a request whose parameters cannot be had, so that nobody knows where its app is.
func unreadablePage(e *Error) ErrorPage {
	if e.Status >= http.StatusInternalServerError {
		return internalPage(e)
	}
	page := badRequestPage("The app's request cannot be used: " + e.Description + ".")
	page.Cause = e
	return page
}

func badPage(format string, args ...any) *ErrorPage {
	p := badRequestPage(fmt.Sprintf(format, args...))
	return &p
}

// askingClient finds the client that a request is from.
func (s *Server) askingClient(r *http.Request, query url.Values) (*registry.Client, *ErrorPage) {
	if len(query["client_id"]) > 1 {
		return nil, badPage("The parameter client_id is there more than once.")
	}
	id := query.Get("client_id")
	if id == "" {
		return nil, badPage("The app did not say who it is: the parameter client_id is missing.")
	}
	client, err := s.clients.Get(r.Context(), id)
	if err == nil {
		web.NoteClient(r.Context(), client.ID)
	}
	switch {
	case errors.Is(err, registry.ErrInvalid):
		page := badPage("The app calls itself '%s', and what is to be read of it there is not valid: %s.", echoWord(id), challenge.Text(invalidMetadata(err).Description))
		page.Cause = err
		return nil, page
	case errors.Is(err, registry.ErrUnavailable):
		page := badPage("The app calls itself '%s', and what is to be read of it there cannot be read at the moment.", echoWord(id))
		page.Status, page.ToDo, page.Cause = http.StatusBadGateway, "Try again in a moment.", err
		return nil, page
	case errors.Is(err, registry.ErrNotFound):
		return nil, badPage("No app is registered here with the client id '%s'.", echoWord(id))
	case err != nil:
		p := internalPage(err)
		return nil, &p
	case client.Disabled:
		return nil, badPage("The app '%s' is disabled here.", client.Name)
	}
	return client, nil
}

// trustedRedirect is the redirect URI, if it is one that the client registered.
func trustedRedirect(client *registry.Client, params url.Values) (string, *ErrorPage) {
	if len(params["redirect_uri"]) > 1 {
		return "", badPage("The parameter redirect_uri is there more than once.")
	}
	redirectURI := params.Get("redirect_uri")
	if redirectURI == "" {
		return "", badPage("The app '%s' did not say where to return to: the parameter redirect_uri is missing.", client.Name)
	}
	if !registry.RedirectURIMatches(client.RedirectURIs, redirectURI) {
		return "", badPage("The app '%s' asked to return to '%s', which is not one of the redirect URIs registered for it. They are compared character by character.", client.Name, echoWord(redirectURI))
	}
	return redirectURI, nil
}

// readableState is the state of a request that is refused before it is judged; "" if there is none to give back.
func readableState(params url.Values) string {
	if len(params["state"]) != 1 || len(params.Get("state")) > maxOpaque {
		return ""
	}
	return params.Get("state")
}

func internalPage(err error) ErrorPage {
	return ErrorPage{
		Status:  http.StatusInternalServerError,
		Title:   "Something went wrong here",
		Message: "The server could not do its part.",
		ToDo:    "Try again in a moment.",
		Cause:   err,
	}
}

// judge decides on everything else an authorization request says. It does no IO, unless the request names what no api is known to define. Even where it
// refuses, the request it returns says how to tell the app.
func (s *Server) judge(ctx context.Context, a *asked, redirectURI string) (flow.Request, *Error) {
	client := a.client
	req := flow.Request{ClientID: client.ID, RedirectURI: redirectURI, ResponseMode: modeQuery, Once: a.once}
	p, refusal := parseParams(a.params)
	if refusal != nil {
		req.State = readableState(a.params)
		return req, refusal
	}
	if len(p.get("state")) > maxOpaque {
		return req, refuse(codeInvalidRequest, "state is longer than %d bytes", maxOpaque)
	}
	req.State = p.get("state")
	if mode := p.get("response_mode"); mode != "" {
		if !slices.Contains(responseModes, mode) {
			return req, refuse(codeInvalidRequest, "response_mode '%s' is not supported; use one of %s", echo(mode), strings.Join(responseModes, ", "))
		}
		// A browser posts forms to web addresses alone.
		if mode == modeFormPost && !strings.HasPrefix(redirectURI, "http:") && !strings.HasPrefix(redirectURI, "https:") {
			return req, refuse(codeInvalidRequest, "response_mode form_post needs a redirect URI of http or https")
		}
		req.ResponseMode = mode
	}
	if refusal := s.judgeWay(a, &req); refusal != nil {
		return req, refusal
	}
	for _, step := range []judgement{
		judgeResponseType, judgeUnsupported, s.judgeScope(ctx), judgePKCE, judgeDPoP, judgePrompt, s.judgeHints, judgeClaims,
	} {
		if refusal := step(p, client, &req); refusal != nil {
			return req, refusal
		}
	}
	return req, nil
}

func judgeResponseType(p params, client *registry.Client, _ *flow.Request) *Error {
	switch responseType := p.get("response_type"); {
	case responseType == "":
		return refuse(codeInvalidRequest, "response_type is missing; send response_type=code")
	case responseType != "code":
		return refuse(codeUnsupportedResponse, "response_type '%s' is not supported; use the authorization code flow, response_type=code", echo(responseType))
	case !client.Allows(registry.GrantAuthorizationCode):
		return refuse(codeUnauthorizedClient, "this client is not registered for the grant type authorization_code")
	}
	return nil
}

// judgeWay holds a client to the way in which its requests have to come: pushed (RFC 9126 sections 5, 6), signed (RFC 9101
// section 10.5), or as its profile demands.
func (s *Server) judgeWay(a *asked, req *flow.Request) *Error {
	held := profileOf(a.client)
	switch {
	case !a.pushed && (s.requirePAR || a.client.RequirePAR || held.pushed):
		return refuse(codeInvalidRequest, "the request has to be pushed: send its parameters to the pushed authorization request endpoint, and the request_uri from there to this one (RFC 9126)")
	case !a.signed && a.client.RequireSignedRequest:
		return refuse(codeInvalidRequest, "this client's requests have to be signed: send a request object (RFC 9101)")
	}
	req.CodeSeconds = int64(held.codeLifetime / time.Second)
	return nil
}

// judgeUnsupported refuses what would change the request's meaning if it were overlooked (OpenID Connect Core section 7.2.1).
func judgeUnsupported(p params, _ *registry.Client, _ *flow.Request) *Error {
	if p.get("registration") != "" {
		return refuse(codeRegistrationUnsup, "registration is not supported; register the client beforehand")
	}
	return nil
}

// judgement is one step of a request's: what it reads of the parameters it writes to the request.
type judgement func(p params, client *registry.Client, req *flow.Request) *Error

// judgeScope judges what is asked for.
func (s *Server) judgeScope(ctx context.Context) judgement {
	return func(p params, client *registry.Client, req *flow.Request) *Error {
		w, refusal := s.wished(ctx, p)
		if refusal != nil {
			return refusal
		}
		e, refusal := s.policy.entitle(client, w, true)
		if refusal != nil {
			return refusal
		}
		req.Scopes, req.Resources, req.Details = e.scopes, e.resources, e.details.String()
		if nonce := p.get("nonce"); len(nonce) > maxOpaque {
			return refuse(codeInvalidRequest, "nonce is longer than %d bytes", maxOpaque)
		}
		req.Nonce = p.get("nonce")
		return nil
	}
}

// judgePKCE demands a S256 challenge (RFC 9700 section 2.1.1, RFC 7636 section 4.3), of confidential clients too.
func judgePKCE(p params, client *registry.Client, req *flow.Request) *Error {
	challenge, method := p.get("code_challenge"), p.get("code_challenge_method")
	switch {
	case challenge == "" && method != "":
		return refuse(codeInvalidRequest, "code_challenge_method is there without code_challenge")
	case challenge == "" && client.PKCEOptional:
		return nil
	case challenge == "":
		return refuse(codeInvalidRequest, "code_challenge is missing; PKCE is required: send code_challenge and code_challenge_method=S256 (RFC 7636)")
	case method != "S256":
		return refuse(codeInvalidRequest, "code_challenge_method must be S256; 'plain', which is the default where none is sent, protects nothing")
	case !validChallenge(challenge):
		return refuse(codeInvalidRequest, "code_challenge is not a S256 challenge: 43 characters, base64url without padding")
	}
	req.CodeChallenge = challenge
	return nil
}

var prompts = []string{"none", "login", "consent", "select_account"}

// judgePrompt reads prompt and max_age (OpenID Connect Core section 3.1.2.1). Prompts that are not supported are passed
// over: the section names no error for them, and libraries' own examples send such. A request without max_age has the client's
// default (Dynamic Registration section 2).
func judgePrompt(p params, client *registry.Client, req *flow.Request) *Error {
	for value := range strings.SplitSeq(p.get("prompt"), " ") {
		if slices.Contains(prompts, value) && !slices.Contains(req.Prompt, value) {
			req.Prompt = append(req.Prompt, value)
		}
	}
	if len(req.Prompt) > 1 && req.Prompts("none") {
		return refuse(codeInvalidRequest, "prompt=none cannot be combined with another prompt")
	}
	req.MaxAge = client.DefaultMaxAge
	if raw := p.get("max_age"); raw != "" {
		seconds, err := strconv.ParseInt(raw, 10, 32)
		if err != nil || seconds < 0 {
			return refuse(codeInvalidRequest, "max_age must be a number of seconds, 0 or more")
		}
		req.MaxAge = &seconds
	}
	return nil
}

// judgeHints reads what steers the sign-in without deciding anything.
func (s *Server) judgeHints(p params, client *registry.Client, req *flow.Request) *Error {
	req.LoginHint, req.UILocales = clip(p.get("login_hint")), clip(p.get("ui_locales"))
	if hint := p.get("idp_hint"); hint != "" {
		if !slices.Contains(s.connectors, hint) || !client.AllowsConnector(hint) {
			return refuse(codeInvalidRequest, "idp_hint '%s' names no connector that this client may use; there are: %s", echo(hint), strings.Join(s.connectorsOf(client), ", "))
		}
		req.IDPHint = hint
	}
	if raw := p.get("id_token_hint"); raw != "" {
		hint, err := s.idTokens.VerifyIDTokenHint(raw)
		if errors.Is(err, token.ErrEncrypted) {
			return refuse(codeInvalidRequest, "id_token_hint is encrypted; decrypt it, and send the signed ID token that is inside")
		}
		if err != nil || !slices.Contains(hint.Audience, client.ID) {
			return refuse(codeInvalidRequest, "id_token_hint is not an ID token that this server issued to this client").because(err)
		}
		return nameSubject(req, hint.Subject)
	}
	return nil
}

func (s *Server) connectorsOf(client *registry.Client) []string {
	var names []string
	for _, name := range s.connectors {
		if client.AllowsConnector(name) {
			names = append(names, name)
		}
	}
	return names
}

// maxHint bounds a hint. A longer one helps nobody and is left out.
const maxHint = 320

func clip(hint string) string {
	if len(hint) > maxHint {
		return ""
	}
	return hint
}
