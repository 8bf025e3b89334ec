package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// clientWait bounds how long a client goes on about one write.
const clientWait = 10 * time.Second

// tokenLife is how long after a revocation a token of before can still be about, with the clocks' errors.
const tokenLife = sessionSeconds*time.Second + 2*cluster.MaxClockSkew

func (l *lab) anyWish() wish {
	w := wish{agent: pick(l.random, agentNames)}
	switch l.random.intN(4) {
	case 0:
		w.parent = l.pool.random(l.random)
	case 1, 2:
		w.principal = pick(l.random, principalNames)
	}
	return w
}

// stop revokes one of the reasons that some token rests on, fenced.
func (l *lab) stop() {
	t := l.pool.random(l.random)
	via := pick(l.random, l.machines()).running()
	if t == nil || via == nil {
		return
	}
	handle := pick(l.random, t.handles)
	if strings.HasPrefix(string(handle), "key_") && !l.random.chance(0.1) {
		return // a node mints no more without its key
	}
	body := stopping(handle)
	denied := via.denials.deny([]identity.Handle{handle})
	answer, ok := l.try(body, true)
	if !ok {
		return // and the deny goes on being said: the outcome is unknown
	}
	via.denials.release(denied)
	index := answer.result.Index
	dead := time.Now().Add(tokenLife)
	l.ledger.revoked(index, handlesOf(answer.result.Value), dead)
	for _, h := range handlesOf(answer.result.Value) {
		l.ledger.acknowledged(write{index, "the revocation of " + string(h), func(n *node) bool {
			_, ok := n.fsm.View().Revocation(h)
			return ok || time.Now().After(dead) // it may have been purged
		}})
	}
	if answer.fenced {
		l.load.Go(func() { l.storm(handlesOf(answer.result.Value)) })
	}
	l.mendCast(handle)
}

// stopping is the command for a handle: by the name of what it names where there is one, as operators do.
func stopping(h identity.Handle) fsm.Body {
	text := string(h)
	name, _, _ := strings.Cut(text, "#")
	const reason = "a drill"
	switch {
	case strings.HasPrefix(text, "agt_"):
		return fsm.KillAgent{Name: strings.TrimPrefix(name, "agt_"), KeepActive: true, Reason: reason}
	case strings.HasPrefix(text, "usr_"):
		return fsm.KillPrincipal{ID: strings.TrimPrefix(name, "usr_"), KeepActive: true, Reason: reason}
	case strings.HasPrefix(text, identity.PrefixDelegation):
		return fsm.WithdrawDelegation{ID: text, Reason: reason}
	}
	return fsm.Revoke{Handles: []identity.Handle{h}, Reason: reason}
}

// mendCast gives the agents back what a stop took, so that there is always something to mint.
func (l *lab) mendCast(h identity.Handle) {
	text := string(h)
	switch {
	case strings.HasPrefix(text, "usr_"), strings.HasPrefix(text, identity.PrefixDelegation):
		l.lend()
	case strings.HasPrefix(text, identity.PrefixCredential):
		for _, name := range agentNames {
			if n := pick(l.random, l.machines()).running(); n != nil {
				if a, ok := n.fsm.View().Agent(name); ok && len(a.Credentials) == 0 {
					l.try(fsm.AddCredential{
						Owner: fsm.Owner{Kind: fsm.OwnerAgent, Name: name}, Credential: l.credential(identity.InstantOf(time.Now())),
					}, false)
				}
			}
		}
	}
}

func (l *lab) lend() {
	body := l.delegation(pick(l.random, agentNames), pick(l.random, principalNames))
	answer, ok := l.try(body, l.random.chance(0.3))
	if !ok {
		return
	}
	id := body.Delegation.ID
	l.ledger.acknowledged(write{answer.result.Index, "delegation " + id, func(n *node) bool {
		_, ok := n.fsm.View().Delegation(id)
		return ok
	}})
}

// hire makes an agent of a new name, which nobody deletes.
func (l *lab) hire() {
	id := l.entropy()
	name := fmt.Sprintf("temp-%x", id[:6])
	answer, ok := l.try(fsm.CreateAgent{Agent: identity.Agent{
		Name: name, Type: identity.AgentAutonomous, DefaultScopes: scopes, MaxSessionSeconds: sessionSeconds,
	}}, false)
	if !ok {
		return
	}
	l.ledger.acknowledged(write{answer.result.Index, "agent " + name, func(n *node) bool {
		_, ok := n.fsm.View().Agent(name)
		return ok
	}})
}

// turn suspends an agent, fenced, and activates it again.
func (l *lab) turn() {
	name := pick(l.random, agentNames)
	if answer, ok := l.try(fsm.SetAgentStatus{Name: name, Status: identity.StatusSuspended, Reason: "a drill"}, true); ok {
		l.ledger.revoked(answer.result.Index, handlesOf(answer.result.Value), time.Now().Add(tokenLife))
		if answer.fenced {
			l.load.Go(func() { l.storm(handlesOf(answer.result.Value)) })
		}
	}
	l.sleep(l.random.between(0, time.Second))
	l.try(fsm.SetAgentStatus{Name: name, Status: identity.StatusActive}, false)
}

// relet changes how long leases last.
func (l *lab) relet() {
	lease := int64(pick(l.random, []int{500, 700, 1000, 1500, 2000}))
	l.mu.Lock()
	l.longest = max(l.longest, time.Duration(lease)*time.Millisecond)
	l.mu.Unlock()
	l.history.add("leases are to last %d ms", lease)
	l.try(fsm.PutSettings{Settings: l.settings(lease)}, l.random.chance(0.3))
}

// try is write with the patience of a client.
func (l *lab) try(body fsm.Body, fence bool) (writeAnswer, bool) {
	ctx, cancel := context.WithTimeout(l.over, clientWait)
	defer cancel()
	answer, err := l.write(ctx, body, fence)
	if err != nil {
		l.history.add("%s %v: %v", body.Type(), body, err)
		return answer, false
	}
	l.history.add("%s %v: committed at index %d, fenced %t", body.Type(), body, answer.result.Index, answer.fenced)
	return answer, true
}

// stopper revokes, and clerk does all other writing, while the load lasts.
func (l *lab) stopper() {
	for l.sleep(l.random.between(100*time.Millisecond, 900*time.Millisecond)) {
		l.stop()
	}
}

func (l *lab) clerk() {
	for l.sleep(l.random.between(200*time.Millisecond, 1500*time.Millisecond)) {
		switch l.random.intN(8) {
		case 0, 1, 2:
			l.lend()
		case 3, 4:
			l.hire()
		case 5:
			l.turn()
		case 6:
			if l.random.chance(0.3) {
				l.relet()
			}
		case 7:
			l.try(fsm.Purge{}, false)
		}
	}
}

// watch holds every node's set to what is committed.
func (l *lab) watch() {
	for l.sleep(l.random.between(50*time.Millisecond, 250*time.Millisecond)) {
		for _, m := range l.machines() {
			if n := m.running(); n != nil {
				l.ledger.checkFinal(n)
			}
		}
	}
}

// ids lists the names of machines.
func ids(machines []*machine) (names []string) {
	for _, m := range machines {
		names = append(names, m.id)
	}
	slices.Sort(names)
	return names
}
