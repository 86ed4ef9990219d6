package config

import (
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/portico-id/portico/broker/registry"
)

const (
	// maxInitialTokens bounds the initial access tokens: each is compared with what every request sends.
	maxInitialTokens = 32
	// maxPerHour bounds the bound: one an hour for each second or so is no bound any more.
	maxPerHour = 10_000
	// maxUnproven is the same for what public and unchecked clients have kept: what a load test on one machine needs.
	maxUnproven = 100_000
)

func (v *validator) registration(r *Registration) {
	const path = "registration"
	v.oneOf(path+".mode", r.Mode, ModeOff, ModeToken, ModeOpen)
	v.tokensToRegister(path+".initial_access_tokens", r)
	if r.MaxPerHour < 1 || r.MaxPerHour > maxPerHour {
		v.add(path+".max_per_hour", fmt.Sprintf("%d is not between 1 and %d", r.MaxPerHour, maxPerHour))
	}
	v.scopes(path+".scopes", r.Scopes)
	if len(r.Scopes) == 0 {
		v.add(path+".scopes", "is empty: an app that registers itself could ask for nothing")
	}
	v.list(path+".grant_types", r.GrantTypes, maxList)
	for i, grant := range r.GrantTypes {
		v.check(item(path+".grant_types", i), oneOf(grant, registry.GrantTypes()...))
	}
	if len(r.GrantTypes) == 0 {
		v.add(path+".grant_types", "is empty: an app that registers itself could get nothing")
	}
	v.list(path+".authorization_details_types", r.AuthorizationDetailsTypes, maxList)
	v.oneOf(path+".pkce", r.PKCE, "required", "optional")
	v.boundsOrZero(path+".unused_lifetime", r.UnusedLifetime, time.Hour, 1000*day, "0 is for ever, and whoever registers needs time to try")

	statements := &r.SoftwareStatement
	if statements.Required && len(statements.Issuers) == 0 {
		v.add(path+".software_statement.issuers", "is missing: a statement is required, and nobody's would be believed")
	}
	for i := range statements.Issuers {
		issuer, at := &statements.Issuers[i], item(path+".software_statement.issuers", i)
		inline := !issuer.JWKS.IsZero() || issuer.JWKSFile != ""
		switch same := slices.IndexFunc(statements.Issuers[:i], func(o StatementIssuer) bool { return o.Issuer == issuer.Issuer }); {
		case issuer.Issuer == "":
			v.add(at+".issuer", "is missing; as it stands in the statements' iss")
		case same >= 0:
			v.add(at+".issuer", fmt.Sprintf("%s is given twice", quote(issuer.Issuer)))
		}
		switch {
		case inline == (issuer.JWKSURI != ""):
			v.add(at+".jwks_uri", "one of jwks_file, jwks and jwks_uri is needed")
		case issuer.JWKSURI != "":
			v.check(at+".jwks_uri", secureURL(issuer.JWKSURI))
		}
	}
}

// tokensToRegister checks the initial access tokens.
func (v *validator) tokensToRegister(path string, r *Registration) {
	tokens := r.InitialAccessTokens
	switch {
	case r.Mode == ModeToken && len(tokens) == 0:
		v.add(path, "is missing: nobody could register; make one with: openssl rand -base64 32")
	case r.Mode == ModeOff && len(tokens) > 0:
		v.add(path, "has no effect while registration.mode is off")
	case len(tokens) > maxInitialTokens:
		v.add(path, fmt.Sprintf("has %d items, at most %d are allowed", len(tokens), maxInitialTokens))
		return
	}
	for i, token := range tokens {
		at, length := item(path, i), len(token.Secret.Reveal())
		switch {
		case token.Secret.IsZero() && token.File == "":
			v.add(at+".secret", "is missing; give it or file")
		case !token.Secret.IsZero() && length < minClientSecret:
			v.add(at+".secret", fmt.Sprintf("has %d characters, want %d at least; make one with: openssl rand -base64 32", length, minClientSecret))
		case slices.ContainsFunc(tokens[:i], func(o InitialAccessToken) bool { return o.Secret.Reveal() == token.Secret.Reveal() }):
			v.add(at, "the token is given twice")
		}
	}
}

func (v *validator) clientIDMetadata(m *ClientIDMetadata) {
	const path = "client_id_metadata"
	v.oneOf(path+".mode", m.Mode, ModeOff, ModeAllowlist, ModeOpen)
	switch {
	case m.Mode == ModeAllowlist && len(m.Hosts) == 0:
		v.add(path+".hosts", "is missing: with the mode allowlist nobody else is let in")
	case m.Mode != ModeAllowlist && len(m.Hosts) > 0:
		v.add(path+".hosts", "has no effect unless client_id_metadata.mode is allowlist")
	}
	v.list(path+".hosts", m.Hosts, maxList)
	for i, host := range m.Hosts {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = host, ""
		}
		if err == nil && !validPort(port) || !domainForm.MatchString(name) && net.ParseIP(name) == nil {
			v.add(item(path+".hosts", i), quote(host)+" is not a host in lower case, such as app.example.com or app.example.com:8443")
		}
	}
}
