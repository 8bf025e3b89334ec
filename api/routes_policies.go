package api

import "github.com/deputy-id/deputy/api/wire"

const policiesPath = "/api/v1/policies"

// Only an admin changes policies: whoever could turn one off could do all that it forbids. To those who provision and
// operate they are there to be read, as they are the ones who are asked why something was refused.
func policyRoutes() []Route {
	ifRevision := Param{"if_revision", "the revision that was read: 409 where the policy has changed since", "integer"}
	return []Route{
		{
			Method: "POST", Path: policiesPath, Name: "createPolicy", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Request: wire.PolicyRequest{}, Response: wire.Policy{}, Status: 201, Summary: "Create a policy, which is in force at every node from the index of the answer on", handler: (*API).createPolicy,
		},
		{
			Method: "GET", Path: policiesPath, Name: "listPolicies", Kind: KindRead, Roles: readers, Query: paging,
			Response: []wire.Policy{}, Status: 200, Summary: "List policies by id", handler: (*API).listPolicies,
		},
		{
			Method: "GET", Path: policiesPath + "/{id}", Name: "getPolicy", Kind: KindRead, Roles: readers,
			Response: wire.Policy{}, Status: 200, Summary: "Get a policy", handler: (*API).getPolicy,
		},
		{
			Method: "PUT", Path: policiesPath + "/{id}", Name: "replacePolicy", Kind: KindWrite, Roles: admins, Query: writing(ifRevision),
			Request: wire.PolicyRequest{}, Response: wire.Policy{}, Status: 200, Summary: "Replace text, description and mode of a policy", handler: (*API).replacePolicy,
		},
		{
			Method: "DELETE", Path: policiesPath + "/{id}", Name: "deletePolicy", Kind: KindWrite, Roles: admins, Query: writing(ifRevision),
			Response: wire.Deleted{}, Status: 200, Summary: "Delete a policy", handler: (*API).deletePolicy,
		},
		{
			Method: "POST", Path: policiesPath + "/{id}/mode", Name: "setPolicyMode", Kind: KindWrite, Roles: admins, Query: writing(ifRevision),
			Request: wire.PolicyModeRequest{}, Response: wire.Policy{}, Status: 200, Summary: "Enforce a policy, only count what it would deny, or turn it off", handler: (*API).setPolicyMode,
		},
		{
			Method: "POST", Path: policiesPath + "/simulate", Name: "simulatePolicies", Kind: KindRead, Roles: readers,
			Request: wire.SimulateRequest{}, Response: wire.Simulation{}, Or: wire.Replay{}, Status: 200, Summary: "Tell what would come of a request, or of all those that the audit trail has recorded, also with policies that are only drafts", handler: (*API).simulate,
		},
		{
			Method: "GET", Path: policiesPath + "/{id}/hits", Name: "getPolicyHits", Kind: KindRead, Roles: readers,
			Response: wire.PolicyHits{}, Status: 200, Summary: "What a policy has denied, or in mode monitor would have, by agent and scope", handler: (*API).policyHits,
		},
		{
			Method: "GET", Path: "/api/v1/policy-hits", Name: "listPolicyHits", Kind: KindRead, Roles: readers,
			Response: wire.PolicyHitsList{}, Status: 200, Summary: "What each policy has denied, or would have", handler: (*API).listPolicyHits,
		},
	}
}
