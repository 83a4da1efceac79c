package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"trinas/agent/config"
)

// checkMemory compares memory.limit with what the machine has.
func checkMemory(_ context.Context, s Subject, h Host) []Finding {
	raw, err := h.read("proc/meminfo")
	if err != nil {
		return []Finding{{"memory", Error, "cannot be read: " + err.Error(), "mount /proc"}}
	}
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err == nil {
			return []Finding{judgeMemory(s.Config.Memory.Limit, config.Size(kib)*config.KiB)}
		}
	}
	return []Finding{{"memory", Warning, "/proc/meminfo does not say how much there is", "compare memory.limit with it yourself"}}
}

func judgeMemory(limit, total config.Size) Finding {
	text := fmt.Sprintf("memory.limit is %d MiB of this machine's %d MiB", limit/config.MiB, total/config.MiB)
	switch {
	case limit > total/2:
		return Finding{"memory", Error, text, "guests and page cache need the rest: set memory.limit to a quarter at most"}
	case limit > total/4:
		return Finding{"memory", Warning, text, "guests and page cache need the rest: set memory.limit to a quarter at most"}
	}
	return Finding{Check: "memory", Text: text}
}
