package sim

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/volume"
)

// damageCheckpoint changes one byte of a replica's checkpoint while its node is down.
func (c *Cluster) damageCheckpoint(node uint64, vol volume.ID) {
	c.t.Helper()
	c.Crash(node)
	if err := c.flipCheckpoint(node, vol); err != nil {
		c.t.Fatal(err)
	}
	c.Start(node)
}

func (c *Cluster) flipCheckpoint(node uint64, vol volume.ID) error {
	file, err := c.nodes[node-1].disk.FS().Sub(replica.VolumeDir(vol)).Open("checkpoint", disk.ReadWrite)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = file.ReadAt(b, 100)
	if err == nil {
		b[0] ^= 1
		_, err = file.WriteAt(b, 100)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Goal: a checkpoint that is damaged is never served: its replica stays out of service, and says which file, where
// and what to do, while its node serves through the others. Method: one byte is changed while the node is down.
func TestCluster_CheckpointDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 67, 3, func(o *replica.Options) { o.CheckpointInterval = time.Second })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.writeSlots(1, vol, f, 4, 0)
		time.Sleep(5 * time.Second)
		bad := c.Primary(vol)
		c.damageCheckpoint(bad, vol)
		time.Sleep(5 * time.Minute) // tried again, in vain
		state, reason := c.replicaState(vol, bad)
		if state != "Failed" {
			t.Errorf("a replica whose checkpoint is damaged is %s", state)
		}
		for _, part := range []string{replica.VolumeDir(vol) + "/checkpoint", "at byte 32", "trinas volume rebuild v"} {
			if !strings.Contains(reason, part) {
				t.Errorf("the reason %q does not say %q", reason, part)
			}
		}
		c.writeSlots(bad, vol, f, 4, 50)
		res, err := c.Do(bad, vol, readOp(f, 0, 65536), time.Second)
		if err != nil || res.Err != volume.OK || string(res.Data) != string(pattern(50)) {
			t.Errorf("read through node %d: %v, errno %d", bad, err, res.Err)
		}
	})
}
