package registry

import (
	"strings"
	"testing"
)

// What may be registered, and what is dangerous, unclear or unowned.
func TestCheckRedirectURI(t *testing.T) {
	for uri, good := range map[string]bool{
		"https://app.example.com/callback":               true,
		"https://app.example.com/callback?x=1":           true,
		"https://app.example.com:8443/callback":          true,
		"https://app.example.com":                        true,
		"http://127.0.0.1/callback":                      true,
		"http://127.0.0.1:3000/callback":                 true,
		"http://[::1]:3000/callback":                     true,
		"http://localhost:3000/callback":                 true,
		"com.example.app:/callback":                      true,
		"http://app.example.com/callback":                false, // not encrypted
		"http://127.0.0.2/callback":                      false,
		"http://10.0.0.1/callback":                       false,
		"https://app.example.com/#fragment":              false,
		"https://app.example.com/callback#":              false,
		"https://*.example.com/callback":                 false,
		"https://app.example.com/*":                      false,
		"https://user@app.example.com/callback":          false,
		"https://app.example.com\\callback":              false,
		"https://app.example.com/a/../b":                 false,
		"https://app.example.com/./b":                    false,
		"https://app.example.com/ callback":              false,
		"https://app.example.com/\tcallback":             false,
		"https://äpp.example.com/":                       false,
		"https://APP.example.com/":                       false,
		"HTTPS://app.example.com/":                       false,
		"https:///callback":                              false,
		"https://app.example.com:/":                      false,
		"//app.example.com/callback":                     false,
		"/callback":                                      false,
		"":                                               false,
		"myapp:/callback":                                false, // anybody's (RFC 8252 section 7.1)
		"com.example.app://host/callback":                false,
		"javascript:alert(1)":                            false,
		"data:text/html,x":                               false,
		"file:///etc/passwd":                             false,
		"blob:https://app.example.com/x":                 false,
		"https://a.example/" + strings.Repeat("a", 2000): false,
	} {
		if err := checkRedirectURI(uri); (err == nil) != good {
			t.Errorf("%.60q: %v, want good %v", uri, err, good)
		}
	}
}

func TestRedirectURIMatches(t *testing.T) {
	registered := []string{"https://app.example.com/callback", "http://127.0.0.1/native", "http://[::1]:5000/six?a=b", "http://localhost:3000/dev", "com.example.app:/cb"}
	for requested, want := range map[string]bool{
		"https://app.example.com/callback":        true,
		"http://127.0.0.1/native":                 true,
		"http://127.0.0.1:1/native":               true,
		"http://127.0.0.1:65535/native":           true,
		"http://[::1]/six?a=b":                    true,
		"http://[::1]:9/six?a=b":                  true,
		"http://localhost:3000/dev":               true,
		"com.example.app:/cb":                     true,
		"http://localhost:3001/dev":               false, // localhost is a name, and its port is not free
		"http://127.0.0.1:0/native":               false,
		"http://127.0.0.1:65536/native":           false,
		"http://127.0.0.1:080/native":             false,
		"http://127.0.0.1:/native":                false,
		"http://127.0.0.1:+80/native":             false,
		"http://127.0.0.1:80:81/native":           false,
		"http://127.0.0.1:80@evil.example/native": false,
		"http://127.0.0.1@evil.example/native":    false,
		"http://127.0.0.1.evil.example/native":    false,
		"http://127.0.0.1\\@evil.example/native":  false,
		"http://127.0.0.1:80/Native":              false,
		"http://127.0.0.1:80/native/":             false,
		"http://127.0.0.1:80/native?x":            false,
		"http://127.0.0.1:80/native#x":            false,
		"http://127.1/native":                     false,
		"http://0x7f000001/native":                false,
		"http://[::1]:9/six?a=c":                  false,
		"http://[0:0:0:0:0:0:0:1]/six?a=b":        false,
		"https://127.0.0.1/native":                false,
		"https://app.example.com:443/callback":    false,
		"https://app.example.com/callback/":       false,
		"https://app.example.com/callback?x":      false,
		"https://app.example.com/callback#":       false,
		"com.example.app:/cb2":                    false,
		"":                                        false,
	} {
		if got := RedirectURIMatches(registered, requested); got != want {
			t.Errorf("%q: %v, want %v", requested, got, want)
		}
	}
	if RedirectURIMatches(nil, "") {
		t.Error("nothing matches nothing")
	}
}

// Whatever is asked for, a match is one of the registered strings, a loopback port apart.
func FuzzRedirectURIMatches(f *testing.F) {
	for _, seed := range []string{"https://app.example.com/cb", "http://127.0.0.1:80/n", "http://[::1]:1/n", "http://127.0.0.1:80@evil.example/n", "http://127.0.0.1:/n", ""} {
		f.Add(seed)
	}
	registered := []string{"https://app.example.com/cb", "http://127.0.0.1/n", "http://[::1]:5000/n"}
	f.Fuzz(func(t *testing.T, requested string) {
		if !RedirectURIMatches(registered, requested) {
			return
		}
		for _, uri := range registered {
			if requested == uri {
				return
			}
		}
		for _, host := range []string{"http://127.0.0.1", "http://[::1]"} {
			rest, ok := strings.CutPrefix(requested, host)
			if !ok {
				continue
			}
			if port, ok := strings.CutPrefix(rest, ":"); ok {
				rest = strings.TrimLeft(port, "0123456789")
			}
			if rest == "/n" {
				return
			}
		}
		t.Errorf("%q matches", requested)
	})
}
