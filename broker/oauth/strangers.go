package oauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/portico-id/portico/broker/quota"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/web"
)

// What one address can make the broker do, or keep, in the names of apps for which nobody answers.

// What it is counted under, each by itself.
const (
	countReferences = "request-uri"
	countPushed     = "pushed-request"
	countDevices    = "device-authorization"
)

// strangeWindow is what Options.UnprovenPerMinute counts in.
const strangeWindow = time.Minute

// countAddress counts what the address that the request is from does once more, which it may do so many times in the window; what names it for the client.
func (s *Server) countAddress(ctx context.Context, purpose, what string, most int, window time.Duration) *Error {
	err := s.quota.Take(ctx, purpose, quota.AddressKey(web.ClientIP(ctx)), most, window)
	var exceeded *quota.Exceeded
	switch {
	case errors.As(err, &exceeded):
		return tryAgain(http.StatusTooManyRequests, exceeded.RetryAfter, "too many "+what+" from this address").because(exceeded)
	case err != nil:
		return internal(err)
	}
	return nil
}

// countKept counts what is kept for a client that shows nothing of who it is: a public one, whose name anybody can use, or one that
// nobody has checked, of which anybody can register many. It costs no other client anything.
func (s *Server) countKept(ctx context.Context, client *registry.Client, purpose, what string) *Error {
	if !client.Public() && client.Verified() {
		return nil
	}
	return s.countAddress(ctx, purpose, what, s.unprovenPerMinute, strangeWindow)
}
