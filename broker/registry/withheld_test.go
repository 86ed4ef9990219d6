package registry_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/registry"
)

// What is not registered is denied only if nothing less specific takes its place: an endpoint that would is withheld, and what it
// covered in turn. Otherwise leaving out the operation for administrators would give it to everybody who may have /users/{id}.
func TestWhatIsMissingIsNotTakenByTheNextBestEndpoint(t *testing.T) {
	for _, c := range []struct{ missing, endpoints, withheld string }{
		{"GET /users/admin", "GET /users/{id}", "GET /users/{id}"},
		{"GET /users/admin", "GET /users/{id} POST /users/{id} DELETE /users/admin", "GET /users/{id}"},
		{"GET /users/{id}", "GET /users/admin", ""}, // which has its requests in any case
		{"GET /users/{id}", "GET /users/x{id}", ""},
		{"GET /users/x{id}", "GET /users/{id}", "GET /users/{id}"},
		{"GET /users/x{id}", "GET /users/{id}y", "GET /users/{id}y"}, // neither is the more specific
		{"GET /users/x{id}", "GET /users/y{id}", ""},
		{"POST /v1/{name}:cancel", "POST /v1/{name} POST /v1/{name}:start", "POST /v1/{name}"},
		{"GET /a/b", "GET /a/{rest...} GET /{rest...} GET /b/{rest...}", "GET /a/{rest...} GET /{rest...}"},
		{"GET /a/{rest...}", "GET /a/b GET /{rest...}", "GET /{rest...}"},
		{"GET /a/{x}/c", "GET /a/b/{y}", ""},                     // the leftmost difference decides
		{"GET /a/b/{y}", "GET /a/{x}/c", "GET /a/{x}/c"},         // and so /a/b/c is the missing one's
		{"GET /a/b/{y}", "GET /{x}/b", ""},                       // no path is of both
		{"GET /a", "GET /{x} GET /{x}/", "GET /{x}"},             // a slash at the end counts
		{"GET /a/", "GET /a/{x} GET /a/{x...}", "GET /a/{x...}"}, // a name takes at least a byte
		{"HEAD /a", "GET /a", "GET /a"},
		{"GET /a", "HEAD /a", ""},
		{"* /a", "GET /a * /{x}", "* /{x}"},
		{"GET /a", "* /a POST /a", "* /a"},
		{"GET /a", "* /a GET /{x} POST /{x}", "* /a GET /{x} POST /{x}"}, // what is withheld is missing itself
		// Templates that are no patterns.
		{"POST /v1/{+name}:cancel", "POST /v1/{name} POST /v1/list", "POST /v1/{name}"},
		{"GET /jobs?action=delete", "GET /jobs GET /jobs/{id}", "GET /jobs"},
		{"GET /search{?q,limit}", "GET /search", "GET /search"},
		{"GET /a/{b", "GET /{rest...} GET /a/{x}", "GET /{rest...}"},
		{"GET a", "GET /a", ""},
	} {
		parse := func(text string) (list []registry.Endpoint) {
			for words := range slices.Chunk(strings.Fields(text), 2) {
				list = append(list, registry.Endpoint{Method: words[0], Path: words[1]})
			}
			return list
		}
		endpoints := parse(c.endpoints)
		withheld := registry.Withheld(endpoints, parse(c.missing))
		var got []string
		for i := range endpoints {
			if _, ok := withheld[i]; ok {
				got = append(got, endpoints[i].String())
			}
		}
		if strings.Join(got, " ") != c.withheld {
			t.Errorf("without %s of %s: %q are withheld, want %q", c.missing, c.endpoints, got, c.withheld)
		}
	}
}

// Whatever the endpoints are: a request that would be the missing one's, were it registered, is denied once what is withheld is gone.
func TestARequestOfAMissingEndpointIsDenied(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	method := func() string { return pick("GET", "GET", "HEAD", "POST", "*") }
	path := func() string {
		var b strings.Builder
		for range 1 + random.IntN(3) {
			b.WriteString("/" + pick("a", "b", "ab", "{x}", "{x}", "a{x}", "{x}b", "a{x}b", "{x}-{y}"))
		}
		return b.String() + pick("", "", "", "/", "/{r...}")
	}
	reached := 0
	for range 1000 {
		missing := registry.Endpoint{Method: method(), Path: path()}
		var endpoints []registry.Endpoint
		for range 1 + random.IntN(4) {
			endpoints = append(endpoints, registry.Endpoint{Method: method(), Path: path()})
		}
		all := registry.API{Endpoints: append(slices.Clone(endpoints), missing)}
		if len(all.EndpointProblems()) > 0 {
			continue
		}
		var kept registry.API
		withheld := registry.Withheld(endpoints, []registry.Endpoint{missing})
		for i := range endpoints {
			if _, gone := withheld[i]; !gone {
				kept.Endpoints = append(kept.Endpoints, endpoints[i])
			}
		}
		for range 200 {
			m := pick("GET", "HEAD", "POST", "PUT")
			p := ""
			for range 1 + random.IntN(4) {
				p += "/" + pick("a", "b", "ab", "aab", "abb", "a-b", "c")
			}
			p += pick("", "", "/")
			if e := all.Endpoint(m, p); e == nil || e.String() != missing.String() {
				continue
			}
			reached++
			if e := kept.Endpoint(m, p); e != nil {
				t.Fatalf("%s is missing, %v are registered, and %s %s is taken by %s", missing, endpoints, m, p, e)
			}
		}
	}
	if reached < 3000 {
		t.Errorf("only %d requests were the missing endpoint's: this shows too little", reached)
	}
}
