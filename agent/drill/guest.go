package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	guestLook    = 200 * time.Millisecond // between two looks where a guest is
	guestTimeout = 5 * time.Minute        // of one move
	pingEvery    = 100 * time.Millisecond
)

// Guest is a guest of Proxmox that is pinged during a drill, and in a handover drill moves with the
// primary: by live migration (qm migrate), or stopped and started by Proxmox HA. It uses the programs of
// Proxmox and fping, or ping where fping is not installed. For one drill.
type Guest struct {
	ID      int
	Address string // "": what the guest agent says
	HA      bool   // ha-manager relocate instead of a live migration

	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex // guards below
	report GuestReport
	window Window
	last   time.Time
	err    error // of the pings
}

// GuestReport is what was seen of a guest.
type GuestReport struct {
	ID      int         `json:"vmid"`
	Address string      `json:"address"`
	Pings   Window      `json:"pings"` // answers, and pauses between them; one is sent every 100 ms
	Moves   []GuestMove `json:"moves"`
}

// GuestMove is one move from the order until it ran on the other node and answered.
type GuestMove struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Took    time.Duration `json:"took_ns"`
	Longest time.Duration `json:"longest_ns"` // without an answer to a ping
}

// Start begins to ping, until Stop.
func (g *Guest) Start(ctx context.Context) error {
	if _, err := g.node(ctx); err != nil {
		return err
	}
	if g.Address == "" {
		var err error
		if g.Address, err = g.ask(ctx); err != nil {
			return fmt.Errorf("address of guest %d: %w; give it by --guest-address", g.ID, err)
		}
	}
	ctx, g.stop = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "ping", "-i", "0.2", g.Address)
	if _, err := exec.LookPath("fping"); err == nil {
		cmd = exec.CommandContext(ctx, "fping", "-l", "-p", strconv.Itoa(int(pingEvery.Milliseconds())), g.Address)
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	g.report = GuestReport{ID: g.ID, Address: g.Address, Moves: []GuestMove{}}
	g.ended = make(chan struct{})
	go func() {
		defer close(g.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), " bytes") && !strings.HasPrefix(lines.Text(), "PING") {
				g.answered(time.Now())
			}
		}
		if err := cmd.Wait(); ctx.Err() == nil {
			g.mu.Lock()
			g.err = fmt.Errorf("%s has ended: %v", cmd.Path, err)
			g.mu.Unlock()
		}
	}()
	return nil
}

// Stop ends the pings and returns what was seen.
func (g *Guest) Stop() (*GuestReport, error) {
	g.stop()
	<-g.ended
	g.take(time.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.err
	if err == nil && g.report.Pings.Answers == 0 {
		err = fmt.Errorf("guest %d at %s has answered no ping", g.ID, g.Address)
	}
	return &g.report, err
}

func (g *Guest) answered(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.IsZero() && now.Sub(g.last) >= 2*pingEvery {
		g.window.gap(now.Sub(g.last))
	}
	g.window.Answers++
	g.last = now
}

// take ends a window and adds it to the report.
func (g *Guest) take(now time.Time) Window {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.window
	g.window = Window{}
	if !g.last.IsZero() && now.Sub(g.last) >= 2*pingEvery {
		w.Longest = max(w.Longest, now.Sub(g.last))
	}
	g.report.Pings = add(g.report.Pings, w)
	return w
}

// Follow moves the guest to a node and waits until it runs there and answers.
func (g *Guest) Follow(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, guestTimeout)
	defer cancel()
	from, err := g.node(ctx)
	if err != nil || from == to {
		return err
	}
	g.take(time.Now())
	began := time.Now()
	if g.HA {
		_, err = run(ctx, from, "ha-manager", "crm-command", "relocate", fmt.Sprintf("vm:%d", g.ID), to)
	} else {
		_, err = run(ctx, from, "qm", "migrate", strconv.Itoa(g.ID), to, "--online")
	}
	if err != nil {
		return err
	}
	arrived := func() error {
		node, err := g.node(ctx)
		if err == nil && node != to {
			err = fmt.Errorf("guest %d is on %s, not on %s", g.ID, node, to)
		}
		return err
	}
	if err := poll(ctx, guestLook, arrived); err != nil {
		return err
	}
	there := time.Now()
	err = poll(ctx, pingEvery, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.err == nil && !g.last.After(there) {
			return fmt.Errorf("guest %d does not answer on %s", g.ID, to)
		}
		return g.err
	})
	w := g.take(time.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.report.Moves = append(g.report.Moves, GuestMove{From: from, To: to, Took: time.Since(began), Longest: w.Longest})
	return err
}

// node is where the guest runs.
func (g *Guest) node(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "pvesh", "get", "/cluster/resources", "--type", "vm", "--output-format", "json")
	if err != nil {
		return "", err
	}
	var all []struct {
		VMID   int    `json:"vmid"`
		Node   string `json:"node"`
		Status string `json:"status"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return "", fmt.Errorf("pvesh: its answer cannot be read: %w", err)
	}
	for _, vm := range all {
		if vm.VMID == g.ID && vm.Status == "running" {
			return vm.Node, nil
		}
		if vm.VMID == g.ID {
			return "", fmt.Errorf("guest %d is %s on %s: start it first", g.ID, vm.Status, vm.Node)
		}
	}
	return "", fmt.Errorf("there is no guest %d", g.ID)
}

// ask asks the guest agent for an address: the first that is not its loopback's.
func (g *Guest) ask(ctx context.Context) (string, error) {
	node, err := g.node(ctx)
	if err != nil {
		return "", err
	}
	out, err := run(ctx, node, "qm", "guest", "cmd", strconv.Itoa(g.ID), "network-get-interfaces")
	if err != nil {
		return "", err
	}
	var all []struct {
		Addresses []struct {
			Address string `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return "", fmt.Errorf("qm guest cmd: its answer cannot be read: %w", err)
	}
	for _, i := range all {
		for _, a := range i.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
				return ip.String(), nil
			}
		}
	}
	return "", errors.New("the guest agent names none")
}

// run runs a program of Proxmox on a node ("": this one); on another one by ssh, as Proxmox's own tools do.
func run(ctx context.Context, node, name string, args ...string) ([]byte, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	words := append([]string{name}, args...)
	if here, _, _ := strings.Cut(host, "."); node != "" && node != here {
		words = slices.Concat([]string{"ssh", "-o", "BatchMode=yes", "root@" + node}, words)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	out, err := cmd.Output()
	if err != nil {
		said := ""
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			said = ": " + strings.TrimSpace(string(exit.Stderr))
		}
		return nil, fmt.Errorf("%s: %w%s", strings.Join(words, " "), err, said)
	}
	return out, nil
}

func (g *GuestReport) table() table {
	t := table{title: fmt.Sprintf("Guest %d at %s: from the order until it answered on the other node", g.ID, g.Address)}
	t.row("from -> to", "took", "longest without answer to ping")
	for _, m := range g.Moves {
		t.row(m.From+" -> "+m.To, millis(m.Took), millis(m.Longest))
	}
	t.row("whole drill", "", millis(g.Pings.Longest))
	return t
}
