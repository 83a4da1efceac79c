package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as a whole number and a unit: "64MiB".
type Size int64

// The units that a Size may be written in.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var units = [...]struct {
	name  string
	bytes Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}

// UnmarshalText reads "64MiB", "2 GiB" or "4096".
func (s *Size) UnmarshalText(b []byte) error {
	number, unit := strings.TrimSpace(string(b)), Size(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(unit) {
		return fmt.Errorf("%q is no size: write a whole number and KiB, MiB, GiB or TiB, such as \"64MiB\"", b)
	}
	*s = Size(n) * unit
	return nil
}

// MarshalText writes the size in the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Duration is a time.Duration, written as Go writes it: "100ms", "1m30s".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number and ms, s, m or h, such as \"100ms\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what String gives.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// Addresses are addresses with ports, written as a list of strings or, where it is one, as a string.
type Addresses []string

// SplitAddresses reads addresses with commas between, as a flag has them.
func SplitAddresses(text string) Addresses {
	var out Addresses
	for part := range strings.SplitSeq(text, ",") {
		out = append(out, strings.TrimSpace(part))
	}
	return out
}

// UnmarshalText reads what SplitAddresses reads.
func (a *Addresses) UnmarshalText(b []byte) error {
	*a = SplitAddresses(string(b))
	return nil
}

// String is the addresses with commas between.
func (a Addresses) String() string { return strings.Join(a, ",") }
