package api

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// Policies are changed at run time, and hold at every node from the index on that the change has.
func TestPolicyHoldsFromItsChangeOnAtEveryNode(t *testing.T) {
	g, _, secret := newInbox(t, 2)
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{
		ID: "no-drafts", Mode: identity.PolicyMonitor,
		Text: `@description("Drafts are written by people") forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"gmail") when { context.requested_scopes.contains("gmail.draft") };`,
	}})
	for _, n := range g.nodes {
		ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
	}
	g.setUp(t, fsm.SetPolicyMode{ID: "no-drafts", Mode: identity.PolicyEnforce})
	for _, n := range g.nodes {
		problem := n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodePolicyDenied)
		require.Equal(t, "no-drafts", problem.PolicyID)
		require.Contains(t, problem.Detail, "Drafts are written by people")
		ok[wire.Session](n.send("POST", "/api/v1/sessions", strings.Replace(articleSession, `, "gmail.draft"`, "", 1), token(runtimeToken)), 201)
	}
	g.setUp(t, fsm.DeletePolicy{ID: "no-drafts"})
	for _, n := range g.nodes {
		ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, basic("inbox-assistant", secret)), 201)
	}
}

// A policy of a later version, which this node can't read, is not passed over, and the log says so.
func TestPolicyThatCannotBeReadDeniesAndIsLogged(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "newer", Text: `forbid (principal, action == Action::"Teleport", resource);`}})
	problem := n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodePolicyDenied)
	require.Equal(t, "newer", problem.PolicyID)
	require.Contains(t, n.logs.String(), "policy=newer")
	g.setUp(t, fsm.SetPolicyMode{ID: "newer", Mode: identity.PolicyOff})
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
}

// The policies that come along, over HTTP: what the article allows is allowed, and each refusal names its policy.
func TestShippedPoliciesOverHTTP(t *testing.T) {
	g := newGroup(t, 1, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	n := g.nodes[0]
	for _, p := range policy.Shipped() {
		g.setUp(t, fsm.PutPolicy{Policy: p})
	}
	n.agentWithSecret(articleAgent)
	session := func(fields string) answer {
		return n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"`+fields+`}`)
	}
	ok[wire.Session](session(""), 201)
	require.Equal(t, "scopes-within-defaults", session(`,"requested_scopes":["zendesk.tickets.delete"]`).refused(identity.CodeScopeNotAllowed).PolicyID)

	g.setUp(t, fsm.CreateApplication{Application: identity.Application{
		Name: "zendesk", Audience: "https://zendesk.example.com", Scopes: "zendesk.tickets.assign zendesk.tickets.read",
		Tags: []string{"production-write"}, Verification: identity.VerifyOnline,
	}})
	agent, found := n.fsm.View().Agent("support-triage-agent")
	require.True(t, found)
	assigned := *agent
	assigned.Applications = []string{"zendesk"}
	g.setUp(t, fsm.UpdateAgent{Agent: assigned})
	refused := session("").refused(identity.CodeApprovalRequired)
	require.Equal(t, "production-write-needs-approval", refused.PolicyID)
	require.Equal(t, 403, refused.Status)

	g.setUp(t, fsm.SetPolicyMode{ID: "production-write-needs-approval", Mode: identity.PolicyMonitor})
	ok[wire.Session](session(""), 201)

	network, found := n.fsm.View().Policy("corporate-network")
	require.True(t, found)
	g.setUp(t, fsm.SetPolicyMode{ID: "corporate-network", Mode: identity.PolicyEnforce})
	require.Equal(t, "corporate-network", session("").refused(identity.CodePolicyDenied).PolicyID, "nobody is in the example's network")
	here := *network
	here.Mode, here.Text = identity.PolicyEnforce, strings.Replace(here.Text, "192.0.2.0/24", "10.0.0.0/8", 1)
	require.NoError(t, policy.Check(&here))
	g.setUp(t, fsm.PutPolicy{Policy: here})
	for hops, allowed := range map[string]bool{
		"10.1.2.3":              true,
		"192.168.1.1":           false,
		"10.1.2.3, 192.168.1.1": false, // what stands left of the last one that is no proxy, anybody may have written
		"":                      false, // the proxy itself
	} {
		status, problem := n.overTCP(`{"agent_id":"support-triage-agent"}`, hops)
		require.Equal(t, allowed, status == 201, "%s: %d", hops, status)
		if !allowed {
			require.Equal(t, "corporate-network", problem.PolicyID)
		}
	}
}

// overTCP starts a session by way of a proxy on loopback: only such a connection has an address.
func (n *node) overTCP(body, forwardedFor string) (status int, problem wire.Problem) {
	n.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(n.t, err)
	go func() { _ = n.server.Serve(listener) }() // ends with the server, which closes the listener
	request, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, "http://"+listener.Addr().String()+"/api/v1/sessions", strings.NewReader(body))
	require.NoError(n.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "SSWS "+n.root)
	if forwardedFor != "" {
		request.Header.Set("X-Forwarded-For", forwardedFor)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(n.t, err)
	defer func() { require.NoError(n.t, response.Body.Close()) }()
	require.NoError(n.t, json.NewDecoder(response.Body).Decode(&problem))
	return response.StatusCode, problem
}
