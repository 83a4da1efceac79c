package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trinas/replica"
)

// PathMTU is what came of sending packets that may not be split.
type PathMTU struct {
	Bytes   int  // the largest packet that this node sends on that way
	Small   bool // a small packet was answered
	Large   bool // one of Bytes was answered
	Shorter bool // this node, or a router, says that Bytes do not fit
}

const (
	ipv4Headers  = 20 + 8 // IPv4 and UDP without options
	ipv6Headers  = 40 + 8
	mtuTries     = 3
	mtuWait      = 250 * time.Millisecond
	maxUDPBytes  = 65507
	mtuBlackHole = "set the same MTU on all nodes' interfaces, on switches at least as much (ip link shows it)"
)

// pathMTU sends UDP packets that may not be split (ip(7), IP_PMTUDISC_PROBE) to the TCP port of a
// node, where no UDP is spoken: the other kernel answers "port unreachable", which shows as a
// refused connection. A firewall may keep it from that; then nothing is known. Small and large packets
// have a socket each: an answer that comes late must not count for the other.
func pathMTU(ctx context.Context, addr string) (PathMTU, error) {
	out, err := probeMTU(ctx, addr, func(out *PathMTU, c net.Conn, _ int) (err error) {
		out.Small, _, err = unreachableAnswer(c, 1)
		return err
	})
	if err != nil {
		return out, err
	}
	large, err := probeMTU(ctx, addr, func(out *PathMTU, c net.Conn, headers int) (err error) {
		out.Large, out.Shorter, err = unreachableAnswer(c, min(out.Bytes-headers, maxUDPBytes))
		return err
	})
	large.Small = out.Small
	return large, err
}

// probeMTU opens a socket whose packets are not split, notes how large they may be, and runs probe.
func probeMTU(ctx context.Context, addr string, probe func(out *PathMTU, c net.Conn, headers int) error) (PathMTU, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "udp", addr)
	if err != nil {
		return PathMTU{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	out := PathMTU{}
	headers := ipv4Headers
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return out, err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if c.RemoteAddr().(*net.UDPAddr).IP.To4() != nil {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			if set == nil {
				out.Bytes, set = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
			}
			return
		}
		headers = ipv6Headers
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		if set == nil {
			out.Bytes, set = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU)
		}
	})
	if err = errors.Join(err, os.NewSyscallError("setsockopt MTU_DISCOVER", set)); err != nil {
		return out, err
	}
	return out, probe(&out, c, headers)
}

// unreachableAnswer sends packets of n bytes until one is answered. Kernels limit how often they
// answer, hence the tries.
func unreachableAnswer(c net.Conn, n int) (answered, tooLong bool, err error) {
	packet := make([]byte, n)
	for range mtuTries {
		for _, call := range []func() error{
			func() error { _, err := c.Write(packet); return err },
			func() error {
				c.SetReadDeadline(time.Now().Add(mtuWait))
				_, err := c.Read(make([]byte, 1))
				return err
			},
		} {
			switch err := call(); {
			case errors.Is(err, syscall.ECONNREFUSED):
				return true, false, nil
			case errors.Is(err, syscall.EMSGSIZE):
				return false, true, nil
			case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
				return false, false, err
			}
		}
	}
	return false, false, nil
}

// checkMTU looks whether packets as large as this node sends them arrive at the others. Smaller ones
// that do, and these that do not, are a cluster that connects and then hangs.
func checkMTU(ctx context.Context, s Subject, h Host) []Finding {
	return eachPeer(s, func(m replica.Member, p *replica.PeerProbe) []Finding {
		got, err := h.PathMTU(ctx, m.Address)
		return []Finding{judgeMTU(m.Name, got, err, p)}
	})
}

func judgeMTU(node string, got PathMTU, err error, p *replica.PeerProbe) Finding {
	talks := p != nil && p.Error == ""
	switch {
	case talks && p.LargeError != "":
		return Finding{"mtu", Error, fmt.Sprintf("64 KiB do not get to %s and back: %s", node, p.LargeError), mtuBlackHole}
	case err == nil && got.Large:
		return Finding{Check: "mtu", Text: fmt.Sprintf("packets of %d bytes arrive at %s unsplit", got.Bytes, node)}
	case err == nil && (got.Shorter || got.Small):
		return Finding{"mtu", Error, fmt.Sprintf("packets of %d bytes, as this node sends them, do not arrive at %s", got.Bytes, node), mtuBlackHole}
	case talks:
		return Finding{Check: "mtu", Text: fmt.Sprintf("64 KiB get to %s and back over the agents' connection", node)}
	case err != nil:
		return Finding{"mtu", Warning, fmt.Sprintf("not tested to %s: %v", node, err), "see the network's line for " + node}
	}
	return Finding{"mtu", Warning, fmt.Sprintf("not tested to %s: it answers no UDP, and the agents do not talk", node),
		"see the network's line for " + node + ", then check again"}
}
