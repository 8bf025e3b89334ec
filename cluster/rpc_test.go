package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	n1 := newCluster(t, inMemory)
	n2 := n1.join("n2", inMemory)

	t.Run("the handler knows the caller by its key", func(t *testing.T) {
		answer, err := n2.Call(t.Context(), "n1", "echo", []byte("hello"))
		require.NoError(t, err)
		require.Equal(t, "n2→n1: hello", string(answer))
		answer, err = n1.Call(t.Context(), "n1", "echo", []byte("me"))
		require.NoError(t, err)
		require.Equal(t, "n1→n1: me", string(answer))
	})
	t.Run("many at a time share few connections", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				answer, err := n2.Call(t.Context(), "n1", "echo", []byte("x"))
				if err != nil || string(answer) != "n2→n1: x" {
					t.Errorf("got %q, %v", answer, err)
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, len(n2.client.peer("n1").connections()), connsPerPeer)
	})
	t.Run("large bodies go through, too large ones do not", func(t *testing.T) {
		answer, err := n2.Call(t.Context(), "n1", "size", make([]byte, MaxBody))
		require.NoError(t, err)
		require.Equal(t, uint64(MaxBody), binary.BigEndian.Uint64(answer))
		_, err = n2.Call(t.Context(), "n1", "size", make([]byte, MaxBody+1))
		require.ErrorIs(t, err, ErrTooLarge)
		_, err = n2.Call(t.Context(), "n1", "large", nil)
		require.ErrorIs(t, err, ErrTooLarge)
	})
	t.Run("errors keep their text and their meaning", func(t *testing.T) {
		_, err := n2.Call(t.Context(), "n1", "fail", nil)
		require.EqualError(t, err, "fail at member n1: no such luck")
		_, err = n2.Call(t.Context(), "n1", "nonsense", nil)
		require.ErrorIs(t, err, ErrUnknownMethod)
		_, err = n2.Call(t.Context(), "n7", "echo", nil)
		require.ErrorIs(t, err, ErrUnknownMember)
	})
	t.Run("the caller's deadline ends the handler too", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := n2.Call(ctx, "n1", "hang", nil)
		require.Error(t, err)
		require.True(t, errors.Is(err, ErrOutcomeUnknown) || errors.As(err, new(*RemoteError)), "%v", err)
		answer, err := n2.Call(t.Context(), "n1", "echo", []byte("still there"))
		require.NoError(t, err, "the connection lives on")
		require.Contains(t, string(answer), "still there")
	})
	t.Run("more than the bound is refused at once", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range MaxCallsPerPeer {
			wg.Go(func() { _, _ = n2.Call(ctx, "n1", "hang", nil) })
		}
		eventually(t, func() bool { return len(n2.client.peer("n1").places) == MaxCallsPerPeer })
		_, err := n2.Call(t.Context(), "n1", "echo", nil)
		require.ErrorIs(t, err, ErrOverloaded)
		cancel()
		wg.Wait()
	})
	t.Run("a connection that breaks fails what waits on it, and the next call dials", func(t *testing.T) {
		failed := make(chan error, 1)
		go func() {
			_, err := n2.Call(t.Context(), "n1", "hang", nil)
			failed <- err
		}()
		eventually(t, func() bool {
			conns := n2.client.peer("n1").connections()
			return len(conns) > 0 && loads(conns) > 0
		})
		for _, c := range n2.client.peer("n1").connections() {
			_ = c.conn.Close()
		}
		require.ErrorIs(t, <-failed, ErrOutcomeUnknown)
		eventually(t, func() bool { return len(n2.client.peer("n1").connections()) == 0 })
		_, err := n2.Call(t.Context(), "n1", "echo", nil)
		require.NoError(t, err)
	})
	t.Run("idle connections are closed by the caller", func(t *testing.T) {
		n2.client.tidy(time.Now().Add(rpcIdleClient + time.Second))
		eventually(t, func() bool { return len(n2.client.peer("n1").connections()) == 0 })
	})
	t.Run("nothing is asked of or by a stopped node", func(t *testing.T) {
		n1.stop()
		_, err := n2.Call(t.Context(), "n1", "echo", nil)
		require.Error(t, err)
		_, err = n1.Call(t.Context(), "n2", "echo", nil)
		require.ErrorIs(t, err, ErrStopped)
		_, err = n1.Propose(t.Context(), nil)
		require.ErrorIs(t, err, ErrStopped)
	})
}

func (p *peerCalls) connections() []*rpcConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*rpcConn(nil), p.conns...)
}

func loads(conns []*rpcConn) int {
	total := 0
	for _, c := range conns {
		total += c.load()
	}
	return total
}

func TestSentinelsSurviveTheWire(t *testing.T) {
	t.Parallel()
	for _, s := range sentinels {
		require.ErrorIs(t, statusOf(s.err).err(), s.err)
	}
	require.NoError(t, statusOK.err())
	require.NoError(t, status(200).err(), "a later version's status is an error without a name")
}

func TestLongErrorsAreCut(t *testing.T) {
	t.Parallel()
	require.Len(t, failure(1, errors.New(strings.Repeat("x", 1<<20))).body, maxErrorText)
}

func FuzzFrames(f *testing.F) {
	f.Add(appendRequest(nil, request{id: 7, timeout: time.Second, method: "echo", body: []byte("hello")}))
	f.Add(appendResponse(nil, response{id: 7, status: statusOK, body: []byte("hello")}))
	f.Add([]byte{0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 200})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := readFrame(bytes.NewReader(data), 1<<20)
		if err != nil {
			return
		}
		require.Len(t, frame, int(data[0])<<24|int(data[1])<<16|int(data[2])<<8|int(data[3]))
		if r, err := parseRequest(frame); err == nil {
			again, err := parseRequest(appendRequest(nil, r)[lengthSize:])
			require.NoError(t, err)
			if r.timeout > 0 { // the shortest deadline that is sent is a millisecond
				require.Equal(t, r, again)
			}
		}
		if r, err := parseResponse(frame); err == nil {
			require.Equal(t, frame, appendResponse(nil, r)[lengthSize:])
		}
	})
}

func TestALengthThatPromisesMuchCostsNothing(t *testing.T) {
	t.Parallel()
	promise := &meter{Reader: bytes.NewReader([]byte{0, 0x7f, 0xff, 0xff, 1})}
	_, err := readFrame(promise, MaxBody)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.LessOrEqual(t, promise.most, 64<<10)
}

// meter notes the largest buffer that it was asked to fill.
type meter struct {
	io.Reader
	most int
}

func (m *meter) Read(b []byte) (int, error) {
	m.most = max(m.most, len(b))
	return m.Reader.Read(b)
}
