package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/agent/control"
	"trinas/agent/journal"
	"trinas/replica"
)

// eventsTopic is what agents ask each other's events under (replica.Node.Ask).
const eventsTopic = "events"

const (
	eventsWait = time.Second     // for a node's answer
	sameWithin = 5 * time.Second // of two nodes that tell the same thing; their clocks differ too
)

// eventsRequest asks for what has happened after a moment, by the asked node's clock.
type eventsRequest struct {
	Since time.Time `json:"since"`
}

// answerEvents answers another agent.
func (d *daemon) answerEvents(body []byte) ([]byte, error) {
	var req eventsRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decode what is asked: %w", err)
	}
	return json.Marshal(d.ring.Since(req.Since))
}

// Events gathers what has happened on all nodes after a moment, in eventsWait at most.
func (d *daemon) Events(ctx context.Context, since time.Time) control.Events {
	node := d.currentNode()
	if node == nil {
		return control.Events{Events: mergeEvents(d.ring.Since(since)), Missing: []control.MissingNode{}}
	}
	return gatherEvents(ctx, node, since)
}

// gatherEvents asks all nodes, this one too.
func gatherEvents(ctx context.Context, node *replica.Node, since time.Time) control.Events {
	ctx, cancel := context.WithTimeout(ctx, eventsWait)
	defer cancel()
	body, err := json.Marshal(eventsRequest{since})
	if err != nil { // no time of an API can fail to be encoded
		return control.Events{}
	}
	var mu sync.Mutex
	var all []journal.Entry
	missing := []control.MissingNode{}
	var asking sync.WaitGroup
	for _, m := range node.Known().Nodes {
		asking.Go(func() {
			raw, err := node.Ask(ctx, m.Name, eventsTopic, body)
			var told []journal.Entry
			if err == nil {
				err = json.Unmarshal(raw, &told)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, control.MissingNode{Node: m.Name, Error: err.Error()})
			}
			all = append(all, told...)
		})
	}
	asking.Wait()
	slices.SortFunc(missing, func(a, b control.MissingNode) int { return strings.Compare(a.Node, b.Node) })
	return control.Events{Events: mergeEvents(all), Missing: missing}
}

// mergeEvents puts what nodes tell in order, and makes one of what several tell of the same thing: the
// first one's, with the longest time that it took anybody.
func mergeEvents(all []journal.Entry) []control.Event {
	slices.SortStableFunc(all, func(a, b journal.Entry) int { return a.Time.Compare(b.Time) })
	shared := map[string]bool{}
	for _, e := range journal.Events() {
		shared[e.Name] = e.Shared
	}
	out := []control.Event{}
	newest := map[string]int{} // by what it is about: the last one's place in out
	for _, e := range all {
		about := strings.Join([]string{e.Event, e.Volume, e.Peer, e.Details["group"], e.Details["primary"], e.Details["term"]}, "\x00")
		if i, seen := newest[about]; seen && shared[e.Event] && e.Time.Sub(out[i].Time) < sameWithin && !slices.Contains(out[i].Nodes, e.Node) {
			out[i].Nodes = append(out[i].Nodes, e.Node)
			out[i].IDs = append(out[i].IDs, e.ID)
			out[i].Took = max(out[i].Took, e.Took)
			continue
		}
		newest[about] = len(out)
		out = append(out, control.Event{Entry: e, Nodes: []string{e.Node}, IDs: []string{e.ID}})
	}
	return out
}

// keepEvents takes up the events that an earlier run has kept, and keeps those of this one from now on: a
// directory without an identity stays empty.
func (d *daemon) keepEvents(ctx context.Context) {
	d.ring.Load(d.config.DataDir)
	d.besides.Go(func() {
		if err := d.ring.Keep(ctx, d.config.DataDir); err != nil {
			d.log.Warn("events are not kept over the next restart of the agent", "event", "events-not-kept", "err", err)
		}
	})
}
