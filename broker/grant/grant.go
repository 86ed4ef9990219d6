// Package grant keeps what came of a flow: which account let which client do what.
// Refresh tokens live and die with their grant.
//
// broker/oauth creates grants when it redeems codes and asks them on every refresh, introspection and
// userinfo request. What may be done with a refresh token is decided by [Judge], a pure function. The
// package may not mint or read tokens.
package grant

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/store"
)

// Grant is one authorization of a client by an account. Its id is its flow's: the insert
// of the grant is what redeems the flow's code, so of any number of redemptions one wins.
type Grant struct {
	ClientID  string    `json:"client_id"`
	AccountID string    `json:"account_id"`
	Scopes    []string  `json:"scopes"`
	SessionID string    `json:"session_id,omitempty"`
	Connector string    `json:"connector,omitempty"`
	AuthTime  time.Time `json:"auth_time"`
	ACR       string    `json:"acr,omitempty"`
	AMR       []string  `json:"amr,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// KeepUntil keeps the document, not its tokens, until then at least: when the browser session ends, it says that
	// the client has signed in with it and is to be told (OpenID Connect Back-Channel Logout section 2.3). Zero: no need.
	KeepUntil time.Time `json:"keep_until,omitzero"`

	// Resources are the audiences that its tokens may be for (RFC 8707 section 2.2); empty: the broker's own endpoints alone.
	Resources []string `json:"resources,omitempty"`
	// AgreedAt says, where Resources are of several apis, at which of them each scope and each type of Details was agreed to: "scope identifier",
	// " type identifier". Another one that gets one of the same name later was not asked about. Empty: at all that define it.
	AgreedAt []string `json:"agreed_at,omitempty"`
	// Details are what was agreed to beyond scopes, as the JSON of authorization_details (RFC 9396 section 2).
	Details string `json:"authorization_details,omitempty"`
	// Claims are the claims asked for one by one, as the JSON of a claims parameter (OpenID Connect Core section 5.5).
	Claims string `json:"claims,omitempty"`
	// UserinfoAlg, if set, signs what userinfo answers: as the client was registered at the sign-in, so that userinfo need not read the
	// client.
	UserinfoAlg string `json:"userinfo_alg,omitempty"`
	// JKT and CertThumbprint, if set, are the key or certificate that its refresh tokens are bound to (RFC 9449 section 5, RFC 8705
	// section 4).
	JKT            string `json:"jkt,omitempty"`
	CertThumbprint string `json:"x5t_s256,omitempty"`

	// Generation numbers the refresh token that is current; 0 if the grant has none.
	Generation int64     `json:"generation,omitempty"`
	RotatedAt  time.Time `json:"rotated_at,omitzero"` // when the current generation came to be, or was last used where that matters

	RevokedAt     time.Time `json:"revoked_at,omitzero"`
	RevokedReason string    `json:"revoked_reason,omitempty"`
	// RevokedTokens are access tokens revoked one by one (RFC 7009) before they expired.
	RevokedTokens []RevokedToken `json:"revoked_tokens,omitempty"`
}

// RevokedToken is an access token that ended early.
type RevokedToken struct {
	ID      string    `json:"id"` // jti
	Expires time.Time `json:"expires"`
}

// Doc is a stored grant.
type Doc = store.Doc[Grant]

// Why a grant was revoked, as the document and the audit event record it.
const (
	ReasonCodeReplayed   = "code_replayed"   // RFC 6749 section 4.1.2
	ReasonRefreshReused  = "refresh_reused"  // RFC 9700 section 4.14.2
	ReasonClientRevoked  = "client_revoked"  // RFC 7009
	ReasonSignedOut      = "signed_out"      // the browser session that it hung on has ended
	ReasonAccountRemoved = "account_removed" // nobody is left whom it could speak for

	ReasonAccountDisabled = "account_disabled" // and what is revoked stays so when the account is enabled again
	ReasonPasswordChanged = "password_changed" // it came of the password before
)

// Live says whether the grant has not been revoked.
func (g *Grant) Live() bool { return g.RevokedAt.IsZero() }

// TokenLive says whether the access token jti of this grant is still good, its expiry apart. A token that was exchanged from another
// ends with it: its id begins with the other's and a dot.
func (g *Grant) TokenLive(jti string) bool {
	if !g.Live() {
		return false
	}
	for _, t := range g.RevokedTokens {
		if rest, same := strings.CutPrefix(jti, t.ID); same && (rest == "" || rest[0] == '.') {
			return false
		}
	}
	return true
}

// Limits are the lifetimes of a client's refresh tokens.
type Limits struct {
	// Grace is how long the previous refresh token still yields the current one.
	Grace time.Duration
	// Idle ends a grant that was not refreshed for so long; 0 never.
	Idle time.Duration
	// Absolute ends a grant so long after it was made; 0 never.
	Absolute time.Duration
	// Keep leaves the refresh token as it is when it is used: for clients whose tokens are worth nothing in other hands (FAPI 2.0
	// Security Profile section 5.3.2.1 number 9).
	Keep bool
}

// Verdict is what becomes of a presented refresh token.
type Verdict int

// The verdicts of Judge.
const (
	// Rotate: it is the current one. Advance the generation and answer with the next.
	Rotate Verdict = iota
	// Repeat: it is the previous one, presented again inside the grace window, because a response was lost or two
	// tabs raced. Answer with the current one, which the first presentation was given too; write nothing.
	Repeat
	// Stay: it is the current one, and stays so. Answer with it.
	Stay
	// Reused: it is older than that. Somebody has a copy: revoke the grant (RFC 9700 section 4.14.2).
	Reused
	// Dead: the grant is revoked or past its lifetime, or never had this token.
	Dead
)

// Judge decides what becomes of the refresh token of the given generation.
func Judge(g *Grant, generation int64, now time.Time, l Limits) Verdict {
	switch {
	case !g.Live(), g.Generation == 0, generation < 1, generation > g.Generation:
		return Dead
	case l.Absolute > 0 && !now.Before(g.CreatedAt.Add(l.Absolute)):
		return Dead
	case l.Idle > 0 && !now.Before(g.RotatedAt.Add(l.Idle)):
		return Dead
	case generation == g.Generation && l.Keep:
		return Stay
	case generation == g.Generation:
		return Rotate
	case generation == g.Generation-1 && now.Before(g.RotatedAt.Add(l.Grace)):
		return Repeat
	default:
		return Reused
	}
}

// expiry is when the document of a grant with a refresh token may be forgotten; zero is never.
func (g *Grant) expiry(l Limits) time.Time {
	var at time.Time
	if l.Idle > 0 {
		at = g.RotatedAt.Add(l.Idle)
	}
	if l.Absolute > 0 {
		if end := g.CreatedAt.Add(l.Absolute); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	if at.IsZero() {
		return at
	}
	return g.kept(at)
}

// kept is at, or KeepUntil where that is later.
func (g *Grant) kept(at time.Time) time.Time {
	if g.KeepUntil.After(at) {
		return g.KeepUntil
	}
	return at
}

const (
	// revokedMemory is how long a revoked grant is kept: longer than any code or access token that
	// could name it, so that none of them comes back to life, and long enough to look into what happened.
	revokedMemory = 30 * 24 * time.Hour
	// minMemory is how long a grant without refresh token is kept at least: longer than any code, whose
	// second redemption must find it.
	minMemory = time.Hour
	// maxRevokedTokens bounds the list of access tokens revoked one by one. A client that
	// revokes more of them than this before they expire has its whole grant revoked instead.
	maxRevokedTokens = 64
)

// Errors of this package.
var (
	// ErrRedeemed says that the code was redeemed before. The grant it became has been revoked.
	ErrRedeemed = errors.New("the code was redeemed before")
	// ErrReused says that a refresh token older than the previous one was presented. The grant has been revoked.
	ErrReused = errors.New("the refresh token was used before")
	// ErrDead says that the grant is revoked, expired or unknown.
	ErrDead = errors.New("the grant is revoked, expired or unknown")
)

// Grants keeps grants. Its methods may be called concurrently, on any number of nodes.
type Grants struct {
	docs store.Collection[Grant]
	now  func() time.Time
}

// New keeps grants in b.
func New(b store.Backend, now func() time.Time) *Grants {
	return &Grants{docs: store.NewCollection[Grant](b, "grants"), now: now}
}

// Redeem turns a flow's code into its grant. Of any number of calls for one id exactly one succeeds; each
// later one revokes the grant and gets ErrRedeemed (RFC 6749 section 4.1.2). accessLifetime is the longest
// access token the grant will issue. withRefresh gives it a refresh token of generation 1.
func (s *Grants) Redeem(ctx context.Context, id string, g Grant, withRefresh bool, accessLifetime time.Duration, l Limits) (*Doc, error) {
	now := s.now()
	g.CreatedAt = now
	doc := &Doc{Meta: store.Meta{ID: id, Owner: g.AccountID}, Value: g}
	if withRefresh {
		doc.Value.Generation, doc.Value.RotatedAt = 1, now
		doc.Expires = doc.Value.expiry(l)
	} else {
		doc.Expires = g.kept(now.Add(max(accessLifetime, minMemory)))
	}
	err := s.docs.Insert(ctx, doc)
	if errors.Is(err, store.ErrExists) {
		if _, err := s.Revoke(ctx, id, ReasonCodeReplayed); err != nil {
			return nil, errors.Join(ErrRedeemed, err)
		}
		return nil, ErrRedeemed
	}
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// Refresh judges the refresh token of the given generation that was presented for doc, and rotates it if it
// is the current one. The returned grant's Generation numbers the token to answer with. ErrReused and ErrDead otherwise.
func (s *Grants) Refresh(ctx context.Context, doc *Doc, generation int64, l Limits) (*Doc, error) {
	for {
		now := s.now()
		verdict := Judge(&doc.Value, generation, now, l)
		switch verdict {
		case Repeat:
			return doc, nil
		case Dead:
			return nil, ErrDead
		case Reused:
			if _, err := s.Revoke(ctx, doc.ID, ReasonRefreshReused); err != nil {
				return nil, errors.Join(ErrReused, err)
			}
			return nil, ErrReused
		case Stay, Rotate:
			if verdict == Rotate {
				doc.Value.Generation++
			} else if l.Idle == 0 {
				return doc, nil
			}
			doc.Value.RotatedAt = now
			doc.Value.RevokedTokens = pruned(doc.Value.RevokedTokens, now)
			doc.Expires = doc.Value.expiry(l)
			err := s.docs.Replace(ctx, doc)
			if err == nil {
				return doc, nil
			}
			if !errors.Is(err, store.ErrConflict) {
				return nil, err
			}
		}
		// Another request was faster. Most likely it rotated the same token: judge again.
		var err error
		if doc, err = s.Get(ctx, doc.ID); err != nil {
			return nil, err
		}
	}
}

// Get reads a grant by its id. ErrDead if there is none.
func (s *Grants) Get(ctx context.Context, id string) (*Doc, error) {
	doc, err := s.docs.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrDead
	}
	return doc, err
}

// Revoke ends a grant and all its tokens. It reports whether this call ended it: false if it was revoked or gone already.
func (s *Grants) Revoke(ctx context.Context, id, reason string) (ended bool, err error) {
	_, err = s.docs.Change(ctx, id, func(doc *Doc) error {
		ended = doc.Value.Live()
		if ended {
			s.end(doc, reason)
			return nil
		}
		return errUnchanged
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return ended && err == nil, err
}

var errUnchanged = errors.New("nothing to change")

func (s *Grants) end(doc *Doc, reason string) {
	now := s.now()
	doc.Value.RevokedAt, doc.Value.RevokedReason = now, reason
	doc.Value.RevokedTokens = nil
	doc.Expires = doc.Value.kept(now.Add(revokedMemory))
}

// RevokeToken ends one access token of a grant (RFC 7009 section 2.1), its refresh token and others stay.
func (s *Grants) RevokeToken(ctx context.Context, id, jti string, expires time.Time) error {
	_, err := s.docs.Change(ctx, id, func(doc *Doc) error {
		g := &doc.Value
		if !g.TokenLive(jti) {
			return errUnchanged
		}
		g.RevokedTokens = append(pruned(g.RevokedTokens, s.now()), RevokedToken{ID: jti, Expires: expires})
		if len(g.RevokedTokens) > maxRevokedTokens {
			s.end(doc, ReasonClientRevoked)
		}
		return nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func pruned(tokens []RevokedToken, now time.Time) []RevokedToken {
	var live []RevokedToken
	for _, t := range tokens {
		if now.Before(t.Expires) {
			live = append(live, t)
		}
	}
	return live
}

// ByAccount lists a page of an account's grants, revoked ones included.
func (s *Grants) ByAccount(ctx context.Context, accountID, after string) ([]*Doc, error) {
	return s.docs.List(ctx, store.Query{Owner: accountID, After: after})
}

// RevokeOf ends those live grants of an account that match, and says how many.
func (s *Grants) RevokeOf(ctx context.Context, accountID, reason string, match func(*Grant) bool) (ended int, err error) {
	for after := ""; ; {
		page, err := s.ByAccount(ctx, accountID, after)
		if err != nil {
			return ended, err
		}
		for _, doc := range page {
			if !doc.Value.Live() || !match(&doc.Value) {
				continue
			}
			this, err := s.Revoke(ctx, doc.ID, reason)
			if err != nil {
				return ended, err
			}
			if this {
				ended++
			}
		}
		if len(page) < store.MaxPage {
			return ended, nil
		}
		after = page[len(page)-1].ID
	}
}

// AllOf lists all of an account's grants, revoked ones included: for what is done to an account or a session as a whole.
func (s *Grants) AllOf(ctx context.Context, accountID string) ([]*Doc, error) {
	var all []*Doc
	for after := ""; ; {
		page, err := s.ByAccount(ctx, accountID, after)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < store.MaxPage {
			return all, nil
		}
		after = page[len(page)-1].ID
	}
}

// OfSession lists the grants that came of one of an account's browser sessions, revoked ones included: who has signed in
// with it.
func (s *Grants) OfSession(ctx context.Context, accountID, sessionID string) ([]*Doc, error) {
	all, err := s.AllOf(ctx, accountID)
	return slices.DeleteFunc(all, func(doc *Doc) bool { return doc.Value.SessionID != sessionID }), err
}

// EndSession revokes, of the grants that OfSession listed, those that hung on the session. Those whose refresh tokens
// outlive it stay, because the person agreed to offline_access (OpenID Connect Core section 11, Back-Channel Logout section 2.7).
func (s *Grants) EndSession(ctx context.Context, docs []*Doc) error {
	for _, doc := range docs {
		if doc.Value.Generation == 0 && doc.Value.Live() {
			if _, err := s.Revoke(ctx, doc.ID, ReasonSignedOut); err != nil {
				return err
			}
		}
	}
	return nil
}
