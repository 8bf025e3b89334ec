package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	diskMiB    = 256 // of each node's data folder
	reserveMiB = 64  // of which so much is kept for the last
	mebibyte   = int64(1) << 20
)

// smallDisks is a network whose nodes have a small disk each.
type smallDisks struct{ *network }

func (d smallDisks) place(t *testing.T, n *node) {
	t.Helper()
	d.network.place(t, n)
	require.NoError(t, os.Mkdir(n.data(), 0o700))
	require.NoError(t, syscall.Mount("tmpfs", n.data(), "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", diskMiB)))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(n.data(), 0)) })
	n.keys = fmt.Sprintf("disk: {reserve_mib: %d}", reserveMiB)
}

// ballast has so many MiB be left of a node's disk, or a little less: the node writes as well.
func (d smallDisks) ballast(t *testing.T, n *node, left int64) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(n.data(), "ballast"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer file.Close()
	eventually(t, requestWait, "the disk of "+n.id+" to be as full as that", func() error {
		var disk syscall.Statfs_t
		require.NoError(t, syscall.Statfs(n.data(), &disk))
		has, err := file.Stat()
		require.NoError(t, err)
		more := int64(disk.Bavail)*disk.Bsize - left*mebibyte
		if more <= 0 {
			return file.Truncate(max(has.Size()+more, 0))
		}
		if err := syscall.Fallocate(int(file.Fd()), 0, has.Size(), more); !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		return errors.New("what was free is taken") // all of the request is undone then
	})
}

// A node whose disk fills up leads no more and says so, what stops something still goes through, and when the disk is
// full to the last the process ends in good order. Nothing that was acknowledged is lost, and with room again the
// node is as good as before.
func TestFullDisk(t *testing.T) {
	d := smallDisks{newNetwork(t)}
	f := newFleetOn(t, d, 3)
	application, r := f.cast(t).application, dice(t)
	l := startLoad(t, f)

	count := promised(t, 2, 20)
	suddenly := 0
	for round := range count {
		l.mark()
		l.requireProgress(t, 20, resumeWait)
		s := newSubject(t, f.client(t), application, stopKinds[round%len(stopKinds)], fmt.Sprintf("disk-%d", round), f.client(t))
		victim := f.nodes[r.IntN(len(f.nodes))]
		if round%2 == 0 {
			victim = f.leader(t)
			d.ballast(t, victim, reserveMiB/2)
			eventually(t, resumeWait, "another node to lead", func() error {
				if now := f.leader(t); now == victim {
					return fmt.Errorf("%s still does", now.id)
				}
				return nil
			})
			requireFenced(t, s, victim.asker(t), f.token)
		} else {
			suddenly++
		}
		d.ballast(t, victim, 0)
		said := victim.end(t, resumeWait)
		require.Contains(t, said, "disk")
		l.mark()
		l.requireProgress(t, 20, resumeWait)

		d.ballast(t, victim, diskMiB)
		victim.start(t)
		l.mark()
		l.requireProgress(t, 20, resumeWait)
		t.Logf("round %d: %s, %d writes looked for at every node", round, victim.id, l.checkFresh(t))
	}
	objects := l.end(t)
	l.checkAll(t)
	t.Logf("== full disk: %d times, %d of them from one moment to the next; %d objects acknowledged, LOST %d", count, suddenly, objects, l.lost())
	l.requireNothingLost(t)
}
