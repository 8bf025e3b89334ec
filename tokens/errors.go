package tokens

import (
	"fmt"

	"github.com/deputy-id/deputy/identity"
)

// Reason says why a token is not good. Callers may tell an operator, and count; whoever presented the token
// hears only that it is not active (RFC 7662 section 2.2).
type Reason string

// The reasons, in the order in which they are looked for.
const (
	ReasonTooLong    Reason = "too-long"    // over MaxTokenBytes
	ReasonMalformed  Reason = "malformed"   // not in the language that Mint writes
	ReasonUnknownKey Reason = "unknown-key" // no node's key has this kid
	ReasonSignature  Reason = "signature"   // not signed by that key
	ReasonLifetime   Reason = "lifetime"    // exp not after iat, or more than MaxLifetime after it
	ReasonNotYet     Reason = "not-yet"     // iat more than MaxSkew in the future
	ReasonExpired    Reason = "expired"     // exp has come
	ReasonIssuer     Reason = "issuer"      // minted by another cluster
	ReasonRevoked    Reason = "revoked"     // one of its handles is in the revocation set
)

// Reasons lists every reason, in the order in which they are looked for.
func Reasons() []Reason {
	return []Reason{
		ReasonTooLong, ReasonMalformed, ReasonUnknownKey, ReasonSignature, ReasonLifetime, ReasonNotYet,
		ReasonExpired, ReasonIssuer, ReasonRevoked,
	}
}

// VerifyError is the only kind of error that Verify and Decode return.
type VerifyError struct {
	Reason Reason
	Detail string // what exactly, for operators; never a part of the signature
	// Handle is the first revoked handle, for ReasonRevoked.
	Handle identity.Handle
	// Claims are what the token says, for the audit trail. Set only where the signature held, that is from
	// ReasonLifetime on; nil otherwise.
	Claims *Claims
}

func (e *VerifyError) Error() string {
	if e.Detail == "" {
		return "token refused: " + string(e.Reason)
	}
	return "token refused: " + string(e.Reason) + ": " + e.Detail
}

func malformed(format string, args ...any) *VerifyError {
	return &VerifyError{Reason: ReasonMalformed, Detail: fmt.Sprintf(format, args...)}
}
