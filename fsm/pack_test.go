package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func packOf(t require.TestingT, entries ...[]byte) []byte {
	pack, err := Pack(entries)
	require.NoError(t, err)
	return pack
}

// resultsOf are those of a pack, as its proposer gets them.
func resultsOf(response any) (results []any) {
	p := response.(packed)
	for i := range p.Len() {
		results = append(results, p.At(i))
	}
	return results
}

func encoded(t require.TestingT, bodies ...Body) (entries [][]byte) {
	for _, b := range bodies {
		entry, err := Encode(Command{Time: epoch, By: "tok_test", Body: b})
		require.NoError(t, err)
		entries = append(entries, entry)
	}
	return entries
}

// TestAPackIsAppliedAsItsCommandsWouldBe: whatever the commands are, refused, repeated or of any kind, their answers and
// the state are, byte for byte, those of the same commands one after the other at that index.
func TestAPackIsAppliedAsItsCommandsWouldBe(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		single, packed := newMachine(t), newMachine(t)
		var want, got []any
		index := uint64(0)
		for rest := randomLog(rt); len(rest) > 0; {
			n := rapid.IntRange(1, min(12, len(rest))).Draw(rt, "packed")
			index++
			var entries [][]byte
			for _, e := range rest[:n] {
				entries = append(entries, e.Data)
				want = append(want, single.fsm.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: e.Data}))
			}
			response := packed.fsm.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: packOf(rt, entries...)})
			if n == 1 {
				got = append(got, response)
			} else {
				got = append(got, resultsOf(response)...)
			}
			rest = rest[n:]
		}
		require.Equal(rt, want, got)
		require.Equal(rt, single.snapshot(), packed.snapshot())
		require.Equal(rt, single.set.Len(), packed.set.Len())
		require.Equal(rt, packed.snapshot(), packed.restored().snapshot())
	})
}

// TestThePackOfToday: logs outlive the code that wrote them, so these bytes must be read for ever.
func TestThePackOfToday(t *testing.T) {
	entries := encoded(t, CreateAgent{testAgent("a")}, KillAgent{Name: "a"})
	want := []byte{2, 0, 0, 2, 0, 0, 0, byte(len(entries[0]))}
	want = append(want, entries[0]...)
	want = append(append(want, 0, 0, 0, byte(len(entries[1]))), entries[1]...)
	require.Less(t, len(entries[0]), 256)
	require.Equal(t, want, packOf(t, entries...))
	m := newMachine(t)
	results := resultsOf(m.fsm.Apply(&raft.Log{Index: 3, Type: raft.LogCommand, Data: want}))
	require.Equal(t, "a", results[0].(Result).Value.(*identity.Agent).Name)
	require.Equal(t, []identity.Handle{"agt_a#1"}, results[1].(Result).Value.(*AgentChange).Handles)
}

// TestAPackIsSeenWholeOrNotAtAll: by the View, and by whoever follows revocations by their index.
func TestAPackIsSeenWholeOrNotAtAll(t *testing.T) {
	set := revocation.NewSet()
	journal := revocation.NewJournal(set)
	f := New(Options{Revocations: set, Journal: journal})
	require.False(t, f.Packed())
	cursor, _ := journal.Begin()
	before := f.View()
	results := resultsOf(f.Apply(&raft.Log{Index: 7, Type: raft.LogCommand, Data: packOf(t, encoded(t,
		CreateAgent{testAgent("a")},
		CreateAgent{testAgent("a")},
		KillAgent{Name: "a"},
		Revoke{Handles: []identity.Handle{"ses_1", "ses_2"}},
		KillAgent{Name: "nobody"},
	)...)}))
	require.Len(t, results, 5)
	var refused []identity.Code
	for _, r := range results {
		require.Equal(t, uint64(7), r.(Result).Index)
		if err := r.(Result).Err; err != nil {
			refused = append(refused, err.Code)
		}
	}
	require.Equal(t, []identity.Code{identity.CodeAlreadyExists, identity.CodeNotFound}, refused, "nobody's refusal is another's")
	require.True(t, f.Packed())
	<-before.superseded
	require.Equal(t, uint64(7), f.Applied())

	read, ok := journal.Read(cursor, 10)
	require.True(t, ok)
	require.Len(t, read.Changes, 1, "who has seen the index has seen all of it")
	require.Equal(t, uint64(7), read.Changes[0].Index)
	require.Len(t, read.Changes[0].Entries, 3)
}

// TestARepetitionWithinAPackIsAnsweredWithTheFirst, as if it had come in an entry of its own.
func TestARepetitionWithinAPackIsAnsweredWithTheFirst(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("a")})
	c := Command{
		ID: CommandID{1}, Time: epoch,
		Body: CreateDelegation{Delegation: testDelegation(1, "ann@x", "a"), EnsurePrincipal: true},
	}
	entry, err := Encode(c)
	require.NoError(t, err)
	results := resultsOf(m.fsm.Apply(&raft.Log{Index: 9, Type: raft.LogCommand, Data: packOf(t, entry, entry)}))
	first, second := results[0].(Result), results[1].(Result)
	require.Nil(t, first.Err)
	require.False(t, first.Replayed)
	require.True(t, second.Replayed)
	require.Equal(t, first.Value, second.Value)
	require.Len(t, m.fsm.View().Delegations(DelegationFilter{}, "", 10), 1)
}

// TestAPackThatCantBeReadChangesNothing: not even by those of its commands that could be.
func TestAPackThatCantBeReadChangesNothing(t *testing.T) {
	entries := encoded(t, CreateAgent{testAgent("a")}, CreateAgent{testAgent("b")})
	good := packOf(t, entries...)
	change := func(at int, to byte) []byte {
		bad := bytes.Clone(good)
		bad[at] = to
		return bad
	}
	newer := envelope(envelopeVersion, 0, 999, &header{})
	for name, bad := range map[string][]byte{
		"cut":                      good[:len(good)-1],
		"cut in its head":          good[:3],
		"cut behind its head":      good[:packHead],
		"with a byte more":         append(bytes.Clone(good), 0),
		"with flags":               change(1, 1),
		"of one":                   change(3, 1),
		"of none":                  change(3, 0),
		"of more than it has":      change(3, 3),
		"a length beyond the end":  change(packHead, 0xff),
		"with an unknown command":  rawPack(entries[0], newer),
		"with a pack":              rawPack(entries[0], good),
		"with a corrupt command":   rawPack(entries[0], entries[1][:20]),
		"with an empty command":    rawPack(entries[0], nil),
		"of more than are allowed": rawPack(slices.Repeat(entries[:1], MaxPacked+1)...),
	} {
		t.Run(name, func(t *testing.T) {
			var halted error
			f := New(Options{Revocations: revocation.NewSet(), Halt: func(err error) { halted = err }})
			f.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: encoded(t, Tick{})[0]})
			r := f.Apply(&raft.Log{Index: 2, Type: raft.LogCommand, Data: bad}).(Result)
			require.Equal(t, identity.CodeInternal, r.Err.Code)
			require.ErrorIs(t, halted, ErrHalted)
			require.Equal(t, uint64(1), f.Applied())
			require.Empty(t, f.View().Agents("", 10))
		})
	}
}

func rawPack(entries ...[]byte) []byte {
	pack := binary.BigEndian.AppendUint16([]byte{packVersion, 0}, uint16(len(entries)))
	for _, e := range entries {
		pack = append(binary.BigEndian.AppendUint32(pack, uint32(len(e))), e...)
	}
	return pack
}

// TestASkippedCommandOfAPackIsSkippedAlone: one that a newer build has marked as ignorable.
func TestASkippedCommandOfAPackIsSkippedAlone(t *testing.T) {
	m := newMachine(t)
	entries := encoded(t, CreateAgent{testAgent("a")}, CreateAgent{testAgent("b")})
	pack := rawPack(entries[0], envelope(envelopeVersion, flagIgnorable, 999, &header{}), entries[1])
	results := resultsOf(m.fsm.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: pack}))
	require.Nil(t, results[0].(Result).Err)
	require.Equal(t, identity.CodeInvalid, results[1].(Result).Err.Code)
	require.Nil(t, results[2].(Result).Err)
	require.Len(t, m.fsm.View().Agents("", 10), 2)
}

// TestWhatPackRefuses: everything that unpack would.
func TestWhatPackRefuses(t *testing.T) {
	entry := encoded(t, Tick{})[0]
	alone, err := Pack([][]byte{entry})
	require.NoError(t, err)
	require.Equal(t, entry, alone, "one command has an entry as it always had")
	for name, bad := range map[string][][]byte{
		"nothing":        nil,
		"too many":       slices.Repeat([][]byte{entry}, MaxPacked+1),
		"a pack":         {entry, packOf(t, entry, entry)},
		"no command":     {entry, nil},
		"too many bytes": {make([]byte, MaxCommandBytes/2), make([]byte, MaxCommandBytes/2)},
	} {
		_, err := Pack(bad)
		require.Error(t, err, name)
	}
}

// TestALongBatchIsShownInParts: a node that catches up does not leave its readers in the past for all of it.
func TestALongBatchIsShownInParts(t *testing.T) {
	m := newMachine(t)
	tick := encoded(t, Tick{})[0]
	pack := packOf(t, slices.Repeat([][]byte{tick}, publishAfter/2)...)
	var entries []*raft.Log
	for i := range uint64(6) {
		entries = append(entries, &raft.Log{Index: i + 1, Type: raft.LogCommand, Data: pack})
	}
	before := m.fsm.View()
	views := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v := before; v.index < 6; v = m.fsm.View() {
			<-v.superseded
			views++
		}
	}()
	m.fsm.ApplyBatch(entries)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the last view was not shown")
	}
	require.Equal(t, uint64(6), m.fsm.Applied())
	require.Zero(t, m.fsm.unpublished)
	require.NotZero(t, views)
}

// TestChangesOfOneObjectDontShareAnEntry, where a client may rely on the revision that it was answered.
func TestChangesOfOneObjectDontShareAnEntry(t *testing.T) {
	objects := map[string][]Type{}
	for _, c := range samples() {
		object, shares := Shares(c.Body)
		if !shares {
			require.Empty(t, object)
			continue
		}
		switch c.Body.(type) {
		case Tick, CreateDelegation, WithdrawDelegation, Revoke, CreateAPIToken, DeleteAPIToken:
			require.Empty(t, object, "%s", c.Body.Type())
		default:
			require.NotEmpty(t, object, "%s", c.Body.Type())
			objects[object] = append(objects[object], c.Body.Type())
		}
	}
	require.Contains(t, objects["agent triage"], TypeUpdateAgent)
	require.Contains(t, objects["agent triage"], TypeAddCredential)
	require.Contains(t, objects["principal ann@x"], TypeKillPrincipal)
	require.Len(t, objects["approvals"], 3)
	_, shares := Shares(Revoke{Handles: []identity.Handle{identity.SessionHandle(testID(identity.PrefixSession, 1)), identity.DelegationHandle(testID(identity.PrefixDelegation, 1))}})
	require.True(t, shares)
	credential := Revoke{Handles: []identity.Handle{identity.CredentialHandle(testID(identity.PrefixCredential, 1))}} // whose row loses it
	for _, alone := range []Body{credential, Batch{}, Purge{}, PutPolicy{}, DeleteAgent{}, AdmitMember{}, PublishKey{}, Import{}} {
		_, shares := Shares(alone)
		require.False(t, shares, "%s", alone.Type())
	}
}

func TestWhatStopsSomethingIsUrgent(t *testing.T) {
	bodies := []Body{DecideApproval{ID: approvalID(1)}, SetAgentStatus{Status: identity.StatusSuspended}}
	for _, c := range samples() {
		bodies = append(bodies, c.Body)
	}
	for _, b := range bodies {
		switch b.(type) {
		case ConsumeApproval, Batch, Import, BeginRestore, EndRestore, OpenMinting, Recover: // by the way
			require.False(t, Urgent(b), "%s", b.Type())
		default:
			if denies(b) {
				require.True(t, Urgent(b), "%s stops something", b.Type())
			}
		}
	}
	require.False(t, Urgent(DecideApproval{ID: approvalID(1), Approve: true}))
	require.False(t, Urgent(CreateDelegation{}))
}

func FuzzUnpack(f *testing.F) {
	entries := encoded(f, Tick{}, CreateAgent{testAgent("a")}, KillAgent{Name: "a"})
	f.Add(packOf(f, entries...))
	f.Add(packOf(f, entries[:2]...))
	f.Add(rawPack(entries[0]))
	f.Add(rawPack(entries[0], packOf(f, entries...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := unpack(data)
		if err == nil {
			size := packHead
			for _, e := range entries {
				size += packedLength + len(e)
			}
			require.Equal(t, len(data), size)
			require.Equal(t, data[packHead:], rawPack(entries...)[packHead:])
		}
		// What is read is written the same way, and whatever it is, applying it does not panic.
		commands, err := readPack(data, new(shared))
		if err == nil && isPack(data) {
			require.Equal(t, data, packOf(t, entries...))
			require.Len(t, commands, len(entries))
		}
		halted := false
		m := New(Options{Revocations: revocation.NewSet(), Halt: func(error) { halted = true }})
		response := m.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: data})
		if results, ok := response.(packed); ok {
			require.Len(t, results, len(entries), fmt.Sprint(halted))
		}
	})
}
