package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deputy-id/deputy/client"
)

// verdict is what one answer says of a token, or of the wish for one.
type verdict int

const (
	refused  verdict = iota // a clear no
	silent                  // 503: the node can't vouch for anything
	absent                  // no answer at all
	accepted                // good, or minted
	strange                 // none of these
)

func (v verdict) String() string {
	return [...]string{"refused", "silent", "absent", "accepted", "strange"}[v]
}

// answer is what became of one request to one node.
type answer struct {
	node         string
	question     string
	verdict      verdict
	began, ended time.Time
	detail       string // for people
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s: %s after %s (%s)", a.node, a.question, a.verdict, a.ended.Sub(a.began).Round(time.Microsecond), a.detail)
}

// asker puts single questions to one node: no other node is tried, nothing is repeated.
type asker struct {
	node string
	url  string
	http *http.Client
}

func newAsker(t *testing.T, node, url string) *asker {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &asker{node: node, url: url, http: &http.Client{Transport: transport}}
}

// asker is for a node of the fleet.
func (n *node) asker(t *testing.T) *asker {
	t.Helper()
	return newAsker(t, n.id, n.url())
}

func (f *fleet) askers(t *testing.T) []*asker {
	t.Helper()
	var all []*asker
	for _, n := range f.nodes {
		all = append(all, n.asker(t))
	}
	return all
}

// maxAnswerBytes is more than any answer to these questions has.
const maxAnswerBytes = 1 << 20

// reply is an answer as it came.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send makes one request and reads its answer whole.
func (a *asker) send(ctx context.Context, method, path, contentType, body string, authorize func(*http.Request)) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	authorize(request)
	response, err := a.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	return reply{status: response.StatusCode, header: response.Header, body: text}, err
}

func basic(who client.Credentials) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(who.ID), url.QueryEscape(who.Secret)) }
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "SSWS "+token) }
}

// command sends an administrator's request as JSON and reads the answer into out where it is a success.
func (a *asker) command(ctx context.Context, token, method, path string, body, out any) (int, error) {
	var text []byte
	contentType := ""
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
		contentType = "application/json"
	}
	said, err := a.send(ctx, method, path, contentType, string(text), bearer(token))
	if err != nil {
		return 0, err
	}
	if said.status < 200 || said.status > 299 {
		return said.status, fmt.Errorf("%s answered %d: %s", a.node, said.status, bytes.TrimSpace(said.body))
	}
	if out == nil {
		return said.status, nil
	}
	return said.status, json.Unmarshal(said.body, out)
}

// judge asks and makes an answer of what comes back. A success is what yes says of its body.
func (a *asker) judge(ctx context.Context, question, path, contentType, body string, who client.Credentials, yes func([]byte) bool) answer {
	got := answer{node: a.node, question: question, began: time.Now()}
	came, err := a.send(ctx, http.MethodPost, path, contentType, body, basic(who))
	got.ended = time.Now()
	status, said := came.status, came.body
	switch {
	case err != nil:
		got.verdict, got.detail = absent, err.Error()
		return got
	case status == http.StatusServiceUnavailable:
		got.verdict = silent
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		got.verdict = refused
	case status < 200 || status > 299:
		got.verdict = strange
	case yes(said):
		got.verdict = accepted
		said = nil // it may hold a token
	case bytes.Equal(bytes.TrimSpace(said), []byte(`{"active":false}`)):
		got.verdict = refused
	default:
		got.verdict = strange
	}
	got.detail = fmt.Sprintf("%d %.300s", status, said)
	return got
}

func (a *asker) introspect(ctx context.Context, application client.Credentials, token string) answer {
	form := url.Values{"token": {token}}.Encode()
	return a.judge(ctx, "introspects", "/oauth2/introspect", formType, form, application, func(body []byte) bool {
		return bytes.Contains(body, []byte(`"active":true`))
	})
}

const formType = "application/x-www-form-urlencoded"

// minted reports whether a body holds a token.
func minted(body []byte) bool { return bytes.Contains(body, []byte(`"access_token"`)) }

// mint asks for an autonomous session of the agent.
func (a *asker) mint(ctx context.Context, agent client.Credentials) answer {
	return a.judge(ctx, "mints", "/oauth2/token", formType, "grant_type=client_credentials", agent, minted)
}

// mintFor asks for a session on behalf of a principal who has lent the agent authority.
func (a *asker) mintFor(ctx context.Context, agent client.Credentials, principal string) answer {
	body := fmt.Sprintf(`{"agent_id":%q,"principal_user_id":%q}`, agent.ID, principal)
	return a.judge(ctx, "mints on behalf", "/api/v1/sessions", "application/json", body, agent, minted)
}

// tally counts answers and keeps those that should not have been.
type tally struct {
	mu     sync.Mutex
	counts [strange + 1]int
	wrong  []answer
	slow   answer // the one that took longest
}

// add takes in an answer that must not be a yes.
func (c *tally) add(got answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[got.verdict]++
	if got.ended.Sub(got.began) > c.slow.ended.Sub(c.slow.began) {
		c.slow = got
	}
	if got.verdict == accepted || got.verdict == strange {
		c.wrong = append(c.wrong, got)
	}
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, n := range c.counts {
		total += n
	}
	return fmt.Sprintf("%d answers: %d refused, %d silent, %d absent, %d accepted, %d strange",
		total, c.counts[refused], c.counts[silent], c.counts[absent], c.counts[accepted], c.counts[strange])
}
