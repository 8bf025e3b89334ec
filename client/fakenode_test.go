package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

const (
	issuer   = "https://deputy.example.com"
	audience = "https://zendesk.example.com"
)

// fakeNode says what a test wants to hear, in the words of a node.
type fakeNode struct {
	t testing.TB
	*httptest.Server

	mu        sync.Mutex
	log       string
	index     uint64 // of the last commit
	applied   uint64
	valid     time.Duration // of the leases that it grants; 0: it is not fresh
	clock     func() time.Time
	onLease   func() // before a lease is answered
	staleKeys bool   // it can't vouch for its keys
	keys      []identity.SigningKey
	asked     map[string]int // requests by path
	from      []string       // what streams were asked to go on from
	entries   []wire.RevokedHandle
	streams   map[chan string]bool
	beat      time.Duration
	refuse    int // status of streams; 0: they are served
	silent    bool
}

func newFakeNode(t testing.TB) *fakeNode {
	t.Helper()
	n := &fakeNode{
		t: t, log: "clu_1.0", index: 10, applied: 10, valid: 10 * time.Second, clock: time.Now, asked: map[string]int{},
		streams: map[chan string]bool{}, beat: 50 * time.Millisecond,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		n.answer(w, wire.Metadata{Issuer: issuer})
	})
	mux.HandleFunc("/.well-known/jwks.json", n.jwks)
	mux.HandleFunc("/api/v1/revocations/lease", n.lease)
	mux.HandleFunc("/api/v1/revocations/stream", n.stream)
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.asked[r.URL.Path]++
		n.mu.Unlock()
		w.Header().Set(wire.HeaderRequestID, r.Header.Get(wire.HeaderRequestID))
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		n.CloseClientConnections()
		n.Close()
	})
	return n
}

func (n *fakeNode) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// set changes what the node says.
func (n *fakeNode) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *fakeNode) get(what func() int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return what()
}

func (n *fakeNode) notFresh(w http.ResponseWriter) {
	w.Header().Set("Content-Type", wire.ContentTypeProblem)
	w.WriteHeader(http.StatusServiceUnavailable)
	n.answer(w, wire.Problem{Type: wire.ProblemType + string(identity.CodeNotFresh), Status: 503, Detail: "this node can't vouch for its own state"})
}

func (n *fakeNode) jwks(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ring, err := tokens.NewKeyring(n.keys)
	if err != nil {
		panic(err)
	}
	if n.staleKeys {
		w.Header().Set(wire.HeaderFresh, "false")
	}
	w.Header().Set("Etag", ring.ETag())
	if r.Header.Get("If-None-Match") == ring.ETag() {
		n.asked["304"]++
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(ring.JWKS())
}

func (n *fakeNode) lease(w http.ResponseWriter, _ *http.Request) {
	n.mu.Lock()
	hook := n.onLease
	n.mu.Unlock()
	if hook != nil {
		hook()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.valid <= 0 {
		n.notFresh(w)
		return
	}
	n.answer(w, wire.ValidatorLease{ValidFor: wire.Milliseconds(n.valid), Index: n.index, Log: n.log, Time: identity.InstantOf(n.clock())})
}

func text(name string, id uint64, data any) string {
	line, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	if id == 0 {
		return fmt.Sprintf("event: %s\ndata: %s\n\n", name, line)
	}
	return fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", name, id, line)
}

func (n *fakeNode) stream(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	if n.refuse != 0 {
		defer n.mu.Unlock()
		if n.refuse == http.StatusServiceUnavailable {
			n.notFresh(w)
			return
		}
		w.Header().Set("Content-Type", wire.ContentTypeProblem)
		w.WriteHeader(n.refuse)
		n.answer(w, wire.Problem{Type: wire.ProblemType + string(identity.CodeForbidden), Status: n.refuse, Detail: "no"})
		return
	}
	from := r.URL.Query().Get("from")
	n.from = append(n.from, from)
	resumed := from != ""
	events := make(chan string, 64)
	first := text(wire.EventOpen, 0, wire.RevocationEvent{Node: "n1", Log: n.log, Resumed: resumed, Heartbeat: n.beat.Milliseconds()})
	if !resumed {
		first += text(wire.EventSnapshot, 0, wire.RevocationEvent{Entries: n.entries})
		first += text(wire.EventSynced, n.applied, wire.RevocationEvent{Index: n.applied, Count: int64(len(n.entries))})
	}
	n.streams[events] = true
	n.mu.Unlock()
	defer n.set(func() { delete(n.streams, events) })
	w.Header().Set("Content-Type", "text/event-stream")
	write := func(s string) {
		_, _ = w.Write([]byte(s))
		_ = http.NewResponseController(w).Flush()
	}
	write(first)
	beat := time.NewTicker(n.beat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			write(e)
		case <-beat.C:
			n.mu.Lock()
			silent, applied := n.silent, n.applied
			n.mu.Unlock()
			if !silent {
				write(fmt.Sprintf(": heartbeat\nid: %d\n\n", applied))
			}
		}
	}
}

// tell sends an event to all who follow.
func (n *fakeNode) tell(name string, id uint64, data wire.RevocationEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for events := range n.streams {
		events <- text(name, id, data)
	}
}

// commit has the log bring handles.
func (n *fakeNode) commit(handles ...identity.Handle) {
	e := wire.RevocationEvent{}
	for _, h := range handles {
		e.Entries = append(e.Entries, wire.RevokedHandle{Handle: h, ExpiresAt: identity.InstantOf(time.Now().Add(24 * time.Hour))})
	}
	n.set(func() {
		n.index++
		n.applied = n.index
		n.entries = append(n.entries, e.Entries...)
		e.Index = n.index
	})
	n.tell(wire.EventCommit, e.Index, e)
}

// hangUp ends all streams.
func (n *fakeNode) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for events := range n.streams {
		close(events)
		delete(n.streams, events)
	}
}

// mint makes tokens by a key that the node publishes.
type mint struct {
	t      testing.TB
	signer *tokens.Signer
	minter *tokens.Minter
	made   uint64
}

type nothingRevoked struct{}

func (nothingRevoked) Revoked(...identity.Handle) bool { return false }

func newMint(t testing.TB) *mint {
	t.Helper()
	signer, err := tokens.GenerateSigner()
	require.NoError(t, err)
	minter, err := tokens.NewMinter(tokens.MinterOptions{Issuer: func() string { return issuer }, Checker: nothingRevoked{}})
	require.NoError(t, err)
	minter.SetSigner(signer)
	return &mint{t: t, signer: signer, minter: minter}
}

func (m *mint) publish(nodes ...*fakeNode) {
	for _, n := range nodes {
		n.set(func() { n.keys = append(n.keys, m.signer.SigningKey("n1", 1)) })
	}
}

type applications struct{ list []*identity.Application }

func (a applications) find(matches func(*identity.Application) bool) (*identity.Application, bool) {
	for _, x := range a.list {
		if matches(x) {
			return x, true
		}
	}
	return nil, false
}

func (a applications) Application(name string) (*identity.Application, bool) {
	return a.find(func(x *identity.Application) bool { return x.Name == name })
}

func (a applications) ApplicationByAudience(uri string) (*identity.Application, bool) {
	return a.find(func(x *identity.Application) bool { return x.Audience == uri })
}

func (a applications) ApplicationOwning(scope string) (*identity.Application, bool) {
	return a.find(func(x *identity.Application) bool { return x.Scopes == identity.Scopes(scope) })
}

// token mints one, changed as the test likes.
func (m *mint) token(change func(*policy.Request)) string {
	m.t.Helper()
	m.made++
	now := identity.InstantOf(time.Now())
	r := &policy.Request{
		Now: now, SessionID: identity.NewID(identity.PrefixSession, now, [10]byte{byte(m.made), byte(m.made >> 8)}),
		Agent: &identity.Agent{
			Name: "support-triage-agent", Type: identity.AgentAutonomous, Status: identity.StatusActive, Generation: 7,
			DefaultScopes: "zendesk.tickets.read", MaxSessionSeconds: 3600, Applications: []string{"zendesk"},
		},
		Credential: identity.NewID(identity.PrefixCredential, now, [10]byte{1}),
		Applications: applications{[]*identity.Application{
			{Name: "zendesk", Audience: audience, Scopes: "zendesk.tickets.read", Verification: identity.VerifyOnline},
			{Name: "other", Audience: "https://other.example.com", Scopes: "other.read", Verification: identity.VerifyOnline},
		}},
		Issuer: issuer,
	}
	if change != nil {
		change(r)
	}
	var g policy.Grant
	require.NoError(m.t, policy.NewEngine().Decide(r, &g))
	token, err := m.minter.Mint(nil, &g)
	require.NoError(m.t, err)
	return string(token)
}

// bootClock is a boot clock that a test can move ahead.
type bootClock struct {
	mu    sync.Mutex
	began time.Time
	ahead time.Duration
}

func newBootClock() *bootClock { return &bootClock{began: time.Now()} }

func (c *bootClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.began) + c.ahead
}

func (c *bootClock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// clientFor speaks to the nodes.
func clientFor(t testing.TB, nodes ...*fakeNode) *client.Client {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL)
	}
	c, err := client.New(client.Options{Addresses: urls, Token: "dpt_runtime"})
	require.NoError(t, err)
	return c
}

// start runs a validator until the test ends.
func start(t testing.TB, o client.ValidatorOptions) *client.Validator {
	t.Helper()
	v, err := client.NewValidator(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return v
}

// ready is start, and waits until the validator is fresh.
func ready(t testing.TB, o client.ValidatorOptions) *client.Validator {
	t.Helper()
	v := start(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, v.Ready(ctx))
	return v
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, 30*time.Second, time.Millisecond, what)
}
