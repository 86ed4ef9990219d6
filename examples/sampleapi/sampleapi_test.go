package sampleapi_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/examples/sampleapi"
)

var (
	nightly = Client{ID: "nightly", Secret: "nightly-secret-0123456789-0123456789-012345"}
	weekly  = Client{ID: "weekly", Secret: "weekly-secret-0123456789-0123456789-0123456"}
	server  = Client{ID: "notes-server", Secret: "notes-server-secret-0123456789-0123456789"}
)

// start runs a broker and the API, and says where the API is.
func start(t *testing.T) (*Env, string) {
	t.Helper()
	listening, handle := Listening(t)
	e := Start(t, func(c *config.Config) {
		c.APIs = []config.API{{Identifier: listening.URL, Name: "Notes", AccessTokenFormat: "jwt", Scopes: []config.Scope{
			{Name: sampleapi.ScopeRead, Sentence: "Read your notes"}, {Name: sampleapi.ScopeWrite, Sentence: "Write notes for you"},
		}}}
		for _, client := range []Client{nightly, weekly} {
			c.Clients = append(c.Clients, config.Client{
				ClientID: client.ID, ClientSecret: config.NewSecret(client.Secret), Name: client.ID,
				Scopes: []string{sampleapi.ScopeRead, sampleapi.ScopeWrite}, GrantTypes: []string{"client_credentials"},
			})
		}
		c.Clients = append(c.Clients, config.Client{
			ClientID: server.ID, ClientSecret: config.NewSecret(server.Secret), Name: "Notes, the server", ResourceServerOf: []string{listening.URL},
		})
	})
	api, err := sampleapi.New(sampleapi.Config{Issuer: e.Issuer, URL: listening.URL, ClientID: server.ID, ClientSecret: server.Secret, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	handle(api)
	return e, listening.URL
}

func tokenOf(t *testing.T, e *Env, c Client) string {
	t.Helper()
	r := e.Post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}})
	if r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Body)
	}
	return r.String("access_token")
}

func call(t *testing.T, method, address, token, contentType, body string) *Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return Do(t, request)
}

const (
	inJSON = "application/json"
	inForm = "application/x-www-form-urlencoded"
)

// texts are the texts of the notes in an answer.
func texts(t *testing.T, r *Response) []string {
	t.Helper()
	notes, ok := r.Body["notes"].([]any)
	if !ok || r.Status != http.StatusOK {
		t.Fatalf("no list of notes: %d %v", r.Status, r.Body)
	}
	all := []string{}
	for _, note := range notes {
		all = append(all, note.(map[string]any)["text"].(string))
	}
	return all
}

// What somebody wrote is theirs: nobody else's token shows it.
func TestNotesAreTheirWritersAlone(t *testing.T) {
	e, api := start(t)
	mine, theirs := tokenOf(t, e, nightly), tokenOf(t, e, weekly)
	for contentType, body := range map[string]string{inJSON + "; charset=utf-8": `{"text": "eins & zwei"}`, inForm: "text=eins+%26+zwei"} {
		r := call(t, http.MethodPost, api+"/notes", mine, contentType, body)
		if r.Status != http.StatusCreated || r.String("text") != "eins & zwei" || r.String("client_id") != nightly.ID || r.Body["id"] == nil {
			t.Errorf("%s: %d %v", contentType, r.Status, r.Body)
		}
	}
	// A form may bring the token along (RFC 6750 section 2.2).
	form := url.Values{"access_token": {mine}, "text": {"drei"}}.Encode()
	if r := call(t, http.MethodPost, api+"/notes", "", inForm, form); r.Status != http.StatusCreated || r.String("text") != "drei" {
		t.Errorf("with the token in the form: %d %v", r.Status, r.Body)
	}
	if got := texts(t, call(t, http.MethodGet, api+"/notes", mine, "", "")); len(got) != 3 {
		t.Errorf("the writer reads %q", got)
	}
	r := call(t, http.MethodGet, api+"/notes", theirs, "", "")
	if got := texts(t, r); len(got) != 0 {
		t.Errorf("somebody else reads %q", got)
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("notes may be kept by caches: %v", r.Header)
	}
}

// Its memory has bounds, which no number of requests moves.
func TestTheOldestNotesAreForgotten(t *testing.T) {
	e, api := start(t)
	token := tokenOf(t, e, nightly)
	const most = 100
	for i := range most + 1 {
		if r := call(t, http.MethodPost, api+"/notes", token, inForm, fmt.Sprintf("text=%d", i)); r.Status != http.StatusCreated {
			t.Fatalf("%d %v", r.Status, r.Body)
		}
	}
	if got := texts(t, call(t, http.MethodGet, api+"/notes", token, "", "")); len(got) != most || got[0] != "1" || got[most-1] != "100" {
		t.Errorf("there are %d notes, from %q to %q", len(got), got[0], got[len(got)-1])
	}
}

func TestANoteThatIsNoneIsRefusedByWhatIsWrong(t *testing.T) {
	e, api := start(t)
	token := tokenOf(t, e, nightly)
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		says              string
	}{
		"no text":          {inJSON, `{}`, http.StatusBadRequest, "text"},
		"an empty form":    {inForm, ``, http.StatusBadRequest, "text"},
		"no JSON":          {inJSON, `text=hello`, http.StatusBadRequest, `{"text": "…"}`},
		"a number":         {inJSON, `{"text": 7}`, http.StatusBadRequest, "number"},
		"another type":     {"text/plain", `hello`, http.StatusBadRequest, inJSON},
		"a text too long":  {inForm, "text=" + strings.Repeat("a", 1001), http.StatusBadRequest, "1000"},
		"a body too large": {inJSON, `{"text": "` + strings.Repeat("a", 1<<20) + `"}`, http.StatusRequestEntityTooLarge, "too large"},
	} {
		r := call(t, http.MethodPost, api+"/notes", token, c.contentType, c.body)
		if r.Status != c.status || r.String("error") != "invalid_request" || !strings.Contains(r.String("error_description"), c.says) {
			t.Errorf("%s: %d %v, want %d and %q", name, r.Status, r.Body, c.status, c.says)
		}
	}
	if got := texts(t, call(t, http.MethodGet, api+"/notes", token, "", "")); len(got) != 0 {
		t.Errorf("something was kept: %q", got)
	}
}

// Without a token there is what anybody needs to get one, and nothing else.
func TestWhoeverHasNoTokenIsToldWhereToGetOne(t *testing.T) {
	e, api := start(t)
	about := call(t, http.MethodGet, api+"/", "", "", "")
	if about.Status != http.StatusOK || about.String("resource") != api || about.String("authorization_server") != e.Issuer {
		t.Errorf("the page: %d %v", about.Status, about.Body)
	}
	refused := call(t, http.MethodGet, api+"/notes", "", "", "")
	challenge := strings.Join(refused.Header.Values("WWW-Authenticate"), ", ")
	where := api + "/.well-known/oauth-protected-resource"
	if refused.Status != http.StatusUnauthorized || !strings.Contains(challenge, where) {
		t.Errorf("%d %s", refused.Status, challenge)
	}
	metadata := call(t, http.MethodGet, where, "", "", "")
	want, _ := json.Marshal([]any{[]string{e.Issuer}, []string{sampleapi.ScopeRead, sampleapi.ScopeWrite}})
	got, _ := json.Marshal([]any{metadata.Body["authorization_servers"], metadata.Body["scopes_supported"]})
	if metadata.String("resource") != api || string(got) != string(want) {
		t.Errorf("the metadata: %d %v, want %s", metadata.Status, metadata.Body, want)
	}
}
