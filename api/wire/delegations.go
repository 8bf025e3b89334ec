package wire

import "github.com/deputy-id/deputy/identity"

// DelegationRequest lends an agent a slice of a principal's authority.
type DelegationRequest struct {
	PrincipalID string          `json:"principal_id"`
	AgentID     string          `json:"agent_id"`
	Scopes      identity.Scopes `json:"scopes"`
	Duration    int64           `json:"duration_seconds" doc:"60 to 31536000"`
	Reason      string          `json:"reason,omitempty"`
	Origin      string          `json:"origin,omitempty" doc:"what caused it; the caller's id where absent"`
	MaxHops     int64           `json:"max_hops,omitempty" doc:"agents in a chain that may rest on it, 1 or 2; 2 where absent"`
}

// Delegation is a slice of a principal's authority, lent to an agent.
type Delegation struct {
	ID          string                    `json:"id"`
	PrincipalID string                    `json:"principal_id"`
	AgentID     string                    `json:"agent_id"`
	Scopes      identity.Scopes           `json:"scopes"`
	Status      identity.DelegationStatus `json:"status" doc:"active until withdrawn; see expires_at as well"`
	Expired     bool                      `json:"expired" doc:"expires_at has passed"`
	ExpiresAt   identity.Instant          `json:"expires_at"`
	Reason      string                    `json:"reason,omitempty"`
	Origin      string                    `json:"origin,omitempty"`
	MaxHops     int64                     `json:"max_hops"`
	CreatedAt   identity.Instant          `json:"created_at"`
	WithdrawnAt identity.Instant          `json:"withdrawn_at,omitempty"`
	Revision    uint64                    `json:"revision" doc:"log index of the last change"`
}

// Bulk makes many objects in one write. Agents and principals come before delegations, in the order of the
// lists, so that one body may hold a delegation and all it needs.
type Bulk struct {
	Agents      []AgentRequest      `json:"agents,omitempty"`
	Principals  []PrincipalRequest  `json:"principals,omitempty"`
	Delegations []DelegationRequest `json:"delegations,omitempty"`
}

// BulkAnswer says how each item of a Bulk fared.
type BulkAnswer struct {
	Index   uint64        `json:"index" doc:"log index of the write"`
	Created int           `json:"created"`
	Refused int           `json:"refused"`
	Items   []BulkOutcome `json:"items" doc:"agents first, then principals, then delegations, in the order of the request"`
}

// BulkOutcome is the fate of one item.
type BulkOutcome struct {
	Pointer string                `json:"pointer" doc:"JSON pointer of the item in the request, such as /agents/3"`
	ID      string                `json:"id,omitempty"`
	Status  int                   `json:"status" doc:"what the single request would have answered"`
	Code    identity.Code         `json:"code,omitempty" doc:"the error's code"`
	Detail  string                `json:"detail,omitempty"`
	Errors  []identity.FieldError `json:"errors,omitempty"`
}
