package policy_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const (
	now    = identity.Instant(1_800_000_000_000)
	second = identity.Instant(1000)
	issuer = "https://deputy.example.com"

	session    = "ses_01mcc5rm00e009n9kd5hyxyx1z"
	hopSession = "ses_01mcc5rm00e009e5b0kxy78v39"
	delegation = "dlg_01mcc5rm00e009n9kd5hyxyx1z"
	credential = "crd_01mcc5rm00e009n9kd5hyxyx1z"
	apiToken   = "tok_01mcc5rm00e009n9kd5hyxyx1z"
	parentKey  = identity.Handle("key_NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
)

// applications is the read model as far as policy looks at it.
type applications []*identity.Application

func (list applications) find(match func(*identity.Application) bool) (*identity.Application, bool) {
	for _, a := range list {
		if match(a) {
			return a, true
		}
	}
	return nil, false
}

func (list applications) Application(name string) (*identity.Application, bool) {
	return list.find(func(a *identity.Application) bool { return a.Name == name })
}

func (list applications) ApplicationByAudience(uri string) (*identity.Application, bool) {
	return list.find(func(a *identity.Application) bool { return a.Audience == uri })
}

func (list applications) ApplicationOwning(scope string) (*identity.Application, bool) {
	return list.find(func(a *identity.Application) bool { return a.Scopes.Contains(scope) })
}

func knownApplications() applications {
	return applications{
		{Name: "gmail", Audience: "https://gmail.example.com", Scopes: "gmail.draft gmail.read gmail.send", Verification: identity.VerifyOnline},
		{Name: "zendesk", Audience: "https://zendesk.example.com", Scopes: "zendesk.tickets.assign zendesk.tickets.read", Verification: identity.VerifyOnline},
		{Name: "warehouse", Audience: "urn:example:warehouse", Scopes: "warehouse.query", Verification: identity.VerifyOffline},
	}
}

// autonomous is a request that every rule agrees with: the triage agent on its own.
func autonomous() *policy.Request {
	return &policy.Request{
		Now: now, SessionID: session, Credential: credential,
		Agent: &identity.Agent{
			Name: "support-triage-agent", Type: identity.AgentAutonomous, Status: identity.StatusActive, Generation: 417,
			DefaultScopes: "zendesk.tickets.assign zendesk.tickets.read", MaxSessionSeconds: 3600, Applications: []string{"zendesk"},
		},
		TriggerReason: "cron", Applications: knownApplications(), Issuer: issuer, OfflineTTLSeconds: 300,
		SourceIP: netip.MustParseAddr("127.0.0.1"),
	}
}

// delegated is the inbox assistant for one user, under a four-hour delegation.
func delegated() *policy.Request {
	return &policy.Request{
		Now: now, SessionID: session,
		Agent: &identity.Agent{
			Name: "inbox-assistant", Type: identity.AgentUserDelegated, Status: identity.StatusActive, Generation: 5,
			DefaultScopes: "calendar.read gmail.draft gmail.read gmail.send", MaxSessionSeconds: 86400, Applications: []string{"gmail"},
		},
		Principal: &identity.Principal{ID: "user@company.com", Status: identity.StatusActive, Generation: 93},
		Delegation: &identity.Delegation{
			ID: delegation, Principal: "user@company.com", Agent: "inbox-assistant", Scopes: "gmail.draft gmail.read",
			Expires: now + 14400*second, MaxHops: 2, Status: identity.DelegationActive,
		},
		Requested: "gmail.read", Applications: knownApplications(), Issuer: issuer, OfflineTTLSeconds: 300,
	}
}

// hop is a sub-agent's exchange of the token that parent was granted.
func hop(t require.TestingT, parent *policy.Request) *policy.Request {
	g := granted(t, parent)
	r := *parent
	r.SessionID, r.Credential, r.Requested = hopSession, credential, ""
	r.Agent = &identity.Agent{
		Name: "summary-agent", Type: identity.AgentScheduled, Status: identity.StatusActive, Generation: 8,
		DefaultScopes: "gmail.read gmail.send zendesk.tickets.read", MaxSessionSeconds: 86400, Applications: []string{"gmail", "zendesk"},
	}
	r.Parent = g.Session()
	r.ParentHandles = append(append([]identity.Handle{}, g.Handles()...), parentKey)
	return &r
}

func granted(t require.TestingT, r *policy.Request) *policy.Grant {
	g := new(policy.Grant)
	require.NoError(t, policy.NewEngine().Decide(r, g))
	require.True(t, g.Valid())
	return g
}

func requireRefused(t require.TestingT, r *policy.Request, code identity.Code) *identity.Error {
	var g policy.Grant
	err := policy.NewEngine().Decide(r, &g)
	var refusal *identity.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code, refusal.Message)
	require.False(t, g.Valid())
	require.Nil(t, g.Session())
	require.Nil(t, g.Handles())
	if code != identity.CodeInternal {
		require.NotEmpty(t, refusal.Hint, "a refusal says what to do next")
	}
	return refusal
}

// refusals is a table of changes to a good request, each of which must meet its rule.
type refusals map[string]struct {
	change func(*policy.Request)
	code   identity.Code
	says   string
}

func (table refusals) run(t *testing.T, good func() *policy.Request) {
	t.Helper()
	granted(t, good())
	for name, tc := range table {
		t.Run(name, func(t *testing.T) {
			r := good()
			tc.change(r)
			require.Contains(t, requireRefused(t, r, tc.code).Message, tc.says)
		})
	}
}

func TestAutonomousRun(t *testing.T) {
	r := autonomous()
	g := granted(t, r)
	require.Equal(t, &identity.Session{
		ID: session, Chain: []identity.Actor{{Agent: "support-triage-agent", Generation: 417}}, AgentType: identity.AgentAutonomous,
		Scopes: "zendesk.tickets.assign zendesk.tickets.read", Audience: []string{"https://zendesk.example.com"},
		Credential: credential, TriggerReason: "cron", Issued: now, Expires: now + 3600*second,
	}, g.Session())
	require.Equal(t, []identity.Handle{session, "agt_support-triage-agent#417", credential}, g.Handles())
}

func TestRunThatAnAPITokenAskedForRestsOnTheToken(t *testing.T) {
	r := delegated()
	r.Credential = apiToken
	g := granted(t, r)
	require.Equal(t, apiToken, g.Session().Credential)
	require.Contains(t, g.Handles(), identity.Handle(apiToken))
}

func TestRunOnBehalfOfAUser(t *testing.T) {
	g := granted(t, delegated())
	require.Equal(t, &identity.Session{
		ID: session, Principal: "user@company.com", Chain: []identity.Actor{{Agent: "inbox-assistant", Generation: 5}},
		AgentType: identity.AgentUserDelegated, Scopes: "gmail.read", Audience: []string{"https://gmail.example.com"},
		Delegation: delegation, Issued: now, Expires: now + 14400*second,
	}, g.Session())
	require.Equal(t, []identity.Handle{session, delegation, "agt_inbox-assistant#5", "usr_user@company.com#93"}, g.Handles())
}

func TestHopOfASubAgentRestsOnAllThatItsParentRestsOn(t *testing.T) {
	g := granted(t, hop(t, delegated()))
	require.Equal(t, []identity.Actor{{Agent: "inbox-assistant", Generation: 5}, {Agent: "summary-agent", Generation: 8}}, g.Session().Chain)
	require.Equal(t, identity.Scopes("gmail.read"), g.Session().Scopes)
	require.Equal(t, "user@company.com", g.Session().Principal)
	require.Equal(t, identity.AgentScheduled, g.Session().AgentType)
	require.Equal(t, []identity.Handle{
		hopSession, delegation, "agt_summary-agent#8", "usr_user@company.com#93", credential,
		session, "agt_inbox-assistant#5", parentKey,
	}, g.Handles())
}

func TestHopWithoutAUser(t *testing.T) {
	g := granted(t, hop(t, autonomous()))
	require.Empty(t, g.Session().Principal)
	require.Equal(t, identity.Scopes("zendesk.tickets.read"), g.Session().Scopes)
	require.Contains(t, g.Handles(), identity.Handle("agt_support-triage-agent#417"))
}

func TestZeroGrantIsNotValid(t *testing.T) {
	var g policy.Grant
	require.False(t, g.Valid())
	require.Nil(t, g.Session())
	require.Nil(t, g.Handles())
}

func TestOnlyTheGrantThatWasDecidedIsValid(t *testing.T) {
	engine := policy.NewEngine()
	var g policy.Grant
	require.NoError(t, engine.Decide(delegated(), &g))
	copied := g
	require.False(t, copied.Valid(), "a copy shares its arrays with the original")
	require.Nil(t, copied.Session())
	require.Nil(t, copied.Handles())
	require.True(t, g.Valid())

	refused := delegated()
	refused.Agent.Status = identity.StatusSuspended
	require.Error(t, engine.Decide(refused, &g))
	require.False(t, g.Valid(), "what was granted before is gone")
	require.Nil(t, g.Session())
}

func TestAGrantHoldsNothingOfTheDecisionBefore(t *testing.T) {
	engine := policy.NewEngine()
	var g policy.Grant
	for _, r := range []*policy.Request{hop(t, delegated()), autonomous(), delegated()} {
		require.NoError(t, engine.Decide(r, &g))
		fresh := granted(t, r)
		require.Equal(t, fresh.Session(), g.Session())
		require.Equal(t, fresh.Handles(), g.Handles())
	}
}

func TestAHopFromTheSessionOfItsOwnGrantIsRefused(t *testing.T) {
	engine := policy.NewEngine()
	var g policy.Grant
	require.NoError(t, engine.Decide(delegated(), &g))
	r := hop(t, delegated())
	r.Parent = g.Session()
	require.ErrorContains(t, engine.Decide(r, &g), "BUG")
	require.False(t, g.Valid())
}

func TestGrantKeepsNothingThatTheCallerMayChange(t *testing.T) {
	r := hop(t, delegated())
	g := granted(t, r)
	r.Parent.Chain[0].Agent = "other"
	r.ParentHandles[0] = "other"
	require.Equal(t, "inbox-assistant", g.Session().Chain[0].Agent)
	require.NotContains(t, g.Handles(), identity.Handle("other"))
}

func TestStatusRule(t *testing.T) {
	refusals{
		"suspended agent":       {func(r *policy.Request) { r.Agent.Status = identity.StatusSuspended }, identity.CodeAgentSuspended, `"inbox-assistant" is suspended`},
		"deactivated agent":     {func(r *policy.Request) { r.Agent.Status = identity.StatusDeactivated }, identity.CodeAgentDeactivated, "is deactivated"},
		"status of the future":  {func(r *policy.Request) { r.Agent.Status = "quarantined" }, identity.CodeAgentDeactivated, "is quarantined"},
		"no status":             {func(r *policy.Request) { r.Agent.Status = "" }, identity.CodeAgentDeactivated, "is not active"},
		"suspended principal":   {func(r *policy.Request) { r.Principal.Status = identity.StatusSuspended }, identity.CodePrincipalSuspended, `"user@company.com" is suspended`},
		"deactivated principal": {func(r *policy.Request) { r.Principal.Status = identity.StatusDeactivated }, identity.CodePrincipalSuspended, "is deactivated"},
		"principal no status":   {func(r *policy.Request) { r.Principal.Status = "" }, identity.CodePrincipalSuspended, "is not active"},
	}.run(t, delegated)
}

func TestDelegationRule(t *testing.T) {
	refusals{
		"user-delegated agent without a user": {func(r *policy.Request) { r.Principal, r.Delegation = nil, nil }, identity.CodeDelegationMissing, "acts only for a principal"},
		"no delegation":                       {func(r *policy.Request) { r.Delegation = nil }, identity.CodeDelegationMissing, "no delegation"},
		"someone else's delegation":           {func(r *policy.Request) { r.Delegation.Principal = "other@company.com" }, identity.CodeDelegationMissing, "no delegation"},
		"delegation to another agent":         {func(r *policy.Request) { r.Delegation.Agent = "other" }, identity.CodeDelegationMissing, "no delegation"},
		"withdrawn":                           {func(r *policy.Request) { r.Delegation.Status = identity.DelegationWithdrawn }, identity.CodeDelegationWithdrawn, "was withdrawn"},
		"withdrawn and expired": {func(r *policy.Request) {
			r.Delegation.Status, r.Delegation.Expires = identity.DelegationWithdrawn, now
		}, identity.CodeDelegationWithdrawn, "was withdrawn"},
		"expired":            {func(r *policy.Request) { r.Delegation.Expires = now }, identity.CodeDelegationExpired, "ended at 2027-01-15T08:00:00.000Z"},
		"less than a second": {func(r *policy.Request) { r.Delegation.Expires = now + 999 }, identity.CodeDelegationExpired, "less than a second"},
		"no hops":            {func(r *policy.Request) { r.Delegation.MaxHops = 0 }, identity.CodeChainTooLong, "allows 0 agents"},
	}.run(t, delegated)
}

func TestScopeRule(t *testing.T) {
	refusals{
		"outside of the defaults":       {func(r *policy.Request) { r.Requested = "gmail.delete gmail.read" }, identity.CodeScopeNotAllowed, `"gmail.delete" is not among the default scopes of agent "inbox-assistant"`},
		"outside of the delegation":     {func(r *policy.Request) { r.Requested = "gmail.read gmail.send" }, identity.CodeScopeNotAllowed, `"gmail.send" is not covered by delegation`},
		"nothing in common":             {func(r *policy.Request) { r.Requested, r.Delegation.Scopes = "", "files.read" }, identity.CodeScopeNotAllowed, "no scope in common"},
		"agent without any asks anyway": {func(r *policy.Request) { r.Agent.DefaultScopes = "" }, identity.CodeScopeNotAllowed, `"gmail.read"`},
	}.run(t, delegated)
}

func TestNoScopesRequestedMeansAllThatIsAllowed(t *testing.T) {
	r := delegated()
	r.Requested = ""
	g := granted(t, r)
	require.Equal(t, identity.Scopes("gmail.draft gmail.read"), g.Session().Scopes)

	r.Delegation.Scopes = "calendar.read files.read gmail.read"
	g = granted(t, r)
	require.Equal(t, identity.Scopes("calendar.read gmail.read"), g.Session().Scopes)

	r.Delegation.Scopes = "a calendar.read gmail.draft gmail.read gmail.send z"
	g = granted(t, r)
	require.Equal(t, r.Agent.DefaultScopes, g.Session().Scopes)
}

func TestAgentWithoutScopesMayRunWithoutThem(t *testing.T) {
	r := autonomous()
	r.Agent.DefaultScopes = ""
	g := granted(t, r)
	require.Empty(t, g.Session().Scopes)
	require.Equal(t, []string{issuer}, g.Session().Audience)
}

func TestChainRule(t *testing.T) {
	subAgent := func() *policy.Request { return hop(t, delegated()) }
	refusals{
		"cycle":                        {func(r *policy.Request) { r.Agent.Name = "inbox-assistant" }, identity.CodeChainCycle, `"inbox-assistant" already acts`},
		"third agent":                  {func(r *policy.Request) { r.Parent.Chain = append(r.Parent.Chain, identity.Actor{Agent: "x"}) }, identity.CodeChainTooLong, "already has 2 agents"},
		"delegation for one agent":     {func(r *policy.Request) { r.Delegation.MaxHops = 1 }, identity.CodeChainTooLong, "allows 1 agents"},
		"principal gone":               {func(r *policy.Request) { r.Principal, r.Delegation = nil, nil }, identity.CodeDelegationMissing, "not there any more"},
		"principal changed":            {func(r *policy.Request) { r.Principal.ID = "other@company.com" }, identity.CodeDelegationMissing, "can't change"},
		"another delegation":           {func(r *policy.Request) { r.Parent.Delegation = "dlg_other" }, identity.CodeDelegationMissing, "no delegation"},
		"scope the parent lacks":       {func(r *policy.Request) { r.Delegation.Scopes, r.Requested = "gmail.read gmail.send", "gmail.send" }, identity.CodeScopeNotAllowed, `"gmail.send" is not among those of the parent`},
		"nothing of the parent's":      {func(r *policy.Request) { r.Agent.DefaultScopes = "zendesk.tickets.read" }, identity.CodeScopeNotAllowed, "no scope in common"},
		"parent has ended":             {func(r *policy.Request) { r.Parent.Expires = now + 999 }, identity.CodeDelegationExpired, "parent session"},
		"delegation withdrawn since":   {func(r *policy.Request) { r.Delegation.Status = identity.DelegationWithdrawn }, identity.CodeDelegationWithdrawn, "was withdrawn"},
		"first agent not delegated to": {func(r *policy.Request) { r.Delegation.Agent = "summary-agent" }, identity.CodeDelegationMissing, "no delegation"},
	}.run(t, subAgent)

	r := hop(t, autonomous())
	r.Principal, r.Delegation = delegated().Principal, delegated().Delegation
	require.Contains(t, requireRefused(t, r, identity.CodeDelegationMissing).Message, "can't add the principal")
}

func TestAudienceRule(t *testing.T) {
	many := make([]string, identity.MaxApplications+1)
	refusals{
		"unknown":                   {func(r *policy.Request) { r.Audience = []string{"gmail", "nowhere"} }, identity.CodeUnknownAudience, `"nowhere"`},
		"empty":                     {func(r *policy.Request) { r.Audience = []string{""} }, identity.CodeUnknownAudience, `""`},
		"not assigned by name":      {func(r *policy.Request) { r.Audience = []string{"zendesk"} }, identity.CodeApplicationNotAssigned, `application "zendesk"`},
		"not assigned by URI":       {func(r *policy.Request) { r.Audience = []string{"https://zendesk.example.com"} }, identity.CodeApplicationNotAssigned, `application "zendesk"`},
		"too many":                  {func(r *policy.Request) { r.Audience = many }, identity.CodeInvalid, "at most 64"},
		"owner of a scope":          {func(r *policy.Request) { r.Agent.Applications = nil }, identity.CodeApplicationNotAssigned, `application "gmail"`},
		"owner outside of audience": {func(r *policy.Request) { r.Agent.Applications, r.Audience = []string{"zendesk"}, []string{"zendesk"} }, identity.CodeApplicationNotAssigned, `application "gmail"`},
	}.run(t, delegated)
}

func TestHopReachesNothingThatItsParentDoesNot(t *testing.T) {
	const gmail, warehouse, zendesk = "https://gmail.example.com", "urn:example:warehouse", "https://zendesk.example.com"
	for name, tc := range map[string]struct {
		parent, assigned, asked, want []string
		code                          identity.Code
	}{
		"owner that the parent has":           {[]string{gmail, zendesk}, []string{"gmail", "zendesk"}, nil, []string{gmail}, ""},
		"owner that the parent lacks":         {[]string{warehouse}, []string{"gmail", "warehouse"}, nil, []string{warehouse}, ""},
		"named, of the parent's":              {[]string{gmail, zendesk}, []string{"gmail", "zendesk"}, []string{"zendesk"}, []string{zendesk}, ""},
		"named, not of the parent's":          {[]string{gmail}, []string{"gmail", "zendesk"}, []string{"zendesk"}, nil, identity.CodeUnknownAudience},
		"the issuer itself":                   {[]string{issuer}, []string{"gmail"}, nil, []string{issuer}, ""},
		"the parent's, without an assignment": {[]string{warehouse}, []string{"gmail"}, nil, nil, identity.CodeApplicationNotAssigned},
	} {
		t.Run(name, func(t *testing.T) {
			r := hop(t, delegated())
			r.Parent.Audience, r.Agent.Applications, r.Audience = tc.parent, tc.assigned, tc.asked
			if tc.code != "" {
				requireRefused(t, r, tc.code)
				return
			}
			require.Equal(t, tc.want, granted(t, r).Session().Audience)
		})
	}
}

func TestAudienceIsTheOwnersOfTheScopesUnlessNamed(t *testing.T) {
	r := autonomous()
	r.Agent.Applications = []string{"gmail", "warehouse", "zendesk"}
	for name, tc := range map[string]struct {
		scopes   identity.Scopes
		audience []string
		want     []string
	}{
		"owners, each once":       {"free gmail.draft gmail.read zendesk.tickets.read", nil, []string{"https://gmail.example.com", "https://zendesk.example.com"}},
		"nobody owns it":          {"free", nil, []string{issuer}},
		"named":                   {"gmail.read", []string{"warehouse", "https://zendesk.example.com"}, []string{"urn:example:warehouse", "https://zendesk.example.com"}},
		"named twice":             {"free", []string{"gmail", "https://gmail.example.com", "gmail"}, []string{"https://gmail.example.com"}},
		"named without any scope": {"", []string{"gmail"}, []string{"https://gmail.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			r.Agent.DefaultScopes, r.Audience = tc.scopes, tc.audience
			g := granted(t, r)
			require.Equal(t, tc.want, g.Session().Audience)
		})
	}
}

func TestLifetimeRule(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*policy.Request)
		seconds identity.Instant
	}{
		"agent's maximum":             {func(r *policy.Request) { r.Agent.MaxSessionSeconds = 600 }, 600},
		"wish":                        {func(r *policy.Request) { r.MaxSeconds = 90 }, 90},
		"wish beyond the maximum":     {func(r *policy.Request) { r.Agent.MaxSessionSeconds, r.MaxSeconds = 600, 601 }, 600},
		"wish beyond all bounds":      {func(r *policy.Request) { r.Agent.MaxSessionSeconds, r.MaxSeconds = 600, 1<<62 }, 600},
		"delegation":                  {func(*policy.Request) {}, 14400},
		"delegation's last second":    {func(r *policy.Request) { r.Delegation.Expires = now + second }, 1},
		"longer than any token lives": {func(r *policy.Request) { r.Agent.MaxSessionSeconds, r.Delegation.Expires = 1<<60, now+1e9*second }, identity.MaxSessionSeconds},
		"offline audience": {func(r *policy.Request) {
			r.Agent.Applications, r.Audience = []string{"gmail", "warehouse"}, []string{"warehouse"}
		}, 300},
		"one of several offline": {func(r *policy.Request) {
			r.Agent.Applications, r.Audience = []string{"gmail", "warehouse"}, []string{"warehouse", "gmail"}
		}, 300},
		"offline, wish is shorter": {func(r *policy.Request) {
			r.Agent.Applications, r.Audience, r.MaxSeconds = []string{"gmail", "warehouse"}, []string{"warehouse"}, 60
		}, 60},
		"offline, not set": {func(r *policy.Request) {
			r.Agent.Applications, r.Audience, r.OfflineTTLSeconds = []string{"gmail", "warehouse"}, []string{"warehouse"}, 0
		}, identity.DefaultOfflineTTLSeconds},
	} {
		t.Run(name, func(t *testing.T) {
			r := delegated()
			tc.change(r)
			g := granted(t, r)
			require.Equal(t, now+tc.seconds*second, g.Session().Expires)
		})
	}

	r := hop(t, delegated())
	r.Parent.Expires = now + 77*second
	g := granted(t, r)
	require.Equal(t, now+77*second, g.Session().Expires)

	r = delegated()
	r.MaxSeconds = -1
	require.Contains(t, requireRefused(t, r, identity.CodeInvalid).Message, "-1 seconds")
}

func TestFaultsOfTheCallerFailClosed(t *testing.T) {
	subAgent := func() *policy.Request { return hop(t, delegated()) }
	many := make([]identity.Handle, 100)
	many[0] = session
	bug := identity.CodeInternal
	refusals{
		"no agent":                {func(r *policy.Request) { r.Agent = nil }, bug, "BUG"},
		"no applications":         {func(r *policy.Request) { r.Applications = nil }, bug, "BUG"},
		"no time":                 {func(r *policy.Request) { r.Now = 0 }, bug, "BUG"},
		"no session id":           {func(r *policy.Request) { r.SessionID = "" }, bug, "BUG"},
		"id of something else":    {func(r *policy.Request) { r.SessionID = delegation }, bug, "BUG"},
		"session of the parent":   {func(r *policy.Request) { r.SessionID = session }, bug, "BUG"},
		"delegation without user": {func(r *policy.Request) { r.Principal = nil }, bug, "BUG"},
		"parent without actor":    {func(r *policy.Request) { r.Parent.Chain = nil }, bug, "BUG"},
		"handles without parent":  {func(r *policy.Request) { r.Parent = nil }, bug, "BUG"},
		"parent without handles":  {func(r *policy.Request) { r.ParentHandles = nil }, bug, "BUG"},
		"handles of another":      {func(r *policy.Request) { r.ParentHandles = r.ParentHandles[1:] }, bug, "BUG"},
		"too many handles":        {func(r *policy.Request) { r.ParentHandles = many }, bug, "BUG"},
		"agent without maximum":   {func(r *policy.Request) { r.Agent.MaxSessionSeconds = 0 }, bug, "BUG"},
		"parent without audience": {func(r *policy.Request) { r.Parent.Audience = nil }, bug, "BUG"},
	}.run(t, subAgent)
	refusals{
		"no issuer": {func(r *policy.Request) { r.Issuer, r.Applications = "", applications{} }, bug, "BUG"},
	}.run(t, delegated)
}
