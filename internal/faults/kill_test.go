package faults

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// resumeWait is the longest that writes may take to go on after a node died: a few elections on a machine
// that has better things to do.
const resumeWait = 20 * time.Second

// allAtOnce is how often all nodes are killed instead of a few of them.
const allAtOnce = 5

// Whatever was acknowledged is there after kill -9 of any minority of the nodes, and of all of them at once.
func TestAcknowledgedWritesSurviveKills(t *testing.T) {
	f := newFleet(t, fleetSize(t))
	who, r := f.cast(t), dice(t)
	l := startLoad(t, f)

	var silences sample
	count := rounds(t)
	leaders, all, processes := 0, 0, 0
	for round := range count {
		l.mark()
		l.requireProgress(t, 20, resumeWait)
		leader := f.leader(t)
		victims := f.victims(r, round, leader)
		if slices.Contains(victims, leader) {
			leaders++
		}
		processes += len(victims)

		for _, v := range victims {
			v.kill(t)
		}
		l.mark()
		if len(victims) == len(f.nodes) {
			all++
		} else {
			// A mint needs no quorum while the lease holds, so the survivors go on at once.
			for _, survivor := range f.running() {
				f.requireVouched(t, survivor, who, 0)
			}
			l.requireProgress(t, 20, resumeWait)
			silences.add(l.silence())
		}
		for _, v := range victims {
			v.launch(t)
		}
		for _, v := range victims {
			v.waitReady(t)
		}
		l.requireProgress(t, 20, resumeWait)
		f.requireVouched(t, victims[0], who, l.newestIndex())
		checked := l.checkFresh(t)
		t.Logf("round %d: killed %d of %d nodes (the leader: %t), longest silence %s, %d writes looked for at every node",
			round+1, len(victims), len(f.nodes), slices.Contains(victims, leader), l.silence().Round(time.Millisecond), checked)
	}

	objects := l.end(t)
	l.checkAll(t)
	t.Logf("== kills: %d (%d of a minority of %d nodes, %d of all at once; %d with the leader; %d processes), %d objects acknowledged, LOST %d; writes silent p50 %s longest %s",
		count, count-all, len(f.nodes), all, leaders, processes, objects, l.lost(), silences.at(0.5), silences.at(1))
	l.requireNothingLost(t)
}

// victims are a minority of the nodes, with the leader among them every third time, or now and then all of them.
func (f *fleet) victims(r *rand.Rand, round int, leader *node) []*node {
	if round%allAtOnce == allAtOnce-1 {
		return slices.Clone(f.nodes)
	}
	var victims []*node
	for _, i := range r.Perm(len(f.nodes))[:1+r.IntN((len(f.nodes)-1)/2)] {
		victims = append(victims, f.nodes[i])
	}
	if round%3 == 0 && !slices.Contains(victims, leader) {
		victims[0] = leader
	}
	return victims
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
