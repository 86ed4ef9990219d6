package connectors

import (
	"net/url"
	"strings"
	"testing"
)

func TestJudgeCallback(t *testing.T) {
	const issuer = "https://provider.example"
	tests := []struct {
		name     string
		callback url.Values
		code     string
		want     Kind
	}{
		{"a code", url.Values{"code": {"c"}}, "c", ""},
		{"a code with its issuer", url.Values{"code": {"c"}, "iss": {issuer}}, "c", ""},
		{"nothing", url.Values{}, "", Malformed},
		{"an empty code", url.Values{"code": {""}}, "", Malformed},
		{"two codes", url.Values{"code": {"a", "b"}}, "", Malformed},
		{"two errors", url.Values{"error": {"access_denied", "server_error"}}, "", Malformed},
		{"a code longer than any", url.Values{"code": {strings.Repeat("c", maxCode+1)}}, "", Malformed},
		{"an error beside a code is an error", url.Values{"code": {"c"}, "error": {"access_denied"}}, "", Denied},
		{"another issuer", url.Values{"code": {"c"}, "iss": {"https://evil.example"}}, "", Untrusted},
		{"login_required", url.Values{"error": {"login_required"}}, "", Denied},
		{"server_error", url.Values{"error": {"server_error"}}, "", Unavailable},
		{"temporarily_unavailable", url.Values{"error": {"temporarily_unavailable"}}, "", Unavailable},
		{"invalid_scope", url.Values{"error": {"invalid_scope"}}, "", Misconfigured},
		{"unauthorized_client", url.Values{"error": {"unauthorized_client"}}, "", Misconfigured},
		{"an unknown error", url.Values{"error": {"teapot"}}, "", Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, e := judgeCallback(tt.callback, issuer)
			if tt.want == "" {
				if e != nil || code != tt.code {
					t.Errorf("%q %v", code, e)
				}
			} else if e == nil || e.Kind != tt.want || code != "" {
				t.Errorf("%q %v, want %s", code, e, tt.want)
			}
		})
	}
}

// A browser can write anything into a callback, and it ends up in a log line.
func TestWhatABrowserWritesIsFitForALog(t *testing.T) {
	_, e := judgeCallback(url.Values{
		"error":             {"x\n\"injected\" " + strings.Repeat("y", 500)},
		"error_description": {"line one\nline two \x1b[31m " + strings.Repeat("word ", 500)},
	}, "")
	if strings.ContainsAny(e.Error(), "\n\x1b") || len(e.UpstreamCode) > maxUpstreamCode || len(e.Error()) > 500 {
		t.Errorf("%q", e.Error())
	}
}

func TestDescribeLeavesOutWhatMayBeASecret(t *testing.T) {
	got := describe("no token", "Malformed access token EAAG1234567890abcdef with code abc", "abc").Error()
	if want := `no token: "Malformed access token … with code …"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHintsThatAreNoneAreNotSentOn(t *testing.T) {
	for in, want := range map[string]string{"ann@example.com": "ann@example.com", "a\nb": "", strings.Repeat("a", maxHint+1): ""} {
		if got := hint(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestProfilesAreFitToStoreAndShow(t *testing.T) {
	p := &Profile{
		Subject: "1", Name: " Ann\u202e\x00 Lee\xff\n", Username: strings.Repeat("é", maxText), Email: "ann@@example.com", EmailVerified: true,
		Picture: "http://pictures.example/a", AMR: make([]string, 50),
	}
	if err := p.tidy(); err != nil {
		t.Fatal(err)
	}
	if p.Name != "Ann Lee" || len(p.Username) > maxText || p.Email != "" || p.EmailVerified || p.Picture != "" || len(p.AMR) != maxAMR {
		t.Errorf("%+v", p)
	}
	for _, email := range []string{"", "ann", "@example.com", "ann@", "a b@example.com", "ann@example.com\n", "a@b@c", strings.Repeat("a", maxEmail) + "@b"} {
		if plausibleEmail(email) {
			t.Errorf("%q passed", email)
		}
	}
	for _, subject := range []string{"", "a\nb", "é", strings.Repeat("1", maxSubject+1)} {
		if (&Profile{Subject: subject}).tidy() == nil {
			t.Errorf("subject %q passed", subject)
		}
	}
}
