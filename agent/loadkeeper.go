package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"trinas/agent/control"
	"trinas/agent/load"
	"trinas/nfsgw"
	"trinas/replica"
	"trinas/replica/latency"
)

// loadKeeper measures this machine's load every few seconds, tells it to the other nodes, and keeps what
// all of them have told for an hour, so that it can be asked for at any moment.
type loadKeeper struct {
	interval time.Duration
	node     *replica.Node
	gateway  func() *nfsgw.Server // nil: does not serve
	log      *slog.Logger

	// The goroutine's own.
	sampler *load.Sampler
	names   *imageNames
	writes  latency.Counts // of the log, at the last look
	looked  time.Time

	stopped context.CancelFunc
	ended   chan struct{}

	mu        sync.Mutex
	histories map[string]*load.History // by node
	newest    map[string]*load.Report  // not changed once it is here
}

// startLoadKeeper begins to measure.
func startLoadKeeper(interval time.Duration, dataDir string, node *replica.Node, gateway func() *nfsgw.Server, log *slog.Logger) *loadKeeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &loadKeeper{
		interval: interval, node: node, gateway: gateway, log: log,
		sampler: load.NewSampler(load.Options{DataDir: dataDir, Peers: node.PeerAddresses}),
		names:   &imageNames{node: node, log: log},
		stopped: cancel, ended: make(chan struct{}),
		histories: map[string]*load.History{}, newest: map[string]*load.Report{},
	}
	go k.run(ctx)
	return k
}

// stop ends it. A file system that hangs is not waited for longer than ctx lets.
func (k *loadKeeper) stop(ctx context.Context) {
	k.stopped()
	select {
	case <-k.ended:
	case <-ctx.Done():
	}
}

func (k *loadKeeper) run(ctx context.Context) {
	defer close(k.ended)
	defer k.names.stop()
	tick := time.NewTicker(k.interval)
	defer tick.Stop()
	for {
		k.look()
		k.node.Gather(ctx)
		k.hear()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look measures this machine and tells the others.
func (k *loadKeeper) look() {
	r, err := k.sampler.Sample()
	if err != nil {
		k.log.Warn("cannot measure this machine's load", "event", "load-unknown", "err", err)
		return
	}
	figures := k.node.Figures()
	span := time.Since(k.looked)
	if r.IntervalSec > 0 {
		writes := figures.LogWrites.Since(&k.writes)
		r.LogWrites = new(latencyOf(&writes, span))
	}
	if gateway := k.gateway(); gateway != nil {
		r.AddImages(k.images(gateway.TakeFiles(), span))
	}
	k.writes, k.looked = figures.LogWrites, time.Now()
	history := k.keep(k.node.Name(), &r)
	judged := load.Judge(&r, history)
	raw, err := json.Marshal(r)
	if err != nil { // no type of a report can fail to be encoded
		k.log.Warn("cannot measure this machine's load", "event", "load-unknown", "err", err)
		return
	}
	m := replica.Machine{Health: replica.Healthy, Reason: judged.Trouble, Busy: judged.Busy, Load: raw}
	if judged.Trouble != "" {
		m.Health = replica.Degraded
	}
	k.node.Tell(m)
}

// images puts the gateway's counts into rates.
func (k *loadKeeper) images(files []nfsgw.FileFigures, span time.Duration) []load.Image {
	out := make([]load.Image, 0, len(files))
	for i := range files {
		f := &files[i]
		image := load.Image{Reads: latencyOf(&f.Reads, span), Writes: latencyOf(&f.Writes, span),
			ReadBytesPerSec: perSec(f.ReadBytes, span), WriteBytesPerSec: perSec(f.WrittenBytes, span)}
		if image.Path = "other files"; f.File != 0 {
			image.Volume, image.Path = k.names.of(f.Volume, f.File)
		}
		out = append(out, image)
	}
	return out
}

func latencyOf(c *latency.Counts, span time.Duration) load.Latency {
	ms := func(q float64) float64 { return float64(c.Quantile(q).Microseconds()) / 1000 }
	return load.Latency{PerSec: perSec(c.Total(), span), P50Ms: ms(0.5), P99Ms: ms(0.99)}
}

// perSec leaves a digit after the point.
func perSec(n uint64, span time.Duration) float64 {
	return float64(int64(10*float64(n)/span.Seconds())) / 10
}

// hear takes in what the other nodes have told, and forgets those that are no members any more.
func (k *loadKeeper) hear() {
	members := map[string]bool{}
	for _, t := range k.node.Told() {
		members[t.Node] = true
		if t.Self || !t.Ever || len(t.Load) == 0 || t.Age > k.interval+time.Second {
			continue
		}
		r := &load.Report{}
		if err := json.Unmarshal(t.Load, r); err != nil {
			k.log.Debug("a node's load cannot be read", "peer", t.Node, "err", err)
			continue
		}
		k.keep(t.Node, r)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.newest {
		if !members[name] {
			delete(k.newest, name)
			delete(k.histories, name)
		}
	}
}

// keep makes r a node's newest report, and returns the node's history.
func (k *loadKeeper) keep(node string, r *load.Report) *load.History {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.histories[node]
	if h == nil {
		h = load.NewHistory(k.interval)
		k.histories[node] = h
	}
	h.Add(r)
	k.newest[node] = r
	return h
}

// own is this machine's newest report; nil: none yet.
func (k *loadKeeper) own() *load.Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest[k.node.Name()]
}

// load puts together what is known of all nodes, without asking any.
func (k *loadKeeper) load(history time.Duration) control.Load {
	now := time.Now()
	out := control.Load{IntervalSec: k.interval.Seconds(), Nodes: []control.NodeLoad{}, Volumes: []control.VolumeLoad{}}
	for _, t := range k.node.Told() {
		n := control.NodeLoad{Node: t.Node, Self: t.Self, Connected: t.Connected, Health: t.Health, HealthReason: t.Reason}
		k.mu.Lock()
		r, h := k.newest[t.Node], k.histories[t.Node]
		k.mu.Unlock()
		if r != nil {
			age := t.Age.Seconds()
			if t.Self {
				age = now.Sub(r.Time).Seconds()
			}
			n.Load, n.AgeSec = r, &age
			n.Answers = t.Connected && age < 3*k.interval.Seconds()
		}
		if h != nil && history > 0 {
			n.History = new(h.Since(now.Add(-history)))
		}
		out.Nodes = append(out.Nodes, n)
	}
	for _, v := range k.node.Known().Volumes {
		out.Volumes = append(out.Volumes, control.VolumeLoad{Volume: v.Name, Primary: v.Primary, UsedBytes: v.UsedBytes, FreeBytes: v.FreeBytes})
	}
	return out
}

// keepLoad begins to measure.
func (d *daemon) keepLoad(node *replica.Node) {
	keeper := startLoadKeeper(time.Duration(d.config.Load.Interval), d.config.DataDir, node, d.currentGateway, d.log)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load = keeper
}

// stopLoad ends that. What was measured can still be asked for.
func (d *daemon) stopLoad(ctx context.Context) {
	if d.load != nil {
		ctx, cancel := context.WithTimeout(ctx, besidesTimeout)
		defer cancel()
		d.load.stop(ctx)
	}
}
