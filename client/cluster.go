package client

import (
	"context"
	"net/http"

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
func (c *Client) RemoveMember(ctx context.Context, id, reason string) (*wire.RemovedMember, error) {
	return write[wire.RemovedMember](ctx, c, http.MethodDelete, at(clusterPath, "members", id), reasonQuery(reason), nil)
}

// TransferLeadership hands the lead to another voter. A lost answer is not asked for again: the lead may
// have moved on since.
func (c *Client) TransferLeadership(ctx context.Context, to string) (*wire.Transfer, error) {
	out := new(wire.Transfer)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: clusterPath + "/transfer-leadership", Body: wire.TransferRequest{To: to}}, out)
	return orNil(out, err)
}
