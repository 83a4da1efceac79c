package replica

import (
	"sync"
	"time"

	"trinas/replica/volume"
)

// A request that finds no primary waits. After a volume has had none for outageAfter the requester
// is asked whether to go on (volume.Op.OnHold); a failover is far shorter. A request that comes
// later is asked after its first holdTries tries, about 15 ms.
const (
	outageAfter = 2 * time.Second
	holdTries   = 3
	// outageGap ends an outage that no request has met for that long: nobody knows how it is now.
	// Waiting requests try every retryMost.
	outageGap = time.Second
)

// outages remembers since when volumes have no primary, as this node's requests meet it: that
// counts for nodes with and without a replica, and whatever keeps them from the primary.
type outages struct {
	mu       sync.Mutex
	byVolume map[volume.ID]outage
}

// outage is times of the node's clock: of the first request in a row that found no primary, and of
// the last.
type outage struct{ since, last time.Duration }

// meet notes that a request found no primary now, and returns for how long there has been none.
func (o *outages) meet(vol volume.ID, now time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, known := o.byVolume[vol]
	if !known || now-was.last > outageGap {
		was.since = now
	}
	if o.byVolume == nil || len(o.byVolume) > maxVolumes { // volumes that were deleted meanwhile
		o.byVolume = map[volume.ID]outage{}
	}
	o.byVolume[vol] = outage{since: was.since, last: now}
	return now - was.since
}

// end notes that a request was answered.
func (o *outages) end(vol volume.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byVolume, vol)
}
