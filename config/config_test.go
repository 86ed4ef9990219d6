package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// small is the least that is valid.
const small = `issuer: https://login.example.com
connectors:
  - name: google
    type: google
    client_id: id
    client_secret: secret
`

var compareSecrets = cmp.AllowUnexported(Secret{})

func parse(t *testing.T, text string, environ ...string) *Config {
	t.Helper()
	c, err := Parse([]byte(text), "portico.yaml", environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems are the lines of what is wrong with a configuration.
func problems(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	c, err := Parse([]byte(text), "portico.yaml", environ)
	if err == nil {
		return nil
	}
	if c != nil {
		t.Error("a configuration came with an error")
	}
	var all Problems
	if !errors.As(err, &all) {
		t.Fatalf("%T is not Problems: %v", err, err)
	}
	var lines []string
	for _, p := range all {
		lines = append(lines, p.Error())
	}
	return lines
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	got := parse(t, small)
	want := Default()
	want.Issuer = "https://login.example.com"
	want.Connectors = []Connector{{Name: "google", Type: "google", ClientID: "id", ClientSecret: NewSecret("secret")}}
	if diff := cmp.Diff(want, got, compareSecrets); diff != "" {
		t.Error(diff)
	}
	for what, is := range map[string]bool{
		"listens on loopback alone":        got.Listen == "127.0.0.1:8080",
		"trusts no proxy":                  len(got.TrustedProxyPrefixes()) == 0,
		"keeps a file":                     got.Store == Store{Type: "sqlite", Path: "./portico.db", Synchronous: "full"},
		"keeps the key beside it":          got.KeyringFile == "portico.key",
		"refresh tokens do not end":        got.Tokens.RefreshLifetime == 0 && got.Tokens.RefreshIdleLifetime == 0,
		"codes live a minute":              got.Tokens.CodeLifetime.Std() == time.Minute,
		"signing keys last for 90 days":    got.Signing.RotateEvery.Std() == 90*24*time.Hour,
		"no sandbox, so none is used":      !got.UsesSandbox(Connector{Type: "google"}),
		"info is logged":                   got.Log.Level.Slog() == 0,
		"an ask before accounts are joint": got.Linking == LinkAsk,
	} {
		if !is {
			t.Errorf("the default is not: %s", what)
		}
	}
}

func TestDefaultsThatFollowFromOtherKeys(t *testing.T) {
	c := parse(t, small+"store: {path: /var/lib/portico/db.sqlite}\n")
	if c.KeyringFile != "/var/lib/portico/portico.key" {
		t.Errorf("the key file is not beside the database but %s", c.KeyringFile)
	}
	c = parse(t, small+"keyring: [{secret: 0123456789abcdef0123456789abcdef}]\n")
	if c.KeyringFile != "" {
		t.Errorf("a key file %s although there is a keyring", c.KeyringFile)
	}
	c = parse(t, small+"store: {type: mongodb, uri: 'mongodb://db'}\nkeyring_file: k\n")
	if diff := cmp.Diff(Store{Type: "mongodb", URI: NewSecret("mongodb://db"), Database: "portico"}, c.Store, compareSecrets); diff != "" {
		t.Error(diff)
	}
	c = parse(t, "issuer: http://localhost:1\nsandbox: {listen: '[::1]:2'}\nconnectors: [{name: g, type: github}, {name: h, type: github, client_id: i, client_secret: s, sandbox: true}, {name: r, type: github, client_id: i, client_secret: s}]\n")
	if c.Sandbox.URL != "http://[::1]:2" {
		t.Errorf("the sandbox is at %s", c.Sandbox.URL)
	}
	want := []Connector{{Name: "g", Type: "github", Sandbox: true}, {Name: "h", Type: "github", Sandbox: true}, {Name: "r", Type: "github", ClientID: "i", ClientSecret: NewSecret("s")}}
	if diff := cmp.Diff(want, c.Connectors, compareSecrets); diff != "" {
		t.Errorf("connectors of the sandbox: %s", diff)
	}
	if !c.UsesSandbox(c.Connectors[0]) || !c.UsesSandbox(c.Connectors[1]) || c.UsesSandbox(c.Connectors[2]) || c.UsesSandbox(Connector{Type: "oidc"}) {
		t.Error("UsesSandbox is wrong about one of them")
	}
	c = parse(t, small+"clients: [{client_id: a, public: true, name: A, redirect_uris: ['https://a.example/cb']}]\n")
	if diff := cmp.Diff(Client{
		ClientID: "a", Public: true, Name: "A", RedirectURIs: []string{"https://a.example/cb"},
		Scopes: []string{"openid", "profile", "email"}, GrantTypes: []string{"authorization_code", "refresh_token"},
		PKCE: "required", IDTokenSignedResponseAlg: "RS256",
	}, c.Clients[0], compareSecrets); diff != "" {
		t.Error(diff)
	}
}

func TestTrustedProxies(t *testing.T) {
	c := parse(t, small+"trusted_proxies: [10.0.0.7, 10.1.0.0/16, '::1', 'fd00::/8']\n")
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fd00::/8"),
	}
	if got := c.TrustedProxyPrefixes(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A Facebook app's id is a number with sixteen digits, which a float64 would not keep.
func TestTextsAreKeptLetterForLetter(t *testing.T) {
	c := parse(t, strings.Replace(small, "client_id: id\n    client_secret: secret", "client_id: 0123456789012345678\n    client_secret: 1e3", 1))
	if c.Connectors[0].ClientID != "0123456789012345678" || c.Connectors[0].ClientSecret.Reveal() != "1e3" {
		t.Errorf("got %q and %q", c.Connectors[0].ClientID, c.Connectors[0].ClientSecret.Reveal())
	}
}

func TestAnchorsAndEmptyKeysAreAllowed(t *testing.T) {
	c := parse(t, small+`tls:
clients:
  - {client_id: a, public: true, name: A, redirect_uris: &uris ["https://a.example/cb"], scopes: &s [openid]}
  - {client_id: b, public: true, name: B, redirect_uris: *uris, scopes: *s, website: }
`)
	if !slices.Equal(c.Clients[1].RedirectURIs, []string{"https://a.example/cb"}) || c.Clients[1].Website != "" {
		t.Errorf("got %+v", c.Clients[1])
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("key", "0123456789abcdef0123456789abcdef\r\n")
	google := write("google", " kept \n")
	empty := write("empty", "\n")
	huge := write("huge", strings.Repeat("x", 20000))
	missing := filepath.Join(dir, "missing")

	c := parse(t, "issuer: https://a.example\nkeyring: [{file: "+key+"}]\nconnectors: [{name: google, type: google, client_id: i, client_secret_file: "+google+"}]\n")
	if c.Keyring[0].Secret.Reveal() != "0123456789abcdef0123456789abcdef" || c.Connectors[0].ClientSecret.Reveal() != " kept " {
		t.Error("the secrets are not the files' content without the line break")
	}

	text := "issuer: https://a.example\nkeyring:\n- file: " + missing + "\n- file: " + empty + "\n- {file: " + huge + "}\n- {file: x, secret: y}\n" +
		"connectors: [{name: google, type: google, client_id: i, client_secret_file: " + dir + "}]\n"
	want := []string{
		"portico.yaml:3: keyring[0].file: the secret cannot be read: open " + missing + ": no such file or directory",
		"portico.yaml:4: keyring[1].file: the secret cannot be read: " + empty + " is empty",
		"portico.yaml:5: keyring[2].file: the secret cannot be read: " + huge + " has more than 16386 bytes",
		"portico.yaml:6: keyring[3].file: is given beside secret; one of them is enough",
		"portico.yaml:6: keyring[3]: the secret has 1 bytes, want 32 to 4096; make one with: openssl rand -base64 48",
		"portico.yaml:7: connectors[0].client_secret_file: the secret cannot be read: read " + dir + ": is a directory",
	}
	if diff := cmp.Diff(want, problems(t, text)); diff != "" {
		t.Error(diff)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portico.yaml")
	if _, err := Load(path, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "portico.example.yaml") {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(path, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, []string{"PORTICO_LISTEN=:80", "HOME=/root"})
	if err != nil || c.Listen != ":80" || c.Issuer != "https://login.example.com" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte("isuer: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(path, nil); err == nil || !strings.Contains(err.Error(), path+":1: isuer: unknown key; did you mean issuer?") {
		t.Errorf("got %v", err)
	}
	if _, err = Load(filepath.Dir(path), nil); err == nil || errors.As(err, new(Problems)) {
		t.Errorf("a folder as file: %v", err)
	}
}

// Containers are often configured without any file.
func TestTheEnvironmentAloneIsEnough(t *testing.T) {
	c, err := Load("", []string{
		"PORTICO_ISSUER=https://a.example",
		"PORTICO_CONNECTORS_0_NAME=git-hub", "PORTICO_CONNECTORS_0_TYPE=github",
		"PORTICO_CONNECTORS_GIT_HUB_CLIENT_ID=i", "PORTICO_CONNECTORS_GIT_HUB_CLIENT_SECRET=s",
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Connector{{Name: "git-hub", Type: "github", ClientID: "i", ClientSecret: NewSecret("s")}}, c.Connectors, compareSecrets); diff != "" {
		t.Error(diff)
	}
	_, err = Load("", nil)
	if err == nil || !strings.HasPrefix(err.Error(), "the configuration has 2 problems:\n  environment: issuer: is missing; ") {
		t.Errorf("nothing at all: %v", err)
	}
}

// uncommented is the example file with every key set.
func uncommented(example []byte) []byte {
	return regexp.MustCompile(`(?m)^( *)#([a-z-])`).ReplaceAll(example, []byte("$1$2"))
}

// Whoever adds a key has to say in the example what it is for.
func TestTheExampleIsValidAndHasEveryKey(t *testing.T) {
	example, err := os.ReadFile("../portico.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(example, "portico.example.yaml", nil); err != nil {
		t.Error(err)
	}
	// Not all keys can be set at once, but each is one, and of its type.
	r := &reader{file: "portico.example.yaml", origins: map[string]origin{}, spoilt: map[string]bool{}}
	r.decode(uncommented(example), base())
	if err := r.problems.err(); err != nil {
		t.Error(err)
	}
	var there []string
	for path := range r.origins {
		there = append(there, regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "[]"))
	}
	for _, path := range keyPaths(reflect.TypeFor[Config](), "") {
		if !slices.Contains(there, path) {
			t.Errorf("%s is missing in portico.example.yaml", path)
		}
	}
}

// What the example shows as set is what is so anyway, but for issuer, connectors and sandbox.
func TestTheExampleShowsTheDefaults(t *testing.T) {
	example, err := os.ReadFile("../portico.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(example, "portico.example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Issuer, want.Connectors, want.Sandbox = c.Issuer, c.Connectors, c.Sandbox
	if diff := cmp.Diff(want, c, compareSecrets); diff != "" {
		t.Error(diff)
	}
}

// A configuration that is printed is one that can be read again, but for its secrets.
func TestMarshalledConfigurationParses(t *testing.T) {
	c := parse(t, small+"tokens: {refresh_lifetime: 1d12h}\nclients: [{client_id: a, public: true, name: A, redirect_uris: ['https://a.example/cb']}]\n")
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again := parse(t, string(text))
	again.Connectors[0].ClientSecret = c.Connectors[0].ClientSecret
	if diff := cmp.Diff(c, again, compareSecrets); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
}

// The tables of this package are made from the structs: a field that they cannot read would be lost without a word.
func TestEveryFieldHasAKeyThatCanBeRead(t *testing.T) {
	keyForm := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	var walk func(reflect.Type)
	walk = func(section reflect.Type) {
		names := keyNames(section)
		for _, k := range keysOf(section) {
			f := section.FieldByIndex(k.index)
			if !f.IsExported() || !keyForm.MatchString(k.name) {
				t.Errorf("%s.%s has the key %q", section.Name(), f.Name, k.name)
			}
			switch kindOf(k.of) {
			case kindSection:
				walk(k.of)
			case kindList:
				walk(k.of.Elem())
			case kindWords:
				if k.of.Elem().Kind() != reflect.String {
					t.Errorf("%s.%s is a list of %s", section.Name(), f.Name, k.of.Elem())
				}
			default:
				if k.of != secretType && k.of != durationType && k.of.Kind() != reflect.Bool && k.of.Kind() != reflect.Int && k.of.Kind() != reflect.String {
					t.Errorf("%s.%s is a %s", section.Name(), f.Name, k.of)
				}
			}
			// Each secret can come from a file.
			file := k.name + "_file"
			if section == reflect.TypeFor[KeyringEntry]() || section == reflect.TypeFor[InitialAccessToken]() {
				file = "file"
			}
			if k.of == secretType && !slices.ContainsFunc(keysOf(section), func(o key) bool { return o.name == file && o.secret == k.name }) {
				t.Errorf("%s.%s has no sibling %s", section.Name(), f.Name, file)
			}
			if k.secret != "" && !slices.Contains(names, k.secret) {
				t.Errorf("%s.%s is for %s, which is not there", section.Name(), f.Name, k.secret)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute,
		"30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || got.Std() != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if again, err := ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%s is written %s, which reads as %s, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":            "not a duration",
		"90":          "has no unit; write 90s",
		"-5m":         "is negative",
		"+5m":         "not a duration",
		"5 minutes":   "not a duration",
		"1d-1h":       "not a duration",
		"99999999d":   "not a duration",
		"99999d9e9h":  "not a duration",
		"1w":          "not a duration",
		"9999999999h": "not a duration",
		"∞":           "not a duration",
	} {
		if got, err := ParseDuration(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 15 * time.Minute: "15m", 24 * time.Hour: "1d", 25 * time.Hour: "1d1h", time.Hour: "1h",
		90 * time.Minute: "1h30m", 10 * time.Minute: "10m", time.Hour + time.Second: "1h0m1s",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
	}
	text, err := json.Marshal(Sessions{Lifetime: Duration(day)})
	if err != nil || string(text) != `{"Lifetime":"1d","IdleLifetime":"0s"}` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func TestProblemsAreErrorsOneByOne(t *testing.T) {
	_, err := Parse([]byte("issuer: x\nlisten: y\nconnectors: z\n"), "f", nil)
	var one Problem
	if !errors.As(err, &one) || one.Line != 1 || one.Path != "issuer" || one.Source != "f" {
		t.Errorf("got %+v", one)
	}
	if got := fmt.Sprint(Default().Validate()); !strings.Contains(got, "\n  issuer: is missing") {
		t.Errorf("a configuration from no file: %s", got)
	}
}
