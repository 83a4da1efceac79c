package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/transport"
)

// candidate is a node that is not a member yet.
func (c *Cluster) candidate(name string) *machine {
	m := &machine{disk: disk.NewMem(99)}
	m.opt = c.nodes[0].opt
	m.opt.Disk, m.opt.Advertise = m.disk.FS(), name+":7370"
	m.opt.Network = c.Net.attach(m.opt.Advertise)
	return m
}

// join tries to make m a member named name, by a new run of its program.
func (m *machine) join(name, token string) error {
	m.opt.Disk = m.disk.FS()
	return replica.Join(context.Background(), m.opt, name, "node1:7370", token)
}

func (c *Cluster) token() string {
	c.t.Helper()
	token, err := c.Node(1).NewToken(context.Background(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

// members are the nodes that have arrived and those that have not, as node 1 knows them.
func (c *Cluster) members() (arrived, joining []string) {
	for _, n := range c.Node(1).Status(context.Background()).Nodes {
		if n.Joining {
			joining = append(joining, n.Name)
		} else {
			arrived = append(arrived, n.Name)
		}
	}
	return arrived, joining
}

// Goal: a join may be cut short by a loss of power at any point and repeated with the same token;
// the directory is then nobody's or a member's, never something between, and the cluster counts
// one node. Method: the k-th operation of the disk crashes it, for every k until a join gets through.
func TestJoin_CutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 21, 2)
		m := c.candidate("late")
		const most = 200
		cuts, got := 0, false
		for k := 1; !got; k++ {
			if k > most {
				t.Fatalf("a join takes more than %d operations", most)
			}
			m.disk = disk.NewMem(uint64(k))
			token := c.token()
			ops := 0
			m.disk.OnOp(func(string, string, int64, int64) error {
				if ops++; ops == k {
					m.disk.Crash()
					return syscall.EIO
				}
				return nil
			})
			err := m.join("late", token)
			m.disk.OnOp(nil)
			if err == nil && ops < k {
				got = true
			} else {
				cuts++
			}
			m.opt.Disk = m.disk.FS()
			n, openErr := replica.Open(m.opt)
			if openErr == nil {
				n.Close() // it was admitted and knows: no second join
				continue
			}
			if !errors.Is(openErr, replica.ErrNoIdentity) {
				t.Fatalf("cut at operation %d (%v): the directory is neither empty nor a member's: %v", k, err, openErr)
			}
			if err := m.join("late", token); err != nil {
				t.Fatalf("repeated after a cut at operation %d (%v): %v", k, err, openErr)
			}
		}
		if cuts < 10 {
			t.Errorf("only %d operations were cut", cuts)
		}
		if arrived, joining := c.members(); len(arrived) != 2 || fmt.Sprint(joining) != "[late]" {
			t.Errorf("members %v, joining %v", arrived, joining)
		}
		c.nodes = append(c.nodes, m)
		c.Start(3)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := c.Node(3).Welcomed(ctx); err != nil {
			t.Fatal(err)
		}
		if arrived, joining := c.members(); len(arrived) != 3 || joining != nil {
			t.Errorf("in the end members %v, joining %v", arrived, joining)
		}
		c.Volume("v") // on all three, UpToDate
	})
}

// Goal: an init may be cut short at any point; afterwards init or join works as if nothing had been.
func TestInit_CutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 22, 1)
		for k, got := 1, false; !got; k++ {
			m := c.candidate("late")
			m.disk = disk.NewMem(uint64(k))
			ops := 0
			m.disk.OnOp(func(string, string, int64, int64) error {
				if ops++; ops == k {
					m.disk.Crash()
					return syscall.EIO
				}
				return nil
			})
			m.opt.Disk = m.disk.FS()
			_, err := replica.Init(m.opt, "other", "late")
			m.disk.OnOp(nil)
			got = err == nil && ops < k
			m.opt.Disk = m.disk.FS()
			if n, openErr := replica.Open(m.opt); openErr == nil {
				if got := n.Status(t.Context()).Cluster.Name; got != "other" {
					t.Errorf("cut at %d: a node of cluster %q", k, got)
				}
				n.Close()
				continue
			}
			if err := m.join("late", c.token()); err != nil {
				t.Fatalf("join after an init that was cut at operation %d: %v", k, err)
			}
			m.opt.Disk = m.disk.FS()
			known, err := replica.Inspect(m.opt.Disk)
			if err != nil || len(known.Members) == 0 || known.Members[0].Name != "node1" {
				t.Fatalf("cut at %d: the half-made cluster's state is still there: %+v, %v", k, known.Members, err)
			}
			n, err := replica.Open(m.opt)
			if err != nil {
				t.Fatalf("cut at %d: %v", k, err)
			}
			if got := n.Status(t.Context()).Cluster.Name; got != "sim" {
				t.Errorf("cut at %d: a node of cluster %q", k, got)
			}
			n.Close()
		}
	})
}

// Goal: each bad join is refused with a line that says what is wrong and what to do, and leaves
// nothing behind, neither in the cluster nor in the directory; a good one then works there.
func TestJoin_Bad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 23, 3)
		m := c.candidate("late")
		expired := c.token()
		time.Sleep(time.Hour + time.Second)
		good := c.token()
		bound, err := c.Node(1).NewToken(t.Context(), "somebody")
		if err != nil {
			t.Fatal(err)
		}
		request := m.opt.RequestJoin
		skew := func(change func(*string)) func(*machine) {
			return func(m *machine) {
				m.opt.RequestJoin = func(ctx context.Context, addr, ca string, r transport.JoinRequest) ([]byte, error) {
					body := string(r.Body)
					change(&body)
					return request(ctx, addr, ca, transport.JoinRequest{Body: []byte(body)})
				}
			}
		}
		clock := func(d time.Duration) func(*machine) {
			return skew(func(body *string) {
				now := time.Now().UnixNano()
				*body = strings.Replace(*body, fmt.Sprint(now), fmt.Sprint(now+int64(d)), 1)
			})
		}
		half, _, _ := strings.Cut(good, ".")
		flipped := strings.Replace(good, good[8:12], "0000", 1)
		for _, tt := range []struct {
			what, name, token string
			adjust            func(*machine)
			say               []string
		}{
			{"part of a token", "late", half, nil, []string{"copy it whole"}},
			{"wrong token", "late", flipped, nil, []string{"token is wrong", "trinas token"}},
			{"expired token", "late", expired, nil, []string{"expired", "trinas token"}},
			{"token of another node", "late", bound, nil, []string{`for node "somebody"`, `"late"`, "trinas token"}},
			{"name of a member", "NODE2", good, nil, []string{`named "node2"`, "member already", "--node"}},
			{"address of a member", "late", good, func(m *machine) { m.opt.Advertise = "node2:7370" },
				[]string{"address node2:7370", `"node2"`, "peer.advertise"}},
			{"no address", "late", good, func(m *machine) { m.opt.Advertise = "nowhere" }, []string{"nowhere", "peer.advertise"}},
			{"own address", "late", good, func(m *machine) { m.opt.Advertise = "node1:7370" }, []string{"own address"}},
			{"clock ahead", "late", good, clock(2 * time.Hour), []string{"2h0m0s ahead of node node1's", "chrony"}},
			{"clock behind", "late", good, clock(-61 * time.Second), []string{"1m1s behind node node1's", "chrony"}},
			{"newer", "late", good, skew(func(b *string) { *b = strings.Replace(*b, `"format":1`, `"format":2`, 1) }),
				[]string{"upgrade node node1"}},
			{"older", "late", good, skew(func(b *string) { *b = strings.Replace(*b, `"format":1,`, ``, 1) }),
				[]string{"upgrade this node"}},
			{"garbage", "late", good, skew(func(b *string) { *b = "x" }), []string{"same version"}},
			{"nobody there", "late", good, func(m *machine) {
				m.opt.RequestJoin = func(ctx context.Context, _, ca string, r transport.JoinRequest) ([]byte, error) {
					return request(ctx, "node9:7370", ca, r)
				}
			}, []string{"through node1:7370", "unreachable"}},
		} {
			m.disk = disk.NewMem(7)
			m.opt.Advertise, m.opt.RequestJoin = "late:7370", request
			if tt.adjust != nil {
				tt.adjust(m)
			}
			err := m.join(tt.name, tt.token)
			if err == nil {
				t.Fatalf("%s: joined", tt.what)
			}
			for _, w := range tt.say {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %q does not say %q", tt.what, err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: more than one line: %q", tt.what, err)
			}
			if left, err := m.disk.FS().List("."); err != nil || len(left) != 0 {
				t.Errorf("%s: left behind in the directory: %v, %v", tt.what, left, err)
			}
			if arrived, joining := c.members(); len(arrived) != 3 || joining != nil {
				t.Fatalf("%s: members %v, joining %v", tt.what, arrived, joining)
			}
		}
		m.opt.Advertise, m.opt.RequestJoin = "late:7370", request
		if err := m.join("late", good); err != nil {
			t.Fatal(err)
		}
		if err := m.join("late", good); err == nil || !strings.Contains(err.Error(), `belongs to node "late" of cluster "sim"`) {
			t.Errorf("second join of the directory: %v", err)
		}
		// The token is taken by a node that may still arrive, then by one that has.
		other := c.candidate("other")
		if err := other.join("other", good); err == nil || !strings.Contains(err.Error(), `used already, by node "late"`) {
			t.Errorf("token of a joining node: %v", err)
		}
		c.nodes = append(c.nodes, m)
		c.Start(4)
		if err := c.Node(4).Welcomed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := other.join("other", good); err == nil || !strings.Contains(err.Error(), `used already, by node "late"`) {
			t.Errorf("used token: %v", err)
		}
	})
}

// Goal: a node that was admitted and never came back is dropped after the token's life, its name
// is free again, and it never got a vote or a replica.
func TestJoin_NeverArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 24, 2)
		m := c.candidate("ghost")
		if err := m.join("ghost", c.token()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if _, joining := c.members(); fmt.Sprint(joining) != "[ghost]" {
			t.Fatalf("joining: %v", joining)
		}
		if _, err := c.Node(1).CreateVolume(t.Context(), "v", 3); err == nil || !strings.Contains(err.Error(), "cluster has 2") {
			t.Errorf("a volume on a node that has not arrived: %v", err)
		}
		time.Sleep(time.Hour)
		if arrived, joining := c.members(); len(arrived) != 2 || joining != nil {
			t.Errorf("members %v, joining %v", arrived, joining)
		}
	})
}
