package oauth

import (
	"errors"

	"github.com/portico-id/portico/broker/device"
)

// What a device that polls is told while it has no tokens (RFC 8628 section 3.5).
const (
	codeAuthorizationPending = "authorization_pending"
	codeSlowDown             = "slow_down"
	codeAccessDenied         = "access_denied"
	codeExpiredToken         = "expired_token"
)

// deviceCode answers a device that polls (RFC 8628 sections 3.4, 3.5).
//
// As with a code, the insert of the grant spends the device code, after all checks, and a second redemption revokes what the first one
// gave. That costs an honest device nothing: one that asks again never got its tokens, because the response was lost or it gave up
// waiting, and has to start over in either case. But where somebody else was faster, the device's own next poll, which
// comes within an interval, takes the thief's tokens away.
func (s *Server) deviceCode(t *tokenRequest) (*issuance, error) {
	ctx := t.http.Context()
	raw := t.params.get("device_code")
	if raw == "" {
		return nil, refuse(codeInvalidRequest, "device_code is missing")
	}
	handle, err := s.ring.ParseDeviceCode(raw)
	if err != nil {
		return nil, badCode("the device code is not one of this server's").because(err)
	}
	doc, verdict, err := s.devices.Poll(ctx, handle, t.client.ID)
	switch {
	case errors.Is(err, device.ErrOtherClient):
		return nil, badCode("the device code was issued to another client")
	case errors.Is(err, device.ErrExpired):
		verdict = device.Expired // its MAC says that it was one of ours
	case err != nil:
		return nil, internal(err)
	}
	switch verdict {
	case device.Pending:
		return nil, refuse(codeAuthorizationPending, "nobody has answered yet; ask again in %d seconds", doc.Value.Interval)
	case device.SlowDown:
		return nil, refuse(codeSlowDown, "asked too early; wait 5 seconds longer from now on, %d seconds are the least", doc.Value.Interval)
	case device.Refused:
		return nil, refuse(codeAccessDenied, "the person said no")
	case device.Expired:
		return nil, refuse(codeExpiredToken, "the device code has expired; it lives for %s", s.devices.Lifetime())
	}
	return s.redeem(t, doc.Value.ID, &doc.Value.Request, doc.Value.SignIn)
}
