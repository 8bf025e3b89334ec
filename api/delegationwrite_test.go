package api

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// TestEachFieldOfADelegationIsWrittenByHand fails for whoever adds one.
func TestEachFieldOfADelegationIsWrittenByHand(t *testing.T) {
	require.Equal(t, 13, reflect.TypeFor[wire.Delegation]().NumField(), "write it in appendDelegation, and draw it here")
}

// TestEachFieldOfARequestIsReadByHand asks for every field that there is.
func TestEachFieldOfARequestIsReadByHand(t *testing.T) {
	for _, f := range fieldsOf(delegationType).list {
		var into wire.DelegationRequest
		require.NotPanics(t, func() { _ = decode([]byte(`{"`+f.name+`":0}`), &into) }, f.name)
	}
}

// TestADelegationIsWrittenAsTheEncoderWouldWriteIt, byte for byte.
func TestADelegationIsWrittenAsTheEncoderWouldWriteIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[ -~]{0,40}`), rapid.SampledFrom([]string{"a\xffb", "\u2028", "<&>", "\x7f", "é"}))
		instant := rapid.Map(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 253_402_300_799_999)), func(ms int64) identity.Instant { return identity.Instant(ms) })
		names := rapid.SliceOfN(rapid.StringMatching(`[!#-\[\]-~]{1,12}`), 0, 5).Draw(rt, "scopes")
		scopes, err := identity.NewScopes(names)
		require.NoError(rt, err)
		d := wire.Delegation{
			ID: text.Draw(rt, "id"), PrincipalID: text.Draw(rt, "principal"), AgentID: text.Draw(rt, "agent"), Scopes: scopes,
			Status: identity.DelegationStatus(text.Draw(rt, "status")), Expired: rapid.Bool().Draw(rt, "expired"),
			ExpiresAt: instant.Draw(rt, "expires"), Reason: text.Draw(rt, "reason"), Origin: text.Draw(rt, "origin"),
			MaxHops: rapid.Int64().Draw(rt, "hops"), CreatedAt: instant.Draw(rt, "created"), WithdrawnAt: instant.Draw(rt, "withdrawn"),
			Revision: rapid.Uint64().Draw(rt, "revision"),
		}
		require.Equal(rt, string(encodeJSON(&d)), string(appendDelegation(nil, &d)))
	})
	room := make([]byte, 0, 1<<10)
	d := wire.Delegation{ID: "dlg_1", Scopes: "a b", Status: identity.DelegationActive, ExpiresAt: 1, CreatedAt: 1}
	require.Zero(t, testing.AllocsPerRun(100, func() { room = appendDelegation(room[:0], &d) }))
}

// FuzzADelegationIsReadLikeAnyBody: its own reader takes what that of all bodies takes, and refuses the rest in the same words.
func FuzzADelegationIsReadLikeAnyBody(f *testing.F) {
	for _, seed := range []string{
		`{"principal_id":"ann@x","agent_id":"a","scopes":["b","a"],"duration_seconds":3600,"reason":"r","origin":"o","max_hops":2}`,
		`{"principal_id":null}`, `{"reason":null,"origin":null,"max_hops":null,"scopes":null}`, `{"scopes":["a","a"," "]}`, `{"max_hops":1.5}`,
		`{"reason":"a","reason":"b"}`, `{"Reason":"a"}`, `{"duration_seconds":"1"}`, `[]`, `{} x`, ``, `{"scopes":[1]}`, `{"agent_id":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		type other wire.DelegationRequest // not known to have a reader of its own
		var quick wire.DelegationRequest
		var slow other
		err, want := decode(body, &quick), decode(body, &slow)
		require.Equal(t, want, err)
		if want == nil {
			require.Equal(t, wire.DelegationRequest(slow), quick)
		}
	})
}
