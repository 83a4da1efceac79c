package main

import (
	"context"
	"encoding/json"
	"fmt"

	"trinas/agent/control"
	"trinas/agent/drill"
	"trinas/agent/notify"
	"trinas/nfsgw/nfs3"
	"trinas/replica"
)

// answer answers the agents of all nodes (replica.Options.Answer).
func (d *daemon) answer(ctx context.Context, from, topic string, body []byte) ([]byte, error) {
	switch topic {
	case drill.Topic:
		d.mu.Lock()
		host := d.drilled
		d.mu.Unlock()
		if host == nil {
			return nil, fmt.Errorf("the agent is starting or stopping")
		}
		return host.Answer(ctx, from, body)
	case control.RebuildTopic:
		return d.answerRebuild(ctx, body)
	case eventsTopic:
		return d.answerEvents(body)
	}
	return nil, fmt.Errorf("the agent does not know what %q is: install the same version of trinas on all nodes", topic)
}

// answerRebuild has this node's replica of a volume made anew.
func (d *daemon) answerRebuild(ctx context.Context, body []byte) ([]byte, error) {
	var req control.RebuildRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("request to rebuild a replica: %w", err)
	}
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	return []byte("{}"), c.RebuildReplica(ctx, req.Volume, req.Discard)
}

// takePartInDrills lets this node strike and be struck, through its own gateway.
func (d *daemon) takePartInDrills(node *replica.Node) {
	address, privileged := d.gateway.Addrs()[0].String(), d.config.NFS.PrivilegedPorts
	d.drills = drill.NewHost(drill.HostOptions{
		Node: node,
		Gateway: func(ctx context.Context) (*nfs3.Client, error) {
			return nfs3.Dial(ctx, address, node.Name(), privileged)
		},
		Dir: d.config.DataDir, Lease: d.lease, Throttle: &d.throttle, Supervised: notify.Supervised(), Log: d.log.With("node", node.Name()),
	})
	d.setDrilled(d.drills)
}

func (d *daemon) setDrilled(host *drill.Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drilled = host
}

// leaveDrills ends this node's part; another start of the agent goes on with it.
func (d *daemon) leaveDrills() {
	if d.drills != nil {
		d.setDrilled(nil)
		d.drills.Close()
	}
}
