package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// FuzzImport holds Apply to its word: whatever an import holds, nothing panics, a refusal changes nothing, and what
// is taken has one spelling in a snapshot.
func FuzzImport(f *testing.F) {
	old := backedUp(f)
	file, _ := backupOf(f, old)
	bodies := rawBodies(f, file)
	for _, b := range bodies {
		if i, ok := b.(Import); ok {
			f.Add(i.Section, i.Records)
		}
	}
	f.Add(uint8(sectionBars), []byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, number uint8, records []byte) {
		m := fresh(t)
		require.Nil(t, m.do(bodies[0]).Err)
		for _, b := range bodies[1:] {
			i, ok := b.(Import)
			if !ok || i.Section >= number {
				break
			}
			require.Nil(t, m.do(b).Err)
		}
		if len(records) > maxImport {
			return
		}
		before := m.fsm.View()
		r := m.do(Import{Section: number, Records: records})
		if r.Err != nil {
			require.Same(t, before.restoring, m.fsm.View().restoring)
			require.Equal(t, before.Counts(), m.fsm.View().Counts())
		}
		m.do(Purge{})
		requirePairs(t, m.fsm.View())
		require.Equal(t, m.snapshot(), m.restored().snapshot())
		m.do(EndRestore{Records: m.fsm.View().restoring.Records})
		require.Equal(t, m.snapshot(), m.restored().snapshot())
	})
}

// randomImport is one record, often of a kind that may follow and of a generation that may be.
func randomImport(t *rapid.T, a wireAgent, p wirePrincipal, d identity.Delegation) Body {
	generation := rapid.Uint64Range(0, 30).Draw(t, "generation")
	agent := *a.Agent
	agent.Generation, agent.Status = generation, identity.StatusActive
	p.Principal.Generation, p.Principal.Status = generation, identity.StatusSuspended
	id, err := identity.ParseID(identity.PrefixDelegation, d.ID)
	require.NoError(t, err)
	number := rapid.SampledFrom([]section{sectionAgents, sectionPrincipals, sectionDelegations, sectionBars, sectionRevocations, sectionAPITokens, sectionMembers}).Draw(t, "section")
	record := map[section]any{
		sectionAgents:     wireAgent{Agent: &agent, Born: 1},
		sectionPrincipals: p,
		sectionDelegations: wireRecord{
			ID: id[:], Agent: d.Agent, Principal: d.Principal, Scopes: string(d.Scopes), Expires: d.Expires, Made: generation, MaxHops: 1,
		},
		sectionBars:        wireBar{Principal: d.Principal, Agent: d.Agent, Made: generation, Barred: true},
		sectionRevocations: identity.Revocation{Handle: identity.AgentHandle(d.Agent, generation), Expires: d.Expires},
		sectionAPITokens:   apiToken(int(generation%5), identity.RoleAdmin).APIToken,
		sectionMembers:     identity.Member{ID: "n1", Key: secret(1)},
	}[number]
	data, err := marshal(record)
	require.NoError(t, err)
	return Import{Section: uint8(number), Records: data}
}
