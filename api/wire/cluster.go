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

// DrainRequest says whether a node is to drain.
type DrainRequest struct {
	Draining *bool `json:"draining,omitempty" doc:"true where absent; false ends it"`
}

// Drain is the answer to a drain.
type Drain struct {
	ID       string `json:"id"`
	Draining bool   `json:"draining" doc:"mints nothing and does not want to lead"`
	Index    uint64 `json:"index" doc:"log index of the change"`
}

// Change is the answer to a change that has nothing else to tell.
type Change struct {
	Index uint64 `json:"index" doc:"log index of the change"`
}

// NodeStatus is how a node is.
type NodeStatus struct {
	ID                      string  `json:"id"`
	Fresh                   bool    `json:"fresh" doc:"it may mint and introspect"`
	Reason                  string  `json:"reason,omitempty" doc:"why not, in a few words: no leader, behind by 12, removed, clock, …"`
	Detail                  string  `json:"detail,omitempty" doc:"the same at length"`
	AgeMilliseconds         float64 `json:"age_milliseconds" doc:"age of the state that its lease proves"`
	RemainingMilliseconds   float64 `json:"remaining_milliseconds" doc:"how long it may speak without renewing its lease"`
	AppliedIndex            uint64  `json:"applied_index"`
	Behind                  uint64  `json:"behind" doc:"committed entries that it has not applied"`
	Leader                  bool    `json:"leader"`
	Draining                bool    `json:"draining"`
	PendingRevocations      int64   `json:"pending_revocations" doc:"revocations that it keeps until there is a majority"`
	ClockOffsetMilliseconds float64 `json:"clock_offset_milliseconds" doc:"of its clock against the replicated time"`
	DiskFreeBytes           uint64  `json:"disk_free_bytes"`
	KeyID                   string  `json:"key_id,omitempty" doc:"of the key that it signs with"`
	MintingClosed           string  `json:"minting_closed,omitempty" doc:"why the whole cluster mints nothing"`
	Error                   string  `json:"error,omitempty" doc:"why it could not be asked; then nothing else is known"`
}

// SettingsUpdate is what PATCH may change of the settings. The issuer is in every token and stays.
type SettingsUpdate struct {
	ExternalURLs           []string `json:"external_urls,omitempty" doc:"further URLs under which the cluster is reached"`
	OfflineTokenTTLSeconds int64    `json:"offline_token_ttl_seconds,omitempty" doc:"longest token for an application that verifies offline"`
	LeaseMilliseconds      int64    `json:"lease_milliseconds,omitempty" doc:"500 to 60000: how long a node may speak after it proved to be fresh"`
	KeyRotationSeconds     int64    `json:"key_rotation_seconds,omitempty" doc:"3600 to 31536000, or 0: how often each node makes a new token key"`
}

// Restored is the answer to a restore.
type Restored struct {
	BackupID      string           `json:"backup_id" doc:"SHA-256 of the backup, hexadecimal"`
	ClusterID     string           `json:"cluster_id" doc:"of the cluster that was backed up"`
	Index         uint64           `json:"index" doc:"log index up to which the backup goes: later revocations are to be replayed"`
	TakenAt       identity.Instant `json:"taken_at" doc:"the time that the backed-up state had reached"`
	Agents        int64            `json:"agents"`
	Principals    int64            `json:"principals"`
	Applications  int64            `json:"applications"`
	Delegations   int64            `json:"delegations"`
	Revocations   int64            `json:"revocations"`
	APITokens     int64            `json:"api_tokens"`
	Policies      int64            `json:"policies"`
	MintingClosed string           `json:"minting_closed" doc:"why nothing is minted until POST /api/v1/cluster/open"`
}
