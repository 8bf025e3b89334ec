package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
)

const (
	// tellPause is the least time between two looks at what there is to tell. A person does not notice it.
	tellPause = 100 * time.Millisecond
	// tellAgain is how far back a new leader looks for what the one before it may not have sent. Receivers drop what
	// they have seen, by its id.
	tellAgain = 10 * time.Minute
	// maxWebhookSecret bounds a file with a secret.
	maxWebhookSecret = 4096
)

// openWebhooks makes the sender of events, and tells it of the receivers.
func (s *Server) openWebhooks() (err error) {
	s.webhooks, err = outbound.NewWebhooks(outbound.WebhooksOptions{Sender: s.outbound, Clock: s.clock, Logger: s.logger, Registerer: s.registry})
	if err != nil {
		return fmt.Errorf("outbound: %w", err)
	}
	targets := make([]outbound.Target, len(s.config.Approvals.Webhooks))
	for i, w := range s.config.Approvals.Webhooks {
		targets[i] = outbound.Target{ID: approvalsTarget(i), URL: w.URL}
		for _, file := range []string{w.SecretFile, w.OldSecretFile} {
			if file == "" {
				continue
			}
			secret, err := webhookSecret(file)
			if err != nil {
				return fmt.Errorf("approvals.webhooks/%d: %w", i, err)
			}
			targets[i].Secrets = append(targets[i].Secrets, secret)
		}
	}
	if err := s.webhooks.Configure(targets); err != nil {
		return fmt.Errorf("approvals.webhooks: %w", err)
	}
	return nil
}

func approvalsTarget(i int) string { return fmt.Sprintf("approvals-%d", i) }

// webhookSecret reads a secret from its file, without the line's end.
func webhookSecret(file string) (outbound.Secret, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the secret: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) > maxWebhookSecret {
		return "", fmt.Errorf("the secret in %s has %d bytes; at most %d are allowed", file, len(text), maxWebhookSecret)
	}
	return outbound.Secret(text), nil
}

// tellApprovers has whoever decides hear of what is asked and of what was decided, while this node leads. What was
// committed under another leader it tells again when it takes over, as that one may have been lost before it sent
// anything; the ids of deliveries are made of the approval's, so that receivers know what they have heard.
func (s *Server) tellApprovers(ctx context.Context) error {
	if len(s.config.Approvals.Webhooks) == 0 {
		return nil
	}
	t := teller{enqueue: s.webhooks.Enqueue, targets: len(s.config.Approvals.Webhooks)}
	timer := time.NewTicker(tellPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if !s.node.IsLeader() {
			t.told = nil
			continue
		}
		if err := t.tell(s.fsm.View()); err != nil && !errors.Is(err, outbound.ErrStopped) {
			s.logger.Warn("telling approvers", "error", err)
		}
	}
}

// teller remembers what this node has told since it leads.
type teller struct {
	enqueue func(target string, d outbound.Delivery) error
	targets int
	told    []uint64 // by target: the revision up to which it was told everything; nil: nothing since this node leads
}

// tell queues what is new. Where a queue is full, the rest waits for the next look.
func (t *teller) tell(v *fsm.View) error {
	first := t.told == nil
	if first {
		t.told = make([]uint64, t.targets)
	}
	if slices.Min(t.told) >= v.ApprovalsRevision() {
		return nil
	}
	news := v.Approvals("", identity.MaxApprovals, func(a *identity.Approval) bool {
		return a.Revision > slices.Min(t.told) && a.Status != identity.ApprovalConsumed && v.Time() < a.Expires &&
			(!first || a.Status == identity.ApprovalPending || v.Time() < a.Decided.Add(tellAgain))
	})
	slices.SortFunc(news, func(a, b *identity.Approval) int { return int(a.Revision) - int(b.Revision) })
	var failed error
	for i := range t.told {
		through := v.ApprovalsRevision()
		for _, a := range news {
			if a.Revision <= t.told[i] {
				continue
			}
			if err := t.send(approvalsTarget(i), a, v.Time()); err != nil {
				failed, through = err, max(t.told[i], a.Revision-1)
				break
			}
		}
		t.told[i] = through
	}
	return failed
}

func (t *teller) send(target string, a *identity.Approval, now identity.Instant) error {
	event := wire.ApprovalEvent{Type: wire.EventApprovalRequested, Approval: wire.ShowApproval(a, now)}
	id := a.ID
	if a.Status != identity.ApprovalPending {
		event.Type = wire.EventApprovalDecided
		id += "-" + string(a.Status)
	}
	body, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return t.enqueue(target, outbound.Delivery{ID: id, Body: body, NotAfter: a.Expires.Time()})
}
