package token

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testIssuer = "https://id.example.com"

func newAccess(now time.Time) *Access {
	return &Access{
		ID: NewID(), GrantID: NewID(), ClientID: NewID(), Subject: NewID(),
		Scopes: []string{"notes.read", "notes.write"}, Audience: []string{"https://notes.example.com"},
		IssuedAt: now, ExpiresAt: now.Add(10 * time.Minute), AuthTime: now.Add(-time.Hour), ACR: "urn:example:mfa",
		KeyThumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
	}
}

func newAccessTokens(t testing.TB, now func() time.Time) *AccessTokens {
	return NewAccessTokens(newRing(t), fastKeys(t, now), testIssuer, now)
}

func TestAccessTokenComesBackAsItWasIssued(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	full := newAccess(c.Now())
	several := newAccess(c.Now())
	several.Audience = append(several.Audience, "https://mail.example.com", "https://id.example.com/userinfo")
	several.Algorithm = EdDSA
	least := &Access{
		ID: NewID(), ClientID: "cli", Subject: "cli", Audience: []string{"api"},
		IssuedAt: c.Now(), ExpiresAt: c.Now().Add(time.Second),
	}
	odd := newAccess(c.Now())
	odd.Subject, odd.ACR = `a"<b>&\ ä`, strings.Repeat("long", 300)
	for name, want := range map[string]*Access{"full": full, "several": several, "least": least, "odd": odd} {
		for _, format := range []Format{FormatOpaque, FormatJWT} {
			raw, err := tokens.Issue(format, want)
			if err != nil {
				t.Fatal(err)
			}
			got, gotFormat, err := tokens.Verify(raw)
			if err != nil || gotFormat != format {
				t.Fatalf("%s %s: %q, %v", name, format, gotFormat, err)
			}
			expect := *want
			switch {
			case format == FormatOpaque:
				expect.Algorithm = ""
			case expect.Algorithm == "":
				expect.Algorithm = DefaultAccessAlgorithm
			}
			if diff := cmp.Diff(&expect, got); diff != "" {
				t.Errorf("%s %s: %s", name, format, diff)
			}
			if format == FormatOpaque && strings.Contains(raw, want.ClientID) {
				t.Error("an opaque token can be read")
			}
		}
	}
}

// RFC 9068 section 2.
func TestSignedAccessTokenHasTheClaimsOfRFC9068(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	a := newAccess(c.Now())
	raw, err := tokens.Issue(FormatJWT, a)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := tokens.keys.Verify(raw, "at+jwt", &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"iss": testIssuer, "sub": a.Subject, "aud": "https://notes.example.com", "client_id": a.ClientID, "jti": a.ID,
		"iat": float64(c.Now().Unix()), "exp": float64(c.Now().Unix() + 600), "scope": "notes.read notes.write",
		"auth_time": float64(c.Now().Unix() - 3600), "acr": a.ACR, "grant_id": a.GrantID,
		"cnf": map[string]any{"jkt": a.KeyThumbprint},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAccessTokenExpiresToTheSecond(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	for _, format := range []Format{FormatOpaque, FormatJWT} {
		raw, err := tokens.Issue(format, newAccess(c.Now()))
		if err != nil {
			t.Fatal(err)
		}
		c.Advance(10*time.Minute - time.Nanosecond)
		if _, _, err := tokens.Verify(raw); err != nil {
			t.Errorf("%s: before its end: %v", format, err)
		}
		c.Advance(time.Nanosecond)
		if a, _, err := tokens.Verify(raw); err != ErrExpired || a != nil {
			t.Errorf("%s: at its end: %v", format, err)
		}
		// Expired and forged is forged: nothing is said of a token that is not ours.
		if _, _, err := tokens.Verify(raw[:len(raw)-4] + "AAAA"); err != ErrInvalid {
			t.Errorf("%s: forged: %v", format, err)
		}
	}
}

func TestNoOtherStringPassesForAnAccessToken(t *testing.T) {
	tokens := newAccessTokens(t, nil)
	for _, format := range []Format{FormatOpaque, FormatJWT} {
		raw, err := tokens.Issue(format, &Access{
			ID: "i", ClientID: "c", Subject: "s", Audience: []string{"a"},
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		forgeries(raw, func(forged string) {
			if _, _, err := tokens.Verify(forged); err != ErrInvalid {
				t.Errorf("%s: %q: %v", format, forged, err)
			}
		})
	}
	for _, raw := range []string{"", "pat1.", "pat1..", "a.b.c", strings.Repeat("a", 1<<20), "pat1." + strings.Repeat("a", 1<<20)} {
		if _, _, err := tokens.Verify(raw); err != ErrInvalid {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
}

// An ID token goes to the client, an access token to an API: neither may serve as the other,
// and no other of the broker's strings is an access token.
func TestAccessTokensAndOtherTokensAreKeptApart(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	ids := NewIDTokens(tokens.keys, testIssuer)
	idToken, err := ids.Issue(ES256, newIDToken(c.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.Verify(idToken); err != ErrInvalid {
		t.Errorf("an ID token as an access token: %v", err)
	}
	access, err := tokens.Issue(FormatJWT, newAccess(c.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ids.VerifyIDTokenHint(access); err != ErrInvalid {
		t.Errorf("an access token as an ID token: %v", err)
	}
	sealed := tokens.ring.Seal("access", appendOpaque(nil, testIssuer, newAccess(c.Now())), nil)
	for name, raw := range map[string]string{
		"code":          tokens.ring.Code(NewID()),
		"refresh token": tokens.ring.RefreshToken(NewID(), 1),
		"sealed value":  accessVersion + strings.TrimPrefix(sealed, sealVersion),
	} {
		if _, _, err := tokens.Verify(raw); err != ErrInvalid {
			t.Errorf("a %s as an access token: %v", name, err)
		}
	}
}

// A ring shared by mistake, say between staging and production, must not make one trust the other.
func TestAccessTokenOfAnotherIssuerIsRefused(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	other := NewAccessTokens(tokens.ring, tokens.keys, "https://staging.example.com", c.Now)
	for _, format := range []Format{FormatOpaque, FormatJWT} {
		raw, err := other.Issue(format, newAccess(c.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tokens.Verify(raw); err != ErrInvalid {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestOpaqueTokensSurviveRingRotation(t *testing.T) {
	c := newClock()
	keys := fastKeys(t, c.Now)
	old := NewAccessTokens(newRing(t, secretA), keys, testIssuer, c.Now)
	raw, err := old.Issue(FormatOpaque, newAccess(c.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewAccessTokens(newRing(t, secretB, secretA), keys, testIssuer, c.Now).Verify(raw); err != nil {
		t.Errorf("under an older secret: %v", err)
	}
	if _, _, err := NewAccessTokens(newRing(t, secretB), keys, testIssuer, c.Now).Verify(raw); err != ErrInvalid {
		t.Errorf("under a removed secret: %v", err)
	}
}

func TestIncompleteAccessTokensAreNotIssued(t *testing.T) {
	c := newClock()
	tokens := newAccessTokens(t, c.Now)
	for name, spoil := range map[string]func(*Access){
		"no id":             func(a *Access) { a.ID = "" },
		"no client":         func(a *Access) { a.ClientID = "" },
		"no subject":        func(a *Access) { a.Subject = "" },
		"no audience":       func(a *Access) { a.Audience = nil },
		"no times":          func(a *Access) { a.IssuedAt, a.ExpiresAt = time.Time{}, time.Time{} },
		"expired at once":   func(a *Access) { a.ExpiresAt = a.IssuedAt },
		"two scopes in one": func(a *Access) { a.Scopes = []string{"a admin"} },
		"an empty scope":    func(a *Access) { a.Scopes = []string{""} },
		"too long":          func(a *Access) { a.ACR = strings.Repeat("x", MaxAccessTokenBytes) },
	} {
		for _, format := range []Format{FormatOpaque, FormatJWT} {
			a := newAccess(c.Now())
			spoil(a)
			if _, err := tokens.Issue(format, a); err == nil {
				t.Errorf("%s, %s: issued", name, format)
			}
		}
	}
	if _, err := tokens.Issue("saml", newAccess(c.Now())); err == nil {
		t.Error("issued in an unknown format")
	}
	unknown := newAccess(c.Now())
	unknown.Algorithm = "HS256"
	if _, err := tokens.Issue(FormatJWT, unknown); err == nil {
		t.Error("signed with an unknown algorithm")
	}
}

// The content is authenticated, but its reader must not be what a defect elsewhere breaks.
func TestOpaqueContentIsReadWholeOrNotAtAll(t *testing.T) {
	plain := appendOpaque(nil, testIssuer, newAccess(newClock().Now()))
	if _, ok := parseOpaque(plain, testIssuer); !ok {
		t.Fatal("not read")
	}
	for i := range plain {
		if _, ok := parseOpaque(plain[:i], testIssuer); ok {
			t.Errorf("read, cut at %d", i)
		}
	}
	if _, ok := parseOpaque(append(plain, 0), testIssuer); ok {
		t.Error("read with something behind it")
	}
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	if _, ok := parseOpaque(huge, testIssuer); ok {
		t.Error("read a length beyond 64 bits")
	}
}

func TestAudienceIsReadInBothForms(t *testing.T) {
	for text, want := range map[string]audience{
		`"a"`: {"a"}, `["a"]`: {"a"}, `["a","b"]`: {"a", "b"}, `[]`: {}, `null`: nil,
	} {
		var got audience
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	var got audience
	if json.Unmarshal([]byte(`1`), &got) == nil || json.Unmarshal([]byte(`[1]`), &got) == nil {
		t.Error("a number is no audience")
	}
}
