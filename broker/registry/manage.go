package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// What a client that registered itself may do with its own registration (RFC 7592).

// Registered is a client that has just registered itself, with what is never to be seen again.
type Registered struct {
	*Client
	Secret string // "" for a client without
	Token  string // the registration access token
}

// Register adds a client that comes by itself. It is forgotten if nobody has used it after unused; 0: it is not. ErrInvalid, with the
// fields that are wrong.
func (s *Clients) Register(ctx context.Context, c Client, unused time.Duration) (*Registered, error) {
	token := s.o.NewSecret(registrationPrefix)
	c.RegistrationToken = s.o.Hasher.HashSecret(token)
	if unused > 0 {
		c.Expires = s.o.Now().Add(unused)
	}
	client, secret, err := s.Add(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Registered{Client: client, Secret: secret, Token: token}, nil
}

// Managed reads the client that a registration access token belongs to. ErrNotFound if the token is not this client's, whether there
// is such a client or not.
func (s *Clients) Managed(ctx context.Context, id, token string) (*Client, error) {
	if IsURL(id) {
		return nil, ErrNotFound
	}
	c, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !s.manages(c, token) {
		return nil, ErrNotFound
	}
	return c, nil
}

// manages says whether the token is the client's. One that an operator has disabled or taken over manages nothing any more.
func (s *Clients) manages(c *Client, token string) bool {
	return c.RegisteredBy == ByItself && !c.Disabled && c.RegistrationToken != "" && s.o.Hasher.SecretMatches(c.RegistrationToken, token)
}

// Replace makes the metadata of next those of the client that the token belongs to, all of them (RFC 7592 section 2.2). What
// an operator has set stays. ErrNotFound, and ErrInvalid with the fields that are wrong.
func (s *Clients) Replace(ctx context.Context, id, token string, next *Client) (*Client, error) {
	return s.Update(ctx, id, func(c *Client) error {
		if !s.manages(c, token) {
			return ErrNotFound
		}
		if credential(c) != credential(next) {
			return fmt.Errorf("%w: %w", ErrInvalid, fieldError("token_endpoint_auth_method", "it cannot change from %s to %s: that takes a new registration", MetadataOf(c).AuthMethod, MetadataOf(next).AuthMethod))
		}
		return MetadataOf(next).Set(c)
	})
}

// credential is what a client is known by. It cannot change to a kind that nobody has handed out.
func credential(c *Client) string {
	switch {
	case c.IsPublic:
		return AuthNone
	case c.AuthMethod == AuthSecretJWT: // its secret is kept in another way
		return AuthSecretJWT
	case c.UsesSecret():
		return AuthBasic
	}
	return "keys"
}

// Verify makes a client that registered itself one of the operator's: what it says of itself is believed, and it no longer manages itself.
func (c *Client) Verify() { c.RegisteredBy, c.RegistrationToken = ByOperator, "" }

// RemoveManaged removes the client that the token belongs to, as Remove does. ErrNotFound.
func (s *Clients) RemoveManaged(ctx context.Context, id, token string) error {
	if _, err := s.Managed(ctx, id, token); err != nil {
		return err
	}
	return s.Remove(ctx, id)
}

// Keep says that the client is used, so that it is not forgotten.
func (s *Clients) Keep(ctx context.Context, id string) error {
	_, err := s.docs.Change(ctx, documentID(id), func(doc *store.Doc[Client]) error {
		doc.Expires = time.Time{}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
