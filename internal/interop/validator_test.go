package interop

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// A process of another machine's, as it were, that checks tokens of a real node by itself.
func TestValidatorRefusesWhatARealNodeRevokes(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	validator, err := validatorHere(ctx, []string{n.url}, d.zendesk.ID, d.zendesk.Secret, audienceZendesk)
	require.NoError(t, err)
	minted, err := n.MintToken(ctx, d.triage, client.TokenOptions{})
	require.NoError(t, err)
	claims, err := validator.Validate(ctx, minted.AccessToken)
	require.NoError(t, err)
	require.Equal(t, minted.SessionID, claims.SessionID)
	_, err = validator.Validate(ctx, forged(minted.AccessToken))
	require.ErrorAs(t, err, new(*client.TokenError))

	key, err := client.NewKey()
	require.NoError(t, err)
	var bound *wire.Token
	require.Eventually(t, func() bool { // a proof says whole seconds, and one from before the node's start is none
		bound, err = n.MintToken(ctx, d.triage, client.TokenOptions{Bind: key})
		return err == nil
	}, startWait, 50*time.Millisecond)
	_, err = validator.Validate(ctx, bound.AccessToken)
	require.ErrorAs(t, err, new(*client.TokenError), "a stolen token is worth nothing without its key")
	const method, url = "GET", "https://company.zendesk.com/api/v2/tickets"
	proved := client.Shown{Scheme: "DPoP", Token: bound.AccessToken, Method: method, URLs: []string{url}}
	require.Eventually(t, func() bool { // neither is one from before the validator's
		proved.Proofs = []string{key.Proof(method, url, "", bound.AccessToken, time.Now())}
		_, err = validator.ValidateShown(ctx, proved)
		return err == nil
	}, startWait, 50*time.Millisecond)

	_, err = n.Revoke(ctx, wire.RevocationRequest{SessionID: minted.SessionID})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := validator.Validate(ctx, minted.AccessToken)
		return err != nil
	}, startWait, time.Millisecond)
	_, err = validator.Validate(ctx, minted.AccessToken)
	require.ErrorAs(t, err, new(*client.TokenError))
}
