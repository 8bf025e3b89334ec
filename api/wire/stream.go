package wire

import "github.com/deputy-id/deputy/identity"

// Events of GET /api/v1/revocations/stream, by the name in their `event:` line. More may come; a client passes over
// those that it does not know.
const (
	EventOpen     = "open"     // the first one: which node and log, and whether the stream goes on from where the client was
	EventSnapshot = "snapshot" // a part of the set as it is
	EventSynced   = "synced"   // the snapshot is whole: what follows is what is new
	EventDeny     = "deny"     // handles that are in the set ahead of the log
	EventCommit   = "commit"   // handles that the log has brought
	EventPurge    = "purge"    // what has expired is forgotten
	EventEnd      = "end"      // the last one: why the node hangs up
)

// Why a stream ends, beside the codes of errors.
const (
	EndShutdown = "shutting-down" // of the node
	EndBehind   = "behind"        // the client takes in too little; it goes on from its index, or begins again
)

// HeaderLastEventID is how a client that was cut off says up to where it has everything.
const HeaderLastEventID = "Last-Event-ID"

// MaxStreamEntries bounds the handles in one event.
const MaxStreamEntries = 500

// RevocationEvent is the data of an event of the stream. Which fields it has depends on the event.
type RevocationEvent struct {
	Node      string `json:"node,omitempty" doc:"open: the node that sends it"`
	Log       string `json:"log,omitempty" doc:"open: names the log that indexes are of; where it is another than before, they begin anew"`
	Resumed   bool   `json:"resumed,omitempty" doc:"open: true where it goes on from the index that was asked for; else a snapshot follows"`
	Heartbeat int64  `json:"heartbeat_milliseconds,omitempty" doc:"open: something is sent at least that often"`

	Index   uint64           `json:"index,omitempty" doc:"synced, commit, purge: who has everything so far has all that the log had brought up to here"`
	Entries []RevokedHandle  `json:"entries,omitempty" doc:"snapshot, deny, commit: at most 500"`
	Count   int64            `json:"count,omitempty" doc:"synced: handles in the snapshot"`
	Before  identity.Instant `json:"before,omitempty" doc:"synced, purge: what expires no later is forgotten"`

	Code   string `json:"code,omitempty" doc:"end: why, such as not-fresh, shutting-down, behind or unauthenticated"`
	Detail string `json:"detail,omitempty" doc:"end: the same at length"`
}

// RevokedHandle is an entry of the revocation set, as validators need it.
type RevokedHandle struct {
	Handle      identity.Handle  `json:"handle"`
	ExpiresAt   identity.Instant `json:"expires_at" doc:"no token that carries the handle outlives it; of a provisional one: forget it then"`
	Provisional bool             `json:"provisional,omitempty" doc:"true: not known to be committed; it counts all the same"`
}

// ValidatorLease answers how long a validator may trust itself.
type ValidatorLease struct {
	ValidFor float64          `json:"valid_for_milliseconds" doc:"counted from when the question was sent, never from when the answer came"`
	Index    uint64           `json:"index" doc:"the lease is good only for a validator that has everything up to here"`
	Reached  bool             `json:"reached" doc:"seen is at least index"`
	Log      string           `json:"log" doc:"the log that index is of, as in the stream's open event"`
	Time     identity.Instant `json:"time" doc:"the node's clock: a validator whose own is further behind than two seconds must not rely on the lease"`
}
