package api

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// policiesOf are the policies of the state that a call reads, compiled.
func (a *API) policiesOf(c *call) *policy.Set {
	return a.policies.At(c.view.PoliciesRevision(), c.view.AllPolicies)
}

// notePolicies tells of policies that this build can't read. Where they are enforced nothing is minted here, so
// somebody has to hear of it.
func (a *API) notePolicies(set *policy.Set) {
	a.hits.keep(set)
	for _, broken := range set.Broken() {
		a.logger.Error("a policy can't be read by this version, and forbids everything where it is enforced", "policy", broken.Policy, "error", broken)
	}
}

func showPolicy(p *identity.Policy) wire.Policy {
	return wire.Policy{
		ID: p.ID, Description: p.Description, Text: p.Text, Mode: p.Mode, Version: p.Version, ChangedBy: p.By,
		CreatedAt: p.Created, UpdatedAt: p.Updated, Revision: p.Revision,
	}
}

// policyOf makes the domain's policy of a request and holds it to the schema. The mode may be left to Apply.
func policyOf(r *wire.PolicyRequest) (identity.Policy, error) {
	p := identity.Policy{ID: r.ID, Description: r.Description, Text: r.Text, Mode: r.Mode}
	checked := p
	if checked.Mode == "" {
		checked.Mode = identity.PolicyEnforce
	}
	return p, policy.Check(&checked)
}

func (a *API) createPolicy(c *call) error {
	var request wire.PolicyRequest
	if err := c.body(&request); err != nil {
		return err
	}
	p, err := policyOf(&request)
	if err != nil {
		return err
	}
	created, _, err := proposed[*identity.Policy](a, c, fsm.PutPolicy{Policy: p, IfAbsent: true})
	if err != nil {
		return err
	}
	return c.created(policiesPath, created.ID, showPolicy(created))
}

func (a *API) listPolicies(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	return answerList(c, c.view.Policies(c.query("after"), limit+1), limit, showPolicy, func(p *identity.Policy) string { return p.ID })
}

// policy finds the policy that the path names.
func (c *call) policy() (*identity.Policy, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	p, ok := c.view.Policy(id)
	if !ok {
		return nil, notFound("policy", id)
	}
	return p, nil
}

func (a *API) getPolicy(c *call) error {
	p, err := c.policy()
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showPolicy(p))
}

// ifRevision is the revision that the policy must still have: the one that the client has seen, or else the one that
// this request was decided by.
func (c *call) ifRevision(current *identity.Policy) (uint64, error) {
	text := c.query("if_revision")
	if text == "" {
		return current.Revision, nil
	}
	revision, err := strconv.ParseUint(text, 10, 64)
	if err != nil || revision == 0 {
		return 0, invalidParameter("if_revision", "is %.40q; it must be the revision of the policy as it was read", text)
	}
	return revision, nil
}

func (a *API) replacePolicy(c *call) error {
	current, err := c.policy()
	if err != nil {
		return err
	}
	revision, err := c.ifRevision(current)
	if err != nil {
		return err
	}
	var request wire.PolicyRequest
	if err := c.body(&request); err != nil {
		return err
	}
	if request.ID != current.ID {
		return invalidField("/id", "is %q; a policy's id can't change from %q", request.ID, current.ID)
	}
	p, err := policyOf(&request)
	if err != nil {
		return err
	}
	return a.answerPolicy(c, fsm.PutPolicy{Policy: p, IfRevision: revision})
}

func (a *API) setPolicyMode(c *call) error {
	current, err := c.policy()
	if err != nil {
		return err
	}
	revision, err := c.ifRevision(current)
	if err != nil {
		return err
	}
	var request wire.PolicyModeRequest
	if err := c.body(&request); err != nil {
		return err
	}
	if err := identity.ValidPolicyMode(request.Mode); err != nil {
		return err
	}
	return a.answerPolicy(c, fsm.SetPolicyMode{ID: current.ID, Mode: request.Mode, IfRevision: revision})
}

func (a *API) answerPolicy(c *call, body fsm.Body) error {
	changed, _, err := proposed[*identity.Policy](a, c, body)
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showPolicy(changed))
}

func (a *API) deletePolicy(c *call) error {
	current, err := c.policy()
	if err != nil {
		return err
	}
	revision, err := c.ifRevision(current)
	if err != nil {
		return err
	}
	deleted, result, err := proposed[*identity.Policy](a, c, fsm.DeletePolicy{ID: current.ID, IfRevision: revision})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: deleted.ID, Known: true, Index: result.Index}, nil)
}
