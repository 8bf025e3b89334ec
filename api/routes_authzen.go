package api

import (
	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	evaluationPath  = "/access/v1/evaluation"
	evaluationsPath = "/access/v1/evaluations"
)

// A gateway that starts sessions for agents also stands in front of what they call, so role runtime may ask about the
// agents of its token.
func decisionRoutes() []Route {
	deciders := []identity.Role{identity.RoleRuntime, identity.RoleAuditor}
	return []Route{
		{
			Method: "POST", Path: evaluationPath, Name: "evaluateAccess", Kind: KindMint, Echoes: true, Roles: deciders,
			Request: wire.AccessEvaluation{}, Response: wire.AccessDecision{}, Status: 200,
			Summary: "Ask whether an agent may do something (AuthZEN Authorization API 1.0): an application about itself by HTTP Basic, or an API token", handler: (*API).evaluateAccess,
		},
		{
			Method: "POST", Path: evaluationsPath, Name: "evaluateManyAccesses", Kind: KindMint, Echoes: true, Roles: deciders,
			Request: wire.AccessEvaluations{}, Response: wire.AccessDecisions{}, Status: 200,
			Summary: "Ask up to 100 such questions at once", handler: (*API).evaluateManyAccesses,
		},
		{
			Method: "GET", Path: "/.well-known/authzen-configuration", Name: "decisionPoint", Kind: KindPublic, Echoes: true, Response: wire.DecisionPoint{}, Status: 200,
			Summary: "Where decisions are to be had (AuthZEN Authorization API 1.0)", handler: (*API).decisionPoint,
		},
	}
}
