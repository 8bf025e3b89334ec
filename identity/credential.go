package identity

import (
	"crypto/sha256"
	"crypto/subtle"
)

// CredentialKind says how a credential proves its holder.
type CredentialKind string

// Released kinds.
const (
	CredentialSecret CredentialKind = "client_secret" // 256 random bits, stored as SHA-256
)

// Credential proves that a caller is the agent or application it is filed under. A token carries the id of
// the credential it was asked for with, so that revoking a leaked credential kills what it minted.
type Credential struct {
	ID      string         `codec:"i"` // crd_…
	Kind    CredentialKind `codec:"k"`
	Hash    []byte         `codec:"h,omitempty"` // SHA-256 of the secret's text
	Created Instant        `codec:"ct"`
	Expires Instant        `codec:"et,omitempty"` // zero: never
}

// HashSecret is how secrets of 256 random bits are stored: such a secret needs no slow hash.
func HashSecret(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// MatchSecret returns the unexpired secret credential that secret opens, or nil. Every candidate is
// compared in constant time.
func MatchSecret(credentials []Credential, secret [sha256.Size]byte, now Instant) *Credential {
	var match *Credential
	for i := range credentials {
		c := &credentials[i]
		if c.Kind != CredentialSecret || (!c.Expires.IsZero() && c.Expires <= now) {
			continue
		}
		if subtle.ConstantTimeCompare(c.Hash, secret[:]) == 1 {
			match = c
		}
	}
	return match
}
