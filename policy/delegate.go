package policy

import (
	"net/netip"

	"github.com/deputy-id/deputy/identity"
)

// DelegationRequest is a delegation that is about to be made. The model has rules of its own for it, which the state
// machine holds it to; here it hears the policies.
type DelegationRequest struct {
	Now       identity.Instant
	Principal *identity.Principal // who lends
	Agent     *identity.Agent     // who is lent to
	Scopes    identity.Scopes
	Seconds   int64
	MaxHops   uint8
	Reason    string
	SourceIP  netip.Addr

	Policies *Set
	Approval *identity.Approval
}

// DecideDelegation lets a delegation be made, or returns an *identity.Error as Decide does; the diagnostics are there
// in both cases.
func (e *Engine) DecideDelegation(r *DelegationRequest) (Decision, error) {
	var d Decision
	if err := e.decideDelegation(r, &d, nil); err != nil {
		return d, err
	}
	return d, nil
}

// ExplainDelegation decides as DecideDelegation does, and tells how it came to that.
func (e *Engine) ExplainDelegation(r *DelegationRequest) *Explanation {
	var d Decision
	x := new(Explanation)
	x.Refusal = e.decideDelegation(r, &d, x)
	x.Allowed, x.Diagnostics = d.Allowed, d.Diagnostics
	x.finish(delegationRules.names(), r.Policies, d.judged)
	return x
}

var delegationRules = rules[*DelegationRequest, *Decision]{
	{"request", checkDelegationRequest},
	{"status", func(r *DelegationRequest, _ *Decision) *identity.Error { return statusOf(r.Agent, r.Principal) }},
}

func checkDelegationRequest(r *DelegationRequest, _ *Decision) *identity.Error {
	if r.Agent == nil || r.Principal == nil || r.Now <= 0 {
		return identity.Errorf(identity.CodeInternal, "BUG: delegation request without agent, principal or time")
	}
	return nil
}

func (e *Engine) decideDelegation(r *DelegationRequest, d *Decision, x *Explanation) *identity.Error {
	err := delegationRules.run(r, d, x)
	if err == nil || decided(err) {
		err = e.judgeDelegation(r, d, err, x)
	}
	d.Allowed = err == nil
	return err
}

func (e *Engine) judgeDelegation(r *DelegationRequest, d *Decision, refused *identity.Error, x *Explanation) *identity.Error {
	d.judged = true
	if r.Policies.idle(actDelegate, r.Agent.Type) {
		return refused
	}
	f := e.room()
	defer e.done(f)
	f.act, f.now, f.agent, f.user = actDelegate, r.Now, r.Agent, r.Principal
	f.requested, f.defaults, f.depth = r.Scopes, r.Agent.DefaultScopes, 1
	f.trigger, f.seconds, f.hops, f.source = r.Reason, r.Seconds, int64(r.MaxHops), r.SourceIP.Unmap()
	f.application = &noApplication
	f.approval = r.Approval != nil && r.Approval.Covers(r.Agent.Name, DelegationBinding(r), r.Now)
	v := r.Policies.judge(f, nil, &d.Diagnostics, x)
	switch {
	case v.policy == nil:
		return refused
	case refused != nil:
		return refused.WithPolicy(v.policy.ID)
	}
	return v.refusal(actDelegate)
}
