package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/store/storetest"
	"github.com/portico-id/portico/broker/token"
)

// cluster is a store that several nodes keep their apis in.
type cluster struct {
	store.Backend
	now     time.Time
	log     brokertest.Logs
	audit   *audit.Recorder
	broken  atomic.Bool
	reads   atomic.Int64
	holding atomic.Pointer[hold]
}

// hold keeps a reading from ending.
type hold struct{ read, end chan struct{} }

var errBroken = errors.New("the disk is gone")

func (c *cluster) List(ctx context.Context, collection string, q store.Query, each func(store.Meta, func(any) error) error) error {
	c.reads.Add(1)
	if c.broken.Load() {
		return errBroken
	}
	err := c.Backend.List(ctx, collection, q, each)
	if held := c.holding.Load(); held != nil {
		close(held.read)
		<-held.end
	}
	return err
}

// node is another process over the store, with apis of its configuration.
func (c *cluster) node(t *testing.T, static ...registry.API) *registry.APIs {
	t.Helper()
	s, err := registry.NewAPIs(reserved, static...)
	if err == nil {
		err = s.Keep(t.Context(), c, registry.APIsOptions{Now: c.clock, NewID: token.NewID, Audit: c.audit, Log: slog.New(slog.NewTextHandler(&c.log, nil))})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *cluster) clock() time.Time { return c.now }

func eachCluster(t *testing.T, f func(t *testing.T, c *cluster)) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) {
			c := &cluster{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
			c.Backend = open(t, c.clock)
			c.audit = audit.New(c.Backend, audit.Options{Now: c.clock, Log: slog.New(slog.DiscardHandler)})
			f(t, c)
		})
	}
}

func mustAdd(t *testing.T, s *registry.APIs, a registry.API) {
	t.Helper()
	if _, err := s.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

const notesID = "https://api.example.com/notes"

// An api is registered, changed and removed while brokers run; what it is not may be said at each.
func TestAPIsOfTheStore(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		ctx := t.Context()
		s := c.node(t, api("urn:static", "read"))
		full := *endpoints(t, "GET /notes/{id} read | write", "POST /pay write acr=urn:x max_age=300", "GET /health public")
		full.Identifier, full.URL, full.AccessTokenInQuery = notesID, "https://api.example.com/v1", true
		full.DetailsTypes = []registry.DetailsType{{Type: "payment", Sentence: "Pay", Fields: []registry.DetailsField{{Name: "amount", Required: true}}}}
		mustAdd(t, s, full)
		c.now = c.now.Add(time.Minute)

		got := c.node(t, api("urn:static", "read")).Get(notesID)
		if got == nil || got.Static || !got.UpdatedAt.Equal(got.CreatedAt) || !got.CreatedAt.Equal(c.now.Add(-time.Minute)) ||
			got.URL != full.URL || !got.AccessTokenInQuery || got.Details("payment") == nil || len(got.Endpoints) != 3 {
			t.Fatalf("another node reads %+v", got)
		}
		if e := got.Endpoint("HEAD", "/notes/1"); e == nil || e.String() != "GET /notes/{id} read | write" {
			t.Errorf("its endpoint is %v", e)
		}
		if e := got.Endpoint("POST", "/pay"); e == nil || e.String() != "POST /pay write acr=urn:x max_age=300" {
			t.Errorf("its endpoint is %v", e)
		}

		for want, err := range map[error]error{
			registry.ErrAPIExists:   second(s.Add(ctx, full)),
			registry.ErrAPIInvalid:  second(s.Add(ctx, api("urn:other", "openid"))),
			registry.ErrAPIStatic:   second(s.Add(ctx, api("urn:static", "read"))),
			registry.ErrAPINotFound: second(s.Update(ctx, "urn:none", func(*registry.API) error { return nil })),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		if _, err := s.Update(ctx, "urn:static", func(*registry.API) error { return nil }); !errors.Is(err, registry.ErrAPIStatic) {
			t.Error(err)
		}
		if _, err := s.Update(ctx, notesID, func(a *registry.API) error { a.Identifier = "urn:else"; return nil }); !errors.Is(err, registry.ErrAPIInvalid) || !strings.Contains(err.Error(), "identifier: tokens say it") {
			t.Errorf("an identifier changes: %v", err)
		}
		if _, err := s.Update(ctx, notesID, func(a *registry.API) error { a.Scopes = a.Scopes[:1]; return nil }); !errors.Is(err, registry.ErrAPIInvalid) || !strings.Contains(err.Error(), `needs "write"`) {
			t.Errorf("a scope goes that an endpoint needs: %v", err)
		}
		elsewhere := api("urn:elsewhere", "read")
		elsewhere.URL = full.URL
		if _, err := s.Add(ctx, elsewhere); !errors.Is(err, registry.ErrAPIInvalid) || !strings.Contains(err.Error(), notesID) {
			t.Errorf("two apis at one address: %v", err)
		}

		changed, err := s.Update(ctx, notesID, func(a *registry.API) error {
			a.Scopes = append(a.Scopes, registry.Scope{Name: "delete", Sentence: "Delete"})
			a.Endpoints = append(a.Endpoints, registry.Endpoint{Method: "DELETE", Path: "/notes/{id}", Scopes: []string{"delete"}})
			return nil
		})
		if err != nil || !changed.UpdatedAt.Equal(c.now) || !changed.CreatedAt.Equal(got.CreatedAt) {
			t.Errorf("changed: %+v, %v", changed, err)
		}
		if len(s.WithScope("delete")) != 1 || s.Get(notesID).Endpoint("DELETE", "/notes/1") == nil {
			t.Error("who changed it does not know")
		}
		if err := s.Remove(ctx, "urn:static"); !errors.Is(err, registry.ErrAPIStatic) {
			t.Error(err)
		}
		if err := s.Remove(ctx, notesID); err != nil || s.Get(notesID) != nil || len(s.WithScope("delete")) != 0 {
			t.Errorf("removed: %v", err)
		}
		if err := s.Remove(ctx, notesID); !errors.Is(err, registry.ErrAPINotFound) {
			t.Error(err)
		}
		events, err := c.audit.Of(ctx, notesID, "")
		kinds := map[audit.Kind]int{}
		for _, e := range events {
			kinds[e.Value.Kind]++
		}
		if err != nil || len(events) != 3 || kinds[audit.APIAdded] != 1 || kinds[audit.APIChanged] != 1 || kinds[audit.APIRemoved] != 1 {
			t.Errorf("events: %v, %v", kinds, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// What one node registers, another knows as soon as a request names it, and what one removes, when it has read the store again. Names that
// nobody has make it read no more often than it can bear.
func TestAnotherNodeKnows(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		ctx := t.Context()
		here, there := c.node(t), c.node(t)
		before := there.Generation()
		mustAdd(t, here, api(notesID, "notes:read"))
		if there.Get(notesID) != nil {
			t.Fatal("known before it was read: the test shows nothing")
		}
		if err := there.CatchUp(ctx, []string{"openid"}, []string{reserved.Issuer}, nil); err != nil || there.Get(notesID) != nil {
			t.Errorf("what is known makes it read: %v", err)
		}
		if err := there.CatchUp(ctx, []string{"openid", "notes:read"}, nil, nil); err != nil || there.Get(notesID) == nil || there.Generation() == before {
			t.Errorf("by scope: %v", err)
		}
		known := there.Get(notesID)

		// Another one a moment later, although somebody has just asked in vain.
		if err := there.CatchUp(ctx, nil, []string{"urn:soon"}, nil); err != nil {
			t.Error(err)
		}
		mustAdd(t, here, api("urn:soon", "soon"))
		if err := there.CatchUp(ctx, nil, []string{"urn:soon"}, nil); err != nil || there.Get("urn:soon") == nil {
			t.Errorf("after a question in vain: %v", err)
		}

		before = there.Generation()
		reads := c.reads.Load()
		for range 50 {
			if err := there.CatchUp(ctx, nil, []string{"urn:none"}, nil); err != nil || there.Generation() != before {
				t.Error(err)
			}
		}
		if got := c.reads.Load() - reads; got != 7 {
			t.Errorf("%d readings for fifty requests, after three, want 7", got)
		}
		// A scope that another api has is no reason not to look for it at the api that is named.
		mustAdd(t, here, api("urn:other", "notes:read"))
		reads = c.reads.Load()
		for range 5 {
			if err := there.CatchUp(ctx, []string{"notes:read"}, []string{"urn:other"}, nil); err != nil || there.Get("urn:other") != nil {
				t.Errorf("read again within 200 ms: %v", err)
			}
		}
		if c.reads.Load() != reads {
			t.Errorf("%d readings for five requests within 200 ms", c.reads.Load()-reads)
		}
		c.now = c.now.Add(200 * time.Millisecond)
		if err := there.CatchUp(ctx, nil, []string{"urn:other"}, nil); err != nil || there.Get("urn:other") == nil {
			t.Errorf("by resource: %v", err)
		}
		if there.Get(notesID) != known {
			t.Error("what has not changed was read anew")
		}
		if _, err := here.Update(ctx, "urn:other", func(a *registry.API) error {
			a.DetailsTypes = []registry.DetailsType{{Type: "payment", Sentence: "Pay"}}
			a.Scopes = append(a.Scopes, registry.Scope{Name: "more", Sentence: "More"})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(200 * time.Millisecond)
		if err := there.CatchUp(ctx, []string{"more"}, []string{"urn:other"}, []string{"payment"}); err != nil || len(there.WithScope("more")) != 1 || len(there.WithDetails("payment")) != 1 {
			t.Errorf("by details: %v", err)
		}

		// Removed, and registered anew: it has the revision that it had before.
		if err := here.Remove(ctx, notesID); err != nil || there.Get(notesID) == nil {
			t.Fatal(err)
		}
		mustAdd(t, here, api(notesID, "notes:new"))
		if err := there.Reload(ctx); err != nil || there.Get(notesID).HasScope("notes:read") || len(there.WithScope("notes:new")) != 1 {
			t.Errorf("anew: %v %+v", err, there.Get(notesID))
		}
		generation := there.Generation()
		if err := there.Reload(ctx); err != nil || there.Generation() != generation {
			t.Errorf("nothing has changed, and all is to be made again: %v", err)
		}
		if err := here.Remove(ctx, notesID); err != nil {
			t.Fatal(err)
		}
		if err := there.Reload(ctx); err != nil || there.Get(notesID) != nil || there.Generation() == generation {
			t.Errorf("removed, and still there: %v", err)
		}
	})
}

// The configuration wins over what is stored, and says so, once: no change of it keeps a broker from starting.
func TestAStoredAPIThatTheConfigurationLeavesNoRoomForIsLeftOut(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		ctx := t.Context()
		free := c.node(t)
		at := api("urn:at", "read")
		at.URL = "https://api.example.com"
		mustAdd(t, free, api(notesID, "notes:read"))
		mustAdd(t, free, at)
		mustAdd(t, free, api("urn:fine", "fine"))

		static := api("urn:static", "static")
		static.URL = at.URL
		held := c.node(t, static, api(notesID, "notes:static"))
		for range 3 {
			if err := held.Reload(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if held.Get(notesID).HasScope("notes:read") || held.Get("urn:at") != nil || held.Get("urn:fine") == nil || len(held.List()) != 3 {
			t.Errorf("there are %+v", held.List())
		}
		if n := strings.Count(c.log.String(), "left out"); n != 2 {
			t.Errorf("%d warnings of two apis:\n%s", n, c.log.String())
		}
		// What is left out can be taken out.
		if err := held.Remove(ctx, notesID); err != nil {
			t.Error(err)
		}
		if _, err := held.Update(ctx, "urn:at", func(a *registry.API) error { a.URL = ""; return nil }); err != nil || held.Get("urn:at") == nil {
			t.Errorf("it fits again: %v", err)
		}
		if err := held.Remove(ctx, notesID); !errors.Is(err, registry.ErrAPIStatic) {
			t.Error(err)
		}
	})
}

// Two nodes give one address away, and neither has seen the other: whoever comes last takes back what it wrote, or nobody could say whose a request is.
func TestAnAddressThatAnotherWasGivenMeanwhileIsTakenBack(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		a, b := c.node(t), c.node(t)
		mustAdd(t, a, api("urn:a", "read"))
		mustAdd(t, b, api("urn:b", "read"))
		move := func(s *registry.APIs, identifier string) error {
			return second(s.Update(t.Context(), identifier, func(a *registry.API) error { a.URL = "https://api.example.com"; return nil }))
		}
		held, done := &hold{make(chan struct{}), make(chan struct{})}, make(chan error, 1)
		c.holding.Store(held)
		go func() { done <- move(a, "urn:a") }()
		<-held.read // what a goes by is of before
		c.holding.Store(nil)
		if err := move(b, "urn:b"); err != nil {
			t.Error(err)
		}
		close(held.end)
		if err := <-done; !errors.Is(err, registry.ErrAPIInvalid) || !strings.Contains(err.Error(), "at the same time; try again") {
			t.Errorf("the second is told %v", err)
		}
		if now := c.node(t); now.Get("urn:a") == nil || now.Get("urn:a").URL != "" || now.Get("urn:b").URL == "" {
			t.Errorf("a is at %+v, b at %+v", now.Get("urn:a"), now.Get("urn:b"))
		}
	})
}

// Each node keeps all apis in memory: there are no more of them than that is meant for.
func TestAPIsOfTheStoreAreBounded(t *testing.T) {
	c := &cluster{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	c.Backend = storetest.SQLite(t, c.clock)
	docs := store.NewCollection[registry.API](c.Backend, "apis")
	for i := range 256 {
		a := api(fmt.Sprintf("urn:api:%d", i), "read")
		if err := docs.Insert(t.Context(), &store.Doc[registry.API]{Meta: store.Meta{ID: store.Key(a.Identifier)}, Value: a}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.node(t).Add(t.Context(), api("urn:more", "read")); !errors.Is(err, registry.ErrAPIInvalid) || !strings.Contains(err.Error(), "256 already") {
		t.Error(err)
	}
}

// Of apis that are registered at once for one address, at most one has it, and all nodes agree which.
func TestApisAreRegisteredAtOnce(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		const n = 8
		var same, other atomic.Int64
		nodes := make(chan *registry.APIs, n)
		for range n {
			nodes <- c.node(t)
		}
		numbers := atomic.Int64{}
		storetest.Race(n, func() {
			s := <-nodes
			if _, err := s.Add(t.Context(), api(notesID, "read")); err == nil {
				same.Add(1)
			} else if !errors.Is(err, registry.ErrAPIExists) {
				t.Error(err)
			}
			mine := api(fmt.Sprintf("urn:api:%d", numbers.Add(1)), "read")
			mine.URL = "https://api.example.com"
			if _, err := s.Add(t.Context(), mine); err == nil {
				other.Add(1)
			} else if !errors.Is(err, registry.ErrAPIInvalid) {
				t.Error(err)
			}
			moved := api(mine.Identifier+":moved", "read")
			mustAdd(t, s, moved)
			if _, err := s.Update(t.Context(), moved.Identifier, func(a *registry.API) error { a.URL = "https://new.example.com"; return nil }); err != nil && !errors.Is(err, registry.ErrAPIInvalid) {
				t.Error(err)
			}
		})
		at := map[string]int64{}
		for _, a := range c.node(t).List() {
			at[a.URL]++
		}
		if same.Load() != 1 || other.Load() > 1 || at["https://api.example.com"] != other.Load() || at["https://new.example.com"] > 1 {
			t.Errorf("%d of one identifier, %d at one address, and there are %v", same.Load(), other.Load(), at)
		}
		if strings.Contains(c.log.String(), "left out") {
			if left := c.node(t).List(); len(left) != 1+int(other.Load())+n {
				t.Errorf("for good, some are left out: %v", left)
			}
		}
	})
}

// While the store is down, what was known stays; a request that names something else learns that nobody can say, rather than that it does not exist.
func TestAStoreThatFailsTakesNothingAway(t *testing.T) {
	c := &cluster{now: time.Now()}
	c.Backend = storetest.SQLite(t, c.clock)
	c.audit = audit.New(c.Backend, audit.Options{Now: c.clock, Log: slog.New(slog.DiscardHandler)})
	s := c.node(t)
	mustAdd(t, s, api(notesID, "read"))
	c.broken.Store(true)
	for range 3 {
		if err := s.Reload(t.Context()); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	c.now = c.now.Add(time.Second)
	for range 3 {
		if err := s.CatchUp(t.Context(), []string{"unknown"}, nil, nil); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	if err := s.CatchUp(t.Context(), []string{"read"}, []string{notesID}, nil); err != nil || s.Get(notesID) == nil {
		t.Errorf("what is known: %v", err)
	}
	if _, err := s.Add(t.Context(), api("urn:other", "read")); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	c.broken.Store(false)
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if said := c.log.String(); strings.Count(said, "cannot be read") != 1 || strings.Count(said, "can be read again") != 1 {
		t.Errorf("the log says it each time, or not at all:\n%s", said)
	}
}

// A reading that took long does not bring back what a later one has seen go.
func TestALateReadingDoesNotBringBackWhatIsGone(t *testing.T) {
	c := &cluster{now: time.Now()}
	c.Backend = storetest.SQLite(t, c.clock)
	c.audit = audit.New(c.Backend, audit.Options{Now: c.clock, Log: slog.New(slog.DiscardHandler)})
	s, other := c.node(t), c.node(t)
	mustAdd(t, s, api(notesID, "read"))

	held := &hold{read: make(chan struct{}), end: make(chan struct{})}
	c.holding.Store(held)
	late := make(chan error)
	go func() { late <- s.Reload(t.Context()) }()
	<-held.read
	c.holding.Store(nil)
	if err := errors.Join(other.Remove(t.Context(), notesID), s.Reload(t.Context())); err != nil {
		t.Fatal(err)
	}
	close(held.end)
	if err := <-late; err != nil || s.Get(notesID) != nil {
		t.Errorf("it is back: %v", err)
	}
}

// Lookups need no lock: whatever is read beside them, they see a whole state. For the race detector.
func TestLookupsBesideReadings(t *testing.T) {
	c := &cluster{now: time.Now()}
	c.Backend = storetest.SQLite(t, c.clock)
	c.audit = audit.New(c.Backend, audit.Options{Now: c.clock, Log: slog.New(slog.DiscardHandler)})
	here, there := c.node(t), c.node(t)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if a := there.Get(notesID); a != nil && a.Endpoint("GET", "/notes/1") == nil {
					t.Error("an api without its endpoints")
				}
				for _, a := range there.WithScope("read") {
					if !a.HasScope("read") {
						t.Error("a scope at an api that does not define it")
					}
				}
				there.Scopes()
				there.List()
				if err := there.CatchUp(t.Context(), []string{"nobody's"}, nil, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	a := *endpoints(t, "GET /notes/{id} read")
	a.Identifier = notesID
	for range 20 {
		mustAdd(t, here, a)
		if err := errors.Join(there.Reload(t.Context()), here.Remove(t.Context(), notesID), there.Reload(t.Context())); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
}

// The largest api that may be registered can be stored, and takes no noticeable time to be judged.
func TestTheLargestAPIIsStored(t *testing.T) {
	eachCluster(t, func(t *testing.T, c *cluster) {
		list := make([]string, 1000)
		for i := range list {
			list[i] = fmt.Sprintf("GET /repositories/{owner}/{name}/things/%d/parts/{part}/%s read write", i, strings.Repeat("x", 20))
		}
		a := *endpoints(t, list...)
		s := c.node(t)
		mustAdd(t, s, a)
		if got := s.Get(a.Identifier).Endpoint("GET", "/repositories/o/n/things/999/parts/p/"+strings.Repeat("x", 20)); got == nil || got.Path != a.Endpoints[999].Path {
			t.Errorf("its last endpoint is %v", got)
		}
	})
}

// listing is a store that lists nothing, or fails.
type listing struct {
	store.Backend
	reads  atomic.Int64
	broken atomic.Bool
}

func (l *listing) List(context.Context, string, store.Query, func(store.Meta, func(any) error) error) error {
	l.reads.Add(1)
	if l.broken.Load() {
		return errBroken
	}
	return nil
}

// What was taken away at one node is gone at all others within two seconds, for as long as they run; a store that is down for a while changes nothing about that.
func TestANodeReadsTheStoreEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listing{}
		s, err := registry.NewAPIs(reserved)
		if err == nil {
			err = s.Keep(t.Context(), l, registry.APIsOptions{Now: time.Now, NewID: token.NewID, Log: slog.New(slog.DiscardHandler)})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go s.Run(ctx)
		for want := int64(2); want < 6; want++ {
			l.broken.Store(want == 3 || want == 4)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := l.reads.Load(); got != want {
				t.Errorf("%d readings, want %d", got, want)
			}
		}
		stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := l.reads.Load(); got != 5 {
			t.Errorf("%d readings after the end", got)
		}
	})
}
