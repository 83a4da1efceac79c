package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// leastOpenFiles is the fewest files that the agent has to be able to open: a volume keeps up to
// 2,560 open, connections come on top.
const leastOpenFiles = 65536

const journal = "journalctl -u trinas says why"

// checkUnit asks systemd about the agent's units, and the kernel about the agent's limits.
func checkUnit(ctx context.Context, s Subject, h Host) []Finding {
	out := checkFiles(s, h)
	if _, err := os.Stat(filepath.Join(h.Root, "run/systemd/system")); errors.Is(err, fs.ErrNotExist) {
		return append([]Finding{{Check: "unit", Text: "systemd does not run here: nothing starts the agent by itself"}}, out...)
	}
	raw, err := h.Run(ctx, "systemctl", "show", "--property=LoadState,ActiveState,UnitFileState,NRestarts,MainPID", "trinas.service")
	if err != nil {
		return append(out, Finding{"unit", Warning, "systemctl does not answer: " + err.Error(), "systemctl status trinas"})
	}
	return append([]Finding{judgeUnit(properties(raw), s.AgentPID)}, out...)
}

func properties(raw []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[key] = value
		}
	}
	return out
}

func judgeUnit(p map[string]string, agent int) Finding {
	restarts, _ := strconv.Atoi(p["NRestarts"])
	main, _ := strconv.Atoi(p["MainPID"])
	switch {
	case p["LoadState"] != "loaded":
		return Finding{"unit", Warning, "trinas.service is " + orNone(p["LoadState"]), "apt install trinas: without the unit nothing starts the agent after a reboot"}
	case p["ActiveState"] == "failed":
		return Finding{"unit", Error, "trinas.service has failed", journal}
	case agent != 0 && main != agent:
		return Finding{"unit", Warning, fmt.Sprintf("the agent (process %d) is not the unit's: a reboot would not start it as it is", agent),
			"stop it, then systemctl start trinas"}
	case p["UnitFileState"] != "enabled":
		return Finding{"unit", Warning, "trinas.service is " + orNone(p["UnitFileState"]) + ": it does not start after a reboot", "systemctl enable trinas.service trinas.socket"}
	case restarts > 0:
		return Finding{"unit", Warning, fmt.Sprintf("systemd had to start the agent again %d times", restarts), journal}
	}
	return Finding{Check: "unit", Text: "trinas.service is enabled and " + orNone(p["ActiveState"])}
}

func orNone(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

// checkFiles looks at how many files the agent may open (proc(5), /proc/PID/limits).
func checkFiles(s Subject, h Host) []Finding {
	if s.AgentPID == 0 {
		return nil
	}
	raw, err := h.read(fmt.Sprintf("proc/%d/limits", s.AgentPID))
	if err != nil {
		return []Finding{{"unit", Warning, "the agent's limits cannot be read: " + err.Error(), "run this as root"}}
	}
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		if !ok {
			continue
		}
		soft := strings.Fields(rest)[0]
		if n, err := strconv.Atoi(soft); err == nil && n < leastOpenFiles {
			return []Finding{{"unit", Warning, fmt.Sprintf("the agent may open %d files only; a volume keeps up to 2560 open", n),
				"set LimitNOFILE=524288 in its unit, or ulimit -n before it"}}
		}
		return []Finding{{Check: "unit", Text: "the agent may open " + soft + " files"}}
	}
	return nil
}
