package api

import (
	"encoding/base64"
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// zendeskAgent is the article's agent, assigned to an application.
var zendeskAgent = strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk"],"default_scopes"`, 1)

const zendesk = `{"name":"zendesk","audience":"https://zendesk.example.com","scopes":["zendesk.tickets.read","zendesk.tickets.assign"]}`

func TestTokenMintedAtOneNodeIsActiveAtTheOthersUntilRevoked(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3)
	application := g.nodes[0].applicationWithSecret(zendesk)
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	minted := g.nodes[0].mint("support-triage-agent", secret, url.Values{"scope": {"zendesk.tickets.read"}, "trigger_reason": {"cron"}})
	require.Equal(t, "Bearer", minted.TokenType)
	require.EqualValues(t, 3600, minted.ExpiresIn)
	require.Equal(t, "zendesk.tickets.read", minted.Scope)

	seen := g.nodes[1].introspect("zendesk", application, minted.AccessToken)
	require.True(t, seen.Active)
	require.Equal(t, "support-triage-agent", seen.Subject)
	require.Equal(t, "support-triage-agent", seen.ClientID)
	require.Equal(t, "https://zendesk.example.com", seen.Audience)
	require.Equal(t, testIssuer, seen.Issuer)
	require.Equal(t, minted.SessionID, seen.SessionID)
	require.Nil(t, seen.Actor)

	revoked := ok[wire.Revocation](g.nodes[2].send("POST", "/api/v1/revocations", wire.RevocationRequest{SessionID: minted.SessionID, Reason: "INC-42"}), 200)
	require.True(t, revoked.Committed)
	require.False(t, revoked.Known, "a session lives in its token only")
	for _, n := range g.nodes {
		answer := n.send("POST", "/oauth2/introspect", url.Values{"token": {minted.AccessToken}}, basic("zendesk", application))
		require.Equal(t, `{"active":false}`, string(answer.Body))
	}
}

func TestTokenAnswerIsNeverCached(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	secret := n.agentWithSecret(articleAgent)
	a := n.send("POST", "/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, basic("support-triage-agent", secret))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	secret := n.agentWithSecret(articleAgent)
	grant := func(extra url.Values) url.Values {
		form := url.Values{"grant_type": {"client_credentials"}}
		for name, values := range extra {
			form[name] = values
		}
		return form
	}
	posted := url.Values{"client_id": {"support-triage-agent"}, "client_secret": {secret}}
	raw := func(text string) option {
		return with("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(text)))
	}

	ok[wire.Token](n.send("POST", "/oauth2/token", grant(posted)), 200)
	ok[wire.Token](n.send("POST", "/oauth2/token", grant(nil), basic("support-triage-agent", secret)), 200)
	// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
	ok[wire.Token](n.send("POST", "/oauth2/token", grant(nil), raw("support%2Dtriage%2dagent:"+secret)), 200)
	ok[wire.Token](n.send("POST", "/oauth2/token", grant(url.Values{"client_id": {"support-triage-agent"}}), basic("support-triage-agent", secret)), 200)

	for name, refused := range map[string]struct {
		form   url.Values
		change []option
		status int
		error  string
	}{
		"both methods":       {grant(posted), []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
		"another client_id":  {grant(url.Values{"client_id": {"x"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
		"none":               {grant(nil), nil, 401, "invalid_client"},
		"wrong secret":       {grant(nil), []option{basic("support-triage-agent", "dps_wrong")}, 401, "invalid_client"},
		"unknown agent":      {grant(nil), []option{basic("nobody", secret)}, 401, "invalid_client"},
		"no secret":          {grant(nil), []option{basic("support-triage-agent", "")}, 401, "invalid_client"},
		"not base64":         {grant(nil), []option{with("Authorization", "Basic !!")}, 401, "invalid_client"},
		"no colon":           {grant(nil), []option{raw("support-triage-agent")}, 401, "invalid_client"},
		"broken percent":     {grant(nil), []option{raw("support%2:" + secret)}, 401, "invalid_client"},
		"overlong":           {grant(nil), []option{raw(strings.Repeat("a", 2000) + ":b")}, 401, "invalid_client"},
		"another scheme":     {grant(nil), []option{token(n.root)}, 401, "invalid_client"},
		"no grant type":      {url.Values{}, []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
		"unknown grant type": {url.Values{"grant_type": {"password"}}, []option{basic("support-triage-agent", secret)}, 400, "unsupported_grant_type"},
		"repeated scope":     {grant(url.Values{"scope": {"a", "b"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
		"bad duration":       {grant(url.Values{"max_duration_seconds": {"1h"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
		"foreign scope":      {grant(url.Values{"scope": {"root.all"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_scope"},
		"malformed scope":    {grant(url.Values{"scope": {"a  b"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_scope"},
		"unknown audience":   {grant(url.Values{"audience": {"https://nowhere.example"}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_target"},
		"long reason":        {grant(url.Values{"trigger_reason": {strings.Repeat("x", 513)}}), []option{basic("support-triage-agent", secret)}, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := n.send("POST", "/oauth2/token", refused.form, refused.change...)
			description := a.refusedOAuth(refused.status, refused.error)
			require.NotContains(t, description, `"`)
			require.NotContains(t, description, secret)
			require.Equal(t, refused.status == 401, a.Header.Get("Www-Authenticate") != "")
		})
	}
	n.send("POST", "/oauth2/token", `{"grant_type":"client_credentials"}`, contentType("application/json"), basic("support-triage-agent", secret)).refusedOAuth(415, "invalid_request")
}

func TestTokenForSeveralAudiences(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	first := n.applicationWithSecret(zendesk)
	second := n.applicationWithSecret(`{"name":"crm","audience":"https://crm.example.com"}`)
	third := n.applicationWithSecret(`{"name":"erp","audience":"https://erp.example.com"}`)
	secret := n.agentWithSecret(strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk","crm"],"default_scopes"`, 1))
	minted := n.mint("support-triage-agent", secret, url.Values{"resource": {"https://zendesk.example.com"}, "audience": {"crm"}}).AccessToken
	require.Equal(t, []any{"https://zendesk.example.com", "https://crm.example.com"}, toSet(n.introspect("zendesk", first, minted).Audience))
	require.True(t, n.introspect("crm", second, minted).Active)
	require.False(t, n.introspect("erp", third, minted).Active, "a token is told of only to its audience")
}

// toSet puts zendesk first, as the order of audiences is not promised.
func toSet(audience any) []any {
	list := audience.([]any)
	if list[0] != "https://zendesk.example.com" {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

func TestIntrospectionAnswersOnlyApplications(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	application := n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, nil).AccessToken
	form := url.Values{"token": {minted}}
	n.send("POST", "/oauth2/introspect", form).refusedOAuth(401, "invalid_client")
	n.send("POST", "/oauth2/introspect", form, basic("support-triage-agent", secret)).refusedOAuth(401, "invalid_client")
	n.send("POST", "/oauth2/introspect", url.Values{}, basic("zendesk", application)).refusedOAuth(400, "invalid_request")
	for _, bad := range []string{"x", minted + "A", minted[:len(minted)-4] + "AAAA", strings.Repeat("a", 8000)} {
		require.Equal(t, `{"active":false}`, string(n.send("POST", "/oauth2/introspect", url.Values{"token": {bad}}, basic("zendesk", application)).Body))
	}
	n.group.advance(time.Hour)
	require.False(t, n.introspect("zendesk", application, minted).Active, "expired")
}

func TestNodeThatIsNotFreshSaysNeitherYesNorNo(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	application := n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, nil)
	n.stale = true
	for _, a := range []answer{
		n.send("POST", "/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, basic("support-triage-agent", secret)),
		n.send("POST", "/oauth2/introspect", url.Values{"token": {minted.AccessToken}}, basic("zendesk", application)),
		n.send("POST", "/oauth2/introspect", url.Values{"token": {"garbage"}}, basic("zendesk", application)),
		n.send("POST", "/oauth2/revoke", url.Values{"token": {"garbage"}}, basic("zendesk", application)),
	} {
		a.refusedOAuth(503, "temporarily_unavailable")
		require.Equal(t, "1", a.Header.Get("Retry-After"))
		require.NotContains(t, string(a.Body), minted.AccessToken)
	}
	a := n.send("POST", "/api/v1/sessions", wire.SessionRequest{AgentID: "support-triage-agent"})
	a.refused(identity.CodeNotFresh)
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	n.send("GET", "/api/v1/sessions/"+minted.SessionID, nil).refused(identity.CodeNotFresh)
}

func TestTokenRevocationAtTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1] // a follower: the revocation is forwarded
	application := n.applicationWithSecret(zendesk)
	other := n.applicationWithSecret(`{"name":"crm","audience":"https://crm.example.com"}`)
	secret := n.agentWithSecret(zendeskAgent)
	stranger := n.agentWithSecret(strings.ReplaceAll(zendeskAgent, "support-triage-agent", "stranger"))
	for name, client := range map[string]option{
		"the agent itself": basic("support-triage-agent", secret), "an application of the audience": basic("zendesk", application),
	} {
		t.Run(name, func(t *testing.T) {
			minted := n.mint("support-triage-agent", secret, nil).AccessToken
			form := url.Values{"token": {minted}, "token_type_hint": {"access_token"}}
			n.send("POST", "/oauth2/revoke", form, basic("crm", other)).refusedOAuth(400, "unauthorized_client")
			n.send("POST", "/oauth2/revoke", form, basic("stranger", stranger)).refusedOAuth(400, "unauthorized_client")
			n.send("POST", "/oauth2/revoke", form).refusedOAuth(401, "invalid_client")
			require.True(t, n.introspect("zendesk", application, minted).Active)

			a := n.send("POST", "/oauth2/revoke", form, client)
			require.Equal(t, 200, a.Status, "%s", a.Body)
			require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
			for _, node := range g.nodes {
				require.False(t, node.introspect("zendesk", application, minted).Active)
			}
			require.Equal(t, 200, n.send("POST", "/oauth2/revoke", form, client).Status, "again is fine (RFC 7009)")
		})
	}
	require.Equal(t, 200, n.send("POST", "/oauth2/revoke", url.Values{"token": {"unknown"}}, basic("zendesk", application)).Status)
	n.send("POST", "/oauth2/revoke", url.Values{}, basic("zendesk", application)).refusedOAuth(400, "invalid_request")
}

func TestKeysAndMetadata(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3)
	n := g.nodes[0]
	a := n.send("GET", "/.well-known/jwks.json", nil, anonymous)
	require.Len(t, ok[wire.JWKS](a, 200).Keys, 3, "the keys of all nodes")
	require.NotEmpty(t, a.Header.Get("Cache-Control"))
	etag := a.Header.Get("Etag")
	unchanged := n.send("GET", "/.well-known/jwks.json", nil, anonymous, with("If-None-Match", `"other", W/`+etag))
	require.Equal(t, 304, unchanged.Status)
	require.Empty(t, unchanged.Body)
	require.Equal(t, etag, unchanged.Header.Get("Etag"))

	metadata := ok[wire.Metadata](n.send("GET", "/.well-known/oauth-authorization-server", nil, anonymous), 200)
	require.Equal(t, testIssuer, metadata.Issuer)
	for _, endpoint := range []string{metadata.TokenEndpoint, metadata.IntrospectionEndpoint, metadata.RevocationEndpoint, metadata.JWKSURI} {
		path := strings.TrimPrefix(endpoint, testIssuer)
		served := false
		for _, route := range Routes() {
			served = served || route.Path == path
		}
		require.True(t, served, "%s is a route", path)
	}
}

func TestDocumentListsExactlyTheRoutes(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	a := n.send("GET", "/openapi.json", nil, anonymous)
	var d struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(a.Body, &d))
	require.Equal(t, "3.1.0", d.OpenAPI)
	count := 0
	for _, methods := range d.Paths {
		count += len(methods)
	}
	names := map[string]bool{}
	for _, route := range Routes() {
		require.Contains(t, d.Paths[route.Path], lower(route.Method))
		require.False(t, names[route.Name], "operation ids are unique: %s", route.Name)
		names[route.Name] = true
		if !route.User && (route.Kind == KindRead || route.Kind == KindWrite || route.Kind == KindMint) {
			require.NotEmpty(t, route.Roles, "%s names its roles", route.pattern())
		}
	}
	require.Len(t, Routes(), count)
	require.Equal(t, 304, n.send("GET", "/openapi.json", nil, anonymous, with("If-None-Match", a.Header.Get("Etag"))).Status)
}

func TestEveryCodeHasAVerdict(t *testing.T) {
	t.Parallel()
	for code, v := range verdicts {
		require.GreaterOrEqual(t, v.status, 400, code)
		require.NotEmpty(t, v.title, code)
		require.NotEmpty(t, v.oauth, code)
	}
	// The codes are constants, so their list is read from their source.
	source, err := parser.ParseFile(gotoken.NewFileSet(), "../identity/errors.go", nil, 0)
	require.NoError(t, err)
	codes := 0
	ast.Inspect(source, func(n ast.Node) bool {
		spec, isValue := n.(*ast.ValueSpec)
		if !isValue || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Contains(t, verdicts, identity.Code(code), "a code without a verdict is answered as an internal error")
		codes++
		return true
	})
	require.Len(t, verdicts, codes)
}

func TestExplainSaysWhy(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, url.Values{"scope": {"zendesk.tickets.read"}})
	explain := func(r wire.ExplainRequest) wire.Explanation {
		t.Helper()
		return ok[wire.Explanation](n.send("POST", "/api/v1/tokens/explain", r), 200)
	}
	good := explain(wire.ExplainRequest{Token: minted.AccessToken, Audience: "zendesk", Scope: "zendesk.tickets.read"})
	require.True(t, good.Active)
	require.True(t, good.Allowed)
	require.Equal(t, minted.SessionID, good.Claims.SessionID)
	require.GreaterOrEqual(t, len(good.Handles), 4, "session, agent, credential and key")
	require.Equal(t, "scope", explain(wire.ExplainRequest{Token: minted.AccessToken, Scope: "zendesk.tickets.assign"}).Reason)
	require.Equal(t, "audience", explain(wire.ExplainRequest{Token: minted.AccessToken, Audience: "https://other.example"}).Reason)

	ok[wire.Revocation](n.send("DELETE", "/api/v1/sessions/"+minted.SessionID+"?reason=INC-42", nil), 200)
	bad := explain(wire.ExplainRequest{Token: minted.AccessToken})
	require.False(t, bad.Active)
	require.Equal(t, string(tokens.ReasonRevoked), bad.Reason)
	for _, h := range bad.Handles {
		require.Equal(t, h.Handle == identity.SessionHandle(minted.SessionID), h.Revoked)
		if h.Revoked {
			require.Equal(t, "INC-42", h.Revocation.Reason)
		}
	}
	garbage := explain(wire.ExplainRequest{Token: "garbage"})
	require.Equal(t, string(tokens.ReasonMalformed), garbage.Reason)
	require.Nil(t, garbage.Claims)

	provisioner := "dpt_provisioner"
	n.group.addToken(t, provisioner, identity.APIToken{Name: "p", Roles: []identity.Role{identity.RoleProvisioner}})
	n.send("POST", "/api/v1/tokens/explain", wire.ExplainRequest{Token: "x"}, token(provisioner)).refused(identity.CodeForbidden)
}

func TestRevokedKeyKillsWhatItSigned(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	application := n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, nil).AccessToken
	claims, err := tokens.Decode([]byte(minted))
	require.NoError(t, err)
	n.group.setUp(t, fsm.Revoke{Handles: []identity.Handle{identity.KeyHandle(claims.KID)}})
	require.False(t, n.introspect("zendesk", application, minted).Active)
	n.send("POST", "/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, basic("support-triage-agent", secret)).
		refusedOAuth(http.StatusServiceUnavailable, "temporarily_unavailable")
}
