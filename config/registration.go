package config

// The modes of Registration and ClientIDMetadata.
const (
	ModeOff       = "off"
	ModeToken     = "token"     // registration: with an initial access token
	ModeOpen      = "open"      // everybody
	ModeAllowlist = "allowlist" // client_id_metadata: the hosts that are listed
)

// Registration is whether clients may register themselves (RFC 7591), and what they may have. Scopes, GrantTypes and
// AuthorizationDetailsTypes hold for clients of ClientIDMetadata too.
type Registration struct {
	Mode                string               `yaml:"mode"` // ModeOff, ModeToken or ModeOpen
	InitialAccessTokens []InitialAccessToken `yaml:"initial_access_tokens,omitempty"`
	MaxPerHour          int                  `yaml:"max_per_hour"` // from one address
	Scopes              []string             `yaml:"scopes"`
	GrantTypes          []string             `yaml:"grant_types"`
	// AuthorizationDetailsTypes that they may ask for (RFC 9396): none unless they are named.
	AuthorizationDetailsTypes []string `yaml:"authorization_details_types,omitempty"`
	// TrustRedirectURIs has errors and sign-outs take the browser to them without the person's word (RFC 9700 section 4.11.2).
	TrustRedirectURIs bool              `yaml:"trust_redirect_uris,omitempty"`
	PKCE              string            `yaml:"pkce"`            // required or optional, for confidential clients
	UnusedLifetime    Duration          `yaml:"unused_lifetime"` // how long a client that nobody uses is kept; 0: for ever
	SoftwareStatement SoftwareStatement `yaml:"software_statement,omitempty"`
}

// InitialAccessToken is a token that permits to register (RFC 7591 section 3). Secret is set, whichever of the two was given.
type InitialAccessToken struct {
	Secret Secret `yaml:"secret,omitempty"`
	File   string `yaml:"file,omitempty" secret:"secret"` // holds the token
}

// SoftwareStatement is about signed statements on the software that registers (RFC 7591 section 2.3).
type SoftwareStatement struct {
	Required bool              `yaml:"required,omitempty"`
	Issuers  []StatementIssuer `yaml:"issuers,omitempty"` // whose statements are believed
}

// StatementIssuer is one who signs software statements, and its keys: JWKS, the text of a JWK Set, or where they are.
type StatementIssuer struct {
	Issuer   string `yaml:"issuer"` // as in the statement's iss
	JWKS     Secret `yaml:"jwks,omitempty"`
	JWKSFile string `yaml:"jwks_file,omitempty" secret:"jwks"` // instead of JWKS
	JWKSURI  string `yaml:"jwks_uri,omitempty"`
}

// ClientIDMetadata is whether a client may be known by the address of its metadata (draft-ietf-oauth-client-id-metadata-document).
type ClientIDMetadata struct {
	Mode  string   `yaml:"mode"`            // ModeOff, ModeAllowlist or ModeOpen
	Hosts []string `yaml:"hosts,omitempty"` // of ModeAllowlist, each with its port where it is not 443
}
