package openapi

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/registry"
)

// Whatever two paths are: where some request is of both, that they may meet is seen. Otherwise an endpoint would take requests of an operation that could
// not be registered, and whose needs nobody checks.
func TestPathsOfOneRequestMayMeet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	endpoint := func() registry.Endpoint {
		var b strings.Builder
		for range 1 + random.IntN(3) {
			b.WriteString("/" + pick("a", "b", "ab", "%61b", "{x}", "{x}", "a{x}", "{x}b", "a{x}b", "{x}-{y}"))
		}
		return registry.Endpoint{Method: pick("GET", "GET", "HEAD", "POST", "*"), Path: b.String() + pick("", "", "", "/", "/{r...}")}
	}
	met, apart := 0, 0
	for range 4000 {
		a, b := endpoint(), endpoint()
		ra, rb := routeOf(&a), routeOf(&b)
		may := mayMeet(&ra, &rb)
		if may != mayMeet(&rb, &ra) {
			t.Fatalf("%s and %s: it depends on which is first", a, b)
		}
		if !may {
			apart++
		}
		ofA, ofB := registry.API{Endpoints: []registry.Endpoint{a}}, registry.API{Endpoints: []registry.Endpoint{b}}
		for range 100 {
			method, path := pick("GET", "HEAD", "POST", "PUT"), ""
			for range 1 + random.IntN(4) {
				path += "/" + pick("a", "b", "ab", "aab", "abb", "a-b", "c")
			}
			path += pick("", "", "/")
			if ofA.Endpoint(method, path) == nil || ofB.Endpoint(method, path) == nil {
				continue
			}
			if met++; !may {
				t.Fatalf("%s %s is of %s and of %s", method, path, a, b)
			}
		}
	}
	if met < 500 || apart < 500 {
		t.Errorf("%d requests were of both, and %d pairs were told apart: this shows too little", met, apart)
	}
}
