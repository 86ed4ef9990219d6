package registry

import (
	"regexp"
	"slices"
	"strings"
)

// Withheld says which endpoints may not stay either, if requests for those that are missing are to be denied: the ones that would take
// such a request, now that nothing more specific is there. What is withheld is then missing itself. The result has, by their indexes, the
// endpoint whose requests they would take. A missing path may be any URL template: what cannot be read of it counts as everything there.
func Withheld(endpoints, missing []Endpoint) map[int]Endpoint {
	patterns := make([][]segment, len(endpoints))
	for i := range endpoints {
		patterns[i], _ = parsePattern(endpoints[i].Path)
	}
	withheld := map[int]Endpoint{}
	missing = slices.Clone(missing)
	for next := 0; next < len(missing); next++ {
		m := missing[next]
		pattern := widePattern(m.Path)
		for i := range endpoints {
			if _, gone := withheld[i]; !gone && takes(&endpoints[i], &m, patterns[i], pattern) {
				withheld[i] = m
				missing = append(missing, endpoints[i])
			}
		}
	}
	return withheld
}

var (
	// queryPattern is what a template has after the path: in no request does it tell paths apart.
	queryPattern = regexp.MustCompile(`\{[?&#][^{}]*\}|[?#].*`)
	// namesPattern is a name that no pattern has.
	namesPattern = regexp.MustCompile(`\{[^{}]*\}`)
)

// widePattern has at least the requests of a template.
func widePattern(template string) []segment {
	path, isRooted := strings.CutPrefix(queryPattern.ReplaceAllString(template, ""), "/")
	if !isRooted {
		return nil
	}
	var pattern []segment
	parts := strings.Split(path, "/")
	for i, part := range parts {
		s, err := parseSegment(part)
		if err != nil {
			s, err = parseSegment(namesPattern.ReplaceAllString(part, "{x}"))
		}
		if err != nil || part == "" && i < len(parts)-1 || s.kind == segmentRest {
			return append(pattern, segment{kind: segmentRest})
		}
		pattern = append(pattern, s)
	}
	return pattern
}

// takes says whether a request that is the missing endpoint's could be e's without it: it is of both, and e is not the more specific, which
// would have it in any case.
func takes(e, missing *Endpoint, es, ms []segment) bool {
	if es == nil || ms == nil || !sharesMethod(e.Method, missing.Method) {
		return false
	}
	decided, first := false, false // the leftmost difference decides, and e is the one
	decide := func(isFirst bool) {
		if !decided {
			decided, first = true, isFirst
		}
	}
	for i := range max(len(es), len(ms)) {
		if i == len(es) || i == len(ms) {
			return false
		}
		s, o := &es[i], &ms[i]
		switch {
		case s.kind == o.kind && slices.Equal(s.texts, o.texts):
		case s.kind == segmentRest || o.kind == segmentRest:
			decide(o.kind == segmentRest)
			return !first
		case s.excludes(o):
			return false
		case s.kind != o.kind:
			decide(s.kind < o.kind)
		case s.letters() != o.letters():
			decide(s.letters() > o.letters())
		default:
			decide(false) // neither is more specific
		}
	}
	// Of one path, the endpoint for the method itself comes first.
	decide(missing.Method == anyMethod && e.Method != anyMethod || missing.Method == "GET" && e.Method == "HEAD")
	return !first
}
