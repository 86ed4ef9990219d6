package identity

import "testing"

// Each case names the row of "attacks on brokers" that it answers, where it answers one.
func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Case
		want Outcome
	}{
		{"a known identity signs in", Case{Policy: LinkAsk, Known: "a"}, SignIn},
		{"a known identity signs in whatever emails say", Case{Policy: LinkVerified, Known: "a", EmailVerified: true, Holders: []string{"b"}}, SignIn},
		{"a disabled account is refused", Case{Policy: LinkAsk, Known: "a", KnownDisabled: true}, Refuse},
		{"a new identity makes an account", Case{Policy: LinkAsk}, Create},
		{"a new identity with a verified email that nobody has makes an account", Case{Policy: LinkVerified, EmailVerified: true}, Create},

		{"linking by unverified email: never, whoever holds it", Case{Policy: LinkAsk, Holders: []string{"a"}}, Create},
		{"linking by unverified email: not by the policy verified either", Case{Policy: LinkVerified, Holders: []string{"a"}}, Create},
		{"nOAuth: an email claim without the provider's authority is unverified", Case{Policy: LinkVerified, EmailVerified: false, Holders: []string{"a"}}, Create},
		{"pre-hijacked accounts: an account that only claims the email is no holder, so there is nothing to merge into", Case{Policy: LinkVerified, EmailVerified: true, Holders: nil}, Create},

		{"ask: a verified email that is held is asked about", Case{Policy: LinkAsk, EmailVerified: true, Holders: []string{"a"}}, AskToLink},
		{"recycled accounts and domains: the same email with a new subject is a new identity, which asks", Case{Policy: LinkAsk, EmailVerified: true, Holders: []string{"a"}}, AskToLink},
		{"verified: links by itself, as the operator chose", Case{Policy: LinkVerified, EmailVerified: true, Holders: []string{"a"}}, Link},
		{"verified: with two holders there is nothing to link to by itself", Case{Policy: LinkVerified, EmailVerified: true, Holders: []string{"a", "b"}}, AskToLink},
		{"never: makes an account", Case{Policy: LinkNever, EmailVerified: true, Holders: []string{"a"}}, Create},
		{"no policy is the careful one", Case{EmailVerified: true, Holders: []string{"a"}}, AskToLink},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Decide(c.c); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// "Homograph and case-folded emails": two addresses are one only if their bytes are, ASCII case apart.
func TestNormalEmail(t *testing.T) {
	for in, want := range map[string]string{
		"ann@example.com":         "ann@example.com",
		" Ann@Example.COM ":       "ann@example.com",
		"ann+tag@example.com":     "ann+tag@example.com",
		"a.n.n@gmail.com":         "a.n.n@gmail.com",         // what one provider ignores, others do not
		"ann@example.com\u0000":   "",                        // a control character
		"an n@example.com":        "",                        //
		"ann":                     "",                        //
		"@example.com":            "",                        //
		"ann@":                    "",                        //
		"\u212Aelvin@example.com": "\u212Aelvin@example.com", // the Kelvin sign is not k
		"\u0131nfo@example.com":   "\u0131nfo@example.com",   // the dotless i is not i
		"\u0430nn@example.com":    "\u0430nn@example.com",    // Cyrillic a is not a
		"ann\uFF20example.com":    "",                        // the full-width @ is none
		"STRASSE@example.com":     "strasse@example.com",     //
		"stra\u00DFe@example.com": "stra\u00DFe@example.com",
	} {
		if got := normalEmail(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'a'
	}
	if got := normalEmail(string(long) + "@example.com"); got != "" {
		t.Errorf("an address of 312 bytes is %q", got)
	}
}
