package api

import (
	"context"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func endFilters() []Param {
	return writing(
		Param{"agent", "the agent whose sessions end, those of sub-agents that run under it as well", "string"},
		Param{"principal", "the principal whose sessions end; exactly one of agent and principal is needed", "string"}, queryDryRun, queryReason)
}

// sessionsEnd is whose sessions are to end. By design that is one handle: the generation of the agent or the principal,
// who gets the next one and may go on.
type sessionsEnd struct {
	agent, principal, reason string
	dryRun                   bool
}

func (c *call) sessionsEnd() (e sessionsEnd, err error) {
	e.agent, e.principal = c.query("agent"), c.query("principal")
	if (e.agent == "") == (e.principal == "") {
		return e, identity.Errorf(identity.CodeInvalid, "exactly one of agent and principal must be named: their sessions are ended").
			WithHint("DELETE /api/v1/sessions?agent=NAME, or ?principal=ID; DELETE /api/v1/sessions/ID ends one session")
	}
	if e.reason, err = c.reason(); err != nil {
		return e, err
	}
	e.dryRun, err = c.flag("dry_run")
	return e, err
}

// stopSessions is that of the end of all sessions. Whom this node does not know it leaves to the leader.
func (a *API) stopSessions(c *call) (*stop, error) {
	e, err := c.sessionsEnd()
	if err != nil || e.dryRun {
		return &stop{}, err
	}
	answer, known := c.endingSessions(&e)
	if !known {
		return &stop{}, nil
	}
	return &stop{handles: answer.Handles, keep: e.command(), answer: answer}, nil
}

// endingSessions is the answer as the view has it before the end.
func (c *call) endingSessions(e *sessionsEnd) (answer *wire.SessionsEnded, known bool) {
	answer = &wire.SessionsEnded{AgentID: e.agent, PrincipalID: e.principal, Known: true, DryRun: e.dryRun}
	if e.agent != "" {
		agent, known := c.view.Agent(e.agent)
		if known {
			answer.Status, answer.Handles = agent.Status, []identity.Handle{agent.Handle()}
		}
		return answer, known
	}
	principal, known := c.view.Principal(e.principal)
	if known {
		answer.Status, answer.Handles = principal.Status, []identity.Handle{principal.Handle()}
	}
	return answer, known
}

func (e *sessionsEnd) command() fsm.Body {
	if e.agent != "" {
		return fsm.KillAgent{Name: e.agent, KeepActive: true, Reason: e.reason}
	}
	return fsm.KillPrincipal{ID: e.principal, KeepActive: true, KeepConsent: true, Reason: e.reason}
}

func (a *API) endSessions(c *call) error {
	e, err := c.sessionsEnd()
	if err != nil {
		return err
	}
	answer, known := c.endingSessions(&e)
	switch {
	case !known && e.agent != "":
		return notFound("agent", e.agent)
	case !known:
		return notFound("principal", e.principal)
	case e.dryRun:
		return a.countSessions(c, &e, answer)
	}
	result, err := a.proposeStop(c, e.command())
	if err != nil {
		return err
	}
	switch change := result.Value.(type) {
	case *fsm.AgentChange:
		answer.Status, answer.Handles = change.Agent.Status, entries(change.Handles)
	case *fsm.PrincipalChange:
		answer.Status, answer.Handles = change.Principal.Status, entries(change.Handles)
	default:
		_, err := valueOf[*fsm.AgentChange](result)
		return err
	}
	answer.Index = result.Index
	return c.answerStop(answer, answer.Handles)
}

// countSessions tells how many sessions would end.
func (a *API) countSessions(c *call, e *sessionsEnd, answer *wire.SessionsEnded) error {
	q := SessionQuery{Agent: e.agent, Principal: e.principal, Active: true}
	err := a.ask(func() {
		n, more, nodes := a.Sessions.Count(context.Background(), q)
		answer.Count = &wire.SessionCount{Sessions: int64(n), Truncated: more}
		answer.Count.Nodes, answer.Count.Complete = showSessionNodes(nodes)
	})
	if err != nil {
		return err
	}
	c.setIndex(c.view.Index())
	return c.answer(fasthttp.StatusOK, answer)
}
