package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// DefaultCacheFor is how long the broker's answer about a token counts: the calls that an app makes in one go are one question, and a revoked token is
	// refused within seconds.
	DefaultCacheFor = 5 * time.Second
	// inactiveFor is how long it counts that a token does not stand: long enough for whoever tries again without thinking, and little to lose for
	// one that a new setting at the broker makes good.
	inactiveFor = time.Second
)

// introspection asks the broker about tokens (RFC 7662), as a client of its own.
type introspection struct {
	from         *upstream
	now          func() time.Time
	clientID     string
	clientSecret string
	cacheFor     time.Duration // 0: nothing is remembered
	cache        cache
	flights      flights[*Token]
	failing      atomic.Bool // the last question had no answer
	probing      atomic.Bool // one that nobody waits for is under way
}

// errInactive says no more than the broker did (RFC 7662 section 2.2).
var errInactive = fmt.Errorf("%w: the broker says that it is not active", ErrInvalidToken)

// ask is what the broker says of a token. ErrInvalidToken if it does not stand, ErrUnavailable if the broker does not answer; then the next
// request asks again, so that all is well as soon as the broker is.
func (i *introspection) ask(ctx context.Context, name digest, raw string) (*Token, error) {
	if known := i.cache.find(&name, i.now()); known != nil {
		if known.token == nil {
			return nil, errInactive
		}
		return known.token, nil
	}
	under, _ := i.flights.join(ctx, name, func(ctx context.Context) (*Token, error) { return i.fetch(ctx, name, raw) })
	return under.wait(ctx)
}

// standing is ask for a token whose signature is good: nil if it stands. Once the broker is known not to answer, nobody waits for it: one
// question at a time finds out whether it does again.
func (i *introspection) standing(ctx context.Context, name digest, raw string) error {
	var err error
	if !i.failing.Load() {
		_, err = i.ask(ctx, name, raw)
	} else {
		if i.probing.CompareAndSwap(false, true) {
			ctx := context.WithoutCancel(ctx)
			go func() {
				defer i.probing.Store(false)
				_, _ = i.ask(ctx, name, raw) // what comes of it is in failing
			}()
		}
		err = fmt.Errorf("%w: it did not answer a moment ago", ErrUnavailable)
	}
	if errors.Is(err, ErrUnavailable) && i.cache.refused(&name) {
		return errInactive // what was revoked once does not come back
	}
	return err
}

func (i *introspection) fetch(ctx context.Context, name digest, raw string) (*Token, error) {
	answer, err := i.post(ctx, raw)
	i.failing.Store(err != nil)
	if err != nil {
		i.from.forget()
		return nil, err
	}
	now := i.now()
	if !answer.Active {
		// Where nothing is to be remembered too: it is asked about again, and refused while the broker does not answer.
		i.cache.add(&cached{name: name, until: now.Add(min(i.cacheFor, inactiveFor))}, now)
		return nil, errInactive
	}
	t, err := answer.token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	if i.cacheFor > 0 {
		until := now.Add(i.cacheFor)
		if t.ExpiresAt.Before(until) {
			until = t.ExpiresAt
		}
		i.cache.add(&cached{name: name, token: t, until: until}, now)
	}
	return t, nil
}

// answer is RFC 7662 section 2.2's.
type answer struct {
	Active bool `json:"active"`
	claims
}

func (i *introspection) post(ctx context.Context, raw string) (*answer, error) {
	at, err := i.from.addresses(ctx)
	if err != nil {
		return nil, err
	}
	if at.Introspection == "" {
		return nil, fmt.Errorf("%w: the metadata has no introspection_endpoint", ErrUnavailable)
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Introspection, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.Header.Set("Content-Type", formType)
	r.SetBasicAuth(url.QueryEscape(i.clientID), url.QueryEscape(i.clientSecret)) // RFC 6749 section 2.3.1
	// It is not sent, and lets net/http ask again over a new connection if one that it kept turns out to be dead: nothing changes by asking twice.
	r.Header["Idempotency-Key"] = nil
	body, _, err := i.from.do(r)
	var status statusError
	switch {
	case errors.As(err, &status) && status == http.StatusUnauthorized: // RFC 6749 section 5.2, RFC 7662 section 2.3
		return nil, fmt.Errorf("%w; it does not know this ClientID with this ClientSecret", err)
	case err != nil:
		return nil, err
	}
	var said answer
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, fmt.Errorf("%w: the answer is not JSON: %w", ErrUnavailable, err)
	}
	return &said, nil
}
