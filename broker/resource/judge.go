package resource

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Leeway is how far the clocks of the broker and of the API may differ, at a token's expiry and its issuing. Servers keep time by NTP; more would
// let tokens live on.
const Leeway = 10 * time.Second

// Need is what a request needs of its token. The zero value is content with any token of the API's.
type Need struct {
	// Scopes are all needed.
	Scopes []string
	// Alternatives are other sets of scopes, each of which is enough too. They count only where there are Scopes.
	Alternatives [][]string
	// ACRValues are the classes of sign-in that will do (RFC 9470 section 3); empty: any.
	ACRValues []string
	// MaxAge is how long ago the person may have signed in, in whole seconds (RFC 9470 section 3); 0: any time.
	MaxAge time.Duration
}

// Judge says whether a token that stands says enough: nil, or an *Error for API.Refuse. It is a pure function. A handler calls it where what is
// needed depends on the request.
func Judge(t *Token, need Need, now time.Time) error {
	if refusal := judge(t, need, now); refusal != nil {
		return refusal
	}
	return nil
}

func judge(t *Token, need Need, now time.Time) *Error {
	if !t.hasAll(need.Scopes) && !slices.ContainsFunc(need.Alternatives, t.hasAll) {
		return &Error{Status: http.StatusForbidden, Code: CodeInsufficientScope, Description: "this needs " + need.scopesInWords(), need: need}
	}
	recent := need.MaxAge <= 0 || !t.AuthTime.IsZero() && !now.After(t.AuthTime.Add(need.MaxAge))
	switch {
	case len(need.ACRValues) > 0 && !slices.Contains(need.ACRValues, t.ACR):
		return stepUp(need, "this needs another way of signing in: an acr of "+strings.Join(need.ACRValues, " or "))
	case !recent:
		return stepUp(need, "this needs a more recent sign-in")
	}
	return nil
}

func stepUp(need Need, description string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: CodeInsufficientAuthentication, Description: description, need: need}
}

// scopesInWords names every set of scopes that will do.
func (n Need) scopesInWords() string {
	words := "the scope " + strings.Join(n.Scopes, " ")
	for _, other := range n.Alternatives {
		words += ", or " + strings.Join(other, " ")
	}
	return words
}

// stands judges what holds for every request: that the token is this broker's, for this API, and alive. A token that leaves one of them open does
// not stand.
func (t *Token) stands(issuer, identifier string, now time.Time) *Error {
	switch {
	case t.Issuer != issuer:
		return invalidToken("the access token is another issuer's").because(notIssuer(t.Issuer, issuer))
	case !slices.Contains(t.Audience, identifier):
		return invalidToken("the access token is for other apis; ask for one with resource=" + identifier).
			because(fmt.Errorf("its audience is %.200q", t.Audience))
	case !now.Before(t.ExpiresAt.Add(Leeway)):
		return invalidToken(descriptionInvalid).because(fmt.Errorf("it ended at %s, and here it is %s", logTime(t.ExpiresAt), logTime(now)))
	}
	return nil
}

// notIssuer names both, since they are often the same but for a slash.
func notIssuer(is, want string) error {
	return fmt.Errorf("its issuer is %.200q, not %q", is, want)
}

// logTime is a time for the log.
func logTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
