package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/store"
)

// apiID is the id of the document that an api is kept in: of one identifier there is one.
func apiID(identifier string) string { return store.Key(identifier) }

// Add registers an api. Times are set here. ErrAPIExists, ErrAPIStatic, and ErrAPIInvalid with the fields that are wrong.
func (s *APIs) Add(ctx context.Context, a API) (*API, error) {
	if s.static.byID[a.Identifier] != nil {
		return nil, ErrAPIStatic
	}
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	if s.Get(a.Identifier) != nil {
		return nil, ErrAPIExists
	}
	if n := len(s.List()) - len(s.static.list); n >= maxAPIs {
		return nil, fmt.Errorf("%w: there are %d already", ErrAPIInvalid, n)
	}
	a.CreatedAt = s.o.Now()
	a.UpdatedAt, a.routes = a.CreatedAt, nil
	if err := s.Check(&a); err != nil {
		return nil, err
	}
	// The owner tells it from an api of the same identifier that was removed, whose revisions began at 1 too.
	doc := &store.Doc[API]{Meta: store.Meta{ID: apiID(a.Identifier), Owner: s.o.NewID()}, Value: a}
	switch err := s.docs.Insert(ctx, doc); {
	case errors.Is(err, store.ErrExists):
		return nil, ErrAPIExists
	case err != nil:
		return nil, tooLarge(err)
	}
	if err := s.settle(ctx, &a, func() error { return s.docs.Delete(ctx, doc.ID, doc.Rev) }); err != nil {
		return nil, err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.APIAdded, API: a.Identifier})
	return &a, nil
}

// settle reads the store after an api was written that has a new address. If another one was given the address at the same time, undo takes it
// back: of two that see each other, both do, and somebody has to try again.
func (s *APIs) settle(ctx context.Context, a *API, undo func() error) error {
	if err := s.Reload(ctx); err != nil {
		return err
	}
	for _, v := range s.current.Load().versions {
		if a.URL != "" && v.api.URL == a.URL && !v.api.Is(a) {
			return errors.Join(fmt.Errorf("%w: url: %q was given to the api %q at the same time; try again", ErrAPIInvalid, a.URL, v.api.Identifier), undo(), s.Reload(ctx))
		}
	}
	return nil
}

// Check says whether an api may be among those that are known, in the place of one of the same identifier. ErrAPIInvalid, with the fields that are wrong.
func (s *APIs) Check(a *API) error {
	others := newIndex()
	for _, o := range s.List() {
		if o.Identifier != a.Identifier {
			others.add(o)
		}
	}
	if err := errors.Join(a.Validate(), s.clash(others, a)); err != nil {
		return fmt.Errorf("%w:\n%w", ErrAPIInvalid, err)
	}
	return nil
}

func tooLarge(err error) error {
	if errors.Is(err, store.ErrTooLarge) {
		return fmt.Errorf("%w: endpoints and scopes are too many: %w", ErrAPIInvalid, err)
	}
	return err
}

// Update changes an api, all but its identifier. edit may be called several times. ErrAPINotFound, ErrAPIStatic, and ErrAPIInvalid with the fields
// that are wrong.
func (s *APIs) Update(ctx context.Context, identifier string, edit func(a *API) error) (*API, error) {
	if s.static.byID[identifier] != nil {
		return nil, ErrAPIStatic
	}
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	var before API
	doc, err := s.docs.Change(ctx, apiID(identifier), func(doc *store.Doc[API]) error {
		a := &doc.Value
		before = *a
		if err := edit(a); err != nil {
			return err
		}
		if a.Identifier != identifier {
			return fmt.Errorf("%w: identifier: tokens say it, and so it does not change; register another api", ErrAPIInvalid)
		}
		a.CreatedAt, a.UpdatedAt = before.CreatedAt, s.o.Now()
		return s.Check(a)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrAPINotFound
	case err != nil:
		return nil, tooLarge(err)
	}
	if doc.Value.URL == before.URL {
		err = s.Reload(ctx)
	} else {
		err = s.settle(ctx, &doc.Value, func() error {
			_, err := s.docs.Change(ctx, doc.ID, func(doc *store.Doc[API]) error { doc.Value.URL = before.URL; return nil })
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.APIChanged, API: identifier})
	return &doc.Value, nil
}

// Remove takes an api out. Nobody gets a token for it any more; those that are out end with their lifetime. Clients keep its scopes in their
// registration, without any use. One that is left out because it is in the configuration too can be removed. ErrAPINotFound, ErrAPIStatic.
func (s *APIs) Remove(ctx context.Context, identifier string) error {
	err := s.docs.Delete(ctx, apiID(identifier), 0)
	switch {
	case errors.Is(err, store.ErrNotFound) && s.static.byID[identifier] != nil:
		return ErrAPIStatic
	case errors.Is(err, store.ErrNotFound):
		return ErrAPINotFound
	case err != nil:
		return err
	}
	s.o.Audit.Record(ctx, audit.Event{Kind: audit.APIRemoved, API: identifier})
	return s.Reload(ctx)
}
