package policy

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// part is an expression with its place in the text. Cedar's syntax tree has no places, so they are found by walking
// tree and tokens side by side: names and literals come in the same order in both. Where the two don't fit, as for
// `has a.b`, which the parser takes apart, a part gets the place of what comes next; that shifts a message and nothing
// else.
type part struct {
	node     ast.IsNode
	from, to int // tokens
	children []*part
}

// placer walks the tokens.
type placer struct {
	tokens []token
	at     int
}

// words of the syntax, which are no names.
var syntax = []string{"if", "then", "else", "in", "is", "like", "has", "when", "unless", "permit", "forbid"}

func (t token) isContent() bool {
	return t.kind == tokenString || t.kind == tokenNumber || t.kind == tokenWord && !slices.Contains(syntax, t.text)
}

// take moves past the next name or literal if it is the one wanted.
func (p *placer) take(fits func(token) bool) (at int, ok bool) {
	for i := p.at; i < len(p.tokens); i++ {
		if t := p.tokens[i]; t.isContent() || t.kind == tokenEnd {
			if !fits(t) {
				return 0, false
			}
			p.at = i + 1
			return i, true
		}
	}
	return 0, false
}

func named(text types.String) func(token) bool {
	return func(t token) bool {
		return t.kind == tokenWord && t.text == string(text) || t.kind == tokenString && strings.Trim(t.text, `"`) == string(text)
	}
}

func ofKind(kind tokenKind) func(token) bool { return func(t token) bool { return t.kind == kind } }

// place finds the part that a node is, and those below it.
func (p *placer) place(n ast.IsNode) *part {
	x := &part{node: n, from: -1}
	for _, item := range itemsOf(n) {
		switch item := item.(type) {
		case ast.IsNode:
			child := p.place(item)
			x.children = append(x.children, child)
			if x.from < 0 {
				x.from = child.from
			}
		case func(token) bool:
			if at, ok := p.take(item); ok && x.from < 0 {
				x.from = at
			}
		}
	}
	if x.from < 0 { // [] has no token of its own but the bracket
		x.from = min(p.at, len(p.tokens)-1)
		for i := x.from; i < len(p.tokens); i++ {
			if p.tokens[i].text == "[" {
				x.from = i
				break
			}
		}
	}
	x.to = max(p.at, x.from+1)
	return x
}

// itemsOf lists, in the order of the text, the nodes below a node and how its own tokens look.
func itemsOf(n ast.IsNode) []any {
	switch n := n.(type) {
	case ast.NodeValue:
		return itemsOfValue(n.Value)
	case ast.NodeTypeVariable:
		return []any{named(n.Name)}
	case ast.NodeTypeAccess:
		return []any{n.Arg, named(n.Value)}
	case ast.NodeTypeHas:
		return []any{n.Arg, named(n.Value)}
	case ast.NodeTypeLike:
		return []any{n.Arg, ofKind(tokenString)}
	case ast.NodeTypeIs:
		return append([]any{n.Left}, path(n.EntityType)...)
	case ast.NodeTypeIsIn:
		return append(append([]any{n.Left}, path(n.EntityType)...), n.Entity)
	case ast.NodeTypeIfThenElse:
		return []any{n.If, n.Then, n.Else}
	case ast.NodeTypeNot:
		return []any{n.Arg}
	case ast.NodeTypeNegate:
		return []any{n.Arg}
	case ast.NodeTypeIsEmpty:
		return []any{n.Arg, named("isEmpty")}
	case ast.NodeTypeContains:
		return []any{n.Left, named("contains"), n.Right}
	case ast.NodeTypeContainsAll:
		return []any{n.Left, named("containsAll"), n.Right}
	case ast.NodeTypeContainsAny:
		return []any{n.Left, named("containsAny"), n.Right}
	case ast.NodeTypeHasTag:
		return []any{n.Left, named("hasTag"), n.Right}
	case ast.NodeTypeGetTag:
		return []any{n.Left, named("getTag"), n.Right}
	case ast.NodeTypeExtensionCall:
		return itemsOfCall(n)
	case ast.NodeTypeSet:
		items := make([]any, len(n.Elements))
		for i, e := range n.Elements {
			items[i] = e
		}
		return items
	case ast.NodeTypeRecord:
		var items []any
		for _, e := range n.Elements {
			items = append(items, named(e.Key), e.Value)
		}
		return items
	default:
		left, right := sides(n)
		return []any{left, right}
	}
}

func itemsOfValue(v types.Value) []any {
	switch v := v.(type) {
	case types.EntityUID:
		return append(path(v.Type), ofKind(tokenString))
	case types.String:
		return []any{ofKind(tokenString)}
	case types.Long:
		return []any{ofKind(tokenNumber)}
	case types.Boolean:
		return []any{named(types.String(v.String()))}
	}
	return nil
}

func itemsOfCall(n ast.NodeTypeExtensionCall) []any {
	items := []any{named(types.String(n.Name))}
	for _, arg := range n.Args {
		items = append(items, arg)
	}
	switch n.Name {
	case "ip", "decimal", "datetime", "duration":
	default: // a method, whose name comes after what it is called on
		if len(items) > 1 {
			items[0], items[1] = items[1], items[0]
		}
	}
	return items
}

// path lists the words of an entity type.
func path(t types.EntityType) []any {
	var items []any
	for _, word := range strings.Split(string(t), "::") {
		items = append(items, named(types.String(word)))
	}
	return items
}

// sides are the operands of an operator with two.
func sides(n ast.IsNode) (left, right ast.IsNode) {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return n.Left, n.Right
	case ast.NodeTypeOr:
		return n.Left, n.Right
	case ast.NodeTypeEquals:
		return n.Left, n.Right
	case ast.NodeTypeNotEquals:
		return n.Left, n.Right
	case ast.NodeTypeLessThan:
		return n.Left, n.Right
	case ast.NodeTypeLessThanOrEqual:
		return n.Left, n.Right
	case ast.NodeTypeGreaterThan:
		return n.Left, n.Right
	case ast.NodeTypeGreaterThanOrEqual:
		return n.Left, n.Right
	case ast.NodeTypeAdd:
		return n.Left, n.Right
	case ast.NodeTypeSub:
		return n.Left, n.Right
	case ast.NodeTypeMult:
		return n.Left, n.Right
	case ast.NodeTypeIn:
		return n.Left, n.Right
	}
	return nil, nil
}
