package policy_test

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const forbidAll = "forbid (principal, action, resource);"

func decide(r *policy.Request, policies ...*identity.Policy) (*policy.Grant, *identity.Error) {
	r.Policies = policy.Compile(policies)
	g := new(policy.Grant)
	err := policy.NewEngine().Decide(r, g)
	if err == nil {
		return g, nil
	}
	return g, err.(*identity.Error)
}

func inMode(mode identity.PolicyMode, id, text string) *identity.Policy {
	p := written(id, text)
	p.Mode = mode
	return p
}

func TestPoliciesOnlyForbid(t *testing.T) {
	none := written("none", "forbid (principal, action, resource) when { false };")
	g, refusal := decide(autonomous(), none)
	require.Nil(t, refusal)
	require.True(t, g.Valid())

	// What a rule of the model refuses stays refused, with the model's code, whatever the policies say.
	r := autonomous()
	r.Agent.Status = identity.StatusSuspended
	_, refusal = decide(r, none)
	require.Equal(t, identity.CodeAgentSuspended, refusal.Code)
	require.Empty(t, refusal.Policy)
	_, refusal = decide(r, none, written("all", forbidAll))
	require.Equal(t, identity.CodeAgentSuspended, refusal.Code)
	require.Equal(t, "all", refusal.Policy, "the policy agrees")
}

func TestEveryPolicyIsHeard(t *testing.T) {
	g, refusal := decide(autonomous(),
		written("c", forbidAll), inMode(identity.PolicyMonitor, "b", forbidAll), written("a", forbidAll), inMode(identity.PolicyOff, "d", forbidAll))
	require.Equal(t, "a", refusal.Policy)
	require.Equal(t, []string{"a", "c"}, g.Diagnostics().Forbidding)
	require.Equal(t, []string{"b"}, g.Diagnostics().Monitored)
	require.False(t, g.Valid())
	require.Nil(t, g.Session())
}

// The statements of a policy are heard as one, and the gravest of them counts.
func TestStatementsOfAPolicyAreHeardAsOne(t *testing.T) {
	const (
		passes  = "forbid (principal, action, resource) when { context.hour == 23 };\n"
		forbids = "forbid (principal, action, resource) when { context.hour == 8 };\n"
		asks    = "@approval(\"required\") forbid (principal, action, resource) unless { context.approval };\n"
		fails   = "forbid (principal, action, resource) when { context.hour * 9223372036854775807 > 1 };\n"
	)
	for name, tc := range map[string]struct {
		text    string
		code    identity.Code
		outcome policy.Outcome
	}{
		"passes, forbids":        {passes + forbids, identity.CodePolicyDenied, policy.OutcomeForbids},
		"forbids, passes":        {forbids + passes, identity.CodePolicyDenied, policy.OutcomeForbids},
		"asks, forbids":          {asks + forbids, identity.CodePolicyDenied, policy.OutcomeForbids},
		"forbids, asks":          {forbids + asks, identity.CodePolicyDenied, policy.OutcomeForbids},
		"asks, passes":           {asks + passes, identity.CodeApprovalRequired, policy.OutcomeRequiresApproval},
		"asks, fails":            {asks + fails, identity.CodePolicyDenied, policy.OutcomeError},
		"fails, forbids, passes": {fails + forbids + passes, identity.CodePolicyDenied, policy.OutcomeForbids},
		"passes, passes":         {passes + passes, "", policy.OutcomePasses},
	} {
		t.Run(name, func(t *testing.T) {
			r := autonomous()
			g, refusal := decide(r, written("p", tc.text))
			x := policy.NewEngine().Explain(r)
			require.Len(t, x.Policies, 1)
			require.Equal(t, tc.outcome, x.Policies[0].Outcome)
			if tc.code == "" {
				require.Nil(t, refusal)
				return
			}
			require.Equal(t, tc.code, refusal.Code)
			require.Equal(t, []string{"p"}, g.Diagnostics().Forbidding)
		})
	}
}

func TestApprovalLiftsWhatOnlyCedarCanEvaluate(t *testing.T) {
	p := written("p", `@approval("required") forbid (principal is Agent, action == Action::"CreateSession", resource)
		when { context.max_seconds + 1 > 60 && resource.name != "" } unless { context.approval };`)
	r := autonomous()
	_, refusal := decide(r, p)
	require.Equal(t, identity.CodeApprovalRequired, refusal.Code)
	r.Approval = approvedBy(r)
	g, refusal := decide(r, p)
	require.Nil(t, refusal)
	require.Equal(t, []string{"p"}, g.Diagnostics().Approved)
}

func TestGrantTellsWhatItRestsOn(t *testing.T) {
	g, refusal := decide(delegated(), inMode(identity.PolicyMonitor, "watch", forbidAll))
	require.Nil(t, refusal)
	require.Equal(t, delegation, g.Diagnostics().Delegation)
	require.Equal(t, []string{"watch"}, g.Diagnostics().Monitored)

	g, refusal = decide(delegated(), written("all", forbidAll))
	require.NotNil(t, refusal)
	require.Equal(t, delegation, g.Diagnostics().Delegation, "also of a refusal")
}

func TestRefusalSpeaksInThePolicysWords(t *testing.T) {
	_, refusal := decide(autonomous(), written("night", `@description("Nobody works at night")
		@hint("come back at eight")
		forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"zendesk");`))
	require.Equal(t, `policy "night" forbids this session for application zendesk: Nobody works at night`, refusal.Message)
	require.Equal(t, "come back at eight", refusal.Hint)

	_, refusal = decide(autonomous(), written("plain", forbidAll))
	require.Equal(t, `policy "plain" forbids this session`, refusal.Message)
	require.Contains(t, refusal.Hint, "/api/v1/policies/plain")
}

// Cedar passes over a policy whose evaluation fails. An enforced one denies here.
func TestPolicyThatCannotBeEvaluatedDenies(t *testing.T) {
	const overflow = "forbid (principal, action, resource) when { context.max_seconds * 9223372036854775807 > 0 };"
	require.NoError(t, policy.Check(written("p", overflow)))
	g, refusal := decide(autonomous(), written("sum", overflow))
	require.Equal(t, identity.CodePolicyDenied, refusal.Code)
	require.Contains(t, refusal.Message, "can't be evaluated: integer overflow")
	require.Equal(t, "sum", refusal.Policy)
	require.Equal(t, []string{"sum"}, g.Diagnostics().Forbidding)

	g, refusal = decide(autonomous(), inMode(identity.PolicyMonitor, "sum", overflow))
	require.Nil(t, refusal)
	require.Equal(t, []string{"sum"}, g.Diagnostics().Monitored, "in monitor it counts as one that would deny")

	// A clause before it that is false keeps it from being evaluated, one after it does not.
	_, refusal = decide(autonomous(), written("sum", "forbid (principal, action, resource) when { context.approval && context.max_seconds * 9223372036854775807 > 0 };"))
	require.Nil(t, refusal)
	_, refusal = decide(autonomous(), written("sum", "forbid (principal, action, resource) when { context.max_seconds * 9223372036854775807 > 0 && context.approval };"))
	require.NotNil(t, refusal)
}

// A policy that another version wrote, and this one can't read, is not passed over.
func TestPolicyThatCannotBeReadDeniesEverything(t *testing.T) {
	newer := written("newer", "forbid (principal, action == Action::\"Teleport\", resource) when { context.speed > 9 };")
	require.Error(t, policy.Check(newer))
	_, refusal := decide(autonomous(), newer)
	require.Equal(t, identity.CodePolicyDenied, refusal.Code)
	require.Equal(t, "newer", refusal.Policy)
	require.Contains(t, refusal.Message, "Teleport")

	set := policy.Compile([]*identity.Policy{newer})
	require.Len(t, set.Broken(), 1)
	require.Equal(t, "newer", set.Broken()[0].Policy)
	_, err := policy.NewEngine().DecideTool(toolCall(set))
	require.Equal(t, identity.CodePolicyDenied, identity.CodeOf(err))
	_, err = policy.NewEngine().DecideDelegation(lending(set))
	require.Equal(t, identity.CodePolicyDenied, identity.CodeOf(err))

	g, refusal := decide(autonomous(), inMode(identity.PolicyMonitor, "newer", newer.Text))
	require.Nil(t, refusal)
	require.Equal(t, []string{"newer"}, g.Diagnostics().Monitored)
	_, refusal = decide(autonomous(), inMode(identity.PolicyOff, "newer", newer.Text))
	require.Nil(t, refusal)
	_, refusal = decide(autonomous(), inMode("rehearse", "newer", forbidAll))
	require.Equal(t, identity.CodePolicyDenied, refusal.Code, "a mode that nobody knows here enforces")
}

func TestEachApplicationOfTheAudienceIsAsked(t *testing.T) {
	notWarehouse := written("warehouse", `forbid (principal, action == Action::"CreateSession", resource == Application::"warehouse");`)
	r := delegated()
	r.Agent.Applications = []string{"gmail", "warehouse"}
	r.Audience = []string{"gmail"}
	_, refusal := decide(r, notWarehouse)
	require.Nil(t, refusal)
	r.Audience = []string{"gmail", "urn:example:warehouse"}
	_, refusal = decide(r, notWarehouse)
	require.Contains(t, refusal.Message, "for application warehouse")
}

func TestSessionForNoApplicationIsForTheIssuer(t *testing.T) {
	r := autonomous()
	r.Applications = applications{}
	require.Equal(t, []string{issuer}, granted(t, r).Session().Audience)
	_, refusal := decide(r, written("p", `forbid (principal, action == Action::"CreateSession", resource) when { resource.audience == "`+issuer+`" && context.applications.isEmpty() };`))
	require.NotNil(t, refusal)
	_, refusal = decide(r, written("p", `forbid (principal, action == Action::"CreateSession", resource == Application::"");`))
	require.NotNil(t, refusal)
}

func TestHopForTheIssuerAndAnApplicationIsAskedAboutBoth(t *testing.T) {
	r := hop(t, delegated())
	parent := *r.Parent
	parent.Audience, r.Parent, r.Requested = []string{"https://gmail.example.com", "https://gone.example.com"}, &parent, "gmail.read"
	r.Applications = applications{{Name: "gmail", Audience: "https://gmail.example.com"}}
	require.Len(t, granted(t, r).Session().Audience, 2)
	for name, audience := range map[string]string{"gmail": "https://gmail.example.com", "": "https://gone.example.com"} {
		_, refusal := decide(r, written("p", `forbid (principal, action == Action::"CreateSession", resource) when { resource.audience == "`+audience+`" && resource.name == "`+name+`" };`))
		require.NotNil(t, refusal, name)
	}
}

func TestCircumstancesAreThoseOfTheSession(t *testing.T) {
	for name, tc := range map[string]struct {
		request   func() *policy.Request
		condition string
	}{
		"scopes that would be granted": {autonomous, `context.requested_scopes.containsAll(["zendesk.tickets.read"]) && principal.default_scopes == context.default_scopes`},
		"scopes that were asked for":   {delegated, `!context.requested_scopes.contains("gmail.draft")`},
		"user":                         {delegated, `context has user && context.user.id == "user@company.com" && !context.autonomous`},
		"groups of the user": {func() *policy.Request {
			r := delegated()
			r.Principal.Groups = []string{"contractors"}
			return r
		}, `context has user && context.user in Group::"contractors"`},
		"no user":      {autonomous, `context.autonomous && !(context has user)`},
		"chain":        {func() *policy.Request { return hop(t, delegated()) }, `context.chain_depth == 2 && context has parent_agent && context.parent_agent == "inbox-assistant"`},
		"no chain":     {autonomous, `context.chain_depth == 1 && !(context has parent_agent)`},
		"applications": {delegated, `context.applications == ["gmail"]`},
		"tags":         {atProduction, `context.application_tags.containsAll(["production-write", "finance"])`},
		"lifetime":     {delegated, `context.max_seconds == 14400`},
		"reason":       {autonomous, `context.trigger_reason == "cron"`},
		"time":         {autonomous, `context.now == datetime("2027-01-15T08:00:00Z") && context.hour == 8 && context.weekday == 5`},
		"address":      {autonomous, `context has source_ip && context.source_ip.isLoopback()`},
		"label": {func() *policy.Request {
			r := autonomous()
			r.Agent.Labels = map[string]string{"env": "prod"}
			return r
		}, `principal.hasTag("env") && principal.getTag("env") == "prod"`},
		"nothing of a tool or delegation": {autonomous, `!(context has arguments_hash) && !(context has max_hops)`},
	} {
		t.Run(name, func(t *testing.T) {
			p := written("p", `forbid (principal is Agent, action == Action::"CreateSession", resource) when { `+tc.condition+` };`)
			require.NoError(t, policy.Check(p))
			g, refusal := decide(tc.request(), p)
			require.NotNil(t, refusal)
			require.Equal(t, identity.CodePolicyDenied, refusal.Code, refusal.Message)
			require.NotContains(t, refusal.Message, "evaluated")
			require.Equal(t, []string{"p"}, g.Diagnostics().Forbidding)
		})
	}
}

func toolCall(set *policy.Set) *policy.ToolRequest {
	r := delegated()
	g := new(policy.Grant)
	if err := policy.NewEngine().Decide(r, g); err != nil {
		panic(err)
	}
	return &policy.ToolRequest{
		Now: now + 1000*second, Session: g.Session(), Agent: r.Agent, Principal: r.Principal, Applications: r.Applications,
		Tool:          policy.Tool{Name: "messages.list", Application: "gmail", RequiredScope: "gmail.read"},
		ArgumentsHash: "ff00", SourceIP: netip.MustParseAddr("10.1.2.3"), Policies: set,
	}
}

func TestToolCallIsHeldToItsSession(t *testing.T) {
	engine := policy.NewEngine()
	d, err := engine.DecideTool(toolCall(nil))
	require.NoError(t, err)
	require.True(t, d.Allowed)
	require.Equal(t, delegation, d.Delegation)

	for name, tc := range map[string]struct {
		change func(*policy.ToolRequest)
		code   identity.Code
	}{
		"no session":          {func(r *policy.ToolRequest) { r.Session = nil }, identity.CodeInternal},
		"no agent":            {func(r *policy.ToolRequest) { r.Agent = nil }, identity.CodeInternal},
		"no time":             {func(r *policy.ToolRequest) { r.Now = 0 }, identity.CodeInternal},
		"no applications":     {func(r *policy.ToolRequest) { r.Applications = nil }, identity.CodeInternal},
		"another agent":       {func(r *policy.ToolRequest) { r.Agent.Name = "x" }, identity.CodeInternal},
		"no principal":        {func(r *policy.ToolRequest) { r.Principal = nil }, identity.CodeInternal},
		"no tool":             {func(r *policy.ToolRequest) { r.Tool.Name = "" }, identity.CodeInvalid},
		"suspended":           {func(r *policy.ToolRequest) { r.Agent.Status = identity.StatusSuspended }, identity.CodeAgentSuspended},
		"suspended principal": {func(r *policy.ToolRequest) { r.Principal.Status = identity.StatusSuspended }, identity.CodePrincipalSuspended},
		"killed since":        {func(r *policy.ToolRequest) { r.Agent.Generation++ }, identity.CodeRevoked},
		"ended":               {func(r *policy.ToolRequest) { r.Now = r.Session.Expires }, identity.CodeDelegationExpired},
		"unknown application": {func(r *policy.ToolRequest) { r.Tool.Application = "x" }, identity.CodeUnknownAudience},
		"another audience":    {func(r *policy.ToolRequest) { r.Tool.Application = "zendesk" }, identity.CodeApplicationNotAssigned},
		"assigned no more":    {func(r *policy.ToolRequest) { r.Agent.Applications = nil }, identity.CodeApplicationNotAssigned},
		"scope":               {func(r *policy.ToolRequest) { r.Tool.RequiredScope = "gmail.send" }, identity.CodeScopeNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			r := toolCall(nil)
			tc.change(r)
			d, err := engine.DecideTool(r)
			require.Equal(t, tc.code, identity.CodeOf(err), err)
			require.False(t, d.Allowed)
			x := engine.ExplainTool(r)
			require.False(t, x.Allowed)
			require.Equal(t, err, error(x.Refusal))
		})
	}
}

func TestPoliciesAboutTools(t *testing.T) {
	engine := policy.NewEngine()
	for condition, forbids := range map[string]bool{
		`resource == Tool::"messages.list" && resource in Application::"gmail"`:                                       true,
		`resource.name == "messages.list" && resource.application == "gmail"`:                                         true,
		`resource.required_scope == "gmail.read" && context.requested_scopes.contains(resource.required_scope)`:       true,
		`context has arguments_hash && context.arguments_hash == "ff00"`:                                              true,
		`context.max_seconds == 13400 && context.chain_depth == 1`:                                                    true,
		`context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) && context.applications == ["gmail"]`: true,
		`resource.name == "messages.delete"`:                                                                          false,
	} {
		r := toolCall(compiled(t, written("p", `forbid (principal is Agent, action == Action::"CallTool", resource) when { `+condition+` };`)))
		d, err := engine.DecideTool(r)
		require.Equal(t, !forbids, d.Allowed, condition)
		if forbids {
			require.Equal(t, "p", err.(*identity.Error).Policy)
			require.Equal(t, []string{"p"}, d.Forbidding)
		}
	}
	d, err := engine.DecideTool(toolCall(compiled(t, written("p", `forbid (principal is Agent, action == Action::"CreateSession", resource);`))))
	require.NoError(t, err)
	require.True(t, d.Allowed, "the policy is about something else")

	needs := compiled(t, written("p", `@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource) unless { context.approval };`))
	r := toolCall(needs)
	_, err = engine.DecideTool(r)
	require.Equal(t, identity.CodeApprovalRequired, identity.CodeOf(err))
	r.Approval = &identity.Approval{Agent: r.Agent.Name, Binding: policy.ToolBinding(r), Status: identity.ApprovalApproved, Expires: r.Now + 1}
	d, err = engine.DecideTool(r)
	require.NoError(t, err)
	require.Equal(t, []string{"p"}, d.Approved)
	r.ArgumentsHash = "ff01"
	_, err = engine.DecideTool(r)
	require.Equal(t, identity.CodeApprovalRequired, identity.CodeOf(err), "other arguments")
}

func lending(set *policy.Set) *policy.DelegationRequest {
	r := delegated()
	return &policy.DelegationRequest{
		Now: now, Principal: r.Principal, Agent: r.Agent, Scopes: "gmail.read", Seconds: 3600, MaxHops: 2, Reason: "inbox", Policies: set,
	}
}

func TestPoliciesAboutDelegations(t *testing.T) {
	engine := policy.NewEngine()
	d, err := engine.DecideDelegation(lending(nil))
	require.NoError(t, err)
	require.True(t, d.Allowed)
	for condition, forbids := range map[string]bool{
		`principal == User::"user@company.com" && resource == Agent::"inbox-assistant"`:                                          true,
		`context has max_hops && context.max_hops > 1 && context.max_seconds == 3600`:                                            true,
		`context.requested_scopes.contains("gmail.read") && context.trigger_reason == "inbox"`:                                   true,
		`principal.id like "*@company.com" && resource.agent_type == "user-delegated" && context.agent_type == "user-delegated"`: true,
		`resource in Group::"unvetted"`: false,
	} {
		d, err := engine.DecideDelegation(lending(compiled(t, written("p", `forbid (principal is User, action == Action::"Delegate", resource) when { `+condition+` };`))))
		require.Equal(t, !forbids, d.Allowed, condition)
		require.Equal(t, forbids, identity.CodeOf(err) == identity.CodePolicyDenied)
	}
	r := lending(nil)
	r.Agent.Status = identity.StatusDeactivated
	_, err = engine.DecideDelegation(r)
	require.Equal(t, identity.CodeAgentDeactivated, identity.CodeOf(err))
	_, err = engine.DecideDelegation(&policy.DelegationRequest{})
	require.Equal(t, identity.CodeInternal, identity.CodeOf(err))

	needs := compiled(t, written("p", `@approval("required") forbid (principal, action == Action::"Delegate", resource) unless { context.approval };`))
	r = lending(needs)
	r.Approval = &identity.Approval{Agent: r.Agent.Name, Binding: policy.DelegationBinding(r), Status: identity.ApprovalApproved, Expires: r.Now + 1}
	d, err = engine.DecideDelegation(r)
	require.NoError(t, err)
	require.Equal(t, []string{"p"}, d.Approved)
	x := engine.ExplainDelegation(r)
	require.True(t, x.Allowed)
	require.Equal(t, policy.OutcomeApproved, x.Policies[0].Outcome)
}

func TestCacheCompilesOnceForEachRevision(t *testing.T) {
	var cache policy.Cache
	heard := 0
	cache.Compiled = func(*policy.Set) { heard++ }
	compiled := 0
	list := func(policies ...*identity.Policy) func() []*identity.Policy {
		return func() []*identity.Policy {
			compiled++
			return policies
		}
	}
	a, b := written("a", forbidAll), written("b", forbidAll)
	one := cache.At(1, list(a))
	require.Same(t, one, cache.At(1, list()))
	two := cache.At(2, list(a, b))
	require.Len(t, two.Policies(), 2)
	require.Same(t, one, cache.At(1, list()), "a request that reads the state before gets its policies")
	require.Same(t, two, cache.At(2, list()))
	require.Equal(t, 2, compiled)
	require.Empty(t, cache.At(0, list()).Policies())
	require.Same(t, two, cache.At(2, list()), "a late request does not push out the latest")
	require.Equal(t, 3, compiled)
	require.Equal(t, 3, heard)
	cache.Compiled = nil

	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for revision := range uint64(200) {
				set := cache.At(revision, func() []*identity.Policy { return make([]*identity.Policy, 0) })
				if set == nil {
					t.Error("no set")
				}
			}
		})
	}
	wait.Wait()
}

func TestPolicyChangesAreCompiledWithoutReadingTheRestAgain(t *testing.T) {
	var cache policy.Cache
	a := written("a", forbidAll)
	cache.At(1, func() []*identity.Policy { return []*identity.Policy{a} })
	changed := written("a", `forbid (principal, action == Action::"CallTool", resource);`)
	r := autonomous()
	r.Policies = cache.At(2, func() []*identity.Policy { return []*identity.Policy{changed} })
	require.NoError(t, policy.NewEngine().Decide(r, new(policy.Grant)), "the change is what counts")
	r.Policies = cache.At(3, func() []*identity.Policy { return []*identity.Policy{a, changed} })
	require.Error(t, policy.NewEngine().Decide(r, new(policy.Grant)))
}
