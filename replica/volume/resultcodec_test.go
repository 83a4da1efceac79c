package volume

import (
	"reflect"
	"strings"
	"testing"
)

func sampleResults() []Result {
	a := Attr{
		File: 1, Gen: 2, Type: Regular, Mode: 0o4755, Nlink: 3, UID: 4, GID: 5, SizeBytes: 6, UsedBytes: 7,
		Rdev: [2]uint32{8, 9}, Atime: -10, Mtime: 11, Ctime: 12,
	}
	c := Change{Known: true, HasBefore: true, BeforeSize: 1, BeforeMtime: -2, BeforeCtime: 3, After: a}
	return []Result{
		{},
		{Err: EBADCOOKIE},
		{Obj: c, Dir: Change{Known: true, After: a}, Dir2: c, Access: 63, Verifier: 1 << 60},
		{EOF: true, Count: 5, Data: []byte("hello"), Obj: Change{Known: true, After: a}},
		{Space: Space{1, 2, 3}},
		{Entries: []DirEntry{{".", 1, a}, {strings.Repeat("n", NameBytes), 1 << 50, a}}},
	}
}

func TestResult_RoundTrip(t *testing.T) {
	for _, r := range sampleResults() {
		b := r.Encode([]byte("before"))[len("before"):]
		var got Result
		if err := got.Decode(b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("\n got %+v\nwant %+v", got, r)
		}
		for n := range b {
			if got.Decode(b[:n]) == nil {
				t.Errorf("decoded %d of %d bytes", n, len(b))
			}
		}
		b[0]++
		if err := got.Decode(b); err == nil || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("newer version: %v", err)
		}
	}
}

func FuzzResult_Decode(f *testing.F) {
	for _, r := range sampleResults() {
		f.Add(r.Encode(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Result
		if r.Decode(b) != nil {
			return
		}
		if err := again.Decode(r.Encode(nil)); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v\n%+v\n%+v", err, r, again)
		}
	})
}
