package token

import (
	"testing"
	"time"
)

// A logout token without what section 2.4 requires tells a client nothing, or the wrong thing.
func TestLogoutTokensAreWholeOrNone(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	whole := LogoutToken{ID: "jti", Subject: "sub", Audience: "aud", IssuedAt: now, ExpiresAt: now.Add(time.Minute)}
	tokens := &IDTokens{}
	for name, change := range map[string]func(*LogoutToken){
		"no id":          func(t *LogoutToken) { t.ID = "" },
		"no subject":     func(t *LogoutToken) { t.Subject = "" },
		"no audience":    func(t *LogoutToken) { t.Audience = "" },
		"no time":        func(t *LogoutToken) { t.IssuedAt = time.Time{} },
		"ends at once":   func(t *LogoutToken) { t.ExpiresAt = t.IssuedAt },
		"ends before it": func(t *LogoutToken) { t.ExpiresAt = t.IssuedAt.Add(-time.Hour) },
	} {
		claims := whole
		change(&claims)
		if raw, err := tokens.IssueLogout(RS256, &claims); err == nil {
			t.Errorf("%s: issued %q", name, raw)
		}
	}
}
