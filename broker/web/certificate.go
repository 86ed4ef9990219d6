package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificateCheckEvery is how often the certificate's files are looked at, at a handshake: seldom enough to cost
// nothing, soon enough for anyone who waits for a renewed certificate to be served.
const certificateCheckEvery = 5 * time.Second

// certificate is a certificate and its key from files, read again when they change, so that a renewal needs no
// restart. Safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time
	current           atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the one handshake that looks at the files
	checked time.Time
	loaded  [2]fileState // of what current was made of
	broken  [2]fileState // of what was complained about last
}

// fileState tells one content of a file from the next.
type fileState struct {
	modified time.Time
	size     int64
}

// loadCertificate reads the pair for the first time: here, a broken one is an error.
func loadCertificate(certFile, keyFile string, logger *slog.Logger, now func() time.Time) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger, now: now, checked: now()}
	states, err := c.states()
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.loaded = states
	c.current.Store(&pair)
	return c, nil
}

// get is for tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() { // whoever comes while another looks is served what there is
		c.refresh()
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

// refresh reads the files anew if it is time to look and they have changed. A pair that cannot be used, such as
// one whose key is not written yet, leaves the old one in service, is logged once, and is tried again at the
// next look.
func (c *certificate) refresh() {
	now := c.now()
	if now.Sub(c.checked) < certificateCheckEvery {
		return
	}
	c.checked = now
	states, err := c.states()
	if err == nil && states == c.loaded {
		return
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	if err != nil {
		if c.broken != states {
			c.broken = states
			c.logger.Error("the new TLS certificate cannot be used; the old one stays", slog.String("cert_file", c.certFile), slog.Any("error", err))
		}
		return
	}
	c.loaded, c.broken = states, [2]fileState{}
	c.current.Store(&pair)
	c.logger.Info("a new TLS certificate is in use", slog.String("cert_file", c.certFile), slog.Time("not_after", pair.Leaf.NotAfter))
}

// states looks at both files. A missing file has a state too, so that its absence is told from what
// was there before.
func (c *certificate) states() ([2]fileState, error) {
	var states [2]fileState
	var errs [2]error
	for i, name := range [2]string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			errs[i] = err
			states[i] = fileState{size: -1}
			continue
		}
		states[i] = fileState{modified: info.ModTime(), size: info.Size()}
	}
	return states, errors.Join(errs[:]...)
}
