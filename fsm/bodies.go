package fsm

import "github.com/deputy-id/deputy/identity"

// Batch applies its bodies in order, each with its own Result; one that is refused does not stop the rest.
// At most MaxBatch, and no Batch within a Batch. Value: []Result.
type Batch struct{ Bodies []Body }

// Tick moves FSM time and nothing else; that it has an index is what a lease rests on. Value: nil.
type Tick struct{}

// Purge forgets what has expired by FSM time, at most MaxPurge objects of it. Value: *Purged.
type Purge struct{}

// PutSettings replaces the settings; ClusterID can't change once set. Value: *identity.Settings.
type PutSettings struct {
	Settings identity.Settings `codec:"s"`
}

// CreateAgent adds an agent, active, at a generation of its own. It may bring credentials along.
// Value: *identity.Agent.
type CreateAgent struct {
	Agent identity.Agent `codec:"a"`
}

// UpdateAgent replaces what a caller may set: all but name, status, generation, credentials and Created.
// IfRevision other than zero must be the agent's revision (CodeConflict). Value: *identity.Agent.
type UpdateAgent struct {
	Agent      identity.Agent `codec:"a"`
	IfRevision uint64         `codec:"ir,omitempty"`
}

// SetAgentStatus suspends, deactivates or activates. The generation that the agent had is denied, also where
// the status stays the same; only to activate an active agent changes nothing. Value: *AgentChange.
type SetAgentStatus struct {
	Name   string          `codec:"n"`
	Status identity.Status `codec:"st"`
	Reason string          `codec:"re,omitempty"`
}

// KillAgent denies the agent's generation, whichever it is, and suspends an active agent unless KeepActive.
// Value: *AgentChange.
type KillAgent struct {
	Name       string `codec:"n"`
	KeepActive bool   `codec:"ka,omitempty"`
	Reason     string `codec:"re,omitempty"`
}

// DeleteAgent denies the agent's generation and removes it with all its delegations. Value: *AgentChange.
type DeleteAgent struct {
	Name   string `codec:"n"`
	Reason string `codec:"re,omitempty"`
}

// OwnerKind says what a credential belongs to.
type OwnerKind string

// Kinds of owners.
const (
	OwnerAgent       OwnerKind = "agent"
	OwnerApplication OwnerKind = "application"
)

// Owner is the agent or application that a credential belongs to.
type Owner struct {
	Kind OwnerKind `codec:"k"`
	Name string    `codec:"n"`
}

// AddCredential files a credential; at most identity.MaxCredentials each. Value: *identity.Credential.
type AddCredential struct {
	Owner      Owner               `codec:"o"`
	Credential identity.Credential `codec:"c"`
}

// RemoveCredential removes a credential and denies all that was minted with it. Value: *Revoked.
type RemoveCredential struct {
	Owner  Owner  `codec:"o"`
	ID     string `codec:"i"`
	Reason string `codec:"re,omitempty"`
}

// CreatePrincipal adds a principal, active, at a generation of its own. Value: *identity.Principal.
type CreatePrincipal struct {
	Principal identity.Principal `codec:"p"`
}

// UpdatePrincipal replaces display name and groups. Value: *identity.Principal.
type UpdatePrincipal struct {
	Principal  identity.Principal `codec:"p"`
	IfRevision uint64             `codec:"ir,omitempty"`
}

// SetPrincipalStatus is SetAgentStatus for a principal. Value: *PrincipalChange.
type SetPrincipalStatus struct {
	ID     string          `codec:"i"`
	Status identity.Status `codec:"st"`
	Reason string          `codec:"re,omitempty"`
}

// KillPrincipal denies the principal's generation, withdraws all their delegations together with their
// consent to new ones unless KeepConsent, and suspends an active principal unless KeepActive. Value: *PrincipalChange.
type KillPrincipal struct {
	ID          string `codec:"i"`
	KeepActive  bool   `codec:"ka,omitempty"`
	KeepConsent bool   `codec:"kc,omitempty"` // only what runs is ended
	Reason      string `codec:"re,omitempty"`
}

// DeletePrincipal denies the principal's generation and removes it with all their delegations and with the
// memory of consent withdrawn. Value: *PrincipalChange.
type DeletePrincipal struct {
	ID     string `codec:"i"`
	Reason string `codec:"re,omitempty"`
}

// CreateApplication adds an application. Its audience is its own, and so is each of its scopes.
// Value: *identity.Application.
type CreateApplication struct {
	Application identity.Application `codec:"a"`
}

// UpdateApplication replaces all but name, credentials and Created. Value: *identity.Application.
type UpdateApplication struct {
	Application identity.Application `codec:"a"`
	IfRevision  uint64               `codec:"ir,omitempty"`
}

// DeleteApplication removes an application with its credentials, whose handles it denies. Value:
// *identity.Application, as it was.
type DeleteApplication struct {
	Name string `codec:"n"`
}

// CreateDelegation lends. EnsurePrincipal makes the principal where there is none. Regrant says that the
// principal or an admin grants, which lifts the bar that a withdrawal sets. Value: *identity.Delegation.
type CreateDelegation struct {
	Delegation      identity.Delegation `codec:"d"`
	EnsurePrincipal bool                `codec:"ep,omitempty"`
	Regrant         bool                `codec:"rg,omitempty"`
}

// WithdrawDelegation ends a delegation, denies all that rests on it, and bars new ones between the same
// principal and agent until one is granted with Regrant. Value: *DelegationChange.
type WithdrawDelegation struct {
	ID     string `codec:"i"`
	Reason string `codec:"re,omitempty"`
}

// Revoke denies handles; at most MaxRevoke. What a handle names is ended along with it, so that it does not
// come back once the entry has expired: a delegation is withdrawn, a credential removed, an API token deleted,
// a signing key dropped, and an agent or principal at that generation gets the next one. One that has not reached the
// generation yet is killed, and the generation that it had is denied, too. Value: *Revoked, with all that was denied.
//
// The last API token with role admin is denied but kept, as nobody could make another without it: what it
// minted is dead and it mints no more, and it is deleted when another admin is made.
type Revoke struct {
	Handles []identity.Handle `codec:"h"`
	Reason  string            `codec:"re,omitempty"`
	// Replay says that the handles were revoked in a cluster that this one was restored from: an agent or principal
	// at that generation, or an earlier one, is killed. While minting is closed this goes without saying.
	Replay bool `codec:"rp,omitempty"`
}

// CreateAPIToken adds an API token; at most MaxAPITokens. An admin takes the place of one that was revoked
// while it was the last. Value: *identity.APIToken.
type CreateAPIToken struct {
	APIToken identity.APIToken `codec:"t"`
}

// DeleteAPIToken removes one, but never the last that has role admin (CodeConflict), and denies the handle
// that its id is, and so all that was minted with it. Value: *identity.APIToken, as it was.
type DeleteAPIToken struct {
	ID string `codec:"i"`
}

// CreateJoinToken adds a join token; at most MaxJoinTokens that were not purged yet. Value:
// *identity.JoinToken.
type CreateJoinToken struct {
	JoinToken identity.JoinToken `codec:"t"`
}

// AdmitMember lets a node in and uses up the join token whose hash is given; without one only the very first
// node gets in. The same node with the same token again is a retry. Value: *identity.Member.
type AdmitMember struct {
	Member        identity.Member `codec:"m"`
	JoinTokenHash []byte          `codec:"jh,omitempty"`
}

// UpdateMember replaces a member's addresses and URL. Value: *identity.Member.
type UpdateMember struct {
	Member identity.Member `codec:"m"`
}

// RemoveMember marks a member as removed, for ever, and retires its signing keys. Value: *identity.Member.
type RemoveMember struct {
	ID     string `codec:"i"`
	Reason string `codec:"re,omitempty"`
}

// BarMember says that a member gets no more leases: no tick after this one makes it fresh. It is the first step
// of a removal, and there is no way back. Value: *identity.Member.
type BarMember struct {
	ID     string `codec:"i"`
	Reason string `codec:"re,omitempty"`
}

// DrainMember has a member mint nothing and hand leadership over, or mint again. Value: *identity.Member.
type DrainMember struct {
	ID       string `codec:"i"`
	Draining bool   `codec:"d,omitempty"`
}

// RotateKey wishes for a new token key at a member. Value: *identity.Member.
type RotateKey struct {
	ID string `codec:"i"`
}

// RotateGossip replaces the gossip keys, the first of which encrypts. Value: *identity.Settings.
type RotateGossip struct {
	Keys [][]byte `codec:"k"`
}

// Recover begins anew after a lost quorum, with one node: the other members are removed, every signing key is
// denied and dropped, join tokens and command ids are forgotten, generations leap, and minting is closed. To do it
// again does no harm. Value: *identity.Member.
type Recover struct {
	Node string `codec:"n"`
}

// BeginRestore prepares a cluster that holds no agents, principals, applications and delegations for those of a
// backup, and closes minting. Where a restore was begun and not ended it starts over, without what was imported so
// far. Value: nil.
type BeginRestore struct {
	Backup BackupHeader `codec:"b"`
}

// Import adds the records of one section of a backup, as a snapshot has them. It takes all of them or none.
// Value: *Imported.
type Import struct {
	Section uint8  `codec:"s"`
	Records []byte `codec:"r"` // at most maxImport
}

// EndRestore says that all records of the backup have been imported (CodeConflict where they have not). Minting stays
// closed. Value: *Imported, of all.
type EndRestore struct {
	Records int `codec:"r"`
}

// Imported counts what came of a backup.
type Imported struct {
	Records int `codec:"r,omitempty"`
}

// OpenMinting ends what a recovery or a restore has closed. Value: nil.
type OpenMinting struct{}

// PublishKey adds the public half of a signing key; the same key again is fine. Value: *identity.SigningKey.
type PublishKey struct {
	Key identity.SigningKey `codec:"k"`
}

// RetireKey says that a key signs no more. It verifies until its last token has ended. Value:
// *identity.SigningKey.
type RetireKey struct {
	KID string `codec:"k"`
}

// TrustIssuer adds an issuer whose ID tokens prove who a user is; at most identity.MaxIssuers. Value:
// *identity.TrustedIssuer.
type TrustIssuer struct {
	Issuer identity.TrustedIssuer `codec:"i"`
}

// DistrustIssuer removes one. What its ID tokens have begun goes on. Value: *identity.TrustedIssuer, as it was.
type DistrustIssuer struct {
	ID string `codec:"i"`
}

// PutPolicy makes a policy, or replaces text, description and mode of the one that has its id; at most
// identity.MaxPolicies. Without a mode it keeps the one that it has, and a new one is enforced. One that is put as it is
// stays as it is. IfRevision other than zero must be the policy's revision (CodeConflict); IfAbsent makes a new one only
// (CodeAlreadyExists). Value: *identity.Policy.
type PutPolicy struct {
	Policy     identity.Policy `codec:"p"`
	IfRevision uint64          `codec:"ir,omitempty"`
	IfAbsent   bool            `codec:"ia,omitempty"`
}

// SetPolicyMode changes nothing but a policy's mode. Value: *identity.Policy.
type SetPolicyMode struct {
	ID         string              `codec:"i"`
	Mode       identity.PolicyMode `codec:"m"`
	IfRevision uint64              `codec:"ir,omitempty"`
}

// DeletePolicy removes a policy. Value: *identity.Policy, as it was.
type DeletePolicy struct {
	ID         string `codec:"i"`
	IfRevision uint64 `codec:"ir,omitempty"`
}

// RequestApproval asks for a human's answer; at most identity.MaxApprovals, and identity.MaxPendingApprovals of one agent
// that nobody has decided. Where the agent has asked the same already, and that has not expired and was not used up, the
// caller joins those who asked, and the value is that one, also where it was denied. Value: *identity.Approval.
type RequestApproval struct {
	Approval identity.Approval `codec:"a"`
}

// DecideApproval says yes or no to a pending approval, or takes back a yes that was not used yet. Whoever asked for it may
// not decide (CodeForbidden). Value: *identity.Approval.
type DecideApproval struct {
	ID      string `codec:"i"`
	Approve bool   `codec:"y,omitempty"`
	Note    string `codec:"n,omitempty"`
}

// ConsumeApproval uses an approval up: once, for what it was given for, by anybody but who gave it. Value:
// *identity.Approval.
type ConsumeApproval struct {
	ID      string `codec:"i"`
	Agent   string `codec:"a"`
	Binding string `codec:"b"`
	For     string `codec:"f,omitempty"` // the session or request that it goes to
}

// AgentChange is an agent after a change, and the handles that the change denied.
type AgentChange struct {
	Agent   *identity.Agent   `codec:"a"`
	Handles []identity.Handle `codec:"h,omitempty"`
}

// PrincipalChange is a principal after a change, and the handles that the change denied.
type PrincipalChange struct {
	Principal *identity.Principal `codec:"p"`
	Handles   []identity.Handle   `codec:"h,omitempty"`
}

// DelegationChange is a delegation after a change, and the handles that the change denied.
type DelegationChange struct {
	Delegation *identity.Delegation `codec:"d"`
	Handles    []identity.Handle    `codec:"h,omitempty"`
}

// Revoked tells what was denied. Known is false where some handle names nothing that the state has seen:
// always so for a session, which lives in its token only, unless it was revoked before.
type Revoked struct {
	Handles []identity.Handle `codec:"h,omitempty"`
	Known   bool              `codec:"k,omitempty"`
}

// Purged counts what a Purge forgot. More says that the bound was reached and another is due.
type Purged struct {
	Revocations int  `codec:"r,omitempty"`
	Delegations int  `codec:"d,omitempty"`
	JoinTokens  int  `codec:"j,omitempty"`
	SigningKeys int  `codec:"k,omitempty"`
	Approvals   int  `codec:"a,omitempty"`
	Commands    int  `codec:"c,omitempty"` // remembered results that are past their age
	More        bool `codec:"m,omitempty"`
}
