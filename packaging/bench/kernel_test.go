package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
)

// The archive is the same each time, holds what writeTree says it does, and no folder comes after
// what is in it.
func TestWriteTree(t *testing.T) {
	var b, again bytes.Buffer
	const files = 300
	entries, err := writeTree(&b, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeTree(&again, files); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Fatalf("another archive the second time; %v", err)
	}
	if entries <= files {
		t.Errorf("%d entries of %d files and their folders", entries, files)
	}
	in := tar.NewReader(&b)
	seen := map[string]bool{"": true}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Typeflag == tar.TypeDir {
			name = name[:len(name)-1]
		}
		folder := name[:max(0, bytes.LastIndexByte([]byte(name), '/')+1)]
		if seen[h.Name] || !seen[folder] {
			t.Errorf("%s comes twice, or before its folder", h.Name)
		}
		seen[h.Name] = true
	}
	if got := len(seen) - 1; got != entries {
		t.Errorf("%d entries in the archive, %d said", got, entries)
	}
}

func TestParseRPCs(t *testing.T) {
	got, err := parseRPCs([]string{"CREATE", "500", "330", "NULL", "1", "0"})
	if err != nil {
		t.Fatal(err)
	}
	if got.sum() != 501 || got["CREATE"] != (rpcCount{500, 330}) {
		t.Errorf("%v", got)
	}
	if s := got.String(); s != "CREATE 500 x 0.66 ms" {
		t.Errorf("%q", s)
	}
	for _, bad := range [][]string{nil, {"CREATE", "1"}, {"CREATE", "x", "1"}, {"CREATE", "1", "x"}, {"A", "1", "1", "B"}} {
		if got, err := parseRPCs(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
