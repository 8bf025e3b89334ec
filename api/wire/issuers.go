package wire

import (
	"encoding/json"

	"github.com/deputy-id/deputy/identity"
)

// TrustedIssuerRequest has the cluster take an OpenID Connect issuer's word for who a user is.
type TrustedIssuerRequest struct {
	Issuer         string                  `json:"issuer" doc:"the iss claim of its ID tokens, byte for byte"`
	ClientIDs      []string                `json:"client_ids" doc:"whose ID tokens are taken: one of these must be in aud"`
	PrincipalClaim identity.PrincipalClaim `json:"principal_claim,omitempty" doc:"which claim is the principal's id: email, the default, if the issuer says that it is verified, or sub"`
	EmailDomains   []string                `json:"email_domains,omitempty" doc:"the only domains whose addresses the issuer may vouch for; absent: any"`
	MaxAgeSeconds  int64                   `json:"max_age_seconds,omitempty" doc:"how long after iat an ID token is taken, 60 to 86400; 3600 where absent"`
	JWKS           json.RawMessage         `json:"jwks,omitempty" doc:"its public keys (RFC 7517); absent: fetched"`
	JWKSURI        string                  `json:"jwks_uri,omitempty" doc:"where its keys are; absent, like jwks: where its discovery document says"`
}

// TrustedIssuer is an issuer whose ID tokens prove who a user is.
type TrustedIssuer struct {
	ID             string                  `json:"id"`
	Issuer         string                  `json:"issuer"`
	ClientIDs      []string                `json:"client_ids"`
	PrincipalClaim identity.PrincipalClaim `json:"principal_claim"`
	EmailDomains   []string                `json:"email_domains,omitempty"`
	MaxAgeSeconds  int64                   `json:"max_age_seconds"`
	JWKS           json.RawMessage         `json:"jwks,omitempty"`
	JWKSURI        string                  `json:"jwks_uri,omitempty"`
	CreatedAt      identity.Instant        `json:"created_at"`
	Revision       uint64                  `json:"revision"`
}
