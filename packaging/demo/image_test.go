package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSameBytes(t *testing.T) {
	dir := t.TempDir()
	whole := make([]byte, 3<<20+5)
	whole[2<<20] = 7
	flipped := append([]byte(nil), whole...)
	flipped[2<<20+9] ^= 1
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a", whole)
	for name, test := range map[string]struct {
		bytes []byte
		want  string // part of the error; "": none
	}{
		"same":    {whole, ""},
		"flipped": {flipped, "from byte 2097161 on"},
		"shorter": {whole[:3<<20], "from byte 3145728 on"},
		"longer":  {append(append([]byte(nil), whole...), 0), "from byte 3145733 on"},
		"empty":   {nil, "from byte 0 on"},
	} {
		err := sameBytes(a, write(name, test.bytes))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
