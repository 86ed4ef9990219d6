package connectors

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// googleIssuer is Google's issuer (its OpenID metadata).
const googleIssuer = "https://accounts.google.com"

// newGoogle makes the connector for Google: an OpenID provider with rules of its own.
func newGoogle(b base) (Connector, error) {
	s := b.settings
	problems := s.only("issuer", "hosted_domains")
	issuer := s.Issuer
	if issuer == "" {
		issuer = googleIssuer
	}
	if _, err := endpoint("issuer", issuer, ""); err != nil {
		problems = append(problems, err)
	}
	domains := make([]string, 0, len(s.HostedDomains))
	for _, d := range s.HostedDomains {
		d = strings.ToLower(strings.TrimSpace(d))
		if !strings.Contains(d, ".") || strings.ContainsAny(d, "@/* ") {
			problems = append(problems, errors.New("hosted_domains: must be domains such as example.com"))
			break
		}
		domains = append(domains, d)
	}
	if b.info.DisplayName == "" {
		b.info.DisplayName = "Google"
	}
	b.settings.AuthStyle = "post" // Google takes both; this is what its documents show
	_, legacy, _ := strings.Cut(issuer, "://")
	return newOpenID(&openID{
		base:         b,
		issuer:       issuer,
		legacyIssuer: legacy, // accounts.google.com, in tokens that Google says may still appear
		algs:         []string{oidc.RS256},
		hints:        func(t Trip) url.Values { return googleHints(t, domains) },
		decide:       func(c claims, p *Profile) *Error { return decideGoogle(c, p, domains) },
	}, problems)
}

// googleHints are a trip's hints as Google takes them. It has no prompt=login (none,
// consent and select_account alone), so a new choice of account is the most that can be asked
// for, and no ui_locales. hd only tunes the page: decideGoogle checks the claim.
func googleHints(t Trip, domains []string) url.Values {
	v := url.Values{"login_hint": {t.LoginHint}}
	if t.Prompt == "login" || t.Prompt == "select_account" {
		v.Set("prompt", "select_account")
	}
	switch len(domains) {
	case 0:
	case 1:
		v.Set("hd", domains[0])
	default:
		v.Set("hd", "*") // any Workspace account
	}
	return v
}

// decideGoogle applies what Google documents about its authority for addresses: it has it
// for gmail.com, and for the domains of Workspace organisations (hd is set). For any other
// address a Google account only proves that someone once read a mail there.
func decideGoogle(c claims, p *Profile, domains []string) *Error {
	p.HostedDomain = strings.ToLower(string(c.HostedDomain))
	if len(domains) > 0 && !slices.Contains(domains, p.HostedDomain) {
		return &Error{Kind: NotAllowed, Err: errors.New("the account is of none of the hosted_domains")}
	}
	gmail := strings.HasSuffix(strings.ToLower(p.Email), "@gmail.com")
	p.EmailVerified = bool(c.EmailVerified) && (gmail || p.HostedDomain != "")
	return nil
}
