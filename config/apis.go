package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/portico-id/portico/broker/registry"
)

// API is a resource server that takes the broker's tokens.
type API struct {
	// Identifier is the audience of its tokens, and what clients name as resource (RFC 8707): an absolute URI.
	Identifier string  `yaml:"identifier"`
	Name       string  `yaml:"name"`             // on the consent page
	Scopes     []Scope `yaml:"scopes,omitempty"` // that it defines; no other has to know them
	// AuthorizationDetailsTypes are those it defines (RFC 9396).
	AuthorizationDetailsTypes []DetailsType `yaml:"authorization_details_types,omitempty"`

	AccessTokenFormat     string   `yaml:"access_token_format,omitempty"`      // empty: the client's, or Tokens.AccessTokenFormat
	AccessTokenSigningAlg string   `yaml:"access_token_signing_alg,omitempty"` // jwt: ES256 (also empty), RS256 or EdDSA
	AccessTokenLifetime   Duration `yaml:"access_token_lifetime,omitempty"`    // a bound to the client's; 0: none
	// AccessTokenInQuery says that it takes tokens in the query parameter access_token too (RFC 6750 section 2.3).
	AccessTokenInQuery bool `yaml:"access_token_in_query,omitempty"`

	// SelfRegistered has clients that nobody registered ask people for its scopes, beside what Registration.Scopes allows them.
	SelfRegistered bool `yaml:"self_registered,omitempty"`

	// URL is where it is reached, and Endpoints are what a token needs below it. What is not among them is denied.
	URL       string     `yaml:"url,omitempty"`
	Endpoints []Endpoint `yaml:"endpoints,omitempty"`
}

// Endpoint is a method and a path of an api.
type Endpoint struct {
	Method string `yaml:"method"` // in upper case; GET covers HEAD, and * is every method
	Path   string `yaml:"path"`   // with {name} for a segment or a part of one, {name...} at the end for what follows
	// Scopes are all needed; without any, every token of the api's will do. Alternatives are other sets that are enough, each as in the parameter
	// scope: separated by spaces.
	Scopes       []string `yaml:"scopes,omitempty"`
	Alternatives []string `yaml:"alternatives,omitempty"`
	ACRValues    []string `yaml:"acr_values,omitempty"` // one of which the sign-in must have (RFC 9470)
	MaxAge       Duration `yaml:"max_age,omitempty"`    // since the sign-in; 0: any
	Public       bool     `yaml:"public,omitempty"`     // no token is needed
	Denied       bool     `yaml:"denied,omitempty"`     // no token will do
}

// Scope is a permission that an api defines.
type Scope struct {
	Name     string `yaml:"name"`
	Sentence string `yaml:"sentence"` // on the consent page
}

// DetailsType is a type of authorization_details that an api defines.
type DetailsType struct {
	Type     string `yaml:"type"`
	Sentence string `yaml:"sentence"` // on the consent page, above the fields
	// Fields that it may have; empty: locations, actions, datatypes, identifier, privileges (RFC 9396 section 2.2).
	Fields []DetailsField `yaml:"fields,omitempty"`
}

// DetailsField is a field of authorization_details.
type DetailsField struct {
	Name     string   `yaml:"name"`
	Required bool     `yaml:"required,omitempty"`
	Values   []string `yaml:"values,omitempty"` // that it, or each item of its list, may have; empty: any
}

// maxAPIs bounds the apis of one file.
const maxAPIs = 256

func (v *validator) apis(c *Config) {
	if len(c.APIs) > maxAPIs {
		v.add("apis", fmt.Sprintf("has %d items, at most %d are allowed", len(c.APIs), maxAPIs))
		return
	}
	for i := range c.APIs {
		api, path := &c.APIs[i], item("apis", i)
		same := slices.IndexFunc(c.APIs[:i], func(o API) bool { return o.Identifier == api.Identifier })
		switch {
		case api.Identifier != "" && same >= 0:
			v.add(path+".identifier", fmt.Sprintf("%s is the identifier of %s too", quote(api.Identifier), item("apis", same)))
		case api.Identifier == c.Issuer:
			v.add(path+".identifier", "is the issuer, which stands for the broker's own endpoints")
		}
		if j := slices.IndexFunc(c.APIs[:i], func(o API) bool { return o.URL == api.URL }); j >= 0 && api.URL != "" {
			v.add(path+".url", fmt.Sprintf("%s is the url of %s too; nobody could say whose a request is", quote(api.URL), item("apis", j)))
		}
		v.api(path, api)
	}
	v.registered("apis", len(c.APIs), func(i int) error {
		api := c.APIs[i].Registered()
		return api.Validate()
	})
	v.resourceServers(c)
}

// api checks how long things take, which the registry is told in seconds. It checks everything else: see registered.
func (v *validator) api(path string, api *API) {
	v.boundsOrZero(path+".access_token_lifetime", api.AccessTokenLifetime, 30*time.Second, day, "0 is the client's, and an API that verifies a JWT by itself accepts a revoked one until it ends")
	for i, endpoint := range api.Endpoints {
		if endpoint.MaxAge%Duration(time.Second) != 0 {
			v.add(item(path+".endpoints", i)+".max_age", endpoint.MaxAge.String()+" is not a number of whole seconds")
		}
	}
}

// resourceServers checks for which apis clients answer. Others than those of the configuration may be registered in the store, where nobody looks here: an identifier
// that is a little different from one of these may be a misspelling, or another api's. The broker warns of those that there are not when it starts.
func (v *validator) resourceServers(c *Config) {
	for i := range c.Clients {
		client, path := &c.Clients[i], item("clients", i)+".resource_server_of"
		v.list(path, client.ResourceServerOf, maxList)
		for j, identifier := range client.ResourceServerOf {
			if err := registry.CheckIdentifier(identifier); err != nil {
				v.add(item(path, j), quote(identifier)+": "+err.Error())
			}
		}
		v.exchange(item("clients", i)+".token_exchange", client)
		if client.Public && len(client.ResourceServerOf) > 0 {
			v.add(path, "is given, and yet the client is public: whoever knows its id could introspect")
		}
	}
}

// exchange checks what a client may exchange tokens for.
func (v *validator) exchange(path string, c *Client) {
	t := &c.TokenExchange
	if len(t.SubjectClients)+len(t.ActorClients)+len(t.Modes)+len(t.Scopes) == 0 {
		return
	}
	if !slices.Contains(c.GrantTypes, grantTokenExchange) {
		v.add(path, "has no effect without the grant type "+grantTokenExchange)
	}
	for _, clients := range []struct {
		key string
		ids []string
	}{{".subject_clients", t.SubjectClients}, {".actor_clients", t.ActorClients}} {
		v.list(path+clients.key, clients.ids, maxList)
		for i, id := range clients.ids {
			if registry.CheckID(id) != nil {
				v.add(item(path+clients.key, i), quote(id)+" is not a client_id")
			}
		}
	}
	v.list(path+".modes", t.Modes, maxList)
	for i, mode := range t.Modes {
		v.check(item(path+".modes", i), oneOf(mode, "impersonation", "delegation"))
	}
	v.list(path+".scopes", t.Scopes, maxList)
	for i, scope := range t.Scopes {
		if !slices.Contains(c.Scopes, scope) {
			v.add(item(path+".scopes", i), quote(scope)+" is not among the client's scopes"+DidYouMean(scope, c.Scopes))
		}
	}
}

const grantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
