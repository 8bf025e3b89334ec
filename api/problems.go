package api

import (
	"errors"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// verdict is how one code looks on the wire.
type verdict struct {
	status int
	title  string
	oauth  string // RFC 6749 section 5.2, RFC 8707 section 2 and RFC 6750 section 3.1
}

// verdicts is the one map from the domain's codes to the surface. Every code of identity is in it; a test
// holds the two together.
var verdicts = map[identity.Code]verdict{
	identity.CodeInvalid:             {400, "The request is malformed", "invalid_request"},
	identity.CodeValidation:          {400, "A field breaks its bound", "invalid_request"},
	identity.CodeUnauthenticated:     {401, "Authentication is required", "invalid_client"},
	identity.CodeForbidden:           {403, "The caller lacks the role", "access_denied"},
	identity.CodeNotFound:            {404, "Not found", "invalid_request"},
	identity.CodeAlreadyExists:       {409, "It exists already", "invalid_request"},
	identity.CodeConflict:            {409, "The object is not in the state that this needs", "invalid_request"},
	identity.CodeIdempotencyMismatch: {422, "The idempotency key was used for another request", "invalid_request"},
	identity.CodeStaleIndex:          {412, "This node has not reached the index asked for", "temporarily_unavailable"},
	identity.CodeTooLarge:            {413, "The request is too large", "invalid_request"},
	identity.CodeHeadersTooLarge:     {431, "The request's headers are too large", "invalid_request"},
	identity.CodeMethodNotAllowed:    {405, "The path has no such method", "invalid_request"},
	identity.CodeUnsupportedMedia:    {415, "The media type is not supported", "invalid_request"},
	identity.CodeRateLimited:         {429, "Too many requests", "temporarily_unavailable"},
	identity.CodeLimitReached:        {409, "A limit is reached", "invalid_request"},
	identity.CodeNoLeader:            {503, "The cluster has no leader right now", "temporarily_unavailable"},
	identity.CodeNotLeader:           {421, "Only the leader does this", "invalid_request"},
	identity.CodeNotFresh:            {503, "This node can't vouch for its state right now", "temporarily_unavailable"},
	identity.CodeOutcomeUnknown:      {503, "It is not known whether the write was made", "temporarily_unavailable"},
	identity.CodeOverloaded:          {503, "The cluster is overloaded", "temporarily_unavailable"},
	identity.CodeDraining:            {503, "This node is draining", "temporarily_unavailable"},
	identity.CodeMintingClosed:       {503, "The cluster mints no tokens for now", "temporarily_unavailable"},
	identity.CodeAuditUnavailable:    {503, "The audit log can't be written", "temporarily_unavailable"},
	identity.CodeDiskFull:            {503, "The disk reserve is reached", "temporarily_unavailable"},
	identity.CodeInternal:            {500, "Internal error", "server_error"},

	identity.CodeScopeNotAllowed:        {403, "A scope is not allowed", "invalid_scope"},
	identity.CodeAgentSuspended:         {403, "The agent is suspended", "unauthorized_client"},
	identity.CodeAgentDeactivated:       {403, "The agent is deactivated", "unauthorized_client"},
	identity.CodePrincipalSuspended:     {403, "The principal is suspended", "invalid_grant"},
	identity.CodeDelegationMissing:      {403, "No delegation covers this", "invalid_grant"},
	identity.CodeDelegationExpired:      {403, "The delegation has expired", "invalid_grant"},
	identity.CodeDelegationWithdrawn:    {403, "The delegation was withdrawn", "invalid_grant"},
	identity.CodeConsentWithdrawn:       {403, "The principal withdrew consent", "invalid_grant"},
	identity.CodeApplicationNotAssigned: {403, "The agent is not assigned to the application", "invalid_target"},
	identity.CodeUnknownAudience:        {403, "No such audience", "invalid_target"},
	identity.CodeChainTooLong:           {403, "The chain of agents is too long", "invalid_grant"},
	identity.CodeChainCycle:             {403, "The chain of agents has a cycle", "invalid_grant"},
	identity.CodePolicyDenied:           {403, "A policy forbids this", "access_denied"},
	identity.CodeApprovalRequired:       {403, "A human has to approve this", "access_denied"},
	identity.CodeApprovalDenied:         {403, "A human has denied this", "access_denied"},
	identity.CodeRevoked:                {403, "It was revoked", "invalid_grant"},

	identity.CodeProofInvalid:    {400, "The DPoP proof is not good", "invalid_dpop_proof"},
	identity.CodeProofNonce:      {400, "The DPoP proof needs a nonce of this node", "use_dpop_nonce"},
	identity.CodeSubjectInvalid:  {400, "The subject or actor token is not good", "invalid_request"},
	identity.CodeKeysUnavailable: {503, "Keys that are published elsewhere can't be had right now", "temporarily_unavailable"},

	identity.CodeJoinTokenInvalid: {403, "The join token is not valid", "access_denied"},
	identity.CodeJoinTokenExpired: {403, "The join token has expired", "access_denied"},
	identity.CodeJoinTokenUsed:    {403, "The join token was used", "access_denied"},
	identity.CodeQuorumAtRisk:     {409, "The cluster would lose its quorum", "access_denied"},
	identity.CodeMemberRemoved:    {409, "The member was removed", "access_denied"},
}

// asError finds the one typed error in err. Anything else is internal: its text goes to the log and the
// caller hears only that something broke.
func asError(err error) *identity.Error {
	var e *identity.Error
	if errors.As(err, &e) {
		if _, known := verdicts[e.Code]; known && e.Code != identity.CodeInternal {
			return e
		}
	}
	return identity.Errorf(identity.CodeInternal, "something broke inside this node; its log has the request id").WithCause(err)
}

// fail answers with err, as a problem document or, where the route speaks OAuth, as RFC 6749 has it.
func (a *API) fail(c *call, err error) {
	e := asError(err)
	v := verdicts[e.Code]
	a.metrics.refused(e.Code)
	if e.Code == identity.CodeInternal {
		a.logger.Error("request broke", "request", string(c.id), "route", c.route.pattern(), "error", err)
	}
	response := &c.ctx.Response
	keep := retainHeaders(response)
	response.Reset()
	keep.restore(response)
	c.showID()
	response.SetStatusCode(v.status)
	if c.origin != nil {
		c.ctx.SetUserValue(failureKey, e.Code)
	}
	if e.Code == identity.CodeUnauthenticated && len(response.Header.Peek(fasthttp.HeaderWWWAuthenticate)) == 0 {
		response.Header.Set(fasthttp.HeaderWWWAuthenticate, c.route.challenge(c))
	}
	if v.status == fasthttp.StatusServiceUnavailable {
		response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	}
	if c.route.speaksOAuth() {
		a.failOAuth(c, err, e, v)
		return
	}
	problem := wire.Problem{
		Type: wire.ProblemType + string(e.Code), Title: v.title, Status: v.status,
		Detail: e.Message, Instance: string(c.id), Hint: e.Hint, Errors: e.Fields,
		PolicyID: e.Policy, ApprovalID: e.Approval,
	}
	response.Header.SetContentType(wire.ContentTypeProblem)
	response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	response.SetBodyRaw(encodeJSON(problem))
}

func (a *API) failOAuth(c *call, err error, e *identity.Error, v verdict) {
	name := v.oauth
	var refusal *oauthRefusal
	if errors.As(err, &refusal) {
		name = refusal.name
	}
	status := v.status
	// RFC 6749 section 5.2: every refusal of a grant is a 400; only a failed client authentication is a 401.
	if status == fasthttp.StatusForbidden || status == fasthttp.StatusConflict || status == fasthttp.StatusNotFound {
		status = fasthttp.StatusBadRequest
	}
	description := e.Error()
	if e.Approval != "" && !strings.Contains(description+e.Hint, e.Approval) {
		description += " (" + e.Approval + ")"
	}
	if e.Hint != "" {
		description += "; " + e.Hint
	}
	response := &c.ctx.Response
	response.SetStatusCode(status)
	response.Header.SetContentType(contentTypeJSON)
	response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	response.SetBodyRaw(encodeJSON(wire.OAuthError{Error: name, Description: oauthText(description), ApprovalID: e.Approval}))
}

// oauthText holds a description to the characters of RFC 6749 section 5.2: visible ASCII and space, without
// '"' and '\'.
func oauthText(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\' || r < ' ' || r > '~':
			return '?'
		}
		return r
	}, text)
}

// retained are headers that an error answer keeps of what the handler had already set.
type retained struct{ index, challenge, allow, limit, remaining, reset, retry, nonce string }

func retainHeaders(r *fasthttp.Response) retained {
	get := func(name string) string { return string(r.Header.Peek(name)) }
	return retained{
		index: get(wire.HeaderIndex), challenge: get(fasthttp.HeaderWWWAuthenticate), allow: get(fasthttp.HeaderAllow),
		limit: get(wire.HeaderRateLimit), remaining: get(wire.HeaderRateRemaining), reset: get(wire.HeaderRateReset),
		retry: get(fasthttp.HeaderRetryAfter), nonce: get(wire.HeaderDPoPNonce),
	}
}

func (k retained) restore(r *fasthttp.Response) {
	set := func(name, value string) {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	set(wire.HeaderIndex, k.index)
	set(fasthttp.HeaderWWWAuthenticate, k.challenge)
	set(fasthttp.HeaderAllow, k.allow)
	set(wire.HeaderRateLimit, k.limit)
	set(wire.HeaderRateRemaining, k.remaining)
	set(wire.HeaderRateReset, k.reset)
	set(fasthttp.HeaderRetryAfter, k.retry)
	set(wire.HeaderDPoPNonce, k.nonce)
}

// Errors that several handlers share.

func notFound(kind, id string) *identity.Error {
	return identity.Errorf(identity.CodeNotFound, "there is no %s %q", kind, id)
}

func invalidParameter(name, format string, args ...any) *identity.Error {
	e := identity.Errorf(identity.CodeInvalid, "the parameter "+name+" "+format, args...)
	return e
}

func invalidField(pointer, format string, args ...any) *identity.Error {
	e := identity.Errorf(identity.CodeInvalid, "the request body is not as it should be")
	e.Fields = []identity.FieldError{{Pointer: pointer, Detail: identity.Errorf(identity.CodeInvalid, format, args...).Message}}
	return e
}

func tooLarge(limit int) *identity.Error {
	return identity.Errorf(identity.CodeTooLarge, "the request body is larger than %s bytes", strconv.Itoa(limit))
}
