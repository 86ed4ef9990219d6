package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Duration is a [time.Duration] that is written like Go's, and with days: "15m", "1h30m", "30d", "1d12h".
type Duration time.Duration

// Std is the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes the duration as ParseDuration reads it, in the largest units that it needs: "90d", "15m", "0s".
func (d Duration) String() string {
	days, rest := time.Duration(d)/day, time.Duration(d)%day
	switch {
	case d < 0 || days == 0:
		return short(time.Duration(d))
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	default:
		return fmt.Sprintf("%dd%s", days, short(rest))
	}
}

// short is the standard library's form without units that are nothing: 15m0s is 15m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler], for JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalYAML implements [yaml.Marshaler].
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

var (
	daysForm   = regexp.MustCompile(`^([0-9]{1,5})d(.*)$`) // five digits of days do not overflow
	digitsForm = regexp.MustCompile(`^[0-9]+$`)
)

// ParseDuration reads a duration as String writes it, or as the standard library does. It takes no sign: no setting is a
// time ago. A bare number other than 0 is refused, because it does not say what it counts.
func ParseDuration(s string) (Duration, error) {
	const forms = "write a duration such as 30s, 15m, 12h or 90d"
	switch {
	case s == "0":
		return 0, nil
	case digitsForm.MatchString(s):
		return 0, fmt.Errorf("%s has no unit; write %ss for seconds", s, s)
	case strings.HasPrefix(s, "-"):
		return 0, fmt.Errorf("%q is negative; %s", s, forms)
	}
	var total time.Duration
	if m := daysForm.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, err
		}
		total = time.Duration(n) * day
		if m[2] == "" {
			return Duration(total), nil
		}
		s = m[2]
	}
	rest, err := time.ParseDuration(s)
	if err != nil || rest < 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a duration; %s", s, forms)
	}
	if total += rest; total < 0 {
		return 0, errors.New("is too long")
	}
	return Duration(total), nil
}
