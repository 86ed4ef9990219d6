package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/config"
)

const (
	otherAPI = "https://api.example.com/other"
	// callback is where a program on the person's machine waits for its code. Nothing listens there: the browser of the tests stops before it.
	callback = "http://127.0.0.1:3000/callback"
)

// site is a web server whose handler comes later: its address has to be known before.
type site struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.Handler
	asked   []string // method and path
}

func newSite(t testing.TB, start func(http.Handler) *httptest.Server) *site {
	t.Helper()
	s := &site{}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.URL.Path)
		h := s.handler
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler, s.asked = h, nil
}

// notes is the MCP server of these tests, before a broker of its own.
type notes struct {
	*site
	identifier string
}

func newNotes(t testing.TB) *notes {
	t.Helper()
	s := newSite(t, httptest.NewServer)
	return &notes{site: s, identifier: s.URL + "/mcp"}
}

func (n *notes) start(t testing.TB, e *Env) {
	t.Helper()
	h, err := newServer(resource.Options{Issuer: e.Issuer, Identifier: n.identifier, Now: e.Clock.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n.serve(h)
}

// registered has the server registered as an api: the one thing that the broker has to be told. Of the clients nobody tells it.
func (n *notes) registered(c *config.Config) {
	c.APIs = []config.API{
		{
			Identifier: n.identifier, Name: "Notes", AccessTokenFormat: "jwt", SelfRegistered: true,
			Scopes: []config.Scope{{Name: scopeRead, Sentence: "Read your notes"}, {Name: scopeWrite, Sentence: "Write notes for you"}},
		},
		{Identifier: otherAPI, Name: "Other", AccessTokenFormat: "jwt", Scopes: []config.Scope{{Name: scopeRead, Sentence: "Read something else"}}},
	}
	c.Registration.Mode = config.ModeOpen
	c.ClientIDMetadata.Mode = config.ModeOpen
	for i := range c.Clients {
		c.Clients[i].Scopes = append(c.Clients[i].Scopes, scopeRead, scopeWrite)
	}
}

// person is who uses a client: a browser, what it was shown, and what the client asked for.
type person struct {
	*Browser
	hint    string            // who signs in
	pages   []string          // that asked for consent
	asked   []url.Values      // of authorization requests
	deny    bool              // instead of allowing
	answers []url.Values      // that went back to the client
	client  *oauthTransport   // what the client sent the broker
	handler auth.OAuthHandler // the client's
}

// oauthTransport keeps the forms and documents that a client posts.
type oauthTransport struct{ posted []string }

func (o *oauthTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		o.posted = append(o.posted, r.URL.Path+" "+string(body))
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	return http.DefaultTransport.RoundTrip(r)
}

// fetch takes the person through the sign-in: Google among the providers, who they are there, and the question.
func (p *person) fetch(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	u, err := url.Parse(args.URL)
	if err != nil {
		return nil, err
	}
	p.asked = append(p.asked, u.Query())
	page, err := p.consent(args.URL)
	if err != nil {
		return nil, err
	}
	p.pages = append(p.pages, page.Body)
	location, page := page.Submit(0, map[bool]string{false: "allow", true: "deny"}[p.deny]).Walk(callback)
	if location == nil {
		return nil, fmt.Errorf("the sign-in ended at %s: %s", page.URL, page.Body)
	}
	answer := location.Query()
	p.answers = append(p.answers, answer)
	if answer.Get("error") != "" {
		return nil, errors.New(answer.Get("error") + ": " + answer.Get("error_description"))
	}
	return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, nil
}

// consent goes from a client's address as far as the question.
func (p *person) consent(address string) (*Page, error) {
	page := p.Get(address + "&login_hint=" + p.hint)
	for range 20 {
		switch location := page.Location(); {
		case location != nil:
			page = p.Get(location.String())
		case len(page.Forms) == 0 || page.Status >= http.StatusBadRequest:
			return nil, fmt.Errorf("the sign-in ended at %s: %s", page.URL, page.Body)
		case strings.HasSuffix(page.Forms[0].Action, "/consent"):
			return page, nil
		case strings.HasSuffix(page.Forms[0].Action, "/choose"):
			page = page.Submit(0, "google")
		default: // who it is, at the provider
			page = page.Submit(0, "")
		}
	}
	return nil, fmt.Errorf("the sign-in did not end; it is at %s", page.URL)
}

// connect makes a client that knows the server's address, and nothing else.
func (p *person) connect(t *testing.T, n *notes, c auth.AuthorizationCodeHandlerConfig) (*mcp.ClientSession, error) {
	t.Helper()
	p.client = &oauthTransport{}
	c.RedirectURL, c.AuthorizationCodeFetcher, c.Client = callback, p.fetch, &http.Client{Transport: p.client}
	handler, err := auth.NewAuthorizationCodeHandler(&c)
	if err != nil {
		t.Fatal(err)
	}
	p.handler = handler
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: n.identifier, OAuthHandler: handler, MaxRetries: -1}, nil)
	if err == nil {
		t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}

func (p *person) token(t *testing.T) *oauth2.Token {
	t.Helper()
	source, err := p.handler.TokenSource(t.Context())
	if err != nil || source == nil {
		t.Fatalf("no token source: %v", err)
	}
	token, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sorted are scopes, whose order means nothing.
func sorted(scope any) string {
	text, _ := scope.(string)
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(text))), " ")
}

// call calls a tool, and returns what it says as JSON.
func call(t *testing.T, session *mcp.ClientSession, name string, arguments any) (string, error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	if result.IsError {
		text, _ := result.Content[0].(*mcp.TextContent)
		return "", errors.New(text.Text)
	}
	return string(raw), nil
}

// byRegistration is a client that registers itself (RFC 7591).
func byRegistration() auth.AuthorizationCodeHandlerConfig {
	return auth.AuthorizationCodeHandlerConfig{
		RequestRefreshToken: true,
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Note taker", RedirectURIs: []string{callback}, TokenEndpointAuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"},
			Scope: scopeRead, // as clients do that register with the scope of the first challenge
		}},
	}
}

// signsInAndCallsTools is what holds for a client that nobody registered, however it makes itself known.
func signsInAndCallsTools(t *testing.T, e *Env, n *notes, c auth.AuthorizationCodeHandlerConfig, pageSays ...string) {
	t.Helper()
	n.start(t, e)
	ann := &person{Browser: NewBrowser(t), hint: "ann"}
	session, err := ann.connect(t, n, c)
	if err != nil {
		t.Fatal(err)
	}

	// Everything was learned from the answer to the first request (RFC 9728 section 5.1).
	if want := []string{"POST /mcp", "GET /.well-known/oauth-protected-resource/mcp", "POST /mcp"}; !slices.Equal(n.asked[:3], want) {
		t.Errorf("the client asked for %v, want %v", n.asked, want)
	}
	asked := ann.asked[0]
	if asked.Get("resource") != n.identifier || asked.Get("code_challenge_method") != "S256" || sorted(asked.Get("scope")) != "notes:read offline_access" {
		t.Errorf("the authorization request: %v", asked)
	}
	if iss := ann.answers[0].Get("iss"); iss != e.Issuer {
		t.Errorf("iss is %q", iss)
	}
	page := ann.pages[0]
	for _, want := range append([]string{"Nobody at", "Read your notes"}, pageSays...) {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "Write notes for you") {
		t.Error("the person is asked for more than was needed")
	}

	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 2 {
		t.Fatalf("the tools: %v, %v", tools, err)
	}
	if said, err := call(t, session, "list_notes", nil); err != nil || said != `{"notes":[]}` {
		t.Fatalf("list_notes: %s, %v", said, err)
	}
	first := Claims(t, ann.token(t).AccessToken)
	if first["aud"] != n.identifier || sorted(first["scope"]) != scopeRead {
		t.Errorf("the token: %v", first)
	}

	// A tool that needs more: 403, the person is asked for that too, and the call goes through.
	if said, err := call(t, session, "add_note", note{Text: "buy milk"}); err != nil || said != `{"count":1}` {
		t.Fatalf("add_note: %s, %v", said, err)
	}
	if len(ann.pages) != 2 || !strings.Contains(ann.pages[1], "Write notes for you") {
		t.Errorf("%d questions; the last page:\n%s", len(ann.pages), ann.pages[len(ann.pages)-1])
	}
	if second := Claims(t, ann.token(t).AccessToken); sorted(second["scope"]) != "notes:read notes:write" || second["sub"] != first["sub"] {
		t.Errorf("the second token: %v", second)
	}
	if said, err := call(t, session, "list_notes", nil); err != nil || said != `{"notes":["buy milk"]}` {
		t.Errorf("list_notes: %s, %v", said, err)
	}
	// And after the token's end it comes back by itself, for the same server.
	app := Client{ID: ann.asked[len(ann.asked)-1].Get("client_id")}
	if next := e.Refresh(t, app, ann.token(t).RefreshToken); next.Status != http.StatusOK || Claims(t, next.String("access_token"))["aud"] != n.identifier {
		t.Errorf("a refresh: %d %v", next.Status, next.Body)
	}
	for _, form := range ann.client.posted {
		if path, body, _ := strings.Cut(form, " "); path == "/token" && !strings.Contains(body, "resource="+url.QueryEscape(n.identifier)) {
			t.Errorf("a token request without the resource: %s", body)
		}
	}

	// Somebody else sees nothing of it.
	bob := &person{Browser: NewBrowser(t), hint: "bob"}
	if session, err = bob.connect(t, n, c); err != nil {
		t.Fatal(err)
	}
	if said, err := call(t, session, "list_notes", nil); err != nil || said != `{"notes":[]}` {
		t.Errorf("list_notes of another person: %s, %v", said, err)
	}
	bob.deny = true
	if said, err := call(t, session, "add_note", note{Text: "no"}); err == nil {
		t.Errorf("a call that the person did not allow: %s", said)
	}
}

func TestAClientThatNobodyRegisteredSignsInByRegisteringItself(t *testing.T) {
	n := newNotes(t)
	Each(t, func(t *testing.T, e *Env) {
		signsInAndCallsTools(t, e, n, byRegistration(), "Note taker", "a program on this device")
	}, n.registered)
}

func TestAClientThatNobodyRegisteredSignsInWithTheAddressOfItsMetadata(t *testing.T) {
	n := newNotes(t)
	app := newSite(t, httptest.NewTLSServer)
	id := app.URL + "/oauth/client.json"
	app.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"client_id": id, "client_name": "Note taker", "redirect_uris": []string{callback}, "token_endpoint_auth_method": "none",
			"grant_types": []string{"authorization_code", "refresh_token"},
		})
	}))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	Each(t, func(t *testing.T, e *Env) {
		// What it could do instead, it does not do: the metadata say that the address is enough.
		c := byRegistration()
		c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: id}
		signsInAndCallsTools(t, e, n, c, "Note taker", strings.TrimPrefix(app.URL, "https://"))
		if clients, _, err := e.Broker.Clients.List(t.Context(), ""); err != nil || slices.ContainsFunc(clients, func(c *registry.Client) bool { return !c.Verified() }) {
			t.Errorf("it has registered itself all the same: %v, %v", clients, err)
		}
	}, n.registered, func(c *config.Config) { c.Fetch.AllowPrivate, c.Fetch.CAFile = true, ca })
}

// post sends a message of JSON-RPC as a stranger writes it.
func post(t testing.TB, address, body string, header ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	request.Host = request.Header.Get("Host")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

const (
	listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	listNotes = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list_notes","arguments":{}}}`
	addNote   = `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add_note","arguments":{"text":"mine"}}}`
)

// What does not entitle to a call is refused, and told how to come back: RFC 6750 and RFC 9728, as MCP's chapter on authorization has them.
func TestWhatDoesNotEntitleIsRefused(t *testing.T) {
	n := newNotes(t)
	e := Start(t, n.registered)
	n.start(t, e)
	token := func(scope, resource string) string {
		return "Bearer " + e.SignIn(t, NewBrowser(t), Native, "scope", scope, "resource", resource).String("access_token")
	}
	read, other := token(scopeRead, n.identifier), token(scopeRead, otherAPI)
	both := token(scopeRead+" "+scopeWrite, n.identifier)
	metadata := `resource_metadata="` + n.URL + `/.well-known/oauth-protected-resource/mcp"`
	for name, c := range map[string]struct {
		address, body string
		header        []string

		status    int
		challenge []string // what the Bearer challenge says; nil: there is none
		silent    string   // what it does not say
	}{
		"no token":                          {body: listTools, status: 401, challenge: []string{`scope="notes:read"`, metadata}, silent: "error="},
		"a token in the query":              {address: n.identifier + "?access_token=" + strings.TrimPrefix(read, "Bearer "), body: listTools, status: 401, challenge: []string{metadata}, silent: "error="},
		"a token of nobody's":               {body: listTools, header: []string{"Authorization", "Bearer abc"}, status: 401, challenge: []string{`error="invalid_token"`, metadata}},
		"a token for another api":           {body: listTools, header: []string{"Authorization", other}, status: 401, challenge: []string{`error="invalid_token"`, metadata}},
		"a tool whose scope it lacks":       {body: addNote, header: []string{"Authorization", read}, status: 403, challenge: []string{`error="insufficient_scope"`, `scope="notes:read notes:write"`, metadata}},
		"such a tool in a batch":            {body: "[" + listTools + "," + addNote + "]", header: []string{"Authorization", read}, status: 403, challenge: []string{`scope="notes:read notes:write"`}},
		"a page of another origin":          {body: listTools, header: []string{"Authorization", both, "Origin", "http://rebound.example"}, status: 403},
		"such a page, without a token":      {body: listTools, header: []string{"Origin", "null"}, status: 403},
		"more than a message can need":      {body: `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", maxBody) + `"}`, header: []string{"Authorization", both}, status: 413},
		"a page of this origin":             {body: listTools, header: []string{"Authorization", read, "Origin", n.URL}, status: 200},
		"through a proxy on this machine":   {body: listTools, header: []string{"Authorization", read, "Host", "mcp.example.com"}, status: 200},
		"the scope that a tool needs":       {body: listNotes, header: []string{"Authorization", read}, status: 200},
		"both scopes":                       {body: addNote, header: []string{"Authorization", both}, status: 200},
		"a tool that is not there":          {body: strings.Replace(addNote, "add_note", "drop_all", 1), header: []string{"Authorization", read}, status: 200}, // an error of JSON-RPC
		"a session, which there is none of": {body: "", header: []string{"Authorization", read}, status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			address := c.address
			if address == "" {
				address = n.identifier
			}
			r := post(t, address, c.body, c.header...)
			bearer := ""
			for _, challenge := range r.Header.Values("WWW-Authenticate") {
				if strings.HasPrefix(challenge, "Bearer ") {
					bearer = challenge
				}
			}
			if r.StatusCode != c.status || (bearer != "") != (c.challenge != nil) {
				t.Errorf("%d %q", r.StatusCode, bearer)
			}
			for _, want := range c.challenge {
				if !strings.Contains(bearer, want) {
					t.Errorf("the challenge %q does not say %s", bearer, want)
				}
			}
			if c.silent != "" && strings.Contains(bearer, c.silent) {
				t.Errorf("the challenge %q says %s", bearer, c.silent)
			}
		})
	}
}

// The revisions of the protocol that the guide names: until 2025-11-25 a client begins with a handshake, since then each request says what it needs.
func TestEachRevisionOfTheProtocolIsSpoken(t *testing.T) {
	n := newNotes(t)
	e := Start(t, n.registered)
	n.start(t, e)
	token := "Bearer " + e.SignIn(t, NewBrowser(t), Native, "scope", scopeRead, "resource", n.identifier).String("access_token")
	for version, begin := range map[string]string{
		"2025-06-18": `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		"2025-11-25": `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		"2026-07-28": "",
	} {
		list, header := listNotes, []string{"Authorization", token, "Mcp-Protocol-Version", version}
		if begin != "" {
			r := post(t, n.identifier, begin, "Authorization", token)
			if said, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(said), `"protocolVersion":"`+version+`"`) {
				t.Errorf("%s: %d %s %v", version, r.StatusCode, said, err)
			}
		} else {
			list = strings.Replace(list, `"arguments":{}`, `"arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"`+version+`","io.modelcontextprotocol/clientCapabilities":{}}`, 1)
			header = append(header, "Mcp-Method", "tools/call", "Mcp-Name", "list_notes")
		}
		r := post(t, n.identifier, list, header...)
		if said, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(said), `"structuredContent":{"notes":[]}`) {
			t.Errorf("%s: %d %s %v", version, r.StatusCode, said, err)
		}
	}
}

// reader has tokens that allow to read, and nothing else.
type reader struct{ identifier string }

func (r reader) Verify(context.Context, string) (*resource.Token, error) {
	return &resource.Token{
		Issuer: "https://login.example.com", Audience: []string{r.identifier}, Subject: "reader", Scopes: []string{scopeRead}, ExpiresAt: time.Now().Add(time.Hour),
	}, nil
}

// Whatever is sent, a token without the scope writes nothing: not in a batch, not under a name that is there twice or is spelled in another way, which
// two readers of JSON take for different calls.
func FuzzNoCallGoesPastItsScope(f *testing.F) {
	for _, seed := range []string{
		listTools, listNotes, addNote, "[" + listNotes + "," + addNote + "]", "[[" + addNote + "]]", " " + addNote + addNote, "[]", "", "null", "{",
		strings.Replace(addNote, `"name":"add_note"`, `"name":"add_note","name":"list_notes"`, 1),
		strings.Replace(addNote, `"name":"add_note"`, `"name":"add_note","Name":"list_notes"`, 1),
		strings.Replace(addNote, `"method":"tools/call"`, `"method":"tools/call","METHOD":"tools/list"`, 1),
		strings.Replace(addNote, `"params"`, `"Params":{"name":"list_notes"},"params"`, 1),
		strings.Replace(addNote, "add_note", `\u0061dd_note`, 1),
	} {
		f.Add(seed, "2025-03-26")
		f.Add(seed, "2026-07-28")
	}
	const identifier = "https://mcp.example.com/mcp"
	f.Fuzz(func(t *testing.T, body, version string) {
		s, err := newServer(resource.Options{Issuer: "https://login.example.com", Identifier: identifier, Verifier: reader{identifier}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(body))
		for name, value := range map[string]string{
			"Authorization": "Bearer t", "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": version,
			"Mcp-Method": "tools/call", "Mcp-Name": "add_note",
		} {
			r.Header.Set(name, value)
		}
		s.ServeHTTP(httptest.NewRecorder(), r)
		if len(s.notes) > 0 {
			t.Fatalf("%q wrote %q", body, s.notes)
		}
	})
}
