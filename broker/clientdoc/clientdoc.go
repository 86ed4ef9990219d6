// Package clientdoc knows the clients whose id is the address of their metadata (draft-ietf-oauth-client-id-metadata-document-02): it reads
// the document through the guarded client and keeps what it says for a while.
//
// broker gives it to the registry, which asks it for every client id that is a URL, so that all parts of the broker see such a
// client as any other. What a document may say is registry.Policy's to judge.
//
// Anybody can make the broker fetch, by asking to be authorized with an address as client id. What that costs others and the
// broker is bounded here: one fetch of an address at a time and not again for a while whatever came of it, so many for one asker, for
// one host and altogether in a minute, and so many at once.
package clientdoc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portico-id/portico/broker/fetch"
	"github.com/portico-id/portico/broker/registry"
)

const (
	// maxDocument is the draft's own bound (section 8.7).
	maxDocument = 5 << 10
	// maxClients bounds the documents that are kept. Parsed, one is some 10 KiB at most.
	maxClients = 1024
	// maxStale is how long a document serves beyond its time while its server does not answer: a restart there must not end what
	// people do here. A server that answers, and has no document any more, is believed at once.
	maxStale = time.Hour
	// fetchEvery is the least time between two fetches of one address. Errors are not to be kept (section 5.2), and they are not: this is
	// how often a broken address may be asked for.
	fetchEvery = 10 * time.Second
	// fetchTimeout bounds one fetch beyond the guarded client's own limits, since it runs apart from the request that wanted it.
	fetchTimeout = 10 * time.Second
	// maxFetches at once: more wait for nothing, they are refused.
	maxFetches = 16
)

// Errors beside those of the registry.
var (
	errThrottled = errors.New("too many documents are being asked for")
	errHost      = errors.New("its host is not one that is allowed here")
	errOld       = errors.New("it was asked for a moment ago")
)

// Fetcher reads an address that somebody else chose, and follows no redirect. fetch.Client is one.
type Fetcher interface {
	GetDirect(ctx context.Context, url, accept string, maxBytes int64) (*fetch.Response, error)
}

// Options is what Documents are made of.
type Options struct {
	Fetch  Fetcher
	Policy registry.Policy
	// Hosts are those whose documents are read, each with its port where it is not 443; nil: all.
	Hosts []string
	// AllowHTTP permits documents at http addresses of this machine: for development.
	AllowHTTP bool
	Now       func() time.Time
	// Asker says who is behind a request, so that nobody can use up what there is for all; "" if that is not known.
	Asker func(ctx context.Context) string
}

// Documents keeps clients. Its methods may be called concurrently; no lock is held while a document is fetched.
type Documents struct {
	o Options

	mu      sync.Mutex
	entries map[string]*entry // by client id
	rates   rates
	running int
}

// entry is what is known of a client id. Documents.mu guards it.
type entry struct {
	client     *registry.Client // nil: its document is not there, or is no good
	err        error            // why, and why client is not current
	freshUntil time.Time
	asked      time.Time     // when it was last fetched, whatever came of it
	used       time.Time     // when somebody last wanted it
	asking     chan struct{} // not nil while it is fetched; closed when the answer is here
}

// New makes Documents. It does no IO.
func New(o Options) *Documents {
	return &Documents{o: o, entries: map[string]*entry{}, rates: rates{}}
}

// Client reads the client whose id is this URL. registry.ErrNotFound if the URL may not be one, or its document is not there or no good, with
// registry.ErrInvalid and what is wrong; registry.ErrUnavailable if that cannot be said at the moment.
func (d *Documents) Client(ctx context.Context, id string) (*registry.Client, error) {
	if err := registry.CheckClientURL(id, d.o.AllowHTTP); err != nil {
		return nil, fmt.Errorf("%w: %w: client_id: %w", registry.ErrNotFound, registry.ErrInvalid, err)
	}
	u, err := url.Parse(id)
	_, own, _ := strings.Cut(d.o.Policy.Issuer, "://")
	if err != nil || u.Host == own || d.o.Hosts != nil && !slices.Contains(d.o.Hosts, strings.TrimSuffix(u.Host, ":443")) {
		return nil, fmt.Errorf("%w: %w", registry.ErrNotFound, errHost)
	}
	d.mu.Lock()
	now := d.o.Now()
	e := d.entries[id]
	fresh := e != nil && e.client != nil && now.Before(e.freshUntil)
	if !fresh && (e == nil || e.asking == nil && now.Sub(e.asked) >= fetchEvery) {
		if e, err = d.begin(ctx, id, u.Host, e, now); err != nil {
			d.mu.Unlock()
			return nil, err
		}
	}
	e.used = now
	asking := e.asking
	d.mu.Unlock()

	if !fresh && asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", registry.ErrUnavailable, ctx.Err())
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if e.client == nil || !d.o.Now().Before(e.freshUntil.Add(maxStale)) {
		return nil, e.err
	}
	return e.client, nil
}

// begin starts to fetch a document, if the bounds allow it; where they do not, one that is too old may still serve. The caller holds mu.
func (d *Documents) begin(ctx context.Context, id, host string, e *entry, now time.Time) (*entry, error) {
	if d.running >= maxFetches || !d.rates.allow(d.o.Asker(ctx), host, now) {
		if e != nil && e.client != nil {
			return e, nil
		}
		return nil, fmt.Errorf("%w: %w", registry.ErrUnavailable, errThrottled)
	}
	if e == nil {
		d.makeRoom()
		e = &entry{}
		d.entries[id] = e
	}
	d.running++
	e.asking, e.asked = make(chan struct{}), now
	e.err = fmt.Errorf("%w: %w", registry.ErrUnavailable, errOld)
	// Apart from this request: others wait for the answer too, and this one may be given up.
	go d.ask(context.WithoutCancel(ctx), id, e)
	return e, nil
}

// makeRoom forgets one entry where there are too many: one that is of no use, or else the one that was not used for longest. Strangers
// can so push out nothing but each other and what nobody needs.
func (d *Documents) makeRoom() {
	if len(d.entries) < maxClients {
		return
	}
	var victim string
	var found *entry
	for id, e := range d.entries {
		if e.asking != nil {
			continue
		}
		if found == nil || found.client != nil && e.client == nil || (found.client == nil) == (e.client == nil) && e.used.Before(found.used) {
			victim, found = id, e
		}
	}
	delete(d.entries, victim)
}

// ask fetches the document of a client.
func (d *Documents) ask(ctx context.Context, id string, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := d.o.Fetch.GetDirect(ctx, id, "application/json", maxDocument)
	var client registry.Client
	if err == nil {
		client, err = d.read(id, response)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		e.client, e.freshUntil, e.err = &client, d.o.Now().Add(response.FreshFor()), fmt.Errorf("%w: %w", registry.ErrUnavailable, errOld)
	case definite(err):
		e.client, e.err = nil, fmt.Errorf("%w: %w", registry.ErrNotFound, err)
	default:
		e.err = fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
	d.running--
	close(e.asking)
	e.asking = nil
}

// definite says whether the other side has answered, and there is no client: that holds until it answers otherwise.
func definite(err error) bool {
	var status *fetch.StatusError
	if errors.As(err, &status) {
		return status.Status < http.StatusInternalServerError && status.Status != http.StatusTooManyRequests
	}
	for _, is := range []error{registry.ErrInvalid, fetch.ErrAddress, fetch.ErrRedirect, fetch.ErrTooLarge} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// read makes a client of an answer.
func (d *Documents) read(id string, response *fetch.Response) (registry.Client, error) {
	// Section 4: JSON, or something more specific that is JSON.
	if t := response.ContentType; t != "application/json" && !(strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")) {
		return registry.Client{}, fmt.Errorf("%w: the document is served as %.64q, not as application/json", registry.ErrInvalid, t)
	}
	return d.o.Policy.FromDocument(id, response.Body)
}
