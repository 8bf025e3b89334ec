package api

import (
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// agentOf makes the domain's agent of a request.
func agentOf(r *wire.AgentRequest, now identity.Instant) identity.Agent {
	longest := r.MaxSessionDuration
	if longest == 0 {
		longest = wire.DefaultMaxSessionSeconds
	}
	return identity.Agent{
		Name: r.Profile.Name, Description: r.Profile.Description, OwnerGroup: r.Profile.OwnerGroup, Type: r.Profile.AgentType,
		DefaultScopes: r.DefaultScopes, MaxSessionSeconds: longest, Applications: sortedSet(r.Applications),
		Groups: sortedSet(r.Groups), Labels: r.Labels, Status: identity.StatusActive, Created: now,
	}
}

// sortedSet sorts names and drops repeats.
func sortedSet(names []string) []string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// agentRequestOf is the request that would make the agent as it stands: what a merge patch is applied to.
func agentRequestOf(a *identity.Agent) wire.AgentRequest {
	return wire.AgentRequest{
		Profile:       profileOf(a),
		DefaultScopes: a.DefaultScopes, MaxSessionDuration: a.MaxSessionSeconds,
		Applications: a.Applications, Groups: a.Groups, Labels: a.Labels,
	}
}

func profileOf(a *identity.Agent) wire.Profile {
	return wire.Profile{Name: a.Name, Description: a.Description, OwnerGroup: a.OwnerGroup, AgentType: a.Type}
}

func showAgent(a *identity.Agent) wire.Agent {
	labels := a.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return wire.Agent{
		ID: a.Name, Profile: profileOf(a), DefaultScopes: a.DefaultScopes, MaxSessionDuration: a.MaxSessionSeconds,
		Applications: entries(a.Applications), Groups: entries(a.Groups), Labels: labels, Status: a.Status,
		Credentials: showCredentials(a.Credentials), Handle: a.Handle(),
		CreatedAt: a.Created, UpdatedAt: a.Updated, Revision: a.Revision,
	}
}

func (a *API) createAgent(c *call) error {
	var request wire.AgentRequest
	if err := c.body(&request); err != nil {
		return err
	}
	agent := agentOf(&request, c.now)
	secret, err := c.wantCredential(&agent.Credentials)
	if err != nil {
		return err
	}
	if err := agent.Validate(); err != nil {
		return err
	}
	created, _, err := proposed[*identity.Agent](a, c, fsm.CreateAgent{Agent: agent})
	if err != nil {
		return err
	}
	answer := showAgent(created)
	answer.Credential = showNewest(created.Name, created.Credentials, secret)
	return c.created("/api/v1/agents", created.Name, answer)
}

func (a *API) listAgents(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	agents := c.view.Agents(c.query("after"), limit+1)
	return answerList(c, agents, limit, showAgent, func(a *identity.Agent) string { return a.Name })
}

// agent finds the agent that the path names.
func (c *call) agent() (*identity.Agent, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	agent, ok := c.view.Agent(id)
	if !ok {
		return nil, notFound("agent", id)
	}
	return agent, nil
}

func (a *API) getAgent(c *call) error {
	agent, err := c.agent()
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showAgent(agent))
}

func (a *API) replaceAgent(c *call) error {
	current, err := c.agent()
	if err != nil {
		return err
	}
	var request wire.AgentRequest
	if err := c.body(&request); err != nil {
		return err
	}
	return a.updateAgent(c, current, &request, 0)
}

func (a *API) patchAgent(c *call) error {
	current, err := c.agent()
	if err != nil {
		return err
	}
	if err := c.wantMedia(mediaMergePatch, contentTypeJSON); err != nil {
		return err
	}
	request, err := mergePatch(agentRequestOf(current), c.ctx.PostBody())
	if err != nil {
		return err
	}
	return a.updateAgent(c, current, &request, current.Revision)
}

func (a *API) updateAgent(c *call, current *identity.Agent, request *wire.AgentRequest, ifRevision uint64) error {
	if request.Profile.Name != current.Name {
		return invalidField("/profile/name", "is %q; an agent's name is its id and can't change from %q", request.Profile.Name, current.Name)
	}
	revoke, err := c.flag("revoke")
	if err != nil {
		return err
	}
	agent := agentOf(request, c.now)
	if err := agent.Validate(); err != nil {
		return err
	}
	updated, _, err := proposed[*identity.Agent](a, c, fsm.UpdateAgent{Agent: agent, IfRevision: ifRevision})
	if err != nil {
		return err
	}
	if revoke {
		// A command of its own, after the update: no session may start from the old profile in between.
		kill := fsm.KillAgent{Name: current.Name, KeepActive: true, Reason: "narrowed by " + c.caller.id()}
		change, _, err := stopped[*fsm.AgentChange](a, c.second(), kill)
		if err != nil {
			return err
		}
		updated = change.Agent
	}
	return c.answer(fasthttp.StatusOK, showAgent(updated))
}

func (a *API) deleteAgent(c *call) error {
	name, err := c.param("id")
	if err != nil {
		return err
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	// Whether there is one, Apply decides: repeated after an unknown outcome, the agent is gone already.
	change, result, err := stopped[*fsm.AgentChange](a, c, fsm.DeleteAgent{Name: name, Reason: reason})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: name, Handles: change.Handles, Known: true, Index: result.Index}, change.Handles)
}

// setAgentStatus makes the handler of one lifecycle operation.
func setAgentStatus(status identity.Status) func(*API, *call) error {
	return func(a *API, c *call) error {
		agent, err := c.agent()
		if err != nil {
			return err
		}
		var request wire.Reason
		if err := c.optionalBody(&request); err != nil {
			return err
		}
		if err := checkReason(request.Reason); err != nil {
			return err
		}
		change, result, err := stopped[*fsm.AgentChange](a, c, fsm.SetAgentStatus{Name: agent.Name, Status: status, Reason: request.Reason})
		if err != nil {
			return err
		}
		return c.answerStop(&wire.AgentStatus{
			Agent: showAgent(change.Agent), Handles: entries(change.Handles), Index: result.Index,
		}, change.Handles)
	}
}

func (a *API) revokeAgent(c *call) error {
	agent, err := c.agent()
	if err != nil {
		return err
	}
	request, dryRun, err := c.kill()
	if err != nil {
		return err
	}
	answer := &wire.Kill{
		ID: agent.Name, Status: agent.Status, Handles: []identity.Handle{agent.Handle()}, Known: true, DryRun: dryRun,
	}
	showReach(answer, c.view.AgentReach(agent.Name))
	answer.Agents = 1
	if dryRun {
		c.setIndex(c.view.Index())
		return c.answer(fasthttp.StatusOK, answer)
	}
	change, result, err := stopped[*fsm.AgentChange](a, c, fsm.KillAgent{Name: agent.Name, KeepActive: request.KeepActive, Reason: request.Reason})
	if err != nil {
		return err
	}
	answer.Status, answer.Handles, answer.Index = change.Agent.Status, entries(change.Handles), result.Index
	return c.answerStop(answer, change.Handles)
}

// showReach tells what a kill touches. Sub-agents are not counted: they live in tokens, and die by the handles of
// those above them.
func showReach(to *wire.Kill, r fsm.Reach) {
	to.ActiveDelegations, to.Agents, to.Principals, to.Truncated = r.Delegations, r.Agents, r.Principals, r.Truncated
}

// kill reads the body and the query of a kill switch.
func (c *call) kill() (request wire.KillRequest, dryRun bool, err error) {
	if err := c.optionalBody(&request); err != nil {
		return request, false, err
	}
	if err := c.wishes(request.Wait); err != nil {
		return request, false, err
	}
	if err := checkReason(request.Reason); err != nil {
		return request, false, err
	}
	dryRun, err = c.flag("dry_run")
	return request, dryRun, err
}

// checkReason bounds what is kept with every revocation.
func checkReason(reason string) error {
	if len(reason) > identity.MaxReasonLength {
		return invalidField("/reason", "has %d bytes; at most %d are allowed", len(reason), identity.MaxReasonLength)
	}
	return nil
}

// reason reads the query parameter of a deletion.
func (c *call) reason() (string, error) {
	reason := c.query("reason")
	if len(reason) > identity.MaxReasonLength {
		return "", invalidParameter("reason", "has %d bytes; at most %d are allowed", len(reason), identity.MaxReasonLength)
	}
	return reason, nil
}
