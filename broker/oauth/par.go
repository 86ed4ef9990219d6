package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/token"
)

// Pushed authorization requests (RFC 9126): the client leaves its request here itself, authenticated, and the browser brings nothing but
// a reference to it. What counts as the one use of a reference is in flow/once.go.

const (
	// pushedPrefix begins the references that are given here (RFC 9126 section 2.2).
	pushedPrefix = "urn:ietf:params:oauth:request_uri:"
	// pushedPurpose separates the MAC of a reference from all others made with the keyring.
	pushedPurpose = "pushed-request"
	// pushedLifetime is how long the browser may take to come with a reference: a redirect, on a phone with a bad
	// connection. FAPI 2.0 section 5.3.2.2 demands less than 600 s.
	pushedLifetime = 90 * time.Second
	// maxPushed bounds a pushed request: more than fits in any URL. How many are kept for clients that show nothing of who they are is in strangers.go.
	maxPushed = 32 << 10
)

// pushedResponse is RFC 9126 section 2.2.
type pushedResponse struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// push is the pushed authorization request endpoint (RFC 9126 section 2).
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	response, err := s.answerPush(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, response)
}

func (s *Server) answerPush(w http.ResponseWriter, r *http.Request) (*pushedResponse, error) {
	ctx := r.Context()
	p, refusal := formParams(r)
	if refusal != nil {
		return nil, refusal
	}
	client, refusal := s.authenticate(r, p)
	if refusal != nil {
		return nil, refusal
	}
	if p.get("request_uri") != "" {
		return nil, refuse(codeInvalidRequest, "request_uri cannot be pushed (RFC 9126 section 2.1)")
	}
	a := &asked{client: client, params: withoutCredentials(p)}
	if object := p.get("request"); object != "" {
		if a, refusal = s.resolveObject(ctx, client, a.params, object); refusal != nil {
			return nil, refusal
		}
	}
	a.pushed = true
	a.params.Set("client_id", client.ID)
	redirectURI, page := trustedRedirect(client, a.params)
	if page != nil {
		return nil, refuse(codeInvalidRequest, "%s", page.Message)
	}
	if _, refusal := s.judge(r.Context(), a, redirectURI); refusal != nil {
		return nil, refusal
	}
	if refusal := s.countKept(ctx, client, countPushed, "pushed requests"); refusal != nil {
		return nil, refusal
	}
	// A proof says to which key the code is to be bound, as dpop_jkt does (RFC 9449 section 10.1).
	jkt, refusal := s.proofKey(w, r, PathPush, client)
	switch named := a.params.Get("dpop_jkt"); {
	case refusal != nil:
		return nil, refusal
	case jkt != "" && named != "" && named != jkt:
		return nil, refuse(codeInvalidDPoPProof, "dpop_jkt is not the key of the DPoP proof")
	case jkt != "":
		a.params.Set("dpop_jkt", jkt)
	}
	encoded := a.params.Encode()
	if len(encoded) > maxPushed {
		e := refuse(codeInvalidRequest, "the request is longer than %d bytes", maxPushed)
		e.Status = http.StatusRequestEntityTooLarge
		return nil, e
	}
	// A request object with a jti is spent here: this client waits for an answer, and no person can reload it.
	if a.once != nil {
		if err := s.flows.Use(ctx, token.NewID(), a.once); errors.Is(err, flow.ErrUsed) {
			return nil, refuse(a.once.Refusal, "a request object with this jti was used before")
		} else if err != nil {
			return nil, internal(err)
		}
	}
	id, err := s.flows.Push(ctx, flow.Pushed{
		ClientID: client.ID, Params: encoded, Signed: a.signed, Until: s.now().Add(pushedLifetime),
	})
	if err != nil {
		return nil, internal(err)
	}
	return &pushedResponse{RequestURI: s.reference(client.ID, id), ExpiresIn: int64(pushedLifetime / time.Second)}, nil
}

// withoutCredentials are the parameters without what authenticated the client, which is not for keeping.
func withoutCredentials(p params) url.Values {
	out := make(url.Values, len(p))
	for name, values := range p {
		switch name {
		case "client_secret", "client_assertion", "client_assertion_type", "request":
		default:
			out[name] = values
		}
	}
	return out
}

// reference is the request_uri of a pushed request. Its MAC binds it to its client, so that a forged one, or another client's, is
// refused without a read.
func (s *Server) reference(clientID, id string) string {
	return pushedPrefix + id + "." + s.ring.Digest(pushedPurpose, clientID+" "+id)
}

// resolvePushed reads the request that a reference stands for. Nothing else in the query counts (RFC 9126 section 4).
func (s *Server) resolvePushed(ctx context.Context, client *registry.Client, query url.Values) (*asked, *Error) {
	a := &asked{client: client, params: url.Values{}, pushed: true}
	id, mac, _ := strings.Cut(strings.TrimPrefix(query.Get("request_uri"), pushedPrefix), ".")
	if !s.ring.DigestMatches(pushedPurpose, mac, client.ID+" "+id) {
		return a, refuse(codeInvalidRequestURI, "the request_uri was not given to this client here")
	}
	doc, err := s.flows.Pushed(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return a, refuse(codeInvalidRequestURI, "the request_uri has expired; it lives for %s", pushedLifetime)
	}
	if err != nil {
		return a, internal(err)
	}
	if a.params, err = url.ParseQuery(doc.Value.Params); err != nil || doc.Value.ClientID != client.ID {
		return a, internal(errors.New("a pushed request cannot be read"))
	}
	a.signed = doc.Value.Signed
	a.once = &flow.Once{Name: "pushed " + id, Until: doc.Value.Until, Refusal: codeInvalidRequestURI}
	return a, nil
}

// resumeOnce looks whether a request that may be used once can be begun with doc. Where this browser has begun it before and it is
// not over, the person goes on where they were (resumed); where it was used, or comes too late, it is refused.
func (s *Server) resumeOnce(w http.ResponseWriter, r *http.Request, doc *flow.Doc) (resumed bool, refusal *Error) {
	ctx := r.Context()
	once := doc.Value.Request.Once
	usedBy, err := s.flows.UsedBy(ctx, once.Name)
	if err != nil {
		return false, internal(err)
	}
	if usedBy == doc.ID {
		// This browser again, perhaps because the answer was lost. Its code is good until it is redeemed.
		_, err := s.grants.Get(ctx, doc.ID)
		if err != nil && !errors.Is(err, grant.ErrDead) {
			return false, internal(err)
		}
		if err != nil {
			s.resume(w, r, doc.ID)
			return true, nil
		}
	}
	if usedBy != "" {
		return false, refuse(once.Refusal, "the authorization request was used before; send a new one")
	}
	if s.now().Before(once.Until) {
		return false, nil
	}
	if _, err := s.flows.Get(ctx, doc.ID); err == nil {
		s.resume(w, r, doc.ID)
		return true, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return false, internal(err)
	}
	return false, refuse(once.Refusal, "the authorization request has expired; send a new one")
}
