package connectors

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// providers is every type of connector. A provider is one file and one line here.
var providers = map[string]func(base) (Connector, error){
	"google":   newGoogle,
	"facebook": newFacebook,
	"github":   newGitHub,
	"oidc":     newOIDC,
	typeFixed:  newFixed,
}

// Types are the names that [Settings].Type may have, sorted.
func Types() []string { return slices.Sorted(maps.Keys(providers)) }

// Settings are what an operator says about one connector. Every key that does not belong
// to the type is refused, so that none is believed to work where it does not. Values are
// plain: reading a secret from a file or the environment is the configuration's work.
type Settings struct {
	Name         string   `yaml:"name"`          // [a-z0-9-]{1,32}, unique
	Type         string   `yaml:"type"`          // see Types
	DisplayName  string   `yaml:"display_name"`  // default: the provider's own name, or Name
	ClientID     string   `yaml:"client_id"`     // from the registration at the provider
	ClientSecret string   `yaml:"client_secret"` // may be empty with auth_style none only
	Scopes       []string `yaml:"scopes"`        // instead of the type's own; openid is added for google and oidc

	// Timeout bounds all upstream calls of one step together; default DefaultTimeout, at most MaxTimeout.
	Timeout time.Duration `yaml:"timeout"`

	// Issuer is the OpenID provider's issuer, exactly as it writes it (oidc: required; google: for a simulator).
	Issuer string `yaml:"issuer"`
	// TrustEmail says that an email_verified of this provider is a proof of ownership (oidc, and
	// github for hosts other than github.com). Set it only for a provider that is the authority
	// for its addresses or verifies each by mail: whoever runs the provider can otherwise take
	// over any account by its address.
	TrustEmail bool `yaml:"trust_email"`
	// UserInfo reads the userinfo endpoint where the ID token has no email or name (oidc).
	UserInfo bool `yaml:"userinfo"`
	// MFAACRValues are the provider's own acr values that mean more than one factor: it is asked for them where a trip wants
	// that, and believed when it answers with one (oidc).
	MFAACRValues []string `yaml:"mfa_acr_values"`
	// AuthStyle is how the token endpoint wants the client's secret: "basic", "post", "none" (a public
	// client), or "" for what the provider's metadata say (oidc).
	AuthStyle string `yaml:"auth_style"`
	// HostedDomains, if any, are the Google Workspace domains whose people may sign in (google).
	HostedDomains []string `yaml:"hosted_domains"`

	// BaseURL is where GitHub is: https://github.com by default, https://HOST for Enterprise (github).
	// It is part of every identity: changing it makes strangers of everyone.
	BaseURL string `yaml:"base_url"`
	// APIURL is GitHub's REST API without a trailing slash; derived from BaseURL by default (github).
	APIURL string `yaml:"api_url"`
	// DialogURL is the part of the login dialog's URL before the version: https://www.facebook.com (facebook).
	DialogURL string `yaml:"dialog_url"`
	// GraphURL is the part of the Graph API's URL before the version: https://graph.facebook.com (facebook).
	GraphURL string `yaml:"graph_url"`
	// GraphVersion is the version of dialog and Graph API, such as v26.0 (facebook).
	GraphVersion string `yaml:"graph_version"`

	// InsecureSignsEveryoneIn has to be true for a connector that asks nobody who they are (fixed).
	InsecureSignsEveryoneIn bool `yaml:"insecure_signs_everyone_in"`
	// Profile is who everybody is (fixed). Its Issuer and AuthTime are not set.
	Profile Profile `yaml:"-"`
}

// Options are what a connector needs of the process. The zero value is useful.
type Options struct {
	// Transport carries the upstream calls; nil makes a pool of its own with [NewTransport].
	// Every limit of this package but those of the pool holds over any transport.
	Transport http.RoundTripper
	// Now is the time; nil is [time.Now].
	Now func() time.Time
}

// New makes the connector that the settings describe. It does no IO, so a provider that is
// down keeps nothing from starting. Its error names each wrong key.
func New(settings Settings, options Options) (Connector, error) {
	if options.Transport == nil {
		options.Transport = NewTransport()
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	problems := settings.common()
	build, known := providers[settings.Type]
	if !known {
		problems = append(problems, fmt.Errorf("type: %q is none of %s", settings.Type, strings.Join(Types(), ", ")))
		return nil, named(settings.Name, problems)
	}
	b := base{
		info:      Info{Name: settings.Name, Type: settings.Type, DisplayName: settings.DisplayName},
		settings:  settings,
		transport: options.Transport,
		now:       options.Now,
		timeout:   settings.Timeout,
	}
	if b.timeout == 0 {
		b.timeout = DefaultTimeout
	}
	connector, err := build(b)
	if err = named(settings.Name, append(problems, err)); err != nil {
		return nil, err
	}
	return connector, nil
}

// Validate says what is wrong with the settings, naming each wrong key; nil if New would succeed.
func (s Settings) Validate() error {
	_, err := New(s, Options{Transport: http.DefaultTransport}) // not called: New does no IO
	return err
}

// named joins problems and says whose they are.
func named(name string, problems []error) error {
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("connector %q: %w", name, err)
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// common judges the keys that all types have.
func (s Settings) common() (problems []error) {
	if !nameForm.MatchString(s.Name) {
		problems = append(problems, errors.New("name: must be 1 to 32 of a-z, 0-9 and -"))
	}
	if s.ClientID == "" && s.Type != typeFixed {
		problems = append(problems, errors.New("client_id: is missing"))
	}
	if s.ClientSecret == "" && s.AuthStyle != "none" && s.Type != typeFixed {
		problems = append(problems, errors.New("client_secret: is missing"))
	}
	if s.Timeout < 0 || s.Timeout > MaxTimeout {
		problems = append(problems, fmt.Errorf("timeout: must be between 0 and %s", MaxTimeout))
	}
	for _, scope := range s.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
			problems = append(problems, fmt.Errorf("scopes: %q is not a scope", scope)) // RFC 6749 section 3.3
		}
	}
	return problems
}

// only refuses the type-specific keys that are set and not allowed.
func (s Settings) only(allowed ...string) (problems []error) {
	set := []struct {
		key string
		set bool
	}{
		{"issuer", s.Issuer != ""},
		{"trust_email", s.TrustEmail},
		{"userinfo", s.UserInfo},
		{"mfa_acr_values", len(s.MFAACRValues) > 0},
		{"auth_style", s.AuthStyle != ""},
		{"hosted_domains", len(s.HostedDomains) > 0},
		{"base_url", s.BaseURL != ""},
		{"api_url", s.APIURL != ""},
		{"dialog_url", s.DialogURL != ""},
		{"graph_url", s.GraphURL != ""},
		{"graph_version", s.GraphVersion != ""},
		{"insecure_signs_everyone_in", s.InsecureSignsEveryoneIn},
		{"profile", !reflect.ValueOf(s.Profile).IsZero()},
	}
	for _, k := range set {
		if k.set && !slices.Contains(allowed, k.key) {
			problems = append(problems, fmt.Errorf("%s: does not apply to type %s", k.key, s.Type))
		}
	}
	return problems
}

// base is what every connector is built from.
type base struct {
	info      Info
	settings  Settings
	transport http.RoundTripper
	now       func() time.Time
	timeout   time.Duration
}

// Info implements [Connector].
func (b *base) Info() Info { return b.info }

// scopes are the configured scopes or the type's own.
func (b *base) scopes(own ...string) []string {
	if len(b.settings.Scopes) > 0 {
		return slices.Clone(b.settings.Scopes)
	}
	return own
}

// named fills in what an error of a pure function does not know.
func (b *base) named(e *Error) *Error {
	e.Connector = b.info.Name
	return e
}

func (b *base) fail(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Connector: b.info.Name, Err: fmt.Errorf(format, args...)}
}

// checkTrip refuses a trip whose protections are missing: an empty nonce equals that of an
// ID token without one, and an empty state matches anything that lost its own.
func (b *base) checkTrip(trip Trip, nonce, verifier bool) *Error {
	switch {
	case trip.RedirectURI == "":
		return b.fail(Malformed, "the trip has no redirect URI")
	case trip.State == "":
		return b.fail(Malformed, "the trip has no state")
	case nonce && trip.Nonce == "":
		return b.fail(Malformed, "the trip has no nonce")
	case verifier && len(trip.Verifier) < 43:
		return b.fail(Malformed, "the trip has no PKCE verifier of 43 characters")
	}
	return nil
}

// endpoint judges a configured URL, or the default if it is empty: https, or http on loopback
// (a simulator), with a host and nothing after the path. The result has no trailing slash and a
// lower-case scheme and host, so that one place has one spelling.
func endpoint(key, value, otherwise string) (string, error) {
	if value == "" {
		value = otherwise
	}
	if value == "" {
		return "", fmt.Errorf("%s: is missing", key)
	}
	u, err := url.Parse(value)
	if err != nil {
		return "", fmt.Errorf("%s: is not a URL", key)
	}
	if err := secure(u); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fmt.Errorf("%s: must have no query and no fragment", key)
	}
	u.Host = strings.ToLower(u.Host)
	return strings.TrimRight(u.String(), "/"), nil
}

// secure refuses a URL over which a secret must not go: only https, or http to loopback.
func secure(u *url.URL) error {
	switch {
	case u.Host == "" || u.User != nil:
		return errors.New("must have a host and no user")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("must start with https:// (http:// is for loopback alone)")
}

// loopback says whether a host is this machine by its form, without asking DNS (RFC 8252 section
// 8.3, RFC 6761 section 6.3).
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
