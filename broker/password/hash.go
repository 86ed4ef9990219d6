package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The parameters of new hashes: the first that the OWASP Password Storage Cheat Sheet gives for argon2id as a least (19 MiB, two passes, one lane). Its
// others, and the second that RFC 9106 section 4 recommends, trade memory for passes; this one holds the least memory while a
// hash is computed, and one lane makes the limit on concurrent hashes a limit on cores. A hash made with others is made anew at the next good login.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltBytes = 16 // RFC 9106 section 3.1
	keyBytes  = 32 // RFC 9106 section 4
)

// Bounds of the hashes that are checked at all: they may come from an operator's file, and must not be able to stop the broker.
const (
	maxMemoryKiB = 1 << 20 // 1 GiB
	maxPasses    = 64
	maxLanes     = 16
	minSalt      = 8
	minKey       = 16
	maxPart      = 64 // bytes of salt or key
	// maxHash bounds a hash as text.
	maxHash = 256
)

// phc is a hash as it is written: $argon2id$v=19$m=19456,t=2,p=1$SALT$KEY (the PHC string format).
type phc struct {
	memory, passes uint32
	lanes          uint8
	salt, key      []byte
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes, b64(h.salt), b64(h.key))
}

// stale says whether the hash was made with other parameters than new ones are.
func (h phc) stale() bool {
	return h.memory != memoryKiB || h.passes != passes || h.lanes != lanes || len(h.salt) != saltBytes || len(h.key) != keyBytes
}

func (h phc) matches(prepared []byte) bool {
	key := argon2.IDKey(prepared, h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

// compute makes the hash of a prepared password, with a salt of its own.
func compute(prepared []byte) phc {
	h := phc{memory: memoryKiB, passes: passes, lanes: lanes, salt: random(saltBytes)}
	h.key = argon2.IDKey(prepared, h.salt, h.passes, h.memory, h.lanes, keyBytes)
	return h
}

// Decoy is a hash that no password matches, and that takes exactly as long to check as a real one: for a username that nobody has. Making it
// costs nothing, since its key is drawn rather than computed.
func Decoy() string {
	return phc{memory: memoryKiB, passes: passes, lanes: lanes, salt: random(saltBytes), key: random(keyBytes)}.String()
}

// Check says whether hash is one that can be checked: argon2id, version 19, in the PHC string format, within bounds. ErrMalformed otherwise.
func Check(hash string) error {
	_, err := parse(hash)
	return err
}

func parse(s string) (phc, error) {
	var h phc
	malformed := func(what string) (phc, error) { return phc{}, fmt.Errorf("%w: %s", ErrMalformed, what) }
	if len(s) > maxHash {
		return malformed("it is too long")
	}
	fields := strings.Split(s, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" {
		return malformed("it does not begin with $argon2id$ or has not its five parts")
	}
	if fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return malformed("its version is not " + strconv.Itoa(argon2.Version))
	}
	parameters := strings.Split(fields[3], ",")
	if len(parameters) != 3 {
		return malformed("its parameters are not m, t and p")
	}
	for i, p := range []struct {
		name      string
		from, max uint64
		set       func(uint64)
	}{
		{"m=", 8, maxMemoryKiB, func(v uint64) { h.memory = uint32(v) }},
		{"t=", 1, maxPasses, func(v uint64) { h.passes = uint32(v) }},
		{"p=", 1, maxLanes, func(v uint64) { h.lanes = uint8(v) }},
	} {
		digits, ok := strings.CutPrefix(parameters[i], p.name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || v < p.from || v > p.max || strconv.FormatUint(v, 10) != digits {
			return malformed(fmt.Sprintf("parameter %d is not %sN with N from %d to %d", i+1, p.name, p.from, p.max))
		}
		p.set(v)
	}
	var err error
	if h.salt, err = part(fields[4], minSalt); err != nil {
		return malformed("salt: " + err.Error())
	}
	if h.key, err = part(fields[5], minKey); err != nil {
		return malformed("hash: " + err.Error())
	}
	return h, nil
}

func part(s string, least int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not base64 without padding")
	}
	if len(b) < least || len(b) > maxPart || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%d bytes are not %d to %d", len(b), least, maxPart)
	}
	return b, nil
}
