package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"trinas/agent/load"
	"trinas/replica"
)

// Load is the answer to GET /v1/load?history=DURATION: all nodes as this one knows them. It is answered
// at once, whatever the other nodes do.
type Load struct {
	IntervalSec float64      `json:"interval_sec"` // how often this node looks
	Nodes       []NodeLoad   `json:"nodes"`
	Volumes     []VolumeLoad `json:"volumes"`
}

// NodeLoad is one node. Load is what it told last, AgeSec how long ago; both are absent of one that never
// told, as one whose agent is older. Answers is false when that is longer ago than it should be.
type NodeLoad struct {
	Node         string         `json:"node"`
	Self         bool           `json:"self"` // the node that answers
	Connected    bool           `json:"connected"`
	Answers      bool           `json:"answers"`
	Health       replica.Health `json:"health,omitempty"`
	HealthReason string         `json:"health_reason,omitempty"`
	AgeSec       *float64       `json:"age_sec,omitempty"`
	Load         *load.Report   `json:"load,omitempty"`
	History      *load.Series   `json:"history,omitempty"` // as long as was asked for, and known: an hour at most
}

// VolumeLoad is a volume's capacity. FreeBytes is what every replica in sync can still take.
type VolumeLoad struct {
	Volume    string `json:"volume"`
	Primary   string `json:"primary"` // "" while there is none that this node knows of
	UsedBytes uint64 `json:"used_bytes"`
	FreeBytes uint64 `json:"free_bytes"` // 0 while there is no primary to tell
}

// Load asks for the load of all nodes, with so much of their history (0: none).
func (c *Client) Load(ctx context.Context, history time.Duration) (Load, error) {
	var out Load
	path := "/v1/load"
	if history > 0 {
		path += "?history=" + url.QueryEscape(history.String())
	}
	return out, c.do(ctx, http.MethodGet, path, nil, &out)
}

func (s *Server) load(w http.ResponseWriter, r *http.Request) {
	var history time.Duration
	if text := r.URL.Query().Get("history"); text != "" {
		var err error
		if history, err = time.ParseDuration(text); err != nil || history < 0 {
			refuse(w, http.StatusBadRequest, &Error{
				Text: fmt.Sprintf("history=%q is no duration", text), Hint: "write a number and s, m or h, such as 10m",
			})
			return
		}
	}
	out, err := s.agent.Load(min(history, load.Keep))
	finish(w, out, err)
}
