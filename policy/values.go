package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// attributesOf are those of what an expression stands for: the context, or one of the entities of the facts.
func (s setting) attributesOf(n ast.IsNode) (map[types.String]attribute, bool) {
	if isVariable(n, "context") {
		return contextAttributes, true
	}
	e, ok := s.entity(n)
	if !ok || e.sure {
		return nil, false
	}
	attributes, ok := entityAttributes[e.is]
	return attributes, ok
}

func (s setting) attribute(n ast.NodeTypeAccess) (attribute, bool) {
	attributes, ok := s.attributesOf(n.Arg)
	if !ok {
		return attribute{}, false
	}
	a, ok := attributes[n.Value]
	return a, ok
}

// entityValue is an entity: the one of its type that the facts are about, or, where that is sure, one by its id.
type entityValue struct {
	is      types.EntityType
	literal string
	sure    bool
}

func (s setting) entity(n ast.IsNode) (entityValue, bool) {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		switch n.Name {
		case "principal":
			return entityValue{is: s.act.principal()}, true
		case "resource":
			return entityValue{is: s.act.resource()}, true
		case "action":
			return entityValue{is: typeAction, literal: s.act.String(), sure: true}, true
		}
	case ast.NodeTypeAccess:
		if isVariable(n.Arg, "context") {
			a, ok := contextAttributes[n.Value]
			return entityValue{is: a.entity}, ok && a.kind == kindEntity
		}
	case ast.NodeValue:
		uid, ok := n.Value.(types.EntityUID)
		return entityValue{is: uid.Type, literal: string(uid.ID), sure: true}, ok
	}
	return entityValue{}, false
}

func (e entityValue) equal(o entityValue) predicate {
	switch {
	case e.is != o.is:
		return surely(false)
	case e.sure && o.sure:
		return surely(e.literal == o.literal)
	case e.sure:
		return o.equal(e)
	case o.sure:
		return isExactly(e.is, o.literal)
	}
	return surely(true) // there is only one of a type
}

// isExactly is idOf compared with an id; agents are what policies name most.
func isExactly(is types.EntityType, id string) predicate {
	switch is {
	case typeAgent:
		return when(func(f *facts) bool { return f.agent.Name == id })
	case typeApplication:
		return when(func(f *facts) bool { return f.application.Name == id })
	}
	return when(func(f *facts) bool { return f.idOf(is) == id })
}

// in compiles `entity in entity` and `entity in [entity, …]`, with the right side written out.
func (s setting) in(left, right ast.IsNode) (predicate, bool) {
	e, ok := s.entity(left)
	if !ok || e.sure && e.is != typeAction {
		return predicate{}, false
	}
	elements := []ast.IsNode{right}
	if set, ok := right.(ast.NodeTypeSet); ok {
		elements = set.Elements
	}
	p := surely(false)
	for _, element := range elements {
		parent, ok := s.entity(element)
		if !ok || !parent.sure {
			return predicate{}, false
		}
		p = p.or(e.in(parent))
	}
	return p, true
}

func (e entityValue) in(parent entityValue) predicate {
	switch {
	case e.sure || e.is == parent.is:
		return e.equal(parent)
	case parent.is == typeGroup && e.is == typeAgent:
		return when(func(f *facts) bool { return slices.Contains(f.agent.Groups, parent.literal) })
	case parent.is == typeGroup && e.is == typeUser, parent.is == typeApplication && e.is == typeTool:
		return when(func(f *facts) bool { return f.isIn(e.is, parent.is, parent.literal) })
	}
	return surely(false)
}

// textValue is a string, from the facts or written out.
type textValue struct {
	read    func(*facts) string
	literal string
	sure    bool
}

func (t textValue) of(f *facts) string {
	if t.sure {
		return t.literal
	}
	return t.read(f)
}

func (s setting) text(n ast.IsNode) (textValue, bool) {
	switch n := n.(type) {
	case ast.NodeValue:
		text, ok := n.Value.(types.String)
		return textValue{literal: string(text), sure: true}, ok
	case ast.NodeTypeAccess:
		a, ok := s.attribute(n)
		if !ok || a.kind != kindText {
			return textValue{}, false
		}
		if n.Value == "agent_type" && s.agentType != "" {
			return textValue{literal: string(s.agentType), sure: true}, true
		}
		return textValue{read: a.text}, true
	case ast.NodeTypeGetTag:
		key, ok := s.label(n.Left, n.Right)
		return textValue{read: func(f *facts) string { return f.agent.Labels[key] }}, ok
	}
	return textValue{}, false
}

// label is the key of a tag that is written out; only agents have tags.
func (s setting) label(of, key ast.IsNode) (string, bool) {
	e, ok := s.entity(of)
	if !ok || e.sure || e.is != typeAgent {
		return "", false
	}
	value, ok := key.(ast.NodeValue)
	if !ok {
		return "", false
	}
	text, ok := value.Value.(types.String)
	return string(text), ok
}

func (s setting) texts(n ast.IsNode) (func(*facts) texts, bool) {
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		a, ok := s.attribute(n)
		return a.texts, ok && a.kind == kindTexts
	case ast.NodeTypeSet:
		literal := texts{list: make([]string, len(n.Elements))}
		for i, element := range n.Elements {
			value, ok := element.(ast.NodeValue)
			if !ok {
				return nil, false
			}
			text, ok := value.Value.(types.String)
			if !ok {
				return nil, false
			}
			literal.list[i] = string(text)
		}
		return func(*facts) texts { return literal }, len(n.Elements) > 0
	}
	return nil, false
}

// number compiles a long, or a time in milliseconds; the two never meet in one comparison.
func (s setting) number(n ast.IsNode) (read func(*facts) int64, isTime, ok bool) {
	switch n := n.(type) {
	case ast.NodeValue:
		value, ok := n.Value.(types.Long)
		return func(*facts) int64 { return int64(value) }, false, ok
	case ast.NodeTypeAccess:
		a, ok := s.attribute(n)
		return a.long, a.kind == kindTime, ok && (a.kind == kindLong || a.kind == kindTime)
	case ast.NodeTypeExtensionCall:
		literal, ok := constructed(n, "datetime")
		if !ok {
			return nil, false, false
		}
		t, err := types.ParseDatetime(literal)
		millis := t.Milliseconds()
		return func(*facts) int64 { return millis }, true, err == nil
	}
	return nil, false, false
}

func (s setting) address(n ast.IsNode) (func(*facts) types.IPAddr, bool) {
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		a, ok := s.attribute(n)
		return a.address, ok && a.kind == kindAddress
	case ast.NodeTypeExtensionCall:
		literal, ok := constructed(n, "ip")
		if !ok {
			return nil, false
		}
		address, err := types.ParseIPAddr(literal)
		return func(*facts) types.IPAddr { return address }, err == nil
	}
	return nil, false
}

// constructed is the text that a value such as ip("10.0.0.0/8") is written with.
func constructed(n ast.NodeTypeExtensionCall, by types.Path) (string, bool) {
	if n.Name != by || len(n.Args) != 1 {
		return "", false
	}
	value, ok := n.Args[0].(ast.NodeValue)
	if !ok {
		return "", false
	}
	text, ok := value.Value.(types.String)
	return string(text), ok
}
