package cluster

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sealed(tb testing.TB, key NodeKey, origin string, at int64, payload []byte) []byte {
	tb.Helper()
	message, err := sealDeny(key, origin, at, payload)
	require.NoError(tb, err)
	return message
}

func TestDenyEnvelopeComesBackAsItWas(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, size := range []int{1, 28, MaxDenyPayload} {
		payload := bytes.Repeat([]byte{7}, size)
		message := sealed(t, key, "n1", 1_700_000_000_123, payload)
		e, err := parseDeny(message)
		require.NoError(t, err)
		require.Equal(t, "n1", e.origin)
		require.EqualValues(t, 1_700_000_000_123, e.at)
		require.Equal(t, payload, e.payload)
		require.True(t, e.signedBy(key.Public()))
		require.False(t, e.signedBy(newKey(t).Public()))
		require.False(t, e.signedBy(nil), "a table without the key")
		require.NotEqual(t, message, sealed(t, key, "n1", 1_700_000_000_123, payload), "said twice, it is two messages")
	}
}

func TestDenyEnvelopeStaysBelowWhatMemberlistSends(t *testing.T) {
	t.Parallel()
	message := sealed(t, newKey(t), strings.Repeat("n", MaxNodeIDLength), math.MaxInt64, make([]byte, MaxDenyPayload))
	require.Len(t, message, maxDenyMessage)
	const overhead = 1 + 5 + 29 // its type, checksum and encryption
	require.LessOrEqual(t, len(message)+overhead, 1000)
	_, err := parseDeny(message)
	require.NoError(t, err)
}

func TestDenyEnvelopeHasOneSpelling(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	message := sealed(t, key, "n1", 1_700_000_000_123, []byte("stop"))
	for i := range message {
		_, err := parseDeny(message[:i])
		require.ErrorIs(t, err, errMalformedDeny, "cut to %d bytes", i)
	}
	_, err := parseDeny(append(slices.Clone(message), 0))
	require.ErrorIs(t, err, errMalformedDeny)
	for i := range len(message) * 8 {
		flipped := slices.Clone(message)
		flipped[i/8] ^= 1 << (i % 8)
		if e, err := parseDeny(flipped); err == nil {
			require.False(t, e.signedBy(key.Public()), "bit %d", i)
		}
	}
}

func TestDenyEnvelopeBounds(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	wrong := map[string][]byte{
		"empty":                   nil,
		"no origin":               sealed(t, key, "", 1, []byte("stop")),
		"no payload":              sealed(t, key, "n1", 1, nil),
		"a payload over the size": sealed(t, key, "n1", 1, make([]byte, MaxDenyPayload+1)),
		"an origin over the size": sealed(t, key, strings.Repeat("n", MaxNodeIDLength+1), 1, []byte("stop")),
		"another version":         append([]byte{2}, sealed(t, key, "n1", 1, []byte("stop"))[1:]...),
		"larger than any":         make([]byte, maxDenyMessage+1),
	}
	late := sealed(t, key, "n1", 1, []byte("stop"))
	binary.BigEndian.PutUint64(late[2+2:], math.MaxInt64+1)
	wrong["a time that is no int64"] = late
	for what, message := range wrong {
		_, err := parseDeny(message)
		require.ErrorIs(t, err, errMalformedDeny, what)
	}
}

// A signature that the node key gives for another purpose must not be one of a deny.
func TestDenyEnvelopeIsSignedForItsPurpose(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	message := sealed(t, key, "n1", 1, []byte("stop"))
	body := message[:len(message)-ed25519.SignatureSize]
	e, err := parseDeny(append(slices.Clone(body), key.Sign(body)...))
	require.NoError(t, err)
	require.False(t, e.signedBy(key.Public()))
}

func FuzzDenyEnvelope(f *testing.F) {
	key, err := NewNodeKey()
	require.NoError(f, err)
	for _, payload := range [][]byte{{1}, []byte("stop"), make([]byte, MaxDenyPayload)} {
		message := sealed(f, key, "n1", 1_700_000_000_123, payload)
		f.Add(message)
		f.Add(message[:len(message)-1])
		f.Add(append(slices.Clone(message), 0))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, minDenyMessage))
	f.Add(bytes.Repeat([]byte{0xff}, maxDenyMessage))
	f.Fuzz(func(t *testing.T, message []byte) {
		before := slices.Clone(message)
		e, err := parseDeny(message)
		require.Equal(t, before, message, "parsing changes nothing")
		if err != nil {
			require.ErrorIs(t, err, errMalformedDeny)
			return
		}
		require.NotEmpty(t, e.origin)
		require.LessOrEqual(t, len(e.origin), MaxNodeIDLength)
		require.NotEmpty(t, e.payload)
		require.LessOrEqual(t, len(e.payload), MaxDenyPayload)
		require.GreaterOrEqual(t, e.at, int64(0))
		// Its parts, put together again, are the message: there is nothing that the parser overlooks.
		again := append([]byte{denyVersion, byte(len(e.origin))}, e.origin...)
		again = binary.BigEndian.AppendUint64(again, uint64(e.at))
		again = append(again, message[len(again):len(again)+denyNonceSize]...)
		again = binary.BigEndian.AppendUint16(again, uint16(len(e.payload)))
		again = append(again, e.payload...)
		require.Equal(t, again, e.signed)
		require.Equal(t, message, append(again, e.signature...))
		require.Equal(t, ed25519.Verify(key.Public(), append([]byte(denyPurpose), again...), e.signature), e.signedBy(key.Public()))
	})
}
