package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"trinas/agent/control"
)

// watch shows what look finds, as a value and as text, at once and at every tick until ctx ends, which is
// no error. An agent that does not answer is shown as that: it may be restarting.
func (c *cli) watch(ctx context.Context, ticker *time.Ticker, look func(context.Context) (any, string, error)) error {
	defer ticker.Stop()
	clear := ""
	if f, ok := c.out.(*os.File); ok && !c.json && term.IsTerminal(int(f.Fd())) {
		clear = "\x1b[H\x1b[J" // cursor home, erase to the end (ECMA-48 CUP, ED)
	}
	for first := true; ; first = false {
		v, text, err := look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		frame := c.frame(v, text, err)
		if clear == "" && !first && !c.json {
			frame = "\n" + frame
		}
		if _, err := io.WriteString(c.out, clear+frame); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// frame is one showing: text with the time, or one line of JSON.
func (c *cli) frame(v any, text string, err error) string {
	if !c.json {
		head := timeText(time.Now()) + "\n"
		if err != nil {
			return head + err.Error() + "\n"
		}
		return head + text
	}
	if err != nil {
		v = control.Error{Text: err.Error()}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("{\"error\":%q}\n", err)
	}
	return string(b) + "\n"
}
