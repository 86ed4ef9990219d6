package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/portico-id/portico/broker/web"
)

// told makes the headers of a request to the forward-auth endpoint of "Name: value" lines.
func told(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func question(target string, h http.Header) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://broker.example/", nil)
	r.RequestURI = target
	r.Header = h
	return r
}

// describe writes a request on one line.
func (o *original) describe() string {
	if o == nil {
		return ""
	}
	return o.method + " " + o.scheme + "|" + o.host + "|" + o.url.Path + "?" + o.url.RawQuery
}

// What the proxies say of a request is read as they mean it.
func TestOriginalRequest(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		want    string
	}{
		"Traefik": {
			[]string{"X-Forwarded-Method: POST", "X-Forwarded-Proto: https", "X-Forwarded-Host: API.example:8443", "X-Forwarded-Uri: /notes?x=1", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Port: 8443"},
			"POST https|api.example:8443|/notes?x=1",
		},
		"Traefik, a WebSocket": {
			[]string{"X-Forwarded-Method: GET", "X-Forwarded-Proto: wss", "X-Forwarded-Host: api.example", "X-Forwarded-Uri: /live"},
			"GET https|api.example|/live?",
		},
		"nginx with a URL": {
			[]string{"X-Original-Method: DELETE", "X-Original-URL: http://api.example/notes/7?a=b&c"},
			"DELETE http|api.example|/notes/7?a=b&c",
		},
		"nginx with a URI, which says nothing of the host": {
			[]string{"X-Original-Method: GET", "X-Original-URI: /notes/7"},
			"GET ||/notes/7?",
		},
		"nginx with both": {
			[]string{"X-Original-Method: GET", "X-Original-URI: /n?q", "X-Original-URL: https://[2001:db8::1]:8443/n?q"},
			"GET https|[2001:db8::1]:8443|/n?q",
		},
		"nginx, which sets what it sets for every upstream too": {
			[]string{"X-Original-Method: GET", "X-Original-URL: https://api.example/n", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example"},
			"GET https|api.example|/n?",
		},
		"both families, of one mind": {
			[]string{
				"X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example", "X-Forwarded-Uri: /n?q",
				"X-Original-Method: GET", "X-Original-URL: https://api.example/n?q",
			},
			"GET https|api.example|/n?q",
		},
		// A stranger adds the other family, to say which host it is where the proxy does not: only what both say is known.
		"both families, one without host": {
			[]string{
				"X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: other.example", "X-Forwarded-Uri: /n",
				"X-Original-Method: GET", "X-Original-URI: /n",
			},
			"GET ||/n?",
		},
		// The same, with one header.
		"a host that nobody vouches for": {
			[]string{"X-Original-Method: GET", "X-Original-URI: /n", "X-Forwarded-Host: other.example", "X-Forwarded-Proto: https"},
			"GET ||/n?",
		},
		"an empty header is none": {
			[]string{"X-Original-Method: GET", "X-Original-URI: /n", "X-Forwarded-Method: ", "X-Forwarded-Uri: "},
			"GET ||/n?",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := originalRequest(question(PathForwardAuth+"?api=x", told(c.headers...)))
			if err != nil || o.describe() != c.want {
				t.Errorf("%q, %v; want %q", o.describe(), err, c.want)
			}
		})
	}
}

// Each of these is an attack, or a proxy that would let one through.
func TestOriginalRequestIsRefused(t *testing.T) {
	traefik := []string{"X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example", "X-Forwarded-Uri: /n"}
	nginx := []string{"X-Original-Method: GET", "X-Original-URL: https://api.example/n"}
	for name, c := range map[string]struct {
		headers []string
		want    string // part of the error
	}{
		"no headers":                            {nil, "no header tells"},
		"host and scheme alone":                 {[]string{"X-Forwarded-Host: api.example", "X-Forwarded-Proto: https"}, "no header tells"},
		"nginx forgot the method":               {[]string{"X-Original-URI: /n"}, "X-Original-Method is needed"},
		"nginx forgot it, a stranger adds all":  {append([]string{"X-Original-URI: /n"}, traefik...), "X-Original-Method is needed"},
		"nginx forgot the URI":                  {[]string{"X-Original-Method: GET"}, "X-Original-URL or X-Original-URI"},
		"Traefik without method":                {[]string{"X-Forwarded-Uri: /n", "X-Forwarded-Host: api.example"}, "belong together"},
		"Traefik without URI":                   {[]string{"X-Forwarded-Method: GET", "X-Forwarded-Host: api.example"}, "belong together"},
		"a stranger's method behind nginx":      {append([]string{"X-Forwarded-Method: GET"}, nginx...), "belong together"},
		"a stranger's method behind Traefik":    {append([]string{"X-Original-Method: GET"}, traefik...), "X-Original-URL or X-Original-URI"},
		"the families disagree on the method":   {append([]string{"X-Original-Method: POST", "X-Original-URL: https://api.example/n"}, traefik...), "disagree about the method"},
		"the families disagree on the path":     {append([]string{"X-Original-Method: GET", "X-Original-URL: https://api.example/m"}, traefik...), "disagree about the path"},
		"the families disagree on the query":    {append([]string{"X-Original-Method: GET", "X-Original-URL: https://api.example/n?x"}, traefik...), "disagree about the path or query"},
		"the families disagree on the host":     {append([]string{"X-Original-Method: GET", "X-Original-URL: https://other.example/n"}, traefik...), "disagree about the host"},
		"the families disagree on the port":     {append([]string{"X-Original-Method: GET", "X-Original-URL: https://api.example:8443/n"}, traefik...), "disagree about the host"},
		"the families disagree on the scheme":   {append([]string{"X-Original-Method: GET", "X-Original-URL: http://api.example/n"}, traefik...), "disagree about the scheme"},
		"URL and host disagree":                 {append([]string{"X-Forwarded-Host: other.example"}, nginx...), "disagree about the host"},
		"URL and URI disagree":                  {append([]string{"X-Original-URI: /m"}, nginx...), "X-Original-URL and X-Original-URI disagree"},
		"two methods":                           {append([]string{"X-Forwarded-Method: GET"}, traefik...), "X-Forwarded-Method is there more than once"},
		"two URIs":                              {append([]string{"X-Forwarded-Uri: /m"}, traefik...), "X-Forwarded-Uri is there more than once"},
		"two hosts":                             {append([]string{"X-Forwarded-Host: api.example"}, traefik...), "X-Forwarded-Host is there more than once"},
		"two hosts beside nginx's":              {append([]string{"X-Forwarded-Host: api.example", "X-Forwarded-Host: other.example"}, nginx...), "X-Forwarded-Host is there more than once"},
		"two schemes":                           {append([]string{"X-Forwarded-Proto: https"}, traefik...), "X-Forwarded-Proto is there more than once"},
		"two of nginx's":                        {append([]string{"X-Original-URL: https://api.example/n"}, nginx...), "X-Original-Url is there more than once"},
		"a list of methods":                     {[]string{"X-Forwarded-Method: GET, POST", "X-Forwarded-Uri: /n"}, "method"},
		"a long method":                         {[]string{"X-Forwarded-Method: " + strings.Repeat("A", maxMethodBytes+1), "X-Forwarded-Uri: /n"}, "method"},
		"a list of hosts":                       {[]string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /n", "X-Forwarded-Host: api.example, other.example"}, "host"},
		"a long host":                           {[]string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /n", "X-Forwarded-Host: " + strings.Repeat("a", maxHostBytes+1)}, "host"},
		"a list of schemes":                     {[]string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /n", "X-Forwarded-Proto: https, http"}, "scheme"},
		"another scheme":                        {[]string{"X-Original-Method: GET", "X-Original-URL: file://api.example/n"}, "scheme"},
		"a URL without scheme":                  {[]string{"X-Original-Method: GET", "X-Original-URL: //api.example/n"}, "no absolute URL"},
		"a path where the URL should be":        {[]string{"X-Original-Method: GET", "X-Original-URL: /n"}, "no absolute URL"},
		"a URL without host":                    {[]string{"X-Original-Method: GET", "X-Original-URL: https:///n"}, "no host"},
		"a URL without path":                    {[]string{"X-Original-Method: GET", "X-Original-URL: https://api.example"}, "no host, or no path"},
		"a Host header that ends the host":      {[]string{"X-Original-Method: GET", "X-Original-URL: https://api.example?/n"}, "no host, or no path"},
		"a Host header with a fragment":         {[]string{"X-Original-Method: GET", "X-Original-URL: https://api.example#/n"}, "no host, or no path"},
		"a Host header with a backslash":        {[]string{"X-Original-Method: GET", `X-Original-URL: https://api.example\/n`}, "host"},
		"a Host header with a user":             {[]string{"X-Original-Method: GET", "X-Original-URL: https://api.example@other.example/n"}, "host"},
		"an absolute URI":                       {[]string{"X-Original-Method: GET", "X-Original-URI: https://api.example/n"}, "begin with a slash"},
		"a URI that is too long":                {[]string{"X-Original-Method: GET", "X-Original-URI: /" + strings.Repeat("a", web.MaxURLBytes)}, "longer than"},
		"a query that is too long":              {[]string{"X-Original-Method: GET", "X-Original-URI: /n?" + strings.Repeat("a", web.MaxURLBytes)}, "longer than"},
		"an asterisk (OPTIONS *)":               {[]string{"X-Original-Method: OPTIONS", "X-Original-URI: *"}, "begin with a slash"},
		"a path with a dot segment among it":    {[]string{"X-Original-Method: GET", "X-Original-URI: /public/../n"}, "dot segment"},
		"a request line of CONNECT (authority)": {[]string{"X-Original-Method: CONNECT", "X-Original-URI: api.example:443"}, "begin with a slash"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := originalRequest(question(PathForwardAuth, told(c.headers...)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v; want an error with %q", o.describe(), err, c.want)
			}
		})
	}
}

// Envoy's form is the request itself behind a prefix. What stands in headers is a stranger's there.
func TestOriginalRequestBehindPrefix(t *testing.T) {
	lies := told("X-Forwarded-Method: GET", "X-Forwarded-Uri: /public", "X-Forwarded-Host: other.example", "X-Original-Method: GET", "X-Original-URL: https://other.example/public")
	for target, want := range map[string]string{
		"/forward-auth/":                   "DELETE |api.example|/?",
		"/forward-auth/notes/7?api=x&a=b":  "DELETE |api.example|/notes/7?api=x&a=b",
		"/forward-auth/caf%C3%A9":          "DELETE |api.example|/café?",
		"/forward-auth/forward-auth":       "DELETE |api.example|/forward-auth?",
		"/forward-auth//notes":             "",
		"/forward-auth/../token":           "",
		"/forward-auth/a/%2e%2e/notes":     "",
		"/forward-auth/notes%2f7":          "",
		"/forward-auth%2fnotes":            "", // a prefix that is decoded, where the path is not
		"/%66orward-auth/notes":            "",
		"/forward-auth;x/notes":            "",
		"http://broker/forward-auth/notes": "",
	} {
		r := question(target, lies)
		r.Method, r.Host = http.MethodDelete, "API.example"
		o, err := originalRequest(r)
		if o.describe() != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", target, o.describe(), err, want)
		}
	}
}

// A path means the same to proxy, broker and API, or nothing.
func TestPlainPath(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                             "/",
		"/notes":                        "/notes",
		"/notes/":                       "/notes/",
		"/a/b.c/.d/..e/f..":             "/a/b.c/.d/..e/f..",
		"/caf%C3%A9/%7euser":            "/café/~user",
		"/a%20b+c":                      "/a b+c",
		"/notes/7:archive":              "/notes/7:archive",
		"/notes/7;v=1":                  "/notes/7;v=1",
		"/a%3Fb%23c":                    "/a?b#c",
		"/%252e%252e/%252f":             "/%2e%2e/%2f", // decoded once, as everybody does: a name of odd letters
		"/%22%3C%3E":                    `/"<>`,
		"/" + strings.Repeat("a", 4000): "/" + strings.Repeat("a", 4000),

		"":                    "",
		"notes":               "",
		"*":                   "",
		"http://api.example/": "",
		"//notes":             "",
		"/a//b":               "",
		"/a//":                "",
		"/.":                  "",
		"/..":                 "",
		"/a/.":                "",
		"/a/../b":             "",
		"/a/%2e%2e/b":         "",
		"/a/.%2E/b":           "",
		"/a/%2e":              "",
		"/a/..;/b":            "", // Tomcat takes what follows the semicolon off, and then goes up
		"/a/..;x=1/b":         "",
		"/a/%2e%2e%3bx/b":     "",
		"/a/.;/b":             "",
		"/a/;/b":              "",
		"/a/;x/b":             "",
		"/a%2fb":              "",
		"/a%2Fb":              "",
		`/a\b`:                "",
		`/..\b`:               "",
		"/a%5cb":              "",
		"/a%5C..%5cb":         "",
		"/a%00":               "",
		"/a%00.png":           "",
		"/a%0d%0aX:%20y":      "",
		"/a%7f":               "",
		"/a%c2%85":            "", // a control character of two bytes
		"/a\x00":              "",
		"/a b":                "",
		"/a\tb":               "",
		"/café":               "",
		"/a%":                 "",
		"/a%2":                "",
		"/a%zz":               "",
		"/a%u002e":            "",
		"/a%ff":               "",
		"/a%c0%af":            "", // an overlong slash
		"/a%c0%ae%c0%ae/b":    "", // overlong dots
		"/a%e0%80%af":         "",
		"/a%ed%a0%80":         "", // half a surrogate pair
		"/a#b":                "",
		"/public#/../notes":   "",
	} {
		got, _, err := decodedPath(raw)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", raw, got, err, want)
		}
	}
}

// An API that takes parameters off a path sees another one than it was asked for.
func TestPlainPathWithoutParameters(t *testing.T) {
	for raw, want := range map[string]string{
		"/notes/7":              "/notes/7",
		"/notes/7;v=1":          "/notes/7",
		"/notes;a/7;b;c":        "/notes/7",
		"/notes/admin%3Bx":      "/notes/admin",
		"/notes/;jsessionid=1a": "/notes/",
	} {
		if _, bare, err := decodedPath(raw); bare != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", raw, bare, err, want)
		}
	}
}

// Whatever strangers write into the headers: what is taken is a request that others read in the same way.
func FuzzOriginalRequest(f *testing.F) {
	f.Add("/forward-auth", "GET", "https", "api.example", "/n?q", "", "", "")
	f.Add("/forward-auth", "", "", "", "", "POST", "/n", "https://api.example:443/n")
	f.Add("/forward-auth/..;/%2e%2e/a?api=b", "GET", "", "", "", "", "", "")
	f.Add("/forward-auth?api=a", "GET", "wss", "[::1]:80", "/a;b/c%C3%A9%3f", "GET", "", "wss://[::1]:80/a;b/c%C3%A9%3f")
	f.Fuzz(func(t *testing.T, target, method, proto, host, uri, originalMethod, originalURI, originalURL string) {
		h := http.Header{}
		for name, value := range map[string]string{
			headerForwardedMethod: method, headerForwardedProto: proto, headerForwardedHost: host, headerForwardedURI: uri,
			headerOriginalMethod: originalMethod, headerOriginalURI: originalURI, headerOriginalURL: originalURL,
		} {
			if value != "" {
				h.Set(name, value)
			}
		}
		r := question(target, h)
		r.Method, r.Host = method, host
		o, err := originalRequest(r)
		if (o == nil) != (err != nil) {
			t.Fatalf("%+v, %v", o, err)
		}
		if err != nil {
			return
		}
		p := o.url.Path
		tidy := path.Clean(p)
		if strings.HasSuffix(p, "/") && tidy != "/" {
			tidy += "/"
		}
		switch {
		case tidy != p:
			t.Errorf("%q would be tidied up to %q", p, tidy)
		case !utf8.ValidString(p) || strings.ContainsAny(p, "\\\x00\r\n"):
			t.Errorf("%q", p)
		case o.method == "" || strings.ContainsAny(o.method, " ,\r\n"):
			t.Errorf("method %q", o.method)
		case o.scheme != "" && o.scheme != "http" && o.scheme != "https":
			t.Errorf("scheme %q", o.scheme)
		case strings.ContainsAny(o.host, "/?#@\\, \r\n") || o.host != strings.ToLower(o.host):
			t.Errorf("host %q", o.host)
		}
		// Another reader of the same text comes to the same path, and goes nowhere else.
		again, err := url.Parse("http://api.example" + o.url.EscapedPath())
		if err != nil || again.Path != p || again.Host != "api.example" {
			t.Errorf("%q is read as %+v, %v", p, again, err)
		}
		if resolved := again.ResolveReference(&url.URL{}); resolved.Path != p {
			t.Errorf("%q is resolved to %q", p, resolved.Path)
		}
	})
}
