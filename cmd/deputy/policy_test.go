package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const noDeleting = "@description(\"Nobody deletes tickets\")\nforbid (principal is Agent, action == Action::\"CreateSession\", resource)\nwhen { context.requested_scopes.contains(\"zendesk.tickets.assign\") };\n"

func writeFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
}

func TestPoliciesOfAFolderAreShownThenApplied(t *testing.T) {
	inFolder(t)
	devNode(t)
	into[wire.Application](t, zendeskApplication, "application", "create", "-f", "-")
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "support-triage-agent", "zendesk").code)
	shipped := len(*into[[]wire.Policy](t, "", "policy", "list"))
	require.Equal(t, len(policy.Shipped()), shipped)

	writeFiles(t, map[string]string{
		"p/no-assigning.cedar": noDeleting, "p/policies.yaml": "no-assigning: {mode: monitor, description: for now}\n",
	})
	dry := deputy(t, "", "policy", "apply", "-f", "p", "--dry-run")
	require.Equal(t, exitDone, dry.code, dry.err)
	require.Contains(t, dry.out, "no-assigning: create\n")
	require.Contains(t, dry.out, "  +mode: monitor\n")
	require.Contains(t, dry.out, `  +when { context.requested_scopes`)
	require.Equal(t, exitFailed, deputy(t, "", "policy", "apply", "-f", "p").code, "nobody said yes")
	require.Len(t, *into[[]wire.Policy](t, "", "policy", "list"), shipped, "nothing was changed")
	said := deputy(t, "y\n", "policy", "apply", "-f", "p")
	require.Equal(t, exitDone, said.code, said.err)
	require.Contains(t, said.err, "1 changed")
	made := into[wire.Policy](t, "", "policy", "get", "no-assigning")
	require.Equal(t, identity.PolicyMonitor, made.Mode)
	require.Equal(t, "for now", made.Description)
	require.Equal(t, "no-assigning: unchanged\n", deputy(t, "", "policy", "apply", "-f", "p").out, "applying it again changes nothing, and asks nothing")

	// It is measured, and then enforced.
	session := func() outcome { return deputy(t, "", "session", "create", "--agent", "support-triage-agent") }
	require.Equal(t, exitDone, session().code)
	hits := into[wire.PolicyHits](t, "", "policy", "hits", "no-assigning")
	require.EqualValues(t, 1, hits.Monitored)
	require.Contains(t, deputy(t, "", "policy", "hits").out, "no-assigning")
	require.Contains(t, deputy(t, "", "policy", "hits", "no-assigning").out, "zendesk.tickets.assign")
	require.Equal(t, exitDone, deputy(t, "", "policy", "mode", "no-assigning", "enforce").code)
	require.Contains(t, session().err, `policy "no-assigning" forbids this session: Nobody deletes tickets`)

	writeFiles(t, map[string]string{"p/no-assigning.cedar": strings.Replace(noDeleting, "assign", "remove", 1), "p/policies.yaml": ""})
	changed := deputy(t, "", "policy", "apply", "-f", "p", "--yes", "--prune")
	require.Equal(t, exitDone, changed.code, changed.err)
	require.Contains(t, changed.out, "no-assigning: change\n")
	require.Contains(t, changed.out, "  -when { context.requested_scopes.contains(\"zendesk.tickets.assign\") };\n  +when")
	require.NotContains(t, changed.out, "mode:", "what the folder is silent of stays")
	require.Contains(t, changed.out, "max-two-hops: delete\n")
	require.Len(t, *into[[]wire.Policy](t, "", "policy", "list"), 1)
	require.Equal(t, exitDone, session().code)

	require.Len(t, *into[[]wire.Policy](t, "", "policy", "install-defaults"), shipped)
	require.Equal(t, exitDone, deputy(t, "", "policy", "delete", "max-two-hops").code)
	require.Len(t, *into[[]wire.Policy](t, "", "policy", "install-defaults"), 1)
	text := deputy(t, "", "policy", "get", "max-two-hops", "--text").out
	require.Equal(t, exitDone, deputy(t, text, "policy", "put", "copy", "-f", "-", "--mode", "off").code)
	require.Equal(t, strings.TrimSuffix(text, "\n"), into[wire.Policy](t, "", "policy", "get", "copy").Text)
}

func TestDraftsAreSimulatedFromTheCommandLine(t *testing.T) {
	inFolder(t)
	devNode(t)
	into[wire.Application](t, zendeskApplication, "application", "create", "-f", "-")
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "support-triage-agent", "zendesk").code)
	writeFiles(t, map[string]string{"no-assigning.cedar": noDeleting})
	require.True(t, into[wire.Simulation](t, "", "policy", "simulate", "--agent", "support-triage-agent").Allowed)
	draft := deputy(t, "", "policy", "simulate", "--agent", "support-triage-agent", "--policies", "no-assigning.cedar", "--time", "2026-01-05T12:00:00Z")
	require.Equal(t, exitDone, draft.code, draft.err)
	require.Regexp(t, `no-assigning +enforce +forbids`, draft.out)
}

// Who would break is asked before a policy is put: by what the agents of this node did a moment ago.
func TestDraftsAreReplayedFromTheCommandLine(t *testing.T) {
	inFolder(t)
	devNode(t)
	into[wire.Application](t, zendeskApplication, "application", "create", "-f", "-")
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "support-triage-agent", "zendesk").code)
	session := into[wire.Session](t, "", "session", "create", "--agent", "support-triage-agent")
	writeFiles(t, map[string]string{"no-assigning.cedar": noDeleting, "bad.cedar": "forbid"})
	shown := deputy(t, "", "policy", "simulate", "--file", "no-assigning.cedar", "--since", "2020-01-01T00:00:00Z")
	require.Equal(t, exitDone, shown.code, shown.err)
	require.Regexp(t, `Would break +1, of which 0 could be approved`, shown.out)
	require.Regexp(t, `support-triage-agent +1 +0 +0`, shown.out)
	require.Regexp(t, `no-assigning +1 +0 +0`, shown.out)
	require.Contains(t, shown.out, "Nobody deletes tickets")
	replay := into[wire.Replay](t, "", "policy", "simulate", "--policies", "no-assigning.cedar", "--since", "2020-01-01T00:00:00Z", "--agent", "support-triage-agent", "--examples", "1")
	require.True(t, replay.Complete)
	require.Len(t, replay.Examples, 1)
	require.Equal(t, session.SessionID, replay.Examples[0].SessionID)
	require.Equal(t, exitDone, deputy(t, "", "audit", "query", "--session", session.SessionID).code)
	require.Len(t, *into[[]wire.Policy](t, "", "policy", "list"), len(policy.Shipped()), "nothing was put")

	require.Equal(t, exitFailed, deputy(t, "", "policy", "simulate", "--file", "bad.cedar", "--since", "2020-01-01T00:00:00Z").code)
	for _, wrong := range [][]string{{"--since", "2020-01-01T00:00:00Z"}, {"--file", "no-assigning.cedar", "--since", "yesterday"}, {"--since", "1h", "--tool", "x", "--application", "y"}, {"--file", "no-assigning.cedar", "--since", "1h", "--examples", "0"}} {
		require.Equal(t, exitUsage, deputy(t, "", append([]string{"policy", "simulate"}, wrong...)...).code, wrong)
	}
}

func TestPolicyFilesAreCheckedBeforeAnybodyIsAsked(t *testing.T) {
	inFolder(t)
	n := anything(t)
	writeFiles(t, map[string]string{
		"bad/typo.cedar": "forbid (principal is Agent, action, resource) when { context.chain_deph > 1 };", "empty/README": "",
		"stray/a.cedar": noDeleting, "stray/policies.yaml": "b: {mode: monitor}\n", "mode/a.cedar": noDeleting, "mode/policies.yaml": "a: {mode: sometimes}\n",
	})
	bad := deputy(t, "", "policy", "apply", "-f", "bad", "--yes")
	require.Equal(t, exitFailed, bad.code)
	require.Contains(t, bad.err, "bad/typo.cedar")
	require.Contains(t, bad.err, `did you mean "chain_depth"?`)
	for folder, says := range map[string]string{"empty": ".cedar", "stray": "no file b.cedar", "mode": "sometimes", "nowhere": "no such file"} {
		got := deputy(t, "", "policy", "apply", "-f", folder, "--yes")
		require.Equal(t, exitFailed, got.code, folder)
		require.Contains(t, got.err, says, folder)
	}
	require.Empty(t, n.calls, "no node was asked")
	require.Equal(t, exitUsage, deputy(t, "", "policy", "mode", "a", "sometimes").code)
	require.Equal(t, exitUsage, deputy(t, "", "policy", "apply").code)
}

// The tests of a repository need no node, and their failure is one of the build.
func TestPolicyTestsRunWithoutANode(t *testing.T) {
	shipped, err := os.ReadFile("../../policy/policytest/testdata/shipped.yaml")
	require.NoError(t, err)
	inFolder(t)
	writeFiles(t, map[string]string{
		"p/no-tool.cedar": `forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"post");`,
		"cases.yaml": `applications:
  - {name: ledger, scopes: [ledger.post]}
agents:
  - {name: bookkeeper}
cases:
  - {name: no posting, action: CallTool, agent: bookkeeper, tool: {name: post, application: ledger}, expect: deny, policy: no-tool}
  - {name: reading, action: CallTool, agent: bookkeeper, tool: {name: read, application: ledger}, expect: deny}
`,
	})
	got := deputy(t, "", "policy", "test", "cases.yaml", "--policies", "p")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.out, "cases.yaml:7: reading\n  want deny\n  got  allow\n2 cases, 1 failed\n")
	require.Contains(t, deputy(t, "", "policy", "test", "cases.yaml", "--policies", "p", "-o", "json").out, `"passed": true`)
	// Those that come along, but for the network, which is off until somebody has one.
	writeFiles(t, map[string]string{"few.yaml": strings.Split(string(shipped), "  - name: from outside")[0]})
	few := deputy(t, "", "policy", "test", "few.yaml")
	require.Equal(t, exitDone, few.code, few.out)
	require.Contains(t, few.out, " 0 failed\n")
	require.Contains(t, deputy(t, "", "policy", "schema").out, "entity Agent")
}

func TestDiffKeepsWhatIsCommon(t *testing.T) {
	require.Equal(t, []string{" a", "-b", "+x", " c", "+d"}, diff("a\nb\nc", "a\nx\nc\nd"))
	require.Equal(t, []string{"+a"}, diff("", "a"))
	require.Equal(t, []string{"-a"}, diff("a", ""))
	require.Len(t, diff(strings.Repeat("x\n", diffLines+1), "y"), 2)
}
