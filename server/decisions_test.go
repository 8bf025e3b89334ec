package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// Who would break is told from what all nodes have recorded, whichever is asked; a node that is down is named, and its
// records follow when it is back.
func TestDraftIsReplayedOverTheTrailsOfAllNodes(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	_, agent := auditCast(t, c)
	began := time.Now().Add(-time.Minute)
	index := c.Node(0).View().Index()
	for i := range 3 {
		at := c.Client(i)
		at.Observe(index)
		for range 5 + i {
			_, err := at.MintToken(t.Context(), agent, client.TokenOptions{TriggerReason: "month's end"})
			require.NoError(t, err)
		}
	}
	draft := []wire.PolicyRequest{{ID: "no-books", Text: `forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"ledger") when { context.trigger_reason == "month's end" };`}}
	r := wire.ReplayRequest{From: identity.InstantOf(began)}
	for i := range 3 {
		whole, err := c.Client(i).Replay(t.Context(), r, draft)
		require.NoError(t, err)
		require.True(t, whole.Complete)
		require.EqualValues(t, []int64{18, 18}, []int64{whole.Records, whole.Breaks})
		require.Equal(t, "bookkeeper", whole.Agents[0].AgentID)
		require.EqualValues(t, 18, whole.Agents[0].Breaks)
		for _, x := range whole.Examples {
			require.Equal(t, identity.CodePolicyDenied, x.Refusal.Code)
		}
	}
	r.Records = 4
	all, err := c.Client(1).ReplayAll(t.Context(), r, draft)
	require.NoError(t, err)
	require.True(t, all.Complete)
	require.EqualValues(t, []int64{18, 18}, []int64{all.Records, all.Breaks}, "in parts it comes to the same")

	down := (c.Leader() + 1) % 3
	asked := c.Client((down + 1) % 3)
	c.Stop(down)
	r.Records = 0
	part, err := asked.ReplayAll(t.Context(), r, draft)
	require.NoError(t, err)
	require.False(t, part.Complete)
	require.EqualValues(t, 18-5-down, part.Breaks)
	for _, n := range part.Nodes {
		require.Equal(t, n.ID != c.Node(down).ID, n.Replied, n.ID)
	}
	c.Restart(down)
	r.After = part.Cursor
	require.Eventually(t, func() bool {
		rest, err := asked.ReplayAll(t.Context(), r, draft)
		if err != nil || !rest.Complete {
			return false
		}
		require.EqualValues(t, 5+down, rest.Breaks)
		return true
	}, auditWait, 50*time.Millisecond)
}

// The leader is lost between a human's yes to a tool call and its use: the call is allowed all the same, once, and the
// trail has the whole story, with the address that the agent called from and the one that asked.
func TestToolApprovalOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	application, agent := auditCast(t, c)
	admin := c.Client()
	_, err := admin.CreatePolicy(t.Context(), wire.PolicyRequest{
		ID: "posting", Text: `@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"post") unless { context.approval };`,
	})
	require.NoError(t, err)
	token, err := admin.MintToken(t.Context(), agent, client.TokenOptions{})
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(`{"amount":100}`))
	question := func(approval string) wire.AccessEvaluation {
		context := map[string]any{"source_ip": "203.0.113.7"}
		if approval != "" {
			context["approval"] = wire.DecisionApproval{ID: approval}
		}
		text, err := json.Marshal(context)
		require.NoError(t, err)
		properties, err := json.Marshal(map[string]string{"arguments_hash": hex.EncodeToString(sum[:]), "required_scope": "ledger.read"})
		require.NoError(t, err)
		return wire.AccessEvaluation{
			Subject: wire.AccessSubject{Type: "session", ID: token.AccessToken}, Action: wire.AccessAction{Name: wire.ActionCallTool},
			Resource: wire.AccessResource{Type: "tool", ID: "post", Properties: properties}, Context: text,
		}
	}
	leader := c.Leader()
	one, other := c.Client((leader+1)%3), c.Client((leader+2)%3)
	one.Observe(admin.Index())
	other.Observe(admin.Index())
	denied, err := one.EvaluateAccess(t.Context(), question(""), &application)
	require.NoError(t, err)
	require.False(t, denied.Decision)
	id := denied.Context.AccessRequest.Task.ID
	_, err = admin.Approve(t.Context(), id, "INC-7")
	require.NoError(t, err)
	for _, i := range []int{(leader + 1) % 3, (leader + 2) % 3} {
		require.Eventually(t, func() bool {
			approval, known := c.Node(i).View().Approval(id)
			return known && approval.Status == identity.ApprovalApproved
		}, auditWait, 5*time.Millisecond)
	}
	c.Stop(leader)
	require.Eventually(t, func() bool {
		d, err := other.EvaluateAccess(t.Context(), question(id), &application)
		return err == nil && d.Decision
	}, auditWait, 20*time.Millisecond)
	again, err := one.EvaluateAccess(t.Context(), question(id), &application)
	require.NoError(t, err)
	require.False(t, again.Decision, "at the other node, too")

	p, err := other.Audit(t.Context(), client.AuditFilter{Kind: "evaluate", Decision: "allowed", Approval: id}, client.List{})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	r := p.Items[0]
	require.Equal(t, "203.0.113.7", r.SourceIP)
	require.Regexp(t, `^asked from 127\.0\.0\.1$`, r.Detail)
	require.Equal(t, token.SessionID, r.Session)
	require.Equal(t, hex.EncodeToString(sum[:]), r.ArgumentsHash)
}
