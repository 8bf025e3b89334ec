// Package tokens mints and checks the signed tokens that agents carry.
//
// A token is a JWT as RFC 9068 profiles it (`typ: at+jwt`), signed with the Ed25519 key of the node that
// minted it. Everything that could ever be a reason to kill it is listed inside, as handles in the claim
// `anc`, or implied by its `kid`. So a token is checked from memory alone: its signature, its times, its
// issuer, and every handle against the revocation set.
//
// The package takes three things from others and nothing else: a policy.Grant to mint from, which only
// package policy can make; a Checker to ask about handles, without which neither a Minter nor a Verifier
// can be made; and a Keyring, the public keys of all nodes.
//
// The parser accepts exactly the language that Mint writes, so one token has one spelling. DESIGN.md gives
// that language and the reasons, and what was turned down.
package tokens

import (
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds. A token past any of them is neither minted nor accepted.
const (
	// MaxTokenBytes bounds a token's text. Twice that still fits the 16 KiB of headers that a node reads,
	// beside a proof of possession; a usual token has 500 to 800 bytes.
	MaxTokenBytes = 4 << 10
	// MaxLifetime is the longest from iat to exp. The revocation set forgets a handle when no token of that
	// age can be left, so a longer token would outlive its own revocation.
	MaxLifetime = identity.MaxSessionSeconds * time.Second
	// MaxSkew is how far in the future a token's iat may lie: a node whose clock is further off may not speak.
	MaxSkew = 2 * time.Second
	// MaxLeeway bounds VerifierOptions.Leeway; revocations are kept that much longer than tokens live.
	MaxLeeway = time.Minute
	// MaxAncestry bounds the handles in `anc`: a hop brings its session, delegation, agent, principal and
	// credential or API token, and the next one adds the key of its parent's token.
	MaxAncestry = 8 * identity.MaxChain

	// maxPayloadBytes bounds the claims' JSON: what three quarters of MaxTokenBytes can hold.
	maxPayloadBytes = MaxTokenBytes / 4 * 3
	// maxTime is the last second of the year 9999, so that seconds turned to milliseconds can't overflow.
	maxTime = 253402300799
)

// The one algorithm and the one type of token (RFC 8037 section 3.1, RFC 9068 section 2.1).
const (
	algorithm = "EdDSA"
	tokenType = "at+jwt"
)

// Checker answers whether any of the handles is revoked. It is asked at every mint and every verification,
// also of cached tokens, and must not allocate or block.
type Checker interface {
	Revoked(handles ...identity.Handle) bool
}
