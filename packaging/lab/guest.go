package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"trinas/packaging/lab/guest"
)

// maxGuests is how many guests a lab may run in its life: what host numbers are left.
const maxGuests = 250 - MaxNodes

// RunGuest runs a machine with a kernel of its own on the lab's network, from where it reaches every
// node by its address, and returns the exit status of its program. The lab fills in what places the
// machine: Dir, Prefix, Tap and Address; prepare is called before the boot, when Dir is known.
func (l *Lab) RunGuest(ctx context.Context, m *guest.Machine, prepare func() error) (status int, err error) {
	number := int(l.guests.Add(1))
	if number > maxGuests {
		return 0, fmt.Errorf("a lab runs %d guests at most", maxGuests)
	}
	hub := l.net.hub.NS
	m.Tap = fmt.Sprintf("guest%d", number)
	m.Dir = filepath.Join(l.Dir, m.Tap)
	m.Prefix = []string{"ip", "netns", "exec", hub}
	m.Address = hostAddress(MaxNodes+number-1) + "/24"
	if err := prepare(); err != nil {
		return 0, err
	}
	// The tap device has to offer checksums and segments of the virtio kind (vnet_hdr), which the
	// kernel's vector driver uses.
	if err := runAll(ctx, "ip -n "+hub+" tuntap add dev "+m.Tap+" mode tap vnet_hdr"); err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		err = errors.Join(err, runAll(ctx, "ip -n "+hub+" link del "+m.Tap))
	}()
	if err := runAll(ctx, "ip -n "+hub+" link set "+m.Tap+" master br0 up"); err != nil {
		return 0, err
	}
	return m.Run(ctx)
}
