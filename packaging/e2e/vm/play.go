package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"trinas/packaging/lab/vm"
)

// enough is how many records show that the guest is at work.
const enough = 100

// downtimeGoal is for what QEMU reports of a move.
const downtimeGoal = 300 * time.Millisecond

// play is the whole scenario.
func (s *scenario) play() error {
	n1, n2 := s.nodes[0], s.nodes[1]
	host := n1.host()
	if err := host.MakeDirs(s.ctx, "/"+s.volume, "images", "100"); err != nil {
		return err
	}
	if _, err := host.Output(s.ctx, "qemu-img", "create", "-q", "-f", "raw", s.url(n1), strconv.Itoa(diskBytes)); err != nil {
		return err
	}
	if err := s.activate(n1); err != nil {
		return err
	}
	first, err := s.boot(n1, 1)
	if err != nil {
		return err
	}
	report("the guest writes on n1", s.goesOn(first))
	if err := s.travel(first); err != nil {
		return err
	}
	told, err := s.freeze(first)
	if err != nil {
		return err
	}
	second, err := s.takeOver(n2, told)
	if err != nil {
		return err
	}
	if err := s.bringBack(first, second.said().found); err != nil {
		return err
	}
	report("the new guest goes on", s.goesOn(second))
	second.machine().Kill()
	first.machine().Kill()
	report("the guest on n2 has ended", s.deactivate(n2))
	end := second.said()
	report("the new guest had no errors", end.fault())
	return s.compare(told, end)
}

// boot starts an incarnation and waits until it has looked at its disk.
func (s *scenario) boot(n *node, run int) (*incarnation, error) {
	m, err := s.start(n, fmt.Sprintf("run%d", run), run, "")
	if err != nil {
		return nil, err
	}
	i := &incarnation{run: run, machines: []*vm.Machine{m}}
	return i, s.await(fmt.Sprintf("the guest of run %d to boot", run), func() (bool, error) {
		said := i.said()
		select {
		case <-m.Ended():
			return false, fmt.Errorf("it has ended: %s", said.broken)
		default:
		}
		return said.started || said.broken != "", nil
	})
}

// goesOn waits for more records, and for no errors.
func (s *scenario) goesOn(i *incarnation) error {
	before := i.said().written
	return s.await("more records", func() (bool, error) {
		now := i.said()
		return now.written >= before+enough, now.fault()
	})
}

// travel moves the guest through all nodes and back to the first.
func (s *scenario) travel(guest *incarnation) error {
	var moves []move
	for i, from := range s.nodes {
		to := s.nodes[(i+1)%len(s.nodes)]
		name := from.Name + " to " + to.Name
		m, err := s.move(guest, from, to)
		if !report(name+": moved", err) {
			return fmt.Errorf("the guest is stuck on %s", from.Name)
		}
		report(name+": writes on", s.goesOn(guest))
		m.gap = guest.said().longest
		var slow error
		if m.Downtime >= downtimeGoal {
			slow = fmt.Errorf("QEMU reports %v", m.Downtime)
		}
		report(name+": downtime under "+downtimeGoal.String(), slow)
		moves = append(moves, m)
	}
	said := guest.said()
	report("no record was lost by moving", said.fault())
	printTable(moves)
	return nil
}

// move moves the guest live, as Proxmox does: the disk is activated where it goes to while it is active where
// it is.
func (s *scenario) move(guest *incarnation, from, to *node) (move, error) {
	if err := s.activate(to); err != nil {
		return move{}, err
	}
	uri := "tcp:" + to.Address + ":" + migratePort
	target, err := s.start(to, from.Name+"-"+to.Name, guest.run, uri)
	if err != nil {
		return move{}, err
	}
	source := guest.machine()
	guest.since = guest.said().last
	result, err := source.Migrate(s.ctx, target, uri)
	if err != nil {
		return move{}, err
	}
	guest.machines = append(guest.machines, target)
	source.Kill()
	return move{Migration: result}, s.deactivate(from)
}

// freeze pulls the cable of n1, where the guest is, and stops the guest's process. It returns what the
// guest has said until then.
func (s *scenario) freeze(guest *incarnation) (said, error) {
	if _, err := s.runner.Ask("primary", "n1"); err != nil {
		return said{}, err
	}
	if _, err := s.runner.Ask("cut", "n1"); !report("n1 is cut off", err) {
		return said{}, err
	}
	// A node that is cut off acknowledges nothing: the guest falls silent with a write under way.
	err := s.await("the guest to fall silent", func() (bool, error) {
		now := guest.said()
		return time.Since(now.at) > time.Second, now.fault()
	})
	report("its guest waits, and has no error", err)
	return guest.said(), guest.machine().Freeze()
}

// takeOver starts the guest anew, on n, as Proxmox HA does when it has declared the other node dead.
func (s *scenario) takeOver(n *node, old said) (*incarnation, error) {
	err := s.await("n1 to be shut out", func() (bool, error) {
		if err := s.activate(n); err != nil {
			return false, err
		}
		images, err := s.images(n)
		return len(images) == 1 && slices.Contains(images[0].Barred, "n1"), err
	})
	if err != nil {
		return nil, err
	}
	guest, err := s.boot(n, 2)
	if err != nil {
		return nil, err
	}
	found := guest.said()
	err = found.fault()
	if err == nil && found.found < old.last {
		err = fmt.Errorf("%d records of %d", found.found, old.last)
	}
	report("started on n2: every acknowledged record is there", err)
	fmt.Printf("= records acknowledged before n1 was cut off: %d; there on n2: %d\n", old.last, found.found)
	report("the new guest writes on n2", s.goesOn(guest))
	return guest, nil
}

// bringBack puts n1's cable back and lets the old guest go on. Of the write that was under way it may be told
// that it is done, if it was before the new guest has looked at the disk, at its first known records.
func (s *scenario) bringBack(old *incarnation, known uint64) error {
	before, err := s.timesFenced()
	if err != nil {
		return err
	}
	if _, err := s.runner.Ask("heal", "n1"); !report("n1 is back", err) {
		return err
	}
	if err := old.machine().Thaw(); err != nil {
		return err
	}
	err = s.await("the old guest to be refused", func() (bool, error) { return len(old.said().refused) >= 3, nil })
	if after := old.said(); err == nil && after.last > known {
		err = fmt.Errorf("it was told that record %d is written", after.last)
	}
	report("the old guest is refused, again and again", err)
	after, err := s.timesFenced()
	if err == nil && after != before+1 {
		err = fmt.Errorf("%d events image-fenced, and %d before", after, before)
	}
	report("n1 has said so once", err)
	return nil
}

// timesFenced is how often n1's agent has said that an image is fenced, in other scenarios too.
func (s *scenario) timesFenced() (int, error) {
	times, err := s.runner.Ask("logged", "n1", "image-fenced")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(times)
}
