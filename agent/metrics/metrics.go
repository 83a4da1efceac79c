// Package metrics shows what the node, the gateway and the load keeper have counted to Prometheus. It must never
// make them wait, keep figures of its own, or say anything of a file's content. packaging/grafana has a
// dashboard and alert rules for it.
//
// Names and units are by Prometheus' conventions (https://prometheus.io/docs/practices/naming): base
// units, _total for counters. Each node shows what it knows itself: its own log, gateway and machine, and
// of the volumes that it is the primary of all replicas.
//
// Floor 4: imports replica, nfsgw, agent/load.
package metrics

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"trinas/agent/load"
	"trinas/nfsgw"
	"trinas/replica"
	"trinas/replica/latency"
)

// Source is what is shown. Each function is called at every scrape and must not wait.
type Source struct {
	Version string
	Node    func() Node          // nil: belongs to no cluster yet
	Gateway func() *nfsgw.Server // nil: does not serve
	Load    func() *load.Report  // nil: not measured yet
}

// Node is what is asked of a node. *replica.Node is one.
type Node interface {
	Figures() replica.Figures
	Known() replica.Status
}

// maxScrapes is how many scrapes are answered at once; more are refused.
const maxScrapes = 4

// Handler answers scrapes.
func Handler(source Source) http.Handler {
	registry := Registry(source)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Registry: registry,
		ErrorHandling: promhttp.ContinueOnError}) // all that is well is shown
}

// Registry has everything that Handler shows: the product's metrics, and the Go runtime's and the process's.
func Registry(source Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{source: source})
	return r
}

// collector puts figures into metrics at each scrape.
type collector struct{ source Source }

// Describe is prometheus.Collector's. The volumes and nodes that there will be are not known beforehand.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector's.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	e := emitter{out}
	e.gauge("trinas_build_info", "The agent's version, as a label.", 1, "version", c.source.Version)
	if node := c.source.Node(); node != nil {
		figures, known := node.Figures(), node.Known()
		e.log(&figures, &known)
		e.cluster(&known)
		e.replicas(&figures)
		e.volumes(&known)
	}
	if gateway := c.source.Gateway(); gateway != nil {
		e.gateway(gateway.Figures())
	}
	if report := c.source.Load(); report != nil {
		e.machine(report)
		e.guests(report)
	}
}

// emitter makes metrics. Labels are pairs of names and values.
type emitter struct{ out chan<- prometheus.Metric }

func (e emitter) emit(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	names, values := split(labels)
	e.out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
}

func (e emitter) gauge(name, help string, value float64, labels ...string) {
	e.emit(prometheus.GaugeValue, name, help, value, labels)
}

func (e emitter) counter(name, help string, value float64, labels ...string) {
	e.emit(prometheus.CounterValue, name, help, value, labels)
}

// is is a gauge of 1 for yes and 0 for no.
func (e emitter) is(name, help string, yes bool, labels ...string) {
	value := 0.0
	if yes {
		value = 1
	}
	e.gauge(name, help, value, labels...)
}

// histogram shows every fourth bucket: 16 µs, 32 µs and so on to 67 s.
func (e emitter) histogram(name, help string, c *latency.Counts, labels ...string) {
	const first, step = 11, 4
	buckets, below := map[float64]uint64{}, uint64(0)
	for i, n := range c.Buckets {
		below += n
		if bound := latency.Bound(i); i >= first && (i-first)%step == 0 && bound != 0 {
			buckets[bound.Seconds()] = below
		}
	}
	names, values := split(labels)
	e.out <- prometheus.MustNewConstHistogram(prometheus.NewDesc(name, help, names, nil), below, c.Sum.Seconds(), buckets, values...)
}

func split(labels []string) (names, values []string) {
	for i := 0; i+1 < len(labels); i += 2 {
		names = append(names, labels[i])
		values = append(values, strings.ToValidUTF8(labels[i+1], "\uFFFD")) // names of files are any bytes
	}
	return names, values
}
