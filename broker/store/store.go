// Package store keeps the broker's documents: JSON-shaped values in named
// collections, each under one id, each with a revision.
//
// Every package that has something to remember declares its document as a
// struct with json tags and opens a [Collection] of it. The two backends
// (store/sqlite and store/mongo) keep the same documents; store/storetest is the
// one suite that both must pass.
//
// The package promises little on purpose, so that it holds on any MongoDB
// topology and on a single file alike: there are no transactions over more than
// one document, every write is a compare-and-swap on the document's revision, and
// the only uniqueness is that of the id. An invariant therefore lives in one
// document, and a claim to something unique is the insert of a document whose id is
// a digest of the thing claimed.
//
// It may not know what any document means.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors a backend answers with. Compare with errors.Is.
var (
	// ErrNotFound says that no live document has this id: it was never there, was
	// deleted, or its time has passed.
	ErrNotFound = errors.New("document not found")
	// ErrExists says that the id of an insert is taken by a live document.
	ErrExists = errors.New("document exists already")
	// ErrConflict says that another writer changed or deleted the document since it was
	// read. Read it again and decide anew.
	ErrConflict = errors.New("document was changed by another writer")
	// ErrNewerSchema says that the data was written by a newer release than this one,
	// which must not touch it.
	ErrNewerSchema = errors.New("the store was written by a newer release")
)

// Meta is what the store keeps beside a document's value.
type Meta struct {
	// ID names the document within its collection: 1 to MaxIDBytes bytes of ASCII
	// letters, digits, '-', '_', '.', ':'.
	ID string
	// Rev is the revision: 1 after the insert, one more after every replacement. A
	// replacement or deletion names the revision that was read.
	Rev int64
	// Expires is when the document ceases to be there for every reader, to the
	// millisecond; the zero time means never.
	Expires time.Time
	// Owner is an optional key to list documents by, such as the account that
	// identities belong to. Nothing is unique about it.
	Owner string
}

// Bounds, the same for both backends.
const (
	// MaxIDBytes bounds an id: digests and random ids are 43 characters or fewer, and
	// the longest composed one is two of them.
	MaxIDBytes = 128
	// MaxDocumentBytes bounds one encoded document, so that a stranger's long input
	// cannot fill the store. The largest the broker writes is a few kilobytes.
	MaxDocumentBytes = 256 << 10
	// MaxPage bounds one page of a listing.
	MaxPage = 500
)

// Query selects one page of a collection's live documents, in ascending order of id
// (bytewise).
type Query struct {
	// Owner, if not empty, selects the documents of this owner alone.
	Owner string
	// After is the last id of the page before; empty for the first page. Documents
	// inserted or deleted between two pages move no other document between pages.
	After string
	// Limit is the page's size, 1 to MaxPage; 0 means MaxPage.
	Limit int
}

// Backend is a place that keeps documents. All methods may be called concurrently.
// A document value is a pointer to a struct with json tags (for writing, a struct
// or a pointer); times in it are kept to the millisecond, in UTC.
type Backend interface {
	// Insert adds a document under meta.ID. ErrExists if a live document has the id;
	// of racing inserts exactly one succeeds. An expired document with that id is
	// replaced. meta.Rev is ignored; the stored revision is 1.
	Insert(ctx context.Context, collection string, meta Meta, value any) error
	// Get reads the live document with this id into value. ErrNotFound if there is none.
	Get(ctx context.Context, collection, id string, value any) (Meta, error)
	// Replace overwrites value, Expires and Owner of the live document meta.ID if its
	// revision still is meta.Rev, and makes the revision meta.Rev+1. ErrConflict if it has another revision
	// or is gone.
	Replace(ctx context.Context, collection string, meta Meta, value any) error
	// Delete removes the document if its revision still is rev; rev 0 removes whatever
	// is there. ErrConflict if the revision is another, ErrNotFound if it is gone.
	Delete(ctx context.Context, collection, id string, rev int64) error
	// List calls each once per document of the page, in order; decode reads the
	// document's value. It stops at the first error each returns, and returns it.
	List(ctx context.Context, collection string, q Query, each func(meta Meta, decode func(value any) error) error) error
	// Ping says whether the backend can answer at all: what readiness asks.
	Ping(ctx context.Context) error
	// Close ends the backend after the writes under way are done.
	Close() error
}

// Doc is a document: its metadata and its value.
type Doc[T any] struct {
	Meta
	Value T
}

// Collection is a typed view of one collection of a backend. Its methods may be
// called concurrently.
type Collection[T any] struct {
	backend Backend
	name    string
}

// NewCollection opens the collection called name (lower-case ASCII letters and '_').
// It does no IO.
func NewCollection[T any](b Backend, name string) Collection[T] {
	return Collection[T]{backend: b, name: name}
}

// Insert adds doc under its id and sets its revision to 1. ErrExists if the id is taken.
func (c Collection[T]) Insert(ctx context.Context, doc *Doc[T]) error {
	if err := c.backend.Insert(ctx, c.name, doc.Meta, &doc.Value); err != nil {
		return fmt.Errorf("insert into %s: %w", c.name, err)
	}
	doc.Rev = 1
	return nil
}

// Get reads the live document with this id. ErrNotFound if there is none.
func (c Collection[T]) Get(ctx context.Context, id string) (*Doc[T], error) {
	doc := new(Doc[T])
	meta, err := c.backend.Get(ctx, c.name, id, &doc.Value)
	if err != nil {
		return nil, fmt.Errorf("get from %s: %w", c.name, err)
	}
	doc.Meta = meta
	return doc, nil
}

// Replace writes doc back if nobody else has since doc was read, and advances its
// revision. ErrConflict otherwise.
func (c Collection[T]) Replace(ctx context.Context, doc *Doc[T]) error {
	if err := c.backend.Replace(ctx, c.name, doc.Meta, &doc.Value); err != nil {
		return fmt.Errorf("replace in %s: %w", c.name, err)
	}
	doc.Rev++
	return nil
}

// Delete removes the document if its revision still is rev (0: whatever its revision).
func (c Collection[T]) Delete(ctx context.Context, id string, rev int64) error {
	if err := c.backend.Delete(ctx, c.name, id, rev); err != nil {
		return fmt.Errorf("delete from %s: %w", c.name, err)
	}
	return nil
}

// List returns one page of live documents in ascending order of id.
func (c Collection[T]) List(ctx context.Context, q Query) ([]*Doc[T], error) {
	var page []*Doc[T]
	err := c.backend.List(ctx, c.name, q, func(meta Meta, decode func(any) error) error {
		doc := &Doc[T]{Meta: meta}
		if err := decode(&doc.Value); err != nil {
			return err
		}
		page = append(page, doc)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", c.name, err)
	}
	return page, nil
}

// maxChangeAttempts bounds Change: with one winner a round, more tries than racing
// writers of one document mean that something else is wrong.
const maxChangeAttempts = 128

// Change reads the document, lets edit decide on it, and writes it back, again from
// the read for as long as another writer was faster. An error of edit ends it and is
// returned as it is; edit may be called several times and must not have effects of
// its own.
func (c Collection[T]) Change(ctx context.Context, id string, edit func(doc *Doc[T]) error) (*Doc[T], error) {
	for range maxChangeAttempts {
		doc, err := c.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := edit(doc); err != nil {
			return nil, err
		}
		err = c.Replace(ctx, doc)
		if err == nil {
			return doc, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("change in %s: gave up: %w", c.name, ErrConflict)
}
