package proofs

import (
	"errors"
	"fmt"
)

// Reason says why something was refused. Reasons are stable: they may be counted and written to an audit trail.
// They help whoever runs the other side, so they may also be told to it, but for those of a token that a third
// party made for somebody else.
type Reason string

// The reasons, in about the order in which they are looked for.
const (
	ReasonTooLong     Reason = "too-long"           // over the bound of its kind
	ReasonMalformed   Reason = "malformed"          // not a JWT in compact form, not the JSON it should be, or a claim of the wrong type
	ReasonHeader      Reason = "header"             // a header member that names a key elsewhere or changes how the rest is read
	ReasonType        Reason = "type"               // made for another use, as its typ or its claims show
	ReasonAlgorithm   Reason = "algorithm"          // none, symmetric, unknown, or not the key's own
	ReasonPrivateKey  Reason = "private-key"        // a private or a shared key was sent, and must be considered leaked
	ReasonKey         Reason = "key"                // a public key that is of no use: too weak, off its curve, for another purpose
	ReasonUnknownKey  Reason = "unknown-key"        // none of the keys has its kid, or none is of its algorithm
	ReasonSignature   Reason = "signature"          // not signed by that key
	ReasonMissing     Reason = "missing"            // a claim that must be there is not
	ReasonIssuer      Reason = "issuer"             // iss is not who it should be
	ReasonSubject     Reason = "subject"            // sub is not who it should be, or is nobody
	ReasonAudience    Reason = "audience"           // made for somebody else
	ReasonParty       Reason = "authorized-party"   // azp is missing or somebody else
	ReasonNotYet      Reason = "not-yet"            // iat or nbf is in the future
	ReasonExpired     Reason = "expired"            // exp has come, or a proof's window has closed
	ReasonTooOld      Reason = "too-old"            // issued too long ago, whatever exp says
	ReasonLifetime    Reason = "lifetime"           // exp is further away than its kind may live
	ReasonBeforeStart Reason = "before-start"       // issued before this process could have remembered its jti
	ReasonNonce       Reason = "nonce"              // not the nonce that was asked for
	ReasonMethod      Reason = "method"             // a proof for another HTTP method
	ReasonTarget      Reason = "target"             // a proof for another URL
	ReasonTokenHash   Reason = "token-hash"         // a proof for another access token
	ReasonBinding     Reason = "binding"            // a proof by another key than the token is bound to
	ReasonReplayed    Reason = "replayed"           // its jti has been seen
	ReasonReplayFull  Reason = "replay-memory-full" // its jti can't be remembered, so it can't be accepted; not the caller's fault
)

// Reasons lists every reason, in about the order in which they are looked for.
func Reasons() []Reason {
	return []Reason{
		ReasonTooLong, ReasonMalformed, ReasonHeader, ReasonType, ReasonAlgorithm, ReasonPrivateKey, ReasonKey,
		ReasonUnknownKey, ReasonSignature, ReasonMissing, ReasonIssuer, ReasonSubject, ReasonAudience, ReasonParty,
		ReasonNotYet, ReasonExpired, ReasonTooOld, ReasonLifetime, ReasonBeforeStart, ReasonNonce, ReasonMethod,
		ReasonTarget, ReasonTokenHash, ReasonBinding, ReasonReplayed, ReasonReplayFull,
	}
}

// Error is the only kind of error of this package. Detail tells the maker of what was refused what to do. It holds
// no text of the token or key: what it quotes are the names of members, times, and what this side expected.
type Error struct {
	Reason Reason
	Detail string
}

func (e *Error) Error() string { return "refused (" + string(e.Reason) + "): " + e.Detail }

// ReasonOf returns the reason of the first Error in err's chain, and "" where there is none.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) *Error { return refuse(ReasonMalformed, format, args...) }
