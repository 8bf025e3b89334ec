package sim

import (
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// token is one that a node has minted.
type token struct {
	text    []byte
	handles []identity.Handle // with that of its key
	agent   string
	expires time.Time
}

// pool holds the newest tokens, of which the last few are asked about at random.
type pool struct {
	mu     sync.Mutex
	tokens []*token
}

const (
	maxPool   = 96
	maxRecent = 24
)

func (p *pool) add(t *token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tokens) == maxPool {
		p.tokens = slices.Clone(p.tokens[maxPool/4:])
	}
	p.tokens = append(p.tokens, t)
}

func (p *pool) random(s *source) *token {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tokens) == 0 {
		return nil
	}
	return pick(s, p.tokens[max(0, len(p.tokens)-maxRecent):])
}

// resting returns the newest tokens that rest on one of the handles.
func (p *pool) resting(handles []identity.Handle, most int) (found []*token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range slices.Backward(p.tokens) {
		if len(found) == most {
			break
		}
		if slices.ContainsFunc(t.handles, func(h identity.Handle) bool { return slices.Contains(handles, h) }) {
			found = append(found, t)
		}
	}
	return found
}

// dawdle lets a request take its time, or be stopped together with its node. It reports whether the process is
// still there.
func (n *node) dawdle() bool {
	if n.lab.random.chance(0.08) {
		time.Sleep(n.lab.random.between(0, 300*time.Millisecond))
	}
	return n.lab.net.awake(n.id) && n.alive()
}

// introspect mirrors api's introspection: note the lease, read, answer, and look at the clock as the last thing.
func (n *node) introspect(t *token) (good bool) {
	ticket := n.lab.ledger.begin()
	if !n.dawdle() {
		return false
	}
	lease := n.lease.Until()
	view := n.fsm.View()
	claims, err := n.verifier.Verify(t.text)
	if err != nil || !n.dawdle() || n.lease.Holds(lease) != nil {
		return false
	}
	n.lab.ledger.accepted("a token found active", n, ticket, view.Index(), claims.Handles())
	return true
}

// wish is what a session is asked for.
type wish struct {
	agent, principal string
	parent           *token // a hop of agent from it
}

// mint mirrors api's session and token routes.
func (n *node) mint(w wish) (good bool) {
	ticket := n.lab.ledger.begin()
	if !n.dawdle() {
		return false
	}
	lease := n.lease.Until()
	view := n.fsm.View()
	agent, ok := view.Agent(w.agent)
	if !ok || len(agent.Credentials) == 0 {
		return false
	}
	now := identity.InstantOf(n.clock.wall())
	r := policy.Request{
		Now: now, SessionID: identity.NewID(identity.PrefixSession, now, n.lab.entropy()), Agent: agent,
		Credential: pick(n.lab.random, agent.Credentials).ID, Applications: view, Issuer: view.Settings().Issuer,
	}
	switch {
	case w.parent != nil:
		claims, err := n.verifier.Verify(w.parent.text)
		if err != nil {
			return false
		}
		r.Parent, r.ParentHandles = claims.Session(), claims.Handles()
		if principal := claims.Principal(); principal != "" {
			if r.Principal, ok = view.Principal(principal); !ok {
				return false
			}
			if r.Delegation, ok = view.Delegation(r.Parent.Delegation); !ok {
				return false
			}
		}
	case w.principal != "":
		lent, refusal := view.ActiveDelegation(w.agent, w.principal, "", now)
		if refusal != nil {
			return false
		}
		r.Principal, r.Delegation = lent.Principal, &lent.Delegation
	}
	var grant policy.Grant
	if n.engine.Decide(&r, &grant) != nil || !n.dawdle() {
		return false
	}
	text, err := n.minter.Mint(nil, &grant)
	if err != nil || !n.dawdle() || n.lease.Holds(lease) != nil {
		return false
	}
	handles := append(slices.Clone(grant.Handles()), identity.KeyHandle(n.signer.KID()))
	n.lab.ledger.accepted("a token minted", n, ticket, view.Index(), handles)
	n.lab.pool.add(&token{text: text, handles: handles, agent: w.agent, expires: grant.Session().Expires.Time()})
	return true
}

// probe asks the nodes all the time, whatever state they are in.
func (l *lab) probe(m *machine) {
	for l.sleep(l.random.between(30*time.Millisecond, 120*time.Millisecond)) {
		n := m.running()
		if n == nil {
			continue
		}
		go func() { // a request that is stuck does not keep others away
			if l.random.chance(0.15) {
				n.mint(l.anyWish())
			} else if t := l.pool.random(l.random); t != nil {
				n.introspect(t)
			}
		}()
	}
}

// storm asks all nodes about what has just been fenced.
func (l *lab) storm(handles []identity.Handle) {
	targets := l.pool.resting(handles, 3)
	const rounds = 8
	for range rounds {
		for _, m := range l.machines() {
			n := m.running()
			if n == nil {
				continue
			}
			for _, t := range targets {
				go n.introspect(t)
			}
			if len(targets) > 0 {
				go n.mint(wish{agent: pick(l.random, agentNames), parent: targets[0]})
			}
		}
		if !l.sleep(l.random.between(0, 400*time.Millisecond)) {
			return
		}
	}
}
