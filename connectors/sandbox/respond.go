package sandbox

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	jsonType = "application/json; charset=utf-8"
	formType = "application/x-www-form-urlencoded; charset=utf-8"
	htmlType = "text/html; charset=utf-8"
)

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller hung up
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, status, jsonType, body)
}

// uncached are the headers of an answer that carries a token (RFC 6749 section 5.1).
func uncached(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// pairs are parameters in the order in which a provider writes them; one with an empty value is left out.
type pairs [][2]string

func (p pairs) encode() string {
	var b strings.Builder
	for _, kv := range p {
		if kv[1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(kv[0]))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(kv[1]))
	}
	return b.String()
}

// onto adds the parameters to a URI, whose query is kept (RFC 6749 section 3.1.2).
func (p pairs) onto(uri string) string {
	if strings.Contains(uri, "?") {
		return uri + "&" + p.encode()
	}
	return uri + "?" + p.encode()
}

// redirect sends a browser on. After a form's POST it has to come by GET (RFC 9700 section 4.12).
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusFound)
}

// bearer is the token of an Authorization header with one of the schemes, in lower case, or "".
func bearer(r *http.Request, schemes ...string) string {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for _, s := range schemes {
		if strings.EqualFold(scheme, s) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// clientAuth is the client's id and secret of a token request: HTTP Basic, whose parts are form-encoded (RFC 6749
// section 2.3.1), else the body.
func clientAuth(r *http.Request) (id, secret string) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return r.Form.Get("client_id"), r.Form.Get("client_secret")
	}
	if plain, err := url.QueryUnescape(id); err == nil {
		id = plain
	}
	if plain, err := url.QueryUnescape(secret); err == nil {
		secret = plain
	}
	return id, secret
}
