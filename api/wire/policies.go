package wire

import "github.com/deputy-id/deputy/identity"

// PolicyRequest makes or replaces a policy.
type PolicyRequest struct {
	ID          string              `json:"id" doc:"lower-case letters, digits, and '-', '_' or '.' between them"`
	Description string              `json:"description,omitempty"`
	Text        string              `json:"text" doc:"Cedar: one rule, which forbids; at most 16 KiB"`
	Mode        identity.PolicyMode `json:"mode,omitempty" doc:"absent: as it was, and enforce for a new one"`
}

// PolicyModeRequest changes nothing but a policy's mode.
type PolicyModeRequest struct {
	Mode identity.PolicyMode `json:"mode"`
}

// Policy is a rule that people write. It can only forbid.
type Policy struct {
	ID          string              `json:"id"`
	Description string              `json:"description"`
	Text        string              `json:"text" doc:"Cedar"`
	Mode        identity.PolicyMode `json:"mode" doc:"monitor: asked and counted, and denies nothing; off: not asked"`
	Version     uint64              `json:"version" doc:"1 for the first text, and one more for each change since"`
	ChangedBy   string              `json:"changed_by,omitempty" doc:"who made the last change"`
	CreatedAt   identity.Instant    `json:"created_at"`
	UpdatedAt   identity.Instant    `json:"updated_at"`
	Revision    uint64              `json:"revision" doc:"log index of the last change"`
}
