package api

import (
	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// mediaEvents is the media type of server-sent events (WHATWG HTML, section 9.2).
const mediaEvents = "text/event-stream"

// validators may follow the set of revoked handles: those who may list it, and runtimes, who hold tokens.
// Applications may as well, with credentials of their own, as it is they who are shown tokens.
var validators = []identity.Role{identity.RoleAuditor, identity.RoleOperator, identity.RoleRuntime}

func streamRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/api/v1/revocations/stream", Name: "streamRevocations", Kind: KindRead, Roles: validators, Applications: true,
			Query:    []Param{{"from", "an index up to which the client has everything; absent: begin with a snapshot of the set", "integer"}},
			Response: wire.RevocationEvent{}, Produces: mediaEvents, Status: 200,
			Summary: "Follow the revocation set as server-sent events; also goes on from Last-Event-ID", handler: (*API).streamRevocations,
		},
		{
			Method: "GET", Path: "/api/v1/revocations/lease", Name: "leaseRevocations", Kind: KindRead, Roles: validators, Applications: true,
			Query:    []Param{{"seen", "the index up to which the validator has everything", "integer"}},
			Response: wire.ValidatorLease{}, Status: 200,
			Summary: "Tell how long a validator that follows the stream may trust itself", handler: (*API).leaseRevocations,
		},
	}
}
