package policy

import (
	"errors"
	"fmt"
	"iter"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// cedarFacts are facts as Cedar's own evaluator reads them, each part made when it is first asked for.
type cedarFacts struct {
	facts    *facts
	needs    *needs
	context  *types.Record
	resource *types.Entity // which changes from one application to the next
	others   map[types.EntityType]types.Entity
}

// values returns the facts as Cedar's.
func (f *facts) values() *cedarFacts {
	if f.cedar == nil {
		f.cedar = &cedarFacts{facts: f, needs: f.needs}
		if f.needs == nil {
			f.cedar.needs = everything()
		}
	}
	return f.cedar
}

// request is what Cedar is asked about.
func (c *cedarFacts) request() cedar.Request {
	f := c.facts
	if c.context == nil {
		record := recordOf(f, c.needs.context)
		c.context = &record
	}
	return cedar.Request{
		Principal: f.uid(f.act.principal()), Action: f.act.uid(), Resource: f.uid(f.act.resource()), Context: *c.context,
	}
}

// Get implements types.EntityGetter: there are those that the facts are about, and nobody else.
func (c *cedarFacts) Get(uid types.EntityUID) (types.Entity, bool) {
	f := c.facts
	switch {
	case uid.Type == typeUser && f.user == nil, uid.Type == typeTool && f.tool == nil, uid.Type == typeAction, uid.Type == typeGroup:
		return types.Entity{}, false
	case string(uid.ID) != f.idOf(uid.Type):
		return types.Entity{}, false
	}
	if uid.Type == f.act.resource() {
		if c.resource == nil {
			e := c.entity(uid.Type)
			c.resource = &e
		}
		return *c.resource, true
	}
	e, ok := c.others[uid.Type]
	if !ok {
		e = c.entity(uid.Type)
		if c.others == nil {
			c.others = make(map[types.EntityType]types.Entity, 2)
		}
		c.others[uid.Type] = e
	}
	return e, true
}

func (f *facts) uid(t types.EntityType) types.EntityUID {
	return cedar.NewEntityUID(t, types.String(f.idOf(t)))
}

// entity makes the one entity of a type, with its attributes and what it is in.
func (c *cedarFacts) entity(t types.EntityType) types.Entity {
	f := c.facts
	e := types.Entity{UID: f.uid(t), Attributes: recordOf(f, c.needs.entities[t])}
	var parents []types.EntityUID
	for _, group := range f.parentsOf(t, typeGroup).list {
		parents = append(parents, cedar.NewEntityUID(typeGroup, types.String(group)))
	}
	if t == typeTool {
		parents = append(parents, f.uid(typeApplication))
	}
	e.Parents = cedar.NewEntityUIDSet(parents...)
	if t == typeAgent && c.needs.labels {
		tags := make(types.RecordMap, len(f.agent.Labels))
		for key, value := range f.agent.Labels {
			tags[types.String(key)] = types.String(value)
		}
		e.Tags = types.NewRecord(tags)
	}
	return e
}

func recordOf(f *facts, attributes map[types.String]attribute) types.Record {
	m := make(types.RecordMap, len(attributes))
	for name, a := range attributes {
		if a.has == nil || a.has(f) {
			m[name] = a.value(f)
		}
	}
	return types.NewRecord(m)
}

// value reads the attribute as Cedar's.
func (a attribute) value(f *facts) types.Value {
	switch a.kind {
	case kindBool:
		return types.Boolean(a.holds(f))
	case kindLong:
		return types.Long(a.long(f))
	case kindText:
		return types.String(a.text(f))
	case kindTexts:
		return a.texts(f).value()
	case kindAddress:
		return a.address(f)
	case kindTime:
		return types.NewDatetimeFromMillis(a.long(f))
	default:
		return f.uid(a.entity)
	}
}

func (t texts) value() types.Set {
	values := make([]types.Value, 0, len(t.list))
	for name := range t.scopes.All() {
		values = append(values, types.String(name))
	}
	for _, name := range t.list {
		values = append(values, types.String(name))
	}
	return types.NewSet(values...)
}

// All implements cedar.PolicyIterator for the one policy that a statement is.
func (s *statement) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		yield(cedar.PolicyID(s.policy.ID), s.compiled)
	}
}

// evaluate asks Cedar whether the statement forbids. Cedar passes over a policy whose evaluation fails, as one that
// does not apply; here that is an error.
func (s *statement) evaluate(f *facts) (forbids bool, err error) {
	defer func() {
		if broke := recover(); broke != nil {
			forbids, err = false, fmt.Errorf("it can't be evaluated: %v", broke)
		}
	}()
	values := f.values()
	_, diagnostic := cedar.Authorize(s, values, values.request())
	if len(diagnostic.Errors) > 0 {
		return false, errors.New(diagnostic.Errors[0].Message)
	}
	return len(diagnostic.Reasons) > 0, nil
}
