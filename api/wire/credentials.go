package wire

import (
	"encoding/json"

	"github.com/deputy-id/deputy/identity"
)

// Credential is a credential without its secret.
type Credential struct {
	ID        string                  `json:"id"`
	Kind      identity.CredentialKind `json:"kind"`
	JWKS      json.RawMessage         `json:"jwks,omitempty" doc:"of private_key_jwt: the public keys"`
	JWKSURI   string                  `json:"jwks_uri,omitempty" doc:"of private_key_jwt: where the public keys are"`
	CreatedAt identity.Instant        `json:"created_at"`
	ExpiresAt identity.Instant        `json:"expires_at,omitempty" doc:"absent: never"`
}

// CredentialRequest asks for one more credential of an agent or an application: a secret, unless there are keys.
type CredentialRequest struct {
	JWKS      json.RawMessage  `json:"jwks,omitempty" doc:"public keys for private_key_jwt (RFC 7517): one JWK or a set; Ed25519, P-256 or RSA"`
	JWKSURI   string           `json:"jwks_uri,omitempty" doc:"where the holder publishes its public keys, in place of jwks"`
	ExpiresAt identity.Instant `json:"expires_at,omitempty" doc:"absent: never"`
}

// NewCredential is a credential at its making: the only time its secret is shown.
type NewCredential struct {
	ID        string                  `json:"id"`
	Kind      identity.CredentialKind `json:"kind"`
	ClientID  string                  `json:"client_id" doc:"the agent's or application's id"`
	Secret    string                  `json:"client_secret,omitempty" doc:"shown once; left out when an Idempotency-Key is replayed, and where there are keys"`
	JWKS      json.RawMessage         `json:"jwks,omitempty"`
	JWKSURI   string                  `json:"jwks_uri,omitempty"`
	CreatedAt identity.Instant        `json:"created_at"`
	ExpiresAt identity.Instant        `json:"expires_at,omitempty" doc:"absent: never"`
}
