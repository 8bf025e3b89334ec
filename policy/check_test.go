package policy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// written is a policy that is enforced.
func written(id, text string) *identity.Policy {
	return &identity.Policy{ID: id, Text: text, Mode: identity.PolicyEnforce}
}

// faults are the details of what is wrong with a text.
func faults(t testing.TB, text string) []string {
	t.Helper()
	err := policy.Check(written("p", text))
	if err == nil {
		return nil
	}
	var e *identity.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, identity.CodeValidation, e.Code)
	require.NotEmpty(t, e.Fields)
	var details []string
	for _, f := range e.Fields {
		require.Equal(t, "/text", f.Pointer)
		details = append(details, f.Detail)
	}
	return details
}

// Whoever writes a policy hears of each fault where it is, and which name was meant.
func TestFaultsAreNamedWithTheirPlace(t *testing.T) {
	const agent = "forbid (principal is Agent, action, resource)\nwhen { %s };"
	for name, tc := range map[string]struct {
		text string
		says []string
	}{
		"unknown attribute": {
			fmt.Sprintf(agent, `principal.agent_tpe == "x"`),
			[]string{`line 2, column 18: Agent has no attribute "agent_tpe"; did you mean "agent_type"?`},
		},
		"unknown attribute for each action": {
			`forbid (principal, action, resource) when { principal.agent_tpe == "x" };`,
			[]string{`line 1, column 55: Agent has no attribute "agent_tpe"; did you mean "agent_type"?`},
		},
		"attribute of another type": {
			`forbid (principal, action, resource) when { principal.agent_type == "autonomous" };`,
			[]string{`line 1, column 55: User has no attribute "agent_type"; Agent has it: name in the head what the policy is about, as in principal is Agent, or the action`},
		},
		"unknown in the context": {
			fmt.Sprintf(agent, `context.hour > 3 && context.sorce_ip.isLoopback()`),
			[]string{`line 2, column 36: the context has no attribute "sorce_ip"; did you mean "source_ip"?`},
		},
		"unknown, and nothing like it": {
			fmt.Sprintf(agent, `context has user && context.user.xyz == "x"`),
			[]string{`line 2, column 41: User has no attribute "xyz"; there are id`},
		},
		"several": {
			"forbid (principal is Agnt, action == Action::\"CreateSesion\", resource)\nwhen { context.hour > 2 };",
			[]string{
				`line 1, column 22: there is no entity type "Agnt"; did you mean "Agent"?`,
				`line 1, column 46: there is no action "CreateSesion"; did you mean "CreateSession"?`,
			},
		},
		"unknown type": {
			fmt.Sprintf(agent, `context.autonomous || principal in Grop::"x"`),
			[]string{`line 2, column 43: there is no entity type "Grop"; did you mean "Group"?`},
		},
		"head that fits nothing": {
			`forbid (principal is Agent, action, resource is User);`,
			[]string{`line 1, column 1: no action fits what the head says of principal and resource; agents create sessions for applications and call tools, and users delegate to agents`},
		},
		"asked for, and unknown in the context": {
			fmt.Sprintf(agent, `context.approval && (context has sorce_ip && context.sorce_ip.isLoopback())`),
			[]string{`line 2, column 41: the context has no attribute "sorce_ip"; did you mean "source_ip"?`},
		},
		"asked for in quotes, and unknown in the context": {
			"forbid (principal is Agent, action, resource)\nunless { !(context has \"usr\") };",
			[]string{`line 2, column 24: the context has no attribute "usr"; did you mean "user"?`},
		},
		"asked for, and unknown anywhere": {
			fmt.Sprintf(agent, `principal has owner_grup || resource has tags`),
			[]string{`line 2, column 22: nothing here has an attribute "owner_grup"; did you mean "owner_group"?`},
		},
		"asked for of another type": {
			`forbid (principal, action, resource) when { principal has agent_type && principal.agent_type == "autonomous" };`,
			nil,
		},
		"may be missing": {
			fmt.Sprintf(agent, `context.approval && !context.source_ip.isLoopback()`),
			[]string{`line 2, column 37: "source_ip" may be missing; ask for it first, as in context has source_ip && …`},
		},
		"label may be missing": {
			fmt.Sprintf(agent, `principal.getTag("env") == "x"`),
			[]string{`line 2, column 8: the tag "env" may be missing; ask for it first, as in principal.hasTag("env") && …`},
		},
		"label that is not written out": {
			fmt.Sprintf(agent, `principal.hasTag(context.trigger_reason)`),
			[]string{`line 2, column 8: the name of a tag must be written out; as in principal.getTag("env")`},
		},
		"wrong type": {
			"forbid (principal is Agent, action, resource) when {\n  context.chain_depth > 1 &&\n  (context.hour == 1 || context.hour == \"2\")\n};",
			[]string{`line 3, column 25: the types Long and String are not compatible`},
		},
		"wrong type within not": {
			fmt.Sprintf(agent, `context.approval || !(context.hour like "x")`),
			[]string{`line 2, column 30: unexpected type: expected String but saw Long`},
		},
		"no condition": {
			fmt.Sprintf(agent, `context.hour`),
			[]string{`line 2, column 8: unexpected type: expected Bool but saw Long`},
		},
		"empty set": {
			fmt.Sprintf(agent, `context.approval || [].contains("x")`),
			[]string{`line 2, column 28: empty set literals are forbidden in policies`},
		},
		"address": {
			fmt.Sprintf(agent, `context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/33"))`),
			[]string{`line 2, column 64: failed to parse as IP address: "10.0.0.0/33"`},
		},
		"unknown method": {
			fmt.Sprintf(agent, `context has source_ip && context.source_ip.isInRnge(ip("10.0.0.0/8"))`),
			[]string{`line 2, column 51: there is no method "isInRnge"; did you mean "isInRange"?`},
		},
		"unknown function": {
			fmt.Sprintf(agent, `ipp("x").isLoopback()`),
			[]string{`line 2, column 8: there is no function "ipp"; did you mean "ip"?`},
		},
		"unknown variable": {
			fmt.Sprintf(agent, `contxt.hour > 3`),
			[]string{`line 2, column 8: "contxt" means nothing here; did you mean "context"?`},
		},
		"another one than the request's": {
			fmt.Sprintf(agent, `Agent::"x".name == "x"`),
			[]string{`line 2, column 8: nothing is known of Agent::"x" here; ask about principal, resource or context.user, and compare them with it`},
		},
		"permit": {
			"// allow all\npermit (principal, action, resource);",
			[]string{`line 2, column 1: a policy can only forbid; what is allowed follows from assignments, default scopes and delegations; to allow only some of it, write forbid … unless { … }`},
		},
		"approval of another form": {
			`@approval("requird") forbid (principal, action, resource) unless { context.approval };`,
			[]string{`line 1, column 2: @approval must say "required"`},
		},
		"approval in vain": {
			`@approval("required") forbid (principal, action, resource);`,
			[]string{`line 1, column 2: no approval could ever lift this policy; add: unless { context.approval }`},
		},
		"second statement": {
			"forbid (principal, action, resource);\nforbid (principal, action, resource) when { context.hor == 1 };",
			[]string{`line 2, column 53: the context has no attribute "hor"; did you mean "hour"?`},
		},
		"no end":              {"forbid (principal, action, resource)\nwhen { context.hour > 3 }", []string{`line 2, column 26: the text ends where ";" should be`}},
		"no value":            {"forbid (principal, action, resource)\nwhen { context.hour > };", []string{`line 2, column 23: "}" stands where a value should be`}},
		"no forbid":           {`frobid (principal, action, resource);`, []string{`line 1, column 1: "frobid" stands where "forbid" should be`}},
		"one = too few":       {`forbid (principal = Agent::"x", action, resource);`, []string{`line 1, column 19: "=" stands where "," should be`}},
		"only a comment":      {`// nothing`, []string{`line 1, column 1: there is no statement`}},
		"too large":           {fmt.Sprintf(agent, `context.hour > 99999999999999999999`), []string{`line 2, column 23: the number is too large`}},
		"bad escape":          {fmt.Sprintf(agent, `context.trigger_reason == "\q"`), []string{`line 2, column 34: invalid char escape`}},
		"no character":        {fmt.Sprintf(agent, `context.trigger_reason == "\u{110000}"`), []string{`line 2, column 34: bad unicode escape sequence`}},
		"deep access":         {fmt.Sprintf(agent, `context.a.b["c"].d.e.f.g.h.i == 1`), []string{`line 2, column 35: more than 8 attributes follow each other`}},
		"string without end":  {"forbid (principal, action, resource) when { \"abc };\n", []string{`line 1, column 45: literal not terminated`}},
		"sign without sense":  {"forbid (principal, action, resource) when { /* é */ $ };", []string{`line 1, column 53: "$" stands where a value should be`}},
		"too many statements": {strings.Repeat("forbid (principal, action, resource);\n", 17), []string{`line 17, column 1: there are more than 16 statements; write several policies`}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // the schema's maps have no order; what is said must have one
				require.Equal(t, tc.says, faults(t, tc.text))
			}
		})
	}
}

func TestSchemaIsPublishedAsItIsWritten(t *testing.T) {
	text, err := os.ReadFile("schema.cedarschema")
	require.NoError(t, err)
	require.Equal(t, string(text), policy.Schema())
}

func TestPolicyIsHeldToItsBoundsFirst(t *testing.T) {
	p := written("No Slug", "forbid (principal, action, resource);")
	require.ErrorContains(t, policy.Check(p), "/id")
	require.ErrorContains(t, policy.Check(written("p", strings.Repeat(" ", identity.MaxPolicyLength+1))), "/text")
}

// A policy of any shape is answered soon: it is read on every node, each time that policies change.
func TestHostileTextsAreAnsweredSoon(t *testing.T) {
	fill := func(head, part, tail string) string {
		return head + strings.Repeat(part, (identity.MaxPolicyLength-len(head)-len(tail))/len(part)) + tail
	}
	const head = "forbid (principal, action, resource) when { "
	nested := strings.Repeat(`if true then `, 500) + `"a"` + strings.Repeat(` else "b"`, 500)
	for name, text := range map[string]string{
		"parentheses":    fill(head, "(", ""),
		"closed":         head + strings.Repeat("(", 7000) + "true" + strings.Repeat(")", 7000) + " };",
		"not":            fill(head, "!", "true };"),
		"minus":          fill(head, "-", "1 > 2 };"),
		"and":            fill(head, "true && ", "context.hour };"),
		"or":             fill(head, "context.approval || ", "context.hour };"),
		"many faults":    fill(head, "context.hor == 1 || ", "true };"),
		"ifs":            head + nested + ` == "a" };`,
		"ifs in a tag":   "forbid (principal is Agent, action, resource) when { principal.getTag(" + nested + `) == "a" };`,
		"has":            fill(head+"context has a", ".a", " };"),
		"access":         fill(head+"context", ".a", " };"),
		"sets":           fill(head, "[", ""),
		"records":        fill(head, `{"a":`, ""),
		"annotations":    fill("", `@a`, "forbid (principal, action, resource);"),
		"quotes":         fill("", `"`, ""),
		"comment":        fill("", "/*", ""),
		"statements":     fill("", "forbid (principal,action,resource);", ""),
		"in a long list": fill("forbid (principal, action in [", `Action::"CallTool",`, "], resource);"),
	} {
		t.Run(name, func(t *testing.T) {
			p := written("p", text)
			require.NoError(t, p.Validate())
			begun := time.Now()
			err := policy.Check(p)
			policy.Compile([]*identity.Policy{p})
			t.Log(time.Since(begun))
			require.Less(t, time.Since(begun), 5*time.Second)
			if err != nil {
				require.Less(t, len(err.Error()), 4<<10)
			}
		})
	}
}

// FuzzCheck holds that no text whatever ends a node, and that a policy which was let in compiles.
func FuzzCheck(f *testing.F) {
	for _, p := range policy.Shipped() {
		f.Add(p.Text)
	}
	f.Add("forbid (principal, action, resource) when { context has user && context.user in [Group::\"a\"] || 1 + 2 < -3 };")
	f.Add("@approval(\"required\") forbid (principal in Group::\"x\", action, resource) unless { if context.approval then true else {a: [1]}.a == [2] };")
	f.Fuzz(func(t *testing.T, text string) {
		p := written("p", text)
		if p.Validate() != nil {
			return
		}
		err := policy.Check(p)
		set := policy.Compile([]*identity.Policy{p})
		require.Equal(t, err != nil, len(set.Broken()) > 0)
		r := autonomous()
		r.Policies = set
		g := new(policy.Grant)
		refusal := policy.NewEngine().Decide(r, g)
		if err != nil {
			require.Equal(t, identity.CodePolicyDenied, identity.CodeOf(refusal), "what can't be read denies")
		}
	})
}
