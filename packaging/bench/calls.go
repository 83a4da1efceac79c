package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// kernelRow is one kind of work of a Linux NFS client: the median runs.
type kernelRow struct {
	Work     string       `json:"work"`
	Requests bool         `json:"requests"` // the speed is in requests per second, else it is the whole's time
	Mark     float64      `json:"mark"`     // ours over ganesha's speed, at least; 0: none
	Ours     kernelResult `json:"ours"`
	Ganesha  kernelResult `json:"ganesha"`
	Synced   kernelResult `json:"synced"` // ganesha on a file system that syncs names and attributes too
}

// kernelResult is one run of one server.
type kernelResult struct {
	Seconds    float64   `json:"seconds"`
	Count      float64   `json:"count"`       // files and folders, or requests
	CPUSeconds float64   `json:"cpu_seconds"` // of all the server's processes
	RPCs       rpcCounts `json:"rpcs"`
}

func (r kernelResult) perSecond() float64 { return r.Count / r.Seconds }

// cpuPer1000 is the server's processor time per 1,000 entries or requests, in seconds.
func (r kernelResult) cpuPer1000() float64 { return r.CPUSeconds * 1000 / r.Count }

// over is our speed over another's.
func (r kernelRow) over(other kernelResult) float64 { return r.Ours.perSecond() / other.perSecond() }

func (r kernelRow) speed(of kernelResult) string {
	if r.Requests {
		return fmt.Sprintf("%.0f/s", of.perSecond())
	}
	return fmt.Sprintf("%.2f s", of.Seconds)
}

func (r kernelRow) markText() string {
	if r.Mark == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", r.Mark)
}

// rpcCounts are a client's calls by procedure.
type rpcCounts map[string]rpcCount

type rpcCount struct {
	Calls        int `json:"calls"`
	Milliseconds int `json:"milliseconds"` // from the sending of each call to its answer, in sum
}

// parseRPCs reads NAME CALLS MILLISECONDS ...
func parseRPCs(words []string) (rpcCounts, error) {
	counts := rpcCounts{}
	for ; len(words) >= 3; words = words[3:] {
		calls, err := strconv.Atoi(words[1])
		ms, err2 := strconv.Atoi(words[2])
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("the guest's count of %s calls: %w", words[0], err)
		}
		counts[words[0]] = rpcCount{calls, ms}
	}
	if len(words) > 0 || len(counts) == 0 {
		return nil, errors.New("the guest's counts of calls are incomplete")
	}
	return counts, nil
}

func (c rpcCounts) sum() (n int) {
	for _, r := range c {
		n += r.Calls
	}
	return n
}

// String lists the procedures, the most frequent first, with their calls and mean times. What a mount
// alone takes is left out.
func (c rpcCounts) String() string {
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		return cmp.Or(cmp.Compare(c[b].Calls, c[a].Calls), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names {
		if r := c[name]; r.Calls > 8 {
			parts = append(parts, fmt.Sprintf("%s %d x %.2f ms", name, r.Calls, float64(r.Milliseconds)/float64(r.Calls)))
		}
	}
	return strings.Join(parts, ", ")
}
