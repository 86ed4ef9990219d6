package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/resource/dpop"
)

// The error codes of refusals, each with the section that names it.
const (
	CodeInvalidRequest             = "invalid_request"                  // RFC 6750 section 3.1
	CodeInvalidToken               = "invalid_token"                    // RFC 6750 section 3.1
	CodeInsufficientScope          = "insufficient_scope"               // RFC 6750 section 3.1
	CodeInvalidDPoPProof           = "invalid_dpop_proof"               // RFC 9449 section 7.1
	CodeUseDPoPNonce               = "use_dpop_nonce"                   // RFC 9449 section 9
	CodeInsufficientAuthentication = "insufficient_user_authentication" // RFC 9470 section 3
	CodeUnavailable                = "temporarily_unavailable"          // RFC 6749 section 4.1.2.1; RFC 6750 names none for this
	CodeServerError                = "server_error"                     // RFC 6749 section 4.1.2.1
)

const (
	// bearer is the authentication scheme of access tokens that are bound to nothing (RFC 6750 section 2.1).
	bearer = "Bearer"

	// retryAfter is when a request that could not be judged may come again: the broker is asked anew by then.
	retryAfter = time.Second
)

// Error is a refusal with its faces: Code and Description for the client, the status they travel with, and Cause for the log alone.
type Error struct {
	Status int
	// Code is the RFC's. It is "" for a request without a token, which is told nothing but how to come back (RFC 6750 section 3.1).
	Code        string
	Description string
	// RetryAfter is when the same request may be sent again; 0 if that is not for the server to say.
	RetryAfter time.Duration
	Cause      error

	need   Need
	scheme string // that the token came with
	nonce  string // to hand out
	client string // that the token was issued to, for the log
}

func (e *Error) Error() string {
	text := e.Description
	if e.Code != "" {
		text = e.Code + ": " + text
	}
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", text, e.Cause)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Cause }

// because keeps the cause for the log.
func (e *Error) because(err error) *Error {
	e.Cause = err
	return e
}

// descriptionInvalid is what is said of each token that does not stand, so that nobody learns why.
const descriptionInvalid = "the access token is expired, revoked or not one of this server's"

func invalidToken(description string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: CodeInvalidToken, Description: description}
}

func invalidRequest(status int, format string, args ...any) *Error {
	return &Error{Status: status, Code: CodeInvalidRequest, Description: fmt.Sprintf(format, args...)}
}

func badProof(description string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: CodeInvalidDPoPProof, Description: description}
}

func unavailable(err error) *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, Code: CodeUnavailable, RetryAfter: retryAfter, Cause: err,
		Description: "the access token cannot be checked now; try again in a moment",
	}
}

// asError is err as an *Error.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrInvalidToken):
		return invalidToken(descriptionInvalid).because(err)
	case errors.Is(err, ErrUnavailable):
		return unavailable(err)
	}
	return &Error{
		Status: http.StatusInternalServerError, Code: CodeServerError, Cause: err,
		Description: "the server could not answer; try again in a moment",
	}
}

// Refuse answers a request with err, which Check or Judge returned: the status, both challenges (RFC 6750 section 3, RFC 9449 section 7.1), and a
// body of JSON, which nobody may keep.
func (a *API) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	a.logRefusal(r, e)
	h := w.Header()
	if e.Status < http.StatusInternalServerError {
		for _, one := range a.challenges(e) {
			h.Add("WWW-Authenticate", one)
		}
	}
	if e.nonce != "" {
		h.Set(dpop.NonceHeader, e.nonce)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(e.Status)
	code := e.Code
	if code == "" {
		code = CodeInvalidToken
	}
	// The only error left is a client that hung up.
	_ = json.NewEncoder(w).Encode(struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{code, challenge.Text(e.Description)})
}

// challenges are one of each scheme. The scheme that was used says what was wrong; the other one that it is there too.
func (a *API) challenges(e *Error) []string {
	none := &Error{need: e.need}
	if len(a.origins) == 0 { // there is no URL that a proof could be for
		return []string{a.challenge(bearer, e)}
	}
	if e.scheme == dpop.Scheme {
		return []string{a.challenge(dpop.Scheme, e), a.challenge(bearer, none)}
	}
	return []string{a.challenge(bearer, e), a.challenge(dpop.Scheme, none)}
}

// challenge is one challenge, with what was wrong if there is something.
func (a *API) challenge(scheme string, e *Error) string {
	params := []string{"realm", a.options.Identifier}
	if scheme == dpop.Scheme {
		params = append(params, "algs", strings.Join(dpop.Algorithms(), " "))
	}
	if e.Code != "" {
		params = append(params, "error", e.Code, "error_description", e.Description)
	}
	if e.Code == CodeInsufficientAuthentication {
		params = append(params, "acr_values", strings.Join(e.need.ACRValues, " "))
		if e.need.MaxAge > 0 {
			params = append(params, "max_age", strconv.FormatInt(int64(e.need.MaxAge/time.Second), 10))
		}
	} else {
		// The scope is what to ask for, with a refusal as without one.
		params = append(params, "scope", strings.Join(e.need.Scopes, " "))
	}
	return challenge.New(scheme, append(params, "resource_metadata", a.metadataURL)...)
}
