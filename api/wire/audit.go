package wire

import (
	"encoding/json"

	"github.com/deputy-id/deputy/identity"
)

// AuditRecord is one record of the audit trail. Records that a log wrote about itself, such as checkpoints, have members
// beside these. On the wire it is the line of the log, byte for byte, so that its hash can be checked.
type AuditRecord struct {
	Prev     string           `json:"prev" doc:"hash of the record before, in the log of the same node"`
	Sequence uint64           `json:"seq" doc:"its number in that log"`
	Node     string           `json:"node"`
	Time     identity.Instant `json:"time"`
	Kind     string           `json:"kind" doc:"mint, refuse, introspect, exchange, revoke, admin, approval, policy, evaluate, tool, proxy, cluster or alert; of the log itself segment, checkpoint, dropped, resumed, recovered, retention"`

	Agent     string      `json:"agent,omitempty" doc:"who acts now"`
	Principal string      `json:"principal,omitempty" doc:"the person; autonomous where there is none"`
	Session   string      `json:"session,omitempty"`
	Chain     []AuditLink `json:"chain,omitempty" doc:"user, agent, sub-agent"`
	Tool      string      `json:"tool,omitempty"`
	Scope     string      `json:"scope,omitempty" doc:"presented or asked for, separated by spaces"`
	Decision  string      `json:"decision,omitempty" doc:"allowed or denied"`
	Outcome   string      `json:"outcome,omitempty" doc:"success or failure"`

	Reason        string   `json:"reason,omitempty" doc:"the error's code"`
	Policies      []string `json:"policies,omitempty" doc:"that decided"`
	Monitored     []string `json:"monitored,omitempty" doc:"that would have denied, were they enforced"`
	Delegation    string   `json:"delegation,omitempty"`
	Approval      string   `json:"approval,omitempty"`
	Action        string   `json:"action,omitempty" doc:"the route's operationId, or what a tool was asked to do"`
	AgentType     string   `json:"agent_type,omitempty"`
	Credential    string   `json:"credential,omitempty" doc:"what the caller proved itself with"`
	Application   string   `json:"application,omitempty" doc:"that asked or reported"`
	Audience      []string `json:"audience,omitempty"`
	Target        string   `json:"target,omitempty" doc:"what was acted on; of a hop, the session that it started from"`
	RequiredScope string   `json:"required_scope,omitempty" doc:"of a tool call: what the tool needs"`
	ArgumentsHash string   `json:"arguments_hash,omitempty" doc:"of a tool call: SHA-256 of its arguments in hexadecimal"`

	SourceIP  string            `json:"source_ip,omitempty" doc:"of the caller; of an evaluation, the agent's as the caller told it"`
	RequestID string            `json:"request_id,omitempty"`
	TraceID   string            `json:"trace_id,omitempty"`
	SpanID    string            `json:"span_id,omitempty"`
	Expires   identity.Instant  `json:"expires,omitempty"`
	Index     uint64            `json:"index,omitempty" doc:"log index of the change"`
	Handles   []identity.Handle `json:"handles,omitempty" doc:"that were revoked"`
	Detail    string            `json:"detail,omitempty"`
	Cut       bool              `json:"cut,omitempty" doc:"something was too long, or looked like a secret"`

	Hash string `json:"hash" doc:"SHA-256 of the line up to here"`

	// Line is the record as it stands in the log.
	Line json.RawMessage `json:"-"`
}

// AuditLink is one end of a hop.
type AuditLink struct {
	User       string `json:"user,omitempty"`
	Agent      string `json:"agent,omitempty"`
	Delegation string `json:"delegation,omitempty"`
}

// UnmarshalJSON keeps the line beside what it says.
func (r *AuditRecord) UnmarshalJSON(line []byte) error {
	type plain AuditRecord
	var p plain
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	*r = AuditRecord(p)
	r.Line = append(json.RawMessage(nil), line...)
	return nil
}

// MarshalJSON writes the line as it was read.
func (r AuditRecord) MarshalJSON() ([]byte, error) {
	if r.Line != nil {
		return r.Line, nil
	}
	type plain AuditRecord
	return json.Marshal(plain(r))
}

// AuditPage is a part of the audit trail of all nodes.
type AuditPage struct {
	Records []AuditRecord `json:"records" doc:"by time; may be fewer than asked for, or none, also where there are more"`
	// Cursor is for the next question with order=oldest, also where there are no more records yet.
	Cursor   string      `json:"cursor,omitempty" doc:"with order=oldest: after of the next question, also where there are no more records yet"`
	Complete bool        `json:"complete" doc:"every node has answered"`
	Nodes    []AuditNode `json:"nodes" doc:"who was asked"`
}

// AuditNode says whether a node has answered.
type AuditNode struct {
	ID      string `json:"id"`
	Replied bool   `json:"replied"`
	Error   string `json:"error,omitempty" doc:"why its records are not there"`
}

// AuditCheckpoint is a node's signature over its log, as a node holds it: its own newest, or one of another node that it
// keeps as a witness.
type AuditCheckpoint struct {
	Node      string           `json:"node" doc:"whose log it is"`
	Log       string           `json:"log"`
	First     uint64           `json:"first"`
	Through   uint64           `json:"through"`
	Head      string           `json:"head" doc:"hash of record through"`
	Root      string           `json:"root" doc:"Merkle root over the records first to through"`
	Time      identity.Instant `json:"time"`
	Signature []byte           `json:"signature" doc:"Ed25519, base64"`
	HeldBy    string           `json:"held_by,omitempty" doc:"the node that has it"`
}

// AuditKey is the public key of a node.
type AuditKey struct {
	Node string `json:"node"`
	Key  []byte `json:"key" doc:"Ed25519, base64"`
}

// AuditCheckpoints are all that the nodes hold, and the keys to check them by.
type AuditCheckpoints struct {
	Checkpoints []AuditCheckpoint `json:"checkpoints"`
	Keys        []AuditKey        `json:"keys" doc:"of all nodes that ever were members"`
	Complete    bool              `json:"complete" doc:"every node has answered"`
	Nodes       []AuditNode       `json:"nodes" doc:"who was asked"`
}

// AuditProof shows that a record stands in a node's log, to somebody who has the node's public key.
type AuditProof struct {
	Checkpoint AuditCheckpoint `json:"checkpoint"`
	Sequence   uint64          `json:"sequence"`
	Path       []string        `json:"path" doc:"hashes from the leaf up"`
	Record     string          `json:"record" doc:"the line that is proven, as text: its bytes count"`
}

// AuditSink is where a node's records go beside its log.
type AuditSink struct {
	Node       string  `json:"node"`
	Name       string  `json:"name"`
	Confirmed  uint64  `json:"confirmed" doc:"the last record that is known to have arrived"`
	Behind     uint64  `json:"behind" doc:"records that were not delivered yet"`
	LagSeconds float64 `json:"lag_seconds" doc:"age of the oldest of those"`
	Lost       uint64  `json:"lost" doc:"since the node's start: removed before they were delivered"`
	Failures   uint64  `json:"failures" doc:"since the node's start"`
	Error      string  `json:"error,omitempty" doc:"of the last delivery; absent: it went well"`
}

// AuditSinks are those of all nodes.
type AuditSinks struct {
	Sinks    []AuditSink `json:"sinks"`
	Complete bool        `json:"complete" doc:"every node has answered"`
	Nodes    []AuditNode `json:"nodes" doc:"who was asked"`
}

// AuditEvent is what an enforcement point reports: a tool call, what was decided of it and what came of it.
type AuditEvent struct {
	Token     string `json:"token,omitempty" doc:"the session's token: its claims say who acts for whom; exactly one of token and session_id"`
	SessionID string `json:"session_id,omitempty"`
	Tool      string `json:"tool"`
	Action    string `json:"action,omitempty" doc:"what the tool was asked to do"`
	Target    string `json:"target,omitempty" doc:"what it was done to"`
	Scope     string `json:"scope,omitempty" doc:"that the call needed; absent, with a token: what the token has"`
	Decision  string `json:"decision" doc:"allowed or denied"`
	Outcome   string `json:"outcome,omitempty" doc:"success or failure; absent: success where allowed, failure where denied"`
	Reason    string `json:"reason,omitempty" doc:"a code, where it was denied or failed"`
	Detail    string `json:"detail,omitempty" doc:"up to 1024 bytes; no secret belongs here"`
}

// AuditReceipt says where a record stands.
type AuditReceipt struct {
	Node     string `json:"node"`
	Sequence uint64 `json:"sequence" doc:"0: it was dropped and counted, where a node is set to do so"`
}
