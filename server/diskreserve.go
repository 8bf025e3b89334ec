package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	// diskPoll is how often the free space is read: a system call of microseconds, against a disk that may fill at
	// some hundred MB a second.
	diskPoll = 250 * time.Millisecond

	mebibyte = 1 << 20
)

// diskState says how much of the reserve is left.
type diskState int32

const (
	diskAmple    diskState = iota
	diskLow                // below the reserve: ordinary writes are refused
	diskCritical           // below a quarter of it: the process ends
)

// diskReserve keeps the disk from filling up under the log. Raft panics when it can't write its term, and what
// stops something must go through until the end, so the last part of the disk is kept for that: below the reserve
// this node, where it leads, refuses what is no stop, and below a quarter of it the process ends in good order.
type diskReserve struct {
	path    string
	reserve uint64 // bytes; 0: none is kept
	read    func(path string) (uint64, error)
	logger  *slog.Logger

	free    atomic.Uint64 // as last read
	state   atomic.Int32
	unknown atomic.Bool // the last reading went wrong
}

func newDiskReserve(path string, reserveMiB int, read func(string) (uint64, error), logger *slog.Logger) *diskReserve {
	if read == nil {
		read = freeBytes
	}
	return &diskReserve{path: path, reserve: uint64(reserveMiB) * mebibyte, read: read, logger: logger.With("component", "disk")}
}

// openDisk looks at the disk before anything is written to it.
func (s *Server) openDisk(read func(string) (uint64, error)) error {
	reserve := s.config.Disk.ReserveMiB
	if s.dev {
		reserve = 0 // its log is in memory
	}
	s.disk = newDiskReserve(s.config.DataDir, reserve, read, s.logger)
	s.disk.expose(s.registry)
	return s.disk.look()
}

func (d *diskReserve) expose(r prometheus.Registerer) {
	factory := promauto.With(r)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_disk_free_bytes", Help: "Free space of the file system that holds the data folder.",
	}, func() float64 { return float64(d.free.Load()) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_disk_reserve_state",
		Help: "0: there is room; 1: below the reserve, so this node refuses ordinary writes and does not want to lead; 2: below a quarter of it, the process ends.",
	}, func() float64 { return float64(d.state.Load()) })
}

// look reads the free space. The error is for ending the process with.
func (d *diskReserve) look() error {
	free, err := d.read(d.path)
	if err != nil {
		// Better to go on as before than to stop a node whose disk may be fine.
		if d.unknown.CompareAndSwap(false, true) && !errors.Is(err, errors.ErrUnsupported) {
			d.logger.Error("the free disk space is not known", "error", err)
		}
		return nil
	}
	d.unknown.Store(false)
	d.free.Store(free)
	before := diskState(d.state.Load())
	now := d.judge(free, before)
	d.state.Store(int32(now))
	switch {
	case now == diskCritical:
		return fmt.Errorf("%s has %d MiB free, less than a quarter of disk.reserve_mib (%d): the node ends before a write of its log can fail; make room and start it again",
			d.path, free/mebibyte, d.reserve/mebibyte)
	case now == diskLow && before != diskLow:
		d.logger.Error("the disk is nearly full: ordinary writes are refused until there is room", "free_mib", free/mebibyte, "reserve_mib", d.reserve/mebibyte)
	case now == diskAmple && before == diskLow:
		d.logger.Info("the disk has room again", "free_mib", free/mebibyte)
	}
	return nil
}

// judge lets a disk be low until an eighth more than the reserve is free, as refused writes are what frees none.
func (d *diskReserve) judge(free uint64, before diskState) diskState {
	enough := d.reserve
	if before != diskAmple {
		enough += d.reserve / 8
	}
	switch {
	case d.reserve == 0 || free >= enough:
		return diskAmple
	case free < d.reserve/4:
		return diskCritical
	default:
		return diskLow
	}
}

func (d *diskReserve) isLow() bool { return diskState(d.state.Load()) != diskAmple }

// run watches the disk until ctx ends or it is critical.
func (d *diskReserve) run(ctx context.Context) error {
	ticker := time.NewTicker(diskPoll)
	defer ticker.Stop()
	for {
		if err := d.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// admit refuses a command that the disk has no room for.
func (d *diskReserve) admit(b fsm.Body) error {
	if !d.isLow() || isUrgent(b) {
		return nil
	}
	return identity.Errorf(identity.CodeDiskFull, "the leader's disk is nearly full; only what stops or removes something is written").
		WithHint("make room on that machine, or hand leadership to a node with more: deputy cluster transfer-leadership")
}

// isUrgent reports whether a command stops something, makes room, or is one that the cluster lives by. None of
// them is large, and their number is bounded by what there is to stop.
func isUrgent(b fsm.Body) bool {
	switch b := b.(type) {
	case fsm.SetAgentStatus:
		return b.Status != identity.StatusActive
	case fsm.SetPrincipalStatus:
		return b.Status != identity.StatusActive
	case fsm.SetPolicyMode:
		return b.Mode == identity.PolicyEnforce
	case fsm.DecideApproval:
		return !b.Approve
	case fsm.Revoke, fsm.KillAgent, fsm.KillPrincipal, fsm.WithdrawDelegation,
		fsm.DeleteAgent, fsm.DeletePrincipal, fsm.DeleteApplication, fsm.DeleteAPIToken, fsm.RemoveCredential,
		fsm.Tick, fsm.Purge,
		fsm.BarMember, fsm.RemoveMember, fsm.DrainMember, fsm.UpdateMember,
		fsm.PublishKey, fsm.RetireKey, fsm.RotateKey, fsm.RotateGossip, fsm.Recover:
		return true
	case fsm.Batch:
		for _, item := range b.Bodies {
			if !isUrgent(item) {
				return false
			}
		}
		return true
	}
	return false
}
