package oauth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/keyset"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/challenge"
)

// Dynamic client registration (RFC 7591, OpenID Connect Dynamic Client Registration) and its management (RFC 7592).
//
// What a client may have is decided by registry.Policy, what can be registered at all by registry.Client.Validate; here is what
// comes and goes over HTTP, who may register, and how often.

// Registration is how clients may register themselves. The zero value is: not at all.
type Registration struct {
	On bool
	// Open lets in whoever comes; otherwise one of InitialTokens is needed, which are keyed hashes.
	Open          bool
	InitialTokens []string
	// MaxPerHour bounds registrations from one address.
	MaxPerHour int
	// UnusedLifetime is how long a client that nobody uses is kept; 0: for ever.
	UnusedLifetime time.Duration
	Policy         registry.Policy
	// Statements are the keys of those whose software statements are believed, by issuer.
	Statements        map[string]keyset.Source
	StatementRequired bool
}

// The error codes of registration (RFC 7591 section 3.2.2).
const (
	codeInvalidRedirectURI    = "invalid_redirect_uri"
	codeInvalidClientMetadata = "invalid_client_metadata"
	codeInvalidStatement      = "invalid_software_statement"
	codeUnapprovedStatement   = "unapproved_software_statement"
)

// registrationMetadata says what there is of it.
type registrationMetadata struct {
	Endpoint  string `json:"registration_endpoint,omitempty"`                 // RFC 8414 section 2
	Documents bool   `json:"client_id_metadata_document_supported,omitempty"` // draft-ietf-oauth-client-id-metadata-document-02 section 6
}

func (s *Server) registrationMetadata() registrationMetadata {
	m := registrationMetadata{Documents: s.clientDocuments}
	if s.registration.On {
		m.Endpoint = s.issuer + PathRegister
	}
	return m
}

const (
	// maxRegistration bounds a registration document: all metadata there are, with keys and a software statement.
	maxRegistration = 48 << 10
	// registrationWindow is what Registration.MaxPerHour is counted in.
	registrationWindow = time.Hour
	// maxFieldErrors bounds how many mistakes one answer explains.
	maxFieldErrors = 8
)

// registration is the client information response (RFC 7591 section 3.2.1, RFC 7592 section 3). Secrets are kept as hashes alone, so
// client_secret is in the answer to the registration and in no other.
type registration struct {
	ClientID        string `json:"client_id"`
	IssuedAt        int64  `json:"client_id_issued_at"`
	Secret          string `json:"client_secret,omitempty"`
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // beside the secret; 0: never
	AccessToken     string `json:"registration_access_token"`
	ClientURI       string `json:"registration_client_uri"`
	*registry.Metadata
}

func (s *Server) registrationOf(c *registry.Client, token, secret string) registration {
	answer := registration{
		ClientID:    c.ID,
		IssuedAt:    c.CreatedAt.Unix(),
		Secret:      secret,
		AccessToken: token,
		ClientURI:   s.issuer + PathRegister + "/" + url.PathEscape(c.ID),
		Metadata:    registry.MetadataOf(c),
	}
	if !c.Verified() { // what apis are open for is among what it can use (RFC 7591 section 2)
		for _, scope := range s.policy.apis.SelfRegisteredScopes() {
			if !slices.Contains(c.Scopes, scope) {
				answer.Scope += " " + scope
			}
		}
	}
	if secret != "" {
		answer.SecretExpiresAt = new(int64)
	}
	return answer
}

// register registers a client (RFC 7591 section 3.1).
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	if refusal := s.mayRegister(r); refusal != nil {
		s.refuseRegistrar(w, r, refusal)
		return
	}
	answer, err := s.answerRegister(w, r)
	if err != nil {
		s.writeRegistrationError(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, answer)
}

func (s *Server) answerRegister(w http.ResponseWriter, r *http.Request) (any, error) {
	ctx := r.Context()
	document, err := readRegistration(w, r)
	if err != nil {
		return nil, err
	}
	client, err := s.candidate(ctx, document, s.registration.Policy, registrationQuota)
	if err != nil {
		return nil, err
	}
	registered, err := s.clients.Register(ctx, *client, s.registration.UnusedLifetime)
	if err != nil {
		return nil, err
	}
	return s.registrationOf(registered.Client, registered.Token, registered.Secret), nil
}

// mayRegister says whether the sender may register: everybody, or one who has an initial access token (RFC 7591 section 3). A token that
// is sent must be good even where none is needed.
func (s *Server) mayRegister(r *http.Request) *Error {
	token := managementToken(r)
	if token == "" {
		if s.registration.Open {
			return nil
		}
		return &Error{Code: codeInvalidToken, Description: "send an initial access token as Authorization: Bearer", Status: http.StatusUnauthorized}
	}
	good := false
	for _, hash := range s.registration.InitialTokens { // all of them, so that the time says nothing
		good = s.ring.SecretMatches(hash, token) || good
	}
	if !good {
		return unauthorized("the initial access token is not one of this server's").because(errors.New("wrong initial access token"))
	}
	return nil
}

// managementToken is the token in the Authorization header, the one place for it here (RFC 7591 section 3.1, RFC 7592 section 2).
func managementToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// refuseRegistrar answers one who may not be here, as RFC 6750 section 3 words it.
func (s *Server) refuseRegistrar(w http.ResponseWriter, r *http.Request, e *Error) {
	s.logRefusal(r.Context(), e)
	code := e.Code
	if managementToken(r) == "" { // section 3.1: who sends none is told nothing but how to come back
		code = ""
	}
	w.Header().Set("WWW-Authenticate", challenge.New("Bearer", "realm", "portico", "error", code))
	writeJSON(w, e.Status, errorBody{Error: e.Code, Description: challenge.Text(e.Description)})
}

// readRegistration reads the JSON document that a registration or its change is.
func readRegistration(w http.ResponseWriter, r *http.Request) (registry.Document, error) {
	if contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); contentType != "application/json" {
		return nil, refuse(codeInvalidRequest, "send the metadata as application/json, not as '%s'", echo(contentType))
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRegistration))
	if err != nil {
		return nil, bodyError(err)
	}
	document, err := registry.ParseDocument(raw)
	if err != nil && len(registry.FieldErrors(err)) == 0 {
		return nil, refuse(codeInvalidRequest, "the body is not a JSON object that can be read: %s", err)
	}
	return document, err
}

// candidate makes a client of a document, by a policy. Mistakes that cost nobody but the sender anything are free; from then on it counts, for
// a purpose.
func (s *Server) candidate(ctx context.Context, document registry.Document, policy registry.Policy, purpose string) (*registry.Client, error) {
	statement, err := document.Text("software_statement")
	if err != nil {
		return nil, err
	}
	if statement == "" && s.registration.StatementRequired {
		return nil, refuse(codeInvalidStatement, "a software statement is required here")
	}
	if statement != "" {
		if refusal := s.countRegistration(ctx, purpose); refusal != nil {
			return nil, refusal
		}
		claims, err := s.softwareStatement(ctx, statement)
		if err != nil {
			return nil, err
		}
		document.Override(claims)
	}
	metadata, err := document.Metadata()
	if err != nil {
		return nil, err
	}
	if refusal := s.catchUp(ctx, strings.Fields(metadata.Scope), nil, nil); refusal != nil {
		return nil, refusal
	}
	client, err := policy.Register(metadata)
	if err != nil {
		return nil, err
	}
	if method := registry.MetadataOf(&client).AuthMethod; !slices.Contains(s.authMethodNames(true), method) {
		return nil, refuse(codeInvalidClientMetadata, "token_endpoint_auth_method: '%s' is not on here; there are %s", echo(method), strings.Join(s.authMethodNames(true), ", "))
	}
	for field, address := range client.Fetched() {
		if err := s.fetch.CheckURL(address); err != nil {
			return nil, refuse(codeInvalidClientMetadata, "%s: '%s' is not an address that this server fetches", field, echo(address)).because(err)
		}
	}
	if statement == "" {
		if refusal := s.countRegistration(ctx, purpose); refusal != nil {
			return nil, refusal
		}
	}
	if client.SectorIdentifierURI != "" {
		if refusal := s.judgeSector(ctx, &client); refusal != nil {
			return nil, refusal
		}
	}
	return &client, nil
}

// What registrations and their changes are counted under.
const (
	registrationQuota = "registration"
	changeQuota       = "registration-change"
)

// countRegistration counts an attempt of the address that the request is from.
func (s *Server) countRegistration(ctx context.Context, purpose string) *Error {
	return s.countAddress(ctx, purpose, "registrations", s.registration.MaxPerHour, registrationWindow)
}

// writeRegistrationError answers with an error of RFC 7591 section 3.2.2, which says each field that is wrong.
func (s *Server) writeRegistrationError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, registry.ErrInvalid) {
		err = invalidMetadata(err)
	}
	s.writeError(w, r, err)
}

// invalidMetadata says what is wrong with a client, field by field. A redirect URI comes first, for it has an error of its own.
func invalidMetadata(err error) *Error {
	code := codeInvalidClientMetadata
	var said []string
	for _, field := range registry.FieldErrors(err) {
		name := field.MetadataName()
		if name == "redirect_uris" {
			code = codeInvalidRedirectURI
		}
		if len(said) < maxFieldErrors {
			said = append(said, name+": "+field.Err.Error())
		}
	}
	if len(said) == 0 {
		said = []string{err.Error()}
	}
	return refuse(code, "%s", strings.Join(said, "; ")).because(err)
}

// manage is what a client does with its own registration (RFC 7592).
func (s *Server) manage(w http.ResponseWriter, r *http.Request) {
	ctx, id, token := r.Context(), r.PathValue("client"), managementToken(r)
	client, err := s.clients.Managed(ctx, id, token)
	if errors.Is(err, registry.ErrNotFound) {
		// Section 2: one answer to a token that is wrong, another client's, or of one that is no more, so that nobody learns which.
		s.refuseRegistrar(w, r, unauthorized("the registration access token is not one for this client"))
		return
	}
	if err != nil {
		s.writeError(w, r, internal(err))
		return
	}
	switch r.Method {
	case http.MethodPut:
		client, err = s.replaceRegistration(w, r, client, token)
	case http.MethodDelete:
		err = s.clients.RemoveManaged(ctx, id, token)
	}
	switch {
	case errors.Is(err, registry.ErrNotFound): // it went between the two
		s.refuseRegistrar(w, r, unauthorized("the registration access token is not one for this client"))
	case err != nil:
		s.writeRegistrationError(w, r, err)
	case r.Method == http.MethodDelete:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, http.StatusOK, s.registrationOf(client, token, ""))
	}
}

// theServers are what a client must not send with a change (RFC 7592 section 2.2).
var theServers = []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"}

// replaceRegistration changes a client's metadata, all of them (RFC 7592 section 2.2).
func (s *Server) replaceRegistration(w http.ResponseWriter, r *http.Request, client *registry.Client, token string) (*registry.Client, error) {
	ctx := r.Context()
	document, err := readRegistration(w, r)
	if err != nil {
		return nil, err
	}
	id, err := document.Text("client_id")
	if err != nil {
		return nil, err
	}
	secret, err := document.Text("client_secret")
	if err != nil {
		return nil, err
	}
	if id != client.ID {
		return nil, refuse(codeInvalidClientMetadata, "client_id: it must be there, and be the client's own")
	}
	if document.Has("client_secret") && !client.CheckSecret(s.ring, secret, s.now()) {
		return nil, refuse(codeInvalidClientMetadata, "client_secret: it must be the client's own, or not be there; it cannot be chosen")
	}
	for _, name := range theServers {
		if document.Has(name) {
			return nil, refuse(codeInvalidRequest, "%s is the server's to say; leave it out", name)
		}
	}
	next, err := s.candidate(ctx, document, s.registration.Policy.Widen(client), changeQuota)
	if err != nil {
		return nil, err
	}
	return s.clients.Replace(ctx, client.ID, token, next)
}

// keepClient says that a client that registered itself is in use, once. That it cannot be said keeps nobody from their tokens.
func (s *Server) keepClient(ctx context.Context, client *registry.Client) {
	if client.Expires.IsZero() {
		return
	}
	if err := s.clients.Keep(ctx, client.ID); err != nil {
		s.log.WarnContext(ctx, "a client that is used cannot be kept", slog.String("client_id", client.ID), slog.Any("cause", err))
	}
}
