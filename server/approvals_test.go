package server_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/server"
)

const webhookSecret = "whsec-of-the-tests-0123456789abcdef"

// inbox is a receiver of webhooks that believes nothing unsigned, and drops what it has seen.
type inbox struct {
	mu     sync.Mutex
	events map[string]wire.ApprovalEvent // by delivery
	forged int
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	signed, bad := outbound.Verify(r.Header.Get(outbound.SignatureHeader), body, time.Now(), webhookSecret)
	b.mu.Lock()
	defer b.mu.Unlock()
	var event wire.ApprovalEvent
	if err != nil || bad != nil || json.Unmarshal(body, &event) != nil {
		b.forged++
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.events[signed.ID] = event
	w.WriteHeader(http.StatusNoContent)
}

func (b *inbox) await(t *testing.T, delivery string) wire.ApprovalEvent {
	t.Helper()
	var event wire.ApprovalEvent
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		found := false
		event, found = b.events[delivery]
		return found
	}, 20*time.Second, 10*time.Millisecond, "delivery %s", delivery)
	return event
}

// Approvers are told over TLS with a signature that holds; the leader is lost between the yes and its use, and the agent
// gets its one token all the same, at a node that did not lead.
func TestApprovalOutlivesTheLeaderAndApproversAreTold(t *testing.T) {
	t.Parallel()
	received := &inbox{events: map[string]wire.ApprovalEvent{}}
	receiver := httptest.NewTLSServer(received)
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	secret, roots := filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(secret, []byte(webhookSecret+"\n"), 0o600))
	require.NoError(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}), 0o600))

	c := testcluster.NewWith(t, 3, func(o *server.Options) {
		o.Config.Outbound.Allow, o.Config.Outbound.CAFile = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, roots
		o.Config.Approvals.Webhooks = []server.WebhookConfig{{URL: receiver.URL + "/hook", SecretFile: secret}}
	})
	c.AwaitVoters(3)
	admin := c.Client()
	_, err := admin.CreateApplication(t.Context(), wire.ApplicationRequest{
		Name: "zendesk", Audience: "https://zendesk.example.com", Scopes: "zendesk.tickets.assign", Tags: []string{"production-write"},
	}, false)
	require.NoError(t, err)
	agent, err := admin.CreateAgent(t.Context(), wire.AgentRequest{
		Profile:       wire.Profile{Name: "triage", OwnerGroup: "ai", AgentType: identity.AgentAutonomous},
		DefaultScopes: "zendesk.tickets.assign", Applications: []string{"zendesk"}, MaxSessionDuration: 600,
	}, true)
	require.NoError(t, err)
	own := client.Credentials{ID: "triage", Secret: agent.Credential.Secret}

	leader := c.Leader()
	follower := (leader + 1) % 3
	mint := func(node int) (*wire.Token, string) {
		token, err := c.Client(node).MintToken(t.Context(), own, client.TokenOptions{TriggerReason: "ticket 7"})
		if err == nil {
			return token, ""
		}
		var refused *client.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "access_denied", refused.OAuth, "%v", err)
		return nil, refused.Approval
	}
	require.Eventually(t, func() bool {
		_, known := c.Node(follower).View().Agent("triage")
		return known
	}, 20*time.Second, 5*time.Millisecond)
	_, id := mint(follower)
	require.NotEmpty(t, id)
	event := received.await(t, id)
	require.Equal(t, wire.EventApprovalRequested, event.Type)
	require.Equal(t, "ticket 7", event.Approval.TriggerReason)
	require.Equal(t, "production-write-needs-approval", event.Approval.PolicyID)
	require.Equal(t, []string{"triage"}, event.Approval.RequestedBy)

	waited := make(chan error, 1)
	go func() {
		approval, err := admin.AwaitApproval(t.Context(), id, 20*time.Second)
		if err == nil && approval.Status != identity.ApprovalApproved {
			err = identity.Errorf(identity.CodeApprovalRequired, "it is %s", approval.Status)
		}
		waited <- err
	}()
	_, err = admin.Approve(t.Context(), id, "INC-7") // it was the agent that asked
	require.NoError(t, err)
	require.NoError(t, <-waited)
	require.Equal(t, wire.EventApprovalDecided, received.await(t, id+"-approved").Type)

	require.Eventually(t, func() bool {
		approval, known := c.Node(follower).View().Approval(id)
		return known && approval.Status == identity.ApprovalApproved
	}, 20*time.Second, 5*time.Millisecond)
	c.Stop(leader)
	var token *wire.Token
	require.Eventually(t, func() bool {
		got, err := c.Client(follower).MintToken(t.Context(), own, client.TokenOptions{TriggerReason: "ticket 7"})
		if err == nil {
			token = got
			return true
		}
		code := identity.CodeOf(err)
		require.NotEqual(t, identity.CodeApprovalRequired, code, "%v", err)
		return false
	}, 30*time.Second, 50*time.Millisecond)
	require.NotEmpty(t, token.AccessToken)
	next, again := mint((leader + 2) % 3)
	require.Nil(t, next)
	require.NotEqual(t, id, again, "one yes is one token")
	received.await(t, again)
	received.mu.Lock()
	defer received.mu.Unlock()
	require.Zero(t, received.forged)
}

// A receiver that can't be told, or a secret that can't be read, is said when the node starts.
func TestWebhooksOfApprovalsAreCheckedAtTheStart(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	require.NoError(t, os.WriteFile(short, []byte("x"), 0o600))
	for says, hook := range map[string]server.WebhookConfig{
		"approvals.webhooks/0.url":         {SecretFile: short},
		"approvals.webhooks/0.secret_file": {URL: "https://approvers.example.com"},
		"reading the secret":               {URL: "https://approvers.example.com", SecretFile: short + "er"},
		"at least":                         {URL: "https://approvers.example.com", SecretFile: short},
	} {
		config := testcluster.Config("n1", t.TempDir())
		config.Bootstrap, config.Approvals.Webhooks = true, []server.WebhookConfig{hook}
		_, err := server.New(server.Options{Config: config})
		require.ErrorContains(t, err, says)
	}
}
