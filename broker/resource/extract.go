package resource

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/portico-id/portico/broker/resource/dpop"
)

const (
	// parameter is the access token's name in a form and in a query. It is reserved there (RFC 6750 sections 2.2, 2.3).
	parameter = "access_token"
	// formType is a form's media type.
	formType = "application/x-www-form-urlencoded"
	// maxTokenBytes bounds a token before it is looked at: servers commonly refuse header lines beyond 8 KiB, so that the broker issues none that is
	// longer.
	maxTokenBytes = 8 << 10
	// maxFormBytes bounds how much of a form is kept to look for a token: strangers send it, and each request holds as much memory.
	maxFormBytes = 64 << 10
)

// sent is an access token as it came; raw is "" if none did.
type sent struct {
	raw     string
	scheme  string // bearer or dpop.Scheme
	inQuery bool
}

// extract finds the one access token of a request: in the Authorization header (RFC 6750 section 2.1, RFC 9449 section 7.1), in the form (section 2.2),
// unless NoForm, or, if AllowQuery, in the query (section 2.3).
//
// Afterwards the request's body can be read as before, and its URL has no access token, so that no log and no handler shows one.
func extract(r *http.Request, o *Options) (sent, *Error) {
	inQuery := fromQuery(r) // first: a request that is refused is printed too
	s, refusal := fromHeader(r.Header)
	if refusal != nil {
		return s, refusal
	}
	var inForm []string
	if !o.NoForm {
		if inForm, refusal = fromForm(r, s.raw != ""); refusal != nil {
			return s, refusal
		}
	}
	tokens := append(inForm, inQuery...)
	if s.raw != "" {
		tokens = append(tokens, s.raw)
	}
	switch {
	case len(tokens) > 1:
		return s, invalidRequest(http.StatusBadRequest, "the access token is there more than once; send it once, in one way")
	case len(inQuery) == 1 && !o.AllowQuery:
		// It stays without a token, so that what is there answers as if there were none.
		return sent{scheme: bearer}, nil
	case len(tokens) == 1 && s.raw == "":
		return sent{raw: tokens[0], scheme: bearer, inQuery: len(inQuery) == 1}, nil
	}
	return s, nil
}

// fromHeader reads the Authorization header. Other schemes are none of ours.
func fromHeader(h http.Header) (sent, *Error) {
	s := sent{scheme: bearer}
	values := h["Authorization"]
	if len(values) > 1 {
		return s, invalidRequest(http.StatusBadRequest, "there is more than one Authorization header; send one")
	}
	if len(values) == 0 {
		return s, nil
	}
	scheme, value, _ := strings.Cut(values[0], " ")
	for _, known := range []string{bearer, dpop.Scheme} {
		if strings.EqualFold(scheme, known) {
			s = sent{raw: strings.Trim(value, " "), scheme: known}
		}
	}
	return s, nil
}

// fromQuery takes all access tokens out of the URL.
func fromQuery(r *http.Request) []string {
	found, rest := takeParameter(r.URL.RawQuery)
	if !found {
		return nil
	}
	values := r.URL.Query()[parameter]
	r.URL.RawQuery = rest
	// The server's own copy of the request line, which access logs like to print.
	if path, query, ok := strings.Cut(r.RequestURI, "?"); ok {
		if _, rest := takeParameter(query); rest != "" {
			path += "?" + rest
		}
		r.RequestURI = path
	}
	if r.Form != nil {
		delete(r.Form, parameter)
	}
	return given(values)
}

// takeParameter is a query without the parameter access_token, however its name is spelled; all others stay as they are.
func takeParameter(query string) (found bool, rest string) {
	if query == "" {
		return false, ""
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil && decoded == parameter {
			found = true
			continue
		}
		kept = append(kept, pair)
	}
	return found, strings.Join(kept, "&")
}

// fromForm reads the access tokens of a form in the body. The body stays readable.
func fromForm(r *http.Request, hasToken bool) ([]string, *Error) {
	if r.Body == nil || r.Body == http.NoBody || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil, nil // section 2.2: not with methods whose body means nothing
	}
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(contentType), formType) {
		return nil, nil
	}
	if r.PostForm != nil { // somebody has read the body before
		return given(r.PostForm[parameter]), nil
	}
	tooLong := invalidRequest(http.StatusRequestEntityTooLarge, "the form is longer than %d bytes; send the access token in the Authorization header", maxFormBytes)
	switch {
	case r.ContentLength <= maxFormBytes: // -1 if it is not known
	case hasToken:
		return nil, nil // a second one in so long a form is nobody's: what decides is the one in the header
	default:
		return nil, tooLong
	}
	body := r.Body
	start, err := io.ReadAll(io.LimitReader(body, maxFormBytes+1))
	rest := io.Reader(body)
	if err != nil {
		rest = broken{err} // the handler meets it too, if it gets that far
	}
	r.Body = &restored{Reader: io.MultiReader(bytes.NewReader(start), rest), Closer: body}
	var limit *http.MaxBytesError
	switch {
	case hasToken && (err != nil || len(start) > maxFormBytes):
		return nil, nil
	case errors.As(err, &limit), len(start) > maxFormBytes:
		return nil, tooLong
	case err != nil:
		return nil, invalidRequest(http.StatusBadRequest, "the form cannot be read").because(err)
	}
	form, err := url.ParseQuery(string(start))
	if err != nil && !hasToken {
		return nil, invalidRequest(http.StatusBadRequest, "the form cannot be read; encode it as "+formType).because(err)
	}
	return given(form[parameter]), nil
}

// restored is a body of which the beginning was read.
type restored struct {
	io.Reader
	io.Closer
}

// broken repeats the error that reading ended with.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// given are the values that are not empty: a parameter without a value counts as omitted (RFC 6749 section 3.1).
func given(values []string) []string {
	var all []string
	for _, value := range values {
		if value != "" {
			all = append(all, value)
		}
	}
	return all
}

// spelled says whether a token is written as RFC 6750 section 2.1 allows (b64token), and is no longer than any of the broker's.
func spelled(raw string) bool {
	if raw == "" || len(raw) > maxTokenBytes {
		return false
	}
	body := strings.TrimRight(raw, "=")
	for i := range len(body) {
		c := body[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return body != ""
}
