package ha

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"trinas/replica"
)

// standInEnv makes the test's program stand in for QEMU: it then only waits.
const standInEnv = "TRINAS_TEST_STAND_IN"

func TestMain(m *testing.M) {
	if os.Getenv(standInEnv) != "" {
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// standIn starts a process with QEMU's command line, as Proxmox makes it, and the file with its id.
func standIn(t *testing.T, pids string, vmid int, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: argv, Env: append(os.Environ(), standInEnv+"=1"), SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been
		_ = cmd.Wait()
	})
	if err := os.WriteFile(filepath.Join(pids, fmt.Sprintf("%d.pid", vmid)), fmt.Appendln(nil, cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func qemu(t *testing.T, pids string, vmid int) *exec.Cmd {
	return standIn(t, pids, vmid, "/usr/bin/kvm", "-id", fmt.Sprint(vmid), "-name", "x,debug-threads=on", "-no-shutdown")
}

// killed reports whether a process has been ended by SIGKILL; it is waited for only then. The signal is sent, or not, when
// it is called, but a busy machine may take its time to end the process: want says whether that is worth a long wait.
func killed(t *testing.T, cmd *exec.Cmd, want bool) bool {
	t.Helper()
	patience := 100 * time.Millisecond
	if want {
		patience = 10 * time.Second
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		// A zombie (Z), or one on the way there.
		if _, after, _ := bytes.Cut(state, []byte(") ")); after[0] == 'Z' {
			return true
		}
		if time.Since(begun) > patience {
			return false
		}
	}
}

// newKiller has volume vms stuck on pve1, where the tree has the guests 100 (HA's), 104 (ignored by HA) and
// container 102.
func newKiller(t *testing.T, log *bytes.Buffer) (*Killer, *[]replica.Stuck) {
	stuck := &[]replica.Stuck{{Volume: "vms", Reason: "this node reaches pve1", Replicas: []string{"pve1", "pve2", "PVE3"},
		Paths: []string{"", "images/100/vm-100-disk-0.qcow2", "images/104/vm-104-disk-0.raw", "images/102"}}}
	return &Killer{Node: "pve1", Dir: tree(t), Stuck: func() []replica.Stuck { return *stuck }, After: 20 * time.Second,
		PIDs: t.TempDir(), Log: slog.New(slog.NewTextHandler(log, nil))}, stuck
}

// look has the killer look for a time, and gives the last complaint.
func look(k *Killer, d time.Duration) (err error) {
	for range d / killEvery {
		err = k.step()
	}
	return err
}

// Goal: after the time a guest that HA manages here and whose I/O waits is killed, once and told once; no
// other is. Method: real processes with the command lines that Proxmox gives to QEMU.
func TestKiller(t *testing.T) {
	var log bytes.Buffer
	k, stuck := newKiller(t, &log)
	managed, ignored, elsewhere := qemu(t, k.PIDs, 100), qemu(t, k.PIDs, 104), qemu(t, k.PIDs, 101)
	if err := look(k, k.After-killEvery); err != nil || killed(t, managed, false) {
		t.Fatalf("too early: %v", err)
	}
	was := *stuck
	*stuck = nil
	_ = look(k, killEvery)
	*stuck = was
	if err := look(k, k.After-killEvery); err != nil || killed(t, managed, false) {
		t.Fatalf("it was well in between: %v", err)
	}
	if err := look(k, killEvery); err != nil || !killed(t, managed, true) {
		t.Errorf("guest 100: %v", err)
	}
	if err := look(k, time.Minute); err != nil || killed(t, ignored, false) || killed(t, elsewhere, false) {
		t.Errorf("others: %v", err)
	}
	if n := strings.Count(log.String(), "event=guest-killed"); n != 1 || !strings.Contains(log.String(), "guest=100 volume=vms") {
		t.Errorf("log: %s", log.String())
	}
}

// Goal: guests are left alone where killing them would not help, or nothing of theirs waits.
func TestKiller_LeavesAlone(t *testing.T) {
	members := func(quorate int, online ...string) string {
		var nodes []string
		for _, n := range online {
			nodes = append(nodes, `"`+n+`": {"online": 1}`)
		}
		return fmt.Sprintf(`{"cluster":{"quorate":%d},"nodelist":{%s}}`, quorate, strings.Join(nodes, ","))
	}
	tests := []struct {
		name   string
		change func(k *Killer, s *replica.Stuck)
		want   string // of the complaint
	}{
		{"no quorum", func(k *Killer, _ *replica.Stuck) { change(t, k.Dir, ".members", members(0, "pve1", "pve2", "pve3")) }, "HA fences this node"},
		{"others are away", func(k *Killer, _ *replica.Stuck) { change(t, k.Dir, ".members", members(1, "pve1", "pve3", "pve4")) }, "nobody could serve it"},
		{"no members", func(k *Killer, _ *replica.Stuck) { change(t, k.Dir, ".members", "") }, "HA fences this node"},
		{"files cannot be read", func(k *Killer, _ *replica.Stuck) { change(t, k.Dir, "ha/manager_status", "{") }, "manager_status"},
		{"another guest's disk waits", func(_ *Killer, s *replica.Stuck) { s.Paths = []string{"", "images/104/vm-104-disk-0.raw", "images"} }, ""},
		{"another volume", func(_ *Killer, s *replica.Stuck) { s.Volume, s.Paths = "data", nil }, ""},
		{"HA has it on another node", func(k *Killer, _ *replica.Stuck) {
			change(t, k.Dir, "ha/manager_status", `{"service_status":{"vm:100":{"node":"pve2","state":"started"}}}`)
		}, ""},
		{"it moves", func(k *Killer, _ *replica.Stuck) {
			change(t, k.Dir, "ha/manager_status", `{"service_status":{"vm:100":{"node":"pve1","state":"migrate"}}}`)
		}, ""},
		{"no longer HA's", func(k *Killer, _ *replica.Stuck) { change(t, k.Dir, "ha/resources.cfg", "") }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			k, stuck := newKiller(t, &log)
			guest := qemu(t, k.PIDs, 100)
			tt.change(k, &(*stuck)[0])
			err := look(k, time.Minute)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if killed(t, guest, false) || log.Len() > 0 {
				t.Errorf("killed: %s", log.String())
			}
		})
	}
}

// Goal: the process that a file names is ended only when it is that guest.
func TestKiller_Recognizes(t *testing.T) {
	tests := []struct {
		name string
		argv []string
		want bool
	}{
		{"kvm", []string{"/usr/bin/kvm", "-id", "100", "-name", "web"}, true},
		{"qemu", []string{"/usr/bin/qemu-system-aarch64", "-name", "web", "-id", "100"}, true},
		{"another guest", []string{"/usr/bin/kvm", "-id", "101"}, false},
		{"a longer number", []string{"/usr/bin/kvm", "-id", "1000"}, false},
		{"something else with the number", []string{"vim", "-id", "100"}, false},
		{"cut", []string{"/usr/bin/kvm", "-id"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			k, stuck := newKiller(t, &log)
			(*stuck)[0].Paths = nil // a node without a replica cannot tell whose requests wait
			process := standIn(t, k.PIDs, 100, tt.argv...)
			err := look(k, time.Minute)
			if got := killed(t, process, tt.want); got != tt.want || (err == nil) != tt.want {
				t.Errorf("killed %v, %v", got, err)
			}
		})
	}
	var log bytes.Buffer
	k, _ := newKiller(t, &log)
	if err := look(k, time.Minute); err != nil {
		t.Errorf("no file: %v", err)
	}
	change := func(text string) error {
		if err := os.WriteFile(filepath.Join(k.PIDs, "100.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return k.step()
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if err := change(fmt.Sprint(gone.Process.Pid)); err != nil {
		t.Errorf("the file of one that has ended: %v", err)
	}
	for _, bad := range []string{"", "1", "-7", "x"} {
		if err := change(bad); err == nil {
			t.Errorf("process id %q was taken", bad)
		}
	}
}
