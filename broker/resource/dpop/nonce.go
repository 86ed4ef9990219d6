package dpop

import (
	"strconv"
	"time"
)

const (
	// NonceHeader is the response header that hands out a nonce (RFC 9449 section 8).
	NonceHeader = "DPoP-Nonce"
	// NonceWindow is how long one nonce is handed out. It is accepted for as long again, so that it serves for
	// NonceWindow at least and twice that at most.
	NonceWindow = 2 * time.Minute
	// noncePurpose keeps nonces apart from the keyring's other digests.
	noncePurpose = "dpop-nonce"
)

// Digester makes and checks keyed digests. token.Keyring is one.
type Digester interface {
	Digest(purpose, value string) string
	DigestMatches(purpose, digest, value string) bool
}

// Nonces are the server's nonces (RFC 9449 sections 8 and 9). A nonce is a keyed digest of a window of time: nothing is stored,
// and each node that has the keyring knows those of all others. It is the same for all clients, which is enough: it shows that a
// proof was made after the window began, and not in advance. Safe for concurrent use.
type Nonces struct{ digester Digester }

// NewNonces makes nonces with d.
func NewNonces(d Digester) *Nonces { return &Nonces{digester: d} }

func window(now time.Time, offset int64) string {
	return strconv.FormatInt(now.Unix()/int64(NonceWindow/time.Second)+offset, 10)
}

// Judge says whether the nonce of a proof will do, "" if it has none. One that was sent is judged even where none is required (section 4.3 point 10). next is
// the one to hand out with the answer, be it a refusal, before the client's own ends; "" if the client has a current one, or needs none.
func (n *Nonces) Judge(nonce string, isRequired bool, now time.Time) (ok bool, next string) {
	ok, fresh := !isRequired, !isRequired
	if nonce != "" {
		ok, fresh = n.check(nonce, now)
	}
	if !fresh {
		next = n.digester.Digest(noncePurpose, window(now, 0))
	}
	return ok, next
}

// check judges a nonce that was sent. fresh says that it is the current one.
func (n *Nonces) check(nonce string, now time.Time) (valid, fresh bool) {
	switch matches := func(offset int64) bool {
		return n.digester.DigestMatches(noncePurpose, nonce, window(now, offset))
	}; {
	case matches(0):
		return true, true
	case matches(-1):
		return true, false
	case matches(1): // of a node whose clock is ahead
		return true, true
	}
	return false, false
}
