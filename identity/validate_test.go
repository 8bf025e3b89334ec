package identity_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func articleAgent() identity.Agent {
	return identity.Agent{
		Name: "support-triage-agent", Description: "Classifies Zendesk tickets and assigns to queues",
		OwnerGroup: "ai-engineering", Type: identity.AgentAutonomous,
		DefaultScopes: "zendesk.tickets.assign zendesk.tickets.read", MaxSessionSeconds: 3600,
	}
}

func TestArticleAgentIsValid(t *testing.T) {
	a := articleAgent()
	require.NoError(t, a.Validate())
}

func TestAgentValidationNamesFieldAndBound(t *testing.T) {
	tooMany := make([]string, identity.MaxApplications+1)
	for i := range tooMany {
		tooMany[i] = fmt.Sprintf("app-%d", i)
	}
	labels := map[string]string{}
	for i := range identity.MaxLabels + 1 {
		labels[fmt.Sprint(i)] = ""
	}
	for name, tc := range map[string]struct {
		change  func(*identity.Agent)
		pointer string
		says    string
	}{
		"no name":          {func(a *identity.Agent) { a.Name = "" }, "/profile/name", "missing"},
		"long name":        {func(a *identity.Agent) { a.Name = strings.Repeat("a", 65) }, "/profile/name", "at most 64"},
		"upper-case name":  {func(a *identity.Agent) { a.Name = "Agent" }, "/profile/name", "lower-case"},
		"dash at the end":  {func(a *identity.Agent) { a.Name = "agent-" }, "/profile/name", "between them"},
		"long description": {func(a *identity.Agent) { a.Description = strings.Repeat("é", 1025) }, "/profile/description", "at most 1024"},
		"not UTF-8":        {func(a *identity.Agent) { a.Description = "\xff" }, "/profile/description", "UTF-8"},
		"control":          {func(a *identity.Agent) { a.OwnerGroup = "a\x1b[31m" }, "/profile/owner_group", "control"},
		"type":             {func(a *identity.Agent) { a.Type = "robot" }, "/profile/agent_type", "autonomous, user-delegated, scheduled"},
		"scopes":           {func(a *identity.Agent) { a.DefaultScopes = "b a" }, "/default_scopes", "canonical"},
		"short session":    {func(a *identity.Agent) { a.MaxSessionSeconds = 59 }, "/max_session_duration_seconds", "between 60 and 86400"},
		"long session":     {func(a *identity.Agent) { a.MaxSessionSeconds = 86401 }, "/max_session_duration_seconds", "between 60 and 86400"},
		"applications":     {func(a *identity.Agent) { a.Applications = tooMany }, "/applications", "at most 64"},
		"application name": {func(a *identity.Agent) { a.Applications = []string{"ok", "not ok"} }, "/applications/1", "lower-case"},
		"group":            {func(a *identity.Agent) { a.Groups = []string{""} }, "/groups/0", "empty"},
		"labels":           {func(a *identity.Agent) { a.Labels = labels }, "/labels", "at most 32"},
	} {
		t.Run(name, func(t *testing.T) {
			a := articleAgent()
			tc.change(&a)

			var e *identity.Error
			require.ErrorAs(t, a.Validate(), &e)
			require.Equal(t, identity.CodeValidation, e.Code)
			require.NotEmpty(t, e.Fields)
			require.Equal(t, tc.pointer, e.Fields[0].Pointer)
			require.Contains(t, e.Fields[0].Detail, tc.says)
			require.Contains(t, e.Error(), tc.pointer)
		})
	}
}

func TestDelegationIsAlwaysBoundInTimeAndScope(t *testing.T) {
	valid := identity.Delegation{
		Principal: "user@company.com", Agent: "inbox-assistant", Scopes: "gmail.draft gmail.read",
		Created: 1_000_000, Expires: 1_000_000 + 4*3600*1000, MaxHops: 2, Status: identity.DelegationActive,
	}
	require.NoError(t, valid.Validate())
	require.True(t, valid.ActiveAt(valid.Expires-1))
	require.False(t, valid.ActiveAt(valid.Expires))

	noScope, noEnd, forever := valid, valid, valid
	noScope.Scopes = ""
	noEnd.Expires = 0
	forever.Expires = valid.Created + (identity.MaxDelegationSeconds+1)*1000
	require.ErrorContains(t, noScope.Validate(), "/scopes")
	require.ErrorContains(t, noEnd.Validate(), "/duration_seconds")
	require.ErrorContains(t, forever.Validate(), "31536000")

	withdrawn := valid
	withdrawn.Status = identity.DelegationWithdrawn
	require.False(t, withdrawn.ActiveAt(valid.Created))
}

func TestAudienceIsAnAbsoluteURI(t *testing.T) {
	app := identity.Application{Name: "zendesk", Audience: "https://zendesk.example.com", Verification: identity.VerifyOnline}
	require.NoError(t, app.Validate())
	for _, bad := range []string{"", "zendesk", "/path", "https://x#f", "https://a b", "https://x/" + strings.Repeat("y", 256), `https://x/"`} {
		app.Audience = bad
		require.ErrorContains(t, app.Validate(), "/audience", bad)
	}
	app.Audience = "urn:example:zendesk"
	require.NoError(t, app.Validate())
	app.Verification = "sometimes"
	require.ErrorContains(t, app.Validate(), "/verification")
}

func TestPrincipalIDNeedsNoEscapeInAToken(t *testing.T) {
	for _, id := range []string{"user@company.com", "auth0|5f7c", "00u1#2"} {
		require.NoError(t, identity.ValidPrincipal(id))
	}
	for _, id := range []string{"", "a b", `a"b`, `a\b`, "ü", strings.Repeat("x", 256)} {
		require.Error(t, identity.ValidPrincipal(id))
	}
}

func TestAPITokenRoles(t *testing.T) {
	runtime := identity.APIToken{Name: "r", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"inbox-assistant"}}
	require.NoError(t, runtime.Validate())
	require.True(t, runtime.MayRun("inbox-assistant"))
	require.False(t, runtime.MayRun("other"))
	require.False(t, runtime.Has(identity.RoleAuditor))

	admin := identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAdmin}}
	require.True(t, admin.MayRun("other"))
	require.True(t, admin.Has(identity.RoleAuditor))

	nobody := identity.APIToken{Roles: []identity.Role{"king", identity.RoleRuntime}, Created: 5, Expires: 4}
	err := nobody.Validate()
	for _, pointer := range []string{"/name", "/roles", "/agents", "/expires_at"} {
		require.ErrorContains(t, err, pointer)
	}
	require.False(t, nobody.ActiveAt(4))
}

func TestSettingsBounds(t *testing.T) {
	s := identity.Settings{Issuer: "http://127.0.0.1:8401", OfflineTTLSeconds: 300, LeaseMillis: 10_000}
	require.NoError(t, s.Validate())
	s.LeaseMillis, s.OfflineTTLSeconds, s.ExternalURLs = 1, 0, []string{"x"}
	for _, pointer := range []string{"/lease_milliseconds", "/offline_token_ttl_seconds", "/external_urls"} {
		require.ErrorContains(t, s.Validate(), pointer)
	}
}

func TestSecretMatchesOnlyWhileItLives(t *testing.T) {
	hash := identity.HashSecret("dps_one")
	list := []identity.Credential{
		{ID: "crd_old", Kind: identity.CredentialSecret, Hash: hash[:], Expires: 10},
		{ID: "crd_key", Kind: "private_key_jwt", Hash: hash[:]},
	}
	require.Equal(t, "crd_old", identity.MatchSecret(list, hash, 9).ID)
	require.Nil(t, identity.MatchSecret(list, hash, 10))
	require.Nil(t, identity.MatchSecret(list, identity.HashSecret("dps_two"), 9))
}

// Every caller shows a secret with each request.
func TestHashingASecretAllocatesNothing(t *testing.T) {
	secret := "dps_" + strings.Repeat("x", 43)
	require.Equal(t, sha256.Sum256([]byte(secret)), identity.HashSecret(secret))
	long := strings.Repeat(secret, 3)
	require.Equal(t, sha256.Sum256([]byte(long)), identity.HashSecret(long), "whatever a caller sends")
	require.Zero(t, testing.AllocsPerRun(100, func() { identity.HashSecret(secret) }))
}

func TestErrorKeepsItsCauseForLogsOnly(t *testing.T) {
	err := identity.Errorf(identity.CodeInternal, "reading the key: %w", io.ErrUnexpectedEOF)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	hidden := identity.Errorf(identity.CodeNoLeader, "no leader").WithCause(io.EOF).WithHint("try %s again", "n1")
	require.ErrorIs(t, hidden, io.EOF)
	require.NotContains(t, hidden.Error(), "EOF")
	require.Equal(t, "try n1 again", hidden.Hint)

	require.Equal(t, identity.CodeNoLeader, identity.CodeOf(fmt.Errorf("asking: %w", hidden)))
	require.Equal(t, identity.CodeInternal, identity.CodeOf(errors.New("x")))
	require.Empty(t, identity.CodeOf(nil))
}
