package drill

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/disk"
)

const stopEnv = "TRINAS_TEST_STOP_SELF"

// Goal: a process that stops itself stands still and goes on by itself. Method: another process, whose
// state /proc tells.
func TestStopSelf(t *testing.T) {
	const d = 500 * time.Millisecond
	if os.Getenv(stopEnv) != "" {
		if err := stopSelf(d); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStopSelf$")
	cmd.Env = append(os.Environ(), stopEnv+"=1")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stopped := false
	for {
		stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "stat"))
		stopped = stopped || strings.Contains(string(stat), ") T ")
		select {
		case err := <-ended:
			if err != nil || !stopped || time.Since(began) < d {
				t.Errorf("ended: %v, stopped %t, after %s", err, stopped, time.Since(began))
			}
			return
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			t.Fatal("it did not go on")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// slowFile is a file whose durable writes take a while.
type slowFile struct {
	disk.File
	takes *time.Duration
}

var errDisk = errors.New("disk")

func (f slowFile) WriteSync([]byte, int64) error { time.Sleep(*f.takes); return errDisk }

// Goal: only the log is slowed down, a hundred times, a second at most, for the time asked for; the
// disk's answer comes through.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var throttle Throttle
		takes := time.Millisecond
		file := &throttledFile{slowFile{takes: &takes}, &throttle}
		write := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			if err := file.WriteSync(nil, 0); !errors.Is(err, errDisk) || time.Since(began) != want {
				t.Errorf("%v after %s, want %s", err, time.Since(began), want)
			}
		}
		write(time.Millisecond)
		throttle.Slow(time.Now().Add(3 * time.Second))
		write(100 * time.Millisecond)
		takes = 20 * time.Millisecond
		write(20*time.Millisecond + slowMost)
		time.Sleep(2 * time.Second)
		write(20 * time.Millisecond)
	})
	var throttle Throttle
	root := throttle.Over(disk.OS(t.TempDir()), "log")
	for dir, throttled := range map[string]bool{"log": true, "volumes/1": false} {
		if err := root.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		file, err := root.Sub(dir).Open("x", disk.Create)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, is := file.(*throttledFile); is != throttled {
			t.Errorf("%s: throttled %t", dir, is)
		}
	}
}

// Goal: what was noted before a process dies is there for the next one, and garbage is removed.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drill")
	if st, _, _, _, _, err := openState(path); st != nil || err != nil {
		t.Fatalf("nothing there: %v, %v", st, err)
	}
	want := session{ID: "1", Volume: "vm", Kind: Kill, By: "n1"}
	until := time.Unix(2000, 5)
	st, err := makeState(path, want, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	st.note(7, time.Unix(1000, 3))
	st.renew(until)
	again, got, acknowledged, last, end, err := openState(path)
	if err != nil || got != want || acknowledged != 7 || !last.Equal(time.Unix(1000, 3)) || !end.Equal(until) {
		t.Errorf("%+v, %d, %s, %s, %v", got, acknowledged, last, end, err)
	}
	if err := again.remove(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st, _, _, _, _, err := openState(path); st != nil || err != nil {
		t.Errorf("garbage: %v, %v", st, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("garbage is still there: %v", err)
	}
}

// Goal: windows have the longest pause, the sum of the long ones, and what is going on.
func TestProbe_Windows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{}
		for _, ms := range []time.Duration{0, 5, 30, 5, 100} {
			time.Sleep(ms * time.Millisecond)
			p.answered(time.Now())
		}
		if w := p.mark(false); w.Answers != 5 || w.Longest != 100*time.Millisecond || w.Pauses != 130*time.Millisecond {
			t.Errorf("first: %+v", w)
		}
		time.Sleep(time.Second)
		if w := p.mark(false); w.Answers != 0 || w.Longest != time.Second || w.Pauses != time.Second {
			t.Errorf("going on: %+v", w)
		}
		p.answered(time.Now())
		if w := p.mark(false); w.Answers != 1 || w.Longest != time.Second {
			t.Errorf("one that began before: %+v", w)
		}
	})
	if got := percentile([]int32{5, 1, 4, 2, 3}, 50); got != 3 {
		t.Errorf("median %d", got)
	}
	hundred := make([]int32, 100)
	for i := range hundred {
		hundred[i] = int32(i + 1)
	}
	for p, want := range map[float64]int32{99: 99, 99.9: 100, 100: 100, 1: 1, 0: 1} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("percentile %v: %d, want %d", p, got, want)
		}
	}
}

// Goal: the report averages transitions, counts the struck node apart, and its verdict is no better
// than what was checked.
func TestReport(t *testing.T) {
	ms := time.Millisecond
	r := Report{Volume: "vm", Kind: Kill, Rounds: 2, Nodes: []string{"n1", "n2"}, Acknowledged: 9, Checked: 2}
	for i, took := range []time.Duration{100 * ms, 300 * ms, 0} {
		r.add(Round{Number: i + 1, Victim: "n1", To: "n2", Role: "primary", Move: took, UpToDate: 400 * ms, Windows: map[string]Window{
			"n1": {Answers: 1, Longest: 900 * ms, Pauses: 900 * ms}, "n2": {Answers: 5, Longest: took, Pauses: took}}})
	}
	text := r.Text()
	for _, want := range []string{"n1 -> n2", "100 ms   300 ms", "200 ms", "9700 ms", "900 ms", "2700 ms", "nobody took over"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := r.OthersLongest(); len(got) != 3 || got[1] != 300*ms {
		t.Errorf("others: %v", got)
	}
	if md := r.Markdown(); !strings.Contains(md, "| n1 -> n2 | 100 ms | 300 ms | 200 ms | 300 ms |") || !strings.Contains(md, "| --- |") {
		t.Errorf("markdown:\n%s", md)
	}
	if err := r.Verdict(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Report){
		"lost":      func(r *Report) { r.Lost = 1 },
		"stale":     func(r *Report) { r.Stale = 1 },
		"unchecked": func(r *Report) { r.Checked = 1 },
		"nothing":   func(r *Report) { r.Acknowledged = 0 },
	} {
		spoiled := r
		spoil(&spoiled)
		if spoiled.Verdict() == nil {
			t.Errorf("%s: a good verdict", what)
		}
	}
}
