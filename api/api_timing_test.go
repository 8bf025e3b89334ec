package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/policy"
)

// addPolicies makes it a hundred policies beside those that come along, of which ten apply to the agent's sessions.
func (h *hot) addPolicies(t testing.TB) {
	t.Helper()
	for i := range 100 {
		text := fmt.Sprintf(`forbid (principal == Agent::"agent-%d", action, resource);`, i)
		if i < 10 {
			text = fmt.Sprintf(`forbid (principal is Agent, action == Action::"CreateSession", resource) when { resource.tags.contains("tag-%d") || principal in Group::"group-%d" };`, i, i)
		}
		h.group.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: fmt.Sprint("p-", i), Text: text}})
	}
}

// hot is one node with an agent and an application, set up without HTTP.
type hot struct {
	*node
	agent, application string // Authorization headers
	token              []byte
}

func newHot(t testing.TB) *hot {
	t.Helper()
	g := newGroup(t, 1)
	now := identity.InstantOf(g.time())
	credential := func(n byte, secret string) []identity.Credential {
		hash := identity.HashSecret(secret)
		return []identity.Credential{{
			ID: identity.NewID(identity.PrefixCredential, now, [10]byte{n}), Kind: identity.CredentialSecret, Hash: hash[:], Created: now,
		}}
	}
	g.setUp(t, fsm.CreateApplication{Application: identity.Application{
		Name: "zendesk", Audience: "https://zendesk.example.com", Scopes: "zendesk.tickets.assign zendesk.tickets.read",
		Verification: identity.VerifyOnline, Credentials: credential(1, "dps_application"),
	}})
	g.setUp(t, fsm.CreateAgent{Agent: identity.Agent{
		Name: "support-triage-agent", Type: identity.AgentAutonomous, MaxSessionSeconds: 3600, Status: identity.StatusActive,
		DefaultScopes: "zendesk.tickets.assign zendesk.tickets.read", Applications: []string{"zendesk"}, Credentials: credential(2, "dps_agent"),
	}})
	// As a new cluster begins.
	for _, p := range policy.Shipped() {
		g.setUp(t, fsm.PutPolicy{Policy: p})
	}
	h := &hot{node: g.nodes[0], agent: basicHeader("support-triage-agent", "dps_agent"), application: basicHeader("zendesk", "dps_application")}
	minted := h.call("/oauth2/token", h.agent, []byte("grant_type=client_credentials"))
	h.token = append([]byte(nil), minted[len(`{"access_token":"`):]...)
	for i, c := range h.token {
		if c == '"' {
			h.token = h.token[:i]
			break
		}
	}
	return h
}

func basicHeader(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// request makes a context that may be served again and again.
func request(path, authorization string, form []byte) *fasthttp.RequestCtx {
	var r fasthttp.Request
	r.Header.SetMethod("POST")
	r.SetRequestURI(path)
	r.Header.SetHost("deputy.test")
	r.Header.Set("Authorization", authorization)
	r.Header.SetContentType(mediaForm)
	r.SetBodyRaw(form)
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&r, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	return ctx
}

func (h *hot) call(path, authorization string, form []byte) []byte {
	ctx := request(path, authorization, form)
	h.api.Handler()(ctx)
	if ctx.Response.StatusCode() != 200 {
		panic(string(ctx.Response.Body()))
	}
	return ctx.Response.Body()
}

func (h *hot) introspection() []byte { return append([]byte("token="), h.token...) }

// A mint allocates the session's id and the text of one handle; each scope or audience that is asked for is a
// string more. Introspecting a remembered token allocates nothing.
const (
	mintAllocations       = 2
	introspectAllocations = 0
)

func TestHotPathAllocations(t *testing.T) {
	if racedetector.Enabled {
		t.Skip("the race detector allocates")
	}
	h := newHot(t)
	for name, hotPath := range map[string]struct {
		path, authorization string
		form                []byte
		most                float64
	}{
		"mint":       {"/oauth2/token", h.agent, []byte("grant_type=client_credentials"), mintAllocations},
		"introspect": {"/oauth2/introspect", h.application, h.introspection(), introspectAllocations},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := request(hotPath.path, hotPath.authorization, hotPath.form)
			handler := h.api.Handler()
			allocations := testing.AllocsPerRun(500, func() {
				ctx.Response.Reset()
				handler(ctx)
			})
			require.Equal(t, 200, ctx.Response.StatusCode())
			t.Logf("%.1f allocations", allocations)
			require.LessOrEqual(t, allocations, hotPath.most)
		})
	}
	t.Run("mint with a hundred policies", func(t *testing.T) {
		h.addPolicies(t)
		ctx := request("/oauth2/token", h.agent, []byte("grant_type=client_credentials"))
		handler := h.api.Handler()
		require.LessOrEqual(t, testing.AllocsPerRun(500, func() {
			ctx.Response.Reset()
			handler(ctx)
		}), float64(mintAllocations))
		require.Equal(t, 200, ctx.Response.StatusCode())
	})
}

// benchmark serves the same request again and again, over in-memory connections and through the whole server.
func benchmark(b *testing.B, handler fasthttp.RequestHandler, server *HTTPServer, path, authorization string, form []byte) {
	b.Helper()
	server.http.Handler = handler
	listener := fasthttputil.NewInmemoryListener()
	go func() { _ = server.Serve(listener) }()
	defer listener.Close()
	client := &fasthttp.Client{
		Dial: func(string) (net.Conn, error) { return listener.Dial() }, MaxConnsPerHost: 64, ReadBufferSize: 8 << 10,
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		in, out := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		in.Header.SetMethod("POST")
		in.SetRequestURI("http://deputy.test" + path)
		in.Header.Set("Authorization", authorization)
		in.Header.SetContentType(mediaForm)
		in.SetBodyRaw(form)
		for pb.Next() {
			if err := client.Do(in, out); err != nil || out.StatusCode() != 200 {
				b.Errorf("%v %d %s", err, out.StatusCode(), out.Body())
				return
			}
		}
	})
}

func BenchmarkMint(b *testing.B) {
	h := newHot(b)
	benchmark(b, h.api.Handler(), h.api.Server(), "/oauth2/token", h.agent, []byte("grant_type=client_credentials"))
}

func BenchmarkIntrospectWarm(b *testing.B) {
	h := newHot(b)
	benchmark(b, h.api.Handler(), h.api.Server(), "/oauth2/introspect", h.application, h.introspection())
}

// BenchmarkCeilingSign is what a mint is measured against: an empty handler that signs as many bytes.
func BenchmarkCeilingSign(b *testing.B) {
	h := newHot(b)
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(b, err)
	message := make([]byte, 600)
	handler := func(ctx *fasthttp.RequestCtx) {
		ctx.SetBody(ed25519.Sign(private, message))
	}
	benchmark(b, handler, h.api.Server(), "/oauth2/token", h.agent, []byte("grant_type=client_credentials"))
}

// BenchmarkCeilingEmpty is an empty handler.
func BenchmarkCeilingEmpty(b *testing.B) {
	h := newHot(b)
	body := make([]byte, 300)
	handler := func(ctx *fasthttp.RequestCtx) { ctx.SetBody(body) }
	benchmark(b, handler, h.api.Server(), "/oauth2/introspect", h.application, h.introspection())
}

// Handler benchmarks leave HTTP out: what the surface itself adds.
func benchmarkHandler(b *testing.B, path, authorization string, form []byte, h *hot) {
	b.Helper()
	handler := h.api.Handler()
	ctx := request(path, authorization, form)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		handler(ctx)
	}
}

func BenchmarkHandlerMint(b *testing.B) {
	h := newHot(b)
	benchmarkHandler(b, "/oauth2/token", h.agent, []byte("grant_type=client_credentials"), h)
}

func BenchmarkHandlerMintWithAHundredPolicies(b *testing.B) {
	h := newHot(b)
	h.addPolicies(b)
	benchmarkHandler(b, "/oauth2/token", h.agent, []byte("grant_type=client_credentials"), h)
}

func BenchmarkHandlerIntrospect(b *testing.B) {
	h := newHot(b)
	benchmarkHandler(b, "/oauth2/introspect", h.application, h.introspection(), h)
}

func BenchmarkSign(b *testing.B) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(b, err)
	message := make([]byte, 600)
	for b.Loop() {
		ed25519.Sign(private, message)
	}
}
