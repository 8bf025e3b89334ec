package api

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

func TestBadBodiesAreNamed(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	for name, refused := range map[string]struct {
		body, pointer string
		code          identity.Code
	}{
		"empty":                 {``, "", identity.CodeInvalid},
		"not JSON":              {`nope`, "", identity.CodeInvalid},
		"cut off":               {`{"profile":{"name":"a"`, "/profile", identity.CodeInvalid},
		"an array":              {`[]`, "", identity.CodeInvalid},
		"null":                  {`null`, "", identity.CodeInvalid},
		"trailing data":         {`{"profile":{"name":"a","agent_type":"autonomous"}}{}`, "", identity.CodeInvalid},
		"unknown field":         {`{"profile":{"name":"a","agent_type":"autonomous","colour":"red"}}`, "/profile/colour", identity.CodeInvalid},
		"another case":          {`{"Profile":{"name":"a","agent_type":"autonomous"}}`, "/Profile", identity.CodeInvalid},
		"repeated field":        {`{"labels":{},"labels":{}}`, "/labels", identity.CodeInvalid},
		"repeated key":          {`{"labels":{"a":"1","a":"2"}}`, "/labels/a", identity.CodeInvalid},
		"escaped pointer":       {`{"labels":{"a/b~c":1}}`, "/labels/a~1b~0c", identity.CodeInvalid},
		"wrong type":            {`{"profile":"a"}`, "/profile", identity.CodeInvalid},
		"null where none may":   {`{"profile":null}`, "/profile", identity.CodeInvalid},
		"number for text":       {`{"profile":{"name":1}}`, "/profile/name", identity.CodeInvalid},
		"fraction":              {`{"max_session_duration_seconds":1.5}`, "/max_session_duration_seconds", identity.CodeInvalid},
		"huge number":           {`{"max_session_duration_seconds":99999999999999999999}`, "/max_session_duration_seconds", identity.CodeInvalid},
		"bad scope":             {`{"default_scopes":["a b"]}`, "/default_scopes", identity.CodeInvalid},
		"entry of another type": {`{"groups":["a",2]}`, "/groups/1", identity.CodeInvalid},
		"bad UTF-8":             {"{\"groups\":[\"\xff\"]}", "/groups/0", identity.CodeInvalid},
		"lone surrogate":        {`{"groups":["\ud800"]}`, "/groups/0", identity.CodeInvalid},
		"raw control character": {"{\"groups\":[\"\x01\"]}", "/groups/0", identity.CodeInvalid},
		"too deep":              {`{"labels":` + strings.Repeat(`[`, 40), "/labels", identity.CodeInvalid},
		"bad name":              {`{"profile":{"name":"A b","agent_type":"autonomous"}}`, "/profile/name", identity.CodeValidation},
		"unknown type of agent": {`{"profile":{"name":"a","agent_type":"robot"}}`, "/profile/agent_type", identity.CodeValidation},
		"too long a session":    {`{"profile":{"name":"a","agent_type":"autonomous"},"max_session_duration_seconds":86401}`, "/max_session_duration_seconds", identity.CodeValidation},
	} {
		t.Run(name, func(t *testing.T) {
			p := n.send("POST", "/api/v1/agents", refused.body).refused(refused.code)
			if refused.pointer != "" {
				require.NotEmpty(t, p.Errors)
				require.Equal(t, refused.pointer, p.Errors[0].Pointer)
			}
		})
	}
	n.send("POST", "/api/v1/agents", articleAgent, contentType("text/plain")).refused(identity.CodeUnsupportedMedia)
	n.send("POST", "/api/v1/agents", articleAgent, contentType("application/json; charset=utf-8"))
	n.send("POST", "/api/v1/api-tokens", `{"name":"x","roles":["auditor"],"expires_at":"tomorrow"}`).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/agents?credentials=magic", articleAgent).refused(identity.CodeInvalid)
}

func TestBodyTooLarge(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	// By its length alone: nobody has to send the body to hear of it.
	status, body := n.raw(t, fmt.Sprintf("POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", wire.MaxBodyBytes+1))
	require.Equal(t, 413, status)
	require.Contains(t, body, wire.ProblemType+string(identity.CodeTooLarge))
	n.send("POST", "/api/v1/agents", strings.Repeat(" ", wire.MaxBodyBytes)).refused(identity.CodeInvalid)
}

func TestHeadersTooLarge(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.send("GET", "/api/v1/agents", nil, with("X-Filler", strings.Repeat("x", 17<<10))).refused(identity.CodeHeadersTooLarge)
	ok[[]wire.Agent](n.send("GET", "/api/v1/agents", nil, with("X-Filler", strings.Repeat("x", 12<<10))), 200)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.send("GET", "/api/v1/nothing", nil).refused(identity.CodeNotFound)
	n.send("GET", "/api/v1/agents/", nil).refused(identity.CodeNotFound) // no redirects
	a := n.send("DELETE", "/api/v1/agents", nil)
	a.refused(identity.CodeMethodNotAllowed)
	require.Equal(t, "GET, HEAD, OPTIONS, POST", a.Header.Get("Allow"))
	status, body := n.raw(t, "GET /api/v1/agents/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: SSWS "+n.root+"\r\n\r\n")
	require.Equal(t, 400, status)
	require.Contains(t, body, "not well-formed")
	n.send("GET", "/api/v1/agents/unknown", nil).refused(identity.CodeNotFound)
	n.send("GET", "/api/v1/agents?colour=red", nil).refused(identity.CodeInvalid)
	n.send("GET", "/api/v1/agents?limit=1&limit=2", nil).refused(identity.CodeInvalid)
}

func TestAuthenticationIsRequired(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	for i := range n.api.routes {
		route := &n.api.routes[i]
		if route.Kind == KindPublic || route.Kind == KindOAuth {
			continue
		}
		path := strings.NewReplacer("{id}", "x", "{credential}", "y").Replace(route.Path)
		a := n.send(route.Method, path, nil, anonymous)
		a.refused(identity.CodeUnauthenticated)
		require.Equal(t, `Bearer realm="deputy"`, a.Header.Get("Www-Authenticate"))
		a = n.send(route.Method, path, nil, token("dpt_wrong"))
		a.refused(identity.CodeUnauthenticated)
		require.Contains(t, a.Header.Get("Www-Authenticate"), "invalid_token")
	}
}

func TestEveryRouteRefusesAnotherRoleAndNamesItsOwn(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	g.addToken(t, "dpt_approver", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleApprover}})
	g.addToken(t, "dpt_provisioner", identity.APIToken{Name: "p", Roles: []identity.Role{identity.RoleProvisioner}})
	for i := range n.api.routes {
		route := &n.api.routes[i]
		if len(route.Roles) == 0 {
			continue
		}
		other := "dpt_approver"
		if slices.Contains(route.Roles, identity.RoleApprover) {
			other = "dpt_provisioner"
		}
		path := strings.NewReplacer("{id}", "x", "{credential}", "y").Replace(route.Path)
		p := n.send(route.Method, path, nil, token(other)).refused(identity.CodeForbidden)
		require.Contains(t, p.Detail, string(route.Roles[0]))
	}
}

func TestRequestIDIsTakenOverWhereSane(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	require.Equal(t, "abc-123", n.send("GET", "/api/v1/agents", nil, with(wire.HeaderRequestID, "abc-123")).Header.Get(wire.HeaderRequestID))
	for _, odd := range []string{"a b", strings.Repeat("x", 65), `"`, ""} {
		require.Regexp(t, "^req_[0-9a-z]{26}$", n.send("GET", "/api/v1/agents", nil, with(wire.HeaderRequestID, odd)).Header.Get(wire.HeaderRequestID))
	}
}

func TestIndexInARequestIsWaitedFor(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	follower := g.nodes[1]
	g.mu.Lock()
	g.lag[1] = true
	g.mu.Unlock()
	made := g.nodes[0].send("POST", "/api/v1/agents", articleAgent)
	index := made.Header.Get(wire.HeaderIndex)
	follower.send("GET", "/api/v1/agents/support-triage-agent", nil).refused(identity.CodeNotFound)
	follower.send("GET", "/api/v1/agents/support-triage-agent", nil, with(wire.HeaderIndex, index)).refused(identity.CodeStaleIndex)

	done := make(chan answer, 1)
	go func() {
		done <- follower.send("GET", "/api/v1/agents/support-triage-agent", nil, with(wire.HeaderIndex, index))
	}()
	g.release(1)
	ok[wire.Agent](<-done, 200)
	follower.send("GET", "/api/v1/agents", nil, with(wire.HeaderIndex, "many")).refused(identity.CodeInvalid)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	const path = "/api/v1/agents?credentials=secret"
	first := ok[wire.Agent](n.send("POST", path, articleAgent, idempotencyKey("k1")), 201)
	again := n.send("POST", path, articleAgent, idempotencyKey("k1"))
	replayed := ok[wire.Agent](again, 201)
	require.Empty(t, replayed.Credential.Secret, "a replay shows no secret")
	first.Credential.Secret = ""
	require.Equal(t, first, replayed)
	n.send("POST", path, strings.Replace(articleAgent, "3600", "1800", 1), idempotencyKey("k1")).refused(identity.CodeIdempotencyMismatch)
	n.send("POST", path, articleAgent, idempotencyKey(strings.Repeat("k", 256))).refused(identity.CodeInvalid)

	// Another caller's key is another key.
	g.addToken(t, "dpt_other", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleProvisioner}})
	n.send("POST", path, articleAgent, idempotencyKey("k1"), token("dpt_other")).refused(identity.CodeAlreadyExists)
}

func TestIdempotencyKeyNeverSuppressesARevocation(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	ok[wire.Agent](n.send("POST", "/api/v1/agents", articleAgent), 201)
	const kill = "/api/v1/agents/support-triage-agent/revoke"
	first := ok[wire.Kill](n.send("POST", kill, `{"keep_active":true}`, idempotencyKey("k")), 200)
	second := ok[wire.Kill](n.send("POST", kill, `{"keep_active":true}`, idempotencyKey("k")), 200)
	require.NotEqual(t, first.Handles, second.Handles, "the second kill denies the second generation")
	const suspend = "/api/v1/agents/support-triage-agent/lifecycle/suspend"
	one := ok[wire.AgentStatus](n.send("POST", suspend, nil, idempotencyKey("s")), 200)
	ok[wire.AgentStatus](n.send("POST", "/api/v1/agents/support-triage-agent/lifecycle/activate", nil), 200)
	two := ok[wire.AgentStatus](n.send("POST", suspend, nil, idempotencyKey("s")), 200)
	require.NotEqual(t, one.Handles, two.Handles)
}

func TestRateLimitIsPerCaller(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1, func(o *Options) { o.Limits = Limits{RequestsPerSecond: 1, Burst: 3} })
	n := g.nodes[0]
	g.addToken(t, "dpt_other", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleAuditor}})
	for left := 2; left >= 0; left-- {
		a := n.send("GET", "/api/v1/agents", nil)
		require.Equal(t, 200, a.Status)
		require.Equal(t, "3", a.Header.Get(wire.HeaderRateLimit))
		require.Equal(t, fmt.Sprint(left), a.Header.Get(wire.HeaderRateRemaining))
	}
	a := n.send("GET", "/api/v1/agents", nil)
	a.refused(identity.CodeRateLimited)
	require.Equal(t, "2", a.Header.Get("Retry-After"))
	require.NotEmpty(t, a.Header.Get(wire.HeaderRateReset))
	require.Equal(t, 200, n.send("GET", "/api/v1/agents", nil, token("dpt_other")).Status, "others are not held up")
	g.advance(time.Second)
	require.Equal(t, 200, n.send("GET", "/api/v1/agents", nil).Status)

	for range 3 { // nobody's requests are charged to the address
		n.send("GET", "/api/v1/agents", nil, anonymous).refused(identity.CodeUnauthenticated)
	}
	n.send("GET", "/api/v1/agents", nil, token("dpt_guess")).refused(identity.CodeRateLimited)
	n.send("POST", "/oauth2/token", nil, contentType(mediaForm)).refusedOAuth(429, "temporarily_unavailable")
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, 1)
	now := time.Unix(1, 0)
	for caller := range uint64(3 * shardBuckets) {
		l.take(caller*limiterShards, now) // all in one shard
	}
	require.Len(t, l.shards[0].buckets, shardBuckets)
}

// raw sends bytes as they are, for what no client would send.
func (n *node) raw(t *testing.T, request string) (int, string) {
	t.Helper()
	c, err := n.listener.Dial()
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, request)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NotEmpty(t, response.Header.Get(wire.HeaderRequestID))
	require.True(t, response.Close)
	return response.StatusCode, string(body)
}

func TestSmugglingAndGarbageAreRefused(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	status, body := n.raw(t, "POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	require.Equal(t, 400, status)
	require.Contains(t, body, "Content-Length and Transfer-Encoding")
	secret := "dps_this-is-not-to-be-echoed"
	status, body = n.raw(t, "POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization "+secret+"\r\n\r\n")
	require.Equal(t, 400, status)
	require.NotContains(t, body, secret)
	require.NotContains(t, n.logs.String(), secret)
}

func TestPanicIsA500AndTheNodeLivesOn(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	route := Route{Method: "GET", Path: "/boom", Name: "boom", Kind: KindPublic, handler: func(_ *API, c *call) error {
		panic(string(c.ctx.Request.Header.Peek("Authorization")))
	}}
	n.api.metrics.byRoute[route.pattern()] = n.api.metrics.of(&routeNotFound)
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.Set("Authorization", "SSWS dpt_secret-in-a-panic")
	n.api.serve(&route)(&ctx)
	require.Equal(t, 500, ctx.Response.StatusCode())
	require.Contains(t, string(ctx.Response.Body()), wire.ProblemType+"internal")
	require.Contains(t, n.logs.String(), "handler panicked")
	require.NotContains(t, n.logs.String(), "secret-in-a-panic")
}

func TestForwardedForIsBelievedOnlyFromProxies(t *testing.T) {
	t.Parallel()
	a := newGroup(t, 1, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }).nodes[0].api
	source := func(peer string, headers ...string) string {
		e := envelope{source: netip.MustParseAddr(peer)}
		ctx := e.request()
		for _, h := range headers {
			ctx.Request.Header.Add("X-Forwarded-For", h)
		}
		return a.sourceOf(ctx).String()
	}
	require.Equal(t, "192.0.2.1", source("192.0.2.1", "198.51.100.9"), "not a proxy")
	require.Equal(t, "198.51.100.9", source("10.0.0.1", "203.0.113.5, 198.51.100.9, 10.0.0.2"), "read from the right")
	require.Equal(t, "198.51.100.9", source("10.0.0.1", "203.0.113.5", "198.51.100.9"))
	require.Equal(t, "10.0.0.1", source("10.0.0.1"))
	require.Equal(t, "10.0.0.2", source("10.0.0.1", "spoofed, 10.0.0.2"))
}

func TestEverySeriesIsThereFromBoot(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	families, err := n.registry.Gather()
	require.NoError(t, err)
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	routes := len(n.api.routes) + 4
	require.Equal(t, 4*routes, series["deputy_api_requests_total"])
	require.Equal(t, routes, series["deputy_api_request_seconds"])
	require.Equal(t, len(verdicts), series["deputy_api_refusals_total"])
	require.Equal(t, 2, series["deputy_api_mints_total"])
	require.Equal(t, 2, series["deputy_api_introspections_total"])

	secret := n.agentWithSecret(articleAgent)
	n.mint("support-triage-agent", secret, nil)
	families, err = n.registry.Gather()
	require.NoError(t, err)
	minted := 0.0
	for _, f := range families {
		if f.GetName() == "deputy_api_mints_total" {
			for _, m := range f.GetMetric() {
				minted += m.GetCounter().GetValue()
			}
		}
	}
	require.EqualValues(t, 1, minted)
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Options{})
	require.ErrorContains(t, err, "Options.Proposer is missing")
	require.ErrorContains(t, err, "Options.Freshness is missing")
}
