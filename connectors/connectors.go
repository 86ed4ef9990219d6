// Package connectors signs people in at an upstream provider. A [Connector] knows
// one configured provider: where to send the browser, and how to turn what comes back
// into a [Profile].
//
// broker/signin calls it. A connector keeps nothing between the two calls: the state,
// nonce and PKCE verifier of a trip are the caller's, and stay on the server. It may not
// know of accounts, clients or stores, and decides nothing but what the provider said and
// whether that can be trusted.
package connectors

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Connector is one configured upstream provider. All methods may be called concurrently.
type Connector interface {
	// Info says what the connector is called and how it is shown. It does no IO.
	Info() Info
	// AuthorizeURL is where the browser goes to sign in. It may read the provider's
	// metadata over the network the first time, within the context's deadline. Errors are *Error.
	AuthorizeURL(ctx context.Context, trip Trip) (string, error)
	// Exchange judges the parameters of the callback (RFC 6749 section 4.1.2, RFC 9207), redeems the code
	// and reads who signed in. The caller has already matched state and browser. Errors are *Error.
	Exchange(ctx context.Context, trip Trip, callback url.Values) (*Profile, error)
}

// Info describes a connector.
type Info struct {
	Name        string // unique in the configuration, part of the callback URL: [a-z0-9-]{1,32}
	Type        string // google, facebook, github, oidc, fixed
	DisplayName string // what the button says after "Continue with"
}

// Trip is one journey of a browser to the provider and back. Everything in it stays on
// the server, bound to the browser and used once; only State and what derives from Nonce
// and Verifier travels.
type Trip struct {
	RedirectURI string // the connector's one callback URL
	State       string
	Nonce       string // for providers that issue ID tokens
	Verifier    string // PKCE code_verifier (RFC 7636 section 4.1), 43 characters

	// Hints to the provider, each sent only where it takes one.
	LoginHint string
	// Prompt asks the provider to do more than usual: "", "login" (make the person prove
	// themselves again), "select_account".
	Prompt    string
	UILocales string
	// MultiFactor asks for a sign-in with more than one factor.
	MultiFactor bool
}

// Profile is one person as the provider described them.
type Profile struct {
	// Issuer and Subject together are the identity: for an OpenID provider its iss and
	// sub; for others the provider's base URL and its stable user id, never a login name or an
	// email address.
	Issuer  string
	Subject string

	Email string // "" if the provider gave none
	// EmailVerified is true only where the provider says that it verified the address AND
	// is an authority for it, so that it may count as a proof of ownership.
	EmailVerified bool

	Name, GivenName, FamilyName string
	Username                    string // a handle such as GitHub's login; people change it
	Picture                     string // an https URL
	Locale                      string
	HostedDomain                string // Google Workspace domain, verified

	// What few providers say (OpenID Connect Core section 5.1).
	MiddleName, Nickname        string
	Page, Website               string // https URLs: a page about the person (the claim profile), and theirs
	Gender, Birthdate, Zoneinfo string

	AuthTime time.Time // when the provider says the person proved themselves; zero if it does not say
	AMR      []string  // RFC 8176, if the provider says
}

// Kind is what went wrong upstream, as far as a person or an app can act on it.
type Kind string

// The kinds of failure.
const (
	Denied        Kind = "denied"        // the person said no, or the provider refused them
	Expired       Kind = "expired"       // the code was used, expired or unknown: signing in again mends it
	Unavailable   Kind = "unavailable"   // 5xx, connection failures
	Timeout       Kind = "timeout"       // the provider took too long
	RateLimited   Kind = "rate_limited"  // the provider asked us to slow down
	Malformed     Kind = "malformed"     // the answer was not what the protocol says
	Untrusted     Kind = "untrusted"     // a signature, issuer, audience or nonce did not match: a possible attack
	Misconfigured Kind = "misconfigured" // our registration there is wrong: client id, secret, redirect URI, permission
	NotAllowed    Kind = "not_allowed"   // signed in, but outside what the operator allows (a hosted domain)
)

// Error is a failed trip. Its message is for the operator's log: it carries no code, token or secret.
type Error struct {
	Kind      Kind
	Connector string // Info.Name
	// UpstreamCode is the provider's own error code, if it gave one, for the log and the page's detail.
	UpstreamCode string
	Err          error
}

func (e *Error) Error() string {
	if e.UpstreamCode != "" {
		return fmt.Sprintf("connector %s: %s (%s): %v", e.Connector, e.Kind, e.UpstreamCode, e.Err)
	}
	return fmt.Sprintf("connector %s: %s: %v", e.Connector, e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of a connector's error, or Unavailable for any other error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}
