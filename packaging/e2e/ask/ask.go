// Package ask is what a scenario's Go program and the runner tell each other: how the program asks for what
// happens to the nodes (the words are in events.go and loss.go of packaging/e2e), and what a program on
// the host knows of the nodes.
//
// Floor 6: imports nothing of trinas.
package ask

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// interval is how often an answer is looked for.
const interval = 2 * time.Millisecond

// Runner is where requests go and answers come from. May be used from several goroutines.
type Runner struct {
	Out     io.Writer // what the runner reads: standard output on the host, descriptor 3 beside checks.sh
	Answers string    // the folder of the answers

	asked atomic.Int64
}

// Ask has the runner do something and returns its answer.
func (r *Runner) Ask(words ...string) (string, error) {
	number := fmt.Sprintf("%d%03d", time.Now().UnixMicro(), r.asked.Add(1)%1000)
	if _, err := fmt.Fprintf(r.Out, "@%s %s\n", number, strings.Join(words, " ")); err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(r.Answers, number))
		if errors.Is(err, os.ErrNotExist) {
			time.Sleep(interval) // the runner bounds how long a scenario takes
			continue
		}
		answer := strings.TrimSpace(string(b))
		if err == nil && strings.HasPrefix(answer, "error") {
			err = fmt.Errorf("ask %s: %s", strings.Join(words, " "), answer)
		}
		return answer, err
	}
}
