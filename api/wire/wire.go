// Package wire holds what crosses the wire: the bodies of requests and answers of the public surface, one Go
// type each, shared by the server, the Go client and the command line.
//
// The OpenAPI document is made from these types. Its rules: a field without `omitempty` is always present
// in an answer and required in a request; `doc` is its description; a pointer may be null. A field may be
// added, never renamed, and never changes its meaning.
package wire

import "github.com/deputy-id/deputy/identity"

// Headers that every client should know.
const (
	HeaderIndex          = "X-Deputy-Index"     // answer of a write: its log index; in a request: serve state at least this new
	HeaderFenced         = "X-Deputy-Fenced"    // answer of a write with wait=fenced: whether no node acts any more on what was before it
	HeaderFresh          = "X-Deputy-Fresh"     // answer: "false" where the node can't vouch for its state, which may be old; else absent
	HeaderRequestID      = "X-Request-Id"       // on every answer; taken over from the request where it is sane
	HeaderIdempotencyKey = "Idempotency-Key"    // on replicated writes: repeat safely
	HeaderRateLimit      = "X-Rate-Limit-Limit" // requests a caller may burst
	HeaderRateRemaining  = "X-Rate-Limit-Remaining"
	HeaderDPoP           = "DPoP"               // proof that the client has the key which its token is bound to (RFC 9449)
	HeaderDPoPNonce      = "DPoP-Nonce"         // on answers: what the next proof for this node has to hold
	HeaderRateReset      = "X-Rate-Limit-Reset" // Unix seconds at which the whole burst is there again
)

// ProblemType is the prefix of every problem's type; the error's code follows it.
const ProblemType = "urn:deputy:problem:"

// ContentTypeProblem is the media type of an error under /api/v1 (RFC 9457).
const ContentTypeProblem = "application/problem+json"

// Bounds of the surface, stated here because clients page and batch by them.
const (
	DefaultLimit  = 100     // items in a list when none is asked for
	MaxLimit      = 1000    // items in a list
	MaxBulkItems  = 1000    // objects in one POST /api/v1/bulk
	MaxHandles    = 1000    // handles in one POST /api/v1/revocations
	MaxBodyBytes  = 1 << 20 // request body
	MaxHeaderSize = 16 << 10
	// MaxIdempotencyKey bounds the Idempotency-Key header, in bytes.
	MaxIdempotencyKey = 255
)

// Problem is an error of /api/v1, as RFC 9457 has it.
type Problem struct {
	Type     string                `json:"type" doc:"stable URI that ends in the error's code"`
	Title    string                `json:"title"`
	Status   int                   `json:"status"`
	Detail   string                `json:"detail,omitempty"`
	Instance string                `json:"instance,omitempty" doc:"the request id, as in X-Request-Id"`
	Hint     string                `json:"hint,omitempty" doc:"what to do next"`
	Errors   []identity.FieldError `json:"errors,omitempty" doc:"what is wrong with single fields"`
	PolicyID string                `json:"policy_id,omitempty" doc:"the policy that refused, or agrees with the refusal"`

	ApprovalID string `json:"approval_id,omitempty" doc:"what a human is asked to approve, or has denied"`
}

// Code returns the error code at the end of the problem's type, or "" for a foreign problem.
func (p *Problem) Code() identity.Code {
	if len(p.Type) <= len(ProblemType) || p.Type[:len(ProblemType)] != ProblemType {
		return ""
	}
	return identity.Code(p.Type[len(ProblemType):])
}

// Deleted says what was removed.
type Deleted struct {
	ID string `json:"id"`
	// Handles are what was denied along with it.
	Handles []identity.Handle `json:"handles,omitempty" doc:"handles that were revoked along with it"`
	Known   bool              `json:"known" doc:"false: nothing of that id was there"`
	Index   uint64            `json:"index,omitempty" doc:"log index of the deletion; absent while it is not committed"`
	Stop
}

// Reason is the body of a change that wants to know why.
type Reason struct {
	Reason string `json:"reason,omitempty" doc:"kept with the revocation, shown to auditors"`
}

// Settings hold for the whole cluster.
type Settings struct {
	ClusterID              string   `json:"cluster_id"`
	Issuer                 string   `json:"issuer" doc:"iss of every token"`
	ExternalURLs           []string `json:"external_urls" doc:"further URLs under which the cluster is reached"`
	OfflineTokenTTLSeconds int64    `json:"offline_token_ttl_seconds" doc:"longest token for an application that verifies offline"`
	LeaseMilliseconds      int64    `json:"lease_milliseconds" doc:"how long a node may speak after it proved to be fresh"`
	KeyRotationSeconds     int64    `json:"key_rotation_seconds" doc:"how often each node makes a new token key; 0: only by command"`

	RevocationsKeptSeconds int64            `json:"revocations_kept_seconds" doc:"how long a revocation is known at least; can't be set"`
	DeletionsKnownSince    identity.Instant `json:"deletions_known_since,omitempty" doc:"since when the revocations have every deletion; absent where none was ever forgotten"`
}
