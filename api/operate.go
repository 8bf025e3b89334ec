package api

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// member finds the member that the path names; one that was removed is none.
func (c *call) member() (*identity.Member, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	member, ok := c.view.Member(id)
	if !ok || !member.Removed.IsZero() {
		return nil, notFound("member", id)
	}
	return member, nil
}

// changed says where the log has what the cluster was asked for.
func (c *call) changed(index uint64) {
	c.settled = true
	c.setIndex(index)
}

// operation runs what the cluster does in several steps, such as a change of members, in bounded time.
func (c *call) operation() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), membershipDeadline)
}

func (a *API) drainMember(c *call) error {
	member, err := c.member()
	if err != nil {
		return err
	}
	var request wire.DrainRequest
	if err := c.optionalBody(&request); err != nil {
		return err
	}
	draining := request.Draining == nil || *request.Draining
	ctx, cancel := c.operation()
	defer cancel()
	drained, index, err := a.Cluster.DrainMember(ctx, member.ID, c.caller.id(), draining)
	if err != nil {
		return err
	}
	c.changed(index)
	return c.answer(fasthttp.StatusOK, wire.Drain{ID: drained.ID, Draining: !drained.Draining.IsZero(), Index: index})
}

func (a *API) rotateKey(c *call) error {
	member, err := c.member()
	if err != nil {
		return err
	}
	return a.change(c, func(ctx context.Context, by string) (uint64, error) { return a.Cluster.RotateKey(ctx, member.ID, by) })
}

func (a *API) rotateKeys(c *call) error {
	return a.change(c, func(ctx context.Context, by string) (uint64, error) { return a.Cluster.RotateKey(ctx, "", by) })
}

func (a *API) rotateGossipKey(c *call) error { return a.change(c, a.Cluster.RotateGossip) }

func (a *API) openMinting(c *call) error { return a.change(c, a.Cluster.OpenMinting) }

// change has the cluster do something that only has an index to tell.
func (a *API) change(c *call, do func(ctx context.Context, by string) (uint64, error)) error {
	ctx, cancel := c.operation()
	defer cancel()
	index, err := do(ctx, c.caller.id())
	if err != nil {
		return err
	}
	c.changed(index)
	return c.answer(fasthttp.StatusOK, wire.Change{Index: index})
}

func (a *API) getFreshness(c *call) error {
	state := showNodeStatus(a.Cluster.NodeStatus())
	state.MintingClosed = c.view.Closed()
	return c.answer(fasthttp.StatusOK, state)
}

// statusWait bounds the question to all nodes: one that does not answer is listed as such.
const statusWait = 3 * time.Second

func (a *API) getStatus(c *call) error {
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	all := []wire.NodeStatus{}
	for _, n := range a.Cluster.Status(ctx) {
		state := showNodeStatus(n)
		state.MintingClosed = c.view.Closed()
		all = append(all, state)
	}
	return c.answer(fasthttp.StatusOK, all)
}

func showNodeStatus(n NodeStatus) wire.NodeStatus {
	return wire.NodeStatus{
		ID: n.ID, Fresh: n.Fresh, Reason: n.Reason, Detail: n.Detail,
		AgeMilliseconds: wire.Milliseconds(n.Age), RemainingMilliseconds: wire.Milliseconds(n.Remaining),
		AppliedIndex: n.Applied, Behind: n.Behind, Leader: n.Leader, Draining: n.Draining,
		PendingRevocations: int64(n.Pending), ClockOffsetMilliseconds: wire.Milliseconds(n.ClockOffset),
		DiskFreeBytes: n.DiskFree, KeyID: n.KeyID, Error: n.Error,
	}
}
