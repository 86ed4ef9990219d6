package registry

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Path patterns of endpoints, and which of them a request's path matches. A pattern is written as it stands in a URL, so that %20
// is a space; paths are matched decoded, byte by byte.
//
// What matches is searched in a tree with a level for each segment: literals first, then {name} as a part of a segment, then {name},
// then {name...}. The first found is the most specific, and each node is visited at most once, so that no path takes longer than the
// api is large.

// segmentKind orders the kinds of segments: the more specific first.
type segmentKind int

const (
	segmentLiteral segmentKind = iota
	segmentPartial             // {name} with letters before, after or between
	segmentName                // {name}
	segmentRest                // {name...}
)

// segment is what stands between two slashes of a pattern.
type segment struct {
	kind segmentKind
	// texts are the letters of it, decoded: one of a literal; of a partial one those before, between and after its names, of which the first and the last may be empty.
	texts []string
}

// letters is how many bytes of the segment are given: of two partial ones that match, the one with more is the more specific.
func (s *segment) letters() int {
	n := 0
	for _, text := range s.texts {
		n += len(text)
	}
	return n
}

// matches says whether a partial segment matches a path's. Each name takes at least one byte. Finding each text at the first place
// where it can be is enough: what is found earlier leaves more for those that follow.
func (s *segment) matches(value string) bool {
	last := len(s.texts) - 1
	value, ok := strings.CutPrefix(value, s.texts[0])
	if !ok {
		return false
	}
	for _, text := range s.texts[1:last] {
		if value == "" {
			return false
		}
		i := strings.Index(value[1:], text)
		if i < 0 {
			return false
		}
		value = value[1+i+len(text):]
	}
	return len(value) > len(s.texts[last]) && strings.HasSuffix(value, s.texts[last])
}

// excludes says whether two segments that are not the same show that nothing matches both.
func (s *segment) excludes(o *segment) bool {
	if s.kind > o.kind {
		s, o = o, s
	}
	switch {
	case s.kind == segmentLiteral && o.kind == segmentLiteral:
		return true
	case s.kind == segmentLiteral && o.kind == segmentPartial:
		return !o.matches(s.texts[0])
	case s.kind == segmentLiteral:
		return s.texts[0] == "" // {name} takes at least one byte
	case o.kind == segmentPartial:
		a, b := s.texts[0], o.texts[0]
		c, d := s.texts[len(s.texts)-1], o.texts[len(o.texts)-1]
		return !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a) || !strings.HasSuffix(c, d) && !strings.HasSuffix(d, c)
	}
	return false
}

// parsePattern reads a path pattern.
func parsePattern(path string) ([]segment, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return nil, errors.New("it does not begin with a slash")
	case len(path) > maxPath:
		return nil, fmt.Errorf("it is longer than %d bytes", maxPath)
	case strings.ContainsFunc(path, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return nil, errors.New("it has a space, or a character that does not print; encode it, as %20")
	case strings.ContainsAny(path, "?#"):
		return nil, errors.New("it has a query or a fragment; an endpoint is a path alone")
	}
	parts := strings.Split(path[1:], "/")
	segments := make([]segment, len(parts))
	for i, part := range parts {
		last := i == len(parts)-1
		if part == "" && !last {
			return nil, errors.New("it has an empty segment: two slashes side by side")
		}
		var err error
		if segments[i], err = parseSegment(part); err != nil {
			return nil, err
		}
		if segments[i].kind == segmentRest && !last {
			return nil, fmt.Errorf("%s is not at its end", part)
		}
	}
	return segments, nil
}

func parseSegment(part string) (segment, error) {
	if name, isRest := strings.CutSuffix(part, "...}"); isRest && strings.LastIndex(name, "{") == 0 {
		return segment{kind: segmentRest}, checkParameter(part, name[1:])
	}
	var texts []string
	for rest := part; ; {
		before, after, more := strings.Cut(rest, "{")
		text, err := literal(before)
		if err != nil {
			return segment{}, err
		}
		if text == "" && len(texts) > 0 && more {
			return segment{}, fmt.Errorf("%s has two names side by side, and nothing says where one ends", part)
		}
		texts = append(texts, text)
		if !more {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		if !closed {
			return segment{}, fmt.Errorf("%s has a { without }", part)
		}
		if err := checkParameter(part, name); err != nil {
			return segment{}, err
		}
		rest = after
	}
	switch {
	case len(texts) == 1 && dots(texts[0]):
		return segment{}, errors.New("it has a dot segment")
	case len(texts) == 1:
		return segment{kind: segmentLiteral, texts: texts}, nil
	case len(texts) == 2 && texts[0] == "" && texts[1] == "":
		return segment{kind: segmentName}, nil
	}
	return segment{kind: segmentPartial, texts: texts}, nil
}

// checkParameter judges the name in braces. Those of RFC 6570 that mean more than one segment, such as {+path}, are refused rather than
// read as something else.
func checkParameter(part, name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.~@:", r)
	}) {
		return fmt.Errorf("%s has no name of letters, digits and _ - . ~ @ : in its braces; {name...} at the end stands for several segments", part)
	}
	if strings.HasSuffix(name, "...") {
		return fmt.Errorf("%s is only a part of its segment, and stands for no more than that: leave the dots out", part)
	}
	return nil
}

// literal is text of a pattern, decoded.
func literal(text string) (string, error) {
	if strings.Contains(text, "}") {
		return "", errors.New("it has a } without {")
	}
	decoded, err := url.PathUnescape(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is no percent-encoding", text)
	case strings.ContainsAny(decoded, `/\`) || strings.ContainsFunc(decoded, unicode.IsControl):
		return "", fmt.Errorf("%q has an encoded slash, a backslash or a control character, which servers read in different ways; no request with one is let through", text)
	}
	return decoded, nil
}

// dots says whether a segment is one that servers resolve: . or .., and before a semicolon too, which some cut off first.
func dots(segment string) bool {
	segment, _, _ = strings.Cut(segment, ";")
	return segment == "." || segment == ".."
}

// plainPath says whether a decoded path means the same to every server: it begins with a slash, and has no empty segments
// but the last, no dot segments, no backslashes and no control characters.
func plainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	for rest, more := path[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if part == "" && more || dots(part) {
			return false
		}
	}
	return true
}

// sharesMethod says whether a request could be of both methods of endpoints.
func sharesMethod(a, b string) bool {
	return a == b || a == anyMethod || b == anyMethod || a == "GET" && b == "HEAD" || a == "HEAD" && b == "GET"
}

// clash says whether some request could be either endpoint's, and neither is the more specific.
func clash(a, b *Endpoint, as, bs []segment) bool {
	if !sharesMethod(a.Method, b.Method) {
		return false
	}
	// tied says that two parts of a segment of the same weight, such as x{a} and {b}x, went before: what follows can no longer decide,
	// since the leftmost difference does.
	tied := false
	for i := range max(len(as), len(bs)) {
		if i == len(as) || i == len(bs) {
			return false
		}
		s, o := &as[i], &bs[i]
		switch {
		case s.kind == o.kind && slices.Equal(s.texts, o.texts):
		case s.kind == segmentRest || o.kind == segmentRest:
			return tied
		case s.excludes(o):
			return false
		case tied:
		case s.kind != o.kind || s.letters() != o.letters():
			return false
		default:
			tied = true
		}
	}
	return tied || a.Method == b.Method
}

// node is a level of the tree: what may follow a slash.
type node struct {
	literals map[string]*node
	partials []partial // the more specific first
	name     *node
	rest     methods
	here     methods // endpoints whose path ends here
}

type partial struct {
	segment
	*node
}

// methods are the endpoints of one path.
type methods map[string]*Endpoint

// anyMethod is every method.
const anyMethod = "*"

// of is the endpoint for a method: its own, then that of GET for HEAD (RFC 9110 section 9.3.2), then that of every method.
func (m methods) of(method string) *Endpoint {
	if e := m[method]; e != nil {
		return e
	}
	if method == "HEAD" && m["GET"] != nil {
		return m["GET"]
	}
	return m[anyMethod]
}

// routes makes the tree of endpoints that have been found valid. What is not valid is left out, and so is denied.
func routes(endpoints []Endpoint) *node {
	root := &node{}
	for i := range endpoints {
		e := &endpoints[i]
		segments, err := parsePattern(e.Path)
		if err != nil {
			continue
		}
		at, isRest := root, false
		for j := range segments {
			if isRest = segments[j].kind == segmentRest; !isRest {
				at = at.child(&segments[j])
			}
		}
		into := &at.here
		if isRest {
			into = &at.rest
		}
		if *into == nil {
			*into = methods{}
		}
		(*into)[e.Method] = e
	}
	return root
}

// child is the node below n for a segment, made if it is not there yet.
func (n *node) child(s *segment) *node {
	switch s.kind {
	case segmentLiteral:
		if n.literals == nil {
			n.literals = map[string]*node{}
		}
		if n.literals[s.texts[0]] == nil {
			n.literals[s.texts[0]] = &node{}
		}
		return n.literals[s.texts[0]]
	case segmentName:
		if n.name == nil {
			n.name = &node{}
		}
		return n.name
	}
	for _, p := range n.partials {
		if slices.Equal(p.texts, s.texts) {
			return p.node
		}
	}
	fresh := partial{segment: *s, node: &node{}}
	n.partials = append(n.partials, fresh)
	slices.SortStableFunc(n.partials, func(a, b partial) int { return cmp.Compare(b.letters(), a.letters()) })
	return fresh.node
}

// find is the most specific endpoint for what follows a slash of a plain path.
func (n *node) find(method, path string) *Endpoint {
	part, after, more := strings.Cut(path, "/")
	if e := n.literals[part].enter(method, after, more); e != nil {
		return e
	}
	if part != "" {
		for i := range n.partials {
			if p := &n.partials[i]; p.matches(part) {
				if e := p.enter(method, after, more); e != nil {
					return e
				}
			}
		}
		if e := n.name.enter(method, after, more); e != nil {
			return e
		}
	}
	return n.rest.of(method)
}

// enter goes on below a segment that matched. n may be nil.
func (n *node) enter(method, after string, more bool) *Endpoint {
	switch {
	case n == nil:
		return nil
	case more:
		return n.find(method, after)
	}
	return n.here.of(method)
}

// Endpoint is the most specific endpoint of the api for a method and a path below its URL, decoded; nil if there is none, which means that
// the request is denied, as by one that is Denied. In a path, the leftmost segment that differs decides: a literal before {name} as a part of a segment, before
// {name}, before {name...}, which stands for what follows its slash, be it nothing. Of the endpoints of one path, the method's own
// comes first, then GET for HEAD, then *. A path that has none of the method's is passed over. A slash at the end counts. No path with empty
// segments, dot segments, backslashes or control characters is any endpoint's.
//
// It may be called concurrently. What it returns is shared, and must not be changed.
func (a *API) Endpoint(method, path string) *Endpoint {
	if !plainPath(path) {
		return nil
	}
	tree := a.routes
	if tree == nil { // of an api that is in no APIs
		tree = routes(a.Endpoints)
	}
	return tree.find(method, path[1:])
}
