package fsm

import (
	"unique"

	"github.com/deputy-id/deputy/identity"
)

// MaxCount is where CountDelegations stops counting: enough to say "many", and a millisecond at most.
const MaxCount = 10_000

// DelegationFilter narrows Delegations. Zero fields don't.
type DelegationFilter struct {
	Agent, Principal string
	ActiveAt         identity.Instant // only those that may be used at that time
}

// alive returns the principal's row if the record still belongs to the agent and the principal of that name.
func (v *View) alive(r *record) (*principalRow, bool) {
	a, ok := v.agentsByName.find(r.agent.Value())
	if !ok || r.made < a.born {
		return nil, false
	}
	p, ok := v.principalsByID.find(r.principal)
	if !ok || r.made < p.born {
		return nil, false
	}
	return p, true
}

// Delegation returns a delegation by id, whatever its status; expired ones until they are purged.
func (v *View) Delegation(id string) (*identity.Delegation, bool) {
	uuid, err := identity.ParseID(identity.PrefixDelegation, id)
	if err != nil {
		return nil, false
	}
	r, ok := v.delegations.Get(&record{id: uuid})
	if !ok {
		return nil, false
	}
	p, ok := v.alive(r)
	if !ok {
		return nil, false
	}
	return r.delegation(p), true
}

// Delegations lists delegations by id, strictly after the one given. Those that the filter leaves out are
// walked over, within the agent or the principal if one is named; so are those whose agent or principal was
// deleted, until they are purged.
func (v *View) Delegations(f DelegationFilter, after string, limit int) []*identity.Delegation {
	var out []*identity.Delegation
	v.walk(f, after, func(r *record, p *principalRow) bool {
		if len(out) < limit {
			out = append(out, r.delegation(p))
		}
		return len(out) < limit
	})
	return out
}

// CountDelegations counts the delegations of an agent, of a principal, of both, or, where both are empty, of
// all, that are active at now; or, where now is zero, of any status. It stops at MaxCount.
func (v *View) CountDelegations(agent, principal string, now identity.Instant) int {
	n := 0
	v.walk(DelegationFilter{Agent: agent, Principal: principal, ActiveAt: now}, "", func(*record, *principalRow) bool {
		n++
		return n < MaxCount
	})
	return n
}

// walk visits the records that the filter lets through in the order of their ids.
func (v *View) walk(f DelegationFilter, after string, visit func(*record, *principalRow) bool) {
	pivot := &record{principal: f.Principal, agent: noText}
	if after != "" {
		uuid, err := identity.ParseID(identity.PrefixDelegation, after)
		if err != nil {
			return
		}
		pivot.id = uuid
	}
	var agent unique.Handle[string]
	if f.Agent != "" {
		if _, ok := v.agentsByName.find(f.Agent); !ok {
			return
		}
		agent = unique.Make(f.Agent)
	}
	look := func(r *record) bool {
		if f.Agent != "" && r.agent != agent {
			return true // the other agents of a principal are in between
		}
		if after != "" && r.id == pivot.id {
			return true
		}
		p, ok := v.alive(r)
		if !ok || f.ActiveAt != 0 && !r.activeAt(f.ActiveAt, p) {
			return true
		}
		return visit(r, p)
	}
	switch {
	case f.Principal != "":
		ascend(v.delegationsByPrincipal, v.recentByPrincipal, v.atID(f.Principal, pivot), func(r *record) bool { return r.principal == f.Principal }, look)
	case f.Agent != "":
		ascend(v.delegationsByAgent, v.recentByAgent, v.atID(f.Agent, pivot), func(r *record) bool { return r.agent == agent }, look)
	default:
		v.delegations.Ascend(pivot, look)
	}
}

// Lent is what a session on behalf of a principal rests on.
type Lent struct {
	Agent      *identity.Agent
	Principal  *identity.Principal
	Delegation identity.Delegation
}

// ActiveDelegation returns the delegation from principal to agent that is active at now, covers the scopes
// and lasts longest. Otherwise the error says which it is: CodeDelegationWithdrawn where the principal took
// their consent back, CodeDelegationExpired, or CodeDelegationMissing, also where there are delegations but
// none that covers the scopes. Agent and principal are returned with an error, too, where there are such.
//
// The delegation that lasts longest of all is found at once; where it won't do, the pair's own are walked, of which
// there are at most MaxPairDelegations active ones.
func (v *View) ActiveDelegation(agent, principal string, scopes identity.Scopes, now identity.Instant) (Lent, *identity.Error) {
	a, p, between := v.findPair(agent, principal)
	var lent Lent
	if a != nil {
		lent.Agent = &a.Agent
	}
	if p != nil {
		lent.Principal = &p.Principal
	}
	if a == nil || p == nil {
		return lent, missing(agent, principal)
	}
	if lead := between.lead; lead != nil && lead.of(a, p) && now < lead.expires && scopes.SubsetOf(identity.Scopes(lead.scopes.Value())) {
		lead.fill(&lent.Delegation, a.Name, p)
		return lent, nil
	}
	found, err := v.searchPair(a, p, between, scopes, now)
	if err != nil {
		return lent, err
	}
	found.fill(&lent.Delegation, a.Name, p)
	return lent, nil
}

// findPair finds an agent, a principal and the delegations between them, each of them nil, or without any, where there is
// none.
//
// Rows that nobody asked for lately are in no cache, and one search after the other would wait for memory ten times
// in a row, a tenth of what a signature takes. So the three lists are searched side by side by their hashes alone,
// and names are compared at the end: the processor then waits for all three at the same time.
func (v *View) findPair(agent, principal string) (a *agentRow, p *principalRow, between pair) {
	agentHash, principalHash := hashName(v.seed, agent), hashName(v.seed, principal)
	pairHash := hashPair(principalHash, agentHash)
	agents, principals, pairs := v.agentsByName.root.list(agentHash), v.principalsByID.root.list(principalHash), v.pairs.list(pairHash)
	for i := 0; a == nil && i < len(agents) || p == nil && i < len(principals) || between.lead == nil && i < len(pairs); i++ {
		if i < len(agents) && agents[i].hash == agentHash {
			a = agents[i].row
		}
		if i < len(principals) && principals[i].hash == principalHash {
			p = principals[i].row
		}
		if i < len(pairs) && pairs[i].hash == pairHash {
			between = pairs[i].row
		}
	}
	if a != nil && a.Name != agent {
		a, _ = v.agentsByName.findHash(agentHash, agent)
	}
	if p != nil && p.ID != principal {
		p, _ = v.principalsByID.findHash(principalHash, principal)
	}
	if lead := between.lead; a != nil && p != nil && lead != nil && (lead.agent != a.text || lead.principal != p.ID) {
		between = pairIn(v.pairs, pairHash, p.ID, a.text)
	}
	return a, p, between
}

// of reports whether the record still belongs to the agent and the principal of its names, and the principal was
// not killed since.
func (r *record) of(a *agentRow, p *principalRow) bool {
	return r.made >= a.born && r.made >= p.born && r.made >= p.killed
}

// searchPair is ActiveDelegation by way of all delegations of the pair.
func (v *View) searchPair(a *agentRow, p *principalRow, between pair, scopes identity.Scopes, now identity.Instant) (*record, *identity.Error) {
	agent, principal := a.Name, p.ID
	var best, narrow, expired *record
	between.descend(func(r *record) bool {
		if !r.of(a, p) {
			return true
		}
		switch {
		case r.expires <= now:
			expired = r
			return false // the rest ended earlier still
		case scopes.SubsetOf(identity.Scopes(r.scopes.Value())):
			best = r
			return false // the rest ends earlier
		case narrow == nil:
			narrow = r
		}
		return true
	})
	switch {
	case best != nil:
		return best, nil
	case narrow != nil:
		outside := scopes.FirstOutside(identity.Scopes(narrow.scopes.Value()))
		return nil, identity.Errorf(identity.CodeDelegationMissing, "no active delegation from %s to agent %s covers all scopes asked for, such as %s", principal, agent, outside).
			WithHint("ask for fewer scopes, or have the user grant them")
	case barred(v.bars, p, agent):
		return nil, identity.Errorf(identity.CodeDelegationWithdrawn, "%s withdrew their consent to agent %s", principal, agent).
			WithHint("the user or an admin may grant it again")
	case expired != nil:
		return nil, identity.Errorf(identity.CodeDelegationExpired, "the last delegation from %s to agent %s ended at %s", principal, agent, expired.expires).
			WithHint("have the user grant a new one")
	default:
		return nil, missing(agent, principal)
	}
}

func missing(agent, principal string) *identity.Error {
	return identity.Errorf(identity.CodeDelegationMissing, "there is no delegation from %s to agent %s", principal, agent).
		WithHint("have the user grant one: deputy delegation create")
}

// ConsentBarred reports whether the principal took back their consent to the agent, and neither they nor an
// admin has granted it again.
func (v *View) ConsentBarred(agent, principal string) bool {
	p, ok := v.principalsByID.find(principal)
	return ok && barred(v.bars, p, agent)
}
