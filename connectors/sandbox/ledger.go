package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// codeLife is how long a code can be redeemed, at all three providers.
	codeLife = 10 * time.Minute
	// codeMemory is how long a code is remembered, so that a used or expired one can be told from one that never was.
	codeMemory = 2 * codeLife
	// tokenMemory is how long a token is remembered after its end, for the same reason.
	tokenMemory = 24 * time.Hour
	// endless stands in for the life of a token that does not expire.
	endless = 10 * 365 * 24 * time.Hour

	// maxCodes, maxTokens and maxGrants bound each provider's memory to some 30 MiB. At the 1,300 logins a second of the
	// fastest broker measured, a code is remembered for fifteen seconds and a token for as long.
	maxCodes  = 20_000
	maxTokens = 20_000
	maxGrants = 20_000
)

// ledger is what one provider remembers of who allowed what.
type ledger struct {
	codes   *table[*code]
	tokens  *table[*token]
	refresh *table[*token]
	grants  *table[*grant]
}

func newLedger() ledger {
	return ledger{
		codes:   newTable[*code](maxCodes),
		tokens:  newTable[*token](maxTokens),
		refresh: newTable[*token](maxTokens),
		grants:  newTable[*grant](maxGrants),
	}
}

// code is an authorization code (RFC 6749 section 4.1.2).
type code struct {
	grant       *grant
	scopes      []string
	redirectURI string
	nonce       string
	challenge   string // PKCE, with its method; "" if none was sent
	method      string
	refreshable bool // Google: offline access was asked for and consent shown
	expiring    bool // GitHub: scope offline_access
	noEmail     bool // the fault
	expires     time.Time
	used        atomic.Bool
}

// proves says whether a code_verifier answers the challenge (RFC 7636 section 4.6).
func (c *code) proves(verifier string) bool {
	answer := verifier
	if c.method == "S256" {
		sum := sha256.Sum256([]byte(verifier))
		answer = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return subtle.ConstantTimeCompare([]byte(answer), []byte(c.challenge)) == 1
}

// token is an access or refresh token.
type token struct {
	grant   *grant
	scopes  []string
	noEmail bool
	issued  time.Time
	expires time.Time // zero for never
	partner string    // GitHub: the other one of the pair
}

func (t *token) alive(now time.Time) bool {
	return !t.grant.revoked.Load() && (t.expires.IsZero() || now.Before(t.expires))
}

// grant is a person's remembered yes to a client. Revoking it ends all of its tokens.
type grant struct {
	clientID string
	persona  *Persona
	since    time.Time
	revoked  atomic.Bool

	mu     sync.Mutex
	scopes []string
}

// granted is every scope that the person has allowed the client so far.
func (g *grant) granted() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.scopes)
}

func (g *grant) allow(scopes []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range scopes {
		if !slices.Contains(g.scopes, s) {
			g.scopes = append(g.scopes, s)
		}
	}
}

// grantOf is the grant of a persona to a client, and whether it was there before.
func (l *ledger) grantOf(clientID string, p *Persona, now time.Time) (g *grant, before bool) {
	before = true
	g = l.grants.getOrPut(grantKey(clientID, p), now, now.Add(endless),
		func(g *grant) bool { return !g.revoked.Load() },
		func() *grant { before = false; return &grant{clientID: clientID, persona: p, since: now} })
	return g, before
}

// hasGrant says whether the persona has allowed the client anything before.
func (l *ledger) hasGrant(clientID string, p *Persona, now time.Time) bool {
	g, ok := l.grants.get(grantKey(clientID, p), now)
	return ok && !g.revoked.Load()
}

func grantKey(clientID string, p *Persona) string { return p.Name + " " + clientID }

// issue remembers a new code.
func (l *ledger) issue(key string, c *code, now time.Time) {
	c.expires = now.Add(codeLife)
	l.codes.put(key, c, now, now.Add(codeMemory))
}

// codeState is what a provider finds about a code that it was sent.
type codeState int

const (
	codeUnknown codeState = iota
	codeExpired
	codeUsed
	codeGood
)

// find is a code and its state. A client is told nothing of another's codes.
func (l *ledger) find(key, clientID string, now time.Time) (*code, codeState) {
	c, ok := l.codes.get(key, now)
	switch {
	case !ok || c.grant.clientID != clientID:
		return nil, codeUnknown
	case c.used.Load():
		return c, codeUsed
	case !now.Before(c.expires) || c.grant.revoked.Load():
		return c, codeExpired
	}
	return c, codeGood
}

// mint remembers a new access token.
func (l *ledger) mint(key string, t *token, now time.Time) {
	l.tokens.put(key, t, now, tokenForget(t, now))
}

// mintRefresh remembers a new refresh token.
func (l *ledger) mintRefresh(key string, t *token, now time.Time) {
	l.refresh.put(key, t, now, tokenForget(t, now))
}

func tokenForget(t *token, now time.Time) time.Time {
	if t.expires.IsZero() {
		return now.Add(endless)
	}
	return t.expires.Add(tokenMemory)
}

// live is an access token that is still good, or nil.
func (l *ledger) live(key string, now time.Time) *token {
	t, ok := l.tokens.get(key, now)
	if !ok || !t.alive(now) {
		return nil
	}
	return t
}

// alphabet is what the providers' opaque values are mostly made of.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// opaque is a prefix and n random letters and digits, for values that look like a provider's. The letters are
// not quite evenly spread, which 200 bits and more do not notice.
func opaque(prefix string, n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return prefix + string(b)
}

// same compares secrets without telling by its time where they differ.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
