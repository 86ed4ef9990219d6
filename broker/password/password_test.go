package password

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPasswordMatchesItsHashAndNoOther(t *testing.T) {
	h := NewHasher(Options{})
	hash, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(hash); err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("%s: %v", hash, err)
	}
	for password, want := range map[string]bool{
		"correct horse battery":  true,
		"correct horse batterY":  false,
		"correct horse battery ": false,
		"":                       false,
	} {
		ok, stale, err := h.Verify(t.Context(), Known, hash, password)
		if err != nil || ok != want || stale {
			t.Errorf("%q: %v, stale %v, %v; want %v", password, ok, stale, err, want)
		}
	}
	again, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil || again == hash {
		t.Errorf("two hashes of one password must differ by their salts: %v", err)
	}
	if ok, stale, err := h.Verify(t.Context(), Stranger, Decoy(), "correct horse battery"); ok || stale || err != nil {
		t.Errorf("the decoy: %v, stale %v, %v", ok, stale, err)
	}
}

// A hash of other software, which the argon2 command line tool of the reference implementation made, is understood; its parameters are not
// ours, so it is to be made anew.
func TestAHashWithOtherParametersIsCheckedAndStale(t *testing.T) {
	// echo -n "password" | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32: the vector of the reference implementation's test.c.
	key, err := hex.DecodeString("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7")
	if err != nil {
		t.Fatal(err)
	}
	hash := phc{memory: 1 << 16, passes: 2, lanes: 1, salt: []byte("somesalt"), key: key}.String()
	ok, stale, err := NewHasher(Options{}).Verify(t.Context(), Known, hash, "password")
	if !ok || !stale || err != nil {
		t.Errorf("%s: %v, stale %v, %v", hash, ok, stale, err)
	}
}

func TestWhatMayBeAPassword(t *testing.T) {
	for _, c := range []struct {
		name, password string
		ok             bool
	}{
		{"eight characters", "12345678", true},
		{"seven", "1234567", false},
		{"eight characters of several bytes", "пароль12", true},
		{"seven characters of many bytes", "🔑🔑🔑🔑🔑🔑🔑", false},
		{"the longest", strings.Repeat("x", MaxBytes), true},
		{"one byte more", strings.Repeat("x", MaxBytes+1), false},
		{"spaces count", "        ", true},
		{"no UTF-8", "12345678\xff", false},
		{"empty", "", false},
	} {
		if err := CheckNew(c.password, 0); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAnOperatorMayAskForLongerPasswordsNotForShorterOnes(t *testing.T) {
	if err := CheckNew("nine char", 12); !errors.Is(err, ErrInvalid) {
		t.Errorf("9 of 12 characters: %v", err)
	}
	if err := CheckNew("1234567", 4); !errors.Is(err, ErrInvalid) {
		t.Errorf("7 characters where 4 were asked for: %v", err)
	}
	if _, err := NewHasher(Options{MinLength: 12}).Hash(t.Context(), "nine char"); !errors.Is(err, ErrInvalid) {
		t.Errorf("hashed all the same: %v", err)
	}
}

// The same password typed on another system may come composed, decomposed or in full width: it is the same one.
func TestOnePasswordHasOneFormWhateverTheKeyboard(t *testing.T) {
	for _, same := range [][2]string{
		{"caf\u00e9 au lait", "cafe\u0301 au lait"},
		{"password", "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44"},
		{"office hours", "o\ufb03ce hours"},
	} {
		one, err1 := Prepare(same[0])
		other, err2 := Prepare(same[1])
		if err1 != nil || err2 != nil || string(one) != string(other) {
			t.Errorf("%q and %q: %q, %q, %v, %v", same[0], same[1], one, other, err1, err2)
		}
	}
	latin, _ := Prepare("password")
	cyrillic, _ := Prepare("p\u0430ssword")
	if string(latin) == string(cyrillic) {
		t.Error("a Cyrillic letter is another letter, however it looks")
	}
}

func TestHashesThatAreRefused(t *testing.T) {
	good := Decoy()
	part := strings.Split(good, "$")
	with := func(i int, s string) string {
		changed := append([]string(nil), part...)
		changed[i] = s
		return strings.Join(changed, "$")
	}
	if err := Check(good); err != nil {
		t.Fatal(err)
	}
	for name, hash := range map[string]string{
		"empty":            "",
		"bcrypt":           "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"argon2i":          with(1, "argon2i"),
		"version":          with(2, "v=16"),
		"no memory":        with(3, "m=0,t=2,p=1"),
		"endless memory":   with(3, "m=4294967295,t=2,p=1"), // would take 4 TiB
		"endless passes":   with(3, "m=19456,t=4294967295,p=1"),
		"no lanes":         with(3, "m=19456,t=2,p=0"),
		"many lanes":       with(3, "m=19456,t=2,p=255"),
		"another order":    with(3, "t=2,m=19456,p=1"),
		"a leading zero":   with(3, "m=019456,t=2,p=1"),
		"a sign":           with(3, "m=+19456,t=2,p=1"),
		"more parameters":  with(3, "m=19456,t=2,p=1,data=AA"),
		"short salt":       with(4, "AAAA"),
		"short key":        with(5, "AAAA"),
		"an empty key":     with(5, ""), // everything would match
		"padding":          with(4, "AAAAAAAAAAAAAAAAAAAAAA=="),
		"a line break":     with(4, "AAAAAAAAAAA\nAAAAAAAAAAA"),
		"something behind": good + "$",
		"too long":         good + strings.Repeat("A", maxHash),
	} {
		if err := Check(hash); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if ok, _, err := NewHasher(Options{}).Verify(t.Context(), Known, hash, "password"); ok || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: verified %v, %v", name, ok, err)
		}
	}
}

// The limit is what keeps a flood of logins from taking all cores and all memory: a bounded number waits, and the rest is told at once.
func TestNoMoreHashesAtOnceThanThereIsRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limit{slots: make(chan struct{}, 2)}
		running, most, busy, cancelled := 0, 0, 0, 0
		done := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		const callers = 2 + 2*queuePerSlot + 7
		for range callers {
			go func() {
				err := l.enter(ctx)
				if err == nil {
					time.Sleep(time.Second) // of the bubble's own time
					l.leave()
				}
				done <- err
			}()
		}
		synctest.Wait()
		running = len(l.slots)
		most = int(l.waiting.Load())
		cancel()
		for range callers {
			switch err := <-done; {
			case errors.Is(err, ErrBusy):
				busy++
			case errors.Is(err, context.Canceled):
				cancelled++
			case err != nil:
				t.Error(err)
			}
		}
		if running != 2 || most != 2*queuePerSlot || busy != 7 || cancelled != 2*queuePerSlot {
			t.Errorf("%d run, %d wait, %d are turned away, %d gave up", running, most, busy, cancelled)
		}
		if n := l.waiting.Load(); n != 0 {
			t.Errorf("%d still count as waiting", n)
		}
	})
}

// Strangers who guess must not keep those waiting who have signed in from there before.
func TestStrangersDoNotTakeThePlacesOfTheKnown(t *testing.T) {
	h := NewHasher(Options{Concurrent: 1})
	if err := h.lanes[Stranger].enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.lanes[Stranger].waiting.Store(queuePerSlot)
	if _, _, err := h.Verify(t.Context(), Stranger, Decoy(), "password"); !errors.Is(err, ErrBusy) {
		t.Errorf("one stranger too many: %v", err)
	}
	if _, _, err := h.Verify(t.Context(), Known, Decoy(), "password"); err != nil {
		t.Errorf("somebody known: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(Decoy())
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b2dWRWJTmaaJObG")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parse(s)
		if err != nil {
			return
		}
		if h.String() != s {
			t.Errorf("%q is another spelling of %q: a hash has one", s, h)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	h, hash := NewHasher(Options{}), Decoy()
	for b.Loop() {
		if _, _, err := h.Verify(b.Context(), Known, hash, "password"); err != nil {
			b.Fatal(err)
		}
	}
}
