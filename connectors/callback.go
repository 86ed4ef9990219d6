package connectors

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	// maxCode bounds an authorization code; Facebook's, the longest, have some 400 characters.
	maxCode = 4096
	// maxHint bounds a hint that a browser brought and that goes on to the provider.
	maxHint = 256
	// maxUpstreamCode bounds a provider's error code in our log.
	maxUpstreamCode = 64
	// maxDescription bounds a provider's description in our log.
	maxDescription = 200
)

// judgeCallback reads the parameters of a callback (RFC 6749 sections 4.1.2 and 4.1.2.1)
// and returns the code. issuer is what the iss parameter must say where there is one (RFC
// 9207 section 2.4): another issuer means that the answer of one provider was brought to
// another's callback, the mix-up attack. A missing iss is for the connector to judge.
func judgeCallback(callback url.Values, issuer string) (string, *Error) {
	for _, key := range []string{"code", "state", "iss", "error", "error_code"} {
		if len(callback[key]) > 1 {
			// RFC 6749 section 3.1. Two readers of a repeated parameter may each see another value.
			return "", &Error{Kind: Malformed, Err: fmt.Errorf("the callback repeats %s", key)}
		}
	}
	if iss := callback.Get("iss"); callback.Has("iss") && iss != issuer {
		return "", &Error{Kind: Untrusted, Err: fmt.Errorf("the callback's iss is %q, expected %q", trimmed(iss, maxDescription), issuer)}
	}
	if e := callbackError(callback); e != nil {
		return "", e
	}
	code := callback.Get("code")
	if code == "" {
		return "", &Error{Kind: Malformed, Err: errors.New("the callback has neither code nor error")}
	}
	if len(code) > maxCode {
		return "", &Error{Kind: Malformed, Err: fmt.Errorf("the callback's code has more than %d characters", maxCode)}
	}
	return code, nil
}

// callbackError is the error that a callback reports, or nil.
func callbackError(callback url.Values) *Error {
	code := callback.Get("error")
	if code == "" {
		// Facebook reports a wrong set-up of the app (a redirect URI or scope that it does
		// not know) without error: only error_code and error_message.
		if number := callback.Get("error_code"); number != "" {
			return &Error{Kind: Misconfigured, UpstreamCode: upstreamCode(number), Err: describe("the provider refused the request", callback.Get("error_message"))}
		}
		return nil
	}
	return &Error{Kind: kindOfCode(code), UpstreamCode: upstreamCode(code), Err: describe("the provider reported an error", callback.Get("error_description"))}
}

// kindOfCode classifies the error codes of RFC 6749 sections 4.1.2.1 and 5.2, OpenID Connect
// Core section 3.1.2.6, and those that Google and GitHub added to them.
func kindOfCode(code string) Kind {
	switch code {
	case "access_denied", "login_required", "consent_required", "interaction_required", "account_selection_required",
		"unverified_user_email": // GitHub: the person must verify their address there first
		return Denied
	case "invalid_grant", "bad_verification_code":
		return Expired
	case "server_error", "temporarily_unavailable":
		return Unavailable
	case "slow_down":
		return RateLimited
	case "invalid_client", "unauthorized_client", "unsupported_grant_type", "unsupported_response_type",
		"invalid_scope", "invalid_target", "invalid_request", "redirect_uri_mismatch", "deleted_client",
		"incorrect_client_credentials", "application_suspended", "request_not_supported", "registration_not_supported":
		return Misconfigured
	}
	return Malformed
}

// upstreamCode makes a provider's error code fit for a log and a page: the characters that
// RFC 6749 section 5.2 allows, and not many. A browser can write anything into a callback.
func upstreamCode(code string) string {
	return trimmed(strings.Map(func(r rune) rune {
		if r < 0x21 || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, code), maxUpstreamCode)
}

// describe adds what a provider wrote to our own sentence. Providers quote secrets back
// ("Malformed access token EAAG…"), so whatever could be one is left out.
func describe(sentence, text string, secrets ...string) error {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	words := strings.Fields(text)
	for i, w := range words {
		if likeSecret(w) {
			words[i] = "…"
		}
	}
	text = trimmed(strings.Join(words, " "), maxDescription)
	if text == "" {
		return errors.New(sentence)
	}
	return fmt.Errorf("%s: %q", sentence, text)
}

// likeSecret says whether a word could be a code or a token: long, and with a digit.
func likeSecret(word string) bool {
	const shortest = 12
	return len(word) >= shortest && strings.ContainsAny(word, "0123456789")
}

// hint is a hint as it may be sent on: "" where it is longer than any real one or has control characters.
func hint(s string) string {
	if len(s) > maxHint || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return ""
	}
	return s
}

// trimmed cuts a string to at most n bytes, at a rune.
func trimmed(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
