package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/agent/config"
	"trinas/replica"
)

// fakeHost is a machine whose files are a test's.
func fakeHost(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(text, "-> ")
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Host{Root: root}
}

func subject() Subject {
	s := Subject{Config: config.Default(), Version: "1.0"}
	s.Config.Node.Name = "n1"
	return s
}

// expect compares findings with lines "level|part of the text|part of what to do".
func expect(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d findings, want %d: %+v", len(got), len(want), got)
		return
	}
	for i, line := range want {
		parts := append(strings.Split(line, "|"), "", "")
		f := got[i]
		if f.Level.String() != parts[0] || !strings.Contains(f.Text, parts[1]) || !strings.Contains(f.Do, parts[2]) {
			t.Errorf("finding %d: %s %q, do %q; want %q", i, f.Level, f.Text, f.Do, line)
		}
		if (f.Do == "") != (f.Level == OK) {
			t.Errorf("finding %d: %s, and what to do is %q", i, f.Level, f.Do)
		}
		if strings.Contains(f.Text+f.Do, "\n") {
			t.Errorf("finding %d has more than one line", i)
		}
	}
}

// Goal: a probe that hangs in the kernel, as on a dead mount, holds up neither the others nor the
// end; the order stays.
func TestRun_Hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		say := func(text string) func(context.Context, Subject, Host) []Finding {
			return func(context.Context, Subject, Host) []Finding { return []Finding{{Check: text, Text: text}} }
		}
		began := time.Now()
		got := run(t.Context(), subject(), Host{}, []probe{
			{"one", say("one")},
			{"stuck", func(context.Context, Subject, Host) []Finding { <-release; return nil }},
			{"three", func(ctx context.Context, _ Subject, _ Host) []Finding {
				<-ctx.Done()
				return []Finding{{Check: "three", Level: Warning, Text: "gave up", Do: "wait"}}
			}},
			{"stuck too", func(context.Context, Subject, Host) []Finding { <-release; return nil }},
		})
		if took := time.Since(began); took > probeTimeout+2*time.Second {
			t.Errorf("took %s", took)
		}
		expect(t, got, "ok|one", "error|not done|dmesg", "warning|gave up", "error|not done|dmesg")
		if Worst(got) != Error || Worst(got[:1]) != OK || Worst(nil) != OK {
			t.Error("worst")
		}
	})
}

func TestFinding_JSON(t *testing.T) {
	b, err := json.Marshal(Finding{"clock", Warning, "off", "set it"})
	if want := `{"check":"clock","level":"warning","text":"off","do":"set it"}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func TestAgent(t *testing.T) {
	s := subject()
	expect(t, checkAgent(t.Context(), s, Host{}), "warning|does not run|systemctl start")
	s.Member = &replica.Membership{Node: "n1", Cluster: "office"}
	expect(t, checkAgent(t.Context(), s, Host{}), "error|no agent running|journalctl")
	s.AgentPID, s.AgentState = 7, "running"
	expect(t, checkAgent(t.Context(), s, Host{}), "ok|process 7): running, node n1 of cluster office")
}

func TestVersions(t *testing.T) {
	s := subject()
	expect(t, checkVersions(t.Context(), s, Host{}), "ok|1.0")
	s.AgentVersion = "1.1"
	s.Probe = &replica.Probe{Peers: []replica.PeerProbe{{Node: "n2", Version: "1.1"}, {Node: "n3", Version: "0.9"}, {Node: "n4", Error: "down"}}}
	expect(t, checkVersions(t.Context(), s, Host{}), "warning|agent that runs is 1.1|restart", "warning|on n3 it is 0.9|same version")
}

// procFiles is a machine on which process 1 is systemd, 7 trinas, 9 an NFS server in user space.
func procFiles() map[string]string {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(addr, state, inode string) string {
		return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %s 1 x\n", addr, state, inode)
	}
	return map[string]string{
		"proc/net/tcp": head +
			line("00000000:1CCA", "0A", "70") + // 0.0.0.0:7370
			line("0100007F:0801", "0A", "49") + // 127.0.0.1:2049
			line("0A00000A:0803", "0A", "51") + // 10.0.0.10:2051
			line("0100007F:0802", "01", "50") + // 127.0.0.1:2050, connected
			line("0100007F:0804", "0A", "0"), // 127.0.0.1:2052, the kernel's
		"proc/net/tcp6": head + line("00000000000000000000000000000000:006F", "0A", "111"), // [::]:111
		"proc/1/comm":   "systemd\n", "proc/1/fd/3": "-> socket:[49]",
		"proc/7/comm": "trinas\n", "proc/7/fd/3": "-> socket:[70]", "proc/7/fd/4": "-> socket:[49]", "proc/7/fd/5": "-> /dev/null",
		"proc/9/comm": "ganesha.nfsd\n", "proc/9/fd/3": "-> socket:[51]", "proc/9/fd/7": "-> socket:[111]",
	}
}

// Goal: who listens where the agent has to is named, the agent and its helpers are told from strangers.
func TestPorts(t *testing.T) {
	h := fakeHost(t, procFiles())
	s := subject()
	s.AgentPID, s.Serving = 7, true
	expect(t, checkPorts(t.Context(), s, h),
		"ok|0.0.0.0:7370 (peer.listen) for other nodes: trinas (process 7)",
		"ok|127.0.0.1:2049 (nfs.listen) for NFS: trinas (process 7)",
		`error|port mapping: taken by ganesha.nfsd (process 9)|nfs.portmap = "off"`)
	s.Config.NFS.Portmap = config.PortmapOff
	for addr, want := range map[string]string{
		"10.0.0.10:2051": "error|taken by ganesha.nfsd (process 9)|stop ganesha.nfsd, or set nfs.listen",
		"0.0.0.0:2051":   "error|taken by ganesha.nfsd|",
		"127.0.0.1:2051": "error|nobody listens|journalctl",
		"127.0.0.1:2052": "error|the kernel|nfs-kernel-server",
		"127.0.0.1:2050": "error|nobody listens|", // a connection is no listener
	} {
		s.Config.NFS.Listen = config.Addresses{addr}
		expect(t, checkPorts(t.Context(), s, h)[1:], want)
	}
	s.AgentPID, s.Serving, s.Config.NFS.Listen = 0, false, config.Addresses{"127.0.0.1:2050"}
	expect(t, checkPorts(t.Context(), s, h)[1:], "ok|free")
	expect(t, checkPorts(t.Context(), s, Host{Root: t.TempDir()}), "error|cannot be looked up|/proc")
}

func TestClock(t *testing.T) {
	s := subject()
	s.Probe = &replica.Probe{Peers: []replica.PeerProbe{
		{Node: "n2", ClockAhead: 3 * time.Millisecond, RoundTrip: 400 * time.Microsecond},
		{Node: "n3", ClockAhead: -2 * time.Second}, {Node: "n4", ClockAhead: time.Hour}, {Node: "n5", Error: "down"},
	}}
	kept := Host{Synced: func() (bool, error) { return true, nil }}
	expect(t, checkClock(t.Context(), s, kept), "ok|time service", "ok|n2's is 3ms ahead (give or take 200µs)",
		"warning|n3's is 2s behind|chronyc", "error|n4's is 1h0m0s ahead|chronyc")
	s.Probe = nil
	expect(t, checkClock(t.Context(), s, Host{Synced: func() (bool, error) { return false, nil }}), "warning|nothing keeps it right|chrony")
	expect(t, checkClock(t.Context(), s, Host{Synced: func() (bool, error) { return false, errors.New("no") }}), "warning|no|timedatectl")
	if _, err := clockSynced(); err != nil {
		t.Errorf("adjtimex: %v", err)
	}
}

// Goal: both ways between two nodes are told apart. Method: a peer that listens, one that does not.
func TestNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	h := Host{Dial: (&net.Dialer{}).DialContext}
	s := subject()
	expect(t, checkNetwork(t.Context(), s, h), "ok|no other node")
	s.Address = "192.0.2.1:7370"
	up := l.Addr().String()
	s.Peers = []replica.Member{{Name: "n2", Address: up}, {Name: "n3", Address: dead.Addr().String()}}
	expect(t, checkNetwork(t.Context(), s, h), "ok|n2 ("+up+") takes connections; the way back is not tested", "error|refused|systemctl start trinas")
	s.Peers = append(s.Peers[:1], replica.Member{Name: "n4", Address: up}, replica.Member{Name: "n5", Address: up}, replica.Member{Name: "n6", Address: up})
	s.Probe = &replica.Probe{Peers: []replica.PeerProbe{{Node: "n2", RoundTrip: 300 * time.Microsecond}, {Node: "n4", Error: "not connected"},
		{Node: "n5", BackError: "i/o timeout"}, {Node: "n6", RoundTrip: 20 * time.Millisecond}}}
	expect(t, checkNetwork(t.Context(), s, h), "ok|connects back; a round trip takes 300µs", "error|agents do not talk: not connected|journalctl",
		"error|n5 ("+up+") cannot connect back to this node at 192.0.2.1:7370|firewall", "warning|20ms|every write")
	s.Probe, s.Peers = nil, s.Peers[:1]
	h.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, context.DeadlineExceeded }
	expect(t, checkNetwork(t.Context(), s, h), "error|cannot be connected to|drops TCP")
}

func TestCertificates(t *testing.T) {
	s := subject()
	expect(t, checkCertificates(t.Context(), s, Host{}))
	s.Member = &replica.Membership{CertificateEnds: time.Now().AddDate(9, 0, 0)}
	s.Probe = &replica.Probe{Peers: []replica.PeerProbe{{Node: "n2", CertificateEnds: time.Now().AddDate(0, 1, 0)},
		{Node: "n3", CertificateEnds: time.Now().Add(-time.Hour)}, {Node: "n4", Error: "down"}}}
	expect(t, checkCertificates(t.Context(), s, Host{}), "ok|this node's is good until", "warning|n2's ends on|join again", "error|n3's ended on|clock")
}

// Goal: a loopback mount that can lose a guest's writes is an error; others' mounts are not ours to judge.
func TestMounts(t *testing.T) {
	h := fakeHost(t, map[string]string{"proc/self/mounts": `/dev/sda1 / ext4 rw 0 0
127.0.0.1:/vms /mnt/v\040ms nfs rw,vers=3,hard,nolock,proto=tcp,nconnect=4,addr=127.0.0.1 0 0
127.0.0.1:/a /mnt/a nfs rw,vers=3,soft,nolock,proto=tcp 0 0
localhost:/b /mnt/b nfs4 rw,vers=4.2,hard,proto=tcp 0 0
127.0.0.1:/c /mnt/c nfs rw,vers=3,hard,nolock,proto=udp 0 0
127.0.0.1:/d /mnt/d nfs rw,vers=3,hard,proto=tcp,local_lock=none 0 0
127.0.0.1:/e /mnt/e nfs rw,vers=3,hard,proto=tcp,local_lock=all 0 0
127.0.0.1:/f /mnt/f nfs rw,vers=3,soft,port=12049 0 0
192.0.2.9:/nas /mnt/nas nfs rw,vers=3,soft 0 0
`})
	expect(t, checkMounts(t.Context(), subject(), h), "ok|/mnt/v ms (127.0.0.1:/vms) is mounted with vers=3, proto=tcp, hard, nolock, nconnect=4",
		"error|soft: while|hard,nolock", "error|version \"4.2\"|vers=3", "error|over udp|proto=tcp", "warning|without nolock|nolock", "ok|/mnt/e")
	s := subject()
	s.Config.NFS.Listen = config.Addresses{"127.0.0.1:12049"}
	expect(t, checkMounts(t.Context(), s, h), "error|/mnt/f|")
	s.Config.NFS.Listen = config.Addresses{"127.0.0.1:1"}
	expect(t, checkMounts(t.Context(), s, h), "ok|no volume")
	expect(t, checkMounts(t.Context(), s, Host{Root: t.TempDir()}), "error|cannot be read|/proc")
}

func TestUnit(t *testing.T) {
	none := fakeHost(t, nil)
	expect(t, checkUnit(t.Context(), subject(), none), "ok|systemd does not run here")
	h := fakeHost(t, map[string]string{"run/systemd/system/x": "",
		"proc/7/limits": "Limit  Soft  Hard\nMax open files            1024                 4096                 files\n",
		"proc/8/limits": "Max open files            524288               524288               files\n"})
	good := "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=0\nMainPID=8\n"
	for _, tt := range []struct {
		pid          int
		change, want string
	}{
		{8, "", "ok|enabled and active"},
		{8, "LoadState=not-found", "warning|not-found|apt install"},
		{0, "ActiveState=failed", "error|has failed|journalctl"},
		{8, "MainPID=5", "warning|not the unit's|systemctl start"},
		{8, "UnitFileState=disabled", "warning|disabled: it does not start after a reboot|systemctl enable"},
		{8, "NRestarts=4", "warning|again 4 times|journalctl"},
	} {
		h.Run = func(context.Context, string, ...string) ([]byte, error) { return []byte(good + tt.change + "\n"), nil }
		s := subject()
		s.AgentPID = tt.pid
		expect(t, checkUnit(t.Context(), s, h)[:1], tt.want)
	}
	s := subject()
	s.AgentPID = 7
	h.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("no bus") }
	expect(t, checkUnit(t.Context(), s, h), "warning|1024 files only|LimitNOFILE", "warning|no bus|systemctl")
	s.AgentPID = 6
	expect(t, checkFiles(s, h), "warning|cannot be read|root")
}

func TestMemory(t *testing.T) {
	s := subject()
	s.Config.Memory.Limit = 300 * config.MiB
	for kib, want := range map[int]string{8 << 20: "ok|300 MiB of this machine's 8192 MiB", 1 << 20: "warning|1024|memory.limit", 512 << 10: "error|512|memory.limit"} {
		expect(t, checkMemory(t.Context(), s, fakeHost(t, map[string]string{"proc/meminfo": fmt.Sprintf("MemTotal:       %d kB\nMemFree: 1 kB\n", kib)})), want)
	}
	expect(t, checkMemory(t.Context(), s, fakeHost(t, nil)), "error|cannot be read|/proc")
	expect(t, checkMemory(t.Context(), s, fakeHost(t, map[string]string{"proc/meminfo": "x\n"})), "warning|does not say|")
}
