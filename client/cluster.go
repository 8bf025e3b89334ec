package client

import (
	"context"
	"net/http"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

const clusterPath = "/api/v1/cluster"

// Members lists the nodes of the cluster, as the node that answers sees them.
func (c *Client) Members(ctx context.Context) (*Page[wire.Member], error) {
	return page[wire.Member](ctx, c, clusterPath+"/members", nil)
}

// Settings are what holds for the whole cluster.
func (c *Client) Settings(ctx context.Context) (*wire.Settings, error) {
	return get[wire.Settings](ctx, c, "/api/v1/settings")
}

// CreateJoinToken makes a token that lets one node join, once.
func (c *Client) CreateJoinToken(ctx context.Context, r wire.JoinTokenRequest) (*wire.JoinToken, error) {
	return write[wire.JoinToken](ctx, c, http.MethodPost, clusterPath+"/join-tokens", nil, r)
}

// RemoveMember takes a node out of the cluster for good; its id is never used again.
func (c *Client) RemoveMember(ctx context.Context, id, reason string, options ...Option) (*wire.RemovedMember, error) {
	patient := func(r *Request) { r.Patience = removalPatience }
	return write[wire.RemovedMember](ctx, c, http.MethodDelete, at(clusterPath, "members", id), reasonQuery(reason), nil, append([]Option{patient}, options...)...)
}

// TransferLeadership hands the lead to another voter. A lost answer is not asked for again: the lead may
// have moved on since.
func (c *Client) TransferLeadership(ctx context.Context, to string) (*wire.Transfer, error) {
	out := new(wire.Transfer)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: clusterPath + "/transfer-leadership", Body: wire.TransferRequest{To: to}}, out)
	return orNil(out, err)
}

// removalPatience is how long a node's removal may take: its lease has to end, and several changes are committed.
const removalPatience = time.Minute

// DrainMember has a node mint nothing and lead no more, so that it can be taken away; or ends that.
func (c *Client) DrainMember(ctx context.Context, id string, draining bool, options ...Option) (*wire.Drain, error) {
	return write[wire.Drain](ctx, c, http.MethodPost, at(clusterPath, "members", id, "drain"), nil, wire.DrainRequest{Draining: &draining}, options...)
}

// RotateKey has a node make a new token key, or every node where id is empty. What was signed with the one before
// stays good.
func (c *Client) RotateKey(ctx context.Context, id string, options ...Option) (*wire.Change, error) {
	path := clusterPath + "/rotate-keys"
	if id != "" {
		path = at(clusterPath, "members", id, "rotate-key")
	}
	return write[wire.Change](ctx, c, http.MethodPost, path, nil, nil, options...)
}

// RotateGossipKey begins to replace the key that gossip is encrypted with.
func (c *Client) RotateGossipKey(ctx context.Context) (*wire.Change, error) {
	return write[wire.Change](ctx, c, http.MethodPost, clusterPath+"/rotate-gossip-key", nil, nil)
}

// Status asks every node how it is, by way of the one that answers.
func (c *Client) Status(ctx context.Context) (*Page[wire.NodeStatus], error) {
	return page[wire.NodeStatus](ctx, c, clusterPath+"/status", nil)
}

// Freshness is whether the node that answers may speak, and why not.
func (c *Client) Freshness(ctx context.Context) (*wire.NodeStatus, error) {
	return get[wire.NodeStatus](ctx, c, clusterPath+"/freshness")
}

// OpenMinting has the cluster mint again after a restore or a recovery.
func (c *Client) OpenMinting(ctx context.Context) (*wire.Change, error) {
	return write[wire.Change](ctx, c, http.MethodPost, clusterPath+"/open", nil, nil)
}

// PatchSettings applies a JSON merge patch (RFC 7396) to the settings of the cluster.
func (c *Client) PatchSettings(ctx context.Context, patch any, options ...Option) (*wire.Settings, error) {
	return write[wire.Settings](ctx, c, http.MethodPatch, "/api/v1/settings", nil, patch, options...)
}
