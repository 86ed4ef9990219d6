package templates

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// maxHint is the longest email address (RFC 5321 section 4.5.3.1, and erratum 1690).
const maxHint = 254

// shownHint is a login hint if it looks like an email address, and otherwise "": whoever makes a link to
// /authorize writes it, and a sentence of theirs must not appear on our page.
func shownHint(hint string) string {
	at := strings.LastIndexByte(hint, '@')
	if at < 1 || at == len(hint)-1 || len(hint) > maxHint || hint != titleText(hint) || strings.ContainsFunc(hint, unicode.IsSpace) {
		return ""
	}
	return hint
}

// titleText is s without control characters and without those that change the direction of text: a title cannot
// isolate a name as bdi does on the page.
func titleText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, s)
}

// initial is the first letter of the first name that has one, for an account without a picture.
func initial(names ...string) string {
	for _, name := range names {
		for _, r := range name {
			if unicode.IsLetter(r) || unicode.IsNumber(r) {
				return string(unicode.ToUpper(r))
			}
		}
	}
	return ""
}

// ago is a time that has passed, as people say it, to the minute.
func ago(d time.Duration) string {
	switch minutes := int(d / time.Minute); {
	case minutes < 1:
		return "less than a minute ago"
	case minutes == 1:
		return "a minute ago"
	default:
		return fmt.Sprintf("%d minutes ago", minutes)
	}
}
