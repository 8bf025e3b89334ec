package policy

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText string

// Schema is what policies may speak about, as Cedar writes a schema.
func Schema() string { return schemaText }

// vocabulary is the schema as a program reads it.
type vocabulary struct {
	*resolved.Schema
	validator *validate.Validator
}

// known is a constant that is computed late: the schema is part of the program.
var known = sync.OnceValue(func() *vocabulary {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(schemaText)); err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	r, err := s.Resolve()
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return &vocabulary{Schema: r, validator: validate.New(r)}
})

// entityTypes are the names of all types, in order.
func (v *vocabulary) entityTypes() []string {
	return texted(slices.Sorted(maps.Keys(v.Entities)))
}

// actionNames are the names of all actions, in order.
func (v *vocabulary) actionNames() []string {
	var names []string
	for uid := range v.Actions {
		names = append(names, string(uid.ID))
	}
	slices.Sort(names)
	return names
}

// attributesOf are the names of an entity's attributes, in order; the empty type stands for the context.
func (v *vocabulary) attributesOf(entity types.EntityType) []string {
	if entity == "" {
		return texted(slices.Sorted(maps.Keys(v.context())))
	}
	return texted(slices.Sorted(maps.Keys(v.Entities[entity].Shape)))
}

// context is that of any action: they share one.
func (v *vocabulary) context() resolved.RecordType {
	return v.Actions[actCreateSession.uid()].AppliesTo.Context
}

func texted[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = string(t)
	}
	return out
}

// action is one of those in the schema.
type action uint8

const (
	actCreateSession action = iota
	actCallTool
	actDelegate
	actions // how many there are
)

func (a action) String() string {
	return [actions]string{"CreateSession", "CallTool", "Delegate"}[a]
}

func (a action) uid() types.EntityUID { return cedar.NewEntityUID("Action", types.String(a.String())) }

// The entity types of the schema. A decision is about one of each at most: see facts.
const (
	typeAgent       types.EntityType = "Agent"
	typeUser        types.EntityType = "User"
	typeGroup       types.EntityType = "Group"
	typeApplication types.EntityType = "Application"
	typeTool        types.EntityType = "Tool"
	typeAction      types.EntityType = "Action"
)

// principal is the type of who acts.
func (a action) principal() types.EntityType {
	if a == actDelegate {
		return typeUser
	}
	return typeAgent
}

// resource is the type of what is acted on.
func (a action) resource() types.EntityType {
	return [actions]types.EntityType{typeApplication, typeTool, typeAgent}[a]
}
