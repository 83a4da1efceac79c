package main

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"trinas/agent/control"
	"trinas/agent/load"
	"trinas/replica"
)

// sparkCells is the width of a sparkline.
const sparkCells = 12

// loadText is what trinas load shows: a line for each node, below it sparklines where there is a history,
// what is wrong with nodes, and the volumes' capacity.
func loadText(l control.Load) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tI/O DELAY\tCPU\tLOAD AVERAGE\tMEMORY\tCAPACITY\tNETWORK IN\tOUT\tLOG DISK\tLOG WRITES\tI/O PRESSURE\tSWAP\tHEALTH\tFIGURES")
	for _, n := range l.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Node, nodeFigures(n.Load), healthText(n.Health), ageText(n))
		if n.History != nil && len(n.History.Time) > 1 {
			fmt.Fprintf(w, "\t%s\t\t\t\n", nodeSparks(n))
		}
	}
	w.Flush() // a strings.Builder takes everything
	for _, n := range l.Nodes {
		b.WriteString(troubleText(n.Node, n.Health, n.HealthReason))
	}
	if len(l.Volumes) > 0 {
		fmt.Fprintln(&b)
		fmt.Fprintln(w, "VOLUME\tPRIMARY\tUSED\tFREE")
	}
	for _, v := range l.Volumes {
		free := bytesText(v.FreeBytes)
		if v.Primary == "" {
			free = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Volume, orNone(v.Primary), bytesText(v.UsedBytes), free)
	}
	w.Flush()
	return b.String()
}

// nodeFigures are a node's columns from I/O DELAY to SWAP; nil: none are known.
func nodeFigures(r *load.Report) string {
	if r == nil {
		return strings.Repeat("-\t", 10) + "-"
	}
	disk, writes, pressure, swap := "-", "-", "-", "-"
	if r.LogDisk != nil {
		disk = percentText(r.LogDisk.UtilPercent)
	}
	if r.LogWrites != nil && r.LogWrites.PerSec > 0 {
		writes = msText(r.LogWrites.P99Ms)
	}
	if r.Pressure != nil {
		pressure = percentText(r.Pressure.IOSomePercent)
	}
	if r.Swap.TotalBytes > 0 {
		swap = amountText(r.Swap)
	}
	return strings.Join([]string{
		percentText(r.IODelayPercent), percentText(r.CPUPercent),
		fmt.Sprintf("%.2f %.2f %.2f", r.LoadAverage[0], r.LoadAverage[1], r.LoadAverage[2]),
		amountText(r.Memory), amountText(r.Capacity), rateText(r.Network.In), rateText(r.Network.Out),
		disk, writes, pressure, swap,
	}, "\t")
}

// nodeSparks are a node's sparklines, in the columns of nodeFigures. Shares are of 100 %, the load average of the
// processors, all else of its own highest.
func nodeSparks(n control.NodeLoad) string {
	spark := func(column string, full float64) string { return sparkline(n.History.Values[column], full) }
	cores := 1.0
	if n.Load != nil {
		cores = float64(n.Load.Cores)
	}
	return strings.Join([]string{
		spark(load.IODelayPercent, 100), spark(load.CPUPercent, 100), spark(load.LoadAverage, cores),
		spark(load.MemoryPercent, 100), spark(load.CapacityPercent, 100),
		spark(load.NetworkInBytesPerSec, 1), spark(load.NetworkOutBytesPerSec, 1),
		spark(load.LogDiskUtilPercent, 100), spark(load.LogWriteP99Ms, 1), spark(load.IOPressurePercent, 100),
	}, "\t")
}

// sparkline draws values in sparkCells cells, each the highest of its part, on a scale from 0 to full, or to the
// highest of all where that is more. Where nothing is known there is a blank.
func sparkline(values load.Values, full float64) string {
	const marks = "▁▂▃▄▅▆▇█"
	bars := []rune(marks)
	cells := make([]float64, min(sparkCells, len(values)))
	for i := range cells {
		cells[i] = math.NaN()
		for _, v := range values[i*len(values)/len(cells) : (i+1)*len(values)/len(cells)] {
			if v := float64(v); !(v <= cells[i]) { // also when the cell is still NaN
				if !math.IsNaN(v) {
					cells[i] = v
				}
			}
		}
		if cells[i] > full {
			full = cells[i]
		}
	}
	var b strings.Builder
	for _, v := range cells {
		if math.IsNaN(v) {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(bars[min(len(bars)-1, int(v/full*float64(len(bars))))])
	}
	return b.String()
}

// guestText is what trinas load --guests shows: a line for each guest, and one for each of its images.
func guestText(l control.Load) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	var images []string
	guests := 0
	for _, n := range l.Nodes {
		if n.Load == nil {
			continue
		}
		for _, g := range n.Load.Guests {
			if guests == 0 {
				fmt.Fprintln(w, "GUEST\tNAME\tNODE\tCPU\tMEMORY\tNETWORK IN\tOUT\tFIGURES")
			}
			guests++
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", fmt.Sprintf("%s/%d", g.Kind, g.VMID), orNone(g.Name), n.Node,
				fmt.Sprintf("%s of %g", percentText(g.CPUPercent), g.Cores), amountText(g.Memory), rateText(g.Network.In), rateText(g.Network.Out), ageText(n))
			for _, i := range g.Images {
				images = append(images, imageLine(fmt.Sprint(g.VMID), n.Node, i))
			}
		}
	}
	if guests == 0 {
		b.WriteString("No guests run on these nodes.\n")
	}
	w.Flush() // a strings.Builder takes everything
	for _, n := range l.Nodes {
		if n.Load != nil {
			for _, i := range n.Load.Files {
				images = append(images, imageLine("-", n.Node, i))
			}
		}
	}
	if len(images) > 0 {
		fmt.Fprintln(&b)
		fmt.Fprintln(w, "IMAGE\tGUEST\tNODE\tREADS\t\tP50\tP99\tWRITES\t\tP50\tP99")
		for _, line := range images {
			fmt.Fprintln(w, line)
		}
		w.Flush()
	}
	return b.String()
}

func imageLine(guest, node string, i load.Image) string {
	name := i.Path
	if i.Volume != "" {
		name = i.Volume + ":" + i.Path
	}
	side := func(l load.Latency, bytesPerSec float64) string {
		if l.PerSec == 0 {
			return "-\t-\t-\t-"
		}
		return fmt.Sprintf("%.0f/s\t%s\t%s\t%s", math.Ceil(l.PerSec), rateText(bytesPerSec), msText(l.P50Ms), msText(l.P99Ms))
	}
	return strings.Join([]string{name, guest, node, side(i.Reads, i.ReadBytesPerSec), side(i.Writes, i.WriteBytesPerSec)}, "\t")
}

// ageText says how old a node's figures are.
func ageText(n control.NodeLoad) string {
	switch {
	case n.AgeSec == nil && n.Answers:
		return "none yet"
	case n.AgeSec == nil:
		return "none"
	case n.Answers:
		return "now"
	}
	return "no answer for " + (time.Duration(*n.AgeSec) * time.Second).String()
}

func healthText(h replica.Health) string { return orNone(string(h)) }

// troubleText is a line on a node that is not Healthy, with an empty one before it; "" for one that is.
func troubleText(node string, h replica.Health, reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf("\n%s is %s: %s.\n", node, h, reason)
}

func percentText(v float64) string { return fmt.Sprintf("%.1f%%", v) }

func amountText(a load.Amount) string {
	return fmt.Sprintf("%.0f%% of %s", a.Percent(), bytesText(a.TotalBytes))
}

func rateText(bytesPerSec float64) string { return bytesText(uint64(bytesPerSec)) + "/s" }

func msText(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
