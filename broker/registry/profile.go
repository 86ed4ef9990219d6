package registry

import (
	"net/url"
	"slices"
)

// rule is one demand that a profile makes of a registration.
type rule struct {
	section string
	field   string
	demands string
	broken  func(*Client) bool
}

// profileRules are the demands of each profile. What it demands of requests is broker/oauth's (profile.go there).
var profileRules = map[string][]rule{
	// FAPI 2.0 Security Profile (Final, February 2025).
	ProfileFAPI2: {
		{"5.3.2.1 number 3", "public", "a public client cannot be held to it", func(c *Client) bool { return c.IsPublic }},
		{
			"5.3.2.1 number 6", "token_endpoint_auth_method", "must be private_key_jwt, tls_client_auth or self_signed_tls_client_auth",
			func(c *Client) bool {
				return !slices.Contains([]string{AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS}, c.AuthMethod)
			},
		},
		{"5.3.2.1 number 2", "grant_types", "must not hold password", func(c *Client) bool { return c.Allows(GrantPassword) }},
		{"5.3.2.2 number 5", "pkce", "must not be optional", func(c *Client) bool { return c.PKCEOptional }},
		{
			"5.3.2.2 number 8", "redirect_uris", "must be https, or http on a loopback address for a native app",
			func(c *Client) bool { return slices.ContainsFunc(c.RedirectURIs, unprotected) },
		},
		{"5.4.1", "token_endpoint_auth_signing_alg", "must be PS256, ES256 or EdDSA", func(c *Client) bool { return c.AuthSigningAlg == "RS256" }},
		{"5.4.1", "request_object_signing_alg", "must be PS256, ES256 or EdDSA", func(c *Client) bool { return c.RequestSigningAlg == "RS256" }},
		{"5.4.1", "id_token_signed_response_alg", "must be ES256 or EdDSA", func(c *Client) bool { return c.SigningAlg() == "RS256" }},
		{"5.4.1", "userinfo_signed_response_alg", "must be ES256 or EdDSA", func(c *Client) bool { return c.UserinfoAlg == "RS256" }},
	},
}

// unprotected says whether a code sent to the redirect URI may be read on the way.
func unprotected(uri string) bool {
	u, err := url.Parse(uri)
	return err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))
}

// checkProfile checks that the client is registered as its profile demands.
func (c *Client) checkProfile(bad badFunc) {
	for _, rule := range profileRules[c.Profile] {
		if rule.broken(c) {
			bad(rule.field, "%s under profile %s (section %s)", rule.demands, c.Profile, rule.section)
		}
	}
}
