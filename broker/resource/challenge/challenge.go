// Package challenge writes the challenges of the WWW-Authenticate header (RFC 9110 section 11.6.1), and what may stand in their values.
//
// broker/resource and broker/oauth word them; it knows none of the words. It imports nothing of the broker.
package challenge

import "strings"

// New is a challenge of scheme with params: names and values by turns. A parameter without a value is left out. Of the values, what Text replaces is
// replaced.
func New(scheme string, params ...string) string {
	var b strings.Builder
	b.WriteString(scheme)
	separator := " "
	for i := 0; i+1 < len(params); i += 2 {
		if params[i+1] == "" {
			continue
		}
		b.WriteString(separator + params[i] + `="` + Text(params[i+1]) + `"`)
		separator = ", "
	}
	return b.String()
}

// Text is s as an error_description may hold it (RFC 6749 section 5.2, RFC 6750 section 3): printable ASCII without '"' and '\'. What strangers sent
// may be echoed in a description, so everything else is replaced, and nothing ends a value or a header.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, s)
}
