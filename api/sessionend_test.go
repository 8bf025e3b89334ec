package api

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func TestAllSessionsOfAnAgentOrAPrincipalEndAndNewOnesMayStart(t *testing.T) {
	for query, handle := range map[string]string{"agent=inbox-assistant": "agt_inbox-assistant#", "principal=user@company.com": "usr_user@company.com#"} {
		t.Run(query, func(t *testing.T) {
			g, application, _ := newInbox(t, 2)
			n := g.nodes[1]
			start := func() wire.Session {
				return ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
			}
			before := start()
			ended := ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?"+query+"&reason=INC-42", nil), 200)
			require.Equal(t, identity.StatusActive, ended.Status)
			require.True(t, ended.Known)
			require.True(t, ended.Committed)
			require.NotZero(t, ended.Index)
			require.Len(t, ended.Handles, 1)
			require.Contains(t, string(ended.Handles[0]), handle)
			require.Nil(t, ended.Count)

			after := start()
			for _, n := range g.nodes {
				require.False(t, n.introspect("gmail", application, before.AccessToken).Active)
				require.True(t, n.introspect("gmail", application, after.AccessToken).Active)
				require.Equal(t, []string{after.SessionID}, sessionIDs(n.listed(query+"&active=true")))
				require.Len(t, n.listed(query), 2)
			}
			r := ok[[]wire.RevocationRecord](n.send("GET", "/api/v1/revocations", nil), 200)
			require.Equal(t, "INC-42", r[0].Reason)
		})
	}
}

func TestEndOfAllSessionsIsCountedFirst(t *testing.T) {
	g, application, _ := newInbox(t, 2)
	n := g.nodes[1]
	var last wire.Session
	for range 3 {
		for _, n := range g.nodes {
			last = ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
		}
	}
	ok[wire.Revocation](n.send("DELETE", sessionsPath+"/"+last.SessionID, nil), 200)
	before := n.fsm.Applied()
	for _, query := range []string{"agent=inbox-assistant", "principal=user@company.com"} {
		a := n.send("DELETE", sessionsPath+"?dry_run=true&"+query, nil)
		counted := ok[wire.SessionsEnded](a, 200)
		require.True(t, counted.DryRun)
		require.EqualValues(t, 5, counted.Count.Sessions, "one has ended already")
		require.True(t, counted.Count.Complete)
		require.Len(t, counted.Count.Nodes, 2)
		require.False(t, counted.Committed)
		require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	}
	require.Equal(t, before, n.fsm.Applied(), "nothing was changed")
	denied, _ := n.denials.seen()
	require.Len(t, denied, 1, "nor denied")

	ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?agent=inbox-assistant", nil), 200)
	require.Zero(t, ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?dry_run=true&agent=inbox-assistant", nil), 200).Count.Sessions)
	g.nodes[0].sessions.silent = "it did not answer"
	require.False(t, ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?dry_run=true&agent=inbox-assistant", nil), 200).Count.Complete)
	require.False(t, n.introspect("gmail", application, last.AccessToken).Active)
}

func TestEndOfAllSessionsNamesExactlyOne(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	before := n.fsm.Applied()
	for _, query := range []string{"", "?agent=", "?agent=inbox-assistant&principal=user@company.com", "?dry_run=true", "?agent=inbox-assistant&dryrun=true", "?agent=inbox-assistant&dry_run=1", "?agent=inbox-assistant&limit=1"} {
		n.send("DELETE", sessionsPath+query, nil).refused(identity.CodeInvalid)
	}
	n.send("DELETE", sessionsPath+"?agent=nobody", nil).refused(identity.CodeNotFound)
	n.send("DELETE", sessionsPath+"?principal=nobody@x", nil).refused(identity.CodeNotFound)
	n.send("DELETE", sessionsPath+"?principal=nobody@x&dry_run=true", nil).refused(identity.CodeNotFound)
	n.send("DELETE", sessionsPath+"?agent=inbox-assistant", nil, token(runtimeToken)).refused(identity.CodeForbidden)
	require.Equal(t, before, n.fsm.Applied())
	denied, _ := n.denials.seen()
	require.Empty(t, denied)
}

func TestEndOfAllSessionsIsFenced(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	a := g.nodes[1].send("DELETE", sessionsPath+"?agent=inbox-assistant&wait=fenced", nil)
	ended := ok[wire.SessionsEnded](a, 200)
	require.True(t, ended.Fenced)
	require.Equal(t, "true", a.Header.Get(wire.HeaderFenced))
	require.Len(t, ended.Nodes, 2)
	require.Equal(t, 2, ended.Denied.Nodes)
	fences := g.nodes[0].cluster.raised()
	require.Equal(t, ended.Handles[0], fences[0].entries[0].Handle)
}

func TestEndOfAllSessionsIsKeptWithoutAMajority(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	g.lead(-1)
	kept := ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?agent=inbox-assistant&reason=r", nil), 202)
	require.False(t, kept.Committed)
	require.Equal(t, identity.StatusActive, kept.Status)
	require.True(t, n.revoked.Revoked(kept.Handles...))
	require.Equal(t, fsm.KillAgent{Name: "inbox-assistant", KeepActive: true, Reason: "r"}, n.denials.kept[0].Body)
	n.send("DELETE", sessionsPath+"?principal=nobody@x", nil).refused(identity.CodeNoLeader)
}
