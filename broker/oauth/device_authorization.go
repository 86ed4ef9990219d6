package oauth

import (
	"net/http"
	"net/url"
	"time"

	"github.com/portico-id/portico/broker/device"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/web"
)

// deviceResponse is RFC 8628 section 3.2.
type deviceResponse struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                int64  `json:"interval"`
}

// deviceAuthorization gives a device its codes (RFC 8628 section 3.1).
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	response, err := s.startDevice(r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, response)
}

// startDevice judges the request as the authorization endpoint would judge the same: what a person is going to be asked about was
// judged before.
func (s *Server) startDevice(r *http.Request) (*deviceResponse, error) {
	p, refusal := formParams(r)
	if refusal != nil {
		return nil, refusal
	}
	client, refusal := s.authenticate(r, p)
	if refusal != nil {
		return nil, refusal
	}
	if !client.Allows(registry.GrantDeviceCode) {
		return nil, refuse(codeUnauthorizedClient, "this client is not registered for the grant type %s", registry.GrantDeviceCode)
	}
	req := flow.Request{ClientID: client.ID}
	for _, step := range []judgement{s.judgeScope(r.Context()), judgePrompt, judgeClaims} {
		if refusal := step(p, client, &req); refusal != nil {
			return nil, refusal
		}
	}
	if refusal := s.countKept(r.Context(), client, countDevices, "device authorizations"); refusal != nil {
		return nil, refusal
	}
	req.Prompt = nil // The person is always asked, and by pages: there is no other way to answer a device.
	doc, userCode, err := s.devices.Start(r.Context(), req, origin(r))
	if err != nil {
		return nil, internal(err)
	}
	shown := device.FormatUserCode(userCode)
	return &deviceResponse{
		DeviceCode:              s.ring.DeviceCode(device.Handle(doc)),
		UserCode:                shown,
		VerificationURI:         s.issuer + PathDevice,
		VerificationURIComplete: s.issuer + PathDevice + "?" + url.Values{"user_code": {shown}}.Encode(),
		ExpiresIn:               int64(s.devices.Lifetime() / time.Second),
		Interval:                int64(s.devices.Interval() / time.Second),
	}, nil
}

// origin is where a request came from, as the person is told. What the device says of itself is its word: ASCII that prints, and no
// sentence of any length.
func origin(r *http.Request) device.Origin {
	o := device.Origin{UserAgent: challenge.Text(r.UserAgent())}
	if ip := web.ClientIP(r.Context()); ip.IsValid() {
		o.Address = ip.String()
	}
	return o
}
