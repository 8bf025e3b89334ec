package fsm

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
)

func anyText(t *rapid.T, name string) string {
	long := rapid.SampledFrom([]int{0, 0, 0, 31, 32, 255, 256, 65_535, 65_536}).Draw(t, name+" longer")
	return rapid.String().Draw(t, name) + strings.Repeat("x", long)
}

func anyInstant(t *rapid.T, name string) identity.Instant {
	return identity.Instant(rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{
		0, 1, -1, -32, -33, math.MinInt8, math.MinInt8 - 1, math.MaxInt8, math.MaxInt8 + 1, math.MaxUint8, math.MaxUint8 + 1,
		math.MinInt16, math.MinInt16 - 1, math.MaxInt16, math.MaxInt16 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt32, math.MaxInt32 + 1,
	})).Draw(t, name))
}

func anyCreation(t *rapid.T) CreateDelegation {
	return CreateDelegation{
		Delegation: identity.Delegation{
			ID: anyText(t, "id"), Principal: anyText(t, "principal"), Agent: anyText(t, "agent"),
			Scopes: identity.Scopes(anyText(t, "scopes")), Expires: anyInstant(t, "expires"), Reason: anyText(t, "reason"),
			Origin: anyText(t, "origin"), MaxHops: rapid.Uint8().Draw(t, "hops"),
			Status: identity.DelegationStatus(anyText(t, "status")), Created: anyInstant(t, "created"), Withdrawn: anyInstant(t, "withdrawn"),
			Revision: rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 70_000)).Draw(t, "revision"),
		},
		EnsurePrincipal: rapid.Bool().Draw(t, "ensure"), Regrant: rapid.Bool().Draw(t, "regrant"),
	}
}

// TestEachFieldIsWrittenByHand fails for whoever adds a field: codec_quick.go names all that there are, and so does
// anyCreation.
func TestEachFieldIsWrittenByHand(t *testing.T) {
	require.Equal(t, 12, reflect.TypeFor[identity.Delegation]().NumField(), "write and read it in codec_quick.go, and draw it here")
	require.Equal(t, 3, reflect.TypeFor[CreateDelegation]().NumField(), "write and read it in codec_quick.go, and draw it here")
	require.Equal(t, 5, reflect.TypeFor[header]().NumField(), "write and read it in codec_quick.go, and draw it here")
}

// TestQuickWritingIsThatOfTheCodec, byte for byte, whatever the values.
func TestQuickWritingIsThatOfTheCodec(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := anyCreation(rt)
		want, err := marshal(b)
		require.NoError(rt, err)
		require.Equal(rt, want, appendCreateDelegation(nil, &b))

		h := header{ClientKey: rapid.Bool().Draw(rt, "client"), Time: anyInstant(rt, "time"), By: anyText(rt, "by")}
		if rapid.Bool().Draw(rt, "has id") {
			h.ID = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "command")
		}
		if rapid.Bool().Draw(rt, "has fingerprint") {
			h.Fingerprint = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "fingerprint")
		}
		want, err = marshal(&h)
		require.NoError(rt, err)
		require.Equal(rt, want, appendHeader(nil, &h))

		// And what was written so is read so, unless the codec has to, which then reads the same.
		var read header
		if n, ok := quickHeader(append(want, 0x80), &read, new(shared)); ok {
			require.Equal(rt, len(want), n)
			require.Equal(rt, h, read)
		}
		body, err := decodeBody(TypeCreateDelegation, appendCreateDelegation(nil, &b), new(shared))
		require.NoError(rt, err)
		require.Equal(rt, b, body)
	})
}

// TestASnapshotIsWrittenAsByTheCodec, byte for byte, whatever the values. That it is read again as it was is in
// restore_test.go.
func TestASnapshotIsWrittenAsByTheCodec(t *testing.T) {
	t.Parallel()
	require.Equal(t, 13, reflect.TypeFor[wireRecord]().NumField(), "write it in snapshot_wire.go, read it in restore_wire.go, and draw it here")
	require.Equal(t, 6, reflect.TypeFor[identity.Revocation]().NumField(), "write it in snapshot_wire.go, read it in restore_wire.go, and draw it here")
	anyNumber := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 70_000))
	rapid.Check(t, func(rt *rapid.T) {
		record := wireRecord{
			ID: rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "id"), Agent: anyText(rt, "agent"), Principal: anyText(rt, "principal"),
			Scopes: anyText(rt, "scopes"), Origin: anyText(rt, "origin"), Reason: anyText(rt, "reason"), Created: anyInstant(rt, "created"),
			Expires: anyInstant(rt, "expires"), Withdrawn: anyInstant(rt, "withdrawn"), Revision: anyNumber.Draw(rt, "revision"),
			Made: anyNumber.Draw(rt, "made"), MaxHops: rapid.Uint8().Draw(rt, "hops"), Inactive: rapid.Bool().Draw(rt, "inactive"),
		}
		want, err := marshal(&record)
		require.NoError(rt, err)
		require.Equal(rt, want, appendWireRecord(nil, &record))

		revocation := identity.Revocation{
			Handle: identity.Handle(anyText(rt, "handle")), Reason: anyText(rt, "why"), By: anyText(rt, "by"), At: anyInstant(rt, "at"),
			Expires: anyInstant(rt, "until"), Index: anyNumber.Draw(rt, "index"),
		}
		want, err = marshal(&revocation)
		require.NoError(rt, err)
		require.Equal(rt, want, appendRevocation(nil, &revocation))
	})
}

// TestAnOrdinaryDelegationIsReadQuickly: the quick way is there to be taken.
func TestAnOrdinaryDelegationIsReadQuickly(t *testing.T) {
	b := CreateDelegation{Delegation: testDelegation(1, "ann@x", "a"), EnsurePrincipal: true}
	entry, err := Encode(Command{ID: CommandID{1}, Time: epoch, By: "tok_1", Body: b})
	require.NoError(t, err)
	var h header
	n, ok := quickHeader(entry[envelopeBytes:], &h, new(shared))
	require.True(t, ok)
	var read CreateDelegation
	require.True(t, quickCreateDelegation(entry[envelopeBytes+n:], &read, new(shared)))
	require.Equal(t, b, read)
}

func TestAnOrdinaryDelegationAllocatesLittle(t *testing.T) {
	if racedetector.Enabled {
		t.Skip("the race detector allocates as well; make test runs this without it")
	}
	b := CreateDelegation{Delegation: testDelegation(1, "ann@x", "a"), EnsurePrincipal: true}
	c := Command{ID: CommandID{1}, Time: epoch, By: "tok_1", Body: b}
	entry, err := Encode(c)
	require.NoError(t, err)
	texts := new(shared)
	allocations := testing.AllocsPerRun(100, func() { _, _ = decode(entry, texts) })
	require.LessOrEqual(t, allocations, 4.0, "the ids of delegation and principal, the reason, and the body")
	allocations = testing.AllocsPerRun(100, func() { _, _ = Encode(c) })
	require.LessOrEqual(t, allocations, 3.0)
}

// FuzzQuickReading: what is read by hand the codec reads as well, and to the same.
func FuzzQuickReading(f *testing.F) {
	for _, b := range []CreateDelegation{
		{},
		{Delegation: testDelegation(1, "ann@x", "a"), EnsurePrincipal: true, Regrant: true},
		{Delegation: identity.Delegation{MaxHops: 200, Revision: 1 << 40, Withdrawn: -5, Created: 300}},
	} {
		data, err := marshal(b)
		require.NoError(f, err)
		f.Add(data)
		head, err := marshal(&header{ID: make([]byte, 16), Fingerprint: make([]byte, 16), ClientKey: true, Time: epoch, By: "tok_1"})
		require.NoError(f, err)
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var quick CreateDelegation
		if quickCreateDelegation(data, &quick, new(shared)) {
			slow, err := strict[CreateDelegation](data)
			require.NoError(t, err)
			require.Equal(t, slow, quick)
		}
		var h, slow header
		if n, ok := quickHeader(data, &h, new(shared)); ok {
			m, err := unmarshalPrefix(data, &slow)
			require.NoError(t, err)
			require.Equal(t, m, n)
			if len(slow.ID) == 0 && len(h.ID) == 0 {
				slow.ID, h.ID = nil, nil
			}
			if len(slow.Fingerprint) == 0 && len(h.Fingerprint) == 0 {
				slow.Fingerprint, h.Fingerprint = nil, nil
			}
			require.Equal(t, slow, h)
		}
	})
}
