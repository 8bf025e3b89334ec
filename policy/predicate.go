package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/deputy-id/deputy/identity"
)

// Most of what people write in policies is compiled into functions over the facts, since Cedar's own evaluator makes
// a record of all circumstances for each request, and hashes every scope in it: that would cost a mint more than all
// of Deputy's own rules. What follows is the part of Cedar that can't fail once the schema has been obeyed: no
// arithmetic, which may overflow, and nothing that is looked up beyond the facts. The rest is left to Cedar's own
// evaluator (see cedar.go), and a test holds the two to the same answers over random policies and requests.

// predicate is a condition, compiled. It may be known to be true or false for all requests of its setting.
type predicate struct {
	holds func(*facts) bool
	sure  certainty
}

type certainty uint8

const (
	open certainty = iota
	always
	never
)

func (p predicate) of(f *facts) bool {
	switch p.sure {
	case always:
		return true
	case never:
		return false
	}
	return p.holds(f)
}

func surely(holds bool) predicate {
	if holds {
		return predicate{sure: always}
	}
	return predicate{sure: never}
}

func when(holds func(*facts) bool) predicate { return predicate{holds: holds} }

func (p predicate) and(q predicate) predicate {
	switch {
	case p.sure == never, q.sure == always:
		return p
	case p.sure == always:
		return q
	case q.sure == never:
		return q // the left side can't fail
	}
	left, right := p.holds, q.holds
	return when(func(f *facts) bool { return left(f) && right(f) })
}

func (p predicate) or(q predicate) predicate {
	switch {
	case p.sure == always, q.sure == never:
		return p
	case p.sure == never:
		return q
	case q.sure == always:
		return q
	}
	left, right := p.holds, q.holds
	return when(func(f *facts) bool { return left(f) || right(f) })
}

func (p predicate) not() predicate {
	switch p.sure {
	case always:
		return surely(false)
	case never:
		return surely(true)
	}
	holds := p.holds
	return when(func(f *facts) bool { return !holds(f) })
}

// setting is what a statement is compiled for. The types of principal and resource follow from the action, and the
// type of the agent is known, so that what is about others is found to be false once and for all.
type setting struct {
	act       action
	agentType identity.AgentType // "" for one that this build does not know
}

// predicate compiles a condition; ok is false where it is beyond what can be compiled.
func (s setting) predicate(n ast.IsNode) (p predicate, ok bool) {
	switch n := n.(type) {
	case ast.NodeValue:
		b, ok := n.Value.(types.Boolean)
		return surely(bool(b)), ok
	case ast.NodeTypeAnd:
		return s.joined(n.Left, n.Right, never, predicate.and)
	case ast.NodeTypeOr:
		return s.joined(n.Left, n.Right, always, predicate.or)
	case ast.NodeTypeNot:
		p, ok := s.predicate(n.Arg)
		return p.not(), ok
	case ast.NodeTypeIfThenElse:
		return s.choice(n)
	case ast.NodeTypeEquals:
		return s.equal(n.Left, n.Right)
	case ast.NodeTypeNotEquals:
		p, ok := s.equal(n.Left, n.Right)
		return p.not(), ok
	case ast.NodeTypeLessThan:
		return s.compare(n.Left, n.Right, func(a, b int64) bool { return a < b })
	case ast.NodeTypeLessThanOrEqual:
		return s.compare(n.Left, n.Right, func(a, b int64) bool { return a <= b })
	case ast.NodeTypeGreaterThan:
		return s.compare(n.Left, n.Right, func(a, b int64) bool { return a > b })
	case ast.NodeTypeGreaterThanOrEqual:
		return s.compare(n.Left, n.Right, func(a, b int64) bool { return a >= b })
	case ast.NodeTypeContains:
		return s.contains(n.Left, n.Right)
	case ast.NodeTypeContainsAll:
		return s.sets(n.Left, n.Right, texts.containsAll)
	case ast.NodeTypeContainsAny:
		return s.sets(n.Left, n.Right, texts.containsAny)
	case ast.NodeTypeIsEmpty:
		set, ok := s.texts(n.Arg)
		return when(func(f *facts) bool { return set(f).isEmpty() }), ok
	case ast.NodeTypeLike:
		text, ok := s.text(n.Arg)
		pattern := n.Value
		return when(func(f *facts) bool { return pattern.Match(types.String(text.of(f))) }), ok
	case ast.NodeTypeIs:
		e, ok := s.entity(n.Left)
		return surely(e.is == n.EntityType), ok
	case ast.NodeTypeIn:
		return s.in(n.Left, n.Right)
	case ast.NodeTypeIsIn:
		e, ok := s.entity(n.Left)
		if !ok {
			return predicate{}, false
		}
		in, ok := s.in(n.Left, n.Entity)
		return surely(e.is == n.EntityType).and(in), ok
	case ast.NodeTypeHas:
		return s.has(n)
	case ast.NodeTypeAccess:
		a, ok := s.attribute(n)
		return when(a.holds), ok && a.kind == kindBool
	case ast.NodeTypeHasTag:
		key, ok := s.label(n.Left, n.Right)
		return when(func(f *facts) bool { _, has := f.agent.Labels[key]; return has }), ok
	case ast.NodeTypeExtensionCall:
		return s.addressTest(n)
	}
	return predicate{}, false
}

// joined compiles && and ||. The right side is not looked at where the left one settles it, neither by Cedar: what it
// says need not even fit the schema.
func (s setting) joined(left, right ast.IsNode, settles certainty, join func(p, q predicate) predicate) (predicate, bool) {
	p, ok := s.predicate(left)
	if !ok || p.sure == settles {
		return p, ok
	}
	q, ok := s.predicate(right)
	return join(p, q), ok
}

func (s setting) choice(n ast.NodeTypeIfThenElse) (predicate, bool) {
	p, ok := s.predicate(n.If)
	if !ok {
		return predicate{}, false
	}
	switch p.sure {
	case always:
		return s.predicate(n.Then)
	case never:
		return s.predicate(n.Else)
	}
	yes, ok1 := s.predicate(n.Then)
	no, ok2 := s.predicate(n.Else)
	return when(func(f *facts) bool {
		if p.holds(f) {
			return yes.of(f)
		}
		return no.of(f)
	}), ok1 && ok2
}

// equal compares two of one kind; Cedar's validator has seen to it that they are, or are entities.
func (s setting) equal(left, right ast.IsNode) (predicate, bool) {
	if a, ok := s.text(left); ok {
		b, ok := s.text(right)
		if a.sure && b.sure {
			return surely(a.literal == b.literal), ok
		}
		return when(func(f *facts) bool { return a.of(f) == b.of(f) }), ok
	}
	if a, aTime, ok := s.number(left); ok {
		b, bTime, ok := s.number(right)
		return when(func(f *facts) bool { return a(f) == b(f) }), ok && aTime == bTime
	}
	if a, ok := s.entity(left); ok {
		b, ok := s.entity(right)
		return a.equal(b), ok
	}
	if a, ok := s.address(left); ok {
		b, ok := s.address(right)
		return when(func(f *facts) bool { return a(f) == b(f) }), ok
	}
	if p, ok := s.predicate(left); ok {
		q, ok := s.predicate(right)
		return when(func(f *facts) bool { return p.of(f) == q.of(f) }), ok
	}
	return predicate{}, false
}

func (s setting) compare(left, right ast.IsNode, compare func(a, b int64) bool) (predicate, bool) {
	a, aTime, ok1 := s.number(left)
	b, bTime, ok2 := s.number(right)
	return when(func(f *facts) bool { return compare(a(f), b(f)) }), ok1 && ok2 && aTime == bTime
}

func (s setting) contains(left, right ast.IsNode) (predicate, bool) {
	if set, ok := s.texts(left); ok {
		text, ok := s.text(right)
		return when(func(f *facts) bool { return set(f).contains(text.of(f)) }), ok
	}
	if set, ok := left.(ast.NodeTypeSet); ok {
		numbers := make([]int64, len(set.Elements))
		for i, e := range set.Elements {
			value, ok := e.(ast.NodeValue)
			if !ok {
				return predicate{}, false
			}
			n, ok := value.Value.(types.Long)
			if !ok {
				return predicate{}, false
			}
			numbers[i] = int64(n)
		}
		number, isTime, ok := s.number(right)
		return when(func(f *facts) bool { return slices.Contains(numbers, number(f)) }), ok && !isTime
	}
	return predicate{}, false
}

func (s setting) sets(left, right ast.IsNode, compare func(a, b texts) bool) (predicate, bool) {
	a, ok1 := s.texts(left)
	b, ok2 := s.texts(right)
	return when(func(f *facts) bool { return compare(a(f), b(f)) }), ok1 && ok2
}

func (s setting) has(n ast.NodeTypeHas) (predicate, bool) {
	attributes, ok := s.attributesOf(n.Arg)
	if !ok {
		return predicate{}, false
	}
	a, known := attributes[n.Value]
	switch {
	case !known:
		return surely(false), true
	case a.has == nil:
		return surely(true), true
	}
	return when(a.has), true
}

// addressTest compiles the methods of an address that answer yes or no.
func (s setting) addressTest(n ast.NodeTypeExtensionCall) (predicate, bool) {
	if len(n.Args) == 0 {
		return predicate{}, false
	}
	address, ok := s.address(n.Args[0])
	if !ok {
		return predicate{}, false
	}
	switch n.Name {
	case "isInRange":
		if len(n.Args) != 2 {
			return predicate{}, false
		}
		within, ok := s.address(n.Args[1])
		return when(func(f *facts) bool { return within(f).Contains(address(f)) }), ok
	case "isIpv4":
		return when(func(f *facts) bool { return address(f).IsIPv4() }), true
	case "isIpv6":
		return when(func(f *facts) bool { return address(f).IsIPv6() }), true
	case "isLoopback":
		return when(func(f *facts) bool { return address(f).IsLoopback() }), true
	case "isMulticast":
		return when(func(f *facts) bool { return address(f).IsMulticast() }), true
	}
	return predicate{}, false
}
