package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trinas/packaging/lab/vm"
)

// This file is the program as the machine's first process. It says on the serial line:
//
//	found N          records 1 to N are on the disk when it starts
//	record N         record N was written: the disk has acknowledged it, with a flush
//	refused N WHY    it could not be; it is tried again
//	broken WHY       the end

const (
	pace       = 5 * time.Millisecond // between two records: about what a busy database commits, and no load
	tryAgain   = 100 * time.Millisecond
	diskDevice = "/dev/vda"
	readBytes  = 64 << 10
)

// inside never returns.
func inside() {
	err := work()
	fmt.Println("broken", err)
	for {
		time.Sleep(time.Hour) // a first process that ends is a kernel panic
	}
}

func work() error {
	for kind, folder := range map[string]string{"devtmpfs": "/dev", "proc": "/proc"} {
		if err := unix.Mount(kind, folder, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", folder, err)
		}
	}
	modules, err := filepath.Glob(vm.ModulesDir + "/*")
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := load(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	run, err := runNumber()
	if err != nil {
		return err
	}
	disk, err := unix.Open(diskDevice, unix.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", diskDevice, err)
	}
	// O_DIRECT wants it aligned.
	buffer, err := unix.Mmap(-1, 0, readBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	last, err := find(disk, buffer)
	if err != nil {
		return err
	}
	fmt.Println("found", last)
	return write(disk, buffer[:recordBytes], last, run)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// runNumber is what the kernel's command line says of this incarnation.
func runNumber() (uint64, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return 0, err
	}
	for _, word := range strings.Fields(string(b)) {
		if number, ok := strings.CutPrefix(word, "run="); ok {
			return strconv.ParseUint(number, 10, 64)
		}
	}
	return 0, errors.New("no run= on the kernel's command line")
}

// find gives the number of the last record.
func find(disk int, buffer []byte) (last uint64, err error) {
	for last < maxRecords {
		if _, err := unix.Pread(disk, buffer, int64(last)*recordBytes); err != nil {
			return 0, fmt.Errorf("read from record %d on: %w", last+1, err)
		}
		for block := range slices.Chunk(buffer, recordBytes) {
			r, written, err := parse(block)
			if err == nil && written && r.number != last+1 {
				err = fmt.Errorf("it says %d", r.number)
			}
			if err != nil || !written {
				return last, err
			}
			last++
		}
	}
	return last, nil
}

// write appends records until the disk is full.
func write(disk int, block []byte, last, run uint64) error {
	for number := last + 1; number <= maxRecords; {
		record{number, run}.put(block)
		if _, err := unix.Pwrite(disk, block, int64(number-1)*recordBytes); err != nil {
			fmt.Println("refused", number, err)
			time.Sleep(tryAgain)
			continue
		}
		fmt.Println("record", number)
		number++
		time.Sleep(pace)
	}
	return errors.New("the disk is full")
}
