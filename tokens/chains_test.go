package tokens

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// twig is one session of a random forest, with all that it rests on, noted as it is made and never read from its token.
type twig struct {
	token  []byte
	parent *twig
	claims *Claims
	rests  map[identity.Handle]bool
	lent   *identity.Delegation
	behind *identity.Principal
}

// forest draws agents that act by themselves or for people, and sub-agents that act for them.
type forest struct {
	*world
	other  *Signer // of another node
	drawn  int
	twigs  []*twig
	agents []*identity.Agent
	people []*identity.Principal
	lent   []*identity.Delegation
}

func plant(t *rapid.T, w *world, other *Signer) *forest {
	f := &forest{world: w, other: other}
	for i, name := range []string{"a", "b", "c"} {
		f.agents = append(f.agents, &identity.Agent{
			Name: name, Type: identity.AgentAutonomous, DefaultScopes: "drive.read gmail.read", MaxSessionSeconds: 3600,
			Applications: []string{"drive", "gmail"}, Status: identity.StatusActive,
			Generation: rapid.Uint64Range(1, 2).Draw(t, "generation") + uint64(10*i),
		})
	}
	for _, name := range []string{"ann@x", "bob@x"} {
		f.people = append(f.people, &identity.Principal{ID: name, Status: identity.StatusActive, Generation: rapid.Uint64Range(1, 2).Draw(t, "generation")})
	}
	for i, p := range f.people {
		for j, a := range f.agents {
			f.lent = append(f.lent, &identity.Delegation{
				ID: id(identity.PrefixDelegation, byte(10*i+j)), Principal: p.ID, Agent: a.Name, Scopes: "drive.read gmail.read",
				Expires: noon + 86400_000, MaxHops: 2, Status: identity.DelegationActive,
			})
		}
	}
	return f
}

// grow adds a session, which may be a hop from an earlier one. Some are refused.
func (f *forest) grow(t *rapid.T) {
	f.drawn++
	agent := rapid.SampledFrom(f.agents).Draw(t, "agent")
	r := policy.Request{
		Now: noon, SessionID: id(identity.PrefixSession, byte(f.drawn)), Agent: agent, Applications: applications{}, Issuer: issuer,
		Credential: rapid.SampledFrom([]string{credential, apiToken, ""}).Draw(t, "credential"),
	}
	grown := &twig{rests: map[identity.Handle]bool{identity.SessionHandle(r.SessionID): true, agent.Handle(): true}}
	if r.Credential != "" {
		grown.rests[identity.CredentialHandle(r.Credential)] = true
	}
	if len(f.twigs) > 0 && rapid.Bool().Draw(t, "hop") {
		grown.parent = rapid.SampledFrom(f.twigs).Draw(t, "parent")
		r.Parent, r.ParentHandles = grown.parent.claims.Session(), grown.parent.claims.Handles()
		grown.lent, grown.behind = grown.parent.lent, grown.parent.behind
		for h := range grown.parent.rests {
			grown.rests[h] = true
		}
	} else if rapid.Bool().Draw(t, "for a person") {
		grown.lent = rapid.SampledFrom(f.lent).Draw(t, "delegation")
		for _, p := range f.people {
			if p.ID == grown.lent.Principal {
				grown.behind = p
			}
		}
	}
	if grown.behind != nil {
		r.Principal, r.Delegation = grown.behind, grown.lent
		grown.rests[grown.behind.Handle()], grown.rests[identity.DelegationHandle(grown.lent.ID)] = true, true
	}
	signer := rapid.SampledFrom([]*Signer{f.signer, f.other}).Draw(t, "node")
	grown.rests[identity.KeyHandle(signer.kid)] = true
	f.minter.SetSigner(signer)
	var g policy.Grant
	if policy.NewEngine().Decide(&r, &g) != nil {
		return
	}
	var err error
	grown.token, err = f.minter.Mint(nil, &g)
	require.NoError(t, err)
	grown.claims, err = f.verifier.Verify(grown.token)
	require.NoError(t, err)
	f.twigs = append(f.twigs, grown)
}

// Whatever is revoked, exactly those tokens die that rest on it: by themselves, or through any ancestor.
func TestRevokingAnAncestorKillsExactlyItsDescendants(t *testing.T) {
	w := newWorld(t)
	other, err := GenerateSigner()
	require.NoError(t, err)
	w.keys = keyring(t, w.signer, other)
	chains, hops, died := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w.denied.handles = nil
		f := plant(t, w, other)
		for range rapid.IntRange(1, 12).Draw(t, "sessions") {
			f.grow(t)
		}
		if len(f.twigs) == 0 {
			return
		}
		var all []identity.Handle // in an order that a seed repeats
		for _, tw := range f.twigs {
			all = append(all, tw.claims.Handles()...)
		}
		all = append(all, "agt_a#9", identity.PrincipalHandle("ann@x", 9), identity.KeyHandle(thumbprint(make([]byte, 32))))
		w.denied.handles = []identity.Handle{rapid.SampledFrom(all).Draw(t, "revoked")}
		for _, tw := range f.twigs {
			chains++
			_, err := w.verifier.Verify(tw.token)
			if tw.rests[w.denied.handles[0]] {
				requireDead(t, err, w.denied.handles[0])
				died++
			} else {
				require.NoError(t, err, "it does not rest on %s", w.denied.handles[0])
			}
			if tw.parent == nil {
				continue
			}
			hops++
			if _, parent := w.verifier.Verify(tw.parent.token); parent != nil {
				require.Error(t, err, "a hop has outlived its parent")
			}
		}
	})
	t.Logf("%d chains, %d of them with a hop; %d died", chains, hops, died)
	require.Greater(t, hops, chains/20, "enough hops, or the test says nothing")
	require.Greater(t, died, chains/20)
	require.Less(t, died, chains)
}

func requireDead(t *rapid.T, err error, by identity.Handle) {
	var refused *VerifyError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, ReasonRevoked, refused.Reason)
	require.Equal(t, by, refused.Handle)
}
