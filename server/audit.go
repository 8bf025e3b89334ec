package server

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/outbound"
)

const (
	// auditPatience is how long an answer waits for its record. A disk that takes longer is as good as none.
	auditPatience = 2 * time.Second
	// auditClose is how long the sinks have, when the node stops, to deliver what they have not yet. The rest they get
	// after the next start.
	auditClose = 3 * time.Second
	// checkpointWait bounds the handing over of a checkpoint to one member.
	checkpointWait = 2 * time.Second
	// checkpointAgain is how often the newest checkpoint is handed over again, to members that were away.
	checkpointAgain = 30 * time.Second
)

// auditTrail is this node's log, and what it does for those of the others.
type auditTrail struct {
	s     *Server
	log   *audit.Log
	forks prometheus.Counter
}

// openAudit opens the log. What it signs, it signs as the node: the public half of that key is in the table of members, so
// anybody can check it, and it stays the same while the key that signs tokens is replaced.
func (s *Server) openAudit() error {
	c := &s.config.Audit
	t := &auditTrail{s: s}
	t.forks = promauto.With(s.registry).NewCounter(prometheus.CounterOpts{
		Name: "deputy_audit_forks_total", Help: "Checkpoints of other nodes that contradict what they signed before: their log was changed or cut off.",
	})
	o := audit.Options{
		Dir: s.config.path("audit"), Node: s.config.NodeID, Signer: s.nodeKey, Sync: audit.SyncBackground, Full: audit.Full(c.Full),
		Patience: auditPatience, SegmentBytes: int64(c.SegmentMiB) * mebibyte,
		RetainAge: time.Duration(c.RetentionDays) * 24 * time.Hour, RetainBytes: int64(c.RetentionMiB) * mebibyte,
		CheckpointEvery: time.Duration(c.CheckpointSeconds) * time.Second, OnCheckpoint: t.tell, PeerKey: t.keyOf,
		Now: s.clock, Logger: s.logger.With("component", "audit"), Registerer: s.registry,
	}
	if c.Sync == string(audit.SyncAlways) {
		o.Sync = audit.SyncAlways
	}
	for i := range c.Sinks {
		sink, err := c.Sinks[i].open(s.outbound)
		if err != nil {
			return fmt.Errorf("audit.sinks/%d: %w", i, err)
		}
		o.Sinks = append(o.Sinks, audit.SinkOptions{Name: c.Sinks[i].Name, Sink: sink, Batch: c.Sinks[i].Batch, FromNow: c.Sinks[i].FromNow})
	}
	var err error
	if t.log, err = audit.Open(o); err != nil {
		return err
	}
	s.audit = t
	s.closers = append(s.closers, t)
	return nil
}

// Close ends the log. It may be called more than once.
func (t *auditTrail) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), auditClose)
	defer cancel()
	return t.log.Close(ctx)
}

// end closes the log while the other nodes can still be told where it ended.
func (t *auditTrail) end() error {
	err := t.Close()
	if last, ok := t.log.Checkpoint(); ok {
		t.tell(last)
	}
	return err
}

// Queue implements api.Auditor. The last of the disk is kept for what stops something: below the reserve nothing else is
// recorded here, and so nothing else is done.
func (t *auditTrail) Queue(ctx context.Context, r *audit.Record) (audit.Ticket, error) {
	if t.s.disk.isLow() {
		switch r.Kind {
		case audit.KindMint, audit.KindExchange, audit.KindIntrospect, audit.KindTool, audit.KindProxy, audit.KindEvaluate, audit.KindRefuse:
			return audit.Ticket{}, errDiskReserve
		}
	}
	return t.log.Queue(ctx, r)
}

var errDiskReserve = errors.New("the disk is nearly full, and what is left is for what stops something: make room on this machine")

// Failing implements api.Auditor.
func (t *auditTrail) Failing() error { return t.log.Failing() }

// keyOf is the key that a member signs its checkpoints with.
func (t *auditTrail) keyOf(node string) (ed25519.PublicKey, bool) {
	m, ok := t.s.fsm.View().Member(node)
	if !ok || len(m.Key) != ed25519.PublicKeySize {
		return nil, false
	}
	return m.Key, true
}

// tell hands a checkpoint to every other member: they are the witnesses of what this log held.
func (t *auditTrail) tell(c audit.Checkpoint) {
	body, err := json.Marshal(c)
	if err != nil {
		t.s.logger.Error("encoding a checkpoint of the audit log", "error", err)
		return
	}
	t.each(context.Background(), checkpointWait, func(ctx context.Context, member string) {
		if member == t.s.config.NodeID {
			return
		}
		if _, err := t.s.node.Call(ctx, member, methodAuditCheckpoint, body); err != nil {
			t.s.logger.Debug("handing a checkpoint of the audit log over", "member", member, "error", err)
		}
	})
}

// run hands the newest checkpoint over again and again.
func (t *auditTrail) run(ctx context.Context) error {
	ticker := time.NewTicker(checkpointAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if newest, ok := t.log.Checkpoint(); ok {
			t.tell(newest)
		}
	}
}

// serveAuditCheckpoint keeps a checkpoint of another member's log. Each can only give its own.
func (s *Server) serveAuditCheckpoint(_ context.Context, from cluster.Member, body []byte) ([]byte, error) {
	var c audit.Checkpoint
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	if c.Node != from.ID {
		return nil, errors.New("a node hands over no checkpoint but its own")
	}
	err := s.audit.log.KeepPeer(c)
	if errors.Is(err, audit.ErrForked) {
		s.audit.forks.Inc()
		s.logger.Error("the audit log of a member was changed or cut off", "member", from.ID, "error", err)
	}
	return nil, err
}

// newWebhookSink makes a sink that posts with the one client that may, signed as all webhooks are.
func newWebhookSink(client *outbound.Client, name, url string, secret outbound.Secret) (audit.Sink, error) {
	if err := client.CheckURL(url); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	target := outbound.Target{ID: name, URL: url, Secrets: []outbound.Secret{secret}}
	return audit.NewWebhookSink(func(ctx context.Context, id string, body []byte) error {
		return client.Deliver(ctx, target, outbound.Delivery{ID: id, Body: body})
	})
}
