package web

import (
	"net/http"
	"strings"
)

// Values of the headers that every response carries. They are slices with no spare capacity that responses share, so
// that setting them allocates nothing; http.Header's own methods never write into them.
var (
	valueNosniff     = []string{"nosniff"}
	valueNoReferrer  = []string{"no-referrer"}
	valueDeny        = []string{"DENY"}
	valueOpener      = []string{"same-origin"}
	valuePermissions = []string{"camera=(), geolocation=(), microphone=(), payment=(), usb=()"}
	valueHSTS        = []string{"max-age=31536000"}
	valueNoStore     = []string{"no-store"}
)

const headerOpener = "Cross-Origin-Opener-Policy"

// SecurityHeaders sets what every response carries, and Chain calls it:
//
//   - X-Content-Type-Options nosniff: no response is taken for another type than it says;
//   - Referrer-Policy no-referrer: no URL of ours, with a state or code in it, reaches
//     another site (RFC 9700 section 4.2.4);
//   - X-Frame-Options DENY: no page of ours in a frame (clickjacking, RFC 9700 section 4.16), for browsers
//     without frame-ancestors;
//   - Cross-Origin-Opener-Policy same-origin: no window of another site holds on to ours; see KeepOpener;
//   - Permissions-Policy: none of what sign-in pages have no use for;
//   - over https, Strict-Transport-Security for a year, for this host alone: its siblings are not ours.
func SecurityHeaders(h http.Header, https bool) {
	h["X-Content-Type-Options"] = valueNosniff
	h["Referrer-Policy"] = valueNoReferrer
	h["X-Frame-Options"] = valueDeny
	h[headerOpener] = valueOpener
	h["Permissions-Policy"] = valuePermissions
	if https {
		h["Strict-Transport-Security"] = valueHSTS
	}
}

// KeepOpener takes Cross-Origin-Opener-Policy off the responses of next. It belongs around everything that an app
// may open in a popup and that leads back to the app, pages and redirects alike: one response with the policy cuts
// the popup off the app's window for good, and the app's page at the end of the flow could not report back to it.
func KeepOpener(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delete(w.Header(), headerOpener)
		next.ServeHTTP(w, r)
	})
}

// policyBase is the Content-Security-Policy of a page up to the sources of form-action: its own style sheets,
// images from anywhere safe (apps' logos), and nothing else; no scripts, no frames, no base.
const policyBase = "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

// PageHeaders sets what every page for people carries besides SecurityHeaders: Cache-Control no-store, and a strict
// Content-Security-Policy. It replaces values set before.
//
// formAction are further sources that a form's submission may lead to (CSP Level 3 section 6.4.1). Name
// all of them: Chromium holds form-action against the whole chain of redirects that follows a
// submission, so a page with a form whose answer redirects to a provider or to an app needs their sources. A
// value that is no single source is left out, so that nothing can be smuggled into the policy.
func PageHeaders(h http.Header, formAction ...string) {
	h["Cache-Control"] = valueNoStore
	policy := policyBase
	if len(formAction) > 0 {
		var b strings.Builder
		b.WriteString(policyBase)
		for _, source := range formAction {
			if validSource(source) {
				b.WriteByte(' ')
				b.WriteString(source)
			}
		}
		policy = b.String()
	}
	h["Content-Security-Policy"] = []string{policy}
}

// AllowFrames lets the page whose PageHeaders are in h show frames of these sources, and of no others. As in PageHeaders, what
// is no single source is left out.
func AllowFrames(h http.Header, sources ...string) {
	list := ""
	for _, source := range sources {
		if validSource(source) {
			list += " " + source
		}
	}
	if list != "" {
		h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; frame-src"+list)
	}
}

// validSource reports whether s can only be one source expression: visible ASCII without the separators of a policy
// (CSP Level 3 section 2.3.1) and without quotes, which keywords alone have.
func validSource(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ';' || c == ',' || c == '\'' || c == '"' {
			return false
		}
	}
	return s != ""
}
