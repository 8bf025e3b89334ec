package audit

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// longLog has a finished segment of many pieces.
func longLog(t *testing.T) (*Log, segment) {
	t.Helper()
	o := testOptions(t.TempDir())
	o.SegmentBytes = 2 << 20
	l := openLog(t, o)
	for range 5_000 {
		r := sample()
		_, err := l.Queue(t.Context(), &r)
		require.NoError(t, err)
	}
	require.NoError(t, l.syncer.sync())
	require.Eventually(t, func() bool { return l.catalog.all()[0].closed }, 10*time.Second, time.Millisecond)
	return l, l.catalog.all()[0]
}

func TestASegmentIsIndexedInShortPieces(t *testing.T) {
	l, s := longLog(t)
	whole, err := indexOf(l, s, func(time.Duration) error { return nil })
	require.NoError(t, err)

	rests := 0
	piecemeal, err := indexOf(l, s, func(worked time.Duration) error {
		require.Positive(t, worked)
		rests++
		return nil
	})

	require.NoError(t, err)
	require.GreaterOrEqual(t, rests, int(s.size/(pieceBytes+MaxLine)))
	require.InDelta(t, float64(s.size)/pieceBytes, rests, float64(s.size)/pieceBytes/10)
	require.True(t, bytes.Equal(whole.encode(), piecemeal.encode()))
}

func indexOf(l *Log, s segment, rest func(time.Duration) error) (*index, error) {
	made := &index{}
	_, err := l.indexes.extend(made, s, rest)
	return made, err
}

// What was begun without haste and broken off is gone on with.
func TestAnIndexIsGoneOnWithWhereItWasBrokenOff(t *testing.T) {
	l, s := longLog(t)
	whole, err := indexOf(l, s, func(time.Duration) error { return nil })
	require.NoError(t, err)
	enough, stop := errors.New("enough"), 5
	part := &index{}

	_, err = l.indexes.extend(part, s, func(time.Duration) error {
		if stop--; stop == 0 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Less(t, part.size, s.size)
	_, err = l.indexes.extend(part, s, func(time.Duration) error { return nil })

	require.NoError(t, err)
	require.True(t, bytes.Equal(whole.encode(), part.encode()))
}

func TestNobodyWhoAsksWaitsForTheRests(t *testing.T) {
	l, s := longLog(t)
	calledOff, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.indexes.make(calledOff, s), context.Canceled, "it rests after the first piece")

	l.indexes.hold(s).asked.Add(1) // somebody waits

	require.NoError(t, l.indexes.make(calledOff, s))
	l.indexes.hold(s).asked.Add(-1)
	require.True(t, l.indexes.has(s))
}
