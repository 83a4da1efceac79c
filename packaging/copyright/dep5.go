package main

import (
	"fmt"
	"slices"
	"strings"
)

const head = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: trinas
Comment:
 Made by "make copyright"; the build refuses one that is not up to date.
 .
 The binary is linked statically. Paths below vendor/ stand for the Go modules, and for the
 Go standard library (vendor/go), that are linked into it; the source package does not hold them.

Files: *
Copyright: 2026 trinas maintainers
License: Apache-2.0
`

const apache = `
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`

// common are licences whose text Debian has in /usr/share/common-licenses.
const common = "Apache-2.0"

// debianCopyright is the whole file, for the module at dir.
func debianCopyright(dir string) (string, error) {
	modules, err := linkedModules(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(head)
	for _, m := range modules {
		if err := m.write(&b); err != nil {
			return "", err
		}
	}
	b.WriteString(apache)
	return b.String(), nil
}

// write adds the module's paragraph. Licences other than common ones stand in it word for word, as
// they ask, since their texts differ by the holder's name.
func (m linked) write(b *strings.Builder) error {
	licenses, notices, err := m.texts()
	if err != nil {
		return err
	}
	var names, texts, claims []string
	for _, l := range licenses {
		if !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
		claims = append(claims, l.text)
		if l.name != common && !slices.Contains(texts, l.text) {
			texts = append(texts, l.text)
		}
	}
	holders, err := m.holders(append(claims, notices...)...)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\nFiles: vendor/%s/*\nCopyright: %s\n", m.name, strings.Join(holders, "\n "))
	if len(notices) > 0 {
		fmt.Fprintf(b, "Comment:\n%s", folded(strings.Join(notices, "\n\n")))
	}
	fmt.Fprintf(b, "License: %s\n%s", strings.Join(names, " and "), folded(strings.Join(texts, "\n\n")))
	return nil
}

// folded is text as the lines that continue a field: each begins with a space, and empty ones are
// a full stop.
func folded(text string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	var b strings.Builder
	empty := false
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		line = strings.TrimSpace(strings.ReplaceAll(line, "\t", " "))
		if line == "" {
			empty = true
			continue
		}
		if empty {
			b.WriteString(" .\n")
			empty = false
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}
