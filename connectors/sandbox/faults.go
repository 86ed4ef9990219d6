package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// UntilDisarmed as [Fault].Times keeps a fault until Disarm.
	UntilDisarmed = -1
	// maxTimes bounds a count; who needs more wants UntilDisarmed.
	maxTimes = 1_000_000
	// DefaultDelay is how long the fault slow waits unless told: a person notices, and an impatient client gives up.
	DefaultDelay = 5 * time.Second
	// maxDelay is longer than any client waits.
	maxDelay = time.Minute
)

// Fault is something that goes wrong at a provider.
type Fault struct {
	Name string // see [FaultNames]
	// Times is how often it goes wrong: 0 is once, UntilDisarmed for as long as it is armed.
	Times int
	// Delay is how long slow waits: 0 is DefaultDelay, at most a minute. Other faults have none.
	Delay time.Duration
	// At narrows slow, server_error, malformed and rate_limit to one kind of call of the app's server: token, profile,
	// emails (GitHub), discovery or keys (Google). "" is the next call that a sign-in is made of: token, profile or emails,
	// and for GitHub's rate_limit, which its API alone has, profile or emails.
	At string
}

// Armed is a fault that waits for its turn.
type Armed struct {
	Provider Provider
	Fault    // Times is what is left
}

// The kinds of calls that a fault can be narrowed to.
const (
	atToken     = "token"
	atProfile   = "profile"
	atEmails    = "emails"
	atDiscovery = "discovery"
	atKeys      = "keys"
)

// calls are the kinds of calls that each provider has. The first ones, to the second return value, make up a sign-in.
func calls(p Provider) (names []string, signIn int) {
	switch p {
	case Google:
		return []string{atToken, atProfile, atDiscovery, atKeys}, 2
	case GitHub:
		return []string{atToken, atProfile, atEmails}, 3
	default:
		return []string{atToken, atProfile}, 2
	}
}

// The faults by name.
const (
	faultDeny            = "deny"
	faultExpiredCode     = "expired_code"
	faultUsedCode        = "used_code"
	faultSlow            = "slow"
	faultServerError     = "server_error"
	faultMalformed       = "malformed"
	faultRateLimit       = "rate_limit"
	faultWrongISS        = "wrong_iss"
	faultWrongTokenISS   = "wrong_id_token_iss"
	faultWrongNonce      = "wrong_nonce"
	faultRotatedKeys     = "rotated_keys"
	faultNoEmail         = "no_email"
	faultUnverifiedEmail = "unverified_user_email"
)

// faultRule is what is known of a fault.
type faultRule struct {
	name      string
	providers []Provider // where it can happen
	calls     bool       // it can be narrowed with At
	about     string
}

// faultRules are all faults, in the order in which pages and documents list them.
func faultRules() []faultRule {
	all := Providers()
	return []faultRule{
		{faultDeny, all, false, "the person is sent straight back, having said no"},
		{faultExpiredCode, all, false, "the token endpoint says that the code has expired"},
		{faultUsedCode, all, false, "the token endpoint says that the code has been used"},
		{faultSlow, all, true, "the answer comes late, by the delay"},
		{faultServerError, all, true, "the answer is the provider's page or object for an error of its own"},
		{faultMalformed, all, true, "the answer has status 200 and breaks off in the middle"},
		{faultRateLimit, all, true, "the answer is that there were too many requests"},
		{faultWrongISS, []Provider{Google, GitHub}, false, "the callback's iss is another issuer (RFC 9207)"},
		{faultWrongTokenISS, []Provider{Google}, false, "the ID token's iss is another issuer"},
		{faultWrongNonce, []Provider{Google}, false, "the ID token's nonce is another one"},
		{faultRotatedKeys, []Provider{Google}, false, "a new key signs the ID token, and the old one is gone from the key set"},
		{faultNoEmail, all, false, "the provider says everything about the person but an email address"},
		{faultUnverifiedEmail, []Provider{GitHub}, false, "the token endpoint says that the person must verify their address first"},
	}
}

// FaultNames are the faults that can be armed at a provider.
func FaultNames(p Provider) []string {
	var names []string
	for _, rule := range faultRules() {
		if slices.Contains(rule.providers, p) {
			names = append(names, rule.name)
		}
	}
	return names
}

// checkFault is a fault with its defaults, or what is wrong with it, naming what would be right.
func checkFault(p Provider, f Fault) (Fault, error) {
	if !slices.Contains(Providers(), p) {
		return f, fmt.Errorf("unknown provider %q: use one of %s", p, quoted(Providers()))
	}
	names := FaultNames(p)
	if !slices.Contains(names, f.Name) {
		return f, fmt.Errorf("unknown fault %q at %s: use one of %s", f.Name, p, quoted(names))
	}
	rules := faultRules()
	rule := rules[slices.IndexFunc(rules, func(r faultRule) bool { return r.name == f.Name })]
	if f.Times < UntilDisarmed || f.Times > maxTimes {
		return f, fmt.Errorf("times: must be 1 to %d, or %d until disarmed", maxTimes, UntilDisarmed)
	}
	if kinds, _ := calls(p); f.At != "" && !(rule.calls && slices.Contains(kinds, f.At)) {
		if !rule.calls {
			return f, fmt.Errorf("at: %s cannot be narrowed to a kind of call", f.Name)
		}
		return f, fmt.Errorf("unknown at %q at %s: use one of %s", f.At, p, quoted(kinds))
	}
	if f.Name != faultSlow && f.Delay != 0 {
		return f, errors.New("delay: only slow has one")
	}
	if f.Delay < 0 || f.Delay > maxDelay {
		return f, fmt.Errorf("delay: must be at most %s", maxDelay)
	}
	f.Times = cmp.Or(f.Times, 1)
	if f.Name == faultSlow {
		f.Delay = cmp.Or(f.Delay, DefaultDelay)
	}
	return f, nil
}

func quoted[S ~string](words []S) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// covers says whether the fault, which is one of calls, is for this kind of call.
func (f Fault) covers(p Provider, at string) bool {
	if f.At != "" {
		return f.At == at
	}
	if p == GitHub && f.Name == faultRateLimit && at == atToken {
		return false
	}
	kinds, signIn := calls(p)
	return slices.Contains(kinds[:signIn], at)
}

// faultBoard is the armed faults. The zero value has none.
type faultBoard struct {
	count atomic.Int32 // how many are armed, so that a request without faults takes no lock
	mu    sync.Mutex
	armed []Armed // at most one of a provider and name
}

// Arm arms a fault at a provider, in the place of one of the same name. Its error lists what is valid.
func (s *Sandbox) Arm(p Provider, f Fault) error {
	f, err := checkFault(p, f)
	if err != nil {
		return err
	}
	b := &s.faults
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(p, f.Name)
	b.armed = append(b.armed, Armed{p, f})
	b.count.Store(int32(len(b.armed)))
	return nil
}

// Disarm disarms the fault of that name at the provider; "" is any. It is no error if there is none.
func (s *Sandbox) Disarm(p Provider, name string) {
	b := &s.faults
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(p, name)
}

// Armed lists the armed faults, oldest first.
func (s *Sandbox) Armed() []Armed {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return slices.Clone(s.faults.armed)
}

func (b *faultBoard) drop(p Provider, name string) {
	b.armed = slices.DeleteFunc(b.armed, func(a Armed) bool {
		return (p == "" || a.Provider == p) && (name == "" || a.Name == name)
	})
	b.count.Store(int32(len(b.armed)))
}

// take uses up one turn of a fault. at is the kind of call, or "" for a fault that is not narrowed to calls.
func (s *Sandbox) take(r *http.Request, p Provider, name, at string) (Fault, bool) {
	b := &s.faults
	if b.count.Load() == 0 {
		return Fault{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.armed {
		a := &b.armed[i]
		if a.Provider != p || a.Name != name || at != "" && !a.covers(p, at) {
			continue
		}
		f := a.Fault
		if a.Times > 0 {
			a.Times--
		}
		if a.Times == 0 {
			b.drop(p, name)
		}
		s.logger.InfoContext(r.Context(), "sandbox: fault", "provider", string(p), "fault", name, "at", at)
		return f, true
	}
	return Fault{}, false
}

// failures are how a provider fails, whatever the call.
type failures struct {
	serverError func(w http.ResponseWriter, at string)
	rateLimit   func(w http.ResponseWriter, at string)
}

// faulty puts the faults of calls before a handler of the app's server's calls.
func (s *Sandbox) faulty(p Provider, at string, f failures, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.faults.count.Load() == 0 {
			next(w, r)
			return
		}
		// net/http notices that a caller hung up only once the body is read, and slow has to notice.
		_ = r.ParseForm() // the handler finds what is wrong with it
		if slow, ok := s.take(r, p, faultSlow, at); ok {
			if s.sleep(r.Context(), slow.Delay) != nil {
				w.WriteHeader(http.StatusServiceUnavailable) // nobody listens any more
				return
			}
		}
		if _, ok := s.take(r, p, faultServerError, at); ok {
			f.serverError(w, at)
			return
		}
		if _, ok := s.take(r, p, faultRateLimit, at); ok {
			f.rateLimit(w, at)
			return
		}
		if _, ok := s.take(r, p, faultMalformed, at); ok {
			// Cut off within a string, as by a proxy that lost its upstream: no parser may take it for an answer.
			write(w, http.StatusOK, "application/json; charset=utf-8", []byte(`{"access_token":"cut-off`))
			return
		}
		next(w, r)
	}
}
