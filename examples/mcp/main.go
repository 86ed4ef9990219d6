// Command mcp is a Model Context Protocol server that takes a broker's tokens: a few notes for each person, and a scope for each tool. docs/mcp.md
// says how to run it. What it is for is to be read: it keeps its notes in memory.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/portico-id/portico/broker/resource"
)

func main() {
	issuer := flag.String("issuer", "http://127.0.0.1:8080", "the broker")
	address := flag.String("url", "http://127.0.0.1:9000/mcp", "where clients reach this server, and its identifier at the broker")
	listen := flag.String("listen", "127.0.0.1:9000", "where it listens")
	flag.Parse()
	s, err := newServer(resource.Options{Issuer: *issuer, Identifier: *address})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s takes the tokens of %s\n", *address, *issuer)
	log.Fatal((&http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}

const (
	// Connecting needs scopeRead, so that a client asks for no more at first; writing asks for the rest when it comes to that.
	scopeRead  = "notes:read"
	scopeWrite = "notes:write"

	maxBody  = 64 << 10 // bytes of a request; a call holds one note
	maxNote  = 4 << 10  // bytes
	maxNotes = 100      // for each person: all this is memory
)

type server struct {
	http.Handler

	api    *resource.API
	tools  *mcp.Server
	stream http.Handler
	scopes map[string]string // by tool
	origin string            // that a browser may call from

	mu    sync.Mutex
	notes map[string][]string // by subject
}

func newServer(o resource.Options) (*server, error) {
	o.Scopes = []string{scopeRead, scopeWrite}
	api, err := resource.New(o)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(o.Identifier)
	if err != nil {
		return nil, err
	}
	s := &server{
		api: api, origin: u.Scheme + "://" + u.Host, scopes: map[string]string{}, notes: map[string][]string{},
		tools: mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil),
	}
	addTool(s, "list_notes", "Lists your notes.", scopeRead, s.list)
	addTool(s, "add_note", "Writes a note.", scopeWrite, s.add)
	s.stream = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.tools }, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, // every request stands for itself, with a token of its own
		DisableLocalhostProtection: true, // sameOrigin is stricter, and lets a reverse proxy on this machine through
	})

	mux := http.NewServeMux()
	mux.Handle(api.MetadataPath(), api.Metadata()) // RFC 9728
	mux.Handle(cmp.Or(u.EscapedPath(), "/"), s.sameOrigin(api.Protect(http.HandlerFunc(s.call), scopeRead)))
	s.Handler = mux
	return s, nil
}

// sameOrigin refuses pages of other origins, as MCP wants it ("Streamable HTTP", security): a page whose name was made to lead here has an origin of its own.
func (s *server) sameOrigin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && origin != s.origin {
			http.Error(w, "pages of other origins may not call this server", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// call lets a request through whose token has the scope of the tool that it calls. Any other is told the scope, at the level of HTTP, where clients
// look for it: they ask the person for that scope too, and come back.
func (s *server) call(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the request is too large, or ended early", http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := resource.Judge(resource.FromContext(r.Context()), resource.Need{Scopes: s.needed(body)}, time.Now()); err != nil {
		s.api.Refuse(w, r, err)
		return
	}
	s.stream.ServeHTTP(w, r)
}

// needed are the scopes for a message of JSON-RPC, or for all of a batch, which MCP had until 2025-06-18.
func (s *server) needed(body []byte) []string {
	scopes := []string{scopeRead}
	messages := []json.RawMessage{body}
	if json.Unmarshal(body, &messages) != nil {
		messages = []json.RawMessage{body}
	}
	for _, message := range messages {
		var call struct {
			Method string `json:"method"`
			Params struct {
				Name string `json:"name"`
			} `json:"params"`
		}
		if json.Unmarshal(message, &call) != nil || call.Method != "tools/call" {
			continue
		}
		if scope := s.scopes[call.Params.Name]; scope != "" && !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// addTool adds a tool that needs a scope. It looks at the token itself as well: two readers of one message (needed, and the SDK) may read it differently.
func addTool[In, Out any](s *server, name, description, scope string, do func(subject string, in In) (Out, error)) {
	s.scopes[name] = scope
	mcp.AddTool(s.tools, &mcp.Tool{Name: name, Description: description}, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		token := resource.FromContext(ctx)
		if token == nil || !token.HasScope(scope) {
			var none Out
			return nil, none, errors.New("this needs the scope " + scope)
		}
		out, err := do(token.Subject, in)
		return nil, out, err
	})
}

type (
	listed struct {
		Notes []string `json:"notes"`
	}
	note struct {
		Text string `json:"text" jsonschema:"what to write down"`
	}
	added struct {
		Count int `json:"count" jsonschema:"how many notes there are now"`
	}
)

func (s *server) list(subject string, _ struct{}) (listed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return listed{Notes: append([]string{}, s.notes[subject]...)}, nil
}

func (s *server) add(subject string, n note) (added, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case n.Text == "" || len(n.Text) > maxNote:
		return added{}, errors.New("a note has 1 to 4096 bytes")
	case len(s.notes[subject]) >= maxNotes:
		return added{}, errors.New("there are 100 notes, and no more fit")
	}
	s.notes[subject] = append(s.notes[subject], n.Text)
	return added{Count: len(s.notes[subject])}, nil
}
