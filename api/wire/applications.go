package wire

import "github.com/deputy-id/deputy/identity"

// ApplicationRequest makes or replaces an application.
type ApplicationRequest struct {
	Name         string                `json:"name" doc:"the application's id: lower-case letters, digits, and '-', '_' or '.' between them"`
	Description  string                `json:"description,omitempty"`
	Audience     string                `json:"audience" doc:"absolute URI, unique; aud of the tokens meant for it"`
	Scopes       identity.Scopes       `json:"scopes,omitempty" doc:"scopes that belong to it, and to no other application"`
	Tags         []string              `json:"tags,omitempty" doc:"such as production-write"`
	Verification identity.Verification `json:"verification,omitempty" doc:"how it checks tokens; online where absent"`
}

// Application is a downstream system that agents call.
type Application struct {
	ID           string                `json:"id" doc:"equal to name"`
	Name         string                `json:"name"`
	Description  string                `json:"description"`
	Audience     string                `json:"audience"`
	Scopes       identity.Scopes       `json:"scopes"`
	Tags         []string              `json:"tags"`
	Verification identity.Verification `json:"verification"`
	Credentials  []Credential          `json:"credentials"`
	CreatedAt    identity.Instant      `json:"created_at"`
	UpdatedAt    identity.Instant      `json:"updated_at"`
	Revision     uint64                `json:"revision" doc:"log index of the last change"`
	Credential   *NewCredential        `json:"credential,omitempty" doc:"only in the answer to POST /api/v1/applications?credentials=secret"`
}
