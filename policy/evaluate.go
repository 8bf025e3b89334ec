package policy

import (
	"github.com/deputy-id/deputy/identity"
)

// Diagnostics tell which policies had a say in a decision, whatever came of it. Ids are in order. The slices must not
// be changed, and last as long as what they were read from: see Grant.
type Diagnostics struct {
	Forbidding []string // policies that are enforced and forbid
	Monitored  []string // policies that would forbid if they were enforced
	Approved   []string // policies that would forbid but for the human's approval
	Delegation string   // that it rests on; "" for an autonomous run, and where no delegation was found to be good
}

// verdict is what the policies of a set come to.
type verdict struct {
	policy      *identity.Policy // that refuses; nil: none
	statement   *statement       // nil where the policy can't be read
	application *identity.Application
	approval    bool  // a human's approval would lift it
	err         error // why it can't be told whether it forbids
}

// judge evaluates the policies over the facts. All of them are asked, also once one forbids, so that whoever is
// refused hears of all that is in the way. Without applications those that ask about the resource are left out.
func (s *Set) judge(f *facts, applications []*identity.Application, d *Diagnostics, x *Explanation) verdict {
	var v verdict
	f.needs = s.needs
	for _, b := range s.broken {
		x.policy(b.policy, verdict{policy: b.policy, err: b.reason}, OutcomeError)
		if b.policy.Mode == identity.PolicyMonitor {
			d.Monitored = add(d.Monitored, b.policy.ID)
			continue
		}
		d.Forbidding = add(d.Forbidding, b.policy.ID)
		v.worsen(verdict{policy: b.policy, err: b.reason})
	}
	for _, r := range s.slices[f.act][typeIndex(f.agent.Type)] {
		if r.perApplication && len(applications) == 0 {
			x.policy(r.policy, verdict{}, OutcomeNotReached)
			continue
		}
		forbids, application, err := r.ask(f, applications)
		if !forbids && x == nil && !(r.approval && f.approval) {
			continue
		}
		one := verdict{policy: r.policy, statement: r.statement, application: application, approval: r.approval && !f.approval, err: err}
		switch {
		case forbids && r.policy.Mode != identity.PolicyMonitor:
			d.Forbidding = add(d.Forbidding, r.policy.ID)
			v.worsen(one)
			x.policy(r.policy, one, one.outcome())
		case forbids:
			d.Monitored = add(d.Monitored, r.policy.ID)
			x.policy(r.policy, one, OutcomeWouldForbid)
		case r.approval && f.approval && r.lifted(f, applications):
			d.Approved = add(d.Approved, r.policy.ID)
			x.policy(r.policy, one, OutcomeApproved)
		default:
			x.policy(r.policy, one, OutcomePasses)
		}
	}
	return v
}

// ask evaluates one rule, for each application where that makes a difference, and tells for which of them it forbids.
// Where it can't be evaluated it forbids, too, and err says why.
func (r *rule) ask(f *facts, applications []*identity.Application) (forbids bool, application *identity.Application, err error) {
	if !r.perApplication {
		forbids, err = r.once(f)
		return forbids, nil, err
	}
	for _, a := range applications {
		f.about(a)
		if forbids, err = r.once(f); forbids {
			return true, a, err
		}
	}
	return false, nil, nil
}

func (r *rule) once(f *facts) (forbids bool, err error) {
	if !r.predicate.of(f) {
		return false, nil
	}
	if r.settled {
		return true, nil
	}
	forbids, err = r.evaluate(f)
	return forbids || err != nil, err
}

// lifted reports whether the rule would forbid but for the approval.
func (r *rule) lifted(f *facts, applications []*identity.Application) bool {
	f.approved(false)
	forbids, _, _ := r.ask(f, applications) //nolint:errcheck // what can't be evaluated forbids
	f.approved(true)
	return forbids
}

// worsen takes in another refusal. The first one speaks, but one that an approval would lift gives way to one that it
// would not: nobody should be asked for an approval in vain.
func (v *verdict) worsen(other verdict) {
	if v.policy == nil || v.lifts() && !other.lifts() {
		*v = other
	}
}

// lifts reports whether an approval would lift the refusal.
func (v *verdict) lifts() bool { return v.approval && v.err == nil }

// add appends an id that is not the last one already: the statements of a policy come one after the other.
func add(ids []string, id string) []string {
	if n := len(ids); n > 0 && ids[n-1] == id {
		return ids
	}
	return append(ids, id)
}

// refusal words a verdict for whoever is refused.
func (v *verdict) refusal(act action) *identity.Error {
	what := [actions]string{"this session", "this call", "this delegation"}[act]
	if v.application != nil && v.application.Name != "" {
		what += " for application " + v.application.Name
	}
	id := v.policy.ID
	var e *identity.Error
	switch {
	case v.err != nil:
		return identity.Errorf(identity.CodePolicyDenied, "policy %q forbids %s, as it can't be evaluated: %s", id, what, reason(v.err)).
			WithHint("an operator corrects it, or switches it off, with PUT /api/v1/policies/%s", id).WithPolicy(id)
	case v.lifts():
		e = identity.Errorf(identity.CodeApprovalRequired, "policy %q wants a human's approval of %s", id, what).
			WithHint("have it approved, then ask again for exactly the same")
	default:
		e = identity.Errorf(identity.CodePolicyDenied, "policy %q forbids %s", id, what).
			WithHint("GET /api/v1/policies/%s says what it is about; an operator changes it", id)
	}
	if v.statement.description != "" {
		e.Message += ": " + v.statement.description
	}
	if v.statement.hint != "" {
		e.Hint = v.statement.hint
	}
	return e.WithPolicy(id)
}
