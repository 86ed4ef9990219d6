package resource

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portico-id/portico/broker/resource/dpop"
)

const (
	// wellKnown is RFC 9728 section 3's.
	wellKnown = "/.well-known/oauth-protected-resource"
	// metadataMaxAge is how long clients may keep the metadata: it changes with a deployment of the API.
	metadataMaxAge = time.Hour
)

// metadata is RFC 9728 section 2. Every line is something that works.
type metadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	Scopes               []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	DPoPAlgs             []string `json:"dpop_signing_alg_values_supported,omitempty"`
}

// MetadataPath is where Metadata belongs, on the host of URL: the well-known path, followed by the path of the identifier (RFC 9728 section 3.1), or
// of URL where the identifier is no web address.
func (a *API) MetadataPath() string {
	path := a.path
	if u, err := url.Parse(a.options.Identifier); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		path = u.EscapedPath()
	}
	if path == "/" { // section 3.1: a slash that ends the host is left out
		path = ""
	}
	return wellKnown + path
}

// Metadata tells clients where tokens for the API are to be had (RFC 9728). It needs no token, and whatever asks may read it, from any origin.
func (a *API) Metadata() http.Handler {
	m := metadata{
		Resource:             a.options.Identifier,
		AuthorizationServers: []string{a.options.Issuer},
		Scopes:               a.options.Scopes,
		BearerMethods:        []string{"header"},
	}
	if !a.options.NoForm {
		m.BearerMethods = append(m.BearerMethods, "body")
	}
	if a.options.AllowQuery {
		m.BearerMethods = append(m.BearerMethods, "query")
	}
	if len(a.origins) > 0 {
		m.DPoPAlgs = dpop.Algorithms()
	}
	body, err := json.Marshal(m)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*") // apps in the browser read it; it is no secret
		switch {
		case err != nil: // strings alone, which always encode
			w.WriteHeader(http.StatusInternalServerError)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(metadataMaxAge/time.Second)))
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the only error is a client that hung up
	})
}
