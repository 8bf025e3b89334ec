package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// maxSearch bounds the validation over and over by which the place of a fault is found, in nodes squared, which is what
// the validator takes for a text full of faults. Past it the place is the narrowest that was found so far.
const maxSearch = 2_000_000

// finder says where in a statement a fault is. Cedar's validator tells what is wrong and not where, so the place is
// found by leaving parts out until the complaint is gone.
type finder struct {
	*statement
	tokens     []token
	conditions []*part
	nodes      int
	search     int
}

func (f *finder) placeConditions() {
	p := &placer{tokens: f.tokens}
	for i, t := range f.tokens {
		// Conditions begin after the head, whose parts the validator names.
		if t.kind == tokenWord && (t.text == "when" || t.text == "unless") {
			p.at = i
			break
		}
	}
	for _, c := range f.tree.Conditions {
		condition := p.place(c.Body)
		condition.walk(func(*part) { f.nodes++ })
		f.conditions = append(f.conditions, condition)
	}
}

// at makes a fault of a token.
func (f *finder) at(i int, format string, args ...any) fault {
	t := f.tokens[min(max(i, 0), len(f.tokens)-1)]
	return fault{line: t.line, column: t.column, what: fmt.Sprintf(format, args...)}
}

// find returns the first token with that text, as a word or as a string.
func (f *finder) find(text string) int { return f.findIn(0, len(f.tokens), text) }

func (f *finder) findIn(from, to int, text string) int {
	to = min(to, len(f.tokens))
	for i := from; i < to; i++ {
		if named(types.String(text))(f.tokens[i]) {
			return i
		}
	}
	return from
}

// ownRules are what Deputy wants beyond the schema. It knows the attributes of those that a request is about and of
// nobody else: a policy that looks up others would find nothing, and forbid nobody or everybody.
func (f *finder) ownRules() []fault {
	var faults []fault
	for _, c := range f.conditions {
		c.walk(func(p *part) {
			switch n := p.node.(type) {
			case ast.NodeTypeAccess:
				faults = f.notOfLiteral(faults, p, n.Arg)
			case ast.NodeTypeHas:
				faults = f.unknownHas(f.notOfLiteral(faults, p, n.Arg), p, n)
			case ast.NodeTypeIn:
				faults = f.notOfLiteral(faults, p, n.Left)
			case ast.NodeTypeIsIn:
				faults = f.notOfLiteral(faults, p, n.Left)
			case ast.NodeTypeHasTag:
				faults = f.literalTag(f.notOfLiteral(faults, p, n.Left), p, n.Right)
			case ast.NodeTypeGetTag:
				faults = f.literalTag(f.notOfLiteral(faults, p, n.Left), p, n.Right)
			}
		})
	}
	return faults
}

func (p *part) walk(visit func(*part)) {
	visit(p)
	for _, child := range p.children {
		child.walk(visit)
	}
}

func (f *finder) notOfLiteral(faults []fault, p *part, arg ast.IsNode) []fault {
	value, ok := arg.(ast.NodeValue)
	if !ok {
		return faults
	}
	if _, ok := value.Value.(types.EntityUID); !ok {
		return faults
	}
	return append(faults, f.at(p.from, "nothing is known of %s here", value.Value).
		advise("ask about principal, resource or context.user, and compare them with it"))
}

// unknownHas refuses to ask for an attribute that is nowhere in the schema. To Cedar that is a question like any other,
// whose answer is always no: mistyped, it would forbid nobody or everybody.
func (f *finder) unknownHas(faults []fault, p *part, n ast.NodeTypeHas) []fault {
	name := string(n.Value)
	if isVariable(n.Arg, "context") {
		if slices.Contains(known().attributesOf(""), name) {
			return faults
		}
		return append(faults, f.at(p.to-1, "the context has no attribute %q", name).suggest(name, known().attributesOf("")))
	}
	var anywhere []string
	for _, of := range known().entityTypes() {
		anywhere = append(anywhere, known().attributesOf(types.EntityType(of))...)
	}
	if slices.Contains(anywhere, name) {
		return faults
	}
	return append(faults, f.at(p.to-1, "nothing here has an attribute %q", name).suggest(name, anywhere))
}

func (f *finder) literalTag(faults []fault, p *part, key ast.IsNode) []fault {
	if value, ok := key.(ast.NodeValue); ok {
		if _, ok := value.Value.(types.String); ok {
			return faults
		}
	}
	return append(faults, f.at(p.from, "the name of a tag must be written out").advise(`as in principal.getTag("env")`))
}

// againstSchema has Cedar's validator look at the statement.
func (f *finder) againstSchema() []fault {
	var faults []fault
	for _, complaint := range complaints(f.tree) {
		if len(faults) == maxFaults {
			break
		}
		faults = append(faults, f.word(complaint))
	}
	if len(faults) > 1 {
		// That no action applies follows from another fault of the head.
		faults = slices.DeleteFunc(faults, func(x fault) bool { return x.what == noAction })
	}
	return faults
}

// complaints are what the validator says, each once and in one order: it goes through maps.
func complaints(p *ast.Policy) []string {
	err := known().validator.Policy("", p)
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}

const noAction = "no action fits what the head says of principal and resource"

var (
	unknownType   = regexp.MustCompile("^unrecognized entity type `(.+)`$")
	unknownAction = regexp.MustCompile("^unrecognized action `(.+)`$")
	unknownOf     = regexp.MustCompile("^attribute `(.+)` on entity types? `(\\w+)`.* not found$")
	unknownIn     = regexp.MustCompile("^attribute `(.+)` in context for (.+) not found$")
	optional      = regexp.MustCompile("^unable to guarantee safety of access to optional attribute `(.+)`")
	unsafeTag     = regexp.MustCompile("^unable to guarantee safety of access to tag `(.+?)`")
	badLiteral    = regexp.MustCompile("argument validation: (.+): `(\".*\")`$")
)

// word says a complaint in Deputy's words, at its place. One that it does not know it passes on as it is.
func (f *finder) word(complaint string) fault {
	if m := unknownType.FindStringSubmatch(complaint); m != nil {
		name := m[1][strings.LastIndex(m[1], ":")+1:]
		return f.at(f.find(name), "there is no entity type %q", m[1]).suggest(m[1], known().entityTypes())
	}
	if m := unknownAction.FindStringSubmatch(complaint); m != nil {
		name := strings.Trim(m[1][strings.LastIndex(m[1], "::")+2:], `"`)
		return f.at(f.find(name), "there is no action %q", name).suggest(name, known().actionNames())
	}
	if strings.HasPrefix(complaint, "unable to find an applicable action") {
		return f.at(0, noAction).advise("agents create sessions for applications and call tools, and users delegate to agents")
	}
	p := f.narrow(complaint)
	if m := unknownOf.FindStringSubmatch(complaint); m != nil {
		name, of := m[1], types.EntityType(m[2])
		return f.elsewhere(f.at(f.findIn(p.from, p.to, name), "%s has no attribute %q", of, name), of, name)
	}
	if m := unknownIn.FindStringSubmatch(complaint); m != nil {
		return f.at(f.findIn(p.from, p.to, m[1]), "the context has no attribute %q", m[1]).suggest(m[1], known().attributesOf(""))
	}
	if m := optional.FindStringSubmatch(complaint); m != nil {
		return f.at(f.findIn(p.from, p.to, m[1]), "%q may be missing", m[1]).advise("ask for it first, as in context has %s && …", m[1])
	}
	if m := unsafeTag.FindStringSubmatch(complaint); m != nil {
		return f.at(p.from, "the tag %s may be missing", m[1]).advise("ask for it first, as in principal.hasTag(%s) && …", m[1])
	}
	if m := badLiteral.FindStringSubmatch(complaint); m != nil {
		return f.at(f.findIn(p.from, p.to, strings.Trim(m[2], `"`)), "%s: %s", m[1], m[2])
	}
	plain := strings.NewReplacer("__cedar::internal::AnyEntity", "an entity", "__cedar::internal::OpenRecord{}", "a record",
		"__cedar::internal::Any", "anything").Replace(complaint)
	return f.at(p.from, "%s", plain)
}

// elsewhere advises about an attribute that another type has: the policy is about more than its author thought. Of
// nothing that has it, the nearest name is meant.
func (f *finder) elsewhere(x fault, of types.EntityType, name string) fault {
	for _, other := range known().entityTypes() {
		if slices.Contains(known().attributesOf(types.EntityType(other)), name) {
			return x.advise("%s has it: name in the head what the policy is about, as in principal is Agent, or the action", other)
		}
	}
	return x.suggest(name, known().attributesOf(of))
}

// narrow finds the smallest part that the complaint is about: the condition, then within what is joined by &&, ||, !
// and if the side that complains on its own.
func (f *finder) narrow(complaint string) *part {
	for i, c := range f.conditions {
		if f.complains(complaint, i, c.node) {
			return f.within(complaint, i, c, func(n ast.IsNode) ast.IsNode { return n })
		}
	}
	return &part{to: len(f.tokens)}
}

// complains reports whether the complaint is still there with only one condition left, as it is given.
func (f *finder) complains(complaint string, condition int, body ast.IsNode) bool {
	if f.search += f.nodes * f.nodes; f.search > maxSearch {
		return false
	}
	alone := *f.tree
	alone.Conditions = []ast.ConditionType{{Condition: f.tree.Conditions[condition].Condition, Body: body}}
	return slices.Contains(complaints(&alone), complaint)
}

// within descends; in builds the whole condition around what takes the place of p.
func (f *finder) within(complaint string, condition int, p *part, in func(ast.IsNode) ast.IsNode) *part {
	for {
		var outer func(ast.IsNode) ast.IsNode
		var sides []side
		switch n := p.node.(type) {
		case ast.NodeTypeAnd:
			sides = andSides(n)
		case ast.NodeTypeOr:
			sides = orSides(n)
		case ast.NodeTypeNot:
			sides = []side{{0, func(x ast.IsNode) ast.IsNode { return ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: x}} }}}
		}
		for _, s := range sides {
			candidate, around := s, in
			build := func(x ast.IsNode) ast.IsNode { return around(candidate.with(x)) }
			if s.child < len(p.children) && f.complains(complaint, condition, build(p.children[s.child].node)) {
				p, outer = p.children[s.child], build
				break
			}
		}
		if outer == nil {
			return p
		}
		in = outer
	}
}

// side is one operand, and the operator around whatever takes its place, with the other operand put out of the way.
type side struct {
	child int
	with  func(ast.IsNode) ast.IsNode
}

func andSides(n ast.NodeTypeAnd) []side {
	return []side{
		{0, func(x ast.IsNode) ast.IsNode { return x }},
		// What the left side asks for with `has` the right side may read.
		{1, func(x ast.IsNode) ast.IsNode {
			return ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: n.Left, Right: x}}
		}},
	}
}

func orSides(n ast.NodeTypeOr) []side {
	return []side{
		{0, func(x ast.IsNode) ast.IsNode { return x }},
		{1, func(x ast.IsNode) ast.IsNode { return x }},
	}
}
