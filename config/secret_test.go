package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A configuration is logged and printed by somebody, some day, in some way.
func TestSecretsDoNotPrint(t *testing.T) {
	const hidden = "hunter2-hunter2-hunter2-hunter2-"
	c := parse(t, strings.Replace(small, "client_secret: secret", "client_secret: "+hidden, 1)+
		"keyring: [{secret: "+hidden+"}]\n"+
		"clients: [{client_id: a, client_secret: "+hidden+", name: A, redirect_uris: ['https://a.example/cb']}]\n")
	s := c.Keyring[0].Secret
	if s.Reveal() != hidden || s.IsZero() {
		t.Fatal("Reveal does not")
	}

	var out bytes.Buffer
	for _, v := range []any{s, &s, c, *c, c.Keyring, c.Clients[0], map[string]Secret{"a": s}} {
		// Verbs that do not fit are where fmt falls back to the value itself.
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%f", "%p", "%c", "%U", "%20s", "%!"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		raw, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(raw)
		if raw, err = yaml.Marshal(v); err != nil {
			t.Error(err)
		}
		out.Write(raw)
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "hunter2") || strings.Contains(strings.ToLower(line), fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("a secret was printed: %s", line)
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing says that there is a secret")
	}
	if got := fmt.Sprintf("%v|%q|%s", Secret{}, Secret{}, s); got != "||[redacted]" {
		t.Errorf("got %s", got)
	}
}

// What is wrong with a secret is said without the secret.
func TestProblemsDoNotTellSecrets(t *testing.T) {
	for _, text := range []string{
		"keyring: [{secret: hunter2}]",
		"keyring: [{secret: [hunter2]}]",
		"keyring: [{secret: {hunter2: hunter2}}]",
		"keyring: [{secret: hunter2, secret: hunter2}]",
		"store: {type: mongodb, uri: 'postgres://hunter2@h'}",
		"clients: [{client_id: a, client_secret: hunter2}]",
		"issuer: https://me:hunter2@login.example.com",
		"connectors: [{type: oidc, name: a, issuer: 'https://me:hunter2@a.example'}]",
		"connectors: [{type: google, name: a, client_secret: !secret hunter2}]",
	} {
		_, err := Parse([]byte(text), "f", []string{"PORTICO_KEYRING_0_SECRET=hunter2"})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
