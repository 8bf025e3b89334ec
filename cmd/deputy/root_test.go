package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func TestExitCodesTellFailuresApart(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents":       answer(`[]`),
		"GET /api/v1/agents/a-1":   problem(http.StatusForbidden, identity.CodeForbidden, "role auditor is missing", ""),
		"POST /api/v1/agents":      problem(http.StatusServiceUnavailable, identity.CodeInternal, "broke", ""),
		"POST /oauth2/introspect":  answer(`{"active":false}`),
		"GET /api/v1/applications": answer(`not json`),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	nobody := "--addr=" + l.Addr().String()

	for _, test := range []struct {
		want int
		args string
	}{
		{exitDone, "agent list"},
		{exitDone, "version"},
		{exitDone, "help"},
		{exitDone, "agent"},
		{exitDone, "agent list --help"},
		{exitDone, "completion bash"},
		{exitFailed, "agent get a-1"},
		{exitFailed, "agent get unknown"},
		{exitFailed, "agent create a-1"},
		{exitFailed, "application list"},
		{exitFailed, "agent create -f /does/not/exist"},
		{exitFailed, "server --config /does/not/exist"},
		{exitUsage, "nonsense"},
		{exitUsage, "agent nonsense"},
		{exitUsage, "agent list --nonsense"},
		{exitUsage, "agent list too many"},
		{exitUsage, "agent get"},
		{exitUsage, "agent list -o xml"},
		{exitUsage, "version -o xml"},
		{exitUsage, "agent create"},
		{exitUsage, "agent create a-1 -f agent.json"},
		{exitUsage, "agent create --scope a -f agent.json"},
		{exitUsage, "agent update a-1"},
		{exitUsage, "agent update a-1 --replace"},
		{exitUsage, "agent assign a-1"},
		{exitUsage, "agent credential create a-1 --expires-in -1h"},
		{exitUsage, "delegation create --agent a-1"},
		{exitUsage, "session create"},
		{exitUsage, "session end"},
		{exitUsage, "session end ses_1 --agent a"},
		{exitUsage, "session end --agent a --principal u"},
		{exitUsage, "session end ses_1 --dry-run"},
		{exitUsage, "session end ses_1 ses_2"},
		{exitUsage, "revocation create --agent a --session b"},
		{exitUsage, "token mint"},
		{exitUsage, "token introspect x"},
		{exitUsage, "api-token create ci"},
		{exitUsage, "agent list --addr ftp://x"},
		{exitUsage, "server"},
		{exitUsage, "server --dev --config x"},
		{exitUsage, "server --dev --join x"},
		{exitUsage, "server --config x --listen y"},
		{exitUsage, "server --config x --yes"},
		{exitUsage, "server --config x --recover-quorum"},
		{exitUsage, "server --config x --recover-quorum --yes --join t"},
		{exitUsage, "server --dev --recover-quorum --yes"},
		{exitUsage, "agent kill"},
		{exitUsage, "agent kill a-1 --wait never"},
		{exitUsage, "agent revoke a-1 --wait-timeout 999ms"},
		{exitUsage, "session end ses_1 --wait fenced --wait-timeout 61s"},
		{exitUsage, "cluster drain"},
		{exitUsage, "cluster remove"},
		{exitUsage, "cluster rotate-keys n1 n2"},
		{exitUsage, "cluster settings set"},
		{exitUsage, "cluster snapshot save"},
		{exitUsage, "cluster restore"},
		{exitUsage, "cluster restore file"},
		{exitUsage, "cluster open"},
		{exitUsage, "revocation export --since yesterday"},
		{exitFailed, "cluster snapshot inspect /does/not/exist"},
		{exitFailed, "cluster snapshot restore /does/not/exist"},
		{exitFailed, "cluster snapshot save /does/not/exist/file"},
		{exitFailed, "cluster restore --replay /does/not/exist"},
		{exitUsage, "demo --base-port 70000"},
		{exitUnreachable, "agent list " + nobody},
	} {
		t.Run(test.args, func(t *testing.T) {
			got := deputy(t, "", strings.Fields(test.args)...)
			require.Equal(t, test.want, got.code, "stdout: %s\nstderr: %s", got.out, got.err)
			if test.want != exitDone {
				require.Contains(t, got.err, "error: ")
				require.Empty(t, got.out, "an error leaves nothing on standard output")
			}
		})
	}
}

func TestErrorShowsDetailFieldsAndHint(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/agents": problem(http.StatusUnprocessableEntity, identity.CodeValidation, "the agent is not valid",
			`,"hint":"mend it","errors":[{"pointer":"/profile/name","detail":"is missing"},{"pointer":"/x","detail":"is odd"}]`),
		"GET /api/v1/agents": problem(http.StatusInternalServerError, identity.CodeInternal, "something broke", ""),
	})
	require.Equal(t, `error: the agent is not valid
  /profile/name is missing
  /x is odd
hint: mend it
`, deputy(t, "{}", "agent", "create", "-f", "-").err)
	require.Contains(t, deputy(t, "", "agent", "list").err, "request req_7 at http://127.0.0.1:")
}

func TestMissingTokenIsHintedAt(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents": problem(http.StatusUnauthorized, identity.CodeUnauthenticated, "no token", `,"hint":"send Authorization"`),
	})
	require.Contains(t, deputy(t, "", "agent", "list").err, "hint: send Authorization")
	t.Setenv(envToken, "")
	require.Contains(t, deputy(t, "", "agent", "list").err, "hint: set DEPUTY_TOKEN")
}

func TestTextFromElsewhereCannotSteerTheTerminal(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents/a-1": answer(`{"id":"a-1","profile":{"name":"a-1","description":"x\u001b[2Jy\u202ez\nw"}}`),
		"GET /api/v1/agents/a-2": problem(http.StatusConflict, identity.CodeConflict, `\u001b]0;title\u0007`, ""),
	})
	got := deputy(t, "", "agent", "get", "a-1")
	require.Contains(t, got.out, "x\uFFFD[2Jy\uFFFDz w")
	require.NotContains(t, got.out+deputy(t, "", "agent", "get", "a-2").err, "\x1b")
}

func TestSlowNodeEndsInTheTimeout(t *testing.T) {
	release := make(chan struct{})
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents": func(http.ResponseWriter, *http.Request) { <-release },
	})
	defer close(release)
	got := deputy(t, "", "agent", "list", "--timeout", "20ms")
	require.Equal(t, exitUnreachable, got.code)
	require.Equal(t, "error: no answer within 20ms\nhint: --timeout waits longer\n", got.err)
}

func TestUnreachableNodeIsNoLateAnswer(t *testing.T) {
	// A dial that times out, too, is a node that can't be reached, long before the command's own time is over.
	unreachable := &client.UnreachableError{Failures: []client.Failure{{Address: "http://n1", Err: os.ErrDeadlineExceeded}, {Address: "http://n2", Err: context.DeadlineExceeded}}}
	require.Equal(t, error(unreachable), late(t.Context(), unreachable, time.Second))
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	require.Equal(t, "after 3 of 5: no answer within 1s", late(over, fmt.Errorf("after 3 of 5: %w", unreachable), time.Second).Error())
}

func TestChecksBeforeACommandRunOneAfterTheOther(t *testing.T) {
	var ran []string
	cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }}
	for _, name := range []string{"a", "b"} {
		before(cmd, func() error { ran = append(ran, name); return nil })
	}
	cmd.SetArgs(nil)
	require.NoError(t, cmd.Execute())
	require.Equal(t, []string{"a", "b"}, ran)
}

func TestEveryCommandExplainsItself(t *testing.T) {
	a := &app{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.Nil(t, c.PreRun, "%s has a PreRun, which cobra ignores beside PreRunE; see before", c.CommandPath())
		if !c.HasSubCommands() {
			require.NotEmpty(t, c.Example, "%s has no example", c.CommandPath())
			require.Contains(t, c.Example, "deputy ", "the example of %s is no command", c.CommandPath())
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(a.root())
}

func TestDevelopmentNodeIsFoundByItself(t *testing.T) {
	n := newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/agents": answer(`[]`)})
	t.Setenv(envAddress, "")
	t.Setenv(envToken, "")
	access := &devAccess{Address: n.URL, Token: "dpt_dev"}
	path, err := access.write()
	require.NoError(t, err)

	require.Equal(t, exitDone, deputy(t, "", "agent", "list").code)
	require.Equal(t, "SSWS dpt_dev", n.last(t).header.Get("Authorization"))

	// The operator's own token goes before.
	t.Setenv(envToken, "dpt_mine")
	require.Equal(t, exitDone, deputy(t, "", "agent", "list").code)
	require.Equal(t, "SSWS dpt_mine", n.last(t).header.Get("Authorization"))
	t.Setenv(envToken, "")

	// The development token is shown to nobody but the development node.
	other := newFakeNodeBeside(t, n)
	require.Equal(t, exitDone, deputy(t, "", "agent", "list", "--addr", other.URL).code)
	require.Empty(t, other.last(t).header.Get("Authorization"))
	require.Equal(t, exitDone, deputy(t, "", "agent", "list", "--addr", n.URL+"/").code)
	require.Equal(t, "SSWS dpt_dev", n.last(t).header.Get("Authorization"))

	require.NoError(t, os.Chmod(path, 0o640))
	got := deputy(t, "", "agent", "list")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "others can read it")
	require.NoError(t, os.Chmod(path, 0o600))

	// At its end a node removes its own file, and only its own.
	(&devAccess{Address: n.URL, Token: "dpt_other"}).remove()
	require.FileExists(t, path)
	access.remove()
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	require.Contains(t, deputy(t, "", "agent", "list").err, "is damaged; remove it")
}

// newFakeNodeBeside makes a second node that answers the same, without touching the environment.
func newFakeNodeBeside(t *testing.T, n *fakeNode) *fakeNode {
	t.Helper()
	config, address, token := os.Getenv("XDG_CONFIG_HOME"), os.Getenv(envAddress), os.Getenv(envToken)
	other := newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/agents": answer(`[]`)})
	t.Setenv("XDG_CONFIG_HOME", config)
	t.Setenv(envAddress, address)
	t.Setenv(envToken, token)
	require.NotEqual(t, n.URL, other.URL)
	return other
}

func TestSeveralAddressesAreTriedInTurn(t *testing.T) {
	n := newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/agents": answer(`[]`)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	t.Setenv(envAddress, l.Addr().String()+","+n.URL)
	require.Equal(t, exitDone, deputy(t, "", "agent", "list").code)
}

func TestNamesAreCompletedFromTheCluster(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents":          answer(`[{"id":"a-1"},{"id":"a-2"}]`),
		"GET /api/v1/applications":    answer(`[{"id":"z"}]`),
		"GET /api/v1/cluster/members": answer(`[{"id":"n1"}]`),
	})
	for args, want := range map[string]string{
		"agent get":              "a-1\na-2\n",
		"application get":        "z\n",
		"cluster remove":         "n1\n",
		"session create --agent": "a-1\na-2\n",
		"agent list -o":          "table\njson\nyaml\n",
	} {
		got := deputy(t, "", append(append([]string{"__complete"}, strings.Fields(args)...), "")...)
		require.True(t, strings.HasPrefix(got.out, want), "%s: %s", args, got.out)
	}
	t.Setenv(envAddress, "ftp://x")
	require.Equal(t, exitDone, deputy(t, "", "__complete", "agent", "get", "").code, "a shell is never bothered with errors")
}

func TestTimesReadLikeSpeech(t *testing.T) {
	s := &sheet{now: testNow}
	for _, test := range []struct {
		offset time.Duration
		want   string
	}{
		{0, "in 0s"},
		{-5 * time.Second, "5s ago"},
		{90 * time.Second, "in 1m30s"},
		{-time.Hour, "1h ago"},
		{4*time.Hour - time.Second, "in 3h59m"},
		{48 * time.Hour, "in 48h"},
		{49 * time.Hour, "2026-04-19 09:00Z"},
		{-1000 * time.Hour, "2026-03-06 16:00Z"},
	} {
		require.Equal(t, test.want, s.when(identity.InstantOf(testNow.Add(test.offset))), "%s", test.offset)
	}
	require.Empty(t, s.when(0))
}
