package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

const auditPath = "/api/v1/audit"

// AuditFilter narrows the audit trail; empty fields match all.
type AuditFilter struct {
	Agent, Principal, Session, Kind, Tool, Decision, Outcome, Policy, Delegation, Approval string
	Credential, Application, Target, SourceIP, RequestID, TraceID                          string

	From, To    time.Time
	OldestFirst bool
}

func (f *AuditFilter) add(query url.Values) url.Values {
	for name, value := range map[string]string{
		"agent": f.Agent, "principal": f.Principal, "session": f.Session, "kind": f.Kind, "tool": f.Tool, "decision": f.Decision,
		"outcome": f.Outcome, "policy": f.Policy, "delegation": f.Delegation, "approval": f.Approval, "credential": f.Credential,
		"application": f.Application, "target": f.Target, "source_ip": f.SourceIP, "request_id": f.RequestID, "trace_id": f.TraceID,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
		}
	}
	if f.OldestFirst {
		query.Set("order", "oldest")
	}
	return query
}

// AuditPage is one part of the audit trail. It can be shorter than asked for, or empty, and not be the last one.
type AuditPage struct {
	Page[wire.AuditRecord]
	Cursor   string // with OldestFirst: where to go on later, also where there is no next page yet
	Complete bool   // every node has answered
	Nodes    []wire.AuditNode
}

// Audit reads the audit trail of all nodes, by time.
func (c *Client) Audit(ctx context.Context, f AuditFilter, l List) (*AuditPage, error) {
	return c.auditPage(ctx, auditPath, f.add(l.query()))
}

// SessionAudit reads everything that was decided of a session, oldest first.
func (c *Client) SessionAudit(ctx context.Context, id string, l List) (*AuditPage, error) {
	return c.auditPage(ctx, at(sessionsPath, id)+"/audit", l.query())
}

func (c *Client) auditPage(ctx context.Context, path string, query url.Values) (*AuditPage, error) {
	var p wire.AuditPage
	answer, err := c.Do(ctx, &Request{Method: http.MethodGet, Path: path, Query: query}, &p)
	if err != nil {
		return nil, err
	}
	return &AuditPage{Page[wire.AuditRecord]{Items: p.Records, Next: answer.Next}, p.Cursor, p.Complete, p.Nodes}, nil
}

// ReportEvent adds a tool call to the audit trail, and what came of it: by an application's own credentials, or with nil by
// the API token. A lost answer is not asked for again: the record may be there.
func (c *Client) ReportEvent(ctx context.Context, reporter *Credentials, event wire.AuditEvent) (*wire.AuditReceipt, error) {
	out := new(wire.AuditReceipt)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: auditPath + "/events", Body: event, Credentials: reporter}, out)
	return orNil(out, err)
}

// AuditCheckpoints are those that the nodes hold of each other's logs, with the keys to check them by.
func (c *Client) AuditCheckpoints(ctx context.Context) (*wire.AuditCheckpoints, error) {
	return get[wire.AuditCheckpoints](ctx, c, auditPath+"/checkpoints")
}

// AuditProof shows that a record stands in a node's log.
func (c *Client) AuditProof(ctx context.Context, node string, sequence uint64) (*wire.AuditProof, error) {
	out := new(wire.AuditProof)
	query := url.Values{"node": {node}, "sequence": {strconv.FormatUint(sequence, 10)}}
	_, err := c.Do(ctx, &Request{Method: http.MethodGet, Path: auditPath + "/proof", Query: query}, out)
	return orNil(out, err)
}

// AuditSinks tells how far the records of each node have got to where they are sent.
func (c *Client) AuditSinks(ctx context.Context) (*wire.AuditSinks, error) {
	return get[wire.AuditSinks](ctx, c, auditPath+"/sinks")
}
