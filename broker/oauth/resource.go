package oauth

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/replay"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/broker/token"
	"github.com/portico-id/portico/broker/web"
)

// Where the broker protects something by access tokens itself, at the forward-auth endpoint and at userinfo, it does so with the middleware that APIs in
// Go use, so that every door answers alike. This is what the middleware needs of the broker.

// ownAPI are the options that hold for every api that the broker protects. URL, scopes and Verifier are missing.
func (s *Server) ownAPI(identifier string) resource.Options {
	return resource.Options{
		Issuer: s.issuer, Identifier: identifier,
		// On the api's own host it is only where a proxy has been told so.
		MetadataURL: s.issuer + PathResourceMetadata + "?" + url.Values{paramAPI: {identifier}}.Encode(),
		Certificate: s.leafCertificate,
		Replay:      s.spendProof,
		Nonces:      s.nonces, RequireNonce: s.dpopNonce,
		Log: s.log, Now: s.now,
	}
}

// ownTokens verifies the broker's tokens for one api, as introspection does: what was revoked is seen at once.
type ownTokens struct {
	*Server
	api string
}

// Verify implements resource.Verifier. The token says what it allows at the api, and nothing of others.
func (v ownTokens) Verify(ctx context.Context, raw string) (*resource.Token, error) {
	access, t, err := v.opened(ctx, raw)
	if err != nil || !slices.Contains(access.Audience, v.api) {
		return t, err
	}
	if err := v.tokenStands(ctx, access); err != nil {
		return nil, verdict(err)
	}
	t.Audience = []string{v.api}
	var details string
	t.Scopes, details = v.policy.forAudience(t.Audience, access.Scopes, access.Details)
	t.Details = json.RawMessage(details)
	return t, nil
}

// opened is what an access token of the broker's says, for itself and as the middleware takes it. Scopes and details are missing there, since they depend on
// the api: so does whether the token is for it, which the middleware judges in its own words.
func (s *Server) opened(ctx context.Context, raw string) (*token.Access, *resource.Token, error) {
	access, _, err := s.access.Verify(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", resource.ErrInvalidToken, err)
	}
	web.NoteClient(ctx, access.ClientID)
	return access, &resource.Token{
		Subject: access.Subject, ClientID: access.ClientID, Issuer: s.issuer, ID: access.ID, Audience: access.Audience,
		IssuedAt: access.IssuedAt, ExpiresAt: access.ExpiresAt, AuthTime: access.AuthTime, ACR: access.ACR,
		KeyThumbprint: access.KeyThumbprint, CertThumbprint: access.CertThumbprint,
		Actor: json.RawMessage(access.Actor),
	}, nil
}

// verdict is why a token does not stand, as a Verifier says it.
func verdict(err error) error {
	if asError(err).Status >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", resource.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", resource.ErrInvalidToken, err)
}

// spendProof is resource.Options.Replay: a proof is spent at all nodes.
func (s *Server) spendProof(ctx context.Context, key string, expires time.Time) error {
	err := s.replay.Claim(ctx, expires, proofs, key)
	if errors.Is(err, replay.ErrReplayed) {
		return resource.ErrReplayed
	}
	return err
}

// leafCertificate is the certificate of the request's client, as a trusted proxy passes it on, at the forward-auth endpoint that of the original request's
// client; nil if there is none. That of the asking proxy's own connection is not the client's, and is not in the request that this is asked about.
func (s *Server) leafCertificate(r *http.Request) *x509.Certificate {
	leaf, _, err := s.certificate(r)
	if err != nil {
		return nil
	}
	return leaf
}

// resourceMetadata answers with the metadata of an api (RFC 9728 section 2) that does not serve its own. Challenges of the forward-auth endpoint
// lead there. own is the metadata of the broker's own endpoints.
func (s *Server) resourceMetadata(own http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		names := r.URL.Query()[paramAPI]
		if len(names) != 1 {
			s.writeError(w, r, refuse(codeInvalidRequest, "name one api, by its identifier: ?api="))
			return
		}
		if err := s.policy.apis.CatchUp(r.Context(), nil, names, nil); err != nil {
			s.writeError(w, r, internal(err))
			return
		}
		s.serveResourceMetadata(w, r, own, names...)
	}
}

// wellKnownMetadata is resourceMetadata for a proxy that passes the well-known address of an api's host on, with its Host header (RFC 9728 section 3.1): the
// identifier is put together again.
func (s *Server) wellKnownMetadata(own http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rest := strings.ToLower(r.Host) + strings.TrimPrefix(r.URL.EscapedPath(), PathWellKnownResource)
		s.serveResourceMetadata(w, r, own, "https://"+rest, "https://"+rest+"/", "http://"+rest, "http://"+rest+"/")
	}
}

// serveResourceMetadata answers for the first of the apis that there is.
func (s *Server) serveResourceMetadata(w http.ResponseWriter, r *http.Request, own http.Handler, identifiers ...string) {
	all := s.guards()
	for _, identifier := range identifiers {
		if identifier == s.issuer {
			own.ServeHTTP(w, r)
			return
		}
		if g := all.byID[identifier]; g != nil {
			g.metadata.ServeHTTP(w, r)
			return
		}
	}
	e := refuse(codeInvalidTarget, "the api '%s' is not registered here", echo(identifiers[0]))
	e.Status = http.StatusNotFound
	s.writeError(w, r, e)
}
