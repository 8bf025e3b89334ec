package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/url"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// fixtureExpectation is what a token of the fixture's agent must say.
func fixtureExpectation() expectation {
	return expectation{
		subject: fixtureAgent, client: fixtureAgent, agentType: identity.AgentAutonomous,
		audience: []string{fixtureAudience}, scopes: fixtureScopes, lifetime: fixtureSession,
	}
}

// minting is the work of one connection that mints.
type minting struct {
	make     func(*load.Call) []byte
	evidence *evidence
	got      func(token []byte) // told of each token; may be nil
}

func (m *minting) Next(call *load.Call) { call.Request = m.make(call) }

func (m *minting) Judge(call *load.Call, status int, body []byte) load.Failure {
	if status != 200 {
		return load.StatusFailure(status)
	}
	if !bytes.Contains(body, tokenField) {
		return load.FailureAnswer
	}
	m.evidence.keep(call, body, "")
	if m.got != nil {
		m.got(tokenIn(body))
	}
	return ""
}

func prepareMint(_ context.Context, d *drive) (*job, error) {
	request := d.fixture.mintRequest()
	return d.mintJob(fixtureExpectation(), func(*load.Call) []byte { return request }), nil
}

func (d *drive) mintJob(want expectation, spell func(*load.Call) []byte) *job {
	j := &job{operations: []string{"mint"}, expected: []expectation{want}, evidence: newEvidence()}
	j.work = func(int, int) load.Work { return &minting{make: spell, evidence: j.evidence} }
	return j
}

func prepareAsserted(ctx context.Context, d *drive) (*job, error) {
	p, err := d.proving(ctx)
	if err != nil {
		return nil, err
	}
	return d.mintJob(fixtureExpectation(), func(*load.Call) []byte { return p.asserted("") }), nil
}

func prepareBound(ctx context.Context, d *drive) (*job, error) {
	p, err := d.proving(ctx)
	if err != nil {
		return nil, err
	}
	want := fixtureExpectation()
	want.confirmation = p.key.Thumbprint()
	return d.mintJob(want, func(call *load.Call) []byte { return p.bound(d.ground.nodes[call.Node].Address) }), nil
}

func (d *drive) proving(ctx context.Context) (*proving, error) {
	p, err := newProving(ctx, d.fixture)
	if err != nil {
		return nil, err
	}
	p.scheme, p.http = d.ground.scheme, d.ground.http
	return p, nil
}

// exchangeParents is how many parent sessions the second hops are made from.
const exchangeParents = 64

const grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

// prepareExchange makes a person, who lends to the fixture's agent, and a sub-agent.
func prepareExchange(ctx context.Context, d *drive) (*job, error) {
	f := d.fixture
	sub, err := f.addSubAgent(ctx)
	if err != nil {
		return nil, err
	}
	delegation, err := f.lend(ctx)
	if err != nil {
		return nil, err
	}
	first := formRequest(tokenPath, f.agent, url.Values{
		"grant_type": {grantExchange}, "subject_token": {delegation}, "subject_token_type": {client.TypeDelegation},
	})
	parents, err := harvest(ctx, d.ground.nodes[:1], first, exchangeParents)
	if err != nil {
		return nil, fmt.Errorf("exchanging a delegation: %w", err)
	}
	seconds := make([][]byte, len(parents))
	for i, parent := range parents {
		seconds[i] = formRequest(tokenPath, sub, url.Values{
			"grant_type": {grantExchange}, "subject_token": {parent}, "subject_token_type": {client.TypeAccessToken},
		})
	}
	one := fixtureExpectation()
	one.subject, one.actors = fixturePrincipal, []string{fixtureAgent}
	two := one
	two.client, two.actors = fixtureSubAgent, []string{fixtureSubAgent, fixtureAgent}
	j := &job{
		operations: []string{"exchange, first hop", "exchange, second hop"}, deal: func(n uint64) int { return int(n % 2) },
		expected: []expectation{one, two}, evidence: newEvidence(),
	}
	spell := func(call *load.Call) []byte {
		if call.Operation == 0 {
			return first
		}
		return seconds[call.N/2%uint64(len(seconds))]
	}
	j.work = func(int, int) load.Work { return &minting{make: spell, evidence: j.evidence} }
	return j, nil
}

// Further things that a fixture may have.
const (
	fixtureSubAgent  = "bench-sub-agent"
	fixturePrincipal = "bench-user@deputy.invalid"
)

// addSubAgent makes an agent that works for the fixture's own.
func (f *fixture) addSubAgent(ctx context.Context) (client.Credentials, error) {
	var agent wire.Agent
	if err := f.create(ctx, "/api/v1/agents", withSecret, agentRequest(fixtureSubAgent), &agent); err != nil {
		return client.Credentials{}, fmt.Errorf("making agent %s: %w", fixtureSubAgent, err)
	}
	return credentials(agent.Credential)
}

// lend has the fixture's person lend to its agent, and returns the delegation's id.
func (f *fixture) lend(ctx context.Context) (string, error) {
	var made wire.Delegation
	if err := f.create(ctx, "/api/v1/delegations", url.Values{"ensure_principal": {"true"}}, wire.DelegationRequest{
		PrincipalID: fixturePrincipal, AgentID: fixtureAgent, Scopes: fixtureScopes, Duration: 2 * fixtureSession, Reason: "deputy bench",
	}, &made); err != nil {
		return "", fmt.Errorf("lending to agent %s: %w", fixtureAgent, err)
	}
	return made.ID, nil
}
