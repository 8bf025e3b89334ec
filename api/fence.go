package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

const (
	// offlineSkew is by how much an offline verifier's clock and the minting node's may differ together: each
	// is at most two seconds off.
	offlineSkew = 4 * time.Second
	// deniedWait is how long, after the fence, is waited for the last nodes to say that they had heard of it.
	deniedWait = 250 * time.Millisecond
)

// stopAnswer is an answer that says how far a stop has come.
type stopAnswer interface{ Progress() *wire.Stop }

// outcome is what a handler leaves for the fence.
type outcome struct {
	handles []identity.Handle // that were revoked
	answer  stopAnswer        // nil: the answer says nothing of the fence but in its header
	// lapsed says that the write is committed and leadership was lost before it was fenced.
	lapsed bool
}

// answerStop answers with what was committed, and leaves it to the fence to add how far it came.
func (c *call) answerStop(answer stopAnswer, handles []identity.Handle) error {
	answer.Progress().Committed = true
	c.command.outcome = outcome{handles: handles, answer: answer}
	return c.answer(fasthttp.StatusOK, answer)
}

// lead runs a write at this node, which leads, and fences it if the client waits for that.
func (a *API) lead(c *call, handler func(*API, *call) error) error {
	c.command.outcome = outcome{}
	if err := handler(a, c); err != nil {
		return err
	}
	if c.command.wish.fenced && c.settled {
		return a.fence(c)
	}
	return nil
}

// fence has no node act any more on what was before the write. The write is made whatever becomes of that, so
// there are no errors from here on: only an answer that says how far it came.
func (a *API) fence(c *call) error {
	index, err := strconv.ParseUint(string(c.ctx.Response.Header.PeekBytes(headerIndex)), 10, 64)
	if err != nil {
		return fmt.Errorf("BUG: %s has committed something and does not say where: %w", c.route.pattern(), err)
	}
	o := &c.command.outcome
	ctx, cancel := context.WithDeadline(context.Background(), c.command.wish.until)
	defer cancel()
	raised, err := a.Cluster.Fence(ctx, index, a.FSM.View().EntriesOf(o.handles))
	progress := new(wire.Stop)
	if o.answer != nil {
		progress = o.answer.Progress()
	}
	switch {
	case identity.CodeOf(err) == identity.CodeNoLeader:
		o.lapsed = true
		if c.origin != nil {
			c.ctx.SetUserValue(failureKey, identity.CodeNoLeader)
		}
		progress.Detail = "leadership changed before it was fenced; ask again to wait for that"
	case err != nil:
		a.logger.Error("raising a fence", "request", string(c.id), "index", index, "error", err)
		progress.Detail = "it could not be fenced; this node's log says why"
	}
	a.report(progress, raised, err)
	c.ctx.Response.Header.Set(wire.HeaderFenced, strconv.FormatBool(progress.Fenced))
	if o.answer != nil {
		c.ctx.Response.SetBodyRaw(encodeJSON(o.answer))
	}
	return nil
}

// report tells how each node stands, and from when on those have heard that are none.
func (a *API) report(to *wire.Stop, f Fence, err error) {
	to.Fenced = err == nil && f.Done
	view := a.FSM.View()
	to.Nodes = nil
	for _, n := range f.Nodes {
		to.Nodes = append(to.Nodes, wire.FencedNode{ID: n.ID, State: n.State, After: wire.Milliseconds(n.After)})
	}
	if err != nil {
		for _, m := range view.Members() {
			to.Nodes = append(to.Nodes, wire.FencedNode{ID: m.ID, State: wire.NodeWaiting})
		}
	}
	if !to.Fenced {
		return
	}
	now := a.Clock()
	bound := view.LeaseBound()
	to.ValidatorsUntil = identity.InstantOf(now.Add(bound + cluster.LeaseDrift(bound)))
	to.OfflineUntil = identity.InstantOf(now.Add(view.OfflineBound() + offlineSkew))
}

// tellDenied adds to the answer what came of the deny that this node began when it was asked. Where the leader
// answered, it knows nothing of that.
func (a *API) tellDenied(c *call, said Denied) error {
	if said == nil || c.route.Response == nil || c.ctx.Response.StatusCode() != fasthttp.StatusOK {
		return nil
	}
	answer, tells := reflect.New(reflect.TypeOf(c.route.Response)).Interface().(stopAnswer)
	if !tells {
		return nil
	}
	if err := json.Unmarshal(c.ctx.Response.Body(), answer); err != nil {
		return fmt.Errorf("reading the answer to a stop: %w", err)
	}
	answer.Progress().Denied = heard(said)
	c.ctx.Response.SetBodyRaw(encodeJSON(answer))
	return nil
}

// heard asks once more who has denied it. Most have long answered.
func heard(said Denied) *wire.Denied {
	ctx, cancel := context.WithTimeout(context.Background(), deniedWait)
	defer cancel()
	nodes, of, after := said.Wait(ctx)
	return &wire.Denied{Nodes: nodes, Of: of, After: wire.Milliseconds(after)}
}
