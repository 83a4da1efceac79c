package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"trinas/packaging/lab/vm"
)

// published are the times of Table 3 of the paper that the drills are measured beside: a guest's move from
// node to node, the average of three rounds.
var published = [3]time.Duration{9700 * time.Millisecond, 3700 * time.Millisecond, 3 * time.Second}

// move is one live migration.
type move struct {
	vm.Migration
	gap time.Duration // the longest between two records meanwhile, as the host saw them come
}

func printTable(moves []move) {
	row := func(name string, cell func(i int) string) {
		line := fmt.Sprintf("= %-24s", name)
		for i := range moves {
			line += fmt.Sprintf("  %7s", cell(i))
		}
		fmt.Println(line)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
	ms := func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
	row("live migration", func(i int) string { return fmt.Sprintf("%d -> %d", i+1, (i+1)%len(moves)+1) })
	row("published, Table 3", func(i int) string { return seconds(published[i]) })
	row("total", func(i int) string { return seconds(moves[i].Total) })
	row("downtime (QEMU)", func(i int) string { return ms(moves[i].Downtime) })
	row("longest gap of records", func(i int) string { return ms(moves[i].gap) })
	row("memory sent", func(i int) string { return fmt.Sprintf("%d MiB", moves[i].Bytes>>20) })
}

// compare reads the whole disk through n3 and looks for every record: those that the first guest was told of
// are there; from where the second began all are its own; nothing else is there.
func (s *scenario) compare(first, second said) error {
	n3, copied := s.nodes[2], filepath.Join(s.dir, "copy.raw")
	if err := n3.host().Convert(s.ctx, s.url(n3), copied); err != nil {
		return err
	}
	disk, err := os.ReadFile(copied)
	if err != nil {
		return err
	}
	report("the disk, read through n3", check(disk, first, second))
	fmt.Printf("= %d records by the first guest, %d by the second\n", second.found, second.written)
	return nil
}

// check compares a disk with what the guests have said.
func check(disk []byte, first, second said) error {
	if len(disk) != diskBytes {
		return fmt.Errorf("%d bytes, not %d", len(disk), diskBytes)
	}
	if second.found < first.last {
		return fmt.Errorf("records %d to %d are lost", second.found+1, first.last)
	}
	for i := range uint64(maxRecords) {
		r, written, err := parse(disk[i*recordBytes:][:recordBytes])
		want := record{number: i + 1, run: 1}
		if want.number > second.found {
			want.run = 2
		}
		switch {
		case err != nil:
			return fmt.Errorf("record %d: %w", want.number, err)
		case !written && want.number <= second.last:
			return fmt.Errorf("record %d is lost; the last acknowledged is %d", want.number, second.last)
		case written && r != want:
			return fmt.Errorf("in place of record %d of guest %d is %d of guest %d", want.number, want.run, r.number, r.run)
		case written && want.number > second.last+1:
			return fmt.Errorf("record %d is there, and the guest was only at %d", want.number, second.last)
		}
	}
	return nil
}
