package interop

import (
	"context"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/client/tokenexchange"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// The functions of this file are the Go examples of docs/clients.md, word for word; manual_test.go holds the two
// together. The tests of each library begin with them.

func tokenSource(ctx context.Context, node, agent, secret string) oauth2.TokenSource {
	config := clientcredentials.Config{
		ClientID:     agent,
		ClientSecret: secret,
		TokenURL:     node + "/oauth2/token",
		AuthStyle:    oauth2.AuthStyleInHeader,
		Scopes:       []string{"zendesk.tickets.read"},
		EndpointParams: map[string][]string{
			"trigger_reason": {"scheduled run"}, // optional; kept with the session
		},
	}
	return config.TokenSource(ctx) // asks again when the token is about to end; config.Client sends it along
}

func offlineVerifier(ctx context.Context, node, issuer, audience string) *oidc.IDTokenVerifier {
	keys := oidc.NewRemoteKeySet(ctx, node+"/.well-known/jwks.json")
	return oidc.NewVerifier(issuer, keys, &oidc.Config{
		ClientID:             audience, // the application's audience, such as https://company.zendesk.com
		SupportedSigningAlgs: []string{oidc.EdDSA},
	})
}

func introspectWithZitadel(ctx context.Context, node, issuer, application, secret, token string) (*zitadel.IntrospectionResponse, error) {
	server, err := rs.NewResourceServerClientCredentials(ctx, issuer, application, secret,
		rs.WithStaticEndpoints(node+"/oauth2/token", node+"/oauth2/introspect"))
	if err != nil {
		return nil, err
	}
	// An error is not a no: nobody knows, so that the token must not be taken, and the next one may be.
	return rs.Introspect[*zitadel.IntrospectionResponse](ctx, server, token)
}

func exchangeWithZitadel(ctx context.Context, node, issuer, subAgent, secret, parentToken string) (*zitadel.TokenExchangeResponse, error) {
	exchanger, err := tokenexchange.NewTokenExchangerClientCredentials(ctx, issuer, subAgent, secret,
		tokenexchange.WithStaticTokenEndpoint(issuer, node+"/oauth2/token"))
	if err != nil {
		return nil, err
	}
	return tokenexchange.ExchangeToken(ctx, exchanger, parentToken, zitadel.AccessTokenType,
		"", "", nil, nil, []string{"gmail.read"}, zitadel.AccessTokenType)
}

func sessionForUser(ctx context.Context, addresses []string, token string) (*wire.Session, error) {
	cluster, err := client.New(client.Options{Addresses: addresses, Token: token})
	if err != nil {
		return nil, err
	}
	user := "user@company.com"
	return cluster.CreateSession(ctx, wire.SessionRequest{
		AgentID:         "inbox-assistant",
		PrincipalUserID: &user,
		RequestedScopes: []string{"gmail.read", "gmail.draft"},
		TriggerReason:   "user clicked 'summarize inbox'",
		MaxDuration:     14400,
	}, nil)
}

func validatorHere(ctx context.Context, addresses []string, application, secret, audience string) (*client.Validator, error) {
	cluster, err := client.New(client.Options{Addresses: addresses})
	if err != nil {
		return nil, err
	}
	validator, err := client.NewValidator(client.ValidatorOptions{
		Client: cluster, Audience: audience, Credentials: &client.Credentials{ID: application, Secret: secret},
		URLs: []string{"https://company.zendesk.com"}, // where this service is reached; for tokens that are bound to a key
	})
	if err != nil {
		return nil, err
	}
	go func() { _ = validator.Run(ctx) }() // until ctx ends
	return validator, validator.Ready(ctx)
}
