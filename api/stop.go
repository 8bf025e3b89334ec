package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// stop is what a request is about to end, as far as the node that was asked can tell. That node denies it at
// once, before it proposes or forwards anything; the leader, who decides, goes by its own state.
type stop struct {
	handles []identity.Handle
	// keep is the command to be kept where no majority can be had; nil: the request is refused then. Only what
	// stops something may be committed later without asking again whether the caller still may.
	keep fsm.Body
	// answer is what to say then, but for how far it has come; nil: an empty 200, as RFC 7009 has it.
	answer stopAnswer
}

// writeStop is write for what ends something.
func (a *API) writeStop(c *call, s *stop, handler func(*API, *call) error) error {
	if err := c.readWish(); err != nil {
		return err
	}
	if err := a.plan(c); err != nil {
		return err
	}
	if c.origin != nil { // the node that was asked has denied it
		return a.lead(c, handler)
	}
	c.account.handles = s.handles
	var said Denied
	if len(s.handles) > 0 {
		said = a.Denials.Deny(s.handles)
		defer said.Release() // the log speaks for it, or nobody does and the entries run out
	}
	err := a.attempts(c, handler)
	if code := identity.CodeOf(err); s.keep != nil && (code == identity.CodeNoLeader || code == identity.CodeOutcomeUnknown) {
		return a.keep(c, s, said, err)
	}
	if err == nil && c.command.wish.fenced {
		err = a.tellDenied(c, said)
	}
	return err
}

// keep takes a stop that no majority could be had for. The caller may be known from a state that is old: to stop
// something is the safe direction.
func (a *API) keep(c *call, s *stop, said Denied, refusal error) error {
	command := fsm.Command{ID: c.command.internal, Time: a.now(), By: c.caller.id(), Body: s.keep}
	if err := a.Denials.Keep(command, s.handles); err != nil {
		a.logger.Error("keeping a revocation that no majority could be had for", "request", string(c.id), "error", err)
		return refusal
	}
	if c.command.wish.fenced {
		c.ctx.Response.Header.Set(wire.HeaderFenced, "false")
	}
	if s.answer == nil {
		noStore(&c.ctx.Response, fasthttp.StatusOK)
		return nil
	}
	progress := s.answer.Progress()
	progress.Detail = "no majority can be reached; this node keeps it, denies it at every node that it reaches, and will commit it when a majority is back"
	if said != nil && c.command.wish.fenced {
		progress.Denied = heard(said)
	}
	return c.answer(fasthttp.StatusAccepted, s.answer)
}
