package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// license is one licence file of a module.
type license struct {
	name string // short name of DEP-5: "BSD-3-clause"
	text string // UTF-8
}

// marks tell licences apart: words of each, in lower case, without commas. A text is a licence's if
// it has both phrases and lacks the third.
var marks = []struct{ name, has, too, lacks string }{
	{"Apache-2.0", "apache license version 2.0", "", ""},
	{"Expat", "permission is hereby granted free of charge", "", ""},
	{"ISC", "purpose with or without fee is hereby granted", "", ""},
	{"MPL-2.0", "mozilla public license version 2.0", "", ""},
	{"BSD-3-clause", "redistribution and use in source and binary forms", "used to endorse", "acknowledgment"},
	{"BSD-2-clause", "redistribution and use in source and binary forms", "", "used to endorse"},
}

// identify names the licence of a text; several licences in one text are joined by "and".
func identify(text string) (string, error) {
	plain := strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return unicode.IsSpace(r) || r == ','
	}), " ")
	var names []string
	for _, m := range marks {
		if strings.Contains(plain, m.has) && strings.Contains(plain, m.too) &&
			(m.lacks == "" || !strings.Contains(plain, m.lacks)) {
			names = append(names, m.name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("the licence is none of those known")
	}
	return strings.Join(names, " and "), nil
}

// licenseFile and noticeFile are the usual names, at a module's root or beside a package.
var (
	licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([._-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice([._-].*)?$`)
)

// texts returns the licences that hold for the module's linked files, and its notices.
func (m linked) texts() (licenses []license, notices []string, err error) {
	for _, dir := range m.dirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			isLicense, isNotice := licenseFile.MatchString(e.Name()), noticeFile.MatchString(e.Name())
			if e.IsDir() || strings.HasSuffix(e.Name(), ".go") || !isLicense && !isNotice {
				continue
			}
			text, err := readText(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, nil, err
			}
			if isNotice {
				notices = append(notices, text)
				continue
			}
			name, err := identify(text)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w: add it to marks in license.go", filepath.Join(dir, e.Name()), err)
			}
			licenses = append(licenses, license{name, text})
		}
	}
	if len(licenses) == 0 {
		return nil, nil, fmt.Errorf("%s (%s) has no licence file", m.name, m.root)
	}
	return licenses, notices, nil
}

// notLinked is a directory whose licence is that of an object file, which is linked only with cgo and
// GOEXPERIMENT=boringcrypto.
const notLinked = "/src/crypto/internal/boring"

// dirs are the root and every directory between it and a linked file, sorted.
func (m linked) dirs() []string {
	dirs := []string{m.root}
	for _, f := range m.files {
		for dir := filepath.Dir(f); len(dir) > len(m.root); dir = filepath.Dir(dir) {
			if !strings.HasSuffix(dir, notLinked) {
				dirs = append(dirs, dir)
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// windows1252 has the characters that licence files were seen to use where Latin-1 has none.
var windows1252 = map[byte]rune{0x91: '‘', 0x92: '’', 0x93: '“', 0x94: '”', 0x95: '•', 0x96: '–'}

// readText reads a text that is UTF-8 or Windows-1252.
func readText(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := string(b)
	if !utf8.Valid(b) {
		var s strings.Builder
		for _, c := range b {
			r, known := windows1252[c]
			switch {
			case c < utf8.RuneSelf:
				r = rune(c)
			case c >= 0xa0: // as in Latin-1
				r = rune(c)
			case !known:
				return "", fmt.Errorf("%s: byte %#x is neither UTF-8 nor known of Windows-1252", path, c)
			}
			s.WriteRune(r)
		}
		text = s.String()
	}
	return strings.ReplaceAll(text, "\r\n", "\n"), nil
}

// notice is a line that claims copyright; "[yyyy]" of the Apache licence's appendix is none.
var (
	notice   = regexp.MustCompile(`(?im)^[\s/*#;"%.]*copyright:?\s+(?:\(c\)\s*|©\s*)?([0-9]{4}[0-9, -]*)\s*(?:by )?([^\n]+)$`)
	reserved = regexp.MustCompile(`(?i)all rights reserved.*`)
	year     = regexp.MustCompile(`[0-9]{4}`)
)

// holders returns "years holder" for everyone who claims copyright in the texts or the module's linked
// files; the years are the first and the last. The standard library's have no years: they differ
// between releases of Go, and which one builds is not ours to say.
func (m linked) holders(texts ...string) ([]string, error) {
	years := map[string][]string{}
	for _, f := range m.files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(b))
	}
	for _, text := range texts {
		for _, claim := range notice.FindAllStringSubmatch(text, -1) {
			who := strings.TrimRight(reserved.ReplaceAllString(claim[2], ""), " ./,\r")
			if who != "" {
				years[who] = append(years[who], year.FindAllString(claim[1], -1)...)
			}
		}
	}
	var holders []string
	for who, ys := range years {
		first, last := slices.Min(ys), slices.Max(ys)
		if first != last {
			first += "-" + last
		}
		if m.name == toolchain {
			holders = append(holders, who)
			continue
		}
		holders = append(holders, first+" "+who)
	}
	if len(holders) == 0 {
		holders = []string{"the authors of " + m.name}
	}
	slices.Sort(holders)
	return holders, nil
}
