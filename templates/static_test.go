package templates

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func serve(t *testing.T) (*Pages, *httptest.Server) {
	t.Helper()
	p := newPages(t)
	mux := http.NewServeMux()
	mux.Handle(StaticPrefix, p.Static())
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return p, server
}

func get(t *testing.T, target string, header map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "identity") // or the client unpacks by itself
	for key, value := range header {
		request.Header.Set(key, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// Every file that a page refers to is there under that name, of the right type, and may be kept for ever.
func TestWhatPagesReferToIsServed(t *testing.T) {
	_, server := serve(t)
	for kind, page := range everyPage(t, "Ann", "") {
		links := all(parse(t, page), "link")
		if len(links) != 3 {
			t.Errorf("%s refers to %d files", kind, len(links))
		}
		for _, link := range links {
			href := attr(link, "href")
			if !regexp.MustCompile(`^/static/[a-z.]+\.[0-9a-f]{16}\.(css|svg)$`).MatchString(href) {
				t.Errorf("%s: %q carries no hash", kind, href)
			}
			response, body := get(t, server.URL+href, nil)
			wantType := "text/css; charset=utf-8"
			if strings.HasSuffix(href, ".svg") {
				wantType = "image/svg+xml"
			}
			if response.StatusCode != http.StatusOK || body == "" || response.Header.Get("Content-Type") != wantType ||
				response.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
				t.Errorf("%s: %s is %d %v", kind, href, response.StatusCode, response.Header)
			}
		}
	}
}

func TestStaticFilesArePackedForThoseWhoTakeIt(t *testing.T) {
	p, server := serve(t)
	target := server.URL + p.assets.urls["pico.min.css"]
	_, plain := get(t, target, nil)
	response, packed := get(t, target, map[string]string{"Accept-Encoding": "br, gzip;q=0.8"})
	if response.Header.Get("Content-Encoding") != "gzip" || response.Header.Get("Vary") != "Accept-Encoding" || len(packed)*4 > len(plain) {
		t.Errorf("%d bytes of %d: %v", len(packed), len(plain), response.Header)
	}
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || string(unpacked) != plain {
		t.Errorf("it unpacks to something else: %v", err)
	}
	again, body := get(t, target, map[string]string{"Accept-Encoding": "gzip", "If-None-Match": response.Header.Get("ETag")})
	if again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("asked again: %d", again.StatusCode)
	}
	for accept, want := range map[string]bool{"gzip": true, "GZIP": true, "gzip;q=0": false, "gzip; q=0.0": false, "identity": false, "": false, "x-gzip": false} {
		if takesGzip(accept) != want {
			t.Errorf("Accept-Encoding %q is taken as %v", accept, !want)
		}
	}
}

// Only what is embedded for the web is served: no templates, no licence, no listing, no file of the host.
func TestNothingElseIsServed(t *testing.T) {
	p, server := serve(t)
	for _, name := range []string{"", "portico.css", "pico.LICENSE.md", "..%2fhtml%2flayout.html", "../pages.go", "portico.0123456789abcdef.css"} {
		if response, _ := get(t, server.URL+StaticPrefix+name, nil); response.StatusCode != http.StatusNotFound {
			t.Errorf("%q is %d", name, response.StatusCode)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+p.assets.urls["portico.css"], http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST is %d", response.StatusCode)
	}
}

// The policy's style-src 'self' and img-src allow no file from elsewhere.
func TestTheStyleSheetsLoadNothing(t *testing.T) {
	p := newPages(t)
	for name, file := range p.assets.files {
		for _, match := range regexp.MustCompile(`url\(\s*["']?([^)"']{0,40})|@import`).FindAllStringSubmatch(string(file.plain), -1) {
			if !strings.HasPrefix(match[1], "data:image/") {
				t.Errorf("%s loads %q", name, match[0])
			}
		}
	}
}
