package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("sqlite: the store is closed")

// change is one write that waits for its transaction. Each is one conditional statement: it affects its one row or none, and never
// fails for a reason of its own, so that changes can share a transaction.
type change struct {
	ctx     context.Context
	text    string
	args    []any
	nothing func(w *writer) error // what it means that no row was affected
	result  chan error
}

func encode(meta store.Meta, value any) (string, error) {
	if err := store.CheckMeta(meta); err != nil {
		return "", err
	}
	body, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("sqlite: document %s: %w", meta.ID, err)
	}
	if len(body) > store.MaxDocumentBytes {
		return "", fmt.Errorf("document %s: %w", meta.ID, store.ErrTooLarge)
	}
	return string(body), nil
}

const insertText = `INSERT INTO documents (collection, id, rev, expires_at, owner, body) VALUES (?, ?, 1, ?, ?, ?)
	ON CONFLICT (collection, id) DO UPDATE SET rev = 1, expires_at = excluded.expires_at, owner = excluded.owner, body = excluded.body
	WHERE documents.expires_at IS NOT NULL AND documents.expires_at <= ?`

// Insert adds a document; one that has expired under the same id makes room for it.
func (db *DB) Insert(ctx context.Context, collection string, meta store.Meta, value any) error {
	body, err := encode(meta, value)
	if err != nil {
		return err
	}
	return db.submit(&change{
		ctx: ctx, text: insertText,
		args:    []any{collection, meta.ID, expiry(meta.Expires), meta.Owner, body, db.now().UnixMilli()},
		nothing: func(*writer) error { return store.ErrExists },
	})
}

const replaceText = `UPDATE documents SET rev = rev + 1, expires_at = ?, owner = ?, body = ?
	WHERE collection = ? AND id = ? AND rev = ? AND (expires_at IS NULL OR expires_at > ?)`

// Replace overwrites a document whose revision still is meta.Rev.
func (db *DB) Replace(ctx context.Context, collection string, meta store.Meta, value any) error {
	body, err := encode(meta, value)
	if err != nil {
		return err
	}
	return db.submit(&change{
		ctx: ctx, text: replaceText,
		args:    []any{expiry(meta.Expires), meta.Owner, body, collection, meta.ID, meta.Rev, db.now().UnixMilli()},
		nothing: func(*writer) error { return store.ErrConflict },
	})
}

const (
	deleteText = `DELETE FROM documents WHERE collection = ? AND id = ? AND (? = 0 OR rev = ?) AND (expires_at IS NULL OR expires_at > ?)`
	existsText = `SELECT 1 FROM documents WHERE collection = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)`
)

// Delete removes a document whose revision still is rev, or whatever is there if rev is 0.
func (db *DB) Delete(ctx context.Context, collection, id string, rev int64) error {
	now := db.now().UnixMilli()
	return db.submit(&change{
		ctx: ctx, text: deleteText,
		args: []any{collection, id, rev, rev, now},
		nothing: func(w *writer) error {
			var one int
			err := w.conn.QueryRowContext(context.Background(), existsText, collection, id, now).Scan(&one)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return store.ErrNotFound
			case err != nil:
				return err
			}
			return store.ErrConflict
		},
	})
}

// submit hands a change to the writer and waits for its commit. A context that ends before the change is taken up keeps it from
// being written; after that the outcome is waited for, and is the truth.
func (db *DB) submit(c *change) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.result = make(chan error, 1)
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return ErrClosed
	}
	db.queue <- c
	db.mu.RUnlock()
	return <-c.result
}

// writer is the one connection that writes, with its statements prepared once. Its statements run without a context that could
// end: what was taken up is seen through.
type writer struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func (w *writer) exec(text string, args ...any) (affected int64, err error) {
	s := w.statements[text]
	if s == nil {
		if s, err = w.conn.PrepareContext(context.Background(), text); err != nil {
			return 0, err
		}
		w.statements[text] = s
	}
	outcome, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return outcome.RowsAffected()
}

// writeAll is the one goroutine that writes: it takes what waits, commits it together, and answers.
func (db *DB) writeAll(w *writer) {
	defer close(db.done)
	batch := make([]*change, 0, maxBatch)
	for first := range db.queue {
		batch = append(batch[:0], first)
	fill:
		for len(batch) < maxBatch {
			select {
			case c, open := <-db.queue:
				if !open {
					break fill
				}
				batch = append(batch, c)
			default:
				break fill
			}
		}
		results, err := w.commit(batch)
		if err != nil && len(batch) > 1 {
			// Something is wrong with the file or with one of them. Alone, the others may still succeed.
			for i, c := range batch {
				alone, err := w.commit([]*change{c})
				if err != nil {
					alone = []error{err}
				}
				results[i] = alone[0]
			}
		} else if err != nil {
			results[0] = err
		}
		for i, c := range batch {
			c.result <- results[i]
		}
	}
	for _, s := range w.statements {
		_ = s.Close() // the file is about to be closed
	}
	_ = w.conn.Close()
}

// commit applies changes in one transaction. results are each change's own; err means that nothing was written.
func (w *writer) commit(batch []*change) (results []error, err error) {
	results = make([]error, len(batch))
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return results, fmt.Errorf("sqlite: %w", err)
	}
	defer func() {
		if err != nil {
			_, undo := w.exec("ROLLBACK")
			err = fmt.Errorf("sqlite: %w", errors.Join(err, undo))
		}
	}()
	for i, c := range batch {
		if results[i] = c.ctx.Err(); results[i] != nil {
			continue
		}
		affected, err := w.exec(c.text, c.args...)
		if err != nil {
			return results, err
		}
		if affected == 0 {
			results[i] = c.nothing(w)
		}
	}
	_, err = w.exec("COMMIT")
	return results, err
}

const sweepText = `DELETE FROM documents WHERE (collection, id) IN
	(SELECT collection, id FROM documents WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?)`

// sweepNowAndThen deletes expired documents, a bounded number at a time.
func (db *DB) sweepNowAndThen() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-db.stop:
			return
		case <-ticker.C:
			if err := db.sweep(); err != nil && !errors.Is(err, ErrClosed) {
				db.log.Warn("expired documents cannot be swept", slog.Any("cause", err))
			}
		}
	}
}

// sweep deletes what has expired by now.
func (db *DB) sweep() error {
	for more := true; more; {
		more = false
		err := db.submit(&change{
			ctx: context.Background(), text: sweepText, args: []any{db.now().UnixMilli(), sweepBatch},
			nothing: func(*writer) error { return errNothingExpired },
		})
		if errors.Is(err, errNothingExpired) {
			return nil
		}
		if err != nil {
			return err
		}
		more = true
	}
	return nil
}

var errNothingExpired = errors.New("nothing has expired")

// Close ends the store after the writes under way are committed. Writes after it fail with ErrClosed.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.queue)
	close(db.stop)
	db.mu.Unlock()
	<-db.done
	return db.closeFiles()
}

func (db *DB) closeFiles() error {
	var errs []error
	for _, file := range []*sql.DB{db.read, db.write} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
