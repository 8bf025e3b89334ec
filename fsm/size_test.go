package fsm

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// heavyAgent has as many scopes as are allowed: some 33 kB.
func heavyAgent(name string) identity.Agent {
	scopes := make([]string, identity.MaxScopes)
	for i := range scopes {
		scopes[i] = fmt.Sprintf("%04d", i) + strings.Repeat("x", identity.MaxScopeLength-4)
	}
	a := testAgent(name)
	a.DefaultScopes = identity.Scopes(strings.Join(scopes, " "))
	return a
}

// remembered lists what a window holds, oldest first.
func (w *window) remembered() (ids []CommandID, bytes int) {
	w.queue.work.Scan(func(r *receipt) bool {
		ids = append(ids, r.id)
		bytes += r.size
		return true
	})
	return ids, bytes
}

func TestWindowsAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := m.fsm.state
	a := heavyAgent("patched")
	must1[*identity.Agent](m, CreateAgent{a})
	const n = 4000 // 130 MB of answers
	for i := range n {
		s.apply(Command{ID: commandID(i), ClientKey: true, Time: epoch, Body: UpdateAgent{Agent: a}})
		require.LessOrEqual(t, s.clients.bytes, maxReceiptBytes)
	}
	ids, bytes := s.clients.remembered()
	require.Equal(t, s.clients.bytes, bytes)
	require.Greater(t, bytes, maxReceiptBytes*9/10, "what fits is kept")
	require.Equal(t, commandID(n-1), ids[len(ids)-1])
	require.Len(t, s.clients.byID, len(ids))
	require.True(t, s.apply(Command{ID: commandID(n - 1), ClientKey: true, Time: epoch, Body: UpdateAgent{Agent: a}}).Replayed)
	require.False(t, s.apply(Command{ID: commandID(0), ClientKey: true, Time: epoch, Body: UpdateAgent{Agent: a}}).Replayed)
	require.Less(t, len(m.snapshot()), maxReceiptBytes+1<<20, "a snapshot is bounded likewise")
}

func TestTheLatestCommandIsRememberedHoweverLargeItsAnswer(t *testing.T) {
	m := newMachine(t)
	s := m.fsm.state
	a := heavyAgent("patched")
	a.Description = strings.Repeat("x", 64<<10)
	must1[*identity.Agent](m, CreateAgent{a})
	batch := Batch{Bodies: make([]Body, MaxBatch)}
	for i := range batch.Bodies {
		batch.Bodies[i] = UpdateAgent{Agent: a}
	}
	for i := range 2 {
		require.False(t, s.apply(Command{ID: commandID(i), Time: epoch, Body: batch}).Replayed)
		require.Greater(t, s.internal.bytes, maxReceiptBytes)
		require.True(t, s.apply(Command{ID: commandID(i), Time: epoch, Body: batch}).Replayed)
		require.Len(t, s.internal.byID, 1)
	}
	s.apply(Command{ID: commandID(2), Time: epoch, Body: Tick{}})
	require.Less(t, s.internal.bytes, 1000, "the next one takes its place")
}

// TestReplicasForgetTheSameReceipts: one replica goes on from a snapshot while its windows are half full.
func TestReplicasForgetTheSameReceipts(t *testing.T) {
	t.Parallel()
	one := newMachine(t)
	heavy, light := heavyAgent("heavy"), testAgent("light")
	light.Labels = map[string]string{"a": "1", "b": "2"}
	must1[*identity.Agent](one, CreateAgent{heavy})
	must1[*identity.Agent](one, CreateAgent{light})
	play := func(m *machine, from, to int) {
		for i := from; i < to; i++ {
			var batch Batch
			for range 1 + i%97 {
				batch.Bodies = append(batch.Bodies, UpdateAgent{Agent: heavy}, UpdateAgent{Agent: light}, UpdateAgent{Agent: testAgent("nobody")},
					CreateDelegation{Delegation: testDelegation(uint64(i), "ann@x", "light"), EnsurePrincipal: true})
			}
			// The clock moves, so that the internal window is bounded by its age and the other by its bytes.
			now := epoch + identity.Instant(i*10_000)
			m.fsm.state.apply(Command{ID: commandID(i), ClientKey: true, Time: now, Body: batch})
			m.fsm.state.apply(Command{ID: commandID(i), Time: now, Body: UpdateAgent{Agent: heavy}})
		}
		m.fsm.publish(m.fsm.state)
	}
	play(one, 0, 30)
	require.Greater(t, one.fsm.state.clients.bytes, maxReceiptBytes/5)
	two := one.restored()
	play(one, 30, 120)
	play(two, 30, 120)

	windows := func(m *machine) []*window { return []*window{m.fsm.state.internal, m.fsm.state.clients} }
	for i, w := range windows(one) {
		ids, bytes := w.remembered()
		require.Equal(t, w.bytes, bytes)
		require.Less(t, len(ids), 120-30, "all that is of the time before the restore is forgotten")
		again, bytesAgain := windows(two)[i].remembered()
		require.Equal(t, ids, again)
		require.Equal(t, bytes, bytesAgain)
		require.Equal(t, bytes, windows(two)[i].bytes)
	}
}

// fill gives every text, list and map below v something, of which each is more than all that is counted beside
// texts, so that no field can hide.
func fill(v reflect.Value) {
	text := strings.Repeat("t", 10_000)
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(text))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 3 {
			v.SetMapIndex(reflect.ValueOf(fmt.Sprint(text, i)), reflect.ValueOf(text))
		}
	case reflect.String:
		v.SetString(text)
	case reflect.Int64:
		v.SetInt(1 << 62)
	case reflect.Uint64:
		v.SetUint(1 << 63)
	}
}

// TestTheSizeOfAReceiptCountsAllThatItHolds: a type or field that were not counted would be unbounded.
func TestTheSizeOfAReceiptCountsAllThatItHolds(t *testing.T) {
	encoded := func(v any) []byte {
		var out []byte
		require.NoError(t, codec.NewEncoderBytes(&out, handle).Encode(v))
		return out
	}
	text := strings.Repeat("t", 10_000)
	full, err := (&wireRecord{ID: make([]byte, 16), Agent: text, Principal: text, Scopes: text, Origin: text, Reason: text}).record()
	require.NoError(t, err)
	kinds := map[valueKind]bool{}
	for _, v := range []any{
		new(identity.Agent), new(AgentChange), new(identity.Credential), new(Revoked), new(identity.Principal), new(PrincipalChange),
		new(identity.Application), full, new(DelegationChange), new(identity.APIToken), new(identity.JoinToken),
		new(identity.Member), new(identity.SigningKey), new(identity.Settings), new(Purged), new(Imported), new(identity.TrustedIssuer),
	} {
		kind, err := kindOfValue(v)
		require.NoError(t, err)
		kinds[kind] = true
		written := v
		if r, ok := v.(*record); ok {
			wire := r.wire()
			written = &wire
		} else {
			require.NotPanics(t, func() { sizeOfValue(v) }, "%T with nothing in it", v)
			fill(reflect.ValueOf(v).Elem())
		}
		require.GreaterOrEqual(t, sizeOfValue(v), len(encoded(written)), "%T", v)
	}
	for kind := valueNone + 1; kind <= valueTrustedIssuer; kind++ {
		require.True(t, kinds[kind], "kind %d", kind)
	}

	refusal := new(identity.Error)
	fill(reflect.ValueOf(refusal).Elem())
	require.GreaterOrEqual(t, sizeOf(Result{Err: refusal}), len(encoded(refusal)))
}
