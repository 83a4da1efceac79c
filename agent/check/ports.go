package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"trinas/agent/config"
)

// listener is a TCP socket that waits for connections.
type listener struct {
	addr  netip.AddrPort
	inode string
}

// wantedPort is an address that the agent listens on.
type wantedPort struct {
	what, key string // "NFS", and the key of the configuration
	addr      netip.AddrPort
	friends   []string // who else may listen there on the agent's behalf
	serving   bool     // the agent should listen there now
}

func wantedPorts(s Subject) []wantedPort {
	var out []wantedPort
	if a, err := netip.ParseAddrPort(s.Config.Peer.Listen); err == nil {
		out = append(out, wantedPort{"other nodes", "peer.listen", a, nil, s.AgentPID != 0 && !s.Waiting})
	}
	for _, text := range s.Config.NFS.Listen {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		out = append(out, wantedPort{"NFS", "nfs.listen", a, []string{"systemd"}, s.AgentPID != 0})
		if s.Config.NFS.Portmap == config.PortmapAuto {
			out = append(out, wantedPort{"port mapping", "nfs.portmap", netip.AddrPortFrom(a.Addr(), 111),
				[]string{"systemd", "rpcbind"}, s.Serving})
		}
	}
	return out
}

// checkPorts names whoever listens where the agent has to.
func checkPorts(_ context.Context, s Subject, h Host) []Finding {
	open, err := h.listeners()
	if err != nil {
		return []Finding{{"ports", Error, "cannot be looked up: " + err.Error(), "mount /proc"}}
	}
	var out []Finding
	for _, want := range wantedPorts(s) {
		out = append(out, want.judge(s, h, open))
	}
	return out
}

func (w wantedPort) judge(s Subject, h Host, open []listener) Finding {
	f := Finding{Check: "ports", Text: fmt.Sprintf("%s (%s) for %s: ", w.addr, w.key, w.what)}
	for _, l := range open {
		if !overlap(l.addr, w.addr) {
			continue
		}
		pid, name := h.owner(l.inode)
		own := pid != 0 && (pid == s.AgentPID || name == "trinas")
		for _, friend := range w.friends {
			own = own || name == friend
		}
		if own {
			f.Text += fmt.Sprintf("%s (process %d) listens", name, pid)
			return f
		}
		f.Level = Error
		f.Text += "taken by " + holder(pid, name)
		f.Do = w.free(pid, name)
		return f
	}
	if w.serving {
		f.Level, f.Do = Error, "journalctl -u trinas says why; systemctl restart trinas"
		f.Text += "the agent runs, and nobody listens"
		return f
	}
	f.Text += "free"
	return f
}

func holder(pid int, name string) string {
	if pid == 0 {
		return "the kernel, or by a process that this user may not see"
	}
	return fmt.Sprintf("%s (process %d)", name, pid)
}

func (w wantedPort) free(pid int, name string) string {
	switch {
	case w.key == "nfs.portmap":
		return `stop it, or set nfs.portmap = "off"`
	case w.key == "nfs.listen" && pid == 0:
		return "if it is the kernel's NFS server: systemctl disable --now nfs-kernel-server; else run this as root, or set nfs.listen"
	case pid == 0:
		return "run this as root to see who, or set " + w.key
	}
	return fmt.Sprintf("stop %s, or set %s", name, w.key)
}

// overlap tells whether both cannot be listened on at once. A wildcard of IPv6 takes IPv4 too,
// unless its socket says otherwise, which /proc does not show.
func overlap(a, b netip.AddrPort) bool {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	if a.Port() != b.Port() {
		return false
	}
	switch {
	case x.IsUnspecified() && x.Is6(), y.IsUnspecified() && y.Is6():
		return true
	case x.IsUnspecified(), y.IsUnspecified():
		return x.Is4() == y.Is4()
	}
	return x == y
}

// tcpListen is a listening socket's state in /proc/net/tcp (TCP_LISTEN of the kernel's tcp_states.h).
const tcpListen = "0A"

// listeners reads /proc/net/tcp and tcp6 (proc(5)).
func (h Host) listeners() ([]listener, error) {
	var out []listener
	for _, file := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		raw, err := h.read(file)
		if os.IsNotExist(err) && file == "proc/net/tcp6" {
			continue // IPv6 is off
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(raw))
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) < 10 || f[3] != tcpListen {
				continue
			}
			if addr, ok := parseHexAddr(f[1]); ok {
				out = append(out, listener{addr, f[9]})
			}
		}
	}
	return out, nil
}

// parseHexAddr reads "0100007F:0801": words of four bytes in the machine's order, which is little
// endian on all that trinas is built for, then the port.
func parseHexAddr(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	p, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), ok
}

// owner finds the process that has a socket open: the one that is not systemd, where systemd shares
// it. 0 when there is none, or none that this user may see.
func (h Host) owner(inode string) (pid int, name string) {
	links, _ := filepath.Glob(filepath.Join(h.Root, "proc/[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		found, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		if pid == 0 || name == "systemd" {
			pid, name = found, strings.TrimSpace(string(comm))
		}
	}
	return pid, name
}
