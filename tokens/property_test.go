package tokens

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// drawSession draws any session that policy could grant, with its handles.
func drawSession(t *rapid.T) (*identity.Session, []identity.Handle) {
	name := rapid.StringMatching(`[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?`)
	visible := rapid.StringOfN(rapid.RuneFrom([]rune(claimCharacters())), 1, 60, -1)
	generation := rapid.Uint64()
	newID := func(prefix string) string {
		var entropy [10]byte
		copy(entropy[:], rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "entropy"))
		return identity.NewID(prefix, noon, entropy)
	}
	s := &identity.Session{
		ID:        newID(identity.PrefixSession),
		AgentType: rapid.SampledFrom([]identity.AgentType{identity.AgentAutonomous, identity.AgentUserDelegated, identity.AgentScheduled}).Draw(t, "type"),
		Audience:  rapid.SliceOfN(visible, 1, 4).Draw(t, "audience"),
		Issued:    noon + identity.Instant(rapid.IntRange(-1000, 1000).Draw(t, "issued")),
	}
	s.Expires = s.Issued + identity.Instant(rapid.IntRange(1000, 1000*identity.MaxSessionSeconds).Draw(t, "lifetime"))
	scopes, err := identity.NewScopes(rapid.SliceOfN(visible, 0, 6).Draw(t, "scopes"))
	require.NoError(t, err)
	s.Scopes = scopes
	handles := []identity.Handle{identity.SessionHandle(s.ID)}
	if rapid.Bool().Draw(t, "delegated") {
		s.Principal = visible.Draw(t, "principal")
		s.Delegation = newID(identity.PrefixDelegation)
		handles = append(handles, identity.DelegationHandle(s.Delegation), identity.PrincipalHandle(s.Principal, generation.Draw(t, "generation")))
	}
	for _, agent := range rapid.SliceOfNDistinct(name, 1, identity.MaxChain, rapid.ID).Draw(t, "chain") {
		actor := identity.Actor{Agent: agent, Generation: generation.Draw(t, "generation")}
		s.Chain = append(s.Chain, actor)
		handles = append(handles, identity.AgentHandle(actor.Agent, actor.Generation))
	}
	if rapid.Bool().Draw(t, "credential") {
		s.Credential = newID(rapid.SampledFrom([]string{identity.PrefixCredential, identity.PrefixAPIToken}).Draw(t, "kind"))
		handles = append(handles, identity.CredentialHandle(s.Credential))
	}
	if rapid.Bool().Draw(t, "bound") {
		s.Confirmation = thumbprint(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
	}
	if len(s.Chain) > 1 && rapid.Bool().Draw(t, "parent's key") {
		handles = append(handles, identity.KeyHandle(thumbprint(make([]byte, 32))))
	}
	return s, handles
}

func claimCharacters() string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		if c != '"' && c != '\\' {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Whatever is minted is good, says what was granted, and says the same to others.
func mintedIsGood(t *rapid.T, w *world) {
	session, handles := drawSession(t)
	token, err := appendToken(nil, w.signer, issuer, session, handles)
	require.NoError(t, err)
	require.LessOrEqual(t, len(token), MaxTokenBytes)
	w.now = session.Issued
	claims, err := w.verifier.Verify(token)
	require.NoError(t, err)

	want := *session
	want.Issued, want.Expires = want.Issued/1000*1000, want.Expires/1000*1000
	require.Equal(t, &want, claims.Session())
	require.Equal(t, append(handles, identity.KeyHandle(w.signer.kid)), claims.Handles())
	requireSameByJWX(t, w, claims, token)
	var payload writer
	require.NoError(t, payload.claims(issuer, session, handles))
	requireSameByStandardLibrary(t, claims, string(payload.payload()))
}

func TestWhateverIsMintedIsGood(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(r *rapid.T) { mintedIsGood(r, w) })
}

func FuzzMint(f *testing.F) {
	w := newWorld(f)
	f.Fuzz(rapid.MakeFuzz(func(r *rapid.T) { mintedIsGood(r, w) }))
}

// Whatever a few random edits of the JSON leave acceptable, others read as we do.
func TestEditedTokensAreRefusedOrReadAlike(t *testing.T) {
	w := newWorld(t)
	good := payloadOf(t, w.mint(t, delegated(t)))
	pieces := rapid.SampledFrom([]string{
		`,`, `"`, `:`, `{`, `}`, `[`, `]`, `0`, `9`, ` `, `\`, `a`, `null`, `"act":{"sub":"a"}`, `"iat":1,`, `"exp":1,`, `,"x":1`, `#7`, `"scope":"a",`,
	})
	rapid.Check(t, func(r *rapid.T) {
		text := good
		for range rapid.IntRange(1, 3).Draw(r, "edits") {
			from := rapid.IntRange(0, len(text)).Draw(r, "from")
			to := min(len(text), from+rapid.IntRange(0, 12).Draw(r, "length"))
			text = text[:from] + pieces.Draw(r, "piece") + text[to:]
		}
		if claims, err := parseClaims(text, w.signer.kid); err == nil {
			requireAgreement(r, w, claims, text)
		}
	})
}
