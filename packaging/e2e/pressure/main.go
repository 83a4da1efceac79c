// Command pressure is what scenario pressure runs beside its script:
//
//	pressure stream SEED BYTES   writes pseudo-random bytes, the same for the same seed
//	pressure tree FOLDER FILES   makes a tree of small files with such bytes
//	pressure hog LEFT SECONDS    takes memory until LEFT MiB are available, keeps all of it in use for
//	                             so many seconds, then takes more until the kernel kills it
package main

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pressure:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: pressure stream SEED BYTES | tree FOLDER FILES | hog LEFT SECONDS")
	}
	last, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	switch args[0] {
	case "tree":
		return tree(args[1], int(last))
	case "stream":
		seed, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{os.Stdout}, io.LimitReader(stream(seed), last), make([]byte, 1<<20))
		return err
	case "hog":
		left, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		return hog(left<<20, time.Duration(last)*time.Second)
	}
	return fmt.Errorf("unknown word %q", args[0])
}

// stream is an endless stream: AES in counter mode, over zeros.
func stream(seed uint64) io.Reader {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key's length is right
	}
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, 16)), R: zeros{}}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// tree makes files of 0 to 16 KiB, 64 to a folder.
func tree(folder string, files int) error {
	bytes := stream(1)
	for i := range files {
		dir := filepath.Join(folder, fmt.Sprintf("folder-%03d", i/64))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		content := make([]byte, i*7919%(16<<10))
		if _, err := io.ReadFull(bytes, content); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%05d", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// stepBytes is how much the hog takes at a time, and pause what it leaves to others in between: it
// is after the memory, not after the processor.
const (
	stepBytes = 1 << 20
	pause     = 5 * time.Millisecond
)

// hog maps its memory itself, outside of Go's heap, so that all of it is as hot as a guest's.
func hog(leftBytes int64, hold time.Duration) error {
	// The kernel's first choice when memory runs out: what pressure kills is never the agent's doing.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return err
	}
	total, err := meminfo("MemTotal:")
	if err != nil {
		return err
	}
	var taken [][]byte
	take := func() error {
		b, err := syscall.Mmap(-1, 0, stepBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return fmt.Errorf("take memory: %w", err)
		}
		taken = append(taken, b)
		touch(b)
		return nil
	}
	for end := time.Now().Add(hold); time.Now().Before(end); {
		available, err := meminfo("MemAvailable:")
		if err != nil {
			return err
		}
		if available > leftBytes+stepBytes {
			if err := take(); err != nil {
				return err
			}
			time.Sleep(pause)
			continue
		}
		for _, b := range taken {
			touch(b)
		}
		time.Sleep(10 * pause)
	}
	for int64(len(taken))*stepBytes < total {
		// All at once: taken slowly, the last of it leaves the kernel for a minute with too little
		// memory to keep any program's code, and yet not little enough to kill for.
		if err := take(); err != nil {
			return err
		}
	}
	return fmt.Errorf("took all %d bytes of memory and was not killed", total)
}

func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i]++
	}
}

// meminfo is a line of /proc/meminfo, in bytes.
func meminfo(name string) (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), name+" %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}
