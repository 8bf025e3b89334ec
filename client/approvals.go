package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	approvalsPath = "/api/v1/approvals"
	grantCIBA     = "urn:openid:params:grant-type:ciba"
)

// ApprovalFilter narrows a list of approvals; empty fields match all.
type ApprovalFilter struct {
	Status identity.ApprovalStatus // also wire.ApprovalExpired
	Agent  string
}

// Approvals lists approvals, the oldest first.
func (c *Client) Approvals(ctx context.Context, f ApprovalFilter, l List) (*Page[wire.Approval], error) {
	query := l.query()
	if f.Status != "" {
		query.Set("status", string(f.Status))
	}
	if f.Agent != "" {
		query.Set("agent", f.Agent)
	}
	return page[wire.Approval](ctx, c, approvalsPath, query)
}

// Approval reads one approval.
func (c *Client) Approval(ctx context.Context, id string) (*wire.Approval, error) {
	return get[wire.Approval](ctx, c, at(approvalsPath, id))
}

// AwaitApproval waits at a node until the approval is decided, or for as long as the time goes, in whole seconds up to
// wire.MaxApprovalWait; see its status.
func (c *Client) AwaitApproval(ctx context.Context, id string, patience time.Duration) (*wire.Approval, error) {
	patience = min(patience.Truncate(time.Second), wire.MaxApprovalWait*time.Second)
	out := new(wire.Approval)
	_, err := c.Do(ctx, &Request{
		Method: http.MethodGet, Path: at(approvalsPath, id), Patience: patience + fenceGrace,
		Query: url.Values{"wait_seconds": {strconv.Itoa(int(patience / time.Second))}},
	}, out)
	return orNil(out, err)
}

// RequestApproval asks for a human's answer. Where the same is asked already, it is answered with that one.
func (c *Client) RequestApproval(ctx context.Context, r wire.ApprovalRequest) (*wire.Approval, error) {
	return write[wire.Approval](ctx, c, http.MethodPost, approvalsPath, nil, r)
}

// Approve says yes to what somebody else has asked for.
func (c *Client) Approve(ctx context.Context, id, note string) (*wire.Approval, error) {
	return write[wire.Approval](ctx, c, http.MethodPost, at(approvalsPath, id, "approve"), nil, wire.ApprovalDecision{Note: note})
}

// Deny says no, or takes back a yes that was not used yet.
func (c *Client) Deny(ctx context.Context, id, note string) (*wire.Approval, error) {
	return write[wire.Approval](ctx, c, http.MethodPost, at(approvalsPath, id, "deny"), nil, wire.ApprovalDecision{Note: note})
}

// Backchannel says what session an agent wants a human to approve.
type Backchannel struct {
	TokenOptions        // Bind is of the poll
	Principal    string // on whose behalf; "": an autonomous run
	Expiry       time.Duration
}

// AskForApproval asks a human to approve a session ahead of it (OpenID Connect CIBA section 7).
func (c *Client) AskForApproval(ctx context.Context, agent Credentials, b Backchannel) (*wire.Backchannel, error) {
	form := url.Values{}
	if len(b.Scopes) > 0 {
		form.Set("scope", strings.Join(b.Scopes, " "))
	}
	for _, audience := range b.Audience {
		form.Add("audience", audience)
	}
	for name, text := range map[string]string{"login_hint": b.Principal, "binding_message": b.TriggerReason} {
		if text != "" {
			form.Set(name, text)
		}
	}
	for name, n := range map[string]int64{"max_duration_seconds": b.MaxDurationSeconds, "requested_expiry": int64(b.Expiry / time.Second)} {
		if n > 0 {
			form.Set(name, strconv.FormatInt(n, 10))
		}
	}
	return oauth[wire.Backchannel](ctx, c, &Request{Path: "/oauth2/bc-authorize", Form: form}, agent)
}

// PollApproval gets the token for what was approved, once (CIBA section 10.1). An *Error whose OAuth is
// authorization_pending or slow_down means that nobody has decided yet.
func (c *Client) PollApproval(ctx context.Context, agent Credentials, authRequestID string, bind *Key) (*wire.Token, error) {
	form := url.Values{"grant_type": {grantCIBA}, "auth_req_id": {authRequestID}}
	return oauth[wire.Token](ctx, c, &Request{Path: "/oauth2/token", Form: form, Bind: bind}, agent)
}
