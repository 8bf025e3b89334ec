package wire

import "github.com/deputy-id/deputy/identity"

// ApprovalExpired is what Approval.Status says of one that has ended undecided or unused.
const ApprovalExpired identity.ApprovalStatus = "expired"

// MaxApprovalWait bounds ?wait_seconds= of GET /api/v1/approvals/{id}.
const MaxApprovalWait = 30

// ApprovalRequest asks for a human's answer ahead of a session, or to one tool call.
type ApprovalRequest struct {
	Kind    identity.ApprovalKind `json:"kind,omitempty" doc:"session where absent"`
	AgentID string                `json:"agent_id"`

	PrincipalUserID string          `json:"principal_user_id,omitempty" doc:"on whose behalf the session is; absent: an autonomous run"`
	ParentSessionID string          `json:"parent_session_id,omitempty" doc:"of a sub-agent's session: the session that it is a hop from"`
	RequestedScopes identity.Scopes `json:"requested_scopes,omitempty" doc:"as the session will ask for them"`
	Audience        []string        `json:"audience,omitempty" doc:"as the session will ask for it"`
	TriggerReason   string          `json:"trigger_reason,omitempty" doc:"of a session: as it will have it"`
	MaxDuration     int64           `json:"max_duration_seconds,omitempty" doc:"as the session will ask for it"`

	SessionID     string `json:"session_id,omitempty" doc:"of a tool call: the session that makes it"`
	Application   string `json:"application,omitempty" doc:"of a tool call: name or audience of the application that is called"`
	Tool          string `json:"tool,omitempty"`
	ArgumentsHash string `json:"arguments_hash,omitempty" doc:"of a tool call: SHA-256 of its arguments in hexadecimal"`

	PolicyID         string `json:"policy_id,omitempty" doc:"the policy that asks for it"`
	ExpiresInSeconds int64  `json:"expires_in_seconds,omitempty" doc:"60 to 86400, 3600 where absent: until when it may be decided, and used"`
}

// Approval is what a human is asked, and what came of it.
type Approval struct {
	ID      string                  `json:"id"`
	Kind    identity.ApprovalKind   `json:"kind"`
	Status  identity.ApprovalStatus `json:"status" doc:"pending, approved, denied, consumed, or expired where it has ended undecided or unused"`
	AgentID string                  `json:"agent_id"`

	PrincipalUserID string          `json:"principal_user_id,omitempty" doc:"absent: an autonomous run"`
	ParentSessionID string          `json:"parent_session_id,omitempty"`
	RequestedScopes identity.Scopes `json:"requested_scopes" doc:"empty: the agent's default scopes"`
	Audience        []string        `json:"audience" doc:"empty: the applications that own a granted scope"`
	TriggerReason   string          `json:"trigger_reason,omitempty"`
	MaxDuration     int64           `json:"max_duration_seconds,omitempty" doc:"absent: as long as the agent's sessions may last"`

	SessionID     string `json:"session_id,omitempty" doc:"of a tool call"`
	Application   string `json:"application,omitempty"`
	Tool          string `json:"tool,omitempty"`
	ArgumentsHash string `json:"arguments_hash,omitempty"`

	PolicyID    string           `json:"policy_id,omitempty" doc:"the policy that asks for it; absent: the caller asked of its own accord"`
	RequestedBy []string         `json:"requested_by" doc:"who asked, the first one first; none of them may approve it"`
	Binding     string           `json:"binding" doc:"hash of all that it is good for"`
	CreatedAt   identity.Instant `json:"created_at"`
	ExpiresAt   identity.Instant `json:"expires_at"`
	DecidedBy   string           `json:"decided_by,omitempty"`
	DecidedAt   identity.Instant `json:"decided_at,omitempty"`
	Note        string           `json:"note,omitempty" doc:"of who decided"`
	UsedBy      string           `json:"used_by,omitempty"`
	UsedFor     string           `json:"used_for,omitempty" doc:"the session that it was used up by, or the request"`
	UsedAt      identity.Instant `json:"used_at,omitempty"`
	Revision    uint64           `json:"revision" doc:"log index of the last change"`
}

// ShowApproval is an approval as it is at now.
func ShowApproval(a *identity.Approval, now identity.Instant) Approval {
	shown := Approval{
		ID: a.ID, Kind: a.Kind, Status: a.Status, AgentID: a.Agent, PrincipalUserID: a.Principal, ParentSessionID: a.Parent,
		RequestedScopes: a.Scopes, Audience: a.Audience, TriggerReason: a.Reason, MaxDuration: a.Seconds,
		SessionID: a.Session, Application: a.Application, Tool: a.Tool, ArgumentsHash: a.ArgumentsHash,
		PolicyID: a.Policy, RequestedBy: a.AskedBy, Binding: a.Binding, CreatedAt: a.Created, ExpiresAt: a.Expires,
		DecidedBy: a.DecidedBy, DecidedAt: a.Decided, Note: a.Note, UsedBy: a.UsedBy, UsedFor: a.UsedFor, UsedAt: a.Used, Revision: a.Revision,
	}
	if shown.Audience == nil {
		shown.Audience = []string{}
	}
	if now >= a.Expires && (a.Status == identity.ApprovalPending || a.Status == identity.ApprovalApproved) {
		shown.Status = ApprovalExpired
	}
	return shown
}

// ApprovalDecision is the body of POST /api/v1/approvals/{id}/approve and /deny.
type ApprovalDecision struct {
	Note string `json:"note,omitempty" doc:"kept with the decision, shown to whoever asked"`
}

// ApprovalUse is the body of POST /api/v1/approvals/{id}/consume.
type ApprovalUse struct {
	Binding string `json:"binding" doc:"hash of what it is used for"`
	UsedFor string `json:"used_for,omitempty" doc:"the session or request that it goes to"`
}

// Types of ApprovalEvent.
const (
	EventApprovalRequested = "approval.requested"
	EventApprovalDecided   = "approval.decided"
)

// ApprovalEvent is the body of a webhook.
type ApprovalEvent struct {
	Type     string   `json:"type" doc:"approval.requested or approval.decided"`
	Approval Approval `json:"approval"`
}

// BackchannelRequest is the form of POST /oauth2/bc-authorize (OpenID Connect CIBA section 7.1).
type BackchannelRequest struct {
	Scope           string `json:"scope,omitempty" doc:"separated by spaces; absent: the agent's default scopes"`
	Audience        string `json:"audience,omitempty" doc:"application id or audience URI"`
	Resource        string `json:"resource,omitempty" doc:"audience URI (RFC 8707)"`
	LoginHint       string `json:"login_hint,omitempty" doc:"the principal on whose behalf the session will be; absent: an autonomous run"`
	BindingMessage  string `json:"binding_message,omitempty" doc:"what set the agent off, shown to whoever decides; the session's trigger reason"`
	MaxDuration     int64  `json:"max_duration_seconds,omitempty"`
	RequestedExpiry int64  `json:"requested_expiry,omitempty" doc:"seconds until the answer is of no use any more; held to between 60 and 86400"`
	ClientFields
}

// Backchannel is the answer of POST /oauth2/bc-authorize.
type Backchannel struct {
	AuthRequestID string `json:"auth_req_id" doc:"the approval's id"`
	ExpiresIn     int64  `json:"expires_in" doc:"seconds"`
	Interval      int64  `json:"interval" doc:"seconds to leave between two polls"`
}
