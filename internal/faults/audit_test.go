package faults

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// minters keep a node busy with mints, several of which share a write to its audit log.
const minters = 4

// handedOut are sessions whose token somebody has got.
type handedOut struct {
	mu       sync.Mutex
	sessions []string
}

func (m *handedOut) add(session string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions = append(m.sessions, session)
}

func (m *handedOut) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions)
}

// No token is given out without its record, whenever the process is killed, and the log goes on with its chain whole.
func TestNoTokenWithoutItsRecordAcrossKills(t *testing.T) {
	needsFaults(t)
	n := newNode(t, loopback{}, "n1", t.TempDir())
	tokenFile := filepath.Join(n.dir, "root-token")
	n.configure(t, "bootstrap: true\nroot_token_file: "+tokenFile)
	n.start(t)
	token, err := os.ReadFile(tokenFile)
	require.NoError(t, err)
	root := string(token[:len(token)-1])
	admin := n.client(t, root)
	application, err := admin.CreateApplication(within(t, requestWait), &wire.ApplicationRequest{Name: "ledger", Audience: audience, Scopes: scope}, true)
	require.NoError(t, err)
	made, err := admin.CreateAgent(within(t, requestWait), &wire.AgentRequest{
		Profile: wire.Profile{Name: "bookkeeper", AgentType: identity.AgentAutonomous}, DefaultScopes: scope, Applications: []string{application.ID},
	}, true)
	require.NoError(t, err)
	agent := client.Credentials{ID: made.Credential.ClientID, Secret: made.Credential.Secret}

	r := dice(t)
	var all handedOut
	count := rounds(t)
	checked := 0
	for round := range count {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		before := all.count()
		for range minters {
			c := n.client(t, "")
			group.Go(func() { mintUntil(ctx, c, agent, &all) })
		}
		eventually(t, readyWait, "mints", func() error {
			if all.count() < before+20 {
				return errors.New("too few")
			}
			return nil
		})
		pass(time.Duration(r.IntN(50_000)) * time.Microsecond)
		n.kill(t)
		cancel()
		group.Wait()

		n.start(t)
		checked += requireRecorded(t, n, root, all.sessions[before:])
		verifyLog(t, n, root)
		t.Logf("round %d: %d tokens acknowledged before the kill, all recorded", round+1, all.count()-before)
	}
	t.Logf("== audit: %d kills under load, %d tokens acknowledged, %d without a record, the chain whole each time", count, checked, all.count()-checked)
}

func mintUntil(ctx context.Context, c *client.Client, agent client.Credentials, to *handedOut) {
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, 5*time.Second)
		token, err := c.MintToken(asked, agent, client.TokenOptions{})
		cancel()
		if err != nil {
			return // it was killed
		}
		to.add(token.SessionID)
	}
}

// requireRecorded looks every session up in the audit trail.
func requireRecorded(t *testing.T, n *node, root string, sessions []string) int {
	t.Helper()
	recorded := map[string]bool{}
	c := n.client(t, root)
	for after := ""; ; {
		p, err := c.Audit(within(t, requestWait), client.AuditFilter{Kind: "mint", Decision: "allowed"}, client.List{Limit: 1000, After: after})
		require.NoError(t, err)
		require.True(t, p.Complete)
		for _, r := range p.Items {
			recorded[r.Session] = true
		}
		missing := 0
		for _, s := range sessions {
			if !recorded[s] {
				missing++
			}
		}
		if missing == 0 {
			return len(sessions)
		}
		require.NotEmpty(t, p.Next, "%d of %d tokens that were given out have no record", missing, len(sessions))
		after = p.Next
	}
}

// verifyLog has the program itself check the log from its first record on.
func verifyLog(t *testing.T, n *node, root string) {
	t.Helper()
	path, err := workshop.Binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(within(t, requestWait), path, "audit", "verify", n.data())
	cmd.Env = append(os.Environ(), "DEPUTY_ADDR="+n.url(), "DEPUTY_TOKEN="+root)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "The log is whole.")
}
