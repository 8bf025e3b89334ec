package api

import (
	"github.com/deputy-id/deputy/policy"
)

// policiesOf are the policies of the state that a call reads, compiled.
func (a *API) policiesOf(c *call) *policy.Set {
	return a.policies.At(c.view.PoliciesRevision(), c.view.AllPolicies)
}

// notePolicies tells of policies that this build can't read. Where they are enforced nothing is minted here, so
// somebody had better know why.
func (a *API) notePolicies(set *policy.Set) {
	for _, broken := range set.Broken() {
		a.logger.Error("a policy can't be read by this version, and forbids everything where it is enforced", "policy", broken.Policy, "error", broken)
	}
}
