package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/registry"
)

// The claims parameter (OpenID Connect Core section 5.5): single claims, for the ID token or for userinfo.

// Bounds on the claims parameter: a consent page can stand for no more, and the grant keeps it.
const (
	maxClaimsParam = 4 << 10 // bytes
	maxClaims      = 64      // in each member
	maxClaimValues = 16      // in one claim's values
)

// claimsRequest is what was asked for, in the parameter's own form.
type claimsRequest struct {
	IDToken  map[string]*claimRequest `json:"id_token,omitempty"`
	Userinfo map[string]*claimRequest `json:"userinfo,omitempty"`
}

// claimRequest says more about one claim (section 5.5.1); nil asks for it in the default manner.
type claimRequest struct {
	Essential bool  `json:"essential,omitempty"`
	Value     any   `json:"value,omitempty"`
	Values    []any `json:"values,omitempty"`
}

// parseClaims reads the parameter; "" asks for nothing. Members and claims that are not known are passed over, as section 5.5 wants it.
func parseClaims(raw string) (*claimsRequest, *Error) {
	c := &claimsRequest{}
	if raw == "" {
		return c, nil
	}
	if len(raw) > maxClaimsParam {
		return nil, refuse(codeInvalidRequest, "claims is longer than %d bytes", maxClaimsParam)
	}
	if err := decodeObject([]byte(raw), c); err != nil {
		return nil, refuse(codeInvalidRequest, "claims is not a JSON object of the form {'id_token': {...}, 'userinfo': {...}} (OpenID Connect Core section 5.5)").because(err)
	}
	for _, member := range []map[string]*claimRequest{c.IDToken, c.Userinfo} {
		if len(member) > maxClaims {
			return nil, refuse(codeInvalidRequest, "claims asks for more than %d claims", maxClaims)
		}
		for name, claim := range member {
			switch {
			case claim == nil:
			case claim.Value != nil && claim.Values != nil:
				return nil, refuse(codeInvalidRequest, "claims: '%s' has both value and values", echo(name))
			case len(claim.Values) > maxClaimValues:
				return nil, refuse(codeInvalidRequest, "claims: '%s' has more than %d values", echo(name), maxClaimValues)
			}
		}
	}
	return c, nil
}

// decodeObject decodes exactly one JSON object.
func decodeObject(raw []byte, into any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return errors.New("not a JSON object")
	}
	return json.Unmarshal(raw, into)
}

// wanted are the values asked for, in order; those that are no strings are left out.
func (c *claimRequest) wanted() []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, value := range append(c.Values, c.Value) {
		if s, ok := value.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// accepts says whether the value is one that was asked for; any is, if none was named.
func (c *claimRequest) accepts(value any) bool {
	if c == nil || c.Value == nil && len(c.Values) == 0 {
		return true
	}
	want, err := json.Marshal(value)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(append(c.Values, c.Value), func(v any) bool {
		asked, err := json.Marshal(v)
		return err == nil && bytes.Equal(asked, want)
	})
}

// claimScopes says which scope lets a client know a claim, and so which sentence stands for it on the consent page (section 5.4).
var claimScopes = map[string]string{
	"name": ScopeProfile, "given_name": ScopeProfile, "family_name": ScopeProfile, "preferred_username": ScopeProfile,
	"picture": ScopeProfile, "locale": ScopeProfile, "updated_at": ScopeProfile,
	"middle_name": ScopeProfile, "nickname": ScopeProfile, "profile": ScopeProfile, "website": ScopeProfile,
	"gender": ScopeProfile, "birthdate": ScopeProfile, "zoneinfo": ScopeProfile,
	"email": ScopeEmail, "email_verified": ScopeEmail,
}

// judgeClaims reads the claims parameter, and with it everything that it shares with other parameters: who is to sign in, and how.
//
// A claim of a scope that the client is not registered for is not delivered: what an operator keeps from a client as a scope
// is not to be had by another name. Section 5.5.1 makes no error of a claim that is not returned.
func judgeClaims(p params, client *registry.Client, req *flow.Request) *Error {
	asked, refusal := parseClaims(p.get("claims"))
	if refusal != nil {
		return refusal
	}
	for _, sub := range append(asked.IDToken["sub"].wanted(), asked.Userinfo["sub"].wanted()...) {
		if refusal := nameSubject(req, sub); refusal != nil {
			return refusal
		}
	}
	if refusal := wantACR(req, asked.IDToken["acr"], strings.Fields(p.get("acr_values")), client.DefaultACRValues); refusal != nil {
		return refusal
	}
	kept := claimsRequest{IDToken: deliverable(asked.IDToken, client), Userinfo: deliverable(asked.Userinfo, client)}
	for _, member := range []map[string]*claimRequest{kept.IDToken, kept.Userinfo} {
		for name := range member {
			if scope := claimScopes[name]; !slices.Contains(req.ClaimScopes, scope) {
				req.ClaimScopes = append(req.ClaimScopes, scope)
			}
		}
	}
	if len(req.ClaimScopes) == 0 {
		return nil
	}
	slices.Sort(req.ClaimScopes)
	text, err := json.Marshal(kept)
	if err != nil {
		return internal(err)
	}
	req.Claims = string(text)
	return nil
}

// nameSubject sets the account that the app wants to hear of (OpenID Connect Core sections 3.1.2.1, 5.5.1). An app that names two
// wants what cannot be.
func nameSubject(req *flow.Request, sub string) *Error {
	if req.Subject != "" && req.Subject != sub {
		return refuse(codeLoginRequired, "the request names two different subjects, and one person signs in")
	}
	req.Subject = sub
	return nil
}

// deliverable are the claims of a member that the client can be given.
func deliverable(member map[string]*claimRequest, client *registry.Client) map[string]*claimRequest {
	var out map[string]*claimRequest
	for name, claim := range member {
		scope, known := claimScopes[name]
		if !known || !slices.Contains(client.Scopes, scope) {
			continue
		}
		if out == nil {
			out = make(map[string]*claimRequest, len(member))
		}
		out[name] = claim
	}
	return out
}

// addRequested adds to out the claims of an account that a grant's claims request wants in the given member. A claim whose value is
// none of those that were asked for is left out (section 5.5.1).
func addRequested(out map[string]any, a *identity.Account, request string, member func(*claimsRequest) map[string]*claimRequest) {
	if request == "" {
		return
	}
	var asked claimsRequest
	if json.Unmarshal([]byte(request), &asked) != nil {
		return // judgeClaims wrote it; a grant that cannot be read gives nothing away
	}
	all := claims(a, []string{ScopeProfile, ScopeEmail})
	for name, claim := range member(&asked) {
		if value, has := all[name]; has && claim.accepts(value) {
			out[name] = value
		}
	}
}

func inIDToken(c *claimsRequest) map[string]*claimRequest  { return c.IDToken }
func inUserinfo(c *claimsRequest) map[string]*claimRequest { return c.Userinfo }
