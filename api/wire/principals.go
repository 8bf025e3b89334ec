package wire

import "github.com/deputy-id/deputy/identity"

// PrincipalRequest makes a principal.
type PrincipalRequest struct {
	ID          string   `json:"id" doc:"an email address or an issuer's subject"`
	DisplayName string   `json:"display_name,omitempty"`
	Groups      []string `json:"groups,omitempty"`
}

// PrincipalUpdate is what PATCH may change of a principal.
type PrincipalUpdate struct {
	DisplayName string          `json:"display_name,omitempty"`
	Groups      []string        `json:"groups,omitempty"`
	Status      identity.Status `json:"status,omitempty" doc:"suspended or deactivated also ends every token that rests on the principal"`
}

// Principal is a human who lends authority to agents.
type Principal struct {
	ID          string           `json:"id"`
	DisplayName string           `json:"display_name"`
	Groups      []string         `json:"groups"`
	Status      identity.Status  `json:"status"`
	Handle      identity.Handle  `json:"handle" doc:"the principal at their current generation"`
	CreatedAt   identity.Instant `json:"created_at"`
	UpdatedAt   identity.Instant `json:"updated_at"`
	Revision    uint64           `json:"revision" doc:"log index of the last change"`
}
