package policy

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// Outcome is what one rule or policy came to in one decision.
type Outcome string

// The outcomes. Rules pass, refuse, or are not reached as one before them refused.
const (
	OutcomePasses           Outcome = "passes"
	OutcomeRefuses          Outcome = "refuses"
	OutcomeNotReached       Outcome = "not-reached"
	OutcomeForbids          Outcome = "forbids"           // an enforced policy
	OutcomeRequiresApproval Outcome = "requires-approval" // an enforced policy that an approval would lift
	OutcomeApproved         Outcome = "approved"          // a policy that would forbid but for the approval
	OutcomeWouldForbid      Outcome = "would-forbid"      // a policy in mode monitor
	OutcomeError            Outcome = "error"             // it can't be told; an enforced policy then forbids
	OutcomeNotApplicable    Outcome = "not-applicable"    // a policy about other actions or other types of agent
	OutcomeOff              Outcome = "off"
)

// Explanation lists every rule and policy that a decision went through, and what each came to. It is written by the
// decision itself.
type Explanation struct {
	Allowed     bool
	Refusal     *identity.Error   // nil where it is allowed
	Session     *identity.Session // what is granted, for a session that is allowed
	Rules       []RuleOutcome     // in the order in which they speak
	Policies    []PolicyOutcome   // by id
	Diagnostics Diagnostics
}

// RuleOutcome is what one of the model's own rules came to.
type RuleOutcome struct {
	Rule    string
	Outcome Outcome
	Detail  string // of a refusal
}

// PolicyOutcome is what one policy came to.
type PolicyOutcome struct {
	Policy      string
	Mode        identity.PolicyMode
	Outcome     Outcome
	Application string // for which it forbids, where it is not for all
	Detail      string // of an error
}

// Concern is a policy that may forbid something to agents of a type.
type Concern struct {
	Policy  *identity.Policy
	Actions []string // by name, as policies write them
}

// Concerning are the policies that may ever forbid something to agents of a type, by id, and which of their actions.
// Those that are off forbid nothing.
func (s *Set) Concerning(t identity.AgentType) (all []Concern) {
	for _, p := range s.Policies() {
		c := Concern{Policy: p}
		for act := range actions {
			speaks := slices.ContainsFunc(s.slices[act][typeIndex(t)], func(r *rule) bool { return r.policy == p }) ||
				slices.ContainsFunc(s.broken, func(b brokenPolicy) bool { return b.policy == p })
			if speaks {
				c.Actions = append(c.Actions, act.String())
			}
		}
		if len(c.Actions) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// rule notes what a rule came to. Like policy, it may be called on nil, which is how a decision runs that nobody
// wants explained.
func (x *Explanation) rule(name string, refusal *identity.Error) {
	if x == nil {
		return
	}
	o := RuleOutcome{Rule: name, Outcome: OutcomePasses}
	if refusal != nil {
		o.Outcome, o.Detail = OutcomeRefuses, refusal.Message
	}
	x.Rules = append(x.Rules, o)
}

// policy notes what a statement came to. Of several statements of a policy the gravest counts.
func (x *Explanation) policy(p *identity.Policy, v verdict, outcome Outcome) {
	if x == nil {
		return
	}
	o := PolicyOutcome{Policy: p.ID, Mode: p.Mode, Outcome: outcome}
	if v.application != nil {
		o.Application = v.application.Name
	}
	if v.err != nil {
		o.Detail = reason(v.err)
	}
	if n := len(x.Policies); n > 0 && x.Policies[n-1].Policy == p.ID {
		if grave(outcome) > grave(x.Policies[n-1].Outcome) {
			x.Policies[n-1] = o
		}
		return
	}
	x.Policies = append(x.Policies, o)
}

func grave(o Outcome) int {
	return slices.Index([]Outcome{
		OutcomeNotReached, OutcomePasses, OutcomeApproved, OutcomeWouldForbid, OutcomeRequiresApproval, OutcomeError, OutcomeForbids,
	}, o)
}

// outcome is that of a policy that forbids.
func (v *verdict) outcome() Outcome {
	switch {
	case v.err != nil:
		return OutcomeError
	case v.lifts():
		return OutcomeRequiresApproval
	}
	return OutcomeForbids
}

// finish adds what was not gone through, and why.
func (x *Explanation) finish(rules []string, set *Set, evaluated bool) {
	for _, name := range rules[len(x.Rules):] {
		x.Rules = append(x.Rules, RuleOutcome{Rule: name, Outcome: OutcomeNotReached})
	}
	heard := make(map[string]PolicyOutcome, len(x.Policies))
	for _, p := range x.Policies {
		heard[p.Policy] = p
	}
	x.Policies = nil
	for _, p := range set.Policies() {
		o, ok := heard[p.ID]
		switch {
		case ok:
		case p.Mode == identity.PolicyOff:
			o = PolicyOutcome{Policy: p.ID, Mode: p.Mode, Outcome: OutcomeOff}
		case evaluated:
			o = PolicyOutcome{Policy: p.ID, Mode: p.Mode, Outcome: OutcomeNotApplicable}
		default:
			o = PolicyOutcome{Policy: p.ID, Mode: p.Mode, Outcome: OutcomeNotReached}
		}
		x.Policies = append(x.Policies, o)
	}
}
