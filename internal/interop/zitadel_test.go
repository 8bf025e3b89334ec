package interop

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	zitadelclient "github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/client/tokenexchange"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

const tokenTypeDelegation zitadel.TokenType = "urn:deputy:params:oauth:token-type:delegation"

func TestDiscoveryOfZitadelReadsTheMetadata(t *testing.T) {
	n := startNode(t)
	found, err := zitadelclient.Discover(t.Context(), n.metadata.Issuer, http.DefaultClient, n.url+"/.well-known/oauth-authorization-server")
	require.NoError(t, err)
	require.Equal(t, n.metadata.TokenEndpoint, found.TokenEndpoint)
	require.Equal(t, n.metadata.IntrospectionEndpoint, found.IntrospectionEndpoint)
	require.Equal(t, n.metadata.JWKSURI, found.JwksURI)
	require.Contains(t, found.GrantTypesSupported, zitadel.GrantTypeClientCredentials)
	require.Contains(t, found.GrantTypesSupported, zitadel.GrantTypeTokenExchange)
}

// A resource server of zitadel's hears of the tokens that are meant for it, and of others only that they are not
// active.
func TestResourceServerOfZitadelIntrospects(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	n.lend(t)
	session, err := sessionForUser(ctx, []string{n.url}, n.token)
	require.NoError(t, err)
	ask := func(who client.Credentials, token string) (*zitadel.IntrospectionResponse, error) {
		return introspectWithZitadel(ctx, n.url, n.metadata.Issuer, who.ID, who.Secret, token)
	}

	answer, err := ask(d.gmail, session.AccessToken)
	require.NoError(t, err)
	require.True(t, answer.Active)
	require.Equal(t, user, answer.Subject)
	require.Equal(t, "inbox-assistant", answer.Actor.Subject)
	require.Equal(t, "inbox-assistant", answer.ClientID)
	require.Equal(t, []string{"gmail.draft", "gmail.read"}, []string(answer.Scope))
	require.Equal(t, []string{audienceGmail}, []string(answer.Audience))
	require.Equal(t, n.metadata.Issuer, answer.Issuer)
	require.WithinDuration(t, session.ExpiresAt.Time(), answer.Expiration.AsTime(), 2*time.Second)

	answer, err = ask(d.zendesk, session.AccessToken)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"active": false}, answer.Claims, "it is meant for another application")
	_, err = ask(client.Credentials{ID: "gmail", Secret: "dps_wrong"}, session.AccessToken)
	require.Error(t, err)

	_, err = n.WithdrawDelegation(ctx, session.DelegationID, "consent withdrawn")
	require.NoError(t, err)
	answer, err = ask(d.gmail, session.AccessToken)
	require.NoError(t, err)
	require.False(t, answer.Active)
}

// The agent exchanges a delegation for a session on behalf of the user, and its sub-agent exchanges the token of that
// for one more hop: with less scope, no more time, and both agents in the chain.
func TestTokenExchangeOfZitadel(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	delegation := n.lend(t)

	exchange := func(subject string, kind zitadel.TokenType, scopes ...string) (*zitadel.TokenExchangeResponse, error) {
		return tokenexchange.ExchangeToken(ctx, n.exchanger(t, d.inbox), subject, kind, "", "", nil, nil, scopes, zitadel.AccessTokenType)
	}
	parent, err := exchange(delegation.ID, tokenTypeDelegation)
	require.NoError(t, err)
	require.Equal(t, zitadel.AccessTokenType, parent.IssuedTokenType)
	require.Equal(t, "Bearer", parent.TokenType)
	require.Positive(t, parent.ExpiresIn)
	require.LessOrEqual(t, parent.ExpiresIn, uint64(3600), "the delegation is for an hour")
	answer := n.asGmail(t, d, parent.AccessToken)
	require.True(t, answer.Active)
	require.Equal(t, user, answer.Subject)
	require.Equal(t, &wire.Actor{Subject: "inbox-assistant"}, answer.Actor)
	require.Equal(t, "gmail.draft gmail.read", answer.Scope)

	child, err := exchangeWithZitadel(ctx, n.url, n.metadata.Issuer, d.drafter.ID, d.drafter.Secret, parent.AccessToken)
	require.NoError(t, err)
	require.Equal(t, zitadel.AccessTokenType, child.IssuedTokenType)
	require.LessOrEqual(t, child.ExpiresIn, parent.ExpiresIn)
	hop := n.asGmail(t, d, child.AccessToken)
	require.True(t, hop.Active)
	require.Equal(t, user, hop.Subject)
	require.Equal(t, &wire.Actor{Subject: "draft-writer", Actor: &wire.Actor{Subject: "inbox-assistant"}}, hop.Actor)
	require.Equal(t, "gmail.read", hop.Scope)
	require.LessOrEqual(t, hop.ExpiresAt, answer.ExpiresAt)

	_, err = exchange(parent.AccessToken, zitadel.AccessTokenType)
	require.Error(t, err, "the chain would have a cycle")
	_, err = exchange(delegation.ID, tokenTypeDelegation, "gmail.send")
	require.Error(t, err, "the delegation does not cover that")
	_, err = exchange("dlg_00000000000000000000000000", tokenTypeDelegation)
	require.Error(t, err, "there is no such delegation")

	_, err = n.EndSession(ctx, answer.SessionID, "it is enough")
	require.NoError(t, err)
	require.False(t, n.asGmail(t, d, parent.AccessToken).Active)
	require.False(t, n.asGmail(t, d, child.AccessToken).Active, "the hop rests on the session that has ended")
}

// A user who is proven by an ID token of a trusted issuer has the agent act for them, under what they have lent it.
func TestTokenExchangeOfZitadelWithAnIDToken(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	delegation := n.lend(t)
	key := newSigningKey(t)
	n.trust(t, key)
	exchange := func(key *signingKey, email string) (*zitadel.TokenExchangeResponse, error) {
		return tokenexchange.ExchangeToken(ctx, n.exchanger(t, d.inbox), key.idToken(t, email), zitadel.IDTokenType, "", "", nil, nil, []string{"gmail.read"}, "")
	}
	token, err := exchange(key, user)
	require.NoError(t, err)
	answer := n.asGmail(t, d, token.AccessToken)
	require.True(t, answer.Active)
	require.Equal(t, user, answer.Subject)
	require.Equal(t, &wire.Actor{Subject: "inbox-assistant"}, answer.Actor)

	_, err = exchange(newSigningKey(t), user)
	require.Error(t, err, "signed by somebody else")
	_, err = exchange(key, "other@company.com")
	require.Error(t, err, "who has lent nothing")
	_, err = n.WithdrawDelegation(ctx, delegation.ID, "consent withdrawn")
	require.NoError(t, err)
	require.False(t, n.asGmail(t, d, token.AccessToken).Active)
}

// keyed is a resource server that proves itself by a key. Zitadel's own makes assertions that are good for an hour.
type keyed struct {
	rs.ResourceServer
	assertion func() (string, error)
}

func (k keyed) AuthFn() (any, error) {
	assertion, err := k.assertion()
	if err != nil {
		return nil, err
	}
	return zitadelclient.ClientAssertionFormAuthorization(assertion), nil
}

func TestResourceServerOfZitadelProvesItselfByAKey(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	minted, err := n.MintToken(ctx, d.triage, client.TokenOptions{})
	require.NoError(t, err)
	key := newSigningKey(t)
	_, err = n.CreateApplicationCredential(ctx, "zendesk", wire.CredentialRequest{JWKS: key.jwks(t)})
	require.NoError(t, err)

	server, err := rs.NewResourceServerJWTProfile(ctx, n.metadata.Issuer, "zendesk", "k1", []byte(key.pem(t)),
		rs.WithStaticEndpoints(n.url+"/oauth2/token", n.url+"/oauth2/introspect"))
	require.NoError(t, err)
	_, err = rs.Introspect[*zitadel.IntrospectionResponse](ctx, server, minted.AccessToken)
	require.ErrorContains(t, err, "invalid_client", "the assertion is good for an hour")

	signer, err := zitadelclient.NewSignerFromPrivateKeyByte([]byte(key.pem(t)), "k1")
	require.NoError(t, err)
	short := keyed{server, func() (string, error) {
		return zitadelclient.SignedJWTProfileAssertion("zendesk", []string{n.metadata.Issuer}, time.Minute, signer)
	}}
	// Its iat is a whole second, which may lie before the start of a node that has just started.
	require.Eventually(t, func() bool {
		answer, err := rs.Introspect[*zitadel.IntrospectionResponse](ctx, short, minted.AccessToken)
		return err == nil && answer.Active && answer.Subject == d.triage.ID
	}, 5*time.Second, 100*time.Millisecond)
}

// exchanger is zitadel's client of the grant, for an agent.
func (n *node) exchanger(t *testing.T, agent client.Credentials) tokenexchange.TokenExchanger {
	t.Helper()
	exchanger, err := tokenexchange.NewTokenExchangerClientCredentials(t.Context(), n.metadata.Issuer, agent.ID, agent.Secret,
		tokenexchange.WithStaticTokenEndpoint(n.metadata.Issuer, n.url+"/oauth2/token"))
	require.NoError(t, err)
	return exchanger
}

func (n *node) asGmail(t *testing.T, d *directory, token string) *wire.Introspection {
	t.Helper()
	answer, err := n.Introspect(t.Context(), d.gmail, token)
	require.NoError(t, err)
	return answer
}
