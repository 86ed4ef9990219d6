package logout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/pairwise"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/broker/token"
)

const (
	// lookEvery is how often the courier looks for what is due. First attempts do not wait for it.
	lookEvery = 5 * time.Second
	// perHost bounds the attempts under way at one host, so that one that hangs holds up itself alone.
	perHost = 2
	// maxSending bounds the attempts under way, each of which holds a connection.
	maxSending = 32
	// maxQueued bounds what is queued for one host, each entry of some fifty bytes; the rest waits in the store.
	maxQueued = 256
)

// Sender posts a form to an address that a client chose, guarded and bounded in time. fetch.Client is one.
type Sender interface {
	PostForm(ctx context.Context, address string, form url.Values) (status int, err error)
}

// Signer makes logout tokens. token.IDTokens is one.
type Signer interface {
	IssueLogout(alg string, t *token.LogoutToken) (string, error)
}

// CourierOptions is what a Courier is made of. All of it is required.
type CourierOptions struct {
	Sender Sender
	Signer Signer
	// Subjects names accounts and sessions as a client sees them.
	Subjects *pairwise.Subjects
	// Encrypt encrypts a token for a client as its ID tokens are; where they are not, it is the token.
	Encrypt func(ctx context.Context, client *registry.Client, signed string) (string, error)
	Audit   *audit.Recorder
	Log     *slog.Logger
}

// Courier sends what is in an outbox. Its methods may be called concurrently, on any number of nodes.
type Courier struct {
	outbox *Outbox
	o      CourierOptions
	slots  chan struct{} // one for each attempt under way

	mu      sync.Mutex
	lanes   map[string]*lane // by host; only those with something in them
	queued  map[string]bool  // ids in a lane or being sent
	senders sync.WaitGroup
}

// lane is what goes to one host.
type lane struct {
	ids     []string
	senders int
}

// NewCourier makes a Courier. It does no IO.
func NewCourier(outbox *Outbox, o CourierOptions) *Courier {
	return &Courier{
		outbox: outbox, o: o, slots: make(chan struct{}, maxSending),
		lanes: map[string]*lane{}, queued: map[string]bool{},
	}
}

// Run sends until ctx ends, and returns when the attempts that are then under way have ended: within seconds.
func (c *Courier) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.o.Log.ErrorContext(ctx, "the deliveries of sign-outs cannot be read", slog.Any("cause", err))
		}
		for looked := false; !looked; {
			select {
			case <-ctx.Done():
				c.senders.Wait()
				return
			case h := <-c.outbox.fresh:
				c.queue(ctx, h)
			case <-tick.C:
				looked = true
			}
		}
	}
}

// Once sends what is due now, and returns when the attempts have ended. It is for a process that does not Run.
func (c *Courier) Once(ctx context.Context) error {
	if err := c.look(ctx); err != nil {
		return err
	}
	c.senders.Wait()
	return nil
}

// look queues what is due.
func (c *Courier) look(ctx context.Context) error {
	for after := ""; ; {
		page, err := c.outbox.docs.List(ctx, store.Query{After: after})
		if err != nil {
			return err
		}
		now := c.outbox.now()
		for _, doc := range page {
			if doc.Value.due(now) {
				c.queue(ctx, handle{doc.ID, doc.Value.Host})
			}
		}
		if len(page) < store.MaxPage {
			return nil
		}
		after = page[len(page)-1].ID
	}
}

func (d *Delivery) due(now time.Time) bool { return d.DoneAt.IsZero() && !now.Before(d.Due) }

// queue puts a delivery into its host's lane, and sets a sender to work on it if there are fewer than allowed.
func (c *Courier) queue(ctx context.Context, h handle) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[h.host]
	if l == nil {
		l = &lane{}
		c.lanes[h.host] = l
	}
	if c.queued[h.id] || len(l.ids) >= maxQueued {
		return
	}
	c.queued[h.id] = true
	l.ids = append(l.ids, h.id)
	if l.senders < perHost {
		l.senders++
		c.senders.Go(func() { c.work(ctx, h.host, l) })
	}
}

// work sends what is in a lane until it is empty or ctx ends.
func (c *Courier) work(ctx context.Context, host string, l *lane) {
	for {
		id, more := c.next(ctx, host, l)
		if !more {
			return
		}
		c.slots <- struct{}{}
		// What has begun is finished: half an attempt tells nobody whether the client knows.
		if err := c.attempt(context.WithoutCancel(ctx), id); err != nil {
			c.o.Log.ErrorContext(ctx, "a sign-out cannot be delivered for a reason of ours", slog.String("delivery", id), slog.Any("cause", err))
		}
		<-c.slots
		c.mu.Lock()
		delete(c.queued, id)
		c.mu.Unlock()
	}
}

// next takes an id out of a lane; false ends the sender that asked.
func (c *Courier) next(ctx context.Context, host string, l *lane) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		for _, id := range l.ids {
			delete(c.queued, id)
		}
		l.ids = nil
	}
	if len(l.ids) == 0 {
		l.senders--
		if l.senders == 0 {
			delete(c.lanes, host)
		}
		return "", false
	}
	id := l.ids[0]
	l.ids = l.ids[1:]
	return id, true
}

// attempt takes a delivery, sends it, and writes down what came of it. It does nothing to one that is settled, that is not due, or
// that another node was faster to take.
func (c *Courier) attempt(ctx context.Context, id string) error {
	doc, err := c.outbox.docs.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d, now := &doc.Value, c.outbox.now()
	if !d.due(now) {
		return nil
	}
	if d.ClientID != "" && !now.Before(d.CreatedAt.Add(giveUpAfter)) {
		return c.settle(ctx, doc, fmt.Sprintf("given up after %d attempts", d.Attempts))
	}
	d.Attempts++
	d.Due = now.Add(lease)
	if taken, err := c.save(ctx, doc); !taken {
		return err
	}
	if d.ClientID == "" {
		if _, err := c.outbox.endSession(ctx, d.AccountID, d.SID); err != nil {
			return err
		}
		return c.settle(ctx, doc, "")
	}
	client, err := c.outbox.clients.Get(ctx, d.ClientID)
	switch {
	case errors.Is(err, registry.ErrNotFound), err == nil && client.BackchannelLogoutURI == "":
		return c.settle(ctx, doc, "") // nobody is left to be told
	case err != nil && !errors.Is(err, registry.ErrUnavailable):
		return err
	}
	status, failure := 0, err
	if err == nil {
		status, failure = c.send(ctx, client, doc.ID, d, now)
	}
	switch judge(status, failure) {
	case delivered:
		return c.settle(ctx, doc, "")
	case refused:
		return c.settle(ctx, doc, "the client refused it with status 400")
	}
	d.Due = c.outbox.now().Add(backoff(d.Attempts, rand.Float64()))
	c.o.Log.WarnContext(ctx, "a client was not told of a sign-out and is told again later", slog.String("client_id", d.ClientID),
		slog.String("delivery", doc.ID), slog.Int("attempts", d.Attempts), slog.Time("next", d.Due),
		slog.Int("status", status), slog.Any("cause", failure))
	_, err = c.save(ctx, doc)
	return err
}

// send makes a token and posts it, and says with which status it was answered. The token is encrypted for a client whose ID tokens
// are: it would have to reject another (section 2.6).
func (c *Courier) send(ctx context.Context, client *registry.Client, id string, d *Delivery, now time.Time) (status int, err error) {
	raw, err := c.o.Signer.IssueLogout(client.SigningAlg(), &token.LogoutToken{
		ID: id, Subject: c.o.Subjects.For(client, d.AccountID), Audience: client.ID, SID: c.o.Subjects.Session(client, d.SID),
		IssuedAt: now, ExpiresAt: now.Add(tokenLifetime),
	})
	if err != nil {
		return 0, err
	}
	if raw, err = c.o.Encrypt(ctx, client, raw); err != nil {
		return 0, err
	}
	return c.o.Sender.PostForm(ctx, client.BackchannelLogoutURI, url.Values{"logout_token": {raw}})
}

// settle ends a delivery; problem says why the client may not know, if so.
func (c *Courier) settle(ctx context.Context, doc *Doc, problem string) error {
	d := &doc.Value
	d.DoneAt = c.outbox.now()
	doc.Expires = d.DoneAt.Add(settledMemory)
	settled, err := c.save(ctx, doc)
	if settled && problem != "" {
		c.o.Audit.Record(ctx, audit.Event{Kind: audit.LogoutUndelivered, AccountID: d.AccountID, ClientID: d.ClientID, Reason: problem})
	}
	return err
}

// save writes a delivery, unless another node has since it was read: then that one has it.
func (c *Courier) save(ctx context.Context, doc *Doc) (bool, error) {
	err := c.outbox.docs.Replace(ctx, doc)
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}
