package connectors

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzProviderBodies feeds what a provider, or who plays one, may answer to everything that
// parses it. Nothing may panic, leak the secret into an error, or make a subject of nothing.
func FuzzProviderBodies(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"a","token_type":"bearer","expires_in":1}`,
		`access_token=a&scope=user%3Aemail&token_type=bearer`,
		`error=bad_verification_code&error_description=%zz`,
		`{"error":"invalid_grant","error_description":"Malformed auth code."}`,
		`{"error":{"message":"This authorization code has been used.","type":"OAuthException","code":100,"error_subcode":36009}}`,
		`{"error":{"message":"limit","code":4}}`, `{"error":{}}`, `{"error":[]}`, `{"error":{"code":1e99}}`,
		`{"sub":"1","azp":"c","email":"ann@example.com","email_verified":"true","auth_time":1785000000,"amr":["pwd"],"hd":"example.com"}`,
		`{"sub":1,"email":null,"email_verified":1,"auth_time":"x","amr":"otp","name":{}}`, `{"auth_time":1e300,"amr":[null]}`,
		githubUser, githubEmails, `[{"email":null,"primary":true}]`, `{"message":"API rate limit exceeded"}`, ``, `null`, `[]`, `"`,
	} {
		f.Add(body, 200, `<https://api.github.com/user/emails?page=2>; rel="next"`)
		f.Add(body, 400, `<//evil.example>; rel=next, <`)
	}
	f.Fuzz(func(t *testing.T, body string, status int, link string) {
		const secret = "fuzz-Secret-value"
		for _, media := range []string{"application/json", "application/x-www-form-urlencoded", "\x00"} {
			a := answer{status: status, header: http.Header{"Content-Type": {media}, "Link": {link}}, body: []byte(body)}
			for _, e := range []*Error{
				judgeToken(a, secret), judgeFacebook(a, facebookToken, secret), judgeFacebook(a, facebookProfile, secret), judgeGitHub(a, secret), judgeDocument(a),
			} {
				if e == nil {
					continue
				}
				if e.Kind == "" || e.Err == nil || len(e.Error()) > 1024 || strings.Contains(e.Error(), secret) || !utf8.ValidString(e.Error()) {
					t.Errorf("%q", e.Error())
				}
			}
			if tok, err := parseTokenAnswer(a.header, a.body); err != nil && tok.AccessToken != "" {
				t.Error("a token of an answer that was refused")
			}
		}
		var c claims
		if json.Unmarshal([]byte(body), &c) == nil {
			p := &Profile{Subject: string(c.Subject), Email: string(c.Email), EmailVerified: bool(c.EmailVerified), Name: string(c.Name), AMR: c.AMR}
			if p.tidy() == nil && (p.Subject == "" || p.Email == "" && p.EmailVerified) {
				t.Errorf("%+v", p)
			}
		}
		var list []githubEmail
		if json.Unmarshal([]byte(body), &list) == nil {
			if e, ok := pickEmail(list); ok && !e.Primary {
				t.Errorf("%+v", e)
			}
		}
		current := &url.URL{Scheme: "https", Host: "api.github.com", Path: "/user/emails"}
		if next, err := nextPage(current, []string{link}); err == nil && next != nil && (next.Host != current.Host || next.Scheme != "https") {
			t.Errorf("led to %s", next)
		}
	})
}
