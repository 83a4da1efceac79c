// Package control is the agent's control API: JSON over HTTP on a Unix socket that only root may
// open, its server and its client. It must never decide anything: it checks the form of a
// request, asks the node, and puts the answer into words.
//
// Floor 4: imports replica, agent/image, agent/load.
package control

import (
	"context"
	"net/netip"
	"time"

	"trinas/agent/image"
	"trinas/agent/journal"
	"trinas/replica"
	"trinas/replica/volume"
)

// Limits of the API.
const (
	maxRequests     = 32               // requests served at once; more are refused as busy
	maxRequestBytes = 64 << 10         // most bytes of a request's body
	maxAnswerBytes  = 16 << 20         // most bytes of an answer that the client takes
	requestTimeout  = 60 * time.Second // longest that a request is worked on
)

// Cluster is what the server asks of a node that is a member of a cluster. *replica.Node is one.
type Cluster interface {
	Status(ctx context.Context) replica.Status
	ClusterID() string
	Probe(ctx context.Context) replica.Probe
	Present(ctx context.Context) []replica.PeerProbe
	NewToken(ctx context.Context, node string) (string, error)
	CreateVolume(ctx context.Context, name string, replicas int) (replica.VolumeStatus, error)
	DeleteVolume(ctx context.Context, name string) error
	Transfer(ctx context.Context, volume, node string) error
	MoveVolume(ctx context.Context, volume, from, to string) error
	Verify(ctx context.Context, volume string, req replica.VerifyRequest) error
	RetryReplica(ctx context.Context, volume string) error
	RebuildReplica(ctx context.Context, volume string, discard bool) error
	RemoveNode(ctx context.Context, node string) error
	ReplaceToken(ctx context.Context, node string) (string, error)
	Service(ctx context.Context, volume string) (replica.Service, error)
	AwaitService(ctx context.Context, volume string) (replica.Service, error)
	Claim(ctx context.Context, volume, path string) (already bool, err error)
	Deactivate(ctx context.Context, volume, path string) error
	Images(volume string) ([]replica.Image, error)
	MakeFolders(ctx context.Context, volume string, paths []string) error
	image.Doer
	Allow(ctx context.Context, name string, r volume.Rule) error
	Deny(ctx context.Context, name string, client netip.Prefix) error
	Ask(ctx context.Context, node, topic string, body []byte) ([]byte, error)
}

// Agent is what the server asks of the daemon around the node.
type Agent interface {
	// About describes the daemon.
	About() About
	// Cluster returns the node, or replica.ErrNoIdentity until Init or Join has succeeded.
	Cluster() (Cluster, error)
	// Web makes a token for the agent's web page.
	Web() (WebLogin, error)
	// Events is what has happened on all nodes after since.
	Events(ctx context.Context, since time.Time) Events
	// Init makes this node the first of a new cluster. node "": as configured.
	Init(ctx context.Context, cluster, node string) (Invitation, error)
	// Load gives what is known of all nodes' load, with so much of its history, or
	// replica.ErrNoIdentity. It never waits.
	Load(history time.Duration) (Load, error)
	// Join makes this node a member of the cluster that the node at address belongs to.
	Join(ctx context.Context, node, address, token string) error
}

// Level counts what the API can do. Every answer has it in LevelHeader, and a request may have the one
// that it needs there: an agent of less refuses it. 1: all but the following. 2: service, activate,
// deactivate, images. 3: the headers, provide, file, folders of images, how to mount, load, health in
// service, ask, events, web.
const Level = 3

const (
	oldestLevel = 3 // below it a program that says its level is too old for this agent
	pluginLevel = 3 // what the storage plugin needs of every node's agent
)

// Headers of requests and answers.
const (
	LevelHeader   = "Trinas-Level"
	ClusterHeader = "Trinas-Cluster" // of a request: the id of the cluster that it is meant for
)

// About describes the daemon that answers.
type About struct {
	Version     string `json:"version"`
	Level       int    `json:"level"` // Level
	State       string `json:"state"` // Waiting, Running or Stopping
	DataDir     string `json:"data_dir"`
	NFS         string `json:"nfs"` // the NFS server's addresses, with commas between; "" while it does not serve
	PID         int    `json:"pid"`
	UptimeSec   int64  `json:"uptime_sec"`
	HeapBytes   uint64 `json:"heap_bytes"`
	MemoryBytes uint64 `json:"memory_bytes"` // what the Go runtime has taken from the system
}

// The states of an agent.
const (
	Waiting  = "waiting for trinas init or trinas join"
	Running  = "running"
	Stopping = "stopping"
)

// Status is the answer to GET /v1/status. Without an identity the node's part is absent.
type Status struct {
	Agent About `json:"agent"`
	*replica.Status
}

// Invitation is what another node needs to join.
type Invitation struct {
	Token   string `json:"token"` // good once, for an hour
	Address string `json:"address"`
	Command string `json:"command"` // to be typed on the other node
}

// WebLogin is a way into the agent's web page.
type WebLogin struct {
	Address     string    `json:"address"`     // https://host:port/
	Token       string    `json:"token"`       // good once
	Link        string    `json:"link"`        // the log-in page's address with the token
	Until       time.Time `json:"until"`       // how long the token is good
	Fingerprint string    `json:"fingerprint"` // of the certificate: SHA-256, as browsers show it
}

// Events is the answer to GET /v1/events: what has happened on all nodes, in order of time.
type Events struct {
	Events  []Event       `json:"events"`
	Missing []MissingNode `json:"missing"` // their own are not among them
}

// Event is something that has happened, as the first node tells it. Took is the longest of any.
type Event struct {
	journal.Entry
	Nodes []string `json:"nodes"` // that tell it
	IDs   []string `json:"ids"`   // of their entries
}

// MissingNode is a node that did not answer.
type MissingNode struct {
	Node  string `json:"node"`
	Error string `json:"error"`
}

type initRequest struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

type joinRequest struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Token   string `json:"token"`
}

type volumeRequest struct {
	Name     string `json:"name"`
	Replicas int    `json:"replicas"` // 0: as many as is usual
}

// RebuildTopic is what the agent of another node is asked by, with a RebuildRequest, to rebuild its replica.
const RebuildTopic = "rebuild"

// RebuildRequest asks for a replica to be made anew from the others.
type RebuildRequest struct {
	Volume  string `json:"volume,omitempty"` // with RebuildTopic only; else the path names it
	Node    string `json:"node,omitempty"`   // "": the node of the agent that is asked
	Discard bool   `json:"discard"`          // the old copy is removed first
}

// Service is the answer to GET /v1/volumes/NAME/service: what a storage plugin asks before it lets a
// guest start. Mount is absent while this agent serves no NFS on a loopback address.
type Service struct {
	replica.Service
	Mount *Mount `json:"mount,omitempty"`
}

// Mount is how the agent's node mounts a volume: mount -t nfs -o OPTIONS SOURCE DIR.
type Mount struct {
	Source  string `json:"source"`
	Options string `json:"options"`
}

// Activation is the answer to an activation.
type Activation struct {
	WasActive bool `json:"was_active"` // on this node, before
}

// provideRequest asks for a volume that all of Nodes can use. Those are Proxmox's: each has to have an
// agent in this cluster that answers, of a level that the plugin can use.
type provideRequest struct {
	Nodes   []string `json:"nodes"`
	Create  bool     `json:"create"`  // where there is no such volume
	Folders []string `json:"folders"` // made in it
}

// Image is a guest's image: what the volume holds of it, and where it is active.
type Image struct {
	image.Image
	Writers []string `json:"writers"` // the nodes where it is active; only they may write it, if there are any
	Barred  []string `json:"barred"`  // the nodes that may not write it until they activate it again
}

// imageRequest activates or deactivates an image. WaitSec: how long to wait for a primary, at most
// requestTimeout; 0: that. Chain: the snapshots beside it, too (image.Chain).
type imageRequest struct {
	Path    string `json:"path"`
	WaitSec int    `json:"wait_sec"`
	Chain   bool   `json:"chain"`
}

type clientRequest struct {
	Client   string        `json:"client"` // address or network
	ReadOnly bool          `json:"read_only"`
	Squash   volume.Squash `json:"squash"`
}

type moveRequest struct {
	From string `json:"from"`
	To   string `json:"to"` // "": which one is chosen
}

type primaryRequest struct {
	Node string `json:"node"`
}

// Error is a failed request: what went wrong, and what to do next where that is known. It is an
// answer's body when the HTTP status is not 200.
type Error struct {
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"`
}

// Error is one line: the cause, then the next step.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + ": " + e.Hint
}
