package config

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/portico-id/portico/broker/registry"
)

const (
	// MaxKeyringSecrets is how many secrets the keyring may have: each is tried for what it may have made.
	MaxKeyringSecrets = 8
	// MinKeyringSecretBytes is the length of a 256-bit key, written in whatever way.
	MinKeyringSecretBytes = 32
	// MaxKeyringSecretBytes bounds a secret: nobody needs more.
	MaxKeyringSecretBytes = 4096

	// minClientSecret is past guessing in whatever way it is written (RFC 6749 section 10.10), as the registry demands.
	minClientSecret = 32
	// maxName bounds what stands on a button or in a headline, in bytes.
	maxName = 100
	// maxURL fits, with a response added, into the URLs that browsers and servers take.
	maxURL = 1024
	// maxList bounds connectors, and every list of a client or a connector.
	maxList = 64
)

var (
	nameForm         = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	visibleForm      = regexp.MustCompile(`^[!-~]+$`)       // RFC 6749 appendix A.1, without the space
	scopeForm        = regexp.MustCompile(`^[!#-\[\]-~]+$`) // RFC 6749 section 3.3
	domainForm       = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*$`)
	headerForm       = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	graphVersionForm = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]{1,2}$`)

	// otherHeaders are those that requests carry for other purposes, or that proxies set.
	otherHeaders = []string{
		"Authorization", "Cookie", "Host", "Origin", "Referer", "Content-Type", "Content-Length", "Accept", "User-Agent", "DPoP", "Forwarded",
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id",
	}

	tokenFormats = []string{"opaque", "jwt"}
	// keyedTypes are the types of connectors whose keys are known here, so that a key that does not belong is named with its line. The
	// types there are, are the registry's: a new one works without a word here, and checks its keys itself.
	keyedTypes = []string{ConnectorGoogle, ConnectorFacebook, ConnectorGitHub, ConnectorOIDC, ConnectorFixed}
)

// Validate says everything that is wrong with the configuration, as [Problems] without files and lines, or nil. It does no
// IO. [Load] and [Parse] have called it.
func (c *Config) Validate() error { return c.validate().err() }

func (c *Config) validate() Problems {
	v := &validator{}
	v.check("issuer", issuerProblem(c.Issuer))
	v.listen("listen", c.Listen)
	v.tls(c)
	for i, proxy := range c.TrustedProxies {
		switch prefix, err := parseProxy(proxy); {
		case err != nil:
			v.add(item("trusted_proxies", i), quote(proxy)+" is neither an address nor a CIDR; write 10.0.0.7 or 10.0.0.0/8")
		case prefix.Bits() == 0: // RFC 9700 section 4.13
			v.add(item("trusted_proxies", i), quote(proxy)+" is everybody, and whoever is trusted says whose address and whose certificate a request has; name the proxy, or its network")
		}
	}
	v.mtls(c)
	v.store(&c.Store)
	v.keyring(c)
	v.oneOf("linking", string(c.Linking), string(LinkAsk), string(LinkVerified), string(LinkNever))
	v.sandbox(c)
	v.connectors(c)
	v.clients(c)
	v.trustedIssuers(c)
	v.registration(&c.Registration)
	v.clientIDMetadata(&c.ClientIDMetadata)
	if c.UnprovenPerMinute < 1 || c.UnprovenPerMinute > maxUnproven {
		v.add("unproven_per_minute", fmt.Sprintf("%d is not between 1 and %d", c.UnprovenPerMinute, maxUnproven))
	}
	v.list("grant_types", c.GrantTypes, maxList)
	for i, grant := range c.GrantTypes {
		v.check(item("grant_types", i), oneOf(grant, registry.GrantTypes()...))
	}
	v.apis(c)
	if c.ForwardAuth.AnyHost && issuerProblem(c.Issuer) == "" && !plainLoopback(c.Issuer) {
		v.add("forward_auth.any_host", "is not permitted for this issuer: whoever sends a request would choose the api, so the issuer must be http on 127.0.0.1, [::1] or localhost")
	}
	v.accounts(c.Accounts, c.Clients)
	if p := c.Passwords; p.MinLength < 8 || p.MinLength > 64 {
		v.add("passwords.min_length", fmt.Sprintf("%d is not between 8 and 64: NIST SP 800-63B section 5.1.1.2 has 8 for the least, and says that 64 must be allowed", p.MinLength))
	}
	if p := c.Passwords; p.Concurrent < 0 || p.Concurrent > 64 {
		v.add("passwords.concurrent", fmt.Sprintf("%d is not between 0 and 64; 0 is as many as there are cores", p.Concurrent))
	}
	v.tokens(&c.Tokens)
	v.bounds("sessions.lifetime", c.Sessions.Lifetime, 5*time.Minute, 400*day, "browsers keep no cookie longer than 400 days")
	v.boundsOrZero("sessions.idle_lifetime", c.Sessions.IdleLifetime, time.Minute, c.Sessions.Lifetime.Std(), "0 is no limit, and more than sessions.lifetime has no effect")
	v.bounds("flow_lifetime", c.FlowLifetime, time.Minute, day, "a person has to find a password meanwhile, and a page left open overnight is not a sign-in")
	v.bounds("device.lifetime", c.Device.Lifetime, 2*time.Minute, 30*time.Minute, "a person has to type it and sign in meanwhile, and whoever guesses has as long")
	v.bounds("device.interval", c.Device.Interval, time.Second, time.Minute, "each device asks once an interval, and a person waits as long after saying yes")
	if c.Device.Interval.Std()%time.Second != 0 {
		v.add("device.interval", fmt.Sprintf("%s is not a whole number of seconds, which is how devices are told", c.Device.Interval))
	}
	v.boundsOrZero("signing.rotate_every", c.Signing.RotateEvery, 2*day, 1000*day, "0 is only when told to, and a new key is published for a day before it signs")
	v.bounds("upstream.timeout", c.Upstream.Timeout, 100*time.Millisecond, time.Minute, "a person waits for it")
	v.oneOf("log.level", string(c.Log.Level), "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "json", "text")
	v.boundsOrZero("http.shutdown_drain", c.HTTP.ShutdownDrain, time.Millisecond, 5*time.Minute, "orchestrators end a process that takes longer")
	v.bounds("http.shutdown_grace", c.HTTP.ShutdownGrace, time.Second, 5*time.Minute, "orchestrators end a process that takes longer")
	v.name("brand.name", c.Brand.Name)
	if !strings.HasPrefix(c.Brand.LogoURL, "data:image/") {
		v.url("brand.logo_url", c.Brand.LogoURL, imageURL)
	}
	if address, mail := strings.CutPrefix(c.Brand.SupportURL, "mailto:"); !mail {
		v.url("brand.support_url", c.Brand.SupportURL, webURL)
	} else if address == "" {
		v.add("brand.support_url", "mailto: is followed by no address")
	}
	v.registered("clients", len(c.Clients), func(i int) error {
		client := c.Clients[i].Registered()
		return client.Validate()
	})
	return v.problems
}

type validator struct{ problems Problems }

func (v *validator) add(path, message string) {
	v.problems = append(v.problems, Problem{Path: path, Message: message})
}

// check adds the problem if there is one.
func (v *validator) check(path, message string) {
	if message != "" {
		v.add(path, message)
	}
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if value == "" {
		v.add(path, "is missing; want one of "+strings.Join(allowed, ", "))
		return
	}
	v.check(path, oneOf(value, allowed...))
}

// bounds checks that shortest <= d <= longest; why is a reason, to be read after the bounds.
func (v *validator) bounds(path string, d Duration, shortest, longest time.Duration, why string) {
	if d.Std() < shortest || d.Std() > longest {
		v.add(path, fmt.Sprintf("%s is not between %s and %s: %s", d, Duration(shortest), Duration(longest), why))
	}
}

func (v *validator) boundsOrZero(path string, d Duration, shortest, longest time.Duration, why string) {
	if d != 0 && (d.Std() < shortest || d.Std() > longest) {
		v.add(path, fmt.Sprintf("%s is neither 0 nor between %s and %s: %s", d, Duration(shortest), Duration(longest), why))
	}
}

// url checks a URL that may be left out.
func (v *validator) url(path, raw string, judge func(string) string) {
	if raw != "" {
		v.check(path, judge(raw))
	}
}

func (v *validator) name(path, name string) {
	switch {
	case strings.TrimSpace(name) == "":
		v.add(path, "is missing; people see it")
	case len(name) > maxName:
		v.add(path, fmt.Sprintf("has more than %d bytes", maxName))
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		v.add(path, quote(name)+" has a character that does not print")
	}
}

// list checks that a list is not too long and has nothing twice.
func (v *validator) list(path string, list []string, most int) {
	if len(list) > most {
		v.add(path, fmt.Sprintf("has %d items, at most %d are allowed", len(list), most))
		return
	}
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			v.add(item(path, i), quote(s)+" is given twice")
		}
	}
}

// about says whether one of the problems is with the value at path, with what holds it, or with what it holds.
func about(problems Problems, path string) bool {
	within := func(path, of string) bool {
		rest, found := strings.CutPrefix(path, of)
		return found && (rest == "" || rest[0] == '[' || rest[0] == '.')
	}
	return slices.ContainsFunc(problems, func(p Problem) bool {
		return within(p.Path, path) || within(path, p.Path)
	})
}

func (v *validator) scopes(path string, scopes []string) {
	v.list(path, scopes, maxList)
	for i, scope := range scopes {
		if !scopeForm.MatchString(scope) {
			v.add(item(path, i), quote(scope)+` is not a scope: visible ASCII characters without " and \ (RFC 6749 section 3.3)`)
		}
	}
}

// listen checks an address to listen at.
func (v *validator) listen(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		v.add(path, quote(addr)+" is not host:port; write 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses")
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		v.add(path, quote(addr)+" has no port from 0 to 65535")
	}
}

func (v *validator) tls(c *Config) {
	switch cert, key := c.TLS.CertFile != "", c.TLS.KeyFile != ""; {
	case cert && !key:
		v.add("tls.key_file", "is missing; cert_file needs it")
	case key && !cert:
		v.add("tls.cert_file", "is missing; key_file needs it")
	case cert && strings.HasPrefix(c.Issuer, "http:"):
		v.add("tls", "serves https, but the issuer begins with http://")
	}
}

func (v *validator) mtls(c *Config) {
	m := &c.MTLS
	v.oneOf("mtls.mode", m.Mode, MTLSOff, MTLSTLS, MTLSProxy)
	for _, k := range []struct{ key, value, mode string }{
		{"header", m.Header, MTLSProxy},
		{"listen", m.Listen, MTLSTLS},
		{"cert_file", m.CertFile, MTLSTLS},
		{"key_file", m.KeyFile, MTLSTLS},
		{"ca_file", m.CAFile, m.Mode},
		{"url", m.URL, m.Mode},
	} {
		if k.value != "" && (m.Mode == MTLSOff || m.Mode != k.mode) {
			v.add("mtls."+k.key, "has no effect with mtls.mode "+m.Mode)
		}
	}
	if m.URL != "" {
		v.check("mtls.url", originProblem(m.URL, "the broker"))
		if !strings.HasPrefix(m.URL, "https://") {
			v.add("mtls.url", quote(m.URL)+" must begin with https://: certificates are a part of TLS")
		}
	}
	for i := range c.Clients {
		client, path := &c.Clients[i], item("clients", i)
		method := client.TokenEndpointAuthMethod
		switch byCertificate := method == "tls_client_auth" || method == "self_signed_tls_client_auth"; {
		case m.Mode == MTLSOff && byCertificate:
			v.add(path+".token_endpoint_auth_method", method+" needs mtls.mode")
		case m.Mode == MTLSOff && client.CertificateBoundAccessTokens:
			v.add(path+".tls_client_certificate_bound_access_tokens", "needs mtls.mode")
		case method == "tls_client_auth" && m.CAFile == "":
			v.add(path+".token_endpoint_auth_method", method+" needs mtls.ca_file: who issues the certificates")
		}
	}
	switch m.Mode {
	case MTLSProxy:
		// A header that means something else would be taken off every request.
		if !headerForm.MatchString(m.Header) || slices.ContainsFunc(otherHeaders, func(h string) bool { return strings.EqualFold(h, m.Header) }) {
			v.add("mtls.header", quote(m.Header)+" is not the name of a header of its own, such as Client-Cert")
		}
		if len(c.TrustedProxies) == 0 {
			v.add("trusted_proxies", "is missing: with mtls.mode proxy, it says whose mtls.header is believed")
		}
	case MTLSTLS:
		if c.TLS.CertFile == "" && m.CertFile == "" {
			v.add("tls.cert_file", "is missing: with mtls.mode tls the broker itself serves https; behind a proxy that does, the mode is proxy")
		}
		switch {
		case m.CertFile != "" && m.KeyFile == "":
			v.add("mtls.key_file", "is missing; cert_file needs it")
		case m.CertFile == "" && m.KeyFile != "":
			v.add("mtls.cert_file", "is missing; key_file needs it")
		case m.CertFile != "" && m.Listen == "":
			v.add("mtls.cert_file", "has no effect without mtls.listen; the certificate of listen is tls.cert_file")
		}
		if m.Listen == "" {
			return
		}
		v.listen("mtls.listen", m.Listen)
		if m.Listen == c.Listen && !strings.HasSuffix(m.Listen, ":0") {
			v.add("mtls.listen", "is the broker's own address; leave it out to ask for certificates there")
		}
		if m.URL == "" {
			v.add("mtls.url", "is missing: apps find mtls.listen by it, in the metadata; such as https://mtls.example.com")
		}
	}
}

func (v *validator) store(s *Store) {
	unused := func(key string, is bool) {
		if is {
			v.add("store."+key, "does not apply to type "+s.Type)
		}
	}
	switch s.Type {
	case StoreSQLite:
		if s.Path == "" {
			v.add("store.path", "is missing")
		} else if strings.ContainsAny(s.Path, "?#") || strings.HasPrefix(s.Path, "file:") || s.Path == ":memory:" {
			v.add("store.path", quote(s.Path)+" is not the path of a file without ? and #")
		}
		v.oneOf("store.synchronous", s.Synchronous, "full", "normal")
		unused("uri", !s.URI.IsZero())
		unused("uri_file", s.URIFile != "")
		unused("database", s.Database != "")
	case StoreMongoDB:
		switch uri := s.URI.Reveal(); {
		case uri == "" && s.URIFile == "":
			v.add("store.uri", "is missing; mongodb://host:27017, or uri_file")
		case uri != "" && !strings.HasPrefix(uri, "mongodb://") && !strings.HasPrefix(uri, "mongodb+srv://"):
			v.add("store.uri", "does not begin with mongodb:// or mongodb+srv://")
		}
		// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
		if s.Database == "" || len(s.Database) > 63 || strings.ContainsAny(s.Database, "/\\. \"$*<>:|?") {
			v.add("store.database", quote(s.Database)+` is not 1 to 63 characters without / \ . " $ * < > : | ? and space`)
		}
		unused("path", s.Path != "")
		unused("synchronous", s.Synchronous != "")
	default:
		v.oneOf("store.type", s.Type, StoreSQLite, StoreMongoDB)
	}
}

func (v *validator) keyring(c *Config) {
	switch {
	case len(c.Keyring) == 0 && c.KeyringFile == "" && c.Store.Type == StoreMongoDB:
		v.add("keyring", "is missing: every node on this MongoDB needs the same; make a secret with: openssl rand -base64 48")
	case len(c.Keyring) == 0 && c.KeyringFile == "" && c.Store.Type == StoreSQLite:
		v.add("keyring", "is missing, and so is keyring_file")
	case len(c.Keyring) > 0 && c.KeyringFile != "":
		v.add("keyring_file", "has no effect beside keyring; put it there as an item: - file: "+c.KeyringFile)
	case c.KeyringFile != "" && c.Store.Type == StoreSQLite && filepath.Clean(c.KeyringFile) == filepath.Clean(c.Store.Path):
		v.add("keyring_file", "is the database's file")
	}
	if len(c.Keyring) > MaxKeyringSecrets {
		v.add("keyring", fmt.Sprintf("has %d secrets, at most %d are allowed", len(c.Keyring), MaxKeyringSecrets))
		return
	}
	for i, entry := range c.Keyring {
		path, length := item("keyring", i), len(entry.Secret.Reveal())
		if entry.Secret.IsZero() {
			if entry.File == "" { // otherwise it could not be read, which has been said
				v.add(path+".secret", "is missing; give it or file")
			}
			continue
		}
		if length < MinKeyringSecretBytes || length > MaxKeyringSecretBytes {
			v.add(path, fmt.Sprintf("the secret has %d bytes, want %d to %d; make one with: openssl rand -base64 48", length, MinKeyringSecretBytes, MaxKeyringSecretBytes))
		}
		if slices.ContainsFunc(c.Keyring[:i], func(e KeyringEntry) bool { return e.Secret.Reveal() == entry.Secret.Reveal() }) {
			v.add(path, "the secret is given twice")
		}
	}
}

func (v *validator) sandbox(c *Config) {
	s := &c.Sandbox
	if s.Listen == "" {
		for _, k := range []struct{ key, value string }{{"url", s.URL}, {"auto", s.Auto}} {
			if k.value != "" {
				v.add("sandbox."+k.key, "has no effect without sandbox.listen")
			}
		}
		return
	}
	v.listen("sandbox.listen", s.Listen)
	if s.Listen == c.Listen && !strings.HasSuffix(s.Listen, ":0") {
		v.add("sandbox.listen", "is the broker's own address")
	}
	if issuerProblem(c.Issuer) == "" && !plainLoopback(c.Issuer) {
		v.add("sandbox.listen", "a sandbox is not permitted for this issuer: in it anybody can sign in as anybody, so the issuer must be http on 127.0.0.1, [::1] or localhost")
	}
	if s.URL == "" {
		v.add("sandbox.url", "is missing: where browsers reach the sandbox does not follow from sandbox.listen; such as http://localhost:8082")
	} else {
		v.check("sandbox.url", originProblem(s.URL, "the sandbox"))
	}
	if s.Auto != "" && !nameForm.MatchString(s.Auto) {
		v.add("sandbox.auto", quote(s.Auto)+" is not the name of a persona, such as ann")
	}
}

func (v *validator) tokens(t *Tokens) {
	v.bounds("tokens.access_token_lifetime", t.AccessTokenLifetime, 30*time.Second, day, "an API that verifies a JWT by itself accepts a revoked one until it ends")
	v.oneOf("tokens.access_token_format", t.AccessTokenFormat, tokenFormats...)
	v.bounds("tokens.id_token_lifetime", t.IDTokenLifetime, 30*time.Second, day, "it proves a sign-in that has just happened")
	v.bounds("tokens.code_lifetime", t.CodeLifetime, 5*time.Second, 10*time.Minute, "RFC 6749 section 4.1.2 allows no more")
	v.refresh("tokens", t.RefreshLifetime, t.RefreshIdleLifetime)
	v.boundsOrZero("tokens.refresh_grace", t.RefreshGrace, time.Second, 5*time.Minute, "for as long a stolen token is not noticed")
	v.oneOf("tokens.dpop_nonce", t.DPoPNonce, "off", "required")
}

// maxRefresh bounds the lifetimes of refresh tokens: ten years; for ever is 0.
const maxRefresh = 3650 * day

func (v *validator) refresh(path string, lifetime, idle Duration) {
	v.boundsOrZero(path+".refresh_lifetime", lifetime, time.Minute, maxRefresh, "0 is for ever")
	v.boundsOrZero(path+".refresh_idle_lifetime", idle, time.Minute, maxRefresh, "0 is for ever")
	if lifetime > 0 && idle > lifetime {
		v.add(path+".refresh_idle_lifetime", fmt.Sprintf("%s has no effect: refresh_lifetime is %s", idle, lifetime))
	}
}
