package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// needs are the attributes that some policies read of the facts. Cedar's values take longer to make than to look at, so
// only those that are asked for are made.
type needs struct {
	context  map[types.String]attribute
	entities map[types.EntityType]map[types.String]attribute
	labels   bool
}

// everything is needed where nobody has looked.
func everything() *needs {
	return &needs{context: contextAttributes, entities: entityAttributes, labels: true}
}

// nothingYet is what the statements of a set add to.
func nothingYet() *needs {
	n := &needs{context: make(map[types.String]attribute), entities: make(map[types.EntityType]map[types.String]attribute)}
	for t := range entityAttributes {
		n.entities[t] = make(map[types.String]attribute)
	}
	return n
}

// add takes in what an expression reads. A name is taken in for everything that has an attribute of that name: whose it
// is need not be known.
func (n *needs) add(expression ast.IsNode) {
	switch x := expression.(type) {
	case ast.NodeTypeVariable:
		if x.Name == "context" { // as a whole: below an access it is not come by
			n.context = contextAttributes
		}
		return
	case ast.NodeTypeAccess:
		n.name(x.Value)
		if isVariable(x.Arg, "context") {
			return
		}
	case ast.NodeTypeHas:
		n.name(x.Value)
		if isVariable(x.Arg, "context") {
			return
		}
	case ast.NodeTypeHasTag, ast.NodeTypeGetTag:
		n.labels = true
	}
	for _, item := range itemsOf(expression) {
		if below, ok := item.(ast.IsNode); ok {
			n.add(below)
		}
	}
}

func (n *needs) name(name types.String) {
	if a, ok := contextAttributes[name]; ok && len(n.context) < len(contextAttributes) {
		n.context[name] = a
	}
	for t, attributes := range entityAttributes {
		if a, ok := attributes[name]; ok {
			n.entities[t][name] = a
		}
	}
}
