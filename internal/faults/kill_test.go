package faults

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// resumeWait is the longest that writes may take to go on after a node died: a few elections on a machine
// that has better things to do.
const resumeWait = 20 * time.Second

func TestAcknowledgedWritesSurviveKillOfAnyNode(t *testing.T) {
	f := newFleet(t, 3)
	who, r := f.cast(t), dice(t)
	l := startLoad(t, f)

	var silences []time.Duration
	leaders := 0
	for round := range rounds(t) {
		l.mark()
		l.requireProgress(t, 20, resumeWait)
		leader := f.leader(t)
		victim := f.nodes[r.IntN(len(f.nodes))]
		if round%3 == 0 {
			victim = leader
		}
		if victim == leader {
			leaders++
		}

		victim.kill(t)
		l.mark()
		// A mint needs no quorum while the lease holds, so the survivors go on at once.
		for _, survivor := range f.running() {
			f.requireVouched(t, survivor, who, 0)
		}
		l.requireProgress(t, 20, resumeWait)
		silences = append(silences, l.silence())

		victim.start(t)
		f.requireVouched(t, victim, who, l.newestIndex())
		checked := l.requireFresh(t)
		t.Logf("round %d: killed %s (leader: %t), longest silence %s, %d writes found at every node",
			round+1, victim.id, victim == leader, silences[len(silences)-1].Round(time.Millisecond), checked)
	}

	promised := l.end(t)
	l.requireAll(t)
	slices.Sort(silences)
	t.Logf("%d kills, %d of them of the leader; %d objects, none lost; silence median %s, longest %s",
		len(silences), leaders, promised, silences[len(silences)/2].Round(time.Millisecond), silences[len(silences)-1].Round(time.Millisecond))
}

func TestAcknowledgedWritesSurviveKillOfAll(t *testing.T) {
	f := newFleet(t, 3)
	who := f.cast(t)
	l := startLoad(t, f)

	for round := range max(3, rounds(t)/5) {
		l.mark()
		l.requireProgress(t, 30, resumeWait)
		for _, n := range f.nodes {
			n.kill(t)
		}
		l.mark()
		began := time.Now()
		for _, n := range f.nodes {
			n.launch(t)
		}
		for _, n := range f.nodes {
			n.waitReady(t)
		}
		back := time.Since(began)
		l.requireProgress(t, 20, resumeWait)
		f.requireVouched(t, f.nodes[round%len(f.nodes)], who, l.newestIndex())
		t.Logf("round %d: all killed, all ready after %s, %d writes found at every node", round+1, back.Round(time.Millisecond), l.requireFresh(t))
	}

	promised := l.end(t)
	l.requireAll(t)
	t.Logf("%d objects, none lost", promised)
}

func TestRestartFindsTheSameData(t *testing.T) {
	f := newFleet(t, 3)
	who := f.cast(t)
	l := startLoad(t, f)
	l.requireProgress(t, 50, resumeWait)
	l.end(t)
	token := f.requireMint(t, f.nodes[1], who, l.newestIndex())
	dead := f.requireMint(t, f.nodes[2], who, l.newestIndex())
	c := f.client(t)
	_, err := c.EndSession(within(t, requestWait), dead.SessionID, "before the restart")
	require.NoError(t, err)

	for i, n := range f.nodes {
		signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
		require.NoError(t, n.stop(t, signal), "%s did not end cleanly on %s\n%s", n.id, signal, n.lastWords())
	}
	for _, n := range f.nodes {
		n.launch(t)
	}
	for _, n := range f.nodes {
		n.waitReady(t)
	}

	l.requireAll(t)
	for _, n := range f.nodes {
		f.requireActive(t, n, who, token.AccessToken, true, c.Index())
		f.requireActive(t, n, who, dead.AccessToken, false, c.Index())
		f.requireVouched(t, n, who, c.Index())
	}
	f.waitVoters(t, 3)
}
