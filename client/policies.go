package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const policiesPath = "/api/v1/policies"

// CreatePolicy makes a policy. It is in force at every node from the index on that the client then knows.
func (c *Client) CreatePolicy(ctx context.Context, r wire.PolicyRequest, options ...Option) (*wire.Policy, error) {
	return write[wire.Policy](ctx, c, http.MethodPost, policiesPath, nil, r, options...)
}

// Policy reads one policy.
func (c *Client) Policy(ctx context.Context, id string) (*wire.Policy, error) {
	return get[wire.Policy](ctx, c, at(policiesPath, id))
}

// Policies lists policies by id.
func (c *Client) Policies(ctx context.Context, l List) (*Page[wire.Policy], error) {
	return page[wire.Policy](ctx, c, policiesPath, l.query())
}

// ReplacePolicy replaces a policy, if its revision is the one that was read; 0 replaces it in any case.
func (c *Client) ReplacePolicy(ctx context.Context, r wire.PolicyRequest, revision uint64, options ...Option) (*wire.Policy, error) {
	return write[wire.Policy](ctx, c, http.MethodPut, at(policiesPath, r.ID), ifRevision(revision), r, options...)
}

// SetPolicyMode enforces a policy, only counts what it would deny, or turns it off.
func (c *Client) SetPolicyMode(ctx context.Context, id string, mode identity.PolicyMode, options ...Option) (*wire.Policy, error) {
	return write[wire.Policy](ctx, c, http.MethodPost, at(policiesPath, id, "mode"), nil, wire.PolicyModeRequest{Mode: mode}, options...)
}

// DeletePolicy removes a policy, if its revision is the one that was read; 0 removes it in any case.
func (c *Client) DeletePolicy(ctx context.Context, id string, revision uint64, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(policiesPath, id), ifRevision(revision), nil, options...)
}

func ifRevision(revision uint64) url.Values {
	if revision == 0 {
		return nil
	}
	return url.Values{"if_revision": {strconv.FormatUint(revision, 10)}}
}

// PolicyHits tells what a policy has denied, or in mode monitor would have, at all nodes since they were started.
func (c *Client) PolicyHits(ctx context.Context, id string) (*wire.PolicyHits, error) {
	return get[wire.PolicyHits](ctx, c, at(policiesPath, id, "hits"))
}

// AllPolicyHits tells it of each policy, in totals.
func (c *Client) AllPolicyHits(ctx context.Context) (*wire.PolicyHitsList, error) {
	return get[wire.PolicyHitsList](ctx, c, "/api/v1/policy-hits")
}

// Simulate tells what would come of a request, also with policies that are only drafts. The body is a
// *wire.SimulateRequest, or a json.RawMessage.
func (c *Client) Simulate(ctx context.Context, body any) (*wire.Simulation, error) {
	return repeat[wire.Simulation](ctx, c, at(policiesPath, "simulate"), nil, body)
}

// EvaluateAccess asks whether an agent may do something. With credentials an application asks about itself.
func (c *Client) EvaluateAccess(ctx context.Context, r wire.AccessEvaluation, as *Credentials) (*wire.AccessDecision, error) {
	out := new(wire.AccessDecision)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: "/access/v1/evaluation", Body: r, Credentials: as, Repeatable: true}, out)
	return orNil(out, err)
}

// EvaluateAccesses asks up to wire.MaxEvaluations such questions at once.
func (c *Client) EvaluateAccesses(ctx context.Context, r wire.AccessEvaluations, as *Credentials) (*wire.AccessDecisions, error) {
	out := new(wire.AccessDecisions)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: "/access/v1/evaluations", Body: r, Credentials: as, Repeatable: true}, out)
	return orNil(out, err)
}
