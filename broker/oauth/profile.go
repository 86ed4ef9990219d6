package oauth

import (
	"time"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
)

// What a client's profile demands of its requests and changes about what it gets. What it demands of the registration is in
// registry/profile.go; what the broker does for every client is not repeated here: response_type=code, exact redirect URIs, PKCE with
// S256, iss in the response, codes of one use, 303 after a form (FAPI 2.0 section 5.3.2.2 numbers 1, 5 to 7 and 9 to 11).

// profile is one set of rules. Its zero value demands nothing.
type profile struct {
	// pushed: authorization requests come by way of RFC 9126 alone, authenticated.
	pushed bool
	// bound: every access token is bound to a key or certificate of the client's.
	bound bool
	// keepRefresh: a refresh token stays the same when it is used.
	keepRefresh bool
	// codeLifetime bounds a code's life; 0: the configuration does.
	codeLifetime time.Duration
	// objectLifetime bounds a request object's: exp is required, no further ahead, and nbf no longer ago; 0: neither is required.
	objectLifetime time.Duration
	// algs are what the client may sign with, and what JWT access tokens for it are signed with; nil: all that are supported.
	algs []string
}

// profiles are all there are, by their name in the registration.
var profiles = map[string]profile{
	// FAPI 2.0 Security Profile (Final, February 2025).
	registry.ProfileFAPI2: {
		pushed:         true,                      // section 5.3.2.2 numbers 2 to 4
		bound:          true,                      // section 5.3.2.1 numbers 4, 5
		keepRefresh:    true,                      // section 5.3.2.1 number 9
		codeLifetime:   time.Minute,               // section 5.3.2.1 number 11
		objectLifetime: time.Hour,                 // FAPI 2.0 Message Signing section 5.3.1
		algs:           keyset.StrongAlgorithms(), // section 5.4.1
	},
}

// profileOf is what the client is held to.
func profileOf(client *registry.Client) profile { return profiles[client.Profile] }
