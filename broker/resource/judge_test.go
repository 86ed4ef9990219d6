package resource

import (
	"errors"
	"testing"
	"time"
)

var now = time.Unix(1_790_000_000, 0)

// What a token says is compared with what is needed: all scopes, or all of another set; then how and when the person signed in.
func TestWhatATokenSaysIsJudged(t *testing.T) {
	token := func(acr string, signedIn time.Duration, scopes ...string) *Token {
		tok := &Token{Scopes: scopes, ACR: acr}
		if signedIn > 0 {
			tok.AuthTime = now.Add(-signedIn)
		}
		return tok
	}
	for name, c := range map[string]struct {
		token *Token
		need  Need
		want  string
	}{
		"nothing is needed":           {token("", 0), Need{}, ""},
		"the scope":                   {token("", 0, "a", "b"), Need{Scopes: []string{"b"}}, ""},
		"one of two":                  {token("", 0, "a"), Need{Scopes: []string{"a", "b"}}, CodeInsufficientScope},
		"a scope that begins like it": {token("", 0, "notes:read:all"), Need{Scopes: []string{"notes:read"}}, CodeInsufficientScope},
		"a scope in other letters":    {token("", 0, "A"), Need{Scopes: []string{"a"}}, CodeInsufficientScope},
		"no scopes":                   {token("", 0), Need{Scopes: []string{"a"}}, CodeInsufficientScope},
		"an alternative":              {token("", 0, "c", "d"), Need{Scopes: []string{"a"}, Alternatives: [][]string{{"b"}, {"c", "d"}}}, ""},
		"half of an alternative":      {token("", 0, "c"), Need{Scopes: []string{"a"}, Alternatives: [][]string{{"c", "d"}}}, CodeInsufficientScope},
		"the acr":                     {token("mfa", 0), Need{ACRValues: []string{"hw", "mfa"}}, ""},
		"another acr":                 {token("pwd", 0), Need{ACRValues: []string{"mfa"}}, CodeInsufficientAuthentication},
		"no acr":                      {token("", 0), Need{ACRValues: []string{"mfa"}}, CodeInsufficientAuthentication},
		"recent":                      {token("", time.Minute), Need{MaxAge: time.Minute}, ""},
		"too long ago":                {token("", time.Minute+time.Second), Need{MaxAge: time.Minute}, CodeInsufficientAuthentication},
		"nobody signed in":            {token("", 0), Need{MaxAge: time.Minute}, CodeInsufficientAuthentication},
		"too little scope comes before the sign-in":  {token("", 0), Need{Scopes: []string{"a"}, ACRValues: []string{"mfa"}}, CodeInsufficientScope},
		"right in every way":                         {token("mfa", time.Second, "a"), Need{Scopes: []string{"a"}, ACRValues: []string{"mfa"}, MaxAge: time.Minute}, ""},
		"the right acr does not make up for the age": {token("mfa", time.Hour), Need{ACRValues: []string{"mfa"}, MaxAge: time.Minute}, CodeInsufficientAuthentication},
	} {
		err := Judge(c.token, c.need, now)
		var refusal *Error
		switch errors.As(err, &refusal); {
		case c.want == "" && err != nil, c.want != "" && (refusal == nil || refusal.Code != c.want):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A token that leaves open who issued it, for whom, or until when, does not stand.
func TestATokenThatLeavesSomethingOpenDoesNotStand(t *testing.T) {
	good := Token{Issuer: "https://i", Audience: []string{"other", "https://a"}, ExpiresAt: now}
	for name, c := range map[string]struct {
		edit   func(*Token)
		stands bool
	}{
		"right":                      {func(*Token) {}, true},
		"within the leeway":          {func(t *Token) { t.ExpiresAt = now.Add(time.Millisecond - Leeway) }, true},
		"at its end":                 {func(t *Token) { t.ExpiresAt = now.Add(-Leeway) }, false},
		"without expiry":             {func(t *Token) { t.ExpiresAt = time.Time{} }, false},
		"without issuer":             {func(t *Token) { t.Issuer = "" }, false},
		"of another issuer":          {func(t *Token) { t.Issuer = "https://i/" }, false},
		"without audience":           {func(t *Token) { t.Audience = nil }, false},
		"for another api":            {func(t *Token) { t.Audience = []string{"https://a/"} }, false},
		"for one that begins alike":  {func(t *Token) { t.Audience = []string{"https://a.evil"} }, false},
		"for an api in capital case": {func(t *Token) { t.Audience = []string{"HTTPS://A"} }, false},
	} {
		tok := good
		c.edit(&tok)
		if refusal := tok.stands("https://i", "https://a", now); (refusal == nil) != c.stands {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}
