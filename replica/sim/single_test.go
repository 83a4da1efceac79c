package sim

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/volume"
)

// Goal: while a node starts, a request for a volume that it has the only replica of waits until
// the replica is open; it is never told that there is no such volume (NFS3ERR_STALE would fail
// the guest).
func TestCluster_SingleReplicaRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 9, 1)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		data := bytes.Repeat([]byte{9}, 4096)
		for round := range 20 {
			done := make(chan error, 1)
			c.Crash(1)
			c.Start(1)
			go func() {
				res, err := c.Do(1, vol, writeOp(f, 0, data), 30*time.Second)
				if err == nil && res.Err != volume.OK {
					t.Errorf("errno %d", res.Err)
				}
				done <- err
			}()
			if err := <-done; err != nil {
				t.Fatalf("round %d: write while starting: %v", round, err)
			}
		}
	})
}
