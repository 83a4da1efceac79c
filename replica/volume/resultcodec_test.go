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

// Goal: memory set aside for an answer is enough, and what stands before data is where the data are not.
func TestResult_Bytes(t *testing.T) {
	all := Change{Known: true, HasBefore: true, After: Attr{File: 1}}
	r := Result{Obj: all, Dir: all, Dir2: all, Space: Space{1, 2, 3}}
	if n := len(r.Encode(nil)); n > MaxResultHeadBytes {
		t.Errorf("%d bytes before the data, said to be at most %d", n, MaxResultHeadBytes)
	}
	groups := Cred{Groups: []uint32{1, 2, 3}}
	for _, c := range []struct {
		op   Op
		data int
	}{
		{Op{Kind: GetAttr, File: 1, Cred: groups}, 0},
		{Op{Kind: ReadLink, File: 1, Cred: groups}, maxName},
		{Op{Kind: Read, File: 1, Cred: groups, Count: 5000}, 5000},
		{Op{Kind: Read, File: 1, Count: MaxIOBytes + 1}, MaxIOBytes},
		{Op{Kind: ReadDir, File: 1, Cred: groups, Count: 10, Size: 3000}, 3000},
	} {
		enc, err := c.op.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := AnswerBytes(enc); n != MaxResultHeadBytes+c.data {
			t.Errorf("operation %d: %d bytes for its answer, want %d and the head", c.op.Kind, n, c.data)
		}
	}
	AnswerBytes([]byte{1, byte(Read)}) // whatever a node sends
	AnswerBytes(append(make([]byte, offGroups), 0xff, 0, 0, 0))
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
