package main

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// world is what the steps of a check share.
type world struct {
	nfs   bool
	held  map[string]int         // descriptors by name (hold)
	marks map[string]unix.Stat_t // attributes by path (mark)
}

func (w *world) close() {
	for _, fd := range w.held {
		_ = unix.Close(fd)
	}
}

// step does one step:
//
//	[as UID:GID[,GROUP...]] CALL [ARGUMENT...] [= RESULT]
//
// RESULT is an errno's name, or what the call gives (text of a read, a link's target, names of a
// directory, attributes as KEY=VALUE ...); without it the call has to succeed. {x*255} is 255 times
// x; "" is the empty text. The calls are in syscalls.go.
func (w *world) step(text string) error {
	call, want, _ := strings.Cut(text, " = ")
	words := strings.Fields(call)
	for i := range words {
		words[i] = expand(words[i])
	}
	want = expand(strings.TrimSpace(want))
	var got string
	var err error
	do := func() { got, err = w.call(words[0], words[1:]) }
	if words[0] == "as" {
		who, parseErr := parseIdentity(words[1])
		if parseErr != nil {
			return parseErr
		}
		words = words[2:]
		if asErr := as(who, do); asErr != nil {
			return asErr
		}
	} else {
		do()
	}
	if errno := unix.Errno(0); errors.As(err, &errno) {
		got = unix.ErrnoName(errno)
	} else if err != nil {
		return err
	}
	if want == "" && (err != nil || strings.HasPrefix(text, "list")) || want != "" && !matches(got, want) {
		if want == "" {
			want = "success"
		}
		return fmt.Errorf("got %s, want %s", brief(got), brief(want))
	}
	return nil
}

// matches compares a result. Attributes only have to hold those that are wanted.
func matches(got, want string) bool {
	if !strings.Contains(got, "mode=") {
		return got == want || got == "" && want == `""`
	}
	have := strings.Fields(got)
	for _, attr := range strings.Fields(want) {
		if !slices.Contains(have, attr) {
			return false
		}
	}
	return true
}

func brief(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%q... (%d bytes)", s[:100], len(s))
	}
	return fmt.Sprintf("%q", s)
}

var repeated = regexp.MustCompile(`\{(.+?)\*(\d+)\}`)

// escaped is a byte as \xNN.
var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

func expand(word string) string {
	word = escaped.ReplaceAllStringFunc(word, func(s string) string {
		n, _ := strconv.ParseUint(s[2:], 16, 8) // digits, by the pattern
		return string([]byte{byte(n)})
	})
	return repeated.ReplaceAllStringFunc(word, func(s string) string {
		m := repeated.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2]) // digits, by the pattern
		return strings.Repeat(m[1], n)
	})
}

// identity is whom the kernel takes a thread for.
type identity struct {
	uid, gid int
	groups   []uint32 // supplementary
}

func parseIdentity(s string) (identity, error) {
	var who identity
	uid, gids, ok := strings.Cut(s, ":")
	numbers := strings.Split(gids, ",")
	n, err := strconv.Atoi(uid)
	if !ok || err != nil {
		return who, fmt.Errorf("%q is not UID:GID[,GROUP...]", s)
	}
	who.uid = n
	for i, text := range numbers {
		n, err := strconv.Atoi(text)
		if err != nil {
			return who, fmt.Errorf("%q is not UID:GID[,GROUP...]", s)
		}
		if i == 0 {
			who.gid = n
		} else {
			who.groups = append(who.groups, uint32(n))
		}
	}
	return who, nil
}

// as runs f with the rights of somebody else. Linux keeps rights per thread (credentials(7), "C
// library/kernel differences"): f has a thread of its own, which ends with it.
func as(who identity, f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread is not used again
		err := become(who)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}
