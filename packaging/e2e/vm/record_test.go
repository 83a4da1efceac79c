package main

import "testing"

// Goal: a record comes back as it was put; anything else but an empty block is damage.
func TestRecord(t *testing.T) {
	b := make([]byte, recordBytes)
	if _, written, err := parse(b); written || err != nil {
		t.Errorf("empty: %v, %v", written, err)
	}
	want := record{number: 70000, run: 2}
	want.put(b)
	if got, written, err := parse(b); got != want || !written || err != nil {
		t.Errorf("%v, %v, %v", got, written, err)
	}
	for _, at := range []int{0, 9, 100, recordBytes - 1} {
		b[at]++
		if _, _, err := parse(b); err == nil {
			t.Errorf("byte %d is another, and nothing said", at)
		}
		b[at]--
	}
}
