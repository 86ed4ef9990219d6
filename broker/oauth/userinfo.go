package oauth

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/resource"
)

// typeJWT is the media type of a signed answer (OpenID Connect Core section 5.3.2).
const typeJWT = "application/jwt"

// userinfoAPI protects userinfo with the middleware that every API has: it is one, whose tokens have the issuer as audience.
func (s *Server) userinfoAPI() (*resource.API, error) {
	o := s.ownAPI(s.issuer)
	o.URL = s.issuer
	if s.mtls.On && s.mtls.URL != "" {
		o.Aliases = []string{s.mtls.URL}
	}
	o.Scopes = slices.Sorted(maps.Keys(s.policy.scopes))
	o.Verifier = userinfoTokens{s}
	return resource.New(o)
}

// holderKey is where the context of a request to userinfo has its holder.
type holderKey struct{}

// holder is whose an access token is. The Verifier reads it to know whether the token stands, and leaves it here, so that it is read once.
type holder struct {
	account *identity.Account
	grant   *grant.Grant
}

// userinfo answers with the claims that an access token's scopes allow (OpenID Connect Core section 5.3).
func (s *Server) userinfo(api *resource.API) http.HandlerFunc {
	door := api.Protect(http.HandlerFunc(s.answerUserinfo), ScopeOpenID)
	return func(w http.ResponseWriter, r *http.Request) {
		door.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), holderKey{}, &holder{})))
	}
}

func (s *Server) answerUserinfo(w http.ResponseWriter, r *http.Request) {
	access := resource.FromContext(r.Context())
	of, _ := r.Context().Value(holderKey{}).(*holder)
	answer := claims(of.account, access.Scopes)
	if !exchanged(access.ID) { // otherwise its scopes are all that it says, and perhaps to another client
		addRequested(answer, of.account, of.grant.Claims, inUserinfo)
	}
	answer["sub"] = access.Subject
	// What was exchanged is perhaps another client's, which has not asked for a signature.
	if of.grant.UserinfoAlg == "" || access.ClientID != of.grant.ClientID {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	signed, err := s.idTokens.IssueUserinfo(of.grant.UserinfoAlg, of.grant.ClientID, answer)
	if err != nil {
		s.writeError(w, r, internal(err))
		return
	}
	writeUnkept(w, http.StatusOK, typeJWT)
	_, _ = io.WriteString(w, signed) // the only error is a client that hung up
}

// userinfoTokens verifies tokens for userinfo: they speak for an account.
type userinfoTokens struct{ *Server }

// Verify implements resource.Verifier.
func (v userinfoTokens) Verify(ctx context.Context, raw string) (*resource.Token, error) {
	access, t, err := v.opened(ctx, raw)
	if err != nil || !slices.Contains(access.Audience, v.issuer) {
		return t, err
	}
	account, g, err := v.bearerAccount(ctx, access)
	if err != nil {
		return nil, verdict(err)
	}
	if of, ok := ctx.Value(holderKey{}).(*holder); ok {
		*of = holder{account: account, grant: g}
	}
	t.Scopes = access.Scopes
	return t, nil
}
