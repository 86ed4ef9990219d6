// Command client calls a tool of a protected MCP server. It knows the server's address and nothing more: where to get a token, the server says, and
// the broker takes a client that nobody has registered.
//
//	client add_note '{"text": "buy milk"}'
package main

import (
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
	"os"
	"os/signal"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func main() {
	c := client{out: os.Stdout}
	flag.StringVar(&c.server, "url", "http://127.0.0.1:9000/mcp", "the MCP server")
	flag.StringVar(&c.document, "client-id", "", "the https address of this client's metadata; without one it registers itself")
	flag.StringVar(&c.listen, "listen", "127.0.0.1:0", "where it waits for the answer of the browser")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := c.call(ctx, cmp.Or(flag.Arg(0), "list_notes"), cmp.Or(flag.Arg(1), "{}")); err != nil {
		log.Fatal(err)
	}
}

type client struct {
	server, document, listen string
	out                      io.Writer
}

// call calls a tool, after the person has signed in with a browser and said yes: once for what connecting needs, and again if the tool needs more.
func (c *client) call(ctx context.Context, tool, arguments string) error {
	// RFC 8252 section 7.3: the answer comes to a port of this machine, whichever is free.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return err
	}
	answers := make(chan *auth.AuthorizationResult)
	callback := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: answer(answers)}
	go func() { _ = callback.Serve(listener) }() // until Close
	defer callback.Close()

	redirect := "http://" + listener.Addr().String() + "/callback"
	config := auth.AuthorizationCodeHandlerConfig{
		RedirectURL: redirect,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			fmt.Fprintf(c.out, "Open %s\n", args.URL)
			select {
			case result := <-answers:
				if result.Code == "" {
					return nil, errors.New("the browser came back without a code")
				}
				return result, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Example MCP client", RedirectURIs: []string{redirect}, TokenEndpointAuthMethod: "none",
		}},
	}
	if c.document != "" {
		config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: c.document}
	}
	handler, err := auth.NewAuthorizationCodeHandler(&config)
	if err != nil {
		return err
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "1.0.0"}, nil).
		Connect(ctx, &mcp.StreamableClientTransport{Endpoint: c.server, OAuthHandler: handler}, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
	if err != nil {
		return err
	}
	return json.NewEncoder(c.out).Encode(result.Content)
}

// answer takes the answers that the browser brings. The SDK compares state and iss (RFC 9207).
func answer(answers chan<- *auth.AuthorizationResult) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		select {
		case answers <- &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}:
			_, _ = io.WriteString(w, "You can close this page.\n")
		case <-r.Context().Done():
		}
	})
	return mux
}
