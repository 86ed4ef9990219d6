package resource

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Token is what an access token says, once it was verified. It may be shared between requests, and must not be changed.
type Token struct {
	// Subject is the account, or the client where no account is involved (RFC 9068 section 2.2).
	Subject string
	// ClientID is the app that it was issued to.
	ClientID string
	// Issuer is the broker that issued it.
	Issuer string
	// ID is its `jti`.
	ID string
	// Audience are the identifiers of the APIs that may accept it.
	Audience []string
	// Scopes are what it allows.
	Scopes []string
	// IssuedAt and ExpiresAt bound its life.
	IssuedAt, ExpiresAt time.Time
	// AuthTime is when the person last signed in; zero if nobody did, or it does not say.
	AuthTime time.Time
	// ACR is how the person signed in (OpenID Connect Core section 2); may be empty.
	ACR string
	// KeyThumbprint is the DPoP key that it is bound to (`cnf.jkt`, RFC 9449 section 6.1), CertThumbprint the client certificate
	// (`cnf.x5t#S256`, RFC 8705 section 3.1). Both are empty for a bearer token.
	KeyThumbprint, CertThumbprint string
	// Actor is who acts for the subject, an `act` claim (RFC 8693 section 4.1); nil if nobody does.
	Actor json.RawMessage
	// Details are its `authorization_details` (RFC 9396 section 9.1); nil if it has none. They are the API's to judge.
	Details json.RawMessage
}

// HasScope says whether the token allows a scope.
func (t *Token) HasScope(name string) bool { return slices.Contains(t.Scopes, name) }

func (t *Token) hasAll(scopes []string) bool {
	return !slices.ContainsFunc(scopes, func(name string) bool { return !t.HasScope(name) })
}

// Verifier finds out what a token says. The token may be anything that a stranger sent. Verify may be called concurrently. It need not judge
// audience, binding and scopes, which is done for each request; it does judge whether the token was issued by who it says, and still stands.
//
// An error that wraps ErrInvalidToken refuses the token, one that wraps ErrUnavailable says that nobody knows now. Every other error is a
// fault of the server. The sender does not see its text.
type Verifier interface {
	Verify(ctx context.Context, raw string) (*Token, error)
}

// Errors of a Verifier and of Options.Replay. Compare with errors.Is.
var (
	// ErrInvalidToken says that a token is none of the broker's, has expired, or is revoked.
	ErrInvalidToken = errors.New("the access token does not stand")
	// ErrUnavailable says that it cannot be known now whether a token stands: the broker does not answer.
	ErrUnavailable = errors.New("the access token cannot be checked now")
	// ErrReplayed says that a DPoP proof was used before.
	ErrReplayed = errors.New("the DPoP proof was used before")
)

type tokenKey struct{}

// FromContext is the token of a request that Protect let through; nil in the context of any other.
func FromContext(ctx context.Context) *Token {
	t, _ := ctx.Value(tokenKey{}).(*Token)
	return t
}
