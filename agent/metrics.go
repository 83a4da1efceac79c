package main

import (
	"net"
	"net/http"

	"trinas/agent/load"
	"trinas/agent/metrics"
)

// serveMetrics shows the agent's metrics to Prometheus where metrics.listen says so. That it cannot is no
// reason to be without an agent.
func (d *daemon) serveMetrics() {
	address := d.config.Metrics.Listen
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		d.metricsEnded(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(metrics.Source{
		Version: versionText(), Node: d.metricsNode, Gateway: d.currentGateway, Load: d.ownLoad,
	}))
	d.metrics = serveWeb(l, mux, d.metricsEnded)
}

func (d *daemon) metricsEnded(err error) {
	d.log.Warn("metrics are not served", "event", "metrics-ended", "address", d.config.Metrics.Listen, "cause", err)
}

// metricsNode is the node, as an interface that is nil while there is none.
func (d *daemon) metricsNode() metrics.Node {
	if node := d.currentNode(); node != nil {
		return node
	}
	return nil
}

// ownLoad is this machine's newest report; nil: none yet.
func (d *daemon) ownLoad() *load.Report {
	d.mu.Lock()
	keeper := d.load
	d.mu.Unlock()
	if keeper == nil {
		return nil
	}
	return keeper.own()
}
