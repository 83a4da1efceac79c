package sim

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/volume"
)

// Goal: when one replica's disk is full, a write is refused with ENOSPC before anybody accepts it,
// so that nobody diverges; reads go on; when there is space again, so do writes.
func TestCluster_DiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 6, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		data := bytes.Repeat([]byte{1}, 4096)
		write := func(node uint64) volume.Errno {
			t.Helper()
			res, err := c.Do(node, vol, writeOp(f, 0, data), 5*time.Second)
			if err != nil {
				t.Fatalf("write through node %d: %v", node, err)
			}
			return res.Err
		}
		if e := write(1); e != volume.OK {
			t.Fatalf("write: errno %d", e)
		}
		full := c.Primary(vol)%3 + 1 // a secondary's disk
		c.nodes[full-1].disk.SetSpace(64 << 20)
		time.Sleep(time.Second) // its heartbeats tell the primary
		for node := uint64(1); node <= 3; node++ {
			if e := write(node); e != volume.ENOSPC {
				t.Errorf("write through node %d with a full secondary: errno %d, want ENOSPC", node, e)
			}
			if res, err := c.Do(node, vol, readOp(f, 0, 4096), time.Second); err != nil || !bytes.Equal(res.Data, data) {
				t.Errorf("read through node %d: %v, errno %d", node, err, res.Err)
			}
		}
		// A full replica that is gone holds up nobody.
		c.Net.Isolate(full)
		time.Sleep(time.Second)
		if e := write(full%3 + 1); e != volume.OK {
			t.Errorf("write without the full secondary: errno %d", e)
		}
		c.nodes[full-1].disk.SetSpace(0)
		c.Net.Rejoin(full)
		time.Sleep(time.Second)
		if e := write(2); e != volume.OK {
			t.Errorf("write with space again: errno %d", e)
		}
		c.waitUpToDate(vol)
	})
}

// Goal: an operation that was carried out is never told ENOSPC when it is sent again, since who asked for
// it would believe that nothing had happened. Method: a file is created, a disk is full then, and the same
// request comes again through each node, as after an answer that was lost; a new request is refused.
func TestCluster_RepeatedWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 12, 3)
		vol := c.Volume("v")
		create := func(node uint64, xid uint32) volume.Result {
			t.Helper()
			op := createOp(fmt.Sprintf("f%d", xid), volume.RequestID{Client: 7, XID: xid, Sum: xid})
			res, err := c.Do(node, vol, op, 5*time.Second)
			if err != nil {
				t.Fatalf("create through node %d: %v", node, err)
			}
			return res
		}
		first := create(1, 1)
		c.nodes[c.Primary(vol)%3].disk.SetSpace(64 << 20)
		time.Sleep(time.Second)
		for node := uint64(1); node <= 3; node++ {
			if res := create(node, 1); res.Err != volume.OK || res.Obj.After.File != first.Obj.After.File {
				t.Errorf("again through node %d: errno %d, file %d, want the first answer", node, res.Err, res.Obj.After.File)
			}
			if res := create(node, 2); res.Err != volume.ENOSPC {
				t.Errorf("another through node %d: errno %d, want ENOSPC", node, res.Err)
			}
		}
	})
}
