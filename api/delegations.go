package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func showDelegation(d *identity.Delegation, now identity.Instant) wire.Delegation {
	return wire.Delegation{
		ID: d.ID, PrincipalID: d.Principal, AgentID: d.Agent, Scopes: d.Scopes, Status: d.Status, Expired: d.Expires <= now,
		ExpiresAt: d.Expires, Reason: d.Reason, Origin: d.Origin, MaxHops: int64(d.MaxHops),
		CreatedAt: d.Created, WithdrawnAt: d.Withdrawn, Revision: d.Revision,
	}
}

// delegationOf makes the domain's delegation of a request and validates it.
func (c *call) delegationOf(r *wire.DelegationRequest) (identity.Delegation, error) {
	hops, origin := r.MaxHops, r.Origin
	if hops == 0 {
		hops = identity.MaxChain
	}
	if origin == "" {
		origin = c.caller.id()
	}
	if hops < 1 || hops > identity.MaxChain {
		return identity.Delegation{}, invalidField("/max_hops", "is %d; it must be between 1 and %d", hops, identity.MaxChain)
	}
	// Held to its bound before it is multiplied.
	if r.Duration < identity.MinDelegationSeconds || r.Duration > identity.MaxDelegationSeconds {
		return identity.Delegation{}, invalidField("/duration_seconds", "is %d; it must be between %d and %d",
			r.Duration, identity.MinDelegationSeconds, identity.MaxDelegationSeconds)
	}
	d := identity.Delegation{
		ID: c.newID(identity.PrefixDelegation), Principal: r.PrincipalID, Agent: r.AgentID, Scopes: r.Scopes,
		Created: c.now, Expires: c.now + identity.Instant(r.Duration*1000), Reason: r.Reason, Origin: origin,
		MaxHops: uint8(hops), Status: identity.DelegationActive,
	}
	return d, d.Validate()
}

// mayLend wants that whoever lends in a principal's name may do so for the agent: a provisioner for all, a
// runtime for those that its token lists.
func mayLend(token *identity.APIToken, agent string) error {
	if token.Has(identity.RoleProvisioner) || token.MayRun(agent) {
		return nil
	}
	return mayNotRun(token, agent)
}

func mayNotRun(token *identity.APIToken, agent string) *identity.Error {
	return identity.Errorf(identity.CodeForbidden, "API token %s may not run agent %q: its role runtime does not list it", token.ID, agent).
		WithHint("an admin can make a token for it: deputy api-token create --role runtime --agent %s", agent)
}

func (a *API) createDelegation(c *call) error {
	var request wire.DelegationRequest
	if err := c.body(&request); err != nil {
		return err
	}
	c.account.state(request.Reason)
	ensure, err := c.flag("ensure_principal")
	if err != nil {
		return err
	}
	delegation, err := c.delegationOf(&request)
	if err != nil {
		return err
	}
	if err := mayLend(c.caller.token, request.AgentID); err != nil {
		return err
	}
	if err := a.decideDelegation(c, &delegation, newcomers{}); err != nil {
		return err
	}
	created, _, err := proposed[*identity.Delegation](a, c, fsm.CreateDelegation{
		Delegation: delegation, EnsurePrincipal: ensure, Regrant: c.caller.token.Has(identity.RoleAdmin),
	})
	if err != nil {
		return err
	}
	shown := showDelegation(created, c.now)
	c.createdAt("/api/v1/delegations", created.ID)
	c.buf = appendDelegation(c.buf[:0], &shown)
	c.ctx.Response.SetBody(c.buf)
	return nil
}

func (a *API) listDelegations(c *call) error {
	return a.answerDelegations(c, c.query("agent"), c.query("principal"))
}

func (a *API) answerDelegations(c *call, agent, principal string) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	active, err := c.flag("active")
	if err != nil {
		return err
	}
	filter := fsm.DelegationFilter{Agent: agent, Principal: principal}
	if active {
		filter.ActiveAt = c.now
	}
	delegations := c.view.Delegations(filter, c.query("after"), limit+1)
	return answerList(c, delegations, limit,
		func(d *identity.Delegation) wire.Delegation { return showDelegation(d, c.now) },
		func(d *identity.Delegation) string { return d.ID })
}

func (a *API) getDelegation(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	delegation, ok := c.view.Delegation(id)
	if !ok {
		return notFound("delegation", id)
	}
	return c.answer(fasthttp.StatusOK, showDelegation(delegation, c.now))
}

func (a *API) withdrawDelegation(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	if _, ok := c.view.Delegation(id); !ok {
		return notFound("delegation", id).
			WithHint("to deny it all the same, POST /api/v1/revocations with its delegation_id")
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	change, result, err := stopped[*fsm.DelegationChange](a, c, fsm.WithdrawDelegation{ID: id, Reason: reason})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: id, Handles: change.Handles, Known: true, Index: result.Index}, change.Handles)
}
