package openapi_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/registry/openapi"
)

// A document that is anything at all is either an error, or endpoints and scopes that an api can have; reading it ends, and nothing that it
// says forges a line or a terminal's output. Nobody but its security requirements can make an endpoint public.
func FuzzRead(f *testing.F) {
	for _, file := range []string{"testdata/gmail.json", "testdata/square.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 2<<10)], false)
	}
	const paths = "paths:\n  /a/{id}: {get: {security: [{broker: [read]}, {login: [write], broker: []}]}, put: {security: []}}\n  /a/b: {get: {security: [{key: []}]}}\n"
	for _, seed := range []string{
		head + paths, head + "security: [{}]\npaths: {/a: {get: {}}, /b: {$ref: '#/paths/~1a'}, /c: {$ref: '#/paths/~1c'}}",
		head + "x: &a {security: [{broker: [read]}], <<: *a}\npaths: {/a: {get: {<<: *a}}}",
		head + "paths: {'/{+a}': {get: {security: []}}, '/{a}': {get: {security: []}}, '/a?b': {post: {security: []}}, '/x{a}/{b}y': {get: {security: []}}}",
		`{"swagger":"2.0","host":"h","basePath":"/v1","schemes":["https"],"securityDefinitions":{"o":{"type":"oauth2","scopes":{"a":"b"}}},"paths":{"/\ud83d\ude00":{"get":{"security":[{"o":["a"]}]}}}}`,
		"openapi: 3.0.0\nservers: [{url: 'https://{a}/', variables: {a: {default: h}}}]\n" + paths, "a: &a [*a]\n", "? [a]\n: b", "{", "\xef\xbb\xbf{}", "\xff\xfeo", "--- \n---\n", "!!binary a: b",
		"openapi: 3.0.0\npaths: {/\"\\e[2J\": {get: {security: [{\"\\e\": []}]}}}",
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, isPublic bool) {
		d, err := openapi.Read(data, openapi.Options{PublicUnlessSaid: isPublic, BearerScopes: isPublic, Reserved: reserved})
		if err != nil {
			if d != nil || !errors.Is(err, openapi.ErrInvalid) || !isPlain(err.Error()) {
				t.Errorf("%v, %q", d, err)
			}
			return
		}
		for _, note := range d.Notes {
			if !isPlain(note.Text + strings.Join(note.Operations, "")) {
				t.Errorf("the note %q would forge a line or a terminal's output", note)
			}
		}
		if len(d.Endpoints) > d.Operations || len(d.Title) > registry.MaxName || !isPlain(d.Title) {
			t.Errorf("%d endpoints of %d operations, %q", len(d.Endpoints), d.Operations, d.Title)
		}
		for _, e := range d.Endpoints {
			if e.Public && !isPublic && !bytes.Contains(data, []byte("security")) && !bytes.ContainsAny(data, "\\\x00") {
				t.Errorf("%s is public, and nothing is said of security", e)
			}
		}
		api := registry.API{Identifier: "https://a.example", Name: "A", URL: d.URL, Scopes: d.Scopes, Endpoints: d.Endpoints}
		for _, problem := range api.EndpointProblems() {
			t.Errorf("%s: %v", d.Endpoints[problem.Index], problem.Err)
		}
		if err := api.Validate(); err != nil && len(d.Scopes) > 0 && len(d.Scopes) <= 256 && !strings.Contains(err.Error(), "as JSON") {
			t.Error(err)
		}
	})
}

func isPlain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
