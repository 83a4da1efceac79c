package metrics

import (
	"strconv"

	"trinas/agent/load"
)

// machine shows the machine's load, over the last load.interval.
func (e emitter) machine(r *load.Report) {
	e.gauge("trinas_machine_cpu_ratio", "Share of all processors' time that was neither idle nor waiting.", r.CPUPercent/100)
	e.gauge("trinas_machine_io_delay_ratio", "Share of all processors' time that was waiting for a disk.", r.IODelayPercent/100)
	e.gauge("trinas_machine_load1", "Load average over one minute.", r.LoadAverage[0])
	e.gauge("trinas_machine_memory_used_bytes", "Memory that could not be had for another program.", float64(r.Memory.UsedBytes))
	e.gauge("trinas_machine_memory_size_bytes", "The machine's memory.", float64(r.Memory.TotalBytes))
	e.gauge("trinas_machine_swap_used_bytes", "Swap space in use.", float64(r.Swap.UsedBytes))
	e.gauge("trinas_data_used_bytes", "What is used of the data directory's file system.", float64(r.Capacity.UsedBytes))
	e.gauge("trinas_data_size_bytes", "Size of the data directory's file system, without what is reserved there.", float64(r.Capacity.TotalBytes))
	e.rate("trinas_machine_network", "The machine's physical interfaces", r.Network)
	e.rate("trinas_machine_peer_network", "The interfaces used between the nodes", r.PeerNetwork)
	if r.LogDisk != nil {
		e.gauge("trinas_log_disk_busy_ratio", "Share of time in which the log's disk was busy.", r.LogDisk.UtilPercent/100, "device", r.LogDisk.Device)
	}
	if r.Pressure != nil {
		e.gauge("trinas_machine_io_pressure_ratio", "Share of time in which some task waited for a disk (PSI).", r.Pressure.IOSomePercent/100)
	}
}

// rate shows bytes per second, in and out.
func (e emitter) rate(prefix, whose string, r load.Rate, labels ...string) {
	e.gauge(prefix+"_receive_bytes_per_second", whose+": bytes received per second.", r.In, labels...)
	e.gauge(prefix+"_transmit_bytes_per_second", whose+": bytes sent per second.", r.Out, labels...)
}

// guests shows Proxmox's guests on this machine, and the files that they and others use through its gateway.
func (e emitter) guests(r *load.Report) {
	for _, g := range r.Guests {
		labels := []string{"vmid", strconv.Itoa(g.VMID), "name", g.Name, "kind", g.Kind}
		e.gauge("trinas_guest_cpu_ratio", "Share of the processors that a guest may use.", g.CPUPercent/100, labels...)
		e.gauge("trinas_guest_memory_used_bytes", "Memory that a guest takes of the machine's.", float64(g.Memory.UsedBytes), labels...)
		e.gauge("trinas_guest_memory_size_bytes", "Memory that a guest may use.", float64(g.Memory.TotalBytes), labels...)
		e.rate("trinas_guest_network", "A guest", g.Network, labels...)
		e.images(g.Images)
	}
	e.images(r.Files)
}

func (e emitter) images(images []load.Image) {
	for _, i := range images {
		side := func(what string, l load.Latency, bytesPerSec float64) {
			labels := []string{"volume", i.Volume, "path", i.Path, "direction", what}
			e.gauge("trinas_image_bytes_per_second", "Bytes read or written of a file, per second.", bytesPerSec, labels...)
			e.gauge("trinas_image_operations_per_second", "READs or WRITEs of a file, per second.", l.PerSec, labels...)
			e.gauge("trinas_image_p99_seconds", "What 99 of 100 READs or WRITEs of a file did not exceed.", l.P99Ms/1000, labels...)
		}
		side("read", i.Reads, i.ReadBytesPerSec)
		side("write", i.Writes, i.WriteBytesPerSec)
	}
}
