package policy

import (
	"errors"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/deputy-id/deputy/identity"
)

// Set is all policies at one moment, compiled. It never changes and is safe for concurrent use; the nil Set holds none.
type Set struct {
	policies []*identity.Policy // by id
	texts    map[*identity.Policy]readText
	broken   []brokenPolicy // by id; none that is off
	slices   [actions][agentTypes][]*rule
	needs    *needs // of the rules that only Cedar can answer
}

// readText is what came of reading a policy.
type readText struct {
	statements []*statement
	broken     *identity.Error
}

// brokenPolicy is one that this build can't read: of another version, as it was checked when it was written. Nobody
// knows what it is about, so where it is enforced it forbids everything.
type brokenPolicy struct {
	policy *identity.Policy
	reason *identity.Error
}

// rule is a statement as it is compiled for one action and one type of agent.
type rule struct {
	*statement
	// settled says that the predicate is all of the statement. Where it is not, Cedar has the last word once the
	// predicate holds.
	settled        bool
	predicate      predicate
	perApplication bool // it may be another answer for another application
}

// agentTypes is how many there are, with one for all that this build does not know.
const agentTypes = 4

func typeIndex(t identity.AgentType) int {
	switch t {
	case identity.AgentAutonomous:
		return 0
	case identity.AgentUserDelegated:
		return 1
	case identity.AgentScheduled:
		return 2
	}
	return agentTypes - 1
}

// knownTypes are the types by index; the last one stands for the others.
var knownTypes = [agentTypes]identity.AgentType{identity.AgentAutonomous, identity.AgentUserDelegated, identity.AgentScheduled}

// Compile makes a Set. It never leaves out what it can't read: see Set.Broken. The policies must not be modified
// afterwards.
func Compile(policies []*identity.Policy) *Set { return compile(policies, nil) }

// compile reads anew only what the earlier set does not have: one of a thousand policies changes at a time.
func compile(policies []*identity.Policy, earlier *Set) *Set {
	s := &Set{policies: slices.Clone(policies), needs: nothingYet(), texts: make(map[*identity.Policy]readText, len(policies))}
	slices.SortStableFunc(s.policies, func(a, b *identity.Policy) int { return strings.Compare(a.ID, b.ID) })
	for _, p := range s.policies {
		if p.Mode == identity.PolicyOff {
			continue
		}
		var text readText
		have := false
		if earlier != nil {
			text, have = earlier.texts[p]
		}
		if !have {
			text.statements, text.broken = read(p)
		}
		s.texts[p] = text
		if text.broken != nil {
			s.broken = append(s.broken, brokenPolicy{p, text.broken})
			continue
		}
		for _, one := range text.statements {
			s.file(one)
		}
	}
	return s
}

// With is the set with other policies in it: each takes the place of the one of its id, or is one more.
func (s *Set) With(others ...*identity.Policy) *Set {
	replaced := make(map[string]bool, len(others))
	for _, p := range others {
		replaced[p.ID] = true
	}
	all := slices.Clone(others)
	for _, p := range s.Policies() {
		if !replaced[p.ID] {
			all = append(all, p)
		}
	}
	return compile(all, s)
}

// read is parse for a policy that was checked once, by whichever version. A mode that this build does not know is as
// unreadable as a text.
func read(p *identity.Policy) ([]*statement, *identity.Error) {
	statements, err := parse(p)
	if err == nil {
		err = identity.ValidPolicyMode(p.Mode)
	}
	if err == nil {
		return statements, nil
	}
	var e *identity.Error
	if !errors.As(err, &e) {
		e = identity.Errorf(identity.CodeInternal, "%v", err)
	}
	return nil, e
}

// file puts a statement into each slice in which it may ever forbid.
func (s *Set) file(one *statement) {
	for act := range actions {
		for i, agentType := range knownTypes {
			if r, applies := one.compile(setting{act, agentType}); applies {
				if !r.settled {
					for _, c := range one.tree.Conditions {
						s.needs.add(c.Body)
					}
				}
				s.slices[act][i] = append(s.slices[act][i], r)
			}
		}
	}
}

// compile makes a rule of a statement, unless it can be told that it never applies.
func (s *statement) compile(in setting) (r *rule, applies bool) {
	r = &rule{statement: s, settled: true, predicate: in.head(s.tree)}
	for _, c := range s.tree.Conditions {
		body := c.Body
		if c.Condition == ast.ConditionUnless {
			body = ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: body}}
		}
		for _, clause := range conjuncts(nil, body) {
			// Clauses are taken in their order, up to the first that only Cedar can answer: a later one that is false
			// must not hide that the evaluation fails.
			p, ok := in.predicate(clause)
			if !ok {
				r.settled = false
				break
			}
			r.predicate = r.predicate.and(p)
		}
		if !r.settled || r.predicate.sure == never {
			break
		}
	}
	r.perApplication = in.act == actCreateSession && s.mentionsResource(in)
	return r, r.predicate.sure != never
}

// conjuncts splits what is joined by &&, from left to right.
func conjuncts(out []ast.IsNode, n ast.IsNode) []ast.IsNode {
	if and, ok := n.(ast.NodeTypeAnd); ok {
		return conjuncts(conjuncts(out, and.Left), and.Right)
	}
	return append(out, n)
}

func (s *statement) mentionsResource(in setting) bool {
	if in.scope(entityValue{is: in.act.resource()}, s.tree.Resource).sure == open {
		return true
	}
	found := false
	for _, c := range s.tree.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			found = found || isVariable(n, "resource")
			return !found
		})
	}
	return found
}

// head compiles what a statement says of principal, action and resource.
func (s setting) head(p *ast.Policy) predicate {
	principal := entityValue{is: s.act.principal()}
	act := entityValue{is: typeAction, literal: s.act.String(), sure: true}
	resource := entityValue{is: s.act.resource()}
	return s.scope(act, p.Action).and(s.scope(principal, p.Principal)).and(s.scope(resource, p.Resource))
}

func (s setting) scope(e entityValue, scope any) predicate {
	exactly := func(uid types.EntityUID) entityValue {
		return entityValue{is: uid.Type, literal: string(uid.ID), sure: true}
	}
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return e.equal(exactly(scope.Entity))
	case ast.ScopeTypeIn:
		return e.in(exactly(scope.Entity))
	case ast.ScopeTypeInSet:
		p := surely(false)
		for _, uid := range scope.Entities {
			p = p.or(e.in(exactly(uid)))
		}
		return p
	case ast.ScopeTypeIs:
		return surely(e.is == scope.Type)
	case ast.ScopeTypeIsIn:
		return surely(e.is == scope.Type).and(e.in(exactly(scope.Entity)))
	}
	return surely(true)
}

// Policies lists the policies of the set by id, those that are off included.
func (s *Set) Policies() []*identity.Policy {
	if s == nil {
		return nil
	}
	return s.policies
}

// Broken says of each policy that this build can't read why. Where they are enforced nothing is allowed; somebody
// should hear of it.
func (s *Set) Broken() []*identity.Error {
	if s == nil {
		return nil
	}
	var out []*identity.Error
	for _, b := range s.broken {
		out = append(out, b.reason.WithPolicy(b.policy.ID))
	}
	return out
}

// idle reports whether the set has nothing to say to an action of such an agent.
func (s *Set) idle(act action, t identity.AgentType) bool {
	return s == nil || len(s.broken) == 0 && len(s.slices[act][typeIndex(t)]) == 0
}
