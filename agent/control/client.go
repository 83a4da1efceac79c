package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// Client asks an agent through its control socket. Errors are one line that an admin can act on;
// those that the agent answered with are *Error.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the agent whose control socket is at path. It connects when it is
// first used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1, DisableCompression: true},
		Timeout:   requestTimeout + 15*time.Second,
	}}
}

// Close drops the connection to the agent.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the state of the agent, the node and every volume.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	return out, c.do(ctx, http.MethodGet, "/v1/status", nil, &out)
}

// Init makes the agent's node the first of a new cluster. node "": as configured.
func (c *Client) Init(ctx context.Context, cluster, node string) (Invitation, error) {
	var out Invitation
	return out, c.do(ctx, http.MethodPost, "/v1/init", initRequest{Cluster: cluster, Node: node}, &out)
}

// Join makes the agent's node a member of the cluster of the node at address ("host:port").
func (c *Client) Join(ctx context.Context, node, address, token string) error {
	return c.do(ctx, http.MethodPost, "/v1/join", joinRequest{Node: node, Address: address, Token: token}, nil)
}

// Token asks for a token that lets one more node join, once, within an hour.
func (c *Client) Token(ctx context.Context) (Invitation, error) {
	var out Invitation
	return out, c.do(ctx, http.MethodPost, "/v1/token", nil, &out)
}

// Probe has the agent look at its connections to the other nodes. It takes some seconds.
func (c *Client) Probe(ctx context.Context) (replica.Probe, error) {
	var out replica.Probe
	return out, c.do(ctx, http.MethodGet, "/v1/probe", nil, &out)
}

// Volumes lists the volumes.
func (c *Client) Volumes(ctx context.Context) ([]replica.VolumeStatus, error) {
	var out []replica.VolumeStatus
	return out, c.do(ctx, http.MethodGet, "/v1/volumes", nil, &out)
}

// CreateVolume makes a volume on replicas nodes (0: as many as is usual); it returns once the volume
// has a primary.
func (c *Client) CreateVolume(ctx context.Context, name string, replicas int) (replica.VolumeStatus, error) {
	var out replica.VolumeStatus
	return out, c.do(ctx, http.MethodPost, "/v1/volumes", volumeRequest{Name: name, Replicas: replicas}, &out)
}

// DeleteVolume removes a volume and everything in it, on every node.
func (c *Client) DeleteVolume(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/volumes/"+url.PathEscape(name), nil, nil)
}

// SetPrimary hands the volume's primary over to node; "": to any other.
func (c *Client) SetPrimary(ctx context.Context, volume, node string) error {
	path := "/v1/volumes/" + url.PathEscape(volume) + "/primary"
	return c.do(ctx, http.MethodPost, path, primaryRequest{Node: node}, nil)
}

// MoveVolume begins to move a volume's replica between nodes; to "": which one is chosen.
func (c *Client) MoveVolume(ctx context.Context, volume, from, to string) error {
	path := "/v1/volumes/" + url.PathEscape(volume) + "/move"
	return c.do(ctx, http.MethodPost, path, moveRequest{From: from, To: to}, nil)
}

// Verify begins to verify a volume, or stops it; VolumeStatus.Verify tells how far it is.
func (c *Client) Verify(ctx context.Context, volume string, req replica.VerifyRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(volume)+"/verify", req, nil)
}

// RetryReplica brings the agent's own replica of a volume, which is Failed, back into service.
func (c *Client) RetryReplica(ctx context.Context, volume string) error {
	return c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(volume)+"/retry", nil, nil)
}

// RebuildReplica begins to make a node's replica of a volume, which is Failed, anew from the others; node "": the agent's own.
func (c *Client) RebuildReplica(ctx context.Context, volume, node string, discard bool) error {
	return c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(volume)+"/rebuild", RebuildRequest{Node: node, Discard: discard}, nil)
}

// RemoveNode begins to empty a node and to take it out of the cluster.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return c.do(ctx, http.MethodDelete, "/v1/nodes/"+url.PathEscape(node), nil, nil)
}

// ReplaceNode asks for a token that lets one new node join in the place of another, within an hour.
func (c *Client) ReplaceNode(ctx context.Context, node string) (Invitation, error) {
	var out Invitation
	return out, c.do(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/replace", nil, &out)
}

// Events asks for what has happened on all nodes after since.
func (c *Client) Events(ctx context.Context, since time.Time) (Events, error) {
	var out Events
	return out, c.do(ctx, http.MethodGet, "/v1/events?since="+url.QueryEscape(since.Format(time.RFC3339Nano)), nil, &out)
}

// Web asks for a way into the agent's web page, good once.
func (c *Client) Web(ctx context.Context) (WebLogin, error) {
	var out WebLogin
	return out, c.do(ctx, http.MethodPost, "/v1/web", nil, &out)
}

// Ask has the agent bring a request, JSON, to the agent of a node (which may be itself), and its
// answer, JSON, back.
func (c *Client) Ask(ctx context.Context, node, topic string, body []byte) ([]byte, error) {
	var out json.RawMessage
	path := "/v1/nodes/" + url.PathEscape(node) + "/ask/" + url.PathEscape(topic)
	return out, c.do(ctx, http.MethodPost, path, json.RawMessage(body), &out)
}

// Service asks what a user of the volume through the agent's node needs to know.
func (c *Client) Service(ctx context.Context, volume string) (Service, error) {
	var out Service
	return out, c.do(ctx, http.MethodGet, "/v1/volumes/"+url.PathEscape(volume)+"/service", nil, &out)
}

// Images lists the images of one guest, or of all (vmid ""), in the folder image.Folder.
func (c *Client) Images(ctx context.Context, volume, vmid string) ([]Image, error) {
	var out []Image
	path := "/v1/volumes/" + url.PathEscape(volume) + "/images?vmid=" + url.QueryEscape(vmid)
	return out, c.do(ctx, http.MethodGet, path, nil, &out)
}

// Activate lets the agent's node write the image at path, from the volume's root. It waits for a
// primary, at most wait (0: a minute), in whole seconds.
func (c *Client) Activate(ctx context.Context, volume, path string, wait time.Duration) error {
	return c.changeImage(ctx, "activate", volume, path, wait)
}

// Deactivate ends what Activate began.
func (c *Client) Deactivate(ctx context.Context, volume, path string, wait time.Duration) error {
	return c.changeImage(ctx, "deactivate", volume, path, wait)
}

func (c *Client) changeImage(ctx context.Context, what, volume, path string, wait time.Duration) error {
	req := imageRequest{Path: path, WaitSec: int(wait / time.Second)}
	return c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(volume)+"/"+what, req, nil)
}

// Allow puts a rule for client, an address or a network, into the volume's allow list, in place of
// the one that it has for the same client.
func (c *Client) Allow(ctx context.Context, name, client string, readOnly bool, squash volume.Squash) (volume.Rule, error) {
	var out volume.Rule
	path := "/v1/volumes/" + url.PathEscape(name) + "/clients"
	return out, c.do(ctx, http.MethodPost, path, clientRequest{Client: client, ReadOnly: readOnly, Squash: squash}, &out)
}

// Deny takes the rule for client out of the volume's allow list.
func (c *Client) Deny(ctx context.Context, name, client string) error {
	path := "/v1/volumes/" + url.PathEscape(name) + "/clients/" + url.PathEscape(client)
	return c.do(ctx, http.MethodDelete, path, nil, nil)
}

// do sends in (nil: no body) and decodes the answer into out (nil: ignored).
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return fmt.Errorf("the agent broke off its answer: %w: see its log", err)
	}
	if len(b) > maxAnswerBytes {
		return fmt.Errorf("the agent's answer is longer than %d bytes", maxAnswerBytes)
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{}
		if json.Unmarshal(b, e) != nil || e.Text == "" {
			e.Text = "the agent answered " + resp.Status
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the agent's answer cannot be read: %w: command line and agent are of different versions", err)
	}
	return nil
}

// ErrNoAgent is matched by the errors of a Client whose agent does not run.
var ErrNoAgent = errors.New("no agent answers")

// noAgentError is ErrNoAgent with the socket's path.
type noAgentError string

func (e noAgentError) Error() string {
	return fmt.Sprintf("%v at %s: start it (systemctl start trinas), or name its socket with --socket", ErrNoAgent, string(e))
}

func (e noAgentError) Is(target error) bool { return target == ErrNoAgent }

// unreachable puts a failed exchange into one line with the next step.
func (c *Client) unreachable(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // without the made-up URL
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return noAgentError(c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("control socket %s: permission denied: run this as root", c.path)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from the agent at %s: %w", c.path, err)
	}
	return fmt.Errorf("ask the agent at %s: %w", c.path, err)
}
