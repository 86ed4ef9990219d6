package token

import (
	"crypto/sha256"
	"testing"
	"time"
)

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewID()
	}
}

func BenchmarkCode(b *testing.B) {
	ring, id := newRing(b), NewID()
	b.ReportAllocs()
	for b.Loop() {
		ring.Code(id)
	}
}

func BenchmarkParseCode(b *testing.B) {
	ring := newRing(b)
	code := ring.Code(NewID())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.ParseCode(code); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefreshToken(b *testing.B) {
	ring, id := newRing(b), NewID()
	b.ReportAllocs()
	for b.Loop() {
		ring.RefreshToken(id, 1234)
	}
}

func BenchmarkParseRefreshToken(b *testing.B) {
	ring := newRing(b)
	raw := ring.RefreshToken(NewID(), 1234)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ring.ParseRefreshToken(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseForgedRefreshToken(b *testing.B) {
	ring := newRing(b)
	raw := ring.RefreshToken(NewID(), 1234)
	raw = raw[:len(raw)-1] + "!"
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ring.ParseRefreshToken(raw); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkSecretMatches(b *testing.B) {
	ring, secret := newRing(b), NewSecret("portico_")
	hash := ring.HashSecret(secret)
	b.ReportAllocs()
	for b.Loop() {
		if !ring.SecretMatches(hash, secret) {
			b.Fatal("does not match")
		}
	}
}

func BenchmarkDigestMatches(b *testing.B) {
	ring, value := newRing(b), NewID()
	digest := ring.Digest("browser", value)
	b.ReportAllocs()
	for b.Loop() {
		if !ring.DigestMatches("browser", digest, value) {
			b.Fatal("does not match")
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	ring, plain := newRing(b), make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		ring.Seal("upstream", plain, nil)
	}
}

func BenchmarkOpen(b *testing.B) {
	ring := newRing(b)
	sealed := ring.Seal("upstream", make([]byte, 256), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Open("upstream", sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssueAccess(b *testing.B) {
	tokens := NewAccessTokens(newRing(b), openKeys(b, newMemory(), newRing(b), KeysOptions{}), testIssuer, nil)
	for name, c := range map[string]struct {
		format Format
		alg    string
	}{"opaque": {FormatOpaque, ""}, "ES256": {FormatJWT, ES256}, "EdDSA": {FormatJWT, EdDSA}, "RS256": {FormatJWT, RS256}} {
		b.Run(name, func(b *testing.B) {
			a := newAccess(time.Now())
			a.Algorithm = c.alg
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tokens.Issue(c.format, a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyAccess(b *testing.B) {
	tokens := newAccessTokens(b, nil)
	issue := func(format Format) string {
		raw, err := tokens.Issue(format, newAccess(time.Now()))
		if err != nil {
			b.Fatal(err)
		}
		return raw
	}
	verify := func(raw string, before func()) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				before()
				if _, _, err := tokens.Verify(raw); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("opaque", verify(issue(FormatOpaque), func() {}))
	b.Run("ES256", verify(issue(FormatJWT), func() {}))
	unknown := issue(FormatJWT)
	digest := sha256.Sum256([]byte(unknown))
	b.Run("ES256-unknown", verify(unknown, func() { tokens.keys.verified.slot(&digest).Store(nil) }))
}

func BenchmarkIssueIDToken(b *testing.B) {
	ids := NewIDTokens(openKeys(b, newMemory(), newRing(b), KeysOptions{}), testIssuer)
	token := newIDToken(time.Now())
	token.Extra = map[string]any{"name": "Ann Lee", "email": "ann@example.com", "email_verified": true}
	for _, alg := range []string{ES256, EdDSA, RS256} {
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ids.Issue(alg, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJWKS(b *testing.B) {
	keys := fastKeys(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		keys.JWKS()
	}
}
