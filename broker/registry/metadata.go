package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// The kinds of app (OpenID Connect Dynamic Client Registration section 2).
const (
	ApplicationWeb    = "web"
	ApplicationNative = "native"
)

// Metadata is a client's metadata in the words of RFC 7591 section 2, OpenID Connect Dynamic Client Registration section 2 and their
// extensions. Registration, its management, client ID metadata documents and the commands all read and write clients through it. The
// zero value of a field means that it is not there.
type Metadata struct {
	RedirectURIs    []string `json:"redirect_uris,omitempty"`
	ResponseTypes   []string `json:"response_types,omitempty"`
	GrantTypes      []string `json:"grant_types,omitempty"`
	ApplicationType string   `json:"application_type,omitempty"`
	Scope           string   `json:"scope,omitempty"`

	ClientName string   `json:"client_name,omitempty"`
	ClientURI  string   `json:"client_uri,omitempty"`
	LogoURI    string   `json:"logo_uri,omitempty"`
	PolicyURI  string   `json:"policy_uri,omitempty"`
	TosURI     string   `json:"tos_uri,omitempty"`
	Contacts   []string `json:"contacts,omitempty"`

	AuthMethod       string          `json:"token_endpoint_auth_method,omitempty"`
	AuthSigningAlg   string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS             json.RawMessage `json:"jwks,omitempty"`
	JWKSURI          string          `json:"jwks_uri,omitempty"`
	TLSSubjectDN     string          `json:"tls_client_auth_subject_dn,omitempty"`
	TLSSANDNS        string          `json:"tls_client_auth_san_dns,omitempty"`
	TLSSANURI        string          `json:"tls_client_auth_san_uri,omitempty"`
	TLSSANIP         string          `json:"tls_client_auth_san_ip,omitempty"`
	TLSSANEmail      string          `json:"tls_client_auth_san_email,omitempty"`
	CertificateBound bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DPoPBound        bool            `json:"dpop_bound_access_tokens,omitempty"`

	RequirePAR           bool     `json:"require_pushed_authorization_requests,omitempty"`
	RequireSignedRequest bool     `json:"require_signed_request_object,omitempty"`
	RequestSigningAlg    string   `json:"request_object_signing_alg,omitempty"`
	RequestURIs          []string `json:"request_uris,omitempty"`
	DetailsTypes         []string `json:"authorization_details_types,omitempty"`
	DefaultMaxAge        *int64   `json:"default_max_age,omitempty"`
	RequireAuthTime      bool     `json:"require_auth_time,omitempty"`
	DefaultACRValues     []string `json:"default_acr_values,omitempty"`
	InitiateLoginURI     string   `json:"initiate_login_uri,omitempty"`

	IDTokenAlg          string `json:"id_token_signed_response_alg,omitempty"`
	IDTokenEncAlg       string `json:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncEnc       string `json:"id_token_encrypted_response_enc,omitempty"`
	UserinfoAlg         string `json:"userinfo_signed_response_alg,omitempty"`
	SubjectType         string `json:"subject_type,omitempty"`
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`

	PostLogoutRedirectURIs    []string `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI      string   `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSession  bool     `json:"backchannel_logout_session_required,omitempty"`
	FrontchannelLogoutURI     string   `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSession bool     `json:"frontchannel_logout_session_required,omitempty"`

	SoftwareID        string `json:"software_id,omitempty"`
	SoftwareVersion   string `json:"software_version,omitempty"`
	SoftwareStatement string `json:"software_statement,omitempty"`
}

// unsupported are metadata that would change what the client is sent, and that are not built: registering them must fail rather
// than leave a client waiting for what never comes. Whatever else is unknown is passed over (RFC 7591 section 2).
var unsupported = []string{
	"userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc", // OpenID Connect Registration section 2
	"request_object_encryption_alg", "request_object_encryption_enc",
	"authorization_signed_response_alg", "authorization_encrypted_response_alg", "authorization_encrypted_response_enc", // JARM
	"introspection_signed_response_alg", "introspection_encrypted_response_alg", "introspection_encrypted_response_enc", // RFC 9701
}

// responseCode is the one response type there is: what others there were give tokens in URLs (RFC 9700 section 2.1.2).
const responseCode = "code"

const (
	// maxDepth bounds the nesting of a document: keys in a JWK Set are at three, authorization details types at two.
	maxDepth = 8
	// maxMembers bounds the names in one object: all metadata there are, twice.
	maxMembers = 128
	// maxQuoted bounds how much of a bad value an error repeats, in bytes.
	maxQuoted = 200
	// maxStatement bounds a software statement: a signed document of about the size of the one it stands in.
	maxStatement = 8 << 10
)

// FieldError says what is wrong with one field of a client or an api, by its name in the configuration and in documents. The errors within ErrInvalid are of
// this type.
type FieldError struct {
	Field string // such as name or redirect_uris[2]
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap is the error without the field.
func (e *FieldError) Unwrap() error { return e.Err }

// choices are what a value may be, for an error: all of them, however many.
type choices []string

func (c choices) String() string { return strings.Join(c, ", ") }

// fieldError makes one. What strangers sent is repeated in part alone.
func fieldError(field, format string, args ...any) *FieldError {
	for i, arg := range args {
		if s, ok := arg.(string); ok && len(s) > maxQuoted {
			args[i] = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
		}
	}
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// MetadataName is the field's name as metadata have it.
func (e *FieldError) MetadataName() string {
	name, _, _ := strings.Cut(e.Field, "[")
	switch name {
	case "name":
		return "client_name"
	case "website":
		return "client_uri"
	case "scopes":
		return "scope"
	}
	return name
}

// FieldErrors are all FieldErrors within err.
func FieldErrors(err error) []*FieldError {
	var all []*FieldError
	var visit func(err error)
	visit = func(err error) {
		switch e := err.(type) {
		case *FieldError:
			all = append(all, e)
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				visit(inner)
			}
		case interface{ Unwrap() error }:
			visit(e.Unwrap())
		}
	}
	visit(err)
	return all
}

// Document is a JSON object as strangers send it: client metadata, and what travels beside them.
type Document map[string]json.RawMessage

// ParseDocument reads one JSON object that any two readers would read the same way: no name is twice in any object of it. ErrInvalid if it
// is none.
func ParseDocument(raw []byte) (Document, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more follows after the JSON document", ErrInvalid)
	}
	var document Document
	if err := json.Unmarshal(raw, &document); err != nil || document == nil {
		return nil, fmt.Errorf("%w: it is not a JSON object", ErrInvalid)
	}
	return document, nil
}

// Has says whether the document has a member of this name that is not null, which is as if it were not there (RFC 7592 section 2.2).
func (d Document) Has(name string) bool {
	value, there := d[name]
	return there && string(value) != "null"
}

// Text is the string of this name, "" if there is none. ErrInvalid if it is no string.
func (d Document) Text(name string) (string, error) {
	var text string
	if !d.Has(name) {
		return "", nil
	}
	if err := json.Unmarshal(d[name], &text); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, fieldError(name, "it is not a string"))
	}
	return text, nil
}

// Override puts the members of another document over those of d.
func (d Document) Override(with Document) { maps.Copy(d, with) }

// Metadata are the client metadata in the document. ErrInvalid, with the fields that are wrong, where one is of the wrong type or asks for
// what is not built. The values themselves are checked when they become a client's.
func (d Document) Metadata() (*Metadata, error) {
	var problems []error
	for _, name := range unsupported {
		if d.Has(name) {
			problems = append(problems, fieldError(name, "it is not supported; leave it out"))
		}
	}
	m := new(Metadata)
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		// Names are compared letter for letter, which json.Unmarshal of the whole would not do.
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !d.Has(name) {
			continue
		}
		if err := json.Unmarshal(d[name], v.Field(i).Addr().Interface()); err != nil {
			problems = append(problems, fieldError(name, "it is not %s", jsonKind(v.Field(i).Type())))
		}
	}
	if len(m.SoftwareStatement) > maxStatement {
		problems = append(problems, fieldError("software_statement", "it is longer than %d bytes", maxStatement))
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, errors.Join(problems...))
	}
	return m, nil
}

// jsonKind says what a field wants, to developers.
func jsonKind(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Pointer:
		return "a whole number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "a list of strings"
	}
	return "a string"
}

// checkValue reads one value, and refuses what is nested too deep, too wide, or named twice.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return errors.New("it is not JSON")
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			name, ok := token.(string)
			switch {
			case err != nil || !ok:
				return errors.New("it is not JSON")
			case seen[name]:
				return fieldError(name, "it is there twice")
			case len(seen) == maxMembers:
				return fmt.Errorf("an object of it has more than %d members", maxMembers)
			}
			seen[name] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("it is not JSON")
	}
	return nil
}

// checkResponses checks what a Client does not hold: there is one response type, and it goes with one grant type (RFC 7591 section 2.1).
func (m *Metadata) checkResponses() error {
	for _, responseType := range m.ResponseTypes {
		if responseType != responseCode {
			return fieldError("response_types", "%q is not supported; there is the authorization code flow, %s", responseType, responseCode)
		}
	}
	if len(m.ResponseTypes) > 0 && len(m.GrantTypes) > 0 && !slices.Contains(m.GrantTypes, GrantAuthorizationCode) {
		return fieldError("response_types", "%s needs the grant type %s", responseCode, GrantAuthorizationCode)
	}
	return nil
}

// Set makes the metadata those of the client, all of them: what is not there is taken away. What is no metadata stays. ErrInvalid where
// they ask for another flow than there is; all else is Validate's to check.
func (m *Metadata) Set(c *Client) error {
	if err := m.checkResponses(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.Name, c.Website, c.LogoURI, c.PolicyURI, c.TosURI, c.Contacts = m.ClientName, m.ClientURI, m.LogoURI, m.PolicyURI, m.TosURI, m.Contacts
	c.RedirectURIs, c.PostLogoutRedirectURIs = m.RedirectURIs, m.PostLogoutRedirectURIs
	c.Scopes, c.GrantTypes = strings.Fields(m.Scope), m.GrantTypes
	c.ApplicationType = m.ApplicationType

	c.IsPublic, c.AuthMethod = m.AuthMethod == AuthNone, m.AuthMethod
	if c.IsPublic {
		c.AuthMethod = ""
	}
	c.AuthSigningAlg, c.JWKS, c.JWKSURI = m.AuthSigningAlg, string(m.JWKS), m.JWKSURI
	c.TLSSubjectDN, c.TLSSANDNS, c.TLSSANURI, c.TLSSANIP, c.TLSSANEmail = m.TLSSubjectDN, m.TLSSANDNS, m.TLSSANURI, m.TLSSANIP, m.TLSSANEmail
	c.CertificateBound, c.DPoPBound = m.CertificateBound, m.DPoPBound

	c.RequirePAR, c.RequireSignedRequest, c.RequestSigningAlg, c.RequestURIs = m.RequirePAR, m.RequireSignedRequest, m.RequestSigningAlg, m.RequestURIs
	c.DetailsTypes, c.DefaultMaxAge, c.RequireAuthTime, c.DefaultACRValues = m.DetailsTypes, m.DefaultMaxAge, m.RequireAuthTime, m.DefaultACRValues
	c.InitiateLoginURI = m.InitiateLoginURI

	c.IDTokenAlg, c.IDTokenEncAlg, c.IDTokenEncEnc = m.IDTokenAlg, m.IDTokenEncAlg, m.IDTokenEncEnc
	c.UserinfoAlg = m.UserinfoAlg
	c.SubjectType, c.SectorIdentifierURI = m.SubjectType, m.SectorIdentifierURI
	c.BackchannelLogoutURI, c.BackchannelLogoutSession = m.BackchannelLogoutURI, m.BackchannelLogoutSession
	c.FrontchannelLogoutURI, c.FrontchannelLogoutSession = m.FrontchannelLogoutURI, m.FrontchannelLogoutSession
	c.SoftwareID, c.SoftwareVersion, c.SoftwareStatement = m.SoftwareID, m.SoftwareVersion, m.SoftwareStatement
	return nil
}

// MetadataOf are the client's metadata, with what holds by default said.
func MetadataOf(c *Client) *Metadata {
	m := &Metadata{
		RedirectURIs: c.RedirectURIs, GrantTypes: c.GrantTypes, ApplicationType: c.ApplicationType, Scope: strings.Join(c.Scopes, " "),
		ClientName: c.Name, ClientURI: c.Website, LogoURI: c.LogoURI, PolicyURI: c.PolicyURI, TosURI: c.TosURI, Contacts: c.Contacts,
		AuthMethod: c.AuthMethod, AuthSigningAlg: c.AuthSigningAlg, JWKSURI: c.JWKSURI,
		TLSSubjectDN: c.TLSSubjectDN, TLSSANDNS: c.TLSSANDNS, TLSSANURI: c.TLSSANURI, TLSSANIP: c.TLSSANIP, TLSSANEmail: c.TLSSANEmail,
		CertificateBound: c.CertificateBound, DPoPBound: c.DPoPBound,
		RequirePAR: c.RequirePAR, RequireSignedRequest: c.RequireSignedRequest, RequestSigningAlg: c.RequestSigningAlg, RequestURIs: c.RequestURIs,
		DetailsTypes: c.DetailsTypes, DefaultMaxAge: c.DefaultMaxAge, RequireAuthTime: c.RequireAuthTime, DefaultACRValues: c.DefaultACRValues,
		InitiateLoginURI: c.InitiateLoginURI,
		IDTokenAlg:       c.SigningAlg(), IDTokenEncAlg: c.IDTokenEncAlg, IDTokenEncEnc: c.IDTokenEncEnc,
		UserinfoAlg: c.UserinfoAlg,
		SubjectType: c.SubjectType, SectorIdentifierURI: c.SectorIdentifierURI,
		PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
		BackchannelLogoutURI:   c.BackchannelLogoutURI, BackchannelLogoutSession: c.BackchannelLogoutSession,
		FrontchannelLogoutURI: c.FrontchannelLogoutURI, FrontchannelLogoutSession: c.FrontchannelLogoutSession,
		SoftwareID: c.SoftwareID, SoftwareVersion: c.SoftwareVersion, SoftwareStatement: c.SoftwareStatement,
	}
	switch {
	case c.IsPublic:
		m.AuthMethod = AuthNone
	case c.AuthMethod == "":
		m.AuthMethod = AuthBasic
	}
	if c.Allows(GrantAuthorizationCode) {
		m.ResponseTypes = []string{responseCode}
	}
	if m.SubjectType == "" {
		m.SubjectType = SubjectPublic
	}
	if c.JWKS != "" {
		m.JWKS = json.RawMessage(c.JWKS)
	}
	return m
}
