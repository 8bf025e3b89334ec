package bench

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/machine"
)

func TestScaleFillsAStoreAndMintsOverIt(t *testing.T) {
	report, err := Scale(t.Context(), ScaleOptions{
		Agents: 200, Delegations: 2000, Revocations: 100, Batch: 64, Rounds: 2, Round: 10 * time.Millisecond, Tokens: 256,
	})

	require.NoError(t, err)
	require.Len(t, report.Objects, 4)
	for _, o := range report.Objects {
		require.Positive(t, o.Count, o.Kind)
		require.Positive(t, o.Rate, o.Kind)
		require.Positive(t, o.LogSize, o.Kind)
	}
	require.Positive(t, report.SnapshotBytes)
	require.Positive(t, report.PersistMillis)
	require.Positive(t, report.RestoreMillis)
	require.Len(t, report.Introspect, 2, "of tokens seen before and of others")
	for _, i := range report.Introspect {
		require.Positive(t, i.Full.Median, i.Tokens)
		require.Positive(t, i.Empty.Median, i.Tokens)
	}
	require.Greater(t, report.Asked.Full.Median, report.Asked.Empty.Median)
	require.Positive(t, report.Needed)
	require.Len(t, report.Mint, 4, "of busy agents and of any, with and without a user")
	for _, m := range report.Mint {
		require.Positive(t, m.Full.Median, m.Session)
		require.Positive(t, m.Empty.Median, m.Session)
		require.Positive(t, m.Ratio.Median, m.Session)
	}
	var table strings.Builder
	require.NoError(t, report.WriteTable(&table))
	require.Contains(t, table.String(), "on behalf of a user")
	var document strings.Builder
	require.NoError(t, report.WriteJSON(&document))
	require.True(t, json.Valid([]byte(document.String())))
}

func TestARestartIsThatOfARealServerWithItsData(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	report, err := Restart(t.Context(), RestartOptions{
		ScaleOptions: ScaleOptions{Agents: 20, Delegations: 200, Revocations: 1500, Rounds: 1, Round: 20 * time.Millisecond},
		Binary:       deputy(t), Folder: folder,
	})

	require.NoError(t, err)
	require.Len(t, report.Loaded, 4)
	require.Equal(t, 200, report.Loaded[2].Created)
	require.Positive(t, report.Seconds)
	require.Positive(t, report.TailEntries, "nothing was worth a snapshot")
	require.Positive(t, report.LogBytes)
	require.Len(t, report.Workloads, 2)
	for _, w := range report.Workloads {
		require.Positive(t, w.Full.Median, w.Workload)
		require.Positive(t, w.Empty.Median, w.Workload)
	}
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left, "the data folders are removed")
	var table strings.Builder
	require.NoError(t, report.WriteTable(&table))
	require.Contains(t, table.String(), "200 of /readyz")
}

func TestASnapshotHalfWrittenIsNone(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]uint64{
		"2-23179-1795959509903": 23179, "2-23179-1795959509903.tmp": 0, "snapshots": 0, "2-x-1": 0,
	} {
		index, ok := snapshotIndex(folder)
		require.Equal(t, want, index, folder)
		require.Equal(t, want > 0, ok, folder)
	}
}

func TestARunThatTheMachineCantHoldIsRefused(t *testing.T) {
	require.NoError(t, holds("memory", 1<<30, 2<<30))
	require.NoError(t, holds("memory", 1<<40, 0), "nobody tells how much there is")
	require.ErrorContains(t, holds("memory", 10<<30, 1<<30), "needs 10.0 GiB of memory, and 1.0 GiB are available")
	available := machine.AvailableMemory()
	if available == 0 {
		t.Skip("this machine does not tell how much memory it has")
	}
	if available > agentBytes*maxScaleObjects {
		t.Skip("this machine can hold the largest run")
	}
	_, err := Scale(t.Context(), ScaleOptions{Agents: maxScaleObjects, Delegations: maxScaleObjects, Revocations: maxScaleObjects})
	require.ErrorContains(t, err, "ask for fewer objects")
}

func TestScaleOptionsAreHeldToTheirBounds(t *testing.T) {
	for message, o := range map[string]ScaleOptions{
		"agents is":   {Agents: -1},
		"delegations": {Delegations: maxScaleObjects + 1},
		"batch is":    {Batch: 1_000_000},
		"rounds is":   {Rounds: MaxRounds + 1},
		"a round is":  {Round: time.Microsecond},
	} {
		_, err := Scale(t.Context(), o)
		require.ErrorContains(t, err, message)
	}
}

func TestThePopulationIsValidAndRefersToItself(t *testing.T) {
	const agents, delegations = 30, 500
	p := newPopulation(agents, delegations, time.Now())
	for n := range agents {
		agent := p.agent(n)
		require.NoError(t, agent.Validate())
	}
	pairs := map[[2]int]bool{}
	for n := range delegations {
		d := p.delegation(n)
		require.NoError(t, d.Validate())
		require.True(t, d.Scopes.SubsetOf(populationScopes))
		principal, agent := p.pair(n)
		require.Less(t, principal, p.principals)
		require.Less(t, agent, agents)
		pairs[[2]int{principal, agent}] = true
	}
	require.Greater(t, len(pairs), delegations/2, "delegations are spread over pairs")
	principal := p.principal(0)
	require.NoError(t, principal.Validate())
}

func TestLoadCountsWhatWasThereAndWhatWasRefused(t *testing.T) {
	l := &loading{stage: bulkStage{kind: "agent", count: 4}, told: time.Now()}
	l.setDefaults()

	require.NoError(t, l.count(&wire.BulkAnswer{Created: 1, Refused: 2, Items: []wire.BulkOutcome{
		{Status: 201}, {Status: 409, Code: identity.CodeAlreadyExists}, {Status: 403, Code: identity.CodeForbidden},
	}}))

	require.Equal(t, 1, l.outcome.Created)
	require.Equal(t, 1, l.outcome.Existing)
	require.Equal(t, map[identity.Code]int{identity.CodeForbidden: 1}, l.outcome.Refused)
}

func TestALoadThatAchievesNothingStops(t *testing.T) {
	l := &loading{stage: bulkStage{kind: "agent", count: 4}, told: time.Now()}
	l.setDefaults()
	err := l.count(&wire.BulkAnswer{Refused: 1, Items: []wire.BulkOutcome{
		{Pointer: "/agents/0", Status: 422, Code: identity.CodeValidation, Detail: "the agent is not valid"},
	}})
	require.ErrorIs(t, err, errAllRefused)
	require.ErrorContains(t, err, "/agents/0")
}
