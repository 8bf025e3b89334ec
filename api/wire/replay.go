package wire

import "github.com/deputy-id/deputy/identity"

// Bounds of a replay.
const (
	DefaultReplayRecords = 10_000
	MaxReplayRecords     = 100_000
	DefaultReplayedShown = 20
	MaxReplayedShown     = 200
	MaxReplaySeconds     = 366 * 24 * 3600
)

// What a record that was decided again has come to.
const (
	ReplayBreaks = "breaks" // was allowed, and would be denied
	ReplayFrees  = "frees"  // was denied, and would be allowed
)

// ReplayRequest asks who would break: what the audit trail has recorded is decided again, with drafts among the policies.
type ReplayRequest struct {
	SinceSeconds int64            `json:"since_seconds,omitempty" doc:"the last so many seconds, in place of from"`
	From         identity.Instant `json:"from,omitempty"`
	To           identity.Instant `json:"to,omitempty" doc:"before this time; absent: now"`
	AgentID      string           `json:"agent_id,omitempty" doc:"only what this agent did, or what it was in the chain of"`
	Records      int64            `json:"records,omitempty" doc:"how many to go through in one answer, 1 to 100000; 10000 where absent"`
	Examples     int64            `json:"examples,omitempty" doc:"how many to show, 1 to 200; 20 where absent"`
	After        string           `json:"after,omitempty" doc:"cursor of the answer before"`
}

// Replay says what the drafts would make of what was decided. Each record is judged by the code that decides on real
// requests, at its own time and from its own address, with agents, applications and people as they are now.
type Replay struct {
	From identity.Instant `json:"from"`
	To   identity.Instant `json:"to"`

	Records int64 `json:"records" doc:"decisions that were gone through; they are the sum of the six numbers below"`
	Allowed int64 `json:"allowed" doc:"were allowed, and would be"`
	Denied  int64 `json:"denied" doc:"were denied, and would be"`
	Breaks  int64 `json:"breaks" doc:"were allowed, and would be denied"`
	Frees   int64 `json:"frees" doc:"were denied by a policy, and would be allowed"`
	Stale   int64 `json:"denied_already" doc:"were allowed, and are denied by the policies of now, with or without the drafts"`
	Skipped int64 `json:"not_replayed" doc:"can't be decided again; see reasons"`

	ApprovalRequired int64          `json:"approval_required" doc:"of those that would be denied: a human's approval would lift that"`
	Agents           []ReplayAgent  `json:"agents" doc:"whose requests would come out differently, those with the most first"`
	OtherAgents      ReplayTally    `json:"other_agents" doc:"of agents that are not listed, as only so many are"`
	Scopes           []ReplayScope  `json:"scopes" doc:"that those requests were for; a request counts for each of its scopes"`
	OtherScopes      ReplayTally    `json:"other_scopes"`
	Policies         []ReplayPolicy `json:"policies" doc:"that would deny what was allowed, or in mode monitor would have"`
	Examples         []ReplayRecord `json:"examples" doc:"of what would come out differently"`
	Reasons          []ReplayReason `json:"reasons" doc:"why records can't be decided again"`

	Complete bool        `json:"complete" doc:"every node has answered; those that have not are named, and cursor goes on with their records"`
	Nodes    []AuditNode `json:"nodes" doc:"who was asked"`
	Cursor   string      `json:"cursor,omitempty" doc:"after of the next question; absent: all was gone through"`
}

// ReplayTally counts what would come out differently.
type ReplayTally struct {
	Breaks           int64 `json:"breaks"`
	ApprovalRequired int64 `json:"approval_required"`
	Frees            int64 `json:"frees"`
}

// ReplayAgent is an agent whose requests would come out differently.
type ReplayAgent struct {
	AgentID string `json:"agent_id"`
	ReplayTally
	LastAt identity.Instant `json:"last_at"`
}

// ReplayScope is a scope that such requests were for.
type ReplayScope struct {
	Scope string `json:"scope"`
	ReplayTally
}

// ReplayPolicy is a policy that would deny something.
type ReplayPolicy struct {
	PolicyID         string `json:"policy_id"`
	Breaks           int64  `json:"breaks"`
	ApprovalRequired int64  `json:"approval_required"`
	Monitored        int64  `json:"monitored" doc:"it would have denied, were it enforced"`
}

// ReplayRecord is a record of the trail that would come out differently.
type ReplayRecord struct {
	Record          string           `json:"record" doc:"NODE:SEQUENCE, as GET /api/v1/audit has them"`
	Time            identity.Instant `json:"time"`
	Kind            string           `json:"kind"`
	AgentID         string           `json:"agent_id"`
	PrincipalUserID string           `json:"principal_user_id,omitempty" doc:"absent: an autonomous run"`
	SessionID       string           `json:"session_id,omitempty"`
	Tool            string           `json:"tool,omitempty"`
	Scopes          identity.Scopes  `json:"scopes"`
	Outcome         string           `json:"outcome" doc:"breaks or frees"`
	Refusal         *Refusal         `json:"refusal,omitempty" doc:"what would be answered; absent: it would be allowed"`
}

// ReplayReason is why some records can't be decided again.
type ReplayReason struct {
	Reason  string   `json:"reason" doc:"code of the rule that refuses it today, or gone, cut, not-recorded, decided-elsewhere"`
	Detail  string   `json:"detail"`
	Count   int64    `json:"count"`
	Records []string `json:"records" doc:"a few of them"`
}
