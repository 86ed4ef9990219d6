package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/connectors"
)

// connectorKeys are the keys that not every type has, and which types have them.
var connectorKeys = []struct {
	key   string
	types []string
	set   func(*Connector) bool
}{
	{"issuer", []string{ConnectorOIDC, ConnectorGoogle}, func(c *Connector) bool { return c.Issuer != "" }},
	{"trust_email", []string{ConnectorOIDC, ConnectorGitHub}, func(c *Connector) bool { return c.TrustEmail }},
	{"userinfo", []string{ConnectorOIDC}, func(c *Connector) bool { return c.UserInfo }},
	{"mfa_acr_values", []string{ConnectorOIDC}, func(c *Connector) bool { return len(c.MFAACRValues) > 0 }},
	{"auth_style", []string{ConnectorOIDC}, func(c *Connector) bool { return c.AuthStyle != "" }},
	{"hosted_domains", []string{ConnectorGoogle}, func(c *Connector) bool { return len(c.HostedDomains) > 0 }},
	{"base_url", []string{ConnectorGitHub}, func(c *Connector) bool { return c.BaseURL != "" }},
	{"api_url", []string{ConnectorGitHub}, func(c *Connector) bool { return c.APIURL != "" }},
	{"graph_url", []string{ConnectorFacebook}, func(c *Connector) bool { return c.GraphURL != "" }},
	{"dialog_url", []string{ConnectorFacebook}, func(c *Connector) bool { return c.DialogURL != "" }},
	{"graph_version", []string{ConnectorFacebook}, func(c *Connector) bool { return c.GraphVersion != "" }},
	{"insecure_signs_everyone_in", []string{ConnectorFixed}, func(c *Connector) bool { return c.InsecureSignsEveryoneIn }},
	{"profile", []string{ConnectorFixed}, func(c *Connector) bool { return !reflect.ValueOf(c.Profile).IsZero() }},
	{"sandbox", []string{ConnectorGoogle, ConnectorFacebook, ConnectorGitHub}, func(c *Connector) bool { return c.Sandbox }},
}

func (v *validator) connectors(c *Config) {
	if len(c.Connectors) == 0 {
		v.add("connectors", "is missing: nobody could sign in")
	}
	if len(c.Connectors) > maxList {
		v.add("connectors", fmt.Sprintf("has %d items, at most %d are allowed", len(c.Connectors), maxList))
		return
	}
	for i := range c.Connectors {
		connector, path := &c.Connectors[i], item("connectors", i)
		switch same := slices.IndexFunc(c.Connectors[:i], func(o Connector) bool { return o.Name == connector.Name }); {
		case connector.Name == "":
			v.add(path+".name", "is missing; such as google")
		case !nameForm.MatchString(connector.Name):
			v.add(path+".name", quote(connector.Name)+" is not 1 to 32 of a-z, 0-9 and -")
		case same >= 0:
			v.add(path+".name", fmt.Sprintf("%q is the name of %s too", connector.Name, item("connectors", same)))
		}
		v.connector(path, connector, c.Sandbox.Listen != "")
	}
}

func (v *validator) connector(path string, c *Connector, sandbox bool) {
	if c.DisplayName != "" {
		v.name(path+".display_name", c.DisplayName)
	}
	v.scopes(path+".scopes", c.Scopes)
	v.boundsOrZero(path+".timeout", c.Timeout, 100*time.Millisecond, time.Minute, "0 is upstream.timeout, and a person waits for it")
	if types := connectors.Types(); !slices.Contains(types, c.Type) {
		v.oneOf(path+".type", c.Type, types...)
		return // what the others should be depends on it
	}
	for _, k := range connectorKeys {
		if k.set(c) && slices.Contains(keyedTypes, c.Type) && !slices.Contains(k.types, c.Type) {
			v.add(path+"."+k.key, "does not apply to type "+c.Type+", only to "+strings.Join(k.types, " and "))
		}
	}
	if c.Type == ConnectorFixed {
		v.fixed(path, c)
		return
	}
	v.credentials(path, c, sandbox)

	v.url(path+".issuer", c.Issuer, secureURL)
	v.url(path+".base_url", c.BaseURL, secureURL)
	v.url(path+".api_url", c.APIURL, secureURL)
	v.url(path+".graph_url", c.GraphURL, secureURL)
	v.url(path+".dialog_url", c.DialogURL, secureURL)
	if c.GraphVersion != "" && !graphVersionForm.MatchString(c.GraphVersion) {
		v.add(path+".graph_version", quote(c.GraphVersion)+" is not a version such as v26.0")
	}
	if c.AuthStyle != "" {
		v.oneOf(path+".auth_style", c.AuthStyle, "basic", "post", "none")
	}
	v.list(path+".hosted_domains", c.HostedDomains, maxList)
	for i, domain := range c.HostedDomains {
		if !domainForm.MatchString(domain) {
			v.add(item(path+".hosted_domains", i), quote(domain)+" is not a domain in lower case, such as example.com")
		}
	}
	if c.Type == ConnectorOIDC && c.Issuer == "" {
		v.add(path+".issuer", "is missing; the provider's issuer, exactly as it writes it")
	}
	if c.Type == ConnectorGitHub && c.TrustEmail && (c.BaseURL == "" || c.BaseURL == "https://github.com") {
		v.add(path+".trust_email", "does not apply to github.com, which says itself which emails it has verified")
	}
}

// fixed checks a connector that asks nobody; the connector itself checks the profile.
func (v *validator) fixed(path string, c *Connector) {
	if !c.InsecureSignsEveryoneIn {
		v.add(path+".insecure_signs_everyone_in", "has to be true: with this connector whoever comes is signed in as its profile, without a password. It is for test runs")
	}
	if c.Profile.Subject == "" || len(c.Profile.Subject) > maxSubject {
		v.add(path+".profile.subject", fmt.Sprintf("1 to %d characters are needed: what the person is known by", maxSubject))
	}
	for _, k := range []struct {
		key string
		set bool
	}{
		{"client_id", c.ClientID != ""},
		{"client_secret", !c.ClientSecret.IsZero() || c.ClientSecretFile != ""},
		{"scopes", len(c.Scopes) > 0},
		{"timeout", c.Timeout != 0},
	} {
		if k.set {
			v.add(path+"."+k.key, "does not apply to type fixed, which has no provider")
		}
	}
}

// credentials checks what the provider knows the broker by.
func (v *validator) credentials(path string, c *Connector, sandbox bool) {
	secret := !c.ClientSecret.IsZero() || c.ClientSecretFile != ""
	switch {
	case c.Sandbox && sandboxed(c.Type):
		if !sandbox {
			v.add(path+".sandbox", "needs sandbox.listen")
		}
		return
	case c.ClientID == "" && !secret && sandbox && sandboxed(c.Type):
		return // the sandbox's
	case c.ClientID == "":
		v.add(path+".client_id", "is missing; it comes from the registration at the provider")
	case !visibleForm.MatchString(c.ClientID):
		v.add(path+".client_id", quote(c.ClientID)+" has a character that is not visible ASCII")
	}
	switch {
	case c.AuthStyle == "none" && secret:
		v.add(path+".auth_style", "is none, and yet there is a client_secret")
	case c.AuthStyle != "none" && !secret:
		v.add(path+".client_secret", "is missing; give it or client_secret_file")
	}
}

func (v *validator) clients(c *Config) {
	names := make([]string, len(c.Connectors))
	for i := range c.Connectors {
		names[i] = c.Connectors[i].Name
	}
	seen := map[string]int{}
	for i := range c.Clients {
		client, path := &c.Clients[i], item("clients", i)
		first, twice := seen[client.ClientID]
		switch {
		case client.ClientID == "":
			v.add(path+".client_id", "is missing")
		case registry.CheckID(client.ClientID) != nil:
			v.add(path+".client_id", registry.CheckID(client.ClientID).Error())
		case twice:
			v.add(path+".client_id", fmt.Sprintf("%s is the client_id of %s too", quote(client.ClientID), item("clients", first)))
		default:
			seen[client.ClientID] = i
		}
		v.client(path, client)
		v.list(path+".connectors", client.Connectors, maxList)
		for j, name := range client.Connectors {
			if !slices.Contains(names, name) {
				v.add(item(path+".connectors", j), quote(name)+" is not the name of a connector"+DidYouMean(name, names))
			}
		}
	}
}

func (v *validator) client(path string, c *Client) {
	secret := !c.ClientSecret.IsZero() || c.ClientSecretFile != ""
	length := len(c.ClientSecret.Reveal())
	switch {
	case c.Public && secret:
		v.add(path+".client_secret", "is given, and yet the client is public: it could not keep one")
	case !c.Public && !c.UsesSecret() && secret:
		v.add(path+".client_secret", "is given, and yet token_endpoint_auth_method is "+c.TokenEndpointAuthMethod+", which needs none")
	case c.UsesSecret() && !secret:
		v.add(path+".client_secret", "is missing; give it or client_secret_file, or public: true for an app that cannot keep one, or another token_endpoint_auth_method")
	case secret && length > 0 && length < minClientSecret:
		v.add(path+".client_secret", fmt.Sprintf("has %d characters, want %d at least; make one with: openssl rand -base64 32", length, minClientSecret))
	}
	for key, list := range map[string][]string{
		"scopes": c.Scopes, "grant_types": c.GrantTypes, "redirect_uris": c.RedirectURIs, "post_logout_redirect_uris": c.PostLogoutRedirectURIs,
		"request_uris": c.RequestURIs, "authorization_details_types": c.AuthorizationDetailsTypes, "default_acr_values": c.DefaultACRValues, "contacts": c.Contacts,
	} {
		v.list(path+"."+key, list, maxList)
	}
	v.oneOf(path+".pkce", c.PKCE, "required", "optional")
	v.boundsOrZero(path+".access_token_lifetime", c.AccessTokenLifetime, 30*time.Second, day, "0 is tokens.access_token_lifetime, and an API that verifies a JWT by itself accepts a revoked one until it ends")
	v.refresh(path, c.RefreshLifetime, c.RefreshIdleLifetime)
}

// registered has the registry say what is wrong with the items of a list, whatever way they come, beyond what is said already.
func (v *validator) registered(list string, items int, problem func(i int) error) {
	said := v.problems
	for i := range items {
		for _, wrong := range registry.FieldErrors(problem(i)) {
			if at := item(list, i) + "." + wrong.Field; !about(said, at) {
				v.add(at, wrong.Err.Error())
			}
		}
	}
}

func (v *validator) trustedIssuers(c *Config) {
	if len(c.TrustedIssuers) > maxList {
		v.add("trusted_issuers", fmt.Sprintf("has %d items, at most %d are allowed", len(c.TrustedIssuers), maxList))
		return
	}
	for i := range c.TrustedIssuers {
		entry, path := &c.TrustedIssuers[i], item("trusted_issuers", i)
		if entry.Issuer == "" {
			v.add(path+".issuer", "is missing: iss of its assertions")
		} else if same := slices.IndexFunc(c.TrustedIssuers[:i], func(o TrustedIssuer) bool { return o.Issuer == entry.Issuer }); same >= 0 {
			v.add(path+".issuer", fmt.Sprintf("%s is that of %s too", quote(entry.Issuer), item("trusted_issuers", same)))
		}
		switch given := !entry.JWKS.IsZero() || entry.JWKSFile != ""; {
		case given && entry.JWKSURI != "":
			v.add(path+".jwks_uri", "is given beside jwks; one of them is enough")
		case !given && entry.JWKSURI == "":
			v.add(path+".jwks_uri", "is missing; its keys are there, or in jwks_file")
		}
		v.url(path+".jwks_uri", entry.JWKSURI, secureURL)
		v.list(path+".audiences", entry.Audiences, maxList)
		v.list(path+".clients", entry.Clients, maxList)
		if len(entry.Clients) == 0 {
			v.add(path+".clients", "is missing: the client_ids of those who may present its assertions")
		}
		v.scopes(path+".scopes", entry.Scopes)
		if len(entry.Scopes) == 0 {
			v.add(path+".scopes", "is missing: the most that its assertions give")
		}
		if at := slices.Index(entry.Scopes, "offline_access"); at >= 0 {
			v.add(item(path+".scopes", at), "an assertion gives no refresh token (RFC 7521 section 4.1): there can be another assertion")
		}
		v.oneOf(path+".subject", entry.Subject, SubjectAccount, SubjectIdentity)
		switch named := slices.ContainsFunc(c.Connectors, func(o Connector) bool { return o.Name == entry.Connector }); {
		case entry.Subject == SubjectAccount && entry.Connector != "":
			v.add(path+".connector", "has no effect with subject account")
		case entry.Subject == SubjectIdentity && !named:
			v.add(path+".connector", quote(entry.Connector)+" is not the name of a connector: the one through which its people sign in")
		}
	}
}
