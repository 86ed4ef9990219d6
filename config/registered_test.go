package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a file says of an api's endpoints is what requests are judged by.
func TestEndpointsOfTheFileAreWhatTheRegistryTakes(t *testing.T) {
	c, err := Parse([]byte(small+`apis:
- identifier: urn:example:a
  name: A
  url: https://api.example.com/a
  access_token_in_query: true
  scopes: [{name: read, sentence: Read}, {name: write, sentence: Write}, {name: admin, sentence: Everything}]
  endpoints:
  - {method: GET, path: "/{id}", scopes: [read], alternatives: [admin, "write admin"]}
  - {method: DELETE, path: "/{id}", scopes: [write], acr_values: [urn:x], max_age: 5m}
  - {method: "*", path: "/health/{rest...}", public: true}
  - {method: GET, path: /export, denied: true}
`), "portico.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := c.APIs[0].Registered()
	var lines []string
	for _, e := range a.Endpoints {
		lines = append(lines, e.String())
	}
	want := []string{"GET /{id} read | admin | write admin", "DELETE /{id} write acr=urn:x max_age=300", "* /health/{rest...} public", "GET /export denied"}
	if diff := cmp.Diff(want, lines); diff != "" || a.URL != "https://api.example.com/a" || !a.AccessTokenInQuery {
		t.Errorf("%+v %s", a, diff)
	}
}
