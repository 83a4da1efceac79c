package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"trinas/replica"
)

// Goal: on this machine's own loopback the largest packet arrives, and is answered.
func TestPathMTU_Loopback(t *testing.T) {
	got, err := pathMTU(t.Context(), "127.0.0.1:9")
	if err != nil || !got.Small || !got.Large || got.Shorter || got.Bytes < 1280 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Goal: a network that drops large packets without a word is found, one that takes them is not
// blamed. Method: two network namespaces; the far end's interface takes 1500 bytes, then 9000.
func TestPathMTU_BlackHole(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2")
	}
	near, far := fmt.Sprintf("trinas-mtu-a%d", os.Getpid()), fmt.Sprintf("trinas-mtu-b%d", os.Getpid())
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	for _, ns := range []string{near, far} {
		ip("netns add " + ns)
		t.Cleanup(func() { ip("netns del " + ns) })
	}
	ip("-n " + near + " link add v0 mtu 9000 type veth peer name v1 netns " + far)
	ip("-n " + near + " addr add 10.9.9.1/24 dev v0")
	ip("-n " + far + " addr add 10.9.9.2/24 dev v1")
	ip("-n " + far + " link set v1 mtu 1500 up")
	ip("-n " + near + " link set v0 up")
	if got, err := pathMTUIn(t, near, "10.9.9.2:7370"); err != nil || got.Bytes != 9000 || !got.Small || got.Large {
		t.Errorf("with 9000 here and 1500 there: %+v, %v", got, err)
	}
	ip("-n " + far + " link set v1 mtu 9000")
	if got, err := pathMTUIn(t, near, "10.9.9.2:7370"); err != nil || got.Bytes != 9000 || !got.Small || !got.Large {
		t.Errorf("with 9000 on both: %+v, %v", got, err)
	}
}

// pathMTUIn calls pathMTU in a network namespace, until a small packet is answered: kernels limit how
// often they say "unreachable", for all namespaces of a machine together.
func pathMTUIn(t *testing.T, ns, addr string) (got PathMTU, err error) {
	t.Helper()
	for range 20 {
		if got, err = pathMTUOnce(t, ns, addr); err != nil || got.Small {
			break
		}
	}
	return got, err
}

func pathMTUOnce(t *testing.T, ns, addr string) (got PathMTU, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread, which is in another namespace, ends with us
		f, openErr := os.Open("/run/netns/" + ns)
		if err = openErr; err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		got, err = pathMTU(t.Context(), addr)
	}()
	<-done
	return got, err
}

func TestMTU(t *testing.T) {
	fine, large := &replica.PeerProbe{}, &replica.PeerProbe{LargeError: "timeout"}
	for _, tt := range []struct {
		got  PathMTU
		err  error
		p    *replica.PeerProbe
		want string
	}{
		{PathMTU{1500, true, true, false}, nil, nil, "ok|1500 bytes arrive at n2"},
		{PathMTU{9000, true, false, false}, nil, fine, "error|9000 bytes, as this node sends them, do not arrive|same MTU"},
		{PathMTU{1500, false, false, true}, nil, fine, "error|do not arrive|same MTU"},
		{PathMTU{1500, false, false, false}, nil, fine, "ok|64 KiB"},
		{PathMTU{1500, false, false, false}, nil, large, "error|64 KiB do not get|same MTU"},
		{PathMTU{1500, false, false, false}, nil, nil, "warning|answers no UDP|network"},
		{PathMTU{}, errors.New("no route"), nil, "warning|no route|network"},
		{PathMTU{}, errors.New("no route"), &replica.PeerProbe{Error: "x"}, "warning|no route|network"},
	} {
		s := subject()
		s.Peers = []replica.Member{{Name: "n2", Address: "192.0.2.2:7370"}}
		if tt.p != nil {
			p := *tt.p
			p.Node = "n2"
			s.Probe = &replica.Probe{Peers: []replica.PeerProbe{p}}
		}
		expect(t, checkMTU(t.Context(), s, Host{PathMTU: func(context.Context, string) (PathMTU, error) { return tt.got, tt.err }}), tt.want)
	}
}
