package wire

import "github.com/deputy-id/deputy/identity"

// Member is a node of the cluster.
type Member struct {
	ID             string           `json:"id"`
	State          string           `json:"state" doc:"alive or unreachable, as the answering node sees it"`
	Leader         bool             `json:"leader"`
	Suffrage       string           `json:"suffrage" doc:"voter, nonvoter, or none while it is joining"`
	ClusterAddress string           `json:"cluster_address"`
	GossipAddress  string           `json:"gossip_address"`
	PublicURL      string           `json:"public_url,omitempty"`
	KeyFingerprint string           `json:"key_fingerprint" doc:"SHA-256 of the node's public key, base64url"`
	JoinedAt       identity.Instant `json:"joined_at"`
	JoinTokenID    string           `json:"join_token_id,omitempty"`
	JoinedFrom     string           `json:"joined_from,omitempty"`
	AppliedIndex   uint64           `json:"applied_index,omitempty" doc:"last log index the node said it applied"`
}

// States of a member.
const (
	MemberAlive       = "alive"
	MemberUnreachable = "unreachable"
)

// JoinTokenRequest asks for a token that lets one node join, once.
type JoinTokenRequest struct {
	Duration int64 `json:"duration_seconds,omitempty" doc:"60 to 86400; 900 where absent"`
}

// JoinToken lets one node join, once.
type JoinToken struct {
	ID        string           `json:"id"`
	Token     string           `json:"token,omitempty" doc:"shown once; left out when an Idempotency-Key is replayed"`
	ExpiresAt identity.Instant `json:"expires_at"`
}

// RemovedMember is the answer to a member's removal.
type RemovedMember struct {
	ID        string           `json:"id"`
	RemovedAt identity.Instant `json:"removed_at"`
	Index     uint64           `json:"index"`
}

// TransferRequest names the node that is to lead.
type TransferRequest struct {
	To string `json:"to,omitempty" doc:"a voter's id; absent: the voter that is furthest along"`
}

// Transfer is the answer to a transfer of leadership.
type Transfer struct {
	From string `json:"from"`
	To   string `json:"to,omitempty" doc:"as asked for"`
}

// APITokenRequest makes an API token.
type APITokenRequest struct {
	Name      string           `json:"name" doc:"tells tokens apart in lists"`
	Roles     []identity.Role  `json:"roles"`
	Agents    []string         `json:"agents,omitempty" doc:"for role runtime: the agents it may run, or *"`
	ExpiresAt identity.Instant `json:"expires_at,omitempty" doc:"absent: never"`
}

// APIToken is an operator's or a runtime's access.
type APIToken struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	Roles     []identity.Role  `json:"roles"`
	Agents    []string         `json:"agents,omitempty"`
	CreatedAt identity.Instant `json:"created_at"`
	ExpiresAt identity.Instant `json:"expires_at,omitempty" doc:"absent: never"`
	Token     string           `json:"token,omitempty" doc:"shown once, in the answer to the create"`
}
