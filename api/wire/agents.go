package wire

import "github.com/deputy-id/deputy/identity"

// Profile is what an agent says of itself.
type Profile struct {
	Name        string             `json:"name" doc:"the agent's id: lower-case letters, digits, and '-', '_' or '.' between them"`
	Description string             `json:"description,omitempty"`
	OwnerGroup  string             `json:"owner_group,omitempty"`
	AgentType   identity.AgentType `json:"agent_type"`
}

// AgentRequest makes or replaces an agent.
type AgentRequest struct {
	Profile            Profile           `json:"profile"`
	DefaultScopes      identity.Scopes   `json:"default_scopes,omitempty" doc:"the most the agent may ever be granted"`
	MaxSessionDuration int64             `json:"max_session_duration_seconds,omitempty" doc:"60 to 86400; 3600 where absent"`
	Applications       []string          `json:"applications,omitempty" doc:"ids of applications that the agent may call"`
	Groups             []string          `json:"groups,omitempty"`
	Labels             map[string]string `json:"labels,omitempty"`
}

// DefaultMaxSessionSeconds is an agent's longest session where its maker states none.
const DefaultMaxSessionSeconds = 3600

// Agent is an agent as it stands.
type Agent struct {
	ID                 string            `json:"id" doc:"equal to profile.name"`
	Profile            Profile           `json:"profile"`
	DefaultScopes      identity.Scopes   `json:"default_scopes"`
	MaxSessionDuration int64             `json:"max_session_duration_seconds"`
	Applications       []string          `json:"applications"`
	Groups             []string          `json:"groups"`
	Labels             map[string]string `json:"labels"`
	Status             identity.Status   `json:"status"`
	Credentials        []Credential      `json:"credentials"`
	Handle             identity.Handle   `json:"handle" doc:"the agent at its current generation"`
	CreatedAt          identity.Instant  `json:"created_at"`
	UpdatedAt          identity.Instant  `json:"updated_at"`
	Revision           uint64            `json:"revision" doc:"log index of the last change"`
	// Credential is only there in the answer to a create that asked for one.
	Credential *NewCredential `json:"credential,omitempty" doc:"only in the answer to POST /api/v1/agents?credentials=secret"`
}

// AgentStatus is the answer of a lifecycle operation or of a kill.
type AgentStatus struct {
	Agent   Agent             `json:"agent"`
	Handles []identity.Handle `json:"handles" doc:"handles that were revoked"`
	Index   uint64            `json:"index,omitempty" doc:"log index of the change; absent while it is not committed"`
	Stop
}

// KillRequest is the body of the kill switch.
type KillRequest struct {
	Reason     string `json:"reason,omitempty" doc:"kept with the revocation, shown to auditors"`
	KeepActive bool   `json:"keep_active,omitempty" doc:"end what runs, but let new sessions start"`
	Wait       string `json:"wait,omitempty" doc:"committed or fenced; or as the query parameter"`
}

// Kill is the answer of the kill switch, of an agent or a principal.
type Kill struct {
	ID                string            `json:"id"`
	Status            identity.Status   `json:"status" doc:"after the kill; with dry_run: as it stands"`
	Handles           []identity.Handle `json:"handles" doc:"handles that were, or with dry_run would be, revoked"`
	ActiveDelegations int               `json:"active_delegations" doc:"delegations that were active before"`
	Agents            int               `json:"agents" doc:"agents that the stop touches: the agent itself, or those that had an active delegation of the principal; sub-agents that run under them are known from tokens alone and are not counted"`
	Principals        int               `json:"principals" doc:"principals that had lent to the agent, or the principal itself"`
	Truncated         bool              `json:"truncated,omitempty" doc:"there are more than were counted"`
	Known             bool              `json:"known"`
	Index             uint64            `json:"index,omitempty" doc:"log index of the kill; absent with dry_run, and while it is not committed"`
	DryRun            bool              `json:"dry_run,omitempty" doc:"nothing was changed"`
	Stop
}

// Access says what an agent may get right now, and why.
type Access struct {
	AgentID      string          `json:"agent_id"`
	AgentType    string          `json:"agent_type"`
	Status       identity.Status `json:"status"`
	Scopes       []ScopeAccess   `json:"scopes"`
	Applications []string        `json:"applications" doc:"assigned applications"`
	Policies     []AccessPolicy  `json:"policies" doc:"those that may forbid the agent something, by id; POST /api/v1/policies/simulate says whether they do"`
	Truncated    bool            `json:"truncated,omitempty" doc:"more delegations exist than were looked at"`
}

// AccessPolicy is a policy that speaks of agents such as this one.
type AccessPolicy struct {
	PolicyID    string              `json:"policy_id"`
	Description string              `json:"description"`
	Mode        identity.PolicyMode `json:"mode"`
	Actions     []string            `json:"actions" doc:"what it may forbid: CreateSession, CallTool, Delegate"`
}

// ScopeAccess is one scope that the agent has a claim to.
type ScopeAccess struct {
	Scope       string        `json:"scope"`
	Usable      bool          `json:"usable" doc:"a session with this scope could start now"`
	Because     string        `json:"because,omitempty" doc:"what stands in the way, where it is not usable"`
	Application string        `json:"application,omitempty" doc:"the application that owns the scope"`
	From        []ScopeSource `json:"from"`
}

// Sources of a scope.
const (
	FromDefaultScopes = "default-scopes" // the agent's own, for autonomous runs
	FromDelegation    = "delegation"     // lent by a principal
)

// ScopeSource says where a scope comes from.
type ScopeSource struct {
	Kind         string           `json:"kind" doc:"default-scopes or delegation"`
	DelegationID string           `json:"delegation_id,omitempty"`
	PrincipalID  string           `json:"principal_id,omitempty"`
	ExpiresAt    identity.Instant `json:"expires_at,omitempty"`
}
