package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/deputy-id/deputy/identity"
)

// maxStatements bounds the statements of one policy. It is one rule, which may take a statement for each action.
const maxStatements = 16

// annotations are what Deputy makes of Cedar's annotations; others are left to whoever writes them.
const (
	noteDescription types.AnnotationKey = "description" // why, for whoever is refused
	noteHint        types.AnnotationKey = "hint"        // what to do about it, likewise
	noteApproval    types.AnnotationKey = "approval"    // "required": a human's approval lifts the refusal

	approvalRequired = "required"
)

// statement is one forbid of a policy.
type statement struct {
	policy            *identity.Policy
	tree              *ast.Policy
	compiled          *cedar.Policy // as Cedar evaluates it
	approval          bool
	description, hint string
}

// Check holds a policy to its bounds and to the schema. Its error is an *identity.Error that lists what is wrong, with
// line and column of the text, and the nearest name where one is unknown.
//
// It is asked before a policy is written; Compile asks it again on every node, as another version may have written it.
func Check(p *identity.Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	_, err := parse(p)
	return err
}

// parse reads the statements of a policy. What Cedar's library stumbles over is a fault of the policy's: it must not
// end a node, which would then meet the same policy again and again.
func parse(p *identity.Policy) (statements []*statement, err error) {
	defer func() {
		if broke := recover(); broke != nil {
			statements, err = nil, faulty(p, []fault{{line: 1, column: 1, what: fmt.Sprintf("the policy can't be read: %v", broke)}})
		}
	}()
	if len(p.Text) > identity.MaxPolicyLength {
		return nil, faulty(p, []fault{{line: 1, column: 1, what: "the text is too long"}})
	}
	tokens := scan(p.Text)
	if deep, ok := deepAccess(tokens); ok {
		return nil, faulty(p, []fault{deep})
	}
	list, err := cedar.NewPolicyListFromBytes(p.ID, []byte(p.Text))
	switch {
	case err != nil:
		return nil, faulty(p, []fault{syntaxFault(tokens, err)})
	case len(list) == 0:
		return nil, faulty(p, []fault{{line: 1, column: 1, what: "there is no statement"}})
	case len(list) > maxStatements:
		at := list[maxStatements].Position()
		return nil, faulty(p, []fault{{line: at.Line, column: at.Column, what: fmt.Sprintf("there are more than %d statements; write several policies", maxStatements)}})
	}
	var faults []fault
	for i, one := range list {
		s := &statement{policy: p, tree: (*ast.Policy)(one.AST()), compiled: one}
		notes := one.Annotations()
		s.description, s.hint = string(notes[noteDescription]), string(notes[noteHint])
		_, s.approval = notes[noteApproval]
		faults = append(faults, s.check(statementTokens(tokens, list, i), string(notes[noteApproval]))...)
		statements = append(statements, s)
	}
	if len(faults) > 0 {
		return nil, faulty(p, faults)
	}
	return statements, nil
}

// maxAccess is how many attributes may follow each other, as in context.user.id. The schema has no more than two; what
// a chain of thousands costs to read grows with its square.
const maxAccess = 8

// deepAccess finds a chain of attributes that is longer than any that makes sense.
func deepAccess(tokens []token) (fault, bool) {
	length := 0
	for i := 0; i+2 < len(tokens); i++ {
		switch {
		case tokens[i].text == "." && tokens[i+1].kind == tokenWord && tokens[i+2].text != "(":
			i++
		case tokens[i].text == "[" && tokens[i+1].kind == tokenString && tokens[i+2].text == "]":
			i += 2
		default:
			length = 0
			continue
		}
		if length++; length > maxAccess {
			return fault{line: tokens[i].line, column: tokens[i].column, what: fmt.Sprintf("more than %d attributes follow each other", maxAccess)}, true
		}
	}
	return fault{}, false
}

// statementTokens cuts out those of one statement, up to the start of the next.
func statementTokens(tokens []token, list cedar.PolicyList, i int) []token {
	from := list[i].Position()
	start := slices.IndexFunc(tokens, func(t token) bool { return !t.before(from.Line, from.Column) })
	end := len(tokens)
	if i+1 < len(list) {
		next := list[i+1].Position()
		if n := slices.IndexFunc(tokens, func(t token) bool { return !t.before(next.Line, next.Column) }); n > start {
			end = n
		}
	}
	return tokens[max(start, 0):end]
}

func (t token) before(line, column int) bool {
	return t.line < line || t.line == line && t.column < column
}

// check finds what is wrong with one statement: Deputy's own rules first, then the schema's.
func (s *statement) check(tokens []token, approval string) []fault {
	f := &finder{statement: s, tokens: tokens}
	f.placeConditions()
	if s.tree.Effect == ast.EffectPermit {
		return []fault{f.at(f.find("permit"), "a policy can only forbid").
			advise("what is allowed follows from assignments, default scopes and delegations; to allow only some of it, write forbid … unless { … }")}
	}
	if s.approval && approval != approvalRequired {
		return []fault{f.at(f.find(string(noteApproval)), "@approval must say \"required\"")}
	}
	if s.approval && !s.asksForApproval() {
		return []fault{f.at(f.find(string(noteApproval)), "no approval could ever lift this policy").
			advise("add: unless { context.approval }")}
	}
	if own := f.ownRules(); len(own) > 0 {
		return own
	}
	return f.againstSchema()
}

// asksForApproval reports whether context.approval has a say in it.
func (s *statement) asksForApproval() bool {
	found := false
	for _, c := range s.tree.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			access, ok := n.(ast.NodeTypeAccess)
			found = found || ok && access.Value == "approval" && isVariable(access.Arg, "context")
			return !found
		})
	}
	return found
}

func isVariable(n ast.IsNode, name types.String) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == name
}

// faulty makes the one error of all faults.
func faulty(p *identity.Policy, faults []fault) *identity.Error {
	e := identity.Errorf(identity.CodeValidation, "policy %q is not valid", p.ID)
	// Of several complaints about one place the one that suggests something is kept: a policy about several actions is
	// looked at for each of them.
	slices.SortStableFunc(faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column), cmp.Compare(b.near, a.near))
	})
	for _, f := range slices.CompactFunc(faults, func(a, b fault) bool { return a.line == b.line && a.column == b.column }) {
		if len(e.Fields) == maxFaults {
			break
		}
		e.Fields = append(e.Fields, identity.FieldError{Pointer: "/text", Detail: f.String()})
	}
	return e.WithHint("the schema says what a policy may speak about")
}

// reason is the text of an error without the name of the policy, which others say themselves.
func reason(err error) string {
	var e *identity.Error
	if errors.As(err, &e) && len(e.Fields) > 0 {
		return e.Fields[0].Detail
	}
	return err.Error()
}
