package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/dpop"
)

// metadata is OpenID Connect Discovery section 3 and RFC 8414 section 2. Every line is something that works; what is
// not there does not.
type metadata struct {
	Issuer                  string   `json:"issuer"`
	AuthorizationEndpoint   string   `json:"authorization_endpoint,omitempty"` // RFC 8414 section 2: not where no grant type uses it
	TokenEndpoint           string   `json:"token_endpoint"`
	UserinfoEndpoint        string   `json:"userinfo_endpoint"`
	JWKSURI                 string   `json:"jwks_uri"`
	IntrospectionEndpoint   string   `json:"introspection_endpoint"`
	RevocationEndpoint      string   `json:"revocation_endpoint"`
	EndSessionEndpoint      string   `json:"end_session_endpoint"`
	DeviceAuthorization     string   `json:"device_authorization_endpoint,omitempty"` // RFC 8628 section 4
	Scopes                  []string `json:"scopes_supported"`
	ResponseTypes           []string `json:"response_types_supported"`
	ResponseModes           []string `json:"response_modes_supported"`
	GrantTypes              []string `json:"grant_types_supported"`
	Subjects                []string `json:"subject_types_supported"`
	IDTokenAlgs             []string `json:"id_token_signing_alg_values_supported"`
	IDTokenEncAlgs          []string `json:"id_token_encryption_alg_values_supported"`
	IDTokenEncEncs          []string `json:"id_token_encryption_enc_values_supported"`
	UserinfoAlgs            []string `json:"userinfo_signing_alg_values_supported"`
	TokenAuth               []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs           []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth          []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs      []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuth       []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAuthAlgs   []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	CodeChallengeMethods    []string `json:"code_challenge_methods_supported"`
	Prompts                 []string `json:"prompt_values_supported"`
	ACRValues               []string `json:"acr_values_supported"`
	ClaimTypes              []string `json:"claim_types_supported"`
	Claims                  []string `json:"claims_supported"`
	DetailsTypes            []string `json:"authorization_details_types_supported,omitempty"` // RFC 9396 section 10
	ClaimsParameter         bool     `json:"claims_parameter_supported"`
	RequestParameter        bool     `json:"request_parameter_supported"`
	RequestURIParameter     bool     `json:"request_uri_parameter_supported"`
	IssOnAuthorizeResponses bool     `json:"authorization_response_iss_parameter_supported"`       // RFC 9207 section 3
	DPoPAlgs                []string `json:"dpop_signing_alg_values_supported"`                    // RFC 9449 section 5.1
	CertificateBound        bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 section 3.3
	// MTLSAliases are where clients with a certificate call (RFC 8705 section 5).
	MTLSAliases map[string]string `json:"mtls_endpoint_aliases,omitempty"`
	// What pushed requests and request objects need (RFC 9126 section 5, RFC 9101 section 10.5, OpenID Connect Discovery section 3).
	PushEndpoint       string   `json:"pushed_authorization_request_endpoint,omitempty"`
	RequirePush        bool     `json:"require_pushed_authorization_requests"`
	RequireRequestURIs bool     `json:"require_request_uri_registration"`
	RequestObjectAlgs  []string `json:"request_object_signing_alg_values_supported"`

	ServiceDocumentation string `json:"service_documentation,omitempty"`
	logoutMetadata
	registrationMetadata
}

func (s *Server) metadata() metadata {
	scopes := append(slices.Collect(maps.Keys(s.policy.scopes)), s.policy.apis.Scopes()...)
	slices.Sort(scopes)
	grants := make([]string, 0, len(s.redeemers))
	for name := range s.redeemers {
		grants = append(grants, name)
	}
	slices.Sort(grants)
	everyone := s.authMethodNames(true)
	algs := append(keyset.Algorithms(), algHS256)
	m := metadata{
		logoutMetadata:          s.logoutMetadata(),
		registrationMetadata:    s.registrationMetadata(),
		Issuer:                  s.issuer,
		TokenEndpoint:           s.issuer + PathToken,
		UserinfoEndpoint:        s.issuer + PathUserinfo,
		JWKSURI:                 s.issuer + PathJWKS,
		IntrospectionEndpoint:   s.issuer + PathIntrospect,
		RevocationEndpoint:      s.issuer + PathRevoke,
		EndSessionEndpoint:      s.issuer + PathLogout,
		Scopes:                  scopes,
		ResponseTypes:           []string{},
		ResponseModes:           responseModes,
		GrantTypes:              grants,
		Subjects:                []string{registry.SubjectPublic, registry.SubjectPairwise},
		IDTokenAlgs:             s.signingAlgs,
		IDTokenEncAlgs:          registry.KeyEncryptionAlgorithms(),
		IDTokenEncEncs:          registry.ContentEncryptions(),
		UserinfoAlgs:            s.signingAlgs,
		TokenAuth:               everyone,
		TokenAuthAlgs:           algs,
		RevocationAuth:          everyone,
		RevocationAuthAlgs:      algs,
		IntrospectionAuth:       s.authMethodNames(false),
		IntrospectionAuthAlgs:   algs,
		CodeChallengeMethods:    []string{"S256"},
		Prompts:                 prompts,
		ACRValues:               acrSupported,
		ClaimTypes:              []string{"normal"},
		Claims:                  supportedClaims,
		DetailsTypes:            s.policy.apis.DetailsTypes(),
		ClaimsParameter:         true,
		RequestParameter:        true,
		RequestURIParameter:     true,
		RequireRequestURIs:      true,
		RequestObjectAlgs:       keyset.Algorithms(),
		RequirePush:             s.requirePAR,
		IssOnAuthorizeResponses: true,
		DPoPAlgs:                dpop.Algorithms(),
		CertificateBound:        s.mtls.On,
	}
	if s.offers(registry.GrantAuthorizationCode) {
		m.AuthorizationEndpoint, m.PushEndpoint = s.issuer+PathAuthorize, s.issuer+PathPush
		m.ResponseTypes = append(m.ResponseTypes, "code")
	}
	if s.offers(registry.GrantDeviceCode) {
		m.DeviceAuthorization = s.issuer + PathDeviceAuthorization
	}
	m.MTLSAliases = s.aliases(&m)
	return m
}

var supportedClaims = []string{
	"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "acr", "amr", "sid",
	"name", "given_name", "family_name", "preferred_username", "picture", "locale", "updated_at",
	"middle_name", "nickname", "profile", "website", "gender", "birthdate", "zoneinfo",
	"email", "email_verified",
}

// How long others may keep what is published. Keys are published ahead of their first use by longer than this.
const (
	metadataMaxAge = time.Hour
	jwksMaxAge     = 5 * time.Minute
)

// document is a metadata document as it is sent, of one generation of the apis.
type document struct {
	generation uint64
	body       []byte
	etag       string
}

func (s *Server) document() (*document, error) {
	d := &document{generation: s.policy.apis.Generation()} // before they are read: what is read may be newer, and then is made once more
	body, err := json.Marshal(s.metadata())
	if err != nil {
		return nil, err
	}
	d.body, d.etag = body, etagOf(body)
	return d, nil
}

// metadataHandler serves a document that changes with the apis alone.
func (s *Server) metadataHandler() (http.HandlerFunc, error) {
	first, err := s.document()
	if err != nil {
		return nil, err
	}
	var current atomic.Pointer[document]
	current.Store(first)
	return func(w http.ResponseWriter, r *http.Request) {
		d := current.Load()
		if d.generation != s.policy.apis.Generation() {
			fresh, err := s.document()
			if err != nil {
				s.writeError(w, r, internal(err))
				return
			}
			current.Store(fresh)
			d = fresh
		}
		serveDocument(w, r, typeJSON, d.body, d.etag, metadataMaxAge)
	}, nil
}

func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

const typeJSON = "application/json"

func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	body, etag := s.keys.JWKS()
	serveDocument(w, r, typeJSON, body, etag, jwksMaxAge)
}

func serveDocument(w http.ResponseWriter, r *http.Request, contentType string, body []byte, etag string, maxAge time.Duration) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(maxAge/time.Second)))
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // The only error is a client that hung up.
}
