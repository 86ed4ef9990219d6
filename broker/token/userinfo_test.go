package token

import "testing"

// An answer about nobody, or for nobody, is not signed.
func TestUserinfoNamesItsSubjectAndAudience(t *testing.T) {
	tokens := &IDTokens{}
	for name, c := range map[string]struct {
		client string
		claims map[string]any
	}{
		"no subject":             {"app", map[string]any{"email": "ann@example.com"}},
		"an empty subject":       {"app", map[string]any{"sub": ""}},
		"a subject of no string": {"app", map[string]any{"sub": 7}},
		"no audience":            {"", map[string]any{"sub": "ann"}},
	} {
		if raw, err := tokens.IssueUserinfo(RS256, c.client, c.claims); err == nil {
			t.Errorf("%s: signed %q", name, raw)
		}
	}
}
