package registry

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
)

// Registrar is how a client came to be here.
type Registrar string

// Who registers clients.
const (
	ByOperator Registrar = ""                  // by the command line or the configuration
	ByItself   Registrar = "registration"      // it registered itself (RFC 7591)
	ByDocument Registrar = "metadata_document" // its id is the address of its metadata (draft-ietf-oauth-client-id-metadata-document)
)

// Verified says whether somebody who runs the broker has looked at the client. Of all others, only what their redirect URIs or
// their id say of them is sure.
func (c *Client) Verified() bool { return c.RegisteredBy == ByOperator }

// Local says whether what is sent to a redirect URI stays on the person's own machine, where any program may say that it is the app it is
// for (RFC 8252 section 8.6): a loopback address or a private-use scheme.
func Local(redirectURI string) bool { return !strings.HasPrefix(redirectURI, "https:") }

// Site is the address that stands for the client before people: the website that an operator has seen, or what is sure of one that
// nobody has: the host of its id, or the one that this answer goes to; "" if there is none. Other redirect URIs show nothing: anybody can name any.
func (c *Client) Site(redirectURI string) string {
	if c.Verified() {
		return c.Website
	}
	for _, uri := range []string{c.ID, redirectURI} {
		if u, err := url.Parse(uri); err == nil && u.Scheme == "https" {
			return "https://" + u.Host
		}
	}
	return ""
}

// Shown is an address that the client would have people see or follow, if it may be shown: it is an operator's word, or on the host that
// this answer goes to (RFC 7591 section 5). Nothing of a metadata document is: a picture
// would have to be fetched beforehand (draft-ietf-oauth-client-id-metadata-document-02 section 8).
func (c *Client) Shown(address, redirectURI string) string {
	if c.Verified() {
		return address
	}
	if c.RegisteredBy == ByDocument || !strings.HasPrefix(redirectURI, "https:") || Origin(redirectURI) != Origin(address) {
		return ""
	}
	return address
}

// Policy is what clients may have that no operator registered. FirstParty and a profile are never among it.
type Policy struct {
	Scopes     []string // at least one
	GrantTypes []string // at least one
	// DetailsTypes are the types of authorization_details: often more than any scope, so there are none unless they are named.
	DetailsTypes []string
	// APIScopes are those of apis that are open to such clients (API.SelfRegistered), at the moment; nil: none. A client may name them, and is not
	// registered for them: the api decides, each time.
	APIScopes func() []string
	// PKCEOptional exempts confidential ones from PKCE (RFC 9700 section 2.1.1 would have everyone do it).
	PKCEOptional bool
	// Issuer is the broker itself, where no client of a stranger's is: codes sent there would end in its own log, and a document read there
	// would be an answer of the broker's.
	Issuer string

	// also is what Widen adds: it may be asked for, and is not there by itself.
	also struct{ scopes, grantTypes, detailsTypes []string }
}

// Widen is the policy with what the client has already, which it may keep: an operator may have given it more.
func (p Policy) Widen(c *Client) Policy {
	p.also.scopes, p.also.grantTypes, p.also.detailsTypes = c.Scopes, c.GrantTypes, c.DetailsTypes
	p.PKCEOptional = p.PKCEOptional || c.PKCEOptional
	return p
}

// Register makes a client of the metadata that it registers itself with, with the defaults of RFC 7591 section 2 for what is not
// there. ErrInvalid, with the fields that are wrong or more than the policy allows.
func (p Policy) Register(m *Metadata) (Client, error) {
	given := *m
	given.AuthMethod = cmp.Or(given.AuthMethod, AuthBasic)
	if len(given.GrantTypes) == 0 {
		given.GrantTypes = []string{GrantAuthorizationCode}
	}
	given.Scope = p.registered(given.Scope)
	c := Client{RegisteredBy: ByItself}
	if err := given.Set(&c); err != nil {
		return Client{}, err
	}
	c.PKCEOptional = p.PKCEOptional && !c.IsPublic
	if err := p.complete(&c); err != nil {
		return Client{}, err
	}
	return c, nil
}

// registered are the scopes of a client that asks to be registered for some: without those that it need not be registered for. All
// there are, if that leaves none.
func (p Policy) registered(scope string) string {
	var open []string
	if p.APIScopes != nil {
		open = p.APIScopes()
	}
	needless := func(name string) bool {
		return slices.Contains(open, name) && !slices.Contains(p.Scopes, name) && !slices.Contains(p.also.scopes, name)
	}
	return cmp.Or(strings.Join(slices.DeleteFunc(strings.Fields(scope), needless), " "), strings.Join(p.Scopes, " "))
}

// complete fills in what only the redirect URIs say, and checks the whole.
func (p Policy) complete(c *Client) error {
	var problems []error
	for _, uri := range c.RedirectURIs {
		if Origin(uri) == p.Issuer && p.Issuer != "" {
			problems = append(problems, fieldError("redirect_uris", "%q is this server's own", uri))
		}
	}
	for _, grant := range c.GrantTypes {
		if !slices.Contains(p.GrantTypes, grant) && !slices.Contains(p.also.grantTypes, grant) {
			problems = append(problems, fieldError("grant_types", "%q is not for apps that register themselves; there are %s", grant, choices(p.GrantTypes)))
		}
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(p.Scopes, scope) && !slices.Contains(p.also.scopes, scope) {
			problems = append(problems, fieldError("scopes", "%q is not for apps that register themselves; there are %s", scope, choices(p.Scopes)))
		}
	}
	for _, kind := range c.DetailsTypes {
		if !slices.Contains(p.DetailsTypes, kind) && !slices.Contains(p.also.detailsTypes, kind) {
			problems = append(problems, fieldError("authorization_details_types", "%q is not for apps that register themselves", kind))
		}
	}
	if c.ApplicationType == "" {
		// RFC 7591 does not know it. OpenID Connect would have web, which an app on a machine, of the many that register by the RFC alone,
		// is not: its redirect URIs say so.
		c.ApplicationType = ApplicationWeb
		if slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return !strings.HasPrefix(uri, "https:") }) {
			c.ApplicationType = ApplicationNative
		}
	}
	c.Name = cmp.Or(c.Name, nameFor(c))
	if err := errors.Join(append(problems, c.Validate())...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// nameFor is a name for a client that has given none: where people go to from it.
func nameFor(c *Client) string {
	for _, uri := range append([]string{c.ID}, c.RedirectURIs...) {
		if u, err := url.Parse(uri); err == nil && u.Scheme == "https" && u.Host != "" && len(u.Host) <= MaxName {
			return u.Host
		}
	}
	return "App without a name"
}

// checkApplication checks what a kind of app may have as redirect URIs (OpenID Connect Registration section 2): a web app is on the
// web. A native one may use https too, as a link that its maker claimed for it (RFC 8252 section 7.2).
func (c *Client) checkApplication(bad badFunc, oneOf oneOfFunc) {
	oneOf("application_type", c.ApplicationType, []string{ApplicationWeb, ApplicationNative})
	if c.ApplicationType != ApplicationWeb {
		return
	}
	for _, uri := range c.RedirectURIs {
		if !strings.HasPrefix(uri, "https:") {
			bad("redirect_uris", "%q: an app of the type web has https alone; the type native may have loopback addresses and schemes of its own", uri)
		}
	}
}

// Fetched are the client's addresses that the broker calls of its own accord, each with its field.
func (c *Client) Fetched() iter.Seq2[string, string] {
	return func(yield func(field, address string) bool) {
		all := [][2]string{{"jwks_uri", c.JWKSURI}, {"sector_identifier_uri", c.SectorIdentifierURI}, {"backchannel_logout_uri", c.BackchannelLogoutURI}}
		for _, uri := range c.RequestURIs {
			all = append(all, [2]string{"request_uris", RequestAddress(uri)})
		}
		for _, one := range all {
			if one[1] != "" && !yield(one[0], one[1]) {
				return
			}
		}
	}
}

// maxClientURL bounds a client id that is a URL: it stands in every authorization request, grant and token.
const maxClientURL = 512

// IsURL says whether a client id is of the kind that is a URL.
func IsURL(id string) bool { return strings.HasPrefix(id, "https:") || strings.HasPrefix(id, "http:") }

// CheckClientURL says whether a URL may be a client's id (draft-ietf-oauth-client-id-metadata-document-02 section 3): https, with a path,
// without fragment, user information and dot segments. allowHTTP permits http on loopback addresses, for development.
func CheckClientURL(id string, allowHTTP bool) error {
	if len(id) > maxClientURL {
		return fmt.Errorf("it is longer than %d bytes", maxClientURL)
	}
	u, err := checkURI(id)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme != "https" && !(allowHTTP && u.Scheme == "http" && loopback(u.Hostname())):
		return errors.New("it is not https")
	case u.Path == "" || u.Path == "/":
		return errors.New("it has no path: the address of a document is needed, such as https://app.example.com/client.json")
	case strings.Contains(strings.ToLower(u.EscapedPath()), "%2e"):
		return errors.New("it has an encoded dot in its path")
	}
	return checkWeb(u)
}

// FromDocument makes a client of the document at the URL that is its id. It is written for every server at once, so of its lists what the
// policy does not allow is passed over; a method or value that does not work here is refused. ErrInvalid, with what is wrong.
func (p Policy) FromDocument(id string, raw []byte) (Client, error) {
	document, err := ParseDocument(raw)
	if err != nil {
		return Client{}, err
	}
	own, err := document.Text("client_id")
	if err != nil {
		return Client{}, err
	}
	m, err := document.Metadata()
	if err != nil {
		return Client{}, err
	}
	refuse := func(field, format string, args ...any) (Client, error) {
		return Client{}, fmt.Errorf("%w: %w", ErrInvalid, fieldError(field, format, args...))
	}
	switch {
	case own != id: // section 4: simple string comparison
		return refuse("client_id", "it is not the address of the document, letter for letter")
	case document.Has("client_secret"), document.Has("client_secret_expires_at"): // section 4
		return refuse("client_secret", "what everybody can read is no secret")
	case slices.Contains(secretMethods, m.AuthMethod):
		return refuse("token_endpoint_auth_method", "%s needs a secret, which a document that everybody can read cannot hold; use none or private_key_jwt", m.AuthMethod)
	case m.SectorIdentifierURI != "":
		return refuse("sector_identifier_uri", "it is not taken from a metadata document; leave it out")
	case m.SoftwareStatement != "":
		m.SoftwareStatement = "" // it counts where it is asked for, at registration
	}
	// RFC 7591's default is a secret, which cannot be here.
	m.AuthMethod = cmp.Or(m.AuthMethod, AuthNone)
	if len(m.ResponseTypes) > 0 {
		if !slices.Contains(m.ResponseTypes, responseCode) {
			return refuse("response_types", "%s is not among them", responseCode)
		}
		m.ResponseTypes = []string{responseCode}
	}
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []string{GrantAuthorizationCode}
	}
	m.GrantTypes = among(m.GrantTypes, p.GrantTypes)
	m.Scope = strings.Join(among(strings.Fields(p.registered(m.Scope)), p.Scopes), " ")
	m.DetailsTypes = among(m.DetailsTypes, p.DetailsTypes)
	c := Client{ID: id, RegisteredBy: ByDocument}
	if err := m.Set(&c); err != nil {
		return Client{}, err
	}
	if err := p.complete(&c); err != nil {
		return Client{}, err
	}
	return c, nil
}

// among are those of list that are in allowed too.
func among(list, allowed []string) []string {
	var both []string
	for _, item := range list {
		if slices.Contains(allowed, item) {
			both = append(both, item)
		}
	}
	return both
}
