package main

import (
	"os"
	"strings"
	"testing"
)

// Goal: what is linked and what debian/copyright says are the same.
func TestCopyright_Current(t *testing.T) {
	want, err := debianCopyright("../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../debian/copyright")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("debian/copyright does not tell what is linked now: make copyright, and look at what changed")
	}
	// The list is not empty by mistake: these are linked in any case.
	for _, name := range []string{"go", "go.etcd.io/raft/v3", "github.com/spf13/cobra"} {
		if !strings.Contains(want, "\nFiles: vendor/"+name+"/*\nCopyright: ") {
			t.Errorf("%s is missing", name)
		}
	}
	// Every licence that has no words of its own in the file must be one that Debian has.
	for paragraph := range strings.SplitSeq(want, "\n\n") {
		_, license, ok := strings.Cut(paragraph, "\nLicense: ")
		if ok && !strings.Contains(license, "\n ") && strings.TrimSpace(license) != common {
			t.Errorf("no words of the licence in:\n%s", paragraph)
		}
	}
}

// Goal: licences are told apart, and an unknown one is an error instead of a guess.
func TestIdentify(t *testing.T) {
	const bsd = "Redistribution and use in source\n and binary forms, with or without modification"
	for _, c := range []struct{ text, want string }{
		{"Apache License\n   Version 2.0, January 2004", "Apache-2.0"},
		{"the Apache License, Version 2.0", "Apache-2.0"},
		{"Permission is hereby granted, free of charge, to any person", "Expat"},
		{bsd, "BSD-2-clause"},
		{bsd + " may be used to\nendorse or promote", "BSD-3-clause"},
		{"Permission is hereby granted, free of charge and Apache License, Version 2.0", "Apache-2.0 and Expat"},
		{bsd + " may be used to endorse; the following acknowledgment: OpenSSL", ""},
		{"GNU General Public License", ""},
		{"", ""},
	} {
		got, err := identify(c.text)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("identify(%q) = %q, %v; want %q", c.text, got, err, c.want)
		}
	}
}

// Goal: claims of copyright are found in the forms that sources have them in, and templates are not.
func TestHolders(t *testing.T) {
	got, err := linked{name: "x"}.holders(
		"Copyright (c) 2012 The Go Authors. All rights reserved.\n",
		"// Copyright 2009 The Go Authors.\n// Copyright 2025 //\n",
		"Copyright © 2017, 2019-2020 VMware, Inc.  All rights reserved\n   Copyright [yyyy] [name of copyright owner]\n")
	if want := "2009-2012 The Go Authors|2017-2020 VMware, Inc"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("holders = %q, %v; want %s", got, err, want)
	}
	if got, _ := (linked{name: "x"}).holders(); strings.Join(got, "|") != "the authors of x" {
		t.Errorf("without a claim: %q", got)
	}
}
