package wire

// OAuthError is an error of /oauth2, as RFC 6749 section 5.2 has it.
type OAuthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
	ApprovalID  string `json:"approval_id,omitempty" doc:"what a human is asked to approve, or has denied"`
}

// TokenRequest is the form of POST /oauth2/token. The caller authenticates with client_secret_basic, with the fields
// of client_secret_post or with those of private_key_jwt, never with two of them.
type TokenRequest struct {
	GrantType     string `json:"grant_type" doc:"client_credentials, urn:ietf:params:oauth:grant-type:token-exchange (RFC 8693) or urn:openid:params:grant-type:ciba"`
	Scope         string `json:"scope,omitempty" doc:"separated by spaces; absent: the agent's default scopes"`
	Audience      string `json:"audience,omitempty" doc:"application id or audience URI"`
	Resource      string `json:"resource,omitempty" doc:"audience URI (RFC 8707)"`
	TriggerReason string `json:"trigger_reason,omitempty"`
	MaxDuration   int64  `json:"max_duration_seconds,omitempty"`
	ClientFields

	ApprovalID    string `json:"approval_id,omitempty" doc:"a human's approval of exactly this request; where absent it is found by what it is for"`
	AuthRequestID string `json:"auth_req_id,omitempty" doc:"of urn:openid:params:grant-type:ciba: what POST /oauth2/bc-authorize has answered"`

	SubjectToken       string `json:"subject_token,omitempty" doc:"of an exchange: a user's ID token of a trusted issuer, a delegation's id, or the token of a parent session"`
	SubjectTokenType   string `json:"subject_token_type,omitempty" doc:"urn:ietf:params:oauth:token-type: id_token, access_token or jwt; urn:deputy:params:oauth:token-type:delegation"`
	ActorToken         string `json:"actor_token,omitempty" doc:"a token of the client's own; it acts in any case"`
	ActorTokenType     string `json:"actor_token_type,omitempty" doc:"urn:ietf:params:oauth:token-type: access_token or jwt"`
	RequestedTokenType string `json:"requested_token_type,omitempty" doc:"urn:ietf:params:oauth:token-type: access_token, the default, or jwt"`
	Nonce              string `json:"nonce,omitempty" doc:"of an ID token: what its nonce must be; absent: not looked at"`
}

// ClientFields are those by which a client may authenticate in a form.
type ClientFields struct {
	ClientID            string `json:"client_id,omitempty"`
	ClientSecret        string `json:"client_secret,omitempty" doc:"client_secret_post"`
	ClientAssertion     string `json:"client_assertion,omitempty" doc:"private_key_jwt (RFC 7523 section 2.2)"`
	ClientAssertionType string `json:"client_assertion_type,omitempty" doc:"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"`
}

// Token is the answer of POST /oauth2/token.
type Token struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type" doc:"Bearer, or DPoP where the token is bound to a key"`
	ExpiresIn   int64  `json:"expires_in" doc:"seconds"`
	Scope       string `json:"scope" doc:"granted scopes, separated by spaces"`
	SessionID   string `json:"session_id"`

	IssuedTokenType string `json:"issued_token_type,omitempty" doc:"of an exchange: urn:ietf:params:oauth:token-type:access_token"`
}

// IntrospectionForm is the form of POST /oauth2/introspect.
type IntrospectionForm struct {
	TokenForm
	Tool string `json:"tool,omitempty" doc:"the tool that the token was shown for; it is kept in the audit trail"`
}

// TokenForm is the form of POST /oauth2/revoke, and a part of that of POST /oauth2/introspect.
type TokenForm struct {
	Token         string `json:"token"`
	TokenTypeHint string `json:"token_type_hint,omitempty"`
	ClientFields
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

	Confirmation *Confirmation `json:"cnf,omitempty" doc:"the key that the token is bound to; ask its holder for a proof (RFC 9449 section 7)"`
}

// Confirmation is the `cnf` claim (RFC 7800): the RFC 7638 thumbprint of the key that a token is bound to.
type Confirmation struct {
	Thumbprint string `json:"jkt"`
}

// MaxIntrospectionBatch bounds the tokens of one POST /oauth2/introspect/batch.
const MaxIntrospectionBatch = 100

// IntrospectionBatch is the body of POST /oauth2/introspect/batch.
type IntrospectionBatch struct {
	Tokens []string `json:"tokens" doc:"1 to 100"`
	Tool   string   `json:"tool,omitempty" doc:"the tool that the tokens were shown for; it is kept in the audit trail"`
}

// IntrospectionResults are the answers, in the order of the tokens.
type IntrospectionResults struct {
	Results []Introspection `json:"results"`
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

	TokenEndpointAuthAlgorithms         []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectionEndpointAuthAlgorithms []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevocationEndpointAuthAlgorithms    []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	BackchannelEndpoint                 string   `json:"backchannel_authentication_endpoint" doc:"OpenID Connect CIBA section 4"`
	BackchannelModes                    []string `json:"backchannel_token_delivery_modes_supported"`
	BackchannelUserCodes                bool     `json:"backchannel_user_code_parameter_supported"`

	DPoPAlgorithms []string `json:"dpop_signing_alg_values_supported" doc:"RFC 9449 section 5.1"`
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
