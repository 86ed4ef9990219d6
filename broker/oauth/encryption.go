package oauth

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
)

// Encrypted ID tokens (OpenID Connect Core section 10.2): signed as ever, and then encrypted for a key of the client's, so that whoever
// they pass on the way, such as an app's log, cannot read them.

// idTokenKey is the key that the client's ID tokens are encrypted for; nil if they are not. It is asked for before anything is redeemed: keys
// that cannot be read must not cost a code or a refresh token.
func (s *Server) idTokenKey(ctx context.Context, client *registry.Client) (*jose.JSONWebKey, *Error) {
	if client.IDTokenEncAlg == "" {
		return nil, nil
	}
	key, err := s.keySets.EncryptionKey(ctx, client.Keys(), client.IDTokenEncAlg)
	switch {
	case errors.Is(err, keyset.ErrNoKey):
		return nil, refuse(codeInvalidRequest, "ID tokens of this client are to be encrypted with %s, and none of its keys is for that", client.IDTokenEncAlg).because(err)
	case err != nil:
		e := internal(err)
		e.Status = http.StatusServiceUnavailable
		e.Description = "the keys of this client, for which its ID tokens are to be encrypted, cannot be read; try again in a moment"
		return nil, e
	}
	return &key, nil
}

// EncryptToken encrypts a signed token for the client as its ID tokens are; where they are not, it is signed as it was given.
func (s *Server) EncryptToken(ctx context.Context, client *registry.Client, signed string) (string, error) {
	key, refusal := s.idTokenKey(ctx, client)
	switch {
	case refusal != nil:
		return "", refusal
	case key == nil:
		return signed, nil
	}
	return token.Encrypt(signed, client.IDTokenEncAlg, client.IDTokenEncEnc, *key)
}
