// Package resource protects an API written in Go with the broker's access tokens. An API makes one [API] of its [Options], and puts
// handlers behind [API.Protect]:
//
//	api, err := resource.New(resource.Options{Issuer: "https://login.example.com", Identifier: "https://api.example.com/notes"})
//	…
//	http.Handle("GET /notes", api.Protect(list, "notes:read"))
//
// What is decided, and in which order: the request holds one token (extract.go, RFC 6750 section 2); it stands, and is for this API (a [Verifier]);
// whoever sends it holds the key or certificate that it is bound to (binding.go, RFC 9449, RFC 8705); it says enough ([Judge]: scopes, and
// RFC 9470). What is refused is told why, and where tokens are to be had (challenge.go: RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728).
//
// It imports nothing of the broker but its own sub-packages, so that an API that uses it takes along no broker. The broker's forward-auth endpoint
// and userinfo are built on it too, so that all doors answer alike.
package resource
