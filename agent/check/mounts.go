package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const mountRemedy = "unmount it and mount it with -o vers=3,proto=tcp,hard,nolock"

// checkMounts reads how this node's volumes are mounted. It never looks below a mount.
func checkMounts(_ context.Context, s Subject, h Host) []Finding {
	all, err := h.mounts()
	if err != nil {
		return []Finding{{"mounts", Error, "cannot be read: " + err.Error(), "mount /proc"}}
	}
	var out []Finding
	for _, m := range all {
		if ownExport(m, s.Config.NFS.Listen) {
			out = append(out, judgeMount(m))
		}
	}
	if out == nil {
		out = []Finding{{Check: "mounts", Text: "no volume is mounted on this node"}}
	}
	return out
}

// ownExport tells whether a mount is of this node's NFS server.
func ownExport(m mount, addrs []string) bool {
	if m.fsType != "nfs" && m.fsType != "nfs4" {
		return false
	}
	i := strings.LastIndex(m.source, ":/")
	if i < 0 {
		return false
	}
	host := strings.Trim(m.source[:i], "[]")
	for _, text := range addrs {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		port := m.option("port")
		if port != fmt.Sprint(a.Port()) && (port != "" || a.Port() != 2049) {
			continue
		}
		ip, err := netip.ParseAddr(host)
		if host == "localhost" || err == nil && (ip == a.Addr() || ip.IsLoopback() && (a.Addr().IsLoopback() || a.Addr().IsUnspecified())) {
			return true
		}
	}
	return false
}

// option is the value of an option, "" when it is not there.
func (m mount) option(name string) string {
	for _, o := range m.options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return value
		}
	}
	return ""
}

func judgeMount(m mount) Finding {
	has := func(o string) bool { return slices.Contains(m.options, o) }
	bad := func(level Level, why string) Finding {
		return Finding{"mounts", level, m.dir + " (" + m.source + ") " + why, mountRemedy}
	}
	switch {
	case has("soft") || has("softerr"):
		return bad(Error, "is mounted soft: while a primary is chosen, writes of guests fail and data is lost")
	case m.option("vers") != "3" && !has("vers=3.0"):
		return bad(Error, fmt.Sprintf("is mounted with NFS version %q; trinas speaks 3", m.option("vers")))
	case m.option("proto") != "" && !strings.HasPrefix(m.option("proto"), "tcp"):
		return bad(Error, fmt.Sprintf("is mounted over %s; trinas speaks tcp", m.option("proto")))
	case !has("nolock") && m.option("local_lock") != "all":
		return bad(Warning, "is mounted without nolock: programs that lock files get errors")
	}
	text := m.dir + " (" + m.source + ") is mounted with vers=3, proto=tcp, hard, nolock"
	if n := m.option("nconnect"); n != "" {
		text += ", nconnect=" + n
	}
	return Finding{Check: "mounts", Text: text}
}
