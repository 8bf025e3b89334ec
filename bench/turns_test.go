package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

func TestWritesTakeTurnsWithBareRaft(t *testing.T) {
	t.Parallel()
	r, err := Writes(t.Context(), WriteOptions{
		Binary: deputy(t), Folder: t.TempDir(), Callers: 12, Duration: 400 * time.Millisecond, WarmUp: 100 * time.Millisecond, Rounds: 2,
		Stderr: t.Output(),
	})
	require.NoError(t, err)
	require.NoError(t, r.Check())

	require.Len(t, r.Subjects, 4)
	for _, s := range r.Subjects {
		require.Positive(t, s.Counts.Completed, s.Name)
		require.Zero(t, s.Counts.Failed, "%s: %v", s.Name, s.Errors)
		require.Positive(t, s.Latency.P50, s.Name)
		require.Positive(t, s.WarmUp.Completed, s.Name)
	}
	leader, all := r.Subject(writeAtLeader), r.Subject(writeAtAll)
	require.Equal(t, writeRaw, leader.Shares[0].Of)
	require.InDelta(t, DelegationsTarget, *leader.Shares[0].Target, 1e-9)
	require.Equal(t, leader.Shares[0].Rounds.Median >= DelegationsTarget, *leader.Shares[0].Met)
	require.Positive(t, leader.Shares[1].Rounds.Median)
	require.Nil(t, all.Shares[0].Met, "what is asked for speaks of the node that leads")
	require.Len(t, r.Nodes, 3)
}

func TestBareRaftReallyReplicatesWhatItAcknowledges(t *testing.T) {
	t.Parallel()
	r, err := startRawRaft(t.Context(), deputy(t), t.TempDir(), 3, 100, t.Output())
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close()) }()

	driven, err := r.drive(t.Context(), 4, 200*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, driven.Applied)
	require.Zero(t, driven.Failed)

	// Without a majority nothing more is acknowledged.
	for n := range r.members {
		if n != r.leader {
			r.members[n].kill()
		}
	}
	status, _, err := getOnce(t.Context(), r.http[r.leader], raftApplyPath, raftApplyWait)
	require.NoError(t, err)
	require.Equal(t, 503, status)
}

func TestLatencyIsMeasuredAtHalfOfTheMaximumBesideCeilings(t *testing.T) {
	r, err := MeasureLatency(t.Context(), LatencyOptions{
		Binary: deputy(t), Connections: 4, Runs: 2, Duration: 200 * time.Millisecond, Maximum: 200 * time.Millisecond, WarmUp: 50 * time.Millisecond,
		MaxLag: time.Second,
	})
	require.NoError(t, err)
	require.NoError(t, r.Check())

	require.Len(t, r.Subjects, 5)
	for n, role := range []result.Role{
		result.RoleMeasured, result.RoleBaseline, result.RoleBaseline, // mint, the empty handler, handler + sign
		result.RoleMeasured, result.RoleBaseline, // introspection, the empty handler
	} {
		s := r.Subjects[n]
		require.Equal(t, role, s.Role, s.Name)
		require.Len(t, s.Runs, 2)
		require.Zero(t, s.Counts.Failed, "%s: %v", s.Name, s.Errors)
		require.NotNil(t, s.Lag)
	}
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {3, 4}} {
		require.Equal(t, r.Subjects[pair[0]].Counts.Offered, r.Subjects[pair[1]].Counts.Offered, "a ceiling is asked as often")
	}
	var names []string
	for i := range r.Subjects {
		names = append(names, r.Subjects[i].Name)
	}
	want := []string{"mint", "empty handler, as mint", "handler + sign, as mint", "introspect", "empty handler, as introspect"}
	require.Equal(t, want, names, "the same in every run, whatever its rates")
	require.Len(t, r.SLO.Objectives, 4)
	require.Equal(t, (r.SLO.Objectives[0].Met || r.SLO.Objectives[1].Met) && (r.SLO.Objectives[2].Met || r.SLO.Objectives[3].Met), r.SLO.Met)
}

func TestColdIntrospectionIsOfTokensThatAnotherNodeHasMinted(t *testing.T) {
	o := Options{
		Workload: WorkloadIntrospect, Cold: true, Binary: deputy(t), Concurrency: 2, Duration: 200 * time.Millisecond,
		WarmUp: 50 * time.Millisecond, Rounds: 2, WarmTokens: 4, Stderr: t.Output(),
	}
	report, err := Run(t.Context(), o)
	require.NoError(t, err)

	require.Equal(t, coldSubject, report.Subjects[0].Name)
	require.Equal(t, CeilingVerify, report.Subjects[len(report.Subjects)-1].Ceiling)
	require.InDelta(t, ColdTarget, report.Ratio.Target, 1e-9)
	for _, s := range report.Subjects {
		require.Positive(t, s.Succeeded, s.Name)
		require.Zero(t, s.Failed, "%s: %v", s.Name, s.Failures)
	}
}
