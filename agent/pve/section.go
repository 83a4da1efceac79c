package pve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// read gives a file of the cluster file system; nil when it is not there, as those that nobody has
// needed yet are.
func (d Dir) read(elem ...string) ([]byte, error) {
	path := filepath.Join(append([]string{string(d)}, elem...)...)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", path, maxFileBytes)
	}
	return b, nil
}

// section is an entry of a configuration file (PVE::SectionConfig):
//
//	KIND: ID
//		KEY VALUE
type section struct {
	kind, id string
	values   map[string]string // of a key without a value ""
}

var (
	sectionHead = regexp.MustCompile(`^(\S+):\s*(\S+)\s*$`)
	sectionLine = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
)

// parseSections reads the entries in their order. As in Proxmox, lines that are none are passed over.
func parseSections(raw []byte) []section {
	var out []section
	inside := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "#"):
		case line == "":
			inside = false
		case inside:
			if m := sectionLine.FindStringSubmatch(line); m != nil {
				out[len(out)-1].values[m[1]] = m[2]
			}
		default:
			if m := sectionHead.FindStringSubmatch(line); m != nil {
				out = append(out, section{kind: strings.ToLower(m[1]), id: m[2], values: map[string]string{}})
				inside = true
			}
		}
	}
	return out
}

// on reports whether a key that says yes or no says yes.
func (s *section) on(key string) bool {
	value, there := s.values[key]
	return there && value != "0"
}

// list splits a value as PVE::Tools::split_list does.
func list(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",; \t\x00", r) })
}
