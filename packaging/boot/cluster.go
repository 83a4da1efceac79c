package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"trinas/agent/control"
	"trinas/packaging/lab"
	"trinas/replica"
)

// status asks a node's agent.
func (t *trial) status(ctx context.Context, m *lab.Machine) (st control.Status, err error) {
	out, err := m.Run(ctx, "trinas", "status", "--json")
	if err == nil {
		err = json.Unmarshal(out, &st)
	}
	if err == nil && (st.Status == nil || len(st.Volumes) != 1) {
		err = fmt.Errorf("%s has no volume yet", m.Name)
	}
	return st, err
}

func (t *trial) primary(ctx context.Context, m *lab.Machine) (string, error) {
	st, err := t.status(ctx, m)
	if err != nil {
		return "", err
	}
	return st.Volumes[0].Primary, nil
}

// settled waits until every node's agent runs and sees every replica UpToDate.
func (t *trial) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for _, m := range t.nodes {
		err := m.Await(ctx, "all replicas UpToDate", func() error {
			st, err := t.status(ctx, m)
			if err != nil {
				return err
			}
			if n := len(st.Volumes[0].Replicas); st.Agent.State != control.Running || n != len(t.nodes) {
				return fmt.Errorf("state %s, %d replicas", st.Agent.State, n)
			}
			for _, r := range st.Volumes[0].Replicas {
				if r.State != replica.UpToDate {
					return fmt.Errorf("the replica on %s is %s", r.Node, r.State)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lead makes a node the primary.
func (t *trial) lead(ctx context.Context, m *lab.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if now, err := t.primary(ctx, m); err != nil || now != m.Name {
		if _, err := m.Run(ctx, "trinas", "volume", "primary", volumeName, m.Name); err != nil {
			return err
		}
	}
	err := m.Await(ctx, "being the primary", func() error {
		if now, err := t.primary(ctx, m); err != nil || now != m.Name {
			return fmt.Errorf("the primary is %q (%v)", now, err)
		}
		return nil
	})
	return errors.Join(err, t.allGoOn(ctx))
}

// allGoOn waits until every writer has got an answer to a write that began after the call.
func (t *trial) allGoOn(ctx context.Context) error { return t.othersGoOn(ctx, nil) }

// othersGoOn is allGoOn without the writer of one node.
func (t *trial) othersGoOn(ctx context.Context, but *lab.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for i, w := range t.writers {
		if t.nodes[i] == but {
			continue
		}
		if err := w.goOn(ctx, t.nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) forgetGaps() {
	for _, w := range t.writers {
		_, _ = w.gap() // an error of the writer comes again with the next call
	}
}

// reportGaps tells the longest gap of all writers.
func (t *trial) reportGaps(what string, goal time.Duration) error {
	for i, w := range t.writers {
		gap, err := w.gap()
		if err != nil {
			return err
		}
		report(fmt.Sprintf("%s; longest gap on %s", what, t.nodes[i].Name), gap, goal)
	}
	return nil
}
