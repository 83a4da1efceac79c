package sim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
)

// Goal: what one node's agent asks comes to the other one's, or its own, and back, with who asks; errors
// come as text, a node that is cut off is known as that, and who leads a volume is known without asking.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 41, 3, func(o *replica.Options) {
			o.Answer = func(_ context.Context, from, topic string, body []byte) ([]byte, error) {
				if topic == "none" {
					return nil, errors.New("no such topic")
				}
				return []byte(from + "/" + topic + "/" + string(body)), nil
			}
		})
		asker := c.Node(1)
		for _, node := range []string{"node1", "node2", "node3"} {
			got, err := asker.Ask(t.Context(), node, "drill", []byte("x"))
			if err != nil || string(got) != "node1/drill/x" {
				t.Errorf("ask %s: %q, %v", node, got, err)
			}
		}
		if _, err := asker.Ask(t.Context(), "node2", "none", nil); err == nil || err.Error() != "node node2: no such topic" {
			t.Errorf("an error's text: %v", err)
		}
		if _, err := asker.Ask(t.Context(), "n9", "drill", nil); err == nil || !strings.Contains(err.Error(), `"n9"`) {
			t.Errorf("no such node: %v", err)
		}
		c.Crash(3)
		time.Sleep(time.Second)
		if _, err := asker.Ask(t.Context(), "node3", "drill", nil); !errors.Is(err, replica.ErrNotConnected) {
			t.Errorf("a node that is down: %v", err)
		}
		if v, err := asker.CreateVolume(t.Context(), "one", 1); err != nil {
			t.Fatal(err)
		} else if p, ok := asker.Primary("one"); !ok || p != v.Primary {
			t.Errorf("primary %q, %t, want %q", p, ok, v.Primary)
		}
		if p, ok := c.Node(2).Primary("one"); ok {
			t.Errorf("primary %q where there is no replica", p)
		}
	})
}
