package web

import (
	"encoding/json"
	"html"
	"net/http"
	"strings"
)

// refuse answers with an error: a page for a browser that navigates, JSON in the shape of OAuth errors (RFC
// 6749 section 5.2) for everybody else. reference is the request's id.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, what, reference string) {
	header := w.Header()
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		PageHeaders(header)
		header.Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		// The write can only fail because nobody listens any more.
		_, _ = w.Write([]byte("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>" + html.EscapeString(what) +
			"</title>\n<h1>" + html.EscapeString(what) + "</h1>\n<p>Please go back to where you came from and try again. " +
			"If it happens again, tell whoever runs this service the reference below.</p>\n<p>Reference: <code>" +
			html.EscapeString(reference) + "</code></p>\n</html>\n"))
		return
	}
	body, err := json.Marshal(map[string]string{
		"error":             code,
		"error_description": what + ". Reference: " + reference,
	})
	if err != nil {
		body = []byte(`{"error":"server_error"}`)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
