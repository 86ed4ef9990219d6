package registry

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/keyset"
)

// The parts of Validate. bad and oneOf are its own.

type (
	badFunc   func(field, format string, args ...any)
	oneOfFunc func(field, value string, allowed []string)
)

// checkKeys checks what the client is known by other than a secret, and what is encrypted for it.
func (c *Client) checkKeys(bad badFunc, oneOf oneOfFunc) {
	if c.JWKS != "" && c.JWKSURI != "" {
		bad("jwks_uri", "is given beside jwks; one of them is enough (RFC 7591 section 2)")
	}
	if len(c.JWKS) > maxJWKS {
		bad("jwks", "it is longer than %d bytes", maxJWKS)
	} else if c.JWKS != "" {
		if err := keyset.Check(c.JWKS); err != nil {
			bad("jwks", "%w", err)
		}
	}
	checkWebURI(bad, "jwks_uri", c.JWKSURI)
	hasKeys := c.JWKS != "" || c.JWKSURI != ""
	if slices.Contains(keyMethods, c.AuthMethod) && !hasKeys {
		bad("jwks", "%s needs the app's keys: jwks or jwks_uri", c.AuthMethod)
	}
	switch c.AuthMethod {
	case AuthSecretJWT:
		oneOf("token_endpoint_auth_signing_alg", c.AuthSigningAlg, []string{"HS256"})
	case AuthPrivateKeyJWT:
		oneOf("token_endpoint_auth_signing_alg", c.AuthSigningAlg, clientAlgs)
	default:
		if c.AuthSigningAlg != "" {
			bad("token_endpoint_auth_signing_alg", "has no meaning without the method %s or %s", AuthPrivateKeyJWT, AuthSecretJWT)
		}
	}
	var names []string
	for name, value := range map[string]string{
		"tls_client_auth_subject_dn": c.TLSSubjectDN, "tls_client_auth_san_dns": c.TLSSANDNS, "tls_client_auth_san_uri": c.TLSSANURI,
		"tls_client_auth_san_ip": c.TLSSANIP, "tls_client_auth_san_email": c.TLSSANEmail,
	} {
		if value != "" {
			names = append(names, name)
		}
		if len(value) > maxText {
			bad(name, "it is longer than %d bytes", maxText)
		}
	}
	slices.Sort(names)
	switch {
	case c.AuthMethod == AuthTLS && len(names) != 1:
		bad("tls_client_auth_subject_dn", "%s needs exactly one of tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip, _san_email (RFC 8705 section 2.1.2)", AuthTLS)
	case c.AuthMethod != AuthTLS && len(names) > 0:
		bad(names[0], "has no meaning without the method %s", AuthTLS)
	}
	if c.TLSSubjectDN != "" {
		if _, err := parseDN(c.TLSSubjectDN); err != nil {
			bad("tls_client_auth_subject_dn", "%q is not a name as RFC 4514 writes it: %w", c.TLSSubjectDN, err)
		}
	}
	if _, err := netip.ParseAddr(c.TLSSANIP); c.TLSSANIP != "" && err != nil {
		bad("tls_client_auth_san_ip", "%q is no IP address", c.TLSSANIP)
	}

	oneOf("id_token_encrypted_response_alg", c.IDTokenEncAlg, keyEncAlgs)
	oneOf("id_token_encrypted_response_enc", c.IDTokenEncEnc, contentEncs)
	switch {
	case c.IDTokenEncAlg == "" && c.IDTokenEncEnc != "":
		bad("id_token_encrypted_response_enc", "has no meaning without id_token_encrypted_response_alg")
	case c.IDTokenEncAlg != "" && !hasKeys:
		bad("jwks", "encrypted ID tokens need the app's keys: jwks or jwks_uri")
	}
	oneOf("subject_type", c.SubjectType, subjectTypes)
	checkWebURI(bad, "sector_identifier_uri", c.SectorIdentifierURI)
	if c.Pairwise() && c.Sector() == "" {
		bad("sector_identifier_uri", "is needed: pairwise subjects are of one host, and the redirect URIs have several, or none that is the app's own (OpenID Connect Core section 8.1)")
	}
	if c.Pairwise() && !c.Verified() {
		// That the host of the redirect URIs is the app's own is shown by codes going there. By these it would have tokens that never do, and
		// see people as the app of any host that it names sees them.
		for _, grant := range []string{GrantDeviceCode, GrantPassword, GrantJWTBearer} {
			if c.Allows(grant) {
				bad("grant_types", "%s does not go with pairwise subjects for an app that nobody has checked", grant)
			}
		}
	}
	oneOf("profile", c.Profile, profiles)
}

// checkRequests checks what is fixed beforehand about the client's authorization requests.
func (c *Client) checkRequests(bad badFunc, oneOf oneOfFunc) {
	oneOf("request_object_signing_alg", c.RequestSigningAlg, clientAlgs)
	if c.RequireSignedRequest && c.JWKS == "" && c.JWKSURI == "" {
		bad("jwks", "require_signed_request_object needs the app's keys: jwks or jwks_uri")
	}
	if len(c.RequestURIs) > maxURIs {
		bad("request_uris", "%d are more than %d", len(c.RequestURIs), maxURIs)
	}
	for i, uri := range c.RequestURIs {
		checkWebURI(bad, at("request_uris", i), RequestAddress(uri))
	}
	if c.DefaultMaxAge != nil && (*c.DefaultMaxAge < 0 || *c.DefaultMaxAge > int64(maxLifetime/time.Second)) {
		bad("default_max_age", "%d seconds are not between 0 and %d", *c.DefaultMaxAge, int64(maxLifetime/time.Second))
	}
	for field, list := range map[string][]string{
		"default_acr_values": c.DefaultACRValues, "authorization_details_types": c.DetailsTypes, "contacts": c.Contacts,
	} {
		if len(list) > maxItems {
			bad(field, "%d are more than %d", len(list), maxItems)
		}
		for i, value := range list {
			if value == "" || len(value) > maxText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				bad(at(field, i), "%q is empty, longer than %d bytes, or has control characters", value, maxText)
			}
		}
	}
	checkWebURI(bad, "initiate_login_uri", c.InitiateLoginURI)
}

// checkExchange checks what the client may exchange tokens for.
func (c *Client) checkExchange(bad badFunc, oneOf oneOfFunc) {
	if c.TokenExchange == nil {
		return
	}
	if !c.Allows(GrantTokenExchange) {
		bad("token_exchange", "has no meaning without the grant type %s", GrantTokenExchange)
	}
	t := c.TokenExchange
	for field, list := range map[string][]string{"subject_clients": t.SubjectClients, "actor_clients": t.ActorClients, "modes": t.Modes, "scopes": t.Scopes} {
		if len(list) > maxItems {
			bad("token_exchange."+field, "%d are more than %d", len(list), maxItems)
		}
	}
	for _, mode := range t.Modes {
		oneOf("token_exchange.modes", mode, exchangeModes)
	}
	for _, scope := range t.Scopes {
		if !slices.Contains(c.Scopes, scope) {
			bad("token_exchange.scopes", "%q is not among the client's scopes", scope)
		}
	}
}

// checkLogout checks where the client is told of sign-outs.
func (c *Client) checkLogout(bad badFunc) {
	checkWebURI(bad, "backchannel_logout_uri", c.BackchannelLogoutURI)
	checkWebURI(bad, "frontchannel_logout_uri", c.FrontchannelLogoutURI)
	// A page of the broker's loads it in a frame: only what is the app's own (OpenID Connect Front-Channel Logout section 2).
	if c.FrontchannelLogoutURI != "" && !slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return Origin(uri) == Origin(c.FrontchannelLogoutURI) }) {
		bad("frontchannel_logout_uri", "its scheme, host and port are those of none of the redirect URIs")
	}
}

// checkWebURI checks an address that the broker or a browser of its own accord calls: https, or http on loopback for development.
func checkWebURI(bad badFunc, field, raw string) {
	if raw == "" {
		return
	}
	u, err := checkURI(raw)
	switch {
	case err != nil:
		bad(field, "%q: %w", raw, err)
	case u.Scheme == "https" && u.Host != "", u.Scheme == "http" && loopback(u.Hostname()):
	default:
		bad(field, "%q is not https", raw)
	}
}

// Origin is the origin of a web address as browsers write it (RFC 6454 section 6.2), or "" if it is none.
func Origin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}
