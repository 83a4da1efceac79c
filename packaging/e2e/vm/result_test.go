package main

import (
	"strings"
	"testing"
	"time"
)

// Goal: what was acknowledged and is not there, or is the other guest's, is found.
func TestCheck(t *testing.T) {
	disk := make([]byte, diskBytes)
	fill := func(from, to, run uint64) {
		for n := from; n <= to; n++ {
			record{n, run}.put(disk[(n-1)*recordBytes:][:recordBytes])
		}
	}
	fill(1, 10, 1)
	fill(11, 21, 2) // of the last nobody was told
	first, second := said{last: 9}, said{found: 10, last: 20}
	if err := check(disk, first, second); err != nil {
		t.Error(err)
	}
	tests := []struct {
		name   string
		spoil  func()
		first  said
		second said
		want   string
	}{
		{"the new guest found too few", func() {}, said{last: 11}, second, "records 11 to 11 are lost"},
		{"lost", func() { clear(disk[14*recordBytes:][:recordBytes]) }, first, second, "record 15 is lost"},
		{"the old guest wrote late", func() { fill(15, 15, 1) }, first, second, "is 15 of guest 1"},
		{"damaged", func() { disk[3*recordBytes+99]++ }, first, second, "record 4: damaged"},
		{"ahead", func() {}, first, said{found: 10, last: 19}, "record 21 is there"},
	}
	for _, tt := range tests {
		fill(1, 10, 1)
		fill(11, 21, 2)
		tt.spoil()
		if err := check(disk, tt.first, tt.second); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Goal: lines are read as the guest means them; a record that does not follow is noted.
func TestSaid_Hear(t *testing.T) {
	s := said{since: 5}
	at := time.Now()
	for i, line := range []string{"Booting", "found 4", "record 5", "record 6", "record 8", "refused 9 input/output error"} {
		s.hear(line, at.Add(time.Duration(i)*time.Second))
	}
	if s.found != 4 || s.last != 8 || s.written != 3 || s.longest != time.Second || len(s.refused) != 1 || s.broken != "" {
		t.Errorf("%+v", s)
	}
	if err := s.fault(); err == nil || !strings.Contains(err.Error(), "the first is 8") {
		t.Error(err)
	}
	if s.hear("recor", at); s.broken == "" {
		t.Error("half a line passes")
	}
}
