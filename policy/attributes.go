package policy

import (
	"github.com/cedar-policy/cedar-go/types"

	"github.com/deputy-id/deputy/identity"
)

// kind is the type of a value, as far as the facts have such.
type kind uint8

const (
	kindNone kind = iota // none of these
	kindBool
	kindLong
	kindText
	kindTexts
	kindAddress
	kindTime // milliseconds since the epoch
	kindEntity
)

// attribute is where the facts have an attribute of the schema. Of the functions that read it there is the one that
// its kind wants. A test holds the tables to the schema.
type attribute struct {
	kind    kind
	has     func(*facts) bool // nil: it is always there
	holds   func(*facts) bool
	long    func(*facts) int64
	text    func(*facts) string
	texts   func(*facts) texts
	address func(*facts) types.IPAddr
	entity  types.EntityType
}

func truth(f func(*facts) bool) attribute      { return attribute{kind: kindBool, holds: f} }
func long(f func(*facts) int64) attribute      { return attribute{kind: kindLong, long: f} }
func text(f func(*facts) string) attribute     { return attribute{kind: kindText, text: f} }
func manyTexts(f func(*facts) texts) attribute { return attribute{kind: kindTexts, texts: f} }

func scopes(f func(*facts) identity.Scopes) attribute {
	return manyTexts(func(x *facts) texts { return texts{scopes: f(x)} })
}

func list(f func(*facts) []string) attribute {
	return manyTexts(func(x *facts) texts { return texts{list: f(x)} })
}

func (a attribute) unless(missing func(*facts) bool) attribute {
	a.has = func(f *facts) bool { return !missing(f) }
	return a
}

// contextAttributes and entityAttributes are the tables. They never change.
var contextAttributes = map[types.String]attribute{
	"source_ip": attribute{kind: kindAddress, address: (*facts).address}.
		unless(func(f *facts) bool { return !f.source.IsValid() }),
	"requested_scopes": scopes(func(f *facts) identity.Scopes { return f.requested }),
	"default_scopes":   scopes(func(f *facts) identity.Scopes { return f.defaults }),
	"chain_depth":      long(func(f *facts) int64 { return f.depth }),
	"parent_agent": text(func(f *facts) string { return f.parent }).
		unless(func(f *facts) bool { return f.parent == "" }),
	"user": attribute{kind: kindEntity, entity: typeUser}.
		unless(func(f *facts) bool { return f.user == nil }),
	"autonomous":     truth(func(f *facts) bool { return f.user == nil }),
	"agent_type":     text(func(f *facts) string { return string(f.agent.Type) }),
	"approval":       truth(func(f *facts) bool { return f.approval }),
	"trigger_reason": text(func(f *facts) string { return f.trigger }),
	"applications": list(func(f *facts) []string {
		f.list()
		return f.names
	}),
	"application_tags": list(func(f *facts) []string {
		f.list()
		return f.tags
	}),
	"max_seconds": long(func(f *facts) int64 { return f.seconds }),
	"max_hops": long(func(f *facts) int64 { return f.hops }).
		unless(func(f *facts) bool { return f.hops == 0 }),
	"arguments_hash": text(func(f *facts) string { return f.arguments }).
		unless(func(f *facts) bool { return f.arguments == "" }),
	"now":     {kind: kindTime, long: func(f *facts) int64 { return int64(f.now) }},
	"hour":    long((*facts).hour),
	"weekday": long((*facts).weekday),
}

var entityAttributes = map[types.EntityType]map[types.String]attribute{
	typeGroup: {},
	typeUser: {
		"id": text((*facts).userID),
	},
	typeAgent: {
		"name":                text(func(f *facts) string { return f.agent.Name }),
		"agent_type":          text(func(f *facts) string { return string(f.agent.Type) }),
		"owner_group":         text(func(f *facts) string { return f.agent.OwnerGroup }),
		"default_scopes":      scopes(func(f *facts) identity.Scopes { return f.agent.DefaultScopes }),
		"applications":        list(func(f *facts) []string { return f.agent.Applications }),
		"max_session_seconds": long(func(f *facts) int64 { return f.agent.MaxSessionSeconds }),
	},
	typeApplication: {
		"name":         text(func(f *facts) string { return f.application.Name }),
		"audience":     text(func(f *facts) string { return f.application.Audience }),
		"scopes":       scopes(func(f *facts) identity.Scopes { return f.application.Scopes }),
		"tags":         list(func(f *facts) []string { return f.application.Tags }),
		"verification": text(func(f *facts) string { return string(f.application.Verification) }),
	},
	typeTool: {
		"name":        text((*facts).toolName),
		"application": text(func(f *facts) string { return f.application.Name }),
		"required_scope": text(func(f *facts) string {
			if f.tool == nil {
				return ""
			}
			return f.tool.RequiredScope
		}),
		"tags": list(func(f *facts) []string { return f.application.Tags }),
	},
}

// A policy asks `has` before it reads what may be missing, or the validator would not have let it in. These hold all
// the same: a node must not end by a policy.

func (f *facts) userID() string {
	if f.user == nil {
		return ""
	}
	return f.user.ID
}

func (f *facts) toolName() string {
	if f.tool == nil {
		return ""
	}
	return f.tool.Name
}

// idOf is the id of the one entity of a type that the facts are about. Groups are not among them.
func (f *facts) idOf(t types.EntityType) string {
	switch t {
	case typeAgent:
		return f.agent.Name
	case typeUser:
		return f.userID()
	case typeApplication:
		return f.application.Name
	case typeTool:
		return f.toolName()
	case typeAction:
		return f.act.String()
	}
	return ""
}

// parentsOf are the ids of what the one entity of a type is in, of another type: groups, or a tool's application.
func (f *facts) parentsOf(t, parent types.EntityType) texts {
	switch {
	case t == typeAgent && parent == typeGroup:
		return texts{list: f.agent.Groups}
	case t == typeUser && parent == typeGroup && f.user != nil:
		return texts{list: f.user.Groups}
	}
	return texts{}
}

// isIn reports whether the one entity of a type is another, or in it.
func (f *facts) isIn(t, parent types.EntityType, id string) bool {
	switch {
	case t == parent:
		return f.idOf(t) == id
	case t == typeTool && parent == typeApplication:
		return f.application.Name == id
	}
	return f.parentsOf(t, parent).contains(id)
}
