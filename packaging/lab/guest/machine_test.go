package guest

import (
	"bufio"
	"slices"
	"strings"
	"testing"
)

// Goal: lines come out one by one; the status is found also behind output without a line's end, and
// output that ends without it is an error, not status 0.
func TestMachine_Follow(t *testing.T) {
	long := strings.Repeat("x", maxLineBytes+10)
	tests := []struct {
		name, out string
		lines     []string
		status    int
		fails     bool
	}{
		{name: "lines", out: "a\n\nb\n" + endMark + "3\n", lines: []string{"a", "", "b"}, status: 3},
		{name: "no line's end", out: "a" + endMark + "0\n", lines: []string{"a"}},
		{name: "long line", out: long + "\n" + endMark + "0\n", lines: []string{long[:maxLineBytes], long[maxLineBytes:]}},
		{name: "ended early", out: "a\nb", lines: []string{"a", "b"}, fails: true},
		{name: "bad status", out: endMark + "x\n", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var lines []string
			m := Machine{Line: func(s string) { lines = append(lines, s) }}
			status, err := m.follow(bufio.NewReaderSize(strings.NewReader(tt.out), maxLineBytes), make(chan struct{}))
			if (err != nil) != tt.fails || status != tt.status {
				t.Errorf("status %d, %v; want %d", status, err, tt.status)
			}
			if !slices.Equal(lines, tt.lines) {
				t.Errorf("%d lines: %.40q", len(lines), lines)
			}
		})
	}
}
