package fsm

import (
	"fmt"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of the log. A command is refused before it is proposed, never after.
const (
	MaxCommandBytes = 1 << 20 // as much as a request body may have; raft sends entries of this size with ease
	MaxBatch        = 1000    // bodies in a Batch: some milliseconds of Apply, as nothing else applies meanwhile
	MaxPurge        = 10_000  // objects that one Purge visits, for the same reason
	MaxRevoke       = 1000    // handles in one Revoke
)

// CommandID tells commands apart, so that one that was proposed twice is applied once. The zero id is never
// deduplicated.
type CommandID [16]byte

// Command is what the log holds: who asked for what, when. Everything that is not a pure function of the
// state, such as ids and times, is stamped in here before it is proposed.
type Command struct {
	// ID is random for a command of Deputy's own, drawn once and kept through retries. For a client's
	// Idempotency-Key it is the first 16 bytes of SHA-256(caller ‖ 0 ‖ key).
	ID CommandID
	// Fingerprint is a hash of what the body means. The same ID with another fingerprint is refused with
	// CodeIdempotencyMismatch. Zero for ids of Deputy's own.
	Fingerprint [16]byte
	// ClientKey says that ID comes from a client's Idempotency-Key and is remembered for 24 hours, rather
	// than for ten minutes, as a retry after a lost leader takes seconds. Both windows are bounded, also in
	// bytes, and forget sooner where they are full.
	ClientKey bool
	Time      identity.Instant // the proposer's clock; FSM time is the largest ever seen
	By        string           // who asked: the id of an API token, agent or node
	Body      Body
}

// Body is what a command does. Bodies are values; the set is closed.
type Body interface {
	Type() Type
	sealed()
}

// Type numbers a kind of command. Numbers are only ever added: one that is retired keeps its meaning, as
// logs and backups outlive the code that wrote them.
type Type uint16

// The commands. See CONTRIBUTING for how to add one.
const (
	TypeBatch              Type = 1
	TypeTick               Type = 2
	TypePurge              Type = 3
	TypePutSettings        Type = 4
	TypeCreateAgent        Type = 10
	TypeUpdateAgent        Type = 11
	TypeSetAgentStatus     Type = 12
	TypeKillAgent          Type = 13
	TypeDeleteAgent        Type = 14
	TypeAddCredential      Type = 20
	TypeRemoveCredential   Type = 21
	TypeCreatePrincipal    Type = 30
	TypeUpdatePrincipal    Type = 31
	TypeSetPrincipalStatus Type = 32
	TypeKillPrincipal      Type = 33
	TypeDeletePrincipal    Type = 34
	TypeCreateApplication  Type = 40
	TypeUpdateApplication  Type = 41
	TypeDeleteApplication  Type = 42
	TypeCreateDelegation   Type = 50
	TypeWithdrawDelegation Type = 51
	TypeRevoke             Type = 60
	TypeCreateAPIToken     Type = 70
	TypeDeleteAPIToken     Type = 71
	TypeCreateJoinToken    Type = 80
	TypeAdmitMember        Type = 81
	TypeUpdateMember       Type = 82
	TypeRemoveMember       Type = 83
	TypeBarMember          Type = 84
	TypeDrainMember        Type = 85
	TypeRotateKey          Type = 86
	TypeRotateGossip       Type = 87
	TypePublishKey         Type = 90
	TypeRetireKey          Type = 91
	TypeRecover            Type = 100
	TypeBeginRestore       Type = 101
	TypeImport             Type = 102
	TypeEndRestore         Type = 103
	TypeOpenMinting        Type = 104
	TypeTrustIssuer        Type = 120
	TypeDistrustIssuer     Type = 121
	TypePutPolicy          Type = 110
	TypeSetPolicyMode      Type = 111
	TypeDeletePolicy       Type = 112
	TypeRequestApproval    Type = 130
	TypeDecideApproval     Type = 131
	TypeConsumeApproval    Type = 132
)

// ignorable reports whether a node that does not know the command may skip it and still have the state of one
// that does; Encode writes it into the envelope. None is so far: each command above changes the state.
func (t Type) ignorable() bool { return false }

func (t Type) String() string {
	if name, ok := names[t]; ok {
		return name
	}
	return fmt.Sprintf("command-%d", uint16(t))
}

// Result is what became of a command: the Response of raft's ApplyFuture is always one of these. Value is
// named beside each body and must not be modified.
type Result struct {
	Index    uint64 // log index; for a replay the index at which the command was first applied
	Value    any
	Err      *identity.Error
	Replayed bool // the command was applied before, and this is what came of it then
}
