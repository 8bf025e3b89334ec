package api

import (
	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// reporters may say what came of a tool call, beside applications by their own credentials.
var reporters = []identity.Role{identity.RoleRuntime, identity.RoleOperator}

// auditFilters are the members of a record that a question may name.
var auditFilters = []Param{
	{"agent", "who acts, or any agent of the chain", "string"},
	{"principal", "the person; autonomous for runs of nobody", "string"},
	{"session", "only what was decided of this session", "string"},
	{"kind", "kinds of records, separated by commas; all but segment and checkpoint where absent", "string"},
	{"tool", "only calls of this tool", "string"},
	{"decision", "allowed or denied", "string"},
	{"outcome", "success or failure", "string"},
	{"policy", "that decided, or would have", "string"},
	{"delegation", "on which the decision rests", "string"},
	{"approval", "that was asked for, given or used", "string"},
	{"credential", "that the caller proved itself with", "string"},
	{"application", "that asked or reported", "string"},
	{"target", "what was acted on, such as agents/inbox-assistant; of hops, the session that they started from", "string"},
	{"source_ip", "address of the caller", "string"},
	{"request_id", "only what came of this request", "string"},
	{"trace_id", "only what belongs to this trace", "string"},
}

// auditWindow are the rest of a question's parameters.
var auditWindow = append([]Param{
	{"from", "RFC 3339: not before this time", "string"},
	{"to", "RFC 3339: before this time", "string"},
	{"order", "newest, the default, or oldest first", "string"},
}, paging...)

func auditRoutes() []Route {
	const path = "/api/v1/audit"
	return []Route{
		{
			Method: "GET", Path: path, Name: "queryAudit", Kind: KindRead, Roles: auditors, Query: append(append([]Param{}, auditFilters...), auditWindow...),
			Response: wire.AuditPage{}, Status: 200, Summary: "Read the audit trail of all nodes, by time", handler: (*API).queryAudit,
		},
		{
			Method: "POST", Path: path + "/events", Name: "reportEvent", Kind: KindMint, Roles: reporters,
			Request: wire.AuditEvent{}, Response: wire.AuditReceipt{}, Status: 201,
			Summary: "Report a tool call and what came of it: by an application with its own credentials (HTTP Basic), or by an API token", handler: (*API).reportEvent,
		},
		{
			Method: "GET", Path: path + "/checkpoints", Name: "listAuditCheckpoints", Kind: KindRead, Roles: auditors,
			Response: wire.AuditCheckpoints{}, Status: 200, Summary: "The signed checkpoints that all nodes hold of each other's logs, and the keys to check them by", handler: (*API).auditCheckpoints,
		},
		{
			Method: "GET", Path: path + "/proof", Name: "proveAudit", Kind: KindRead, Roles: auditors,
			Query:    []Param{{"node", "whose log the record is in", "string"}, {"sequence", "its number there", "integer"}},
			Response: wire.AuditProof{}, Status: 200, Summary: "Prove that a record stands in a node's log, to somebody who has the node's public key", handler: (*API).proveAudit,
		},
		{
			Method: "GET", Path: path + "/sinks", Name: "listAuditSinks", Kind: KindRead, Roles: watchers,
			Response: wire.AuditSinks{}, Status: 200, Summary: "How far the records of each node have got to where they are sent", handler: (*API).auditSinks,
		},
		{
			Method: "GET", Path: "/api/v1/sessions/{id}/audit", Name: "getSessionAudit", Kind: KindRead, Roles: auditors, Query: paging,
			Response: wire.AuditPage{}, Status: 200, Summary: "Everything that was decided of a session, oldest first", handler: (*API).sessionAudit,
		},
	}
}
