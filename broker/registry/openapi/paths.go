package openapi

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/portico-id/portico/broker/registry"
)

// servers reads where the api is, and returns the first server's address as the document gives it: what is below it is the api.
func (r *reader) servers(top *object) string {
	var addresses []string
	if r.swagger {
		addresses = r.hosts(top)
	} else {
		addresses = r.addresses(top.get("servers"))
	}
	for _, address := range addresses {
		if strings.HasPrefix(address, "https://") && isWeb(address) {
			r.d.Identifier = address
			break
		}
	}
	if len(addresses) == 0 {
		return "" // OpenAPI: the root of wherever the document is
	}
	if isWeb(addresses[0]) {
		r.d.URL = addresses[0]
	} else if addresses[0] != "" {
		r.note("", "the first server is %s, which is no web address: say where the api is", quote(addresses[0]))
	}
	if len(addresses) > 1 {
		r.note("", "of %d servers the first is the api's", len(addresses))
	}
	return addresses[0]
}

// hosts are the addresses that Swagger 2.0 says in parts.
func (r *reader) hosts(top *object) []string {
	path := strings.TrimRight(r.text(top.get("basePath")), "/")
	host := r.text(top.get("host"))
	if host == "" {
		return []string{path}
	}
	scheme := "https" // or that of wherever the document is
	for i, item := range r.list(top.get("schemes")) {
		if text := r.text(item); i == 0 || text == "https" {
			scheme = text
		}
	}
	return []string{scheme + "://" + host + path}
}

// variablePattern is a variable in the URL of a server.
var variablePattern = regexp.MustCompile(`\{[^{}]*\}`)

// addresses are the URLs of servers, with their variables' defaults, without slashes at the end.
func (r *reader) addresses(n *yaml.Node) []string {
	var addresses []string
	for _, item := range r.list(n) {
		server := r.object(item)
		variables := r.object(server.get("variables"))
		address := variablePattern.ReplaceAllStringFunc(r.text(server.get("url")), func(name string) string {
			if value := r.object(variables.get(name[1 : len(name)-1])).get("default"); value != nil {
				return r.text(value)
			}
			return name
		})
		addresses = append(addresses, strings.TrimRight(address, "/"))
	}
	return addresses
}

// isWeb says whether an address is one that an api can have.
func isWeb(address string) bool { return registry.CheckURL(address) == nil }

// operations are those of the paths, in the document's order. base is the address of the api.
func (r *reader) operations(top *object, base string) []operation {
	var all []operation
	paths := r.object(top.get("paths"))
	for _, path := range paths.names {
		if strings.HasPrefix(path, "x-") || !r.visit(len(methods)) {
			continue
		}
		chain, problem := r.chain(paths.get(path))
		if problem != "" {
			all = append(all, operation{method: anyMethod, path: path, problem: problem})
			continue
		}
		all = append(all, r.pathItem(path, chain, base)...)
	}
	return all
}

const anyMethod = "*"

// pathItem are the operations of a path. Where it has a $ref, chain is where that leads to.
func (r *reader) pathItem(path string, chain []*object, base string) []operation {
	var found []operation
	add := func(method string, n *yaml.Node, item *object) {
		if isNull(n) {
			return
		}
		o := r.object(n)
		op := operation{method: method, path: path, security: o.get("security")}
		servers := o.get("servers")
		if servers == nil {
			servers = item.get("servers")
		}
		op.path, op.elsewhere = r.below(servers, path, base)
		switch {
		case method == anyMethod: // which would be an endpoint for every method
			op.problem = "* is no method"
		case op.security == nil && item.get("security") != nil:
			op.problem = "security stands beside the methods of its path, where OpenAPI has none"
		}
		if i := slices.IndexFunc(found, func(o operation) bool { return o.method == method }); i >= 0 {
			found[i].problem = "it is there twice, beside a $ref and behind it, and nothing says which counts"
			return
		}
		found = append(found, op)
	}
	for _, item := range chain {
		for _, name := range item.names {
			switch method := strings.ToLower(name); {
			case method == name && slices.Contains(methods, name):
				add(strings.ToUpper(name), item.get(name), item)
			case slices.Contains(methods, method):
				found = append(found, operation{method: strings.ToUpper(name), path: path, problem: "OpenAPI has methods in small letters, and not " + quote(name)})
			}
		}
		more := r.object(item.get("additionalOperations")) // 3.2: methods as they are sent
		for _, name := range more.names {
			add(name, more.get(name), item)
		}
	}
	return found
}

// below is an operation's path below the api's address, where servers of its own say otherwise. elsewhere is such a server if none is the api's.
func (r *reader) below(servers *yaml.Node, path, base string) (below, elsewhere string) {
	addresses := r.addresses(servers)
	if len(addresses) == 0 {
		return path, ""
	}
	for _, address := range addresses {
		if rest, isBelow := strings.CutPrefix(address, base); isBelow && (rest == "" || rest[0] == '/') {
			return rest + path, ""
		}
	}
	return path, addresses[0]
}

var (
	// restPattern is a name that stands for several segments at the end of a path: {+name} and {/name*} of RFC 6570, {name*} and {name+} of
	// several gateways.
	restPattern = regexp.MustCompile(`/\{(?:\+([\w.~-]+)\*?|([\w.~-]+)[*+])\}$`)
	// queryPattern is what some documents have after a path to tell operations apart, and no request has in its path.
	queryPattern = regexp.MustCompile(`\{[?&#][^{}]*\}$|[?#].*`)
)

// pattern is the pattern of an endpoint for a path template. What is none either is refused when the endpoints are judged.
func (r *reader) pattern(o *operation) (path, problem string) {
	if strings.Contains(o.path, "...}") { // it would be a pattern, and mean something else
		return "", "OpenAPI has no {name...}"
	}
	path = queryPattern.ReplaceAllString(o.path, "")
	if path != o.path {
		r.note(o.String(), "what follows the path tells no requests apart, and does not count")
	}
	if m := restPattern.FindStringSubmatch(path); m != nil {
		path = strings.TrimSuffix(path, m[0]) + "/{" + m[1] + m[2] + "...}"
	}
	return path, ""
}

// settle denies what cannot be registered beside the rest. Of an operation that is lost, nobody may get the requests, so that whatever could take them is
// denied as well.
func (r *reader) settle() {
	r.unite()
	api := registry.API{Scopes: r.d.Scopes, Endpoints: r.d.Endpoints}
	if len(api.Endpoints) > registry.MaxEndpoints {
		r.fail(nil, "%d operations can be registered, and an api has at most %d endpoints", len(api.Endpoints), registry.MaxEndpoints)
	}
	if r.err != nil {
		return
	}
	gone := map[int]bool{}
	for _, problem := range api.EndpointProblems() {
		e, text := &r.d.Endpoints[problem.Index], problem.Field+": "+printable(problem.Err.Error())
		if problem.Field == "path" || problem.Field == "method" {
			gone[problem.Index] = true
			r.lose(*e, text)
		} else {
			r.deny(e, text)
		}
	}
	r.drop(gone)
	lost, segments := routesOf(r.d.lost), 0
	for i := range lost {
		segments += len(lost[i].segments)
	}
	if segments*len(r.d.Endpoints) > maxComparisons {
		r.fail(nil, "too many operations cannot be registered to compare them with the rest: such as %s", nameOf(lost[0].Endpoint))
		return
	}
	for i := range r.d.Endpoints {
		e := &r.d.Endpoints[i]
		if taken := taking(lost, e); taken != nil && !e.Denied {
			r.deny(e, "it could take the requests of "+nameOf(taken)+", which is not registered")
		}
	}
}

// taking is the first of the operations that are lost whose requests an endpoint could take; nil if there is none.
func taking(lost []route, e *registry.Endpoint) *registry.Endpoint {
	to := routeOf(e)
	for i := range lost {
		if mayMeet(&lost[i], &to) {
			return lost[i].Endpoint
		}
	}
	return nil
}

// route is an endpoint, and its path as it is compared.
type route struct {
	*registry.Endpoint
	segments []string
	plain    int // of segments, from the left: those that are of namePattern
}

func routeOf(e *registry.Endpoint) route {
	r := route{Endpoint: e, segments: strings.Split(e.Path, "/")}
	for r.plain < len(r.segments) && namePattern.MatchString(r.segments[r.plain]) {
		r.plain++
	}
	return r
}

func routesOf(endpoints []registry.Endpoint) []route {
	all := make([]route, len(endpoints))
	for i := range endpoints {
		all[i] = routeOf(&endpoints[i])
	}
	return all
}

// namePattern is a segment whose names, if it has any, stand for no more than parts of it.
var namePattern = regexp.MustCompile(`^(?:[^{}?#]|\{[\pL\pN_.~@:-]*[\pL\pN_~@:-]\})*$`)

// mayMeet says whether a request could be of both, as far as their paths say for certain: from a segment on that could be several, they do not.
func mayMeet(a, b *route) bool {
	isRead := func(e *route) bool { return e.Method == "GET" || e.Method == "HEAD" } // GET covers HEAD
	if a.Method != b.Method && a.Method != anyMethod && b.Method != anyMethod && !(isRead(a) && isRead(b)) {
		return false
	}
	for i := range min(len(a.segments), len(b.segments)) {
		switch {
		case i >= min(a.plain, b.plain):
			return true
		case a.segments[i] != b.segments[i] && differ(a.segments[i], b.segments[i]):
			return false
		}
	}
	return len(a.segments) == len(b.segments)
}

// differ says whether nothing is of both segments, by the letters around their names.
func differ(a, b string) bool {
	switch {
	case strings.Contains(a+b, "%"): // a letter may be written in two ways
		return false
	case !strings.Contains(a+b, "{"):
		return a != b
	}
	around := func(s string) (before, after string) {
		before, _, _ = strings.Cut(s, "{")
		return before, s[strings.LastIndex(s, "}")+1:]
	}
	aBefore, aAfter := around(a)
	bBefore, bAfter := around(b)
	return !strings.HasPrefix(aBefore, bBefore) && !strings.HasPrefix(bBefore, aBefore) || !strings.HasSuffix(aAfter, bAfter) && !strings.HasSuffix(bAfter, aAfter)
}

// shapePattern is what does not tell two patterns apart: their names.
var shapePattern = regexp.MustCompile(`\{[^{}]*?(\.\.\.)?\}`)

// unite makes one endpoint of operations that no request tells apart. It is denied unless they ask for the same.
func (r *reader) unite() {
	var shapes []string
	alike := map[string][]int{}
	for i := range r.d.Endpoints {
		shape := r.d.Endpoints[i].Method + " " + shapePattern.ReplaceAllString(r.d.Endpoints[i].Path, "{$1}")
		if len(alike[shape]) == 0 {
			shapes = append(shapes, shape)
		}
		alike[shape] = append(alike[shape], i)
	}
	gone := map[int]bool{}
	for _, shape := range shapes {
		first, others := alike[shape][0], alike[shape][1:]
		same := !slices.ContainsFunc(others, func(i int) bool { return !sameNeed(&r.d.Endpoints[first], &r.d.Endpoints[i]) })
		for _, i := range others {
			gone[i] = true
			if same {
				r.note(nameOf(&r.d.Endpoints[i]), "no request tells it apart from %s, which asks for the same: one endpoint is registered", nameOf(&r.d.Endpoints[first]))
			}
		}
		if !same {
			for _, i := range alike[shape] {
				r.deny(&r.d.Endpoints[i], "no request tells it apart from another, which asks for something else")
			}
		}
	}
	r.drop(gone)
}

// sameNeed says whether two endpoints ask for the same.
func sameNeed(a, b *registry.Endpoint) bool {
	as, bs := append([][]string{a.Scopes}, a.Alternatives...), append([][]string{b.Scopes}, b.Alternatives...)
	return a.Public == b.Public && a.Denied == b.Denied && len(as) == len(bs) && !slices.ContainsFunc(as, func(set []string) bool { return !hasSet(bs, set) })
}

// drop takes endpoints out.
func (r *reader) drop(gone map[int]bool) {
	var kept []registry.Endpoint
	for i := range r.d.Endpoints {
		if !gone[i] {
			kept = append(kept, r.d.Endpoints[i])
		}
	}
	r.d.Endpoints = kept
}

// nameOf is an endpoint as notes name it.
func nameOf(e *registry.Endpoint) string { return e.Method + " " + printable(e.Path) }
