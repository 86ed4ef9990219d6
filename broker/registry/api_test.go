package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/registry"
)

func api(identifier string, scopes ...string) registry.API {
	a := registry.API{Identifier: identifier, Name: "Notes"}
	for _, scope := range scopes {
		a.Scopes = append(a.Scopes, registry.Scope{Name: scope, Sentence: "Do " + scope})
	}
	return a
}

var reserved = registry.Reserved{Issuer: "https://login.example.com", Scopes: []string{"openid", "profile"}}

// Whoever registers an api reads what is wrong with it, by the names of its fields.
func TestAPIsThatCannotBeRegistered(t *testing.T) {
	edit := func(f func(*registry.API)) []registry.API {
		a := api("https://a.example", "read")
		f(&a)
		return []registry.API{a}
	}
	details := func(types ...registry.DetailsType) []registry.API {
		return edit(func(a *registry.API) { a.DetailsTypes = types })
	}
	for want, list := range map[string][]registry.API{
		"identifier: \"\"":           {api("", "read")},
		"not absolute":               {api("/notes", "read")},
		"has a fragment":             {api("https://a.example/#x", "read")},
		"has a query":                {api("https://a.example/?x=1", "read")},
		"there twice":                {api("https://a.example", "read"), api("https://a.example", "write")},
		"the issuer's":               {api("https://login.example.com", "read")},
		"\"openid\" is the broker's": {api("https://a.example", "openid")},
		"scopes: at least one":       {api("https://a.example")},
		"\"a b\" is not a scope":     {api("https://a.example", "a b")},
		"\"read\" is there twice":    {api("https://a.example", "read", "read")},
		"name: 1 to":                 edit(func(a *registry.API) { a.Name = "\u202eNotes" }),
		"scopes[0].sentence: 1 to":   edit(func(a *registry.API) { a.Scopes[0].Sentence = "" }),
		"\"JWT\" is none of":         edit(func(a *registry.API) { a.AccessTokenFormat = "JWT" }),
		"\"none\" is none of":        edit(func(a *registry.API) { a.AccessTokenAlg = "none" }),
		"opaque tokens are not":      edit(func(a *registry.API) { a.AccessTokenFormat, a.AccessTokenAlg = "opaque", "ES256" }),
		"100000 seconds":             edit(func(a *registry.API) { a.AccessTokenTTL = 100_000 }),
		"-1 seconds":                 edit(func(a *registry.API) { a.AccessTokenTTL = -1 }),
		"visible ASCII":              details(registry.DetailsType{Type: "a b", Sentence: "See"}),
		"types[0].sentence: 1 to":    details(registry.DetailsType{Type: "a"}),
		"\"a\" is there twice":       details(registry.DetailsType{Type: "a", Sentence: "See"}, registry.DetailsType{Type: "a", Sentence: "See"}),
		"\"type\" is not the name":   details(registry.DetailsType{Type: "a", Sentence: "See", Fields: []registry.DetailsField{{Name: "type"}}}),
		"fields[1].name: \"x\" is":   details(registry.DetailsType{Type: "a", Sentence: "See", Fields: []registry.DetailsField{{Name: "x"}, {Name: "x"}}}),
		"fields[0].values[0]: 1 to":  details(registry.DetailsType{Type: "a", Sentence: "See", Fields: []registry.DetailsField{{Name: "x", Values: []string{"\n"}}}}),
	} {
		if _, err := registry.NewAPIs(reserved, list...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %s", list, err, want)
		}
	}
	var many []registry.API
	for i := range 257 {
		many = append(many, api(fmt.Sprintf("urn:example:%d", i), "read"))
	}
	if _, err := registry.NewAPIs(reserved, many...); err == nil {
		t.Error("257 apis are registered")
	}
}

// Several apis may define one scope: who asks for it has to say which is meant.
func TestAPIsAreFoundByWhatTheyDefine(t *testing.T) {
	notes, files := api("https://a.example/notes", "notes", "read"), api("urn:example:files", "read")
	files.DetailsTypes = []registry.DetailsType{{Type: "file", Sentence: "See"}, {Type: "folder", Sentence: "See", Fields: []registry.DetailsField{{Name: "path"}}}}
	apis, err := registry.NewAPIs(reserved, notes, files)
	if err != nil {
		t.Fatal(err)
	}
	if got := apis.WithScope("read"); len(got) != 2 || got[0].Identifier != notes.Identifier || got[1].Identifier != files.Identifier {
		t.Errorf("read is of %v", got)
	}
	if apis.Get("urn:example:files/") != nil || apis.Get("") != nil || apis.Get("urn:example:files").Details("file") == nil {
		t.Error("identifiers are not compared letter for letter")
	}
	if got := fmt.Sprint(apis.Scopes(), apis.DetailsTypes(), len(apis.List()), len(apis.WithScope("write")), len(apis.WithDetails("file"))); got != "[notes read] [file folder] 2 0 1" {
		t.Errorf("got %s", got)
	}
	file, folder := files.Details("file"), files.Details("folder")
	if file.Field("actions") == nil || file.Field("path") != nil || folder.Field("path") == nil || folder.Field("actions") != nil {
		t.Error("fields: those that are declared, or else the common ones")
	}
}

// The server behind an api is no app: it needs neither grants nor scopes, and a secret in any case.
func TestAResourceServerNeedNotBeAnApp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, secret, err := w.Add(t.Context(), registry.Client{Name: "Server", ResourceServerOf: []string{"urn:example:files"}})
		if err != nil || secret == "" || len(c.GrantTypes) != 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		for name, bad := range map[string]registry.Client{
			"public":           {Name: "Server", ResourceServerOf: []string{"urn:example:files"}, IsPublic: true},
			"no URI":           {Name: "Server", ResourceServerOf: []string{"files"}},
			"nothing":          {Name: "Server", GrantTypes: []string{"client_credentials"}},
			"nothing to allow": {Name: "Server", Scopes: []string{"a"}, GrantTypes: []string{"client_credentials"}, TokenExchange: &registry.TokenExchange{}},
			"a foreign scope":  {Name: "Server", Scopes: []string{"a"}, GrantTypes: []string{registry.GrantTokenExchange}, TokenExchange: &registry.TokenExchange{Scopes: []string{"b"}}},
			"an unknown mode":  {Name: "Server", Scopes: []string{"a"}, GrantTypes: []string{registry.GrantTokenExchange}, TokenExchange: &registry.TokenExchange{Modes: []string{"x"}}},
		} {
			if _, _, err := w.Add(t.Context(), bad); err == nil {
				t.Errorf("%s: it is registered", name)
			}
		}
	})
}
