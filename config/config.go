package config

import (
	"net/netip"
	"strings"
)

// Config is the whole configuration. The zero value is not valid; see [Default]. It is plain data: reading it from
// several goroutines is safe, changing it is the caller's business.
type Config struct {
	// Issuer is the broker's public URL, as it stands in tokens and metadata (OpenID Connect Discovery section 3): https, or
	// http on a loopback address; no path, query, fragment or trailing slash.
	Issuer string `yaml:"issuer"`
	// Listen is host:port to accept connections at.
	Listen string `yaml:"listen"`
	TLS    TLS    `yaml:"tls,omitempty"`
	// TrustedProxies are addresses and CIDRs whose X-Forwarded-* headers are believed; see TrustedProxyPrefixes.
	TrustedProxies []string `yaml:"trusted_proxies,omitempty"`
	MTLS           MTLS     `yaml:"mtls"`
	Store          Store    `yaml:"store"`
	// Keyring are the secrets that all keys derive from or are sealed under. The first makes what is new, all of them
	// read. At most MaxKeyringSecrets.
	Keyring []KeyringEntry `yaml:"keyring,omitempty"`
	// KeyringFile holds the secret if Keyring is empty, and is made, readable by the owner alone, where it does not exist. Empty
	// if Keyring is not.
	KeyringFile string      `yaml:"keyring_file,omitempty"`
	Linking     Linking     `yaml:"linking"`
	Connectors  []Connector `yaml:"connectors"` // in the order of the sign-in page
	Clients     []Client    `yaml:"clients,omitempty"`
	APIs        []API       `yaml:"apis,omitempty"`
	ForwardAuth ForwardAuth `yaml:"forward_auth,omitempty"`
	// TrustedIssuers are those whose assertions give tokens for people (RFC 7523). Without any the grant type jwt-bearer is off.
	TrustedIssuers []TrustedIssuer `yaml:"trusted_issuers,omitempty"`
	Accounts       []Account       `yaml:"accounts,omitempty"`
	// Registration is about clients that register themselves, ClientIDMetadata about those that nobody registers.
	Registration     Registration     `yaml:"registration"`
	ClientIDMetadata ClientIDMetadata `yaml:"client_id_metadata"`
	// GrantTypes are those that are on. A client needs to be registered for each that it uses, all the same.
	GrantTypes []string `yaml:"grant_types"`
	Tokens     Tokens   `yaml:"tokens"`
	Sessions   Sessions `yaml:"sessions"`
	// Passwords is about local accounts'.
	Passwords Passwords `yaml:"passwords"`
	// UnprovenPerMinute bounds what one address can have kept, or fetched, in the names of apps that show nothing of who they are.
	UnprovenPerMinute int `yaml:"unproven_per_minute,omitempty"`
	// RequirePushedAuthorizationRequests takes authorization requests that were pushed alone, from every client (RFC 9126 section 5).
	RequirePushedAuthorizationRequests bool `yaml:"require_pushed_authorization_requests,omitempty"`
	// SessionManagement switches on check_session_iframe, session_state, and the cookie that they need.
	SessionManagement bool `yaml:"session_management,omitempty"`
	// FlowLifetime is how long one sign-in may take, from the app and back to it.
	FlowLifetime Duration `yaml:"flow_lifetime"`
	Device       Device   `yaml:"device"`
	Signing      Signing  `yaml:"signing"`
	Upstream     Upstream `yaml:"upstream"`
	Fetch        Fetch    `yaml:"fetch,omitempty"`
	Sandbox      Sandbox  `yaml:"sandbox,omitempty"`
	Log          Log      `yaml:"log"`
	HTTP         HTTP     `yaml:"http"`
	Brand        Brand    `yaml:"brand"`
}

// TLS is the certificate to serve with: both files or neither. Without them the broker speaks plain HTTP, for a proxy in
// front of it that ends TLS.
type TLS struct {
	CertFile string `yaml:"cert_file,omitempty"` // PEM, the leaf first; read again when it changes
	KeyFile  string `yaml:"key_file,omitempty"`  // PEM
}

// The modes of MTLS.
const (
	MTLSOff   = "off"
	MTLSTLS   = "tls"   // the broker's own TLS asks for certificates
	MTLSProxy = "proxy" // a trusted proxy's does, and passes them on
)

// MTLS is about certificates of clients (RFC 8705), for tls_client_auth, self_signed_tls_client_auth and certificate-bound tokens.
type MTLS struct {
	Mode   string `yaml:"mode"`
	Header string `yaml:"header,omitempty"`  // proxy: where the certificate is; empty in other modes
	CAFile string `yaml:"ca_file,omitempty"` // PEM: who issues the certificates of tls_client_auth; empty: that method is off
	URL    string `yaml:"url,omitempty"`     // of the endpoints that ask for certificates, if not the issuer: scheme and host
	Listen string `yaml:"listen,omitempty"`  // tls: host:port of a listener of their own; empty: Listen asks everybody
	// The certificate of that listener, as in TLS; empty: the one of TLS.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
}

// The types of store.
const (
	StoreSQLite  = "sqlite"
	StoreMongoDB = "mongodb"
)

// Store is where everything is kept. The keys of the other type are empty.
type Store struct {
	Type string `yaml:"type"` // StoreSQLite or StoreMongoDB

	Path        string `yaml:"path,omitempty"`        // sqlite: the database's file
	Synchronous string `yaml:"synchronous,omitempty"` // sqlite: full (survives power loss) or normal (survives kill -9)

	URI      Secret `yaml:"uri,omitempty"`                   // mongodb: connection string; it may hold a password
	URIFile  string `yaml:"uri_file,omitempty" secret:"uri"` // instead of URI
	Database string `yaml:"database,omitempty"`              // mongodb: the database's name
}

// KeyringEntry is one secret of the keyring, of MinKeyringSecretBytes to MaxKeyringSecretBytes. Secret is set, whichever of
// the two was given.
type KeyringEntry struct {
	Secret Secret `yaml:"secret,omitempty"`
	File   string `yaml:"file,omitempty" secret:"secret"` // holds the secret
}

// Linking is what happens when a person comes with an identity that is new, and a verified email that an account has.
type Linking string

// The linking policies.
const (
	LinkAsk      Linking = "ask"      // the person is asked, and proves the account by signing in to it
	LinkVerified Linking = "verified" // an email that both sides have verified links by itself
	LinkNever    Linking = "never"    // every identity is an account of its own
)

// The types of connector.
const (
	ConnectorGoogle   = "google"
	ConnectorFacebook = "facebook"
	ConnectorGitHub   = "github"
	ConnectorOIDC     = "oidc"
	ConnectorFixed    = "fixed"
)

// Connector is one upstream provider. Keys that do not belong to the type are empty. One of the sandbox's
// has no credentials; see [Config.UsesSandbox].
type Connector struct {
	Name             string   `yaml:"name"`                   // 1 to 32 of a-z, 0-9 and -; part of the callback's URL and of every identity
	Type             string   `yaml:"type"`                   // ConnectorGoogle …
	DisplayName      string   `yaml:"display_name,omitempty"` // on the sign-in page; empty: the provider's own
	ClientID         string   `yaml:"client_id,omitempty"`
	ClientSecret     Secret   `yaml:"client_secret,omitempty"`
	ClientSecretFile string   `yaml:"client_secret_file,omitempty" secret:"client_secret"` // instead of ClientSecret
	Scopes           []string `yaml:"scopes,omitempty"`                                    // instead of the type's own
	Timeout          Duration `yaml:"timeout,omitempty"`                                   // 0: Upstream.Timeout

	Issuer        string   `yaml:"issuer,omitempty"`         // oidc; google: of a simulator
	TrustEmail    bool     `yaml:"trust_email,omitempty"`    // oidc, and github on a host of one's own: email_verified proves ownership
	UserInfo      bool     `yaml:"userinfo,omitempty"`       // oidc: read userinfo for what the ID token lacks
	MFAACRValues  []string `yaml:"mfa_acr_values,omitempty"` // oidc: acr values of the provider's that mean more than one factor
	AuthStyle     string   `yaml:"auth_style,omitempty"`     // oidc: basic, post, none; empty: what its metadata say
	HostedDomains []string `yaml:"hosted_domains,omitempty"` // google: Workspace domains that may sign in

	BaseURL string `yaml:"base_url,omitempty"` // github: of an Enterprise Server
	APIURL  string `yaml:"api_url,omitempty"`  // github: its REST API

	GraphURL     string `yaml:"graph_url,omitempty"`     // facebook: https://graph.facebook.com
	DialogURL    string `yaml:"dialog_url,omitempty"`    // facebook: https://www.facebook.com
	GraphVersion string `yaml:"graph_version,omitempty"` // facebook: such as v26.0

	// InsecureSignsEveryoneIn has to be true for a fixed connector: whoever gets to it is signed in as Profile, without a password and without a
	// question. It is for test runs that nobody watches.
	InsecureSignsEveryoneIn bool          `yaml:"insecure_signs_everyone_in,omitempty"`
	Profile                 FixedIdentity `yaml:"profile,omitempty"` // fixed: who that is

	// Sandbox says that the provider is the sandbox's, whatever credentials of a real one are given (google, facebook,
	// github). It is true as well where a sandbox is configured and no client_id is given.
	Sandbox bool `yaml:"sandbox,omitempty"`
}

// FixedIdentity is whom a fixed connector signs in.
type FixedIdentity struct {
	Subject           string   `yaml:"subject,omitempty"` // 1 to 255 printable ASCII characters
	PreferredUsername string   `yaml:"preferred_username,omitempty"`
	AMR               []string `yaml:"amr,omitempty"` // RFC 8176
	Person            `yaml:",inline"`
}

// Person is what is known of somebody, in the words of OpenID Connect Core section 5.1.
type Person struct {
	Email         string `yaml:"email,omitempty"`
	EmailVerified bool   `yaml:"email_verified,omitempty"`
	Name          string `yaml:"name,omitempty"`
	GivenName     string `yaml:"given_name,omitempty"`
	FamilyName    string `yaml:"family_name,omitempty"`
	MiddleName    string `yaml:"middle_name,omitempty"`
	Nickname      string `yaml:"nickname,omitempty"`
	Profile       string `yaml:"profile,omitempty"` // https
	Picture       string `yaml:"picture,omitempty"` // https
	Website       string `yaml:"website,omitempty"` // https
	Gender        string `yaml:"gender,omitempty"`
	Birthdate     string `yaml:"birthdate,omitempty"` // YYYY-MM-DD
	Zoneinfo      string `yaml:"zoneinfo,omitempty"`
	Locale        string `yaml:"locale,omitempty"`
}

// Account is a local account of the configuration's. It cannot be changed elsewhere.
type Account struct {
	Username string `yaml:"username"`
	// Aliases are further usernames of the same account, such as its email.
	Aliases          []string `yaml:"aliases,omitempty"`
	Password         Secret   `yaml:"password,omitempty"`
	PasswordFile     string   `yaml:"password_file,omitempty" secret:"password"` // instead of Password
	PasswordHash     Secret   `yaml:"password_hash,omitempty"`                   // instead of either: argon2id, PHC string format
	PasswordHashFile string   `yaml:"password_hash_file,omitempty" secret:"password_hash"`
	// ID is what apps know the account by (sub); empty: it follows from the username.
	ID     string `yaml:"id,omitempty"`
	Person `yaml:",inline"`
}

// Passwords is about local accounts' passwords.
type Passwords struct {
	MinLength  int `yaml:"min_length"` // of new ones, in characters
	Concurrent int `yaml:"concurrent"` // how many may be checked at once; 0: as many as there are cores
}

// Client is an app that is registered by the configuration. It cannot be changed elsewhere.
type Client struct {
	ClientID         string `yaml:"client_id"` // 1 to 100 letters, digits and . _ ~ -
	ClientSecret     Secret `yaml:"client_secret,omitempty"`
	ClientSecretFile string `yaml:"client_secret_file,omitempty" secret:"client_secret"` // instead of ClientSecret
	Public           bool   `yaml:"public,omitempty"`                                    // an app that cannot keep a secret (RFC 6749 section 2.1): it has none

	Name       string `yaml:"name"`                  // on the consent page
	Website    string `yaml:"website,omitempty"`     // the same
	LogoURI    string `yaml:"logo_uri,omitempty"`    // the same
	FirstParty bool   `yaml:"first_party,omitempty"` // the operator's own: people are not asked for consent

	RedirectURIs           []string `yaml:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string `yaml:"post_logout_redirect_uris,omitempty"`
	Scopes                 []string `yaml:"scopes"`               // that it may ask for
	GrantTypes             []string `yaml:"grant_types"`          // that it may use
	Connectors             []string `yaml:"connectors,omitempty"` // its people may sign in with; empty: all

	PKCE                      string   `yaml:"pkce"`                                   // required or optional
	IDTokenSignedResponseAlg  string   `yaml:"id_token_signed_response_alg"`           // RS256, ES256 or EdDSA
	UserinfoSignedResponseAlg string   `yaml:"userinfo_signed_response_alg,omitempty"` // the same; empty: userinfo answers with plain JSON
	AccessTokenFormat         string   `yaml:"access_token_format,omitempty"`          // empty: Tokens.AccessTokenFormat
	AccessTokenLifetime       Duration `yaml:"access_token_lifetime,omitempty"`        // 0: as in Tokens
	RefreshLifetime           Duration `yaml:"refresh_lifetime,omitempty"`             // 0: as in Tokens
	RefreshIdleLifetime       Duration `yaml:"refresh_idle_lifetime,omitempty"`        // 0: as in Tokens

	// How it authenticates (RFC 7591 section 2, RFC 8705 section 2). JWKS is the text of a JWK Set, or in JWKSFile.
	TokenEndpointAuthMethod     string `yaml:"token_endpoint_auth_method,omitempty"` // empty: client_secret_basic or client_secret_post
	TokenEndpointAuthSigningAlg string `yaml:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS                        Secret `yaml:"jwks,omitempty"`
	JWKSFile                    string `yaml:"jwks_file,omitempty" secret:"jwks"` // instead of JWKS
	JWKSURI                     string `yaml:"jwks_uri,omitempty"`
	TLSClientAuthSubjectDN      string `yaml:"tls_client_auth_subject_dn,omitempty"`
	TLSClientAuthSANDNS         string `yaml:"tls_client_auth_san_dns,omitempty"`
	TLSClientAuthSANURI         string `yaml:"tls_client_auth_san_uri,omitempty"`
	TLSClientAuthSANIP          string `yaml:"tls_client_auth_san_ip,omitempty"`
	TLSClientAuthSANEmail       string `yaml:"tls_client_auth_san_email,omitempty"`

	CertificateBoundAccessTokens bool `yaml:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 section 3.4
	DPoPBoundAccessTokens        bool `yaml:"dpop_bound_access_tokens,omitempty"`                   // RFC 9449 section 5.2

	// What its authorization requests must be.
	RequirePushedAuthorizationRequests bool          `yaml:"require_pushed_authorization_requests,omitempty"` // RFC 9126 section 6
	RequireSignedRequestObject         bool          `yaml:"require_signed_request_object,omitempty"`         // RFC 9101 section 10.5
	RequestObjectSigningAlg            string        `yaml:"request_object_signing_alg,omitempty"`
	RequestURIs                        []string      `yaml:"request_uris,omitempty"`
	AuthorizationDetailsTypes          []string      `yaml:"authorization_details_types,omitempty"` // RFC 9396 section 10
	ResourceServerOf                   []string      `yaml:"resource_server_of,omitempty"`          // identifiers of apis whose tokens it may introspect
	TokenExchange                      TokenExchange `yaml:"token_exchange,omitempty"`
	DefaultMaxAge                      Duration      `yaml:"default_max_age,omitempty"` // 0: none
	RequireAuthTime                    bool          `yaml:"require_auth_time,omitempty"`
	DefaultACRValues                   []string      `yaml:"default_acr_values,omitempty"`
	Profile                            string        `yaml:"profile,omitempty"` // fapi2, or empty

	// How it sees people.
	SubjectType                 string `yaml:"subject_type,omitempty"` // public (also if empty) or pairwise
	SectorIdentifierURI         string `yaml:"sector_identifier_uri,omitempty"`
	IDTokenEncryptedResponseAlg string `yaml:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncryptedResponseEnc string `yaml:"id_token_encrypted_response_enc,omitempty"`

	// Where it is told that somebody signed out.
	BackchannelLogoutURI              string `yaml:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSessionRequired  bool   `yaml:"backchannel_logout_session_required,omitempty"`
	FrontchannelLogoutURI             string `yaml:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSessionRequired bool   `yaml:"frontchannel_logout_session_required,omitempty"`

	InitiateLoginURI string   `yaml:"initiate_login_uri,omitempty"`
	Contacts         []string `yaml:"contacts,omitempty"`
	PolicyURI        string   `yaml:"policy_uri,omitempty"`
	TosURI           string   `yaml:"tos_uri,omitempty"`
}

// TokenExchange is what a client may exchange tokens for, besides its own for some that say less (RFC 8693).
type TokenExchange struct {
	SubjectClients []string `yaml:"subject_clients,omitempty"` // client_ids whose tokens it may exchange
	ActorClients   []string `yaml:"actor_clients,omitempty"`   // client_ids whose tokens it may present as those who act
	Modes          []string `yaml:"modes,omitempty"`           // impersonation, delegation; empty: delegation
	Scopes         []string `yaml:"scopes,omitempty"`          // of apis, that it may gain
}

// UsesSecret says whether the client authenticates with a client_secret.
func (c *Client) UsesSecret() bool {
	switch c.TokenEndpointAuthMethod {
	case "", "client_secret_basic", "client_secret_post", "client_secret_jwt":
		return !c.Public
	}
	return false
}

// The values of a TrustedIssuer's Subject.
const (
	SubjectAccount  = "account"  // sub is the id of an account
	SubjectIdentity = "identity" // sub is what the connector knows a person by
)

// TrustedIssuer is somebody whose word for a person is taken (RFC 7523 section 2.1).
type TrustedIssuer struct {
	Issuer    string   `yaml:"issuer"` // iss of its assertions
	JWKS      Secret   `yaml:"jwks,omitempty"`
	JWKSFile  string   `yaml:"jwks_file,omitempty" secret:"jwks"` // instead of JWKS
	JWKSURI   string   `yaml:"jwks_uri,omitempty"`
	Audiences []string `yaml:"audiences,omitempty"` // what aud may be, besides the issuer and the token endpoint of the broker
	Clients   []string `yaml:"clients"`             // client_ids of those who may present its assertions
	Scopes    []string `yaml:"scopes"`              // the most that they get
	Subject   string   `yaml:"subject"`             // SubjectAccount or SubjectIdentity
	Connector string   `yaml:"connector,omitempty"` // identity: through which its people sign in
}

// ForwardAuth is about the endpoint that reverse proxies ask before they pass a request on.
type ForwardAuth struct {
	// AnyHost takes a request to any host, for the api that has an endpoint for it; for development.
	AnyHost bool `yaml:"any_host,omitempty"`
}

// Fetch is about calls to addresses that others choose: a client's keys, request objects, logout URIs.
type Fetch struct {
	AllowPrivate bool   `yaml:"allow_private,omitempty"` // http, and addresses of private networks and of this machine
	CAFile       string `yaml:"ca_file,omitempty"`       // PEM: certificate authorities to trust besides the system's
}

// Tokens bounds what apps are given.
type Tokens struct {
	AccessTokenLifetime Duration `yaml:"access_token_lifetime"`
	AccessTokenFormat   string   `yaml:"access_token_format"` // opaque or jwt (RFC 9068)
	IDTokenLifetime     Duration `yaml:"id_token_lifetime"`
	CodeLifetime        Duration `yaml:"code_lifetime"`         // at most 10 minutes (RFC 6749 section 4.1.2)
	RefreshLifetime     Duration `yaml:"refresh_lifetime"`      // since the sign-in; 0: for ever
	RefreshIdleLifetime Duration `yaml:"refresh_idle_lifetime"` // since the last use; 0: for ever
	RefreshGrace        Duration `yaml:"refresh_grace"`         // how long the previous refresh token still works; 0: not at all
	DPoPNonce           string   `yaml:"dpop_nonce"`            // off, or required: DPoP proofs need a nonce of the broker's (RFC 9449 section 8)
}

// Sessions bounds how long a browser stays signed in at the broker.
type Sessions struct {
	Lifetime     Duration `yaml:"lifetime"`      // since the sign-in
	IdleLifetime Duration `yaml:"idle_lifetime"` // since the last use; 0: no limit
}

// Device is about devices that a person connects with a code (RFC 8628).
type Device struct {
	Lifetime Duration `yaml:"lifetime"` // of a code
	Interval Duration `yaml:"interval"` // between two polls of a device; whole seconds
}

// Signing is about the keys that sign tokens.
type Signing struct {
	RotateEvery Duration `yaml:"rotate_every"` // 0: only when told to
}

// Upstream is about calls to providers.
type Upstream struct {
	Timeout Duration `yaml:"timeout"` // all calls of one step together
}

// Sandbox are the simulated providers, for development: anybody can sign in as anybody. Permitted only where the issuer is
// http on a loopback address.
type Sandbox struct {
	Listen string `yaml:"listen,omitempty"` // host:port; empty: no sandbox
	URL    string `yaml:"url,omitempty"`    // where browsers and the broker reach it: scheme and host; set whenever Listen is
	Auto   string `yaml:"auto,omitempty"`   // the persona who signs in without a page; empty: the page
}

// Log is about the log, which goes to standard error.
type Log struct {
	Level  Level  `yaml:"level"`
	Format string `yaml:"format"` // json or text
}

// HTTP is about the broker's server.
type HTTP struct {
	ShutdownDrain Duration `yaml:"shutdown_drain"` // how long to go on accepting after readiness says no; 0: not at all
	ShutdownGrace Duration `yaml:"shutdown_grace"` // how long requests under way then have
}

// Brand is what the pages show of whoever runs the broker.
type Brand struct {
	Name       string `yaml:"name"`
	LogoURL    string `yaml:"logo_url,omitempty"`    // https, or a data: image
	SupportURL string `yaml:"support_url,omitempty"` // http, https or mailto
}

// UsesSandbox says whether the connector is one of the sandbox's: a sandbox is configured, and the connector asks for it
// or has no client_id of a real provider.
func (c *Config) UsesSandbox(connector Connector) bool {
	return c.Sandbox.Listen != "" && sandboxed(connector.Type) && (connector.Sandbox || connector.ClientID == "")
}

// TrustedProxyPrefixes are TrustedProxies, parsed; an address is a prefix of its full length. What does not parse is left
// out: Validate reports it.
func (c *Config) TrustedProxyPrefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range c.TrustedProxies {
		if p, err := parseProxy(s); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func parseProxy(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
}

func sandboxed(kind string) bool {
	return kind == ConnectorGoogle || kind == ConnectorFacebook || kind == ConnectorGitHub
}
