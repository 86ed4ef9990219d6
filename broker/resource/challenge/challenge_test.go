package challenge

import (
	"strings"
	"testing"
)

// Parameters come in their order, those without a value not at all.
func TestAChallenge(t *testing.T) {
	for _, c := range []struct {
		params []string
		want   string
	}{
		{nil, "Bearer"},
		{[]string{"realm", ""}, "Bearer"},
		{[]string{"realm", "r", "error", "", "scope", "a b"}, `Bearer realm="r", scope="a b"`},
		{[]string{"realm", "", "scope", "a"}, `Bearer scope="a"`},
		{[]string{"realm", "a\", error=\"x\\"}, `Bearer realm="a', error='x'"`},
	} {
		if got := New("Bearer", c.params...); got != c.want {
			t.Errorf("%q: got %s, want %s", c.params, got, c.want)
		}
	}
}

// Whatever a value is, it ends neither itself nor the header.
func FuzzNew(f *testing.F) {
	f.Add("a\"\r\nSet-Cookie: x=y")
	f.Add("\\\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, value string) {
		got := New("Bearer", "realm", value, "scope", "a")
		if strings.ContainsFunc(got, func(r rune) bool { return r < 0x20 || r > 0x7e }) || strings.Contains(got, `\`) {
			t.Fatalf("%q gives %q", value, got)
		}
		if want := 4; value != "" && strings.Count(got, `"`) != want {
			t.Fatalf("%q gives %q", value, got)
		}
	})
}
