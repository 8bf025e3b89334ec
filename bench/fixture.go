package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// What a run makes in the cluster that it loads, and removes afterwards. Objects of these names that carry no
// mark of a benchmark are somebody's own and are left alone.
const (
	fixtureAgent       = "bench-agent"
	fixtureApplication = "bench-app"
	fixtureAudience    = "https://bench-app.deputy.invalid"
	fixtureMark        = "deputy-bench" // a label of the agent, a tag of the application
	fixtureSession     = 3600           // seconds; longer than any run
)

// fixtureScopes are what agents of a fixture may be granted, in order.
const fixtureScopes identity.Scopes = "bench.tickets.assign bench.tickets.read"

// setupTimeout bounds the making of a fixture, fixtureFence the wait for all nodes to know a part of it, cleanupTimeout its
// removal.
const (
	setupTimeout   = 30 * time.Second
	fixtureFence   = 5 * time.Second
	cleanupTimeout = 15 * time.Second
)

// fixture is one agent that mints and one application that introspects what it minted.
type fixture struct {
	api         *client.Client
	agent       client.Credentials
	application client.Credentials
}

// newFixture makes agent and application. What a run before left behind is replaced.
func newFixture(ctx context.Context, api *client.Client) (_ *fixture, err error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	f := &fixture{api: api}
	if err := f.removeStale(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.remove(context.WithoutCancel(ctx)))
		}
	}()
	var application wire.Application
	if err := f.create(ctx, "/api/v1/applications", withSecret, wire.ApplicationRequest{
		Name: fixtureApplication, Description: "introspects the tokens of deputy bench",
		Audience: fixtureAudience, Scopes: fixtureScopes, Tags: []string{fixtureMark},
	}, &application); err != nil {
		return nil, fmt.Errorf("making application %s: %w", fixtureApplication, err)
	}
	if f.application, err = credentials(application.Credential); err != nil {
		return nil, fmt.Errorf("making application %s: %w", fixtureApplication, err)
	}
	var agent wire.Agent
	if err := f.create(ctx, "/api/v1/agents", withSecret, agentRequest(fixtureAgent), &agent); err != nil {
		return nil, fmt.Errorf("making agent %s: %w", fixtureAgent, err)
	}
	if f.agent, err = credentials(agent.Credential); err != nil {
		return nil, fmt.Errorf("making agent %s: %w", fixtureAgent, err)
	}
	return f, nil
}

// agentRequest makes an agent that may mint for the fixture's application.
func agentRequest(name string) wire.AgentRequest {
	return wire.AgentRequest{
		Profile: wire.Profile{
			Name: name, Description: "mints for deputy bench", OwnerGroup: fixtureMark, AgentType: identity.AgentAutonomous,
		},
		DefaultScopes: fixtureScopes, MaxSessionDuration: fixtureSession,
		Applications: []string{fixtureApplication}, Labels: map[string]string{fixtureMark: "true"},
	}
}

// withSecret has what is created come with a secret of its own.
var withSecret = url.Values{"credentials": {"secret"}}

// create returns once every node knows what it has made, or may answer nothing, but after fixtureFence in any case. A node
// that answers and doesn't know would refuse the load's first requests; one that is out of reach for longer is for the load
// to find.
func (f *fixture) create(ctx context.Context, path string, query url.Values, body, out any) error {
	request := &client.Request{Method: http.MethodPost, Path: path, Query: query, Body: body, Write: true}
	client.Fenced(fixtureFence)(request)
	_, err := f.api.Do(ctx, request, out)
	return err
}

// credentials are refused without their secret: a replayed create leaves it out.
func credentials(c *wire.NewCredential) (client.Credentials, error) {
	if c == nil || c.Secret == "" {
		return client.Credentials{}, errors.New("the answer holds no secret; run again")
	}
	return client.Credentials{ID: c.ClientID, Secret: c.Secret}, nil
}

// removeStale removes what an interrupted run left behind, and nothing that isn't marked as such.
func (f *fixture) removeStale(ctx context.Context) error {
	var agent wire.Agent
	switch _, err := f.api.Do(ctx, &client.Request{Method: http.MethodGet, Path: "/api/v1/agents/" + fixtureAgent}, &agent); {
	case identity.CodeOf(err) == identity.CodeNotFound:
	case err != nil:
		return err
	case agent.Labels[fixtureMark] == "":
		return fmt.Errorf("agent %s exists and is not a benchmark's; rename or remove it first", fixtureAgent)
	}
	var application wire.Application
	switch _, err := f.api.Do(ctx, &client.Request{Method: http.MethodGet, Path: "/api/v1/applications/" + fixtureApplication}, &application); {
	case identity.CodeOf(err) == identity.CodeNotFound:
	case err != nil:
		return err
	case !slices.Contains(application.Tags, fixtureMark):
		return fmt.Errorf("application %s exists and is not a benchmark's; rename or remove it first", fixtureApplication)
	}
	return f.remove(ctx)
}

// remove takes what a run makes away again; what was never made, or is gone already, is fine.
func (f *fixture) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	var failures []error
	for _, path := range []string{
		"/api/v1/agents/" + fixtureSubAgent, "/api/v1/agents/" + fixtureAgent, "/api/v1/applications/" + fixtureApplication,
		"/api/v1/principals/" + url.PathEscape(fixturePrincipal),
	} {
		_, err := f.api.Do(ctx, &client.Request{Method: http.MethodDelete, Path: path, Write: true}, nil)
		if err != nil && identity.CodeOf(err) != identity.CodeNotFound {
			failures = append(failures, fmt.Errorf("removing %s: %w", path, err))
		}
	}
	return errors.Join(failures...)
}

// mint asks for so many tokens by client_credentials.
func (f *fixture) mint(ctx context.Context, count int) ([]string, error) {
	minted := make([]string, count)
	for i := range minted {
		var answer wire.Token
		if _, err := f.api.Do(ctx, &client.Request{
			Method: http.MethodPost, Path: tokenPath, Form: mintForm(), Credentials: &f.agent, Repeatable: true,
		}, &answer); err != nil {
			return nil, fmt.Errorf("minting a token to introspect: %w", err)
		}
		minted[i] = answer.AccessToken
	}
	return minted, nil
}

const (
	tokenPath      = "/oauth2/token"
	introspectPath = "/oauth2/introspect"
)

func mintForm() url.Values { return url.Values{"grant_type": {"client_credentials"}} }

// mintRequest is the whole of a request for a token.
func (f *fixture) mintRequest() []byte { return formRequest(tokenPath, f.agent, mintForm()) }

// introspectRequest is the whole of a question about a token.
func (f *fixture) introspectRequest(token string) []byte {
	return formRequest(introspectPath, f.application, url.Values{"token": {token}})
}

// formRequest spells a POST of a form with HTTP Basic, with no more headers than a lean client sends.
func formRequest(path string, as client.Credentials, form url.Values) []byte {
	body := form.Encode()
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(as.ID) + ":" + url.QueryEscape(as.Secret)))
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: deputy.invalid\r\nAuthorization: Basic %s\r\n", path, basic)
	fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return []byte(b.String())
}
