package server

import (
	"errors"
	"log/slog"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func TestDiskReserveTellsHowMuchOfItIsLeft(t *testing.T) {
	free := uint64(1000 * mebibyte)
	var broken error
	d := newDiskReserve("/data", 256, func(path string) (uint64, error) {
		require.Equal(t, "/data", path)
		return free, broken
	}, slog.New(slog.DiscardHandler))
	at := func(mib uint64) error {
		free = mib * mebibyte
		return d.look()
	}
	require.NoError(t, at(256))
	require.False(t, d.isLow())
	require.NoError(t, at(255))
	require.True(t, d.isLow())
	require.NoError(t, at(280))
	require.True(t, d.isLow(), "a little room is no reason to begin again")
	require.NoError(t, at(288))
	require.False(t, d.isLow())
	require.NoError(t, at(64))
	require.True(t, d.isLow())

	broken = errors.New("no such file system")
	require.NoError(t, d.look(), "what can't be read is no reason to end")
	require.True(t, d.isLow())
	broken = nil

	err := at(63)
	require.ErrorContains(t, err, "/data has 63 MiB free")
	require.ErrorContains(t, err, "make room")
}

func TestWithoutADiskReserveNothingIsRefused(t *testing.T) {
	d := newDiskReserve("/data", 0, func(string) (uint64, error) { return 0, nil }, slog.New(slog.DiscardHandler))
	require.NoError(t, d.look())
	require.NoError(t, d.admit(fsm.CreateAgent{}))
}

func TestRoomOnTheDiskEndsAtTheReserve(t *testing.T) {
	free, broken := uint64(0), error(nil)
	d := newDiskReserve("/data", 1, func(string) (uint64, error) { return free, broken }, slog.New(slog.DiscardHandler))
	for free, want := range map[uint64]int64{0: 0, mebibyte: 0, mebibyte + 5: 5, math.MaxUint64: math.MaxInt64} {
		d.free.Store(free)
		require.Equal(t, want, d.room())
	}
	broken = errors.New("not known")
	require.NoError(t, d.look())
	require.Equal(t, int64(math.MaxInt64), d.room())
}

// The last of the disk is for what stops something.
func TestNearlyFullDiskTakesOnlyWhatStopsSomething(t *testing.T) {
	d := newDiskReserve("/data", 256, func(string) (uint64, error) { return 100 * mebibyte, nil }, slog.New(slog.DiscardHandler))
	require.NoError(t, d.look())
	for _, body := range []fsm.Body{
		fsm.Revoke{},
		fsm.KillAgent{},
		fsm.KillPrincipal{},
		fsm.WithdrawDelegation{},
		fsm.DeleteAgent{},
		fsm.DeletePrincipal{},
		fsm.DeleteApplication{},
		fsm.DeleteAPIToken{},
		fsm.RemoveCredential{},
		fsm.SetPolicyMode{Mode: identity.PolicyEnforce},
		fsm.Tick{},
		fsm.Purge{},
		fsm.SetAgentStatus{Status: identity.StatusSuspended},
		fsm.SetPrincipalStatus{Status: identity.StatusDeactivated},
		fsm.BarMember{},
		fsm.RemoveMember{},
		fsm.DrainMember{},
		fsm.UpdateMember{},
		fsm.PublishKey{},
		fsm.RetireKey{},
		fsm.RotateKey{},
		fsm.RotateGossip{},
		fsm.Recover{},
		fsm.Batch{Bodies: []fsm.Body{fsm.Revoke{}, fsm.DeleteAgent{}}},
	} {
		require.NoError(t, d.admit(body), "%T", body)
	}
	for _, body := range []fsm.Body{
		fsm.CreateAgent{},
		fsm.UpdateAgent{},
		fsm.CreatePrincipal{},
		fsm.CreateApplication{},
		fsm.CreateDelegation{},
		fsm.AddCredential{},
		fsm.CreateAPIToken{},
		fsm.CreateJoinToken{},
		fsm.AdmitMember{},
		fsm.PutSettings{},
		fsm.SetAgentStatus{Status: identity.StatusActive},
		fsm.SetPrincipalStatus{Status: identity.StatusActive},
		fsm.PutPolicy{},
		fsm.SetPolicyMode{Mode: identity.PolicyOff},
		fsm.DeletePolicy{},
		fsm.BeginRestore{},
		fsm.Import{},
		fsm.EndRestore{},
		fsm.OpenMinting{},
		fsm.Batch{Bodies: []fsm.Body{fsm.Revoke{}, fsm.CreateAgent{}}},
	} {
		err := d.admit(body)
		require.Equal(t, identity.CodeDiskFull, identity.CodeOf(err), "%T", body)
	}
}
