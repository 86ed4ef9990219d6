package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a string that does not print: every verb of fmt, slog, JSON and YAML write [redacted] for it, or nothing if it
// is empty. The zero value is the empty secret.
//
// Two secrets are compared by what Reveal returns, not with ==.
type Secret struct {
	value *string // a pointer, because %p prints a struct's fields and asks nobody
}

// NewSecret hides a string.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal is the string itself, for the one place that needs it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero says whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == nil }

// String implements [fmt.Stringer].
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter]. String alone would not do: fmt shows the value for a verb that does not fit.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON implements [encoding/json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML implements [yaml.Marshaler].
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
