package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/web"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.0.0.0/8")}

// echo answers what the chain found out.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context()) // values must be found through derived contexts too
	defer cancel()
	_, _ = fmt.Fprintf(w, "id=%s ip=%s https=%t", web.RequestID(ctx), web.ClientIP(ctx), web.HTTPS(ctx))
})

// X-Forwarded-For and its kin are whatever a client writes into them. They count from a trusted proxy alone, and of those the
// right-most hop that is no proxy: everything to its left is what the client claimed.
func TestClientAddress(t *testing.T) {
	const peer = "127.0.0.1"
	for _, tc := range []struct {
		name      string
		proxies   []netip.Prefix
		header    []string
		wantIP    string
		wantHTTPS bool
	}{
		{"no proxy", nil, nil, peer, false},
		{"a stranger's X-Forwarded-For", nil, []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https"}, peer, false},
		{"a stranger's Forwarded", nil, []string{"Forwarded", "for=203.0.113.9;proto=https"}, peer, false},
		{"a proxy that says nothing", loopback, nil, peer, false},
		{"one proxy", loopback, []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https"}, "203.0.113.9", true},
		{"a spoofed hop before the true one", loopback, []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.9"}, "203.0.113.9", false},
		{"a spoofed proxy address", loopback, []string{"X-Forwarded-For", "10.0.0.1, 203.0.113.9"}, "203.0.113.9", false},
		{"a spoofed line before the true one", loopback, []string{"X-Forwarded-For", "198.51.100.1", "X-Forwarded-For", "203.0.113.9"}, "203.0.113.9", false},
		{"two proxies", loopback, []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.9,10.0.0.7"}, "203.0.113.9", false},
		{"a client inside", loopback, []string{"X-Forwarded-For", "10.0.0.8, 10.0.0.7"}, "10.0.0.8", false},
		{"garbage behind the true hop", loopback, []string{"X-Forwarded-For", "garbage, 203.0.113.9"}, "203.0.113.9", false},
		{"garbage", loopback, []string{"X-Forwarded-For", "203.0.113.9, <script>"}, peer, false},
		{"garbage reported by an inner proxy", loopback, []string{"X-Forwarded-For", "203.0.113.9, unknown, 10.0.0.7"}, "10.0.0.7", false},
		{"an empty list", loopback, []string{"X-Forwarded-For", ""}, peer, false},
		{"with a port", loopback, []string{"X-Forwarded-For", "203.0.113.9:4711"}, "203.0.113.9", false},
		{"IPv6", loopback, []string{"X-Forwarded-For", "2001:db8::9"}, "2001:db8::9", false},
		{"IPv6 with a port", loopback, []string{"X-Forwarded-For", "[2001:db8::9]:4711"}, "2001:db8::9", false},
		{"IPv4 in IPv6", loopback, []string{"X-Forwarded-For", "::ffff:203.0.113.9"}, "203.0.113.9", false},
		{"a trusted IPv4 in IPv6", loopback, []string{"X-Forwarded-For", "203.0.113.9, ::ffff:10.0.0.7"}, "203.0.113.9", false},
		{"a zone", loopback, []string{"X-Forwarded-For", "fe80::1%eth0"}, "fe80::1", false},
		{"a scheme per hop", loopback, []string{"X-Forwarded-For", "203.0.113.9, 10.0.0.7", "X-Forwarded-Proto", "https, http"}, "203.0.113.9", true},
		{"a spoofed scheme per hop", loopback, []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.9", "X-Forwarded-Proto", "https, http"}, "203.0.113.9", false},
		{"one scheme for all hops", loopback, []string{"X-Forwarded-For", "203.0.113.9, 10.0.0.7", "X-Forwarded-Proto", "HTTPS"}, "203.0.113.9", true},
		{"a strange scheme", loopback, []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "gopher"}, "203.0.113.9", false},
		{"Forwarded", loopback, []string{"Forwarded", `for=203.0.113.9;proto=https;by=10.0.0.1`}, "203.0.113.9", true},
		{"Forwarded, spoofed hop", loopback, []string{"Forwarded", `for=198.51.100.1;proto=https, For="203.0.113.9:80"; Proto=http`}, "203.0.113.9", false},
		{"Forwarded, IPv6", loopback, []string{"Forwarded", `proto=https;for="[2001:db8::9]:4711"`}, "2001:db8::9", true},
		{"Forwarded, two proxies", loopback, []string{"Forwarded", `for=203.0.113.9;proto=https`, "Forwarded", `for=10.0.0.7;proto=http`}, "203.0.113.9", true},
		{"Forwarded, obfuscated", loopback, []string{"Forwarded", `for=203.0.113.9, for=_hidden`}, peer, false},
		{"Forwarded, separators in quotes", loopback, []string{"Forwarded", `for="203.0.113.1, for=203.0.113.2";host="a;for=203.0.113.3"`}, peer, false},
		{"both, in agreement", loopback, []string{"Forwarded", "for=203.0.113.9;proto=https", "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https"}, "203.0.113.9", true},
		{"both, one passed through from the client", loopback, []string{"Forwarded", "for=198.51.100.1;proto=https", "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "http"}, peer, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l logs
			server := serve(t, web.Chain(echo, web.Options{Logger: l.logger(), TrustedProxies: tc.proxies, NewID: func() string { return "x" }}))
			_, got := request(t, server, http.MethodGet, "/", "", tc.header...)
			if want := fmt.Sprintf("id=x ip=%s https=%t", tc.wantIP, tc.wantHTTPS); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := l.line(t)["client_ip"]; got != tc.wantIP {
				t.Errorf("logged %v, want %s", got, tc.wantIP)
			}
		})
	}
}

// A stranger's id would let them forge references and mix their lines into somebody else's.
func TestRequestIDsComeFromTrustedProxiesOnly(t *testing.T) {
	for _, tc := range []struct {
		name    string
		proxies []netip.Prefix
		id      string
		want    string
	}{
		{"none", nil, "", "ours"},
		{"a stranger's", nil, "theirs", "ours"},
		{"a proxy's", loopback, "Theirs-1.2_3", "Theirs-1.2_3"},
		{"a proxy's, malformed", loopback, "a b", "ours"},
		{"a proxy's, with markup", loopback, "<b>", "ours"},
		{"a proxy's, too long", loopback, strings.Repeat("a", 129), "ours"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l logs
			server := serve(t, web.Chain(echo, web.Options{Logger: l.logger(), TrustedProxies: tc.proxies, NewID: func() string { return "ours" }}))
			res, body := request(t, server, http.MethodGet, "/", "", "X-Request-Id", tc.id)
			if got := res.Header.Values("X-Request-Id"); len(got) != 1 || got[0] != tc.want {
				t.Errorf("header %q, want %q", got, tc.want)
			}
			if !strings.HasPrefix(body, "id="+tc.want+" ") {
				t.Errorf("RequestID: %q", body)
			}
			if got := l.line(t)["request_id"]; got != tc.want {
				t.Errorf("logged %v", got)
			}
		})
	}
	t.Run("by default random", func(t *testing.T) {
		server := serve(t, web.Chain(echo, web.Options{}))
		a, _ := request(t, server, http.MethodGet, "/", "")
		b, _ := request(t, server, http.MethodGet, "/", "")
		if a, b := a.Header.Get("X-Request-Id"), b.Header.Get("X-Request-Id"); len(a) < 22 || a == b {
			t.Errorf("ids %q and %q", a, b)
		}
	})
}

func TestOutsideOfAChainNothingIsKnown(t *testing.T) {
	if id, ip := web.RequestID(t.Context()), web.ClientIP(t.Context()); id != "" || ip.IsValid() || web.HTTPS(t.Context()) {
		t.Errorf("id %q, ip %v", id, ip)
	}
}

// The query carries codes and states (RFC 9700 section 4.2.4), and headers and bodies carry secrets: none of it may reach the
// log on any path through the chain.
func TestTheLogHasOneLineAndNoSecrets(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Set-Cookie", "s=SECRET")
		w.Header().Set("Location", "/?code=SECRET")
		w.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(w, "12345")
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) {})
	for _, tc := range []struct {
		path   string
		status int
		level  string
		bytes  int
	}{
		{"/ok?code=SECRET", 302, "INFO", 5},
		{"/silent?code=SECRET", 200, "INFO", 0},
		{"/missing?code=SECRET", 404, "INFO", -1},
		{"/panic?code=SECRET", 500, "ERROR", -1},
		{"/ok?code=SECRET" + strings.Repeat("x", web.MaxURLBytes), 414, "INFO", -1},
	} {
		path, _, _ := strings.Cut(tc.path, "?")
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			var l logs
			server := serve(t, web.Chain(mux, web.Options{Logger: l.logger()}))
			server.Config.ErrorLog = nil
			request(t, server, http.MethodPost, tc.path, "client_secret=SECRET",
				"Authorization", "Bearer SECRET", "Cookie", "s=SECRET", "Referer", "https://app.example/?code=SECRET",
				"Content-Type", "application/x-www-form-urlencoded")
			if strings.Contains(l.String(), "SECRET") {
				t.Errorf("the log has a secret:\n%s", &l)
			}
			line := l.line(t)
			if line["path"] != path || line["status"] != float64(tc.status) || line["level"] != tc.level || line["method"] != "POST" {
				t.Errorf("line: %v", line)
			}
			if tc.bytes >= 0 && line["bytes"] != float64(tc.bytes) {
				t.Errorf("bytes: %v, want %d", line["bytes"], tc.bytes)
			}
		})
	}
}

func TestAPathInTheLogIsCut(t *testing.T) {
	var l logs
	server := serve(t, web.Chain(echo, web.Options{Logger: l.logger()}))
	request(t, server, http.MethodGet, "/"+strings.Repeat("a", 5000), "")
	if got := l.line(t)["path"].(string); len(got) != 256 {
		t.Errorf("%d bytes of path", len(got))
	}
}

// Probes come every second: they would drown the log. A failing one is news.
func TestHealthChecksAreLoggedAtDebugWhileTheyPass(t *testing.T) {
	status := http.StatusOK
	var l logs
	server := serve(t, web.Chain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), web.Options{Logger: l.logger()}))
	request(t, server, http.MethodGet, web.PathReadyz, "")
	if got := l.line(t)["level"]; got != "DEBUG" {
		t.Errorf("passing: %v", got)
	}
	status = http.StatusServiceUnavailable
	request(t, server, http.MethodGet, web.PathReadyz, "")
	if got := l.lines(t)[1]["level"]; got != "INFO" {
		t.Errorf("failing: %v", got)
	}
}

// A panic's message and stack are for the log. The client gets a reference that finds it there, and nothing of the answer that
// the handler had begun to prepare, such as a cookie.
func TestAPanicBecomesAnAnswerWithAReference(t *testing.T) {
	var l logs
	server := serve(t, web.Chain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "session=1")
		w.Header().Set("Content-Length", "3")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		panic("internal detail")
	}), web.Options{Logger: l.logger(), NewID: func() string { return "ref-1" }}))

	for accept, wantType := range map[string]string{
		"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8": "text/html; charset=utf-8",
		"application/json": "application/json",
		"":                 "application/json",
	} {
		res, body := request(t, server, http.MethodGet, "/", "", "Accept", accept)
		if res.StatusCode != http.StatusInternalServerError || res.Header.Get("Content-Type") != wantType {
			t.Errorf("%q: %s, %s", accept, res.Status, res.Header.Get("Content-Type"))
		}
		if !strings.Contains(body, "ref-1") || strings.Contains(body, "internal detail") || strings.Contains(body, "goroutine") {
			t.Errorf("%q: body %s", accept, body)
		}
		for name, want := range map[string]string{
			"Set-Cookie": "", "Cache-Control": "no-store", "X-Request-Id": "ref-1", "X-Frame-Options": "DENY", "Access-Control-Allow-Origin": "*",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%q: %s: %q, want %q", accept, name, got, want)
			}
		}
	}
	line := l.lines(t)[0]
	if line["panic"] != "internal detail" || !strings.Contains(line["stack"].(string), "TestAPanicBecomesAnAnswer") || line["request_id"] != "ref-1" {
		t.Errorf("line: %v", line)
	}
}

// A response that was cut short must not look whole, and the handler's own way to break a connection must keep working.
func TestAPanicAfterTheAnswerBeganBreaksTheConnection(t *testing.T) {
	for _, tc := range []struct {
		name   string
		value  any
		level  string
		begins bool
	}{
		{"a defect", "boom", "ERROR", true},
		{"on purpose, begun", http.ErrAbortHandler, "INFO", true},
		{"on purpose, at once", http.ErrAbortHandler, "INFO", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l logs
			server := serve(t, web.Chain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tc.begins {
					_, _ = io.WriteString(w, "half of ")
					_ = http.NewResponseController(w).Flush() // which also shows that Unwrap works
				}
				panic(tc.value)
			}), web.Options{Logger: l.logger()}))
			res, err := server.Client().Get(server.URL)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
			if err == nil {
				t.Error("the client saw a whole response")
			}
			server.Close() // the line comes after the answer
			if line := l.line(t); line["level"] != tc.level {
				t.Errorf("line: %v", line)
			}
		})
	}
}

func TestABodyIsBounded(t *testing.T) {
	read := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			_, _ = fmt.Fprint(w, tooLarge.Limit)
		}
	})
	for _, tc := range []struct {
		name string
		max  int64
		size int
		want int
	}{
		{"default, at the limit", 0, web.DefaultMaxBody, http.StatusOK},
		{"default, above", 0, web.DefaultMaxBody + 1, http.StatusRequestEntityTooLarge},
		{"own, at the limit", 10, 10, http.StatusOK},
		{"own, above", 10, 11, http.StatusRequestEntityTooLarge},
		{"none", 10, 0, http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := serve(t, web.Chain(read, web.Options{MaxBody: tc.max}))
			res, body := request(t, server, http.MethodPost, "/", strings.Repeat("x", tc.size))
			if res.StatusCode != tc.want {
				t.Errorf("%s: %s", res.Status, body)
			}
		})
	}
}

func TestAURLIsBounded(t *testing.T) {
	server := serve(t, web.Chain(echo, web.Options{}))
	fill := func(prefix string, n int) string { return prefix + strings.Repeat("a", n-len(prefix)) }
	for _, tc := range []struct {
		path string
		want int
	}{
		{fill("/?q=", web.MaxURLBytes), http.StatusOK},
		{fill("/?q=", web.MaxURLBytes+1), http.StatusRequestURITooLong},
		{fill("/", web.MaxURLBytes+1), http.StatusRequestURITooLong},
	} {
		res, body := request(t, server, http.MethodGet, tc.path, "")
		if res.StatusCode != tc.want {
			t.Errorf("%d bytes: %s", len(tc.path), res.Status)
		}
		if tc.want != http.StatusOK && (!strings.Contains(body, res.Header.Get("X-Request-Id")) || res.Header.Get("X-Frame-Options") != "DENY") {
			t.Errorf("the refusal lacks its reference or headers: %v %s", res.Header, body)
		}
	}
}

// Early hints and the like are not the answer.
func TestAnInformationalStatusIsNotTheStatus(t *testing.T) {
	var l logs
	server := serve(t, web.Chain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	}), web.Options{Logger: l.logger()}))
	request(t, server, http.MethodGet, "/", "")
	if got := l.line(t)["status"]; got != float64(http.StatusTeapot) {
		t.Errorf("status %v", got)
	}
}

// FuzzForwarded: no header that a proxy passes through makes the chain panic, or believe in an address that is in none of them.
func FuzzForwarded(f *testing.F) {
	for _, seed := range [][2]string{
		{"203.0.113.9", ""},
		{"", `for=203.0.113.9;proto=https`},
		{"a,,b,", `for="a\",b;";;proto=,"`},
		{"[::1]:1, [", `for="[2001:db8::9]:4711", for=_x`},
		{strings.Repeat("10.0.0.1,", 40), strings.Repeat("for=10.0.0.1,", 40)},
	} {
		f.Add(seed[0], seed[1])
	}
	h := web.Chain(echo, web.Options{TrustedProxies: loopback})
	f.Fuzz(func(t *testing.T, xff, forwarded string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:4711"
		if xff != "" {
			r.Header["X-Forwarded-For"] = []string{xff}
		}
		if forwarded != "" {
			r.Header["Forwarded"] = []string{forwarded}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		_, ip, _ := strings.Cut(w.Body.String(), "ip=")
		ip, _, _ = strings.Cut(ip, " ")
		if _, err := netip.ParseAddr(ip); err != nil {
			t.Errorf("%q, %q: client %q", xff, forwarded, ip)
		}
	})
}
