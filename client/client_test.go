package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// node is a stand-in for a node that counts what it is asked.
type node struct {
	*httptest.Server
	asked atomic.Int64
	keys  chan string
}

func newNode(t *testing.T, answer http.HandlerFunc) *node {
	t.Helper()
	n := &node{keys: make(chan string, 64)}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.asked.Add(1)
		select {
		case n.keys <- r.Header.Get(wire.HeaderIdempotencyKey):
		default:
		}
		answer(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

func ok(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func problem(status int, code identity.Code, extra string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.ContentTypeProblem)
		w.Header().Set(wire.HeaderRequestID, "req_1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"type":"`+wire.ProblemType+string(code)+`","title":"t","status":1,"detail":"no"`+extra+`}`)
	}
}

// breaks takes the request and drops the connection before it answers.
func breaks(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// nowhere is an address at which nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

// newClient makes a client that notes its pauses instead of making them.
func newClient(t *testing.T, addresses ...string) (*Client, *[]time.Duration) {
	t.Helper()
	c, err := New(Options{Addresses: addresses, Token: "dpt_secret"})
	require.NoError(t, err)
	pauses := &[]time.Duration{}
	c.pause = func(_ context.Context, d time.Duration) error {
		*pauses = append(*pauses, d)
		return nil
	}
	return c, pauses
}

const agentJSON = `{"id":"a-1","profile":{"name":"a-1","agent_type":"autonomous"},"status":"active"}`

func TestNextNodeIsAskedWhereOneIsDown(t *testing.T) {
	up := newNode(t, ok(agentJSON))
	c, pauses := newClient(t, nowhere(t), up.URL)

	agent, err := c.Agent(t.Context(), "a-1")
	require.NoError(t, err)
	require.Equal(t, "a-1", agent.ID)
	require.Empty(t, *pauses, "going on to the next node needs no pause")

	_, err = c.Agent(t.Context(), "a-1")
	require.NoError(t, err)
	require.EqualValues(t, 1, c.preferred.Load(), "a client stays with the node that answered")
}

func TestNextNodeIsAskedWhereOneCannotVouchForItself(t *testing.T) {
	for _, code := range []identity.Code{identity.CodeNotFresh, identity.CodeNoLeader, identity.CodeOverloaded, identity.CodeStaleIndex, identity.CodeOutcomeUnknown, identity.CodeDraining} {
		t.Run(string(code), func(t *testing.T) {
			unsure, up := newNode(t, problem(503, code, "")), newNode(t, ok(agentJSON))
			c, _ := newClient(t, unsure.URL, up.URL)
			_, err := c.CreateAgent(t.Context(), json.RawMessage(`{}`), false)
			require.NoError(t, err)
			require.EqualValues(t, 1, unsure.asked.Load())
			first, second := <-unsure.keys, <-up.keys
			require.NotEmpty(t, first)
			require.Equal(t, first, second, "a repeated write carries the key of the first")
		})
	}
}

func TestOAuthEndpointThatIsUnavailableIsAskedElsewhere(t *testing.T) {
	unsure := newNode(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"temporarily_unavailable","error_description":"not fresh"}`)
	})
	up := newNode(t, ok(`{"active":true}`))
	c, _ := newClient(t, unsure.URL, up.URL)
	answer, err := c.Introspect(t.Context(), Credentials{ID: "zendesk", Secret: "s"}, "token")
	require.NoError(t, err)
	require.True(t, answer.Active)
}

func TestAttemptsAreBounded(t *testing.T) {
	one, other := newNode(t, problem(503, identity.CodeNoLeader, "")), newNode(t, problem(503, identity.CodeNoLeader, ""))
	c, pauses := newClient(t, one.URL, other.URL)
	_, err := c.Agents(t.Context(), List{})
	require.Equal(t, identity.CodeNoLeader, identity.CodeOf(err))
	require.EqualValues(t, rounds, one.asked.Load())
	require.EqualValues(t, rounds, other.asked.Load())
	require.Equal(t, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause}, *pauses)
}

func TestNodesWishForAPauseIsHeededWithinBounds(t *testing.T) {
	for wish, want := range map[string]time.Duration{"1": time.Second, "3600": maxPause, "-1": firstPause, "soon": firstPause} {
		busy := newNode(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", wish)
			problem(503, identity.CodeNotFresh, "")(w, r)
		})
		c, pauses := newClient(t, busy.URL)
		_, err := c.Agents(t.Context(), List{})
		require.Error(t, err)
		require.Equal(t, want, (*pauses)[0], "Retry-After: %s", wish)
	}
}

func TestUnreachableClusterSaysWhatBecameOfEachAddress(t *testing.T) {
	a, b := nowhere(t), nowhere(t)
	c, _ := newClient(t, a, b)
	_, err := c.Agents(t.Context(), List{})
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.False(t, unreachable.Unknown)
	require.Len(t, unreachable.Failures, 2)
	require.ErrorContains(t, err, a)
	require.ErrorContains(t, err, b)
	require.ErrorContains(t, err, "connection refused")
}

func TestNodeThatAnsweredKnowsMoreThanOneThatDidNot(t *testing.T) {
	unsure := newNode(t, problem(503, identity.CodeNoLeader, ""))
	c, _ := newClient(t, unsure.URL, nowhere(t))
	_, err := c.Agents(t.Context(), List{})
	require.Equal(t, identity.CodeNoLeader, identity.CodeOf(err))
}

func TestWriteWithALostAnswerIsRepeatedUnderItsKey(t *testing.T) {
	lost, up := newNode(t, breaks), newNode(t, ok(agentJSON))
	c, _ := newClient(t, lost.URL, up.URL)
	_, err := c.CreateAgent(t.Context(), json.RawMessage(`{}`), false)
	require.NoError(t, err)
	require.Equal(t, <-lost.keys, <-up.keys)
}

func TestLostAnswerThatCannotBeRepeatedIsUnknown(t *testing.T) {
	lost, up := newNode(t, breaks), newNode(t, ok(`{}`))
	c, _ := newClient(t, lost.URL, up.URL)
	_, err := c.TransferLeadership(t.Context(), "n2")
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.True(t, unreachable.Unknown)
	require.ErrorContains(t, err, "unknown whether")
	require.Zero(t, up.asked.Load())
}

func TestRefusalIsNotAskedAgain(t *testing.T) {
	no := newNode(t, problem(422, identity.CodeValidation, `,"hint":"mend it","errors":[{"pointer":"/profile/name","detail":"is missing"}]`))
	up := newNode(t, ok(agentJSON))
	c, _ := newClient(t, no.URL, up.URL)
	_, err := c.CreateAgent(t.Context(), json.RawMessage(`{}`), false)
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 422, refused.Status)
	require.Equal(t, "mend it", refused.Hint)
	require.Equal(t, "req_1", refused.RequestID)
	require.Equal(t, "no: /profile/name is missing", err.Error())
	require.Zero(t, up.asked.Load())

	var domain *identity.Error
	require.ErrorAs(t, err, &domain)
	require.Equal(t, identity.CodeValidation, domain.Code)
	require.Equal(t, refused.Fields, domain.Fields)
}

func TestAnswerOfAStrangerIsAnErrorWithoutCode(t *testing.T) {
	stranger := newNode(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusForbidden) })
	c, _ := newClient(t, stranger.URL)
	_, err := c.Agents(t.Context(), List{})
	require.ErrorContains(t, err, "answered 403 Forbidden")
	require.Equal(t, identity.CodeInternal, identity.CodeOf(err))

	nonsense := newNode(t, ok(`<html>`))
	c, _ = newClient(t, nonsense.URL, stranger.URL)
	_, err = c.Agents(t.Context(), List{})
	require.ErrorContains(t, err, "not what a node sends")
}

func TestRedirectIsNeverFollowed(t *testing.T) {
	thief := newNode(t, ok(`[]`))
	c, _ := newClient(t, newNode(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	}).URL)
	_, err := c.Agents(t.Context(), List{})
	require.Error(t, err)
	require.Zero(t, thief.asked.Load())
}

func TestClientReadsItsOwnWrites(t *testing.T) {
	var seen atomic.Value
	seen.Store("")
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get(wire.HeaderIndex))
		if r.Method == http.MethodPost {
			w.Header().Set(wire.HeaderIndex, "41")
		} else {
			w.Header().Set(wire.HeaderIndex, "7")
		}
		_, _ = io.WriteString(w, agentJSON)
	})
	c, _ := newClient(t, n.URL)
	_, err := c.CreateAgent(t.Context(), json.RawMessage(`{}`), false)
	require.NoError(t, err)
	require.Empty(t, seen.Load(), "nothing was written before")
	_, err = c.Agent(t.Context(), "a-1")
	require.NoError(t, err)
	require.Equal(t, "41", seen.Load())
	require.EqualValues(t, 41, c.Index(), "an older index is not taken over")
	c.Observe(50)
	_, err = c.Introspect(t.Context(), Credentials{}, "t")
	require.NoError(t, err)
	require.Equal(t, "50", seen.Load())
}

func TestBodyAndCredentialsTravelAsTheyStand(t *testing.T) {
	const text = "{ \"profile\" : {\"name\":\"a-1\"}\n}"
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/prefix/api/v1/agents":
			require.Equal(t, text, string(body))
			require.Equal(t, "secret", r.URL.Query().Get("credentials"))
			require.Equal(t, "SSWS dpt_secret", r.Header.Get("Authorization"))
			require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		case "/prefix/oauth2/token":
			id, secret, _ := r.BasicAuth()
			require.Equal(t, "a%3A1", id, "RFC 6749 section 2.3.1 encodes both halves")
			require.Equal(t, "s%2Bs", secret)
			require.Equal(t, "audience=zendesk&grant_type=client_credentials&max_duration_seconds=60&scope=a+b&trigger_reason=why", string(body))
		case "/prefix/api/v1/agents/a%2F1":
			t.Error("the path was unescaped")
		default:
			require.Equal(t, "/prefix/api/v1/agents/a/1", r.URL.Path)
			require.Equal(t, "/prefix/api/v1/agents/a%2F1", r.URL.EscapedPath())
		}
		_, _ = io.WriteString(w, "{}")
	})
	c, _ := newClient(t, n.URL+"/prefix/")
	_, err := c.CreateAgent(t.Context(), json.RawMessage(text), true)
	require.NoError(t, err)
	_, err = c.MintToken(t.Context(), Credentials{ID: "a:1", Secret: "s+s"}, TokenOptions{
		Scopes: []string{"a", "b"}, Audience: []string{"zendesk"}, TriggerReason: "why", MaxDurationSeconds: 60,
	})
	require.NoError(t, err)
	_, err = c.Agent(t.Context(), "a/1")
	require.NoError(t, err)
}

func TestTooLargeABodyNeverLeaves(t *testing.T) {
	n := newNode(t, ok(`{}`))
	c, _ := newClient(t, n.URL)
	_, err := c.CreateAgent(t.Context(), json.RawMessage(strings.Repeat(" ", wire.MaxBodyBytes+1)), false)
	require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))
	require.Zero(t, n.asked.Load())
}

func TestRevocationNeverCarriesAnIdempotencyKey(t *testing.T) {
	n := newNode(t, ok(`{}`))
	c, _ := newClient(t, n.URL)
	for _, stop := range []func() error{
		func() error { _, err := c.Revoke(t.Context(), wire.RevocationRequest{SessionID: "ses_x"}); return err },
		func() error { _, err := c.EndSession(t.Context(), "ses_x", "why"); return err },
		func() error { _, err := c.KillAgent(t.Context(), "a", wire.KillRequest{}, false); return err },
		func() error { _, err := c.KillPrincipal(t.Context(), "u", wire.KillRequest{}, false); return err },
		func() error { _, err := c.CreateSession(t.Context(), wire.SessionRequest{}, nil); return err },
	} {
		require.NoError(t, stop())
		require.Empty(t, <-n.keys)
	}
}

func TestListIsWalkedPageByPage(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "2", r.URL.Query().Get("limit"))
		switch r.URL.Query().Get("after") {
		case "":
			w.Header().Set("Link", `<http://127.0.0.1/api/v1/agents?limit=2&after=a%402>; rel="next"`)
			_, _ = io.WriteString(w, `[{"id":"a@1"},{"id":"a@2"}]`)
		case "a@2":
			_, _ = io.WriteString(w, `[{"id":"a@3"}]`)
		}
	})
	c, _ := newClient(t, n.URL)
	var ids []string
	for agent, err := range All(t.Context(), List{Limit: 2}, c.Agents) {
		require.NoError(t, err)
		ids = append(ids, agent.ID)
	}
	require.Equal(t, []string{"a@1", "a@2", "a@3"}, ids)
}

func TestCursorThatStandsStillEndsTheWalk(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</api/v1/agents?after=a>; rel="next"`)
		_, _ = io.WriteString(w, `[{"id":"a"}]`)
	})
	c, _ := newClient(t, n.URL)
	count := 0
	for _, err := range All(t.Context(), List{}, c.Agents) {
		require.NoError(t, err)
		count++
	}
	require.Equal(t, 2, count)
}

func TestErrorEndsTheWalk(t *testing.T) {
	c, _ := newClient(t, newNode(t, problem(403, identity.CodeForbidden, "")).URL)
	for _, err := range All(t.Context(), List{}, c.Agents) {
		require.Equal(t, identity.CodeForbidden, identity.CodeOf(err))
	}
}

func TestCancelledCallEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := newNode(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	c, pauses := newClient(t, n.URL, n.URL)
	_, err := c.Agents(ctx, List{})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 1, n.asked.Load())
	require.Empty(t, *pauses)
}

func TestTimeoutCountsAsUnreachable(t *testing.T) {
	release := make(chan struct{})
	n := newNode(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c, _ := newClient(t, nowhere(t), n.URL, n.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.Agents(ctx, List{})
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, unreachable.Failures, 2, "the third address was not asked")
	require.False(t, unreachable.Unknown)
}

func TestPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, pause(ctx, time.Hour), context.Canceled)
	require.NoError(t, pause(t.Context(), time.Nanosecond))
}

func TestAddressesAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8401":         "http://127.0.0.1:8401",
		"[::1]:8401":             "http://[::1]:8401",
		"localhost:8401":         "http://localhost:8401",
		"deputy.example.com":     "https://deputy.example.com",
		"10.0.0.1:8401":          "https://10.0.0.1:8401",
		" http://10.0.0.1:8401/": "http://10.0.0.1:8401",
		"https://x.example/p/":   "https://x.example/p",
	} {
		u, err := ParseAddress(text)
		require.NoError(t, err, text)
		require.Equal(t, want, u.String())
	}
	for _, text := range []string{"", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "http://a b"} {
		_, err := ParseAddress(text)
		require.Error(t, err, text)
	}
	_, err := New(Options{})
	require.ErrorContains(t, err, "no address")
	_, err = New(Options{Addresses: make([]string, MaxAddresses+1)})
	require.ErrorContains(t, err, "at most 16")
	_, err = New(Options{Addresses: []string{"http://user:hunter2@x"}})
	require.NotContains(t, err.Error(), "hunter2")
}

func TestEveryFailureIsFoundInsideUnreachable(t *testing.T) {
	cause := errors.New("down")
	err := &UnreachableError{Failures: []Failure{{Address: "http://a", Err: cause}}}
	require.ErrorIs(t, err, cause)
}

// An answer that was lost may have been that the write is made: what the next node refuses says nothing of it.
func TestRefusalAfterALostAnswerDoesNotSayThatNothingWasDone(t *testing.T) {
	lost, unsure := newNode(t, breaks), newNode(t, problem(503, identity.CodeNoLeader, ""))
	c, _ := newClient(t, lost.URL, unsure.URL)
	_, err := c.DeleteAgent(t.Context(), "a", "")
	require.Equal(t, identity.CodeOutcomeUnknown, identity.CodeOf(err))
	_, err = c.Agent(t.Context(), "a")
	require.Equal(t, identity.CodeNoLeader, identity.CodeOf(err), "a read has no outcome")
}
