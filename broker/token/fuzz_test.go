package token

import (
	"errors"
	"testing"
	"time"
)

func FuzzParseCode(f *testing.F) {
	ring := newRing(f)
	f.Add(ring.Code(NewID()))
	f.Add(ring.RefreshToken(NewID(), 7))
	f.Add("pac1.")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ring.ParseCode(s)
		if err == nil && ring.Code(id) != s {
			t.Errorf("%q is another spelling of the code of %q", s, id)
		}
		if err != nil && (err != ErrInvalid || id != "") {
			t.Errorf("%q, %v", id, err)
		}
	})
}

func FuzzParseRefreshToken(f *testing.F) {
	ring := newRing(f)
	f.Add(ring.RefreshToken(NewID(), 0))
	f.Add(ring.RefreshToken(NewID(), 1<<62))
	f.Add(ring.Code(NewID()))
	f.Add("prt1.....")
	f.Fuzz(func(t *testing.T, s string) {
		id, n, err := ring.ParseRefreshToken(s)
		if err == nil && ring.RefreshToken(id, n) != s {
			t.Errorf("%q is another spelling of %q, %d", s, id, n)
		}
		if err != nil && (err != ErrInvalid || id != "" || n != 0) {
			t.Errorf("%q, %d, %v", id, n, err)
		}
	})
}

func FuzzParseDeviceCode(f *testing.F) {
	ring := newRing(f)
	f.Add(ring.DeviceCode(NewID()))
	f.Add(ring.DeviceCode(NewID() + NewID()))
	f.Add(ring.Code(NewID()))
	f.Add("pdc1.")
	f.Fuzz(func(t *testing.T, s string) {
		handle, err := ring.ParseDeviceCode(s)
		if err == nil && ring.DeviceCode(handle) != s {
			t.Errorf("%q is another spelling of the device code of %q", s, handle)
		}
		if err != nil && (err != ErrInvalid || handle != "") {
			t.Errorf("%q, %v", handle, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	ring := newRing(f)
	f.Add(ring.Seal("p", []byte("value"), nil))
	f.Add(ring.Seal("p", nil, nil))
	f.Add("s1.")
	f.Fuzz(func(t *testing.T, s string) {
		if plain, err := ring.Open("p", s, nil); err != nil && (err != ErrInvalid || plain != nil) {
			t.Errorf("%q, %v", plain, err)
		}
	})
}

func FuzzVerifyAccess(f *testing.F) {
	c := newClock()
	tokens := newAccessTokens(f, c.Now)
	for _, format := range []Format{FormatOpaque, FormatJWT} {
		raw, err := tokens.Issue(format, newAccess(c.Now()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add("pat1.")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, s string) {
		if a, _, err := tokens.Verify(s); err != nil && (err != ErrInvalid || a != nil) {
			t.Errorf("%v, %v", a, err)
		}
	})
}

func FuzzParseOpaque(f *testing.F) {
	now := newClock().Now()
	f.Add(appendOpaque(nil, testIssuer, newAccess(now)))
	f.Add(appendOpaque(nil, testIssuer, &Access{}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		a, ok := parseOpaque(plain, testIssuer)
		if !ok {
			return
		}
		again, ok := parseOpaque(appendOpaque(nil, testIssuer, a), testIssuer)
		if !ok || !again.ExpiresAt.Equal(a.ExpiresAt.Truncate(time.Second)) || again.ID != a.ID || len(again.Scopes) != len(a.Scopes) {
			t.Errorf("%+v became %+v", a, again)
		}
	})
}

func FuzzVerifyIDTokenHint(f *testing.F) {
	now := newClock().Now()
	ids := NewIDTokens(fastKeys(f, nil), testIssuer)
	raw, err := ids.Issue(ES256, newIDToken(now))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add("eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkExMjhHQ00ifQ.a.b.c.d")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("....")
	f.Fuzz(func(t *testing.T, s string) {
		hint, err := ids.VerifyIDTokenHint(s)
		if err != nil && (!errors.Is(err, ErrInvalid) || hint != nil) {
			t.Errorf("%v, %v", hint, err)
		}
		if err == nil && s != raw {
			t.Errorf("%q is another spelling of an ID token", s)
		}
	})
}
