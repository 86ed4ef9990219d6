package config

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// A configuration that is anything at all is either valid or Problems; it never panics, hangs, or yields something that
// Validate would refuse.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile("../portico.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example), "")
	f.Add(string(uncommented(example)), "")
	f.Add(small, "PORTICO_CONNECTORS_GOOGLE_CLIENT_ID=x\nPORTICO_KEYRING_0_SECRET=0123456789abcdef0123456789abcdef")
	for _, seed := range []string{
		"", "---\n", "a: &a [*a]\n", "&a issuer: *a", "issuer: {<<: {}}", "? [a]\n: b", "clients: &c [*c]", "!!binary a", "%YAML 9.9\n---\n",
		"keyring: [{secret: !!int 1}]", "tokens: {code_lifetime: 1d2h3m4.5s}", "\ufeffissuer: x", "a: b\n---\nc: d\n...\n", "- - - -\n", "{a: {b: {c: [", "\x00", "connectors: [{}, null, ~]",
	} {
		f.Add(seed, "PORTICO_CLIENTS_0_CLIENT_ID=a\nPORTICO_CLIENTS_A_NAME=b\nPORTICO_CONNECTORS_0_")
	}
	f.Fuzz(func(t *testing.T, text, environ string) {
		// Files are left alone: a fuzzer finds /dev/zero.
		if strings.Contains(text, "file") || strings.Contains(strings.ToUpper(environ), "FILE") {
			t.Skip()
		}
		c, err := Parse([]byte(text), "f", strings.Split(environ, "\n"))
		if err != nil {
			if c != nil || !errors.As(err, new(Problems)) {
				t.Errorf("%v, %T", c, err)
			}
			if message := err.Error(); strings.ContainsAny(strings.ReplaceAll(message, "\n  ", " "), "\x00\r\n\x1b") {
				t.Errorf("the message %q would forge lines of a log or a terminal's output", message)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("what Parse returned is refused: %v", err)
		}
	})
}
