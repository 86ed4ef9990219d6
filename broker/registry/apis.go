package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/store"
)

// Errors of APIs. Compare with errors.Is.
var (
	// ErrAPINotFound says that no api has this identifier.
	ErrAPINotFound = errors.New("no such api")
	// ErrAPIStatic says that the api is in the configuration, where alone it can be changed.
	ErrAPIStatic = errors.New("the api is in the configuration file; change it there")
	// ErrAPIExists says that another api has this identifier.
	ErrAPIExists = errors.New("an api of this identifier is registered already")
	// ErrAPIInvalid says that an api cannot be registered so; the errors within name each field.
	ErrAPIInvalid = errors.New("the api cannot be registered so")
)

const (
	// maxAPIs bounds the apis of the configuration, and those of the store: each node keeps all of them in memory.
	maxAPIs = 256
	// rereadEvery is how long another node may not know of an api that was changed here. It is short, since what was taken away may be used
	// until then; reading a few documents is no load.
	rereadEvery = 2 * time.Second
	// catchUpEvery bounds how often names that no api has make a node read the store: strangers can send such as fast as they like.
	catchUpEvery = 200 * time.Millisecond
	// catchUpAtOnce is how many of these readings may follow each other without that pause. Whoever registers an API and tries it has asked for some that
	// there are not a moment before, and would be told what was true then.
	catchUpAtOnce = 10
	// loadTimeout bounds a reading, which requests may wait for: longer than any store that is well takes.
	loadTimeout = 5 * time.Second
)

// APIs are the apis there are: those of the configuration, which never change while the process runs, and those of the store, which commands
// and other nodes change. Lookups see what was last read, without a lock and without IO; Run, Reload and CatchUp read again.
// Its methods may be called concurrently, Keep before all others.
type APIs struct {
	reserved Reserved
	static   *index
	current  atomic.Pointer[index]

	// Of the store; zero without Keep.
	backend store.Backend
	docs    store.Collection[API]
	o       APIsOptions
	begun   atomic.Int64 // readings

	mu       sync.Mutex // of what follows; never held over IO
	taken    int64      // the reading that current came of
	failing  bool       // the last reading failed
	leftOut  map[string]string
	catching *catching
	caughtUp time.Time // what Refresh may begin is used up until then
}

// APIsOptions are what APIs need to keep apis in a store. All are required.
type APIsOptions struct {
	Now   func() time.Time
	NewID func() string
	Audit *audit.Recorder
	Log   *slog.Logger
}

// Reserved is what no api may be called or define.
type Reserved struct {
	Issuer string
	Scopes []string
}

// index is the apis at one time. It does not change.
type index struct {
	list       []*API
	byID       map[string]*API
	byURL      map[string]*API
	byScope    map[string][]*API
	byDetails  map[string][]*API
	scopes     []string
	types      []string
	open       []string
	generation uint64
	versions   map[string]version // of the documents that were read, by their ids
}

// version is a document that was read. Revision and owner tell it from what it was before, and from what took the place of it.
type version struct {
	rev   int64
	owner string
	api   *API
	wrong error // it cannot be registered as it is
}

// NewAPIs takes the apis of the configuration. reserved are the identifiers and scopes that are the broker's own. The error names
// each api and field that is wrong.
func NewAPIs(reserved Reserved, list ...API) (*APIs, error) {
	s := &APIs{reserved: reserved}
	ix := newIndex()
	var problems []error
	if len(list) > maxAPIs {
		problems = append(problems, fmt.Errorf("%d apis are more than %d", len(list), maxAPIs))
	}
	for _, a := range list {
		a.Static = true
		if err := errors.Join(a.Validate(), s.clash(ix, &a)); err != nil {
			problems = append(problems, fmt.Errorf("api %q: %w", a.Identifier, err))
			continue
		}
		a.routes = routes(a.Endpoints)
		ix.add(&a)
	}
	ix.sort()
	s.static = ix
	s.current.Store(ix)
	return s, errors.Join(problems...)
}

// clash says what of an api is taken, by the broker itself or by an api of the index.
func (s *APIs) clash(ix *index, a *API) error {
	var problems []error
	if ix.byID[a.Identifier] != nil {
		problems = append(problems, errors.New("identifier: it is there twice"))
	}
	if a.Identifier == s.reserved.Issuer {
		problems = append(problems, errors.New("identifier: it is the issuer's, which is the audience of the broker's own endpoints"))
	}
	for _, scope := range a.Scopes {
		if slices.Contains(s.reserved.Scopes, scope.Name) {
			problems = append(problems, fmt.Errorf("scopes: %q is the broker's own", scope.Name))
		}
	}
	if other := ix.byURL[a.URL]; other != nil && a.URL != "" {
		problems = append(problems, fmt.Errorf("url: %q is that of the api %q; nobody could say whose a request is", a.URL, other.Identifier))
	}
	return errors.Join(problems...)
}

func newIndex() *index {
	return &index{byID: map[string]*API{}, byURL: map[string]*API{}, byScope: map[string][]*API{}, byDetails: map[string][]*API{}, versions: map[string]version{}}
}

func (ix *index) add(a *API) {
	ix.list = append(ix.list, a)
	ix.byID[a.Identifier] = a
	if a.URL != "" {
		ix.byURL[a.URL] = a
	}
	for _, scope := range a.Scopes {
		if len(ix.byScope[scope.Name]) == 0 {
			ix.scopes = append(ix.scopes, scope.Name)
		}
		ix.byScope[scope.Name] = append(ix.byScope[scope.Name], a)
		if a.SelfRegistered && !slices.Contains(ix.open, scope.Name) {
			ix.open = append(ix.open, scope.Name)
		}
	}
	for _, t := range a.DetailsTypes {
		if len(ix.byDetails[t.Type]) == 0 {
			ix.types = append(ix.types, t.Type)
		}
		ix.byDetails[t.Type] = append(ix.byDetails[t.Type], a)
	}
}

func (ix *index) sort() {
	slices.Sort(ix.scopes)
	slices.Sort(ix.types)
	slices.Sort(ix.open)
}

// Get is the api of that identifier, or nil. What these methods return is shared: it must not be changed. Two calls may see two states of the
// registry, so that what they return is compared by identifier.
func (s *APIs) Get(identifier string) *API { return s.current.Load().byID[identifier] }

// List is all apis: those of the configuration in its order, then those of the store, the oldest first.
func (s *APIs) List() []*API { return s.current.Load().list }

// WithScope are the apis that define a scope.
func (s *APIs) WithScope(name string) []*API { return s.current.Load().byScope[name] }

// WithDetails are the apis that define a type of authorization_details.
func (s *APIs) WithDetails(name string) []*API { return s.current.Load().byDetails[name] }

// Scopes are the names of all scopes that apis define, sorted.
func (s *APIs) Scopes() []string { return s.current.Load().scopes }

// SelfRegisteredScopes are the names of the scopes that clients may ask people for which nobody here has registered, sorted.
func (s *APIs) SelfRegisteredScopes() []string { return s.current.Load().open }

// DetailsTypes are the names of all types of authorization_details, sorted.
func (s *APIs) DetailsTypes() []string { return s.current.Load().types }

// Generation is another number whenever the apis have changed: what is made of them is to be made again then. It is to be asked for before
// what it stands for is read.
func (s *APIs) Generation() uint64 { return s.current.Load().generation }

// Keep adds the apis of a store, and reads them. An api of the store that the configuration leaves no room for is left out, and the log says so.
func (s *APIs) Keep(ctx context.Context, b store.Backend, o APIsOptions) error {
	s.backend, s.docs, s.o = b, store.NewCollection[API](b, apisCollection), o
	return s.Reload(ctx)
}

const apisCollection = "apis"

// Run reads the store again every rereadEvery until ctx ends. Where that fails, what was known before stays in use, and the log says so once.
func (s *APIs) Run(ctx context.Context) {
	ticker := time.NewTicker(rereadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = s.Reload(ctx) // which logs it
		}
	}
}

// Reload reads the store again. When it returns nil, everything is known that was in the store when it was called. On an error, what
// was known before stays in use.
func (s *APIs) Reload(ctx context.Context) error {
	if s.backend == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	number := s.begun.Add(1)
	docs, err := s.load(ctx)
	if !errors.Is(ctx.Err(), context.Canceled) { // which says nothing of the store
		s.say(err)
	}
	if err != nil {
		return fmt.Errorf("read the registered apis: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < s.taken {
		return nil // a reading that began later has ended before
	}
	s.taken = number
	ix, leftOut := s.build(docs)
	s.current.Store(ix)
	for identifier, why := range leftOut {
		if s.leftOut[identifier] != why {
			s.o.Log.Warn("a registered api is left out", slog.String("api", identifier), slog.String("cause", why))
		}
	}
	s.leftOut = leftOut
	return nil
}

// say logs the first of several readings that fail, and that they no longer do.
func (s *APIs) say(err error) {
	s.mu.Lock()
	was := s.failing
	s.failing = err != nil
	s.mu.Unlock()
	switch {
	case err != nil && !was:
		s.o.Log.Error("the registered apis cannot be read; those known before stay in use", slog.Any("cause", err))
	case err == nil && was:
		s.o.Log.Info("the registered apis can be read again")
	}
}

// load reads the documents. Those that have not changed since the current index are not decoded again.
func (s *APIs) load(ctx context.Context) (map[string]version, error) {
	known := s.current.Load().versions
	docs := map[string]version{}
	for after, more := "", true; more; {
		read := 0
		err := s.backend.List(ctx, apisCollection, store.Query{After: after}, func(meta store.Meta, decode func(any) error) error {
			read, after = read+1, meta.ID
			if v, ok := known[meta.ID]; ok && v.rev == meta.Rev && v.owner == meta.Owner {
				docs[meta.ID] = v
				return nil
			}
			a := new(API)
			if err := decode(a); err != nil {
				return err
			}
			a.routes = routes(a.Endpoints)
			docs[meta.ID] = version{rev: meta.Rev, owner: meta.Owner, api: a, wrong: a.Validate()}
			return nil
		})
		if err != nil {
			return nil, err
		}
		more = read == store.MaxPage
	}
	return docs, nil
}

// build makes the index of the configuration's apis and of what was read, and says what had to be left out of it, and why. The current one is kept if
// nothing has changed.
func (s *APIs) build(docs map[string]version) (*index, map[string]string) {
	current := s.current.Load()
	changed := len(docs) != len(current.versions)
	list := make([]version, 0, len(docs))
	for id, v := range docs {
		changed = changed || current.versions[id].api != v.api
		list = append(list, v)
	}
	if !changed {
		return current, s.leftOut
	}
	slices.SortFunc(list, func(a, b version) int {
		return cmp.Or(a.api.CreatedAt.Compare(b.api.CreatedAt), cmp.Compare(a.api.Identifier, b.api.Identifier))
	})
	ix := newIndex()
	ix.generation, ix.versions = current.generation+1, docs
	for _, a := range s.static.list {
		ix.add(a)
	}
	leftOut := map[string]string{}
	for _, v := range list {
		// Every node decides alike, by what is older.
		if err := errors.Join(v.wrong, s.clash(ix, v.api)); err != nil {
			leftOut[v.api.Identifier] = err.Error()
			continue
		}
		ix.add(v.api)
	}
	ix.sort()
	return ix, leftOut
}

// catching is a reading that requests wait for.
type catching struct {
	done chan struct{}
	err  error // once done is closed
}

func (c *catching) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// CatchUp is Refresh if what a request names is not known: another node may have registered it a moment ago. resources are identifiers of
// apis, or the issuer; where there are any, scopes are looked for at these.
func (s *APIs) CatchUp(ctx context.Context, scopes, resources, detailsTypes []string) error {
	if s.current.Load().knows(s.reserved, scopes, resources, detailsTypes) {
		return nil
	}
	return s.Refresh(ctx)
}

// Refresh reads the store again, for a request that something is missing for. Requests that come together share a reading. Strangers may ask for what there is
// not: after catchUpAtOnce readings in a row one begins every catchUpEvery, and the requests between take what the last one found. The error is the store's.
func (s *APIs) Refresh(ctx context.Context) error {
	if s.backend == nil {
		return nil
	}
	s.mu.Lock()
	c := s.catching
	if (c == nil || c.ended()) && s.mayCatchUp() {
		c = &catching{done: make(chan struct{})}
		s.catching = c
		go func() {
			// Whoever asked first may hang up; the others still wait.
			c.err = s.Reload(context.WithoutCancel(ctx))
			close(c.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayCatchUp says whether a reading may begin, and counts it. s.mu is held.
func (s *APIs) mayCatchUp() bool {
	now := s.o.Now()
	if ahead := s.caughtUp.Sub(now); ahead < 0 || ahead > catchUpAtOnce*catchUpEvery { // or the clock was set back
		s.caughtUp = now
	}
	if s.caughtUp.Sub(now) > (catchUpAtOnce-1)*catchUpEvery {
		return false
	}
	s.caughtUp = s.caughtUp.Add(catchUpEvery)
	return true
}

// knows says whether everything that a request names is there.
func (ix *index) knows(reserved Reserved, scopes, resources, detailsTypes []string) bool {
	for _, resource := range resources {
		if resource != reserved.Issuer && ix.byID[resource] == nil {
			return false
		}
	}
	for _, scope := range scopes {
		if slices.Contains(reserved.Scopes, scope) {
			continue
		}
		among := ix.byScope[scope]
		if len(among) == 0 || len(resources) > 0 && !slices.ContainsFunc(among, func(a *API) bool { return slices.Contains(resources, a.Identifier) }) {
			return false
		}
	}
	for _, name := range detailsTypes {
		if len(ix.byDetails[name]) == 0 {
			return false
		}
	}
	return true
}
