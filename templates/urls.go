package templates

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
)

// webURL is raw if it is an absolute http or https URL without user information, and otherwise "". Everything else
// that a client may have registered (javascript:, data:, //host) must not become a link.
func webURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	return raw
}

// imageURL is raw if it is an https URL, and otherwise "".
func imageURL(raw string) string {
	if u, err := url.Parse(raw); err != nil || u.Scheme != "https" {
		return ""
	}
	return webURL(raw)
}

// appURL is raw if it is a web URL or of a native app's private-use scheme, which has a dot in it (RFC 8252 section 7.1), and otherwise
// "". html/template would refuse the latter, so it is not asked.
func appURL(raw string) template.URL {
	if u, err := url.Parse(raw); err == nil && strings.Contains(u.Scheme, ".") && u.Host == "" {
		return template.URL(raw)
	}
	return template.URL(webURL(raw))
}

// linkURL is raw if it is a web URL or a path on this host, and otherwise "".
func linkURL(raw string) string {
	// Browsers read "/\host" as "//host".
	if strings.HasPrefix(raw, "/") && !strings.HasPrefix(raw, "//") && !strings.HasPrefix(raw, `/\`) {
		return raw
	}
	return webURL(raw)
}

// webHost is the host of a website as it is shown, with a port that is not the scheme's own. A host with letters outside ASCII
// is not shown: one may look like another. Its xn-- form is.
func webHost(website string) string {
	if webURL(website) == "" {
		return ""
	}
	u, err := url.Parse(website)
	if err != nil {
		return ""
	}
	for i := range len(u.Host) {
		if c := u.Host[i]; c <= ' ' || c > '~' {
			return ""
		}
	}
	return strings.ToLower(u.Host)
}

// checkURL refuses a brand's URL that would be left out, so that an operator hears of it at start.
func checkURL(key, raw string, ok func(string) string) error {
	if raw != "" && ok(raw) == "" {
		return fmt.Errorf("templates: brand: %s %q is not a URL of an allowed kind", key, raw)
	}
	return nil
}

// brandLogoURL is raw if it is an https URL, a path on this host or a data: image, and otherwise "". A
// picture in an img element runs nothing, and this one is the operator's.
func brandLogoURL(raw string) string {
	if strings.HasPrefix(raw, "data:image/") || strings.HasPrefix(raw, "/") && linkURL(raw) != "" {
		return raw
	}
	return imageURL(raw)
}

// supportURL is raw if it is a web URL or a mailto: address, and otherwise "".
func supportURL(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Scheme == "mailto" && u.Opaque != "" {
		return raw
	}
	return webURL(raw)
}
