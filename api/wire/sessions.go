package wire

import "github.com/deputy-id/deputy/identity"

// SessionRequest starts a session: one run of an agent, with one token.
type SessionRequest struct {
	AgentID         string   `json:"agent_id"`
	PrincipalUserID *string  `json:"principal_user_id,omitempty" doc:"null or absent: an autonomous run"`
	RequestedScopes []string `json:"requested_scopes,omitempty" doc:"absent or empty: the agent's default scopes, as far as the delegation goes"`
	TriggerReason   string   `json:"trigger_reason,omitempty"`
	MaxDuration     int64    `json:"max_duration_seconds,omitempty" doc:"capped by the agent's maximum and the delegation's expiry"`
	Audience        []string `json:"audience,omitempty" doc:"application ids or audience URIs; absent: the assigned applications that own a granted scope"`
	ApprovalID      string   `json:"approval_id,omitempty" doc:"a human's approval of exactly this request; where absent it is found by what it is for"`
}

// Session is a session at its start, with its token.
type Session struct {
	SessionID       string           `json:"session_id"`
	AccessToken     string           `json:"access_token"`
	TokenType       string           `json:"token_type"`
	ExpiresAt       identity.Instant `json:"expires_at"`
	ExpiresIn       int64            `json:"expires_in" doc:"seconds"`
	Scope           string           `json:"scope" doc:"granted scopes, separated by spaces"`
	AgentID         string           `json:"agent_id"`
	PrincipalUserID *string          `json:"principal_user_id" doc:"null: an autonomous run"`
	DelegationID    string           `json:"delegation_id,omitempty"`
}

// SessionState is what is known of a session. When it began and whether it was revoked any node can tell of any
// session; the rest is there while the node that started it remembers it.
type SessionState struct {
	SessionID  string            `json:"session_id"`
	StartedAt  identity.Instant  `json:"started_at" doc:"as the id says"`
	EndsBy     identity.Instant  `json:"ends_by" doc:"no token of the session can live longer"`
	Revoked    bool              `json:"revoked" doc:"where known is false: the session itself; else also by way of anything that it rests on"`
	RevokedBy  identity.Handle   `json:"revoked_by,omitempty" doc:"the handle that was found revoked"`
	Revocation *RevocationRecord `json:"revocation,omitempty"`

	Known           bool             `json:"known" doc:"a node remembers it; false: what follows is absent"`
	AgentID         string           `json:"agent_id,omitempty" doc:"who acts"`
	PrincipalUserID string           `json:"principal_user_id,omitempty" doc:"absent: an autonomous run"`
	Chain           []string         `json:"chain,omitempty" doc:"all agents, the first one first and the one that acts last"`
	Scopes          []string         `json:"scopes,omitempty"`
	Audience        []string         `json:"audience,omitempty"`
	DelegationID    string           `json:"delegation_id,omitempty"`
	ParentSessionID string           `json:"parent_session_id,omitempty" doc:"the session that it is a hop of"`
	TriggerReason   string           `json:"trigger_reason,omitempty"`
	ExpiresAt       identity.Instant `json:"expires_at,omitempty"`
	Node            string           `json:"node,omitempty" doc:"the node that started it"`
	Nodes           []SessionNode    `json:"nodes,omitempty" doc:"where it is not known: who was asked"`
}

// RevocationRequest names exactly one thing to stop, or handles.
type RevocationRequest struct {
	SessionID    string            `json:"session_id,omitempty"`
	DelegationID string            `json:"delegation_id,omitempty"`
	AgentID      string            `json:"agent_id,omitempty"`
	PrincipalID  string            `json:"principal_id,omitempty"`
	Handles      []identity.Handle `json:"handles,omitempty" doc:"up to 1000, as they come from GET /api/v1/revocations; for operators"`
	Replay       bool              `json:"replay,omitempty" doc:"with handles, after a restore: they were revoked in the cluster that the backup is of, so agents and principals of that generation, or an earlier one, are suspended as well"`
	Reason       string            `json:"reason,omitempty" doc:"kept with the revocation, shown to auditors"`
	Wait         string            `json:"wait,omitempty" doc:"committed or fenced; or as the query parameter"`
}

// WaitCommitted in a request: answer when a quorum has the change on disk. WaitFenced asks for more.
const (
	WaitCommitted = "committed"
	WaitFenced    = "fenced"
)

// Revocation is the answer to a revocation.
type Revocation struct {
	Handles []identity.Handle `json:"handles"`
	Known   bool              `json:"known" doc:"false: the node has not seen it; it is revoked all the same"`
	Index   uint64            `json:"index,omitempty" doc:"log index of the revocation; absent while it is not committed"`
	Stop
}

// RevocationRecord is one entry of the revocation set.
type RevocationRecord struct {
	Handle    identity.Handle  `json:"handle"`
	Reason    string           `json:"reason,omitempty"`
	By        string           `json:"by,omitempty"`
	RevokedAt identity.Instant `json:"revoked_at"`
	ExpiresAt identity.Instant `json:"expires_at" doc:"no token that carries the handle outlives it"`
	Index     uint64           `json:"index"`
}

// ExplainRequest asks why a token is good or bad.
type ExplainRequest struct {
	Token    string `json:"token"`
	Audience string `json:"audience,omitempty" doc:"application id or audience URI that would be called"`
	Scope    string `json:"scope,omitempty" doc:"scopes that would be needed, separated by spaces"`

	Tool          string `json:"tool,omitempty" doc:"tool of the audience that would be called: policies about CallTool then have a say in allowed"`
	ArgumentsHash string `json:"arguments_hash,omitempty" doc:"SHA-256 of the tool's arguments in hexadecimal"`
	SourceIP      string `json:"source_ip,omitempty" doc:"the address that the agent would call from; absent: none is known"`
}

// Explanation says what the verifier makes of a token.
type Explanation struct {
	Active  bool          `json:"active" doc:"signed, in time, and none of its handles is revoked"`
	Allowed bool          `json:"allowed" doc:"active, and good for the audience and the scopes asked about"`
	Reason  string        `json:"reason" doc:"what decided"`
	Detail  string        `json:"detail,omitempty"`
	Claims  *Claims       `json:"claims,omitempty" doc:"absent where the token can't be parsed; not to be trusted unless active"`
	Handles []HandleState `json:"handles,omitempty"`

	Policies []PolicyOutcome `json:"policies,omitempty" doc:"of an active token, where a tool, an audience or a scope was asked about: what policies say to the call of the tool, or else to the same session being started now with that audience and those scopes"`
	PolicyID string          `json:"policy_id,omitempty" doc:"the policy that refuses the tool"`
}

// HandleState is one reason for which the token could be dead.
type HandleState struct {
	Handle     identity.Handle   `json:"handle"`
	Revoked    bool              `json:"revoked"`
	Revocation *RevocationRecord `json:"revocation,omitempty"`
}

// Claims are a token's claims, spelled out.
type Claims struct {
	Issuer    string            `json:"iss"`
	Subject   string            `json:"sub"`
	Audience  []string          `json:"aud"`
	ClientID  string            `json:"client_id"`
	Scope     string            `json:"scope"`
	IssuedAt  int64             `json:"iat"`
	ExpiresAt int64             `json:"exp"`
	ID        string            `json:"jti"`
	SessionID string            `json:"sid"`
	Actors    []string          `json:"actors" doc:"current actor first"`
	Ancestry  []identity.Handle `json:"anc"`
	AgentType string            `json:"agent_type"`
	KeyID     string            `json:"kid"`
}
