package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// An agent is refused, a person looks at what it asks for, says yes or no, and the agent hears of it.
func TestApprovalsAreDecidedFromTheCommandLine(t *testing.T) {
	inFolder(t)
	devNode(t)
	into[wire.Application](t, `{"name":"ledger","audience":"https://ledger.example.com","scopes":["ledger.post"],"tags":["production-write"]}`, "application", "create", "-f", "-")
	agent := into[wire.Agent](t, `{"profile":{"name":"bookkeeper","agent_type":"autonomous"},"default_scopes":["ledger.post"],"applications":["ledger"]}`, "agent", "create", "-f", "-", "--with-secret")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(agent.Credential.Secret), 0o600))
	mint := func(reason string) outcome {
		return deputy(t, "", "token", "mint", "--client-id", "bookkeeper", "--client-secret-file", secret, "--reason", reason)
	}
	pending := func() []wire.Approval {
		return *into[[]wire.Approval](t, "", "approvals", "list", "--status", "pending", "--agent", "bookkeeper")
	}

	refused := mint("month's end")
	require.Equal(t, exitFailed, refused.code)
	asked := pending()
	require.Len(t, asked, 1)
	id := asked[0].ID
	require.Contains(t, refused.err, "deputy approval approve "+id)
	require.Regexp(t, id+` +pending +bookkeeper .*month's end +bookkeeper`, deputy(t, "", "approvals", "list").out)
	shown := deputy(t, "", "approvals", "show", id)
	require.Equal(t, exitDone, shown.code, shown.err)
	for _, line := range []string{`Status +pending`, `Agent +bookkeeper`, `On behalf of +nobody \(autonomous\)`, `Set off by +month's end`, `Policy +production-write-needs-approval`, `Asked by +bookkeeper`} {
		require.Regexp(t, line, shown.out)
	}
	require.Equal(t, exitFailed, deputy(t, "", "approval", "wait", id, "--for", "1s").code, "nobody has decided")

	yes := into[wire.Approval](t, "", "approvals", "approve", id, "--note", "INC-7")
	require.Equal(t, identity.ApprovalApproved, yes.Status)
	require.Equal(t, "INC-7", yes.Note)
	require.Equal(t, exitDone, deputy(t, "", "approval", "wait", id).code)
	require.Equal(t, exitFailed, mint("another month").code, "the yes is to what was asked")
	minted := mint("month's end")
	require.Equal(t, exitDone, minted.code, minted.err)
	require.Equal(t, identity.ApprovalConsumed, into[wire.Approval](t, "", "approvals", "show", id).Status)
	twice := deputy(t, "", "approvals", "approve", id)
	require.Equal(t, exitFailed, twice.code)
	require.Contains(t, twice.err, "is consumed already")

	other := pending()
	require.Len(t, other, 1)
	no := deputy(t, "", "approvals", "deny", other[0].ID, "--note", "not this month")
	require.Equal(t, exitDone, no.code, no.err)
	require.Regexp(t, `Status +denied`, no.out)
	require.Contains(t, mint("another month").err, "not this month")
	require.Equal(t, exitFailed, deputy(t, "", "approval", "wait", other[0].ID).code)
	require.Len(t, *into[[]wire.Approval](t, "", "approvals", "list", "--status", "denied"), 1)
	require.Empty(t, pending())

	unknown := deputy(t, "", "approvals", "show", "apr_01ks8n1x5b5e5fh2wwt0rrnq7a")
	require.Equal(t, exitFailed, unknown.code)
	require.Equal(t, exitFailed, deputy(t, "", "approvals", "list", "--status", "open").code)
	require.Equal(t, exitUsage, deputy(t, "", "approvals", "approve").code)
}

// Whose call it is belongs to what is decided on, whether it is of a session or of a tool.
func TestApproverIsShownForWhomAToolIsCalled(t *testing.T) {
	for principal, shown := range map[string]string{"ann@example.com": "ann@example.com", "": `nobody \(autonomous\)`} {
		var out bytes.Buffer
		a := &app{out: &out, output: formatTable, now: time.Now}
		require.NoError(t, a.showApproval(&wire.Approval{Kind: identity.ApprovalTool, AgentID: "bookkeeper", Tool: "send", PrincipalUserID: principal}))
		require.Regexp(t, `On behalf of +`+shown, out.String())
	}
}
