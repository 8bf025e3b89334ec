package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestPolicyValidationNamesFieldAndBound(t *testing.T) {
	good := identity.Policy{ID: "two-hops", Text: "forbid (principal, action, resource);\r\n", Mode: identity.PolicyEnforce}
	require.NoError(t, good.Validate())
	for name, tc := range map[string]struct {
		change  func(*identity.Policy)
		pointer string
		says    string
	}{
		"no id":            {func(p *identity.Policy) { p.ID = "" }, "/id", "missing"},
		"id with a space":  {func(p *identity.Policy) { p.ID = "two hops" }, "/id", "lower-case"},
		"no text":          {func(p *identity.Policy) { p.Text = "" }, "/text", "empty"},
		"long text":        {func(p *identity.Policy) { p.Text = strings.Repeat("/", 16385) }, "/text", "at most 16384"},
		"not UTF-8":        {func(p *identity.Policy) { p.Text = "\xff" }, "/text", "UTF-8"},
		"control":          {func(p *identity.Policy) { p.Text = "// \x1b[31m" }, "/text", "control"},
		"long description": {func(p *identity.Policy) { p.Description = strings.Repeat("x", 1025) }, "/description", "at most 1024"},
		"no mode":          {func(p *identity.Policy) { p.Mode = "" }, "/mode", "enforce monitor off"},
		"mode":             {func(p *identity.Policy) { p.Mode = "warn" }, "/mode", "enforce monitor off"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			tc.change(&p)
			var refusal *identity.Error
			require.True(t, errors.As(p.Validate(), &refusal))
			require.Equal(t, identity.CodeValidation, refusal.Code)
			require.Equal(t, tc.pointer, refusal.Fields[0].Pointer)
			require.Contains(t, refusal.Fields[0].Detail, tc.says)
		})
	}
	require.NoError(t, identity.ValidPolicyMode(identity.PolicyMonitor))
	require.Equal(t, identity.CodeValidation, identity.CodeOf(identity.ValidPolicyMode("on")))
}

func TestApprovalCoversOneThingOnceAndForATime(t *testing.T) {
	a := identity.Approval{ID: "apr_1", Agent: "triage", Binding: "b", Status: identity.ApprovalApproved, Expires: 100}
	require.True(t, a.Covers("triage", "b", 99))
	require.False(t, a.Covers("triage", "b", 100), "expired")
	require.False(t, a.Covers("triage", "c", 99), "another request")
	require.False(t, a.Covers("other", "b", 99), "another agent")
	for _, status := range []identity.ApprovalStatus{identity.ApprovalPending, identity.ApprovalDenied, identity.ApprovalConsumed, ""} {
		a.Status = status
		require.False(t, a.Covers("triage", "b", 99), status)
	}
}

func TestErrorNamesItsPolicy(t *testing.T) {
	plain := identity.Errorf(identity.CodePolicyDenied, "no")
	named := plain.WithPolicy("two-hops")
	require.Equal(t, "two-hops", named.Policy)
	require.Empty(t, plain.Policy)
}
