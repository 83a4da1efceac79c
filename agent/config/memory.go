package config

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The default of memory.limit: a quarter of the machine's memory, within these.
const (
	leastMemory = 64 * MiB
	mostMemory  = 300 * MiB
)

// memoryFor is the default of memory.limit on a machine with so much memory.
func memoryFor(machine Size) Size { return max(leastMemory, min(machine/4, mostMemory)) }

// machineMemory is how much memory this machine has, without swap.
func machineMemory() (Size, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("memory.limit: 0, and how much memory this machine has cannot be read: %w: set it", err)
	}
	return Size(info.Totalram) * Size(info.Unit), nil
}

// Share is the part of memory.limit that one use of memory may have: an nth of it, most at most.
// Only to be called after Validate.
func (m Memory) Share(n int64, most Size) int64 { return int64(min(m.Limit/Size(n), most)) }
