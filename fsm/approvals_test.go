package fsm

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// One agent can't fill the table, and all of them together can't make it grow: what nothing can come of any more makes
// room, and what somebody waits for stays.
func TestApprovalsAreBounded(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("chatty")})
	next := uint64(0)
	ask := func(agent, binding string) Result {
		next++
		return m.do(RequestApproval{testApproval(next, agent, binding)})
	}
	for i := range identity.MaxPendingApprovals {
		require.Nil(t, ask("chatty", fmt.Sprint("b", i)).Err)
	}
	require.Equal(t, identity.CodeLimitReached, ask("chatty", "one more").Err.Code)
	require.Nil(t, ask("chatty", "b0").Err, "who asks again asks nothing new")
	must1[*identity.Approval](m, DecideApproval{ID: approvalID(1)})
	require.Nil(t, ask("chatty", "one more").Err)

	for i := range identity.MaxApprovalAskers - 1 {
		r := m.propose(Command{By: fmt.Sprint("tok_", i), Body: RequestApproval{testApproval(9_999_999, "chatty", "b1")}})
		require.Nil(t, r.Err)
	}
	r := m.propose(Command{By: "tok_late", Body: RequestApproval{testApproval(9_999_999, "chatty", "b1")}})
	require.Equal(t, identity.CodeLimitReached, r.Err.Code)

	for n := 0; m.fsm.View().Counts().Approvals < identity.MaxApprovals; n++ {
		name := fmt.Sprint("agent-", n/identity.MaxPendingApprovals)
		if n%identity.MaxPendingApprovals == 0 {
			must1[*identity.Agent](m, CreateAgent{testAgent(name)})
		}
		require.Nil(t, ask(name, fmt.Sprint("b", n)).Err)
	}
	must1[*identity.Agent](m, CreateAgent{testAgent("latest")})
	require.Equal(t, identity.CodeLimitReached, ask("latest", "b").Err.Code, "all of them wait for somebody")
	m.propose(Command{By: "tok_boss", Body: DecideApproval{ID: approvalID(2), Approve: true}})
	used := must1[*identity.Approval](m, ConsumeApproval{ID: approvalID(2), Agent: "chatty", Binding: "b1"})
	require.Equal(t, identity.ApprovalConsumed, used.Status)
	require.Nil(t, ask("latest", "b").Err)
	_, kept := m.fsm.View().Approval(approvalID(2))
	require.False(t, kept)
	require.Equal(t, identity.MaxApprovals, m.fsm.View().Counts().Approvals)

	m.pass(time.Hour + keepExpired)
	purged := must1[*Purged](m, Purge{})
	require.Equal(t, identity.MaxApprovals, purged.Approvals)
	require.True(t, purged.More)
	require.Zero(t, m.fsm.View().Counts().Approvals)
	require.Zero(t, m.fsm.state.approvalsByBinding.len())
}

// A backup has no approvals, and a restore leaves none.
func TestApprovalsAreInNoBackup(t *testing.T) {
	old := backedUp(t)
	must1[*identity.Agent](old, CreateAgent{testAgent("asks")})
	must1[*identity.Approval](old, RequestApproval{testApproval(1, "asks", "b1")})
	file, _ := backupOf(t, old)
	m := fresh(t)
	require.NoError(t, m.restore(file))
	require.Zero(t, m.fsm.View().Counts().Approvals)
	_, there := m.fsm.View().Agent("asks")
	require.True(t, there)

	m = fresh(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("asks")})
	must1[*identity.Approval](m, RequestApproval{testApproval(1, "asks", "b1")})
	must1[*AgentChange](m, DeleteAgent{Name: "asks"})
	require.NoError(t, m.restore(file))
	require.Zero(t, m.fsm.View().Counts().Approvals)
}
