package wire

import "github.com/deputy-id/deputy/identity"

// SessionInfo is a session that has not ended, as the node remembers it that started it.
type SessionInfo struct {
	SessionID       string           `json:"session_id"`
	AgentID         string           `json:"agent_id" doc:"who acts"`
	PrincipalUserID *string          `json:"principal_user_id" doc:"null: an autonomous run"`
	Chain           []string         `json:"chain" doc:"all agents, the first one first and the one that acts last"`
	Scopes          identity.Scopes  `json:"scopes"`
	Audience        []string         `json:"audience"`
	DelegationID    string           `json:"delegation_id,omitempty"`
	ParentSessionID string           `json:"parent_session_id,omitempty" doc:"the session that it is a hop of"`
	TriggerReason   string           `json:"trigger_reason,omitempty"`
	StartedAt       identity.Instant `json:"started_at"`
	ExpiresAt       identity.Instant `json:"expires_at"`
	Node            string           `json:"node" doc:"the node that started it"`
	Revoked         bool             `json:"revoked" doc:"something that it rests on was revoked: the session, the delegation, an agent, the principal, the credential, the parent or the signing key"`
	RevokedBy       identity.Handle  `json:"revoked_by,omitempty" doc:"the handle that was found revoked"`
}

// SessionList is one page of the sessions that have not ended.
type SessionList struct {
	Sessions []SessionInfo `json:"sessions" doc:"by id; may be fewer than asked for also where there are more"`
	Complete bool          `json:"complete" doc:"every node has answered, and has forgotten none that could still run; false: there may be sessions that are not listed"`
	Nodes    []SessionNode `json:"nodes" doc:"who was asked"`
}

// SessionNode is how much a node knows of the sessions that it has started.
type SessionNode struct {
	ID           string           `json:"id"`
	Replied      bool             `json:"replied"`
	Error        string           `json:"error,omitempty" doc:"why its sessions are not known"`
	Since        identity.Instant `json:"since,omitempty" doc:"when it began to remember: it has forgotten what it started before its last restart"`
	Complete     bool             `json:"complete" doc:"it lacks none that could still run"`
	Dropped      int64            `json:"dropped" doc:"sessions that it had no room for; some of them may still run"`
	DroppedUntil identity.Instant `json:"dropped_until,omitempty" doc:"when the last of those has ended"`
}

// SessionsEnded is the answer to the end of all sessions of an agent or a principal.
type SessionsEnded struct {
	AgentID     string            `json:"agent_id,omitempty"`
	PrincipalID string            `json:"principal_id,omitempty"`
	Status      identity.Status   `json:"status" doc:"unchanged: new sessions may start"`
	Handles     []identity.Handle `json:"handles" doc:"what was revoked, or with dry_run would be"`
	Known       bool              `json:"known"`
	DryRun      bool              `json:"dry_run,omitempty" doc:"nothing was changed"`
	Count       *SessionCount     `json:"count,omitempty" doc:"with dry_run: how many would end"`
	Index       uint64            `json:"index,omitempty" doc:"log index of the change; absent while it is not committed"`
	Stop
}

// SessionCount is how many sessions run.
type SessionCount struct {
	Sessions  int64         `json:"sessions" doc:"that have neither ended nor been revoked"`
	Truncated bool          `json:"truncated,omitempty" doc:"some node has more than it counts"`
	Complete  bool          `json:"complete" doc:"as in the list of sessions"`
	Nodes     []SessionNode `json:"nodes" doc:"who was asked"`
}
