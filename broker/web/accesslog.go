package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

const (
	// maxPanicBytes bounds a panic's message in the log: it may quote what a stranger sent.
	maxPanicBytes = 512
	// maxStackBytes bounds its stack: the first frames name the place.
	maxStackBytes = 8 << 10
)

// log writes the request's one line.
func (c *chain) log(x *exchange, r *http.Request, took time.Duration, panicked any) {
	status := x.status
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	path := r.URL.Path
	level := slog.LevelInfo
	if (path == PathHealthz || path == PathReadyz) && status < http.StatusBadRequest {
		level = slog.LevelDebug
	}
	crashed := panicked != nil && panicked != http.ErrAbortHandler
	if crashed {
		level = slog.LevelError
	}
	ctx := r.Context()
	if !c.Logger.Enabled(ctx, level) {
		return
	}
	if len(path) > maxLoggedPathBytes {
		path = path[:maxLoggedPathBytes]
	}
	var ip string
	if x.ip.IsValid() {
		ip = x.ip.String()
	}
	attrs := [10]slog.Attr{
		slog.String("request_id", x.id),
		slog.String("method", r.Method),
		slog.String("path", path),
		slog.Int("status", status),
		slog.Int64("bytes", x.bytes),
		slog.Int64("duration_us", took.Microseconds()),
		slog.String("client_ip", ip),
	}
	n := 7
	if x.client != "" {
		attrs[n] = slog.String("client_id", x.client)
		n++
	}
	if crashed {
		attrs[n] = slog.String("panic", clip(fmt.Sprint(panicked), maxPanicBytes))
		attrs[n+1] = slog.String("stack", clip(string(debug.Stack()), maxStackBytes))
		n += 2
	}
	c.Logger.LogAttrs(ctx, level, "request", attrs[:n]...)
}

// fail answers a request whose handler panicked, if there still is a way to.
func (c *chain) fail(x *exchange, r *http.Request, panicked any) {
	if panicked == http.ErrAbortHandler {
		return // the handler's own way to break the connection
	}
	if x.status != 0 {
		x.cutShort = true
		return
	}
	// What the handler had prepared belongs to another answer: cookies, a length, a caching rule. A browser app
	// of another origin must be able to read this one, though.
	header := x.Header()
	for name := range header {
		if name != headerRequestID && name != "Access-Control-Allow-Origin" && name != "Access-Control-Expose-Headers" {
			delete(header, name)
		}
	}
	SecurityHeaders(header, x.https)
	refuse(&x.response, r, http.StatusInternalServerError, "server_error", "Something went wrong here", x.id)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
