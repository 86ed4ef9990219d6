// Package templates is what people see: every page of the broker, its style sheets and its icons, embedded.
//
// broker/signin and broker fill in a view struct and have a [Pages] render it; broker mounts [Pages.Static]. The
// package decides nothing: what a page offers is the caller's, how it says so is here. It may not import anything
// of the broker, do IO, or read a request.
//
// The pages hold under a Content-Security-Policy of
//
//	default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'
//
// No page has a script, an inline style or an event handler, but for one: [Pages.FormPost] submits itself with the
// script that [FormPostScriptHash] admits, and works without it. No page has a frame but [Pages.SignedOut].
//
// In every page with a form, the first button of the first form is the main way on.
package templates
