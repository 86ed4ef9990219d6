package openapi_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/registry/openapi"
)

// An import replaces what a document can say and leaves everything else: a second one changes nothing, and none takes away a condition that
// an operator added, or what the api is besides.
func TestImportingIntoAnAPI(t *testing.T) {
	const paths = `
paths:
  /notes: {get: {security: [{broker: [read]}]}, post: {security: [{broker: [write]}]}}
  /pay: {post: {security: [{broker: [write]}]}}
`
	api := &registry.API{Identifier: "https://api.example.com", Name: "Notes"}
	d := read(t, head+paths, openapi.Options{})
	before := *api
	d.Apply(api, false)
	want := []openapi.Change{
		{Part: "url", After: "https://api.example.com/v1"},
		{Part: "scope", After: "read: Read your notes"},
		{Part: "scope", After: "write: Write your notes"},
		{Part: "scope", After: "admin: Do everything"},
		{Part: "endpoint", After: "GET /notes read"},
		{Part: "endpoint", After: "POST /notes write"},
		{Part: "endpoint", After: "POST /pay write"},
	}
	if diff := cmp.Diff(want, openapi.Changes(&before, api)); diff != "" {
		t.Error(diff)
	}
	if got := openapi.Changes(nil, api); len(got) != len(want)+1 || got[0] != (openapi.Change{Part: "name", After: "Notes"}) {
		t.Errorf("a new one: %v", got)
	}

	// What an operator adds stays.
	api.AccessTokenFormat, api.AccessTokenTTL = "jwt", 300
	api.Scopes[0].Sentence = "Read what you wrote"
	api.Endpoints[2].ACRValues, api.Endpoints[2].MaxAge = []string{"urn:example:mfa"}, 300
	api.DetailsTypes = []registry.DetailsType{{Type: "payment", Sentence: "Pay"}}
	before = *api
	before.Scopes, before.Endpoints = slices.Clone(api.Scopes), slices.Clone(api.Endpoints)
	d.Apply(api, true)
	if got := openapi.Changes(&before, api); len(got) != 0 {
		t.Errorf("importing it again changed %v", got)
	}
	if diff := cmp.Diff(before.DetailsTypes, api.DetailsTypes); diff != "" || api.AccessTokenFormat != "jwt" || api.AccessTokenTTL != 300 {
		t.Errorf("%+v", api)
	}

	// A document that changed, the sentences with it.
	before = *api
	read(t, head+`
paths:
  /notes: {get: {security: []}, put: {security: [{broker: [write]}, {login: [pen]}]}}
  /pay: {post: {security: [{broker: [admin]}]}}
`, openapi.Options{}).Apply(api, false)
	want = []openapi.Change{
		{Part: "scope", Before: "read: Read what you wrote", After: "read: Read your notes"},
		{Part: "scope", After: "pen: pen"},
		{Part: "endpoint", Before: "GET /notes read", After: "GET /notes public"},
		{Part: "endpoint", After: "PUT /notes write | pen"},
		{Part: "endpoint", Before: "POST /pay write acr=urn:example:mfa max_age=300", After: "POST /pay admin acr=urn:example:mfa max_age=300"},
		{Part: "endpoint", Before: "POST /notes write"},
	}
	if diff := cmp.Diff(want, openapi.Changes(&before, api)); diff != "" {
		t.Error(diff)
	}

	// One without scopes and without a server is one of endpoints alone. What has become public asks for no sign-in either.
	before = *api
	read(t, "openapi: 3.0.0\npaths: {/pay: {post: {security: []}}}", openapi.Options{}).Apply(api, false)
	if len(api.Scopes) != len(before.Scopes) || api.URL != before.URL || len(api.Endpoints) != 1 || api.Endpoints[0].String() != "POST /pay public" {
		t.Errorf("%+v", api)
	}
}

// Whoever imports knows more than the document, and says so: an endpoint beside the document's, or instead of one. What that gives away of
// operations that are denied is said.
func TestEndpointsBesideTheDocuments(t *testing.T) {
	d := read(t, head+`
paths:
  /users/{id}: {get: {security: [{broker: [read]}]}, put: {security: [{broker: [write]}]}}
  /users/admin: {get: {security: [{key: []}]}}
  /users/export: {get: {security: [{key: []}]}}
  /users/{+name}:rename: {put: {security: [{broker: [write]}]}}
`, openapi.Options{})
	d.Add(
		registry.Endpoint{Method: "GET", Path: "/users/{id}", Scopes: []string{"admin"}},
		registry.Endpoint{Method: "PUT", Path: "/users/{id}", Scopes: []string{"admin"}},
		registry.Endpoint{Method: "GET", Path: "/users/export", Scopes: []string{"read"}},
		registry.Endpoint{Method: "OPTIONS", Path: "/{path...}", Public: true},
	)
	if want := "GET /users/{id} admin\nPUT /users/{id} admin\nGET /users/admin denied\nGET /users/export read\nOPTIONS /{path...} public"; lines(d) != want {
		t.Errorf("registered is\n%s\nwant\n%s", lines(d), want)
	}
	if len(d.Notes) != 3 || !noted(d, "GET /users/admin", `denied: it needs "key"`) || !noted(d, "PUT /users/{+name}:rename", "not registered") ||
		!noted(d, "PUT /users/{id}", "registered as you said, although it could take requests of an operation that is not registered: PUT /users/{+name}:rename") {
		t.Errorf("%v", d.Notes)
	}
}
