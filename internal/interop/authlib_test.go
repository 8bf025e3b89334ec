package interop

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// authlibOutcome is what testdata/authlib_methods.py says of one way of client authentication.
type authlibOutcome struct {
	Token         wire.Token         `json:"token"`
	Introspection wire.Introspection `json:"introspection"`
	Error         string             `json:"error"`
}

// Debian's authlib gets tokens, introspects and revokes with each way of client authentication that it shares with us.
func TestAuthlibInEveryWayOfClientAuthentication(t *testing.T) {
	interpreter := pythonWithAuthlib(t)
	for _, method := range []string{"client_secret_basic", "client_secret_post", "private_key_jwt"} {
		t.Run(method, func(t *testing.T) {
			n := startNode(t)
			require.Contains(t, n.metadata.TokenEndpointAuthMethods, method)
			d := n.populate(t)
			plan := map[string]any{
				"deputy": n.url, "agent": d.triage.ID, "agent_secret": d.triage.Secret, "zendesk_secret": d.zendesk.Secret,
				"methods": []string{"client_secret_basic", method},
			}
			if method == "private_key_jwt" {
				key := newSigningKey(t)
				n.register(t, d.triage.ID, key)
				plan["agent_key"] = key.pem(t)
			}
			text, err := json.Marshal(plan)
			require.NoError(t, err)
			var outcomes map[string]authlibOutcome
			require.NoError(t, json.Unmarshal([]byte(script(t, interpreter, nil, string(text), "testdata/authlib_methods.py")), &outcomes))

			got := outcomes[method]
			require.Equal(t, "Bearer", got.Token.TokenType)
			require.EqualValues(t, 3600, got.Token.ExpiresIn)
			require.True(t, got.Introspection.Active)
			require.Equal(t, d.triage.ID, got.Introspection.Subject)
			require.Equal(t, "zendesk.tickets.read", got.Introspection.Scope)
			require.Equal(t, got.Token.SessionID, got.Introspection.SessionID)

			require.Equal(t, "invalid_client", outcomes["wrong secret"].Error)
			require.Equal(t, wire.Introspection{}, outcomes["revoked"].Introspection)
		})
	}
}
