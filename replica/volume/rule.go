package volume

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Nobody is who a caller without an identity of its own is: Linux's overflow user and group.
const Nobody = 65534

// Squash says which callers of a client are taken for nobody (user and group 65534).
type Squash string

const (
	SquashRoot Squash = "root" // user 0, and group 0 wherever it stands
	SquashNone Squash = "none" // no one: the client's root is root here
	SquashAll  Squash = "all"  // everybody, with no further groups
)

// Rule is a line of a volume's allow list: which hosts other than the nodes themselves may use the
// volume, and how. Of several that hold for an address the one with the longest prefix counts.
type Rule struct {
	Client   netip.Prefix `json:"client"` // masked; one address: all its bits
	ReadOnly bool         `json:"read_only"`
	Squash   Squash       `json:"squash"`
}

// MaxRules is how long a volume's allow list may be. It is searched for every request.
const MaxRules = 64

// ParseClient reads what a rule holds for: an address, or a network with its prefix's length.
func ParseClient(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("client %q: write an address or a network, such as 192.0.2.7 or 192.0.2.0/24", text)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("client %q: write %s for the network or %s for the one address", text, p.Masked(), p.Addr())
	case p.Addr().IsLoopback():
		return netip.Prefix{}, fmt.Errorf("client %q: a node's own loopback clients may always read and write", text)
	}
	return p, nil
}

// ClientText is a rule's client as people write it: one address without its length.
func ClientText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Check reports what is wrong with a rule.
func (r Rule) Check() error {
	if _, err := ParseClient(r.Client.String()); err != nil {
		return err
	}
	switch r.Squash {
	case SquashRoot, SquashNone, SquashAll:
		return nil
	}
	return fmt.Errorf("squash %q: must be %q, %q or %q", r.Squash, SquashRoot, SquashNone, SquashAll)
}

// WithRule is a copy of rules that holds r in place of what it had for the same client. The
// longest prefixes stand first.
func WithRule(rules []Rule, r Rule) []Rule {
	out := append(WithoutRule(rules, r.Client), r)
	slices.SortFunc(out, func(a, b Rule) int {
		return cmp.Or(b.Client.Bits()-a.Client.Bits(), a.Client.Addr().Compare(b.Client.Addr()))
	})
	return out
}

// WithoutRule is a copy of rules without the one for client.
func WithoutRule(rules []Rule, client netip.Prefix) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Client == client })
}

// FindRule is the rule that holds for addr, of rules in the order of WithRule.
func FindRule(rules []Rule, addr netip.Addr) (Rule, bool) {
	for i := range rules {
		if rules[i].Client.Contains(addr) {
			return rules[i], true
		}
	}
	return Rule{}, false
}

// String is the rule in a few words: "192.0.2.0/24 (read-only, root squashed)".
func (r Rule) String() string {
	var how []string
	if r.ReadOnly {
		how = append(how, "read-only")
	}
	if r.Squash != SquashNone {
		how = append(how, string(r.Squash)+" squashed")
	}
	if how == nil {
		return ClientText(r.Client)
	}
	return ClientText(r.Client) + " (" + strings.Join(how, ", ") + ")"
}
