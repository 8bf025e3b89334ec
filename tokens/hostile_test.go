package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"

	forged "github.com/deputy-id/deputy/internal/hostile"
)

// What an attacker would make of a good token, with and without the node's key.
func TestForgedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	first, err := w.verifier.Verify(w.mint(t, delegated(t)))
	require.NoError(t, err)
	keys, err := forged.NewKeys()
	require.NoError(t, err)
	node, err := forged.NewSigner(w.signer.private, w.signer.kid)
	require.NoError(t, err)
	for name, token := range map[string][]byte{
		"delegated": w.mint(t, delegated(t)), "autonomous": w.mint(t, autonomous(t)), "hop": w.mint(t, hop(t, first)),
	} {
		for by, signer := range map[string]*forged.Signer{"by the node": node, "by a stranger": nil} {
			t.Run(name+" "+by, func(t *testing.T) {
				cases, err := forged.AccessToken{Token: string(token), Signer: signer, Keys: keys}.Cases()
				require.NoError(t, err)
				require.Greater(t, len(cases), 250)
				for _, c := range cases {
					t.Run(c.Name, func(t *testing.T) {
						claims, err := w.verifier.Verify([]byte(c.Token))
						require.Nil(t, claims, "accepted: %s", c.Token)
						requireReason(t, err, Reason(c.Reason))
					})
				}
				t.Logf("%d hostile tokens", len(cases))
			})
		}
	}
}
