package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	snapshotPath = "/api/v1/cluster/snapshot"
	// maxBackup bounds what is read of a backup: far more than a node's memory holds.
	maxBackup = 64 << 30
	// maxBackups bounds those that are taken at a time: each keeps the state as it was from being forgotten.
	maxBackups = 2
	// restoreDeadline bounds a restore. It is there to end one that hangs, not to hurry anybody.
	restoreDeadline = 6 * time.Hour
	// backupPiece is read before the answer begins, so that a refusal is still a refusal.
	backupPiece = 64 << 10
)

func tooLargeBackup() error {
	return identity.Errorf(identity.CodeTooLarge, "the backup is larger than %d bytes", int64(maxBackup))
}

// saveSnapshot streams a backup of this node's state. A node that can't vouch for its state may be all that is left:
// it answers too, with a mark.
func (a *API) saveSnapshot(c *call) error {
	if !a.backups.enter(maxBackups) {
		return identity.Errorf(identity.CodeOverloaded, "%d backups of this node are under way", maxBackups).
			WithHint("wait until one has ended, or ask another node")
	}
	stream, err := a.backUp(c.ctx.Conn(), a.FSM.Backup)
	if err != nil {
		a.backups.leave()
		return err
	}
	c.setIndex(c.view.Index()) // the backup is at least as new
	h := &c.ctx.Response.Header
	h.SetContentType(mediaBinary)
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set(fasthttp.HeaderContentDisposition, fmt.Sprintf("attachment; filename=%q", "deputy-"+strconv.FormatUint(c.view.Index(), 10)+".backup"))
	c.ctx.SetBodyStream(stream, -1)
	return nil
}

// backupStream is a backup on its way to the client. Where it breaks off, so does the connection: the client must
// not take a part for the whole.
type backupStream struct {
	io.Reader
	pipe    *io.PipeReader
	conn    net.Conn
	timeout time.Duration
	ended   func()
}

func (a *API) backUp(conn net.Conn, take func(io.Writer) (fsm.BackupInfo, error)) (*backupStream, error) {
	pipe, w := io.Pipe()
	go func() {
		_, err := take(w)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			a.logger.Error("taking a backup", "error", err)
		}
		_ = w.CloseWithError(err)
	}()
	first := make([]byte, backupPiece)
	n, err := io.ReadAtLeast(pipe, first, 1)
	if err != nil {
		_ = pipe.Close()
		return nil, err
	}
	return &backupStream{
		Reader: io.MultiReader(bytes.NewReader(first[:n]), pipe), pipe: pipe, conn: conn,
		timeout: orDefault(a.Limits.WriteTimeout, defaultWrite), ended: a.backups.leave,
	}, nil
}

// Read gives each piece the time that a whole answer has.
func (s *backupStream) Read(p []byte) (int, error) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.timeout)) // where it fails, so does what is written next
	return s.Reader.Read(p)
}

func (s *backupStream) Close() error {
	s.ended()
	return s.pipe.Close()
}

// restoreSnapshot reads a backup as it arrives. It can't be passed on: only the leader takes it, and others say
// who that is.
func (a *API) restoreSnapshot(c *call) error {
	if err := c.wantMedia(mediaBinary); err != nil {
		return err
	}
	if !a.proposer.IsLeader() {
		return a.notLeader(c.view)
	}
	if !c.ctx.Request.IsBodyStream() {
		return identity.Errorf(identity.CodeInvalid, "the request has no body").WithHint("send the backup, such as with curl --data-binary @FILE")
	}
	size := int64(c.ctx.Request.Header.ContentLength()) // below zero: not told
	if size > maxBackup {
		return tooLargeBackup()
	}
	if !a.restores.enter(1) {
		return identity.Errorf(identity.CodeConflict, "a restore is under way").WithHint("wait until it has ended")
	}
	defer a.restores.leave()
	ctx, cancel := context.WithTimeout(context.Background(), restoreDeadline)
	defer cancel()
	info, err := a.Cluster.Restore(ctx, c.caller.id(), c.ctx.RequestBodyStream(), size)
	if err != nil {
		return err
	}
	c.changed(a.FSM.Applied())
	return c.answer(fasthttp.StatusOK, wire.Restored{
		BackupID: info.SHA256, ClusterID: info.ClusterID, Index: info.Index, TakenAt: info.Time,
		Agents: int64(info.Agents), Principals: int64(info.Principals), Applications: int64(info.Applications),
		Delegations: int64(info.Delegations), Revocations: int64(info.Revocations), APITokens: int64(info.APITokens),
		Policies:      int64(info.Policies),
		MintingClosed: a.FSM.View().Closed(),
	})
}

// notLeader says who has to be asked instead.
func (a *API) notLeader(view *fsm.View) error {
	for _, s := range a.Cluster.Servers() {
		if m, ok := view.Member(s.ID); ok && s.Leader && s.ID != a.NodeID {
			return identity.Errorf(identity.CodeNotLeader, "only the leader takes a backup, and that is %s", s.ID).
				WithHint("ask %s", m.PublicURL)
		}
	}
	return errNoLeader()
}
