package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// Bounds of what a replay counts one by one. What comes beyond is summed up.
const (
	maxTallied   = 1000 // agents, and scopes, that are told apart
	shownTallied = 100
	shownSkipped = 3 // records for each reason
	shownAlike   = 3 // examples of one agent and one policy, so that a busy one does not push all others out
)

// tally is what a replay has come to.
type tally struct {
	records, allowed, denied, stale, skips int64
	all                                    wire.ReplayTally

	agents   tallies[wire.ReplayAgent]
	scopes   tallies[wire.ReplayScope]
	policies map[string]*wire.ReplayPolicy
	reasons  map[skipped]*wire.ReplayReason

	most     int
	alike    map[[2]string]int
	examples []wire.ReplayRecord
}

// tallies count by name, up to a number of names.
type tallies[T any] struct {
	by     map[string]*T
	others wire.ReplayTally
}

// of returns the entry of a name, or nil where there are too many.
func (t *tallies[T]) of(name string) *T {
	entry, ok := t.by[name]
	if !ok && len(t.by) < maxTallied {
		entry = new(T)
		t.by[name] = entry
	}
	return entry
}

func (t *tally) begin(examples int) {
	t.most = examples
	t.agents.by, t.scopes.by = map[string]*wire.ReplayAgent{}, map[string]*wire.ReplayScope{}
	t.policies, t.reasons, t.alike = map[string]*wire.ReplayPolicy{}, map[skipped]*wire.ReplayReason{}, map[[2]string]int{}
}

func recordID(e *audit.Entry) string { return fmt.Sprint(e.Node, ":", e.Sequence) }

func (t *tally) skip(e *audit.Entry, why skipped) {
	t.skips++
	r := t.reasons[why]
	if r == nil {
		r = &wire.ReplayReason{Reason: why.reason, Detail: why.detail}
		t.reasons[why] = r
	}
	if r.Count++; len(r.Records) < shownSkipped {
		r.Records = append(r.Records, recordID(e))
	}
}

func (t *tally) policy(id string) *wire.ReplayPolicy {
	p := t.policies[id]
	if p == nil {
		p = &wire.ReplayPolicy{PolicyID: id}
		t.policies[id] = p
	}
	return p
}

func (t *tally) monitored(policies []string) {
	for _, id := range policies {
		t.policy(id).Monitored++
	}
}

// differs counts a record that would come out differently.
func (t *tally) differs(e *audit.Entry, outcome string, refusal *identity.Error, d policy.Diagnostics) {
	var one wire.ReplayTally
	switch {
	case outcome == wire.ReplayFrees:
		one.Frees = 1
	case refusal.Code == identity.CodeApprovalRequired:
		one = wire.ReplayTally{Breaks: 1, ApprovalRequired: 1}
	default:
		one.Breaks = 1
	}
	add(&t.all, one)
	if agent := t.agents.of(e.Agent); agent != nil {
		agent.AgentID, agent.LastAt = e.Agent, max(agent.LastAt, e.Time)
		add(&agent.ReplayTally, one)
	} else {
		add(&t.agents.others, one)
	}
	scopes := identity.Scopes(e.Scope)
	for name := range scopes.All() {
		if scope := t.scopes.of(name); scope != nil {
			scope.Scope = name
			add(&scope.ReplayTally, one)
		} else {
			add(&t.scopes.others, one)
		}
	}
	for _, id := range d.Forbidding {
		p := t.policy(id)
		p.Breaks, p.ApprovalRequired = p.Breaks+one.Breaks, p.ApprovalRequired+one.ApprovalRequired
	}
	t.show(e, outcome, refusal)
}

func add(to *wire.ReplayTally, one wire.ReplayTally) {
	to.Breaks, to.ApprovalRequired, to.Frees = to.Breaks+one.Breaks, to.ApprovalRequired+one.ApprovalRequired, to.Frees+one.Frees
}

// show keeps a record as an example, if there is room and there are not enough of its like.
func (t *tally) show(e *audit.Entry, outcome string, refusal *identity.Error) {
	like := [2]string{e.Agent, outcome}
	if refusal != nil {
		like[1] = refusal.Policy
	}
	if len(t.examples) >= t.most || t.alike[like] >= shownAlike {
		return
	}
	t.alike[like]++
	shown := wire.ReplayRecord{
		Record: recordID(e), Time: e.Time, Kind: string(e.Kind), AgentID: e.Agent, SessionID: e.Session, Tool: e.Tool,
		Scopes: identity.Scopes(e.Scope), Outcome: outcome, Refusal: showRefusal(refusal),
	}
	if e.Principal != audit.Autonomous {
		shown.PrincipalUserID = e.Principal
	}
	t.examples = append(t.examples, shown)
}

// tell fills in the answer.
func (t *tally) tell(to *wire.Replay) {
	to.Records, to.Allowed, to.Denied, to.Stale, to.Skipped = t.records, t.allowed, t.denied, t.stale, t.skips
	to.Breaks, to.Frees, to.ApprovalRequired = t.all.Breaks, t.all.Frees, t.all.ApprovalRequired
	to.Agents, to.OtherAgents = list(&t.agents, func(a *wire.ReplayAgent) *wire.ReplayTally { return &a.ReplayTally }, func(a *wire.ReplayAgent) string { return a.AgentID })
	to.Scopes, to.OtherScopes = list(&t.scopes, func(s *wire.ReplayScope) *wire.ReplayTally { return &s.ReplayTally }, func(s *wire.ReplayScope) string { return s.Scope })
	to.Policies, to.Reasons, to.Examples = []wire.ReplayPolicy{}, []wire.ReplayReason{}, entries(t.examples)
	for _, id := range slices.Sorted(maps.Keys(t.policies)) {
		to.Policies = append(to.Policies, *t.policies[id])
	}
	for _, r := range t.reasons {
		to.Reasons = append(to.Reasons, *r)
	}
	slices.SortFunc(to.Reasons, func(x, y wire.ReplayReason) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Reason, y.Reason), cmp.Compare(x.Detail, y.Detail))
	})
}

// list shows those with the most first, and sums the others up.
func list[T any](t *tallies[T], tallied func(*T) *wire.ReplayTally, name func(*T) string) ([]T, wire.ReplayTally) {
	shown, others := []T{}, t.others
	for _, entry := range t.by {
		shown = append(shown, *entry)
	}
	slices.SortFunc(shown, func(x, y T) int {
		a, b := tallied(&x), tallied(&y)
		return cmp.Or(cmp.Compare(b.Breaks, a.Breaks), cmp.Compare(b.Frees, a.Frees), cmp.Compare(name(&x), name(&y)))
	})
	if len(shown) > shownTallied {
		for i := range shown[shownTallied:] {
			add(&others, *tallied(&shown[shownTallied+i]))
		}
		shown = shown[:shownTallied]
	}
	return shown, others
}
