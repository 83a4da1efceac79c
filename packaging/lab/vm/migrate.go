package vm

import (
	"context"
	"fmt"
	"time"

	"trinas/packaging/lab"
)

// Migration is what QEMU says of a move (query-migrate).
type Migration struct {
	Downtime time.Duration // the machine stood still
	Total    time.Duration
	Bytes    int64 // of memory that went over
}

// downtimeLimit is how short QEMU must expect the standstill to be before it stops the machine: Proxmox's
// default (migrate_downtime of qm.conf(5)).
const downtimeLimit = 100 * time.Millisecond

// Migrate moves the machine, live, to one that was started with Incoming uri. It returns once to runs
// on, and this one stands still for good: end it by Kill.
func (m *Machine) Migrate(ctx context.Context, to *Machine, uri string) (Migration, error) {
	if err := m.qmp.do("migrate-set-parameters", map[string]any{"downtime-limit": downtimeLimit.Milliseconds()}, nil); err != nil {
		return Migration{}, err
	}
	if err := m.qmp.do("migrate", map[string]any{"uri": uri}, nil); err != nil {
		return Migration{}, err
	}
	var state struct {
		Status   string `json:"status"`
		Error    string `json:"error-desc"`
		Downtime int64  `json:"downtime"`   // ms
		Total    int64  `json:"total-time"` // ms
		RAM      struct {
			Transferred int64 `json:"transferred"`
		} `json:"ram"`
	}
	err := poll(ctx, func() (bool, error) {
		err := m.qmp.do("query-migrate", nil, &state)
		switch state.Status {
		case "failed", "cancelled":
			return false, fmt.Errorf("machine %s does not move to %s: %s: %s", m.Name, to.Name, state.Status, state.Error)
		}
		return state.Status == "completed", err
	})
	if err != nil {
		return Migration{}, err
	}
	var status struct {
		Running bool `json:"running"`
	}
	err = poll(ctx, func() (bool, error) {
		err := to.qmp.do("query-status", nil, &status)
		return status.Running, err
	})
	ms := time.Millisecond
	return Migration{time.Duration(state.Downtime) * ms, time.Duration(state.Total) * ms, state.RAM.Transferred}, err
}

// poll looks until it is done or fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(lab.PollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
