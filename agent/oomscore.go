package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// oomScore makes the kernel kill anything else first (proc_pid_oom_score_adj(5)); -1000, never, would
// be wrong for a program that could itself be what leaks.
const oomScore = -900

// oomScoreFile is where this process's value stands.
const oomScoreFile = "/proc/self/oom_score_adj"

// protectFromOOM tells the kernel that every guest of this node waits for this process when memory
// runs out. A value that whoever started it has set, as systemd does, stays.
func protectFromOOM() error {
	b, err := os.ReadFile(oomScoreFile)
	if err != nil {
		return fmt.Errorf("protect from the out-of-memory killer: %w", err)
	}
	if strings.TrimSpace(string(b)) != "0" {
		return nil
	}
	if err := os.WriteFile(oomScoreFile, []byte(strconv.Itoa(oomScore)), 0); err != nil {
		return fmt.Errorf("protect from the out-of-memory killer: %w", err)
	}
	return nil
}
