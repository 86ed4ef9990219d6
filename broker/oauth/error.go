package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/portico-id/portico/broker/resource/challenge"
	"github.com/portico-id/portico/broker/web"
)

// Error is a refusal with its three faces: Code and Description for the client, as its RFC names them; the
// status it travels with; and Cause, for the operator's log alone.
type Error struct {
	Code        string
	Description string
	Status      int
	// RetryAfter is when the same request may be sent again; 0 if that is not for the server to say.
	RetryAfter time.Duration
	Cause      error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Description, e.Cause)
	}
	return e.Code + ": " + e.Description
}

func (e *Error) Unwrap() error { return e.Cause }

// refuse makes an error of the token endpoint's family (RFC 6749 section 5.2): status 400.
func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// because keeps the cause for the log.
func (e *Error) because(err error) *Error {
	e.Cause = err
	return e
}

// The error codes in use, each with the section that names it.
const (
	codeInvalidRequest      = "invalid_request"               // RFC 6749 sections 4.1.2.1, 5.2
	codeUnauthorizedClient  = "unauthorized_client"           // RFC 6749 sections 4.1.2.1, 5.2
	codeInvalidClient       = "invalid_client"                // RFC 6749 section 5.2
	codeInvalidGrant        = "invalid_grant"                 // RFC 6749 section 5.2
	codeUnsupportedGrant    = "unsupported_grant_type"        // RFC 6749 section 5.2
	codeInvalidScope        = "invalid_scope"                 // RFC 6749 sections 4.1.2.1, 5.2
	codeUnsupportedResponse = "unsupported_response_type"     // RFC 6749 section 4.1.2.1
	codeUnavailable         = "temporarily_unavailable"       // RFC 6749 section 4.1.2.1
	codeServerError         = "server_error"                  // RFC 6749 section 4.1.2.1
	codeRegistrationUnsup   = "registration_not_supported"    // OpenID Connect Core section 3.1.2.6
	codeInvalidToken        = "invalid_token"                 // RFC 6750 section 3.1
	codeInvalidDPoPProof    = "invalid_dpop_proof"            // RFC 9449 section 5
	codeUseDPoPNonce        = "use_dpop_nonce"                // RFC 9449 section 8
	codeInvalidTarget       = "invalid_target"                // RFC 8707 section 2
	codeInvalidDetails      = "invalid_authorization_details" // RFC 9396 section 5
)

// Those of authorization requests that are pushed, signed, or ask how a person signs in.
const (
	codeInvalidRequestURI    = "invalid_request_uri"    // RFC 9101 section 7, OpenID Connect Core section 3.1.2.6
	codeInvalidRequestObject = "invalid_request_object" // RFC 9101 section 7, OpenID Connect Core section 3.1.2.6
	codeLoginRequired        = "login_required"         // OpenID Connect Core section 3.1.2.6
	// codeUnmetAuthentication is OpenID Connect Core Error Code unmet_authentication_requirements 1.0's, and RFC 9470 section 5's.
	codeUnmetAuthentication = "unmet_authentication_requirements"
)

// internal wraps a fault of ours: the client learns only that it may try again.
func internal(err error) *Error {
	return &Error{
		Code:        codeServerError,
		Description: "the server could not answer; try again in a moment",
		Status:      http.StatusInternalServerError,
		Cause:       err,
	}
}

// unauthorized refuses a token of the registration endpoints (RFC 6750 section 3.1).
func unauthorized(description string) *Error {
	return &Error{Code: codeInvalidToken, Description: description, Status: http.StatusUnauthorized}
}

// tryAgain refuses what may be sent again after wait, and says so as RFC 6585 section 4 has it. There is no code for it at the token endpoint; the
// authorization endpoint's says what is meant.
func tryAgain(status int, wait time.Duration, why string) *Error {
	seconds := retrySeconds(wait)
	return &Error{
		Code:        codeUnavailable,
		Description: fmt.Sprintf("%s; try again in %d seconds", why, seconds),
		Status:      status,
		RetryAfter:  wait,
	}
}

// retrySeconds rounds up, so that who comes back then is not too early.
func retrySeconds(wait time.Duration) int64 {
	return max(1, int64((wait+time.Second-1)/time.Second))
}

// asError is err as an *Error, or an internal one.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return internal(err)
}

type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// echoLimit bounds how much of a stranger's value a description repeats.
const echoLimit = 80

// echo is a stranger's value, fit to stand in a description.
func echo(s string) string {
	if len(s) > echoLimit {
		s = s[:echoLimit] + "..."
	}
	return challenge.Text(s)
}

// echoWord is echo for a page that people read: up to the first space, since whoever makes a link to here writes it, and a sentence of
// theirs must not appear as ours.
func echoWord(s string) string {
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 {
		s = s[:i] + "..."
	}
	return echo(s)
}

// writeError answers a request of a client with its error as JSON (RFC 6749 section 5.2), and tells the
// operator's log why.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	s.logRefusal(r.Context(), e)
	if e.Code == codeInvalidClient && e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="portico", charset="UTF-8"`)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(retrySeconds(e.RetryAfter), 10))
	}
	writeJSON(w, e.Status, errorBody{Error: e.Code, Description: challenge.Text(e.Description)})
}

func (s *Server) logRefusal(ctx context.Context, e *Error) {
	level := slog.LevelInfo
	switch {
	case e.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	case e.Code == codeAuthorizationPending: // a device asks for minutes until somebody answers
		level = slog.LevelDebug
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("error", e.Code), slog.String("description", challenge.Text(e.Description))}
	if e.Cause != nil {
		attrs = append(attrs, slog.Any("cause", e.Cause))
	}
	if client := web.NotedClient(ctx); client != "" {
		attrs = append(attrs, slog.String("client_id", client))
	}
	s.log.LogAttrs(ctx, level, "refused", attrs...)
}

// writeJSON answers with a body that nobody may cache (RFC 6749 section 5.1).
func writeJSON(w http.ResponseWriter, status int, body any) {
	writeUnkept(w, status, typeJSON)
	// The only error left is a client that hung up.
	_ = json.NewEncoder(w).Encode(body)
}

// writeUnkept begins an answer that nobody may keep (RFC 6749 section 5.1).
func writeUnkept(w http.ResponseWriter, status int, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
}
