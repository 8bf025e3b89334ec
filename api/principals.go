package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func principalOf(r *wire.PrincipalRequest, now identity.Instant) identity.Principal {
	return identity.Principal{
		ID: r.ID, DisplayName: r.DisplayName, Groups: sortedSet(r.Groups), Status: identity.StatusActive, Created: now,
	}
}

func showPrincipal(p *identity.Principal) wire.Principal {
	return wire.Principal{
		ID: p.ID, DisplayName: p.DisplayName, Groups: entries(p.Groups), Status: p.Status, Handle: p.Handle(),
		CreatedAt: p.Created, UpdatedAt: p.Updated, Revision: p.Revision,
	}
}

func (a *API) createPrincipal(c *call) error {
	var request wire.PrincipalRequest
	if err := c.body(&request); err != nil {
		return err
	}
	principal := principalOf(&request, c.now)
	if err := principal.Validate(); err != nil {
		return err
	}
	created, _, err := proposed[*identity.Principal](a, c, fsm.CreatePrincipal{Principal: principal})
	if err != nil {
		return err
	}
	return c.created("/api/v1/principals", created.ID, showPrincipal(created))
}

func (a *API) listPrincipals(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	principals := c.view.Principals(c.query("after"), limit+1)
	return answerList(c, principals, limit, showPrincipal, func(p *identity.Principal) string { return p.ID })
}

// principal finds the principal that the path names.
func (c *call) principal() (*identity.Principal, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	principal, ok := c.view.Principal(id)
	if !ok {
		return nil, notFound("principal", id)
	}
	return principal, nil
}

func (a *API) getPrincipal(c *call) error {
	principal, err := c.principal()
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showPrincipal(principal))
}

// principalUpdateOf is the change that would leave the principal as it stands: what a merge patch is applied to.
func principalUpdateOf(p *identity.Principal) wire.PrincipalUpdate {
	return wire.PrincipalUpdate{DisplayName: p.DisplayName, Groups: p.Groups, Status: p.Status}
}

func validStatus(s identity.Status) bool {
	return s == identity.StatusActive || s == identity.StatusSuspended || s == identity.StatusDeactivated
}

func (a *API) patchPrincipal(c *call) error {
	current, err := c.principal()
	if err != nil {
		return err
	}
	if err := c.wantMedia(mediaMergePatch, contentTypeJSON); err != nil {
		return err
	}
	request, err := mergePatch(principalUpdateOf(current), c.ctx.PostBody())
	if err != nil {
		return err
	}
	principal := *current
	principal.DisplayName, principal.Groups = request.DisplayName, sortedSet(request.Groups)
	if err := principal.Validate(); err != nil {
		return err
	}
	if !validStatus(request.Status) {
		return invalidField("/status", "is %q; it must be one of %s, %s, %s", request.Status,
			identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated)
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	updated, _, err := proposed[*identity.Principal](a, c, fsm.UpdatePrincipal{Principal: principal, IfRevision: current.Revision})
	if err != nil {
		return err
	}
	if request.Status != current.Status {
		status := fsm.SetPrincipalStatus{ID: current.ID, Status: request.Status, Reason: reason}
		change, _, err := stopped[*fsm.PrincipalChange](a, c.second(), status)
		if err != nil {
			return err
		}
		updated = change.Principal
	}
	return c.answer(fasthttp.StatusOK, showPrincipal(updated))
}

func (a *API) deletePrincipal(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	// Whether there is one, Apply decides: repeated after an unknown outcome, the principal is gone already.
	change, result, err := stopped[*fsm.PrincipalChange](a, c, fsm.DeletePrincipal{ID: id, Reason: reason})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: id, Handles: change.Handles, Known: true, Index: result.Index}, change.Handles)
}

func (a *API) revokePrincipal(c *call) error {
	principal, err := c.principal()
	if err != nil {
		return err
	}
	request, dryRun, err := c.kill()
	if err != nil {
		return err
	}
	answer := &wire.Kill{
		ID: principal.ID, Status: principal.Status, Handles: []identity.Handle{principal.Handle()}, Known: true, DryRun: dryRun,
	}
	showReach(answer, c.view.PrincipalReach(principal.ID))
	answer.Principals = 1
	if dryRun {
		c.setIndex(c.view.Index())
		return c.answer(fasthttp.StatusOK, answer)
	}
	change, result, err := stopped[*fsm.PrincipalChange](a, c, fsm.KillPrincipal{ID: principal.ID, KeepActive: request.KeepActive, Reason: request.Reason})
	if err != nil {
		return err
	}
	answer.Status, answer.Handles, answer.Index = change.Principal.Status, entries(change.Handles), result.Index
	return c.answerStop(answer, change.Handles)
}

func (a *API) principalDelegations(c *call) error {
	principal, err := c.principal()
	if err != nil {
		return err
	}
	return a.answerDelegations(c, "", principal.ID)
}
