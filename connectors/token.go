package connectors

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// tokenAnswer is what a token endpoint says, as far as we judge it before a library reads it.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	Error       any    `json:"error"` // a string, or at Facebook an object
	Description string `json:"error_description"`
}

// parseTokenAnswer reads a token endpoint's answer, in JSON or, as GitHub does unless told
// otherwise, form-encoded.
func parseTokenAnswer(header http.Header, body []byte) (tokenAnswer, error) {
	var t tokenAnswer
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if media == "application/x-www-form-urlencoded" || media == "text/plain" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return t, errors.New("not a form")
		}
		t = tokenAnswer{AccessToken: form.Get("access_token"), TokenType: form.Get("token_type"), Description: form.Get("error_description")}
		if code := form.Get("error"); code != "" {
			t.Error = code
		}
		return t, nil
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return tokenAnswer{}, errors.New("not a JSON object of the expected shape")
	}
	return t, nil
}

// judgeToken judges a token endpoint's answer by RFC 6749 sections 5.1 and 5.2. A failure
// may come with status 200 (GitHub). secrets are kept out of the error.
func judgeToken(a answer, secrets ...string) *Error {
	t, err := parseTokenAnswer(a.header, a.body)
	if code, ok := t.Error.(string); ok && code != "" {
		kind := kindOfCode(code)
		if kind == Malformed && (a.status == http.StatusTooManyRequests || a.status >= 500) {
			kind = kindOfStatus(a.status)
		}
		return &Error{Kind: kind, UpstreamCode: upstreamCode(code), Err: describe("no token", t.Description, secrets...)}
	}
	switch {
	case a.status == http.StatusUnauthorized:
		// RFC 6749 section 5.2: client authentication failed.
		return &Error{Kind: Misconfigured, Err: errors.New("the client was not accepted")}
	case a.status < 200 || a.status > 299:
		return &Error{Kind: kindOfStatus(a.status), Err: errors.New("no token")}
	case err != nil:
		return &Error{Kind: Malformed, Err: err}
	case t.Error != nil && t.Error != "":
		return &Error{Kind: Malformed, Err: errors.New("an error of an unknown shape")}
	case t.AccessToken == "":
		return &Error{Kind: Malformed, Err: errors.New("no access_token")}
	case t.TokenType != "" && !strings.EqualFold(t.TokenType, "bearer"):
		// RFC 6749 section 7.1: a client must not use a token of a type that it does not know.
		return &Error{Kind: Malformed, Err: errors.New("the token_type is not bearer")}
	}
	return nil
}

// tokenRequest rewrites the token request that goth makes through x/oauth2 into the one that
// is wanted: our endpoint, JSON asked for, client id and secret in the body (goth leaves the
// style unset, and x/oauth2 would find it out by sending the code twice), and the PKCE
// verifier, if any (RFC 7636 section 4.5).
func tokenRequest(req *http.Request, endpoint *url.URL, id, secret, verifier string) error {
	if req.Method != http.MethodPost || req.Body == nil {
		return errors.New("not a token request")
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return errors.New("not a token request")
	}
	form.Set("client_id", id)
	form.Set("client_secret", secret)
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	encoded := form.Encode()
	req.URL, req.Host = endpoint, endpoint.Host
	req.Header.Del("Authorization")
	req.Header.Set("Accept", "application/json")
	req.Body = io.NopCloser(strings.NewReader(encoded))
	req.ContentLength = int64(len(encoded))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(encoded)), nil }
	return nil
}

// challenge is the S256 code_challenge of a verifier (RFC 7636 section 4.2).
func challenge(verifier string) string { return oauth2.S256ChallengeFromVerifier(verifier) }
