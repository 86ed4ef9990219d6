// Package mongo keeps documents in MongoDB: the store for production and for more than one node.
//
// broker opens it. A document is `{_id, rev, expires_at, owner, doc}`. Every read and write names one `_id`, or pages through
// one owner, so collections may be sharded by `_id`; there are no transactions, no change streams, and no secondary index that
// correctness rests on: the TTL index collects garbage, the one on owner makes listing quick.
package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/portico-id/portico/broker/store"
)

const (
	// openTimeout bounds how long the server may take to be found when the store is opened.
	openTimeout = 10 * time.Second
	// indexTimeout bounds the making of a collection's indexes, which nothing waits for.
	indexTimeout = time.Minute
	// insertAttempts bounds how often an insert tries to take the place of an expired document that others want too.
	insertAttempts = 16
	// schemaVersion is what this release writes. A store with a higher one is left alone.
	schemaVersion = 1
	// schemaCollection and schemaID name the document that holds the version.
	schemaCollection, schemaID = "schema", "portico"
)

// Options say where the database is.
type Options struct {
	// URI is the connection string. It may hold a password, and is never logged.
	URI string
	// Database is the database's name.
	Database string
	// Now tells the time that expiry is judged by; nil means time.Now.
	Now func() time.Time
	// Logger hears of what goes wrong in the background; nil means silence.
	Logger *slog.Logger
}

// DB is an open store. Its methods may be called concurrently.
type DB struct {
	client *mongo.Client
	db     *mongo.Database
	now    func() time.Time
	log    *slog.Logger

	closing sync.Once
	indexed sync.Map // collections whose indexes this process has asked for
	pending sync.WaitGroup
}

var _ store.Backend = (*DB)(nil)

// envelope is a document as MongoDB keeps it.
type envelope struct {
	ID      string     `bson:"_id"`
	Rev     int64      `bson:"rev"`
	Expires *time.Time `bson:"expires_at,omitempty"`
	Owner   string     `bson:"owner,omitempty"`
	Doc     any        `bson:"doc"`
}

// stored is an envelope as it is read: the value stays encoded until its type is known.
type stored struct {
	ID      string        `bson:"_id"`
	Rev     int64         `bson:"rev"`
	Expires *time.Time    `bson:"expires_at"`
	Owner   string        `bson:"owner"`
	Doc     bson.RawValue `bson:"doc"`
}

func (s *stored) meta() store.Meta {
	m := store.Meta{ID: s.ID, Rev: s.Rev, Owner: s.Owner}
	if s.Expires != nil {
		m.Expires = s.Expires.UTC()
	}
	return m
}

// Open connects, and checks the schema's version. store.ErrNewerSchema if a newer release wrote the database.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Database == "" {
		return nil, errors.New("mongodb: no database")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(o.URI).
		SetServerSelectionTimeout(openTimeout).
		// A majority has it, in its journal: what was acknowledged survives the loss of a node.
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: new(true)}).
		// Documents are declared with json tags, and are the same on both backends.
		SetBSONOptions(&options.BSONOptions{UseJSONStructTags: true, NilSliceAsEmpty: false, UseLocalTimeZone: false}))
	if err != nil {
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	db := &DB{client: client, db: client.Database(o.Database), now: o.Now, log: o.Logger}
	if err := db.checkSchema(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkSchema notes the version in a new database, and refuses one of a newer release.
func (db *DB) checkSchema(ctx context.Context) error {
	type schema struct {
		ID      string `bson:"_id"`
		Version int    `bson:"version"`
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	coll := db.db.Collection(schemaCollection)
	_, err := coll.InsertOne(ctx, schema{ID: schemaID, Version: schemaVersion})
	if err != nil && !mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("mongodb: %w", err)
	}
	var s schema
	if err := coll.FindOne(ctx, bson.M{"_id": schemaID}).Decode(&s); err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	if s.Version > schemaVersion {
		return fmt.Errorf("mongodb: schema %d, this release knows %d: %w", s.Version, schemaVersion, store.ErrNewerSchema)
	}
	return nil
}

// collection is the collection, whose indexes are asked for the first time it is written to.
func (db *DB) collection(name string) *mongo.Collection {
	coll := db.db.Collection(name)
	if _, asked := db.indexed.LoadOrStore(name, true); !asked {
		db.pending.Go(func() { db.index(coll) })
	}
	return coll
}

func (db *DB) index(coll *mongo.Collection) {
	ctx, cancel := context.WithTimeout(context.Background(), indexTimeout)
	defer cancel()
	_, err := coll.Indexes().CreateMany(ctx, []mongo.IndexModel{
		{Keys: bson.D{{Key: "expires_at", Value: 1}}, Options: options.Index().SetExpireAfterSeconds(0)},
		{Keys: bson.D{{Key: "owner", Value: 1}, {Key: "_id", Value: 1}}},
	})
	if err != nil {
		db.log.Warn("indexes cannot be made; nothing is wrong, but listing is slow and expired documents stay",
			slog.String("collection", coll.Name()), slog.Any("cause", err))
	}
}

func (db *DB) seal(meta store.Meta, rev int64, value any) (*envelope, error) {
	if err := store.CheckMeta(meta); err != nil {
		return nil, err
	}
	e := &envelope{ID: meta.ID, Rev: rev, Owner: meta.Owner, Doc: value}
	if !meta.Expires.IsZero() {
		e.Expires = new(meta.Expires.UTC())
	}
	return e, nil
}

// encode encodes here rather than in the driver, so that a document that is too large is refused before it is sent.
func encode(e *envelope) (bson.Raw, error) {
	var b bytes.Buffer
	encoder := bson.NewEncoder(bson.NewDocumentWriter(&b))
	encoder.UseJSONStructTags()
	if err := encoder.Encode(e); err != nil {
		return nil, fmt.Errorf("mongodb: document %s: %w", e.ID, err)
	}
	if b.Len() > store.MaxDocumentBytes {
		return nil, fmt.Errorf("document %s: %w", e.ID, store.ErrTooLarge)
	}
	return b.Bytes(), nil
}

// live selects documents that have not expired by now.
func (db *DB) live() bson.D {
	return bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "expires_at", Value: bson.D{{Key: "$exists", Value: false}}}},
		bson.D{{Key: "expires_at", Value: bson.D{{Key: "$gt", Value: db.now().UTC()}}}},
	}}}
}

func (db *DB) expired(t *time.Time) bool {
	return t != nil && !db.now().Truncate(time.Millisecond).Before(*t)
}

// Insert claims the id by inserting it. Where an expired document is still there, it is replaced if nobody else has been faster.
func (db *DB) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	e, err := db.seal(meta, 1, value)
	if err != nil {
		return err
	}
	raw, err := encode(e)
	if err != nil {
		return err
	}
	coll := db.collection(collection)
	for range insertAttempts {
		_, err := coll.InsertOne(ctx, raw)
		if err == nil {
			return nil
		}
		if !mongo.IsDuplicateKeyError(err) {
			return fmt.Errorf("mongodb: %w", err)
		}
		var there stored
		err = coll.FindOne(ctx, bson.M{"_id": meta.ID}, options.FindOne().SetProjection(bson.M{"doc": 0})).Decode(&there)
		if errors.Is(err, mongo.ErrNoDocuments) {
			continue // collected in this moment
		}
		if err != nil {
			return fmt.Errorf("mongodb: %w", err)
		}
		if !db.expired(there.Expires) {
			return store.ErrExists
		}
		// Revision and expiry together name the document that was seen: a new one under this id may have the same revision.
		result, err := coll.ReplaceOne(ctx, bson.M{"_id": meta.ID, "rev": there.Rev, "expires_at": there.Expires}, raw)
		if err != nil {
			return fmt.Errorf("mongodb: %w", err)
		}
		if result.MatchedCount == 1 {
			return nil
		}
	}
	return store.ErrExists
}

// Get reads a document by its id.
func (db *DB) Get(ctx context.Context, collection, id string, value any) (store.Meta, error) {
	var s stored
	err := db.db.Collection(collection).FindOne(ctx, bson.M{"_id": id}).Decode(&s)
	if errors.Is(err, mongo.ErrNoDocuments) || err == nil && db.expired(s.Expires) {
		return store.Meta{ID: id}, store.ErrNotFound
	}
	if err != nil {
		return store.Meta{ID: id}, fmt.Errorf("mongodb: %w", err)
	}
	if err := decode(s.Doc, value); err != nil {
		return store.Meta{ID: id}, fmt.Errorf("mongodb: document %s/%s: %w", collection, id, err)
	}
	return s.meta(), nil
}

func decode(raw bson.RawValue, value any) error {
	document, ok := raw.DocumentOK()
	if !ok {
		return fmt.Errorf("doc is a %s", raw.Type)
	}
	decoder := bson.NewDecoder(bson.NewDocumentReader(bytes.NewReader(document)))
	decoder.UseJSONStructTags()
	return decoder.Decode(value)
}

// Replace overwrites a document whose revision still is meta.Rev.
func (db *DB) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	e, err := db.seal(meta, meta.Rev+1, value)
	if err != nil {
		return err
	}
	raw, err := encode(e)
	if err != nil {
		return err
	}
	filter := append(bson.D{{Key: "_id", Value: meta.ID}, {Key: "rev", Value: meta.Rev}}, db.live()...)
	result, err := db.collection(collection).ReplaceOne(ctx, filter, raw)
	if err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	if result.MatchedCount == 0 {
		return store.ErrConflict
	}
	return nil
}

// Delete removes a document whose revision still is rev, or whatever is there if rev is 0.
func (db *DB) Delete(ctx context.Context, collection, id string, rev int64) error {
	coll := db.db.Collection(collection)
	filter := append(bson.D{{Key: "_id", Value: id}}, db.live()...)
	if rev != 0 {
		filter = append(filter, bson.E{Key: "rev", Value: rev})
	}
	result, err := coll.DeleteOne(ctx, filter)
	if err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	if result.DeletedCount == 1 {
		return nil
	}
	n, err := coll.CountDocuments(ctx, append(bson.D{{Key: "_id", Value: id}}, db.live()...))
	switch {
	case err != nil:
		return fmt.Errorf("mongodb: %w", err)
	case n == 0:
		return store.ErrNotFound
	}
	return store.ErrConflict
}

// List reads one page.
func (db *DB) List(ctx context.Context, collection string, q store.Query, each func(store.Meta, func(any) error) error) error {
	limit, err := q.PageSize()
	if err != nil {
		return err
	}
	filter := append(bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: q.After}}}}, db.live()...)
	if q.Owner != "" {
		filter = append(filter, bson.E{Key: "owner", Value: q.Owner})
	}
	cursor, err := db.db.Collection(collection).Find(ctx, filter, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(limit)))
	if err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	var page []stored
	if err := cursor.All(ctx, &page); err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	for i := range page {
		if err := each(page[i].meta(), func(value any) error { return decode(page[i].Doc, value) }); err != nil {
			return err
		}
	}
	return nil
}

// Ping says whether the server answers.
func (db *DB) Ping(ctx context.Context) error { return db.client.Ping(ctx, nil) }

// Drop deletes the whole database. For tests.
func (db *DB) Drop(ctx context.Context) error {
	db.pending.Wait()
	return db.db.Drop(ctx)
}

// closeTimeout bounds how long Close waits for what is under way.
const closeTimeout = 10 * time.Second

// Close ends the connections after what is under way is done. Closing twice is closing once.
func (db *DB) Close() (err error) {
	db.closing.Do(func() {
		db.pending.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = db.client.Disconnect(ctx)
	})
	return err
}
