package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// answer is what came back, held to the OpenAPI document already.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   []byte
}

// option changes a request before it is sent.
type option func(*http.Request)

func also(name, value string) option { return func(r *http.Request) { r.Header.Add(name, value) } }
func with(name, value string) option { return func(r *http.Request) { r.Header.Set(name, value) } }
func anonymous(r *http.Request)      { r.Header.Del("Authorization") }
func basic(id, secret string) option {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}
func token(secret string) option       { return with("Authorization", "SSWS "+secret) }
func idempotencyKey(key string) option { return with(wire.HeaderIdempotencyKey, key) }
func mergePatchBody(r *http.Request)   { r.Header.Set("Content-Type", mediaMergePatch) }
func contentType(media string) option  { return with("Content-Type", media) }

// send makes a request as the admin and validates the answer against the OpenAPI document. A string or byte
// body is sent as it is, url.Values as a form, anything else as JSON.
func (n *node) send(method, path string, body any, options ...option) answer {
	n.t.Helper()
	var content io.Reader
	media := contentTypeJSON
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	case []byte:
		content = bytes.NewReader(b)
	case url.Values:
		content, media = strings.NewReader(b.Encode()), mediaForm
	default:
		text, err := json.Marshal(b)
		require.NoError(n.t, err)
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, "http://deputy.test"+path, content)
	require.NoError(n.t, err)
	request.Header.Set("Authorization", "SSWS "+n.root)
	if strings.HasPrefix(path, "/oauth2/") {
		request.Header.Del("Authorization")
	}
	if content != nil {
		request.Header.Set("Content-Type", media)
	}
	for _, change := range options {
		change(request)
	}
	response, err := n.client.Do(request)
	require.NoError(n.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(n.t, err)
	a := answer{t: n.t, Status: response.StatusCode, Header: response.Header, Body: text}
	n.conforms(request, a)
	return a
}

// ok wants success and reads the body.
func ok[T any](a answer, status int) T {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, "%s", a.Body)
	var v T
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.DisallowUnknownFields()
	require.NoError(a.t, d.Decode(&v), "%s", a.Body)
	return v
}

func (a answer) problem() wire.Problem {
	a.t.Helper()
	require.Equal(a.t, wire.ContentTypeProblem, a.Header.Get("Content-Type"), "%s", a.Body)
	var p wire.Problem
	require.NoError(a.t, json.Unmarshal(a.Body, &p), "%s", a.Body)
	require.Equal(a.t, a.Status, p.Status)
	require.Equal(a.t, a.Header.Get(wire.HeaderRequestID), p.Instance)
	return p
}

// refused wants a problem with the code.
func (a answer) refused(code identity.Code) wire.Problem {
	a.t.Helper()
	p := a.problem()
	require.Equal(a.t, code, p.Code(), "%s", a.Body)
	require.Equal(a.t, verdicts[code].status, a.Status)
	return p
}

// refusedOAuth wants an RFC 6749 error.
func (a answer) refusedOAuth(status int, name string) string {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, "%s", a.Body)
	var e wire.OAuthError
	require.NoError(a.t, json.Unmarshal(a.Body, &e), "%s", a.Body)
	require.Equal(a.t, name, e.Error, "%s", a.Body)
	return e.Description
}

// Objects of the seed article, made through the surface.

const articleAgent = `{"profile": {"name": "support-triage-agent", "description": "Classifies Zendesk tickets and assigns to queues",
	"owner_group": "ai-engineering", "agent_type": "autonomous"},
	"default_scopes": ["zendesk.tickets.read", "zendesk.tickets.assign"],
	"max_session_duration_seconds": 3600}`

const inboxAgent = `{"profile": {"name": "inbox-assistant", "owner_group": "productivity", "agent_type": "user-delegated"},
	"default_scopes": ["gmail.read", "gmail.draft"], "max_session_duration_seconds": 14400, "applications": ["gmail"]}`

const gmail = `{"name": "gmail", "audience": "https://gmail.example.com", "scopes": ["gmail.read", "gmail.draft", "gmail.send"]}`

// agentWithSecret creates an agent and returns its secret.
func (n *node) agentWithSecret(body string) string {
	n.t.Helper()
	return ok[wire.Agent](n.send("POST", "/api/v1/agents?credentials=secret", body), 201).Credential.Secret
}

// applicationWithSecret creates an application and returns its secret.
func (n *node) applicationWithSecret(body string) string {
	n.t.Helper()
	return ok[wire.Application](n.send("POST", "/api/v1/applications?credentials=secret", body), 201).Credential.Secret
}

func (n *node) mint(id, secret string, form url.Values) wire.Token {
	n.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("grant_type", "client_credentials")
	return ok[wire.Token](n.send("POST", "/oauth2/token", form, basic(id, secret)), 200)
}

func (n *node) introspect(id, secret, token string) wire.Introspection {
	n.t.Helper()
	return ok[wire.Introspection](n.send("POST", "/oauth2/introspect", url.Values{"token": {token}}, basic(id, secret)), 200)
}
