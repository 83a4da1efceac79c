package volume

import (
	"net/netip"
	"strings"
	"testing"
)

// Goal: a client is an address or a network, written one way; what cannot work is refused with
// what to write instead.
func TestParseClient(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "192.0.2.0/24": "192.0.2.0/24", "0.0.0.0/0": "0.0.0.0/0",
		"2001:db8::1": "2001:db8::1/128", "2001:db8::/32": "2001:db8::/32", "::ffff:192.0.2.7": "192.0.2.7/32",
	} {
		p, err := ParseClient(text)
		if err != nil || p.String() != want {
			t.Errorf("%s: %v, %v; want %s", text, p, err, want)
		}
		if again, err := ParseClient(ClientText(p)); err != nil || again != p {
			t.Errorf("%s is written %s, and read as %v, %v", text, ClientText(p), again, err)
		}
	}
	for text, say := range map[string]string{
		"": "such as", "pve1": "such as", "192.0.2.7/33": "such as", "fe80::1%eth0": "such as", "::ffff:192.0.2.0/120": "such as",
		"192.0.2.7/24": "192.0.2.0/24 for the network", "127.0.0.1": "always", "::1": "always", "127.0.0.0/8": "always",
	} {
		if _, err := ParseClient(text); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v; want %q", text, err, say)
		}
	}
	if (Rule{Client: netip.MustParsePrefix("10.0.0.0/8"), Squash: "some"}).Check() == nil || (Rule{Squash: SquashAll}).Check() == nil {
		t.Error("a rule without squash, or without a client, was taken")
	}
}

// Goal: the longest prefix wins, whatever the order in which rules came; a rule replaces the one
// for the same client; lists that others hold stay as they were.
func TestRules(t *testing.T) {
	rule := func(client string, s Squash) Rule { return Rule{Client: netip.MustParsePrefix(client), Squash: s} }
	var rules []Rule
	for _, r := range []Rule{
		rule("0.0.0.0/0", SquashAll), rule("10.1.0.0/16", SquashNone), rule("10.1.2.3/32", SquashAll),
		rule("10.0.0.0/8", SquashRoot), rule("10.1.2.3/32", SquashRoot), rule("2001:db8::/32", SquashNone),
	} {
		rules = WithRule(rules, r)
	}
	for addr, want := range map[string]string{
		"10.1.2.3": "10.1.2.3 (root squashed)", "10.1.2.4": "10.1.0.0/16", "10.2.0.1": "10.0.0.0/8 (root squashed)",
		"192.0.2.1": "0.0.0.0/0 (all squashed)", "2001:db8::7": "2001:db8::/32", "2001:db9::7": "",
	} {
		r, ok := FindRule(rules, netip.MustParseAddr(addr))
		if ok != (want != "") || ok && r.String() != want {
			t.Errorf("%s: %v, %v; want %q", addr, r, ok, want)
		}
	}
	less := WithoutRule(rules, netip.MustParsePrefix("10.1.2.3/32"))
	if r, _ := FindRule(less, netip.MustParseAddr("10.1.2.3")); len(less) != 4 || len(rules) != 5 || r.Client.Bits() != 16 {
		t.Errorf("after a rule was removed: %v of %v", less, rules)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { FindRule(rules, addr) }); n != 0 {
		t.Errorf("a search allocates %v times", n)
	}
}
