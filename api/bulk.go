package api

import (
	"fmt"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// bulk makes many objects in one command. Each item fares by itself: one that is refused does not stop the
// rest.
func (a *API) bulk(c *call) error {
	var request wire.Bulk
	if err := c.body(&request); err != nil {
		return err
	}
	items := len(request.Agents) + len(request.Principals) + len(request.Delegations)
	if items == 0 || items > wire.MaxBulkItems {
		return identity.Errorf(identity.CodeInvalid, "the request has %d items; it must have between 1 and %d", items, wire.MaxBulkItems)
	}
	ensure, err := c.flag("ensure_principal")
	if err != nil {
		return err
	}
	b := bulkBuilder{outcomes: make([]wire.BulkOutcome, 0, items)}
	made := newcomers{agents: map[string]*identity.Agent{}, principals: map[string]*identity.Principal{}}
	for i := range request.Agents {
		agent := agentOf(&request.Agents[i], c.now)
		made.agents[agent.Name] = &agent
		b.add("/agents", i, agent.Name, agent.Validate(), func() fsm.Body { return fsm.CreateAgent{Agent: agent} })
	}
	for i := range request.Principals {
		principal := principalOf(&request.Principals[i], c.now)
		made.principals[principal.ID] = &principal
		b.add("/principals", i, principal.ID, principal.Validate(), func() fsm.Body { return fsm.CreatePrincipal{Principal: principal} })
	}
	regrant := c.caller.token.Has(identity.RoleAdmin)
	for i := range request.Delegations {
		delegation, err := c.delegationOf(&request.Delegations[i])
		if err == nil {
			err = a.decideDelegation(c, &delegation, made)
		}
		b.add("/delegations", i, delegation.ID, err, func() fsm.Body {
			return fsm.CreateDelegation{Delegation: delegation, EnsurePrincipal: ensure, Regrant: regrant}
		})
	}
	answer := wire.BulkAnswer{Items: b.outcomes}
	if len(b.bodies) > 0 {
		results, result, err := proposed[[]fsm.Result](a, c, fsm.Batch{Bodies: b.bodies})
		if err != nil {
			return err
		}
		answer.Index = result.Index
		if len(results) != len(b.bodies) {
			return fmt.Errorf("BUG: %d results for %d bodies", len(results), len(b.bodies))
		}
		for i, result := range results {
			b.settle(b.proposed[i], result)
		}
	} else {
		answer.Index = c.view.Index()
		c.setIndex(answer.Index)
	}
	for i := range answer.Items {
		if answer.Items[i].Code == "" {
			answer.Created++
		} else {
			answer.Refused++
		}
	}
	return c.answer(fasthttp.StatusOK, answer)
}

type bulkBuilder struct {
	bodies   []fsm.Body
	proposed []int // bodies[i] is item proposed[i]
	outcomes []wire.BulkOutcome
}

// add files an item: as a body where it is valid, else as refused.
func (b *bulkBuilder) add(list string, i int, id string, invalid error, body func() fsm.Body) {
	outcome := wire.BulkOutcome{Pointer: fmt.Sprintf("%s/%d", list, i), ID: id, Status: fasthttp.StatusCreated}
	if invalid != nil {
		refuse(&outcome, invalid)
	} else {
		b.bodies = append(b.bodies, body())
		b.proposed = append(b.proposed, len(b.outcomes))
	}
	b.outcomes = append(b.outcomes, outcome)
}

// settle notes what Apply made of an item.
func (b *bulkBuilder) settle(item int, result fsm.Result) {
	outcome := &b.outcomes[item]
	if result.Err != nil {
		refuse(outcome, result.Err)
		return
	}
	// A replay answers the ids of the first time.
	if d, ok := result.Value.(*identity.Delegation); ok {
		outcome.ID = d.ID
	}
}

func refuse(o *wire.BulkOutcome, err error) {
	e := asError(err)
	o.Status, o.Code, o.Detail, o.Errors = verdicts[e.Code].status, e.Code, e.Message, e.Fields
}
