package audit

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProofShowsOneRecordToWhoHasOnlyTheKey(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CheckpointRecords = 37
	l := openLog(t, o)
	appendAll(t, l, 0, 150)
	last, _ := l.Last()
	_, err := l.Prove(last)
	require.ErrorIs(t, err, ErrNoCheckpoint)
	_, err = l.Prove(last + 1)
	require.ErrorIs(t, err, ErrNoRecord)
	closeLog(t, l)

	key := keyOfNode("n1").Public()
	proven := 0
	for _, line := range linesOf(t, o.Dir) {
		e, err := ParseEntry(line)
		require.NoError(t, err)
		p, err := Prove(o.Dir, e.Sequence)
		if e.Kind == KindCheckpoint {
			require.ErrorContains(t, err, "signed itself")
			continue
		}
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.Path), 6, "it is logarithmic")
		text, err := json.Marshal(p)
		require.NoError(t, err)
		var sent Proof
		require.NoError(t, json.Unmarshal(text, &sent))
		require.NoError(t, VerifyProof(&sent, nil, key))
		require.NoError(t, VerifyProof(&sent, line, key), "as it was exported")
		proven++

		require.ErrorIs(t, VerifyProof(&sent, nil, keyOfNode("n2").Public()), ErrSignature)
		other, err := Prove(o.Dir, 1+e.Sequence%30)
		if err == nil && other.Sequence != e.Sequence {
			require.Error(t, VerifyProof(&sent, []byte(other.Record), key), "it is for this record only")
		}
		sent.Checkpoint.First++
		require.Error(t, VerifyProof(&sent, nil, key))
	}
	require.Greater(t, proven, 150)
	_, err = Prove(o.Dir, 10_000)
	require.ErrorIs(t, err, ErrNoRecord)
	_, err = Prove(t.TempDir(), 1)
	require.ErrorIs(t, err, ErrNoRecord)
}

func TestRecordThatWasChangedHasNoProof(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CheckpointEvery = time.Hour
	l := openLog(t, o)
	appendAll(t, l, 0, 20)
	closeLog(t, l)
	p, err := Prove(o.Dir, 5)
	require.NoError(t, err)

	// The same record with another content that fits itself, which is all that can be made without the key.
	e, err := ParseEntry([]byte(p.Record))
	require.NoError(t, err)
	_, _, f, err := cutLine(append([]byte(p.Record), '\n'))
	require.NoError(t, err)
	c := chain{sequence: e.Sequence - 1, head: e.Prev}
	changed := e.Record
	changed.Tool = "zendesk.delete"
	line := c.append(nil, f.node, appendBody(nil, &changed, changed.Time))
	_, err = ParseEntry(line)
	require.NoError(t, err)
	require.ErrorContains(t, VerifyProof(p, line, keyOfNode("n1").Public()), "doesn't lead")
}
