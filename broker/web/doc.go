// Package web is what every HTTP request passes through on its way to the broker, and the
// server that it arrives at: request ids, the access log, recovery from panics, input limits, the
// client's address behind proxies, security headers, CORS, health checks, TLS and shutdown.
//
// cmd/portico runs [Serve]; broker wraps its routes in [Chain]; handlers ask [RequestID] and
// [ClientIP] and call [PageHeaders] and [CORS]. The package knows nothing of OAuth, accounts or
// sessions, and imports nothing else of the broker.
package web
