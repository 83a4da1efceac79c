package config

import (
	"testing"
	"time"
)

func TestSize_Text(t *testing.T) {
	tests := []struct {
		text string
		want Size
		out  string // "": refused
	}{
		{"64MiB", 64 * MiB, "64MiB"}, {"2048 MiB", 2 * GiB, "2GiB"}, {"0", 0, "0"}, {"4096", 4 * KiB, "4KiB"},
		{"4097", 4097, "4097"}, {" 1TiB ", TiB, "1TiB"},
		// From 2^63 on: refused, not wrapped.
		{"9000000TiB", 0, ""}, {"8388608TiB", 0, ""}, {"99999999999999999999", 0, ""},
		{"", 0, ""}, {"MiB", 0, ""}, {"-1MiB", 0, ""}, {"1.5GiB", 0, ""}, {"64MB", 0, ""},
	}
	for _, tt := range tests {
		var s Size
		err := s.UnmarshalText([]byte(tt.text))
		if (err == nil) != (tt.out != "") {
			t.Errorf("%q: %v", tt.text, err)
		} else if err == nil && (s != tt.want || s.String() != tt.out) {
			t.Errorf("%q: got %d, %q", tt.text, s, s)
		}
	}
}

func TestDuration_Text(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("1m30s")); err != nil || time.Duration(d) != 90*time.Second || d.String() != "1m30s" {
		t.Errorf("got %v, %v", d, err)
	}
	if err := d.UnmarshalText([]byte("30")); err == nil {
		t.Error("a duration without a unit was accepted")
	}
}
