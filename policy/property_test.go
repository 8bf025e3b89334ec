package policy_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/policy"
)

// The generators draw from few values, so that requests are often granted and, as often, barely refused.
var (
	someScopes = rapid.Custom(func(t *rapid.T) identity.Scopes {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{
			"free", "gmail.draft", "gmail.read", "gmail.send", "warehouse.query", "zendesk.tickets.read",
		}), 0, 6).Draw(t, "names")
		s, err := identity.NewScopes(names)
		require.NoError(t, err)
		return s
	})
	allApplications  = []string{"gmail", "warehouse", "zendesk"}
	someApplications = rapid.SliceOfNDistinct(rapid.SampledFrom(allApplications), 0, 3, rapid.ID[string])
	mostlyActive     = rapid.SampledFrom([]identity.Status{
		identity.StatusActive, identity.StatusActive, identity.StatusActive, identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated,
	})
	someSeconds = rapid.Int64Range(0, 2*identity.MaxSessionSeconds)
	someAgent   = rapid.Custom(func(t *rapid.T) *identity.Agent {
		return &identity.Agent{
			Name:              rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"),
			Type:              rapid.SampledFrom([]identity.AgentType{identity.AgentAutonomous, identity.AgentScheduled, identity.AgentUserDelegated}).Draw(t, "type"),
			DefaultScopes:     someScopes.Draw(t, "default scopes"),
			MaxSessionSeconds: rapid.Int64Range(identity.MinSessionSeconds, identity.MaxSessionSeconds).Draw(t, "maximum"),
			Applications:      rapid.OneOf(rapid.Just(allApplications), rapid.Just(allApplications), someApplications).Draw(t, "applications"),
			Status:            mostlyActive.Draw(t, "status"),
			Generation:        rapid.Uint64Range(1, 3).Draw(t, "generation"),
		}
	})
)

// drawRequest draws a first hop, or one from parent.
func drawRequest(t *rapid.T, parent *policy.Grant) *policy.Request {
	r := &policy.Request{
		Now:               now + identity.Instant(rapid.Int64Range(0, 3600_000).Draw(t, "later")),
		SessionID:         session,
		Agent:             someAgent.Draw(t, "agent"),
		Audience:          rapid.OneOf(rapid.Just([]string(nil)), someApplications).Draw(t, "audience"),
		MaxSeconds:        someSeconds.Draw(t, "wish"),
		Applications:      knownApplications(),
		Issuer:            issuer,
		OfflineTTLSeconds: 300,
	}
	switch rapid.IntRange(0, 5).Draw(t, "asks for") {
	case 0:
		r.Requested = someScopes.Draw(t, "requested")
	case 1, 2:
		r.Requested = someOf(t, r.Agent.DefaultScopes)
	default: // none
	}
	if rapid.Bool().Draw(t, "by credential") {
		r.Credential = rapid.SampledFrom([]string{credential, apiToken}).Draw(t, "credential")
	}
	if parent != nil {
		r.Parent, r.ParentHandles = parent.Session(), parent.Handles()
		r.SessionID = identity.NewID(identity.PrefixSession, now, [10]byte{byte(len(parent.Session().Chain))})
	}
	// A hop mostly stays with its parent's user, and mostly with the delegation.
	likely := rapid.IntRange(0, 9).Draw(t, "likely") < 8
	wantsPrincipal := rapid.Bool().Draw(t, "principal")
	if parent != nil && likely {
		wantsPrincipal = parent.Session().Principal != ""
	}
	if !wantsPrincipal {
		return r
	}
	r.Principal = &identity.Principal{ID: "user@company.com", Status: mostlyActive.Draw(t, "principal status"), Generation: 4}
	first := r.Agent.Name
	if parent != nil {
		first = parent.Session().Chain[0].Agent
	}
	if !likely {
		first = "other"
	}
	r.Delegation = &identity.Delegation{
		ID: delegation, Principal: "user@company.com", Agent: first, Scopes: someScopes.Draw(t, "delegated"),
		Expires: r.Now + identity.Instant(someSeconds.Draw(t, "delegation ends"))*second,
		MaxHops: rapid.Uint8Range(1, 2).Draw(t, "max hops"),
		Status:  rapid.SampledFrom([]identity.DelegationStatus{identity.DelegationActive, identity.DelegationActive, identity.DelegationWithdrawn}).Draw(t, "delegation status"),
	}
	return r
}

// someOf draws a subset.
func someOf(t *rapid.T, scopes identity.Scopes) identity.Scopes {
	names := slices.DeleteFunc(scopes.List(), func(string) bool { return rapid.Bool().Draw(t, "without") })
	s, err := identity.NewScopes(names)
	require.NoError(t, err)
	return s
}

// requireSound holds a grant to what no request may ever get around.
func requireSound(t *rapid.T, r *policy.Request, g *policy.Grant) {
	s := g.Session()
	apps := knownApplications()

	require.Equal(t, identity.StatusActive, r.Agent.Status)
	require.LessOrEqual(t, len(s.Chain), identity.MaxChain)
	require.Equal(t, r.Agent.Name, s.Actor().Agent)

	require.True(t, s.Scopes.SubsetOf(r.Agent.DefaultScopes), "scopes within the agent's defaults")
	if r.Requested != "" {
		require.Equal(t, r.Requested, s.Scopes, "what was asked for by name is granted whole or not at all")
	}
	canonical, err := identity.ParseScopes(string(s.Scopes))
	require.NoError(t, err)
	require.Equal(t, canonical, s.Scopes)

	life := s.Expires - s.Issued
	require.GreaterOrEqual(t, life, second)
	require.LessOrEqual(t, life, identity.Instant(r.Agent.MaxSessionSeconds)*second)
	if r.MaxSeconds > 0 {
		require.LessOrEqual(t, life, identity.Instant(r.MaxSeconds)*second)
	}

	require.NotEmpty(t, s.Audience)
	for _, uri := range s.Audience {
		if uri == issuer {
			require.Len(t, s.Audience, 1)
			continue
		}
		app, known := apps.ApplicationByAudience(uri)
		require.True(t, known)
		require.True(t, r.Agent.AssignedTo(app.Name))
		if app.Verification == identity.VerifyOffline {
			require.LessOrEqual(t, life, 300*second)
		}
	}
	for scope := range s.Scopes.All() {
		if app, owned := apps.ApplicationOwning(scope); owned {
			require.True(t, r.Agent.AssignedTo(app.Name))
		}
	}

	handles := g.Handles()
	require.Equal(t, identity.SessionHandle(s.ID), handles[0])
	require.Contains(t, handles, r.Agent.Handle())
	if r.Credential != "" {
		require.Contains(t, handles, identity.CredentialHandle(r.Credential))
	}
	unique := slices.Clone(handles)
	slices.Sort(unique)
	require.Len(t, slices.Compact(unique), len(handles))
	for _, h := range handles {
		_, err := identity.ParseHandle(string(h))
		require.NoError(t, err)
	}

	require.Equal(t, r.Principal != nil, s.Principal != "")
	if s.Principal == "" {
		require.NotEqual(t, identity.AgentUserDelegated, r.Agent.Type)
		require.Empty(t, s.Delegation)
		return
	}
	require.Equal(t, identity.StatusActive, r.Principal.Status)
	require.True(t, r.Delegation.ActiveAt(r.Now))
	require.Equal(t, r.Delegation.Agent, s.Chain[0].Agent)
	require.LessOrEqual(t, len(s.Chain), int(r.Delegation.MaxHops))
	require.True(t, s.Scopes.SubsetOf(r.Delegation.Scopes), "scopes within the delegation")
	require.LessOrEqual(t, s.Expires, r.Delegation.Expires)
	require.Contains(t, handles, identity.DelegationHandle(r.Delegation.ID))
	require.Contains(t, handles, r.Principal.Handle())
}

func TestNoHopWidensAnything(t *testing.T) {
	const triesPerHop = 8 // most requests are refused: each chain gets some to go on
	engine := policy.NewEngine()
	hops := map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		var parent *policy.Grant
		for try := range triesPerHop * identity.MaxChain {
			r := drawRequest(t, parent)
			g := new(policy.Grant)
			err := engine.Decide(r, g)
			require.Equal(t, err == nil, g.Valid(), "try %d", try)
			if err != nil {
				requireSoundRefusal(t, err)
				continue
			}
			requireSound(t, r, g)
			if parent != nil {
				requireNarrower(t, parent, g)
			}
			hops[len(g.Session().Chain)]++
			parent = g
		}
	})
	t.Logf("granted by number of agents: %v", hops)
	require.LessOrEqual(t, len(hops), 2, "at most two agents")
	if !racedetector.Enabled { // which lets it draw too few to be sure of
		require.Greater(t, hops[1], 5, "enough must be granted, or the test says nothing")
		require.Greater(t, hops[2], 5)
	}
}

func requireSoundRefusal(t *rapid.T, err error) {
	var refusal *identity.Error
	require.ErrorAs(t, err, &refusal)
	require.NotEqual(t, identity.CodeInternal, refusal.Code, refusal.Message)
	require.NotEmpty(t, refusal.Hint)
}

func requireNarrower(t *rapid.T, parent, hop *policy.Grant) {
	p, s := parent.Session(), hop.Session()
	require.True(t, s.Scopes.SubsetOf(p.Scopes), "no hop widens scope")
	require.LessOrEqual(t, s.Expires, p.Expires, "no hop outlives its parent")
	require.Subset(t, p.Audience, s.Audience, "no hop reaches further")
	require.Equal(t, p.Principal, s.Principal)
	require.Equal(t, p.Delegation, s.Delegation)
	require.Equal(t, p.Chain, s.Chain[:len(p.Chain)])
	require.NotContains(t, p.Chain, s.Actor())
	require.Subset(t, hop.Handles(), parent.Handles(), "whatever kills the parent kills the hop")
}

// The same request gets the same answer, as nothing but the request is read.
func TestDecisionIsDeterministic(t *testing.T) {
	engine := policy.NewEngine()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t, nil)
		var first, again policy.Grant
		errFirst, errAgain := engine.Decide(r, &first), engine.Decide(r, &again)
		require.Equal(t, errFirst, errAgain)
		require.Equal(t, first.Session(), again.Session())
		require.Equal(t, first.Handles(), again.Handles())
	})
}
