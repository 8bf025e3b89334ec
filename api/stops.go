package api

import (
	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// What the requests that end something are about to end, in the view of the node that was asked. These look at a
// request before the handler does, which runs at the leader and says what is wrong with it: here only what would
// have the wrong thing denied is an error.

// stopRequest is that of POST /api/v1/revocations.
func (a *API) stopRequest(c *call) (*stop, error) {
	request, err := c.revocationRequest()
	if err != nil {
		return nil, err
	}
	handles, known := request.Handles, false
	var keep fsm.Body = fsm.Revoke{Handles: handles, Reason: request.Reason, Replay: request.Replay}
	switch {
	case request.SessionID != "":
		handles = []identity.Handle{identity.SessionHandle(request.SessionID)}
		keep = fsm.Revoke{Handles: handles, Reason: request.Reason}
	case request.DelegationID != "":
		handles = []identity.Handle{identity.DelegationHandle(request.DelegationID)}
		keep = fsm.Revoke{Handles: handles, Reason: request.Reason}
		if _, known = c.view.Delegation(request.DelegationID); known {
			keep = fsm.WithdrawDelegation{ID: request.DelegationID, Reason: request.Reason}
		}
	case request.AgentID != "":
		handles, known = c.agentHandles(request.AgentID)
		keep = fsm.KillAgent{Name: request.AgentID, Reason: request.Reason}
	case request.PrincipalID != "":
		handles, known = c.principalHandles(request.PrincipalID)
		keep = fsm.KillPrincipal{ID: request.PrincipalID, Reason: request.Reason}
	}
	return &stop{handles: handles, keep: keep, answer: &wire.Revocation{Handles: entries(handles), Known: known}}, nil
}

// agentHandles are those of the agent's generation here, if this node knows the agent.
func (c *call) agentHandles(name string) (handles []identity.Handle, known bool) {
	agent, known := c.view.Agent(name)
	if !known {
		return nil, false
	}
	return []identity.Handle{agent.Handle()}, true
}

func (c *call) principalHandles(id string) (handles []identity.Handle, known bool) {
	principal, known := c.view.Principal(id)
	if !known {
		return nil, false
	}
	return []identity.Handle{principal.Handle()}, true
}

// stopAgentKill is that of an agent's kill switch. An agent that this node does not know it leaves to the leader.
func (a *API) stopAgentKill(c *call) (*stop, error) {
	request, dryRun, err := c.kill()
	if err != nil {
		return nil, err
	}
	agent, err := c.agent()
	if err != nil || dryRun {
		return &stop{}, nil
	}
	handles := []identity.Handle{agent.Handle()}
	return &stop{
		handles: handles,
		keep:    fsm.KillAgent{Name: agent.Name, KeepActive: request.KeepActive, Reason: request.Reason},
		answer:  &wire.Kill{ID: agent.Name, Status: agent.Status, Handles: handles, Known: true},
	}, nil
}

// stopPrincipalKill is that of a principal's kill switch.
func (a *API) stopPrincipalKill(c *call) (*stop, error) {
	request, dryRun, err := c.kill()
	if err != nil {
		return nil, err
	}
	principal, err := c.principal()
	if err != nil || dryRun {
		return &stop{}, nil
	}
	handles := []identity.Handle{principal.Handle()}
	return &stop{
		handles: handles,
		keep:    fsm.KillPrincipal{ID: principal.ID, KeepActive: request.KeepActive, Reason: request.Reason},
		answer:  &wire.Kill{ID: principal.ID, Status: principal.Status, Handles: handles, Known: true},
	}, nil
}

// stopStatus is that of an agent's step in life: each but from active to active ends what runs.
func stopStatus(status identity.Status) func(*API, *call) (*stop, error) {
	return func(_ *API, c *call) (*stop, error) {
		agent, err := c.agent()
		if err != nil || agent.Status == identity.StatusActive && status == identity.StatusActive {
			return &stop{}, nil
		}
		return &stop{handles: []identity.Handle{agent.Handle()}}, nil
	}
}

// stopAgent is that of an agent's deletion.
func (a *API) stopAgent(c *call) (*stop, error) {
	agent, err := c.agent()
	if err != nil {
		return &stop{}, nil
	}
	return &stop{handles: []identity.Handle{agent.Handle()}}, nil
}

// stopPrincipal is that of a principal's deletion.
func (a *API) stopPrincipal(c *call) (*stop, error) {
	principal, err := c.principal()
	if err != nil {
		return &stop{}, nil
	}
	return &stop{handles: []identity.Handle{principal.Handle()}}, nil
}

// stopPatched is that of a principal's change: a change of status ends what runs.
func (a *API) stopPatched(c *call) (*stop, error) {
	current, err := c.principal()
	if err != nil {
		return &stop{}, nil
	}
	request, err := mergePatch(principalUpdateOf(current), c.ctx.PostBody())
	if err != nil || request.Status == current.Status || !validStatus(request.Status) {
		return &stop{}, nil
	}
	return &stop{handles: []identity.Handle{current.Handle()}}, nil
}

// stopDelegation is that of a withdrawal of consent.
func (a *API) stopDelegation(c *call) (*stop, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	if _, known := c.view.Delegation(id); !known {
		return &stop{}, nil
	}
	reason, err := c.reason()
	if err != nil {
		return nil, err
	}
	handles := []identity.Handle{identity.DelegationHandle(id)}
	return &stop{
		handles: handles,
		keep:    fsm.WithdrawDelegation{ID: id, Reason: reason},
		answer:  &wire.Deleted{ID: id, Handles: handles, Known: true},
	}, nil
}

// stopSession is that of a session's end. Sessions live in their tokens: no node knows them.
func (a *API) stopSession(c *call) (*stop, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	if _, err := identity.ParseID(identity.PrefixSession, id); err != nil {
		return nil, notFound("session", id)
	}
	reason, err := c.reason()
	if err != nil {
		return nil, err
	}
	handles := []identity.Handle{identity.SessionHandle(id)}
	return &stop{handles: handles, keep: fsm.Revoke{Handles: handles, Reason: reason}, answer: &wire.Revocation{Handles: handles}}, nil
}

// stopAPIToken is that of an API token's deletion.
func (a *API) stopAPIToken(c *call) (*stop, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	if _, known := c.view.APIToken(id); !known {
		return &stop{}, nil
	}
	return &stop{handles: []identity.Handle{identity.CredentialHandle(id)}}, nil
}

// stop is that of a credential's removal.
func (o credentialOwner) stop(_ *API, c *call) (*stop, error) {
	_, credentials, err := o.find(c)
	if err != nil {
		return &stop{}, nil
	}
	id, err := c.param("credential")
	if err != nil {
		return nil, err
	}
	for i := range credentials {
		if credentials[i].ID == id {
			return &stop{handles: []identity.Handle{identity.CredentialHandle(id)}}, nil
		}
	}
	return &stop{}, nil
}
