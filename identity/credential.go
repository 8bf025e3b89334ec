package identity

import (
	"crypto/sha256"
	"crypto/subtle"
)

// CredentialKind says how a credential proves its holder.
type CredentialKind string

// Released kinds.
const (
	CredentialSecret CredentialKind = "client_secret"   // 256 random bits, stored as SHA-256
	CredentialKeys   CredentialKind = "private_key_jwt" // public keys, whose private halves sign assertions (RFC 7523)
)

// Credential proves that a caller is the agent or application it is filed under. A token carries the id of
// the credential it was asked for with, so that revoking a leaked credential kills what it minted.
type Credential struct {
	ID      string         `codec:"i"` // crd_…
	Kind    CredentialKind `codec:"k"`
	Hash    []byte         `codec:"h,omitempty"` // SHA-256 of the secret's text
	Created Instant        `codec:"ct"`
	Expires Instant        `codec:"et,omitempty"` // zero: never

	// Of CredentialKeys, exactly one of the two.
	Keys    string `codec:"ky,omitempty"` // a JWKS of public keys (RFC 7517)
	KeysURI string `codec:"ku,omitempty"` // where the holder publishes it
}

// ActiveAt reports whether the credential may be used at now.
func (c *Credential) ActiveAt(now Instant) bool { return c.Expires.IsZero() || now < c.Expires }

// Validate holds what a credential consists of to its kind. What is in a JWKS is for those to judge who can read it.
func (c *Credential) Validate() error {
	var v violations
	switch c.Kind {
	case CredentialSecret:
		if len(c.Hash) != sha256.Size || c.Keys != "" || c.KeysURI != "" {
			v.add("/kind", "is %s, which has a hash of %d bytes and no keys", c.Kind, sha256.Size)
		}
	case CredentialKeys:
		v.keys("/jwks", c.Keys, "/jwks_uri", c.KeysURI)
		if len(c.Hash) != 0 {
			v.add("/kind", "is %s, which has no hash", c.Kind)
		}
		if c.Keys == "" && c.KeysURI == "" {
			v.add("/jwks", "is missing; register public keys, or their jwks_uri")
		}
	default:
		v.add("/kind", "is %q; it must be %s or %s", c.Kind, CredentialSecret, CredentialKeys)
	}
	return v.err("the credential is not valid")
}

// HashSecret is how secrets of 256 random bits are stored: such a secret needs no slow hash.
func HashSecret(secret string) [sha256.Size]byte {
	var room [64]byte // holds any secret that the system has made: converting it would allocate
	return sha256.Sum256(append(room[:0], secret...))
}

// MatchSecret returns the unexpired secret credential that secret opens, or nil. Every candidate is
// compared in constant time.
func MatchSecret(credentials []Credential, secret [sha256.Size]byte, now Instant) *Credential {
	var match *Credential
	for i := range credentials {
		c := &credentials[i]
		if c.Kind != CredentialSecret || !c.ActiveAt(now) {
			continue
		}
		if subtle.ConstantTimeCompare(c.Hash, secret[:]) == 1 {
			match = c
		}
	}
	return match
}
