package wire

// OAuthError is an error of /oauth2, as RFC 6749 section 5.2 has it.
type OAuthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// TokenRequest is the form of POST /oauth2/token. The caller authenticates with client_secret_basic or
// with the two client fields, never with both.
type TokenRequest struct {
	GrantType     string `json:"grant_type" doc:"client_credentials"`
	Scope         string `json:"scope,omitempty" doc:"separated by spaces; absent: the agent's default scopes"`
	Audience      string `json:"audience,omitempty" doc:"application id or audience URI"`
	Resource      string `json:"resource,omitempty" doc:"audience URI (RFC 8707)"`
	TriggerReason string `json:"trigger_reason,omitempty"`
	MaxDuration   int64  `json:"max_duration_seconds,omitempty"`
	ClientID      string `json:"client_id,omitempty" doc:"client_secret_post"`
	ClientSecret  string `json:"client_secret,omitempty" doc:"client_secret_post"`
}

// Token is the answer of POST /oauth2/token.
type Token struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in" doc:"seconds"`
	Scope       string `json:"scope" doc:"granted scopes, separated by spaces"`
	SessionID   string `json:"session_id"`
}

// TokenForm is the form of POST /oauth2/introspect and POST /oauth2/revoke.
type TokenForm struct {
	Token         string `json:"token"`
	TokenTypeHint string `json:"token_type_hint,omitempty"`
	ClientID      string `json:"client_id,omitempty" doc:"client_secret_post"`
	ClientSecret  string `json:"client_secret,omitempty" doc:"client_secret_post"`
}

// Introspection is the answer of POST /oauth2/introspect (RFC 7662). A token that is not good for the caller
// is exactly {"active":false}.
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	ExpiresAt int64  `json:"exp,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  any    `json:"aud,omitempty" doc:"a string for one audience, an array for several"`
	Issuer    string `json:"iss,omitempty"`
	ID        string `json:"jti,omitempty"`
	SessionID string `json:"sid,omitempty"`
	Actor     *Actor `json:"act,omitempty"`
	AgentType string `json:"agent_type,omitempty"`
}

// Actor is the `act` claim: the current actor outermost (RFC 8693 section 4.1).
type Actor struct {
	Subject string `json:"sub"`
	Actor   *Actor `json:"act,omitempty"`
}

// Metadata is the authorization server's metadata (RFC 8414).
type Metadata struct {
	Issuer                           string   `json:"issuer"`
	TokenEndpoint                    string   `json:"token_endpoint"`
	JWKSURI                          string   `json:"jwks_uri"`
	IntrospectionEndpoint            string   `json:"introspection_endpoint"`
	RevocationEndpoint               string   `json:"revocation_endpoint"`
	ResponseTypesSupported           []string `json:"response_types_supported"`
	GrantTypesSupported              []string `json:"grant_types_supported"`
	TokenEndpointAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	IntrospectionEndpointAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	RevocationEndpointAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
}

// JWKS is a JSON Web Key Set (RFC 7517) of Ed25519 public keys.
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// JWK is one public key (RFC 8037).
type JWK struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	KeyID     string `json:"kid"`
	Algorithm string `json:"alg,omitempty"`
	Use       string `json:"use,omitempty"`
}
