package templates

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static/*.css static/*.svg
var staticFiles embed.FS

// StaticPrefix is where [Pages.Static] must be mounted: every page refers to it.
const StaticPrefix = "/static/"

// hashLength is how many hex digits of its SHA-256 a file's name carries. They tell versions apart, and prove nothing.
const hashLength = 16

// asset is one embedded file as it is served.
type asset struct {
	contentType string
	etag        string
	plain, gzip []byte
}

// assets are the embedded files, by the name they are served under.
type assets struct {
	files map[string]*asset
	urls  map[string]string // by the name they have in the repository
}

func readAssets() (*assets, error) {
	a := &assets{files: map[string]*asset{}, urls: map[string]string{}}
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("templates: static files: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		content, err := fs.ReadFile(staticFiles, path.Join("static", name))
		if err != nil {
			return nil, fmt.Errorf("templates: %s: %w", name, err)
		}
		contentType := "text/css; charset=utf-8"
		if path.Ext(name) == ".svg" {
			contentType = "image/svg+xml"
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(content); err != nil {
			return nil, fmt.Errorf("templates: %s: %w", name, err)
		}
		if err := z.Close(); err != nil {
			return nil, fmt.Errorf("templates: %s: %w", name, err)
		}
		sum := sha256.Sum256(content)
		hash := hex.EncodeToString(sum[:])[:hashLength]
		stem, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
		served := stem + "." + hash + ext
		a.files[served] = &asset{contentType: contentType, etag: hash, plain: content, gzip: packed.Bytes()}
		a.urls[name] = StaticPrefix + served
	}
	return a, nil
}

// Static serves the style sheets and the icon. Mount it at [StaticPrefix]. A file's name carries a hash of its content, so
// it may be cached for ever; a name that is not one of today's is 404. Safe for concurrent use.
func (p *Pages) Static() http.Handler { return p.assets }

// ServeHTTP serves one file.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, exists := a.files[strings.TrimPrefix(r.URL.Path, StaticPrefix)]
	if !exists {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	body, etag := file.plain, `"`+file.etag+`"`
	if takesGzip(r.Header.Get("Accept-Encoding")) {
		body, etag = file.gzip, `"`+file.etag+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", file.contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // The only error is a browser that hung up.
	}
}

// takesGzip reports whether an Accept-Encoding names gzip and does not refuse it (RFC 9110 section 12.5.3).
func takesGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(weight), "=")
		if key != "q" {
			return true
		}
		q, err := strconv.ParseFloat(value, 64)
		return err == nil && q > 0
	}
	return false
}
