package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/tokens"
)

// service is an application that checks tokens by itself, with the agent that calls it.
type service struct {
	cluster     *testcluster.Cluster
	agent       client.Credentials
	application client.Credentials
	wire        *road // between the validator and the nodes
	options     client.ValidatorOptions
	validator   *client.Validator
}

// road carries a validator's requests. It counts them, and can be cut.
type road struct {
	mu    sync.Mutex
	asked []string
	shut  func(path string) bool // what gets through no more; nil: all does
	cut   chan struct{}          // closed at each change of shut
}

func newRoad() *road { return &road{cut: make(chan struct{})} }

// set cuts what matches: requests are not answered, and what is on its way doesn't arrive, as if packets were dropped.
func (r *road) set(shut func(path string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = shut
	close(r.cut)
	r.cut = make(chan struct{})
}

func (r *road) isShut(path string) (bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shut != nil && r.shut(path), r.cut
}

// pass waits while the road is shut.
func (r *road) pass(ctx context.Context, path string) error {
	for {
		shut, changed := r.isShut(path)
		if !shut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *road) RoundTrip(q *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.asked = append(r.asked, q.Method+" "+q.URL.Path)
	r.mu.Unlock()
	if err := r.pass(q.Context(), q.URL.Path); err != nil {
		return nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	response.Body = &roadBody{response.Body, r, q}
	return response, r.pass(q.Context(), q.URL.Path)
}

type roadBody struct {
	io.ReadCloser
	road    *road
	request *http.Request
}

func (b *roadBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if cut := b.road.pass(b.request.Context(), b.request.URL.Path); cut != nil {
		return 0, cut
	}
	return n, err
}

// during looks again and again until a time.
func during(until time.Time, look func(at time.Time)) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for at := time.Now(); at.Before(until); at = <-again.C {
		look(time.Now())
	}
}

func everything(string) bool       { return true }
func onlyStreams(path string) bool { return strings.HasSuffix(path, "/stream") }

// newService runs a validator beside a cluster of n nodes whose leases are as long as given.
func newService(t *testing.T, nodes int, delta time.Duration, change func(*client.ValidatorOptions)) *service {
	t.Helper()
	c := testcluster.New(t, nodes)
	admin := c.Client()
	if delta > 0 {
		_, err := admin.PatchSettings(t.Context(), map[string]any{"lease_milliseconds": delta.Milliseconds()})
		require.NoError(t, err)
		eventually(t, "no node holds a longer lease from before", func() bool {
			for i := range nodes {
				state, err := c.Client(i).Freshness(t.Context())
				if err != nil || !state.Fresh || state.RemainingMilliseconds > wire.Milliseconds(delta) {
					return false
				}
			}
			return true
		})
	}
	application, err := admin.CreateApplication(t.Context(), wire.ApplicationRequest{
		Name: "zendesk", Audience: audience, Scopes: "zendesk.tickets.read",
	}, true)
	require.NoError(t, err)
	agent, err := admin.CreateAgent(t.Context(), wire.AgentRequest{
		Profile: wire.Profile{Name: "support-triage-agent", AgentType: identity.AgentAutonomous}, DefaultScopes: "zendesk.tickets.read",
		MaxSessionDuration: 3600, Applications: []string{"zendesk"},
	}, true)
	require.NoError(t, err)
	s := &service{
		cluster: c, wire: newRoad(),
		agent:       client.Credentials{ID: "support-triage-agent", Secret: agent.Credential.Secret},
		application: client.Credentials{ID: "zendesk", Secret: application.Credential.Secret},
	}
	var urls []string
	for i := range nodes {
		urls = append(urls, c.URL(i))
	}
	mine, err := client.New(client.Options{Addresses: urls, Transport: s.wire})
	require.NoError(t, err)
	s.options = client.ValidatorOptions{Client: mine, Audience: audience, Credentials: &s.application}
	if change != nil {
		change(&s.options)
	}
	s.validator = ready(t, s.options)
	return s
}

// session starts one and waits until the validator takes its token: the last nodes may just have heard of the agent.
func (s *service) session(t *testing.T) *wire.Token {
	t.Helper()
	token, err := s.cluster.Client().MintToken(t.Context(), s.agent, client.TokenOptions{})
	require.NoError(t, err)
	eventually(t, "a good token is accepted", func() bool { return s.accepts(t, token) })
	return token
}

func (s *service) accepts(t *testing.T, token *wire.Token) bool {
	t.Helper()
	_, err := s.validator.Validate(t.Context(), token.AccessToken)
	return err == nil
}

func (s *service) refuses(t *testing.T, token *wire.Token) bool {
	t.Helper()
	_, err := s.validator.Validate(t.Context(), token.AccessToken)
	return reasonOf(err) == tokens.ReasonRevoked
}

func TestRevokedTokenIsRefusedWithoutARequestForIt(t *testing.T) {
	s := newService(t, 3, 0, nil)
	admin := s.cluster.Client()
	for i, stop := range []func(*wire.Token) error{
		func(token *wire.Token) error {
			_, err := admin.Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID})
			return err
		},
		func(*wire.Token) error {
			_, err := admin.KillAgent(t.Context(), s.agent.ID, wire.KillRequest{KeepActive: true}, false)
			return err
		},
		func(token *wire.Token) error { return admin.RevokeToken(t.Context(), s.application, token.AccessToken) },
	} {
		token, other := s.session(t), s.session(t)
		require.NoError(t, stop(token))
		eventually(t, "it is refused", func() bool { return s.refuses(t, token) })
		if i == 0 {
			require.True(t, s.accepts(t, other), "another session goes on")
		}
	}
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	for _, asked := range slices.Compact(slices.Sorted(slices.Values(s.wire.asked))) {
		require.Contains(t, []string{
			"GET /.well-known/jwks.json", "GET /.well-known/oauth-authorization-server",
			"GET /api/v1/revocations/stream", "GET /api/v1/revocations/lease",
		}, asked, "nobody was asked about a token")
	}
}

// Nothing reaches the validator any more, neither answers nor what the stream has to say.
func TestCutOffValidatorFailsClosedWithinTheLease(t *testing.T) {
	const delta = time.Second
	s := newService(t, 1, delta, nil)
	token := s.session(t)
	s.wire.set(everything)
	cut := time.Now()
	_, err := s.cluster.Client().Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID})
	require.NoError(t, err)
	committed := time.Now()
	var last time.Time
	during(cut.Add(2*delta), func(at time.Time) {
		_, err := s.validator.Validate(t.Context(), token.AccessToken)
		if err == nil {
			last = at
		} else {
			require.ErrorIs(t, err, client.ErrNotFresh)
		}
	})
	require.Less(t, last.Sub(cut), delta, "it accepted a token when it had heard nothing for a lease")
	require.Less(t, last.Sub(committed), delta)
	t.Logf("the last yes came %s after the cut, of a lease of %s", last.Sub(cut), delta)
	s.wire.set(nil)
	eventually(t, "it goes on", func() bool { return s.refuses(t, token) })
	require.True(t, s.accepts(t, s.session(t)))
}

// The stream alone is held up, while questions are answered: an answer names what the stream has not brought.
func TestHeldUpStreamFailsClosedWithinTheLease(t *testing.T) {
	const delta = time.Second
	s := newService(t, 1, delta, nil)
	token := s.session(t)
	s.wire.set(onlyStreams)
	held := time.Now()
	during(held.Add(2*delta), func(time.Time) {
		require.True(t, s.accepts(t, token), "as long as nothing is revoked, it has everything")
	})
	_, err := s.cluster.Client().Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID})
	require.NoError(t, err)
	committed := time.Now()
	eventually(t, "it accepts it no more", func() bool { return !s.accepts(t, token) })
	last := time.Now()
	during(last.Add(delta), func(time.Time) { require.False(t, s.accepts(t, token)) })
	require.Less(t, last.Sub(committed), delta)
	s.wire.set(nil)
	eventually(t, "it goes on", func() bool { return s.refuses(t, token) })
}

func TestValidatorGoesOnWithAnotherNode(t *testing.T) {
	const delta = 2 * time.Second
	s := newService(t, 3, delta, nil)
	s.cluster.AwaitVoters(3)
	token := s.session(t)
	followed := -1
	eventually(t, "a node is followed", func() bool {
		for i := range 3 {
			if s.validator.State().Node == s.cluster.URL(i) {
				followed = i
			}
		}
		return followed >= 0
	})
	gone := s.cluster.URL(followed)
	began := time.Now()
	s.cluster.Stop(followed)
	require.Less(t, time.Since(began), 5*time.Second, "a stream holds nobody up")
	eventually(t, "another node is followed", func() bool {
		node := s.validator.State().Node
		return node != "" && node != gone
	})
	// Elections may cost a lease or two, but it is nothing that somebody has to look after.
	eventually(t, "it is fresh", func() bool { return s.accepts(t, token) })
	_, err := s.cluster.Client().Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID})
	require.NoError(t, err)
	eventually(t, "what is revoked meanwhile is refused", func() bool { return s.refuses(t, token) })

	// With no majority there are no leases, so there is no yes either.
	next := s.session(t)
	s.cluster.Stop((followed + 1) % 3)
	eventually(t, "it fails closed", func() bool {
		_, err := s.validator.Validate(t.Context(), next.AccessToken)
		return errors.Is(err, client.ErrNotFresh)
	})
}

// What a stop says of validators holds for those that hear nothing of it: after validators_until none accepts it.
func TestNoValidatorAcceptsAfterValidatorsUntil(t *testing.T) {
	const delta = time.Second
	s := newService(t, 1, delta, nil)
	token := s.session(t)
	s.wire.set(onlyStreams) // its leases are as late as they can be
	stopped, err := s.cluster.Client().Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID}, client.Fenced(10*time.Second))
	require.NoError(t, err)
	require.True(t, stopped.Fenced)
	until := stopped.ValidatorsUntil.Time()
	var last time.Time
	during(time.Now().Add(3*delta), func(at time.Time) {
		if s.accepts(t, token) {
			last = at
		}
	})
	require.True(t, last.Before(until), "accepted at %s, which is after %s", last, until)
}

func TestKilledApplicationFollowsNoMore(t *testing.T) {
	s := newService(t, 1, time.Second, nil)
	token := s.session(t)
	_, err := s.cluster.Client().DeleteApplication(t.Context(), "zendesk")
	require.NoError(t, err)
	eventually(t, "it fails closed", func() bool {
		_, err := s.validator.Validate(t.Context(), token.AccessToken)
		return errors.Is(err, client.ErrNotFresh)
	})
	require.NotEmpty(t, s.validator.State().Reason)
}

// A token that a real node has bound to a key is of no use to whoever stole it.
func TestStolenBoundTokenOfANodeIsRefused(t *testing.T) {
	s := newService(t, 1, 0, func(o *client.ValidatorOptions) { o.URLs = []string{"https://zendesk.example.com"} })
	key, err := client.NewKey()
	require.NoError(t, err)
	thief, err := client.NewKey()
	require.NoError(t, err)
	var token *wire.Token
	eventually(t, "a proof that is from after the node's start", func() bool {
		token, err = s.cluster.Client().MintToken(t.Context(), s.agent, client.TokenOptions{Bind: key})
		return err == nil
	})
	require.Equal(t, "DPoP", token.TokenType)
	_, err = s.validator.Validate(t.Context(), token.AccessToken)
	refused(t, err, client.ReasonProof)
	const url = "https://zendesk.example.com/tickets/7"
	shown := func(by *client.Key) *http.Request {
		return show("DPoP", token.AccessToken, by.Proof("GET", url, "", token.AccessToken, time.Now()))
	}
	_, err = s.validator.ValidateRequest(shown(thief))
	refused(t, err, client.ReasonProof)
	_, err = s.validator.ValidateRequest(show("Bearer", token.AccessToken))
	refused(t, err, client.ReasonProof)
	eventually(t, "a proof that is from after the validator's start", func() bool {
		_, err = s.validator.ValidateRequest(shown(key))
		return err == nil
	})
}
