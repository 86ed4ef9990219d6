package config

import (
	"fmt"
	"strings"
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

// What may be registered from the command line may stand in the file as well: bounds of its own would keep an api with many scopes out, as public
// descriptions have them.
func TestAnAPIOfTheFileMayBeAsLargeAsAnyOther(t *testing.T) {
	var scopes []string
	for i := range 256 {
		scopes = append(scopes, fmt.Sprintf("{name: s%d, sentence: Do it}", i))
	}
	api := func(scopes []string) error {
		_, err := Parse([]byte(small+"apis: [{identifier: 'urn:example:a', name: A, scopes: ["+strings.Join(scopes, ", ")+"]}]\n"), "portico.yaml", nil)
		return err
	}
	if err := api(scopes); err != nil {
		t.Error(err)
	}
	if err := api(append(scopes, "{name: more, sentence: Do it}")); err == nil || !strings.Contains(err.Error(), "apis[0].scopes: 257 are more than 256") {
		t.Error(err)
	}
}
