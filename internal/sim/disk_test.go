package sim

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

func entries(from, to uint64) (batch []*raft.Log) {
	for i := from; i <= to; i++ {
		batch = append(batch, &raft.Log{Index: i, Term: 1})
	}
	return batch
}

func quick() time.Duration { return 0 }

func TestWhatWasWrittenBeforeACrashIsThere(t *testing.T) {
	d := newDisk(newSource(1, 1), quick)
	require.NoError(t, d.StoreLogs(entries(1, 20)))
	require.NoError(t, d.SetUint64([]byte("CurrentTerm"), 7))
	require.NoError(t, d.Set([]byte("LastVoteCand"), []byte("n1")))
	next := d.crash()
	require.NoError(t, d.StoreLogs(entries(21, 30)), "a dead process is told nothing")

	last, err := next.LastIndex()
	require.NoError(t, err)
	require.Equal(t, uint64(20), last, "and what it writes is gone")
	term, err := next.GetUint64([]byte("CurrentTerm"))
	require.NoError(t, err)
	require.Equal(t, uint64(7), term)
	vote, err := next.Get([]byte("LastVoteCand"))
	require.NoError(t, err)
	require.Equal(t, "n1", string(vote))
}

func TestACrashDuringAWriteLosesATail(t *testing.T) {
	lengths := make(map[uint64]bool)
	for seed := range uint64(200) {
		virtualtime.Test(t, func(t *testing.T) {
			slow := time.Duration(0)
			d := newDisk(newSource(seed, 1), func() time.Duration { return slow })
			require.NoError(t, d.StoreLogs(entries(1, 3)))
			slow = time.Second
			go func() { _ = d.StoreLogs(entries(4, 7)) }()
			time.Sleep(slow / 2)
			next := d.crash()
			last, err := next.LastIndex()
			require.NoError(t, err)
			lengths[last] = true
			for i := uint64(1); i <= last; i++ {
				require.NoError(t, next.GetLog(i, new(raft.Log)), "no hole at %d of %d", i, last)
			}
			time.Sleep(slow)
		})
	}
	require.Equal(t, map[uint64]bool{3: true, 4: true, 5: true, 6: true, 7: true}, lengths)
}

func TestASnapshotThatIsNotClosedIsNotThere(t *testing.T) {
	d := newDisk(newSource(1, 1), quick)
	for index := uint64(1); index <= 3; index++ {
		s, err := d.Create(1, index, 1, raft.Configuration{}, 0, nil)
		require.NoError(t, err)
		_, err = s.Write([]byte{byte(index)})
		require.NoError(t, err)
		if index < 3 {
			require.NoError(t, s.Close())
		}
	}
	next := d.crash()
	list, err := next.List()
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, uint64(2), list[0].Index, "the newest first")
	_, content, err := next.Open(list[0].ID)
	require.NoError(t, err)
	text, err := io.ReadAll(content)
	require.NoError(t, err)
	require.Equal(t, []byte{2}, text)
}

func TestWhatIsDeletedLeavesTheRightEnds(t *testing.T) {
	d := newDisk(newSource(1, 1), quick)
	require.NoError(t, d.StoreLogs(entries(1, 10)))
	require.NoError(t, d.DeleteRange(1, 4))
	require.NoError(t, d.DeleteRange(9, 12))
	first, _ := d.FirstIndex()
	last, _ := d.LastIndex()
	require.Equal(t, []uint64{5, 8}, []uint64{first, last})
	require.NoError(t, d.StoreLogs(entries(20, 21)), "behind a snapshot there may be a gap")
	require.ErrorIs(t, d.GetLog(12, new(raft.Log)), raft.ErrLogNotFound)
	require.NoError(t, d.DeleteRange(5, 8))
	first, _ = d.FirstIndex()
	require.Equal(t, uint64(20), first)
	require.NoError(t, d.DeleteRange(1, 100))
	first, _ = d.FirstIndex()
	last, _ = d.LastIndex()
	require.Equal(t, []uint64{0, 0}, []uint64{first, last})
}
