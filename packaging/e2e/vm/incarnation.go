package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"trinas/packaging/lab/vm"
)

// incarnation is one boot of the guest: first on one machine, then on those that it moved to.
type incarnation struct {
	run      int
	machines []*vm.Machine
	since    uint64 // gaps are counted between records after this one
}

// said is what an incarnation has said so far.
type said struct {
	started bool
	found   uint64    // records that were there when it started
	last    uint64    // the last that it wrote, and was told so
	at      time.Time // when that was said
	written int       // how many it wrote
	skipped []uint64  // records that did not follow the one before
	refused []string  // lines
	broken  string
	longest time.Duration // between two records after since
	since   uint64
}

// machine is the one that it is on now.
func (i *incarnation) machine() *vm.Machine { return i.machines[len(i.machines)-1] }

// said reads the serial lines: what the machine before has said comes before what the next one says, and a line
// may begin on the one and end on the other.
func (i *incarnation) said() said {
	s := said{since: i.since}
	var line []byte
	for _, m := range i.machines {
		for _, c := range m.Console.Chunks() {
			in := bufio.NewReader(bytes.NewReader(c.Bytes))
			for {
				part, err := in.ReadBytes('\n')
				line = append(line, part...)
				if err != nil {
					break // the line goes on in the next chunk
				}
				s.hear(strings.TrimRight(string(line), "\r\n"), c.At)
				line = line[:0]
			}
		}
	}
	return s
}

func (s *said) hear(line string, at time.Time) {
	word, rest, _ := strings.Cut(line, " ")
	number, err := strconv.ParseUint(rest, 10, 64)
	switch {
	case word == "found" && err == nil && !s.started:
		s.started, s.found, s.last, s.at = true, number, number, at
	case word == "record" && err == nil:
		if number != s.last+1 {
			s.skipped = append(s.skipped, number)
		}
		if s.written > 0 && number > s.since {
			s.longest = max(s.longest, at.Sub(s.at))
		}
		s.last, s.at = number, at
		s.written++
	case !s.started && word != "broken": // whoever came before the program
	case word == "refused":
		s.refused = append(s.refused, line)
	default:
		if s.broken == "" {
			s.broken = fmt.Sprintf("%q", line)
		}
	}
}

// fault is what must never be: a line that is none, an error, a record that does not follow the one before.
func (s *said) fault() error {
	switch {
	case s.broken != "":
		return fmt.Errorf("the guest says: %s", s.broken)
	case len(s.skipped) > 0:
		return fmt.Errorf("%d records do not follow the one before, the first is %d", len(s.skipped), s.skipped[0])
	case len(s.refused) > 0:
		return fmt.Errorf("the guest says: %s", s.refused[0])
	}
	return nil
}
