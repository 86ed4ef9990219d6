// Package sqlite keeps documents in one SQLite file: the store where nothing else is set up.
//
// broker opens it. Reads run concurrently; writes go through one goroutine that commits those waiting together in one
// transaction, so that the disk is waited for once for all of them. A write is acknowledged after its commit: with
// synchronous=FULL, the default, it survives kill -9 and power loss. Other processes, such as the commands, may use
// the file at the same time.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/portico-id/portico/broker/store"
)

const (
	// maxBatch bounds how many writes one transaction takes, and so how long the first of them waits for the last.
	maxBatch = 256
	// readers bounds the connections for reading: a few for each core, since a read waits for nothing but a page of the file.
	readers = 8
	// busyTimeout is how long a write waits for another process's, such as a command's, before it fails.
	busyTimeout = 10 * time.Second
	// sweepEvery and sweepBatch: expired documents are invisible at once; this only gives their space back, little by little, so that
	// a sweep never holds up a write for long.
	sweepEvery = time.Minute
	sweepBatch = 500
	// schemaVersion is what this release writes. A store with a higher one is left alone.
	schemaVersion = 1
)

// migrations take a store from one version to the next; migrations[0] makes an empty file a store of version 1.
var migrations = []string{
	`CREATE TABLE documents (
		collection TEXT NOT NULL,
		id         TEXT NOT NULL,
		rev        INTEGER NOT NULL,
		expires_at INTEGER, -- milliseconds since 1970, NULL for never
		owner      TEXT NOT NULL,
		body       TEXT NOT NULL,
		PRIMARY KEY (collection, id)
	) WITHOUT ROWID;
	CREATE INDEX documents_by_owner ON documents (collection, owner, id) WHERE owner <> '';
	CREATE INDEX documents_by_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL;`,
}

// Options say where the file is and how it is kept.
type Options struct {
	// Path of the file; it is made, readable for its owner alone, if it does not exist.
	Path string
	// Synchronous is "full" (the default: what was acknowledged survives power loss) or "normal" (it survives the process, and
	// power loss may take the last moments).
	Synchronous string
	// Now tells the time that expiry is judged by; nil means time.Now.
	Now func() time.Time
	// Logger hears of what goes wrong in the background; nil means silence.
	Logger *slog.Logger
}

// DB is an open store. Its methods may be called concurrently.
type DB struct {
	read, write *sql.DB
	now         func() time.Time
	log         *slog.Logger

	get, list, listOwned *sql.Stmt

	mu     sync.RWMutex // held for reading while a write is handed over
	closed bool
	queue  chan *change
	done   chan struct{}
	stop   chan struct{}
}

var _ store.Backend = (*DB)(nil)

// Open opens the store at o.Path, making it first where there is none, and brings its schema up to date.
// store.ErrNewerSchema if a newer release wrote it.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	synchronous := "FULL"
	switch o.Synchronous {
	case "", "full":
	case "normal":
		synchronous = "NORMAL"
	default:
		return nil, fmt.Errorf("sqlite: synchronous %q is neither full nor normal", o.Synchronous)
	}
	if o.Path == "" {
		return nil, errors.New("sqlite: no path")
	}
	// Made here, because SQLite would make it readable for others.
	file, err := os.OpenFile(o.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	db := &DB{
		now: o.Now, log: o.Logger,
		queue: make(chan *change, maxBatch), done: make(chan struct{}), stop: make(chan struct{}),
	}
	if err := db.open(ctx, o.Path, synchronous); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", err), db.closeFiles())
	}
	go db.writeAll(&writer{conn: conn, statements: map[string]*sql.Stmt{}})
	go db.sweepNowAndThen()
	return db, nil
}

func (db *DB) open(ctx context.Context, path, synchronous string) error {
	dsn := func(more url.Values) string {
		q := url.Values{"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(" + synchronous + ")",
		}}
		for name, values := range more {
			q[name] = append(q[name], values...)
		}
		return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
	}
	var err error
	if db.write, err = sql.Open("sqlite", dsn(url.Values{"_txlock": {"immediate"}})); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	db.write.SetMaxOpenConns(1)
	if err := db.migrate(ctx); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(url.Values{"_pragma": {"query_only(1)"}})); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	for statement, text := range map[**sql.Stmt]string{
		&db.get:       `SELECT rev, expires_at, owner, body FROM documents WHERE collection = ? AND id = ?`,
		&db.list:      `SELECT id, rev, expires_at, owner, body FROM documents WHERE collection = ? AND id > ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY id LIMIT ?`,
		&db.listOwned: `SELECT id, rev, expires_at, owner, body FROM documents WHERE collection = ? AND owner = ? AND owner <> '' AND id > ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY id LIMIT ?`,
	} {
		if *statement, err = db.read.PrepareContext(ctx, text); err != nil {
			return fmt.Errorf("sqlite: %w", err)
		}
	}
	return nil
}

// migrate brings the schema to schemaVersion, each step in a transaction with its version, so that a step is done once
// however many processes open the file together.
func (db *DB) migrate(ctx context.Context) error {
	for {
		tx, err := db.write.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("sqlite: migrate: %w", err)
		}
		var version int
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
			return fmt.Errorf("sqlite: migrate: %w", errors.Join(err, tx.Rollback()))
		}
		if version > schemaVersion {
			return errors.Join(fmt.Errorf("sqlite: schema %d, this release knows %d: %w", version, schemaVersion, store.ErrNewerSchema), tx.Rollback())
		}
		if version == schemaVersion {
			return tx.Rollback()
		}
		if _, err := tx.ExecContext(ctx, migrations[version]+fmt.Sprintf("PRAGMA user_version = %d;", version+1)); err != nil {
			return fmt.Errorf("sqlite: migrate to %d: %w", version+1, errors.Join(err, tx.Rollback()))
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("sqlite: migrate to %d: %w", version+1, err)
		}
	}
}

// expiry is a time as the column has it.
func expiry(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

// Get reads a document. Concurrent reads do not wait for each other, or for writes.
func (db *DB) Get(ctx context.Context, collection, id string, value any) (store.Meta, error) {
	meta := store.Meta{ID: id}
	var expires sql.NullInt64
	var body sql.RawBytes
	if err := ctx.Err(); err != nil {
		return meta, err
	}
	// A read by id takes microseconds. With a context that can end, database/sql and the driver would each start a goroutine
	// to watch it, which costs more than the read.
	rows, err := db.get.Query(collection, id)
	if err != nil {
		return meta, fmt.Errorf("sqlite: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return meta, fmt.Errorf("sqlite: %w", err)
		}
		return meta, store.ErrNotFound
	}
	if err := rows.Scan(&meta.Rev, &expires, &meta.Owner, &body); err != nil {
		return meta, fmt.Errorf("sqlite: %w", err)
	}
	if expires.Valid {
		if expires.Int64 <= db.now().UnixMilli() {
			return meta, store.ErrNotFound
		}
		meta.Expires = time.UnixMilli(expires.Int64).UTC()
	}
	if err := json.Unmarshal(body, value); err != nil {
		return meta, fmt.Errorf("sqlite: document %s/%s: %w", collection, id, err)
	}
	return meta, nil
}

// List reads one page.
func (db *DB) List(ctx context.Context, collection string, q store.Query, each func(store.Meta, func(any) error) error) error {
	limit, err := q.PageSize()
	if err != nil {
		return err
	}
	now := db.now().UnixMilli()
	var rows *sql.Rows
	if q.Owner == "" {
		rows, err = db.list.QueryContext(ctx, collection, q.After, now, limit)
	} else {
		rows, err = db.listOwned.QueryContext(ctx, collection, q.Owner, q.After, now, limit)
	}
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	// The page is read before any of it is handed out, so that what each does takes no connection with it.
	type document struct {
		meta store.Meta
		body []byte
	}
	var page []document
	for rows.Next() {
		var d document
		var expires sql.NullInt64
		if err := rows.Scan(&d.meta.ID, &d.meta.Rev, &expires, &d.meta.Owner, &d.body); err != nil {
			return errors.Join(fmt.Errorf("sqlite: %w", err), rows.Close())
		}
		if expires.Valid {
			d.meta.Expires = time.UnixMilli(expires.Int64).UTC()
		}
		page = append(page, d)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	for _, d := range page {
		if err := each(d.meta, func(value any) error { return json.Unmarshal(d.body, value) }); err != nil {
			return err
		}
	}
	return nil
}

// Ping says whether the file can be read.
func (db *DB) Ping(ctx context.Context) error {
	var n int
	return db.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM documents LIMIT 1)`).Scan(&n)
}
