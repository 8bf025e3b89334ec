package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Answers to a kill: everybody has acknowledged; one could not be reached and its lease ran out; one is missing.
const (
	killFenced = `{"id":"a-1","status":"suspended","handles":["agt_a-1#4"],"active_delegations":212,"agents":1,"principals":198,"known":true,"index":111,
  "committed":true,"fenced":true,"denied":{"nodes":3,"of":3,"after_ms":4.04},
  "nodes":[{"id":"n1","state":"fenced","after_ms":1.3},{"id":"n2","state":"fenced","after_ms":12.2},{"id":"n3","state":"fenced","after_ms":2}],
  "validators_until":"2026-04-17T08:00:10.000Z","offline_until":"2026-04-17T08:05:04.000Z"}`
	killLeaseExpired = `{"id":"a-1","committed":true,"fenced":true,"denied":{"nodes":2,"of":3,"after_ms":0.05},
  "nodes":[{"id":"n1","state":"fenced","after_ms":1.3},{"id":"n2","state":"lease-expired","after_ms":9870.4},{"id":"n3","state":"fenced","after_ms":2}],
  "validators_until":"2026-04-17T07:59:00.000Z","offline_until":"2026-04-20T08:00:00.000Z"}`
	killWaiting = `{"id":"a-1","committed":true,"fenced":false,"denied":{"nodes":1,"of":3,"after_ms":900},
  "nodes":[{"id":"n1","state":"fenced","after_ms":1.3},{"id":"n2","state":"waiting","after_ms":15000},{"id":"n3","state":"waiting","after_ms":15000}]}`
	killKept = `{"id":"a-1","status":"active","handles":["agt_a-1#4"],"known":true,"committed":false,"fenced":false,"denied":{"nodes":1,"of":3,"after_ms":0},
  "detail":"no majority can be reached"}`
)

func TestStopsAskForWhatTheyWaitFor(t *testing.T) {
	for _, test := range []struct{ args, query string }{
		{"agent kill a-1", "timeout_seconds=15&wait=fenced"},
		{"agent kill a-1 --wait committed", ""},
		{"agent kill a-1 --dry-run", "dry_run=true&timeout_seconds=15&wait=fenced"},
		{"agent kill a-1 --wait-timeout 1m", "timeout_seconds=60&wait=fenced"},
		{"agent revoke a-1", ""},
		{"agent revoke a-1 --wait fenced --wait-timeout 1500ms", "timeout_seconds=2&wait=fenced"},
		{"agent revoke a-1 --wait-timeout 1m", ""},
		{"agent suspend a-1 --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"agent delete a-1 --wait fenced --reason r", "reason=r&timeout_seconds=15&wait=fenced"},
		{"agent credential revoke a-1 crd_1 --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"principal kill u@x", "timeout_seconds=15&wait=fenced"},
		{"principal revoke u@x --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"principal delete u@x --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"delegation withdraw dlg_1 --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"session end ses_1 --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"revocation create --agent a-1 --wait fenced", "timeout_seconds=15&wait=fenced"},
		{"api-token delete tok_1 --wait fenced", "timeout_seconds=15&wait=fenced"},
	} {
		n := anything(t)
		got := deputy(t, "", strings.Fields(test.args)...)
		require.Equal(t, exitDone, got.code, "%s: %s", test.args, got.err)
		require.Equal(t, test.query, n.last(t).query, test.args)
	}
}

func TestFencedKillSaysHowLongItTook(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/agents/a-1/revoke": answer(killFenced)})
	got := deputy(t, "", "agent", "kill", "a-1")
	require.Equal(t, exitDone, got.code, got.err)
	require.Empty(t, got.err)
	require.Equal(t, `Id                  a-1
Status              suspended
Revoked             agt_a-1#4
Active delegations  212
Agents touched      1
Principals touched  198
Committed           yes
Stopped             denied on 3/3 nodes in 4.0 ms, fenced 12 ms after the commit
Followers           services that follow a node's revocations refuse it within 10s
Offline             tokens for services that never ask have ended within 5m4s
`, got.out)
	require.JSONEq(t, killFenced, deputy(t, "", "agent", "kill", "a-1", "-o", "json").out)
}

func TestFenceTellsOfNodesThatCouldNotBeAsked(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/principals/u@x/revoke": answer(killLeaseExpired)})
	got := deputy(t, "", "principal", "kill", "u@x")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "denied on 2/3 nodes in <0.1 ms, fenced 9.9 s after the commit (1 by the end of its lease)\n")
	require.Contains(t, got.out, "refuse it by now\n")
	require.Contains(t, got.out, "have ended by 2026-04-20 08:00Z\n")
}

func TestMissingFenceIsAFailureThatNamesTheNodes(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/agents/a-1/revoke": answer(killWaiting),
		"DELETE /api/v1/sessions/ses_1":  answer(`{"handles":["ses_1"],"known":true,"committed":true,"fenced":false}`),
	})
	got := deputy(t, "", "agent", "kill", "a-1")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.out, "denied on 1/3 nodes in 900 ms, NOT fenced\n")
	require.NotContains(t, got.out, "Offline", "nothing is promised without a fence")
	require.Equal(t, "error: it is not fenced: n2, n3 may still act as if nothing had been stopped; ask again, or wait for the lease to run out\n", got.err)

	got = deputy(t, "", "agent", "kill", "a-1", "-o", "json")
	require.Equal(t, exitFailed, got.code, "a script sees it by the exit code as well")
	require.Contains(t, got.out, `"fenced": false`)

	got = deputy(t, "", "session", "end", "ses_1", "--wait", "fenced")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "some node may still act")
	require.Equal(t, exitDone, deputy(t, "", "session", "end", "ses_1").code, "who did not ask for a fence misses none")
}

func TestStopThatIsKeptIsNoCommittedOne(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/agents/a-1/revoke": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(killKept))
	}})
	got := deputy(t, "", "agent", "revoke", "a-1")
	require.Equal(t, exitDone, got.code, "it is neither refused nor failed")
	require.Contains(t, got.out, "Committed           no\n")
	require.Contains(t, got.err, "not committed: no majority can be reached")

	got = deputy(t, "", "agent", "kill", "a-1")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.out, "Stopped             denied on 1/3 nodes in <0.1 ms\n")
	require.Contains(t, got.err, "not committed: no majority can be reached")
	require.Contains(t, got.err, "error: it is not fenced")
}

func TestDryRunSaysWhatAKillWouldTouch(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/agents/a-1/revoke": answer(
		`{"id":"a-1","status":"active","handles":["agt_a-1#4"],"active_delegations":100000,"agents":1,"principals":99000,"truncated":true,"known":true,"dry_run":true,"committed":false,"fenced":false}`)})
	got := deputy(t, "", "agent", "kill", "a-1", "--dry-run")
	require.Equal(t, exitDone, got.code, got.err)
	require.Empty(t, got.err, "nothing was to be committed or fenced")
	require.Equal(t, `Dry run             nothing was changed
Id                  a-1
Status              active
Would revoke        agt_a-1#4
Active delegations  100000 or more
Agents touched      1 or more
Principals touched  99000 or more
And                 every session of the agent, and of sub-agents that run under it: 'deputy session list' has them
`, got.out)
}

func TestBadWaitIsSaidBeforeAnythingIsAsked(t *testing.T) {
	n := newFakeNode(t, nil)
	for args, want := range map[string]string{
		"agent kill a-1 --wait never":             `--wait is "never"; it must be committed or fenced`,
		"principal kill u@x --wait-timeout 999ms": "--wait-timeout is 999ms; it must be between 1s and 60s",
		"session end ses_1 --wait-timeout 61s":    "--wait-timeout is 1m1s; it must be between 1s and 60s",
	} {
		got := deputy(t, "", strings.Fields(args)...)
		require.Equal(t, exitUsage, got.code, args)
		require.Equal(t, "error: "+want+"\n", got.err)
	}
	require.Empty(t, n.calls)
}

func TestUnansweredStopMayHaveHappened(t *testing.T) {
	release := make(chan struct{})
	slow := func(http.ResponseWriter, *http.Request) { <-release }
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/agents/a-1/revoke": slow,
		"DELETE /api/v1/sessions/ses_1":  slow,
	})
	defer close(release)
	got := deputy(t, "", "agent", "kill", "a-1", "--timeout", "20ms", "--wait-timeout", "1s")
	require.Equal(t, exitUnreachable, got.code)
	require.Equal(t, "error: no answer within 1.02s\nhint: it may have been stopped all the same; ask again: to stop something twice does no harm\n", got.err,
		"the fence is waited for beyond --timeout, and the message counts it")
	require.Contains(t, deputy(t, "", "session", "end", "ses_1", "--timeout", "20ms").err, "no answer within 20ms\nhint: it may have been stopped")
}

func TestEveryKindOfStopIsToldAlike(t *testing.T) {
	for _, test := range []struct{ request, body, args, out string }{
		{"POST /api/v1/agents/a-1/lifecycle/suspend", `{"agent":{"id":"a-1","status":"suspended"},"handles":["agt_a-1#1"],%s}`, "agent suspend a-1", "Status     suspended"},
		{"DELETE /api/v1/agents/a-1", `{"id":"a-1","handles":["agt_a-1#1"],"known":true,%s}`, "agent delete a-1", "Deleted    a-1"},
		{"DELETE /api/v1/delegations/dlg_1", `{"id":"dlg_1","handles":["dlg_1"],"known":true,%s}`, "delegation withdraw dlg_1", "Withdrawn  dlg_1"},
		{"DELETE /api/v1/sessions/ses_1", `{"handles":["ses_1"],"known":true,%s}`, "session end ses_1", "Revoked    ses_1"},
		{"DELETE /api/v1/api-tokens/tok_1", `{"id":"tok_1","known":true,%s}`, "api-token delete tok_1", "Deleted    tok_1"},
		{"POST /api/v1/revocations", `{"handles":["ses_1"],"known":true,%s}`, "revocation create --session ses_1", "Revoked    ses_1"},
	} {
		stop := `"committed":true,"fenced":true,"nodes":[{"id":"n1","state":"fenced","after_ms":30.04}]`
		newFakeNode(t, map[string]http.HandlerFunc{test.request: answer(strings.Replace(test.body, "%s", stop, 1))})
		got := deputy(t, "", append(strings.Fields(test.args), "--wait", "fenced")...)
		require.Equal(t, exitDone, got.code, "%s: %s", test.args, got.err)
		require.Contains(t, got.out, test.out)
		require.Contains(t, got.out, "fenced 30 ms after the commit\n")
	}
}

func TestDigitsSaySomething(t *testing.T) {
	for ms, want := range map[float64]string{0: "<0.1 ms", 0.09: "<0.1 ms", 0.1: "0.1 ms", 4.04: "4.0 ms", 9.9: "9.9 ms", 12.2: "12 ms", 999: "999 ms", 9870.4: "9.9 s"} {
		require.Equal(t, want, millis(ms))
	}
	s := &sheet{now: testNow}
	for offset, want := range map[time.Duration]string{-time.Second: "by now", 0: "by now", 90 * time.Second: "within 1m30s", 49 * time.Hour: "by 2026-04-19 09:00Z"} {
		require.Equal(t, want, s.by(identity.InstantOf(testNow.Add(offset))))
	}
}

func TestKillByCommandLineIsFenced(t *testing.T) {
	devNode(t)
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	kill := into[wire.Kill](t, "", "agent", "kill", "support-triage-agent", "--reason", "INC-42")
	require.True(t, kill.Committed)
	require.True(t, kill.Fenced)
	require.Equal(t, &wire.Denied{Nodes: 1, Of: 1}, &wire.Denied{Nodes: kill.Denied.Nodes, Of: kill.Denied.Of})
	require.Equal(t, []string{"dev", wire.NodeFenced}, []string{kill.Nodes[0].ID, kill.Nodes[0].State})
	require.False(t, kill.OfflineUntil.IsZero())

	got := deputy(t, "", "agent", "revoke", "support-triage-agent")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "Committed           yes\n")
	require.NotContains(t, got.out, "fenced")
}
