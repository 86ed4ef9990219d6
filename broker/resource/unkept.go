package resource

import (
	"bufio"
	"net"
	"net/http"
)

// unkeptWriter answers a request whose address holds an access token: nobody may keep what came of it, whatever the handler says (RFC 6750
// section 2.3), and the address goes to no other site.
type unkeptWriter struct{ http.ResponseWriter }

func unkept(w http.ResponseWriter) http.ResponseWriter {
	u := &unkeptWriter{w}
	u.mark() // for a handler that writes nothing
	return u
}

func (w *unkeptWriter) mark() {
	w.Header().Set("Cache-Control", "private, no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
}

// WriteHeader is http.ResponseWriter's.
func (w *unkeptWriter) WriteHeader(status int) {
	w.mark()
	w.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter's.
func (w *unkeptWriter) Write(b []byte) (int, error) {
	w.mark()
	return w.ResponseWriter.Write(b)
}

// Flush is http.Flusher's, for handlers that stream.
func (w *unkeptWriter) Flush() {
	w.mark()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // one that cannot loses nothing
}

// Hijack is http.Hijacker's, for web sockets: browsers open those without headers of the app's, so that their tokens are in the address.
func (w *unkeptWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is http.ResponseController's.
func (w *unkeptWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
