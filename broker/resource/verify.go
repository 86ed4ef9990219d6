package resource

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// opaquePrefix is what the broker's opaque access tokens begin with. Nothing else is asked about: its refresh tokens are nobody's business here.
	opaquePrefix = "pat1."
	// verifiedFor is how long a good signature is remembered, and so how long a token outlives the withdrawal of its key.
	verifiedFor = time.Minute
	// warnEvery bounds how often the log is told that revocation cannot be checked.
	warnEvery = time.Minute
)

// brokerVerifier is the Verifier of an API that names none: JWTs by the broker's keys, opaque tokens by its introspection.
type brokerVerifier struct {
	issuer   string
	now      func() time.Time
	log      *slog.Logger
	keys     *keys
	verified cache
	ask      *introspection // nil: JWTs alone are taken
	// standing asks whether a JWT was revoked; nil: nobody does. It is apart from ask: anybody can invent opaque tokens, and neither do they push out what
	// is known of JWTs, nor has it to do with these if one of them is not answered.
	standing *introspection
	warned   atomic.Int64 // when the log was last told, in seconds since 1970
}

func newBrokerVerifier(o *Options, now func() time.Time, log *slog.Logger) *brokerVerifier {
	from := newUpstream(o.Issuer, o.HTTPClient)
	v := &brokerVerifier{issuer: o.Issuer, now: now, log: log, keys: newKeys(from, now, log)}
	if o.ClientID != "" {
		cacheFor := o.CacheFor
		if cacheFor == 0 {
			cacheFor = DefaultCacheFor
		}
		asking := func() *introspection {
			return &introspection{from: from, now: now, clientID: o.ClientID, clientSecret: o.ClientSecret, cacheFor: max(0, cacheFor)}
		}
		v.ask = asking()
		if o.CheckRevoked {
			v.standing = asking()
		}
	}
	return v
}

// Verify is Verifier's.
func (v *brokerVerifier) Verify(ctx context.Context, raw string) (*Token, error) {
	name := digest(sha256.Sum256([]byte(raw)))
	if strings.HasPrefix(raw, opaquePrefix) {
		if v.ask == nil {
			return nil, fmt.Errorf("%w: it is opaque, and there is no ClientID to introspect with", ErrInvalidToken)
		}
		return v.ask.ask(ctx, name, raw)
	}
	t, err := v.signed(ctx, name, raw)
	if err != nil || v.standing == nil {
		return t, err
	}
	// By what is signed: an ECDSA signature has two spellings, and whoever has one makes the other.
	name = sha256.Sum256([]byte(raw[:strings.LastIndexByte(raw, '.')]))
	switch err := v.standing.standing(ctx, name, raw); {
	case errors.Is(err, ErrUnavailable):
		v.warn(err)
	case err != nil:
		return nil, err
	}
	return t, nil
}

// signed is a JWT whose signature is good.
func (v *brokerVerifier) signed(ctx context.Context, name digest, raw string) (*Token, error) {
	if known := v.verified.find(&name, v.now()); known != nil {
		return known.token, nil
	}
	h, ok := parseHeader(raw)
	if !ok {
		return nil, fmt.Errorf("%w: it is no access token of the broker's, by its shape", ErrInvalidToken)
	}
	t, err := v.keys.verifyJWT(ctx, raw, h, v.issuer)
	if err != nil {
		return nil, err
	}
	now := v.now()
	v.verified.add(&cached{name: name, token: t, until: now.Add(verifiedFor)}, now)
	return t, nil
}

// warn tells the log, now and then, that revoked tokens get through.
func (v *brokerVerifier) warn(cause error) {
	now := v.now().Unix()
	last := v.warned.Load()
	if now-last < int64(warnEvery/time.Second) && now >= last || !v.warned.CompareAndSwap(last, now) {
		return
	}
	v.log.Warn("the broker does not say whether tokens are revoked; those with a good signature are taken", slog.Any("cause", cause))
}
