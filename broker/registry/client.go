// Package registry keeps what is registered with the broker: clients, and what each may ask for.
//
// broker/oauth reads clients on every request; the commands and the configuration write them. What may be registered is
// checked here and nowhere else, by pure functions; so is how a requested redirect URI is compared.
package registry

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/keyset"
)

// The grant types that a client can be registered for.
const (
	GrantAuthorizationCode = "authorization_code"                              // RFC 6749 section 4.1
	GrantRefreshToken      = "refresh_token"                                   // RFC 6749 section 6
	GrantClientCredentials = "client_credentials"                              // RFC 6749 section 4.4
	GrantPassword          = "password"                                        // RFC 6749 section 4.3
	GrantDeviceCode        = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628 section 3.4
	GrantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 section 2.1
	GrantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523 section 2.1
)

// The ways in which a client authenticates (OpenID Connect Core section 9, RFC 7591 section 2).
const (
	AuthBasic         = "client_secret_basic"
	AuthPost          = "client_secret_post"
	AuthSecretJWT     = "client_secret_jwt"
	AuthPrivateKeyJWT = "private_key_jwt"
	AuthTLS           = "tls_client_auth"             // RFC 8705 section 2.1
	AuthSelfSignedTLS = "self_signed_tls_client_auth" // RFC 8705 section 2.2
	AuthNone          = "none"
)

// The values of a client's subject_type (OpenID Connect Core section 8).
const (
	SubjectPublic   = "public"
	SubjectPairwise = "pairwise"
)

// ProfileFAPI2 holds a client to the FAPI 2.0 Security Profile.
const ProfileFAPI2 = "fapi2"

// The values that fields of a client may have.
var (
	grantTypes    = []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials, GrantPassword, GrantDeviceCode, GrantTokenExchange, GrantJWTBearer}
	authMethods   = []string{AuthBasic, AuthPost, AuthSecretJWT, AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS}
	secretMethods = []string{AuthBasic, AuthPost, AuthSecretJWT}
	keyMethods    = []string{AuthPrivateKeyJWT, AuthSelfSignedTLS}
	signingAlgs   = []string{"RS256", "ES256", "EdDSA"}
	// clientAlgs are what a client may sign with: ours and, as FAPI 2.0 has it, PS256.
	clientAlgs    = []string{"PS256", "ES256", "EdDSA", "RS256"}
	subjectTypes  = []string{SubjectPublic, SubjectPairwise}
	keyEncAlgs    = []string{"RSA-OAEP-256", "RSA-OAEP", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A256KW"}
	contentEncs   = []string{"A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"}
	profiles      = []string{ProfileFAPI2}
	tokenFormats  = []string{"opaque", "jwt"}
	scopePattern  = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,256}$`) // RFC 6749 section 3.3
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,99}$`)
	defaultGrants = []string{GrantAuthorizationCode, GrantRefreshToken}
)

// IsScope says whether a string may be a scope (RFC 6749 section 3.3), which is no longer than 256 bytes here.
func IsScope(name string) bool { return scopePattern.MatchString(name) }

// KeyEncryptionAlgorithms are the values of id_token_encrypted_response_alg (RFC 7518 section 4.1).
func KeyEncryptionAlgorithms() []string { return slices.Clone(keyEncAlgs) }

// ContentEncryptions are the values of id_token_encrypted_response_enc (RFC 7518 section 5.1), the default first.
func ContentEncryptions() []string { return slices.Clone(contentEncs) }

const (
	// MaxName bounds the name of a client or an api, in bytes: what a button and a headline can show.
	MaxName  = 100
	maxItems = 64 // scopes, connectors
	// maxJWKS bounds a client's keys as JSON: a dozen RSA keys with certificates.
	maxJWKS = 16 << 10
	// maxText bounds what has no other bound: names in certificates, acr values, contacts.
	maxText = 255
	// maxLifetime bounds lifetimes of a client's tokens: ten years is longer than any of this is in use.
	maxLifetime = 10 * 365 * 24 * time.Hour
	// maxAccessLifetime bounds access tokens, which cannot be called back from an API that checks JWTs by itself.
	maxAccessLifetime = 24 * time.Hour
)

// Client is an app registered with the broker. Durations are in seconds; 0 means the configuration's default.
type Client struct {
	ID      string `json:"-"`
	Name    string `json:"name"`
	Website string `json:"website,omitempty"`
	LogoURI string `json:"logo_uri,omitempty"`

	// IsPublic says that the client cannot keep a secret (RFC 6749 section 2.1): a native app or one that runs in a browser.
	IsPublic bool `json:"public,omitempty"`
	// AuthMethod is the one way in which a confidential client authenticates; "" is Basic or in the form.
	AuthMethod string `json:"token_endpoint_auth_method,omitempty"`
	// AuthSigningAlg is the one algorithm of its assertions; "" is any that fits the method.
	AuthSigningAlg string   `json:"token_endpoint_auth_signing_alg,omitempty"`
	Secrets        []Secret `json:"secrets,omitempty"`
	// JWKS are its public keys, as the text of a JWK Set (RFC 7517 section 5), or JWKSURI is where they are.
	JWKS    string `json:"jwks,omitempty"`
	JWKSURI string `json:"jwks_uri,omitempty"`
	// What the certificate of tls_client_auth must say: one of these (RFC 8705 section 2.1.2).
	TLSSubjectDN string `json:"tls_client_auth_subject_dn,omitempty"` // RFC 4514
	TLSSANDNS    string `json:"tls_client_auth_san_dns,omitempty"`
	TLSSANURI    string `json:"tls_client_auth_san_uri,omitempty"`
	TLSSANIP     string `json:"tls_client_auth_san_ip,omitempty"`
	TLSSANEmail  string `json:"tls_client_auth_san_email,omitempty"`
	// CertificateBound and DPoPBound demand tokens that are bound to a certificate (RFC 8705 section 3.4) or a key (RFC 9449 section 5.2).
	CertificateBound bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DPoPBound        bool `json:"dpop_bound_access_tokens,omitempty"`

	// RequirePAR takes authorization requests that were pushed alone (RFC 9126 section 6).
	RequirePAR bool `json:"require_pushed_authorization_requests,omitempty"`
	// RequireSignedRequest takes signed request objects alone (RFC 9101 section 10.5), with the algorithm RequestSigningAlg if that is
	// set, by reference from RequestURIs alone.
	RequireSignedRequest bool     `json:"require_signed_request_object,omitempty"`
	RequestSigningAlg    string   `json:"request_object_signing_alg,omitempty"`
	RequestURIs          []string `json:"request_uris,omitempty"`
	// DetailsTypes are the types of authorization details that it may ask for (RFC 9396 section 10).
	DetailsTypes []string `json:"authorization_details_types,omitempty"`
	// ResourceServerOf are the identifiers of apis that the client answers for: it may introspect tokens for them.
	ResourceServerOf []string `json:"resource_server_of,omitempty"`
	// TokenExchange is what it may exchange besides tokens of its own (RFC 8693); see Exchange.
	TokenExchange *TokenExchange `json:"token_exchange,omitempty"`
	// DefaultMaxAge in seconds, RequireAuthTime and DefaultACRValues hold where a request says nothing (OpenID Connect Registration section 2).
	DefaultMaxAge    *int64   `json:"default_max_age,omitempty"`
	RequireAuthTime  bool     `json:"require_auth_time,omitempty"`
	DefaultACRValues []string `json:"default_acr_values,omitempty"`
	// Profile, if set, is a set of rules that the client is held to.
	Profile string `json:"profile,omitempty"`

	RedirectURIs           []string `json:"redirect_uris"`
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	Scopes                 []string `json:"scopes"`
	GrantTypes             []string `json:"grant_types"`
	Connectors             []string `json:"connectors,omitempty"` // empty: all

	// RegisteredBy is how the client came to be here.
	RegisteredBy Registrar `json:"registered_by,omitempty"`
	// RegistrationToken is the keyed hash of the registration access token (RFC 7592 section 1.2), for a client that registered itself.
	RegistrationToken string `json:"registration_token,omitempty"`
	// ApplicationType is web, native, or "" where that was not asked: what it says of the redirect URIs is checked.
	ApplicationType string `json:"application_type,omitempty"`
	// What the developer says of the software, and the signed statement about it (RFC 7591 sections 2, 2.3).
	SoftwareID        string `json:"software_id,omitempty"`
	SoftwareVersion   string `json:"software_version,omitempty"`
	SoftwareStatement string `json:"software_statement,omitempty"`

	// FirstParty skips the consent page: the operator's own app.
	FirstParty bool `json:"first_party,omitempty"`
	// PKCEOptional exempts a client that cannot do PKCE (RFC 9700 section 2.1.1 would have everyone do it).
	PKCEOptional bool `json:"pkce_optional,omitempty"`
	// IDTokenAlg signs its ID tokens: RS256 (also ""), ES256, EdDSA.
	IDTokenAlg string `json:"id_token_signed_response_alg,omitempty"`
	// IDTokenEncAlg and IDTokenEncEnc encrypt them as well, for a key of the client's.
	IDTokenEncAlg string `json:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncEnc string `json:"id_token_encrypted_response_enc,omitempty"`
	// UserinfoAlg signs what userinfo answers about those who sign in from then on: RS256, ES256, EdDSA; "": it is plain JSON.
	UserinfoAlg string `json:"userinfo_signed_response_alg,omitempty"`
	// SubjectType is public (also "") or pairwise: a sub of its own for each sector, which is the host of SectorIdentifierURI or of
	// the redirect URIs (OpenID Connect Core section 8.1).
	SubjectType         string `json:"subject_type,omitempty"`
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`
	// AccessTokenFormat is opaque or jwt; "" is the configuration's.
	AccessTokenFormat string `json:"access_token_format,omitempty"`
	AccessTokenTTL    int64  `json:"access_token_lifetime,omitempty"`
	RefreshIdleTTL    int64  `json:"refresh_idle_lifetime,omitempty"`
	RefreshTTL        int64  `json:"refresh_lifetime,omitempty"`

	// Where the client is told that somebody signed out (OpenID Connect Back-Channel Logout section 2.2, Front-Channel Logout section 2), and
	// whether it needs to be told which session.
	BackchannelLogoutURI      string `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSession  bool   `json:"backchannel_logout_session_required,omitempty"`
	FrontchannelLogoutURI     string `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSession bool   `json:"frontchannel_logout_session_required,omitempty"`

	// What people and operators may want to know (RFC 7591 section 2).
	InitiateLoginURI string   `json:"initiate_login_uri,omitempty"`
	Contacts         []string `json:"contacts,omitempty"`
	PolicyURI        string   `json:"policy_uri,omitempty"`
	TosURI           string   `json:"tos_uri,omitempty"`

	Disabled  bool      `json:"disabled,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// Static says that the client is in the configuration, where alone it can be changed.
	Static bool `json:"-"`
	// Expires is when a client that registered itself is forgotten unless it is used before; zero: never.
	Expires time.Time `json:"-"`
}

// Secret is a client's secret as it is kept.
type Secret struct {
	Hash string `json:"hash"` // keyed; see Hasher
	// Sealed is the secret itself, sealed under the keyring: kept for client_secret_jwt alone, which needs it as a key.
	Sealed    string    `json:"sealed,omitempty"`
	Hint      string    `json:"hint"` // its last characters, to tell two apart
	CreatedAt time.Time `json:"created_at,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
}

// Hasher makes and checks the keyed hashes of secrets, and seals those that are needed themselves. token.Keyring is one.
type Hasher interface {
	HashSecret(secret string) string
	SecretMatches(hash, secret string) bool
	Seal(purpose string, plaintext, associated []byte) string
	Open(purpose, sealed string, associated []byte) ([]byte, error)
}

// Public says whether the client has no secret.
func (c *Client) Public() bool { return c.IsPublic }

// TokenExchange is what a client may exchange tokens for.
type TokenExchange struct {
	// SubjectClients are the clients whose tokens it may exchange; its own it always may.
	SubjectClients []string `json:"subject_clients,omitempty"`
	// ActorClients are the clients whose tokens it may present as those who act; its own it always may.
	ActorClients []string `json:"actor_clients,omitempty"`
	// Modes are how it may speak with others' tokens: ExchangeImpersonation, ExchangeDelegation; empty: the latter.
	Modes []string `json:"modes,omitempty"`
	// Scopes of apis that it may gain, though the token that it exchanges does not allow them.
	Scopes []string `json:"scopes,omitempty"`
}

// The modes of a token exchange (RFC 8693 section 1.1).
const (
	ExchangeImpersonation = "impersonation" // the new token says nothing of the client: it is as the person themselves
	ExchangeDelegation    = "delegation"    // the new token says who acts for the person
)

var exchangeModes = []string{ExchangeImpersonation, ExchangeDelegation}

// Exchange is what the client may exchange; the zero value is tokens of its own for what says less.
func (c *Client) Exchange() TokenExchange {
	if c.TokenExchange == nil {
		return TokenExchange{}
	}
	return *c.TokenExchange
}

// Allows says whether tokens of others may be exchanged in a mode.
func (t TokenExchange) Allows(mode string) bool {
	if len(t.Modes) == 0 {
		return mode == ExchangeDelegation
	}
	return slices.Contains(t.Modes, mode)
}

// fillIn sets what a registration may leave out. A resource server that names no grant type is no app, and uses none.
func (c *Client) fillIn() {
	if len(c.GrantTypes) == 0 && len(c.ResourceServerOf) == 0 {
		c.GrantTypes = defaultGrants
	}
}

// Allows says whether the client is registered for a grant type.
func (c *Client) Allows(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// AllowsConnector says whether people may sign in to the client with a connector.
func (c *Client) AllowsConnector(name string) bool {
	return len(c.Connectors) == 0 || slices.Contains(c.Connectors, name)
}

// AllowsAuth says whether the client may authenticate in this way.
func (c *Client) AllowsAuth(method string) bool {
	switch {
	case c.IsPublic:
		return method == AuthNone
	case c.AuthMethod != "":
		return method == c.AuthMethod
	}
	return method == AuthBasic || method == AuthPost
}

// UsesSecret says whether the client authenticates with a secret.
func (c *Client) UsesSecret() bool {
	return !c.IsPublic && (c.AuthMethod == "" || slices.Contains(secretMethods, c.AuthMethod))
}

// Keys are where the client's public keys are.
func (c *Client) Keys() keyset.Source { return keyset.Source{JWKS: c.JWKS, URI: c.JWKSURI} }

// HearsOfLogout says whether the client is told when a session ends that people signed in to it with.
func (c *Client) HearsOfLogout() bool {
	return c.BackchannelLogoutURI != "" || c.FrontchannelLogoutURI != ""
}

// SigningAlg signs the client's ID tokens (OpenID Connect Core section 2: RS256 unless registered otherwise).
func (c *Client) SigningAlg() string {
	if c.IDTokenAlg == "" {
		return "RS256"
	}
	return c.IDTokenAlg
}

// CheckSecret says whether secret is one of the client's live ones. Each is compared in constant time.
func (c *Client) CheckSecret(h Hasher, secret string, now time.Time) bool {
	matched := false
	for _, s := range c.Secrets {
		if (s.Expires.IsZero() || now.Before(s.Expires)) && h.SecretMatches(s.Hash, secret) {
			matched = true
		}
	}
	return matched
}

// Validate says what is wrong with a client: every field that is, by its name and with what is allowed.
func (c *Client) Validate() error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fieldError(field, format, args...))
	}
	oneOf := func(field, value string, allowed []string) {
		if value != "" && !slices.Contains(allowed, value) {
			bad(field, "%q is none of %s", value, choices(allowed))
		}
	}
	if !readable(c.Name, MaxName) {
		bad("name", "1 to %d printable bytes are needed: people read it when they sign in", MaxName)
	}
	for field, value := range map[string]string{
		"website": c.Website, "logo_uri": c.LogoURI, "policy_uri": c.PolicyURI, "tos_uri": c.TosURI,
	} {
		if err := checkPage(value, field == "logo_uri"); err != nil {
			bad(field, "%q: %w", value, err)
		}
	}
	if c.IsPublic && c.PKCEOptional {
		bad("pkce", "a public client has nothing but PKCE to prove that a code is its own (RFC 9700 section 2.1.1)")
	}
	if c.FirstParty && !c.Verified() {
		bad("first_party", "the app registered itself; look at it, say that it is verified, and then that it is your own")
	}
	if c.IsPublic && c.AuthMethod != "" {
		bad("token_endpoint_auth_method", "a public client has none")
	}
	oneOf("token_endpoint_auth_method", c.AuthMethod, authMethods)
	oneOf("id_token_signed_response_alg", c.IDTokenAlg, signingAlgs)
	oneOf("userinfo_signed_response_alg", c.UserinfoAlg, signingAlgs)
	c.checkKeys(bad, oneOf)
	c.checkRequests(bad, oneOf)
	c.checkLogout(bad)
	c.checkProfile(bad)
	c.checkApplication(bad, oneOf)
	oneOf("access_token_format", c.AccessTokenFormat, tokenFormats)
	if c.Allows(GrantAuthorizationCode) && len(c.RedirectURIs) == 0 {
		bad("redirect_uris", "at least one is needed for the grant type authorization_code")
	}
	for field, uris := range map[string][]string{"redirect_uris": c.RedirectURIs, "post_logout_redirect_uris": c.PostLogoutRedirectURIs} {
		if len(uris) > maxURIs {
			bad(field, "%d are more than %d", len(uris), maxURIs)
		}
		for i, uri := range uris {
			if err := checkRedirectURI(uri); err != nil {
				bad(at(field, i), "%q: %w", uri, err)
			}
		}
	}
	if len(c.GrantTypes) == 0 && len(c.ResourceServerOf) == 0 {
		bad("grant_types", "at least one of %s is needed", choices(grantTypes))
	}
	for i, grant := range c.GrantTypes {
		oneOf(at("grant_types", i), grant, grantTypes)
	}
	if c.Allows(GrantRefreshToken) && !c.Allows(GrantAuthorizationCode) && !c.Allows(GrantPassword) && !c.Allows(GrantDeviceCode) {
		bad("grant_types", "refresh_token alone gives no first token; add the grant type that does")
	}
	if c.IsPublic {
		// What these give depends on who asks, so that who asks has to be sure (RFC 6749 sections 4.3, 4.4, RFC 8693 section 5, RFC 7523 section 3.1).
		for _, grant := range []string{GrantClientCredentials, GrantPassword, GrantTokenExchange, GrantJWTBearer} {
			if c.Allows(grant) {
				bad("grant_types", "%s is for confidential clients", grant)
			}
		}
	}
	if len(c.Scopes) == 0 && len(c.GrantTypes) > 0 || len(c.Scopes) > maxItems {
		bad("scopes", "1 to %d are needed", maxItems)
	}
	if len(c.ResourceServerOf) > maxItems {
		bad("resource_server_of", "%d are more than %d", len(c.ResourceServerOf), maxItems)
	}
	for i, identifier := range c.ResourceServerOf {
		if err := CheckIdentifier(identifier); err != nil {
			bad(at("resource_server_of", i), "%q: %w", identifier, err)
		}
	}
	c.checkExchange(bad, oneOf)
	if len(c.ResourceServerOf) > 0 && c.IsPublic {
		bad("resource_server_of", "a public client cannot introspect: whoever knows its id could")
	}
	for i, scope := range c.Scopes {
		if !IsScope(scope) {
			bad(at("scopes", i), "%q is not a scope (RFC 6749 section 3.3)", scope)
		}
	}
	if len(c.Connectors) > maxItems {
		bad("connectors", "%d are more than %d", len(c.Connectors), maxItems)
	}
	for field, limit := range map[string]struct {
		seconds int64
		most    time.Duration
	}{
		"access_token_lifetime": {c.AccessTokenTTL, maxAccessLifetime},
		"refresh_idle_lifetime": {c.RefreshIdleTTL, maxLifetime},
		"refresh_lifetime":      {c.RefreshTTL, maxLifetime},
	} {
		if limit.seconds < 0 || time.Duration(limit.seconds) > limit.most/time.Second {
			bad(field, "%d seconds are not between 0 and %d", limit.seconds, int64(limit.most/time.Second))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// at names one item of a field's list.
func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// GrantTypes are those that a client can be registered for, whether they are on or not.
func GrantTypes() []string { return slices.Clone(grantTypes) }

// checkPage checks a URL that people are shown or browsers load.
func checkPage(raw string, imageOnly bool) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || len(raw) > maxURI:
		return errors.New("it is not a web address")
	case u.Scheme == "https", u.Scheme == "http" && !imageOnly:
		return nil
	}
	return errors.New("it must be https")
}
