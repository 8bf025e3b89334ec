package identity

import "slices"

// AgentType says how an agent runs; policy decides by it.
type AgentType string

// The types of the field: on its own, for a user, or by the clock.
const (
	AgentAutonomous    AgentType = "autonomous"
	AgentUserDelegated AgentType = "user-delegated"
	AgentScheduled     AgentType = "scheduled"
)

// Agent is an AI agent's own identity. Its name is its id.
type Agent struct {
	// What every mint reads comes first, side by side: an agent that nobody asked for lately is in no cache of the
	// processor's, and each line of memory that has to be fetched is felt.
	Name              string       `codec:"n"`
	Type              AgentType    `codec:"t"`
	Status            Status       `codec:"st"`
	Generation        uint64       `codec:"gen"` // of the FSM-wide counter; a kill moves it on
	MaxSessionSeconds int64        `codec:"m"`
	DefaultScopes     Scopes       `codec:"s,omitempty"` // the most it may ever be granted
	Applications      []string     `codec:"a,omitempty"` // assignments, by application id, sorted
	Credentials       []Credential `codec:"c,omitempty"`

	Description string            `codec:"d,omitempty"`
	OwnerGroup  string            `codec:"o,omitempty"`
	Groups      []string          `codec:"g,omitempty"` // sorted
	Labels      map[string]string `codec:"l,omitempty"`
	Created     Instant           `codec:"ct"`
	Updated     Instant           `codec:"ut"`
	Revision    uint64            `codec:"r"` // log index of the last change
}

// Handle is the agent's handle at its current generation.
func (a *Agent) Handle() Handle { return AgentHandle(a.Name, a.Generation) }

// AssignedTo reports whether the agent may call the application.
func (a *Agent) AssignedTo(application string) bool {
	return slices.Contains(a.Applications, application)
}

// Validate holds every field that a caller may set to its bound. The error lists all that is wrong, with
// pointers into the body of POST /api/v1/agents.
func (a *Agent) Validate() error {
	var v violations
	v.name("/profile/name", a.Name)
	v.text("/profile/description", a.Description, MaxDescriptionLength)
	v.text("/profile/owner_group", a.OwnerGroup, MaxGroupLength)
	switch a.Type {
	case AgentAutonomous, AgentUserDelegated, AgentScheduled:
	default:
		v.add("/profile/agent_type", "is %q; it must be one of %s, %s, %s", a.Type, AgentAutonomous, AgentUserDelegated, AgentScheduled)
	}
	v.scopes("/default_scopes", a.DefaultScopes)
	v.between("/max_session_duration_seconds", a.MaxSessionSeconds, MinSessionSeconds, MaxSessionSeconds)
	v.names("/applications", a.Applications, MaxApplications)
	v.groups("/groups", a.Groups)
	v.labels("/labels", a.Labels)
	return v.err("the agent is not valid")
}
