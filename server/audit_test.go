package server_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/server"
)

const auditWait = 30 * time.Second

// auditCast are an application and an agent, by whose credentials the tests mint.
func auditCast(t *testing.T, c *testcluster.Cluster) (application, agent client.Credentials) {
	t.Helper()
	admin := c.Client(0)
	app, err := admin.CreateApplication(t.Context(), &wire.ApplicationRequest{Name: "ledger", Audience: "https://ledger.example.com", Scopes: "ledger.read"}, true)
	require.NoError(t, err)
	made, err := admin.CreateAgent(t.Context(), &wire.AgentRequest{
		Profile: wire.Profile{Name: "bookkeeper", AgentType: identity.AgentScheduled}, DefaultScopes: "ledger.read", Applications: []string{"ledger"},
	}, true)
	require.NoError(t, err)
	return client.Credentials{ID: app.Credential.ClientID, Secret: app.Credential.Secret}, client.Credentials{ID: made.Credential.ClientID, Secret: made.Credential.Secret}
}

// What was decided anywhere is read from any node, in the order in which it happened, and each node's log is vouched for
// by the others.
func TestTrailOfAClusterIsReadFromAnyNode(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	application, agent := auditCast(t, c)
	at := func(i int) *client.Client {
		cl := c.Client(i)
		cl.Observe(c.Node(0).View().Index())
		return cl
	}
	token, err := at(1).MintToken(t.Context(), agent, client.TokenOptions{})
	require.NoError(t, err)
	_, err = at(2).Do(t.Context(), &client.Request{
		Method: http.MethodPost, Path: "/oauth2/introspect", Form: url.Values{"token": {token.AccessToken}, "tool": {"ledger.balance"}}, Credentials: &application,
	}, new(wire.Introspection))
	require.NoError(t, err)
	receipt, err := at(0).ReportEvent(t.Context(), &application, wire.AuditEvent{Token: token.AccessToken, Tool: "ledger.balance", Decision: "allowed"})
	require.NoError(t, err)
	_, err = at(1).MintToken(t.Context(), agent, client.TokenOptions{Scopes: []string{"ledger.write"}})
	require.Error(t, err)
	_, err = at(2).EndSession(t.Context(), token.SessionID, "done")
	require.NoError(t, err)

	for i := range 3 {
		p, err := c.Client(i).Audit(t.Context(), client.AuditFilter{OldestFirst: true, From: time.Now().Add(-auditWait)}, client.List{Limit: 1000})
		require.NoError(t, err)
		require.True(t, p.Complete)
		var story []string
		for _, r := range p.Items {
			if r.Kind != string(audit.KindCluster) && r.Kind != string(audit.KindAdmin) {
				story = append(story, fmt.Sprint(r.Node, " ", r.Kind, " ", r.Decision))
			}
		}
		require.Equal(t, []string{"n2 mint allowed", "n3 introspect allowed", "n1 tool allowed", "n2 mint denied", "n3 revoke allowed"}, story)
		own, err := c.Client(i).SessionAudit(t.Context(), token.SessionID, client.List{})
		require.NoError(t, err)
		require.Len(t, own.Items, 3)
	}

	var held *wire.AuditCheckpoints
	require.Eventually(t, func() bool {
		var err error
		held, err = c.Client(1).AuditCheckpoints(t.Context())
		if err != nil || !held.Complete {
			return false
		}
		reached := map[string]bool{}
		for _, k := range held.Checkpoints {
			if k.Node == "n1" && k.Through >= receipt.Sequence {
				reached[k.HeldBy] = true
			}
		}
		return len(reached) == 3
	}, auditWait, 50*time.Millisecond, "the others hold what n1 has signed")
	proof, err := c.Client(2).AuditProof(t.Context(), "n1", receipt.Sequence)
	require.NoError(t, err)
	text, err := json.Marshal(proof)
	require.NoError(t, err)
	var p audit.Proof
	require.NoError(t, json.Unmarshal(text, &p))
	keys := map[string]ed25519.PublicKey{}
	for _, k := range held.Keys {
		keys[k.Node] = k.Key
	}
	require.NoError(t, audit.VerifyProof(&p, nil, keys["n1"]))

	// A node that is away is named, and what it signed last is held by the others: a log that was cut off then shows.
	c.Stop(2)
	page, err := c.Client(0).Audit(t.Context(), client.AuditFilter{}, client.List{})
	require.NoError(t, err)
	require.False(t, page.Complete)
	require.Equal(t, []string{"n3"}, silentNodes(page.Nodes))
	folder := filepath.Join(c.Node(2).Config().DataDir, "audit")
	witnesses, unreadable, err := audit.ReadCheckpoints(filepath.Join(c.Node(0).Config().DataDir, "audit", "peers.jsonl"))
	require.NoError(t, err)
	require.Zero(t, unreadable)
	report, err := audit.Verify(t.Context(), folder, audit.VerifyOptions{Keys: keys, Checkpoints: witnesses})
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Problems)
	require.Zero(t, report.Unsigned)
	require.Positive(t, report.Witnessed)

	segments, err := filepath.Glob(filepath.Join(folder, "0*.jsonl"))
	require.NoError(t, err)
	require.Len(t, segments, 1)
	whole, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	require.NoError(t, os.WriteFile(segments[0], []byte(strings.Join(lines[:len(lines)-3], "")), 0o600))
	report, err = audit.Verify(t.Context(), folder, audit.VerifyOptions{Keys: keys, Checkpoints: witnesses})
	require.NoError(t, err)
	require.False(t, report.OK())
	require.Equal(t, audit.FlawTruncated, report.Problems[0].Flaw)
}

func silentNodes(nodes []wire.AuditNode) (silent []string) {
	for _, n := range nodes {
		if !n.Replied {
			silent = append(silent, n.ID)
		}
	}
	return silent
}

// received is what came to a sink.
type received struct {
	mu      sync.Mutex
	records map[uint64]audit.Entry
	wrong   error
}

func (r *received) take(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, err := audit.ParseEntry(append([]byte(nil), line...))
	if err != nil {
		r.wrong = err
		return
	}
	if r.records == nil {
		r.records = map[uint64]audit.Entry{}
	}
	r.records[e.Sequence] = e
}

// through reports whether all records up to that number have come, their chain intact.
func (r *received) through(sequence uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := uint64(1); s <= sequence; s++ {
		e, ok := r.records[s]
		if !ok || s > 1 && e.Prev != r.records[s-1].Hash {
			return false
		}
	}
	return r.wrong == nil
}

// serveSyslog takes messages with octet counting (RFC 6587 section 3.4.1).
func serveSyslog(t *testing.T, to *received) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					length, err := in.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(strings.TrimSpace(length))
					if err != nil {
						return
					}
					message := make([]byte, n)
					if _, err := io.ReadFull(in, message); err != nil {
						return
					}
					if i := strings.IndexByte(string(message), '{'); i >= 0 {
						to.take(message[i:])
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// A sink that takes nothing holds up neither a mint nor another sink, and is said to be behind.
func TestDeadSinkSlowsNobody(t *testing.T) {
	t.Parallel()
	var bySyslog, byWebhook received
	secret := outbound.Secret(strings.Repeat("s3cret-of-a-webhook", 3))
	webhook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = outbound.Verify(r.Header.Get(outbound.SignatureHeader), body, time.Now(), secret)
		}
		var batch struct{ Records []json.RawMessage }
		if err == nil {
			err = json.Unmarshal(body, &batch)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		for _, line := range batch.Records {
			byWebhook.take(line)
		}
	}))
	t.Cleanup(webhook.Close)
	stuck, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, as the kernel does for it, and reads nothing
	require.NoError(t, err)
	t.Cleanup(func() { _ = stuck.Close() })
	secretFile := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secretFile, []byte(string(secret)+"\n"), 0o600))
	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	syslog := serveSyslog(t, &bySyslog)

	c := testcluster.NewWith(t, 1, func(o *server.Options) {
		o.Config.Outbound.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Config.Outbound.AllowHTTP = o.Config.Outbound.Allow
		o.Config.Audit.Sinks = []server.AuditSinkConfig{
			{Name: "siem", Type: "syslog", Address: syslog},
			{Name: "hook", Type: "webhook", URL: webhook.URL, SecretFile: secretFile},
			{Name: "copy", Type: "file", Path: copied},
			{Name: "dead", Type: "syslog", Address: "127.0.0.1:1"},
			{Name: "stuck", Type: "syslog", Address: stuck.Addr().String(), TLS: true},
		}
	})
	_, agent := auditCast(t, c)
	cl := c.Client(0)
	var slowest time.Duration
	for range 300 {
		began := time.Now()
		_, err := cl.MintToken(t.Context(), agent, client.TokenOptions{})
		require.NoError(t, err)
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of 300 mints with two dead sinks took %s", slowest)
	require.Less(t, slowest, 2*time.Second)
	last := newestOf(t, cl)
	require.Greater(t, last, uint64(300))
	require.Eventually(t, func() bool { return bySyslog.through(last) && byWebhook.through(last) }, auditWait, 50*time.Millisecond,
		"all records arrive, with their chain")
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(copied)
		return err == nil && uint64(strings.Count(string(text), "\n")) >= last
	}, auditWait, 50*time.Millisecond)
	sinks, err := cl.AuditSinks(t.Context())
	require.NoError(t, err)
	require.Len(t, sinks.Sinks, 5)
	for _, s := range sinks.Sinks {
		switch s.Name {
		case "dead":
			require.Positive(t, s.Failures)
			require.NotEmpty(t, s.Error)
			require.GreaterOrEqual(t, s.Behind, last)
		case "stuck":
			require.GreaterOrEqual(t, s.Behind, last)
		case "hook", "copy":
			require.Empty(t, s.Error)
		}
	}
}

func newestOf(t *testing.T, c *client.Client) uint64 {
	t.Helper()
	p, err := c.Audit(context.WithoutCancel(t.Context()), client.AuditFilter{}, client.List{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, p.Items)
	return p.Items[0].Sequence
}

// Below the disk reserve nothing is minted, as its record would take what is kept for stops; those go on.
func TestDiskReserveIsKeptForTheRecordsOfStops(t *testing.T) {
	t.Parallel()
	free := &disks{free: map[string]uint64{}}
	c := testcluster.NewWith(t, 1, func(o *server.Options) { o.FreeBytes = free.of("n1") })
	_, agent := auditCast(t, c)
	cl := c.Client(0)
	token, err := cl.MintToken(t.Context(), agent, client.TokenOptions{})
	require.NoError(t, err)
	free.set("n1", 100)
	require.Eventually(t, func() bool {
		_, err := cl.MintToken(t.Context(), agent, client.TokenOptions{})
		return err != nil && isStatus(err, http.StatusServiceUnavailable)
	}, auditWait, 20*time.Millisecond)
	_, err = cl.EndSession(t.Context(), token.SessionID, "disk")
	require.NoError(t, err)
	p, err := cl.Audit(t.Context(), client.AuditFilter{Kind: "revoke"}, client.List{})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	free.set("n1", 1000)
	require.Eventually(t, func() bool {
		_, err := cl.MintToken(t.Context(), agent, client.TokenOptions{})
		return err == nil
	}, auditWait, 20*time.Millisecond)
}
