package device

import (
	"strings"
	"testing"
)

func TestAUserCodeIsReadAsPeopleTypeIt(t *testing.T) {
	for typed, want := range map[string]string{
		"WDJBMJHT":                           "WDJBMJHT",
		"WDJB-MJHT":                          "WDJBMJHT",
		"wdjb-mjht":                          "WDJBMJHT",
		"  wdjb mjht\r\n":                    "WDJBMJHT",
		"W D J B M J H T":                    "WDJBMJHT",
		"WDJB–MJHT":                          "WDJBMJHT", // a phone makes a dash of it
		"WDJB.MJHT":                          "WDJBMJHT",
		"“WDJB-MJHT”":                        "WDJBMJHT",
		"WDJB\u200b-MJHT\u00ad":              "WDJBMJHT", // pasted from a page
		"":                                   "",
		"WDJBMJH":                            "",
		"WDJBMJHTB":                          "",
		"WDJBMJHA":                           "", // a vowel
		"WDJBMJH1":                           "",
		"WDJBMJHY":                           "", // not in the alphabet: it is a vowel to some
		"ＷＤＪＢＭＪＨＴ":                           "",
		"WDJBMJHТ":                           "", // a Cyrillic letter
		"WDJBMJH\x00":                        "",
		"WDJBMJH\xff":                        "",
		"<b>WDJB":                            "",
		strings.Repeat("-", 56) + "WDJBMJHT": "WDJBMJHT",
		strings.Repeat("-", 57) + "WDJBMJHT": "",
	} {
		got, ok := ParseUserCode(typed)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", typed, got, want)
		}
	}
	if got := FormatUserCode("WDJBMJHT"); got != "WDJB-MJHT" {
		t.Errorf("a code is shown as %q", got)
	}
}

// A code that is predictable, or has fewer letters than it seems, is guessed sooner (RFC 8628 section 5.1).
func TestUserCodesUseTheWholeAlphabetEvenly(t *testing.T) {
	const codes = 20_000
	count := map[rune]int{}
	seen := map[string]bool{}
	for range codes {
		code := NewUserCode()
		if again, ok := ParseUserCode(FormatUserCode(code)); !ok || again != code {
			t.Fatalf("%q is not read as itself", code)
		}
		seen[code] = true
		for _, r := range code {
			count[r]++
		}
	}
	// Each letter comes up 8,000 times, give or take 87; six times that is never by chance.
	for _, r := range alphabet {
		if n := count[r]; n < 7_475 || n > 8_525 {
			t.Errorf("%c came up %d times", r, n)
		}
	}
	if len(count) != 20 {
		t.Errorf("%d letters are in use", len(count))
	}
	// By chance one pair in 128 runs is alike, five never are.
	if len(seen) < codes-5 {
		t.Errorf("of %d codes %d differ", codes, len(seen))
	}
}

func FuzzParseUserCode(f *testing.F) {
	for _, s := range []string{"WDJB-MJHT", "wdjb mjht", "", "WDJBMJHTB", "\xff", "ſſſſſſſſ", "ＷＤＪＢＭＪＨＴ", "WDJB\u200bMJHT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, ok := ParseUserCode(s)
		if !ok {
			return
		}
		if len(code) != userCodeLength || strings.Trim(code, alphabet) != "" {
			t.Errorf("%q was read as %q", s, code)
		}
		for _, again := range []string{code, FormatUserCode(code), strings.ToLower(code)} {
			if got, ok := ParseUserCode(again); !ok || got != code {
				t.Errorf("%q is read as %q, %v, want %q", again, got, ok, code)
			}
		}
	})
}
