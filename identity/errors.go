package identity

import (
	"errors"
	"fmt"
	"strings"
)

// Code names a kind of failure. Codes are part of the wire contract: they end the `type` URI of every
// problem document, so they never change once released.
type Code string

// The one vocabulary of failures; api maps each to a status and to its OAuth counterpart.
const (
	CodeInvalid             Code = "invalid-request"      // malformed: not JSON, unknown field, bad parameter
	CodeValidation          Code = "validation-failed"    // well-formed, but a field breaks its bound
	CodeUnauthenticated     Code = "unauthenticated"      // no credential, or a wrong one
	CodeForbidden           Code = "forbidden"            // a good credential without the role
	CodeNotFound            Code = "not-found"            //
	CodeAlreadyExists       Code = "already-exists"       //
	CodeConflict            Code = "conflict"             // changed since it was read, or in the wrong state
	CodeIdempotencyMismatch Code = "idempotency-mismatch" // the same key with another body
	CodeStaleIndex          Code = "stale-index"          // this node has not reached the index asked for
	CodeTooLarge            Code = "too-large"            //
	CodeHeadersTooLarge     Code = "headers-too-large"    //
	CodeMethodNotAllowed    Code = "method-not-allowed"   //
	CodeUnsupportedMedia    Code = "unsupported-media"    //
	CodeRateLimited         Code = "rate-limited"         //
	CodeLimitReached        Code = "limit-reached"        // a bound of the model, such as credentials per agent
	CodeNoLeader            Code = "no-leader"            //
	CodeNotFresh            Code = "not-fresh"            // this node can't vouch for its own state
	CodeNotLeader           Code = "not-leader"           // another node has to be asked; the hint says which
	CodeOutcomeUnknown      Code = "outcome-unknown"      // leadership was lost while the write was under way
	CodeOverloaded          Code = "overloaded"           //
	CodeInternal            Code = "internal"             //
	CodeDraining            Code = "draining"             // this node mints nothing any more; others do
	CodeMintingClosed       Code = "minting-closed"       // after a restore or recovery, until an operator opens it
	CodeDiskFull            Code = "disk-full"            // the disk reserve is reached; only what stops something is written
	CodeAuditUnavailable    Code = "audit-unavailable"    // the record of a decision can't be written, so there is none

	CodeScopeNotAllowed        Code = "scope-not-allowed"
	CodeAgentSuspended         Code = "agent-suspended"
	CodeAgentDeactivated       Code = "agent-deactivated"
	CodePrincipalSuspended     Code = "principal-suspended"
	CodeDelegationMissing      Code = "delegation-missing"
	CodeDelegationExpired      Code = "delegation-expired"
	CodeDelegationWithdrawn    Code = "delegation-withdrawn"
	CodeConsentWithdrawn       Code = "consent-withdrawn"
	CodeApplicationNotAssigned Code = "application-not-assigned"
	CodeUnknownAudience        Code = "unknown-audience"
	CodeChainTooLong           Code = "chain-too-long"
	CodeChainCycle             Code = "chain-cycle"
	CodePolicyDenied           Code = "policy-denied"
	CodeApprovalRequired       Code = "approval-required"
	CodeApprovalDenied         Code = "approval-denied" // a human said no to exactly this, not long ago
	CodeRevoked                Code = "revoked"         // one of the handles is in the revocation set

	CodeProofInvalid    Code = "invalid-dpop-proof" // the DPoP proof is not good, or not for this token
	CodeProofNonce      Code = "use-dpop-nonce"     // the DPoP proof must have the nonce that comes with this answer
	CodeSubjectInvalid  Code = "invalid-subject"    // a token shown as proof of somebody else is not good
	CodeKeysUnavailable Code = "keys-unavailable"   // public keys that are published elsewhere can't be had right now

	CodeJoinTokenInvalid Code = "join-token-invalid"
	CodeJoinTokenExpired Code = "join-token-expired"
	CodeJoinTokenUsed    Code = "join-token-used"
	CodeQuorumAtRisk     Code = "quorum-at-risk"
	CodeMemberRemoved    Code = "member-removed" // the id was removed once and is never used again
)

// FieldError says what is wrong with one field of a request.
type FieldError struct {
	Pointer string `json:"pointer" codec:"p"` // JSON pointer (RFC 6901) into the request body
	Detail  string `json:"detail" codec:"d"`
}

// Error is the one error that crosses package borders. Message and Hint are shown to the caller and so
// hold no secret; the cause is for logs only and is never sent.
type Error struct {
	Code     Code         `codec:"c"`
	Message  string       `codec:"m"`           // what went wrong, lower case, a full sentence without the stop
	Hint     string       `codec:"h,omitempty"` // what to do next
	Fields   []FieldError `codec:"f,omitempty"`
	Policy   string       `codec:"-"` // the policy that refused, or agrees with the refusal; no log or snapshot has one
	Approval string       `codec:"-"` // what a human is asked, or was; likewise
	cause    error
}

// Errorf makes an Error. A %w verb keeps the cause for errors.Is and for logs, and shows its text.
func Errorf(code Code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: wrapped.Error(), cause: errors.Unwrap(wrapped)}
}

// WithHint returns a copy that also says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithPolicy returns a copy that names the policy.
func (e *Error) WithPolicy(id string) *Error {
	c := *e
	c.Policy = id
	return &c
}

// WithApproval returns a copy that names the approval.
func (e *Error) WithApproval(id string) *Error {
	c := *e
	c.Approval = id
	return &c
}

// WithCause returns a copy that keeps err for logs without showing its text.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.cause = err
	return &c
}

func (e *Error) Error() string {
	if len(e.Fields) == 0 {
		return e.Message
	}
	var b strings.Builder
	b.WriteString(e.Message)
	for i, f := range e.Fields {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Pointer)
		b.WriteByte(' ')
		b.WriteString(f.Detail)
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the first Error in err's chain, CodeInternal for any other error, and "" for
// nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
