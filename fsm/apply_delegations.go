package fsm

import (
	"unique"

	"github.com/deputy-id/deputy/identity"
)

// createDelegation's value is the *record, which the receipt keeps and shown() turns into a delegation.
func (s *state) createDelegation(b CreateDelegation) (*record, *identity.Error) {
	d := &b.Delegation
	uuid, badID := identity.ParseID(identity.PrefixDelegation, d.ID)
	switch {
	case badID != nil:
		return nil, invalid("the delegation's id: %v", badID)
	case d.Principal == "":
		return nil, invalid("the delegation has no principal")
	case d.Expires <= s.time:
		return nil, identity.Errorf(identity.CodeDelegationExpired, "the delegation would end at %s, which is past", d.Expires)
	}
	if _, ok := s.delegations.byID.getNear(&record{id: uuid}); ok {
		return nil, alreadyExists("delegation", d.ID)
	}
	if s.isRevoked(identity.DelegationHandle(d.ID)) {
		return nil, identity.Errorf(identity.CodeRevoked, "delegation %s was revoked before it was made", d.ID)
	}
	agent, ok := s.agents.find(d.Agent)
	if !ok {
		return nil, notFound("agent", d.Agent)
	}
	if agent.Status == identity.StatusDeactivated {
		return nil, identity.Errorf(identity.CodeAgentDeactivated, "agent %s is deactivated", agent.Name).
			WithHint("an admin may activate it: deputy agent activate %s", agent.Name)
	}
	p, known := s.principals.find(d.Principal)
	switch {
	case !known && !b.EnsurePrincipal:
		return nil, notFound("principal", d.Principal)
	case known && p.Status != identity.StatusActive:
		return nil, identity.Errorf(identity.CodePrincipalSuspended, "principal %s is %s", p.ID, p.Status).
			WithHint("an admin may activate them: deputy principal activate %s", p.ID)
	case known:
		if err := s.mayLend(p, agent, b.Regrant); err != nil {
			return nil, err
		}
	default:
		s.addPrincipal(identity.Principal{ID: d.Principal})
		p, _ = s.principals.find(d.Principal)
	}
	r := &record{
		id: uuid, agent: agent.text, scopes: unique.Make(string(d.Scopes)), origin: unique.Make(d.Origin),
		principal: p.ID, reason: s.texts.intern(d.Reason), created: s.stamp(d.Created), expires: d.Expires,
		revision: s.index, made: s.generation, maxHops: d.MaxHops,
	}
	s.delegations.add(r)
	return r, nil
}

// mayLend holds a new delegation to the principal's consent and to the bound of the pair.
func (s *state) mayLend(p *principalRow, agent *agentRow, regrant bool) *identity.Error {
	if s.pairIsFull(p, agent) {
		return identity.Errorf(identity.CodeLimitReached, "%s has %d active delegations to agent %s, which is the most allowed", p.ID, MaxPairDelegations, agent.Name).
			WithHint("withdraw some, or lend all scopes in one")
	}
	if !barred(s.bars.work, p, agent.Name) {
		return nil
	}
	if !regrant {
		return identity.Errorf(identity.CodeConsentWithdrawn, "%s withdrew their consent to agent %s", p.ID, agent.Name).
			WithHint("only the user or an admin may grant it again")
	}
	lifted := bar{principal: p.ID, agent: agent.Name, made: s.generation}
	if p.killed > 0 {
		s.bars.set(lifted) // an exception to the kill
	} else {
		s.bars.delete(lifted)
	}
	return nil
}

// pairIsFull reports whether a principal has lent to an agent as often as is allowed, in delegations that are active.
func (s *state) pairIsFull(p *principalRow, agent *agentRow) bool {
	lent := s.pairOf(p, agent)
	if lent.len() < MaxPairDelegations || lent.lead.expires <= s.time { // it lasts longest
		return false
	}
	return s.activeOfPair(p, agent) == MaxPairDelegations
}

// activeOfPair counts the active delegations from a principal to an agent, up to MaxPairDelegations.
func (s *state) activeOfPair(p *principalRow, agent *agentRow) (active int) {
	s.pairOf(p, agent).descend(func(r *record) bool {
		if r.expires <= s.time {
			return false // so have the rest
		}
		if r.of(agent, p) {
			active++
		}
		return active < MaxPairDelegations
	})
	return active
}

func (s *state) pairOf(p *principalRow, agent *agentRow) pair {
	d := s.delegations
	return pairIn(d.pairs.root, hashPair(hashName(d.seed, p.ID), hashName(d.seed, agent.Name)), p.ID, agent.text)
}

func (s *state) withdrawDelegation(b WithdrawDelegation) (*DelegationChange, *identity.Error) {
	r, p, ok := s.liveRecord(b.ID)
	if !ok {
		return nil, notFound("delegation", b.ID)
	}
	h := identity.DelegationHandle(b.ID)
	s.deny(b.Reason, h)
	return &DelegationChange{Delegation: s.withdraw(r, p).delegation(p), Handles: []identity.Handle{h}}, nil
}

// liveRecord finds a delegation whose agent and principal are still those that it was made for.
func (s *state) liveRecord(id string) (*record, *principalRow, bool) {
	uuid, err := identity.ParseID(identity.PrefixDelegation, id)
	if err != nil {
		return nil, nil, false
	}
	r, ok := s.delegations.byID.get(&record{id: uuid})
	if !ok {
		return nil, nil, false
	}
	a, ok := s.agents.find(r.agent.Value())
	if !ok || r.made < a.born {
		return nil, nil, false
	}
	p, ok := s.principals.find(r.principal)
	if !ok || r.made < p.born {
		return nil, nil, false
	}
	return r, p, true
}

// withdraw ends a delegation and bars the pair. To withdraw again changes nothing.
func (s *state) withdraw(r *record, p *principalRow) *record {
	if r.inactive || r.made < p.killed {
		return r
	}
	ended := *r
	ended.inactive, ended.withdrawn, ended.revision = true, s.time, s.index
	s.delegations.replace(&ended)
	s.bars.set(bar{principal: p.ID, agent: r.agent.Value(), made: s.generation, barred: true})
	return &ended
}
