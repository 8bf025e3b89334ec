package wire

import "github.com/deputy-id/deputy/identity"

// Actions that can be simulated, as policies name them.
const (
	ActionCreateSession = "CreateSession"
	ActionCallTool      = "CallTool"
	ActionDelegate      = "Delegate"
)

// MaxDrafts bounds the drafts of one simulation.
const MaxDrafts = 100

// SimulateRequest asks what would come of a request. The first fields are those of POST /api/v1/sessions.
type SimulateRequest struct {
	Action          string          `json:"action,omitempty" doc:"CreateSession, CallTool or Delegate; absent: CallTool where there is a tool, and else CreateSession"`
	AgentID         string          `json:"agent_id,omitempty" doc:"who asks; there, unless replay is"`
	PrincipalUserID string          `json:"principal_user_id,omitempty" doc:"absent: an autonomous run"`
	RequestedScopes identity.Scopes `json:"requested_scopes,omitempty" doc:"absent: the agent's default scopes"`
	Audience        []string        `json:"audience,omitempty" doc:"application ids or audience URIs"`
	TriggerReason   string          `json:"trigger_reason,omitempty" doc:"of a delegation: its reason"`
	MaxDuration     int64           `json:"max_duration_seconds,omitempty"`

	Lends       bool             `json:"lends,omitempty" doc:"true: as for a caller with role runtime, who lends in the principal's name where there is no delegation; else as for the agent itself"`
	Chain       []string         `json:"chain,omitempty" doc:"the agents before this one, the first one first: each is taken to have a session with all that it may have"`
	ParentToken string           `json:"parent_token,omitempty" doc:"the parent's session token, in place of chain"`
	Tool        *SimulatedTool   `json:"tool,omitempty" doc:"the tool that is called, under a session as the other fields ask for"`
	MaxHops     int64            `json:"max_hops,omitempty" doc:"of a delegation"`
	SourceIP    string           `json:"source_ip,omitempty" doc:"the address that the request comes from; absent: none is known"`
	Time        identity.Instant `json:"time,omitempty" doc:"when it is made; absent: now"`
	Approved    bool             `json:"approved,omitempty" doc:"true: as if a human had approved this very request"`

	Policies []PolicyRequest `json:"policies,omitempty" doc:"drafts, at most 100: each takes the place of the policy of its id, or is one more"`
	Replay   *ReplayRequest  `json:"replay,omitempty" doc:"in place of a request: decide again on those that the audit trail has recorded; the answer is a Replay, for role auditor"`
}

// SimulatedTool is a tool that is called.
type SimulatedTool struct {
	Name          string `json:"name"`
	ApplicationID string `json:"application_id" doc:"application id or audience URI"`
	RequiredScope string `json:"required_scope,omitempty"`
	ArgumentsHash string `json:"arguments_hash,omitempty" doc:"SHA-256 of the arguments in hexadecimal"`
}

// Simulation says what would come of a request, by the code that decides on real ones. Nothing is minted, changed or
// counted. Whether the cluster mints at all just now is left out of it.
type Simulation struct {
	Action    string            `json:"action"`
	Allowed   bool              `json:"allowed"`
	Refusal   *Refusal          `json:"refusal,omitempty"`
	Session   *SimulatedSession `json:"session,omitempty" doc:"what would be granted"`
	Rules     []RuleOutcome     `json:"rules" doc:"the model's own rules, in the order in which they speak"`
	Policies  []PolicyOutcome   `json:"policies" doc:"by id"`
	Monitored []string          `json:"monitored" doc:"policies that would have denied it, were they enforced"`
}

// Refusal is why something is refused.
type Refusal struct {
	Code     identity.Code `json:"code"`
	Detail   string        `json:"detail"`
	Hint     string        `json:"hint,omitempty"`
	PolicyID string        `json:"policy_id,omitempty" doc:"the policy that refuses, or agrees with the refusal"`
}

// SimulatedSession is a session that would be granted.
type SimulatedSession struct {
	Scopes       identity.Scopes `json:"scopes"`
	Audience     []string        `json:"audience"`
	Chain        []string        `json:"chain" doc:"all agents, the first one first and the one that acts last"`
	DelegationID string          `json:"delegation_id,omitempty" doc:"absent for an autonomous run, and where it would be made for the session"`
	ExpiresIn    int64           `json:"expires_in" doc:"seconds"`
}

// RuleOutcome is what one of the model's own rules came to.
type RuleOutcome struct {
	Rule    string `json:"rule"`
	Outcome string `json:"outcome" doc:"passes, refuses, or not-reached as a rule before it refused"`
	Detail  string `json:"detail,omitempty"`
}

// PolicyOutcome is what one policy came to.
type PolicyOutcome struct {
	PolicyID      string              `json:"policy_id"`
	Mode          identity.PolicyMode `json:"mode"`
	Outcome       string              `json:"outcome" doc:"passes, forbids, requires-approval, approved, would-forbid in mode monitor, error, not-applicable, not-reached or off"`
	ApplicationID string              `json:"application_id,omitempty" doc:"for which it forbids, where it is not for all"`
	Detail        string              `json:"detail,omitempty"`
}
