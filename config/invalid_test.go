package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each text is small with something appended, or the whole file if it is said so. The lines of what is appended count from 7.
func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	const client = "clients:\n  - {client_id: shop, client_secret: 0123456789abcdef0123456789abcdef, name: Shop, redirect_uris: ['https://a.example/cb']"
	tests := map[string]struct {
		whole, text string
		want        []string
	}{
		// The form of the file.
		"not YAML": {whole: "issuer: https://a.example\nstore: [\n", want: []string{
			"portico.yaml:2: is not YAML: did not find expected node content",
		}},
		"a tab": {whole: "store:\n\ttype: sqlite\n", want: []string{
			"portico.yaml:2: is not YAML: found character that cannot start any token",
		}},
		"a list as file": {whole: "- issuer: x\n", want: []string{
			"portico.yaml:1: found a list, want keys and values: issuer: https://…, and so on",
		}},
		"a word as file": {whole: "hello\n", want: []string{
			"portico.yaml:1: found a single value, want keys and values: issuer: https://…, and so on",
		}},
		"an empty file": {whole: "# nothing yet\n", want: []string{
			"portico.yaml: issuer: is missing; the broker's public URL, such as https://login.example.com",
			"portico.yaml: connectors: is missing: nobody could sign in",
		}},
		"two documents": {text: "---\nissuer: https://b.example\n", want: []string{
			"portico.yaml:7: a second document (---) begins here; the configuration is one",
		}},
		"a second document that is none": {text: "---\n[", want: []string{
			"portico.yaml:8: is not YAML: did not find expected node content",
		}},
		"a key twice": {text: "issuer: https://b.example\n", want: []string{
			"portico.yaml:7: issuer: is given twice; the first time in line 1",
		}},
		"a merge key": {text: "sessions:\n  <<: {lifetime: 1h}\n", want: []string{
			"portico.yaml:8: sessions: merge keys (<<) are not allowed; write the keys out",
		}},
		"a list as key": {text: "[a, b]: c\n", want: []string{
			"portico.yaml:7: found a list where a key should be",
		}},
		"a tag": {text: "listen: !env LISTEN\n", want: []string{
			`portico.yaml:7: listen: found the tag "!env", which means nothing here`,
		}},
		"a section that holds itself": {text: "tls: &tls\n  cert_file: *tls\n", want: []string{
			"portico.yaml:8: tls.cert_file: found keys and values, want a single value",
		}},

		// Keys that are not known.
		"a slip": {text: "trusted_proxys: [10.0.0.1]\n", want: []string{
			"portico.yaml:7: trusted_proxys: unknown key; did you mean trusted_proxies?",
		}},
		"other habits": {text: client + ", redirectUris: []}\n", want: []string{
			"portico.yaml:8: clients[0].redirectUris: unknown key; did you mean redirect_uris?",
		}},
		"a slip in a key that is needed": {whole: "isuer: https://a.example\nconnectors: [{name: a, type: github, clientid: i, client-secret: s}]\n", want: []string{
			"portico.yaml:1: isuer: unknown key; did you mean issuer?",
			"portico.yaml:2: connectors[0].clientid: unknown key; did you mean client_id?",
			"portico.yaml:2: connectors[0].client-secret: unknown key; did you mean client_secret?",
		}},
		"another section's key": {text: "access_token_lifetime: 5m\nfirst_party: true\n", want: []string{
			"portico.yaml:7: access_token_lifetime: unknown key; did you mean clients[].access_token_lifetime?",
			"portico.yaml:8: first_party: unknown key; did you mean clients[].first_party?",
		}},
		"a key from nowhere": {text: "upstream: {proxy: x}\n", want: []string{
			"portico.yaml:7: upstream.proxy: unknown key; the keys here are timeout",
		}},

		// Values of the wrong type.
		"a word for a section": {text: "store: sqlite\n", want: []string{
			"portico.yaml:7: store: found a single value, want keys and values: type, path, synchronous, uri, uri_file, database",
		}},
		"keys for a list": {whole: "issuer: https://a.example\nconnectors: {google: {}}\n", want: []string{
			"portico.yaml:2: connectors: found keys and values, want a list whose items have keys",
		}},
		"a word for a list": {text: client + ", scopes: openid}\n", want: []string{
			"portico.yaml:8: clients[0].scopes: found a single value, want a list, such as [a, b]",
		}},
		"a word for an item": {text: "clients: [shop]\n", want: []string{
			"portico.yaml:7: clients[0]: found a single value, want keys and values: " + strings.Join(keyNames(typeOfClient), ", "),
		}},
		"empty items": {text: "trusted_proxies:\n-\nclients:\n-\n", want: []string{
			"portico.yaml:8: trusted_proxies[0]: is empty",
			"portico.yaml:10: clients[0]: is empty",
		}},
		"a list for a word": {text: "listen: [a]\n", want: []string{
			"portico.yaml:7: listen: found a list, want a single value",
		}},
		"a boolean for a text": {text: "listen: true\n", want: []string{
			"portico.yaml:7: listen: found true, not a text; put it in quotes if it is one",
		}},
		"a boolean for a secret": {text: "keyring: [{secret: no}, {secret: false}]\n", want: []string{
			"portico.yaml:7: keyring[1].secret: found true or false, not a secret; put it in quotes if it is one",
			"portico.yaml:7: keyring[0]: the secret has 2 bytes, want 32 to 4096; make one with: openssl rand -base64 48",
		}},
		"another word for a boolean": {text: client + ", first_party: yes}\n", want: []string{
			`portico.yaml:8: clients[0].first_party: "yes" is not true or false`,
		}},
		"a bare number for a duration": {text: "tokens:\n  access_token_lifetime: 900\n", want: []string{
			"portico.yaml:8: tokens.access_token_lifetime: 900 has no unit; write 900s for seconds",
		}},
		"a line break in a name": {text: "brand: {name: \"a\\nb\"}\n", want: []string{
			`portico.yaml:7: brand.name: "a\nb" has a control character`,
		}},
		"a long text": {text: "brand: {name: " + strings.Repeat("x", 20000) + "}\n", want: []string{
			"portico.yaml:7: brand.name: has 20000 bytes, at most 16384 are allowed",
		}},

		// The server.
		"listen": {text: "listen: '8080'\n", want: []string{
			`portico.yaml:7: listen: "8080" is not host:port; write 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses`,
		}},
		"a port": {text: "listen: localhost:http\n", want: []string{
			`portico.yaml:7: listen: "localhost:http" has no port from 0 to 65535`,
		}},
		"a certificate without a key": {text: "tls: {cert_file: a}\n", want: []string{
			"portico.yaml:7: tls.key_file: is missing; cert_file needs it",
		}},
		"a key without a certificate": {text: "tls: {key_file: a}\n", want: []string{
			"portico.yaml:7: tls.cert_file: is missing; key_file needs it",
		}},
		"proxies": {text: "trusted_proxies: [10.0.0.1, proxy.example, 10.0.0.0/40, 0.0.0.0/0, '::/0']\n", want: []string{
			`portico.yaml:7: trusted_proxies[1]: "proxy.example" is neither an address nor a CIDR; write 10.0.0.7 or 10.0.0.0/8`,
			`portico.yaml:7: trusted_proxies[2]: "10.0.0.0/40" is neither an address nor a CIDR; write 10.0.0.7 or 10.0.0.0/8`,
			`portico.yaml:7: trusted_proxies[3]: "0.0.0.0/0" is everybody, and whoever is trusted says whose address and whose certificate a request has; name the proxy, or its network`,
			`portico.yaml:7: trusted_proxies[4]: "::/0" is everybody, and whoever is trusted says whose address and whose certificate a request has; name the proxy, or its network`,
		}},

		// The store and the keyring.
		"a type of store": {text: "store: {type: mongo}\n", want: []string{
			`portico.yaml:7: store.type: "mongo" is not one of sqlite, mongodb`,
		}},
		"the other store's keys": {text: "store:\n  uri: mongodb://a\n  database: b\n", want: []string{
			"portico.yaml:8: store.uri: does not apply to type sqlite",
			"portico.yaml:9: store.database: does not apply to type sqlite",
		}},
		"not a file": {text: "store: {path: ':memory:', synchronous: off}\n", want: []string{
			`portico.yaml:7: store.path: ":memory:" is not the path of a file without ? and #`,
			`portico.yaml:7: store.synchronous: "off" is not one of full, normal`,
		}},
		"MongoDB": {text: "store:\n  type: mongodb\n  path: a\n  synchronous: full\n  database: a.b\n", want: []string{
			"portico.yaml: keyring: is missing: every node on this MongoDB needs the same; make a secret with: openssl rand -base64 48",
			"portico.yaml:7: store.uri: is missing; mongodb://host:27017, or uri_file",
			"portico.yaml:9: store.path: does not apply to type mongodb",
			"portico.yaml:10: store.synchronous: does not apply to type mongodb",
			`portico.yaml:11: store.database: "a.b" is not 1 to 63 characters without / \ . " $ * < > : | ? and space`,
		}},
		"MongoDB's URI": {text: "keyring_file: k\nstore: {type: mongodb, uri: 'localhost:27017'}\n", want: []string{
			"portico.yaml:8: store.uri: does not begin with mongodb:// or mongodb+srv://",
		}},
		"keyring": {text: "keyring_file: k\nkeyring:\n  - secret: short\n  - {}\n  - secret: &s 0123456789abcdef0123456789abcdef\n  - secret: *s\n", want: []string{
			"portico.yaml:7: keyring_file: has no effect beside keyring; put it there as an item: - file: k",
			"portico.yaml:9: keyring[0]: the secret has 5 bytes, want 32 to 4096; make one with: openssl rand -base64 48",
			"portico.yaml:10: keyring[1].secret: is missing; give it or file",
			"portico.yaml:12: keyring[3]: the secret is given twice",
		}},
		"a long keyring": {text: "keyring: [" + strings.Repeat("{secret: a},", 9) + "]\n", want: []string{
			"portico.yaml:7: keyring: has 9 secrets, at most 8 are allowed",
		}},
		"the database as key": {text: "keyring_file: portico.db\n", want: []string{
			"portico.yaml:7: keyring_file: is the database's file",
		}},

		// Durations.
		"bounds": {text: `tokens:
  access_token_lifetime: 2d
  id_token_lifetime: 1s
  code_lifetime: 11m
  refresh_lifetime: 1s
  refresh_grace: 1h
sessions: {lifetime: 500d, idle_lifetime: 1s}
flow_lifetime: 10s
signing: {rotate_every: 1d}
upstream: {timeout: 2m}
http: {shutdown_drain: 1h, shutdown_grace: 0}
`, want: []string{
			"portico.yaml:8: tokens.access_token_lifetime: 2d is not between 30s and 1d: an API that verifies a JWT by itself accepts a revoked one until it ends",
			"portico.yaml:9: tokens.id_token_lifetime: 1s is not between 30s and 1d: it proves a sign-in that has just happened",
			"portico.yaml:10: tokens.code_lifetime: 11m is not between 5s and 10m: RFC 6749 section 4.1.2 allows no more",
			"portico.yaml:11: tokens.refresh_lifetime: 1s is neither 0 nor between 1m and 3650d: 0 is for ever",
			"portico.yaml:12: tokens.refresh_grace: 1h is neither 0 nor between 1s and 5m: for as long a stolen token is not noticed",
			"portico.yaml:13: sessions.lifetime: 500d is not between 5m and 400d: browsers keep no cookie longer than 400 days",
			"portico.yaml:13: sessions.idle_lifetime: 1s is neither 0 nor between 1m and 500d: 0 is no limit, and more than sessions.lifetime has no effect",
			"portico.yaml:14: flow_lifetime: 10s is not between 1m and 1d: a person has to find a password meanwhile, and a page left open overnight is not a sign-in",
			"portico.yaml:15: signing.rotate_every: 1d is neither 0 nor between 2d and 1000d: 0 is only when told to, and a new key is published for a day before it signs",
			"portico.yaml:16: upstream.timeout: 2m is not between 100ms and 1m: a person waits for it",
			"portico.yaml:17: http.shutdown_drain: 1h is neither 0 nor between 1ms and 5m: orchestrators end a process that takes longer",
			"portico.yaml:17: http.shutdown_grace: 0s is not between 1s and 5m: orchestrators end a process that takes longer",
		}},
		"idle longer than all": {text: "tokens: {refresh_lifetime: 1d, refresh_idle_lifetime: 2d}\n", want: []string{
			"portico.yaml:7: tokens.refresh_idle_lifetime: 2d has no effect: refresh_lifetime is 1d",
		}},

		// Words.
		"words": {text: "linking: auto\nlog: {level: warning, format: jsn}\n", want: []string{
			`portico.yaml:7: linking: "auto" is not one of ask, verified, never`,
			`portico.yaml:8: log.level: "warning" is not one of debug, info, warn, error`,
			`portico.yaml:8: log.format: "jsn" is not one of json, text; did you mean json?`,
		}},
		"an account with an app's id": {text: `clients:
  - {client_id: batch, client_secret: "0123456789012345678901234567890123456789", name: Batch, scopes: [openid], grant_types: [client_credentials]}
accounts:
  - {username: ann, id: batch, password: "correct horse battery staple"}`, want: []string{
			`portico.yaml:10: accounts[0].id: "batch" is the client_id of clients[0] too: an api could not tell the person from the app (RFC 9700 section 4.15)`,
		}},
		"accounts": {text: `accounts:
  - {password: "12345678"}
  - {username: a}
  - {username: b, password: "12345678", password_hash: x, id: "a b"}
  - {username: c, password_hash: x, id: one}
  - {username: d, password_hash: x, id: one, email_verified: perhaps}
  - {username: e, password: "12345678", passwrd: y}
passwords: {min_length: 4, concurrent: many}
`, want: []string{
			"portico.yaml:8: accounts[0].username: is missing",
			"portico.yaml:9: accounts[1].password: is missing; give it, password_file or password_hash",
			"portico.yaml:10: accounts[2].password_hash: is given beside a password; one of them is enough",
			`portico.yaml:10: accounts[2].id: "a b" is not 1 to 128 letters, digits and . _ : -`,
			`portico.yaml:12: accounts[4].email_verified: "perhaps" is not true or false`,
			`portico.yaml:12: accounts[4].id: "one" is the id of accounts[3] too`,
			"portico.yaml:13: accounts[5].passwrd: unknown key; did you mean password?",
			`portico.yaml:14: passwords.concurrent: "many" is not a whole number`,
			"portico.yaml:14: passwords.min_length: 4 is not between 8 and 64: NIST SP 800-63B section 5.1.1.2 has 8 for the least, and says that 64 must be allowed",
		}},
		"brand": {text: "brand: {name: ' ', logo_url: http://a.example/l.png, support_url: 'mailto:'}\n", want: []string{
			"portico.yaml:7: brand.name: is missing; people see it",
			`portico.yaml:7: brand.logo_url: "http://a.example/l.png" must begin with https://`,
			"portico.yaml:7: brand.support_url: mailto: is followed by no address",
		}},

		// The sandbox.
		"mutual TLS that is off": {text: "mtls: {ca_file: a.pem, url: 'https://b.example', header: X, listen: ':1'}\n", want: []string{
			"portico.yaml:7: mtls.header: has no effect with mtls.mode off",
			"portico.yaml:7: mtls.listen: has no effect with mtls.mode off",
			"portico.yaml:7: mtls.ca_file: has no effect with mtls.mode off",
			"portico.yaml:7: mtls.url: has no effect with mtls.mode off",
		}},
		"mutual TLS without TLS": {text: "mtls:\n  mode: tls\n  header: X\n  listen: ':8443'\n", want: []string{
			"portico.yaml: tls.cert_file: is missing: with mtls.mode tls the broker itself serves https; behind a proxy that does, the mode is proxy",
			"portico.yaml:7: mtls.url: is missing: apps find mtls.listen by it, in the metadata; such as https://mtls.example.com",
			"portico.yaml:9: mtls.header: has no effect with mtls.mode tls",
		}},
		"mutual TLS by a proxy that nobody named": {text: "mtls:\n  mode: proxy\n  header: Cookie\n  url: http://127.0.0.1:1\n  listen: ':1'\n", want: []string{
			"portico.yaml: trusted_proxies: is missing: with mtls.mode proxy, it says whose mtls.header is believed",
			`portico.yaml:9: mtls.header: "Cookie" is not the name of a header of its own, such as Client-Cert`,
			`portico.yaml:10: mtls.url: "http://127.0.0.1:1" must begin with https://: certificates are a part of TLS`,
			"portico.yaml:11: mtls.listen: has no effect with mtls.mode proxy",
		}},
		"clients with certificates that nobody asks for": {
			text: client + "}\n  - {client_id: b, name: B, redirect_uris: ['https://b.example/cb'], token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: b}\n" +
				"  - {client_id: c, public: true, name: C, redirect_uris: ['https://c.example/cb'], tls_client_certificate_bound_access_tokens: true}\n",
			want: []string{
				"portico.yaml:9: clients[1].token_endpoint_auth_method: tls_client_auth needs mtls.mode",
				"portico.yaml:10: clients[2].tls_client_certificate_bound_access_tokens: needs mtls.mode",
			},
		},
		"trusted issuers": {
			text: "trusted_issuers:\n  - {}\n  - {issuer: a, jwks: '{}', jwks_uri: 'http://a.example', clients: [c], scopes: [openid, offline_access], subject: identity, connector: gogle}\n" +
				"  - {issuer: a, jwks: '{}', clients: [c], scopes: [openid], subject: account, connector: google}\n",
			want: []string{
				"portico.yaml:8: trusted_issuers[0].issuer: is missing: iss of its assertions",
				"portico.yaml:8: trusted_issuers[0].jwks_uri: is missing; its keys are there, or in jwks_file",
				"portico.yaml:8: trusted_issuers[0].clients: is missing: the client_ids of those who may present its assertions",
				"portico.yaml:8: trusted_issuers[0].scopes: is missing: the most that its assertions give",
				"portico.yaml:8: trusted_issuers[0].subject: is missing; want one of account, identity",
				"portico.yaml:9: trusted_issuers[1].jwks_uri: is given beside jwks; one of them is enough",
				`portico.yaml:9: trusted_issuers[1].jwks_uri: "http://a.example" must begin with https://; http:// is for loopback addresses alone`,
				"portico.yaml:9: trusted_issuers[1].scopes[1]: an assertion gives no refresh token (RFC 7521 section 4.1): there can be another assertion",
				`portico.yaml:9: trusted_issuers[1].connector: "gogle" is not the name of a connector: the one through which its people sign in`,
				`portico.yaml:10: trusted_issuers[2].issuer: "a" is that of trusted_issuers[1] too`,
				"portico.yaml:10: trusted_issuers[2].connector: has no effect with subject account",
			},
		},
		"a sandbox in production": {text: "sandbox: {listen: '127.0.0.1:1'}\n", want: []string{
			"portico.yaml:7: sandbox.listen: a sandbox is not permitted for this issuer: in it anybody can sign in as anybody, so the issuer must be http on 127.0.0.1, [::1] or localhost",
		}},
		"any host in production": {text: "forward_auth: {any_host: true}\n", want: []string{
			"portico.yaml:7: forward_auth.any_host: is not permitted for this issuer: whoever sends a request would choose the api, so the issuer must be http on 127.0.0.1, [::1] or localhost",
		}},
		"a sandbox that is none": {text: "sandbox: {url: 'http://a', auto: ann}\n", want: []string{
			"portico.yaml:7: sandbox.url: has no effect without sandbox.listen",
			"portico.yaml:7: sandbox.auto: has no effect without sandbox.listen",
		}},
		"a sandbox for everybody": {whole: "issuer: http://localhost:1\nlisten: ':2'\nsandbox: {listen: ':2', auto: Ann Lee}\nconnectors: [{name: a, type: github}]\n", want: []string{
			"portico.yaml:3: sandbox.listen: is the broker's own address",
			"portico.yaml:3: sandbox.url: is missing: where browsers reach the sandbox does not follow from sandbox.listen; such as http://localhost:8082",
			`portico.yaml:3: sandbox.auto: "Ann Lee" is not the name of a persona, such as ann`,
		}},
		"tls for http": {whole: "issuer: http://localhost:1\ntls: {cert_file: a, key_file: b}\nconnectors: [{name: a, type: github, client_id: i, client_secret: s}]\n", want: []string{
			"portico.yaml:2: tls: serves https, but the issuer begins with http://",
		}},

		// Connectors.
		"no connectors": {whole: "issuer: https://a.example\nconnectors: []\n", want: []string{
			"portico.yaml:2: connectors: is missing: nobody could sign in",
		}},
		"names": {text: `  - {name: Google, type: google, client_id: i, client_secret: s}
  - {type: google, client_id: i, client_secret: s}
  - {name: google, type: google, client_id: i, client_secret: s}
`, want: []string{
			`portico.yaml:7: connectors[1].name: "Google" is not 1 to 32 of a-z, 0-9 and -`,
			"portico.yaml:8: connectors[2].name: is missing; such as google",
			`portico.yaml:9: connectors[3].name: "google" is the name of connectors[0] too`,
		}},
		"types": {text: "  - {name: a, type: gihub}\n  - {name: b}\n", want: []string{
			`portico.yaml:7: connectors[1].type: "gihub" is not one of facebook, fixed, github, google, oidc; did you mean github?`,
			"portico.yaml:8: connectors[2].type: is missing; want one of facebook, fixed, github, google, oidc",
		}},
		"a connector that asks nobody": {text: `  - {name: a, type: fixed, profile: {subject: s}}
  - {name: b, type: fixed, insecure_signs_everyone_in: true, client_id: i, client_secret: s, scopes: [a], timeout: 5s}
  - {name: c, type: github, client_id: i, client_secret: s, insecure_signs_everyone_in: true, profile: {subject: s}}
  - {name: d, type: fixed, insecure_signs_everyone_in: true, profile: {subject: s, email_verified: maybe, nick: x}}
`, want: []string{
			"portico.yaml:7: connectors[1].insecure_signs_everyone_in: has to be true: with this connector whoever comes is signed in as its profile, without a password. It is for test runs",
			"portico.yaml:8: connectors[2].profile.subject: 1 to 255 characters are needed: what the person is known by",
			"portico.yaml:8: connectors[2].client_id: does not apply to type fixed, which has no provider",
			"portico.yaml:8: connectors[2].client_secret: does not apply to type fixed, which has no provider",
			"portico.yaml:8: connectors[2].scopes: does not apply to type fixed, which has no provider",
			"portico.yaml:8: connectors[2].timeout: does not apply to type fixed, which has no provider",
			"portico.yaml:9: connectors[3].insecure_signs_everyone_in: does not apply to type github, only to fixed",
			"portico.yaml:9: connectors[3].profile: does not apply to type github, only to fixed",
			`portico.yaml:10: connectors[4].profile.email_verified: "maybe" is not true or false`,
			"portico.yaml:10: connectors[4].profile.nick: unknown key; the keys here are subject, preferred_username, amr, email, email_verified, name, given_name, family_name, middle_name, nickname, profile, picture, website, gender, birthdate, zoneinfo, locale",
		}},
		"credentials": {text: `  - {name: a, type: github}
  - {name: b, type: github, client_secret: s}
  - {name: c, type: github, client_id: "i j", client_secret: s}
  - {name: d, type: oidc, issuer: https://a.example, client_id: i, auth_style: none, client_secret: s}
  - {name: e, type: oidc, issuer: https://a.example, client_id: i, auth_style: none}
  - {name: f, type: github, sandbox: true}
`, want: []string{
			"portico.yaml:7: connectors[1].client_id: is missing; it comes from the registration at the provider",
			"portico.yaml:7: connectors[1].client_secret: is missing; give it or client_secret_file",
			"portico.yaml:8: connectors[2].client_id: is missing; it comes from the registration at the provider",
			`portico.yaml:9: connectors[3].client_id: "i j" has a character that is not visible ASCII`,
			"portico.yaml:10: connectors[4].auth_style: is none, and yet there is a client_secret",
			"portico.yaml:12: connectors[6].sandbox: needs sandbox.listen",
		}},
		"keys of other types": {text: "    userinfo: true\n    trust_email: true\n    graph_version: v1.0\n", want: []string{
			"portico.yaml:7: connectors[0].userinfo: does not apply to type google, only to oidc",
			"portico.yaml:8: connectors[0].trust_email: does not apply to type google, only to oidc and github",
			"portico.yaml:9: connectors[0].graph_version: does not apply to type google, only to facebook",
		}},
		"keys of types": {text: `    hosted_domains: [Example.com, "*"]
    timeout: 1ms
    scopes: ["open id"]
  - {name: b, type: oidc, client_id: i, client_secret: s, auth_style: jwt}
  - {name: c, type: github, client_id: i, client_secret: s, trust_email: true, base_url: http://github.example}
  - {name: d, type: github, client_id: i, client_secret: s, trust_email: true}
  - {name: e, type: facebook, client_id: i, client_secret: s, graph_version: 26, graph_url: "https://a.example?x", dialog_url: ftp://a}
`, want: []string{
			`portico.yaml:7: connectors[0].hosted_domains[0]: "Example.com" is not a domain in lower case, such as example.com`,
			`portico.yaml:7: connectors[0].hosted_domains[1]: "*" is not a domain in lower case, such as example.com`,
			"portico.yaml:8: connectors[0].timeout: 1ms is neither 0 nor between 100ms and 1m: 0 is upstream.timeout, and a person waits for it",
			`portico.yaml:9: connectors[0].scopes[0]: "open id" is not a scope: visible ASCII characters without " and \ (RFC 6749 section 3.3)`,
			`portico.yaml:10: connectors[1].auth_style: "jwt" is not one of basic, post, none`,
			"portico.yaml:10: connectors[1].issuer: is missing; the provider's issuer, exactly as it writes it",
			`portico.yaml:11: connectors[2].base_url: "http://github.example" must begin with https://; http:// is for loopback addresses alone`,
			"portico.yaml:12: connectors[3].trust_email: does not apply to github.com, which says itself which emails it has verified",
			`portico.yaml:13: connectors[4].graph_url: "https://a.example?x" has a query or a fragment`,
			`portico.yaml:13: connectors[4].dialog_url: "ftp://a" does not begin with https://`,
			`portico.yaml:13: connectors[4].graph_version: "26" is not a version such as v26.0`,
		}},

		// Clients.
		"what a client is": {text: `clients:
  - {}
  - {client_id: "a b", client_secret: short, name: A, redirect_uris: ["https://a.example/cb"]}
  - {client_id: a, public: true, client_secret: 0123456789abcdef0123456789abcdef, name: A, redirect_uris: ["https://a.example/cb"], pkce: optional}
  - {client_id: a, public: true, name: A, redirect_uris: ["https://a.example/cb"]}
`, want: []string{
			"portico.yaml:8: clients[0].client_id: is missing",
			"portico.yaml:8: clients[0].client_secret: is missing; give it or client_secret_file, or public: true for an app that cannot keep one, or another token_endpoint_auth_method",
			"portico.yaml:8: clients[0].name: 1 to 100 printable bytes are needed: people read it when they sign in",
			"portico.yaml:8: clients[0].redirect_uris: at least one is needed for the grant type authorization_code",
			`portico.yaml:9: clients[1].client_id: "a b" is not 1 to 100 letters, digits and . _ ~ -, with a letter or digit first`,
			"portico.yaml:9: clients[1].client_secret: has 5 characters, want 32 at least; make one with: openssl rand -base64 32",
			"portico.yaml:10: clients[2].client_secret: is given, and yet the client is public: it could not keep one",
			"portico.yaml:10: clients[2].pkce: a public client has nothing but PKCE to prove that a code is its own (RFC 9700 section 2.1.1)",
			`portico.yaml:11: clients[3].client_id: "a" is the client_id of clients[2] too`,
		}},
		"what a client may": {text: client + `,
     website: a.example, logo_uri: http://a.example/l, scopes: [openid, openid], connectors: [gogle, x],
     grant_types: [refresh_token, implicit], pkce: plain, id_token_signed_response_alg: none,
     access_token_format: JWT, access_token_lifetime: 2d, refresh_lifetime: 1h, refresh_idle_lifetime: 2h}
`, want: []string{
			`portico.yaml:9: clients[0].scopes[1]: "openid" is given twice`,
			`portico.yaml:9: clients[0].connectors[0]: "gogle" is not the name of a connector; did you mean google?`,
			`portico.yaml:9: clients[0].connectors[1]: "x" is not the name of a connector`,
			`portico.yaml:9: clients[0].logo_uri: "http://a.example/l": it must be https`,
			`portico.yaml:9: clients[0].website: "a.example": it is not a web address`,
			`portico.yaml:10: clients[0].pkce: "plain" is not one of required, optional`,
			"portico.yaml:10: clients[0].grant_types: refresh_token alone gives no first token; add the grant type that does",
			`portico.yaml:10: clients[0].grant_types[1]: "implicit" is none of authorization_code, refresh_token, client_credentials, password, urn:ietf:params:oauth:grant-type:device_code, urn:ietf:params:oauth:grant-type:token-exchange, urn:ietf:params:oauth:grant-type:jwt-bearer`,
			`portico.yaml:10: clients[0].id_token_signed_response_alg: "none" is none of RS256, ES256, EdDSA`,
			"portico.yaml:11: clients[0].access_token_lifetime: 2d is neither 0 nor between 30s and 1d: 0 is tokens.access_token_lifetime, and an API that verifies a JWT by itself accepts a revoked one until it ends",
			"portico.yaml:11: clients[0].refresh_idle_lifetime: 2h has no effect: refresh_lifetime is 1h",
			`portico.yaml:11: clients[0].access_token_format: "JWT" is none of opaque, jwt`,
		}},
		"apis": {text: `apis:
  - {}
  - {identifier: /notes, name: Notes, scopes: [{name: "a b", sentence: ""}, {name: x, sentence: Do x}, {name: x, sentence: Do it again}]}
  - {identifier: "https://a.example/#x", name: A, scopes: [{name: y, sentence: Do y}], access_token_format: JWT, access_token_signing_alg: none, access_token_lifetime: 2d}
  - {identifier: "https://login.example.com", name: A, authorization_details_types: [{type: "", sentence: See, fields: [{name: type}]}]}
  - {identifier: "urn:example:b", name: B, scopes: [{name: z, sentence: Do z}]}
  - {identifier: "urn:example:b", name: B, scopes: [{name: z, sentence: Do z}]}
clients:
  - {client_id: s, client_secret: 0123456789abcdef0123456789abcdef, name: S, resource_server_of: ["urn:example:c", "/notes"]}
  - {client_id: p, public: true, name: P, resource_server_of: ["urn:example:b"]}
  - {client_id: e, client_secret: 0123456789abcdef0123456789abcdef, name: E, grant_types: [client_credentials], scopes: [z], token_exchange: {subject_clients: ["a b"], modes: [delegate], scopes: [y]}}
`, want: []string{
			`portico.yaml:8: apis[0].identifier: "": it is empty`,
			"portico.yaml:8: apis[0].name: 1 to 100 printable bytes are needed: people read it when they consent",
			"portico.yaml:8: apis[0].scopes: at least one scope or type of authorization_details is needed: otherwise nothing could be asked for",
			`portico.yaml:9: apis[1].identifier: "/notes": it is not absolute: it has no scheme`,
			`portico.yaml:9: apis[1].scopes[0].name: "a b" is not a scope: 1 to 256 visible ASCII characters without " and \ (RFC 6749 section 3.3)`,
			"portico.yaml:9: apis[1].scopes[0].sentence: 1 to 200 printable bytes are needed: people read it before they say yes",
			`portico.yaml:9: apis[1].scopes[2].name: "x" is there twice`,
			"portico.yaml:10: apis[2].access_token_lifetime: 2d is neither 0 nor between 30s and 1d: 0 is the client's, and an API that verifies a JWT by itself accepts a revoked one until it ends",
			`portico.yaml:10: apis[2].identifier: "https://a.example/#x": it has a fragment; an api is named by a URI without one (RFC 8707 section 2)`,
			`portico.yaml:10: apis[2].access_token_format: "JWT" is none of opaque, jwt`,
			`portico.yaml:10: apis[2].access_token_signing_alg: "none" is none of RS256, ES256, EdDSA`,
			"portico.yaml:11: apis[3].identifier: is the issuer, which stands for the broker's own endpoints",
			`portico.yaml:11: apis[3].authorization_details_types[0].type: "" is not 1 to 128 visible ASCII characters without " and \`,
			`portico.yaml:11: apis[3].authorization_details_types[0].fields[0].name: "type" is not the name of a field: 1 to 128 visible ASCII characters without " and \, and not type`,
			`portico.yaml:13: apis[5].identifier: "urn:example:b" is the identifier of apis[4] too`,
			`portico.yaml:15: clients[0].resource_server_of[1]: "/notes": it is not absolute: it has no scheme`,
			"portico.yaml:16: clients[1].resource_server_of: is given, and yet the client is public: whoever knows its id could introspect",
			"portico.yaml:17: clients[2].token_exchange: has no effect without the grant type urn:ietf:params:oauth:grant-type:token-exchange",
			`portico.yaml:17: clients[2].token_exchange.subject_clients[0]: "a b" is not a client_id`,
			`portico.yaml:17: clients[2].token_exchange.modes[0]: "delegate" is not one of impersonation, delegation`,
			`portico.yaml:17: clients[2].token_exchange.scopes[0]: "y" is not among the client's scopes; did you mean z?`,
		}},
		"endpoints": {text: `apis:
- identifier: urn:example:a
  name: A
  scopes: [{name: read, sentence: Read}]
  url: https://api.example.com/
  endpoints:
  - {method: get, path: /a}
  - {method: GET, path: a}
  - method: GET
    path: /a/{id}
    scopes: [raed]
    alternatives: [read admin]
    max_age: 1500ms
  - {method: GET, path: "/a/{name}", public: true, scopes: [read]}
  - {method: GET, path: "/a/b", denied: true, scopes: [read]}
- identifier: urn:example:b
  name: B
  scopes: [{name: read, sentence: Read}]
  url: https://api.example.com/b
- identifier: urn:example:c
  name: C
  scopes: [{name: read, sentence: Read}]
  url: https://api.example.com/b
`, want: []string{
			`portico.yaml:11: apis[0].url: "https://api.example.com/": it ends in a slash; endpoints' paths begin with one`,
			`portico.yaml:13: apis[0].endpoints[0].method: "get" is not an HTTP method in upper case, or *`,
			`portico.yaml:14: apis[0].endpoints[1].path: "a": it does not begin with a slash`,
			`portico.yaml:17: apis[0].endpoints[2].scopes: GET /a/{id} needs "raed", which is not a scope of this api`,
			`portico.yaml:18: apis[0].endpoints[2].alternatives[0]: GET /a/{id} needs "admin", which is not a scope of this api`,
			"portico.yaml:19: apis[0].endpoints[2].max_age: 1.5s is not a number of whole seconds",
			"portico.yaml:20: apis[0].endpoints[3].public: it needs no token, and yet it names scopes",
			"portico.yaml:20: apis[0].endpoints[3].path: GET /a/{name} and GET /a/{id} cannot be told apart: a request could be either's, and neither is the more specific",
			"portico.yaml:21: apis[0].endpoints[4].denied: nobody may use it, and yet it says who may",
			`portico.yaml:29: apis[2].url: "https://api.example.com/b" is the url of apis[1] too; nobody could say whose a request is`,
		}},
		"redirect URIs": {text: `clients:
- client_id: a
  name: A
  public: true
  redirect_uris:
  - /callback
  - https://*.example.com/cb
  - https://a.example/cb#top
  - http://a.example/cb
  - https:///cb
  - https://me@a.example/cb
  - com.example.app:/cb
  - http://127.0.0.1/cb
`, want: []string{
			`portico.yaml:12: clients[0].redirect_uris[0]: "/callback": it is not absolute: it has no scheme`,
			"portico.yaml:13: clients[0].redirect_uris[1]: \"https://*.example.com/cb\": it holds one of \\ * \" < > ^ | { }; there are no wildcards: register each URI",
			`portico.yaml:14: clients[0].redirect_uris[2]: "https://a.example/cb#top": it has a fragment (RFC 6749 section 3.1.2)`,
			`portico.yaml:15: clients[0].redirect_uris[3]: "http://a.example/cb": http is for loopback addresses alone (http://127.0.0.1, http://[::1], http://localhost); use https`,
			`portico.yaml:16: clients[0].redirect_uris[4]: "https:///cb": it has no host`,
			`portico.yaml:17: clients[0].redirect_uris[5]: "https://me@a.example/cb": it has user information before the host`,
		}},
		"too many": {text: client + ", scopes: [" + strings.Repeat("a,", 65) + "]}\n", want: []string{
			"portico.yaml:8: clients[0].scopes: has 65 items, at most 64 are allowed",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := test.whole
			if text == "" {
				text = small + test.text
			}
			if diff := cmp.Diff(test.want, problems(t, text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The issuer is compared letter for letter by every app (OpenID Connect Discovery section 4.3), so it has one spelling.
func TestIssuer(t *testing.T) {
	for _, good := range []string{
		"https://login.example.com", "https://login.example.com:8443", "https://10.0.0.1", "https://[2001:db8::1]:1",
		"http://localhost", "http://localhost:8080", "http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]:8080",
		"https://xn--bcher-kva.example",
	} {
		if message := issuerProblem(good); message != "" {
			t.Errorf("%s: %s", good, message)
		}
	}
	for bad, want := range map[string]string{
		"":                                     "is missing",
		"login.example.com":                    "does not begin with https://",
		"ftp://a.example":                      "does not begin with https://",
		"https://a.example/":                   "ends in a slash; write https://a.example",
		"https://a.example/auth":               "has a path; the broker needs a host of its own, such as https://a.example",
		"https://a.example?x=1":                "has a query; write https://a.example",
		"https://a.example?":                   "has a query; write https://a.example",
		"https://a.example#":                   "has a fragment; write https://a.example",
		"https://A.example":                    "write https://a.example",
		"HTTPS://a.example":                    "write https://a.example",
		"https://a.example:443":                "write https://a.example",
		"http://localhost:80":                  "write http://localhost",
		"https://a.example:":                   "has no valid port",
		"https://a.example:0":                  "has no valid port",
		"https://a.example:70000":              "has no valid port",
		"https://u:p@a.example":                "has a user name or password",
		"https://":                             "has no host",
		"https://bücher.example":               "is written xn--",
		"http://a.example":                     "must begin with https://",
		"http://localhost.a.example":           "must begin with https://",
		"http://10.0.0.1":                      "must begin with https://",
		"http://0.0.0.0:8080":                  "must begin with https://",
		"http://127.0.0.1.a.example":           "must begin with https://",
		"https://a b.example":                  "is not a URL",
		"https://a.example\\b":                 "is not a URL",
		"https:a.example":                      "has no host",
		"https://" + strings.Repeat("a", 1100): "at most 1024 are allowed",
	} {
		if message := issuerProblem(bad); !strings.Contains(message, want) {
			t.Errorf("%s: %q, want %s", bad, message, want)
		}
	}
}

var typeOfClient = reflect.TypeFor[Client]()

func TestManyConnectors(t *testing.T) {
	var b strings.Builder
	b.WriteString("issuer: https://a.example\nconnectors:\n")
	for i := range 65 {
		fmt.Fprintf(&b, "  - {name: c%d, type: github, client_id: i, client_secret: s}\n", i)
	}
	if diff := cmp.Diff([]string{"portico.yaml:2: connectors: has 65 items, at most 64 are allowed"}, problems(t, b.String())); diff != "" {
		t.Error(diff)
	}
}

// Aliases of aliases are how a small file becomes a large one ("billion laughs").
func TestAliasesAreBounded(t *testing.T) {
	uris := strings.Repeat("'https://a.example/cb',", 1000)
	clients := strings.Repeat("- *c\n", 1000)
	text := "issuer: https://a.example\nclients:\n- &c {client_id: a, redirect_uris: [" + uris + "]}\n" + clients
	got := problems(t, text)
	if len(got) > maxProblems+1 {
		t.Errorf("%d problems", len(got))
	}
	if !strings.Contains(strings.Join(got, "\n"), "more than 100000 values") {
		t.Errorf("got %v", got[:min(3, len(got))])
	}
	if got = problems(t, "issuer: "+strings.Repeat("x", 1<<20)); len(got) != 1 || got[0] != "portico.yaml: is too large: more than 1048576 bytes" {
		t.Errorf("a large file: %v", got)
	}
	if got = problems(t, strings.Repeat("[", 1<<18)); len(got) != 1 || !strings.Contains(got[0], "is not YAML") {
		t.Errorf("a deep file: %d problems", len(got))
	}
	// A file with something wrong on every line is reported, but not on every line.
	var lines strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&lines, "k%d: 1\n", i)
	}
	if got = problems(t, lines.String()); len(got) != maxProblems+1 || !strings.HasSuffix(got[maxProblems], "these are enough to begin with") {
		t.Errorf("%d problems, the last %s", len(got), got[len(got)-1])
	}
}

func TestNearest(t *testing.T) {
	names := []string{"issuer", "listen", "client_id", "client_secret", "path"}
	for word, want := range map[string]string{
		"isuer": "issuer", "issure": "issuer", "ClientId": "client_id", "client-secret": "client_secret", "clientsecrte": "client_secret",
		"pat": "path", "pth": "path", "port": "", "redirect": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
