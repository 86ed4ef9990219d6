package token

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newIDToken(now time.Time) *IDToken {
	return &IDToken{
		Subject: NewID(), Audience: []string{NewID()}, Nonce: "n-0S6_WzA2Mj", SID: NewID(), ACR: "urn:example:mfa",
		AMR: []string{"pwd", "otp"}, AtHash: "77QmUPtjPfzWtF2AnpK9RQ", IssuedAt: now, ExpiresAt: now.Add(time.Hour), AuthTime: now.Add(-time.Minute),
	}
}

func TestIDTokenCarriesItsClaims(t *testing.T) {
	c := newClock()
	keys := fastKeys(t, c.Now)
	token := newIDToken(c.Now())
	token.Extra = map[string]any{"name": "Ann <Lee>", "email_verified": true, "address": map[string]string{"country": "NL"}}
	raw, err := NewIDTokens(keys, testIssuer).Issue(ES256, token)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := keys.Verify(raw, "JWT", &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"iss": testIssuer, "sub": token.Subject, "aud": token.Audience[0], "nonce": token.Nonce, "sid": token.SID, "acr": token.ACR,
		"amr": []any{"pwd", "otp"}, "at_hash": token.AtHash, "iat": float64(c.Now().Unix()), "exp": float64(c.Now().Unix() + 3600),
		"auth_time": float64(c.Now().Unix() - 60), "name": "Ann <Lee>", "email_verified": true, "address": map[string]any{"country": "NL"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A profile claim, however it is spelled, must not change who the token is about.
func TestProfileClaimsCannotReplaceThoseOfTheToken(t *testing.T) {
	c := newClock()
	keys := fastKeys(t, c.Now)
	ids := NewIDTokens(keys, testIssuer)
	token := newIDToken(c.Now())
	token.Extra = map[string]any{
		"sub": "victim", "Sub": "victim", "ſub": "victim", "ISS": "https://evil.example", "aud": "x", "exp": 1 << 40, "nonce": "x", "events": 1,
	}
	raw, err := ids.Issue(ES256, token)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ids.VerifyIDTokenHint(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := *token
	want.Issuer, want.Extra = testIssuer, nil
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}

// RP-Initiated Logout section 2: the hint may have expired, but must be ours.
func TestIDTokenHint(t *testing.T) {
	c := newClock()
	keys := fastKeys(t, c.Now)
	ids := NewIDTokens(keys, testIssuer)
	raw, err := ids.Issue(EdDSA, newIDToken(c.Now()))
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(20 * day)
	if _, err := ids.VerifyIDTokenHint(raw); err != nil {
		t.Errorf("expired: %v", err)
	}
	if _, err := NewIDTokens(keys, "https://other.example").VerifyIDTokenHint(raw); err != ErrInvalid {
		t.Errorf("of another issuer: %v", err)
	}
	// Signed userinfo has the same typ, and is no ID token: it has no times.
	userinfo, err := keys.Sign(EdDSA, TypeIDToken, map[string]string{"iss": testIssuer, "sub": "ann", "aud": "c"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ids.VerifyIDTokenHint(userinfo); err != ErrInvalid {
		t.Errorf("signed userinfo: %v", err)
	}
	forgeries(raw[len(raw)-100:], func(forged string) {
		if _, err := ids.VerifyIDTokenHint(raw[:len(raw)-100] + forged); err != ErrInvalid {
			t.Errorf("forged: %v", err)
		}
	})
}

func TestIncompleteIDTokensAreNotIssued(t *testing.T) {
	c := newClock()
	ids := NewIDTokens(fastKeys(t, c.Now), testIssuer)
	for name, spoil := range map[string]func(*IDToken){
		"no subject":      func(t *IDToken) { t.Subject = "" },
		"no audience":     func(t *IDToken) { t.Audience = nil },
		"no times":        func(t *IDToken) { t.IssuedAt, t.ExpiresAt = time.Time{}, time.Time{} },
		"expired at once": func(t *IDToken) { t.ExpiresAt = t.IssuedAt },
		"no JSON":         func(t *IDToken) { t.Extra = map[string]any{"f": func() {}} },
	} {
		token := newIDToken(c.Now())
		spoil(token)
		if _, err := ids.Issue(ES256, token); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if _, err := ids.Issue("none", newIDToken(c.Now())); err == nil {
		t.Error("issued unsigned")
	}
}

func TestLeftHash(t *testing.T) {
	// OpenID Connect Core appendix A.3 has this access token with this at_hash.
	const accessToken = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
	for alg, want := range map[string]string{
		RS256: "77QmUPtjPfzWtF2AnpK9RQ",
		ES256: "77QmUPtjPfzWtF2AnpK9RQ",
	} {
		if got, err := LeftHash(alg, accessToken); err != nil || got != want {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
	}
	if got, err := LeftHash(EdDSA, accessToken); err != nil || len(got) != 43 {
		t.Errorf("EdDSA: %q, %v", got, err)
	}
	if _, err := LeftHash("HS256", accessToken); err == nil {
		t.Error("a hash for an algorithm that is not signed with")
	}
}
