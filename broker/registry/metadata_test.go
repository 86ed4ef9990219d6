package registry

import (
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var strangers = Policy{Scopes: []string{"openid", "email"}, GrantTypes: []string{GrantAuthorizationCode, GrantRefreshToken}}

// A field of Metadata that Set or MetadataOf forgot would be accepted, and lost without a word.
func TestEveryMetadataFieldReachesTheClientAndComesBack(t *testing.T) {
	want := &Metadata{}
	v := reflect.ValueOf(want).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(v.Type().Field(i).Name)
		case bool:
			f.SetBool(true)
		case []string:
			f.Set(reflect.ValueOf([]string{v.Type().Field(i).Name}))
		case json.RawMessage:
			f.SetBytes([]byte(`{"keys":[]}`))
		case *int64:
			f.Set(reflect.ValueOf(new(int64)))
		default:
			t.Fatalf("a field of type %s", f.Type())
		}
	}
	want.ResponseTypes, want.GrantTypes = []string{"code"}, []string{GrantAuthorizationCode}
	var c Client
	if err := want.Set(&c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, MetadataOf(&c)); diff != "" {
		t.Error(diff)
	}
	// And in JSON, as it is sent and received.
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	document, err := ParseDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := document.Metadata(); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

// What apis are open for, a client may name, and it is not registered for it: the api can close again. That it needs nothing else is no
// reason to keep it out.
func TestOfOpenAPIsAClientIsNotRegistered(t *testing.T) {
	open := strangers
	open.APIScopes = func() []string { return []string{"email", "notes:read"} }
	for scope, want := range map[string][]string{
		"":                        {"openid", "email"},
		"notes:read":              {"openid", "email"},
		"openid notes:read":       {"openid"},
		"openid email notes:read": {"openid", "email"}, // email is for every client here
	} {
		registered, err := open.Register(&Metadata{RedirectURIs: []string{"https://a.example/cb"}, Scope: scope})
		if err != nil || !slices.Equal(registered.Scopes, want) {
			t.Errorf("registered for %q: %q, %v", scope, registered.Scopes, err)
		}
		raw := `{"client_id":"https://a.example/c","redirect_uris":["https://a.example/cb"],"scope":"` + scope + `"}`
		described, err := open.FromDocument("https://a.example/c", []byte(raw))
		if err != nil || !slices.Equal(described.Scopes, want) {
			t.Errorf("described with %q: %q, %v", scope, described.Scopes, err)
		}
	}
	if _, err := open.Register(&Metadata{RedirectURIs: []string{"https://a.example/cb"}, Scope: "notes:read admin"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a scope that no stranger may have: %v", err)
	}
}

// What a metadata document may narrow, a registration must ask for as it is: there, nobody else is meant.
func TestADocumentIsNarrowedAndARegistrationIsNot(t *testing.T) {
	raw := `{"client_id":"https://a.example/c","redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code","password"],"scope":"openid admin","response_types":["code","token"]}`
	c, err := strangers.FromDocument("https://a.example/c", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.GrantTypes, []string{"authorization_code"}) || !slices.Equal(c.Scopes, []string{"openid"}) || !c.IsPublic || c.Name != "a.example" || c.Verified() {
		t.Errorf("got %+v", c)
	}
	for name, raw := range map[string]string{
		"a grant type":    `{"redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code","password"]}`,
		"a scope":         `{"redirect_uris":["https://a.example/cb"],"scope":"openid admin"}`,
		"a response type": `{"redirect_uris":["https://a.example/cb"],"response_types":["code","token"]}`,
	} {
		document, err := ParseDocument([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		m, err := document.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := strangers.Register(m); !errors.Is(err, ErrInvalid) || len(FieldErrors(err)) != 1 {
			t.Errorf("%s beyond: %v", name, err)
		}
	}
}

// What may be a client id, and what would look like another's or name nothing.
func TestCheckClientURL(t *testing.T) {
	for id, good := range map[string]bool{
		"https://a.example/client.json":      true,
		"https://a.example:8443/client.json": true,
		"https://a.example/client?v=1":       true, // discouraged
		"https://a.example/a/":               true,
		"https://a.example":                  false,
		"https://a.example/":                 false,
		"https://a.example/#":                false,
		"https://a.example/a#b":              false,
		"https://a.example/a/../b":           false,
		"https://a.example/%2E%2e/b":         false,
		"https://u@a.example/c":              false,
		"https://A.example/c":                false,
		"https:///c":                         false,
		"https:c":                            false,
		"http://a.example/c":                 false,
		"https://a.example:/c":               false,
		"https://ä.example/c":                false,
		"https://a.example/ c":               false,
		"https://a.example/c\\":              false,
	} {
		if err := CheckClientURL(id, false); (err == nil) != good {
			t.Errorf("%q: %v, want good %v", id, err, good)
		}
	}
	// For development.
	for id, good := range map[string]bool{
		"http://127.0.0.1:3000/client.json": true, "http://[::1]/client.json": true, "https://a.example/client.json": true,
		"http://a.example/client.json": false, "http://10.0.0.1/client.json": false, "http://127.0.0.1/": false, "ftp://127.0.0.1/client.json": false,
	} {
		if err := CheckClientURL(id, true); (err == nil) != good {
			t.Errorf("with http, %q: %v, want good %v", id, err, good)
		}
	}
}

var documentSeeds = []string{
	`{"redirect_uris":["https://a.example/cb"]}`,
	`{"client_id":"https://a.example/c","redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"none"}`,
	`{"redirect_uris":["http://127.0.0.1/cb","com.example.app:/cb"],"application_type":"native","token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"scope":"openid"}`,
	`{"client_name":"a","jwks":{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]},"redirect_uris":["https://a.example/"],"token_endpoint_auth_method":"private_key_jwt"}`,
	`{"redirect_uris":null,"default_max_age":1e3,"require_auth_time":true}`,
	`{"a":{"b":[{"c":1}]},"a":2}`, `[]`, `null`, `{`, `{"client_name":"\ud800"}`, "\xff",
}

// Whatever is sent, a client that comes of it is one that may be registered, with nothing beyond the policy, and is read back as it is.
func FuzzRegistrationDocument(f *testing.F) {
	for _, seed := range documentSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		document, err := ParseDocument(raw)
		if err != nil {
			return
		}
		m, err := document.Metadata()
		if err != nil {
			return
		}
		c, err := strangers.Register(m)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		checkStranger(t, &c)
		again := MetadataOf(&c)
		second, err := strangers.Register(again)
		if err != nil {
			t.Fatalf("what was registered cannot be registered again: %v", err)
		}
		if diff := cmp.Diff(MetadataOf(&second), again); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever stands at an address, the client that comes of it has that address and nothing that needs a secret.
func FuzzClientMetadataDocument(f *testing.F) {
	for _, seed := range documentSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := strangers.FromDocument("https://a.example/c", raw)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		checkStranger(t, &c)
		if c.ID != "https://a.example/c" || c.UsesSecret() || c.SectorIdentifierURI != "" || len(c.Secrets) > 0 {
			t.Errorf("got %+v", c)
		}
	})
}

func checkStranger(t *testing.T, c *Client) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Errorf("it cannot be registered: %v", err)
	}
	if c.Verified() || c.FirstParty || c.Profile != "" || c.PKCEOptional {
		t.Errorf("a stranger is trusted: %+v", c)
	}
	if len(c.DetailsTypes) > 0 {
		t.Errorf("it has the types of authorization_details %q", c.DetailsTypes)
	}
	for _, grant := range c.GrantTypes {
		if !slices.Contains(strangers.GrantTypes, grant) {
			t.Errorf("it has the grant type %q", grant)
		}
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(strangers.Scopes, scope) {
			t.Errorf("it has the scope %q", scope)
		}
	}
}

// What passes for a client id has one spelling: the URL that it is parsed to is written as it was.
func FuzzClientURL(f *testing.F) {
	for _, seed := range []string{"https://a.example/c", "https://a.example:8443/c?d=1", "https://u@a.example/c", "https://a.example/%2e%2e/c", "https:///c", "https://[::1]/c", "https://a.example/c#d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if CheckClientURL(id, false) != nil {
			return
		}
		u, err := url.Parse(id)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(u.Path) < 2 || u.String() != id {
			t.Errorf("%q passes, and is %+v", id, u)
		}
	})
}
