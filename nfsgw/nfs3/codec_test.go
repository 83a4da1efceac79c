package nfs3

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

type codec interface {
	Append([]byte) []byte
	Decode([]byte) error
}

var (
	testFH    = Handle{Volume: 1 << 40, File: 7, Gen: 3}.Bytes()
	testAttr  = Attr{nfs.FileTypeRegular, 0o4755, 1, 2, 3, 4, 8192, [2]uint32{5, 6}, 7, 8, Time{9, 10}, Time{11, 12}, Time{13, 14}}
	testPost  = PostOp{true, testAttr}
	testWcc   = Wcc{true, 77, Time{1, 2}, Time{3, 4}, testPost}
	testName  = NameArgs{testFH, "name"}
	testSet   = SetAttrs{new(uint32(0o644)), new(uint32(1)), new(uint32(2)), new(uint64(3)), TimeServer, TimeClient, Time{}, Time{5, 6}}
	testEntry = Entry{5, "entry", 9, PostOp{}, nil}
	testPlus  = Entry{5, "plus", 9, testPost, testFH}
)

// allArgs are one of each procedure's arguments, with every arm of every union.
func allArgs() []codec {
	return []codec{
		&HandleArgs{testFH}, &testName,
		&SetAttrArgs{testFH, testSet, new(Time{1, 2})}, &SetAttrArgs{testFH, SetAttrs{}, nil},
		&AccessArgs{testFH, 63}, &ReadArgs{testFH, 1 << 63, 4096},
		&WriteArgs{testFH, 5, FileSync, []byte("abcde")}, &WriteArgs{testFH, 5, Unstable, []byte{}},
		&CreateArgs{testName, Unchecked, testSet, 0}, &CreateArgs{testName, Guarded, SetAttrs{}, 0},
		&CreateArgs{testName, Exclusive, SetAttrs{}, 0x0102030405060708},
		&MkDirArgs{testName, testSet}, &SymlinkArgs{testName, testSet, "../target"},
		&MkNodArgs{testName, nfs.FileTypeBlock, testSet, [2]uint32{8, 1}},
		&MkNodArgs{testName, nfs.FileTypeFIFO, testSet, [2]uint32{}}, &MkNodArgs{NameArgs: testName, Type: nfs.FileTypeRegular},
		&RenameArgs{testName, NameArgs{testFH, "other"}}, &LinkArgs{testFH, testName},
		&ReadDirArgs{testFH, 3, 0, 4096}, &ReadDirPlusArgs{testFH, 3, 0, 512, 4096},
		&PathArgs{"/volume/dir"},
	}
}

// allResults are results of each procedure, good and bad.
func allResults() []codec {
	const bad = nfs.NFSStatusStale
	return []codec{
		&GetAttrRes{0, testAttr}, &GetAttrRes{Status: bad},
		&WccRes{0, testWcc}, &WccRes{bad, Wcc{After: testPost}}, &WccRes{Status: bad},
		&LookupRes{0, testFH, testPost, testPost}, &LookupRes{Status: bad, Dir: testPost},
		&AccessRes{0, testPost, 7}, &AccessRes{Status: bad},
		&ReadLinkRes{0, testPost, []byte("target")}, &ReadLinkRes{Status: bad, Obj: testPost},
		&ReadRes{0, testPost, true, []byte("abc")}, &ReadRes{0, PostOp{}, false, []byte{}}, &ReadRes{Status: bad},
		&WriteRes{0, testWcc, 3, DataSync, 99}, &WriteRes{Status: bad, Wcc: testWcc},
		&CreateRes{0, testFH, testPost, testWcc}, &CreateRes{Status: bad, Dir: testWcc}, &CreateRes{},
		&RenameRes{0, testWcc, Wcc{}}, &RenameRes{bad, testWcc, testWcc},
		&LinkRes{0, testPost, testWcc}, &LinkRes{Status: bad},
		&ReadDirRes{false, 0, testPost, 1, []Entry{testEntry, testEntry}, true}, &ReadDirRes{Status: bad, Dir: testPost},
		&ReadDirRes{true, 0, testPost, 1, []Entry{testPlus, testEntry}, false}, &ReadDirRes{Plus: true, EOF: true},
		&FSStatRes{0, testPost, 1, 2, 3, 4, 5, 6, 7}, &FSStatRes{Status: bad},
		&FSInfoRes{0, testPost, 1, 2, 3, 4, 5, 6, 7, 8, Time{0, 1}, 9}, &FSInfoRes{Status: bad},
		&PathConfRes{0, testPost, 1, 2, true, false, true, false}, &PathConfRes{Status: bad},
		&CommitRes{0, testWcc, 5}, &CommitRes{Status: bad},
		&MntRes{0, testFH, []uint32{1}}, &MntRes{Status: nfs.MountStatusErrNoEnt},
		&DumpRes{[]Mount{{"host", "/a"}, {"", "/b"}}}, &DumpRes{},
		&ExportRes{[]Export{{"/a", nil}, {"/b", []string{"x", "y"}}}}, &ExportRes{},
	}
}

// fresh is an empty value of v's type, with what Decode has to know beforehand.
func fresh(v codec) codec {
	n := reflect.New(reflect.TypeOf(v).Elem()).Interface().(codec)
	if r, ok := v.(*ReadDirRes); ok {
		n.(*ReadDirRes).Plus = r.Plus
	}
	return n
}

// TestCodec_RoundTrip: everything decodes to what was encoded; every cut and one word more is an
// error.
func TestCodec_RoundTrip(t *testing.T) {
	for i, v := range append(allArgs(), allResults()...) {
		t.Run(fmt.Sprintf("%d %T", i, v), func(t *testing.T) {
			b := v.Append([]byte("before"))[6:]
			if len(b)%4 != 0 {
				t.Errorf("%d bytes: XDR is multiples of 4", len(b))
			}
			got := fresh(v)
			if err := got.Decode(b); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, v) {
				t.Errorf("got\n%+v, want\n%+v", got, v)
			}
			for n := range len(b) {
				if err := fresh(v).Decode(b[:n]); !errors.Is(err, rpc.ErrXDR) {
					t.Errorf("%d of %d bytes: %v", n, len(b), err)
				}
			}
			if err := fresh(v).Decode(append(b, 0, 0, 0, 0)); err == nil {
				t.Error("takes bytes behind the end")
			}
		})
	}
}

// TestCodec_Wire compares with bytes worked out by hand from RFC 1813.
func TestCodec_Wire(t *testing.T) {
	for _, tc := range []struct {
		v    codec
		want string
	}{
		{&ReadArgs{[]byte{1, 2, 3}, 2, 3}, "0000000301020300" + "0000000000000002" + "00000003"},
		{&WriteArgs{[]byte{1}, 2, FileSync, []byte("ab")}, "0000000101000000" + "0000000000000002" + "00000002" + "00000002" + "0000000261620000"},
		{&CreateArgs{NameArgs: NameArgs{[]byte{}, "x"}, How: Exclusive, Verifier: 9}, "00000000" + "0000000178000000" + "00000002" + "0000000000000009"},
		{&LinkArgs{[]byte{1}, NameArgs{[]byte{2}, "y"}}, "0000000101000000" + "0000000102000000" + "0000000179000000"},
		{&SetAttrArgs{[]byte{}, SetAttrs{Size: new(uint64(5)), MtimeHow: TimeServer}, nil},
			"00000000" + "000000000000000000000000" + "000000010000000000000005" + "00000000" + "00000001" + "00000000"},
		{&WccRes{Status: 70}, "00000046" + "00000000" + "00000000"},
		{&CommitRes{Verifier: 3}, "00000000" + "00000000" + "00000000" + "0000000000000003"},
	} {
		if got := fmt.Sprintf("%x", tc.v.Append(nil)); got != tc.want {
			t.Errorf("%T: %s, want %s", tc.v, got, tc.want)
		}
	}
}

// TestCodec_Refused: values that the protocol does not have.
func TestCodec_Refused(t *testing.T) {
	long := rpc.AppendOpaque(nil, make([]byte, 65))
	write := (&WriteArgs{testFH, 0, Unstable, []byte("abcd")}).Append(nil)
	count, stable := bytes.Clone(write), bytes.Clone(write)
	count[4+HandleBytes+8+3]++
	stable[4+HandleBytes+12+3] = 3
	how := (&CreateArgs{NameArgs: testName, How: Exclusive}).Append(nil)
	how[len(how)-9] = 3
	for name, tc := range map[string]struct {
		v codec
		b []byte
	}{
		"long handle":  {&HandleArgs{}, long},
		"write count":  {&WriteArgs{}, count},
		"stable how":   {&WriteArgs{}, stable},
		"create how":   {&CreateArgs{}, how},
		"long name":    {&NameArgs{}, rpc.AppendOpaque(rpc.AppendOpaque(nil, testFH), make([]byte, MaxNameBytes+1))},
		"bool":         {&CommitRes{}, bytes.Repeat([]byte{0, 0, 0, 2}, 10)},
		"huge length":  {&HandleArgs{}, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		"huge payload": {&WriteArgs{}, append(write[:len(write)-8:len(write)-8], 0xff, 0xff, 0xff, 0xff)},
	} {
		if err := tc.v.Decode(tc.b); !errors.Is(err, rpc.ErrXDR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadDataOffset: the place where servers read data to is where Append puts it.
func TestReadDataOffset(t *testing.T) {
	r := ReadRes{Obj: testPost, Data: []byte("data")}
	if b := r.Append(nil); string(b[ReadDataOffset:]) != "data" {
		t.Errorf("data is not at %d in %x", ReadDataOffset, b)
	}
}

// TestDirWriter: the limits are counted exactly: with one byte less an entry does not fit (RFC
// 1813 §3.3.16, §3.3.17).
func TestDirWriter(t *testing.T) {
	all := ReadDirRes{Plus: true, Dir: testPost, Entries: []Entry{testPlus, testPlus}, EOF: true}
	max := len(all.Append(nil)) - 4
	dir := 2 * (8 + 8 + 8) // file id, "plus" with its length, cookie
	for _, tc := range []struct {
		plus              bool
		dirBytes, maxByte int
		fit               int
	}{
		{true, dir, max, 2}, {true, dir, max - 1, 1}, {true, dir - 1, max, 1}, {true, 0, max, 1},
		{true, dir, 100, 0}, {true, dir, 0, 0},
		{false, 0, 88 + 8 + 2*(4+24) + 8, 2}, {false, 0, 88 + 8 + 2*(4+24) + 7, 1},
	} {
		w := NewDirWriter([]byte("xx"), tc.plus, &testPost, 0, tc.dirBytes, tc.maxByte)
		fit := 0
		for fit < 2 && w.Add(&testPlus) {
			fit++
		}
		b, ok := w.End(fit == 2)
		if fit != tc.fit || ok != (fit > 0) || ok && len(b)-2-4 > tc.maxByte {
			t.Errorf("%+v: %d fit, %d bytes, %v", tc, fit, len(b)-6, ok)
		}
	}
	w := NewDirWriter(nil, false, &testPost, 0, 0, 88+8+8)
	if _, ok := w.End(true); !ok {
		t.Error("an empty list does not fit its size")
	}
}

func TestHandle(t *testing.T) {
	h := Handle{1, 2, 3}
	if got := fmt.Sprintf("%x", h.Bytes()); got != "01000000"+"0000000000000001"+"0000000000000002"+"00000003" {
		t.Error(got)
	}
	if got, err := ParseHandle(h.Bytes()); err != nil || got != h {
		t.Error(got, err)
	}
	for _, b := range [][]byte{nil, h.Bytes()[:23], append(h.Bytes(), 0), append([]byte{2}, h.Bytes()[1:]...), append([]byte{1, 1}, h.Bytes()[2:]...)} {
		if _, err := ParseHandle(b); !errors.Is(err, ErrBadHandle) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func TestTime(t *testing.T) {
	const last = 1<<32 - 1
	for ns, want := range map[int64]Time{
		0: {}, -1: {}, 1_500_000_000: {1, 500_000_000}, last * 1e9: {last, 0}, 1 << 62: {last, 999_999_999},
	} {
		if got := TimeOf(ns); got != want {
			t.Errorf("%d: %v, want %v", ns, got, want)
		}
	}
	if got := (Time{3, 4}).Nanoseconds(); got != 3_000_000_004 {
		t.Error(got)
	}
}

// fuzz decodes b as every one of vs: no panic, and what decodes encodes to as many bytes and to
// the same value again. (The bytes may differ in padding alone.)
func fuzz(t *testing.T, vs []codec, b []byte) {
	for _, v := range vs {
		got := fresh(v)
		if got.Decode(b) != nil {
			continue
		}
		again := got.Append(nil)
		if len(again) != len(b) {
			t.Fatalf("%T: %d bytes became %d", v, len(b), len(again))
		}
		twice := fresh(v)
		if err := twice.Decode(again); err != nil || !reflect.DeepEqual(got, twice) {
			t.Fatalf("%T: %v:\n%+v\n%+v", v, err, got, twice)
		}
	}
}

func FuzzArgs(f *testing.F) {
	for _, v := range allArgs() {
		f.Add(v.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) { fuzz(t, allArgs(), b) })
}

func FuzzResults(f *testing.F) {
	for _, v := range allResults() {
		f.Add(v.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) { fuzz(t, allResults(), b) })
}
