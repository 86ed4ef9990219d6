package openapi_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/registry/openapi"
)

// publicDocument is as much of a public description as is compared, read with the YAML library alone.
type publicDocument struct {
	Paths map[string]struct {
		Get, Put, Post, Delete, Patch, Head, Options *publicOperation
	}
	Components struct {
		SecuritySchemes map[string]struct {
			Type  string
			Flows map[string]struct{ Scopes map[string]string }
		} `yaml:"securitySchemes"`
	}
}

type publicOperation struct{ Security []map[string][]string }

// needs is what an operation or an endpoint asks for, in a form that compares: sets of scopes in alphabetical order.
func needs(sets [][]string) string {
	var all []string
	for _, set := range sets {
		set = slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
			for _, scope := range set {
				yield(scope, true)
			}
		})))
		all = append(all, strings.Join(set, " "))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " | ")
}

// Public descriptions of APIs (testdata/README.md says whose) become the endpoints and scopes that their security sections name: every
// operation is compared with what another, plainer reading of the document finds.
func TestPublicDescriptions(t *testing.T) {
	for _, c := range []struct {
		file, title, url              string
		operations, endpoints, scopes int
		byHand                        map[string]string // read in the document by a person
		denied                        []string
	}{
		{
			"testdata/gmail.json", "Gmail API", "https://gmail.googleapis.com", 79, 79, 14,
			map[string]string{
				"GET /gmail/v1/users/{userId}/labels": "https://mail.google.com/ | https://www.googleapis.com/auth/gmail.labels | https://www.googleapis.com/auth/gmail.metadata | " +
					"https://www.googleapis.com/auth/gmail.modify | https://www.googleapis.com/auth/gmail.readonly",
				"DELETE /gmail/v1/users/{userId}/messages/{id}":    "https://mail.google.com/",
				"POST /gmail/v1/users/{userId}/settings/delegates": "https://www.googleapis.com/auth/gmail.settings.sharing",
				"PUT /gmail/v1/users/{userId}/settings/imap":       "https://www.googleapis.com/auth/gmail.settings.basic",
				"GET /gmail/v1/users/{userId}/settings/delegates/{delegateEmail}": "https://mail.google.com/ | https://www.googleapis.com/auth/gmail.modify | " +
					"https://www.googleapis.com/auth/gmail.readonly | https://www.googleapis.com/auth/gmail.settings.basic",
			},
			nil,
		},
		{
			"testdata/square.yaml", "Square Connect API", "https://connect.squareup.com", 200, 200, 41,
			map[string]string{
				"POST /oauth2/token":              "public",
				"POST /v1/me/employees":           "EMPLOYEES_WRITE",
				"POST /mobile/authorization-code": "PAYMENTS_WRITE_IN_PERSON",
			},
			[]string{"POST /oauth2/revoke", "POST /oauth2/clients/{client_id}/access-token/renew"}, // with an application's secret
		},
	} {
		t.Run(c.file, func(t *testing.T) {
			data, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			d := read(t, string(data), openapi.Options{})
			if d.Title != c.title || d.URL != c.url || d.Identifier != c.url || d.Operations != c.operations || len(d.Endpoints) != c.endpoints || len(d.Scopes) != c.scopes {
				t.Errorf("read %q at %q, %d operations, %d endpoints, %d scopes", d.Title, d.URL, d.Operations, len(d.Endpoints), len(d.Scopes))
			}
			got := map[string]string{}
			for _, e := range d.Endpoints {
				need := needs(append([][]string{e.Scopes}, e.Alternatives...))
				switch {
				case e.Public:
					need = "public"
				case e.Denied:
					need = "" // as what no requirement allows
				}
				got[e.Method+" "+e.Path] = need
			}
			var plain publicDocument
			if err := yaml.Unmarshal(data, &plain); err != nil {
				t.Fatal(err)
			}
			operations, scopes := 0, map[string]bool{}
			for path, item := range plain.Paths {
				for method, o := range map[string]*publicOperation{
					"GET": item.Get, "PUT": item.Put, "POST": item.Post, "DELETE": item.Delete, "PATCH": item.Patch, "HEAD": item.Head, "OPTIONS": item.Options,
				} {
					if o == nil {
						continue
					}
					operations++
					want := "public"
					if len(o.Security) > 0 {
						var sets [][]string
						for _, requirement := range o.Security {
							var set []string
							isOurs := true
							for name, listed := range requirement {
								isOurs = isOurs && plain.Components.SecuritySchemes[name].Type == "oauth2"
								set = append(set, listed...)
							}
							if isOurs {
								sets = append(sets, set)
								for _, scope := range set {
									scopes[scope] = true
								}
							}
						}
						want = needs(sets)
					}
					if name := method + " " + path; got[name] != want {
						t.Errorf("%s needs %q, want %q", name, got[name], want)
					}
				}
			}
			if operations != c.operations {
				t.Errorf("the plain reading finds %d operations", operations)
			}
			for operation, want := range c.byHand {
				if got[operation] != want {
					t.Errorf("%s needs %q, want %q", operation, got[operation], want)
				}
			}
			for _, operation := range c.denied {
				if need, there := got[operation]; !there || need != "" || !noted(d, operation, "denied: it needs") {
					t.Errorf("%s is not denied, or nothing says why not: %v", operation, d.Notes)
				}
			}
			for _, scheme := range plain.Components.SecuritySchemes {
				for _, flow := range scheme.Flows {
					for name := range flow.Scopes {
						scopes[name] = true
					}
				}
			}
			var names []string
			for _, s := range d.Scopes {
				names = append(names, s.Name)
			}
			slices.Sort(names)
			if want := slices.Sorted(maps.Keys(scopes)); !slices.Equal(names, want) {
				t.Errorf("scopes are %q, want %q", names, want)
			}
			api := registry.API{Identifier: d.Identifier, Name: d.Title, URL: d.URL, Scopes: d.Scopes, Endpoints: d.Endpoints}
			if err := api.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}
