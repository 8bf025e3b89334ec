package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// shipped are the policies that come along, all in one mode, with the corporate network told its address range.
func shipped(mode identity.PolicyMode) *policy.Set {
	var list []*identity.Policy
	for _, p := range policy.Shipped() {
		p.Mode = mode
		p.Text = strings.Replace(p.Text, "192.0.2.0/24", "10.0.0.0/8", 1)
		list = append(list, &p)
	}
	return policy.Compile(list)
}

func compiled(t testing.TB, policies ...*identity.Policy) *policy.Set {
	t.Helper()
	for _, p := range policies {
		require.NoError(t, policy.Check(p))
	}
	return policy.Compile(policies)
}

// atProduction is a good request of the triage agent for a system that is tagged production-write.
func atProduction() *policy.Request {
	r := autonomous()
	r.Agent.Applications = []string{"ledger", "zendesk"}
	r.Agent.DefaultScopes = "ledger.post zendesk.tickets.read"
	r.Applications = append(knownApplications(), &identity.Application{
		Name: "ledger", Audience: "https://ledger.example.com", Scopes: "ledger.post", Tags: []string{"finance", "production-write"}, Verification: identity.VerifyOnline,
	})
	r.SourceIP = netip.MustParseAddr("10.1.2.3")
	return r
}

func approvedBy(r *policy.Request) *identity.Approval {
	return &identity.Approval{
		ID: "apr_1", Agent: r.Agent.Name, Binding: policy.SessionBinding(r), Status: identity.ApprovalApproved, Expires: r.Now + second,
	}
}

func TestShippedPoliciesAreValidAndOnButForTheNetwork(t *testing.T) {
	modes := map[string]identity.PolicyMode{}
	for _, p := range policy.Shipped() {
		require.NoError(t, policy.Check(&p))
		require.NotEmpty(t, p.Description)
		require.True(t, strings.HasPrefix(p.Text, "// "), "a policy begins by saying what it is for")
		modes[p.ID] = p.Mode
	}
	require.Equal(t, map[string]identity.PolicyMode{
		"corporate-network": identity.PolicyOff, "max-two-hops": identity.PolicyEnforce,
		"production-write-needs-approval": identity.PolicyEnforce, "scopes-within-defaults": identity.PolicyEnforce,
	}, modes)
}

// Each rule of the article: allowed, denied with the policy's name, and in monitor counted as it would have been denied.
func TestShippedPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		request func() *policy.Request
		policy  string        // that forbids; "" for none
		code    identity.Code // "" where no rule of the model's refuses in monitor
		inModel identity.Code
	}{
		"within the network":  {request: atProductionApproved},
		"outside the network": {from("192.168.1.1"), "corporate-network", identity.CodePolicyDenied, ""},
		"from IPv6":           {request: from("2001:db8::7")},
		"mapped address":      {request: from("::ffff:10.1.2.3")},
		"address not known":   {from(""), "corporate-network", identity.CodePolicyDenied, ""},
		"production write":    {atProduction, "production-write-needs-approval", identity.CodeApprovalRequired, ""},
		"production write of a scheduled agent": {request: func() *policy.Request {
			r := atProduction()
			r.Agent.Type = identity.AgentScheduled
			return r
		}},
		"another application": {request: func() *policy.Request {
			r := atProduction()
			r.Requested = "zendesk.tickets.read"
			return r
		}},
		"scope outside the defaults": {func() *policy.Request {
			r := from("10.0.0.1")()
			r.Requested = "zendesk.tickets.delete"
			return r
		}, "scopes-within-defaults", identity.CodeScopeNotAllowed, identity.CodeScopeNotAllowed},
		"two hops": {request: func() *policy.Request {
			r := hop(t, delegated())
			r.SourceIP = netip.MustParseAddr("10.0.0.1")
			return r
		}},
		"three hops": {func() *policy.Request {
			r := hop(t, delegated())
			r.SourceIP = netip.MustParseAddr("10.0.0.1")
			parent := *r.Parent
			parent.Chain = append([]identity.Actor{{Agent: "first", Generation: 1}}, parent.Chain...)
			r.Parent = &parent
			return r
		}, "max-two-hops", identity.CodeChainTooLong, identity.CodeChainTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			engine, g := policy.NewEngine(), new(policy.Grant)
			r := tc.request()
			r.Policies = shipped(identity.PolicyEnforce)
			err := engine.Decide(r, g)
			if tc.policy == "" {
				require.NoError(t, err)
				require.Empty(t, g.Diagnostics().Forbidding)
				return
			}
			var refusal *identity.Error
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, tc.code, refusal.Code)
			require.Equal(t, tc.policy, refusal.Policy)
			require.NotEmpty(t, refusal.Hint)
			require.False(t, g.Valid())
			require.Equal(t, []string{tc.policy}, g.Diagnostics().Forbidding)

			r.Policies = shipped(identity.PolicyMonitor)
			err = engine.Decide(r, g)
			require.Equal(t, tc.inModel, identity.CodeOf(err), "a policy that is only watched denies nothing")
			require.Equal(t, []string{tc.policy}, g.Diagnostics().Monitored)
			require.Empty(t, g.Diagnostics().Forbidding)

			r.Policies = shipped(identity.PolicyOff)
			require.Equal(t, tc.inModel, identity.CodeOf(engine.Decide(r, g)))
			require.Empty(t, g.Diagnostics().Monitored)
		})
	}
}

func atProductionApproved() *policy.Request {
	r := atProduction()
	r.Approval = approvedBy(r)
	return r
}

func from(address string) func() *policy.Request {
	return func() *policy.Request {
		r := autonomous()
		r.SourceIP = netip.Addr{}
		if address != "" {
			r.SourceIP = netip.MustParseAddr(address)
		}
		return r
	}
}

func TestApprovalLiftsExactlyWhatItWasGivenFor(t *testing.T) {
	engine, g := policy.NewEngine(), new(policy.Grant)
	good := func() *policy.Request {
		r := atProductionApproved()
		r.Policies = shipped(identity.PolicyEnforce)
		return r
	}
	require.NoError(t, engine.Decide(good(), g))
	require.Equal(t, []string{"production-write-needs-approval"}, g.Diagnostics().Approved, "whoever consumes it must know that it was needed")

	for name, change := range map[string]func(*policy.Request){
		"pending":        func(r *policy.Request) { r.Approval.Status = identity.ApprovalPending },
		"denied":         func(r *policy.Request) { r.Approval.Status = identity.ApprovalDenied },
		"used before":    func(r *policy.Request) { r.Approval.Status = identity.ApprovalConsumed },
		"expired":        func(r *policy.Request) { r.Now += second },
		"other scopes":   func(r *policy.Request) { r.Requested = "ledger.post" },
		"other audience": func(r *policy.Request) { r.Audience = []string{"ledger"} },
		"other reason":   func(r *policy.Request) { r.TriggerReason = "cron again" },
		"longer":         func(r *policy.Request) { r.MaxSeconds = 600 },
		"other agent": func(r *policy.Request) {
			r.Agent.Name = "other"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			change(r)
			require.Equal(t, identity.CodeApprovalRequired, identity.CodeOf(engine.Decide(r, g)))
			require.Empty(t, g.Diagnostics().Approved)
		})
	}

	r := good()
	r.SourceIP = netip.MustParseAddr("192.168.0.1")
	r.Approval = nil
	err := engine.Decide(r, g)
	require.Equal(t, identity.CodePolicyDenied, identity.CodeOf(err), "nobody is asked for an approval in vain")
	require.Equal(t, []string{"corporate-network", "production-write-needs-approval"}, g.Diagnostics().Forbidding)
	r.Approval = approvedBy(r)
	require.Equal(t, identity.CodePolicyDenied, identity.CodeOf(engine.Decide(r, g)), "an approval lifts no other policy")
}

func TestApprovalThatWasNotNeededIsNotUsed(t *testing.T) {
	r := autonomous()
	r.Approval, r.Policies = approvedBy(r), shipped(identity.PolicyEnforce)
	r.SourceIP = netip.MustParseAddr("10.0.0.1")
	g := new(policy.Grant)
	require.NoError(t, policy.NewEngine().Decide(r, g))
	require.Empty(t, g.Diagnostics().Approved)
}

func TestBindingTellsRequestsApart(t *testing.T) {
	seen := map[string]string{}
	for name, change := range map[string]func(*policy.Request){
		"as it is":  func(*policy.Request) {},
		"agent":     func(r *policy.Request) { r.Agent.Name = "b" },
		"user":      func(r *policy.Request) { r.Principal = &identity.Principal{ID: "ann@x"} },
		"parent":    func(r *policy.Request) { r.Parent = &identity.Session{ID: "ses_1"} },
		"scopes":    func(r *policy.Request) { r.Requested = "a b" },
		"audience":  func(r *policy.Request) { r.Audience = []string{"a", "b"} },
		"audiences": func(r *policy.Request) { r.Audience = []string{"ab"} },
		"reason":    func(r *policy.Request) { r.TriggerReason = "a" },
		"seconds":   func(r *policy.Request) { r.MaxSeconds = 1 },
	} {
		r := &policy.Request{Agent: &identity.Agent{Name: "a"}}
		change(r)
		b := policy.SessionBinding(r)
		require.Len(t, b, 64)
		require.NotContains(t, seen, b, "%s looks like %s", name, seen[b])
		seen[b] = name
	}
	r := &policy.Request{Agent: &identity.Agent{Name: "a"}, Audience: []string{"b", "a", "b"}}
	s := &policy.Request{Agent: &identity.Agent{Name: "a"}, Audience: []string{"a", "b"}}
	require.Equal(t, policy.SessionBinding(s), policy.SessionBinding(r), "the order of an audience means nothing")
	require.Equal(t, []string{"b", "a", "b"}, r.Audience)
}
