package fsm

import "github.com/deputy-id/deputy/identity"

// agent returns a copy of the row, to change and put back.
func (s *state) agent(name string) (*agentRow, *identity.Error) {
	row, ok := s.agents.find(name)
	if !ok {
		return nil, notFound("agent", name)
	}
	changed := *row
	return &changed, nil
}

func (s *state) putAgent(row *agentRow) *identity.Agent {
	row.Updated, row.Revision = s.time, s.index
	s.agents.set(row)
	return &row.Agent
}

func (s *state) createAgent(b CreateAgent) (*identity.Agent, *identity.Error) {
	if b.Agent.Name == "" {
		return nil, invalid("the agent has no name")
	}
	if _, ok := s.agents.find(b.Agent.Name); ok {
		return nil, alreadyExists("agent", b.Agent.Name)
	}
	row := newAgentRow(b.Agent, &s.texts)
	var err *identity.Error
	if row.Credentials, err = s.fileCredentials(Owner{OwnerAgent, row.Name}, b.Agent.Credentials); err != nil {
		return nil, err
	}
	row.Generation = s.nextGeneration()
	row.born = row.Generation
	row.Status, row.Created = identity.StatusActive, s.time
	s.horizon.raise(row.MaxSessionSeconds, 0)
	return s.putAgent(row), nil
}

func (s *state) updateAgent(b UpdateAgent) (*identity.Agent, *identity.Error) {
	row, err := s.agent(b.Agent.Name)
	if err != nil {
		return nil, err
	}
	if err := unchangedSince(b.IfRevision, row.Revision, "agent", row.Name); err != nil {
		return nil, err
	}
	row.Description, row.OwnerGroup, row.Type = b.Agent.Description, b.Agent.OwnerGroup, b.Agent.Type
	row.DefaultScopes, row.MaxSessionSeconds = b.Agent.DefaultScopes, b.Agent.MaxSessionSeconds
	row.share(&s.texts)
	row.Applications, row.Groups, row.Labels = b.Agent.Applications, b.Agent.Groups, b.Agent.Labels
	s.horizon.raise(row.MaxSessionSeconds, 0)
	return s.putAgent(row), nil
}

func (s *state) setAgentStatus(b SetAgentStatus) (*AgentChange, *identity.Error) {
	if err := validStatus(b.Status); err != nil {
		return nil, err
	}
	row, err := s.agent(b.Name)
	if err != nil {
		return nil, err
	}
	if row.Status == identity.StatusActive && b.Status == identity.StatusActive {
		return &AgentChange{Agent: &row.Agent}, nil
	}
	row.Status = b.Status
	handles := s.endGeneration(row, b.Reason)
	return &AgentChange{Agent: s.putAgent(row), Handles: handles}, nil
}

func (s *state) killAgent(b KillAgent) (*AgentChange, *identity.Error) {
	row, err := s.agent(b.Name)
	if err != nil {
		return nil, err
	}
	if row.Status == identity.StatusActive && !b.KeepActive {
		row.Status = identity.StatusSuspended
	}
	handles := s.endGeneration(row, b.Reason)
	return &AgentChange{Agent: s.putAgent(row), Handles: handles}, nil
}

func (s *state) deleteAgent(b DeleteAgent) (*AgentChange, *identity.Error) {
	row, err := s.agent(b.Name)
	if err != nil {
		return nil, err
	}
	handles := s.endGeneration(row, b.Reason)
	for _, c := range row.Credentials {
		s.owners.delete(named[Owner]{key: c.ID})
	}
	s.agents.delete(row.Name)
	s.bury(goneAgent, row.Name)
	return &AgentChange{Agent: &row.Agent, Handles: handles}, nil
}

// endGeneration denies the agent's generation and gives it the next one. No generation is ever left without
// being denied, or its tokens could no longer be killed by naming the agent.
func (s *state) endGeneration(row *agentRow, reason string) []identity.Handle {
	h := row.Handle()
	s.deny(reason, h)
	row.Generation = s.nextGeneration()
	return []identity.Handle{h}
}
