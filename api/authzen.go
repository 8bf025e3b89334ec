package api

import (
	"fmt"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
)

// The decision point speaks AuthZEN's Authorization API 1.0: enforcement points, which are applications or gateways in
// front of them, ask whether the agent that calls may do what it wants. A denial is an answer like any other; a status
// of 4xx or 5xx says that there is no decision.

// identifyDecider lets in who may ask for decisions: an application, by HTTP Basic, or an API token.
func (a *API) identifyDecider(c *call) error {
	if scheme, _ := authorization(c.ctx); equalFold(scheme, "basic") {
		return a.enter(c, (*call).identifyByHeader)
	}
	return a.authorize(c)
}

func (a *API) evaluateAccess(c *call) error {
	if err := a.identifyDecider(c); err != nil {
		return err
	}
	var request wire.AccessEvaluation
	if err := c.body(&request); err != nil {
		return err
	}
	one, err := a.evaluateAlone(c, &request)
	if err != nil {
		return err
	}
	return a.answerAccess(c, []evaluated{one}, one.AccessDecision)
}

// evaluateAlone answers the only question of a request. What no evaluation can be made of is a refused request, and what
// is about nothing that Deputy knows is denied: a denial is a decision like any other, and a status of 4xx says that the
// request was at fault (AuthZEN 1.0, Error Responses).
func (a *API) evaluateAlone(c *call, r *wire.AccessEvaluation) (evaluated, error) {
	e, err := c.readEvaluation(r, "")
	if err != nil {
		return evaluated{}, err
	}
	e.alone = true
	return a.evaluate(c, e)
}

func (a *API) evaluateManyAccesses(c *call) error {
	if err := a.identifyDecider(c); err != nil {
		return err
	}
	var request wire.AccessEvaluations
	if err := c.body(&request); err != nil {
		return err
	}
	if len(request.Evaluations) > wire.MaxEvaluations {
		return invalidField("/evaluations", "has %d entries; at most %d are allowed", len(request.Evaluations), wire.MaxEvaluations)
	}
	semantic, err := readSemantic(request.Options)
	if err != nil {
		return err
	}
	if len(request.Evaluations) == 0 {
		whole, err := accessOr(&request.AccessEvaluationItem, &wire.AccessEvaluationItem{}, "")
		if err != nil {
			return err
		}
		one, err := a.evaluateAlone(c, whole)
		if err != nil {
			return err
		}
		return a.answerAccess(c, []evaluated{one}, wire.AccessDecisions{Decision: &one.Decision, Context: one.Context})
	}
	all := make([]*wire.AccessEvaluation, len(request.Evaluations))
	for i := range all {
		if all[i], err = accessOr(&request.Evaluations[i], &request.AccessEvaluationItem, fmt.Sprintf("/evaluations/%d", i)); err != nil {
			return err
		}
	}
	var answer wire.AccessDecisions
	done := make([]evaluated, 0, len(all))
	for i, one := range all {
		e, err := a.evaluateOneOfMany(c, one, fmt.Sprintf("/evaluations/%d", i))
		if err != nil {
			return err
		}
		done, answer.Evaluations = append(done, e), append(answer.Evaluations, e.AccessDecision)
		if semantic == wire.DenyOnFirstDeny && !e.Decision || semantic == wire.PermitOnFirstPermit && e.Decision {
			break
		}
	}
	return a.answerAccess(c, done, answer)
}

// answerAccess answers once all decisions are recorded, if this node may speak, and only then counts what policies said.
func (a *API) answerAccess(c *call, done []evaluated, answer any) error {
	if err := a.recordedEvaluations(c, done); err != nil {
		return c.spent(err)
	}
	if err := a.fresh(c); err != nil {
		return c.spent(err)
	}
	for i := range done {
		for j := range done[i].hits {
			a.hits.note(&done[i].hits[j].diagnostics, done[i].hits[j].hit)
		}
	}
	return c.answer(fasthttp.StatusOK, answer)
}

// evaluateOneOfMany answers one of several questions: one that makes no sense is denied, and the others are answered
// (AuthZEN 1.0, Access Evaluations API, Errors). What is wrong with this node fails all.
func (a *API) evaluateOneOfMany(c *call, r *wire.AccessEvaluation, pointer string) (evaluated, error) {
	c.account.reason, c.account.claims = "", nil // of the question before
	e, err := c.readEvaluation(r, pointer)
	if err != nil {
		return a.denyUnknown(c, &evaluation{subject: r.Subject, action: r.Action.Name}, asError(err))
	}
	out, err := a.evaluate(c, e)
	if err != nil && verdicts[asError(err).Code].status < fasthttp.StatusInternalServerError {
		return a.denyUnknown(c, e, asError(err))
	}
	return out, err
}

// decisionPoint is the metadata of the decision point.
func (a *API) decisionPoint(c *call) error {
	issuer := c.view.Settings().Issuer
	if issuer == "" {
		if err := a.fresh(c); err != nil {
			return err
		}
	}
	c.ctx.Response.SetStatusCode(fasthttp.StatusOK)
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=300")
	c.ctx.Response.SetBodyRaw(encodeJSON(wire.DecisionPoint{
		PolicyDecisionPoint:       issuer,
		AccessEvaluationEndpoint:  issuer + evaluationPath,
		AccessEvaluationsEndpoint: issuer + evaluationsPath,
	}))
	return nil
}
